/*
 * walk.c
 *		Rows in the order of a btree over integers.
 *
 * The server's index scan compares each entry with each of its keys, by calls of
 * functions, hands entries out through four layers, and prepares for much that a read
 * of the log never asks for: other types, arrays of keys, marks, changes of direction.
 * Where only a range of integers is wanted, forwards, the ends of it are
 * looked for on the leaf, and all that lies between is taken at once.
 *
 * A leaf is locked, shared, while its entries are taken, and nothing is held afterwards.  So
 * it is as in the server's scan, which does not keep leaves either for an MVCC snapshot: the
 * place of a row that has been removed since may be another one's by now, but then
 * of one that the snapshot does not see.  The next leaf is the one that was to the right
 * when the entries were taken.  If that has been split since, its right half is
 * behind it; if the leaf before it has been, what was moved has been taken.  A leaf that was
 * deleted still leads to the right, and is not used for anything else while
 * a snapshot is held that is older.
 *
 * Entries that are marked dead are passed over, as the server does, but none is marked here.
 *
 * Who goes from one value of the first column to the next, and comes back to pages, does so entry
 * by entry, and has the rows read of those that it wants.  Their pages are kept some entries
 * before.  As a page may be on disk, that is done only while all entries are wanted, and have been
 * for a while: what is not may be of other categories, or after the time up to which streams are
 * read.
 *
 * A serializable transaction has to note what it reads, and is left to the server.
 */
#include "table/walk.h"

#include "access/itup.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "table/btree.h"

#define ROWS_AHEAD	6			/* that one is asked for, of who goes from
								 * entry to entry */
#define PAGES_AHEAD	12			/* that its page is kept, */
#define SURE_AFTER	64			/* once so many were wanted in a row */

/* ---- what is wanted ---- */

/* The number that a key compares with. */
static int64
number_of_key(const EsWalk *walk, const ScanKeyData *key)
{
	return walk->btree.narrow && key->sk_attno == 1 ? DatumGetInt32(key->sk_argument) : DatumGetInt64(key->sk_argument);
}

/* Takes a key's part of the range: of the last column it may be any bound; false if it is none. */
static bool
take_bound(EsWalk *walk, const ScanKeyData *key, int64 *low, int64 *end)
{
	int64		number = number_of_key(walk, key);
	int64		above = number == PG_INT64_MAX ? number : number + 1;

	switch (key->sk_strategy)
	{
		case BTEqualStrategyNumber:
			*low = Max(*low, number);
			*end = Min(*end, above);
			return true;
		case BTGreaterEqualStrategyNumber:
			*low = Max(*low, number);
			return true;
		case BTGreaterStrategyNumber:
			*low = Max(*low, above);
			return true;
		case BTLessEqualStrategyNumber:
			*end = Min(*end, above);
			return true;
		case BTLessStrategyNumber:
			*end = Min(*end, number);
			return true;
	}
	return false;
}

/* Takes all from a value of the first of two columns on. */
static void
take_first_bound(EsWalk *walk, const ScanKeyData *key)
{
	walk->first = (EsBtreeEntry)
	{
		.keys =
		{
			number_of_key(walk, key), PG_INT64_MIN
		}
	};
	walk->end = (EsBtreeEntry)
	{
		.keys =
		{
			PG_INT64_MAX, PG_INT64_MAX
		}
	};
}

/*
 * Takes the keys of a scan; false if they ask for something else than a range of the last
 * column, of one value of that before it or, for who goes from entry to entry, of all values of
 * that from one on.  Nothing that is stored has the greatest bigint.
 */
static bool
take_range(EsWalk *walk, const ScanKeyData *keys, int nkeys)
{
	int			last = walk->btree.index->rd_index->indnkeyatts;
	int64		low = PG_INT64_MIN;
	int64		end = PG_INT64_MAX;
	int			equal = 0;

	walk->begun = false;
	if (walk->by_entry && keys[0].sk_attno < last && keys[0].sk_strategy == BTGreaterEqualStrategyNumber)
	{
		take_first_bound(walk, &keys[0]);
		return true;
	}
	for (int i = 0; i < nkeys; i++)
	{
		if (keys[i].sk_flags != 0)
			return false;
		if (keys[i].sk_attno == last)
		{
			if (!take_bound(walk, &keys[i], &low, &end))
				return false;
			continue;
		}
		if (keys[i].sk_strategy != BTEqualStrategyNumber)
			return false;
		walk->first.keys[0] = walk->end.keys[0] = number_of_key(walk, &keys[i]);
		equal++;
	}
	walk->first.keys[last - 1] = low;
	walk->end.keys[last - 1] = end;
	walk->begun = low >= end;	/* that is all */
	return equal == last - 1;
}

/*
 * es_walk_begin begins to go through what the keys of an index scan ask for, forwards, in the
 * current memory context; entry by entry, if the pages are come back to.  NULL if that must be an
 * index scan of the server.
 */
EsWalk *
es_walk_begin(Relation heap, Relation index, EsPages *pages, Snapshot snapshot, const ScanKeyData *keys, int nkeys)
{
	bool		by_entry = es_pages_come_back(pages);
	EsWalk	   *walk;

	if (!IsMVCCSnapshot(snapshot) || IsolationIsSerializable() || es_btree_kind(heap, index) == ES_BTREE_OTHER)
		return NULL;
	walk = palloc(offsetof(EsWalk, keys) + (by_entry ? MaxTIDsPerBTreePage * sizeof(int64) : 0));
	memset(walk, 0, offsetof(EsWalk, rows));
	walk->btree.index = index;
	walk->btree.heap = heap;
	walk->btree.narrow = es_btree_is_narrow(index);
	walk->pages = pages;
	walk->snapshot = snapshot;
	walk->by_entry = by_entry;
	walk->after = -1;
	if (take_range(walk, keys, nkeys))
		return walk;
	pfree(walk);
	return NULL;
}

/* es_walk_restart has a walk begin again, by other keys of which it may be made. */
void
es_walk_restart(EsWalk *walk, const ScanKeyData *keys, int nkeys)
{
	walk->next = P_NONE;
	walk->given = walk->fetched = walk->at = walk->count = 0;
	walk->after = -1;
	if (!take_range(walk, keys, nkeys))
		elog(ERROR, "not a range of index \"%s\"", RelationGetRelationName(walk->btree.index));
}

/* ---- leaves ---- */

/* Raises an error: a leaf has more than there is room for on one. */
static void
refuse_crowded_leaf(const EsWalk *walk)
{
	ereport(ERROR,
			errcode(ERRCODE_INDEX_CORRUPTED),
			errmsg("index \"%s\" has a page with too many entries", RelationGetRelationName(walk->btree.index)),
			errhint("Use REINDEX INDEX."));
}

/* Takes what an entry leads to: mostly one row, but it may be several versions of it. */
static inline void
take_tids_of_entry(EsWalk *walk, IndexTuple item)
{
	int			count = unlikely(BTreeTupleIsPosting(item)) ? BTreeTupleGetNPosting(item) : 1;

	if (unlikely(count > MaxTIDsPerBTreePage - walk->count))
		refuse_crowded_leaf(walk);
	if (likely(count == 1))
		walk->tids[walk->count] = *BTreeTupleGetHeapTID(item);
	else
		memcpy(&walk->tids[walk->count], BTreeTupleGetPosting(item), sizeof(ItemPointerData) * count);
	walk->count += count;
}

/*
 * Takes some entries of a locked leaf, with their first keys or without.  Who else reads the leaf
 * may mark one as dead meanwhile, so each is looked at once.
 */
static pg_attribute_always_inline void
take_some_entries(EsWalk *walk, Page page, OffsetNumber from, OffsetNumber end, bool with_keys)
{
	bool		takes_dead = TransactionStartedDuringRecovery();

	for (OffsetNumber n = from; n < end; n++)
	{
		ItemId		item = PageGetItemId(page, n);
		IndexTuple	entry = (IndexTuple) PageGetItem(page, item);
		int			first = with_keys ? walk->count : 0;

		if (unlikely(ItemIdIsDead(item)) && !takes_dead)
			continue;
		take_tids_of_entry(walk, entry);
		for (int i = first; with_keys && i < walk->count; i++)
			walk->keys[i] = es_leaf_first_key(&walk->btree, entry);
	}
}

/* Takes the entries that are wanted of a locked leaf, from a place on. */
static void
take_entries_of_leaf(EsWalk *walk, Page page, OffsetNumber from)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);
	bool		equal;
	OffsetNumber end = es_leaf_find_place(&walk->btree, page, from, &walk->end, &equal);

	if (walk->by_entry)
		take_some_entries(walk, page, from, end, true);
	else
		take_some_entries(walk, page, from, end, false);
	walk->next = end > PageGetMaxOffsetNumber(page) && !es_leaf_is_below_end(&walk->btree, page, &walk->end) ?
		opaque->btpo_next : P_NONE;
}

/* Reads the first leaf that may have something. */
static void
read_first_leaf(EsWalk *walk)
{
	Relation	index = walk->btree.index;
	Buffer		buffer = es_leaf_lock(&walk->btree, &walk->first, BT_READ);
	Page		page;
	bool		equal;

	walk->begun = true;
	walk->next = P_NONE;
	pgstat_count_index_scan(index);
	if (!BufferIsValid(buffer))
		return;					/* the index is empty */
	page = BufferGetPage(buffer);
	es_test_snapshot_age(walk->snapshot, index, page);
	take_entries_of_leaf(walk, page, es_leaf_find_place(&walk->btree, page, P_FIRSTDATAKEY(BTPageGetOpaque(page)),
														&walk->first, &equal));
	_bt_relbuf(index, buffer);
}

/* Reads the next leaf, unless it is one that has been deleted: then that leads on. */
static void
read_next_leaf(EsWalk *walk)
{
	Relation	index = walk->btree.index;
	Buffer		buffer = _bt_getbuf(index, walk->next, BT_READ);
	Page		page = BufferGetPage(buffer);
	BTPageOpaque opaque = BTPageGetOpaque(page);

	es_test_snapshot_age(walk->snapshot, index, page);
	if (P_IGNORE(opaque))
		walk->next = opaque->btpo_next;
	else
		take_entries_of_leaf(walk, page, P_FIRSTDATAKEY(opaque));
	_bt_relbuf(index, buffer);
}

/* es_walk_read_on takes the entries of the next leaf that has any; false if there is none. */
bool
es_walk_read_on(EsWalk *walk)
{
	walk->after = walk->after == walk->count ? 0 : -1;
	walk->at = walk->count = 0;
	while (walk->count == 0 && (!walk->begun || walk->next != P_NONE))
	{
		CHECK_FOR_INTERRUPTS();
		if (walk->begun)
			read_next_leaf(walk);
		else
			read_first_leaf(walk);
	}
	pgstat_count_index_tuples(walk->btree.index, walk->count);
	return walk->count > 0;
}

/* ---- rows ---- */

/* Fetches the row of one entry; how many the snapshot sees of it. */
static int
fetch_single_row(EsWalk *walk)
{
	bool		all_dead;

	return es_pages_fetch(walk->pages, walk->btree.heap, &walk->tids[walk->at++], &walk->rows[0], &all_dead) ? 1 : 0;
}

/* es_walk_fetch fetches the next rows; false if there is none. */
bool
es_walk_fetch(EsWalk *walk)
{
	walk->given = walk->fetched = 0;
	while (walk->fetched == 0 && (walk->at < walk->count || es_walk_read_on(walk)))
	{
		CHECK_FOR_INTERRUPTS();
		walk->fetched = es_pages_fetch_run(walk->pages, walk->btree.heap, &walk->tids[walk->at],
										   walk->count - walk->at, walk->rows);
		walk->at += walk->fetched;
		if (unlikely(walk->fetched == 0))
			walk->fetched = fetch_single_row(walk);
	}
	for (int i = 0; i < walk->fetched; i++)
		pgstat_count_heap_fetch(walk->btree.index);
	return walk->fetched > 0;
}

/*
 * es_walk_fetch_entry reads the row of the entry that a walk has come to, which is there until the
 * next fetch; false if the snapshot does not see it.
 */
bool
es_walk_fetch_entry(EsWalk *walk, HeapTuple row)
{
	ItemPointer tid = &walk->tids[walk->at - 1];
	int			left = walk->count - walk->at;
	bool		all_dead;

	walk->in_row = walk->after == walk->at - 1 ? walk->in_row + 1 : 1;
	walk->after = walk->at;
	if (left >= PAGES_AHEAD && walk->in_row >= SURE_AFTER)
		es_pages_expect(walk->pages, walk->btree.heap, tid + PAGES_AHEAD);
	if (left >= ROWS_AHEAD)
		es_pages_prefetch(walk->pages, walk->btree.heap, tid + ROWS_AHEAD);
	if (!es_pages_fetch(walk->pages, walk->btree.heap, tid, row, &all_dead))
		return false;
	pgstat_count_heap_fetch(walk->btree.index);
	return true;
}
