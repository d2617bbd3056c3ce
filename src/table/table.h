/*
 * table.h
 *		Rows put into tables of the store without the executor.
 */
#ifndef ES_TABLE_TABLE_H
#define ES_TABLE_TABLE_H

#include "base/base.h"

#include "access/heapam.h"
#include "executor/tuptable.h"
#include "storage/buf.h"
#include "utils/relcache.h"

#include "base/objects.h"
#include "table/columns.h"
#include "table/kept.h"
#include "table/leaf.h"

#define ES_TABLE_MOST_ROWS	1000	/* at once */

/* A table opened for writing, and those of its indexes that were needed. */
typedef struct EsTable
{
	Relation	rel;
	Relation   *indexes;		/* NULL: not opened yet */
	EsTableInfo *info;
	EsRowSlots *rows;			/* for writing */
	ItemPointerData tid;		/* of the row that was last written */
} EsTable;

extern void es_table_open(EsTable *table, const EsShape *shape);
extern void es_table_begin(EsTable *table, Relation rel, const EsShape *shape);
extern void es_table_end(EsTable *table);
extern void es_table_close(EsTable *table);
extern Relation es_table_index(EsTable *table, Oid relid);
extern Relation es_table_known_index(EsTable *table, EsRelation *index);
extern bool es_table_find_last(EsTable *table, Oid index, EsBtreeEntry *last, BlockNumber hint, Buffer *leaf);
extern bool es_table_is_gap(EsTable *table, Oid index, int64 key, int64 low, int64 high);
extern TupleTableSlot *es_table_slot(EsTable *table, int n);
extern void es_table_insert(EsTable *table, int nrows);
extern void es_table_update(EsTable *table, ItemPointer tid);
extern void es_table_delete(Relation rel, ItemPointer tid);
ES_NORETURN extern void es_table_report_changed(Relation rel);

/* Reading: the table's columns are checked, and there is a slot for its rows. */
extern void es_table_check(Relation rel, const EsShape *shape);
extern TupleTableSlot *es_table_scan_slot(Relation rel, const EsShape *shape);

#endif							/* ES_TABLE_TABLE_H */
