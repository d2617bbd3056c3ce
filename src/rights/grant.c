/*
 * grant.c
 *		Giving and taking rights: es_grant, es_revoke, es_grants.
 *
 * Whoever changes grants locks the table in SHARE ROW EXCLUSIVE mode to the end of the
 * transaction, so what was looked up in it stays so.  All of it works on a logical
 * subscriber, too, where the publisher's rows are others than those given there: keys are
 * random, so rows never meet.
 *
 * Roles are renamed and dropped without a word to the databases.  So each change, and the worker
 * now and then (es_grant_refresh), goes through the rows: names are written as they are now, for
 * the next dump; what has come from another cluster and finds its role goes by the role's OID
 * from then on; and what dropped roles had goes away, lest a dump gives it to others.
 */
#include "rights/grant.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/call.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/uuid7.h"
#include "rights/grantrow.h"
#include "rights/right.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_grant);
PG_FUNCTION_INFO_V1(es_revoke);
PG_FUNCTION_INFO_V1(es_grant_list);

/* What is to be given or taken. */
typedef struct GrantRequest
{
	Oid			role;
	const char *privilege;
	text	   *category;		/* NULL: '*' */
} GrantRequest;

/* ---- arguments ---- */

/* Fetches the argument that says whose right it is. */
static Oid
take_role_arg(FunctionCallInfo fcinfo, int argno)
{
	Oid			role;

	es_call_require(fcinfo, argno, "role");
	role = PG_GETARG_OID(argno);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("role with OID %u does not exist", role));
	return role;
}

/* Fetches the argument that says which right it is. */
static const char *
take_privilege_arg(FunctionCallInfo fcinfo, int argno)
{
	const char *privilege;

	es_call_require(fcinfo, argno, "privilege");
	privilege = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (es_right_named(privilege) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be \"append\", \"read\" or \"admin\", not \"%s\"", "privilege",
					   es_names_show(privilege)));
	return privilege;
}

/* Fetches the arguments of es_grant and es_revoke. */
static GrantRequest
take_grant_args(FunctionCallInfo fcinfo)
{
	GrantRequest grant;

	grant.role = take_role_arg(fcinfo, 0);
	grant.privilege = take_privilege_arg(fcinfo, 1);
	es_call_require(fcinfo, 2, "category");
	grant.category = (text *) es_grantrow_category(PG_GETARG_TEXT_PP(2));
	if (grant.category)
		es_names_check(grant.category, ES_NAME_CATEGORY);
	return grant;
}

/* ---- changes ---- */

/* Tells whether a row is what is to be given or taken. */
static bool
is_row_of_grant(const EsGrantRow *row, const GrantRequest *grant)
{
	if (row->role != grant->role || strcmp(row->privilege, grant->privilege) != 0)
		return false;
	if (row->category == NULL || grant->category == NULL)
		return row->category == grant->category;
	return es_names_same(row->category, grant->category);
}

/* Writes a row anew, or deletes it, if its role is not what it says. */
static void
refresh_row(EsRows *rows, const EsGrantRow *row)
{
	Datum		values[Natts_grants];

	if (!OidIsValid(row->role))
	{
		if (row->local)
			es_rows_delete(rows);
		return;
	}
	if (row->local && strcmp(row->name, GetUserNameFromId(row->role, false)) == 0)
		return;
	memcpy(values, rows->values, sizeof(values));
	es_grantrow_mark(values, row->role);
	es_rows_update(rows, values, rows->isnull);
}

/*
 * Goes through the rows, which are locked, and brings them up to date; deletes those that
 * are what is to be taken.  Tells whether there were some of what is to be given or taken.
 */
static bool
sweep_grants(const GrantRequest *grant, bool taken)
{
	EsRows		rows = {.shape = &es_grantrow_shape,.mode = RowExclusiveLock};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore grant", ALLOCSET_SMALL_SIZES);
	bool		found = false;

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		EsGrantRow	row;

		CHECK_FOR_INTERRUPTS();
		es_grantrow_take(&row, &rows);
		if (grant && is_row_of_grant(&row, grant))
		{
			found = true;
			if (taken)
				es_rows_delete(&rows);
		}
		else
			refresh_row(&rows, &row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	es_rows_end(&rows);
	MemoryContextDelete(scratch);
	return found;
}

/* Begins a change of the table, once the user may make one. */
static void
begin_grant_change(const char *command)
{
	es_right_require(ES_RIGHT_ADMIN, NULL);
	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	es_base_lock(&es_grantrow_table, ShareRowExclusiveLock);
	CommandCounterIncrement();	/* this command may have made others */
}

/* Makes a change known. */
static void
end_grant_change(void)
{
	es_base_announce(&es_grantrow_table);
	CommandCounterIncrement();
}

/*
 * es_grant(role, privilege, category): gives a role a privilege on a category, '*': on all
 * there are and will be.  What it has already is no error.
 *
 * NULLs are 22004; a privilege or category that is none 22023; a role that is none 42704.
 * For who has 'admin' on '*', else 42501.  Waits for other changes of grants to be committed;
 * counts from its own commit on.
 */
Datum
es_grant(PG_FUNCTION_ARGS)
{
	GrantRequest grant = take_grant_args(fcinfo);
	Datum		values[Natts_grants];
	bool		isnull[Natts_grants] = {false};
	pg_uuid_t	id;

	begin_grant_change("es_grant()");
	if (!sweep_grants(&grant, false))
	{
		es_uuid7_make(&id);
		values[Anum_grants_id - 1] = UUIDPGetDatum(&id);
		es_grantrow_mark(values, grant.role);
		values[Anum_grants_privilege - 1] = CStringGetTextDatum(grant.privilege);
		values[Anum_grants_category - 1] = PointerGetDatum(grant.category ? grant.category : cstring_to_text("*"));
		es_rows_insert(&es_grantrow_shape, values, isnull);
	}
	end_grant_change();
	PG_RETURN_VOID();
}

/*
 * es_revoke(role, privilege, category): takes from a role what es_grant has given it with
 * the same arguments; that on '*' is another one than that on a category.  What it does not
 * have is no error.
 *
 * The rest is as for es_grant.  Holds for every session from its commit on, whatever
 * transaction that is in.
 */
Datum
es_revoke(PG_FUNCTION_ARGS)
{
	GrantRequest grant = take_grant_args(fcinfo);

	begin_grant_change("es_revoke()");
	(void) sweep_grants(&grant, true);
	end_grant_change();
	PG_RETURN_VOID();
}

/* Tells whether some row is not what it should be. */
static bool
needs_refresh(void)
{
	EsRows		rows = {.shape = &es_grantrow_shape,.mode = AccessShareLock};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore grant", ALLOCSET_SMALL_SIZES);
	bool		needed = false;

	es_rows_begin(&rows);
	while (!needed && es_rows_next(&rows))
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		EsGrantRow	row;

		CHECK_FOR_INTERRUPTS();
		es_grantrow_take(&row, &rows);
		needed = OidIsValid(row.role) ? !row.local || strcmp(row.name, GetUserNameFromId(row.role, false)) != 0 :
			row.local;
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	es_rows_end(&rows);
	MemoryContextDelete(scratch);
	return needed;
}

/*
 * es_grant_refresh brings the rows up to date with the roles, unless somebody is changing
 * grants just now; for the worker.
 */
void
es_grant_refresh(void)
{
	if (!needs_refresh() || !es_base_try_lock(&es_grantrow_table, ShareRowExclusiveLock))
		return;
	(void) sweep_grants(NULL, false);
	end_grant_change();
}

/* ---- what there is ---- */

/*
 * eventstore.list_grants(): the grants of the roles whose privileges the current user has,
 * or, for who has 'admin' on '*', all, also those of roles that are not here.  Takes no
 * argument and raises nothing of its own.
 */
Datum
es_grant_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);
	EsRows		rows = {.shape = &es_grantrow_shape,.mode = AccessShareLock};
	bool		all = es_right_has(ES_RIGHT_ADMIN, NULL);

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		EsGrantRow	row;
		NameData	name;
		Datum		values[3];
		bool		isnull[3] = {false, false, false};

		CHECK_FOR_INTERRUPTS();
		es_grantrow_take(&row, &rows);
		if (!OidIsValid(row.role) ? row.local || !all : !all && !has_privs_of_role(GetUserId(), row.role))
			continue;
		namestrcpy(&name, OidIsValid(row.role) ? GetUserNameFromId(row.role, false) : row.name);
		values[0] = NameGetDatum(&name);
		values[1] = CStringGetTextDatum(row.privilege);
		values[2] = row.category ? PointerGetDatum(row.category) : CStringGetTextDatum("*");
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	es_rows_end(&rows);
	return (Datum) 0;
}
