/*
 * arena.c
 *		Memory for keys: not swapped out, not in core dumps, wiped.
 *
 * Pages of their own, mapped when a process first has a key.  They are locked into
 * memory, left out of core dumps, and empty in a child process, as far as the system
 * can: a limit on locked memory (RLIMIT_MEMLOCK) is no error.  The first slots are the
 * session's; the others are given out one by one and wiped together.
 */
#include "secret/arena.h"

#include <sys/mman.h>

#include "storage/ipc.h"

#define ARENA_BYTES		(64 * 1024)
#define SLOTS			(ARENA_BYTES / ES_ARENA_SLOT)

static uint8 *arena = NULL;
static int	next_slot = ES_ARENA_PLACES;

/* Wipes everything as the process ends. */
static void
wipe_arena_at_exit(int code, Datum arg)
{
	explicit_bzero(arena, ARENA_BYTES);
}

/* Maps the pages. */
static void
map_arena(void)
{
	void	   *pages = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("could not map memory for keys: %m"));
	(void) mlock(pages, ARENA_BYTES);
#ifdef MADV_DONTDUMP
	(void) madvise(pages, ARENA_BYTES, MADV_DONTDUMP);
#endif
#ifdef MADV_WIPEONFORK
	(void) madvise(pages, ARENA_BYTES, MADV_WIPEONFORK);
#endif
	arena = pages;
	on_proc_exit(wipe_arena_at_exit, (Datum) 0);
}

/* Gives the n-th slot. */
static inline uint8 *
arena_slot(int n)
{
	if (unlikely(arena == NULL))
		map_arena();
	return arena + n * ES_ARENA_SLOT;
}

/* es_arena_place gives a slot of the session's. */
uint8 *
es_arena_place(EsArenaPlace place)
{
	return arena_slot(place);
}

/* es_arena_wipe_place wipes slots of the session's. */
void
es_arena_wipe_place(EsArenaPlace place, int slots)
{
	if (arena != NULL)
		explicit_bzero(arena_slot(place), slots * ES_ARENA_SLOT);
}

/* es_arena_take gives a slot, until all that were given are wiped; NULL if none is left. */
uint8 *
es_arena_take(void)
{
	return next_slot < SLOTS ? arena_slot(next_slot++) : NULL;
}

/* es_arena_wipe_taken wipes what was taken, and has it back. */
void
es_arena_wipe_taken(void)
{
	if (next_slot > ES_ARENA_PLACES)
		explicit_bzero(arena_slot(ES_ARENA_PLACES), (next_slot - ES_ARENA_PLACES) * ES_ARENA_SLOT);
	next_slot = ES_ARENA_PLACES;
}
