/*
 * timeline.h
 *		Positions after a promotion, and after a switch-over.
 */
#ifndef ES_LOG_TIMELINE_H
#define ES_LOG_TIMELINE_H

#include "base/base.h"

extern void es_timeline_check(void);
extern void es_timeline_follow(void);
extern void es_timeline_take_over(void);
extern int64 es_timeline_event_beyond(int64 position);
extern bool es_timeline_is_in_use(void);

#endif							/* ES_LOG_TIMELINE_H */
