/*
 * proof.c
 *		Proofs that whatever has some properties is accepted by a schema.
 *
 * A goal is a list of facts and a schema: every value of which the facts are true is
 * accepted by the schema.  It is proved rule by rule, by the functions that compat.c
 * lists.  Where one fails, what is known is looked at more closely: is there such a
 * value at all?  And if the facts have alternatives, each of them is taken for a fact
 * and the rule is proved again.  So facts may be left out wherever they are hard to
 * use: it costs an answer, and never makes a wrong one.
 *
 * A proof first looks for a yes, quietly.  Only what fails in the end is gone through
 * again to name the problems.
 */
#include "schema/proof.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "json/node.h"
#include "json/text.h"
#include "schema/pointer.h"
#include "schema/violation.h"
#include "schema/validate.h"
#include "schema/effort.h"
#include "schema/inside.h"
#include "schema/likeness.h"
#include "schema/split.h"

#define MAX_SPLITS		6		/* alternatives of one value looked at one in
								 * another */
#define MAX_SHOWN		100		/* bytes of a value in a message */
#define MAX_PROBLEMS	100
#define MAX_LOOKED_AT	64		/* elements and members that an array or
								 * object must have */

/* es_proof_begin makes a proof ready, in the current memory context. */
void
es_proof_begin(EsProof *proof)
{
	proof->context = CurrentMemoryContext;
	es_goal_begin(&proof->goals);
}

/* ---- problems ---- */

/* Notes a problem, unless it is known. */
static void
note_problem(EsProof *proof, const EsProblem *problem)
{
	ListCell   *cell;
	EsProblem  *copy;
	MemoryContext old;

	if (list_length(proof->problems) >= MAX_PROBLEMS)
		return;
	foreach(cell, proof->problems)
	{
		const EsProblem *other = lfirst(cell);

		if (strcmp(other->place, problem->place) == 0 && strcmp(other->rule, problem->rule) == 0 &&
			strcmp(other->message, problem->message) == 0)
			return;
	}
	old = MemoryContextSwitchTo(proof->context);
	copy = palloc(sizeof(EsProblem));
	*copy = *problem;
	copy->place = pstrdup(problem->place);
	copy->message = pstrdup(problem->message);
	proof->problems = lappend(proof->problems, copy);
	MemoryContextSwitchTo(old);
}

static void write_message(StringInfo out, const char *format, va_list args) pg_attribute_printf(2, 0);

/* Writes a message, with room for what it takes. */
static void
write_message(StringInfo out, const char *format, va_list args)
{
	int			needed;
	va_list		copy;

	do
	{
		va_copy(copy, args);
		needed = appendStringInfoVA(out, format, copy);
		va_end(copy);
		if (needed > 0)
			enlargeStringInfo(out, needed);
	} while (needed > 0);
}

/*
 * es_proof_refute says that a schema refuses values that there are.  The format gives
 * the values, in the plural.
 */
EsAnswer
es_proof_refute(EsProof *proof, const EsSchemaNode *goal, const char *rule, const char *format,...)
{
	EsProblem	problem = {.rule = rule,.decided = true};
	StringInfoData message;
	va_list		args;

	if (proof->quiet > 0)
		return ES_ANSWER_NO;
	initStringInfo(&message);
	appendStringInfo(&message, "%s accepts ", proof->accepted);
	va_start(args, format);
	write_message(&message, format, args);
	va_end(args);
	appendStringInfo(&message, ", %s does not", proof->by);
	problem.place = es_pointer_text(goal->place);
	problem.message = message.data;
	note_problem(proof, &problem);
	return ES_ANSWER_NO;
}

/* es_proof_doubt says that it is not known whether a schema refuses some; the format says why. */
EsAnswer
es_proof_doubt(EsProof *proof, const EsSchemaNode *goal, const char *rule, const char *format,...)
{
	EsProblem	problem = {.rule = rule};
	StringInfoData message;
	va_list		args;

	if (proof->quiet > 0)
		return ES_ANSWER_UNKNOWN;
	initStringInfo(&message);
	appendStringInfo(&message, "it cannot be decided whether %s accepts all that %s does: ", proof->by, proof->accepted);
	va_start(args, format);
	write_message(&message, format, args);
	va_end(args);
	problem.place = es_pointer_text(goal->place);
	problem.message = message.data;
	note_problem(proof, &problem);
	return ES_ANSWER_UNKNOWN;
}

/* ---- what is known, more closely ---- */

/* es_proof_make_premise finds what follows from facts, in the current memory context. */
EsPremise *
es_proof_make_premise(EsProof *proof, const EsFacts *facts)
{
	EsPremise  *premise = es_premise_make(facts, &proof->effort);

	es_inside_limit(premise);
	return premise;
}

/* Tells whether some part of a value cannot be. */
static bool
is_part_impossible(EsProof *proof, const EsFacts *facts)
{
	return facts->count > 0 && es_proof_try_part(proof, facts, &es_fact_nothing) == ES_ANSWER_YES;
}

/* Tells whether there is a member that must be and cannot be. */
static bool
has_impossible_member(EsProof *proof, const EsPremise *premise)
{
	int			looked_at = 0;
	ListCell   *cell;

	foreach(cell, es_inside_keys(premise, NULL))
	{
		EsMemberClass named = {.key = lfirst(cell)};
		EsFacts		facts;

		if (!es_premise_requires(premise, named.key))
			continue;
		facts = es_inside_member(premise, &named);
		if (is_part_impossible(proof, &facts))
			return true;
		if (++looked_at == MAX_LOOKED_AT)
			break;
	}
	foreach(cell, premise->present)
	{
		EsMemberClass named = {.key = lfirst(cell)};
		EsFacts		facts = es_inside_member(premise, &named);

		if (is_part_impossible(proof, &facts))
			return true;
	}
	return false;
}

/* Tells whether there is an element that must be and cannot be. */
static bool
has_impossible_item(EsProof *proof, const EsPremise *premise)
{
	uint32		prefix = es_inside_prefix(premise);

	for (uint32 i = 0; i < Min(premise->items.min, MAX_LOOKED_AT) && i <= prefix; i++)
	{
		EsFacts		facts = es_inside_item(premise, i);

		if (is_part_impossible(proof, &facts))
			return true;
	}
	for (int i = 0; i < premise->is.count && prefix == 0; i++)
	{
		const EsArrayRules *arrays = premise->is.nodes[i]->arrays;
		EsFacts		facts;

		if (arrays == NULL || arrays->contains == NULL || arrays->min_contains == 0)
			continue;
		facts = es_inside_item(premise, 0);
		facts = es_fact_add(&facts, es_fact_is(arrays->contains));
		if (is_part_impossible(proof, &facts))
			return true;
	}
	return false;
}

/*
 * Takes types away of which every value is accepted by a schema that must refuse it.  Of
 * many schemas that refuse it no two are looked at together: they would be again for each.
 */
static void
drop_denied_types(EsProof *proof, EsPremise *premise, const EsSchemaNode *denied)
{
	int			outer = proof->denying;

	if (outer == proof->goals.level + 1)
		return;
	proof->denying = proof->goals.level + 1;
	for (uint32 type = 1; type <= ES_TYPE_ANY; type <<= 1)
	{
		EsFacts		facts;

		if ((premise->types & type) == 0)
			continue;
		facts = es_fact_add(&premise->facts, es_fact_types(type));
		proof->quiet++;
		if (es_proof_prove_facts(proof, &facts, denied) == ES_ANSWER_YES)
			premise->types &= ~type;
		proof->quiet--;
	}
	proof->denying = outer;
}

/* Finds, once, which types of values there are none of; tells whether that is news. */
static bool
refine_premise(EsProof *proof, EsPremise *premise)
{
	uint32		before = premise->types;

	if (premise->refined)
		return false;
	premise->refined = true;
	if ((premise->types & ES_TYPE_OBJECT) != 0 && has_impossible_member(proof, premise))
		premise->types &= ~ES_TYPE_OBJECT;
	if ((premise->types & ES_TYPE_ARRAY) != 0 && has_impossible_item(proof, premise))
		premise->types &= ~ES_TYPE_ARRAY;
	for (int i = 0; i < premise->is_not.count && premise->types != 0; i++)
		drop_denied_types(proof, premise, premise->is_not.nodes[i]);
	return premise->types != before;
}

/* ---- rules ---- */

/* es_proof_show_value gives a value as messages show it. */
const char *
es_proof_show_value(const Jsonb *value)
{
	StringInfoData text;

	initStringInfo(&text);
	es_jsontext_jsonb(&text, (Jsonb *) value);
	return es_names_cut(text.data, text.len, MAX_SHOWN);
}

/* es_proof_show_key gives a member's key as messages show it. */
const char *
es_proof_show_key(const EsKey *key)
{
	return es_names_cut(key->bytes, key->len, MAX_SHOWN);
}

/* Proves that values that can be listed are accepted. */
static EsAnswer
prove_values(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer = ES_ANSWER_YES;
	ListCell   *cell;

	foreach(cell, es_premise_values(premise))
	{
		const Jsonb *value = lfirst(cell);
		EsSchema	schema = {(EsSchemaNode *) goal};
		EsViolation violation = {.rule = "false"};

		if (es_premise_accepts(goal, value))
			continue;
		if (proof->quiet > 0)
			return ES_ANSWER_NO;
		(void) es_schema_find_violation(&schema, value, &violation);
		answer = es_proof_refute(proof, goal, violation.rule, "the value %s", es_proof_show_value(value));
	}
	return answer;
}

/* Tries a rule. */
static EsAnswer
try_rule(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const EsRule *rule)
{
	EsAnswer	answer;

	if (premise->types == 0)
		return ES_ANSWER_YES;
	proof->quiet++;
	answer = rule->prove(proof, premise, goal);
	proof->quiet--;
	return answer;
}

/*
 * Proves a rule of a schema; if that fails, with each alternative.  There are "splits"
 * alternatives among the facts already.
 */
static EsAnswer
prove_rule(EsProof *proof, EsPremise *premise, const EsSchemaNode *goal, const EsRule *rule, int splits)
{
	EsBranches *branches;
	bool		too_many;
	EsAnswer	answer;

	CHECK_FOR_INTERRUPTS();
	if (es_premise_is_finite(premise))
		return prove_values(proof, premise, goal);
	answer = try_rule(proof, premise, goal, rule);
	if (answer == ES_ANSWER_YES || !es_effort_allows(&proof->effort, 1))
		return answer;
	if (refine_premise(proof, premise) && try_rule(proof, premise, goal, rule) == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	branches = es_split_premise(premise, rule->by_type, &too_many);
	if (too_many || (branches != NULL && splits == MAX_SPLITS))
		return es_proof_doubt(proof, goal, rule->name, "there are too many alternatives");
	if (branches == NULL)
		return proof->quiet > 0 ? answer : rule->prove(proof, premise, goal);
	answer = ES_ANSWER_YES;
	for (int i = 0; i < branches->count && answer != ES_ANSWER_NO; i++)
	{
		EsAnswer	branch = prove_rule(proof, es_proof_make_premise(proof, &branches->facts[i]), goal, rule, splits + 1);

		answer = Max(answer, branch);
		if (answer != ES_ANSWER_YES && proof->quiet > 0)
			break;
	}
	return answer;
}

/* Proves that there is no such value. */
static EsAnswer
prove_nothing(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	if (premise->types == 0)
		return ES_ANSWER_YES;
	return es_proof_refute(proof, goal, "false", "values");
}

/* Proves a goal that is not known. */
static EsAnswer
prove_rules(EsProof *proof, const EsPremise *given, const EsSchemaNode *goal)
{
	static const EsRule nothing = {"false", prove_nothing, true};
	EsAnswer	answer = ES_ANSWER_YES;
	EsPremise  *premise = palloc(sizeof(EsPremise));
	MemoryContext work;
	MemoryContext old;

	*premise = *given;			/* may be refined */
	if (premise->types == 0)
		return ES_ANSWER_YES;
	if (es_premise_is_finite(premise))
		return prove_values(proof, premise, goal);
	if (goal->refuses)
		return prove_rule(proof, premise, goal, &nothing, 0);
	work = AllocSetContextCreate(CurrentMemoryContext, "eventstore rule", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(work);
	for (int i = 0; i < proof->rule_count && (answer == ES_ANSWER_YES || proof->quiet == 0); i++)
	{
		EsAnswer	one = prove_rule(proof, premise, goal, &proof->rules[i], 0);

		answer = Max(answer, one);
		MemoryContextReset(work);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return answer;
}

/* ---- goals ---- */

/*
 * Tells whether the premise has a schema that says the same in the same way, where that
 * is found out sooner than proved.
 */
static bool
has_alike(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	if (goal->applied == NULL && goal->unevaluated_items == NULL && goal->unevaluated_properties == NULL &&
		(goal->objects == NULL || !goal->objects->dependencies))
		return false;
	for (int i = 0; i < premise->is.count; i++)
	{
		if (es_likeness_check(premise->is.nodes[i], goal, &proof->effort))
			return true;
	}
	return false;
}

/* Proves a goal that is not known. */
static EsAnswer
work_on_goal(EsProof *proof, const EsPremise *premise, EsGoal *goal)
{
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "eventstore goal", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	EsOpenGoal	open = es_goal_open(&proof->goals, goal);
	EsAnswer	answer;

	answer = has_alike(proof, premise, goal->node) ? ES_ANSWER_YES : prove_rules(proof, premise, goal->node);
	es_goal_close(&proof->goals, &open, answer, proof->quiet == 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return answer;
}

/* Proves a goal; "premise" is what follows from the facts, or NULL if that is not known yet. */
static EsAnswer
prove_goal(EsProof *proof, const EsFacts *facts, const EsPremise *premise, const EsSchemaNode *node)
{
	EsGoal	   *goal;
	EsAnswer	answer;

	if (node->types == ES_TYPE_ANY && es_premise_is_only_types(node))
		return ES_ANSWER_YES;
	if (!es_effort_allows(&proof->effort, 1 + facts->count / 16))
		return ES_ANSWER_UNKNOWN;
	goal = es_goal_find(&proof->goals, facts, node, &proof->effort);
	if (es_goal_recall(&proof->goals, goal, proof->quiet == 0, &answer))
		return answer;
	if (premise == NULL)
		premise = es_proof_make_premise(proof, facts);
	if (es_premise_has(premise, node))
		return ES_ANSWER_YES;
	return work_on_goal(proof, premise, goal);
}

/*
 * es_proof_prove proves that what the premise is about is accepted by a schema.  What
 * it allocates in the current memory context is the caller's to free.
 */
EsAnswer
es_proof_prove(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	return prove_goal(proof, &premise->facts, premise, goal);
}

/* es_proof_prove_facts is the same for facts. */
EsAnswer
es_proof_prove_facts(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal)
{
	return prove_goal(proof, facts, NULL, goal);
}

/* es_proof_prove_with proves it with one fact more. */
EsAnswer
es_proof_prove_with(EsProof *proof, const EsPremise *premise, EsFact fact, const EsSchemaNode *goal)
{
	EsFacts		facts = es_fact_add(&premise->facts, fact);

	return prove_goal(proof, &facts, NULL, goal);
}

/* es_proof_prove_part proves it of a part of the value. */
EsAnswer
es_proof_prove_part(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal)
{
	EsAnswer	answer;

	proof->goals.level++;
	answer = prove_goal(proof, facts, NULL, goal);
	proof->goals.level--;
	return answer;
}

/* es_proof_try is es_proof_prove without a word about problems. */
EsAnswer
es_proof_try(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsAnswer	answer;

	proof->quiet++;
	answer = es_proof_prove(proof, premise, goal);
	proof->quiet--;
	return answer;
}

/* es_proof_try_part is es_proof_prove_part without a word about problems. */
EsAnswer
es_proof_try_part(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal)
{
	EsAnswer	answer;

	proof->quiet++;
	answer = es_proof_prove_part(proof, facts, goal);
	proof->quiet--;
	return answer;
}

/* es_proof_is_empty_with tells whether a schema refuses all that the premise is about. */
bool
es_proof_is_empty_with(EsProof *proof, const EsPremise *premise, const EsSchemaNode *node)
{
	EsAnswer	answer;

	proof->quiet++;
	answer = es_proof_prove_with(proof, premise, es_fact_is(node), &es_fact_nothing);
	proof->quiet--;
	return answer == ES_ANSWER_YES;
}
