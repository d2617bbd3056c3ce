/*
 * alter.c
 *		Changing what a subscription is of.
 *
 * Another filter counts from the checkpoints on.  Whoever changes it has the locks of
 * all partitions, so no poll and no acknowledgement is under way meanwhile, and the next
 * ones have the new filter (subscription.c).
 *
 * What members have been delivered and have not acknowledged they may still
 * acknowledge.  But an acknowledgement also passes over what lies between, and there may
 * be events that only the new filter lets through: where there is one, the member loses
 * the partition, as by es_rewind, and all is delivered anew from the checkpoint on.
 *
 * Events to be delivered again that do not pass any more are forgotten.  Parked ones
 * stay: they are there for people to look at.
 */
#include "base/base.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/event.h"
#include "base/names.h"
#include "json/match.h"
#include "read/find.h"
#include "read/log.h"
#include "shared/wake.h"
#include "subscription/failure.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"

PG_FUNCTION_INFO_V1(es_alter_subscription);

/* A change of a filter; the partitions are locked. */
typedef struct FilterChange
{
	const EsSubscription *before;
	const EsSubscription *after;
	EsPartition *rows;
	bool	   *fenced;			/* by partition */
	MemoryContext context;		/* for a look at one event */
} FilterChange;

/* Tells whether an event is among those delivered and not acknowledged, but only passes by now. */
static bool
appears_among_delivered(const EsEvent *event, void *arg)
{
	FilterChange *change = arg;
	int			partition = es_subscription_partition_of(change->after, DatumGetTextPP(event->stream));
	const EsPartition *row = &change->rows[partition];
	MemoryContext old;
	bool		passed;

	if (change->fenced[partition] || event->position <= row->position ||
		(event->position > row->delivered_upto && !row->unsure))
		return false;
	old = MemoryContextSwitchTo(change->context);
	passed = es_subscription_passes(change->before, event);
	MemoryContextSwitchTo(old);
	MemoryContextReset(change->context);
	return !passed;
}

/* Notes the partition of such an event. */
static void
note_fenced_partition(const EsEvent *event, void *arg)
{
	FilterChange *change = arg;

	change->fenced[es_subscription_partition_of(change->after, DatumGetTextPP(event->stream))] = true;
}

/* Finds out of which partitions members would acknowledge what they were not delivered. */
static void
find_fenced_partitions(FilterChange *change)
{
	int64		after = PG_INT64_MAX;
	int64		upto = 0;
	EsLogFilter filter;
	int			open = 0;

	for (int i = 0; i < change->after->partitions; i++)
	{
		const EsPartition *row = &change->rows[i];
		int64		last = es_partition_delivered_at_most(row);

		if (row->member == NULL || row->position >= last)
			continue;
		after = Min(after, row->position);
		upto = Max(upto, last);
		open++;
	}
	if (open == 0 || !(change->before->categories.set || change->before->types.set || change->before->query))
		return;
	filter = es_subscription_filter(change->after, after, upto);
	filter.max_count = open;
	filter.wants = appears_among_delivered;
	(void) es_log_read(&filter, note_fenced_partition, change);
}

/* Notes that there is an event that passes. */
static void
note_passing_event(const EsEvent *event, void *arg)
{
	*(bool *) arg = true;
}

/* Tells whether an event that is to be delivered again passes, for all that is known of it. */
static bool
failure_passes(const FilterChange *change, const EsFailure *failure)
{
	MemoryContext old = MemoryContextSwitchTo(change->context);
	EsLogFilter filter = es_subscription_filter(change->after, failure->position - 1, failure->position);
	EsEventName name;
	bool		passes = !es_find_name(failure->position, &name);

	if (!passes)
		(void) es_log_read(&filter, note_passing_event, &passes);
	MemoryContextSwitchTo(old);
	MemoryContextReset(change->context);
	return passes;
}

/* Forgets the events of a partition that were to be delivered again, if they do not pass. */
static void
forget_failures_left_out(const FilterChange *change, EsPartition *row)
{
	EsFailure  *failures;
	int			count = row->pending == 0 ? 0 : es_failure_read(row, 0, &failures);

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (failures[i].parked_at == DT_NOBEGIN && !failure_passes(change, &failures[i]))
			es_failure_take_away(row, &failures[i]);
	}
}

/* Has the partitions of a subscription go on by another filter. */
static void
change_filter(const EsSubscription *before, const EsSubscription *after)
{
	FilterChange change = {.before = before,.after = after};

	change.rows = es_partition_read_all(after);
	change.fenced = palloc0(sizeof(bool) * after->partitions);
	change.context = AllocSetContextCreate(CurrentMemoryContext, "eventstore filter change", ALLOCSET_SMALL_SIZES);
	find_fenced_partitions(&change);
	for (int i = 0; i < after->partitions; i++)
	{
		EsPartition *row = &change.rows[i];

		forget_failures_left_out(&change, row);
		if (change.fenced[i])
			es_partition_fence(row);
		/* what was read past the last delivery was read by the old filter */
		row->scanned_upto = Max(row->position, row->delivered_upto);
		es_partition_write_settled(row);
	}
	MemoryContextDelete(change.context);
}

/*
 * Fetches an argument that is a list of names; an empty one is no filter.  False if it is
 * NULL, which leaves the filter as it is.
 */
static bool
take_filter_arg(FunctionCallInfo fcinfo, int argno, EsNameKind kind, const char *list, EsNames *filter)
{
	EsNames		none = {0};

	if (PG_ARGISNULL(argno))
		return false;
	*filter = es_names_arg(fcinfo, argno, kind, list);
	if (filter->count == 0)
		*filter = none;
	return true;
}

/*
 * es_alter_subscription(subscription, categories, types, max_attempts, query): changes
 * what a subscription is of, from its checkpoints on, and how often an event may fail.
 *
 * NULL leaves it as it is; an empty array is all categories or types, a query that is
 * JSON's null no query, 0 any number of attempts.  For its creator and an 'admin' of its
 * categories, with 'read' on other categories that it gets, else 42501.  Unknown: VE004;
 * a bad name, a negative max_attempts, a query that is none or has "last" 22023, nulls
 * in the arrays 22004; 25006 on a standby.  Waits for other changes of subscriptions,
 * and for transactions that poll or acknowledge in this one; a rollback undoes it.
 */
Datum
es_alter_subscription(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	EsSubscription given = {0};
	EsSubscription before;
	EsSubscription after;
	bool		has_categories = take_filter_arg(fcinfo, 1, ES_NAME_CATEGORY, "categories", &given.categories);
	bool		has_types = take_filter_arg(fcinfo, 2, ES_NAME_TYPE, "types", &given.types);
	bool		has_query = !PG_ARGISNULL(4);

	if (has_query)
		es_subscription_set_query(&given, es_match_query_or_none(PG_GETARG_JSONB_P(4)));
	if (!PG_ARGISNULL(3))
		given.max_attempts = (int) es_call_not_negative(PG_GETARG_INT32(3), "max_attempts");
	es_subscription_require_manager(es_subscription_get(name));
	es_subscription_begin_change("es_alter_subscription()");
	if (!es_subscription_find(&before, name))
		es_subscription_report_unknown(name);
	es_subscription_require_manager(&before);
	after = before;
	if (has_categories)
	{
		after.categories = given.categories;
		es_subscription_require_read(&after);
	}
	if (has_types)
		after.types = given.types;
	if (has_query)
	{
		after.query = given.query;
		after.query_given = given.query_given;
	}
	if (!PG_ARGISNULL(3))
		after.max_attempts = given.max_attempts;
	es_partition_lock_all(&before);
	if (has_categories || has_types || has_query)
		change_filter(&before, &after);
	es_subscription_update(&after);
	es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, before.id));
	es_subscription_announce();
	PG_RETURN_VOID();
}
