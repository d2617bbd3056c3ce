/*
 * owner.c
 *		Whom SQL of ours runs as, and with which settings.
 */
#include "base/owner.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/objects.h"

/*
 * es_owner_enter_settings makes what the server writes as text, and what names
 * stand for, independent of the session, until es_owner_leave_settings; an error
 * undoes it at (sub)transaction abort.
 */
int
es_owner_enter_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"}, {"quote_all_identifiers", "off"},
		{"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"extra_float_digits", "3"}, {"bytea_output", "hex"}, {"array_nulls", "on"},
		{"lc_monetary", "C"}, {"xmloption", "content"}
	};
	int			level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* es_owner_leave_settings undoes es_owner_enter_settings, or all of an inner level. */
void
es_owner_leave_settings(int level)
{
	AtEOXact_GUC(false, level);
}

/* Makes the extension's owner the current user. */
static void
change_user(EsOwnerContext *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	SetUserIdAndSecContext(es_base_store()->owner,
						   saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
}

/*
 * es_owner_enter makes the extension's owner the current user, with
 * settings of our own, for SQL of our own.  An error undoes it at
 * (sub)transaction abort; otherwise es_owner_leave does.
 */
void
es_owner_enter(EsOwnerContext *saved)
{
	change_user(saved);
	saved->guc_level = es_owner_enter_settings();
}

/* es_owner_become is es_owner_enter that leaves the settings as they are. */
void
es_owner_become(EsOwnerContext *saved)
{
	change_user(saved);
	saved->guc_level = NewGUCNestLevel();
}

/*
 * es_owner_restrict is es_owner_become for functions of others: they can do nothing to the
 * session that goes on after them.
 */
void
es_owner_restrict(EsOwnerContext *saved)
{
	Oid			owner;
	int			sec_context;

	es_owner_become(saved);
	GetUserIdAndSecContext(&owner, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_RESTRICTED_OPERATION);
}

/* es_owner_leave undoes es_owner_enter, es_owner_become or es_owner_restrict. */
void
es_owner_leave(const EsOwnerContext *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->sec_context);
}
