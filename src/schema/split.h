/*
 * split.h
 *		Alternatives among what is known of a value.
 */
#ifndef ES_SCHEMA_SPLIT_H
#define ES_SCHEMA_SPLIT_H

#include "base/base.h"

#include "schema/fact.h"
#include "schema/premise.h"

#define ES_MAX_BRANCHES	64		/* more are not looked at */

/* The facts of each alternative; whatever the value is, one of them holds. */
typedef struct EsBranches
{
	int			count;
	EsFacts		facts[ES_MAX_BRANCHES];
} EsBranches;

extern EsBranches *es_split_premise(const EsPremise *premise, bool by_type, bool *too_many);

#endif							/* ES_SCHEMA_SPLIT_H */
