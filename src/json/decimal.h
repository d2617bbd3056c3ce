/*
 * decimal.h
 *		Numbers in numeric's own form, which is that of jsonb's.
 */
#ifndef ES_JSON_DECIMAL_H
#define ES_JSON_DECIMAL_H

#include "base/base.h"

/* The header of a numeric, on disk and in jsonb. */
#define ES_DECIMAL_KIND				0xC000
#define ES_DECIMAL_SHORT			0x8000	/* all in one word */
#define ES_DECIMAL_SPECIAL			0xC000
#define ES_DECIMAL_SHORT_NEGATIVE	0x2000
#define ES_DECIMAL_SHORT_WEIGHTS	0x007F	/* with their sign */
#define ES_DECIMAL_SHORT_SCALE(word)	(((word) & 0x1F80) >> 7)
#define ES_DECIMAL_SHORT_WEIGHT(word) \
	(((word) & 0x0040) ? (int) ((word) & 0x003F) - 64 : (int) ((word) & 0x003F))
#define ES_DECIMAL_LONG_NEGATIVE	0x4000
#define ES_DECIMAL_LONG_SCALE(word)	((word) & 0x3FFF)

#define ES_DECIMAL_GROUP			4	/* decimal digits in one of numeric's */

/*
 * The longest text of a number that is taken.  With an exponent of three digits numeric
 * has it, whatever the digits.
 */
#define ES_DECIMAL_MOST_TEXT		1000
#define ES_DECIMAL_MOST_EXPONENT	3	/* digits */

/* A text of so many bytes becomes no more than so many more. */
#define ES_DECIMAL_GROWS			16

/* A sum, as a numeric. */
typedef struct EsDecimalSum
{
	int32		words[8];
} EsDecimalSum;

extern int	es_decimal_add(EsDecimalSum *sum, const char *a, const char *b);
extern char *es_decimal_write(char *out, const char *json, int len);

#endif							/* ES_JSON_DECIMAL_H */
