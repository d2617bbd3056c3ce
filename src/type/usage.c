/*
 * usage.c
 *		Whether there are events of a version of a type.
 *
 * The log is looked through from where such events may begin, up to the first one: by
 * the segment's index of the type, if it has one (segment/typeindex.c), else event by
 * event, of which only the columns at their front are looked at.
 */
#include "type/usage.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "base/names.h"
#include "log/scan.h"
#include "log/segment.h"
#include "table/rows.h"

/* Tells whether a stored event is one that is looked for. */
static bool
is_of_looked_for_version(const EsUsage *usage, TupleTableSlot *slot)
{
	bool		isnull;
	int			version = DatumGetInt32(slot_getattr(slot, Anum_es_events_type_version, &isnull));

	return version >= usage->lowest && version <= usage->highest &&
		es_names_same(DatumGetTextPP(slot_getattr(slot, Anum_es_events_type, &isnull)), usage->type);
}

/*
 * Opens a segment by its index of the type, or else by that of positions; false if there
 * is no such segment.
 */
static bool
open_segment_of_type(EsSegmentScan *scan, const text *type, int64 segment)
{
	scan->type = type;
	if (es_scan_begin(scan, segment))
		return true;
	if (!scan->unindexed)
		return false;
	scan->type = NULL;
	scan->which = ES_INDEX_POSITION;
	return es_scan_begin(scan, segment);
}

/* Looks through a segment. */
static bool
look_through_segment(EsUsage *usage, int64 segment, int64 after, Snapshot *snapshot)
{
	EsSegmentScan scan = {.fresh = snapshot,.own_slot = true,.needed = true,.nkeys = 1};
	bool		found = false;
	bool		isnull;

	ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	if (!open_segment_of_type(&scan, usage->type, segment))
		return false;
	while (!found && index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
	{
		CHECK_FOR_INTERRUPTS();
		found = is_of_looked_for_version(usage, scan.slot);
	}
	if (found)
	{
		usage->position = DatumGetInt64(slot_getattr(scan.slot, Anum_es_events_position, &isnull));
		usage->version = DatumGetInt32(slot_getattr(scan.slot, Anum_es_events_type_version, &isnull));
	}
	es_scan_end(&scan);
	return found;
}

/*
 * es_usage_find tells whether an event after a position, committed or of this
 * transaction, is of one of the versions that are looked for, and which is the first.
 * 55000 if a segment that may have one is lost.
 */
bool
es_usage_find(EsUsage *usage, int64 after)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int64		newest = es_segment_newest();
	bool		found = false;

	for (int64 n = es_segment_of(after + 1); n <= newest && !found; n++)
		found = look_through_segment(usage, n, after, &snapshot);
	UnregisterSnapshot(snapshot);
	return found;
}
