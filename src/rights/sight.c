/*
 * sight.c
 *		What is seen of views by those who may not read everything.
 *
 * The views es_events, es_streams and es_snapshots are made of others, security barriers over
 * may_read(stream).  So no condition of a user's that could tell of a row, be it a cast or an
 * operator, sees one that may not be read.
 *
 * But a barrier costs plans: conditions of joins do not pass it, nor does an order, and each
 * row is asked about.  So beside each such view is a function, sight().  It gives true, and its
 * support function, which is called before the planner decides what to make of the view, has
 * that be a plain one, without the question, for whoever may read everything.  The plan is then
 * for its role only, and must go with the right: it depends on the role and on the table of
 * grants, as plans do on tables, and when a role, a membership or a database's owner changes all
 * plans are made anew.  Should one be met all the same that does not hold any more, since the
 * transaction has taken in no invalidation since, its start is refused.  It is known by its first
 * relation, which is none that could be in a query: the type es_event's.
 *
 * EXPLAIN would tell of rows that nobody is shown: how many the statistics say there are, how
 * many a filter has removed.  So it is refused for a plan that asks, unless it is by one who
 * may read everything; and so are such plans while debug_print_plan has them sent to the client.
 *
 * Row locks on what may be read would hold up those who append; they are the owner's.  UPDATE and
 * DELETE are VE002 for everybody.  They are nobody's by privilege, though, as these would let
 * LOCK TABLE take any lock on the view and, as the view's owner, on all that is under it; so a
 * planner hook refuses what would be a missing privilege.
 *
 * Where the library is not preloaded, a session's first plan of such a view loads it, by way of
 * the support function.  By then the server may be in an EXPLAIN of which no hook has heard; so
 * what is counted to the end of the statement that loaded the library is taken to be explained.
 */
#include "rights/sight.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/execdesc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"
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

PG_FUNCTION_INFO_V1(es_sight);
PG_FUNCTION_INFO_V1(es_sight_may_read);
PG_FUNCTION_INFO_V1(es_sight_has_right);
PG_FUNCTION_INFO_V1(es_sight_support);

static planner_hook_type previous_planner_hook = NULL;
static ExecutorStart_hook_type previous_start_hook = NULL;
static ProcessUtility_hook_type previous_utility_hook = NULL;

static Oid	mark = InvalidOid;	/* first relation of plans without barriers */
static Oid	asking_function = InvalidOid;	/* may_read, in this session's
											 * plans */
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

/* Tells whether a subquery is one of our views that ask for each row. */
static bool
is_asking_view(const RangeTblEntry *entry)
{
	Oid			view = es_subquery_view(entry);
	const char *name = OidIsValid(view) ? get_rel_name(view) : NULL;

	return name && strncmp(name, "readable_", 9) == 0 && get_rel_namespace(view) == es_base_store()->schema &&
		entry->subquery->jointree->quals && IsA(entry->subquery->jointree->quals, FuncExpr);
}

/* Raises 42501 if rows of our views are to be locked by others than the owner. */
static void
refuse_row_locks(const Query *query)
{
	if (query->rowMarks != NIL && !es_base_owns_store(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to lock rows of the event store"),
				errhint("What is stored never changes; leave out FOR UPDATE and its like."));
}

/* Has the plan that is being made be known as one that shows everything, and depend on that. */
static void
mark_plan(PlannerGlobal *plan)
{
	mark = get_relname_relid("es_event", es_base_store()->user_schema);
	if (plan->relationOids == NIL || linitial_oid(plan->relationOids) != mark)
		plan->relationOids = lcons_oid(mark, plan->relationOids);
	plan->relationOids = list_append_unique_oid(plan->relationOids, es_base_oid(&es_grantrow_table));
	plan->dependsOnRole = true;
	plans_made = true;
}

/* Raises 42501 if a plan that asks would be sent to who may not read everything. */
static void
refuse_printing(void)
{
	if (Debug_print_plan)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to print the plan of a statement that reads events"),
				errdetail("What is estimated tells of events that role \"%s\" may not read.",
						  es_names_show(GetUserNameFromId(GetUserId(), false))),
				errhint("Set \"%s\" to off.", "debug_print_plan"));
}

/* Plans what is beside sight() in a query, by the rights of the current user. */
static void
plan_sight(PlannerInfo *root)
{
	ListCell   *cell;

	foreach(cell, root->parse->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind != RTE_SUBQUERY || !entry->security_barrier || !is_asking_view(entry))
			continue;
		refuse_row_locks(root->parse);
		asking_function = castNode(FuncExpr, entry->subquery->jointree->quals)->funcid;
		if (!es_right_has(ES_RIGHT_READ, NULL))
		{
			refuse_printing();
			continue;
		}
		entry->security_barrier = false;
		entry->subquery->jointree->quals = NULL;
		mark_plan(root->glob);
	}
}

/*
 * sight_support(internal): the support function of sight(), which it makes true where it
 * stands in a query.  Nobody can call it by himself.
 */
Datum
es_sight_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (!IsA(request, SupportRequestSimplify))
		PG_RETURN_POINTER(NULL);
	if (((SupportRequestSimplify *) request)->root)
		plan_sight(((SupportRequestSimplify *) request)->root);
	PG_RETURN_POINTER(makeBoolConst(true, false));
}

/* sight(): true, where it was not planned. */
Datum
es_sight(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/* ---- what changes rows ---- */

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

/* Tells whether a relation is the view es_events. */
static bool
is_view_of_events(Oid relid)
{
	const char *name = get_rel_name(relid);

	return name && strcmp(name, "es_events") == 0 && es_base_is_installed() &&
		get_rel_namespace(relid) == es_base_store()->user_schema;
}

/* Raises VE002 for UPDATE and DELETE of es_events, unless its triggers will do so. */
static void
refuse_change_of_view(const Query *query)
{
	CmdType		change = find_change(query);
	Oid			target;

	if (change == CMD_UNKNOWN)
		return;
	target = rt_fetch(query->resultRelation, query->rtable)->relid;
	if (is_view_of_events(target) &&
		pg_class_aclcheck(target, GetUserId(), change == CMD_UPDATE ? ACL_UPDATE : ACL_DELETE) != ACLCHECK_OK)
		es_error_append_only(change == CMD_UPDATE ? "update" : "delete from", get_rel_name(target));
}

/* The planner hook. */
static PlannedStmt *
sight_planner_hook(Query *query, const char *source, int options, ParamListInfo params)
{
	ListCell   *cell;

	refuse_change_of_view(query);
	foreach(cell, query->hasModifyingCTE ? query->cteList : NIL)
	{
		refuse_change_of_view(castNode(Query, lfirst_node(CommonTableExpr, cell)->ctequery));
	}
	return (previous_planner_hook ? previous_planner_hook : standard_planner) (query, source, options, params);
}

/* ---- plans that are kept ---- */

/* Has plans that show everything made anew: some role, membership or database changed. */
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
	uint32		asks;
	ListCell   *cell;

	if (plan->invalItems == NIL || !OidIsValid(asking_function))
		return false;
	asks = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(asking_function));
	foreach(cell, plan->invalItems)
	{
		const PlanInvalItem *item = lfirst_node(PlanInvalItem, cell);

		if (item->cacheId == PROCOID && item->hashValue == asks)
			return true;
	}
	return false;
}

/* Raises 42501 if a plan that asks is explained to who may not read everything. */
static void
refuse_explanation(const PlannedStmt *plan)
{
	if (!does_plan_ask(plan) || es_right_has(ES_RIGHT_READ, NULL))
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
	ProcessUtility_hook_type volatile next = previous_utility_hook ? previous_utility_hook : standard_ProcessUtility;

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
	CacheRegisterSyscacheCallback(DATABASEOID, forget_plans, (Datum) 0);
	previous_planner_hook = planner_hook;
	planner_hook = sight_planner_hook;
	previous_start_hook = ExecutorStart_hook;
	ExecutorStart_hook = sight_start_hook;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = sight_utility_hook;
}
