/*
 * compile.h
 *		JSON Schemas, checked and compiled.
 */
#ifndef ES_SCHEMA_COMPILE_H
#define ES_SCHEMA_COMPILE_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "schema/model.h"

/*
 * es_schema_compile compiles a schema into the current memory context, which must live as
 * long as it is used.  The result does not borrow from the argument.  Raises 22023 if it
 * is not a schema that can be used; DETAIL has the place.  One that is stored already may go
 * beyond limits that an earlier release, which has stored it, had not.
 */
extern EsSchema *es_schema_compile(const Jsonb *json, bool stored);

#endif							/* ES_SCHEMA_COMPILE_H */
