/*
 * viewer.c
 *		Who may see how the store is doing, and how long a look may wait.
 *
 * Who administrates all of it, and whom the server lets see its own statistics: the roles of
 * monitoring programs, which need no right on any event for that.  They ask again and again, so
 * nobody is to queue behind them.
 */
#include "health/viewer.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "rights/right.h"

#define LOOK_TIMEOUT	100		/* ms */

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

/*
 * es_viewer_limit_waits has this session wait for a lock for LOOK_TIMEOUT at most, or for
 * lock_timeout if that is shorter, to the end of the level of settings.
 */
void
es_viewer_limit_waits(void)
{
	if (LockTimeout == 0 || LockTimeout > LOOK_TIMEOUT)
		(void) set_config_option("lock_timeout", psprintf("%dms", LOOK_TIMEOUT), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}
