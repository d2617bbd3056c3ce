/*
 * leaf.c
 *		Leaves of btrees over integers: where an entry belongs, and entries put
 *		there.
 *
 * To insert one entry the server makes an index tuple and a scan key, goes down
 * from the root, compares by function calls, and asks for each equal key whether
 * its row lives.  What an append writes is simpler nearly always: a key that
 * nobody has, next to the one before it.  So a single entry is put on its leaf
 * here, with the record of WAL that the server writes for it, which the server
 * replays by itself; like its own it says where on the page the entry goes, so
 * that hints on the page, which are not logged, do not matter.
 *
 * The leaf is mostly the one that an entry with the same first key was on last: the
 * category's newest entry, the end of the log, or the tip of the stream, which the
 * append has just looked at.  Each session remembers where that was, by first key.
 * That is a hint and no more: under its lock, the page tells whether it is the one.  A
 * leaf that is in the tree covers the keys from its left neighbour's high key to its own.
 * So an entry that is above some entry on a leaf, and below its high key, belongs on this
 * leaf and can be on no other.  Where it is not below that, as others have split the leaf
 * since, a neighbour to the right is the one, mostly.  The hint goes with what else is kept
 * of the table when that or the index changes, and holds for one file only; btrees are not
 * cut short, so the block is there.  What another session says (shared/tips.c) may be of
 * another file, and is taken if the file has such a block.  Else the server goes down from
 * the root, which also moves right and finishes incomplete splits.
 *
 * A look whether there is anything between two entries of one first key begins on the
 * remembered leaf, too.  It is told there only by a leaf that covers all that lies between
 * them, for the same reason.
 *
 * Everything that is more than "room on the leaf, no such key" is left to the
 * server, by btree.c: splitting a full leaf, deleting or deduplicating entries,
 * deciding about an entry with the same key, waiting for another transaction,
 * raising a unique violation.
 *
 * Why uniqueness holds: as in the server, an inserter keeps the leaf that a key
 * would be on locked exclusively from the look until its entry is there.  A key
 * is put only on a leaf whose high key is above it, so an equal key can be on
 * no other leaf, and only if no entry on the leaf, dead ones included, is equal.
 */
#include "table/leaf.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/nbtxlog.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* How often a look for a leaf goes to the right from the one that is remembered. */
#define MOST_STEPS	2

/* First keys that a session remembers the leaf of; those with one place take it from each other. */
#define LEAVES	512

/* An index tuple over bigints; a first key that is an int takes the room of one. */
typedef struct BtreeItem
{
	IndexTupleData header;
	int64		keys[ES_LEAF_MAX_KEYS];
} BtreeItem;

/* es_leaf_make_memory makes what remembers leaves of an index. */
EsLeafMemory *
es_leaf_make_memory(const IndexInfo *info, MemoryContext context)
{
	int			count = info->ii_NumIndexKeyAttrs > 1 ? LEAVES : 1;
	EsLeafMemory *leaves = MemoryContextAllocZero(context, offsetof(EsLeafMemory, known) + sizeof(EsKnownLeaf) * count);

	leaves->count = count;
	return leaves;
}

/* ---- keys ---- */

/* Compares the first keys of an index tuple with an entry. */
static inline int
compare_item_keys(const EsBtree *btree, const BtreeItem *item, const EsBtreeEntry *entry, int nkeys)
{
	int64		first = es_leaf_first_key(btree, &item->header);

	if (first != entry->keys[0])
		return first < entry->keys[0] ? -1 : 1;
	if (nkeys == 1 || item->keys[1] == entry->keys[1])
		return 0;
	return item->keys[1] < entry->keys[1] ? -1 : 1;
}

/* es_leaf_make_item makes the index tuple of an entry, in an EsLeafItem, and returns its size. */
Size
es_leaf_make_item(const EsBtree *btree, void *item, const EsBtreeEntry *entry)
{
	BtreeItem  *made = item;
	int			nkeys = btree->index->rd_index->indnkeyatts;
	Size		size = sizeof(IndexTupleData) + nkeys * sizeof(int64);

	made->header.t_tid = entry->tid;
	made->header.t_info = size;
	memcpy(made->keys, entry->keys, nkeys * sizeof(int64));
	if (btree->narrow)
	{
		made->keys[0] = 0;
		*(int32 *) made->keys = (int32) entry->keys[0];
	}
	return size;
}

/* ---- one page ---- */

/*
 * es_leaf_is_below_end tells whether an entry is below a leaf's high key, of which the
 * server may have cut off the last columns.
 */
bool
es_leaf_is_below_end(const EsBtree *btree, Page page, const EsBtreeEntry *entry)
{
	BtreeItem  *high;
	int			nkeys;

	if (P_RIGHTMOST(BTPageGetOpaque(page)))
		return true;
	high = (BtreeItem *) PageGetItem(page, PageGetItemId(page, P_HIKEY));
	nkeys = BTreeTupleGetNAtts(&high->header, btree->index);
	nkeys = Min(nkeys, btree->index->rd_index->indnkeyatts);
	return nkeys > 0 && compare_item_keys(btree, high, entry, nkeys) > 0;
}

/*
 * es_leaf_find_place finds the first item, from low on, that is not below an entry; *equal if
 * it has its key.
 */
OffsetNumber
es_leaf_find_place(const EsBtree *btree, Page page, OffsetNumber low, const EsBtreeEntry *entry, bool *equal)
{
	OffsetNumber high = OffsetNumberNext(PageGetMaxOffsetNumber(page));
	int			nkeys = btree->index->rd_index->indnkeyatts;

	*equal = false;
	while (low < high)
	{
		OffsetNumber middle = low + (high - low) / 2;
		BtreeItem  *item = (BtreeItem *) PageGetItem(page, PageGetItemId(page, middle));
		int			order = compare_item_keys(btree, item, entry, nkeys);

		*equal = *equal || order == 0;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- which leaf ---- */

/*
 * es_leaf_lock finds the leaf where an entry belongs and locks it; to read, an index that is
 * empty has none.
 */
Buffer
es_leaf_lock(const EsBtree *btree, const EsBtreeEntry *entry, int access)
{
	EsLeafItem	item;
	BTScanInsert key;
	BTStack		stack;
	Buffer		buffer;

	(void) es_leaf_make_item(btree, &item, entry);
	key = _bt_mkscankey(btree->index, (IndexTuple) &item);
	key->scantid = NULL;		/* the first leaf where the key could be */
	stack = es_bt_search(btree->index, btree->heap, key, &buffer, access);
	if (stack)
		_bt_freestack(stack);
	pfree(key);
	return buffer;
}

/* The place where the leaf for a first key is remembered. */
static EsKnownLeaf *
place_of_known_leaf(const EsBtree *btree, const EsBtreeEntry *entry)
{
	EsLeafMemory *leaves = btree->leaves;

	return &leaves->known[(uint64) entry->keys[0] % leaves->count];
}

/* Gives what is remembered for an entry; NULL: nothing, in the index as it is now. */
static EsKnownLeaf *
find_known_leaf(const EsBtree *btree, const EsBtreeEntry *entry)
{
	EsKnownLeaf *known = place_of_known_leaf(btree, entry);

	if (known->block == 0 || btree->leaves->file != es_relation_file(btree->index) ||
		(btree->leaves->count > 1 && known->key != entry->keys[0]))
		return NULL;
	return known;
}

/* Remembers a leaf for a first key. */
static void
remember_block(const EsBtree *btree, const EsBtreeEntry *entry, BlockNumber block)
{
	EsLeafMemory *leaves = btree->leaves;
	EsKnownLeaf *known = place_of_known_leaf(btree, entry);

	known->key = leaves->count > 1 ? entry->keys[0] : 0;
	known->block = block;
}

/* Forgets what was remembered if the index has another file. */
static void
renew_memory(const EsBtree *btree)
{
	EsLeafMemory *leaves = btree->leaves;

	if (likely(leaves->file == es_relation_file(btree->index)))
		return;
	memset(leaves->known, 0, sizeof(EsKnownLeaf) * leaves->count);
	leaves->blocks = 0;
	leaves->file = es_relation_file(btree->index);
}

/* Remembers the leaf where an entry is, or belongs. */
static void
remember_leaf(const EsBtree *btree, const EsBtreeEntry *entry, Buffer buffer)
{
	BlockNumber block = BufferGetBlockNumber(buffer);

	renew_memory(btree);
	remember_block(btree, entry, block);
	btree->leaves->blocks = Max(btree->leaves->blocks, block + 1);
}

/* Takes another session's word for a leaf, if nothing is known of it and the file has the block. */
static void
take_hint(const EsBtree *btree, const EsBtreeEntry *entry, BlockNumber hint)
{
	EsLeafMemory *leaves = btree->leaves;

	if (hint == 0 || find_known_leaf(btree, entry))
		return;
	renew_memory(btree);
	if (unlikely(hint >= leaves->blocks))
		leaves->blocks = RelationGetNumberOfBlocks(btree->index);
	if (likely(hint < leaves->blocks))
		remember_block(btree, entry, hint);
}

/* Tells whether a locked page is a leaf that is in the tree, and complete. */
static bool
is_sound_leaf(Buffer buffer)
{
	Page		page = BufferGetPage(buffer);
	BTPageOpaque opaque;

	if (PageIsNew(page) || PageGetSpecialSize(page) != MAXALIGN(sizeof(BTPageOpaqueData)))
		return false;
	opaque = BTPageGetOpaque(page);
	return P_ISLEAF(opaque) && !P_IGNORE(opaque) && !P_INCOMPLETE_SPLIT(opaque);
}

/*
 * Locks the leaf that is remembered for an entry, if one is, or one to the right of it, where it
 * has been split since; what it is for the page must tell.
 */
static Buffer
lock_known_leaf(const EsBtree *btree, const EsBtreeEntry *entry, int access)
{
	EsKnownLeaf *known = find_known_leaf(btree, entry);
	Buffer		buffer;

	if (known == NULL)
		return InvalidBuffer;
	buffer = ReadBuffer(btree->index, known->block);
	_bt_lockbuf(btree->index, buffer, access);
	for (int steps = 0; is_sound_leaf(buffer); steps++)
	{
		Page		page = BufferGetPage(buffer);

		if (es_leaf_is_below_end(btree, page, entry))
		{
			if (steps > 0)
				remember_leaf(btree, entry, buffer);
			return buffer;
		}
		if (steps == MOST_STEPS)
			break;
		buffer = _bt_relandgetbuf(btree->index, buffer, BTPageGetOpaque(page)->btpo_next, access);
	}
	_bt_relbuf(btree->index, buffer);
	return InvalidBuffer;
}

/* ---- the last entry ---- */

/*
 * Finds the last entry with the first key of a wanted one, which has the highest second key, on a
 * locked leaf.
 */
static bool
find_last_on_leaf(const EsBtree *btree, Buffer buffer, const EsBtreeEntry *wanted, EsBtreeEntry *last)
{
	Page		page = BufferGetPage(buffer);
	OffsetNumber begin = P_FIRSTDATAKEY(BTPageGetOpaque(page));
	BtreeItem  *item;
	OffsetNumber place;
	bool		equal;

	if (!es_leaf_is_below_end(btree, page, wanted))
		return false;
	place = es_leaf_find_place(btree, page, begin, wanted, &equal);
	if (place <= begin)
		return false;
	item = (BtreeItem *) PageGetItem(page, PageGetItemId(page, place - 1));
	if (es_leaf_first_key(btree, &item->header) != wanted->keys[0] || BTreeTupleIsPosting(&item->header))
		return false;
	last->keys[1] = item->keys[1];
	last->tid = item->header.t_tid;
	return true;
}

/*
 * es_leaf_find_last finds, of the entries with the first key that *last has, the one with the
 * highest second key.  hint is the leaf by another session's word, 0 if there is none.
 * *leaf stays pinned while the caller looks at the row, so that
 * vacuum cannot put another there; the caller releases it.  False, with nothing
 * pinned, if there is none, and also where it takes more than a look at one
 * leaf: then an index scan has to tell.
 */
bool
es_leaf_find_last(const EsBtree *btree, EsBtreeEntry *last, BlockNumber hint, Buffer *leaf)
{
	EsBtreeEntry wanted = {.keys = {last->keys[0], PG_INT64_MAX}};
	bool		found;

	take_hint(btree, &wanted, hint);
	*leaf = lock_known_leaf(btree, &wanted, BT_READ);
	found = BufferIsValid(*leaf) && find_last_on_leaf(btree, *leaf, &wanted, last);
	if (!found)
	{
		if (BufferIsValid(*leaf))
			_bt_relbuf(btree->index, *leaf);
		*leaf = es_leaf_lock(btree, &wanted, BT_READ);
		if (!BufferIsValid(*leaf))
			return false;
		remember_leaf(btree, &wanted, *leaf);
		found = find_last_on_leaf(btree, *leaf, &wanted, last);
	}
	if (found)
		_bt_unlockbuf(btree->index, *leaf);
	else
		_bt_relbuf(btree->index, *leaf);
	return found;
}

/* ---- nothing there ---- */

/*
 * Tells whether a locked leaf shows that no entry is between two of the same first key, these
 * included: it has none, and no other leaf can.  Of a leaf that is only remembered some entry
 * must be below them.
 */
static bool
leaf_shows_gap(const EsBtree *btree, Buffer buffer, const EsBtreeEntry *low, const EsBtreeEntry *high, bool remembered)
{
	Page		page = BufferGetPage(buffer);
	OffsetNumber begin = P_FIRSTDATAKEY(BTPageGetOpaque(page));
	OffsetNumber place;
	bool		equal;

	place = es_leaf_find_place(btree, page, begin, low, &equal);
	if (remembered && place <= begin)
		return false;
	if (place > PageGetMaxOffsetNumber(page))
		return es_leaf_is_below_end(btree, page, high);
	return compare_item_keys(btree, (BtreeItem *) PageGetItem(page, PageGetItemId(page, place)), high,
							 btree->info->ii_NumIndexKeyAttrs) > 0;
}

/*
 * es_leaf_is_gap tells whether an index over two columns has no entry with a first key and a second
 * one from low to high, whether its row lives or not.  False also where it takes more than a
 * look at one leaf: then an index scan has to tell.
 */
bool
es_leaf_is_gap(const EsBtree *btree, int64 key, int64 low, int64 high)
{
	EsBtreeEntry from = {.keys = {key, low}};
	EsBtreeEntry to = {.keys = {key, high}};
	Buffer		buffer = lock_known_leaf(btree, &from, BT_READ);
	bool		gap = BufferIsValid(buffer) && leaf_shows_gap(btree, buffer, &from, &to, true);

	if (!gap)
	{
		if (BufferIsValid(buffer))
			_bt_relbuf(btree->index, buffer);
		buffer = es_leaf_lock(btree, &from, BT_READ);
		if (!BufferIsValid(buffer))
			return true;
		gap = leaf_shows_gap(btree, buffer, &from, &to, false);
		remember_leaf(btree, &from, buffer);
	}
	_bt_relbuf(btree->index, buffer);
	return gap;
}

/* ---- one entry ---- */

/* Adds an item to a locked leaf, as the server does where there is room. */
static void
add_item_to_leaf(const EsBtree *btree, Buffer buffer, OffsetNumber place, EsLeafItem *item, Size size)
{
	Page		page = BufferGetPage(buffer);
	xl_btree_insert record = {.offnum = place};

	START_CRIT_SECTION();
	if (PageAddItem(page, (Item) item, size, place, false, false) == InvalidOffsetNumber)
		elog(PANIC, "failed to add an item to block %u in index \"%s\"",
			 BufferGetBlockNumber(buffer), RelationGetRelationName(btree->index));
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(btree->index))
	{
		XLogRecPtr	lsn;

		XLogBeginInsert();
		XLogRegisterData((char *) &record, SizeOfBtreeInsert);
		XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
		XLogRegisterBufData(0, (char *) item, size);
		lsn = XLogInsert(RM_BTREE_ID, XLOG_BTREE_INSERT_LEAF);
		PageSetLSN(page, lsn);
	}
	END_CRIT_SECTION();
}

/*
 * Puts an entry on a locked leaf; false if it is one for the server.  Of a leaf that is only
 * remembered some entry must be below it.
 */
static bool
put_on_leaf(const EsBtree *btree, Buffer buffer, const EsBtreeEntry *entry, bool remembered)
{
	Page		page = BufferGetPage(buffer);
	OffsetNumber begin = P_FIRSTDATAKEY(BTPageGetOpaque(page));
	EsLeafItem	item;
	Size		size = es_leaf_make_item(btree, &item, entry);
	OffsetNumber place;
	bool		equal;

	if (PageGetFreeSpace(page) < size || !es_leaf_is_below_end(btree, page, entry))
		return false;
	place = es_leaf_find_place(btree, page, begin, entry, &equal);
	if (equal || (remembered && place <= begin))
		return false;
	CheckForSerializableConflictIn(btree->index, NULL, BufferGetBlockNumber(buffer));
	add_item_to_leaf(btree, buffer, place, &item, size);
	return true;
}

/*
 * es_leaf_insert puts an entry on its leaf.  False if the server must: then nothing is changed
 * or locked.
 */
bool
es_leaf_insert(const EsBtree *btree, const EsBtreeEntry *entry)
{
	Buffer		buffer = lock_known_leaf(btree, entry, BT_WRITE);
	bool		done = BufferIsValid(buffer) && put_on_leaf(btree, buffer, entry, true);

	if (!done)
	{
		if (BufferIsValid(buffer))
			_bt_relbuf(btree->index, buffer);
		buffer = es_leaf_lock(btree, entry, BT_WRITE);
		done = put_on_leaf(btree, buffer, entry, false);
		remember_leaf(btree, entry, buffer);
	}
	_bt_relbuf(btree->index, buffer);
	return done;
}
