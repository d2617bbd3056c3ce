/*
 * parse.c
 *		JSON text read into a list of values.
 *
 * The server's parser calls back for each value, copies each string byte by byte and
 * builds a tree.  This one leaves strings and numbers where they are in the text, and
 * only says where.
 *
 * It takes no text that the server's would refuse, and not all that it takes: what is
 * rare or large is answered like what is malformed.  Then the caller has the server's
 * own function read the text, which knows better, or raises.  So no error is worded
 * here, and of all limits those that the server has are left to it:
 *
 *	- more than ES_PARSE_MOST_LEVELS levels: the server asks how deep the stack is;
 *	- an element that may take more bytes than a jsonb's entry can say;
 *	- numbers that numeric may not have;
 *	- \u escapes that the database's encoding may not have.
 *
 * The text is changed: a string that has escapes is put without them where it stood.
 * No encoding of a database has quotes, backslashes or control characters within a
 * character, so bytes can be looked at.
 */
#include "json/parse.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/jsonb.h"

#include "json/decimal.h"
#include "json/plain.h"

#define FIRST_VALUES	64
#define MOST_VALUES		(4 * 1024 * 1024)	/* in an element */

/*
 * What a value adds to its text in a jsonb: an entry, padding, a container's header, and
 * what a number grows by.
 */
#define VALUE_BYTES		(sizeof(JEntry) + 3 + ES_DECIMAL_GROWS)
#define ROOT_BYTES		(VARHDRSZ + sizeof(uint32) + sizeof(JEntry) + 3)

/* es_parse_begin begins with the text of an array, which must be followed by a zero byte. */
void
es_parse_begin(EsParse *parse, char *json, int len)
{
	memset(parse, 0, sizeof(EsParse));
	parse->at = json;
	parse->end = json + len;
	parse->space = FIRST_VALUES;
	parse->values = palloc(FIRST_VALUES * sizeof(EsParsed));
}

/* es_parse_end gives back the memory, but for the text. */
void
es_parse_end(EsParse *parse)
{
	pfree(parse->values);
}

/* Goes past white space. */
static inline void
skip_white_space(EsParse *parse)
{
	while (*parse->at == ' ' || *parse->at == '\n' || *parse->at == '\t' || *parse->at == '\r')
		parse->at++;
}

/* Puts a value into the list; false if there are too many. */
static inline bool
put_parsed_value(EsParse *parse, EsParsedKind kind, char *bytes, Size count)
{
	EsParsed   *value;

	if (unlikely(parse->count == parse->space))
	{
		if (parse->space >= MOST_VALUES)
			return false;
		parse->space *= 2;
		parse->values = repalloc(parse->values, parse->space * sizeof(EsParsed));
	}
	value = &parse->values[parse->count++];
	value->kind = kind;
	value->count = (uint32) count;
	value->value.bytes = bytes;
	return true;
}

/* ---- strings ---- */

/* Reads four hex digits; -1 if there are none. */
static int
read_four_hex_digits(EsParse *parse)
{
	int			code = 0;

	for (int i = 0; i < 4; i++)
	{
		unsigned char c = *parse->at;

		if (c >= '0' && c <= '9')
			code = code * 16 + c - '0';
		else if (c >= 'a' && c <= 'f')
			code = code * 16 + c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			code = code * 16 + c - 'A' + 10;
		else
			return -1;
		parse->at++;
	}
	return code;
}

/*
 * Reads what follows \u, and the second half of a pair, and writes the character to
 * *out; false if it is none, or one that the database may not have.
 */
static bool
read_unicode_escape(EsParse *parse, char **out)
{
	int			code = read_four_hex_digits(parse);

	if (code >= 0xD800 && code <= 0xDBFF)
	{
		int			low;

		if (parse->at[0] != '\\' || parse->at[1] != 'u')
			return false;
		parse->at += 2;
		low = read_four_hex_digits(parse);
		if (low < 0xDC00 || low > 0xDFFF)
			return false;
		code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF);
	}
	else if (code <= 0 || (code >= 0xDC00 && code <= 0xDFFF))
		return false;
	if (code < 0x80)
	{
		*(*out)++ = (char) code;
		return true;
	}
	if (GetDatabaseEncoding() != PG_UTF8)
		return false;
	(void) unicode_to_utf8(code, (unsigned char *) *out);
	*out += code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	return true;
}

/* Reads what follows a backslash, and writes the character to *out; false if it is none. */
static bool
read_escape(EsParse *parse, char **out)
{
	char		c = *parse->at;

	switch (c)
	{
		case '"':
		case '\\':
		case '/':
			break;
		case 'b':
			c = '\b';
			break;
		case 'f':
			c = '\f';
			break;
		case 'n':
			c = '\n';
			break;
		case 'r':
			c = '\r';
			break;
		case 't':
			c = '\t';
			break;
		case 'u':
			parse->at++;
			return read_unicode_escape(parse, out);
		default:
			return false;
	}
	parse->at++;
	*(*out)++ = c;
	return true;
}

/* Reads the rest of a string that has escapes, up to the first of which nothing moves. */
static bool
read_escaped_string(EsParse *parse, char *start)
{
	char	   *out = parse->at;

	while (*parse->at != '"')
	{
		Size		run;

		if (*parse->at != '\\')
			return false;
		parse->at++;
		if (!read_escape(parse, &out))
			return false;
		run = es_plain_run(parse->at, parse->end - parse->at);
		memmove(out, parse->at, run);
		out += run;
		parse->at += run;
	}
	parse->at++;
	return put_parsed_value(parse, ES_PARSED_STRING, start, out - start);
}

/* Reads a string, the opening quote of which is next. */
static inline bool
read_string_value(EsParse *parse)
{
	char	   *start = ++parse->at;

	parse->at += es_plain_run(start, parse->end - start);
	if (unlikely(*parse->at != '"'))
		return read_escaped_string(parse, start);
	return put_parsed_value(parse, ES_PARSED_STRING, start, parse->at++ - start);
}

/* ---- other scalars ---- */

/* Goes past digits, and tells how many there are. */
static inline int
skip_digits(EsParse *parse)
{
	char	   *start = parse->at;

	while (*parse->at >= '0' && *parse->at <= '9')
		parse->at++;
	return Min(parse->at - start, ES_DECIMAL_MOST_TEXT + 1);
}

/* Reads a number, if one is next. */
static bool
read_number_value(EsParse *parse)
{
	char	   *start = parse->at;

	if (*parse->at == '-')
		parse->at++;
	if (*parse->at == '0')
		parse->at++;
	else if (skip_digits(parse) == 0)
		return false;
	if (*parse->at == '.')
	{
		parse->at++;
		if (skip_digits(parse) == 0)
			return false;
	}
	if (*parse->at == 'e' || *parse->at == 'E')
	{
		int			digits;

		parse->at++;
		if (*parse->at == '+' || *parse->at == '-')
			parse->at++;
		digits = skip_digits(parse);
		if (digits == 0 || digits > ES_DECIMAL_MOST_EXPONENT)
			return false;
	}
	return parse->at - start <= ES_DECIMAL_MOST_TEXT &&
		put_parsed_value(parse, ES_PARSED_NUMBER, start, parse->at - start);
}

/* Reads a word, if it is next.  What could go on with it can follow no value. */
static bool
read_word_value(EsParse *parse, EsParsedKind kind, const char *word, int len)
{
	if (strncmp(parse->at, word, len) != 0)
		return false;
	parse->at += len;
	return put_parsed_value(parse, kind, NULL, 0);
}

/* Reads a value that is no array and no object. */
static inline bool
read_scalar_value(EsParse *parse)
{
	switch (*parse->at)
	{
		case '"':
			return read_string_value(parse);
		case 't':
			return read_word_value(parse, ES_PARSED_TRUE, "true", 4);
		case 'f':
			return read_word_value(parse, ES_PARSED_FALSE, "false", 5);
		case 'n':
			return read_word_value(parse, ES_PARSED_NULL, "null", 4);
		default:
			return read_number_value(parse);
	}
}

/* ---- arrays and objects ---- */

/* Reads a key and its colon. */
static inline bool
read_member_key(EsParse *parse)
{
	skip_white_space(parse);
	if (*parse->at != '"' || !read_string_value(parse))
		return false;
	skip_white_space(parse);
	return *parse->at++ == ':';
}

/* The character that ends a value that others are in. */
static inline char
closing_character(const EsParsed *container)
{
	return container->kind == ES_PARSED_OBJECT ? '}' : ']';
}

/* Containers whose end has not come yet, the innermost last. */
typedef struct Unclosed
{
	int			depth;
	uint32		numbers[ES_PARSE_MOST_LEVELS];
} Unclosed;

/* Opens the container that is next. */
static inline bool
open_parsed_container(EsParse *parse, Unclosed *unclosed)
{
	EsParsedKind kind = *parse->at == '{' ? ES_PARSED_OBJECT : ES_PARSED_ARRAY;

	if (unclosed->depth == ES_PARSE_MOST_LEVELS)
		return false;
	unclosed->numbers[unclosed->depth++] = parse->count;
	parse->at++;
	return put_parsed_value(parse, kind, NULL, 0);
}

/*
 * Closes the containers that end where a value has ended, and goes on to the next value;
 * false if what is next can follow no value.
 */
static inline bool
close_parsed_containers(EsParse *parse, Unclosed *unclosed)
{
	while (unclosed->depth > 0)
	{
		EsParsed   *container = &parse->values[unclosed->numbers[unclosed->depth - 1]];

		skip_white_space(parse);
		if (*parse->at == ',')
		{
			parse->at++;
			return container->kind != ES_PARSED_OBJECT || read_member_key(parse);
		}
		if (*parse->at != closing_character(container))
			return false;
		parse->at++;
		container->value.after = parse->count;
		if (--unclosed->depth > 0)
			parse->values[unclosed->numbers[unclosed->depth - 1]].count++;
	}
	return true;
}

/* Reads a value, with all that is in it. */
static bool
read_parsed_value(EsParse *parse)
{
	Unclosed	unclosed = {.depth = 0};

	do
	{
		CHECK_FOR_INTERRUPTS();
		skip_white_space(parse);
		if (*parse->at == '{' || *parse->at == '[')
		{
			EsParsed   *container;

			if (!open_parsed_container(parse, &unclosed))
				return false;
			container = &parse->values[parse->count - 1];
			skip_white_space(parse);
			if (*parse->at != closing_character(container))
			{
				if (container->kind == ES_PARSED_OBJECT && !read_member_key(parse))
					return false;
				continue;
			}
		}
		else if (!read_scalar_value(parse))
			return false;
		else if (unclosed.depth > 0)
			parse->values[unclosed.numbers[unclosed.depth - 1]].count++;
		if (!close_parsed_containers(parse, &unclosed))
			return false;
	} while (unclosed.depth > 0);
	return true;
}

/* Goes to the next element; ES_PARSE_END if there is none, nor anything else. */
static EsParseResult
find_next_element(EsParse *parse)
{
	bool		first = !parse->begun;

	skip_white_space(parse);
	if (first)
	{
		if (*parse->at != '[')
			return ES_PARSE_NOT;
		parse->at++;
		parse->begun = true;
		skip_white_space(parse);
	}
	if (*parse->at == ']')
	{
		parse->at++;
		skip_white_space(parse);
		return parse->at == parse->end ? ES_PARSE_END : ES_PARSE_NOT;
	}
	if (!first && *parse->at++ != ',')
		return ES_PARSE_NOT;
	return ES_PARSE_ELEMENT;
}

/*
 * es_parse_next reads the next element.  Its values are there until the next call, its
 * strings as long as the text.
 */
EsParseResult
es_parse_next(EsParse *parse)
{
	EsParseResult result = find_next_element(parse);
	char	   *start = parse->at;
	Size		size;

	if (result != ES_PARSE_ELEMENT)
		return result;
	parse->count = 0;
	if (!read_parsed_value(parse))
		return ES_PARSE_NOT;
	size = ROOT_BYTES + parse->count * VALUE_BYTES + (parse->at - start);
	if (size > JENTRY_OFFLENMASK)
		return ES_PARSE_NOT;
	parse->size = (uint32) size;
	return ES_PARSE_ELEMENT;
}
