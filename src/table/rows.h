/*
 * rows.h
 *		Rows of the store's small tables, one at a time.
 */
#ifndef ES_TABLE_ROWS_H
#define ES_TABLE_ROWS_H

#include "base/base.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/transam.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "base/objects.h"
#include "table/columns.h"

/*
 * A look at rows.  The caller sets the first members and gives keys, in the order
 * of the index that the table's shape names; none: all rows, in no order.
 */
typedef struct EsRows
{
	const EsShape *shape;
	LOCKMODE	mode;			/* AccessShareLock is given back at the end,
								 * others stay */
	Snapshot	snapshot;		/* NULL: what is committed, and what this
								 * transaction's commands up to now have done */
	bool		fresh;			/* then also what the running command has done */
	bool		wary;			/* rows may be damaged; no column is NULL */
	bool		backwards;		/* by the index, from the last row on */

	int			nkeys;
	int			nequal;			/* of them, which ask for one value */
	ScanKeyData keys[ES_MOST_KEYS + 1];

	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TableScanDesc all;			/* instead of scan and index */
	bool		own_snapshot;
	TupleTableSlot *slot;
	Datum	   *values;			/* of the row, its columns that the shape
								 * names */
	bool	   *isnull;
	bool		damaged;		/* the row, which has no values then; wary */
} EsRows;

extern void es_rows_equal(EsRows *rows, Datum value);
extern void es_rows_from(EsRows *rows, Datum value);
extern void es_rows_between(EsRows *rows, int64 after, int64 upto);
extern void es_rows_begin(EsRows *rows);
extern bool es_rows_next(EsRows *rows);
extern void es_rows_update(EsRows *rows, const Datum *values, const bool *isnull);
extern void es_rows_delete(EsRows *rows);
extern void es_rows_end(EsRows *rows);

/* Makes an element of an array, which is zeroed, of the row that a look has come to. */
typedef void (*EsRowsTake) (void *element, const EsRows *rows);

extern void *es_rows_all(EsRows *rows, Size size, EsRowsTake take, int *count);

/* Whole changes, each a command by itself. */
extern void es_rows_insert(const EsShape *shape, const Datum *values, const bool *isnull);
extern void es_rows_replace(const EsShape *shape, const Datum *values, const bool *isnull);
extern void es_rows_put(const EsShape *shape, const Datum *values, const bool *isnull);
extern int64 es_rows_take_away(const EsShape *shape, const Datum *keys, int nkeys);

/* Tables of one row at most; numbers: of one column, a bigint. */
extern bool es_rows_read_one(const EsShape *shape, EsRows *rows);
extern void es_rows_write_one(const EsShape *shape, const Datum *values);
extern int64 es_rows_read_number(const EsShape *shape, int64 missing);
extern void es_rows_write_number(const EsShape *shape, int64 number);

extern Snapshot es_rows_fresh_snapshot(void);
extern bool es_rows_any(Relation rel, Snapshot snapshot);
extern void es_rows_renew_snapshot(Relation rel, Snapshot *snapshot);
extern void es_rows_require_sight(Relation rel, Snapshot snapshot);

/*
 * es_rows_met_in_progress gives the transaction in progress, if any, that has made
 * or is about to change the row that a dirty snapshot has just seen.
 */
static inline TransactionId
es_rows_met_in_progress(const SnapshotData *dirty)
{
	return TransactionIdIsValid(dirty->xmin) ? dirty->xmin : dirty->xmax;
}

/* es_rows_slot_header gives the header of the row that a scan's slot holds; NULL if it has none. */
static inline HeapTupleHeader
es_rows_slot_header(TupleTableSlot *slot)
{
	if (!TTS_IS_BUFFERTUPLE(slot) && !TTS_IS_HEAPTUPLE(slot))
		return NULL;
	return ((HeapTupleTableSlot *) slot)->tuple->t_data;
}

/*
 * es_rows_slot_xmin tells which transaction wrote the row that a scan's slot
 * holds; FrozenTransactionId if the row is frozen, which says that no snapshot needs to look
 * whether it has committed, but not that this is long ago, nor on disk; InvalidTransactionId if
 * the table AM keeps no such thing.
 */
static inline TransactionId
es_rows_slot_xmin(TupleTableSlot *slot)
{
	HeapTupleHeader row = es_rows_slot_header(slot);

	return row ? HeapTupleHeaderGetXmin(row) : InvalidTransactionId;
}

#endif							/* ES_TABLE_ROWS_H */
