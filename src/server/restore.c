/*
 * restore.c
 *		Data that is put into the store's tables directly, by a restore say.
 *
 * A dump holds segments as tables of their own, and rows that tell of events in
 * the tables of the extension.  Where a restore brings data only, the segments are
 * missing, or they are those of another store; it goes on after each error, and what
 * got through would be half a store, or two in one: streams without events, events
 * and snapshots under ids that stand for other streams here.  So rows that tell of
 * events are taken only
 *
 *	- if there is a segment, and
 *	- into a store that has not given out positions by itself: timeline_seq, which
 *	  no dump has, knows.
 *
 * Events themselves may be put into a store that is in use, as long as they are not
 * beyond the last position given out: appends would come to theirs, too.
 *
 * Logical replication workers bring one after the other, and are not meant.  A whole
 * restore makes the triggers on segments after their data, so there only the tables
 * of the extension are looked at, once for each COPY.
 */
#include "base/base.h"

#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/call.h"
#include "base/objects.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/timeline.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_restore_guard);

/* Tells whether a table has a row, this command's included. */
static bool
has_rows(Relation rel)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	bool		found = es_rows_any(rel, snapshot);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Refuses rows that tell of events which cannot be here; those of segments are told
 * apart by their number.
 */
static void
check_table(Relation rel)
{
	if (es_timeline_is_in_use() && RelationGetRelid(rel) != es_base_oid(&es_segment_table))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot put rows into table \"%s\" because the event store has events of its own",
					   RelationGetRelationName(rel)),
				errhint("Restore a store into a database that has none."));
	if (has_rows(rel) && !has_subclass(es_base_oid(&es_base_events)))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot put rows into table \"%s\" because the event store has no segment",
					   RelationGetRelationName(rel)),
				errdetail("The segments are tables that only a restore with definitions makes."),
				errhint("Restore without --data-only, into a database that has no store."));
}

/* Refuses events at positions that a store in use has yet to give out. */
static void
check_events(Relation rel)
{
	int64		last = es_settle_last_given();
	int64		beyond = es_timeline_is_in_use() ? es_timeline_event_beyond(last) : 0;

	if (beyond > 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot put events into table \"%s\" because the event store has events of its own",
					   RelationGetRelationName(rel)),
				errdetail("The last position given out is " INT64_FORMAT ", and an event has position " INT64_FORMAT ".",
						  last, beyond),
				errhint("Restore a store into a database that has none."));
}

/*
 * guard_restore(): AFTER INSERT statement trigger.  Raises 55000 for rows that
 * make half a store, or two in one.
 */
Datum
es_restore_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	es_call_require_trigger(CALLED_AS_TRIGGER(fcinfo), "guard_restore");
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	if (trigger->tg_relation->rd_rel->relispartition ||
		RelationGetRelid(trigger->tg_relation) == es_base_oid(&es_base_events))
		check_events(trigger->tg_relation);
	else
		check_table(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
