/*
 * keymap.h
 *		Which key an event is folded into: a path, or one for each type of event.
 */
#ifndef ES_PROJECTION_KEYMAP_H
#define ES_PROJECTION_KEYMAP_H

#include "base/base.h"

#include "base/event.h"
#include "base/names.h"
#include "json/value.h"

/* The path for one type of event. */
typedef struct EsTypeKey
{
	text	   *type;
	const EsValue *path;		/* NULL: such events do not count */
} EsTypeKey;

/* The argument key of a projection, compiled. */
typedef struct EsKeyMap
{
	const EsValue *others;		/* the path for types that are not listed;
								 * NULL: they do not count */
	int			count;
	EsTypeKey  *types;			/* in order of their bytes */
	EsNames		wanted;			/* the types that count; not set: others do,
								 * too */
} EsKeyMap;

extern EsKeyMap *es_keymap_compile(text *key);
extern void es_keymap_check(const EsKeyMap *map);
extern const EsValue *es_keymap_path(const EsKeyMap *map, Datum type);
extern text *es_keymap_find(const EsKeyMap *map, const EsEvent *event);

#endif							/* ES_PROJECTION_KEYMAP_H */
