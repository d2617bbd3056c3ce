/*
 * readnode.c
 *		The plan node of reads in FROM.
 *
 * A function in FROM puts all its rows into a tuplestore, as composite values, before the first
 * is looked at.  So a call of a reader there is planned as a node of our own, which takes events
 * from a source (source.c) as they are asked for, only those columns of them that the query
 * uses, and nothing after a LIMIT.  Protected fields are decrypted in rows on their way, so
 * that no plain text goes to disk that the query itself does not put there.
 *
 * The rows are the same, in the same order, as the function's, and so are its errors.  Which
 * call it is tells the address of its C function, so that one with settings of its own, or
 * in ROWS FROM, is left to the server.  So is one that has to be evaluated again for a row that
 * changed under it, as statements that lock or change rows do: they keep rows by relation, and
 * the node is none.
 *
 * Scanned again with the same arguments, the rows are those of the first time, as the
 * function's would be: it is VOLATILE, but called once.
 *
 * The planner asks the support function how many rows there will be.  That loads the library
 * where it is not preloaded, in time for the hook.
 */
#include "read/readnode.h"

#include "catalog/objectaccess.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "base/event.h"
#include "base/objects.h"
#include "read/log.h"
#include "read/portion.h"
#include "read/read.h"
#include "read/source.h"
#include "read/tagged.h"
#include "type/renew.h"

#define MOST_TIMES_USUAL	10	/* rows of a function, that the planner should
								 * reckon with */

PG_FUNCTION_INFO_V1(es_readnode_support);

/* A function that reads. */
typedef struct Reader
{
	PGFunction	function;
	/* one of these takes the arguments: of a read of a stream, or of the log */
	void		(*take_range) (FunctionCallInfo fcinfo, EsStreamRange *range);
	void		(*take_filter) (FunctionCallInfo fcinfo, EsLogFilter *filter);
	int			limit;			/* the argument max_count */
	double		usual;			/* ROWS of the function */
} Reader;

static const Reader readers[] = {
	{es_read, es_read_arguments, NULL, 2, 100},
	{es_read_all, NULL, es_log_all_arguments, 1, 1000},
	{es_read_category, NULL, es_log_category_arguments, 2, 1000},
	{es_read_query, NULL, es_tagged_query_arguments, 2, 100},
	{es_read_tagged, NULL, es_tagged_arguments, 3, 100},
};

/* A node that is running. */
typedef struct ReadNode
{
	CustomScanState pub;
	const Reader *reader;
	FuncExpr   *call;
	FmgrInfo	function;
	List	   *arguments;		/* of ExprState */
	Bitmapset  *parameters;		/* of the query, that arguments are made of */
	int			ncolumns;
	AttrNumber *columns;		/* attributes of es_event in the slot; 0: all,
								 * as a row */
	EsColumns	wanted;
	bool		renews;			/* the newest form of events may show */
	MemoryContext held;			/* arguments and source, while they last */
	MemoryContext row;			/* what is new of the event given out */
	EsSource   *source;			/* NULL: not called yet */
	EsEvent		event;			/* given out: the slot points into it */
	EsRenewer	renewer;
} ReadNode;

static set_rel_pathlist_hook_type previous_pathlist_hook = NULL;

/* ---- planning ---- */

/* Finds the reader that a function is; NULL if it is none. */
static const Reader *
find_reader(Oid function)
{
	FmgrInfo	info;

	fmgr_info(function, &info);
	for (int i = 0; i < lengthof(readers); i++)
		if (info.fn_addr == readers[i].function)
			return &readers[i];
	return NULL;
}

/* Gives the call of a reader that a relation of a query is; NULL if it must not be our node. */
static FuncExpr *
find_reading_call(PlannerInfo *root, const RangeTblEntry *entry)
{
	FuncExpr   *call;

	if (entry->rtekind != RTE_FUNCTION || entry->funcordinality || list_length(entry->functions) != 1)
		return NULL;
	call = (FuncExpr *) linitial_node(RangeTblFunction, entry->functions)->funcexpr;
	if (!IsA(call, FuncExpr) || !call->funcretset || call->funcid < FirstNormalObjectId || !es_base_is_installed() ||
		call->funcresulttype != es_base_event_type() || find_reader(call->funcid) == NULL)
		return NULL;
	if (root->rowMarks != NIL || (root->parse->commandType != CMD_SELECT && root->parse->commandType != CMD_INSERT))
		return NULL;
	return call;
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

static Node *create_read_state(CustomScan *scan);

static const CustomScanMethods scan_methods = {"EventstoreRead", create_read_state};

/* Makes the node of a path. */
static Plan *
plan_read(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses, List *plans)
{
	CustomScan *scan = makeNode(CustomScan);
	RangeTblEntry *entry = planner_rt_fetch(rel->relid, root);
	Node	   *call = linitial_node(RangeTblFunction, entry->functions)->funcexpr;

	clauses = extract_actual_clauses(clauses, false);
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = clauses;
	scan->flags = path->flags;
	scan->custom_exprs = list_make1(copyObject(call));

	/*
	 * the list that is given may yet be replaced by another one, of what is
	 * wanted of the relation
	 */
	scan->custom_scan_tlist = list_used_columns(rel->relid, list_concat_copy(rel->reltarget->exprs, clauses));
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

static const CustomPathMethods path_methods = {
	.CustomName = "EventstoreRead",
	.PlanCustomPath = plan_read,
};

/* The hook where a relation's paths are collected: has a reader's call planned as our node. */
static void
readnode_pathlist_hook(PlannerInfo *root, RelOptInfo *rel, Index relid, RangeTblEntry *entry)
{
	CustomPath *path;

	if (previous_pathlist_hook)
		previous_pathlist_hook(root, rel, relid, entry);
	if (find_reading_call(root, entry) == NULL || rel->pathlist == NIL)
		return;
	path = makeNode(CustomPath);
	path->path = *(Path *) linitial(rel->pathlist);
	path->path.type = T_CustomPath;
	path->path.pathtype = T_CustomScan;
	path->path.startup_cost = rel->baserestrictcost.startup + rel->reltarget->cost.startup;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	rel->pathlist = list_make1(path);
}

/*
 * read_support(internal): the support function of readers, tells how many rows they give: as
 * many as they may, if that is few.  Nobody can call it by himself.
 */
Datum
es_readnode_support(PG_FUNCTION_ARGS)
{
	SupportRequestRows *request = (SupportRequestRows *) PG_GETARG_POINTER(0);
	FuncExpr   *call;
	const Reader *reader;
	Const	   *limit;

	if (!IsA(request, SupportRequestRows) || request->node == NULL || !IsA(request->node, FuncExpr))
		PG_RETURN_POINTER(NULL);
	call = (FuncExpr *) request->node;
	reader = find_reader(call->funcid);
	if (reader == NULL || list_length(call->args) <= reader->limit)
		PG_RETURN_POINTER(NULL);
	limit = list_nth(call->args, reader->limit);
	if (!IsA(limit, Const) || limit->constisnull)
		PG_RETURN_POINTER(NULL);
	request->rows = Min(Max((double) DatumGetInt64(limit->constvalue), 1), reader->usual * MOST_TIMES_USUAL);
	PG_RETURN_POINTER(request);
}

/* ---- running ---- */

/* Notes which attributes of events are in the slot. */
static void
note_columns(ReadNode *node, List *entries)
{
	ListCell   *cell;

	node->columns = palloc(sizeof(AttrNumber) * (list_length(entries) + 1));
	foreach(cell, entries)
	{
		AttrNumber	attribute = castNode(Var, lfirst_node(TargetEntry, cell)->expr)->varattno;
		bool		all = attribute == 0;

		node->columns[node->ncolumns++] = attribute;
		node->wanted.data |= all || attribute == Anum_es_event_data;
		node->wanted.metadata |= all || attribute == Anum_es_event_metadata;
		node->wanted.names |= all || attribute == Anum_es_event_stream || attribute == Anum_es_event_type;
		node->renews |= node->wanted.data || node->wanted.metadata || attribute == Anum_es_event_type_version;
	}
	node->wanted.names |= node->renews;
}

/* Checks that the caller may execute the function, as the server does for those it calls itself. */
static void
require_execute(Oid function)
{
	AclResult	result = es_function_aclcheck(function, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

/* Begins: nothing is read yet. */
static void
begin_read_node(CustomScanState *pub, EState *estate, int eflags)
{
	ReadNode   *node = (ReadNode *) pub;
	CustomScan *plan = (CustomScan *) pub->ss.ps.plan;
	TupleDesc	desc = lookup_rowtype_tupdesc(es_base_event_type(), -1);

	es_event_check(desc);
	ReleaseTupleDesc(desc);
	node->call = linitial_node(FuncExpr, plan->custom_exprs);
	require_execute(node->call->funcid);
	fmgr_info(node->call->funcid, &node->function);
	node->reader = find_reader(node->call->funcid);
	if (node->reader == NULL)
		elog(ERROR, "function %u does not read events", node->call->funcid);
	node->arguments = ExecInitExprList(node->call->args, &pub->ss.ps);
	node->parameters = pull_paramids((Expr *) node->call);
	note_columns(node, plan->custom_scan_tlist);
	node->held = AllocSetContextCreate(estate->es_query_cxt, "eventstore read", ALLOCSET_DEFAULT_SIZES);
	node->row = AllocSetContextCreate(estate->es_query_cxt, "eventstore row", ALLOCSET_SMALL_SIZES);
}

/* Evaluates the arguments, which then live as long as the source. */
static void
evaluate_arguments(ReadNode *node, FunctionCallInfo fcinfo)
{
	ListCell   *cell;
	int			n = 0;

	foreach(cell, node->arguments)
	{
		NullableDatum *argument = &fcinfo->args[n];
		int16		length;
		bool		by_value;

		argument->value = ExecEvalExprSwitchContext(lfirst(cell), node->pub.ss.ps.ps_ExprContext, &argument->isnull);
		get_typlenbyval(exprType(list_nth(node->call->args, n++)), &length, &by_value);
		if (!argument->isnull)
			argument->value = datumCopy(argument->value, by_value, length);
	}
}

/* Takes the arguments as the function would, and opens the source. */
static void
open_read_node(ReadNode *node)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	PgStat_FunctionCallUsage usage;
	MemoryContext old = MemoryContextSwitchTo(node->held);
	EsRead		read = {.of_stream = node->reader->take_range != NULL};

	InitFunctionCallInfoData(*fcinfo, &node->function, list_length(node->arguments), node->call->inputcollid, NULL, NULL);
	evaluate_arguments(node, fcinfo);
	pgstat_init_function_usage(fcinfo, &usage);
	if (read.of_stream)
		node->reader->take_range(fcinfo, &read.range);
	else
	{
		node->reader->take_filter(fcinfo, &read.filter);
		es_log_restrict(&read.filter);
	}
	es_renew_begin(&node->renewer, NULL);
	if (node->renews && node->renewer.upcasters != NULL)
		node->wanted = (EsColumns)
	{
		.names = true,.data = true,.metadata = true
	};
	node->source = es_source_open(&read, node->wanted);
	pgstat_end_function_usage(&usage, true);
	MemoryContextSwitchTo(old);
}

/* Closes the source, if it is open. */
static void
close_read_node(ReadNode *node)
{
	if (node->source)
		es_source_close(node->source);
	node->source = NULL;
	MemoryContextReset(node->held);
}

/* Puts an event into the slot. */
static TupleTableSlot *
store_event(ReadNode *node, const EsEvent *event)
{
	TupleTableSlot *slot = node->pub.ss.ss_ScanTupleSlot;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	es_event_values(event, values, isnull);
	for (int i = 0; i < node->ncolumns; i++)
	{
		AttrNumber	attribute = node->columns[i];

		slot->tts_values[i] = attribute == 0 ? es_event_form(values, isnull) : values[attribute - 1];
		slot->tts_isnull[i] = false;
	}
	return ExecStoreVirtualTuple(slot);
}

/* Gives the next event as the query sees it. */
static TupleTableSlot *
next_read_row(ScanState *state)
{
	ReadNode   *node = (ReadNode *) state;
	TupleTableSlot *slot = ExecClearTuple(state->ss_ScanTupleSlot);
	MemoryContext old;
	EsEvent    *stored;

	if (node->source == NULL)
		open_read_node(node);
	MemoryContextReset(node->row);
	stored = es_source_next(node->source);
	if (stored == NULL)
		return slot;
	old = MemoryContextSwitchTo(node->row);
	node->event = *stored;
	if (node->renews && es_renew_is_old(&node->renewer, &node->event))
		es_renew_event(&node->renewer, &node->event);
	slot = store_event(node, &node->event);
	MemoryContextSwitchTo(old);
	return slot;
}

/* Nothing has to be looked at again: see find_reading_call. */
static bool
recheck_read_row(ScanState *state, TupleTableSlot *slot)
{
	return true;
}

/* Gives the next row that passes the node's conditions. */
static TupleTableSlot *
execute_read_node(CustomScanState *pub)
{
	return ExecScan(&pub->ss, next_read_row, recheck_read_row);
}

/* Begins again: with other arguments as a new call, else with the same events. */
static void
rescan_read_node(CustomScanState *pub)
{
	ReadNode   *node = (ReadNode *) pub;

	if (bms_overlap(pub->ss.ps.chgParam, node->parameters))
		close_read_node(node);
	else if (node->source)
		es_source_rewind(node->source);
	ExecScanReScan(&pub->ss);
}

/* Ends. */
static void
end_read_node(CustomScanState *pub)
{
	close_read_node((ReadNode *) pub);
}

/* Tells EXPLAIN what is read. */
static void
explain_read_node(CustomScanState *pub, List *ancestors, ExplainState *es)
{
	ReadNode   *node = (ReadNode *) pub;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, pub->ss.ps.plan, ancestors);

	ExplainPropertyText("Function Call", deparse_expression((Node *) node->call, context, es->verbose, false), es);
	if (es->analyze && node->source)
		ExplainPropertyInteger("Portions", NULL, es_source_portions(node->source), es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "EventstoreRead",
	.BeginCustomScan = begin_read_node,
	.ExecCustomScan = execute_read_node,
	.EndCustomScan = end_read_node,
	.ReScanCustomScan = rescan_read_node,
	.ExplainCustomScan = explain_read_node,
};

/* Makes a node's state. */
static Node *
create_read_state(CustomScan *scan)
{
	ReadNode   *node = (ReadNode *) newNode(sizeof(ReadNode), T_CustomScanState);

	node->pub.methods = &exec_methods;
	return (Node *) node;
}

/* es_readnode_init installs the hook; called once, from _PG_init. */
void
es_readnode_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
	previous_pathlist_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = readnode_pathlist_hook;
}
