/*
 * variant.c
 *		The nodes that a schema's subschemas become.
 *
 * Nodes are made of what the root reaches, one after the other from a queue, so that a
 * long chain of references needs no stack.
 *
 * A $dynamicRef leads to different subschemas, depending on the resources that were
 * entered on the way to it: each of these may have a $dynamicAnchor of the name, and the
 * outermost one counts.  That is settled here: a subschema becomes as many nodes as there
 * are dynamic scopes that it is reached in, usually one, and each node leads to fixed
 * others.  A scope has, for each name that some $dynamicRef asks for, what it stands
 * for so far.  Both the scopes and the memory that their nodes take have a bound, since
 * there may be as many nodes as there are subschemas times scopes.
 */
#include "schema/variant.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define MOST_SCOPES		100

/* Bytes of all nodes of a schema with scopes; one without takes less for its size. */
#define MOST_MEMORY(size)	(64 * 1024 * 1024 + 100 * (Size) (size))

/* A dynamic scope. */
struct EsDynamicScope
{
	EsDynamicScope *next;
	EsSubschema **targets;		/* by number of the name; NULL: nothing yet */
};

/* ---- dynamic scopes ---- */

/* Numbers the names that a $dynamicRef asks for, and the anchors that have them. */
static void
number_dynamic_names(EsCompilation *c)
{
	for (EsSubschema *asking = c->survey->first; asking; asking = asking->next)
	{
		CHECK_FOR_INTERRUPTS();
		if (asking->dynamic_name)
			asking->dynamic_number = es_survey_number_name(c->survey, asking->dynamic_name, true);
	}
	for (EsResource *resource = c->survey->resources; resource; resource = resource->next)
	{
		for (EsDynamicAnchor *anchor = resource->anchors; anchor; anchor = anchor->next)
		{
			CHECK_FOR_INTERRUPTS();
			anchor->number = es_survey_number_name(c->survey, anchor->name, false);
		}
	}
}

/*
 * Gives the scope with the same targets as one that was made, which is added if there is
 * none, else freed.
 */
static const EsDynamicScope *
find_or_add_scope(EsCompilation *c, EsDynamicScope *made)
{
	for (EsDynamicScope *scope = c->scopes; scope; scope = scope->next)
	{
		if (memcmp(scope->targets, made->targets, sizeof(EsSubschema *) * c->survey->dynamic_count) != 0)
			continue;
		pfree(made->targets);
		pfree(made);
		return scope;
	}
	if (++c->scope_count > MOST_SCOPES)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid JSON schema: its dynamic anchors can be combined in more than %d ways", MOST_SCOPES));
	made->next = c->scopes;
	c->scopes = made;
	return made;
}

/* Gives the scope that one becomes as a resource is entered. */
static const EsDynamicScope *
enter_resource(EsCompilation *c, const EsDynamicScope *scope, const EsResource *resource)
{
	EsDynamicScope *made = NULL;

	for (EsDynamicAnchor *anchor = resource->anchors; anchor; anchor = anchor->next)
	{
		if (anchor->number < 0 || scope->targets[anchor->number])
			continue;
		if (made == NULL)
		{
			made = palloc0(sizeof(EsDynamicScope));
			made->targets = palloc(sizeof(EsSubschema *) * c->survey->dynamic_count);
			memcpy(made->targets, scope->targets, sizeof(EsSubschema *) * c->survey->dynamic_count);
		}
		made->targets[anchor->number] = anchor->target;
	}
	return made ? find_or_add_scope(c, made) : scope;
}

/* ---- nodes ---- */

/* Makes a node, with a task to fill it. */
static EsSchemaNode *
add_node(EsCompilation *c, EsSubschema *subschema, const EsDynamicScope *scope)
{
	EsSchemaNode *node = MemoryContextAllocZero(c->survey->keep, sizeof(EsSchemaNode));

	if (c->task_count == c->task_space)
	{
		c->task_space *= 2;
		c->tasks = repalloc_huge(c->tasks, (Size) c->task_space * sizeof(EsVariantTask));
	}
	node->types = ES_TYPE_ANY;
	node->place = subschema->place;
	node->number = c->task_count;
	c->tasks[c->task_count].subschema = subschema;
	c->tasks[c->task_count].scope = scope;
	c->tasks[c->task_count].node = node;
	c->task_count++;
	return node;
}

/* es_variant_reach gives the node of a subschema that the node being filled leads to. */
EsSchemaNode *
es_variant_reach(EsCompilation *c, EsSubschema *subschema)
{
	const EsDynamicScope *scope = c->task.scope;
	EsVariant  *variant;

	CHECK_FOR_INTERRUPTS();
	if (c->task.subschema == NULL || c->task.subschema->resource != subschema->resource)
		scope = enter_resource(c, scope, subschema->resource);

	/*
	 * what only refers to something becomes no node, unless that goes on for
	 * ever
	 */
	for (int i = 0; subschema->mere_ref && i < ES_MOST_APPLIED; i++)
	{
		subschema = subschema->ref;
		scope = enter_resource(c, scope, subschema->resource);
	}
	for (variant = subschema->variants; variant; variant = variant->next)
	{
		if (variant->scope == scope)
			return variant->node;
	}
	variant = palloc(sizeof(EsVariant));
	variant->scope = scope;
	variant->node = add_node(c, subschema, scope);
	variant->next = subschema->variants;
	subschema->variants = variant;
	return variant->node;
}

/* es_variant_child gives the node of a subschema within the one whose node is being filled. */
EsSchemaNode *
es_variant_child(EsCompilation *c, const EsNode *view, EsKeyword keyword, const EsNode *key, uint32 number)
{
	EsSubschema *boolean;
	const char *name;
	EsNode		step;

	if (view->kind == ES_NODE_PACKED)
		return es_variant_reach(c, es_survey_find(c->survey, view));
	boolean = palloc0(sizeof(EsSubschema));
	name = es_keyword_name(keyword);
	step = es_node_view_string(name, strlen(name));
	boolean->view = *view;
	boolean->resource = c->task.subschema->resource;
	boolean->place = es_survey_step(c->survey, c->task.subschema->place, &step, 0);
	boolean->dynamic_number = -1;
	if (key || number != ES_NO_LIMIT)
		boolean->place = es_survey_step(c->survey, boolean->place, key, number);
	return es_variant_reach(c, boolean);
}

/* es_variant_dynamic gives the node that a subschema's $dynamicRef leads to; or NULL. */
EsSchemaNode *
es_variant_dynamic(EsCompilation *c, const EsSubschema *subschema)
{
	EsSubschema *target = subschema->dynamic_ref;

	if (subschema->dynamic_number >= 0 && c->task.scope->targets[subschema->dynamic_number])
		target = c->task.scope->targets[subschema->dynamic_number];
	return target ? es_variant_reach(c, target) : NULL;
}

/* es_variant_begin begins with the root of a schema, whose references are resolved. */
void
es_variant_begin(EsCompilation *c, EsSurvey *survey)
{
	EsDynamicScope *bare = palloc0(sizeof(EsDynamicScope));

	memset(c, 0, sizeof(*c));
	c->survey = survey;
	number_dynamic_names(c);
	bare->targets = palloc0(sizeof(EsSubschema *) * Max(survey->dynamic_count, 1));
	c->scopes = bare;
	c->task_space = survey->count + 8;
	c->tasks = palloc_extended(sizeof(EsVariantTask) * c->task_space, MCXT_ALLOC_HUGE);
	c->task.scope = bare;
	c->most = MemoryContextMemAllocated(survey->keep, false) +
		MOST_MEMORY(survey->root->view.kind == ES_NODE_PACKED ? survey->root->view.len : 0);
	(void) es_variant_reach(c, survey->root);
}

/* es_variant_next takes the next node to be filled, as c->task; false if there is none. */
bool
es_variant_next(EsCompilation *c)
{
	CHECK_FOR_INTERRUPTS();
	if (c->done == c->task_count)
		return false;
	if (c->scope_count > 0 && MemoryContextMemAllocated(c->survey->keep, false) > c->most)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid JSON schema: its dynamic anchors are combined too often"),
				errdetail("A subschema counts anew with each combination that it is reached by."));
	c->task = c->tasks[c->done++];
	return true;
}
