/*
 * aggregate.c
 *		Folding the events of any query: the aggregate es_fold.
 *
 * A place in a query where the aggregate stands has one fold, whatever the number
 * of its groups.  The group whose event came last has its state there; all others
 * have it packed, in memory of the aggregate's, which the server counts and gives
 * back.  So groups that come one after the other, as they do with ORDER BY in the
 * call, cost nothing, and many groups at once (hashed) cost no more memory than
 * their states.
 *
 * The state may be asked for in between, as a window function does, and the fold
 * go on.
 */
#include "base/base.h"

#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/call.h"
#include "base/event.h"
#include "base/names.h"
#include "base/settings.h"
#include "fold/fold.h"
#include "fold/reducer.h"
#include "fold/state.h"

PG_FUNCTION_INFO_V1(es_aggregate_transition);
PG_FUNCTION_INFO_V1(es_aggregate_result);

typedef struct FoldGroup FoldGroup;

/* The fold of one place in a query, in the query's memory context. */
typedef struct Engine
{
	EsFold	   *fold;			/* NULL: none yet */
	FoldGroup  *loaded;			/* whose state it has; NULL: nobody's */
} Engine;

/* A group, in the aggregate's memory context. */
struct FoldGroup
{
	Engine	   *engine;
	MemoryContext context;
	text	   *reducer;
	bool		begun;			/* stored is its state, unless it is loaded */
	EsStoredState stored;
	MemoryContextCallback callback;
};

/* The group goes: its aggregate's memory is given back. */
static void
forget_group(void *arg)
{
	FoldGroup  *group = arg;

	if (group->engine->loaded == group)
		group->engine->loaded = NULL;
}

/* Gives the fold of this place in the query. */
static Engine *
get_fold_engine(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
		fcinfo->flinfo->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Engine));
	return fcinfo->flinfo->fn_extra;
}

/* Begins a group. */
static FoldGroup *
begin_group(FunctionCallInfo fcinfo, MemoryContext context)
{
	MemoryContext old;
	FoldGroup  *group;

	es_call_require(fcinfo, 1, "reducer");
	old = MemoryContextSwitchTo(context);
	group = palloc0(sizeof(FoldGroup));
	group->engine = get_fold_engine(fcinfo);
	group->context = context;
	group->reducer = PG_GETARG_TEXT_P_COPY(1);
	group->callback.func = forget_group;
	group->callback.arg = group;
	MemoryContextRegisterResetCallback(context, &group->callback);
	MemoryContextSwitchTo(old);
	return group;
}

/* Frees the state of a group. */
static void
free_group_state(FoldGroup *group)
{
	if (group->stored.json)
		pfree(group->stored.json);
	if (group->stored.text)
		pfree(group->stored.text);
	group->stored.json = NULL;
	group->stored.text = NULL;
}

/*
 * Packs the state of the group that is loaded.  What that takes on the way is in the current
 * memory context, which is the row's: the aggregate's lives as long as the groups.
 */
static void
unload_group(Engine *engine)
{
	FoldGroup  *group = engine->loaded;
	EsStoredState stored;
	MemoryContext old;

	if (group == NULL)
		return;
	es_fold_store(engine->fold, &stored);
	free_group_state(group);
	old = MemoryContextSwitchTo(group->context);
	group->stored = stored;
	if (stored.json)
		group->stored.json = DatumGetJsonbPCopy(JsonbPGetDatum(stored.json));
	if (stored.text)
		group->stored.text = DatumGetTextPCopy(PointerGetDatum(stored.text));
	MemoryContextSwitchTo(old);
	group->begun = true;
	engine->loaded = NULL;
}

/* Makes sure that the fold is by the reducer of a group; VE004 if there is none. */
static void
begin_group_fold(FunctionCallInfo fcinfo, Engine *engine, const text *reducer)
{
	MemoryContext old;

	if (engine->fold != NULL)
	{
		const char *name = es_fold_reducer(engine->fold)->name;

		if (VARSIZE_ANY_EXHDR(reducer) == strlen(name) && memcmp(VARDATA_ANY(reducer), name, strlen(name)) == 0)
			return;
		es_fold_end(engine->fold);
		engine->fold = NULL;
	}
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	engine->fold = es_fold_begin(reducer);
	MemoryContextSwitchTo(old);
	if (engine->fold == NULL)
		es_reducer_report_unknown(reducer, ES_REDUCER_HOW_TO_CREATE);
}

/* Puts the state of a group into the fold. */
static void
load_group(FunctionCallInfo fcinfo, FoldGroup *group)
{
	Engine	   *engine = group->engine;

	if (engine->loaded == group)
		return;
	unload_group(engine);
	begin_group_fold(fcinfo, engine, group->reducer);
	if (group->begun)
		es_fold_load(engine->fold, &group->stored);
	else
		es_fold_reset(engine->fold);
	engine->loaded = group;
}

/* Raises 22023 if a group's rows name different reducers. */
static void
require_same_reducer(FunctionCallInfo fcinfo, const FoldGroup *group)
{
	es_call_require(fcinfo, 1, "reducer");
	if (!es_names_same(PG_GETARG_TEXT_PP(1), group->reducer))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("es_fold cannot fold a group by more than one reducer"),
				errdetail("It began with \"%s\" and got \"%s\".", es_names_show_text(group->reducer),
						  es_names_show_text(PG_GETARG_TEXT_PP(1))));
}

/*
 * eventstore.fold_transition(state internal, reducer text, event es_event) takes
 * an event in; one that is NULL is left out, one without type or data is 22004.
 * NULL reducer: 22004; unknown reducer: VE004; what a handler raises: VE009.
 */
Datum
es_aggregate_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	FoldGroup  *group = PG_ARGISNULL(0) ? NULL : (FoldGroup *) PG_GETARG_POINTER(0);
	EsEvent		event;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];
	int			settings;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("function eventstore.fold_transition was called outside of an aggregate"),
				errhint("Use the aggregate es_fold."));
	if (group == NULL)
		es_right_require_any(ES_RIGHTS_ALL);
	if (group == NULL && PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (group == NULL)
		group = begin_group(fcinfo, context);
	else
		require_same_reducer(fcinfo, group);
	if (PG_ARGISNULL(2))
		PG_RETURN_POINTER(group);
	load_group(fcinfo, group);
	if (!es_event_of_datum(PG_GETARG_DATUM(2), &event, values, isnull))
		es_event_report_null();
	/* for this call only: between calls the query's other expressions run */
	settings = es_fold_enter_settings(group->engine->fold);
	es_fold_apply(group->engine->fold, &event);
	es_settings_leave(settings);
	PG_RETURN_POINTER(group);
}

/* eventstore.fold_result(state internal) gives a group's state; NULL if it had no event. */
Datum
es_aggregate_result(PG_FUNCTION_ARGS)
{
	FoldGroup  *group = PG_ARGISNULL(0) ? NULL : (FoldGroup *) PG_GETARG_POINTER(0);
	bool		isnull;
	Datum		state;

	if (group == NULL)
		PG_RETURN_NULL();
	load_group(fcinfo, group);
	state = es_fold_state_jsonb(group->engine->fold, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	/* the next group's event may come before the caller has looked */
	PG_RETURN_DATUM(PointerGetDatum(PG_DETOAST_DATUM_COPY(state)));
}
