/*
 * ecma.h
 *		Regular expressions of ECMA 262, in the words of the server's engine.
 */
#ifndef ES_SCHEMA_ECMA_H
#define ES_SCHEMA_ECMA_H

#include "base/base.h"

#include "mb/pg_wchar.h"

typedef struct EsEcmaResult
{
	pg_wchar   *chars;			/* an advanced regular expression; in the
								 * current memory context */
	uint32		len;
	uint64		weight;			/* how many characters it matches at most, if
								 * it repeats nothing without bound */
	const char *fault;			/* why there is none, a whole sentence */
} EsEcmaResult;

/*
 * How many times as much as a new one an expression may weigh that is stored already: a release
 * may have stored it that counted no assertions.
 */
#define ES_STORED_WEIGHT	4

/*
 * es_ecma_translate translates an expression, of a schema that is stored already or of a new one;
 * false, with a fault, if that cannot be done.
 */
extern bool es_ecma_translate(const char *pattern, uint32 len, bool stored, EsEcmaResult *result);

#endif							/* ES_SCHEMA_ECMA_H */
