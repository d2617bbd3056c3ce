/*
 * foldnode.c
 *		The plan node of es_replay_category in FROM.
 *
 * Streams are folded as rows are asked for, in portions (category.c): of one stream at first,
 * then of four times as many each time, as long as the rows fit into work_mem.  So a LIMIT folds
 * few, and no temporary file is written.  Who takes all rows has parallel workers as in the
 * function: they begin when so much has been folded that they are worth it, and again with
 * each portion, which costs them some milliseconds; so a portion of theirs may have CREW_BYTES
 * of rows, or three quarters of the memory for hash tables if that is more.  What is beyond
 * that memory is a temporary file, of the portion alone.
 *
 * Where the whole statement may be executed in parallel mode, as the server does it with plans
 * that have parallel workers, and is executed to its end at once, workers go on until the fold
 * ends, beside what is done with the rows (read/parallelmode.c).  They send rows into queues, and
 * a portion is what these have, or what the leader has folded while they had nothing.  The moment
 * that the rows are of is that at which the execution begins, then, before parallel mode, in
 * which the log cannot be looked at as it is.  A fold that leaves snapshots, or calls
 * functions, is not executed so.
 *
 * Between two portions a database snapshot is held, by which all are folded, and the fold, whose
 * reducer stays what it was.  If the table of a segment is rewritten meanwhile, so that
 * the snapshot does not see it, the next portion is 40001.
 *
 * Scanned again with the same arguments, the rows are those of the first time: if all were in
 * one portion they are still there, else they are folded again, in portions that are large
 * by then.
 *
 * The states are only formed if the query uses them; to be folded they have to be in any case, as
 * a handler may raise an error.
 */
#include "fold/foldnode.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "executor/executor.h"
#include "executor/nodeHash.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/event.h"
#include "base/objects.h"
#include "fold/category.h"
#include "fold/reducer.h"
#include "fold/replay.h"
#include "fold/resolve.h"
#include "fold/staterow.h"
#include "read/callscan.h"
#include "shared/headway.h"
#include "type/upcast.h"

#define GROWTH		4			/* of portions */

/* Of rows: to have these in a file takes as long as to start workers three times. */
#define CREW_BYTES	(24 * 1024 * 1024)

/* And in a portion between which workers go on: about what their queues have. */
#define QUEUE_BYTES	(64 * 1024)

/* A node that is running. */
typedef struct FoldNode
{
	EsCallScan	scan;
	bool		with_states;
	EsCategoryMoment moment;	/* that the fold will be of, if it was taken, */
	const EsReducer *reducer;	/* and by which it has to be */
	EsCategoryFold *fold;		/* NULL: not called yet */
	EsCategoryPortion portion;	/* the next one */
	bool		at_start;		/* it is the first */
	bool		ended;			/* there is none */
	bool		whole;			/* all rows are in the tuplestore */
	TupleDesc	desc;			/* of es_state */
	Tuplestorestate *rows;		/* of the portion, as staterow.c makes them */
	TupleTableSlot *row;
	EsCategoryCounts counts;	/* of folds that have ended */
} FoldNode;

/* ---- planning ---- */

/*
 * Tells whether a call is one of es_replay_category, 0, or not, -1: its rows are in no order that
 * the planner knows.  Of functions that cannot be it the library is not loaded.
 */
static int
find_fold_orders(const FuncExpr *call, EsCallOrder *orders)
{
	Oid			row = get_typ_typrelid(call->funcresulttype);
	char	   *name = OidIsValid(row) ? get_rel_name(row) : NULL;

	return name != NULL && strcmp(name, "es_state") == 0 && es_category_is_replay(call->funcid) ? 0 : -1;
}

/* Gives the name of the reducer that a call is by; NULL if the planner does not know it. */
static const text *
find_reducer_name(const FuncExpr *call)
{
	const Const *category = linitial(call->args);
	const Const *reducer = lsecond(call->args);

	if (!IsA(reducer, Const))
		return NULL;
	if (!reducer->constisnull)
		return DatumGetTextPP(reducer->constvalue);
	return IsA(category, Const) && !category->constisnull ? DatumGetTextPP(category->constvalue) : NULL;
}

/*
 * Gives the reducer of a call, as long as the current memory context is there, if it certainly has
 * only operations, and leaves no snapshots; else NULL.  Functions of users may have labels that
 * are not true, and to start workers with each portion weighs little beside them.
 */
static const EsReducer *
find_plain_reducer(const FuncExpr *call)
{
	const text *name = find_reducer_name(call);
	const EsReducer *reducer = name ? es_resolve_pin(name, CurrentMemoryContext) : NULL;

	return reducer && !reducer->calls_functions && reducer->snapshot_every == 0 ? reducer : NULL;
}

/* Tells whether a call has workers that go on as its rows are used. */
static bool
wants_workers(PlannerInfo *root, const FuncExpr *call)
{
	/* it is called once, or again for the same rows */
	if (contain_var_clause((Node *) call->args) || contain_subplans((Node *) call->args) ||
		!bms_is_empty(pull_paramids((Expr *) call->args)))
		return false;
	/* a plan is made anew when the answer may be another one */
	root->glob->relationOids = lappend_oid(root->glob->relationOids, es_base_oid(&es_reducer_table));
	root->glob->relationOids = lappend_oid(root->glob->relationOids, es_base_oid(es_upcast_shape.table));
	return find_plain_reducer(call) != NULL;
}

/* ---- running ---- */

/* Raises 40001 if the reducer of a fold in parallel mode is not what it was when that began. */
static void
require_reducer_as_begun(const FoldNode *node)
{
	const EsReducer *reducer = es_category_reducer(node->fold);

	if (memcmp(reducer->fingerprint, node->reducer->fingerprint, ES_FINGERPRINT_LENGTH) == 0)
		return;
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("reducer \"%s\" was changed at the same time", reducer->name),
			errhint("Retry the transaction."));
}

/* Takes the arguments as the function would, and begins the fold. */
static void
open_fold_node(FoldNode *node)
{
	bool		parallel_mode = node->moment.snapshot && node->scan.pub.ss.ps.state->es_use_parallel_mode;

	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	PgStat_FunctionCallUsage usage;
	MemoryContext old = MemoryContextSwitchTo(node->scan.held);
	size_t		memory = get_hash_memory_limit() / 1024;

	es_callscan_arguments(&node->scan, fcinfo);
	if (!parallel_mode)
		es_category_drop_moment(&node->moment);
	pgstat_init_function_usage(fcinfo, &usage);
	node->rows = tuplestore_begin_heap(false, false, (int) Min(memory, INT_MAX));
	node->fold = es_category_begin(fcinfo, node->rows, NULL, node->with_states, &node->moment);
	if (parallel_mode)
		require_reducer_as_begun(node);
	node->portion = (EsCategoryPortion)
	{
		.rows = 1,.bytes = (Size) work_mem * 1024,.bytes_with_crew = Max(CREW_BYTES, memory * 1024 / 4 * 3)
	};
	node->at_start = true;
	node->ended = node->whole = false;
	pgstat_end_function_usage(&usage, true);
	MemoryContextSwitchTo(old);
}

/* Begins: nothing is folded yet. */
static void
begin_fold_node(CustomScanState *pub, EState *estate, int eflags)
{
	FoldNode   *node = (FoldNode *) pub;

	es_callscan_begin(&node->scan, estate);
	node->desc = lookup_rowtype_tupdesc_copy(node->scan.call->funcresulttype, -1);
	es_event_check_type(node->desc, es_replay_state_types, Natts_es_state);
	for (int i = 0; i < node->scan.ncolumns; i++)
		node->with_states |= node->scan.columns[i] == 0 || node->scan.columns[i] == Anum_es_state_state;
	node->row = MakeSingleTupleTableSlot(es_staterow_desc(), &TTSOpsMinimalTuple);
	if (!node->scan.wants_workers || (eflags & (EXEC_FLAG_EXPLAIN_ONLY | EXEC_FLAG_WITH_NO_DATA)) != 0)
		return;

	/*
	 * what has changed since the plan was made, or as it was, is not known to
	 * its dependencies
	 */
	node->reducer = find_plain_reducer(node->scan.call);
	if (node->reducer == NULL)
		estate->es_plannedstmt->parallelModeNeeded = false;
	node->moment = es_category_take_moment();
}

/* Adds what a fold has done to what folds before it have. */
static void
add_counts(EsCategoryCounts *sum, const EsCategoryFold *fold)
{
	const EsCategoryCounts *counts = es_category_counts(fold);

	sum->portions += counts->portions;
	sum->rows += counts->rows;
	sum->own_rows += counts->own_rows;
	sum->workers += counts->workers;
}

/* Ends the fold, if there is one. */
static void
close_fold_node(FoldNode *node)
{
	ExecClearTuple(node->scan.pub.ss.ss_ScanTupleSlot);
	ExecClearTuple(node->row);
	if (node->fold)
	{
		add_counts(&node->counts, node->fold);
		es_category_end(node->fold);
		tuplestore_end(node->rows);
	}
	node->fold = NULL;
	node->rows = NULL;
	MemoryContextReset(node->scan.held);
}

/* Folds the next portion; false if there is none. */
static bool
fold_next_portion(FoldNode *node)
{
	if (node->ended)
		return false;
	tuplestore_clear(node->rows);
	if (node->scan.wants_workers && node->scan.pub.ss.ps.state->es_use_parallel_mode)
	{
		node->portion.keeps_crew = true;
		node->portion.bytes_with_crew = QUEUE_BYTES;
	}
	es_headway_begin(ES_COMMAND_REPLAY_CATEGORY);
	node->ended = !es_category_next(node->fold, &node->portion);
	es_headway_end();
	node->whole = node->at_start && node->ended;
	node->at_start = false;
	if (node->portion.rows <= PG_INT64_MAX / GROWTH)
		node->portion.rows *= GROWTH;
	return true;
}

/* Puts a row into the node's slot, whose values stay in the row's. */
static TupleTableSlot *
store_state(FoldNode *node)
{
	TupleTableSlot *slot = node->scan.pub.ss.ss_ScanTupleSlot;
	Datum	   *values = node->row->tts_values;
	bool	   *isnull = node->row->tts_isnull;

	slot_getsomeattrs(node->row, Natts_es_state);
	for (int i = 0; i < node->scan.ncolumns; i++)
	{
		AttrNumber	attribute = node->scan.columns[i];

		slot->tts_isnull[i] = attribute != 0 && isnull[attribute - 1];
		slot->tts_values[i] = attribute != 0 ? values[attribute - 1] :
			HeapTupleGetDatum(heap_form_tuple(node->desc, values, isnull));
	}
	return ExecStoreVirtualTuple(slot);
}

/* Gives the next row. */
static TupleTableSlot *
next_fold_row(EsCallScan *scan)
{
	FoldNode   *node = (FoldNode *) scan;
	TupleTableSlot *slot = ExecClearTuple(scan->pub.ss.ss_ScanTupleSlot);
	MemoryContext old;

	if (node->fold == NULL)
		open_fold_node(node);
	while (!tuplestore_gettupleslot(node->rows, true, false, node->row))
		if (!fold_next_portion(node))
			return slot;
	MemoryContextReset(node->scan.row);
	old = MemoryContextSwitchTo(node->scan.row);
	slot = store_state(node);
	MemoryContextSwitchTo(old);
	return slot;
}

/* Begins again: with other arguments as a new call, else with the same streams. */
static void
rescan_fold_node(CustomScanState *pub)
{
	FoldNode   *node = (FoldNode *) pub;

	if (bms_overlap(pub->ss.ps.chgParam, node->scan.parameters))
		close_fold_node(node);
	else if (node->fold && node->whole)
		tuplestore_rescan(node->rows);
	else if (node->fold)
	{
		es_category_rewind(node->fold);
		tuplestore_clear(node->rows);
		node->at_start = true;
		node->ended = false;
	}
	ExecScanReScan(&pub->ss);
}

/* Lets workers go, before parallel mode ends: no more rows are asked for. */
static void
shut_fold_node_down(CustomScanState *pub)
{
	FoldNode   *node = (FoldNode *) pub;

	if (node->fold == NULL || !es_category_pause(node->fold))
		return;
	ExecClearTuple(pub->ss.ss_ScanTupleSlot);
	ExecClearTuple(node->row);
	tuplestore_clear(node->rows);
	node->ended = true;
}

/* Ends. */
static void
end_fold_node(CustomScanState *pub)
{
	FoldNode   *node = (FoldNode *) pub;

	close_fold_node(node);
	es_category_drop_moment(&node->moment);
	ExecDropSingleTupleTableSlot(node->row);
}

/* Tells EXPLAIN what is folded, and what was: in all executions of the node together. */
static void
explain_fold_node(CustomScanState *pub, List *ancestors, ExplainState *es)
{
	FoldNode   *node = (FoldNode *) pub;
	EsCategoryCounts counts = node->counts;

	es_callscan_explain(&node->scan, ancestors, es);
	es_callscan_explain_columns(&node->scan, node->desc, es);
	if (!es->analyze)
		return;
	if (node->fold)
		add_counts(&counts, node->fold);
	ExplainPropertyInteger("Portions", NULL, counts.portions, es);
	ExplainPropertyInteger("Streams Folded", NULL, counts.rows, es);
	if (counts.workers == 0 && es->format == EXPLAIN_FORMAT_TEXT)
		return;
	ExplainPropertyInteger("Workers Launched", NULL, counts.workers, es);
	ExplainPropertyInteger("Streams Folded by Workers", NULL, counts.rows - counts.own_rows, es);
}

static EsCallNode fold_node = {
	.name = "EventstoreFold",
	.size = sizeof(FoldNode),
	.find_orders = find_fold_orders,
	.wants_workers = wants_workers,
	.next = next_fold_row,
	.exec = {
		.BeginCustomScan = begin_fold_node,
		.EndCustomScan = end_fold_node,
		.ReScanCustomScan = rescan_fold_node,
		.ShutdownCustomScan = shut_fold_node_down,
		.ExplainCustomScan = explain_fold_node,
	},
};

/* es_foldnode_init registers the node; called once, from _PG_init. */
void
es_foldnode_init(void)
{
	es_callscan_register(&fold_node);
}
