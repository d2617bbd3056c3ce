/*
 * mirror.h
 *		The publisher's segments, made on a logical subscriber.
 */
#ifndef ES_MIRROR_H
#define ES_MIRROR_H

#include "base.h"

extern void es_mirror_init(void);

#endif							/* ES_MIRROR_H */
