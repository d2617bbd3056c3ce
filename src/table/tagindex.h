/*
 * tagindex.h
 *		The access method of indexes by tag: an entry for each tag of an event.
 */
#ifndef ES_TABLE_TAGINDEX_H
#define ES_TABLE_TAGINDEX_H

#include "base/base.h"

#include "storage/itemptr.h"
#include "utils/relcache.h"

#include "table/leaf.h"

#define ES_TAGINDEX_AM	"eventstore_tags"	/* its name in pg_am */

extern bool es_tagindex_is(Relation index);
extern bool es_tagindex_takes_leaves(Relation index);
extern void es_tagindex_insert(const EsBtree *btree, Datum metadata, int64 position, const ItemPointerData *tid);

#endif							/* ES_TABLE_TAGINDEX_H */
