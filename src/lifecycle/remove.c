/*
 * remove.c
 *		Removing hidden events.
 *
 * An event is hidden if its stream's row says that the stream begins after it.  Streams
 * that have such are found by an index.  The places of their events are collected by the
 * index of streams of each segment, sorted as they are on disk, and deleted in that order,
 * so that a page is written once however many streams it has events of.  What memory does
 * not hold is collected in another round.
 *
 * Rows are deleted as any other, a batch in a transaction: who has a snapshot of before
 * sees them still, followers find a hole at a position that is settled, and so pass it.  A
 * place is only a hint from one transaction to the next; the row that is there is looked at
 * again, under the lock on its segment, and it is asked again who needs it (need.c).
 *
 * The index of categories has only the first event of each run, which knows how long that
 * is (read/cursor.c).  Where the first one goes, the next one that is left becomes the
 * first, in the same transaction.  Events that go out of the middle leave a hole.
 *
 * A stream that has lost all that is hidden of it is marked so at the end of a round, unless
 * it was truncated further meanwhile, and names the first segment that it still has
 * events in; if it is deleted, its snapshots go.  Killed at any point, the next round finds
 * what is left; what is found twice is gone the second time.  Whoever is at it is the only
 * one (segment/sealer.c).
 *
 * If the store is sealed, what goes is noted with it (evidence/scavenged.c).
 *
 * Of locks nothing is held from one transaction to the next.  Appends do not wait: they
 * have a stream's row locked for a moment, which a round waits for, and not the other way.
 * Only who gives ids and comes upon one that is just being removed waits for a batch.
 */
#include "lifecycle/remove.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/event.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/process.h"
#include "evidence/scavenged.h"
#include "evidence/seal.h"
#include "fold/snapshot.h"
#include "lifecycle/need.h"
#include "log/scan.h"
#include "log/segment.h"
#include "segment/sealer.h"
#include "shared/counter.h"
#include "shared/headway.h"
#include "stream/change.h"
#include "stream/stream.h"
#include "table/rows.h"
#include "table/table.h"

#define BATCH			1000	/* events in a transaction */
#define STREAMS_BATCH	50		/* streams marked in one; appends to these
								 * wait */
#define MOST_PLACES		(4 * 1024 * 1024)	/* in a round */
#define MOST_STREAMS	(1024 * 1024)

/* A stream that has hidden events. */
typedef struct HiddenStream
{
	int64		id;
	int64		before;			/* versions before this are hidden */
	int64		first_segment;	/* that it still has events in */
	int64		last_segment;
	const text *name;
	bool		keeps;			/* some of them cannot go yet */
} HiddenStream;

/* Where a hidden event is, or was. */
typedef struct HiddenPlace
{
	int64		segment;
	ItemPointerData tid;
} HiddenPlace;

/* A run whose first event has gone. */
typedef struct CutRun
{
	int64		position;		/* of that event */
	int32		length;
	int32		category_key;
} CutRun;

/* A round: some streams, and what of their events is found. */
typedef struct Round
{
	EsRemoval  *removal;
	MemoryContext context;		/* the round's */
	HiddenStream *streams;		/* in order of id */
	int			nstreams;
	HiddenPlace *places;
	int64		count;
	HiddenPlace *moved;			/* where events are by now that were found
								 * somewhere else */
	int64		nmoved;
	int64		from_id;		/* where it begins: at this stream, */
	int64		after_version;	/* after this version of it, */
	bool		kept;			/* of which some before that are kept */
	bool		cut;			/* its last stream has more than it had room
								 * for */
	bool		last;			/* there is nothing after it */
} Round;

/* A batch: a transaction's part of a round, in one segment. */
typedef struct Batch
{
	Round	   *round;
	EsNeeds    *needs;
	Relation	rel;
	TupleTableSlot *slot;
	Snapshot	snapshot;
	ItemPointerData last;		/* the last place */
	CutRun	   *cut;
	int			ncut;
	EsScavenged *gone;			/* what is deleted, to be noted; or NULL */
	int			deleted;
} Batch;

static EsRelation streams_with_hidden = {"streams_with_hidden",
.index = {.keys = {Anum_es_streams_stream_id},.columns = "stream_id",.where = "has_hidden"}};

/* ---- what there is ---- */

/* es_remove_begin prepares a removal, in the current memory context. */
void
es_remove_begin(EsRemoval *removal, int64 most, int rate)
{
	HASHCTL		losses = {.keysize = sizeof(int64),.entrysize = sizeof(EsLoss),.hcxt = CurrentMemoryContext};

	memset(removal, 0, sizeof(*removal));
	removal->context = CurrentMemoryContext;
	removal->left = most;
	removal->rate = rate;
	removal->removed = es_names_map("eventstore removed", 64, sizeof(EsRemoved), CurrentMemoryContext);
	removal->losses = hash_create("eventstore losses", 64, &losses, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	removal->held_back = es_names_map("eventstore held back", 64, sizeof(EsHeldBack), CurrentMemoryContext);
}

/* A name, kept as long as the removal. */
static const text *
keep_text(const EsRemoval *removal, const char *name, int len)
{
	MemoryContext old = MemoryContextSwitchTo(removal->context);
	const text *kept = cstring_to_text_with_len(name, len);

	MemoryContextSwitchTo(old);
	return kept;
}

/* Finds the entry of a name in a map, or makes it; what follows the key is 0 then. */
static void *
find_entry(const EsRemoval *removal, HTAB *map, Size size, const char *name, int len)
{
	text	   *key = cstring_to_text_with_len(name, len);
	bool		found;
	void	   *entry = hash_search(map, &key, HASH_ENTER, &found);

	if (!found)
	{
		memset(entry, 0, size);
		*(const text **) entry = keep_text(removal, name, len);
	}
	pfree(key);
	return entry;
}

/* ---- finding ---- */

/*
 * Adds the places of a stream's hidden events in a segment, by the index alone; false if
 * that fills the round.
 */
static bool
collect_places(Round *round, const HiddenStream *stream, int64 segment, Snapshot *snapshot)
{
	EsSegmentScan scan = {.which = ES_INDEX_STREAM,.fresh = snapshot,.own_slot = true,.wants_keys = true,.nkeys = 3};
	ItemPointer tid;

	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
	ScanKeyInit(&scan.keys[1], 2, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(round->after_version));
	ScanKeyInit(&scan.keys[2], 2, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(stream->before));
	if (!es_scan_begin(&scan, segment))
		return true;
	while (round->count < MOST_PLACES && (tid = index_getnext_tid(scan.scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		round->places[round->count].segment = segment;
		round->places[round->count++].tid = *tid;
		round->after_version = es_scan_key(&scan, 2);
	}
	es_scan_end(&scan);
	return round->count < MOST_PLACES;
}

/* Notes a stream, and where its hidden events are; false if the round is full. */
static bool
collect_stream(Round *round, const EsStream *row, const text *name, Snapshot *snapshot)
{
	HiddenStream *stream = &round->streams[round->nstreams++];
	bool		room = true;

	if (round->from_id != row->id)
	{
		round->from_id = row->id;
		round->after_version = 0;
		round->kept = false;
	}
	stream->id = row->id;
	stream->before = row->truncated_before;
	stream->first_segment = row->first_segment;
	stream->last_segment = row->last_segment;
	stream->name = (const text *) datumCopy(PointerGetDatum(name), false, -1);
	for (int64 n = row->first_segment; room && n <= row->last_segment; n++)
		room = collect_places(round, stream, n, snapshot);
	stream->keeps = round->kept;
	round->cut = !room;
	return room && round->nstreams < MOST_STREAMS;
}

/* Finds the next streams that have hidden events, and where these are. */
static void
collect_round(Round *round)
{
	MemoryContext old = MemoryContextSwitchTo(round->context);
	Relation	rel = es_base_open(&es_base_streams, AccessShareLock);
	Relation	index = es_base_open_index(&streams_with_hidden, rel, AccessShareLock);
	Snapshot	snapshot = es_rows_fresh_snapshot();
	Snapshot	fresh = es_rows_fresh_snapshot();	/* of segments */
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;
	bool		room = true;

	round->cut = false;
	es_table_check(rel, &es_stream_shape);
	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(round->from_id));
	index_rescan(scan, &key, 1, NULL, 0);
	while (room && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		EsStream	stream;

		CHECK_FOR_INTERRUPTS();
		es_stream_deform(slot, &stream);
		room = collect_stream(round, &stream, DatumGetTextPP(slot->tts_values[Anum_es_streams_name - 1]), &fresh);
	}
	round->last = room;
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(fresh);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	MemoryContextSwitchTo(old);
}

/* es_remove_any_hidden tells whether there is a stream that has hidden events. */
bool
es_remove_any_hidden(void)
{
	Relation	rel = es_base_open(&es_base_streams, AccessShareLock);
	Relation	index = es_base_open_index(&streams_with_hidden, rel, AccessShareLock);
	Snapshot	snapshot = es_rows_fresh_snapshot();
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_index_beginscan(rel, index, snapshot, 0);
	bool		found;

	index_rescan(scan, NULL, 0, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return found;
}

/* Orders places as they are on disk. */
static int
compare_places(const void *a, const void *b)
{
	const HiddenPlace *left = a;
	const HiddenPlace *right = b;

	if (left->segment != right->segment)
		return left->segment < right->segment ? -1 : 1;
	return ItemPointerCompare((ItemPointer) &left->tid, (ItemPointer) &right->tid);
}

/* ---- deleting ---- */

/* How much room a value takes out of line. */
static int64
size_out_of_line(Datum value)
{
	return VARATT_IS_EXTERNAL(DatumGetPointer(value)) ? toast_datum_size(value) : 0;
}

/* Counts the event in a slot as removed. */
static void
count_removed(EsRemoval *removal, const EsEvent *event, TupleTableSlot *slot)
{
	const text *stream = DatumGetTextPP(event->stream);
	const char *name = VARDATA_ANY(stream);
	EsRemoved  *removed = find_entry(removal, removal->removed, sizeof(EsRemoved), name,
									 es_names_category_length(name, VARSIZE_ANY_EXHDR(stream)));

	int64		segment = es_segment_of(event->position);
	int64		bytes = ExecFetchSlotHeapTuple(slot, false, NULL)->t_len + size_out_of_line(event->data) +
	size_out_of_line(event->metadata);
	bool		found;
	EsLoss	   *loss = hash_search(removal->losses, &segment, HASH_ENTER, &found);

	loss->bytes = bytes + (found ? loss->bytes : 0);
	removed->bytes += bytes;
	removed->events++;
	removal->left--;
}

/* Orders a stream and an id. */
static int
compare_hidden_stream(const void *key, const void *element)
{
	int64		id = *(const int64 *) key;
	int64		other = ((const HiddenStream *) element)->id;

	return id < other ? -1 : id > other;
}

/* Finds the stream of the round that an event is a hidden one of; NULL if it is of none. */
static HiddenStream *
find_hidden_stream(const Round *round, const EsEvent *event)
{
	HiddenStream *stream = bsearch(&event->stream_id, round->streams, round->nstreams, sizeof(HiddenStream),
								   compare_hidden_stream);

	return stream != NULL && event->version < stream->before ? stream : NULL;
}

/*
 * Tells whether the event that is at a place by now is hidden, and nobody needs it any
 * more; what is needed is counted by who needs it.
 */
static bool
may_remove(Batch *batch, const EsEvent *event)
{
	EsRemoval  *removal = batch->round->removal;
	HiddenStream *stream = find_hidden_stream(batch->round, event);
	const char *holder;
	EsHeldBack *held;

	if (stream == NULL)
		return false;
	holder = es_need_of(batch->needs, event);
	if (holder == NULL && removal->left > 0)
		return true;
	stream->keeps = true;
	if (holder != NULL)
	{
		held = find_entry(removal, removal->held_back, sizeof(EsHeldBack), holder, strlen(holder));
		held->events++;
	}
	return false;
}

/* Deletes the event at a place, if it is one that may go. */
static void
remove_at_place(Batch *batch, ItemPointer tid)
{
	EsEvent		event;

	if (!table_tuple_fetch_row_version(batch->rel, tid, batch->snapshot, batch->slot))
		return;
	es_event_deform(batch->slot, &event, true);
	if (!may_remove(batch, &event))
		return;
	if (event.run_length > 1)
	{
		CutRun	   *run = &batch->cut[batch->ncut++];

		run->position = event.position;
		run->length = event.run_length;
		run->category_key = event.category_key;
	}
	count_removed(batch->round->removal, &event, batch->slot);
	if (batch->gone)
		batch->gone[batch->deleted] = (EsScavenged)
	{
		event.position, event.stream_id, event.version
	};
	es_table_delete(batch->rel, tid);
	batch->deleted++;
}

/* Makes the event that a scan stands on the first of a run, which moves it. */
static void
begin_run_with(Batch *batch, EsSegmentScan *scan, const EsEvent *event, int32 length)
{
	Round	   *round = batch->round;
	EsTable		table;
	TupleTableSlot *slot;

	es_table_begin(&table, batch->rel, &es_segment_event_shape);
	slot = es_table_slot(&table, 0);
	slot_getsomeattrs(scan->slot, Natts_es_events);
	memcpy(slot->tts_values, scan->slot->tts_values, sizeof(Datum) * Natts_es_events);
	memcpy(slot->tts_isnull, scan->slot->tts_isnull, sizeof(bool) * Natts_es_events);
	slot->tts_values[Anum_es_events_run_length - 1] = Int32GetDatum(length);
	ExecStoreVirtualTuple(slot);
	es_table_update(&table, &scan->slot->tts_tid);
	/* else this batch has looked at it already */
	if (find_hidden_stream(round, event) != NULL && ItemPointerCompare(&scan->slot->tts_tid, &batch->last) > 0)
	{
		round->moved[round->nmoved].segment = es_segment_of(event->position);
		round->moved[round->nmoved++].tid = table.tid;
	}
	es_table_end(&table);
}

/* Gives a run whose first event has gone another one: the next event that is left. */
static void
mend_run(Batch *batch, int64 segment, const CutRun *run, Snapshot *snapshot)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = snapshot,.own_slot = true,.nkeys = 2};
	int64		last = run->position + run->length - 1;

	ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(run->position));
	ScanKeyInit(&scan.keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	if (!es_scan_begin(&scan, segment))
		return;
	if (index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
	{
		EsEvent		event;

		es_event_deform(scan.slot, &event, false);
		/* else it begins a run already, as the one before it was cut before */
		if (event.run_length == 0 && event.category_key == run->category_key)
			begin_run_with(batch, &scan, &event, last - event.position + 1);
	}
	es_scan_end(&scan);
}

/* Mends the runs that a batch has cut. */
static void
mend_runs(Batch *batch, int64 segment)
{
	Snapshot	snapshot;

	if (batch->ncut == 0)
		return;
	CommandCounterIncrement();
	snapshot = es_rows_fresh_snapshot();
	for (int i = 0; i < batch->ncut; i++)
		mend_run(batch, segment, &batch->cut[i], &snapshot);
	UnregisterSnapshot(snapshot);
}

/*
 * Says that a segment has lost events: what it was counted as is wrong, and it is to be
 * looked at when segments are sealed.
 */
static void
forget_count_of_segment(int64 segment)
{
	EsSegmentNote note = {.events = -1};

	es_segment_note(segment, &note);
}

/*
 * Removes what a batch's places have, in a transaction, and returns how much that was; the
 * places are of one segment, and in order.
 */
static int
remove_batch(Round *round, const HiddenPlace *places, int64 count)
{
	Batch		batch = {.round = round,.last = places[count - 1].tid};
	bool		lost;

	StartTransactionCommand();
	batch.rel = es_segment_open(places[0].segment, RowExclusiveLock, &lost);
	if (batch.rel != NULL)
	{
		batch.needs = es_need_read();
		batch.cut = palloc(sizeof(CutRun) * count);
		batch.gone = es_seal_minds_removal() ? palloc(sizeof(EsScavenged) * count) : NULL;
		batch.slot = table_slot_create(batch.rel, NULL);
		batch.snapshot = es_rows_fresh_snapshot();
		for (int64 i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			remove_at_place(&batch, (ItemPointer) &places[i].tid);
		}
		UnregisterSnapshot(batch.snapshot);
		ExecDropSingleTupleTableSlot(batch.slot);
		mend_runs(&batch, places[0].segment);
		if (batch.deleted > 0)
			forget_count_of_segment(places[0].segment);
		if (batch.gone)
			es_scavenged_note(batch.gone, batch.deleted);
		table_close(batch.rel, NoLock);
	}
	CommitTransactionCommand();
	es_counter_add(ES_COUNT_SCAVENGED_EVENTS, batch.deleted);
	es_headway_add(batch.deleted);
	es_process_flush_wal(false);
	return batch.deleted;
}

/* Sleeps so long that what was removed since a time does not come to more than the rate. */
static void
keep_to_rate(const EsRemoval *removal, TimestampTz since, int removed)
{
	static uint32 wait_event = 0;
	TimestampTz until;

	if (removal->rate == 0)
		return;
	until = since + (int64) removed * USECS_PER_SEC / removal->rate;
	for (;;)
	{
		long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		CHECK_FOR_INTERRUPTS();
		if (ms <= 0)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
						 es_base_wait_event(&wait_event, "EventstoreScavengePace"));
		ResetLatch(MyLatch);
	}
}

/* Removes what places have, as long as there is something that may go. */
static void
remove_places(Round *round, HiddenPlace *places, int64 count)
{
	qsort(places, count, sizeof(HiddenPlace), compare_places);
	for (int64 i = 0, n; i < count && round->removal->left > 0; i += n)
	{
		TimestampTz since = GetCurrentTimestamp();

		for (n = 1; n < BATCH && i + n < count && places[i + n].segment == places[i].segment; n++)
			;
		keep_to_rate(round->removal, since, remove_batch(round, &places[i], n));
	}
}

/* Removes what a round has found, and what has moved meanwhile. */
static void
remove_round(Round *round)
{
	HiddenPlace *places = round->places;
	int64		count = round->count;

	while (count > 0 && round->removal->left > 0)
	{
		/* no more events are moved than runs are cut */
		round->moved = MemoryContextAllocHuge(round->context, sizeof(HiddenPlace) * count);
		round->nmoved = 0;
		remove_places(round, places, count);
		places = round->moved;
		count = round->nmoved;
	}
}

/* ---- marking ---- */

/*
 * Finds the first segment that a stream still has an event in; false if that one is hidden,
 * as its segment was rewritten after its place was noted, or a segment is lost that may
 * have such.
 */
static bool
find_first_segment(const HiddenStream *stream, int64 *segment)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsSegmentScan probe = {.fresh = &snapshot};
	int64		version;
	bool		isnull;
	bool		lost = es_segment_is_lost(stream->last_segment);

	for (*segment = stream->first_segment;; ++*segment)
	{
		CHECK_FOR_INTERRUPTS();
		version = DatumGetInt64(es_scan_edge_version(probe, *segment, stream->id, ForwardScanDirection, &isnull));
		lost = lost || es_segment_is_lost(*segment);
		if (!isnull || lost || *segment >= stream->last_segment)
			break;
	}
	UnregisterSnapshot(snapshot);
	return !lost && (isnull || version >= stream->before);
}

/* Marks a stream that has nothing hidden any more; a deleted one if snapshots may be dropped. */
static void
mark_stream(EsRemoval *removal, const HiddenStream *hidden, bool may_drop)
{
	int64		first_segment;
	EsChange	change;
	EsChangeState state;
	bool		busy;

	/* it cannot be changed as long as its last event is away */
	if (es_segment_is_lost(hidden->last_segment) || !find_first_segment(hidden, &first_segment))
		return;
	state = es_change_begin(&change, hidden->name, false);
	busy = state == ES_CHANGE_BUSY || (state == ES_CHANGE_OPEN && change.stream.deleted && !may_drop);
	removal->streams_busy += busy;
	if (state != ES_CHANGE_OPEN)
		return;
	if (change.stream.deleted && !busy)
		es_snapshot_drop_older(change.stream.id, PG_INT64_MAX);
	if (change.stream.truncated_before == hidden->before && !busy)
	{
		change.stream.has_hidden = false;
		change.stream.first_segment = Max(change.stream.first_segment, first_segment);
		change.stream.name = hidden->name;
		es_change_write(&change);
	}
	es_change_end(&change);
}

/*
 * Marks the streams of a round that have nothing hidden any more.  Nobody is waited for once
 * a row is changed, so who drops snapshots is not at all.
 */
static void
mark_streams(const Round *round)
{
	bool		may_drop = false;

	for (int i = 0, n = 0; i < round->nstreams; i++)
	{
		if (round->streams[i].keeps || (round->cut && i == round->nstreams - 1))
			continue;
		if (n == 0)
		{
			StartTransactionCommand();
			may_drop = es_snapshot_begin_keep(false);
		}
		mark_stream(round->removal, &round->streams[i], may_drop);
		if (++n < STREAMS_BATCH)
			continue;
		CommitTransactionCommand();
		n = 0;
	}
	if (IsTransactionState())
		CommitTransactionCommand();
}

/*
 * es_remove_hidden removes hidden events, in transactions of its own, until none is left
 * that may go; outside of transactions.
 */
void
es_remove_hidden(EsRemoval *removal)
{
	Round		round = {.removal = removal};

	do
	{
		round.context = AllocSetContextCreate(removal->context, "eventstore removal", ALLOCSET_DEFAULT_SIZES);
		round.streams = MemoryContextAllocHuge(round.context, sizeof(HiddenStream) * MOST_STREAMS);
		round.places = MemoryContextAllocHuge(round.context, sizeof(HiddenPlace) * MOST_PLACES);
		round.nstreams = 0;
		round.count = 0;
		StartTransactionCommand();
		collect_round(&round);
		CommitTransactionCommand();
		remove_round(&round);
		if (round.nstreams > 0)
			round.kept = round.streams[round.nstreams - 1].keeps;
		if (removal->left > 0)
			mark_streams(&round);
		MemoryContextDelete(round.context);
	} while (!round.last && removal->left > 0);
}
