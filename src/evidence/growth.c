/*
 * growth.c
 *		Sealing the log.
 *
 * The settled log after the last seal is read once, in order of position, and the tiles
 * of the tree grow at their end (tile.c): of each level the last tile, if it is not full,
 * is read, filled, and written again, and those that get full on the way are added.  So a
 * seal costs its events, and a tile of each level.  In memory is a tile of each level.
 *
 * All is one transaction: a crash, a cancel or a rollback leaves the tree as it was.  Who
 * seals at the same time waits, and then finds less to do, or nothing.  Appends and
 * readers do not wait, nor does scavenging (seal.c).
 */
#include "evidence/growth.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/event.h"
#include "base/pending.h"
#include "evidence/digest.h"
#include "evidence/merkle.h"
#include "evidence/seal.h"
#include "evidence/tile.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "read/cursor.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "shared/headway.h"
#include "table/rows.h"

PG_FUNCTION_INFO_V1(es_seal);

/* The end of the tree as it grows. */
typedef struct Growth
{
	EsDigester	digester;
	EsSeal		last;			/* the seal that it begins at; size 0: none */
	int64		size;			/* leaves by now */
	MemoryContext context;
	MemoryContext scratch;		/* of a tile's writing */
	EsTile	   *tiles[ES_TILE_LEVELS];	/* the last one of each level that was
										 * come to */
	bool		stored[ES_TILE_LEVELS]; /* it replaces one */
} Growth;

/* Raises VE008 for tiles that are not those of the last seal. */
ES_NORETURN static void
report_unfit_tile(int level, int64 number)
{
	ereport(ERROR,
			errcode(ES_ERRCODE_STORE_CORRUPT),
			errmsg("tile " INT64_FORMAT " of level %d of the seals' tree is not as the last seal left it", number, level),
			errdetail("Nothing can be sealed after it."),
			errhint("Call es_verify(), which says what was changed."));
}

/* Tells after which position the leaves of a new tile come. */
static int64
find_end_of_tile_before(int64 number)
{
	EsTile	   *before;

	if (number == 0)
		return 0;
	before = palloc(sizeof(EsTile));
	if (es_tile_read(0, number - 1, NULL, before) != ES_TILE_GOOD)
		report_unfit_tile(0, number - 1);
	return es_tile_last_position(before);
}

/* Gives the last tile of a level, as the last seal left it when it is come to first. */
static EsTile *
get_growing_tile(Growth *growth, int level)
{
	EsTile	   *tile = growth->tiles[level];
	int64		digests = growth->last.size >> (ES_TILE_HEIGHT * level);
	int			expected = digests % ES_TILE_SIZE;
	EsTileState state;

	if (tile != NULL)
		return tile;
	tile = growth->tiles[level] = MemoryContextAlloc(growth->context, sizeof(EsTile));
	state = es_tile_read(level, digests / ES_TILE_SIZE, NULL, tile);
	growth->stored[level] = expected > 0;
	if (state != (expected > 0 ? ES_TILE_GOOD : ES_TILE_MISSING) || tile->count != expected)
		report_unfit_tile(level, tile->number);
	if (expected == 0 && level == 0)
		tile->after = find_end_of_tile_before(tile->number);
	return tile;
}

/* Goes on to the next tile of a level. */
static void
begin_next_tile(Growth *growth, int level)
{
	EsTile	   *tile = growth->tiles[level];

	tile->after = level == 0 ? es_tile_last_position(tile) : 0;
	tile->number++;
	tile->count = 0;
	growth->stored[level] = false;
}

/* Writes the tiles that have grown and are full, each of whose roots goes to the next level. */
static void
write_full_tiles(Growth *growth)
{
	for (int level = 0; growth->tiles[level]->count == ES_TILE_SIZE; level++)
	{
		EsTile	   *above = get_growing_tile(growth, level + 1);

		es_merkle_tile_root(&growth->digester, growth->tiles[level]->digests, &above->digests[above->count++]);
		es_tile_write(growth->tiles[level], growth->stored[level]);
		begin_next_tile(growth, level);
	}
}

/* Writes the tiles that have grown and are not full. */
static void
write_last_tiles(Growth *growth)
{
	for (int level = 0; level < ES_TILE_LEVELS; level++)
		if (growth->tiles[level] && growth->tiles[level]->count > 0)
			es_tile_write(growth->tiles[level], growth->stored[level]);
}

/* Makes an event the next leaf. */
static void
grow_by_event(Growth *growth, const EsEvent *event)
{
	EsTile	   *tile = get_growing_tile(growth, 0);
	MemoryContext old;

	if (event->position <= es_tile_last_position(tile))
		report_unfit_tile(0, tile->number);
	es_digest_event(&growth->digester, event, &tile->digests[tile->count]);
	tile->positions[tile->count++] = event->position;
	growth->size++;
	es_headway_reach(event->position - growth->last.position);
	if (tile->count < ES_TILE_SIZE)
		return;
	old = MemoryContextSwitchTo(growth->scratch);
	write_full_tiles(growth);
	MemoryContextSwitchTo(old);
	MemoryContextReset(growth->scratch);
}

/*
 * Makes the events of a range leaves, at most so many, and returns how many; if there are
 * more, upto becomes the position before the next one.
 */
static int64
grow_by_segment(Growth *growth, const EsCursorRange *range, int64 most, int64 *upto)
{
	EsCursor	cursor;
	int64		taken = 0;

	for (es_cursor_open(&cursor, range); cursor.open && taken < most; es_cursor_advance(&cursor))
	{
		CHECK_FOR_INTERRUPTS();
		grow_by_event(growth, &cursor.event);
		taken++;
	}
	/* those after it are left to another time */
	if (cursor.open)
		*upto = cursor.event.position - 1;
	es_cursor_close(&cursor);
	return taken;
}

/*
 * Makes the events after the last seal, up to a position below which all is final, leaves,
 * at most so many; returns up to where all are.
 */
static int64
grow_by_log(Growth *growth, int64 upto, int64 most)
{
	int64		newest = es_segment_newest_reaching(upto);
	int64		last = es_segment_of(upto);
	int64		all = upto;
	Snapshot	snapshot = es_rows_fresh_snapshot();

	for (int64 n = es_segment_of(growth->last.position + 1); n <= Min(newest, last) && upto == all; n++)
	{
		EsCursorRange range = {.segment = n,.after = growth->last.position,.upto = upto,.snapshot = &snapshot};

		CHECK_FOR_INTERRUPTS();
		most -= grow_by_segment(growth, &range, most, &upto);
	}
	UnregisterSnapshot(snapshot);
	return upto;
}

/* Makes the seal of what the tree has grown to. */
static void
close_under_root(Growth *growth, int64 position)
{
	EsSeal		seal = {.position = position,.size = growth->size,.sealed_at = GetCurrentTimestamp()};
	EsMerkle   *tree = es_merkle_begin(&growth->digester, NULL);

	if (!es_merkle_root(tree, growth->size, &seal.root))
		report_unfit_tile(tree->bad_level, tree->bad_tile);
	es_seal_compute_chain(&growth->digester, &seal, growth->last.size > 0 ? &growth->last : NULL, &seal.chain);
	es_seal_write(&seal);
}

/* Finds the last seal, which the new one follows. */
static void
find_seal_before(EsSeal *seal)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();

	if (es_seal_find_last(PG_INT64_MAX, snapshot, seal) && seal->damaged)
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("the seal of position " INT64_FORMAT " cannot be read", seal->position),
				errhint("Call es_verify(), which says what was changed."));
	UnregisterSnapshot(snapshot);
}

/*
 * es_growth_seal seals the log, for who has the lock: all of it that is settled, or so many
 * events of it; returns up to where it is sealed then, and tells whether that is all.
 */
int64
es_growth_seal(int64 most, bool *all)
{
	Growth		growth = {.last = {0}};
	int64		settled;
	int64		upto;
	MemoryContext old;

	es_pending_flush();
	find_seal_before(&growth.last);
	settled = es_settle_compute();
	*all = true;
	if (settled <= growth.last.position)
		return growth.last.position;
	growth.size = growth.last.size;
	growth.context = AllocSetContextCreate(CurrentMemoryContext, "eventstore seal", ALLOCSET_DEFAULT_SIZES);
	growth.scratch = AllocSetContextCreate(growth.context, "eventstore seal's tile", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(growth.context);
	es_digest_begin(&growth.digester);
	es_headway_begin(ES_COMMAND_SEAL);
	es_headway_enter(ES_PHASE_HASHING, settled - growth.last.position);
	upto = grow_by_log(&growth, settled, most);
	*all = upto == settled;
	es_counter_add(ES_COUNT_SEALED_EVENTS, growth.size - growth.last.size);
	write_last_tiles(&growth);
	if (growth.size > 0)
		close_under_root(&growth, upto);
	es_headway_end();
	es_digest_end(&growth.digester);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(growth.context);
	return growth.size > 0 ? upto : 0;
}

/*
 * es_seal(): seals the log up to the settled position, which it returns; if nothing was
 * given out since the last seal, that one's, and 0 of a log without events.
 *
 * The transaction's own events, and what comes after them, are not settled, and left to
 * the next seal.  Waits for another one who seals; reads what is new, so it takes the
 * longer the more that is.  A rollback leaves no seal.  For 'admin' on all categories
 * (42501); 25006 on a standby, 55000 on a logical subscriber, which gets its
 * publisher's seals, and where a segment is away that has what is to be sealed.
 */
Datum
es_seal(PG_FUNCTION_ARGS)
{
	bool		all;

	PreventCommandDuringRecovery("es_seal()");
	PreventCommandIfReadOnly("es_seal()");
	PreventCommandIfParallelMode("es_seal()");
	es_right_require(ES_RIGHT_ADMIN, NULL);
	es_subscriber_prevent_write("es_seal()");
	(void) es_seal_lock(true);
	PG_RETURN_INT64(es_growth_seal(PG_INT64_MAX, &all));
}
