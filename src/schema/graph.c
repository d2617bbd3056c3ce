/*
 * graph.c
 *		The graph of a compiled schema: walked through, checked, marked.
 *
 * The last of the steps to a compiled schema.  A circle of references is fine as long as
 * each way around it takes a step into the value, to a member or an element.  One that
 * does not would never end, for some value at least, so it is refused; and since ways
 * without such a step have a bounded length, so has the stack that a validation needs.
 */
#include "schema/graph.h"

#include "miscadmin.h"

#include "schema/pointer.h"

/* Visits the nodes of a list. */
static void
visit_node_list(const EsSchemaList *list, bool applied, EsGraphVisitor visitor, void *arg)
{
	for (uint32 i = 0; i < list->count; i++)
		visitor(list->nodes[i], applied, arg);
}

/* Visits a node, if there is one. */
static void
visit_if_any(EsSchemaNode *node, bool applied, EsGraphVisitor visitor, void *arg)
{
	if (node)
		visitor(node, applied, arg);
}

/* Visits what rules about objects lead to. */
static void
visit_object_rules(const EsObjectRules *rules, EsGraphVisitor visitor, void *arg)
{
	for (uint32 i = 0; i < rules->count; i++)
	{
		visit_if_any(rules->properties[i].schema, false, visitor, arg);
		visit_if_any(rules->properties[i].dependent, true, visitor, arg);
	}
	for (uint32 i = 0; i < rules->pattern_count; i++)
		visitor(rules->patterns[i].schema, false, arg);
	visit_if_any(rules->additional, false, visitor, arg);
	visit_if_any(rules->names, false, visitor, arg);
}

void
es_graph_visit(const EsSchemaNode *node, EsGraphVisitor visitor, void *arg)
{
	const EsApplied *applied = node->applied;

	if (node->arrays)
	{
		visit_node_list(&node->arrays->prefix_items, false, visitor, arg);
		visit_if_any(node->arrays->items, false, visitor, arg);
		visit_if_any(node->arrays->contains, false, visitor, arg);
	}
	if (node->objects)
		visit_object_rules(node->objects, visitor, arg);
	if (applied)
	{
		visit_if_any(applied->ref, true, visitor, arg);
		visit_if_any(applied->dynamic_ref, true, visitor, arg);
		visit_node_list(&applied->all_of, true, visitor, arg);
		visit_node_list(&applied->any_of, true, visitor, arg);
		visit_node_list(&applied->one_of, true, visitor, arg);
		visit_if_any(applied->not_schema, true, visitor, arg);
		visit_if_any(applied->if_schema, true, visitor, arg);
		visit_if_any(applied->then_schema, true, visitor, arg);
		visit_if_any(applied->else_schema, true, visitor, arg);
	}
	visit_if_any(node->unevaluated_items, false, visitor, arg);
	visit_if_any(node->unevaluated_properties, false, visitor, arg);
}

/* What is known of a node on the way. */
typedef struct NodeState
{
	uint32		height;			/* of the longest way from it at one value;
								 * from 1, 0: not known */
	bool		active;			/* on the way from the node that was begun at */
	uint32		ways;			/* that lead to it directly */
} NodeState;

typedef struct GraphWalk
{
	NodeState  *states;			/* by number of the node */
	EsSchemaNode *node;			/* the one that is looked at */
	uint32		depth;
} GraphWalk;

/* Raises 22023 for a way that is too long, or has no end. */
ES_NORETURN static void
refuse_way(const EsSchemaNode *node, bool circle)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			circle ? errmsg("invalid JSON schema: it refers to itself without a step into the value") :
			errmsg("invalid JSON schema: a chain of references is longer than %d", ES_MOST_APPLIED),
			errdetail("The error is at \"%s\" of the schema.", es_pointer_text(node->place)));
}

/* Tells whether a node itself may evaluate members or elements. */
static bool
evaluates_children(const EsSchemaNode *node)
{
	const EsArrayRules *arrays = node->arrays;
	const EsObjectRules *objects = node->objects;
	bool		named = false;

	for (uint32 i = 0; objects && i < objects->count && !named; i++)
		named = objects->properties[i].schema != NULL;
	return node->unevaluated_items || node->unevaluated_properties || named ||
		(arrays && (arrays->prefix_items.count > 0 || arrays->items || arrays->contains)) ||
		(objects && (objects->pattern_count > 0 || objects->additional));
}

static void measure_node(GraphWalk *walk, EsSchemaNode *node);

/* Takes a node that the one being measured leads to. */
static void
measure_next_node(EsSchemaNode *next, bool applied, void *arg)
{
	GraphWalk  *walk = arg;
	EsSchemaNode *node = walk->node;
	NodeState  *state = &walk->states[next->number];

	if (!applied)
		return;
	if (state->active)
		refuse_way(node, true);
	if (state->height == 0)
	{
		measure_node(walk, next);
		walk->node = node;
	}
	walk->states[node->number].height = Max(walk->states[node->number].height, state->height + 1);
	if (walk->states[node->number].height > ES_MOST_APPLIED)
		refuse_way(node, false);
	if (node->applied == NULL || next != node->applied->not_schema)
		node->evaluates |= next->evaluates;
}

/* Measures the ways from a node. */
static void
measure_node(GraphWalk *walk, EsSchemaNode *node)
{
	NodeState  *state = &walk->states[node->number];

	CHECK_FOR_INTERRUPTS();
	if (++walk->depth > ES_MOST_APPLIED || stack_is_too_deep())
		refuse_way(node, false);
	state->active = true;
	state->height = 1;
	node->evaluates = evaluates_children(node);
	walk->node = node;
	es_graph_visit(node, measure_next_node, walk);
	state->active = false;
	walk->depth--;
}

/* Counts a way to a node. */
static void
count_way(EsSchemaNode *node, bool applied, void *arg)
{
	NodeState  *states = arg;

	states[node->number].ways++;
}

/* Tells whether a node leads to others. */
static bool
leads_on(const EsSchemaNode *node)
{
	return node->applied || node->arrays || node->objects || node->unevaluated_items || node->unevaluated_properties;
}

void
es_graph_finish(EsSchemaNode **nodes, uint32 count)
{
	GraphWalk	walk = {0};

	walk.states = palloc_extended(sizeof(NodeState) * count, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint32 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (walk.states[i].height == 0)
			measure_node(&walk, nodes[i]);
		es_graph_visit(nodes[i], count_way, walk.states);
	}
	for (uint32 i = 0; i < count; i++)
		nodes[i]->shared = walk.states[i].ways > 1 && leads_on(nodes[i]);
	pfree(walk.states);
}
