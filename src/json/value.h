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

typedef struct EsValue EsValue;

/* What a path can begin with; in jsonb's order of keys. */
typedef enum EsRoot
{
	ES_ROOT_DATA,
	ES_ROOT_TYPE,
	ES_ROOT_STATE,
	ES_ROOT_STREAM,
	ES_ROOT_VERSION,
	ES_ROOT_EVENT_ID,
	ES_ROOT_METADATA,
	ES_ROOT_POSITION,
	ES_ROOT_RECORDED_AT,
	ES_ROOT_COUNT
} EsRoot;

/* What paths are about: an event, and a state before it. */
typedef struct EsScope
{
	const EsEvent *event;
	EsNode	   *state;			/* NULL: there is none */
	unsigned	known;			/* bits: which of the members are made */
	EsNode		members[ES_ROOT_COUNT];
} EsScope;

/* The compiled form borrows from the template, and is in the current memory context. */
extern EsValue *es_value_compile(const EsNode *template, const EsPlace *place);
extern const EsNode *es_value_constant(const EsValue *value);
extern bool es_value_mentions(const EsValue *value, EsRoot root);

/* Results are in the current memory context, or borrowed from the event. */
extern void es_value_begin(EsScope *scope, const EsEvent *event, EsNode *state);
extern bool es_value_evaluate(const EsValue *value, EsScope *scope, EsNode *result);
extern const EsNode *es_value_member(EsScope *scope, EsRoot root);
extern const EsKey *es_value_root_key(EsRoot root);

/* Keys of projections: one path, without a state. */
extern EsValue *es_value_compile_key(const text *path);
extern text *es_value_key(const EsValue *value, const EsEvent *event);

extern void es_value_init(void);

#endif							/* ES_JSON_VALUE_H */
