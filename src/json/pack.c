/*
 * pack.c
 *		Trees and values written in jsonb's own form.
 *
 * What is written is what the server itself would write for the same value,
 * byte for byte: members in order of keys, numbers and containers aligned,
 * every JB_OFFSET_STRIDE'th child with where it ends in place of its length.
 *
 * First it is found out how long it becomes, and that a jsonb can be so; then it is written, in
 * one piece of memory, without a look at its end.
 */
#include "json/pack.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "json/tree.h"

static Size measure_packed_node(EsNode *node, Size at);
static char *write_node(char *out, EsNode *node, JEntry *entry);

/* ---- measuring ---- */

/* Raises 54000 for what has no room in a jsonb. */
static void
refuse_large_value(void)
{
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("a JSON value is larger than a jsonb can be"));
}

/* Gives where the entries of a container's children end, and its data begin. */
static inline Size
measure_entries(Size at, Size count)
{
	if (count > JENTRY_OFFLENMASK / sizeof(JEntry))
		refuse_large_value();
	return at + sizeof(uint32) + count * sizeof(JEntry);
}

/* Gives where an opened object ends that begins at an offset. */
static Size
measure_object(EsObject *object, Size at)
{
	Size		data = measure_entries(at, (Size) object->count * 2);
	Size		end = data;

	check_stack_depth();
	es_tree_sort(object);
	for (uint32 i = 0; i < object->count; i++)
		end += object->members[i].key.len;
	for (uint32 i = 0; i < object->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		end = measure_packed_node(&object->members[i].node, end);
		if (end - data > JENTRY_OFFLENMASK)
			refuse_large_value();
	}
	return end;
}

/* Gives where an opened array ends that begins at an offset. */
static Size
measure_array(EsArray *array, Size at)
{
	Size		data = measure_entries(at, array->count);
	Size		end = data;

	check_stack_depth();
	for (uint32 i = 0; i < array->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		end = measure_packed_node(&array->elements[i], end);
		if (end - data > JENTRY_OFFLENMASK)
			refuse_large_value();
	}
	return end;
}

/* Gives where a node's content ends that follows what ends at an offset. */
static Size
measure_packed_node(EsNode *node, Size at)
{
	switch (node->kind)
	{
		case ES_NODE_ABSENT:
			break;
		case ES_NODE_NULL:
		case ES_NODE_BOOL:
			return at;
		case ES_NODE_STRING:
			return at + node->len;
		case ES_NODE_NUMBER:
		case ES_NODE_PACKED:
			return INTALIGN(at) + node->len;
		case ES_NODE_OBJECT:
			return measure_object(node->value.object, INTALIGN(at));
		case ES_NODE_ARRAY:
			return measure_array(node->value.array, INTALIGN(at));
	}
	elog(ERROR, "a value is missing in a JSON tree");
}

/* ---- writing ---- */

/* Writes zero bytes up to the next multiple of four. */
static inline char *
write_padding(char *out)
{
	while (((uintptr_t) out & 3) != 0)
		*out++ = 0;
	return out;
}

/* Writes bytes. */
static inline char *
write_bytes(char *out, const char *bytes, uint32 len)
{
	memcpy(out, bytes, len);
	return out + len;
}

/*
 * Stores the entry of a container's child, which ends so far into the container's data; each
 * JB_OFFSET_STRIDE'th entry has that in place of the length.
 */
static inline void
store_entry(JEntry *entries, uint32 number, JEntry entry, uint32 end)
{
	entries[number] = number % JB_OFFSET_STRIDE == 0 ? (entry & JENTRY_TYPEMASK) | end | JENTRY_HAS_OFF : entry;
}

/* Writes an opened object as a container. */
static char *
write_object(char *out, EsObject *object)
{
	JEntry	   *entries = (JEntry *) (out + sizeof(uint32));
	char	   *data = (char *) &entries[(Size) object->count * 2];

	check_stack_depth();
	*(uint32 *) out = object->count | JB_FOBJECT;
	out = data;
	for (uint32 i = 0; i < object->count; i++)
	{
		const EsKey *key = &object->members[i].key;

		out = write_bytes(out, key->bytes, key->len);
		store_entry(entries, i, JENTRY_ISSTRING | key->len, out - data);
	}
	for (uint32 i = 0; i < object->count; i++)
	{
		JEntry		entry;

		CHECK_FOR_INTERRUPTS();
		out = write_node(out, &object->members[i].node, &entry);
		store_entry(entries, object->count + i, entry, out - data);
	}
	return out;
}

/* Writes an opened array as a container. */
static char *
write_array(char *out, EsArray *array)
{
	JEntry	   *entries = (JEntry *) (out + sizeof(uint32));
	char	   *data = (char *) &entries[array->count];

	check_stack_depth();
	*(uint32 *) out = array->count | JB_FARRAY;
	out = data;
	for (uint32 i = 0; i < array->count; i++)
	{
		JEntry		entry;

		CHECK_FOR_INTERRUPTS();
		out = write_node(out, &array->elements[i], &entry);
		store_entry(entries, i, entry, out - data);
	}
	return out;
}

/* Writes a node's content, which has been measured; *entry becomes what describes it. */
static char *
write_node(char *out, EsNode *node, JEntry *entry)
{
	char	   *start = out;

	switch (node->kind)
	{
		case ES_NODE_ABSENT:
		case ES_NODE_NULL:
			*entry = JENTRY_ISNULL;
			return out;
		case ES_NODE_BOOL:
			*entry = node->value.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
			return out;
		case ES_NODE_STRING:
			*entry = JENTRY_ISSTRING | node->len;
			return write_bytes(out, node->value.bytes, node->len);
		case ES_NODE_NUMBER:
			out = write_bytes(write_padding(out), node->value.bytes, node->len);
			*entry = JENTRY_ISNUMERIC | (out - start);
			return out;
		case ES_NODE_PACKED:
			out = write_bytes(write_padding(out), node->value.bytes, node->len);
			break;
		case ES_NODE_OBJECT:
			out = write_object(write_padding(out), node->value.object);
			break;
		case ES_NODE_ARRAY:
			out = write_array(write_padding(out), node->value.array);
			break;
	}
	*entry = JENTRY_ISCONTAINER | (out - start);
	return out;
}

/* Begins a jsonb of a size. */
static Jsonb *
begin_jsonb(Size size)
{
	Jsonb	   *json = palloc(size);

	SET_VARSIZE(json, size);
	return json;
}

/* Makes the jsonb of a scalar: the array of one element that jsonb wraps it in. */
static Jsonb *
pack_scalar(EsNode *scalar)
{
	Size		data = measure_entries(offsetof(Jsonb, root), 1);
	Size		end = measure_packed_node(scalar, data);
	Jsonb	   *json;
	JEntry		entry;

	if (end - data > JENTRY_OFFLENMASK)
		refuse_large_value();
	json = begin_jsonb(end);
	json->root.header = 1 | JB_FSCALAR | JB_FARRAY;
	(void) write_node((char *) &json->root.children[1], scalar, &entry);
	store_entry(json->root.children, 0, entry, JBE_OFFLENFLD(entry));
	return json;
}

/* Makes the jsonb of an opened object. */
static Jsonb *
pack_opened_object(EsObject *object)
{
	Jsonb	   *json = begin_jsonb(measure_object(object, offsetof(Jsonb, root)));

	(void) write_object((char *) &json->root, object);
	return json;
}

/* Makes the jsonb of an opened array. */
static Jsonb *
pack_opened_array(EsArray *array)
{
	Jsonb	   *json = begin_jsonb(measure_array(array, offsetof(Jsonb, root)));

	(void) write_array((char *) &json->root, array);
	return json;
}

/*
 * es_pack_jsonb makes the jsonb of a node or view, in the current memory
 * context.
 */
Jsonb *
es_pack_jsonb(EsNode *root)
{
	Jsonb	   *json;

	if (root->kind == ES_NODE_OBJECT)
		return pack_opened_object(root->value.object);
	if (root->kind == ES_NODE_ARRAY)
		return pack_opened_array(root->value.array);
	if (root->kind != ES_NODE_PACKED)
		return pack_scalar(root);
	json = begin_jsonb(offsetof(Jsonb, root) + root->len);
	memcpy(&json->root, root->value.bytes, root->len);
	return json;
}

/*
 * es_pack_node gives a node's value as one that owes nothing to the tree, in the
 * current memory context.
 */
EsNode
es_pack_node(EsNode *node)
{
	EsNode		copy = *node;

	if (node->kind == ES_NODE_OBJECT || node->kind == ES_NODE_ARRAY)
		return es_node_view(es_pack_jsonb(node));
	if (es_node_has_bytes(node))
	{
		copy.value.bytes = palloc(Max(node->len, 1));
		memcpy(copy.value.bytes, node->value.bytes, node->len);
	}
	return copy;
}

/*
 * es_pack_object_jsonb makes the jsonb of an object of values, whose keys are in jsonb's order,
 * in the current memory context.
 */
Jsonb *
es_pack_object_jsonb(const EsKey *keys, const EsNode *values, int count)
{
	EsObject	object = {.members = palloc(Max(count, 1) * sizeof(EsMember)),.count = count,.sorted = true};
	Jsonb	   *json;

	for (int i = 0; i < count; i++)
	{
		object.members[i].key = keys[i];
		object.members[i].node = values[i];
	}
	json = pack_opened_object(&object);
	pfree(object.members);
	return json;
}

/* es_pack_object makes the same object as a view. */
EsNode
es_pack_object(const EsKey *keys, const EsNode *values, int count)
{
	return es_node_view(es_pack_object_jsonb(keys, values, count));
}

/* es_pack_array makes an array of values, in the current memory context. */
EsNode
es_pack_array(const EsNode *values, int count)
{
	EsArray		array = {.elements = (EsNode *) values,.count = count};

	return es_node_view(pack_opened_array(&array));
}

/* ---- comparing ---- */

/* Tells whether two strings are the same. */
static inline bool
is_same_string(const EsNode *a, const EsNode *b)
{
	return a->len == b->len && memcmp(a->value.bytes, b->value.bytes, a->len) == 0;
}

/*
 * Tells whether two packed containers are the same.  Where they lie, child by child: not by
 * compareJsonbContainers, which compares strings by the database's collation to tell which is
 * less, and cannot be interrupted.
 */
static bool
is_same_packed(const EsNode *a, const EsNode *b)
{
	bool		objects = es_node_is_packed_object(a);
	EsPackedReader left;
	EsPackedReader right;
	EsNode		names[2];
	EsNode		children[2];

	check_stack_depth();
	if (es_node_is_packed_object(b) != objects)
		return false;
	if (!objects)
	{
		es_node_begin_elements(&left, a);
		es_node_begin_elements(&right, b);
		if (left.count != right.count)
			return false;
		while (es_node_next_element(&left, &children[0]) && es_node_next_element(&right, &children[1]))
			if (!es_pack_equal(&children[0], &children[1]))
				return false;
		return true;
	}
	es_node_begin_members(&left, a);
	es_node_begin_members(&right, b);
	if (left.count != right.count)
		return false;
	while (es_node_next_member(&left, &names[0], &children[0]) && es_node_next_member(&right, &names[1], &children[1]))
		if (!is_same_string(&names[0], &names[1]) || !es_pack_equal(&children[0], &children[1]))
			return false;
	return true;
}

/* Tells whether an opened container is the same as another value; it is written out for that. */
static bool
is_same_as_opened(EsNode *opened, EsNode *other)
{
	Jsonb	   *json;
	EsNode		packed;
	bool		same;

	if (opened->kind == ES_NODE_OBJECT ? !es_node_is_object(other) : !es_node_is_array(other))
		return false;
	json = es_pack_jsonb(opened);
	packed = es_node_view(json);
	same = es_pack_equal(other, &packed);
	pfree(json);
	return same;
}

/*
 * es_pack_equal tells whether two values are the same, as jsonb's = does.  It leaves nothing in
 * the current memory context.
 */
bool
es_pack_equal(EsNode *a, EsNode *b)
{
	CHECK_FOR_INTERRUPTS();
	if (a->kind == ES_NODE_OBJECT || a->kind == ES_NODE_ARRAY)
		return is_same_as_opened(a, b);
	if (b->kind == ES_NODE_OBJECT || b->kind == ES_NODE_ARRAY)
		return is_same_as_opened(b, a);
	if (a->kind != b->kind)
		return false;
	switch (a->kind)
	{
		case ES_NODE_NULL:
			return true;
		case ES_NODE_BOOL:
			return a->value.boolean == b->value.boolean;
		case ES_NODE_STRING:
			return is_same_string(a, b);
		case ES_NODE_NUMBER:
			return DatumGetBool(DirectFunctionCall2(numeric_eq, PointerGetDatum(a->value.bytes),
													PointerGetDatum(b->value.bytes)));
		case ES_NODE_PACKED:
			return is_same_packed(a, b);
		default:
			elog(ERROR, "a value is missing in a JSON tree");
	}
}
