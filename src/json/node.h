/*
 * node.h
 *		A JSON value, and how one in jsonb's own form is read in place.
 */
#ifndef ES_JSON_NODE_H
#define ES_JSON_NODE_H

#include "base/base.h"

#include "port/pg_bswap.h"
#include "utils/jsonb.h"

typedef struct EsObject EsObject;
typedef struct EsArray EsArray;

typedef enum EsNodeKind
{
	ES_NODE_ABSENT,				/* no value at all, as SQL's NULL */
	ES_NODE_NULL,
	ES_NODE_BOOL,
	ES_NODE_NUMBER,
	ES_NODE_STRING,
	ES_NODE_PACKED,				/* an array or object in jsonb's own form */
	ES_NODE_OBJECT,				/* opened: members can be changed, see tree.h */
	ES_NODE_ARRAY				/* opened: elements can be changed */
} EsNodeKind;

/*
 * A value.  Either it owns what it points to, as every node of a tree does,
 * or it is a view: it borrows from a jsonb and must only be read.  A view is
 * never opened.
 */
typedef struct EsNode
{
	EsNodeKind	kind;
	uint32		len;			/* of bytes, for numbers, strings and packed */
	union
	{
		bool		boolean;
		char	   *bytes;		/* a Numeric, characters, or a JsonbContainer */
		EsObject   *object;
		EsArray    *array;
	}			value;
} EsNode;

/* A member's key.  Its hash is that of es_node_key, and means nothing outside this process. */
typedef struct EsKey
{
	const char *bytes;
	uint32		len;
	uint32		hash;
} EsKey;

/* A walk through the members of a packed object, or the elements of a packed array. */
typedef struct EsPackedReader
{
	const JsonbContainer *container;
	const char *data;			/* what offsets count from */
	uint32		count;
	uint32		next;
	uint32		key_at;
	uint32		value_at;
} EsPackedReader;

extern void es_node_init(void);
extern EsKey es_node_key(const char *bytes, int len);
extern EsNode es_node_view(const Jsonb *json);
extern EsNode es_node_view_string(const char *bytes, int len);
extern EsNode es_node_view_number(Numeric number);

extern void es_node_begin_members(EsPackedReader *reader, const EsNode *packed);
extern bool es_node_next_member(EsPackedReader *reader, EsNode *key, EsNode *value);
extern void es_node_begin_elements(EsPackedReader *reader, const EsNode *packed);
extern bool es_node_next_element(EsPackedReader *reader, EsNode *value);
extern bool es_node_find_packed(const EsNode *packed, const EsKey *key, EsNode *value);
extern bool es_node_find_sorted(const EsNode *packed, const EsKey *keys, int nkeys, EsNode *values);

/*
 * es_node_order_bytes orders two strings of the same length as memcmp does.  Most keys are
 * short, and are compared as numbers: their first bytes, and their last.
 */
static inline int
es_node_order_bytes(const char *a, const char *b, uint32 len)
{
	if (len > 2 * sizeof(uint64) || len < sizeof(uint32))
		return memcmp(a, b, len);
	if (len >= sizeof(uint64))
	{
		uint64		x[2];
		uint64		y[2];

		memcpy(&x[0], a, sizeof(uint64));
		memcpy(&y[0], b, sizeof(uint64));
		memcpy(&x[1], a + len - sizeof(uint64), sizeof(uint64));
		memcpy(&y[1], b + len - sizeof(uint64), sizeof(uint64));
		if (x[0] != y[0])
			return pg_hton64(x[0]) < pg_hton64(y[0]) ? -1 : 1;
		return x[1] == y[1] ? 0 : pg_hton64(x[1]) < pg_hton64(y[1]) ? -1 : 1;
	}
	else
	{
		uint32		x[2];
		uint32		y[2];

		memcpy(&x[0], a, sizeof(uint32));
		memcpy(&y[0], b, sizeof(uint32));
		memcpy(&x[1], a + len - sizeof(uint32), sizeof(uint32));
		memcpy(&y[1], b + len - sizeof(uint32), sizeof(uint32));
		if (x[0] != y[0])
			return pg_hton32(x[0]) < pg_hton32(y[0]) ? -1 : 1;
		return x[1] == y[1] ? 0 : pg_hton32(x[1]) < pg_hton32(y[1]) ? -1 : 1;
	}
}

/* Tells whether a node or view points to bytes. */
static inline bool
es_node_has_bytes(const EsNode *node)
{
	return node->kind >= ES_NODE_NUMBER && node->kind <= ES_NODE_PACKED;
}

/* Tells whether a node or view is a JSON object in jsonb's own form. */
static inline bool
es_node_is_packed_object(const EsNode *node)
{
	return node->kind == ES_NODE_PACKED &&
		JsonContainerIsObject((const JsonbContainer *) node->value.bytes);
}

/* Tells whether a node or view is a JSON object. */
static inline bool
es_node_is_object(const EsNode *node)
{
	return node->kind == ES_NODE_OBJECT || es_node_is_packed_object(node);
}

/* Tells whether a node or view is a JSON array. */
static inline bool
es_node_is_array(const EsNode *node)
{
	return node->kind == ES_NODE_ARRAY ||
		(node->kind == ES_NODE_PACKED &&
		 JsonContainerIsArray((const JsonbContainer *) node->value.bytes));
}

#endif							/* ES_JSON_NODE_H */
