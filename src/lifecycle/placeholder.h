/*
 * placeholder.h
 *		What stands in the log for a segment that was given back.
 */
#ifndef ES_LIFECYCLE_PLACEHOLDER_H
#define ES_LIFECYCLE_PLACEHOLDER_H

#include "base/base.h"

extern void es_placeholder_make(int64 segment, int64 first_position, int64 last_position);
extern void es_placeholder_drop(int64 segment);

#endif							/* ES_LIFECYCLE_PLACEHOLDER_H */
