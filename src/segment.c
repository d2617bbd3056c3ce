/*
 * segment.c
 *		Segments: how the log is cut by position, and finding their relations.
 *
 * Segment n is the table eventstore.events_n, a partition of eventstore.events
 * for the positions n * size + 1 .. (n + 1) * size.  The size is fixed for the
 * life of a store.  maker.c makes segments; here they are found, by name, and
 * their OIDs kept until a relcache invalidation touches the parent or one of
 * them.  A segment that is missing was detached, or is not made yet.
 */
#include "segment.h"

#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define DEFAULT_SEGMENT_SIZE	(INT64CONST(1) << 24)
#define MIN_SEGMENT_SIZE		INT64CONST(100)
#define MAX_SEGMENT_SIZE		(INT64CONST(1) << 40)

/* What is kept of one segment. */
typedef struct KnownSegment
{
	Oid			relid;			/* InvalidOid: not looked up, or missing */
	Oid			indexes[ES_INDEX_COUNT];
} KnownSegment;

static int64 segment_size = 0;	/* 0: not read */
static KnownSegment *known = NULL;
static int64 nknown = 0;		/* entries in known, by segment number */
static int64 newest = -1;		/* highest segment that exists; -1: not read,
								 * or none */

static const char *const index_names[ES_INDEX_COUNT] = {
	"position", "stream", "category", "event_id"
};

PG_FUNCTION_INFO_V1(es_set_segment_size);

/* Forgets all when the parent, or a segment that is kept, changes. */
static void
forget_segments(Datum arg, Oid relid)
{
	bool		ours = !OidIsValid(relid) || segment_size == 0 ||
	relid == es_base_known_events();

	for (int64 i = 0; i < nknown && !ours; i++)
		ours = known[i].relid == relid;
	if (!ours)
		return;
	if (nknown > 0)
		memset(known, 0, sizeof(KnownSegment) * nknown);
	newest = -1;
	segment_size = 0;
}

/* Registers the invalidation callback; called once, from _PG_init. */
void
es_segment_init(void)
{
	CacheRegisterRelcacheCallback(forget_segments, (Datum) 0);
}

/* How many positions a segment holds. */
static int64
get_segment_size(void)
{
	if (unlikely(segment_size == 0))
		segment_size = es_store_read_number(es_base_store()->config, DEFAULT_SEGMENT_SIZE);
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
	return (segment + 1) * get_segment_size();
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

/* es_segment_relid finds a segment's table; InvalidOid if it is missing. */
Oid
es_segment_relid(int64 segment)
{
	KnownSegment *entry;
	char		name[NAMEDATALEN];
	Oid			relid;

	if (segment < nknown && OidIsValid(known[segment].relid))
		return known[segment].relid;
	snprintf(name, sizeof(name), "events_" INT64_FORMAT, segment);
	relid = get_relname_relid(name, es_base_store()->schema);
	if (!OidIsValid(relid) || !get_rel_relispartition(relid))
		return InvalidOid;
	entry = known_segment(segment);
	memset(entry, 0, sizeof(*entry));
	entry->relid = relid;
	if (newest >= 0)
		newest = Max(newest, segment);
	return relid;
}

/*
 * es_segment_index finds one of the indexes of a segment that exists.  They
 * are found by name; a segment without one has been tampered with.
 */
Oid
es_segment_index(int64 segment, EsSegmentIndex which)
{
	char		name[NAMEDATALEN];
	Oid			relid;

	if (segment < nknown && OidIsValid(known[segment].indexes[which]))
		return known[segment].indexes[which];
	snprintf(name, sizeof(name), "events_" INT64_FORMAT "_%s", segment, index_names[which]);
	relid = get_relname_relid(name, es_base_store()->schema);
	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("index \"eventstore.%s\" is missing", name),
				errhint("Make it again as in the other segments."));
	if (OidIsValid(es_segment_relid(segment)))
		known[segment].indexes[which] = relid;
	return relid;
}

/* What eventstore.segments says. */
typedef struct Summary
{
	int64		newest;			/* highest segment, -1 for none */
	int64		sealed_upto;	/* last position of the highest sealed one, 0
								 * for none */
} Summary;

/* Asks eventstore.segments. */
static Summary
read_segments(void)
{
	Relation	rel = table_open(es_base_store()->segments, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Summary		found = {.newest = -1};

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		const Datum *v = slot->tts_values;

		slot_getallattrs(slot);
		found.newest = Max(found.newest, DatumGetInt64(v[Anum_es_segments_segment - 1]));
		if (DatumGetBool(v[Anum_es_segments_sealed - 1]))
			found.sealed_upto = Max(found.sealed_upto,
									DatumGetInt64(v[Anum_es_segments_last_position - 1]));
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/* es_segment_newest tells the highest segment that was ever made; -1 for none. */
int64
es_segment_newest(void)
{
	if (newest < 0)
		newest = read_segments().newest;
	return newest;
}

/*
 * es_segment_sealed_upto tells a position up to which the log is known to be
 * final: segments are sealed when they are, the lowest first.
 */
int64
es_segment_sealed_upto(void)
{
	return read_segments().sealed_upto;
}

/*
 * es_segment_fresh_snapshot registers a snapshot of what is committed now and
 * of all that this transaction has done, the running command included.  To be
 * unregistered by the caller.
 */
Snapshot
es_segment_fresh_snapshot(void)
{
	Snapshot	snapshot;

	es_base_flush_pending();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* it is our copy; the next command's eyes see this command's rows */
	snapshot->curcid = GetCurrentCommandId(false) + 1;
	return snapshot;
}

/*
 * es_segment_scan_begin opens the index of a segment that the scan asks for,
 * with its keys; false if the segment is missing.
 */
bool
es_segment_scan_begin(EsSegmentScan *scan, int64 segment)
{
	Oid			relid = es_segment_relid(segment);

	if (!OidIsValid(relid))
		return false;
	scan->rel = try_table_open(relid, AccessShareLock);
	if (scan->rel == NULL || es_segment_relid(segment) != relid)
	{
		/* it was detached or dropped while we waited for the lock */
		if (scan->rel != NULL)
			table_close(scan->rel, AccessShareLock);
		return false;
	}
	scan->index = index_open(es_segment_index(segment, scan->which), AccessShareLock);
	scan->slot = scan->own_slot ? table_slot_create(scan->rel, NULL) : es_store_scan_slot(scan->rel);
	scan->scan = es_index_beginscan(scan->rel, scan->index, scan->snapshot, scan->nkeys);
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
	return true;
}

/* es_segment_scan_end closes the scan; the lock on the segment stays to the end of the transaction. */
void
es_segment_scan_end(EsSegmentScan *scan)
{
	index_endscan(scan->scan);
	if (scan->own_slot)
		ExecDropSingleTupleTableSlot(scan->slot);
	else
		ExecClearTuple(scan->slot);
	index_close(scan->index, NoLock);
	table_close(scan->rel, NoLock);
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
	if (!es_base_owns_store(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of the event store"));
	if (size < MIN_SEGMENT_SIZE || size > MAX_SEGMENT_SIZE)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a segment holds " INT64_FORMAT " to " INT64_FORMAT " positions",
					   MIN_SEGMENT_SIZE, MAX_SEGMENT_SIZE));
	LockRelationOid(es_base_store()->events, ShareUpdateExclusiveLock);
	if (read_segments().newest >= 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the segment size cannot be changed once the log has a segment"));
	es_store_write_number(es_base_store()->config, size);
	CommandCounterIncrement();
	segment_size = 0;
	CacheInvalidateRelcacheByRelid(es_base_store()->events);
	PG_RETURN_VOID();
}
