/*
 * member.h
 *		Who consumes a subscription, and how many partitions are whose.
 */
#ifndef ES_SUBSCRIPTION_MEMBER_H
#define ES_SUBSCRIPTION_MEMBER_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "subscription/partition.h"
#include "subscription/subscription.h"
#include "table/columns.h"

/* What a member may do now. */
typedef struct EsShare
{
	bool		known;			/* others know of the member */
	TimestampTz alive_until;	/* as they know it */
	int			may_take;		/* how many more partitions */
	int			must_release;	/* how many, when they are done with */
} EsShare;

extern const EsShape es_member_shape;

extern void es_member_share(const EsSubscription *subscription, const EsPartition *rows,
							const text *member, TimestampTz now, EsShare *share);
extern void es_member_beat(const EsSubscription *subscription, const text *member, TimestampTz alive_until);
extern void es_member_delete_all(const EsSubscription *subscription);

#endif							/* ES_SUBSCRIPTION_MEMBER_H */
