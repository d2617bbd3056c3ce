/*
 * likeness.c
 *		Schemas that say the same in the same way.
 *
 * Two schemas are walked through side by side.  They may refer to themselves: a pair
 * that was met before is not looked at again, since if it differed that would be found
 * where it was met first.
 */
#include "schema/likeness.h"

#include "miscadmin.h"

#include "schema/effort.h"
#include "schema/bounds.h"
#include "schema/inside.h"
#include "schema/order.h"

/* The pairs that were met. */
typedef struct EsPairs
{
	List	   *left;
	List	   *right;
	EsEffort   *effort;
} EsPairs;

static bool are_alike(EsPairs *pairs, const EsSchemaNode *a, const EsSchemaNode *b);

/* Tells whether a pair was met before; if not, it is now. */
static bool
was_met(EsPairs *pairs, const EsSchemaNode *a, const EsSchemaNode *b)
{
	ListCell   *left;
	ListCell   *right;

	es_effort_spend(pairs->effort, 1 + list_length(pairs->left) / 16);
	forboth(left, pairs->left, right, pairs->right)
	{
		if (lfirst(left) == a && lfirst(right) == b)
			return true;
	}
	pairs->left = lappend(pairs->left, (void *) a);
	pairs->right = lappend(pairs->right, (void *) b);
	return false;
}

/* Compares numbers, either of which may be missing. */
static bool
are_numbers_alike(Numeric a, Numeric b)
{
	return a == NULL || b == NULL ? a == b : es_bounds_compare(a, b) == 0;
}

/* Compares limits of numbers. */
static bool
are_number_rules_alike(const EsNumberRules *a, const EsNumberRules *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return are_numbers_alike(a->minimum, b->minimum) && are_numbers_alike(a->maximum, b->maximum) &&
		are_numbers_alike(a->exclusive_minimum, b->exclusive_minimum) &&
		are_numbers_alike(a->exclusive_maximum, b->exclusive_maximum) &&
		are_numbers_alike(a->multiple_of, b->multiple_of);
}

/* Compares rules of strings. */
static bool
are_string_rules_alike(const EsStringRules *a, const EsStringRules *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return a->min_length == b->min_length && a->max_length == b->max_length &&
		(a->pattern == NULL) == (b->pattern == NULL) &&
		(a->pattern == NULL || es_inside_same_pattern(&a->pattern_text, &b->pattern_text));
}

/* Compares lists of schemas. */
static bool
are_lists_alike(EsPairs *pairs, const EsSchemaList *a, const EsSchemaList *b)
{
	if (a->count != b->count)
		return false;
	for (uint32 i = 0; i < a->count; i++)
	{
		if (!are_alike(pairs, a->nodes[i], b->nodes[i]))
			return false;
	}
	return true;
}

/* Compares rules of arrays. */
static bool
are_array_rules_alike(EsPairs *pairs, const EsArrayRules *a, const EsArrayRules *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->contains != NULL && (a->min_contains != b->min_contains || a->max_contains != b->max_contains))
		return false;
	return a->min_items == b->min_items && a->max_items == b->max_items && a->unique_items == b->unique_items &&
		are_lists_alike(pairs, &a->prefix_items, &b->prefix_items) &&
		are_alike(pairs, a->items, b->items) && are_alike(pairs, a->contains, b->contains);
}

/* Compares what is said of a key. */
static bool
are_properties_alike(EsPairs *pairs, const EsSchemaProperty *a, const EsSchemaProperty *b)
{
	if (a->key.len != b->key.len || memcmp(a->key.bytes, b->key.bytes, a->key.len) != 0 ||
		a->required != b->required || a->needs_count != b->needs_count)
		return false;
	for (uint32 i = 0; i < a->needs_count; i++)
	{
		if (a->needs[i].len != b->needs[i].len || memcmp(a->needs[i].bytes, b->needs[i].bytes, a->needs[i].len) != 0)
			return false;
	}
	return are_alike(pairs, a->schema, b->schema) && are_alike(pairs, a->dependent, b->dependent);
}

/* Compares rules of objects. */
static bool
are_object_rules_alike(EsPairs *pairs, const EsObjectRules *a, const EsObjectRules *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->min_properties != b->min_properties || a->max_properties != b->max_properties ||
		a->count != b->count || a->pattern_count != b->pattern_count)
		return false;
	for (uint32 i = 0; i < a->count; i++)
	{
		if (!are_properties_alike(pairs, &a->properties[i], &b->properties[i]))
			return false;
	}
	for (uint32 i = 0; i < a->pattern_count; i++)
	{
		if (!es_inside_same_pattern(&a->patterns[i].pattern_text, &b->patterns[i].pattern_text) ||
			!are_alike(pairs, a->patterns[i].schema, b->patterns[i].schema))
			return false;
	}
	return are_alike(pairs, a->additional, b->additional) && are_alike(pairs, a->names, b->names);
}

/* Compares what is applied to the same value. */
static bool
are_applied_alike(EsPairs *pairs, const EsApplied *a, const EsApplied *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return are_alike(pairs, a->ref, b->ref) && are_alike(pairs, a->dynamic_ref, b->dynamic_ref) &&
		are_lists_alike(pairs, &a->all_of, &b->all_of) && are_lists_alike(pairs, &a->any_of, &b->any_of) &&
		are_lists_alike(pairs, &a->one_of, &b->one_of) && are_alike(pairs, a->not_schema, b->not_schema) &&
		are_alike(pairs, a->if_schema, b->if_schema) && are_alike(pairs, a->then_schema, b->then_schema) &&
		are_alike(pairs, a->else_schema, b->else_schema);
}

/* Compares lists of values, either of which may be missing. */
static bool
are_values_alike(const EsSchemaNode *a, const EsSchemaNode *b)
{
	if ((a->constant == NULL) != (b->constant == NULL) || (a->enumeration == NULL) != (b->enumeration == NULL))
		return false;
	if (a->constant != NULL && !es_order_is_equal(a->constant, b->constant))
		return false;
	if (a->enumeration == NULL)
		return true;
	if (a->enumeration->count != b->enumeration->count)
		return false;
	for (uint32 i = 0; i < a->enumeration->count; i++)
	{
		if (!es_order_is_equal(&a->enumeration->values[i], &b->enumeration->values[i]))
			return false;
	}
	return true;
}

/* Compares schemas, either of which may be missing. */
static bool
are_alike(EsPairs *pairs, const EsSchemaNode *a, const EsSchemaNode *b)
{
	CHECK_FOR_INTERRUPTS();
	if (a == NULL || b == NULL || a == b)
		return a == b;
	if (!es_effort_allows(pairs->effort, 1))
		return false;
	if (was_met(pairs, a, b))
		return true;
	return a->types == b->types && a->refuses == b->refuses && are_values_alike(a, b) &&
		are_number_rules_alike(a->numbers, b->numbers) && are_string_rules_alike(a->strings, b->strings) &&
		are_array_rules_alike(pairs, a->arrays, b->arrays) && are_object_rules_alike(pairs, a->objects, b->objects) &&
		are_applied_alike(pairs, a->applied, b->applied) &&
		are_alike(pairs, a->unevaluated_items, b->unevaluated_items) &&
		are_alike(pairs, a->unevaluated_properties, b->unevaluated_properties);
}

/* es_likeness_check tells whether two schemas say the same in the same way. */
bool
es_likeness_check(const EsSchemaNode *a, const EsSchemaNode *b, EsEffort *effort)
{
	EsPairs		pairs = {.effort = effort};

	return are_alike(&pairs, a, b);
}
