/*
 * poll.c
 *		What a subscription delivers.
 *
 * A poll reads the log once, from the lowest position that any partition which
 * the member has, or may take, is acknowledged up to, as far as it is settled, and
 * delivers what belongs to those partitions.  A partition is taken only when an
 * event of it comes up: its lock, its newest row, and then it is this member's
 * until the lease ends.  What is locked by another transaction is passed over.
 *
 * A delivery says of each partition who has it, until when, and up to where it was
 * delivered: in its row, or, where that says who has it, in shared memory (lease.c).
 * A poll that finds nothing writes nothing, but now and then how far it has read for
 * nothing: a checkpoint moves on past what the filter, or other partitions, leave out.
 * That is done for partitions far behind, and for some more when there was nothing to
 * deliver.
 *
 * Waiting comes first, without a transaction id: only the look that finds
 * something takes leases.  A member that others do not know of yet, or that has
 * to give up partitions, does not wait, since both become visible at its commit.
 * Each look goes by the definition as it is, and a partition that turns out to be locked
 * under a newer one makes it begin again: no poll that ends after a change of the
 * filter delivers by the old one.
 *
 * es_poll_wait looks in the same way, and takes nothing: it is over where a poll
 * of that member, in any session, would find something.
 *
 * A lease that ends with deliveries open counts as a failed attempt of all of
 * them.  After max_attempts such leases the partition's next event is delivered
 * alone, so that it is known what the consumer dies of; the next time it is
 * parked.  An event that the server cannot send, or that an upcaster fails at, is passed
 * over, each time as a failed attempt, until it is parked.
 */
#include "base/base.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
#include "base/quiet.h"
#include "json/size.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "log/wait.h"
#include "read/log.h"
#include "shared/counter.h"
#include "subscription/failure.h"
#include "subscription/lease.h"
#include "subscription/member.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"
#include "type/renew.h"

#define Natts_delivery			(Natts_es_event + 2)
#define FAR_BEHIND				100 /* positions, worth a row written */
#define MOST_MOVES				64	/* rows written for nothing, a poll */

PG_FUNCTION_INFO_V1(es_poll);
PG_FUNCTION_INFO_V1(es_poll_wait);

/* ---- a look ---- */

/* What is known of a partition without having it. */
static void
begin_slice(EsPoll *poll, EsSlice *slice, const EsPartition *row)
{
	const EsPassed *passed = &poll->passed[row->partition];

	memset(slice, 0, sizeof(*slice));
	slice->row = *row;
	slice->available = es_lease_is_available(poll, row);
	slice->after = row->position;
	if (slice->after == passed->from && row->pending == 0 && row->parked + row->discarded == passed->parked)
		slice->after = passed->upto;
}

/*
 * Takes the definition as it is now, for a look, and sees to it that the user may still
 * read what it is of.  If that may be another one than the last look's, or there may have
 * been a rewind, nothing is known any more of what there is to deliver.
 */
static void
refresh_poll_definition(EsPoll *poll, EsWait *wait)
{
	MemoryContextReset(poll->context);
	MemoryContextSwitchTo(poll->context);
	poll->subscription = es_subscription_get_again(poll->name, poll->id);
	es_subscription_require_read(poll->subscription);
	if (poll->changes == poll->subscription->changes)
		return;
	poll->changes = poll->subscription->changes;
	wait->interest = poll->subscription->interest;
	for (int i = 0; i < poll->subscription->partitions; i++)
		poll->passed[i].from = -1;
}

/*
 * Finds out what a look begins with: what is settled, how far the partitions are, what the
 * member may do.
 */
static void
begin_poll_look(EsPoll *poll)
{
	EsPartition *rows;

	if (poll->result)
		es_renew_begin(&poll->renewer, poll->result);
	poll->settled = poll->scanned = es_settle_compute();
	poll->now = GetCurrentTimestamp();
	poll->again_at = DT_NOEND;
	poll->delivered = 0;
	poll->locked = poll->outdated = false;
	rows = es_partition_read_all(poll->subscription);
	es_member_share(poll->subscription, rows, poll->member, poll->now, &poll->share);
	poll->may_take = poll->share.may_take;
	poll->slices = palloc(sizeof(EsSlice) * poll->subscription->partitions);
	for (int i = 0; i < poll->subscription->partitions; i++)
		begin_slice(poll, &poll->slices[i], &rows[i]);
	es_lease_choose_released(poll);
}

/* ---- delivering ---- */

/* An event that is to be given its newest form. */
typedef struct Renewal
{
	const EsRenewer *renewer;
	EsEvent    *event;
} Renewal;

/* Gives an event its newest form, in a subtransaction. */
static void
renew_polled_event(void *arg)
{
	const Renewal *renewal = arg;

	es_renew_event(renewal->renewer, renewal->event);
}

/*
 * Gives an event its newest form; returns why that cannot be done, NULL if it is.  What
 * is not the event's fault, a missing function or right, or a lack of memory, is raised.
 */
static const char *
renew_or_explain(const EsPoll *poll, EsEvent *event)
{
	Renewal		renewal = {.renewer = &poll->renewer,.event = event};
	ErrorData  *error = es_quiet_try(renew_polled_event, &renewal);

	if (error == NULL)
		return NULL;
	if (error->sqlerrcode != ES_ERRCODE_HANDLER_FAILED && error->sqlerrcode != ES_ERRCODE_STORE_CORRUPT)
		ReThrowError(error);
	es_error_cut(error);
	ereport(WARNING,
			errcode(error->sqlerrcode),
			errmsg("could not deliver the event at position " INT64_FORMAT ": %s", event->position, error->message),
			error->detail ? errdetail_internal("%s", error->detail) : 0,
			error->context ? errcontext("%s", error->context) : 0);
	return error->sqlerrcode == ES_ERRCODE_STORE_CORRUPT ?
		psprintf("its protected fields cannot be decrypted: %s", error->message) :
		psprintf("it cannot be given its newest form: %s", error->message);
}

/*
 * Makes an event what is delivered of it.  Tells whether it can be; if not, why
 * (NULL: it is too long).
 */
static bool
prepare_delivery(const EsPoll *poll, EsEvent *event, const char **reason)
{
	*reason = es_renew_is_old(&poll->renewer, event) ? renew_or_explain(poll, event) : NULL;
	return *reason == NULL && es_jsonsize_judge_event(event->data, event->metadata, ES_MOST_SENT) == ES_TEXT_FITS;
}

/* Puts an event into the result. */
static void
deliver_event(EsPoll *poll, EsSlice *slice, const EsEvent *event, int attempts)
{
	Datum		values[Natts_delivery];
	bool		isnull[Natts_delivery];

	es_event_values(event, values, isnull);
	values[Natts_es_event] = Int32GetDatum(slice->row.partition);
	values[Natts_es_event + 1] = Int32GetDatum(attempts + 1);
	isnull[Natts_es_event] = isnull[Natts_es_event + 1] = false;
	tuplestore_putvalues(poll->result->setResult, poll->result->setDesc, values, isnull);
	poll->delivered++;
}

/* Marks a failure as delivered again. */
static void
mark_failure_delivered(EsSlice *slice, EsFailure *failure)
{
	EsFailure	changed = *failure;

	changed.delivered = true;
	es_failure_put(&slice->row, failure, &changed);
}

/* Tells whether an event is parked, for all that is known of its partition. */
static bool
is_event_parked(const EsSlice *slice, int64 position)
{
	const EsFailure *failure = es_failure_find(slice->failures, slice->nfailures, position);

	return failure && failure->parked_at != DT_NOBEGIN;
}

/*
 * Tells whether an event is one that a partition is to deliver, though its member
 * does not have it yet.  What is parked is no reason to take a partition, and
 * keep it locked.
 */
static bool
is_event_wanted(EsPoll *poll, EsSlice *slice, const EsEvent *event)
{
	MemoryContext old = MemoryContextSwitchTo(poll->context);
	bool		wanted;

	if (!slice->ours && slice->failures == NULL && slice->row.parked + slice->row.discarded > 0)
		es_lease_read_failures(slice);
	if (is_event_parked(slice, event->position))
		wanted = false;
	else if (poll->result == NULL)
		wanted = es_lease_could_take(poll, slice);
	else
		wanted = es_lease_take(poll, slice) && event->position > slice->row.position &&
			!(slice->count > 0 && es_lease_is_on_probation(poll, slice)) && !is_event_parked(slice, event->position);
	MemoryContextSwitchTo(old);
	return wanted;
}

/* Called for each event that passes the filter: whether this poll delivers it. */
static bool
wants_log_event(const EsEvent *event, void *arg)
{
	EsPoll	   *poll = arg;
	int			partition = es_subscription_partition_of(poll->subscription, DatumGetTextPP(event->stream));
	EsSlice    *slice = &poll->slices[partition];

	return slice->available && event->position > slice->after && is_event_wanted(poll, slice, event);
}

/* Called for each event that this poll delivers. */
static void
take_delivered_event(const EsEvent *event, void *arg)
{
	EsPoll	   *poll = arg;
	MemoryContext old = MemoryContextSwitchTo(poll->context);
	int			partition = es_subscription_partition_of(poll->subscription, DatumGetTextPP(event->stream));
	EsSlice    *slice = &poll->slices[partition];
	EsFailure  *failure = es_failure_find(slice->failures, slice->nfailures, event->position);
	int			attempts = failure ? failure->attempts : 0;
	EsEvent		newest = *event;
	const char *reason;

	if (poll->result == NULL)
		poll->delivered++;
	else if (!prepare_delivery(poll, &newest, &reason))
	{
		es_failure_count_undeliverable(&slice->row, failure, event->position, reason, poll->subscription->max_attempts);
		slice->failed = true;
	}
	else
	{
		if (event->position > slice->row.position)
		{
			slice->last = event->position;
			if (event->position <= slice->row.lapsed_upto)
				attempts += slice->row.lapses;
		}
		deliver_event(poll, slice, &newest, attempts);
		slice->count++;
		if (failure && !failure->delivered)
			mark_failure_delivered(slice, failure);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Called for an event that is to be delivered again: whether the subscription still is of
 * its category; who polls need not be allowed to read others.  Where that changes such
 * events are forgotten (alter.c), and es_replay_parked leaves them parked; but neither can
 * tell while an event's segment is not part of the log.  Then it comes here once it is, and
 * is parked, so that it is not lost.
 */
static bool
wants_failed_event(const EsEvent *event, void *arg)
{
	EsPoll	   *poll = arg;
	const text *stream = DatumGetTextPP(event->stream);
	EsSlice    *slice = &poll->slices[es_subscription_partition_of(poll->subscription, stream)];
	bool		wanted = es_subscription_is_of(poll->subscription, stream);

	if (!wanted && poll->result)
	{
		MemoryContext old = MemoryContextSwitchTo(poll->context);

		es_failure_park_misplaced(&slice->row, es_failure_find(slice->failures, slice->nfailures, event->position));
		slice->failed = true;
		MemoryContextSwitchTo(old);
	}
	return wanted;
}

/* Delivers what a partition has to deliver again of what it has been past. */
static void
deliver_failures_again(EsPoll *poll, EsSlice *slice)
{
	if (poll->result == NULL)
	{
		if (!es_lease_could_take(poll, slice))
			return;
		es_lease_read_failures(slice);
	}
	else if (!es_lease_take(poll, slice))
		return;
	for (int i = 0; i < slice->nfailures && poll->delivered < poll->max_count; i++)
	{
		const EsFailure *failure = &slice->failures[i];
		EsLogFilter filter = {.after = failure->position - 1,.upto = failure->position,.max_count = 1,
		.settled = poll->settled,.wants = wants_failed_event};

		CHECK_FOR_INTERRUPTS();
		if (failure->parked_at == DT_NOBEGIN && failure->position <= slice->row.position)
			(void) es_log_read(&filter, take_delivered_event, poll);
	}
}

/* Delivers what the log has. */
static void
deliver_log(EsPoll *poll)
{
	int64		after = poll->settled;
	EsLogFilter filter;

	for (int i = 0; i < poll->subscription->partitions; i++)
	{
		EsSlice    *slice = &poll->slices[i];

		if (slice->available && es_lease_may_have(poll, slice))
			after = Min(after, slice->after);
	}
	filter = es_subscription_filter(poll->subscription, after, poll->settled);
	if (poll->result)
		filter.max_count = poll->max_count - poll->delivered;
	filter.wants = wants_log_event;
	poll->scanned = after;
	if (after < poll->settled)
		poll->scanned = es_log_read(&filter, take_delivered_event, poll);
}

/* ---- writing ---- */

/*
 * Moves a partition on that has nothing to deliver up to where the log was read;
 * tells whether it did.
 */
static bool
move_partition_on(EsPoll *poll, EsSlice *slice)
{
	int64		position = slice->row.position;

	if (!slice->ours && (!es_lease_lock(poll, slice) || slice->row.position != position))
		return false;
	slice->row.position = Max(position, poll->scanned);
	slice->row.delivered_upto = Max(slice->row.delivered_upto, poll->scanned);
	slice->row.scanned_upto = Max(slice->row.scanned_upto, poll->scanned);
	slice->row.lapses = 0;
	es_failure_drop_passed(&slice->row);
	es_partition_write(&slice->row);
	return true;
}

/* Tells whether a partition has nothing to deliver up to where the log was read. */
static bool
was_partition_passed(const EsPoll *poll, const EsSlice *slice)
{
	return slice->available && slice->count == 0 && slice->row.position < poll->scanned &&
		es_lease_may_have(poll, slice);
}

/* Moves partitions on. */
static void
move_partitions_on(EsPoll *poll)
{
	int			left = MOST_MOVES;

	for (int i = 0; i < poll->subscription->partitions && left > 0; i++)
	{
		EsSlice    *slice = &poll->slices[i];
		int64		behind = poll->scanned - slice->row.position;

		if (was_partition_passed(poll, slice) && behind >= (poll->delivered > 0 ? FAR_BEHIND : 1))
			left -= move_partition_on(poll, slice);
	}
}

/* Remembers, for the next look, what this one has passed. */
static void
remember_passed_partitions(EsPoll *poll)
{
	for (int i = 0; i < poll->subscription->partitions; i++)
	{
		EsSlice    *slice = &poll->slices[i];

		if (was_partition_passed(poll, slice))
			poll->passed[i] = (EsPassed)
		{
			slice->row.position, poll->scanned, slice->row.parked + slice->row.discarded
		};
	}
}

/* Called for an event in another's way. */
static void
note_unsettled_event(const EsEvent *event, void *arg)
{
	*(bool *) arg = true;
}

/*
 * Tells whether an event that this subscription wants is committed, but not yet
 * settled: then whoever is in its way has to be waited for.  As long as there
 * is none, only news of its own matter, however many others are in flight.
 */
static bool
is_poll_hindered(const EsPoll *poll)
{
	EsLogFilter filter;
	bool		found = false;

	if (!es_settle_hindered())
		return false;
	filter = es_subscription_filter(poll->subscription, poll->settled, es_settle_last_given());
	(void) es_log_read(&filter, note_unsettled_event, &found);
	return found;
}

/* ---- the calls ---- */

/* Delivers what there is, as the definition is now. */
static void
deliver_events(EsPoll *poll)
{
	begin_poll_look(poll);
	for (int i = 0; i < poll->subscription->partitions; i++)
		if (poll->slices[i].available && poll->slices[i].row.pending > 0)
			deliver_failures_again(poll, &poll->slices[i]);
	deliver_log(poll);
	if (poll->result && poll->locked)
		es_lease_write_all(poll);
	remember_passed_partitions(poll);
}

/* One look: delivers what there is; tells whether there was something, or the poll cannot wait. */
static bool
look_for_events(EsWait *wait)
{
	EsPoll	   *poll = wait->arg;

	do
	{
		CHECK_FOR_INTERRUPTS();
		refresh_poll_definition(poll, wait);
		deliver_events(poll);
	} while (poll->outdated && !poll->locked);
	if (poll->delivered > 0 || (poll->result && (!poll->share.known || poll->share.must_release > 0 || poll->locked)))
		return true;
	wait->hindered = is_poll_hindered(poll);
	wait->again_at = poll->again_at;
	return false;
}

/* Sets out on a poll, or on finding out whether one would find something. */
static void
begin_poll(EsPoll *poll, const text *name, const text *member)
{
	int			partitions;

	poll->name = name;
	poll->member = member;
	poll->subscription = es_subscription_get(name);
	es_subscription_require_read(poll->subscription);
	poll->id = poll->subscription->id;
	poll->changes = poll->subscription->changes;
	partitions = poll->subscription->partitions;
	poll->passed = palloc0(sizeof(EsPassed) * partitions);
	for (int i = 0; i < partitions; i++)
		poll->passed[i].from = -1;
	poll->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore poll", ALLOCSET_DEFAULT_SIZES);
}

/* What a poll writes besides leases. */
static void
finish_poll(EsPoll *poll)
{
	MemoryContext old = MemoryContextSwitchTo(poll->context);

	move_partitions_on(poll);
	es_lease_release_all(poll);
	if (!poll->share.known || poll->share.alive_until - poll->now < poll->lease / 2)
		es_member_beat(poll->subscription, poll->member, poll->now + poll->lease);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(poll->context);
}

/* Fetches the argument that says how long a partition is a member's. */
static int64
lease_arg(FunctionCallInfo fcinfo, int argno)
{
	int64		lease = es_call_interval_arg(fcinfo, argno, "lease");

	if (lease == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"lease\" must be greater than zero"));
	return Min(lease, INT64CONST(3650) * USECS_PER_DAY);
}

/*
 * es_poll(subscription, max_count, wait, member, lease): what follows the last
 * acknowledgement, in the partitions that the member has or may take; the same
 * again until it is acknowledged.
 *
 * max_count NULL is unlimited, member NULL the member without a name.  If there
 * is nothing, waits for news, at most eventstore.max_wait.  Unknown: VE004;
 * other NULLs 22004; negative numbers, a lease of 0: 22023; 25006 on a standby.
 * Passes over what other transactions are busy with.  A rollback undoes leases.
 */
Datum
es_poll(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	EsPoll		poll = {.max_count = PG_INT64_MAX};
	EsWait		wait = {.look = look_for_events,.arg = &poll};
	text	   *member = es_subscription_member_arg(fcinfo, 3);
	instr_time	start;

	es_counter_start(&start);
	if (!PG_ARGISNULL(1))
		poll.max_count = es_call_not_negative(PG_GETARG_INT32(1), "max_count");
	wait.timeout = es_wait_cap(es_call_interval_arg(fcinfo, 2, "wait"));
	poll.lease = lease_arg(fcinfo, 4);
	es_subscriber_prevent_write("es_poll()");
	begin_poll(&poll, name, member);
	poll.result = es_subscription_begin_delivery(fcinfo);
	if (poll.max_count == 0)
		return (Datum) 0;
	wait.interest = poll.subscription->interest;
	(void) es_wait_until(&wait);
	finish_poll(&poll);
	es_counter_add(ES_COUNT_POLLS, 1);
	es_counter_add(ES_COUNT_EVENTS_DELIVERED, poll.delivered);
	es_counter_note(ES_TIME_POLL, es_counter_elapsed(&start) - wait.slept);
	return (Datum) 0;
}

/* Copies an argument of a procedure, whose memory outlives the transaction that it ends. */
static text *
copy_text_arg(const text *arg)
{
	return memcpy(palloc(VARSIZE_ANY(arg)), arg, VARSIZE_ANY(arg));
}

/*
 * es_poll_wait(subscription, timeout, INOUT ready, member): waits for something to
 * poll without snapshot and transaction id, as long as told.
 *
 * ready becomes whether es_poll has something for the member: what it would deliver,
 * or what others have of the member's share, since they have not heard of it for long.
 * member NULL is the one without a name.  Nothing depends on what the session did
 * before.  Ends the transaction it was called in; inside a transaction block it waits
 * at most eventstore.max_wait.  Writes nothing, so it waits on a standby and on a logical
 * subscriber as well; other errors as es_poll.
 */
Datum
es_poll_wait(PG_FUNCTION_ARGS)
{
	text	   *name = copy_text_arg(es_subscription_name_arg(fcinfo, 0));
	int64		timeout = es_call_interval_arg(fcinfo, 1, "timeout");
	text	   *member = copy_text_arg(es_subscription_member_arg(fcinfo, 3));
	EsPoll		poll = {.max_count = 1};
	EsWait		wait = {.look = look_for_events,.arg = &poll};
	bool		ready;

	wait.detached = es_wait_detach(fcinfo);
	wait.timeout = wait.detached ? timeout : es_wait_cap(timeout);
	begin_poll(&poll, name, member);
	wait.interest = poll.subscription->interest;
	ready = es_wait_until(&wait);
	MemoryContextDelete(poll.context);
	es_wait_attach(wait.detached);
	return es_call_result_row(fcinfo, BoolGetDatum(ready));
}
