/*
 * lag.c
 *		How far consumers are behind.
 *
 * A lag counts to the last position ever given out.  To count to the settled position
 * would hide the worst: one open transaction stops every consumer, and each would be
 * up to date.  On a hot standby the sequence's page may be up to 32 numbers ahead of
 * what was given out, as after a crash, but here nothing settles these; and on a
 * logical subscriber the sequence stands still.  There the last row of the log that is
 * visible counts, or the settled position if that is further.
 *
 * The time that a consumer is behind is the age of the first event after its checkpoint
 * that it wants, among those that are committed, whether they are settled or not.  It
 * is looked for in the log, by the index of categories where there are any, and by that
 * of tags for a query whose items all have some.  A filter by types, any other query, or
 * a partition's hash may have to pass many events, and any may have to pass many segments.
 * One statement passes at most es_lag_looks events, for all consumers together, a segment
 * counting for SEGMENT_LOOKS; where it gives up, the event that it has come to stands for the
 * one it looks for, which is not older.  It goes on by index where it can, until it has opened as
 * many segments again.
 *
 * What a detached segment has cannot be looked at, and is left out.
 */
#include "read/lag.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "read/log.h"
#include "table/rows.h"

#define SEGMENT_LOOKS	100		/* that it costs to open one */

int64		es_lag_looks = ES_LAG_LOOKS;

PG_FUNCTION_INFO_V1(es_log_ends);
PG_FUNCTION_INFO_V1(es_lag_time);

/* ---- where the log ends ---- */

/* Finds the last position after one that has a visible row; that one if there is none. */
static int64
find_last_visible(int64 after)
{
	int64		first = es_segment_of(after + 1);

	for (int64 n = es_segment_newest_reaching(PG_INT64_MAX); n >= first; n--)
	{
		Snapshot	snapshot = es_rows_fresh_snapshot();
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true,.nkeys = 1};
		Datum		position;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
		position = es_scan_edge(&scan, n, BackwardScanDirection, Anum_es_events_position, &isnull);
		UnregisterSnapshot(snapshot);
		if (!isnull)
			return DatumGetInt64(position);
	}
	return after;
}

/*
 * log_ends(OUT settled, OUT last): the settled position, and the last one that was given
 * out, as far as that is known where positions are given out elsewhere.
 *
 * Waits for nobody; NULLs to who has no right on anything.  Behind the views that tell lags.
 */
Datum
es_log_ends(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = es_call_result_desc(fcinfo);
	Datum		values[2] = {0, 0};
	bool		isnull[2] = {true, true};
	int64		settled;
	int64		last;

	if (es_right_has_any(ES_RIGHTS_ALL))
	{
		settled = es_settle_compute();
		last = RecoveryInProgress() || es_subscriber_is() ? find_last_visible(settled) : es_settle_last_given();
		values[0] = Int64GetDatum(settled);
		values[1] = Int64GetDatum(Max(settled, last));
		isnull[0] = isnull[1] = false;
	}
	return HeapTupleGetDatum(heap_form_tuple(desc, values, isnull));
}

/* ---- the oldest event that is not taken in ---- */

/* A search on its way. */
typedef struct LagSearch
{
	const EsLag *lag;
	int64	   *looks;			/* that are left */
	const EsQuery *query;		/* that no index helps with; or NULL */
	MemoryContext context;		/* for a look at one event; with a query */
	bool		found;
	TimestampTz recorded_at;
} LagSearch;

/* Tells whether an event matches what is left to match of the query. */
static bool
matches_lag_query(const LagSearch *search, const EsEvent *event)
{
	MemoryContext old;
	bool		matches;

	if (search->query == NULL)
		return true;
	old = MemoryContextSwitchTo(search->context);
	matches = es_match_query(search->query, event);
	MemoryContextSwitchTo(old);
	MemoryContextReset(search->context);
	return matches;
}

/* Tells whether an event ends the search: the consumer wants it, or enough have been looked at. */
static bool
ends_lag_search(const EsEvent *event, void *arg)
{
	LagSearch  *search = arg;
	const EsLag *lag = search->lag;
	const EsNames all = {0};

	if (--*search->looks < 0)
		return true;
	return es_names_pass(&all, &lag->types, event) && matches_lag_query(search, event) &&
		(lag->wants == NULL || lag->wants(event, lag->arg));
}

/* Notes the event that ends the search. */
static void
note_oldest_event(const EsEvent *event, void *arg)
{
	LagSearch  *search = arg;

	search->found = true;
	search->recorded_at = event->recorded_at;
}

/* Searches one segment, if it is there. */
static void
search_segment(LagSearch *search, int64 segment)
{
	EsLogFilter filter = {.settled = search->lag->last,.max_count = 1,.wants = ends_lag_search};
	int64		before = es_segment_first_position(segment) - 1;
	int64		last = es_segment_last_position(segment);
	bool		lost;
	Relation	rel = es_segment_open(segment, AccessShareLock, &lost);

	if (rel == NULL)
		return;
	*search->looks -= SEGMENT_LOOKS;
	if (*search->looks >= -es_lag_looks)
	{
		filter.categories = search->lag->categories;
		filter.query = search->query ? NULL : search->lag->query;
	}
	filter.after = Max(search->lag->after, before);
	filter.upto = Min(search->lag->last, last);
	(void) es_log_read(&filter, note_oldest_event, search);
	table_close(rel, AccessShareLock);
}

/*
 * es_lag_find_oldest tells when the oldest event was recorded that a consumer has not
 * taken in; false if there is none.  *looks is how many more events may be looked at;
 * once there are none left, the time may be that of an earlier event.
 */
bool
es_lag_find_oldest(const EsLag *lag, int64 *looks, TimestampTz *recorded_at)
{
	LagSearch	search = {.lag = lag,.looks = looks};
	int64		newest;
	int64		last;

	if (lag->after >= lag->last)
		return false;
	if (lag->query && !lag->query->all_tagged)
	{
		search.query = lag->query;
		search.context = AllocSetContextCreate(CurrentMemoryContext, "eventstore lag", ALLOCSET_SMALL_SIZES);
	}
	newest = es_segment_newest_reaching(lag->last);
	last = es_segment_of(lag->last);
	for (int64 n = es_segment_of(lag->after + 1); n <= Min(newest, last) && !search.found; n++)
		search_segment(&search, n);
	if (search.context)
		MemoryContextDelete(search.context);
	*recorded_at = search.recorded_at;
	return search.found;
}

/* ---- for views ---- */

/* The number of events that the statement which calls a function may still look at. */
static int64 *
remaining_looks(FmgrInfo *function)
{
	if (function->fn_extra == NULL)
	{
		function->fn_extra = MemoryContextAlloc(function->fn_mcxt, sizeof(int64));
		*(int64 *) function->fn_extra = es_lag_looks;
	}
	return function->fn_extra;
}

/* es_lag_age gives the age of an event as an interval. */
Datum
es_lag_age(TimestampTz recorded_at)
{
	TimestampTz now = GetCurrentTimestamp();

	return DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(Max(now, recorded_at)),
							   TimestampTzGetDatum(recorded_at));
}

/*
 * lag_time(after, last, categories, types): the age of the oldest event between two
 * positions that is of these categories and types (NULL: all).
 *
 * NULL if there is none, for a NULL position, and without 'read' or 'admin' on the categories.
 * Behind the view es_projections.
 */
Datum
es_lag_time(PG_FUNCTION_ARGS)
{
	EsLag		lag = {0};
	TimestampTz recorded_at;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	lag.after = Max(PG_GETARG_INT64(0), 0);
	lag.last = PG_GETARG_INT64(1);
	if (lag.after >= lag.last)
		PG_RETURN_NULL();
	lag.categories = es_names_of_column(PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	lag.types = es_names_of_column(PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	if (!es_right_has_all(ES_RIGHT_READ | ES_RIGHT_ADMIN, &lag.categories))
		PG_RETURN_NULL();
	if (!es_lag_find_oldest(&lag, remaining_looks(fcinfo->flinfo), &recorded_at))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(es_lag_age(recorded_at));
}
