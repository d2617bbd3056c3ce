/*
 * tagindex.h
 *		The access method of indexes by tag: an entry for each tag of an event.
 */
#ifndef ES_TABLE_TAGINDEX_H
#define ES_TABLE_TAGINDEX_H

#include "base/base.h"

#include "utils/relcache.h"

#define ES_TAGINDEX_AM	"eventstore_tags"	/* its name in pg_am */

extern bool es_tagindex_is(Relation index);

#endif							/* ES_TABLE_TAGINDEX_H */
