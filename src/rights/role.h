/*
 * role.h
 *		Roles as rows name them.
 */
#ifndef ES_RIGHTS_ROLE_H
#define ES_RIGHTS_ROLE_H

#include "base/base.h"

/* A role in a row. */
typedef struct EsRole
{
	int64		system_id;		/* of the cluster that oid is of */
	Oid			oid;
	const char *name;			/* what it was called */
} EsRole;

extern EsRole es_role_current(void);
extern Oid	es_role_find(const EsRole *role);
extern bool es_role_is_user(const EsRole *role);

#endif							/* ES_RIGHTS_ROLE_H */
