/*
 * lock.c
 *		The locks that appends of one stream exclude each other by.
 *
 * The short lock.  Appenders of one stream exclude each other for the few
 * microseconds between looking at the stream's tip and having written a new
 * one.  The lock is on a hash of the name, because a new stream has no id yet;
 * it is released at the end of the call, so a transaction may append to any
 * number of streams.  While holding it nobody waits for a transaction that
 * appends; only for I/O and, at most, for DDL on a table of the store.
 *
 * The gate is what calls over many streams take instead: the lock on
 * eventstore.append_gate, a view that is there for nothing else.  Whoever takes
 * short locks of streams has it in ROW EXCLUSIVE mode, which is a fast-path lock
 * and shared with everybody; a call over many streams has it in SHARE ROW
 * EXCLUSIVE mode and excludes everybody: one lock, and no more whatever the
 * number of streams.
 *
 * The queue.  Waiters of one hot stream would all wake at each commit.  So who
 * has met a tip in progress takes, before waiting, another lock on the hash of
 * the name: one waits for the transaction, the others for the queue, in order of
 * arrival.  The owner of the tip never needs the queue, so a deadlock through it
 * is one through the stream, and found as such.
 *
 * The locks on hashes are object locks of class eventstore.streams, which
 * nobody else takes; not advisory locks, which users could hold.
 *
 * Order of locks: queue of a stream; the gate; short locks, ascending.  After an error
 * all are gone with the transaction.
 */
#include "stream/lock.h"

#include "miscadmin.h"
#include "storage/lmgr.h"

#include "base/names.h"
#include "base/objects.h"
#include "log/earlyrelease.h"
#include "log/settle.h"
#include "shared/counter.h"
#include "shared/flight.h"

/* What the objsubid of lock tags on hashes says. */
#define TAG_SHORT		1
#define TAG_QUEUE		2

/* How often, and at which intervals, to look whether writers are done before waiting for a lock. */
#define LOOKS			20
#define LOOK_EVERY_US	50

static EsRelation append_gate = {"append_gate",.kind = RELKIND_VIEW};

static LOCKTAG
make_hash_tag(uint32 hash, uint16 kind)
{
	return es_base_tag(&es_base_streams, hash, kind);
}

static LOCKTAG
make_gate_tag(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, es_base_oid(&append_gate));
	return tag;
}

static void
acquire_tag(LOCKTAG tag, LOCKMODE mode)
{
	(void) LockAcquire(&tag, mode, false, false);
}

static void
release_tag(LOCKTAG tag, LOCKMODE mode)
{
	(void) LockRelease(&tag, mode, false);
}

/*
 * es_streamlock_lock_table takes the lock on the table of streams that an
 * append needs anyway, before any short lock: DDL may make it wait.
 */
void
es_streamlock_lock_table(void)
{
	es_base_lock(&es_base_streams, RowExclusiveLock);
}

/*
 * es_streamlock_freeze waits until no transaction is in flight that has appended,
 * and keeps all appends off to the end of this transaction; they wait before they
 * have a short lock.  Returns the last position that was given out: up to it all
 * is final.  That may be past what is known to be settled: who has taken back an
 * append to a savepoint, and nothing else, has given this lock back but is still
 * a holder of the sequence.
 */
int64
es_streamlock_freeze(void)
{
	es_base_lock(&es_base_streams, ShareLock);
	return es_settle_last_given();
}

/*
 * es_streamlock_add makes the short lock on a stream one that is wanted, to write events with
 * some tags there, if any.
 */
void
es_streamlock_add(EsStreamLocks *locks, const text *name, uint64 tag_bits)
{
	locks->tag_bits |= tag_bits;
	if (locks->count < ES_STREAM_FEW)
		locks->hashes[locks->count++] = es_names_hash(name);
	else
		locks->all = true;
}

/* Compares two hashes, for sorting. */
static int
compare_name_hashes(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

/* es_streamlock_acquire takes the wanted locks, in order. */
void
es_streamlock_acquire(EsStreamLocks *locks)
{
	acquire_tag(make_gate_tag(), locks->all ? ShareRowExclusiveLock : RowExclusiveLock);
	if (!locks->all)
	{
		if (locks->count > 1)
			qsort(locks->hashes, locks->count, sizeof(uint32), compare_name_hashes);
		for (int i = 0; i < locks->count; i++)
			acquire_tag(make_hash_tag(locks->hashes[i], TAG_SHORT), ExclusiveLock);
	}
	locks->depth = es_flight_begin_writing(locks->tag_bits);
}

/* es_streamlock_release gives them back. */
void
es_streamlock_release(const EsStreamLocks *locks)
{
	es_flight_end_writing(locks->depth);
	if (!locks->all)
		for (int i = 0; i < locks->count; i++)
			release_tag(make_hash_tag(locks->hashes[i], TAG_SHORT), ExclusiveLock);
	release_tag(make_gate_tag(), locks->all ? ShareRowExclusiveLock : RowExclusiveLock);
}

/* Tells whether two sets of transactions have one in common; each ends with an invalid one. */
static bool
have_common_transaction(const VirtualTransactionId *a, const VirtualTransactionId *b)
{
	for (; VirtualTransactionIdIsValid(*a); a++)
		for (const VirtualTransactionId *c = b; VirtualTransactionIdIsValid(*c); c++)
			if (VirtualTransactionIdEquals(*a, *c))
				return true;
	return false;
}

/*
 * es_streamlock_await_writers waits until all that hold short locks now, and may write
 * below a position that was given out, have given them back: after that, every position
 * below it that will ever have an event has its row.  Those are left out who say that they write
 * no event with such tags.  The caller holds no short lock.
 *
 * They are gone in microseconds, so it looks a few times: at what writers say of
 * themselves where the library is preloaded, else at the locks.  Who appends without
 * pause may seem to be there all the time; then a lock on the gate decides,
 * behind which others have to queue up.
 */
void
es_streamlock_await_writers(int64 position, const EsFlightTags *tags)
{
	LOCKTAG		gate = make_gate_tag();
	VirtualTransactionId *writers;
	bool		done;

	if (es_flight_await_writers(position, tags))
		return;
	writers = GetLockConflicts(&gate, ShareLock, NULL);
	done = !VirtualTransactionIdIsValid(writers[0]);
	for (int i = 0; i < LOOKS && !done; i++)
	{
		VirtualTransactionId *now;

		es_base_nap(LOOK_EVERY_US);
		CHECK_FOR_INTERRUPTS();
		now = GetLockConflicts(&gate, ShareLock, NULL);
		done = !have_common_transaction(writers, now);
		pfree(now);
	}
	pfree(writers);
	if (done)
		return;
	acquire_tag(gate, ShareLock);
	release_tag(gate, ShareLock);
}

/*
 * es_streamlock_await waits for a transaction that has appended to a stream or changed it, or
 * decides a condition.  That it waits is counted before, and for how long once it goes on.
 */
void
es_streamlock_await(TransactionId transaction)
{
	instr_time	start;

	es_counter_add(ES_COUNT_APPEND_LOCK_WAITS, 1);
	es_earlyrelease_met_other();
	es_counter_start(&start);
	XactLockTableWait(transaction, NULL, NULL, XLTW_None);
	es_counter_add(ES_COUNT_APPEND_LOCK_WAIT_TIME, es_counter_elapsed(&start));
}

/* es_streamlock_queue takes the place at the head of a stream's queue; waits for it. */
void
es_streamlock_queue(EsStreamQueue *queue, const text *name)
{
	instr_time	start;

	queue->tag = make_hash_tag(es_names_hash(name), TAG_QUEUE);
	if (LockAcquire(&queue->tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		return;
	es_counter_add(ES_COUNT_APPEND_LOCK_WAITS, 1);
	es_earlyrelease_met_other();
	es_counter_start(&start);
	acquire_tag(queue->tag, ExclusiveLock);
	es_counter_add(ES_COUNT_APPEND_LOCK_WAIT_TIME, es_counter_elapsed(&start));
}

/* es_streamlock_leave_queue gives the place in the queue to the next. */
void
es_streamlock_leave_queue(EsStreamQueue *queue)
{
	release_tag(queue->tag, ExclusiveLock);
}
