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
 * yet, and has none; and none has one that was emptied by scavenging, and then dropped.
 */
#include "log/segment.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/call.h"
#include "base/event.h"
#include "log/subscriber.h"
#include "table/kept.h"
#include "table/rows.h"
#include "table/tagindex.h"

#define DEFAULT_SEGMENT_SIZE	(INT64CONST(1) << 24)
#define MIN_SEGMENT_SIZE		INT64CONST(100)
#define MAX_SEGMENT_SIZE		(INT64CONST(1) << 40)

/* What is kept of one segment. */
typedef struct KnownSegment
{
	Oid			relid;			/* InvalidOid: not looked up, or missing */
	bool		checked;		/* it has the columns of events */
	bool		emptied;		/* it is missing because it had no event left */
	Oid			indexes[ES_INDEX_COUNT];
} KnownSegment;

static int64 segment_size = 0;	/* 0: not read */
static KnownSegment *known = NULL;
static int64 nknown = 0;		/* entries in known, by segment number */
static HTAB *kept = NULL;		/* the OIDs in known; NULL: none */
static int64 newest = -1;		/* highest segment that exists; -1: not read,
								 * or none */

const char *const es_segment_index_names[ES_INDEX_COUNT] = {
	"_position", "_stream", "_category", "_event_id", "_tag"
};

static const EsIndexShape index_shapes[ES_INDEX_COUNT] = {
	{.keys = {Anum_es_events_position},.columns = "position",.unique = true},
	{.keys = {Anum_es_events_stream_id, Anum_es_events_version},.columns = "stream_id, version",.unique = true},
	{.keys = {Anum_es_events_category_key, Anum_es_events_position},.columns = "category_key, position",
	.where = "run_length > 0",.qualified = "run_length OPERATOR(pg_catalog.>) 0"},
	{.keys = {Anum_es_events_stream_id, Anum_es_events_event_id},.columns = "stream_id, event_id",
	.where = "id_given",.unique = true},
	{.keys = {Anum_es_events_metadata, Anum_es_events_position},.columns = "metadata, position",
	.method = ES_TAGINDEX_AM},
};

EsRelation	es_segment_table = {"segments"};
static EsRelation segments_pkey = {"segments_pkey",
.index = {.keys = {Anum_es_segments_segment},.columns = "segment",.unique = true}};
static EsRelation config_table = {"config"};

static const EsColumn segment_columns[Natts_es_segments] = {
	{"segment", INT8OID}, {"first_position", INT8OID}, {"last_position", INT8OID},
	{"sealed", BOOLOID}, {"emptied", BOOLOID}, {"events", INT8OID, true}
};
const EsShape es_segment_shape = ES_SHAPE(&es_segment_table, &segments_pkey, segment_columns);

static const EsColumn event_columns[Natts_es_events] = {
	{"position", INT8OID}, {"stream_id", INT8OID}, {"version", INT8OID}, {"recorded_at", TIMESTAMPTZOID},
	{"event_id", UUIDOID}, {"category_key", INT4OID}, {"type_version", INT4OID}, {"run_length", INT4OID},
	{"id_given", BOOLOID}, {"stream", TEXTOID}, {"type", TEXTOID}, {"data", JSONBOID}, {"metadata", JSONBOID}
};
const EsShape es_segment_event_shape = ES_SHAPE(&es_base_events, NULL, event_columns);

static const EsColumn config_columns[] = {{"segment_size", INT8OID}};
const EsShape es_segment_config_shape = ES_SHAPE(&config_table, NULL, config_columns);

PG_FUNCTION_INFO_V1(es_set_segment_size);

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
#ifdef USE_ASSERT_CHECKING
	for (int i = 0; i < Natts_es_events; i++)
		Assert(es_segment_event_shape.columns[i].type == es_event_row_types[i]);
#endif
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
reserve_known_segment(int64 segment)
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
keep_segment_oid(Oid relid)
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

/* es_segment_name gives the name of a segment's table, be it there or not. */
char *
es_segment_name(int64 segment)
{
	return psprintf("events_" INT64_FORMAT, segment);
}

/* Gives the name of an index of a segment. */
static char *
index_name(int64 segment, EsSegmentIndex which)
{
	return psprintf("events_" INT64_FORMAT "%s", segment, es_segment_index_names[which]);
}

/*
 * es_segment_index_statement gives the statement that makes an index of a segment,
 * to be run with any search_path.
 */
char *
es_segment_index_statement(int64 segment, EsSegmentIndex which)
{
	return es_base_index_statement(index_name(segment, which), es_segment_name(segment), &index_shapes[which], true);
}

/* es_segment_relid finds a segment's table; InvalidOid if the log has none of that number. */
Oid
es_segment_relid(int64 segment)
{
	KnownSegment *entry;
	char	   *name;
	Oid			relid;

	if (segment < 0)
		return InvalidOid;
	if (segment < nknown && OidIsValid(known[segment].relid))
		return known[segment].relid;
	name = es_segment_name(segment);
	relid = find_partition_now(name);
	pfree(name);
	if (!OidIsValid(relid))
		return InvalidOid;
	entry = reserve_known_segment(segment);
	memset(entry, 0, sizeof(*entry));
	keep_segment_oid(relid);
	entry->relid = relid;
	return relid;
}

/* es_segment_is tells whether a table that is open, or NULL, is a segment's. */
bool
es_segment_is(int64 segment, const EsTable *open)
{
	return open != NULL && RelationGetRelid(open->rel) == es_segment_relid(segment);
}

/*
 * es_segment_index finds one of the indexes of a segment that exists, and is
 * locked.  They are found by name; a segment without one, or with one that is not
 * valid, has been tampered with: 55000.
 */
Oid
es_segment_index(int64 segment, EsSegmentIndex which)
{
	Oid			table;
	Oid			relid;
	uint64		before;

	if (segment < nknown && OidIsValid(known[segment].indexes[which]))
		return known[segment].indexes[which];
	table = es_segment_relid(segment);
	before = es_base_changes();
	relid = es_base_find_index(index_name(segment, which), table, &index_shapes[which]);
	if (OidIsValid(table) && before == es_base_changes())
	{
		keep_segment_oid(relid);
		known[segment].indexes[which] = relid;
	}
	return relid;
}

/*
 * es_segment_usable_index finds such an index of a table that is, or may become, a
 * segment; InvalidOid if there is none that will do.
 */
Oid
es_segment_usable_index(int64 segment, Oid table, EsSegmentIndex which)
{
	return es_base_usable_index(index_name(segment, which), table, &index_shapes[which]);
}

/* ---- indexes of one type of events, made on request (segment/typeindex.c) ---- */

static const EsIndexShape type_index_shape = {.keys = {Anum_es_events_position},.columns = "position",.where = "type"};

/*
 * es_segment_type_index_name gives the name of a segment's index of the events of a
 * type, which has the type's hash, as names of relations are short.
 */
char *
es_segment_type_index_name(int64 segment, const text *type)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type), 0);

	return psprintf("events_" INT64_FORMAT "_type_%llx", segment, (unsigned long long) hash);
}

/*
 * es_segment_type_index_statement gives the statement that makes it, to be run with any
 * search_path.
 */
char *
es_segment_type_index_statement(int64 segment, const text *type, bool concurrently)
{
	return psprintf("CREATE INDEX %s%s ON eventstore.%s (position) WHERE type OPERATOR(pg_catalog.=) %s",
					concurrently ? "CONCURRENTLY " : "", es_segment_type_index_name(segment, type),
					es_segment_name(segment), quote_literal_cstr(text_to_cstring(type)));
}

/*
 * es_segment_type_index finds it, of a segment that is open and locked; InvalidOid if
 * there is none that scans may use.  As long as the segment is locked, it stays.
 */
Oid
es_segment_type_index(int64 segment, Relation rel, const text *type)
{
	char	   *name = es_segment_type_index_name(segment, type);
	Oid			relid = es_base_usable_index(name, RelationGetRelid(rel), &type_index_shape);
	Relation	index;

	pfree(name);
	if (!OidIsValid(relid))
		return InvalidOid;
	index = index_open(relid, AccessShareLock);
	if (!es_kept_is_of_text(index, Anum_es_events_type, type))
		relid = InvalidOid;
	index_close(index, AccessShareLock);
	return relid;
}

/* ---- which there are ---- */

/*
 * Reads a column of the newest row of eventstore.segments, or of the newest
 * that is of a sealed segment; missing if there is none.  Those that are not
 * sealed are few, and the newest.  A catalog snapshot of a table that has no
 * system cache is of now, and may be taken in parallel mode, too.
 */
static int64
read_newest_segment(bool sealed, AttrNumber column, int64 missing)
{
	Relation	rel = es_base_open(&es_segment_table, AccessShareLock);
	Relation	index = es_base_open_index(&segments_pkey, rel, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_index_beginscan(rel, index, snapshot, 0);
	int64		found = missing;
	bool		isnull;

	es_table_check(rel, &es_segment_shape);
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
		newest = read_newest_segment(false, Anum_es_segments_segment, -1);
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
		newest = read_newest_segment(false, Anum_es_segments_segment, -1);
	return newest;
}

/*
 * es_segment_sealed_upto tells a position up to which the log is known to be
 * final: segments are sealed when they are, the lowest first.  0 for none.
 */
int64
es_segment_sealed_upto(void)
{
	return read_newest_segment(true, Anum_es_segments_last_position, 0);
}

/* Tells whether a row of eventstore.segments says something else than is to be noted. */
static bool
differs_from_note(const EsRows *rows, const EsSegmentNote *note)
{
	bool		counted = !rows->isnull[Anum_es_segments_events - 1];

	if (note->sealed && !DatumGetBool(rows->values[Anum_es_segments_sealed - 1]))
		return true;
	if (note->emptied && !DatumGetBool(rows->values[Anum_es_segments_emptied - 1]))
		return true;
	if (note->events < 0)
		return counted;
	return !counted || DatumGetInt64(rows->values[Anum_es_segments_events - 1]) != note->events;
}

/*
 * es_segment_note changes the row of a segment, if that differs; nobody else may do so, which
 * is seen to by who scavenges and seals.
 */
void
es_segment_note(int64 segment, const EsSegmentNote *note)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = RowExclusiveLock,.fresh = true};
	Datum		values[Natts_es_segments];
	bool		isnull[Natts_es_segments] = {false};

	es_rows_equal(&rows, Int64GetDatum(segment));
	es_rows_begin(&rows);
	if (es_rows_next(&rows) && differs_from_note(&rows, note))
	{
		memcpy(values, rows.values, sizeof(values));
		if (note->sealed)
			values[Anum_es_segments_sealed - 1] = BoolGetDatum(true);
		if (note->emptied)
			values[Anum_es_segments_emptied - 1] = BoolGetDatum(true);
		values[Anum_es_segments_events - 1] = Int64GetDatum(note->events);
		isnull[Anum_es_segments_events - 1] = note->events < 0;
		es_rows_update(&rows, values, isnull);
	}
	es_rows_end(&rows);
}

/* Tells whether a segment that the log has not was dropped when it had no event left. */
static bool
was_emptied(int64 segment)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock};
	bool		emptied;

	if (segment < nknown && known[segment].emptied)
		return true;
	es_rows_equal(&rows, Int64GetDatum(segment));
	es_rows_begin(&rows);
	emptied = es_rows_next(&rows) && DatumGetBool(rows.values[Anum_es_segments_emptied - 1]);
	es_rows_end(&rows);
	if (emptied)
		reserve_known_segment(segment)->emptied = true;
	return emptied;
}

/* es_segment_is_lost tells whether the log had a segment once that it has no more, with events. */
bool
es_segment_is_lost(int64 segment)
{
	return !OidIsValid(es_segment_relid(segment)) && segment >= 0 &&
		segment <= es_segment_newest_reaching(es_segment_first_position(segment)) &&
	/* it may have been made after the first look, but not after this */
		!OidIsValid(es_segment_relid(segment)) && !was_emptied(segment);
}

/* Raises 55000 unless a segment that is open and known has the columns of events. */
static inline void
check_segment_columns(int64 segment, Relation rel)
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
			*lost = es_segment_is_lost(segment);
			relid = es_segment_relid(segment);
			if (*lost || !OidIsValid(relid))
				return NULL;
		}
		rel = try_table_open(relid, mode);
		if (rel != NULL && es_segment_relid(segment) == relid)
		{
			check_segment_columns(segment, rel);
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
			errmsg("segment \"eventstore.events_" INT64_FORMAT "\" is no longer part of the log", segment),
			errdetail("It has been detached or dropped, and events at positions " INT64_FORMAT " to " INT64_FORMAT
					  " are needed.", es_segment_first_position(segment), es_segment_last_position(segment)),
			errhint("Attach it again: SELECT es_attach_segment('eventstore.events_" INT64_FORMAT "').  If it was dropped, "
					"restore its table from the archive before.", segment));
}

/*
 * es_set_segment_size(positions): how many positions a segment holds.
 *
 * 100 to 2^40, else 22023; NULL is 22004.  For who has 'admin' on '*', else 42501.
 * Only while the log has no segment, else 55000.  Locks the log against the
 * first segment being made until the end of the transaction.
 */
Datum
es_set_segment_size(PG_FUNCTION_ARGS)
{
	int64		size;

	es_call_require(fcinfo, 0, "positions");
	size = PG_GETARG_INT64(0);
	es_subscriber_prevent_write("es_set_segment_size()");
	es_right_require(ES_RIGHT_ADMIN, NULL);
	if (size < MIN_SEGMENT_SIZE || size > MAX_SEGMENT_SIZE)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("segment size must be between " INT64_FORMAT " and " INT64_FORMAT " positions",
					   MIN_SEGMENT_SIZE, MAX_SEGMENT_SIZE));
	es_base_lock(&es_base_events, ShareUpdateExclusiveLock);
	if (read_newest_segment(false, Anum_es_segments_segment, -1) >= 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot change the segment size once the log has a segment"));
	es_rows_write_number(&es_segment_config_shape, size);
	CommandCounterIncrement();
	segment_size = 0;
	es_base_announce(&es_base_events);
	PG_RETURN_VOID();
}
