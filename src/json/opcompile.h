/*
 * opcompile.h
 *		Operations on a state, compiled from their JSON form.
 */
#ifndef ES_JSON_OPCOMPILE_H
#define ES_JSON_OPCOMPILE_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "json/node.h"
#include "json/scope.h"
#include "json/value.h"

typedef enum EsOpKind
{
	ES_OP_MERGE_DATA,			/* the event's data over the state */
	ES_OP_MERGE_PATCH,
	ES_OP_REPLACE,
	ES_OP_IGNORE,
	ES_OP_SET,
	ES_OP_UNSET,
	ES_OP_INC,
	ES_OP_APPEND,
	ES_OP_REMOVE,
	ES_OP_MERGE,
	ES_OP_MAX,
	ES_OP_MIN
} EsOpKind;

/* A key of a path, and the number it is in an array. */
typedef struct EsStep
{
	EsKey		key;
	int64		number;			/* -1: it is none */
} EsStep;

typedef struct EsPattern
{
	EsKey		key;
	EsValue    *value;
} EsPattern;

typedef struct EsOpTarget
{
	const char *path;			/* for errors */
	int			nsteps;
	EsStep	   *steps;
	EsValue    *value;			/* NULL for unset and remove */
	int			npatterns;		/* of remove */
	EsPattern  *patterns;
} EsOpTarget;

typedef struct EsOp
{
	EsOpKind	kind;
	const char *name;
	int			ntargets;
	EsOpTarget *targets;
} EsOp;

typedef struct EsOps
{
	int			count;
	EsOp	   *ops;
	int			most_values;	/* that any operation has */
	EsWanted	wanted;			/* by any value */
} EsOps;

/* The compiled form borrows from the document, and is in the current memory context. */
extern EsOps *es_opcompile_document(const Jsonb *document);
extern bool es_opcompile_mention(const EsOps *ops, EsRoot root);

#endif							/* ES_JSON_OPCOMPILE_H */
