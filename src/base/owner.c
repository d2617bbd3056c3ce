/*
 * owner.c
 *		Whom SQL of ours runs as, and with which settings.
 *
 * Background workers of ours are sessions of the cluster's first superuser, as nobody else is
 * there in every database.  The store's owner need not be one, and may have functions run
 * with the store's tables: constraints, defaults, indexes.  In a worker these have his
 * rights, and can leave nothing behind that would have the session's, as a deferred trigger
 * would at the commit.
 */
#include "base/owner.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
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

/* es_owner_in_worker tells whether this process is a background worker of ours. */
bool
es_owner_in_worker(void)
{
	return MyBgworkerEntry != NULL && strcmp(MyBgworkerEntry->bgw_library_name, "eventstore") == 0;
}

/* Tells whether the owner has less rights than the session that this process is. */
static bool
is_below_session(Oid owner)
{
	return es_owner_in_worker() && !superuser_arg(owner);
}

/* Makes the extension's owner the current user. */
static void
change_user(EsOwnerContext *saved)
{
	Oid			owner = es_base_store()->owner;
	int			more = SECURITY_LOCAL_USERID_CHANGE;

	if (is_below_session(owner))
		more |= SECURITY_RESTRICTED_OPERATION;
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	SetUserIdAndSecContext(owner, saved->sec_context | more);
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

/*
 * es_owner_shield is es_owner_restrict where a worker of ours would lend a superuser's rights to
 * what the owner, who is none, has put on the store's tables; elsewhere nothing changes.
 */
void
es_owner_shield(EsOwnerContext *saved)
{
	saved->guc_level = 0;
	if (unlikely(es_owner_in_worker()) && superuser() && !superuser_arg(es_base_store()->owner))
		es_owner_restrict(saved);
}

/* es_owner_unshield undoes it. */
void
es_owner_unshield(const EsOwnerContext *saved)
{
	if (saved->guc_level > 0)
		es_owner_leave(saved);
}

/* es_owner_leave undoes es_owner_enter, es_owner_become or es_owner_restrict. */
void
es_owner_leave(const EsOwnerContext *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->sec_context);
}
