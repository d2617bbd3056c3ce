/*
 * subscribe.c
 *		Making and dropping subscriptions.
 */
#include "base/base.h"

#include "utils/builtins.h"

#include "base/call.h"
#include "base/names.h"
#include "shared/wake.h"
#include "subscription/failure.h"
#include "subscription/member.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"

PG_FUNCTION_INFO_V1(es_subscribe);
PG_FUNCTION_INFO_V1(es_unsubscribe);

/* Fetches an int argument in a range; 0 for NULL, where that is allowed (else 22004). */
static int
int_in_range_arg(FunctionCallInfo fcinfo, int argno, const char *name, int most, bool null_allowed)
{
	int			value;

	if (null_allowed && PG_ARGISNULL(argno))
		return 0;
	es_call_require(fcinfo, argno, name);
	value = PG_GETARG_INT32(argno);
	if (value < 1 || value > most)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be between 1 and %d, not %d", name, most, value));
	return value;
}

/*
 * es_subscribe(subscription, after_position, categories, types, partitions,
 * max_attempts, query): makes a subscription to what follows a position.
 *
 * after_position NULL: from now on; categories, types, query NULL: all; an event must
 * pass each of them; max_attempts NULL: without limit.  An existing subscription is
 * 42710; other NULLs, and nulls in the arrays, are 22004; a bad name, a negative
 * position, partitions out of 1 to 1000, a query that is none or has "last" are 22023;
 * 42501 without 'read' on the categories, or on '*'.
 * Waits for other changes of subscriptions; a rollback undoes it.
 */
Datum
es_subscribe(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	EsSubscription existing;
	EsSubscription subscription = {.name = name};
	int64		after;

	subscription.categories = es_names_arg(fcinfo, 2, ES_NAME_CATEGORY, "categories");
	subscription.types = es_names_arg(fcinfo, 3, ES_NAME_TYPE, "types");
	subscription.partitions = int_in_range_arg(fcinfo, 4, "partitions", ES_MAX_PARTITIONS, false);
	subscription.max_attempts = int_in_range_arg(fcinfo, 5, "max_attempts", PG_INT32_MAX, true);
	es_subscription_set_query(&subscription, PG_ARGISNULL(6) ? NULL : PG_GETARG_JSONB_P(6));
	es_subscription_require_read(&subscription);
	es_subscription_begin_change("es_subscribe()");
	if (es_subscription_find(&existing, name))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("subscription \"%s\" already exists", text_to_cstring(name)));
	after = es_subscription_after_arg(fcinfo, 1);
	es_subscription_insert(&subscription);
	es_partition_insert_all(&subscription, after);
	es_subscription_announce();
	PG_RETURN_VOID();
}

/*
 * es_unsubscribe(subscription): drops a subscription, its parked events
 * included.
 *
 * Unknown: VE004; for its creator and an 'admin' of its categories, else 42501.  Waits
 * for transactions that poll or acknowledge in it; later
 * acknowledgements of its members are VE004.  A rollback undoes it.
 */
Datum
es_unsubscribe(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	EsSubscription subscription;

	es_subscription_require_manager(es_subscription_get(name));
	es_subscription_begin_change("es_unsubscribe()");
	if (!es_subscription_find(&subscription, name))
		es_subscription_report_unknown(name);
	es_subscription_require_manager(&subscription);
	es_partition_lock_all(&subscription);
	es_partition_delete_all(&subscription);
	es_member_delete_all(&subscription);
	es_failure_delete_all(&subscription);
	es_subscription_delete(name);
	es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, subscription.id));
	es_subscription_announce();
	PG_RETURN_VOID();
}
