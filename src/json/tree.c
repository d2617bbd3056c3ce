/*
 * tree.c
 *		A JSON value that can be changed in place, for folding.
 *
 * jsonb is made for reading: changing one key of it copies all of it, so a
 * fold over a wide state costs its whole size for each event.  Here a state is
 * taken apart only where something changes it.  A value that is merely carried
 * along, such as a nested object that an event brought, stays packed, in
 * jsonb's own form, and is copied as bytes on the way in and on the way out.
 *
 * An opened object keeps its members in an array.  While they are few it is in the
 * order that jsonb wants, in which they are found and have their places.  From INDEX_FROM
 * members on it is in order of arrival, with a hash table over it, so that finding, adding
 * and removing do not depend on the object's width; jsonb's order is made when the object
 * is written out (pack.c), and kept while nothing disturbs it.  An opened array is an
 * array of nodes.
 *
 * Invariants: a node of a tree owns its bytes, members or elements, each in a
 * piece of memory of its own, which is used again for a value that needs as large a
 * piece and freed for another; so a tree needs no more memory than its present
 * content, however often it was changed.  An object without an index is sorted, and the
 * hashes of its keys mean nothing.
 */
#include "json/tree.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"

#define INDEX_FROM	17			/* so many members need an index */
#define LEAST_SPACE	8			/* members of an object */
#define LEAST_PIECE	16			/* bytes of memory */
#define MOST_ROUNDED	4096	/* bytes */

/*
 * The size of the piece of memory for so many bytes: what the allocator takes for them in any
 * case, for all but the smallest and the largest values.
 */
static inline Size
size_of_piece(uint32 len)
{
	return len <= LEAST_PIECE ? LEAST_PIECE : len <= MOST_ROUNDED ? pg_nextpower2_32(len) : len;
}

/* Copies a value's bytes into the current memory context. */
static char *
copy_value_bytes(const char *bytes, uint32 len)
{
	char	   *copy = palloc(size_of_piece(len));

	memcpy(copy, bytes, len);
	return copy;
}

/* Copies a key's bytes into the current memory context. */
static char *
copy_key_bytes(const EsKey *key)
{
	char	   *copy = palloc(Max(key->len, 1));

	memcpy(copy, key->bytes, key->len);
	return copy;
}

/* Frees what a node owns; the node itself is undefined afterwards. */
static void
release_node(EsNode *node)
{
	if (node->kind == ES_NODE_OBJECT)
	{
		EsObject   *object = node->value.object;

		check_stack_depth();
		for (uint32 i = 0; i < object->count; i++)
		{
			pfree((char *) object->members[i].key.bytes);
			release_node(&object->members[i].node);
		}
		pfree(object->members);
		if (object->slots)
			pfree(object->slots);
		pfree(object);
	}
	else if (node->kind == ES_NODE_ARRAY)
	{
		EsArray    *array = node->value.array;

		check_stack_depth();
		for (uint32 i = 0; i < array->count; i++)
			release_node(&array->elements[i]);
		pfree(array->elements);
		pfree(array);
	}
	else if (es_node_has_bytes(node))
		pfree(node->value.bytes);
}

/*
 * es_tree_set gives a node the value of a view, which may be of a part of the
 * very node.
 */
void
es_tree_set(EsNode *target, const EsNode *view)
{
	EsNode		copy = *view;

	Assert(view->kind != ES_NODE_OBJECT && view->kind != ES_NODE_ARRAY);
	if (es_node_has_bytes(view))
	{
		if (es_node_has_bytes(target) &&
			(target->len == view->len || size_of_piece(target->len) == size_of_piece(view->len)))
		{
			memmove(target->value.bytes, view->value.bytes, view->len);
			target->kind = view->kind;
			target->len = view->len;
			return;
		}
		copy.value.bytes = copy_value_bytes(view->value.bytes, view->len);
	}
	if (target->kind != ES_NODE_ABSENT)
		release_node(target);
	*target = copy;
}

/* es_tree_compare_keys orders two EsKeys as jsonb does: shorter ones first, then by bytes. */
int
es_tree_compare_keys(const void *a, const void *b)
{
	const EsKey *left = a;
	const EsKey *right = b;

	if (left->len != right->len)
		return left->len < right->len ? -1 : 1;
	return memcmp(left->bytes, right->bytes, left->len);
}

/* Orders members by their keys, for qsort. */
static int
compare_object_members(const void *a, const void *b)
{
	return es_tree_compare_keys(&((const EsMember *) a)->key, &((const EsMember *) b)->key);
}

/* Enters every member into the index, which must be large enough. */
static void
fill_member_index(EsObject *object)
{
	memset(object->slots, 0, ((Size) object->mask + 1) * sizeof(uint32));
	for (uint32 i = 0; i < object->count; i++)
	{
		uint32		slot = object->members[i].key.hash & object->mask;

		CHECK_FOR_INTERRUPTS();
		while (object->slots[slot] != 0)
			slot = (slot + 1) & object->mask;
		object->slots[slot] = i + 1;
	}
}

/* Makes the index, or a larger one; at most half of its slots are ever used. */
static void
grow_member_index(EsObject *object)
{
	uint32		nslots = pg_nextpower2_32(object->count * 4);

	if (object->slots)
		pfree(object->slots);
	else
		for (uint32 i = 0; i < object->count; i++)
			object->members[i].key = es_node_key(object->members[i].key.bytes, object->members[i].key.len);
	object->slots = palloc_extended(nslots * sizeof(uint32), MCXT_ALLOC_HUGE);
	object->mask = nslots - 1;
	fill_member_index(object);
}

/* Finds the slot that holds a member. */
static uint32
slot_of_member(const EsObject *object, uint32 number)
{
	uint32		slot = object->members[number].key.hash & object->mask;

	while (object->slots[slot] != number + 1)
		slot = (slot + 1) & object->mask;
	return slot;
}

/* Empties a slot and closes the gap in the chains that run through it. */
static void
empty_index_slot(EsObject *object, uint32 hole)
{
	for (uint32 slot = (hole + 1) & object->mask; object->slots[slot] != 0;
		 slot = (slot + 1) & object->mask)
	{
		uint32		home = object->members[object->slots[slot] - 1].key.hash & object->mask;

		if (((slot - home) & object->mask) >= ((slot - hole) & object->mask))
		{
			object->slots[hole] = object->slots[slot];
			hole = slot;
		}
	}
	object->slots[hole] = 0;
}

/* Tells whether a member has this key. */
static inline bool
member_has_key(const EsMember *member, const EsKey *key)
{
	return member->key.hash == key->hash && member->key.len == key->len &&
		memcmp(member->key.bytes, key->bytes, key->len) == 0;
}

/* Finds a member in the index; -1 if there is none. */
static int64
find_indexed_member(const EsObject *object, const EsKey *key)
{
	uint32		slot = key->hash & object->mask;

	for (; object->slots[slot] != 0; slot = (slot + 1) & object->mask)
		if (member_has_key(&object->members[object->slots[slot] - 1], key))
			return (int64) object->slots[slot] - 1;
	return -1;
}

/*
 * Finds the place of a key, which is none before *place, among few members: false if it is that
 * of another one, or the end.
 */
static inline bool
find_key_place(const EsObject *object, const EsKey *key, uint32 *place)
{
	uint32		i;

	for (i = *place; i < object->count; i++)
	{
		const EsKey *other = &object->members[i].key;

		if (other->len >= key->len)
		{
			int			order = other->len > key->len ? 1 : es_node_order_bytes(other->bytes, key->bytes, key->len);

			if (order >= 0)
			{
				*place = i;
				return order == 0;
			}
		}
	}
	*place = i;
	return false;
}

/* Finds a member by its key; -1 if there is none. */
static int64
find_object_member(const EsObject *object, const EsKey *key)
{
	uint32		place = 0;

	if (object->slots)
		return find_indexed_member(object, key);
	return find_key_place(object, key, &place) ? (int64) place : -1;
}

/* Makes room for a member more in a place, and puts it there, without a value. */
static EsMember *
insert_object_member(EsObject *object, uint32 place, const EsKey *key)
{
	char	   *bytes = copy_key_bytes(key);
	EsMember   *member;

	if (object->count == object->space)
	{
		object->members = repalloc_huge(object->members,
										(Size) object->space * 2 * sizeof(EsMember));
		object->space *= 2;
	}
	member = &object->members[place];
	memmove(member + 1, member, (object->count - place) * sizeof(EsMember));
	member->key = *key;
	member->key.bytes = bytes;
	member->node.kind = ES_NODE_ABSENT;
	object->count++;
	return member;
}

/* Adds a member that is not there yet to an object with an index, without a value. */
static EsNode *
add_indexed_member(EsObject *object, const EsKey *key)
{
	EsMember   *member = insert_object_member(object, object->count, key);

	if (object->count > 1 && compare_object_members(member - 1, member) > 0)
		object->sorted = false;
	if (object->count > object->mask / 2)
		grow_member_index(object);
	else
	{
		uint32		slot = key->hash & object->mask;

		while (object->slots[slot] != 0)
			slot = (slot + 1) & object->mask;
		object->slots[slot] = object->count;
	}
	return &member->node;
}

/* Does what es_tree_put does with few members, of which none before *place has the key. */
static EsNode *
put_sorted_member(EsObject *object, const EsKey *key, uint32 *place)
{
	EsMember   *member;

	if (find_key_place(object, key, place))
		return &object->members[*place].node;
	member = insert_object_member(object, *place, key);
	if (object->count >= INDEX_FROM)
		grow_member_index(object);
	return &member->node;
}

/* Makes an object with room for some members. */
static EsObject *
make_tree_object(uint32 space)
{
	EsObject   *object = palloc0(sizeof(EsObject));

	object->space = Max(space, LEAST_SPACE);
	object->members = palloc_extended(object->space * sizeof(EsMember), MCXT_ALLOC_HUGE);
	object->sorted = true;
	return object;
}

/*
 * es_tree_open_object makes sure that a node is an object whose members can be
 * changed; what is not an object becomes an empty one.
 */
void
es_tree_open_object(EsNode *target)
{
	EsObject   *object;
	EsPackedReader reader;
	EsNode		name;
	EsNode		value;

	if (target->kind == ES_NODE_OBJECT)
		return;
	if (es_node_is_packed_object(target))
	{
		es_node_begin_members(&reader, target);
		object = make_tree_object(reader.count);
		while (es_node_next_member(&reader, &name, &value))
		{
			EsKey		key = {name.value.bytes, name.len};

			CHECK_FOR_INTERRUPTS();
			es_tree_set(&insert_object_member(object, object->count, &key)->node, &value);
		}
		if (object->count >= INDEX_FROM)
			grow_member_index(object);
	}
	else
		object = make_tree_object(0);
	release_node(target);
	target->kind = ES_NODE_OBJECT;
	target->value.object = object;
}

/*
 * es_tree_open_array makes sure that a node is an array whose elements can be
 * changed; what is not an array becomes an empty one.
 */
void
es_tree_open_array(EsNode *target)
{
	EsArray    *array;
	EsPackedReader reader = {0};
	EsNode		value;

	if (target->kind == ES_NODE_ARRAY)
		return;
	if (es_node_is_array(target))
		es_node_begin_elements(&reader, target);
	array = palloc0(sizeof(EsArray));
	array->space = Max(reader.count, 4);
	array->elements = palloc_extended(array->space * sizeof(EsNode), MCXT_ALLOC_HUGE);
	while (reader.count > 0 && es_node_next_element(&reader, &value))
	{
		CHECK_FOR_INTERRUPTS();
		array->elements[array->count].kind = ES_NODE_ABSENT;
		es_tree_set(&array->elements[array->count++], &value);
	}
	release_node(target);
	target->kind = ES_NODE_ARRAY;
	target->value.array = array;
}

/*
 * es_tree_put finds a member of an opened object, or adds it without a value,
 * which the caller must give it.  The result is good until the object's next
 * change.
 */
EsNode *
es_tree_put(EsNode *object, const EsKey *key)
{
	EsObject   *members = object->value.object;
	uint32		place = 0;
	int64		number;

	if (members->slots == NULL)
		return put_sorted_member(members, key, &place);
	number = find_indexed_member(members, key);
	return number >= 0 ? &members->members[number].node : add_indexed_member(members, key);
}

/* es_tree_find finds a member of an opened object; NULL if there is none. */
EsNode *
es_tree_find(const EsNode *object, const EsKey *key)
{
	int64		number = find_object_member(object->value.object, key);

	return number < 0 ? NULL : &object->value.object->members[number].node;
}

/*
 * es_tree_member finds a member of an object, opened or packed; NULL if there is none.
 * What it gives of a packed one is a view, put where the caller says.
 */
EsNode *
es_tree_member(const EsNode *object, const EsKey *key, EsNode *view)
{
	if (object->kind == ES_NODE_OBJECT)
		return es_tree_find(object, key);
	return es_node_find_packed(object, key, view) ? view : NULL;
}

/* es_tree_remove drops a member of an opened object, if it is there. */
void
es_tree_remove(EsNode *object, const EsKey *key)
{
	EsObject   *members = object->value.object;
	int64		number = find_object_member(members, key);
	uint32		last = members->count - 1;

	if (number < 0)
		return;
	if (members->slots)
		empty_index_slot(members, slot_of_member(members, number));
	pfree((char *) members->members[number].key.bytes);
	release_node(&members->members[number].node);
	members->count = last;
	if (members->slots == NULL)
		memmove(&members->members[number], &members->members[number + 1], (last - number) * sizeof(EsMember));
	else if (number != last)
	{
		members->slots[slot_of_member(members, last)] = number + 1;
		members->members[number] = members->members[last];
		members->sorted = false;
	}
}

/* es_tree_length tells how many elements an opened array has. */
uint32
es_tree_length(const EsNode *array)
{
	return array->value.array->count;
}

/* es_tree_element gives an element of an opened array, good until its next change. */
EsNode *
es_tree_element(const EsNode *array, uint32 number)
{
	return &array->value.array->elements[number];
}

/*
 * es_tree_push adds an element without a value, which the caller must give it, to
 * an opened array.
 */
EsNode *
es_tree_push(EsNode *array)
{
	EsArray    *elements = array->value.array;
	EsNode	   *added;

	if (elements->count == elements->space)
	{
		elements->elements = repalloc_huge(elements->elements,
										   (Size) elements->space * 2 * sizeof(EsNode));
		elements->space *= 2;
	}
	added = &elements->elements[elements->count++];
	added->kind = ES_NODE_ABSENT;
	return added;
}

/* es_tree_remove_element drops an element of an opened array; those behind it move up. */
void
es_tree_remove_element(EsNode *array, uint32 number)
{
	EsArray    *elements = array->value.array;

	release_node(&elements->elements[number]);
	elements->count--;
	memmove(&elements->elements[number], &elements->elements[number + 1],
			(elements->count - number) * sizeof(EsNode));
}

/* es_tree_drop_elements drops the elements of an opened array that a function picks. */
void
es_tree_drop_elements(EsNode *array, bool (*drops) (EsNode *element, void *arg), void *arg)
{
	EsArray    *elements = array->value.array;
	uint32		kept = 0;

	for (uint32 i = 0; i < elements->count; i++)
		if (drops(&elements->elements[i], arg))
			release_node(&elements->elements[i]);
		else
			elements->elements[kept++] = elements->elements[i];
	elements->count = kept;
}

/*
 * es_tree_merge lays a view over a node: an object's members over an object's,
 * not deeper.  If either is no object, the view takes the node's place.
 */
void
es_tree_merge(EsNode *target, const EsNode *data)
{
	EsPackedReader reader;
	EsNode		name;
	EsNode		value;
	EsObject   *object;
	uint32		place = 0;

	if (!es_node_is_object(data) || !es_node_is_object(target))
	{
		es_tree_set(target, data);
		return;
	}
	es_tree_open_object(target);
	object = target->value.object;
	es_node_begin_members(&reader, data);
	while (es_node_next_member(&reader, &name, &value))
	{
		CHECK_FOR_INTERRUPTS();
		if (object->slots == NULL)
		{
			EsKey		key = {name.value.bytes, name.len};

			/* both are in order */
			es_tree_set(put_sorted_member(object, &key, &place), &value);
		}
		else
		{
			EsKey		key = es_node_key(name.value.bytes, name.len);

			es_tree_set(es_tree_put(target, &key), &value);
		}
	}
}

/* es_tree_merge_patch applies a view to a node as RFC 7396 says. */
void
es_tree_merge_patch(EsNode *target, const EsNode *patch)
{
	EsPackedReader reader;
	EsNode		name;
	EsNode		value;

	if (!es_node_is_object(patch))
	{
		es_tree_set(target, patch);
		return;
	}
	check_stack_depth();
	es_tree_open_object(target);
	es_node_begin_members(&reader, patch);
	while (es_node_next_member(&reader, &name, &value))
	{
		EsKey		key = es_node_key(name.value.bytes, name.len);

		CHECK_FOR_INTERRUPTS();
		if (value.kind == ES_NODE_NULL)
			es_tree_remove(target, &key);
		else
			es_tree_merge_patch(es_tree_put(target, &key), &value);
	}
}

/* es_tree_sort brings an opened object's members into the order that jsonb wants. */
void
es_tree_sort(EsObject *object)
{
	if (object->sorted)
		return;
	qsort(object->members, object->count, sizeof(EsMember), compare_object_members);
	if (object->slots)
		fill_member_index(object);
	object->sorted = true;
}
