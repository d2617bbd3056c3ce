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

/* An entry that waits to be inserted by a build. */
typedef struct TagEntry
{
	int64		key;
	int64		position;
	ItemPointerData tid;
} TagEntry;

/* A build of an index on its way. */
typedef struct TagBuild
{
	Relation	heap;
	Relation	index;
	IndexInfo  *info;
	TagEntry   *entries;
	int64		count;
	int64		most;			/* entries that memory is there for */
	double		inserted;
	MemoryContext row;			/* for what a row takes */
} TagBuild;

/* ---- inserting ---- */

/* Inserts one entry. */
static inline void
insert_tag_entry(Relation index, Relation heap, IndexInfo *info, TagEntry *entry, bool unchanged)
{
	Datum		values[COLUMNS] = {Int64GetDatum(entry->key), Int64GetDatum(entry->position)};
	bool		isnull[COLUMNS] = {false, false};

#ifdef USE_ASSERT_CHECKING
	/* the server asserts that what has a btree's options is one by name */
	Oid			method = index->rd_rel->relam;

	index->rd_rel->relam = BTREE_AM_OID;
	PG_TRY();
#endif
	{
		(void) btinsert(index, values, isnull, &entry->tid, heap, UNIQUE_CHECK_NO, unchanged, info);
	}
#ifdef USE_ASSERT_CHECKING
	PG_FINALLY();
	{
		index->rd_rel->relam = method;
	}
	PG_END_TRY();
#endif
}

/* Inserts the entries of a row: what the server calls. */
static bool
insert_into_tag_index_hook(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
						   IndexUniqueCheck check, bool unchanged, IndexInfo *info)
{
	EsTagKeys	keys;

	if (isnull[COLUMN_TAG] || isnull[COLUMN_POSITION])
		return false;
	es_tags_keys(values[COLUMN_TAG], &keys);
	for (int i = 0; i < keys.count; i++)
	{
		TagEntry	entry = {keys.keys[i], DatumGetInt64(values[COLUMN_POSITION]), *tid};

		insert_tag_entry(index, heap, info, &entry, unchanged);
	}
	if (keys.keys != keys.few)
		pfree(keys.keys);
	return false;
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
	const TagEntry *x = a;
	const TagEntry *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->position < y->position ? -1 : x->position > y->position;
}

/* Inserts the entries that have been gathered. */
static void
insert_gathered_entries(TagBuild *build)
{
	qsort(build->entries, build->count, sizeof(TagEntry), compare_tag_entries);
	for (int64 i = 0; i < build->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		insert_tag_entry(build->index, build->heap, build->info, &build->entries[i], false);
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
		TagEntry   *entry;

		if (build->count == build->most)
			insert_gathered_entries(build);
		entry = &build->entries[build->count++];
		entry->key = keys.keys[i];
		entry->position = DatumGetInt64(values[COLUMN_POSITION]);
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

	build.most = Max((Size) maintenance_work_mem * 1024, MIN_BUILD_BYTES) / sizeof(TagEntry);
	build.entries = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(TagEntry) * build.most);
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
