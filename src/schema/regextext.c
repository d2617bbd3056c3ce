/*
 * regextext.c
 *		An advanced regular expression of the server's engine, as it is written.
 *
 * Classes are written as lists of ranges, and every other character with a backslash if
 * it could mean anything.  The engine counts to 255; beyond that an atom is written
 * several times.  That may multiply what was written so at each level, so the text has
 * a bound of its own.
 */
#include "schema/regextext.h"

#include "miscadmin.h"

/* Makes room for some characters; false if the text would become too long. */
static bool
make_text_room(EsRegexText *text, Size count)
{
	Size		space = text->space;

	if (text->too_long || count > ES_MOST_REGEX_TEXT || text->len + count > ES_MOST_REGEX_TEXT)
	{
		text	  ->too_long = true;

		return false;
	}
	while (space < text->len + count)
		space *= 2;
	if (space == text->space)
		return true;
	text	  ->chars = repalloc_huge(text->chars, space * sizeof(pg_wchar));
	text	  ->space = space;

	return true;
}

/* es_regextext_put writes a character as it is. */
void
es_regextext_put(EsRegexText *text, pg_wchar c)
{
	if (make_text_room(text, 1))
		text	  ->chars[text->len++] = c;
}

/* es_regextext_put_ascii writes some ASCII as it is. */
void
es_regextext_put_ascii(EsRegexText *text, const char *ascii)
{
	for (; *ascii; ascii++)
		es_regextext_put(text, (unsigned char) *ascii);
}

/* es_regextext_put_literal writes a character that stands for itself. */
void
es_regextext_put_literal(EsRegexText *text, pg_wchar c)
{
	if (c < 0x80 && c != '_' && !isalnum((unsigned char) c))
		es_regextext_put(text, '\\');
	es_regextext_put(text, c);
}

/* es_regextext_put_set writes a set, which becomes normalized or its complement. */
void
es_regextext_put_set(EsRegexText *text, EsCharset *set)
{
	bool		negated;

	es_charset_normalize(set);
	if (set->count == 0)
	{
		es_regextext_put_ascii(text, "(?:(?!))");	/* matches nothing */
		return;
	}
	negated = set->ranges[set->count - 1].last == ES_LAST_CHARACTER;
	if (negated)
		es_charset_complement(set);
	if (set->count == 0)
	{
		es_regextext_put(text, '.');	/* anything, as the engine is asked to
										 * have it */
		return;
	}
	es_regextext_put_ascii(text, negated ? "[^" : "[");
	for (uint32 i = 0; i < set->count; i++)
	{
		es_regextext_put_literal(text, set->ranges[i].first);
		if (set->ranges[i].last == set->ranges[i].first)
			continue;
		es_regextext_put(text, '-');
		es_regextext_put_literal(text, set->ranges[i].last);
	}
	es_regextext_put(text, ']');
}

/* Writes an atom and a quantifier that the engine can count to. */
static void
put_counted(EsRegexText *text, const pg_wchar *atom, Size len, uint32 least, uint32 most)
{
	char		bounds[32];

	CHECK_FOR_INTERRUPTS();
	if (!make_text_room(text, len))
		return;
	if (len > 0)
		memcpy(text->chars + text->len, atom, len * sizeof(pg_wchar));
	text	  ->len += len;

	if (most == ES_NO_BOUND && least <= 1)
		strlcpy(bounds, least == 0 ? "*" : "+", sizeof(bounds));
	else if (most == ES_NO_BOUND)
		snprintf(bounds, sizeof(bounds), "{%u,}", least);
	else
		snprintf(bounds, sizeof(bounds), "{%u,%u}", least, most);
	es_regextext_put_ascii(text, bounds);
}

/*
 * es_regextext_repeat has the atom that begins at "start" and ends the text repeated.
 * Beyond ES_MOST_COUNTED it is written more than once, so it must not capture.
 */
void
es_regextext_repeat(EsRegexText *text, Size start, uint32 least, uint32 most)
{
	Size		len = text->len - start;
	uint32		more = most == ES_NO_BOUND ? 0 : most - least;
	pg_wchar   *atom;

	if (least <= ES_MOST_COUNTED && (most <= ES_MOST_COUNTED || most == ES_NO_BOUND))
	{
		put_counted(text, NULL, 0, least, most);
		return;
	}
	atom = palloc_extended(len * sizeof(pg_wchar), MCXT_ALLOC_HUGE);
	memcpy(atom, text->chars + start, len * sizeof(pg_wchar));
	text	  ->len = start;

	es_regextext_put_ascii(text, "(?:");
	for (; least > ES_MOST_COUNTED; least -= ES_MOST_COUNTED)
		put_counted(text, atom, len, ES_MOST_COUNTED, ES_MOST_COUNTED);
	put_counted(text, atom, len, least, most == ES_NO_BOUND ? ES_NO_BOUND : least);
	for (; more > ES_MOST_COUNTED; more -= ES_MOST_COUNTED)
		put_counted(text, atom, len, 0, ES_MOST_COUNTED);
	if (more > 0)
		put_counted(text, atom, len, 0, more);
	es_regextext_put(text, ')');
	pfree(atom);
}
