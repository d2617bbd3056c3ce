/*
 * apply.c
 *		Running projections: events at hand taken in.
 *
 * Events are brought to their newest form, sorted by key and folded into the key's
 * state, or handed to the handler one by one.  Users' code runs as the projection's
 * creator; whoever calls has become that (es_projection_become_creator).
 *
 * Events that may have protected fields stay as they are stored, also in a batch's memory.
 * A fold sees to them itself (fold/secrecy.c); for a handler, and for keys where an upcaster
 * has a say, each is shown in turn.
 */
#include "projection/apply.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/names.h"
#include "base/owner.h"
#include "fold/reducer.h"
#include "fold/resolve.h"
#include "fold/secrecy.h"
#include "fold/state.h"
#include "json/size.h"
#include "projection/keymap.h"
#include "secret/coverage.h"
#include "type/handler.h"
#include "type/upcast.h"

/* Says in the context of errors what they are about. */
static void
describe_about(void *arg)
{
	const EsAbout *about = arg;
	const char *name = text_to_cstring(about->projection->name);

	if (about->event == NULL)
		errcontext("projection \"%s\"", name);
	else
		errcontext("projection \"%s\", %s", name, es_names_show_event(about->event));
}

/* es_apply_begin_about has errors say so, until es_apply_end_about. */
void
es_apply_begin_about(EsAbout *about)
{
	about->callback.callback = describe_about;
	about->callback.arg = about;
	about->callback.previous = error_context_stack;
	error_context_stack = &about->callback;
}

/* es_apply_end_about undoes es_apply_begin_about; an error does, too. */
void
es_apply_end_about(const EsAbout *about)
{
	error_context_stack = about->callback.previous;
}

/* Gives the key of an event; VE009 if it is none. */
static const text *
key_of_event(const EsProjection *projection, const EsEvent *event)
{
	const text *key = es_keymap_find(projection->key_map, event);

	if (key && VARSIZE_ANY_EXHDR(key) > ES_MAX_KEY)
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("key of an event must be at most %d bytes long, not %d",
					   ES_MAX_KEY, (int) VARSIZE_ANY_EXHDR(key)));
	return key;
}

/* Orders events by key, then by position. */
static int
compare_keyed_events(const void *a, const void *b)
{
	const EsKeyed *x = a;
	const EsKeyed *y = b;
	int			order = es_names_order(VARDATA_ANY(x->key), VARSIZE_ANY_EXHDR(x->key),
									   VARDATA_ANY(y->key), VARSIZE_ANY_EXHDR(y->key));

	if (order != 0)
		return order;
	return x->event->position < y->event->position ? -1 : x->event->position > y->event->position;
}

/* ---- protected events ---- */

/* What shows events as readers see them, in their newest form. */
typedef struct Sight
{
	MemoryContext context;		/* of what one event needs */
	const EsUpcasters *upcasters;
	EsCalls    *calls;
} Sight;

/* es_apply_is_protected tells whether events of a projection may have protected fields. */
bool
es_apply_is_protected(const EsProjection *projection)
{
	return es_coverage_any(&projection->categories);
}

/* Begins to show events of a projection; *sight is in the current memory context. */
static void
begin_sight(Sight *sight)
{
	sight->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection event",
										   ALLOCSET_DEFAULT_SIZES);
	sight->upcasters = es_upcast_pin(CurrentMemoryContext);
	sight->calls = es_handler_begin_calls(sight->upcasters->count);
}

/* Finds the key of a protected event, in the current memory context. */
static const text *
key_of_protected_event(const EsProjection *projection, const Sight *sight, const EsEvent *event)
{
	MemoryContext old;
	EsEvent		shown = *event;
	const text *key;

	/* no key is taken from a protected field */
	if (!es_upcast_wants(sight->upcasters, event))
		return key_of_event(projection, event);
	old = MemoryContextSwitchTo(sight->context);
	(void) es_upcast_show(sight->upcasters, sight->calls, &shown);
	key = key_of_event(projection, &shown);
	MemoryContextSwitchTo(old);
	if (key)
		key = DatumGetTextPCopy(PointerGetDatum(key));
	MemoryContextReset(sight->context);
	return key;
}

/*
 * Gives events that have no protected fields their newest form.  What an upcaster needs is as
 * large as its event, and a batch has many: of each event only its new data are kept.
 */
static void
upcast_each_event(const EsProjection *projection, const Sight *sight, EsEvent *events, int count, int64 *current)
{
	MemoryContext keep = CurrentMemoryContext;
	EsAbout		about = {.projection = projection};

	es_apply_begin_about(&about);
	for (int i = 0; i < count; i++)
	{
		Datum		stored = events[i].data;

		CHECK_FOR_INTERRUPTS();
		about.event = &events[i];
		*current = events[i].position;
		MemoryContextSwitchTo(sight->context);
		es_upcast_event(sight->upcasters, sight->calls, &events[i]);
		MemoryContextSwitchTo(keep);
		if (events[i].data != stored)
			events[i].data = JsonbPGetDatum(DatumGetJsonbPCopy(events[i].data));
		MemoryContextReset(sight->context);
	}
	es_apply_end_about(&about);
	*current = 0;
}

/* Does so if there are upcasters at all. */
static void
upcast_plain_events(const EsProjection *projection, EsEvent *events, int count, int64 *current)
{
	MemoryContext holder = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection upcasters",
												 ALLOCSET_SMALL_SIZES);
	Sight		sight = {.upcasters = es_upcast_pin(holder)};

	if (sight.upcasters->count > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(holder);

		sight.context = AllocSetContextCreate(holder, "eventstore projection event", ALLOCSET_DEFAULT_SIZES);
		sight.calls = es_handler_begin_calls(sight.upcasters->count);
		MemoryContextSwitchTo(old);
		upcast_each_event(projection, &sight, events, count, current);
	}
	MemoryContextDelete(holder);
}

/*
 * es_apply_upcast gives events their newest form, in which keys are found and
 * handlers see them; what is new of them is in the current memory context.  Where some
 * may have protected fields all stay as they are stored, until they are looked at.
 */
void
es_apply_upcast(const EsProjection *projection, EsEvent *events, int count, int64 *current)
{
	if (!es_apply_is_protected(projection))
		upcast_plain_events(projection, events, count, current);
}

/*
 * es_apply_sort finds the keys of events and sorts the events by them; returns
 * how many have one.  There is room for all.
 */
int
es_apply_sort(const EsProjection *projection, const EsEvent *events, int count,
			  EsKeyed *keyed, int64 *current)
{
	EsAbout		about = {.projection = projection};
	bool		protected = es_apply_is_protected(projection);
	Sight		sight;
	int			n = 0;

	if (protected)
		begin_sight(&sight);
	es_apply_begin_about(&about);
	for (int i = 0; i < count; i++)
	{
		about.event = keyed[n].event = &events[i];
		*current = events[i].position;
		keyed[n].key = protected ? key_of_protected_event(projection, &sight, &events[i]) :
			key_of_event(projection, &events[i]);
		if (keyed[n].key)
			n++;
	}
	es_apply_end_about(&about);
	*current = 0;
	if (n > 1)
		qsort(keyed, n, sizeof(EsKeyed), compare_keyed_events);
	return n;
}

/* es_apply_same_key tells how many of sorted events have the key of the first. */
int
es_apply_same_key(const EsKeyed *keyed, int count)
{
	int			n = 1;

	while (n < count && es_names_same(keyed[n].key, keyed[0].key))
		n++;
	return n;
}

/*
 * es_apply_reducer gives the reducer of a projection, as long as the current memory
 * context; VE004 if it is gone.
 */
const EsReducer *
es_apply_reducer(const EsProjection *projection)
{
	const EsReducer *reducer = es_resolve_pin(projection->reducer, CurrentMemoryContext);

	if (reducer == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("reducer \"%s\" of projection \"%s\" does not exist",
					   text_to_cstring(projection->reducer), text_to_cstring(projection->name)));
	return reducer;
}

/*
 * es_apply_layout tells what the text of a projection's states goes by now; NULL if
 * there is none.
 */
const text *
es_apply_layout(const EsProjection *projection)
{
	const EsReducer *reducer;

	if (projection->reducer == NULL)
		return NULL;
	reducer = es_apply_reducer(projection);
	return reducer->layout ? cstring_to_text(reducer->layout) : NULL;
}

/*
 * es_apply_begin_fold begins to fold by a projection's reducer; 55000 if states
 * that are there, of a layout, would be read as something else, 42501 if the current
 * user does not trust the owner of their type, or must not let functions see the events.
 */
EsFold *
es_apply_begin_fold(const EsProjection *projection, const text *layout)
{
	const EsReducer *reducer = es_apply_reducer(projection);
	EsFold	   *fold;

	if (reducer->layout && (layout == NULL || strlen(reducer->layout) != VARSIZE_ANY_EXHDR(layout) ||
							memcmp(reducer->layout, VARDATA_ANY(layout), VARSIZE_ANY_EXHDR(layout)) != 0))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the type of the states of projection \"%s\" has changed",
					   text_to_cstring(projection->name)),
				errhint("Rebuild the projection with es_rebuild_projection."));
	if (reducer->calls_functions)
		es_projection_require(projection, ES_RIGHT_READ);
	fold = es_fold_begin(projection->reducer);
	es_fold_take_stored(fold, &projection->categories);
	return fold;
}

/* Raises 54000 for a state that a dump could not have, or not bring back. */
static void
check_key_state_size(EsFold *fold, const EsKeyState *state, EsStoredState stored)
{
	stored.json = state->state;
	if (es_state_can_keep(&stored))
		return;
	if (stored.too_many)
		es_secrecy_report_subjects(es_fold_reducer(fold)->name);
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("the state of key \"%s\" by reducer \"%s\" has become too large or nested too deeply",
				   text_to_cstring(state->key), es_fold_reducer(fold)->name),
			es_jsonsize_errdetail());
}

/* Takes the state of a fold, in the current memory context. */
static void
take_folded_state(EsFold *fold, EsKeyState *state)
{
	EsStoredState stored;
	bool		isnull;

	es_fold_store(fold, &stored);
	state->state_text = stored.text;
	state->sealed = stored.sealed;
	state->state = NULL;
	if (stored.json)
		state->state = DatumGetJsonbPCopy(JsonbPGetDatum(stored.json)); /* it may be the fold's */
	else if (stored.text)
		state->state = DatumGetJsonbP(es_fold_state_jsonb(fold, &isnull));
	check_key_state_size(fold, state, stored);
}

/*
 * Takes an event into the state of its key.  Where that is the state of one stream, it
 * goes when the stream is deleted: a rebuild, once the stream's events are removed, would
 * not make it either.
 */
static void
fold_keyed_event(EsFold *fold, EsKeyState *state, const EsKeyed *keyed)
{
	state->gone = es_fold_is_end(fold, keyed->event) &&
		es_names_same(keyed->key, DatumGetTextPP(keyed->event->stream));
	if (state->gone)
	{
		es_fold_reset(fold);
		state->version = 0;
		return;
	}
	es_fold_apply(fold, keyed->event);
	state->version++;
}

/*
 * es_apply_fold folds events of one key into its state; what becomes of it is in
 * the current memory context.
 */
void
es_apply_fold(EsFold *fold, EsKeyState *state, const EsKeyed *keyed, int count, int64 *current)
{
	EsStoredState stored = {.json = state->state_text ? NULL : state->state,.text = state->state_text,
	.sealed = state->sealed};

	stored.isnull = stored.json == NULL && stored.text == NULL && stored.sealed == NULL;
	*current = keyed[0].event->position;
	if (state->version > 0)
		es_fold_load(fold, &stored);
	else
		es_fold_reset(fold);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		*current = keyed[i].event->position;
		fold_keyed_event(fold, state, &keyed[i]);
	}
	state->position = Max(state->position, *current);
	if (!state->gone)
		take_folded_state(fold, state);
	*current = 0;
}

/* Gets a function of a projection ready to be called by the current user. */
static void
look_up_projection_function(Oid function, FmgrInfo *flinfo)
{
	es_handler_require_execute(function);
	es_handler_require_trusted(function);
	fmgr_info(function, flinfo);
}

/* Calls a handler for an event. */
static void
call_projection_handler(FmgrInfo *flinfo, const EsEvent *event)
{
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = es_event_datum(event);
	fcinfo->args[0].isnull = false;
	(void) es_handler_invoke(fcinfo);
}

/* Calls a handler for an event as readers see it. */
static void
call_with_shown_event(FmgrInfo *flinfo, const Sight *sight, const EsEvent *event)
{
	bool		before = es_error_is_secret;
	EsEvent		shown = *event;
	bool		secret = es_upcast_show(sight->upcasters, sight->calls, &shown);

	PG_TRY();
	{
		es_error_is_secret = before || secret;
		call_projection_handler(flinfo, &shown);
	}
	PG_FINALLY();
	{
		es_error_is_secret = before;
	}
	PG_END_TRY();
}

/*
 * es_apply_call calls the handler for events, in order, and returns for how
 * many: it stops when that has taken long.  42501 if the current user, who is the
 * projection's creator, may not read them any more.
 */
int
es_apply_call(const EsProjection *projection, const EsEvent *events, int count, int64 *current)
{
	MemoryContext old = CurrentMemoryContext;
	TimestampTz started = GetCurrentTimestamp();
	EsAbout		about = {.projection = projection};
	bool		protected = es_apply_is_protected(projection);
	FmgrInfo	flinfo;
	Sight		sight;
	int			n = 0;

	es_projection_require(projection, ES_RIGHT_READ);
	look_up_projection_function(es_projection_handler(projection), &flinfo);
	begin_sight(&sight);
	es_apply_begin_about(&about);
	while (n < count && (n == 0 || GetCurrentTimestamp() - started < ES_BATCH_US))
	{
		CHECK_FOR_INTERRUPTS();
		about.event = &events[n++];
		*current = about.event->position;
		MemoryContextSwitchTo(sight.context);
		if (protected)
			call_with_shown_event(&flinfo, &sight, about.event);
		else
			call_projection_handler(&flinfo, about.event);
		MemoryContextSwitchTo(old);
		MemoryContextReset(sight.context);
	}
	es_apply_end_about(&about);
	*current = 0;
	MemoryContextDelete(sight.context);
	return n;
}

/* es_apply_call_reset has what the handler writes emptied, as the creator. */
void
es_apply_call_reset(const EsProjection *projection)
{
	LOCAL_FCINFO(fcinfo, 0);
	EsOwnerContext caller;
	EsAbout		about = {.projection = projection};
	FmgrInfo	flinfo;

	es_apply_begin_about(&about);
	es_projection_become_creator(projection, &caller);
	look_up_projection_function(es_projection_reset(projection), &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 0, InvalidOid, NULL, NULL);
	(void) es_handler_invoke(fcinfo);
	es_projection_become_caller(&caller);
	es_apply_end_about(&about);
	CommandCounterIncrement();
}
