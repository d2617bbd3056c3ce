/*
 * placeholder.c
 *		What stands in the log for a segment that was given back.
 *
 * Functions of ours look into eventstore.segments and say that a segment is lost.  A
 * query over es_events, or over eventstore.events, knows of partitions only, and one
 * that is missing has no rows.  So es_detach_segments leaves another partition in the
 * segment's place: a foreign table of a wrapper of ours, eventstore.events_n_detached,
 * which raises 55000 as soon as a row is asked of it.  A query that says by positions
 * that it needs none of the segment's events does not come to it: the planner, or the
 * executor, leaves the partition out.  A dump has its definition, and no rows are
 * dumped of foreign tables.
 *
 * A walsender that copies the log for a new subscriber finds nothing in it: the row of
 * eventstore.segments, which comes along, tells the subscriber's readers.
 *
 * What would change the log there is refused as everywhere in it.
 */
#include "lifecycle/placeholder.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "replication/walsender.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/error.h"
#include "base/objects.h"
#include "log/segment.h"
#include "segment/ddl.h"

PG_FUNCTION_INFO_V1(es_placeholder_handler);

/* ---- making and dropping ---- */

/*
 * The columns of the log, as CREATE FOREIGN TABLE takes them.  PARTITION OF would do the
 * same, and hand down how values are compressed, which dumps then say of foreign tables,
 * too, and the server does not take.
 */
static const char log_columns[] =
"SELECT pg_catalog.string_agg(pg_catalog.format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))"
" OPERATOR(pg_catalog.||) CASE WHEN a.attcollation OPERATOR(pg_catalog.<>) 0 THEN"
" ' COLLATE ' OPERATOR(pg_catalog.||) a.attcollation::pg_catalog.regcollation::pg_catalog.text ELSE '' END"
" OPERATOR(pg_catalog.||) CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) 's' THEN ' GENERATED ALWAYS AS ('"
" OPERATOR(pg_catalog.||) pg_catalog.pg_get_expr(d.adbin, d.adrelid) OPERATOR(pg_catalog.||) ') STORED' ELSE '' END"
" OPERATOR(pg_catalog.||) CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum)"
" FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d"
" ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum"
" WHERE a.attrelid OPERATOR(pg_catalog.=) 'eventstore.events'::pg_catalog.regclass"
" AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped";

/*
 * es_placeholder_make puts one into the log; between es_ddl_enter and es_ddl_leave.
 * The server does not know that there is no position between the last one and the next,
 * so a constraint says so, for the planner.
 */
void
es_placeholder_make(int64 segment, int64 first_position, int64 last_position)
{
	char	   *name = psprintf("%s_detached", es_segment_name(segment));
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	/*
	 * what was a subscriber may have one of its publisher's, see
	 * segment/mirror.c
	 */
	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION)
		es_ddl_run("DROP TABLE eventstore.%s", name);
	if (SPI_execute(log_columns, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the columns of the log");
	es_ddl_run("CREATE FOREIGN TABLE eventstore.%s (%s, CONSTRAINT %s_range"
			   " CHECK (position OPERATOR(pg_catalog.<=) " INT64_FORMAT "::pg_catalog.int8))"
			   " SERVER eventstore_placeholder OPTIONS (segment '" INT64_FORMAT "')",
			   name, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), name, last_position, segment);
	es_ddl_run("ALTER TABLE eventstore.events ATTACH PARTITION eventstore.%s"
			   " FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")", name, first_position, last_position + 1);
}

/* es_placeholder_drop takes it away again, if it is there. */
void
es_placeholder_drop(int64 segment)
{
	char	   *name = psprintf("%s_detached", es_segment_name(segment));
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE)
		return;
	/* then it is not the store's any more, which may not be dropped */
	if (get_rel_relispartition(relid))
		es_ddl_run("ALTER TABLE eventstore.events DETACH PARTITION eventstore.%s", name);
	es_ddl_run("DROP FOREIGN TABLE eventstore.%s", name);
}

/* ---- being read ---- */

/* Which segment a placeholder stands for. */
static int64
get_placeholder_segment(Oid relid)
{
	ForeignTable *table = GetForeignTable(relid);
	ListCell   *cell;

	foreach(cell, table->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "segment") == 0)
			return strtoll(defGetString(option), NULL, 10);
	}
	elog(ERROR, "foreign table \"%s\" does not say which segment it stands for", get_rel_name(relid));
}

/* Raises VE002, as the triggers on segments do. */
ES_NORETURN static void
refuse_change_of_log(void)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
			errmsg("cannot change \"events\" because the event store is append-only"),
			errhint("Append an event that corrects the earlier ones."));
}

static void
estimate_placeholder(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	rel->rows = 1;
}

static void
add_placeholder_path(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	add_path(rel, (Path *) es_foreign_path(root, rel));
}

static ForeignScan *
placeholder_plan_hook(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *tlist, List *clauses,
					  Plan *outer)
{
	return make_foreignscan(tlist, extract_actual_clauses(clauses, false), rel->relid, NIL, NIL, NIL, NIL, outer);
}

static void
begin_placeholder_scan(ForeignScanState *node, int flags)
{
}

/* Tells whether rows of a scan are looked for to be changed. */
static bool
is_to_be_changed(ForeignScanState *node)
{
	const PlannedStmt *statement = node->ss.ps.state->es_plannedstmt;

	return statement->commandType != CMD_SELECT && statement->commandType != CMD_INSERT &&
		list_member_int(statement->resultRelations, ((Scan *) node->ss.ps.plan)->scanrelid);
}

static TupleTableSlot *
read_placeholder(ForeignScanState *node)
{
	if (is_to_be_changed(node))
		refuse_change_of_log();
	if (!am_walsender)
		es_segment_refuse_lost(get_placeholder_segment(RelationGetRelid(node->ss.ss_currentRelation)));
	return ExecClearTuple(node->ss.ss_ScanTupleSlot);
}

static void
end_placeholder_scan(ForeignScanState *node)
{
}

static bool
is_placeholder_parallel_safe(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *table)
{
	return true;
}

/* ---- being changed ---- */

/* Events put into the log at positions of a segment that is away. */
static TupleTableSlot *
insert_into_placeholder(EState *estate, ResultRelInfo *result, TupleTableSlot *slot, TupleTableSlot *plan)
{
	es_segment_refuse_lost(get_placeholder_segment(RelationGetRelid(result->ri_RelationDesc)));
	return NULL;
}

static void
begin_placeholder_insert(ModifyTableState *state, ResultRelInfo *result)
{
}

/* Rows to be changed would have been read before, so nobody comes here. */
static TupleTableSlot *
change_placeholder(EState *estate, ResultRelInfo *result, TupleTableSlot *slot, TupleTableSlot *plan)
{
	return insert_into_placeholder(estate, result, slot, plan);
}

/* The log's trigger has refused it before. */
static void
truncate_placeholder(List *relations, DropBehavior behavior, bool restart)
{
	refuse_change_of_log();
}

/* ANALYZE finds no rows. */
static int
sample_placeholder(Relation rel, int level, HeapTuple *rows, int most, double *live, double *dead)
{
	*live = *dead = 0;
	return 0;
}

static bool
analyze_placeholder(Relation rel, AcquireSampleRowsFunc *sample, BlockNumber *pages)
{
	*sample = sample_placeholder;
	*pages = 1;
	return true;
}

/* placeholder(): what the server calls for foreign tables of the wrapper. */
Datum
es_placeholder_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = estimate_placeholder;
	routine->GetForeignPaths = add_placeholder_path;
	routine->GetForeignPlan = placeholder_plan_hook;
	routine->BeginForeignScan = begin_placeholder_scan;
	routine->IterateForeignScan = read_placeholder;
	routine->ReScanForeignScan = end_placeholder_scan;
	routine->EndForeignScan = end_placeholder_scan;
	routine->IsForeignScanParallelSafe = is_placeholder_parallel_safe;
	routine->BeginForeignInsert = begin_placeholder_insert;
	routine->ExecForeignInsert = insert_into_placeholder;
	routine->ExecForeignUpdate = change_placeholder;
	routine->ExecForeignDelete = change_placeholder;
	routine->ExecForeignTruncate = truncate_placeholder;
	routine->AnalyzeForeignTable = analyze_placeholder;
	PG_RETURN_POINTER(routine);
}
