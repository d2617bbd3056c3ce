/*
 * settle.c
 *		Positions: handing them out, and telling which are final.
 *
 * Positions come from a sequence, taken after every check of an append has
 * passed.  nextval keeps RowExclusiveLock on the sequence to the end of the
 * top-level transaction - through ROLLBACK TO, through PREPARE - so the lock
 * manager knows exactly which transactions may still fill a hole.  That is the
 * whole proof:
 *
 *	1. read the sequence's last value H;
 *	2. then read who holds the sequence (GetLockConflicts with ShareLock).
 *
 * A position up to H was handed out to a transaction that held the lock then.
 * Either it has ended before step 2 - its commit is visible to any snapshot
 * taken from now on, since commits become visible before locks are released -
 * or it is among the holders.  No holders: everything up to H is final.
 *
 * With holders, two things still move the settled position on.  Positions that
 * follow it without a hole, and are visible, need no proof.  And an epoch, a
 * pair (H, holders) noted at one look: when a later look finds none of those
 * holders, H is settled.  Transactions that hold no lock on the sequence, in
 * this database or another, are never waited for.
 *
 * PREPARE TRANSACTION gives a holder another identity: its virtual xid ends,
 * and a prepared one appears.  So when a noted holder is gone, prepared
 * holders that were not noted take its place in the epoch (a superset, which
 * only ever delays; prepared transactions do not change identity again).
 *
 * GetLockConflicts never names the caller.  Once this transaction has taken a
 * position, the first one bounds everything to its end, and what is learned
 * meanwhile is not kept.
 *
 * Durable before visible: an asynchronous commit is visible before it is on
 * disk, and a crash would take back what a reader saw and hand its position
 * out again.  So readers note the commit LSN of the rows that they return and
 * flush before they return; the settled position flushes up to the sequence's
 * page.  Rows of transactions below durable_xmin need no look.
 *
 * On a hot standby locks of the primary are not visible.  There the mark that
 * es_settle() wrote on the primary stands in for the proof: it was computed
 * before it was written, so a standby that sees it has replayed every commit
 * up to it.
 *
 * What has been proven is kept, in this backend and, when preloaded, for all of
 * them (sharedmark.c).  State here survives errors: each piece is a fact about
 * the log that no rollback of ours changes.  A crash leaves nothing.
 */
#include "settle.h"

#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_sequence.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "sequence.h"
#include "sharedmark.h"

#define FIRST_LOOKS		10

bool		es_read_durable = true;

PG_FUNCTION_INFO_V1(es_settled_position);
PG_FUNCTION_INFO_V1(es_settle);

/* One look at the holders of the sequence. */
typedef struct Holders
{
	VirtualTransactionId *ids;
	int			count;
} Holders;

/* The epoch that was noted: when none of holders is left, upto is settled. */
static struct
{
	bool		noted;
	int64		upto;
	Holders		holders;		/* in TopMemoryContext */
}			epoch;

static int64 settled = 0;		/* proven, by a transaction of ours that had
								 * taken no position */
static int64 own_first = PG_INT64_MAX;	/* first position that this
										 * transaction took */
static int	first_looks = FIRST_LOOKS;	/* that are left to a session that
										 * knows nothing yet */
static Oid	known_sequence = InvalidOid;	/* which log the above is about */

/* Durability: what is known to be on disk, and what the current read needs. */
static TransactionId durable_xmin = InvalidTransactionId;
static TransactionId pending_xmin = InvalidTransactionId;
static XLogRecPtr pending_lsn = InvalidXLogRecPtr;
static XLogRecPtr noted_lsn = InvalidXLogRecPtr;

/* ---- handing out ---- */

/* Forgets the positions of the transaction that ends. */
static void
forget_own_positions(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		own_first = PG_INT64_MAX;
}

/*
 * Raises unless the sequence hands out every number once, in order: with a
 * cache, a session would give out numbers later than it took them.
 */
static void
check_sequence(Oid sequence)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	Form_pg_sequence form;
	bool		good;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for eventstore.position_seq");
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	good = form->seqcache == 1 && form->seqincrement == 1 && !form->seqcycle;
	ReleaseSysCache(tuple);
	if (!good)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("sequence \"eventstore.position_seq\" has been altered"),
				errdetail("Readers would skip events."),
				errhint("Run ALTER SEQUENCE eventstore.position_seq INCREMENT 1 CACHE 1 NO CYCLE."));
}

/*
 * Forgets what is known if the log is another one than before: the extension
 * was dropped and made again.
 */
static void
check_log(void)
{
	Oid			sequence = es_base_store()->position_seq;

	if (likely(sequence == known_sequence))
		return;
	check_sequence(sequence);
	known_sequence = sequence;
	settled = 0;
	epoch.noted = false;
	first_looks = FIRST_LOOKS;
}

/* Registers what must happen at the end of transactions, and the GUC; called once, from _PG_init. */
void
es_settle_init(void)
{
	DefineCustomBoolVariable("eventstore.read_durable",
							 "Readers return an event only when its commit is on disk.",
							 "Off, a reader may see events of asynchronous commits that a crash takes back.",
							 &es_read_durable, true, PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterXactCallback(forget_own_positions, NULL);
}

/*
 * es_settle_take takes n positions next to each other and returns the first.
 * The transaction gets its xid first, so that whoever meets a position of ours
 * can wait for it.
 */
int64
es_settle_take(int64 n)
{
	int64		first;

	check_log();
	(void) GetCurrentTransactionId();
	first = es_sequence_take(es_base_store()->position_seq, n);
	if (own_first == PG_INT64_MAX)
		own_first = first;
	return first;
}

/* es_settle_own_first tells the first position that this transaction took, or PG_INT64_MAX. */
int64
es_settle_own_first(void)
{
	return own_first;
}

/* es_settle_last_given tells the last position ever given out, 0 for none. */
int64
es_settle_last_given(void)
{
	XLogRecPtr	lsn;

	return es_sequence_read(es_base_store()->position_seq, &lsn);
}

/* ---- the proof ---- */

/* Looks who may still fill holes; the result is in the current memory context. */
static Holders
look_at_holders(void)
{
	LOCKTAG		tag;
	Holders		look;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, es_base_store()->position_seq);
	look.ids = GetLockConflicts(&tag, ShareLock, &look.count);
	return look;
}

/* Tells whether a look has this holder. */
static bool
has_holder(const Holders *look, VirtualTransactionId id)
{
	for (int i = 0; i < look->count; i++)
		if (VirtualTransactionIdEquals(look->ids[i], id))
			return true;
	return false;
}

/* Notes the pair (upto, holders) as the epoch to wait for. */
static void
note_epoch(int64 upto, const Holders *look)
{
	/* twice the prepared ones: those noted first, and those added since */
	Size		size = sizeof(VirtualTransactionId) * (MaxBackends + 2 * max_prepared_xacts);

	if (epoch.holders.ids == NULL)
		epoch.holders.ids = MemoryContextAlloc(TopMemoryContext, size);
	memcpy(epoch.holders.ids, look->ids, sizeof(VirtualTransactionId) * look->count);
	epoch.holders.count = look->count;
	epoch.upto = upto;
	epoch.noted = true;
}

/* Adds the prepared transactions of a look to the epoch's holders. */
static void
add_prepared(Holders *noted, const Holders *look)
{
	for (int i = 0; i < look->count; i++)
		if (es_vxid_proc(look->ids[i]) == ES_INVALID_PROC && !has_holder(noted, look->ids[i]))
			noted->ids[noted->count++] = look->ids[i];
}

/*
 * Tells whether none of the epoch's holders is left.  Looks at them from the
 * last one, and only as far as one that is still there: the next look goes on
 * from that one.  A virtual transaction that has ended may have been prepared,
 * see the head of this file; prepared ones come on top and are waited for next.
 */
static bool
epoch_has_ended(const Holders *look)
{
	Holders    *noted = &epoch.holders;

	while (noted->count > 0)
	{
		VirtualTransactionId id = noted->ids[noted->count - 1];

		if (has_holder(look, id))
			return false;
		noted->count--;
		if (es_vxid_proc(id) != ES_INVALID_PROC)
			add_prepared(noted, look);
	}
	return true;
}

/*
 * Follows the visible rows that come after a position without a hole, up to a
 * last position, and returns the last of them.
 */
static int64
walk_contiguous(int64 after, int64 last)
{
	Snapshot	snapshot;
	bool		whole = true;

	if (after >= last)
		return after;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int64 n = es_segment_of(after + 1); whole && after < last && n <= es_segment_of(last); n++)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = snapshot,.own_slot = true,.nkeys = 1};

		ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
		if (!es_segment_scan_begin(&scan, n))
		{
			/* detached segments are final; those not made yet have nothing */
			if (n > es_segment_newest())
				break;
			after = Min(last, es_segment_last_position(n));
			continue;
		}
		while (whole && after < last && index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
		{
			bool		isnull;
			int64		position = DatumGetInt64(slot_getattr(scan.slot, Anum_es_events_position, &isnull));

			whole = position == after + 1;
			if (whole)
				after = position;
		}
		es_segment_scan_end(&scan);
		whole = whole && after == es_segment_last_position(n);
	}
	UnregisterSnapshot(snapshot);
	return after;
}

/* Reads the settled mark, 0 if there is none. */
static int64
read_mark(void)
{
	return es_store_read_number(es_base_store()->settled_mark, 0);
}

/* The settled position where locks tell nothing: the mark, and what follows it without a hole. */
static int64
compute_on_standby(void)
{
	int64		mark = Max(read_mark(), es_segment_sealed_upto());
	int64		last;

	/* a promotion may follow: nothing learned here is kept but the mark */
	settled = Max(settled, mark);
	last = walk_contiguous(settled, es_settle_last_given());
	return last;
}

/* es_settle_known tells what is known to be settled without a look. */
int64
es_settle_known(void)
{
	check_log();
	if (!RecoveryInProgress())
		settled = Max(settled, es_sharedmark_get(known_sequence));
	return Min(settled, own_first - 1);
}

/* Keeps, and tells other sessions, what has been proven. */
static void
keep_settled(int64 position)
{
	if (position <= settled)
		return;
	settled = position;
	es_sharedmark_raise(known_sequence, position);
}

/* es_settle_sleep sleeps until woken, at most that long; reacts to interrupts. */
void
es_settle_sleep(long sleep_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 sleep_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* One look at where the log is settled; *given becomes the last position given out. */
static int64
compute_once(int64 *given)
{
	XLogRecPtr	lsn;
	int64		now;
	Holders		look;

	settled = Max(settled, es_sharedmark_get(known_sequence));
	now = settled;

	*given = es_sequence_read(known_sequence, &lsn);
	look = look_at_holders();
	if (es_read_durable && XLogNeedsFlush(lsn))
		XLogFlush(lsn);
	if (look.count == 0)
	{
		now = *given;
		epoch.noted = false;
	}
	else
	{
		if (now == 0)
			now = Max(read_mark(), es_segment_sealed_upto());
		if (epoch.noted && epoch_has_ended(&look))
		{
			now = Max(now, epoch.upto);
			epoch.noted = false;
		}
		now = walk_contiguous(now, Min(*given, own_first - 1));
		if (!epoch.noted && own_first == PG_INT64_MAX)
			note_epoch(*given, &look);
	}
	pfree(look.ids);
	now = Min(now, own_first - 1);
	if (own_first == PG_INT64_MAX)
		keep_settled(now);
	return now;
}

/*
 * es_settle_compute tells the settled position now.  A snapshot taken after
 * this call sees every event up to it that will ever be.
 *
 * A session's first look, under load, may meet holes that it cannot tell from
 * positions in flight, since it has noted no epoch yet.  Then it looks again
 * for a few milliseconds, once, so that sessions that live for one query get
 * past old holes too; whether that helps or not, only proof counts.
 */
int64
es_settle_compute(void)
{
	int64		given;
	int64		goal;
	int64		now;

	es_base_flush_pending();
	check_log();
	if (RecoveryInProgress())
		return compute_on_standby();

	now = compute_once(&given);
	goal = given;
	for (; first_looks > 0 && now < goal && own_first == PG_INT64_MAX; first_looks--)
	{
		es_settle_sleep(1);
		now = compute_once(&given);
	}
	first_looks = 0;
	return now;
}

/*
 * es_settle_learn keeps what a reader found: that every position up to this one
 * is final.
 */
void
es_settle_learn(int64 position)
{
	check_log();
	if (own_first == PG_INT64_MAX && !RecoveryInProgress())
		keep_settled(position);
}

/*
 * es_settled_position(): every position up to it is final.
 *
 * 0 for an empty log.  Does not wait for other transactions; within a
 * transaction that has appended, stays below its own first position.
 */
Datum
es_settled_position(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_settle_compute());
}

/*
 * es_settle(): writes the settled position where hot standbys read it.
 *
 * Returns it.  25006 on a standby.  Others that call it wait until this
 * transaction ends; a rollback takes the mark back and harms nothing.
 */
Datum
es_settle(PG_FUNCTION_ARGS)
{
	int64		position;

	PreventCommandIfReadOnly("es_settle()");
	LockRelationOid(es_base_store()->settled_mark, ShareRowExclusiveLock);
	position = es_settle_compute();
	CommandCounterIncrement();	/* a mark of this very statement is to be seen */
	if (read_mark() < position)
		es_store_write_number(es_base_store()->settled_mark, position);
	PG_RETURN_INT64(position);
}

/* ---- durable before visible ---- */

/*
 * es_settle_note_snapshot begins a read: what was pending from the read before
 * may be on disk by now, and this snapshot's horizon is noted for the next.
 */
void
es_settle_note_snapshot(Snapshot snapshot)
{
	if (RecoveryInProgress())
		return;
	if (TransactionIdIsValid(durable_xmin) && TransactionIdPrecedes(snapshot->xmin, durable_xmin))
		durable_xmin = InvalidTransactionId;	/* xids wrapped since */
	if (!XLogRecPtrIsInvalid(pending_lsn) && GetFlushRecPtr(NULL) >= pending_lsn)
	{
		durable_xmin = pending_xmin;
		pending_lsn = InvalidXLogRecPtr;
	}
	if (XLogRecPtrIsInvalid(pending_lsn))
	{
		pending_xmin = snapshot->xmin;
		pending_lsn = GetXLogInsertRecPtr();
	}
}

/* es_settle_note_row notes that a visible row of a segment will be returned. */
void
es_settle_note_row(TupleTableSlot *slot)
{
	TransactionId xmin = es_base_slot_xmin(slot);
	XLogRecPtr	lsn;

	if (!TransactionIdIsNormal(xmin))
		return;
	if (TransactionIdIsValid(durable_xmin) && TransactionIdPrecedes(xmin, durable_xmin))
		return;
	if (TransactionIdIsCurrentTransactionId(xmin))
		return;
	lsn = TransactionIdGetCommitLSN(xmin);
	if (lsn > noted_lsn)
		noted_lsn = lsn;
}

/* es_settle_flush_noted makes the commits of the noted rows durable; called before rows leave the server. */
void
es_settle_flush_noted(void)
{
	if (es_read_durable && !XLogRecPtrIsInvalid(noted_lsn) && !RecoveryInProgress())
		XLogFlush(noted_lsn);
	noted_lsn = InvalidXLogRecPtr;
}
