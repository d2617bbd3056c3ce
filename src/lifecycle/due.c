/*
 * due.c
 *		How much of a stream a rule on age is to hide.
 *
 * The stream's last event tells how long it is; where events get too old is found by halves.
 * Events are looked for in the segments that are here: one that is away is hidden with what is
 * here, comes after it and is too old.
 */
#include "lifecycle/due.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "base/event.h"
#include "log/scan.h"
#include "log/segment.h"
#include "read/read.h"
#include "table/rows.h"

/* Reads a stream's last event; false if there is none. */
static bool
read_last_event(const text *stream, EsStream *row, EsEvent *event)
{
	EsStreamScanOptions options = {.stream = stream,.backwards = true,.without_metadata = true};
	EsStreamScan *scan = es_read_stream_begin(&options);
	bool		found = es_read_stream_next(scan, event);

	if (found)
		*row = *es_read_stream_of(scan);
	es_read_stream_end(scan);
	return found;
}

/*
 * Finds the first event of a stream from a version on that is here; only what its row has
 * of fixed width.  False if there is none.
 */
static bool
find_event_here(const EsStream *stream, int64 version, EsEvent *event)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	bool		found = false;

	for (int64 n = stream->first_segment; !found && n <= stream->last_segment; n++)
	{
		EsSegmentScan scan = {.which = ES_INDEX_STREAM,.fresh = &snapshot,.own_slot = true,.nkeys = 2};

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
		ScanKeyInit(&scan.keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(version));
		if (!es_scan_begin(&scan, n))
			continue;
		found = index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot);
		if (found)
			es_event_deform(scan.slot, event, false);
		es_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Finds the version behind the last event of a stream, from one version up to another, that
 * is here and too old.  No segment is looked into again that a step has shown to have none of
 * the versions that are left.
 */
static int64
find_end_of_old(const EsStream *stream, int64 low, int64 high, TimestampTz cutoff)
{
	EsStream	part = *stream;

	while (low < high)
	{
		int64		middle = low + (high - low) / 2;
		EsEvent		event;
		bool		found = find_event_here(&part, middle, &event);

		if (found && event.recorded_at < cutoff)
		{
			low = event.version + 1;
			part.first_segment = es_segment_of(event.position);
			continue;
		}
		high = middle;
		if (found)
			part.last_segment = es_segment_of(event.position);
	}
	return high;
}

/* es_due_version tells before which version a stream is to be truncated; see due.h. */
int64
es_due_version(const EsPolicy *policy, TimestampTz now, const text *name, EsStream *stream)
{
	TimestampTz cutoff = es_policy_cutoff(policy, now);
	EsEvent		last;
	int64		before = 0;

	if (!read_last_event(name, stream, &last))
		return 0;
	if (policy->max_count > 0)
		before = last.version - policy->max_count + 1;
	if (last.recorded_at < cutoff)
		before = last.version + 1;
	else if (cutoff != DT_NOBEGIN)
	{
		int64		end = find_end_of_old(stream, stream->truncated_before, last.version, cutoff);

		before = Max(before, end);
	}
	return before > stream->truncated_before ? before : 0;
}
