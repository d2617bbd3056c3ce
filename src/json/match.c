/*
 * match.c
 *		Queries: which events somebody asks for, and whether an event is one of them.
 *
 * A query is an array of items, or an object whose only member "items" is that array,
 * as the specification at dcb.events has it.  Whatever could be a slip of the pen is
 * refused, since a condition that asks for something else than was meant lets pass
 * what it was made to stop.
 *
 * Of a query with many items an event is not held against each.  An item with tags is
 * kept under the tag of its own that the fewest items have, so only those are looked at
 * that are kept under one of the event's tags.  Those without tags come to one set of
 * types.
 *
 * Needs no catalogs: the output plugin asks, too.
 */
#include "json/match.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "json/tags.h"

#define MANY_ITEMS	16			/* worth an index */

/* A tag, and the items that are kept under it. */
typedef struct EsQueryTag
{
	int64		key;			/* of the tag, see es_tags_key; hash key */
	int			uses;			/* how many items have it */
	int			first;			/* the first item kept under it; -1: none */
	char		status;
} EsQueryTag;

#define SH_PREFIX itemindex
#define SH_ELEMENT_TYPE EsQueryTag
#define SH_KEY_TYPE int64
#define SH_KEY key
#define SH_HASH_KEY(tb, key) ((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The items of a query. */
typedef struct EsQueryIndex
{
	itemindex_hash *tags;
	int		   *next;			/* of an item, the next one under its tag; -1:
								 * none */
	EsNames		types;			/* of the items without tags */
} EsQueryIndex;

/* Says, in an error, what a query is. */
static int
say_query(void)
{
	return errhint("A query is an array of {\"types\"?: [string, ...], \"tags\"?: [string, ...], \"last\"?: boolean}, each with types or tags.");
}

/* Says which item of the query it is about, from 1, too. */
static int
say_item(int number)
{
	errdetail("The error is in item %d of the query.", number);
	return say_query();
}

/* Raises 22023 for a list of names of an item that is none. */
ES_NORETURN static void
refuse_query_names(const char *list, int number)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("\"%s\" of a query's item must be an array of strings, and not empty", list),
			say_item(number));
}

/* Takes the names of an item's member, which must be an array of strings with something in it. */
static EsNames
take_query_names(const JsonbValue *member, EsNameKind kind, const char *list, int number)
{
	EsNames		names = {.set = true};
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (member->type != jbvBinary || !JsonContainerIsArray(member->val.binary.data) ||
		JsonContainerIsScalar(member->val.binary.data))
		refuse_query_names(list, number);
	es_names_check_count(JsonContainerSize(member->val.binary.data), list);
	iterator = JsonbIteratorInit(member->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		text	   *name;

		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		if (value.type != jbvString)
			refuse_query_names(list, number);
		name = cstring_to_text_with_len(value.val.string.val, value.val.string.len);
		es_names_check(name, kind);
		(void) es_names_add(&names, name);
	}
	if (names.count == 0)
		refuse_query_names(list, number);
	return names;
}

/* Tells whether a member has a name. */
static bool
is_member(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) && memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* Takes a member of an item, whose types are of a kind. */
static void
take_query_member(EsQueryItem *item, const JsonbValue *key, const JsonbValue *value, EsNameKind kind, int number)
{
	if (is_member(key, "types"))
		item->types = take_query_names(value, kind, "types", number);
	else if (is_member(key, "tags"))
		item->tags = take_query_names(value, ES_NAME_TAG, "tags", number);
	else if (!is_member(key, "last"))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("item of a query has unknown member \"%s\"",
					   es_names_show_bytes(key->val.string.val, key->val.string.len)),
				say_item(number));
	else if (value->type != jbvBool)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"last\" of a query's item must be true or false"),
				say_item(number));
	else
		item->last = value->val.boolean;
}

/* Takes an item. */
static void
take_query_item(EsQueryItem *item, const JsonbValue *value, EsNameKind kind, int number)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	member;

	memset(item, 0, sizeof(*item));
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("item of a query must be an object"),
				say_item(number));
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &member, true);
		take_query_member(item, &key, &member, kind, number);
	}
	if (!item->types.set && !item->tags.set)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("item of a query has neither \"types\" nor \"tags\""),
				say_item(number));
}

/* ---- many items ---- */

/* es_match_tag_key gives the key of an item's tag. */
int64
es_match_tag_key(const EsQueryItem *item, int tag)
{
	const text *name = item->tags.names[tag];

	return es_tags_key(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
}

/* Counts the uses of an item's tags. */
static void
count_item_tags(EsQueryIndex *index, const EsQueryItem *item)
{
	for (int i = 0; i < item->tags.count; i++)
	{
		bool		known;
		EsQueryTag *tag = itemindex_insert(index->tags, es_match_tag_key(item, i), &known);

		CHECK_FOR_INTERRUPTS();
		if (!known)
		{
			tag->uses = 0;
			tag->first = -1;
		}
		tag->uses++;
	}
}

/* Keeps an item under the rarest of its tags, or with its types. */
static void
keep_indexed_item(EsQueryIndex *index, const EsQueryItem *items, int number)
{
	const EsQueryItem *item = &items[number];
	EsQueryTag *rarest = NULL;

	for (int i = 0; i < item->tags.count; i++)
	{
		EsQueryTag *tag = itemindex_lookup(index->tags, es_match_tag_key(item, i));

		CHECK_FOR_INTERRUPTS();
		if (rarest == NULL || tag->uses < rarest->uses)
			rarest = tag;
	}
	if (rarest)
	{
		index->next[number] = rarest->first;
		rarest->first = number;
	}
	for (int i = 0; rarest == NULL && i < item->types.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		index->types.set = true;
		(void) es_names_add(&index->types, item->types.names[i]);
	}
}

/* Makes the index of a query's items, each of which has types or tags. */
static EsQueryIndex *
index_query_items(const EsQuery *query)
{
	EsQueryIndex *index = palloc0(sizeof(EsQueryIndex));

	index->tags = itemindex_create(CurrentMemoryContext, query->count, NULL);
	index->next = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * query->count);
	for (int i = 0; i < query->count; i++)
		count_item_tags(index, &query->items[i]);
	for (int i = 0; i < query->count; i++)
		keep_indexed_item(index, query->items, i);
	return index;
}

/* Tells whether an item that the index leads to is about an event. */
static bool
matches_indexed_item(const EsQuery *query, const EsEvent *event)
{
	const EsQueryIndex *index = query->index;
	const EsNames all = {0};
	EsTagKeys	keys;

	if (index->types.set && es_names_pass(&all, &index->types, event))
		return true;
	es_tags_keys(event->metadata, &keys);
	for (int i = 0; i < keys.count; i++)
	{
		const EsQueryTag *tag = itemindex_lookup(index->tags, keys.keys[i]);

		for (int item = tag ? tag->first : -1; item >= 0; item = index->next[item])
		{
			CHECK_FOR_INTERRUPTS();
			if (es_match_item(&query->items[item], event))
				return true;
		}
	}
	return false;
}

/* ---- queries ---- */

/* Finds the array of items in a query; NULL if it has none. */
static JsonbContainer *
find_query_items(Jsonb *json)
{
	JsonbValue	items;

	if (JB_ROOT_IS_ARRAY(json) && !JB_ROOT_IS_SCALAR(json))
		return &json->root;
	if (!JB_ROOT_IS_OBJECT(json) || JB_ROOT_COUNT(json) != 1 ||
		getKeyJsonValueFromContainer(&json->root, "items", 5, &items) == NULL ||
		items.type != jbvBinary || !JsonContainerIsArray(items.val.binary.data))
		return NULL;
	return items.val.binary.data;
}

/* Reads a query, whose types are of a kind; 22023 for what is none. */
static EsQuery *
read_query(Jsonb *json, EsNameKind kind)
{
	JsonbContainer *items = find_query_items(json);
	EsQuery    *query = palloc(sizeof(EsQuery));
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (items == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("query must be an array of items, or an object with such an array as its only member \"items\""),
				say_query());
	if (JsonContainerSize(items) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("query has no items"),
				errhint("NULL in place of a query asks for all events."));
	es_names_check_count(JsonContainerSize(items), "query");
	query->items = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsQueryItem) * JsonContainerSize(items));
	query->count = 0;
	query->all_tagged = true;
	query->index = NULL;
	iterator = JsonbIteratorInit(items);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_ELEM)
		{
			take_query_item(&query->items[query->count], &item, kind, query->count + 1);
			query->all_tagged &= query->items[query->count].tags.count > 0;
			query->count++;
		}
	}
	if (query->count >= MANY_ITEMS)
		query->index = index_query_items(query);
	return query;
}

/* es_match_query_from_json reads a query that somebody gives; 22023 for what is none. */
EsQuery *
es_match_query_from_json(Jsonb *json)
{
	return read_query(json, ES_NAME_TYPE);
}

/* es_match_query_of_stored reads a query that is stored, maybe by an earlier release. */
EsQuery *
es_match_query_of_stored(Jsonb *json)
{
	return read_query(json, ES_NAME_STORED_TYPE);
}

/* es_match_query_or_none gives JSON that may be null, which takes a query away: then NULL. */
Jsonb *
es_match_query_or_none(Jsonb *json)
{
	JsonbValue *scalar = JB_ROOT_IS_SCALAR(json) ? getIthJsonbValueFromContainer(&json->root, 0) : NULL;

	return scalar && scalar->type == jbvNull ? NULL : json;
}

/* es_match_query_arg reads a query that is an argument; NULL if that is NULL. */
EsQuery *
es_match_query_arg(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : es_match_query_from_json(PG_GETARG_JSONB_P(argno));
}

/* es_match_query_of makes the query for events of one of the types with all the tags. */
EsQuery *
es_match_query_of(const EsNames *types, const EsNames *tags)
{
	EsQuery    *query = palloc(sizeof(EsQuery));

	query->count = 1;
	query->items = palloc0(sizeof(EsQueryItem));
	query->items->types = *types;
	query->items->tags = *tags;
	query->all_tagged = tags->count > 0;
	query->index = NULL;
	return query;
}

/*
 * es_match_query_check_followed raises 22023 for a query that cannot be followed: one
 * that asks for a last event.
 */
void
es_match_query_check_followed(const EsQuery *query)
{
	for (int i = 0; query && i < query->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (query->items[i].last)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the query of a subscription or feed cannot have \"last\""),
					errdetail("Item %d of the query asks for its last event, but what is followed goes on.", i + 1),
					errhint("Leave \"last\" out, or read the last event with es_read_query."));
	}
}

/*
 * es_match_tag_sets gives the tags of each item of a query, as bits (json/tags.h); false if an item
 * is not about tags, or there are more items than most.
 */
bool
es_match_tag_sets(const EsQuery *query, int most, uint64 *sets)
{
	if (!query->all_tagged || query->count > most)
		return false;
	for (int i = 0; i < query->count; i++)
	{
		sets[i] = 0;
		for (int tag = 0; tag < query->items[i].tags.count; tag++)
			sets[i] |= es_tags_bits(es_match_tag_key(&query->items[i], tag));
	}
	return true;
}

/* es_match_item tells whether an event is one that an item is about, be it the last one or not. */
bool
es_match_item(const EsQueryItem *item, const EsEvent *event)
{
	const EsNames all = {0};

	return es_names_pass(&all, &item->types, event) &&
		(!item->tags.set || es_tags_have_all(event->metadata, &item->tags));
}

/* Tells whether metadata are known to be an object with nothing in it, as they are stored. */
static inline bool
is_bare_metadata(Datum metadata)
{
	const void *stored = DatumGetPointer(metadata);

	return !VARATT_IS_EXTERNAL(stored) && VARSIZE_ANY_EXHDR(stored) == offsetof(JsonbContainer, children);
}

/*
 * es_match_query tells whether an item is about an event, be it the last one or not.  May
 * leave something in the current memory context.
 */
bool
es_match_query(const EsQuery *query, const EsEvent *event)
{
	EsEvent		plain;

	if (query->all_tagged && is_bare_metadata(event->metadata))
		return false;
	plain = *event;
	plain.metadata = JsonbPGetDatum(DatumGetJsonbP(event->metadata));	/* once for all items */
	if (query->all_tagged && query->count > 1 && !es_tags_any(plain.metadata))
		return false;
	if (query->index)
		return matches_indexed_item(query, &plain);
	for (int i = 0; i < query->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (es_match_item(&query->items[i], &plain))
			return true;
	}
	return false;
}
