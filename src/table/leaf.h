/*
 * leaf.h
 *		Leaves of btrees over integers: where an entry belongs, and entries put there.
 */
#ifndef ES_TABLE_LEAF_H
#define ES_TABLE_LEAF_H

#include "base/base.h"

#include "access/itup.h"
#include "nodes/execnodes.h"
#include "storage/block.h"
#include "storage/buf.h"
#include "storage/bufpage.h"
#include "storage/itemptr.h"
#include "storage/off.h"
#include "utils/relcache.h"

#define ES_LEAF_MAX_KEYS	2

/* An entry of an index over one or two columns of integers. */
typedef struct EsBtreeEntry
{
	int64		keys[ES_LEAF_MAX_KEYS]; /* the second is 0 if there is one */
	ItemPointerData tid;
} EsBtreeEntry;

/* Which leaf an entry with a first key was on last. */
typedef struct EsKnownLeaf
{
	int64		key;			/* 0 in an index of one column */
	BlockNumber block;			/* 0, which has no entries: nothing is known */
} EsKnownLeaf;

/* What is remembered of an index. */
typedef struct EsLeafMemory
{
	Oid			file;			/* that the blocks are of */
	BlockNumber blocks;			/* that it is known to have */
	int			count;			/* of places in known */
	EsKnownLeaf known[FLEXIBLE_ARRAY_MEMBER];
} EsLeafMemory;

/* An index, and the table that it belongs to, open and locked; info and leaves for writing only. */
typedef struct EsBtree
{
	Relation	index;
	Relation	heap;
	IndexInfo  *info;
	bool		narrow;			/* the first column is an int, not a bigint */
	EsLeafMemory *leaves;
} EsBtree;

/* es_leaf_first_key gives the first key of an index tuple that has one. */
static inline int64
es_leaf_first_key(const EsBtree *btree, const IndexTupleData *item)
{
	return btree->narrow ? *(const int32 *) (item + 1) : *(const int64 *) (item + 1);
}

extern EsLeafMemory *es_leaf_make_memory(const IndexInfo *info, MemoryContext context);
extern Size es_leaf_make_item(const EsBtree *btree, void *item, const EsBtreeEntry *entry);
extern bool es_leaf_is_below_end(const EsBtree *btree, Page page, const EsBtreeEntry *entry);
extern OffsetNumber es_leaf_find_place(const EsBtree *btree, Page page, OffsetNumber low,
									   const EsBtreeEntry *entry, bool *equal);
extern Buffer es_leaf_lock(const EsBtree *btree, const EsBtreeEntry *entry, int access);
extern bool es_leaf_find_last(const EsBtree *btree, EsBtreeEntry *last, BlockNumber hint, Buffer *leaf);
extern bool es_leaf_is_gap(const EsBtree *btree, int64 key, int64 low, int64 high);
extern bool es_leaf_insert(const EsBtree *btree, const EsBtreeEntry *entry);

/* Room for the largest index tuple that es_leaf_make_item makes. */
typedef union EsLeafItem
{
	char		bytes[MAXALIGN(sizeof(ItemPointerData) + sizeof(uint16)) + ES_LEAF_MAX_KEYS * sizeof(int64)];
	int64		aligned;
} EsLeafItem;

#endif							/* ES_TABLE_LEAF_H */
