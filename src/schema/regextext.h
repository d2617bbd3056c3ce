/*
 * regextext.h
 *		An advanced regular expression of the server's engine, as it is written.
 */
#ifndef ES_SCHEMA_REGEXTEXT_H
#define ES_SCHEMA_REGEXTEXT_H

#include "base/base.h"

#include "mb/pg_wchar.h"

#include "schema/charset.h"

#define ES_MOST_COUNTED		255 /* the engine counts no further */
#define ES_NO_BOUND			PG_UINT32_MAX

#define ES_MOST_REGEX_TEXT	(4 * 1024 * 1024)	/* characters */

/* The text so far.  Its characters are in the current memory context. */
typedef struct EsRegexText
{
	pg_wchar   *chars;
	Size		len;
	Size		space;			/* at least 1 */
	bool		too_long;		/* it would have become longer than
								 * ES_MOST_REGEX_TEXT; then it is worth
								 * nothing */
} EsRegexText;

extern void es_regextext_put(EsRegexText *text, pg_wchar c);
extern void es_regextext_put_ascii(EsRegexText *text, const char *ascii);
extern void es_regextext_put_literal(EsRegexText *text, pg_wchar c);
extern void es_regextext_put_set(EsRegexText *text, EsCharset *set);
extern void es_regextext_repeat(EsRegexText *text, Size start, uint32 least, uint32 most);

#endif							/* ES_SCHEMA_REGEXTEXT_H */
