/*
 * append.c
 *		es_append and its kin: what happens in an append, in its order.
 *
 * es_append_run is the one way into the log; the view es_events (view.c) and
 * conditional appends (condition.c) come through it, too.
 */
#include "append/append.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"

#include "append/attempt.h"
#include "append/batchtext.h"
#include "append/conceal.h"
#include "append/eventrow.h"
#include "append/retry.h"
#include "append/typing.h"
#include "base/call.h"
#include "base/event.h"
#include "base/pending.h"
#include "base/uuid7.h"
#include "log/durable.h"
#include "log/earlyrelease.h"
#include "log/subscriber.h"
#include "log/timeline.h"
#include "projection/inline.h"
#include "projection/projection.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "stream/lock.h"

PG_FUNCTION_INFO_V1(es_append);
PG_FUNCTION_INFO_V1(es_try_append);
PG_FUNCTION_INFO_V1(es_append_batch);
PG_FUNCTION_INFO_V1(es_append_json);
PG_FUNCTION_INFO_V1(es_append_events);
PG_FUNCTION_INFO_V1(es_append_many);
PG_FUNCTION_INFO_V1(es_last_position);

/* Raises unless this session may write now. */
static void
check_may_write(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot append events during recovery"),
				errhint("Append on the primary server."));
	es_subscriber_prevent_write("append of events");
	PreventCommandIfParallelMode("append of events");
}

/*
 * Raises unless this session may append now, and takes the lock that appends keep to
 * their transaction's end.  What others have committed up to here is known from then
 * on: a lock takes that in, unless the transaction has it already.
 */
static void
enter_append(void)
{
	static TimestampTz entered_in = 0;
	TimestampTz transaction = GetCurrentTransactionStartTimestamp();

	check_may_write();
	es_pending_flush();
	es_timeline_check();
	es_streamlock_lock_table();
	if (transaction == entered_in)
		AcceptInvalidationMessages();
	entered_in = transaction;
}

/* Gives ids to events that have none; raises 22023 if an id comes twice in a stream. */
static void
complete_event_ids(EsAppend *append)
{
	for (int i = 0; i < append->count; i++)
		if (!append->events[i].id_given)
			es_uuid7_make(&append->events[i].id);
	for (int i = 0; i < append->ntargets; i++)
		es_retry_check_distinct(&append->targets[i]);
}

/* Takes what is newly stored into the inline projections. */
static void
project_appended_events(const EsAppend *append)
{
	EsEvent    *events = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsEvent) * append->count);
	int			count = es_eventrow_stored(append, events);

	if (count > 0)
		es_inline_take(events, count);
	pfree(events);
}

/*
 * es_append_require_rights raises 42501 unless the current user may append to all the streams
 * of a call, or, if it deletes one, may do that.
 */
void
es_append_require_rights(EsAppend *append)
{
	for (int i = 0; i < append->ntargets; i++)
		es_right_require_stream(append->deletes ? ES_RIGHT_ADMIN : ES_RIGHT_APPEND, append->targets[i].stream);
	append->may = true;
}

/* Counts a call, begun at a time, that has gone well, or was stored before. */
static void
count_append(const EsAppend *append, bool stored, const instr_time *start)
{
	es_counter_add(ES_COUNT_APPENDS, 1);
	if (unlikely(stored))
		es_counter_add(ES_COUNT_APPEND_RETRIES, 1);
	es_counter_note(ES_SIZE_APPEND, append->count);
	es_counter_note_time(ES_TIME_APPEND, start);
}

/*
 * All was stored by an attempt before, and is acknowledged now.  That attempt may still wait
 * for the disk, or have been cut off while it waited for a synchronous standby: then it is
 * visible here, and perhaps not there.  So this transaction's commit waits in its place, unless
 * it is an asynchronous one, which waits for its own events neither: the server has a commit wait
 * that has an xid and has written WAL.
 */
static void
wait_in_its_place(void)
{
	int			nothing = 0;

	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF || (es_durable_all() && !es_durable_awaits_standby()))
		return;
	(void) GetCurrentTransactionId();
	XLogBeginInsert();
	XLogRegisterData((char *) &nothing, sizeof(nothing));
	(void) XLogInsert(RM_XLOG_ID, XLOG_NOOP);
}

/*
 * es_append_run appends events, or raises.  The caller has checked names and
 * values.  Where it only tells what others have stored, that is on disk.
 */
void
es_append_run(EsAppend *append)
{
	EsOwnWrites writes;
	instr_time	start;
	bool		stored;

	es_counter_start(&start);
	if (!append->may)
		es_append_require_rights(append);
	enter_append();
	complete_event_ids(append);
	es_typing_judge_all(append);
	es_conceal_all(append);
	writes = es_earlyrelease_begin();
	es_attempt_run(append);
	stored = es_request_was_stored(append);
	if (unlikely(stored))
		wait_in_its_place();
	es_earlyrelease_end(writes);
	if (append->count == 0 || append->held_back)
	{
		es_durable_flush_seen();	/* nothing is written, only told */
		return;
	}
	if (unlikely(es_projection_any_inline()))
		project_appended_events(append);
	count_append(append, stored, &start);
}

/* Makes a call of the arguments of es_append, and runs it. */
static void
append_event_arguments(FunctionCallInfo fcinfo, EsAppend *append)
{
	EsTarget   *target = append->targets;
	EsNewEvent *event = append->events;

	target->stream = es_call_stream_arg(fcinfo, 0);
	es_call_require(fcinfo, 1, "type");
	es_call_require(fcinfo, 2, "data");
	es_request_take(event, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_ARGISNULL(3) ? NULL : &fcinfo->args[3].value,
					PG_ARGISNULL(5) ? NULL : &fcinfo->args[5].value);
	es_request_expectation(target, fcinfo, 4);
	if (!PG_ARGISNULL(6))
		es_request_type_version(event, PG_GETARG_INT32(6));
	es_request_check_event(event, target->stream, 0);
	es_request_add_event(target, event);
	es_append_run(append);
}

/*
 * es_append(stream, type, data, metadata, expected_version, event_id,
 * type_version): appends one event and returns its version.
 *
 * For who has 'append' on the stream's category, else 42501, and nothing is looked at.
 * NULL stream, type or data is 22004, NULL metadata {}, NULL event_id a new UUIDv7, NULL
 * expected_version any, NULL type_version the newest.  Bad names, metadata that is no
 * object, a version that the type does not have: 22023; too large: 54000.  VE003 if the
 * stream is deleted, VE010 if the id is stored but not as given, VE001 if the stream is
 * not as expected.  Waits for a transaction that has appended to the stream and not
 * ended.  A rollback takes the event back; its position stays empty.
 */
Datum
es_append(PG_FUNCTION_ARGS)
{
	EsNewEvent	event = {0};
	EsTarget	target = {0};
	EsAppend	append = {.targets = &target,.ntargets = 1,.events = &event,.count = 1};

	append_event_arguments(fcinfo, &append);
	PG_RETURN_INT64(target.version);
}

/*
 * es_try_append(stream, type, data, metadata, expected_version, event_id, type_version): as
 * es_append, but says what has become of it where that would raise VE001 or VE010.
 *
 * 'appended' and the event's version; 'stored' and the version of the stream's event with this
 * id, which goes first, whatever it contains; 'conflict' and the stream's version, which is not
 * the expected one.  The last two store nothing and take no position, and no subtransaction is
 * needed to go on after them.  All else is as for es_append.
 */
Datum
es_try_append(PG_FUNCTION_ARGS)
{
	EsNewEvent	event = {0};
	EsTarget	target = {.tries = true};
	EsAppend	append = {.targets = &target,.ntargets = 1,.events = &event,.count = 1};
	bool		isnull[2] = {false, false};
	Datum		values[2];

	append_event_arguments(fcinfo, &append);
	if (append.held_back)
		es_counter_add(ES_COUNT_REFUSED_VERSION, 1);
	if (event.stored)
		es_durable_flush_seen();	/* it may be the event of anybody */
	values[0] = CStringGetTextDatum(event.stored ? "stored" : append.held_back ? "conflict" : "appended");
	values[1] = Int64GetDatum(target.version);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(es_call_result_desc(fcinfo), values, isnull)));
}

/* Appends the events that a function takes from argument 1. */
static Datum
append_events_argument(FunctionCallInfo fcinfo, void (*take) (EsAppend *, EsTarget *, Datum))
{
	EsTarget	target = {0};
	EsAppend	append = {.targets = &target,.ntargets = 1};

	target.stream = es_call_stream_arg(fcinfo, 0);
	es_call_require(fcinfo, 1, "events");
	es_request_expectation(&target, fcinfo, 2);
	take(&append, &target, PG_GETARG_DATUM(1));
	es_append_run(&append);
	PG_RETURN_INT64(target.version);
}

/*
 * es_append_batch(stream, events, expected_version): appends a JSON array of
 * {"type", "data"?, "metadata"?, "event_id"?, "type_version"?}, all or nothing, contiguous in
 * version, and returns the last version.
 *
 * An empty array checks the expectation and returns the stream's version.
 * Anything but such an array is 22023; the rest is as for es_append.
 */
Datum
es_append_batch(PG_FUNCTION_ARGS)
{
	return append_events_argument(fcinfo, es_request_from_json);
}

/*
 * es_append_json(stream, events, expected_version): es_append_batch for the array's
 * text, which becomes events without a jsonb of all.
 *
 * Refuses what jsonb's input function refuses, as that does (22P02, 22P05 and others),
 * before anything else about the array.  A text can have more in all than a jsonb.
 */
Datum
es_append_json(PG_FUNCTION_ARGS)
{
	return append_events_argument(fcinfo, es_batchtext_take);
}

/*
 * es_append_events(stream, events, expected_version): es_append_batch for an
 * es_new_event[].  NULL elements, and elements without type or data, are 22004.
 */
Datum
es_append_events(PG_FUNCTION_ARGS)
{
	return append_events_argument(fcinfo, es_request_from_array);
}

/*
 * es_append_many(events): appends events to many streams, all or nothing, in
 * the given order, and returns a row for each.
 *
 * An element without "type" only checks its stream's expected_version, and
 * gives no row.  VE001 lists every stream that is not as expected in its
 * DETAIL, a JSON array; VE010, which goes before it, every one whose ids are
 * stored but not as given.  NULL is 22004, what is no such array 22023.  Two such
 * calls never deadlock each other, whatever the order of their streams.
 */
Datum
es_append_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EsAppend	append = {0};

	es_call_require(fcinfo, 0, "events");
	es_request_many_from_json(&append, PG_GETARG_JSONB_P(0));
	(void) es_call_begin_rows(fcinfo);
	es_append_run(&append);
	for (int i = 0; i < append.count; i++)
	{
		const EsNewEvent *event = &append.events[i];
		Datum		values[3];
		bool		isnull[3] = {false, false, false};

		values[0] = PointerGetDatum(event->target->stream);
		values[1] = Int64GetDatum(event->version);
		values[2] = Int64GetDatum(event->position);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * es_last_position(): the position of the last event that this session
 * appended, or of the stored one after an idempotent retry.
 *
 * NULL before the first.  Like lastval(), a rollback does not undo it.
 */
Datum
es_last_position(PG_FUNCTION_ARGS)
{
	es_pending_flush();
	if (es_attempt_last_position == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(es_attempt_last_position);
}
