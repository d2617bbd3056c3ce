/*
 * read.h
 *		Reading the log: one stream, one category, or everything.
 */
#ifndef ES_READ_H
#define ES_READ_H

#include "base.h"

typedef struct EsStreamScan EsStreamScan;

/*
 * What a stream scan starts from.  stream_id of a known stream, or 0 to look
 * the name up.
 */
typedef struct EsStreamScanOptions
{
	const text *stream;			/* name; not read if stream_id is set */
	int64		stream_id;
	int64		from_version;	/* 0: from the first (backwards: the last) */
	bool		backwards;
	bool		gives_out;		/* events outlive the scan as they are stored */
} EsStreamScanOptions;

/*
 * Scans one stream in order of version, as it is now: everything committed,
 * and this transaction's own appends.  Begin, next and end are to be called
 * with the same resource owner; the scan lives in the memory context that was
 * current at begin.  A stream without events, or deleted, gives no rows.
 */
extern EsStreamScan *es_read_stream_begin(const EsStreamScanOptions *options);
extern bool es_read_stream_next(EsStreamScan *scan, EsEvent *event);
extern void es_read_stream_end(EsStreamScan *scan);

/*
 * Calls back for each stream of a category, in order of creation, with its
 * name and id.  What the callback keeps it must copy.
 */
typedef void (*EsStreamCallback) (const text *stream, int64 stream_id, void *arg);
extern void es_read_category_streams(const text *category, EsStreamCallback callback, void *arg);

#endif							/* ES_READ_H */
