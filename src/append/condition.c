/*
 * condition.c
 *		Dynamic consistency boundaries: appends that depend on what else was
 *		appended.
 *
 * es_append_if writes its events first and looks afterwards.  Its positions are
 * taken by then, so the log's order decides between calls that exclude each
 * other: each looks for matching events below its own first position.
 *
 *	- Committed: the condition fails.
 *	- Written by a transaction in progress, seen with a dirty snapshot: wait for
 *	  that transaction, look again.  Other transactions in progress, whatever
 *	  they appended, do not matter.
 *	- Position taken, row not yet written: its appender holds a short lock.  So
 *	  wait first until those who hold short locks now have given them back, which
 *	  takes microseconds; but not for those who say that their events have other tags
 *	  than are asked for.
 *
 * A call takes its positions at once, so they follow each other, no event of others is
 * among them, and calls only ever wait downwards: conditions alone never deadlock.
 * Plain appends take no part in any of this.
 *
 * Most conditions hold, and by tags that shows at the leaf of the index where the call's
 * own entry has just been put; if it does not, the positions in between are gone over.
 *
 * Where many decide on the same, most write in vain.  So a session whose last call has
 * failed looks before it writes, too: it waits for who is ahead of it, and what has
 * lost by then is not written.  That it is refused for another reason, or was stored
 * before, goes first all the same.
 *
 * A condition is about the categories that the caller may read or append to: of other events
 * it tells nothing.
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
#include "base/names.h"
#include "json/match.h"
#include "log/durable.h"
#include "log/settle.h"
#include "read/query.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "shared/flight.h"
#include "stream/lock.h"
#include "table/rows.h"
#include "table/table.h"

PG_FUNCTION_INFO_V1(es_append_if);

static bool lost = false;		/* the last call here that appended */

/* A condition of an append: no event that a query asks for, after a position. */
typedef struct Condition
{
	const EsQuery *query;
	int64		after;
	int64		upto;
	int64		own_from;		/* positions of this call's own events begin
								 * here */
} Condition;

/* A look for events that match. */
typedef struct Look
{
	const Condition *condition;
	SnapshotData dirty;
	TransactionId in_progress;	/* wrote a matching event */
	bool		found;
	int64		position;		/* of the committed, or own, match */
	char	   *stream;
} Look;

/* Looks at an event that matches. */
static bool
look_at_match(TupleTableSlot *slot, const EsEvent *event, void *arg)
{
	Look	   *look = arg;

	if (!es_right_has_on_stream(ES_RIGHT_READ | ES_RIGHT_APPEND, DatumGetTextPP(event->stream)))
		return true;
	if (TransactionIdIsValid(look->dirty.xmin))
	{
		look->in_progress = look->dirty.xmin;
		return false;
	}
	if (event->position >= look->condition->own_from &&
		TransactionIdIsCurrentTransactionId(es_rows_slot_xmin(slot)))
		return true;			/* of this call */
	look->found = true;
	look->position = event->position;
	look->stream = text_to_cstring(DatumGetTextPP(event->stream));
	return false;
}

/* Raises VE011 for a condition that a look has shown not to hold. */
ES_NORETURN static void
refuse_stale_decision(const Look *look)
{
	lost = true;
	es_durable_flush_seen();
	es_counter_add(ES_COUNT_REFUSED_CONDITION, 1);
	ereport(ERROR,
			errcode(ES_ERRCODE_CONDITION_FAILED),
			errmsg("an event after position " INT64_FORMAT " matches the condition of the append",
				   look->condition->after),
			errdetail("It is at position " INT64_FORMAT ", in stream \"%s\".", look->position, look->stream),
			errhint("Read the events that the decision depends on again, decide again, and retry."));
}

/*
 * Looks for an event that matches; waits for transactions that decide it. False if
 * there is none.
 */
static bool
find_match(const Condition *condition, Look *look)
{
	EsQuestion	question = {.query = condition->query};

	memset(look, 0, sizeof(*look));
	look->condition = condition;
	while (condition->after < condition->upto)
	{
		Snapshot	dirty = &look->dirty;
		EsQueryRange range = {.after = condition->after,.upto = condition->upto,.snapshot = &dirty};

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(look->dirty);
		look->in_progress = InvalidTransactionId;
		es_query_each(&question, range, look_at_match, look);
		if (!TransactionIdIsValid(look->in_progress))
			break;
		es_streamlock_await(look->in_progress);
	}
	return look->found;
}

/*
 * Raises VE011 if an event matches that comes before the call's own, or has come when
 * it only checks.  A segment may be open for writing.
 */
static void
check_condition(const Condition *condition, EsTable *open)
{
	EsFlightTags tags;
	Look		look;

	if (condition->after >= condition->upto)
		return;
	tags.count = condition->query->count;
	es_streamlock_await_writers(condition->upto + 1,
								es_match_tag_sets(condition->query, ES_FLIGHT_MOST_SETS, tags.sets) ? &tags : NULL);
	if (open && es_query_is_ruled_out(condition->query, open, condition->after, condition->upto))
		return;
	if (find_match(condition, &look))
		refuse_stale_decision(&look);
}

/* Looks at the condition of a call that has written its events, or has none. */
static void
check_condition_of_append(const EsAppend *append, EsTable *open)
{
	Condition  *condition = append->check_arg;

	if (append->held_back || (append->count > 0 && append->events[0].stored))
		return;
	if (append->count > 0)
	{
		condition->own_from = append->events[0].position;
		condition->upto = condition->own_from - 1;
	}
	else
		condition->upto = es_settle_last_given();
	check_condition(condition, open);
}

/* Takes what must not have happened: a query, or types and tags. */
static const EsQuery *
condition_args(FunctionCallInfo fcinfo)
{
	EsNames		types = es_names_arg(fcinfo, 2, ES_NAME_TYPE, "types");
	EsNames		tags = es_names_arg(fcinfo, 3, ES_NAME_TAG, "tags");

	if (PG_ARGISNULL(4))
		return es_match_query_of(&types, &tags);
	if (types.set || tags.set)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a condition is given by types and tags or by a query, not by both"));
	return es_match_query_arg(fcinfo, 4);
}

/*
 * es_append_if(events, after_position, types, tags, query): appends events as
 * es_append_many does, unless an event after after_position has one of the types (NULL:
 * any) and all the tags (NULL: any), or matches the query (see es_read_query); returns
 * the last position.
 *
 * VE011 if there is such an event.  An empty array only checks, and gives
 * NULL.  A retry of what is stored already returns its position, unchecked;
 * VE010 and VE001, as of es_append_many, go before VE011.
 * NULL events or after_position is 22004; a negative after_position, a name that no
 * event can have, what is no query, and a query beside types or tags, 22023.  "last" in
 * the query makes no difference here.  42501 without 'append' on the streams' categories; what
 * counts is events of categories that the caller may read or append to.  Waits for transactions
 * that have written a matching event and not ended, for no others.
 */
Datum
es_append_if(PG_FUNCTION_ARGS)
{
	EsAppend	append = {.in_one_block = true,.check = check_condition_of_append};
	Condition	condition = {.own_from = PG_INT64_MAX};
	Look		look;

	es_call_require(fcinfo, 0, "events");
	condition.query = condition_args(fcinfo);
	condition.after = es_call_position_arg(fcinfo, 1, "after_position");
	es_request_many_from_json(&append, PG_GETARG_JSONB_P(0));
	es_append_require_rights(&append);
	es_right_require_any(ES_RIGHT_READ | ES_RIGHT_APPEND);
	if (append.count > 0 && lost)
	{
		condition.upto = es_settle_last_given();
		append.hold_back = find_match(&condition, &look);
	}
	append.check_arg = &condition;
	es_append_run(&append);
	if (append.held_back)
		refuse_stale_decision(&look);
	if (append.count > 0 && append.events[0].stored)
		PG_RETURN_INT64(append.position);
	es_counter_add(ES_COUNT_CONDITIONAL_APPENDS, 1);
	if (append.count == 0)
		PG_RETURN_NULL();
	lost = false;
	PG_RETURN_INT64(append.position);
}
