/*
 * filing.c
 *		Whether an event is filed where readers of its stream and its category find it.
 *
 * A leaf has an event's stream by name.  Readers find events by other columns, which follow from
 * it and have no leaf: the stream's id, the category's key, and how long a run is that an event
 * begins (read/cursor.c).  Who changes one of these takes the event out of its stream, or out of
 * its category, and leaves it in the log.
 *
 * Events come in order of position.  Streams are remembered, so that most need no look-up.  An
 * event that is not the first of a run is within the run of the one before; if it seems not to be,
 * or that one is not known, what begins the run is looked up as readers do.
 */
#include "evidence/filing.h"

#include "access/sdir.h"
#include "access/stratnum.h"
#include "common/hashfn.h"
#include "utils/fmgroids.h"

#include "base/names.h"
#include "log/scan.h"
#include "log/segment.h"
#include "stream/stream.h"

/* es_filing_begin prepares, in the current memory context. */
EsFiling *
es_filing_begin(void)
{
	EsFiling   *filing = palloc0(sizeof(EsFiling));

	/* whoever makes names that hash alike does not know it */
	if (!pg_strong_random(&filing->seed, sizeof(filing->seed)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate random values"));
	return filing;
}

/* es_filing_begin_segment says that events of a segment come next. */
void
es_filing_begin_segment(EsFiling *filing, int64 segment)
{
	filing->segment = segment;
	filing->run_end = 0;
}

/* Tells whether an event's stream has the id that the event has. */
static bool
has_id_of_stream(EsFiling *filing, const EsEvent *event, Snapshot *snapshot)
{
	const text *name = DatumGetTextPP(event->stream);
	uint64		hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), filing->seed) | 1;
	int			place = (uint64) event->stream_id % ES_FILING_STREAMS;
	EsStream	stream;

	if (filing->streams[place].id == event->stream_id && filing->streams[place].hash == hash)
		return true;
	if (!es_stream_find(name, snapshot, false, &stream) || stream.id != event->stream_id)
		return false;
	filing->streams[place].id = event->stream_id;
	filing->streams[place].hash = hash;
	return true;
}

/* Tells whether an event has the key of its category. */
static bool
has_key_of_category(const EsEvent *event)
{
	const text *name = DatumGetTextPP(event->stream);
	int			len = es_names_category_length(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));

	return event->category_key == es_names_category_key(VARDATA_ANY(name), len);
}

/* Finds the last run of a category that begins before a position. */
static void
find_run_before(EsFiling *filing, int32 key, int64 position, Snapshot *snapshot)
{
	EsSegmentScan scan = {.which = ES_INDEX_CATEGORY,.fresh = snapshot,.needed = true,.own_slot = true,
	.backwards = true,.nkeys = 2};

	filing->run_key = key;
	filing->run_end = 0;
	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(key));
	ScanKeyInit(&scan.keys[1], 2, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(position));
	if (!es_scan_begin(&scan, filing->segment))
		return;
	if (index_getnext_slot(scan.scan, BackwardScanDirection, scan.slot))
	{
		EsEvent		first;

		es_scan_event(&scan, &first);
		filing->run_end = first.position + first.run_length - 1;
	}
	es_scan_end(&scan);
}

/* Tells whether an event begins a run, or is within one. */
static bool
is_in_run(EsFiling *filing, const EsEvent *event, Snapshot *snapshot)
{
	if (event->run_length > 0)
	{
		filing->run_key = event->category_key;
		filing->run_end = event->position + event->run_length - 1;
		return true;
	}
	if (filing->run_key != event->category_key || filing->run_end < event->position)
		find_run_before(filing, event->category_key, event->position, snapshot);
	return filing->run_end >= event->position;
}

/*
 * es_filing_is_right tells whether an event that is there, the next one, is found by who reads its
 * stream and its category.
 */
bool
es_filing_is_right(EsFiling *filing, const EsEvent *event, Snapshot *snapshot)
{
	bool		in_run = is_in_run(filing, event, snapshot);

	return has_key_of_category(event) && in_run && has_id_of_stream(filing, event, snapshot);
}
