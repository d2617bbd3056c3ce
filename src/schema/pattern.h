/*
 * pattern.h
 *		Regular expressions of JSON Schema, compiled.
 */
#ifndef ES_SCHEMA_PATTERN_H
#define ES_SCHEMA_PATTERN_H

#include "base/base.h"

#include "schema/model.h"

/*
 * es_pattern_compile compiles a regular expression into the current memory context, where
 * it stays until that is reset.  NULL if it cannot be used, then *fault says why, in
 * a sentence.  One of a stored schema may be larger.  *weight becomes a measure of what it needs.
 */
extern const EsRegex *es_pattern_compile(const char *text, uint32 len, bool stored, uint64 *weight, const char **fault);

/* es_pattern_matches tells whether some part of a string matches. */
extern bool es_pattern_matches(const EsRegex *pattern, const char *bytes, uint32 len);

#endif							/* ES_SCHEMA_PATTERN_H */
