/*
 * assertion.c
 *		What a node asserts about a value, but for its subschemas.
 *
 * A function that returns bool tells whether to go on, see validate.c.
 */
#include "schema/assertion.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "schema/keyword.h"
#include "schema/pattern.h"
#include "schema/pointer.h"

/* ---- what is broken ---- */

/* Lists a violation; tells whether to go on. */
bool
es_assertion_list(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance, const EsBreach *breach)
{
	MemoryContext old = MemoryContextSwitchTo(listing->context);
	EsViolation violation;
	bool		more;

	violation.pointer = es_pointer_text(instance->place);
	violation.rule = es_violation_rule(breach);
	violation.message = es_violation_describe(node, &instance->value, breach);
	MemoryContextSwitchTo(old);
	more = listing->sink(&violation, listing->arg);
	MemoryContextReset(listing->context);
	return more;
}

/* Takes a breach of a keyword about which there is nothing more to say. */
bool
es_assertion_breaks(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance, EsKeyword keyword)
{
	EsBreach	breach = {keyword};

	return listing && es_assertion_list(listing, node, instance, &breach);
}

/* Takes a breach with two numbers to it. */
bool
es_assertion_breaks_by_number(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance, EsKeyword keyword,
							  uint32 first, uint32 second)
{
	EsBreach	breach = {.keyword = keyword,.first = first,.second = second};

	return listing && es_assertion_list(listing, node, instance, &breach);
}

/* ---- numbers and strings ---- */

/* Compares two numbers. */
static inline int
compare_numerics(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/* Tells whether a number is a multiple of another one. */
static bool
is_multiple(Numeric number, const EsNumberRules *rules)
{
	Numeric		rest = DatumGetNumeric(DirectFunctionCall2(numeric_mod, NumericGetDatum(number),
														   NumericGetDatum(rules->multiple_of)));
	bool		none = compare_numerics(rest, rules->zero) == 0;

	pfree(rest);
	return none;
}

/* Applies the rules about numbers. */
bool
es_assertion_number(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance)
{
	const EsNumberRules *rules = node->numbers;
	Numeric		number = (Numeric) instance->value.value.bytes;

	if (rules->minimum && compare_numerics(number, rules->minimum) < 0 &&
		!es_assertion_breaks(listing, node, instance, ES_KEYWORD_MINIMUM))
		return false;
	if (rules->maximum && compare_numerics(number, rules->maximum) > 0 &&
		!es_assertion_breaks(listing, node, instance, ES_KEYWORD_MAXIMUM))
		return false;
	if (rules->exclusive_minimum && compare_numerics(number, rules->exclusive_minimum) <= 0 &&
		!es_assertion_breaks(listing, node, instance, ES_KEYWORD_EXCLUSIVE_MINIMUM))
		return false;
	if (rules->exclusive_maximum && compare_numerics(number, rules->exclusive_maximum) >= 0 &&
		!es_assertion_breaks(listing, node, instance, ES_KEYWORD_EXCLUSIVE_MAXIMUM))
		return false;
	return rules->multiple_of == NULL || is_multiple(number, rules) ||
		es_assertion_breaks(listing, node, instance, ES_KEYWORD_MULTIPLE_OF);
}

/* Applies the rules about strings. */
bool
es_assertion_string(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance)
{
	const EsStringRules *rules = node->strings;
	const char *bytes = instance->value.value.bytes;
	uint32		len = instance->value.len;
	uint32		most = pg_database_encoding_max_length();

	/* characters are counted only if the number of bytes does not tell */
	if (rules->min_length > len / most || rules->max_length < len)
	{
		uint32		length = most == 1 ? len : pg_mbstrlen_with_len(bytes, len);

		if (length < rules->min_length && !es_assertion_breaks(listing, node, instance, ES_KEYWORD_MIN_LENGTH))
			return false;
		if (length > rules->max_length && !es_assertion_breaks(listing, node, instance, ES_KEYWORD_MAX_LENGTH))
			return false;
	}
	return rules->pattern == NULL || es_pattern_matches(rules->pattern, bytes, len) ||
		es_assertion_breaks(listing, node, instance, ES_KEYWORD_PATTERN);
}

/* ---- arrays and objects ---- */

/* Takes how many elements "contains" has found. */
bool
es_assertion_contained(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance, uint32 found)
{
	const EsArrayRules *rules = node->arrays;

	if (found < rules->min_contains &&
		!es_assertion_breaks_by_number(listing, node, instance,
									   rules->min_contains_given ? ES_KEYWORD_MIN_CONTAINS : ES_KEYWORD_CONTAINS, found, 0))
		return false;
	return found <= rules->max_contains ||
		es_assertion_breaks_by_number(listing, node, instance, ES_KEYWORD_MAX_CONTAINS, found, 0);
}

/* Orders a key of a schema and one of a value. */
static inline int
compare_with_key(const EsSchemaProperty *property, const EsNode *key)
{
	if (property->key.len != key->len)
		return property->key.len < key->len ? -1 : 1;
	return memcmp(property->key.bytes, key->value.bytes, key->len);
}

/*
 * Finds what the rules have for a key; NULL if that is nothing.  Keys come in their order,
 * and *next is where the search has got to.  If the rules have many more keys than the
 * value they are not gone through one by one.
 */
const EsSchemaProperty *
es_assertion_find_property(const EsObjectRules *rules, const EsNode *key, uint32 *next, bool leap)
{
	uint32		low = *next;
	uint32		high = rules->count;

	while (leap && high - low > 1)
	{
		uint32		middle = low + (high - low) / 2;

		if (compare_with_key(&rules->properties[middle], key) <= 0)
			low = middle;
		else
			high = middle;
	}
	while (low < rules->count)
	{
		int			order = compare_with_key(&rules->properties[low], key);

		*next = low;
		if (order >= 0)
			return order == 0 ? &rules->properties[low] : NULL;
		*next = ++low;
	}
	return NULL;
}

/* Lists the keys that an object must have and has not. */
bool
es_assertion_list_missing(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance)
{
	const EsObjectRules *rules = node->objects;
	EsNode		value;

	for (uint32 i = 0; i < rules->count; i++)
	{
		const EsKey *key = &rules->properties[i].key;
		EsNode		name = es_node_view_string(key->bytes, key->len);
		EsBreach	breach = {.keyword = ES_KEYWORD_REQUIRED,.name = &name};

		CHECK_FOR_INTERRUPTS();
		if (rules->properties[i].required && !es_node_find_packed(&instance->value, key, &value) &&
			!es_assertion_list(listing, node, instance, &breach))
			return false;
	}
	return true;
}

/* ---- types ---- */

/* Tells whether a value is of a type that a node lets pass. */
bool
es_assertion_is_of_type(const EsNode *value, uint8 types)
{
	switch (value->kind)
	{
		case ES_NODE_NULL:
			return (types & ES_TYPE_NULL) != 0;
		case ES_NODE_BOOL:
			return (types & ES_TYPE_BOOLEAN) != 0;
		case ES_NODE_STRING:
			return (types & ES_TYPE_STRING) != 0;
		case ES_NODE_NUMBER:
			if ((types & ES_TYPE_NUMBER) == 0 || (types & ES_TYPE_NUMBER) == ES_TYPE_NUMBER)
				return (types & ES_TYPE_NUMBER) != 0;
			return (DatumGetInt32(DirectFunctionCall1(numeric_min_scale, PointerGetDatum(value->value.bytes))) == 0) ==
				((types & ES_TYPE_INTEGER) != 0);
		default:
			return (types & (es_node_is_packed_object(value) ? ES_TYPE_OBJECT : ES_TYPE_ARRAY)) != 0;
	}
}
