/*
 * resolve.c
 *		Reducers as folds use them: resolved, kept, and pinned.
 *
 * The first use in a session resolves a reducer into an EsReducer, with its
 * operations compiled and the upcasters at hand, in a memory context of its own
 * under CacheMemoryContext, and keeps it by name.  Any change of the tables, of
 * functions, types or schemas raises the generation (type/handler.c), and the next
 * look-up drops all that is kept.  A fold pins its reducer, so that a change
 * while it runs takes nothing away from under it; the pin is tied to the fold's
 * memory context and so does not outlive an error.
 */
#include "fold/resolve.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/owner.h"
#include "base/pin.h"
#include "fold/fingerprint.h"
#include "fold/state.h"
#include "json/node.h"
#include "json/opcompile.h"
#include "json/pack.h"
#include "json/scope.h"
#include "table/columns.h"
#include "table/rows.h"
#include "type/handler.h"
#include "type/upcast.h"

typedef struct CacheEntry
{
	char		name[ES_MAX_REDUCER_NAME + 1];
	EsReducer  *reducer;
} CacheEntry;

static const struct
{
	const char *name;
	EsHandlerKind kind;			/* operations: the one of the same name */
}			builtins[] =

{
	{"merge", ES_HANDLER_OPS},
	{"merge_patch", ES_HANDLER_OPS},
	{"count", ES_HANDLER_COUNT},
	{"last", ES_HANDLER_LAST},
};

static HTAB *cache = NULL;
static uint64 cache_generation; /* the one that the cache's content is of */

/* Empties the cache; what is pinned goes when its last pin goes. */
static void
empty_reducer_cache(void)
{
	HASH_SEQ_STATUS scan;
	CacheEntry *entry;

	if (cache == NULL)
		return;
	hash_seq_init(&scan, cache);
	while ((entry = hash_seq_search(&scan)) != NULL)
		es_pin_outdate(&entry->reducer->pinned);
	hash_destroy(cache);
	cache = NULL;
}

/* Gives the cache, empty if anything has changed since it was filled. */
static HTAB *
get_reducer_cache(void)
{
	if (cache_generation != es_handler_generation())
	{
		empty_reducer_cache();
		cache_generation = es_handler_generation();
	}
	if (cache == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = ES_MAX_REDUCER_NAME + 1;
		control.entrysize = sizeof(CacheEntry);
		cache = hash_create("eventstore reducers", 16, &control, HASH_ELEM | HASH_STRINGS);
	}
	return cache;
}

/* Finds the function that a handler is, which may be gone. */
static void
find_function(EsHandler *handler, Oid state_type)
{
	for (int i = 0; i < 2 && !OidIsValid(handler->function.oid); i++)
	{
		handler->takes_event = i == 0;
		handler->function.shape = es_reducer_signature(state_type, handler->takes_event);
		handler->function.oid = es_handler_resolve(handler->function.signature, &handler->function.shape);
	}
}

/* Fills in what a reducer knows of its state's type. */
static void
set_reducer_state_type(EsReducer *reducer, Oid type)
{
	reducer->state_type = type;
	reducer->state_collation = get_typcollation(type);
	get_typlenbyval(type, &reducer->state_len, &reducer->state_byval);
}

/* Makes a handler of operations. */
static void
take_handler_ops(EsHandler *handler, const Jsonb *document)
{
	handler->kind = ES_HANDLER_OPS;
	handler->ops = es_opcompile_document(document);
	handler->source = document;
}

/* Makes a handler of its row; a function is yet to be found. */
static void
take_handler(void *element, const EsRows *rows)
{
	EsHandler  *handler = element;

	handler->type = es_reducer_column(rows, Anum_handlers_event_type);
	handler->type_len = strlen(handler->type);
	if (!rows->isnull[Anum_handlers_ops - 1])
		take_handler_ops(handler, DatumGetJsonbPCopy(rows->values[Anum_handlers_ops - 1]));
	else
	{
		handler->kind = ES_HANDLER_FUNCTION;
		handler->function.signature = es_reducer_column(rows, Anum_handlers_handler);
	}
}

/* Reads the handlers of a reducer into the current memory context. */
static void
load_reducer_handlers(EsReducer *reducer, const text *name)
{
	EsRows		rows;

	es_reducer_begin_rows(&rows, &es_reducer_handlers_shape, name);
	reducer->handlers = es_rows_all(&rows, sizeof(EsHandler), take_handler, &reducer->nhandlers);
	for (int i = 0; i < reducer->nhandlers; i++)
		if (reducer->handlers[i].kind == ES_HANDLER_FUNCTION)
			find_function(&reducer->handlers[i], reducer->state_type);
	es_reducer_sort_handlers(reducer);
}

/* Reads a reducer from the tables into the current memory context; NULL if there is none. */
static EsReducer *
load_reducer(const text *name)
{
	EsReducer  *reducer = NULL;
	EsRows		rows;

	es_reducer_begin_rows(&rows, &es_reducer_table_shape, name);
	if (es_rows_next(&rows))
	{
		reducer = palloc0(sizeof(EsReducer));
		reducer->name = text_to_cstring(name);
		reducer->initial = es_columns_jsonb(rows.values, rows.isnull, Anum_reducers_initial);
		reducer->unknown_is_error = strcmp(es_reducer_column(&rows, Anum_reducers_on_unknown), "error") == 0;
		set_reducer_state_type(reducer, es_reducer_resolve_type(reducer->name,
																es_reducer_column(&rows, Anum_reducers_state_type)));
		load_reducer_handlers(reducer, name);
	}
	es_rows_end(&rows);
	return reducer;
}

/* Tells which built-in reducer a name means; -1 for none. */
static int
find_builtin_reducer(const char *name)
{
	for (int i = 0; i < lengthof(builtins); i++)
		if (strcmp(builtins[i].name, name) == 0)
			return i;
	return -1;
}

/* es_resolve_is_builtin tells whether a name is taken by a built-in reducer. */
bool
es_resolve_is_builtin(const char *name)
{
	return find_builtin_reducer(name) >= 0;
}

/* Makes a built-in reducer in the current memory context. */
static EsReducer *
make_builtin_reducer(int number)
{
	const char *name = builtins[number].name;
	EsReducer  *reducer = palloc0(sizeof(EsReducer));
	EsHandler  *handler = palloc0(sizeof(EsHandler));
	EsNode		word = es_node_view_string(name, strlen(name));

	reducer->name = name;
	reducer->initial = es_pack_object_jsonb(NULL, NULL, 0);
	set_reducer_state_type(reducer, JSONBOID);
	reducer->nhandlers = 1;
	reducer->handlers = handler;
	handler->type = "*";
	handler->type_len = 1;
	handler->kind = builtins[number].kind;
	if (handler->kind == ES_HANDLER_OPS)
		take_handler_ops(handler, es_pack_jsonb(&word));
	return reducer;
}

/* Tells whether a function may run in a parallel worker. */
static bool
is_function_parallel_safe(const EsFunction *function)
{
	return OidIsValid(function->oid) && func_parallel(function->oid) == PROPARALLEL_SAFE;
}

/* Tells whether a handler may look at an event's metadata. */
static bool
handler_wants_metadata(const EsHandler *handler)
{
	switch (handler->kind)
	{
		case ES_HANDLER_FUNCTION:
			return handler->takes_event;
		case ES_HANDLER_OPS:
			return es_opcompile_mention(handler->ops, ES_ROOT_METADATA);
		case ES_HANDLER_COUNT:
			return false;
		case ES_HANDLER_LAST:
			return true;
	}
	pg_unreachable();
}

/* Notes what a function says about the reducer that calls it. */
static void
note_reducer_function(EsReducer *reducer, const EsFunction *function)
{
	reducer->calls_functions = true;
	reducer->parallel_safe &= is_function_parallel_safe(function);
	reducer->self_contained &= es_handler_is_self_contained(function);
}

/* es_resolve_may_execute tells whether the current user may call all functions of a reducer. */
bool
es_resolve_may_execute(const EsReducer *reducer)
{
	bool		may = true;

	for (int i = 0; i < reducer->nhandlers && may; i++)
		may = reducer->handlers[i].kind != ES_HANDLER_FUNCTION ||
			es_handler_may_execute(&reducer->handlers[i].function);
	for (int i = 0; i < reducer->upcasters->count && may; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];

		may = upcaster->ops != NULL || !es_reducer_wants_upcaster(reducer, upcaster) ||
			es_handler_may_execute(&upcaster->function);
	}
	return may;
}

/* Fills in what is derived from a reducer's rows. */
static void
finish_reducer(EsReducer *reducer, const text *name)
{
	reducer->fallback = es_reducer_handler(reducer, "*", 1);
	reducer->upcasters = es_upcast_pin(CurrentMemoryContext);
	es_reducer_read_policy(name, &reducer->snapshot_every, &reducer->drops);
	reducer->parallel_safe = reducer->self_contained = true;
	reducer->calls_functions = reducer->state_type != JSONBOID;
	for (int i = 0; i < reducer->nhandlers; i++)
	{
		if (reducer->handlers[i].kind == ES_HANDLER_FUNCTION)
			note_reducer_function(reducer, &reducer->handlers[i].function);
		reducer->wants_metadata |= handler_wants_metadata(&reducer->handlers[i]);
	}
	for (int i = 0; i < reducer->upcasters->count; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];

		if (!es_reducer_wants_upcaster(reducer, upcaster))
			continue;
		if (upcaster->ops == NULL)
			note_reducer_function(reducer, &upcaster->function);
		else
			reducer->wants_metadata |= es_opcompile_mention(upcaster->ops, ES_ROOT_METADATA);
	}
	if (reducer->state_type != JSONBOID)
		reducer->layout = es_state_layout(reducer->state_type);
	es_fingerprint_compute(reducer);
}

/*
 * Makes the resolved form of a reducer, in a memory context of its own; NULL if
 * there is none.  Names are resolved as the extension's owner: the caller needs
 * EXECUTE on a handler, but nothing on its schema, as for a trigger.
 */
static EsReducer *
resolve_reducer(const text *name, const char *key)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore reducer",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			builtin = find_builtin_reducer(key);
	EsReducer  *reducer;
	EsOwnerContext caller;

	es_owner_enter(&caller);
	reducer = builtin >= 0 ? make_builtin_reducer(builtin) : load_reducer(name);
	if (reducer != NULL)
		finish_reducer(reducer, name);
	es_owner_leave(&caller);
	MemoryContextSwitchTo(old);
	if (reducer == NULL)
	{
		MemoryContextDelete(context);
		return NULL;
	}
	reducer->pinned.context = context;
	MemoryContextSetParent(context, CacheMemoryContext);
	return reducer;
}

/*
 * es_resolve_pin finds a reducer, NULL if there is none, and keeps it as it is
 * until the memory context of its holder is reset or deleted.
 */
const EsReducer *
es_resolve_pin(const text *name, MemoryContext holder)
{
	MemoryContextCallback *callback = es_pin_prepare(holder);
	char		key[ES_MAX_REDUCER_NAME + 1];
	CacheEntry *entry;
	EsReducer  *reducer;
	uint64		started;

	if (VARSIZE_ANY_EXHDR(name) > ES_MAX_REDUCER_NAME)
		return NULL;
	text_to_cstring_buffer(name, key, sizeof(key));
	AcceptInvalidationMessages();
	entry = hash_search(get_reducer_cache(), key, HASH_FIND, NULL);
	if (entry)
		reducer = entry->reducer;
	else
	{
		started = es_handler_generation();
		reducer = resolve_reducer(name, key);
		if (reducer == NULL)
			return NULL;
		if (started == es_handler_generation())
		{
			entry = hash_search(get_reducer_cache(), key, HASH_ENTER, NULL);
			entry->reducer = reducer;
			reducer->pinned.current = true;
		}
	}
	es_pin_hold(&reducer->pinned, callback, holder);
	return reducer;
}
