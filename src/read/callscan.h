/*
 * callscan.h
 *		Calls in FROM that are executed by plan nodes of ours.
 */
#ifndef ES_READ_CALLSCAN_H
#define ES_READ_CALLSCAN_H

#include "base/base.h"

#include "access/tupdesc.h"
#include "commands/explain.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "nodes/extensible.h"
#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"

/* An order that the rows of a call have. */
typedef struct EsCallOrder
{
	AttrNumber	attribute;		/* of its composite type, a bigint; 0: none */
	bool		descending;
} EsCallOrder;

/* A node that is running: what all of them have. */
typedef struct EsCallScan
{
	CustomScanState pub;
	FuncExpr   *call;
	FmgrInfo	function;
	List	   *arguments;		/* of ExprState */
	Bitmapset  *parameters;		/* of the query, that arguments are made of */
	int			ncolumns;
	AttrNumber *columns;		/* attributes in the slot; 0: all, as a row */
	bool		direct;			/* rows in the slot are those of the node */
	MemoryContext held;			/* what lasts as long as a call */
	MemoryContext row;			/* as long as the row given out */
} EsCallScan;

/* Planning. */
extern FuncExpr *es_callscan_find(PlannerInfo *root, const RangeTblEntry *entry);
extern void es_callscan_replace_paths(PlannerInfo *root, RelOptInfo *rel, const CustomPathMethods *methods,
									  const EsCallOrder *orders, int norders);
extern Plan *es_callscan_plan(RelOptInfo *rel, FuncExpr *call, CustomPath *path, List *clauses,
							  const CustomScanMethods *methods);

/* Running. */
extern void es_callscan_begin(EsCallScan *scan, EState *estate);
extern TupleTableSlot *es_callscan_execute(EsCallScan *scan, TupleTableSlot *(*next) (EsCallScan *scan));
extern void es_callscan_arguments(EsCallScan *scan, FunctionCallInfo fcinfo);
extern void es_callscan_explain(const EsCallScan *scan, List *ancestors, ExplainState *es);
extern void es_callscan_explain_columns(const EsCallScan *scan, TupleDesc desc, ExplainState *es);

#endif							/* ES_READ_CALLSCAN_H */
