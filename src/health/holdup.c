/*
 * holdup.c
 *		Who holds positions back, and whether they can go on: what SQL cannot ask.
 *
 * The looks themselves are in holdup.sql.
 */
#include "base/base.h"

#include "log/timeline.h"

PG_FUNCTION_INFO_V1(es_holdup_event_beyond);

/* eventstore.event_beyond(position): the last event's position if it is beyond one, else 0. */
Datum
es_holdup_event_beyond(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_timeline_event_beyond(PG_GETARG_INT64(0)));
}
