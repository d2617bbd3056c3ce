/*
 * walk.h
 *		Rows in the order of a btree over integers.
 */
#ifndef ES_TABLE_WALK_H
#define ES_TABLE_WALK_H

#include "base/base.h"

#include "access/htup.h"
#include "access/nbtree.h"
#include "access/skey.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "table/leaf.h"
#include "table/pages.h"

/* What is gone through, and the entries of the leaf that it has come to, and rows. */
typedef struct EsWalk
{
	EsBtree		btree;
	EsPages    *pages;
	Snapshot	snapshot;
	EsBtreeEntry first;			/* that there may be */
	EsBtreeEntry end;			/* past the last one */
	bool		begun;
	BlockNumber next;			/* leaf, once begun; P_NONE: there are no more */
	int			given;			/* of the rows that have been fetched */
	int			fetched;
	int			at;				/* entry after theirs, of the leaf's */
	int			count;
	HeapTupleData rows[ES_PAGES_RUN];
	ItemPointerData tids[MaxTIDsPerBTreePage];
} EsWalk;

extern EsWalk *es_walk_begin(Relation heap, Relation index, EsPages *pages, Snapshot snapshot,
							 const ScanKeyData *keys, int nkeys);
extern bool es_walk_fetch(EsWalk *walk);

/*
 * es_walk_next gives the next row that the snapshot sees, which is there until the next call; NULL
 * after the last.
 */
static inline HeapTuple
es_walk_next(EsWalk *walk)
{
	if (unlikely(walk->given == walk->fetched) && !es_walk_fetch(walk))
		return NULL;
	return &walk->rows[walk->given++];
}

#endif							/* ES_TABLE_WALK_H */
