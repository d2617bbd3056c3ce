/*
 * grantrow.c
 *		What has been granted, as it is stored.
 *
 * Whose a row is rights/role.c tells: a role that is renamed keeps what it may do, and one that is
 * made later under a name that was dropped has nothing.  es_grant(), and the worker now and
 * then, write the names anew and have rows from elsewhere go by OIDs, too (rights/grant.c).
 */
#include "rights/grantrow.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "base/objects.h"
#include "rights/role.h"

PG_FUNCTION_INFO_V1(es_grantrow_forget);

EsRelation	es_grantrow_table = {"grants"};
static EsRelation grants_by_id = {"grants_by_id",
.index = {.keys = {Anum_grants_id},.columns = "grant_id",.unique = true}};

static const EsColumn columns[Natts_grants] = {
	{"grant_id", UUIDOID}, {"system_id", INT8OID}, {"role_oid", OIDOID}, {"role", TEXTOID}, {"privilege", TEXTOID},
	{"category", TEXTOID}
};
const EsShape es_grantrow_shape = ES_SHAPE(&es_grantrow_table, &grants_by_id, columns);

/* es_grantrow_category gives a category as it is, and NULL for '*'. */
const text *
es_grantrow_category(const text *category)
{
	bool		all = VARSIZE_ANY_EXHDR(category) == 1 && *VARDATA_ANY(category) == '*';

	return all ? NULL : category;
}

/* es_grantrow_take takes the row that a look has come to, in the current memory context. */
void
es_grantrow_take(EsGrantRow *row, const EsRows *rows)
{
	const Datum *values = rows->values;
	EsRole		role = {.system_id = DatumGetInt64(values[Anum_grants_system_id - 1]),
		.oid = DatumGetObjectId(values[Anum_grants_role_oid - 1]),
		.name = TextDatumGetCString(values[Anum_grants_role - 1])
	};

	row->local = (uint64) role.system_id == GetSystemIdentifier();
	row->name = role.name;
	row->privilege = TextDatumGetCString(values[Anum_grants_privilege - 1]);
	row->category = es_grantrow_category(DatumGetTextPP(values[Anum_grants_category - 1]));
	row->role = es_role_find(&role);
}

/* es_grantrow_mark has a row that is to be written go by a role's OID, and have its name of now. */
void
es_grantrow_mark(Datum *values, Oid role)
{
	values[Anum_grants_system_id - 1] = Int64GetDatum((int64) GetSystemIdentifier());
	values[Anum_grants_role_oid - 1] = ObjectIdGetDatum(role);
	values[Anum_grants_role - 1] = CStringGetTextDatum(GetUserNameFromId(role, false));
}

/*
 * eventstore.forget_grants() is the row trigger for rows that others insert and change: a
 * restore, a subscription.
 */
Datum
es_grantrow_forget(PG_FUNCTION_ARGS)
{
	es_base_announce(&es_grantrow_table);
	PG_RETURN_POINTER(NULL);
}
