/*
 * memory.c
 *		The library's shared memory.
 *
 * There is some only where the library is preloaded.  Parts that keep things
 * there add a piece from their init call, while the server preloads; the hooks
 * that ask for memory and make it are here, once for all.  Where nothing is
 * preloaded adding a piece does nothing, its pointer stays NULL, and the part
 * does without.
 *
 * A crash of any process empties all of it: nothing here may be needed for
 * what is durable.
 */
#include "shared/memory.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define TRANCHE		"eventstore"
#define MOST_PIECES	16

static EsSharedPiece pieces[MOST_PIECES];
static int	npieces = 0;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* Asks for the memory and its locks. */
static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	for (int i = 0; i < npieces; i++)
		RequestAddinShmemSpace(add_size(pieces[i].size(), PG_CACHE_LINE_SIZE));
	RequestNamedLWLockTranche(TRANCHE, ES_LOCK_COUNT);
}

/* Makes the memory, or finds it. */
static void
start_memory(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < npieces; i++)
	{
		Size		size = pieces[i].size();
		bool		found;
		void	   *memory = ShmemInitStruct(pieces[i].name, size, &found);

		if (!found)
		{
			memset(memory, 0, size);
			pieces[i].start(memory);
		}
		*pieces[i].memory = memory;
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * es_shared_init installs the hooks, if the library is preloaded; called first of
 * all, from _PG_init.
 */
void
es_shared_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}

/*
 * es_shared_add adds a part's piece, if the library is preloaded; called from the
 * part's init call.
 */
void
es_shared_add(const EsSharedPiece *piece)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	Assert(npieces < MOST_PIECES);
	pieces[npieces++] = *piece;
}

/* es_shared_lock gives one of the locks. */
LWLock *
es_shared_lock(EsSharedLock which)
{
	return &GetNamedLWLockTranche(TRANCHE)[which].lock;
}
