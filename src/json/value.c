/*
 * value.c
 *		Values that depend on an event and a state: JSON with SQL/JSON paths in it.
 *
 * In a template, a string that begins with "$" is an SQL/JSON path in lax mode
 * over an object that has the state and what there is to know of the event; one
 * that begins with "$$" is a string with one "$" less.  All else stands for
 * itself.
 *
 * Templates are compiled.  What has no path in it is a constant.  A path that
 * only goes from member to member, such as $.data.price, is walked directly, in
 * the event's stored jsonb or in the tree that the state is.  Everything else,
 * and a walk that meets an array, which lax mode unwraps, is the server's to
 * evaluate.  For that an object is made with just those members that the path
 * mentions, of the state too.
 */
#include "json/value.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/names.h"
#include "json/pack.h"
#include "json/path.h"
#include "json/tree.h"

#define MOST_REASON		200		/* bytes of what the server says of a path */

/* ---- compiling ---- */

/* Tells whether an error is what the server says against a path, and not the lack of something. */
static bool
is_about_path(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_DATA_EXCEPTION ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_FEATURE_NOT_SUPPORTED;
}

/* Parses a path; what the server says against it is 22023. */
static JsonPath *
parse_path(const EsNode *string, const EsPlace *place)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *source = pnstrdup(string->value.bytes, string->len);
	JsonPath   *path = NULL;

	PG_TRY();
	{
		path = DatumGetJsonPathP(DirectFunctionCall1(jsonpath_in, CStringGetDatum(source)));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!is_about_path(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid SQL/JSON path \"%s\": %s", es_names_show(source),
					   es_names_cut(error->message, strlen(error->message), MOST_REASON)),
				es_place_errdetail(place));
	}
	PG_END_TRY();
	return path;
}

/* A walk over the items of a path. */
typedef struct PathWalk
{
	EsValue    *value;
	unsigned	roots;			/* bits: what paths may begin with */
	const EsNode *source;
	const EsPlace *place;
} PathWalk;

/* Raises 22023 for a key that the object that paths are about never has. */
static void
refuse_unknown_key(const PathWalk *walk, const EsKey *key)
{
	const char *known[ES_ROOT_COUNT];
	int			count = 0;

	for (EsRoot root = 0; root < ES_ROOT_COUNT; root++)
		if (walk->roots & (1U << root))
			known[count++] = es_scope_name(root);
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("SQL/JSON path \"%s\" begins with unknown key \"%s\"",
				   es_names_show_bytes(walk->source->value.bytes, walk->source->len),
				   es_names_show_bytes(key->bytes, key->len)),
			es_place_errdetail(walk->place),
			errhint("The keys to begin with are %s.", es_names_list(known, count, sizeof(known[0]))));
}

/* Notes that a path mentions a root, and of the state a member (NULL: all of it). */
static void
want_root(EsValue *value, EsRoot root, const EsKey *member)
{
	value->wanted |= 1U << root;
	if (root != ES_ROOT_STATE || value->nstate_keys < 0)
		return;
	if (member == NULL)
	{
		value->nstate_keys = -1;
		return;
	}
	for (int i = 0; i < value->nstate_keys; i++)
		if (value->state_keys[i].len == member->len &&
			memcmp(value->state_keys[i].bytes, member->bytes, member->len) == 0)
			return;
	value->state_keys = value->nstate_keys == 0 ? palloc(sizeof(EsKey)) :
		repalloc(value->state_keys, (value->nstate_keys + 1) * sizeof(EsKey));
	value->state_keys[value->nstate_keys++] = *member;
}

/* Notes that a path mentions all there is. */
static void
want_everything(EsValue *value)
{
	value->wanted = ES_ALL_ROOTS;
	value->nstate_keys = -1;
}

/* The key of a path's item that goes to a member. */
static EsKey
path_item_key(JsonPathItem *item)
{
	int32		len;
	char	   *name = jspGetString(item, &len);

	return es_node_key(name, len);
}

/* Notes which member of the whole object an item goes to; one that it never has is 22023. */
static void
want_member(const PathWalk *walk, JsonPathItem *item)
{
	JsonPathItem next;
	EsKey		name = path_item_key(item);
	EsRoot		root = es_scope_find(name.bytes, name.len);

	if (root == ES_ROOT_COUNT)
		refuse_unknown_key(walk, &name);
	if (jspGetNext(item, &next) && next.type == jpiKey)
	{
		EsKey		member = path_item_key(&next);

		want_root(walk->value, root, &member);
	}
	else
		want_root(walk->value, root, NULL);
}

static void walk_path(const PathWalk *walk, JsonPathItem *item, bool current_is_whole);

/* A walk over the parts of an item. */
typedef struct PartWalk
{
	const PathWalk *walk;
	bool		current_is_whole;	/* @ in them is the whole object */
} PartWalk;

/* Walks over a part of an item. */
static bool
walk_part(JsonPathItem *part, void *arg)
{
	const PartWalk *parts = arg;

	walk_path(parts->walk, part, parts->current_is_whole);
	return false;
}

/* Walks over the parts of an item. */
static void
walk_item_parts(const PathWalk *walk, JsonPathItem *item, bool current_is_whole)
{
	PartWalk	parts = {.walk = walk,.current_is_whole = current_is_whole};

	(void) es_path_look_at_parts(item, walk_part, &parts);
}

/*
 * Walks over a path, or a part of one, and notes what it mentions of the object that
 * paths are about.  Variables are 22023, and so are keys that this object never has.
 *
 * is_whole: what the item before gives is that object itself.  It stays so in a
 * filter, where it is @, and behind one; and behind [...], since lax mode takes an
 * object for an array of one.  Of whatever else a path comes to nothing is known.
 */
static void
walk_path(const PathWalk *walk, JsonPathItem *item, bool current_is_whole)
{
	JsonPathItem here = *item;
	JsonPathItem next;
	bool		is_whole = false;

	check_stack_depth();
	if (here.type == jpiVariable)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("SQL/JSON path must begin with \"$.\" and cannot have variables"),
				es_place_errdetail(walk->place));
	if (here.type == jpiRoot || here.type == jpiCurrent)
	{
		is_whole = here.type == jpiRoot || current_is_whole;
		if (is_whole && (!jspGetNext(&here, &next) || next.type != jpiKey))
			want_everything(walk->value);
	}
	else
		walk_item_parts(walk, &here, current_is_whole);
	for (; jspGetNext(&here, &next); here = next)
	{
		CHECK_FOR_INTERRUPTS();
		if (next.type == jpiKey && is_whole)
			want_member(walk, &next);
		walk_item_parts(walk, &next, next.type == jpiFilter ? is_whole : current_is_whole);
		is_whole = is_whole && (next.type == jpiFilter || next.type == jpiAnyArray || next.type == jpiIndexArray);
	}
}

/* Compiles a path into steps, if it only goes from member to member. */
static bool
compile_steps(EsValue *value)
{
	JsonPathItem item;
	JsonPathItem next;
	int			count = 0;

	jspInit(&item, value->path);
	if (item.type != jpiRoot)
		return false;
	for (; jspGetNext(&item, &next); item = next)
		if (next.type != jpiKey)
			return false;
		else
			count++;
	if (count == 0)
		return false;
	value->steps = palloc(count * sizeof(EsKey));
	jspInit(&item, value->path);
	for (; jspGetNext(&item, &next); item = next)
		value->steps[value->nsteps++] = path_item_key(&next);
	value->root = es_scope_find(value->steps[0].bytes, value->steps[0].len);
	value->number = -1;
	return true;
}

/* Compiles a string that is a path. */
static EsValue *
compile_path(const EsNode *string, const EsPlace *place, unsigned roots)
{
	EsValue    *value = palloc0(sizeof(EsValue));
	PathWalk	walk = {value, roots, string, place};
	JsonPathItem item;

	value->path = parse_path(string, place);
	value->variables = es_pack_object_jsonb(NULL, NULL, 0);
	jspInit(&item, value->path);
	walk_path(&walk, &item, false);
	if (value->nstate_keys > 1)
		qsort(value->state_keys, value->nstate_keys, sizeof(EsKey), es_tree_compare_keys);
	value->kind = compile_steps(value) ? ES_VALUE_STEPS : ES_VALUE_PATH;
	return value;
}

/* Makes the value that always is the same. */
static EsValue *
make_constant(EsNode constant)
{
	EsValue    *value = palloc0(sizeof(EsValue));

	value->kind = ES_VALUE_CONSTANT;
	value->constant = constant;
	return value;
}

/* Compiles a string. */
static EsValue *
compile_string(const EsNode *string, const EsPlace *place)
{
	if (string->len == 0 || string->value.bytes[0] != '$')
		return make_constant(*string);
	if (string->len > 1 && string->value.bytes[1] == '$')
		return make_constant(es_node_view_string(string->value.bytes + 1, string->len - 1));
	return compile_path(string, place, ES_ALL_ROOTS);
}

/* Compiles the members of an object or the elements of an array; tells whether all are constant. */
static bool
compile_children(EsValue *value, const EsNode *template, const EsPlace *place)
{
	bool		constant = true;
	EsPackedReader reader;
	EsNode		name = {ES_NODE_NULL};
	EsNode		child;

	if (value->kind == ES_VALUE_OBJECT)
		es_node_begin_members(&reader, template);
	else
		es_node_begin_elements(&reader, template);
	value->keys = palloc(Max(reader.count, 1) * sizeof(EsKey));
	value->values = palloc(Max(reader.count, 1) * sizeof(EsValue *));
	while (value->kind == ES_VALUE_OBJECT ? es_node_next_member(&reader, &name, &child) :
		   es_node_next_element(&reader, &child))
	{
		EsPlace		here = {place, NULL, 0, value->count};

		if (value->kind == ES_VALUE_OBJECT)
		{
			here.key = name.value.bytes;
			here.len = name.len;
			value->keys[value->count] = es_node_key(name.value.bytes, name.len);
		}
		value->values[value->count] = es_value_compile(&child, &here);
		constant &= value->values[value->count++]->kind == ES_VALUE_CONSTANT;
	}
	return constant;
}

/* es_value_compile compiles a template; 22023 with the place if it is malformed. */
EsValue *
es_value_compile(const EsNode *template, const EsPlace *place)
{
	EsValue    *value;
	EsNode		constant;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (template->kind == ES_NODE_STRING)
		return compile_string(template, place);
	if (template->kind != ES_NODE_PACKED)
		return make_constant(*template);
	value = palloc0(sizeof(EsValue));
	value->kind = es_node_is_object(template) ? ES_VALUE_OBJECT : ES_VALUE_ARRAY;
	if (compile_children(value, template, place) && es_value_evaluate(value, NULL, &constant))
		return make_constant(constant);
	return value;
}

/* es_value_constant gives the value that is always the same; NULL if it depends on anything. */
const EsNode *
es_value_constant(const EsValue *value)
{
	return value->kind == ES_VALUE_CONSTANT ? &value->constant : NULL;
}

/* es_value_mentions tells whether a value may depend on a root. */
bool
es_value_mentions(const EsValue *value, EsRoot root)
{
	bool		mentions = (value->wanted & (1U << root)) != 0;

	for (int i = 0; i < value->count && !mentions; i++)
		mentions = es_value_mentions(value->values[i], root);
	return mentions;
}

/* Tells whether a value is what a member of the data has, or something in that. */
static inline bool
is_of_data_member(const EsValue *value)
{
	return value->kind == ES_VALUE_STEPS && value->root == ES_ROOT_DATA && value->nsteps > 1;
}

/* Finds a key among those that are wanted; -1 if it is not there. */
static int
find_wanted(const EsWanted *wanted, const EsKey *key)
{
	int			i = wanted->count - 1;

	while (i >= 0 && es_tree_compare_keys(&wanted->keys[i], key) != 0)
		i--;
	return i;
}

/*
 * es_value_want adds the members of the data that a value's paths go to, as far as there is
 * room; they are to be sorted.
 */
void
es_value_want(EsValue *value, EsWanted *wanted)
{
	if (is_of_data_member(value) && wanted->count < ES_SCOPE_MOST_WANTED && find_wanted(wanted, &value->steps[1]) < 0)
		wanted->keys[wanted->count++] = value->steps[1];
	for (int i = 0; i < value->count; i++)
		es_value_want(value->values[i], wanted);
}

/* es_value_number tells the paths of a value which of the wanted members they go to. */
void
es_value_number(EsValue *value, EsWanted *wanted)
{
	if (is_of_data_member(value))
		value->number = find_wanted(wanted, &value->steps[1]);
	for (int i = 0; i < value->count; i++)
		es_value_number(value->values[i], wanted);
}

/*
 * es_value_compile_path compiles a path that may begin with some roots; 22023 if it is none,
 * or is about others.  What it is the path of is told in messages: "key".
 */
EsValue *
es_value_compile_path(const text *path, unsigned roots, const char *what)
{
	EsNode		string = es_node_view_string(VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path));
	EsPlace		place = {0};
	EsValue    *value;

	if (string.len == 0 || string.value.bytes[0] != '$')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be an SQL/JSON path, such as \"$.data.customerId\"", what));
	value = compile_path(&string, &place, roots);
	for (EsRoot root = 0; root < ES_ROOT_COUNT; root++)
		if ((value->wanted & (1U << root)) != 0 && (roots & (1U << root)) == 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s must not depend on the %s", what, es_scope_name(root)));
	return value;
}

/*
 * es_value_path_keys gives the keys of a path that only goes from member to member, the root's
 * first, and through all elements of arrays on the way; NULL for any other value.  They are
 * in the current memory context.
 */
EsKey *
es_value_path_keys(const EsValue *value, int *nkeys)
{
	JsonPathItem item;
	JsonPathItem next;
	EsKey	   *keys = NULL;
	int			room = 0;

	*nkeys = 0;
	if (value->path == NULL || (value->path->header & JSONPATH_LAX) == 0)
		return NULL;
	jspInit(&item, value->path);
	if (item.type != jpiRoot)
		return NULL;
	for (; jspGetNext(&item, &next); item = next)
	{
		if (next.type == jpiAnyArray && *nkeys > 0)
			continue;
		if (next.type != jpiKey)
			return NULL;
		if (*nkeys == room)
		{
			room = Max(2 * room, 4);
			keys = keys ? repalloc(keys, room * sizeof(EsKey)) : palloc(room * sizeof(EsKey));
		}
		keys[(*nkeys)++] = path_item_key(&next);
	}
	return keys;
}

/* ---- evaluating ---- */

/*
 * Gives of the state what a path mentions of it; false if there is nothing of it.
 * It is the same whatever form the state is in, which it may borrow from.
 */
static bool
get_mentioned_state(const EsValue *value, EsNode *state, EsNode *result)
{
	EsNode	   *members;
	EsKey	   *keys;
	int			count = 0;

	if (state == NULL || state->kind == ES_NODE_ABSENT)
		return false;
	if (value->nstate_keys < 0 || !es_node_is_object(state))
	{
		*result = *state;
		return true;
	}
	members = palloc(Max(value->nstate_keys, 1) * sizeof(EsNode));
	keys = palloc(Max(value->nstate_keys, 1) * sizeof(EsKey));
	for (int i = 0; i < value->nstate_keys; i++)
	{
		EsNode		view;
		EsNode	   *member = es_tree_member(state, &value->state_keys[i], &view);

		if (member)
		{
			keys[count] = value->state_keys[i];
			members[count++] = *member;
		}
	}
	*result = es_pack_object(keys, members, count);
	return true;
}

/* Makes the object that a path is about, with what it mentions. */
static Jsonb *
make_document(const EsValue *value, EsScope *scope)
{
	EsKey		keys[ES_ROOT_COUNT];
	EsNode		members[ES_ROOT_COUNT];
	int			count = 0;

	for (EsRoot root = 0; root < ES_ROOT_COUNT; root++)
	{
		if ((value->wanted & (1U << root)) == 0)
			continue;
		if (root != ES_ROOT_STATE)
			members[count] = *es_scope_member(scope, root);
		else if (!get_mentioned_state(value, scope->state, &members[count]))
			continue;
		keys[count++] = *es_scope_key(root);
	}
	return es_pack_object_jsonb(keys, members, count);
}

/*
 * Has the server evaluate a path.  What it finds, an array, is in the current memory context,
 * and so is all that it took to find it.
 */
static EsNode
query_path(const EsValue *value, EsScope *scope)
{
	Datum		found = DirectFunctionCall4(jsonb_path_query_array,
											JsonbPGetDatum(make_document(value, scope)),
											PointerGetDatum(value->path),
											JsonbPGetDatum(value->variables),
											BoolGetDatum(false));

	return es_node_view(DatumGetJsonbP(found));
}

/*
 * Has the server evaluate a path.  What that takes is as large as the event, or larger, and there
 * may be many paths: of each only its result is kept.
 */
static bool
evaluate_path(const EsValue *value, EsScope *scope, EsNode *result)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore path", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	EsNode		found;
	EsPackedReader reader;

	/* these are the scope's, and outlive the scratch context */
	for (EsRoot root = 0; root < ES_ROOT_COUNT; root++)
		if ((value->wanted & (1U << root)) != 0 && root != ES_ROOT_STATE)
			(void) es_scope_member(scope, root);
	old = MemoryContextSwitchTo(scratch);
	found = query_path(value, scope);
	MemoryContextSwitchTo(old);
	es_node_begin_elements(&reader, &found);
	if (reader.count == 1)
		(void) es_node_next_element(&reader, &found);
	if (reader.count > 0)
		*result = es_pack_node(&found);
	MemoryContextDelete(scratch);
	return reader.count > 0;
}

/* Goes on from a view, which may be where the result goes. */
static bool
evaluate_packed_steps(const EsValue *value, int step, const EsNode *node, EsScope *scope, EsNode *result)
{
	for (; step < value->nsteps; step++)
	{
		if (es_node_is_array(node))
			return evaluate_path(value, scope, result);
		if (!es_node_is_packed_object(node) || !es_node_find_packed(node, &value->steps[step], result))
			return false;
		node = result;
	}
	if (node != result)
		*result = *node;
	return true;
}

/* Goes from member to member, in the state's tree as far as it is one. */
static bool
evaluate_steps(const EsValue *value, EsScope *scope, EsNode *result)
{
	EsNode	   *node = scope->state;
	int			step = 1;

	if (value->number >= 0 && es_scope_has_found(scope))
	{
		*result = scope->found[value->number];
		return result->kind != ES_NODE_ABSENT &&
			(value->nsteps == 2 || evaluate_packed_steps(value, 2, &scope->found[value->number], scope, result));
	}
	if (value->root != ES_ROOT_STATE)
		return evaluate_packed_steps(value, 1, es_scope_member(scope, value->root), scope, result);
	if (node == NULL || node->kind == ES_NODE_ABSENT)
		return false;
	for (; step < value->nsteps && node->kind == ES_NODE_OBJECT; step++)
		if ((node = es_tree_find(node, &value->steps[step])) == NULL)
			return false;
	if (step < value->nsteps && node->kind == ES_NODE_ARRAY)
		return evaluate_path(value, scope, result);
	if (step < value->nsteps && !evaluate_packed_steps(value, step, node, scope, result))
		return false;
	*result = es_pack_node(step < value->nsteps ? result : node);
	return true;
}

/* Evaluates the children of an object or array; those without an item are left out. */
static bool
evaluate_children(const EsValue *value, EsScope *scope, EsNode *result)
{
	EsKey	   *keys = palloc(Max(value->count, 1) * sizeof(EsKey));
	EsNode	   *values = palloc(Max(value->count, 1) * sizeof(EsNode));
	int			count = 0;

	check_stack_depth();
	for (int i = 0; i < value->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (es_value_evaluate(value->values[i], scope, &values[count]))
			keys[count++] = value->keys[i];
	}
	*result = value->kind == ES_VALUE_OBJECT ? es_pack_object(keys, values, count) :
		es_pack_array(values, count);
	return true;
}

/* es_value_evaluate gives a value; false if its path has no item. */
bool
es_value_evaluate(const EsValue *value, EsScope *scope, EsNode *result)
{
	switch (value->kind)
	{
		case ES_VALUE_CONSTANT:
			*result = value->constant;
			return true;
		case ES_VALUE_STEPS:
			return evaluate_steps(value, scope, result);
		case ES_VALUE_PATH:
			return evaluate_path(value, scope, result);
		case ES_VALUE_OBJECT:
		case ES_VALUE_ARRAY:
			return evaluate_children(value, scope, result);
	}
	pg_unreachable();
}

/* ---- keys of projections ---- */

/*
 * es_value_compile_key compiles the path to a projection's key; 22023 if it is
 * none, or is about a state.
 */
EsValue *
es_value_compile_key(const text *path)
{
	return es_value_compile_path(path, ES_ALL_ROOTS & ~(1U << ES_ROOT_STATE), "key");
}

/*
 * es_value_key gives the key of an event: a string, or the text of a number or
 * boolean; NULL if the path has no item, or null.  Anything else is VE009.
 */
text *
es_value_key(const EsValue *value, const EsEvent *event)
{
	EsScope		scope;
	EsNode		key;

	es_scope_begin(&scope, event, NULL);
	if (!es_value_evaluate(value, &scope, &key))
		return NULL;
	switch (key.kind)
	{
		case ES_NODE_NULL:
			return NULL;
		case ES_NODE_STRING:
			return cstring_to_text_with_len(key.value.bytes, key.len);
		case ES_NODE_BOOL:
			return cstring_to_text(key.value.boolean ? "true" : "false");
		case ES_NODE_NUMBER:
			return cstring_to_text(numeric_normalize((Numeric) key.value.bytes));
		default:
			ereport(ERROR,
					errcode(ES_ERRCODE_HANDLER_FAILED),
					errmsg("key of an event must be a string, a number or a Boolean"),
					errdetail("The key's path has found several items, an array or an object."));
	}
}
