/*
 * split.c
 *		Alternatives among what is known of a value.
 *
 * One of anyOf's schemas accepts it, or one of oneOf's and no other; "if" does or does
 * not; a member that others depend on is there or is not; it has one of its types.  Each
 * split takes one of these, so what is known is split again as long as there are more.
 */
#include "schema/split.h"

#include "port/pg_bitutils.h"

#include "schema/model.h"

/* Adds an alternative. */
static EsFacts *
add_branch(EsBranches *branches, const EsPremise *premise, EsFact fact)
{
	EsFacts    *facts = &branches->facts[branches->count++];

	*facts = es_fact_add(&premise->facts, fact);
	return facts;
}

/* Splits by anyOf, or oneOf: by which of them accepts the value. */
static bool
split_by_list(EsBranches *branches, const EsPremise *premise, const EsSchemaList *list, bool only_one)
{
	if (list->count < 2 || list->count > ES_MAX_BRANCHES)
		return false;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (es_premise_has(premise, list->nodes[i]))
			return false;
	}
	for (uint32 i = 0; i < list->count; i++)
	{
		EsFacts    *facts = add_branch(branches, premise, es_fact_is(list->nodes[i]));

		for (uint32 k = 0; only_one && k < list->count; k++)
		{
			if (k != i)
				*facts = es_fact_add(facts, es_fact_is_not(list->nodes[k]));
		}
	}
	return true;
}

/* Tells whether the facts say that a schema refuses the value. */
static bool
is_denied(const EsPremise *premise, const EsSchemaNode *node)
{
	for (int i = 0; i < premise->facts.count; i++)
	{
		if (premise->facts.facts[i].kind == ES_FACT_IS_NOT && premise->facts.facts[i].node == node)
			return true;
	}
	return false;
}

/* Splits by "if". */
static bool
split_by_condition(EsBranches *branches, const EsPremise *premise, const EsApplied *applied)
{
	EsFacts    *facts;

	if (applied->if_schema == NULL || (applied->then_schema == NULL && applied->else_schema == NULL))
		return false;
	if (is_denied(premise, applied->if_schema))
		return false;
	if (es_premise_has(premise, applied->if_schema) &&
		(applied->then_schema == NULL || es_premise_has(premise, applied->then_schema)))
		return false;
	facts = add_branch(branches, premise, es_fact_is(applied->if_schema));
	if (applied->then_schema != NULL)
		*facts = es_fact_add(facts, es_fact_is(applied->then_schema));
	facts = add_branch(branches, premise, es_fact_is_not(applied->if_schema));
	if (applied->else_schema != NULL)
		*facts = es_fact_add(facts, es_fact_is(applied->else_schema));
	return true;
}

/* Splits by whether a member is there that other rules depend on. */
static bool
split_by_member(EsBranches *branches, const EsPremise *premise, const EsObjectRules *objects)
{
	if (objects == NULL || !objects->dependencies || (premise->types & ES_TYPE_OBJECT) == 0)
		return false;
	for (uint32 i = 0; i < objects->count; i++)
	{
		const EsSchemaProperty *property = &objects->properties[i];

		if (property->dependent == NULL || es_premise_requires(premise, &property->key) ||
			es_premise_forbids(premise, &property->key))
			continue;
		(void) add_branch(branches, premise, es_fact_present(&property->key));
		(void) add_branch(branches, premise, es_fact_absent(&property->key));
		return true;
	}
	return false;
}

/* Splits by type. */
static bool
split_by_type(EsBranches *branches, const EsPremise *premise)
{
	if (pg_popcount32(premise->types) < 2)
		return false;
	for (uint32 type = 1; type <= ES_TYPE_ANY; type <<= 1)
	{
		if ((premise->types & type) != 0)
			(void) add_branch(branches, premise, es_fact_types(type));
	}
	return true;
}

/*
 * es_split_premise finds alternatives that the facts do not decide, in the current memory
 * context; NULL if there are none.
 */
EsBranches *
es_split_premise(const EsPremise *premise, bool by_type)
{
	EsBranches *branches = palloc(sizeof(EsBranches));

	branches->count = 0;
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsSchemaNode *node = premise->is.nodes[i];
		const EsApplied *applied = node->applied;

		if (applied != NULL &&
			(split_by_list(branches, premise, &applied->any_of, false) ||
			 split_by_list(branches, premise, &applied->one_of, true) ||
			 split_by_condition(branches, premise, applied)))
			return branches;
		if (split_by_member(branches, premise, node->objects))
			return branches;
	}
	if (by_type && split_by_type(branches, premise))
		return branches;
	pfree(branches);
	return NULL;
}
