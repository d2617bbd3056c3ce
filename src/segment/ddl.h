/*
 * ddl.h
 *		Statements of ours that make, change and drop tables of the store.
 */
#ifndef ES_SEGMENT_DDL_H
#define ES_SEGMENT_DDL_H

#include "base/base.h"

#include "base/owner.h"

extern void es_ddl_enter(EsOwnerContext *saved);
extern void es_ddl_run(const char *format,...) pg_attribute_printf(1, 2);
extern void es_ddl_leave(const EsOwnerContext *saved);

#endif							/* ES_SEGMENT_DDL_H */
