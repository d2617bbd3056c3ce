/*
 * parse.h
 *		JSON text read into a list of values.
 */
#ifndef ES_JSON_PARSE_H
#define ES_JSON_PARSE_H

#include "base/base.h"

/* Levels of arrays and objects that are taken. */
#define ES_PARSE_MOST_LEVELS	64

typedef enum EsParsedKind
{
	ES_PARSED_NULL,
	ES_PARSED_FALSE,
	ES_PARSED_TRUE,
	ES_PARSED_NUMBER,			/* as it is written */
	ES_PARSED_STRING,
	ES_PARSED_OBJECT,
	ES_PARSED_ARRAY
} EsParsedKind;

/*
 * A value.  Those in an array follow it, those in an object too, a key and its value
 * by turns, each with all that is in it.
 */
typedef struct EsParsed
{
	uint32		kind;
	uint32		count;			/* of bytes, elements, or members, with those
								 * whose key comes again */
	union
	{
		char	   *bytes;
		uint32		after;		/* the number of what follows all that is in
								 * it */
	}			value;
} EsParsed;

/* The elements of an array, one at a time. */
typedef struct EsParse
{
	char	   *at;
	char	   *end;			/* of the text: a zero byte */
	bool		begun;
	EsParsed   *values;			/* the element, and what is in it */
	uint32		count;
	uint32		space;			/* of values */
	uint32		size;			/* the element as a jsonb has at most so many
								 * bytes */
} EsParse;

typedef enum EsParseResult
{
	ES_PARSE_ELEMENT,
	ES_PARSE_END,
	ES_PARSE_NOT				/* malformed, or not taken here */
} EsParseResult;

extern void es_parse_begin(EsParse *parse, char *json, int len);
extern EsParseResult es_parse_next(EsParse *parse);
extern void es_parse_end(EsParse *parse);

/* es_parse_after gives the number of the value that follows one and all that is in it. */
static inline uint32
es_parse_after(const EsParsed *values, uint32 number)
{
	return values[number].kind >= ES_PARSED_OBJECT ? values[number].value.after : number + 1;
}

#endif							/* ES_JSON_PARSE_H */
