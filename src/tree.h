/*
 * tree.h
 *		A JSON value that can be changed in place.
 */
#ifndef ES_TREE_H
#define ES_TREE_H

#include "base.h"

typedef struct EsObject EsObject;

typedef enum EsNodeKind
{
	ES_NODE_NULL,
	ES_NODE_BOOL,
	ES_NODE_NUMBER,
	ES_NODE_STRING,
	ES_NODE_OBJECT,				/* opened: members can be changed */
	ES_NODE_PACKED				/* an array or object in jsonb's own form */
} EsNodeKind;

/*
 * A value.  Either it owns what it points to, as every node of a tree does,
 * or it is a view: it borrows from a jsonb and must only be read.
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
	}			value;
} EsNode;

/* Views. */
extern EsNode es_tree_view(const Jsonb *json);
extern bool es_tree_is_object(const EsNode *node);

/*
 * Changes.  What a tree gains is allocated in the current memory context,
 * which must be one that lives as long as the tree.
 */
extern void es_tree_set(EsNode *target, const EsNode *view);
extern void es_tree_set_integer(EsNode *target, int64 value);
extern void es_tree_set_string(EsNode *target, const char *bytes, int len);
extern void es_tree_clear(EsNode *target);
extern void es_tree_open(EsNode *target);
extern EsNode *es_tree_put(EsNode *object, const char *key, int len);
extern void es_tree_remove(EsNode *object, const char *key, int len);
extern void es_tree_merge(EsNode *target, const EsNode *data);
extern void es_tree_merge_patch(EsNode *target, const EsNode *patch);

/* The way back, into the current memory context. */
extern Jsonb *es_tree_to_jsonb(EsNode *root);

#endif							/* ES_TREE_H */
