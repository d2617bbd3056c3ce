/*
 * scavenge.c
 *		Removing what is hidden, and giving back its room.
 *
 * A function cannot commit, and what is removed is removed in batches.  So a background
 * worker does it, in transactions of its own, while es_scavenge() waits; it needs no
 * preload.  It hides what is due by retention, removes what is hidden (remove.c), and seals
 * segments, which gives the room back (segment/sealer.c).  Only one process is at it
 * at a time.
 *
 * The worker tells the function through a message queue, in the server's own protocol: its
 * notices and its error as any session sends them to a client, and rows.  If the function
 * is canceled it ends the worker; what was removed by then stays so.
 *
 * Where the library is preloaded the worker of the store starts one after each round of
 * retention (server/upkeep.c), which nobody waits for, and which keeps to
 * eventstore.scavenge_rate.
 */
#include "lifecycle/scavenge.h"

#include "access/xact.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shm_mq.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/objects.h"
#include "base/process.h"
#include "lifecycle/policy.h"
#include "lifecycle/remove.h"
#include "lifecycle/retention.h"
#include "log/subscriber.h"
#include "segment/sealer.h"

#define QUEUE_SIZE		65536
#define LOOK_MS			1000	/* between looks at whom the worker waits for */
#define MOST_BETWEEN	4		/* who wait, too, for one another */
#define WAIT_CLASS		0xFF000000	/* of a wait event; the server's names
									 * differ */
#define WAIT_BUFFER_PIN	0x04000000
#define LOCK_TRIES		100
#define LOCK_PAUSE_MS	20

/*
 * How long the worker waits for a lock once it is at work: it may be one that the transaction
 * has that waits for the worker.
 */
#define LOCK_TIMEOUT	"5s"

/* What messages of ours begin with; the server's are 'E' and 'N'. */
#define MESSAGE_ROW		'D'
#define MESSAGE_DONE	'Z'

/* What a worker is told through bgw_extra. */
typedef struct ScavengeOrder
{
	Oid			database;
	dsm_handle	queue;			/* DSM_HANDLE_INVALID: nobody waits */
	int			caller;			/* process whose snapshots do not count; or 0 */
	int64		most;			/* events to remove */
} ScavengeOrder;

static int	scavenge_rate = 10000;	/* GUC eventstore.scavenge_rate, events a
									 * second */

PG_FUNCTION_INFO_V1(es_scavenge);

/* Defines the GUC; called once, from _PG_init. */
void
es_scavenge_init(void)
{
	DefineCustomIntVariable("eventstore.scavenge_rate",
							"How many hidden events a second the worker removes, at most.",
							"0 turns that off: then only es_scavenge() removes them, as fast as it can.",
							&scavenge_rate, 10000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* ---- the worker ---- */

/* Says what holds events back. */
static void
notice_what_is_held_back(const EsRemoval *removal)
{
	HASH_SEQ_STATUS all;
	EsHeldBack *held;

	hash_seq_init(&all, removal->held_back);
	while ((held = hash_seq_search(&all)) != NULL)
		ereport(NOTICE,
				errmsg("%lld hidden events are left because they are needed by %s", (long long) held->events,
					   text_to_cstring(held->by)));
	if (removal->streams_busy > 0)
		ereport(NOTICE,
				errmsg("%lld streams are looked at again by the next call because others were about to change them",
					   (long long) removal->streams_busy));
}

/* Sends what was removed, a row for each category. */
static void
send_what_was_removed(const EsRemoval *removal)
{
	HASH_SEQ_STATUS all;
	EsRemoved  *removed;
	StringInfoData row;

	hash_seq_init(&all, removal->removed);
	while ((removed = hash_seq_search(&all)) != NULL)
	{
		pq_beginmessage(&row, MESSAGE_ROW);
		pq_sendint64(&row, removed->events);
		pq_sendint64(&row, removed->bytes);
		pq_sendbytes(&row, VARDATA_ANY(removed->category), VARSIZE_ANY_EXHDR(removed->category));
		pq_endmessage(&row);
	}
	pq_putemptymessage(MESSAGE_DONE);
}

/* Sends what comes up from here on to who waits. */
static void
attach_queue(dsm_handle handle)
{
	dsm_segment *segment = dsm_attach(handle);
	shm_mq	   *queue;

	if (segment == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("could not attach to the session that has asked for scavenging"));
	queue = dsm_segment_address(segment);
	shm_mq_set_sender(queue, MyProc);
	pq_redirect_to_shm_mq(segment, shm_mq_attach(queue, segment, NULL));
}

/* Tells whether there is a store whose events may be removed here. */
static bool
is_store_to_scavenge(void)
{
	bool		is;

	StartTransactionCommand();
	is = es_base_is_installed() && !es_subscriber_is();
	CommitTransactionCommand();
	return is;
}

/*
 * Locks the rules of retention; false if another transaction does not let go of them, as it
 * may be that of who waits for us.
 */
static bool
lock_rules(void)
{
	static uint32 wait_event = 0;

	for (int i = 0; !es_base_try_lock(&es_policy_table, ShareUpdateExclusiveLock); i++)
	{
		if (i == LOCK_TRIES)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_PAUSE_MS,
						 es_base_wait_event(&wait_event, "EventstoreRetention"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Hides what is due by retention, in transactions of its own. */
static void
carry_out_retention(void)
{
	EsRetentionRound round = {.by_hand = true,.began = GetCurrentTimestamp()};
	bool		done = false;

	while (!done)
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (lock_rules())
			done = es_retention_apply(&round);
		else
		{
			ereport(NOTICE,
					errmsg("what ages out is not hidden now because another transaction has locked the rules"));
			done = true;
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
}

/*
 * es_scavenge_main is the background worker: seals what is complete, removes what is
 * hidden, and gives back the room.
 */
void
es_scavenge_main(Datum main_arg)
{
	ScavengeOrder order;
	EsRemoval	removal;
	bool		awaited;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	awaited = order.queue != DSM_HANDLE_INVALID;
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	if (awaited)
		attach_queue(order.queue);
	es_process_set_transactions();
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
	MemoryContextSwitchTo(TopMemoryContext);
	es_remove_begin(&removal, order.most, awaited ? 0 : scavenge_rate);
	if (es_sealer_become(awaited))
	{
		SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
		es_sealer_run(0, NULL);
		if (is_store_to_scavenge())
		{
			if (awaited)
				carry_out_retention();
			pgstat_report_activity(STATE_RUNNING, "removing hidden events of eventstore.events");
			es_remove_hidden(&removal);
			es_sealer_run(order.caller, removal.losses);
		}
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	if (!awaited)
		return;
	notice_what_is_held_back(&removal);
	send_what_was_removed(&removal);
}

/* ---- asking ---- */

/* Starts a worker, which is awaited if a handle is asked for; false if none is free. */
static bool
start_scavenger(const ScavengeOrder *order, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	es_process_describe(&worker, "es_scavenge_main", "eventstore scavenger");
	worker.bgw_notify_pid = handle ? MyProcPid : 0;
	StaticAssertStmt(sizeof(*order) <= BGW_EXTRALEN, "order does not fit bgw_extra");
	memcpy(worker.bgw_extra, order, sizeof(*order));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/*
 * es_scavenge_start starts a worker that keeps to eventstore.scavenge_rate, and that nobody
 * waits for, if that is wanted, a worker is free, and there is something to remove or to give
 * back.  In a transaction.
 */
void
es_scavenge_start(void)
{
	ScavengeOrder order = {.database = MyDatabaseId,.queue = DSM_HANDLE_INVALID,.most = PG_INT64_MAX};

	if (scavenge_rate > 0 && !es_subscriber_is() && (es_remove_any_hidden() || es_sealer_has_work()))
		(void) start_scavenger(&order, NULL);
}

/* Raises 55000: the worker has ended, with a message, or NULL. */
ES_NORETURN static void
report_ended_too_soon(const char *message)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the background worker that scavenges has ended too soon"),
			message ? errdetail("It said: %s.", message) : 0,
			errhint("What it has removed is removed.  The server's log may say why it ended."));
}

/* Passes on what the worker has said: notices, or its error. */
static void
pass_on_report(StringInfo message)
{
	ErrorData	error;

	pq_parse_errornotice(message, &error);
	if (error.elevel > ERROR)
		report_ended_too_soon(error.message);
	error.context = error.context ? psprintf("%s\n%s", error.context, _("scavenging")) : pstrdup(_("scavenging"));
	ThrowErrorData(&error);
}

/* Puts a row that the worker has sent into the result. */
static void
return_removed_row(StringInfo message, ReturnSetInfo *result)
{
	Datum		values[3];
	bool		isnull[3] = {false};

	values[1] = Int64GetDatum(pq_getmsgint64(message));
	values[2] = Int64GetDatum(pq_getmsgint64(message));
	values[0] = PointerGetDatum(cstring_to_text_with_len(message->data + message->cursor, message->len - message->cursor));
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* Tells whether a process waits for a lock of another one, be it by way of some who wait, too. */
static bool
waits_for_lock_of(int waiting, int holder, int through)
{
	ArrayType  *blocking = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(waiting)));
	const int32 *pids = (const int32 *) ARR_DATA_PTR(blocking);
	int			count = ArrayGetNItems(ARR_NDIM(blocking), ARR_DIMS(blocking));

	for (int i = 0; i < count; i++)
		if (pids[i] == holder || (through > 0 && pids[i] != 0 && waits_for_lock_of(pids[i], holder, through - 1)))
			return true;
	return false;
}

/* Tells whether a process has been waiting for a lock for long; it tries some for a moment. */
static bool
waits_for_long(int waiting)
{
	PGPROC	   *proc = BackendPidGetProc(waiting);
	TimestampTz since = proc ? (TimestampTz) pg_atomic_read_u64(&proc->waitStart) : 0;

	return since != 0 && TimestampDifferenceExceeds(since, GetCurrentTimestamp(), LOOK_MS / 2);
}

/* Tells whether a process waits for a page of a table that others look at. */
static bool
waits_for_page(int waiting)
{
	PGPROC	   *proc = BackendPidGetProc(waiting);

	return proc != NULL && (proc->wait_event_info & WAIT_CLASS) == WAIT_BUFFER_PIN;
}

/*
 * Raises 40P01 if the worker waits for what this transaction has locked, or for a page that
 * a cursor of it stands on, as VACUUM does.  The server does not see that, as it is no lock
 * that this process waits for.
 */
static void
check_worker_can_go_on(BackgroundWorkerHandle *worker)
{
	pid_t		pid;

	if (GetBackgroundWorkerPid(worker, &pid) != BGWH_STARTED)
		return;
	if (!(waits_for_long(pid) && waits_for_lock_of(pid, MyProcPid, MOST_BETWEEN)) &&
		(ThereAreNoPriorRegisteredSnapshots() || !waits_for_page(pid)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
			errmsg("scavenging waits for what this transaction has locked, or has a cursor on"),
			errhint("Call es_scavenge in a transaction of its own."));
}

/* Waits for what the worker says next. */
static StringInfo
receive_message(shm_mq_handle *queue, BackgroundWorkerHandle *worker)
{
	static uint32 wait_event = 0;
	StringInfo	message = makeStringInfo();
	shm_mq_result result;
	Size		size;
	void	   *data;

	while ((result = shm_mq_receive(queue, &size, &data, true)) == SHM_MQ_WOULD_BLOCK)
	{
		int			events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
									   es_base_wait_event(&wait_event, "EventstoreScavenge"));

		CHECK_FOR_INTERRUPTS();
		if (events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else
			check_worker_can_go_on(worker);
	}
	if (result != SHM_MQ_SUCCESS)
		report_ended_too_soon(NULL);
	appendBinaryStringInfo(message, data, size);
	return message;
}

/* Takes what the worker says, until it has said all. */
static void
listen_to_scavenger(shm_mq_handle *queue, BackgroundWorkerHandle *worker, ReturnSetInfo *result)
{
	for (;;)
	{
		StringInfo	message = receive_message(queue, worker);
		int			kind = pq_getmsgbyte(message);

		if (kind == 'E' || kind == 'N')
			pass_on_report(message);
		else if (kind == MESSAGE_ROW)
			return_removed_row(message, result);
		else if (kind == MESSAGE_DONE)
			return;
		pfree(message->data);
		pfree(message);
	}
}

/* Ends the worker, as the function ends before it, or the process. */
static void
end_scavenger(int code, Datum worker)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(worker));
}

/*
 * The process whose snapshots do not count for what is given back (segment/compact.c):
 * this one, unless it has others than that of the statement, a cursor's or the
 * transaction's, which it will look at the log by again.
 */
static int
process_to_leave_out(void)
{
	InvalidateCatalogSnapshot();
	return IsolationUsesXactSnapshot() || !ThereAreNoPriorRegisteredSnapshots() ? 0 : MyProcPid;
}

/* Has a worker scavenge, and waits for it. */
static void
have_events_removed(int64 most, ReturnSetInfo *result)
{
	dsm_segment *segment = dsm_create(QUEUE_SIZE, 0);
	shm_mq	   *queue = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	ScavengeOrder order = {.database = MyDatabaseId,.queue = dsm_segment_handle(segment),.caller = process_to_leave_out(),
	.most = most};
	BackgroundWorkerHandle *worker;

	shm_mq_set_receiver(queue, MyProc);
	if (!start_scavenger(&order, &worker))
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no background worker is free to scavenge"),
				errhint("Call the function again later, or raise parameter \"max_worker_processes\"."));
	PG_ENSURE_ERROR_CLEANUP(end_scavenger, PointerGetDatum(worker));
	{
		listen_to_scavenger(shm_mq_attach(queue, segment, worker), worker, result);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_scavenger, PointerGetDatum(worker));
	dsm_detach(segment);
}

/*
 * es_scavenge(max_events): removes hidden events for good, and gives the disk their room
 * back; returns what was removed, by category: events, and the bytes of their rows.
 *
 * max_events NULL is unlimited, a negative one 22023.  Leaves what is still needed, and says
 * in a NOTICE by whom.  A background worker does it in transactions of its own, so what the
 * calling transaction has hidden is not removed, and a rollback or a cancel undoes nothing.
 * Waits for another one that scavenges; 53400 if no worker is free, 55000 if it is ended.
 * On a logical subscriber, which loses events as its publisher does, it only gives room back.
 */
Datum
es_scavenge(PG_FUNCTION_ARGS)
{
	int64		most = es_call_limit_arg(fcinfo, 0, "max_events");

	PreventCommandDuringRecovery("es_scavenge()");
	PreventCommandIfReadOnly("es_scavenge()");
	PreventCommandIfParallelMode("es_scavenge()");
	have_events_removed(most, es_call_begin_rows(fcinfo));
	return (Datum) 0;
}
