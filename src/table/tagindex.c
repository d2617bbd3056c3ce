/*
 * tagindex.c
 *		The access method of indexes by tag: an entry for each tag of an event.
 *
 * An index on (metadata, position) that is made USING eventstore_tags is a btree of
 * the server's over (key of a tag, position), with an entry for each tag that is in
 * the metadata of a row, and none for a row without tags.  All that reads, vacuums,
 * logs, replays and locks its pages is the server's code for btrees; here is only what
 * turns a row into entries, on insertion and when the index is built.  So replay, on
 * standbys too, needs no library; and subscribers, COPY, restores and REINDEX keep
 * the index as any other.
 *
 * An entry says what its row says, for ever, as events do not change; that a row
 * counts is known from the row.
 *
 * The planner never uses it: no operator belongs to it.
 */
#include "table/tagindex.h"

#include "access/amapi.h"
#include "access/nbtree.h"
#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "json/tags.h"

PG_FUNCTION_INFO_V1(es_tagindex_handler);

/* Columns of the index. */
#define COLUMN_TAG		0		/* metadata, in a row; the key of a tag, in an
								 * entry */
#define COLUMN_POSITION	1
#define COLUMNS			2

#define MIN_BUILD_BYTES	((Size) 64 * 1024)	/* of entries that a build gathers */

/* A build of an index on its way. */
typedef struct TagBuild
{
	Relation	heap;
	Relation	index;
	IndexInfo  *info;
	EsBtreeEntry *entries;
	int64		count;
	int64		most;			/* entries that memory is there for */
	double		inserted;
	MemoryContext row;			/* for what a row takes */
} TagBuild;

/* ---- inserting ---- */

/* Puts one entry on its leaf, if leaves are remembered, or has the server insert it. */
static inline void
put_tag_entry(const EsBtree *btree, EsBtreeEntry *entry, bool unchanged)
{
	Datum		values[COLUMNS] = {Int64GetDatum(entry->keys[COLUMN_TAG]), Int64GetDatum(entry->keys[COLUMN_POSITION])};
	bool		isnull[COLUMNS] = {false, false};

	if (btree->leaves == NULL || !es_leaf_insert(btree, entry))
		(void) btinsert(btree->index, values, isnull, &entry->tid, btree->heap, UNIQUE_CHECK_NO, unchanged, btree->info);
}

/* Inserts one entry. */
static inline void
insert_tag_entry(const EsBtree *btree, EsBtreeEntry *entry, bool unchanged)
{
#ifdef USE_ASSERT_CHECKING
	/* the server asserts that what has a btree's options is one by name */
	Relation	index = btree->index;
	Oid			method = index->rd_rel->relam;

	index->rd_rel->relam = BTREE_AM_OID;
	PG_TRY();
#endif
	{
		put_tag_entry(btree, entry, unchanged);
	}
#ifdef USE_ASSERT_CHECKING
	PG_FINALLY();
	{
		index->rd_rel->relam = method;
	}
	PG_END_TRY();
#endif
}

/* Inserts the entries of a row. */
static void
insert_row_tags(const EsBtree *btree, Datum metadata, EsBtreeEntry *entry, bool unchanged)
{
	EsTagKeys	keys;

	es_tags_keys(metadata, &keys);
	for (int i = 0; i < keys.count; i++)
	{
		entry->keys[COLUMN_TAG] = keys.keys[i];
		insert_tag_entry(btree, entry, unchanged);
	}
	if (keys.keys != keys.few)
		pfree(keys.keys);
}

/* Inserts the entries of a row: what the server calls. */
static bool
insert_into_tag_index_hook(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
						   IndexUniqueCheck check, bool unchanged, IndexInfo *info)
{
	EsBtree		btree = {.index = index,.heap = heap,.info = info};
	EsBtreeEntry entry = {.tid = *tid};

	if (isnull[COLUMN_TAG] || isnull[COLUMN_POSITION])
		return false;
	entry.keys[COLUMN_POSITION] = DatumGetInt64(values[COLUMN_POSITION]);
	insert_row_tags(&btree, values[COLUMN_TAG], &entry, unchanged);
	return false;
}

/*
 * es_tagindex_insert inserts the entries of a new row into an index that es_tagindex_takes_leaves,
 * on leaves that are remembered by tag.
 */
void
es_tagindex_insert(const EsBtree *btree, Datum metadata, int64 position, const ItemPointerData *tid)
{
	EsBtreeEntry entry = {.keys = {0, position},.tid = *tid};

	insert_row_tags(btree, metadata, &entry, false);
}

/* ---- building ---- */

/* Makes the first page of an index that is empty. */
static void
make_first_page(Relation index)
{
	Buffer		buffer = ReadBuffer(index, P_NEW);

	if (BufferGetBlockNumber(buffer) != BTREE_METAPAGE)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	START_CRIT_SECTION();
	_bt_initmetapage(BufferGetPage(buffer), P_NONE, 0, false);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(index))
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);
}

/* Orders entries as the index does, for sorting. */
static int
compare_tag_entries(const void *a, const void *b)
{
	const EsBtreeEntry *x = a;
	const EsBtreeEntry *y = b;

	for (int i = 0; i < COLUMNS; i++)
		if (x->keys[i] != y->keys[i])
			return x->keys[i] < y->keys[i] ? -1 : 1;
	return 0;
}

/* Inserts the entries that have been gathered. */
static void
insert_gathered_entries(TagBuild *build)
{
	EsBtree		btree = {.index = build->index,.heap = build->heap,.info = build->info};

	qsort(build->entries, build->count, sizeof(EsBtreeEntry), compare_tag_entries);
	for (int64 i = 0; i < build->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		insert_tag_entry(&btree, &build->entries[i], false);
	}
	build->inserted += build->count;
	build->count = 0;
}

/* Gathers the entries of a row. */
static void
gather_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	TagBuild   *build = arg;
	MemoryContext old;
	EsTagKeys	keys;

	if (isnull[COLUMN_TAG] || isnull[COLUMN_POSITION])
		return;
	MemoryContextReset(build->row);
	old = MemoryContextSwitchTo(build->row);
	es_tags_keys(values[COLUMN_TAG], &keys);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < keys.count; i++)
	{
		EsBtreeEntry *entry;

		if (build->count == build->most)
			insert_gathered_entries(build);
		entry = &build->entries[build->count++];
		entry->keys[COLUMN_TAG] = keys.keys[i];
		entry->keys[COLUMN_POSITION] = DatumGetInt64(values[COLUMN_POSITION]);
		entry->tid = *tid;
	}
}

/*
 * Builds an index.  Entries are gathered and sorted as far as maintenance_work_mem goes
 * and inserted one by one, as the server's own way to build a btree is for its own
 * access method only.
 */
static IndexBuildResult *
build_tag_index(Relation heap, Relation index, IndexInfo *info)
{
	TagBuild	build = {.heap = heap,.index = index,.info = info};
	IndexBuildResult *result = palloc0(sizeof(IndexBuildResult));

	build.most = Max((Size) maintenance_work_mem * 1024, MIN_BUILD_BYTES) / sizeof(EsBtreeEntry);
	build.entries = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsBtreeEntry) * build.most);
	build.row = AllocSetContextCreate(CurrentMemoryContext, "eventstore tags of a row", ALLOCSET_SMALL_SIZES);
	make_first_page(index);
	result->heap_tuples = table_index_build_scan(heap, index, info, true, true, gather_row, &build, NULL);
	insert_gathered_entries(&build);
	result->index_tuples = build.inserted;
	MemoryContextDelete(build.row);
	pfree(build.entries);
	return result;
}

/* ---- the access method ---- */

/* There is nothing about a class of operators to be checked: it has none. */
static bool
accept_tag_operators(Oid opclass)
{
	return true;
}

/* es_tagindex_is tells whether an index is one by tag. */
bool
es_tagindex_is(Relation index)
{
	return index->rd_indam->aminsert == insert_into_tag_index_hook;
}

/*
 * es_tagindex_takes_leaves tells whether entries may be put on leaves of an index by tag.  One
 * that is being built concurrently has no pages at first.
 */
bool
es_tagindex_takes_leaves(Relation index)
{
	bool		heapkeyspace;
	bool		allequalimage;

	if (!index->rd_index->indisready || index->rd_index->indnatts != COLUMNS ||
		TupleDescAttr(RelationGetDescr(index), COLUMN_TAG)->atttypid != INT8OID ||
		TupleDescAttr(RelationGetDescr(index), COLUMN_POSITION)->atttypid != INT8OID)
		return false;
	_bt_metaversion(index, &heapkeyspace, &allequalimage);
	return heapkeyspace;
}

/* Behind CREATE ACCESS METHOD eventstore_tags: the server's btree, but for what is said above. */
Datum
es_tagindex_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = es_btree_routine();

	am->amcanorder = false;
	am->amcanunique = false;
	am->amoptionalkey = false;
	am->amsearcharray = false;
	am->amsearchnulls = false;
	am->amstorage = true;
	am->amclusterable = false;
	am->amcanparallel = false;
	am->amcaninclude = false;
	es_index_am_builds_alone(am);
	am->ambuild = build_tag_index;
	am->aminsert = insert_into_tag_index_hook;
	am->amcanreturn = NULL;
	am->amproperty = NULL;
	am->amvalidate = accept_tag_operators;
	am->amadjustmembers = NULL;
	am->amgetbitmap = NULL;
	PG_RETURN_POINTER(am);
}
