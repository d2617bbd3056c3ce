/*
 * place.c
 *		Where in a JSON document something is, for errors.
 */
#include "json/place.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/names.h"

#define MOST_SHOWN	256			/* bytes of a place */

/* Appends a key, in which '~' and '/' are escaped; no more of it than is shown of a place. */
static void
append_place_key(StringInfo out, const char *key, int len)
{
	int			shown = len > MOST_SHOWN ? pg_mbcliplen(key, len, MOST_SHOWN + MAX_MULTIBYTE_CHAR_LEN) : len;

	for (int i = 0; i < shown; i++)
		if (key[i] == '~' || key[i] == '/')
			appendStringInfoString(out, key[i] == '~' ? "~0" : "~1");
		else
			appendStringInfoChar(out, key[i]);
}

/*
 * Appends a place as a JSON pointer, from the document on, until it is longer than what is
 * shown: a place may be deep, and its keys long.
 */
static void
append_place(StringInfo out, const EsPlace *place)
{
	if (place == NULL || place->within == NULL)
		return;
	check_stack_depth();
	append_place(out, place->within);
	if (out->len > MOST_SHOWN)
		return;
	appendStringInfoChar(out, '/');
	if (place->key == NULL)
		appendStringInfo(out, "%d", place->number);
	else
		append_place_key(out, place->key, place->len);
}

/* es_place_errdetail says in an error's DETAIL where it is; to be called within ereport. */
int
es_place_errdetail(const EsPlace *place)
{
	StringInfoData where;

	initStringInfo(&where);
	append_place(&where, place);
	if (where.len == 0)
		return errdetail("The error is at the top of the document.");
	return errdetail("The error is at \"%s\" in the document.", es_names_cut(where.data, where.len, MOST_SHOWN));
}
