/*
 * read.h
 *		Reading one stream.
 */
#ifndef ES_READ_READ_H
#define ES_READ_READ_H

#include "base/base.h"

#include "portability/instr_time.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "log/scan.h"
#include "stream/stream.h"

typedef struct EsStreamScan EsStreamScan;

/* What of one stream is asked for. */
typedef struct EsStreamRange
{
	const text *stream;
	int64		from_version;	/* 0: from its first; backwards: its last */
	int64		max_count;
	bool		backwards;
} EsStreamRange;

/* What a stream scan starts from. */
typedef struct EsStreamScanOptions
{
	const text *stream;			/* its name; NULL: es_read_stream_take will
								 * give streams, in order of id */
	int64		from_version;	/* 0: from the first (backwards: the last) */
	int64		first_version;	/* which a read could begin with that this one
								 * goes on: what this transaction has hidden
								 * since is read; 0: it goes on none */
	bool		backwards;
	bool		gives_out;		/* events outlive the scan as they are stored */
	bool		without_metadata;	/* of events */
	bool		without_data;	/* it is there, but is not looked at */
	Snapshot	snapshot;		/* registered; NULL: a fresh one */
	EsScanCounts *counts;		/* or NULL */
} EsStreamScanOptions;

/*
 * Scans one stream in order of version, as it is now: everything committed,
 * and this transaction's own appends.  Begin, next and end are to be called
 * with the same resource owner; the scan lives in the memory context that was
 * current at begin.  A stream without events, or deleted, gives no rows.  Where
 * it needs an event of a segment that is lost, 55000: also if that is the first one, of
 * which the segments that are there do not tell whether it is.
 */
extern EsStreamScan *es_read_stream_begin(const EsStreamScanOptions *options);
extern const EsStream *es_read_stream_of(const EsStreamScan *scan);
extern bool es_read_stream_is_hidden(const EsStreamScan *scan);
extern Snapshot es_read_stream_snapshot(const EsStreamScan *scan);
extern void es_read_stream_take(EsStreamScan *scan, const EsStream *stream);
extern void es_read_stream_seek(EsStreamScan *scan, int64 version);
extern void es_read_stream_limit(EsStreamScan *scan, int64 version);
extern bool es_read_stream_next(EsStreamScan *scan, EsEvent *event);
extern int64 es_read_stream_last(const EsStreamScan *scan);
extern void es_read_stream_end(EsStreamScan *scan);
ES_NORETURN extern void es_read_report_hidden(const text *stream, bool deleted);

extern Datum es_read(PG_FUNCTION_ARGS);
extern void es_read_arguments(FunctionCallInfo fcinfo, EsStreamRange *range);

extern void es_read_count(FunctionCallInfo fcinfo, const instr_time *start);

#endif							/* ES_READ_READ_H */
