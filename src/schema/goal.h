/*
 * goal.h
 *		What is to be proved, what is proved already, and on what condition.
 */
#ifndef ES_SCHEMA_GOAL_H
#define ES_SCHEMA_GOAL_H

#include "base/base.h"

#include "schema/model.h"
#include "schema/effort.h"
#include "schema/fact.h"

/* Answers, from good to bad: of several, the greatest counts. */
typedef enum EsAnswer
{
	ES_ANSWER_YES,				/* it is proved */
	ES_ANSWER_UNKNOWN,			/* it may be so or not */
	ES_ANSWER_NO
} EsAnswer;

typedef enum EsGoalState
{
	ES_GOAL_UNTRIED,
	ES_GOAL_OPEN,
	ES_GOAL_PROVED,
	ES_GOAL_FAILED
} EsGoalState;

/* A goal: every value of which the facts are true is accepted by a schema. */
typedef struct EsGoal
{
	EsFacts		facts;
	const EsSchemaNode *node;
	EsGoalState state;
	EsAnswer	answer;			/* once it has failed */
	bool		named;			/* its problems were told */
	int			level;			/* at which it was opened */
	int			depth;			/* of open goals then */
	int			depends;		/* the outermost open goal that it relies on */
} EsGoal;

/* All goals of a proof. */
typedef struct EsGoals
{
	MemoryContext context;
	struct goals_hash *known;
	int			level;			/* how deep in the value it is */
	int			depth;			/* of goals that are open */
	int			depends;		/* the outermost open goal that is relied on */
	List	   *conditional;	/* goals proved that rely on open ones */
} EsGoals;

/* A goal that is worked on. */
typedef struct EsOpenGoal
{
	EsGoal	   *goal;
	int			outer;			/* what the goal around it relies on so far */
	int			since;			/* conditional goals before it */
} EsOpenGoal;

extern void es_goal_begin(EsGoals *goals);
extern EsGoal *es_goal_find(EsGoals *goals, const EsFacts *facts, const EsSchemaNode *node, EsEffort *effort);
extern bool es_goal_recall(EsGoals *goals, const EsGoal *goal, bool named, EsAnswer *answer);
extern EsOpenGoal es_goal_open(EsGoals *goals, EsGoal *goal);
extern void es_goal_close(EsGoals *goals, const EsOpenGoal *open, EsAnswer answer, bool named);

#endif							/* ES_SCHEMA_GOAL_H */
