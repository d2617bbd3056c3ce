/*
 * ops.c
 *		Declarative operations on a state: compiled once, run without SQL.
 *
 * A document is one operation or an array of them.  Each has a kind, and most
 * have targets: paths into the state, with a value each (value.c).  All values
 * of an operation are taken before it changes anything.
 *
 * A target's path is keys with dots between them; "\." is a dot and "\\" a
 * backslash within a key.  On the way to a target members are made as objects
 * where there is nothing; digits are the number of an element where there is an
 * array.  What is neither object nor array cannot be gone through.
 *
 * What is wrong with a document is found when it is compiled, 22023 with the
 * place.  What is wrong with a state or an event is VE009 when it is met.
 */
#include "ops.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "handler.h"

#define MOST_PATH		65535	/* bytes */
#define MOST_ELEMENTS	PG_INT32_MAX	/* more than an array can have */

typedef enum OpKind
{
	OP_MERGE_DATA,				/* the event's data over the state */
	OP_MERGE_PATCH,
	OP_REPLACE,
	OP_IGNORE,
	OP_SET,
	OP_UNSET,
	OP_INC,
	OP_APPEND,
	OP_REMOVE,
	OP_MERGE,
	OP_MAX,
	OP_MIN
} OpKind;

static const struct
{
	const char *name;
	OpKind		kind;
}			plain_ops[] =

{
	{"merge", OP_MERGE_DATA},
	{"merge_patch", OP_MERGE_PATCH},
	{"replace", OP_REPLACE},
	{"ignore", OP_IGNORE},
},			target_ops[] =

{
	{"set", OP_SET},
	{"unset", OP_UNSET},
	{"inc", OP_INC},
	{"append", OP_APPEND},
	{"remove", OP_REMOVE},
	{"merge", OP_MERGE},
	{"max", OP_MAX},
	{"min", OP_MIN},
};

/* A key of a path, and the number it is in an array. */
typedef struct Step
{
	EsKey		key;
	int64		number;			/* -1: it is none */
} Step;

typedef struct Pattern
{
	EsKey		key;
	EsValue    *value;
} Pattern;

typedef struct OpTarget
{
	const char *path;			/* for errors */
	int			nsteps;
	Step	   *steps;
	EsValue    *value;			/* NULL for unset and remove */
	int			npatterns;		/* of remove */
	Pattern    *patterns;
} OpTarget;

typedef struct Op
{
	OpKind		kind;
	const char *name;
	int			ntargets;
	OpTarget   *targets;
} Op;

struct EsOps
{
	int			count;
	Op		   *ops;
	int			most_values;	/* that any operation has */
};

/* ---- compiling ---- */

/* The number that a key is in an array; -1 if it is none. */
static int64
key_number(const EsKey *key)
{
	int64		number = 0;

	if (key->len == 0 || (key->len > 1 && key->bytes[0] == '0'))
		return -1;
	for (uint32 i = 0; i < key->len; i++)
	{
		if (key->bytes[i] < '0' || key->bytes[i] > '9')
			return -1;
		if (number < MOST_ELEMENTS)
			number = number * 10 + (key->bytes[i] - '0');
	}
	return number;
}

/* Ends a step of a path, whose key begins at start. */
static void
end_step(OpTarget *target, const char *start, const char *end, const EsPlace *place)
{
	Step	   *step = &target->steps[target->nsteps++];

	if (start == end)
		es_value_report_malformed(place, psprintf("path \"%s\" has an empty key", target->path));
	step->key = es_node_key(start, end - start);
	step->number = key_number(&step->key);
}

/* Compiles a path into its steps. */
static void
compile_target_path(OpTarget *target, const EsNode *path, const EsPlace *place)
{
	const char *from = path->value.bytes;
	const char *end = from + path->len;
	char	   *to = palloc(path->len + 1);
	const char *start = to;

	if (path->len > MOST_PATH)
		es_value_report_malformed(place->within, psprintf("a path has at most %d bytes", MOST_PATH));
	target->path = pnstrdup(from, path->len);
	target->steps = palloc((path->len + 1) * sizeof(Step));
	for (; from < end; from++)
	{
		if (*from == '.')
		{
			end_step(target, start, to, place);
			start = to;
			continue;
		}
		if (*from == '\\' && (++from == end || (*from != '.' && *from != '\\')))
			es_value_report_malformed(place,
									  psprintf("in path \"%s\" a backslash is before neither a dot nor a backslash",
											   target->path));
		*to++ = *from;
	}
	end_step(target, start, to, place);
	target->steps = repalloc(target->steps, target->nsteps * sizeof(Step));
}

/* Compiles what remove looks for. */
static void
compile_patterns(OpTarget *target, const EsNode *patterns, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		name;
	EsNode		value;

	if (!es_node_is_object(patterns))
		es_value_report_malformed(place, "what \"remove\" drops is told by an object of keys and values");
	es_node_begin_members(&reader, patterns);
	target->patterns = palloc(Max(reader.count, 1) * sizeof(Pattern));
	while (es_node_next_member(&reader, &name, &value))
	{
		EsPlace		here = {place, name.value.bytes, name.len, 0};
		Pattern    *pattern = &target->patterns[target->npatterns++];

		pattern->key = es_node_key(name.value.bytes, name.len);
		pattern->value = es_value_compile(&value, &here);
	}
}

/* Raises 22023 if a value can never be one that the operation takes. */
static void
check_constant(const Op *op, const EsNode *value, const EsPlace *place)
{
	if (value == NULL)
		return;
	if (op->kind == OP_INC && value->kind != ES_NODE_NUMBER)
		es_value_report_malformed(place, "\"inc\" needs a number, or a path to one");
	if ((op->kind == OP_MAX || op->kind == OP_MIN) &&
		value->kind != ES_NODE_NUMBER && value->kind != ES_NODE_STRING)
		es_value_report_malformed(place, psprintf("\"%s\" needs a number or a string, or a path to one", op->name));
}

/* Compiles the targets of an operation that are an object of paths and values. */
static void
compile_targets(Op *op, const EsNode *targets, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		path;
	EsNode		value;

	if (!es_node_is_object(targets))
		es_value_report_malformed(place, psprintf("\"%s\" needs an object of paths and values", op->name));
	es_node_begin_members(&reader, targets);
	op->targets = palloc0(Max(reader.count, 1) * sizeof(OpTarget));
	while (es_node_next_member(&reader, &path, &value))
	{
		EsPlace		here = {place, path.value.bytes, path.len, 0};
		OpTarget   *target = &op->targets[op->ntargets++];

		compile_target_path(target, &path, &here);
		if (op->kind == OP_REMOVE)
		{
			compile_patterns(target, &value, &here);
			continue;
		}
		target->value = es_value_compile(&value, &here);
		check_constant(op, es_value_constant(target->value), &here);
	}
}

/* Compiles the targets of unset, which are an array of paths. */
static void
compile_paths(Op *op, const EsNode *paths, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		path;

	if (!es_node_is_array(paths))
		es_value_report_malformed(place, "\"unset\" needs an array of paths");
	es_node_begin_elements(&reader, paths);
	op->targets = palloc0(Max(reader.count, 1) * sizeof(OpTarget));
	while (es_node_next_element(&reader, &path))
	{
		EsPlace		here = {place, NULL, 0, op->ntargets};

		if (path.kind != ES_NODE_STRING)
			es_value_report_malformed(&here, "a path is a string");
		compile_target_path(&op->targets[op->ntargets++], &path, &here);
	}
}

/* Compiles an operation that is a word. */
static void
compile_plain(Op *op, const EsNode *word, const EsPlace *place)
{
	for (int i = 0; i < lengthof(plain_ops); i++)
		if (strlen(plain_ops[i].name) == word->len &&
			memcmp(plain_ops[i].name, word->value.bytes, word->len) == 0)
		{
			op->kind = plain_ops[i].kind;
			op->name = plain_ops[i].name;
			return;
		}
	es_value_report_malformed(place, psprintf("there is no operation \"%.*s\" without targets",
											  (int) word->len, word->value.bytes));
}

/* Compiles one operation. */
static void
compile_op(Op *op, const EsNode *document, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		name;
	EsNode		targets;
	EsPlace		here = {place};

	if (document->kind == ES_NODE_STRING)
	{
		compile_plain(op, document, place);
		return;
	}
	if (!es_node_is_object(document))
		es_value_report_malformed(place, "an operation is a string or an object");
	es_node_begin_members(&reader, document);
	if (reader.count != 1)
		es_value_report_malformed(place, "an operation has one key");
	(void) es_node_next_member(&reader, &name, &targets);
	here.key = name.value.bytes;
	here.len = name.len;
	for (int i = 0; i < lengthof(target_ops) && op->name == NULL; i++)
		if (strlen(target_ops[i].name) == name.len &&
			memcmp(target_ops[i].name, name.value.bytes, name.len) == 0)
		{
			op->kind = target_ops[i].kind;
			op->name = target_ops[i].name;
		}
	if (op->name == NULL)
		es_value_report_malformed(place, psprintf("there is no operation \"%.*s\" with targets",
												  (int) name.len, name.value.bytes));
	if (op->kind == OP_UNSET)
		compile_paths(op, &targets, &here);
	else
		compile_targets(op, &targets, &here);
}

/* es_ops_compile compiles a document; see ops.h. */
EsOps *
es_ops_compile(const Jsonb *document)
{
	EsNode		root = es_node_view(document);
	EsPlace		place = {0};
	EsOps	   *ops = palloc0(sizeof(EsOps));
	EsPackedReader reader;
	EsNode		element;

	if (!es_node_is_array(&root))
	{
		ops->ops = palloc0(sizeof(Op));
		compile_op(&ops->ops[ops->count++], &root, &place);
	}
	else
	{
		es_node_begin_elements(&reader, &root);
		ops->ops = palloc0(Max(reader.count, 1) * sizeof(Op));
		while (es_node_next_element(&reader, &element))
		{
			EsPlace		here = {&place, NULL, 0, ops->count};

			compile_op(&ops->ops[ops->count++], &element, &here);
		}
	}
	for (int i = 0; i < ops->count; i++)
		ops->most_values = Max(ops->most_values, ops->ops[i].ntargets);
	return ops;
}

/* Tells whether what is done at a target may depend on a root. */
static bool
target_mentions(const OpTarget *target, EsRoot root)
{
	bool		mentions = target->value != NULL && es_value_mentions(target->value, root);

	for (int i = 0; i < target->npatterns && !mentions; i++)
		mentions = es_value_mentions(target->patterns[i].value, root);
	return mentions;
}

/* es_ops_mention tells whether a value in operations may depend on a root. */
bool
es_ops_mention(const EsOps *ops, EsRoot root)
{
	bool		mention = false;

	for (int i = 0; i < ops->count; i++)
		for (int j = 0; j < ops->ops[i].ntargets && !mention; j++)
			mention = target_mentions(&ops->ops[i].targets[j], root);
	return mention;
}

/* ---- running ---- */

/* Raises VE009 for a target that an operation cannot be done on. */
ES_NORETURN static void
report_target(const Op *op, const OpTarget *target, const char *problem)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_HANDLER_FAILED),
			errmsg("\"%s\" of \"%s\" cannot be done: %s", op->name, target->path, problem));
}

/* What is at hand while an operation's targets are changed. */
typedef struct Change
{
	const Op   *op;
	const OpTarget *target;
	EsNode	   *state;
	MemoryContext keep;			/* what the state gains goes there */
} Change;

/*
 * Goes one step on from a node.  Where there is nothing, it makes it if told to
 * and gives NULL otherwise.
 */
static EsNode *
take_step(const Change *change, EsNode *node, const Step *step, bool make)
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
				report_target(change->op, change->target,
							  psprintf("\"%.*s\" is no number of an element", (int) step->key.len, step->key.bytes));
			if (step->number < es_tree_length(node))
				return es_tree_element(node, step->number);
			if (make)
				report_target(change->op, change->target,
							  psprintf("the array has no element %.*s", (int) step->key.len, step->key.bytes));
			return NULL;
		default:
			report_target(change->op, change->target,
						  psprintf("there is no \"%.*s\" in a scalar", (int) step->key.len, step->key.bytes));
	}
}

/* Goes along the first steps of a target's path. */
static EsNode *
reach(const Change *change, int nsteps, bool make)
{
	EsNode	   *node = change->state;

	for (int i = 0; i < nsteps && node != NULL; i++)
		node = take_step(change, node, &change->target->steps[i], make);
	return node;
}

/* Adds a value to what is there. */
static void
increase(const Change *change, EsNode *node, const EsNode *value)
{
	Numeric		sum;
	EsNode		view;

	if (value->kind != ES_NODE_NUMBER)
		report_target(change->op, change->target, "the value is no number");
	if (node->kind == ES_NODE_ABSENT)
	{
		es_tree_set(node, value);
		return;
	}
	if (node->kind != ES_NODE_NUMBER)
		report_target(change->op, change->target, "what is there is no number");
	sum = DatumGetNumeric(DirectFunctionCall2(numeric_add, PointerGetDatum(node->value.bytes),
											  PointerGetDatum(value->value.bytes)));
	view = es_node_view_number(sum);
	es_tree_set(node, &view);
	pfree(sum);
}

/* Puts a value at the end of what is there. */
static void
push(const Change *change, EsNode *node, const EsNode *value)
{
	if (node->kind != ES_NODE_ABSENT && !es_node_is_array(node))
		report_target(change->op, change->target, "what is there is no array");
	es_tree_open_array(node);
	es_tree_set(es_tree_push(node), value);
}

/* Orders two values of max or min. */
static int
compare(const Change *change, const EsNode *a, const EsNode *b)
{
	if (a->kind == ES_NODE_NUMBER && b->kind == ES_NODE_NUMBER)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, PointerGetDatum(a->value.bytes),
												 PointerGetDatum(b->value.bytes)));
	if (a->kind == ES_NODE_STRING && b->kind == ES_NODE_STRING)
	{
		int			order = memcmp(a->value.bytes, b->value.bytes, Min(a->len, b->len));

		return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
	}
	report_target(change->op, change->target, "only numbers, or strings, can be compared");
}

/* Puts a value in the place of what is there, if it is further in the operation's direction. */
static void
take_extreme(const Change *change, EsNode *node, const EsNode *value)
{
	int			order;

	if (node->kind == ES_NODE_ABSENT)
	{
		/* compared with itself, to refuse what cannot be compared */
		(void) compare(change, value, value);
		es_tree_set(node, value);
		return;
	}
	order = compare(change, value, node);
	if (change->op->kind == OP_MAX ? order > 0 : order < 0)
		es_tree_set(node, value);
}

/* Changes one target by its value. */
static void
change_target(const Change *change, const EsNode *value)
{
	MemoryContext old = MemoryContextSwitchTo(change->keep);
	EsNode	   *node = reach(change, change->target->nsteps, true);

	switch (change->op->kind)
	{
		case OP_SET:
			es_tree_set(node, value);
			break;
		case OP_INC:
			increase(change, node, value);
			break;
		case OP_APPEND:
			push(change, node, value);
			break;
		case OP_MERGE:
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
	const Step *last = &change->target->steps[change->target->nsteps - 1];
	MemoryContext old = MemoryContextSwitchTo(change->keep);
	EsNode	   *node = reach(change, change->target->nsteps - 1, false);

	/* a step more opens what there is, or refuses to */
	if (node != NULL && take_step(change, node, last, false) != NULL)
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
	const OpTarget *target;
	EsNode	   *wanted;			/* one a pattern */
} Search;

/* Tells whether an element has all members that are looked for. */
static bool
matches(EsNode *element, void *arg)
{
	const Search *search = arg;

	if (!es_node_is_object(element))
		return false;
	for (int i = 0; i < search->target->npatterns; i++)
	{
		const EsKey *key = &search->target->patterns[i].key;
		EsNode		view;
		EsNode	   *member = &view;

		if (element->kind == ES_NODE_OBJECT)
			member = es_tree_find(element, key);
		else if (!es_node_find_packed(element, key, &view))
			member = NULL;
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
	EsNode	   *node = reach(change, change->target->nsteps, false);

	if (node != NULL && node->kind != ES_NODE_ABSENT)
	{
		if (!es_node_is_array(node))
			report_target(change->op, change->target, "what is there is no array");
		es_tree_open_array(node);
		MemoryContextSwitchTo(old);
		es_tree_drop_elements(node, matches, &search);
	}
	MemoryContextSwitchTo(old);
}

/* Evaluates what a target's elements to be dropped have; NULL if something has no value: nothing is dropped. */
static EsNode *
evaluate_patterns(const OpTarget *target, EsScope *scope)
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
	const Op   *op = change->op;
	EsNode	  **wanted = palloc(Max(op->ntargets, 1) * sizeof(EsNode *));

	for (int i = 0; i < op->ntargets; i++)
		wanted[i] = evaluate_patterns(&op->targets[i], scope);
	for (int i = 0; i < op->ntargets; i++)
		if (wanted[i] != NULL)
		{
			change->target = &op->targets[i];
			remove_matching(change, wanted[i]);
		}
}

/* Does an operation with values: first all values, then the changes. */
static void
apply_values(Change *change, EsScope *scope, EsNode *values)
{
	const Op   *op = change->op;

	for (int i = 0; i < op->ntargets; i++)
		if (!es_value_evaluate(op->targets[i].value, scope, &values[i]))
			values[i].kind = ES_NODE_ABSENT;
	for (int i = 0; i < op->ntargets; i++)
		if (values[i].kind != ES_NODE_ABSENT)
		{
			change->target = &op->targets[i];
			change_target(change, &values[i]);
		}
}

/* Does an operation on the state as a whole, with the event's data. */
static void
apply_data(const Change *change, EsScope *scope)
{
	const EsNode *data = es_value_member(scope, ES_ROOT_DATA);
	MemoryContext old = MemoryContextSwitchTo(change->keep);

	if (change->op->kind == OP_MERGE_DATA)
		es_tree_merge(change->state, data);
	else if (change->op->kind == OP_MERGE_PATCH)
		es_tree_merge_patch(change->state, data);
	else
		es_tree_set(change->state, data);
	MemoryContextSwitchTo(old);
}

/* Does operations in order. */
static void
apply(const EsOps *ops, EsNode *state, const EsEvent *event, MemoryContext keep)
{
	EsNode	   *values = palloc(Max(ops->most_values, 1) * sizeof(EsNode));
	EsScope		scope;

	es_value_begin(&scope, event, state);
	for (int i = 0; i < ops->count; i++)
	{
		const Op   *op = &ops->ops[i];
		Change		change = {.op = op,.state = state,.keep = keep};

		switch (op->kind)
		{
			case OP_IGNORE:
				break;
			case OP_MERGE_DATA:
			case OP_MERGE_PATCH:
			case OP_REPLACE:
				apply_data(&change, &scope);
				break;
			case OP_UNSET:
				for (int j = 0; j < op->ntargets; j++)
				{
					change.target = &op->targets[j];
					unset_target(&change);
				}
				break;
			case OP_REMOVE:
				apply_remove(&change, &scope);
				break;
			default:
				apply_values(&change, &scope, values);
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
		apply(ops, state, event, keep);
	}
	PG_CATCH();
	{
		es_handler_report_failure(context);
	}
	PG_END_TRY();
}
