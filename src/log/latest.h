/*
 * latest.h
 *		When the last event of a sealed segment was recorded.
 */
#ifndef ES_LOG_LATEST_H
#define ES_LOG_LATEST_H

#include "base/base.h"

#include "datatype/timestamp.h"

#include "table/columns.h"

extern const EsShape es_latest_shape;	/* eventstore.segment_times */

extern TimestampTz es_latest_at(int64 segment);
extern bool es_latest_is_kept(void);
extern bool es_latest_is_known(int64 segment);
extern void es_latest_note(int64 segment, TimestampTz latest_at);
extern void es_latest_forget(int64 segment);

#endif							/* ES_LOG_LATEST_H */
