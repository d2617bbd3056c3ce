/*
 * violation.c
 *		Rules that values break, in words.
 *
 * What is shown of values and expressions is cut to a length that can be read.
 */
#include "schema/violation.h"

#include "lib/stringinfo.h"
#include "utils/fmgrprotos.h"

#include "base/names.h"
#include "json/text.h"

#define MOST_SHOWN		100		/* bytes of a value */
#define MOST_LISTED		10		/* values of an enumeration */

/* Appends a value as JSON, or what stands for it if that is long. */
static void
append_value(StringInfo out, const EsNode *value)
{
	StringInfoData text;

	initStringInfo(&text);
	switch (value->kind)
	{
		case ES_NODE_NULL:
			appendStringInfoString(&text, "null");
			break;
		case ES_NODE_BOOL:
			appendStringInfoString(&text, value->value.boolean ? "true" : "false");
			break;
		case ES_NODE_NUMBER:
			appendStringInfoString(&text, DatumGetCString(DirectFunctionCall1(numeric_out, PointerGetDatum(value->value.bytes))));
			break;
		case ES_NODE_STRING:
			es_jsontext_string(&text, value->value.bytes, value->len);
			break;
		default:
			if (value->len > 2 * MOST_SHOWN)
				appendStringInfoString(&text, es_node_is_packed_object(value) ? "an object" : "an array");
			else
				(void) JsonbToCString(&text, (JsonbContainer *) value->value.bytes, value->len);
			break;
	}
	appendStringInfoString(out, es_names_cut(text.data, text.len, MOST_SHOWN));
	pfree(text.data);
}

/* Appends a number. */
static void
append_number(StringInfo out, const char *before, Numeric number)
{
	EsNode		view = es_node_view_number(number);

	appendStringInfoString(out, before);
	append_value(out, &view);
}

/* Appends a string in quotes, as it is. */
static void
append_quoted(StringInfo out, const EsNode *string)
{
	appendStringInfo(out, "\"%s\"", es_names_cut(string->value.bytes, string->len, MOST_SHOWN));
}

/* Gives the type of a value. */
static const char *
name_value_type(const EsNode *value)
{
	switch (value->kind)
	{
		case ES_NODE_NULL:
			return "null";
		case ES_NODE_BOOL:
			return "boolean";
		case ES_NODE_NUMBER:
			return DatumGetInt32(DirectFunctionCall1(numeric_min_scale, PointerGetDatum(value->value.bytes))) == 0 ?
				"integer" : "number";
		case ES_NODE_STRING:
			return "string";
		default:
			return es_node_is_packed_object(value) ? "object" : "array";
	}
}

/* Says which types a value must be of. */
static void
describe_types(StringInfo out, const EsSchemaNode *node, const EsNode *value)
{
	static const struct
	{
		uint8		types;
		const char *name;
	}			names[] = {
		{ES_TYPE_NULL, "null"}, {ES_TYPE_BOOLEAN, "boolean"}, {ES_TYPE_STRING, "string"},
		{ES_TYPE_NUMBER, "number"}, {ES_TYPE_INTEGER, "integer"}, {ES_TYPE_OBJECT, "object"},
		{ES_TYPE_ARRAY, "array"}
	};
	uint8		left = node->types;
	const char *before = "must be of type ";

	for (int i = 0; i < lengthof(names); i++)
	{
		if ((left & names[i].types) != names[i].types)
			continue;
		appendStringInfo(out, "%s%s", before, names[i].name);
		left &= ~names[i].types;
		before = " or ";
	}
	appendStringInfo(out, ", not %s", name_value_type(value));
}

/* Says which values there may be. */
static void
describe_values(StringInfo out, const EsValueSet *set)
{
	appendStringInfoString(out, set->count == 0 ? "cannot be valid, since \"enum\" is empty" : "must be one of ");
	for (uint32 i = 0; i < set->count && i < MOST_LISTED; i++)
	{
		appendStringInfoString(out, i == 0 ? "" : ", ");
		append_value(out, &set->values[i]);
	}
	if (set->count > MOST_LISTED)
		appendStringInfo(out, " and %u more", set->count - MOST_LISTED);
}

/* Says how many of something there must be. */
static void
describe_count(StringInfo out, const char *least_or_most, uint32 limit, const char *what)
{
	appendStringInfo(out, "must have at %s %u %s%s", least_or_most, limit, what,
					 limit == 1 ? "" : "s");
}

/* Says what is wrong with a number; false if the keyword is about something else. */
static bool
describe_number(StringInfo out, const EsSchemaNode *node, const EsBreach *breach)
{
	switch (breach->keyword)
	{
		case ES_KEYWORD_MINIMUM:
			append_number(out, "must be at least ", node->numbers->minimum);
			return true;
		case ES_KEYWORD_MAXIMUM:
			append_number(out, "must be at most ", node->numbers->maximum);
			return true;
		case ES_KEYWORD_EXCLUSIVE_MINIMUM:
			append_number(out, "must be greater than ", node->numbers->exclusive_minimum);
			return true;
		case ES_KEYWORD_EXCLUSIVE_MAXIMUM:
			append_number(out, "must be less than ", node->numbers->exclusive_maximum);
			return true;
		case ES_KEYWORD_MULTIPLE_OF:
			append_number(out, "must be a multiple of ", node->numbers->multiple_of);
			return true;
		default:
			return false;
	}
}

/* Says what is wrong with a string or an array; false if the keyword is about something else. */
static bool
describe_sequence(StringInfo out, const EsSchemaNode *node, const EsBreach *breach)
{
	switch (breach->keyword)
	{
		case ES_KEYWORD_MIN_LENGTH:
			describe_count(out, "least", node->strings->min_length, "character");
			return true;
		case ES_KEYWORD_MAX_LENGTH:
			describe_count(out, "most", node->strings->max_length, "character");
			return true;
		case ES_KEYWORD_PATTERN:
			appendStringInfoString(out, "must match ");
			append_quoted(out, &node->strings->pattern_text);
			return true;
		case ES_KEYWORD_MIN_ITEMS:
			describe_count(out, "least", node->arrays->min_items, "element");
			return true;
		case ES_KEYWORD_MAX_ITEMS:
			describe_count(out, "most", node->arrays->max_items, "element");
			return true;
		case ES_KEYWORD_UNIQUE_ITEMS:
			appendStringInfo(out, "must have no equal elements, but %u and %u are", breach->first, breach->second);
			return true;
		case ES_KEYWORD_CONTAINS:
		case ES_KEYWORD_MIN_CONTAINS:
			describe_count(out, "least", node->arrays->min_contains, "element");
			appendStringInfo(out, " as in \"contains\", not %u", breach->first);
			return true;
		case ES_KEYWORD_MAX_CONTAINS:
			describe_count(out, "most", node->arrays->max_contains, "element");
			appendStringInfo(out, " as in \"contains\", not %u", breach->first);
			return true;
		default:
			return false;
	}
}

/* Says what is wrong with an object; false if the keyword is about something else. */
static bool
describe_object(StringInfo out, const EsSchemaNode *node, const EsBreach *breach)
{
	switch (breach->keyword)
	{
		case ES_KEYWORD_MIN_PROPERTIES:
			describe_count(out, "least", node->objects->min_properties, "member");
			return true;
		case ES_KEYWORD_MAX_PROPERTIES:
			describe_count(out, "most", node->objects->max_properties, "member");
			return true;
		case ES_KEYWORD_REQUIRED:
			appendStringInfoString(out, "must have ");
			append_quoted(out, breach->name);
			return true;
		case ES_KEYWORD_DEPENDENT_REQUIRED:
			appendStringInfoString(out, "must have ");
			append_quoted(out, breach->name);
			appendStringInfoString(out, " since it has ");
			append_quoted(out, breach->needed_by);
			return true;
		case ES_KEYWORD_PROPERTY_NAMES:
			appendStringInfoString(out, "has a name that is not allowed");
			return true;
		default:
			return false;
	}
}

/* Says what is wrong with a value of any kind. */
static void
describe_other(StringInfo out, const EsSchemaNode *node, const EsNode *value, const EsBreach *breach)
{
	switch (breach->keyword)
	{
		case ES_KEYWORD_TYPE:
			describe_types(out, node, value);
			break;
		case ES_KEYWORD_ENUM:
			describe_values(out, node->enumeration);
			break;
		case ES_KEYWORD_CONST:
			appendStringInfoString(out, "must be ");
			append_value(out, node->constant);
			break;
		case ES_KEYWORD_NOT:
			appendStringInfoString(out, "must not be valid against \"not\"");
			break;
		case ES_KEYWORD_ANY_OF:
			appendStringInfo(out, "must be valid against one of the %u schemas in \"anyOf\"", node->applied->any_of.count);
			break;
		case ES_KEYWORD_ONE_OF:
			if (breach->first == breach->second)
				appendStringInfo(out, "must be valid against one of the %u schemas in \"oneOf\"", node->applied->one_of.count);
			else
				appendStringInfo(out, "must be valid against one schema in \"oneOf\" only, but is against %u and %u",
								 breach->first, breach->second);
			break;
		default:
			appendStringInfoString(out, "is not allowed");
			break;
	}
}

char *
es_violation_describe(const EsSchemaNode *node, const EsNode *value, const EsBreach *breach)
{
	StringInfoData out;

	initStringInfo(&out);
	if (!describe_number(&out, node, breach) && !describe_sequence(&out, node, breach) &&
		!describe_object(&out, node, breach))
		describe_other(&out, node, value, breach);
	if (breach->more)
		appendStringInfoString(&out, breach->more);
	return out.data;
}

/* es_violation_rule names the rule that is broken. */
const char *
es_violation_rule(const EsBreach *breach)
{
	return breach->keyword == ES_KEYWORD_UNKNOWN ? "false" : es_keyword_name(breach->keyword);
}
