/*
 * bounds.h
 *		Limits of numbers and of counts, exact.
 */
#ifndef ES_SCHEMA_BOUNDS_H
#define ES_SCHEMA_BOUNDS_H

#include "base/base.h"

#include "utils/numeric.h"

/* A limit of numbers. */
typedef struct EsBound
{
	Numeric		value;			/* NULL: there is none */
	bool		open;			/* the value itself is not allowed */
} EsBound;

/* What counts are allowed; max ES_NO_LIMIT: any. */
typedef struct EsSpan
{
	uint32		min;
	uint32		max;
} EsSpan;

static inline void
es_bounds_narrow(EsSpan *span, uint32 min, uint32 max)
{
	span->min = Max(span->min, min);
	span->max = Min(span->max, max);
}

static inline bool
es_bounds_allow(const EsSpan *span)
{
	return span->min <= span->max;
}

extern int	es_bounds_compare(Numeric a, Numeric b);
extern void es_bounds_raise(EsBound *lower, Numeric value, bool open);
extern void es_bounds_reduce(EsBound *upper, Numeric value, bool open);
extern bool es_bounds_meet(const EsBound *lower, const EsBound *upper);
extern bool es_bounds_divides(Numeric divisor, Numeric number, bool *sure);
extern void es_bounds_round_up(EsBound *lower, Numeric step);
extern void es_bounds_round_down(EsBound *upper, Numeric step);
extern int	es_bounds_count_integers(const EsBound *lower, const EsBound *upper, int most);
extern Numeric es_bounds_one(void);

#endif							/* ES_SCHEMA_BOUNDS_H */
