/*
 * pages.c
 *		Pages that a scan comes back to, kept at hand.
 *
 * Streams that were written at the same time lie on the same pages, each with a
 * row here and there.  Who reads one stream after the other comes back to each
 * page for every one of them, and an index scan pins, locks and looks through it
 * each time, which takes longer than to fold the event.  Here the last pages
 * stay pinned, and for each it is known which rows the snapshot sees; reading
 * another of its rows is a look into a bitmap.
 *
 * What the bitmap says stays true while the page is pinned: nothing is pruned
 * away, so a row stays where it is, and whether an MVCC snapshot sees it never
 * changes.  A row that was added since is not in the bitmap.  Those, and what is
 * no plain visible row, are looked up as an index scan does.  On a page that is
 * all-visible every row is seen, and none need be touched to know; on another
 * one rows are looked at once the page has been come back to.
 *
 * Pins are those of the current resource owner: begin, fetch and end are to be
 * called with the same.  Locks: a page's, shared, while it is looked at.
 */
#include "pages.h"

#include "access/heapam.h"
#include "access/xact.h"
#include "pgstat.h"
#include "prefetch.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#define KEPT		64			/* pages; a power of 2 */
#define ROW_WORDS	((MaxHeapTuplesPerPage + 64) / 64)

/* A page that is kept. */
typedef struct KeptPage
{
	BlockNumber block;			/* InvalidBlockNumber: none */
	Buffer		buffer;			/* pinned */
	bool		looked;			/* visible tells all that were there */
	uint64		visible[ROW_WORDS]; /* by offset number */
} KeptPage;

struct EsPages
{
	Relation	rel;
	Snapshot	snapshot;
	KeptPage	kept[KEPT];		/* by the last bits of the block number */
};

/*
 * es_pages_serve tells whether a table can be read this way by a snapshot.  A
 * serializable transaction has more to note of what it reads.
 */
bool
es_pages_serve(Relation rel, Snapshot snapshot)
{
	return rel->rd_tableam == GetHeapamTableAmRoutine() && IsMVCCSnapshot(snapshot) && !IsolationIsSerializable();
}

/* es_pages_begin begins to read a table by a snapshot; es_pages_serve has said that this can be. */
EsPages *
es_pages_begin(Relation rel, Snapshot snapshot)
{
	EsPages    *pages = palloc(sizeof(EsPages));

	pages->rel = rel;
	pages->snapshot = snapshot;
	for (int i = 0; i < KEPT; i++)
		pages->kept[i].block = InvalidBlockNumber;
	return pages;
}

/* es_pages_end gives the pages back. */
void
es_pages_end(EsPages *pages)
{
	for (int i = 0; i < KEPT; i++)
		if (pages->kept[i].block != InvalidBlockNumber)
			ReleaseBuffer(pages->kept[i].buffer);
	pfree(pages);
}

/* Notes which rows of a page the snapshot sees; the caller has locked it. */
static void
look_at_rows(EsPages *pages, KeptPage *kept, bool all_visible)
{
	Page		page = BufferGetPage(kept->buffer);
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	HeapTupleData row = {.t_tableOid = RelationGetRelid(pages->rel)};

	for (OffsetNumber n = FirstOffsetNumber; n <= last; n++)
	{
		ItemId		item = PageGetItemId(page, n);

		if (!ItemIdIsNormal(item))
			continue;
		row.t_data = (HeapTupleHeader) PageGetItem(page, item);
		row.t_len = ItemIdGetLength(item);
		ItemPointerSet(&row.t_self, kept->block, n);
		if (all_visible ||
			(!HeapTupleHeaderIsHotUpdated(row.t_data) && HeapTupleSatisfiesVisibility(&row, pages->snapshot, kept->buffer)))
			kept->visible[n / 64] |= UINT64CONST(1) << (n % 64);
	}
	kept->looked = true;
}

/* Makes a page the one that is kept in a place. */
static void
keep_page(EsPages *pages, KeptPage *kept, BlockNumber block)
{
	Page		page;

	if (kept->block != InvalidBlockNumber)
	{
		kept->block = InvalidBlockNumber;
		ReleaseBuffer(kept->buffer);
	}
	kept->buffer = ReadBuffer(pages->rel, block);
	kept->block = block;
	kept->looked = false;
	memset(kept->visible, 0, sizeof(kept->visible));
	page = BufferGetPage(kept->buffer);
	/* the flag is set and cleared under the lock */
	LockBuffer(kept->buffer, BUFFER_LOCK_SHARE);
	if (PageIsAllVisible(page) && !pages->snapshot->takenDuringRecovery)
		look_at_rows(pages, kept, true);
	LockBuffer(kept->buffer, BUFFER_LOCK_UNLOCK);
}

/* Looks a row up as an index scan does. */
static bool
look_up_row(EsPages *pages, KeptPage *kept, IndexScanDesc scan, bool again, HeapTuple row)
{
	ItemPointerData tid = scan->xs_heaptid;
	bool		all_dead = false;
	bool		found;

	LockBuffer(kept->buffer, BUFFER_LOCK_SHARE);
	if (again && !kept->looked)
		look_at_rows(pages, kept, false);
	found = heap_hot_search_buffer(&tid, pages->rel, kept->buffer, pages->snapshot, row, &all_dead, true);
	LockBuffer(kept->buffer, BUFFER_LOCK_UNLOCK);
	if (!scan->xactStartedInRecovery)
		scan->kill_prior_tuple = all_dead;
	return found;
}

/* Points a row to what is on its page. */
static inline void
point_to_row(const EsPages *pages, const KeptPage *kept, ItemPointer tid, HeapTuple row)
{
	Page		page = BufferGetPage(kept->buffer);
	ItemId		item = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));

	row->t_data = (HeapTupleHeader) PageGetItem(page, item);
	row->t_len = ItemIdGetLength(item);
	row->t_tableOid = RelationGetRelid(pages->rel);
	row->t_self = *tid;
}

/* Tells whether a page is known to have a row that the snapshot sees. */
static inline bool
is_visible(const KeptPage *kept, OffsetNumber number)
{
	return number <= MaxHeapTuplesPerPage && (kept->visible[number / 64] >> (number % 64)) & 1;
}

/* Where a block is kept, if it is. */
static inline KeptPage *
place_of(EsPages *pages, BlockNumber block)
{
	return &pages->kept[block % KEPT];
}

/*
 * es_pages_fetch reads the row that an index scan stands on; false if the
 * snapshot does not see it.  The row is there until the next fetch.
 */
bool
es_pages_fetch(EsPages *pages, IndexScanDesc scan, HeapTuple row)
{
	ItemPointer tid = &scan->xs_heaptid;
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	KeptPage   *kept = place_of(pages, block);
	bool		again = kept->block == block;

	if (!again)
		keep_page(pages, kept, block);
	if (is_visible(kept, ItemPointerGetOffsetNumber(tid)))
		point_to_row(pages, kept, tid, row);
	else if (!look_up_row(pages, kept, scan, again, row))
		return false;
	pgstat_count_heap_fetch(scan->indexRelation);
	return true;
}

/* es_pages_prefetch asks for a row that comes a little later in a forward scan, if its page is kept. */
void
es_pages_prefetch(EsPages *pages, IndexScanDesc scan)
{
	ItemPointer tid = es_prefetch_ahead(scan);
	KeptPage   *kept;

	if (tid == NULL)
		return;
	kept = place_of(pages, ItemPointerGetBlockNumber(tid));
	if (kept->block == ItemPointerGetBlockNumber(tid))
		es_prefetch_row(BufferGetPage(kept->buffer), ItemPointerGetOffsetNumber(tid));
}
