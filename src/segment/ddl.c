/*
 * ddl.c
 *		Statements of ours that make, change and drop tables of the store.
 *
 * They run as the extension's owner.  Event triggers of others run with them, and find the
 * settings that they may expect: in a worker the database's, else the server's own, and
 * never the caller's.
 */
#include "segment/ddl.h"

#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "base/settings.h"
#include "table/altered.h"

/*
 * Makes the owner the current user with the settings that event triggers
 * of others may expect: in a worker of ours those of the database, else, and where
 * the server has set a search_path for its own ends, the server's own.  Names and
 * operators in our statements are qualified.
 */
static void
become_ddl_owner(EsOwnerContext *saved)
{
	if (es_owner_in_worker())
	{
		es_owner_become(saved);
		return;
	}
	es_owner_enter(saved);
	(void) es_settings_enter();
}

/* es_ddl_enter begins to run statements of ours, as the owner; es_ddl_leave ends it. */
void
es_ddl_enter(EsOwnerContext *saved)
{
	es_altered_note_run();		/* event triggers */
	become_ddl_owner(saved);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
}

/* es_ddl_leave undoes es_ddl_enter. */
void
es_ddl_leave(const EsOwnerContext *saved)
{
	PopActiveSnapshot();
	SPI_finish();
	es_owner_leave(saved);
}

/* es_ddl_run runs one statement of DDL or DML, after es_ddl_enter. */
void
es_ddl_run(const char *format,...)
{
	StringInfoData sql;
	va_list		args;
	int			needed;

	initStringInfo(&sql);
	for (;;)
	{
		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	if (SPI_execute(sql.data, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql.data);
	pfree(sql.data);
}
