/*
 * sealer.c
 *		Sealing segments that are complete.
 *
 * A segment gets no more events once every position up to its last is final.  Then it
 * is vacuumed and frozen, once, and its events are counted for good.  That is done by
 * the segment maker that nobody waits for, one at a time.
 */
#include "segment/sealer.h"

#include "access/xact.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/pg_list.h"
#include "parser/parse_node.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/objects.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "table/rows.h"

/*
 * Finds the oldest segment that is attached, not sealed, and final up to its last
 * position; -1 for none.
 */
static int64
find_unsealed_segment(int64 settled)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock,.fresh = true};
	int64		found = -1;

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		int64		segment = DatumGetInt64(rows.values[Anum_es_segments_segment - 1]);

		if (!DatumGetBool(rows.values[Anum_es_segments_sealed - 1]) &&
			DatumGetInt64(rows.values[Anum_es_segments_last_position - 1]) <= settled &&
			(found < 0 || segment < found) && OidIsValid(es_segment_relid(segment)))
			found = segment;
	}
	es_rows_end(&rows);
	return found;
}

/* Marks a segment as sealed, and counts its events for good: it gets no more. */
static void
mark_segment_sealed(int64 segment)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = RowExclusiveLock,.fresh = true};
	Datum		values[Natts_es_segments];
	bool		isnull[Natts_es_segments] = {false};

	es_rows_equal(&rows, Int64GetDatum(segment));
	es_rows_begin(&rows);
	if (es_rows_next(&rows))
	{
		int64		events = es_scan_count(segment, NULL);

		memcpy(values, rows.values, sizeof(values));
		values[Anum_es_segments_sealed - 1] = BoolGetDatum(true);
		values[Anum_es_segments_events - 1] = Int64GetDatum(events);
		isnull[Anum_es_segments_events - 1] = events < 0;
		es_rows_update(&rows, values, isnull);
	}
	es_rows_end(&rows);
}

/*
 * Runs VACUUM (FREEZE) on a table; commits the transaction it is called in, and
 * begins another.
 */
static void
freeze_table(Oid relid)
{
	VacuumStmt *statement = makeNode(VacuumStmt);
	RangeVar   *name = makeRangeVar(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), -1);

	statement->options = list_make1(makeDefElem("freeze", (Node *) makeBoolean(true), -1));
	statement->rels = list_make1(makeVacuumRelation(name, InvalidOid, NIL));
	statement->is_vacuumcmd = true;
	ExecVacuum(make_parsestate(NULL), statement, true);
}

/*
 * es_sealer_freeze freezes the rows of a table, of a segment or one that is to become one;
 * called in a worker, outside of transactions.
 */
void
es_sealer_freeze(Oid relid)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore freeze", ALLOCSET_DEFAULT_SIZES);

	PortalContext = context;	/* ExecVacuum keeps its things there */
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	if (get_rel_name(relid) != NULL)
		freeze_table(relid);
	CommitTransactionCommand();
	PortalContext = NULL;
	MemoryContextDelete(context);
}

/*
 * Gives the sealer's lock back as the worker ends: a session's lock outlives
 * its process otherwise.
 */
static void
stop_sealing(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

/* Makes this the only worker that seals, until it ends; false if another is. */
static bool
become_sealer(void)
{
	LOCKTAG		tag;
	bool		got = false;

	StartTransactionCommand();
	if (es_base_is_installed())
	{
		tag = es_base_tag(&es_segment_table, 0, ES_SEGMENT_TAG_SEALER);
		got = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
		if (got)
			before_shmem_exit(stop_sealing, (Datum) 0);
	}
	CommitTransactionCommand();
	return got;
}

/*
 * Seals the segments that are final, oldest first: each is vacuumed and frozen once, with
 * its last rows still in memory, and then has no need of vacuum for ever.
 */
static void
seal_segments(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore seal",
												  ALLOCSET_DEFAULT_SIZES);

	PortalContext = context;	/* ExecVacuum keeps its things there */
	for (;;)
	{
		int64		settled;
		int64		segment;

		StartTransactionCommand();
		settled = es_settle_compute();
		segment = find_unsealed_segment(settled);
		if (segment >= 0)
		{
			MemoryContextSwitchTo(context);
			freeze_table(es_segment_relid(segment));
			mark_segment_sealed(segment);
		}
		CommitTransactionCommand();
		MemoryContextReset(context);
		if (segment < 0)
			break;
	}
	PortalContext = NULL;
	MemoryContextDelete(context);
}

/*
 * es_sealer_run seals what is complete, unless another worker is at it.  Called in a
 * worker that ends after it, outside of transactions.
 */
void
es_sealer_run(void)
{
	if (!become_sealer())
		return;
	pgstat_report_activity(STATE_RUNNING, "sealing segments of eventstore.events");
	seal_segments();
}
