/*
 * ops.c
 *		Declarative operations on a state, run without SQL.
 *
 * All values of an operation are taken before it changes anything.  On the way to
 * a target members are made as objects where there is nothing; digits are the
 * number of an element where there is an array.  What is neither object nor array
 * cannot be gone through.  What is wrong with a state or an event is VE009 when it
 * is met.
 */
#include "json/ops.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/error.h"
#include "base/names.h"
#include "base/utf8text.h"
#include "json/decimal.h"
#include "json/pack.h"
#include "json/scope.h"
#include "json/tree.h"
#include "json/value.h"

#define FEW_VALUES	16			/* of an operation, for which no memory is
								 * asked */

/* What is at hand while an operation's targets are changed. */
typedef struct Change
{
	const EsOp *op;
	const EsOpTarget *target;
	EsNode	   *state;
	MemoryContext keep;			/* what the state gains goes there */
} Change;

/*
 * Goes one step on from a node.  Where there is nothing, it makes it if told to
 * and gives NULL otherwise.
 */
static EsNode *
take_path_step(const Change *change, EsNode *node, const EsStep *step, bool make)
{
	if (node->kind == ES_NODE_ABSENT ? make : es_node_is_packed_object(node))
		es_tree_open_object(node);
	else if (es_node_is_array(node))
		es_tree_open_array(node);
	switch (node->kind)
	{
		case ES_NODE_ABSENT:
			return NULL;
		case ES_NODE_OBJECT:
			return make ? es_tree_put(node, &step->key) : es_tree_find(node, &step->key);
		case ES_NODE_ARRAY:
			if (step->number < 0)
				ereport(ERROR,
						errcode(ES_ERRCODE_HANDLER_FAILED),
						errmsg("cannot apply operation \"%s\" to \"%s\" because \"%s\" is not the number of an element",
							   change->op->name, es_names_show(change->target->path),
							   es_names_show_bytes(step->key.bytes, step->key.len)));
			if (step->number < es_tree_length(node))
				return es_tree_element(node, step->number);
			if (make)
				ereport(ERROR,
						errcode(ES_ERRCODE_HANDLER_FAILED),
						errmsg("cannot apply operation \"%s\" to \"%s\" because the array has no element %s",
							   change->op->name, es_names_show(change->target->path),
							   es_names_show_bytes(step->key.bytes, step->key.len)));
			return NULL;
		default:
			ereport(ERROR,
					errcode(ES_ERRCODE_HANDLER_FAILED),
					errmsg("cannot apply operation \"%s\" to \"%s\" because a scalar has no member \"%s\"",
						   change->op->name, es_names_show(change->target->path),
						   es_names_show_bytes(step->key.bytes, step->key.len)));
	}
}

/* Goes along the first steps of a target's path. */
static EsNode *
reach_node(const Change *change, int nsteps, bool make)
{
	EsNode	   *node = change->state;

	for (int i = 0; i < nsteps && node != NULL; i++)
		node = take_path_step(change, node, &change->target->steps[i], make);
	return node;
}

/* Gives the target of a change, which is made if there is none: mostly a member of the state. */
static inline EsNode *
reach_target(const Change *change)
{
	const EsOpTarget *target = change->target;

	return target->nsteps == 1 && change->state->kind == ES_NODE_OBJECT ?
		es_tree_put(change->state, &target->steps[0].key) : reach_node(change, target->nsteps, true);
}

/* Adds a value to what is there. */
static void
increase_number(const Change *change, EsNode *node, const EsNode *value)
{
	EsDecimalSum few;
	Numeric		sum;
	EsNode		view;
	int			len;

	if (value->kind != ES_NODE_NUMBER)
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("cannot apply operation \"%s\" to \"%s\" because the value to add is not a number",
					   change->op->name, es_names_show(change->target->path)));
	if (node->kind == ES_NODE_ABSENT)
	{
		es_tree_set(node, value);
		return;
	}
	if (node->kind != ES_NODE_NUMBER)
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("cannot apply operation \"%s\" to \"%s\" because the value there is not a number",
					   change->op->name, es_names_show(change->target->path)));
	len = es_decimal_add(&few, node->value.bytes, value->value.bytes);
	if (len > 0)
	{
		view = es_node_view_number((Numeric) few.words);
		es_tree_set(node, &view);
		return;
	}
	sum = DatumGetNumeric(DirectFunctionCall2(numeric_add, PointerGetDatum(node->value.bytes),
											  PointerGetDatum(value->value.bytes)));
	view = es_node_view_number(sum);
	es_tree_set(node, &view);
	pfree(sum);
}

/* Raises VE009 unless what is there, if anything, is an array. */
static void
require_array(const Change *change, const EsNode *node)
{
	if (node->kind != ES_NODE_ABSENT && !es_node_is_array(node))
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("cannot apply operation \"%s\" to \"%s\" because the value there is not an array",
					   change->op->name, es_names_show(change->target->path)));
}

/* Puts a value at the end of what is there. */
static void
push_element(const Change *change, EsNode *node, const EsNode *value)
{
	require_array(change, node);
	es_tree_open_array(node);
	es_tree_set(es_tree_push(node), value);
}

/*
 * Orders two strings by the bytes of their UTF-8 form, so that a state does not depend on the
 * database's encoding; characters that Unicode does not have are behind all others.
 */
static int
compare_strings(const EsNode *a, const EsNode *b)
{
	StringInfoData x;
	StringInfoData y;
	int			order = es_names_order(a->value.bytes, a->len, b->value.bytes, b->len);

	if (order == 0 ||
		(!es_utf8text_is_needed(a->value.bytes, a->len) && !es_utf8text_is_needed(b->value.bytes, b->len)))
		return order;
	initStringInfo(&x);
	initStringInfo(&y);
	es_utf8text_append(&x, a->value.bytes, a->len);
	es_utf8text_append(&y, b->value.bytes, b->len);
	order = es_names_order(x.data, x.len, y.data, y.len);
	pfree(x.data);
	pfree(y.data);
	return order;
}

/* Orders two values of max or min. */
static int
compare_extremes(const Change *change, const EsNode *a, const EsNode *b)
{
	if (a->kind == ES_NODE_NUMBER && b->kind == ES_NODE_NUMBER)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, PointerGetDatum(a->value.bytes),
												 PointerGetDatum(b->value.bytes)));
	if (a->kind == ES_NODE_STRING && b->kind == ES_NODE_STRING)
		return compare_strings(a, b);
	ereport(ERROR,
			errcode(ES_ERRCODE_HANDLER_FAILED),
			errmsg("cannot apply operation \"%s\" to \"%s\" because only two numbers or two strings can be compared",
				   change->op->name, es_names_show(change->target->path)));
}

/* Puts a value in the place of what is there, if it is further in the operation's direction. */
static void
take_extreme(const Change *change, EsNode *node, const EsNode *value)
{
	int			order;

	if (node->kind == ES_NODE_ABSENT)
	{
		/* compared with itself, to refuse what cannot be compared */
		(void) compare_extremes(change, value, value);
		es_tree_set(node, value);
		return;
	}
	order = compare_extremes(change, value, node);
	if (change->op->kind == ES_OP_MAX ? order > 0 : order < 0)
		es_tree_set(node, value);
}

/* Changes one target by its value. */
static void
change_target(const Change *change, const EsNode *value)
{
	MemoryContext old = MemoryContextSwitchTo(change->keep);
	EsNode	   *node = reach_target(change);

	switch (change->op->kind)
	{
		case ES_OP_SET:
			es_tree_set(node, value);
			break;
		case ES_OP_INC:
			increase_number(change, node, value);
			break;
		case ES_OP_APPEND:
			push_element(change, node, value);
			break;
		case ES_OP_MERGE:
			es_tree_merge(node, value);
			break;
		default:
			take_extreme(change, node, value);
			break;
	}
	MemoryContextSwitchTo(old);
}

/* Drops a target. */
static void
unset_target(const Change *change)
{
	const EsStep *last = &change->target->steps[change->target->nsteps - 1];
	MemoryContext old = MemoryContextSwitchTo(change->keep);
	EsNode	   *node = reach_node(change, change->target->nsteps - 1, false);

	/* a step more opens what there is, or refuses to */
	if (node != NULL && take_path_step(change, node, last, false) != NULL)
	{
		if (node->kind == ES_NODE_OBJECT)
			es_tree_remove(node, &last->key);
		else
			es_tree_remove_element(node, last->number);
	}
	MemoryContextSwitchTo(old);
}

/* What remove looks for. */
typedef struct Search
{
	const EsOpTarget *target;
	EsNode	   *wanted;			/* one a pattern, none of them opened */
} Search;

/* Tells whether an element has all members that are looked for. */
static bool
element_matches(EsNode *element, void *arg)
{
	const Search *search = arg;

	CHECK_FOR_INTERRUPTS();
	if (!es_node_is_object(element))
		return false;
	for (int i = 0; i < search->target->npatterns; i++)
	{
		EsNode		view;
		EsNode	   *member = es_tree_member(element, &search->target->patterns[i].key, &view);

		if (member == NULL || !es_pack_equal(member, &search->wanted[i]))
			return false;
	}
	return true;
}

/* Drops the elements of a target that have all the members wanted. */
static void
remove_matching(const Change *change, EsNode *wanted)
{
	Search		search = {change->target, wanted};
	MemoryContext old = MemoryContextSwitchTo(change->keep);
	EsNode	   *node = reach_node(change, change->target->nsteps, false);

	if (node != NULL && node->kind != ES_NODE_ABSENT)
	{
		require_array(change, node);
		es_tree_open_array(node);
		MemoryContextSwitchTo(old);
		es_tree_drop_elements(node, element_matches, &search);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Evaluates what a target's elements to be dropped have; NULL if something has no
 * value: nothing is dropped.
 */
static EsNode *
evaluate_patterns(const EsOpTarget *target, EsScope *scope)
{
	EsNode	   *wanted = palloc(Max(target->npatterns, 1) * sizeof(EsNode));
	bool		all = true;

	/* all of them, so that whether one fails does not depend on the others */
	for (int i = 0; i < target->npatterns; i++)
		all &= es_value_evaluate(target->patterns[i].value, scope, &wanted[i]);
	return all ? wanted : NULL;
}

/* Does a remove: first all patterns, then the changes. */
static void
apply_remove(Change *change, EsScope *scope)
{
	const EsOp *op = change->op;
	EsNode	  **wanted = palloc(Max(op->ntargets, 1) * sizeof(EsNode *));

	for (int i = 0; i < op->ntargets; i++)
	{
		CHECK_FOR_INTERRUPTS();
		wanted[i] = evaluate_patterns(&op->targets[i], scope);
	}
	for (int i = 0; i < op->ntargets; i++)
		if (wanted[i] != NULL)
		{
			change->target = &op->targets[i];
			remove_matching(change, wanted[i]);
		}
}

/* Does an operation with values: first all values, then the changes. */
static void
apply_op_values(Change *change, EsScope *scope, EsNode *values)
{
	const EsOp *op = change->op;

	for (int i = 0; i < op->ntargets; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!es_value_evaluate(op->targets[i].value, scope, &values[i]))
			values[i].kind = ES_NODE_ABSENT;
	}
	for (int i = 0; i < op->ntargets; i++)
		if (values[i].kind != ES_NODE_ABSENT)
		{
			change->target = &op->targets[i];
			change_target(change, &values[i]);
		}
}

/* Does an operation on the state as a whole, with the event's data. */
static void
apply_event_data(const Change *change, EsScope *scope)
{
	const EsNode *data = es_scope_member(scope, ES_ROOT_DATA);
	MemoryContext old = MemoryContextSwitchTo(change->keep);

	if (change->op->kind == ES_OP_MERGE_DATA)
		es_tree_merge(change->state, data);
	else if (change->op->kind == ES_OP_MERGE_PATCH)
		es_tree_merge_patch(change->state, data);
	else
		es_tree_set(change->state, data);
	MemoryContextSwitchTo(old);
}

/*
 * Does operations in order.  By itself: in a function with a PG_TRY nothing is kept in
 * registers.
 */
static pg_noinline void
apply_ops_in_order(const EsOps *ops, EsNode *state, const EsEvent *event, MemoryContext keep)
{
	EsNode		few[FEW_VALUES];
	EsNode	   *values = ops->most_values <= FEW_VALUES ? few : palloc(ops->most_values * sizeof(EsNode));
	EsScope		scope;

	es_scope_begin(&scope, event, state);
	scope.wanted = &ops->wanted;
	for (int i = 0; i < ops->count; i++)
	{
		const EsOp *op = &ops->ops[i];
		Change		change = {.op = op,.state = state,.keep = keep};

		CHECK_FOR_INTERRUPTS();
		switch (op->kind)
		{
			case ES_OP_IGNORE:
				break;
			case ES_OP_MERGE_DATA:
			case ES_OP_MERGE_PATCH:
			case ES_OP_REPLACE:
				apply_event_data(&change, &scope);
				break;
			case ES_OP_UNSET:
				for (int j = 0; j < op->ntargets; j++)
				{
					CHECK_FOR_INTERRUPTS();
					change.target = &op->targets[j];
					unset_target(&change);
				}
				break;
			case ES_OP_REMOVE:
				apply_remove(&change, &scope);
				break;
			default:
				apply_op_values(&change, &scope, values);
				break;
		}
	}
}

/*
 * es_ops_apply applies operations to a state; see ops.h.  What fails comes out as
 * VE009.
 */
void
es_ops_apply(const EsOps *ops, EsNode *state, const EsEvent *event, MemoryContext keep)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		error_context_stack = NULL;
		apply_ops_in_order(ops, state, event, keep);
	}
	PG_CATCH();
	{
		es_error_report_failure(context);
	}
	PG_END_TRY();
}
