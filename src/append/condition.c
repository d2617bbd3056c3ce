/*
 * condition.c
 *		Dynamic consistency boundaries: appends that depend on what else was
 *		appended, and reading by tags.
 *
 * es_append_if writes its events first and looks afterwards.  Its positions are
 * taken by then, so the log's order decides between calls that exclude each
 * other: each looks for matching events below its own last position.
 *
 *	- Committed: the condition fails.
 *	- Written by a transaction in progress, seen with a dirty snapshot: wait for
 *	  that transaction, look again.  Other transactions in progress, whatever
 *	  they appended, do not matter.
 *	- Position taken, row not yet written: its appender holds a short lock.  So
 *	  if positions below are not settled, wait until those who hold short locks
 *	  now have given them back, which takes microseconds, and look then.
 *
 * Calls of es_append_if keep one more short lock while they take positions, so
 * their blocks do not interleave and they only ever wait downwards: conditions
 * alone never deadlock.  Plain appends take no part in any of this.
 *
 * A condition that fails raises, which takes the events back; the positions
 * stay holes.
 */
#include "base/base.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "append/append.h"
#include "append/request.h"
#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
#include "base/names.h"
#include "base/objects.h"
#include "log/durable.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/tags.h"
#include "read/log.h"
#include "stream/lock.h"
#include "table/rows.h"
#include "table/table.h"

/* What events a condition, or a read, is about. */
typedef struct EventQuery
{
	EsNames		types;
	EsNames		tags;
	int64		after;
	int64		upto;
	int64		own_from;		/* positions of this call's own events begin
								 * here */
} EventQuery;

static EsRelation tags_by_tag = {"tags_by_tag",
.index = {.keys = {Anum_es_tags_tag, Anum_es_tags_position},.columns = "tag, position",.unique = true}};

PG_FUNCTION_INFO_V1(es_append_if);
PG_FUNCTION_INFO_V1(es_read_tagged);

/* Tells whether an event is what a query is about. */
static bool
matches(const EventQuery *query, const EsEvent *event)
{
	const EsNames all = {0};

	return es_names_pass(&all, &query->types, event) &&
		(!query->tags.set || es_tags_have_all(event->metadata, &query->tags));
}

/* ---- scanning by tag, or by position ---- */

/* Called for each candidate; false ends the scan.  The slot holds the event. */
typedef bool (*CandidateCallback) (TupleTableSlot *slot, const EsEvent *event, void *arg);

/*
 * Hands the events of one segment between two positions to a callback; false if it
 * ended the scan.  The snapshot is fresh, or dirty.
 */
static bool
scan_segment(int64 segment, int64 from, int64 upto, Snapshot *snapshot,
			 CandidateCallback callback, void *arg)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = snapshot,.needed = true,.own_slot = true,
	.gives_out = true,.nkeys = 2};
	bool		go_on = true;

	ScanKeyInit(&scan.keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&scan.keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	if (!es_segment_scan_begin(&scan, segment))
		return true;
	while (go_on && index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
	{
		EsEvent		event;

		CHECK_FOR_INTERRUPTS();
		es_segment_scan_event(&scan, &event);
		go_on = callback(scan.slot, &event, arg);
	}
	es_segment_scan_end(&scan);
	return go_on;
}

/* Hands all events in a query's range to a callback. */
static void
scan_positions(const EventQuery *query, Snapshot *snapshot, CandidateCallback callback, void *arg)
{
	int64		newest = es_segment_newest_reaching(query->upto);

	for (int64 n = es_segment_of(query->after + 1);
		 n <= newest && es_segment_first_position(n) <= query->upto; n++)
		if (!scan_segment(n, query->after + 1, query->upto, snapshot, callback, arg))
			return;
}

/* Hands the events in a query's range that carry its first tag to a callback. */
static void
scan_tag(const EventQuery *query, Snapshot *snapshot, CandidateCallback callback, void *arg)
{
	Relation	rel = es_base_open(&es_tags_table, AccessShareLock);
	Relation	index = es_base_open_index(&tags_by_tag, rel, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan;
	ScanKeyData keys[3];
	bool		go_on = true;
	bool		isnull;

	es_store_check(rel, &es_tags_shape);
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
		go_on = scan_segment(es_segment_of(position), position, position, snapshot, callback, arg);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

/* Hands what may match a query to a callback, in order of position. */
static void
scan_candidates(const EventQuery *query, Snapshot *snapshot, CandidateCallback callback, void *arg)
{
	if (query->after >= query->upto)
		return;
	if (query->tags.set && query->tags.count > 0)
		scan_tag(query, snapshot, callback, arg);
	else
		scan_positions(query, snapshot, callback, arg);
}

/* ---- the condition ---- */

/* A look for events that match. */
typedef struct Look
{
	const EventQuery *query;
	SnapshotData dirty;
	TransactionId in_progress;	/* wrote a matching event */
	bool		found;
	int64		position;		/* of the committed, or own, match */
	char	   *stream;
} Look;

/* Looks at a candidate. */
static bool
look_at(TupleTableSlot *slot, const EsEvent *event, void *arg)
{
	Look	   *look = arg;
	TransactionId writer = look->dirty.xmin;

	if (!TransactionIdIsValid(writer) && event->position >= look->query->own_from)
	{
		TransactionId xmin = es_rows_slot_xmin(slot);

		if (TransactionIdIsCurrentTransactionId(xmin))
			return true;		/* of this call */
	}
	if (!matches(look->query, event))
		return true;
	if (TransactionIdIsValid(writer))
		look->in_progress = writer;
	else
	{
		look->found = true;
		look->position = event->position;
		look->stream = text_to_cstring(DatumGetTextPP(event->stream));
	}
	return false;
}

/* Raises VE001 if an event matches; waits for transactions that decide it. */
static void
check_condition(const EventQuery *query)
{
	/* positions below ours whose rows are not written yet */
	if (es_settle_compute() < Min(query->upto, query->own_from - 1))
		es_streamlock_await_writers();
	for (;;)
	{
		Look		look = {.query = query};
		Snapshot	dirty = &look.dirty;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(look.dirty);
		scan_candidates(query, &dirty, look_at, &look);
		if (look.found)
			ereport(ERROR,
					errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
					errmsg("an event after position " INT64_FORMAT " matches the condition of the append",
						   query->after),
					errdetail("It is at position " INT64_FORMAT ", in stream \"%s\".",
							  look.position, look.stream),
					errhint("Read the events that the decision depends on again, and retry."));
		if (!TransactionIdIsValid(look.in_progress))
			return;
		XactLockTableWait(look.in_progress, NULL, NULL, XLTW_None);
	}
}

/* Takes the arguments types and tags; no tags is no condition on them. */
static void
take_query(EventQuery *query, FunctionCallInfo fcinfo, int types_argno, int tags_argno)
{
	memset(query, 0, sizeof(*query));
	query->types = es_names_arg(fcinfo, types_argno, ES_NAME_TYPE, "types");
	query->tags = es_names_arg(fcinfo, tags_argno, ES_NAME_TAG, "tags");
}

/*
 * es_append_if(events, after_position, types, tags): appends events as
 * es_append_many does, unless an event after after_position has one of the
 * types (NULL: any) and all the tags (NULL: any); returns the last position.
 *
 * VE001 if there is such an event.  An empty array only checks, and gives
 * NULL.  A retry of what is stored already returns its position, unchecked.
 * NULL events or after_position is 22004.  Waits for transactions that have
 * written a matching event and not ended, for no others.
 */
Datum
es_append_if(PG_FUNCTION_ARGS)
{
	EsAppend	append = {.boundary = true};
	EventQuery	query;

	es_base_require(fcinfo, 0, "events");
	es_base_require(fcinfo, 1, "after_position");
	take_query(&query, fcinfo, 2, 3);
	es_request_many_from_json(&append, PG_GETARG_JSONB_P(0));
	es_append_run(&append);
	if (append.count > 0 && append.events[0].stored)
		PG_RETURN_INT64(append.position);
	query.after = Max(PG_GETARG_INT64(1), 0);
	query.upto = append.count > 0 ? append.position : es_settle_last_given();
	query.own_from = append.count > 0 ? append.events[0].position : PG_INT64_MAX;
	check_condition(&query);
	if (append.count == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(append.position);
}

/* ---- reading ---- */

/* A read by tags on its way. */
typedef struct TaggedRead
{
	const EventQuery *query;
	int64		left;
	void	   *result;
} TaggedRead;

/* Returns a candidate if it matches. */
static bool
return_match(TupleTableSlot *slot, const EsEvent *event, void *arg)
{
	TaggedRead *read = arg;

	if (matches(read->query, event))
	{
		es_durable_note_row(slot);
		es_log_return_event(event, read->result);
		read->left--;
	}
	return read->left > 0;
}

/*
 * es_read_tagged(tags, types, after_position, max_count): events that carry
 * all the tags and have one of the types (NULL: any), in order of position.
 *
 * Reads up to where all positions are final, as es_read_all does.  NULL tags
 * or after_position is 22004, a negative max_count 22023.
 */
Datum
es_read_tagged(PG_FUNCTION_ARGS)
{
	EventQuery	query;
	TaggedRead	read = {.query = &query,.result = fcinfo->resultinfo};
	Snapshot	snapshot;

	es_base_require(fcinfo, 0, "tags");
	es_base_require(fcinfo, 2, "after_position");
	take_query(&query, fcinfo, 1, 0);
	read.left = es_base_limit_arg(fcinfo, 3, "max_count");
	(void) es_base_begin_rows(fcinfo);
	query.after = Max(PG_GETARG_INT64(2), 0);
	query.upto = es_settle_compute();
	if (read.left == 0)
		return (Datum) 0;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	es_durable_note_snapshot(snapshot);
	scan_candidates(&query, &snapshot, return_match, &read);
	UnregisterSnapshot(snapshot);
	es_durable_flush_noted();
	return (Datum) 0;
}
