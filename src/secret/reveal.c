/*
 * reveal.c
 *		Data with protected fields, given out plain: es_reveal, and what es_events asks.
 *
 * In a plan over es_events the question costs a call for each row, and keeps conditions on data
 * from indexes that users have made over expressions.  So where nothing is protected, the
 * support function gives the planner the stored data in its place.  That plan depends on
 * eventstore.protections, as plans do on tables, and is made anew once something is
 * protected.
 */
#include "base/base.h"

#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/pg_list.h"
#include "nodes/supportnodes.h"
#include "utils/inval.h"
#include "utils/jsonb.h"

#include "base/call.h"
#include "base/event.h"
#include "rights/right.h"
#include "secret/field.h"
#include "secret/protection.h"

PG_FUNCTION_INFO_V1(es_reveal);
PG_FUNCTION_INFO_V1(es_reveal_plain);
PG_FUNCTION_INFO_V1(es_reveal_support);

/*
 * es_reveal(stream, type, data): the data of an event with its protected fields plain.
 *
 * For who has 'read' on the stream's category, else 42501.  Fields of a shredded subject are
 * null; what is not encrypted stays as it is.  NULL data gives NULL, NULL stream or type is
 * 22004.  55000 if the master key is not to be had; VE008 for an encrypted field that is not as
 * it was encrypted, or of another stream, type or place.
 */
Datum
es_reveal(PG_FUNCTION_ARGS)
{
	text	   *stream = es_call_stream_arg(fcinfo, 0);

	es_right_require_stream(ES_RIGHT_READ, stream);
	es_call_require(fcinfo, 1, "type");
	if (PG_ARGISNULL(2))
		PG_RETURN_NULL();
	AcceptInvalidationMessages();
	if (!es_protection_any())
		PG_RETURN_DATUM(PG_GETARG_DATUM(2));
	PG_RETURN_DATUM(es_field_reveal_data(stream, PG_GETARG_TEXT_PP(1), PG_GETARG_DATUM(2)));
}

/*
 * eventstore.plain(data, stream, type, position, event_id): the data of a stored event
 * plain.  For who has 'read' on the stream's category, else 42501.
 */
Datum
es_reveal_plain(PG_FUNCTION_ARGS)
{
	EsEvent		event = {.data = PG_GETARG_DATUM(0),.stream = PG_GETARG_DATUM(1),.type = PG_GETARG_DATUM(2),
	.position = PG_GETARG_INT64(3),.event_id = *PG_GETARG_UUID_P(4)};

	if (fcinfo->flinfo->fn_extra == NULL)
	{
		/* the snapshot is taken: what it sees was defined before */
		AcceptInvalidationMessages();
		fcinfo->flinfo->fn_extra = fcinfo->flinfo;
	}
	if (es_protection_any())
	{
		es_right_require_stream(ES_RIGHT_READ, PG_GETARG_TEXT_PP(1));
		(void) es_field_reveal(&event);
	}
	PG_RETURN_DATUM(event.data);
}

/* eventstore.plain_support(internal): plain's support function; see the head. */
Datum
es_reveal_support(PG_FUNCTION_ARGS)
{
	const Node *node = (const Node *) PG_GETARG_POINTER(0);
	const SupportRequestSimplify *request = (const SupportRequestSimplify *) node;

	if (!IsA(node, SupportRequestSimplify) || request->root == NULL || es_protection_any())
		PG_RETURN_POINTER(NULL);
	es_protection_note_plan(request->root);
	PG_RETURN_POINTER(linitial(request->fcall->args));
}
