/*
 * validate.c
 *		JSON values held against a compiled schema.
 *
 * The value is read in place.  An object's members and the keys that a schema speaks of
 * are in the same order, that of jsonb, so both lists are gone through together.
 *
 * The same code gives a verdict, which ends with the first rule that is broken, or lists
 * all violations.  A function that returns bool tells whether to go on: for a mere
 * verdict, that nothing was broken; for a list, that its reader wants more.
 *
 * Where unevaluatedItems or unevaluatedProperties ask for it, a set goes along of the
 * value's children that a keyword has spoken about.  What a subschema adds to it counts
 * only if the value is valid against it.
 *
 * Bounds: the stack is checked at each node.  Once nodes that several ways lead to have
 * been held against many times the data's own size, what comes of them is kept (memo.c).
 */
#include "schema/validate.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "json/node.h"
#include "schema/assertion.h"
#include "schema/evaluated.h"
#include "schema/keyword.h"
#include "schema/memo.h"
#include "schema/order.h"
#include "schema/pattern.h"
#include "schema/pointer.h"

/* So much may be looked at, at nodes that several ways lead to, before there is a memo. */
#define FEW_BYTES(data)	(10000 + 16 * (uint64) VARSIZE(data))
#define MOST_BRANCHES	3		/* of anyOf and oneOf, in a message */

/* A validation. */
typedef struct Run
{
	const EsListing *listing;	/* NULL: only a verdict is asked for */
	uint64		bytes;			/* of values at nodes that several ways lead
								 * to */
	uint64		few_bytes;
	EsMemo	   *memo;			/* NULL: none yet */
} Run;

static bool apply_node(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated);
static void list_violations(const EsSchemaNode *node, const EsInstance *instance, uint64 few_bytes, bool brief,
							EsViolationSink sink, void *arg);
static const char *describe_first_violation(const Run *run, const EsSchemaNode *node, const EsInstance *instance);
static const char *describe_branches(const Run *run, const EsSchemaList *branches, const EsInstance *instance);

/* ---- verdicts ---- */

/* Gives a verdict, also where violations are listed. */
static bool
gives_verdict(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsListing *listing = run->listing;
	EsEvaluated own;
	bool		valid;

	run->listing = NULL;
	if (evaluated == NULL || !node->evaluates)
		valid = apply_node(run, node, instance, NULL);
	else
	{
		es_evaluated_begin(&own, evaluated->count);
		valid = apply_node(run, node, instance, &own);
		if (valid)
			es_evaluated_unite(evaluated, &own);
		es_evaluated_end(&own);
	}
	run->listing = listing;
	return valid;
}

/* Makes the instance of a value's child, but for the child's own value and number. */
static inline void
begin_child(EsInstance *child, const EsInstance *parent)
{
	child->place = &child->step;
	child->step.above = parent->place;
	child->container = parent->value.value.bytes;
}

/* Holds a child against the schema for those that no other one is for. */
static inline bool
apply_to_rest(Run *run, const EsSchemaNode *node, const EsInstance *child, EsKeyword keyword)
{
	if (unlikely(node->refuses))
		return es_assertion_breaks(run->listing, node, child, keyword);
	return apply_node(run, node, child, NULL);
}

/* ---- arrays ---- */

/* Applies the subschemas for an array's elements. */
static bool
apply_to_elements(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsArrayRules *rules = node->arrays;
	uint32		found = 0;
	EsPackedReader reader;
	EsInstance	element;

	begin_child(&element, instance);
	element.step.key = NULL;
	es_node_begin_elements(&reader, &instance->value);
	while (es_node_next_element(&reader, &element.value))
	{
		uint32		number = reader.next - 1;
		bool		prefixed = number < rules->prefix_items.count;
		const EsSchemaNode *schema = prefixed ? rules->prefix_items.nodes[number] : rules->items;

		element.number = element.step.number = number;
		if (prefixed && !apply_node(run, schema, &element, NULL))
			return false;
		if (!prefixed && schema && !apply_to_rest(run, schema, &element, ES_KEYWORD_ITEMS))
			return false;
		if (schema && evaluated)
			es_evaluated_add(evaluated, number);

		/*
		 * the rest need not be looked at if nobody asks which or how many
		 * they are
		 */
		if (rules->contains == NULL ||
			(evaluated == NULL && found >= rules->min_contains && rules->max_contains == ES_NO_LIMIT))
			continue;
		if (gives_verdict(run, rules->contains, &element, NULL))
		{
			found++;
			if (evaluated)
				es_evaluated_add(evaluated, number);
		}
	}
	return rules->contains == NULL || es_assertion_contained(run->listing, node, instance, found);
}

/* Applies the rules about arrays. */
static bool
apply_to_array(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsArrayRules *rules = node->arrays;
	uint32		count = JsonContainerSize((const JsonbContainer *) instance->value.value.bytes);
	uint32		first = 0;
	uint32		second = 0;

	if (count < rules->min_items && !es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_MIN_ITEMS))
		return false;
	if (count > rules->max_items && !es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_MAX_ITEMS))
		return false;
	if (rules->unique_items && es_order_find_equal(&instance->value, &first, &second) &&
		!es_assertion_breaks_by_number(run->listing, node, instance, ES_KEYWORD_UNIQUE_ITEMS, first, second))
		return false;
	if (rules->prefix_items.count == 0 && rules->items == NULL && rules->contains == NULL)
		return true;
	return apply_to_elements(run, node, instance, evaluated);
}

/* ---- objects ---- */

/* Takes what the presence of a key asks for. */
static bool
apply_dependencies(Run *run, const EsSchemaNode *node, const EsInstance *instance, const EsSchemaProperty *property,
				   EsEvaluated *evaluated)
{
	EsNode		value;

	for (uint32 i = 0; i < property->needs_count; i++)
	{
		EsNode		name = es_node_view_string(property->needs[i].bytes, property->needs[i].len);
		EsNode		needed_by = es_node_view_string(property->key.bytes, property->key.len);
		EsBreach	breach = {.keyword = ES_KEYWORD_DEPENDENT_REQUIRED,.name = &name,.needed_by = &needed_by};

		CHECK_FOR_INTERRUPTS();
		if (!es_node_find_packed(&instance->value, &property->needs[i], &value) &&
			!(run->listing && es_assertion_list(run->listing, node, instance, &breach)))
			return false;
	}
	return property->dependent == NULL || apply_node(run, property->dependent, instance, evaluated);
}

/* Says what is wrong with the name of a member, in the memory of one violation. */
static const char *
describe_name(const Run *run, const EsSchemaNode *names, const EsInstance *name)
{
	MemoryContext old = MemoryContextSwitchTo(run->listing->context);
	const char *words = psprintf(": %s", describe_first_violation(run, names, name));

	MemoryContextSwitchTo(old);
	return words;
}

/* Applies "propertyNames" to the name of a member. */
static bool
apply_to_name(Run *run, const EsSchemaNode *node, const EsInstance *member)
{
	const EsSchemaNode *names = node->objects->names;
	EsInstance	name = *member;
	EsBreach	breach = {ES_KEYWORD_PROPERTY_NAMES};

	name.value = es_node_view_string(member->step.key, member->step.len);

	/*
	 * no member's own number, and another one for each name: names may begin
	 * at one place
	 */
	name.number = ES_NO_LIMIT - member->number;
	if (gives_verdict(run, names, &name, NULL))
		return true;
	if (run->listing == NULL)
		return false;
	if (!run->listing->brief)
		breach.more = describe_name(run, names, &name);
	return es_assertion_list(run->listing, node, member, &breach);
}

/* Applies the subschemas for a member; *known becomes whether there was one. */
static bool
apply_to_member(Run *run, const EsSchemaNode *node, const EsSchemaProperty *property, const EsInstance *member, bool *known)
{
	const EsObjectRules *rules = node->objects;

	*known = property && property->schema;
	if (*known && !apply_node(run, property->schema, member, NULL))
		return false;
	for (uint32 i = 0; i < rules->pattern_count; i++)
	{
		if (!es_pattern_matches(rules->patterns[i].pattern, member->step.key, member->step.len))
			continue;
		*known = true;
		if (!apply_node(run, rules->patterns[i].schema, member, NULL))
			return false;
	}
	if (!*known && rules->additional)
	{
		*known = true;
		if (!apply_to_rest(run, rules->additional, member, ES_KEYWORD_ADDITIONAL_PROPERTIES))
			return false;
	}
	return rules->names == NULL || apply_to_name(run, node, member);
}

/* Applies the rules about an object's members, each of them. */
static bool
apply_to_members(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsObjectRules *rules = node->objects;
	uint32		required = 0;
	uint32		next = 0;
	EsPackedReader reader;
	EsNode		key;
	EsInstance	member;
	bool		known;
	bool		leap;

	begin_child(&member, instance);
	es_node_begin_members(&reader, &instance->value);
	leap = rules->count > 16 + 4 * (uint64) reader.count;
	while (es_node_next_member(&reader, &key, &member.value))
	{
		const EsSchemaProperty *property = es_assertion_find_property(rules, &key, &next, leap);

		member.step.key = key.value.bytes;
		member.step.len = key.len;
		member.number = reader.next - 1;
		if (property)
			required += property->required;
		if (!apply_to_member(run, node, property, &member, &known))
			return false;
		if (known && evaluated)
			es_evaluated_add(evaluated, member.number);
		if (property && rules->dependencies && !apply_dependencies(run, node, instance, property, evaluated))
			return false;
	}
	return required == rules->required_count || (run->listing && es_assertion_list_missing(run->listing, node, instance));
}

/* Applies the rules about objects. */
static bool
apply_to_object(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsObjectRules *rules = node->objects;
	uint32		count = JsonContainerSize((const JsonbContainer *) instance->value.value.bytes);

	if (count < rules->min_properties && !es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_MIN_PROPERTIES))
		return false;
	if (count > rules->max_properties && !es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_MAX_PROPERTIES))
		return false;
	return apply_to_members(run, node, instance, evaluated);
}

/* ---- subschemas about the same value ---- */

/* Applies "anyOf". */
static bool
apply_any_of(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsSchemaList *branches = &node->applied->any_of;
	EsBreach	breach = {ES_KEYWORD_ANY_OF};
	bool		valid = false;

	for (uint32 i = 0; i < branches->count && (!valid || evaluated); i++)
	{
		const EsSchemaNode *branch = branches->nodes[i];

		if (!valid || branch->evaluates)
			valid |= gives_verdict(run, branch, instance, evaluated);
	}
	if (valid)
		return true;
	if (run->listing == NULL)
		return false;
	breach.more = describe_branches(run, branches, instance);
	return es_assertion_list(run->listing, node, instance, &breach);
}

/* Applies "oneOf". */
static bool
apply_one_of(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsSchemaList *branches = &node->applied->one_of;
	EsBreach	breach = {ES_KEYWORD_ONE_OF};
	uint32		valid = 0;

	for (uint32 i = 0; i < branches->count && valid < 2; i++)
	{
		if (!gives_verdict(run, branches->nodes[i], instance, evaluated))
			continue;
		if (valid++ == 0)
			breach.first = breach.second = i;
		else
			breach.second = i;
	}
	if (valid == 1)
		return true;
	if (run->listing == NULL)
		return false;
	if (valid == 0)
		breach.more = describe_branches(run, branches, instance);
	return es_assertion_list(run->listing, node, instance, &breach);
}

/* Applies "if", and "then" or "else". */
static bool
apply_condition(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsApplied *applied = node->applied;
	const EsSchemaNode *next = applied->then_schema;

	if (next == NULL && applied->else_schema == NULL && evaluated == NULL)
		return true;
	if (!gives_verdict(run, applied->if_schema, instance, evaluated))
		next = applied->else_schema;
	return next == NULL || apply_node(run, next, instance, evaluated);
}

/* Applies the subschemas about the same value. */
static bool
apply_applied(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsApplied *applied = node->applied;

	if (applied->ref && !apply_node(run, applied->ref, instance, evaluated))
		return false;
	if (applied->dynamic_ref && !apply_node(run, applied->dynamic_ref, instance, evaluated))
		return false;
	for (uint32 i = 0; i < applied->all_of.count; i++)
	{
		if (!apply_node(run, applied->all_of.nodes[i], instance, evaluated))
			return false;
	}
	if (applied->any_of.count > 0 && !apply_any_of(run, node, instance, evaluated))
		return false;
	if (applied->one_of.count > 0 && !apply_one_of(run, node, instance, evaluated))
		return false;
	if (applied->not_schema && gives_verdict(run, applied->not_schema, instance, NULL) &&
		!es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_NOT))
		return false;
	return applied->if_schema == NULL || apply_condition(run, node, instance, evaluated);
}

/* ---- what is left over ---- */

/* Applies "unevaluatedProperties". */
static bool
apply_to_other_members(Run *run, const EsSchemaNode *node, const EsInstance *instance, const EsEvaluated *evaluated)
{
	EsPackedReader reader;
	EsNode		key;
	EsInstance	member;

	begin_child(&member, instance);
	es_node_begin_members(&reader, &instance->value);
	while (es_node_next_member(&reader, &key, &member.value))
	{
		member.step.key = key.value.bytes;
		member.step.len = key.len;
		member.number = reader.next - 1;
		if (!es_evaluated_has(evaluated, member.number) &&
			!apply_to_rest(run, node->unevaluated_properties, &member, ES_KEYWORD_UNEVALUATED_PROPERTIES))
			return false;
	}
	return true;
}

/* Applies "unevaluatedItems". */
static bool
apply_to_other_elements(Run *run, const EsSchemaNode *node, const EsInstance *instance, const EsEvaluated *evaluated)
{
	EsPackedReader reader;
	EsInstance	element;

	begin_child(&element, instance);
	element.step.key = NULL;
	es_node_begin_elements(&reader, &instance->value);
	while (es_node_next_element(&reader, &element.value))
	{
		element.number = element.step.number = reader.next - 1;
		if (!es_evaluated_has(evaluated, element.number) &&
			!apply_to_rest(run, node->unevaluated_items, &element, ES_KEYWORD_UNEVALUATED_ITEMS))
			return false;
	}
	return true;
}

/* ---- a node ---- */

/* Applies a node's own rules. */
static bool
apply_own_rules(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	const EsNode *value = &instance->value;

	if (node->types != ES_TYPE_ANY && !es_assertion_is_of_type(value, node->types) &&
		!es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_TYPE))
		return false;
	if (node->enumeration && !es_order_has(node->enumeration, value) &&
		!es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_ENUM))
		return false;
	if (node->constant && !es_order_is_equal(node->constant, value) &&
		!es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_CONST))
		return false;
	switch (value->kind)
	{
		case ES_NODE_NUMBER:
			return node->numbers == NULL || es_assertion_number(run->listing, node, instance);
		case ES_NODE_STRING:
			return node->strings == NULL || es_assertion_string(run->listing, node, instance);
		case ES_NODE_PACKED:
			if (es_node_is_packed_object(value))
				return node->objects == NULL || apply_to_object(run, node, instance, evaluated);
			return node->arrays == NULL || apply_to_array(run, node, instance, evaluated);
		default:
			return true;
	}
}

/* Applies all rules of a node that asks for what nothing else has spoken about. */
static bool
apply_tracked(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	bool		object = es_node_is_packed_object(&instance->value);
	EsEvaluated own;
	bool		goes_on;

	es_evaluated_begin(&own, JsonContainerSize((const JsonbContainer *) instance->value.value.bytes));
	goes_on = apply_own_rules(run, node, instance, &own) &&
		(node->applied == NULL || apply_applied(run, node, instance, &own));
	if (goes_on && object && node->unevaluated_properties)
	{
		goes_on = apply_to_other_members(run, node, instance, &own);
		own.all = true;
	}
	else if (goes_on && !object && node->unevaluated_items)
	{
		goes_on = apply_to_other_elements(run, node, instance, &own);
		own.all = true;
	}
	if (goes_on && evaluated)
		es_evaluated_unite(evaluated, &own);
	es_evaluated_end(&own);
	return goes_on;
}

/* Applies all rules of a node. */
static bool
apply_rules(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	if (unlikely((node->unevaluated_items || node->unevaluated_properties) && instance->value.kind == ES_NODE_PACKED))
		return apply_tracked(run, node, instance, evaluated);
	return apply_own_rules(run, node, instance, evaluated) &&
		(node->applied == NULL || apply_applied(run, node, instance, evaluated));
}

/* Applies a node, unless it is known what comes of it; then violations are listed already. */
static bool
apply_remembered(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	EsMemoKey	key = {instance->container, instance->number, node->number, run->listing != NULL, evaluated != NULL};
	EsMemoEntry made = {0};
	const EsMemoEntry *known;

	if (run->memo == NULL)
		run->memo = es_memo_make();
	known = es_memo_find(run->memo, &key);
	if (known)
	{
		if (evaluated && known->accepts)
			es_evaluated_unite(evaluated, &known->evaluated);
		return known->accepts;
	}
	if (evaluated)
		es_evaluated_begin(&made.evaluated, evaluated->count);
	made.accepts = apply_rules(run, node, instance, evaluated ? &made.evaluated : NULL);
	es_memo_put(run->memo, &key, &made);
	if (evaluated)
	{
		if (made.accepts)
			es_evaluated_unite(evaluated, &made.evaluated);
		es_evaluated_end(&made.evaluated);
	}
	return made.accepts;
}

/*
 * Applies a node to a value.  What it evaluates is added to "evaluated", if that is not
 * NULL; if it is broken and this gives a verdict, what is added means nothing.
 */
static bool
apply_node(Run *run, const EsSchemaNode *node, const EsInstance *instance, EsEvaluated *evaluated)
{
	CHECK_FOR_INTERRUPTS();
	es_order_check_depth();
	if (unlikely(node->refuses))
		return es_assertion_breaks(run->listing, node, instance, ES_KEYWORD_UNKNOWN);
	if (!node->evaluates || instance->value.kind != ES_NODE_PACKED)
		evaluated = NULL;
	if (unlikely(node->shared) && (run->listing || (run->bytes += 1 + instance->value.len) > run->few_bytes))
		return apply_remembered(run, node, instance, evaluated);
	return apply_rules(run, node, instance, evaluated);
}

/* ---- messages that look further ---- */

/* The first violation, as it goes into a message. */
typedef struct FirstWords
{
	StringInfoData out;
	const char *pointer;		/* that needs not be told */
} FirstWords;

/* Takes the first violation into a message. */
static bool
take_first_words(const EsViolation *violation, void *arg)
{
	FirstWords *words = arg;

	if (strcmp(violation->pointer, words->pointer) != 0)
		appendStringInfo(&words->out, "at \"%s\" ", es_names_show(violation->pointer));
	appendStringInfoString(&words->out, violation->message);
	return false;
}

/* Says what is wrong first as a value is held against a node. */
static const char *
describe_first_violation(const Run *run, const EsSchemaNode *node, const EsInstance *instance)
{
	FirstWords	words = {.pointer = es_pointer_text(instance->place)};

	initStringInfo(&words.out);
	list_violations(node, instance, run->few_bytes, true, take_first_words, &words);
	return words.out.data;
}

/* Says what is wrong against each of some schemas, in the memory of one violation. */
static const char *
describe_branches(const Run *run, const EsSchemaList *branches, const EsInstance *instance)
{
	MemoryContext old;
	StringInfoData out;

	if (run->listing->brief)
		return NULL;
	old = MemoryContextSwitchTo(run->listing->context);
	initStringInfo(&out);
	for (uint32 i = 0; i < branches->count && i < MOST_BRANCHES; i++)
		appendStringInfo(&out, "%s%u: %s", i == 0 ? " (" : "; ", i,
						 describe_first_violation(run, branches->nodes[i], instance));
	appendStringInfoString(&out, branches->count > MOST_BRANCHES ? "; ...)" : ")");
	MemoryContextSwitchTo(old);
	return out.data;
}

/* ---- the calls ---- */

/* Lists the violations of a value by a node. */
static void
list_violations(const EsSchemaNode *node, const EsInstance *instance, uint64 few_bytes, bool brief,
				EsViolationSink sink, void *arg)
{
	EsListing	listing = {sink, arg,.brief = brief};
	Run			run = {.listing = &listing,.few_bytes = few_bytes};

	listing.context = AllocSetContextCreate(CurrentMemoryContext, "eventstore schema violation", ALLOCSET_SMALL_SIZES);
	(void) apply_node(&run, node, instance, NULL);
	if (run.memo)
		es_memo_end(run.memo);
	MemoryContextDelete(listing.context);
}

bool
es_schema_accepts(const EsSchema *schema, const Jsonb *data)
{
	Run			run = {.few_bytes = FEW_BYTES(data)};
	EsInstance	root = {es_node_view(data)};
	bool		valid = apply_node(&run, schema->root, &root, NULL);

	if (run.memo)
		es_memo_end(run.memo);
	return valid;
}

void
es_schema_list_violations(const EsSchema *schema, const Jsonb *data, EsViolationSink sink, void *arg)
{
	EsInstance	root = {es_node_view(data)};

	list_violations(schema->root, &root, FEW_BYTES(data), false, sink, arg);
}

/* What is kept of the first violation. */
typedef struct FirstViolation
{
	EsViolation *violation;
	bool		found;
} FirstViolation;

/* Keeps the first violation, in the current memory context. */
static bool
keep_first_violation(const EsViolation *violation, void *arg)
{
	FirstViolation *first = arg;

	first->violation->pointer = pstrdup(violation->pointer);
	first->violation->rule = violation->rule;
	first->violation->message = pstrdup(violation->message);
	first->found = true;
	return false;
}

bool
es_schema_find_violation(const EsSchema *schema, const Jsonb *data, EsViolation *violation)
{
	FirstViolation first = {violation};

	es_schema_list_violations(schema, data, keep_first_violation, &first);
	return first.found;
}
