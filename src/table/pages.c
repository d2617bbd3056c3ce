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
 * To find a page takes some reads of memory, each of which waits for the one before.  So who knows
 * which row comes in a while has its page kept by then, and somewhat later the row asked for.
 *
 * A scan of one stream, or of the log, wants some rows of a page, one after the other, and does
 * not come back.  It keeps few pages.  If it knows which rows come next (walk.c), those of
 * them that are on a page are looked at together, and asked for from memory; and before they are
 * given out, so are those of the page that is wanted next, while the one after it is asked for.
 * So what a page has is on its way while the one before is dealt with.  Nothing is
 * read ahead for who may want the rows of one page only.  Else it looks through
 * a page when it has wanted so many of its rows that it looks as if that were less work
 * than to look up the rest one by one.
 *
 * Pages may be of several tables, which stay open until they are forgotten.  They
 * are no more than a backend's share of the buffers.  Pins are those of the current
 * resource owner: fetch, forget and end are to be called with the same.  Locks: a
 * page's, shared, while it is looked at.
 */
#include "table/pages.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "table/prefetch.h"

#define MOST_KEPT	64			/* pages; a power of 2, as LEAST_KEPT */
#define LEAST_KEPT	8
#define FEW_KEPT	4			/* for who does not come back */
#define ROWS_ALL_VISIBLE	64	/* of an all-visible page cost as much as to
								 * look one up */
#define ROWS_OTHER	8			/* of another page */
#define ROW_WORDS	((MaxHeapTuplesPerPage + 64) / 64)
#define BYTES_OF_START	128		/* of a page, where it says which rows it has */
#define MOST_ELSEWHERE	4		/* rows on other pages, between those of a
								 * page that are looked at together */

/* A page that is kept. */
typedef struct KeptPage
{
	Relation	rel;			/* NULL: none */
	BlockNumber block;
	Buffer		buffer;			/* pinned */
	bool		looked;			/* visible tells all that were there */
	uint16		wanted;			/* rows, that were looked up */
	uint32		used;			/* last, by the clock */
	uint64		visible[ROW_WORDS]; /* by offset number */
} KeptPage;

struct EsPages
{
	Snapshot	snapshot;
	bool		comes_back;
	Size		bytes;			/* of a row, that are read */
	bool		looks_ahead;	/* rows of more than one page are wanted */
	uint32		clock;			/* how often pages were looked for */
	uint32		mask;			/* how many there are, less one */
	KeptPage	kept[FLEXIBLE_ARRAY_MEMBER];	/* see place_of_page */
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

/*
 * es_pages_begin begins to read by a snapshot, about so many bytes of each row; comes_back: to
 * the same pages, again and again.
 */
EsPages *
es_pages_begin(Snapshot snapshot, bool comes_back, Size bytes)
{
	EsPages    *pages;
	uint32		count = comes_back ? MOST_KEPT : FEW_KEPT;
	uint32		least = comes_back ? LEAST_KEPT : 1;

	while (count > least && count > NBuffers / MaxBackends)
		count /= 2;
	pages = palloc(offsetof(EsPages, kept) + count * sizeof(KeptPage));
	pages->snapshot = snapshot;
	pages->comes_back = comes_back;
	pages->bytes = bytes;
	pages->looks_ahead = false;
	pages->clock = 0;
	pages->mask = count - 1;
	for (int i = 0; i < count; i++)
	{
		pages->kept[i].rel = NULL;
		pages->kept[i].used = 0;
	}
	return pages;
}

/* es_pages_come_back tells whether the reader comes back to the same pages. */
bool
es_pages_come_back(const EsPages *pages)
{
	return pages->comes_back;
}

/* Gives a page back. */
static void
release_kept_page(KeptPage *kept)
{
	kept->rel = NULL;
	ReleaseBuffer(kept->buffer);
}

/* es_pages_forget gives the pages of a table back, which is going to be closed. */
void
es_pages_forget(EsPages *pages, Relation rel)
{
	for (int i = 0; i <= pages->mask; i++)
		if (pages->kept[i].rel == rel)
			release_kept_page(&pages->kept[i]);
}

/* es_pages_end ends reading; all tables have been forgotten. */
void
es_pages_end(EsPages *pages)
{
	pfree(pages);
}

/* Points a row to what is on its page. */
static inline void
point_to_row(Page page, Oid table, ItemPointer tid, HeapTuple row)
{
	ItemId		item = PageGetItemId(page, ItemPointerGetOffsetNumberNoCheck(tid));

	row->t_data = (HeapTupleHeader) PageGetItem(page, item);
	row->t_len = ItemIdGetLength(item);
	row->t_tableOid = table;
	row->t_self = *tid;
}

/* Tells whether a page is known to have a row that the snapshot sees. */
static inline bool
is_row_visible(const KeptPage *kept, OffsetNumber number)
{
	return number <= MaxHeapTuplesPerPage && (kept->visible[number / 64] >> (number % 64)) & 1;
}

/* Tells whether the snapshot sees a row of a page that is not all-visible. */
static bool
sees_row(const EsPages *pages, const KeptPage *kept, ItemId item, OffsetNumber number)
{
	HeapTupleData row = {.t_tableOid = RelationGetRelid(kept->rel)};

	row.t_data = (HeapTupleHeader) PageGetItem(BufferGetPage(kept->buffer), item);
	row.t_len = ItemIdGetLength(item);
	ItemPointerSet(&row.t_self, kept->block, number);
	return !HeapTupleHeaderIsHotUpdated(row.t_data) && HeapTupleSatisfiesVisibility(&row, pages->snapshot, kept->buffer);
}

/* Notes which rows of a page the snapshot sees; the caller has locked it. */
static void
note_visible_rows(const EsPages *pages, KeptPage *kept, bool all_visible)
{
	Page		page = BufferGetPage(kept->buffer);
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	for (OffsetNumber n = FirstOffsetNumber; n <= last; n++)
	{
		ItemId		item = PageGetItemId(page, n);

		if (ItemIdIsNormal(item) && (all_visible || sees_row(pages, kept, item, n)))
			kept->visible[n / 64] |= UINT64CONST(1) << (n % 64);
	}
	kept->looked = true;
}

/*
 * Tells whether all see all rows of a page that the caller has locked; what a standby's snapshot
 * sees may be less.
 */
static inline bool
is_all_visible(const EsPages *pages, const KeptPage *kept)
{
	return PageIsAllVisible(BufferGetPage(kept->buffer)) && !pages->snapshot->takenDuringRecovery;
}

/*
 * Notes which of the rows that are wanted next, and are on a page, the snapshot sees, and has them
 * come from memory.  A few on other pages do not end that: so it is where
 * some transactions have written at a time.
 */
static void
note_rows_ahead(const EsPages *pages, KeptPage *kept, const ItemPointerData *tids, int count)
{
	Page		page = BufferGetPage(kept->buffer);
	int			elsewhere = 0;
	OffsetNumber last;
	bool		all_visible;

	LockBuffer(kept->buffer, BUFFER_LOCK_SHARE);
	last = PageGetMaxOffsetNumber(page);
	all_visible = is_all_visible(pages, kept);
	for (int i = 0; i < count && elsewhere < MOST_ELSEWHERE; i++)
	{
		OffsetNumber n = ItemPointerGetOffsetNumberNoCheck(&tids[i]);
		ItemId		item;

		if (unlikely(ItemPointerGetBlockNumberNoCheck(&tids[i]) != kept->block))
		{
			elsewhere++;
			continue;
		}
		if (unlikely(n < FirstOffsetNumber || n > last))
			continue;
		item = PageGetItemId(page, n);
		if (!ItemIdIsNormal(item) || !(all_visible || sees_row(pages, kept, item, n)))
			continue;
		kept->visible[n / 64] |= UINT64CONST(1) << (n % 64);
		es_prefetch_bytes(PageGetItem(page, item), Min(ItemIdGetLength(item), pages->bytes));
	}
	LockBuffer(kept->buffer, BUFFER_LOCK_UNLOCK);
}

/* Makes a page the one that is kept in a place. */
static void
keep_page(KeptPage *kept, Relation rel, BlockNumber block)
{
	if (kept->rel != NULL)
		release_kept_page(kept);
	kept->buffer = ReadBuffer(rel, block);
	kept->rel = rel;
	kept->block = block;
	kept->looked = false;
	kept->wanted = 0;
	memset(kept->visible, 0, sizeof(kept->visible));
}

/* Tells whether a page, which the caller has locked, had better be looked through now. */
static bool
is_worth_a_look(const EsPages *pages, const KeptPage *kept, bool all_visible)
{
	if (pages->comes_back)
		return all_visible || kept->wanted > 1;
	return kept->wanted * (all_visible ? ROWS_ALL_VISIBLE : ROWS_OTHER) >=
		PageGetMaxOffsetNumber(BufferGetPage(kept->buffer));
}

/*
 * Looks a row up as an index scan does, unless the page is looked through now, and that tells.
 * The page's flag is set and cleared under the lock.
 */
static bool
look_up_row_on_page(const EsPages *pages, KeptPage *kept, ItemPointer place, HeapTuple row, bool *all_dead)
{
	ItemPointerData tid = *place;
	bool		all_visible;
	bool		found;

	kept->wanted++;
	LockBuffer(kept->buffer, BUFFER_LOCK_SHARE);
	all_visible = is_all_visible(pages, kept);
	if (!kept->looked && is_worth_a_look(pages, kept, all_visible))
		note_visible_rows(pages, kept, all_visible);
	found = is_row_visible(kept, ItemPointerGetOffsetNumber(&tid));
	if (found)
		point_to_row(BufferGetPage(kept->buffer), RelationGetRelid(kept->rel), &tid, row);
	else
		found = heap_hot_search_buffer(&tid, kept->rel, kept->buffer, pages->snapshot, row, all_dead, true);
	LockBuffer(kept->buffer, BUFFER_LOCK_UNLOCK);
	return found;
}

/* Tells whether a place has a page. */
static inline bool
holds_page(const KeptPage *kept, Relation rel, BlockNumber block)
{
	return kept->rel == rel && kept->block == block;
}

/* Gives the place of two that was used longer ago. */
static inline KeptPage *
older_place(KeptPage *a, KeptPage *b)
{
	return (int32) (b->used - a->used) < 0 ? b : a;
}

/*
 * Where a page is kept or, if it is not, would be: neighbours, also in tables with OIDs next to
 * each other, have places of their own.  For who comes back there are two others, by a hash, and
 * what was used last stays: the pages that streams go on through together may all be as far apart
 * as there are places.
 */
static inline KeptPage *
place_of_page(EsPages *pages, Relation rel, BlockNumber block)
{
	uint32		number = block + RelationGetRelid(rel);
	KeptPage   *first = &pages->kept[number & pages->mask];
	KeptPage   *second;
	KeptPage   *third;

	if (likely(holds_page(first, rel, block)) || !pages->comes_back)
		return first;
	number = murmurhash32(number);
	second = &pages->kept[number & pages->mask];
	if (holds_page(second, rel, block))
		return second;
	third = &pages->kept[(number >> 16) & pages->mask];
	return holds_page(third, rel, block) ? third : older_place(older_place(first, second), third);
}

/* Gives a page, which is kept from now on if it was not. */
static inline KeptPage *
find_page(EsPages *pages, Relation rel, BlockNumber block)
{
	KeptPage   *kept = place_of_page(pages, rel, block);

	if (!holds_page(kept, rel, block))
		keep_page(kept, rel, block);
	kept->used = ++pages->clock;
	return kept;
}

/*
 * es_pages_fetch reads the row that an index leads to; false if the snapshot does not see it,
 * and then *all_dead becomes whether nobody does.  The row is there until the next fetch.
 */
bool
es_pages_fetch(EsPages *pages, Relation rel, ItemPointer tid, HeapTuple row, bool *all_dead)
{
	KeptPage   *kept = find_page(pages, rel, ItemPointerGetBlockNumber(tid));

	*all_dead = false;
	if (!is_row_visible(kept, ItemPointerGetOffsetNumber(tid)))
		return look_up_row_on_page(pages, kept, tid, row, all_dead);
	point_to_row(BufferGetPage(kept->buffer), RelationGetRelid(rel), tid, row);
	return true;
}

/* Counts the first of some rows that are on the same page. */
static inline int
count_on_page(const ItemPointerData *tids, int count)
{
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&tids[0]);
	int			n = 1;

	while (n < count && ItemPointerGetBlockNumberNoCheck(&tids[n]) == block)
		n++;
	return n;
}

/*
 * Looks at the page of the rows that are wanted after those of a page, and has the one after it
 * come from memory, as far as they have other places.
 */
static void
look_ahead(EsPages *pages, const KeptPage *kept, const ItemPointerData *tids, int count)
{
	Relation	rel = kept->rel;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&tids[0]);
	KeptPage   *next = place_of_page(pages, rel, block);
	KeptPage   *after;
	int			n = count_on_page(tids, count);

	if (next == kept)
		return;
	next = find_page(pages, rel, block);
	if (!is_row_visible(next, ItemPointerGetOffsetNumberNoCheck(&tids[0])))
		note_rows_ahead(pages, next, tids, count);
	if (n == count)
		return;
	block = ItemPointerGetBlockNumberNoCheck(&tids[n]);
	after = place_of_page(pages, rel, block);
	if (after == kept || after == next || holds_page(after, rel, block))
		return;
	keep_page(after, rel, block);
	es_prefetch_bytes(BufferGetPage(after->buffer), BYTES_OF_START);
}

/*
 * es_pages_fetch_run reads the first rows of those that an index leads to, one after the other, as
 * far as they are on one page, are plain, and the snapshot sees them; returns how many that
 * are.  They are there until the next fetch.
 */
int
es_pages_fetch_run(EsPages *pages, Relation rel, ItemPointer tids, int count, HeapTuple rows)
{
	BlockNumber block = ItemPointerGetBlockNumber(tids);
	KeptPage   *kept = find_page(pages, rel, block);
	Page		page = BufferGetPage(kept->buffer);
	Oid			table = RelationGetRelid(rel);
	int			most = Min(count, ES_PAGES_RUN);
	int			n = 0;

	if (!is_row_visible(kept, ItemPointerGetOffsetNumber(tids)))
		note_rows_ahead(pages, kept, tids, most);
	while (n < most && ItemPointerGetBlockNumberNoCheck(&tids[n]) == block &&
		   is_row_visible(kept, ItemPointerGetOffsetNumberNoCheck(&tids[n])))
	{
		point_to_row(page, table, &tids[n], &rows[n]);
		n++;
	}
	if (pages->looks_ahead && n < count)
		look_ahead(pages, kept, &tids[n], Min(count - n, ES_PAGES_RUN));
	pages->looks_ahead = true;
	return n;
}

/*
 * es_pages_expect keeps the page of a row that is wanted in a while, and asks for where it says
 * which rows it has: of a page that is not in the processor's cache nothing is either that leads
 * to it.
 */
void
es_pages_expect(EsPages *pages, Relation rel, ItemPointer tid)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	KeptPage   *kept = place_of_page(pages, rel, block);

	if (holds_page(kept, rel, block))
		return;
	kept = find_page(pages, rel, block);
	es_prefetch_bytes(BufferGetPage(kept->buffer), BYTES_OF_START);
}

/* es_pages_prefetch asks for a row that is wanted soon, if its page is kept. */
void
es_pages_prefetch(EsPages *pages, Relation rel, ItemPointer tid)
{
	KeptPage   *kept = place_of_page(pages, rel, ItemPointerGetBlockNumber(tid));

	if (holds_page(kept, rel, ItemPointerGetBlockNumber(tid)))
		es_prefetch_row(BufferGetPage(kept->buffer), ItemPointerGetOffsetNumber(tid), pages->bytes);
}
