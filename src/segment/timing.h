/*
 * timing.h
 *		Finding out when the last event of each sealed segment was recorded.
 */
#ifndef ES_SEGMENT_TIMING_H
#define ES_SEGMENT_TIMING_H

#include "base/base.h"

extern void es_timing_run(void);

#endif							/* ES_SEGMENT_TIMING_H */
