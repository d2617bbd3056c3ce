/*
 * request.c
 *		What callers ask to be appended: taken from SQL values and checked.
 *
 * Everything a caller can get wrong without looking at the store is refused
 * here, before any lock is taken.  Values are referenced where they are, not
 * copied; they must live as long as the call.
 */
#include "request.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "uuid7.h"

/* Attributes of es_new_event. */
#define Anum_es_new_event_type		1
#define Anum_es_new_event_data		2
#define Anum_es_new_event_metadata	3
#define Anum_es_new_event_event_id	4
#define Natts_es_new_event			4

/* es_request_expectation takes the argument expected_version: below -1 is 22023. */
void
es_request_expectation(EsAppend *append, FunctionCallInfo fcinfo, int argno)
{
	int64		version;

	append->expected_version = 0;
	append->expectation = ES_EXPECT_ANY;
	if (PG_ARGISNULL(argno))
		return;
	version = PG_GETARG_INT64(argno);
	if (version < -1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("expected_version must not be below -1"),
				errhint("NULL expects nothing, 0 no event yet, -1 at least one event, n exactly n events."));
	append->expectation = version == -1 ? ES_EXPECT_EXISTS : ES_EXPECT_VERSION;
	append->expected_version = version;
}

/* es_request_check_event raises 22023 for a bad type, or metadata that is no object. */
void
es_request_check_event(EsNewEvent *event)
{
	es_base_check_type_name(event->type);
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(event->metadata)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("metadata must be a JSON object"));
}

/* es_request_empty_object gives the jsonb {}. */
Datum
es_request_empty_object(void)
{
	static Datum empty = (Datum) 0;

	if (empty == (Datum) 0)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		empty = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
		MemoryContextSwitchTo(old);
	}
	return empty;
}

/* ---- JSON ---- */

/* Raises 22023 for an element of a JSON batch. */
static void
bad_element(int index, const char *problem)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("element %d of events %s", index + 1, problem),
			errhint("Each element is {\"type\": string, \"data\"?: any, \"metadata\"?: object, \"event_id\"?: UUID}."));
}

/* Takes an element's "event_id". */
static void
take_event_id(EsNewEvent *event, const JsonbValue *value, int index)
{
	char	   *string;

	if (value->type == jbvNull)
		return;
	if (value->type != jbvString ||
		!es_uuid7_is_uuid(value->val.string.val, value->val.string.len))
		bad_element(index, "has an \"event_id\" that is no UUID");
	string = pnstrdup(value->val.string.val, value->val.string.len);
	event->id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(string)));
	event->id_given = true;
	pfree(string);
}

/* Takes one key of an element. */
static void
take_member(EsNewEvent *event, const JsonbValue *key, JsonbValue *value, int index)
{
	const char *name = key->val.string.val;
	int			len = key->val.string.len;

	if (len == 4 && memcmp(name, "type", 4) == 0)
	{
		if (value->type != jbvString)
			bad_element(index, "has a \"type\" that is no string");
		event->type = cstring_to_text_with_len(value->val.string.val, value->val.string.len);
	}
	else if (len == 4 && memcmp(name, "data", 4) == 0)
		event->data = JsonbPGetDatum(JsonbValueToJsonb(value));
	else if (len == 8 && memcmp(name, "metadata", 8) == 0)
	{
		if (value->type != jbvNull)
			event->metadata = JsonbPGetDatum(JsonbValueToJsonb(value));
	}
	else if (len == 8 && memcmp(name, "event_id", 8) == 0)
		take_event_id(event, value, index);
	else
		bad_element(index, psprintf("has an unknown key \"%s\"", pnstrdup(name, len)));
}

/* Takes one element of a JSON batch. */
static void
take_element(EsNewEvent *event, JsonbValue *element, int index)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		bad_element(index, "is not an object");
	event->data = event->metadata = es_request_empty_object();
	it = JsonbIteratorInit(element->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		take_member(event, &key, &value, index);
	}
	if (event->type == NULL)
		bad_element(index, "has no \"type\"");
	es_request_check_event(event);
}

/* es_request_from_json takes a JSON array of events; anything else is 22023. */
void
es_request_from_json(EsAppend *append, Jsonb *events)
{
	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("events must be a JSON array"));
	append->count = JB_ROOT_COUNT(events);
	append->events = MemoryContextAllocHuge(CurrentMemoryContext,
											sizeof(EsNewEvent) * Max(append->count, 1));
	memset(append->events, 0, sizeof(EsNewEvent) * append->count);
	for (int i = 0; i < append->count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&events->root, i);

		CHECK_FOR_INTERRUPTS();
		take_element(&append->events[i], element, i);
		pfree(element);
	}
}

/* ---- arrays of es_new_event ---- */

/* Takes one element of an array of es_new_event. */
static void
take_row(EsNewEvent *event, TupleDesc desc, HeapTupleHeader row)
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
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("type and data of an event must not be null"));
	event->type = DatumGetTextPP(values[Anum_es_new_event_type - 1]);
	event->data = values[Anum_es_new_event_data - 1];
	event->metadata = isnull[Anum_es_new_event_metadata - 1] ? es_request_empty_object() :
		values[Anum_es_new_event_metadata - 1];
	event->id_given = !isnull[Anum_es_new_event_event_id - 1];
	if (event->id_given)
		event->id = *DatumGetUUIDP(values[Anum_es_new_event_event_id - 1]);
	es_request_check_event(event);
}

/* es_request_from_array takes an es_new_event[]; NULL elements are 22004. */
void
es_request_from_array(EsAppend *append, ArrayType *events)
{
	Oid			type = ARR_ELEMTYPE(events);
	TupleDesc	desc = lookup_rowtype_tupdesc_domain(type, -1, false);
	Datum	   *elements;
	bool	   *isnull;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	if (desc->natts != Natts_es_new_event)
		elog(ERROR, "type es_new_event has been altered");
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	deconstruct_array(events, type, typlen, typbyval, typalign, &elements, &isnull, &append->count);
	append->events = MemoryContextAllocHuge(CurrentMemoryContext,
											sizeof(EsNewEvent) * Max(append->count, 1));
	memset(append->events, 0, sizeof(EsNewEvent) * append->count);
	for (int i = 0; i < append->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("element %d of events must not be null", i + 1));
		take_row(&append->events[i], desc, DatumGetHeapTupleHeader(elements[i]));
	}
	ReleaseTupleDesc(desc);
}
