/*
 * tags.c
 *		Tags: strings in an event's metadata that queries are stated over.
 *
 * An event's tags are the strings of the array "tags" in its metadata; anything
 * else there is left alone, and a tag that is there twice is one.  Indexes have
 * tags by a key of 64 bits (table/tagindex.c).  Two tags may have the same key, so
 * what an index says of an event is looked up in the event.
 */
#include "json/tags.h"

#include "common/hashfn.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define KEY_SEED		0		/* in the indexes of every store: not to be
								 * changed */

/* Finds the array of tags in metadata; false if there is none. */
static bool
find_tag_array(Datum metadata, JsonbContainer **array)
{
	Jsonb	   *object = DatumGetJsonbP(metadata);
	JsonbValue	found;

	if (JB_ROOT_COUNT(object) == 0 || !JB_ROOT_IS_OBJECT(object) ||
		getKeyJsonValueFromContainer(&object->root, "tags", 4, &found) == NULL ||
		found.type != jbvBinary || !JsonContainerIsArray(found.val.binary.data))
		return false;
	*array = found.val.binary.data;
	return true;
}

/*
 * es_tags_key gives the key of a tag.  The server's hash functions are the same in
 * all releases, since its own indexes rely on it.
 */
int64
es_tags_key(const char *tag, int len)
{
	return (int64) hash_bytes_extended((const unsigned char *) tag, len, KEY_SEED);
}

/* Compares two keys, for sorting. */
static int
compare_tag_keys(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* es_tags_keys gives the keys of the tags in an event's metadata. */
void
es_tags_keys(Datum metadata, EsTagKeys *keys)
{
	JsonbContainer *array;
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;

	keys->count = 0;
	keys->keys = keys->few;
	if (!find_tag_array(metadata, &array))
		return;
	if (JsonContainerSize(array) > ES_TAGS_FEW)
		keys->keys = palloc(sizeof(int64) * JsonContainerSize(array));
	iterator = JsonbIteratorInit(array);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_ELEM && value.type == jbvString)
			keys->keys[keys->count++] = es_tags_key(value.val.string.val, value.val.string.len);
	}
	if (keys->count < 2)
		return;
	qsort(keys->keys, keys->count, sizeof(int64), compare_tag_keys);
	keys->count = qunique(keys->keys, keys->count, sizeof(int64), compare_tag_keys);
}

/*
 * es_tags_any tells whether an event may have tags.  That it has none all the same
 * costs time only.
 */
bool
es_tags_any(Datum metadata)
{
	JsonbContainer *array;

	return find_tag_array(metadata, &array) && JsonContainerSize(array) > 0;
}

/*
 * es_tags_check raises 22023 if an event's metadata has a tag that is no name; it gives the bits
 * of its tags.
 */
uint64
es_tags_check(Datum metadata)
{
	JsonbContainer *array;
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;
	uint64		bits = 0;

	if (!find_tag_array(metadata, &array))
		return 0;
	iterator = JsonbIteratorInit(array);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		text	   *tag;

		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM || value.type != jbvString)
			continue;
		tag = cstring_to_text_with_len(value.val.string.val, value.val.string.len);
		es_names_check(tag, ES_NAME_TAG);
		pfree(tag);
		bits |= es_tags_bits(es_tags_key(value.val.string.val, value.val.string.len));
	}
	return bits;
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

/*
 * es_tags_have_all tells whether an event's metadata has all of some tags, which are
 * each there once.
 */
bool
es_tags_have_all(Datum metadata, const EsNames *wanted)
{
	JsonbContainer *array;
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;
	EsNames		met = {0};

	if (wanted->count == 0)
		return true;
	if (!find_tag_array(metadata, &array) || JsonContainerSize(array) < wanted->count)
		return false;
	iterator = JsonbIteratorInit(array);
	while (met.count < wanted->count && (token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM || value.type != jbvString ||
			!es_names_have(wanted, value.val.string.val, value.val.string.len))
			continue;
		if (wanted->count == 1)
			return true;
		(void) es_names_add(&met, cstring_to_text_with_len(value.val.string.val, value.val.string.len));
	}
	return met.count == wanted->count;
}
