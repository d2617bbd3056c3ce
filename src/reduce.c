/*
 * reduce.c
 *		Reducers: their tables, and the resolved form that folds use.
 *
 * A reducer is a row of eventstore.reducers and a row of
 * eventstore.reducer_handlers for each event type it handles.  Rows name their
 * types and functions; names survive dumps and upgrades, OIDs do not.  Nothing
 * keeps a user from dropping a function that a row names, so a handler may turn
 * out to be gone when it is needed.
 *
 * The first use in a session resolves a reducer into an EsReducer, in a memory
 * context of its own under CacheMemoryContext, and keeps it by name.  Any
 * change of the two tables, of functions, types or schemas raises the
 * generation, and the next look-up drops all that is kept.  A fold pins its
 * reducer, so that a change while it runs takes nothing away from under it; the
 * pin is tied to the fold's memory context and so does not outlive an error.
 */
#include "reduce.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "tree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

typedef struct CacheEntry
{
	char		name[ES_MAX_REDUCER_NAME + 1];
	EsReducer  *reducer;
} CacheEntry;

static const struct
{
	const char *name;
	EsHandlerKind kind;
}			builtins[] =

{
	{"merge", ES_HANDLER_MERGE},
	{"merge_patch", ES_HANDLER_MERGE_PATCH},
	{"count", ES_HANDLER_COUNT},
	{"last", ES_HANDLER_LAST},
};

static HTAB *cache = NULL;
static uint64 generation = 1;	/* raised by each invalidation */
static uint64 cache_generation; /* the one that the cache's content is of */
static Oid	known_reducers;		/* eventstore.reducers, as last seen */

/*
 * Cache
 */

/* What is kept may no longer hold: a function, type or schema changed. */
static void
forget_on_catalog_change(Datum arg, int cacheid, uint32 hashvalue)
{
	generation++;
}

/* What is kept may no longer hold: a reducer changed, or anything may have. */
static void
forget_on_relation_change(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == known_reducers)
		generation++;
}

/* Registers the invalidation callbacks; called once, from _PG_init. */
void
es_reduce_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, forget_on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, forget_on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_on_catalog_change, (Datum) 0);
	CacheRegisterRelcacheCallback(forget_on_relation_change, (Datum) 0);
}

/* es_reduce_generation changes whenever a resolved function may have changed. */
uint64
es_reduce_generation(void)
{
	return generation;
}

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
	{
		entry->reducer->cached = false;
		if (entry->reducer->pins == 0)
			MemoryContextDelete(entry->reducer->context);
	}
	hash_destroy(cache);
	cache = NULL;
}

/* Gives the cache, empty if anything has changed since it was filled. */
static HTAB *
current_cache(void)
{
	if (cache_generation != generation)
	{
		empty_cache();
		cache_generation = generation;
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

/* Undoes one es_reduce_pin: its holder is gone. */
static void
unpin(void *arg)
{
	EsReducer  *reducer = arg;

	if (--reducer->pins == 0 && !reducer->cached)
		MemoryContextDelete(reducer->context);
}

/*
 * Values
 */

/* Calls a function that asks for the type of its first argument. */
static Datum
call_polymorphic(Oid function, Oid type, NullableDatum *args, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	flinfo;
	List	   *types = list_make2(makeNullConst(type, -1, InvalidOid),
								   makeNullConst(JSONBOID, -1, InvalidOid));
	Datum		result;

	fmgr_info(function, &flinfo);
	fmgr_info_set_expr((Node *) makeFuncExpr(function, type, types, InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL), &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0] = args[0];
	fcinfo->args[1] = args[1];
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/* es_reduce_to_jsonb converts a state that is not NULL as to_jsonb does. */
Datum
es_reduce_to_jsonb(Datum state, Oid state_type)
{
	NullableDatum args[2] = {{state, false}, {(Datum) 0, true}};
	bool		isnull;

	return call_polymorphic(F_TO_JSONB, state_type, args, &isnull);
}

/*
 * es_reduce_populate makes a row of a composite type (or a domain over one) as
 * jsonb_populate_record does; *isnull goes in for the base and out for the row.
 */
Datum
es_reduce_populate(Datum base, bool *isnull, Oid row_type, const Jsonb *json)
{
	NullableDatum args[2] = {{base, *isnull}, {JsonbPGetDatum(json), false}};

	return call_polymorphic(F_JSONB_POPULATE_RECORD, row_type, args, isnull);
}

/*
 * Makes a value of any type, as jsonb_populate_record does for a column: the
 * column "state" of a row made for the purpose.
 */
static Datum
value_from_jsonb(const Jsonb *json, Oid type, bool *isnull)
{
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	EsNode		wrapper = {ES_NODE_NULL};
	EsNode		view = es_tree_view(json);
	Datum		no_value = (Datum) 0;
	bool		no_value_isnull = true;
	bool		row_isnull = false;
	Datum		row;

	TupleDescInitEntry(desc, 1, "state", type, -1, 0);
	desc = BlessTupleDesc(desc);
	es_tree_open(&wrapper);
	es_tree_set(es_tree_put(&wrapper, "state", strlen("state")), &view);
	row = HeapTupleGetDatum(heap_form_tuple(desc, &no_value, &no_value_isnull));
	row = es_reduce_populate(row, &row_isnull, RECORDOID, es_tree_to_jsonb(&wrapper));
	return GetAttributeByNum(DatumGetHeapTupleHeader(row), 1, isnull);
}

/*
 * es_reduce_initial makes the state that a reducer starts from.  A jsonb is
 * taken as it is.  Other types read it as jsonb_populate_record reads a column;
 * the default {} means an empty row for composite types and NULL for those that
 * an object says nothing about, such as numbers.
 */
Datum
es_reduce_initial(const Jsonb *initial, Oid state_type, bool *isnull)
{
	Oid			base_type = getBaseType(state_type);

	*isnull = initial == NULL;
	if (initial == NULL || state_type == JSONBOID)
		return JsonbPGetDatum(initial);
	if (JB_ROOT_IS_OBJECT(initial) && JB_ROOT_COUNT(initial) == 0 &&
		base_type != JSONBOID && base_type != JSONOID &&
		get_typtype(base_type) != TYPTYPE_COMPOSITE)
	{
		*isnull = true;
		return (Datum) 0;
	}
	return value_from_jsonb(initial, state_type, isnull);
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

/* es_reduce_fits tells whether a function can handle events for states of a type, and in which form. */
bool
es_reduce_fits(Oid function, Oid state_type, bool *takes_event)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		fits = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind == PROKIND_FUNCTION && !proc->proretset && proc->pronargs == 2 &&
		proc->prorettype == state_type && proc->proargtypes.values[0] == state_type)
	{
		*takes_event = proc->proargtypes.values[1] == es_base_store()->event_type;
		fits = *takes_event || proc->proargtypes.values[1] == JSONBOID;
	}
	ReleaseSysCache(tuple);
	return fits;
}

/* es_reduce_require_execute raises 42501 unless the current user may call a handler. */
void
es_reduce_require_execute(Oid function)
{
	AclResult	result = es_function_aclcheck(function, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
}

/*
 * es_reduce_callable gives a handler's function, which the current user may
 * call now.  A handler that was dropped, or replaced by one of another kind, is
 * VE004.
 */
Oid
es_reduce_callable(const EsReducer *reducer, const EsHandler *handler)
{
	bool		takes_event;

	if (!OidIsValid(handler->function) ||
		!es_reduce_fits(handler->function, reducer->state_type, &takes_event) ||
		takes_event != handler->takes_event)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("handler %s of reducer \"%s\" does not exist any more",
					   handler->signature, reducer->name),
				errdetail("The function registered for event type \"%s\" was dropped, renamed, or made again with another result type.",
						  handler->type),
				errhint("Create the function again, or register another one with es_register_reducer."));
	es_reduce_require_execute(handler->function);
	return handler->function;
}

/*
 * Resolves a stored signature, which is the schema and name of a function and
 * the two types that it must have.  InvalidOid if there is no such handler.
 */
static Oid
resolve_signature(const char *signature, Oid state_type, bool *takes_event)
{
	Oid			args[2] = {state_type, InvalidOid};
	Oid			events[2] = {es_base_store()->event_type, JSONBOID};

	for (int i = 0; i < lengthof(events); i++)
	{
		char	   *types = psprintf("(%s,%s)", format_type_be_qualified(state_type),
									 format_type_be_qualified(events[i]));
		int			name_len = (int) strlen(signature) - (int) strlen(types);
		Oid			function;

		args[1] = events[i];
		if (name_len <= 0 || strcmp(signature + name_len, types) != 0)
			continue;
		function = LookupFuncName(textToQualifiedNameList(cstring_to_text_with_len(signature, name_len)),
								  2, args, true);
		return es_reduce_fits(function, state_type, takes_event) ? function : InvalidOid;
	}
	return InvalidOid;
}

/*
 * Loading
 */

/* es_reduce_relation finds a relation of schema eventstore, which must be there. */
Oid
es_reduce_relation(const char *name)
{
	Oid			relid = get_relname_relid(name, es_base_store()->schema);

	if (!OidIsValid(relid))
		elog(ERROR, "relation eventstore.%s does not exist", name);
	return relid;
}

/* es_reduce_begin_rows begins a scan of the rows of one reducer, or of one handler if a type is given. */
SysScanDesc
es_reduce_begin_rows(Relation table, const char *index, const text *reducer, const text *type)
{
	ScanKeyData keys[2];

	/* both tables have the reducer first, and handlers the type second */
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(reducer));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(type));
	return systable_beginscan(table, es_reduce_relation(index), true, NULL, type ? 2 : 1, keys);
}

/* es_reduce_find_row copies a reducer's row; NULL if there is none. */
HeapTuple
es_reduce_find_row(Relation reducers, const text *name)
{
	SysScanDesc scan = es_reduce_begin_rows(reducers, "reducers_by_name", name, NULL);
	HeapTuple	row = systable_getnext(scan);

	if (HeapTupleIsValid(row))
		row = heap_copytuple(row);
	systable_endscan(scan);
	return row;
}

/* es_reduce_column reads a column that is never NULL as a C string. */
char *
es_reduce_column(HeapTuple row, int column, TupleDesc desc)
{
	bool		isnull;

	return TextDatumGetCString(heap_getattr(row, column, desc, &isnull));
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

/* Reads the handlers of a reducer into the current memory context. */
static void
load_handlers(EsReducer *reducer, const text *name)
{
	Relation	table = table_open(es_reduce_relation("reducer_handlers"), AccessShareLock);
	SysScanDesc scan = es_reduce_begin_rows(table, "reducer_handlers_by_type", name, NULL);
	int			space = 8;
	HeapTuple	row;

	reducer->handlers = palloc0(space * sizeof(EsHandler));
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		EsHandler  *handler;

		if (reducer->nhandlers == space)
			reducer->handlers = repalloc(reducer->handlers, (space *= 2) * sizeof(EsHandler));
		handler = &reducer->handlers[reducer->nhandlers++];
		handler->type = es_reduce_column(row, Anum_handlers_event_type, RelationGetDescr(table));
		handler->type_len = strlen(handler->type);
		handler->kind = ES_HANDLER_FUNCTION;
		handler->signature = es_reduce_column(row, Anum_handlers_handler, RelationGetDescr(table));
		handler->function = resolve_signature(handler->signature, reducer->state_type,
											  &handler->takes_event);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	qsort(reducer->handlers, reducer->nhandlers, sizeof(EsHandler), compare_handlers);
}

/* Reads a reducer from the tables into the current memory context; NULL if there is none. */
static EsReducer *
load_reducer(const text *name)
{
	Relation	table = table_open(es_reduce_relation("reducers"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(table);
	HeapTuple	row = es_reduce_find_row(table, name);
	EsReducer  *reducer = NULL;

	known_reducers = RelationGetRelid(table);
	if (HeapTupleIsValid(row))
	{
		bool		isnull;
		Datum		initial = heap_getattr(row, Anum_reducers_initial, desc, &isnull);

		reducer = palloc0(sizeof(EsReducer));
		reducer->name = text_to_cstring(name);
		if (!isnull)
			reducer->initial = DatumGetJsonbPCopy(initial);
		reducer->unknown_is_error =
			strcmp(es_reduce_column(row, Anum_reducers_on_unknown, desc), "error") == 0;
		set_state_type(reducer, es_reduce_resolve_type(reducer->name,
													   es_reduce_column(row, Anum_reducers_state_type, desc)));
		load_handlers(reducer, name);
	}
	table_close(table, AccessShareLock);
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
	EsReducer  *reducer = palloc0(sizeof(EsReducer));
	EsNode		empty = {ES_NODE_NULL};

	es_tree_open(&empty);
	reducer->name = builtins[number].name;
	reducer->initial = es_tree_to_jsonb(&empty);
	set_state_type(reducer, JSONBOID);
	reducer->nhandlers = 1;
	reducer->handlers = palloc0(sizeof(EsHandler));
	reducer->handlers->type = "*";
	reducer->handlers->type_len = 1;
	reducer->handlers->kind = builtins[number].kind;
	return reducer;
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

	if (builtin >= 0)
		reducer = make_builtin(builtin);
	else
	{
		es_base_become_owner(&caller);
		reducer = load_reducer(name);
		es_base_become_caller(&caller);
	}
	MemoryContextSwitchTo(old);
	if (reducer == NULL)
	{
		MemoryContextDelete(context);
		return NULL;
	}
	reducer->context = context;
	reducer->fallback = es_reduce_handler(reducer, "*", 1);
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
	MemoryContextCallback *callback = MemoryContextAlloc(holder, sizeof(MemoryContextCallback));
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
		started = generation;
		reducer = resolve_reducer(name, key);
		if (reducer == NULL)
			return NULL;
		if (started == generation)
		{
			entry = hash_search(current_cache(), key, HASH_ENTER, NULL);
			entry->reducer = reducer;
			reducer->cached = true;
		}
	}
	callback->func = unpin;
	callback->arg = reducer;
	MemoryContextRegisterResetCallback(holder, callback);
	reducer->pins++;
	return reducer;
}
