/*
 * settings.c
 *		The settings that users' handlers run with: the server's own.
 *
 * What a function makes of an event may depend on TimeZone, DateStyle, search_path
 * and the like.  A state must depend on the events and the reducer only, whoever
 * appends, replays or rebuilds.  So handlers run with the values that the server has
 * for everybody, those of its configuration files, or else PostgreSQL's defaults.
 * What a client, a role or a database has set, or the session, or the server's
 * command line, does not count.  A function's own SET clause does.
 *
 * A session that nobody has given another value knows the server's own: it is the one
 * that RESET goes to.  Where it was given one as it began, the server has forgotten its
 * own there, and the configuration files are read, once, and again after a reload.  So
 * they are in a parallel worker, which has got its leader's settings in the place of all.
 *
 * Settings are entered once for a fold, a batch or a call, and cost next to nothing
 * where they are the server's own anyway.  What is called may change them; that is
 * undone at the end of each call (type/handler.c).
 */
#include "base/settings.h"

#include "access/parallel.h"
#include "catalog/namespace.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

/* A setting on which the result of a function may depend. */
typedef struct Setting
{
	const char *name;
	const char *otherwise;		/* where no configuration file has it */
	struct config_generic *record;	/* the server's */
	char	   *own;			/* in TopMemoryContext */
} Setting;

static Setting settings[] = {
	{"search_path", "\"$user\", public"},	/* must be the first */
	{"TimeZone", "GMT"}, {"timezone_abbreviations", "Default"},
	{"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"},
	{"extra_float_digits", "1"}, {"bytea_output", "hex"}, {"array_nulls", "on"},
	{"quote_all_identifiers", "off"}, {"transform_null_equals", "off"},
	{"standard_conforming_strings", "on"}, {"backslash_quote", "safe_encoding"},
	{"lc_monetary", "C"}, {"lc_numeric", "C"}, {"lc_time", "C"},
	{"default_text_search_config", "pg_catalog.simple"},
	{"xmlbinary", "base64"}, {"xmloption", "content"}, {"eventstore.upcast", "off"}
};

static Setting *const search_path = &settings[0];
static char *temporary_last = NULL; /* the search_path where there are
									 * temporary objects; in TopMemoryContext */
static TimestampTz known_since = 0; /* the reload that is known of; 0: nothing
									 * is known */

/* Finds what the server keeps of each setting. */
static void
find_setting_records(void)
{
	int			count;
	struct config_generic **records = es_setting_records(&count);

	for (int i = 0; i < lengthof(settings); i++)
		for (int j = 0; j < count && settings[i].record == NULL; j++)
			if (pg_strcasecmp(settings[i].name, records[j]->name) == 0)
				settings[i].record = records[j];
	for (int i = 0; i < lengthof(settings); i++)
		if (settings[i].record == NULL)
			elog(ERROR, "the server has no parameter \"%s\"", settings[i].name);
}

/* Tells whether a value that came from there is the server's own. */
static bool
is_servers_own(GucSource source)
{
	return source <= PGC_S_FILE;
}

/* Tells whether this process knows the server's own value, as the one that RESET goes to. */
static bool
knows_servers_own(const Setting *setting)
{
	return is_servers_own(setting->record->reset_source) && !IsParallelWorker();
}

/* Keeps a value in the place of another one. */
static void
keep_setting_value(char **place, const char *value)
{
	char	   *copy = MemoryContextStrdup(TopMemoryContext, value);

	if (*place)
		pfree(*place);
	*place = copy;
}

/* Takes the values that the configuration files have, the last of each. */
static void
read_configuration_files(void)
{
	ConfigVariable *head = NULL;
	ConfigVariable *tail = NULL;

	(void) ParseConfigFile(ConfigFileName, true, NULL, 0, 0, DEBUG1, &head, &tail);
	(void) ParseConfigFile(PG_AUTOCONF_FILENAME, false, NULL, 0, 0, DEBUG1, &head, &tail);
	for (int i = 0; i < lengthof(settings); i++)
	{
		if (knows_servers_own(&settings[i]))
			continue;
		keep_setting_value(&settings[i].own, settings[i].otherwise);
		for (ConfigVariable *item = head; item; item = item->next)
			if (item->name && item->value && pg_strcasecmp(item->name, settings[i].name) == 0)
				keep_setting_value(&settings[i].own, item->value);
	}
	FreeConfigVariables(head);
}

/* Makes the search_path in which temporary objects, which by default come first, come last. */
static void
put_temporary_objects_last(void)
{
	StringInfoData buf;
	List	   *names;
	ListCell   *cell;

	initStringInfo(&buf);
	if (SplitIdentifierString(pstrdup(search_path->own), ',', &names))
		foreach(cell, names)
			if (strcmp(lfirst(cell), "pg_temp") != 0)
			appendStringInfo(&buf, "%s, ", quote_identifier(lfirst(cell)));
	appendStringInfoString(&buf, "pg_temp");
	keep_setting_value(&temporary_last, buf.data);
	pfree(buf.data);
}

/* Finds out the server's own values. */
static void
look_up_settings(void)
{
	bool		all = true;

	if (search_path->record == NULL)
		find_setting_records();
	known_since = 0;
	for (int i = 0; i < lengthof(settings); i++)
	{
		const char *value = GetConfigOptionResetString(settings[i].name);

		if (knows_servers_own(&settings[i]))
			keep_setting_value(&settings[i].own, value ? value : settings[i].otherwise);
		else
			all = false;
	}
	if (!all)
		read_configuration_files();
	put_temporary_objects_last();
	known_since = PgReloadTime;
}

/*
 * es_settings_changed tells whether the configuration was loaded again since the
 * server's own settings were looked up; they are looked up anew when they are needed.
 */
bool
es_settings_changed(void)
{
	if (likely(known_since == 0 || known_since == PgReloadTime))
		return false;
	known_since = 0;
	return true;
}

/* Makes sure that the values are known. */
static void
require_known_settings(void)
{
	if (unlikely(known_since == 0 || known_since != PgReloadTime))
		look_up_settings();
}

/*
 * The value that a setting is to have: a session must not put temporary objects of
 * its own before others.
 */
static const char *
wanted_setting_value(const Setting *setting)
{
	Oid			temporary;
	Oid			toast;

	if (setting != search_path)
		return setting->own;
	GetTempNamespaceState(&temporary, &toast);
	return OidIsValid(temporary) ? temporary_last : setting->own;
}

/* Makes a setting the server's own. */
static void
enter_setting(const Setting *setting)
{
	const char *wanted = wanted_setting_value(setting);
	const char *value;

	if (is_servers_own(setting->record->source) && wanted == setting->own)
		return;
	value = GetConfigOption(setting->name, false, false);
	if (value && strcmp(value, wanted) == 0)
		return;
	if (set_config_option(setting->name, wanted, PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_SAVE, true, DEBUG1, false) == 0)
		(void) set_config_option(setting->name, setting->otherwise, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, ERROR, false);
}

/*
 * es_settings_enter makes the server's own settings those in force, until
 * es_settings_leave; an error undoes it at (sub)transaction abort.  A value in a file
 * that the server does not take is not taken here, either.
 */
int
es_settings_enter(void)
{
	int			level;

	require_known_settings();
	level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(settings); i++)
		enter_setting(&settings[i]);
	return level;
}

/*
 * es_settings_leave undoes es_settings_enter, and what was set meanwhile; nothing
 * for a level of 0.
 */
void
es_settings_leave(int level)
{
	if (level != 0)
		AtEOXact_GUC(false, level);
}

/* es_settings_describe adds the settings that handlers run with, for a fingerprint. */
void
es_settings_describe(StringInfo out)
{
	int			level = es_settings_enter();

	for (int i = 0; i < lengthof(settings); i++)
	{
		const char *value = &settings[i] == search_path ? temporary_last :
		GetConfigOption(settings[i].name, false, false);

		appendStringInfo(out, "%s;", value ? value : "");
	}
	es_settings_leave(level);
}
