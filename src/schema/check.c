/*
 * check.c
 *		A value held against a schema by hand: es_check_schema.
 */
#include "base/base.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/call.h"
#include "schema/compile.h"
#include "schema/model.h"
#include "schema/validate.h"
#include "schema/violation.h"

PG_FUNCTION_INFO_V1(es_check_schema);

/* Puts a violation into the ReturnSetInfo that it is given. */
static bool
return_violation(const EsViolation *violation, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[3];
	bool		isnull[3] = {false};
	int			i = 0;

	values[i++] = CStringGetTextDatum(violation->pointer);
	values[i++] = CStringGetTextDatum(violation->rule);
	values[i++] = CStringGetTextDatum(violation->message);
	Assert(i == lengthof(values));
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	for (i = 0; i < lengthof(values); i++)
		pfree(DatumGetPointer(values[i]));
	return true;
}

/*
 * es_check_schema(schema, data): what is wrong with data by a schema, a row for each
 * rule that is broken, with a pointer to the place in the data; none if it is valid.
 *
 * NULL arguments are 22004, what is no schema is 22023.  Looks at no table.
 */
Datum
es_check_schema(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	MemoryContext work;
	MemoryContext old;
	const EsSchema *schema;

	es_call_require(fcinfo, 0, "schema");
	es_call_require(fcinfo, 1, "data");
	result = es_call_begin_rows(fcinfo);
	work = AllocSetContextCreate(CurrentMemoryContext, "eventstore schema", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);
	schema = es_schema_compile(PG_GETARG_JSONB_P(0), false);
	es_schema_list_violations(schema, PG_GETARG_JSONB_P(1), return_violation, result);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return (Datum) 0;
}
