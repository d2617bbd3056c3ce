/*
 * backoff.h
 *		How long to wait before what has failed is tried again.
 */
#ifndef ES_BASE_BACKOFF_H
#define ES_BASE_BACKOFF_H

#include "base/base.h"

extern void es_backoff_init(void);
extern int64 es_backoff_delay(int attempts);

#endif							/* ES_BASE_BACKOFF_H */
