/*
 * scan.h
 *		Scans of one segment, by one of its indexes.
 */
#ifndef ES_LOG_SCAN_H
#define ES_LOG_SCAN_H

#include "base/base.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "log/segment.h"
#include "table/pages.h"
#include "table/table.h"
#include "table/walk.h"

/* What scans have begun, for EXPLAIN. */
typedef struct EsScanCounts
{
	int64		segments;		/* each as often as scans have come to it */
	int64		now;			/* the last of them; meaningless at first */
	uint32		indexes;		/* bits by EsSegmentIndex; one more: those of
								 * types */
} EsScanCounts;

/* An index scan of one segment: what to scan, then the scan itself. */
typedef struct EsSegmentScan
{
	EsSegmentIndex which;
	const text *type;			/* or its index of the events of a type */
	Snapshot	snapshot;		/* 40001 if the segment was rewritten since */
	Snapshot   *fresh;			/* NULL, or where the caller has it: it is one
								 * that is renewed then */
	EsTable    *open;			/* a segment that is open for writing, used if
								 * it is the one to scan; or NULL */
	bool		needed;			/* a segment that is lost is an error */
	bool		tells;			/* an edge that it finds will be returned */
	bool		own_slot;		/* other scans may run on the segment
								 * meanwhile */
	bool		index_only;		/* rows are read only where they must be */
	bool		gives_out;		/* events outlive the scan as they are stored */
	bool		backwards;		/* rows are read in that direction */
	bool		without_metadata;	/* of events */
	bool		without_data;	/* they are there, but are not looked at */
	bool		by_page;		/* as many rows of a page are wanted as there
								 * are, in either direction */
	EsPages    *pages;			/* for scans that come back to the same pages,
								 * forwards; or NULL */
	bool		wants_keys;		/* of the index, see es_scan_key */
	EsScanCounts *counts;		/* or NULL */
	int			nkeys;
	ScanKeyData keys[3];

	bool		lost;			/* there was a segment, but it is gone */
	bool		unindexed;		/* the segment has no index of the type */
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;			/* NULL: it is a walk */
	EsWalk	   *walk;
	TupleTableSlot *slot;
	Buffer		visibility;		/* of the visibility map; index_only */
	bool		borrowed;		/* rel and index are those of open */
	bool		keep_lock;		/* to the end of the transaction */
	BlockNumber block;			/* whose rows are on their way into the cache */
	bool		by_pages;		/* rows are read from these, */
	bool		own_pages;		/* which are the scan's own: */
	HeapTupleData row;
} EsSegmentScan;

extern bool es_scan_begin(EsSegmentScan *scan, int64 segment);
extern bool es_scan_next(EsSegmentScan *scan, ScanDirection direction);
extern int64 es_scan_next_entry(EsSegmentScan *scan);
extern bool es_scan_fetch(EsSegmentScan *scan);
extern void es_scan_again(EsSegmentScan *scan);
extern bool es_scan_fetch_moved(EsSegmentScan *scan, int64 segment, int64 position);
extern bool es_scan_next_known(EsSegmentScan *scan, ScanDirection direction, bool *known);
extern bool es_scan_next_doubtful(EsSegmentScan *scan);
extern int64 es_scan_key(EsSegmentScan *scan, int column);
extern void es_scan_event(EsSegmentScan *scan, EsEvent *event);
extern void es_scan_give_out(EsSegmentScan *scan, const EsEvent *event);
extern void es_scan_end(EsSegmentScan *scan);
extern Datum es_scan_edge(EsSegmentScan *scan, int64 segment, ScanDirection direction,
						  AttrNumber column, bool *isnull);
extern void es_scan_stream(EsSegmentScan *scan, int64 stream_id);
extern Datum es_scan_edge_version(EsSegmentScan scan, int64 segment, int64 stream_id,
								  ScanDirection direction, bool *isnull);
extern int64 es_scan_last_position(int64 upto);
extern int64 es_scan_count(int64 segment, Snapshot snapshot);
extern bool es_scan_latest_at(int64 segment, TimestampTz *latest_at);

#endif							/* ES_LOG_SCAN_H */
