/*
 * reference.c
 *		The references of a schema, and what they lead to.
 *
 * The second of the steps to a compiled schema.  A reference leads to somewhere in the
 * document, or into the metaschema, which is taken in when something refers to it;
 * nothing is fetched.  What a JSON pointer leads to need not be at a place where the
 * keywords have a subschema; then it is one from here on.
 */
#include "schema/reference.h"

#include "miscadmin.h"

#include "base/names.h"
#include "json/node.h"
#include "schema/keyword.h"
#include "schema/metaschema.h"
#include "schema/pointer.h"
#include "schema/uri.h"

/* Where a JSON pointer has led to. */
typedef struct Way
{
	EsNode		value;
	const EsPointer *place;
	EsSubschema *known;			/* the innermost subschema on the way */
} Way;

/* Raises 22023 for a reference that leads nowhere. */
ES_NORETURN static void
refuse_reference(const EsSurvey *survey, const EsSubschema *subschema, EsKeyword keyword, const char *reference, bool remote)
{
	const EsPointer *place = es_survey_place_keyword(survey, subschema, keyword);

	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid JSON schema: \"%s\" \"%s\" leads to nothing in the schema",
				   es_keyword_name(keyword), es_names_show(reference)),
			errdetail("The error is at \"%s\" of the schema.", es_pointer_text(place)),
			remote ? errhint("Nothing is fetched: put what is referred to into the schema, under \"$defs\", with its \"$id\".") : 0);
}

/* Reads the number of an element; false if a token is none. */
static bool
read_element_number(const char *token, uint32 len, uint32 *number)
{
	*number = 0;
	if (len == 0 || len > 9 || (len > 1 && token[0] == '0'))
		return false;
	for (uint32 i = 0; i < len; i++)
	{
		if (token[i] < '0' || token[i] > '9')
			return false;
		*number = *number * 10 + (token[i] - '0');
	}
	return true;
}

/* Steps to an element of an array; false if there is none. */
static bool
step_to_element(Way *way, uint32 number)
{
	EsPackedReader reader;

	es_node_begin_elements(&reader, &way->value);
	if (number >= reader.count)
		return false;
	do
	{
		CHECK_FOR_INTERRUPTS();
		(void) es_node_next_element(&reader, &way->value);
	} while (number-- > 0);
	return true;
}

/* Takes a step along a JSON pointer; false if there is nothing. */
static bool
take_pointer_step(const EsSurvey *survey, Way *way, const char *token, uint32 len)
{
	EsNode		name = es_node_view_string(token, len);
	uint32		number = 0;

	if (es_node_is_object(&way->value))
	{
		EsKey		key = es_node_key(token, len);

		if (!es_node_find_packed(&way->value, &key, &way->value))
			return false;
		name.value.bytes = MemoryContextAlloc(survey->keep, len + 1);
		memcpy(name.value.bytes, token, len);
		way->place = es_survey_step(survey, way->place, &name, 0);
	}
	else
	{
		if (!es_node_is_array(&way->value) || !read_element_number(token, len, &number) ||
			!step_to_element(way, number))
			return false;
		way->place = es_survey_step(survey, way->place, NULL, number);
	}
	if (es_node_is_object(&way->value))
	{
		EsSubschema *known = es_survey_find(survey, &way->value);

		if (known)
		{
			way->known = known;
			way->place = known->place;
		}
	}
	return true;
}

/* Finds the subschema that a JSON pointer leads to; NULL if there is none. */
static EsSubschema *
follow_pointer(EsSurvey *survey, EsSubschema *root, const char *pointer)
{
	Way			way = {root->view, root->place, root};
	char	   *token;
	uint32		len;

	while ((token = es_pointer_next(&pointer, &len)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!take_pointer_step(survey, &way, token, len))
			return NULL;
		pfree(token);
	}
	if (way.known->view.kind == ES_NODE_PACKED && way.known->view.value.bytes == way.value.value.bytes &&
		way.value.kind == ES_NODE_PACKED)
		return way.known;
	return es_survey_take(survey, &way.value, way.place, way.known->resource, way.known->level + 1);
}

/* Finds what a reference leads to; the metaschema is taken in if it is asked for. */
static bool
find_referenced(EsSurvey *survey, const char *uri, const char *fragment, EsNamed *named)
{
	MemoryContext old;
	Jsonb	   *json;

	if (!es_survey_find_name(survey, uri, NULL, named))
	{
		old = MemoryContextSwitchTo(survey->keep);
		json = es_metaschema_find(uri);
		MemoryContextSwitchTo(old);
		if (json == NULL)
			return false;
		named->target = es_survey_take_resource(survey, json, uri);
		named->dynamic = false;
	}
	if (fragment == NULL)
		return false;
	if (fragment[0] == '/')
		named->target = follow_pointer(survey, named->target, fragment);
	else if (fragment[0] != '\0')
		return es_survey_find_name(survey, uri, fragment, named);
	return named->target != NULL;
}

/* Resolves a reference of a subschema, if it has one. */
static bool
resolve_keyword(EsSurvey *survey, EsSubschema *subschema, EsKeyword keyword, EsNamed *named, char **fragment)
{
	const char *name = es_keyword_name(keyword);
	EsKey		key = es_node_key(name, strlen(name));
	EsNode		value;
	char	   *reference;
	char	   *uri;

	if (!es_node_find_packed(&subschema->view, &key, &value))
		return false;
	reference = pnstrdup(value.value.bytes, value.len);
	uri = es_uri_resolve(subschema->resource->uri, reference, fragment);
	if (!survey->stored && strlen(uri) > ES_MOST_URI)
		es_survey_refuse(es_survey_place_keyword(survey, subschema, keyword), name, ES_URI_TOO_LONG);
	if (!find_referenced(survey, uri, *fragment, named))
		refuse_reference(survey, subschema, keyword, reference, !es_survey_find_name(survey, uri, NULL, named));
	pfree(reference);
	pfree(uri);
	return true;
}

/* Tells whether a subschema with $ref asserts nothing else. */
static bool
is_mere_reference(const EsSubschema *subschema)
{
	EsPackedReader reader;
	EsNode		key;
	EsNode		value;

	es_node_begin_members(&reader, &subschema->view);
	while (es_node_next_member(&reader, &key, &value))
	{
		EsKeyword	keyword = es_keyword_find(&key);

		if (keyword != ES_KEYWORD_REF && !es_keyword_only_notes(keyword))
			return false;
	}
	return true;
}

void
es_reference_resolve_all(EsSurvey *survey)
{
	/* the list grows on the way */
	for (EsSubschema *subschema = survey->first; subschema; subschema = subschema->next)
	{
		EsNamed		named = {NULL};
		char	   *fragment;

		CHECK_FOR_INTERRUPTS();
		if (subschema->view.kind == ES_NODE_BOOL)
			continue;
		if (resolve_keyword(survey, subschema, ES_KEYWORD_REF, &named, &fragment))
		{
			subschema->ref = named.target;
			subschema->mere_ref = is_mere_reference(subschema);
			pfree(fragment);
		}
		if (!resolve_keyword(survey, subschema, ES_KEYWORD_DYNAMIC_REF, &named, &fragment))
			continue;
		subschema->dynamic_ref = named.target;
		if (named.dynamic)
			subschema->dynamic_name = fragment;
		else
			pfree(fragment);
	}
}
