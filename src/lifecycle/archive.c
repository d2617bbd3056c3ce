/*
 * archive.c
 *		Segments that leave the log, and come back.
 *
 * Both change the partitions of the log, for which the server wants it for itself.  In a
 * user's transaction the lock would stay to its end, and everybody would wait for a
 * session that idles.  So a dynamic background worker does it, in transactions of its
 * own, and the function waits for the worker; a rollback takes nothing back.  It needs
 * no preload.  What the two tell each other is in a segment of shared memory.
 *
 * Nor do others wait behind a worker that waits (patience.c).
 *
 * A snapshot that is older than the rows of a restored table would not see them, and
 * its reader would pass over events in silence.  So before such a table becomes a segment
 * the worker waits until all snapshots of this database see them, as CREATE INDEX
 * CONCURRENTLY does, and freezes the rows.
 *
 * A caller that is cancelled, or ends, stops the worker.  What that was at is undone;
 * segments that are gone by then stay so.
 */
#include "lifecycle/archive.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/call.h"
#include "base/error.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/process.h"
#include "lifecycle/archived.h"
#include "lifecycle/attach.h"
#include "lifecycle/contents.h"
#include "lifecycle/detach.h"
#include "lifecycle/patience.h"
#include "lifecycle/returned.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "segment/sealer.h"
#include "segment/typeindex.h"

PG_FUNCTION_INFO_V1(es_detach_segments);
PG_FUNCTION_INFO_V1(es_attach_segment);

#define MOST_TEXT		2048

/*
 * What a worker is told, and what it answers.  Each side writes its part before the
 * other reads it.
 */
typedef struct ArchiveTalk
{
	/* by the caller, before the worker is started */
	Oid			database;
	int			caller;			/* its pid */
	bool		caller_keeps_snapshot;	/* from statement to statement */
	int			lock_timeout;	/* ms */
	TimestampTz before;			/* detach */
	int64		segment;		/* attach; -1: detach */
	Oid			relid;

	/* by the worker, before it ends */
	bool		done;
	int			sqlerrcode;		/* 0: no error */
	char		message[MOST_TEXT];
	char		detail[MOST_TEXT];
	char		hint[MOST_TEXT];
	int64		nkept;			/* segments that those have who wait for the
								 * caller */
	int64		ndetached;
	int64		detached[FLEXIBLE_ARRAY_MEMBER];
} ArchiveTalk;

static ArchiveTalk *talk;		/* in the worker */
static bool indexing_stopped = false;	/* by this worker */

/* ---- in the worker: detaching ---- */

/* A segment that is looked at, and taken out of the log. */
typedef struct DetachSteps
{
	int64		segment;
	EsDetach	detach;
	bool		gone;
} DetachSteps;

/* A step: looks at a segment, and locks it if it may go. */
static void
look_at_segment(void *arg)
{
	DetachSteps *steps = arg;

	es_detach_begin(&steps->detach, steps->segment, talk->before);
}

/* A step: takes it out of the log. */
static void
take_segment_out(void *arg)
{
	DetachSteps *steps = arg;

	steps->gone = es_detach_run(&steps->detach);
}

/* Lists the tags of tables' locks. */
static List *
list_lock_tags(Oid first, Oid second)
{
	LOCKTAG    *tags = palloc(2 * sizeof(LOCKTAG));

	SET_LOCKTAG_RELATION(tags[0], MyDatabaseId, first);
	SET_LOCKTAG_RELATION(tags[1], MyDatabaseId, second);
	return OidIsValid(second) ? list_make2(&tags[0], &tags[1]) : list_make1(&tags[0]);
}

/* Takes a segment out of the log if it may go, and is free by then. */
static EsPatienceEnd
try_detaching(DetachSteps *steps, Oid events, Oid relid)
{
	EsPatience	patience = {.caller = talk->caller,.lock_timeout = talk->lock_timeout};
	EsPatienceEnd end = es_patience_run(&patience, list_lock_tags(relid, InvalidOid), ShareRowExclusiveLock,
										look_at_segment, steps);

	if (end != ES_PATIENCE_DONE || !OidIsValid(steps->detach.relid))
		return end;
	end = es_patience_run(&patience, list_lock_tags(events, relid), AccessExclusiveLock, take_segment_out, steps);
	es_detach_end(&steps->detach);
	return end;
}

/*
 * Stops the worker that indexes types, which waits for the caller's snapshot to be gone while
 * it has a segment; false if it is not that.
 */
static bool
stop_indexing(void)
{
	bool		stopped;

	StartTransactionCommand();
	stopped = es_typeindex_stop();
	CommitTransactionCommand();
	indexing_stopped = indexing_stopped || stopped;
	return stopped;
}

/* Takes a segment out of the log if it may go, and tells the caller. */
static void
detach_segment(const EsDetach *candidate, Oid events)
{
	DetachSteps steps = {.segment = candidate->segment};
	EsPatienceEnd end;

	do
	{
		end = try_detaching(&steps, events, candidate->relid);
	} while (end == ES_PATIENCE_SELF || (end == ES_PATIENCE_CALLER && stop_indexing()));
	if (end == ES_PATIENCE_CALLER)
		talk->nkept++;
	if (steps.gone)
		talk->detached[talk->ndetached++] = candidate->segment;
}

/* Takes all out of the log that may go, one after the other. */
static void
detach_segments(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "eventstore detach", ALLOCSET_DEFAULT_SIZES);
	int			count;
	EsDetach   *candidates;
	Oid			events;

	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	candidates = es_detach_candidates(&count);
	events = es_base_oid(&es_base_events);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	for (int i = 0; i < count; i++)
		detach_segment(&candidates[i], events);
}

/* ---- in the worker: attaching ---- */

/*
 * Finds who wrote last to a table of which not all is frozen, in a transaction; invalid
 * if all is.
 */
static TransactionId
find_last_writer(const EsAttach *attach)
{
	Relation	rel = try_table_open(attach->relid, ShareLock);
	EsContents	contents = {.writer = InvalidTransactionId};

	if (rel == NULL)
		return InvalidTransactionId;
	es_attach_check_shape(rel, attach->segment);
	if (!es_contents_all_frozen(rel))
		es_contents_look(rel, &contents);
	table_close(rel, ShareLock);
	return contents.writer;
}

/* Raises 55000: a transaction waits for us, or would not see the events. */
ES_NORETURN static void
report_old_snapshot(const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot attach segment " INT64_FORMAT " now", talk->segment),
			errdetail_internal("%s", detail),
			errhint("Call the function in a transaction of its own, when nobody waits for it."));
}

/*
 * Waits until no snapshot of this database is older than a transaction, but that of the
 * caller's statement.
 */
static void
wait_for_snapshots(TransactionId writer)
{
	EsPatience	patience = {.caller = talk->caller,.lock_timeout = talk->lock_timeout};
	int			count;
	VirtualTransactionId *old = GetCurrentVirtualXIDs(writer, true, false, PROC_IS_AUTOVACUUM | PROC_IN_VACUUM, &count);

	for (int i = 0; i < count; i++)
	{
		PGPROC	   *process = es_vxid_process(old[i]);

		if (process == NULL || process->pid != talk->caller)
		{
			if (!es_patience_await(&patience, old[i]))
				report_old_snapshot("A transaction that does not see its events waits for this one.");
		}
		else if (talk->caller_keeps_snapshot)
			report_old_snapshot("The snapshot of this transaction is older than its events.");
	}
}

/* Waits until everybody sees the rows of a table, and freezes them. */
static void
settle_rows(EsAttach *attach)
{
	StartTransactionCommand();
	attach->writer = find_last_writer(attach);
	CommitTransactionCommand();
	if (!TransactionIdIsValid(attach->writer))
		return;
	wait_for_snapshots(attach->writer);
	es_sealer_freeze(attach->relid);
}

/* A step: puts a table into the log. */
static void
put_segment_in(void *arg)
{
	es_attach_enter_log(arg);
}

/* Takes a table into the log. */
static void
attach_segment(void)
{
	EsAttach	attach = {.segment = talk->segment,.relid = talk->relid};
	EsPatience	patience = {.caller = talk->caller,.lock_timeout = talk->lock_timeout,.within = true};

	settle_rows(&attach);
	StartTransactionCommand();
	es_attach_prepare(&attach);
	if (es_patience_run(&patience, list_lock_tags(es_base_oid(&es_base_events), InvalidOid), AccessExclusiveLock,
						put_segment_in, &attach) != ES_PATIENCE_DONE)
		report_old_snapshot("A transaction that uses the log waits for this one.");
	CommitTransactionCommand();
	es_returned_mark_hidden(attach.segment);
}

/* ---- the worker ---- */

/* Gives the session's locks back as the worker ends. */
static void
stop_archiving(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

/* Tells the caller of an error. */
static void
answer_with_error(const ErrorData *error)
{
	talk->sqlerrcode = error->sqlerrcode;
	strlcpy(talk->message, error->message ? error->message : "", MOST_TEXT);
	strlcpy(talk->detail, error->detail ? error->detail : "", MOST_TEXT);
	strlcpy(talk->hint, error->hint ? error->hint : "", MOST_TEXT);
}

/* Does what the caller wants, and answers. */
static void
work_for_caller(void)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		if (talk->segment < 0)
			detach_segments();
		else
			attach_segment();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		answer_with_error(CopyErrorData());
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	talk->done = true;
}

/* es_archive_main is the background worker: does what its caller wants, and ends. */
void
es_archive_main(Datum main_arg)
{
	dsm_segment *memory;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "eventstore archiver");
	memory = dsm_attach(DatumGetUInt32(main_arg));
	/* the caller has given up */
	if (memory == NULL)
		return;
	dsm_pin_mapping(memory);
	talk = dsm_segment_address(memory);
	BackgroundWorkerInitializeConnectionByOid(talk->database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	es_process_set_transactions();
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	before_shmem_exit(stop_archiving, (Datum) 0);
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, talk->segment < 0 ? "detaching segments of eventstore.events"
						   : "attaching a segment to eventstore.events");
	work_for_caller();
	if (indexing_stopped && !es_typeindex_start())
		ereport(WARNING,
				errmsg("no background worker is free to go on indexing types of events"),
				errhint("Raise parameter \"max_worker_processes\", and call es_index_type again."));
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* ---- asking ---- */

/* Stops the worker as its caller ends before it. */
static void
stop_worker(int code, Datum handle)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(handle));
}

/* Starts the worker, and waits until it has ended. */
static void
run_worker(dsm_segment *memory)
{
	static uint32 wait_event = 0;
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	es_process_describe(&worker, "es_archive_main", "eventstore archiver");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(memory));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no background worker is free to detach or attach segments"),
				errhint("Raise parameter \"max_worker_processes\", or try again later."));
	PG_ENSURE_ERROR_CLEANUP(stop_worker, PointerGetDatum(handle));
	{
		while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
							 es_base_wait_event(&wait_event, "EventstoreArchiver"));
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop_worker, PointerGetDatum(handle));
	AcceptInvalidationMessages();
}

/* Raises the error that a worker has answered with. */
static void
raise_answer(const ArchiveTalk *answer)
{
	if (!answer->done)
		ereport(ERROR,
				errcode(ERRCODE_OPERATOR_INTERVENTION),
				errmsg("the background worker that detaches and attaches segments ended before it was done"),
				errhint("The server's log may say why.  Call the function again."));
	if (answer->sqlerrcode != 0)
		ereport(ERROR,
				errcode(answer->sqlerrcode),
				errmsg_internal("%s", answer->message),
				answer->detail[0] ? errdetail_internal("%s", answer->detail) : 0,
				answer->hint[0] ? errhint("%s", answer->hint) : 0);
}

/* Has a worker do what is asked for; the answer is in the shared memory, until that is detached. */
static dsm_segment *
have_worker_do(const ArchiveTalk *order, int64 most_detached)
{
	dsm_segment *memory = dsm_create(offsetof(ArchiveTalk, detached) + sizeof(int64) * (most_detached + 1), 0);
	ArchiveTalk *shared = dsm_segment_address(memory);

	memset(shared, 0, offsetof(ArchiveTalk, detached));
	shared->database = MyDatabaseId;
	shared->lock_timeout = LockTimeout;
	shared->before = order->before;
	shared->segment = order->segment;
	shared->relid = order->relid;
	shared->caller = MyProcPid;
	shared->caller_keeps_snapshot = IsolationUsesXactSnapshot();
	run_worker(memory);
	return memory;
}

/* ---- the functions ---- */

/* Raises 42501 unless the user may do all with the store. */
static void
require_owner(void)
{
	if (!es_base_owns_store(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of the event store"));
}

/* Tells whether this transaction holds a lock on a relation. */
static bool
is_locked_here(Oid relid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (LOCKMODE mode = AccessShareLock; mode <= AccessExclusiveLock; mode++)
		if (es_holds_lock(&tag, mode))
			return true;
	return false;
}

/* Raises 55000 if the worker would wait for a lock that this transaction holds. */
static void
refuse_own_lock(Oid relid)
{
	if (OidIsValid(relid) && is_locked_here(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot detach or attach a segment because this transaction uses table \"%s\"", get_rel_name(relid)),
				errdetail("A background worker does it, which would wait for this transaction."),
				errhint("Call the function in a transaction of its own."));
}

/* Says, in a NOTICE, who has not come past a segment yet. */
static void
tell_who_needs(int64 last_detached)
{
	EsOwnerContext saved;
	char	   *names = NULL;

	es_owner_enter(&saved);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute(psprintf("SELECT pg_catalog.string_agg(n.name, ', ' ORDER BY n.name) FROM ("
							 "SELECT 'projection \"' || p.name || '\"' AS name FROM eventstore.projections p"
							 " JOIN eventstore.projection_progress g ON g.projection_id = p.projection_id"
							 " WHERE p.mode = 'async' AND g.position < " INT64_FORMAT " GROUP BY p.name"
							 " UNION ALL SELECT 'subscription \"' || s.name || '\"' FROM eventstore.subscriptions s"
							 " JOIN eventstore.subscription_partitions g ON g.subscription_id = s.subscription_id"
							 " WHERE g.position < " INT64_FORMAT " GROUP BY s.name) n", last_detached, last_detached),
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for projections and subscriptions");
	names = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (names)
		ereport(NOTICE,
				errmsg("not all that follow the log have come past the segments that were detached"),
				errdetail("These have not: %s.", names),
				errhint("They fail with 55000 where they need an event of a detached segment, and go on once it is attached again."));
	PopActiveSnapshot();
	SPI_finish();
	es_owner_leave(&saved);
}

/* Gives the names of the segments that were detached. */
static void
return_detached(FunctionCallInfo fcinfo, const ArchiveTalk *answer)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int64 i = 0; i < answer->ndetached; i++)
	{
		Datum		name = CStringGetTextDatum(psprintf("eventstore.%s", es_segment_name(answer->detached[i])));
		bool		isnull = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &name, &isnull);
	}
}

/*
 * es_detach_segments(before): takes segments out of the log that are complete and
 * whose events are all older than a time, and returns the names of their tables.
 *
 * For the store's owner, else 42501; NULL is 22004.  A background worker does it, each
 * segment in a transaction of its own: a rollback takes nothing back.  Waits for those who
 * use the log, or a segment, as long as lock_timeout says, without keeping others off;
 * 55000 if this transaction is one of them, 53400 if no worker is free.  An error
 * leaves those detached that were by then; es_segments has them.
 */
Datum
es_detach_segments(PG_FUNCTION_ARGS)
{
	ArchiveTalk order = {.segment = -1};
	int64		newest;
	dsm_segment *memory;
	ArchiveTalk *answer;

	es_call_require(fcinfo, 0, "before");
	order.before = PG_GETARG_TIMESTAMPTZ(0);
	es_subscriber_prevent_write("es_detach_segments()");
	require_owner();
	refuse_own_lock(es_base_oid(&es_base_events));
	newest = es_segment_newest_reaching(PG_INT64_MAX);
	for (int64 n = 0; n <= newest; n++)
		refuse_own_lock(es_segment_relid(n));
	memory = have_worker_do(&order, newest + 1);
	answer = dsm_segment_address(memory);
	raise_answer(answer);
	return_detached(fcinfo, answer);
	if (answer->nkept > 0)
		ereport(NOTICE,
				errmsg("segments were left in the log because others have them locked who wait for this statement"),
				errhint("Call the function again once indexes are no longer being made."));
	if (answer->ndetached > 0)
		tell_who_needs(es_segment_last_position(answer->detached[answer->ndetached - 1]));
	dsm_detach(memory);
	PG_RETURN_NULL();
}

/* Reads which segment a table's name stands for; -1 for none. */
static int64
parse_segment_name(const char *name)
{
	int64		segment;
	char	   *end;

	if (strncmp(name, "events_", 7) != 0 || name[7] < '0' || name[7] > '9')
		return -1;
	errno = 0;
	segment = strtoll(name + 7, &end, 10);
	return errno == 0 && *end == '\0' && strcmp(es_segment_name(segment), name) == 0 ? segment : -1;
}

/* Finds the table that is to be attached, and which segment it is. */
static void
find_table_to_attach(const text *name, ArchiveTalk *order)
{
	RangeVar   *table = makeRangeVarFromNameList(textToQualifiedNameList(unconstify(text *, name)));
	EsArchived	known;

	order->segment = parse_segment_name(table->relname);
	if (order->segment < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" is not the name of a segment", text_to_cstring(name)),
				errhint("Segments are called eventstore.events_0, eventstore.events_1 and so on."));
	if (!es_archived_find(order->segment, &known))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("the event store never had a segment " INT64_FORMAT, order->segment));
	if (table->schemaname == NULL)
		table->schemaname = "eventstore";
	order->relid = RangeVarGetRelid(table, NoLock, true);
	if (!OidIsValid(order->relid))
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("table \"%s.%s\" does not exist", table->schemaname, table->relname),
				errhint("Restore it from the archive first."));
}

/* Raises unless a table may be attached, as far as can be said without looking into it. */
static void
check_table_to_attach(const ArchiveTalk *order)
{
	Relation	rel;

	refuse_own_lock(order->relid);
	refuse_own_lock(es_base_oid(&es_base_events));
	if (OidIsValid(es_segment_relid(order->segment)))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("segment \"eventstore.%s\" is part of the log", es_segment_name(order->segment)));
	rel = relation_open(order->relid, AccessShareLock);
	if (!has_privs_of_role(GetUserId(), rel->rd_rel->relowner))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table \"%s\"", RelationGetRelationName(rel)));
	es_attach_check_shape(rel, order->segment);
	relation_close(rel, AccessShareLock);
}

/*
 * es_attach_segment(name): takes the table of a segment into the log again, the
 * one that was detached or one restored since.
 *
 * For the store's owner who owns the table, too, else 42501; NULL is 22004.  22023 for a
 * name or a table that cannot be a segment's, VE004 if there is none, VE008 if its events
 * are not the segment's, 55000 if the segment is there.  A background worker does it, as
 * it does es_detach_segments, and waits in the same way, here also for snapshots that
 * do not see the table's rows.
 */
Datum
es_attach_segment(PG_FUNCTION_ARGS)
{
	ArchiveTalk order = {0};
	dsm_segment *memory;

	es_call_require(fcinfo, 0, "name");
	es_subscriber_prevent_write("es_attach_segment()");
	require_owner();
	find_table_to_attach(PG_GETARG_TEXT_PP(0), &order);
	check_table_to_attach(&order);
	memory = have_worker_do(&order, 0);
	raise_answer(dsm_segment_address(memory));
	dsm_detach(memory);
	PG_RETURN_VOID();
}
