/*
 * extend.c
 *		Tables extended ahead of need.
 *
 * A table that only grows asks the kernel for a page every few dozen rows, one
 * page a time and each written with zeros first: for batches of rows that costs
 * more than the rows do.  Here a table gets its next pages in steps: reserved
 * on disk, zeroed in the shared buffers but not written, and entered in the free
 * space map, where the server's own search for room finds them.  A full disk
 * shows at the reservation, not later; then nothing is done here and the
 * server's extension, a page a time, reports it.
 *
 * Steps are small against the table, so that vacuum does not find the room at
 * the end worth a truncation, and tables of a few megabytes are left alone.
 *
 * Nobody can look at the new pages before they are whole: they are zeroed
 * while the table ends before them.  Only the last is written, which moves
 * the end.  After a crash pages that were not used yet may be missing, or be there and
 * unknown to the free space map until the next vacuum; both is what the
 * server's extension by several pages leaves, too.
 *
 * The map is not logged: it may have come to the disk and the pages not.  Servers
 * before 15.7 and 16.3 then fail to read what it names, so there nothing is done here.
 *
 * Since PostgreSQL 16 the server has a function that adds several pages; there
 * it is the one that reserves them, or reports a full disk.
 */
#include "table/extend.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
#include "storage/freespace.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/rel.h"

/*
 * Servers before these follow the free space map past a table's end, where a crash
 * may have left it, and fail.
 */
#define MAP_MAY_BE_AHEAD	es_base_server_has(150007, 160003)

#define MAX_STEP		512		/* pages */
#define STEPS_A_TABLE	32		/* a step is at most that part of the table */
#define MIN_STEP		8		/* less is not worth it */
#define SMALLEST_TABLE	(MIN_STEP * STEPS_A_TABLE)

#ifdef ES_EXTEND_BUFFERED

/* Adds up to n zeroed pages at the end of a table, which is locked for it, and returns how many. */
static int
add_pages(Relation rel, BlockNumber end, int n)
{
	Buffer		buffers[MAX_STEP];
	uint32		added;

	(void) ExtendBufferedRelBy(BMR_REL(rel), MAIN_FORKNUM, NULL, EB_SKIP_EXTENSION_LOCK, n, buffers, &added);
	for (uint32 i = 0; i < added; i++)
		ReleaseBuffer(buffers[i]);
	return added;
}

#elif defined(FALLOC_FL_KEEP_SIZE)

/* Reserves disk space past the end of a table, inside one file; false if that is not possible. */
static bool
reserve_pages(Relation rel, BlockNumber first, int n)
{
	BlockNumber file = first / RELSEG_SIZE;
	char	   *base = relpathbackend(rel->rd_node, InvalidBackendId, MAIN_FORKNUM);
	char	   *path = file == 0 ? base : psprintf("%s.%u", base, file);
	int			fd = OpenTransientFile(path, O_RDWR | PG_BINARY);
	bool		reserved;

	if (fd < 0)
		return false;
	reserved = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t) (first % RELSEG_SIZE) * BLCKSZ,
						 (off_t) n * BLCKSZ) == 0;
	CloseTransientFile(fd);
	return reserved;
}

/* Zeroes pages past the end of a table in the shared buffers, then moves the end. */
static void
add_reserved_pages(Relation rel, BlockNumber end, int n)
{
	PGAlignedBlock zeros;

	for (int i = 0; i < n; i++)
	{
		Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, end + i, RBM_ZERO_AND_LOCK, NULL);

		if (!PageIsNew(BufferGetPage(buffer)))
			elog(ERROR, "unexpected data beyond the end of \"%s\" in block %u",
				 RelationGetRelationName(rel), end + i);
		UnlockReleaseBuffer(buffer);
	}
	memset(zeros.data, 0, BLCKSZ);
	smgrextend(RelationGetSmgr(rel), MAIN_FORKNUM, end + n - 1, zeros.data, false);
}

/* Adds up to n zeroed pages at the end of a table, which is locked for it, and returns how many. */
static int
add_pages(Relation rel, BlockNumber end, int n)
{
	n = Min(n, RELSEG_SIZE - end % RELSEG_SIZE);
	if (end % RELSEG_SIZE == 0 || !reserve_pages(rel, end, n))
		return 0;
	add_reserved_pages(rel, end, n);
	return n;
}

#else

static int
add_pages(Relation rel, BlockNumber end, int n)
{
	return 0;
}

#endif

/*
 * Adds up to n pages to a table that ends there and enters them in the free
 * space map; returns how many.  None if somebody else is about it, or has been.
 */
static int
add_free_pages(Relation rel, BlockNumber end, int n)
{
	int			added = 0;

	if (!ConditionalLockRelationForExtension(rel, ExclusiveLock))
		return 0;
	if (RelationGetNumberOfBlocks(rel) == end)
		added = add_pages(rel, end, n);
	UnlockRelationForExtension(rel, ExclusiveLock);
	for (int i = 0; i < added; i++)
		RecordPageWithFreeSpace(rel, end + i, BLCKSZ - SizeOfPageHeaderData);
	if (added > 0)
		FreeSpaceMapVacuumRange(rel, end, end + added);
	return added;
}

/*
 * es_extend_ahead gives a table its next pages if it has, past the page that
 * this backend last wrote to, hardly more than the caller needs.  *look_at is
 * the page from which on to look at the table's end at all, kept by the
 * caller; 0 at first.
 */
void
es_extend_ahead(Relation rel, BlockNumber *look_at, BlockNumber need)
{
	BlockNumber last = RelationGetTargetBlock(rel);
	BlockNumber end;
	BlockNumber step;

	if (last == InvalidBlockNumber || last + need < *look_at || !MAP_MAY_BE_AHEAD)
		return;
	end = RelationGetNumberOfBlocks(rel);
	step = Min(Max(end / STEPS_A_TABLE, need), MAX_STEP);
	if (end >= SMALLEST_TABLE && step >= MIN_STEP && last + need + step / 2 >= end)
		end += add_free_pages(rel, end, step);
	/* not at once again, also where pages cannot be reserved */
	*look_at = Max(end - Min(end, step / 2), last + need + MIN_STEP);
}
