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
end_step(EsOpTarget *target, const char *start, const char *end, const EsPlace *place)
{
	EsStep	   *step = &target->steps[target->nsteps++];

	if (start == end)
		es_place_report(place, psprintf("path \"%s\" has an empty key", es_names_show(target->path)));
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
		es_place_report(place->within, psprintf("a path has at most %d bytes", MOST_PATH));
	target->path = pnstrdup(from, path->len);
	target->steps = palloc((path->len + 1) * sizeof(EsStep));
	for (; from < end; from++)
	{
		if (*from == '.')
		{
			end_step(target, start, to, place);
			start = to;
			continue;
		}
		if (*from == '\\' && (++from == end || (*from != '.' && *from != '\\')))
			es_place_report(place,
							psprintf("in path \"%s\" a backslash is before neither a dot nor a backslash",
									 es_names_show(target->path)));
		*to++ = *from;
	}
	end_step(target, start, to, place);
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
		es_place_report(place, "what \"remove\" drops is told by an object of keys and values");
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
check_constant(const EsOp *op, const EsNode *value, const EsPlace *place)
{
	if (value == NULL)
		return;
	if (op->kind == ES_OP_INC && value->kind != ES_NODE_NUMBER)
		es_place_report(place, "\"inc\" needs a number, or a path to one");
	if ((op->kind == ES_OP_MAX || op->kind == ES_OP_MIN) &&
		value->kind != ES_NODE_NUMBER && value->kind != ES_NODE_STRING)
		es_place_report(place, psprintf("\"%s\" needs a number or a string, or a path to one", op->name));
}

/* Compiles the targets of an operation that are an object of paths and values. */
static void
compile_targets(EsOp *op, const EsNode *targets, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		path;
	EsNode		value;

	if (!es_node_is_object(targets))
		es_place_report(place, psprintf("\"%s\" needs an object of paths and values", op->name));
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
		check_constant(op, es_value_constant(target->value), &here);
	}
}

/* Compiles the targets of unset, which are an array of paths. */
static void
compile_paths(EsOp *op, const EsNode *paths, const EsPlace *place)
{
	EsPackedReader reader;
	EsNode		path;

	if (!es_node_is_array(paths))
		es_place_report(place, "\"unset\" needs an array of paths");
	es_node_begin_elements(&reader, paths);
	op->targets = palloc0(Max(reader.count, 1) * sizeof(EsOpTarget));
	while (es_node_next_element(&reader, &path))
	{
		EsPlace		here = {place, NULL, 0, op->ntargets};

		CHECK_FOR_INTERRUPTS();
		if (path.kind != ES_NODE_STRING)
			es_place_report(&here, "a path is a string");
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
			es_place_report(place, psprintf("there is no operation \"%s\" without targets",
											es_names_show_bytes(document->value.bytes, document->len)));
		return;
	}
	if (!es_node_is_object(document))
		es_place_report(place, "an operation is a string or an object");
	es_node_begin_members(&reader, document);
	if (reader.count != 1)
		es_place_report(place, "an operation has one key");
	(void) es_node_next_member(&reader, &name, &targets);
	here.key = name.value.bytes;
	here.len = name.len;
	if (!find_op(op, &name, target_ops, lengthof(target_ops)))
		es_place_report(place, psprintf("there is no operation \"%s\" with targets",
										es_names_show_bytes(name.value.bytes, name.len)));
	if (op->kind == ES_OP_UNSET)
		compile_paths(op, &targets, &here);
	else
		compile_targets(op, &targets, &here);
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
