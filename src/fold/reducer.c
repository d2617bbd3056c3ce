/*
 * reducer.c
 *		Reducers: their tables, and what follows from their rows.
 *
 * A reducer is a row of eventstore.reducers and a row of
 * eventstore.reducer_handlers for each event type it handles, with a function's
 * signature or operations.  Types are named, like functions: names survive
 * dumps and upgrades, OIDs do not.
 */
#include "fold/reducer.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/error.h"

EsRelation	es_reducer_table = {"reducers"};
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
const EsShape es_reducer_table_shape = ES_SHAPE(&es_reducer_table, &reducers_by_name, reducer_columns);
const EsShape es_reducer_handlers_shape = ES_SHAPE(&handlers_table, &handlers_by_type, handler_columns);
const EsShape es_reducer_policies_shape = ES_SHAPE(&policies_table, &policies_by_reducer, policy_columns);

/* ---- handlers ---- */

/* Orders event types for look-up. */
static int
compare_event_types(const char *a, int alen, const char *b, int blen)
{
	return alen != blen ? alen - blen : memcmp(a, b, alen);
}

/* compare_event_types for qsort. */
static int
compare_handlers(const void *a, const void *b)
{
	const EsHandler *left = a;
	const EsHandler *right = b;

	return compare_event_types(left->type, left->type_len, right->type, right->type_len);
}

/* es_reducer_sort_handlers puts a reducer's handlers in the order that they are looked up by. */
void
es_reducer_sort_handlers(EsReducer *reducer)
{
	qsort(reducer->handlers, reducer->nhandlers, sizeof(EsHandler), compare_handlers);
}

/*
 * es_reducer_handler finds the handler of an event type: its own, or the fallback; or
 * NULL.  For types that are reserved there is no fallback: who wrote one for all the
 * types of his application does not know of ours.
 */
const EsHandler *
es_reducer_handler(const EsReducer *reducer, const char *type, int len)
{
	int			low = 0;
	int			high = reducer->nhandlers;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const EsHandler *handler = &reducer->handlers[middle];
		int			order = compare_event_types(type, len, handler->type, handler->type_len);

		if (order == 0)
			return handler;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return es_names_is_reserved(type, len) ? NULL : reducer->fallback;
}

/* es_reducer_wants_upcaster tells whether a reducer handles the type that an upcaster is of. */
bool
es_reducer_wants_upcaster(const EsReducer *reducer, const EsUpcaster *upcaster)
{
	return es_reducer_handler(reducer, upcaster->type, upcaster->type_len) != NULL;
}

/* es_reducer_report_unknown raises VE004 for a reducer that is not there; hint may be NULL. */
void
es_reducer_report_unknown(const text *name, const char *hint)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_UNDEFINED_OBJECT),
			errmsg("reducer \"%s\" does not exist", es_names_show_text(name)),
			hint ? errhint("%s", hint) : 0);
}

/*
 * es_reducer_report_gone raises VE004 for a handler whose function was dropped, or
 * is another one now.
 */
void
es_reducer_report_gone(const EsReducer *reducer, const EsHandler *handler)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_UNDEFINED_OBJECT),
			errmsg("handler %s of reducer \"%s\" no longer exists",
				   handler->function.signature, reducer->name),
			errdetail("The function registered for event type \"%s\" was dropped, renamed, or made again with another result type.",
					  handler->type),
			errhint("Create the function again, or register another one with es_register_reducer."));
}

/*
 * es_reducer_signature tells what a handler must look like that takes the event, or
 * only its data.
 */
EsSignature
es_reducer_signature(Oid state_type, bool takes_event)
{
	EsSignature shape = {.result = state_type,.nargs = 2,.args = {state_type, JSONBOID}};

	if (takes_event)
		shape.args[1] = es_base_event_type();
	return shape;
}

/* es_reducer_begin_rows begins to read the rows of one reducer in one of the tables. */
void
es_reducer_begin_rows(EsRows *rows, const EsShape *shape, const text *reducer)
{
	memset(rows, 0, sizeof(*rows));
	rows->shape = shape;
	rows->mode = AccessShareLock;
	es_rows_equal(rows, PointerGetDatum(reducer));
	es_rows_begin(rows);
	es_handler_watch(RelationGetRelid(rows->rel));
}

/*
 * es_reducer_column gives a column that is never NULL, of the row that is being
 * read, as a C string.
 */
char *
es_reducer_column(const EsRows *rows, int column)
{
	return TextDatumGetCString(rows->values[column - 1]);
}

/* es_reducer_resolve_type finds a state type by its stored name; VE004 if it is gone. */
Oid
es_reducer_resolve_type(const char *reducer, const char *type)
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
				errmsg("state type %s of reducer \"%s\" no longer exists", type, reducer),
				errhint("Create the type again, or drop the reducer with es_drop_reducer."));
	return DatumGetObjectId(oid);
}

/* es_reducer_read_policy reads what is said about the snapshots of a reducer. */
void
es_reducer_read_policy(const text *reducer, int *every, int64 *drops)
{
	EsRows		rows;

	*every = 0;
	*drops = 0;
	es_reducer_begin_rows(&rows, &es_reducer_policies_shape, reducer);
	if (es_rows_next(&rows))
	{
		if (!rows.isnull[Anum_policies_every - 1])
			*every = DatumGetInt32(rows.values[Anum_policies_every - 1]);
		*drops = DatumGetInt64(rows.values[Anum_policies_drops - 1]);
	}
	es_rows_end(&rows);
}
