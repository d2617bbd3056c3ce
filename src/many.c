/*
 * many.c
 *		es_append_many: one call over many streams.
 */
#include "append.h"

PG_FUNCTION_INFO_V1(es_append_many);

/*
 * es_append_many(events): appends events to many streams, all or nothing, in
 * the given order, and returns a row for each.
 *
 * An element without "type" only checks its stream's expected_version, and
 * gives no row.  VE001 lists every stream that is not as expected in its
 * DETAIL, a JSON array.  NULL is 22004, what is no such array 22023.  Two such
 * calls never deadlock each other, whatever the order of their streams.
 */
Datum
es_append_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EsAppend	append = {0};

	es_base_require(fcinfo, 0, "events");
	es_request_many_from_json(&append, PG_GETARG_JSONB_P(0));
	(void) es_base_begin_rows(fcinfo);
	es_append_run(&append);
	for (int i = 0; i < append.count; i++)
	{
		const EsNewEvent *event = &append.events[i];
		Datum		values[3];
		bool		isnull[3] = {false, false, false};

		values[0] = PointerGetDatum(event->target->stream);
		values[1] = Int64GetDatum(event->version);
		values[2] = Int64GetDatum(event->position);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
