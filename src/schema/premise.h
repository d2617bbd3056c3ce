/*
 * premise.h
 *		What follows from the facts that are known of a value.
 */
#ifndef ES_SCHEMA_PREMISE_H
#define ES_SCHEMA_PREMISE_H

#include "base/base.h"

#include "json/node.h"
#include "schema/model.h"
#include "schema/effort.h"
#include "schema/bounds.h"
#include "schema/fact.h"

/* A list of schemas. */
typedef struct EsNodeList
{
	int			count;
	int			room;
	const EsSchemaNode **nodes;
} EsNodeList;

/*
 * What is known of a value.  Each item may be weaker than what the facts say, never
 * stronger; where one says that there is no such value, that is so.
 */
typedef struct EsPremise
{
	EsFacts		facts;
	EsEffort   *effort;
	EsNodeList	is;				/* all of these accept it */
	EsNodeList	is_not;			/* none of these do */
	uint32		types;			/* it has one of these; none: there is no such
								 * value */
	EsBound		lower;			/* the following are each about values of a
								 * type */
	EsBound		upper;
	Numeric		step;			/* numbers are multiples of this; or NULL */
	EsSpan		length;
	EsSpan		items;
	EsSpan		members;
	bool		unique;
	List	   *present;		/* of EsKey; es_premise_requires knows them
								 * all */
	List	   *absent;
	const EsSchemaNode *listed; /* one of "is" that has a list of values; or
								 * NULL */
	bool		refined;		/* see proof.c */
} EsPremise;

extern EsPremise *es_premise_make(const EsFacts *facts, EsEffort *effort);
extern void es_premise_drop_contradictions(EsPremise *premise);
extern bool es_premise_has(const EsPremise *premise, const EsSchemaNode *node);
extern bool es_premise_requires(const EsPremise *premise, const EsKey *key);
extern bool es_premise_forbids(const EsPremise *premise, const EsKey *key);
extern bool es_premise_allows(const EsPremise *premise, const Jsonb *value);
extern bool es_premise_is_finite(const EsPremise *premise);
extern List *es_premise_values(const EsPremise *premise);
extern bool es_premise_is_only_types(const EsSchemaNode *node);
extern bool es_premise_accepts(const EsSchemaNode *node, const Jsonb *value);
extern const EsSchemaProperty *es_premise_find_property(const EsSchemaNode *node, const EsKey *key);

#endif							/* ES_SCHEMA_PREMISE_H */
