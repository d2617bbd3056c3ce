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
 * With holders, everything is final up to where the first of them begins; holders.c
 * finds out where that is.  Where nothing is known of one, what follows a settled
 * position without a hole and is visible needs no proof.  Transactions that hold no
 * lock on the sequence, in this database or another, are never waited for.
 *
 * GetLockConflicts never names the caller.  Once this transaction has taken a
 * position, the first one bounds everything to its end.
 *
 * The settled position is made durable up to the sequence's page before it is
 * told (durable.c).
 *
 * On a hot standby locks of the primary are not visible.  There the mark that
 * es_settle(), or the worker, wrote on the primary stands in for the proof: it
 * was computed before it was written, so a standby that sees it has replayed
 * every commit up to it.  The same mark serves on a logical subscriber, once all
 * of the store has been copied there (subscriber.c): from then on its rows come in
 * order of commit.  Its own sequence says nothing.
 *
 * Readers by the mark stop at a hole until the mark has passed it.  So a transaction
 * that leaves one, which is whoever rolls back what has positions, lets the worker know
 * as it ends (shared/roster.c), and a mark is written as soon as the hole is settled.
 *
 * Who comes here uses the store, and lets others know: that it is not being loaded
 * any more (shared/mark.c; the worker does not tell), and, as the first transaction
 * commits, that it is there (shared/roster.c).
 *
 * What has been proven is kept, in this backend and, when preloaded, for all of
 * them (shared/mark.c).  State here survives errors: each piece is a fact about
 * the log that no rollback of ours changes.  A crash leaves nothing.
 */
#include "log/settle.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"
#include "utils/syscache.h"

#include "base/call.h"
#include "base/event.h"
#include "base/pending.h"
#include "log/durable.h"
#include "log/holders.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "log/walmark.h"
#include "rights/right.h"
#include "shared/flight.h"
#include "shared/mark.h"
#include "shared/roster.h"
#include "shared/wake.h"
#include "table/rows.h"
#include "table/sequence.h"

#define FIRST_LOOKS		10
#define SHORT_WALK		10000

bool		es_settle_for_worker = false;

EsRelation	es_settle_mark = {"settled_mark"};

static const EsColumn mark_columns[] = {{"position", INT8OID}};
const EsShape es_settle_mark_shape = ES_SHAPE(&es_settle_mark, NULL, mark_columns);

PG_FUNCTION_INFO_V1(es_settled_position);
PG_FUNCTION_INFO_V1(es_settle);

static int64 settled = 0;		/* proven */
static int64 own_first = PG_INT64_MAX;	/* first position that this
										 * transaction took */
static int64 own_last = 0;		/* last position that this backend took */
static SubTransactionId last_taker = InvalidSubTransactionId;	/* which took it */
static int64 own_hole = 0;		/* last position that is a hole once this
								 * transaction ends */
static int	first_looks = FIRST_LOOKS;	/* that are left to a session that
										 * knows nothing yet */
static Oid	known_sequence = InvalidOid;	/* which log the above is about */
static bool by_mark = false;	/* positions are given out elsewhere */
static bool subscribed = false; /* settled is of a logical subscriber */
static bool is_new = false;		/* the roster has not heard of it yet */

/* ---- handing out ---- */

/*
 * Reports, at a transaction's end, the last position that it leaves empty.  Of what
 * is prepared it is not known until it ends, and then it may be any (server/statements.c).
 */
static void
report_own_hole(bool rolled_back)
{
	int64		hole = rolled_back && own_first != PG_INT64_MAX ? Max(own_hole, own_last) : own_hole;

	if (unlikely(hole != 0))
		es_roster_report_hole(hole);
}

/* Follows the end of transactions: their positions are not this one's any more. */
static void
drop_positions_at_xact_end(XactEvent event, void *arg)
{
	bool		ended = event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT;

	if (event == XACT_EVENT_PRE_PREPARE && own_first != PG_INT64_MAX)
		es_flight_prepare();
	if (event == XACT_EVENT_COMMIT && is_new)
	{
		es_roster_announce();
		is_new = false;
	}
	if (ended)
		report_own_hole(event == XACT_EVENT_ABORT);
	if (ended || event == XACT_EVENT_PREPARE)
	{
		own_first = PG_INT64_MAX;
		own_hole = 0;
	}
}

/*
 * Follows the end of subtransactions: one that rolls back leaves the positions empty
 * that it, or one inside it, has taken.  Of these the newest took the last position of
 * all, and ids of subtransactions rise.
 */
static void
note_hole_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && own_first != PG_INT64_MAX && last_taker >= subid)
		own_hole = own_last;
}

/*
 * Raises unless the sequence hands out every number once, in order: with a
 * cache, a session would give out numbers later than it took them.
 */
static void
check_sequence_options(Oid sequence)
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
 * Tells whether this transaction has taken positions past us, with nextval: then
 * it cannot say where its positions begin.
 */
static bool
holds_sequence(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, known_sequence);
	return es_holds_lock(&tag, RowExclusiveLock);
}

/*
 * Forgets what is known if the log is another one than before: the extension
 * was dropped and made again.
 */
static void
check_known_log(void)
{
	Oid			sequence = es_base_oid(&es_base_position_seq);

	/* what a subscriber's sequence told, or was known before a copy */
	if (unlikely(es_subscriber_is() != subscribed || (subscribed && !es_subscriber_state.complete)))
	{
		subscribed = es_subscriber_state.exists;
		settled = 0;
	}
	if (likely(sequence == known_sequence))
		return;
	check_sequence_options(sequence);
	if (!es_settle_for_worker)
		es_sharedmark_set_loading(sequence, false);
	known_sequence = sequence;
	is_new = true;
	settled = own_last = 0;

	/*
	 * another log than before in one transaction: where ours begin is not
	 * known
	 */
	own_first = holds_sequence() ? 1 : PG_INT64_MAX;
	es_holders_forget();
	first_looks = FIRST_LOOKS;
}

/* Registers what must happen at the end of transactions; called once, from _PG_init. */
void
es_settle_init(void)
{
	RegisterXactCallback(drop_positions_at_xact_end, NULL);
	RegisterSubXactCallback(note_hole_at_subxact_end, NULL);
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

	check_known_log();
	(void) GetCurrentTransactionId();
	if (own_first == PG_INT64_MAX)
	{
		if (!holds_sequence())
			es_flight_begin(Max(settled, own_last));
		es_wake_note(0);
	}
	first = es_sequence_take(&es_base_position_seq, n);
	if (unlikely(es_base_position_seq.oid != known_sequence))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("sequence \"eventstore.position_seq\" was replaced while it was waited for"),
				errhint("Retry the transaction."));
	if (own_first == PG_INT64_MAX)
	{
		es_flight_take(first);
		own_first = first;
	}
	own_last = first + n - 1;
	last_taker = GetCurrentSubTransactionId();
	return first;
}

/*
 * es_settle_note_hole says that a position, and perhaps some below it, stays empty,
 * though this transaction may commit: it has taken it in vain, or skipped it.
 */
void
es_settle_note_hole(int64 position)
{
	own_hole = Max(own_hole, position);
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

	return es_sequence_read(&es_base_position_seq, &lsn);
}

/* ---- the proof ---- */

/*
 * Follows the visible rows that come after a position without a hole, up to a
 * last position, and returns the last of them.
 */
static int64
walk_contiguous_rows(int64 after, int64 last)
{
	Snapshot	snapshot;
	bool		whole = true;

	if (after >= last)
		return after;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int64 n = es_segment_of(after + 1); whole && after < last && n <= es_segment_of(last); n++)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true,.nkeys = 1};

		ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
		if (!es_scan_begin(&scan, n))
		{
			/*
			 * Who has positions of a lost segment can write them no more;
			 * those of one that is not made yet may come.
			 */
			int64		end = es_segment_last_position(n);

			if (!scan.lost)
				break;
			after = Min(last, end);
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
		es_scan_end(&scan);
		whole = whole && after == es_segment_last_position(n);
	}
	UnregisterSnapshot(snapshot);
	return after;
}

/* Reads the settled mark, 0 if there is none. */
static int64
read_settled_mark(void)
{
	return es_rows_read_number(&es_settle_mark_shape, 0);
}

/* The settled position as the tables have it, written for standbys or for the sake of sealing. */
static int64
read_written_settled(void)
{
	int64		mark = read_settled_mark();
	int64		sealed = es_segment_sealed_upto();

	return Max(mark, sealed);
}

/*
 * The settled position where locks tell nothing: what was written of it, and what
 * follows that without a hole, up to a last position.
 */
static int64
compute_settled_by_mark(int64 last)
{
	/* a promotion may follow: nothing learned here is kept but the mark */
	int64		marked = read_written_settled();
	int64		final;

	if (es_subscriber_has_all())
	{
		settled = Max(settled, Min(marked, last));
		final = walk_contiguous_rows(settled, last);
		/* another table may have begun to be copied meanwhile */
		if (es_subscriber_has_all())
			return Min(final, own_first - 1);
	}
	return Min(settled, own_first - 1);
}

/*
 * The settled position of a logical subscriber, whose segments tell how far its
 * log may reach.
 */
static int64
compute_settled_by_segments(void)
{
	int64		position = compute_settled_by_mark(es_segment_last_position(es_segment_newest_reaching(PG_INT64_MAX)));

	/* rows that are visible stay, whoever goes on here */
	if (!RecoveryInProgress())
		settled = Max(settled, position);
	return position;
}

/* es_settle_known tells what is known to be settled without a look. */
int64
es_settle_known(void)
{
	check_known_log();
	if (!RecoveryInProgress() && !subscribed)
	{
		int64		shared = es_sharedmark_get(known_sequence);

		settled = Max(settled, shared);
	}
	return Min(settled, own_first - 1);
}

/* Keeps, and tells other sessions, what has been proven; gives what is known then. */
static int64
keep_settled(int64 position)
{
	if (position > settled)
	{
		settled = position;
		if (!subscribed)
			es_sharedmark_raise(known_sequence, position);
	}
	return Min(settled, own_first - 1);
}

/*
 * One look at where the log is settled; *given becomes the last position given
 * out, but for our own.  Where holders say nothing of themselves, what follows
 * without a hole is looked at, walk positions at most.
 */
static int64
prove_settled(int64 *given, int64 walk)
{
	XLogRecPtr	lsn;
	EsHolder   *holders;
	int			count;
	bool		known;
	int64		now;
	int64		lowest;

	do
	{
		now = es_settle_known();
		*given = es_sequence_read(&es_base_position_seq, &lsn);
	} while (es_base_position_seq.oid != known_sequence);
	*given = Min(*given, own_first - 1);
	holders = es_holders_look(known_sequence, &count);
	es_durable_flush(lsn);
	if (count > 0 && now == 0)
		now = read_written_settled();
	lowest = es_holders_find_lowest(holders, count, now, &known);
	lowest = Min(*given, lowest);
	now = Max(now, lowest);
	if (!known && now < *given)
		now = walk_contiguous_rows(now, now + Min(*given - now, walk));
	es_holders_note(*given, holders, count);
	pfree(holders);
	return keep_settled(now);
}

/*
 * es_settle_compute tells the settled position now.  A snapshot taken after
 * this call sees every event up to it that will ever be.
 *
 * A session's first look, under load, may meet holes that it cannot tell from
 * positions in flight, where holders say nothing of themselves.  Then it looks
 * again for a few milliseconds, once, so that sessions that live for one query
 * get past old holes too; whether that helps or not, only proof counts.
 */
int64
es_settle_compute(void)
{
	int64		given;
	int64		goal;
	int64		now;

	es_call_refuse_parallel();
	es_pending_flush();
	check_known_log();
	if (!es_settle_for_worker)
		es_sharedmark_set_loading(known_sequence, false);
	by_mark = subscribed;
	if (subscribed)
		return compute_settled_by_segments();
	if (RecoveryInProgress())
		return compute_settled_by_mark(es_settle_last_given());

	now = prove_settled(&goal, first_looks > 0 ? SHORT_WALK : PG_INT64_MAX);
	while (now < goal && first_looks > 0 && !es_flight_is_shared() && own_first == PG_INT64_MAX)
	{
		first_looks--;
		es_wake_sleep(1);
		now = prove_settled(&given, first_looks > 0 ? SHORT_WALK : PG_INT64_MAX);
	}
	first_looks = 0;
	return now;
}

/*
 * es_settle_is_by_mark tells whether positions are given out elsewhere, and nobody
 * is woken as they come.
 */
bool
es_settle_is_by_mark(void)
{
	return by_mark || RecoveryInProgress();
}

/*
 * es_settle_hindered tells whether the last es_settle_compute() left positions out:
 * transactions in flight have them.
 */
bool
es_settle_hindered(void)
{
	return es_holders_noted_upto() > settled;
}

/*
 * es_settle_learn keeps what a reader found: that every position up to this one
 * is final.
 */
void
es_settle_learn(int64 position)
{
	check_known_log();
	if (!RecoveryInProgress() && es_subscriber_has_all())
		(void) keep_settled(Min(position, own_first - 1));
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
	es_right_require_any(ES_RIGHTS_ALL);
	PG_RETURN_INT64(es_settle_compute());
}

/*
 * es_settle_write_mark writes the settled position where hot standbys read it; on a
 * logical subscriber the publisher's is there.  The caller holds ShareRowExclusiveLock
 * on the table, to the end of its transaction.
 */
int64
es_settle_write_mark(void)
{
	int64		position = es_settle_compute();
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (subscribed)
		return position;
	CommandCounterIncrement();	/* a mark of this very statement is to be seen */
	if (read_settled_mark() < position)
	{
		es_rows_write_number(&es_settle_mark_shape, position);
		es_walmark_add(lsn, position);
	}
	return position;
}

/*
 * es_settle(): writes the settled position where hot standbys read it.
 *
 * Returns it.  25006 on a standby.  Others that call it wait until this
 * transaction ends; a rollback takes the mark back and harms nothing.  On a
 * logical subscriber nothing is written: the publisher's mark is there.
 */
Datum
es_settle(PG_FUNCTION_ARGS)
{
	es_right_require(ES_RIGHT_ADMIN, NULL);
	PreventCommandIfReadOnly("es_settle()");
	es_base_lock(&es_settle_mark, ShareRowExclusiveLock);
	PG_RETURN_INT64(es_settle_write_mark());
}
