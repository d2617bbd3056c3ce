/*
 * latest.c
 *		When the last event of a sealed segment was recorded.
 *
 * No event of a stream may be older than the one before.  Who appends to a stream that has been
 * silent for long would have to read that one; by this it need not (stream/stream.c).  A sealed
 * segment gets no more events, so it is read once for that, after it was sealed
 * (segment/timing.c).
 *
 * Rows are in a table of their own, which a store that was not updated yet does not have.  What
 * is not known costs a look at the event, as if there were nothing.
 */
#include "log/latest.h"

#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "table/columns.h"
#include "table/rows.h"

#define Anum_segment_times_segment		1
#define Anum_segment_times_latest_at	2
#define Natts_segment_times				2

#define KEPT	64				/* times that a session keeps */

static EsRelation segment_times = {"segment_times"};
static EsRelation segment_times_pkey = {"segment_times_pkey",
.index = {.keys = {Anum_segment_times_segment},.columns = "segment",.unique = true}};
static const EsColumn columns[Natts_segment_times] = {{"segment", INT8OID}, {"latest_at", TIMESTAMPTZOID}};
const EsShape es_latest_shape = ES_SHAPE(&segment_times, &segment_times_pkey, columns);

/* A time that is kept. */
typedef struct KeptTime
{
	int64		segment;		/* plus 1; 0: none is kept here */
	TimestampTz latest_at;
} KeptTime;

static KeptTime kept[KEPT];
static uint64 kept_changes = 0; /* of the table, when the first of them was
								 * read */

/* es_latest_is_kept tells whether the store has the table. */
bool
es_latest_is_kept(void)
{
	return segment_times.known || OidIsValid(get_relname_relid(segment_times.name, es_base_store()->schema));
}

/* Reads a segment's time; false, and DT_NOEND, if there is none. */
static bool
read_time(int64 segment, TimestampTz *latest_at)
{
	EsRows		rows = {.shape = &es_latest_shape,.mode = AccessShareLock,.fresh = true};
	bool		found;

	es_rows_equal(&rows, Int64GetDatum(segment));
	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	*latest_at = found ? DatumGetTimestampTz(rows.values[Anum_segment_times_latest_at - 1]) : DT_NOEND;
	es_rows_end(&rows);
	return found;
}

/* es_latest_is_known tells whether a segment's time has been looked for. */
bool
es_latest_is_known(int64 segment)
{
	TimestampTz latest_at;

	return read_time(segment, &latest_at);
}

/*
 * es_latest_at tells a time that no event of a segment was recorded after; DT_NOEND if that is
 * not known.
 */
TimestampTz
es_latest_at(int64 segment)
{
	KeptTime   *place = &kept[segment % KEPT];
	TimestampTz latest_at;
	uint64		changes;

	if (!es_latest_is_kept())
		return DT_NOEND;
	changes = es_base_changes_of(&segment_times);
	if (changes != kept_changes)
		memset(kept, 0, sizeof(kept));
	kept_changes = changes;
	if (place->segment == segment + 1)
		return place->latest_at;
	(void) read_time(segment, &latest_at);
	/* unless it has changed while it was read */
	if (es_base_changes_of(&segment_times) == changes)
	{
		place->segment = segment + 1;
		place->latest_at = latest_at;
	}
	return latest_at;
}

/* es_latest_note notes the time of a segment that is sealed. */
void
es_latest_note(int64 segment, TimestampTz latest_at)
{
	Datum		values[Natts_segment_times];
	bool		isnull[Natts_segment_times] = {false};

	values[Anum_segment_times_segment - 1] = Int64GetDatum(segment);
	values[Anum_segment_times_latest_at - 1] = TimestampTzGetDatum(latest_at);
	es_rows_put(&es_latest_shape, values, isnull);
	es_base_announce(&segment_times);
}

/* es_latest_forget forgets the time of a segment that leaves the log, or comes back. */
void
es_latest_forget(int64 segment)
{
	Datum		key = Int64GetDatum(segment);

	if (es_latest_is_kept() && es_rows_take_away(&es_latest_shape, &key, 1) > 0)
		es_base_announce(&segment_times);
}
