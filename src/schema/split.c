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

/* Splits by anyOf: by which of them accepts the value. */
static bool
split_by_any(EsBranches *branches, const EsPremise *premise, const EsSchemaList *list)
{
	if (list->count < 2 || list->count > ES_MAX_BRANCHES)
		return false;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (es_premise_has(premise, list->nodes[i]))
			return false;
	}
	for (uint32 i = 0; i < list->count; i++)
		(void) add_branch(branches, premise, es_fact_is(list->nodes[i]));
	return true;
}

/* Adds the alternative that of oneOf one accepts the value, no other; false if it is known. */
static bool
add_only_branch(EsBranches *branches, const EsPremise *premise, const EsSchemaList *list, uint32 one)
{
	EsFacts    *facts = add_branch(branches, premise, es_fact_is(list->nodes[one]));
	bool		known = es_premise_has(premise, list->nodes[one]);

	for (uint32 i = 0; i < list->count; i++)
	{
		if (i == one)
			continue;
		known = known && is_denied(premise, list->nodes[i]);
		*facts = es_fact_add(facts, es_fact_is_not(list->nodes[i]));
	}
	if (known)
		branches->count--;
	return !known;
}

/* Splits by oneOf. */
static bool
split_by_one(EsBranches *branches, const EsPremise *premise, const EsSchemaList *list)
{
	if (list->count < 2 || list->count > ES_MAX_BRANCHES)
		return false;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (es_premise_has(premise, list->nodes[i]))
			return add_only_branch(branches, premise, list, i);
	}
	for (uint32 i = 0; i < list->count; i++)
		(void) add_only_branch(branches, premise, list, i);
	return true;
}

/* Adds the alternative that "if" does or does not hold; false if that is known. */
static bool
add_condition_branch(EsBranches *branches, const EsPremise *premise, EsFact condition, const EsSchemaNode *then)
{
	bool		known = condition.kind == ES_FACT_IS ? es_premise_has(premise, condition.node) : is_denied(premise, condition.node);
	EsFacts    *facts;

	if (known && (then == NULL || es_premise_has(premise, then)))
		return false;
	facts = add_branch(branches, premise, condition);
	if (then != NULL)
		*facts = es_fact_add(facts, es_fact_is(then));
	return true;
}

/* Splits by "if". */
static bool
split_by_condition(EsBranches *branches, const EsPremise *premise, const EsApplied *applied)
{
	EsFact		holds = es_fact_is(applied->if_schema);
	EsFact		fails = es_fact_is_not(applied->if_schema);

	if (applied->if_schema == NULL || (applied->then_schema == NULL && applied->else_schema == NULL))
		return false;
	if (es_premise_has(premise, applied->if_schema))
		return add_condition_branch(branches, premise, holds, applied->then_schema);
	if (is_denied(premise, applied->if_schema))
		return add_condition_branch(branches, premise, fails, applied->else_schema);
	(void) add_condition_branch(branches, premise, holds, applied->then_schema);
	(void) add_condition_branch(branches, premise, fails, applied->else_schema);
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

		if (property->dependent == NULL || es_premise_has(premise, property->dependent) ||
			es_premise_forbids(premise, &property->key))
			continue;
		if (premise->types != ES_TYPE_OBJECT)
		{
			(void) add_branch(branches, premise, es_fact_types(ES_TYPE_OBJECT));
			(void) add_branch(branches, premise, es_fact_types(premise->types & ~ES_TYPE_OBJECT));
			return true;
		}
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
 * context; NULL if there are none.  *too_many becomes true if there are some, but more
 * than are looked at.
 */
EsBranches *
es_split_premise(const EsPremise *premise, bool by_type, bool *too_many)
{
	EsBranches *branches = palloc(sizeof(EsBranches));

	branches->count = 0;
	*too_many = false;
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsSchemaNode *node = premise->is.nodes[i];
		const EsApplied *applied = node->applied;

		*too_many = *too_many ||
			(applied != NULL && Max(applied->any_of.count, applied->one_of.count) > ES_MAX_BRANCHES);
		if (applied != NULL &&
			(split_by_any(branches, premise, &applied->any_of) ||
			 split_by_one(branches, premise, &applied->one_of) ||
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
