/*
 * rows.c
 *		Rows of the store's small tables, one at a time.
 *
 * Who changes a row finds it again by its key, under the lock on the table that
 * it is changed under and that stays to the end of the transaction: a place
 * that was read under an earlier lock may be another row's by now.  So nobody but a
 * look that is open knows a row's place.
 *
 * What keeps other writers of the row away is the caller's: a lock of an object, or
 * of the table in a mode that excludes writers.  Under it a fresh snapshot shows the
 * newest.
 */
#include "table/rows.h"

#include "access/htup_details.h"
#include "access/sdir.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/pending.h"
#include "table/intact.h"
#include "table/table.h"

/*
 * es_rows_fresh_snapshot registers a snapshot of what is committed now and
 * of all that this transaction has done, the running command included.  To be
 * unregistered by the caller.
 */
Snapshot
es_rows_fresh_snapshot(void)
{
	Snapshot	snapshot;

	es_call_refuse_parallel();
	es_pending_flush();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* it is our copy; the next command's eyes see this command's rows */
	snapshot->curcid = GetCurrentCommandId(false) + 1;
	return snapshot;
}

/*
 * es_rows_any tells whether a table has a row that a snapshot sees; nothing is
 * asked of its columns.
 */
bool
es_rows_any(Relation rel, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	return found;
}

/*
 * es_rows_renew_snapshot takes a fresh snapshot in the place of one that does not
 * see what a table, locked by now, has.
 */
void
es_rows_renew_snapshot(Relation rel, Snapshot *snapshot)
{
	if (likely(es_base_sees(rel, *snapshot)))
		return;
	UnregisterSnapshot(*snapshot);
	*snapshot = NULL;
	*snapshot = es_rows_fresh_snapshot();
}

/*
 * es_rows_require_sight raises 40001 if a snapshot does not see what a table,
 * locked by now, has.
 */
void
es_rows_require_sight(Relation rel, Snapshot snapshot)
{
	if (likely(es_base_sees(rel, snapshot)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("table \"eventstore.%s\" was altered at the same time", RelationGetRelationName(rel)),
			errdetail("To the snapshot of the statement, or of the transaction, the table may look empty."),
			errhint("Retry the transaction."));
}

/* ---- looking ---- */

/* The column that the next key is for. */
static const EsColumn *
next_key_column(const EsRows *rows)
{
	Assert(rows->nequal < ES_MOST_KEYS && rows->shape->key->index.keys[rows->nequal] != 0);
	return &rows->shape->columns[rows->shape->key->index.keys[rows->nequal] - 1];
}

/* The function that compares values of a column for being equal. */
static RegProcedure
equality_function_of(const EsColumn *column)
{
	switch (column->type)
	{
		case INT8OID:
			return F_INT8EQ;
		case INT4OID:
			return F_INT4EQ;
		case PG_LSNOID:
			return F_PG_LSN_EQ;
		case TEXTOID:
			return F_TEXTEQ;
		case UUIDOID:
			return F_UUID_EQ;
	}
	elog(ERROR, "column \"%s\" cannot be part of a key", column->name);
}

/*
 * es_rows_equal asks for rows that have a value in the next column of the index, a btree or a hash
 * index.
 */
void
es_rows_equal(EsRows *rows, Datum value)
{
	StrategyNumber strategy = rows->shape->key->index.method ? HTEqualStrategyNumber : BTEqualStrategyNumber;

	ScanKeyInit(&rows->keys[rows->nkeys++], rows->nequal + 1, strategy,
				equality_function_of(next_key_column(rows)), value);
	rows->nequal++;
}

/*
 * es_rows_from asks for rows whose next column of the index, a uuid, is a value or above it; the
 * last key.  The rows come in this order.
 */
void
es_rows_from(EsRows *rows, Datum value)
{
	Assert(next_key_column(rows)->type == UUIDOID);
	ScanKeyInit(&rows->keys[rows->nkeys++], rows->nequal + 1, BTGreaterEqualStrategyNumber, F_UUID_GE, value);
}

/*
 * es_rows_between asks for rows whose next column of the index, a bigint, is above
 * one number and up to another; the last key.
 */
void
es_rows_between(EsRows *rows, int64 after, int64 upto)
{
	Assert(next_key_column(rows)->type == INT8OID);
	ScanKeyInit(&rows->keys[rows->nkeys++], rows->nequal + 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&rows->keys[rows->nkeys++], rows->nequal + 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
}

/*
 * Takes the snapshot that a look is by, unless there is one: the table is locked,
 * so nobody rewrites it any more.
 */
static void
take_look_snapshot(EsRows *rows)
{
	rows->own_snapshot = rows->snapshot == NULL;
	if (!rows->own_snapshot)
		es_rows_require_sight(rows->rel, rows->snapshot);
	else if (rows->fresh)
		rows->snapshot = es_rows_fresh_snapshot();
	else
		rows->snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rows->rel)));
}

/*
 * es_rows_begin opens the table and begins to look; 40001 if the table was
 * rewritten since the given snapshot.
 */
void
es_rows_begin(EsRows *rows)
{
	if (rows->fresh)
		es_pending_flush();		/* that may lock other tables */
	rows->rel = es_base_open(rows->shape->table, rows->mode);
	es_table_check(rows->rel, rows->shape);
	take_look_snapshot(rows);
	rows->slot = table_slot_create(rows->rel, NULL);
	if (rows->nkeys == 0)
	{
		rows->all = table_beginscan(rows->rel, rows->snapshot, 0, NULL);
		return;
	}
	rows->index = es_base_open_index(rows->shape->key, rows->rel, AccessShareLock);
	rows->scan = es_index_beginscan(rows->rel, rows->index, rows->snapshot, rows->nkeys);
	index_rescan(rows->scan, rows->keys, rows->nkeys, NULL, 0);
}

/* Tells whether the row is one that is asked for, if the index cannot: a hash index. */
static bool
is_row_wanted(EsRows *rows)
{
	for (int i = 0; rows->scan->xs_recheck && i < rows->nkeys; i++)
	{
		ScanKey		key = &rows->keys[i];
		bool		isnull;
		Datum		value = slot_getattr(rows->slot, rows->shape->key->index.keys[key->sk_attno - 1], &isnull);

		if (isnull || !DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation, value, key->sk_argument)))
			return false;
	}
	return true;
}

/* Goes to the next row. */
static bool
advance_look(EsRows *rows)
{
	if (rows->all)
		return table_scan_getnextslot(rows->all, ForwardScanDirection, rows->slot);
	while (index_getnext_slot(rows->scan, rows->backwards ? BackwardScanDirection : ForwardScanDirection, rows->slot))
		if (likely(is_row_wanted(rows)))
			return true;
	return false;
}

/*
 * es_rows_next goes to the next row, whose columns are then there to look at; false
 * after the last.
 */
bool
es_rows_next(EsRows *rows)
{
	if (!advance_look(rows))
		return false;
	rows->damaged = rows->wary && !es_intact_row(rows->slot, rows->shape->ncolumns);
	if (rows->damaged)
		return true;
	slot_getsomeattrs(rows->slot, rows->shape->ncolumns);
	rows->values = rows->slot->tts_values;
	rows->isnull = rows->slot->tts_isnull;
	return true;
}

/* es_rows_end ends it. */
void
es_rows_end(EsRows *rows)
{
	if (rows->all)
		table_endscan(rows->all);
	else
	{
		index_endscan(rows->scan);
		index_close(rows->index, AccessShareLock);
	}
	ExecDropSingleTupleTableSlot(rows->slot);
	if (rows->own_snapshot)
	{
		UnregisterSnapshot(rows->snapshot);
		rows->snapshot = NULL;
	}
	table_close(rows->rel, rows->mode == AccessShareLock ? AccessShareLock : NoLock);
}

/*
 * es_rows_all reads the rows of a look that has begun, and ends it; gives an array, in
 * the current memory context, of what is made of them, and how many they are.
 */
void *
es_rows_all(EsRows *rows, Size size, EsRowsTake take, int *count)
{
	int			room = 8;
	char	   *elements = palloc(size * room);

	*count = 0;
	while (es_rows_next(rows))
	{
		CHECK_FOR_INTERRUPTS();
		if (*count == room)
			elements = repalloc(elements, size * (room *= 2));
		memset(elements + size * *count, 0, size);
		take(elements + size * (*count)++, rows);
	}
	es_rows_end(rows);
	return elements;
}

/* ---- changing the row that a look has come to ---- */

/* Makes a row the first one for writing. */
static void
fill_row_slot(EsTable *table, const EsShape *shape, const Datum *values, const bool *isnull)
{
	TupleTableSlot *slot = es_table_slot(table, 0);

	memcpy(slot->tts_values, values, sizeof(Datum) * shape->ncolumns);
	memcpy(slot->tts_isnull, isnull, sizeof(bool) * shape->ncolumns);
	ExecStoreVirtualTuple(slot);
}

/* es_rows_update gives the row other values, the same key among them. */
void
es_rows_update(EsRows *rows, const Datum *values, const bool *isnull)
{
	EsTable		table;

	Assert(rows->mode >= RowExclusiveLock);
	es_table_begin(&table, rows->rel, rows->shape);
	fill_row_slot(&table, rows->shape, values, isnull);
	es_table_update(&table, &rows->slot->tts_tid);
	es_table_end(&table);
}

/* es_rows_delete deletes the row. */
void
es_rows_delete(EsRows *rows)
{
	Assert(rows->mode >= RowExclusiveLock);
	es_table_delete(rows->rel, &rows->slot->tts_tid);
}

/* ---- whole changes ---- */

/* es_rows_insert adds a row. */
void
es_rows_insert(const EsShape *shape, const Datum *values, const bool *isnull)
{
	EsTable		table;

	es_table_open(&table, shape);
	fill_row_slot(&table, shape, values, isnull);
	es_table_insert(&table, 1);
	es_table_close(&table);
	CommandCounterIncrement();
}

/*
 * Puts a row in the place of the one with its key, which the table, if it is so,
 * must have; false if it has none.
 */
static bool
replace_row_by_key(const EsShape *shape, const Datum *values, const bool *isnull, bool must)
{
	EsRows		rows = {.shape = shape,.mode = RowExclusiveLock,.fresh = true};
	bool		found;

	CommandCounterIncrement();	/* this command may have written it before */
	for (int i = 0; i < ES_MOST_KEYS && shape->key->index.keys[i] != 0; i++)
		es_rows_equal(&rows, values[shape->key->index.keys[i] - 1]);
	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	if (found)
		es_rows_update(&rows, values, isnull);
	else if (must)
		es_table_report_changed(rows.rel);
	es_rows_end(&rows);
	CommandCounterIncrement();
	return found;
}

/* es_rows_replace puts a row in the place of the one with its key; 40001 if there is none. */
void
es_rows_replace(const EsShape *shape, const Datum *values, const bool *isnull)
{
	(void) replace_row_by_key(shape, values, isnull, true);
}

/* es_rows_put adds a row, or puts it in the place of the one with its key. */
void
es_rows_put(const EsShape *shape, const Datum *values, const bool *isnull)
{
	if (!replace_row_by_key(shape, values, isnull, false))
		es_rows_insert(shape, values, isnull);
}

/*
 * es_rows_take_away deletes the rows that have the first columns of their key in
 * common, and returns how many they were.
 */
int64
es_rows_take_away(const EsShape *shape, const Datum *keys, int nkeys)
{
	EsRows		rows = {.shape = shape,.mode = RowExclusiveLock,.fresh = true};
	int64		count = 0;

	CommandCounterIncrement();
	for (int i = 0; i < nkeys; i++)
		es_rows_equal(&rows, keys[i]);
	es_rows_begin(&rows);
	for (; es_rows_next(&rows); count++)
	{
		CHECK_FOR_INTERRUPTS();
		es_rows_delete(&rows);
	}
	es_rows_end(&rows);
	CommandCounterIncrement();
	return count;
}

/* ---- tables of one row ---- */

/*
 * es_rows_read_one reads the row of a table that has one at most, as it is now;
 * false if it has none.  The values are there until es_rows_end.
 */
bool
es_rows_read_one(const EsShape *shape, EsRows *rows)
{
	memset(rows, 0, sizeof(*rows));
	rows->shape = shape;
	rows->mode = AccessShareLock;
	es_rows_begin(rows);
	return es_rows_next(rows);
}

/*
 * es_rows_write_one makes these, none of them NULL, the columns of the one row
 * that a table holds.  The caller keeps other writers away.
 */
void
es_rows_write_one(const EsShape *shape, const Datum *values)
{
	EsRows		rows = {.shape = shape,.mode = RowExclusiveLock};
	bool	   *isnull = palloc0(sizeof(bool) * shape->ncolumns);
	bool		exists;

	es_rows_begin(&rows);
	exists = es_rows_next(&rows);
	if (exists)
		es_rows_update(&rows, values, isnull);
	es_rows_end(&rows);
	if (!exists)
		es_rows_insert(shape, values, isnull);
	pfree(isnull);
}

/*
 * es_rows_read_number reads the number that a table of one column and one row
 * holds; missing if it has no row.
 */
int64
es_rows_read_number(const EsShape *shape, int64 missing)
{
	EsRows		rows;
	int64		number = es_rows_read_one(shape, &rows) ? DatumGetInt64(rows.values[0]) : missing;

	es_rows_end(&rows);
	return number;
}

/*
 * es_rows_write_number makes a number the one that such a table holds, as
 * es_rows_write_one does.
 */
void
es_rows_write_number(const EsShape *shape, int64 number)
{
	Datum		value = Int64GetDatum(number);

	es_rows_write_one(shape, &value);
}
