/*
 * request.c
 *		What callers ask to be appended: taken from SQL values and checked.
 *
 * Everything a caller can get wrong without looking at the store is refused
 * here, before any lock is taken.  Values are referenced where they are, not
 * copied; they must live as long as the call.
 */
#include "append/request.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

#include "base/event.h"
#include "base/names.h"
#include "base/uuid7.h"
#include "json/size.h"
#include "json/tags.h"

/* Attributes of es_new_event. */
#define Anum_es_new_event_type		1
#define Anum_es_new_event_data		2
#define Anum_es_new_event_metadata	3
#define Anum_es_new_event_event_id	4
#define Natts_es_new_event			4

/* The years 1 to 9999, in UTC: from 0001-01-01, before 10000-01-01. */
#define ES_FIRST_TIME	((INT64CONST(1721426) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define ES_END_OF_TIME	((INT64CONST(5373485) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

/* Sets what a stream must be at: below -1 is 22023. */
static void
set_expected_version(EsTarget *target, int64 version)
{
	if (version < -1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"expected_version\" must not be less than -1"),
				errhint("NULL expects nothing, 0 no event yet, -1 at least one event, n exactly n events."));
	target->expectation = version == -1 ? ES_EXPECT_EXISTS : ES_EXPECT_VERSION;
	target->expected_version = version;
}

/* es_request_expectation takes the argument expected_version; NULL expects nothing. */
void
es_request_expectation(EsTarget *target, FunctionCallInfo fcinfo, int argno)
{
	if (!PG_ARGISNULL(argno))
		set_expected_version(target, PG_GETARG_INT64(argno));
}

/* es_request_add_event makes an event, which has been checked, the next of a target. */
void
es_request_add_event(EsTarget *target, EsNewEvent *event)
{
	event->target = target;
	event->next = NULL;
	if (target->last)
		target->last->next = event;
	else
		target->first = event;
	target->last = event;
	target->tag_bits |= event->tag_bits;
	target->count++;
}

/* Raises 54000 for an event that could not be given out again. */
static void
refuse_event_size(const EsNewEvent *event, const text *stream, int element, EsTextSize size)
{
	if (size == ES_TEXT_TOO_LONG)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				element > 0 ? errmsg("element %d of \"events\" is too large", element) :
				errmsg("event is too large"),
				errdetail("The JSON text of its data and metadata is longer than %d bytes; it is of type \"%s\", for stream \"%s\".",
						  es_jsonsize_event_limit, text_to_cstring(event->type), text_to_cstring(stream)),
				errhint("Keep large contents elsewhere and name the place in the event, or have parameter \"eventstore.max_event_size\" raised."));
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			element > 0 ? errmsg("element %d of \"events\" is nested too deeply", element) :
			errmsg("event is nested too deeply"),
			errdetail("Its data or metadata have more than %d levels of arrays and objects; it is of type \"%s\", for stream \"%s\".",
					  ES_MOST_LEVELS, text_to_cstring(event->type), text_to_cstring(stream)));
}

/*
 * es_request_check_event raises 22023 for a bad type, metadata that is no
 * object, or a bad tag, and 54000 for what is too large.  element is its number
 * in a batch, from 1; 0: it is none of a batch.
 */
void
es_request_check_event(EsNewEvent *event, const text *stream, int element)
{
	EsTextSize	size;

	es_names_check_type(event->type);
	size = es_jsonsize_judge_event(event->data, event->metadata, es_jsonsize_event_limit);
	if (unlikely(size != ES_TEXT_FITS))
		refuse_event_size(event, stream, element, size);
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(event->metadata)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"metadata\" of an event must be a JSON object"));
	event->tag_bits = es_tags_check(event->metadata);
}

/* es_request_check_time gives a time as it is; one that RFC 3339 cannot write in UTC is 22023. */
TimestampTz
es_request_check_time(TimestampTz time)
{
	if (time < ES_FIRST_TIME || time >= ES_END_OF_TIME)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"recorded_at\" of an event must be in the years 1 to 9999 in UTC"));
	return time;
}

/*
 * es_request_take takes what an event is made of; metadata NULL is {}, id NULL is
 * one that is made.
 */
void
es_request_take(EsNewEvent *event, Datum type, Datum data, const Datum *metadata, const Datum *id)
{
	event->type = DatumGetTextPP(type);
	event->data = data;
	event->metadata = metadata ? *metadata : es_event_empty_object();
	event->id_given = id != NULL;
	if (event->id_given)
		event->id = *DatumGetUUIDP(*id);
}

/* es_request_type_version takes the version of its type that an event is said to be of. */
void
es_request_type_version(EsNewEvent *event, int version)
{
	event->type_version = version;
	event->version_given = true;
}

/* Makes room for the events of a call; memory that no event comes to is never touched. */
static void
allocate_events(EsAppend *append, int count)
{
	append->count = count;
	append->events = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsNewEvent) * Max(count, 1));
}

/* ---- JSON ---- */

/* One element of a JSON batch, taken apart; type NULL means it was not there. */
typedef struct Element
{
	JsonbValue *type;
	JsonbValue *data;
	JsonbValue *metadata;
	JsonbValue *event_id;
	JsonbValue *type_version;
	JsonbValue *stream;
	JsonbValue *expected_version;
	JsonbValue *tags;
	int			index;			/* from 0 */
	bool		many;			/* of a call over many streams */
} Element;

/* Says in an error's HINT what elements are like; to be called within ereport. */
static int
element_hint(const Element *element)
{
	if (element->many)
		return errhint("Each element is {\"stream\": string, \"type\": string, \"data\"?: any, \"metadata\"?: object, "
					   "\"event_id\"?: UUID, \"type_version\"?: int, \"tags\"?: [string, ...], \"expected_version\"?: bigint}; without \"type\" it is a check only.");
	return errhint("Each element is {\"type\": string, \"data\"?: any, \"metadata\"?: object, \"event_id\"?: UUID, \"type_version\"?: int}.");
}

/* Raises 22023 for an element that needs a type and has none. */
ES_NORETURN static void
report_no_type(const Element *element)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("element %d of \"events\" has no \"type\"", element->index + 1),
			element_hint(element));
}

/* Finds the place for a key; the last three are for calls over many streams. */
static JsonbValue **
find_member_place(Element *element, const JsonbValue *key, bool many)
{
	const struct
	{
		const char *name;
		JsonbValue **place;
	}			places[] = {
		{"type", &element->type},
		{"data", &element->data},
		{"metadata", &element->metadata},
		{"event_id", &element->event_id},
		{"type_version", &element->type_version},
		{"stream", &element->stream},
		{"expected_version", &element->expected_version},
		{"tags", &element->tags}
	};

	for (int i = 0; i < (many ? lengthof(places) : 5); i++)
		if (strlen(places[i].name) == key->val.string.len &&
			memcmp(places[i].name, key->val.string.val, key->val.string.len) == 0)
			return places[i].place;
	return NULL;
}

/* Takes one element of a JSON batch apart. */
static void
take_element_apart(Element *element, JsonbValue *value, int index, bool many)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;

	memset(element, 0, sizeof(*element));
	element->index = index;
	element->many = many;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" is not an object", element->index + 1),
				element_hint(element));
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue **place;

		if (token != WJB_KEY)
			continue;
		place = find_member_place(element, &key, many);
		if (place == NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("element %d of \"events\" has an unrecognized key \"%s\"", element->index + 1,
						   es_names_show_bytes(key.val.string.val, key.val.string.len)),
					element_hint(element));
		*place = palloc(sizeof(JsonbValue));
		(void) JsonbIteratorNext(&it, *place, true);
		if ((*place)->type == jbvNull && *place != element->data && *place != element->type)
			*place = NULL;
	}
}

/* The text of a JSON string. */
static text *
make_string_text(const JsonbValue *value)
{
	return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
}

/* Takes an element's "event_id". */
static void
take_event_id(EsNewEvent *event, const Element *element)
{
	const JsonbValue *value = element->event_id;

	if (value->type != jbvString ||
		!es_uuid7_read(value->val.string.val, value->val.string.len, &event->id))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" has an \"event_id\" that is not a UUID", element->index + 1),
				element_hint(element));
	event->id_given = true;
}

/* Gives the number of a member, which must be a whole one in a range. */
static int64
whole_number(const Element *element, const JsonbValue *value, const char *what, const char *type, int64 lowest, int64 highest)
{
	Datum		number;

	if (value->type != jbvNumeric)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" has %s that is not a number", element->index + 1, what),
				element_hint(element));
	number = NumericGetDatum(value->val.numeric);
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number, DirectFunctionCall1(numeric_floor, number))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, number, NumericGetDatum(int64_to_numeric(highest)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, number, NumericGetDatum(int64_to_numeric(lowest)))))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" has %s that is not %s", element->index + 1, what, type),
				element_hint(element));
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
}

/* Makes the jsonb of a member's value, {} if it is not there. */
static Datum
make_member_jsonb(JsonbValue *value)
{
	Jsonb	   *made;
	Datum		copy;

	if (value == NULL)
		return es_event_empty_object();
	made = JsonbValueToJsonb(value);
	if (value->type == jbvBinary)
		return JsonbPGetDatum(made);
	/* that of a scalar comes in a buffer of 1 kB */
	copy = datumCopy(JsonbPGetDatum(made), false, -1);
	pfree(made);
	return copy;
}

/* Takes the event that an element describes. */
static void
take_element_event(EsNewEvent *event, const text *stream, const Element *element)
{
	memset(event, 0, sizeof(*event));
	if (element->type == NULL)
		report_no_type(element);
	if (element->type->type != jbvString)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" has a \"type\" that is not a string", element->index + 1),
				element_hint(element));
	event->type = make_string_text(element->type);
	event->data = make_member_jsonb(element->data);
	event->metadata = make_member_jsonb(element->metadata);
	if (element->event_id)
		take_event_id(event, element);
	if (element->type_version)
		es_request_type_version(event, (int) whole_number(element, element->type_version, "a \"type_version\"", "an int",
														  PG_INT32_MIN, PG_INT32_MAX));
	if (element->tags)
		event->metadata = es_tags_add(event->metadata, element->tags);
	es_request_check_event(event, stream, element->index + 1);
}

/* Raises unless a JSON value is an array; its size. */
static int
count_json_events(Jsonb *events)
{
	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"events\" must be a JSON array"));
	return JB_ROOT_COUNT(events);
}

/* es_request_from_json takes a JSON array of events for one stream; anything else is 22023. */
void
es_request_from_json(EsAppend *append, EsTarget *target, Datum array)
{
	Jsonb	   *events = DatumGetJsonbP(array);

	allocate_events(append, count_json_events(events));
	for (int i = 0; i < append->count; i++)
	{
		Element		element;

		CHECK_FOR_INTERRUPTS();
		take_element_apart(&element, getIthJsonbValueFromContainer(&events->root, i), i, false);
		take_element_event(&append->events[i], target->stream, &element);
		es_request_add_event(target, &append->events[i]);
	}
}

/* ---- JSON over many streams ---- */

#define FEW_TARGETS		4		/* are looked through, without a map */

/* A target by its stream's name. */
typedef struct NamedTarget
{
	const text *name;			/* hash key */
	EsTarget   *target;
} NamedTarget;

/* es_request_target_map makes a map for es_request_target. */
HTAB *
es_request_target_map(int size, MemoryContext context)
{
	return es_names_map("eventstore targets", Max(size, 16), sizeof(NamedTarget), context);
}

/* Adds the target of a stream to a call. */
static EsTarget *
add_target(EsAppend *append, const text *stream)
{
	EsTarget   *target = &append->targets[append->ntargets++];

	memset(target, 0, sizeof(EsTarget));
	target->stream = stream;
	return target;
}

/*
 * es_request_target finds the target of a stream in a call, or adds it; the
 * name must live as long as the call, and append->targets have room.
 */
EsTarget *
es_request_target(EsAppend *append, HTAB *map, const text *stream, bool *found)
{
	NamedTarget *entry = hash_search(map, &stream, HASH_ENTER, found);

	if (!*found)
		entry->target = add_target(append, stream);
	return entry->target;
}

/* Does the same in a call that has no map, being about few streams. */
static EsTarget *
find_one_of_few_targets(EsAppend *append, const text *stream, bool *found)
{
	for (int i = 0; i < append->ntargets; i++)
		if (es_names_same(append->targets[i].stream, stream))
		{
			*found = true;
			return &append->targets[i];
		}
	*found = false;
	return add_target(append, stream);
}

/* Finds, or adds, the target that an element names. */
static EsTarget *
find_element_target(EsAppend *append, HTAB *map, const Element *element)
{
	EsTarget   *target;
	text	   *stream;
	bool		found;

	if (element->stream == NULL || element->stream->type != jbvString)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" has no \"stream\" that is a string", element->index + 1),
				element_hint(element));
	stream = make_string_text(element->stream);
	es_names_check_stream(stream);
	target = map ? es_request_target(append, map, stream, &found) : find_one_of_few_targets(append, stream, &found);
	if (found && element->expected_version)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("element %d of \"events\" has an \"expected_version\" but is not the first element of its stream", element->index + 1),
				element_hint(element));
	return target;
}

/*
 * es_request_many_from_json takes a JSON array of events and checks over many
 * streams: {"stream", "type", …, "expected_version"?, "tags"?}, without "type"
 * a pure check.  Anything else is 22023.
 */
void
es_request_many_from_json(EsAppend *append, Jsonb *events)
{
	int			n = count_json_events(events);
	HTAB	   *map = n > FEW_TARGETS ? es_request_target_map(n, CurrentMemoryContext) : NULL;

	append->many = true;
	allocate_events(append, n);
	append->count = 0;
	append->targets = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsTarget) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Element		element;
		EsTarget   *target;

		CHECK_FOR_INTERRUPTS();
		take_element_apart(&element, getIthJsonbValueFromContainer(&events->root, i), i, true);
		target = find_element_target(append, map, &element);
		if (element.expected_version)
			set_expected_version(target, whole_number(&element, element.expected_version, "an \"expected_version\"", "a bigint",
													  PG_INT64_MIN, PG_INT64_MAX));
		if (element.type)
		{
			EsNewEvent *event = &append->events[append->count++];

			take_element_event(event, target->stream, &element);
			es_request_add_event(target, event);
		}
		else if (element.data || element.metadata || element.event_id || element.type_version || element.tags)
			report_no_type(&element);
	}
	if (map)
		hash_destroy(map);
}

/* ---- arrays of es_new_event ---- */

/* Takes one element of an array of es_new_event. */
static void
take_new_event_row(EsNewEvent *event, TupleDesc desc, HeapTupleHeader row)
{
	HeapTupleData tuple;
	Datum		values[Natts_es_new_event];
	bool		isnull[Natts_es_new_event];

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	heap_deform_tuple(&tuple, desc, values, isnull);
	if (isnull[Anum_es_new_event_type - 1] || isnull[Anum_es_new_event_data - 1])
		es_event_report_null();
	memset(event, 0, sizeof(*event));
	es_request_take(event, values[Anum_es_new_event_type - 1], values[Anum_es_new_event_data - 1],
					isnull[Anum_es_new_event_metadata - 1] ? NULL : &values[Anum_es_new_event_metadata - 1],
					isnull[Anum_es_new_event_event_id - 1] ? NULL : &values[Anum_es_new_event_event_id - 1]);
}

/* es_request_from_array takes an es_new_event[] for one stream; NULL elements are 22004. */
void
es_request_from_array(EsAppend *append, EsTarget *target, Datum array)
{
	static const Oid types[Natts_es_new_event] = {TEXTOID, JSONBOID, JSONBOID, UUIDOID};
	ArrayType  *events = DatumGetArrayTypeP(array);
	Oid			type = ARR_ELEMTYPE(events);
	TupleDesc	desc = lookup_rowtype_tupdesc_domain(type, -1, false);
	Datum	   *elements;
	bool	   *isnull;
	int			count;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	es_event_check_type(desc, types, Natts_es_new_event);
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	deconstruct_array(events, type, typlen, typbyval, typalign, &elements, &isnull, &count);
	allocate_events(append, count);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("element %d of \"events\" must not be null", i + 1));
		take_new_event_row(&append->events[i], desc, DatumGetHeapTupleHeader(elements[i]));
		es_request_check_event(&append->events[i], target->stream, i + 1);
		es_request_add_event(target, &append->events[i]);
	}
	ReleaseTupleDesc(desc);
}
