/*
 * timeline.h
 *		Positions after a promotion.
 */
#ifndef ES_TIMELINE_H
#define ES_TIMELINE_H

#include "settle.h"

extern void es_timeline_check(void);

#endif							/* ES_TIMELINE_H */
