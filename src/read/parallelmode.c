/*
 * parallelmode.c
 *		Whether the statement that is planned may be executed in parallel mode.
 *
 * A node that has parallel workers while it gives rows on needs a statement that writes
 * nothing as long as they run.  The server tells so of each statement that it plans, by the
 * labels of all functions in it, and executes a plan with workers in parallel mode.  But the
 * calls that our nodes execute are of functions that are PARALLEL UNSAFE, since as functions
 * they may write.  So the server's question is asked once more, of the statement with those
 * calls left out, but for their arguments.  Nor may anything else in it be VOLATILE: in CREATE
 * TABLE AS a function that is cannot run SQL in parallel mode, whatever it does, and it is
 * these that write though their labels say that they do not.  What the server does not look into
 * counts as if it were: the constraints of domains, defaults of arguments, the functions of
 * aggregates.
 *
 * Only calls in FROM are left out, of the statement, its subqueries and its WITH queries.  One
 * that is anywhere else makes the answer no.
 */
#include "read/parallelmode.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static planner_hook_type previous_planner_hook = NULL;
static EsExemption is_exempt;
static bool allowed = false;	/* of the statement that is being planned */

/* Tells whether a query has calls that are left out; if it is a copy, leaves them out. */
static bool
find_exempt_calls(Query *query, bool copy)
{
	bool		found = false;
	ListCell   *cell;

	check_stack_depth();
	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_SUBQUERY)
			found |= find_exempt_calls(entry->subquery, copy);
		else if (entry->rtekind == RTE_FUNCTION && is_exempt(entry))
		{
			RangeTblFunction *function = linitial_node(RangeTblFunction, entry->functions);

			found = true;
			if (copy)
				function->funcexpr = (Node *) castNode(FuncExpr, function->funcexpr)->args;
		}
	}
	foreach(cell, query->cteList)
		found |= find_exempt_calls(castNode(Query, lfirst_node(CommonTableExpr, cell)->ctequery), copy);
	return found;
}

/* Tells whether there is something in a statement whose functions the server does not look at. */
static bool
is_in_doubt(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Query:
			return query_tree_walker((Query *) node, is_in_doubt, context, 0);
		case T_CoerceToDomain:
			if (DomainHasConstraints(((CoerceToDomain *) node)->resulttype))
				return true;
			break;
		case T_FuncExpr:
			if (get_func_nargs(((FuncExpr *) node)->funcid) > list_length(((FuncExpr *) node)->args))
				return true;
			break;
		case T_Aggref:
			if (((Aggref *) node)->aggfnoid >= FirstNormalObjectId)
				return true;
			break;
		case T_WindowFunc:
			if (((WindowFunc *) node)->winfnoid >= FirstNormalObjectId)
				return true;
			break;
		default:
			break;
	}
	return expression_tree_walker(node, is_in_doubt, context);
}

/* Decides for a statement with such calls, as the server does for any. */
static bool
decide(const Query *statement, int options)
{
	Query	   *copy;

	if (!(options & CURSOR_OPT_PARALLEL_OK) || !IsUnderPostmaster || IsParallelWorker() ||
		statement->commandType != CMD_SELECT || statement->hasModifyingCTE ||
		max_parallel_workers_per_gather <= 0)
		return false;
	copy = copyObject((Query *) statement);
	(void) find_exempt_calls(copy, true);
	return max_parallel_hazard(copy) != PROPARALLEL_UNSAFE &&
		!contain_volatile_functions((Node *) copy) && !is_in_doubt((Node *) copy, NULL);
}

/* The planner's hook.  While a statement is planned others may be, for functions that it calls. */
static PlannedStmt *
parallelmode_planner_hook(Query *statement, const char *text, int options, ParamListInfo parameters)
{
	bool		outer = allowed;
	PlannedStmt *volatile plan = NULL;

	PG_TRY();
	{
		allowed = find_exempt_calls(statement, false) && decide(statement, options);
		plan = previous_planner_hook ? previous_planner_hook(statement, text, options, parameters) :
			standard_planner(statement, text, options, parameters);
	}
	PG_FINALLY();
	{
		allowed = outer;
	}
	PG_END_TRY();
	return plan;
}

/* es_parallelmode_is_allowed tells it of the statement that is being planned. */
bool
es_parallelmode_is_allowed(void)
{
	return allowed;
}

/* es_parallelmode_forbid says that it may not: a call needs what there is not in parallel mode. */
void
es_parallelmode_forbid(void)
{
	allowed = false;
}

/* es_parallelmode_init installs the hook; called once, from _PG_init. */
void
es_parallelmode_init(EsExemption exemption)
{
	is_exempt = exemption;
	previous_planner_hook = planner_hook;
	planner_hook = parallelmode_planner_hook;
}
