/*
 * metaschema.h
 *		The schema of schemas, which a schema may refer to.
 */
#ifndef ES_SCHEMA_METASCHEMA_H
#define ES_SCHEMA_METASCHEMA_H

#include "base/base.h"

#include "utils/jsonb.h"

/*
 * es_metaschema_find gives the schema at a URI, in the current memory context: that of
 * JSON Schema 2020-12, or of one of its vocabularies.  NULL for all other URIs.
 */
extern Jsonb *es_metaschema_find(const char *uri);

#endif							/* ES_SCHEMA_METASCHEMA_H */
