/*
 * registry.h
 *		The schemas of the versions of types, as they are stored.
 */
#ifndef ES_TYPE_REGISTRY_H
#define ES_TYPE_REGISTRY_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "base/objects.h"
#include "table/columns.h"

/* Columns of eventstore.schemas. */
#define Anum_schemas_after_position		1
#define Anum_schemas_registered_at		2
#define Anum_schemas_version			3
#define Anum_schemas_type				4
#define Anum_schemas_compatibility		5
#define Anum_schemas_schema				6
#define Natts_schemas					6

extern EsRelation es_registry_table;	/* eventstore.schemas */
extern const EsShape es_registry_shape;

extern Jsonb *es_registry_read(const text *type, int version);

#endif							/* ES_TYPE_REGISTRY_H */
