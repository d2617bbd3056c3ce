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
 * An opened object keeps its members in an array in order of arrival, and from
 * INDEX_FROM members on a hash table over it, so that finding, adding and
 * removing do not depend on the object's width.  The order that jsonb wants is
 * made when the object is written out, and kept while nothing disturbs it.
 *
 * Invariants: a node of a tree owns its bytes or members, each in a piece of
 * memory of its own, freed when the node is overwritten; so a tree needs no
 * more memory than its present content, however often it was changed.  What is
 * written is what the server itself would write for the same value, byte for
 * byte.
 */
#include "tree.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/numeric.h"

#define INDEX_FROM	9			/* so many members need an index */

typedef struct Member
{
	char	   *key;
	uint32		len;
	uint32		hash;
	EsNode		node;
} Member;

struct EsObject
{
	Member	   *members;
	uint32		count;
	uint32		space;			/* of members */
	uint32	   *slots;			/* member number + 1, or 0; NULL without index */
	uint32		mask;			/* number of slots - 1, a power of two - 1 */
	bool		sorted;			/* members are in jsonb's order of keys */
};

/* A walk through the members of a packed object. */
typedef struct PackedReader
{
	const JsonbContainer *container;
	const char *data;			/* what offsets count from */
	uint32		count;
	uint32		next;
	uint32		key_at;
	uint32		value_at;
} PackedReader;

static JEntry write_node(StringInfo out, EsNode *node);

/* Makes a view of one child of a packed container, which lies at start..end. */
static EsNode
view_entry(JEntry entry, const char *data, uint32 start, uint32 end)
{
	EsNode		node = {ES_NODE_NULL};

	if (JBE_ISNULL(entry))
		return node;
	if (JBE_ISBOOL(entry))
	{
		node.kind = ES_NODE_BOOL;
		node.value.boolean = JBE_ISBOOL_TRUE(entry);
		return node;
	}
	node.kind = JBE_ISSTRING(entry) ? ES_NODE_STRING :
		JBE_ISNUMERIC(entry) ? ES_NODE_NUMBER : ES_NODE_PACKED;
	if (node.kind != ES_NODE_STRING)
		start = INTALIGN(start);	/* its padding comes first */
	node.len = end - start;
	node.value.bytes = (char *) data + start;
	return node;
}

/* es_tree_view makes a view of a whole jsonb. */
EsNode
es_tree_view(const Jsonb *json)
{
	const JsonbContainer *root = &json->root;
	EsNode		node = {ES_NODE_PACKED};

	if (JsonContainerIsScalar(root))
		return view_entry(root->children[0], (const char *) &root->children[1],
						  0, getJsonbLength(root, 0));
	node.len = VARSIZE(json) - offsetof(Jsonb, root);
	node.value.bytes = (char *) root;
	return node;
}

/* es_tree_is_object tells whether a node or view is a JSON object. */
bool
es_tree_is_object(const EsNode *node)
{
	return node->kind == ES_NODE_OBJECT ||
		(node->kind == ES_NODE_PACKED &&
		 JsonContainerIsObject((const JsonbContainer *) node->value.bytes));
}

/* Begins a walk through a packed object. */
static void
begin_members(PackedReader *reader, const EsNode *packed)
{
	reader->container = (const JsonbContainer *) packed->value.bytes;
	reader->count = JsonContainerSize(reader->container);
	reader->data = (const char *) &reader->container->children[2 * reader->count];
	reader->next = 0;
	reader->key_at = 0;
	reader->value_at = reader->count > 0 ? getJsonbOffset(reader->container, reader->count) : 0;
}

/* Gives views of the next member's key and value; false after the last. */
static bool
next_member(PackedReader *reader, EsNode *key, EsNode *value)
{
	uint32		key_start = reader->key_at;
	uint32		value_start = reader->value_at;
	JEntry		key_entry;
	JEntry		value_entry;

	if (reader->next >= reader->count)
		return false;
	key_entry = reader->container->children[reader->next];
	value_entry = reader->container->children[reader->next + reader->count];
	JBE_ADVANCE_OFFSET(reader->key_at, key_entry);
	JBE_ADVANCE_OFFSET(reader->value_at, value_entry);
	*key = view_entry(key_entry, reader->data, key_start, reader->key_at);
	*value = view_entry(value_entry, reader->data, value_start, reader->value_at);
	reader->next++;
	return true;
}

/* Copies bytes into the current memory context. */
static char *
copy_bytes(const char *bytes, uint32 len)
{
	char	   *copy = palloc(Max(len, 1));

	memcpy(copy, bytes, len);
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
			pfree(object->members[i].key);
			release_node(&object->members[i].node);
		}
		pfree(object->members);
		if (object->slots)
			pfree(object->slots);
		pfree(object);
	}
	else if (node->kind >= ES_NODE_NUMBER)
		pfree(node->value.bytes);
}

/* es_tree_set gives a node the value of a view. */
void
es_tree_set(EsNode *target, const EsNode *view)
{
	EsNode		copy = *view;

	Assert(view->kind != ES_NODE_OBJECT);
	if (copy.kind >= ES_NODE_NUMBER)
		copy.value.bytes = copy_bytes(view->value.bytes, view->len);
	release_node(target);
	*target = copy;
}

/* es_tree_set_integer makes a node an integer. */
void
es_tree_set_integer(EsNode *target, int64 value)
{
	Numeric		number = int64_to_numeric(value);

	release_node(target);
	target->kind = ES_NODE_NUMBER;
	target->len = VARSIZE_ANY(number);
	target->value.bytes = (char *) number;
}

/* es_tree_set_string makes a node a string. */
void
es_tree_set_string(EsNode *target, const char *bytes, int len)
{
	EsNode		view = {ES_NODE_STRING, len};

	view.value.bytes = (char *) bytes;
	es_tree_set(target, &view);
}

/* es_tree_clear makes a node null. */
void
es_tree_clear(EsNode *target)
{
	release_node(target);
	target->kind = ES_NODE_NULL;
}

/* Orders keys as jsonb does: shorter ones first, then by bytes. */
static int
compare_keys(const char *a, uint32 alen, const char *b, uint32 blen)
{
	if (alen != blen)
		return alen < blen ? -1 : 1;
	return memcmp(a, b, alen);
}

/* compare_keys for qsort. */
static int
compare_members(const void *a, const void *b)
{
	const Member *left = a;
	const Member *right = b;

	return compare_keys(left->key, left->len, right->key, right->len);
}

/* Enters every member into the index, which must be large enough. */
static void
fill_index(EsObject *object)
{
	memset(object->slots, 0, ((Size) object->mask + 1) * sizeof(uint32));
	for (uint32 i = 0; i < object->count; i++)
	{
		uint32		slot = object->members[i].hash & object->mask;

		while (object->slots[slot] != 0)
			slot = (slot + 1) & object->mask;
		object->slots[slot] = i + 1;
	}
}

/* Makes the index, or a larger one; at most half of its slots are ever used. */
static void
grow_index(EsObject *object)
{
	uint32		nslots = pg_nextpower2_32(object->count * 4);

	if (object->slots)
		pfree(object->slots);
	object->slots = palloc_extended(nslots * sizeof(uint32), MCXT_ALLOC_HUGE);
	object->mask = nslots - 1;
	fill_index(object);
}

/* Finds the slot that holds a member. */
static uint32
slot_of_member(const EsObject *object, uint32 number)
{
	uint32		slot = object->members[number].hash & object->mask;

	while (object->slots[slot] != number + 1)
		slot = (slot + 1) & object->mask;
	return slot;
}

/* Empties a slot and closes the gap in the chains that run through it. */
static void
empty_slot(EsObject *object, uint32 hole)
{
	for (uint32 slot = (hole + 1) & object->mask; object->slots[slot] != 0;
		 slot = (slot + 1) & object->mask)
	{
		uint32		home = object->members[object->slots[slot] - 1].hash & object->mask;

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
has_key(const Member *member, const char *key, uint32 len, uint32 hash)
{
	return member->hash == hash && member->len == len && memcmp(member->key, key, len) == 0;
}

/* Finds a member by its key; -1 if there is none. */
static int64
find_member(const EsObject *object, const char *key, uint32 len, uint32 hash)
{
	if (object->slots)
	{
		uint32		slot = hash & object->mask;

		for (; object->slots[slot] != 0; slot = (slot + 1) & object->mask)
			if (has_key(&object->members[object->slots[slot] - 1], key, len, hash))
				return (int64) object->slots[slot] - 1;
		return -1;
	}
	for (uint32 i = 0; i < object->count; i++)
		if (has_key(&object->members[i], key, len, hash))
			return i;
	return -1;
}

/* Adds a member that is not there yet; its value is null. */
static EsNode *
add_member(EsObject *object, const char *key, uint32 len, uint32 hash)
{
	Member	   *member;

	if (object->count == object->space)
	{
		object->members = repalloc_huge(object->members,
										(Size) object->space * 2 * sizeof(Member));
		object->space *= 2;
	}
	member = &object->members[object->count];
	member->key = copy_bytes(key, len);
	member->len = len;
	member->hash = hash;
	member->node.kind = ES_NODE_NULL;
	if (object->count > 0 && compare_members(member - 1, member) > 0)
		object->sorted = false;
	object->count++;

	if (object->slots == NULL ? object->count >= INDEX_FROM : object->count > object->mask / 2)
		grow_index(object);
	else if (object->slots)
	{
		uint32		slot = hash & object->mask;

		while (object->slots[slot] != 0)
			slot = (slot + 1) & object->mask;
		object->slots[slot] = object->count;
	}
	return &member->node;
}

/* Hashes a key. */
static inline uint32
hash_key(const char *key, uint32 len)
{
	return hash_bytes((const unsigned char *) key, len);
}

/* Makes an object with room for some members. */
static EsObject *
make_object(uint32 space)
{
	EsObject   *object = palloc0(sizeof(EsObject));

	object->space = Max(space, 4);
	object->members = palloc_extended(object->space * sizeof(Member), MCXT_ALLOC_HUGE);
	object->sorted = true;
	return object;
}

/*
 * es_tree_open makes sure that a node is an object whose members can be
 * changed; what is not an object becomes an empty one.
 */
void
es_tree_open(EsNode *target)
{
	EsObject   *object;
	PackedReader reader;
	EsNode		key;
	EsNode		value;

	if (target->kind == ES_NODE_OBJECT)
		return;
	if (es_tree_is_object(target))
	{
		begin_members(&reader, target);
		object = make_object(reader.count);
		while (next_member(&reader, &key, &value))
			es_tree_set(add_member(object, key.value.bytes, key.len,
								   hash_key(key.value.bytes, key.len)), &value);
	}
	else
		object = make_object(0);
	release_node(target);
	target->kind = ES_NODE_OBJECT;
	target->value.object = object;
}

/*
 * es_tree_put finds a member of an opened object, or adds it with the value
 * null.  The result is good until the object's next change.
 */
EsNode *
es_tree_put(EsNode *object, const char *key, int len)
{
	EsObject   *members = object->value.object;
	uint32		hash = hash_key(key, len);
	int64		number = find_member(members, key, len, hash);

	if (number >= 0)
		return &members->members[number].node;
	return add_member(members, key, len, hash);
}

/* es_tree_remove drops a member of an opened object, if it is there. */
void
es_tree_remove(EsNode *object, const char *key, int len)
{
	EsObject   *members = object->value.object;
	int64		number = find_member(members, key, len, hash_key(key, len));
	uint32		last = members->count - 1;

	if (number < 0)
		return;
	if (members->slots)
		empty_slot(members, slot_of_member(members, number));
	pfree(members->members[number].key);
	release_node(&members->members[number].node);
	if (number != last)
	{
		if (members->slots)
			members->slots[slot_of_member(members, last)] = number + 1;
		members->members[number] = members->members[last];
		members->sorted = false;
	}
	members->count = last;
}

/*
 * es_tree_merge lays a view over a node: an object's members over an object's,
 * not deeper.  If either is no object, the view takes the node's place.
 */
void
es_tree_merge(EsNode *target, const EsNode *data)
{
	PackedReader reader;
	EsNode		key;
	EsNode		value;

	if (!es_tree_is_object(data) || !es_tree_is_object(target))
	{
		es_tree_set(target, data);
		return;
	}
	es_tree_open(target);
	begin_members(&reader, data);
	while (next_member(&reader, &key, &value))
		es_tree_set(es_tree_put(target, key.value.bytes, key.len), &value);
}

/* es_tree_merge_patch applies a view to a node as RFC 7396 says. */
void
es_tree_merge_patch(EsNode *target, const EsNode *patch)
{
	PackedReader reader;
	EsNode		key;
	EsNode		value;

	if (!es_tree_is_object(patch))
	{
		es_tree_set(target, patch);
		return;
	}
	check_stack_depth();
	es_tree_open(target);
	begin_members(&reader, patch);
	while (next_member(&reader, &key, &value))
		if (value.kind == ES_NODE_NULL)
			es_tree_remove(target, key.value.bytes, key.len);
		else
			es_tree_merge_patch(es_tree_put(target, key.value.bytes, key.len), &value);
}

/* Appends zero bytes up to the next multiple of four. */
static void
write_padding(StringInfo out)
{
	static const char zeros[4];

	appendBinaryStringInfo(out, zeros, INTALIGN(out->len) - out->len);
}

/* Appends bytes as a scalar's content and gives their length. */
static uint32
write_bytes(StringInfo out, const EsNode *node)
{
	int			start = out->len;

	if (node->kind != ES_NODE_STRING)
		write_padding(out);
	appendBinaryStringInfo(out, node->value.bytes, node->len);
	return out->len - start;
}

/*
 * Stores the entry of a container's child.  end is where the child ends within
 * the container's data; each JB_OFFSET_STRIDE'th entry has that in place of
 * the length.
 */
static void
write_entry(StringInfo out, int entries, uint32 number, JEntry entry, uint32 end)
{
	if (end > JENTRY_OFFLENMASK)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a folded state is larger than a jsonb can be"));
	if (number % JB_OFFSET_STRIDE == 0)
		entry = (entry & JENTRY_TYPEMASK) | end | JENTRY_HAS_OFF;
	memcpy(out->data + entries + number * sizeof(JEntry), &entry, sizeof(JEntry));
}

/* Appends an opened object as a container. */
static void
write_object(StringInfo out, EsObject *object)
{
	uint32		header = object->count | JB_FOBJECT;
	int			entries;
	int			data;

	check_stack_depth();
	if (!object->sorted)
	{
		qsort(object->members, object->count, sizeof(Member), compare_members);
		if (object->slots)
			fill_index(object);
		object->sorted = true;
	}
	appendBinaryStringInfo(out, (char *) &header, sizeof(header));
	entries = out->len;
	enlargeStringInfo(out, object->count * 2 * sizeof(JEntry));
	out->len += object->count * 2 * sizeof(JEntry);
	data = out->len;
	for (uint32 i = 0; i < object->count; i++)
	{
		const Member *member = &object->members[i];

		appendBinaryStringInfo(out, member->key, member->len);
		write_entry(out, entries, i, JENTRY_ISSTRING | member->len, out->len - data);
	}
	for (uint32 i = 0; i < object->count; i++)
	{
		JEntry		entry = write_node(out, &object->members[i].node);

		write_entry(out, entries, object->count + i, entry, out->len - data);
	}
}

/* Appends a node's content and gives the entry that describes it. */
static JEntry
write_node(StringInfo out, EsNode *node)
{
	int			start = out->len;

	switch (node->kind)
	{
		case ES_NODE_NULL:
			return JENTRY_ISNULL;
		case ES_NODE_BOOL:
			return node->value.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case ES_NODE_NUMBER:
			return JENTRY_ISNUMERIC | write_bytes(out, node);
		case ES_NODE_STRING:
			return JENTRY_ISSTRING | write_bytes(out, node);
		case ES_NODE_PACKED:
			return JENTRY_ISCONTAINER | write_bytes(out, node);
		case ES_NODE_OBJECT:
			write_padding(out);
			write_object(out, node->value.object);
			return JENTRY_ISCONTAINER | (out->len - start);
	}
	pg_unreachable();
}

/*
 * es_tree_to_jsonb makes the jsonb of a node or view, in the current memory
 * context.  A scalar gets the array of one element that jsonb wraps it in.
 */
Jsonb *
es_tree_to_jsonb(EsNode *root)
{
	StringInfoData out;
	int32		length = 0;		/* filled in at the end */

	initStringInfo(&out);
	appendBinaryStringInfo(&out, (char *) &length, sizeof(length));
	if (root->kind == ES_NODE_OBJECT)
		write_object(&out, root->value.object);
	else if (root->kind == ES_NODE_PACKED)
		(void) write_bytes(&out, root);
	else
	{
		uint32		header = 1 | JB_FSCALAR | JB_FARRAY;
		JEntry		entry = 0;

		appendBinaryStringInfo(&out, (char *) &header, sizeof(header));
		appendBinaryStringInfo(&out, (char *) &entry, sizeof(entry));
		entry = write_node(&out, root);
		write_entry(&out, offsetof(Jsonb, root.children), 0, entry, JBE_OFFLENFLD(entry));
	}
	SET_VARSIZE(out.data, out.len);
	return (Jsonb *) out.data;
}
