/*
 * violation.h
 *		Rules that values break, in words.
 */
#ifndef ES_SCHEMA_VIOLATION_H
#define ES_SCHEMA_VIOLATION_H

#include "base/base.h"

#include "json/node.h"
#include "schema/keyword.h"
#include "schema/model.h"

/* A rule that a value breaks. */
typedef struct EsViolation
{
	char	   *pointer;		/* to the value, RFC 6901 */
	const char *rule;			/* the keyword; or "false" for that schema */
	char	   *message;		/* what is wrong, without a full stop */
} EsViolation;

/* What there is to say about a violation, beyond the node and its value. */
typedef struct EsBreach
{
	EsKeyword	keyword;		/* ES_KEYWORD_UNKNOWN: the schema is false */
	const EsNode *name;			/* a key, or a key that another one needs */
	const EsNode *needed_by;	/* that other one */
	uint32		first;			/* numbers of elements or subschemas, or
								 * counts */
	uint32		second;
	const char *more;			/* a sentence's end; or NULL */
} EsBreach;

/* Gives what is said about a breach, in the current memory context. */
extern char *es_violation_describe(const EsSchemaNode *node, const EsNode *value, const EsBreach *breach);
extern const char *es_violation_rule(const EsBreach *breach);

#endif							/* ES_SCHEMA_VIOLATION_H */
