/*
 * charcategory.h
 *		The general categories of characters, as in Unicode.
 */
#ifndef ES_SCHEMA_CHARCATEGORY_H
#define ES_SCHEMA_CHARCATEGORY_H

#include "base/base.h"

#define ES_CATEGORIES	30

/* A run of characters of one category, as es_charcategory_runs has it. */
#define ES_CATEGORY_RUN_FIRST(run)	((run) >> 5)
#define ES_CATEGORY_RUN_CATEGORY(run)	((run) & 31)

extern const char *const es_charcategory_names[];	/* short names, as "Lu" */
extern const int es_charcategory_run_count;
extern const uint32 es_charcategory_runs[];

#endif							/* ES_SCHEMA_CHARCATEGORY_H */
