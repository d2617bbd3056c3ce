/*
 * eventrow.h
 *		A new event as a row of a segment, and as a stored event.
 */
#ifndef ES_APPEND_EVENTROW_H
#define ES_APPEND_EVENTROW_H

#include "base/base.h"

#include "executor/tuptable.h"

#include "append/request.h"
#include "base/event.h"
#include "stream/stream.h"
#include "table/table.h"

extern TimestampTz es_eventrow_recorded_at(const EsNewEvent *event, const EsTip *tip, TimestampTz now);
extern void es_eventrow_fill(TupleTableSlot *slot, const EsStream *stream, const EsNewEvent *event);
extern void es_eventrow_join_runs(EsTable *table, int n);
extern int	es_eventrow_stored(const EsAppend *append, EsEvent *events);

#endif							/* ES_APPEND_EVENTROW_H */
