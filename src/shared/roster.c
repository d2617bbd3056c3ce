/*
 * roster.c
 *		Which databases have a store, and which worker looks after each.
 *
 * With the library preloaded a launcher starts one worker for each database
 * that has a store (server/worker.c).  What they need to know of each other, and what
 * sessions tell them, is here, in shared memory: sessions announce a store when
 * they first use it, the worker enters itself, statements that need a database
 * for themselves (DROP DATABASE and its like) hold its worker off.
 *
 * Everything is under one lock, but what is left to a worker, which is atomic: bits of
 * wake-ups (wake.c), and a position at which the log has a hole.  Nobody waits while
 * holding the lock.
 *
 * Wake-ups are left to a worker only while it rests: at work it may be in users' code, or
 * wait for a lock or a disk.  That is changed by who has the lock to himself, and bits are
 * added, and the latch set, by who shares it.  So what the worker takes as its rest ends is
 * all that was left to it, and while it rests its latch tells it.
 *
 * Who leaves a hole says so only where somebody reads elsewhere, by the mark that the
 * worker writes (log/settle.c); that a walsender is there tells.  The worker's latch is
 * set by the first hole since it took one, so many at a time cost one wake-up.
 */
#include "shared/roster.h"

#include <signal.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/process.h"
#include "shared/holdoff.h"
#include "shared/memory.h"

#define MOST_DATABASES	1024
#define MOST_UNSEEN		32		/* from which on the launcher adds none */

/* One database; all under the lock, but delegated and hole. */
typedef struct EsRosterEntry
{
	Oid			database;		/* InvalidOid: the place is free */
	bool		wanted;			/* has a store, for all we know */
	pid_t		worker;			/* 0: none */
	TimestampTz since;			/* there is none, while there is none */
	bool		seen;			/* there is one, or was */
	bool		confirmed;		/* it has found a store */
	bool		nudged;			/* it is to look whether there still is one */
	bool		rests;			/* it wakes others at once */
	int			worker_procno;
	bool		announced;		/* while the worker was still looking */
	bool		expelled;		/* it was ended by who needs the database */
	int64		at_work;		/* the projection whose code it runs, or ran
								 * as it was ended; 0: none */
	bool		at_rebuild;		/* in its rebuild */
	bool		room_left;		/* of what was removed, for somebody's lock or
								 * the end of who was at it */
	EsHoldoff	holdoff;		/* who wants no worker there */
	TimestampTz try_at;			/* when to start a worker, at the earliest */
	pg_atomic_uint64 delegated; /* who is to be woken by the worker */
	pg_atomic_uint64 hole;		/* which the mark is to pass; 0: none */
} EsRosterEntry;

typedef struct EsRosterShared
{
	int			launcher_procno;	/* -1: there is none */
	bool		full;			/* a store that was announced had no room, and
								 * there was none since */
	bool		freed;			/* there is, after that; the launcher is to
								 * see who had none */
	EsRosterEntry entries[MOST_DATABASES];
} EsRosterShared;

static EsRosterShared *shared = NULL;
static EsRosterEntry *mine = NULL;	/* that of this database, a hint */

/* How much memory it takes. */
static Size
roster_size(void)
{
	return sizeof(EsRosterShared);
}

/* Makes the memory. */
static void
start_roster(void *memory)
{
	EsRosterShared *roster = memory;

	roster->launcher_procno = -1;
	for (int i = 0; i < MOST_DATABASES; i++)
	{
		pg_atomic_init_u64(&roster->entries[i].delegated, 0);
		pg_atomic_init_u64(&roster->entries[i].hole, 0);
	}
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_roster_init(void)
{
	EsSharedPiece piece = {"eventstore roster", roster_size, start_roster, (void **) &shared};

	es_shared_add(&piece);
}

/* es_roster_exists tells whether the library is preloaded, so that there are workers. */
bool
es_roster_exists(void)
{
	return shared != NULL;
}

static void
lock_roster(LWLockMode mode)
{
	LWLockAcquire(es_shared_lock(ES_LOCK_ROSTER), mode);
}

static void
unlock_roster(void)
{
	LWLockRelease(es_shared_lock(ES_LOCK_ROSTER));
}

/* Wakes a process by its number; the caller holds the lock, or knows it to be there. */
static void
wake_procno(int procno)
{
	if (procno >= 0)
		SetLatch(&GetPGProcByNumber(procno)->procLatch);
}

/* Finds a database's entry; NULL if it has none. */
static EsRosterEntry *
find_roster_entry(Oid database)
{
	for (int i = 0; i < MOST_DATABASES; i++)
		if (shared->entries[i].database == database)
			return &shared->entries[i];
	return NULL;
}

/* Finds this database's entry, under the lock; NULL if it has none. */
static EsRosterEntry *
find_own_entry(void)
{
	if (mine == NULL || mine->database != MyDatabaseId)
		mine = find_roster_entry(MyDatabaseId);
	return mine;
}

/* Finds a database's entry, or makes one; NULL if there is no room. */
static EsRosterEntry *
make_roster_entry(Oid database)
{
	EsRosterEntry *entry = find_roster_entry(database);

	if (entry)
		return entry;
	entry = find_roster_entry(InvalidOid);
	if (entry == NULL)
		return NULL;
	entry->database = database;
	entry->wanted = false;
	entry->worker = 0;
	entry->seen = false;
	entry->since = GetCurrentTimestamp();
	entry->at_work = 0;
	entry->room_left = false;
	memset(&entry->holdoff, 0, sizeof(entry->holdoff));
	entry->try_at = 0;
	pg_atomic_write_u64(&entry->delegated, 0);
	pg_atomic_write_u64(&entry->hole, 0);
	return entry;
}

/* Gives up an entry. */
static void
free_roster_entry(EsRosterEntry *entry)
{
	entry->database = InvalidOid;
	shared->freed = shared->freed || shared->full;
	shared->full = false;
}

/* Gives up an entry that nobody has a use for. */
static void
free_unused_entry(EsRosterEntry *entry)
{
	if (!entry->wanted && entry->worker == 0 && es_holdoff_find(&entry->holdoff) == 0)
		free_roster_entry(entry);
}

/*
 * es_roster_announce says that this database has a store, which is committed.
 * If nobody looks after it yet, somebody soon will, if there is room.
 */
void
es_roster_announce(void)
{
	EsRosterEntry *entry;
	bool		known;
	bool		was_full;

	if (shared == NULL)
		return;
	lock_roster(LW_SHARED);
	entry = find_own_entry();
	known = entry && entry->wanted && (entry->worker == 0 || entry->confirmed);
	unlock_roster();
	if (known)
		return;
	lock_roster(LW_EXCLUSIVE);
	entry = make_roster_entry(MyDatabaseId);
	if (entry && entry->worker != 0)
		entry->announced = true;	/* it may have looked too early */
	if (entry && !entry->wanted)
	{
		entry->wanted = true;
		entry->try_at = 0;
		wake_procno(shared->launcher_procno);
	}
	was_full = shared->full;
	shared->full = shared->full || entry == NULL;
	unlock_roster();
	if (entry == NULL && !was_full)
		ereport(LOG,
				errmsg("more databases have an event store than can be looked after"),
				errdetail("There is room for %d; further ones get no background worker.", MOST_DATABASES));
}

/* ---- for statements that need a database for themselves ---- */

/*
 * es_roster_hold sees to it that no worker is started in a database until
 * es_roster_let_go, or the end of this process, and asks the one there to go.
 * False while it has not gone yet: then call again.
 */
bool
es_roster_hold(Oid database)
{
	EsRosterEntry *entry;
	bool		gone;

	if (shared == NULL)
		return true;
	lock_roster(LW_EXCLUSIVE);
	entry = make_roster_entry(database);
	gone = entry == NULL || (es_holdoff_begin(&entry->holdoff) && entry->worker == 0);
	if (entry && entry->worker != 0)
		wake_procno(entry->worker_procno);
	unlock_roster();
	return gone;
}

/*
 * es_roster_expel ends the worker of a database in the middle of its work, which is
 * done again later.
 */
void
es_roster_expel(Oid database)
{
	EsRosterEntry *entry;

	lock_roster(LW_EXCLUSIVE);
	entry = find_roster_entry(database);
	if (entry && entry->worker != 0)
	{
		entry->expelled = true;
		kill(entry->worker, SIGTERM);	/* it leaves under this lock, before
										 * it is gone */
	}
	unlock_roster();
}

/* es_roster_let_go undoes es_roster_hold. */
void
es_roster_let_go(Oid database)
{
	EsRosterEntry *entry;

	if (shared == NULL)
		return;
	lock_roster(LW_EXCLUSIVE);
	entry = find_roster_entry(database);
	if (entry)
	{
		es_holdoff_end(&entry->holdoff);
		entry->try_at = 0;
		free_unused_entry(entry);
		wake_procno(shared->launcher_procno);
	}
	unlock_roster();
}

/* ---- for the worker ---- */

/*
 * es_roster_enter makes this process the worker of a database; false if there is
 * one, or must be none.  To be called before it connects: from then on a statement
 * that needs the database for itself waits for it to leave.
 */
bool
es_roster_enter(Oid database)
{
	EsRosterEntry *entry;
	bool		entered;

	lock_roster(LW_EXCLUSIVE);
	entry = find_roster_entry(database);
	entered = entry && entry->worker == 0 && es_holdoff_find(&entry->holdoff) == 0;
	if (entered)
	{
		entry->worker = MyProcPid;
		entry->seen = true;
		entry->worker_procno = es_my_procno();
		entry->confirmed = entry->nudged = entry->announced = entry->expelled = entry->rests = false;
		mine = entry;
	}
	unlock_roster();
	return entered;
}

/* es_roster_confirm says that the worker has found a store, and stays. */
void
es_roster_confirm(void)
{
	lock_roster(LW_EXCLUSIVE);
	mine->confirmed = true;
	wake_procno(shared->launcher_procno);
	unlock_roster();
}

/* es_roster_nudge has the worker of this database look for what there is to do. */
void
es_roster_nudge(void)
{
	EsRosterEntry *entry;

	if (shared == NULL)
		return;
	lock_roster(LW_EXCLUSIVE);
	entry = find_own_entry();
	if (entry && entry->worker != 0)
	{
		entry->nudged = true;
		wake_procno(entry->worker_procno);
	}
	unlock_roster();
}

/* es_roster_take_nudge tells the worker whether it was nudged since it asked before. */
bool
es_roster_take_nudge(void)
{
	bool		nudged;

	lock_roster(LW_EXCLUSIVE);
	nudged = mine->nudged;
	mine->nudged = false;
	unlock_roster();
	return nudged;
}

/*
 * es_roster_rest says that the worker is about to sleep, until es_roster_stir, and may be
 * left wake-ups; tells it whether there is something for it already: a nudge, or a wish that
 * it goes.
 */
bool
es_roster_rest(void)
{
	bool		called;

	lock_roster(LW_EXCLUSIVE);
	mine->rests = true;
	called = mine->nudged || es_holdoff_find(&mine->holdoff) != 0;
	unlock_roster();
	return called;
}

/*
 * es_roster_stir says that the worker does not sleep any more, and gives it the wake-ups
 * that were left to it; there are no others until it rests again.
 */
uint64
es_roster_stir(void)
{
	lock_roster(LW_EXCLUSIVE);
	mine->rests = false;
	unlock_roster();
	return pg_atomic_exchange_u64(&mine->delegated, 0);
}

/* es_roster_may_stay tells the worker whether nobody wants it to go. */
bool
es_roster_may_stay(void)
{
	bool		may;

	lock_roster(LW_SHARED);
	may = es_holdoff_find(&mine->holdoff) == 0;
	unlock_roster();
	return may;
}

/* es_roster_leave takes the worker off the roster, for good if its database has no store. */
void
es_roster_leave(bool has_store)
{
	lock_roster(LW_EXCLUSIVE);
	if (mine && mine->worker == MyProcPid)
	{
		mine->worker = 0;
		mine->since = GetCurrentTimestamp();
		if (mine->expelled)
			mine->at_work = 0;
		mine->wanted = has_store || mine->announced;
		es_holdoff_wake(&mine->holdoff);
		free_unused_entry(mine);
		wake_procno(shared->launcher_procno);
	}
	unlock_roster();
}

/* es_roster_delegate has the worker wake who waits for these bits; false if none rests. */
bool
es_roster_delegate(uint64 bits)
{
	EsRosterEntry *entry;
	bool		done;

	lock_roster(LW_SHARED);
	entry = find_own_entry();
	done = entry && entry->worker != 0 && entry->rests;
	if (done)
	{
		pg_atomic_fetch_or_u64(&entry->delegated, bits);
		wake_procno(entry->worker_procno);
	}
	unlock_roster();
	return done;
}

/*
 * es_roster_report_hole lets the worker know that a position, or some below it, stays
 * empty, now that a transaction has ended; PG_INT64_MAX: any may.
 */
void
es_roster_report_hole(int64 position)
{
	EsRosterEntry *entry;

	if (shared == NULL || !es_process_is_wal_sent())
		return;
	lock_roster(LW_SHARED);
	entry = find_own_entry();
	if (entry && entry->worker != 0 && es_shared_raise(&entry->hole, (uint64) position) == 0)
		wake_procno(entry->worker_procno);
	unlock_roster();
}

/* es_roster_has_hole tells the worker whether a hole has been reported that it has not taken. */
bool
es_roster_has_hole(void)
{
	return pg_atomic_read_u64(&mine->hole) != 0;
}

/* es_roster_take_hole gives the worker the last hole reported since it asked before; 0: none. */
int64
es_roster_take_hole(void)
{
	return es_roster_has_hole() ? (int64) pg_atomic_exchange_u64(&mine->hole, 0) : 0;
}

/*
 * es_roster_set_at_work keeps on record which projection's code the worker runs, and
 * whether in its rebuild; 0: none that could end it.
 */
void
es_roster_set_at_work(int64 projection_id, bool rebuild)
{
	lock_roster(LW_EXCLUSIVE);
	mine->at_work = projection_id;
	mine->at_rebuild = rebuild;
	unlock_roster();
}

/* es_roster_take_at_work tells a new worker what the last one ran as it was ended; 0: none. */
int64
es_roster_take_at_work(bool *rebuild)
{
	int64		projection_id;

	lock_roster(LW_EXCLUSIVE);
	projection_id = mine->at_work;
	*rebuild = mine->at_rebuild;
	mine->at_work = 0;
	unlock_roster();
	return projection_id;
}

/*
 * es_roster_set_room_left notes whether room of what was removed was left for another reason than
 * that snapshots may still see it; it is, while somebody is at giving it back.
 */
void
es_roster_set_room_left(bool left)
{
	EsRosterEntry *entry;

	if (shared == NULL)
		return;
	lock_roster(LW_EXCLUSIVE);
	entry = find_own_entry();
	if (entry)
		entry->room_left = left;
	unlock_roster();
}

/* es_roster_has_room_left tells the worker whether it was. */
bool
es_roster_has_room_left(void)
{
	bool		left;

	lock_roster(LW_SHARED);
	left = mine->room_left;
	unlock_roster();
	return left;
}

/* ---- for the launcher ---- */

/* es_roster_open says that this process is the launcher. */
void
es_roster_open(void)
{
	lock_roster(LW_EXCLUSIVE);
	shared->launcher_procno = es_my_procno();
	unlock_roster();
}

/* es_roster_take_freed tells the launcher whether there is room where there was none, once. */
bool
es_roster_take_freed(void)
{
	bool		freed;

	lock_roster(LW_EXCLUSIVE);
	freed = shared->freed;
	shared->freed = false;
	unlock_roster();
	return freed;
}

/* Tells whether so many databases wait for their first worker that there are to be no more. */
static bool
has_many_unseen(void)
{
	int			unseen = 0;

	for (int i = 0; i < MOST_DATABASES; i++)
		unseen += OidIsValid(shared->entries[i].database) && shared->entries[i].wanted && !shared->entries[i].seen;
	return unseen >= MOST_UNSEEN;
}

/*
 * es_roster_add makes a database one that may have a store; false if there is no room now, or
 * too many wait already: those that have none are to leave room to those that announce one.
 */
bool
es_roster_add(Oid database)
{
	EsRosterEntry *entry;

	lock_roster(LW_EXCLUSIVE);
	entry = find_roster_entry(database);
	if (entry == NULL && !has_many_unseen())
		entry = make_roster_entry(database);
	if (entry)
		entry->wanted = true;
	unlock_roster();
	return entry != NULL;
}

/*
 * es_roster_next gives a database that wants a worker and has none, InvalidOid
 * if there is none now; *try_at becomes the time at which there may be one, if
 * that is earlier than it was.
 */
Oid
es_roster_next(TimestampTz now, TimestampTz *try_at)
{
	Oid			found = InvalidOid;

	lock_roster(LW_SHARED);
	for (int i = 0; i < MOST_DATABASES && !OidIsValid(found); i++)
	{
		EsRosterEntry *entry = &shared->entries[i];

		if (!OidIsValid(entry->database) || !entry->wanted || entry->worker != 0 || es_holdoff_find(&entry->holdoff) != 0)
			continue;
		if (es_backoff_is_pending(entry->try_at, now))
			*try_at = Min(*try_at, entry->try_at);
		else
			found = entry->database;
	}
	unlock_roster();
	return found;
}

/* es_roster_count_workers counts the workers that there are. */
int
es_roster_count_workers(void)
{
	int			workers = 0;

	lock_roster(LW_SHARED);
	for (int i = 0; i < MOST_DATABASES; i++)
		workers += OidIsValid(shared->entries[i].database) && shared->entries[i].worker != 0;
	unlock_roster();
	return workers;
}

/* es_roster_is_looked_after tells whether a database has a worker that stays. */
bool
es_roster_is_looked_after(Oid database)
{
	EsRosterEntry *entry;
	bool		is;

	lock_roster(LW_SHARED);
	entry = find_roster_entry(database);
	is = entry && entry->worker != 0 && entry->confirmed;
	unlock_roster();
	return is;
}

/*
 * es_roster_describe tells how the database of this session is looked after; false where
 * the library is not preloaded.
 */
bool
es_roster_describe(EsRosterState *state)
{
	EsRosterEntry *entry;

	memset(state, 0, sizeof(*state));
	if (shared == NULL)
		return false;
	state->workers = es_roster_count_workers();
	lock_roster(LW_SHARED);
	entry = find_own_entry();
	if (entry)
	{
		state->wanted = entry->wanted;
		state->looked_after = entry->worker != 0 && entry->confirmed;
		state->since = entry->since;
		state->held_by = es_holdoff_find(&entry->holdoff);
	}
	else
		state->left_out = find_roster_entry(InvalidOid) == NULL;
	unlock_roster();
	return true;
}

/*
 * es_roster_tried says that a worker was started, or could not be, and when to try
 * again if there is none.
 */
void
es_roster_tried(Oid database, TimestampTz again_at)
{
	EsRosterEntry *entry;

	lock_roster(LW_EXCLUSIVE);
	entry = find_roster_entry(database);
	if (entry)
		entry->try_at = again_at;
	unlock_roster();
}

/* es_roster_remove strikes a database that is gone. */
void
es_roster_remove(Oid database)
{
	EsRosterEntry *entry;

	lock_roster(LW_EXCLUSIVE);
	entry = find_roster_entry(database);
	if (entry && entry->worker == 0)
		free_roster_entry(entry);
	unlock_roster();
}
