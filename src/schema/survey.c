/*
 * survey.c
 *		What is where in a schema: its subschemas, identifiers, anchors, expressions.
 *
 * The first of the steps to a compiled schema.  It walks through the whole document,
 * also through what nothing refers to, and refuses what the metaschema refuses, but for
 * lists in "dependencies", which assert nothing.  Unknown keywords are left alone; a
 * reference may lead into one, then what is there is taken for a subschema later on
 * (reference.c), and may be once more, as part of what is around it.
 *
 * Subschemas are known by the address of their JSON.  The tables of names are seeded at
 * random, since the names come from whoever made the schema.
 */
#include "schema/survey.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "schema/ecma.h"
#include "schema/keyword.h"
#include "schema/pattern.h"
#include "schema/pointer.h"
#include "schema/uri.h"

#define MOST_LEVELS		1000	/* of subschemas within subschemas */
#define MOST_WEIGHT		100000	/* of all regular expressions */
#define MOST_NAMES_SIZE	(32 * 1024 * 1024)	/* bytes of all identifiers and
											 * anchors, resolved */

/* A subschema by the address of its JSON. */
typedef struct AddressEntry
{
	const char *address;
	EsSubschema *subschema;
	char		status;
} AddressEntry;

#define SH_PREFIX addresstable
#define SH_ELEMENT_TYPE AddressEntry
#define SH_KEY_TYPE const char *
#define SH_KEY address
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (uintptr_t) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* A text: a regular expression, or a name and what it stands for. */
typedef struct TextKey
{
	const char *bytes;
	uint32		len;
} TextKey;

typedef struct TextEntry
{
	TextKey		key;
	uint32		hash;
	EsNamed		named;
	const EsRegex *pattern;
	int			number;			/* of a dynamic name */
	char		status;
} TextEntry;

static inline uint32
hash_text_key(uint64 *seed, TextKey key)
{
	return (uint32) hash_bytes_extended((const unsigned char *) key.bytes, key.len, *seed);
}

#define SH_PREFIX texttable
#define SH_ELEMENT_TYPE TextEntry
#define SH_KEY_TYPE TextKey
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_text_key((tb)->private_data, key)
#define SH_EQUAL(tb, a, b) ((a).len == (b).len && memcmp((a).bytes, (b).bytes, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

void
es_survey_refuse(const EsPointer *place, const char *what, const char *wrong)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid JSON schema: \"%s\" %s", es_names_show_bytes(what, strlen(what)), wrong),
			errdetail("The error is at \"%s\" of the schema.", es_pointer_text(place)));
}

/* Raises 22023 for what is no schema at all. */
ES_NORETURN static void
refuse_subschema(const EsPointer *place, const char *wrong)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid JSON schema: it %s", wrong),
			errdetail("The error is at \"%s\" of the schema.", es_pointer_text(place)));
}

/* es_survey_step gives the place a step below another, by a key or else by a number. */
EsPointer *
es_survey_step(const EsSurvey *survey, const EsPointer *above, const EsNode *key, uint32 number)
{
	EsPointer  *place = MemoryContextAlloc(survey->keep, sizeof(EsPointer));

	place->above = above;
	place->key = key ? key->value.bytes : NULL;
	place->len = key ? key->len : 0;
	place->number = number;
	return place;
}

/* Gives a string's bytes with an end. */
static char *
copy_view_string(const EsNode *view)
{
	return pnstrdup(view->value.bytes, view->len);
}

/* ---- names ---- */

/* Makes a key of a text; its length may be -1 if it has an end. */
static TextKey
text_key_of(const char *bytes, int len)
{
	TextKey		key;

	key.bytes = bytes;
	key.len = len < 0 ? strlen(bytes) : len;
	return key;
}

/* Makes the text that a URI, or an anchor of it, is found by; of a URI it is that itself. */
static TextKey
make_name_key(const char *uri, const char *anchor)
{
	return text_key_of(anchor ? psprintf("%s#%s", uri, anchor) : uri, -1);
}

/*
 * Enters a name; 22023 if it stands for something else already.  The URI lives as long as
 * the survey.
 */
static void
enter_name(EsSurvey *survey, const char *uri, const char *anchor, const EsNamed *named, const EsPointer *place)
{
	bool		known;
	TextEntry  *entry = texttable_insert(survey->names, make_name_key(uri, anchor), &known);

	survey->names_size += entry->key.len;
	if (survey->names_size > MOST_NAMES_SIZE)
		es_survey_refuse(place, anchor ? anchor : uri, "is one identifier or anchor too many: resolved, they are longer than 32 MB");
	if (known && entry->named.target != named->target)
		es_survey_refuse(place, anchor ? anchor : uri, anchor ? "is the name of two anchors" : "is the identifier of two schemas");
	if (!known)
		entry->named = *named;
	entry->named.dynamic |= named->dynamic;
}

/* es_survey_find_name finds what a URI stands for, or an anchor if that is not NULL. */
bool
es_survey_find_name(const EsSurvey *survey, const char *uri, const char *anchor, EsNamed *named)
{
	TextKey		key = make_name_key(uri, anchor);
	TextEntry  *entry = texttable_lookup(survey->names, key);

	if (anchor)
		pfree(unconstify(char *, key.bytes));
	if (entry)
		*named = entry->named;
	return entry != NULL;
}

/*
 * es_survey_number_name gives the number of a name that some $dynamicRef asks for; such
 * names are added.  -1 for a name that none asks for.
 */
int
es_survey_number_name(EsSurvey *survey, const char *name, bool add)
{
	TextKey		key = text_key_of(name, -1);
	TextEntry  *entry = texttable_lookup(survey->dynamic_names, key);
	bool		known;

	if (entry == NULL && add)
	{
		entry = texttable_insert(survey->dynamic_names, key, &known);
		entry->number = survey->dynamic_count++;
	}
	return entry ? entry->number : -1;
}

/* Begins a resource, with a subschema as its root. */
static void
begin_resource(EsSurvey *survey, EsSubschema *subschema, const char *uri, const EsPointer *place)
{
	EsResource *resource = palloc0(sizeof(EsResource));
	EsNamed		named = {subschema, false};

	resource->uri = uri;
	resource->root = subschema;
	resource->next = survey->resources;
	survey->resources = resource;
	subschema->resource = resource;
	enter_name(survey, uri, NULL, &named, place);
}

/* Finds a member of a subschema that is a string. */
static bool
find_string_member(const EsSubschema *subschema, EsKeyword keyword, EsNode *value)
{
	const char *name = es_keyword_name(keyword);
	EsKey		key = es_node_key(name, strlen(name));

	return es_node_find_packed(&subschema->view, &key, value) && value->kind == ES_NODE_STRING;
}

/* es_survey_place_keyword gives the place of a subschema's keyword. */
const EsPointer *
es_survey_place_keyword(const EsSurvey *survey, const EsSubschema *subschema, EsKeyword keyword)
{
	const char *name = es_keyword_name(keyword);
	EsNode		key = es_node_view_string(name, strlen(name));

	return es_survey_step(survey, subschema->place, &key, 0);
}

/* Takes a subschema's $anchor or $dynamicAnchor, if it has one. */
static void
take_anchor(EsSurvey *survey, EsSubschema *subschema, EsKeyword keyword)
{
	EsNamed		named = {subschema, keyword == ES_KEYWORD_DYNAMIC_ANCHOR};
	EsNode		value;
	char	   *name;

	if (!find_string_member(subschema, keyword, &value))
		return;
	name = copy_view_string(&value);
	enter_name(survey, subschema->resource->uri, name, &named, es_survey_place_keyword(survey, subschema, keyword));
	if (named.dynamic)
	{
		EsDynamicAnchor *anchor = palloc0(sizeof(EsDynamicAnchor));

		anchor->name = name;
		anchor->target = subschema;
		anchor->number = -1;
		anchor->next = subschema->resource->anchors;
		subschema->resource->anchors = anchor;
	}
}

/* Takes the names that a subschema has. */
static void
take_names(EsSurvey *survey, EsSubschema *subschema)
{
	EsNode		id;
	char	   *fragment;

	if (find_string_member(subschema, ES_KEYWORD_ID, &id) && es_keyword_check(ES_KEYWORD_ID, &id) == NULL)
	{
		const char *base = subschema->resource ? subschema->resource->uri : "";
		const EsPointer *place = es_survey_place_keyword(survey, subschema, ES_KEYWORD_ID);
		char	   *given = copy_view_string(&id);
		char	   *uri = es_uri_resolve(base, given, &fragment);

		if (!survey->stored && strlen(uri) > ES_MOST_URI)
			es_survey_refuse(place, es_keyword_name(ES_KEYWORD_ID), ES_URI_TOO_LONG);
		begin_resource(survey, subschema, uri, place);
		pfree(given);
		pfree(fragment);
	}
	else if (subschema->resource == NULL)
		begin_resource(survey, subschema, "", subschema->place);
	take_anchor(survey, subschema, ES_KEYWORD_ANCHOR);
	take_anchor(survey, subschema, ES_KEYWORD_DYNAMIC_ANCHOR);
}

/* ---- regular expressions ---- */

/* Compiles a regular expression, unless it is known already. */
static void
take_pattern(EsSurvey *survey, const EsNode *text, const EsPointer *place)
{
	TextKey		key = text_key_of(text->value.bytes, text->len);
	bool		known;
	TextEntry  *entry = texttable_insert(survey->patterns, key, &known);
	MemoryContext old;
	const char *fault = NULL;
	uint64		weight = 0;

	if (known)
		return;
	old = MemoryContextSwitchTo(survey->keep);
	entry->pattern = es_pattern_compile(text->value.bytes, text->len, survey->stored, &weight, &fault);
	MemoryContextSwitchTo(old);
	survey->weight += weight;
	if (survey->weight > MOST_WEIGHT * (survey->stored ? ES_STORED_WEIGHT : 1))
		fault = "All expressions of the schema together are too large.";
	if (fault)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid JSON schema: regular expression \"%s\" cannot be used",
					   es_names_show_bytes(text->value.bytes, text->len)),
				errdetail("%s The error is at \"%s\" of the schema.", fault, es_pointer_text(place)));
}

/* es_survey_pattern gives a regular expression of the schema, compiled. */
const EsRegex *
es_survey_pattern(const EsSurvey *survey, const EsNode *text)
{
	TextKey		key = text_key_of(text->value.bytes, text->len);

	return texttable_lookup(survey->patterns, key)->pattern;
}

/* ---- the walk ---- */

/* Takes the subschemas of an object's members. */
static void
take_subschema_map(EsSurvey *survey, const EsSubschema *parent, const EsNode *map, EsKeywordForm form, const EsPointer *place)
{
	EsPackedReader reader;
	EsNode		key;
	EsNode		value;

	es_node_begin_members(&reader, map);
	while (es_node_next_member(&reader, &key, &value))
	{
		const EsPointer *below = es_survey_step(survey, place, &key, 0);

		if (form == ES_FORM_PATTERN_MAP)
			take_pattern(survey, &key, below);
		if (form == ES_FORM_DEPENDENCIES && es_node_is_array(&value))
			continue;
		(void) es_survey_take(survey, &value, below, parent->resource, parent->level + 1);
	}
}

/* Takes the subschemas of an array. */
static void
take_subschema_list(EsSurvey *survey, const EsSubschema *parent, const EsNode *list, const EsPointer *place)
{
	EsPackedReader reader;
	EsNode		value;

	es_node_begin_elements(&reader, list);
	while (es_node_next_element(&reader, &value))
		(void) es_survey_take(survey, &value, es_survey_step(survey, place, NULL, reader.next - 1),
							  parent->resource, parent->level + 1);
}

/* Takes a member of a schema. */
static void
take_schema_member(EsSurvey *survey, const EsSubschema *parent, const EsNode *key, const EsNode *value)
{
	EsKeyword	keyword = es_keyword_find(key);
	EsKeywordForm form = es_keyword_form(keyword);
	const EsPointer *place;
	const char *wrong;

	if (keyword == ES_KEYWORD_UNKNOWN)
		return;
	place = es_survey_step(survey, parent->place, key, 0);
	wrong = es_keyword_check(keyword, value);
	if (wrong)
		es_survey_refuse(place, es_keyword_name(keyword), wrong);
	switch (form)
	{
		case ES_FORM_SCHEMA:
			(void) es_survey_take(survey, value, place, parent->resource, parent->level + 1);
			break;
		case ES_FORM_SCHEMAS:
			take_subschema_list(survey, parent, value, place);
			break;
		case ES_FORM_SCHEMA_MAP:
		case ES_FORM_PATTERN_MAP:
		case ES_FORM_DEPENDENCIES:
			take_subschema_map(survey, parent, value, form, place);
			break;
		case ES_FORM_PATTERN:
			take_pattern(survey, value, place);
			break;
		default:
			break;
	}
}

/* Notes a subschema, in which nothing has been looked at yet. */
static EsSubschema *
note_subschema(EsSurvey *survey, const EsNode *view, const EsPointer *place, EsResource *resource, int level)
{
	EsSubschema *subschema = palloc0(sizeof(EsSubschema));
	bool		known;

	subschema->view = *view;
	subschema->place = place;
	subschema->resource = resource;
	subschema->level = level;
	subschema->dynamic_number = -1;
	if (survey->last)
		survey->last->next = subschema;
	else
		survey->first = subschema;
	survey->last = subschema;
	survey->count++;
	if (view->kind == ES_NODE_PACKED)
		addresstable_insert(survey->addresses, view->value.bytes, &known)->subschema = subschema;
	return subschema;
}

/*
 * es_survey_take takes a subschema and all below it, unless it is known; 22023 if there is
 * something wrong with them.  "resource" is the one that it is in, NULL for a document
 * without one.
 */
EsSubschema *
es_survey_take(EsSurvey *survey, const EsNode *view, const EsPointer *place, EsResource *resource, int level)
{
	EsSubschema *subschema;
	EsPackedReader reader;
	EsNode		key;
	EsNode		value;

	CHECK_FOR_INTERRUPTS();
	if (view->kind != ES_NODE_BOOL && !es_node_is_object(view))
		refuse_subschema(place, "must be an object or a boolean");
	if (level > MOST_LEVELS || stack_is_too_deep())
		refuse_subschema(NULL, "is nested too deeply");
	subschema = view->kind == ES_NODE_BOOL ? NULL : es_survey_find(survey, view);
	if (subschema && (subschema->resource == resource || subschema->resource->root == subschema))
		return subschema;
	subschema = note_subschema(survey, view, place, resource, level);
	if (view->kind == ES_NODE_BOOL)
	{
		if (resource == NULL)
			begin_resource(survey, subschema, "", place);
		return subschema;
	}
	es_node_begin_members(&reader, view);
	take_names(survey, subschema);
	while (es_node_next_member(&reader, &key, &value))
		take_schema_member(survey, subschema, &key, &value);
	return subschema;
}

/* es_survey_take_resource takes a further document, which has a URI. */
EsSubschema *
es_survey_take_resource(EsSurvey *survey, Jsonb *json, const char *uri)
{
	EsNode		view = es_node_view(json);
	EsNamed		named;

	(void) es_survey_take(survey, &view, NULL, NULL, 0);
	if (!es_survey_find_name(survey, uri, NULL, &named))
		elog(ERROR, "schema \"%s\" has another identifier", uri);
	return named.target;
}

/* es_survey_find gives the subschema that an object is; NULL if it is not known as one. */
EsSubschema *
es_survey_find(const EsSurvey *survey, const EsNode *view)
{
	AddressEntry *entry = addresstable_lookup(survey->addresses, view->value.bytes);

	return entry ? entry->subschema : NULL;
}

/* es_survey_make makes the survey of a schema, which must be in "keep". */
EsSurvey *
es_survey_make(Jsonb *json, bool stored, MemoryContext keep)
{
	EsSurvey   *survey = palloc0(sizeof(EsSurvey));
	uint64	   *seed = palloc(sizeof(uint64));
	EsNode		view = es_node_view(json);

	*seed = pg_prng_uint64(&pg_global_prng_state);
	survey->keep = keep;
	survey->stored = stored;
	survey->addresses = addresstable_create(CurrentMemoryContext, 64, NULL);
	survey->names = texttable_create(CurrentMemoryContext, 16, seed);
	survey->patterns = texttable_create(CurrentMemoryContext, 16, seed);
	survey->dynamic_names = texttable_create(CurrentMemoryContext, 4, seed);
	survey->root = es_survey_take(survey, &view, NULL, NULL, 0);
	return survey;
}
