/*
 * cursor.h
 *		A segment's events in order of position: all, or those of the categories of one key.
 */
#ifndef ES_READ_CURSOR_H
#define ES_READ_CURSOR_H

#include "base/base.h"

#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "log/scan.h"

/* What a cursor goes over. */
typedef struct EsCursorRange
{
	int64		segment;
	int64		after;			/* positions after this one */
	int64		upto;			/* and up to this one */
	const int32 *category_key;	/* of the categories that have this one; NULL:
								 * all */
	bool		backwards;		/* from its end */
	bool		without_metadata;	/* of events */
	bool		without_data;	/* it is there, but is not looked at */
	bool		passes_lost;	/* a segment that is lost has nothing */
	Snapshot   *snapshot;		/* fresh; renewed if the segment was rewritten
								 * since */
	EsScanCounts *counts;		/* or NULL */
} EsCursorRange;

typedef struct EsCursor
{
	bool		open;			/* stands on an event */
	EsEvent		event;			/* the event */
	TupleTableSlot *slot;		/* that holds it */

	EsCursorRange range;
	int64		last;			/* position of the event before; at first of
								 * none that there can be */
	int32		category_key;
	EsSegmentScan scan;			/* all events, or those that open runs */
	bool		scan_open;
	EsSegmentScan rest;			/* what follows in a run */
	bool		rest_open;
	int64		rest_next;		/* position that is next in the run; 0: none */
	int64		rest_upto;
	bool		opener_left;	/* backwards: what opened the run comes after
								 * the rest */
} EsCursor;

extern void es_cursor_open(EsCursor *cursor, const EsCursorRange *range);
extern void es_cursor_advance(EsCursor *cursor);
extern void es_cursor_give_out(EsCursor *cursor);
extern void es_cursor_close(EsCursor *cursor);

/* Runs, for who finds the events that open them. */
extern void es_cursor_begin_run(EsCursor *cursor);
extern bool es_cursor_next_in_run(EsCursor *cursor);
extern void es_cursor_accept(EsCursor *cursor, EsSegmentScan *s);

#endif							/* ES_READ_CURSOR_H */
