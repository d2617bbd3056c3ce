/*
 * nudge.h
 *		The worker of a store told that there is something to do.
 */
#ifndef ES_SHARED_NUDGE_H
#define ES_SHARED_NUDGE_H

#include "base/base.h"

extern void es_nudge_init(void);
extern void es_nudge_worker(void);

#endif							/* ES_SHARED_NUDGE_H */
