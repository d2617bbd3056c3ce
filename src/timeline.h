/*
 * timeline.h
 *		Positions after a promotion, and after a switch-over.
 */
#ifndef ES_TIMELINE_H
#define ES_TIMELINE_H

#include "settle.h"

extern void es_timeline_check(void);
extern void es_timeline_take_over(void);

#endif							/* ES_TIMELINE_H */
