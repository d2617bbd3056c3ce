/*
 * node.c
 *		A JSON value, and how one in jsonb's own form is read in place.
 *
 * jsonb keeps an object's keys sorted, shorter ones first, then by bytes, all
 * of them before the values.  A child's entry has its length or, each
 * JB_OFFSET_STRIDE'th, where it ends.  Nothing is copied: a view points into the
 * jsonb that it was made of.
 */
#include "json/node.h"

#include "common/hashfn.h"
#include "port.h"
#include "utils/numeric.h"

#define FEW_MEMBERS	(JB_OFFSET_STRIDE / 2)	/* of all but the first key the
											 * entry has a length */

/*
 * What keys are hashed with.  Whoever makes events chooses their keys, and whoever knows the
 * hash can make any number of keys that have the same.
 */
static uint64 key_seed;

/*
 * es_node_init draws the seed; called once, from _PG_init, before there is a key.  Where the
 * library is preloaded all of a server's processes have the postmaster's.
 */
void
es_node_init(void)
{
	if (!pg_strong_random(&key_seed, sizeof(key_seed)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate random values"));
}

/* es_node_key makes a key of bytes that it borrows. */
EsKey
es_node_key(const char *bytes, int len)
{
	EsKey		key = {bytes, len};

	key.hash = (uint32) hash_bytes_extended((const unsigned char *) bytes, len, key_seed);
	return key;
}

/* Makes a view of one child of a packed container, which lies at start..end. */
static inline EsNode
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

/* es_node_view makes a view of a whole jsonb. */
EsNode
es_node_view(const Jsonb *json)
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

/* es_node_view_string makes a view of a string. */
EsNode
es_node_view_string(const char *bytes, int len)
{
	EsNode		node = {ES_NODE_STRING, len};

	node.value.bytes = (char *) bytes;
	return node;
}

/* es_node_view_number makes a view of a number. */
EsNode
es_node_view_number(Numeric number)
{
	EsNode		node = {ES_NODE_NUMBER, VARSIZE_ANY(number)};

	node.value.bytes = (char *) number;
	return node;
}

/* es_node_begin_members begins a walk through a packed object. */
void
es_node_begin_members(EsPackedReader *reader, const EsNode *packed)
{
	reader->container = (const JsonbContainer *) packed->value.bytes;
	reader->count = JsonContainerSize(reader->container);
	reader->data = (const char *) &reader->container->children[2 * reader->count];
	reader->next = 0;
	reader->key_at = 0;
	reader->value_at = reader->count > 0 ? getJsonbOffset(reader->container, reader->count) : 0;
}

/* es_node_next_member gives views of the next member's key and value; false after the last. */
bool
es_node_next_member(EsPackedReader *reader, EsNode *key, EsNode *value)
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
	*key = es_node_view_string(reader->data + key_start, reader->key_at - key_start);
	*value = view_entry(value_entry, reader->data, value_start, reader->value_at);
	reader->next++;
	return true;
}

/* es_node_begin_elements begins a walk through a packed array. */
void
es_node_begin_elements(EsPackedReader *reader, const EsNode *packed)
{
	reader->container = (const JsonbContainer *) packed->value.bytes;
	reader->count = JsonContainerSize(reader->container);
	reader->data = (const char *) &reader->container->children[reader->count];
	reader->next = 0;
	reader->value_at = 0;
}

/* es_node_next_element gives a view of the next element; false after the last. */
bool
es_node_next_element(EsPackedReader *reader, EsNode *value)
{
	uint32		start = reader->value_at;
	JEntry		entry;

	if (reader->next >= reader->count)
		return false;
	entry = reader->container->children[reader->next++];
	JBE_ADVANCE_OFFSET(reader->value_at, entry);
	*value = view_entry(entry, reader->data, start, reader->value_at);
	return true;
}

/* Gives a view of a member of an object of few, whose key ends in the data where key_end says. */
static inline EsNode
view_member_of_few(const JsonbContainer *container, uint32 count, uint32 number, uint32 key_end)
{
	const char *data = (const char *) &container->children[2 * count];
	uint32		start = key_end;

	for (uint32 i = number + 1; i < count + number; i++)
		start += JBE_OFFLENFLD(container->children[i]);
	return view_entry(container->children[count + number], data, start,
					  start + JBE_OFFLENFLD(container->children[count + number]));
}

/* Does what es_node_find_packed does in an object of few members: goes from one key to the next. */
static bool
find_member_of_few(const JsonbContainer *container, uint32 count, const EsKey *key, EsNode *value)
{
	const char *name = (const char *) &container->children[2 * count];
	const char *first = name;

	for (uint32 i = 0; i < count; i++)
	{
		uint32		len = JBE_OFFLENFLD(container->children[i]);

		if (len >= key->len)
		{
			int			order = len > key->len ? 1 : es_node_order_bytes(name, key->bytes, len);

			if (order == 0)
				*value = view_member_of_few(container, count, i, name + len - first);
			if (order >= 0)
				return order == 0;
		}
		name += len;
	}
	return false;
}

/* Does so in an object of many: halves what is left of the keys. */
static bool
find_member_of_many(const JsonbContainer *container, uint32 count, const EsKey *key, EsNode *value)
{
	const char *data = (const char *) &container->children[2 * count];
	uint32		low = 0;
	uint32		high = count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		uint32		len = getJsonbLength(container, middle);
		int			order = len != key->len ? (key->len < len ? -1 : 1) :
		memcmp(key->bytes, data + getJsonbOffset(container, middle), len);

		if (order == 0)
		{
			uint32		start = getJsonbOffset(container, count + middle);

			*value = view_entry(container->children[count + middle], data, start,
								start + getJsonbLength(container, count + middle));
			return true;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

/*
 * es_node_find_packed gives a view of a packed object's member; false if it has
 * none of that key.
 */
bool
es_node_find_packed(const EsNode *packed, const EsKey *key, EsNode *value)
{
	const JsonbContainer *container = (const JsonbContainer *) packed->value.bytes;
	uint32		count = JsonContainerSize(container);

	return count <= FEW_MEMBERS ? find_member_of_few(container, count, key, value) :
		find_member_of_many(container, count, key, value);
}

/* Orders a key and a name of a packed object. */
static inline int
compare_key_with_name(const EsKey *key, const char *name, uint32 len)
{
	if (key->len != len)
		return key->len < len ? -1 : 1;
	return es_node_order_bytes(key->bytes, name, len);
}

/*
 * es_node_find_sorted gives views of a packed object's members of several keys, which are in
 * jsonb's order, or values that are absent; false if the object has so many that it is not to be
 * gone through for them.
 */
bool
es_node_find_sorted(const EsNode *packed, const EsKey *keys, int nkeys, EsNode *values)
{
	const JsonbContainer *container = (const JsonbContainer *) packed->value.bytes;
	uint32		count = JsonContainerSize(container);
	const char *data = (const char *) &container->children[2 * count];
	const char *name = data;
	uint32		start = 0;
	int			next = 0;

	if (count > FEW_MEMBERS)
		return false;
	for (uint32 i = 0; i < count; i++)
		start += JBE_OFFLENFLD(container->children[i]);
	for (uint32 i = 0; i < count && next < nkeys; i++)
	{
		uint32		len = JBE_OFFLENFLD(container->children[i]);
		uint32		end = start + JBE_OFFLENFLD(container->children[count + i]);
		int			order;

		while ((order = compare_key_with_name(&keys[next], name, len)) < 0)
		{
			values[next++].kind = ES_NODE_ABSENT;
			if (next == nkeys)
				return true;
		}
		if (order == 0)
			values[next++] = view_entry(container->children[count + i], data, start, end);
		name += len;
		start = end;
	}
	while (next < nkeys)
		values[next++].kind = ES_NODE_ABSENT;
	return true;
}
