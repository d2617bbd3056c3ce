/*
 * compact.h
 *		Giving back the room that removed events have left in a segment.
 */
#ifndef ES_SEGMENT_COMPACT_H
#define ES_SEGMENT_COMPACT_H

#include "base/base.h"

/* What became of a segment that had no row. */
typedef enum EsDropResult
{
	ES_DROPPED,
	ES_DROP_LATER,				/* others have it open */
	ES_DROP_NEVER				/* something of a user's depends on it */
} EsDropResult;

extern bool es_compact_segment(int64 segment, int caller);
extern EsDropResult es_compact_drop(int64 segment);

#endif							/* ES_SEGMENT_COMPACT_H */
