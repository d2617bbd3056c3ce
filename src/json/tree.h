/*
 * tree.h
 *		A JSON value that can be changed in place.
 */
#ifndef ES_JSON_TREE_H
#define ES_JSON_TREE_H

#include "base/base.h"

#include "json/node.h"

typedef struct EsMember
{
	EsKey		key;			/* owns its bytes */
	EsNode		node;
} EsMember;

struct EsObject
{
	EsMember   *members;
	uint32		count;
	uint32		space;			/* of members */
	uint32	   *slots;			/* member number + 1, or 0; NULL without
								 * index, and then members are sorted */
	uint32		mask;			/* number of slots - 1, a power of two - 1 */
	bool		sorted;			/* members are in jsonb's order of keys */
};

struct EsArray
{
	EsNode	   *elements;
	uint32		count;
	uint32		space;			/* of elements */
};

/*
 * Changes.  What a tree gains is allocated in the current memory context,
 * which must be one that lives as long as the tree.
 */
extern void es_tree_set(EsNode *target, const EsNode *view);
extern void es_tree_open_object(EsNode *target);
extern void es_tree_open_array(EsNode *target);
extern EsNode *es_tree_put(EsNode *object, const EsKey *key);
extern EsNode *es_tree_find(const EsNode *object, const EsKey *key);
extern EsNode *es_tree_member(const EsNode *object, const EsKey *key, EsNode *view);
extern void es_tree_remove(EsNode *object, const EsKey *key);
extern uint32 es_tree_length(const EsNode *array);
extern EsNode *es_tree_element(const EsNode *array, uint32 number);
extern EsNode *es_tree_push(EsNode *array);
extern void es_tree_remove_element(EsNode *array, uint32 number);
extern void es_tree_drop_elements(EsNode *array, bool (*drops) (EsNode *element, void *arg), void *arg);
extern void es_tree_merge(EsNode *target, const EsNode *data);
extern void es_tree_merge_patch(EsNode *target, const EsNode *patch);

extern void es_tree_sort(EsObject *object);
extern int	es_tree_compare_keys(const void *a, const void *b);

#endif							/* ES_JSON_TREE_H */
