/*
 * failure.h
 *		Events that a consumer could not deal with.
 */
#ifndef ES_SUBSCRIPTION_FAILURE_H
#define ES_SUBSCRIPTION_FAILURE_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "subscription/partition.h"
#include "subscription/subscription.h"
#include "table/columns.h"

/* A row of eventstore.subscription_failures. */
typedef struct EsFailure
{
	int64		position;
	int			attempts;		/* that have failed */
	bool		delivered;		/* since it was put here */
	TimestampTz parked_at;		/* DT_NOBEGIN: is to be delivered again;
								 * DT_NOEND: was let go */
	const text *reason;			/* or NULL */
} EsFailure;

extern const EsShape es_failure_shape;

/* es_failure_is_parked tells whether an event is parked, and nobody has let it go. */
static inline bool
es_failure_is_parked(const EsFailure *failure)
{
	return failure->parked_at != DT_NOBEGIN && failure->parked_at != DT_NOEND;
}

extern int	es_failure_read(const EsPartition *row, int64 after, EsFailure **failures);
extern EsFailure *es_failure_find(EsFailure *failures, int count, int64 position);
extern void es_failure_put(EsPartition *row, EsFailure *known, const EsFailure *failure);
extern bool es_failure_count_lapse(EsPartition *row, int max_attempts, TimestampTz now);
extern void es_failure_count_undeliverable(EsPartition *row, EsFailure *known, int64 position, const char *reason,
										   int max_attempts);
extern void es_failure_park_misplaced(EsPartition *row, EsFailure *known);
extern void es_failure_take_away(EsPartition *row, const EsFailure *failure);
extern void es_failure_drop_passed(EsPartition *row);
extern void es_failure_acknowledge(EsPartition *row, int64 upto);
extern void es_failure_forget(EsPartition *row, int64 after);
extern void es_failure_delete_all(const EsSubscription *subscription);

#endif							/* ES_SUBSCRIPTION_FAILURE_H */
