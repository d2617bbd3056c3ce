/*
 * earlyrelease.c
 *		Locks given back before the commit is on disk.
 *
 * The next append to a stream waits for the transaction of the one before, and most of
 * what it waits for is the disk: with synchronous_commit on, a transaction keeps its locks
 * until its commit record is flushed.  Nothing needs that.  The next one's commit record
 * comes later in the WAL, so it is never on disk without the first, and readers of the log
 * wait for the disk themselves (durable.c).
 *
 * So a transaction that has written events and nothing else commits as an asynchronous one
 * does, gives back its locks, and then flushes its commit record before the client learns
 * of anything.  To the client that is a synchronous commit, to other sessions an
 * asynchronous one.
 *
 * An asynchronous commit nudges the WAL writer, which on a server with few clients costs
 * them a twentieth of their commits.  So it is done only where somebody may gain: by a
 * session that has lately waited for another's append itself, and where somebody waits for the
 * events: who reads them flushes them, too, and need not be told of them after that.
 *
 * Whether something else was written is seen by the WAL: of this transaction's records
 * the first and the last must be of appends.  What users' functions write in the middle of
 * one cannot be told from it, so an append that may have run some does not count as one.
 * Notifications are not in the WAL, and who listens may act on one at once, so with these
 * locks are kept.  With a synchronous standby nothing changes: who waits for that one may be
 * cut off, and be seen nevertheless.
 */
#include "log/earlyrelease.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "log/durable.h"
#include "shared/wake.h"
#include "table/altered.h"

#define COMMITS_AFTER_WAIT	100 /* for which a session that has waited expects
								 * others */

static bool early_release = true;	/* GUC eventstore.early_release */

/* The end of the last record of this transaction's appends; 0: none, or others before. */
static XLogRecPtr written_to = InvalidXLogRecPtr;
static int	asked_for = -1;		/* synchronous_commit as it was; -1: not
								 * changed */
static int	others_expected = 0;	/* for so many commits */
static XLogRecPtr owed = InvalidXLogRecPtr; /* to be flushed after locks go */

/* Tells whether somebody may wait for this transaction, or for what it has appended. */
static bool
may_be_awaited(void)
{
	if (others_expected == 0)
		return es_wake_is_awaited();
	others_expected--;
	return true;
}

/*
 * Tells whether this transaction has notifications to send, or begins to listen: then it
 * cannot be prepared.  The server tells that by an error that needs nothing undone.
 */
static bool
has_notifications(void)
{
	MemoryContext context = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	volatile bool has = false;

	PG_TRY();
	{
		AtPrepare_Notify();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		InterruptHoldoffCount = holdoff;
		has = true;
	}
	PG_END_TRY();
	return has;
}

/* Tells whether this commit can be an asynchronous one, and somebody may gain. */
static bool
may_release_early(void)
{
	return !XLogRecPtrIsInvalid(written_to) && written_to == XactLastRecEnd && early_release &&
		synchronous_commit != SYNCHRONOUS_COMMIT_OFF && !es_durable_awaits_standby() && may_be_awaited() &&
		!has_notifications();
}

/* Makes the commit an asynchronous one; XactCallback. */
static void
release_early_at_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (may_release_early())
			{
				asked_for = synchronous_commit;
				synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
			}
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (asked_for >= 0)
			{
				synchronous_commit = asked_for;
				if (event == XACT_EVENT_COMMIT)
					owed = XactLastCommitEnd;
			}
			asked_for = -1;
			written_to = InvalidXLogRecPtr;
			break;
		default:
			break;
	}
}

/* Flushes what is owed, now that others go on; ResourceReleaseCallback. */
static void
flush_after_locks(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	XLogRecPtr	lsn = owed;

	if (likely(XLogRecPtrIsInvalid(lsn)) || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	owed = InvalidXLogRecPtr;
	XLogFlush(lsn);
}

/* Defines the GUC and follows transactions; called once, from _PG_init. */
void
es_earlyrelease_init(void)
{
	DefineCustomBoolVariable("eventstore.early_release",
							 "Transactions that only append give back their locks before their commit is on disk.",
							 "The client learns of the commit once it is on disk, whatever this says.",
							 &early_release, true, PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterXactCallback(release_early_at_xact_end, NULL);
	RegisterResourceReleaseCallback(flush_after_locks, NULL);
}

/*
 * es_earlyrelease_begin is called before events are written; what it gives is for
 * es_earlyrelease_end.  An append may have another within.
 */
EsOwnWrites
es_earlyrelease_begin(void)
{
	return (EsOwnWrites)
	{
		.only = XactLastRecEnd == written_to,.users_runs = es_altered_runs()
	};
}

/* es_earlyrelease_end is called when they have been. */
void
es_earlyrelease_end(EsOwnWrites writes)
{
	written_to = writes.only && writes.users_runs == es_altered_runs() ? XactLastRecEnd : InvalidXLogRecPtr;
}

/* es_earlyrelease_met_other is called when this session has to wait for another's append. */
void
es_earlyrelease_met_other(void)
{
	others_expected = COMMITS_AFTER_WAIT;
}
