/*
 * typeindex.c
 *		Indexes of the events of one type, made on request beside the running log.
 *
 * A query by types alone finds its events by an index that each segment has for each of
 * the types, on positions: CREATE INDEX ... (position) WHERE type = '...'.  So an event of
 * another type pays one comparison, and an index is what it says, whoever has made it.
 * eventstore.indexed_types says which there should be.  New segments are made with them.
 * Those that are there get them from a background worker, by CREATE INDEX CONCURRENTLY,
 * which neither stops appends nor waits in anybody's transaction; what is not asked for
 * any more it drops in the same way.  Until a segment has its index, queries look at all
 * of its events.
 *
 * The worker is started as the transaction that asks commits, and again whenever
 * somebody asks again.  It sets right all that differs from what the table says, so what
 * one could not finish the next one does: an index that was left half built is not valid
 * and is made anew.  It goes through the segments once, with a statement in a transaction
 * each, and once more for what was asked for meanwhile.
 */
#include "segment/typeindex.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "rights/right.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/process.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "shared/headway.h"
#include "shared/trouble.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_index_type);
PG_FUNCTION_INFO_V1(es_drop_type_index);

static EsRelation indexed_types = {"indexed_types"};
static EsRelation indexed_types_pkey = {"indexed_types_pkey",
.index = {.keys = {1},.columns = "type",.unique = true}};
static const EsColumn type_columns[] = {{"type", TEXTOID}};
const EsShape es_typeindex_shape = ES_SHAPE(&indexed_types, &indexed_types_pkey, type_columns);

static bool asked = false;		/* by this transaction */

/* ---- which there should be ---- */

/* Takes the type of a row. */
static void
take_indexed_type(void *element, const EsRows *rows)
{
	*(text **) element = DatumGetTextPCopy(rows->values[0]);
}

/* es_typeindex_all gives the types that segments are to have indexes of. */
List *
es_typeindex_all(void)
{
	EsRows		rows = {.shape = &es_typeindex_shape,.mode = AccessShareLock};
	List	   *all = NIL;
	text	  **types;
	int			count;

	es_rows_begin(&rows);
	types = es_rows_all(&rows, sizeof(text *), take_indexed_type, &count);
	for (int i = 0; i < count; i++)
		all = lappend(all, types[i]);
	return all;
}

/* ---- making and dropping ---- */

/*
 * Runs a statement that manages transactions by itself, as the owner.  Our names and
 * operators in it are qualified.
 */
static void
run_by_itself(const char *sql)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore index", ALLOCSET_DEFAULT_SIZES);
	RawStmt    *raw;
	PlannedStmt *statement;

	StartTransactionCommand();
	SetUserIdAndSecContext(es_base_store()->owner, 0);
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	PortalContext = context;	/* where such statements keep what outlives a
								 * transaction */
	pgstat_report_activity(STATE_RUNNING, sql);
	raw = linitial_node(RawStmt, pg_parse_query(sql));
	statement = makeNode(PlannedStmt);
	statement->commandType = CMD_UTILITY;
	statement->canSetTag = false;
	statement->utilityStmt = raw->stmt;
	ProcessUtility(statement, sql, false, PROCESS_UTILITY_TOPLEVEL, NULL, NULL, None_Receiver, NULL);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();

	/*
	 * no commit gives the user back; as he is now, he could go back to the
	 * session's himself
	 */
	SetUserIdAndSecContext(GetSessionUserId(), 0);
	PortalContext = NULL;
	MemoryContextDelete(context);
}

/*
 * Gives the statement that takes an index away that was left half built, or is asked
 * for no more.
 */
static char *
drop_statement(const char *name)
{
	return psprintf("DROP INDEX CONCURRENTLY IF EXISTS eventstore.%s", name);
}

/*
 * Tells whether the index of a name is that of another type, which is to be indexed,
 * too, and has the same hash: then there is none for this one.
 */
static bool
is_of_other_type(int64 segment, Relation rel, const char *name, List *types)
{
	ListCell   *cell;

	foreach(cell, types)
	{
		if (strcmp(es_segment_type_index_name(segment, lfirst(cell)), name) == 0 &&
			OidIsValid(es_segment_type_index(segment, rel, lfirst(cell))))
			return true;
	}
	return false;
}

/*
 * Gives the statement that brings a segment nearer to having the indexes of all types; NULL
 * if it has them.
 */
static char *
find_missing_index(int64 segment, List *types)
{
	bool		lost;
	Relation	rel = es_segment_open(segment, AccessShareLock, &lost);
	char	   *sql = NULL;
	ListCell   *cell;

	if (rel == NULL)
		return NULL;
	foreach(cell, types)
	{
		text	   *type = lfirst(cell);
		char	   *name = es_segment_type_index_name(segment, type);

		if (OidIsValid(es_segment_type_index(segment, rel, type)) || is_of_other_type(segment, rel, name, types))
			continue;
		if (OidIsValid(get_relname_relid(name, es_base_store()->schema)))
			sql = drop_statement(name);
		else
			sql = es_segment_type_index_statement(segment, type, true);
		break;
	}
	table_close(rel, AccessShareLock);
	return sql;
}

/*
 * Looks for a segment that lacks an index, from one on, which becomes the one that was found,
 * and gives such a statement; NULL if all have theirs.
 */
static char *
find_lacking_segment(int64 *segment)
{
	List	   *types = es_typeindex_all();
	int64		newest = types == NIL ? -1 : es_segment_newest_reaching(1);

	for (; *segment <= newest; (*segment)++)
	{
		char	   *sql = find_missing_index(*segment, types);

		CHECK_FOR_INTERRUPTS();
		if (sql != NULL)
			return sql;
	}
	return NULL;
}

/*
 * Looks for an index of a type that is not to have any, and gives the statement that
 * drops it; or NULL.
 */
static char *
find_surplus_index(void)
{
	EsOwnerContext caller;
	char	   *found = NULL;

	es_owner_enter(&caller);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute("SELECT c.relname FROM pg_catalog.pg_class c"
					" WHERE c.relnamespace OPERATOR(pg_catalog.=) 'eventstore'::pg_catalog.regnamespace"
					" AND c.relkind OPERATOR(pg_catalog.=) 'i' AND c.relname OPERATOR(pg_catalog.~) '^events_[0-9]+_type_[0-9a-f]+$'"
					" AND NOT EXISTS (SELECT FROM eventstore.indexed_types t WHERE pg_catalog.split_part(c.relname::text, '_', 4)"
					" OPERATOR(pg_catalog.=) pg_catalog.to_hex(pg_catalog.hashtextextended(t.type, 0))) LIMIT 1",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for indexes of types");
	if (SPI_processed > 0)
		found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (found)
		found = MemoryContextStrdup(CurTransactionContext, found);
	PopActiveSnapshot();
	SPI_finish();
	es_owner_leave(&caller);
	return found ? drop_statement(found) : NULL;
}

/*
 * Finds the next statement that is to be run, for segments from one on, which becomes the one
 * that it is for; NULL if all is as it should be.
 */
static char *
find_next_statement(int64 *segment)
{
	char	   *sql = NULL;

	StartTransactionCommand();
	if (es_base_is_installed())
	{
		sql = find_lacking_segment(segment);
		if (sql == NULL)
			sql = find_surplus_index();
		if (sql)
			sql = MemoryContextStrdup(TopMemoryContext, sql);
	}
	CommitTransactionCommand();
	return sql;
}

/* Tells whether there is something to be done, in whatever segment. */
static bool
is_work_left(void)
{
	int64		segment = 0;
	char	   *sql = find_next_statement(&segment);

	if (sql == NULL)
		return false;
	pfree(sql);
	return true;
}

/*
 * Tries to become the only worker that is at it; false if another one is, or the
 * extension is gone.  The lock is the session's, which an error gives back.
 */
static bool
become_only_one(LOCKTAG *lock)
{
	bool		got = false;

	StartTransactionCommand();
	if (es_base_is_installed())
	{
		*lock = es_base_tag(&indexed_types, 0, 0);
		got = LockAcquire(lock, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
	}
	CommitTransactionCommand();
	return got;
}

/* Makes what is missing, and drops what is too much. */
static void
index_types(void *arg)
{
	LOCKTAG		lock;
	char	   *sql;

	es_headway_begin(ES_COMMAND_INDEX_TYPE);
	es_headway_enter(ES_PHASE_INDEXING, -1);
	while (is_work_left() && become_only_one(&lock))
	{
		int64		segment = 0;

		/*
		 * what was left may have been done since; and segments that are done
		 * are looked at again only when all are
		 */
		while ((sql = find_next_statement(&segment)) != NULL)
		{
			run_by_itself(sql);
			es_headway_add(1);
			pfree(sql);
		}
		(void) LockRelease(&lock, ExclusiveLock, true);
	}
	es_headway_end();
}

/*
 * es_typeindex_main is the background worker: makes what is missing, drops what is too
 * much, and ends.  One that finds another one at it ends at once: that one looks again
 * after it has given the lock back, and so finds what has been asked for by then.
 */
void
es_typeindex_main(Datum main_arg)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg), InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	es_process_set_transactions("0");
	es_process_release_at_exit();
	es_trouble_run(ES_TASK_INDEXING, index_types, NULL);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* ---- asking ---- */

/* es_typeindex_start starts the worker; false if no slot is free. */
bool
es_typeindex_start(void)
{
	BackgroundWorker worker;

	es_process_describe(&worker, "es_typeindex_main", "eventstore type indexer");
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/*
 * es_typeindex_stop has the worker end that is at it, in the middle, as it would by
 * pg_terminate_backend; false if none is.  In a transaction.  What it could not finish the
 * next one does.
 */
bool
es_typeindex_stop(void)
{
	LOCKTAG		tag = es_base_tag(&indexed_types, 0, 0);
	VirtualTransactionId *holders = GetLockConflicts(&tag, ExclusiveLock, NULL);
	PGPROC	   *process = VirtualTransactionIdIsValid(holders[0]) ? es_vxid_process(holders[0]) : NULL;
	int			pid = process ? process->pid : 0;

	return pid != 0 && kill(pid, SIGTERM) == 0;
}

/* Starts the worker as a transaction commits that has asked for it. */
static void
start_worker_at_commit(XactEvent event, void *arg)
{
	if (asked && event == XACT_EVENT_PRE_PREPARE)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot PREPARE a transaction that has changed which types are indexed"));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (asked && event == XACT_EVENT_COMMIT && !es_typeindex_start())
		ereport(WARNING,
				errmsg("no background worker is free to index a type of events"),
				errhint("Raise parameter \"max_worker_processes\", and call the function again."));
	asked = false;
}

/* Registers the callback; called once, from _PG_init. */
void
es_typeindex_init(void)
{
	RegisterXactCallback(start_worker_at_commit, NULL);
}

/* Tells whether a type is among those that are to be indexed. */
static bool
is_indexed_type(const text *type)
{
	ListCell   *cell;

	foreach(cell, es_typeindex_all())
	{
		if (es_names_same(lfirst(cell), type))
			return true;
	}
	return false;
}

/* Fetches the argument "type" of a function about which types are indexed, of a kind. */
static Datum
indexed_type_arg(FunctionCallInfo fcinfo, EsNameKind kind)
{
	text	   *type;

	es_call_require(fcinfo, 0, "type");
	type = PG_GETARG_TEXT_PP(0);
	es_names_check(type, kind);
	return PointerGetDatum(type);
}

/*
 * es_index_type(type): has each segment indexed by a type of events, for queries by types
 * without tags.
 *
 * New segments are made with the index.  Those that are there get it from a background
 * worker after the commit, one after the other, while appends go on; es_indexed_types
 * tells how far it has come.  Again for the same type starts the worker again, on a logical
 * subscriber too, which gets the types from its publisher, and the indexes not.  A name
 * that no event's type can have is 22023, NULL is 22004.  For who has 'admin' on '*', else 42501.
 */
Datum
es_index_type(PG_FUNCTION_ARGS)
{
	Datum		type = indexed_type_arg(fcinfo, ES_NAME_TYPE);
	bool		isnull = false;

	es_right_require(ES_RIGHT_ADMIN, NULL);
	PreventCommandDuringRecovery("es_index_type()");
	asked = true;
	if (is_indexed_type(DatumGetTextPP(type)))
		PG_RETURN_VOID();
	es_subscriber_prevent_write("es_index_type() of another type");
	es_rows_put(&es_typeindex_shape, &type, &isnull);
	es_base_announce(&indexed_types);
	PG_RETURN_VOID();
}

/*
 * es_drop_type_index(type): takes es_index_type back; a worker drops the indexes after the
 * commit, while appends go on.  VE004 if the type is not indexed; 42501 without 'admin' on '*'.
 */
Datum
es_drop_type_index(PG_FUNCTION_ARGS)
{
	Datum		type = indexed_type_arg(fcinfo, ES_NAME_STORED_TYPE);

	es_right_require(ES_RIGHT_ADMIN, NULL);
	es_subscriber_prevent_write("es_drop_type_index()");
	if (es_rows_take_away(&es_typeindex_shape, &type, 1) == 0)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("type \"%s\" is not indexed", es_names_show_text(DatumGetTextPP(type))));
	es_base_announce(&indexed_types);
	asked = true;
	PG_RETURN_VOID();
}
