/*
 * upgrade.c
 *		What pg_upgrade needs to carry a store over.
 *
 * pg_upgrade makes an extension's objects one by one, not by its script, and
 * says how their triggers are enabled by ALTER TABLE.  But no ALTER TABLE
 * enables a view's triggers always, as the script has those of es_events
 * (append/view.sql).  So, on a server in pg_upgrade's mode, that one statement is
 * ours.  The library need not be preloaded: the server loads it in the same
 * session, when it makes the functions that the triggers call.
 *
 * The server lets only superusers connect in that mode, and event triggers
 * are off.
 */
#include "server/upgrade.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/relcache.h"

static ProcessUtility_hook_type previous_utility_hook = NULL;

/* The name of the trigger that a statement enables always; NULL if it is no such statement. */
static const char *
find_trigger_enabled(Node *statement)
{
	AlterTableCmd *command;

	if (!IsA(statement, AlterTableStmt) || list_length(((AlterTableStmt *) statement)->cmds) != 1)
		return NULL;
	command = linitial_node(AlterTableCmd, ((AlterTableStmt *) statement)->cmds);
	return command->subtype == AT_EnableAlwaysTrig ? command->name : NULL;
}

/* Enables a trigger always if it is one of a view, and tells whether it is. */
static bool
enable_trigger_on_view(const RangeVar *name, const char *trigger)
{
	Relation	rel = relation_openrv(name, ShareRowExclusiveLock);
	bool		is_view = rel->rd_rel->relkind == RELKIND_VIEW;

	if (is_view)
		es_enable_trigger_always(rel, trigger, ShareRowExclusiveLock);
	relation_close(rel, NoLock);
	return is_view;
}

/* The hook. */
static void
upgrade_utility_hook(PlannedStmt *statement, const char *query, bool read_only_tree,
					 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
					 DestReceiver *dest, QueryCompletion *completion)
{
	const char *trigger = find_trigger_enabled(statement->utilityStmt);

	if (trigger == NULL || !enable_trigger_on_view(((AlterTableStmt *) statement->utilityStmt)->relation, trigger))
		(previous_utility_hook ? previous_utility_hook : standard_ProcessUtility)
			(statement, query, read_only_tree, context, params, environment, dest, completion);
}

/* Installs the hook, if the server is in pg_upgrade's mode; called once, from _PG_init. */
void
es_upgrade_init(void)
{
	if (!IsBinaryUpgrade)
		return;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = upgrade_utility_hook;
}
