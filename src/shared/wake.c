/*
 * wake.c
 *		Waking those who wait for news, as transactions end.
 *
 * Where the library is preloaded a waiter registers in shared memory, looks, and
 * sleeps on its latch; a transaction that has appended, or has changed what a
 * subscription delivers, sets the latches of those it has news for when it ends,
 * whichever way it ends: a rollback also closes holes.  Without preload nothing
 * here works, and waiters look again after short sleeps.
 *
 * News are 64 bits, made of categories, subscriptions and projections by a hash.
 * A waiter is interested in some of them, or in everything that happens in the
 * store.
 * Somebody who waits for a filtered subscription is not woken by what it
 * filters out, unless a transaction in flight is in its way: then it waits for
 * everything.
 *
 * What an appender pays: nobody waiting for its bits is known from one counter
 * a bit, read at the end of the transaction.  The counters are spread over a
 * table by database and bit; two that share one cost a look at the waiters.
 * Waiters are one short entry a backend, which only itself writes, but for the
 * word that is left with it (below).  If there are many, the appender wakes some
 * and delegates the rest to the store's worker, if that rests; if it is at work, which may
 * take long, he wakes all of them himself.
 *
 * Nobody is missed: a waiter registers before it looks, and an ending
 * transaction is visible before it reads the counters, with a full barrier in
 * between on both sides.  With a worker in between it is the same: the transaction is
 * visible before its bits are added, which is a full barrier; the worker takes them by an
 * exchange, another one, and then reads who waits.  A waiter that it does not find there
 * registers after that, and so looks after that.  No bits stay behind (roster.c).
 *
 * The latch alone does not do for that: what a look has to wait for - a lock, and since
 * PostgreSQL 18 a page - resets it.  So who wakes a waiter also leaves word with it, which
 * it looks for before it sleeps.  A woken process that was not waiting any more finds its
 * latch set and looks around, as it must anyway.
 */
#include "shared/wake.h"

#include "access/transam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "shared/memory.h"
#include "shared/roster.h"

#define CATEGORY_BITS	48
#define COUNTERS		1024	/* a power of two */
#define ANY				64		/* the counter of those who want everything */
#define MOST_DIRECTLY	16

/* A backend that waits; written by itself, but for told. */
typedef struct EsWaiterShared
{
	pg_atomic_uint64 interest;	/* 0: does not wait */
	pg_atomic_uint32 told;		/* by who woke it; it clears that */
	Oid			database;
	int			procno;
} EsWaiterShared;

typedef struct EsWakeShared
{
	pg_atomic_uint32 counters[COUNTERS];
	EsWaiterShared waiters[FLEXIBLE_ARRAY_MEMBER];	/* by number of backend */
} EsWakeShared;

#define NWAITERS	(MaxBackends + 1)

static EsWakeShared *shared = NULL;
static uint64 waiting_for = 0;	/* what this backend is registered for */
static bool has_news = false;	/* this transaction will have some */
static uint64 news = 0;

static void wake_at_xact_end(XactEvent event, void *arg);
static void end_wait_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg);

/* How much memory it takes. */
static Size
wake_size(void)
{
	return add_size(offsetof(EsWakeShared, waiters), mul_size(NWAITERS, sizeof(EsWaiterShared)));
}

/* Makes the memory. */
static void
start_wake(void *memory)
{
	EsWakeShared *wake = memory;

	for (int i = 0; i < COUNTERS; i++)
		pg_atomic_init_u32(&wake->counters[i], 0);
	for (int i = 0; i < NWAITERS; i++)
	{
		pg_atomic_init_u64(&wake->waiters[i].interest, 0);
		pg_atomic_init_u32(&wake->waiters[i].told, 0);
	}
}

/*
 * Adds the memory and follows transactions, if the library is preloaded; called
 * once, from _PG_init.
 */
void
es_wake_init(void)
{
	EsSharedPiece piece = {"eventstore waiters", wake_size, start_wake, (void **) &shared};

	es_shared_add(&piece);
	RegisterXactCallback(wake_at_xact_end, NULL);
	RegisterSubXactCallback(end_wait_at_subxact_end, NULL);
}

/* es_wake_works tells whether waiters are woken. */
bool
es_wake_works(void)
{
	return shared != NULL;
}

/* es_wake_category gives the bit of a category. */
uint64
es_wake_category(int32 category_key)
{
	return UINT64CONST(1) << ((uint32) category_key % CATEGORY_BITS);
}

/*
 * es_wake_object gives the bit of a subscription or a projection; the first few of
 * each have bits of their own.
 */
uint64
es_wake_object(EsWakeKind kind, int64 id)
{
	int			bits = 64 - CATEGORY_BITS;

	return UINT64CONST(1) << (CATEGORY_BITS + ((uint64) id + kind * (bits / 2)) % bits);
}

/* The counter for a bit of this database, or for ANY. */
static pg_atomic_uint32 *
find_counter(int bit)
{
	return &shared->counters[(murmurhash32(MyDatabaseId) + bit) & (COUNTERS - 1)];
}

/* ---- waiters ---- */

/* Counts this backend in, or out, for all that it waits for. */
static void
count_waiter(uint64 interest, int32 add)
{
	if (interest == ES_WAKE_ALL)
	{
		pg_atomic_fetch_add_u32(find_counter(ANY), add);
		return;
	}
	for (int bit = 0; bit < 64; bit++)
		if (interest & (UINT64CONST(1) << bit))
			pg_atomic_fetch_add_u32(find_counter(bit), add);
}

/*
 * es_wake_begin registers this backend as one that waits for news; to be called
 * before the look that tells that there are none yet.  es_wake_end undoes it; so
 * does an abort.
 */
void
es_wake_begin(uint64 interest)
{
	EsWaiterShared *waiter;

	if (shared == NULL || interest == 0)
		return;
	Assert(waiting_for == 0);
	waiter = &shared->waiters[es_my_backend()];
	waiter->database = MyDatabaseId;
	waiter->procno = es_my_procno();
	pg_atomic_write_u32(&waiter->told, 0);
	waiting_for = interest;
	pg_write_barrier();
	pg_atomic_write_u64(&waiter->interest, interest);
	count_waiter(interest, 1);	/* a full barrier */
}

/* es_wake_end ends what es_wake_begin began; does nothing if there is nothing. */
void
es_wake_end(void)
{
	if (waiting_for == 0)
		return;
	count_waiter(waiting_for, -1);
	pg_atomic_write_u64(&shared->waiters[es_my_backend()].interest, 0);
	waiting_for = 0;
}

/*
 * es_wake_is_registered tells whether this backend still is registered: whatever ends a
 * transaction or a subtransaction by an error ends that, too.
 */
bool
es_wake_is_registered(void)
{
	return waiting_for != 0;
}

/*
 * es_wake_told tells whether this backend was woken since it registered, or asked
 * before; to be asked between a look and the sleep after it.
 */
bool
es_wake_told(void)
{
	return waiting_for != 0 && pg_atomic_exchange_u32(&shared->waiters[es_my_backend()].told, 0) != 0;
}

/* ---- waking ---- */

/* Tells whether somebody may wait for these bits. */
static bool
somebody_waits(uint64 bits)
{
	if (pg_atomic_read_u32(find_counter(ANY)) != 0)
		return true;
	if (bits == ES_WAKE_ALL)
		return true;
	for (; bits != 0; bits &= bits - 1)
		if (pg_atomic_read_u32(find_counter(pg_rightmost_one_pos64(bits))) != 0)
			return true;
	return false;
}

/* Wakes who waits for these bits, at most so many; false if there are more. */
static bool
wake_waiters(uint64 bits, int most)
{
	for (int i = 0; i < NWAITERS; i++)
	{
		EsWaiterShared *waiter = &shared->waiters[i];
		uint64		interest = pg_atomic_read_u64(&waiter->interest);

		if (interest == 0 || (interest != ES_WAKE_ALL && (interest & bits) == 0))
			continue;
		pg_read_barrier();
		if (waiter->database != MyDatabaseId || waiter->procno == es_my_procno())
			continue;
		if (most-- == 0)
			return false;
		pg_atomic_write_u32(&waiter->told, 1);
		SetLatch(&GetPGProcByNumber(waiter->procno)->procLatch);
	}
	return true;
}

/* es_wake_now wakes who waits for these bits; what brings the news is visible. */
void
es_wake_now(uint64 bits)
{
	if (shared == NULL)
		return;
	pg_memory_barrier();
	if (somebody_waits(bits) && !wake_waiters(bits, MOST_DIRECTLY) &&
		!es_roster_delegate(bits != 0 ? bits : ES_WAKE_ALL))
		(void) wake_waiters(bits, INT_MAX);
}

/* es_wake_delegated wakes, in the worker as its rest ends, whom others have left to it. */
void
es_wake_delegated(void)
{
	uint64		bits = es_roster_stir();

	if (bits != 0)
		(void) wake_waiters(bits, INT_MAX);
}

/*
 * es_wake_note says that this transaction will have news when it ends.  Bits 0
 * are news for those who wait for everything only.
 */
void
es_wake_note(uint64 bits)
{
	has_news = true;
	news |= bits;
}

/* es_wake_is_awaited tells whether somebody waits for what this transaction will have. */
bool
es_wake_is_awaited(void)
{
	return has_news && shared != NULL && somebody_waits(news);
}

/*
 * Follows the end of transactions.  Both events come when what the transaction
 * has done is visible, or known to be undone, and is no holder of the sequence any
 * more.  A prepared one has nothing to say until its outcome is known.
 */
static void
wake_at_xact_end(XactEvent event, void *arg)
{
	bool		ended = event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT;

	if (!ended && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_ABORT)
		es_wake_end();
	if (has_news && ended)
		es_wake_now(news);
	has_news = false;
	news = 0;
}

/* Follows the end of subtransactions: an error that is caught may have ended a wait. */
static void
end_wait_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		es_wake_end();
}

/* es_wake_sleep sleeps until woken, at most that long; reacts to interrupts. */
void
es_wake_sleep(long sleep_ms)
{
	static uint32 wait_event = 0;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 sleep_ms, es_base_wait_event(&wait_event, "EventstoreWait"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
