/*
 * eventrow.h
 *		An event as a row of a segment.
 */
#ifndef ES_EVENTROW_H
#define ES_EVENTROW_H

#include "request.h"
#include "stream.h"

extern void es_eventrow_fill(TupleTableSlot *slot, const EsStream *stream, const EsNewEvent *event);
extern void es_eventrow_join_runs(EsTable *table, int n);

#endif							/* ES_EVENTROW_H */
