/*
 * kept.h
 *		What is kept of the store's tables across calls.
 */
#ifndef ES_TABLE_KEPT_H
#define ES_TABLE_KEPT_H

#include "base/base.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/block.h"
#include "utils/relcache.h"

#include "table/columns.h"

/*
 * An index predicate that needs no expression evaluated: a boolean column that
 * is true, or an int column that is above 0.
 */
typedef struct EsPlainPredicate
{
	AttrNumber	column;			/* 0: there is no predicate, or another one */
	bool		is_int;
} EsPlainPredicate;

/* Virtual slots for writing rows, made as needed. */
typedef struct EsRowSlots
{
	TupleTableSlot **slots;
	int			count;
} EsRowSlots;

/*
 * What is kept, across calls, of a table: its indexes and slots.  What it says
 * of the table never changes; after an invalidation there is another one.
 */
typedef struct EsTableInfo
{
	Oid			relid;
	const EsShape *shape;		/* the table's columns are as it says */
	bool		plain;			/* users have added nothing that needs
								 * altered.c */
	int			nindexes;
	Oid		   *index_oids;
	IndexInfo **index_infos;
	EsPlainPredicate *predicates;	/* of partial indexes */
	bool	   *sorted;			/* which indexes take sorted entries, see
								 * btree.c */
	TupleTableSlot *scan_slot;	/* for reading rows */
	TupleTableSlot *old_slot;	/* for the row that is being replaced */
	EsRowSlots	rows;			/* if it is plain */
	bool		filling;		/* some of these have a row */
	bool		used;			/* in this transaction; then next is, too */
	struct EsTableInfo *next;
	BlockNumber look_at;		/* see extend.c */
	MemoryContext context;
} EsTableInfo;

extern void es_kept_init(void);
extern EsTableInfo *es_kept_get(Relation rel, const EsShape *shape);

#endif							/* ES_TABLE_KEPT_H */
