/*
 * inline.h
 *		Projections that run in the append's own transaction.
 */
#ifndef ES_PROJECTION_INLINE_H
#define ES_PROJECTION_INLINE_H

#include "base/base.h"

#include "base/event.h"

extern void es_inline_take(const EsEvent *events, int count);

#endif							/* ES_PROJECTION_INLINE_H */
