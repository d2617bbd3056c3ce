/*
 * listing.c
 *		What there is to see of subscriptions: how far they are behind.
 *
 * The view es_subscriptions has what the tables say; the age of the oldest event that
 * a partition has not dealt with is looked for in the log (read/lag.c), with the
 * filter and the position of the row that is shown.  Parked events are dealt with; those
 * that are to be delivered again are not.
 */
#include "base/base.h"

#include "rights/right.h"
#include "utils/memutils.h"

#include "base/event.h"
#include "base/names.h"
#include "read/lag.h"
#include "subscription/failure.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"

PG_FUNCTION_INFO_V1(es_partition_lag_time);
PG_FUNCTION_INFO_V1(es_partition_lease_until);

/* What a statement that asks for many partitions keeps from one to the next. */
typedef struct Listing
{
	int64		looks;			/* at events, that are left */
	EsSubscription subscription;	/* what of it the last partition needed;
									 * id 0: none */
	MemoryContext context;		/* of its filter */
} Listing;

/* A partition whose oldest event is looked for. */
typedef struct ListedPartition
{
	const EsSubscription *subscription;
	EsPartition row;
	EsFailure  *failures;
	int			nfailures;
} ListedPartition;

/* Gives what the statement that calls a function keeps. */
static Listing *
get_listing(FmgrInfo *function)
{
	if (function->fn_extra == NULL)
	{
		Listing    *listing = MemoryContextAllocZero(function->fn_mcxt, sizeof(Listing));

		listing->looks = es_lag_looks;
		listing->context = AllocSetContextCreate(function->fn_mcxt, "eventstore listing", ALLOCSET_SMALL_SIZES);
		function->fn_extra = listing;
	}
	return function->fn_extra;
}

/* Takes over the definition of a subscription, unless the last partition was of the same. */
static const EsSubscription *
keep_listed_definition(Listing *listing, FunctionCallInfo fcinfo)
{
	EsSubscription *subscription = &listing->subscription;
	MemoryContext old;

	if (subscription->id == PG_GETARG_INT64(0))
		return subscription;
	MemoryContextReset(listing->context);
	subscription->id = 0;		/* should this fail */
	old = MemoryContextSwitchTo(listing->context);
	subscription->partitions = PG_GETARG_INT32(2);
	subscription->categories = es_names_of_column(PG_GETARG_DATUM(6), PG_ARGISNULL(6));
	subscription->types = es_names_of_column(PG_GETARG_DATUM(7), PG_ARGISNULL(7));
	es_subscription_take_query(subscription, PG_ARGISNULL(8) ? NULL : PG_GETARG_JSONB_P_COPY(8));
	MemoryContextSwitchTo(old);
	subscription->id = PG_GETARG_INT64(0);
	return subscription;
}

/* Tells whether an event is of the partition, and not parked. */
static bool
is_event_undealt(const EsEvent *event, void *arg)
{
	const ListedPartition *partition = arg;
	const EsFailure *failure;

	if (es_subscription_partition_of(partition->subscription, DatumGetTextPP(event->stream)) != partition->row.partition)
		return false;
	failure = es_failure_find(partition->failures, partition->nfailures, event->position);
	return failure == NULL || failure->parked_at == DT_NOBEGIN;
}

/*
 * Finds the oldest event that is to be delivered again though the partition has been
 * acknowledged past it; false if there is none.
 */
static bool
find_oldest_failure(const ListedPartition *partition, int64 *looks, TimestampTz *recorded_at)
{
	for (int i = 0; i < partition->nfailures; i++)
	{
		const EsFailure *failure = &partition->failures[i];
		EsLag		one = {.after = failure->position - 1,.last = failure->position};

		if (failure->parked_at == DT_NOBEGIN && failure->position <= partition->row.position &&
			es_lag_find_oldest(&one, looks, recorded_at))
			return true;
	}
	return false;
}

/*
 * partition_lag_time(subscription_id, partition, partitions, position, last, failures,
 * categories, types, query): the age of the oldest event that a partition has not dealt with.
 *
 * The arguments are what the tables say of it, and the last position given out.  NULL
 * if there is none, for NULLs but categories, types and query, and without 'read' or
 * 'admin' on the categories.  Behind the view es_subscriptions.
 */
Datum
es_partition_lag_time(PG_FUNCTION_ARGS)
{
	ListedPartition partition = {0};
	Listing    *listing;
	EsLag		lag;
	TimestampTz recorded_at;

	for (int i = 0; i < 6; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	lag = (EsLag)
	{
		.after = Max(PG_GETARG_INT64(3), 0),.last = PG_GETARG_INT64(4),.wants = is_event_undealt,.arg = &partition
	};
	if ((lag.after >= lag.last && PG_GETARG_INT32(5) == 0) || PG_GETARG_INT32(2) < 1)
		PG_RETURN_NULL();
	listing = get_listing(fcinfo->flinfo);
	partition.subscription = keep_listed_definition(listing, fcinfo);
	if (!es_right_has_all(ES_RIGHT_READ | ES_RIGHT_ADMIN, &partition.subscription->categories))
		PG_RETURN_NULL();
	partition.row.subscription_id = partition.subscription->id;
	partition.row.partition = PG_GETARG_INT32(1);
	partition.row.position = lag.after;
	if (PG_GETARG_INT32(5) != 0)
		partition.nfailures = es_failure_read(&partition.row, 0, &partition.failures);
	lag.categories = partition.subscription->categories;
	lag.types = partition.subscription->types;
	lag.query = partition.subscription->query;
	if (!find_oldest_failure(&partition, &listing->looks, &recorded_at) &&
		!es_lag_find_oldest(&lag, &listing->looks, &recorded_at))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(es_lag_age(recorded_at));
}

/*
 * partition_lease_until(subscription_id, partition, lease_until, kept_until): until when a
 * partition is its member's, of which the row says the latter two.
 *
 * Where nothing else is known, as after a restart and on a standby, what the row says, which
 * may be a third of the lease earlier.  NULL if nobody has it.  Needs no right: who does not
 * know kept_until learns nothing.  Behind the view es_subscriptions.
 */
Datum
es_partition_lease_until(PG_FUNCTION_ARGS)
{
	EsPartition row = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	row.subscription_id = PG_GETARG_INT64(0);
	row.partition = PG_GETARG_INT32(1);
	row.lease_until = PG_GETARG_TIMESTAMPTZ(2);
	row.kept_until = PG_ARGISNULL(3) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(3);
	PG_RETURN_TIMESTAMPTZ(es_partition_lease_now(&row));
}
