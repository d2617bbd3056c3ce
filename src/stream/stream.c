/*
 * stream.c
 *		Streams: their rows, and the tip that appends go on from.
 *
 * Appends look at streams under their short lock (lock.c).  What guards
 * the stream after that is the uncommitted tip itself: the next appender finds
 * it with a dirty snapshot and waits for that transaction, as a unique index
 * would.  A dirty snapshot also means that appends decide by the newest state
 * in every isolation level: an old snapshot's last_segment would let a version
 * be written twice, in two segments, where no unique index sees it.
 */
#include "stream/stream.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/event.h"
#include "base/names.h"
#include "base/objects.h"
#include "log/durable.h"
#include "log/latest.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "shared/tips.h"
#include "table/leaf.h"
#include "table/rows.h"
#include "table/sequence.h"

static EsRelation streams_by_name = {"streams_by_name",
.index = {.keys = {Anum_es_streams_name},.columns = "name",.unique = true}};
static EsRelation streams_by_id = {"streams_by_id",
.index = {.keys = {Anum_es_streams_stream_id},.columns = "stream_id",.unique = true}};
static const EsColumn columns[Natts_es_streams] = {
	{"stream_id", INT8OID}, {"first_segment", INT8OID}, {"last_segment", INT8OID}, {"truncated_before", INT8OID},
	{"created_at", TIMESTAMPTZOID}, {"truncated_at", TIMESTAMPTZOID}, {"category_key", INT4OID}, {"deleted", BOOLOID},
	{"has_hidden", BOOLOID}, {"name", TEXTOID}
};
const EsShape es_stream_shape = ES_SHAPE(&es_base_streams, &streams_by_name, columns);

PG_FUNCTION_INFO_V1(es_stream_version);

/* ---- rows ---- */

/* es_stream_deform reads a row of eventstore.streams; the name is left to the caller. */
void
es_stream_deform(TupleTableSlot *slot, EsStream *stream)
{
	Datum	   *v;

	slot_getsomeattrs(slot, Natts_es_streams);
	v = slot->tts_values;
	stream->id = DatumGetInt64(v[Anum_es_streams_stream_id - 1]);
	stream->first_segment = DatumGetInt64(v[Anum_es_streams_first_segment - 1]);
	stream->last_segment = DatumGetInt64(v[Anum_es_streams_last_segment - 1]);
	stream->truncated_before = DatumGetInt64(v[Anum_es_streams_truncated_before - 1]);
	stream->created_at = DatumGetTimestampTz(v[Anum_es_streams_created_at - 1]);
	stream->truncated_at = DatumGetTimestampTz(v[Anum_es_streams_truncated_at - 1]);
	stream->category_key = DatumGetInt32(v[Anum_es_streams_category_key - 1]);
	stream->deleted = DatumGetBool(v[Anum_es_streams_deleted - 1]);
	stream->has_hidden = DatumGetBool(v[Anum_es_streams_has_hidden - 1]);
	stream->tid = slot->tts_tid;
	stream->writer = es_rows_slot_xmin(slot);
}

/* Reads the row of eventstore.streams that one of its unique indexes finds for a key. */
static bool
find_stream_row(EsRelation *by, ScanKey key, Snapshot *snapshot, bool fresh, EsStream *stream)
{
	Relation	rel = es_base_open(&es_base_streams, AccessShareLock);
	Relation	index = es_base_open_index(by, rel, AccessShareLock);
	TupleTableSlot *slot = es_table_scan_slot(rel, &es_stream_shape);
	IndexScanDesc scan;
	bool		found;

	if (fresh)
		es_rows_renew_snapshot(rel, snapshot);
	else
		es_rows_require_sight(rel, *snapshot);
	scan = es_index_beginscan(rel, index, *snapshot, 1);
	index_rescan(scan, key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
	{
		es_stream_deform(slot, stream);
		ExecClearTuple(slot);
	}
	index_endscan(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return found;
}

/*
 * es_stream_find reads the row of a stream as a snapshot sees it; false if there is
 * none.  If the table was rewritten since, a fresh one is renewed, and any other is
 * 40001.
 */
bool
es_stream_find(const text *name, Snapshot *snapshot, bool fresh, EsStream *stream)
{
	ScanKeyData key;

	stream->name = name;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(name));
	return find_stream_row(&streams_by_name, &key, snapshot, fresh, stream);
}

/* es_stream_find_by_id does so for a stream's id; the name is left to the caller. */
bool
es_stream_find_by_id(int64 id, Snapshot *snapshot, bool fresh, EsStream *stream)
{
	ScanKeyData key;

	stream->name = NULL;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return find_stream_row(&streams_by_id, &key, snapshot, fresh, stream);
}

/* ---- hints ---- */

/*
 * Where this backend last saw a stream's row; invalid: nowhere yet.  Only ever
 * a hint: the row is read and its name compared.  Streams whose names hash to
 * one place take it from each other.
 */
#define HINTS	16384

static ItemPointerData *hints = NULL;

/* The place for where a stream's row is. */
static ItemPointer
hint_for_stream(const text *name)
{
	if (hints == NULL)
		hints = MemoryContextAllocZero(TopMemoryContext, sizeof(ItemPointerData) * HINTS);
	return &hints[es_names_hash(name) % HINTS];
}

/*
 * Reads the row that a hint points to, if it is there and is the stream's.
 * The table may have been cut at its end since.
 */
static bool
find_stream_at(ItemPointer hint, const text *name, Snapshot snapshot, EsStream *stream)
{
	Relation	rel;
	TupleTableSlot *slot;
	bool		found = false;

	if (!ItemPointerIsValid(hint))
		return false;
	rel = es_base_open(&es_base_streams, NoLock);	/* appends hold one */
	slot = es_table_scan_slot(rel, &es_stream_shape);
	if (ItemPointerGetBlockNumber(hint) < RelationGetNumberOfBlocks(rel) &&
		table_tuple_fetch_row_version(rel, hint, snapshot, slot))
	{
		const text *stored;

		es_stream_deform(slot, stream);
		stored = DatumGetTextPP(slot->tts_values[Anum_es_streams_name - 1]);
		found = es_names_same(stored, name);
		stream->name = name;
		ExecClearTuple(slot);
	}
	table_close(rel, NoLock);
	return found;
}

/* Reads a stream's row by what this session remembers of where it is, or else what others do. */
static bool
find_stream_by_hint(const text *name, Snapshot snapshot, EsStream *stream)
{
	ItemPointer own = hint_for_stream(name);
	ItemPointerData shared;

	return find_stream_at(own, name, snapshot, stream) ||
		(es_tips_find_row(es_names_hash(name), &shared) &&
		 !(ItemPointerIsValid(own) && ItemPointerEquals(&shared, own)) &&
		 find_stream_at(&shared, name, snapshot, stream));
}

/*
 * es_stream_find_newest reads the newest row of a stream, committed or this
 * transaction's; false if there is none.  Where another transaction is about
 * to make or change it, *in_progress is that transaction and the result tells
 * nothing; else it is InvalidTransactionId.
 */
bool
es_stream_find_newest(const text *name, EsStream *stream, TransactionId *in_progress)
{
	SnapshotData dirty;
	Snapshot	snapshot = &dirty;
	bool		found;

	InitDirtySnapshot(dirty);
	found = find_stream_by_hint(name, &dirty, stream) || es_stream_find(name, &snapshot, false, stream);
	*in_progress = found ? es_rows_met_in_progress(&dirty) : InvalidTransactionId;
	if (found)
		*hint_for_stream(name) = stream->tid;
	return found;
}

/* Fills the first slot for writing with a stream's row. */
static void
fill_stream_slot(EsTable *table, const EsStream *stream)
{
	TupleTableSlot *slot = es_table_slot(table, 0);
	Datum	   *v = slot->tts_values;

	v[Anum_es_streams_stream_id - 1] = Int64GetDatum(stream->id);
	v[Anum_es_streams_first_segment - 1] = Int64GetDatum(stream->first_segment);
	v[Anum_es_streams_last_segment - 1] = Int64GetDatum(stream->last_segment);
	v[Anum_es_streams_truncated_before - 1] = Int64GetDatum(stream->truncated_before);
	v[Anum_es_streams_created_at - 1] = TimestampTzGetDatum(stream->created_at);
	v[Anum_es_streams_truncated_at - 1] = TimestampTzGetDatum(stream->truncated_at);
	v[Anum_es_streams_category_key - 1] = Int32GetDatum(stream->category_key);
	v[Anum_es_streams_deleted - 1] = BoolGetDatum(stream->deleted);
	v[Anum_es_streams_has_hidden - 1] = BoolGetDatum(stream->has_hidden);
	v[Anum_es_streams_name - 1] = PointerGetDatum(stream->name);
	memset(slot->tts_isnull, false, Natts_es_streams * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

/*
 * es_stream_create writes the row of a new stream.  The caller holds the
 * stream's lock, knows that there is no row, and has set name, created_at, segments
 * and deleted.
 */
void
es_stream_create(EsStream *stream)
{
	EsTable		table;
	const char *name = VARDATA_ANY(stream->name);
	int			len = VARSIZE_ANY_EXHDR(stream->name);

	stream->id = es_sequence_take(&es_base_stream_id_seq, 1);
	stream->truncated_before = 1;
	stream->truncated_at = DT_NOBEGIN;
	stream->category_key = es_names_category_key(name, es_names_category_length(name, len));
	stream->has_hidden = false;
	es_table_open(&table, &es_stream_shape);
	fill_stream_slot(&table, stream);
	es_table_insert(&table, 1);
	stream->tid = table.tid;
	es_table_close(&table);
}

/*
 * es_stream_update writes what has changed of a stream into its row.  The caller holds
 * the stream's lock, no other transaction has an uncommitted event of it, and the row
 * is the newest.
 */
void
es_stream_update(EsStream *stream)
{
	EsTable		table;

	/* the row may be of this very command, which must have ended to change it */
	CommandCounterIncrement();
	es_table_open(&table, &es_stream_shape);
	fill_stream_slot(&table, stream);
	es_table_update(&table, &stream->tid);
	stream->tid = table.tid;
	es_table_close(&table);
}

/* ---- events of a stream, newest state ---- */

/* Takes the tip from a row that a dirty snapshot has seen. */
static void
read_tip(TupleTableSlot *slot, EsTip *tip)
{
	bool		isnull;

	tip->version = DatumGetInt64(slot_getattr(slot, Anum_es_events_version, &isnull));
	tip->recorded_at = DatumGetTimestampTz(slot_getattr(slot, Anum_es_events_recorded_at, &isnull));
}

/*
 * Takes the tip from the stream's row, if its last event is hidden and so may have been
 * removed; false if it is not.
 */
static bool
take_hidden_tip(const EsStream *stream, EsTip *tip)
{
	if (stream->truncated_before <= 1 || stream->deleted)
		return false;
	tip->version = stream->truncated_before - 1;
	tip->recorded_at = stream->truncated_at;
	return true;
}

/* Reads the tip from its row, found by the index; false if the snapshot does not see it. */
static bool
read_tip_at(EsTable *open, ItemPointer tid, EsTip *tip, Snapshot dirty)
{
	TupleTableSlot *slot = open->info->scan_slot;

	if (!table_tuple_fetch_row_version(open->rel, tid, dirty, slot))
		return false;
	read_tip(slot, tip);
	ExecClearTuple(slot);
	return true;
}

/*
 * Tells the tip by the last index entry of the stream; false if that does not.  Where it is
 * known to be committed its row is not read.
 */
static bool
find_tip_by_last_entry(const EsStream *stream, EsTable *open, EsTip *tip, Snapshot dirty)
{
	EsBtreeEntry last = {.keys = {stream->id}};
	EsTipPlace	place = {.stream_id = stream->id};
	uint32		hash = es_names_hash(stream->name);
	BlockNumber hint;
	Buffer		leaf;
	bool		found;

	if (!es_segment_is(stream->last_segment, open))
		return false;
	place.file = es_relation_file(open->rel);
	hint = es_tips_find_leaf(hash, stream->id, place.file);
	if (!es_table_find_last(open, es_segment_index(stream->last_segment, ES_INDEX_STREAM), &last, hint, &leaf))
		return false;
	tip->version = place.version = last.keys[1];
	tip->leaf = BufferGetBlockNumber(leaf);
	place.tid = last.tid;
	found = es_tips_find(hash, &place, &tip->recorded_at) ||
		read_tip_at(open, &last.tid, tip, dirty);
	ReleaseBuffer(leaf);
	return found;
}

/*
 * es_stream_note_tip tells all sessions of the tip that this transaction has given a stream:
 * the row that was last written to an open segment.  The caller holds the stream's short lock.
 */
void
es_stream_note_tip(EsStream *stream, const EsTip *tip, const EsTable *segment)
{
	EsTipPlace	place = {.stream_id = stream->id,.version = tip->version,.tid = segment->tid,.leaf = tip->leaf};

	place.file = es_relation_file(segment->rel);
	es_tips_note(es_names_hash(stream->name), &place, tip->recorded_at, &stream->tid);
}

/*
 * Reads the tip by an index scan, past what was rolled back; false if there is no event.  In a
 * sealed segment the entry tells all, if the row can be seen by everybody and none there
 * was recorded after the time that matters.
 */
static bool
scan_for_tip(const EsStream *stream, EsTable *open, TimestampTz by, EsTip *tip, Snapshot dirty)
{
	TimestampTz latest_at = by > DT_NOBEGIN ? es_latest_at(stream->last_segment) : DT_NOEND;
	EsSegmentScan scan = {.which = ES_INDEX_STREAM,.snapshot = dirty,.open = open,.needed = true,.index_only = true,
	.nkeys = 1};
	bool		known;
	bool		found = false;

	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
	if (!es_scan_begin(&scan, stream->last_segment))
		return false;
	while (!found && es_scan_next_known(&scan, BackwardScanDirection, &known))
	{
		found = true;
		if (known && latest_at <= by)
		{
			tip->version = es_scan_key(&scan, 2);
			tip->recorded_at = latest_at;
		}
		else if (index_fetch_heap(scan.scan, scan.slot))
			read_tip(scan.slot, tip);
		else
			found = false;
	}
	es_scan_end(&scan);
	return found;
}

/*
 * es_stream_find_tip tells what the newest event of a stream is or was, committed or
 * this transaction's; false if its last segment has none, and none was removed.
 * *in_progress as above.  open is a segment that is open for writing, or NULL.
 *
 * When it was recorded is told exactly, unless that was not after the time given: then it may be
 * some time from there to that one.  So an append that is made now reads no page of a segment
 * that is done with.
 *
 * Where the newest event has been removed, older ones may be there still, as somebody
 * needs them.
 *
 * A backward index scan takes in a whole page of a stream's entries at once,
 * so the last entry is looked up by itself first.  Its event may have been
 * rolled back: then the scan has to tell.
 */
bool
es_stream_find_tip(const EsStream *stream, EsTable *open, TimestampTz by, EsTip *tip,
				   TransactionId *in_progress)
{
	SnapshotData dirty;
	bool		found;

	InitDirtySnapshot(dirty);
	dirty.xmin = dirty.xmax = InvalidTransactionId; /* if it is not asked */
	tip->leaf = 0;
	found = find_tip_by_last_entry(stream, open, tip, &dirty) || scan_for_tip(stream, open, by, tip, &dirty);
	*in_progress = found ? es_rows_met_in_progress(&dirty) : InvalidTransactionId;
	if (found && tip->version >= stream->truncated_before - 1)
		return true;
	return take_hidden_tip(stream, tip) || found;
}

/* Reads a stream's version at one end of a segment; 0 if it has none there. */
static int64
read_edge_version(const EsStream *stream, int64 segment, ScanDirection direction, Snapshot *fresh)
{
	EsSegmentScan scan = {.fresh = fresh};
	bool		isnull;

	return DatumGetInt64(es_scan_edge_version(scan, segment, stream->id, direction, &isnull));
}

/*
 * Raises 55000 if a stream has had events in segments that are lost, of which
 * the given one is the highest: versions of what is there tell.
 */
static void
check_lost_segments(const EsStream *stream, int64 lost)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int64		after = 0;		/* the next version that there is */
	int64		first = Max(stream->truncated_before, 1);	/* those below do not
															 * matter */

	for (int64 n = lost + 1; after == 0 && n <= stream->last_segment; n++)
		after = read_edge_version(stream, n, ForwardScanDirection, &snapshot);
	for (int64 n = lost; n >= stream->first_segment && (after == 0 || after > first); n--)
	{
		int64		before = read_edge_version(stream, n, BackwardScanDirection, &snapshot);

		if (before == 0)
			continue;
		if (before != after - 1)
			break;
		after = read_edge_version(stream, n, ForwardScanDirection, &snapshot);
	}
	UnregisterSnapshot(snapshot);
	if (after == 0 || after > first)
		es_segment_refuse_lost(lost);
}

/*
 * es_stream_find_event_id tells the version of the event that a caller gave
 * this id, 0 if the stream has none, and, unless that is NULL, its position.
 * *in_progress as above.  The newest segment is asked first.  55000
 * if an event that might have it is in a segment that is lost.
 */
int64
es_stream_find_event_id(const EsStream *stream, const pg_uuid_t *id, int64 *position, TransactionId *in_progress)
{
	int64		version = 0;
	int64		lost = -1;

	*in_progress = InvalidTransactionId;
	for (int64 n = stream->last_segment; version == 0 && n >= stream->first_segment; n--)
	{
		SnapshotData dirty;
		EsSegmentScan scan = {.which = ES_INDEX_EVENT_ID,.snapshot = &dirty,.nkeys = 2};
		bool		isnull;

		InitDirtySnapshot(dirty);
		ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
		ScanKeyInit(&scan.keys[1], 2, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
		if (!es_scan_begin(&scan, n))
		{
			if (lost < 0 && scan.lost)
				lost = n;
			continue;
		}
		if (index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
		{
			version = DatumGetInt64(slot_getattr(scan.slot, Anum_es_events_version, &isnull));
			if (position)
				*position = DatumGetInt64(slot_getattr(scan.slot, Anum_es_events_position, &isnull));
			*in_progress = es_rows_met_in_progress(&dirty);
		}
		es_scan_end(&scan);
	}
	if (version == 0 && lost >= 0)
		check_lost_segments(stream, lost);
	return version;
}

/*
 * es_stream_version(stream): how many events the stream has had so far.
 *
 * 0 if it never had one.  Sees what is committed, and waits for it to be on disk, and this
 * transaction's own appends.  NULL is 22004, what cannot be a name 22023; 55000 if the segment of
 * its last event is detached.
 */
Datum
es_stream_version(PG_FUNCTION_ARGS)
{
	text	   *name = es_call_stream_arg(fcinfo, 0);
	EsSegmentScan scan = {.needed = true,.tells = true};
	Snapshot	snapshot;
	EsStream	stream;
	int64		version = 0;
	bool		isnull;

	es_right_require_stream(ES_RIGHT_READ, name);
	snapshot = es_rows_fresh_snapshot();
	scan.fresh = &snapshot;
	es_subscriber_refuse_part();
	if (es_stream_find(name, &snapshot, true, &stream))
	{
		es_scan_stream(&scan, stream.id);
		version = DatumGetInt64(es_scan_edge(&scan, stream.last_segment, BackwardScanDirection, Anum_es_events_version,
											 &isnull));
		/* what is left of it may be older than the last event that it had */
		if (version < stream.truncated_before - 1)
		{
			version = stream.truncated_before - 1;
			es_durable_flush_seen();
		}
	}
	UnregisterSnapshot(snapshot);
	es_durable_flush_noted();
	PG_RETURN_INT64(version);
}
