/*
 * category.h
 *		The general categories of characters, as in Unicode.
 */
#ifndef ES_SCHEMA_CATEGORY_H
#define ES_SCHEMA_CATEGORY_H

#include "base/base.h"

#define ES_CATEGORIES	30

/* A run of characters of one category, as es_category_runs has it. */
#define ES_CATEGORY_RUN_FIRST(run)	((run) >> 5)
#define ES_CATEGORY_RUN_CATEGORY(run)	((run) & 31)

extern const char *const es_category_names[];	/* short names, as "Lu" */
extern const int es_category_run_count;
extern const uint32 es_category_runs[];

#endif							/* ES_SCHEMA_CATEGORY_H */
