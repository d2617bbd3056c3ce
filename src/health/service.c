/*
 * service.c
 *		The library and the worker: what SQL cannot ask.
 *
 * The looks themselves are in service.sql.
 */
#include "base/base.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/call.h"
#include "base/loaded.h"
#include "shared/roster.h"
#include "shared/trouble.h"

#define Natts_state		5
#define Natts_troubles	5

PG_FUNCTION_INFO_V1(es_service_library_is_replaced);
PG_FUNCTION_INFO_V1(es_service_setting_is_set);
PG_FUNCTION_INFO_V1(es_service_setting_lists);
PG_FUNCTION_INFO_V1(es_service_is_left_out);
PG_FUNCTION_INFO_V1(es_service_worker_state);
PG_FUNCTION_INFO_V1(es_service_troubles);

/* eventstore.library_is_replaced(): whether the library's file is another one than was loaded. */
Datum
es_service_library_is_replaced(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(es_loaded_is_replaced());
}

/*
 * eventstore.setting_is_set(name): whether a setting has a value, also one that the owner, if he
 * is no superuser, may not read.  False for one that does not exist.
 */
Datum
es_service_setting_is_set(PG_FUNCTION_ARGS)
{
	const char *value = GetConfigOption(text_to_cstring(PG_GETARG_TEXT_PP(0)), true, false);

	PG_RETURN_BOOL(value != NULL && value[0] != '\0');
}

/*
 * eventstore.setting_lists(name, item): whether a setting that is a list has an item; NULL if
 * there is no such setting.
 */
Datum
es_service_setting_lists(PG_FUNCTION_ARGS)
{
	const char *value = GetConfigOption(text_to_cstring(PG_GETARG_TEXT_PP(0)), true, false);
	const char *item = text_to_cstring(PG_GETARG_TEXT_PP(1));
	List	   *items;
	ListCell   *cell;
	bool		found = false;

	if (value == NULL)
		PG_RETURN_NULL();
	(void) SplitGUCList(pstrdup(value), ',', &items);
	foreach(cell, items)
	{
		found = found || strcmp(lfirst(cell), item) == 0;
	}
	PG_RETURN_BOOL(found);
}

/*
 * eventstore.worker_state(): how this database is looked after; NULLs where the library is
 * not preloaded.
 */
Datum
es_service_worker_state(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = es_call_result_desc(fcinfo);
	Datum		values[Natts_state] = {0};
	bool		isnull[Natts_state];
	EsRosterState state;

	memset(isnull, true, sizeof(isnull));
	if (es_roster_describe(&state))
	{
		memset(isnull, false, sizeof(isnull));
		values[0] = BoolGetDatum(state.looked_after);
		values[1] = BoolGetDatum(state.wanted);
		values[2] = TimestampTzGetDatum(state.since);
		isnull[2] = state.looked_after;
		values[3] = Int32GetDatum(state.held_by);
		isnull[3] = state.held_by == 0;
		values[4] = Int32GetDatum(state.workers);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, isnull)));
}

/*
 * eventstore.is_left_out(): whether as many databases as can be looked after are, or are to be,
 * and this one is not among them.
 */
Datum
es_service_is_left_out(PG_FUNCTION_ARGS)
{
	EsRosterState state;

	PG_RETURN_BOOL(es_roster_describe(&state) && state.left_out);
}

/* eventstore.troubles(): a row for each task of this database that fails now. */
Datum
es_service_troubles(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);

	for (EsTask task = 0; task < ES_NTASKS; task++)
	{
		EsTrouble	trouble;
		Datum		values[Natts_troubles];
		bool		isnull[Natts_troubles] = {false};

		if (!es_trouble_read(task, &trouble) || !trouble.fails)
			continue;
		values[0] = CStringGetTextDatum(es_trouble_names[task]);
		values[1] = Int64GetDatum((int64) trouble.failures);
		values[2] = TimestampTzGetDatum(trouble.since);
		values[3] = TimestampTzGetDatum(trouble.last);
		values[4] = CStringGetTextDatum(trouble.text);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
