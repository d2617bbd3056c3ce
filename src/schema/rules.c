/*
 * rules.c
 *		A subschema's keywords, made into the rules of a node.
 *
 * The keywords have been checked, so whatever is here has the form that it must have.
 * Rules about a kind of values are made when there is the first one.
 */
#include "schema/rules.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "json/node.h"
#include "json/tree.h"
#include "schema/keyword.h"
#include "schema/model.h"
#include "schema/order.h"
#include "schema/survey.h"

/* What is being filled. */
typedef struct Filling
{
	EsCompilation *c;
	EsSchemaNode *node;
	EsNode		key;			/* the member being taken */
	EsNode		value;
	EsKeyword	keyword;
	EsNumberRules *numbers;
	EsStringRules *strings;
	EsArrayRules *arrays;
	EsObjectRules *objects;
	EsApplied  *applied;
	uint32		space;			/* of objects->properties */
} Filling;

/* Gets memory that lives as long as the schema. */
static void *
keep_zeroed(const Filling *f, Size size)
{
	return MemoryContextAllocExtended(f->c->survey->keep, Max(size, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* Gives the node of the subschema that the keyword's value is. */
static EsSchemaNode *
keyword_node(Filling *f)
{
	return es_variant_child(f->c, &f->value, f->keyword, NULL, ES_NO_LIMIT);
}

/* Gives the nodes of the subschemas in the keyword's value, an array. */
static EsSchemaList
keyword_nodes(Filling *f)
{
	EsSchemaList list = {0};
	EsPackedReader reader;
	EsNode		value;

	es_node_begin_elements(&reader, &f->value);
	list.nodes = keep_zeroed(f, sizeof(EsSchemaNode *) * reader.count);
	while (es_node_next_element(&reader, &value))
	{
		list.nodes[list.count] = es_variant_child(f->c, &value, f->keyword, NULL, list.count);
		list.count++;
	}
	return list;
}

/* Gives the keyword's value as a limit, which may be beyond what is ever reached. */
static uint32
keyword_limit(const Filling *f)
{
	Datum		number = PointerGetDatum(f->value.value.bytes);
	Datum		most = NumericGetDatum(int64_to_numeric(ES_NO_LIMIT));

	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, number, most)) >= 0)
		return ES_NO_LIMIT;
	return (uint32) DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
}

/* ---- rules about one kind of values ---- */

/* Takes a keyword about numbers; false if it is none. */
static bool
take_number_keyword(Filling *f)
{
	Numeric		number = (Numeric) f->value.value.bytes;
	EsNumberRules *rules = f->numbers;

	if (f->keyword != ES_KEYWORD_MINIMUM && f->keyword != ES_KEYWORD_MAXIMUM &&
		f->keyword != ES_KEYWORD_EXCLUSIVE_MINIMUM && f->keyword != ES_KEYWORD_EXCLUSIVE_MAXIMUM &&
		f->keyword != ES_KEYWORD_MULTIPLE_OF)
		return false;
	if (rules == NULL)
		f->node->numbers = rules = f->numbers = keep_zeroed(f, sizeof(EsNumberRules));
	if (f->keyword == ES_KEYWORD_MINIMUM)
		rules->minimum = number;
	else if (f->keyword == ES_KEYWORD_MAXIMUM)
		rules->maximum = number;
	else if (f->keyword == ES_KEYWORD_EXCLUSIVE_MINIMUM)
		rules->exclusive_minimum = number;
	else if (f->keyword == ES_KEYWORD_EXCLUSIVE_MAXIMUM)
		rules->exclusive_maximum = number;
	else
	{
		MemoryContext old = MemoryContextSwitchTo(f->c->survey->keep);

		rules->multiple_of = number;
		rules->zero = int64_to_numeric(0);
		MemoryContextSwitchTo(old);
	}
	return true;
}

/* Takes a keyword about strings; false if it is none. */
static bool
take_string_keyword(Filling *f)
{
	EsStringRules *rules = f->strings;

	if (f->keyword != ES_KEYWORD_MIN_LENGTH && f->keyword != ES_KEYWORD_MAX_LENGTH && f->keyword != ES_KEYWORD_PATTERN)
		return false;
	if (rules == NULL)
	{
		f->node->strings = rules = f->strings = keep_zeroed(f, sizeof(EsStringRules));
		rules->max_length = ES_NO_LIMIT;
	}
	if (f->keyword == ES_KEYWORD_MIN_LENGTH)
		rules->min_length = keyword_limit(f);
	else if (f->keyword == ES_KEYWORD_MAX_LENGTH)
		rules->max_length = keyword_limit(f);
	else
	{
		rules->pattern = es_survey_pattern(f->c->survey, &f->value);
		rules->pattern_text = f->value;
	}
	return true;
}

/* Gives the rules about arrays. */
static EsArrayRules *
need_array_rules(Filling *f)
{
	if (f->arrays == NULL)
	{
		f->node->arrays = f->arrays = keep_zeroed(f, sizeof(EsArrayRules));
		f->arrays->max_items = ES_NO_LIMIT;
		f->arrays->min_contains = 1;
		f->arrays->max_contains = ES_NO_LIMIT;
	}
	return f->arrays;
}

/* Takes a keyword about arrays; false if it is none. */
static bool
take_array_keyword(Filling *f)
{
	switch (f->keyword)
	{
		case ES_KEYWORD_MIN_ITEMS:
			need_array_rules(f)->min_items = keyword_limit(f);
			return true;
		case ES_KEYWORD_MAX_ITEMS:
			need_array_rules(f)->max_items = keyword_limit(f);
			return true;
		case ES_KEYWORD_UNIQUE_ITEMS:
			need_array_rules(f)->unique_items = f->value.value.boolean;
			return true;
		case ES_KEYWORD_PREFIX_ITEMS:
			need_array_rules(f)->prefix_items = keyword_nodes(f);
			return true;
		case ES_KEYWORD_ITEMS:
			need_array_rules(f)->items = keyword_node(f);
			return true;
		case ES_KEYWORD_CONTAINS:
			need_array_rules(f)->contains = keyword_node(f);
			return true;
		case ES_KEYWORD_MIN_CONTAINS:
			need_array_rules(f)->min_contains = keyword_limit(f);
			f->arrays->min_contains_given = true;
			return true;
		case ES_KEYWORD_MAX_CONTAINS:
			need_array_rules(f)->max_contains = keyword_limit(f);
			return true;
		default:
			return false;
	}
}

/* ---- rules about objects ---- */

/* Gives the rules about objects. */
static EsObjectRules *
need_object_rules(Filling *f)
{
	if (f->objects == NULL)
	{
		f->node->objects = f->objects = keep_zeroed(f, sizeof(EsObjectRules));
		f->objects->max_properties = ES_NO_LIMIT;
	}
	return f->objects;
}

/* Adds an entry for a key; another one may be there for the same key. */
static EsSchemaProperty *
add_property(Filling *f, const EsNode *key)
{
	EsObjectRules *rules = need_object_rules(f);
	EsSchemaProperty *property;

	if (rules->count == f->space)
	{
		f->space = Max(8, f->space * 2);
		rules->properties = rules->properties ?
			repalloc_huge(rules->properties, f->space * sizeof(EsSchemaProperty)) :
			keep_zeroed(f, f->space * sizeof(EsSchemaProperty));
	}
	property = &rules->properties[rules->count++];
	memset(property, 0, sizeof(*property));
	property->key = es_node_key(key->value.bytes, key->len);
	return property;
}

/* Takes the keys of "required". */
static void
take_required(Filling *f)
{
	EsPackedReader reader;
	EsNode		name;

	es_node_begin_elements(&reader, &f->value);
	while (es_node_next_element(&reader, &name))
		add_property(f, &name)->required = true;
}

/* Takes what a key of "dependentRequired" asks for. */
static void
take_needs(Filling *f, const EsNode *key, const EsNode *names)
{
	EsSchemaProperty *property = add_property(f, key);
	EsPackedReader reader;
	EsNode		name;

	es_node_begin_elements(&reader, names);
	property->needs = keep_zeroed(f, sizeof(EsKey) * reader.count);
	while (es_node_next_element(&reader, &name))
		property->needs[property->needs_count++] = es_node_key(name.value.bytes, name.len);
	f->objects->dependencies |= property->needs_count > 0;
}

/* Takes the members of "patternProperties". */
static void
take_patterns(Filling *f)
{
	EsObjectRules *rules = need_object_rules(f);
	EsPackedReader reader;
	EsNode		key;
	EsNode		value;

	es_node_begin_members(&reader, &f->value);
	rules->patterns = keep_zeroed(f, sizeof(EsPatternProperty) * reader.count);
	while (es_node_next_member(&reader, &key, &value))
	{
		EsPatternProperty *pattern = &rules->patterns[rules->pattern_count++];

		pattern->pattern = es_survey_pattern(f->c->survey, &key);
		pattern->pattern_text = key;
		pattern->schema = es_variant_child(f->c, &value, f->keyword, &key, 0);
	}
}

/* Takes the members of "properties", "dependentSchemas" or "dependentRequired". */
static void
take_property_map(Filling *f)
{
	EsPackedReader reader;
	EsNode		key;
	EsNode		value;

	es_node_begin_members(&reader, &f->value);
	while (es_node_next_member(&reader, &key, &value))
	{
		CHECK_FOR_INTERRUPTS();
		if (f->keyword == ES_KEYWORD_DEPENDENT_REQUIRED)
			take_needs(f, &key, &value);
		else if (f->keyword == ES_KEYWORD_PROPERTIES)
			add_property(f, &key)->schema = es_variant_child(f->c, &value, f->keyword, &key, 0);
		else
		{
			add_property(f, &key)->dependent = es_variant_child(f->c, &value, f->keyword, &key, 0);
			f->objects->dependencies = true;
		}
	}
}

/* Takes a keyword about objects; false if it is none. */
static bool
take_object_keyword(Filling *f)
{
	switch (f->keyword)
	{
		case ES_KEYWORD_MIN_PROPERTIES:
			need_object_rules(f)->min_properties = keyword_limit(f);
			return true;
		case ES_KEYWORD_MAX_PROPERTIES:
			need_object_rules(f)->max_properties = keyword_limit(f);
			return true;
		case ES_KEYWORD_REQUIRED:
			take_required(f);
			return true;
		case ES_KEYWORD_PROPERTIES:
		case ES_KEYWORD_DEPENDENT_SCHEMAS:
		case ES_KEYWORD_DEPENDENT_REQUIRED:
			take_property_map(f);
			return true;
		case ES_KEYWORD_PATTERN_PROPERTIES:
			take_patterns(f);
			return true;
		case ES_KEYWORD_ADDITIONAL_PROPERTIES:
			need_object_rules(f)->additional = keyword_node(f);
			return true;
		case ES_KEYWORD_PROPERTY_NAMES:
			need_object_rules(f)->names = keyword_node(f);
			return true;
		default:
			return false;
	}
}

/* Orders entries for keys by key, for qsort. */
static int
compare_property_keys(const void *a, const void *b)
{
	return es_tree_compare_keys(&((const EsSchemaProperty *) a)->key, &((const EsSchemaProperty *) b)->key);
}

/* Makes one entry of those for the same key, and puts them in order. */
static void
unite_properties(EsObjectRules *rules)
{
	uint32		count = 0;

	qsort(rules->properties, rules->count, sizeof(EsSchemaProperty), compare_property_keys);
	for (uint32 i = 0; i < rules->count; i++)
	{
		const EsSchemaProperty *more = &rules->properties[i];
		EsSchemaProperty *last = &rules->properties[count - (count > 0)];

		rules->required_count += more->required;
		if (count == 0 || compare_property_keys(last, more) != 0)
		{
			rules->properties[count++] = *more;
			continue;
		}
		last->required |= more->required;
		last->schema = last->schema ? last->schema : more->schema;
		last->dependent = last->dependent ? last->dependent : more->dependent;
		if (more->needs_count > 0)
		{
			last->needs = more->needs;
			last->needs_count = more->needs_count;
		}
	}
	rules->count = count;
}

/* ---- rules about all values ---- */

/* Takes "type". */
static void
take_types(Filling *f)
{
	EsPackedReader reader;
	EsNode		name;

	f->node->types = 0;
	if (f->value.kind == ES_NODE_STRING)
	{
		f->node->types = es_keyword_type(&f->value);
		return;
	}
	es_node_begin_elements(&reader, &f->value);
	while (es_node_next_element(&reader, &name))
		f->node->types |= es_keyword_type(&name);
}

/* Takes "const" or "enum". */
static void
take_values(Filling *f)
{
	MemoryContext old = MemoryContextSwitchTo(f->c->survey->keep);

	if (f->keyword == ES_KEYWORD_ENUM)
		f->node->enumeration = es_order_make_set(&f->value);
	else
	{
		EsNode	   *constant = palloc(sizeof(EsNode));

		*constant = f->value;
		f->node->constant = constant;
	}
	MemoryContextSwitchTo(old);
}

/* Gives the subschemas about the same value. */
static EsApplied *
need_applied(Filling *f)
{
	if (f->applied == NULL)
		f->node->applied = f->applied = keep_zeroed(f, sizeof(EsApplied));
	return f->applied;
}

/* Takes a keyword about values of all kinds. */
static void
take_other_keyword(Filling *f)
{
	switch (f->keyword)
	{
		case ES_KEYWORD_TYPE:
			take_types(f);
			break;
		case ES_KEYWORD_ENUM:
		case ES_KEYWORD_CONST:
			take_values(f);
			break;
		case ES_KEYWORD_ALL_OF:
			need_applied(f)->all_of = keyword_nodes(f);
			break;
		case ES_KEYWORD_ANY_OF:
			need_applied(f)->any_of = keyword_nodes(f);
			break;
		case ES_KEYWORD_ONE_OF:
			need_applied(f)->one_of = keyword_nodes(f);
			break;
		case ES_KEYWORD_NOT:
			need_applied(f)->not_schema = keyword_node(f);
			break;
		case ES_KEYWORD_IF:
			need_applied(f)->if_schema = keyword_node(f);
			break;
		case ES_KEYWORD_THEN:
			need_applied(f)->then_schema = keyword_node(f);
			break;
		case ES_KEYWORD_ELSE:
			need_applied(f)->else_schema = keyword_node(f);
			break;
		case ES_KEYWORD_UNEVALUATED_ITEMS:
			f->node->unevaluated_items = keyword_node(f);
			break;
		case ES_KEYWORD_UNEVALUATED_PROPERTIES:
			f->node->unevaluated_properties = keyword_node(f);
			break;
		default:
			break;
	}
}

/* Takes what a subschema refers to. */
static void
take_references(Filling *f, const EsSubschema *subschema)
{
	if (subschema->ref)
		need_applied(f)->ref = es_variant_reach(f->c, subschema->ref);
	if (subschema->dynamic_ref)
		need_applied(f)->dynamic_ref = es_variant_dynamic(f->c, subschema);
}

/* Drops rules that never come to bear. */
static void
drop_idle_rules(Filling *f)
{
	if (f->applied && f->applied->if_schema == NULL)
		f->applied->then_schema = f->applied->else_schema = NULL;
	if (f->arrays && f->arrays->contains == NULL)
	{
		f->arrays->min_contains = 0;
		f->arrays->max_contains = ES_NO_LIMIT;
	}
}

void
es_rules_fill(EsCompilation *c)
{
	const EsSubschema *subschema = c->task.subschema;
	Filling		f = {.c = c,.node = c->task.node};
	EsPackedReader reader;

	if (subschema->view.kind == ES_NODE_BOOL)
	{
		f.node->refuses = !subschema->view.value.boolean;
		f.node->types = f.node->refuses ? 0 : ES_TYPE_ANY;
		return;
	}
	take_references(&f, subschema);
	es_node_begin_members(&reader, &subschema->view);
	while (es_node_next_member(&reader, &f.key, &f.value))
	{
		f.keyword = es_keyword_find(&f.key);
		if (!take_number_keyword(&f) && !take_string_keyword(&f) && !take_array_keyword(&f) && !take_object_keyword(&f))
			take_other_keyword(&f);
	}
	if (f.objects)
		unite_properties(f.objects);
	drop_idle_rules(&f);
}
