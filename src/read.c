/*
 * read.c
 *		Reading one stream.
 *
 * A stream's events are found through the (stream_id, version) index of each
 * segment from the stream's first to its last.  Appenders of a stream exclude
 * each other, so what is committed is gapless, and nothing has to be proven:
 * a fresh snapshot tells the stream as it is, this transaction's own appends
 * included.  Versions rise with the segments, so a read that does not begin at
 * an end of the stream looks for the segment where it begins by halves.
 */
#include "read.h"

#include "access/relscan.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "stream.h"

struct EsStreamScan
{
	EsStream	stream;
	bool		found;
	bool		backwards;
	int64		from_version;	/* first to return */
	int64		segment;		/* being scanned */
	bool		open;			/* scan is */
	Snapshot	snapshot;
	EsSegmentScan scan;
};

PG_FUNCTION_INFO_V1(es_read);

/* The stream's first version in a segment; 0 if it has none there. */
static int64
first_version_in(const EsStreamScan *scan, int64 segment)
{
	EsSegmentScan probe = {.which = ES_INDEX_STREAM,.snapshot = scan->snapshot,.own_slot = true,.nkeys = 1};
	bool		isnull;

	ScanKeyInit(&probe.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(scan->stream.id));
	return DatumGetInt64(es_segment_scan_edge(&probe, segment, ForwardScanDirection, Anum_es_events_version, &isnull));
}

/*
 * Finds the last segment in which the stream has a version up to from_version;
 * its first segment if there is none.  Segments without events of the stream
 * are each asked once at most.
 */
static int64
find_segment(const EsStreamScan *scan)
{
	int64		found = scan->stream.first_segment;
	int64		low = found + 1;
	int64		high = scan->stream.last_segment;

	while (low <= high)
	{
		int64		middle = low + (high - low) / 2;
		int64		segment;
		int64		version = 0;

		CHECK_FOR_INTERRUPTS();
		for (segment = middle; segment >= low; segment--)
			if ((version = first_version_in(scan, segment)) != 0)
				break;
		if (version > scan->from_version)
			high = segment - 1;
		else
		{
			if (version != 0)
				found = segment;
			low = middle + 1;
		}
	}
	return found;
}

/* es_read_stream_begin starts a scan of a stream; see read.h. */
EsStreamScan *
es_read_stream_begin(const EsStreamScanOptions *options)
{
	EsStreamScan *scan = palloc0(sizeof(EsStreamScan));
	EsStream   *stream = &scan->stream;

	scan->snapshot = es_segment_fresh_snapshot();
	es_settle_note_snapshot(scan->snapshot);
	scan->found = options->stream_id != 0 ?
		es_stream_find_by_id(options->stream_id, scan->snapshot, stream) :
		es_stream_find(options->stream, scan->snapshot, stream);
	scan->found = scan->found && !stream->deleted;
	if (!scan->found)
		return scan;
	scan->backwards = options->backwards;
	scan->scan.gives_out = options->gives_out;
	if (scan->backwards)
		scan->from_version = options->from_version == 0 ? PG_INT64_MAX : options->from_version;
	else
		scan->from_version = Max(options->from_version, stream->truncated_before);
	if (scan->from_version <= 1)
		scan->segment = stream->first_segment;
	else if (scan->from_version == PG_INT64_MAX)
		scan->segment = stream->last_segment;
	else
		scan->segment = find_segment(scan);
	return scan;
}

/* Opens the scan of the current segment; false if the segment is missing. */
static bool
open_segment(EsStreamScan *scan)
{
	EsSegmentScan *s = &scan->scan;

	s->which = ES_INDEX_STREAM;
	s->snapshot = scan->snapshot;
	s->own_slot = true;
	s->nkeys = 0;
	ScanKeyInit(&s->keys[s->nkeys++], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(scan->stream.id));
	if (!scan->backwards)
		ScanKeyInit(&s->keys[s->nkeys++], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
					Int64GetDatum(scan->from_version));
	else
	{
		ScanKeyInit(&s->keys[s->nkeys++], 2, BTLessEqualStrategyNumber, F_INT8LE,
					Int64GetDatum(scan->from_version));
		ScanKeyInit(&s->keys[s->nkeys++], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
					Int64GetDatum(scan->stream.truncated_before));
	}
	return es_segment_scan_begin(s, scan->segment);
}

/* Goes to the next segment that may have events of the stream; false after the last. */
static bool
next_segment(EsStreamScan *scan)
{
	const EsStream *stream = &scan->stream;

	if (scan->open)
	{
		es_segment_scan_end(&scan->scan);
		scan->open = false;
		scan->segment += scan->backwards ? -1 : 1;
	}
	while (scan->segment >= stream->first_segment && scan->segment <= stream->last_segment)
	{
		if (open_segment(scan))
			return scan->open = true;
		scan->segment += scan->backwards ? -1 : 1;
	}
	return false;
}

/* es_read_stream_next reads the next event; its varlenas live until the next call. */
bool
es_read_stream_next(EsStreamScan *scan, EsEvent *event)
{
	ScanDirection direction = scan->backwards ? BackwardScanDirection : ForwardScanDirection;

	if (!scan->found)
		return false;
	while (scan->open || next_segment(scan))
	{
		if (index_getnext_slot(scan->scan.scan, direction, scan->scan.slot))
		{
			es_settle_note_row(scan->scan.slot);
			es_segment_scan_event(&scan->scan, event);
			return true;
		}
		if (!next_segment(scan))
			scan->found = false;
	}
	return false;
}

/* es_read_stream_end closes the scan, and makes durable what it returned. */
void
es_read_stream_end(EsStreamScan *scan)
{
	if (scan->open)
		es_segment_scan_end(&scan->scan);
	UnregisterSnapshot(scan->snapshot);
	es_settle_flush_noted();
	pfree(scan);
}

/* es_read_category_streams calls back for each stream of a category; see read.h. */
void
es_read_category_streams(const text *category, EsStreamCallback callback, void *arg)
{
	const EsStore *store = es_base_store();
	int			len = VARSIZE_ANY_EXHDR(category);
	Snapshot	snapshot = es_segment_fresh_snapshot();
	Relation	rel = table_open(store->streams, AccessShareLock);
	Relation	index = index_open(store->streams_by_category, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(es_base_category_key(VARDATA_ANY(category), len)));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		EsStream	stream;
		text	   *name;

		CHECK_FOR_INTERRUPTS();
		es_stream_deform(slot, &stream);
		name = DatumGetTextPP(slot->tts_values[Anum_es_streams_name - 1]);
		if (!stream.deleted &&
			es_base_category_length(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == len &&
			memcmp(VARDATA_ANY(name), VARDATA_ANY(category), len) == 0)
			callback(name, stream.id, arg);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	UnregisterSnapshot(snapshot);
}

/*
 * es_read(stream, from_version, max_count, backwards): events of one stream.
 *
 * In order of version, from from_version on (NULL: from the first), or
 * backwards from it (NULL: the last).  A missing or deleted stream gives no
 * rows.  NULL stream is 22004, a negative max_count 22023.
 */
Datum
es_read(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EsStreamScanOptions options = {0};
	int64		left;
	EsStreamScan *scan;
	EsEvent		event;

	options.stream = es_base_stream_arg(fcinfo, 0);
	left = es_base_limit_arg(fcinfo, 2, "max_count");
	es_base_require(fcinfo, 3, "backwards");
	options.backwards = PG_GETARG_BOOL(3);
	options.gives_out = true;
	if (!PG_ARGISNULL(1))
	{
		options.from_version = PG_GETARG_INT64(1);
		if (options.from_version < 1)
		{
			/* there is nothing before version 1 */
			if (options.backwards)
				left = 0;
			options.from_version = 1;
		}
	}
	(void) es_base_begin_rows(fcinfo);
	scan = es_read_stream_begin(&options);
	while (left-- > 0 && es_read_stream_next(scan, &event))
	{
		Datum		values[Natts_es_event];
		bool		isnull[Natts_es_event];

		CHECK_FOR_INTERRUPTS();
		es_base_event_values(&event, values, isnull);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	es_read_stream_end(scan);
	return (Datum) 0;
}
