/*
 * scan.c
 *		Scans of one segment, by one of its indexes.
 *
 * A scan locks the segment and the index while it is open, not to the end of
 * the transaction: one that reads thousands of segments would fill the lock
 * table.  That is safe because whoever comes back finds the segment anew, and
 * writers have locks of their own.  Only values that are stored out of line
 * need the segment's TOAST table for as long as somebody may look at them; a
 * scan that has given out any keeps the lock on its table.
 */
#include "log/scan.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "log/durable.h"
#include "rights/right.h"
#include "table/prefetch.h"
#include "table/rows.h"

#define BYTES_BEFORE_DATA	192 /* of an event, mostly */

PG_FUNCTION_INFO_V1(es_segment_events);
PG_FUNCTION_INFO_V1(es_segment_time);
PG_FUNCTION_INFO_V1(es_segment_version);

/*
 * Opens the segment and the index that a scan is about; false if the log has no such
 * segment, or the segment no index of the type.
 */
static bool
open_segment_to_scan(EsSegmentScan *scan, int64 segment)
{
	Oid			index;

	scan->lost = false;
	scan->borrowed = es_segment_is(segment, scan->open) &&
		(scan->index = es_table_index(scan->open, es_segment_index(segment, scan->which))) != NULL;
	if (scan->borrowed)
	{
		scan->rel = scan->open->rel;
		return true;
	}
	scan->rel = es_segment_open(segment, AccessShareLock, &scan->lost);
	if (scan->rel == NULL)
		return false;
	index = scan->type ? es_segment_type_index(segment, scan->rel, scan->type) : es_segment_index(segment, scan->which);
	scan->unindexed = !OidIsValid(index);
	if (scan->unindexed)
	{
		table_close(scan->rel, AccessShareLock);
		return false;
	}
	scan->index = index_open(index, AccessShareLock);
	return true;
}

/* Counts a scan that begins. */
static void
count_segment(const EsSegmentScan *scan, int64 segment)
{
	EsScanCounts *counts = scan->counts;

	if (counts->segments == 0 || counts->now != segment)
		counts->segments++;
	counts->now = segment;
	counts->indexes |= 1 << (scan->type ? ES_INDEX_COUNT : scan->which);
}

/* Begins to go through the index. */
static void
begin_index_scan(EsSegmentScan *scan)
{
	scan->scan = NULL;
	scan->walk = scan->by_pages && !scan->backwards ?
		es_walk_begin(scan->rel, scan->index, scan->pages, scan->snapshot, scan->keys, scan->nkeys) : NULL;
	if (scan->walk != NULL)
		return;
	scan->scan = es_index_beginscan(scan->rel, scan->index, scan->snapshot, scan->nkeys);
	/* keeps index pages pinned, which makes the visibility map's word good */
	scan->scan->xs_want_itup = scan->index_only || scan->wants_keys;
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
}

/*
 * es_scan_begin opens the index of a segment that the scan asks for,
 * with its keys; false if the log has no such segment.  If it had one, 55000
 * where the scan needs it, else scan->lost tells so.  False also if the segment has
 * no index of the type that is asked for, as scan->unindexed tells.
 */
bool
es_scan_begin(EsSegmentScan *scan, int64 segment)
{
	if (!open_segment_to_scan(scan, segment))
	{
		if (scan->lost && scan->needed)
			es_segment_refuse_lost(segment);
		return false;
	}
	if (scan->fresh)
	{
		es_rows_renew_snapshot(scan->rel, scan->fresh);
		scan->snapshot = *scan->fresh;
	}
	else
		es_rows_require_sight(scan->rel, scan->snapshot);
	scan->by_pages = (scan->pages != NULL || scan->by_page) && es_pages_serve(scan->rel, scan->snapshot);
	scan->own_pages = scan->by_pages && scan->pages == NULL;
	if (scan->own_pages)
		scan->pages = es_pages_begin(scan->snapshot, false, scan->without_data ? BYTES_BEFORE_DATA : ES_PREFETCH_ALL);
	if (scan->by_pages)
		scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(scan->rel), &TTSOpsHeapTuple);
	else if (scan->own_slot)
		scan->slot = table_slot_create(scan->rel, NULL);
	else if (scan->borrowed)
		scan->slot = scan->open->info->scan_slot;
	else
		scan->slot = es_table_scan_slot(scan->rel, &es_segment_event_shape);
	if (scan->counts)
		count_segment(scan, segment);
	scan->visibility = InvalidBuffer;
	scan->keep_lock = false;
	scan->block = InvalidBlockNumber;
	begin_index_scan(scan);
	return true;
}

/*
 * Has the slot of a scan by pages show the row that has been read.  Once it shows the scan's
 * row, it only has to forget which columns it knows of the one before.
 */
static inline void
put_row_into_slot(EsSegmentScan *scan)
{
	HeapTupleTableSlot *slot = (HeapTupleTableSlot *) scan->slot;

	if (unlikely(TTS_EMPTY(scan->slot) || TTS_SHOULDFREE(scan->slot) || slot->tuple != &scan->row))
	{
		ExecStoreHeapTuple(&scan->row, scan->slot, false);
		return;
	}
	scan->slot->tts_nvalid = 0;
	scan->slot->tts_tid = scan->row.t_self;
	slot->off = 0;
}

/*
 * es_scan_next_entry moves a scan that comes back to pages to the next entry and gives its first
 * key; PG_INT64_MAX after the last.
 */
int64
es_scan_next_entry(EsSegmentScan *scan)
{
	int64		key;

	if (likely(scan->walk != NULL))
		return es_walk_next_entry(scan->walk, &key) ? key : PG_INT64_MAX;
	return index_getnext_tid(scan->scan, ForwardScanDirection) != NULL ? es_scan_key(scan, 1) : PG_INT64_MAX;
}

/* es_scan_again has a scan that comes back to pages begin again, by as many keys as before. */
void
es_scan_again(EsSegmentScan *scan)
{
	if (scan->walk != NULL)
	{
		es_walk_restart(scan->walk, scan->keys, scan->nkeys);
		return;
	}
	Assert(scan->scan->numberOfKeys == scan->nkeys);
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
}

/* Reads the row of the entry that an index scan by pages has come to. */
static bool
fetch_by_pages(EsSegmentScan *scan)
{
	IndexScanDesc entries = scan->scan;
	bool		all_dead;
	bool		found = es_pages_fetch(scan->pages, scan->rel, &entries->xs_heaptid, &scan->row, &all_dead);

	if (!entries->xactStartedInRecovery)
		entries->kill_prior_tuple = all_dead;
	if (found)
		pgstat_count_heap_fetch(scan->index);
	return found;
}

/*
 * es_scan_fetch reads the row of the entry that a scan has come to; false if the snapshot does not
 * see it.
 */
bool
es_scan_fetch(EsSegmentScan *scan)
{
	bool		found;

	if (!scan->by_pages)
		return index_fetch_heap(scan->scan, scan->slot);
	found = scan->walk ? es_walk_fetch_entry(scan->walk, &scan->row) : fetch_by_pages(scan);
	if (found)
		put_row_into_slot(scan);
	return found;
}

/* Walks on to the next row that the snapshot sees; false at the end. */
static inline bool
walk_to_next_row(EsSegmentScan *scan)
{
	HeapTuple	row = es_walk_next(scan->walk);

	if (unlikely(row == NULL))
		return false;
	scan->row = *row;
	put_row_into_slot(scan);
	return true;
}

/* es_scan_next moves to the next row that the snapshot sees, in a direction; false at the end. */
bool
es_scan_next(EsSegmentScan *scan, ScanDirection direction)
{
	if (scan->walk != NULL)
		return walk_to_next_row(scan);
	if (!scan->by_pages)
		return index_getnext_slot(scan->scan, direction, scan->slot);
	while (index_getnext_tid(scan->scan, direction) != NULL)
		if (es_scan_fetch(scan))
			return true;
	return false;
}

/*
 * es_scan_fetch_moved reads the event at a position of a segment, by the scan's snapshot
 * and into its slot, after it was not where an entry has led to; false if it is nowhere.
 * Scavenging moves events (lifecycle/remove.c), and an index has entries of both
 * places then, until it is vacuumed.
 */
bool
es_scan_fetch_moved(EsSegmentScan *scan, int64 segment, int64 position)
{
	EsSegmentScan probe = {.which = ES_INDEX_POSITION,.snapshot = scan->snapshot,.own_slot = true,.nkeys = 1};
	ItemPointer tid;
	bool		found = false;

	ScanKeyInit(&probe.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(position));
	if (!es_scan_begin(&probe, segment))
		return false;
	while (!found && (tid = index_getnext_tid(probe.scan, ForwardScanDirection)) != NULL)
		found = table_tuple_fetch_row_version(scan->rel, tid, scan->snapshot, scan->slot);
	es_scan_end(&probe);
	return found;
}

/*
 * es_scan_key gives a key, a bigint, of the entry that a scan has come to which wants them, or is
 * index_only.
 */
int64
es_scan_key(EsSegmentScan *scan, int column)
{
	bool		isnull;

	return DatumGetInt64(index_getattr(scan->scan->xs_itup, column, scan->scan->xs_itupdesc, &isnull));
}

/* Tells whether a stored value, or a part of it, is in the TOAST table. */
static inline bool
is_out_of_line(Datum value)
{
	return VARATT_IS_EXTERNAL(DatumGetPointer(value));
}

/*
 * es_scan_event reads the event that the scan stands on.  Its varlenas
 * are those of the slot; if they are given out, what is out of line stays
 * readable to the end of the transaction.
 */
void
es_scan_event(EsSegmentScan *scan, EsEvent *event)
{
	if (!scan->by_pages || unlikely(!es_event_take(&scan->row, event, !scan->without_metadata)))
	{
		if (!scan->backwards && !scan->by_pages)
			es_prefetch_block(scan->scan, scan->slot, &scan->block);
		es_event_deform(scan->slot, event, !scan->without_metadata);
	}
	if (scan->gives_out)
		es_scan_give_out(scan, event);
}

/*
 * es_scan_give_out sees to it that an event stays readable to the end of the
 * transaction that a scan has read.
 */
void
es_scan_give_out(EsSegmentScan *scan, const EsEvent *event)
{
	if ((!scan->without_data && is_out_of_line(event->data)) || (event->metadata && is_out_of_line(event->metadata)))
		scan->keep_lock = true;
}

/*
 * es_scan_next_known goes to the next entry, in a direction, of a scan that is index_only;
 * *known becomes whether the visibility map says that all see its row.  False at the end.
 */
bool
es_scan_next_known(EsSegmentScan *scan, ScanDirection direction, bool *known)
{
	ItemPointer tid = index_getnext_tid(scan->scan, direction);

	CHECK_FOR_INTERRUPTS();
	if (tid == NULL)
		return false;
	*known = VM_ALL_VISIBLE(scan->rel, ItemPointerGetBlockNumber(tid), &scan->visibility);
	return true;
}

/*
 * Goes past the next row that the snapshot sees, without
 * reading it where the visibility map says that all see it; false at the end.
 */
static bool
skip_seen_row(EsSegmentScan *scan)
{
	bool		known;

	while (es_scan_next_known(scan, ForwardScanDirection, &known))
		if (known || index_fetch_heap(scan->scan, scan->slot))
			return true;
	return false;
}

/*
 * es_scan_next_doubtful reads the next row that the snapshot sees, of a scan that is
 * index_only, and that is not known to be seen by all; false at the end.
 */
bool
es_scan_next_doubtful(EsSegmentScan *scan)
{
	bool		known;

	while (es_scan_next_known(scan, ForwardScanDirection, &known))
		if (!known && index_fetch_heap(scan->scan, scan->slot))
			return true;
	return false;
}

/* es_scan_end closes the scan, and gives the locks back if it may. */
void
es_scan_end(EsSegmentScan *scan)
{
	if (scan->walk != NULL)
		pfree(scan->walk);
	else
		index_endscan(scan->scan);
	if (BufferIsValid(scan->visibility))
		ReleaseBuffer(scan->visibility);
	if (scan->by_pages)
		es_pages_forget(scan->pages, scan->rel);
	if (scan->own_pages)
	{
		es_pages_end(scan->pages);
		scan->pages = NULL;
	}
	if (scan->own_slot)
		ExecDropSingleTupleTableSlot(scan->slot);
	else
		ExecClearTuple(scan->slot);
	if (scan->borrowed)
		return;
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, scan->keep_lock ? NoLock : AccessShareLock);
}

/*
 * es_scan_edge gives a column, of fixed width, of the first row that a
 * scan of a segment finds in a direction; NULL, and 0, if there is none.
 */
Datum
es_scan_edge(EsSegmentScan *scan, int64 segment, ScanDirection direction, AttrNumber column, bool *isnull)
{
	Datum		value = (Datum) 0;

	*isnull = true;
	if (es_scan_begin(scan, segment))
	{
		if (index_getnext_slot(scan->scan, direction, scan->slot))
		{
			value = slot_getattr(scan->slot, column, isnull);
			if (scan->tells)
				es_durable_note_row(scan->slot);
		}
		es_scan_end(scan);
	}
	return value;
}

/* es_scan_stream has a scan look for a stream's rows in segments, by versions. */
void
es_scan_stream(EsSegmentScan *scan, int64 stream_id)
{
	scan->which = ES_INDEX_STREAM;
	scan->own_slot = true;
	scan->nkeys = 1;
	ScanKeyInit(&scan->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_id));
}

/*
 * es_scan_edge_version gives a stream's first or last version in a segment, by the
 * direction; NULL, and 0, if it has none there.  The scan says whose eyes look.
 */
Datum
es_scan_edge_version(EsSegmentScan scan, int64 segment, int64 stream_id, ScanDirection direction, bool *isnull)
{
	es_scan_stream(&scan, stream_id);
	return es_scan_edge(&scan, segment, direction, Anum_es_events_version, isnull);
}

/*
 * es_scan_last_position gives the position of the last event of the segment that a position is in,
 * or of those before it; 0 if there is none.
 */
int64
es_scan_last_position(int64 upto)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int64		newest = es_segment_newest_reaching(upto);
	int64		segment = upto < 1 ? -1 : es_segment_of(upto);
	int64		last = 0;

	for (int64 n = Min(segment, newest); n >= 0 && last == 0; n--)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true};
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		last = DatumGetInt64(es_scan_edge(&scan, n, BackwardScanDirection, Anum_es_events_position, &isnull));
	}
	UnregisterSnapshot(snapshot);
	return last;
}

/* ---- what a segment holds ---- */

/*
 * es_scan_count counts the events of a segment that a snapshot, NULL: a fresh one,
 * sees; -1 if the segment is missing.
 */
int64
es_scan_count(int64 segment, Snapshot snapshot)
{
	Snapshot	own = snapshot ? NULL : es_rows_fresh_snapshot();
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = snapshot,.fresh = own ? &own : NULL,
	.own_slot = true,.index_only = true};
	int64		count = -1;

	if (es_scan_begin(&scan, segment))
	{
		for (count = 0; skip_seen_row(&scan);)
			count++;
		es_scan_end(&scan);
	}
	if (own)
		UnregisterSnapshot(own);
	return count;
}

/*
 * es_scan_latest_at tells when the last of a segment's events was recorded, of those that a fresh
 * snapshot sees, and reads all of it for that; DT_NOBEGIN if there is none.  False if the segment
 * is missing; else it stays in the log to the end of the transaction.
 */
bool
es_scan_latest_at(int64 segment, TimestampTz *latest_at)
{
	bool		lost;
	Relation	rel = es_segment_open(segment, AccessShareLock, &lost);
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;

	*latest_at = DT_NOBEGIN;
	if (rel == NULL)
		return false;
	snapshot = es_rows_fresh_snapshot();
	scan = table_beginscan(rel, snapshot, 0, NULL);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		TimestampTz recorded_at = DatumGetTimestampTz(slot_getattr(slot, Anum_es_events_recorded_at, &isnull));

		CHECK_FOR_INTERRUPTS();
		*latest_at = Max(*latest_at, recorded_at);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return true;
}

/*
 * segment_events(segment): how many events a segment has.
 *
 * As the statement's snapshot sees them; reads all of the position index.  0
 * if the segment is missing, NULL for NULL.  42501 for who may neither read all nor is an
 * admin of it.  Behind the view es_segments.
 */
Datum
es_segment_events(PG_FUNCTION_ARGS)
{
	int64		count;

	es_right_require(ES_RIGHT_READ | ES_RIGHT_ADMIN, NULL);
	count = es_scan_count(PG_GETARG_INT64(0), GetActiveSnapshot());
	PG_RETURN_INT64(Max(count, 0));
}

/*
 * segment_time(segment, newest): when a segment's last event was recorded, or
 * its first.
 *
 * As the statement's snapshot sees them.  NULL if there is none, or the
 * segment is missing, and for NULL.  42501 for who may neither read all nor is an admin of
 * it.  Behind the view es_segments.
 */
Datum
es_segment_time(PG_FUNCTION_ARGS)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = GetActiveSnapshot(),.own_slot = true};

	es_right_require(ES_RIGHT_READ | ES_RIGHT_ADMIN, NULL);
	return es_scan_edge(&scan, PG_GETARG_INT64(0), PG_GETARG_BOOL(1) ? BackwardScanDirection : ForwardScanDirection,
						Anum_es_events_recorded_at, &fcinfo->isnull);
}

/*
 * Finds a stream's last version in a segment, of which there is none where it may not be
 * read: who calls the function may give it whatever stream he wants.
 */
static Datum
find_readable_version(EsSegmentScan *scan, int64 segment, int64 stream_id, bool *isnull)
{
	Datum		version = (Datum) 0;

	es_scan_stream(scan, stream_id);
	*isnull = true;
	if (!es_scan_begin(scan, segment))
		return version;
	if (index_getnext_slot(scan->scan, BackwardScanDirection, scan->slot))
	{
		Datum		stream = slot_getattr(scan->slot, Anum_es_events_stream, isnull);

		if (es_right_has_on_stream(ES_RIGHT_READ, DatumGetTextPP(stream)))
			version = slot_getattr(scan->slot, Anum_es_events_version, isnull);
		else
			*isnull = true;
	}
	es_scan_end(scan);
	return version;
}

/*
 * segment_version(segment, stream_id, hidden): a stream's last version in a segment,
 * which is the last one that it has, or hidden, up to which all are, if it has no later one.
 *
 * As the statement's snapshot sees it.  NULL if the segment is lost, or the stream has no
 * event there and none that is hidden, and for NULL.  Behind the view es_streams.
 */
Datum
es_segment_version(PG_FUNCTION_ARGS)
{
	EsSegmentScan scan = {.snapshot = GetActiveSnapshot()};
	int64		segment = PG_GETARG_INT64(0);
	int64		hidden = PG_GETARG_INT64(2);
	bool		isnull;
	Datum		version = find_readable_version(&scan, segment, PG_GETARG_INT64(1), &isnull);

	if (!isnull)
		PG_RETURN_INT64(Max(DatumGetInt64(version), hidden));
	if (hidden == 0 || es_segment_is_lost(segment))
		PG_RETURN_NULL();
	PG_RETURN_INT64(hidden);
}
