/*
 * tagged.h
 *		Reading by query, and by tags.
 */
#ifndef ES_READ_TAGGED_H
#define ES_READ_TAGGED_H

#include "base/base.h"

#include "read/log.h"

extern Datum es_read_query(PG_FUNCTION_ARGS);
extern Datum es_read_tagged(PG_FUNCTION_ARGS);
extern void es_tagged_query_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter);
extern void es_tagged_arguments(FunctionCallInfo fcinfo, EsLogFilter *filter);

#endif							/* ES_READ_TAGGED_H */
