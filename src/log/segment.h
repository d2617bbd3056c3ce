/*
 * segment.h
 *		The log's partitions by position.
 */
#ifndef ES_LOG_SEGMENT_H
#define ES_LOG_SEGMENT_H

#include "base/base.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "storage/buf.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "base/objects.h"
#include "table/columns.h"
#include "table/pages.h"
#include "table/table.h"

/* The indexes that each segment has. */
typedef enum EsSegmentIndex
{
	ES_INDEX_POSITION,			/* unique (position) */
	ES_INDEX_STREAM,			/* unique (stream_id, version) */
	ES_INDEX_CATEGORY,			/* (category_key, position) WHERE run_length >
								 * 0 */
	ES_INDEX_EVENT_ID,			/* unique (stream_id, event_id) WHERE id_given */
	ES_INDEX_COUNT
} EsSegmentIndex;

/* Columns of eventstore.segments. */
#define Anum_es_segments_segment		1
#define Anum_es_segments_first_position	2
#define Anum_es_segments_last_position	3
#define Anum_es_segments_sealed			4
#define Anum_es_segments_events			5
#define Natts_es_segments				5

extern EsRelation es_segment_table; /* eventstore.segments */
extern EsRelation es_segment_pkey;
extern const EsShape es_segment_shape;	/* its columns */
extern const EsShape es_segment_config_shape;	/* eventstore.config */
extern const EsShape es_segment_event_shape;	/* those of the segments */

extern void es_segment_init(void);
extern int64 es_segment_of(int64 position);
extern int64 es_segment_first_position(int64 segment);
extern int64 es_segment_last_position(int64 segment);
extern int64 es_segment_newest(void);
extern int64 es_segment_newest_reaching(int64 position);
extern int64 es_segment_sealed_upto(void);
extern Oid	es_segment_relid(int64 segment);
extern Relation es_segment_open(int64 segment, LOCKMODE mode, bool *lost);
extern void es_segment_refuse_lost(int64 segment);
extern Oid	es_segment_index(int64 segment, EsSegmentIndex which);

/* An index scan of one segment: what to scan, then the scan itself. */
typedef struct EsSegmentScan
{
	EsSegmentIndex which;
	Snapshot	snapshot;		/* 40001 if the segment was rewritten since */
	Snapshot   *fresh;			/* NULL, or where the caller has it: it is one
								 * that is renewed then */
	EsTable    *open;			/* a segment that is open for writing, used if
								 * it is the one to scan; or NULL */
	bool		needed;			/* a segment that is lost is an error */
	bool		own_slot;		/* other scans may run on the segment
								 * meanwhile */
	bool		index_only;		/* es_segment_scan_skip will be used */
	bool		gives_out;		/* events outlive the scan as they are stored */
	bool		backwards;		/* rows are read in that direction */
	bool		without_metadata;	/* of events */
	EsPages    *pages;			/* for scans that come back to the same pages,
								 * forwards; or NULL */
	bool		wants_keys;		/* of the index, see es_segment_scan_key */
	int			nkeys;
	ScanKeyData keys[3];

	bool		lost;			/* there was a segment, but it is gone */
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	Buffer		visibility;		/* of the visibility map; index_only */
	bool		borrowed;		/* rel and index are those of open */
	bool		keep_lock;		/* to the end of the transaction */
	BlockNumber block;			/* whose rows are on their way into the cache */
	bool		by_pages;		/* rows are read from these: */
	HeapTupleData row;
} EsSegmentScan;

extern bool es_segment_scan_begin(EsSegmentScan *scan, int64 segment);
extern bool es_segment_scan_fetch(EsSegmentScan *scan);
extern int64 es_segment_scan_key(EsSegmentScan *scan, int column);
extern void es_segment_scan_event(EsSegmentScan *scan, EsEvent *event);
extern void es_segment_scan_give_out(EsSegmentScan *scan, const EsEvent *event);
extern bool es_segment_scan_skip(EsSegmentScan *scan);
extern void es_segment_scan_end(EsSegmentScan *scan);
extern Datum es_segment_scan_edge(EsSegmentScan *scan, int64 segment, ScanDirection direction,
								  AttrNumber column, bool *isnull);

extern Datum es_segment_edge_version(EsSegmentScan scan, int64 segment, int64 stream_id,
									 ScanDirection direction, bool *isnull);
extern int64 es_segment_count(int64 segment, Snapshot snapshot);

#endif							/* ES_LOG_SEGMENT_H */
