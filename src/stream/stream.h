/*
 * stream.h
 *		Streams: their rows, and the tip that appends go on from.
 */
#ifndef ES_STREAM_STREAM_H
#define ES_STREAM_STREAM_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "table/columns.h"
#include "table/table.h"

#define Anum_es_streams_stream_id			1
#define Anum_es_streams_first_segment		2
#define Anum_es_streams_last_segment		3
#define Anum_es_streams_truncated_before	4
#define Anum_es_streams_created_at			5
#define Anum_es_streams_truncated_at		6
#define Anum_es_streams_category_key		7
#define Anum_es_streams_deleted				8
#define Anum_es_streams_has_hidden			9
#define Anum_es_streams_name				10
#define Natts_es_streams					10

/* One row of eventstore.streams. */
typedef struct EsStream
{
	int64		id;
	int64		first_segment;
	int64		last_segment;
	int64		truncated_before;	/* versions below are hidden */
	TimestampTz created_at;
	TimestampTz truncated_at;	/* when its tip was recorded by then */
	int32		category_key;
	bool		deleted;
	bool		has_hidden;		/* hidden events may still be there */
	const text *name;
	ItemPointerData tid;
	TransactionId writer;		/* of the row as it was read */
} EsStream;

/* The newest event of a stream. */
typedef struct EsTip
{
	int64		version;		/* 0: none */
	TimestampTz recorded_at;	/* see es_stream_find_tip */
	BlockNumber leaf;			/* where its entry was, or that of a tip
								 * before it in the same segment; 0: not known */
} EsTip;

extern const EsShape es_stream_shape;	/* of eventstore.streams */

extern bool es_stream_find(const text *name, Snapshot *snapshot, bool fresh, EsStream *stream);
extern bool es_stream_find_by_id(int64 id, Snapshot *snapshot, bool fresh, EsStream *stream);
extern void es_stream_deform(TupleTableSlot *slot, EsStream *stream);
extern bool es_stream_find_newest(const text *name, EsStream *stream, TransactionId *in_progress);
extern void es_stream_create(EsStream *stream);
extern void es_stream_update(EsStream *stream);
extern bool es_stream_find_tip(const EsStream *stream, EsTable *open, TimestampTz by, EsTip *tip,
							   TransactionId *in_progress);
extern void es_stream_note_tip(EsStream *stream, const EsTip *tip, const EsTable *segment);
extern int64 es_stream_find_event_id(const EsStream *stream, const pg_uuid_t *id,
									 int64 *position, TransactionId *in_progress);

#endif							/* ES_STREAM_STREAM_H */
