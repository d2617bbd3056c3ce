/*
 * source.c
 *		Events of a stream or of the log, given out one by one.
 *
 * Who takes events one after the other may do anything between two of them: append, wait for
 * hours, leave the rest.  So nothing is held meanwhile, no snapshot, no lock, no page: events
 * are read in portions, each by a read of its own, which begins after the last one.  Portions
 * grow, so that who wants few events does not pay for many.
 *
 * All portions together are what one read would have given that was done at the first.  Of a
 * stream that is up to the version which was its last then; that it has been truncated or
 * deleted since is 40001, unless this transaction has done it itself: nobody can have removed
 * what it has hidden, and it would meet the same if it began anew.  Of the log it is up to the
 * position that was settled then, below which all is as it is for ever, but for what is
 * scavenged; or, without a filter, up to the last event that was there.  A read whose first
 * portion is all of it needs no such bound.  What the transaction itself has appended since is
 * not in it.
 *
 * So a source that is rewound gives out the same events again, as far as it has come to its end.
 *
 * A filter of many names is dear to begin with, in each portion anew.  Then all events are read
 * at once, and those that do not fit into memory go to a temporary file, as they are stored.
 */
#include "read/source.h"

#include "access/tupdesc.h"
#include "executor/nodeHash.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/objects.h"
#include "base/pending.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "read/read.h"
#include "shared/counter.h"
#include "stream/stream.h"

#define FIRST_EVENTS	32		/* in a portion */
#define MOST_EVENTS		1024
#define GROWTH			4		/* of portions: who leaves the rest has had a
								 * fifth of what was read */
#define MOST_BYTES		(1024 * 1024)
#define MOST_NAMES		16		/* that a read begins with again and again */

struct EsSource
{
	MemoryContext context;
	MemoryContext work;			/* of one read */
	EsRead		start;			/* of what is asked for */
	EsRead		rest;			/* what of it has not been read */
	int64		first_version;	/* of the stream, that was readable at the
								 * first portion; 0: not known */
	bool		ended;			/* there is no rest */
	int			reads;			/* since the start, or since it was rewound */
	uint64		time;			/* that they took, in microseconds */
	int			events;			/* of the next portion */
	EsPortion  *portion;
	EsSourceCounts *counts;		/* or NULL */
	bool		whole;			/* all at once: */
	Tuplestorestate *rows;
	TupleTableSlot *row;
	EsEvent		event;			/* of the row */
};

/* Counts a read that is done, and so many events. */
static void
count_read(EsSource *source, const instr_time *start, int64 events)
{
	source->reads++;
	if (source->counts)
	{
		source->counts->portions++;
		source->counts->events += events;
		source->counts->removed += source->rest.filter.removed;
		source->rest.filter.removed = 0;
	}
	source->time += es_counter_elapsed(start);
	es_counter_add(ES_COUNT_EVENTS_READ, events);
}

/* ---- a stream ---- */

/* Raises 40001 if events that are still to be read have been hidden since the first portion. */
static void
require_same_stream(const EsSource *source, const EsStream *stream)
{
	const EsStreamRange *rest = &source->rest.range;
	int64		lowest = rest->backwards ? rest->from_version - rest->max_count + 1 : rest->from_version;

	if (stream == NULL || stream->truncated_before > Max(lowest, source->first_version))
		es_read_report_hidden(rest->stream, stream == NULL);
}

/*
 * Raises 40001 unless a portion, which is not the first and was to begin at a version, has all
 * that it should of what this transaction has hidden: somebody else may have hidden some of it
 * before, and then it may have been removed.
 */
static void
require_hidden_events(const EsSource *source, int64 from_version)
{
	const EsStreamRange *rest = &source->rest.range;
	int64		count = source->portion->count;
	int64		passed = rest->backwards ? from_version - rest->from_version : rest->from_version - from_version;
	bool		at_end = count == rest->max_count || (rest->backwards && rest->from_version < source->first_version);

	if (passed != count || (source->ended && !at_end))
		es_read_report_hidden(rest->stream, false);
}

/* Reads events into the portion, until it is full; true if there may be more. */
static bool
fill_from_stream(EsSource *source, EsStreamScan *scan, int64 wanted)
{
	EsStreamRange *rest = &source->rest.range;
	EsPortion  *portion = source->portion;

	while (portion->count < wanted && portion->bytes < MOST_BYTES)
	{
		EsEvent    *event = es_portion_room(portion);

		CHECK_FOR_INTERRUPTS();
		if (!es_read_stream_next(scan, event))
			return false;
		es_portion_keep(portion);
		rest->from_version = event->version + (rest->backwards ? -1 : 1);
	}
	return rest->from_version > 0;
}

/* Bounds a read by what the stream has at the first portion. */
static void
bound_by_stream(EsSource *source, EsStreamScan *scan)
{
	EsStreamRange *start = &source->start.range;
	int64		first = source->portion->events[0].version;

	start->from_version = first;
	if (!start->backwards)
	{
		int64		last = es_read_stream_last(scan);

		start->max_count = Min(start->max_count, Max(last, first) - (first - 1));
	}
	source->rest.range.max_count = start->max_count;
}

/* Reads up to so many events of a stream. */
static void
read_stream_portion(EsSource *source, int64 wanted)
{
	EsStreamRange *rest = &source->rest.range;
	EsPortion  *portion = source->portion;
	int64		from_version = rest->from_version;
	EsStreamScanOptions options = {.stream = rest->stream,.from_version = from_version,
		.first_version = source->first_version,.backwards = rest->backwards,.gives_out = portion->columns.data || portion->columns.metadata,
		.without_metadata = !portion->columns.metadata,.without_data = !portion->columns.data,
	.counts = source->counts ? &source->counts->scans : NULL};
	EsStreamScan *scan = es_read_stream_begin(&options);
	const EsStream *stream = es_read_stream_of(scan);
	bool		is_first = source->first_version == 0;

	if (!is_first)
		require_same_stream(source, stream);
	else
		source->first_version = stream ? Max(stream->truncated_before, 1) : 1;
	source->ended = !fill_from_stream(source, scan, wanted);
	if (is_first && !source->ended && portion->count < rest->max_count)
		bound_by_stream(source, scan);
	if (unlikely(es_read_stream_is_hidden(scan)))
		require_hidden_events(source, from_version);
	es_read_stream_end(scan);
	rest->max_count -= portion->count;
}

/* ---- the log ---- */

/* Keeps an event of the log, and ends the read if the portion is large. */
static void
keep_log_event(const EsEvent *event, void *arg)
{
	EsSource   *source = arg;

	*es_portion_room(source->portion) = *event;
	es_portion_keep(source->portion);
	source->rest.filter.enough = source->portion->bytes >= MOST_BYTES;
}

/* Gives the last position of the log that has an event, or had one if its segment is lost. */
static int64
find_last_position(void)
{
	int64		last = es_scan_last_position(PG_INT64_MAX);

	for (int64 n = es_segment_newest_reaching(PG_INT64_MAX); n >= 0 && es_segment_first_position(n) > last; n--)
		if (es_segment_is_lost(n))
			return es_segment_last_position(n);
	return last;
}

/*
 * Bounds a read of the whole log by what there is at its first portion.  That may be more than
 * is settled: while positions follow each other nothing needs proof.  Where nothing is, as while
 * the store is being copied, its segments may not be known yet, and nobody appends.
 */
static void
bound_by_last_event(EsSource *source)
{
	bool		any = es_settle_known() > 0 || es_settle_compute() > 0;
	int64		last = any ? find_last_position() : PG_INT64_MAX;

	source->start.filter.upto = Min(source->start.filter.upto, last);
	source->rest.filter.upto = source->start.filter.upto;
}

/* Bounds a read of the log by what is settled now. */
static void
bound_by_settled(EsSource *source)
{
	source->start.filter.settled = source->rest.filter.settled = es_settle_compute();
	if (source->start.filter.settled == 0)
		source->ended = true;
}

/* Reads up to so many events of the log. */
static void
read_log_portion(EsSource *source, int64 wanted)
{
	EsLogFilter *rest = &source->rest.filter;
	EsPortion  *portion = source->portion;
	int64		left = rest->max_count;

	rest->max_count = wanted;
	rest->enough = false;
	(void) es_log_read(rest, keep_log_event, source);
	rest->max_count = left - portion->count;
	source->ended = rest->max_count == 0 || (portion->count < wanted && !rest->enough);
	if (source->ended)
	{
		/* again it goes as far */
		if (!rest->backwards)
			source->start.filter.upto = portion->count > 0 ? portion->events[portion->count - 1].position : rest->after;
		return;
	}
	if (rest->backwards)
		rest->upto = portion->events[portion->count - 1].position - 1;
	else
		rest->after = rest->proven = portion->events[portion->count - 1].position;
	if (rest->settled == 0 && source->reads == 0)
		bound_by_last_event(source);
}

/* ---- all at once ---- */

/* Tells whether a filter names so much that a read had better not begin again and again. */
static bool
is_wide(const EsLogFilter *filter)
{
	int64		names = filter->categories.count;

	for (int i = 0; filter->query && i < filter->query->count; i++)
		names += 1 + filter->query->items[i].types.count + filter->query->items[i].tags.count;
	return names > MOST_NAMES;
}

/* Puts an event of the log among the rows. */
static void
keep_row(const EsEvent *event, void *arg)
{
	EsSource   *source = arg;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	es_event_values(event, values, isnull);
	tuplestore_putvalues(source->rows, source->row->tts_tupleDescriptor, values, isnull);
}

/* Reads all that is asked for. */
static void
read_all_rows(EsSource *source)
{
	MemoryContext old = MemoryContextSwitchTo(source->context);
	size_t		memory = get_hash_memory_limit() / 1024;
	instr_time	start;
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(es_base_event_type(), -1);

	es_counter_start(&start);
	es_event_check(desc);
	source->row = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	source->rows = tuplestore_begin_heap(false, false, (int) Min(memory, INT_MAX));
	MemoryContextSwitchTo(source->work);
	(void) es_log_read(&source->rest.filter, keep_row, source);
	MemoryContextSwitchTo(old);
	MemoryContextReset(source->work);
	count_read(source, &start, tuplestore_tuple_count(source->rows));
}

/* Gives the next of the rows; NULL if there is none. */
static EsEvent *
take_row(EsSource *source)
{
	if (source->rows == NULL)
		read_all_rows(source);
	if (!tuplestore_gettupleslot(source->rows, true, false, source->row))
		return NULL;
	slot_getallattrs(source->row);
	(void) es_event_of_values(source->row->tts_values, source->row->tts_isnull, &source->event);
	return &source->event;
}

/* ---- the source ---- */

/* Reads the next portion; false if it is empty, or there is none. */
static bool
read_portion(EsSource *source)
{
	int64		left = source->start.of_stream ? source->rest.range.max_count : source->rest.filter.max_count;
	int64		wanted = Min(left, source->events);
	MemoryContext old;
	instr_time	start;

	if (source->ended || wanted == 0)
		return false;
	es_counter_start(&start);
	es_pending_flush();			/* in the caller's memory */
	es_portion_clear(source->portion);
	old = MemoryContextSwitchTo(source->work);
	if (source->start.of_stream)
		read_stream_portion(source, wanted);
	else
		read_log_portion(source, wanted);
	MemoryContextSwitchTo(old);
	MemoryContextReset(source->work);
	count_read(source, &start, source->portion->count);
	source->events = Min(source->events * GROWTH, MOST_EVENTS);
	return source->portion->count > 0;
}

/* Prepares a read of the log: bounds it by what is settled, unless contiguity can be its proof. */
static void
begin_log(EsSource *source)
{
	EsLogFilter *filter = &source->start.filter;
	int64		own_first;

	es_pending_flush();
	own_first = es_settle_own_first();
	filter->upto = Min(filter->upto, own_first - 1);
	source->whole = is_wide(filter);
	filter->without_metadata = !source->whole && !source->portion->columns.metadata;
	filter->without_data = !source->whole && !source->portion->columns.data;
	source->rest = source->start;
	if (!source->whole && (filter->backwards || !es_log_is_whole(filter)))
		bound_by_settled(source);
}

/*
 * es_source_open makes a source in the current memory context.  What the read is made of must
 * live as long, and so must what it adds its counts to, unless that is NULL.
 */
EsSource *
es_source_open(const EsRead *read, EsColumns columns, EsSourceCounts *counts)
{
	EsSource   *source = palloc0(sizeof(EsSource));

	source->context = CurrentMemoryContext;
	source->work = AllocSetContextCreate(CurrentMemoryContext, "eventstore source", ALLOCSET_DEFAULT_SIZES);
	source->start = source->rest = *read;
	source->events = FIRST_EVENTS;
	source->portion = es_portion_make(columns);
	source->counts = counts;
	if (counts)
		source->start.filter.counts = &counts->scans;
	if (!read->of_stream)
		begin_log(source);
	return source;
}

/*
 * es_source_next gives the next event, as it is stored; it stays until the next call.  NULL at
 * the end.
 */
EsEvent *
es_source_next(EsSource *source)
{
	EsEvent    *event = es_portion_take(source->portion);

	if (likely(event != NULL))
		return event;
	if (source->whole)
		return take_row(source);
	return read_portion(source) ? es_portion_take(source->portion) : NULL;
}

/* es_source_rewind has a source give out the same events again. */
void
es_source_rewind(EsSource *source)
{
	if (source->whole)
	{
		if (source->rows)
			tuplestore_rescan(source->rows);
		return;
	}
	source->portion->taken = 0;
	if (source->reads <= 1)
		return;					/* the first portion is there */
	es_portion_clear(source->portion);
	source->rest = source->start;
	source->ended = false;
	source->reads = 0;
	source->events = FIRST_EVENTS;
}

/* es_source_close frees a source; for who counts, all its portions are one read. */
void
es_source_close(EsSource *source)
{
	es_counter_note(ES_TIME_READ, source->time);
	if (source->rows)
	{
		tuplestore_end(source->rows);
		ExecDropSingleTupleTableSlot(source->row);
	}
	es_portion_free(source->portion);
	MemoryContextDelete(source->work);
	pfree(source);
}
