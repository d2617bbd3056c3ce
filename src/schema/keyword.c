/*
 * keyword.c
 *		The keywords of JSON Schema 2020-12, and what values they take.
 *
 * All of the metaschema's rules, but that a schema is an object or a boolean, which
 * survey.c sees to as it walks through one.
 */
#include "schema/keyword.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "schema/model.h"
#include "schema/order.h"

/* In the order of EsKeyword. */
static const struct
{
	const char *name;
	EsKeywordForm form;
}			keywords[] = {
	{"if", ES_FORM_SCHEMA},
	{"$id", ES_FORM_ID},
	{"not", ES_FORM_SCHEMA},
	{"$ref", ES_FORM_STRING},
	{"else", ES_FORM_SCHEMA},
	{"enum", ES_FORM_ARRAY},
	{"then", ES_FORM_SCHEMA},
	{"type", ES_FORM_TYPES},
	{"$defs", ES_FORM_SCHEMA_MAP},
	{"allOf", ES_FORM_SCHEMAS},
	{"anyOf", ES_FORM_SCHEMAS},
	{"const", ES_FORM_ANY},
	{"items", ES_FORM_SCHEMA},
	{"oneOf", ES_FORM_SCHEMAS},
	{"title", ES_FORM_STRING},
	{"format", ES_FORM_STRING},
	{"$anchor", ES_FORM_ANCHOR},
	{"$schema", ES_FORM_DIALECT},
	{"default", ES_FORM_ANY},
	{"maximum", ES_FORM_NUMBER},
	{"minimum", ES_FORM_NUMBER},
	{"pattern", ES_FORM_PATTERN},
	{"$comment", ES_FORM_STRING},
	{"contains", ES_FORM_SCHEMA},
	{"examples", ES_FORM_ARRAY},
	{"maxItems", ES_FORM_COUNT},
	{"minItems", ES_FORM_COUNT},
	{"readOnly", ES_FORM_BOOLEAN},
	{"required", ES_FORM_NAMES},
	{"maxLength", ES_FORM_COUNT},
	{"minLength", ES_FORM_COUNT},
	{"writeOnly", ES_FORM_BOOLEAN},
	{"deprecated", ES_FORM_BOOLEAN},
	{"multipleOf", ES_FORM_POSITIVE},
	{"properties", ES_FORM_SCHEMA_MAP},
	{"$dynamicRef", ES_FORM_STRING},
	{"$vocabulary", ES_FORM_VOCABULARY},
	{"definitions", ES_FORM_SCHEMA_MAP},
	{"description", ES_FORM_STRING},
	{"maxContains", ES_FORM_COUNT},
	{"minContains", ES_FORM_COUNT},
	{"prefixItems", ES_FORM_SCHEMAS},
	{"uniqueItems", ES_FORM_BOOLEAN},
	{"dependencies", ES_FORM_DEPENDENCIES},
	{"$recursiveRef", ES_FORM_STRING},
	{"contentSchema", ES_FORM_SCHEMA},
	{"maxProperties", ES_FORM_COUNT},
	{"minProperties", ES_FORM_COUNT},
	{"propertyNames", ES_FORM_SCHEMA},
	{"$dynamicAnchor", ES_FORM_ANCHOR},
	{"contentEncoding", ES_FORM_STRING},
	{"$recursiveAnchor", ES_FORM_ANCHOR},
	{"contentMediaType", ES_FORM_STRING},
	{"dependentSchemas", ES_FORM_SCHEMA_MAP},
	{"exclusiveMaximum", ES_FORM_NUMBER},
	{"exclusiveMinimum", ES_FORM_NUMBER},
	{"unevaluatedItems", ES_FORM_SCHEMA},
	{"dependentRequired", ES_FORM_NAMES_MAP},
	{"patternProperties", ES_FORM_PATTERN_MAP},
	{"additionalProperties", ES_FORM_SCHEMA},
	{"unevaluatedProperties", ES_FORM_SCHEMA}
};

StaticAssertDecl(lengthof(keywords) == ES_KEYWORD_UNKNOWN, "keywords and EsKeyword differ");

/* es_keyword_find finds a keyword by its name. */
EsKeyword
es_keyword_find(const EsNode *name)
{
	int			low = 0;
	int			high = lengthof(keywords);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = (int) name->len - (int) strlen(keywords[middle].name);

		if (order == 0)
			order = memcmp(name->value.bytes, keywords[middle].name, name->len);
		if (order == 0)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return ES_KEYWORD_UNKNOWN;
}

/* es_keyword_form gives the form of a keyword's value. */
EsKeywordForm
es_keyword_form(EsKeyword keyword)
{
	return keyword == ES_KEYWORD_UNKNOWN ? ES_FORM_ANY : keywords[keyword].form;
}

/* es_keyword_only_notes tells whether a keyword, known or not, says nothing about values. */
bool
es_keyword_only_notes(EsKeyword keyword)
{
	switch (keyword)
	{
		case ES_KEYWORD_ID:
		case ES_KEYWORD_DEFS:
		case ES_KEYWORD_TITLE:
		case ES_KEYWORD_ANCHOR:
		case ES_KEYWORD_FORMAT:
		case ES_KEYWORD_SCHEMA:
		case ES_KEYWORD_COMMENT:
		case ES_KEYWORD_DEFAULT:
		case ES_KEYWORD_EXAMPLES:
		case ES_KEYWORD_READ_ONLY:
		case ES_KEYWORD_WRITE_ONLY:
		case ES_KEYWORD_DEPRECATED:
		case ES_KEYWORD_VOCABULARY:
		case ES_KEYWORD_DEFINITIONS:
		case ES_KEYWORD_DESCRIPTION:
		case ES_KEYWORD_DEPENDENCIES:
		case ES_KEYWORD_RECURSIVE_REF:
		case ES_KEYWORD_CONTENT_SCHEMA:
		case ES_KEYWORD_DYNAMIC_ANCHOR:
		case ES_KEYWORD_CONTENT_ENCODING:
		case ES_KEYWORD_RECURSIVE_ANCHOR:
		case ES_KEYWORD_CONTENT_MEDIA_TYPE:
		case ES_KEYWORD_UNKNOWN:
			return true;
		default:
			return false;
	}
}

/* es_keyword_name gives a keyword's name. */
const char *
es_keyword_name(EsKeyword keyword)
{
	return keywords[keyword].name;
}

uint8
es_keyword_type(const EsNode *name)
{
	static const struct
	{
		const char *name;
		uint8		type;
	}			types[] = {
		{"null", ES_TYPE_NULL}, {"boolean", ES_TYPE_BOOLEAN}, {"string", ES_TYPE_STRING},
		{"integer", ES_TYPE_INTEGER}, {"number", ES_TYPE_NUMBER}, {"object", ES_TYPE_OBJECT},
		{"array", ES_TYPE_ARRAY}
	};

	for (int i = 0; name->kind == ES_NODE_STRING && i < lengthof(types); i++)
	{
		if (strlen(types[i].name) == name->len && memcmp(types[i].name, name->value.bytes, name->len) == 0)
			return types[i].type;
	}
	return 0;
}

/* Tells whether a number has no fraction and is not negative. */
static bool
is_keyword_count(const EsNode *value)
{
	Datum		number = PointerGetDatum(value->value.bytes);

	return value->kind == ES_NODE_NUMBER &&
		DatumGetInt32(DirectFunctionCall1(numeric_min_scale, number)) == 0 &&
		DatumGetInt32(DirectFunctionCall2(numeric_cmp, number, NumericGetDatum(int64_to_numeric(0)))) >= 0;
}

/* Tells whether a number is positive. */
static bool
is_positive_number(const EsNode *value)
{
	return value->kind == ES_NODE_NUMBER &&
		DatumGetInt32(DirectFunctionCall2(numeric_cmp, PointerGetDatum(value->value.bytes),
										  NumericGetDatum(int64_to_numeric(0)))) > 0;
}

/* Tells whether a value is an array of strings that differ. */
static bool
is_name_list(const EsNode *value)
{
	EsPackedReader reader;
	EsNode		element;
	uint32		first;
	uint32		second;

	if (!es_node_is_array(value))
		return false;
	es_node_begin_elements(&reader, value);
	while (es_node_next_element(&reader, &element))
	{
		if (element.kind != ES_NODE_STRING)
			return false;
	}
	return !es_order_find_equal(value, &first, &second);
}

/* Tells whether a value is an object in which each member is an array of names. */
static bool
is_name_list_map(const EsNode *value)
{
	EsPackedReader reader;
	EsNode		key;
	EsNode		member;

	if (!es_node_is_object(value))
		return false;
	es_node_begin_members(&reader, value);
	while (es_node_next_member(&reader, &key, &member))
	{
		if (!is_name_list(&member))
			return false;
	}
	return true;
}

/* Tells whether a value is the name of a type, or an array of such names that differ. */
static bool
is_type_list(const EsNode *value)
{
	EsPackedReader reader;
	EsNode		element;

	if (!es_node_is_array(value))
		return es_keyword_type(value) != 0;
	es_node_begin_elements(&reader, value);
	if (reader.count == 0)
		return false;
	while (es_node_next_element(&reader, &element))
	{
		if (es_keyword_type(&element) == 0)
			return false;
	}
	return is_name_list(value);
}

/* Tells whether a value is an object of booleans. */
static bool
is_boolean_map(const EsNode *value)
{
	EsPackedReader reader;
	EsNode		key;
	EsNode		member;

	if (!es_node_is_object(value))
		return false;
	es_node_begin_members(&reader, value);
	while (es_node_next_member(&reader, &key, &member))
	{
		if (member.kind != ES_NODE_BOOL)
			return false;
	}
	return true;
}

/* Tells whether a value is the name of an anchor. */
static bool
is_anchor_name(const EsNode *value)
{
	if (value->kind != ES_NODE_STRING || value->len == 0)
		return false;
	for (uint32 i = 0; i < value->len; i++)
	{
		char		c = value->value.bytes[i];
		bool		starts = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

		if (!starts && (i == 0 || (c != '-' && c != '.' && !(c >= '0' && c <= '9'))))
			return false;
	}
	return true;
}

/* Tells whether a value is an identifier, which has no fragment, but perhaps an empty one. */
static bool
is_schema_id(const EsNode *value)
{
	const char *mark;

	if (value->kind != ES_NODE_STRING)
		return false;
	mark = memchr(value->value.bytes, '#', value->len);
	return mark == NULL || mark == value->value.bytes + value->len - 1;
}

/* Tells whether a value is the dialect that is spoken here. */
static bool
is_known_dialect(const EsNode *value)
{
	static const char dialect[] = "https://json-schema.org/draft/2020-12/schema";
	uint32		len = sizeof(dialect) - 1;

	return value->kind == ES_NODE_STRING &&
		(value->len == len || (value->len == len + 1 && value->value.bytes[len] == '#')) &&
		memcmp(value->value.bytes, dialect, len) == 0;
}

/* Tells whether a value is an array that is not empty. */
static bool
is_filled_array(const EsNode *value)
{
	return es_node_is_array(value) && JsonContainerSize((const JsonbContainer *) value->value.bytes) > 0;
}

const char *
es_keyword_check(EsKeyword keyword, const EsNode *value)
{
	switch (es_keyword_form(keyword))
	{
		case ES_FORM_ANY:
		case ES_FORM_SCHEMA:
			return NULL;
		case ES_FORM_SCHEMAS:
			return is_filled_array(value) ? NULL : "must be an array of schemas, and not empty";
		case ES_FORM_SCHEMA_MAP:
		case ES_FORM_PATTERN_MAP:
		case ES_FORM_DEPENDENCIES:
			return es_node_is_object(value) ? NULL : "must be an object of schemas";
		case ES_FORM_NUMBER:
			return value->kind == ES_NODE_NUMBER ? NULL : "must be a number";
		case ES_FORM_POSITIVE:
			return is_positive_number(value) ? NULL : "must be a number greater than 0";
		case ES_FORM_COUNT:
			return is_keyword_count(value) ? NULL : "must be an integer, and not negative";
		case ES_FORM_BOOLEAN:
			return value->kind == ES_NODE_BOOL ? NULL : "must be true or false";
		case ES_FORM_STRING:
		case ES_FORM_PATTERN:
			return value->kind == ES_NODE_STRING ? NULL : "must be a string";
		case ES_FORM_ID:
			return is_schema_id(value) ? NULL : "must be a string, a URI without a fragment";
		case ES_FORM_ANCHOR:
			return is_anchor_name(value) ? NULL : "must be a string of letters, digits, \"-\", \"_\" and \".\" that begins with a letter or \"_\"";
		case ES_FORM_DIALECT:
			return is_known_dialect(value) ? NULL : "must be \"https://json-schema.org/draft/2020-12/schema\", the only dialect that is known here";
		case ES_FORM_VOCABULARY:
			return is_boolean_map(value) ? NULL : "must be an object in which each member is true or false";
		case ES_FORM_TYPES:
			return is_type_list(value) ? NULL : "must be the name of a type, or an array of such names that all differ";
		case ES_FORM_ARRAY:
			return es_node_is_array(value) ? NULL : "must be an array";
		case ES_FORM_NAMES:
			return is_name_list(value) ? NULL : "must be an array of strings that all differ";
		default:
			return is_name_list_map(value) ? NULL : "must be an object in which each member is an array of strings that all differ";
	}
}
