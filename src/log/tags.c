/*
 * tags.c
 *		Tags: strings in an event's metadata that conditions are stated over.
 *
 * An event's tags are the strings of the array "tags" in its metadata; anything
 * else there is left alone.  Each is also a row of eventstore.tags, written
 * with the event, under the same lock, so whoever can see one can see the
 * other.  Events without tags cost a look at their metadata, nothing else.
 */
#include "log/tags.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "table/table.h"

EsRelation	es_tags_table = {"tags"};

static const EsColumn columns[] = {{"position", INT8OID}, {"tag", TEXTOID}};
const EsShape es_tags_shape = ES_SHAPE(&es_tags_table, NULL, columns);

/* Gives the set of the tags in an event's metadata. */
static EsNames
read_tag_set(Datum metadata)
{
	Jsonb	   *object = DatumGetJsonbP(metadata);
	EsNames		tags = {0};
	JsonbValue	found;
	int			n;

	if (JB_ROOT_COUNT(object) == 0 ||
		getKeyJsonValueFromContainer(&object->root, "tags", 4, &found) == NULL ||
		found.type != jbvBinary || !JsonContainerIsArray(found.val.binary.data))
		return tags;
	n = JsonContainerSize(found.val.binary.data);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(found.val.binary.data, i);
		text	   *tag;

		CHECK_FOR_INTERRUPTS();
		if (value->type != jbvString)
			continue;
		tag = cstring_to_text_with_len(value->val.string.val, value->val.string.len);
		es_names_check(tag, ES_NAME_TAG);
		(void) es_names_add(&tags, tag);
	}
	return tags;
}

/* es_tags_of gives the tags in an event's metadata, each once; NULL for none. */
text	  **
es_tags_of(Datum metadata, int *count)
{
	EsNames		tags = read_tag_set(metadata);

	*count = tags.count;
	return tags.names;
}

/* es_tags_add gives metadata with these tags, which must be an array of strings. */
Datum
es_tags_add(Datum metadata, const JsonbValue *tags)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = {.type = jbvString,.val.string = {.val = "tags",.len = 4}};
	JsonbValue	array = *tags;
	Jsonb	   *added;
	bool		good = tags->type == jbvBinary && JsonContainerIsArray(tags->val.binary.data);

	for (int i = 0; good && i < JsonContainerSize(tags->val.binary.data); i++)
	{
		CHECK_FOR_INTERRUPTS();
		good = getIthJsonbValueFromContainer(tags->val.binary.data, i)->type == jbvString;
	}
	if (!good)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"tags\" of an event must be an array of strings"));
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&state, WJB_KEY, &key);
	pushJsonbValue(&state, WJB_VALUE, &array);
	added = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	return DirectFunctionCall2(jsonb_concat, metadata, JsonbPGetDatum(added));
}

/* es_tags_write notes that the event at a position carries the tags in its metadata. */
void
es_tags_write(Datum metadata, int64 position)
{
	int			count;
	text	  **tags = es_tags_of(metadata, &count);
	EsTable		table;
	int			n = 0;

	es_table_open(&table, &es_tags_shape);
	for (int i = 0; i < count; i++)
	{
		TupleTableSlot *slot = es_table_slot(&table, n++);

		slot->tts_values[Anum_es_tags_position - 1] = Int64GetDatum(position);
		slot->tts_values[Anum_es_tags_tag - 1] = PointerGetDatum(tags[i]);
		slot->tts_isnull[0] = slot->tts_isnull[1] = false;
		ExecStoreVirtualTuple(slot);
		if (n == ES_TABLE_MOST_ROWS || i == count - 1)
		{
			CHECK_FOR_INTERRUPTS();
			es_table_insert(&table, n);
			n = 0;
		}
	}
	es_table_close(&table);
}

/* es_tags_have_all tells whether an event's metadata has all of some tags. */
bool
es_tags_have_all(Datum metadata, const EsNames *wanted)
{
	EsNames		tags = read_tag_set(metadata);
	bool		all = wanted->count <= tags.count;

	for (int i = 0; all && i < wanted->count; i++)
		all = es_names_have(&tags, VARDATA_ANY(wanted->names[i]), VARSIZE_ANY_EXHDR(wanted->names[i]));
	return all;
}
