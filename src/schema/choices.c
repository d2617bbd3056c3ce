/*
 * choices.c
 *		Rules made of other schemas about the same value, proved.
 *
 * What anyOf accepts is taken for proved if one of its schemas accepts all; proof.c
 * splits what there is by type and by alternatives, so that is more than it seems.  If
 * all of them but one refuse everything, the problem is what is wrong with that one.
 */
#include "schema/choices.h"

#include "schema/model.h"
#include "schema/fact.h"
#include "schema/premise.h"
#include "schema/goal.h"


/* es_choices_prove_all proves "$ref", "$dynamicRef" and "allOf". */
EsAnswer
es_choices_prove_all(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsApplied *applied = goal->applied;
	EsAnswer	answer = ES_ANSWER_YES;
	EsAnswer	one;

	if (applied == NULL)
		return ES_ANSWER_YES;
	if (applied->ref != NULL)
		answer = es_proof_prove(proof, premise, applied->ref);
	if (applied->dynamic_ref != NULL)
	{
		one = es_proof_prove(proof, premise, applied->dynamic_ref);
		answer = Max(answer, one);
	}
	for (uint32 i = 0; i < applied->all_of.count; i++)
	{
		if (answer != ES_ANSWER_YES && proof->quiet > 0)
			break;
		one = es_proof_prove(proof, premise, applied->all_of.nodes[i]);
		answer = Max(answer, one);
	}
	return answer;
}

/* Finds a schema of a list that may accept something; *count becomes how many do, up to 2. */
static const EsSchemaNode *
find_possible(EsProof *proof, const EsPremise *premise, const EsSchemaList *list, int *count)
{
	const EsSchemaNode *found = NULL;

	*count = 0;
	for (uint32 i = 0; i < list->count && *count < 2; i++)
	{
		if (es_proof_is_empty_with(proof, premise, list->nodes[i]))
			continue;
		found = list->nodes[i];
		(*count)++;
	}
	return found;
}

/* Says what is wrong with a list none of whose schemas is known to accept everything. */
static EsAnswer
explain_choice(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const char *rule)
{
	const EsSchemaList *list = strcmp(rule, "anyOf") == 0 ? &goal->applied->any_of : &goal->applied->one_of;
	int			count;
	const EsSchemaNode *possible;
	EsAnswer	answer;

	if (proof->quiet > 0)
		return ES_ANSWER_UNKNOWN;
	possible = find_possible(proof, premise, list, &count);
	if (count == 0)
		return es_proof_refute(proof, goal, rule, "values that none of these schemas accepts");
	if (count > 1)
		return es_proof_doubt(proof, goal, rule, "none of these schemas accepts all of them, and several may accept some");
	answer = es_proof_prove(proof, premise, possible);
	if (answer != ES_ANSWER_YES)
		return answer;
	return es_proof_doubt(proof, goal, rule, "more than one of these schemas may accept a value");
}

/* es_choices_prove_any proves "anyOf". */
EsAnswer
es_choices_prove_any(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsSchemaList *list;

	if (goal->applied == NULL || goal->applied->any_of.count == 0)
		return ES_ANSWER_YES;
	list = &goal->applied->any_of;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (es_proof_try(proof, premise, list->nodes[i]) == ES_ANSWER_YES)
			return ES_ANSWER_YES;
	}
	return explain_choice(proof, premise, goal, "anyOf");
}

/* Tells whether all schemas of a list but one refuse everything. */
static bool
do_others_refuse(EsProof *proof, const EsPremise *premise, const EsSchemaList *list, uint32 one)
{
	for (uint32 i = 0; i < list->count; i++)
	{
		if (i != one && !es_proof_is_empty_with(proof, premise, list->nodes[i]))
			return false;
	}
	return true;
}

/* es_choices_prove_one proves "oneOf". */
EsAnswer
es_choices_prove_one(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsSchemaList *list;
	int			accepting = 0;

	if (goal->applied == NULL || goal->applied->one_of.count == 0)
		return ES_ANSWER_YES;
	list = &goal->applied->one_of;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (es_proof_try(proof, premise, list->nodes[i]) != ES_ANSWER_YES)
			continue;
		if (do_others_refuse(proof, premise, list, i))
			return ES_ANSWER_YES;
		accepting++;
	}
	if (accepting > 1)
		return es_proof_refute(proof, goal, "oneOf", "values that more than one of these schemas accepts");
	if (accepting == 1)
		return es_proof_doubt(proof, goal, "oneOf", "more than one of these schemas may accept a value");
	return explain_choice(proof, premise, goal, "oneOf");
}

/* es_choices_prove_not proves "not". */
EsAnswer
es_choices_prove_not(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsSchemaNode *denied = goal->applied == NULL ? NULL : goal->applied->not_schema;

	if (denied == NULL || es_proof_is_empty_with(proof, premise, denied))
		return ES_ANSWER_YES;
	if (es_proof_try(proof, premise, denied) == ES_ANSWER_YES || es_premise_is_only_types(denied))
		return es_proof_refute(proof, goal, "not", "values that this schema excludes");
	return es_proof_doubt(proof, goal, "not", "some of them may be excluded here");
}

/* es_choices_prove_condition proves "if", "then" and "else". */
EsAnswer
es_choices_prove_condition(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsApplied *applied = goal->applied;
	EsAnswer	answer = ES_ANSWER_YES;
	EsAnswer	otherwise;

	if (applied == NULL || applied->if_schema == NULL)
		return ES_ANSWER_YES;
	if (applied->then_schema != NULL)
		answer = es_proof_prove_with(proof, premise, es_fact_is(applied->if_schema), applied->then_schema);
	if (applied->else_schema == NULL || (answer != ES_ANSWER_YES && proof->quiet > 0))
		return answer;
	otherwise = es_proof_prove_with(proof, premise, es_fact_is_not(applied->if_schema), applied->else_schema);
	return Max(answer, otherwise);
}
