/*
 * value.h
 *		Values that depend on an event and a state: JSON with SQL/JSON paths in it.
 */
#ifndef ES_JSON_VALUE_H
#define ES_JSON_VALUE_H

#include "base/base.h"

#include "utils/jsonb.h"
#include "utils/jsonpath.h"

#include "base/event.h"
#include "json/node.h"
#include "json/place.h"
#include "json/scope.h"

typedef enum EsValueKind
{
	ES_VALUE_CONSTANT,
	ES_VALUE_STEPS,				/* from member to member */
	ES_VALUE_PATH,				/* any other path */
	ES_VALUE_OBJECT,
	ES_VALUE_ARRAY
} EsValueKind;

/* A template, compiled; read-only once it is known what is wanted beside it. */
typedef struct EsValue
{
	EsValueKind kind;
	EsNode		constant;

	/* of steps and paths */
	JsonPath   *path;
	Jsonb	   *variables;		/* none */
	unsigned	wanted;			/* bits: roots that the path mentions */
	EsKey	   *state_keys;		/* members of the state that it mentions */
	int			nstate_keys;	/* -1: the state as a whole */

	/* of steps, the first of which goes to the root */
	EsRoot		root;
	EsKey	   *steps;
	int			nsteps;
	int			number;			/* of the member of the data that the second
								 * goes to, among those wanted; -1: none */

	/* of objects and arrays; keys in jsonb's order */
	int			count;
	EsKey	   *keys;
	struct EsValue **values;
} EsValue;

/* The compiled form borrows from the template, and is in the current memory context. */
extern EsValue *es_value_compile(const EsNode *template, const EsPlace *place);
extern const EsNode *es_value_constant(const EsValue *value);
extern EsValue *es_value_compile_path(const text *path, unsigned roots, const char *what);
extern EsKey *es_value_path_keys(const EsValue *value, int *nkeys);
extern bool es_value_mentions(const EsValue *value, EsRoot root);
extern void es_value_want(EsValue *value, EsWanted *wanted);
extern void es_value_number(EsValue *value, EsWanted *wanted);

/* Results are in the current memory context, or borrowed from the event. */
extern bool es_value_evaluate(const EsValue *value, EsScope *scope, EsNode *result);

/* Keys of projections: one path, without a state. */
extern EsValue *es_value_compile_key(const text *path);
extern text *es_value_key(const EsValue *value, const EsEvent *event);

#endif							/* ES_JSON_VALUE_H */
