/*
 * value.c
 *		Values taken out of an event by an SQL/JSON path.
 *
 * The path is the server's, lax, over an object with the event's attributes.
 */
#include "value.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "utils/fmgrprotos.h"

#include "tree.h"

struct EsValue
{
	bool		is_stream;		/* "$.stream", which needs no document */
	Datum		path;			/* jsonpath */
};

/* es_value_compile_key compiles a path for es_value_key. */
EsValue *
es_value_compile_key(const text *path)
{
	EsValue    *value = palloc0(sizeof(EsValue));
	char	   *string = text_to_cstring(path);
	MemoryContext context = CurrentMemoryContext;

	value->is_stream = strcmp(string, "$.stream") == 0;
	PG_TRY();
	{
		value->path = DirectFunctionCall1(jsonpath_in, CStringGetDatum(string));
	}
	PG_CATCH();
	{
		ErrorData  *cause;

		MemoryContextSwitchTo(context);
		cause = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(cause->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("key is not an SQL/JSON path: \"%s\"", string),
				errdetail_internal("%s", cause->message));
	}
	PG_END_TRY();
	return value;
}

/* Makes the object that a path is over. */
static Jsonb *
make_document(const EsEvent *event)
{
	EsNode		root = {ES_NODE_NULL};
	text	   *stream = DatumGetTextPP(event->stream);
	text	   *type = DatumGetTextPP(event->type);
	char	   *event_id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->event_id)));
	char		recorded_at[MAXDATELEN + 1];
	int			utc = 0;
	EsNode		view;

#define PUT(key) es_tree_put(&root, key, strlen(key))
	es_tree_open(&root);
	view = es_tree_view(DatumGetJsonbP(event->data));
	es_tree_set(PUT("data"), &view);
	view = es_tree_view(DatumGetJsonbP(event->metadata));
	es_tree_set(PUT("metadata"), &view);
	es_tree_set_string(PUT("type"), VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	es_tree_set_string(PUT("stream"), VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream));
	es_tree_set_integer(PUT("version"), event->version);
	es_tree_set_integer(PUT("position"), event->position);
	JsonEncodeDateTime(recorded_at, TimestampTzGetDatum(event->recorded_at), TIMESTAMPTZOID, &utc);
	es_tree_set_string(PUT("recorded_at"), recorded_at, strlen(recorded_at));
	es_tree_set_string(PUT("event_id"), event_id, strlen(event_id));
#undef PUT
	return es_tree_to_jsonb(&root);
}

/* Raises VE009 for what cannot be a key. */
static void
refuse_item(const char *what)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_HANDLER_FAILED),
			errmsg("the key of an event must be a string, a number or a boolean, not %s", what));
}

/* es_value_key gives the key of an event: a string as it is, a number or boolean as text. */
text *
es_value_key(const EsValue *value, const EsEvent *event)
{
	Jsonb	   *items;
	JsonbValue *item;

	if (value->is_stream)
		return DatumGetTextPCopy(event->stream);
	items = DatumGetJsonbP(DirectFunctionCall4(jsonb_path_query_array,
											   JsonbPGetDatum(make_document(event)), value->path,
											   JsonbPGetDatum(make_document(event)), BoolGetDatum(true)));
	if (JB_ROOT_COUNT(items) == 0)
		return NULL;
	if (JB_ROOT_COUNT(items) > 1)
		refuse_item("several values");
	item = getIthJsonbValueFromContainer(&items->root, 0);
	switch (item->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return cstring_to_text_with_len(item->val.string.val, item->val.string.len);
		case jbvNumeric:
			return cstring_to_text(DatumGetCString(DirectFunctionCall1(numeric_out,
																	   NumericGetDatum(item->val.numeric))));
		case jbvBool:
			return cstring_to_text(item->val.boolean ? "true" : "false");
		default:
			refuse_item("an object or an array");
	}
	return NULL;
}
