/*
 * variant.h
 *		The nodes that a schema's subschemas become.
 */
#ifndef ES_SCHEMA_VARIANT_H
#define ES_SCHEMA_VARIANT_H

#include "base/base.h"

#include "json/node.h"
#include "schema/keyword.h"
#include "schema/model.h"
#include "schema/survey.h"

/* A node, and what it is to be filled from. */
typedef struct EsVariantTask
{
	EsSubschema *subschema;
	const EsDynamicScope *scope;
	EsSchemaNode *node;
} EsVariantTask;

/* A compilation.  In the memory context that was current, but for the nodes. */
typedef struct EsCompilation
{
	EsSurvey   *survey;
	EsDynamicScope *scopes;
	int			scope_count;	/* but the one that all begins in */
	EsVariantTask *tasks;		/* one for each node */
	uint32		task_count;
	uint32		task_space;
	uint32		done;			/* of the tasks, that one included which is
								 * next */
	EsVariantTask task;			/* the one being done */
	Size		most;			/* bytes that the context that is kept may
								 * come to have, if there are scopes */
} EsCompilation;

extern void es_variant_begin(EsCompilation *c, EsSurvey *survey);
extern bool es_variant_next(EsCompilation *c);

/* What the node being filled leads to; key or number (ES_NO_LIMIT: none) are below the keyword. */
extern EsSchemaNode *es_variant_reach(EsCompilation *c, EsSubschema *subschema);
extern EsSchemaNode *es_variant_child(EsCompilation *c, const EsNode *view, EsKeyword keyword,
									  const EsNode *key, uint32 number);
extern EsSchemaNode *es_variant_dynamic(EsCompilation *c, const EsSubschema *subschema);

#endif							/* ES_SCHEMA_VARIANT_H */
