/*
 * validate.h
 *		JSON values held against a compiled schema.
 */
#ifndef ES_SCHEMA_VALIDATE_H
#define ES_SCHEMA_VALIDATE_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "schema/assertion.h"
#include "schema/model.h"
#include "schema/violation.h"

/*
 * es_schema_accepts tells whether a value is valid.  Leaves nothing in the current memory
 * context.  Raises 22023 for a value that is nested too deeply, as do the others.
 */
extern bool es_schema_accepts(const EsSchema *schema, const Jsonb *data);

/*
 * es_schema_find_violation gives the first violation, in the current memory context; false
 * if there is none.
 */
extern bool es_schema_find_violation(const EsSchema *schema, const Jsonb *data, EsViolation *violation);

/*
 * es_schema_list_violations gives all violations to a sink: those that follow from the
 * value as it is.  What fails within "anyOf", "oneOf", "not" or "contains" is told by
 * one violation of that keyword.
 */
extern void es_schema_list_violations(const EsSchema *schema, const Jsonb *data, EsViolationSink sink, void *arg);

#endif							/* ES_SCHEMA_VALIDATE_H */
