/*
 * find.c
 *		Finding one event of a stream: its position, or where it was, by its version,
 *		or the event by the id that its writer gave; or what an event at a position is.
 *
 * All but the last answer from what is committed as they are called, and from what this
 * transaction has appended, whatever connection of a pool they come over: nothing
 * is remembered of the append.
 */
#include "read/find.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "nodes/execnodes.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "base/call.h"
#include "base/event.h"
#include "log/durable.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "read/read.h"
#include "rights/right.h"
#include "secret/field.h"
#include "stream/stream.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_position);
PG_FUNCTION_INFO_V1(es_find_event);

/*
 * es_find_position gives the position of a stream's event, and its version in *found:
 * where that one is hidden, the first one that is not.  0 if there is none, or the
 * stream is deleted.
 */
int64
es_find_position(const text *stream, int64 version, int64 *found)
{
	EsStreamScanOptions options = {.stream = stream,.from_version = version,.without_metadata = true};
	EsStreamScan *scan = es_read_stream_begin(&options);
	EsEvent		event = {0};

	if (!es_read_stream_next(scan, &event))
		event.position = event.version = 0;
	es_read_stream_end(scan);
	*found = event.version;
	return event.position;
}

/*
 * es_find_place tells whether a stream has had an event, and gives the position by which a
 * follower of the log has come past it: its own; where it is hidden, that of the first event
 * which is not, or of the stream's last one, as its deletion; 0 if that has been removed, too.
 */
bool
es_find_place(const text *stream, int64 version, int64 *position)
{
	Snapshot	snapshot;
	EsStream	row;
	int64		found;
	bool		is_hidden;

	*position = es_find_position(stream, version, &found);
	if (found > 0)
		return true;
	snapshot = es_rows_fresh_snapshot();
	is_hidden = es_stream_find(stream, &snapshot, true, &row) &&
		version < row.truncated_before + (row.deleted ? 1 : 0);
	if (is_hidden)
	{
		EsSegmentScan scan = {.fresh = &snapshot,.needed = true,.tells = true};
		bool		isnull;

		es_scan_stream(&scan, row.id);
		*position = DatumGetInt64(es_scan_edge(&scan, row.last_segment, BackwardScanDirection, Anum_es_events_position, &isnull));
		if (isnull)
			es_durable_flush_seen();
	}
	UnregisterSnapshot(snapshot);
	es_durable_flush_noted();
	return is_hidden;
}

/* es_find_is_there tells whether the event at a position is committed, and on disk, or our own. */
bool
es_find_is_there(int64 position)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true,.nkeys = 1};
	bool		there = false;

	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(position));
	if (es_scan_begin(&scan, es_segment_of(position)))
	{
		there = index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot);
		if (there)
			es_durable_note_row(scan.slot);
		es_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
	es_durable_flush_noted();
	return there;
}

/*
 * es_position(stream, version): the position of a stream's event.
 *
 * NULL if the stream has no such event, is deleted, or does not exist; NULL
 * arguments are 22004.  42501 without 'read' on the category.  55000 if a segment that may
 * have it is not part of the log.
 */
Datum
es_position(PG_FUNCTION_ARGS)
{
	text	   *stream = es_call_stream_arg(fcinfo, 0);
	int64		version;
	int64		position;
	int64		found;

	es_right_require_stream(ES_RIGHT_READ, stream);
	es_call_require(fcinfo, 1, "version");
	version = PG_GETARG_INT64(1);
	if (version < 1)
		PG_RETURN_NULL();
	position = es_find_position(stream, version, &found);
	if (found != version)
		PG_RETURN_NULL();
	PG_RETURN_INT64(position);
}

/* Finds the version of a stream's event by its id, committed or not; 0 if there is none. */
static int64
find_version_of_id(const text *name, const pg_uuid_t *id)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	TransactionId in_progress;
	EsStream	stream;
	int64		version = 0;

	es_subscriber_refuse_part();
	if (es_stream_find(name, &snapshot, true, &stream) && !stream.deleted)
		version = es_stream_find_event_id(&stream, id, NULL, &in_progress);
	UnregisterSnapshot(snapshot);
	return version;
}

/*
 * es_find_event(stream, event_id): the event that was appended to a stream with an
 * id; no row if there is none.
 *
 * Only ids that were given with the append are found, by an index; not those that
 * the store has made.  NULLs are 22004.  42501 without 'read' on the category.  55000 if a
 * segment that may have the event is not part of the log.  An append that is in flight is
 * not waited for.
 */
Datum
es_find_event(PG_FUNCTION_ARGS)
{
	EsStreamScanOptions options = {.gives_out = true};
	ReturnSetInfo *result;
	EsStreamScan *scan;
	EsEvent		event;
	pg_uuid_t  *id;

	options.stream = es_call_stream_arg(fcinfo, 0);
	es_right_require_stream(ES_RIGHT_READ, options.stream);
	es_call_require(fcinfo, 1, "event_id");
	id = PG_GETARG_UUID_P(1);
	result = es_call_begin_rows(fcinfo);
	options.from_version = find_version_of_id(options.stream, id);
	if (options.from_version == 0)
		return (Datum) 0;
	scan = es_read_stream_begin(&options);
	/* it may be another transaction's still, or that one's no more */
	if (es_read_stream_next(scan, &event) && event.version == options.from_version && event.id_given &&
		memcmp(&event.event_id, id, sizeof(*id)) == 0)
	{
		(void) es_field_reveal(&event);
		es_call_return_event(&event, result);
	}
	es_read_stream_end(scan);
	return (Datum) 0;
}

/*
 * es_find_name tells what event is at a position, in the current memory context; false
 * if there is none, or its segment is not part of the log.
 */
bool
es_find_name(int64 position, EsEventName *name)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true,.without_metadata = true,
	.nkeys = 1};
	bool		found = false;
	EsEvent		event;

	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(position));
	if (position > 0 && es_scan_begin(&scan, es_segment_of(position)))
	{
		found = index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot);
		if (found)
		{
			es_durable_note_row(scan.slot);
			es_scan_event(&scan, &event);
			name->stream = DatumGetTextPCopy(event.stream);
			name->type = DatumGetTextPCopy(event.type);
			name->version = event.version;
		}
		es_scan_end(&scan);
	}
	UnregisterSnapshot(snapshot);
	es_durable_flush_noted();
	return found;
}
