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
	bool		by_entry;		/* entries are gone through one by one, and
								 * the rows of some are wanted: */
	int			after;			/* entry after the last such one; -1: there is
								 * none on the leaf */
	int			in_row;			/* so many were, one after the other */
	HeapTupleData rows[ES_PAGES_RUN];
	ItemPointerData tids[MaxTIDsPerBTreePage];
	int64		keys[FLEXIBLE_ARRAY_MEMBER];	/* and their first keys taken */
} EsWalk;

extern EsWalk *es_walk_begin(Relation heap, Relation index, EsPages *pages, Snapshot snapshot,
							 const ScanKeyData *keys, int nkeys);
extern void es_walk_restart(EsWalk *walk, const ScanKeyData *keys, int nkeys);
extern bool es_walk_read_on(EsWalk *walk);
extern bool es_walk_fetch(EsWalk *walk);
extern bool es_walk_fetch_entry(EsWalk *walk, HeapTuple row);

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

/* es_walk_next_entry goes to the next entry, and gives its first key; false after the last. */
static inline bool
es_walk_next_entry(EsWalk *walk, int64 *key)
{
	if (unlikely(walk->at == walk->count) && !es_walk_read_on(walk))
		return false;
	*key = walk->keys[walk->at++];
	return true;
}

#endif							/* ES_TABLE_WALK_H */
