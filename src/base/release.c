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
 * library works with the script of any release before it.  es_doctor() tells of both, and
 * the worker as it begins.
 */
#include "base/release.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

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

/* Gives the version of the extension in this database; NULL if it is not there. */
static char *
read_extension_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	char	   *version = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("eventstore"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		if (!isnull)
			version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* es_release_report logs if the library and this database's extension are of different versions. */
void
es_release_report(void)
{
	char	   *script = read_extension_version();
	int			order = script ? compare_versions(es_base_version, script) : 0;

	if (order != 0)
		ereport(LOG,
				errmsg("extension \"eventstore\" in database \"%s\" is of version %s, the library of version %s",
					   get_database_name(MyDatabaseId), script, es_base_version),
				order > 0 ? errhint("Run ALTER EXTENSION eventstore UPDATE there.") :
				errhint("Install the files of version %s on this server, and restart it.", script));
}
