/*
 * flight.c
 *		Where the positions of each transaction in flight begin, and who is writing.
 *
 * The lock manager tells which transactions may still fill holes (log/settle.c),
 * but not which holes.  With the library preloaded, each transaction that takes
 * positions says so here: every position up to "below" is none of its.  So a
 * reader knows at its first look how far the log is settled, whatever it has or
 * has not seen before.
 *
 * Each backend has a slot that only itself writes.  It says which transaction
 * it is about, by local transaction id, and is written before the transaction
 * takes its lock on the sequence, with a bound that is surely low enough; once
 * the position is known the bound is raised to it.  Who reads a slot looks at
 * the id before and after, and trusts what it read only if both are the one
 * that it asked for.  The slot is not cleared: an id never comes back.
 *
 * A prepared transaction keeps its virtual transaction id, until the server is
 * restarted, but leaves its backend and so the slot.  So what is prepared goes
 * into a table as well, under its lock.  Entries are reused once their
 * transaction is gone.  Where the table says nothing, as after a restart, the
 * answer is that nothing is known; who then finds it out in the log (log/holders.c)
 * puts it there for the others.
 *
 * Writing. From before a call takes positions until its rows are there, which is as
 * long as it has its short locks (stream/lock.c), the turn of the backend's slot is
 * odd. Who has taken a position and then sees a turn even, or another one later, knows
 * that what was written in that turn below the position is there: positions are taken
 * under a lock, so the turn was begun for all to see before a higher one was taken. A
 * turn that says that its positions begin above need not be waited for, nor one whose
 * events have other tags than are asked for: which these may be is said before the turn
 * begins, and a call in that call says so before it takes a position. An error in
 * between ends the turn with the (sub)transaction, whose rows nobody will see; one of a call
 * in that call, with a subtransaction of its own, leaves the turn to the call around it.
 */
#include "shared/flight.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/procarray.h"

#include "shared/memory.h"

/* A backend's slot; written by the backend only. */
typedef union EsFlightSlot
{
	struct
	{
		pg_atomic_uint32 lxid;	/* 0: nothing, or being written */
		pg_atomic_uint64 below;
		pg_atomic_uint64 turn;	/* odd: writing */
		pg_atomic_uint64 first; /* the first position of the turn; 0: none yet */
		pg_atomic_uint64 tags;	/* of the turn's events, as bits */
	}			flight;
	char		pad[PG_CACHE_LINE_SIZE];	/* appenders share no cache line */
} EsFlightSlot;

/* A prepared transaction; under the lock. */
typedef struct EsFlightPrepared
{
	TransactionId xid;			/* invalid: the entry is free */
	VirtualTransactionId id;
	int64		below;
} EsFlightPrepared;

typedef struct EsFlightShared
{
	EsFlightPrepared *prepared; /* NPREPARED of them */
	pg_atomic_uint32 used;		/* slots above this one have never been used */
	char		pad[PG_CACHE_LINE_SIZE];	/* nor one with these */
	EsFlightSlot slots[FLEXIBLE_ARRAY_MEMBER];	/* NSLOTS, by number of
												 * backend */
} EsFlightShared;

#define NSLOTS		(MaxBackends + 1)

/* those that are prepared, and each backend may just be preparing one */
#define NPREPARED	(max_prepared_xacts + NSLOTS)

static EsFlightShared *shared = NULL;
static SubTransactionId writing_in = InvalidSubTransactionId;	/* whose turn it is */
static int	writing_depth = 0;	/* of calls in calls: a user's own CHECK may
								 * append */

/*
 * How often to look whether a turn is over before it is said to take long: first
 * without pause, then at intervals that grow.  A writer that has lost its processor gets
 * it back the sooner for those who sleep.
 */
#define SPINS			100
#define LOOKS			200
#define FIRST_PAUSE_US	20
#define LONGEST_PAUSE_US	1000

/* How much memory the slots take, up to the prepared ones. */
static Size
flight_slots_size(void)
{
	return add_size(offsetof(EsFlightShared, slots), mul_size(NSLOTS, sizeof(EsFlightSlot)));
}

/* How much memory it takes. */
static Size
flights_size(void)
{
	return add_size(MAXALIGN(flight_slots_size()), mul_size(NPREPARED, sizeof(EsFlightPrepared)));
}

/* Makes the memory. */
static void
start_flights(void *memory)
{
	EsFlightShared *flights = memory;

	flights->prepared = (EsFlightPrepared *) ((char *) memory + MAXALIGN(flight_slots_size()));
	pg_atomic_init_u32(&flights->used, 0);
	for (int i = 0; i < NSLOTS; i++)
	{
		pg_atomic_init_u32(&flights->slots[i].flight.lxid, InvalidLocalTransactionId);
		pg_atomic_init_u64(&flights->slots[i].flight.below, 0);
		pg_atomic_init_u64(&flights->slots[i].flight.turn, 0);
		pg_atomic_init_u64(&flights->slots[i].flight.first, 0);
		pg_atomic_init_u64(&flights->slots[i].flight.tags, 0);
	}
}

/* Ends this backend's turn, if there is one. */
static void
end_turn(void)
{
	pg_atomic_uint64 *turn;

	if (writing_in == InvalidSubTransactionId)
		return;
	writing_in = InvalidSubTransactionId;
	writing_depth = 0;
	turn = &shared->slots[es_my_backend()].flight.turn;
	pg_memory_barrier();
	pg_atomic_write_u64(turn, pg_atomic_read_u64(turn) + 1);
}

/* Ends a turn that an error has interrupted. */
static void
end_turn_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		end_turn();
}

/* Ends a turn that an error has interrupted, with the subtransaction that it was begun in. */
static void
end_turn_at_subxact_abort(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && subid == writing_in)
		end_turn();
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_flight_init(void)
{
	EsSharedPiece piece = {"eventstore flights", flights_size, start_flights, (void **) &shared};

	es_shared_add(&piece);
	RegisterXactCallback(end_turn_at_xact_end, NULL);
	RegisterSubXactCallback(end_turn_at_subxact_abort, NULL);
}

/* es_flight_is_shared tells whether transactions say where their positions begin. */
bool
es_flight_is_shared(void)
{
	return shared != NULL;
}

/*
 * es_flight_begin says that this transaction is about to take positions, its
 * first ones, all above one that was given out before.
 */
void
es_flight_begin(int64 below)
{
	EsFlightSlot *slot;

	if (shared == NULL)
		return;
	slot = &shared->slots[es_my_backend()];
	pg_atomic_write_u32(&slot->flight.lxid, InvalidLocalTransactionId);
	pg_write_barrier();
	pg_atomic_write_u64(&slot->flight.below, (uint64) below);
	pg_write_barrier();
	pg_atomic_write_u32(&slot->flight.lxid, es_my_lxid());
}

/* Tells whether this transaction has said where its positions begin. */
static bool
has_said_first_position(void)
{
	return pg_atomic_read_u32(&shared->slots[es_my_backend()].flight.lxid) == es_my_lxid();
}

/* es_flight_take says which position was the first that it took, if it has said anything. */
void
es_flight_take(int64 first)
{
	if (shared && has_said_first_position())
		pg_atomic_write_u64(&shared->slots[es_my_backend()].flight.below, (uint64) (first - 1));
}

/*
 * Finds an entry for a transaction to be prepared: its own, from an earlier try, or
 * one that is free.
 */
static EsFlightPrepared *
find_entry_to_prepare(TransactionId xid)
{
	EsFlightPrepared *found = NULL;

	for (int i = 0; i < NPREPARED; i++)
	{
		EsFlightPrepared *entry = &shared->prepared[i];

		if (entry->xid == xid)
			return entry;
		if (found == NULL &&
			(!TransactionIdIsValid(entry->xid) || !TransactionIdIsInProgress(entry->xid)))
			found = entry;
	}
	return found;
}

/*
 * es_flight_learn keeps what somebody has found out of a prepared transaction: a
 * position that all of its positions are above.
 */
void
es_flight_learn(TransactionId xid, VirtualTransactionId id, int64 below)
{
	EsFlightPrepared *entry;

	if (shared == NULL)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_PREPARED), LW_EXCLUSIVE);
	entry = find_entry_to_prepare(xid);
	if (entry)
	{
		entry->xid = xid;
		entry->id = id;
		entry->below = below;
	}
	LWLockRelease(es_shared_lock(ES_LOCK_PREPARED));
}

/*
 * es_flight_prepare keeps what this transaction has said while it is prepared;
 * called before it is.  Should it fail after that, the entry is as good as free.
 * A transaction that has said nothing says nothing.
 */
void
es_flight_prepare(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	VirtualTransactionId id;

	if (shared == NULL || !TransactionIdIsValid(xid) || !has_said_first_position())
		return;
	es_vxid_set(id, es_my_backend(), es_my_lxid());
	es_flight_learn(xid, id, (int64) pg_atomic_read_u64(&shared->slots[es_my_backend()].flight.below));
}

/* Looks a transaction up among those that are prepared. */
static bool
find_prepared_flight(VirtualTransactionId id, int64 *below)
{
	bool		found = false;

	LWLockAcquire(es_shared_lock(ES_LOCK_PREPARED), LW_SHARED);
	for (int i = 0; i < NPREPARED && !found; i++)
	{
		EsFlightPrepared *entry = &shared->prepared[i];

		found = TransactionIdIsValid(entry->xid) && VirtualTransactionIdEquals(entry->id, id);
		if (found)
			*below = entry->below;
	}
	LWLockRelease(es_shared_lock(ES_LOCK_PREPARED));
	return found;
}

/*
 * es_flight_find tells a position that all positions of a transaction are
 * above; false if nothing is known of it.
 */
bool
es_flight_find(VirtualTransactionId id, int64 *below)
{
	EsFlightSlot *slot;

	if (shared == NULL)
		return false;
	if (es_vxid_proc(id) == ES_INVALID_PROC)
		return find_prepared_flight(id, below); /* from before a restart */
	slot = &shared->slots[es_vxid_proc(id)];
	if (pg_atomic_read_u32(&slot->flight.lxid) == id.localTransactionId)
	{
		pg_read_barrier();
		*below = (int64) pg_atomic_read_u64(&slot->flight.below);
		pg_read_barrier();
		if (pg_atomic_read_u32(&slot->flight.lxid) == id.localTransactionId)
			return true;
	}
	return find_prepared_flight(id, below);
}

/* ---- writing ---- */

/* Makes this backend's slot one that is looked at. */
static void
note_slot_use(void)
{
	static bool noted = false;
	uint32		mine = es_my_backend();
	uint32		used = pg_atomic_read_u32(&shared->used);

	if (likely(noted))
		return;
	while (used < mine && !pg_atomic_compare_exchange_u32(&shared->used, &used, mine))
		;
	noted = true;
}

/* Says that a call in a call writes events with tags, too. */
static void
say_more_tags(uint64 tag_bits)
{
	pg_atomic_uint64 *tags = &shared->slots[es_my_backend()].flight.tags;

	pg_atomic_write_u64(tags, pg_atomic_read_u64(tags) | tag_bits);
	pg_memory_barrier();
}

/*
 * es_flight_begin_writing says that a call is about to take positions and write their rows, and
 * which tags the events may have.  What it returns is for es_flight_end_writing.
 */
int
es_flight_begin_writing(uint64 tag_bits)
{
	EsFlightSlot *slot;

	if (shared == NULL)
		return 0;
	if (writing_depth > 0)
	{
		say_more_tags(tag_bits);
		return writing_depth++;
	}
	writing_depth = 1;
	note_slot_use();
	slot = &shared->slots[es_my_backend()];
	pg_atomic_write_u64(&slot->flight.first, 0);
	pg_atomic_write_u64(&slot->flight.tags, tag_bits);
	pg_write_barrier();
	pg_atomic_write_u64(&slot->flight.turn, pg_atomic_read_u64(&slot->flight.turn) | 1);
	writing_in = GetCurrentSubTransactionId();
	pg_memory_barrier();
	return 0;
}

/* es_flight_say_first says which position is the first of this turn, if there is one. */
void
es_flight_say_first(int64 position)
{
	if (writing_in != InvalidSubTransactionId && pg_atomic_read_u64(&shared->slots[es_my_backend()].flight.first) == 0)
		pg_atomic_write_u64(&shared->slots[es_my_backend()].flight.first, (uint64) position);
}

/* es_flight_end_writing says that they are there, or that those of a call in a call are. */
void
es_flight_end_writing(int depth)
{
	writing_depth = depth;
	if (depth == 0)
		end_turn();
}

/* Tells whether events with some tags may be among those that are asked for. */
static bool
tags_may_match(const EsFlightTags *wanted, uint64 tag_bits)
{
	for (int i = 0; wanted && i < wanted->count; i++)
		if ((wanted->sets[i] & ~tag_bits) == 0)
			return true;
	return wanted == NULL;
}

/*
 * Tells whether a slot's turn writes, for all that is known, events that are asked for at
 * positions before one; *turn becomes which turn it is.
 */
static bool
is_writing_before(EsFlightSlot *slot, int64 position, const EsFlightTags *wanted, uint64 *turn)
{
	uint64		first;
	uint64		tags;

	*turn = pg_atomic_read_u64(&slot->flight.turn);
	if ((*turn & 1) == 0)
		return false;
	pg_read_barrier();
	first = pg_atomic_read_u64(&slot->flight.first);
	tags = pg_atomic_read_u64(&slot->flight.tags);
	pg_read_barrier();
	return pg_atomic_read_u64(&slot->flight.turn) == *turn && (first == 0 || first < (uint64) position) &&
		tags_may_match(wanted, tags);
}

/* Tells whether a slot's turn that writes what is asked for is over; looks a while. */
static bool
await_turn(EsFlightSlot *slot, int64 position, const EsFlightTags *wanted)
{
	long		pause = FIRST_PAUSE_US;
	uint64		turn;
	uint64		now;

	if (!is_writing_before(slot, position, wanted, &turn))
		return true;
	for (int i = 0; i < SPINS + LOOKS; i++)
	{
		if (i < SPINS)
			pg_spin_delay();
		else
		{
			es_base_nap(pause);
			pause = Min(2 * pause, LONGEST_PAUSE_US);
		}
		CHECK_FOR_INTERRUPTS();
		if (!is_writing_before(slot, position, wanted, &now) || now != turn)
			return true;
	}
	return false;
}

/*
 * es_flight_await_writers waits until all that are writing now positions before one, of
 * events with some tags, or of any (NULL), have written: after that, every such position
 * that will ever have such an event has its row.  The caller has taken that position, or
 * knows that it was given out, and is not writing.  That takes microseconds; false if it
 * takes long, or nobody says that he is writing, as without the library preloaded.
 */
bool
es_flight_await_writers(int64 position, const EsFlightTags *tags)
{
	uint32		used;

	if (shared == NULL)
		return false;
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i <= used; i++)
		if (!await_turn(&shared->slots[i], position, tags))
			return false;
	pg_read_barrier();
	return true;
}
