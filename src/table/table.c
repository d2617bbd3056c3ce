/*
 * table.c
 *		Writing rows without the executor.
 *
 * A bare INSERT pays for a plan, executor state and slots; an append
 * pays for none of them.  es_table_insert hands rows to the table AM and their
 * keys to the index AMs, with the IndexInfo and slots that were kept from the
 * call before.  Only btrees, and indexes by tag, may be fed so: other index AMs keep
 * things in the IndexInfo that point into the relation cache.  Where users have added other
 * indexes, or such on expressions, with predicates or deferrable, or columns or
 * CHECK constraints, rows go through executor state made for the call (altered.c).
 * Triggers and policies that users add to the store's tables do not see our rows.
 *
 * A row's place is good only as long as the lock on its table is held without a
 * gap, since VACUUM FULL and the like put other rows there.  So whoever changes a
 * row has found it, by its key, after taking the lock that it changes it
 * under, and keeps that lock to the end of the transaction; no place outlives the
 * table's being open.  The one that appends keep, of streams, is a hint, or is
 * guarded by the lock on the table that appends hold.  es_table_update looks whether
 * the row at the place has the key of the one that is to take its place.
 */
#include "table/table.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/names.h"
#include "json/tags.h"
#include "table/altered.h"
#include "table/btree.h"
#include "table/extend.h"
#include "table/leaf.h"
#include "table/tagindex.h"

/* ---- tables that are open ---- */

/*
 * es_table_check raises 55000 unless a table that is open and locked has the
 * columns that it should have.
 */
void
es_table_check(Relation rel, const EsShape *shape)
{
	(void) es_kept_get(rel, shape);
}

/* es_table_scan_slot does the same, and gives the slot kept for reading rows of the table. */
TupleTableSlot *
es_table_scan_slot(Relation rel, const EsShape *shape)
{
	return es_kept_get(rel, shape)->scan_slot;
}

/*
 * es_table_begin makes a table that is open and locked one to write to;
 * es_table_end undoes it, in the same subtransaction.
 */
void
es_table_begin(EsTable *table, Relation rel, const EsShape *shape)
{
	EsTableInfo *info = es_kept_get(rel, shape);

	table->rel = rel;
	table->info = info;
	table->indexes = MemoryContextAllocZero(CurTransactionContext, sizeof(Relation) * Max(info->nindexes, 1));
	table->rows = &info->rows;
	if (unlikely(!info->plain))
		table->rows = MemoryContextAllocZero(CurTransactionContext, sizeof(EsRowSlots));
}

/* es_table_open opens a table and makes it one to write to. */
void
es_table_open(EsTable *table, const EsShape *shape)
{
	es_table_begin(table, es_base_open(shape->table, RowExclusiveLock), shape);
}

/* Opens an index when it is needed for the first time. */
static inline Relation
open_table_index(EsTable *table, int i)
{
	if (table->indexes[i] == NULL)
		table->indexes[i] = index_open(table->info->index_oids[i], RowExclusiveLock);
	return table->indexes[i];
}

/* Finds an index of a table; -1 if it has none of this OID. */
static int
find_table_index(const EsTable *table, Oid relid)
{
	for (int i = 0; i < table->info->nindexes; i++)
		if (table->info->index_oids[i] == relid)
			return i;
	return -1;
}

/*
 * es_table_index gives an index of an open table, which stays open as long as the
 * table; NULL if it has none of this OID.
 */
Relation
es_table_index(EsTable *table, Oid relid)
{
	int			i = find_table_index(table, relid);

	return i < 0 ? NULL : open_table_index(table, i);
}

/* es_table_known_index is that for an index that we know by name; 55000 if it is not there. */
Relation
es_table_known_index(EsTable *table, EsRelation *index)
{
	Relation	rel = es_table_index(table, es_base_index(index, table->rel));

	if (rel == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("index \"eventstore.%s\" was replaced while it was used", index->name),
				errhint("Retry the transaction."));
	return rel;
}

/* Frees slots that are not kept. */
static void
drop_row_slots(EsRowSlots *rows)
{
	for (int i = 0; i < rows->count; i++)
		ExecDropSingleTupleTableSlot(rows->slots[i]);
	if (rows->slots)
		pfree(rows->slots);
	pfree(rows);
}

/* es_table_end gives back what es_table_begin made; the table stays open. */
void
es_table_end(EsTable *table)
{
	for (int i = 0; i < table->info->nindexes; i++)
	{
		if (table->indexes[i] == NULL)
			continue;
		es_index_insert_done(table->indexes[i], table->info->index_infos[i]);
		index_close(table->indexes[i], RowExclusiveLock);
	}
	if (unlikely(table->rows != &table->info->rows))
		drop_row_slots(table->rows);
	pfree(table->indexes);
}

/* es_table_close closes it; the lock on the table stays to the end of the transaction. */
void
es_table_close(EsTable *table)
{
	es_table_end(table);
	table_close(table->rel, NoLock);
}

/* An index of an open table, of a kind that entries are put into here. */
static EsBtree
btree_of_table(EsTable *table, int i)
{
	EsTableInfo *info = table->info;
	EsBtree		btree = {.index = open_table_index(table, i),.heap = table->rel,.info = info->index_infos[i]};

	btree.narrow = es_btree_is_narrow(btree.index);
	if (unlikely(info->leaves[i] == NULL))
		info->leaves[i] = es_leaf_make_memory(btree.info, info->context);
	btree.leaves = info->leaves[i];
	return btree;
}

/*
 * es_table_find_last finds the entry with the first key that *last has and the highest second
 * one, in an index of an open table over two bigint columns; hint: on which leaf, 0 if nothing
 * is known.  *leaf is pinned, and the row there is its own, until the caller releases it.
 * False, and nothing pinned, where an index scan has to tell.
 */
bool
es_table_find_last(EsTable *table, Oid index, EsBtreeEntry *last, BlockNumber hint, Buffer *leaf)
{
	int			i = find_table_index(table, index);
	EsBtree		btree;

	if (i < 0 || table->info->kinds[i] != ES_BTREE_SORTED || table->info->index_infos[i]->ii_NumIndexKeyAttrs != 2)
		return false;
	btree = btree_of_table(table, i);
	return es_leaf_find_last(&btree, last, hint, leaf);
}

/*
 * es_table_is_gap tells whether an index by tag of an open table has no entry under a key whose
 * position is from low to high, whether its row lives or not; what was written before the call
 * counts.  False also where an index scan has to tell.
 */
bool
es_table_is_gap(EsTable *table, Oid index, int64 key, int64 low, int64 high)
{
	int			i = find_table_index(table, index);
	EsBtree		btree;

	if (i < 0 || table->info->kinds[i] != ES_BTREE_TAGS)
		return false;
	btree = btree_of_table(table, i);
	return es_leaf_is_gap(&btree, key, low, high);
}

/* ---- writing rows ---- */

/* Makes the slots for writing up to at least n of them. */
static void
make_row_slots(EsTable *table, int n)
{
	EsTableInfo *info = table->info;
	EsRowSlots *rows = table->rows;
	MemoryContext old = MemoryContextSwitchTo(rows == &info->rows ? info->context : GetMemoryChunkContext(rows));
	TupleDesc	desc = info->scan_slot->tts_tupleDescriptor;

	if (rows->slots == NULL)
		rows->slots = palloc(sizeof(TupleTableSlot *) * n);
	else
		rows->slots = repalloc(rows->slots, sizeof(TupleTableSlot *) * n);
	while (rows->count < n)
		rows->slots[rows->count++] = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	MemoryContextSwitchTo(old);
}

/*
 * es_table_slot gives the n-th slot for writing, n below ES_TABLE_MOST_ROWS, empty;
 * the caller sets tts_values and tts_isnull of the columns that the table's shape
 * names and calls ExecStoreVirtualTuple.  The row is made in the current memory
 * context, which must be there until it is written.
 */
TupleTableSlot *
es_table_slot(EsTable *table, int n)
{
	TupleTableSlot *slot;

	Assert(n < ES_TABLE_MOST_ROWS);
	if (n >= table->rows->count)
		make_row_slots(table, Max(n + 1, Min(2 * table->rows->count, ES_TABLE_MOST_ROWS)));
	table->info->filling = true;
	slot = ExecClearTuple(table->rows->slots[n]);
	slot->tts_mcxt = CurrentMemoryContext;
	return slot;
}

/* Empties the first n slots for writing, which frees the rows that were made. */
static void
clear_row_slots(EsTable *table, int n)
{
	for (int i = 0; i < n; i++)
		ExecClearTuple(table->rows->slots[i]);
	table->info->filling = false;
}

/* Tells whether a row belongs into an index with a plain predicate. */
static inline bool
row_belongs_in_index(const EsPlainPredicate *predicate, const TupleTableSlot *slot)
{
	Datum		value;

	if (predicate->test == ES_TEST_NONE)
		return true;
	if (slot->tts_isnull[predicate->column - 1])
		return false;
	value = slot->tts_values[predicate->column - 1];
	switch (predicate->test)
	{
		case ES_TEST_TRUE:
			return DatumGetBool(value);
		case ES_TEST_POSITIVE:
			return DatumGetInt32(value) > 0;
		case ES_TEST_TEXT:
			return es_names_same(DatumGetTextPP(value), predicate->wanted);
		case ES_TEST_TAGS:
			return es_tags_any(value);
		case ES_TEST_NONE:
			break;
	}
	return true;
}

/* The entry of a row in an index over integers. */
static EsBtreeEntry
make_integer_entry(const EsBtree *btree, const TupleTableSlot *slot)
{
	EsBtreeEntry entry = {.tid = slot->tts_tid};

	for (int k = 0; k < btree->info->ii_NumIndexKeyAttrs; k++)
	{
		Datum		value = slot->tts_values[btree->info->ii_IndexAttrNumbers[k] - 1];

		entry.keys[k] = k == 0 && btree->narrow ? DatumGetInt32(value) : DatumGetInt64(value);
	}
	return entry;
}

/* Has the server put the keys of one row into an index. */
static void
insert_key_by_server(EsTable *table, int i, TupleTableSlot *slot)
{
	IndexInfo  *info = table->info->index_infos[i];
	Relation	index = open_table_index(table, i);
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	for (int k = 0; k < info->ii_NumIndexAttrs; k++)
	{
		AttrNumber	column = info->ii_IndexAttrNumbers[k];

		values[k] = slot->tts_values[column - 1];
		isnull[k] = slot->tts_isnull[column - 1];
	}
	index_insert(index, values, isnull, &slot->tts_tid, table->rel,
				 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				 false, info);
}

/* Puts the tags of one row into an index of them. */
static void
insert_tag_keys(EsTable *table, int i, const TupleTableSlot *slot)
{
	EsBtree		btree = btree_of_table(table, i);
	const AttrNumber *columns = btree.info->ii_IndexAttrNumbers;

	es_tagindex_insert(&btree, slot->tts_values[columns[0] - 1], DatumGetInt64(slot->tts_values[columns[1] - 1]),
					   &slot->tts_tid);
}

/* Puts the keys of one row into one index that has only plain columns. */
static void
insert_plain_key(EsTable *table, int i, TupleTableSlot *slot)
{
	if (!row_belongs_in_index(&table->info->predicates[i], slot))
		return;
	if (table->info->kinds[i] == ES_BTREE_OTHER)
		insert_key_by_server(table, i, slot);
	else if (table->info->kinds[i] == ES_BTREE_TAGS)
		insert_tag_keys(table, i, slot);
	else
	{
		EsBtree		btree = btree_of_table(table, i);
		EsBtreeEntry entry = make_integer_entry(&btree, slot);

		es_btree_insert(&btree, &entry);
	}
}

/* Puts the keys of rows into an index that takes them sorted. */
static void
insert_sorted_keys(EsTable *table, int i, TupleTableSlot **slots, int nrows)
{
	EsBtree		btree = btree_of_table(table, i);
	EsBtreeEntry *entries = palloc(sizeof(EsBtreeEntry) * nrows);
	int			n = 0;

	for (int row = 0; row < nrows; row++)
		if (row_belongs_in_index(&table->info->predicates[i], slots[row]))
			entries[n++] = make_integer_entry(&btree, slots[row]);
	es_btree_insert_sorted(&btree, entries, n);
	pfree(entries);
}

/* Puts the keys of rows into one index that has only plain columns. */
static void
insert_plain_keys(EsTable *table, int i, TupleTableSlot **slots, int nrows)
{
	if (nrows > 1 && table->info->kinds[i] == ES_BTREE_SORTED)
		insert_sorted_keys(table, i, slots, nrows);
	else
		for (int row = 0; row < nrows; row++)
			insert_plain_key(table, i, slots[row]);
}

/* Puts the keys of rows into all indexes, one index after the other. */
static void
insert_index_keys(EsTable *table, TupleTableSlot **slots, int nrows)
{
	for (int i = 0; i < table->info->nindexes; i++)
		if (table->info->index_infos[i]->ii_ReadyForInserts)
			insert_plain_keys(table, i, slots, nrows);
}

/* About how many pages rows will take that are like the first slot for writing. */
static BlockNumber
estimate_pages(EsTable *table, int nrows)
{
	TupleTableSlot *slot = table->rows->slots[0];
	Size		size = heap_compute_data_size(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);

	return nrows * Min(size + MAXALIGN(SizeofHeapTupleHeader), TOAST_TUPLE_THRESHOLD) / BLCKSZ + 1;
}

/* Hands rows to the table AM. */
static void
insert_table_rows(EsTable *table, TupleTableSlot **slots, int nrows)
{
	CommandId	cid = GetCurrentCommandId(true);

	es_extend_ahead(table->rel, &table->info->look_at, nrows == 1 ? 1 : estimate_pages(table, nrows));
	if (nrows == 1)
		table_tuple_insert(table->rel, slots[0], cid, 0, NULL);
	else
		table_multi_insert(table->rel, slots, nrows, cid, 0, NULL);
}

/* Writes rows, and their index entries, to a table that users have altered. */
static void
insert_altered_rows(EsTable *table, TupleTableSlot **slots, int nrows)
{
	EsAltered  *altered = es_altered_begin(table->rel, table->info->shape);

	for (int i = 0; i < nrows; i++)
		es_altered_complete(altered, slots[i], NULL);
	insert_table_rows(table, slots, nrows);
	for (int i = 0; i < nrows; i++)
		es_altered_index(altered, slots[i], false);
	es_altered_end(altered);
}

/*
 * Sees to a snapshot, and tells whether there was none: workers may write without, and
 * values out of line need one.
 */
static inline bool
push_missing_snapshot(void)
{
	if (likely(HaveRegisteredOrActiveSnapshot()))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

/*
 * es_table_insert writes the first nrows slots for writing, and their index
 * entries.  Allocates in the current context, which the caller should reset
 * after large batches.
 */
void
es_table_insert(EsTable *table, int nrows)
{
	TupleTableSlot **slots = table->rows->slots;
	bool		pushed = push_missing_snapshot();

	if (unlikely(!table->info->plain))
		insert_altered_rows(table, slots, nrows);
	else
	{
		insert_table_rows(table, slots, nrows);
		insert_index_keys(table, slots, nrows);
	}
	if (pushed)
		PopActiveSnapshot();
	table->tid = slots[nrows - 1]->tts_tid;
	clear_row_slots(table, nrows);
}

/* es_table_report_changed raises 40001 for a row that is not there any more as it was found. */
void
es_table_report_changed(Relation rel)
{
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("a row of table \"eventstore.%s\" was changed at the same time", RelationGetRelationName(rel)),
			errhint("Retry the transaction."));
}

/* Tells whether two rows have the same key. */
static bool
have_same_key(const EsShape *shape, TupleTableSlot *old, TupleTableSlot *new)
{
	for (int i = 0; shape->key && i < ES_MOST_KEYS && shape->key->index.keys[i] != 0; i++)
	{
		int			column = shape->key->index.keys[i] - 1;

		if (!es_columns_same(&shape->columns[column], old->tts_values[column], new->tts_values[column]))
			return false;
	}
	return true;
}

/* Replaces the row at tid, which is in old, by the one in slot, and makes its index entries. */
static void
replace_table_row(EsTable *table, ItemPointer tid, TupleTableSlot *old, TupleTableSlot *slot)
{
	EsAltered  *altered = NULL;
	EsUpdateIndexes indexes;
	LockTupleMode mode;
	TM_FailureData failure;

	if (unlikely(!table->info->plain))
	{
		altered = es_altered_begin(table->rel, table->info->shape);
		es_altered_complete(altered, slot, old);
	}
	if (table_tuple_update(table->rel, tid, slot, GetCurrentCommandId(true), SnapshotAny, InvalidSnapshot,
						   true, &failure, &mode, &indexes) != TM_Ok)
		es_table_report_changed(table->rel);
	if (altered && ES_TABLE_UPDATE_INDEXES_NEEDED(indexes))
		es_altered_index(altered, slot, ES_TABLE_UPDATE_ONLY_SUMMARIZING(indexes));
	else if (ES_TABLE_UPDATE_INDEXES_NEEDED(indexes))
		insert_index_keys(table, &slot, 1);
	if (altered)
		es_altered_end(altered);
}

/*
 * es_table_update replaces the row at tid by the first slot for writing.  The
 * caller holds a lock that keeps other writers of the row away, and has found the
 * row, the newest, since the table is locked; what it finds there by now that has
 * another key, or is not the newest, is 40001.
 */
void
es_table_update(EsTable *table, ItemPointer tid)
{
	TupleTableSlot *slot = table->rows->slots[0];
	TupleTableSlot *old = table->info->old_slot;
	TupleTableSlot *own = NULL;
	bool		pushed = push_missing_snapshot();

	if (unlikely(!table->info->plain))
		old = own = table_slot_create(table->rel, NULL);
	if (!table_tuple_fetch_row_version(table->rel, tid, SnapshotAny, old))
		es_table_report_changed(table->rel);
	slot_getsomeattrs(old, table->info->shape->ncolumns);
	if (!have_same_key(table->info->shape, old, slot))
		es_table_report_changed(table->rel);
	replace_table_row(table, tid, old, slot);
	if (own)
		ExecDropSingleTupleTableSlot(own);
	else
		ExecClearTuple(old);
	if (pushed)
		PopActiveSnapshot();
	table->tid = slot->tts_tid;
	clear_row_slots(table, 1);
}

/*
 * es_table_delete deletes the row at tid, which the caller has found since the
 * table is locked; it is the newest, or this is 40001.
 */
void
es_table_delete(Relation rel, ItemPointer tid)
{
	TM_FailureData failure;
	bool		pushed = push_missing_snapshot();

	if (table_tuple_delete(rel, tid, GetCurrentCommandId(true), SnapshotAny, InvalidSnapshot, true, &failure,
						   false) != TM_Ok)
		es_table_report_changed(rel);
	if (pushed)
		PopActiveSnapshot();
}
