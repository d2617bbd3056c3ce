/*
 * sharedmark.c
 *		What sessions have found to be settled, for all sessions.
 *
 * With the library preloaded, the settled position that any session has proven
 * is kept in shared memory, so a new session starts where others are.  A store
 * is known by its database and its position sequence, both OIDs.  Without
 * preload, or if there are more stores than room, each session learns by
 * itself: es_sharedmark_get tells 0, and nothing else changes.
 *
 * A position only rises.  The lock protects which store a place belongs to;
 * the position is atomic and may be raised under the shared lock.  A crash
 * empties the memory, and so forgets what a crash may have taken back.
 */
#include "sharedmark.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define MOST_STORES		128

/* One store; position is written under the lock, shared, by whoever proved it. */
typedef struct EsMarkShared
{
	Oid			database;		/* InvalidOid: the place is free */
	Oid			sequence;
	pg_atomic_uint64 position;
} EsMarkShared;

typedef struct EsMarksShared
{
	LWLock	   *lock;			/* set once, at start */
	int			next;			/* place to give away next; under the lock,
								 * exclusive */
	EsMarkShared marks[MOST_STORES];
} EsMarksShared;

static EsMarksShared *shared = NULL;
static int	last_place = 0;		/* where this backend's store was, a hint */

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* Asks for the memory and its lock. */
static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(EsMarksShared)));
	RequestNamedLWLockTranche("eventstore", 1);
}

/* Makes the memory, or finds it. */
static void
start_memory(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("eventstore", sizeof(EsMarksShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(EsMarksShared));
		shared->lock = &GetNamedLWLockTranche("eventstore")->lock;
		for (int i = 0; i < MOST_STORES; i++)
			pg_atomic_init_u64(&shared->marks[i].position, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Installs the hooks, if the library is preloaded; called once, from _PG_init. */
void
es_sharedmark_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/* Tells whether a place is this database's store's. */
static bool
is_ours(const EsMarkShared *mark, Oid sequence)
{
	return mark->database == MyDatabaseId && mark->sequence == sequence;
}

/* Finds a store's place, NULL if it has none; the caller holds the lock. */
static EsMarkShared *
find_mark(Oid sequence)
{
	if (is_ours(&shared->marks[last_place], sequence))
		return &shared->marks[last_place];
	for (int i = 0; i < MOST_STORES; i++)
		if (is_ours(&shared->marks[i], sequence))
		{
			last_place = i;
			return &shared->marks[i];
		}
	return NULL;
}

/* es_sharedmark_get tells what is known to be settled, 0 for nothing. */
int64
es_sharedmark_get(Oid sequence)
{
	const EsMarkShared *mark;
	int64		position = 0;

	if (shared == NULL)
		return 0;
	LWLockAcquire(shared->lock, LW_SHARED);
	mark = find_mark(sequence);
	if (mark)
		position = (int64) pg_atomic_read_u64((pg_atomic_uint64 *) &mark->position);
	LWLockRelease(shared->lock);
	return position;
}

/* Raises the position of a place; the caller holds the lock. */
static void
raise_mark(EsMarkShared *mark, int64 position)
{
	uint64		known = pg_atomic_read_u64(&mark->position);

	while (known < (uint64) position &&
		   !pg_atomic_compare_exchange_u64(&mark->position, &known, (uint64) position))
		 /* known is what another session raised it to */ ;
}

/* Gives a store a place, the one that was given away longest ago. */
static void
take_place(Oid sequence, int64 position)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (find_mark(sequence) == NULL)
	{
		EsMarkShared *mark = &shared->marks[shared->next];

		shared->next = (shared->next + 1) % MOST_STORES;
		mark->database = MyDatabaseId;
		mark->sequence = sequence;
		pg_atomic_write_u64(&mark->position, (uint64) position);
	}
	LWLockRelease(shared->lock);
}

/* es_sharedmark_raise tells all sessions that the log is settled up to a position. */
void
es_sharedmark_raise(Oid sequence, int64 position)
{
	EsMarkShared *mark;

	if (shared == NULL || position <= 0)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	mark = find_mark(sequence);
	if (mark)
		raise_mark(mark, position);
	LWLockRelease(shared->lock);
	if (mark == NULL)
		take_place(sequence, position);
}
