/*
 * legible.h
 *		Rows of events that may be damaged.
 */
#ifndef ES_EVIDENCE_LEGIBLE_H
#define ES_EVIDENCE_LEGIBLE_H

#include "base/base.h"

#include "executor/tuptable.h"

#include "base/event.h"

extern bool es_legible_event(TupleTableSlot *slot, EsEvent *event);

#endif							/* ES_EVIDENCE_LEGIBLE_H */
