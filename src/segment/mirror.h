/*
 * mirror.h
 *		The publisher's segments, made on a logical subscriber.
 */
#ifndef ES_SEGMENT_MIRROR_H
#define ES_SEGMENT_MIRROR_H

#include "base/base.h"

#include "utils/relcache.h"

extern void es_mirror_before_copy(Relation rel);

#endif							/* ES_SEGMENT_MIRROR_H */
