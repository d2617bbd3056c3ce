/*
 * place.c
 *		Where in a JSON document something is, for errors.
 */
#include "json/place.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "base/names.h"

#define MOST_SHOWN	256			/* bytes of a place */

/* Gives a place as a JSON pointer. */
static char *
describe_place(const EsPlace *place)
{
	char	   *within;
	StringInfoData out;

	if (place == NULL || place->within == NULL)
		return "";
	check_stack_depth();
	within = describe_place(place->within);
	if (place->key == NULL)
		return psprintf("%s/%d", within, place->number);
	initStringInfo(&out);
	appendStringInfo(&out, "%s/", within);
	for (int i = 0; i < place->len; i++)
		if (place->key[i] == '~' || place->key[i] == '/')
			appendStringInfoString(&out, place->key[i] == '~' ? "~0" : "~1");
		else
			appendStringInfoChar(&out, place->key[i]);
	return out.data;
}

/* es_place_errdetail says in an error's DETAIL where it is; to be called within ereport. */
int
es_place_errdetail(const EsPlace *place)
{
	const char *where = describe_place(place);

	if (where[0] == '\0')
		return errdetail("The error is at the top of the document.");
	return errdetail("The error is at \"%s\" in the document.", es_names_cut(where, strlen(where), MOST_SHOWN));
}
