/*
 * horizon.c
 *		Which deleted rows nobody sees any more, but for one process.
 *
 * Whom VACUUM goes by GetOldestNonRemovableTransactionId() tells.  It counts who waits in
 * es_scavenge(), too, whose snapshot is of before the events were removed, and which is to be
 * left out here (compact.c).  The server has no function for that.  A process that says of itself
 * that it does not count (PROC_IN_VACUUM) does not count for any table, and the statement has
 * others to read; and the list that the server goes through is its own.
 *
 * So all entries for processes and prepared transactions are gone through here, and those
 * count that the server would count:
 *
 * - Entries on the server's list.  One that has left it keeps what it had: a prepared
 *   transaction that has ended its xid, a walsender that has ended its standby's xmin.
 * - Of other databases only those that count for all, which are walsenders that hand on
 *   hot_standby_feedback without a slot (PROC_AFFECTS_ALL_HORIZONS).
 * - Of this process not its snapshots, which are for catalogs: a snapshot is as old as what is in
 *   flight in any database, so with them other databases would count after all.
 * - None that runs VACUUM or decodes the log: for that one its slot counts.
 * - Of slots their xmin, which is what a standby has given by hot_standby_feedback.  Their
 *   catalog_xmin is about catalogs, and tables that output plugins read.  Where somebody has made
 *   a segment such a table, nobody is left out.
 *
 * Of the server's answer and this one the newer one counts.  Both are right: the server's
 * for everybody, this one for all but one.  And no answer may be older than what VACUUM
 * goes by.  A row that was copied because it might be seen by somebody may have lost its
 * values out of line, as VACUUM and readers take these away by what they know of snapshots.
 */
#include "segment/horizon.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/rel.h"

/* Transactions that were prepared and have ended, of which entries still have the xid. */
typedef struct Ended
{
	TransactionId *xids;
	int			count;
} Ended;

/* The entry of a process, or, behind all of these, of a prepared transaction. */
static PGPROC *
entry_at(uint32 i)
{
	return &ProcGlobal->allProcs[i];
}

/* An entry's xid: once, as it may be given one at any time. */
static TransactionId
xid_of_entry(PGPROC *entry)
{
	return *(volatile TransactionId *) &entry->xid;
}

/*
 * Finds out which entries for prepared transactions have only kept their xid.  Before the
 * list is locked: who is asked locks it, too.  One that ends after this counts once more.
 */
static void
find_ended_transactions(Ended *ended)
{
	ended->xids = palloc(sizeof(TransactionId) * Max(max_prepared_xacts, 1));
	ended->count = 0;
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		TransactionId xid = xid_of_entry(entry_at(ProcGlobal->allProcCount + i));

		if (TransactionIdIsNormal(xid) && !TransactionIdIsInProgress(xid))
			ended->xids[ended->count++] = xid;
	}
}

/* Tells whether an entry is on the server's list, which is locked. */
static bool
is_entry_listed(uint32 i, const Ended *ended)
{
	PGPROC	   *entry = entry_at(i);
	TransactionId xid = xid_of_entry(entry);

	if (i < ProcGlobal->allProcCount)
		return BackendPidGetProcWithLock(entry->pid) == entry;
	for (int n = 0; n < ended->count; n++)
		if (ended->xids[n] == xid)
			return false;
	return true;
}

/* Tells whether an entry that is on the list counts for tables of this database. */
static bool
does_entry_count(const PGPROC *entry)
{
	if (entry->statusFlags & (PROC_IN_VACUUM | PROC_IN_LOGICAL_DECODING))
		return false;
	return entry->databaseId == MyDatabaseId || (entry->statusFlags & PROC_AFFECTS_ALL_HORIZONS) != 0;
}

/* The older one of two transactions, of which there may be none. */
static TransactionId
older_transaction(TransactionId a, TransactionId b)
{
	if (!TransactionIdIsNormal(a) || !TransactionIdIsNormal(b))
		return TransactionIdIsNormal(a) ? a : b;
	return TransactionIdPrecedes(a, b) ? a : b;
}

/* The oldest transaction that a process in flight may not see the end of, or 0. */
static TransactionId
horizon_of_entry(PGPROC *entry, const PGPROC *left_out)
{
	bool		blind = entry == left_out || entry == MyProc;

	return older_transaction(xid_of_entry(entry), blind ? InvalidTransactionId : entry->xmin);
}

/* Finds the oldest transaction that anybody but one process may not see the end of. */
static TransactionId
find_horizon_without(const PGPROC *left_out)
{
	TransactionId oldest = ReadNextTransactionId();
	TransactionId slots;
	TransactionId catalog;
	Ended		ended;

	find_ended_transactions(&ended);
	LWLockAcquire(ProcArrayLock, LW_SHARED);
	for (uint32 i = 0; i < ProcGlobal->allProcCount + max_prepared_xacts; i++)
	{
		PGPROC	   *entry = entry_at(i);
		TransactionId xmin = horizon_of_entry(entry, left_out);

		if (TransactionIdIsNormal(xmin) && TransactionIdPrecedes(xmin, oldest) && does_entry_count(entry) &&
			is_entry_listed(i, &ended))
			oldest = xmin;
	}
	LWLockRelease(ProcArrayLock);
	pfree(ended.xids);
	/* after the walsenders, as one may just hand its xmin to its slot */
	ProcArrayGetReplicationSlotXmin(&slots, &catalog);
	return older_transaction(oldest, slots);
}

/*
 * es_horizon_find tells the oldest transaction whose end a snapshot of any process but one, 0:
 * of any at all, may not see.  Rows of a segment that were deleted before it can go.
 */
TransactionId
es_horizon_find(Relation rel, int but)
{
	PGPROC	   *left_out = but == 0 ? NULL : BackendPidGetProc(but);
	TransactionId of_all = GetOldestNonRemovableTransactionId(rel);
	TransactionId of_others;

	if (left_out == NULL || RelationIsUsedAsCatalogTable(rel) || es_cleanup_is_deferred())
		return of_all;
	of_others = find_horizon_without(left_out);
	return TransactionIdFollows(of_others, of_all) ? of_others : of_all;
}
