/*
 * single.c
 *		es_append, es_append_batch, es_append_events: calls over one stream.
 */
#include "append.h"

PG_FUNCTION_INFO_V1(es_append);
PG_FUNCTION_INFO_V1(es_append_batch);
PG_FUNCTION_INFO_V1(es_append_events);

/*
 * es_append(stream, type, data, metadata, expected_version, event_id): appends
 * one event and returns its version.
 *
 * NULL stream, type or data is 22004, NULL metadata {}, NULL event_id a new
 * UUIDv7, NULL expected_version any.  Bad names, metadata that is no object:
 * 22023; too large: 54000.  VE001 if the stream is not as expected, VE003 if it is deleted.
 * Waits for a transaction that has appended to the stream and not ended.
 * A rollback takes the event back; its position stays empty.
 */
Datum
es_append(PG_FUNCTION_ARGS)
{
	EsNewEvent	event = {0};
	EsTarget	target = {0};
	EsAppend	append = {.targets = &target,.ntargets = 1,.events = &event,.count = 1};

	target.stream = es_base_stream_arg(fcinfo, 0);
	es_base_require(fcinfo, 1, "type");
	es_base_require(fcinfo, 2, "data");
	event.type = PG_GETARG_TEXT_PP(1);
	event.data = PG_GETARG_DATUM(2);
	event.metadata = PG_ARGISNULL(3) ? es_request_empty_object() : PG_GETARG_DATUM(3);
	es_request_expectation(&target, fcinfo, 4);
	event.id_given = !PG_ARGISNULL(5);
	if (event.id_given)
		event.id = *PG_GETARG_UUID_P(5);
	es_request_check_event(&event, target.stream, 0);
	es_request_add_event(&target, &event);
	es_append_run(&append);
	PG_RETURN_INT64(target.version);
}

/* Appends the events that a function takes from argument 1. */
static Datum
append_all(FunctionCallInfo fcinfo, void (*take) (EsAppend *, EsTarget *, Datum))
{
	EsTarget	target = {0};
	EsAppend	append = {.targets = &target,.ntargets = 1};

	target.stream = es_base_stream_arg(fcinfo, 0);
	es_base_require(fcinfo, 1, "events");
	es_request_expectation(&target, fcinfo, 2);
	take(&append, &target, PG_GETARG_DATUM(1));
	es_append_run(&append);
	PG_RETURN_INT64(target.version);
}

/*
 * es_append_batch(stream, events, expected_version): appends a JSON array of
 * {"type", "data"?, "metadata"?, "event_id"?}, all or nothing, contiguous in
 * version, and returns the last version.
 *
 * An empty array checks the expectation and returns the stream's version.
 * Anything but such an array is 22023; the rest is as for es_append.
 */
Datum
es_append_batch(PG_FUNCTION_ARGS)
{
	return append_all(fcinfo, es_request_from_json);
}

/*
 * es_append_events(stream, events, expected_version): es_append_batch for an
 * es_new_event[].  NULL elements, and elements without type or data, are 22004.
 */
Datum
es_append_events(PG_FUNCTION_ARGS)
{
	return append_all(fcinfo, es_request_from_array);
}
