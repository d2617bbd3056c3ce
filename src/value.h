/*
 * value.h
 *		Values taken out of an event by an SQL/JSON path.
 */
#ifndef ES_VALUE_H
#define ES_VALUE_H

#include "base.h"

typedef struct EsValue EsValue;

/* A compiled path, in the current memory context; what is no path is 22023. */
extern EsValue *es_value_compile_key(const text *path);

/* The key that an event has by a path, in the current memory context; NULL: none. */
extern text *es_value_key(const EsValue *value, const EsEvent *event);

#endif							/* ES_VALUE_H */
