/*
 * fact.h
 *		What is known of a value before a schema is held against it.
 */
#ifndef ES_SCHEMA_FACT_H
#define ES_SCHEMA_FACT_H

#include "base/base.h"

#include "json/node.h"
#include "schema/model.h"

typedef enum EsFactKind
{
	ES_FACT_IS,					/* a schema accepts it */
	ES_FACT_IS_NOT,				/* a schema refuses it */
	ES_FACT_TYPES,				/* it has one of these types */
	ES_FACT_PRESENT,			/* if it is an object, it has this member */
	ES_FACT_ABSENT				/* if it is an object, it does not */
} EsFactKind;

typedef struct EsFact
{
	EsFactKind	kind;
	uint32		types;			/* ES_TYPE_... */
	const EsSchemaNode *node;
	const EsKey *key;
} EsFact;

/* Facts that hold together, each once, in an order of their own. */
typedef struct EsFacts
{
	int			count;
	EsFact	   *facts;
} EsFacts;

/* Which members of an object it is about. */
typedef struct EsMemberClass
{
	const EsKey *key;			/* the one with this key; or NULL */
	const EsPatternProperty *pattern;	/* those that match it and no schema
										 * names; or NULL, as key: all that
										 * are neither named nor matched */
} EsMemberClass;

static inline EsFact
es_fact_is(const EsSchemaNode *node)
{
	return (EsFact)
	{
		.kind = ES_FACT_IS,.node = node
	};
}

static inline EsFact
es_fact_is_not(const EsSchemaNode *node)
{
	return (EsFact)
	{
		.kind = ES_FACT_IS_NOT,.node = node
	};
}

static inline EsFact
es_fact_types(uint32 types)
{
	return (EsFact)
	{
		.kind = ES_FACT_TYPES,.types = types
	};
}

static inline EsFact
es_fact_present(const EsKey *key)
{
	return (EsFact)
	{
		.kind = ES_FACT_PRESENT,.key = key
	};
}

static inline EsFact
es_fact_absent(const EsKey *key)
{
	return (EsFact)
	{
		.kind = ES_FACT_ABSENT,.key = key
	};
}

extern const EsSchemaNode es_fact_nothing;	/* the schema false */

extern EsFacts es_fact_of(EsFact fact);
extern EsFacts es_fact_add(const EsFacts *facts, EsFact fact);
extern int	es_fact_compare(const EsFact *a, const EsFact *b);
extern bool es_fact_refuse_all(const EsFacts *facts);

#endif							/* ES_SCHEMA_FACT_H */
