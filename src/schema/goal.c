/*
 * goal.c
 *		What is to be proved, what is proved already, and on what condition.
 *
 * Schemas may refer to themselves.  A goal that comes up again while it is open, about
 * a part of the value, is taken for proved: values are finite, so that is an induction
 * on their depth.  About the same value it proves nothing.  Goals that were proved that
 * way are remembered as relying on the open one until that is proved, are only used as
 * deep in the value as they were proved, and are forgotten if the open one fails.
 * "level" counts the steps into the value, "depth" the open goals.
 */
#include "schema/goal.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#define GOAL_EFFORT		50		/* of a goal that is remembered; bounds the
								 * memory */
#define FACT_EFFORT		4		/* of each of its facts */
#define UNCONDITIONAL	PG_INT32_MAX

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

#include "json/node.h"
#include "schema/model.h"

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

/* es_goal_begin makes room for goals in the current memory context. */
void
es_goal_begin(EsGoals *goals)
{
	memset(goals, 0, sizeof(*goals));
	goals->context = CurrentMemoryContext;
	goals->depends = UNCONDITIONAL;
	goals->known = goals_create(goals->context, 256, NULL);
}

/* Makes a goal, and what it consists of, as long-lived as the others. */
static EsGoal *
make_goal(EsGoals *goals, const EsFacts *facts, const EsSchemaNode *node)
{
	EsGoal	   *goal = MemoryContextAllocZero(goals->context, sizeof(EsGoal));

	goal->node = node;
	goal->facts.count = facts->count;
	goal->facts.facts = MemoryContextAlloc(goals->context, Max(1, facts->count) * sizeof(EsFact));
	if (facts->count > 0)
		memcpy(goal->facts.facts, facts->facts, facts->count * sizeof(EsFact));
	for (int i = 0; i < goal->facts.count; i++)
	{
		EsFact	   *fact = &goal->facts.facts[i];
		EsKey	   *key;

		if (fact->key == NULL)
			continue;
		key = MemoryContextAlloc(goals->context, sizeof(EsKey));
		*key = *fact->key;
		fact->key = key;
	}
	return goal;
}

/* es_goal_find finds a goal, or makes it one that is untried. */
EsGoal *
es_goal_find(EsGoals *goals, const EsFacts *facts, const EsSchemaNode *node, EsEffort *effort)
{
	EsGoal		wanted = {.facts = *facts,.node = node};
	EsGoalSlot *slot = goals_lookup(goals->known, &wanted);
	EsGoal	   *goal;
	bool		known;

	if (slot != NULL)
		return slot->goal;
	es_effort_spend(effort, GOAL_EFFORT + FACT_EFFORT * facts->count);
	goal = make_goal(goals, facts, node);
	goals_insert(goals->known, goal, &known);
	return goal;
}

/*
 * es_goal_recall tells whether a goal's answer is known here, and what it is.  With
 * "named", a failure is only known if its problems were told.
 */
bool
es_goal_recall(EsGoals *goals, const EsGoal *goal, bool named, EsAnswer *answer)
{
	switch (goal->state)
	{
		case ES_GOAL_UNTRIED:
			return false;
		case ES_GOAL_OPEN:
			*answer = goals->level > goal->level ? ES_ANSWER_YES : ES_ANSWER_UNKNOWN;
			if (*answer == ES_ANSWER_YES)
				goals->depends = Min(goals->depends, goal->depth);
			return true;
		case ES_GOAL_PROVED:
			if (goal->depends != UNCONDITIONAL && goals->level < goal->level)
				return false;
			goals->depends = Min(goals->depends, goal->depends);
			*answer = ES_ANSWER_YES;
			return true;
		case ES_GOAL_FAILED:
			*answer = goal->answer;
			return !named || goal->named;
	}
	return false;
}

/* es_goal_open begins work on a goal. */
EsOpenGoal
es_goal_open(EsGoals *goals, EsGoal *goal)
{
	EsOpenGoal	open = {.goal = goal,.outer = goals->depends,.since = list_length(goals->conditional)};

	goal->state = ES_GOAL_OPEN;
	goal->level = goals->level;
	goal->depth = goals->depth++;
	goals->depends = UNCONDITIONAL;
	return open;
}

/* Sees to goals that were proved since a goal was opened that is now proved, or is not. */
static void
settle_conditional(EsGoals *goals, const EsGoal *opened, int since)
{
	for (int i = since; i < list_length(goals->conditional); i++)
	{
		EsGoal	   *goal = list_nth(goals->conditional, i);

		if (goal->state != ES_GOAL_PROVED)
			continue;
		if (opened->state != ES_GOAL_PROVED)
			goal->state = ES_GOAL_UNTRIED;
		else if (goal->depends >= opened->depth)
			goal->depends = opened->depends;
	}
	if (opened->state != ES_GOAL_PROVED || opened->depends == UNCONDITIONAL)
		goals->conditional = list_truncate(goals->conditional, since);
}

/* es_goal_close ends work on a goal; "named" says that its problems were told. */
void
es_goal_close(EsGoals *goals, const EsOpenGoal *open, EsAnswer answer, bool named)
{
	EsGoal	   *goal = open->goal;

	goals->depth--;
	goal->answer = answer;
	goal->named = named;
	goal->depends = goals->depends < goal->depth ? goals->depends : UNCONDITIONAL;
	goal->state = answer == ES_ANSWER_YES ? ES_GOAL_PROVED : ES_GOAL_FAILED;
	settle_conditional(goals, goal, open->since);
	goals->depends = open->outer;
	if (goal->state != ES_GOAL_PROVED || goal->depends == UNCONDITIONAL)
		return;
	goals->depends = Min(goals->depends, goal->depends);
	if (goals->conditional == NIL)
	{
		MemoryContext old = MemoryContextSwitchTo(goals->context);

		goals->conditional = list_make1(goal);
		MemoryContextSwitchTo(old);
	}
	else
		goals->conditional = lappend(goals->conditional, goal);
}
