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
 * A table is subscribed to with the row of its projection, too, and not by the statement
 * that subscribes (es_statemirror_leave_to_rows): who copies the row enters the table to
 * be copied, who applies it enters it as ready.  So the row has been here if its table is
 * in the subscription, and if the publisher drops the projection, the row's deletion
 * comes after that, be it to who has copied the row and catches up, or to the apply worker.
 * That matters since the publisher's table is gone by then.  One that has not been
 * copied never can be: its worker would fail again and again, and the store would stay
 * incomplete.  So with the deletion it is taken out of the subscription, as ALTER
 * SUBSCRIPTION ... REFRESH would take it (give_up_copy).  Until that comes its worker may
 * fail now and then.  A table that was copied before comes to an end by itself, as
 * that needs the publisher's slot and not its table.
 *
 * Where the publisher drops a projection, its table goes with its row, unless somebody
 * reads it, or a view is on it.  Then it stays as it is, and shows nothing, since no
 * generation is live.
 */
#include "segment/statemirror.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "replication/worker_internal.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "segment/publisher.h"
#include "segment/statetable.h"
#include "table/columns.h"
#include "table/rows.h"

static EsRelation projections = {"projections"};
static EsRelation projections_by_id = {"projections_by_id",
.index = {.keys = {1},.columns = "projection_id",.unique = true}};
static const EsColumn projection_columns[] = {{"projection_id", INT8OID}};
static const EsShape projection_shape = ES_SHAPE(&projections, &projections_by_id, projection_columns);

/* ---- subscribing ---- */

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

/* Tells whether the row of a projection is here. */
static bool
has_projection(int64 projection_id)
{
	EsRows		rows = {.shape = &projection_shape,.mode = AccessShareLock};
	bool		has;

	es_rows_equal(&rows, Int64GetDatum(projection_id));
	es_rows_begin(&rows);
	has = es_rows_next(&rows);
	es_rows_end(&rows);
	return has;
}

/* Tells whether this transaction has entered a table into a subscription. */
static bool
has_just_been_entered(Oid subscription, Oid relid)
{
	HeapTuple	entry = SearchSysCache2(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(relid), ObjectIdGetDatum(subscription));
	bool		entered;

	if (!HeapTupleIsValid(entry))
		return false;
	entered = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(entry->t_data));
	ReleaseSysCache(entry);
	return entered;
}

/*
 * es_statemirror_leave_to_rows is called after a statement that subscribes: takes those
 * tables out of the subscription again whose projection's row is not here.
 */
void
es_statemirror_leave_to_rows(Oid subscription)
{
	ListCell   *cell;

	foreach(cell, es_statetable_ids())
	{
		int64		projection_id = *(int64 *) lfirst(cell);
		Oid			relid = es_statetable_relid(projection_id);

		if (has_just_been_entered(subscription, relid) && !has_projection(projection_id))
			RemoveSubscriptionRel(subscription, relid);
	}
	CommandCounterIncrement();
}

/* ---- making ---- */

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

/* ---- dropping ---- */

/*
 * Stops the worker, if any, that copies a table for our subscription, and waits until it
 * has no lock on it any more, which is a moment later than the server itself waits.
 */
static void
stop_copying(Oid relid)
{
	LogicalRepWorker *worker;
	int			pid = 0;

	LWLockAcquire(LogicalRepWorkerLock, LW_SHARED);
	worker = logicalrep_worker_find(MyLogicalRepWorker->subid, relid, true);
	if (worker)
		pid = worker->proc->pid;
	LWLockRelease(LogicalRepWorkerLock);
	logicalrep_worker_stop(MyLogicalRepWorker->subid, relid);
	while (pid != 0 && BackendPidGetProc(pid) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		es_base_nap(1000);
	}
}

/* Drops the slot, if it is there, by which the worker that copies a table follows the publisher. */
static void
drop_copy_slot(Oid relid)
{
	EsPublisher publisher = es_publisher_own();
	char		slot[NAMEDATALEN];

	ReplicationSlotNameForTablesync(MyLogicalRepWorker->subid, relid, slot, sizeof(slot));
	es_publisher_drop_slot(&publisher, slot);
}

/*
 * Takes a table out of our subscription that has not been copied, with all that the copy
 * has left here and at the publisher; leaves one that has been, or is not in it.
 *
 * It is stopped first, as what it does to its entry would collide with what is done here;
 * and once more after that, since the apply worker, unless we are that, may have started
 * it again: whoever comes later waits at the entry, before it has an origin or a slot.
 * A rollback brings the entry back, and the copy begins anew, which wants neither.
 */
static void
give_up_copy(Oid relid)
{
	Oid			subscription = MyLogicalRepWorker->subid;
	char		origin[NAMEDATALEN];
	XLogRecPtr	lsn;
	char		state;

	/* before the entries, and they before origins, as ALTER SUBSCRIPTION does */
	LockSharedObject(SubscriptionRelationId, subscription, 0, AccessShareLock);
	stop_copying(relid);
	AcceptInvalidationMessages();
	state = GetSubscriptionRelState(subscription, relid, &lsn);
	if (state != SUBREL_STATE_INIT && state != SUBREL_STATE_DATASYNC)
		return;
	RemoveSubscriptionRel(subscription, relid);
	CommandCounterIncrement();
	stop_copying(relid);
	es_copy_origin_name(subscription, relid, origin, sizeof(origin));
	replorigin_drop_by_name(origin, true, false);
	if (state == SUBREL_STATE_DATASYNC)
		drop_copy_slot(relid);
	ereport(LOG,
			errmsg("the copy of \"eventstore.%s\" is given up because its projection has been dropped", get_rel_name(relid)));
}

/*
 * es_statemirror_forget drops the table of a projection whose row a subscription has
 * deleted.  One that has been copied, and is not ready yet, is left to who does that.
 */
void
es_statemirror_forget(int64 projection_id)
{
	Oid			relid = es_statetable_relid(projection_id);
	XLogRecPtr	lsn;
	char		state;

	if (!IsLogicalWorker() || !OidIsValid(relid))
		return;
	state = GetSubscriptionRelState(MyLogicalRepWorker->subid, relid, &lsn);
	if (state == SUBREL_STATE_INIT || state == SUBREL_STATE_DATASYNC)
	{
		give_up_copy(relid);
		state = GetSubscriptionRelState(MyLogicalRepWorker->subid, relid, &lsn);
	}
	if (state == SUBREL_STATE_READY || state == SUBREL_STATE_UNKNOWN)
		(void) es_statetable_try_drop(projection_id);
}
