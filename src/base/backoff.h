/*
 * backoff.h
 *		How long to wait before what has failed is tried again.
 */
#ifndef ES_BASE_BACKOFF_H
#define ES_BASE_BACKOFF_H

#include "base/base.h"

#include "datatype/timestamp.h"

extern void es_backoff_init(void);
extern int64 es_backoff_delay(int attempts);
extern bool es_backoff_is_pending(TimestampTz until, TimestampTz now);

#endif							/* ES_BASE_BACKOFF_H */
