/*
 * errand.c
 *		Background workers that a function waits for.
 *
 * A function cannot commit, and what takes many transactions, or a lock that must not be
 * held to the end of the caller's, is done by a dynamic background worker in its place.  It
 * needs no preload.
 *
 * The worker tells the function through a message queue in dynamic shared memory, in the
 * protocol that parallel workers use: its notices and its error, as any session sends them to
 * a client, and rows.  A function that is canceled, or ends in any other way, ends the worker; what
 * that has committed by then stays so.
 *
 * To wait for a worker is no wait for a lock, so the deadlock detector does not see it: who
 * waits looks now and then whether the worker waits for what it has itself.
 */
#include "base/errand.h"

#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shm_mq.h"
#include "tcop/tcopprot.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/process.h"

#define QUEUE_SIZE		65536
#define LOOK_MS			1000	/* between looks at whom the worker waits for */
#define WAIT_CLASS		0xFF000000	/* of a wait event; the server's names
									 * differ */
#define WAIT_BUFFER_PIN	0x04000000

/* What messages of ours begin with; the server's are 'E' and 'N'. */
#define MESSAGE_ROW		'D'
#define MESSAGE_DONE	'Z'

/* What a worker finds in bgw_extra. */
typedef struct ErrandOrder
{
	Oid			database;
	dsm_handle	queue;			/* DSM_HANDLE_INVALID: nobody waits */
	int			caller;			/* process that waits; 0 */
	char		order[ES_ERRAND_MOST_ORDER];
} ErrandOrder;

StaticAssertDecl(sizeof(ErrandOrder) <= BGW_EXTRALEN, "an order does not fit bgw_extra");

/* ---- in the worker ---- */

/* Sends what comes up from here on to who waits. */
static void
attach_queue(dsm_handle handle)
{
	dsm_segment *segment = dsm_attach(handle);
	shm_mq	   *queue;

	/* the caller has given up */
	if (segment == NULL)
		proc_exit(0);
	queue = dsm_segment_address(segment);
	shm_mq_set_sender(queue, MyProc);
	pq_redirect_to_shm_mq(segment, shm_mq_attach(queue, segment, NULL));
}

/*
 * es_errand_begin sets up a worker: connects it to its database, and to its caller if that
 * waits; reads what it is told, and gives the caller's process id, or 0.
 */
int
es_errand_begin(void *order, Size size)
{
	ErrandOrder given;

	memcpy(&given, MyBgworkerEntry->bgw_extra, sizeof(given));
	memcpy(order, given.order, size);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(given.database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	/* as who waits takes what comes */
	(void) SetClientEncoding(GetDatabaseEncoding());
	if (given.queue != DSM_HANDLE_INVALID)
		attach_queue(given.queue);
	es_process_set_transactions("0");
	MemoryContextSwitchTo(TopMemoryContext);
	return given.caller;
}

/* es_errand_begin_row begins a row for who waits; what it has is sent by pq_send...(). */
void
es_errand_begin_row(StringInfo row)
{
	pq_beginmessage(row, MESSAGE_ROW);
}

/* es_errand_end_row sends it. */
void
es_errand_end_row(StringInfo row)
{
	pq_endmessage(row);
}

/* es_errand_end says that all is done and said. */
void
es_errand_end(void)
{
	pq_putemptymessage(MESSAGE_DONE);
}

/* ---- asking ---- */

/* Starts a worker; false if none is free.  handle NULL: nobody waits. */
static bool
start_errand_worker(const EsErrand *errand, dsm_handle queue, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	ErrandOrder order = {.database = MyDatabaseId,.queue = queue,.caller = handle ? MyProcPid : 0};

	Assert(errand->size <= sizeof(order.order));
	memcpy(order.order, errand->order, errand->size);
	es_process_describe(&worker, errand->function, errand->type);
	worker.bgw_notify_pid = order.caller;
	memcpy(worker.bgw_extra, &order, sizeof(order));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* es_errand_start starts a worker that nobody waits for; false if none is free. */
bool
es_errand_start(const EsErrand *errand)
{
	return start_errand_worker(errand, DSM_HANDLE_INVALID, NULL);
}

/* Raises 55000: the worker has ended, as it says, or without a word. */
ES_NORETURN static void
report_end_of_worker(const EsErrand *errand, const char *said)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the background worker that was to %s has ended too soon", errand->purpose),
			said ? errdetail_internal("%s", said) : 0,
			errhint("The server's log may say why.  Call the function again."));
}

/*
 * Passes on what the worker has said: notices, or its error.  What ends the worker does not
 * end this session, and is not to look as if it did.
 */
static void
pass_on_report(const EsErrand *errand, StringInfo message)
{
	ErrorData	error;

	pq_parse_errornotice(message, &error);
	if (error.elevel > ERROR)
		report_end_of_worker(errand, error.message);
	ThrowErrorData(&error);
}

/*
 * Tells whether a process waits for a lock of this one, and has for long; it may try some for a
 * moment.
 */
static bool
waits_for_us(int pid)
{
	PGPROC	   *process = BackendPidGetProc(pid);
	TimestampTz since = process ? (TimestampTz) pg_atomic_read_u64(&process->waitStart) : 0;
	List	   *pids;
	bool		waits;

	if (since == 0 || !TimestampDifferenceExceeds(since, GetCurrentTimestamp(), LOOK_MS / 2))
		return false;
	pids = list_make1_int(pid);
	waits = es_process_waits_for(pids, MyProcPid);
	list_free(pids);
	return waits;
}

/* Tells whether a process waits for a page of a table that others look at. */
static bool
waits_for_page(int pid)
{
	PGPROC	   *process = BackendPidGetProc(pid);

	return process != NULL && (process->wait_event_info & WAIT_CLASS) == WAIT_BUFFER_PIN;
}

/*
 * Raises 40P01 if the worker waits for what this transaction has locked, or for a page that
 * a cursor of it stands on, as VACUUM does.
 */
static void
check_worker_can_go_on(const EsErrand *errand, BackgroundWorkerHandle *worker)
{
	pid_t		pid;

	if (GetBackgroundWorkerPid(worker, &pid) != BGWH_STARTED)
		return;
	if (!waits_for_us(pid) && (ThereAreNoPriorRegisteredSnapshots() || !waits_for_page(pid)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
			errmsg("the background worker that is to %s waits for what this transaction has locked, or has a cursor on",
				   errand->purpose),
			errhint("Call the function in a transaction of its own."));
}

/* Waits for what the worker says next. */
static void
receive_message(const EsErrand *errand, shm_mq_handle *queue, BackgroundWorkerHandle *worker, StringInfo message)
{
	static uint32 wait_event = 0;
	shm_mq_result result;
	Size		size;
	void	   *data;

	while ((result = shm_mq_receive(queue, &size, &data, true)) == SHM_MQ_WOULD_BLOCK)
	{
		int			events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
									   es_base_wait_event(&wait_event, "EventstoreErrand"));

		CHECK_FOR_INTERRUPTS();
		if (events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else
			check_worker_can_go_on(errand, worker);
	}
	if (result != SHM_MQ_SUCCESS)
		report_end_of_worker(errand, NULL);
	initStringInfo(message);
	appendBinaryStringInfo(message, data, size);
}

/* Takes what the worker says, until it has said all. */
static void
listen_to_worker(const EsErrand *errand, shm_mq_handle *queue, BackgroundWorkerHandle *worker, EsErrandTake take, void *arg)
{
	for (;;)
	{
		StringInfoData message;
		int			kind;

		receive_message(errand, queue, worker, &message);
		kind = pq_getmsgbyte(&message);
		if (kind == 'E' || kind == 'N')
			pass_on_report(errand, &message);
		else if (kind == MESSAGE_ROW)
			take(&message, arg);
		else if (kind == MESSAGE_DONE)
			return;
		pfree(message.data);
	}
}

/* Ends the worker as who waits for it ends before it. */
static void
end_errand_worker(int code, Datum handle)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(handle));
}

/*
 * es_errand_run has a worker do something, and waits for it; its rows are given to a
 * callback.  What it raises is raised here; 53400 if no worker is free, 55000 if it is
 * ended, 40P01 if it waits for this transaction.
 */
void
es_errand_run(const EsErrand *errand, EsErrandTake take, void *arg)
{
	dsm_segment *segment = dsm_create(QUEUE_SIZE, 0);
	shm_mq	   *queue = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	shm_mq_handle *reader;
	BackgroundWorkerHandle *handle;

	shm_mq_set_receiver(queue, MyProc);
	if (!start_errand_worker(errand, dsm_segment_handle(segment), &handle))
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no background worker is free to %s", errand->purpose),
				errhint("Call the function again later, or raise parameter \"max_worker_processes\"."));
	reader = shm_mq_attach(queue, segment, handle);
	PG_ENSURE_ERROR_CLEANUP(end_errand_worker, PointerGetDatum(handle));
	{
		listen_to_worker(errand, reader, handle, take, arg);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_errand_worker, PointerGetDatum(handle));
	dsm_detach(segment);
	AcceptInvalidationMessages();
}
