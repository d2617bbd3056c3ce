/*
 * parked.c
 *		Events that were given up on: looked at, delivered again after all, or let go.
 *
 * A parked event is a row of eventstore.subscription_failures with a time (failure.c).
 * It is looked at without a lock.  Whoever changes something takes the partition's lock
 * first, or those of all partitions, and waits for it.
 */
#include "base/base.h"

#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/call.h"
#include "base/names.h"
#include "log/subscriber.h"
#include "read/find.h"
#include "shared/wake.h"
#include "subscription/failure.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"

#define Natts_parked		8

PG_FUNCTION_INFO_V1(es_parked);
PG_FUNCTION_INFO_V1(es_replay_parked);
PG_FUNCTION_INFO_V1(es_discard_parked);

/*
 * Puts a parked event into the result, if the user may read it: it may be of a category
 * that the subscription is not of any more.  Of one that is not there to be found the
 * category is not known, but the reason may tell of it: that is for who may read all.
 */
static void
return_parked_event(ReturnSetInfo *result, int partition, const EsFailure *failure)
{
	Datum		values[Natts_parked];
	bool		isnull[Natts_parked] = {false};
	static const EsNames all = {0};
	EsEventName name = {0};
	bool		found = es_find_name(failure->position, &name);
	bool		tells_reason = failure->reason && (found || es_right_has_all(ES_RIGHT_READ, &all));
	int			i = 0;

	if (found && !es_right_has_on_stream(ES_RIGHT_READ, name.stream))
		return;
	values[i++] = Int64GetDatum(failure->position);
	values[i++] = Int32GetDatum(partition);
	values[i++] = Int32GetDatum(failure->attempts);
	isnull[i] = !tells_reason;
	values[i++] = PointerGetDatum(failure->reason);
	values[i++] = TimestampTzGetDatum(failure->parked_at);
	isnull[i] = isnull[i + 1] = isnull[i + 2] = !found;
	values[i++] = PointerGetDatum(name.stream);
	values[i++] = Int64GetDatum(name.version);
	values[i++] = PointerGetDatum(name.type);
	Assert(i == Natts_parked);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * es_parked(subscription): the events that were given up on, by partition and
 * position, with how often they failed, the last reason, when they were parked, and
 * their names.  Where an event is in a segment that is not part of the log these are NULLs,
 * as is the reason but for who may read all.
 *
 * Unknown: VE004; without 'read' on its categories: 42501.
 */
Datum
es_parked(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	const EsSubscription *subscription = es_subscription_get(name);
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);
	int			partitions = subscription->partitions;
	EsPartition *rows;

	es_subscription_require_read(subscription);
	rows = es_partition_read_all(subscription);
	for (int i = 0; i < partitions; i++)
	{
		EsFailure  *failures;
		int			count = rows[i].parked == 0 ? 0 : es_failure_read(&rows[i], 0, &failures);

		for (int k = 0; k < count; k++)
		{
			CHECK_FOR_INTERRUPTS();
			if (es_failure_is_parked(&failures[k]))
				return_parked_event(result, i, &failures[k]);
		}
	}
	return (Datum) 0;
}

/*
 * Tells whether a parked event may be delivered again, which then is delivered whatever
 * types and query say.  Whoever polls may read what the subscription is of, and need not be
 * allowed to read more.  Of one that is not there the poll finds out (poll.c).
 */
static bool
may_replay_parked(const EsSubscription *subscription, int64 position, MemoryContext scratch)
{
	MemoryContext old = MemoryContextSwitchTo(scratch);
	EsEventName name = {0};
	bool		may = !es_find_name(position, &name) || es_subscription_is_of(subscription, name.stream);

	MemoryContextSwitchTo(old);
	MemoryContextReset(scratch);
	return may;
}

/* Ends the parking of a partition's events, one or all (0), and tells of how many. */
static int64
replay_parked_events(const EsSubscription *subscription, EsPartition *row, int64 position)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore replay of parked", ALLOCSET_SMALL_SIZES);
	EsFailure  *failures;
	int			count = row->parked == 0 ? 0 : es_failure_read(row, Max(position - 1, 0), &failures);
	int64		replayed = 0;

	for (int i = 0; i < count && (position == 0 || failures[i].position == position); i++)
	{
		EsFailure	changed = failures[i];

		CHECK_FOR_INTERRUPTS();
		if (!es_failure_is_parked(&changed) || !may_replay_parked(subscription, changed.position, scratch))
			continue;
		changed.parked_at = DT_NOBEGIN;
		changed.attempts = 0;
		changed.delivered = false;
		es_failure_put(row, &failures[i], &changed);
		replayed++;
	}
	if (replayed > 0)
		es_partition_write(row);
	MemoryContextDelete(scratch);
	return replayed;
}

/*
 * es_replay_parked(subscription, position): has a parked event, or all (NULL),
 * delivered again, as if for the first time, and returns how many they are.  One of a
 * category that the subscription is not of stays parked.
 *
 * Unknown: VE004; without 'read' on its categories: 42501.  A position that is not
 * parked gives 0, a negative one is 22023.  Waits for transactions that poll or
 * acknowledge in the subscription.
 */
Datum
es_replay_parked(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	int64		position = PG_ARGISNULL(1) ? 0 : es_call_position_arg(fcinfo, 1, "position");
	const EsSubscription *subscription;
	EsPartition row;
	int64		replayed = 0;

	es_subscriber_prevent_write("es_replay_parked()");
	subscription = es_subscription_get(name);
	es_subscription_require_read(subscription);
	if (!PG_ARGISNULL(1) && position == 0)
		PG_RETURN_INT64(0);
	subscription = es_partition_lock_definition(subscription);
	es_subscription_require_read(subscription);
	for (int i = 0; i < subscription->partitions; i++)
	{
		es_partition_read(subscription, i, &row);
		replayed += replay_parked_events(subscription, &row, position);
	}
	if (replayed > 0)
		es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, subscription->id));
	PG_RETURN_INT64(replayed);
}

/* Finds the partition in which an event is parked; -1 if it is not. */
static int
find_parking_partition(const EsSubscription *subscription, int64 position)
{
	EsPartition *rows = es_partition_read_all(subscription);

	for (int i = 0; i < subscription->partitions; i++)
	{
		EsFailure  *failures;
		EsFailure  *failure;
		int			count = rows[i].parked == 0 ? 0 : es_failure_read(&rows[i], position - 1, &failures);

		failure = count == 0 ? NULL : es_failure_find(failures, count, position);
		if (failure && es_failure_is_parked(failure))
			return i;
	}
	return -1;
}

/*
 * Lets go of an event that was parked in a partition; false if it is not any more.  One
 * that the partition has not passed yet is kept in mind until then.
 */
static bool
discard_parked_event(const EsSubscription *subscription, int partition, int64 position)
{
	EsPartition row;
	EsFailure  *failures;
	EsFailure  *failure;
	EsFailure	discarded;
	int			count;

	(void) es_partition_lock(subscription->id, partition, true);
	subscription = es_subscription_get_again(subscription->name, subscription->id);
	es_subscription_require_manager(subscription);
	es_partition_read(subscription, partition, &row);
	count = row.parked == 0 ? 0 : es_failure_read(&row, position - 1, &failures);
	failure = count == 0 ? NULL : es_failure_find(failures, count, position);
	if (failure == NULL || !es_failure_is_parked(failure))
		return false;
	discarded = *failure;
	discarded.parked_at = DT_NOEND;
	if (position <= row.position)
		es_failure_take_away(&row, failure);
	else
		es_failure_put(&row, failure, &discarded);
	es_partition_write(&row);
	return true;
}

/*
 * es_discard_parked(subscription, position): lets go of a parked event, which is then
 * never delivered again, unless the subscription is rewound.
 *
 * For its creator and an 'admin' of its categories, else 42501.  NULLs are 22004;
 * unknown: VE004; where nothing is parked: 55000.  Waits for transactions that poll or
 * acknowledge in the event's partition; a rollback undoes it.
 */
Datum
es_discard_parked(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	const EsSubscription *subscription;
	int64		position;
	int			partition;

	position = es_call_position_arg(fcinfo, 1, "position");
	es_subscriber_prevent_write("es_discard_parked()");
	subscription = es_subscription_get(name);
	es_subscription_require_manager(subscription);
	partition = position == 0 ? -1 : find_parking_partition(subscription, position);
	if (partition < 0 || !discard_parked_event(subscription, partition, position))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("no event at position " INT64_FORMAT " of subscription \"%s\" is parked",
					   position, text_to_cstring(name)),
				errhint("The function es_parked lists the events that are."));
	PG_RETURN_VOID();
}
