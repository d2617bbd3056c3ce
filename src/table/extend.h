/*
 * extend.h
 *		Tables extended ahead of need.
 */
#ifndef ES_TABLE_EXTEND_H
#define ES_TABLE_EXTEND_H

#include "base/base.h"

#include "storage/block.h"
#include "utils/relcache.h"

extern void es_extend_ahead(Relation rel, BlockNumber *look_at, BlockNumber need);

#endif							/* ES_TABLE_EXTEND_H */
