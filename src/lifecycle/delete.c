/*
 * delete.c
 *		Deleting streams.
 *
 * A stream is deleted by an event, which is appended as any other is and is the
 * stream's last for good: it takes a version and a position, excludes other appends,
 * goes into the inline projections, and every follower of the log gets it in its place.
 * The stream's row says the same for those who read the stream or append to it
 * (append/attempt.c).  Nothing is removed: the log keeps the stream's events.
 */
#include "base/base.h"

#include "utils/builtins.h"

#include "append/append.h"
#include "append/request.h"
#include "base/call.h"
#include "base/event.h"
#include "base/names.h"

PG_FUNCTION_INFO_V1(es_delete_stream);

/*
 * es_delete_stream(stream, expected_version): deletes a stream by appending an event
 * of type $stream-deleted.
 *
 * Once it is deleted every append to it is VE003; deleting it again does nothing,
 * whatever version is expected.  A stream that never had an event can be deleted, too:
 * then it never will have another.  VE001 if the stream is not as expected.  NULL
 * stream is 22004, NULL expected_version any.  Waits as an append does, and a rollback
 * takes it back.
 */
Datum
es_delete_stream(PG_FUNCTION_ARGS)
{
	EsNewEvent	event = {0};
	EsTarget	target = {0};
	EsAppend	append = {.targets = &target,.ntargets = 1,.events = &event,.count = 1,.deletes = true};

	target.stream = es_call_stream_arg(fcinfo, 0);
	es_request_expectation(&target, fcinfo, 1);
	event.type = cstring_to_text(ES_TYPE_STREAM_DELETED);
	event.data = event.metadata = es_event_empty_object();
	es_request_add_event(&target, &event);
	es_append_run(&append);
	PG_RETURN_VOID();
}
