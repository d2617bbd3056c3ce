/*
 * evaluated.h
 *		Which members or elements of a value some keyword has spoken about.
 */
#ifndef ES_SCHEMA_EVALUATED_H
#define ES_SCHEMA_EVALUATED_H

#include "base/base.h"

/*
 * A set of numbers of children, for unevaluatedItems and unevaluatedProperties.  Up to 64
 * children need no memory beyond this; for more there is some in the current memory
 * context, until es_evaluated_end.
 */
typedef struct EsEvaluated
{
	uint32		count;			/* of children */
	bool		all;			/* all of them */
	uint64		few;
	uint64	   *words;			/* NULL: "few" has them */
} EsEvaluated;

extern void es_evaluated_begin_many(EsEvaluated *set);
extern void es_evaluated_unite(EsEvaluated *set, const EsEvaluated *other);

/* es_evaluated_begin makes an empty set for so many children. */
static inline void
es_evaluated_begin(EsEvaluated *set, uint32 count)
{
	set->count = count;
	set->all = false;
	set->few = 0;
	set->words = NULL;
	if (count > 64)
		es_evaluated_begin_many(set);
}

/* es_evaluated_end ends a set. */
static inline void
es_evaluated_end(EsEvaluated *set)
{
	if (set->words)
		pfree(set->words);
}

/* es_evaluated_add adds a child. */
static inline void
es_evaluated_add(EsEvaluated *set, uint32 number)
{
	if (set->words)
		set->words[number / 64] |= (uint64) 1 << (number % 64);
	else
		set->few |= (uint64) 1 << number;
}

/* es_evaluated_has tells whether a child is in the set. */
static inline bool
es_evaluated_has(const EsEvaluated *set, uint32 number)
{
	uint64		word = set->words ? set->words[number / 64] : set->few;

	return set->all || (word >> (number % 64) & 1) != 0;
}

#endif							/* ES_SCHEMA_EVALUATED_H */
