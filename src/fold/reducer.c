/*
 * reducer.c
 *		Reducers: their tables, and the resolved form that folds use.
 *
 * A reducer is a row of eventstore.reducers and a row of
 * eventstore.reducer_handlers for each event type it handles, with a function's
 * signature or operations.  Types are named, like functions: names survive
 * dumps and upgrades, OIDs do not.
 *
 * The first use in a session resolves a reducer into an EsReducer, with its
 * operations compiled and the upcasters at hand, in a memory context of its own
 * under CacheMemoryContext, and keeps it by name.  Any change of the tables, of
 * functions, types or schemas raises the generation (handler.c), and the next
 * look-up drops all that is kept.  A fold pins its reducer, so that a change
 * while it runs takes nothing away from under it; the pin is tied to the fold's
 * memory context and so does not outlive an error.
 */
#include "fold/reducer.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/error.h"
#include "base/owner.h"
#include "base/settings.h"
#include "fold/state.h"
#include "json/node.h"
#include "json/pack.h"
#include "json/scope.h"

#define FINGERPRINT_FORMAT	1	/* to be raised when the same reducer comes to
								 * mean something else */

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

EsRelation	es_reduce_reducers = {"reducers"};
static EsRelation reducers_by_name = {"reducers_by_name",
.index = {.keys = {Anum_reducers_reducer},.columns = "reducer",.unique = true}};
static EsRelation handlers_table = {"reducer_handlers"};
static EsRelation handlers_by_type = {"reducer_handlers_by_type",
.index = {.keys = {Anum_handlers_reducer, Anum_handlers_event_type},.columns = "reducer, event_type",.unique = true}};
static EsRelation policies_table = {"snapshot_policies"};
static EsRelation policies_by_reducer = {"snapshot_policies_by_reducer",
.index = {.keys = {Anum_policies_reducer},.columns = "reducer",.unique = true}};

static const EsColumn reducer_columns[Natts_reducers] = {
	{"reducer", TEXTOID}, {"initial", JSONBOID, true}, {"state_type", TEXTOID}, {"on_unknown", TEXTOID}
};
static const EsColumn handler_columns[Natts_handlers] = {
	{"reducer", TEXTOID}, {"event_type", TEXTOID}, {"handler", TEXTOID, true}, {"ops", JSONBOID, true}
};
static const EsColumn policy_columns[Natts_policies] = {
	{"reducer", TEXTOID}, {"every", INT4OID, true}, {"drops", INT8OID}
};
const EsShape es_reduce_reducer_shape = ES_SHAPE(&es_reduce_reducers, &reducers_by_name, reducer_columns);
const EsShape es_reduce_handler_shape = ES_SHAPE(&handlers_table, &handlers_by_type, handler_columns);
const EsShape es_reduce_policy_shape = ES_SHAPE(&policies_table, &policies_by_reducer, policy_columns);

static HTAB *cache = NULL;
static uint64 cache_generation; /* the one that the cache's content is of */

/*
 * Cache
 */

/* Empties the cache; what is pinned goes when its last pin goes. */
static void
empty_cache(void)
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
current_cache(void)
{
	if (cache_generation != es_handler_generation())
	{
		empty_cache();
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

/*
 * Handlers
 */

/* Orders event types for look-up. */
static int
compare_types(const char *a, int alen, const char *b, int blen)
{
	return alen != blen ? alen - blen : memcmp(a, b, alen);
}

/* compare_types for qsort. */
static int
compare_handlers(const void *a, const void *b)
{
	const EsHandler *left = a;
	const EsHandler *right = b;

	return compare_types(left->type, left->type_len, right->type, right->type_len);
}

/* es_reduce_handler finds the handler of an event type: its own, or the fallback; or NULL. */
const EsHandler *
es_reduce_handler(const EsReducer *reducer, const char *type, int len)
{
	int			low = 0;
	int			high = reducer->nhandlers;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const EsHandler *handler = &reducer->handlers[middle];
		int			order = compare_types(type, len, handler->type, handler->type_len);

		if (order == 0)
			return handler;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return reducer->fallback;
}

/* Tells whether a reducer handles the type that an upcaster is of. */
static bool
handles_type_of(const EsReducer *reducer, const EsUpcaster *upcaster)
{
	return es_reduce_handler(reducer, upcaster->type, upcaster->type_len) != NULL;
}

/* es_reduce_report_unknown raises VE004 for a reducer that is not there; hint may be NULL. */
void
es_reduce_report_unknown(const text *name, const char *hint)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_UNDEFINED_OBJECT),
			errmsg("reducer \"%s\" does not exist", es_names_show_text(name)),
			hint ? errhint("%s", hint) : 0);
}

/* es_reduce_report_gone raises VE004 for a handler whose function was dropped, or is another one now. */
void
es_reduce_report_gone(const EsReducer *reducer, const EsHandler *handler)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_UNDEFINED_OBJECT),
			errmsg("handler %s of reducer \"%s\" does not exist any more",
				   handler->function.signature, reducer->name),
			errdetail("The function registered for event type \"%s\" was dropped, renamed, or made again with another result type.",
					  handler->type),
			errhint("Create the function again, or register another one with es_register_reducer."));
}

/* es_reduce_shape tells what a handler must look like that takes the event, or only its data. */
EsSignature
es_reduce_shape(Oid state_type, bool takes_event)
{
	EsSignature shape = {.result = state_type,.nargs = 2,.args = {state_type, JSONBOID}};

	if (takes_event)
		shape.args[1] = es_base_event_type();
	return shape;
}

/* Makes a handler of the function that a signature names, which may be gone. */
static void
take_function(EsHandler *handler, const char *signature, Oid state_type)
{
	handler->kind = ES_HANDLER_FUNCTION;
	handler->function.signature = signature;
	for (int i = 0; i < 2 && !OidIsValid(handler->function.oid); i++)
	{
		handler->takes_event = i == 0;
		handler->function.shape = es_reduce_shape(state_type, handler->takes_event);
		handler->function.oid = es_handler_resolve(signature, &handler->function.shape);
	}
}

/*
 * Loading
 */

/* es_reduce_begin_rows begins to read the rows of one reducer in one of the tables. */
void
es_reduce_begin_rows(EsRows *rows, const EsShape *shape, const text *reducer)
{
	memset(rows, 0, sizeof(*rows));
	rows->shape = shape;
	rows->mode = AccessShareLock;
	es_rows_equal(rows, PointerGetDatum(reducer));
	es_rows_begin(rows);
	es_handler_watch(RelationGetRelid(rows->rel));
}

/*
 * es_reduce_column gives a column that is never NULL, of the row that is being
 * read, as a C string.
 */
char *
es_reduce_column(const EsRows *rows, int column)
{
	return TextDatumGetCString(rows->values[column - 1]);
}

/* es_reduce_resolve_type finds a state type by its stored name; VE004 if it is gone. */
Oid
es_reduce_resolve_type(const char *reducer, const char *type)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		oid;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(type);
	fcinfo->args[0].isnull = false;
	oid = to_regtype(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("state type %s of reducer \"%s\" does not exist any more", type, reducer),
				errhint("Create the type again, or drop the reducer with es_drop_reducer."));
	return DatumGetObjectId(oid);
}

/* Fills in what a reducer knows of its state's type. */
static void
set_state_type(EsReducer *reducer, Oid type)
{
	reducer->state_type = type;
	reducer->state_collation = get_typcollation(type);
	get_typlenbyval(type, &reducer->state_len, &reducer->state_byval);
}

/* Makes a handler of operations. */
static void
take_ops(EsHandler *handler, const Jsonb *document)
{
	handler->kind = ES_HANDLER_OPS;
	handler->ops = es_opcompile_document(document);
	handler->source = document;
}

/* Reads the handlers of a reducer into the current memory context. */
static void
load_handlers(EsReducer *reducer, const text *name)
{
	EsRows		rows;
	int			space = 8;

	reducer->handlers = palloc0(space * sizeof(EsHandler));
	es_reduce_begin_rows(&rows, &es_reduce_handler_shape, name);
	while (es_rows_next(&rows))
	{
		EsHandler  *handler;

		CHECK_FOR_INTERRUPTS();
		if (reducer->nhandlers == space)
			reducer->handlers = repalloc(reducer->handlers, (space *= 2) * sizeof(EsHandler));
		handler = &reducer->handlers[reducer->nhandlers++];
		memset(handler, 0, sizeof(EsHandler));
		handler->type = es_reduce_column(&rows, Anum_handlers_event_type);
		handler->type_len = strlen(handler->type);
		if (rows.isnull[Anum_handlers_ops - 1])
			take_function(handler, es_reduce_column(&rows, Anum_handlers_handler), reducer->state_type);
		else
			take_ops(handler, DatumGetJsonbPCopy(rows.values[Anum_handlers_ops - 1]));
	}
	es_rows_end(&rows);
	qsort(reducer->handlers, reducer->nhandlers, sizeof(EsHandler), compare_handlers);
}

/* Reads a reducer from the tables into the current memory context; NULL if there is none. */
static EsReducer *
load_reducer(const text *name)
{
	EsReducer  *reducer = NULL;
	EsRows		rows;

	es_reduce_begin_rows(&rows, &es_reduce_reducer_shape, name);
	if (es_rows_next(&rows))
	{
		reducer = palloc0(sizeof(EsReducer));
		reducer->name = text_to_cstring(name);
		if (!rows.isnull[Anum_reducers_initial - 1])
			reducer->initial = DatumGetJsonbPCopy(rows.values[Anum_reducers_initial - 1]);
		reducer->unknown_is_error = strcmp(es_reduce_column(&rows, Anum_reducers_on_unknown), "error") == 0;
		set_state_type(reducer, es_reduce_resolve_type(reducer->name,
													   es_reduce_column(&rows, Anum_reducers_state_type)));
		load_handlers(reducer, name);
	}
	es_rows_end(&rows);
	return reducer;
}

/* Tells which built-in reducer a name means; -1 for none. */
static int
find_builtin(const char *name)
{
	for (int i = 0; i < lengthof(builtins); i++)
		if (strcmp(builtins[i].name, name) == 0)
			return i;
	return -1;
}

/* es_reduce_is_builtin tells whether a name is taken by a built-in reducer. */
bool
es_reduce_is_builtin(const char *name)
{
	return find_builtin(name) >= 0;
}

/* Makes a built-in reducer in the current memory context. */
static EsReducer *
make_builtin(int number)
{
	const char *name = builtins[number].name;
	EsReducer  *reducer = palloc0(sizeof(EsReducer));
	EsHandler  *handler = palloc0(sizeof(EsHandler));
	EsNode		empty = es_pack_object(NULL, NULL, 0);
	EsNode		word = es_node_view_string(name, strlen(name));

	reducer->name = name;
	reducer->initial = es_pack_jsonb(&empty);
	set_state_type(reducer, JSONBOID);
	reducer->nhandlers = 1;
	reducer->handlers = handler;
	handler->type = "*";
	handler->type_len = 1;
	handler->kind = builtins[number].kind;
	if (handler->kind == ES_HANDLER_OPS)
		take_ops(handler, es_pack_jsonb(&word));
	return reducer;
}

/* Adds a part of what a fingerprint is of; its length keeps parts apart. */
static void
add_part(pg_cryptohash_ctx *hash, const char *part, int len)
{
	int32		prefix = pg_hton32(len);

	if (pg_cryptohash_update(hash, (uint8 *) &prefix, sizeof(prefix)) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) part, len) < 0)
		elog(ERROR, "could not compute a fingerprint: %s", pg_cryptohash_error(hash));
}

/* Adds a handler to what a fingerprint is of. */
static void
add_handler(pg_cryptohash_ctx *hash, const char *type, const Jsonb *source, const EsFunction *function)
{
	StringInfoData description;

	add_part(hash, type, strlen(type));
	initStringInfo(&description);
	if (source != NULL)
		JsonbToCString(&description, (JsonbContainer *) &source->root, VARSIZE(source));
	else
		es_handler_describe(&description, function);
	add_part(hash, description.data, description.len);
}

/*
 * Computes the fingerprint of a reducer: a digest of all that its states depend
 * on and PostgreSQL can see.  It has no OIDs, so it survives a dump.
 */
static void
compute_fingerprint(EsReducer *reducer)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	StringInfoData head;

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		elog(ERROR, "could not compute a fingerprint: %s", pg_cryptohash_error(hash));
	initStringInfo(&head);
	appendStringInfo(&head, "%d;%s;%d;" INT64_FORMAT ";", FINGERPRINT_FORMAT, reducer->name,
					 reducer->unknown_is_error, reducer->drops);
	es_state_describe_type(&head, reducer->state_type);
	if (reducer->calls_functions)
		es_settings_describe(&head);
	if (reducer->initial != NULL)
		JsonbToCString(&head, (JsonbContainer *) &reducer->initial->root, VARSIZE(reducer->initial));
	add_part(hash, head.data, head.len);
	for (int i = 0; i < reducer->nhandlers; i++)
	{
		const EsHandler *handler = &reducer->handlers[i];

		if (handler->kind == ES_HANDLER_FUNCTION || handler->kind == ES_HANDLER_OPS)
			add_handler(hash, handler->type, handler->source, &handler->function);
	}
	for (int i = 0; i < reducer->upcasters->count; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];
		int32		version = pg_hton32(upcaster->from_version);

		if (!handles_type_of(reducer, upcaster))
			continue;
		add_part(hash, (const char *) &version, sizeof(version));
		add_handler(hash, upcaster->type, upcaster->source, &upcaster->function);
	}
	if (pg_cryptohash_final(hash, reducer->fingerprint, sizeof(reducer->fingerprint)) < 0)
		elog(ERROR, "could not compute a fingerprint: %s", pg_cryptohash_error(hash));
	pg_cryptohash_free(hash);
}

/* Tells whether a function may run in a parallel worker. */
static bool
is_parallel_safe(const EsFunction *function)
{
	return OidIsValid(function->oid) && func_parallel(function->oid) == PROPARALLEL_SAFE;
}

/* Tells whether a handler may look at an event's metadata. */
static bool
wants_metadata(const EsHandler *handler)
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

/* es_reduce_read_policy reads what is said about the snapshots of a reducer. */
void
es_reduce_read_policy(const text *reducer, int *every, int64 *drops)
{
	EsRows		rows;

	*every = 0;
	*drops = 0;
	es_reduce_begin_rows(&rows, &es_reduce_policy_shape, reducer);
	if (es_rows_next(&rows))
	{
		if (!rows.isnull[Anum_policies_every - 1])
			*every = DatumGetInt32(rows.values[Anum_policies_every - 1]);
		*drops = DatumGetInt64(rows.values[Anum_policies_drops - 1]);
	}
	es_rows_end(&rows);
}

/* Notes what a function says about the reducer that calls it. */
static void
note_function(EsReducer *reducer, const EsFunction *function)
{
	reducer->calls_functions = true;
	reducer->parallel_safe &= is_parallel_safe(function);
	reducer->self_contained &= es_handler_is_self_contained(function);
}

/* es_reduce_may_execute tells whether the current user may call all functions of a reducer. */
bool
es_reduce_may_execute(const EsReducer *reducer)
{
	bool		may = true;

	for (int i = 0; i < reducer->nhandlers && may; i++)
		may = reducer->handlers[i].kind != ES_HANDLER_FUNCTION ||
			es_handler_may_execute(&reducer->handlers[i].function);
	for (int i = 0; i < reducer->upcasters->count && may; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];

		may = upcaster->ops != NULL || !handles_type_of(reducer, upcaster) ||
			es_handler_may_execute(&upcaster->function);
	}
	return may;
}

/* Fills in what is derived from a reducer's rows. */
static void
finish_reducer(EsReducer *reducer, const text *name)
{
	reducer->fallback = es_reduce_handler(reducer, "*", 1);
	reducer->upcasters = es_upcast_pin(CurrentMemoryContext);
	es_reduce_read_policy(name, &reducer->snapshot_every, &reducer->drops);
	reducer->parallel_safe = reducer->self_contained = true;
	reducer->calls_functions = reducer->state_type != JSONBOID;
	for (int i = 0; i < reducer->nhandlers; i++)
	{
		if (reducer->handlers[i].kind == ES_HANDLER_FUNCTION)
			note_function(reducer, &reducer->handlers[i].function);
		reducer->wants_metadata |= wants_metadata(&reducer->handlers[i]);
	}
	for (int i = 0; i < reducer->upcasters->count; i++)
	{
		const EsUpcaster *upcaster = &reducer->upcasters->items[i];

		if (!handles_type_of(reducer, upcaster))
			continue;
		if (upcaster->ops == NULL)
			note_function(reducer, &upcaster->function);
		else
			reducer->wants_metadata |= es_opcompile_mention(upcaster->ops, ES_ROOT_METADATA);
	}
	if (reducer->state_type != JSONBOID)
		reducer->layout = es_state_layout(reducer->state_type);
	compute_fingerprint(reducer);
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
	int			builtin = find_builtin(key);
	EsReducer  *reducer;
	EsOwnerContext caller;

	es_base_become_owner(&caller);
	reducer = builtin >= 0 ? make_builtin(builtin) : load_reducer(name);
	if (reducer != NULL)
		finish_reducer(reducer, name);
	es_base_become_caller(&caller);
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
 * es_reduce_pin finds a reducer, NULL if there is none, and keeps it as it is
 * until the memory context of its holder is reset or deleted.
 */
const EsReducer *
es_reduce_pin(const text *name, MemoryContext holder)
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
	entry = hash_search(current_cache(), key, HASH_FIND, NULL);
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
			entry = hash_search(current_cache(), key, HASH_ENTER, NULL);
			entry->reducer = reducer;
			reducer->pinned.current = true;
		}
	}
	es_pin_hold(&reducer->pinned, callback, holder);
	return reducer;
}
