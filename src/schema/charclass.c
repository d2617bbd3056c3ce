/*
 * charclass.c
 *		Escapes and classes of characters in the regular expressions of ECMA 262.
 */
#include "schema/charclass.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

/* es_charclass_fail notes why an expression cannot be used; gives false. */
bool
es_charclass_fail(EsRegexReader *in, const char *fault)
{
	if (in->fault == NULL)
		in->fault = fault;
	return false;
}

/* ---- escapes ---- */

/* Takes hexadecimal digits, so many if "count" is not 0; false if there are none. */
static bool
take_hex(EsRegexReader *in, int count, uint32 *code)
{
	int			taken = 0;

	*code = 0;
	while (in->at < in->end && *in->at < 0x80 && isxdigit((unsigned char) *in->at) && (count == 0 || taken < count))
	{
		char		digit = tolower((unsigned char) *in->at++);

		*code = *code * 16 + (digit <= '9' ? digit - '0' : digit - 'a' + 10);
		if (*code > 0x10ffff)
			return es_charclass_fail(in, "A character's code is too large.");
		taken++;
	}
	if (taken == 0 || (count != 0 && taken != count))
		return es_charclass_fail(in, "A character's code must be given by \\xHH, \\uHHHH or \\u{H...}.");
	return true;
}

/* Takes what follows \u. */
static bool
take_unicode_escape(EsRegexReader *in, uint32 *code)
{
	const pg_wchar *after;
	uint32		low;

	if (in->at < in->end && *in->at == '{')
	{
		in->at++;
		if (!take_hex(in, 0, code))
			return false;
		if (in->at == in->end || *in->at++ != '}')
			return es_charclass_fail(in, "A character's code must be given by \\xHH, \\uHHHH or \\u{H...}.");
		return true;
	}
	if (!take_hex(in, 4, code))
		return false;
	after = in->at;
	if (is_utf16_surrogate_first(*code) && in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u' && in->at[2] != '{')
	{
		in->at += 2;
		if (!take_hex(in, 4, &low))
			return false;
		if (is_utf16_surrogate_second(low))
			*code = surrogate_pair_to_codepoint(*code, low);
		else
			in->at = after;
	}
	return true;
}

/* Takes what follows \p or \P, and adds it to a set. */
static bool
take_property(EsRegexReader *in, bool negated, EsCharset *set)
{
	EsCharset	own = {0};
	char		name[64];
	int			len = 0;

	if (in->at == in->end || *in->at != '{')
		return es_charclass_fail(in, "A property of characters must be given as \\p{NAME}.");
	for (in->at++; in->at < in->end && *in->at != '}'; in->at++)
	{
		if (*in->at >= 0x80 || len == sizeof(name) - 1)
			break;
		name[len++] = *in->at;
	}
	name[len] = '\0';
	if (in->at == in->end || *in->at++ != '}' || !es_charset_add_property(&own, name))
		return es_charclass_fail(in, "Of \\p{...} only general categories, Any, Assigned, ASCII and ASCII_Hex_Digit are known, in UTF8 databases.");
	if (negated)
		es_charset_complement(&own);
	es_charset_add_set(set, &own);
	return true;
}

/*
 * Takes an escape that means the same in a class and outside, after its backslash: a
 * character, then its code, or else a set.
 */
bool
es_charclass_take_escape(EsRegexReader *in, uint32 *code, EsCharset *set)
{
	static const char controls[] = "fnrtv";
	static const char meant[] = "\f\n\r\t\v";
	EsCharset	own = {0};
	pg_wchar	c = *in->at++;
	const char *control = c < 0x80 && c != 0 ? strchr(controls, c) : NULL;

	*code = ES_NO_CHARACTER;
	if (c >= 0x80 || (c != 0 && ispunct((unsigned char) c)) || c == ' ')
	{
		*code = c;
		return true;
	}
	if (control)
	{
		*code = (unsigned char) meant[control - controls];
		return true;
	}
	switch (c)
	{
		case 'd':
		case 'w':
		case 's':
			es_charset_add_escape(set, c);
			return true;
		case 'D':
		case 'W':
		case 'S':
			es_charset_add_escape(&own, tolower(c));
			es_charset_complement(&own);
			es_charset_add_set(set, &own);
			return true;
		case 'p':
		case 'P':
			return take_property(in, c == 'P', set);
		case 'x':
			return take_hex(in, 2, code);
		case 'u':
			return take_unicode_escape(in, code);
		case 'c':
			if (in->at < in->end && *in->at < 0x80 && isalpha((unsigned char) *in->at))
			{
				*code = *in->at++ & 0x1f;
				return true;
			}
			break;
		default:
			break;
	}
	return es_charclass_fail(in, "An escape is none that ECMA 262 has.");
}

/* ---- classes ---- */

/* Takes an element of a class: a character, with its code in the server's encoding, or a set. */
static bool
take_class_atom(EsRegexReader *in, pg_wchar *c, EsCharset *set)
{
	uint32		code;
	bool		unicode;

	if (*in->at != '\\')
	{
		*c = *in->at++;
		return true;
	}
	if (++in->at == in->end)
		return es_charclass_fail(in, "It ends with a backslash.");
	*c = ES_NO_CHARACTER;
	if (*in->at == 'b' || *in->at == '0')
	{
		*c = *in->at++ == 'b' ? '\b' : 0;
		return (*c != 0 || in->at == in->end || *in->at < '0' || *in->at > '9') ||
			es_charclass_fail(in, "An escape is none that ECMA 262 has.");
	}
	unicode = *in->at == 'x' || *in->at == 'u';
	if (!es_charclass_take_escape(in, &code, set))
		return false;
	if (code == ES_NO_CHARACTER)
		return true;
	if (!unicode)
		*c = code;
	else if (!es_charset_from_unicode(code, c))
		*c = ES_NO_CHARACTER;
	return true;
}

/* Adds a range to a class. */
static bool
add_class_range(EsRegexReader *in, EsCharset *set, pg_wchar first, pg_wchar last)
{
	if (first == ES_NO_CHARACTER || last == ES_NO_CHARACTER)
		return es_charclass_fail(in, "A range in a class must have a character at both ends.");
	if (first > last)
		return es_charclass_fail(in, "A range in a class goes backwards.");
	if (last >= 0x80 && GetDatabaseEncoding() != PG_UTF8)
		return es_charclass_fail(in, "A range beyond ASCII can be told in UTF8 databases only.");
	if (last > 0)
		es_charset_add(set, Max(first, 1), last);
	return true;
}

/* Takes a class, after its '['. */
bool
es_charclass_take_class(EsRegexReader *in, EsCharset *set)
{
	bool		negated = in->at < in->end && *in->at == '^';
	pg_wchar	first;
	pg_wchar	last;

	in->at += negated ? 1 : 0;
	while (in->at < in->end && *in->at != ']')
	{
		CHECK_FOR_INTERRUPTS();
		if (!take_class_atom(in, &first, set))
			return false;
		if (in->end - in->at >= 2 && in->at[0] == '-' && in->at[1] != ']')
		{
			in->at++;
			if (!take_class_atom(in, &last, set) || !add_class_range(in, set, first, last))
				return false;
		}
		else if (first != ES_NO_CHARACTER && first != 0)
			es_charset_add(set, first, first);
	}
	if (in->at == in->end)
		return es_charclass_fail(in, "A class has no end.");
	in->at++;
	if (negated)
		es_charset_complement(set);
	return true;
}
