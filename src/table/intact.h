/*
 * intact.h
 *		Whether a row that may be damaged can be taken apart.
 */
#ifndef ES_TABLE_INTACT_H
#define ES_TABLE_INTACT_H

#include "base/base.h"

#include "executor/tuptable.h"

extern bool es_intact_row(TupleTableSlot *slot, int ncolumns);

#endif							/* ES_TABLE_INTACT_H */
