/*
 * refusal.c
 *		Why an append is refused, and saying so: VE001, VE003 and VE010.
 *
 * If several reasons hold, a deleted stream goes first, since nothing can be
 * appended to it whatever the rest; then ids that are stored already, since a
 * version that is not the expected one may come of just these events; then
 * versions.
 *
 * DETAIL is for programs: "Errors" in doc/eventstore.md has its wording as regular
 * expressions, which test/t/errors.pl holds against what is raised.  No HINT
 * may have events stored twice: who retries decides anew by what is stored, and
 * keeps the ids that he has.
 *
 * A refusal tells what is in the store, as a read does, and who hears of it may take it for
 * done.  So that is on disk before.
 */
#include "append/refusal.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/uuid.h"

#include "base/error.h"
#include "base/names.h"
#include "base/uuid7.h"
#include "log/durable.h"
#include "secret/coverage.h"
#include "shared/counter.h"

/* The words that JSON has for kinds of conflicts. */
static const char *const conflict_words[] = {
	[ES_CONFLICT_PARTLY] = "partly",
	[ES_CONFLICT_PLACE] = "place",
	[ES_CONFLICT_CONTENT] = "content"
};

/* Gives those of some refusals that have a reason. */
static List *
refusals_for_reason(const List *refusals, EsRefusalReason reason)
{
	List	   *found = NIL;
	ListCell   *cell;

	foreach(cell, refusals)
		if (((const EsRefusal *) lfirst(cell))->reason == reason)
		found = lappend(found, lfirst(cell));
	return found;
}

/*
 * The expected version as callers state it: -1 for a stream that is to exist; also for a row of
 * es_events with a version below 1, which no event can get (view.c).
 */
static int64
stated_version(const EsTarget *target)
{
	return target->expectation == ES_EXPECT_EXISTS ? -1 : target->expected_version;
}

/* What DETAIL says of a conflict in a call on one stream. */
static char *
describe_conflict(const EsConflict *conflict)
{
	const char *rest = NULL;

	switch (conflict->kind)
	{
		case ES_CONFLICT_PARTLY:
			rest = psprintf("event %d of the call is not", conflict->missing);
			break;
		case ES_CONFLICT_PLACE:
			rest = "in another place";
			break;
		case ES_CONFLICT_CONTENT:
			rest = "with other type, data or metadata";
			break;
	}
	return psprintf("Event id %s is stored already, as version " INT64_FORMAT " at position " INT64_FORMAT ", but %s.",
					es_uuid7_show(&conflict->id), conflict->version, conflict->position, rest);
}

/* Describes refusals, all for one reason, as a JSON array with an object for each. */
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
		const EsConflict *conflict = &refusal->conflict;

		CHECK_FOR_INTERRUPTS();
		appendStringInfoString(&json, json.len > 1 ? ", {\"stream\": " : "{\"stream\": ");
		escape_json(&json, text_to_cstring(refusal->target->stream));
		if (refusal->reason == ES_REFUSED_IDS)
			appendStringInfo(&json, ", \"event_id\": \"%s\", \"version\": " INT64_FORMAT ", \"position\": " INT64_FORMAT ", \"conflict\": \"%s\"}",
							 es_uuid7_show(&conflict->id), conflict->version, conflict->position,
							 conflict_words[conflict->kind]);
		else
			appendStringInfo(&json, ", \"expected\": " INT64_FORMAT ", \"actual\": " INT64_FORMAT "}",
							 stated_version(refusal->target), refusal->actual_version);
	}
	appendStringInfoChar(&json, ']');
	return json.data;
}

/* Raises VE003. */
ES_NORETURN static void
raise_for_deleted(const EsRefusal *refusal)
{
	es_durable_flush_seen();
	es_counter_add(ES_COUNT_REFUSED_DELETED, 1);
	ereport(ERROR,
			errcode(ES_ERRCODE_STREAM_DELETED),
			errmsg("stream \"%s\" is deleted", text_to_cstring(refusal->target->stream)));
}

/* Raises VE010. */
ES_NORETURN static void
raise_for_ids(const List *refusals, bool many)
{
	const EsRefusal *first = linitial(refusals);

	es_durable_flush_seen();
	es_counter_add(ES_COUNT_REFUSED_IDS, 1);
	ereport(ERROR,
			errcode(ES_ERRCODE_EVENT_ID_CONFLICT),
			errmsg_plural("event ids given for stream \"%s\" are stored already, but not as given",
						  "event ids given for stream \"%s\" and others are stored already, but not as given",
						  many ? list_length(refusals) : 1, text_to_cstring(first->target->stream)),
			errdetail_internal("%s", many ? describe_refusals_as_json(refusals) : describe_conflict(&first->conflict)),
			errhint("What these ids stand for may be done already: look at the stored events with es_find_event."));
}

/* Raises VE001. */
ES_NORETURN static void
raise_for_versions(const List *refusals, bool many)
{
	const EsRefusal *first = linitial(refusals);

	es_durable_flush_seen();
	es_counter_add(ES_COUNT_REFUSED_VERSION, 1);
	if (many)
		ereport(ERROR,
				errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
				errmsg_plural("wrong expected version of stream \"%s\"",
							  "wrong expected version of stream \"%s\" and others",
							  list_length(refusals), text_to_cstring(first->target->stream)),
				errdetail_internal("%s", describe_refusals_as_json(refusals)),
				errhint("Reload the streams, decide again, and retry."));
	ereport(ERROR,
			errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
			errmsg("wrong expected version of stream \"%s\"", text_to_cstring(first->target->stream)),
			errdetail_internal("Expected version is " INT64_FORMAT ", actual version is " INT64_FORMAT ".",
							   stated_version(first->target), first->actual_version),
			errhint("Reload the stream, decide again, and retry."));
}

/*
 * es_refusal_raise_data raises VE005 for an event whose data break the schema of its
 * version.  number tells which of a call's events it is, from 1; 0: it is the only one.  Of a
 * protected field no more is told than that it is wrong: messages are logged.
 */
void
es_refusal_raise_data(const EsNewEvent *event, const text *stream, int number)
{
	const char *field = es_coverage_field_at(stream, event->unfit->pointer);

	es_counter_add(ES_COUNT_REFUSED_DATA, 1);
	ereport(ERROR,
			errcode(ES_ERRCODE_SCHEMA_VIOLATION),
			errmsg("event of type \"%s\" for stream \"%s\" does not satisfy the schema of version %d",
				   text_to_cstring(event->type), text_to_cstring(stream), event->type_version),
			field ? errdetail_internal("JSON pointer \"%s\", rule \"%s\": what is wrong with a protected field is not told.",
									   es_names_show(field), event->unfit->rule) :
			errdetail_internal("JSON pointer \"%s\", rule \"%s\": %s.", es_names_show(event->unfit->pointer),
							   event->unfit->rule, event->unfit->message),
			number > 0 ? errcontext("event %d of the call", number) : 0);
}

/*
 * es_refusal_raise_subject raises 55000 for an event about a subject that is shredded.  Which
 * that is is not told: it may be personal.
 */
void
es_refusal_raise_subject(const EsNewEvent *event, const text *stream, int number)
{
	es_counter_add(ES_COUNT_REFUSED_SUBJECT, 1);
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("subject of an event of type \"%s\" for stream \"%s\" is shredded",
				   text_to_cstring(event->type), text_to_cstring(stream)),
			errdetail("Its protected fields would have to be encrypted with a key that was destroyed."),
			errhint("Append events about it without these fields, or for another subject."),
			number > 0 ? errcontext("event %d of the call", number) : 0);
}

/* es_refusal_raise raises what a call deserves; many: DETAIL lists all of its streams as JSON. */
void
es_refusal_raise(const List *refusals, bool many)
{
	List	   *deleted = refusals_for_reason(refusals, ES_REFUSED_DELETED);
	List	   *ids = refusals_for_reason(refusals, ES_REFUSED_IDS);
	List	   *data = refusals_for_reason(refusals, ES_REFUSED_DATA);
	List	   *subject = refusals_for_reason(refusals, ES_REFUSED_SUBJECT);

	if (deleted != NIL)
		raise_for_deleted(linitial(deleted));
	if (ids != NIL)
		raise_for_ids(ids, many);
	if (data != NIL)
	{
		const EsRefusal *first = linitial(data);

		es_refusal_raise_data(first->event, first->target->stream, first->number);
	}
	if (subject != NIL)
	{
		const EsRefusal *first = linitial(subject);

		es_refusal_raise_subject(first->event, first->target->stream, first->number);
	}
	raise_for_versions(refusals, many);
}
