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
 * position is asked for first and bounds the read.  Where the filter names
 * categories, the (category_key, position) index of each segment is scanned
 * once for each, and the scans are merged by position.
 *
 * This transaction's own events are not returned: its first position is a
 * bound like any transaction's in flight.
 */
#include "log.h"

#include "access/relscan.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "cursor.h"

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
	Snapshot	snapshot;
} LogRead;

PG_FUNCTION_INFO_V1(es_read_all);
PG_FUNCTION_INFO_V1(es_read_category);

/* ---- filters ---- */

/* es_log_has_name tells whether a name is in a set. */
bool
es_log_has_name(const EsNames *names, const char *name, int len)
{
	for (int i = 0; i < names->count; i++)
		if (VARSIZE_ANY_EXHDR(names->names[i]) == len &&
			memcmp(VARDATA_ANY(names->names[i]), name, len) == 0)
			return true;
	return false;
}

/* Tells whether an event passes the filter. */
static bool
passes(const EsLogFilter *filter, const EsEvent *event)
{
	text	   *stream = DatumGetTextPP(event->stream);
	const char *name = VARDATA_ANY(stream);
	int			len = VARSIZE_ANY_EXHDR(stream);

	if (filter->categories.set &&
		!es_log_has_name(&filter->categories, name, es_base_category_length(name, len)))
		return false;
	if (filter->stream_prefix)
	{
		int			prefix_len = VARSIZE_ANY_EXHDR(filter->stream_prefix);

		if (len < prefix_len || memcmp(name, VARDATA_ANY(filter->stream_prefix), prefix_len) != 0)
			return false;
	}
	if (filter->types.set)
	{
		text	   *type = DatumGetTextPP(event->type);

		return es_log_has_name(&filter->types, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	}
	return true;
}

/* ---- reading one segment ---- */

/* The open cursor with the lowest position, or NULL. */
static EsCursor *
lowest(EsCursor *cursors, int n)
{
	EsCursor   *found = NULL;

	for (int i = 0; i < n; i++)
		if (cursors[i].open && (found == NULL || cursors[i].event.position < found->event.position))
			found = &cursors[i];
	return found;
}

/* Takes the event that a cursor stands on; false if it is past a hole that nothing proves empty. */
static bool
take_event(LogRead *read, EsCursor *cursor)
{
	const EsEvent *event = &cursor->event;

	CHECK_FOR_INTERRUPTS();
	if (event->position > read->final && event->position != read->passed + 1)
		return false;
	/* two categories may share a key, and so bring an event twice */
	if (event->position > read->passed && (read->whole || passes(read->filter, event)) &&
		(read->filter->wants == NULL || read->filter->wants(event, read->arg)))
	{
		es_settle_note_row(cursor->slot);
		read->callback(event, read->arg);
		read->left = read->filter->enough ? 0 : read->left - 1;
	}
	read->passed = event->position;
	return true;
}

/* Reads what one segment has; false if a hole is in the way. */
static bool
read_segment(LogRead *read, int64 segment)
{
	const EsNames *categories = &read->filter->categories;
	int			n = categories->set ? categories->count : 1;
	EsCursor   *cursors = palloc(sizeof(EsCursor) * Max(n, 1));
	EsCursor   *cursor;
	EsCursorRange range = {.segment = segment,.after = read->passed,.upto = read->upto,.snapshot = read->snapshot};
	bool		whole = true;

	for (int i = 0; i < n; i++)
	{
		range.category = categories->set ? categories->names[i] : NULL;
		es_cursor_open(&cursors[i], &range);
	}
	while (whole && read->left > 0 && (cursor = lowest(cursors, n)) != NULL)
	{
		whole = take_event(read, cursor);
		if (whole)
			es_cursor_advance(cursor);
	}
	for (int i = 0; i < n; i++)
		es_cursor_close(&cursors[i]);
	pfree(cursors);
	return whole;
}

/* ---- the read ---- */

/*
 * Reads on with a fresh snapshot; false if a hole is in the way.  Up to where
 * positions are final, all segments are looked up after that was found out, so
 * what is not read has no event.
 */
static bool
read_on(LogRead *read)
{
	bool		whole = true;
	int64		final = Min(read->final, read->upto);
	int64		newest = es_segment_newest_reaching(Max(final, 1));

	read->snapshot = RegisterSnapshot(GetLatestSnapshot());
	es_settle_note_snapshot(read->snapshot);
	for (int64 n = es_segment_of(read->passed + 1);
		 whole && read->left > 0 && n <= newest && es_segment_first_position(n) <= read->upto; n++)
		whole = read_segment(read, n);
	UnregisterSnapshot(read->snapshot);
	return whole;
}

/* Asks for the settled position anew. */
static void
prove(LogRead *read)
{
	read->final = es_settle_compute();
}

/* Reads the log when no filter hides holes. */
static void
read_whole(LogRead *read)
{
	read->final = es_settle_known();
	if (read->final < read->passed)
	{
		/*
		 * the caller's starting point is a position in flight, for all we
		 * know
		 */
		prove(read);
		if (read->final < read->passed)
			return;
	}
	if (!read_on(read))
	{
		prove(read);
		if (read->final > read->passed)
			(void) read_on(read);
	}
	es_settle_learn(Min(read->passed, read->upto));
}

/* es_log_read reads events in order of position; see log.h. */
int64
es_log_read(EsLogFilter *filter, EsEventCallback callback, void *arg)
{
	LogRead		read = {.filter = filter,.callback = callback,.arg = arg};
	int64		own_first = es_settle_own_first();

	es_base_flush_pending();
	read.whole = !filter->categories.set && !filter->types.set && !filter->stream_prefix;
	read.passed = Max(filter->after, 0);
	read.upto = Min(filter->upto, own_first - 1);
	read.left = filter->max_count;
	if (read.left == 0 || read.passed >= read.upto)
		return read.passed;
	if (read.whole && filter->settled == 0)
		read_whole(&read);
	else
	{
		read.final = filter->settled;
		if (read.final == 0)
			prove(&read);
		read.upto = Min(read.upto, read.final);
		if (read.passed < read.upto && read_on(&read) && read.left > 0)
			read.passed = read.upto;
	}
	es_settle_flush_noted();
	return read.passed;
}

/* ---- SQL ---- */

/* es_log_names_of takes the names from an array of text; nulls are 22004. */
void
es_log_names_of(EsNames *names, ArrayType *array, const char *name)
{
	Datum	   *elements;
	bool	   *isnull;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &isnull, &names->count);
	names->set = true;
	names->names = palloc(sizeof(text *) * Max(names->count, 1));
	for (int i = 0; i < names->count; i++)
	{
		if (isnull[i])
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("%s must not contain nulls", name));
		names->names[i] = DatumGetTextPP(elements[i]);
	}
}

/* es_log_names_of_column takes the names from a column, in the current memory context; NULL lets everything pass. */
void
es_log_names_of_column(EsNames *names, Datum value, bool isnull)
{
	memset(names, 0, sizeof(*names));
	if (!isnull)
		es_log_names_of(names, DatumGetArrayTypePCopy(value), "names");
}

/* es_log_names_arg fetches a text[] argument; NULL lets everything pass. */
void
es_log_names_arg(EsNames *names, FunctionCallInfo fcinfo, int argno, const char *name)
{
	memset(names, 0, sizeof(*names));
	if (!PG_ARGISNULL(argno))
		es_log_names_of(names, PG_GETARG_ARRAYTYPE_P(argno), name);
}

/* es_log_return_event, a callback, puts an event into the ReturnSetInfo that it is given. */
void
es_log_return_event(const EsEvent *event, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	es_base_event_values(event, values, isnull);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* Where a stream prefix spells out the category, that narrows the search. */
static void
narrow_by_prefix(EsLogFilter *filter)
{
	const char *prefix = VARDATA_ANY(filter->stream_prefix);
	int			len = VARSIZE_ANY_EXHDR(filter->stream_prefix);
	int			category_len = es_base_category_length(prefix, len);

	if (filter->categories.set || category_len == len)
		return;
	filter->categories.set = true;
	filter->categories.count = 1;
	filter->categories.names = palloc(sizeof(text *));
	filter->categories.names[0] = cstring_to_text_with_len(prefix, category_len);
}

/*
 * es_read_all(after_position, max_count, categories, types, stream_prefix,
 * to_position): events in order of position.
 *
 * Reads the log as it stands now, up to where all positions are final; never
 * waits.  NULL after_position is 22004, a negative max_count 22023, NULL
 * max_count is unlimited; the filters and to_position are off when NULL.
 */
Datum
es_read_all(PG_FUNCTION_ARGS)
{
	EsLogFilter filter = {0};

	es_base_require(fcinfo, 0, "after_position");
	filter.after = PG_GETARG_INT64(0);
	filter.max_count = es_base_limit_arg(fcinfo, 1, "max_count");
	es_log_names_arg(&filter.categories, fcinfo, 2, "categories");
	es_log_names_arg(&filter.types, fcinfo, 3, "types");
	if (!PG_ARGISNULL(4))
	{
		filter.stream_prefix = PG_GETARG_TEXT_PP(4);
		narrow_by_prefix(&filter);
	}
	filter.upto = PG_ARGISNULL(5) ? PG_INT64_MAX : PG_GETARG_INT64(5);
	(void) es_base_begin_rows(fcinfo);
	es_log_read(&filter, es_log_return_event, fcinfo->resultinfo);
	return (Datum) 0;
}

/*
 * es_read_category(category, after_position, max_count, types, to_position):
 * es_read_all for one category, found by index.  NULL category is 22004.
 */
Datum
es_read_category(PG_FUNCTION_ARGS)
{
	EsLogFilter filter = {0};
	text	   *category;

	es_base_require(fcinfo, 0, "category");
	es_base_require(fcinfo, 1, "after_position");
	category = PG_GETARG_TEXT_PP(0);
	filter.categories.set = true;
	filter.categories.count = 1;
	filter.categories.names = &category;
	filter.after = PG_GETARG_INT64(1);
	filter.max_count = es_base_limit_arg(fcinfo, 2, "max_count");
	es_log_names_arg(&filter.types, fcinfo, 3, "types");
	filter.upto = PG_ARGISNULL(4) ? PG_INT64_MAX : PG_GETARG_INT64(4);
	(void) es_base_begin_rows(fcinfo);
	es_log_read(&filter, es_log_return_event, fcinfo->resultinfo);
	return (Datum) 0;
}
