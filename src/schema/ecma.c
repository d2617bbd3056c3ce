/*
 * ecma.c
 *		Regular expressions of ECMA 262, in the words of the server's engine.
 *
 * JSON Schema's patterns are those of ECMA 262 with its flag "u": they match characters,
 * not bytes.  The server's engine speaks a dialect that looks alike and differs in what
 * matters, so an expression is read here as ECMA 262 has it and written anew: every class
 * as a list of ranges, every other character with a backslash if it could mean anything.
 * Only whether there is a match is asked for, so reluctant quantifiers become plain ones,
 * and groups capture only if something refers back.
 *
 * What the engine takes for another thing is refused: a reference to a group that may
 * not have taken part (matches the empty string in ECMA 262, and nothing here).
 */
#include "schema/ecma.h"

#include "miscadmin.h"

#include "schema/charclass.h"
#include "schema/charset.h"
#include "schema/regextext.h"

#define MOST_WEIGHT		10000

/* A group; the first one is the whole expression. */
typedef struct EcmaGroup
{
	uint32		parent;
	uint32		alternative;	/* of its parent's, the one it stands in */
	uint32		alternatives;	/* of its own, so far, but one */
	Size		start;			/* where it begins in the result */
	uint32		engine_number;	/* to refer back by; 0: none */
	uint64		weight;
	uint64		assertions;		/* of its own: ^, $, |, \b and \B */
	const pg_wchar *name;		/* of a named one */
	uint32		name_len;
	bool		captures;
	bool		look;			/* looks ahead or behind */
	bool		closed;
	bool		optional;		/* may be repeated no times */
} EcmaGroup;

typedef struct Translation
{
	EsRegexReader in;
	EsRegexText out;
	EcmaGroup  *groups;
	uint32		group_count;
	uint32		group_space;
	uint32		current;		/* the innermost open group */
	uint32		engine_count;	/* of groups that capture in the result */
	bool		refers_back;	/* something in the expression does */
	uint64		most_weight;
	/* what a quantifier would be about; no atom: there is nothing */
	bool		has_atom;
	Size		atom_start;
	uint64		atom_weight;
	uint32		atom_group;		/* 0: it is none */
} Translation;

/* Notes why the expression cannot be used. */
static bool
fail_translation(Translation *t, const char *fault)
{
	return es_charclass_fail(&t->in, fault);
}

/* ---- atoms ---- */

/* Begins an atom here. */
static void
begin_atom(Translation *t)
{
	t->has_atom = true;
	t->atom_start = t->out.len;
	t->atom_weight = 1;
	t->atom_group = 0;
}

/* Writes a set as an atom. */
static void
put_set_atom(Translation *t, EsCharset *set)
{
	begin_atom(t);
	t->atom_weight += set->count / 8;
	es_regextext_put_set(&t->out, set);
}

/* Writes a character of Unicode as an atom. */
static void
put_unicode(Translation *t, uint32 code)
{
	EsCharset	nothing = {0};
	pg_wchar	c;

	if (!es_charset_from_unicode(code, &c))
	{
		put_set_atom(t, &nothing);
		return;
	}
	begin_atom(t);
	es_regextext_put_literal(&t->out, c);
}

/* Takes a class, after its '['. */
static bool
take_class_here(Translation *t)
{
	EsCharset	set = {0};

	if (!es_charclass_take_class(&t->in, &set))
		return false;
	put_set_atom(t, &set);
	return true;
}

/* ---- groups ---- */

/* Tells whether one of the open groups looks ahead or behind. */
static bool
is_within_look(const Translation *t)
{
	for (uint32 i = t->current; i != 0; i = t->groups[i].parent)
	{
		if (t->groups[i].look)
			return true;
	}
	return false;
}

/* Adds a group, which becomes the current one. */
static EcmaGroup *
push_group(Translation *t)
{
	EcmaGroup  *group;

	if (t->group_count == t->group_space)
	{
		t->group_space *= 2;
		t->groups = repalloc_huge(t->groups, (Size) t->group_space * sizeof(EcmaGroup));
	}
	group = &t->groups[t->group_count];
	memset(group, 0, sizeof(*group));
	group->parent = t->current;
	group->alternative = t->groups[t->current].alternatives;
	group->start = t->out.len;
	t->current = t->group_count++;
	return group;
}

/* Takes the name of a group, after its '<'. */
static bool
take_group_name(Translation *t, const pg_wchar **name, uint32 *len)
{
	*name = t->in.at;
	while (t->in.at < t->in.end && (*t->in.at >= 0x80 || isalnum((unsigned char) *t->in.at) || *t->in.at == '_' || *t->in.at == '$'))
		t->in.at++;
	*len = t->in.at - *name;
	if (*len == 0 || t->in.at == t->in.end || *t->in.at != '>')
		return fail_translation(t, "The name of a group is none.");
	t->in.at++;
	return true;
}

/* Finds a named group; 0 if there is none. */
static uint32
find_named_group(const Translation *t, const pg_wchar *name, uint32 len)
{
	for (uint32 i = 1; i < t->group_count; i++)
	{
		const EcmaGroup *group = &t->groups[i];

		CHECK_FOR_INTERRUPTS();
		if (group->name && group->name_len == len && memcmp(group->name, name, len * sizeof(pg_wchar)) == 0)
			return i;
	}
	return 0;
}

/* Begins a group that captures. */
static void
begin_capture(Translation *t, const pg_wchar *name, uint32 name_len)
{
	bool		counts = t->refers_back && !is_within_look(t);
	EcmaGroup  *group = push_group(t);

	group->captures = true;
	group->name = name;
	group->name_len = name_len;
	group->engine_number = counts ? ++t->engine_count : 0;
	es_regextext_put_ascii(&t->out, counts ? "(" : "(?:");
}

/* Takes the beginning of a group, after its '('. */
static bool
take_group(Translation *t)
{
	static const char *const looks[] = {"?=", "?!", "?<=", "?<!"};
	const pg_wchar *name = NULL;
	uint32		name_len = 0;
	uint32		left = t->in.end - t->in.at;

	t->has_atom = false;
	if (left < 2 || t->in.at[0] != '?')
	{
		begin_capture(t, NULL, 0);
		return true;
	}
	for (int i = 0; i < lengthof(looks); i++)
	{
		uint32		len = strlen(looks[i]);

		if (left < len || t->in.at[1] != looks[i][1] || t->in.at[len - 1] != looks[i][len - 1])
			continue;
		t->in.at += len;
		push_group(t)->look = true;
		es_regextext_put(&t->out, '(');
		es_regextext_put_ascii(&t->out, looks[i]);
		return true;
	}
	if (t->in.at[1] == ':')
	{
		t->in.at += 2;
		(void) push_group(t);
		es_regextext_put_ascii(&t->out, "(?:");
		return true;
	}
	if (t->in.at[1] != '<')
		return fail_translation(t, "A group begins with (? and something that ECMA 262 does not have.");
	t->in.at += 2;
	if (!take_group_name(t, &name, &name_len))
		return false;
	if (find_named_group(t, name, name_len) != 0)
		return fail_translation(t, "Two groups have the same name.");
	begin_capture(t, name, name_len);
	return true;
}

/*
 * Takes the end of a group, after its ')'.  A group that matches no characters has a
 * weight, too: what it is written as is repeated all the same, and so is what the engine
 * makes of it.
 */
static bool
end_group(Translation *t)
{
	EcmaGroup  *group = &t->groups[t->current];

	if (t->current == 0)
		return fail_translation(t, "A parenthesis closes nothing.");
	es_regextext_put(&t->out, ')');
	group->closed = true;
	group->weight = Max(group->weight, Max(group->assertions, 1));
	t->groups[group->parent].weight += group->weight;
	t->has_atom = !group->look;
	t->atom_start = group->start;
	t->atom_weight = group->weight;
	t->atom_group = t->current;
	t->current = group->parent;
	return true;
}

/* ---- references ---- */

/* Tells whether a group has surely taken part where the translation is. */
static bool
has_surely_matched(const Translation *t, uint32 number)
{
	for (;;)
	{
		const EcmaGroup *group = &t->groups[number];
		const EcmaGroup *parent = &t->groups[group->parent];

		if (!group->closed || group->optional || group->look)
			return false;
		if (!parent->closed)
			return group->alternative == parent->alternatives;
		if (parent->alternatives > 0)
			return false;
		number = group->parent;
	}
}

/* Finds the group with a number, as ECMA 262 counts; 0 if there is none. */
static uint32
find_numbered_group(const Translation *t, uint32 number)
{
	for (uint32 i = 1; i < t->group_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (t->groups[i].captures && --number == 0)
			return i;
	}
	return 0;
}

/* Takes a reference to a group, at its number or its k. */
static bool
take_reference(Translation *t)
{
	uint32		group = 0;
	uint32		number = 0;
	const pg_wchar *name;
	uint32		len;

	if (*t->in.at == 'k')
	{
		if (t->in.end - ++t->in.at < 2 || *t->in.at++ != '<')
			return fail_translation(t, "The name of a group is none.");
		if (!take_group_name(t, &name, &len))
			return false;
		group = find_named_group(t, name, len);
	}
	else
	{
		while (t->in.at < t->in.end && *t->in.at >= '0' && *t->in.at <= '9' && number < 100000)
			number = number * 10 + *t->in.at++ - '0';
		group = find_numbered_group(t, number);
	}
	if (group == 0 || t->groups[group].engine_number == 0 || is_within_look(t) || !has_surely_matched(t, group))
		return fail_translation(t, "It refers back to a group that may not have matched, or from within or into a look ahead or behind.");
	begin_atom(t);
	es_regextext_put_ascii(&t->out, psprintf("(?:\\%u)", t->groups[group].engine_number));
	return true;
}

/* ---- quantifiers ---- */

/* Takes a number; false if there is none. */
static bool
take_count(const pg_wchar **at, const pg_wchar *end, uint32 *count)
{
	const pg_wchar *start = *at;

	*count = 0;
	for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
		*count = Min(*count * 10 + (**at - '0'), 100000000);
	return *at > start;
}

/* Takes bounds, at their '{'; false if these are none, then nothing is taken. */
static bool
take_bounds(Translation *t, uint32 *least, uint32 *most)
{
	const pg_wchar *at = t->in.at + 1;

	if (!take_count(&at, t->in.end, least))
		return false;
	*most = *least;
	if (at < t->in.end && *at == ',')
	{
		at++;
		if (!take_count(&at, t->in.end, most))
			*most = ES_NO_BOUND;
	}
	if (at == t->in.end || *at != '}')
		return false;
	t->in.at = at + 1;
	return true;
}

/* Applies a quantifier to the atom. */
static bool
quantify(Translation *t, uint32 least, uint32 most)
{
	uint64		times = Max(1, most == ES_NO_BOUND ? (uint64) least : (uint64) most);

	if (!t->has_atom)
		return fail_translation(t, "A quantifier has nothing before it that can be repeated.");
	if (least > most)
		return fail_translation(t, "The bounds of a quantifier are in the wrong order.");
	if (t->in.at < t->in.end && *t->in.at == '?')
		t->in.at++;
	if (times > t->most_weight || t->atom_weight * times > t->most_weight)
		return fail_translation(t, "It repeats too much too often.");
	t->groups[t->current].weight += t->atom_weight * (times - 1);
	if (t->atom_group != 0)
		t->groups[t->atom_group].optional = least == 0;
	t->has_atom = false;
	if (t->refers_back && times > ES_MOST_COUNTED)
		return fail_translation(t, "It refers back to a group, and repeats more than 255 times.");
	es_regextext_repeat(&t->out, t->atom_start, least, most);
	return true;
}

/* ---- all of it ---- */

/* Takes what is about a place between characters, and cannot be repeated by itself. */
static void
begin_assertion(Translation *t)
{
	t->has_atom = false;
	t->groups[t->current].assertions++;
}

/* Takes an escape outside of classes, after its backslash. */
static bool
take_plain_escape(Translation *t)
{
	EsCharset	set = {0};
	uint32		code;
	pg_wchar	c;

	if (t->in.at == t->in.end)
		return fail_translation(t, "It ends with a backslash.");
	c = *t->in.at;
	if (c == 'b' || c == 'B')
	{
		t->in.at++;
		begin_assertion(t);
		es_regextext_put_ascii(&t->out, c == 'b' ? "\\y" : "\\Y");
		return true;
	}
	if ((c >= '1' && c <= '9') || c == 'k')
		return take_reference(t);
	if (c == '0' && (t->in.end - t->in.at < 2 || t->in.at[1] < '0' || t->in.at[1] > '9'))
	{
		t->in.at++;
		put_set_atom(t, &set);	/* no text of the server has the character 0 */
		return true;
	}
	if (!es_charclass_take_escape(&t->in, &code, &set))
		return false;
	if (code == ES_NO_CHARACTER)
		put_set_atom(t, &set);
	else if (c == 'x' || c == 'u')
		put_unicode(t, code);
	else
	{
		begin_atom(t);
		es_regextext_put_literal(&t->out, code);
	}
	return true;
}

/* Takes a character that may be a quantifier; else it stands for itself. */
static bool
take_plain(Translation *t)
{
	uint32		least = 0;
	uint32		most = ES_NO_BOUND;
	pg_wchar	c = *t->in.at;

	if (c == '{' && take_bounds(t, &least, &most))
		return quantify(t, least, most);
	t->in.at++;
	if (c == '*' || c == '+' || c == '?')
		return quantify(t, c == '+' ? 1 : 0, c == '?' ? 1 : ES_NO_BOUND);
	begin_atom(t);
	es_regextext_put_literal(&t->out, c);
	return true;
}

/* Takes the next piece of an expression. */
static bool
take_piece(Translation *t)
{
	EsCharset	set = {0};
	pg_wchar	c = *t->in.at;

	if (strchr("\\[(.^$|)", c < 0x80 ? (int) c : 'a') != NULL)
		t->in.at++;
	switch (c)
	{
		case '\\':
			return take_plain_escape(t);
		case '[':
			return take_class_here(t);
		case '(':
			return take_group(t);
		case ')':
			return end_group(t);
		case '.':
			es_charset_add_escape(&set, '.');
			es_charset_complement(&set);
			put_set_atom(t, &set);
			return true;
		case '|':
			t->groups[t->current].alternatives++;
			/* FALLTHROUGH */
		case '^':
		case '$':
			begin_assertion(t);
			es_regextext_put(&t->out, c);
			return true;
		default:
			return take_plain(t);
	}
}

/* Tells whether something in an expression may refer back to a group. */
static bool
may_refer_back(const char *pattern, uint32 len)
{
	for (uint32 i = 0; i + 1 < len; i++)
	{
		if (pattern[i] != '\\')
			continue;
		i++;
		if ((pattern[i] >= '1' && pattern[i] <= '9') || pattern[i] == 'k')
			return true;
	}
	return false;
}

bool
es_ecma_translate(const char *pattern, uint32 len, bool stored, EsEcmaResult *result)
{
	pg_wchar   *chars = palloc_extended(((Size) len + 1) * sizeof(pg_wchar), MCXT_ALLOC_HUGE);
	Translation t = {.in.at = chars};

	t.in.end = chars + pg_mb2wchar_with_len(pattern, chars, len);
	t.out.space = Min(len, ES_MOST_REGEX_TEXT) + 16;
	t.out.chars = palloc_extended(t.out.space * sizeof(pg_wchar), MCXT_ALLOC_HUGE);
	t.group_space = 8;
	t.groups = palloc0(t.group_space * sizeof(EcmaGroup));
	t.group_count = 1;
	t.refers_back = may_refer_back(pattern, len);
	t.most_weight = MOST_WEIGHT * (stored ? ES_STORED_WEIGHT : 1);
	while (t.in.fault == NULL && t.in.at < t.in.end)
	{
		CHECK_FOR_INTERRUPTS();
		if (take_piece(&t) && t.has_atom && t.atom_group == 0)
			t.groups[t.current].weight += t.atom_weight;
		if (t.groups[t.current].weight > t.most_weight || t.out.too_long)
			(void) fail_translation(&t, "It is too long, or repeats too much too often.");
	}
	if (t.current != 0)
		(void) fail_translation(&t, "A parenthesis is not closed.");
	result->chars = t.out.chars;
	result->len = t.out.len;
	result->weight = t.groups[0].weight;
	result->fault = t.in.fault;
	return t.in.fault == NULL;
}
