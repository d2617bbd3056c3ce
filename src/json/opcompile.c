/*
 * opcompile.c
 *		Operations on a state, compiled from their JSON form.
 *
 * A document is one operation or an array of them.  Each has a kind, and most
 * have targets: paths into the state, with a value each (value.c).
 *
 * A target's path is keys with dots between them; "\." is a dot and "\\" a
 * backslash within a key.  What is wrong with a document is 22023 with the place.
 */
#include "json/opcompile.h"

#include "miscadmin.h"

#include "base/names.h"
#include "json/place.h"
#include "json/tree.h"

#define MOST_PATH		65535	/* bytes */
#define MOST_ELEMENTS	PG_INT32_MAX	/* more than an array can have */

typedef struct OpName
{
	const char *name;
	EsOpKind	kind;
} OpName;

static const OpName plain_ops[] = {
	{"merge", ES_OP_MERGE_DATA},
	{"merge_patch", ES_OP_MERGE_PATCH},
	{"replace", ES_OP_REPLACE},
	{"ignore", ES_OP_IGNORE},
};

static const OpName target_ops[] = {
	{"set", ES_OP_SET},
	{"unset", ES_OP_UNSET},
	{"inc", ES_OP_INC},
	{"append", ES_OP_APPEND},
	{"remove", ES_OP_REMOVE},
	{"merge", ES_OP_MERGE},
	{"max", ES_OP_MAX},
	{"min", ES_OP_MIN},
};

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
end_path_step(EsOpTarget *target, const char *start, const char *end, const EsPlace *place)
{
	EsStep	   *step = &target->steps[target->nsteps++];

	if (start == end)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("path \"%s\" has an empty key", es_names_show(target->path)),
				es_place_errdetail(place));
	step->key = es_node_key(start, end - start);
	step->number = key_number(&step->key);
}

/* Compiles a path into its steps. */
static void
compile_target_path(EsOpTarget *target, const EsNode *path, const EsPlace *place)
{
	const char *from = path->value.bytes;
	const char *end = from + path->len;
	char	   *to = palloc(path->len + 1);
	const char *start = to;

	if (path->len > MOST_PATH)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("path must not be longer than %d bytes", MOST_PATH),
				es_place_errdetail(place->within));
	target->path = pnstrdup(from, path->len);
	target->steps = palloc((path->len + 1) * sizeof(EsStep));
	for (; from < end; from++)
	{
		if (*from == '.')
		{
			end_path_step(target, start, to, place);
			start = to;
			continue;
		}
		if (*from == '\\' && (++from == end || (*from != '.' && *from != '\\')))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid escape sequence in path \"%s\"", es_names_show(target->path)),
					es_place_errdetail(place),
					errhint("A backslash must be followed by a dot or a backslash."));
		*to++ = *from;
	}
	end_path_step(target, start, to, place);
	target->steps = repalloc(target->steps, target->nsteps * sizeof(EsStep));
}

/* Compiles what remove looks for. */
static void
compile_patterns(EsOpTarget *target, const EsNode *patterns, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		name;
	EsNode		value;

	if (!es_node_is_object(patterns))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation \"remove\" needs an object of keys and values for each path"),
				es_place_errdetail(place));
	es_node_begin_members(&reader, patterns);
	target->patterns = palloc(Max(reader.count, 1) * sizeof(EsPattern));
	while (es_node_next_member(&reader, &name, &value))
	{
		EsPlace		here = {place, name.value.bytes, name.len, 0};
		EsPattern  *pattern = &target->patterns[target->npatterns++];

		CHECK_FOR_INTERRUPTS();
		pattern->key = es_node_key(name.value.bytes, name.len);
		pattern->value = es_value_compile(&value, &here);
	}
}

/* Raises 22023 if a value can never be one that the operation takes. */
static void
check_constant_value(const EsOp *op, const EsNode *value, const EsPlace *place)
{
	if (value == NULL)
		return;
	if (op->kind == ES_OP_INC && value->kind != ES_NODE_NUMBER)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation \"inc\" needs a number, or a path to one"),
				es_place_errdetail(place));
	if ((op->kind == ES_OP_MAX || op->kind == ES_OP_MIN) &&
		value->kind != ES_NODE_NUMBER && value->kind != ES_NODE_STRING)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation \"%s\" needs a number or a string, or a path to one", op->name),
				es_place_errdetail(place));
}

/* Compiles the targets of an operation that are an object of paths and values. */
static void
compile_targets(EsOp *op, const EsNode *targets, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		path;
	EsNode		value;

	if (!es_node_is_object(targets))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation \"%s\" needs an object of paths and values", op->name),
				es_place_errdetail(place));
	es_node_begin_members(&reader, targets);
	op->targets = palloc0(Max(reader.count, 1) * sizeof(EsOpTarget));
	while (es_node_next_member(&reader, &path, &value))
	{
		EsPlace		here = {place, path.value.bytes, path.len, 0};
		EsOpTarget *target = &op->targets[op->ntargets++];

		CHECK_FOR_INTERRUPTS();
		compile_target_path(target, &path, &here);
		if (op->kind == ES_OP_REMOVE)
		{
			compile_patterns(target, &value, &here);
			continue;
		}
		target->value = es_value_compile(&value, &here);
		check_constant_value(op, es_value_constant(target->value), &here);
	}
}

/* Compiles the targets of unset, which are an array of paths. */
static void
compile_unset_paths(EsOp *op, const EsNode *paths, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		path;

	if (!es_node_is_array(paths))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation \"unset\" needs an array of paths"),
				es_place_errdetail(place));
	es_node_begin_elements(&reader, paths);
	op->targets = palloc0(Max(reader.count, 1) * sizeof(EsOpTarget));
	while (es_node_next_element(&reader, &path))
	{
		EsPlace		here = {place, NULL, 0, op->ntargets};

		CHECK_FOR_INTERRUPTS();
		if (path.kind != ES_NODE_STRING)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("path must be a string"),
					es_place_errdetail(&here));
		compile_target_path(&op->targets[op->ntargets++], &path, &here);
	}
}

/* Finds out which of some operations a word names; false if it is none of them. */
static bool
find_op(EsOp *op, const EsNode *word, const OpName *names, int count)
{
	for (int i = 0; i < count; i++)
		if (strlen(names[i].name) == word->len && memcmp(names[i].name, word->value.bytes, word->len) == 0)
		{
			op->kind = names[i].kind;
			op->name = names[i].name;
			return true;
		}
	return false;
}

/* Says in an error's HINT which operations there are; to be called within ereport. */
static int
operations_hint(void)
{
	return errhint("Operations without targets, each a string, are %s; those with targets, each the key of an object, are %s.",
				   es_names_list(plain_ops, lengthof(plain_ops), sizeof(OpName)),
				   es_names_list(target_ops, lengthof(target_ops), sizeof(OpName)));
}

/* Compiles one operation. */
static void
compile_op(EsOp *op, const EsNode *document, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		name;
	EsNode		targets;
	EsPlace		here = {place};

	if (document->kind == ES_NODE_STRING)
	{
		if (!find_op(op, document, plain_ops, lengthof(plain_ops)))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("operation \"%s\" without targets does not exist",
						   es_names_show_bytes(document->value.bytes, document->len)),
					es_place_errdetail(place),
					operations_hint());
		return;
	}
	if (!es_node_is_object(document))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation must be a string or an object"),
				es_place_errdetail(place),
				operations_hint());
	es_node_begin_members(&reader, document);
	if (reader.count != 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation must have exactly one key"),
				es_place_errdetail(place),
				operations_hint());
	(void) es_node_next_member(&reader, &name, &targets);
	here.key = name.value.bytes;
	here.len = name.len;
	if (!find_op(op, &name, target_ops, lengthof(target_ops)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("operation \"%s\" with targets does not exist",
					   es_names_show_bytes(name.value.bytes, name.len)),
				es_place_errdetail(place),
				operations_hint());
	if (op->kind == ES_OP_UNSET)
		compile_unset_paths(op, &targets, &here);
	else
		compile_targets(op, &targets, &here);
}

/* Calls a function for each value of operations. */
static void
for_each_value(const EsOps *ops, void (*visit) (EsValue *value, EsWanted *wanted), EsWanted *wanted)
{
	for (int i = 0; i < ops->count; i++)
		for (int j = 0; j < ops->ops[i].ntargets; j++)
		{
			const EsOpTarget *target = &ops->ops[i].targets[j];

			CHECK_FOR_INTERRUPTS();
			if (target->value)
				visit(target->value, wanted);
			for (int k = 0; k < target->npatterns; k++)
				visit(target->patterns[k].value, wanted);
		}
}

/* es_opcompile_document compiles a document; see opcompile.h. */
EsOps *
es_opcompile_document(const Jsonb *document)
{
	EsNode		root = es_node_view(document);
	EsPlace		place = {0};
	EsOps	   *ops = palloc0(sizeof(EsOps));
	EsPackedReader reader;
	EsNode		element;

	if (!es_node_is_array(&root))
	{
		ops->ops = palloc0(sizeof(EsOp));
		compile_op(&ops->ops[ops->count++], &root, &place);
	}
	else
	{
		es_node_begin_elements(&reader, &root);
		ops->ops = palloc0(Max(reader.count, 1) * sizeof(EsOp));
		while (es_node_next_element(&reader, &element))
		{
			EsPlace		here = {&place, NULL, 0, ops->count};

			CHECK_FOR_INTERRUPTS();
			compile_op(&ops->ops[ops->count++], &element, &here);
		}
	}
	for (int i = 0; i < ops->count; i++)
		ops->most_values = Max(ops->most_values, ops->ops[i].ntargets);
	for_each_value(ops, es_value_want, &ops->wanted);
	if (ops->wanted.count == 1)
		ops->wanted.count = 0;	/* it is found as fast by itself */
	qsort(ops->wanted.keys, ops->wanted.count, sizeof(EsKey), es_tree_compare_keys);
	for_each_value(ops, es_value_number, &ops->wanted);
	return ops;
}

/* Tells whether what is done at a target may depend on a root. */
static bool
target_mentions(const EsOpTarget *target, EsRoot root)
{
	bool		mentions = target->value != NULL && es_value_mentions(target->value, root);

	for (int i = 0; i < target->npatterns && !mentions; i++)
		mentions = es_value_mentions(target->patterns[i].value, root);
	return mentions;
}

/* es_opcompile_mention tells whether a value in operations may depend on a root. */
bool
es_opcompile_mention(const EsOps *ops, EsRoot root)
{
	bool		mention = false;

	for (int i = 0; i < ops->count; i++)
		for (int j = 0; j < ops->ops[i].ntargets && !mention; j++)
			mention = target_mentions(&ops->ops[i].targets[j], root);
	return mention;
}
