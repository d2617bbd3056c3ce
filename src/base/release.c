/*
 * release.c
 *		Versions: that of the library, and those that scripts need.
 *
 * The files of a version come together, but who installs them beside a server that runs has
 * the library of before still loaded, where it is preloaded or a session had it.  A script
 * that makes objects for functions which that library does not have, or has otherwise, would
 * leave a store that nobody can use.  So each script asks first.
 *
 * The other way round is what happens between the files and ALTER EXTENSION ... UPDATE: a
 * library works with the script of any release before it.  es_doctor() tells of both.
 */
#include "base/base.h"

#include "utils/builtins.h"

#define NUMBERS		3			/* of a version: MAJOR.MINOR.PATCH */

PG_FUNCTION_INFO_V1(es_release_require);

/* Compares two versions, below, equal or above 0; what is no number counts as 0. */
static int
compare_versions(const char *a, const char *b)
{
	for (int i = 0; i < NUMBERS; i++)
	{
		char	   *after_a;
		char	   *after_b;
		long		number_a = strtol(a, &after_a, 10);
		long		number_b = strtol(b, &after_b, 10);

		if (number_a != number_b)
			return number_a < number_b ? -1 : 1;
		a = *after_a == '.' ? after_a + 1 : after_a;
		b = *after_b == '.' ? after_b + 1 : after_b;
	}
	return 0;
}

/*
 * eventstore.require_library(script): for scripts of the extension, each of which calls it
 * with its version before it makes anything.  55000 if the library is of an earlier one.
 */
Datum
es_release_require(PG_FUNCTION_ARGS)
{
	char	   *script = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (compare_versions(es_base_version, script) < 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("extension \"eventstore\" cannot become version %s because the library that is loaded is of version %s",
					   script, es_base_version),
				errdetail("It was loaded before the files of the extension were replaced."),
				errhint("Restart the server if \"shared_preload_libraries\" names the library, otherwise connect anew; then run the statement again."));
	PG_RETURN_VOID();
}
