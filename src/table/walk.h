/*
 * walk.h
 *		Entries of a btree over integers, one after the other.
 */
#ifndef ES_TABLE_WALK_H
#define ES_TABLE_WALK_H

#include "base/base.h"

#include "access/nbtree.h"
#include "access/skey.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "table/leaf.h"

/* What is gone through, and the entries of the leaf that it has come to. */
typedef struct EsWalk
{
	EsBtree		btree;
	Snapshot	snapshot;
	EsBtreeEntry first;			/* that there may be */
	EsBtreeEntry end;			/* past the last one */
	bool		begun;
	BlockNumber next;			/* leaf, once begun; P_NONE: there are no more */
	int			at;				/* the next one of these */
	int			count;
	ItemPointerData tids[MaxTIDsPerBTreePage];
} EsWalk;

extern EsWalk *es_walk_begin(Relation heap, Relation index, Snapshot snapshot,
							 const ScanKeyData *keys, int nkeys);
extern bool es_walk_read_on(EsWalk *walk);

/* es_walk_next gives the place of the next entry's row; NULL after the last. */
static inline ItemPointer
es_walk_next(EsWalk *walk)
{
	if (unlikely(walk->at == walk->count) && !es_walk_read_on(walk))
		return NULL;
	return &walk->tids[walk->at++];
}

/* es_walk_ahead gives the place of a row that comes so many entries later; NULL: not known yet. */
static inline ItemPointer
es_walk_ahead(EsWalk *walk, int entries)
{
	int			at = walk->at - 1 + entries;

	return at < walk->count ? &walk->tids[at] : NULL;
}

#endif							/* ES_TABLE_WALK_H */
