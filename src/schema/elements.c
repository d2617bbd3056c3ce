/*
 * elements.c
 *		Rules about arrays, proved.
 *
 * The elements that a schema of either side has rules of their own for are looked at
 * one by one, and those behind them once for all.
 */
#include "schema/elements.h"

#include "schema/model.h"
#include "schema/fact.h"
#include "schema/premise.h"
#include "schema/inside.h"
#include "schema/goal.h"

/* Tells whether a schema has rules for arrays, and there may be arrays. */
static bool
is_about_arrays(const EsPremise *premise, const EsSchemaNode *goal)
{
	return goal->arrays != NULL && (premise->types & ES_TYPE_ARRAY) != 0;
}

/* es_elements_prove_count proves "minItems" and "maxItems". */
EsAnswer
es_elements_prove_count(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;

	if (!is_about_arrays(premise, goal))
		return ES_ANSWER_YES;
	if (premise->items.min < goal->arrays->min_items)
		answer = es_proof_refute(proof, goal, "minItems", "arrays of fewer than %u elements", goal->arrays->min_items);
	if (premise->items.max > goal->arrays->max_items)
		answer = es_proof_refute(proof, goal, "maxItems", "arrays of more than %u elements", goal->arrays->max_items);
	return answer;
}

/* es_elements_prove_unique proves "uniqueItems". */
EsAnswer
es_elements_prove_unique(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	if (!is_about_arrays(premise, goal) || !goal->arrays->unique_items || premise->unique || premise->items.max < 2)
		return ES_ANSWER_YES;
	if (es_inside_prefix(premise) > 0)
		return es_proof_doubt(proof, goal, "uniqueItems", "elements of different schemas are not compared");
	return es_proof_refute(proof, goal, "uniqueItems", "arrays with equal elements");
}

/* Proves that an element is accepted; "index" ES_NO_LIMIT: one after all prefixes. */
static EsAnswer
prove_element(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, uint32 index, const EsSchemaNode *part)
{
	EsFacts		facts = es_inside_item(premise, index);
	const char *rule = part == goal->unevaluated_items ? "unevaluatedItems" : "items";

	if (!part->refuses)
		return es_proof_prove_part(proof, &facts, part);
	if (es_proof_try_part(proof, &facts, part) == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	if (index == ES_NO_LIMIT)
		return es_proof_refute(proof, goal, rule, "further elements of arrays");
	return es_proof_refute(proof, goal, rule, "arrays with element %u, counted from 0", index);
}

/* es_elements_prove_prefix proves "prefixItems". */
EsAnswer
es_elements_prove_prefix(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;

	if (!is_about_arrays(premise, goal))
		return ES_ANSWER_YES;
	for (uint32 i = 0; i < goal->arrays->prefix_items.count && i < premise->items.max; i++)
	{
		EsAnswer	one = prove_element(proof, premise, goal, i, goal->arrays->prefix_items.nodes[i]);

		answer = Max(answer, one);
		if (answer != ES_ANSWER_YES && proof->quiet > 0)
			break;
	}
	return answer;
}

/* Proves that the elements from one on are accepted. */
static EsAnswer
prove_elements_from(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, uint32 first, const EsSchemaNode *part)
{
	uint32		prefix = es_inside_prefix(premise);
	EsAnswer	answer = ES_ANSWER_YES;

	for (uint32 i = first; i < prefix && i < premise->items.max; i++)
	{
		EsAnswer	one = prove_element(proof, premise, goal, i, part);

		answer = Max(answer, one);
		if (answer != ES_ANSWER_YES && proof->quiet > 0)
			return answer;
	}
	if (premise->items.max > Max(prefix, first))
	{
		EsAnswer	rest = prove_element(proof, premise, goal, ES_NO_LIMIT, part);

		answer = Max(answer, rest);
	}
	return answer;
}

/* es_elements_prove_rest proves "items". */
EsAnswer
es_elements_prove_rest(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	if (!is_about_arrays(premise, goal) || goal->arrays->items == NULL)
		return ES_ANSWER_YES;
	return prove_elements_from(proof, premise, goal, goal->arrays->prefix_items.count, goal->arrays->items);
}

/* ---- contains ---- */

/* Counts the elements that every array has and that a schema accepts, up to some number. */
static uint32
count_contained(EsProof *proof, const EsPremise *premise, const EsSchemaNode *contained, uint32 enough)
{
	uint32		prefix = es_inside_prefix(premise);
	uint32		count = 0;
	EsFacts		facts;

	for (uint32 i = 0; i < prefix && i < premise->items.min && count < enough; i++)
	{
		facts = es_inside_item(premise, i);
		if (es_proof_try_part(proof, &facts, contained) == ES_ANSWER_YES)
			count++;
	}
	if (count >= enough || premise->items.min <= prefix)
		return count;
	facts = es_inside_item(premise, ES_NO_LIMIT);
	if (es_proof_try_part(proof, &facts, contained) == ES_ANSWER_YES)
		count += premise->items.min - prefix;
	return count;
}

/* Tells whether every array has at least so many elements that a schema accepts. */
static bool
must_contain(EsProof *proof, const EsPremise *premise, const EsArrayRules *wanted)
{
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsArrayRules *known = premise->is.nodes[i]->arrays;
		EsFacts		facts;

		if (known == NULL || known->contains == NULL || known->min_contains < wanted->min_contains)
			continue;
		facts = es_fact_of(es_fact_is(known->contains));
		if (es_proof_try_part(proof, &facts, wanted->contains) == ES_ANSWER_YES)
			return true;
	}
	return count_contained(proof, premise, wanted->contains, wanted->min_contains) >= wanted->min_contains;
}

/* Tells whether no element can be accepted by a schema. */
static bool
contains_none(EsProof *proof, const EsPremise *premise, const EsSchemaNode *contained)
{
	uint32		prefix = es_inside_prefix(premise);

	for (uint32 i = 0; i <= prefix; i++)
	{
		EsFacts		facts = es_inside_item(premise, i < prefix ? i : ES_NO_LIMIT);

		facts = es_fact_add(&facts, es_fact_is(contained));
		if (es_proof_try_part(proof, &facts, &es_fact_nothing) != ES_ANSWER_YES)
			return false;
	}
	return true;
}

/* Tells whether no array has more elements than wanted that a schema accepts. */
static bool
must_not_contain_more(EsProof *proof, const EsPremise *premise, const EsArrayRules *wanted)
{
	if (premise->items.max <= wanted->max_contains)
		return true;
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsArrayRules *known = premise->is.nodes[i]->arrays;
		EsFacts		facts;

		if (known == NULL || known->contains == NULL || known->max_contains > wanted->max_contains)
			continue;
		facts = es_fact_of(es_fact_is(wanted->contains));
		if (es_proof_try_part(proof, &facts, known->contains) == ES_ANSWER_YES)
			return true;
	}
	return contains_none(proof, premise, wanted->contains);
}

/* es_elements_prove_contains proves "contains", "minContains" and "maxContains". */
EsAnswer
es_elements_prove_contains(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsArrayRules *wanted = goal->arrays;
	EsAnswer	answer = ES_ANSWER_YES;
	const char *rule;

	if (!is_about_arrays(premise, goal) || wanted->contains == NULL)
		return ES_ANSWER_YES;
	rule = wanted->min_contains_given ? "minContains" : "contains";
	if (wanted->min_contains > 0 && !must_contain(proof, premise, wanted))
	{
		if (premise->items.min < wanted->min_contains)
			answer = es_proof_refute(proof, goal, rule, "arrays of fewer than %u elements", wanted->min_contains);
		else
			answer = es_proof_doubt(proof, goal, rule, "not all arrays are known to contain enough of these elements");
	}
	if (wanted->max_contains != ES_NO_LIMIT && !must_not_contain_more(proof, premise, wanted))
	{
		EsAnswer	more = es_proof_doubt(proof, goal, "maxContains", "arrays may contain more of these elements");

		answer = Max(answer, more);
	}
	return answer;
}

/* es_elements_prove_unevaluated proves "unevaluatedItems". */
EsAnswer
es_elements_prove_unevaluated(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsSchemaNode without = *goal;
	uint32		first;
	EsAnswer	answer;

	if (goal->unevaluated_items == NULL || (premise->types & ES_TYPE_ARRAY) == 0)
		return ES_ANSWER_YES;
	without.unevaluated_items = NULL;
	first = es_inside_must_evaluate_items(&without, &proof->effort);
	if (first == ES_NO_LIMIT)
		return ES_ANSWER_YES;
	if (es_inside_may_evaluate_items(&without, &proof->effort) == first)
		return prove_elements_from(proof, premise, goal, first, goal->unevaluated_items);
	proof->quiet++;
	answer = prove_elements_from(proof, premise, goal, first, goal->unevaluated_items);
	proof->quiet--;
	if (answer == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	return es_proof_doubt(proof, goal, "unevaluatedItems", "which elements are evaluated depends on the array");
}
