/*
 * outlet.c
 *		What a promotion has cost: what SQL cannot ask.
 *
 * The looks themselves are in outlet.sql.
 */
#include "base/base.h"

#include "access/sdir.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "base/event.h"
#include "log/scan.h"
#include "log/segment.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_outlet_last_event_upto);

/*
 * eventstore.last_event_upto(position): the position of the last event in the segment of a
 * position, or in those before it; 0 if there is none.
 */
Datum
es_outlet_last_event_upto(PG_FUNCTION_ARGS)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int64		upto = PG_GETARG_INT64(0);
	int64		newest = es_segment_newest_reaching(upto);
	int64		segment = upto < 1 ? -1 : es_segment_of(upto);
	int64		last = 0;

	for (int64 n = Min(segment, newest); n >= 0 && last == 0; n--)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true};
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		last = DatumGetInt64(es_scan_edge(&scan, n, BackwardScanDirection, Anum_es_events_position, &isnull));
	}
	UnregisterSnapshot(snapshot);
	PG_RETURN_INT64(last);
}
