/*
 * mark.c
 *		What sessions have found to be settled, for all sessions.
 *
 * With the library preloaded, the settled position that any session has proven
 * is kept in shared memory, so a new session starts where others are.  A store
 * is known by its database and its position sequence, both OIDs.  Without
 * preload each session learns by itself: es_sharedmark_get tells 0, and nothing
 * else changes.  If there are more stores than room they take places from each
 * other; one that has lost its own is as good as new.  Those that are being loaded
 * keep theirs, since nobody would know of it any more.
 *
 * The position in a place only rises.  The lock protects which store a place belongs to;
 * the position and the flag are atomic and may be changed under the shared
 * lock.  A crash empties the memory, and so forgets what a crash may have taken
 * back.
 *
 * A store is loading while rows are put into its tables directly, by a restore
 * say: what is there is not yet all, and nothing may be concluded from it.
 */
#include "shared/mark.h"

#include "miscadmin.h"
#include "port/atomics.h"

#include "shared/memory.h"

#define MOST_STORES		128

/* One store; position is written under the lock, shared, by whoever proved it. */
typedef struct EsMarkShared
{
	Oid			database;		/* InvalidOid: the place is free */
	Oid			sequence;
	pg_atomic_uint64 position;
	pg_atomic_uint32 loading;
} EsMarkShared;

typedef struct EsMarksShared
{
	int			next;			/* place to give away next; under the lock,
								 * exclusive */
	EsMarkShared marks[MOST_STORES];
} EsMarksShared;

static EsMarksShared *shared = NULL;
static int	last_place = 0;		/* where this backend's store was, a hint */

/* How much memory it takes. */
static Size
marks_size(void)
{
	return sizeof(EsMarksShared);
}

/* Makes the memory. */
static void
start_marks(void *memory)
{
	EsMarksShared *marks = memory;

	for (int i = 0; i < MOST_STORES; i++)
	{
		pg_atomic_init_u64(&marks->marks[i].position, 0);
		pg_atomic_init_u32(&marks->marks[i].loading, 0);
	}
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_sharedmark_init(void)
{
	EsSharedPiece piece = {"eventstore marks", marks_size, start_marks, (void **) &shared};

	es_shared_add(&piece);
}

/* Tells whether a place is this database's store's. */
static bool
is_our_mark(const EsMarkShared *mark, Oid sequence)
{
	return mark->database == MyDatabaseId && mark->sequence == sequence;
}

/* Finds a store's place, NULL if it has none; the caller holds the lock. */
static EsMarkShared *
find_mark(Oid sequence)
{
	if (is_our_mark(&shared->marks[last_place], sequence))
		return &shared->marks[last_place];
	for (int i = 0; i < MOST_STORES; i++)
		if (is_our_mark(&shared->marks[i], sequence))
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
	EsMarkShared *mark;
	int64		position = 0;

	if (shared == NULL)
		return 0;
	LWLockAcquire(es_shared_lock(ES_LOCK_MARKS), LW_SHARED);
	mark = find_mark(sequence);
	if (mark)
		position = (int64) pg_atomic_read_u64(&mark->position);
	LWLockRelease(es_shared_lock(ES_LOCK_MARKS));
	return position;
}

/*
 * Chooses a place to give away: the one that was given away longest ago, but not that of a
 * store which is being loaded, as long as there are others.
 */
static EsMarkShared *
choose_mark_place(void)
{
	for (int i = 0;; i++)
	{
		EsMarkShared *mark = &shared->marks[shared->next];

		shared->next = (shared->next + 1) % MOST_STORES;
		if (i >= MOST_STORES || pg_atomic_read_u32(&mark->loading) == 0)
			return mark;
	}
}

/* Gives a store a place, if it has none; the caller holds the lock, exclusive. */
static EsMarkShared *
take_mark_place(Oid sequence)
{
	EsMarkShared *mark = find_mark(sequence);

	if (mark)
		return mark;
	mark = choose_mark_place();
	mark->database = MyDatabaseId;
	mark->sequence = sequence;
	pg_atomic_write_u64(&mark->position, 0);
	pg_atomic_write_u32(&mark->loading, 0);
	return mark;
}

/* es_sharedmark_raise tells all sessions that the log is settled up to a position. */
void
es_sharedmark_raise(Oid sequence, int64 position)
{
	EsMarkShared *mark;

	if (shared == NULL || position <= 0)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_MARKS), LW_SHARED);
	mark = find_mark(sequence);
	if (mark)
		(void) es_shared_raise(&mark->position, (uint64) position);
	LWLockRelease(es_shared_lock(ES_LOCK_MARKS));
	if (mark)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_MARKS), LW_EXCLUSIVE);
	(void) es_shared_raise(&take_mark_place(sequence)->position, (uint64) position);
	LWLockRelease(es_shared_lock(ES_LOCK_MARKS));
}

/* es_sharedmark_set_loading tells all sessions that a store is being loaded, or not any more. */
void
es_sharedmark_set_loading(Oid sequence, bool loading)
{
	if (shared == NULL || es_sharedmark_is_loading(sequence) == loading)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_MARKS), LW_EXCLUSIVE);
	pg_atomic_write_u32(&take_mark_place(sequence)->loading, loading);
	LWLockRelease(es_shared_lock(ES_LOCK_MARKS));
}

/* es_sharedmark_is_loading tells whether a store is being loaded, as far as is known. */
bool
es_sharedmark_is_loading(Oid sequence)
{
	EsMarkShared *mark;
	bool		loading;

	if (shared == NULL)
		return false;
	LWLockAcquire(es_shared_lock(ES_LOCK_MARKS), LW_SHARED);
	mark = find_mark(sequence);
	loading = mark && pg_atomic_read_u32(&mark->loading) != 0;
	LWLockRelease(es_shared_lock(ES_LOCK_MARKS));
	return loading;
}

/*
 * es_sharedmark_forget forgets the stores of a database that is gone: one that is made anew
 * under its OID, as a copy of another, may have a sequence of the same OID.
 */
void
es_sharedmark_forget(Oid database)
{
	if (shared == NULL)
		return;
	LWLockAcquire(es_shared_lock(ES_LOCK_MARKS), LW_EXCLUSIVE);
	for (int i = 0; i < MOST_STORES; i++)
	{
		EsMarkShared *mark = &shared->marks[i];

		if (mark->database != database)
			continue;
		mark->database = mark->sequence = InvalidOid;
		pg_atomic_write_u64(&mark->position, 0);
		pg_atomic_write_u32(&mark->loading, 0);
	}
	LWLockRelease(es_shared_lock(ES_LOCK_MARKS));
}
