/*
 * subscriber.c
 *		Whether the store is kept up to date by logical replication.
 *
 * A store is a *logical subscriber* as long as a relation of its schema is in a
 * subscription of this database, be it disabled.  pg_subscription_rel says so, and
 * nothing else does: where the sequences stand depends on how the subscriber was
 * made.  It is looked at again after an invalidation; where there is no
 * subscription that costs two comparisons.
 *
 * A subscriber is written to by its subscription only.  What a session wrote there,
 * a snapshot or a checkpoint even, would sooner or later meet a row of the
 * publisher's and stop the subscription for good.  So it is refused, as on a hot
 * standby, until the subscription has been dropped.
 *
 * Each relation is copied at a time of its own, in any order, and goes on from
 * there by itself until it has met the apply worker.  So what one relation says of
 * another, the settled mark of the events, say, is true only once all of
 * them are in state 'r'.  From then on the apply worker alone carries the changes, in
 * order of commit, and keeps that order where it has helpers: what is visible is
 * what was visible on the publisher at some moment, and a mark in it was computed
 * before it was written.  For relations of one subscription, that is: two apply
 * workers know nothing of each other.
 *
 * To be read first is the mark, and then whether all relations are ready.  'r' is
 * written when the apply worker is past the place up to which the relation was
 * copied, so a mark that was copied is covered, too.
 */
#include "log/subscriber.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

EsSubscriber es_subscriber_state;
static uint64 news = 0;			/* invalidations */

/* Forgets what was found: some relation's state in a subscription changed. */
static void
forget_subscriber_state(Datum arg, int cacheid, uint32 hashvalue)
{
	news++;
	es_subscriber_state.known = false;
}

/* Registers the invalidation callback; called once, from _PG_init. */
void
es_subscriber_init(void)
{
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, forget_subscriber_state, (Datum) 0);
}

/* Looks which relations of the store are in a subscription, and whether all are ready in one. */
void
es_subscriber_look(void)
{
	Oid			schema = es_base_store()->schema;
	EsSubscriber found = {.copied = true,.complete = true,.schema = schema,.changes = es_subscriber_state.changes + 1};
	Oid			subscription = InvalidOid;
	Relation	rel = table_open(SubscriptionRelRelationId, AccessShareLock);
	uint64		before = news;
	SysScanDesc scan;
	HeapTuple	row;

	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_subscription_rel form = (Form_pg_subscription_rel) GETSTRUCT(row);

		if (get_rel_namespace(form->srrelid) != schema)
			continue;
		found.exists = true;
		if (form->srsubstate != SUBREL_STATE_READY)
			found.copied = found.complete = false;
		if (OidIsValid(subscription) && form->srsubid != subscription)
			found.complete = false;
		subscription = form->srsubid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	/* one that fails, or is overtaken, has found out nothing */
	found.known = news == before;
	es_subscriber_state = found;
}

/*
 * es_subscriber_has_all tells whether what is visible from now on is what was
 * visible on the publisher at some moment, that of all that was read before; true
 * for what is no subscriber.
 */
bool
es_subscriber_has_all(void)
{
	if (!es_subscriber_is())
		return true;
	AcceptInvalidationMessages();
	return !es_subscriber_is() || es_subscriber_state.complete;
}

/*
 * es_subscriber_prevent_write raises 25006 where nothing can be written, and 55000
 * on a logical subscriber.
 */
void
es_subscriber_prevent_write(const char *command)
{
	PreventCommandIfReadOnly(command);
	if (unlikely(es_subscriber_is()))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot execute %s because the event store of this database is a logical subscriber", command),
				errdetail("What is written here would meet what the publisher writes."),
				errhint("Do it on the publisher; or, to go on here instead of there, drop the subscription first."));
}

/*
 * es_subscriber_begin_change begins a change of a table of definitions: waits for
 * other changes' transactions and keeps later ones out until this one ends.
 */
void
es_subscriber_begin_change(EsRelation *definitions, const char *command)
{
	es_subscriber_prevent_write(command);
	PreventCommandIfParallelMode(command);
	es_base_lock(definitions, ShareRowExclusiveLock);
}

/*
 * es_subscriber_refuse_part raises 55000 on a logical subscriber some of whose tables
 * are still being copied: what is read by one table and from another would be a part,
 * and look like all.
 */
void
es_subscriber_refuse_part(void)
{
	if (likely(!es_subscriber_is()))
		return;
	AcceptInvalidationMessages();
	if (es_subscriber_is() && !es_subscriber_state.copied)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the event store of this database is still being copied"),
				errdetail("It is a logical subscriber, and not all of its tables are here as a whole."),
				errhint("Wait until srsubstate is \"r\" in pg_subscription_rel for all tables of schema \"eventstore\"."));
}
