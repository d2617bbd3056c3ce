/*
 * subscription.h
 *		Subscriptions: their definitions.
 */
#ifndef ES_SUBSCRIPTION_SUBSCRIPTION_H
#define ES_SUBSCRIPTION_SUBSCRIPTION_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "utils/jsonb.h"

#include "base/event.h"
#include "base/names.h"
#include "json/match.h"
#include "read/log.h"
#include "rights/role.h"
#include "table/columns.h"

#define ES_MAX_SUBSCRIPTION_NAME	512
#define ES_MAX_MEMBER_NAME			512
#define ES_MAX_PARTITIONS			1000

/* A subscription. */
typedef struct EsSubscription
{
	int64		id;
	const text *name;
	TimestampTz created_at;
	int			partitions;
	int			max_attempts;	/* 0: unlimited */
	EsNames		categories;
	EsNames		types;
	const EsQuery *query;		/* NULL: any */
	EsRole		creator;
	const Jsonb *query_given;	/* as it was given; NULL: none */
	uint64		interest;		/* what news matter, see shared/wake.h */
	uint64		changes;		/* of definitions, that this one knows of; see
								 * es_subscription_has_changed */
} EsSubscription;

extern const EsShape es_subscription_shape;

extern text *es_subscription_name_arg(FunctionCallInfo fcinfo, int argno);
extern text *es_subscription_member_arg(FunctionCallInfo fcinfo, int argno);
extern int64 es_subscription_after_arg(FunctionCallInfo fcinfo, int argno);
ES_NORETURN extern void es_subscription_report_unknown(const text *name);
extern const EsSubscription *es_subscription_look_up(const text *name);
extern const EsSubscription *es_subscription_look_up_again(const text *name, int64 id);
extern const EsSubscription *es_subscription_get(const text *name);
extern const EsSubscription *es_subscription_get_again(const text *name, int64 id);
extern text **es_subscription_names(int *count);
extern bool es_subscription_has_changed(uint64 changes);
extern void es_subscription_set_query(EsSubscription *subscription, Jsonb *query);
extern void es_subscription_take_query(EsSubscription *subscription, Jsonb *query);
extern void es_subscription_require_read(const EsSubscription *subscription);
extern void es_subscription_require_manager(const EsSubscription *subscription);
extern bool es_subscription_is_of(const EsSubscription *subscription, const text *stream);
extern bool es_subscription_passes(const EsSubscription *subscription, const EsEvent *event);
extern EsLogFilter es_subscription_filter(const EsSubscription *subscription, int64 after, int64 upto);
extern int	es_subscription_partition_of(const EsSubscription *subscription, const text *stream);

extern ReturnSetInfo *es_subscription_begin_delivery(FunctionCallInfo fcinfo);

/* Changes of definitions. */
extern bool es_subscription_find(EsSubscription *subscription, const text *name);
extern void es_subscription_begin_change(const char *command);
extern void es_subscription_insert(EsSubscription *subscription);
extern void es_subscription_update(const EsSubscription *subscription);
extern void es_subscription_delete(const text *name);
extern void es_subscription_announce(void);

#endif							/* ES_SUBSCRIPTION_SUBSCRIPTION_H */
