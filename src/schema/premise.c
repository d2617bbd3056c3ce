/*
 * premise.c
 *		What follows from the facts that are known of a value.
 *
 * Schemas that apply whatever the value is, by $ref, allOf and the like, are laid side
 * by side; then limits are the narrowest of all of them.  Alternatives (anyOf, oneOf,
 * if) say nothing here: proof.c goes through them one by one, with a fact more for each.
 */
#include "schema/premise.h"

#include "utils/builtins.h"

#include "json/node.h"
#include "json/tree.h"
#include "json/pack.h"
#include "schema/validate.h"
#include "schema/effort.h"

#define MAX_LISTED	64			/* integers of a range */

static void take_node(EsPremise *premise, const EsSchemaNode *node);

/* Adds a schema to a list; tells whether it is new there. */
static bool
list_node(EsPremise *premise, EsNodeList *list, const EsSchemaNode *node)
{
	es_effort_spend(premise->effort, 1 + list->count / 16);
	for (int i = 0; i < list->count; i++)
	{
		if (list->nodes[i] == node)
			return false;
	}
	if (list->count == list->room)
	{
		list->room = Max(8, list->room * 2);
		list->nodes = list->nodes == NULL ? palloc(list->room * sizeof(*list->nodes)) :
			repalloc(list->nodes, list->room * sizeof(*list->nodes));
	}
	list->nodes[list->count++] = node;
	return true;
}

/* Counts the kinds of rules that a schema has beside "type". */
static int
count_rule_kinds(const EsSchemaNode *node)
{
	return (node->enumeration != NULL) + (node->constant != NULL) + (node->numbers != NULL) +
		(node->strings != NULL) + (node->arrays != NULL) + (node->objects != NULL) +
		(node->applied != NULL) + (node->unevaluated_items != NULL) + (node->unevaluated_properties != NULL);
}

/* es_premise_is_only_types tells whether a schema says nothing but which types there may be. */
bool
es_premise_is_only_types(const EsSchemaNode *node)
{
	return count_rule_kinds(node) == 0;
}

/* Tells whether a schema has nothing but one subschema of a kind. */
static bool
is_only_applied(const EsSchemaNode *node)
{
	const EsApplied *applied = node->applied;

	return applied != NULL && node->types == ES_TYPE_ANY && count_rule_kinds(node) == 1 &&
		(applied->ref != NULL) + (applied->dynamic_ref != NULL) + (applied->not_schema != NULL) +
		(applied->all_of.count > 0) + (applied->any_of.count > 0) + (applied->one_of.count > 0) +
		(applied->if_schema != NULL) == 1;
}

/* Gives the key that a schema requires, if it says nothing else; or NULL. */
static const EsKey *
find_only_required(const EsSchemaNode *node)
{
	const EsObjectRules *objects = node->objects;

	if (objects == NULL || (node->types & ES_TYPE_OBJECT) == 0 || count_rule_kinds(node) != 1 ||
		objects->count != 1 || objects->pattern_count != 0 || objects->min_properties > 1 ||
		objects->max_properties != ES_NO_LIMIT || objects->additional != NULL || objects->names != NULL)
		return NULL;
	if (!objects->properties[0].required || objects->properties[0].schema != NULL ||
		objects->properties[0].dependent != NULL || objects->properties[0].needs_count != 0)
		return NULL;
	return &objects->properties[0].key;
}

/* Takes in that a schema refuses the value. */
static void
deny_node(EsPremise *premise, const EsSchemaNode *node)
{
	const EsKey *key = node->types == ES_TYPE_ANY ? find_only_required(node) : NULL;

	if (!es_effort_allows(premise->effort, 1))
		return;
	if (es_premise_is_only_types(node))
		premise->types &= ~node->types;
	else if (key != NULL)
	{
		premise->types &= ES_TYPE_OBJECT;
		premise->absent = lappend(premise->absent, (void *) key);
	}
	else if (is_only_applied(node) && node->applied->ref != NULL)
		deny_node(premise, node->applied->ref);
	else if (is_only_applied(node) && node->applied->not_schema != NULL)
		take_node(premise, node->applied->not_schema);
	else if (is_only_applied(node) && node->applied->any_of.count > 0)
	{
		for (uint32 i = 0; i < node->applied->any_of.count; i++)
			deny_node(premise, node->applied->any_of.nodes[i]);
	}
	else
		(void) list_node(premise, &premise->is_not, node);
}

/* Takes in what a schema applies whatever the value is. */
static void
take_applied(EsPremise *premise, const EsApplied *applied)
{
	if (applied->ref != NULL)
		take_node(premise, applied->ref);
	if (applied->dynamic_ref != NULL)
		take_node(premise, applied->dynamic_ref);
	for (uint32 i = 0; i < applied->all_of.count; i++)
		take_node(premise, applied->all_of.nodes[i]);
	if (applied->any_of.count == 1)
		take_node(premise, applied->any_of.nodes[0]);
	if (applied->one_of.count == 1)
		take_node(premise, applied->one_of.nodes[0]);
	if (applied->not_schema != NULL)
		deny_node(premise, applied->not_schema);
}

/* Takes in that a schema accepts the value. */
static void
take_node(EsPremise *premise, const EsSchemaNode *node)
{
	if (!es_effort_allows(premise->effort, 1) || !list_node(premise, &premise->is, node))
		return;
	premise->types &= node->types;
	if (node->enumeration != NULL || node->constant != NULL)
		premise->listed = node;
	if (node->applied != NULL)
		take_applied(premise, node->applied);
}

/* es_premise_find_property gives what a schema says of a key, or NULL. */
const EsSchemaProperty *
es_premise_find_property(const EsSchemaNode *node, const EsKey *key)
{
	const EsObjectRules *objects = node->objects;
	uint32		low = 0;
	uint32		high = objects == NULL ? 0 : objects->count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		int			order = es_tree_compare_keys(&objects->properties[middle].key, key);

		if (order == 0)
			return &objects->properties[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Tells whether a list has a key. */
static bool
is_key_listed(const List *keys, const EsKey *key)
{
	ListCell   *cell;

	foreach(cell, keys)
	{
		const EsKey *other = lfirst(cell);

		if (other->len == key->len && memcmp(other->bytes, key->bytes, key->len) == 0)
			return true;
	}
	return false;
}

/* es_premise_has tells whether it is known that a schema accepts the value. */
bool
es_premise_has(const EsPremise *premise, const EsSchemaNode *node)
{
	for (int i = 0; i < premise->is.count; i++)
	{
		if (premise->is.nodes[i] == node)
			return true;
	}
	return false;
}

/* es_premise_requires tells whether an object must have a member. */
bool
es_premise_requires(const EsPremise *premise, const EsKey *key)
{
	es_effort_spend(premise->effort, 1 + list_length(premise->present) / 16);
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsSchemaProperty *property = es_premise_find_property(premise->is.nodes[i], key);

		if (property != NULL && property->required)
			return true;
	}
	return is_key_listed(premise->present, key);
}

/* es_premise_forbids tells whether it is a fact that an object does not have a member. */
bool
es_premise_forbids(const EsPremise *premise, const EsKey *key)
{
	return is_key_listed(premise->absent, key);
}

/*
 * Takes in what a member brings with it that is there; tells whether that is news.  What
 * values are that are no objects does not depend on members.
 */
static bool
take_dependencies_of(EsPremise *premise, const EsSchemaProperty *property)
{
	int			before = premise->is.count + list_length(premise->present);

	if ((property->needs_count == 0 && property->dependent == NULL) ||
		!es_premise_requires(premise, &property->key))
		return false;
	for (uint32 i = 0; i < property->needs_count; i++)
	{
		if (!es_premise_requires(premise, &property->needs[i]))
			premise->present = lappend(premise->present, &property->needs[i]);
	}
	if (property->dependent != NULL && (premise->types & ~ES_TYPE_OBJECT) == 0)
		take_node(premise, property->dependent);
	return premise->is.count + list_length(premise->present) > before;
}

/* Takes in what members bring with them that are there, until there is nothing new. */
static void
take_dependencies(EsPremise *premise)
{
	bool		again = true;

	while (again && premise->effort->left > 0)
	{
		again = false;
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < premise->is.count; i++)
		{
			const EsObjectRules *objects = premise->is.nodes[i]->objects;

			for (uint32 k = 0; objects != NULL && objects->dependencies && k < objects->count; k++)
				again = take_dependencies_of(premise, &objects->properties[k]) || again;
		}
	}
}

/* Takes in the limits of numbers. */
static void
take_numbers(EsPremise *premise, const EsNumberRules *numbers)
{
	if (numbers->minimum != NULL)
		es_bounds_raise(&premise->lower, numbers->minimum, false);
	if (numbers->exclusive_minimum != NULL)
		es_bounds_raise(&premise->lower, numbers->exclusive_minimum, true);
	if (numbers->maximum != NULL)
		es_bounds_reduce(&premise->upper, numbers->maximum, false);
	if (numbers->exclusive_maximum != NULL)
		es_bounds_reduce(&premise->upper, numbers->exclusive_maximum, true);
	if (numbers->multiple_of != NULL)
		premise->step = numbers->multiple_of;
}

/* Takes in the limits that a schema has. */
static void
take_limits(EsPremise *premise, const EsSchemaNode *node)
{
	if (node->numbers != NULL)
		take_numbers(premise, node->numbers);
	if (node->strings != NULL)
		es_bounds_narrow(&premise->length, node->strings->min_length, node->strings->max_length);
	if (node->arrays != NULL)
	{
		es_bounds_narrow(&premise->items, node->arrays->min_items, node->arrays->max_items);
		if (node->arrays->contains != NULL)
			es_bounds_narrow(&premise->items, node->arrays->min_contains, ES_NO_LIMIT);
		premise->unique = premise->unique || node->arrays->unique_items;
	}
	if (node->objects != NULL)
	{
		es_bounds_narrow(&premise->members, node->objects->min_properties, node->objects->max_properties);
		es_bounds_narrow(&premise->members, node->objects->required_count, ES_NO_LIMIT);
	}
}

/* Takes what numbers are multiples of into account. */
static void
round_limits(EsPremise *premise)
{
	bool		sure = true;

	if ((premise->types & ES_TYPE_FRACTION) != 0 && premise->step != NULL &&
		es_bounds_divides(es_bounds_one(), premise->step, &sure))
		premise->types &= ~ES_TYPE_FRACTION;
	if (premise->step == NULL && (premise->types & ES_TYPE_FRACTION) == 0)
		premise->step = es_bounds_one();
	if (premise->step != NULL)
	{
		es_bounds_round_up(&premise->lower, premise->step);
		es_bounds_round_down(&premise->upper, premise->step);
	}
}

/* es_premise_drop_contradictions takes types away for which limits leave no value. */
void
es_premise_drop_contradictions(EsPremise *premise)
{
	if (!es_bounds_meet(&premise->lower, &premise->upper))
		premise->types &= ~ES_TYPE_NUMBER;
	if (!es_bounds_allow(&premise->length))
		premise->types &= ~ES_TYPE_STRING;
	if (!es_bounds_allow(&premise->items))
		premise->types &= ~ES_TYPE_ARRAY;
	if (!es_bounds_allow(&premise->members))
		premise->types &= ~ES_TYPE_OBJECT;
}

/* es_premise_make finds what follows from facts, in the current memory context. */
EsPremise *
es_premise_make(const EsFacts *facts, EsEffort *effort)
{
	EsPremise  *premise = palloc0(sizeof(EsPremise));

	premise->facts = *facts;
	premise->effort = effort;
	premise->types = ES_TYPE_ANY;
	premise->length.max = premise->items.max = premise->members.max = ES_NO_LIMIT;
	for (int i = 0; i < facts->count; i++)
	{
		const EsFact *fact = &facts->facts[i];

		if (fact->kind == ES_FACT_IS)
			take_node(premise, fact->node);
		else if (fact->kind == ES_FACT_IS_NOT)
			deny_node(premise, fact->node);
		else if (fact->kind == ES_FACT_TYPES)
			premise->types &= fact->types;
		else if (fact->kind == ES_FACT_PRESENT)
			premise->present = lappend(premise->present, (void *) fact->key);
		else
			premise->absent = lappend(premise->absent, (void *) fact->key);
	}
	take_dependencies(premise);
	for (int i = 0; i < premise->is.count; i++)
		take_limits(premise, premise->is.nodes[i]);
	es_bounds_narrow(&premise->members, list_length(premise->present), ES_NO_LIMIT);
	round_limits(premise);
	es_premise_drop_contradictions(premise);
	return premise;
}

/* ---- values that can be listed ---- */

/* es_premise_accepts tells whether a schema accepts a value. */
bool
es_premise_accepts(const EsSchemaNode *node, const Jsonb *value)
{
	EsSchema	schema = {(EsSchemaNode *) node};

	return es_schema_accepts(&schema, value);
}

/* Counts the integers between the limits; more than MAX_LISTED: many, or not known. */
static int
count_integers(const EsPremise *premise)
{
	if (premise->step == NULL || es_bounds_compare(premise->step, es_bounds_one()) != 0)
		return MAX_LISTED + 1;
	return es_bounds_count_integers(&premise->lower, &premise->upper, MAX_LISTED);
}

/* es_premise_is_finite tells whether es_premise_values can say which values there are. */
bool
es_premise_is_finite(const EsPremise *premise)
{
	uint32		many = premise->types & ~(ES_TYPE_NULL | ES_TYPE_BOOLEAN);

	if (premise->listed != NULL)
		return true;
	if (premise->length.max == 0)
		many &= ~ES_TYPE_STRING;
	if (premise->items.max == 0)
		many &= ~ES_TYPE_ARRAY;
	if (premise->members.max == 0)
		many &= ~ES_TYPE_OBJECT;
	if ((many & ES_TYPE_NUMBER) == ES_TYPE_INTEGER && count_integers(premise) <= MAX_LISTED)
		many &= ~ES_TYPE_INTEGER;
	return many == 0;
}

/*
 * es_premise_allows tells whether a value may be one that the premise is about; of all
 * but objects, whether it is.
 */
bool
es_premise_allows(const EsPremise *premise, const Jsonb *value)
{
	EsSchemaNode types = {.types = premise->types};

	if (!es_premise_accepts(&types, value))
		return false;
	for (int i = 0; i < premise->is.count; i++)
	{
		if (!es_premise_accepts(premise->is.nodes[i], value))
			return false;
	}
	for (int i = 0; i < premise->is_not.count; i++)
	{
		if (es_premise_accepts(premise->is_not.nodes[i], value))
			return false;
	}
	return true;
}

/* Adds a value to a list if it is possible. */
static List *
list_value(List *values, const EsPremise *premise, const EsNode *value)
{
	EsNode		copy = *value;
	Jsonb	   *json = es_pack_jsonb(&copy);

	CHECK_FOR_INTERRUPTS();
	es_effort_spend(premise->effort, 1 + premise->is.count + premise->is_not.count);
	return es_premise_allows(premise, json) ? lappend(values, json) : values;
}

/* Lists the values of types that have few. */
static List *
list_simple_values(const EsPremise *premise)
{
	EsNode		simple[] = {
		{.kind = ES_NODE_NULL}, {.kind = ES_NODE_BOOL}, {.kind = ES_NODE_BOOL,.value.boolean = true},
		es_node_view_string("", 0), es_pack_array(NULL, 0), es_pack_object(NULL, NULL, 0)
	};
	List	   *values = NIL;
	Numeric		number = premise->lower.value;

	for (int i = 0; i < lengthof(simple); i++)
		values = list_value(values, premise, &simple[i]);
	for (int i = (premise->types & ES_TYPE_INTEGER) == 0 ? 0 : count_integers(premise); i > 0; i--)
	{
		EsNode		node = es_node_view_number(number);

		values = list_value(values, premise, &node);
		if (i > 1)
			number = DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(number), NumericGetDatum(es_bounds_one())));
	}
	return values;
}

/* es_premise_values lists, as Jsonb, the values that there can be, if they are finite. */
List *
es_premise_values(const EsPremise *premise)
{
	const EsSchemaNode *listed = premise->listed;
	List	   *values = NIL;

	if (listed == NULL)
		return list_simple_values(premise);
	if (listed->constant != NULL)
		return list_value(values, premise, listed->constant);
	for (uint32 i = 0; i < listed->enumeration->count; i++)
		values = list_value(values, premise, &listed->enumeration->values[i]);
	return values;
}
