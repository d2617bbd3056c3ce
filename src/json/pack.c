/*
 * pack.c
 *		Trees and values written in jsonb's own form.
 *
 * What is written is what the server itself would write for the same value,
 * byte for byte: members in order of keys, numbers and containers aligned,
 * every JB_OFFSET_STRIDE'th child with where it ends in place of its length.
 */
#include "json/pack.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "json/tree.h"

static JEntry write_node(StringInfo out, EsNode *node);

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

/* Raises 54000 for what has no room in a jsonb. */
static void
refuse_large_state(void)
{
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("a folded state is larger than a jsonb can be"));
}

/* Makes room for the entries of a container and gives where they are. */
static int
reserve_entries(StringInfo out, Size count)
{
	int			entries = out->len;

	if (count > JENTRY_OFFLENMASK / sizeof(JEntry))
		refuse_large_state();
	enlargeStringInfo(out, count * sizeof(JEntry));
	out->len += count * sizeof(JEntry);
	return entries;
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
		refuse_large_state();
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
	es_tree_sort(object);
	appendBinaryStringInfo(out, (char *) &header, sizeof(header));
	entries = reserve_entries(out, (Size) object->count * 2);
	data = out->len;
	for (uint32 i = 0; i < object->count; i++)
	{
		const EsKey *key = &object->members[i].key;

		appendBinaryStringInfo(out, key->bytes, key->len);
		write_entry(out, entries, i, JENTRY_ISSTRING | key->len, out->len - data);
	}
	for (uint32 i = 0; i < object->count; i++)
	{
		JEntry		entry = write_node(out, &object->members[i].node);

		CHECK_FOR_INTERRUPTS();
		write_entry(out, entries, object->count + i, entry, out->len - data);
	}
}

/* Appends an opened array as a container. */
static void
write_array(StringInfo out, EsArray *array)
{
	uint32		header = array->count | JB_FARRAY;
	int			entries;
	int			data;

	check_stack_depth();
	appendBinaryStringInfo(out, (char *) &header, sizeof(header));
	entries = reserve_entries(out, array->count);
	data = out->len;
	for (uint32 i = 0; i < array->count; i++)
	{
		JEntry		entry = write_node(out, &array->elements[i]);

		CHECK_FOR_INTERRUPTS();
		write_entry(out, entries, i, entry, out->len - data);
	}
}

/* Appends a node's content and gives the entry that describes it. */
static JEntry
write_node(StringInfo out, EsNode *node)
{
	int			start = out->len;

	switch (node->kind)
	{
		case ES_NODE_ABSENT:
			break;
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
		case ES_NODE_ARRAY:
			write_padding(out);
			write_array(out, node->value.array);
			return JENTRY_ISCONTAINER | (out->len - start);
	}
	elog(ERROR, "a value is missing in a JSON tree");
}

/* Begins a jsonb; its length is filled in at the end. */
static void
begin_jsonb(StringInfo out)
{
	int32		length = 0;

	initStringInfo(out);
	appendBinaryStringInfo(out, (char *) &length, sizeof(length));
}

/* Ends a jsonb. */
static Jsonb *
end_jsonb(StringInfo out)
{
	SET_VARSIZE(out->data, out->len);
	return (Jsonb *) out->data;
}

/*
 * es_pack_jsonb makes the jsonb of a node or view, in the current memory
 * context.  A scalar gets the array of one element that jsonb wraps it in.
 */
Jsonb *
es_pack_jsonb(EsNode *root)
{
	StringInfoData out;

	begin_jsonb(&out);
	if (root->kind == ES_NODE_OBJECT)
		write_object(&out, root->value.object);
	else if (root->kind == ES_NODE_ARRAY)
		write_array(&out, root->value.array);
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
	return end_jsonb(&out);
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
 * es_pack_object makes an object of values, whose keys are in jsonb's order, in the
 * current memory context.
 */
EsNode
es_pack_object(const EsKey *keys, const EsNode *values, int count)
{
	EsObject	object = {.members = palloc(Max(count, 1) * sizeof(EsMember)),.count = count,.sorted = true};
	StringInfoData out;

	for (int i = 0; i < count; i++)
	{
		object.members[i].key = keys[i];
		object.members[i].node = values[i];
	}
	begin_jsonb(&out);
	write_object(&out, &object);
	pfree(object.members);
	return es_node_view(end_jsonb(&out));
}

/* es_pack_array makes an array of values, in the current memory context. */
EsNode
es_pack_array(const EsNode *values, int count)
{
	EsArray		array = {.elements = (EsNode *) values,.count = count};
	StringInfoData out;

	begin_jsonb(&out);
	write_array(&out, &array);
	return es_node_view(end_jsonb(&out));
}

/* es_pack_equal tells whether two values are the same, as jsonb's = does. */
bool
es_pack_equal(EsNode *a, EsNode *b)
{
	Jsonb	   *left;
	Jsonb	   *right;

	if (a->kind == ES_NODE_STRING && b->kind == ES_NODE_STRING)
		return a->len == b->len && memcmp(a->value.bytes, b->value.bytes, a->len) == 0;
	left = es_pack_jsonb(a);
	right = es_pack_jsonb(b);
	return compareJsonbContainers(&left->root, &right->root) == 0;
}
