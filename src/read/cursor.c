/*
 * cursor.c
 *		A segment's events in order of position: all, or those of the categories of one key.
 *
 * All events: the position index.  One category: the (category_key, position)
 * index, which has only the events that open a run.  A run is a row of events
 * that one call wrote to a segment at successive positions, all of one
 * category; its first event knows its length, the others have run_length 0.
 * So a bulk load costs that index next to nothing, and a single append, which
 * is a run of one, costs the reader nothing.
 *
 * The rest of a run is read from the position index.  A run is written by one
 * (sub)transaction, so a snapshot sees all of it or nothing, but for what has been removed
 * since (lifecycle/remove.c): that leaves holes, and if it was the first event, another
 * one has become the first.  So a run goes on over holes, up to an event that begins
 * another one or is of another category.  A range that begins inside a run begins with an
 * event of run_length 0 of the category.
 *
 * Backwards a run is met by what opens it, and read from its end; runs do not overlap, so
 * one that ends before the range is the last one looked at.
 *
 * Categories may share a key: the caller compares names, and has one cursor for each key.
 *
 * A segment that is lost is an error, as nobody knows what it had, unless the reader says
 * that it does not matter.  So is an index that leads to another row than it says: the server
 * gives out whatever is there, and what is there has its position, which then does not follow the
 * one before.
 */
#include "read/cursor.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"

#include "base/error.h"
#include "log/segment.h"

/* Raises an error: the index has led to an event that is not in its place. */
static void
refuse_misplaced(const EsCursor *cursor, const EsSegmentScan *s)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_STORE_CORRUPT),
			errmsg("index \"%s\" leads from position " INT64_FORMAT " to position " INT64_FORMAT,
				   RelationGetRelationName(s->index), cursor->last, cursor->event.position),
			errhint("Use REINDEX INDEX eventstore.%s, then es_verify() and amcheck for the rest of the log.",
					RelationGetRelationName(s->index)));
}

/*
 * es_cursor_accept takes the event that has been read from a scan as the cursor's next
 * one, if it is in its place.
 */
void
es_cursor_accept(EsCursor *cursor, EsSegmentScan *s)
{
	int64		position = cursor->event.position;

	if (unlikely(position > cursor->range.upto ||
				 (cursor->range.backwards ? position >= cursor->last || position <= cursor->range.after :
				  position <= cursor->last)))
		refuse_misplaced(cursor, s);
	cursor->last = position;
	cursor->slot = s->slot;
}

/* Starts the scan for the rest of a run, whose next position is known. */
static void
open_rest_of_run(EsCursor *cursor)
{
	EsSegmentScan *s = &cursor->rest;

	memset(s, 0, sizeof(*s));
	s->which = ES_INDEX_POSITION;
	s->fresh = cursor->range.snapshot;
	s->needed = !cursor->range.passes_lost;
	s->own_slot = true;
	s->backwards = cursor->range.backwards;
	s->by_page = true;
	s->without_metadata = cursor->range.without_metadata;
	s->without_data = cursor->range.without_data;
	s->counts = cursor->range.counts;
	s->nkeys = 2;
	ScanKeyInit(&s->keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(cursor->rest_next));
	ScanKeyInit(&s->keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(cursor->rest_upto));
	cursor->rest_open = es_scan_begin(s, cursor->range.segment);
}

/* Ends the scan for the rest of a run. */
static void
close_rest_of_run(EsCursor *cursor)
{
	if (cursor->rest_open)
		es_scan_end(&cursor->rest);
	cursor->rest_open = false;
	cursor->rest_next = 0;
}

/* es_cursor_next_in_run moves to the next event of the run; false if it is over. */
bool
es_cursor_next_in_run(EsCursor *cursor)
{
	if (cursor->rest_next == 0)
		return false;
	if (!cursor->rest_open)
		open_rest_of_run(cursor);
	if (cursor->rest_open &&
		es_scan_next(&cursor->rest, ForwardScanDirection))
	{
		es_scan_event(&cursor->rest, &cursor->event);
		if (cursor->event.run_length == 0 && cursor->event.category_key == cursor->category_key)
		{
			es_cursor_accept(cursor, &cursor->rest);
			cursor->rest_next = cursor->event.position + 1;
			return true;
		}
	}
	close_rest_of_run(cursor);
	return false;
}

/* es_cursor_begin_run notes what follows the event that has been found, if that opens a run. */
void
es_cursor_begin_run(EsCursor *cursor)
{
	cursor->rest_upto = Min(cursor->event.position + cursor->event.run_length - 1,
							cursor->range.upto);
	if (cursor->rest_upto > cursor->event.position)
		cursor->rest_next = cursor->event.position + 1;
}

/* ---- backwards ---- */

/* Goes back to the event before in the rest of a run; false if that is over. */
static bool
go_back_in_run(EsCursor *cursor)
{
	if (!cursor->rest_open)
		return false;
	if (es_scan_next(&cursor->rest, BackwardScanDirection))
	{
		es_scan_event(&cursor->rest, &cursor->event);
		es_cursor_accept(cursor, &cursor->rest);
		return true;
	}
	close_rest_of_run(cursor);
	return false;
}

/*
 * Begins the run of the event that has been found, from its end; false if all of it
 * comes before the range, as then do all runs before it.
 */
static bool
begin_run_at_end(EsCursor *cursor)
{
	int64		position = cursor->event.position;

	cursor->rest_next = Max(position, cursor->range.after) + 1;
	cursor->rest_upto = Min(position + cursor->event.run_length - 1, cursor->range.upto);
	cursor->opener_left = position > cursor->range.after;
	if (cursor->rest_next <= cursor->rest_upto)
		open_rest_of_run(cursor);
	return cursor->opener_left || cursor->rest_open;
}

/* Moves to the event before; false if there is none. */
static bool
go_back(EsCursor *cursor)
{
	for (;;)
	{
		if (go_back_in_run(cursor))
			return true;
		if (!cursor->opener_left &&
			!(cursor->scan_open && es_scan_next(&cursor->scan, BackwardScanDirection)))
			return false;
		es_scan_event(&cursor->scan, &cursor->event);
		if (cursor->range.category_key == NULL || cursor->opener_left)
		{
			es_cursor_accept(cursor, &cursor->scan);
			cursor->opener_left = false;
			return true;
		}
		if (!begin_run_at_end(cursor))
			return false;
	}
}

/* ---- the cursor ---- */

/* es_cursor_advance moves to the next event; the cursor closes at the end. */
void
es_cursor_advance(EsCursor *cursor)
{
	if (cursor->range.backwards)
	{
		if (!go_back(cursor))
			es_cursor_close(cursor);
		return;
	}
	if (es_cursor_next_in_run(cursor))
		return;
	if (cursor->scan_open &&
		es_scan_next(&cursor->scan, ForwardScanDirection))
	{
		es_scan_event(&cursor->scan, &cursor->event);
		es_cursor_accept(cursor, &cursor->scan);
		if (cursor->range.category_key)
			es_cursor_begin_run(cursor);
		return;
	}
	es_cursor_close(cursor);
}

/*
 * es_cursor_open opens a cursor and moves it to its first event; open tells whether
 * there is one.
 */
void
es_cursor_open(EsCursor *cursor, const EsCursorRange *range)
{
	EsSegmentScan *s = &cursor->scan;
	AttrNumber	position_key = range->category_key ? 2 : 1;

	memset(cursor, 0, sizeof(*cursor));
	cursor->range = *range;
	cursor->last = range->backwards ? PG_INT64_MAX : range->after;
	s->which = range->category_key ? ES_INDEX_CATEGORY : ES_INDEX_POSITION;
	s->fresh = range->snapshot;
	s->needed = !range->passes_lost;
	s->own_slot = true;
	s->backwards = range->backwards;
	s->by_page = true;
	s->without_metadata = range->without_metadata;
	s->without_data = range->without_data;
	s->counts = range->counts;
	if (range->category_key)
	{
		cursor->category_key = *range->category_key;
		ScanKeyInit(&s->keys[s->nkeys++], 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(cursor->category_key));
		/* the range may begin inside a run */
		cursor->rest_next = range->backwards ? 0 : range->after + 1;
		cursor->rest_upto = range->upto;
	}
	/* and if it is gone through from its end, that is met last */
	if (!range->backwards || !range->category_key)
		ScanKeyInit(&s->keys[s->nkeys++], position_key, BTGreaterStrategyNumber, F_INT8GT,
					Int64GetDatum(range->after));
	ScanKeyInit(&s->keys[s->nkeys++], position_key, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(range->upto));
	cursor->open = cursor->scan_open = es_scan_begin(s, range->segment);
	if (cursor->open)
		es_cursor_advance(cursor);
}

/*
 * es_cursor_give_out sees to it that the event that a cursor stands on stays
 * readable to the end of the transaction.
 */
void
es_cursor_give_out(EsCursor *cursor)
{
	es_scan_give_out(cursor->rest_open && cursor->slot == cursor->rest.slot ? &cursor->rest : &cursor->scan,
					 &cursor->event);
}

/* es_cursor_close closes a cursor; closing it again does nothing. */
void
es_cursor_close(EsCursor *cursor)
{
	close_rest_of_run(cursor);
	if (cursor->scan_open)
		es_scan_end(&cursor->scan);
	cursor->scan_open = false;
	cursor->open = false;
}
