/*
 * version.h
 *		Versions of types: which is the newest, and what each wants of data.
 */
#ifndef ES_TYPE_VERSION_H
#define ES_TYPE_VERSION_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "schema/violation.h"

extern uint64 es_version_generation(void);
extern bool es_version_any(void);
extern int	es_version_newest(const text *type);
extern bool es_version_has_schema(const text *type, int version);
extern bool es_version_find_violation(const text *type, int version, const Jsonb *data, EsViolation *violation);

#endif							/* ES_TYPE_VERSION_H */
