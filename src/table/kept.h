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

#include "table/btree.h"
#include "table/columns.h"
#include "table/leaf.h"

/* What a column of a row must be, so that the row belongs into an index. */
typedef enum EsPlainTest
{
	ES_TEST_NONE,				/* there is none, or one that has to be
								 * evaluated */
	ES_TEST_TRUE,				/* a boolean that is true */
	ES_TEST_POSITIVE,			/* an int above 0 */
	ES_TEST_TEXT,				/* a certain text */
	ES_TEST_TAGS				/* metadata with tags */
} EsPlainTest;

/*
 * A predicate of an index, or one that its access method implies, that needs no
 * expression evaluated.
 */
typedef struct EsPlainPredicate
{
	EsPlainTest test;
	AttrNumber	column;
	const text *wanted;			/* ES_TEST_TEXT */
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
	EsBtreeKind *kinds;			/* of indexes */
	EsLeafMemory **leaves;		/* of indexes; NULL: nothing is remembered */
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
extern bool es_kept_is_of_text(Relation index, AttrNumber column, const text *wanted);

#endif							/* ES_TABLE_KEPT_H */
