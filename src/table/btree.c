/*
 * btree.c
 *		Sorted entries put into a btree, a leaf at a time; the last entry of many
 *		with the same first key.
 *
 * The server inserts index entries one by one: for each a scan key, a descent, a
 * search on the leaf and a WAL record that is larger than the entry.  A batch
 * of events has hundreds of entries for the same leaf.  So, for unique indexes
 * over one or two bigint columns, entries are handed over sorted: for each leaf
 * one descent (the server's, which also moves right and finishes incomplete
 * splits), all entries that belong on this leaf and fit, and one WAL record
 * of the server's generic kind, which says which bytes of the page changed and
 * is replayed without this library.
 *
 * A generic record replays bytes, so the leaf must be the same on disk and on
 * standbys.  One that carries what the server does not log - entries marked as
 * dead, vacuum's notes of a split - is left to the server.  (A standby may keep
 * such a note longer than its primary, which only a developer's setting,
 * wal_consistency_checking, can see: the server masks it for its own records.)
 *
 * Servers that do not order a generic record and the page's mark as they must
 * (before 15.5 and 16.1) insert all entries themselves.
 *
 * Everything that is more than "room on the leaf, no such key" is left to the
 * server, by inserting the entry in question with index_insert: splitting a full
 * leaf, deleting or deduplicating entries, deciding about an entry with the same
 * key, waiting for another transaction, raising a unique violation.
 *
 * Why uniqueness holds: as in the server, an inserter keeps the leaf that a key
 * would be on locked exclusively from the look until its entry is there.  A key
 * is put only on a leaf whose high key is above it, so an equal key can be on
 * no other leaf, and only if no entry on the leaf, dead ones included, is equal.
 *
 * A crash between two leaves leaves index entries of an aborted transaction,
 * which is what a crash between two calls of index_insert leaves.
 */
#include "table/btree.h"

#include "access/genam.h"
#include "access/generic_xlog.h"
#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "storage/predicate.h"
#include "utils/rel.h"

/*
 * Fewer entries than this for a leaf are put there by the server: a generic WAL
 * record costs as much.
 */
#define MIN_ENTRIES_PER_LEAF	4

/* As many entries at most go to the server before the next look at a leaf. */
#define MAX_ENTRIES_FOR_SERVER	64

/* The operator family of btrees over integers, as the catalogs have it in all releases. */
#define INTEGER_BTREE_FAMILY	1976

/*
 * Servers before these log a generic record before they mark the page as changed: a
 * checkpoint between may lose it.
 */
#define GENERIC_WAL_IS_SAFE	es_base_server_has(150005, 160001)

/* An index tuple over bigints. */
typedef struct BtreeItem
{
	IndexTupleData header;
	int64		keys[ES_BTREE_MAX_KEYS];
} BtreeItem;

/*
 * es_btree_takes_sorted tells whether an index is of the kind that the functions
 * here are for.  One that is being built concurrently has no pages at first.
 */
bool
es_btree_takes_sorted(Relation index)
{
	bool		heapkeyspace;
	bool		allequalimage;

	if (index->rd_rel->relam != BTREE_AM_OID || !index->rd_index->indisunique ||
		!index->rd_index->indimmediate || !index->rd_index->indisready ||
		index->rd_index->indnatts != index->rd_index->indnkeyatts ||
		index->rd_index->indnkeyatts > ES_BTREE_MAX_KEYS)
		return false;
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
		if (TupleDescAttr(RelationGetDescr(index), i)->atttypid != INT8OID ||
			index->rd_opcintype[i] != INT8OID ||
			index->rd_opfamily[i] != INTEGER_BTREE_FAMILY || index->rd_indoption[i] != 0)
			return false;
	_bt_metaversion(index, &heapkeyspace, &allequalimage);
	return heapkeyspace;
}

/* ---- keys ---- */

static inline int
compare_btree_keys(const int64 *a, const int64 *b, int nkeys)
{
	for (int i = 0; i < nkeys; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return 0;
}

/* Compares two entries, for sorting. */
static int
compare_btree_entries(const void *a, const void *b)
{
	return compare_btree_keys(((const EsBtreeEntry *) a)->keys, ((const EsBtreeEntry *) b)->keys, ES_BTREE_MAX_KEYS);
}

/* Sorts entries, which mostly come sorted. */
static void
sort_btree_entries(EsBtreeEntry *entries, int n)
{
	for (int i = 1; i < n; i++)
		if (compare_btree_entries(&entries[i - 1], &entries[i]) > 0)
		{
			qsort(entries, n, sizeof(EsBtreeEntry), compare_btree_entries);
			return;
		}
}

/* Makes the index tuple of an entry and returns its size. */
static inline Size
make_btree_item(BtreeItem *item, const EsBtreeEntry *entry, int nkeys)
{
	Size		size = sizeof(IndexTupleData) + nkeys * sizeof(int64);

	item->header.t_tid = entry->tid;
	item->header.t_info = size;
	memcpy(item->keys, entry->keys, nkeys * sizeof(int64));
	return size;
}

/* ---- one leaf ---- */

/* Tells whether a page may differ from what the WAL says, by hints. */
static bool
has_unlogged_marks(Page page)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);

	if (opaque->btpo_cycleid != 0 || (opaque->btpo_flags & (BTP_HAS_GARBAGE | BTP_SPLIT_END)) != 0)
		return true;
	for (OffsetNumber i = P_FIRSTDATAKEY(opaque); i <= PageGetMaxOffsetNumber(page); i++)
		if (ItemIdIsDead(PageGetItemId(page, i)))
			return true;
	return false;
}

/*
 * Tells whether an entry is below a leaf's high key, of which the server may have
 * cut off the last columns.
 */
static bool
is_below_high_key(const EsBtree *btree, Page page, const EsBtreeEntry *entry)
{
	BtreeItem  *high;
	int			nkeys;

	if (P_RIGHTMOST(BTPageGetOpaque(page)))
		return true;
	high = (BtreeItem *) PageGetItem(page, PageGetItemId(page, P_HIKEY));
	nkeys = BTreeTupleGetNAtts(&high->header, btree->index);
	return compare_btree_keys(entry->keys, high->keys, Min(nkeys, btree->info->ii_NumIndexKeyAttrs)) < 0;
}

/* Counts the entries, of n that are not below what a leaf begins with, that belong on the leaf. */
static int
count_belonging(const EsBtree *btree, Page page, const EsBtreeEntry *entries, int n)
{
	int			low = 0;

	while (low < n)
	{
		int			middle = low + (n - low) / 2;

		if (is_below_high_key(btree, page, &entries[middle]))
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

/* Finds the first item, from low on, that is not below an entry; *equal if it has its key. */
static OffsetNumber
find_place_on_leaf(Page page, OffsetNumber low, const EsBtreeEntry *entry, int nkeys, bool *equal)
{
	OffsetNumber high = OffsetNumberNext(PageGetMaxOffsetNumber(page));

	*equal = false;
	while (low < high)
	{
		OffsetNumber middle = low + (high - low) / 2;
		BtreeItem  *item = (BtreeItem *) PageGetItem(page, PageGetItemId(page, middle));
		int			order = compare_btree_keys(item->keys, entry->keys, nkeys);

		*equal = *equal || order == 0;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Adds entries that belong on a leaf to an image of it, up to one that is there
 * already, and returns how many.
 */
static int
add_entries_to_leaf(Page image, const EsBtreeEntry *entries, int n, int nkeys)
{
	OffsetNumber place = P_FIRSTDATAKEY(BTPageGetOpaque(image));
	BtreeItem	item;
	bool		equal;

	for (int i = 0; i < n; i++)
	{
		Size		size = make_btree_item(&item, &entries[i], nkeys);

		if (PageGetFreeSpace(image) < size)
			return i;
		place = find_place_on_leaf(image, place, &entries[i], nkeys, &equal);
		if (equal)
			return i;
		if (PageAddItem(image, (Item) &item, size, place, false, false) == InvalidOffsetNumber)
			elog(ERROR, "failed to add an item to an index leaf");
	}
	return n;
}

/*
 * Puts entries that belong on a locked leaf there, as many as there is room
 * for, and returns how many; 0 also if the leaf is one for the server.
 */
static int
fill_leaf(const EsBtree *btree, Buffer buffer, const EsBtreeEntry *entries, int n)
{
	Page		page = BufferGetPage(buffer);
	int			nkeys = btree->info->ii_NumIndexKeyAttrs;
	GenericXLogState *state;
	int			added;
	int			room = PageGetFreeSpace(page) / sizeof(BtreeItem);

	if (Min(n, room) < MIN_ENTRIES_PER_LEAF || has_unlogged_marks(page) || !GENERIC_WAL_IS_SAFE)
		return 0;
	CheckForSerializableConflictIn(btree->index, NULL, BufferGetBlockNumber(buffer));
	state = GenericXLogStart(btree->index);
	added = add_entries_to_leaf(GenericXLogRegisterBuffer(state, buffer, 0), entries, n, nkeys);
	if (added > 0)
		(void) GenericXLogFinish(state);
	else
		GenericXLogAbort(state);
	return added;
}

/* ---- the tree ---- */

/* Finds the leaf where an entry belongs and locks it; to read, an index that is empty has none. */
static Buffer
lock_leaf(const EsBtree *btree, const EsBtreeEntry *entry, int access)
{
	BtreeItem	item;
	BTScanInsert key;
	BTStack		stack;
	Buffer		buffer;

	(void) make_btree_item(&item, entry, btree->info->ii_NumIndexKeyAttrs);
	key = _bt_mkscankey(btree->index, &item.header);
	key->scantid = NULL;		/* the first leaf where the key could be */
	stack = es_bt_search(btree->index, btree->heap, key, &buffer, access);
	if (stack)
		_bt_freestack(stack);
	pfree(key);
	return buffer;
}

/* Has the server insert an entry; raises 23505 if another row has its key. */
static void
insert_entry_by_server(const EsBtree *btree, EsBtreeEntry *entry)
{
	Datum		values[ES_BTREE_MAX_KEYS];
	bool		isnull[ES_BTREE_MAX_KEYS] = {0};

	for (int i = 0; i < ES_BTREE_MAX_KEYS; i++)
		values[i] = Int64GetDatum(entry->keys[i]);
	index_insert(btree->index, values, isnull, &entry->tid, btree->heap,
				 UNIQUE_CHECK_YES, false, btree->info);
}

/*
 * es_btree_insert_sorted inserts n entries, which it sorts first, into an index
 * of the kind that es_btree_takes_sorted tells.  Raises 23505 if a key is there
 * already; then some entries may have been inserted, as after calls of
 * index_insert.
 *
 * Where leaves have only few entries each to take, looking at them first is
 * work done twice; then ever more entries go to the server before the next
 * look.
 */
void
es_btree_insert_sorted(const EsBtree *btree, EsBtreeEntry *entries, int n)
{
	int			for_server = 0;
	int			backoff = 1;

	sort_btree_entries(entries, n);
	for (int i = 0; i < n;)
	{
		int			filled = 0;

		if (for_server == 0 && n - i >= MIN_ENTRIES_PER_LEAF)
		{
			Buffer		buffer = lock_leaf(btree, &entries[i], BT_WRITE);

			filled = fill_leaf(btree, buffer, entries + i,
							   count_belonging(btree, BufferGetPage(buffer), entries + i, n - i));
			_bt_relbuf(btree->index, buffer);
			for_server = filled > 0 ? 1 : backoff;
			backoff = filled > 0 ? 1 : Min(2 * backoff, MAX_ENTRIES_FOR_SERVER);
		}
		i += filled;
		if (filled == 0)
		{
			insert_entry_by_server(btree, &entries[i++]);
			for_server = Max(for_server - 1, 0);
		}
	}
}

/*
 * es_btree_find_last finds the entry with a first key and the highest second
 * one.  *leaf stays pinned while the caller looks at the row, so that vacuum
 * cannot put another there; the caller releases it.  False, with nothing
 * pinned, if there is none, and also where it takes more than a look at one
 * leaf: then an index scan has to tell.
 */
bool
es_btree_find_last(const EsBtree *btree, int64 first, ItemPointer tid, Buffer *leaf)
{
	EsBtreeEntry wanted = {.keys = {first, PG_INT64_MAX}};
	Page		page;
	OffsetNumber place;
	BtreeItem  *item;
	bool		equal;

	*leaf = lock_leaf(btree, &wanted, BT_READ);
	if (!BufferIsValid(*leaf))
		return false;
	page = BufferGetPage(*leaf);
	place = find_place_on_leaf(page, P_FIRSTDATAKEY(BTPageGetOpaque(page)), &wanted, 2, &equal);
	if (place > P_FIRSTDATAKEY(BTPageGetOpaque(page)))
	{
		item = (BtreeItem *) PageGetItem(page, PageGetItemId(page, place - 1));
		if (item->keys[0] == first && !BTreeTupleIsPosting(&item->header))
		{
			*tid = item->header.t_tid;
			_bt_unlockbuf(btree->index, *leaf);
			return true;
		}
	}
	_bt_relbuf(btree->index, *leaf);
	return false;
}
