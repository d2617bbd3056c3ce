/*
 * charclass.h
 *		Escapes and classes of characters in the regular expressions of ECMA 262.
 */
#ifndef ES_SCHEMA_CHARCLASS_H
#define ES_SCHEMA_CHARCLASS_H

#include "base/base.h"

#include "mb/pg_wchar.h"

#include "schema/charset.h"

#define ES_NO_CHARACTER	PG_UINT32_MAX	/* a set, or what no text can have */

/* An expression being read. */
typedef struct EsRegexReader
{
	const pg_wchar *at;
	const pg_wchar *end;
	const char *fault;			/* why it cannot be used, a sentence; or NULL */
} EsRegexReader;

extern bool es_charclass_fail(EsRegexReader *in, const char *fault);

/*
 * es_charclass_take_escape takes an escape that means the same in a class and outside,
 * after its backslash: a character, then its code, or else what it adds to a set.  The
 * code is that of Unicode after \x and \u, else the server's.  False if it is none.
 */
extern bool es_charclass_take_escape(EsRegexReader *in, uint32 *code, EsCharset *set);

/* es_charclass_take_class takes a class, after its '['; false if it is none. */
extern bool es_charclass_take_class(EsRegexReader *in, EsCharset *set);

#endif							/* ES_SCHEMA_CHARCLASS_H */
