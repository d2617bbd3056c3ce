/*
 * refusal.c
 *		Why an append is refused, and saying so: VE001 and VE003.
 */
#include "append/refusal.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/error.h"

/* The expectation as the caller stated it; NULL for any. */
static char *
describe_expected(const EsTarget *target)
{
	if (target->expectation == ES_EXPECT_ANY)
		return NULL;
	return psprintf(INT64_FORMAT, target->expectation == ES_EXPECT_EXISTS ?
					(int64) -1 : target->expected_version);
}

/* A sentence on expected and actual version. */
static char *
describe_versions(const EsRefusal *refusal)
{
	char	   *expected = describe_expected(refusal->target);

	if (refusal->target->expectation == ES_EXPECT_VERSION && refusal->target->expected_version < 0)
		return psprintf("No event has the version that is expected, actual version is " INT64_FORMAT ".",
						refusal->actual_version);
	if (expected == NULL)
		return psprintf("Expected any version, actual version is " INT64_FORMAT ".",
						refusal->actual_version);
	return psprintf("Expected version is %s, actual version is " INT64_FORMAT ".",
					expected, refusal->actual_version);
}

/*
 * All refusals as a JSON array of {"stream", "expected", "actual"}, and "reason"
 * where it is another.
 */
static char *
describe_refusals_as_json(const List *refusals)
{
	StringInfoData json;
	ListCell   *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	foreach(cell, refusals)
	{
		const EsRefusal *refusal = lfirst(cell);
		char	   *expected = describe_expected(refusal->target);

		CHECK_FOR_INTERRUPTS();
		appendStringInfoString(&json, json.len > 1 ? ", {\"stream\": " : "{\"stream\": ");
		escape_json(&json, text_to_cstring(refusal->target->stream));
		appendStringInfo(&json, ", \"expected\": %s, \"actual\": " INT64_FORMAT,
						 expected ? expected : "null", refusal->actual_version);
		if (refusal->detail)
		{
			appendStringInfoString(&json, ", \"reason\": ");
			escape_json(&json, refusal->detail);
		}
		appendStringInfoChar(&json, '}');
	}
	appendStringInfoChar(&json, ']');
	return json.data;
}

/* Raises for a stream that is deleted. */
static void
raise_for_deleted(const EsRefusal *refusal)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_STREAM_DELETED),
			errmsg("stream \"%s\" is deleted", text_to_cstring(refusal->target->stream)));
}

/* Raises for one stream. */
static void
raise_for_one_stream(const EsRefusal *refusal)
{
	const char *stream = text_to_cstring(refusal->target->stream);

	if (refusal->reason == ES_REFUSED_RETRY)
		ereport(ERROR,
				errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
				errmsg("wrong expected version of stream \"%s\": event ids are stored already, but not as given", stream),
				errdetail_internal("%s %s", describe_versions(refusal), refusal->detail),
				errhint("Reload the stream and retry with new event ids."));
	ereport(ERROR,
			errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
			errmsg("wrong expected version of stream \"%s\"", stream),
			errdetail_internal("%s", describe_versions(refusal)),
			errhint("Reload the stream and retry."));
}

/* es_refusal_raise raises what a call deserves; many: DETAIL lists all of its streams as JSON. */
void
es_refusal_raise(const List *refusals, bool many)
{
	const EsRefusal *first = linitial(refusals);
	ListCell   *cell;

	foreach(cell, refusals)
		if (((const EsRefusal *) lfirst(cell))->reason == ES_REFUSED_DELETED)
		raise_for_deleted(lfirst(cell));
	if (!many)
		raise_for_one_stream(first);
	ereport(ERROR,
			errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
			errmsg_plural("wrong expected version of stream \"%s\"",
						  "wrong expected version of stream \"%s\" and others",
						  list_length(refusals), text_to_cstring(first->target->stream)),
			errdetail_internal("%s", describe_refusals_as_json(refusals)),
			errhint("Reload the streams and retry."));
}
