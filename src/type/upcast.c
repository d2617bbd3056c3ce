/*
 * upcast.c
 *		Upcasters: what makes the data of old events look like new ones'.
 *
 * An upcaster takes the data of events of a type from one version to the next.
 * They are chained: an event goes through all that are registered for its type
 * from its own version on, in order; a version without one needs no change.
 * Stored events stay as they are; folds and es_upcast() see the newest form.
 *
 * Rows are written by type/evolve.c, by one transaction at a time, and known to
 * other sessions by a relcache invalidation.
 */
#include "type/upcast.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"

#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/settings.h"
#include "json/node.h"
#include "json/ops.h"
#include "json/pack.h"
#include "json/tree.h"
#include "secret/field.h"
#include "secret/protection.h"
#include "table/rows.h"

static EsRelation upcasters_table = {"upcasters"};
static EsRelation upcasters_by_type = {"upcasters_by_type",
.index = {.keys = {Anum_upcasters_type, Anum_upcasters_from_version},.columns = "type, from_version",.unique = true}};

static const EsColumn columns[Natts_upcasters] = {
	{"after_position", INT8OID}, {"from_version", INT4OID}, {"type", TEXTOID}, {"handler", TEXTOID, true},
	{"ops", JSONBOID, true}
};
const EsShape es_upcast_shape = ES_SHAPE(&upcasters_table, &upcasters_by_type, columns);
const EsSignature es_upcast_signature = {.result = JSONBOID,.nargs = 1,.args = {JSONBOID}};

PG_FUNCTION_INFO_V1(es_upcast);
PG_FUNCTION_INFO_V1(es_upcast_forget);

static EsUpcasters *known = NULL;
static uint64 known_generation; /* the one that they are of */

/* ---- loading ---- */

/* Orders an upcaster and a type. */
static int
compare_upcaster_type(const EsUpcaster *upcaster, const char *type, int len)
{
	return es_names_order(upcaster->type, upcaster->type_len, type, len);
}

/* Orders upcasters by type, then version. */
static int
compare_upcasters(const void *a, const void *b)
{
	const EsUpcaster *left = a;
	const EsUpcaster *right = b;
	int			order = compare_upcaster_type(left, right->type, right->type_len);

	return order != 0 ? order : left->from_version - right->from_version;
}

/* Makes an upcaster of its row. */
static void
take_upcaster_row(void *element, const EsRows *row)
{
	EsUpcaster *upcaster = element;

	upcaster->source = es_columns_jsonb(row->values, row->isnull, Anum_upcasters_ops);
	if (upcaster->source != NULL)
		upcaster->ops = es_opcompile_document(upcaster->source);
	upcaster->type = TextDatumGetCString(row->values[Anum_upcasters_type - 1]);
	upcaster->type_len = strlen(upcaster->type);
	upcaster->from_version = DatumGetInt32(row->values[Anum_upcasters_from_version - 1]);
	if (upcaster->ops != NULL)
		return;
	upcaster->function.shape = es_upcast_signature;
	upcaster->function.signature = TextDatumGetCString(row->values[Anum_upcasters_handler - 1]);
	upcaster->function.oid = es_handler_resolve(upcaster->function.signature, &es_upcast_signature);
}

/* Reads all upcasters into the current memory context; names are resolved as the current user. */
static EsUpcasters *
load_upcasters(void)
{
	EsUpcasters *upcasters = palloc0(sizeof(EsUpcasters));
	EsRows		rows = {.shape = &es_upcast_shape,.mode = AccessShareLock};

	es_rows_begin(&rows);
	es_handler_watch(RelationGetRelid(rows.rel));
	upcasters->items = es_rows_all(&rows, sizeof(EsUpcaster), take_upcaster_row, &upcasters->count);
	if (upcasters->count > 1)
		qsort(upcasters->items, upcasters->count, sizeof(EsUpcaster), compare_upcasters);
	return upcasters;
}

/* Reads all upcasters, as the extension's owner, into a memory context of their own. */
static EsUpcasters *
read_upcasters(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore upcasters",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EsUpcasters *upcasters;
	EsOwnerContext caller;

	es_owner_enter(&caller);
	upcasters = load_upcasters();
	es_owner_leave(&caller);
	MemoryContextSwitchTo(old);
	upcasters->pinned.context = context;
	MemoryContextSetParent(context, CacheMemoryContext);
	return upcasters;
}

/*
 * es_upcast_pin gives all upcasters, and keeps them as they are until the memory
 * context of their holder is reset or deleted.
 */
const EsUpcasters *
es_upcast_pin(MemoryContext holder)
{
	MemoryContextCallback *callback = es_pin_prepare(holder);
	EsUpcasters *upcasters;

	AcceptInvalidationMessages();
	if (known != NULL && known_generation != es_handler_generation())
	{
		es_pin_outdate(&known->pinned);
		known = NULL;
	}
	upcasters = known;
	if (upcasters == NULL)
	{
		uint64		started = es_handler_generation();

		upcasters = read_upcasters();
		if (started == es_handler_generation())
		{
			known = upcasters;
			known_generation = started;
			upcasters->pinned.current = true;
		}
	}
	es_pin_hold(&upcasters->pinned, callback, holder);
	return upcasters;
}

/* ---- use ---- */

/* Names the upcaster in the context of errors. */
static void
describe_upcaster(void *arg)
{
	const EsUpcaster *upcaster = arg;

	errcontext("upcaster of type \"%s\" from version %d", upcaster->type, upcaster->from_version);
}

/* Runs an upcaster's operations; only the result is left in the current memory context. */
static Datum
run_upcaster_ops(const EsUpcaster *upcaster, const EsEvent *event)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore upcaster",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	EsNode		view = es_node_view(DatumGetJsonbP(event->data));
	EsNode		data = {ES_NODE_ABSENT};
	Jsonb	   *result;

	es_tree_set(&data, &view);
	es_ops_apply(upcaster->ops, &data, event, scratch);
	MemoryContextSwitchTo(old);
	result = es_pack_jsonb(&data);
	MemoryContextDelete(scratch);
	return JsonbPGetDatum(result);
}

/* Calls an upcaster's function. */
static Datum
run_upcaster_function(const EsUpcaster *upcaster, FmgrInfo *flinfo, const EsEvent *event)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		result;

	if (flinfo == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("upcaster %s no longer exists", upcaster->function.signature),
				errdetail("The function was dropped, renamed, or made again with another result type."),
				errhint("Create the function again, or register another one with es_register_upcaster."));
	InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = event->data;
	fcinfo->args[0].isnull = false;
	result = es_handler_invoke(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("upcaster %s returned NULL", upcaster->function.signature));
	return result;
}

/* Finds where the upcasters of a type begin, if there are any. */
static int
find_first_upcaster(const EsUpcasters *upcasters, const char *type, int len)
{
	int			low = 0;
	int			high = upcasters->count;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (compare_upcaster_type(&upcasters->items[middle], type, len) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* es_upcast_wants tells whether es_upcast_event would change an event. */
bool
es_upcast_wants(const EsUpcasters *upcasters, const EsEvent *event)
{
	text	   *type = DatumGetTextPP(event->type);
	const char *name = VARDATA_ANY(type);
	int			len = VARSIZE_ANY_EXHDR(type);

	for (int i = find_first_upcaster(upcasters, name, len);
		 i < upcasters->count && es_upcast_is_of_type(&upcasters->items[i], name, len); i++)
		if (upcasters->items[i].from_version >= event->type_version)
			return true;
	return false;
}

/* es_upcast_event takes an event through the upcasters of its type; see upcast.h. */
void
es_upcast_event(const EsUpcasters *upcasters, EsCalls *calls, EsEvent *event)
{
	text	   *type = DatumGetTextPP(event->type);
	const char *name = VARDATA_ANY(type);
	int			len = VARSIZE_ANY_EXHDR(type);
	Datum		made = (Datum) 0;	/* here, by the upcaster before */

	for (int i = find_first_upcaster(upcasters, name, len);
		 i < upcasters->count && es_upcast_is_of_type(&upcasters->items[i], name, len); i++)
	{
		const EsUpcaster *upcaster = &upcasters->items[i];
		ErrorContextCallback callback;

		if (upcaster->from_version < event->type_version)
			continue;
		callback.callback = describe_upcaster;
		callback.arg = unconstify(EsUpcaster *, upcaster);
		callback.previous = error_context_stack;
		error_context_stack = &callback;
		event->data = upcaster->ops ? run_upcaster_ops(upcaster, event) :
			run_upcaster_function(upcaster, es_handler_ready(calls, i, &upcaster->function), event);
		event->type_version = upcaster->from_version + 1;
		error_context_stack = callback.previous;
		if (made != (Datum) 0 && made != event->data)
			pfree(DatumGetPointer(made));
		made = upcaster->ops ? event->data : (Datum) 0;
	}
}

/* Upcasts an event that has protected data; what upcasters say of it must not be logged. */
static void
upcast_secret_event(const EsUpcasters *upcasters, EsCalls *calls, EsEvent *event)
{
	bool		before = es_error_is_secret;

	PG_TRY();
	{
		es_error_is_secret = true;
		es_upcast_event(upcasters, calls, event);
	}
	PG_FINALLY();
	{
		es_error_is_secret = before;
	}
	PG_END_TRY();
}

/* es_upcast_show gives an event its plain data and newest form; see upcast.h. */
bool
es_upcast_show(const EsUpcasters *upcasters, EsCalls *calls, EsEvent *event)
{
	bool		secret = es_field_reveal(event);

	if (secret)
		upcast_secret_event(upcasters, calls, event);
	else
		es_upcast_event(upcasters, calls, event);
	return secret;
}

/* ---- SQL ---- */

/* What a statement keeps for es_upcast(). */
typedef struct UpcastState
{
	MemoryContext context;
	uint64		generation;
	const EsUpcasters *upcasters;
	EsCalls    *calls;
	bool		calls_functions;
} UpcastState;

/* Gives what is kept for a call of es_upcast(), as it is now. */
static UpcastState *
get_upcast_state(FunctionCallInfo fcinfo)
{
	UpcastState *state = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	AcceptInvalidationMessages();
	if (state != NULL && state->generation == es_handler_generation())
		return state;
	if (state == NULL)
	{
		state = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(UpcastState));
		state->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "eventstore upcast",
											   ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = state;
	}
	MemoryContextReset(state->context);
	state->generation = 0;
	old = MemoryContextSwitchTo(state->context);
	state->upcasters = es_upcast_pin(state->context);
	state->calls_functions = false;
	for (int i = 0; i < state->upcasters->count; i++)
		state->calls_functions |= state->upcasters->items[i].ops == NULL;
	state->calls = es_handler_begin_calls(state->upcasters->count);
	state->generation = es_handler_generation();
	MemoryContextSwitchTo(old);
	return state;
}

/* Names the event in the context of errors. */
static void
describe_upcast_event(void *arg)
{
	errcontext("%s", es_names_show_event(arg));
}

/*
 * es_upcast(event es_event) gives an event with data and type_version as they
 * are after the upcasters of its type.  NULL gives NULL; a handler's failure is
 * VE009.  Functions run as the caller, who needs EXECUTE on them.  For who has some
 * right on something, else 42501.
 */
Datum
es_upcast(PG_FUNCTION_ARGS)
{
	UpcastState *state = get_upcast_state(fcinfo);
	EsEvent		event;
	Datum		values[Natts_es_event];
	bool		isnull[Natts_es_event];
	ErrorContextCallback callback;
	int			settings = 0;

	es_right_require_any(ES_RIGHTS_ALL);
	if (!es_event_of_datum(PG_GETARG_DATUM(0), &event, values, isnull))
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	callback.callback = describe_upcast_event;
	callback.arg = &event;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (state->calls_functions)
		settings = es_settings_enter();
	if (es_protection_any() && es_protection_of(DatumGetTextPP(event.stream)))
		upcast_secret_event(state->upcasters, state->calls, &event);
	else
		es_upcast_event(state->upcasters, state->calls, &event);
	es_settings_leave(settings);
	error_context_stack = callback.previous;
	values[Anum_es_event_data - 1] = event.data;
	values[Anum_es_event_type_version - 1] = Int32GetDatum(event.type_version);
	isnull[Anum_es_event_type_version - 1] = false;
	PG_RETURN_DATUM(es_event_form(values, isnull));
}

/*
 * eventstore.forget_upcasters() is the row trigger for rows that others insert: a
 * restore, a subscription.
 */
Datum
es_upcast_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&upcasters_table);
	PG_RETURN_POINTER(NULL);
}
