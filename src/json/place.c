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

/* es_place_report raises 22023 with the place of a problem. */
void
es_place_report(const EsPlace *place, const char *problem)
{
	const char *where = describe_place(place);

	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s", problem),
			where[0] != '\0' ? errdetail("At %s.", es_names_cut(where, strlen(where), MOST_SHOWN)) : errdetail("At the top of the document."));
}
