/*
 * discard.c
 *		What a session forgets before somebody else gets it.
 *
 * A pool runs DISCARD ALL, or parts of it, before it gives a server connection to
 * another client.  What we keep by session are facts about the store, which hold for
 * whoever comes, and es_last_position(), which is about what was done before.  It is
 * what lastval() is for sequences, so both are forgotten together, by DISCARD SEQUENCES
 * and DISCARD ALL, at once and whatever becomes of the transaction.  Keys of protected
 * fields, and the master key, go with DISCARD ALL.
 *
 * A session that has appended has the library, preloaded or not, and so the hook.
 */
#include "server/discard.h"

#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "append/attempt.h"
#include "secret/keycache.h"
#include "secret/masterkey.h"

static ProcessUtility_hook_type previous_utility_hook = NULL;

/* Tells whether a statement has the session forget what it did. */
static bool
discards_sequences(Node *statement)
{
	DiscardMode target;

	if (!IsA(statement, DiscardStmt))
		return false;
	target = ((DiscardStmt *) statement)->target;
	return target == DISCARD_ALL || target == DISCARD_SEQUENCES;
}

/* The hook. */
static void
discard_utility_hook(PlannedStmt *statement, const char *query, bool read_only_tree,
					 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
					 DestReceiver *dest, QueryCompletion *completion)
{
	bool		discards = discards_sequences(statement->utilityStmt);

	(previous_utility_hook ? previous_utility_hook : standard_ProcessUtility)
		(statement, query, read_only_tree, context, params, environment, dest, completion);
	if (discards)
		es_attempt_last_position = 0;
	if (discards && castNode(DiscardStmt, statement->utilityStmt)->target == DISCARD_ALL)
	{
		es_keycache_forget();
		es_masterkey_forget();
	}
}

/* Installs the hook; called once, from _PG_init. */
void
es_discard_init(void)
{
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = discard_utility_hook;
}
