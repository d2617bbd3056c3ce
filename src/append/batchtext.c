/*
 * batchtext.c
 *		Events taken from JSON text.
 *
 * A jsonb of a batch is built as one value and then taken apart again.  From text each
 * event's data and metadata are written at once as they are stored (json/parse.c,
 * json/emit.c).
 *
 * Only batches that are well-formed, of elements with the members that there are, are
 * taken this way.  All else, be it wrong or only rare, goes the way of es_append_batch:
 * jsonb's own input function, then es_request_from_json.  So what is refused is refused
 * by the same code, in the same order: a text that is no JSON first, wherever that is,
 * then the first element that is none.
 */
#include "append/batchtext.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/event.h"
#include "base/uuid7.h"
#include "json/emit.h"
#include "json/parse.h"

#define A_TYPICAL_EVENT		256 /* bytes of text */
#define MOST_EVENTS			(16 * 1024 * 1024)	/* no jsonb has more */
#define MOST_VERSION_DIGITS 9	/* an int has them */

/* Members of an element. */
typedef enum Member
{
	MEMBER_TYPE,
	MEMBER_DATA,
	MEMBER_METADATA,
	MEMBER_EVENT_ID,
	MEMBER_TYPE_VERSION,
	MEMBER_COUNT
} Member;

/* A batch while it is read. */
typedef struct Batch
{
	EsParse		parse;
	EsEmit		emit;
	EsNewEvent *events;
	int			count;
	int			space;			/* of events */
} Batch;

/* Finds the member that a key names; MEMBER_COUNT: none. */
static Member
find_batch_member(const EsParsed *key)
{
	static const struct
	{
		const char *name;
		uint32		len;
	}			names[MEMBER_COUNT] = {{"type", 4}, {"data", 4}, {"metadata", 8}, {"event_id", 8}, {"type_version", 12}};
	Member		member = MEMBER_TYPE;

	while (member < MEMBER_COUNT &&
		   (key->count != names[member].len || memcmp(key->value.bytes, names[member].name, key->count) != 0))
		member++;
	return member;
}

/* Gives the next event to fill. */
static EsNewEvent *
add_text_event(Batch *batch)
{
	EsNewEvent *event;

	if (batch->count == batch->space)
	{
		batch->space *= 2;
		batch->events = repalloc_huge(batch->events, sizeof(EsNewEvent) * batch->space);
	}
	event = &batch->events[batch->count++];
	memset(event, 0, sizeof(EsNewEvent));
	return event;
}

/* Reads a small whole number; false if it is anything else. */
static bool
read_type_version(const EsParsed *value, int *version)
{
	const char *digits = value->value.bytes;
	bool		negative;
	uint32		i = 0;

	if (value->kind != ES_PARSED_NUMBER)
		return false;
	negative = digits[0] == '-';
	*version = 0;
	if (value->count - negative > MOST_VERSION_DIGITS)
		return false;
	for (i = negative; i < value->count && digits[i] >= '0' && digits[i] <= '9'; i++)
		*version = *version * 10 + (digits[i] - '0');
	if (negative)
		*version = -*version;
	return i == value->count;
}

/* Takes the text of an event's type, that of the event before if it is the same. */
static const text *
take_batch_type(const Batch *batch, const EsParsed *value)
{
	const text *last = batch->count > 1 ? batch->events[batch->count - 2].type : NULL;

	if (last && VARSIZE_ANY_EXHDR(last) == value->count &&
		memcmp(VARDATA_ANY(last), value->value.bytes, value->count) == 0)
		return last;
	return cstring_to_text_with_len(value->value.bytes, value->count);
}

/* Takes the element that was read as an event; false if there is anything unusual about it. */
static bool
take_batch_event(Batch *batch)
{
	const EsParsed *values = batch->parse.values;
	uint32		found[MEMBER_COUNT] = {0};	/* 0, which is the element: none */
	uint32		key = 1;
	EsNewEvent *event;

	if (values[0].kind != ES_PARSED_OBJECT)
		return false;
	for (uint32 i = 0; i < values[0].count; i++)
	{
		Member		member = find_batch_member(&values[key]);

		if (member == MEMBER_COUNT)
			return false;
		found[member] = key + 1;
		key = es_parse_after(values, key + 1);
	}
	for (Member member = MEMBER_METADATA; member < MEMBER_COUNT; member++)
		if (values[found[member]].kind == ES_PARSED_NULL)
			found[member] = 0;
	if (values[found[MEMBER_TYPE]].kind != ES_PARSED_STRING)
		return false;

	event = add_text_event(batch);
	event->type = take_batch_type(batch, &values[found[MEMBER_TYPE]]);
	event->data = found[MEMBER_DATA] ? es_emit_jsonb(&batch->emit, &batch->parse, found[MEMBER_DATA]) :
		es_event_empty_object();
	event->metadata = found[MEMBER_METADATA] ? es_emit_jsonb(&batch->emit, &batch->parse, found[MEMBER_METADATA]) :
		es_event_empty_object();
	if (found[MEMBER_EVENT_ID])
	{
		const EsParsed *id = &values[found[MEMBER_EVENT_ID]];

		event->id_given = id->kind == ES_PARSED_STRING && es_uuid7_read(id->value.bytes, id->count, &event->id);
		if (!event->id_given)
			return false;
	}
	if (found[MEMBER_TYPE_VERSION])
	{
		int			version;

		if (!read_type_version(&values[found[MEMBER_TYPE_VERSION]], &version))
			return false;
		es_request_type_version(event, version);
	}
	return true;
}

/* Reads all events of a batch; false if there is anything unusual about it. */
static bool
read_batch_text(Batch *batch)
{
	EsParseResult result;

	while ((result = es_parse_next(&batch->parse)) == ES_PARSE_ELEMENT)
	{
		CHECK_FOR_INTERRUPTS();
		if (batch->count == MOST_EVENTS || !take_batch_event(batch))
			return false;
	}
	return result == ES_PARSE_END;
}

/* Reads a batch's text into a call; false, with nothing done, if it is not a usual one. */
static bool
take_usual_batch(EsAppend *append, const text *array)
{
	Batch		batch = {.count = 0};
	char	   *json = text_to_cstring(array);	/* the parser changes it */
	int			len = VARSIZE_ANY_EXHDR(array);
	bool		usual;

	batch.space = len / A_TYPICAL_EVENT + 8;
	batch.events = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsNewEvent) * batch.space);
	es_parse_begin(&batch.parse, json, len);
	usual = read_batch_text(&batch);
	es_parse_end(&batch.parse);
	es_emit_end(&batch.emit);
	pfree(json);
	if (!usual)
	{
		pfree(batch.events);
		return false;
	}
	append->events = batch.events;
	append->count = batch.count;
	return true;
}

/*
 * es_batchtext_take takes the text of a JSON array of events for one stream; anything
 * else is refused as es_append_batch and jsonb's input function do.
 */
void
es_batchtext_take(EsAppend *append, EsTarget *target, Datum array)
{
	text	   *json = DatumGetTextPP(array);

	if (unlikely(!take_usual_batch(append, json)))
	{
		elog(DEBUG1, "\"events\" are read by jsonb's input function");
		es_request_from_json(append, target, DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(json))));
		return;
	}
	for (int i = 0; i < append->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		es_request_check_event(&append->events[i], target->stream, i + 1);
		es_request_add_event(target, &append->events[i]);
	}
}
