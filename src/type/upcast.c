/*
 * upcast.c
 *		Upcasters: what makes the data of old events look like new ones'.
 *
 * An upcaster takes the data of events of a type from one version to the next.
 * They are chained: an event goes through all that are registered for its type
 * from its own version on, in order; a version without one needs no change.
 * Stored events stay as they are; folds and es_upcast() see the newest form.
 *
 * Rows are written like those of reducers (define.c): by one transaction at a
 * time, and known to other sessions by a relcache invalidation.
 */
#include "type/upcast.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/regproc.h"
#include "utils/rel.h"

#include "base/call.h"
#include "base/error.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/settings.h"
#include "json/node.h"
#include "json/ops.h"
#include "json/pack.h"
#include "json/size.h"
#include "json/tree.h"
#include "log/subscriber.h"
#include "table/rows.h"

#define Anum_upcasters_type			1
#define Anum_upcasters_from_version	2
#define Anum_upcasters_handler		3
#define Anum_upcasters_ops			4
#define Natts_upcasters				4

static EsRelation upcasters_table = {"upcasters"};
static EsRelation upcasters_by_type = {"upcasters_by_type",
.index = {.keys = {Anum_upcasters_type, Anum_upcasters_from_version},.columns = "type, from_version",.unique = true}};

static const EsColumn columns[Natts_upcasters] = {
	{"type", TEXTOID}, {"from_version", INT4OID}, {"handler", TEXTOID, true}, {"ops", JSONBOID, true}
};
const EsShape es_upcast_shape = ES_SHAPE(&upcasters_table, &upcasters_by_type, columns);

PG_FUNCTION_INFO_V1(es_register_upcaster);
PG_FUNCTION_INFO_V1(es_register_upcaster_ops);
PG_FUNCTION_INFO_V1(es_upcast);
PG_FUNCTION_INFO_V1(es_upcast_forget);

static EsUpcasters *known = NULL;
static uint64 known_generation; /* the one that they are of */

static const EsSignature upcaster_shape = {.result = JSONBOID,.nargs = 1,.args = {JSONBOID}};

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
	upcaster->function.shape = upcaster_shape;
	upcaster->function.signature = TextDatumGetCString(row->values[Anum_upcasters_handler - 1]);
	upcaster->function.oid = es_handler_resolve(upcaster->function.signature, &upcaster_shape);
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

/* Runs an upcaster's operations. */
static Datum
run_upcaster_ops(const EsUpcaster *upcaster, const EsEvent *event)
{
	EsNode		view = es_node_view(DatumGetJsonbP(event->data));
	EsNode		data = {ES_NODE_ABSENT};

	es_tree_set(&data, &view);
	es_ops_apply(upcaster->ops, &data, event, CurrentMemoryContext);
	return JsonbPGetDatum(es_pack_jsonb(&data));
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

/* Tells whether an upcaster is of a type. */
static inline bool
upcaster_is_of_type(const EsUpcaster *upcaster, const char *type, int len)
{
	return upcaster->type_len == len && memcmp(upcaster->type, type, len) == 0;
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

/* es_upcast_event takes an event through the upcasters of its type; see upcast.h. */
void
es_upcast_event(const EsUpcasters *upcasters, EsCalls *calls, EsEvent *event)
{
	text	   *type = DatumGetTextPP(event->type);
	const char *name = VARDATA_ANY(type);
	int			len = VARSIZE_ANY_EXHDR(type);

	for (int i = find_first_upcaster(upcasters, name, len);
		 i < upcasters->count && upcaster_is_of_type(&upcasters->items[i], name, len); i++)
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
	}
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
 * VE009.  Functions run as the caller, who needs EXECUTE on them.
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

	if (!es_event_of_datum(PG_GETARG_DATUM(0), &event, values, isnull))
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	callback.callback = describe_upcast_event;
	callback.arg = &event;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (state->calls_functions)
		settings = es_settings_enter();
	es_upcast_event(state->upcasters, state->calls, &event);
	es_settings_leave(settings);
	error_context_stack = callback.previous;
	values[Anum_es_event_data - 1] = event.data;
	values[Anum_es_event_type_version - 1] = Int32GetDatum(event.type_version);
	isnull[Anum_es_event_type_version - 1] = false;
	PG_RETURN_DATUM(es_event_form(values, isnull));
}

/* Writes an upcaster's row, over the one that is there. */
static void
put_upcaster(Datum type, int from_version, const char *handler, const Jsonb *ops)
{
	Datum		values[Natts_upcasters];
	bool		isnull[Natts_upcasters] = {false};

	values[Anum_upcasters_type - 1] = type;
	values[Anum_upcasters_from_version - 1] = Int32GetDatum(from_version);
	es_columns_put_string(values, isnull, Anum_upcasters_handler, handler);
	es_columns_put(values, isnull, Anum_upcasters_ops, ops);
	es_rows_put(&es_upcast_shape, values, isnull);
	es_base_announce(&upcasters_table);
	CommandCounterIncrement();
}

/* Checks the arguments, but for what a third one says, and begins a change of the table. */
static void
begin_upcaster_registration(FunctionCallInfo fcinfo, const char *command, const char *third)
{
	es_call_require(fcinfo, 0, "type");
	es_call_require(fcinfo, 1, "from_version");
	es_call_require(fcinfo, 2, third);
	es_names_check_type(PG_GETARG_TEXT_PP(0));
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) == PG_INT32_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_version\" must be between 1 and %d", PG_INT32_MAX - 1));
	es_subscriber_begin_change(&upcasters_table, command);
}

/*
 * es_register_upcaster(type text, from_version int, handler regprocedure) makes
 * a function the upcaster from a version to the next, in place of the one
 * registered before.  Anything but jsonb to jsonb is 22023, a function that the
 * caller may not call 42501.  Waits for other changes of upcasters; a rollback
 * undoes it.
 */
Datum
es_register_upcaster(PG_FUNCTION_ARGS)
{
	Oid			function = PG_GETARG_OID(2);

	begin_upcaster_registration(fcinfo, "es_register_upcaster()", "handler");
	es_handler_require_function(function);
	if (!es_handler_fits(function, &upcaster_shape))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("function %s cannot be an upcaster", format_procedure(function)),
				errdetail("An upcaster must be a function (jsonb) RETURNS jsonb."));
	es_handler_require_execute(function);
	put_upcaster(PG_GETARG_DATUM(0), PG_GETARG_INT32(1), es_handler_signature(function), NULL);
	PG_RETURN_VOID();
}

/*
 * es_register_upcaster_ops(type text, from_version int, ops jsonb) makes
 * operations the upcaster from a version to the next; the state that they change
 * is the data.  Malformed ones are 22023.  Otherwise like es_register_upcaster.
 */
Datum
es_register_upcaster_ops(PG_FUNCTION_ARGS)
{
	Jsonb	   *ops;

	begin_upcaster_registration(fcinfo, "es_register_upcaster_ops()", "ops");
	ops = PG_GETARG_JSONB_P(2);
	es_jsonsize_check_definition(ops, "ops");
	(void) es_opcompile_document(ops);
	put_upcaster(PG_GETARG_DATUM(0), PG_GETARG_INT32(1), NULL, ops);
	PG_RETURN_VOID();
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
