/*
 * ack.c
 *		What becomes of deliveries: they are acknowledged, refused, fenced off.
 *
 * An acknowledgement moves the partition's position on in the consumer's own
 * transaction, so what the consumer writes and how far it is commit together.
 * It is cumulative; one that comes late, after a later one, changes nothing.
 * Only who has the partition may do so.  A lease that has ended counts for as long
 * as nobody else has taken the partition: a slow consumer loses its work only
 * when somebody has it already.
 *
 * A refused event is put into eventstore.subscription_failures, and the
 * partition waits.  Acknowledging later events does not acknowledge it: it is
 * delivered again all the same, as is what comes back from parking, until an
 * acknowledgement follows that delivery.
 *
 * A rewind brings events back that were parked, let go or passed.  A poll that looks at the
 * log meanwhile may have passed them, as may earlier looks of one that waits; so a rewind is
 * announced as a change of the definition is (subscription.c), and they look again.
 *
 * Whoever changes something takes the partition's lock first, or those of all
 * partitions, and waits for it.
 */
#include "base/base.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/call.h"
#include "base/error.h"
#include "base/event.h"
#include "base/names.h"
#include "log/subscriber.h"
#include "read/log.h"
#include "shared/counter.h"
#include "shared/wake.h"
#include "subscription/failure.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"

#define MOST_REASON		10000	/* bytes that are kept of a reason */

PG_FUNCTION_INFO_V1(es_ack);
PG_FUNCTION_INFO_V1(es_nack);
PG_FUNCTION_INFO_V1(es_rewind);

/* What a call is about: a delivery in a partition, whose row is read under its lock. */
typedef struct Delivery
{
	const EsSubscription *subscription;
	const text *member;
	int64		position;
	EsPartition row;
} Delivery;

/* Raises VE007 unless the member has the partition. */
static void
require_partition_owner(const Delivery *delivery)
{
	const EsPartition *row = &delivery->row;

	if (row->member && es_names_same(row->member, delivery->member))
		return;
	ereport(ERROR,
			errcode(ES_ERRCODE_SUBSCRIPTION_FENCED),
			errmsg("partition %d of subscription \"%s\" does not belong to this member",
				   row->partition, text_to_cstring(delivery->subscription->name)),
			row->member == NULL ? errdetail("No member has it now.") :
			VARSIZE_ANY_EXHDR(row->member) == 0 ? errdetail("The member without a name has it.") :
			errdetail("Member \"%s\" has it.", text_to_cstring(row->member)),
			errhint("What it was delivered is, or will be, delivered to another member.  Undo the work, and poll again."));
}

/* Fetches the arguments that say which delivery, and locks its partition. */
static void
begin_delivery(Delivery *delivery, FunctionCallInfo fcinfo, int member_argno, const char *command)
{
	text	   *name;
	int			partition;

	name = es_subscription_name_arg(fcinfo, 0);
	es_call_require(fcinfo, 1, "partition");
	partition = PG_GETARG_INT32(1);
	delivery->position = es_call_position_arg(fcinfo, 2, "position");
	delivery->member = es_subscription_member_arg(fcinfo, member_argno);
	es_subscriber_prevent_write(command);
	delivery->subscription = es_subscription_get(name);
	es_subscription_require_read(delivery->subscription);
	if (partition < 0 || partition >= delivery->subscription->partitions)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("subscription \"%s\" has no partition %d", text_to_cstring(name), partition),
				errdetail("Its partitions are 0 to %d.", delivery->subscription->partitions - 1));
	(void) es_partition_lock(delivery->subscription->id, partition, true);
	delivery->subscription = es_subscription_get_again(name, delivery->subscription->id);
	es_subscription_require_read(delivery->subscription);
	es_partition_read(delivery->subscription, partition, &delivery->row);
	require_partition_owner(delivery);
}

/*
 * es_ack(subscription, partition, position, member): acknowledges all that was
 * delivered of a partition up to a position.
 *
 * Part of the transaction, which a rollback undoes.  A position that has been
 * acknowledged already is fine.  VE004 for an unknown subscription, 42501 without 'read'
 * on its categories, VE007 if the member does not have the partition (any more), 22023
 * for a partition that there is not and a position that has not been delivered, 22004
 * for NULLs but member.  Waits for other transactions in this partition.
 */
Datum
es_ack(PG_FUNCTION_ARGS)
{
	Delivery	delivery;
	EsPartition *row = &delivery.row;
	int			pending;

	begin_delivery(&delivery, fcinfo, 3, "es_ack()");
	if (delivery.position > row->scanned_upto && delivery.position > es_partition_delivered_at_most(row))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("position " INT64_FORMAT " has not been delivered", delivery.position),
				errdetail("Partition %d of subscription \"%s\" has been delivered up to position " INT64_FORMAT ".",
						  row->partition, text_to_cstring(delivery.subscription->name), Max(row->delivered_upto, row->position)));
	es_counter_add(ES_COUNT_ACKS, 1);
	pending = row->pending;
	es_failure_acknowledge(row, delivery.position);
	if (delivery.position <= row->position && row->pending == pending)
		PG_RETURN_VOID();
	row->position = Max(row->position, delivery.position);
	row->lapses = 0;
	es_failure_drop_passed(row);
	es_partition_write(row);
	PG_RETURN_VOID();
}

/* A search for an event of the partition that a delivery is about. */
typedef struct Search
{
	const Delivery *delivery;
	bool		found;
} Search;

/* Tells whether an event is of the partition. */
static bool
event_is_of_partition(const EsEvent *event, void *arg)
{
	const Delivery *delivery = ((Search *) arg)->delivery;

	return es_subscription_partition_of(delivery->subscription, DatumGetTextPP(event->stream)) ==
		delivery->row.partition;
}

/* Notes that there is one. */
static void
note_event_found(const EsEvent *event, void *arg)
{
	((Search *) arg)->found = true;
}

/* Raises 22023 unless an event is there that was delivered and not acknowledged. */
static void
require_event_delivered(const Delivery *delivery)
{
	const EsPartition *row = &delivery->row;
	Search		search = {.delivery = delivery};
	EsLogFilter filter = es_subscription_filter(delivery->subscription, delivery->position - 1, delivery->position);

	if (delivery->position <= row->position)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("position " INT64_FORMAT " has already been acknowledged", delivery->position));
	filter.wants = event_is_of_partition;
	if (delivery->position <= es_partition_delivered_at_most(row))
		(void) es_log_read(&filter, note_event_found, &search);
	if (!search.found)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("no event at position " INT64_FORMAT " of partition %d has been delivered",
					   delivery->position, row->partition));
}

/* Fetches the argument that says why; NULL if it is. */
static const text *
reason_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *reason = PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno);

	if (reason == NULL || VARSIZE_ANY_EXHDR(reason) <= MOST_REASON)
		return reason;
	return cstring_to_text_with_len(VARDATA_ANY(reason),
									pg_mbcliplen(VARDATA_ANY(reason), VARSIZE_ANY_EXHDR(reason), MOST_REASON));
}

/* Notes that an event was refused, over the note that is there. */
static void
put_refused_event(Delivery *delivery, EsFailure *known, const text *reason)
{
	EsPartition *row = &delivery->row;
	TimestampTz now = GetCurrentTimestamp();
	EsFailure	failure = {.position = delivery->position,.parked_at = DT_NOBEGIN,.reason = reason};

	failure.attempts = (known ? known->attempts : 0) + 1;
	if (delivery->subscription->max_attempts != 0 && failure.attempts >= delivery->subscription->max_attempts)
		failure.parked_at = now;
	else
	{
		TimestampTz again_at = now + es_backoff_delay(failure.attempts);

		row->retry_at = es_backoff_is_pending(row->retry_at, now) ? Max(row->retry_at, again_at) : again_at;
	}
	es_failure_put(row, known, &failure);
}

/*
 * es_nack(subscription, partition, position, reason, member): refuses an event
 * that was delivered.
 *
 * The partition waits, longer each time, before it is delivered again from the
 * last acknowledgement on; once the event has been refused max_attempts times it
 * is parked, and the partition goes on without it.  Acknowledges nothing.
 * Refusing again before the next delivery changes nothing.  reason may be
 * NULL; 10,000 bytes of it are kept.  22023 for a position that was not
 * delivered, or is acknowledged; else as es_ack.
 */
Datum
es_nack(PG_FUNCTION_ARGS)
{
	Delivery	delivery;
	EsFailure  *failures;
	EsFailure  *known;
	int			count;

	begin_delivery(&delivery, fcinfo, 4, "es_nack()");
	count = !es_partition_has_failures(&delivery.row) ? 0 :
		es_failure_read(&delivery.row, delivery.position - 1, &failures);
	known = count == 0 ? NULL : es_failure_find(failures, count, delivery.position);
	if (known && (known->parked_at != DT_NOBEGIN || !known->delivered))
		PG_RETURN_VOID();
	if (known == NULL)
		require_event_delivered(&delivery);
	es_counter_add(ES_COUNT_NACKS, 1);
	put_refused_event(&delivery, known, reason_arg(fcinfo, 3));
	es_partition_write(&delivery.row);
	es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, delivery.subscription->id));
	PG_RETURN_VOID();
}

/*
 * es_rewind(subscription, after_position): lets a subscription begin anew after
 * a position, earlier or later than where it is; NULL: from now on.
 *
 * Members lose what they hold: a late acknowledgement is VE007.  Events that are to be
 * delivered anyway are not parked any more; those parked before the position stay so.
 * For its creator and an 'admin' of its categories, else 42501.  Unknown: VE004; a
 * negative position: 22023.  Waits for transactions that poll or acknowledge in it; a
 * rollback undoes it.
 */
Datum
es_rewind(PG_FUNCTION_ARGS)
{
	text	   *name = es_subscription_name_arg(fcinfo, 0);
	int64		after = es_subscription_after_arg(fcinfo, 1);
	const EsSubscription *subscription;
	EsPartition row;

	es_subscriber_prevent_write("es_rewind()");
	subscription = es_subscription_get(name);
	es_subscription_require_manager(subscription);
	subscription = es_partition_lock_definition(subscription);
	es_subscription_require_manager(subscription);
	for (int i = 0; i < subscription->partitions; i++)
	{
		es_partition_read(subscription, i, &row);
		es_failure_forget(&row, after);
		row.position = after;
		row.retry_at = DT_NOBEGIN;
		es_partition_fence(&row);
		es_partition_write(&row);
	}
	es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, subscription->id));
	es_subscription_announce();
	PG_RETURN_VOID();
}
