/*
 * path.h
 *		What an item of an SQL/JSON path is made of.
 */
#ifndef ES_JSON_PATH_H
#define ES_JSON_PATH_H

#include "base/base.h"

#include "utils/jsonpath.h"

/* Looks at a part, a path of its own; true: no other part is wanted. */
typedef bool (*EsPathLook) (JsonPathItem *part, void *arg);

extern bool es_path_look_at_parts(JsonPathItem *item, EsPathLook look, void *arg);

#endif							/* ES_JSON_PATH_H */
