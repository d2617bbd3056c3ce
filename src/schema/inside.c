/*
 * inside.c
 *		What is known of the members of an object, and of the elements of an array.
 *
 * Members come in classes: each key that a schema names; for each pattern, the other
 * keys that match it; and the keys that are neither.  Facts about a class hold for each
 * of its members.
 *
 * What "unevaluated" keywords are about depends on which of the alternatives beside
 * them accept a value.  What may be evaluated by any of them, and what is whichever
 * they are, is known without it: a schema of the premise is taken to say nothing of the
 * former, one to be proved to be about all but the latter.
 */
#include "schema/inside.h"

#include "json/node.h"
#include "json/pack.h"
#include "schema/effort.h"
#include "schema/bounds.h"
#include "schema/pattern.h"

/* es_inside_matches tells whether a key matches a pattern. */
bool
es_inside_matches(const EsPatternProperty *pattern, const EsKey *key)
{
	return es_pattern_matches(pattern->pattern, key->bytes, key->len);
}

/* es_inside_same_pattern tells whether two patterns have the same text. */
bool
es_inside_same_pattern(const EsNode *a, const EsNode *b)
{
	return a->len == b->len && memcmp(a->value.bytes, b->value.bytes, a->len) == 0;
}

/* Tells whether a pattern of a schema applies to a class, as far as that is known. */
static bool
is_matched_by(const EsPatternProperty *pattern, const EsMemberClass *members)
{
	if (members->key != NULL)
		return es_inside_matches(pattern, members->key);
	return members->pattern != NULL && es_inside_same_pattern(&pattern->pattern_text, &members->pattern->pattern_text);
}

/* Spends what it takes to find the patterns of a schema that apply to a class. */
static void
spend_on_patterns(const EsObjectRules *objects, const EsMemberClass *members, EsEffort *effort)
{
	CHECK_FOR_INTERRUPTS();
	if (objects != NULL)
		es_effort_spend(effort, members->key != NULL ? objects->pattern_count : objects->pattern_count / ES_TEXTS_A_STEP);
}

/* es_inside_is_named tells whether "properties" or "patternProperties" are about a class. */
bool
es_inside_is_named(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort)
{
	const EsSchemaProperty *property = members->key == NULL ? NULL : es_premise_find_property(node, members->key);

	if (property != NULL && property->schema != NULL)
		return true;
	spend_on_patterns(node->objects, members, effort);
	for (uint32 i = 0; node->objects != NULL && i < node->objects->pattern_count; i++)
	{
		if (is_matched_by(&node->objects->patterns[i], members))
			return true;
	}
	return false;
}

/* ---- what is evaluated ---- */

/* A question about a schema and those that it applies to the same value. */
typedef bool (*EsNodeTest) (const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort);

/* Tells whether one of a list passes a test. */
static bool
any_passes(const EsSchemaList *list, EsNodeTest test, const EsMemberClass *members, EsEffort *effort)
{
	for (uint32 i = 0; i < list->count; i++)
	{
		if (test(list->nodes[i], members, effort))
			return true;
	}
	return false;
}

/* Tells whether a schema may evaluate, by a pattern, a member that is not known by its key. */
static bool
may_match(const EsObjectRules *objects, const EsMemberClass *members)
{
	return objects != NULL && objects->pattern_count > 0 && members->pattern != NULL;
}

/* Tells whether one of the alternatives of a schema may evaluate members. */
static bool
may_alternatives_evaluate(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort)
{
	const EsApplied *applied = node->applied;

	return any_passes(&applied->any_of, es_inside_may_evaluate, members, effort) ||
		any_passes(&applied->one_of, es_inside_may_evaluate, members, effort) ||
		(applied->if_schema != NULL && es_inside_may_evaluate(applied->if_schema, members, effort)) ||
		(applied->then_schema != NULL && es_inside_may_evaluate(applied->then_schema, members, effort)) ||
		(applied->else_schema != NULL && es_inside_may_evaluate(applied->else_schema, members, effort));
}

/* es_inside_may_evaluate tells whether a schema may evaluate members of a class. */
bool
es_inside_may_evaluate(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort)
{
	const EsObjectRules *objects = node->objects;
	const EsApplied *applied = node->applied;

	if (!es_effort_allows(effort, 1))
		return true;
	if ((objects != NULL && objects->additional != NULL) || node->unevaluated_properties != NULL ||
		es_inside_is_named(node, members, effort) || may_match(objects, members))
		return true;
	for (uint32 i = 0; objects != NULL && objects->dependencies && i < objects->count; i++)
	{
		if (objects->properties[i].dependent != NULL &&
			es_inside_may_evaluate(objects->properties[i].dependent, members, effort))
			return true;
	}
	if (applied == NULL)
		return false;
	return (applied->ref != NULL && es_inside_may_evaluate(applied->ref, members, effort)) ||
		(applied->dynamic_ref != NULL && es_inside_may_evaluate(applied->dynamic_ref, members, effort)) ||
		any_passes(&applied->all_of, es_inside_may_evaluate, members, effort) ||
		may_alternatives_evaluate(node, members, effort);
}

/* es_inside_must_evaluate tells whether a schema evaluates members of a class in any case. */
bool
es_inside_must_evaluate(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort)
{
	const EsApplied *applied = node->applied;

	if (!es_effort_allows(effort, 1))
		return false;
	if ((node->objects != NULL && node->objects->additional != NULL) || node->unevaluated_properties != NULL ||
		es_inside_is_named(node, members, effort))
		return true;
	return applied != NULL &&
		((applied->ref != NULL && es_inside_must_evaluate(applied->ref, members, effort)) ||
		 (applied->dynamic_ref != NULL && es_inside_must_evaluate(applied->dynamic_ref, members, effort)) ||
		 any_passes(&applied->all_of, es_inside_must_evaluate, members, effort));
}

/* es_inside_has_alternatives tells whether what a schema evaluates depends on the value. */
bool
es_inside_has_alternatives(const EsSchemaNode *node, EsEffort *effort)
{
	const EsApplied *applied = node->applied;

	if (!es_effort_allows(effort, 1))
		return true;
	for (uint32 i = 0; node->objects != NULL && node->objects->dependencies && i < node->objects->count; i++)
	{
		if (node->objects->properties[i].dependent != NULL)
			return true;
	}
	if (applied == NULL)
		return false;
	if (applied->any_of.count > 0 || applied->one_of.count > 0 || applied->if_schema != NULL)
		return true;
	for (uint32 i = 0; i < applied->all_of.count; i++)
	{
		if (es_inside_has_alternatives(applied->all_of.nodes[i], effort))
			return true;
	}
	return (applied->ref != NULL && es_inside_has_alternatives(applied->ref, effort)) ||
		(applied->dynamic_ref != NULL && es_inside_has_alternatives(applied->dynamic_ref, effort));
}

/* How many elements, from the first on, a schema evaluates. */
typedef uint32 (*EsNodeCount) (const EsSchemaNode *node, EsEffort *effort);

/* Raises a number of elements to what a schema evaluates, which may be missing. */
static void
count_evaluated(uint32 *most, const EsSchemaNode *node, EsNodeCount count, EsEffort *effort)
{
	uint32		evaluated = node == NULL ? 0 : count(node, effort);

	*most = Max(*most, evaluated);
}

/* Raises it to the most that one of a list evaluates. */
static void
count_evaluated_by_list(uint32 *most, const EsSchemaList *list, EsNodeCount count, EsEffort *effort)
{
	for (uint32 i = 0; i < list->count; i++)
		count_evaluated(most, list->nodes[i], count, effort);
}

/* Raises it to what a schema evaluates by $ref and allOf. */
static void
count_always_evaluated(uint32 *most, const EsApplied *applied, EsNodeCount count, EsEffort *effort)
{
	count_evaluated(most, applied->ref, count, effort);
	count_evaluated(most, applied->dynamic_ref, count, effort);
	count_evaluated_by_list(most, &applied->all_of, count, effort);
}

/*
 * es_inside_may_evaluate_items gives the number of elements, from the first on, that a
 * schema may evaluate; ES_NO_LIMIT: all.
 */
uint32
es_inside_may_evaluate_items(const EsSchemaNode *node, EsEffort *effort)
{
	const EsArrayRules *arrays = node->arrays;
	const EsApplied *applied = node->applied;
	const EsObjectRules *objects = node->objects;
	uint32		most = arrays == NULL ? 0 : arrays->prefix_items.count;

	if (!es_effort_allows(effort, 1) || node->unevaluated_items != NULL ||
		(arrays != NULL && (arrays->items != NULL || arrays->contains != NULL)))
		return ES_NO_LIMIT;
	for (uint32 i = 0; objects != NULL && objects->dependencies && i < objects->count; i++)
		count_evaluated(&most, objects->properties[i].dependent, es_inside_may_evaluate_items, effort);
	if (applied == NULL)
		return most;
	count_always_evaluated(&most, applied, es_inside_may_evaluate_items, effort);
	count_evaluated_by_list(&most, &applied->any_of, es_inside_may_evaluate_items, effort);
	count_evaluated_by_list(&most, &applied->one_of, es_inside_may_evaluate_items, effort);
	count_evaluated(&most, applied->if_schema, es_inside_may_evaluate_items, effort);
	count_evaluated(&most, applied->then_schema, es_inside_may_evaluate_items, effort);
	count_evaluated(&most, applied->else_schema, es_inside_may_evaluate_items, effort);
	return most;
}

/*
 * es_inside_must_evaluate_items gives the number of elements that a schema evaluates
 * whatever the array is; ES_NO_LIMIT: all.
 */
uint32
es_inside_must_evaluate_items(const EsSchemaNode *node, EsEffort *effort)
{
	const EsArrayRules *arrays = node->arrays;
	uint32		most = arrays == NULL ? 0 : arrays->prefix_items.count;

	if (!es_effort_allows(effort, 1))
		return 0;
	if (node->unevaluated_items != NULL || (arrays != NULL && arrays->items != NULL))
		return ES_NO_LIMIT;
	if (node->applied != NULL)
		count_always_evaluated(&most, node->applied, es_inside_must_evaluate_items, effort);
	return most;
}

/* Tells whether "unevaluatedProperties" of a schema is about a class. */
static bool
is_left_to_unevaluated(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort)
{
	EsSchemaNode without = *node;

	without.unevaluated_properties = NULL;
	return !es_inside_may_evaluate(&without, members, effort);
}

/* Gives the first element that "unevaluatedItems" of a schema is known to be about. */
static uint32
find_first_unevaluated(const EsSchemaNode *node, EsEffort *effort)
{
	EsSchemaNode without = *node;

	without.unevaluated_items = NULL;
	return es_inside_may_evaluate_items(&without, effort);
}

/* ---- members ---- */

/* Adds a fact to a list that nobody else has. */
static void
add_own_fact(EsFacts *facts, EsFact fact, EsEffort *effort)
{
	EsFacts		before = *facts;

	es_effort_spend(effort, 1 + facts->count / ES_TEXTS_A_STEP);
	*facts = es_fact_add(&before, fact);
	if (before.facts != NULL && before.facts != facts->facts)
		pfree(before.facts);
}

/* Adds what "properties", "patternProperties" and "additionalProperties" of a schema say. */
static void
add_member_facts(EsFacts *facts, const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort)
{
	const EsObjectRules *objects = node->objects;
	const EsSchemaProperty *property = members->key == NULL ? NULL : es_premise_find_property(node, members->key);
	bool		named = property != NULL && property->schema != NULL;

	if (named)
		add_own_fact(facts, es_fact_is(property->schema), effort);
	spend_on_patterns(objects, members, effort);
	for (uint32 i = 0; i < objects->pattern_count; i++)
	{
		if (!is_matched_by(&objects->patterns[i], members))
			continue;
		named = true;
		add_own_fact(facts, es_fact_is(objects->patterns[i].schema), effort);
	}
	/* Members that match one pattern may match another. */
	if (!named && objects->additional != NULL && (members->pattern == NULL || objects->pattern_count == 0))
		add_own_fact(facts, es_fact_is(objects->additional), effort);
}

/* Tells whether "propertyNames" of a schema rules a class out. */
static bool
is_name_refused(const EsSchemaNode *names, const EsMemberClass *members)
{
	EsNode		name;

	if (members->key == NULL)
		return names->enumeration != NULL || names->constant != NULL || (names->types & ES_TYPE_STRING) == 0;
	name = es_node_view_string(members->key->bytes, members->key->len);
	return !es_premise_accepts(names, es_pack_jsonb(&name));
}

/* es_inside_member gives the facts about a class of members. */
EsFacts
es_inside_member(const EsPremise *premise, const EsMemberClass *members)
{
	EsFacts		facts = {0};

	if (members->key != NULL && es_premise_forbids(premise, members->key))
		return es_fact_of(es_fact_is(&es_fact_nothing));
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsSchemaNode *node = premise->is.nodes[i];

		es_effort_spend(premise->effort, 1);
		if (node->objects != NULL)
		{
			add_member_facts(&facts, node, members, premise->effort);
			if (node->objects->names != NULL && is_name_refused(node->objects->names, members))
				return es_fact_of(es_fact_is(&es_fact_nothing));
		}
		if (node->unevaluated_properties != NULL && is_left_to_unevaluated(node, members, premise->effort))
			add_own_fact(&facts, es_fact_is(node->unevaluated_properties), premise->effort);
	}
	return facts;
}

/* es_inside_names gives the facts about the keys of members. */
EsFacts
es_inside_names(const EsPremise *premise)
{
	EsFacts		facts = es_fact_of(es_fact_types(ES_TYPE_STRING));

	for (int i = 0; i < premise->is.count; i++)
	{
		const EsObjectRules *objects = premise->is.nodes[i]->objects;

		if (objects != NULL && objects->names != NULL)
			facts = es_fact_add(&facts, es_fact_is(objects->names));
	}
	return facts;
}

/* Orders pointers to keys. */
static int
order_key_cells(const ListCell *a, const ListCell *b)
{
	const EsKey *left = lfirst(a);
	const EsKey *right = lfirst(b);

	if (left->len != right->len)
		return left->len < right->len ? -1 : 1;
	return memcmp(left->bytes, right->bytes, left->len);
}

/* Adds the strings among some values, which are keys then. */
static List *
list_value_keys(List *keys, const EsNode *values, uint32 count)
{
	for (uint32 i = 0; i < count; i++)
	{
		EsKey	   *key;

		if (values[i].kind != ES_NODE_STRING)
			continue;
		key = palloc(sizeof(EsKey));
		*key = es_node_key(values[i].value.bytes, values[i].len);
		keys = lappend(keys, key);
	}
	return keys;
}

/* Adds the keys that a schema names. */
static List *
list_node_keys(List *keys, const EsSchemaNode *node)
{
	const EsObjectRules *objects = node->objects;

	if (objects == NULL)
		return keys;
	for (uint32 i = 0; i < objects->count; i++)
		keys = lappend(keys, &objects->properties[i].key);
	if (objects->names != NULL && objects->names->constant != NULL)
		keys = list_value_keys(keys, objects->names->constant, 1);
	if (objects->names != NULL && objects->names->enumeration != NULL)
		keys = list_value_keys(keys, objects->names->enumeration->values, objects->names->enumeration->count);
	return keys;
}

/* Something to be done with a schema, and with all that it may apply to the same value. */
typedef List *(*EsNodeVisit) (List *list, const EsSchemaNode *node);

static List *visit_applied(List *list, const EsSchemaNode *node, EsNodeVisit visit, EsEffort *effort);

/* Visits some schemas. */
static List *
visit_list(List *list, const EsSchemaList *nodes, EsNodeVisit visit, EsEffort *effort)
{
	for (uint32 i = 0; i < nodes->count; i++)
		list = visit_applied(list, nodes->nodes[i], visit, effort);
	return list;
}

/* Visits a schema and all that it may apply to the same value. */
static List *
visit_applied(List *list, const EsSchemaNode *node, EsNodeVisit visit, EsEffort *effort)
{
	const EsApplied *applied = node == NULL ? NULL : node->applied;

	if (node == NULL || !es_effort_allows(effort, 1))
		return list;
	list = visit(list, node);
	for (uint32 i = 0; node->objects != NULL && node->objects->dependencies && i < node->objects->count; i++)
		list = visit_applied(list, node->objects->properties[i].dependent, visit, effort);
	if (applied == NULL)
		return list;
	list = visit_applied(list, applied->ref, visit, effort);
	list = visit_applied(list, applied->dynamic_ref, visit, effort);
	list = visit_applied(list, applied->if_schema, visit, effort);
	list = visit_applied(list, applied->then_schema, visit, effort);
	list = visit_applied(list, applied->else_schema, visit, effort);
	list = visit_list(list, &applied->all_of, visit, effort);
	list = visit_list(list, &applied->any_of, visit, effort);
	return visit_list(list, &applied->one_of, visit, effort);
}

/*
 * Visits a schema; and what it may apply to the same value, if that counts for its
 * "unevaluatedProperties".
 */
static List *
visit_node(List *list, const EsSchemaNode *node, EsNodeVisit visit, EsEffort *effort)
{
	if (node->unevaluated_properties != NULL)
		return visit_applied(list, node, visit, effort);
	return visit(list, node);
}

/* es_inside_keys lists all keys that the premise or a schema to be proved names, each once. */
List *
es_inside_keys(const EsPremise *premise, const EsSchemaNode *goal)
{
	List	   *keys = goal == NULL ? NIL : visit_node(NIL, goal, list_node_keys, premise->effort);
	List	   *result = NIL;
	const EsKey *last = NULL;
	ListCell   *cell;

	for (int i = 0; i < premise->is.count; i++)
		keys = visit_node(keys, premise->is.nodes[i], list_node_keys, premise->effort);
	es_effort_spend(premise->effort, list_length(keys));
	list_sort(keys, order_key_cells);
	foreach(cell, keys)
	{
		const EsKey *key = lfirst(cell);

		if (last == NULL || last->len != key->len || memcmp(last->bytes, key->bytes, key->len) != 0)
			result = lappend(result, (void *) key);
		last = key;
	}
	list_free(keys);
	return result;
}

/* Adds the patterns of keys that a schema has. */
static List *
list_node_patterns(List *patterns, const EsSchemaNode *node)
{
	for (uint32 i = 0; node->objects != NULL && i < node->objects->pattern_count; i++)
		patterns = lappend(patterns, &node->objects->patterns[i]);
	return patterns;
}

/* es_inside_patterns lists the patterns of keys in the premise. */
List *
es_inside_patterns(const EsPremise *premise)
{
	List	   *patterns = NIL;

	for (int i = 0; i < premise->is.count; i++)
		patterns = visit_node(patterns, premise->is.nodes[i], list_node_patterns, premise->effort);
	es_effort_spend(premise->effort, list_length(patterns));
	return patterns;
}

/* ---- elements ---- */

/* es_inside_prefix gives the number of elements that have rules of their own. */
uint32
es_inside_prefix(const EsPremise *premise)
{
	uint32		most = 0;

	for (int i = 0; i < premise->is.count; i++)
	{
		const EsSchemaNode *node = premise->is.nodes[i];
		uint32		evaluated;

		if (node->arrays != NULL)
			most = Max(most, node->arrays->prefix_items.count);
		if (node->unevaluated_items == NULL)
			continue;
		evaluated = find_first_unevaluated(node, premise->effort);
		if (evaluated != ES_NO_LIMIT)
			most = Max(most, evaluated);
	}
	return most;
}

/* es_inside_item gives the facts about an element; ES_NO_LIMIT: one after all prefixes. */
EsFacts
es_inside_item(const EsPremise *premise, uint32 index)
{
	EsFacts		facts = {0};

	for (int i = 0; i < premise->is.count; i++)
	{
		const EsSchemaNode *node = premise->is.nodes[i];
		const EsArrayRules *arrays = node->arrays;
		uint32		evaluated;

		es_effort_spend(premise->effort, 1);
		if (arrays != NULL && index < arrays->prefix_items.count)
			facts = es_fact_add(&facts, es_fact_is(arrays->prefix_items.nodes[index]));
		else if (arrays != NULL && arrays->items != NULL)
			facts = es_fact_add(&facts, es_fact_is(arrays->items));
		if (node->unevaluated_items == NULL)
			continue;
		evaluated = find_first_unevaluated(node, premise->effort);
		if (evaluated != ES_NO_LIMIT && index >= evaluated)
			facts = es_fact_add(&facts, es_fact_is(node->unevaluated_items));
	}
	return facts;
}

/* ---- how many there can be ---- */

/* Gives how many members there can be, if no others are allowed than some that are named. */
static uint32
count_possible_members(const EsPremise *premise)
{
	EsMemberClass others = {0};
	EsFacts		facts = es_inside_member(premise, &others);
	uint32		count = 0;
	ListCell   *cell;

	if (!es_fact_refuse_all(&facts) || es_inside_patterns(premise) != NIL)
		return ES_NO_LIMIT;
	foreach(cell, es_inside_keys(premise, NULL))
	{
		EsMemberClass named = {.key = lfirst(cell)};

		facts = es_inside_member(premise, &named);
		if (!es_fact_refuse_all(&facts))
			count++;
	}
	return count;
}

/* Gives how many elements there can be before one that is refused whatever it is. */
static uint32
count_possible_items(const EsPremise *premise)
{
	uint32		prefix = es_inside_prefix(premise);
	EsFacts		facts;

	for (uint32 i = 0; i < prefix; i++)
	{
		facts = es_inside_item(premise, i);
		if (es_fact_refuse_all(&facts))
			return i;
	}
	facts = es_inside_item(premise, ES_NO_LIMIT);
	return es_fact_refuse_all(&facts) ? prefix : ES_NO_LIMIT;
}

/* es_inside_limit takes into account what is allowed in objects and arrays. */
void
es_inside_limit(EsPremise *premise)
{
	if ((premise->types & ES_TYPE_OBJECT) != 0)
		es_bounds_narrow(&premise->members, 0, count_possible_members(premise));
	if ((premise->types & ES_TYPE_ARRAY) != 0)
		es_bounds_narrow(&premise->items, 0, count_possible_items(premise));
	es_premise_drop_contradictions(premise);
}
