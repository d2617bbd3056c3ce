/*
 * statements.c
 *		What our shared state has to know of statements that are not ours.
 *
 * All of this is only for servers that preload the library.
 *
 *	- COMMIT PREPARED and ROLLBACK PREPARED close holes for a transaction that
 *	  nobody's end-of-transaction callback speaks for any more: waiters are woken
 *	  once the statement is done, and the worker looks whether it has left a hole.
 *	- DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, and CREATE DATABASE
 *	  with a template need a database without sessions: its worker is asked to
 *	  leave first, is ended if a batch keeps it, and comes back if the database
 *	  is still there.  Others of ours that are at work there, on what they or their
 *	  like will do again, are ended.
 *	- DROP DATABASE has forgotten what was known of its stores: another database may be
 *	  made under its OID, whose tables have the OIDs and files of those.
 *	- DROP EXTENSION, whichever way, lets the worker know at commit.
 *
 * Nothing here changes what a statement does, or who may do it.
 */
#include "server/statements.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "base/process.h"
#include "shared/counter.h"
#include "shared/mark.h"
#include "shared/nudge.h"
#include "shared/roster.h"
#include "shared/tenure.h"
#include "shared/tips.h"
#include "shared/trouble.h"
#include "shared/wake.h"

#define LOOK_AGAIN_MS	100
#define GRACE_MS		1000	/* for a batch of a projection */
#define MOST_HELD		16

static ProcessUtility_hook_type previous_utility_hook = NULL;
static object_access_hook_type previous_access_hook = NULL;
static bool drops_extension = false;	/* this transaction does */
static Oid	held[MOST_HELD];	/* databases that it keeps workers off to its
								 * end */
static int	nheld = 0;

/* Finds the option of a statement; NULL if it is not there. */
static DefElem *
find_statement_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

/* The name of the database that a statement needs for itself; NULL if it is no such statement. */
static const char *
find_database_needed(Node *statement)
{
	DefElem    *option;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->renameType == OBJECT_DATABASE ?
				((RenameStmt *) statement)->subname : NULL;
		case T_AlterDatabaseStmt:
			return find_statement_option(((AlterDatabaseStmt *) statement)->options, "tablespace") ?
				((AlterDatabaseStmt *) statement)->dbname : NULL;
		case T_CreatedbStmt:
			option = find_statement_option(((CreatedbStmt *) statement)->options, "template");
			return option && option->arg ? defGetString(option) : "template1";
		default:
			return NULL;
	}
}

/*
 * Tells whether a role may run a statement that needs a database for itself, so that its worker
 * gives way: the owner may, and a template may be copied by others, too.
 */
static bool
may_need_database(Node *statement, Oid database, Oid role)
{
	HeapTuple	tuple;
	bool		may = es_owns_database(database, role);

	if (may || !IsA(statement, CreatedbStmt))
		return may;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return may;
}

/*
 * Ends the workers of ours that scavenge, make and seal segments, or index types in a
 * database; the server waits some seconds for them to go.
 */
static void
end_busy_workers(Oid database)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const PGPROC *process = &ProcGlobal->allProcs[i];
		int			pid = process->pid;
		const char *type = pid != 0 && process->databaseId == database ? GetBackgroundWorkerTypeByPid(pid) : NULL;

		if (type != NULL && strncmp(type, ES_PROCESS_PREFIX, strlen(ES_PROCESS_PREFIX)) == 0 &&
			strcmp(type, ES_PROCESS_MAIN) != 0)
			kill(pid, SIGTERM);
	}
}

/*
 * Has the worker of a database leave, and waits until it has; if it is in the
 * middle of a batch, not for long.
 */
static void
hold_database_worker(Oid database)
{
	TimestampTz expel_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GRACE_MS);

	while (!es_roster_hold(database))
	{
		if (GetCurrentTimestamp() >= expel_at)
			es_roster_expel(database);
		es_wake_sleep(LOOK_AGAIN_MS);
	}
	end_busy_workers(database);
}

/* Tells whether a statement ends a prepared transaction. */
static bool
ends_prepared_transaction(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		(((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 ((TransactionStmt *) statement)->kind == TRANS_STMT_ROLLBACK_PREPARED);
}

/* A utility statement, as the hook is given it. */
typedef struct Utility
{
	PlannedStmt *statement;
	const char *query;
	bool		read_only_tree;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *environment;
	DestReceiver *dest;
	QueryCompletion *completion;
} Utility;

/* Runs it. */
static void
run_statement(const Utility *u)
{
	(previous_utility_hook ? previous_utility_hook : standard_ProcessUtility)
		(u->statement, u->query, u->read_only_tree, u->context, u->params, u->environment, u->dest, u->completion);
}

/* Lets the worker of a database come back. */
static void
let_database_go(int code, Datum database)
{
	es_roster_let_go(DatumGetObjectId(database));
}

/*
 * Runs a statement that needs a database without sessions; also if this process
 * ends meanwhile, it is let go.
 */
static void
run_statement_without_worker(const Utility *u, Oid database)
{
	PG_ENSURE_ERROR_CLEANUP(let_database_go, ObjectIdGetDatum(database));
	{
		hold_database_worker(database);
		run_statement(u);
	}
	PG_END_ENSURE_ERROR_CLEANUP(let_database_go, ObjectIdGetDatum(database));

	/* what it has locked stays locked to the end of a transaction block */
	if (IsTransactionBlock() && nheld < MOST_HELD)
		held[nheld++] = database;
	else
		es_roster_let_go(database);
}

/* Runs a utility statement, and does what has to be done around it. */
static void
process_utility(const Utility *u)
{
	Node	   *statement = u->statement->utilityStmt;
	const char *name = find_database_needed(statement);
	Oid			database = name && IsTransactionState() ? get_database_oid(name, true) : InvalidOid;
	bool		wakes = ends_prepared_transaction(statement);

	if (OidIsValid(database) && may_need_database(statement, database, GetUserId()))
	{
		run_statement_without_worker(u, database);
		if (IsA(statement, DropdbStmt))
		{
			es_counter_forget(database);
			es_trouble_forget(database);
			es_sharedmark_forget(database);
			es_tips_forget(database);
			es_tenure_forget_all(database);
		}
	}
	else
		run_statement(u);
	if (wakes)
	{
		es_roster_report_hole(PG_INT64_MAX);
		es_wake_now(ES_WAKE_ALL);
	}
}

/* The hook. */
static void
statements_utility_hook(PlannedStmt *statement, const char *query, bool read_only_tree,
						ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
						DestReceiver *dest, QueryCompletion *completion)
{
	Utility		utility = {statement, query, read_only_tree, context, params, environment, dest, completion};

	process_utility(&utility);
}

/* Notes that this transaction drops the extension. */
static void
extension_access_hook(ObjectAccessType access, Oid class, Oid object, int subid, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, class, object, subid, arg);
	if (access == OAT_DROP && class == ExtensionRelationId &&
		object == es_base_find_extension().oid)
		drops_extension = true;
}

/*
 * Lets the worker know, once the extension is gone; and workers come back to what
 * this transaction needed for itself.
 */
static void
let_workers_back_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && drops_extension)
		es_nudge_worker();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		drops_extension = false;
		while (nheld > 0)
			es_roster_let_go(held[--nheld]);
	}
}

/* Installs the hooks, if the library is preloaded; called once, from _PG_init. */
void
es_statements_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = statements_utility_hook;
	previous_access_hook = object_access_hook;
	object_access_hook = extension_access_hook;
	RegisterXactCallback(let_workers_back_at_xact_end, NULL);
}
