/*
 * streams.h
 *		The streams of a category.
 */
#ifndef ES_READ_STREAMS_H
#define ES_READ_STREAMS_H

#include "base/base.h"

#include "utils/snapshot.h"

#include "stream/stream.h"

typedef struct EsCategoryScan EsCategoryScan;

/* Scans the streams of a category, in order of creation, as a database snapshot sees them. */
extern EsCategoryScan *es_streams_begin(const text *category, Snapshot snapshot);
extern void es_streams_range(EsCategoryScan *scan, int64 first, int64 last);
extern int64 es_streams_last(EsCategoryScan *scan);
extern const EsStream *es_streams_next(EsCategoryScan *scan);
extern void es_streams_end(EsCategoryScan *scan);

#endif							/* ES_READ_STREAMS_H */
