/*
 * assertion.h
 *		What a node asserts about a value, but for its subschemas.
 */
#ifndef ES_SCHEMA_ASSERTION_H
#define ES_SCHEMA_ASSERTION_H

#include "base/base.h"

#include "json/node.h"
#include "schema/keyword.h"
#include "schema/model.h"
#include "schema/pointer.h"
#include "schema/violation.h"

/* Takes a violation, whose parts live until it returns.  Tells whether to go on. */
typedef bool (*EsViolationSink) (const EsViolation *violation, void *arg);

/* A value, and where it is. */
typedef struct EsInstance
{
	EsNode		value;
	const EsPointer *place;		/* NULL, or this one's "step" */
	EsPointer	step;
	const char *container;		/* this and the number tell it from all others */
	uint32		number;
} EsInstance;

/* A list of violations being made. */
typedef struct EsListing
{
	EsViolationSink sink;
	void	   *arg;
	MemoryContext context;		/* of one violation */
	bool		brief;			/* messages must not look further */
} EsListing;

/* Breaches: each tells whether to go on, which it does not if nothing is listed. */
extern bool es_assertion_list(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance,
							  const EsBreach *breach);
extern bool es_assertion_breaks(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance,
								EsKeyword keyword);
extern bool es_assertion_breaks_by_number(const EsListing *listing, const EsSchemaNode *node,
										  const EsInstance *instance, EsKeyword keyword, uint32 first, uint32 second);

extern bool es_assertion_number(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance);
extern bool es_assertion_string(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance);
extern bool es_assertion_contained(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance,
								   uint32 found);
extern bool es_assertion_list_missing(const EsListing *listing, const EsSchemaNode *node, const EsInstance *instance);
extern const EsSchemaProperty *es_assertion_find_property(const EsObjectRules *rules, const EsNode *key,
														  uint32 *next, bool leap);
extern bool es_assertion_is_of_type(const EsNode *value, uint8 types);

#endif							/* ES_SCHEMA_ASSERTION_H */
