/*
 * effort.h
 *		How much work a comparison of schemas may be.
 */
#ifndef ES_SCHEMA_EFFORT_H
#define ES_SCHEMA_EFFORT_H

#include "base/base.h"

#include "miscadmin.h"

#define ES_TEXTS_A_STEP	16		/* short texts, or facts, compared for a step
								 * of work */

/* How much work may still be done. */
typedef struct EsEffort
{
	int64		left;
} EsEffort;

static inline void
es_effort_spend(EsEffort *effort, int64 work)
{
	effort->left -= work;
}

/* Spends some; tells whether to go on.  Once it says no, no proof is worth anything. */
static inline bool
es_effort_allows(EsEffort *effort, int64 work)
{
	if (stack_is_too_deep())
		effort->left = 0;
	effort->left -= work;
	return effort->left > 0;
}

#endif							/* ES_SCHEMA_EFFORT_H */
