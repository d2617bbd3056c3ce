/*
 * validate.h
 *		JSON values held against a compiled schema.
 */
#ifndef ES_SCHEMA_VALIDATE_H
#define ES_SCHEMA_VALIDATE_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "schema/model.h"

/* A rule that a value breaks.  Lives in the memory context that was current. */
typedef struct EsViolation
{
	char	   *pointer;		/* to the value, RFC 6901 */
	const char *rule;			/* the keyword */
	char	   *message;		/* what the value must be, without a full stop */
} EsViolation;

/* Takes a violation; may keep its parts.  Returns whether to go on. */
typedef bool (*EsViolationSink) (const EsViolation *violation, void *arg);

/* Tells whether a value is valid.  Leaves nothing in the current memory context. */
extern bool es_schema_accepts(const EsSchema *schema, const Jsonb *data);

/* Gives the first violation; false if there is none. */
extern bool es_schema_find_violation(const EsSchema *schema, const Jsonb *data, EsViolation *violation);

/* Gives all violations to a sink, in the order of the schema's keywords. */
extern void es_schema_list_violations(const EsSchema *schema, const Jsonb *data,
									  EsViolationSink sink, void *arg);

#endif							/* ES_SCHEMA_VALIDATE_H */
