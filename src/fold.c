/*
 * fold.c
 *		The fold engine: a reducer applied to one event after the other.
 *
 * A state is kept in the form that its last handler left it in: a value of the
 * state's type after a function, a tree (tree.c) that is changed in place after
 * a merge, a number or an event for the simplest reducers.  It is converted
 * when a handler of another kind, or somebody who asks for the state, needs it.
 *
 * Memory: what an event needs on the way is in "scratch" and gone with the next
 * event.  The state is in one of two contexts; a handler that makes a new state
 * puts it into the other one, and the first is emptied.  So a fold needs room
 * for two states, however many events it reads.
 *
 * Functions run as the current user, with what they need looked up at their
 * first use in a fold, and again when a catalog change may concern them.  They
 * may do what functions may do: replay other streams, even drop themselves.
 * When one fails, the transaction, or the block that catches the error, is lost
 * as with any error; it is only reported anew as VE009, with the event named.
 */
#include "fold.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "invoke.h"
#include "tree.h"

typedef enum StateForm
{
	FORM_VALUE,					/* value, isnull */
	FORM_TREE,					/* tree */
	FORM_COUNT,					/* count */
	FORM_EVENT					/* last */
} StateForm;

struct EsFold
{
	const EsReducer *reducer;	/* pinned by context */
	MemoryContext context;		/* the fold and what lives as long */
	MemoryContext scratch;
	MemoryContext calls;		/* what functions look up at their first call */
	MemoryContext states[2];	/* the state is in states[current], ... */
	int			current;
	Datum		initial;		/* ... or is this, which lives in context */
	bool		initial_isnull;
	FmgrInfo   *functions;		/* one a handler; fn_oid 0: not looked up */
	uint64		generation;		/* of the catalog, when functions were */
	const EsEvent *event;		/* being applied, for errors */
	StateForm	form;
	Datum		value;
	bool		isnull;
	EsNode		tree;
	int64		count;
	EsEvent		last;
};

/*
 * es_fold_begin starts a fold; NULL if there is no such reducer.
 */
EsFold *
es_fold_begin(const text *reducer)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore fold",
												  ALLOCSET_SMALL_SIZES);
	const EsReducer *pinned = es_reduce_pin(reducer, context);
	MemoryContext old;
	EsFold	   *fold;

	if (pinned == NULL)
	{
		MemoryContextDelete(context);
		return NULL;
	}
	old = MemoryContextSwitchTo(context);
	fold = palloc0(sizeof(EsFold));
	fold->reducer = pinned;
	fold->context = context;
	fold->scratch = AllocSetContextCreate(context, "eventstore fold: event", ALLOCSET_DEFAULT_SIZES);
	fold->calls = AllocSetContextCreate(context, "eventstore fold: calls", ALLOCSET_SMALL_SIZES);
	for (int i = 0; i < 2; i++)
		fold->states[i] = AllocSetContextCreate(context, "eventstore fold: state",
												ALLOCSET_DEFAULT_SIZES);
	fold->functions = palloc0(pinned->nhandlers * sizeof(FmgrInfo));
	fold->generation = es_reduce_generation();
	fold->initial = es_reduce_initial(pinned->initial, pinned->state_type, &fold->initial_isnull);
	MemoryContextSwitchTo(old);
	es_fold_reset(fold);
	return fold;
}

/* es_fold_reset goes back to the initial state, for the next stream. */
void
es_fold_reset(EsFold *fold)
{
	fold->form = FORM_VALUE;
	fold->value = fold->initial;
	fold->isnull = fold->initial_isnull;
	MemoryContextReset(fold->states[fold->current]);
}

/* es_fold_end frees a fold. */
void
es_fold_end(EsFold *fold)
{
	MemoryContextDelete(fold->context);
}

/*
 * Switches to where a new state goes; leave_next_state ends it.
 */
static MemoryContext
enter_next_state(EsFold *fold)
{
	return MemoryContextSwitchTo(fold->states[1 - fold->current]);
}

/* Lets the new state be the state. */
static void
leave_next_state(EsFold *fold, MemoryContext old, StateForm form)
{
	MemoryContextSwitchTo(old);
	MemoryContextReset(fold->states[fold->current]);
	fold->current = 1 - fold->current;
	fold->form = form;
}

/* Copies a stored value, which afterwards needs nothing from its table. */
static Datum
copy_stored(Datum stored)
{
	return PointerGetDatum(PG_DETOAST_DATUM_COPY(stored));
}

/* Makes the object that the reducer "last" gives: the attributes of es_event. */
static Jsonb *
event_to_jsonb(const EsEvent *event)
{
	EsNode		root = {ES_NODE_NULL};
	text	   *stream = DatumGetTextPP(event->stream);
	text	   *type = DatumGetTextPP(event->type);
	char	   *event_id = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->event_id)));
	char		recorded_at[MAXDATELEN + 1];
	int			utc = 0;
	EsNode		view;

#define PUT(key) es_tree_put(&root, key, strlen(key))
	es_tree_open(&root);
	es_tree_set_integer(PUT("position"), event->position);
	es_tree_set_string(PUT("stream"), VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream));
	es_tree_set_integer(PUT("version"), event->version);
	es_tree_set_string(PUT("type"), VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	es_tree_set_integer(PUT("type_version"), event->type_version);
	view = es_tree_view(DatumGetJsonbP(event->data));
	es_tree_set(PUT("data"), &view);
	view = es_tree_view(DatumGetJsonbP(event->metadata));
	es_tree_set(PUT("metadata"), &view);
	es_tree_set_string(PUT("event_id"), event_id, strlen(event_id));
	JsonEncodeDateTime(recorded_at, TimestampTzGetDatum(event->recorded_at), TIMESTAMPTZOID, &utc);
	es_tree_set_string(PUT("recorded_at"), recorded_at, strlen(recorded_at));
#undef PUT
	return es_tree_to_jsonb(&root);
}

/* Makes the object that the reducer "count" gives. */
static Jsonb *
count_to_jsonb(int64 count)
{
	EsNode		root = {ES_NODE_NULL};

	es_tree_open(&root);
	es_tree_set_integer(es_tree_put(&root, "count", strlen("count")), count);
	return es_tree_to_jsonb(&root);
}

/* es_fold_state_type tells the type of the states that es_fold_state gives. */
Oid
es_fold_state_type(const EsFold *fold)
{
	return fold->reducer->state_type;
}

/* es_fold_state gives the state as a value of its own type. */
Datum
es_fold_state(EsFold *fold, bool *isnull)
{
	*isnull = false;
	switch (fold->form)
	{
		case FORM_VALUE:
			*isnull = fold->isnull;
			return fold->value;
		case FORM_TREE:
			return JsonbPGetDatum(es_tree_to_jsonb(&fold->tree));
		case FORM_COUNT:
			return JsonbPGetDatum(count_to_jsonb(fold->count));
		case FORM_EVENT:
			return JsonbPGetDatum(event_to_jsonb(&fold->last));
	}
	pg_unreachable();
}

/* es_fold_state_jsonb gives the state as jsonb, which for other types is what to_jsonb makes of it. */
Datum
es_fold_state_jsonb(EsFold *fold, bool *isnull)
{
	Datum		state = es_fold_state(fold, isnull);

	if (*isnull || fold->reducer->state_type == JSONBOID)
		return state;
	return es_reduce_to_jsonb(state, fold->reducer->state_type);
}

/* Makes text of a value, whatever the session's settings for output are. */
static text *
value_to_text(Datum value, Oid type)
{
	int			guc_level = NewGUCNestLevel();
	Oid			output;
	bool		is_varlena;
	text	   *result;

	(void) set_config_option("extra_float_digits", "3", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("DateStyle", "ISO", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("IntervalStyle", "postgres", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	getTypeOutputInfo(type, &output, &is_varlena);
	result = cstring_to_text(OidOutputFunctionCall(output, value));
	AtEOXact_GUC(false, guc_level);
	return result;
}

/* es_fold_store gives the state as it is stored, in the current memory context. */
void
es_fold_store(EsFold *fold, EsStoredState *stored)
{
	Datum		state = es_fold_state(fold, &stored->isnull);

	stored->json = NULL;
	stored->text = NULL;
	if (stored->isnull)
		return;
	if (fold->reducer->state_type == JSONBOID)
		stored->json = DatumGetJsonbPCopy(state);
	else
		stored->text = value_to_text(state, fold->reducer->state_type);
}

/* es_fold_load goes back to a state that was stored. */
void
es_fold_load(EsFold *fold, const EsStoredState *stored)
{
	MemoryContext old = enter_next_state(fold);
	Oid			input;
	Oid			io_param;

	fold->isnull = stored->isnull;
	fold->value = (Datum) 0;
	if (stored->json)
		fold->value = PointerGetDatum(PG_DETOAST_DATUM_COPY(JsonbPGetDatum(stored->json)));
	else if (stored->text)
	{
		getTypeInputInfo(fold->reducer->state_type, &input, &io_param);
		fold->value = OidInputFunctionCall(input, text_to_cstring(stored->text), io_param, -1);
	}
	leave_next_state(fold, old, FORM_VALUE);
}

/* Reads the number out of a state that a count has left behind; 0 if it is none. */
static int64
number_of(EsFold *fold)
{
	bool		isnull;
	Datum		state = es_fold_state(fold, &isnull);
	JsonbValue	found;

	if (isnull || !JB_ROOT_IS_OBJECT(DatumGetJsonbP(state)) ||
		getKeyJsonValueFromContainer(&DatumGetJsonbP(state)->root, "count", strlen("count"), &found) == NULL ||
		found.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(found.val.numeric)));
}

/* Makes sure that the state is a tree; NULL becomes null. */
static void
make_tree(EsFold *fold)
{
	bool		isnull;
	Datum		state;
	MemoryContext old;

	if (fold->form == FORM_TREE)
		return;
	state = es_fold_state(fold, &isnull);
	old = enter_next_state(fold);
	fold->tree.kind = ES_NODE_NULL;
	if (!isnull)
	{
		EsNode		view = es_tree_view(DatumGetJsonbP(state));

		es_tree_set(&fold->tree, &view);
	}
	leave_next_state(fold, old, FORM_TREE);
}

/* Lays an event's data over the state. */
static void
apply_merge(EsFold *fold, EsHandlerKind kind, const EsEvent *event)
{
	EsNode		data = es_tree_view(DatumGetJsonbP(event->data));
	MemoryContext old;

	make_tree(fold);
	old = MemoryContextSwitchTo(fold->states[fold->current]);
	if (kind == ES_HANDLER_MERGE)
		es_tree_merge(&fold->tree, &data);
	else
		es_tree_merge_patch(&fold->tree, &data);
	MemoryContextSwitchTo(old);
}

/* Lets the state be the number of events. */
static void
apply_count(EsFold *fold)
{
	if (fold->form != FORM_COUNT)
		fold->count = number_of(fold);
	fold->form = FORM_COUNT;
	fold->count++;
}

/* Lets the state be the event. */
static void
apply_last(EsFold *fold, const EsEvent *event)
{
	MemoryContext old = enter_next_state(fold);

	fold->last = *event;
	fold->last.stream = copy_stored(event->stream);
	fold->last.type = copy_stored(event->type);
	fold->last.data = copy_stored(event->data);
	fold->last.metadata = copy_stored(event->metadata);
	leave_next_state(fold, old, FORM_EVENT);
}

/* Keeps what a function returned; it may be, or point into, anything. */
static void
keep_value(EsFold *fold, Datum value, bool isnull)
{
	MemoryContext old;

	if (!isnull && fold->form == FORM_VALUE && !fold->isnull &&
		!fold->reducer->state_byval && value == fold->value)
		return;					/* its argument */
	old = enter_next_state(fold);
	if (isnull)
		value = (Datum) 0;
	else if (fold->reducer->state_len == -1 &&
			 VARATT_IS_EXTERNAL(DatumGetPointer(value)) &&
			 !VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value)))
		value = copy_stored(value);
	else
		value = datumCopy(value, fold->reducer->state_byval, fold->reducer->state_len);
	fold->value = value;
	fold->isnull = isnull;
	leave_next_state(fold, old, FORM_VALUE);
}

/* Gets a handler's function ready to be called. */
static FmgrInfo *
look_up_function(EsFold *fold, const EsHandler *handler)
{
	const EsReducer *reducer = fold->reducer;
	FmgrInfo   *flinfo = &fold->functions[handler - reducer->handlers];

	if (fold->generation != es_reduce_generation())
	{
		MemoryContextReset(fold->calls);
		memset(fold->functions, 0, reducer->nhandlers * sizeof(FmgrInfo));
		fold->generation = es_reduce_generation();
	}
	if (!OidIsValid(flinfo->fn_oid))
		fmgr_info_cxt(es_reduce_callable(reducer, handler), flinfo, fold->calls);
	return flinfo;
}

/*
 * Calls a function on the state and an event.  As in an aggregate, a STRICT
 * function is not called with NULL: it leaves a state that is NULL as it is.
 */
static void
apply_function(EsFold *fold, const EsHandler *handler, const EsEvent *event)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo   *flinfo = look_up_function(fold, handler);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, flinfo, 2, fold->reducer->state_collation, NULL, NULL);
	fcinfo->args[0].value = es_fold_state(fold, &fcinfo->args[0].isnull);
	if (fcinfo->args[0].isnull && flinfo->fn_strict)
		return;
	fcinfo->args[1].value = handler->takes_event ? es_base_event_datum(event) : event->data;
	fcinfo->args[1].isnull = false;
	result = es_invoke_handler(fcinfo);
	keep_value(fold, result, fcinfo->isnull);
}

/* Names the event in the context of errors. */
static void
describe_event(void *arg)
{
	const EsFold *fold = arg;
	text	   *stream = DatumGetTextPP(fold->event->stream);
	text	   *type = DatumGetTextPP(fold->event->type);

	errcontext("reducer \"%s\", stream \"%.*s\", version %lld, type \"%.*s\"",
			   fold->reducer->name,
			   (int) VARSIZE_ANY_EXHDR(stream), VARDATA_ANY(stream),
			   (long long) fold->event->version,
			   (int) VARSIZE_ANY_EXHDR(type), VARDATA_ANY(type));
}

/* Hands an event to its handler, or to nobody. */
static void
dispatch(EsFold *fold, const EsEvent *event)
{
	text	   *type = DatumGetTextPP(event->type);
	const EsHandler *handler = es_reduce_handler(fold->reducer, VARDATA_ANY(type),
												 VARSIZE_ANY_EXHDR(type));

	if (handler == NULL)
	{
		if (fold->reducer->unknown_is_error)
			ereport(ERROR,
					errcode(ES_ERRCODE_HANDLER_FAILED),
					errmsg("reducer \"%s\" has no handler for event type \"%s\"",
						   fold->reducer->name, text_to_cstring(type)),
					errhint("Register a handler for the type, or for \"*\", with es_register_reducer."));
		return;
	}
	switch (handler->kind)
	{
		case ES_HANDLER_FUNCTION:
			apply_function(fold, handler, event);
			break;
		case ES_HANDLER_MERGE:
		case ES_HANDLER_MERGE_PATCH:
			apply_merge(fold, handler->kind, event);
			break;
		case ES_HANDLER_COUNT:
			apply_count(fold);
			break;
		case ES_HANDLER_LAST:
			apply_last(fold, event);
			break;
	}
}

/*
 * es_fold_apply takes one event into the state.  What its handler raises comes
 * out as VE009; after any error the fold must not be used again.
 */
void
es_fold_apply(EsFold *fold, const EsEvent *event)
{
	ErrorContextCallback callback;
	MemoryContext old;

	MemoryContextReset(fold->scratch);
	old = MemoryContextSwitchTo(fold->scratch);
	fold->event = event;
	callback.callback = describe_event;
	callback.arg = fold;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	dispatch(fold, event);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
}
