/*
 * segment.h
 *		The log's partitions by position.
 */
#ifndef ES_LOG_SEGMENT_H
#define ES_LOG_SEGMENT_H

#include "base/base.h"

#include "utils/relcache.h"

#include "base/objects.h"
#include "table/columns.h"
#include "table/table.h"

/* The indexes that each segment has. */
typedef enum EsSegmentIndex
{
	ES_INDEX_POSITION,			/* unique (position) */
	ES_INDEX_STREAM,			/* unique (stream_id, version) */
	ES_INDEX_CATEGORY,			/* (category_key, position) WHERE run_length >
								 * 0 */
	ES_INDEX_EVENT_ID,			/* unique (stream_id, event_id) WHERE id_given */
	ES_INDEX_TAG,				/* (metadata, position) USING eventstore_tags */
	ES_INDEX_COUNT
} EsSegmentIndex;

/* Columns of eventstore.segments. */
#define Anum_es_segments_segment		1
#define Anum_es_segments_first_position	2
#define Anum_es_segments_last_position	3
#define Anum_es_segments_sealed			4
#define Anum_es_segments_emptied		5
#define Anum_es_segments_events			6
#define Natts_es_segments				6

/* What the objsubid of lock tags on eventstore.segments says; object 0. */
#define ES_SEGMENT_TAG_SEALER	1
#define ES_SEGMENT_TAG_NEED		2
#define ES_SEGMENT_TAG_TIMING	3

/* What is to be noted of a segment. */
typedef struct EsSegmentNote
{
	bool		sealed;			/* it is from now on; else as it was */
	bool		emptied;		/* the same */
	int64		events;			/* that it has; -1: not counted */
} EsSegmentNote;

extern EsRelation es_segment_table; /* eventstore.segments */
extern const EsShape es_segment_shape;	/* its columns */
extern const EsShape es_segment_config_shape;	/* eventstore.config */
extern const EsShape es_segment_event_shape;	/* those of the segments */

/* What the names of a segment's indexes have after that of its table. */
extern const char *const es_segment_index_names[ES_INDEX_COUNT];

extern void es_segment_init(void);
extern int64 es_segment_of(int64 position);
extern int64 es_segment_first_position(int64 segment);
extern int64 es_segment_last_position(int64 segment);
extern bool es_segment_is(int64 segment, const EsTable *open);
extern int64 es_segment_newest(void);
extern int64 es_segment_newest_reaching(int64 position);
extern int64 es_segment_sealed_upto(void);
extern char *es_segment_name(int64 segment);
extern char *es_segment_index_statement(int64 segment, EsSegmentIndex which);
extern Oid	es_segment_relid(int64 segment);
extern Relation es_segment_open(int64 segment, LOCKMODE mode, bool *lost);
extern void es_segment_note(int64 segment, const EsSegmentNote *note);
extern bool es_segment_is_lost(int64 segment);
extern void es_segment_refuse_lost(int64 segment);
extern Oid	es_segment_index(int64 segment, EsSegmentIndex which);
extern Oid	es_segment_usable_index(int64 segment, Oid table, EsSegmentIndex which);
extern char *es_segment_type_index_name(int64 segment, const text *type);
extern char *es_segment_type_index_statement(int64 segment, const text *type, bool concurrently);
extern Oid	es_segment_type_index(int64 segment, Relation rel, const text *type);

#endif							/* ES_LOG_SEGMENT_H */
