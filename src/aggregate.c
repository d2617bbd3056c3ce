/*
 * aggregate.c
 *		Folding the events of any query: the aggregate es_fold.
 *
 * A group has a fold of its own, in the aggregate's memory context.  The state
 * may be asked for in between, as a window function does, and the fold go on.
 */
#include "fold.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(es_aggregate_transition);
PG_FUNCTION_INFO_V1(es_aggregate_result);

/* Begins a group's fold. */
static EsFold *
begin_group(FunctionCallInfo fcinfo, MemoryContext group)
{
	MemoryContext old;
	EsFold	   *fold;

	es_base_require(fcinfo, 1, "reducer");
	old = MemoryContextSwitchTo(group);
	fold = es_fold_begin(PG_GETARG_TEXT_PP(1));
	MemoryContextSwitchTo(old);
	if (fold == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("reducer \"%s\" does not exist", text_to_cstring(PG_GETARG_TEXT_PP(1))),
				errhint("Create it with es_create_reducer or es_register_reducer."));
	return fold;
}

/* Raises 22023 if a group's rows name different reducers. */
static void
require_same_reducer(FunctionCallInfo fcinfo, const EsFold *fold)
{
	const char *name = es_fold_reducer(fold)->name;
	text	   *given;

	es_base_require(fcinfo, 1, "reducer");
	given = PG_GETARG_TEXT_PP(1);
	if (VARSIZE_ANY_EXHDR(given) != strlen(name) || memcmp(VARDATA_ANY(given), name, strlen(name)) != 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("es_fold folds a group by one reducer"),
				errdetail("It began with \"%s\" and got \"%s\".", name, text_to_cstring(given)));
}

/*
 * eventstore.fold_transition(state internal, reducer text, event es_event) takes
 * an event in; one that is NULL is left out, one without type or data is 22004.
 * NULL reducer: 22004; unknown reducer: VE004; what a handler raises: VE009.
 */
Datum
es_aggregate_transition(PG_FUNCTION_ARGS)
{
	MemoryContext group;
	EsFold	   *fold = PG_ARGISNULL(0) ? NULL : (EsFold *) PG_GETARG_POINTER(0);
	EsEvent		event;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];

	if (!AggCheckCallContext(fcinfo, &group))
		elog(ERROR, "eventstore.fold_transition was called outside of an aggregate");
	if (fold == NULL && PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (fold == NULL)
		fold = begin_group(fcinfo, group);
	else
		require_same_reducer(fcinfo, fold);
	if (PG_ARGISNULL(2))
		PG_RETURN_POINTER(fold);
	if (!es_base_event_of_datum(PG_GETARG_DATUM(2), &event, values, isnull))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("an event's type and data must not be null"));
	es_fold_apply(fold, &event);
	PG_RETURN_POINTER(fold);
}

/* eventstore.fold_result(state internal) gives a group's state; NULL if it had no event. */
Datum
es_aggregate_result(PG_FUNCTION_ARGS)
{
	bool		isnull;
	Datum		state;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = es_fold_state_jsonb((EsFold *) PG_GETARG_POINTER(0), &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state);
}
