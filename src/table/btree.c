/*
 * btree.c
 *		Entries put into a btree over integers: one by itself, or many, sorted, a
 *		leaf at a time.
 *
 * A single entry is put on its leaf by leaf.c, if that can, and else by the server.
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
 * Uniqueness holds as for single entries (leaf.c).
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
 * Fewer entries than this for a leaf are put there one by one: a generic WAL
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

/* Tells whether a column of an index is one of integers, never NULL, in their usual order. */
static bool
is_integer_column(Relation heap, Relation index, int i, Oid type)
{
	AttrNumber	column = index->rd_index->indkey.values[i];

	return column > 0 && TupleDescAttr(RelationGetDescr(heap), column - 1)->attnotnull &&
		TupleDescAttr(RelationGetDescr(index), i)->atttypid == type && index->rd_opcintype[i] == type &&
		index->rd_opfamily[i] == INTEGER_BTREE_FAMILY && index->rd_indoption[i] == 0;
}

/* Tells whether the last column of an index is a bigint, and one before it an integer. */
static bool
has_integer_columns(Relation heap, Relation index)
{
	int			last = index->rd_index->indnkeyatts - 1;

	return is_integer_column(heap, index, last, INT8OID) &&
		(last == 0 || is_integer_column(heap, index, 0, INT8OID) || is_integer_column(heap, index, 0, INT4OID));
}

/*
 * es_btree_kind tells which functions here an index of a table is for.  One that is being
 * built concurrently has no pages at first.
 */
EsBtreeKind
es_btree_kind(Relation heap, Relation index)
{
	bool		heapkeyspace;
	bool		allequalimage;

	if (index->rd_rel->relam != BTREE_AM_OID || !index->rd_index->indimmediate || !index->rd_index->indisready ||
		index->rd_index->indnatts != index->rd_index->indnkeyatts ||
		index->rd_index->indnkeyatts > ES_LEAF_MAX_KEYS || !has_integer_columns(heap, index))
		return ES_BTREE_OTHER;
	_bt_metaversion(index, &heapkeyspace, &allequalimage);
	if (!heapkeyspace)
		return ES_BTREE_OTHER;
	return index->rd_index->indisunique && !es_btree_is_narrow(index) ? ES_BTREE_SORTED : ES_BTREE_SINGLE;
}

/* es_btree_is_narrow tells whether the first column of such an index is an int, not a bigint. */
bool
es_btree_is_narrow(Relation index)
{
	return TupleDescAttr(RelationGetDescr(index), 0)->atttypid == INT4OID;
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
	return compare_btree_keys(((const EsBtreeEntry *) a)->keys, ((const EsBtreeEntry *) b)->keys, ES_LEAF_MAX_KEYS);
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

/* Counts the entries, of n that are not below what a leaf begins with, that belong on the leaf. */
static int
count_belonging(const EsBtree *btree, Page page, const EsBtreeEntry *entries, int n)
{
	int			low = 0;

	while (low < n)
	{
		int			middle = low + (n - low) / 2;

		if (es_leaf_is_below_end(btree, page, &entries[middle]))
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

/*
 * Adds entries that belong on a leaf to an image of it, up to one that is there
 * already, and returns how many.
 */
static int
add_entries_to_leaf(const EsBtree *btree, Page image, const EsBtreeEntry *entries, int n)
{
	OffsetNumber place = P_FIRSTDATAKEY(BTPageGetOpaque(image));
	EsLeafItem	item;
	bool		equal;

	for (int i = 0; i < n; i++)
	{
		Size		size = es_leaf_make_item(btree, &item, &entries[i]);

		if (PageGetFreeSpace(image) < size)
			return i;
		place = es_leaf_find_place(btree, image, place, &entries[i], &equal);
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
	GenericXLogState *state;
	int			added;
	int			room = PageGetFreeSpace(page) / sizeof(EsLeafItem);

	if (Min(n, room) < MIN_ENTRIES_PER_LEAF || has_unlogged_marks(page) || !GENERIC_WAL_IS_SAFE)
		return 0;
	CheckForSerializableConflictIn(btree->index, NULL, BufferGetBlockNumber(buffer));
	state = GenericXLogStart(btree->index);
	added = add_entries_to_leaf(btree, GenericXLogRegisterBuffer(state, buffer, 0), entries, n);
	if (added > 0)
		(void) GenericXLogFinish(state);
	else
		GenericXLogAbort(state);
	return added;
}

/* ---- the tree ---- */

/* Has the server insert an entry; raises 23505 if another row has its key. */
static void
insert_entry_by_server(const EsBtree *btree, EsBtreeEntry *entry)
{
	Datum		values[ES_LEAF_MAX_KEYS];
	bool		isnull[ES_LEAF_MAX_KEYS] = {0};

	for (int i = 0; i < ES_LEAF_MAX_KEYS; i++)
		values[i] = Int64GetDatum(entry->keys[i]);
	if (btree->narrow)
		values[0] = Int32GetDatum((int32) entry->keys[0]);
	index_insert(btree->index, values, isnull, &entry->tid, btree->heap,
				 btree->index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, btree->info);
}

/*
 * es_btree_insert inserts an entry into an index of a kind that es_btree_kind tells.  Raises 23505
 * if another row has its key and the index is unique.
 */
void
es_btree_insert(const EsBtree *btree, EsBtreeEntry *entry)
{
	if (!es_leaf_insert(btree, entry))
		insert_entry_by_server(btree, entry);
}

/*
 * es_btree_insert_sorted inserts n entries, which it sorts first, into an index
 * of the kind ES_BTREE_SORTED.  Raises 23505 if a key is there already; then some
 * entries may have been inserted, as after calls of index_insert.
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
			Buffer		buffer = es_leaf_lock(btree, &entries[i], BT_WRITE);

			filled = fill_leaf(btree, buffer, entries + i,
							   count_belonging(btree, BufferGetPage(buffer), entries + i, n - i));
			_bt_relbuf(btree->index, buffer);
			for_server = filled > 0 ? 1 : backoff;
			backoff = filled > 0 ? 1 : Min(2 * backoff, MAX_ENTRIES_FOR_SERVER);
		}
		i += filled;
		if (filled == 0)
		{
			es_btree_insert(btree, &entries[i++]);
			for_server = Max(for_server - 1, 0);
		}
	}
}
