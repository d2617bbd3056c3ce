/*
 * segment.c
 *		Segments: how the log is cut by position, and finding their relations.
 *
 * Segment n is the table eventstore.events_n, a partition of eventstore.events
 * for the positions n * size + 1 .. (n + 1) * size.  The size is fixed for the
 * life of a store.  segment/maker.c makes segments; here they are found, by name, and
 * their OIDs kept until a relcache invalidation touches the parent or one of
 * them.
 *
 * What is kept, and what the catalog caches know, is as old as the last
 * invalidation that this session has accepted, and one that holds its locks
 * already accepts none.  Bounds of a read are newer: sequences, marks and dirty
 * snapshots know no invalidations.  So whoever has a bound looks for segments
 * after it by es_segment_newest_reaching(), and what the caches do not know is
 * looked up in the catalogs as they are now, past all caches.
 *
 * eventstore.segments says which segments there have been.  A segment that it
 * has and the log has not is *lost*: detached or dropped by somebody.  Nobody
 * may pass over it who needs one of its events.  One that it has not is not made
 * yet, and has none.
 *
 * A scan locks the segment and the index while it is open, not to the end of
 * the transaction: one that reads thousands of segments would fill the lock
 * table.  That is safe because whoever comes back finds the segment anew, and
 * writers have locks of their own.  Only values that are stored out of line
 * need the segment's TOAST table for as long as somebody may look at them; a
 * scan that has given out any keeps the lock on its table.
 */
#include "log/segment.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "log/subscriber.h"
#include "table/prefetch.h"
#include "table/rows.h"

#define DEFAULT_SEGMENT_SIZE	(INT64CONST(1) << 24)
#define MIN_SEGMENT_SIZE		INT64CONST(100)
#define MAX_SEGMENT_SIZE		(INT64CONST(1) << 40)

/* What is kept of one segment. */
typedef struct KnownSegment
{
	Oid			relid;			/* InvalidOid: not looked up, or missing */
	bool		checked;		/* it has the columns of events */
	Oid			indexes[ES_INDEX_COUNT];
} KnownSegment;

static int64 segment_size = 0;	/* 0: not read */
static KnownSegment *known = NULL;
static int64 nknown = 0;		/* entries in known, by segment number */
static HTAB *kept = NULL;		/* the OIDs in known; NULL: none */
static int64 newest = -1;		/* highest segment that exists; -1: not read,
								 * or none */

static const char *const index_names[ES_INDEX_COUNT] = {
	"position", "stream", "category", "event_id"
};

static const EsIndexShape index_shapes[ES_INDEX_COUNT] = {
	{.keys = {Anum_es_events_position},.columns = "position",.unique = true},
	{.keys = {Anum_es_events_stream_id, Anum_es_events_version},.columns = "stream_id, version",.unique = true},
	{.keys = {Anum_es_events_category_key, Anum_es_events_position},.columns = "category_key, position",
	.where = "run_length > 0"},
	{.keys = {Anum_es_events_stream_id, Anum_es_events_event_id},.columns = "stream_id, event_id",
	.where = "id_given",.unique = true},
};

EsRelation	es_segment_table = {"segments"};
EsRelation	es_segment_pkey = {"segments_pkey",
.index = {.keys = {Anum_es_segments_segment},.columns = "segment",.unique = true}};
static EsRelation config_table = {"config"};

static const EsColumn segment_columns[Natts_es_segments] = {
	{"segment", INT8OID}, {"first_position", INT8OID}, {"last_position", INT8OID},
	{"sealed", BOOLOID}, {"events", INT8OID, true}
};
const EsShape es_segment_shape = ES_SHAPE(&es_segment_table, &es_segment_pkey, segment_columns);

static const EsColumn event_columns[Natts_es_events] = {
	{"position", INT8OID}, {"stream_id", INT8OID}, {"version", INT8OID}, {"recorded_at", TIMESTAMPTZOID},
	{"event_id", UUIDOID}, {"category_key", INT4OID}, {"type_version", INT4OID}, {"run_length", INT4OID},
	{"id_given", BOOLOID}, {"stream", TEXTOID}, {"type", TEXTOID}, {"data", JSONBOID}, {"metadata", JSONBOID}
};
const EsShape es_segment_event_shape = ES_SHAPE(&es_base_events, NULL, event_columns);

static const EsColumn config_columns[] = {{"segment_size", INT8OID}};
const EsShape es_segment_config_shape = ES_SHAPE(&config_table, NULL, config_columns);

PG_FUNCTION_INFO_V1(es_set_segment_size);
PG_FUNCTION_INFO_V1(es_segment_events);
PG_FUNCTION_INFO_V1(es_segment_time);
PG_FUNCTION_INFO_V1(es_segment_version);

/* Forgets all when the parent, or a segment that is kept, changes. */
static void
forget_segments(Datum arg, Oid relid)
{
	bool		ours = !OidIsValid(relid) || segment_size == 0 ||
	relid == es_base_events.oid;

	if (!ours && (kept == NULL || !hash_search(kept, &relid, HASH_FIND, NULL)))
		return;
	if (kept)
		hash_destroy(kept);
	kept = NULL;
	if (nknown > 0)
		memset(known, 0, sizeof(KnownSegment) * nknown);
	newest = -1;
	segment_size = 0;
}

/* Registers the invalidation callback; called once, from _PG_init. */
void
es_segment_init(void)
{
	es_base_on_relation_change(forget_segments);
}

/*
 * How many positions a segment holds.  What is kept is forgotten when the log's
 * parent changes, so that must be known to this session by then.
 */
static int64
get_segment_size(void)
{
	if (unlikely(segment_size == 0))
	{
		(void) es_base_oid(&es_base_events);
		segment_size = es_rows_read_number(&es_segment_config_shape, DEFAULT_SEGMENT_SIZE);
	}
	return segment_size;
}

/* es_segment_of tells which segment a position belongs to. */
int64
es_segment_of(int64 position)
{
	return (position - 1) / get_segment_size();
}

/* es_segment_first_position tells the first position of a segment. */
int64
es_segment_first_position(int64 segment)
{
	return segment * get_segment_size() + 1;
}

/* es_segment_last_position tells the last position of a segment. */
int64
es_segment_last_position(int64 segment)
{
	int64		size = get_segment_size();

	return segment < PG_INT64_MAX / size ? (segment + 1) * size : PG_INT64_MAX;
}

/* Makes room to keep a segment. */
static KnownSegment *
known_segment(int64 segment)
{
	if (segment >= nknown)
	{
		int64		n = Max(segment + 1, Max(16, 2 * nknown));

		if (known == NULL)
			known = MemoryContextAllocHuge(TopMemoryContext, sizeof(KnownSegment) * n);
		else
			known = repalloc_huge(known, sizeof(KnownSegment) * n);
		memset(known + nknown, 0, sizeof(KnownSegment) * (n - nknown));
		nknown = n;
	}
	return &known[segment];
}

/* Makes an invalidation of a relation one that forgets what is kept. */
static void
keep_oid(Oid relid)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid)};

	if (kept == NULL)
		kept = hash_create("eventstore segments", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	(void) hash_search(kept, &relid, HASH_ENTER, NULL);
}

/*
 * Finds a partition of the log by its name in the catalogs as they are now.  The
 * system cache may go on not knowing a name that was looked up in vain before.
 */
static Oid
find_partition_now(const char *name)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	NameData	relname;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	row;
	Oid			found = InvalidOid;

	namestrcpy(&relname, name);
	ScanKeyInit(&keys[0], Anum_pg_class_relname, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&relname));
	ScanKeyInit(&keys[1], Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(es_base_store()->schema));
	InvalidateCatalogSnapshot();
	scan = systable_beginscan(pg_class, ClassNameNspIndexId, true, NULL, lengthof(keys), keys);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row) && ((Form_pg_class) GETSTRUCT(row))->relispartition)
		found = ((Form_pg_class) GETSTRUCT(row))->oid;
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return found;
}

/* es_segment_relid finds a segment's table; InvalidOid if the log has none of that number. */
Oid
es_segment_relid(int64 segment)
{
	KnownSegment *entry;
	char		name[NAMEDATALEN];
	Oid			relid;

	if (segment < 0)
		return InvalidOid;
	if (segment < nknown && OidIsValid(known[segment].relid))
		return known[segment].relid;
	snprintf(name, sizeof(name), "events_" INT64_FORMAT, segment);
	relid = find_partition_now(name);
	if (!OidIsValid(relid))
		return InvalidOid;
	entry = known_segment(segment);
	memset(entry, 0, sizeof(*entry));
	keep_oid(relid);
	entry->relid = relid;
	return relid;
}

/*
 * es_segment_index finds one of the indexes of a segment that exists, and is
 * locked.  They are found by name; a segment without one, or with one that is not
 * valid, has been tampered with: 55000.
 */
Oid
es_segment_index(int64 segment, EsSegmentIndex which)
{
	char		name[NAMEDATALEN];
	Oid			table;
	Oid			relid;
	uint64		before;

	if (segment < nknown && OidIsValid(known[segment].indexes[which]))
		return known[segment].indexes[which];
	snprintf(name, sizeof(name), "events_" INT64_FORMAT "_%s", segment, index_names[which]);
	table = es_segment_relid(segment);
	before = es_base_changes();
	relid = es_base_find_index(name, table, &index_shapes[which]);
	if (OidIsValid(table) && before == es_base_changes())
	{
		keep_oid(relid);
		known[segment].indexes[which] = relid;
	}
	return relid;
}

/*
 * Reads a column of the newest row of eventstore.segments, or of the newest
 * that is of a sealed segment; missing if there is none.  Those that are not
 * sealed are few, and the newest.  A catalog snapshot of a table that has no
 * system cache is of now, and may be taken in parallel mode, too.
 */
static int64
read_newest(bool sealed, AttrNumber column, int64 missing)
{
	Relation	rel = es_base_open(&es_segment_table, AccessShareLock);
	Relation	index = es_base_open_index(&es_segment_pkey, rel, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_index_beginscan(rel, index, snapshot, 0);
	int64		found = missing;
	bool		isnull;

	es_store_check(rel, &es_segment_shape);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		if (sealed && !DatumGetBool(slot_getattr(slot, Anum_es_segments_sealed, &isnull)))
			continue;
		found = DatumGetInt64(slot_getattr(slot, column, &isnull));
		break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * es_segment_newest tells the highest segment that was ever made, as far as this
 * session has heard; -1 for none.
 */
int64
es_segment_newest(void)
{
	if (newest < 0)
	{
		(void) es_base_oid(&es_base_events);
		newest = read_newest(false, Anum_es_segments_segment, -1);
	}
	return newest;
}

/*
 * es_segment_newest_reaching tells the highest segment that was ever made, for
 * who has learned of a position: if there is a segment that has it, it is not
 * above the result, however little this session has heard.
 */
int64
es_segment_newest_reaching(int64 position)
{
	AcceptInvalidationMessages();
	if (es_segment_of(position) > es_segment_newest())
		newest = read_newest(false, Anum_es_segments_segment, -1);
	return newest;
}

/*
 * es_segment_sealed_upto tells a position up to which the log is known to be
 * final: segments are sealed when they are, the lowest first.  0 for none.
 */
int64
es_segment_sealed_upto(void)
{
	return read_newest(true, Anum_es_segments_last_position, 0);
}

/* Raises 55000 unless a segment that is open and known has the columns of events. */
static inline void
check_columns(int64 segment, Relation rel)
{
	if (likely(known[segment].checked))
		return;
	es_columns_check(rel, event_columns, Natts_es_events);
	known[segment].checked = true;
}

/*
 * es_segment_open opens a segment and locks it; NULL, with no lock kept, if the
 * log has none of that number.  *lost becomes whether it had one.
 */
Relation
es_segment_open(int64 segment, LOCKMODE mode, bool *lost)
{
	*lost = false;
	for (;;)
	{
		Oid			relid = es_segment_relid(segment);
		Relation	rel;

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(relid))
		{
			if (segment < 0 || segment > es_segment_newest_reaching(es_segment_first_position(segment)))
				return NULL;
			/* it may have been made after the first look, but not after this */
			relid = es_segment_relid(segment);
			*lost = !OidIsValid(relid);
			if (*lost)
				return NULL;
		}
		rel = try_table_open(relid, mode);
		if (rel != NULL && es_segment_relid(segment) == relid)
		{
			check_columns(segment, rel);
			return rel;
		}
		/* it was detached, dropped or replaced while we waited for the lock */
		if (rel != NULL)
			table_close(rel, mode);
	}
}

/* es_segment_refuse_lost raises 55000: somebody needs an event of a segment that is lost. */
void
es_segment_refuse_lost(int64 segment)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("segment \"eventstore.events_" INT64_FORMAT "\" is not part of the log any more", segment),
			errdetail("It has been detached or dropped, and events at positions " INT64_FORMAT " to " INT64_FORMAT
					  " are needed.", es_segment_first_position(segment), es_segment_last_position(segment)),
			errhint("Attach it again: ALTER TABLE eventstore.events ATTACH PARTITION eventstore.events_" INT64_FORMAT
					" FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ").", segment,
					es_segment_first_position(segment), es_segment_last_position(segment) + 1));
}

/* Opens the segment and the index that a scan is about; false if the log has no such segment. */
static bool
open_for_scan(EsSegmentScan *scan, int64 segment)
{
	scan->lost = false;
	scan->borrowed = scan->open && RelationGetRelid(scan->open->rel) == es_segment_relid(segment) &&
		(scan->index = es_store_index(scan->open, es_segment_index(segment, scan->which))) != NULL;
	if (scan->borrowed)
	{
		scan->rel = scan->open->rel;
		return true;
	}
	scan->rel = es_segment_open(segment, AccessShareLock, &scan->lost);
	if (scan->rel == NULL)
		return false;
	scan->index = index_open(es_segment_index(segment, scan->which), AccessShareLock);
	return true;
}

/*
 * es_segment_scan_begin opens the index of a segment that the scan asks for,
 * with its keys; false if the log has no such segment.  If it had one, 55000
 * where the scan needs it, else scan->lost tells so.
 */
bool
es_segment_scan_begin(EsSegmentScan *scan, int64 segment)
{
	if (!open_for_scan(scan, segment))
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
	scan->by_pages = scan->pages != NULL && es_pages_serve(scan->rel, scan->snapshot);
	if (scan->by_pages)
		scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(scan->rel), &TTSOpsHeapTuple);
	else if (scan->own_slot)
		scan->slot = table_slot_create(scan->rel, NULL);
	else
		scan->slot = scan->borrowed ? scan->open->info->scan_slot : es_store_scan_slot(scan->rel, &es_segment_event_shape);
	scan->visibility = InvalidBuffer;
	scan->keep_lock = false;
	scan->block = InvalidBlockNumber;
	scan->scan = es_index_beginscan(scan->rel, scan->index, scan->snapshot, scan->nkeys);
	/* keeps index pages pinned, which makes the visibility map's word good */
	scan->scan->xs_want_itup = scan->index_only || scan->wants_keys;
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
	return true;
}

/* es_segment_scan_fetch reads the row of the entry that a forward scan has come to; false if the snapshot does not see it. */
bool
es_segment_scan_fetch(EsSegmentScan *scan)
{
	if (!scan->by_pages)
		return index_fetch_heap(scan->scan, scan->slot);
	es_pages_prefetch(scan->pages, scan->scan);
	if (!es_pages_fetch(scan->pages, scan->scan, &scan->row))
		return false;
	ExecStoreHeapTuple(&scan->row, scan->slot, false);
	return true;
}

/* es_segment_scan_key gives a key, a bigint, of the entry that a scan has come to which wants them. */
int64
es_segment_scan_key(EsSegmentScan *scan, int column)
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
 * es_segment_scan_event reads the event that the scan stands on.  Its varlenas
 * are those of the slot; if they are given out, what is out of line stays
 * readable to the end of the transaction.
 */
void
es_segment_scan_event(EsSegmentScan *scan, EsEvent *event)
{
	if (!scan->backwards && !scan->by_pages)
		es_prefetch_block(scan->scan, scan->slot, &scan->block);
	es_base_deform_event(scan->slot, event, !scan->without_metadata);
	if (scan->gives_out)
		es_segment_scan_give_out(scan, event);
}

/* es_segment_scan_give_out sees to it that an event stays readable to the end of the transaction that a scan has read. */
void
es_segment_scan_give_out(EsSegmentScan *scan, const EsEvent *event)
{
	if (is_out_of_line(event->data) || is_out_of_line(event->metadata))
		scan->keep_lock = true;
}

/*
 * es_segment_scan_skip goes past the next row that the snapshot sees, without
 * reading it where the visibility map says that all see it; false at the end.
 */
bool
es_segment_scan_skip(EsSegmentScan *scan)
{
	ItemPointer tid;

	while ((tid = index_getnext_tid(scan->scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (VM_ALL_VISIBLE(scan->rel, ItemPointerGetBlockNumber(tid), &scan->visibility) ||
			index_fetch_heap(scan->scan, scan->slot))
			return true;
	}
	return false;
}

/* es_segment_scan_end closes the scan, and gives the locks back if it may. */
void
es_segment_scan_end(EsSegmentScan *scan)
{
	index_endscan(scan->scan);
	if (BufferIsValid(scan->visibility))
		ReleaseBuffer(scan->visibility);
	if (scan->by_pages)
		es_pages_forget(scan->pages, scan->rel);
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
 * es_segment_scan_edge gives a column, of fixed width, of the first row that a
 * scan of a segment finds in a direction; NULL, and 0, if there is none.
 */
Datum
es_segment_scan_edge(EsSegmentScan *scan, int64 segment, ScanDirection direction, AttrNumber column, bool *isnull)
{
	Datum		value = (Datum) 0;

	*isnull = true;
	if (es_segment_scan_begin(scan, segment))
	{
		if (index_getnext_slot(scan->scan, direction, scan->slot))
			value = slot_getattr(scan->slot, column, isnull);
		es_segment_scan_end(scan);
	}
	return value;
}

/*
 * es_segment_edge_version gives a stream's first or last version in a segment, by the
 * direction; NULL, and 0, if it has none there.  The scan says whose eyes look.
 */
Datum
es_segment_edge_version(EsSegmentScan scan, int64 segment, int64 stream_id, ScanDirection direction, bool *isnull)
{
	scan.which = ES_INDEX_STREAM;
	scan.own_slot = true;
	scan.nkeys = 1;
	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_id));
	return es_segment_scan_edge(&scan, segment, direction, Anum_es_events_version, isnull);
}

/* ---- what a segment holds ---- */

/* es_segment_count counts the events of a segment that a snapshot, NULL: a fresh one, sees; -1 if the segment is missing. */
int64
es_segment_count(int64 segment, Snapshot snapshot)
{
	Snapshot	own = snapshot ? NULL : es_rows_fresh_snapshot();
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = snapshot,.fresh = own ? &own : NULL,
	.own_slot = true,.index_only = true};
	int64		count = -1;

	if (es_segment_scan_begin(&scan, segment))
	{
		for (count = 0; es_segment_scan_skip(&scan);)
			count++;
		es_segment_scan_end(&scan);
	}
	if (own)
		UnregisterSnapshot(own);
	return count;
}

/*
 * segment_events(segment): how many events a segment has.
 *
 * As the statement's snapshot sees them; reads all of the position index.  0
 * if the segment is missing, NULL for NULL.  Behind the view es_segments.
 */
Datum
es_segment_events(PG_FUNCTION_ARGS)
{
	int64		count = es_segment_count(PG_GETARG_INT64(0), GetActiveSnapshot());

	PG_RETURN_INT64(Max(count, 0));
}

/*
 * segment_time(segment, newest): when a segment's last event was recorded, or
 * its first.
 *
 * As the statement's snapshot sees them.  NULL if there is none, or the
 * segment is missing, and for NULL.  Behind the view es_segments.
 */
Datum
es_segment_time(PG_FUNCTION_ARGS)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = GetActiveSnapshot(),.own_slot = true};

	return es_segment_scan_edge(&scan, PG_GETARG_INT64(0), PG_GETARG_BOOL(1) ? BackwardScanDirection : ForwardScanDirection,
								Anum_es_events_recorded_at, &fcinfo->isnull);
}

/*
 * segment_version(segment, stream_id): a stream's last version in a segment.
 *
 * As the statement's snapshot sees it.  NULL if the stream has no event there,
 * or the segment is missing, and for NULL.  Behind the view es_streams.
 */
Datum
es_segment_version(PG_FUNCTION_ARGS)
{
	EsSegmentScan scan = {.snapshot = GetActiveSnapshot()};

	return es_segment_edge_version(scan, PG_GETARG_INT64(0), PG_GETARG_INT64(1), BackwardScanDirection, &fcinfo->isnull);
}

/*
 * es_set_segment_size(positions): how many positions a segment holds.
 *
 * 100 to 2^40, else 22023; NULL is 22004.  For the store's owner, else 42501.
 * Only while the log has no segment, else 55000.  Locks the log against the
 * first segment being made until the end of the transaction.
 */
Datum
es_set_segment_size(PG_FUNCTION_ARGS)
{
	int64		size;

	es_base_require(fcinfo, 0, "positions");
	size = PG_GETARG_INT64(0);
	es_subscriber_prevent_write("es_set_segment_size()");
	if (!es_base_owns_store(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of the event store"));
	if (size < MIN_SEGMENT_SIZE || size > MAX_SEGMENT_SIZE)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a segment holds " INT64_FORMAT " to " INT64_FORMAT " positions",
					   MIN_SEGMENT_SIZE, MAX_SEGMENT_SIZE));
	es_base_lock(&es_base_events, ShareUpdateExclusiveLock);
	if (read_newest(false, Anum_es_segments_segment, -1) >= 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the segment size cannot be changed once the log has a segment"));
	es_rows_write_number(&es_segment_config_shape, size);
	CommandCounterIncrement();
	segment_size = 0;
	CacheInvalidateRelcacheByRelid(es_base_oid(&es_base_events));
	PG_RETURN_VOID();
}
