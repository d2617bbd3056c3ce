/*
 * tagged.c
 *		Events by types and tags: reading them, and finding candidates for conditions.
 *
 * With tags, eventstore.tags gives the positions of the events that carry the first
 * of them, and each event is looked up by its position.  Without, all events of the
 * range are gone through.  Either way they are candidates only, and es_tagged_matches
 * has the last word.  Reads end where the log is settled, and have a fresh snapshot;
 * conditions look with a dirty one (append/condition.c).
 *
 * The lock on eventstore.tags stays to the end of the transaction.
 */
#include "read/tagged.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/objects.h"
#include "log/durable.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/tags.h"
#include "table/rows.h"
#include "table/table.h"

PG_FUNCTION_INFO_V1(es_read_tagged);

static EsRelation tags_by_tag = {"tags_by_tag",
.index = {.keys = {Anum_es_tags_tag, Anum_es_tags_position},.columns = "tag, position",.unique = true}};

/* es_tagged_matches tells whether an event is what a query is about. */
bool
es_tagged_matches(const EsTagQuery *query, const EsEvent *event)
{
	const EsNames all = {0};

	return es_names_pass(&all, &query->types, event) &&
		(!query->tags.set || es_tags_have_all(event->metadata, &query->tags));
}

/*
 * Hands the events of one segment between two positions to a callback; false if it
 * ended the scan.  The snapshot is fresh, or dirty.
 */
static bool
scan_segment_between(int64 segment, int64 from, int64 upto, Snapshot *snapshot,
					 EsTagCallback callback, void *arg)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = snapshot,.needed = true,.own_slot = true,
	.gives_out = true,.nkeys = 2};
	bool		go_on = true;

	ScanKeyInit(&scan.keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&scan.keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	if (!es_scan_begin(&scan, segment))
		return true;
	while (go_on && index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
	{
		EsEvent		event;

		CHECK_FOR_INTERRUPTS();
		es_scan_event(&scan, &event);
		go_on = callback(scan.slot, &event, arg);
	}
	es_scan_end(&scan);
	return go_on;
}

/* Hands all events in a query's range to a callback. */
static void
scan_all_positions(const EsTagQuery *query, Snapshot *snapshot, EsTagCallback callback, void *arg)
{
	int64		newest = es_segment_newest_reaching(query->upto);

	for (int64 n = es_segment_of(query->after + 1);
		 n <= newest && es_segment_first_position(n) <= query->upto; n++)
		if (!scan_segment_between(n, query->after + 1, query->upto, snapshot, callback, arg))
			return;
}

/* Hands the events in a query's range that carry its first tag to a callback. */
static void
scan_tagged_positions(const EsTagQuery *query, Snapshot *snapshot, EsTagCallback callback, void *arg)
{
	Relation	rel = es_base_open(&es_tags_table, AccessShareLock);
	Relation	index = es_base_open_index(&tags_by_tag, rel, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan;
	ScanKeyData keys[3];
	bool		go_on = true;
	bool		isnull;

	es_table_check(rel, &es_tags_shape);
	/* where segments begin is looked up after the bound, too */
	(void) es_segment_newest_reaching(query->upto);
	es_rows_renew_snapshot(rel, snapshot);
	scan = es_index_beginscan(rel, index, *snapshot, 3);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(query->tags.names[0]));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(query->after));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(query->upto));
	index_rescan(scan, keys, 3, NULL, 0);
	while (go_on && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		int64		position = DatumGetInt64(slot_getattr(slot, Anum_es_tags_position, &isnull));

		CHECK_FOR_INTERRUPTS();
		go_on = scan_segment_between(es_segment_of(position), position, position, snapshot, callback, arg);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

/*
 * es_tagged_scan hands what may match a query to a callback, in order of position.
 * The snapshot is fresh, or dirty.
 */
void
es_tagged_scan(const EsTagQuery *query, Snapshot *snapshot, EsTagCallback callback, void *arg)
{
	if (query->after >= query->upto)
		return;
	if (query->tags.set && query->tags.count > 0)
		scan_tagged_positions(query, snapshot, callback, arg);
	else
		scan_all_positions(query, snapshot, callback, arg);
}

/* es_tagged_query_args takes the arguments types and tags; no tags is no condition on them. */
void
es_tagged_query_args(EsTagQuery *query, FunctionCallInfo fcinfo, int types_argno, int tags_argno)
{
	memset(query, 0, sizeof(*query));
	query->types = es_names_arg(fcinfo, types_argno, ES_NAME_TYPE, "types");
	query->tags = es_names_arg(fcinfo, tags_argno, ES_NAME_TAG, "tags");
}

/* A read by tags on its way. */
typedef struct TaggedRead
{
	const EsTagQuery *query;
	int64		left;
	void	   *result;
} TaggedRead;

/* Returns a candidate if it matches. */
static bool
return_if_match(TupleTableSlot *slot, const EsEvent *event, void *arg)
{
	TaggedRead *read = arg;

	if (es_tagged_matches(read->query, event))
	{
		es_durable_note_row(slot);
		es_call_return_event(event, read->result);
		read->left--;
	}
	return read->left > 0;
}

/*
 * es_read_tagged(tags, types, after_position, max_count): events that carry
 * all the tags and have one of the types (NULL: any), in order of position.
 *
 * Reads up to where all positions are final, as es_read_all does.  NULL tags
 * or after_position is 22004; a negative after_position or max_count, and a name that
 * no event can have, 22023.
 */
Datum
es_read_tagged(PG_FUNCTION_ARGS)
{
	EsTagQuery	query;
	TaggedRead	read = {.query = &query,.result = fcinfo->resultinfo};
	Snapshot	snapshot;

	es_call_require(fcinfo, 0, "tags");
	es_tagged_query_args(&query, fcinfo, 1, 0);
	query.after = es_call_position_arg(fcinfo, 2, "after_position");
	read.left = es_call_limit_arg(fcinfo, 3, "max_count");
	(void) es_call_begin_rows(fcinfo);
	query.upto = es_settle_compute();
	if (read.left == 0)
		return (Datum) 0;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	es_durable_note_snapshot(snapshot);
	es_tagged_scan(&query, &snapshot, return_if_match, &read);
	UnregisterSnapshot(snapshot);
	es_durable_flush_noted();
	return (Datum) 0;
}
