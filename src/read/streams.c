/*
 * streams.c
 *		The streams of a category.
 *
 * They are found by the index over category_key and stream_id, in order of id, so
 * that ranges of ids can be shared out among processes.  Categories may share a
 * key: names are compared.  What is deleted is left out.  The table stays locked
 * to the end of the transaction.
 *
 * Streams that were made one after the other have their rows on the same pages, so those on a page
 * are looked at together (table/walk.c).
 */
#include "read/streams.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/relcache.h"

#include "base/names.h"
#include "base/objects.h"
#include "log/subscriber.h"
#include "table/pages.h"
#include "table/rows.h"
#include "table/table.h"
#include "table/walk.h"

#define ROW_BYTES	128			/* of a stream's row, mostly */
#define NKEYS		3

struct EsCategoryScan
{
	const text *category;
	Relation	streams;
	Relation	index;
	Snapshot	snapshot;
	EsPages    *pages;			/* of a walk, or NULL */
	EsWalk	   *walk;			/* NULL: the server's scan does it: */
	IndexScanDesc scan;
	TupleTableSlot *slot;
	EsStream	stream;
};

static EsRelation streams_by_category = {"streams_by_category",
.index = {.keys = {Anum_es_streams_category_key, Anum_es_streams_stream_id},.columns = "category_key, stream_id"}};

/* Makes the keys of the streams with ids from a first to a last of a category. */
static void
make_category_keys(const text *category, int64 first, int64 last, ScanKeyData *keys)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(es_names_category_key(VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category))));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
}

/* Begins a scan of the server's by keys. */
static IndexScanDesc
begin_server_scan(const EsCategoryScan *scan, ScanKeyData *keys)
{
	IndexScanDesc entries = es_index_beginscan(scan->streams, scan->index, scan->snapshot, NKEYS);

	index_rescan(entries, keys, NKEYS, NULL, 0);
	return entries;
}

/* Begins to go from stream to stream. */
static void
begin_stream_rows(EsCategoryScan *scan)
{
	ScanKeyData keys[NKEYS];

	make_category_keys(scan->category, 1, PG_INT64_MAX, keys);
	if (es_pages_serve(scan->streams, scan->snapshot))
	{
		scan->pages = es_pages_begin(scan->snapshot, false, ROW_BYTES);
		scan->walk = es_walk_begin(scan->streams, scan->index, scan->pages, scan->snapshot, keys, NKEYS);
	}
	if (scan->walk != NULL)
	{
		scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(scan->streams), &TTSOpsHeapTuple);
		return;
	}
	scan->slot = table_slot_create(scan->streams, NULL);
	scan->scan = begin_server_scan(scan, keys);
}

/* es_streams_begin starts a scan of the streams of a category; see streams.h. */
EsCategoryScan *
es_streams_begin(const text *category, Snapshot snapshot)
{
	EsCategoryScan *scan = palloc0(sizeof(EsCategoryScan));

	es_subscriber_refuse_part();
	scan->category = category;
	scan->streams = es_base_open(&es_base_streams, AccessShareLock);
	scan->index = es_base_open_index(&streams_by_category, scan->streams, AccessShareLock);
	es_table_check(scan->streams, &es_stream_shape);
	es_rows_require_sight(scan->streams, snapshot);
	scan->snapshot = snapshot;
	begin_stream_rows(scan);
	return scan;
}

/* es_streams_range goes to the streams with ids from a first to a last. */
void
es_streams_range(EsCategoryScan *scan, int64 first, int64 last)
{
	ScanKeyData keys[NKEYS];

	make_category_keys(scan->category, first, last, keys);
	if (scan->walk != NULL)
		es_walk_restart(scan->walk, keys, NKEYS);
	else
		index_rescan(scan->scan, keys, NKEYS, NULL, 0);
}

/* es_streams_last gives the last id in the category; 0 if it has none. */
int64
es_streams_last(EsCategoryScan *scan)
{
	TupleTableSlot *slot = table_slot_create(scan->streams, NULL);
	ScanKeyData keys[NKEYS];
	IndexScanDesc entries;
	EsStream	stream = {0};

	make_category_keys(scan->category, 1, PG_INT64_MAX, keys);
	entries = begin_server_scan(scan, keys);
	if (index_getnext_slot(entries, BackwardScanDirection, slot))
		es_stream_deform(slot, &stream);
	index_endscan(entries);
	ExecDropSingleTupleTableSlot(slot);
	return stream.id;
}

/* Tells whether a stream is of the category: others may share its key. */
static bool
is_of_category(const EsCategoryScan *scan, const text *name)
{
	int			len = VARSIZE_ANY_EXHDR(scan->category);

	return es_names_category_length(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == len &&
		memcmp(VARDATA_ANY(name), VARDATA_ANY(scan->category), len) == 0;
}

/* Goes to the next row; false after the last. */
static bool
move_to_stream_row(EsCategoryScan *scan)
{
	HeapTuple	row;

	if (scan->walk == NULL)
		return index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot);
	row = es_walk_next(scan->walk);
	if (row == NULL)
		return false;
	ExecStoreHeapTuple(row, scan->slot, false);
	return true;
}

/*
 * es_streams_next gives the next stream that is not deleted, until the next call;
 * NULL after the last.
 */
const EsStream *
es_streams_next(EsCategoryScan *scan)
{
	while (move_to_stream_row(scan))
	{
		CHECK_FOR_INTERRUPTS();
		es_stream_deform(scan->slot, &scan->stream);
		scan->stream.name = DatumGetTextPP(scan->slot->tts_values[Anum_es_streams_name - 1]);
		if (!scan->stream.deleted && is_of_category(scan, scan->stream.name))
			return &scan->stream;
	}
	return NULL;
}

/* es_streams_end closes the scan. */
void
es_streams_end(EsCategoryScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->walk != NULL)
		pfree(scan->walk);
	else
		index_endscan(scan->scan);
	if (scan->pages != NULL)
	{
		es_pages_forget(scan->pages, scan->streams);
		es_pages_end(scan->pages);
	}
	index_close(scan->index, NoLock);
	table_close(scan->streams, NoLock);
	pfree(scan);
}
