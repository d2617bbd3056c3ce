/*
 * keyword.h
 *		The keywords of JSON Schema 2020-12, and what values they take.
 */
#ifndef ES_SCHEMA_KEYWORD_H
#define ES_SCHEMA_KEYWORD_H

#include "base/base.h"

#include "json/node.h"

/* In the order of their names' lengths, then of their bytes, as in the table in keyword.c. */
typedef enum EsKeyword
{
	ES_KEYWORD_IF,
	ES_KEYWORD_ID,
	ES_KEYWORD_NOT,
	ES_KEYWORD_REF,
	ES_KEYWORD_ELSE,
	ES_KEYWORD_ENUM,
	ES_KEYWORD_THEN,
	ES_KEYWORD_TYPE,
	ES_KEYWORD_DEFS,
	ES_KEYWORD_ALL_OF,
	ES_KEYWORD_ANY_OF,
	ES_KEYWORD_CONST,
	ES_KEYWORD_ITEMS,
	ES_KEYWORD_ONE_OF,
	ES_KEYWORD_TITLE,
	ES_KEYWORD_FORMAT,
	ES_KEYWORD_ANCHOR,
	ES_KEYWORD_SCHEMA,
	ES_KEYWORD_DEFAULT,
	ES_KEYWORD_MAXIMUM,
	ES_KEYWORD_MINIMUM,
	ES_KEYWORD_PATTERN,
	ES_KEYWORD_COMMENT,
	ES_KEYWORD_CONTAINS,
	ES_KEYWORD_EXAMPLES,
	ES_KEYWORD_MAX_ITEMS,
	ES_KEYWORD_MIN_ITEMS,
	ES_KEYWORD_READ_ONLY,
	ES_KEYWORD_REQUIRED,
	ES_KEYWORD_MAX_LENGTH,
	ES_KEYWORD_MIN_LENGTH,
	ES_KEYWORD_WRITE_ONLY,
	ES_KEYWORD_DEPRECATED,
	ES_KEYWORD_MULTIPLE_OF,
	ES_KEYWORD_PROPERTIES,
	ES_KEYWORD_DYNAMIC_REF,
	ES_KEYWORD_VOCABULARY,
	ES_KEYWORD_DEFINITIONS,
	ES_KEYWORD_DESCRIPTION,
	ES_KEYWORD_MAX_CONTAINS,
	ES_KEYWORD_MIN_CONTAINS,
	ES_KEYWORD_PREFIX_ITEMS,
	ES_KEYWORD_UNIQUE_ITEMS,
	ES_KEYWORD_DEPENDENCIES,
	ES_KEYWORD_RECURSIVE_REF,
	ES_KEYWORD_CONTENT_SCHEMA,
	ES_KEYWORD_MAX_PROPERTIES,
	ES_KEYWORD_MIN_PROPERTIES,
	ES_KEYWORD_PROPERTY_NAMES,
	ES_KEYWORD_DYNAMIC_ANCHOR,
	ES_KEYWORD_CONTENT_ENCODING,
	ES_KEYWORD_RECURSIVE_ANCHOR,
	ES_KEYWORD_CONTENT_MEDIA_TYPE,
	ES_KEYWORD_DEPENDENT_SCHEMAS,
	ES_KEYWORD_EXCLUSIVE_MAXIMUM,
	ES_KEYWORD_EXCLUSIVE_MINIMUM,
	ES_KEYWORD_UNEVALUATED_ITEMS,
	ES_KEYWORD_DEPENDENT_REQUIRED,
	ES_KEYWORD_PATTERN_PROPERTIES,
	ES_KEYWORD_ADDITIONAL_PROPERTIES,
	ES_KEYWORD_UNEVALUATED_PROPERTIES,
	ES_KEYWORD_UNKNOWN
} EsKeyword;

/* What a keyword's value is. */
typedef enum EsKeywordForm
{
	ES_FORM_ANY,
	ES_FORM_SCHEMA,
	ES_FORM_SCHEMAS,			/* an array of schemas, not empty */
	ES_FORM_SCHEMA_MAP,			/* an object of schemas */
	ES_FORM_PATTERN_MAP,		/* the same, by regular expressions */
	ES_FORM_DEPENDENCIES,		/* the same, or of arrays of names */
	ES_FORM_NUMBER,
	ES_FORM_POSITIVE,
	ES_FORM_COUNT,				/* an integer, not negative */
	ES_FORM_BOOLEAN,
	ES_FORM_STRING,
	ES_FORM_PATTERN,
	ES_FORM_ID,
	ES_FORM_ANCHOR,
	ES_FORM_DIALECT,
	ES_FORM_VOCABULARY,
	ES_FORM_TYPES,
	ES_FORM_ARRAY,
	ES_FORM_NAMES,				/* an array of strings that differ */
	ES_FORM_NAMES_MAP			/* an object of those */
} EsKeywordForm;

extern EsKeyword es_keyword_find(const EsNode *name);
extern bool es_keyword_only_notes(EsKeyword keyword);
extern EsKeywordForm es_keyword_form(EsKeyword keyword);
extern const char *es_keyword_name(EsKeyword keyword);

/*
 * es_keyword_check tells what is wrong with a keyword's value, but for what is within
 * the subschemas and regular expressions there: a predicate, or NULL.
 */
extern const char *es_keyword_check(EsKeyword keyword, const EsNode *value);

/* es_keyword_type gives the bits ES_TYPE_... of a name of "type"; 0 for none. */
extern uint8 es_keyword_type(const EsNode *name);

#endif							/* ES_SCHEMA_KEYWORD_H */
