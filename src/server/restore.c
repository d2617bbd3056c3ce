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
 * beyond the last position given out: appends would come to theirs, too.  And they
 * must be of streams that the store has under these ids and names, each after the
 * stream's version before: a restore that sets sequences first, as one by several
 * jobs may, would else bring events of another store's streams.
 *
 * Logical replication workers bring one after the other, and are not meant.  A whole
 * restore makes the triggers on segments after their data, so there only the tables
 * of the extension are looked at, once for each COPY.
 */
#include "base/base.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/call.h"
#include "base/event.h"
#include "base/objects.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/timeline.h"
#include "stream/stream.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_restore_guard);

/* Tells whether a table has a row, this command's included. */
static bool
restored_table_has_rows(Relation rel)
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
check_restored_table(Relation rel)
{
	if (es_timeline_is_in_use() && RelationGetRelid(rel) != es_base_oid(&es_segment_table))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot put rows into table \"%s\" because the event store has events of its own",
					   RelationGetRelationName(rel)),
				errhint("Restore a store into a database that has none."));
	if (restored_table_has_rows(rel) && !has_subclass(es_base_oid(&es_base_events)))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot put rows into table \"%s\" because the event store has no segment",
					   RelationGetRelationName(rel)),
				errdetail("The segments are tables that only a restore with definitions makes."),
				errhint("Restore without --data-only, into a database that has no store."));
}

/* Tells whether a stream has an event of a version, in one of the segments up to one. */
static bool
has_version(const EsStream *stream, int64 version, int64 segment, Snapshot *snapshot)
{
	bool		isnull = true;

	for (int64 n = segment; isnull && n >= stream->first_segment; n--)
	{
		EsSegmentScan scan = {.which = ES_INDEX_STREAM,.fresh = snapshot,.own_slot = true,.nkeys = 2};

		ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
		ScanKeyInit(&scan.keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(version));
		(void) es_scan_edge(&scan, n, ForwardScanDirection, Anum_es_events_version, &isnull);
	}
	return !isnull;
}

/* Tells whether an event that was put into a segment is one of a stream of ours, in its turn. */
static bool
is_of_own_stream(const EsEvent *event, int64 segment, Snapshot *snapshot)
{
	const text *name = DatumGetTextPP(event->stream);
	EsStream	stream;

	return es_stream_find(name, snapshot, true, &stream) && stream.id == event->stream_id &&
		(event->version == 1 || has_version(&stream, event->version - 1, segment, snapshot));
}

/* Raises 55000 for events put into a store that has its own; detail is a sentence. */
ES_NORETURN static void
report_foreign_events(Relation rel, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot put events into table \"%s\" because the event store has events of its own",
				   RelationGetRelationName(rel)),
			errdetail_internal("%s", detail),
			errhint("Restore a store into a database that has none."));
}

/* Refuses events of other streams than ours that this transaction has put into a segment. */
static void
check_restored_segment(int64 segment, Relation rel, Snapshot *snapshot)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = snapshot,.own_slot = true};

	if (!es_scan_begin(&scan, segment))
		return;
	while (index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
	{
		EsEvent		event;

		CHECK_FOR_INTERRUPTS();
		if (!TransactionIdIsCurrentTransactionId(es_rows_slot_xmin(scan.slot)))
			continue;
		es_scan_event(&scan, &event);
		if (!is_of_own_stream(&event, segment, snapshot))
			report_foreign_events(rel, psprintf("The event at position " INT64_FORMAT " does not follow an event of a stream that the store has.",
												event.position));
	}
	es_scan_end(&scan);
}

/* Does so for the segments that rows may have been put into: one, or by way of the log all. */
static void
check_restored_streams(Relation rel)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();

	for (int64 n = es_segment_newest_reaching(PG_INT64_MAX); n >= 0; n--)
		if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE || es_segment_relid(n) == RelationGetRelid(rel))
			check_restored_segment(n, rel, &snapshot);
	UnregisterSnapshot(snapshot);
}

/* Refuses events that a store in use cannot have: at positions still to come, of other streams. */
static void
check_restored_events(Relation rel)
{
	int64		last;
	int64		beyond;

	if (!es_timeline_is_in_use())
		return;
	last = es_settle_last_given();
	beyond = es_timeline_event_beyond(last);
	if (beyond > 0)
		report_foreign_events(rel, psprintf("The last position given out is " INT64_FORMAT ", and an event has position " INT64_FORMAT ".",
											last, beyond));
	check_restored_streams(rel);
}

/* Tells whether a table is the log, or a segment of it; tables of states are partitions, too. */
static bool
is_of_the_log(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	Oid			events = es_base_oid(&es_base_events);

	return relid == events || (rel->rd_rel->relispartition && get_partition_parent(relid, true) == events);
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
	if (is_of_the_log(trigger->tg_relation))
		check_restored_events(trigger->tg_relation);
	else
		check_restored_table(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
