/*
 * charset.h
 *		Sets of characters, for regular expressions.
 */
#ifndef ES_SCHEMA_CHARSET_H
#define ES_SCHEMA_CHARSET_H

#include "base/base.h"

#include "mb/pg_wchar.h"

#define ES_LAST_CHARACTER	0x7ffffffe	/* the regex engine's last one */

typedef struct EsCharRange
{
	pg_wchar	first;
	pg_wchar	last;
} EsCharRange;

/* Characters of the server's encoding.  Ranges are in the current memory context. */
typedef struct EsCharset
{
	uint32		count;
	uint32		space;
	EsCharRange *ranges;
} EsCharset;

extern void es_charset_add(EsCharset *set, pg_wchar first, pg_wchar last);
extern void es_charset_add_set(EsCharset *set, const EsCharset *other);
extern void es_charset_normalize(EsCharset *set);
extern void es_charset_complement(EsCharset *set);

/* Unicode's character in the server's encoding; false if that does not have it. */
extern bool es_charset_from_unicode(uint32 code, pg_wchar *character);

/* What ECMA 262 calls \d, \w, \s; and what "." does not match. */
extern void es_charset_add_escape(EsCharset *set, char escape);

/* Adds the characters of a \p{...}, of which "name" is what is in braces; false if unknown. */
extern bool es_charset_add_property(EsCharset *set, const char *name);

#endif							/* ES_SCHEMA_CHARSET_H */
