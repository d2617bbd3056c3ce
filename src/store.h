/*
 * store.h
 *		The tables of the store: their guards, and rows put into them without
 *		the executor.
 */
#ifndef ES_STORE_H
#define ES_STORE_H

#include "btree.h"
#include "extend.h"

#include "access/heapam.h"
#include "nodes/execnodes.h"

/*
 * An index predicate that needs no expression evaluated: a boolean column that
 * is true, or an int column that is above 0.
 */
typedef struct EsPlainPredicate
{
	AttrNumber	column;			/* 0: there is no predicate, or another one */
	bool		is_int;
} EsPlainPredicate;

/*
 * What is kept, across calls, of a table that rows are put into: its indexes
 * and slots.  What it says of the indexes never changes; after an invalidation
 * there is another one.
 */
typedef struct EsTableInfo
{
	bool		simple;			/* no index needs an expression evaluated */
	int			nindexes;
	Oid		   *index_oids;
	IndexInfo **index_infos;
	EsPlainPredicate *predicates;	/* of partial indexes */
	bool	   *sorted;			/* which indexes take sorted entries, see
								 * btree.c */
	TupleTableSlot *scan_slot;	/* for reading rows */
	TupleTableSlot **slots;		/* virtual, for writing rows; made as needed */
	int			nslots;
	BlockNumber look_at;		/* see extend.c */
	MemoryContext context;
} EsTableInfo;

/* A table opened for writing, and those of its indexes that were needed. */
typedef struct EsTable
{
	Relation	rel;
	Relation   *indexes;		/* NULL: not opened yet */
	EsTableInfo *info;
} EsTable;

extern void es_store_init(void);

/* Is told of a table that rows are about to be put into by INSERT or COPY.  Set by the part that minds. */
extern void (*es_store_copy_hook) (Relation rel);

extern void es_store_open(EsTable *table, EsRelation *object);
extern void es_store_begin(EsTable *table, Relation rel);
extern void es_store_close(EsTable *table);
extern Relation es_store_index(EsTable *table, Oid relid);
extern Relation es_store_known_index(EsTable *table, EsRelation *index);
extern bool es_store_find_last(EsTable *table, Oid index, int64 first, Snapshot snapshot, TupleTableSlot *slot);
extern TupleTableSlot *es_store_slot(EsTable *table, int n);
extern void es_store_insert(EsTable *table, int nrows);
extern void es_store_update(EsTable *table, ItemPointer tid);

/* Tables of one row at most; numbers: of one column, a bigint. */
extern HeapTuple es_store_read_row(EsRelation *object, Datum *values, bool *nulls);
extern void es_store_write_row(EsRelation *object, const Datum *values);
extern int64 es_store_read_number(EsRelation *object, int64 missing);
extern void es_store_write_number(EsRelation *object, int64 number);

/* Slots for reading, kept across calls like the indexes are. */
extern TupleTableSlot *es_store_scan_slot(Relation rel);

#endif							/* ES_STORE_H */
