/*
 * protect.h
 *		es_protect, and what it means for projections.
 */
#ifndef ES_PROJECTION_PROTECT_H
#define ES_PROJECTION_PROTECT_H

#include "base/base.h"

#include "projection/projection.h"

extern void es_protect_init(void);
extern void es_protect_check_key(const EsProjection *projection);

#endif							/* ES_PROJECTION_PROTECT_H */
