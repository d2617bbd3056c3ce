/*
 * viewer.c
 *		Who may see how the store is doing.
 *
 * Who administrates all of it, and whom the server lets see its own statistics: the roles of
 * monitoring programs, which need no right on any event for that.
 */
#include "health/viewer.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "rights/right.h"

/* es_viewer_may tells whether the current user may. */
bool
es_viewer_may(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) || es_right_has(ES_RIGHT_ADMIN, NULL);
}

/* es_viewer_require raises 42501 unless the current user may. */
void
es_viewer_require(const char *function)
{
	if (!es_viewer_may())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for the event store"),
				errdetail("Function %s takes \"admin\" on all categories, or the privileges of role \"%s\".", function, "pg_read_all_stats"),
				errhint("Have a superuser GRANT pg_monitor TO the role, or the store's owner call es_grant(role, 'admin')."));
}
