/*
 * launcher.c
 *		The background worker that starts the workers of stores.
 *
 * It has no database.  Each database that one can connect to comes on the roster (shared/roster.c)
 * once after the server has started, and later each that has an extension created in it; a worker
 * is started for each in turn, which leaves again if it finds no store.  The roster has room for so
 * many, and those without a store are to take none from the others, so only a few wait there at
 * a time, also while no worker is free.  A store that found no room is looked for again once
 * there is.
 */
#include "server/launcher.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/process.h"
#include "server/worker.h"
#include "shared/roster.h"

#define RESTART_SECONDS		1	/* of a launcher that ended */
#define TRY_AGAIN_MS		5000	/* to start a worker that ended */

static int	max_workers = 0;	/* GUC eventstore.max_workers */

/* Registers the launcher, if the library is preloaded, and the GUC; called once, from _PG_init. */
void
es_launcher_init(void)
{
	BackgroundWorker launcher;

	DefineCustomIntVariable("eventstore.max_workers",
							"How many databases have a worker at once, at most.",
							"0 is half of max_worker_processes: others need some, too.",
							&max_workers, 0, 0, 1024,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	es_process_describe(&launcher, "es_launcher_main", "eventstore launcher");
	launcher.bgw_restart_time = RESTART_SECONDS;
	RegisterBackgroundWorker(&launcher);
}

/*
 * Tells whether one can connect to a database; a limit of -2 says that dropping it
 * was interrupted.
 */
static bool
can_connect_to(Form_pg_database database)
{
	return database->datallowconn && database->datconnlimit != -2;
}

/* Lists all databases that one can connect to; the caller frees the list. */
static List *
list_databases(void)
{
	List	   *databases = NIL;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	/* what has no database knows of no index */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (can_connect_to(database) && !database->datistemplate)
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/* Puts the next of a list on the roster, as far as there is room; false if there is none. */
static bool
add_databases_to_roster(const List *databases, int *added)
{
	int			before = *added;

	while (*added < list_length(databases) && es_roster_add(list_nth_oid(databases, *added)))
		(*added)++;
	return *added > before;
}

/* Tells whether a database is still there, to connect to. */
static bool
database_exists(Oid oid)
{
	HeapTuple	tuple;
	bool		exists;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(oid));
	exists = HeapTupleIsValid(tuple) && can_connect_to((Form_pg_database) GETSTRUCT(tuple));
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	CommitTransactionCommand();
	return exists;
}

/* Says that there is no room for a worker, once until there is. */
static void
log_lack_of_workers(bool started)
{
	static bool complained = false;

	if (!started && !complained)
		ereport(LOG,
				errmsg("no background worker is free to look after an event store"),
				errdetail("Until then nobody writes the mark by which hot standbys read."),
				errhint("Raise parameter \"max_worker_processes\" or \"eventstore.max_workers\"."));
	complained = !started;
}

/*
 * Starts the worker of a database, and waits until it is on the roster or has
 * ended: workers that find no store do not take up many slots at once.
 */
static void
start_store_worker(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;
	bool		started;

	es_process_describe(&worker, "es_worker_main", ES_PROCESS_MAIN);
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "eventstore worker for database %u", database);
	started = RegisterDynamicBackgroundWorker(&worker, &handle);
	log_lack_of_workers(started);
	es_roster_tried(database, GetCurrentTimestamp() + TRY_AGAIN_MS * INT64CONST(1000));
	while (started && !es_roster_is_looked_after(database) &&
		   GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED && !es_worker_told_to_go())
		es_worker_sleep_until(GetCurrentTimestamp() + TRY_AGAIN_MS * INT64CONST(1000));
}

/* How many workers there may be. */
static int
get_most_workers(void)
{
	return max_workers > 0 ? max_workers : Max(max_worker_processes / 2, 1);
}

/* es_launcher_main is the launcher: starts workers for the databases on the roster. */
void
es_launcher_main(Datum main_arg)
{
	List	   *databases;
	int			added = 0;		/* of them on the roster */

	es_worker_set_up();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	es_roster_open();
	databases = list_databases();
	while (!es_worker_told_to_go())
	{
		TimestampTz try_at = DT_NOEND;
		Oid			database = es_roster_next(GetCurrentTimestamp(), &try_at);
		bool		room = es_roster_count_workers() < get_most_workers();
		bool		rests = !OidIsValid(database) || !room;

		if (es_roster_take_freed())
		{
			list_free(databases);
			databases = list_databases();
			added = 0;
		}
		if (OidIsValid(database) && !room)
			log_lack_of_workers(false);
		if (rests && add_databases_to_roster(databases, &added))
			continue;
		if (rests)
			es_worker_sleep_until(try_at);
		else if (database_exists(database))
			start_store_worker(database);
		else
			es_roster_remove(database);
	}
	proc_exit(1);				/* 0 would say that it need not be started
								 * again */
}
