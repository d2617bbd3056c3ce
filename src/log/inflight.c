/*
 * inflight.c
 *		Who holds the settled position back.
 *
 * They are those who hold the sequence that positions come from (settle.c): sessions,
 * and prepared transactions, which have left theirs.  Of each it is told since when, and
 * where its positions begin, as far as shared/flight.c knows.  A session shows
 * itself, too, if it has taken positions; the lock manager never names the caller.
 *
 * Who ends while this looks may be missing.  Where positions are given out elsewhere,
 * on a hot standby or a logical subscriber, nobody here holds anything back.
 */
#include "base/base.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/call.h"
#include "base/objects.h"
#include "base/pending.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "shared/flight.h"

#define Natts_holders		4

PG_FUNCTION_INFO_V1(es_position_holders);

/* A transaction that has taken positions, and may take more. */
typedef struct PositionHolder
{
	int			pid;			/* 0: it is prepared */
	TransactionId xid;			/* of a prepared one */
	TimestampTz since;			/* 0: not known */
	int64		first_position; /* none of its positions is below; 0: not
								 * known */
} PositionHolder;

/* Puts a transaction into the result. */
static void
return_holder(ReturnSetInfo *result, const PositionHolder *holder)
{
	Datum		values[Natts_holders];
	bool		isnull[Natts_holders];

	values[0] = Int32GetDatum(holder->pid);
	isnull[0] = holder->pid == 0;
	values[1] = TransactionIdGetDatum(holder->xid);
	isnull[1] = holder->pid != 0;
	values[2] = TimestampTzGetDatum(holder->since);
	isnull[2] = holder->since == 0;
	values[3] = Int64GetDatum(holder->first_position);
	isnull[3] = holder->first_position == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* When a session's transaction began; 0 if the server does not know (track_activities). */
static TimestampTz
find_transaction_start(int pid)
{
	int			count = pgstat_fetch_stat_numbackends();

	for (int n = 1; n <= count; n++)
	{
		LocalPgBackendStatus *entry = es_activity_entry(n);

		if (entry && entry->backendStatus.st_procpid == pid)
			return entry->backendStatus.st_xact_start_timestamp;
	}
	return 0;
}

/* Finds out whose a transaction is; false if it has ended. */
static bool
identify_holder(VirtualTransactionId id, PositionHolder *holder)
{
	PGPROC	   *process;
	bool		more;

	memset(holder, 0, sizeof(*holder));
	if (es_vxid_proc(id) == ES_INVALID_PROC)
	{
		/* prepared before the server was restarted */
		holder->xid = id.localTransactionId;
		return true;
	}
	holder->xid = TwoPhaseGetXidByVirtualXID(id, &more);
	if (TransactionIdIsValid(holder->xid))
		return true;
	process = es_vxid_process(id);
	if (process == NULL)
		return false;
	holder->pid = process->pid;
	if (holder->pid == 0 || es_process_lxid(process) != id.localTransactionId)
		return false;
	holder->since = find_transaction_start(holder->pid);
	return true;
}

/* Tells whether an id was there before, as that of a transaction that is being prepared may be. */
static bool
was_holder_seen(const VirtualTransactionId *ids, int n)
{
	for (int i = 0; i < n; i++)
		if (VirtualTransactionIdEquals(ids[i], ids[n]))
			return true;
	return false;
}

/* Puts the others into the result. */
static void
return_other_holders(ReturnSetInfo *result, const LOCKTAG *tag)
{
	int			count;
	VirtualTransactionId *ids = GetLockConflicts(tag, ShareLock, &count);

	/* the server keeps one look at all sessions for a whole transaction */
	pgstat_clear_backend_activity_snapshot();
	for (int i = 0; i < count; i++)
	{
		PositionHolder holder;
		int64		below;

		CHECK_FOR_INTERRUPTS();
		if (was_holder_seen(ids, i) || !identify_holder(ids[i], &holder))
			continue;
		if (es_flight_find(ids[i], &below))
		{
			if (below == PG_INT64_MAX)
				continue;		/* prepared, and has no events */
			holder.first_position = below + 1;
		}
		return_holder(result, &holder);
	}
}

/*
 * position_holders(OUT pid, OUT transaction, OUT since, OUT first_position): who holds
 * the settled position back.
 *
 * A session's pid, or the id of a prepared transaction; since when a session's
 * transaction runs; the position that all of its own come from on, NULL where that is
 * not known.  No rows on a hot standby and on a logical subscriber, and for who has no
 * right at all.  Behind the view es_in_flight.
 */
Datum
es_position_holders(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);
	int64		own_first;
	LOCKTAG		tag;

	es_call_refuse_parallel();
	es_pending_flush();
	if (!es_right_has_any(ES_RIGHTS_ALL) || RecoveryInProgress() || es_subscriber_is())
		return (Datum) 0;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, es_base_oid(&es_base_position_seq));
	return_other_holders(result, &tag);
	own_first = es_settle_own_first();
	if (own_first != PG_INT64_MAX || es_holds_lock(&tag, RowExclusiveLock))
	{
		PositionHolder own = {.pid = MyProcPid,.since = GetCurrentTransactionStartTimestamp()};

		own.first_position = own_first == PG_INT64_MAX ? 0 : own_first;
		return_holder(result, &own);
	}
	return (Datum) 0;
}
