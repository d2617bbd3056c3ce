/*
 * order.h
 *		JSON values compared: an order of all of them, sets, and equal ones found.
 */
#ifndef ES_SCHEMA_ORDER_H
#define ES_SCHEMA_ORDER_H

#include "base/base.h"

#include "json/node.h"
#include "schema/model.h"

/* Raises 22023 if the stack is nearly used up, by a value that is nested too deeply. */
extern void es_order_check_depth(void);

extern int	es_order_compare(const EsNode *a, const EsNode *b);
extern bool es_order_is_equal(const EsNode *a, const EsNode *b);
extern EsValueSet *es_order_make_set(const EsNode *array);
extern bool es_order_has(const EsValueSet *set, const EsNode *value);
extern bool es_order_find_equal(const EsNode *array, uint32 *first, uint32 *second);

#endif							/* ES_SCHEMA_ORDER_H */
