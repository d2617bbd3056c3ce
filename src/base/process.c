/*
 * process.c
 *		What background workers of ours have in common.
 */
#include "base/process.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define MOST_UNFLUSHED	(1024 * 1024)	/* bytes of WAL, as
										 * wal_writer_flush_after is by
										 * default */

/*
 * es_process_describe fills in what is to be registered of a worker that connects to
 * a database: which function of the library it runs, and what it is called.
 */
void
es_process_describe(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "eventstore", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
}

/*
 * es_process_set_transactions makes the transactions of a worker what its work depends
 * on, whatever the settings of the server, the database or the role are: they last as long as
 * they take, and wait for a lock as long as told.
 */
void
es_process_set_transactions(const char *lock_timeout)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"}, {"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"}
	};
	static const char *const timeouts[] = {ES_TIMEOUT_SETTINGS};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION);
	for (int i = 0; i < lengthof(timeouts); i++)
		SetConfigOption(timeouts[i], "0", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", lock_timeout, PGC_USERSET, PGC_S_OVERRIDE);
}

/* Gives the locks of the session back. */
static void
release_session_locks(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

/*
 * es_process_release_at_exit has a worker give its session's locks back as it ends: they
 * outlive their process otherwise.
 */
void
es_process_release_at_exit(void)
{
	before_shmem_exit(release_session_locks, (Datum) 0);
}

/*
 * es_process_flush_wal waits until the WAL that this process has written is on disk, or, unless
 * all of it is to be, all but a little.  Whoever commits has all WAL flushed, whoever wrote
 * it: work that writes as fast as it can would have appends wait for its WAL, the longer the
 * busier the disk is.  With this it waits itself.
 */
void
es_process_flush_wal(bool all)
{
	/*
	 * the end of a record of its own: where the next one may begin nothing
	 * need be yet
	 */
	XLogRecPtr	end = XLogRecPtrIsInvalid(XactLastRecEnd) ? XactLastCommitEnd : XactLastRecEnd;

	if (end > GetFlushRecPtr(NULL) + (all ? 0 : MOST_UNFLUSHED))
		XLogFlush(end);
}

/*
 * Adds to processes those that keep one of them waiting and are not among them yet; the
 * result is in the current memory context.  *found becomes true if another one is among those.
 */
static List *
add_blocking_processes(List *pids, int pid, int other, bool *found, MemoryContext asking)
{
	MemoryContext outer = MemoryContextSwitchTo(asking);
	ArrayType  *blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid)));
	int		   *blocking = (int *) ARR_DATA_PTR(blockers);
	int			count = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));

	MemoryContextSwitchTo(outer);
	for (int i = 0; i < count; i++)
	{
		if (blocking[i] == 0)
			continue;			/* a prepared transaction */
		*found = *found || blocking[i] == other;
		pids = list_append_unique_int(pids, blocking[i]);
	}
	/* each answer takes memory for as many processes as there may be */
	MemoryContextReset(asking);
	return pids;
}

/*
 * es_process_waits_for tells whether one of some processes waits for another one, if only over
 * others.  Each is asked for once: of those who queue for a lock each names all before it, so
 * there are more ways through a queue than anybody has time for.
 */
bool
es_process_waits_for(const List *pids, int other)
{
	MemoryContext asking = AllocSetContextCreate(CurrentMemoryContext, "eventstore blocking processes",
												 ALLOCSET_DEFAULT_SIZES);
	List	   *seen = list_copy(pids);
	bool		found = false;

	for (int i = 0; !found && i < list_length(seen); i++)
	{
		CHECK_FOR_INTERRUPTS();
		seen = add_blocking_processes(seen, list_nth_int(seen, i), other, &found, asking);
	}
	list_free(seen);
	MemoryContextDelete(asking);
	return found;
}

/*
 * es_process_is_wal_sent tells whether the server sends its WAL to anybody; one that just comes
 * may be missed.
 */
bool
es_process_is_wal_sent(void)
{
	for (int i = 0; i < max_wal_senders; i++)
		if (((volatile WalSnd *) &WalSndCtl->walsnds[i])->pid != 0)
			return true;
	return false;
}
