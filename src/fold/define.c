/*
 * define.c
 *		Creates, changes and drops reducers, and says when they leave snapshots.
 *
 * Rows are written past the guards that keep everybody else out (table/rows.c),
 * by one transaction at a time: it holds ShareRowExclusiveLock on
 * eventstore.reducers to its end, and then, if it drops snapshots, on
 * eventstore.snapshots.  Readers are not held up.  The change becomes known
 * through a relcache invalidation of eventstore.reducers: to the session itself
 * at once, to others and to standbys at commit.
 *
 * All of it takes 'admin' on the category that the reducer is named like, else 42501
 * (es_define_require_right).
 */
#include "fold/define.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "base/call.h"
#include "base/names.h"
#include "base/objects.h"
#include "fold/reducer.h"
#include "fold/resolve.h"
#include "fold/snapshot.h"
#include "fold/state.h"
#include "json/opcompile.h"
#include "json/pack.h"
#include "json/size.h"
#include "log/subscriber.h"
#include "table/columns.h"
#include "table/rows.h"
#include "type/handler.h"

void		(*es_define_change_hook) (const text *reducer) = NULL;
void		(*es_define_drop_hook) (const text *reducer) = NULL;

PG_FUNCTION_INFO_V1(es_create_reducer);
PG_FUNCTION_INFO_V1(es_drop_reducer);
PG_FUNCTION_INFO_V1(es_register_reducer);
PG_FUNCTION_INFO_V1(es_register_reducer_ops);
PG_FUNCTION_INFO_V1(es_snapshot_every);
PG_FUNCTION_INFO_V1(es_drop_snapshots);
PG_FUNCTION_INFO_V1(es_define_forget);

/* Begins a change of the tables. */
static void
begin_change(const char *command)
{
	es_subscriber_begin_change(&es_reducer_table, command);
}

/* Makes a change of the tables known, to this command's rest and, at commit, to all. */
static void
announce_reducer_change(void)
{
	es_base_announce(&es_reducer_table);
	CommandCounterIncrement();
}

/*
 * es_define_require_right raises 42501 unless the current user may say what a reducer is,
 * or what becomes of its snapshots: with 'admin' on the category that it is named like, or
 * on '*', if that can be none, or it is built in, which all share.
 */
void
es_define_require_right(const text *reducer)
{
	bool		is_category = memchr(VARDATA_ANY(reducer), '-', VARSIZE_ANY_EXHDR(reducer)) == NULL &&
	!es_resolve_is_builtin(text_to_cstring(reducer));

	es_right_require(ES_RIGHT_ADMIN, is_category ? reducer : NULL);
}

/* Fetches the argument that names a reducer of the user's, who may say what it is. */
static text *
own_reducer_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name = es_call_name_arg(fcinfo, argno, "reducer", ES_MAX_REDUCER_NAME);

	es_define_require_right(name);
	if (es_resolve_is_builtin(text_to_cstring(name)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("reducer \"%s\" is built in", text_to_cstring(name)),
				errhint("Choose another name."));
	return name;
}

/*
 * Finds the name of the state type of a reducer that is not built in; NULL if there
 * is no such reducer.
 */
static char *
find_state_type(const text *name)
{
	char	   *type = NULL;
	EsRows		rows;

	es_reducer_begin_rows(&rows, &es_reducer_table_shape, name);
	if (es_rows_next(&rows))
		type = es_reducer_column(&rows, Anum_reducers_state_type);
	es_rows_end(&rows);
	return type;
}

/* Adds a row to eventstore.reducers. */
static void
insert_reducer(const text *name, const Jsonb *initial, Oid state_type, const char *on_unknown)
{
	Datum		values[Natts_reducers];
	bool		isnull[Natts_reducers] = {false};

	values[Anum_reducers_reducer - 1] = PointerGetDatum(name);
	es_columns_put(values, isnull, Anum_reducers_initial, initial);
	values[Anum_reducers_state_type - 1] =
		CStringGetTextDatum(format_type_be_qualified(state_type));
	values[Anum_reducers_on_unknown - 1] = CStringGetTextDatum(on_unknown);
	es_rows_insert(&es_reducer_table_shape, values, isnull);
}

/*
 * Tells whether a type is a session's own, as a temporary table's is: its name means
 * another one elsewhere.
 */
static bool
is_temporary_type(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	bool		temporary = HeapTupleIsValid(tuple) &&
	isAnyTempNamespace(((Form_pg_type) GETSTRUCT(tuple))->typnamespace);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return temporary;
}

/*
 * Fetches the argument state_type; 42704 if there is no such type, 22023 if no
 * state can have it.
 */
static Oid
state_type_arg(FunctionCallInfo fcinfo, int argno)
{
	Oid			type;

	es_call_require(fcinfo, argno, "state_type");
	type = PG_GETARG_OID(argno);
	if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type with OID %u does not exist", type));
	if (!get_typisdefined(type) || get_typtype(type) == TYPTYPE_PSEUDO)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a state cannot be of type %s", format_type_be(type)));
	if (is_temporary_type(type))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("type %s is temporary", format_type_be(type)),
				errhint("Create it in a schema that stays."));
	return type;
}

/*
 * es_create_reducer(reducer text, initial jsonb, state_type regtype,
 * on_unknown text) creates a reducer without handlers.  initial NULL: the state
 * starts as NULL; for other types than jsonb see es_state_initial.  An
 * existing reducer is 42710, a built-in one's name, a pseudo-type, a temporary type
 * or another on_unknown 22023, an initial that the type does not accept that type's own
 * error.  Waits for other changes of reducers; a rollback undoes it.
 */
Datum
es_create_reducer(PG_FUNCTION_ARGS)
{
	text	   *name = own_reducer_arg(fcinfo, 0);
	Jsonb	   *initial = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	Oid			state_type = state_type_arg(fcinfo, 2);
	char	   *on_unknown = es_call_choice_arg(fcinfo, 3, "on_unknown", "ignore", "error");
	bool		isnull;

	if (initial)
		es_jsonsize_check_definition(initial, "initial");
	(void) es_state_initial(initial, state_type, &isnull);
	begin_change("es_create_reducer()");
	if (find_state_type(name) != NULL)
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("reducer \"%s\" already exists", text_to_cstring(name)));
	insert_reducer(name, initial, state_type, on_unknown);
	announce_reducer_change();
	PG_RETURN_VOID();
}

/* Raises VE004 unless there is a reducer of that name, built in or not. */
static void
require_known_reducer(const text *name)
{
	if (!es_resolve_is_builtin(text_to_cstring(name)) && find_state_type(name) == NULL)
		es_reducer_report_unknown(name, NULL);
}

/*
 * Writes after how many events a replay leaves a snapshot (0: it leaves none), or
 * that the snapshots there are were dropped.
 */
static void
put_snapshot_policy(const text *reducer, const int *every, bool drops)
{
	Datum		values[Natts_policies] = {PointerGetDatum(reducer)};
	bool		isnull[Natts_policies] = {false};
	int			now_every;
	int64		now_drops;

	es_reducer_read_policy(reducer, &now_every, &now_drops);
	if (every != NULL)
		now_every = *every;
	values[Anum_policies_every - 1] = Int32GetDatum(now_every);
	isnull[Anum_policies_every - 1] = now_every == 0;
	values[Anum_policies_drops - 1] = Int64GetDatum(now_drops + drops);
	es_rows_put(&es_reducer_policies_shape, values, isnull);
}

/*
 * es_drop_reducer(reducer text) drops a reducer, its handlers and its snapshots.
 * Unknown: VE004; built in: 22023; one that a projection has: 2BP01.  Waits for
 * other changes of reducers; a rollback undoes it.
 */
Datum
es_drop_reducer(PG_FUNCTION_ARGS)
{
	text	   *name = own_reducer_arg(fcinfo, 0);
	int			none = 0;
	Datum		key = PointerGetDatum(name);

	begin_change("es_drop_reducer()");
	if (find_state_type(name) == NULL)
		es_reducer_report_unknown(name, NULL);
	if (es_define_drop_hook)
		es_define_drop_hook(name);
	(void) es_rows_take_away(&es_reducer_table_shape, &key, 1);
	(void) es_rows_take_away(&es_reducer_handlers_shape, &key, 1);
	put_snapshot_policy(name, &none, true);
	es_snapshot_drop(name, true);
	announce_reducer_change();
	PG_RETURN_VOID();
}

/*
 * Gives the state type of a reducer, which is created with the defaults if it
 * does not exist.
 */
static Oid
require_reducer(const text *name)
{
	char	   *type = find_state_type(name);

	if (type != NULL)
		return es_reducer_resolve_type(text_to_cstring(name), type);
	insert_reducer(name, es_pack_object_jsonb(NULL, NULL, 0), JSONBOID, "ignore");
	return JSONBOID;
}

/* Raises 22023 unless a function can be a handler for states of a type. */
static void
require_fitting_handler(Oid function, const text *reducer, Oid state_type)
{
	EsSignature with_event = es_reducer_signature(state_type, true);
	EsSignature with_data = es_reducer_signature(state_type, false);
	char	   *type = format_type_be(state_type);

	es_handler_require_function(function);
	if (!es_handler_fits(function, &with_event) && !es_handler_fits(function, &with_data))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("function %s cannot handle events for reducer \"%s\"",
					   format_procedure(function), text_to_cstring(reducer)),
				errdetail("A handler must be a function (%s, es_event) RETURNS %s or (%s, jsonb) RETURNS %s.",
						  type, type, type, type),
				state_type == JSONBOID ?
				errhint("For states of another type, create the reducer with es_create_reducer(..., state_type => ...).") : 0);
}

/* Writes a handler's row, over the one that is there: a function's signature, or operations. */
static void
put_handler_row(const text *reducer, const text *type, const char *signature, const Jsonb *ops)
{
	Datum		values[Natts_handlers];
	bool		isnull[Natts_handlers] = {false};

	values[Anum_handlers_reducer - 1] = PointerGetDatum(reducer);
	values[Anum_handlers_event_type - 1] = PointerGetDatum(type);
	es_columns_put_string(values, isnull, Anum_handlers_handler, signature);
	es_columns_put(values, isnull, Anum_handlers_ops, ops);
	es_rows_put(&es_reducer_handlers_shape, values, isnull);
}

/*
 * es_register_reducer(reducer text, event_type text, handler regprocedure)
 * makes a function handle the events of a type, or with '*' of all types that
 * have no handler of their own, in place of the one registered before.  An
 * unknown reducer is created with the defaults.  A function that does not fit
 * is 22023; one that the caller may not call 42501.  Waits for other changes of
 * reducers; a rollback undoes it.
 */
Datum
es_register_reducer(PG_FUNCTION_ARGS)
{
	text	   *name = own_reducer_arg(fcinfo, 0);
	text	   *type;
	Oid			function;

	es_call_require(fcinfo, 1, "event_type");
	es_call_require(fcinfo, 2, "handler");
	type = PG_GETARG_TEXT_PP(1);
	function = PG_GETARG_OID(2);
	es_names_check_handled_type(type);

	begin_change("es_register_reducer()");
	require_fitting_handler(function, name, require_reducer(name));
	es_handler_require_execute(function);
	put_handler_row(name, type, es_handler_signature(function), NULL);
	announce_reducer_change();
	if (es_define_change_hook)
		es_define_change_hook(name);
	PG_RETURN_VOID();
}

/*
 * es_register_reducer_ops(reducer text, event_type text, ops jsonb) makes
 * operations handle the events of a type, in place of what was registered
 * before; see json/ops.c.  Malformed ones are 22023 with the place, and so is a reducer
 * whose states are no jsonb.  Otherwise like es_register_reducer.
 */
Datum
es_register_reducer_ops(PG_FUNCTION_ARGS)
{
	text	   *name = own_reducer_arg(fcinfo, 0);
	text	   *type;
	Jsonb	   *ops;
	Oid			state_type;

	es_call_require(fcinfo, 1, "event_type");
	es_call_require(fcinfo, 2, "ops");
	type = PG_GETARG_TEXT_PP(1);
	ops = PG_GETARG_JSONB_P(2);
	es_names_check_handled_type(type);
	es_jsonsize_check_definition(ops, "ops");
	(void) es_opcompile_document(ops);

	begin_change("es_register_reducer_ops()");
	state_type = require_reducer(name);
	if (state_type != JSONBOID)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("cannot register operations for reducer \"%s\"", text_to_cstring(name)),
				errdetail("Its states are of type %s, not jsonb.", format_type_be(state_type)));
	put_handler_row(name, type, NULL, ops);
	announce_reducer_change();
	if (es_define_change_hook)
		es_define_change_hook(name);
	PG_RETURN_VOID();
}

/*
 * es_snapshot_every(reducer text, events int) makes replays by a reducer, built
 * in or not, leave a snapshot when they have folded more than so many events,
 * where they may write; NULL: they leave none.  Unknown reducer: VE004; less than
 * 1: 22023.  Waits for other changes of reducers; a rollback undoes it.
 */
Datum
es_snapshot_every(PG_FUNCTION_ARGS)
{
	text	   *name;
	int			every;

	es_call_require(fcinfo, 0, "reducer");
	name = PG_GETARG_TEXT_PP(0);
	es_define_require_right(name);
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"events\" must be at least 1, or NULL for no snapshots"));
	begin_change("es_snapshot_every()");
	require_known_reducer(name);
	every = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	put_snapshot_policy(name, &every, false);
	announce_reducer_change();
	PG_RETURN_VOID();
}

/*
 * es_drop_snapshots(reducer text) drops the snapshots of a reducer, built in or
 * not: for what PostgreSQL cannot see, such as a change of a function that a
 * handler calls.  What replays leave that are under way is of no use either.  Those
 * that truncations depend on stay, unusable until es_adopt_snapshots.
 * Unknown reducer: VE004.  Waits for other changes of reducers, and transactions
 * that have left snapshots; a rollback undoes it.
 */
Datum
es_drop_snapshots(PG_FUNCTION_ARGS)
{
	text	   *name;

	es_call_require(fcinfo, 0, "reducer");
	name = PG_GETARG_TEXT_PP(0);
	es_define_require_right(name);
	begin_change("es_drop_snapshots()");
	require_known_reducer(name);
	put_snapshot_policy(name, NULL, true);
	es_snapshot_drop(name, false);
	announce_reducer_change();
	PG_RETURN_VOID();
}

/*
 * eventstore.forget_reducers() is the row trigger for rows that others insert: a
 * restore, a subscription.
 */
Datum
es_define_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&es_reducer_table);
	PG_RETURN_POINTER(NULL);
}
