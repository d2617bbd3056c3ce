/*
 * wake.h
 *		Waking those who wait for news, as transactions end.
 */
#ifndef ES_SHARED_WAKE_H
#define ES_SHARED_WAKE_H

#include "base/base.h"

/*
 * What somebody waits for, or brings: 64 bits, some for categories, some for
 * subscriptions and projections.
 */
#define ES_WAKE_ALL		PG_UINT64_MAX

/* What consumers wait for that has an id. */
typedef enum EsWakeKind
{
	ES_WAKE_SUBSCRIPTION,
	ES_WAKE_PROJECTION
} EsWakeKind;

extern uint64 es_wake_category(int32 category_key);
extern uint64 es_wake_object(EsWakeKind kind, int64 id);

extern void es_wake_init(void);
extern bool es_wake_works(void);
extern void es_wake_note(uint64 bits);
extern bool es_wake_is_awaited(void);
extern void es_wake_now(uint64 bits);
extern void es_wake_delegated(void);
extern void es_wake_begin(uint64 interest);
extern bool es_wake_is_registered(void);
extern bool es_wake_told(void);
extern void es_wake_end(void);
extern void es_wake_sleep(long sleep_ms);

#endif							/* ES_SHARED_WAKE_H */
