/*
 * inspect.c
 *		A part of the log held against what was sealed of it.
 *
 * A tile of leaves at a time: its events are read in order of position, and each one's
 * digest is compared with the leaf that is kept.  Where the two differ, it is looked which
 * of them fits the tree: the digests above the tile, or the last seal's root if the tile is
 * not full.
 *
 * A leaf without an event is as it should be if scavenging has noted that it took the
 * event away, and the event's stream does hide that version.
 *
 * All is read by one snapshot, under which no segment is rewritten: the caller has locked
 * them before it took it.
 */
#include "evidence/inspect.h"

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#include "base/event.h"
#include "evidence/legible.h"
#include "evidence/scavenged.h"
#include "log/scan.h"
#include "log/segment.h"
#include "stream/stream.h"

/* What has become of a leaf. */
typedef enum LeafState
{
	LEAF_UNSEEN,				/* its position is not looked at */
	LEAF_SEEN,					/* its event is there, and cannot be read */
	LEAF_SAME,
	LEAF_DIFFERS,
	LEAF_GONE
} LeafState;

/*
 * es_inspect_try does something in a subtransaction; false if what is stored is too damaged for
 * that.  Other errors are raised.
 */
bool
es_inspect_try(EsQuietWork work, void *arg)
{
	ErrorData  *error = es_quiet_try(work, arg);
	int			category = error ? ERRCODE_TO_CATEGORY(error->sqlerrcode) : 0;

	if (error == NULL)
		return true;
	if (category != ERRCODE_INTERNAL_ERROR && category != ERRCODE_DATA_EXCEPTION)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* es_inspect_begin prepares an inspector, whose first members are set. */
void
es_inspect_begin(EsInspector *inspector, Snapshot snapshot)
{
	inspector->snapshot = snapshot;
	inspector->after_number = -1;
	es_digest_begin(&inspector->digester);
	inspector->tree = es_merkle_begin(&inspector->digester, snapshot);
	inspector->filing = es_filing_begin();
	inspector->any_scavenged = es_scavenged_any(snapshot);
	inspector->scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore inspection", ALLOCSET_DEFAULT_SIZES);
}

/* es_inspect_end ends it. */
void
es_inspect_end(EsInspector *inspector)
{
	es_digest_end(&inspector->digester);
	pfree(inspector->filing);
	MemoryContextDelete(inspector->scratch);
}

/* ---- events against leaves ---- */

/* Says that something is wrong at a position, if that is looked at. */
static void
note_flaw(EsInspector *inspector, int64 position, EsFlaw flaw, int64 other)
{
	if (position >= inspector->from && position <= inspector->to)
		inspector->take(position, flaw, other, inspector->arg);
}

/* Makes the leaf of the event in a slot, and tells whether it is filed; false if illegible. */
static bool
find_leaf_of_row(EsInspector *inspector, TupleTableSlot *slot, EsDigest *leaf, bool *filed)
{
	MemoryContext old = MemoryContextSwitchTo(inspector->digester.scratch);
	EsEvent		event;
	bool		legible = es_legible_event(slot, &event);

	if (legible)
	{
		es_digest_event(&inspector->digester, &event, leaf);
		*filed = es_filing_is_right(inspector->filing, &event, &inspector->snapshot);
	}
	MemoryContextSwitchTo(old);
	return legible;
}

/* Compares the event in a slot with the leaves from one on; returns the one that comes next. */
static int
compare_with_leaf(EsInspector *inspector, int leaf, int64 position, TupleTableSlot *slot)
{
	const EsTile *tile = &inspector->tile;
	bool		filed;

	while (leaf < tile->count && tile->positions[leaf] < position)
		inspector->states[leaf++] = LEAF_GONE;
	if (leaf == tile->count || tile->positions[leaf] != position)
	{
		note_flaw(inspector, position, ES_FLAW_INSERTED, 0);
		return leaf;
	}
	inspector->states[leaf] = LEAF_SEEN;
	if (!find_leaf_of_row(inspector, slot, &inspector->found[leaf], &filed))
		note_flaw(inspector, position, ES_FLAW_ILLEGIBLE, 0);
	else if (!es_digest_same(&inspector->found[leaf], &tile->digests[leaf]))
		inspector->states[leaf] = LEAF_DIFFERS;
	else
	{
		inspector->states[leaf] = LEAF_SAME;
		if (!filed)
			note_flaw(inspector, position, ES_FLAW_MISFILED, 0);
	}
	return leaf + 1;
}

/* Says which event could not be read, in an error that comes of it. */
static void
say_which_event(void *arg)
{
	int64		position = *(const int64 *) arg;

	if (position > 0)
		errcontext("event at position " INT64_FORMAT, position);
}

/*
 * Goes over the events that a segment has of a range, in order of what its index says that
 * their positions are; returns the leaf that comes next.
 */
static int
compare_segment(EsInspector *inspector, int64 segment, int64 after, int64 upto, int leaf)
{
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &inspector->snapshot,.needed = true,.own_slot = true,
	.wants_keys = true,.nkeys = 2};
	int64		position = 0;
	ErrorContextCallback context = {.previous = error_context_stack,.callback = say_which_event,.arg = &position};

	ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&scan.keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));
	if (!es_scan_begin(&scan, segment))
		return leaf;
	es_filing_begin_segment(inspector->filing, segment);
	error_context_stack = &context;
	while (index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
	{
		CHECK_FOR_INTERRUPTS();
		position = es_scan_key(&scan, 1);
		leaf = compare_with_leaf(inspector, leaf, position, scan.slot);
	}
	error_context_stack = context.previous;
	es_scan_end(&scan);
	return leaf;
}

/* Goes over the events of a range of positions, and the leaves of the tile that are in it. */
static void
compare_range(EsInspector *inspector, int64 after, int64 upto)
{
	const EsTile *tile = &inspector->tile;
	int64		newest = es_segment_newest_reaching(upto);
	int64		last = es_segment_of(upto);
	int			leaf = 0;

	while (leaf < tile->count && tile->positions[leaf] <= after)
		leaf++;
	/* a forged tile or seal may name any position */
	for (int64 n = es_segment_of(after + 1); after < upto && n <= Min(last, newest); n++)
		leaf = compare_segment(inspector, n, after, upto, leaf);
	while (leaf < tile->count && tile->positions[leaf] <= upto)
		inspector->states[leaf++] = LEAF_GONE;
}

/* es_inspect_gap goes over positions that have no leaves. */
void
es_inspect_gap(EsInspector *inspector, int64 after, int64 upto)
{
	inspector->tile.count = 0;
	compare_range(inspector, Max(after, inspector->from - 1), Min(upto, inspector->to));
}

/* ---- what has gone ---- */

/* Tells whether a stream hides the event that scavenging is said to have removed. */
static bool
is_hidden(EsInspector *inspector, const EsScavenged *event)
{
	EsStream	stream;

	return es_stream_find_by_id(event->stream_id, &inspector->snapshot, false, &stream) &&
		event->version < stream.truncated_before;
}

/* Judges a leaf that is looked at, given what was noted of its event's removal, or NULL. */
static void
judge_removal(EsInspector *inspector, int leaf, const EsScavenged *event)
{
	int64		position = inspector->tile.positions[leaf];
	bool		gone = inspector->states[leaf] == LEAF_GONE;

	if (gone && event == NULL)
		note_flaw(inspector, position, ES_FLAW_REMOVED, 0);
	else if (gone && !is_hidden(inspector, event))
		note_flaw(inspector, position, ES_FLAW_NOT_HIDDEN, event->stream_id);
	else if (!gone && event != NULL)
		note_flaw(inspector, position, ES_FLAW_RETURNED, 0);
}

/* Judges which of the tile's events may be gone. */
static void
judge_removals(EsInspector *inspector)
{
	const EsTile *tile = &inspector->tile;
	EsScavenged *events = NULL;
	int			count = 0;
	int			next = 0;

	if (inspector->any_scavenged)
		events = es_scavenged_read(tile->after + 1, es_tile_last_position(tile), inspector->snapshot, &count);
	for (int leaf = 0; leaf < tile->count; leaf++)
	{
		while (next < count && events[next].position < tile->positions[leaf])
			next++;
		if (inspector->states[leaf] != LEAF_UNSEEN)
			judge_removal(inspector, leaf,
						  next < count && events[next].position == tile->positions[leaf] ? &events[next] : NULL);
	}
}

/* ---- leaves against the tree ---- */

/* Tells whether leaves, in the place of the tile's, fit what is above them, if that is there. */
static bool
do_leaves_fit(EsInspector *inspector, const EsDigest *leaves)
{
	const EsTile *tile = &inspector->tile;
	EsDigest	made;
	EsDigest	above;

	if (tile->count == ES_TILE_SIZE)
	{
		es_merkle_tile_root(&inspector->digester, leaves, &made);
		return !es_merkle_node(inspector->tree, ES_TILE_HEIGHT, tile->number, &above) || es_digest_same(&made, &above);
	}
	es_merkle_try(inspector->tree, tile->number, leaves, tile->count);
	return inspector->size != inspector->last_size ||
		!es_merkle_root(inspector->tree, inspector->size, &made) || es_digest_same(&made, &inspector->last_root);
}

/* Says which events are not those of their leaves, or which leaves are not those of the tree. */
static void
judge_leaves(EsInspector *inspector)
{
	EsTile	   *tile = &inspector->tile;
	bool		fit = do_leaves_fit(inspector, tile->digests);
	EsFlaw		flaw = ES_FLAW_CHANGED;

	if (!fit)
	{
		EsDigest	mended[ES_TILE_SIZE];

		for (int i = 0; i < tile->count; i++)
			mended[i] = inspector->states[i] == LEAF_DIFFERS ? inspector->found[i] : tile->digests[i];
		if (do_leaves_fit(inspector, mended))
			flaw = ES_FLAW_LEAF;
		else
			note_flaw(inspector, Max(tile->positions[0], inspector->from), ES_FLAW_TILE, es_tile_last_position(tile));
	}
	for (int i = 0; i < tile->count; i++)
		if (inspector->states[i] == LEAF_DIFFERS)
			note_flaw(inspector, tile->positions[i], flaw, 0);
}

/* ---- a tile ---- */

/* Finds the position that the leaves of a tile come after by the tile before. */
static int64
find_position_before(EsInspector *inspector, int64 number)
{
	if (inspector->after_number == number)
		return inspector->after;
	if (number == 0)
		return 0;
	if (es_tile_read_positions(number - 1, inspector->snapshot, &inspector->tile) == ES_TILE_GOOD)
		return es_tile_last_position(&inspector->tile);
	return -1;
}

/* Reads a tile; false if it is not what comes there, which is said. */
static bool
read_tile_in_turn(EsInspector *inspector, int64 number)
{
	int64		expected = Min(ES_TILE_SIZE, inspector->size - number * ES_TILE_SIZE);
	int64		before = find_position_before(inspector, number);
	EsTile	   *tile = &inspector->tile;
	bool		good = es_tile_read(0, number, inspector->snapshot, tile) == ES_TILE_GOOD &&
	tile->count >= expected && (before < 0 || before == tile->after);

	inspector->after_number = -1;
	if (!good)
	{
		note_flaw(inspector, Max(before + 1, inspector->from), ES_FLAW_TILE_LOST, 0);
		return false;
	}
	/* what comes after is of no seal */
	tile->count = expected;
	inspector->after_number = number + 1;
	inspector->after = es_tile_last_position(tile);
	return true;
}

/* es_inspect_tile looks for flaws in a tile of leaves, and in its events. */
void
es_inspect_tile(EsInspector *inspector, int64 number)
{
	const EsTile *tile = &inspector->tile;
	MemoryContext old = MemoryContextSwitchTo(inspector->scratch);

	CHECK_FOR_INTERRUPTS();
	if (read_tile_in_turn(inspector, number))
	{
		int64		upto = es_tile_last_position(tile);

		memset(inspector->states, LEAF_UNSEEN, sizeof(inspector->states));
		compare_range(inspector, Max(tile->after, inspector->from - 1), Min(upto, inspector->to));
		judge_removals(inspector);
		judge_leaves(inspector);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(inspector->scratch);
}
