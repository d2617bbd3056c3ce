/*
 * value.h
 *		Values that depend on an event and a state: JSON with SQL/JSON paths in it.
 */
#ifndef ES_JSON_VALUE_H
#define ES_JSON_VALUE_H

#include "base/base.h"

#include "base/event.h"
#include "json/node.h"
#include "json/place.h"
#include "json/scope.h"

typedef struct EsValue EsValue;

/* The compiled form borrows from the template, and is in the current memory context. */
extern EsValue *es_value_compile(const EsNode *template, const EsPlace *place);
extern const EsNode *es_value_constant(const EsValue *value);
extern EsValue *es_value_compile_path(const text *path, unsigned roots, const char *what);
extern EsKey *es_value_path_keys(const EsValue *value, int *nkeys);
extern bool es_value_mentions(const EsValue *value, EsRoot root);

/* Results are in the current memory context, or borrowed from the event. */
extern bool es_value_evaluate(const EsValue *value, EsScope *scope, EsNode *result);

/* Keys of projections: one path, without a state. */
extern EsValue *es_value_compile_key(const text *path);
extern text *es_value_key(const EsValue *value, const EsEvent *event);

#endif							/* ES_JSON_VALUE_H */
