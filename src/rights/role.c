/*
 * role.c
 *		Roles as rows name them.
 *
 * Roles belong to a cluster and have no place in a dump of a database, so a row has to find
 * its role again by name wherever it comes to.  But a name is not a role: one that is renamed
 * stays who it is, and one that is made later under a name that was dropped is another one.  So
 * a row that was written in this cluster, which pg_control's system identifier tells, goes by
 * the role's OID, and one that was written elsewhere by the name.
 */
#include "rights/role.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(es_role_name);

/* es_role_current gives the current user. */
EsRole
es_role_current(void)
{
	Oid			user = GetUserId();
	EsRole		role = {.system_id = (int64) GetSystemIdentifier(),.oid = user};

	role.name = GetUserNameFromId(user, false);
	return role;
}

/* es_role_find finds a row's role; InvalidOid if there is none here. */
Oid
es_role_find(const EsRole *role)
{
	if (role->system_id != (int64) GetSystemIdentifier())
		return get_role_oid(role->name, true);
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role->oid)) ? role->oid : InvalidOid;
}

/* es_role_is_user tells whether the current user has the privileges of a row's role. */
bool
es_role_is_user(const EsRole *role)
{
	Oid			found = es_role_find(role);

	return OidIsValid(found) && has_privs_of_role(GetUserId(), found);
}

/*
 * eventstore.role_name(system_id, oid, name): what a row's role is called now; what it was
 * called, if it is not here.  NULL for NULLs.
 */
Datum
es_role_name(PG_FUNCTION_ARGS)
{
	char	   *stored = text_to_cstring(PG_GETARG_TEXT_PP(2));
	EsRole		role = {.system_id = PG_GETARG_INT64(0),.oid = PG_GETARG_OID(1),.name = stored};
	Oid			found = es_role_find(&role);
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, OidIsValid(found) ? GetUserNameFromId(found, false) : stored);
	PG_RETURN_NAME(name);
}
