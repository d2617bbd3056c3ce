/*
 * condition.c
 *		Dynamic consistency boundaries: appends that depend on what else was
 *		appended.
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

#include "access/transam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "append/append.h"
#include "append/request.h"
#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
#include "log/settle.h"
#include "read/tagged.h"
#include "stream/lock.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_append_if);

/* A look for events that match. */
typedef struct Look
{
	const EsTagQuery *query;
	int64		own_from;		/* positions of this call's own events begin
								 * here */
	SnapshotData dirty;
	TransactionId in_progress;	/* wrote a matching event */
	bool		found;
	int64		position;		/* of the committed, or own, match */
	char	   *stream;
} Look;

/* Looks at a candidate. */
static bool
look_at_candidate(TupleTableSlot *slot, const EsEvent *event, void *arg)
{
	Look	   *look = arg;
	TransactionId writer = look->dirty.xmin;

	if (!TransactionIdIsValid(writer) && event->position >= look->own_from)
	{
		TransactionId xmin = es_rows_slot_xmin(slot);

		if (TransactionIdIsCurrentTransactionId(xmin))
			return true;		/* of this call */
	}
	if (!es_tagged_matches(look->query, event))
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

/* Raises VE011 if an event matches; waits for transactions that decide it. */
static void
check_condition(const EsTagQuery *query, int64 own_from)
{
	/* positions below ours whose rows are not written yet */
	if (es_settle_compute() < Min(query->upto, own_from - 1))
		es_streamlock_await_writers();
	for (;;)
	{
		Look		look = {.query = query,.own_from = own_from};
		Snapshot	dirty = &look.dirty;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(look.dirty);
		es_tagged_scan(query, &dirty, look_at_candidate, &look);
		if (look.found)
			ereport(ERROR,
					errcode(ES_ERRCODE_CONDITION_FAILED),
					errmsg("an event after position " INT64_FORMAT " matches the condition of the append",
						   query->after),
					errdetail("It is at position " INT64_FORMAT ", in stream \"%s\".",
							  look.position, look.stream),
					errhint("Read the events that the decision depends on again, decide again, and retry."));
		if (!TransactionIdIsValid(look.in_progress))
			return;
		XactLockTableWait(look.in_progress, NULL, NULL, XLTW_None);
	}
}

/*
 * es_append_if(events, after_position, types, tags): appends events as
 * es_append_many does, unless an event after after_position has one of the
 * types (NULL: any) and all the tags (NULL: any); returns the last position.
 *
 * VE011 if there is such an event.  An empty array only checks, and gives
 * NULL.  A retry of what is stored already returns its position, unchecked;
 * VE010 and VE001, as of es_append_many, go before VE011.
 * NULL events or after_position is 22004, a negative after_position, or a name that no
 * event can have, 22023.  Waits for transactions that have
 * written a matching event and not ended, for no others.
 */
Datum
es_append_if(PG_FUNCTION_ARGS)
{
	EsAppend	append = {.boundary = true};
	EsTagQuery	query;

	es_call_require(fcinfo, 0, "events");
	es_tagged_query_args(&query, fcinfo, 2, 3);
	query.after = es_call_position_arg(fcinfo, 1, "after_position");
	es_request_many_from_json(&append, PG_GETARG_JSONB_P(0));
	es_append_run(&append);
	if (append.count > 0 && append.events[0].stored)
		PG_RETURN_INT64(append.position);
	query.upto = append.count > 0 ? append.position : es_settle_last_given();
	check_condition(&query, append.count > 0 ? append.events[0].position : PG_INT64_MAX);
	if (append.count == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(append.position);
}
