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

#define ES_CALL_MOST_ORDERS		2

struct EsCallNode;

/* A node that is running: what all of them have. */
typedef struct EsCallScan
{
	CustomScanState pub;
	const struct EsCallNode *node;
	FuncExpr   *call;
	FmgrInfo	function;
	List	   *arguments;		/* of ExprState */
	Bitmapset  *parameters;		/* of the query, that arguments are made of */
	int			ncolumns;
	AttrNumber *columns;		/* attributes in the slot; 0: all, as a row */
	bool		direct;			/* rows in the slot are those of the node */
	bool		wants_workers;	/* the plan is executed in parallel mode if it
								 * is executed to its end at once */
	MemoryContext held;			/* what lasts as long as a call */
	MemoryContext row;			/* as long as the row given out */
} EsCallScan;

/* A kind of nodes. */
typedef struct EsCallNode
{
	const char *name;			/* in EXPLAIN */
	Size		size;			/* of its state, which begins with an
								 * EsCallScan */

	/*
	 * Fills the orders that the rows of a call are certainly in, and gives
	 * their number; -1 if such nodes do not execute that call.
	 */
	int			(*find_orders) (const FuncExpr *call, EsCallOrder *orders);

	/*
	 * Tells, as a plan is made, whether a call would have parallel workers
	 * beside the rest of the plan, as nothing is written until that ends.
	 * NULL: never.
	 */
	bool		(*wants_workers) (PlannerInfo *root, const FuncExpr *call);
	/* gives the next row, in the node's slot; empty at the end */
	TupleTableSlot *(*next) (EsCallScan *scan);
	CustomExecMethods exec;		/* but for name and execution */

	/* of callscan.c */
	CustomPathMethods path;
	CustomScanMethods plan;
	struct EsCallNode *following;
} EsCallNode;

extern void es_callscan_init(void);
extern void es_callscan_register(EsCallNode *node);

/* Running. */
extern void es_callscan_begin(EsCallScan *scan, EState *estate);
extern void es_callscan_arguments(EsCallScan *scan, FunctionCallInfo fcinfo);
extern void es_callscan_explain(const EsCallScan *scan, List *ancestors, ExplainState *es);
extern void es_callscan_explain_columns(const EsCallScan *scan, TupleDesc desc, ExplainState *es);

#endif							/* ES_READ_CALLSCAN_H */
