/*
 * nudge.c
 *		The worker of a store told that there is something to do.
 *
 * A transaction that gives it work, or takes the store away, nudges it as it commits: once it
 * has sent its invalidations, which is after the callbacks of its commit, since a worker that
 * looks before these would not see what is new.
 */
#include "shared/nudge.h"

#include "utils/resowner.h"

#include "shared/roster.h"

static bool nudges = false;		/* this transaction does, as it ends */

/* Nudges the worker once the transaction has sent its invalidations. */
static void
nudge_after_invalidations(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (likely(!nudges) || phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	nudges = false;
	es_roster_nudge();
}

/* es_nudge_init registers the callback; called once, from _PG_init. */
void
es_nudge_init(void)
{
	RegisterResourceReleaseCallback(nudge_after_invalidations, NULL);
}

/*
 * es_nudge_worker has the worker of this database look for what there is to do, or whether
 * there still is a store, once this transaction is over, whose commit it is called at.
 */
void
es_nudge_worker(void)
{
	nudges = true;
}
