/*
 * charset.c
 *		Sets of characters, for regular expressions.
 *
 * A set is a list of ranges.  Characters are what the server's regex engine works on,
 * pg_wchar: those of Unicode where the server's encoding is UTF8, else numbers of the
 * encoding's own, so what is told by Unicode is converted one by one, and a character
 * that the encoding does not have cannot be in a text anyway.
 */
#include "schema/charset.h"

#include "catalog/namespace.h"
#include "miscadmin.h"

#include "schema/charcategory.h"

/* es_charset_add adds a range. */
void
es_charset_add(EsCharset *set, pg_wchar first, pg_wchar last)
{
	if (set->count == set->space)
	{
		set->space = Max(8, set->space * 2);
		set->ranges = set->ranges ? repalloc(set->ranges, set->space * sizeof(EsCharRange)) :
			palloc(set->space * sizeof(EsCharRange));
	}
	set->ranges[set->count].first = first;
	set->ranges[set->count].last = last;
	set->count++;
}

/* es_charset_add_set adds all of another set. */
void
es_charset_add_set(EsCharset *set, const EsCharset *other)
{
	for (uint32 i = 0; i < other->count; i++)
		es_charset_add(set, other->ranges[i].first, other->ranges[i].last);
}

/* Orders ranges by where they begin, for qsort. */
static int
compare_char_ranges(const void *a, const void *b)
{
	pg_wchar	left = ((const EsCharRange *) a)->first;
	pg_wchar	right = ((const EsCharRange *) b)->first;

	return left < right ? -1 : left > right;
}

/* es_charset_normalize puts ranges in order, and those that meet into one. */
void
es_charset_normalize(EsCharset *set)
{
	uint32		count = 0;

	if (set->count == 0)
		return;
	qsort(set->ranges, set->count, sizeof(EsCharRange), compare_char_ranges);
	for (uint32 i = 1; i < set->count; i++)
	{
		EsCharRange *kept = &set->ranges[count];

		if (set->ranges[i].first > kept->last + 1)
			set->ranges[++count] = set->ranges[i];
		else
			kept->last = Max(kept->last, set->ranges[i].last);
	}
	set->count = count + 1;
}

/* es_charset_complement makes a set that of all other characters, normalized. */
void
es_charset_complement(EsCharset *set)
{
	EsCharset	others = {0};
	pg_wchar	next = 1;		/* no text has a character 0 */

	es_charset_normalize(set);
	for (uint32 i = 0; i < set->count; i++)
	{
		if (set->ranges[i].first > next)
			es_charset_add(&others, next, set->ranges[i].first - 1);
		next = set->ranges[i].last + 1;
	}
	if (next <= ES_LAST_CHARACTER)
		es_charset_add(&others, next, ES_LAST_CHARACTER);
	*set = others;
}

bool
es_charset_from_unicode(uint32 code, pg_wchar *character)
{
	int			encoding = GetDatabaseEncoding();
	unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN + 1] = {0};
	unsigned char ours[MAX_MULTIBYTE_CHAR_LEN * MAX_CONVERSION_GROWTH + 1] = {0};
	pg_wchar	wide[MAX_MULTIBYTE_CHAR_LEN * MAX_CONVERSION_GROWTH + 1];
	Oid			conversion;
	int			len;

	*character = code;
	if (encoding == PG_UTF8 || code < 0x80)
		return true;
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion))
		return false;
	unicode_to_utf8(code, utf8);
	len = pg_utf_mblen(utf8);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, utf8, len, ours, sizeof(ours), true) != len)
		return false;
	if (pg_mb2wchar((char *) ours, wide) != 1)
		return false;
	*character = wide[0];
	return true;
}

/* Adds a range of Unicode's characters as far as the encoding has them. */
static void
add_unicode_range(EsCharset *set, uint32 first, uint32 last)
{
	pg_wchar	character;

	for (uint32 code = first; code <= last; code++)
	{
		if (es_charset_from_unicode(code, &character))
			es_charset_add(set, character, character);
	}
}

/* Adds what ECMA 262 takes for the end of a line. */
static void
add_line_ends(EsCharset *set)
{
	es_charset_add(set, '\n', '\n');
	es_charset_add(set, '\r', '\r');
	add_unicode_range(set, 0x2028, 0x2029);
}

/* Adds what ECMA 262 takes for white space. */
static void
add_white_space(EsCharset *set)
{
	add_line_ends(set);
	es_charset_add(set, '\t', '\t');
	es_charset_add(set, '\v', '\f');
	es_charset_add(set, ' ', ' ');
	add_unicode_range(set, 0x00a0, 0x00a0);
	add_unicode_range(set, 0x1680, 0x1680);
	add_unicode_range(set, 0x2000, 0x200a);
	add_unicode_range(set, 0x202f, 0x202f);
	add_unicode_range(set, 0x205f, 0x205f);
	add_unicode_range(set, 0x3000, 0x3000);
	add_unicode_range(set, 0xfeff, 0xfeff);
}

/* es_charset_add_escape adds the characters of an escape, d, w or s, or '.', the ends of lines. */
void
es_charset_add_escape(EsCharset *set, char escape)
{
	switch (escape)
	{
		case 'w':
			es_charset_add(set, 'a', 'z');
			es_charset_add(set, 'A', 'Z');
			es_charset_add(set, '_', '_');
			/* FALLTHROUGH */
		case 'd':
			es_charset_add(set, '0', '9');
			break;
		case 's':
			add_white_space(set);
			break;
		default:
			add_line_ends(set);
			break;
	}
}

/* Long names of categories, and of groups of them by the first letter. */
static const struct
{
	const char *name;
	const char *short_name;
}			long_names[] = {
	{"Letter", "L"}, {"Uppercase_Letter", "Lu"}, {"Lowercase_Letter", "Ll"},
	{"Titlecase_Letter", "Lt"}, {"Cased_Letter", "LC"}, {"Modifier_Letter", "Lm"},
	{"Other_Letter", "Lo"}, {"Mark", "M"}, {"Combining_Mark", "M"}, {"Nonspacing_Mark", "Mn"},
	{"Spacing_Mark", "Mc"}, {"Enclosing_Mark", "Me"}, {"Number", "N"}, {"Decimal_Number", "Nd"},
	{"digit", "Nd"}, {"Letter_Number", "Nl"}, {"Other_Number", "No"}, {"Punctuation", "P"},
	{"punct", "P"}, {"Connector_Punctuation", "Pc"}, {"Dash_Punctuation", "Pd"},
	{"Open_Punctuation", "Ps"}, {"Close_Punctuation", "Pe"}, {"Initial_Punctuation", "Pi"},
	{"Final_Punctuation", "Pf"}, {"Other_Punctuation", "Po"}, {"Symbol", "S"},
	{"Math_Symbol", "Sm"}, {"Currency_Symbol", "Sc"}, {"Modifier_Symbol", "Sk"},
	{"Other_Symbol", "So"}, {"Separator", "Z"}, {"Space_Separator", "Zs"},
	{"Line_Separator", "Zl"}, {"Paragraph_Separator", "Zp"}, {"Other", "C"}, {"Control", "Cc"},
	{"cntrl", "Cc"}, {"Format", "Cf"}, {"Surrogate", "Cs"}, {"Private_Use", "Co"},
	{"Unassigned", "Cn"}
};

/* Gives the categories that a name stands for, as bits; 0 if it stands for none. */
static uint32
find_categories(const char *name)
{
	uint32		categories = 0;

	for (int i = 0; i < lengthof(long_names); i++)
	{
		if (strcmp(long_names[i].name, name) == 0)
			name = long_names[i].short_name;
	}
	if (strcmp(name, "LC") == 0)
		return find_categories("Lu") | find_categories("Ll") | find_categories("Lt");
	for (int i = 0; i < ES_CATEGORIES; i++)
	{
		if (strcmp(es_charcategory_names[i], name) == 0 || (strlen(name) == 1 && es_charcategory_names[i][0] == name[0]))
			categories |= (uint32) 1 << i;
	}
	return categories;
}

/* Adds the characters of categories. */
static void
add_categories(EsCharset *set, uint32 categories)
{
	for (int i = 0; i < es_charcategory_run_count; i++)
	{
		uint32		first = ES_CATEGORY_RUN_FIRST(es_charcategory_runs[i]);
		uint32		next = i + 1 < es_charcategory_run_count ? ES_CATEGORY_RUN_FIRST(es_charcategory_runs[i + 1]) : 0x110000;

		if (categories >> ES_CATEGORY_RUN_CATEGORY(es_charcategory_runs[i]) & 1)
			es_charset_add(set, Max(first, 1), next - 1);
	}
}

bool
es_charset_add_property(EsCharset *set, const char *name)
{
	uint32		categories;

	if (strcmp(name, "ASCII") == 0)
	{
		es_charset_add(set, 1, 0x7f);
		return true;
	}
	if (strcmp(name, "ASCII_Hex_Digit") == 0 || strcmp(name, "AHex") == 0)
	{
		es_charset_add(set, '0', '9');
		es_charset_add(set, 'a', 'f');
		es_charset_add(set, 'A', 'F');
		return true;
	}
	if (GetDatabaseEncoding() != PG_UTF8)
		return false;
	if (strcmp(name, "Any") == 0)
	{
		es_charset_add(set, 1, 0x10ffff);
		return true;
	}
	if (strncmp(name, "gc=", 3) == 0)
		name += 3;
	else if (strncmp(name, "General_Category=", 17) == 0)
		name += 17;
	categories = strcmp(name, "Assigned") == 0 ? ~find_categories("Cn") : find_categories(name);
	add_categories(set, categories);
	return categories != 0;
}
