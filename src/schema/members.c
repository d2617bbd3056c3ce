/*
 * members.c
 *		Rules about objects, proved.
 *
 * Members are looked at class by class, see inside.c: each key that a schema of either
 * side names, each pattern of the premise, and all others.  Whether there is a key of a
 * class that another pattern does not match is not looked into; but for keys that no
 * schema names some are tried.
 */
#include "schema/members.h"

#include "json/node.h"
#include "json/pack.h"
#include "schema/model.h"
#include "schema/effort.h"
#include "schema/fact.h"
#include "schema/premise.h"
#include "schema/inside.h"
#include "schema/goal.h"

/* Tells whether a schema has rules for objects, and there may be objects. */
static bool
is_about_objects(const EsPremise *premise, const EsSchemaNode *goal)
{
	return goal->objects != NULL && (premise->types & ES_TYPE_OBJECT) != 0;
}

/* Takes the answer about a part into that about all; tells whether to go on. */
static bool
take_answer(const EsProof *proof, EsAnswer *answer, EsAnswer one)
{
	*answer = Max(*answer, one);
	return (*answer == ES_ANSWER_YES || proof->quiet == 0) && proof->effort.left > 0;
}

/* ---- which members there are ---- */

/* es_members_prove_count proves "minProperties" and "maxProperties". */
EsAnswer
es_members_prove_count(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;

	if (!is_about_objects(premise, goal))
		return ES_ANSWER_YES;
	if (premise->members.min < goal->objects->min_properties)
		answer = es_proof_refute(proof, goal, "minProperties", "objects of fewer than %u members", goal->objects->min_properties);
	if (premise->members.max > goal->objects->max_properties)
		answer = es_proof_refute(proof, goal, "maxProperties", "objects of more than %u members", goal->objects->max_properties);
	return answer;
}

/* Proves that a member is there. */
static EsAnswer
prove_present(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const char *rule, const EsKey *key)
{
	if (es_premise_requires(premise, key))
		return ES_ANSWER_YES;
	if (premise->members.max != ES_NO_LIMIT && premise->members.min > 0)
		return es_proof_doubt(proof, goal, rule, "not all objects are known to have member \"%s\"", es_proof_show_key(key));
	return es_proof_refute(proof, goal, rule, "objects without member \"%s\"", es_proof_show_key(key));
}

/* es_members_prove_required proves "required". */
EsAnswer
es_members_prove_required(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;

	if (!is_about_objects(premise, goal) || goal->objects->required_count == 0)
		return ES_ANSWER_YES;
	for (uint32 i = 0; i < goal->objects->count; i++)
	{
		const EsSchemaProperty *property = &goal->objects->properties[i];

		if (property->required &&
			!take_answer(proof, &answer, prove_present(proof, premise, goal, "required", &property->key)))
			break;
	}
	return answer;
}

/* Proves what depends on a member. */
static EsAnswer
prove_dependencies_of(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const EsSchemaProperty *property)
{
	EsAnswer	answer = ES_ANSWER_YES;
	EsFacts		facts = es_fact_add(&premise->facts, es_fact_types(ES_TYPE_OBJECT));
	EsPremise  *present;

	facts = es_fact_add(&facts, es_fact_present(&property->key));
	present = es_proof_make_premise(proof, &facts);
	for (uint32 i = 0; i < property->needs_count && present->types != 0; i++)
	{
		if (!take_answer(proof, &answer, prove_present(proof, present, goal, "dependentRequired", &property->needs[i])))
			return answer;
	}
	if (property->dependent != NULL)
		(void) take_answer(proof, &answer, es_proof_prove(proof, present, property->dependent));
	if (answer == ES_ANSWER_YES || es_proof_try(proof, present, &es_fact_nothing) != ES_ANSWER_YES)
		return answer;
	return ES_ANSWER_YES;
}

/* es_members_prove_dependencies proves "dependentRequired" and "dependentSchemas". */
EsAnswer
es_members_prove_dependencies(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;

	if (!is_about_objects(premise, goal) || !goal->objects->dependencies)
		return ES_ANSWER_YES;
	for (uint32 i = 0; i < goal->objects->count; i++)
	{
		const EsSchemaProperty *property = &goal->objects->properties[i];

		if ((property->needs_count > 0 || property->dependent != NULL) &&
			!take_answer(proof, &answer, prove_dependencies_of(proof, premise, goal, property)))
			break;
	}
	return answer;
}

/* ---- what they are ---- */

/* Proves that members of a class are accepted. */
static EsAnswer
prove_members(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const EsMemberClass *members,
			  const EsSchemaNode *part)
{
	EsFacts		facts = es_inside_member(premise, members);
	const char *rule = goal->objects != NULL && goal->objects->additional == part ? "additionalProperties" :
	goal->unevaluated_properties == part ? "unevaluatedProperties" : "properties";

	if (!part->refuses)
		return es_proof_prove_part(proof, &facts, part);
	if (es_proof_try_part(proof, &facts, part) == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	if (members->key != NULL)
		return es_proof_refute(proof, goal, rule, "objects with member \"%s\"", es_proof_show_key(members->key));
	if (members->pattern != NULL)
	{
		EsKey		pattern = {0};

		pattern.bytes = members->pattern->pattern_text.value.bytes;
		pattern.len = members->pattern->pattern_text.len;
		return es_proof_refute(proof, goal, rule, "objects with members that match \"%.100s\"", es_proof_show_key(&pattern));
	}
	return es_proof_refute(proof, goal, rule, "objects with further members");
}

/* Proves it where a failure does not tell that there is such a member. */
static EsAnswer
prove_possible_members(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const EsMemberClass *members,
					   const EsSchemaNode *part)
{
	EsAnswer	answer;

	proof->quiet++;
	answer = prove_members(proof, premise, goal, members, part);
	proof->quiet--;
	if (answer == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	return es_proof_doubt(proof, part, "patternProperties", "which keys match several patterns is not looked into");
}

/* es_members_prove_named proves "properties". */
EsAnswer
es_members_prove_named(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;

	if (!is_about_objects(premise, goal))
		return ES_ANSWER_YES;
	for (uint32 i = 0; i < goal->objects->count; i++)
	{
		EsMemberClass named = {.key = &goal->objects->properties[i].key};
		const EsSchemaNode *part = goal->objects->properties[i].schema;

		if (part != NULL && !take_answer(proof, &answer, prove_members(proof, premise, goal, &named, part)))
			break;
	}
	return answer;
}

/* The classes of members that there are, but for that of all others. */
typedef struct MemberClasses
{
	List	   *keys;			/* see es_inside_keys and es_inside_patterns */
	List	   *patterns;
} MemberClasses;

/* Tells whether the premise has a pattern of the same text. */
static bool
has_pattern(const List *patterns, const EsPatternProperty *pattern, EsEffort *effort)
{
	ListCell   *cell;

	es_effort_spend(effort, list_length(patterns) / ES_TEXTS_A_STEP);
	foreach(cell, patterns)
	{
		if (es_inside_same_pattern(&((const EsPatternProperty *) lfirst(cell))->pattern_text, &pattern->pattern_text))
			return true;
	}
	return false;
}

/* Proves what members must be that match a pattern and that no pattern of its text tells of. */
static EsAnswer
prove_unlike_patterns(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const EsPatternProperty *pattern,
					  const List *patterns)
{
	EsAnswer	answer = ES_ANSWER_YES;
	EsMemberClass others = {0};
	ListCell   *cell;

	foreach(cell, patterns)
	{
		EsMemberClass matching = {.pattern = lfirst(cell)};

		if (!take_answer(proof, &answer, prove_possible_members(proof, premise, goal, &matching, pattern->schema)))
			return answer;
	}
	if (patterns == NIL)
		(void) take_answer(proof, &answer, prove_members(proof, premise, goal, &others, pattern->schema));
	else
		(void) take_answer(proof, &answer, prove_possible_members(proof, premise, goal, &others, pattern->schema));
	return answer;
}

/* Proves what members that match a pattern must be. */
static EsAnswer
prove_pattern_property(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const EsPatternProperty *pattern,
					   const MemberClasses *classes)
{
	EsAnswer	answer = ES_ANSWER_YES;
	EsMemberClass same = {.pattern = pattern};
	ListCell   *cell;

	CHECK_FOR_INTERRUPTS();
	es_effort_spend(premise->effort, list_length(classes->keys));
	foreach(cell, classes->keys)
	{
		EsMemberClass named = {.key = lfirst(cell)};

		if (es_inside_matches(pattern, named.key) &&
			!take_answer(proof, &answer, prove_members(proof, premise, goal, &named, pattern->schema)))
			return answer;
	}
	if (has_pattern(classes->patterns, pattern, premise->effort))
		(void) take_answer(proof, &answer, prove_members(proof, premise, goal, &same, pattern->schema));
	else
		(void) take_answer(proof, &answer, prove_unlike_patterns(proof, premise, goal, pattern, classes->patterns));
	return answer;
}

/* es_members_prove_matching proves "patternProperties". */
EsAnswer
es_members_prove_matching(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;
	MemberClasses classes;

	if (!is_about_objects(premise, goal) || goal->objects->pattern_count == 0)
		return ES_ANSWER_YES;
	classes.keys = es_inside_keys(premise, goal);
	classes.patterns = es_inside_patterns(premise);
	for (uint32 i = 0; i < goal->objects->pattern_count; i++)
	{
		const EsPatternProperty *pattern = &goal->objects->patterns[i];

		if (!take_answer(proof, &answer, prove_pattern_property(proof, premise, goal, pattern, &classes)))
			break;
	}
	return answer;
}

/* Tells whether a schema to be proved leaves a class to "additional" or "unevaluated". */
typedef bool (*EsLeftOver) (const EsSchemaNode *goal, const EsMemberClass *members, EsEffort *effort);

/* Tells whether "additionalProperties" is about a class. */
static bool
is_left_to_additional(const EsSchemaNode *goal, const EsMemberClass *members, EsEffort *effort)
{
	es_effort_spend(effort, 1);
	return !es_inside_is_named(goal, members, effort);
}

/* Tells whether "unevaluatedProperties" may be about a class. */
static bool
may_be_left_to_unevaluated(const EsSchemaNode *goal, const EsMemberClass *members, EsEffort *effort)
{
	EsSchemaNode without = *goal;

	without.unevaluated_properties = NULL;
	return !es_inside_must_evaluate(&without, members, effort);
}

/* Finds a key that no schema names and no pattern matches; false if none is known. */
static bool
find_other_key(const EsPremise *premise, const EsSchemaNode *goal, const List *patterns, EsLeftOver is_left, EsKey *key)
{
	static const char *const tried[] = {"other", "x", "Zz_9", "-", "0", "~ ", "another_member"};

	for (int i = 0; i < lengthof(tried); i++)
	{
		EsMemberClass named = {.key = key};
		bool		matched = false;
		ListCell   *cell;

		*key = es_node_key(tried[i], strlen(tried[i]));
		foreach(cell, patterns)
			matched = matched || es_inside_matches(lfirst(cell), key);
		foreach(cell, es_inside_keys(premise, goal))
		{
			const EsKey *other = lfirst(cell);

			matched = matched || (other->len == key->len && memcmp(other->bytes, key->bytes, key->len) == 0);
		}
		if (!matched && is_left(goal, &named, premise->effort))
			return true;
	}
	return false;
}

/* Proves what all members must be that a schema leaves over. */
static EsAnswer
prove_left_over(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, EsLeftOver is_left,
				const EsSchemaNode *part)
{
	EsAnswer	answer = ES_ANSWER_YES;
	List	   *patterns = es_inside_patterns(premise);
	EsMemberClass others = {0};
	EsKey		key;
	ListCell   *cell;

	foreach(cell, es_inside_keys(premise, goal))
	{
		EsMemberClass named = {.key = lfirst(cell)};

		if (is_left(goal, &named, premise->effort) &&
			!take_answer(proof, &answer, prove_members(proof, premise, goal, &named, part)))
			return answer;
	}
	foreach(cell, patterns)
	{
		EsMemberClass matching = {.pattern = lfirst(cell)};

		if (!es_effort_allows(premise->effort, 1))
			return ES_ANSWER_UNKNOWN;
		if (!is_left(goal, &matching, premise->effort))
			continue;
		if (!take_answer(proof, &answer, goal->objects == NULL || goal->objects->pattern_count > 0 ?
						 prove_possible_members(proof, premise, goal, &matching, part) :
						 prove_members(proof, premise, goal, &matching, part)))
			return answer;
	}
	if (!is_left(goal, &others, premise->effort))
		return answer;
	if (find_other_key(premise, goal, patterns, is_left, &key))
		(void) take_answer(proof, &answer, prove_members(proof, premise, goal, &others, part));
	else
		(void) take_answer(proof, &answer, prove_possible_members(proof, premise, goal, &others, part));
	return answer;
}

/* es_members_prove_additional proves "additionalProperties". */
EsAnswer
es_members_prove_additional(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	if (!is_about_objects(premise, goal) || goal->objects->additional == NULL)
		return ES_ANSWER_YES;
	return prove_left_over(proof, premise, goal, is_left_to_additional, goal->objects->additional);
}

/* Tells whether only some members are allowed that are named. */
static bool
are_all_members_named(const EsPremise *premise)
{
	EsMemberClass others = {0};
	EsFacts		facts = es_inside_member(premise, &others);

	return es_fact_refuse_all(&facts) && es_inside_patterns(premise) == NIL;
}

/* Proves that the keys are accepted that members may have, which are all named. */
static EsAnswer
prove_named_keys(EsProof *proof, const EsPremise *premise, const EsSchemaNode *names)
{
	EsAnswer	answer = ES_ANSWER_YES;
	ListCell   *cell;

	foreach(cell, es_inside_keys(premise, NULL))
	{
		EsMemberClass named = {.key = lfirst(cell)};
		EsFacts		facts = es_inside_member(premise, &named);
		EsNode		name = es_node_view_string(named.key->bytes, named.key->len);

		if (es_fact_refuse_all(&facts) || es_premise_accepts(names, es_pack_jsonb(&name)))
			continue;
		if (!take_answer(proof, &answer, es_proof_refute(proof, names, "propertyNames", "objects with member \"%s\"",
														 es_proof_show_key(named.key))))
			break;
	}
	return answer;
}

/* es_members_prove_names proves "propertyNames". */
EsAnswer
es_members_prove_names(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsFacts		facts;

	if (!is_about_objects(premise, goal) || goal->objects->names == NULL || premise->members.max == 0)
		return ES_ANSWER_YES;
	if (are_all_members_named(premise))
		return prove_named_keys(proof, premise, goal->objects->names);
	facts = es_inside_names(premise);
	if (es_inside_patterns(premise) == NIL)
		return es_proof_prove_part(proof, &facts, goal->objects->names);
	if (es_proof_try_part(proof, &facts, goal->objects->names) == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	return es_proof_doubt(proof, goal, "propertyNames", "keys that match a pattern are not held against other rules");
}

/* es_members_prove_unevaluated proves "unevaluatedProperties". */
EsAnswer
es_members_prove_unevaluated(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsSchemaNode *part = goal->unevaluated_properties;
	EsAnswer	answer;

	if (part == NULL || (premise->types & ES_TYPE_OBJECT) == 0)
		return ES_ANSWER_YES;
	if (!es_inside_has_alternatives(goal, &proof->effort))
		return prove_left_over(proof, premise, goal, may_be_left_to_unevaluated, part);
	proof->quiet++;
	answer = prove_left_over(proof, premise, goal, may_be_left_to_unevaluated, part);
	proof->quiet--;
	if (answer == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	return es_proof_doubt(proof, goal, "unevaluatedProperties", "which members are evaluated depends on the object");
}
