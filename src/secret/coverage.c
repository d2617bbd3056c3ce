/*
 * coverage.c
 *		What is, or has been, protected in a set of categories.
 *
 * Definitions as the session keeps them (protection.c) may go as soon as it looks at rows.
 * What is given here are copies.
 */
#include "secret/coverage.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "json/node.h"
#include "secret/protection.h"

#define MOST_STEPS	64

/* es_coverage_categories gives the protected ones of some categories; see coverage.h. */
List *
es_coverage_categories(const EsNames *categories)
{
	List	   *some = NIL;

	if (!categories->set)
		return es_protection_categories();
	for (int i = 0; i < categories->count; i++)
		if (es_protection_of_category(categories->names[i]))
			some = lappend(some, DatumGetTextPCopy(PointerGetDatum(categories->names[i])));
	return some;
}

/* es_coverage_any tells whether there is one; see coverage.h. */
bool
es_coverage_any(const EsNames *categories)
{
	List	   *found;
	bool		any;

	if (!es_protection_any())
		return false;
	if (!categories->set)
		return true;
	if (categories->count == 1)
		return es_protection_of_category(categories->names[0]) != NULL;
	found = es_coverage_categories(categories);
	any = found != NIL;
	list_free_deep(found);
	return any;
}

/* A walk to the fields that steps lead to. */
typedef struct FieldWalk
{
	EsKey		keys[MOST_STEPS];
	int			depth;
	EsLeaves   *leaves;
} FieldWalk;

/* Adds the places of fields that a step leads to. */
static bool
add_fields_below(FieldWalk *walk, const EsProtectedStep *step)
{
	bool		fit = true;

	CHECK_FOR_INTERRUPTS();
	if (step->is_field)
		return es_taint_add(walk->leaves, walk->keys, walk->depth);
	if (walk->depth == MOST_STEPS)
		return false;
	for (int i = 0; i < step->count && fit; i++)
	{
		const EsKey *key = &step->steps[i].key;

		walk->keys[walk->depth++] = es_node_key(pnstrdup(key->bytes, key->len), key->len);
		fit = add_fields_below(walk, &step->steps[i]);
		walk->depth--;
	}
	return fit;
}

/* es_coverage_leaves_of adds the places of a category's protected fields; see coverage.h. */
bool
es_coverage_leaves_of(const text *category, EsLeaves *leaves)
{
	const EsProtected *fields = es_protection_of_category(category);
	FieldWalk	walk = {.leaves = leaves};

	return fields == NULL || add_fields_below(&walk, &fields->ever);
}

/* es_coverage_leaves adds the places of protected fields; see coverage.h. */
bool
es_coverage_leaves(const EsNames *categories, EsLeaves *leaves)
{
	ListCell   *cell;

	foreach(cell, es_coverage_categories(categories))
		if (!es_coverage_leaves_of(lfirst(cell), leaves))
		return false;
	return true;
}

/* ---- pointers ---- */

/* Takes the next token of a JSON pointer, which begins with a slash; gives where it ends. */
static const char *
next_pointer_token(const char *at, StringInfo token)
{
	resetStringInfo(token);
	for (at++; *at != '\0' && *at != '/'; at++)
	{
		if (at[0] == '~' && (at[1] == '0' || at[1] == '1'))
			appendStringInfoChar(token, *++at == '0' ? '~' : '/');
		else
			appendStringInfoChar(token, *at);
	}
	return at;
}

/* Finds the step that a key leads to; NULL if there is none. */
static const EsProtectedStep *
find_step_of_key(const EsProtectedStep *step, const StringInfo key)
{
	for (int i = 0; i < step->count; i++)
		if (step->steps[i].key.len == key->len && memcmp(step->steps[i].key.bytes, key->data, key->len) == 0)
			return &step->steps[i];
	return NULL;
}

/* es_coverage_field_at tells where a pointer meets a protected field; see coverage.h. */
char *
es_coverage_field_at(const text *stream, const char *pointer)
{
	const EsProtected *category = es_protection_of(stream);
	const EsProtectedStep *step = category ? &category->ever : NULL;
	const char *at = pointer;
	StringInfoData token;

	initStringInfo(&token);
	while (step && !step->is_field && *at == '/')
	{
		const EsProtectedStep *next;

		CHECK_FOR_INTERRUPTS();
		at = next_pointer_token(at, &token);
		next = find_step_of_key(step, &token);

		/* arrays on the way are gone through */
		if (next == NULL && strspn(token.data, "0123456789") == token.len)
			next = step;
		step = next;
	}
	pfree(token.data);
	return step && step->is_field ? pnstrdup(pointer, at - pointer) : NULL;
}
