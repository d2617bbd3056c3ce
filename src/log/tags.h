/*
 * tags.h
 *		Tags: strings in an event's metadata that conditions are stated over.
 */
#ifndef ES_LOG_TAGS_H
#define ES_LOG_TAGS_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "base/names.h"
#include "base/objects.h"
#include "table/columns.h"

#define Anum_es_tags_position	1
#define Anum_es_tags_tag		2

extern EsRelation es_tags_table;	/* eventstore.tags */
extern const EsShape es_tags_shape; /* its columns */

extern text **es_tags_of(Datum metadata, int *count);
extern Datum es_tags_add(Datum metadata, const JsonbValue *tags);
extern void es_tags_write(Datum metadata, int64 position);
extern bool es_tags_have_all(Datum metadata, const EsNames *wanted);

#endif							/* ES_LOG_TAGS_H */
