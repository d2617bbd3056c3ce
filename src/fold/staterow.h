/*
 * staterow.h
 *		Rows of folded streams, on their way to a result and to snapshots.
 */
#ifndef ES_FOLD_STATEROW_H
#define ES_FOLD_STATEROW_H

#include "base/base.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "tcop/dest.h"
#include "utils/tuplestore.h"

#include "fold/reducer.h"
#include "fold/replay.h"
#include "stream/stream.h"

/* Takes the rows of all processes that fold. */
typedef struct EsStateRows
{
	DestReceiver pub;
	Tuplestorestate *result;
	TupleDesc	desc;			/* of result: es_state; NULL: whole rows */
	int64		count;			/* of the portion's rows */
	Size		bytes;			/* of their states and names, about */
	MemoryContext portion;		/* has: */
	Tuplestorestate *due;		/* whole rows, of states that are due for a
								 * snapshot; NULL: none yet */
} EsStateRows;

extern TupleDesc es_staterow_desc(void);
extern void es_staterow_fill(TupleTableSlot *row, EsReplay *replay, const EsStream *stream, bool with_state,
							 bool leaves_snapshots);

extern void es_staterow_begin(EsStateRows *rows, Tuplestorestate *result, TupleDesc desc);
extern void es_staterow_begin_portion(EsStateRows *rows);
extern void es_staterow_end_portion(EsStateRows *rows, const EsReducer *reducer);

#endif							/* ES_FOLD_STATEROW_H */
