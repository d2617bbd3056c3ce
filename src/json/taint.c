/*
 * taint.c
 *		Which places of a state hold values of certain places of events' data.
 *
 * Fields of data may be stored in a form that only stands for their values (secret/).
 * Operations that do nothing but copy such a value as a whole can be run on that form;
 * the state then has it where it would have the value.  Here is found out, from the
 * operations alone, whether they do no more than that, and where the copies are.
 *
 * What is done is followed from leaf to leaf: a leaf is a place of the data, or of
 * the state, where such a value may be.  The order of operations does not matter, as
 * if any could follow any; nor does what is taken away.  So there are rather too many
 * leaves than too few, and where it is not known what an operation does with one, it
 * does more than copy it.  Arrays may be anywhere on the way to a leaf, and in place of
 * what is there; where one is known to be, the leaf has a step for it.  An operation that
 *		- takes a path to, or above, a leaf copies what is there with its leaves,
 *		- takes a path into one, or a path with more in it than members, looks into it,
 *		- has its target in a leaf, or adds, compares or appends to one, looks into it.
 * Who only asks where anything of such a value may come to gets that, too: where an operation
 * does more than copy, its target is a leaf; and if there are too many, the whole state is.
 */
#include "json/taint.h"

#include "miscadmin.h"
#include "utils/jsonpath.h"

#include "json/path.h"
#include "json/scope.h"
#include "json/value.h"

#define MOST_LEAVES		1000
#define MOST_STEPS		64

/* What is followed. */
typedef struct Trail
{
	const EsLeaves *data;
	EsLeaves   *state;
} Trail;

/* What a path goes through from the whole that it is about: keys, as far as they are known. */
typedef struct Chain
{
	bool		known;			/* else it begins somewhere else */
	int			count;
	EsKey		keys[MOST_STEPS];
} Chain;

/* How a path lies to a leaf. */
typedef enum Bearing
{
	BEARING_APART,
	BEARING_ABOVE,				/* it ends on the way there */
	BEARING_AT,
	BEARING_INTO				/* it goes on behind it, or into an element on
								 * the way */
} Bearing;

/* The step of a leaf that is any element, and that of a target. */
static const EsKey any_element = {NULL};
static const EsKey any_number = {"0", 1};

/* Tells whether two keys are the same. */
static bool
is_same_key(const EsKey *a, const EsKey *b)
{
	return a->len == b->len && (a->bytes == NULL) == (b->bytes == NULL) &&
		(a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Tells whether two leaves are the same. */
static bool
is_same_leaf(const EsLeaf *leaf, const EsKey *steps, int count)
{
	if (leaf->count != count)
		return false;
	for (int i = 0; i < count; i++)
		if (!is_same_key(&leaf->steps[i], &steps[i]))
			return false;
	return true;
}

/* es_taint_add adds a leaf; see taint.h. */
bool
es_taint_add(EsLeaves *leaves, const EsKey *steps, int count)
{
	EsLeaf	   *leaf;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < leaves->count; i++)
		if (is_same_leaf(&leaves->items[i], steps, count))
			return true;
	if (leaves->count == MOST_LEAVES || count > MOST_STEPS)
		return false;
	if (leaves->count == leaves->room)
	{
		leaves->room = Max(2 * leaves->room, 8);
		leaves->items = leaves->items == NULL ? palloc(leaves->room * sizeof(EsLeaf)) :
			repalloc(leaves->items, leaves->room * sizeof(EsLeaf));
	}
	leaf = &leaves->items[leaves->count++];
	leaf->count = count;
	leaf->steps = palloc(Max(count, 1) * sizeof(EsKey));
	if (count > 0)
		memcpy(leaf->steps, steps, count * sizeof(EsKey));
	return true;
}

/* Adds a leaf that lies below a place. */
static bool
add_leaf_below(EsLeaves *leaves, const EsKey *above, int depth, const EsLeaf *leaf)
{
	EsKey		steps[MOST_STEPS];

	if (depth + leaf->count > MOST_STEPS)
		return false;
	for (int i = 0; i < depth; i++)
		steps[i] = above[i];
	for (int i = 0; i < leaf->count; i++)
		steps[depth + i] = leaf->steps[i];
	return es_taint_add(leaves, steps, depth + leaf->count);
}

/* es_taint_add_all adds leaves. */
bool
es_taint_add_all(EsLeaves *leaves, const EsLeaves *more)
{
	bool		fit = true;

	for (int i = 0; i < more->count && fit; i++)
		fit = add_leaf_below(leaves, NULL, 0, &more->items[i]);
	return fit;
}

/* es_taint_add_below adds leaves that lie in a member. */
bool
es_taint_add_below(EsLeaves *leaves, const char *member, const EsLeaves *more)
{
	EsKey		key = es_node_key(member, strlen(member));
	bool		fit = true;

	for (int i = 0; i < more->count && fit; i++)
		fit = add_leaf_below(leaves, &key, 1, &more->items[i]);
	return fit;
}

/* es_taint_take_whole makes the whole document the only leaf. */
void
es_taint_take_whole(EsLeaves *leaves)
{
	leaves->count = 0;
	(void) es_taint_add(leaves, NULL, 0);
}

/* Tells whether a leaf is a whole document. */
static bool
has_whole_document(const EsLeaves *leaves)
{
	for (int i = 0; i < leaves->count; i++)
		if (leaves->items[i].count == 0)
			return true;
	return false;
}

/* ---- what paths take ---- */

/* Tells how a path from member to member lies to a leaf. */
static Bearing
bearing_of_keys(const EsKey *keys, int count, const EsLeaf *leaf)
{
	for (int i = 0; i < count; i++)
	{
		if (i == leaf->count || leaf->steps[i].bytes == NULL)
			return BEARING_INTO;
		if (!is_same_key(&keys[i], &leaf->steps[i]))
			return BEARING_APART;
	}
	return count == leaf->count ? BEARING_AT : BEARING_ABOVE;
}

/* es_taint_meets tells how keys lie to leaves; see taint.h. */
bool
es_taint_meets(const EsLeaves *leaves, const EsKey *keys, int count)
{
	for (int i = 0; i < leaves->count; i++)
		if (bearing_of_keys(keys, count, &leaves->items[i]) != BEARING_APART)
			return true;
	return false;
}

/* Tells whether a chain goes to, into or above a leaf. */
static bool
chain_meets_leaf(const Trail *trail, const Chain *chain)
{
	EsRoot		root;

	if (!chain->known)
		return false;
	if (chain->count == 0)
		return trail->data->count > 0 || trail->state->count > 0;
	root = es_scope_find(chain->keys[0].bytes, chain->keys[0].len);
	if (root != ES_ROOT_DATA && root != ES_ROOT_STATE)
		return false;
	return es_taint_meets(root == ES_ROOT_DATA ? trail->data : trail->state, &chain->keys[1], chain->count - 1);
}

static bool path_meets_leaf(const Trail *trail, JsonPathItem *item, const Chain *current);

/* A look at the parts of an item. */
typedef struct PartLook
{
	const Trail *trail;
	const Chain *current;
} PartLook;

/* Tells whether a part of an item does. */
static bool
part_meets_leaf(JsonPathItem *part, void *arg)
{
	const PartLook *look = arg;

	return path_meets_leaf(look->trail, part, look->current);
}

/* Tells whether one of an item's parts does. */
static bool
item_parts_meet_leaf(const Trail *trail, JsonPathItem *item, const Chain *current)
{
	PartLook	look = {.trail = trail,.current = current};

	return es_path_look_at_parts(item, part_meets_leaf, &look);
}

/* Goes on from where a chain has come to; one that is too long ends there. */
static bool
extend_chain(Chain *chain, JsonPathItem *item)
{
	int32		len;
	char	   *name = jspGetString(item, &len);

	if (chain->count == MOST_STEPS)
		return false;
	chain->keys[chain->count++] = es_node_key(name, len);
	return true;
}

/*
 * Tells whether a path, or a part of one, goes to, into or above a leaf.  Behind array
 * accessors and filters it is where it was before; current is what @ stands for.
 */
static bool
path_meets_leaf(const Trail *trail, JsonPathItem *item, const Chain *current)
{
	JsonPathItem here = *item;
	JsonPathItem next;
	Chain		chain = {.known = here.type == jpiRoot};

	check_stack_depth();
	if (here.type == jpiCurrent)
		chain = *current;
	else if (item_parts_meet_leaf(trail, &here, current))
		return true;
	for (; jspGetNext(&here, &next); here = next)
	{
		CHECK_FOR_INTERRUPTS();
		if (item_parts_meet_leaf(trail, &next, next.type == jpiFilter ? &chain : current))
			return true;
		if (!chain.known || next.type == jpiFilter || next.type == jpiAnyArray || next.type == jpiIndexArray)
			continue;
		if (next.type != jpiKey || !extend_chain(&chain, &next))
		{
			if (chain_meets_leaf(trail, &chain))
				return true;
			chain.known = false;
		}
	}
	return chain_meets_leaf(trail, &chain);
}

/* ---- what values have ---- */

/* Adds the leaves of what a path from member to member takes; false if it looks into one. */
static bool
add_steps_leaves(const Trail *trail, const EsValue *value, EsLeaves *found)
{
	const EsLeaves *leaves = value->root == ES_ROOT_DATA ? trail->data : trail->state;
	int			depth = value->nsteps - 1;

	if (value->root != ES_ROOT_DATA && value->root != ES_ROOT_STATE)
		return true;
	for (int i = 0; i < leaves->count; i++)
	{
		const EsLeaf *leaf = &leaves->items[i];
		Bearing		bearing = bearing_of_keys(&value->steps[1], depth, leaf);

		if (bearing == BEARING_INTO ||
			(bearing != BEARING_APART && !es_taint_add(found, &leaf->steps[depth], leaf->count - depth)))
			return false;
	}
	return true;
}

static bool add_value_leaves(const Trail *trail, const EsValue *value, EsLeaves *found);

/* Adds the leaves of an object's members or an array's elements. */
static bool
add_child_leaves(const Trail *trail, const EsValue *value, EsLeaves *found)
{
	bool		copies = true;

	for (int i = 0; i < value->count && copies; i++)
	{
		EsLeaves	inner = {0};
		const EsKey *key = value->kind == ES_VALUE_OBJECT ? &value->keys[i] : &any_element;

		copies = add_value_leaves(trail, value->values[i], &inner);
		for (int j = 0; j < inner.count && copies; j++)
			copies = add_leaf_below(found, key, 1, &inner.items[j]);
	}
	return copies;
}

/* Adds the leaves of a value; false if it is made of one in another way than by a copy. */
static bool
add_value_leaves(const Trail *trail, const EsValue *value, EsLeaves *found)
{
	JsonPathItem item;
	Chain		nowhere = {false};

	check_stack_depth();
	switch (value->kind)
	{
		case ES_VALUE_CONSTANT:
			return true;
		case ES_VALUE_STEPS:
			return add_steps_leaves(trail, value, found);
		case ES_VALUE_PATH:
			jspInit(&item, value->path);
			return !path_meets_leaf(trail, &item, &nowhere);
		case ES_VALUE_OBJECT:
		case ES_VALUE_ARRAY:
			return add_child_leaves(trail, value, found);
	}
	pg_unreachable();
}

/* ---- what operations do ---- */

/* Of two bearings the one that forbids more. */
static inline Bearing
worse_bearing(Bearing a, Bearing b)
{
	return a > b ? a : b;
}

/*
 * Tells how a target lies to a leaf.  Digits are a key, or the number of an element, and
 * then of an array that a leaf tells of or one that it does not: so after each step there
 * are several steps of the leaf where the target may be.
 */
static Bearing
bearing_of_target(const EsStep *steps, int count, const EsLeaf *leaf)
{
	bool		at[MOST_STEPS + 2] = {true};
	bool		anywhere = true;

	for (int i = 0; i < count && anywhere; i++)
	{
		if (at[leaf->count])
			return BEARING_INTO;
		anywhere = false;
		for (int j = leaf->count - 1; j >= 0; j--)
		{
			const EsKey *key = &leaf->steps[j];

			if (!at[j])
				continue;
			at[j] = key->bytes != NULL && steps[i].number >= 0;
			at[j + 1] |= key->bytes == NULL ? steps[i].number >= 0 : is_same_key(&steps[i].key, key);
			anywhere |= at[j] || at[j + 1];
		}
	}
	if (at[leaf->count])
		return BEARING_AT;
	return anywhere ? BEARING_ABOVE : BEARING_APART;
}

/* Tells how a target lies to the leaf that is nearest in its way. */
static Bearing
bearing_of_target_in(const Trail *trail, const EsOpTarget *target)
{
	Bearing		bearing = BEARING_APART;

	for (int i = 0; i < trail->state->count; i++)
		bearing = worse_bearing(bearing, bearing_of_target(target->steps, target->nsteps, &trail->state->items[i]));
	return bearing;
}

/* Puts leaves of a value at, or in an element of, a target. */
static bool
put_leaves_at_target(const Trail *trail, const EsOpTarget *target, bool in_element, const EsLeaves *leaves)
{
	EsKey		steps[MOST_STEPS];
	int			depth = 0;
	bool		fit = true;

	if (leaves->count == 0)
		return true;
	if (target->nsteps + in_element > MOST_STEPS)
		return false;
	for (; depth < target->nsteps; depth++)
		steps[depth] = target->steps[depth].number < 0 ? target->steps[depth].key : any_element;
	if (in_element)
		steps[depth++] = any_element;
	for (int i = 0; i < leaves->count && fit; i++)
		fit = add_leaf_below(trail->state, steps, depth, &leaves->items[i]);

	/* digits are a key where there is an object */
	for (int i = 0; i < target->nsteps; i++)
		if (target->steps[i].number >= 0)
			steps[i] = target->steps[i].key;
	for (int i = 0; i < leaves->count && fit; i++)
		fit = add_leaf_below(trail->state, steps, depth, &leaves->items[i]);
	return fit;
}

/* Tells whether remove would compare what is at a leaf with a pattern. */
static bool
pattern_meets_leaf(const Trail *trail, const EsOpTarget *target, const EsPattern *pattern)
{
	EsStep	   *steps = palloc((target->nsteps + 2) * sizeof(EsStep));
	bool		meets = false;

	memcpy(steps, target->steps, target->nsteps * sizeof(EsStep));
	steps[target->nsteps] = (EsStep)
	{
		any_number, 0
	};
	steps[target->nsteps + 1] = (EsStep)
	{
		pattern->key, -1
	};
	for (int i = 0; i < trail->state->count && !meets; i++)
		meets = bearing_of_target(steps, target->nsteps + 2, &trail->state->items[i]) != BEARING_APART;
	pfree(steps);
	return meets;
}

/* Follows a target of remove: elements are compared. */
static bool
follow_remove(const Trail *trail, const EsOpTarget *target)
{
	bool		copies = bearing_of_target_in(trail, target) < BEARING_AT;

	for (int i = 0; i < target->npatterns && copies; i++)
	{
		EsLeaves	found = {0};

		copies = add_value_leaves(trail, target->patterns[i].value, &found) && found.count == 0 &&
			!pattern_meets_leaf(trail, target, &target->patterns[i]);
	}
	return copies;
}

/* Follows what an operation does at a target. */
static bool
follow_target(const Trail *trail, const EsOp *op, const EsOpTarget *target)
{
	EsLeaves	found = {0};
	Bearing		bearing = bearing_of_target_in(trail, target);

	if (bearing == BEARING_INTO)
		return false;
	if (op->kind == ES_OP_REMOVE)
		return follow_remove(trail, target);
	if (target->value != NULL && !add_value_leaves(trail, target->value, &found))
		return false;
	switch (op->kind)
	{
		case ES_OP_UNSET:
			return true;
		case ES_OP_SET:
			return put_leaves_at_target(trail, target, false, &found);
		case ES_OP_APPEND:
			return bearing < BEARING_AT && put_leaves_at_target(trail, target, true, &found);
		case ES_OP_MERGE:
			return bearing < BEARING_AT && !has_whole_document(&found) &&
				put_leaves_at_target(trail, target, false, &found);
		default:				/* adds or compares */
			return bearing < BEARING_AT && found.count == 0;
	}
}

/* Follows what an operation does at its targets; all of one where it does more is a leaf. */
static bool
follow_targets(const Trail *trail, const EsOp *op)
{
	EsLeaf		whole_value = {0};
	EsLeaves	whole = {.count = 1,.items = &whole_value};
	bool		copies = true;

	for (int i = 0; i < op->ntargets; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (follow_target(trail, op, &op->targets[i]))
			continue;
		copies = false;
		if (!put_leaves_at_target(trail, &op->targets[i], false, &whole))
			es_taint_take_whole(trail->state);
	}
	return copies;
}

/* Gives the state the leaves of the data at their places. */
static bool
follow_whole_data(const Trail *trail)
{
	bool		fit = es_taint_add_all(trail->state, trail->data);

	if (!fit)
		es_taint_take_whole(trail->state);
	return fit;
}

/* Follows an operation. */
static bool
follow_op(const Trail *trail, const EsOp *op)
{
	switch (op->kind)
	{
		case ES_OP_IGNORE:
			return true;
		case ES_OP_REPLACE:
			return follow_whole_data(trail);
		case ES_OP_MERGE_DATA:
			return follow_whole_data(trail) && !has_whole_document(trail->data) && !has_whole_document(trail->state);
		case ES_OP_MERGE_PATCH:

			/* whether a member is null, or an object, is what it goes by */
			return follow_whole_data(trail) && trail->data->count == 0 && trail->state->count == 0;
		default:
			return follow_targets(trail, op);
	}
}

/* es_taint_ops follows operations; see taint.h. */
bool
es_taint_ops(const EsOps *ops, const EsLeaves *data, EsLeaves *state)
{
	Trail		trail = {data, state};
	bool		copies = true;

	for (int i = 0; i < ops->count; i++)
		if (!follow_op(&trail, &ops->ops[i]))
			copies = false;
	return copies;
}
