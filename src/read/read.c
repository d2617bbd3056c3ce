/*
 * read.c
 *		Reading one stream.
 *
 * A stream's events are found through the (stream_id, version) index of each
 * segment from the stream's first to its last.  Appenders of a stream exclude
 * each other, so what is committed is gapless, and nothing has to be proven:
 * a fresh snapshot tells the stream as it is, this transaction's own appends
 * included.  Versions rise with the segments, so a read that does not begin at
 * an end of the stream looks for the segment where it begins by halves.  Forwards that is the
 * last one with a version that is not too high; backwards, the lowest that cannot have one that
 * is wanted but is after it.
 *
 * Versions also tell whether a segment that is lost (log/segment.c) had events of
 * the stream: a read that passes one goes on only if it has what comes next.  So it must pass
 * each that may have the first event it wants, and begins on the far side of such a one.  Nor
 * does a read go on over events that were hidden and removed after it looked at the stream's
 * row, which a snapshot keeps unless the segment was rewritten and it had to be renewed.
 *
 * A read may go on where another one has ended, as if it were the same (source.c): what the
 * transaction itself has hidden meanwhile is there, and is read.
 *
 * Who reads many streams takes them in order of id, in which their events follow
 * each other in the index: in each segment one scan goes from each to the next, over
 * what little is between them, instead of looking for each anew, and the pages that
 * their rows are scattered over are kept at hand (table/pages.c).  Some segments are kept
 * open, for streams whose events are in all of them.
 */
#include "read/read.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "log/durable.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "table/pages.h"
#include "table/prefetch.h"
#include "table/rows.h"
#include "type/renew.h"

#define MOST_OPEN	16			/* segments */
#define NEAR	32				/* entries to step over rather than look for a
								 * stream anew */

/* A segment that is open. */
typedef struct OpenSegment
{
	bool		open;
	int64		segment;
	EsSegmentScan scan;
	bool		ranging;		/* scan goes from each stream to the next, and
								 * stands on an entry: */
	int64		entry_id;		/* of this stream; PG_INT64_MAX: there are no
								 * more */
	bool		entry_taken;	/* which has been dealt with */
} OpenSegment;

struct EsStreamScan
{
	EsStream	stream;
	bool		found;
	bool		own_hidden;		/* it reads what this transaction has hidden */
	bool		backwards;
	bool		follows;		/* one stream after the other */
	int64		from_version;	/* first to return */
	int64		upto_version;	/* nothing after it matters; forwards only */
	int64		next_version;	/* of the next event, if the log is whole;
								 * backwards it may be lower: the stream may
								 * not be so long */
	int64		lost;			/* a segment passed since the last event,
								 * which the log has no more; -1: none */
	int64		segment;		/* being scanned, or to be scanned next */
	OpenSegment *now;			/* it is being scanned for the stream; or NULL */
	Snapshot	snapshot;
	bool		own_snapshot;	/* to be unregistered */
	MemoryContext context;		/* the scan's */
	EsSegmentScan how;			/* segments are scanned */
	int			places;
	OpenSegment segments[FLEXIBLE_ARRAY_MEMBER];	/* by number, modulo
													 * places */
};

PG_FUNCTION_INFO_V1(es_read);

/* The stream's first version in a segment; 0 if it has none there. */
static int64
first_version_in_segment(const EsStreamScan *scan, int64 segment)
{
	EsSegmentScan probe = {.snapshot = scan->snapshot,.fresh = scan->how.fresh};
	bool		isnull;

	return DatumGetInt64(es_scan_edge_version(probe, segment, scan->stream.id, ForwardScanDirection, &isnull));
}

/*
 * Finds the last segment in which the stream has a version up to from_version;
 * its first segment if there is none.  Segments without events of the stream
 * are each asked once at most.
 *
 * Up to "high" none of those after it has any, or it is lost: backwards a lost one is where
 * the read begins.
 */
static int64
find_start_segment(const EsStreamScan *scan)
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
			if ((version = first_version_in_segment(scan, segment)) != 0)
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
	while (scan->backwards && high > found && !es_segment_is_lost(high))
		high--;
	return scan->backwards ? high : found;
}

/*
 * Finds the segment where the scan begins, now that stream and from_version are known: the
 * stream's first or last, or one between them, which may be a lost one.
 */
static void
go_to_stream_start(EsStreamScan *scan)
{
	scan->lost = -1;
	scan->next_version = Max(scan->from_version, 1);
	if (scan->from_version <= 1)
		scan->segment = scan->stream.first_segment;
	else if (scan->from_version == PG_INT64_MAX)
		scan->segment = scan->stream.last_segment;
	else
		scan->segment = find_start_segment(scan);
}

/*
 * Has the scan of a stream that is hidden, or more of it than before a version that could be read
 * before, read from there on, if that was done by this transaction.
 */
static void
show_own_hidden(EsStreamScan *scan, int64 first_version)
{
	EsStream   *stream = &scan->stream;

	if (first_version == 0 || (!stream->deleted && stream->truncated_before <= first_version) ||
		!TransactionIdIsCurrentTransactionId(stream->writer))
		return;
	stream->deleted = false;
	stream->truncated_before = first_version;
	scan->own_hidden = true;
}

/*
 * es_read_stream_begin starts a scan of a stream; see read.h.  Invalidations come after the
 * snapshot, so that how the events are protected is known that it sees.
 */
EsStreamScan *
es_read_stream_begin(const EsStreamScanOptions *options)
{
	int			places = options->stream == NULL ? MOST_OPEN : 1;
	EsStreamScan *scan = palloc0(offsetof(EsStreamScan, segments) + places * sizeof(OpenSegment));
	EsStream   *stream = &scan->stream;

	es_subscriber_refuse_part();
	scan->places = places;
	scan->upto_version = PG_INT64_MAX;
	scan->own_snapshot = options->snapshot == NULL;
	scan->snapshot = scan->own_snapshot ? es_rows_fresh_snapshot() : options->snapshot;
	es_durable_note_snapshot(scan->snapshot);
	AcceptInvalidationMessages();
	scan->context = CurrentMemoryContext;
	scan->backwards = options->backwards;
	scan->how.which = ES_INDEX_STREAM;
	scan->how.snapshot = scan->snapshot;
	scan->how.fresh = scan->own_snapshot ? &scan->snapshot : NULL;
	scan->how.own_slot = true;
	scan->how.backwards = options->backwards;
	scan->how.gives_out = options->gives_out;
	scan->how.by_page = options->stream != NULL;
	scan->how.without_metadata = options->without_metadata;
	scan->how.without_data = options->without_data;
	scan->how.counts = options->counts;
	if (options->stream == NULL)
	{
		scan->follows = scan->how.wants_keys = true;
		scan->how.pages = es_pages_begin(scan->snapshot, true, ES_PREFETCH_ALL);
		return scan;
	}
	if (!es_stream_find(options->stream, &scan->snapshot, scan->own_snapshot, stream))
		return scan;
	show_own_hidden(scan, options->first_version);
	scan->found = !stream->deleted;
	if (!scan->found)
		return scan;
	if (scan->backwards)
		scan->from_version = options->from_version == 0 ? PG_INT64_MAX : options->from_version;
	else
		scan->from_version = Max(options->from_version, stream->truncated_before);
	go_to_stream_start(scan);
	return scan;
}

/* es_read_stream_of tells which stream a scan is of; NULL if there is none. */
const EsStream *
es_read_stream_of(const EsStreamScan *scan)
{
	return scan->found ? &scan->stream : NULL;
}

/* es_read_stream_is_hidden tells whether a scan reads what this transaction has hidden. */
bool
es_read_stream_is_hidden(const EsStreamScan *scan)
{
	return scan->own_hidden;
}

/* es_read_stream_snapshot gives the database snapshot that a scan reads by. */
Snapshot
es_read_stream_snapshot(const EsStreamScan *scan)
{
	return scan->snapshot;
}

/* es_read_stream_take goes to the start of a stream, that a category scan gave. */
void
es_read_stream_take(EsStreamScan *scan, const EsStream *stream)
{
	scan->stream = *stream;
	scan->found = !stream->deleted;
	scan->now = NULL;
	scan->from_version = stream->truncated_before;
	if (scan->found)
		go_to_stream_start(scan);
}

/* es_read_stream_seek makes a scan, which has not begun to read, begin at a version. */
void
es_read_stream_seek(EsStreamScan *scan, int64 version)
{
	scan->from_version = Max(version, scan->stream.truncated_before);
	go_to_stream_start(scan);
}

/* es_read_stream_limit says up to which version a scan, forwards, will be read. */
void
es_read_stream_limit(EsStreamScan *scan, int64 version)
{
	scan->upto_version = version;
}

/* Closes a segment. */
static void
close_open_segment(OpenSegment *s)
{
	if (s->open)
		es_scan_end(&s->scan);
	s->open = s->ranging = false;
}

/* Moves a scan that goes from stream to stream to its next entry. */
static void
move_to_next_entry(OpenSegment *s)
{
	s->entry_taken = false;
	s->entry_id = es_scan_next_entry(&s->scan);
}

/* Goes on to a stream's first entry, or past where it would be; false if that is too far away. */
static bool
step_to_stream(OpenSegment *s, int64 id)
{
	for (int steps = 0; s->entry_id < id; steps++)
	{
		if (steps == NEAR)
			return false;
		move_to_next_entry(s);
	}
	return true;
}

/* Makes the keys of what is to be scanned of a segment. */
static void
make_stream_keys(const EsStreamScan *scan, EsSegmentScan *s, bool range)
{
	Datum		id = Int64GetDatum(scan->stream.id);

	s->nkeys = 0;

	/*
	 * of many streams both forms have two keys: a scan goes from one to the
	 * other, and keeps their number.  Each entry is compared with each key;
	 * of two that say the same the index drops one, and all have versions
	 * from 1 on
	 */
	if (range)
	{
		ScanKeyInit(&s->keys[s->nkeys++], 1, BTGreaterEqualStrategyNumber, F_INT8GE, id);
		ScanKeyInit(&s->keys[s->nkeys++], 1, BTGreaterEqualStrategyNumber, F_INT8GE, id);
		return;
	}
	ScanKeyInit(&s->keys[s->nkeys++], 1, BTEqualStrategyNumber, F_INT8EQ, id);
	if (!scan->backwards)
	{
		if (scan->follows || scan->from_version > 1)
			ScanKeyInit(&s->keys[s->nkeys++], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
						Int64GetDatum(scan->from_version));
	}
	else
	{
		ScanKeyInit(&s->keys[s->nkeys++], 2, BTLessEqualStrategyNumber, F_INT8LE,
					Int64GetDatum(scan->from_version));
		ScanKeyInit(&s->keys[s->nkeys++], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
					Int64GetDatum(scan->stream.truncated_before));
	}
}

/*
 * Opens the current segment in its place, to be scanned by keys for the stream;
 * false if it is missing.
 */
static bool
open_segment_for_stream(const EsStreamScan *scan, OpenSegment *s, bool range)
{
	if (s->open && s->segment == scan->segment)
	{
		/* for the stream before: it serves again */
		make_stream_keys(scan, &s->scan, range);
		es_scan_again(&s->scan);
		return true;
	}
	close_open_segment(s);
	s->scan = scan->how;
	make_stream_keys(scan, &s->scan, range);
	s->segment = scan->segment;
	s->open = es_scan_begin(&s->scan, scan->segment);
	return s->open;
}

/* Begins to scan the current segment; false if it is missing. */
static bool
scan_stream_segment(EsStreamScan *scan)
{
	OpenSegment *s = &scan->segments[scan->segment % scan->places];
	bool		range = scan->follows && scan->from_version <= 1;
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	bool		open = true;

	if (!range || !s->ranging || s->segment != scan->segment || !step_to_stream(s, scan->stream.id))
	{
		open = open_segment_for_stream(scan, s, range);
		s->ranging = open && range;
		if (s->ranging)
			move_to_next_entry(s);
	}
	scan->now = open ? s : NULL;
	MemoryContextSwitchTo(old);
	return open;
}

/* Goes to the next segment that may have events of the stream; false after the last. */
static bool
move_to_next_segment(EsStreamScan *scan)
{
	const EsStream *stream = &scan->stream;

	if (scan->now != NULL)
	{
		scan->now = NULL;
		scan->segment += scan->backwards ? -1 : 1;
	}
	while (scan->segment >= stream->first_segment && scan->segment <= stream->last_segment)
	{
		if (scan_stream_segment(scan))
			return true;
		/* one that was dropped when it had no event left is no loss */
		if (scan->segments[scan->segment % scan->places].scan.lost)
			scan->lost = scan->segment;
		scan->segment += scan->backwards ? -1 : 1;
	}
	return false;
}

/*
 * Raises 55000 if the lost segment that the scan has passed had events that it
 * should return before this version.
 */
static void
refuse_if_lost(EsStreamScan *scan, int64 version)
{
	if (scan->backwards ? scan->next_version > version :
		scan->next_version != version && scan->next_version <= scan->upto_version)
		es_segment_refuse_lost(scan->lost);
	scan->lost = -1;
}

/* es_read_report_hidden raises 40001: events of a stream were hidden while it was read. */
void
es_read_report_hidden(const text *stream, bool deleted)
{
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			deleted ? errmsg("stream \"%s\" was deleted while it was read", es_names_show_text(stream)) :
			errmsg("stream \"%s\" was truncated while it was read", es_names_show_text(stream)),
			errhint("Retry the statement."));
}

/*
 * Raises 40001 if the next event has been hidden since the scan looked at the stream's row.  It can
 * miss one only if its snapshot is its own, which may have been renewed.
 */
static void
refuse_if_hidden(const EsStreamScan *scan)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsStream	stream;
	bool		found = es_stream_find(scan->stream.name, &snapshot, true, &stream);

	UnregisterSnapshot(snapshot);
	if (found && (stream.deleted || stream.truncated_before > scan->next_version))
		es_read_report_hidden(scan->stream.name, stream.deleted);
}

/* Raises an error: the next event is not there.  Perhaps in parallel mode. */
static void
report_missing_version(const EsStreamScan *scan)
{
	if (scan->own_snapshot)
		refuse_if_hidden(scan);
	ereport(ERROR,
			errcode(ES_ERRCODE_STORE_CORRUPT),
			errmsg("stream \"%s\" has no event of version " INT64_FORMAT, es_names_show_text(scan->stream.name),
				   scan->next_version));
}

/*
 * Tells whether all events of the stream are hidden, as the last one is: it is in the stream's last
 * segment, and there is none if it has been removed.
 */
static bool
is_all_hidden(const EsStreamScan *scan)
{
	const EsStream *stream = &scan->stream;
	EsSegmentScan probe = {.snapshot = scan->snapshot,.fresh = scan->how.fresh};
	int64		version;
	bool		isnull;

	if (stream->truncated_before <= 1 || es_segment_is_lost(stream->last_segment))
		return false;
	version = DatumGetInt64(es_scan_edge_version(probe, stream->last_segment, stream->id, BackwardScanDirection, &isnull));
	return version < stream->truncated_before;
}

/*
 * Raises 55000 if the lost segment that the scan has passed had events that it
 * should return before its end.
 */
static void
refuse_if_lost_at_end(EsStreamScan *scan)
{
	if (is_all_hidden(scan))
		return;
	refuse_if_lost(scan, scan->backwards ? Max(scan->stream.truncated_before, 1) - 1 : PG_INT64_MAX);
}

/* Moves to a stream's next row in a scan that goes from stream to stream. */
static bool
move_on_in_range(OpenSegment *s, int64 id)
{
	for (;;)
	{
		if (s->entry_taken)
			move_to_next_entry(s);
		if (s->entry_id != id)
			return false;
		s->entry_taken = true;
		if (es_scan_fetch(&s->scan))
			return true;
	}
}

/*
 * Moves to the next row of the segment being scanned.  Index scans allocate as
 * they go, and must find that again.
 */
static bool
move_to_next_row(EsStreamScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	OpenSegment *s = scan->now;
	bool		found = s->ranging ? move_on_in_range(s, scan->stream.id) :
	es_scan_next(&s->scan, scan->backwards ? BackwardScanDirection : ForwardScanDirection);

	MemoryContextSwitchTo(old);
	return found;
}

/* es_read_stream_next reads the next event; its varlenas live until the next call. */
bool
es_read_stream_next(EsStreamScan *scan, EsEvent *event)
{
	if (!scan->found)
		return false;
	while (scan->now != NULL || move_to_next_segment(scan))
	{
		if (move_to_next_row(scan))
		{
			es_durable_note_row(scan->now->scan.slot);
			es_scan_event(&scan->now->scan, event);
			if (unlikely(scan->lost >= 0))
				refuse_if_lost(scan, event->version);
			if (unlikely(event->version != scan->next_version) && !scan->backwards &&
				scan->next_version <= scan->upto_version)
				report_missing_version(scan);
			scan->next_version = event->version + (scan->backwards ? -1 : 1);
			return true;
		}
		if (!move_to_next_segment(scan))
			break;
	}
	if (scan->lost >= 0)
		refuse_if_lost_at_end(scan);
	scan->found = false;
	return false;
}

/*
 * es_read_stream_last gives the last version of a stream that a scan has found, as its snapshot
 * sees it; PG_INT64_MAX if a segment is lost that may have had it.
 */
int64
es_read_stream_last(const EsStreamScan *scan)
{
	EsSegmentScan probe = {.snapshot = scan->snapshot,.fresh = scan->how.fresh};
	int64		version = 0;
	bool		isnull = true;

	for (int64 n = scan->stream.last_segment; isnull && n >= scan->stream.first_segment; n--)
	{
		CHECK_FOR_INTERRUPTS();
		version = DatumGetInt64(es_scan_edge_version(probe, n, scan->stream.id, BackwardScanDirection, &isnull));
		if (isnull && es_segment_is_lost(n))
			return PG_INT64_MAX;
	}
	return version;
}

/* es_read_stream_end closes the scan, and makes durable what it returned. */
void
es_read_stream_end(EsStreamScan *scan)
{
	for (int i = 0; i < scan->places; i++)
		close_open_segment(&scan->segments[i]);
	if (scan->how.pages != NULL)
		es_pages_end(scan->how.pages);
	if (scan->own_snapshot)
		UnregisterSnapshot(scan->snapshot);
	es_durable_flush_noted();
	pfree(scan);
}

/* ---- SQL ---- */

/* es_read_arguments takes the arguments of es_read, and asks for the right to read the stream. */
void
es_read_arguments(FunctionCallInfo fcinfo, EsStreamRange *range)
{
	memset(range, 0, sizeof(*range));
	range->stream = es_call_stream_arg(fcinfo, 0);
	es_right_require_stream(ES_RIGHT_READ, range->stream);
	range->max_count = es_call_limit_arg(fcinfo, 2, "max_count");
	range->backwards = es_call_flag_arg(fcinfo, 3, "backwards");
	if (PG_ARGISNULL(1))
		return;
	range->from_version = Max(PG_GETARG_INT64(1), 1);
	/* there is nothing before version 1 */
	if (range->backwards && PG_GETARG_INT64(1) < 1)
		range->max_count = 0;
}

/* es_read_count counts a read, begun at a time, that has put its events into its result. */
void
es_read_count(FunctionCallInfo fcinfo, const instr_time *start)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	es_counter_add(ES_COUNT_EVENTS_READ, tuplestore_tuple_count(result->setResult));
	es_counter_note_time(ES_TIME_READ, start);
}

/*
 * es_read(stream, from_version, max_count, backwards): events of one stream.
 *
 * In order of version, from from_version on (NULL: from the first), or
 * backwards from it (NULL: the last).  A missing or deleted stream gives no
 * rows.  NULL stream is 22004, a negative max_count 22023.  With eventstore.upcast a
 * handler's failure is VE009.  42501 without 'read' on the category.
 */
Datum
es_read(PG_FUNCTION_ARGS)
{
	EsStreamRange range;
	EsStreamScanOptions options = {.gives_out = true};
	EsStreamScan *scan;
	EsEvent		event;
	EsRenewer	renewer;
	instr_time	start;

	es_counter_start(&start);
	es_read_arguments(fcinfo, &range);
	options.stream = range.stream;
	options.from_version = range.from_version;
	options.backwards = range.backwards;
	es_renew_begin(&renewer, es_call_begin_rows(fcinfo));
	scan = es_read_stream_begin(&options);
	while (range.max_count-- > 0 && es_read_stream_next(scan, &event))
	{
		CHECK_FOR_INTERRUPTS();
		es_renew_return_event(&event, &renewer);
	}
	es_read_stream_end(scan);
	es_read_count(fcinfo, &start);
	return (Datum) 0;
}
