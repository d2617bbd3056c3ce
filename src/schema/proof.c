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
 * Schemas may refer to themselves.  A goal that comes up again while it is open, about
 * a part of the value, is taken for proved: values are finite, so that is an induction
 * on their depth.  About the same value it proves nothing.  Goals that were proved that
 * way are remembered as relying on the open one until that is proved, are only used as
 * deep in the value as they were proved, and are forgotten if the open one fails.
 * "level" counts the steps into the value, "depth" the open goals.
 *
 * A proof first looks for a yes, quietly.  Only what fails in the end is gone through
 * again to name the problems.
 */
#include "schema/proof.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "json/node.h"
#include "json/text.h"
#include "schema/validate.h"
#include "schema/effort.h"
#include "schema/inside.h"
#include "schema/pointer.h"
#include "schema/split.h"

#define MAX_SPLITS		6			/* alternatives of one value looked at one in another */
#define MAX_SHOWN		100			/* bytes of a value in a message */
#define MAX_PROBLEMS	100
#define MAX_LOOKED_AT	64			/* elements and members that an array or object must have */
#define UNCONDITIONAL	PG_INT32_MAX

typedef enum EsGoalState
{
	GOAL_UNTRIED,
	GOAL_OPEN,
	GOAL_PROVED,
	GOAL_FAILED
} EsGoalState;

/* A goal, and what became of it.  Lives as long as the proof. */
typedef struct EsGoal
{
	EsFacts		facts;
	const EsSchemaNode *node;
	EsGoalState state;
	EsAnswer	answer;			/* once it has failed */
	bool		named;			/* its problems are in the list */
	int			level;			/* at which it was opened */
	int			depth;			/* of open goals then */
	int			depends;		/* the outermost open goal that it relies on */
} EsGoal;

typedef struct EsGoalSlot
{
	EsGoal	   *goal;
	uint32		hash;
	char		status;
} EsGoalSlot;

static uint32 hash_goal(const EsGoal *goal);
static bool is_same_goal(const EsGoal *a, const EsGoal *b);

#define SH_PREFIX goals
#define SH_ELEMENT_TYPE EsGoalSlot
#define SH_KEY_TYPE EsGoal *
#define SH_KEY goal
#define SH_HASH_KEY(tb, key) hash_goal(key)
#define SH_EQUAL(tb, a, b) is_same_goal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Adds to a hash. */
static uint32
mix_hash(uint32 hash, uint64 value)
{
	return hash_combine(hash, murmurhash32((uint32) value ^ (uint32) (value >> 32)));
}

/* Gives a goal's hash. */
static uint32
hash_goal(const EsGoal *goal)
{
	uint32		hash = mix_hash(0, (uintptr_t) goal->node);

	for (int i = 0; i < goal->facts.count; i++)
	{
		const EsFact *fact = &goal->facts.facts[i];

		hash = mix_hash(hash, ((uint64) fact->kind << 32) | fact->types);
		hash = mix_hash(hash, (uintptr_t) fact->node);
		if (fact->key != NULL)
			hash = mix_hash(hash, hash_bytes((const unsigned char *) fact->key->bytes, fact->key->len));
	}
	return hash;
}

/* Tells whether two goals are the same. */
static bool
is_same_goal(const EsGoal *a, const EsGoal *b)
{
	if (a->node != b->node || a->facts.count != b->facts.count)
		return false;
	for (int i = 0; i < a->facts.count; i++)
	{
		if (es_fact_compare(&a->facts.facts[i], &b->facts.facts[i]) != 0)
			return false;
	}
	return true;
}

/* es_proof_begin makes a proof ready, in the current memory context. */
void
es_proof_begin(EsProof *proof)
{
	proof->context = CurrentMemoryContext;
	proof->depends = UNCONDITIONAL;
	proof->goals = goals_create(proof->context, 256, NULL);
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
	note_problem(proof, &(EsProblem)
	{
		.place = es_pointer_text(goal->place),.rule = rule,.message = message.data,.decided = true
	});
	return ES_ANSWER_NO;
}

/* es_proof_doubt says that it is not known whether a schema refuses some; the format says why. */
EsAnswer
es_proof_doubt(EsProof *proof, const EsSchemaNode *goal, const char *rule, const char *format,...)
{
	StringInfoData message;
	va_list		args;

	if (proof->quiet > 0)
		return ES_ANSWER_UNKNOWN;
	initStringInfo(&message);
	appendStringInfo(&message, "it cannot be decided whether %s accepts all that %s does: ", proof->by, proof->accepted);
	va_start(args, format);
	write_message(&message, format, args);
	va_end(args);
	note_problem(proof, &(EsProblem)
	{
		.place = es_pointer_text(goal->place),.rule = rule,.message = message.data
	});
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

/* Takes types away of which every value is accepted by a schema that must refuse it. */
static void
drop_denied_types(EsProof *proof, EsPremise *premise, const EsSchemaNode *denied)
{
	for (uint32 type = 1; type <= ES_TYPE_ANY; type <<= 1)
	{
		EsFacts		facts;

		if ((premise->types & type) == 0)
			continue;
		facts = es_fact_add(&premise->facts, es_fact_types(type));
		proof->quiet++;
		if (es_proof_prove(proof, es_proof_make_premise(proof, &facts), denied) == ES_ANSWER_YES)
			premise->types &= ~type;
		proof->quiet--;
	}
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
		EsSchema	schema = {.root = (EsSchemaNode *) goal,.count = proof->effort.node_count};
		EsViolation violation = {.rule = "false"};

		if (es_premise_accepts(&proof->effort, goal, value))
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
	EsAnswer	answer;

	CHECK_FOR_INTERRUPTS();
	if (es_premise_is_finite(premise))
		return prove_values(proof, premise, goal);
	answer = try_rule(proof, premise, goal, rule);
	if (answer == ES_ANSWER_YES || !es_effort_allows(&proof->effort, 1))
		return answer;
	if (refine_premise(proof, premise) && try_rule(proof, premise, goal, rule) == ES_ANSWER_YES)
		return ES_ANSWER_YES;
	branches = splits < MAX_SPLITS ? es_split_premise(premise, rule->by_type) : NULL;
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
	static const EsRule nothing = {prove_nothing, true};
	EsAnswer	answer = ES_ANSWER_YES;
	EsPremise  *premise = palloc(sizeof(EsPremise));

	*premise = *given;			/* may be refined */
	if (premise->types == 0)
		return ES_ANSWER_YES;
	if (es_premise_is_finite(premise))
		return prove_values(proof, premise, goal);
	if (goal->refuses)
		return prove_rule(proof, premise, goal, &nothing, 0);
	for (int i = 0; i < proof->rule_count; i++)
	{
		EsAnswer	one = prove_rule(proof, premise, goal, &proof->rules[i], 0);

		answer = Max(answer, one);
		if (answer != ES_ANSWER_YES && proof->quiet > 0)
			break;
	}
	return answer;
}

/* ---- goals ---- */

/* Finds a goal, or makes it one that is untried. */
static EsGoal *
find_goal(EsProof *proof, const EsPremise *premise, const EsSchemaNode *node)
{
	EsGoal		wanted = {.facts = premise->facts,.node = node};
	EsGoalSlot *slot = goals_lookup(proof->goals, &wanted);
	EsGoal	   *goal;
	bool		known;

	if (slot != NULL)
		return slot->goal;
	goal = MemoryContextAllocZero(proof->context, sizeof(EsGoal));
	goal->node = node;
	goal->facts.count = premise->facts.count;
	goal->facts.facts = MemoryContextAlloc(proof->context, Max(1, premise->facts.count) * sizeof(EsFact));
	memcpy(goal->facts.facts, premise->facts.facts, premise->facts.count * sizeof(EsFact));
	for (int i = 0; i < goal->facts.count; i++)
	{
		EsFact	   *fact = &goal->facts.facts[i];
		EsKey	   *key;

		if (fact->key == NULL)
			continue;
		key = MemoryContextAlloc(proof->context, sizeof(EsKey));
		*key = *fact->key;
		fact->key = key;
	}
	goals_insert(proof->goals, goal, &known);
	return goal;
}

/* Tells whether a goal's answer is known here, and what it is. */
static bool
recall_goal(EsProof *proof, const EsGoal *goal, EsAnswer *answer)
{
	switch (goal->state)
	{
		case GOAL_UNTRIED:
			return false;
		case GOAL_OPEN:
			*answer = proof->level > goal->level ? ES_ANSWER_YES : ES_ANSWER_UNKNOWN;
			if (*answer == ES_ANSWER_YES)
				proof->depends = Min(proof->depends, goal->depth);
			return true;
		case GOAL_PROVED:
			if (goal->depends != UNCONDITIONAL && proof->level < goal->level)
				return false;
			proof->depends = Min(proof->depends, goal->depends);
			*answer = ES_ANSWER_YES;
			return true;
		case GOAL_FAILED:
			*answer = goal->answer;
			return proof->quiet > 0 || goal->named;
	}
	return false;
}

/* Sees to goals that were proved since a goal was opened that is now proved, or is not. */
static void
settle_conditional(EsProof *proof, const EsGoal *opened, int since)
{
	for (int i = since; i < list_length(proof->conditional); i++)
	{
		EsGoal	   *goal = list_nth(proof->conditional, i);

		if (goal->state != GOAL_PROVED)
			continue;
		if (opened->state != GOAL_PROVED)
			goal->state = GOAL_UNTRIED;
		else if (goal->depends >= opened->depth)
			goal->depends = opened->depends;
	}
	if (opened->state != GOAL_PROVED || opened->depends == UNCONDITIONAL)
		proof->conditional = list_truncate(proof->conditional, since);
}

/* Opens a goal, proves it, and closes it. */
static EsAnswer
work_on_goal(EsProof *proof, EsGoal *goal, const EsPremise *premise)
{
	int			outer = proof->depends;
	int			since = list_length(proof->conditional);
	MemoryContext old;

	goal->state = GOAL_OPEN;
	goal->level = proof->level;
	goal->depth = proof->depth++;
	proof->depends = UNCONDITIONAL;
	goal->answer = prove_rules(proof, premise, goal->node);
	proof->depth--;
	goal->depends = proof->depends < goal->depth ? proof->depends : UNCONDITIONAL;
	goal->state = goal->answer == ES_ANSWER_YES ? GOAL_PROVED : GOAL_FAILED;
	goal->named = proof->quiet == 0;
	settle_conditional(proof, goal, since);
	if (goal->state == GOAL_PROVED && goal->depends != UNCONDITIONAL)
	{
		old = MemoryContextSwitchTo(proof->context);
		proof->conditional = lappend(proof->conditional, goal);
		MemoryContextSwitchTo(old);
	}
	proof->depends = Min(outer, goal->state == GOAL_PROVED ? goal->depends : UNCONDITIONAL);
	return goal->answer;
}

/*
 * es_proof_prove proves that what the premise is about is accepted by a schema.  What
 * it allocates in the current memory context is the caller's to free.
 */
EsAnswer
es_proof_prove(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsGoal	   *known;
	EsAnswer	answer;
	MemoryContext work;
	MemoryContext old;

	if (goal->types == ES_TYPE_ANY && es_premise_is_only_types(goal))
		return ES_ANSWER_YES;
	if (es_premise_has(premise, goal))
		return ES_ANSWER_YES;
	if (!es_effort_allows(&proof->effort, 1))
		return ES_ANSWER_UNKNOWN;
	known = find_goal(proof, premise, goal);
	if (recall_goal(proof, known, &answer))
		return answer;
	work = AllocSetContextCreate(CurrentMemoryContext, "eventstore proof", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(work);
	answer = work_on_goal(proof, known, premise);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return answer;
}

/* es_proof_prove_with proves it with one fact more. */
EsAnswer
es_proof_prove_with(EsProof *proof, const EsPremise *premise, EsFact fact, const EsSchemaNode *goal)
{
	EsFacts		facts = es_fact_add(&premise->facts, fact);

	return es_proof_prove(proof, es_proof_make_premise(proof, &facts), goal);
}

/* es_proof_prove_part proves it of a part of the value. */
EsAnswer
es_proof_prove_part(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal)
{
	EsAnswer	answer;

	proof->level++;
	answer = es_proof_prove(proof, es_proof_make_premise(proof, facts), goal);
	proof->level--;
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
