/*
 * statemirror.c
 *		The publisher's tables of states, made on a logical subscriber.
 *
 * Each projection has a table of its own (statetable.c).  As with segments (mirror.c),
 * those that the publisher has are made before a statement that subscribes and before
 * a table is copied; and those that it makes later with the row of their projection,
 * which comes before any of their rows.
 *
 * There is no look ahead, since projections are made now and then, and not by the
 * minute.  While tables are being copied a worker may meet a projection's table before
 * the projection's row is here: it fails, and the next one finds the table.
 *
 * Where the publisher drops a projection, its table goes with its row, unless somebody
 * reads it, or a view is on it.  Then it stays as it is, and shows nothing, since no
 * generation is live.
 */
#include "segment/statemirror.h"

#include "access/xact.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"
#include "storage/lmgr.h"
#include "utils/syscache.h"

#include "segment/statetable.h"

/*
 * es_statemirror_enter enters a partition into a subscription, unless it is known
 * there, by itself or as a part of its root.
 */
void
es_statemirror_enter(Oid subscription, EsRelation *root, Oid relid, char state)
{
	if (SearchSysCacheExists2(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(es_base_oid(root)), ObjectIdGetDatum(subscription)) ||
		SearchSysCacheExists2(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(relid), ObjectIdGetDatum(subscription)))
		return;
	es_subscription_add(subscription, relid, state);
	CommandCounterIncrement();
}

/*
 * es_statemirror_enter_now does so for the subscription that this worker works for:
 * the apply worker has all rows still to come, and what a row was copied of has to be
 * copied.
 */
void
es_statemirror_enter_now(EsRelation *root, Oid relid)
{
	es_statemirror_enter(MyLogicalRepWorker->subid, root, relid,
						 am_tablesync_worker() ? SUBREL_STATE_INIT : SUBREL_STATE_READY);
}

/* es_statemirror_make makes tables of projections that are not there. */
void
es_statemirror_make(const List *projections)
{
	ListCell   *cell;

	foreach(cell, projections)
	{
		es_statetable_make(*(int64 *) lfirst(cell));
	}
}

/* es_statemirror_missing gives those of some projections that have no table here. */
List *
es_statemirror_missing(const List *projections)
{
	List	   *missing = NIL;
	ListCell   *cell;

	foreach(cell, projections)
		if (!OidIsValid(es_statetable_relid(*(int64 *) lfirst(cell))))
		missing = lappend(missing, lfirst(cell));
	return missing;
}

/*
 * es_statemirror_follow makes the table of a projection whose row has been inserted
 * by a restore or a subscription, if it is not there; a worker subscribes to it.
 */
void
es_statemirror_follow(int64 projection_id)
{
	/* before the table's parent, as ALTER SUBSCRIPTION does */
	if (IsLogicalWorker())
		LockSharedObject(SubscriptionRelationId, MyLogicalRepWorker->subid, 0, AccessShareLock);
	es_statetable_make(projection_id);
	if (IsLogicalWorker())
		es_statemirror_enter_now(&es_statetable_parent, es_statetable_relid(projection_id));
}

/* es_statemirror_forget drops the table of a projection whose row a subscription has deleted. */
void
es_statemirror_forget(int64 projection_id)
{
	Oid			relid = es_statetable_relid(projection_id);
	XLogRecPtr	lsn;
	char		state;

	if (!IsLogicalWorker() || !OidIsValid(relid))
		return;
	/* one that is still to be copied belongs to the worker that does that */
	state = GetSubscriptionRelState(MyLogicalRepWorker->subid, relid, &lsn);
	if (state == SUBREL_STATE_READY || state == SUBREL_STATE_UNKNOWN)
		(void) es_statetable_try_drop(projection_id);
}
