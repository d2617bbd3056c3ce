/*
 * callscan.c
 *		Calls in FROM that are executed by plan nodes of ours.
 *
 * A function in FROM puts all its rows into a tuplestore, as composite values, before the first
 * is looked at.  Nodes of ours give rows out as they are asked for, with only those columns
 * that the query uses.  Each kind is registered at the start; here is what they have in
 * common: which calls can be one, how they are planned, and what EXPLAIN tells of the call.
 *
 * A call in ROWS FROM or WITH ORDINALITY is left to the server.  So is one that has to be
 * evaluated again for a row that changed under it, as statements that lock or change rows
 * do: they keep rows by relation, and the node is none.
 *
 * The order of rows is told to the planner where it is known before anything is executed.
 * A path can have one order only; where rows are in several, there is a path for each that
 * the query has a use for.
 */
#include "read/callscan.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/objects.h"
#include "read/parallelmode.h"

static EsCallNode *nodes = NULL;	/* kinds of nodes */
static set_rel_pathlist_hook_type previous_pathlist_hook = NULL;

/* ---- planning ---- */

/* Gives the call that an entry of a range table is and nothing else; NULL if it is none. */
static FuncExpr *
find_call_of_entry(const RangeTblEntry *entry)
{
	FuncExpr   *call;

	if (entry->rtekind != RTE_FUNCTION || entry->funcordinality || list_length(entry->functions) != 1)
		return NULL;
	call = (FuncExpr *) linitial_node(RangeTblFunction, entry->functions)->funcexpr;
	return IsA(call, FuncExpr) && call->funcretset && call->funcid >= FirstNormalObjectId ? call : NULL;
}

/* Gives the call that a relation of a query is; NULL if it must not be a node of ours. */
static FuncExpr *
find_call(PlannerInfo *root, const RangeTblEntry *entry)
{
	if (root->rowMarks != NIL || (root->parse->commandType != CMD_SELECT && root->parse->commandType != CMD_INSERT))
		return NULL;
	return find_call_of_entry(entry);
}

/* Tells whether an entry of a range table is a call whose node may have workers. */
static bool
may_have_workers(const RangeTblEntry *entry)
{
	const FuncExpr *call = find_call_of_entry(entry);
	EsCallOrder orders[ES_CALL_MOST_ORDERS];

	if (call == NULL || !es_base_is_installed())
		return false;
	for (const EsCallNode *node = nodes; node; node = node->following)
		if (node->wants_workers && node->find_orders(call, orders) >= 0)
			return true;
	return false;
}

/* Gives what the planner knows an order by; NIL if the query has no use for it. */
static List *
find_pathkeys(PlannerInfo *root, RelOptInfo *rel, const EsCallOrder *order)
{
	TypeCacheEntry *type = lookup_type_cache(INT8OID, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	Var		   *column = makeVar(rel->relid, order->attribute, INT8OID, -1, InvalidOid, 0);
	List	   *pathkeys = es_expression_pathkey(root, (Expr *) column,
												 order->descending ? type->gt_opr : type->lt_opr, rel->relids);

	return truncate_useless_pathkeys(root, rel, pathkeys);
}

/* Makes a path of a node of ours out of the server's. */
static Path *
make_call_path(RelOptInfo *rel, const Path *server, const CustomPathMethods *methods, List *pathkeys)
{
	CustomPath *path = makeNode(CustomPath);

	path->path = *server;
	path->path.type = T_CustomPath;
	path->path.pathtype = T_CustomScan;
	path->path.pathkeys = pathkeys;
	path->path.startup_cost = rel->baserestrictcost.startup + rel->reltarget->cost.startup;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = methods;
	return &path->path;
}

/* Has a node execute a call, whose rows are in these orders. */
static void
replace_paths(PlannerInfo *root, RelOptInfo *rel, const CustomPathMethods *methods,
			  const EsCallOrder *orders, int norders)
{
	const Path *server = linitial(rel->pathlist);
	List	   *paths = NIL;

	for (int i = 0; i < norders; i++)
	{
		List	   *pathkeys = find_pathkeys(root, rel, &orders[i]);

		if (pathkeys != NIL)
			paths = lappend(paths, make_call_path(rel, server, methods, pathkeys));
	}
	if (paths == NIL)
		paths = list_make1(make_call_path(rel, server, methods, NIL));
	rel->pathlist = paths;
}

/* Lists the columns of a relation that a plan uses, as they will be in the node's slot. */
static List *
list_used_columns(Index relid, List *expressions)
{
	List	   *vars = pull_var_clause((Node *) expressions,
									   PVC_RECURSE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS | PVC_RECURSE_PLACEHOLDERS);
	List	   *entries = NIL;
	List	   *used = NIL;
	ListCell   *cell;

	foreach(cell, vars)
	{
		Var		   *var = lfirst_node(Var, cell);

		if (var->varno != relid || list_member_int(used, var->varattno))
			continue;
		used = lappend_int(used, var->varattno);
		entries = lappend(entries, makeTargetEntry(copyObject(&var->xpr), list_length(entries) + 1, NULL, false));
	}
	return entries;
}

/* The hook where a relation's paths are collected: has a call planned as a node of ours. */
static void
callscan_pathlist_hook(PlannerInfo *root, RelOptInfo *rel, Index relid, RangeTblEntry *entry)
{
	EsCallOrder orders[ES_CALL_MOST_ORDERS];
	FuncExpr   *call;

	if (previous_pathlist_hook)
		previous_pathlist_hook(root, rel, relid, entry);
	if (entry->rtekind != RTE_FUNCTION || rel->pathlist == NIL || !es_base_is_installed())
		return;
	call = find_call(root, entry);
	for (EsCallNode *node = nodes; call && node; node = node->following)
	{
		int			norders = node->find_orders(call, orders);

		if (norders < 0)
			continue;
		replace_paths(root, rel, &node->path, orders, norders);
		return;
	}
}

/*
 * Makes the node of a path.  Its list may yet be replaced by another one, of what is wanted of
 * the relation, so its slot has all of that.
 */
static Plan *
plan_call(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses, List *plans)
{
	const EsCallNode *node = (const EsCallNode *) ((const char *) path->methods - offsetof(EsCallNode, path));
	const FuncExpr *call = find_call(root, planner_rt_fetch(rel->relid, root));
	CustomScan *scan = makeNode(CustomScan);

	if (node->wants_workers && es_parallelmode_is_allowed())
	{
		/* one that must not be in parallel mode keeps the statement out of it */
		root->glob->parallelModeNeeded = node->wants_workers(root, call);
		if (root->glob->parallelModeNeeded)
			scan->custom_private = list_make1_int(true);
		else
			es_parallelmode_forbid();
	}
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->flags = path->flags;
	scan->custom_exprs = list_make1(copyObject((FuncExpr *) call));
	scan->custom_scan_tlist = list_used_columns(rel->relid,
												list_concat_copy(rel->reltarget->exprs, scan->scan.plan.qual));
	scan->methods = &node->plan;
	return &scan->scan.plan;
}

/* ---- running ---- */

/* Checks that the caller may execute the function, as the server does for those it calls itself. */
static void
require_execute(Oid function)
{
	AclResult	result = es_function_aclcheck(function, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

/* Notes which attributes are in the slot. */
static void
note_slot_columns(EsCallScan *scan, List *entries)
{
	ListCell   *cell;

	scan->columns = palloc(sizeof(AttrNumber) * (list_length(entries) + 1));
	foreach(cell, entries)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, cell);

		scan->columns[scan->ncolumns++] = castNode(Var, entry->expr)->varattno;
	}
}

/*
 * Adds what an expression depends on to the parameters of a node.  A SubPlan in it is not a part
 * of the node's plan, and may depend on parameters that it is not given as arguments.
 */
static bool
note_parameters(Node *expression, void *context)
{
	EsCallScan *scan = context;

	if (expression == NULL)
		return false;
	if (IsA(expression, Param) && ((Param *) expression)->paramkind == PARAM_EXEC)
		scan->parameters = bms_add_member(scan->parameters, ((Param *) expression)->paramid);
	if (IsA(expression, SubPlan))
		scan->parameters = bms_add_members(scan->parameters,
										   exec_subplan_get_plan(scan->pub.ss.ps.state->es_plannedstmt,
																 (SubPlan *) expression)->extParam);
	return expression_tree_walker(expression, note_parameters, context);
}

/* es_callscan_begin begins a node: nothing is called yet. */
void
es_callscan_begin(EsCallScan *scan, EState *estate)
{
	CustomScan *plan = (CustomScan *) scan->pub.ss.ps.plan;

	scan->call = linitial_node(FuncExpr, plan->custom_exprs);
	require_execute(scan->call->funcid);
	fmgr_info(scan->call->funcid, &scan->function);
	scan->wants_workers = plan->custom_private != NIL;
	scan->arguments = ExecInitExprList(scan->call->args, &scan->pub.ss.ps);
	(void) note_parameters((Node *) scan->call, scan);
	note_slot_columns(scan, plan->custom_scan_tlist);
	scan->direct = scan->pub.ss.ps.qual == NULL && scan->pub.ss.ps.ps_ProjInfo == NULL;
	scan->held = AllocSetContextCreate(estate->es_query_cxt, "eventstore call", ALLOCSET_DEFAULT_SIZES);
	scan->row = AllocSetContextCreate(estate->es_query_cxt, "eventstore row", ALLOCSET_SMALL_SIZES);
}

/*
 * Gives the next row that passes the node's conditions.  It is the server's ExecScan without
 * what that has for rows of relations.  ExecScan of older minor releases gives no row of a node
 * like ours, which scans none, where a statement evaluates a row again that somebody else has
 * changed, though the node is in a subquery that is evaluated anew.
 */
static TupleTableSlot *
execute_call(CustomScanState *pub)
{
	EsCallScan *scan = (EsCallScan *) pub;
	PlanState  *ps = &pub->ss.ps;
	ExprContext *context = ps->ps_ExprContext;

	CHECK_FOR_INTERRUPTS();
	if (scan->direct)
		return scan->node->next(scan);
	for (;;)
	{
		TupleTableSlot *slot;

		ResetExprContext(context);
		slot = scan->node->next(scan);
		if (TupIsNull(slot))
			return ps->ps_ProjInfo ? ExecClearTuple(ps->ps_ResultTupleSlot) : slot;
		context->ecxt_scantuple = slot;
		if (ps->qual == NULL || ExecQual(ps->qual, context))
			return ps->ps_ProjInfo ? ExecProject(ps->ps_ProjInfo) : slot;
		InstrCountFiltered1(ps, 1);
	}
}

/* Makes a node's state. */
static Node *
create_call_state(CustomScan *plan)
{
	const EsCallNode *node = (const EsCallNode *) ((const char *) plan->methods - offsetof(EsCallNode, plan));
	EsCallScan *scan = (EsCallScan *) newNode(node->size, T_CustomScanState);

	scan->pub.methods = &node->exec;
	scan->node = node;
	return (Node *) scan;
}

/* es_callscan_arguments evaluates the arguments of a call, which are then in its memory. */
void
es_callscan_arguments(EsCallScan *scan, FunctionCallInfo fcinfo)
{
	MemoryContext old = MemoryContextSwitchTo(scan->held);
	ListCell   *cell;
	int			n = 0;

	InitFunctionCallInfoData(*fcinfo, &scan->function, list_length(scan->arguments), scan->call->inputcollid, NULL, NULL);
	foreach(cell, scan->arguments)
	{
		NullableDatum *argument = &fcinfo->args[n];
		int16		length;
		bool		by_value;

		argument->value = ExecEvalExprSwitchContext(lfirst(cell), scan->pub.ss.ps.ps_ExprContext, &argument->isnull);
		get_typlenbyval(exprType(list_nth(scan->call->args, n++)), &length, &by_value);
		if (!argument->isnull)
			argument->value = datumCopy(argument->value, by_value, length);
	}
	MemoryContextSwitchTo(old);
}

/* ---- EXPLAIN ---- */

/* Gives the default of an argument of a function; NULL if there is none. */
static Node *
find_default(Form_pg_proc proc, List *defaults, int argno)
{
	int			first = proc->pronargs - list_length(defaults);

	return argno < first ? NULL : eval_const_expressions(NULL, list_nth(defaults, argno - first));
}

/* Gives the name of an argument of a function. */
static char *
find_argument_name(HeapTuple proc, int argno)
{
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			count = get_func_arg_info(proc, &types, &names, &modes);

	return names && argno < count ? names[argno] : "";
}

/* Gives a call with its arguments by name, and without those that are the defaults. */
static Node *
name_arguments(const FuncExpr *call)
{
	HeapTuple	proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	FuncExpr   *named = copyObject((FuncExpr *) call);
	List	   *defaults = NIL;
	Datum		stored;
	bool		isnull;
	ListCell   *cell;

	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", call->funcid);
	stored = SysCacheGetAttr(PROCOID, proc, Anum_pg_proc_proargdefaults, &isnull);
	if (!isnull)
		defaults = castNode(List, stringToNode(TextDatumGetCString(stored)));
	named->args = NIL;
	foreach(cell, call->args)
	{
		NamedArgExpr *argument = makeNode(NamedArgExpr);

		argument->arg = lfirst(cell);
		argument->argnumber = foreach_current_index(cell);
		argument->name = find_argument_name(proc, argument->argnumber);
		argument->location = -1;
		if (!equal(argument->arg, find_default((Form_pg_proc) GETSTRUCT(proc), defaults, argument->argnumber)))
			named->args = lappend(named->args, argument);
	}
	ReleaseSysCache(proc);
	return (Node *) named;
}

/* es_callscan_explain tells EXPLAIN what is called. */
void
es_callscan_explain(const EsCallScan *scan, List *ancestors, ExplainState *es)
{
	List	   *context = set_deparse_context_plan(es->deparse_cxt, scan->pub.ss.ps.plan, ancestors);
	Node	   *call = name_arguments(scan->call);

	ExplainPropertyText("Function Call", deparse_expression(call, context, es->verbose, false), es);
}

/* es_callscan_explain_columns tells which attributes of rows of a type are formed. */
void
es_callscan_explain_columns(const EsCallScan *scan, TupleDesc desc, ExplainState *es)
{
	List	   *names = NIL;

	for (int i = 0; i < scan->ncolumns; i++)
	{
		AttrNumber	attribute = scan->columns[i];

		names = lappend(names, attribute == 0 ? pstrdup("*") : pstrdup(NameStr(TupleDescAttr(desc, attribute - 1)->attname)));
	}
	if (names != NIL)
		ExplainPropertyList("Columns", names, es);
}

/* ---- kinds of nodes ---- */

/* es_callscan_init installs the hook; called once, from _PG_init. */
void
es_callscan_init(void)
{
	previous_pathlist_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = callscan_pathlist_hook;
	es_parallelmode_init(may_have_workers);
}

/* es_callscan_register adds a kind of nodes, from _PG_init. */
void
es_callscan_register(EsCallNode *node)
{
	node->path.CustomName = node->plan.CustomName = node->exec.CustomName = node->name;
	node->path.PlanCustomPath = plan_call;
	node->plan.CreateCustomScanState = create_call_state;
	node->exec.ExecCustomScan = execute_call;
	RegisterCustomScanMethods(&node->plan);
	node->following = nodes;
	nodes = node;
}
