/*
 * btree.h
 *		Sorted entries put into a btree, a leaf at a time; the last entry of many
 *		with the same first key.
 */
#ifndef ES_TABLE_BTREE_H
#define ES_TABLE_BTREE_H

#include "base/base.h"

#include "nodes/execnodes.h"
#include "storage/buf.h"
#include "utils/relcache.h"

#define ES_BTREE_MAX_KEYS	2

/* An entry of an index over one or two bigint columns. */
typedef struct EsBtreeEntry
{
	int64		keys[ES_BTREE_MAX_KEYS];	/* the second is 0 if there is one */
	ItemPointerData tid;
} EsBtreeEntry;

/* An index, and the table that it belongs to, open and locked for writing. */
typedef struct EsBtree
{
	Relation	index;
	Relation	heap;
	IndexInfo  *info;
} EsBtree;

extern bool es_btree_takes_sorted(Relation index);
extern bool es_btree_find_last(const EsBtree *btree, int64 first, ItemPointer tid, Buffer *leaf);
extern void es_btree_insert_sorted(const EsBtree *btree, EsBtreeEntry *entries, int n);

#endif							/* ES_TABLE_BTREE_H */
