/*
 * streams.c
 *		The streams of a category.
 *
 * They are found by the index over category_key and stream_id, in order of id, so
 * that ranges of ids can be shared out among processes.  Categories may share a
 * key: names are compared.  What is deleted is left out.  The table stays locked
 * to the end of the transaction.
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
#include "table/rows.h"
#include "table/table.h"

struct EsCategoryScan
{
	const text *category;
	Relation	streams;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	EsStream	stream;
};

static EsRelation streams_by_category = {"streams_by_category",
.index = {.keys = {Anum_es_streams_category_key, Anum_es_streams_stream_id},.columns = "category_key, stream_id"}};

/* Makes the keys of the streams with ids from a first to a last of a category. */
static void
rescan_category(EsCategoryScan *scan, int64 first, int64 last)
{
	const text *category = scan->category;
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(es_names_category_key(VARDATA_ANY(category), VARSIZE_ANY_EXHDR(category))));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	index_rescan(scan->scan, keys, lengthof(keys), NULL, 0);
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
	scan->slot = table_slot_create(scan->streams, NULL);
	scan->scan = es_index_beginscan(scan->streams, scan->index, snapshot, 3);
	rescan_category(scan, 1, PG_INT64_MAX);
	return scan;
}

/* es_streams_range goes to the streams with ids from a first to a last. */
void
es_streams_range(EsCategoryScan *scan, int64 first, int64 last)
{
	rescan_category(scan, first, last);
}

/* es_streams_last gives the last id in the category; 0 if it has none. */
int64
es_streams_last(EsCategoryScan *scan)
{
	int64		last = 0;

	rescan_category(scan, 1, PG_INT64_MAX);
	if (index_getnext_slot(scan->scan, BackwardScanDirection, scan->slot))
	{
		es_stream_deform(scan->slot, &scan->stream);
		last = scan->stream.id;
	}
	return last;
}

/* Tells whether a stream is of the category: others may share its key. */
static bool
is_of_category(const EsCategoryScan *scan, const text *name)
{
	int			len = VARSIZE_ANY_EXHDR(scan->category);

	return es_names_category_length(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == len &&
		memcmp(VARDATA_ANY(name), VARDATA_ANY(scan->category), len) == 0;
}

/*
 * es_streams_next gives the next stream that is not deleted, until the next call;
 * NULL after the last.
 */
const EsStream *
es_streams_next(EsCategoryScan *scan)
{
	while (index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
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
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, NoLock);
	table_close(scan->streams, NoLock);
	pfree(scan);
}
