/*
 * grantrow.h
 *		What has been granted, as it is stored.
 */
#ifndef ES_RIGHTS_GRANTROW_H
#define ES_RIGHTS_GRANTROW_H

#include "base/base.h"

#include "base/objects.h"
#include "table/columns.h"
#include "table/rows.h"

#define Anum_grants_id			1
#define Anum_grants_system_id	2
#define Anum_grants_role_oid	3
#define Anum_grants_role		4
#define Anum_grants_privilege	5
#define Anum_grants_category	6
#define Natts_grants			6

extern EsRelation es_grantrow_table;
extern const EsShape es_grantrow_shape;

/* A row.  Its strings are the look's. */
typedef struct EsGrantRow
{
	bool		local;			/* it goes by the role's OID, else by its name */
	Oid			role;			/* whose it is; InvalidOid: nobody's here */
	const char *name;			/* of the role, as it is stored */
	const char *privilege;
	const text *category;		/* NULL: '*' */
} EsGrantRow;

extern const text *es_grantrow_category(const text *category);
extern void es_grantrow_take(EsGrantRow *row, const EsRows *rows);
extern void es_grantrow_mark(Datum *values, Oid role);

#endif							/* ES_RIGHTS_GRANTROW_H */
