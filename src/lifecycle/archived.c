/*
 * archived.c
 *		What is known of segments that were given back.
 *
 * eventstore.detached_segments has what es_detach_segments found in a segment, for as
 * long as it is away.  Of one that was detached by hand there is only its row in
 * eventstore.segments, which has its count if it was sealed.
 */
#include "lifecycle/archived.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "log/segment.h"
#include "table/rows.h"

#define Anum_detached_segment		1
#define Anum_detached_events		2
#define Anum_detached_digest		3
#define Anum_detached_detached_at	4
#define Natts_detached				4

static EsRelation detached_segments = {"detached_segments"};
static EsRelation detached_segments_pkey = {"detached_segments_pkey",
.index = {.keys = {Anum_detached_segment},.columns = "segment",.unique = true}};
static const EsColumn detached_columns[Natts_detached] = {
	{"segment", INT8OID}, {"events", INT8OID}, {"digest", INT8OID}, {"detached_at", TIMESTAMPTZOID}
};
const EsShape es_archived_shape = ES_SHAPE(&detached_segments, &detached_segments_pkey, detached_columns);

/* Reads what es_detach_segments has left of a segment. */
static void
read_detached_row(EsArchived *row)
{
	EsRows		rows = {.shape = &es_archived_shape,.mode = AccessShareLock,.fresh = true};

	es_rows_equal(&rows, Int64GetDatum(row->segment));
	es_rows_begin(&rows);
	row->has_digest = es_rows_next(&rows);
	if (row->has_digest)
	{
		row->events = DatumGetInt64(rows.values[Anum_detached_events - 1]);
		row->digest = DatumGetInt64(rows.values[Anum_detached_digest - 1]);
	}
	es_rows_end(&rows);
}

/* es_archived_find reads what is known of a segment; false if there was never one. */
bool
es_archived_find(int64 segment, EsArchived *row)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock,.fresh = true};
	bool		found;

	memset(row, 0, sizeof(*row));
	es_rows_equal(&rows, Int64GetDatum(segment));
	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	if (found)
	{
		row->segment = segment;
		row->first_position = DatumGetInt64(rows.values[Anum_es_segments_first_position - 1]);
		row->last_position = DatumGetInt64(rows.values[Anum_es_segments_last_position - 1]);
		row->events = rows.isnull[Anum_es_segments_events - 1] ? -1 : DatumGetInt64(rows.values[Anum_es_segments_events - 1]);
	}
	es_rows_end(&rows);
	if (found)
		read_detached_row(row);
	return found;
}

/* es_archived_note notes what a segment has that is given back. */
void
es_archived_note(int64 segment, const EsContents *contents)
{
	Datum		values[Natts_detached];
	bool		isnull[Natts_detached] = {false};

	values[Anum_detached_segment - 1] = Int64GetDatum(segment);
	values[Anum_detached_events - 1] = Int64GetDatum(contents->events);
	values[Anum_detached_digest - 1] = Int64GetDatum(contents->digest);
	values[Anum_detached_detached_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	es_rows_put(&es_archived_shape, values, isnull);
}

/* es_archived_forget forgets that, as the segment is back. */
void
es_archived_forget(int64 segment)
{
	Datum		key = Int64GetDatum(segment);

	(void) es_rows_take_away(&es_archived_shape, &key, 1);
}
