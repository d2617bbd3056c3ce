/*
 * subscription.h
 *		Subscriptions: definitions, and how far their partitions are.
 */
#ifndef ES_SUBSCRIPTION_SUBSCRIPTION_H
#define ES_SUBSCRIPTION_SUBSCRIPTION_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "base/names.h"
#include "base/objects.h"
#include "read/log.h"
#include "table/columns.h"

#define ES_MAX_SUBSCRIPTION_NAME	512
#define ES_MAX_MEMBER_NAME			512
#define ES_MAX_PARTITIONS			1000

/* A subscription; valid until the next change of any. */
typedef struct EsSubscription
{
	int64		id;
	int			partitions;
	int			max_attempts;	/* 0: unlimited */
	EsNames		categories;
	EsNames		types;
	uint64		interest;		/* what news matter, see shared/wake.h */
} EsSubscription;

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
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
	TimestampTz lease_until;	/* DT_NOBEGIN: no lease */
	const text *member;			/* NULL: nobody */
} EsPartition;

/* The tables of members and of failures, whose keys begin with the subscription. */
extern EsRelation es_subscription_members;
extern const EsShape es_subscription_member_shape;
extern const EsShape es_subscription_failure_shape;

extern void es_subscription_init(void);
extern text *es_subscription_name_arg(FunctionCallInfo fcinfo, int argno);
extern text *es_subscription_member_arg(FunctionCallInfo fcinfo, int argno);
extern int64 es_subscription_after_arg(FunctionCallInfo fcinfo, int argno);
ES_NORETURN extern void es_subscription_report_unknown(const text *name);
extern const EsSubscription *es_subscription_get(const text *name);
extern EsLogFilter es_subscription_filter(const EsSubscription *subscription, int64 after, int64 upto);
extern int	es_subscription_partition_of(const EsSubscription *subscription, const text *stream);

extern bool es_subscription_lock(int64 id, int partition, bool wait);
extern void es_subscription_lock_all(const EsSubscription *subscription);
extern EsPartition *es_subscription_read_all(const EsSubscription *subscription);
extern bool es_subscription_read(int64 id, int partition, EsPartition *row);
extern void es_subscription_write(const EsPartition *row);
extern ReturnSetInfo *es_subscription_begin_delivery(FunctionCallInfo fcinfo);
extern bool es_subscription_is_leased(const EsPartition *row, TimestampTz now);

#endif							/* ES_SUBSCRIPTION_SUBSCRIPTION_H */
