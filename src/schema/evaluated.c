/*
 * evaluated.c
 *		Which members or elements of a value some keyword has spoken about.
 */
#include "schema/evaluated.h"

#include "utils/memutils.h"

/* The words of a set. */
static inline uint32
count_words(const EsEvaluated *set)
{
	return set->count / 64 + 1;
}

/* es_evaluated_begin_many gets memory for a set that is too large without. */
void
es_evaluated_begin_many(EsEvaluated *set)
{
	set->words = palloc0(sizeof(uint64) * count_words(set));
}

/* es_evaluated_unite adds all of another set, which is of the same value's children. */
void
es_evaluated_unite(EsEvaluated *set, const EsEvaluated *other)
{
	set->all |= other->all;
	set->few |= other->few;
	for (uint32 i = 0; set->words && !set->all && i < count_words(set); i++)
		set->words[i] |= other->words[i];
}
