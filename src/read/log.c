/*
 * log.c
 *		Reading the log in order of position.
 *
 * Unfiltered, a reader walks the position index with a fresh snapshot.  While
 * positions follow each other, nothing needs proof.  At a hole the settled
 * position is asked for, once; if the hole is below it, nobody can fill it any
 * more, and the walk goes on with a snapshot taken after that answer.  If not,
 * what came before the hole is the result.
 *
 * Filtered, holes cannot be told from events that do not pass.  So the settled
 * position is asked for first and bounds the read.
 *
 * The events of one category are found by the (category_key, position) index of each
 * segment.  With several there are two ways through a segment.  To walk over its
 * positions costs as much for each event, whether it passes or not.  To leap by the
 * index costs a descent for each category, and then more for each event that passes,
 * but nothing for those between.  Which is better depends on what is there, so both are
 * tried in turns: a walk is ended when it has seen so many events that do not pass that
 * the descents would have cost as much, and what leaps is ended when it has found more
 * events than descents, lying close together.  So a read costs at most a few times what
 * it would had the better way been known, be it of ten events or of all, and an event
 * does not cost more the longer the list is.
 *
 * Events that a query asks for are found by the paths of its items (query.c), in either
 * direction.  Backwards the settled position is asked for first, too, and the read begins
 * there: below it all is as it is for ever.
 *
 * This transaction's own events are not returned: its first position is a
 * bound like any transaction's in flight.
 */
#include "read/log.h"

#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/call.h"
#include "base/pending.h"
#include "log/durable.h"
#include "log/segment.h"
#include "log/settle.h"
#include "read/cursor.h"
#include "read/merge.h"
#include "read/query.h"
#include "read/read.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "type/renew.h"

#define WALK		4			/* events that are passed by at the price of a
								 * descent */
#define MOST_BACKWARDS	16		/* categories that are worth cursors */

/* A read on its way. */
typedef struct LogRead
{
	EsLogFilter *filter;
	EsEventCallback callback;
	void	   *arg;
	bool		whole;			/* no filter: contiguity is the proof */
	int64		passed;			/* all up to here is returned, or does not
								 * pass */
	int64		upto;
	int64		final;			/* positions up to here need no proof */
	int64		left;			/* events that may still be returned */
	int64		taken;			/* events that were, since the walk began */
	int32	   *keys;			/* of the categories; NULL: not found out */
	int			nkeys;
	EsQuestion	question;		/* the query's, if there is one */
	Snapshot	snapshot;
} LogRead;

PG_FUNCTION_INFO_V1(es_read_all);
PG_FUNCTION_INFO_V1(es_read_category);

/* ---- filters ---- */

/* Tells whether an event passes the filter. */
static bool
passes_log_filter(const EsLogFilter *filter, const EsEvent *event)
{
	if (filter->stream_prefix && !es_names_begins(DatumGetTextPP(event->stream), filter->stream_prefix))
		return false;
	return es_names_pass(&filter->categories, &filter->types, event);
}

/* ---- reading one segment ---- */

/* Counts an event that does not pass, unless nothing of it may be told: see es_log_restrict. */
static void
count_not_passing(EsLogFilter *filter, const EsEvent *event)
{
	const EsNames all = {0};

	if (es_names_pass(&filter->categories, &all, event))
		filter->removed++;
}

/* Tells whether an event that has been found is to be returned. */
static bool
is_log_event_wanted(LogRead *read, const EsEvent *event)
{
	if (!read->whole && !passes_log_filter(read->filter, event))
	{
		if (read->filter->counts)
			count_not_passing(read->filter, event);
		return false;
	}
	return read->filter->wants == NULL || read->filter->wants(event, read->arg);
}

/* Returns an event, which stays readable. */
static void
return_log_event(LogRead *read, const EsEvent *event, TupleTableSlot *slot)
{
	es_durable_note_row(slot);
	read->callback(event, read->arg);
	read->left = read->filter->enough ? 0 : read->left - 1;
	read->taken++;
}

/* Takes the event that a cursor stands on; false if it is past a hole that nothing proves empty. */
static bool
take_log_event(LogRead *read, EsCursor *cursor)
{
	const EsEvent *event = &cursor->event;

	CHECK_FOR_INTERRUPTS();
	if (event->position > read->final && event->position != read->passed + 1)
		return false;
	if (is_log_event_wanted(read, event))
	{
		es_cursor_give_out(cursor);
		return_log_event(read, event, cursor->slot);
	}
	read->passed = event->position;
	return true;
}

/* Reads a range, or what it has of one category; false if a hole is in the way. */
static bool
read_cursor_range(LogRead *read, const EsCursorRange *range)
{
	EsCursor	cursor;
	bool		whole = true;

	es_cursor_open(&cursor, range);
	while (whole && read->left > 0 && cursor.open)
	{
		whole = take_log_event(read, &cursor);
		if (whole)
			es_cursor_advance(&cursor);
	}
	es_cursor_close(&cursor);
	return whole;
}

/* Compares two keys, for sorting. */
static int
compare_category_keys(const void *a, const void *b)
{
	int32		x = *(const int32 *) a;
	int32		y = *(const int32 *) b;

	return x < y ? -1 : x > y;
}

/* Finds out the keys of the categories, each once, in the index's order, unless they are known. */
static void
find_category_keys(LogRead *read)
{
	const EsNames *categories = &read->filter->categories;

	if (read->keys)
		return;
	read->keys = palloc(sizeof(int32) * categories->count);
	for (int i = 0; i < categories->count; i++)
	{
		const text *name = categories->names[i];

		CHECK_FOR_INTERRUPTS();
		read->keys[i] = es_names_category_key(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
	}
	qsort(read->keys, categories->count, sizeof(int32), compare_category_keys);
	read->nkeys = qunique(read->keys, categories->count, sizeof(int32), compare_category_keys);
}

/* Tells whether a walk had better go on from an event by the index of categories. */
static bool
walks_too_long(const LogRead *read, int64 walked, const EsEvent *event)
{
	const EsNames all = {0};

	if (walked <= WALK * (read->filter->categories.count + read->taken))
		return false;
	/* what follows in a run is not in that index */
	return event->run_length > 0 || !es_names_pass(&read->filter->categories, &all, event);
}

/* Walks over the positions of a range; false if that had better be ended. */
static bool
walk_over_positions(LogRead *read, EsCursorRange range)
{
	EsCursor	cursor;
	bool		goes_on = true;

	range.after = read->passed;
	read->taken = 0;
	es_cursor_open(&cursor, &range);
	for (int64 walked = 0; goes_on && read->left > 0 && cursor.open; walked++)
	{
		goes_on = !walks_too_long(read, walked, &cursor.event);
		if (goes_on)
		{
			(void) take_log_event(read, &cursor);
			es_cursor_advance(&cursor);
		}
	}
	es_cursor_close(&cursor);
	return goes_on;
}

/* Reads on in a range by the index of categories; false if that had better be ended. */
static bool
leap_by_categories(LogRead *read, EsCursorRange range)
{
	EsMerge		merge;
	EsCursor   *cursor = &merge.cursor;
	bool		goes_on = true;

	range.after = read->passed;
	find_category_keys(read);
	es_merge_open(&merge, &range, read->keys, read->nkeys);
	for (int64 leaps = 1; goes_on && read->left > 0 && cursor->open; leaps++)
	{
		(void) take_log_event(read, cursor);
		goes_on = leaps <= read->nkeys || read->passed - range.after > WALK * leaps;
		es_merge_advance(&merge);
	}
	es_merge_close(&merge);
	return goes_on;
}

/* Reads what a segment has that the query asks for, in either direction. */
static void
read_queried_events(LogRead *read, int64 segment)
{
	EsQueryRange range = {.segment = segment,.after = read->passed,.upto = read->upto,
	.backwards = read->filter->backwards,.snapshot = &read->snapshot,.counts = read->filter->counts};
	EsQueryScan scan;

	es_query_open(&scan, &read->question, &range);
	while (read->left > 0 && scan.open)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_log_event_wanted(read, &scan.event))
		{
			es_query_give_out(&scan);
			return_log_event(read, &scan.event, scan.slot);
		}
		if (!read->filter->backwards)
			read->passed = scan.event.position;
		es_query_advance(&scan);
	}
	es_query_close(&scan);
}

/* Reads what one segment has; false if a hole is in the way. */
static bool
read_log_segment(LogRead *read, int64 segment)
{
	const EsNames *categories = &read->filter->categories;
	EsCursorRange range = {.segment = segment,.after = read->passed,.upto = read->upto,
		.without_metadata = read->filter->without_metadata,.without_data = read->filter->without_data,
		.passes_lost = read->filter->passes_lost,
	.snapshot = &read->snapshot,.counts = read->filter->counts};
	int64		last = es_segment_last_position(segment);
	int64		positions = Min(read->upto, last) - read->passed;

	if (!categories->set && !read->filter->query)
		return read_cursor_range(read, &range);
	Assert(read->upto <= read->final);
	if (read->filter->query)
	{
		read_queried_events(read, segment);
		return true;
	}
	if (categories->count == 1)
	{
		find_category_keys(read);
		range.category_key = read->keys;
	}
	if (categories->count == 1 || positions <= WALK * categories->count)
		return read_cursor_range(read, &range);
	while (categories->count > 0 && !walk_over_positions(read, range) && !leap_by_categories(read, range))
		;
	return true;
}

/* ---- reading one segment backwards ---- */

/* Takes the event that a cursor going backwards stands on, and moves it on. */
static void
take_event_backwards(LogRead *read, EsCursor *cursor)
{
	CHECK_FOR_INTERRUPTS();
	if (is_log_event_wanted(read, &cursor->event))
	{
		es_cursor_give_out(cursor);
		return_log_event(read, &cursor->event, cursor->slot);
	}
	es_cursor_advance(cursor);
}

/* Finds the cursor that stands on the last event; NULL if all are closed. */
static EsCursor *
find_last_cursor(EsCursor *cursors, int count)
{
	EsCursor   *last = NULL;

	for (int i = 0; i < count; i++)
		if (cursors[i].open && (last == NULL || cursors[i].event.position > last->event.position))
			last = &cursors[i];
	return last;
}

/*
 * Reads a range of a segment from its end: all of it, by one cursor, or what it has of few
 * categories, by one for each key of theirs.
 */
static void
read_range_backwards(LogRead *read, EsCursorRange range, int nkeys)
{
	int			count = Max(nkeys, 1);
	EsCursor   *cursors = palloc(sizeof(EsCursor) * count);
	EsCursor   *cursor;

	for (int i = 0; i < count; i++)
	{
		range.category_key = nkeys > 0 ? &read->keys[i] : NULL;
		es_cursor_open(&cursors[i], &range);
	}
	while (read->left > 0 && (cursor = find_last_cursor(cursors, count)) != NULL)
		take_event_backwards(read, cursor);
	for (int i = 0; i < count; i++)
		es_cursor_close(&cursors[i]);
	pfree(cursors);
}

/* Reads what one segment has, from its end. */
static void
read_log_segment_backwards(LogRead *read, int64 segment)
{
	const EsNames *categories = &read->filter->categories;
	EsCursorRange range = {.segment = segment,.after = read->passed,.upto = read->upto,.backwards = true,
		.without_metadata = read->filter->without_metadata,.without_data = read->filter->without_data,
		.passes_lost = read->filter->passes_lost,
	.snapshot = &read->snapshot,.counts = read->filter->counts};

	if (read->filter->query)
		read_queried_events(read, segment);
	else if (!categories->set || categories->count > MOST_BACKWARDS)
		read_range_backwards(read, range, 0);
	else if (categories->count > 0)
	{
		find_category_keys(read);
		read_range_backwards(read, range, read->nkeys);
	}
}

/* ---- the read ---- */

/*
 * Takes the snapshot of a read whose bound is known, and looks up what that says of the query.
 * Invalidations come after it, so that how the events are protected is known that it sees.
 */
static void
begin_log_snapshot(LogRead *read)
{
	read->snapshot = RegisterSnapshot(GetLatestSnapshot());
	es_durable_note_snapshot(read->snapshot);
	AcceptInvalidationMessages();
	if (read->filter->query)
		read->question = es_query_ask(read->filter->query, &read->filter->categories, read->passed, read->final, &read->snapshot);
}

/*
 * Reads on with a fresh snapshot; false if a hole is in the way.  Up to where
 * positions are final, all segments are looked up after that was found out, so
 * what is not read has no event.
 */
static bool
read_segments_on(LogRead *read)
{
	bool		whole = true;
	int64		final = Min(read->final, read->upto);
	int64		newest = es_segment_newest_reaching(Max(final, 1));

	begin_log_snapshot(read);
	for (int64 n = es_segment_of(read->passed + 1);
		 whole && read->left > 0 && n <= newest && es_segment_first_position(n) <= read->upto; n++)
		whole = read_log_segment(read, n);
	UnregisterSnapshot(read->snapshot);
	return whole;
}

/* Reads from the bound on backwards, below which all is final. */
static void
read_segments_back(LogRead *read)
{
	int64		newest = es_segment_newest_reaching(read->upto);
	int64		first = es_segment_of(read->passed + 1);
	int64		last = es_segment_of(read->upto);

	begin_log_snapshot(read);
	for (int64 n = Min(last, newest); read->left > 0 && n >= first; n--)
		read_log_segment_backwards(read, n);
	UnregisterSnapshot(read->snapshot);
}

/* Asks for the settled position anew. */
static void
ask_for_settled(LogRead *read)
{
	read->final = es_settle_compute();
}

/* Reads the log when no filter hides holes. */
static void
read_unfiltered(LogRead *read)
{
	read->final = es_settle_known();
	read->final = Max(read->final, read->filter->proven);
	if (read->final < read->passed)
	{
		/*
		 * the caller's starting point is a position in flight, for all we
		 * know
		 */
		ask_for_settled(read);
		if (read->final < read->passed)
			return;
	}
	if (!read_segments_on(read))
	{
		ask_for_settled(read);
		if (read->final > read->passed)
			(void) read_segments_on(read);
	}
	es_settle_learn(Min(read->passed, read->upto));
}

/* es_log_is_whole tells whether a filter lets everything pass: then contiguity can be a proof. */
bool
es_log_is_whole(const EsLogFilter *filter)
{
	return !filter->categories.set && !filter->types.set && !filter->stream_prefix && !filter->query;
}

/* es_log_read reads events in order of position; see log.h. */
int64
es_log_read(EsLogFilter *filter, EsEventCallback callback, void *arg)
{
	LogRead		read = {.filter = filter,.callback = callback,.arg = arg};
	int64		own_first = es_settle_own_first();

	es_pending_flush();
	read.whole = es_log_is_whole(filter);
	read.passed = Max(filter->after, 0);
	read.upto = Min(filter->upto, own_first - 1);
	read.left = filter->max_count;
	if (read.left == 0 || read.passed >= read.upto)
		return read.passed;
	if (read.whole && filter->settled == 0 && !filter->backwards)
		read_unfiltered(&read);
	else
	{
		read.final = filter->settled;
		if (read.final == 0)
			ask_for_settled(&read);
		read.upto = Min(read.upto, read.final);
		if (read.passed < read.upto && filter->backwards)
			read_segments_back(&read);
		else if (read.passed < read.upto && read_segments_on(&read) && read.left > 0)
			read.passed = read.upto;
	}
	es_durable_flush_noted();
	return read.passed;
}

/* ---- SQL ---- */

/*
 * es_log_restrict has a filter pass only what the current user may read.  A category that it
 * names, and that is not among it, is 42501, and so is all of it if that is nothing.
 */
void
es_log_restrict(EsLogFilter *filter)
{
	if (filter->categories.set && filter->categories.count > 0)
	{
		es_right_require_all(ES_RIGHT_READ, &filter->categories);
		return;
	}
	es_right_require_any(ES_RIGHT_READ);
	if (!filter->categories.set)
		(void) es_right_categories(ES_RIGHT_READ, &filter->categories);
}

/*
 * es_log_return reads events that the current user may read into the result of a function,
 * in their newest form if eventstore.upcast says so.
 */
void
es_log_return(EsLogFilter *filter, FunctionCallInfo fcinfo)
{
	EsRenewer	renewer;
	instr_time	start;

	es_counter_start(&start);
	es_log_restrict(filter);
	es_renew_begin(&renewer, es_call_begin_rows(fcinfo));
	(void) es_log_read(filter, es_renew_return_event, &renewer);
	es_read_count(fcinfo, &start);
}

/* Where a stream prefix spells out the category, that narrows the search. */
static void
narrow_by_prefix(EsLogFilter *filter)
{
	const char *prefix = VARDATA_ANY(filter->stream_prefix);
	int			len = VARSIZE_ANY_EXHDR(filter->stream_prefix);
	int			category_len = es_names_category_length(prefix, len);

	if (filter->categories.set || category_len == len)
		return;
	filter->categories = es_names_of_one(cstring_to_text_with_len(prefix, category_len));
}

/* es_log_all_arguments takes the arguments of es_read_all. */
void
es_log_all_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter)
{
	memset(filter, 0, sizeof(*filter));
	filter->after = es_call_position_arg(fcinfo, 0, "after_position");
	filter->max_count = es_call_limit_arg(fcinfo, 1, "max_count");
	filter->categories = es_names_arg(fcinfo, 2, ES_NAME_CATEGORY, "categories");
	filter->types = es_names_arg(fcinfo, 3, ES_NAME_TYPE, "types");
	if (!PG_ARGISNULL(4))
	{
		filter->stream_prefix = PG_GETARG_TEXT_PP(4);
		es_names_check_prefix(filter->stream_prefix);
		narrow_by_prefix(filter);
	}
	filter->upto = es_call_limit_arg(fcinfo, 5, "to_position");
	filter->backwards = es_call_flag_arg(fcinfo, 6, "backwards");
}

/*
 * es_read_all(after_position, max_count, categories, types, stream_prefix,
 * to_position, backwards): events in order of position, or backwards.
 *
 * Reads the log as it stands now, up to where all positions are final; never
 * waits.  Backwards begins there, or at to_position if that comes before.  NULL
 * after_position or backwards is 22004; a negative position or max_count, and what no
 * event can have, 22023.  NULL max_count is unlimited; the filters and to_position are
 * off when NULL.  Gives what the caller has 'read' on; 42501 if that is nothing, or if a
 * category that is named is not among it.
 */
Datum
es_read_all(PG_FUNCTION_ARGS)
{
	EsLogFilter filter;

	es_log_all_arguments(fcinfo, &filter);
	es_log_return(&filter, fcinfo);
	return (Datum) 0;
}

/* es_log_category_arguments takes the arguments of es_read_category. */
void
es_log_category_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter)
{
	text	   *category;

	memset(filter, 0, sizeof(*filter));
	es_call_require(fcinfo, 0, "category");
	category = PG_GETARG_TEXT_PP(0);
	es_names_check(category, ES_NAME_CATEGORY);
	filter->categories = es_names_of_one(category);
	filter->after = es_call_position_arg(fcinfo, 1, "after_position");
	filter->max_count = es_call_limit_arg(fcinfo, 2, "max_count");
	filter->types = es_names_arg(fcinfo, 3, ES_NAME_TYPE, "types");
	filter->upto = es_call_limit_arg(fcinfo, 4, "to_position");
	filter->backwards = es_call_flag_arg(fcinfo, 5, "backwards");
}

/*
 * es_read_category(category, after_position, max_count, types, to_position, backwards):
 * es_read_all for one category, found by index.  NULL category is 22004.
 */
Datum
es_read_category(PG_FUNCTION_ARGS)
{
	EsLogFilter filter;

	es_log_category_arguments(fcinfo, &filter);
	es_log_return(&filter, fcinfo);
	return (Datum) 0;
}
