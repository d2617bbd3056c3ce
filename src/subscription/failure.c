/*
 * failure.c
 *		Events that a consumer could not deal with.
 *
 * Each is a row of eventstore.subscription_failures: one that is to be delivered
 * again, because it was refused, could not be sent, or its parking was ended; one
 * that is parked; or one that was parked and let go, for as long as the partition has
 * not passed it: without the row it would be delivered.
 * The row of its partition counts each kind, so that partitions without any
 * cost nobody a look here.
 *
 * Rows are written under the lock of their partition, and the counts with them;
 * the caller writes the partition's row.
 */
#include "subscription/failure.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "table/rows.h"

#define Anum_failures_id		1
#define Anum_failures_position	2
#define Anum_failures_parked_at	3
#define Anum_failures_partition	4
#define Anum_failures_attempts	5
#define Anum_failures_delivered	6
#define Anum_failures_reason	7
#define Natts_failures			7

static EsRelation failures_table = {"subscription_failures"};
static EsRelation failures_by_key = {"subscription_failures_by_key",
	.index = {.keys = {Anum_failures_id, Anum_failures_partition, Anum_failures_position},
.columns = "subscription_id, partition, position",.unique = true}};

static const EsColumn failure_columns[] = {
	{"subscription_id", INT8OID}, {"position", INT8OID}, {"parked_at", TIMESTAMPTZOID, true},
	{"partition", INT4OID}, {"attempts", INT4OID}, {"delivered", BOOLOID}, {"reason", TEXTOID, true}
};
const EsShape es_failure_shape = ES_SHAPE(&failures_table, &failures_by_key, failure_columns);

/* The reason for parking what no consumer has refused. */
#define LEASE_ENDED		"the lease ended without an acknowledgement"
#define MISPLACED		"it is of a category that the subscription is not of any more"
#define UNSENDABLE		"it cannot be sent: the JSON text of its data and metadata is longer than the server's limit of 1 GB"

/* Takes a row, in the current memory context. */
static void
take_failure(void *element, const EsRows *rows)
{
	EsFailure  *failure = element;
	const Datum *v = rows->values;
	const bool *n = rows->isnull;

	failure->position = DatumGetInt64(v[Anum_failures_position - 1]);
	failure->attempts = DatumGetInt32(v[Anum_failures_attempts - 1]);
	failure->delivered = DatumGetBool(v[Anum_failures_delivered - 1]);
	failure->parked_at = es_columns_time(v, n, Anum_failures_parked_at);
	failure->reason = es_columns_text(v, n, Anum_failures_reason);
}

/*
 * es_failure_read reads the failures of a partition after a position, in order
 * of position, and returns how many they are.
 */
int
es_failure_read(const EsPartition *row, int64 after, EsFailure **failures)
{
	EsRows		rows = {.shape = &es_failure_shape,.mode = AccessShareLock};
	int			count;

	rows.fresh = true;
	es_rows_equal(&rows, Int64GetDatum(row->subscription_id));
	es_rows_equal(&rows, Int32GetDatum(row->partition));
	es_rows_between(&rows, after, PG_INT64_MAX);
	es_rows_begin(&rows);
	*failures = es_rows_all(&rows, sizeof(EsFailure), take_failure, &count);
	return count;
}

/* Compares two failures by their positions, for searching. */
static int
compare_failures(const void *a, const void *b)
{
	int64		first = ((const EsFailure *) a)->position;
	int64		second = ((const EsFailure *) b)->position;

	return (first > second) - (first < second);
}

/*
 * es_failure_find finds, in what es_failure_read has read, the failure at a position; NULL
 * if there is none.
 */
EsFailure *
es_failure_find(EsFailure *failures, int count, int64 position)
{
	EsFailure	key = {.position = position};

	return count == 0 ? NULL : bsearch(&key, failures, count, sizeof(EsFailure), compare_failures);
}

/* Counts a failure in, or out. */
static void
count_failure(EsPartition *row, const EsFailure *failure, int add)
{
	if (failure->parked_at == DT_NOBEGIN)
		row->pending += add;
	else if (failure->parked_at == DT_NOEND)
		row->discarded += add;
	else
		row->parked += add;
}

/* Makes the columns of a failure's row. */
static void
make_failure_row(const EsPartition *row, const EsFailure *failure, Datum *v, bool *n)
{
	memset(n, false, sizeof(bool) * Natts_failures);
	v[Anum_failures_id - 1] = Int64GetDatum(row->subscription_id);
	v[Anum_failures_position - 1] = Int64GetDatum(failure->position);
	es_columns_put_time(v, n, Anum_failures_parked_at, failure->parked_at);
	v[Anum_failures_partition - 1] = Int32GetDatum(row->partition);
	v[Anum_failures_attempts - 1] = Int32GetDatum(failure->attempts);
	v[Anum_failures_delivered - 1] = BoolGetDatum(failure->delivered);
	es_columns_put(v, n, Anum_failures_reason, failure->reason);
}

/*
 * es_failure_put adds a failure, in place of the one that is known of the same
 * event; NULL: none is.
 */
void
es_failure_put(EsPartition *row, EsFailure *known, const EsFailure *failure)
{
	Datum		values[Natts_failures];
	bool		isnull[Natts_failures];

	make_failure_row(row, failure, values, isnull);
	if (known)
	{
		es_rows_replace(&es_failure_shape, values, isnull);
		count_failure(row, known, -1);
		*known = *failure;
	}
	else
		es_rows_insert(&es_failure_shape, values, isnull);
	count_failure(row, failure, 1);
}

/* es_failure_take_away takes a failure away. */
void
es_failure_take_away(EsPartition *row, const EsFailure *failure)
{
	Datum		key[] = {Int64GetDatum(row->subscription_id), Int32GetDatum(row->partition),
	Int64GetDatum(failure->position)};

	(void) es_rows_take_away(&es_failure_shape, key, lengthof(key));
	count_failure(row, failure, -1);
}

/* Parks the event that was delivered alone and has ended every lease; tells whether it did. */
static bool
park_if_poison(EsPartition *row, int max_attempts, TimestampTz now)
{
	EsFailure	failure = {.position = row->delivered_upto,.attempts = row->lapses,
		.parked_at = now,.reason = cstring_to_text(LEASE_ENDED)
	};
	EsFailure  *failures;
	EsFailure  *known;
	int			count;

	if (row->lapses <= max_attempts || row->delivered != 1 || row->position >= row->delivered_upto)
		return false;
	count = es_failure_read(row, row->position, &failures);
	known = es_failure_find(failures, count, failure.position);
	if (known == NULL || known->parked_at == DT_NOBEGIN)
		es_failure_put(row, known, &failure);
	row->lapses = 0;
	return true;
}

/*
 * es_failure_count_lapse sees to what a lease that ended without an
 * acknowledgement means: a failed attempt of what was delivered again of before
 * the position, as row->lapses counts them for what is after it.  Parks what has
 * had max_attempts (0: there is no limit).  Tells whether the row has changed.
 */
bool
es_failure_count_lapse(EsPartition *row, int max_attempts, TimestampTz now)
{
	EsFailure  *failures;
	int			count = row->pending == 0 ? 0 : es_failure_read(row, 0, &failures);
	bool		changed = false;

	for (int i = 0; i < count && failures[i].position <= row->position; i++)
	{
		EsFailure	failure = failures[i];

		CHECK_FOR_INTERRUPTS();
		if (failure.parked_at != DT_NOBEGIN || !failure.delivered)
			continue;
		failure.attempts++;
		failure.delivered = false;
		if (max_attempts != 0 && failure.attempts >= max_attempts)
		{
			failure.parked_at = now;
			failure.reason = cstring_to_text(LEASE_ENDED);
		}
		es_failure_put(row, &failures[i], &failure);
		changed = true;
	}
	return (max_attempts != 0 && park_if_poison(row, max_attempts, now)) || changed;
}

/*
 * es_failure_count_undeliverable notes, over what is known of an event, that it could
 * not be delivered, and why (NULL: it is too long to be sent), which is a failed
 * attempt.  The partition goes on meanwhile.  Parks it after max_attempts; where there is
 * no limit at once if it is too long, since it will not become shorter.
 */
void
es_failure_count_undeliverable(EsPartition *row, EsFailure *known, int64 position, const char *reason,
							   int max_attempts)
{
	EsFailure	failure = {.position = position,.parked_at = DT_NOBEGIN,
	.reason = cstring_to_text(reason ? reason : UNSENDABLE)};

	failure.attempts = (known ? known->attempts : 0) + 1;
	if (failure.attempts >= max_attempts && (max_attempts > 0 || reason == NULL))
		failure.parked_at = GetCurrentTimestamp();
	es_failure_put(row, known, &failure);
}

/*
 * es_failure_park_misplaced parks an event that was to be delivered again, though its
 * category is none of the subscription's.
 */
void
es_failure_park_misplaced(EsPartition *row, EsFailure *known)
{
	EsFailure	failure = *known;

	failure.parked_at = GetCurrentTimestamp();
	failure.reason = cstring_to_text(MISPLACED);
	es_failure_put(row, known, &failure);
}

/*
 * es_failure_drop_passed takes away those that were let go and that the partition has
 * passed by now.
 */
void
es_failure_drop_passed(EsPartition *row)
{
	EsFailure  *failures;
	int			count = row->discarded == 0 ? 0 : es_failure_read(row, 0, &failures);

	for (int i = 0; i < count && failures[i].position <= row->position; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (failures[i].parked_at == DT_NOEND)
			es_failure_take_away(row, &failures[i]);
	}
}

/*
 * es_failure_acknowledge takes away those that were to be delivered again and were,
 * up to a position.
 */
void
es_failure_acknowledge(EsPartition *row, int64 upto)
{
	EsFailure  *failures;
	int			count;

	if (row->pending == 0)
		return;
	count = es_failure_read(row, 0, &failures);
	for (int i = 0; i < count && failures[i].position <= upto; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (failures[i].parked_at == DT_NOBEGIN && failures[i].delivered)
			es_failure_take_away(row, &failures[i]);
	}
}

/*
 * es_failure_forget takes away what does not matter once the partition begins
 * anew after a position: all that was to be delivered again or was let go, and what
 * is parked after it.
 */
void
es_failure_forget(EsPartition *row, int64 after)
{
	EsFailure  *failures;
	int			count;

	if (!es_partition_has_failures(row))
		return;
	count = es_failure_read(row, 0, &failures);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!es_failure_is_parked(&failures[i]) || failures[i].position > after)
			es_failure_take_away(row, &failures[i]);
	}
}

/*
 * es_failure_delete_all takes away all of a subscription's failures; the caller has
 * the locks of all partitions.
 */
void
es_failure_delete_all(const EsSubscription *subscription)
{
	Datum		id = Int64GetDatum(subscription->id);

	(void) es_rows_take_away(&es_failure_shape, &id, 1);
}
