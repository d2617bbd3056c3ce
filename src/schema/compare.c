/*
 * compare.c
 *		What registering a new version of a schema would say, without registering it.
 */
#include "base/base.h"

#include "utils/builtins.h"

#include "base/call.h"
#include "schema/compat.h"

#define COLUMNS	5

PG_FUNCTION_INFO_V1(es_compare_schemas);

/*
 * es_compare_schemas(old_schema, new_schema, compatibility): what is against the
 * compatibility of the new schema with the old one: pointer and rule of the schema that
 * may refuse values, what they are, 'backward' if it is the new schema, 'forward' if it
 * is the old one, and whether that is certain or only not known to be otherwise.  No
 * rows: es_register_schema takes it.
 *
 * NULL is 22004, an unknown compatibility and what is no schema 22023.  Takes no locks.
 */
Datum
es_compare_schemas(PG_FUNCTION_ARGS)
{
	EsCompatibility compatibility;
	List	   *problems;
	ReturnSetInfo *result;
	ListCell   *cell;

	es_call_require(fcinfo, 0, "old_schema");
	es_call_require(fcinfo, 1, "new_schema");
	es_call_require(fcinfo, 2, "compatibility");
	compatibility = es_compat_from_name(PG_GETARG_TEXT_PP(2));
	problems = es_compat_compare(PG_GETARG_JSONB_P(0), false, PG_GETARG_JSONB_P(1), compatibility);
	result = es_call_begin_rows(fcinfo);
	foreach(cell, problems)
	{
		const EsIncompatibility *problem = lfirst(cell);
		Datum		values[COLUMNS];
		bool		isnull[COLUMNS] = {0};
		int			i = 0;

		values[i++] = CStringGetTextDatum(problem->pointer);
		values[i++] = CStringGetTextDatum(problem->rule);
		values[i++] = CStringGetTextDatum(problem->message);
		values[i++] = CStringGetTextDatum(problem->forward ? "forward" : "backward");
		values[i++] = BoolGetDatum(problem->decided);
		Assert(i == COLUMNS);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
