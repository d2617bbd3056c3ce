/*
 * outlet.c
 *		What a promotion has cost: what SQL cannot ask.
 *
 * The looks themselves are in outlet.sql.
 */
#include "base/base.h"

#include "log/scan.h"

PG_FUNCTION_INFO_V1(es_outlet_last_event_upto);

/*
 * eventstore.last_event_upto(position): the position of the last event in the segment of a
 * position, or in those before it; 0 if there is none.
 */
Datum
es_outlet_last_event_upto(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(es_scan_last_position(PG_GETARG_INT64(0)));
}
