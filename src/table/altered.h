/*
 * altered.h
 *		Rows for tables that users have altered: columns, constraints, indexes.
 */
#ifndef ES_TABLE_ALTERED_H
#define ES_TABLE_ALTERED_H

#include "base/base.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

#include "table/columns.h"

typedef struct EsAltered EsAltered;

extern bool es_altered_is(Relation rel, int ncolumns);
extern void es_altered_note_run(void);
extern uint64 es_altered_runs(void);
extern EsAltered *es_altered_begin(Relation rel, const EsShape *shape);
extern void es_altered_complete(EsAltered *altered, TupleTableSlot *slot, TupleTableSlot *old);
extern void es_altered_index(EsAltered *altered, TupleTableSlot *slot, bool only_summarizing);
extern void es_altered_end(EsAltered *altered);

#endif							/* ES_TABLE_ALTERED_H */
