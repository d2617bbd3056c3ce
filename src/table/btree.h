/*
 * btree.h
 *		Entries put into a btree over integers: one by itself, or many, sorted, a
 *		leaf at a time.
 */
#ifndef ES_TABLE_BTREE_H
#define ES_TABLE_BTREE_H

#include "base/base.h"

#include "utils/relcache.h"

#include "table/leaf.h"

/* Which entries of an index need not go through the server's index_insert. */
typedef enum EsBtreeKind
{
	ES_BTREE_OTHER,				/* none */
	ES_BTREE_SINGLE,			/* one at a time */
	ES_BTREE_SORTED,			/* many as well: it is unique and over bigints */
	ES_BTREE_TAGS				/* those of a row, by tagindex.h */
} EsBtreeKind;

extern EsBtreeKind es_btree_kind(Relation heap, Relation index);
extern bool es_btree_is_narrow(Relation index);
extern void es_btree_insert(const EsBtree *btree, EsBtreeEntry *entry);
extern void es_btree_insert_sorted(const EsBtree *btree, EsBtreeEntry *entries, int n);

#endif							/* ES_TABLE_BTREE_H */
