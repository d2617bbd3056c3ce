/*
 * timeline.h
 *		Positions after a promotion.
 */
#ifndef ES_TIMELINE_H
#define ES_TIMELINE_H

#include "settle.h"

extern void es_timeline_check(void);
extern int64 es_timeline_event_beyond(int64 position);

#endif							/* ES_TIMELINE_H */
