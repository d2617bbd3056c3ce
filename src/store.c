/*
 * store.c
 *		The guards on the store's tables, and writing rows without the executor.
 *
 * Writing: a bare INSERT pays for a plan, executor state and slots; an append
 * pays for none of them.  es_store_insert hands rows to the table AM and their
 * keys to the index AMs, with the IndexInfo and slots that were kept from the
 * call before.  Only btrees may be fed so: other index AMs keep things in the
 * IndexInfo that point into the relation cache.  Where users have added other
 * indexes, or such on expressions, with predicates or deferrable, all go
 * through executor state made for the call.  Triggers and
 * CHECK constraints that users add to the store's tables do not see such rows.
 *
 * What is kept hangs in one memory context a table.  Invalidation only marks
 * it stale; the next look makes another one and leaves the old one to the
 * transaction, since a table that is open goes on using it.
 *
 * Guards: row triggers refuse UPDATE and DELETE, statement triggers refuse
 * TRUNCATE, and INSERT by others than the store's owner.  They are ENABLE
 * ALWAYS, so session_replication_role does not get round them.  Our own
 * writes go through the table AM and never meet a trigger.
 */
#include "store.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "replication/logicalworker.h"
#include "storage/bufmgr.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "sharedmark.h"

/* The operator int4 > int4, as the catalogs have it in all releases. */
#define INT4_GT_OPERATOR	521

/* Where what is kept of a table hangs. */
typedef struct TableEntry
{
	Oid			relid;			/* hash key */
	bool		stale;			/* an invalidation came since info was begun */
	EsTableInfo *info;			/* or NULL */
} TableEntry;

static HTAB *tables = NULL;

PG_FUNCTION_INFO_V1(es_store_guard_rows);
PG_FUNCTION_INFO_V1(es_store_guard_statement);

/* ---- guards ---- */

/* Raises VE002 for the operation that fired the trigger. */
static void
refuse_change(const TriggerData *trigger)
{
	const char *operation = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "UPDATE" :
	TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE" : "TRUNCATE";

	ereport(ERROR,
			errcode(ES_ERRCODE_APPEND_ONLY_VIOLATION),
			errmsg("%s is not possible on \"%s\": the event store is append-only",
				   operation, RelationGetRelationName(trigger->tg_relation)),
			errhint("Append an event that corrects the earlier ones."));
}

/*
 * es_store_guard_rows: BEFORE UPDATE OR DELETE row trigger.  Raises VE002,
 * whoever asks; only logical replication may carry changes to tables other
 * than the log itself.
 */
Datum
es_store_guard_rows(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_base_require_trigger(CALLED_AS_TRIGGER(fcinfo), "guard_rows");
	if (IsLogicalWorker() && !trigger->tg_relation->rd_rel->relispartition)
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
							   trigger->tg_newtuple : trigger->tg_trigtuple);
	refuse_change(trigger);
	return (Datum) 0;			/* not reached */
}

/*
 * es_store_guard_statement: BEFORE INSERT OR TRUNCATE statement trigger.
 * TRUNCATE is VE002; direct INSERT and COPY, which restores and subscribers
 * need, are 42501 for all but the store's owner and superusers.
 */
Datum
es_store_guard_statement(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_base_require_trigger(CALLED_AS_TRIGGER(fcinfo), "guard_statement");
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		refuse_change(trigger);
	if (!es_base_owns_store(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to write to \"%s\" directly",
					   RelationGetRelationName(trigger->tg_relation)),
				errhint("Append with es_append or INSERT INTO es_events."));
	es_sharedmark_set_loading(es_base_store()->position_seq, true);
	return PointerGetDatum(NULL);
}

/* ---- what is kept of tables ---- */

/* Marks what is kept of a relation, or of all, as stale. */
static void
mark_stale(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	TableEntry *entry;

	if (OidIsValid(relid))
	{
		entry = hash_search(tables, &relid, HASH_FIND, NULL);
		if (entry)
			entry->stale = true;
		return;
	}
	hash_seq_init(&scan, tables);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->stale = true;
}

/* Makes the table of what is kept; called once, from _PG_init. */
void
es_store_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(TableEntry);
	tables = hash_create("eventstore tables", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	es_base_on_relation_change(mark_stale);
}

/* Recognises a plain predicate; column 0 if it is none. */
static EsPlainPredicate
plain_predicate(const IndexInfo *info)
{
	EsPlainPredicate plain = {0};
	const Node *clause;

	if (list_length(info->ii_Predicate) != 1)
		return plain;
	clause = linitial(info->ii_Predicate);
	if (IsA(clause, Var))
		plain.column = ((const Var *) clause)->varattno;
	else if (IsA(clause, OpExpr) && ((const OpExpr *) clause)->opno == INT4_GT_OPERATOR)
	{
		const Node *left = linitial(((const OpExpr *) clause)->args);
		const Node *right = lsecond(((const OpExpr *) clause)->args);

		if (IsA(left, Var) && IsA(right, Const) && !((const Const *) right)->constisnull &&
			DatumGetInt32(((const Const *) right)->constvalue) == 0)
		{
			plain.column = ((const Var *) left)->varattno;
			plain.is_int = true;
		}
	}
	return plain;
}

/* Tells whether a row belongs into an index with a plain predicate. */
static inline bool
row_belongs(const EsPlainPredicate *predicate, const TupleTableSlot *slot)
{
	Datum		value;

	if (predicate->column == 0)
		return true;
	value = slot->tts_values[predicate->column - 1];
	return predicate->is_int ? DatumGetInt32(value) > 0 : DatumGetBool(value);
}

/* Fills in what is kept of a table; its context is current. */
static void
describe_table(EsTableInfo *info, Relation rel)
{
	List	   *oids = RelationGetIndexList(rel);
	int			n = list_length(oids);

	info->nindexes = n;
	info->index_oids = palloc(sizeof(Oid) * Max(n, 1));
	info->index_infos = palloc(sizeof(IndexInfo *) * Max(n, 1));
	info->predicates = palloc(sizeof(EsPlainPredicate) * Max(n, 1));
	info->sorted = palloc(sizeof(bool) * Max(n, 1));
	info->simple = true;
	for (int i = 0; i < n; i++)
	{
		Relation	index = index_open(list_nth_oid(oids, i), AccessShareLock);
		IndexInfo  *index_info = BuildIndexInfo(index);

		info->index_oids[i] = RelationGetRelid(index);
		info->index_infos[i] = index_info;
		info->predicates[i] = plain_predicate(index_info);
		info->sorted[i] = es_btree_takes_sorted(index);
		if (index->rd_rel->relam != BTREE_AM_OID || !index->rd_index->indimmediate ||
			index_info->ii_Expressions != NIL || index_info->ii_ExclusionOps != NULL ||
			(index_info->ii_Predicate != NIL && info->predicates[i].column == 0))
			info->simple = false;
		index_close(index, AccessShareLock);
	}
	info->scan_slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)),
											   table_slot_callbacks(rel));
	info->slots = NULL;
	info->nslots = 0;
	info->look_at = 0;
}

/* Makes what is to be kept of a table, in a context of its own. */
static EsTableInfo *
make_info(Relation rel)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "eventstore table",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EsTableInfo *info = palloc0(sizeof(EsTableInfo));

	info->context = context;
	describe_table(info, rel);
	MemoryContextSwitchTo(old);
	return info;
}

/*
 * Finds, or makes, what is kept of a table that is open and locked.  The look
 * at the indexes may take in invalidations, which make it stale at once.
 */
static EsTableInfo *
get_info(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	bool		found;
	TableEntry *entry = hash_search(tables, &relid, HASH_ENTER, &found);
	EsTableInfo *info;

	if (!found)
		entry->info = NULL;
	if (likely(entry->info && !entry->stale))
		return entry->info;
	if (entry->info)
		MemoryContextSetParent(entry->info->context, TopTransactionContext);
	entry->info = NULL;
	for (;;)
	{
		entry->stale = false;
		info = make_info(rel);
		if (!entry->stale)
			break;
		MemoryContextDelete(info->context);
	}
	MemoryContextSetParent(info->context, TopMemoryContext);
	return entry->info = info;
}

/* es_store_scan_slot gives the slot kept for reading rows of a table. */
TupleTableSlot *
es_store_scan_slot(Relation rel)
{
	return get_info(rel)->scan_slot;
}

/* ---- writing rows ---- */

/* es_store_begin makes a table that is open and locked one to write to; es_store_close closes it, in the same subtransaction. */
void
es_store_begin(EsTable *table, Relation rel)
{
	table->rel = rel;
	table->info = get_info(rel);
	table->indexes = MemoryContextAllocZero(CurTransactionContext,
											sizeof(Relation) * Max(table->info->nindexes, 1));
}

/* es_store_open opens a table and makes it one to write to. */
void
es_store_open(EsTable *table, Oid relid)
{
	es_store_begin(table, table_open(relid, RowExclusiveLock));
}

/* Opens an index when it is needed for the first time. */
static inline Relation
open_index(EsTable *table, int i)
{
	if (table->indexes[i] == NULL)
		table->indexes[i] = index_open(table->info->index_oids[i], RowExclusiveLock);
	return table->indexes[i];
}

/* Finds an index of a table; -1 if it has none of this OID. */
static int
find_index(const EsTable *table, Oid relid)
{
	for (int i = 0; i < table->info->nindexes; i++)
		if (table->info->index_oids[i] == relid)
			return i;
	return -1;
}

/* es_store_index gives an index of an open table, which stays open as long as the table; NULL if it has none of this OID. */
Relation
es_store_index(EsTable *table, Oid relid)
{
	int			i = find_index(table, relid);

	return i < 0 ? NULL : open_index(table, i);
}

/* es_store_close closes it; the lock on the table stays to the end of the transaction. */
void
es_store_close(EsTable *table)
{
	for (int i = 0; i < table->info->nindexes; i++)
	{
		if (table->indexes[i] == NULL)
			continue;
		es_index_insert_done(table->indexes[i], table->info->index_infos[i]);
		index_close(table->indexes[i], RowExclusiveLock);
	}
	table_close(table->rel, NoLock);
	pfree(table->indexes);
}

/*
 * es_store_find_last reads the row with a first key and the highest second one,
 * by an index of an open table over two bigint columns.  False if the snapshot
 * does not see it, and where an index scan has to tell.
 */
bool
es_store_find_last(EsTable *table, Oid index, int64 first, Snapshot snapshot, TupleTableSlot *slot)
{
	int			i = find_index(table, index);
	EsBtree		btree = {.heap = table->rel};
	ItemPointerData tid;
	Buffer		leaf;
	bool		found;

	if (i < 0 || !table->info->sorted[i] || table->info->index_infos[i]->ii_NumIndexKeyAttrs != 2)
		return false;
	btree.index = open_index(table, i);
	btree.info = table->info->index_infos[i];
	if (!es_btree_find_last(&btree, first, &tid, &leaf))
		return false;
	found = table_tuple_fetch_row_version(table->rel, &tid, snapshot, slot);
	ReleaseBuffer(leaf);
	return found;
}

/* Makes the slots for writing up to at least n of them. */
static void
make_slots(EsTable *table, int n)
{
	EsTableInfo *info = table->info;
	MemoryContext old = MemoryContextSwitchTo(info->context);
	TupleDesc	desc = info->scan_slot->tts_tupleDescriptor;

	if (info->slots == NULL)
		info->slots = palloc(sizeof(TupleTableSlot *) * n);
	else
		info->slots = repalloc(info->slots, sizeof(TupleTableSlot *) * n);
	while (info->nslots < n)
	{
		info->slots[info->nslots] = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
		info->nslots++;
	}
	MemoryContextSwitchTo(old);
}

/*
 * es_store_slot gives the n-th slot for writing, empty; the caller sets
 * tts_values and tts_isnull and calls ExecStoreVirtualTuple.
 */
TupleTableSlot *
es_store_slot(EsTable *table, int n)
{
	if (n >= table->info->nslots)
		make_slots(table, Max(n + 1, Min(2 * table->info->nslots, 1024)));
	return ExecClearTuple(table->info->slots[n]);
}

/* Puts the keys of one row into one index that has only plain columns. */
static void
insert_plain_key(EsTable *table, int i, TupleTableSlot *slot)
{
	IndexInfo  *info = table->info->index_infos[i];
	Relation	index;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	if (!row_belongs(&table->info->predicates[i], slot))
		return;
	index = open_index(table, i);
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

/* Puts the keys of rows into an index that takes them sorted. */
static void
insert_sorted_keys(EsTable *table, int i, TupleTableSlot **slots, int nrows)
{
	IndexInfo  *info = table->info->index_infos[i];
	EsBtree		btree = {.index = open_index(table, i),.heap = table->rel,.info = info};
	EsBtreeEntry *entries = palloc0(sizeof(EsBtreeEntry) * nrows);
	int			n = 0;

	for (int row = 0; row < nrows; row++)
	{
		if (!row_belongs(&table->info->predicates[i], slots[row]))
			continue;
		for (int k = 0; k < info->ii_NumIndexKeyAttrs; k++)
			entries[n].keys[k] = DatumGetInt64(slots[row]->tts_values[info->ii_IndexAttrNumbers[k] - 1]);
		entries[n++].tid = slots[row]->tts_tid;
	}
	es_btree_insert_sorted(&btree, entries, n);
	pfree(entries);
}

/* Puts the keys of rows into one index that has only plain columns. */
static void
insert_plain_keys(EsTable *table, int i, TupleTableSlot **slots, int nrows)
{
	if (nrows > 1 && table->info->sorted[i])
		insert_sorted_keys(table, i, slots, nrows);
	else
		for (int row = 0; row < nrows; row++)
			insert_plain_key(table, i, slots[row]);
}

/* Puts the keys of rows into all indexes through the executor's machinery. */
static void
insert_keys_by_executor(EsTable *table, TupleTableSlot **slots, int nrows)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);

	InitResultRelInfo(result, table->rel, 1, NULL, 0);
	ExecOpenIndices(result, false);
	for (int i = 0; i < nrows; i++)
	{
		(void) ExecInsertIndexTuples(result, slots[i], estate, false, false, NULL, NIL
									 ES_EXEC_INSERT_INDEX_TUPLES_EXTRA);
		ResetPerTupleExprContext(estate);
	}
	ExecCloseIndices(result);
	FreeExecutorState(estate);
}

/* Puts the keys of rows into all indexes, one index after the other. */
static void
insert_keys(EsTable *table, TupleTableSlot **slots, int nrows)
{
	if (!table->info->simple)
	{
		insert_keys_by_executor(table, slots, nrows);
		return;
	}
	for (int i = 0; i < table->info->nindexes; i++)
		if (table->info->index_infos[i]->ii_ReadyForInserts)
			insert_plain_keys(table, i, slots, nrows);
}

/* About how many pages rows will take that are like the first slot for writing. */
static BlockNumber
pages_for(EsTable *table, int nrows)
{
	TupleTableSlot *slot = table->info->slots[0];
	Size		size = heap_compute_data_size(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);

	return nrows * Min(size + MAXALIGN(SizeofHeapTupleHeader), TOAST_TUPLE_THRESHOLD) / BLCKSZ + 1;
}

/*
 * es_store_insert writes the first nrows slots for writing, and their index
 * entries.  Allocates in the current context, which the caller should reset
 * after large batches.
 */
void
es_store_insert(EsTable *table, int nrows)
{
	TupleTableSlot **slots = table->info->slots;
	CommandId	cid = GetCurrentCommandId(true);

	es_extend_ahead(table->rel, &table->info->look_at, nrows == 1 ? 1 : pages_for(table, nrows));
	if (nrows == 1)
		table_tuple_insert(table->rel, slots[0], cid, 0, NULL);
	else
		table_multi_insert(table->rel, slots, nrows, cid, 0, NULL);
	insert_keys(table, slots, nrows);
}

/*
 * es_store_update replaces the row at tid by the first slot for writing.  The
 * caller holds a lock that keeps other writers of the row away, and knows the
 * row to be the newest.
 */
void
es_store_update(EsTable *table, ItemPointer tid)
{
	TupleTableSlot *slot = table->info->slots[0];
	EsUpdateIndexes update_indexes;

	simple_table_tuple_update(table->rel, tid, slot, SnapshotAny, &update_indexes);
	if (ES_TABLE_UPDATE_INDEXES_NEEDED(update_indexes))
		insert_keys(table, &slot, 1);
}

/* ---- tables of one row ---- */

/*
 * es_store_read_row reads the row of a table that has one at most, as it is now;
 * NULL if it has none.  The values are parts of what it returns, which is the
 * caller's to free.
 */
HeapTuple
es_store_read_row(Oid relid, Datum *values, bool *nulls)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	HeapTuple	row = NULL;

	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		row = ExecCopySlotHeapTuple(slot);
		heap_deform_tuple(row, RelationGetDescr(rel), values, nulls);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return row;
}

/*
 * es_store_write_row makes these, none of them NULL, the columns of the one row
 * that a table holds.  The caller keeps other writers away.
 */
void
es_store_write_row(Oid relid, const Datum *values)
{
	EsTable		table;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot;
	TupleTableSlot *old;
	TableScanDesc scan;
	ItemPointerData tid;
	bool		exists;

	es_store_open(&table, relid);
	old = table.info->scan_slot;
	slot = es_store_slot(&table, 0);
	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_values[i] = values[i];
		slot->tts_isnull[i] = false;
	}
	ExecStoreVirtualTuple(slot);
	scan = table_beginscan(table.rel, snapshot, 0, NULL);
	exists = table_scan_getnextslot(scan, ForwardScanDirection, old);
	tid = old->tts_tid;
	ExecClearTuple(old);		/* kept across errors: it must hold no pin */
	table_endscan(scan);
	if (exists)
		es_store_update(&table, &tid);
	else
		es_store_insert(&table, 1);
	es_store_close(&table);
	UnregisterSnapshot(snapshot);
}

/* es_store_read_number reads the number that a table of one column and one row holds; missing if it has no row. */
int64
es_store_read_number(Oid relid, int64 missing)
{
	Datum		value;
	bool		isnull;
	HeapTuple	row = es_store_read_row(relid, &value, &isnull);
	int64		number = row != NULL ? DatumGetInt64(value) : missing;

	if (row != NULL)
		heap_freetuple(row);
	return number;
}

/* es_store_write_number makes a number the one that such a table holds, as es_store_write_row does. */
void
es_store_write_number(Oid relid, int64 number)
{
	Datum		value = Int64GetDatum(number);

	es_store_write_row(relid, &value);
}
