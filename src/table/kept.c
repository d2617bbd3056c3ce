/*
 * kept.c
 *		What is kept of the store's tables across calls: their indexes, and slots.
 *
 * What is kept hangs in one memory context a table.  Invalidation only marks
 * it stale; the next look makes another one and leaves the old one to the
 * transaction, since a table that is open goes on using it.
 *
 * Kept slots.  Those for reading may hold a pin, and those for writing point to the
 * caller's memory, where their rows are also made; both are cleared after use.
 * An error leaves them as they are, while the pin and the memory go with the
 * (sub)transaction.  So at its abort whatever has such a slot is stale: it is never
 * touched again.
 *
 * Bounds.  Each segment that a session writes to adds some; when there is much, what this
 * transaction has not used goes, before more is made.
 */
#include "table/kept.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "executor/executor.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/names.h"
#include "base/objects.h"
#include "base/owner.h"
#include "table/altered.h"
#include "table/btree.h"
#include "table/tagindex.h"

/* The operator int4 > int4, as the catalogs have it in all releases. */
#define INT4_GT_OPERATOR	521

/* Where what is kept of a table hangs. */
typedef struct TableEntry
{
	Oid			relid;			/* hash key */
	bool		stale;			/* an invalidation came since info was begun */
	EsTableInfo *info;			/* or NULL */
} TableEntry;

/* Which table an index belongs to that is kept. */
typedef struct IndexEntry
{
	Oid			relid;			/* hash key */
	Oid			table;
} IndexEntry;

/*
 * What is kept of segments adds up in a session that lives through many of them:
 * above this what is not in use goes.
 */
#define MOST_BYTES		((Size) 8 * 1024 * 1024)

static HTAB *tables = NULL;
static HTAB *indexes = NULL;
static EsTableInfo *used = NULL;	/* in this transaction */

/*
 * Marks what is kept of a table, or of all, as stale.  Where an index that is made
 * CONCURRENTLY has come to be fed, that is told of the index; of its table
 * only what comes before, which may be looked at too early.
 */
static void
mark_table_stale(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	TableEntry *entry;

	if (OidIsValid(relid))
	{
		IndexEntry *index = hash_search(indexes, &relid, HASH_FIND, NULL);

		if (index)
			relid = index->table;
		entry = hash_search(tables, &relid, HASH_FIND, NULL);
		if (entry)
			entry->stale = true;
		return;
	}
	hash_seq_init(&scan, tables);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->stale = true;
}

/* Notes that a table is used in this transaction. */
static inline void
note_table_use(EsTableInfo *info)
{
	if (info->used)
		return;
	info->used = true;
	info->next = used;
	used = info;
}

/* Leaves alone from now on what an error has left in the middle of something. */
static void
forget_interrupted_tables(void)
{
	for (EsTableInfo *info = used; info; info = info->next)
		if (info->filling || !TTS_EMPTY(info->scan_slot) || !TTS_EMPTY(info->old_slot))
		{
			TableEntry *entry = hash_search(tables, &info->relid, HASH_FIND, NULL);

			if (entry && entry->info == info)
				entry->stale = true;
		}
}

/* Follows the end of subtransactions. */
static void
forget_tables_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_interrupted_tables();
}

/* Follows the end of transactions. */
static void
end_use_at_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			forget_interrupted_tables();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	for (EsTableInfo *info = used; info; info = info->next)
		info->used = false;
	used = NULL;
}

/* Makes the table of what is kept; called once, from _PG_init. */
void
es_kept_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(TableEntry);
	tables = hash_create("eventstore tables", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	ctl.entrysize = sizeof(IndexEntry);
	indexes = hash_create("eventstore indexes", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	es_base_on_relation_change(mark_table_stale);
	RegisterXactCallback(end_use_at_xact_end, NULL);
	RegisterSubXactCallback(forget_tables_at_subxact_end, NULL);
}

/* Recognises a comparison of a column with a constant that is a plain predicate. */
static EsPlainPredicate
read_plain_comparison(const OpExpr *comparison)
{
	EsPlainPredicate plain = {ES_TEST_NONE};
	const Node *left = linitial(comparison->args);
	const Const *right = lsecond(comparison->args);

	if (!IsA(left, Var) || !IsA(right, Const) || right->constisnull)
		return plain;
	if (comparison->opno == INT4_GT_OPERATOR && DatumGetInt32(right->constvalue) == 0)
		plain.test = ES_TEST_POSITIVE;
	else if (comparison->opno == TextEqualOperator && comparison->inputcollid == C_COLLATION_OID)
	{
		plain.test = ES_TEST_TEXT;
		plain.wanted = DatumGetTextPP(right->constvalue);
	}
	plain.column = ((const Var *) left)->varattno;
	return plain;
}

/* Recognises a plain predicate of an index, which is implied by tags. */
static EsPlainPredicate
read_plain_predicate(Relation index, const IndexInfo *info)
{
	EsPlainPredicate plain = {ES_TEST_NONE};
	const Node *clause;

	if (info->ii_Predicate == NIL && es_tagindex_is(index))
	{
		plain.test = ES_TEST_TAGS;
		plain.column = info->ii_IndexAttrNumbers[0];
	}
	if (list_length(info->ii_Predicate) != 1)
		return plain;
	clause = linitial(info->ii_Predicate);
	if (IsA(clause, Var))
	{
		plain.test = ES_TEST_TRUE;
		plain.column = ((const Var *) clause)->varattno;
	}
	else if (IsA(clause, OpExpr) && list_length(((const OpExpr *) clause)->args) == 2)
		plain = read_plain_comparison((const OpExpr *) clause);
	return plain;
}

/*
 * Describes an index, for which the server calls functions in its expressions that take no
 * column.  These need a snapshot, and a worker may have none.
 */
static IndexInfo *
build_index_info(Relation index)
{
	bool		pushed = !ActiveSnapshotSet() && es_owner_in_worker();
	EsOwnerContext caller;
	IndexInfo  *info;

	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	es_owner_shield(&caller);
	info = BuildIndexInfo(index);
	es_owner_unshield(&caller);
	if (pushed)
		PopActiveSnapshot();
	return info;
}

/*
 * es_kept_is_of_text tells whether an index has the rows whose column is a certain text,
 * and no others.
 */
bool
es_kept_is_of_text(Relation index, AttrNumber column, const text *wanted)
{
	EsPlainPredicate predicate = read_plain_predicate(index, build_index_info(index));

	return predicate.test == ES_TEST_TEXT && predicate.column == column && es_names_same(predicate.wanted, wanted);
}

/*
 * Tells whether an index is one that takes keys of plain columns, and needs nothing
 * else looked at.
 */
static bool
is_plain_index(Relation index, const IndexInfo *info, const EsPlainPredicate *predicate)
{
	return (index->rd_rel->relam == BTREE_AM_OID || es_tagindex_is(index)) && index->rd_index->indimmediate &&
		info->ii_Expressions == NIL && info->ii_ExclusionOps == NULL &&
		(info->ii_Predicate == NIL || predicate->test != ES_TEST_NONE);
}

/* Tells what need not go through the server's index_insert into an index. */
static EsBtreeKind
kind_of_index(Relation rel, Relation index)
{
	if (es_tagindex_is(index))
		return es_tagindex_takes_leaves(index) ? ES_BTREE_TAGS : ES_BTREE_OTHER;
	return es_btree_kind(rel, index);
}

/* Makes a slot that is kept, for rows as they are stored. */
static TupleTableSlot *
make_kept_slot(Relation rel)
{
	return MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)), table_slot_callbacks(rel));
}

/*
 * Fills in what is kept of a table; its context is current.  Raises 55000 if the
 * table is not as it should be.
 */
static void
describe_table(EsTableInfo *info, Relation rel, const EsShape *shape)
{
	List	   *oids = RelationGetIndexList(rel);
	int			n = list_length(oids);

	es_columns_check(rel, shape->columns, shape->ncolumns);
	info->relid = RelationGetRelid(rel);
	info->shape = shape;
	info->nindexes = n;
	info->index_oids = palloc(sizeof(Oid) * Max(n, 1));
	info->index_infos = palloc(sizeof(IndexInfo *) * Max(n, 1));
	info->predicates = palloc(sizeof(EsPlainPredicate) * Max(n, 1));
	info->kinds = palloc(sizeof(EsBtreeKind) * Max(n, 1));
	info->leaves = palloc0(sizeof(EsLeafMemory *) * Max(n, 1));
	info->plain = !es_altered_is(rel, shape->ncolumns);
	for (int i = 0; i < n; i++)
	{
		Relation	index = index_open(list_nth_oid(oids, i), AccessShareLock);
		IndexInfo  *index_info = build_index_info(index);
		Oid			relid = RelationGetRelid(index);
		IndexEntry *entry = hash_search(indexes, &relid, HASH_ENTER, NULL);

		entry->table = RelationGetRelid(rel);
		info->index_oids[i] = relid;
		info->index_infos[i] = index_info;
		info->predicates[i] = read_plain_predicate(index, index_info);
		info->kinds[i] = kind_of_index(rel, index);
		info->plain = info->plain && is_plain_index(index, index_info, &info->predicates[i]);
		index_close(index, AccessShareLock);
	}
	info->scan_slot = make_kept_slot(rel);
	info->old_slot = make_kept_slot(rel);
}

/* Makes what is to be kept of a table, in a context of its own. */
static EsTableInfo *
make_table_info(Relation rel, const EsShape *shape)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "eventstore table",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EsTableInfo *info = palloc0(sizeof(EsTableInfo));

	info->context = context;
	describe_table(info, rel, shape);
	MemoryContextSwitchTo(old);
	return info;
}

/* How much is kept. */
static Size
count_kept_bytes(void)
{
	HASH_SEQ_STATUS scan;
	TableEntry *entry;
	Size		bytes = 0;

	hash_seq_init(&scan, tables);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->info)
			bytes += MemoryContextMemAllocated(entry->info->context, true);
	return bytes;
}

/* Gives up what is kept of tables that this transaction does not use. */
static void
give_up_unused_tables(void)
{
	HASH_SEQ_STATUS scan;
	TableEntry *entry;

	hash_seq_init(&scan, tables);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->info == NULL || entry->info->used)
			continue;
		for (int i = 0; i < entry->info->nindexes; i++)
			(void) hash_search(indexes, &entry->info->index_oids[i], HASH_REMOVE, NULL);
		MemoryContextDelete(entry->info->context);
		(void) hash_search(tables, &entry->relid, HASH_REMOVE, NULL);
	}
}

/*
 * es_kept_get finds, or makes, what is kept of a table that is open and locked;
 * 55000 if the table does not have the columns that it should have.  The look at
 * the indexes may take in invalidations, which make it stale at once.
 */
EsTableInfo *
es_kept_get(Relation rel, const EsShape *shape)
{
	Oid			relid = RelationGetRelid(rel);
	bool		found;
	TableEntry *entry = hash_search(tables, &relid, HASH_FIND, NULL);
	EsTableInfo *info;

	if (likely(entry && entry->info && !entry->stale))
	{
		note_table_use(entry->info);
		return entry->info;
	}
	if (count_kept_bytes() > MOST_BYTES)
		give_up_unused_tables();
	entry = hash_search(tables, &relid, HASH_ENTER, &found);
	if (!found)
		entry->info = NULL;
	if (entry->info)
		MemoryContextSetParent(entry->info->context, TopTransactionContext);
	entry->info = NULL;
	for (;;)
	{
		entry->stale = false;
		info = make_table_info(rel, shape);
		if (!entry->stale)
			break;
		MemoryContextDelete(info->context);
	}
	MemoryContextSetParent(info->context, TopMemoryContext);
	note_table_use(info);
	return entry->info = info;
}
