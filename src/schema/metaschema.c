/*
 * metaschema.c
 *		The schema of schemas, which a schema may refer to.
 *
 * What the resources at https://json-schema.org/draft/2020-12/ say, less titles and
 * comments.  Schemas that are given are checked by keyword.c, not by these.
 */
#include "schema/metaschema.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define BASE "https://json-schema.org/draft/2020-12/"

/* A resource: its URI after BASE, its vocabulary, and its members but those that all have. */
static const struct
{
	const char *path;
	const char *vocabulary;
	const char *members;
}			resources[] = {

	{
		"schema", NULL,
		"\"allOf\": [{\"$ref\": \"meta/core\"}, {\"$ref\": \"meta/applicator\"}, {\"$ref\": \"meta/unevaluated\"},"
		" {\"$ref\": \"meta/validation\"}, {\"$ref\": \"meta/meta-data\"},"
		" {\"$ref\": \"meta/format-annotation\"}, {\"$ref\": \"meta/content\"}],"
		"\"properties\": {"
		" \"definitions\": {\"type\": \"object\", \"additionalProperties\": {\"$dynamicRef\": \"#meta\"}},"
		" \"dependencies\": {\"type\": \"object\", \"additionalProperties\":"
		"  {\"anyOf\": [{\"$dynamicRef\": \"#meta\"}, {\"$ref\": \"meta/validation#/$defs/stringArray\"}]}},"
		" \"$recursiveAnchor\": {\"$ref\": \"meta/core#/$defs/anchorString\"},"
		" \"$recursiveRef\": {\"$ref\": \"meta/core#/$defs/uriReferenceString\"}}"
	},
	{
		"meta/core", "core",
		"\"properties\": {"
		" \"$id\": {\"$ref\": \"#/$defs/uriReferenceString\", \"pattern\": \"^[^#]*#?$\"},"
		" \"$schema\": {\"$ref\": \"#/$defs/uriString\"},"
		" \"$ref\": {\"$ref\": \"#/$defs/uriReferenceString\"},"
		" \"$anchor\": {\"$ref\": \"#/$defs/anchorString\"},"
		" \"$dynamicRef\": {\"$ref\": \"#/$defs/uriReferenceString\"},"
		" \"$dynamicAnchor\": {\"$ref\": \"#/$defs/anchorString\"},"
		" \"$vocabulary\": {\"type\": \"object\", \"propertyNames\": {\"$ref\": \"#/$defs/uriString\"},"
		"  \"additionalProperties\": {\"type\": \"boolean\"}},"
		" \"$comment\": {\"type\": \"string\"},"
		" \"$defs\": {\"type\": \"object\", \"additionalProperties\": {\"$dynamicRef\": \"#meta\"}}},"
		"\"$defs\": {"
		" \"anchorString\": {\"type\": \"string\", \"pattern\": \"^[A-Za-z_][-A-Za-z0-9._]*$\"},"
		" \"uriString\": {\"type\": \"string\", \"format\": \"uri\"},"
		" \"uriReferenceString\": {\"type\": \"string\", \"format\": \"uri-reference\"}}"
	},
	{
		"meta/applicator", "applicator",
		"\"properties\": {"
		" \"prefixItems\": {\"$ref\": \"#/$defs/schemaArray\"},"
		" \"items\": {\"$dynamicRef\": \"#meta\"}, \"contains\": {\"$dynamicRef\": \"#meta\"},"
		" \"additionalProperties\": {\"$dynamicRef\": \"#meta\"},"
		" \"properties\": {\"type\": \"object\", \"additionalProperties\": {\"$dynamicRef\": \"#meta\"}, \"default\": {}},"
		" \"patternProperties\": {\"type\": \"object\", \"additionalProperties\": {\"$dynamicRef\": \"#meta\"},"
		"  \"propertyNames\": {\"format\": \"regex\"}, \"default\": {}},"
		" \"dependentSchemas\": {\"type\": \"object\", \"additionalProperties\": {\"$dynamicRef\": \"#meta\"},"
		"  \"default\": {}},"
		" \"propertyNames\": {\"$dynamicRef\": \"#meta\"},"
		" \"if\": {\"$dynamicRef\": \"#meta\"}, \"then\": {\"$dynamicRef\": \"#meta\"},"
		" \"else\": {\"$dynamicRef\": \"#meta\"}, \"not\": {\"$dynamicRef\": \"#meta\"},"
		" \"allOf\": {\"$ref\": \"#/$defs/schemaArray\"}, \"anyOf\": {\"$ref\": \"#/$defs/schemaArray\"},"
		" \"oneOf\": {\"$ref\": \"#/$defs/schemaArray\"}},"
		"\"$defs\": {\"schemaArray\": {\"type\": \"array\", \"minItems\": 1, \"items\": {\"$dynamicRef\": \"#meta\"}}}"
	},
	{
		"meta/unevaluated", "unevaluated",
		"\"properties\": {\"unevaluatedItems\": {\"$dynamicRef\": \"#meta\"},"
		" \"unevaluatedProperties\": {\"$dynamicRef\": \"#meta\"}}"
	},
	{
		"meta/validation", "validation",
		"\"properties\": {"
		" \"type\": {\"anyOf\": [{\"$ref\": \"#/$defs/simpleTypes\"}, {\"type\": \"array\","
		"  \"items\": {\"$ref\": \"#/$defs/simpleTypes\"}, \"minItems\": 1, \"uniqueItems\": true}]},"
		" \"const\": true, \"enum\": {\"type\": \"array\", \"items\": true},"
		" \"multipleOf\": {\"type\": \"number\", \"exclusiveMinimum\": 0},"
		" \"maximum\": {\"type\": \"number\"}, \"exclusiveMaximum\": {\"type\": \"number\"},"
		" \"minimum\": {\"type\": \"number\"}, \"exclusiveMinimum\": {\"type\": \"number\"},"
		" \"maxLength\": {\"$ref\": \"#/$defs/nonNegativeInteger\"},"
		" \"minLength\": {\"$ref\": \"#/$defs/nonNegativeIntegerDefault0\"},"
		" \"pattern\": {\"type\": \"string\", \"format\": \"regex\"},"
		" \"maxItems\": {\"$ref\": \"#/$defs/nonNegativeInteger\"},"
		" \"minItems\": {\"$ref\": \"#/$defs/nonNegativeIntegerDefault0\"},"
		" \"uniqueItems\": {\"type\": \"boolean\", \"default\": false},"
		" \"maxContains\": {\"$ref\": \"#/$defs/nonNegativeInteger\"},"
		" \"minContains\": {\"$ref\": \"#/$defs/nonNegativeInteger\", \"default\": 1},"
		" \"maxProperties\": {\"$ref\": \"#/$defs/nonNegativeInteger\"},"
		" \"minProperties\": {\"$ref\": \"#/$defs/nonNegativeIntegerDefault0\"},"
		" \"required\": {\"$ref\": \"#/$defs/stringArray\"},"
		" \"dependentRequired\": {\"type\": \"object\", \"additionalProperties\": {\"$ref\": \"#/$defs/stringArray\"}}},"
		"\"$defs\": {"
		" \"nonNegativeInteger\": {\"type\": \"integer\", \"minimum\": 0},"
		" \"nonNegativeIntegerDefault0\": {\"$ref\": \"#/$defs/nonNegativeInteger\", \"default\": 0},"
		" \"simpleTypes\": {\"enum\": [\"array\", \"boolean\", \"integer\", \"null\", \"number\", \"object\", \"string\"]},"
		" \"stringArray\": {\"type\": \"array\", \"items\": {\"type\": \"string\"}, \"uniqueItems\": true, \"default\": []}}"
	},
	{
		"meta/meta-data", "meta-data",
		"\"properties\": {\"title\": {\"type\": \"string\"}, \"description\": {\"type\": \"string\"},"
		" \"default\": true, \"deprecated\": {\"type\": \"boolean\", \"default\": false},"
		" \"readOnly\": {\"type\": \"boolean\", \"default\": false},"
		" \"writeOnly\": {\"type\": \"boolean\", \"default\": false},"
		" \"examples\": {\"type\": \"array\", \"items\": true}}"
	},
	{
		"meta/format-annotation", "format-annotation",
		"\"properties\": {\"format\": {\"type\": \"string\"}}"
	},
	{
		"meta/content", "content",
		"\"properties\": {\"contentEncoding\": {\"type\": \"string\"}, \"contentMediaType\": {\"type\": \"string\"},"
		" \"contentSchema\": {\"$dynamicRef\": \"#meta\"}}"
	}
};

/* Writes a resource as JSON text. */
static void
write_resource(StringInfo out, int number)
{
	appendStringInfo(out, "{\"$schema\": \"" BASE "schema\", \"$id\": \"" BASE "%s\", \"$dynamicAnchor\": \"meta\","
					 " \"type\": [\"object\", \"boolean\"], \"$vocabulary\": {", resources[number].path);
	for (int i = 1; i < lengthof(resources); i++)
	{
		if (number == 0 || number == i)
			appendStringInfo(out, "%s\"" BASE "vocab/%s\": true", out->data[out->len - 1] == '{' ? "" : ", ",
							 resources[i].vocabulary);
	}
	appendStringInfo(out, "}, %s}", resources[number].members);
}

Jsonb *
es_metaschema_find(const char *uri)
{
	StringInfoData text;

	if (strncmp(uri, BASE, sizeof(BASE) - 1) != 0)
		return NULL;
	for (int i = 0; i < lengthof(resources); i++)
	{
		if (strcmp(uri + sizeof(BASE) - 1, resources[i].path) != 0)
			continue;
		initStringInfo(&text);
		write_resource(&text, i);
		return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));
	}
	return NULL;
}
