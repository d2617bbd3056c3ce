/*
 * pack.h
 *		Trees and values written in jsonb's own form.
 */
#ifndef ES_JSON_PACK_H
#define ES_JSON_PACK_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "json/node.h"

/*
 * Results are in the current memory context, and owe nothing to what they were made of.  Those
 * that are a jsonb can be freed.
 */
extern Jsonb *es_pack_jsonb(EsNode *root);
extern EsNode es_pack_node(EsNode *node);
extern Jsonb *es_pack_object_jsonb(const EsKey *keys, const EsNode *values, int count);
extern EsNode es_pack_object(const EsKey *keys, const EsNode *values, int count);
extern EsNode es_pack_array(const EsNode *values, int count);

extern bool es_pack_equal(EsNode *a, EsNode *b);

#endif							/* ES_JSON_PACK_H */
