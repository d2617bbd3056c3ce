/*
 * handler.c
 *		Functions that users register as handlers: checked, found again, called.
 *
 * Tables name functions by schema, name and types of arguments: names survive
 * dumps and upgrades, OIDs do not.  Nothing keeps a user from dropping a
 * function that a row names, so a handler may turn out to be gone when it is
 * needed.
 *
 * What a name stands for is kept by those who have looked it up.  Whatever could
 * change that (functions, types and their labels, schemas, the tables that are
 * watched, the configuration whose settings handlers run with) raises the
 * generation; with another generation all has to be looked up again.
 *
 * Handlers run as the current user, who needs EXECUTE.  Where somebody else has
 * called them with that user's rights, as in a projection, only such are called as
 * nobody could use to get these rights.  What one raises comes out as VE009, with
 * the original message, SQLSTATE and detail.
 */
#include "type/handler.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "base/error.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/settings.h"

/* A piece of work that uses the rights of somebody else; in TopTransactionContext. */
typedef struct Behalf
{
	int64		projection_id;	/* 0: none's */
	SubTransactionId subid;
	struct Behalf *outer;
} Behalf;

bool		es_handler_on_behalf = false;	/* behalf is not NULL */

static Behalf *behalf = NULL;	/* the innermost */
static uint64 generation = 1;	/* raised by each invalidation */
static Oid *watched = NULL;		/* relations, also ones that are gone */
static int	nwatched = 0;
static int	watched_space = 0;

/* ---- what may have changed ---- */

/* A function, type or schema changed. */
static void
note_catalog_change(Datum arg, int cacheid, uint32 hashvalue)
{
	generation++;
}

/* A relation changed, or anything may have. */
static void
note_relation_change(Datum arg, Oid relid)
{
	if (!OidIsValid(relid))
		generation++;
	for (int i = 0; i < nwatched; i++)
		if (watched[i] == relid)
			generation++;
}

/* ---- whose rights are used ---- */

/* Lets a piece of work be the innermost one. */
static void
set_behalf(Behalf *innermost)
{
	behalf = innermost;
	es_handler_on_behalf = innermost != NULL;
}

/* es_handler_enter_behalf has code run for somebody who has not called it; see handler.h. */
void
es_handler_enter_behalf(int64 projection_id)
{
	Behalf	   *inner = MemoryContextAlloc(TopTransactionContext, sizeof(Behalf));

	inner->projection_id = projection_id;
	inner->subid = GetCurrentSubTransactionId();
	inner->outer = behalf;
	set_behalf(inner);
}

/* es_handler_leave_behalf undoes es_handler_enter_behalf. */
void
es_handler_leave_behalf(void)
{
	Behalf	   *inner = behalf;

	set_behalf(inner->outer);
	pfree(inner);
}

/* es_handler_runs_projection tells whether such work of a projection is going on. */
bool
es_handler_runs_projection(int64 projection_id)
{
	for (const Behalf *work = behalf; work; work = work->outer)
		if (work->projection_id == projection_id)
			return true;
	return false;
}

/* Ends what was begun in a subtransaction that is aborted, and nothing that goes on after it. */
static void
leave_behalf_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (behalf && behalf->subid >= subid)
		set_behalf(behalf->outer);
}

/* Ends all of it with the transaction. */
static void
leave_behalf_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		set_behalf(NULL);
}

/* Registers the callbacks; called once, from _PG_init. */
void
es_handler_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, note_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, note_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(ENUMOID, note_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, note_catalog_change, (Datum) 0);
	es_base_on_relation_change(note_relation_change);
	RegisterXactCallback(leave_behalf_at_xact_end, NULL);
	RegisterSubXactCallback(leave_behalf_at_subxact_end, NULL);
}

/*
 * es_handler_generation changes whenever what was looked up, or the settings that
 * handlers run with, may have.
 */
uint64
es_handler_generation(void)
{
	if (es_settings_changed())
		generation++;
	return generation;
}

/* es_handler_watch makes changes of a relation raise the generation, from now on. */
void
es_handler_watch(Oid relation)
{
	for (int i = 0; i < nwatched; i++)
		if (watched[i] == relation)
			return;
	if (nwatched == watched_space)
	{
		int			space = Max(2 * watched_space, 8);

		watched = watched == NULL ? MemoryContextAlloc(TopMemoryContext, space * sizeof(Oid)) :
			repalloc(watched, space * sizeof(Oid));
		watched_space = space;
	}
	watched[nwatched++] = relation;
}

/* ---- which functions ---- */

/* es_handler_fits tells whether a function looks as it must. */
bool
es_handler_fits(Oid function, const EsSignature *shape)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		(!OidIsValid(shape->result) || proc->prorettype == shape->result) && proc->pronargs == shape->nargs;
	for (int i = 0; fits && i < shape->nargs; i++)
		fits = proc->proargtypes.values[i] == shape->args[i];
	ReleaseSysCache(tuple);
	return fits;
}

/*
 * es_handler_require_function raises 42883 unless there is such a function, and
 * 22023 if it is a temporary one: its name would soon be somebody else's.
 */
void
es_handler_require_function(Oid function)
{
	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("function with OID %u does not exist", function));
	if (isAnyTempNamespace(get_func_namespace(function)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("function %s is temporary", format_procedure(function)),
				errhint("Create it in a schema that stays."));
}

/* es_handler_signature gives the name and types by which tables name a function. */
char *
es_handler_signature(Oid function)
{
	int			level = es_owner_enter_settings();
	char	   *signature = format_procedure_qualified(function);

	es_owner_leave_settings(level);
	return signature;
}

/* es_handler_require_execute raises 42501 unless the current user may call a function. */
void
es_handler_require_execute(Oid function)
{
	AclResult	result = es_function_aclcheck(function, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
}

/*
 * Tells whether a role would have code run with its rights that another one may
 * change: whoever could become that role gets nothing by it.  It does not matter what
 * the role itself may become: that makes it no friend of theirs.
 */
static bool
role_trusts_owner(Oid role, Oid owner)
{
	return owner == role || superuser_arg(owner) || es_may_become(owner, role);
}

/* Raises 42501 unless the current user trusts the owner of an object. */
static void
require_trusted_owner(Oid owner, Oid class, Oid object)
{
	ObjectAddress address;

	if (role_trusts_owner(GetUserId(), owner))
		return;
	ObjectAddressSet(address, class, object);
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("%s must not run with the rights of role \"%s\"", getObjectDescription(&address, false),
				   GetUserNameFromId(GetUserId(), false)),
			errdetail("It belongs to role \"%s\", who could make it do anything.", GetUserNameFromId(owner, false)),
			errhint("Create the projection as that role, or change the owner."));
}

/*
 * es_handler_require_trusted raises 42501 unless a function's owner is the current
 * user, a superuser, or a role that could become the current user anyway.
 */
void
es_handler_require_trusted(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	require_trusted_owner(owner, ProcedureRelationId, function);
}

/* Raises 42501 unless the current user trusts a type's owner; gives its row, to be released. */
static HeapTuple
require_trusted_type_owner(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	require_trusted_owner(((Form_pg_type) GETSTRUCT(tuple))->typowner, TypeRelationId, type);
	return tuple;
}

static void require_trusted_parts(Oid type, List **seen);

/* Does so for the columns of a row type. */
static void
require_trusted_columns(Oid type, List **seen)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			require_trusted_parts(TupleDescAttr(desc, i)->atttypid, seen);
	ReleaseTupleDesc(desc);
}

/* Does so for a type and all that it is made of, but for what has been seen. */
static void
require_trusted_parts(Oid type, List **seen)
{
	HeapTuple	tuple;
	Form_pg_type row;

	check_stack_depth();
	if (list_member_oid(*seen, type))
		return;
	*seen = lappend_oid(*seen, type);
	tuple = require_trusted_type_owner(type);
	row = (Form_pg_type) GETSTRUCT(tuple);
	if (OidIsValid(get_element_type(type)))
		require_trusted_parts(row->typelem, seen);
	else if (row->typtype == TYPTYPE_DOMAIN)
		require_trusted_parts(row->typbasetype, seen);
	else if (row->typtype == TYPTYPE_RANGE)
		require_trusted_parts(get_range_subtype(type), seen);
	else if (row->typtype == TYPTYPE_MULTIRANGE)
		require_trusted_parts(get_multirange_range(type), seen);
	else if (row->typtype == TYPTYPE_COMPOSITE)
		require_trusted_columns(type, seen);
	ReleaseSysCache(tuple);
}

/*
 * es_handler_require_trusted_type is the same for a type, which may have functions,
 * as in a domain's CHECK, and for the types of its elements, columns and bounds, and what a
 * domain is over: making a value, or reading one, runs theirs, too.
 */
void
es_handler_require_trusted_type(Oid type)
{
	List	   *seen = NIL;

	require_trusted_parts(type, &seen);
	list_free(seen);
}

/* es_handler_may_execute tells whether the current user may call a function; true if it is gone. */
bool
es_handler_may_execute(const EsFunction *function)
{
	return !OidIsValid(function->oid) || !SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function->oid)) ||
		es_function_aclcheck(function->oid, GetUserId()) == ACLCHECK_OK;
}

/* Tells whether a function's settings have a search_path. */
static bool
sets_search_path(ArrayType *config)
{
	Datum	   *settings;
	int			count;
	bool		found = false;

	deconstruct_array(config, TEXTOID, -1, false, TYPALIGN_INT, &settings, NULL, &count);
	for (int i = 0; i < count && !found; i++)
		found = strncmp(TextDatumGetCString(settings[i]), "search_path=", strlen("search_path=")) == 0;
	return found;
}

/*
 * es_handler_is_self_contained tells whether a function means the same whoever calls
 * it: what it names was looked up as it was made, or it has a search_path of its own,
 * and not the server's, which may have "$user".
 */
bool
es_handler_is_self_contained(const EsFunction *function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function->oid));
	bool		isnull;
	Datum		config;
	bool		contained;

	if (!HeapTupleIsValid(tuple))
		return false;
	config = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &isnull);
	contained = (!isnull && sets_search_path(DatumGetArrayTypeP(config))) ||
		!heap_attisnull(tuple, Anum_pg_proc_prosqlbody, NULL) ||
		((Form_pg_proc) GETSTRUCT(tuple))->prolang == INTERNALlanguageId ||
		((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId;
	ReleaseSysCache(tuple);
	return contained;
}

/*
 * es_handler_resolve finds the function that a stored signature names, which is
 * its schema, name and argument types; InvalidOid if there is none of that shape.
 */
Oid
es_handler_resolve(const char *signature, const EsSignature *shape)
{
	StringInfoData types;
	int			name_len;
	Oid			function;

	initStringInfo(&types);
	for (int i = 0; i < shape->nargs; i++)
		appendStringInfo(&types, "%c%s", i == 0 ? '(' : ',', format_type_be_qualified(shape->args[i]));
	appendStringInfoString(&types, shape->nargs == 0 ? "()" : ")");
	name_len = (int) strlen(signature) - types.len;
	if (name_len <= 0 || strcmp(signature + name_len, types.data) != 0)
		return InvalidOid;
	function = LookupFuncName(textToQualifiedNameList(cstring_to_text_with_len(signature, name_len)),
							  shape->nargs, shape->args, true);
	return es_handler_fits(function, shape) ? function : InvalidOid;
}

/* es_handler_find finds the function that a stored signature names; InvalidOid if it is gone. */
Oid
es_handler_find(const char *signature)
{
	bool		quoted = false;
	int			name_len = 0;

	for (; signature[name_len] != '\0' && (quoted || signature[name_len] != '('); name_len++)
		if (signature[name_len] == '"')
			quoted = !quoted;
	for (FuncCandidateList candidate =
		 FuncnameGetCandidates(textToQualifiedNameList(cstring_to_text_with_len(signature, name_len)), -1, NIL,
							   false, false, false, true);
		 candidate; candidate = candidate->next)
		if (strcmp(es_handler_signature(candidate->oid), signature) == 0)
			return candidate->oid;
	return InvalidOid;
}

/* ---- calls ---- */

/*
 * es_handler_invoke calls a handler.  Context callbacks from outside are left
 * out meanwhile: they come into the error when it is reported anew, and must not
 * be there twice.  Settings that it has changed are as before when it has ended: the
 * next event must not find others than it would in a batch of its own.
 */
Datum
es_handler_invoke(FunctionCallInfo fcinfo)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorContextCallback hiding = {.callback = es_error_hide_context};
	PgStat_FunctionCallUsage usage;
	int			settings = NewGUCNestLevel();
	Datum		result = (Datum) 0;

	PG_TRY();
	{
		error_context_stack = es_error_is_secret ? &hiding : NULL;
		pgstat_init_function_usage(fcinfo, &usage);
		result = FunctionCallInvoke(fcinfo);
		pgstat_end_function_usage(&usage, true);
	}
	PG_CATCH();
	{
		es_error_report_failure(context);
	}
	PG_END_TRY();
	es_settings_leave(settings);
	return result;
}

/* Forgets what was looked up, if anything was: from here on it is as of now, for who asks now. */
static void
begin_calls_anew(EsCalls *calls)
{
	MemoryContextReset(calls->context);
	memset(calls->functions, 0, calls->count * sizeof(FmgrInfo));
	calls->generation = generation;
	calls->user = GetUserId();
	calls->on_behalf = es_handler_on_behalf;
}

/* es_handler_begin_calls makes room for what is looked up of some functions to call them. */
EsCalls *
es_handler_begin_calls(int count)
{
	EsCalls    *calls = palloc0(sizeof(EsCalls));

	calls->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore calls", ALLOCSET_SMALL_SIZES);
	calls->count = count;
	calls->functions = palloc(Max(count, 1) * sizeof(FmgrInfo));
	begin_calls_anew(calls);
	return calls;
}

/*
 * es_handler_ready gets a function ready to be called, at its first call, again when a
 * catalog change may concern it, and for another user, as an expression of PL/pgSQL
 * keeps what it has looked up for whoever comes to it in the transaction.  NULL if it is
 * gone, or something else by now; 42501 if the current user may not call it, or should not.
 */
FmgrInfo *
es_handler_ready(EsCalls *calls, int number, const EsFunction *function)
{
	FmgrInfo   *flinfo = &calls->functions[number];

	if (calls->generation != generation || calls->user != GetUserId() || calls->on_behalf != es_handler_on_behalf)
		begin_calls_anew(calls);
	if (!OidIsValid(flinfo->fn_oid))
	{
		if (!OidIsValid(function->oid) || !es_handler_fits(function->oid, &function->shape))
			return NULL;
		es_handler_require_execute(function->oid);
		if (es_handler_on_behalf)
			es_handler_require_trusted(function->oid);
		fmgr_info_cxt(function->oid, flinfo, calls->context);
	}
	return flinfo;
}

/* ---- what makes a function another one ---- */

/* Gives the value of a column of pg_proc as text; "" if it is null. */
static char *
read_column_text(HeapTuple tuple, AttrNumber column, Oid output)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(PROCOID, tuple, column, &isnull);

	return isnull ? "" : OidOutputFunctionCall(output, value);
}

/*
 * es_handler_describe adds what a function's results depend on: where it is from
 * and its source, but not what it calls.  The caller has set settings of
 * ours.
 */
void
es_handler_describe(StringInfo out, const EsFunction *function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function->oid));
	Form_pg_proc proc;

	appendStringInfo(out, "%s;", function->signature);
	if (!HeapTupleIsValid(tuple))
		return;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	appendStringInfo(out, "%s;%d;%d;%s;%s;%s;%s;", get_language_name(proc->prolang, false), proc->proisstrict,
					 proc->prosecdef, read_column_text(tuple, Anum_pg_proc_proargnames, F_ARRAY_OUT),
					 read_column_text(tuple, Anum_pg_proc_prosrc, F_TEXTOUT),
					 read_column_text(tuple, Anum_pg_proc_probin, F_TEXTOUT),
					 read_column_text(tuple, Anum_pg_proc_proconfig, F_ARRAY_OUT));
	if (!heap_attisnull(tuple, Anum_pg_proc_prosqlbody, NULL))
		appendStringInfoString(out, TextDatumGetCString(DirectFunctionCall1(pg_get_function_sqlbody,
																			ObjectIdGetDatum(function->oid))));
	ReleaseSysCache(tuple);
}
