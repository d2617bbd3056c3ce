/*
 * policy.h
 *		Which events age out: the rules, by category, and how far each was carried out.
 */
#ifndef ES_LIFECYCLE_POLICY_H
#define ES_LIFECYCLE_POLICY_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "storage/lockdefs.h"

#include "base/objects.h"
#include "table/columns.h"

#define ES_POLICY_OTHERS	"*"

/* A row of eventstore.retention. */
typedef struct EsPolicy
{
	const text *category;
	bool		is_for_others;	/* for categories without a rule of their own */
	const Interval *max_age;	/* NULL: events may be of any age */
	int64		max_count;		/* 0: there may be any number */
	int64		arrived;		/* events up to this position were looked at
								 * as they came */
	int64		aged;			/* those up to this one are too old, and were
								 * dealt with */
} EsPolicy;

/* What who carries rules out has on their table; who changes them is kept off. */
#define ES_POLICY_LOCK	ShareUpdateExclusiveLock

extern EsRelation es_policy_table;	/* eventstore.retention */
extern const EsShape es_policy_shape;

extern void es_policy_init(void);
extern int	es_policy_read_all(EsPolicy **policies);
extern const EsPolicy *es_policy_of(const EsPolicy *policies, int count, const text *stream);
extern bool es_policy_is_rule(const EsPolicy *policy);
extern TimestampTz es_policy_cutoff(const EsPolicy *policy, TimestampTz now);
extern void es_policy_write_progress(const EsPolicy *policy);
extern void es_policy_go_back(int64 position);

#endif							/* ES_LIFECYCLE_POLICY_H */
