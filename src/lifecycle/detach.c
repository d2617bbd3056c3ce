/*
 * detach.c
 *		Giving a segment back as a plain table.
 *
 * What may go is complete: every position up to its last is final.  It is looked at
 * first, as a whole: whether all its events are old enough, and what they are, which is
 * noted for the day when it comes back.  That takes its time, under a lock that keeps
 * off whoever would change or rewrite the segment, and no reader.  The lock is a
 * session's, as it is kept over transactions: what then follows is tried in one that
 * waits for the log only for a moment, and may have to be tried again.
 *
 * What makes a table a part of the store goes: its place in the log, where a
 * placeholder comes, the triggers, and the indexes whose access method or use is only
 * the store's.  What is left needs nothing of the extension, here or in another database.
 *
 * Order of locks: the segment (the session's), then the log, then the segment
 * exclusively.  Readers lock the log first, too, and share both.
 */
#include "lifecycle/detach.h"

#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/event.h"
#include "base/objects.h"
#include "base/owner.h"
#include "lifecycle/archived.h"
#include "lifecycle/placeholder.h"
#include "log/latest.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "segment/ddl.h"
#include "segment/typeindex.h"
#include "table/rows.h"

/* ---- which may go ---- */

/*
 * es_detach_candidates gives the segments that are attached and complete, with their
 * tables, in the current memory context.
 */
EsDetach *
es_detach_candidates(int *count)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock,.fresh = true};
	int64		settled = es_settle_compute();
	int64		newest = es_segment_newest_reaching(settled);
	EsDetach   *found = palloc0(sizeof(EsDetach) * (newest + 2));

	*count = 0;
	es_rows_between(&rows, -1, newest);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		int64		segment = DatumGetInt64(rows.values[Anum_es_segments_segment - 1]);
		Oid			relid = es_segment_relid(segment);

		if (DatumGetInt64(rows.values[Anum_es_segments_last_position - 1]) > settled || !OidIsValid(relid))
			continue;
		found[*count].segment = segment;
		found[(*count)++].relid = relid;
	}
	es_rows_end(&rows);
	return found;
}

/* Tells whether a segment's first or last event is too new, which saves a look at all of them. */
static bool
has_new_edge(int64 segment, TimestampTz before)
{
	static const ScanDirection directions[] = {ForwardScanDirection, BackwardScanDirection};
	Snapshot	snapshot = es_rows_fresh_snapshot();
	bool		found = false;

	for (int i = 0; !found && i < lengthof(directions); i++)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true};
		bool		isnull;
		Datum		time = es_scan_edge(&scan, segment, directions[i], Anum_es_events_recorded_at, &isnull);

		found = !isnull && DatumGetTimestampTz(time) >= before;
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * es_detach_begin looks at a segment, and keeps it locked against changes to the end of the
 * transaction; ->relid is InvalidOid unless it has events and all are older than a time.
 */
void
es_detach_begin(EsDetach *detach, int64 segment, TimestampTz before)
{
	bool		lost;
	Relation	rel = es_segment_open(segment, ShareRowExclusiveLock, &lost);

	memset(detach, 0, sizeof(*detach));
	detach->segment = segment;
	if (rel == NULL)
		return;
	if (!has_new_edge(segment, before))
	{
		es_contents_look(rel, &detach->contents);
		if (detach->contents.events > 0 && detach->contents.newest < before)
			detach->relid = RelationGetRelid(rel);
	}
	table_close(rel, NoLock);
}

/* ---- going ---- */

/* Drops a relation of schema eventstore by a statement up to its name, if it is there. */
static void
drop_if_there(const char *statement, const char *name)
{
	if (OidIsValid(get_relname_relid(name, es_base_store()->schema)))
		es_ddl_run("%s eventstore.%s", statement, name);
}

/* Takes from a table what only the store needs, and what needs the store. */
static void
make_plain(int64 segment)
{
	const char *table = es_segment_name(segment);
	ListCell   *cell;

	es_ddl_run("DROP TRIGGER IF EXISTS guard_statement ON eventstore.%s", table);
	es_ddl_run("DROP TRIGGER IF EXISTS guard_restore ON eventstore.%s", table);
	drop_if_there("DROP INDEX", psprintf("%s%s", table, es_segment_index_names[ES_INDEX_TAG]));
	foreach(cell, es_typeindex_all())
	{
		drop_if_there("DROP INDEX", es_segment_type_index_name(segment, lfirst(cell)));
	}
}

/*
 * es_detach_run takes a segment out of the log, in this transaction; false if it is not
 * there any more.  55P03 if the log or the segment is in use for longer than
 * lock_timeout allows.
 */
bool
es_detach_run(const EsDetach *detach)
{
	EsOwnerContext saved;
	EsArchived	row;

	es_base_lock(&es_base_events, AccessExclusiveLock);
	LockRelationOid(detach->relid, AccessExclusiveLock);
	if (es_segment_relid(detach->segment) != detach->relid || !es_archived_find(detach->segment, &row))
		return false;
	es_ddl_enter(&saved);
	es_ddl_run("ALTER TABLE eventstore.events DETACH PARTITION eventstore.%s", es_segment_name(detach->segment));
	make_plain(detach->segment);
	es_placeholder_make(detach->segment, row.first_position, row.last_position);
	es_ddl_leave(&saved);
	es_archived_note(detach->segment, &detach->contents);
	es_latest_forget(detach->segment);
	return true;
}
