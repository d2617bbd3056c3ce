/*
 * readnode.c
 *		The plan node of reads in FROM.
 *
 * A call of a reader in FROM is planned as a node of our own (callscan.c), which takes events
 * from a source (source.c) as they are asked for, only those columns of them that the query
 * uses, and nothing after a LIMIT.  Protected fields are decrypted in rows on their way, so
 * that no plain text goes to disk that the query itself does not put there.
 *
 * The rows are the same, in the same order, as the function's, and so are its errors.  Which
 * call it is tells the address of its C function, so that one with settings of its own is
 * left to the server.
 *
 * Scanned again with the same arguments, the rows are those of the first time, as the
 * function's would be: it is VOLATILE, but called once.
 *
 * The events of a stream come by version and, as positions rise with versions, by position; those
 * of the log come by position.  The planner is told so where the direction is a constant.
 *
 * The planner asks the support function how many rows there will be.  That loads the library
 * where it is not preloaded, in time for the hook.
 */
#include "read/readnode.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/supportnodes.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "base/event.h"
#include "base/objects.h"
#include "log/segment.h"
#include "read/callscan.h"
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
	int			backwards;		/* the argument; 0: it has none */
	double		usual;			/* ROWS of the function */
} Reader;

static const Reader readers[] = {
	{es_read, es_read_arguments, NULL, 2, 3, 100},
	{es_read_all, NULL, es_log_all_arguments, 1, 6, 1000},
	{es_read_category, NULL, es_log_category_arguments, 2, 5, 1000},
	{es_read_query, NULL, es_tagged_query_arguments, 2, 3, 100},
	{es_read_tagged, NULL, es_tagged_arguments, 3, 0, 100},
};

/* A node that is running. */
typedef struct ReadNode
{
	EsCallScan	scan;
	const Reader *reader;
	EsColumns	wanted;
	bool		renews;			/* the newest form of events may show */
	EsSource   *source;			/* NULL: not called yet */
	EsEvent		event;			/* given out: the slot points into it */
	EsRenewer	renewer;
	bool		counting;		/* for EXPLAIN: */
	EsSourceCounts counts;
} ReadNode;

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

/* Gives the argument of a call that says whether it reads backwards; NULL if there is none. */
static Const *
find_direction(const Reader *reader, const FuncExpr *call)
{
	Node	   *argument = reader->backwards > 0 && reader->backwards < list_length(call->args) ?
	list_nth(call->args, reader->backwards) : NULL;

	return argument && IsA(argument, Const) ? (Const *) argument : NULL;
}

/* Fills the orders that a reader's events are certainly in; their number, -1: it is no reader. */
static int
find_read_orders(const FuncExpr *call, EsCallOrder *orders)
{
	const Reader *reader = call->funcresulttype == es_base_event_type() ? find_reader(call->funcid) : NULL;
	Const	   *direction;
	bool		descending = false;
	int			count = 0;

	if (reader == NULL)
		return -1;
	direction = find_direction(reader, call);
	if (reader->backwards > 0)
	{
		if (direction == NULL || direction->constisnull)
			return 0;
		descending = DatumGetBool(direction->constvalue);
	}
	if (reader->take_range)
		orders[count++] = (EsCallOrder)
	{
		Anum_es_event_version, descending
	};
	orders[count++] = (EsCallOrder)
	{
		Anum_es_event_position, descending
	};
	return count;
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

/* Notes which columns of events have to be read. */
static void
note_wanted_columns(ReadNode *node)
{
	for (int i = 0; i < node->scan.ncolumns; i++)
	{
		AttrNumber	attribute = node->scan.columns[i];
		bool		all = attribute == 0;

		node->wanted.data |= all || attribute == Anum_es_event_data;
		node->wanted.metadata |= all || attribute == Anum_es_event_metadata;
		node->wanted.stream |= all || attribute == Anum_es_event_stream;
		node->wanted.type |= all || attribute == Anum_es_event_type;
		node->renews |= node->wanted.data || node->wanted.metadata || attribute == Anum_es_event_type_version;
	}
	node->wanted.stream |= node->renews;
	node->wanted.type |= node->renews;
}

/* Begins: nothing is read yet. */
static void
begin_read_node(CustomScanState *pub, EState *estate, int eflags)
{
	ReadNode   *node = (ReadNode *) pub;
	TupleDesc	desc = lookup_rowtype_tupdesc(es_base_event_type(), -1);

	es_event_check(desc);
	ReleaseTupleDesc(desc);
	es_callscan_begin(&node->scan, estate);
	node->reader = find_reader(node->scan.call->funcid);
	if (node->reader == NULL)
		elog(ERROR, "function %u does not read events", node->scan.call->funcid);
	note_wanted_columns(node);
	node->counting = estate->es_instrument != 0;
}

/* Takes the arguments as the function would, and opens the source. */
static void
open_read_node(ReadNode *node)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	PgStat_FunctionCallUsage usage;
	MemoryContext old = MemoryContextSwitchTo(node->scan.held);
	EsRead		read = {.of_stream = node->reader->take_range != NULL};

	es_callscan_arguments(&node->scan, fcinfo);
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
		.stream = true,.type = true,.data = true,.metadata = true
	};
	node->source = es_source_open(&read, node->wanted, node->counting ? &node->counts : NULL);
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
	MemoryContextReset(node->scan.held);
}

/*
 * Puts an event into the slot, which has no memory of its own, unless somebody has had it keep the
 * row before.  That has been cleared nowhere: no column is ever NULL, so others take the place of
 * its values.
 */
static inline TupleTableSlot *
store_event(ReadNode *node, const EsEvent *event)
{
	TupleTableSlot *slot = node->scan.pub.ss.ss_ScanTupleSlot;

	if (unlikely(TTS_EMPTY(slot) || TTS_SHOULDFREE(slot)))
		ExecStoreVirtualTuple(ExecClearTuple(slot));
	for (int i = 0; i < node->scan.ncolumns; i++)
	{
		AttrNumber	attribute = node->scan.columns[i];

		slot->tts_values[i] = attribute == 0 ? es_event_datum(event) : es_event_value(event, attribute);
	}
	return slot;
}

/* Puts an event into the slot as the query sees it: what is new of it is in the row's memory. */
static TupleTableSlot *
store_renewed_event(ReadNode *node, const EsEvent *stored)
{
	TupleTableSlot *slot;
	MemoryContext old;

	MemoryContextReset(node->scan.row);
	old = MemoryContextSwitchTo(node->scan.row);
	node->event = *stored;
	if (es_renew_is_old(&node->renewer, &node->event))
		es_renew_event(&node->renewer, &node->event);
	slot = store_event(node, &node->event);
	MemoryContextSwitchTo(old);
	return slot;
}

/* Gives the next event. */
static TupleTableSlot *
next_read_row(EsCallScan *scan)
{
	ReadNode   *node = (ReadNode *) scan;
	EsEvent    *stored;

	if (unlikely(node->source == NULL))
		open_read_node(node);
	stored = es_source_next(node->source);
	if (unlikely(stored == NULL))
		return ExecClearTuple(scan->pub.ss.ss_ScanTupleSlot);
	return node->renews ? store_renewed_event(node, stored) : store_event(node, stored);
}

/* Begins again: with other arguments as a new call, else with the same events. */
static void
rescan_read_node(CustomScanState *pub)
{
	ReadNode   *node = (ReadNode *) pub;

	if (bms_overlap(pub->ss.ps.chgParam, node->scan.parameters))
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

/* ---- EXPLAIN ---- */

/* What a segment's indexes are of, by EsSegmentIndex, and then those of types. */
static const char *const index_columns[ES_INDEX_COUNT + 1] = {
	[ES_INDEX_POSITION] = "(position)",
	[ES_INDEX_STREAM] = "(stream_id, version)",
	[ES_INDEX_CATEGORY] = "(category_key, position)",
	[ES_INDEX_EVENT_ID] = "(stream_id, event_id)",
	[ES_INDEX_TAG] = "(metadata, position)",
	[ES_INDEX_COUNT] = "(position) of a type",
};

/* Tells in which direction events are read, if that is certain; in text the call says so. */
static void
explain_direction(const ReadNode *node, ExplainState *es)
{
	const Reader *reader = node->reader;
	Const	   *direction = find_direction(reader, node->scan.call);

	if (es->format == EXPLAIN_FORMAT_TEXT || (reader->backwards > 0 && (direction == NULL || direction->constisnull)))
		return;
	ExplainPropertyText("Scan Direction", direction && DatumGetBool(direction->constvalue) ? "Backward" : "Forward", es);
}

/* Tells which indexes were scanned. */
static void
explain_indexes(uint32 indexes, ExplainState *es)
{
	List	   *columns = NIL;

	for (int i = 0; i <= ES_INDEX_COUNT; i++)
		if (indexes & (1 << i))
			columns = lappend(columns, pstrdup(index_columns[i]));
	if (columns != NIL)
		ExplainPropertyList("Indexes Scanned", columns, es);
}

/*
 * Tells EXPLAIN what is read, and what was: in all executions of the node together, and without
 * what the caller may not read.
 */
static void
explain_read_node(CustomScanState *pub, List *ancestors, ExplainState *es)
{
	ReadNode   *node = (ReadNode *) pub;
	const EsSourceCounts *counts = &node->counts;
	TupleDesc	desc = lookup_rowtype_tupdesc(es_base_event_type(), -1);

	es_callscan_explain(&node->scan, ancestors, es);
	es_callscan_explain_columns(&node->scan, desc, es);
	ReleaseTupleDesc(desc);
	explain_direction(node, es);
	if (!es->analyze)
		return;
	explain_indexes(counts->scans.indexes, es);
	ExplainPropertyInteger("Segments Scanned", NULL, counts->scans.segments, es);
	ExplainPropertyInteger("Portions", NULL, counts->portions, es);
	ExplainPropertyInteger("Events Read", NULL, counts->events, es);
	if (counts->removed > 0 || es->format != EXPLAIN_FORMAT_TEXT)
		ExplainPropertyInteger("Rows Removed by Arguments", NULL, counts->removed, es);
}

static EsCallNode read_node = {
	.name = "EventstoreRead",
	.size = sizeof(ReadNode),
	.find_orders = find_read_orders,
	.next = next_read_row,
	.exec = {
		.BeginCustomScan = begin_read_node,
		.EndCustomScan = end_read_node,
		.ReScanCustomScan = rescan_read_node,
		.ExplainCustomScan = explain_read_node,
	},
};

/* es_readnode_init registers the node; called once, from _PG_init. */
void
es_readnode_init(void)
{
	es_callscan_register(&read_node);
}
