/*
 * extend.h
 *		Tables extended ahead of need.
 */
#ifndef ES_EXTEND_H
#define ES_EXTEND_H

#include "base.h"

#include "storage/block.h"

extern void es_extend_ahead(Relation rel, BlockNumber *look_at, BlockNumber need);

#endif							/* ES_EXTEND_H */
