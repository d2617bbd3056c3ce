/*
 * partition.h
 *		How far the partitions of a subscription are.
 */
#ifndef ES_SUBSCRIPTION_PARTITION_H
#define ES_SUBSCRIPTION_PARTITION_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "subscription/subscription.h"
#include "table/columns.h"

/* How far a partition is: a row of eventstore.subscription_partitions. */
typedef struct EsPartition
{
	int64		subscription_id;
	int64		position;
	int64		delivered_upto;
	int64		scanned_upto;
	int64		lapsed_upto;
	int			partition;
	int			delivered;
	int			lapses;
	int			pending;
	int			parked;
	int			discarded;
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
	TimestampTz lease_until;	/* DT_NOBEGIN: no lease */
	TimestampTz kept_until;		/* DT_NOBEGIN: the row says it all */
	const text *member;			/* NULL: nobody */
	bool		unsure;			/* more may have been delivered */
	TimestampTz written_until;	/* lease_until of the row as it is written */
} EsPartition;

extern const EsShape es_partition_shape;

/* es_partition_has_failures tells whether there are failures of a partition, of any kind. */
static inline bool
es_partition_has_failures(const EsPartition *row)
{
	return row->pending + row->parked + row->discarded > 0;
}

extern bool es_partition_lock(int64 id, int partition, bool wait);
extern bool es_partition_is_locked(const EsPartition *row);
extern void es_partition_lock_all(const EsSubscription *subscription);
extern const EsSubscription *es_partition_lock_definition(const EsSubscription *subscription);
extern EsPartition *es_partition_find_all(const EsSubscription *subscription);
extern EsPartition *es_partition_read_all(const EsSubscription *subscription);
extern void es_partition_read(const EsSubscription *subscription, int partition, EsPartition *row);
extern void es_partition_write(const EsPartition *row);
extern bool es_partition_keep(const EsPartition *row, int64 lease);
extern void es_partition_write_lease(EsPartition *row, int64 lease);
extern void es_partition_write_settled(EsPartition *row);
extern int64 es_partition_delivered_at_most(const EsPartition *row);
extern TimestampTz es_partition_lease_now(const EsPartition *row);
extern bool es_partition_is_leased(const EsPartition *row, TimestampTz now);
extern void es_partition_fence(EsPartition *row);
extern void es_partition_give_up(EsPartition *row);
extern void es_partition_insert_all(const EsSubscription *subscription, int64 after);
extern void es_partition_delete_all(const EsSubscription *subscription);

#endif							/* ES_SUBSCRIPTION_PARTITION_H */
