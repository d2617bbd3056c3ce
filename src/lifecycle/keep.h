/*
 * keep.h
 *		What a truncation keeps: the states that hidden events have led to.
 */
#ifndef ES_LIFECYCLE_KEEP_H
#define ES_LIFECYCLE_KEEP_H

#include "base/base.h"

#include "stream/stream.h"

extern bool es_keep_states(const EsStream *stream, int64 version, bool wait);

#endif							/* ES_LIFECYCLE_KEEP_H */
