/*
 * sight.c
 *		What is seen of views by those who may not read everything.
 *
 * The views es_events, es_streams and es_snapshots are security barriers over
 * may_read(stream).  So no condition of a user's that could tell of a row, be it a cast or an
 * operator, sees one that may not be read; none of the hooks here is needed for that.
 *
 * But a barrier costs plans: conditions of joins do not pass it, and each row is asked about.
 * So for whoever may read everything a planner hook takes the barrier and the question away
 * before the plan is made, which then is that of a plain view.  Such a plan is for its role only,
 * and must go with the right: it depends on the role and on the table of grants, as plans do on
 * tables, and when a role or a membership changes all plans are made anew.  Should one be met
 * all the same that does not hold any more, since the transaction has taken in no invalidation
 * since, its start is refused.  It is known by its first relation, which is no relation that could
 * be in a query: the type es_event's.
 *
 * EXPLAIN would tell of rows that nobody is shown: how many the statistics say there are, how
 * many a filter has removed.  So it is refused for a plan that asks, unless it is by one who
 * may read everything; and so are such plans while debug_print_plan has them sent to the client.
 *
 * Row locks on what may be read would hold up those who append; they are the owner's.  UPDATE and
 * DELETE are VE002 for everybody.  They are nobody's by privilege, though, as these would let
 * LOCK TABLE take any lock on the view and, as the view's owner, on all that is under it; so what
 * would be a missing privilege is refused before.
 *
 * Where the library is not preloaded, the plan that loads it, by may_read's support function, is
 * made without the hooks, and asks; that it is explained is refused to the end of the statement in
 * which the library was loaded.
 */
#include "rights/sight.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/execdesc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "rights/grantrow.h"
#include "rights/right.h"

PG_FUNCTION_INFO_V1(es_sight_may_read);
PG_FUNCTION_INFO_V1(es_sight_has_right);
PG_FUNCTION_INFO_V1(es_sight_support);

#define ASKING_FUNCTION		"may_read"

/* What was found in a query that is planned. */
typedef struct Sight
{
	bool		looked;			/* whether the user may read everything */
	bool		all;			/* and may */
	bool		cleared;		/* some view's barrier was taken away */
} Sight;

static planner_hook_type previous_planner_hook = NULL;
static ExecutorStart_hook_type previous_start_hook = NULL;
static ProcessUtility_hook_type previous_utility_hook = NULL;

static Oid	mark = InvalidOid;	/* first relation of plans without barriers */
static Oid	asking_function = InvalidOid;	/* in the plans of this session */
static bool plans_made = false; /* some may be kept that have no barriers */
static int	explaining = 0;		/* statements of EXPLAIN that are running */
static TimestampTz loaded = 0;	/* begin of the statement that loaded the
								 * library; 0: none did */

/* ---- questions of views ---- */

/*
 * may_read(stream): whether the current user may read a stream; NULL for NULL.  For
 * everybody: it tells nobody what is not in es_grants.
 */
Datum
es_sight_may_read(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(es_right_has_on_stream(ES_RIGHT_READ, PG_GETARG_TEXT_PP(0)));
}

/*
 * has_right(privilege, category): whether the current user has a privilege on a category;
 * NULL: on '*'.  A NULL privilege is 22004, what is none nobody has.
 */
Datum
es_sight_has_right(PG_FUNCTION_ARGS)
{
	es_call_require(fcinfo, 0, "privilege");
	PG_RETURN_BOOL(es_right_has(es_right_named(text_to_cstring(PG_GETARG_TEXT_PP(0))),
								PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1)));
}

/* ---- planning ---- */

/* Tells whether a view is one of those that ask for each row. */
static bool
is_asking_view(Oid view)
{
	static const char *const names[] = {"es_events", "es_streams", "es_snapshots"};
	const char *name = OidIsValid(view) ? get_rel_name(view) : NULL;

	for (int i = 0; name && i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return es_base_is_installed() && get_rel_namespace(view) == es_base_store()->user_schema;
	return false;
}

/* Tells whether a condition is the question that our views ask. */
static bool
is_question(const Node *condition)
{
	Oid			function;

	if (condition == NULL || !IsA(condition, FuncExpr))
		return false;
	function = ((const FuncExpr *) condition)->funcid;
	if (get_func_namespace(function) != es_base_store()->schema || strcmp(get_func_name(function), ASKING_FUNCTION) != 0)
		return false;
	asking_function = function;
	return true;
}

/* Takes the barrier from a view of ours in a query, if the user may read everything. */
static void
clear_sight(RangeTblEntry *entry, Sight *sight)
{
	if (!is_asking_view(es_subquery_view(entry)) || !is_question(entry->subquery->jointree->quals))
		return;
	if (!sight->looked)
		sight->all = es_right_has(ES_RIGHT_READ, NULL);
	sight->looked = true;
	if (!sight->all)
		return;
	entry->security_barrier = false;
	entry->subquery->jointree->quals = NULL;
	sight->cleared = true;
}

/* Raises 42501 if rows of our views are to be locked by others than the owner. */
static void
refuse_row_locks(const Query *query)
{
	ListCell   *cell;

	foreach(cell, query->rowMarks)
	{
		const RowMarkClause *clause = lfirst_node(RowMarkClause, cell);
		const RangeTblEntry *entry = rt_fetch(clause->rti, query->rtable);

		if (entry->rtekind == RTE_SUBQUERY && is_asking_view(es_subquery_view(entry)) &&
			!es_base_owns_store(GetUserId()))
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to lock rows of view \"%s\"", get_rel_name(es_subquery_view(entry))),
					errhint("What is stored never changes; leave out FOR UPDATE and its like."));
	}
}

/* Tells how a query changes rows of its target that are there; CMD_UNKNOWN if it does not. */
static CmdType
find_change(const Query *query)
{
	ListCell   *cell;

	if (query->commandType == CMD_UPDATE || query->commandType == CMD_DELETE)
		return query->commandType;
	foreach(cell, query->commandType == CMD_MERGE ? query->mergeActionList : NIL)
	{
		CmdType		action = lfirst_node(MergeAction, cell)->commandType;

		if (action == CMD_UPDATE || action == CMD_DELETE)
			return action;
	}
	return CMD_UNKNOWN;
}

/* Raises VE002 for UPDATE and DELETE of our view, unless its triggers will do so. */
static void
refuse_change_of_view(const Query *query)
{
	CmdType		change = find_change(query);
	Oid			target;

	if (change == CMD_UNKNOWN)
		return;
	target = rt_fetch(query->resultRelation, query->rtable)->relid;
	if (is_asking_view(target) &&
		pg_class_aclcheck(target, GetUserId(), change == CMD_UPDATE ? ACL_UPDATE : ACL_DELETE) != ACLCHECK_OK)
		es_error_append_only(change == CMD_UPDATE ? "update" : "delete from", get_rel_name(target));
}

/* Raises 42501 if a plan that asks would be sent to who may not read everything. */
static void
refuse_printing(void)
{
	if (Debug_print_plan && !es_right_has(ES_RIGHT_READ, NULL))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to print the plan of a statement that reads events"),
				errdetail("What is estimated tells of events that role \"%s\" may not read.",
						  es_names_show(GetUserNameFromId(GetUserId(), false))),
				errhint("Set \"%s\" to off.", "debug_print_plan"));
}

/*
 * may_read_support(internal): may_read's support function.  Supports nothing, but loads the
 * library, notes which function it is, and has plans that ask not be printed.
 */
Datum
es_sight_support(PG_FUNCTION_ARGS)
{
	const Node *request = (const Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestSimplify))
	{
		asking_function = ((const SupportRequestSimplify *) request)->fcall->funcid;
		refuse_printing();
	}
	PG_RETURN_POINTER(NULL);
}

/* Goes through a query, the queries in it included. */
static bool
look_through_query(Node *node, void *arg)
{
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, look_through_query, arg);
	if (((Query *) node)->rowMarks != NIL)
		refuse_row_locks((Query *) node);
	refuse_change_of_view((Query *) node);
	foreach(cell, ((Query *) node)->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_SUBQUERY && entry->security_barrier)
			clear_sight(entry, arg);
	}
	return query_tree_walker((Query *) node, look_through_query, arg, 0);
}

/* Marks a plan that shows everything. */
static void
mark_plan(PlannedStmt *plan)
{
	mark = get_relname_relid("es_event", es_base_store()->user_schema);
	plan->relationOids = lcons_oid(mark, plan->relationOids);
	plan->relationOids = lappend_oid(plan->relationOids, es_base_oid(&es_grantrow_table));
	plan->dependsOnRole = true;
	plans_made = true;
}

/* The planner hook. */
static PlannedStmt *
sight_planner_hook(Query *query, const char *source, int options, ParamListInfo params)
{
	Sight		sight = {false};
	PlannedStmt *plan;

	if (query->rtable != NIL || query->cteList != NIL || query->hasSubLinks)
		(void) look_through_query((Node *) query, &sight);
	plan = (previous_planner_hook ? previous_planner_hook : standard_planner) (query, source, options, params);
	if (sight.cleared)
		mark_plan(plan);
	return plan;
}

/* Has plans that show everything made anew: some role or membership changed. */
static void
forget_plans(Datum arg, int cacheid, uint32 hashvalue)
{
	if (!plans_made)
		return;
	plans_made = false;
	ResetPlanCache();
}

/* ---- execution ---- */

/* Raises 42501 for a plan that shows everything, to who may not read that any more. */
static void
refuse_outlived_plan(void)
{
	plans_made = false;
	ResetPlanCache();
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("the rights of role \"%s\" have changed since the statement was planned",
				   es_names_show(GetUserNameFromId(GetUserId(), false))),
			errhint("Run the statement again."));
}

/* Tells whether a plan asks for each row whether it may be read. */
static bool
does_plan_ask(const PlannedStmt *plan)
{
	ListCell   *cell;

	foreach(cell, plan->invalItems)
	{
		const PlanInvalItem *item = lfirst_node(PlanInvalItem, cell);

		if (item->cacheId == PROCOID &&
			item->hashValue == GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(asking_function)))
			return true;
	}
	return false;
}

/* Raises 42501 if a plan that asks is explained to who may not read everything. */
static void
refuse_explanation(const PlannedStmt *plan)
{
	if (plan->invalItems == NIL || !OidIsValid(asking_function) || !does_plan_ask(plan) ||
		es_right_has(ES_RIGHT_READ, NULL))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied to explain a statement that reads events"),
			errdetail("What is estimated, and what is counted, tells of events that role \"%s\" may not read.",
					  es_names_show(GetUserNameFromId(GetUserId(), false))),
			errhint("It takes the privilege \"read\" on \"*\"."));
}

/* Tells whether the running statement is that which has loaded the library; it may be EXPLAIN. */
static bool
is_loading_statement(void)
{
	return loaded != 0 && GetCurrentStatementStartTimestamp() == loaded;
}

/* The hook at a plan's start. */
static void
sight_start_hook(QueryDesc *query, int flags)
{
	const PlannedStmt *plan = query->plannedstmt;

	if (OidIsValid(mark) && plan->relationOids != NIL && linitial_oid(plan->relationOids) == mark &&
		!es_right_has(ES_RIGHT_READ, NULL))
		refuse_outlived_plan();
	if ((flags & EXEC_FLAG_EXPLAIN_ONLY) || (query->instrument_options != 0 && (explaining > 0 || is_loading_statement())))
		refuse_explanation(plan);
	(previous_start_hook ? previous_start_hook : standard_ExecutorStart) (query, flags);
}

/* The hook for statements without a plan. */
static void
sight_utility_hook(PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext context,
				   ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest,
				   QueryCompletion *completion)
{
	ProcessUtility_hook_type next = previous_utility_hook ? previous_utility_hook : standard_ProcessUtility;

	if (!IsA(statement->utilityStmt, ExplainStmt))
	{
		next(statement, source, read_only_tree, context, params, environment, dest, completion);
		return;
	}
	explaining++;
	PG_TRY();
	{
		next(statement, source, read_only_tree, context, params, environment, dest, completion);
	}
	PG_FINALLY();
	{
		explaining--;
	}
	PG_END_TRY();
}

/* es_sight_init installs the hooks; called once, from _PG_init. */
void
es_sight_init(void)
{
	loaded = GetCurrentStatementStartTimestamp();
	CacheRegisterSyscacheCallback(AUTHOID, forget_plans, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_plans, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, forget_plans, (Datum) 0);
	previous_planner_hook = planner_hook;
	planner_hook = sight_planner_hook;
	previous_start_hook = ExecutorStart_hook;
	ExecutorStart_hook = sight_start_hook;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = sight_utility_hook;
}
