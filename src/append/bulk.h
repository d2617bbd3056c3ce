/*
 * bulk.h
 *		Rows that a statement appends one by one, written many at a time.
 */
#ifndef ES_APPEND_BULK_H
#define ES_APPEND_BULK_H

#include "base/base.h"

#include "append/request.h"

extern void es_bulk_init(void);
extern void es_bulk_begin_statement(bool may_buffer);
extern void es_bulk_end_statement(void);
extern bool es_bulk_is_open(void);
extern void es_bulk_add(const text *stream, EsNewEvent *event);

#endif							/* ES_APPEND_BULK_H */
