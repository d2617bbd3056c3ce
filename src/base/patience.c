/*
 * patience.c
 *		Waiting for locks without keeping others off.
 *
 * Who asks for a strong lock and waits keeps off all that come later.  So a worker that
 * needs one waits first, without asking for it, until those are gone who have what is in
 * its way, as CREATE INDEX CONCURRENTLY does; then it asks for it, for a moment; and
 * if another one has come in between, it begins again.
 *
 * Somebody waits for the worker: its caller, which the server does not know of, as that
 * is no wait for a lock.  CREATE INDEX CONCURRENTLY on the table that the worker needs
 * waits for the caller's snapshot, so nobody would ever go on.  So waits are cut into
 * pieces, and between them it is looked whether those who are in the way are themselves
 * waiting for the caller, or for a lock of the worker's.
 */
#include "base/patience.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/process.h"

/* How long a lock is asked for before others are let by. */
#define ASK_FOR_LOCK	"40ms"

/* ---- in whose way one is ---- */

/* Adds the process that a transaction runs in to a list. */
static List *
add_process_of(List *pids, VirtualTransactionId transaction)
{
	PGPROC	   *process = es_vxid_process(transaction);

	/*
	 * one that is prepared has left its backend, which is another one's by
	 * now
	 */
	bool		there = process && es_process_lxid(process) == transaction.localTransactionId;

	return there && process->pid != 0 ? list_append_unique_int(pids, process->pid) : pids;
}

/* Tells whether one of some processes is the caller, or waits for it or for us; frees the list. */
static EsPatienceEnd
find_circle(const EsPatience *patience, List *pids)
{
	EsPatienceEnd found = ES_PATIENCE_DONE;

	if (list_member_int(pids, patience->caller) || es_process_waits_for(pids, patience->caller))
		found = ES_PATIENCE_CALLER;
	else if (es_process_waits_for(pids, MyProcPid))
		found = ES_PATIENCE_SELF;
	list_free(pids);
	return found;
}

/* Looks for that among all who are in the way of what is needed. */
static EsPatienceEnd
find_circle_of_holders(const EsPatience *patience, const List *locks)
{
	List	   *pids = NIL;
	ListCell   *cell;

	foreach(cell, locks)
	{
		const EsNeededLock *lock = lfirst(cell);
		VirtualTransactionId *transactions = GetLockConflicts(&lock->tag, lock->mode, NULL);

		for (int i = 0; VirtualTransactionIdIsValid(transactions[i]); i++)
			pids = add_process_of(pids, transactions[i]);
		pfree(transactions);
	}
	return find_circle(patience, pids);
}

/* ---- trying ---- */

/* Begins a step. */
static void
begin_step(const EsPatience *patience)
{
	if (patience->within)
		BeginInternalSubTransaction(NULL);
	else
		StartTransactionCommand();
}

/* Ends a step. */
static void
end_step(const EsPatience *patience, bool done)
{
	if (patience->within && done)
		ReleaseCurrentSubTransaction();
	else if (patience->within)
		RollbackAndReleaseCurrentSubTransaction();
	else if (done)
		CommitTransactionCommand();
	else
		AbortCurrentTransaction();
}

/*
 * Ends a step that has failed; raises its error again, unless it is that a lock was not
 * to be had.
 */
static void
give_step_up(const EsPatience *patience, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE && error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		PG_RE_THROW();
	FlushErrorState();
	FreeErrorData(error);
	end_step(patience, false);
}

/*
 * es_patience_try tries a step that waits for locks only so long; false, and it is undone, if
 * that was not enough.
 */
bool
es_patience_try(const EsPatience *patience, const char *timeout, EsPatienceStep step, void *arg)
{
	char		before[32];
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = true;

	snprintf(before, sizeof(before), "%dms", LockTimeout);
	SetConfigOption("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION);
	begin_step(patience);
	PG_TRY();
	{
		step(arg);
		end_step(patience, true);
	}
	PG_CATCH();
	{
		give_step_up(patience, context);
		done = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (patience->within)
		CurrentResourceOwner = owner;
	SetConfigOption("lock_timeout", before, PGC_USERSET, PGC_S_SESSION);
	return done;
}

/* Raises 55P03 once the caller would not wait any more. */
static void
check_time(const EsPatience *patience, TimestampTz begun)
{
	CHECK_FOR_INTERRUPTS();
	if (patience->lock_timeout > 0 &&
		TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), patience->lock_timeout))
		ereport(ERROR,
				errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				errmsg("canceling statement due to lock timeout"));
}

/* A step: waits until those are gone who hold what is needed now. */
static void
await_holders(void *arg)
{
	ListCell   *cell;

	foreach(cell, (List *) arg)
	{
		const EsNeededLock *lock = lfirst(cell);

		WaitForLockers(lock->tag, lock->mode, false);
	}
}

/* A step: waits until a transaction is gone. */
static void
await_transaction(void *arg)
{
	(void) VirtualXactLock(*(VirtualTransactionId *) arg, true);
}

/*
 * es_patience_run does a step that needs locks, a list of EsNeededLock, in a transaction,
 * when nobody else holds what conflicts with them.  55P03 after the caller's
 * lock_timeout.  Gives up if nobody would ever go on, and says why.
 */
EsPatienceEnd
es_patience_run(const EsPatience *patience, List *locks, EsPatienceStep step, void *arg)
{
	TimestampTz begun = GetCurrentTimestamp();

	for (;;)
	{
		while (!es_patience_try(patience, ES_PROCESS_LOCK_TIMEOUT, await_holders, locks))
		{
			EsPatienceEnd end = find_circle_of_holders(patience, locks);

			if (end != ES_PATIENCE_DONE)
				return end;
			check_time(patience, begun);
		}
		if (es_patience_try(patience, ASK_FOR_LOCK, step, arg))
			return ES_PATIENCE_DONE;
		check_time(patience, begun);
	}
}

/* es_patience_await waits for a transaction to end; false if that would never be. */
bool
es_patience_await(const EsPatience *patience, VirtualTransactionId transaction)
{
	TimestampTz begun = GetCurrentTimestamp();

	while (!es_patience_try(patience, ES_PROCESS_LOCK_TIMEOUT, await_transaction, &transaction))
	{
		if (find_circle(patience, add_process_of(NIL, transaction)) != ES_PATIENCE_DONE)
			return false;
		check_time(patience, begun);
	}
	return true;
}
