/*
 * partition.c
 *		How far the partitions of a subscription are.
 *
 * A partition's lock is an object lock of class eventstore.subscription_partitions,
 * kept to the end of the transaction, so rows are read with a fresh snapshot under
 * the lock, and what is read is the newest.  Consumers that find a partition
 * locked go on without it; only those that must have it wait.
 */
#include "subscription/partition.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "base/objects.h"
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
#define Anum_partitions_member		14
#define Natts_partitions				14

static EsRelation partitions_table = {"subscription_partitions"};
static EsRelation partitions_by_key = {"subscription_partitions_by_key",
	.index = {.keys = {Anum_partitions_id, Anum_partitions_partition},
.columns = "subscription_id, partition",.unique = true}};

static const EsColumn partition_columns[Natts_partitions] = {
	{"subscription_id", INT8OID}, {"position", INT8OID}, {"delivered_upto", INT8OID}, {"scanned_upto", INT8OID},
	{"lapsed_upto", INT8OID}, {"partition", INT4OID}, {"delivered", INT4OID}, {"lapses", INT4OID},
	{"pending", INT4OID}, {"parked", INT4OID}, {"discarded", INT4OID}, {"retry_at", TIMESTAMPTZOID, true},
	{"lease_until", TIMESTAMPTZOID, true}, {"member", TEXTOID, true}
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

/* es_partition_lock_all takes the locks of all partitions, waiting for who has them. */
void
es_partition_lock_all(const EsSubscription *subscription)
{
	for (int i = 0; i < subscription->partitions; i++)
		(void) es_partition_lock(subscription->id, i, true);
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
	row->member = es_columns_text(v, n, Anum_partitions_member);
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
 * es_partition_read_all reads the rows of all partitions, by number; VE004 if the
 * subscription is gone.
 */
EsPartition *
es_partition_read_all(const EsSubscription *subscription)
{
	int			count;
	EsPartition *rows = read_partition_rows(subscription->id, -1, &count);

	if (count < subscription->partitions)
		es_subscription_report_unknown(subscription->name);
	qsort(rows, subscription->partitions, sizeof(EsPartition), compare_partitions);
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
	es_columns_put_time(v, n, Anum_partitions_lease_until, row->lease_until);
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
	row->lease_until = DT_NOBEGIN;
	row->member = NULL;
}

/* es_partition_insert_all puts in the rows of a new subscription's partitions. */
void
es_partition_insert_all(const EsSubscription *subscription, int64 after)
{
	Datum		values[Natts_partitions];
	bool		isnull[Natts_partitions];
	EsPartition row = {.subscription_id = subscription->id,.position = after,.delivered_upto = after,
		.scanned_upto = after,.lapsed_upto = after,.retry_at = DT_NOBEGIN,.lease_until = DT_NOBEGIN
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

	(void) es_rows_take_away(&es_partition_shape, &id, 1);
}
