/*
 * partition.c
 *		How far the partitions of a subscription are.
 *
 * A partition's lock is an object lock of class eventstore.subscription_partitions,
 * kept to the end of the transaction, so rows are read with a fresh snapshot under
 * the lock, and what is read is the newest.  Consumers that find a partition
 * locked go on without it; only those that must have it wait.
 *
 * A row with kept_until says who has the partition, but not all of the rest: leases that
 * were renewed since, and what was delivered since, are in shared memory (shared/tenure.c).
 * That is read together with the row, so a row in memory has what is so now.  If there is
 * nothing of it, after a restart, on another server or where there was no room, the
 * partition is its member's until kept_until, which no lease went past, and what was
 * delivered is unsure: at least what the row says, at most what is settled.
 *
 * A transaction that is prepared leaves its session, and perhaps the server, so what
 * it has delivered is written to the rows before.
 */
#include "subscription/partition.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "log/settle.h"
#include "shared/tenure.h"
#include "table/rows.h"

#define Anum_partitions_id				1
#define Anum_partitions_position		2
#define Anum_partitions_delivered_upto	3
#define Anum_partitions_scanned_upto	4
#define Anum_partitions_lapsed_upto		5
#define Anum_partitions_partition		6
#define Anum_partitions_delivered		7
#define Anum_partitions_lapses		8
#define Anum_partitions_pending		9
#define Anum_partitions_parked		10
#define Anum_partitions_discarded		11
#define Anum_partitions_retry_at		12
#define Anum_partitions_lease_until		13
#define Anum_partitions_kept_until		14
#define Anum_partitions_member			15
#define Natts_partitions				15

#define COVERED_PART	3		/* of a lease, that a row covers beyond it */

static EsRelation partitions_table = {"subscription_partitions"};
static EsRelation partitions_by_key = {"subscription_partitions_by_key",
	.index = {.keys = {Anum_partitions_id, Anum_partitions_partition},
.columns = "subscription_id, partition",.unique = true}};

static const EsColumn partition_columns[Natts_partitions] = {
	{"subscription_id", INT8OID}, {"position", INT8OID}, {"delivered_upto", INT8OID}, {"scanned_upto", INT8OID},
	{"lapsed_upto", INT8OID}, {"partition", INT4OID}, {"delivered", INT4OID}, {"lapses", INT4OID},
	{"pending", INT4OID}, {"parked", INT4OID}, {"discarded", INT4OID}, {"retry_at", TIMESTAMPTZOID, true},
	{"lease_until", TIMESTAMPTZOID, true}, {"kept_until", TIMESTAMPTZOID, true}, {"member", TEXTOID, true}
};
const EsShape es_partition_shape = ES_SHAPE(&partitions_table, &partitions_by_key, partition_columns);

/*
 * es_partition_lock takes the lock on a partition, to the end of the
 * transaction; false if it is not free and the caller does not want to wait.
 */
bool
es_partition_lock(int64 id, int partition, bool wait)
{
	return es_base_lock_row(&partitions_table, (uint32) id, partition + 1, wait);
}

/* es_partition_is_locked tells whether another transaction has the lock on a partition. */
bool
es_partition_is_locked(const EsPartition *row)
{
	return es_base_is_row_locked(&partitions_table, (uint32) row->subscription_id, row->partition + 1);
}

/* es_partition_lock_all takes the locks of all partitions, waiting for who has them. */
void
es_partition_lock_all(const EsSubscription *subscription)
{
	for (int i = 0; i < subscription->partitions; i++)
		(void) es_partition_lock(subscription->id, i, true);
}

/*
 * es_partition_lock_definition is es_partition_lock_all for who does not change the
 * definition himself: gives it as it is once nobody else can, for as long as
 * es_subscription_get does.  Another one may be for others.
 */
const EsSubscription *
es_partition_lock_definition(const EsSubscription *subscription)
{
	es_partition_lock_all(subscription);
	return es_subscription_get_again(subscription->name, subscription->id);
}

/* Says which partition a lease is of, and all that the row says of it. */
static EsTenure
tenure_of_partition(const EsPartition *row)
{
	return (EsTenure)
	{
		.subscription = row->subscription_id,.partition = row->partition,.table = es_base_oid(&partitions_table),
			.kept_until = row->kept_until,.lease_until = row->lease_until,.delivered_upto = row->delivered_upto,
			.scanned_upto = row->scanned_upto,.delivered = row->delivered
	};
}

/* Adds what is in shared memory to what a row says. */
static void
add_tenure(EsPartition *row, const EsTenure *tenure)
{
	row->unsure = false;
	row->lease_until = tenure->lease_until;
	row->delivered_upto = Max(row->delivered_upto, tenure->delivered_upto);
	row->scanned_upto = Max(row->scanned_upto, tenure->scanned_upto);
	row->delivered = tenure->delivered;
}

/* Adds it, if there is something. */
static void
find_and_add_tenure(EsPartition *row)
{
	EsTenure	tenure;

	row->written_until = row->lease_until;
	row->unsure = false;
	if (row->kept_until == DT_NOBEGIN)
		return;
	tenure = tenure_of_partition(row);
	if (es_tenure_find(&tenure))
	{
		add_tenure(row, &tenure);
		return;
	}
	row->unsure = true;
	row->lease_until = row->kept_until;
}

/* Takes a row, in the current memory context. */
static void
take_partition(void *element, const EsRows *rows)
{
	EsPartition *row = element;
	const Datum *v = rows->values;
	const bool *n = rows->isnull;

	row->subscription_id = DatumGetInt64(v[Anum_partitions_id - 1]);
	row->position = DatumGetInt64(v[Anum_partitions_position - 1]);
	row->delivered_upto = DatumGetInt64(v[Anum_partitions_delivered_upto - 1]);
	row->scanned_upto = DatumGetInt64(v[Anum_partitions_scanned_upto - 1]);
	row->lapsed_upto = DatumGetInt64(v[Anum_partitions_lapsed_upto - 1]);
	row->partition = DatumGetInt32(v[Anum_partitions_partition - 1]);
	row->delivered = DatumGetInt32(v[Anum_partitions_delivered - 1]);
	row->lapses = DatumGetInt32(v[Anum_partitions_lapses - 1]);
	row->pending = DatumGetInt32(v[Anum_partitions_pending - 1]);
	row->parked = DatumGetInt32(v[Anum_partitions_parked - 1]);
	row->discarded = DatumGetInt32(v[Anum_partitions_discarded - 1]);
	row->retry_at = es_columns_time(v, n, Anum_partitions_retry_at);
	row->lease_until = es_columns_time(v, n, Anum_partitions_lease_until);
	row->kept_until = es_columns_time(v, n, Anum_partitions_kept_until);
	row->member = es_columns_text(v, n, Anum_partitions_member);
	find_and_add_tenure(row);
}

/* Reads the rows of a subscription, or of one partition (-1: all), and tells how many there are. */
static EsPartition *
read_partition_rows(int64 id, int partition, int *count)
{
	EsRows		look = {.shape = &es_partition_shape,.mode = AccessShareLock};

	look.fresh = true;
	es_rows_equal(&look, Int64GetDatum(id));
	if (partition >= 0)
		es_rows_equal(&look, Int32GetDatum(partition));
	es_rows_begin(&look);
	return es_rows_all(&look, sizeof(EsPartition), take_partition, count);
}

/* Compares two rows by the numbers of their partitions, for sorting. */
static int
compare_partitions(const void *a, const void *b)
{
	return ((const EsPartition *) a)->partition - ((const EsPartition *) b)->partition;
}

/*
 * es_partition_find_all reads the rows of all partitions, by number; NULL if the subscription
 * is gone.
 */
EsPartition *
es_partition_find_all(const EsSubscription *subscription)
{
	int			count;
	EsPartition *rows = read_partition_rows(subscription->id, -1, &count);

	if (count < subscription->partitions)
		return NULL;
	qsort(rows, subscription->partitions, sizeof(EsPartition), compare_partitions);
	return rows;
}

/* es_partition_read_all is that for who needs them: VE004 if the subscription is gone. */
EsPartition *
es_partition_read_all(const EsSubscription *subscription)
{
	EsPartition *rows = es_partition_find_all(subscription);

	if (rows == NULL)
		es_subscription_report_unknown(subscription->name);
	return rows;
}

/* es_partition_read reads the row of one partition; VE004 if the subscription is gone. */
void
es_partition_read(const EsSubscription *subscription, int partition, EsPartition *row)
{
	int			count;
	EsPartition *rows = read_partition_rows(subscription->id, partition, &count);

	if (count == 0)
		es_subscription_report_unknown(subscription->name);
	*row = rows[0];
}

/* Makes the columns of a row. */
static void
make_partition_row(const EsPartition *row, Datum *v, bool *n)
{
	memset(n, false, sizeof(bool) * Natts_partitions);
	v[Anum_partitions_id - 1] = Int64GetDatum(row->subscription_id);
	v[Anum_partitions_position - 1] = Int64GetDatum(row->position);
	v[Anum_partitions_delivered_upto - 1] = Int64GetDatum(row->delivered_upto);
	v[Anum_partitions_scanned_upto - 1] = Int64GetDatum(row->scanned_upto);
	v[Anum_partitions_lapsed_upto - 1] = Int64GetDatum(row->lapsed_upto);
	v[Anum_partitions_partition - 1] = Int32GetDatum(row->partition);
	v[Anum_partitions_delivered - 1] = Int32GetDatum(row->delivered);
	v[Anum_partitions_lapses - 1] = Int32GetDatum(row->lapses);
	v[Anum_partitions_pending - 1] = Int32GetDatum(row->pending);
	v[Anum_partitions_parked - 1] = Int32GetDatum(row->parked);
	v[Anum_partitions_discarded - 1] = Int32GetDatum(row->discarded);
	es_columns_put_time(v, n, Anum_partitions_retry_at, row->retry_at);
	es_columns_put_time(v, n, Anum_partitions_lease_until, row->unsure ? row->written_until : row->lease_until);
	es_columns_put_time(v, n, Anum_partitions_kept_until, row->kept_until);
	es_columns_put(v, n, Anum_partitions_member, row->member);
}

/* es_partition_write writes a row that was read under the partition's lock. */
void
es_partition_write(const EsPartition *row)
{
	Datum		values[Natts_partitions];
	bool		isnull[Natts_partitions];

	make_partition_row(row, values, isnull);
	es_rows_replace(&es_partition_shape, values, isnull);
}

/* ---- leases ---- */

/*
 * Writes to the rows what would be in shared memory only after the commit, before the
 * transaction is prepared.
 */
static void
write_tenures_before_prepare(XactEvent event, void *arg)
{
	EsTenure	tenure;

	while (event == XACT_EVENT_PRE_PREPARE && es_tenure_take_pending(&tenure))
	{
		int			count;
		EsPartition *row = read_partition_rows(tenure.subscription, tenure.partition, &count);

		if (count == 0 || row->kept_until != tenure.kept_until)
			continue;
		add_tenure(row, &tenure);
		row->kept_until = DT_NOBEGIN;
		es_partition_write(row);
	}
}

/* Notes what is to be in shared memory at the commit. */
static void
keep_tenure(const EsTenure *tenure)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(write_tenures_before_prepare, NULL);
	registered = true;
	es_tenure_keep(tenure);
}

/*
 * es_partition_keep notes a delivery, and the lease that it renews, without writing the
 * row, whose lock the caller has; false, and nothing has happened, if the row has to be
 * written.  It has if it does not cover the lease, or covers much more, since that is
 * what counts after a crash.
 */
bool
es_partition_keep(const EsPartition *row, int64 lease)
{
	EsTenure	tenure = tenure_of_partition(row);

	if (row->kept_until == DT_NOBEGIN || row->unsure || row->kept_until < row->lease_until ||
		row->kept_until - row->lease_until > lease / COVERED_PART || !es_tenure_reserve(&tenure))
		return false;
	keep_tenure(&tenure);
	return true;
}

/*
 * es_partition_write_lease writes a row with a lease that deliveries may renew from now on
 * without writing the row, for as long as it covers them, if there is room.
 */
void
es_partition_write_lease(EsPartition *row, int64 lease)
{
	EsTenure	tenure;
	bool		keeps;

	row->unsure = false;
	row->kept_until = row->lease_until + lease / COVERED_PART;
	tenure = tenure_of_partition(row);
	keeps = es_tenure_reserve(&tenure);
	if (!keeps)
		row->kept_until = DT_NOBEGIN;
	es_partition_write(row);
	if (keeps)
		keep_tenure(&tenure);
}

/*
 * es_partition_write_settled writes a row that says all there is to say, so that what is
 * in shared memory does not count any more; if that is unsure, it stays so.
 */
void
es_partition_write_settled(EsPartition *row)
{
	if (!row->unsure)
		row->kept_until = DT_NOBEGIN;
	es_partition_write(row);
}

/* es_partition_delivered_at_most tells the last position that may have been delivered. */
int64
es_partition_delivered_at_most(const EsPartition *row)
{
	int64		settled = row->unsure ? es_settle_compute() : 0;

	return Max(row->delivered_upto, settled);
}

/*
 * es_partition_lease_now tells until when the lease lasts of which a row says lease_until
 * and kept_until.
 */
TimestampTz
es_partition_lease_now(const EsPartition *row)
{
	EsTenure	tenure = tenure_of_partition(row);

	return row->kept_until != DT_NOBEGIN && es_tenure_find(&tenure) ? tenure.lease_until : row->lease_until;
}

/* es_partition_is_leased tells whether somebody has a partition. */
bool
es_partition_is_leased(const EsPartition *row, TimestampTz now)
{
	return row->member != NULL && row->lease_until > now;
}

/*
 * es_partition_fence takes a partition from its member, whose late acknowledgement is
 * VE007; what it was delivered and has not acknowledged will be delivered anew.
 */
void
es_partition_fence(EsPartition *row)
{
	row->delivered_upto = row->scanned_upto = row->lapsed_upto = row->position;
	row->delivered = row->lapses = 0;
	es_partition_give_up(row);
}

/* es_partition_give_up makes a partition nobody's. */
void
es_partition_give_up(EsPartition *row)
{
	row->unsure = false;
	row->lease_until = row->kept_until = DT_NOBEGIN;
	row->member = NULL;
}

/* es_partition_insert_all puts in the rows of a new subscription's partitions. */
void
es_partition_insert_all(const EsSubscription *subscription, int64 after)
{
	Datum		values[Natts_partitions];
	bool		isnull[Natts_partitions];
	EsPartition row = {.subscription_id = subscription->id,.position = after,.delivered_upto = after,
		.scanned_upto = after,.lapsed_upto = after,.retry_at = DT_NOBEGIN,.lease_until = DT_NOBEGIN,
		.kept_until = DT_NOBEGIN
	};

	for (row.partition = 0; row.partition < subscription->partitions; row.partition++)
	{
		make_partition_row(&row, values, isnull);
		es_rows_insert(&es_partition_shape, values, isnull);
	}
}

/* es_partition_delete_all takes away the rows of all partitions, whose locks the caller has. */
void
es_partition_delete_all(const EsSubscription *subscription)
{
	Datum		id = Int64GetDatum(subscription->id);
	EsPartition row = {.subscription_id = subscription->id};

	(void) es_rows_take_away(&es_partition_shape, &id, 1);
	for (; row.partition < subscription->partitions; row.partition++)
	{
		EsTenure	tenure = tenure_of_partition(&row);

		es_tenure_forget(&tenure);
	}
}
