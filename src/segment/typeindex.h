/*
 * typeindex.h
 *		Indexes of the events of one type, made on request beside the running log.
 */
#ifndef ES_SEGMENT_TYPEINDEX_H
#define ES_SEGMENT_TYPEINDEX_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "table/columns.h"

extern const EsShape es_typeindex_shape;	/* eventstore.indexed_types */

extern void es_typeindex_init(void);
extern List *es_typeindex_all(void);
extern bool es_typeindex_start(void);
extern bool es_typeindex_stop(void);
extern PGDLLEXPORT void es_typeindex_main(Datum main_arg);

#endif							/* ES_SEGMENT_TYPEINDEX_H */
