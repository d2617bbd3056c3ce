/*
 * fold.c
 *		The fold engine: a reducer applied to one event after the other.
 *
 * A state is kept in the form that its last handler left it in: a value of the
 * state's type after a function, a tree (json/tree.c) that is changed in place after
 * operations, a number or an event for the simplest reducers.  It is converted
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
 * What settings they see is up to who uses the fold.
 *
 * Who hands over events as they are stored says so; what becomes of protected fields then
 * is told in fold/secrecy.c.  "keys" goes with the state: it has those of the plain data
 * that the state may be made of.
 *
 * When one fails, the transaction, or the block that catches the error, is lost
 * as with any error; it is only reported anew as VE009, with the event named.
 */
#include "fold/fold.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/error.h"
#include "base/names.h"
#include "base/settings.h"
#include "fold/resolve.h"
#include "fold/secrecy.h"
#include "json/node.h"
#include "json/opcompile.h"
#include "json/ops.h"
#include "json/pack.h"
#include "json/scope.h"
#include "json/tree.h"
#include "secret/bundle.h"
#include "secret/field.h"
#include "secret/protection.h"
#include "type/handler.h"
#include "type/upcast.h"

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
	MemoryContext states[2];	/* the state is in states[current], ... */
	int			current;
	Datum		initial;		/* ... or is this, which lives in context */
	bool		initial_isnull;
	EsCalls    *calls;			/* of the reducer's functions */
	EsCalls    *upcasts;		/* of the upcasters' */
	const EsEvent *event;		/* being applied, for errors */
	StateForm	form;
	Datum		value;
	bool		isnull;
	EsNode		tree;
	int64		count;
	EsEvent		last;
	bool		takes_stored;	/* events as they are stored, else plain ones */
	EsSecrecy	secrecy;		/* of what it gets, */
	EsNames		categories;		/* events of these; one, or all */
	MemoryContext keys_context; /* NULL: no keys yet */
	EsKeyring	keys;			/* of protected fields that the state is made
								 * of */
	text	   *lost;			/* a stored state that cannot be opened; it is
								 * the state, and stays so */
};

/*
 * es_fold_begin starts a fold; NULL if there is no such reducer.  42501 where the current
 * user has not called it and does not trust the type of the states: from here on its
 * values are made, stored and read, which may run code of its owner.
 */
EsFold *
es_fold_begin(const text *reducer)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore fold",
												  ALLOCSET_SMALL_SIZES);
	const EsReducer *pinned = es_resolve_pin(reducer, context);
	MemoryContext old;
	EsFold	   *fold;

	if (pinned == NULL)
	{
		MemoryContextDelete(context);
		return NULL;
	}
	old = MemoryContextSwitchTo(context);
	if (es_handler_on_behalf)
		es_handler_require_trusted_type(pinned->state_type);
	fold = palloc0(sizeof(EsFold));
	fold->reducer = pinned;
	fold->context = context;
	fold->scratch = AllocSetContextCreate(context, "eventstore fold: event", ALLOCSET_DEFAULT_SIZES);
	fold->calls = es_handler_begin_calls(pinned->nhandlers);
	fold->upcasts = es_handler_begin_calls(pinned->upcasters->count);
	for (int i = 0; i < 2; i++)
		fold->states[i] = AllocSetContextCreate(context, "eventstore fold: state",
												ALLOCSET_DEFAULT_SIZES);
	fold->initial = es_state_initial(pinned->initial, pinned->state_type, &fold->initial_isnull);
	MemoryContextSwitchTo(old);
	es_fold_reset(fold);
	return fold;
}

/* es_fold_enter_settings enters the settings for a fold's functions; 0 if it calls none. */
int
es_fold_enter_settings(const EsFold *fold)
{
	return fold->reducer->calls_functions ? es_settings_enter() : 0;
}

/* es_fold_reset goes back to the initial state, for the next stream. */
void
es_fold_reset(EsFold *fold)
{
	fold->form = FORM_VALUE;
	fold->value = fold->initial;
	fold->isnull = fold->initial_isnull;
	MemoryContextReset(fold->states[fold->current]);
	fold->lost = NULL;
	if (fold->keys.room > 0)
	{
		memset(&fold->keys, 0, sizeof(fold->keys));
		MemoryContextReset(fold->keys_context);
	}
}

/* es_fold_take_stored tells a fold what it gets; see fold.h. */
void
es_fold_take_stored(EsFold *fold, const EsNames *categories)
{
	MemoryContext old = MemoryContextSwitchTo(fold->context);

	fold->takes_stored = true;
	fold->secrecy = es_secrecy_of(fold->reducer, categories);
	memset(&fold->categories, 0, sizeof(fold->categories));
	if (fold->secrecy != ES_SECRECY_NONE && categories->set)
		fold->categories = es_names_of_one(DatumGetTextPCopy(PointerGetDatum(categories->names[0])));
	MemoryContextSwitchTo(old);
}

/* es_fold_end frees a fold. */
void
es_fold_end(EsFold *fold)
{
	MemoryContextDelete(fold->context);
}

/* Switches to where a new state goes; leave_next_state ends it. */
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
copy_stored_value(Datum stored)
{
	return PointerGetDatum(PG_DETOAST_DATUM_COPY(stored));
}

/* Makes the object that the reducer "last" gives: the attributes of es_event. */
static Jsonb *
event_to_jsonb(const EsEvent *event)
{
	EsKey		keys[ES_ROOT_COUNT + 1];
	EsNode		values[ES_ROOT_COUNT + 1];
	EsScope		scope;
	int			count = 0;

	es_scope_begin(&scope, event, NULL);
	for (EsRoot root = 0; root < ES_ROOT_COUNT; root++)
	{
		if (root == ES_ROOT_STATE)
			continue;
		keys[count] = *es_scope_key(root);
		values[count++] = *es_scope_member(&scope, root);
	}
	/* the longest key, so it is the last */
	keys[count] = es_node_key("type_version", strlen("type_version"));
	values[count++] = es_node_view_number(int64_to_numeric(event->type_version));
	return es_pack_object_jsonb(keys, values, count);
}

/* Makes the object that the reducer "count" gives. */
static Jsonb *
count_to_jsonb(int64 count)
{
	EsKey		key = es_node_key("count", strlen("count"));
	EsNode		value = es_node_view_number(int64_to_numeric(count));

	return es_pack_object_jsonb(&key, &value, 1);
}

/* Takes the number out of the object that the reducer "count" gives; 0 if it is not there. */
static int64
count_of_jsonb(const Jsonb *state)
{
	EsKey		key = es_node_key("count", strlen("count"));
	EsNode		view = es_node_view(state);
	EsNode		value;

	if (!es_node_is_object(&view) || !es_node_find_packed(&view, &key, &value) ||
		value.kind != ES_NODE_NUMBER)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, PointerGetDatum(value.value.bytes)));
}

/* es_fold_reducer gives the reducer of a fold. */
const EsReducer *
es_fold_reducer(const EsFold *fold)
{
	return fold->reducer;
}

/* es_fold_state gives the state as a value of its own type. */
Datum
es_fold_state(EsFold *fold, bool *isnull)
{
	*isnull = fold->lost != NULL;
	if (*isnull)
		return (Datum) 0;
	switch (fold->form)
	{
		case FORM_VALUE:
			*isnull = fold->isnull;
			return fold->value;
		case FORM_TREE:
			*isnull = fold->tree.kind == ES_NODE_ABSENT;
			return *isnull ? (Datum) 0 : JsonbPGetDatum(es_pack_jsonb(&fold->tree));
		case FORM_COUNT:
			return JsonbPGetDatum(count_to_jsonb(fold->count));
		case FORM_EVENT:
			return JsonbPGetDatum(event_to_jsonb(&fold->last));
	}
	pg_unreachable();
}

/*
 * es_fold_state_jsonb gives the state as jsonb, which for other types is what
 * to_jsonb makes of it.
 */
Datum
es_fold_state_jsonb(EsFold *fold, bool *isnull)
{
	Datum		state = es_fold_state(fold, isnull);

	if (*isnull || fold->reducer->state_type == JSONBOID)
		return state;
	return es_state_to_jsonb(state, fold->reducer->state_type);
}

/* Opens what is encrypted in a state. */
static Datum
open_copied_fields(const EsFold *fold, Datum state)
{
	return fold->secrecy == ES_SECRECY_NONE || fold->reducer->state_type != JSONBOID ? state :
		es_field_open_all(state, &fold->categories, NULL, NULL);
}

/* es_fold_read gives the state as readers may see it, as a value of its own type. */
Datum
es_fold_read(EsFold *fold, bool *isnull)
{
	Datum		state = es_fold_state(fold, isnull);

	return *isnull ? state : open_copied_fields(fold, state);
}

/* es_fold_read_jsonb gives it as jsonb. */
Datum
es_fold_read_jsonb(EsFold *fold, bool *isnull)
{
	Datum		state = es_fold_state_jsonb(fold, isnull);

	return *isnull ? state : open_copied_fields(fold, state);
}

/* Switches to where keys go. */
static MemoryContext
enter_keys(EsFold *fold)
{
	if (fold->keys_context == NULL)
		fold->keys_context = AllocSetContextCreate(fold->context, "eventstore fold: keys", ALLOCSET_SMALL_SIZES);
	return MemoryContextSwitchTo(fold->keys_context);
}

/* Notes a key of what the state is made of, as long as there are not too many to keep it. */
static void
note_fold_key(const pg_uuid_t *key, void *arg)
{
	EsFold	   *fold = arg;
	MemoryContext old = enter_keys(fold);

	if (fold->keys.count <= ES_BUNDLE_MOST_KEYS)
		es_bundle_add_key(&fold->keys, key);
	MemoryContextSwitchTo(old);
}

/*
 * es_fold_store gives the state in the form in which states are stored, in the
 * current memory context.
 */
void
es_fold_store(EsFold *fold, EsStoredState *stored)
{
	Datum		state = es_fold_state(fold, &stored->isnull);

	stored->json = NULL;
	stored->text = NULL;
	stored->too_large = stored->too_many = false;
	stored->sealed = fold->lost ? DatumGetTextPCopy(PointerGetDatum(fold->lost)) : NULL;
	if (fold->lost)
		stored->isnull = false;
	if (stored->isnull || fold->lost)
		return;
	if (fold->reducer->state_type == JSONBOID)
		stored->json = DatumGetJsonbP(state);
	else
		stored->text = es_state_to_text(state, fold->reducer->state_type);
	if (fold->keys.count > 0)
		es_secrecy_seal(stored, stored->json ? stored->json :
						DatumGetJsonbP(es_state_to_jsonb(state, fold->reducer->state_type)), &fold->keys, &fold->categories);
}

/* Opens a state that is encrypted as a whole; one that cannot be is lost. */
static void
load_sealed_state(EsFold *fold, const text *sealed)
{
	MemoryContext old = enter_keys(fold);
	EsStoredState opened;
	bool		found = es_secrecy_open(sealed, &fold->categories, &fold->keys, &opened);

	MemoryContextSwitchTo(old);
	if (!found)
		fold->lost = DatumGetTextPCopy(PointerGetDatum(sealed));
	else if (fold->reducer->state_type == JSONBOID)
		fold->value = copy_stored_value(JsonbPGetDatum(opened.json));
	else if (opened.text)
		fold->value = es_state_from_text(opened.text, fold->reducer->state_type);
	else
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the stored state of reducer \"%s\" is of another type", fold->reducer->name));
}

/* Lets a state that may have encrypted fields be what they stand for, and notes their keys. */
static void
open_loaded_fields(EsFold *fold)
{
	MemoryContext old = MemoryContextSwitchTo(fold->states[fold->current]);

	fold->value = copy_stored_value(es_field_open_all(fold->value, &fold->categories, note_fold_key, fold));
	MemoryContextSwitchTo(old);
}

/* es_fold_load goes to a state that es_fold_store gave, which is copied. */
void
es_fold_load(EsFold *fold, const EsStoredState *stored)
{
	MemoryContext old;

	es_fold_reset(fold);
	old = MemoryContextSwitchTo(fold->states[fold->current]);
	fold->isnull = stored->isnull;
	if (stored->isnull)
		fold->value = (Datum) 0;
	else if (stored->sealed)
		load_sealed_state(fold, stored->sealed);
	else if (fold->reducer->state_type == JSONBOID)
		fold->value = copy_stored_value(JsonbPGetDatum(stored->json));
	else
		fold->value = es_state_from_text(stored->text, fold->reducer->state_type);
	MemoryContextSwitchTo(old);
	if (fold->secrecy == ES_SECRECY_SEALED && fold->reducer->state_type == JSONBOID && !fold->isnull && !fold->lost)
		open_loaded_fields(fold);
}

/* Makes sure that the state is a tree; NULL is one without a value. */
static void
make_state_tree(EsFold *fold)
{
	bool		isnull;
	Datum		state;
	MemoryContext old;

	if (fold->form == FORM_TREE)
		return;
	state = es_fold_state(fold, &isnull);
	old = enter_next_state(fold);
	fold->tree.kind = ES_NODE_ABSENT;
	if (!isnull)
	{
		EsNode		view = es_node_view(DatumGetJsonbP(state));

		es_tree_set(&fold->tree, &view);
	}
	leave_next_state(fold, old, FORM_TREE);
}

/* Runs operations on the state. */
static void
apply_handler_ops(EsFold *fold, const EsOps *ops, const EsEvent *event)
{
	make_state_tree(fold);
	es_ops_apply(ops, &fold->tree, event, fold->states[fold->current]);
}

/* Lets the state be the number of events. */
static void
apply_event_count(EsFold *fold)
{
	if (fold->form != FORM_COUNT)
		fold->count = fold->isnull ? 0 : count_of_jsonb(DatumGetJsonbP(fold->value));
	fold->form = FORM_COUNT;
	fold->count++;
}

/* Lets the state be the event. */
static void
apply_last_event(EsFold *fold, const EsEvent *event)
{
	MemoryContext old = enter_next_state(fold);

	fold->last = *event;
	fold->last.stream = copy_stored_value(event->stream);
	fold->last.type = copy_stored_value(event->type);
	fold->last.data = copy_stored_value(event->data);
	fold->last.metadata = copy_stored_value(event->metadata);
	leave_next_state(fold, old, FORM_EVENT);
}

/* Keeps what a function returned; it may be, or point into, anything. */
static void
keep_function_value(EsFold *fold, Datum value, bool isnull)
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
		value = copy_stored_value(value);
	else
		value = datumCopy(value, fold->reducer->state_byval, fold->reducer->state_len);
	fold->value = value;
	fold->isnull = isnull;
	leave_next_state(fold, old, FORM_VALUE);
}

/*
 * Calls a function on the state and an event.  As in an aggregate, a STRICT
 * function is not called with a state that is NULL, which stays so.
 */
static void
apply_handler_function(EsFold *fold, const EsHandler *handler, const EsEvent *event)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo   *flinfo = es_handler_ready(fold->calls, handler - fold->reducer->handlers, &handler->function);
	Datum		result;

	if (flinfo == NULL)
		es_reducer_report_gone(fold->reducer, handler);
	InitFunctionCallInfoData(*fcinfo, flinfo, 2, fold->reducer->state_collation, NULL, NULL);
	fcinfo->args[0].value = es_fold_state(fold, &fcinfo->args[0].isnull);
	if (fcinfo->args[0].isnull && flinfo->fn_strict)
		return;
	fcinfo->args[1].value = handler->takes_event ? es_event_datum(event) : event->data;
	fcinfo->args[1].isnull = false;
	result = es_handler_invoke(fcinfo);
	keep_function_value(fold, result, fcinfo->isnull);
}

/* Names the event in the context of errors. */
static void
describe_folded_event(void *arg)
{
	const EsFold *fold = arg;

	errcontext("reducer \"%s\", %s", fold->reducer->name, es_names_show_event(fold->event));
}

/* Finds the handler of an event; NULL for one that is ignored. */
static const EsHandler *
find_event_handler(const EsReducer *reducer, const EsEvent *event)
{
	text	   *type = DatumGetTextPP(event->type);
	const EsHandler *handler = es_reducer_handler(reducer, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));

	if (handler == NULL && reducer->unknown_is_error &&
		!es_names_is_reserved(VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)))
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("reducer \"%s\" has no handler for event type \"%s\"",
					   reducer->name, es_names_show_text(type)),
				errhint("Register a handler for the type, or for \"*\", with es_register_reducer."));
	return handler;
}

/* Hands an event to its handler. */
static void
dispatch_event(EsFold *fold, const EsHandler *handler, const EsEvent *event)
{
	switch (handler->kind)
	{
		case ES_HANDLER_FUNCTION:
			apply_handler_function(fold, handler, event);
			break;
		case ES_HANDLER_OPS:
			apply_handler_ops(fold, handler->ops, event);
			break;
		case ES_HANDLER_COUNT:
			apply_event_count(fold);
			break;
		case ES_HANDLER_LAST:
			apply_last_event(fold, event);
			break;
	}
}

/*
 * es_fold_is_end tells whether an event ends the state of its stream: that is deleted,
 * and the reducer says nothing else of it.
 */
bool
es_fold_is_end(const EsFold *fold, const EsEvent *event)
{
	const text *type = DatumGetTextPP(event->type);

	return es_names_is_deletion(type) &&
		es_reducer_handler(fold->reducer, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) == NULL;
}

/* Hands an event, in its newest form, to its handler. */
static void
apply_event(EsFold *fold, const EsHandler *handler, const EsEvent *event)
{
	EsEvent		newest;

	/* who counts events does not look at their data, which may be encrypted */
	if (fold->reducer->upcasters->count == 0 ||
		(fold->secrecy != ES_SECRECY_NONE && handler->kind == ES_HANDLER_COUNT))
	{
		dispatch_event(fold, handler, event);
		return;
	}
	newest = *event;
	es_upcast_event(fold->reducer->upcasters, fold->upcasts, &newest);
	dispatch_event(fold, handler, &newest);
}

/* Does so with an event that has protected data; what handlers say of it must not be logged. */
static void
apply_secret_event(EsFold *fold, const EsHandler *handler, const EsEvent *event)
{
	bool		before = es_error_is_secret;

	PG_TRY();
	{
		es_error_is_secret = true;
		apply_event(fold, handler, event);
	}
	PG_FINALLY();
	{
		es_error_is_secret = before;
	}
	PG_END_TRY();
}

/* Does so with what readers see of an event; keys of its protected fields are noted. */
static void
apply_revealed_event(EsFold *fold, const EsHandler *handler, const EsEvent *event)
{
	EsEvent		plain = *event;

	if (es_field_reveal_noting(&plain, note_fold_key, fold))
		apply_secret_event(fold, handler, &plain);
	else
		apply_event(fold, handler, event);
}

/* Tells whether an event that is given plain may have protected data. */
static bool
may_be_secret(const EsFold *fold, const EsEvent *event)
{
	return !fold->takes_stored && es_protection_any() && es_protection_of(DatumGetTextPP(event->stream)) != NULL;
}

/*
 * es_fold_apply takes one event into the state.  What its handler raises comes
 * out as VE009; after any error the fold must not be used again.
 */
void
es_fold_apply(EsFold *fold, const EsEvent *event)
{
	ErrorContextCallback callback;
	const EsHandler *handler;
	MemoryContext old;

	MemoryContextReset(fold->scratch);
	old = MemoryContextSwitchTo(fold->scratch);
	fold->event = event;
	callback.callback = describe_folded_event;
	callback.arg = fold;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	handler = find_event_handler(fold->reducer, event);
	if (unlikely(fold->lost))
		handler = NULL;
	if (handler != NULL && fold->secrecy == ES_SECRECY_SEALED)
		apply_revealed_event(fold, handler, event);
	else if (handler != NULL && unlikely(may_be_secret(fold, event)))
		apply_secret_event(fold, handler, event);
	else if (handler != NULL)
		apply_event(fold, handler, event);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
}
