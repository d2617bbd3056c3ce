/*
 * maker.c
 *		Making segments ahead of need.
 *
 * A segment made inside a user's transaction would stop the whole store while
 * that transaction idles: ATTACH PARTITION keeps SHARE UPDATE EXCLUSIVE on the
 * log until the end.  So segments are made by a dynamic background worker, in
 * a transaction of its own, as the extension's owner.  It needs no preload.
 *
 * The append that crosses the middle of the newest segment asks for the next
 * one and goes on; an append that finds none waits for the worker, holding no
 * lock that others want.  Where no worker can help - no slot free, the store
 * or a lock on the log belongs to this very transaction, or the worker failed
 * twice - the segment is made here, which also brings the real error up.
 *
 * A maker that nobody waits for then seals the segments that are complete (sealer.c).
 *
 * Order of locks: the need for a segment (one session has it made, others that
 * need it wait), then the lock on the log.  Makers queue on the latter and look
 * again once they have it, so asking twice is harmless.  A killed maker leaves
 * nothing: its transaction rolls back and whoever waits asks again.
 *
 * Making tables runs the event triggers of others (ddl.c), which may fail.  A worker
 * that fails says so in the log and in eventstore.maker_failure, half a segment ahead of
 * need, and appends have it tried again on their way to the segment's end.
 */
#include "segment/maker.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/logicalworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "base/process.h"
#include "log/segment.h"
#include "segment/ddl.h"
#include "segment/sealer.h"
#include "segment/timing.h"
#include "segment/typeindex.h"
#include "shared/headway.h"
#include "shared/trouble.h"
#include "table/rows.h"

#define MAKER_TRIES				2
#define MOST_AT_ONCE			10000	/* segments */
#define FAILED_LATELY_MS		10000
#define LOOK_FOR_DEADLOCK_MS	1000

/*
 * When the next segment is asked for: in the middle, and again at 3/4, 7/8 ...
 * until so little is left.
 */
#define LAST_SHARE				32
#define LAST_LEFT				64

/* Columns of eventstore.maker_failure, a table of one row at most. */
#define Anum_failure_segment		1
#define Anum_failure_first_position	2
#define Anum_failure_last_position	3
#define Anum_failure_attempts		4
#define Anum_failure_failed_at		5
#define Anum_failure_error			6
#define Natts_failure				6

static EsRelation maker_failure = {"maker_failure"};
static const EsColumn failure_columns[Natts_failure] = {
	{"segment", INT8OID}, {"first_position", INT8OID}, {"last_position", INT8OID}, {"attempts", INT4OID},
	{"failed_at", TIMESTAMPTZOID}, {"error", TEXTOID}
};
const EsShape es_maker_failure_shape = ES_SHAPE(&maker_failure, NULL, failure_columns);

/* What a worker is told through bgw_extra. */
typedef struct MakerOrder
{
	Oid			database;
	int64		upto;			/* make all segments up to this one */
	bool		seal;			/* and seal what is complete; nobody waits */
} MakerOrder;

static int64 making = -1;		/* the segment that is or was made here */

/* ---- making ---- */

/*
 * es_maker_begin begins to make segments, in this transaction: with a lock on the log,
 * which serialises makers, and ATTACH will take anyway.  es_ddl_leave undoes it, but for
 * the lock.
 */
void
es_maker_begin(EsOwnerContext *saved)
{
	es_base_lock(&es_base_events, ShareUpdateExclusiveLock);
	AcceptInvalidationMessages();
	es_ddl_enter(saved);
}

/* es_maker_guard gives a table that is made the triggers of statements that its parent has. */
void
es_maker_guard(const char *table)
{
	es_ddl_run("CREATE TRIGGER guard_statement BEFORE INSERT OR TRUNCATE ON eventstore.%s"
			   " FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard_statement()", table);
	es_ddl_run("CREATE TRIGGER guard_restore AFTER INSERT ON eventstore.%s"
			   " FOR EACH STATEMENT EXECUTE FUNCTION eventstore.guard_restore()", table);
	es_ddl_run("ALTER TABLE eventstore.%s"
			   " ENABLE ALWAYS TRIGGER guard_statement, ENABLE ALWAYS TRIGGER guard_restore", table);
}

/*
 * es_maker_make_table makes a segment's table and attaches it, if it is not there;
 * between es_maker_begin and es_ddl_leave.
 */
void
es_maker_make_table(int64 n, int64 first_position, int64 last_position)
{
	char	   *table;
	ListCell   *cell;

	if (OidIsValid(es_segment_relid(n)))
		return;
	table = es_segment_name(n);
	es_ddl_run("CREATE TABLE eventstore.%s"
			   " (LIKE eventstore.events INCLUDING STORAGE INCLUDING COMPRESSION"
			   " INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)", table);
	for (EsSegmentIndex which = 0; which < ES_INDEX_COUNT; which++)
		es_ddl_run("%s", es_segment_index_statement(n, which));
	foreach(cell, es_typeindex_all())
	{
		es_ddl_run("%s", es_segment_type_index_statement(n, lfirst(cell), false));
	}
	es_ddl_run("ALTER TABLE eventstore.%s REPLICA IDENTITY USING INDEX %s%s",
			   table, table, es_segment_index_names[ES_INDEX_POSITION]);
	es_maker_guard(table);
	es_ddl_run("ALTER TABLE eventstore.events ATTACH PARTITION eventstore.%s"
			   " FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")", table, first_position, last_position + 1);
	CommandCounterIncrement();
}

/*
 * Makes one segment, as es_maker_make_table does; on what was a logical subscriber
 * its table may be there.  Its row is not put there by a statement, which would say that
 * the store is being loaded.
 */
static void
make_segment(int64 n)
{
	Datum		values[Natts_es_segments] = {0};
	bool		isnull[Natts_es_segments] = {0};
	int64		first = es_segment_first_position(n);
	int64		last = es_segment_last_position(n);

	es_maker_make_table(n, first, last);
	values[Anum_es_segments_segment - 1] = Int64GetDatum(n);
	values[Anum_es_segments_first_position - 1] = Int64GetDatum(first);
	values[Anum_es_segments_last_position - 1] = Int64GetDatum(last);
	values[Anum_es_segments_sealed - 1] = BoolGetDatum(false);
	values[Anum_es_segments_emptied - 1] = BoolGetDatum(false);
	isnull[Anum_es_segments_events - 1] = true;
	es_rows_insert(&es_segment_shape, values, isnull);
}

/*
 * Adds a line of context to errors that come up while a segment is made, from event
 * triggers say.
 */
static void
add_making_context(void *arg)
{
	errcontext("making segment " INT64_FORMAT " of the event store", making);
}

/* Makes all segments up to one, in this transaction. */
static void
make_segments_upto(int64 upto)
{
	EsOwnerContext saved;
	ErrorContextCallback context = {.callback = add_making_context,.previous = error_context_stack};

	making = upto;
	error_context_stack = &context;
	es_maker_begin(&saved);
	es_headway_enter(ES_PHASE_MAKING, -1);
	for (int64 n = es_segment_newest_reaching(es_segment_first_position(upto)) + 1; n <= upto; n++)
	{
		making = n;
		make_segment(n);
		es_headway_add(1);
		CommandCounterIncrement();
	}
	es_ddl_leave(&saved);
	error_context_stack = context.previous;
}

/* ---- failures ---- */

/* How often a segment could not be made, and when last; 0 for never. */
static int
read_maker_failures(int64 segment, TimestampTz *failed_at)
{
	EsRows		rows;
	int			attempts = 0;

	if (es_rows_read_one(&es_maker_failure_shape, &rows) && DatumGetInt64(rows.values[Anum_failure_segment - 1]) == segment)
	{
		attempts = DatumGetInt32(rows.values[Anum_failure_attempts - 1]);
		*failed_at = DatumGetTimestampTz(rows.values[Anum_failure_failed_at - 1]);
	}
	es_rows_end(&rows);
	return attempts;
}

/* Notes that a worker could not make a segment; behind es_segments. */
static void
note_maker_failure(int64 segment, const char *error)
{
	Datum		values[Natts_failure];
	TimestampTz failed_at;

	es_base_lock(&maker_failure, ShareRowExclusiveLock);
	values[Anum_failure_segment - 1] = Int64GetDatum(segment);
	values[Anum_failure_first_position - 1] = Int64GetDatum(es_segment_first_position(segment));
	values[Anum_failure_last_position - 1] = Int64GetDatum(es_segment_last_position(segment));
	values[Anum_failure_attempts - 1] = Int32GetDatum(read_maker_failures(segment, &failed_at) + 1);
	values[Anum_failure_failed_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_failure_error - 1] = CStringGetTextDatum(error);
	es_rows_write_one(&es_maker_failure_shape, values);
}

/* Says in the log what a failure means; the error itself is there already. */
static void
warn_of_maker_failure(int64 segment, const ErrorData *error)
{
	ereport(WARNING,
			errcode(error->sqlerrcode),
			errmsg("could not make segment " INT64_FORMAT " of the event store: %s", segment, error->message),
			errhint("It is tried again, but appends fail at position " INT64_FORMAT " if it is not there by then."
					"  Event triggers must let the owner of the extension make tables in schema \"eventstore\".",
					es_segment_first_position(segment)));
}

/* ---- the worker ---- */

/*
 * Makes segments, if the extension is still there.  The first lock is waited for
 * while nothing is held; any further one only for a moment, so that in a deadlock,
 * with DROP EXTENSION say, it is the worker that gives up.
 */
static void
try_making_as_worker(int64 upto)
{
	StartTransactionCommand();
	making = upto;
	if (es_base_is_installed())
	{
		es_base_lock(&es_base_events, ShareUpdateExclusiveLock);
		SetConfigOption("lock_timeout", ES_PROCESS_LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION);
		make_segments_upto(upto);
	}
	CommitTransactionCommand();
}

/* Makes segments as a worker, or tells why not, in the log and to whoever looks at es_segments. */
static void
make_segments_as_worker(int64 upto)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	volatile bool is_new = false;

	PG_TRY();
	{
		try_making_as_worker(upto);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		AbortCurrentTransaction();
		is_new = es_trouble_begin(ES_TASK_SEGMENTS, error->message);
		if (is_new)
			EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
	if (error == NULL)
	{
		es_trouble_end(ES_TASK_SEGMENTS);
		return;
	}
	StartTransactionCommand();
	/* if it is gone, that is why */
	if (es_base_is_installed())
	{
		if (is_new)
			warn_of_maker_failure(making, error);
		note_maker_failure(making, error->message);
	}
	CommitTransactionCommand();
}

/* Seals what is complete, and finds out the times of what is sealed. */
static void
freeze_segments(void *arg)
{
	EsSealing	sealing = {.again = true};

	es_sealer_run(&sealing);
	es_sealer_resign();
	es_timing_run();
}

/*
 * es_maker_main is the background worker: makes the segments that its order
 * names, seals those that are complete, and ends.
 */
void
es_maker_main(Datum main_arg)
{
	MakerOrder	order;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid,
											  BGWORKER_BYPASS_ALLOWCONN);
	es_process_set_transactions("0");
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "making segments of eventstore.events");
	es_headway_begin(ES_COMMAND_MAKE_SEGMENTS);
	make_segments_as_worker(order.upto);
	if (order.seal && es_sealer_become(false))
		es_trouble_run(ES_TASK_FREEZING, freeze_segments, NULL);
	es_headway_end();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* ---- asking ---- */

/* Starts a worker; false if no slot is free.  handle NULL: nobody will wait. */
static bool
start_maker(int64 upto, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MakerOrder	order = {.database = MyDatabaseId,.upto = upto,.seal = handle == NULL};

	es_process_describe(&worker, "es_maker_main", "eventstore segment maker");
	worker.bgw_notify_pid = handle ? MyProcPid : 0;
	StaticAssertStmt(sizeof(order) <= BGW_EXTRALEN, "order does not fit bgw_extra");
	memcpy(worker.bgw_extra, &order, sizeof(order));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Tells whether this transaction made the store, so that a worker could not see it. */
static bool
store_is_uncommitted(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(es_base_oid(&es_base_events)));
	bool		ours;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for eventstore.events");
	ours = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	ReleaseSysCache(tuple);
	return ours;
}

/* Tells whether a worker would wait for a lock that this transaction holds. */
static bool
worker_would_wait_for_us(void)
{
	Relation	events = es_base_open(&es_base_events, AccessShareLock);
	bool		held = CheckRelationLockedByMe(events, ShareUpdateExclusiveLock, true);

	table_close(events, AccessShareLock);
	return held;
}

/*
 * Waits until nobody makes segments, nor keeps others from it.  As a wait for
 * a lock, it is seen by the deadlock detector.
 */
static void
await_makers(void)
{
	es_base_lock(&es_base_events, ShareUpdateExclusiveLock);
	UnlockRelationOid(es_base_events.oid, ShareUpdateExclusiveLock);
}

/*
 * Waits for a worker to end.  The worker may itself wait for a transaction
 * that waits for ours; so if it takes long, we wait for what it waits for.
 */
static void
wait_for_maker(BackgroundWorkerHandle *handle)
{
	static uint32 wait_event = 0;
	pid_t		pid;

	while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
	{
		int			events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
									   LOOK_FOR_DEADLOCK_MS, es_base_wait_event(&wait_event, "EventstoreSegmentMaker"));

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (events & WL_TIMEOUT)
			await_makers();
	}
	AcceptInvalidationMessages();
}

/*
 * Tells whether workers have tried to make a segment in vain, so that many appends
 * that need it do not start many.
 */
static bool
making_failed_lately(int64 segment)
{
	TimestampTz failed_at;

	return read_maker_failures(segment, &failed_at) >= MAKER_TRIES &&
		!TimestampDifferenceExceeds(failed_at, GetCurrentTimestamp(), FAILED_LATELY_MS);
}

/* Has workers make segments up to one; false if they could not. */
static bool
have_segments_made(int64 upto, int64 needed)
{
	BackgroundWorkerHandle *handle;

	if (making_failed_lately(needed))
		return false;
	for (int i = 0; i < MAKER_TRIES; i++)
	{
		if (!start_maker(upto, &handle))
		{
			ereport(NOTICE,
					errmsg("the next segment of the log is made in this transaction because no background worker is free"),
					errhint("Other sessions might wait for this transaction.  Raise parameter \"max_worker_processes\"."));
			return false;
		}
		wait_for_maker(handle);
		if (es_segment_newest_reaching(es_segment_first_position(needed)) >= needed)
			return true;
	}
	return false;
}

/*
 * Raises 55000 if a position is so far ahead of the log that nobody can have come
 * there by appending.
 */
static void
refuse_position_leap(int64 position, int64 newest)
{
	if (es_segment_of(position) - newest <= MOST_AT_ONCE)
		return;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("position " INT64_FORMAT " is more than %d segments ahead of the log", position, MOST_AT_ONCE),
			errdetail("The log has segments for positions up to " INT64_FORMAT ", and something has set the sequence "
					  "\"eventstore.position_seq\".", newest < 0 ? 0 : es_segment_last_position(newest)),
			errhint("Restore the sequence from a backup, or set it back to the last position that an event has, "
					"and restart the server."));
}

/*
 * es_maker_ensure sees to it that the segments up to that of a position exist,
 * and the one after it.  May wait; the caller holds no short lock.  Of many
 * sessions that need a segment, one has it made, and the others wait for that.
 */
void
es_maker_ensure(int64 position)
{
	int64		needed = es_segment_of(position);
	LOCKTAG		tag;

	AcceptInvalidationMessages();
	if (es_segment_newest_reaching(position) >= needed)
		return;
	refuse_position_leap(position, es_segment_newest());
	if (store_is_uncommitted() || worker_would_wait_for_us())
	{
		make_segments_upto(needed + 1);
		return;
	}
	tag = es_base_tag(&es_segment_table, 0, ES_SEGMENT_TAG_NEED);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	await_makers();
	if (es_segment_newest_reaching(position) < needed && !have_segments_made(needed + 1, needed))
		make_segments_upto(needed + 1);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/*
 * Tells whether positions that are taken off a segment cross one of the marks, at
 * which the next one is asked for.
 */
static inline bool
crosses_asking_mark(int64 left_before, int64 left_after, int64 size)
{
	int64		mark = size / 2;

	if (likely(left_after > mark))
		return false;
	while (left_before <= mark && mark / 2 >= Max(size / LAST_SHARE, LAST_LEFT))
		mark /= 2;
	return left_before > mark && left_after <= mark;
}

/*
 * es_maker_ask_ahead starts a worker for the next segment if these positions,
 * just taken, cross the middle of the newest one, or a later mark while it could
 * not be made.  Never waits.
 */
void
es_maker_ask_ahead(int64 first_position, int64 last_position)
{
	int64		segment = es_segment_of(last_position);
	int64		first = es_segment_first_position(segment);
	int64		last = es_segment_last_position(segment);

	if (crosses_asking_mark(last + 1 - first_position, last - last_position, last + 1 - first) &&
		segment == es_segment_newest())
		(void) start_maker(segment + 1, NULL);
}
