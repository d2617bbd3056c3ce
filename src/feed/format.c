/*
 * format.c
 *		Writes events and transaction frames as JSON.
 *
 * Two formats.  "json" has the attributes of es_event.  "cloudevents" is
 * CloudEvents 1.0 in its JSON event format: attributes there must be scalars
 * with names of lower-case letters and digits, and integers have 32 bits, so
 * position and sequence (the version) are strings, and so is metadata, as JSON
 * text.  Source and id together name an event: ids that callers chose should be
 * unique in the store, not only in their stream, where consumers of CloudEvents
 * drop duplicates.  Frames have no CloudEvents form, they are the same in both.
 *
 * Times are ISO 8601 in UTC, whatever TimeZone says.  xid is only written for
 * events of transactions that are sent while in progress, where it names the
 * (sub)transaction that may still be rolled back.
 *
 * Everything is written in the encoding of the database, scratch goes into
 * the current memory context.
 */
#include "feed/format.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "json/size.h"
#include "json/text.h"

/* Appends a jsonb. */
static void
append_jsonb(StringInfo out, Datum value)
{
	es_jsontext_jsonb(out, DatumGetJsonbP(value));
}

/* Appends the text of a jsonb as a JSON string. */
static void
append_jsonb_text(StringInfo out, Datum value)
{
	StringInfoData json;

	initStringInfo(&json);
	es_jsontext_jsonb(&json, DatumGetJsonbP(value));
	es_jsontext_string(out, json.data, json.len);
}

/* Tells whether a byte stands for itself in a URI. */
static bool
is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '-' || c == '.' || c == '_' || c == '~';
}

/*
 * es_feedformat_source makes the CloudEvents source of this database, a relative
 * URI, in a memory context.
 */
char *
es_feedformat_source(MemoryContext context)
{
	char	   *database = get_database_name(MyDatabaseId);
	MemoryContext caller;
	StringInfoData source;

	if (database == NULL)
		elog(ERROR, "database %u has no name", MyDatabaseId);
	caller = MemoryContextSwitchTo(context);
	initStringInfo(&source);
	MemoryContextSwitchTo(caller);
	appendStringInfoString(&source, "/eventstore/");
	for (const char *p = database; *p; p++)
	{
		if (is_unreserved(*p))
			appendStringInfoChar(&source, *p);
		else
			appendStringInfo(&source, "%%%02X", (unsigned char) *p);
	}
	return source.data;
}

/* es_feedformat_check raises 54000 for an event whose message the server could not send. */
void
es_feedformat_check(const EsEvent *event, EsFeedFormat format)
{
	/* a JSON string of JSON text has at most twice its bytes */
	Datum		values[] = {event->data, event->metadata, event->metadata};
	int			count = format == ES_FEED_CLOUDEVENTS ? 3 : 2;

	if (likely(es_jsonsize_judge(values, count, ES_MOST_SENT) == ES_TEXT_FITS))
		return;
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("the event at position " INT64_FORMAT " is too large for a message of a feed", event->position),
			errdetail("It is version " INT64_FORMAT " of stream \"%s\", of type \"%s\"; a message can have at most 1 GB.",
					  event->version, TextDatumGetCString(event->stream), TextDatumGetCString(event->type)),
			errhint("To go on without it, name its position in the option \"skip_positions\" of the feed (esfeed --skip-positions)."));
}

/* es_feedformat_json appends an event as the object that es_event is. */
void
es_feedformat_json(StringInfo out, const EsEvent *event, TransactionId xid)
{
	appendStringInfoString(out, "{\"position\":");
	es_jsontext_integer(out, event->position);
	appendStringInfoString(out, ",\"stream\":");
	es_jsontext_text(out, event->stream);
	appendStringInfoString(out, ",\"version\":");
	es_jsontext_integer(out, event->version);
	appendStringInfoString(out, ",\"type\":");
	es_jsontext_text(out, event->type);
	appendStringInfoString(out, ",\"type_version\":");
	es_jsontext_integer(out, event->type_version);
	appendStringInfoString(out, ",\"data\":");
	append_jsonb(out, event->data);
	appendStringInfoString(out, ",\"metadata\":");
	append_jsonb(out, event->metadata);
	appendStringInfoString(out, ",\"event_id\":");
	es_jsontext_uuid(out, &event->event_id);
	appendStringInfoString(out, ",\"recorded_at\":");
	es_jsontext_quoted_time(out, event->recorded_at);
	if (TransactionIdIsValid(xid))
		appendStringInfo(out, ",\"xid\":%u", xid);
	appendStringInfoChar(out, '}');
}

/* es_feedformat_cloudevent appends an event as a CloudEvent. */
void
es_feedformat_cloudevent(StringInfo out, const EsEvent *event, const char *source,
						 TransactionId xid)
{
	appendStringInfoString(out, "{\"specversion\":\"1.0\",\"id\":");
	es_jsontext_uuid(out, &event->event_id);
	appendStringInfoString(out, ",\"source\":");
	escape_json(out, source);
	appendStringInfoString(out, ",\"type\":");
	es_jsontext_text(out, event->type);
	appendStringInfoString(out, ",\"subject\":");
	es_jsontext_text(out, event->stream);
	appendStringInfoString(out, ",\"time\":");
	es_jsontext_quoted_time(out, event->recorded_at);
	appendStringInfo(out, ",\"datacontenttype\":\"application/json\""
					 ",\"sequence\":\"" INT64_FORMAT "\",\"position\":\"" INT64_FORMAT "\""
					 ",\"typeversion\":%d",
					 event->version, event->position, event->type_version);
	if (TransactionIdIsValid(xid))
		appendStringInfo(out, ",\"xid\":\"%u\"", xid);
	appendStringInfoString(out, ",\"metadata\":");
	append_jsonb_text(out, event->metadata);
	appendStringInfoString(out, ",\"data\":");
	append_jsonb(out, event->data);
	appendStringInfoChar(out, '}');
}

/* es_feedformat_frame appends what is told about a transaction. */
void
es_feedformat_frame(StringInfo out, const EsFeedFrame *frame)
{
	appendStringInfo(out, "{\"%s\":{\"xid\":%u", frame->name, frame->xid);
	if (TransactionIdIsValid(frame->subxid))
		appendStringInfo(out, ",\"subxid\":%u", frame->subxid);
	if (frame->gid != NULL)
	{
		appendStringInfoString(out, ",\"gid\":");
		escape_json(out, frame->gid);
	}
	if (frame->moment != NULL)
	{
		appendStringInfo(out, ",\"%s_lsn\":\"%X/%X\",\"%s_time\":", frame->moment,
						 LSN_FORMAT_ARGS(frame->lsn), frame->moment);
		es_jsontext_quoted_time(out, frame->time);
	}
	appendStringInfoString(out, "}}");
}
