/*
 * declare.c
 *		Making and dropping projections.
 *
 * An asynchronous projection begins before the first event and is then run like
 * any that has fallen behind.  An inline one has to be complete as it becomes known,
 * so it is made complete here: everything settled is taken in, which is in nobody's
 * way; then appends are excluded, what has come meanwhile is taken in, and the
 * transaction commits.  No event is missed, none is taken in twice.
 *
 * Whoever makes a projection by a reducer, or drops a reducer, holds a lock on
 * eventstore.reducers: a reducer is not dropped while a projection has it.
 */
#include "projection/declare.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "rights/right.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "base/call.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/pending.h"
#include "fold/define.h"
#include "fold/reducer.h"
#include "fold/resolve.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "projection/apply.h"
#include "projection/batch.h"
#include "projection/keymap.h"
#include "projection/privacy.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "projection/protect.h"
#include "projection/readmodel.h"
#include "projection/rebuild.h"
#include "segment/statetable.h"
#include "stream/lock.h"
#include "type/handler.h"

PG_FUNCTION_INFO_V1(es_create_projection);
PG_FUNCTION_INFO_V1(es_create_handler_projection);
PG_FUNCTION_INFO_V1(es_drop_projection);

/* ---- arguments ---- */

/* Fetches the argument mode; tells whether it is inline. */
static bool
inline_mode_arg(FunctionCallInfo fcinfo, int argno)
{
	return strcmp(es_call_choice_arg(fcinfo, argno, "mode", "inline", "async"), "inline") == 0;
}

/* Fetches an argument that names one category; NULL is all of them. */
static EsNames
category_arg(FunctionCallInfo fcinfo, int argno)
{
	EsNames		all = {0};

	if (PG_ARGISNULL(argno))
		return all;
	es_names_check(PG_GETARG_TEXT_PP(argno), ES_NAME_CATEGORY);
	return es_names_of_one(PG_GETARG_TEXT_PP(argno));
}

/* Fetches the argument reducer; VE004 if there is none of that name. */
static const text *
locked_reducer_arg(FunctionCallInfo fcinfo, int argno)
{
	text	   *name;

	es_call_require(fcinfo, argno, "reducer");
	name = PG_GETARG_TEXT_PP(argno);
	es_base_lock(&es_reducer_table, RowExclusiveLock);
	if (es_resolve_pin(name, CurrentMemoryContext) == NULL)
		es_reducer_report_unknown(name, NULL);
	return name;
}

/*
 * Fetches an argument that is a function of the projection, which the caller may
 * call; gives its qualified name.
 */
static const char *
projection_function_arg(FunctionCallInfo fcinfo, int argno, bool takes_event)
{
	Oid			function = PG_GETARG_OID(argno);
	EsSignature shape = es_projection_shape(takes_event);

	es_handler_require_function(function);
	if (!es_handler_fits(function, &shape))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				takes_event ?
				errmsg("function %s cannot be the handler of a projection", format_procedure(function)) :
				errmsg("function %s cannot be the reset function of a projection", format_procedure(function)),
				takes_event ?
				errdetail("A handler must be a function (es_event) with any result that is not a set.") :
				errdetail("A reset function must be a function without arguments, with any result that is not a set."));
	es_handler_require_execute(function);
	es_handler_require_trusted(function);
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function));
}

/* ---- making ---- */

/* Drops tables of projections that are gone; within a change of projections. */
static void
drop_leftover_tables(void)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);
	ListCell   *cell;

	foreach(cell, es_statetable_ids())
	{
		if (es_projection_find_by_id(set, *(int64 *) lfirst(cell)) == NULL)
			(void) es_statetable_try_drop(*(int64 *) lfirst(cell));
	}
}

/* Takes in all that there is, and is to be, before an inline projection becomes known. */
static void
build_inline_projection(const EsProjection *projection)
{
	EsRun		run = {.projection = projection,.upto = es_settle_compute()};
	EsAttempt	attempt = es_batch_begin(&run);

	es_progress_read_live(projection, &run.progress);
	es_rebuild_catch_up(&attempt);
	attempt.upto = es_streamlock_freeze();
	es_rebuild_catch_up(&attempt);
	es_progress_write(&run.progress);
}

/* Raises 55000 if this transaction has appended: what it has is in flight until it ends. */
static void
refuse_after_append(const EsProjection *projection)
{
	if (projection->is_inline && es_settle_own_first() != PG_INT64_MAX)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot create an inline projection in a transaction that has appended events"),
				errhint("Create it in a transaction of its own."));
}

/*
 * Makes a projection.  Whoever has functions called with events shows them to these, and so must be
 * allowed to see them; states are for who may read what they are made of.
 */
static void
create_projection(EsProjection *projection, const char *command)
{
	EsProgress	row = {.generation = 1,.live = true,.retry_at = DT_NOBEGIN,.failed_since = DT_NOBEGIN};

	es_projection_require(projection, ES_RIGHT_ADMIN);
	if (projection->reducer == NULL || es_apply_reducer(projection)->calls_functions)
		es_projection_require(projection, ES_RIGHT_READ);
	es_projection_begin_change(command);
	es_protect_check_key(projection);
	es_pending_flush();
	refuse_after_append(projection);
	if (es_projection_find(es_projection_pin(CurrentMemoryContext), projection->name))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("projection \"%s\" already exists", text_to_cstring(projection->name)));
	es_privacy_check(projection);
	projection->creator = GetUserNameFromId(GetUserId(), false);
	es_projection_insert(projection);
	row.projection_id = projection->id;
	if (projection->reducer)
	{
		drop_leftover_tables();
		es_statetable_make(projection->id);
	}
	row.layout = es_apply_layout(projection);
	es_progress_insert(&row);
	es_projection_announce(!projection->is_inline);
	(void) es_projection_lock(projection->id, true);
	if (projection->is_inline)
		build_inline_projection(es_projection_get(projection->name));
}

/*
 * es_create_projection(projection, reducer, mode, category, key): makes a projection
 * that folds events into one state for each key.
 *
 * For who has 'admin' on the category, and 'read' where the reducer calls functions, else 42501.
 * NULL category: all events, and '*'; other NULLs are 22004.  An existing one is 42710, an
 * unknown reducer VE004, another mode, a malformed key or one that takes a protected field
 * 22023; see es_privacy_check for 55000.
 * Waits for other changes of projections; an inline one takes in all events there
 * are, then waits for transactions that have appended and keeps others off to its
 * end.  In one that has appended itself it is 55000.  A rollback undoes it.
 */
Datum
es_create_projection(PG_FUNCTION_ARGS)
{
	EsProjection projection = {0};

	projection.name = es_projection_name_arg(fcinfo, 0);
	projection.is_inline = inline_mode_arg(fcinfo, 2);
	projection.categories = category_arg(fcinfo, 3);
	es_call_require(fcinfo, 4, "key");
	projection.key = PG_GETARG_TEXT_PP(4);
	projection.key_map = es_keymap_compile(PG_GETARG_TEXT_PP(4));
	es_keymap_check(projection.key_map);
	es_subscriber_prevent_write("es_create_projection()");
	projection.reducer = locked_reducer_arg(fcinfo, 1);
	create_projection(&projection, "es_create_projection()");
	PG_RETURN_VOID();
}

/*
 * es_create_handler_projection(projection, handler, mode, categories, types,
 * reset): makes a projection whose handler writes tables of its own.
 *
 * NULL categories, types: all; NULL reset: it cannot be rebuilt; other NULLs, and
 * nulls in the arrays, are 22004.  A function that does not fit is 22023, one that
 * the caller may not call 42501.  Else like es_create_projection.
 */
Datum
es_create_handler_projection(PG_FUNCTION_ARGS)
{
	EsProjection projection = {0};

	projection.name = es_projection_name_arg(fcinfo, 0);
	es_call_require(fcinfo, 1, "handler");
	projection.is_inline = inline_mode_arg(fcinfo, 2);
	projection.categories = es_names_arg(fcinfo, 3, ES_NAME_CATEGORY, "categories");
	projection.types = es_names_arg(fcinfo, 4, ES_NAME_TYPE, "types");
	projection.handler = projection_function_arg(fcinfo, 1, true);
	if (!PG_ARGISNULL(5))
		projection.reset = projection_function_arg(fcinfo, 5, false);
	create_projection(&projection, "es_create_handler_projection()");
	PG_RETURN_VOID();
}

/* ---- dropping ---- */

/* Raises 2BP01 if a view, say, goes by the states of a projection, which is about to be dropped. */
static void
check_states_unused(const EsProjection *projection)
{
	char	   *user;

	if (projection->reducer && es_statetable_find_user(projection->id, &user))
		ereport(ERROR,
				errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("cannot drop projection \"%s\" because %s depends on its states",
					   text_to_cstring(projection->name), user),
				errhint("Drop that first."));
}

/*
 * Drops the states of a projection with their table, or, if somebody reads it just
 * now, deletes them.
 */
static void
drop_states(const EsProjection *projection)
{
	if (projection->reducer == NULL || es_statetable_try_drop(projection->id))
		return;
	check_states_unused(projection);
	es_readmodel_drop(projection->id, 0);
}

/*
 * es_drop_projection(projection): drops a projection, with the states that it keeps;
 * what a handler has written stays.
 *
 * Unknown: VE004; without 'admin' on its categories: 42501; with a view on it: 2BP01.
 * Waits for who runs the projection; for an inline one, for transactions that have
 * appended, and keeps others off to its end.  A rollback undoes it.
 */
Datum
es_drop_projection(PG_FUNCTION_ARGS)
{
	text	   *name = es_projection_name_arg(fcinfo, 0);
	const EsProjection *projection;

	es_projection_require(es_projection_get(name), ES_RIGHT_ADMIN);
	es_projection_begin_change("es_drop_projection()");
	projection = es_projection_get_locked(name);
	check_states_unused(projection);
	if (projection->is_inline)
	{
		es_pending_flush();
		(void) es_streamlock_freeze();
	}
	CommandCounterIncrement();
	drop_states(projection);
	es_progress_forget(projection->id);
	es_projection_delete(projection);
	es_projection_announce(true);
	PG_RETURN_VOID();
}

/* Raises 2BP01 if a projection has a reducer, which is about to be dropped. */
static void
check_reducer_unused(const text *reducer)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);

	for (int i = 0; i < set->count; i++)
	{
		const EsProjection *projection = &set->projections[i];

		if (projection->reducer && es_names_same(projection->reducer, reducer))
			ereport(ERROR,
					errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					errmsg("cannot drop reducer \"%s\" because projection \"%s\" uses it",
						   text_to_cstring(reducer), text_to_cstring(projection->name)),
					errhint("Drop the projection first, with es_drop_projection."));
	}
}

/* Has reducers that projections have kept from being dropped; called once, from _PG_init. */
void
es_declare_init(void)
{
	es_define_drop_hook = check_reducer_unused;
}
