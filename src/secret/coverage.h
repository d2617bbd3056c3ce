/*
 * coverage.h
 *		What is, or has been, protected in a set of categories.
 */
#ifndef ES_SECRET_COVERAGE_H
#define ES_SECRET_COVERAGE_H

#include "base/base.h"

#include "nodes/pg_list.h"

#include "base/names.h"
#include "json/taint.h"

/* Whether any category of a set, all of them if it is not set, has or had a protected field. */
extern bool es_coverage_any(const EsNames *categories);

/* Which: names, as text, in the current memory context. */
extern List *es_coverage_categories(const EsNames *categories);

/* es_coverage_leaves adds the places of these fields in data; false if they are too many. */
extern bool es_coverage_leaves(const EsNames *categories, EsLeaves *leaves);

/* es_coverage_leaves_of does so for one category. */
extern bool es_coverage_leaves_of(const text *category, EsLeaves *leaves);

/*
 * es_coverage_field_at gives, of a JSON pointer into the data of a stream's events, as much as
 * leads to a field that is or was protected, in the current memory context; NULL if to none.
 */
extern char *es_coverage_field_at(const text *stream, const char *pointer);

#endif							/* ES_SECRET_COVERAGE_H */
