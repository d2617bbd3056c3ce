/*
 * fact.c
 *		What is known of a value before a schema is held against it.
 *
 * A list of facts is never changed, so proofs can share it and be remembered by it.
 */
#include "schema/fact.h"

const EsSchemaNode es_fact_nothing = {.refuses = true};

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

/* es_fact_compare orders facts; equal ones say the same. */
int
es_fact_compare(const EsFact *a, const EsFact *b)
{
	if (a->kind != b->kind)
		return ORDER(a->kind, b->kind);
	if (a->types != b->types)
		return ORDER(a->types, b->types);
	if (a->node != b->node)
		return ORDER((uintptr_t) a->node, (uintptr_t) b->node);
	if (a->key == b->key)
		return 0;
	if (a->key->len != b->key->len)
		return ORDER(a->key->len, b->key->len);
	return memcmp(a->key->bytes, b->key->bytes, a->key->len);
}

/* es_fact_of makes a list of one fact. */
EsFacts
es_fact_of(EsFact fact)
{
	EsFacts		result = {.count = 1,.facts = palloc(sizeof(EsFact))};

	result.facts[0] = fact;
	return result;
}

/* es_fact_add makes a list that has one fact more, in the current memory context. */
EsFacts
es_fact_add(const EsFacts *facts, EsFact fact)
{
	EsFacts		result;
	int			place = 0;

	while (place < facts->count && es_fact_compare(&facts->facts[place], &fact) < 0)
		place++;
	if (place < facts->count && es_fact_compare(&facts->facts[place], &fact) == 0)
		return *facts;
	result.count = facts->count + 1;
	result.facts = palloc(result.count * sizeof(EsFact));
	if (place > 0)
		memcpy(result.facts, facts->facts, place * sizeof(EsFact));
	result.facts[place] = fact;
	if (place < facts->count)
		memcpy(result.facts + place + 1, facts->facts + place, (facts->count - place) * sizeof(EsFact));
	return result;
}

/* es_fact_refuse_all tells whether one of the facts is the schema false. */
bool
es_fact_refuse_all(const EsFacts *facts)
{
	for (int i = 0; i < facts->count; i++)
	{
		if (facts->facts[i].kind == ES_FACT_IS && facts->facts[i].node->refuses)
			return true;
	}
	return false;
}
