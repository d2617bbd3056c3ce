/*
 * maker.h
 *		Making segments ahead of need.
 */
#ifndef ES_SEGMENT_MAKER_H
#define ES_SEGMENT_MAKER_H

#include "base/base.h"

#include "base/owner.h"
#include "table/columns.h"

extern const EsShape es_maker_failure_shape;

extern void es_maker_begin(EsOwnerContext *saved);
extern void es_maker_guard(const char *table);
extern void es_maker_make_table(int64 n, int64 first_position, int64 last_position);
extern void es_maker_ensure(int64 position);
extern void es_maker_ask_ahead(int64 first_position, int64 last_position);
extern PGDLLEXPORT void es_maker_main(Datum main_arg);

#endif							/* ES_SEGMENT_MAKER_H */
