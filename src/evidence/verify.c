/*
 * verify.c
 *		The log held against its seals, by several processes.
 *
 * What is sealed is gone through in slices of tiles.  For each the segments are locked first,
 * so that no compaction exchanges a table, and then a snapshot is taken: events and what
 * scavenging has noted are seen as of one moment.  A slice has few segments, so that
 * the lock table has room, and no snapshot is held for long.
 *
 * If a slice is large, parallel workers help (base/crew.c); the leader and they take
 * chunks of tiles from a shared counter.  Then, by the leader alone, positions after the
 * last leaf, the tree above the leaves, and the seals.
 *
 * What is damaged on disk may raise errors as it is read.  So a slice is tried in a
 * subtransaction; if that fails, each of its tiles is, and if that fails, each of its events.
 *
 * Nothing is locked that appends, scavenging or who seals would wait for.
 */
#include "evidence/verify.h"

#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "optimizer/cost.h"
#include "port/atomics.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/crew.h"
#include "evidence/audit.h"
#include "evidence/digest.h"
#include "evidence/findings.h"
#include "evidence/inspect.h"
#include "evidence/seal.h"
#include "evidence/tile.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "shared/headway.h"
#include "table/rows.h"

#define CHUNK_TILES		16		/* that one process takes at a time */
#define SLICE_TILES		16384
#define SLICE_SEGMENTS	64
#define CREW_TILES		128		/* in a slice that workers are worth it for */

PG_FUNCTION_INFO_V1(es_verify);

#define KEY_SHARED		UINT64CONST(0xE55EA10000000001)

/* What all processes share. */
typedef struct Shared
{
	pg_atomic_uint64 next_tile; /* those before are done, or somebody does
								 * them */
	int64		end_tile;
	int64		begin_tile;		/* of all that is verified */
	int64		from;			/* see EsInspector */
	int64		to;
	int64		size;
	int64		last_size;
	EsDigest	last_root;
} Shared;

/* A part of what is to be verified. */
typedef struct Slice
{
	int64		first_tile;
	int64		end_tile;		/* the first one that is not of it */
	int64		after;			/* positions after this one, */
	int64		upto;			/* and up to this one */
} Slice;

/* A call. */
typedef struct Verification
{
	DestReceiver pub;			/* takes rows of workers */
	EsInspector inspector;		/* the leader's */
	EsFindings	findings;
	Shared		alone;			/* of a slice without workers */
	int64		first_tile;
	int64		end_tile;
} Verification;

/* ---- tiles ---- */

/* Takes chunks of tiles that nobody has taken; crew: the leader's, or NULL. */
static void
inspect_chunks(EsInspector *inspector, Shared *shared, EsCrew *crew)
{
	int64		first;

	while ((first = pg_atomic_fetch_add_u64(&shared->next_tile, CHUNK_TILES)) < shared->end_tile)
	{
		es_headway_reach(first - shared->begin_tile);
		for (int64 n = first; n < Min(first + CHUNK_TILES, shared->end_tile); n++)
		{
			es_inspect_tile(inspector, n);
			while (crew && es_crew_take_row(crew))
				;
		}
	}
}

/* What a worker sends findings with. */
typedef struct Sender
{
	TupleTableSlot *row;
	DestReceiver *dest;
} Sender;

/* Sends a finding to the leader. */
static void
send_finding(int64 position, EsFlaw flaw, int64 other, void *arg)
{
	Sender	   *sender = arg;

	es_findings_fill(sender->row, position, flaw, other);
	(void) sender->dest->receiveSlot(sender->row, sender->dest);
}

/* es_verify_worker_main is a parallel worker of es_verify(). */
void
es_verify_worker_main(dsm_segment *segment, shm_toc *toc)
{
	Shared	   *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	Sender		sender = {.row = MakeSingleTupleTableSlot(es_findings_desc(), &TTSOpsVirtual)};
	EsInspector *inspector = palloc0(sizeof(EsInspector));

	sender.dest = es_crew_join(segment, toc);
	inspector->from = shared->from;
	inspector->to = shared->to;
	inspector->size = shared->size;
	inspector->last_size = shared->last_size;
	inspector->last_root = shared->last_root;
	inspector->take = send_finding;
	inspector->arg = &sender;
	es_inspect_begin(inspector, GetActiveSnapshot());
	inspect_chunks(inspector, shared, NULL);
	es_inspect_end(inspector);
	es_crew_leave(sender.dest);
	ExecDropSingleTupleTableSlot(sender.row);
}

/* ---- the leader ---- */

/* Takes a finding of a worker. */
static bool
receive_finding(TupleTableSlot *row, DestReceiver *dest)
{
	es_findings_take_row(&((Verification *) dest)->findings, row);
	return true;
}

/* Inspects the tiles of a slice with the help of workers. */
static void
inspect_with_crew(Verification *v, int nworkers)
{
	EsCrew		crew = {0};
	Shared	   *shared;

	es_crew_begin(&crew, "es_verify_worker_main", nworkers);
	es_crew_reserve(&crew, sizeof(Shared));
	es_crew_set_up(&crew);
	shared = es_crew_share(&crew, KEY_SHARED, sizeof(Shared));
	*shared = v->alone;
	pg_atomic_init_u64(&shared->next_tile, pg_atomic_read_u64(&v->alone.next_tile));
	es_crew_launch(&crew, v->findings.row->tts_tupleDescriptor, &v->pub);
	inspect_chunks(&v->inspector, shared, &crew);
	es_crew_finish(&crew);
}

/* What is tried. */
typedef struct Attempt
{
	Verification *v;
	const Slice *slice;
	int64		tile;			/* one of them */
} Attempt;

/* A try: inspects a slice, whose segments are locked. */
static void
inspect_slice(void *arg)
{
	Verification *v = ((Attempt *) arg)->v;
	const Slice *slice = ((Attempt *) arg)->slice;
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int			nworkers = slice->end_tile - slice->first_tile >= CREW_TILES ? max_parallel_workers_per_gather : 0;

	PushActiveSnapshot(snapshot);
	es_inspect_begin(&v->inspector, snapshot);
	pg_atomic_write_u64(&v->alone.next_tile, slice->first_tile);
	v->alone.end_tile = slice->end_tile;
	if (nworkers > 0)
		inspect_with_crew(v, nworkers);
	else
		inspect_chunks(&v->inspector, &v->alone, NULL);
	es_inspect_end(&v->inspector);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

/* A try: inspects a tile. */
static void
inspect_one_tile(void *arg)
{
	Attempt    *attempt = arg;
	EsInspector *inspector = &attempt->v->inspector;
	Snapshot	snapshot = es_rows_fresh_snapshot();

	es_inspect_begin(inspector, snapshot);
	es_inspect_tile(inspector, attempt->tile);
	es_inspect_end(inspector);
	UnregisterSnapshot(snapshot);
}

/* A try: reads a tile. */
static void
read_one_tile(void *arg)
{
	Attempt    *attempt = arg;
	EsTile	   *tile = &attempt->v->inspector.tile;

	if (es_tile_read(0, attempt->tile, NULL, tile) != ES_TILE_GOOD)
		tile->count = 0;
}

/* A try: inspects what comes after the last leaf. */
static void
inspect_end(void *arg)
{
	Attempt    *attempt = arg;
	EsInspector *inspector = &attempt->v->inspector;
	Snapshot	snapshot = es_rows_fresh_snapshot();

	es_inspect_begin(inspector, snapshot);
	if (es_tile_read_positions(attempt->v->end_tile - 1, snapshot, &inspector->tile) == ES_TILE_GOOD)
		es_inspect_gap(inspector, es_tile_last_position(&inspector->tile), attempt->slice->upto);
	es_inspect_end(inspector);
	UnregisterSnapshot(snapshot);
}

/* Inspects a tile in which something cannot be read, event by event. */
static void
inspect_by_event(Verification *v, Attempt *attempt)
{
	EsInspector *inspector = &v->inspector;
	EsTile	   *tile = &inspector->tile;
	int64		from = inspector->from;
	int64		to = inspector->to;
	int64		next;

	if (!es_inspect_try(read_one_tile, attempt))
	{
		es_findings_take(from, ES_FLAW_TILE_LOST, 0, &v->findings);
		return;
	}
	tile = memcpy(palloc(sizeof(EsTile)), tile, sizeof(EsTile));
	next = Max(tile->count > 0 ? tile->after + 1 : from, from);
	for (int i = 0; i < tile->count && next <= to; i++)
	{
		if (tile->positions[i] < next)
			continue;
		inspector->from = next;
		inspector->to = Min(tile->positions[i], to);
		if (!es_inspect_try(inspect_one_tile, attempt))
			es_findings_take(inspector->to, ES_FLAW_ILLEGIBLE, 0, &v->findings);
		next = tile->positions[i] + 1;
	}
	inspector->from = from;
	inspector->to = to;
	pfree(tile);
}

/* Inspects a slice, whose segments are locked; if something cannot be read, tile by tile. */
static void
inspect_at_any_price(Verification *v, const Slice *slice)
{
	Attempt		attempt = {.v = v,.slice = slice};

	if (!es_inspect_try(inspect_slice, &attempt))
		for (attempt.tile = slice->first_tile; attempt.tile < slice->end_tile; attempt.tile++)
		{
			CHECK_FOR_INTERRUPTS();
			if (!es_inspect_try(inspect_one_tile, &attempt))
				inspect_by_event(v, &attempt);
		}
	if (slice->end_tile == v->end_tile && v->end_tile * ES_TILE_SIZE >= v->inspector.size &&
		!es_inspect_try(inspect_end, &attempt))
		es_findings_take(slice->upto, ES_FLAW_ILLEGIBLE, 0, &v->findings);
}

/* Finds the positions of a slice that ends before a tile. */
static void
bound_slice(const Verification *v, Slice *slice, int64 end_tile, Snapshot snapshot)
{
	slice->end_tile = end_tile;
	slice->upto = v->inspector.to;
	if (end_tile < v->end_tile)
		(void) es_tile_read_after(end_tile, snapshot, &slice->upto);
	slice->upto = Min(slice->upto, v->inspector.to);
}

/* Finds the slice that begins with a tile. */
static Slice
find_slice(const Verification *v, int64 first_tile)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	Slice		slice = {.first_tile = first_tile,.after = v->inspector.from - 1};
	int64		tiles = Min(SLICE_TILES, v->end_tile - first_tile);
	int64		after;

	if (es_tile_read_after(first_tile, snapshot, &after))
		slice.after = Max(slice.after, Min(after, v->inspector.to));
	bound_slice(v, &slice, first_tile + tiles, snapshot);
	while (tiles > 1 && es_segment_of(slice.upto) - es_segment_of(slice.after + 1) > SLICE_SEGMENTS)
		bound_slice(v, &slice, first_tile + (tiles /= 2), snapshot);
	UnregisterSnapshot(snapshot);
	return slice;
}

/* Locks the segments of a slice, or lets them go. */
static void
lock_slice_segments(List *relids, bool lock)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		if (lock)
			LockRelationOid(lfirst_oid(cell), AccessShareLock);
		else
			UnlockRelationOid(lfirst_oid(cell), AccessShareLock);
	}
}

/* Lists the segments of a slice that there are. */
static List *
list_slice_segments(const Slice *slice)
{
	int64		upto = Max(slice->upto, 1);
	int64		newest = es_segment_newest_reaching(upto);
	int64		last = es_segment_of(upto);
	List	   *relids = NIL;

	for (int64 n = es_segment_of(slice->after + 1); n <= Min(last, newest); n++)
	{
		Oid			relid = es_segment_relid(n);

		CHECK_FOR_INTERRUPTS();
		if (OidIsValid(relid))
			relids = lappend_oid(relids, relid);
	}
	return relids;
}

/* Goes through what is sealed, slice by slice. */
static void
inspect_all_slices(Verification *v)
{
	int64		next = v->first_tile;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore slice", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	while (next < v->end_tile)
	{
		Slice		slice = find_slice(v, next);
		List	   *relids = list_slice_segments(&slice);

		CHECK_FOR_INTERRUPTS();
		lock_slice_segments(relids, true);
		inspect_at_any_price(v, &slice);
		lock_slice_segments(relids, false);
		next = slice.end_tile;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* A try: holds seals, and the tree above the leaves, against each other. */
static void
audit_all(void *arg)
{
	Verification *v = ((Attempt *) arg)->v;
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsDigester	digester;
	EsAudit		audit = {.from = v->inspector.from,.to = v->inspector.to,.first_tile = v->first_tile,
		.last_tile = v->end_tile - 1,.size = v->inspector.size,.snapshot = snapshot,.digester = &digester,
	.take = es_findings_take,.arg = &v->findings};

	es_digest_begin(&digester);
	es_audit_tiles(&audit);
	es_audit_seals(&audit);
	es_digest_end(&digester);
	UnregisterSnapshot(snapshot);
}

/* Says where a level above that of the leaves has more digests than the sealed leaves make. */
static void
audit_end_above(Verification *v, int64 sealed, Snapshot snapshot)
{
	EsTile	   *tile = &v->inspector.tile;

	for (int level = 1; level < ES_TILE_LEVELS; level++)
	{
		int64		digests = sealed >> (ES_TILE_HEIGHT * level);
		int64		number = digests / ES_TILE_SIZE;
		EsTileState state = es_tile_read(level, number, snapshot, tile);
		int64		ignored;

		if ((state == ES_TILE_MISSING || (state == ES_TILE_GOOD && tile->count <= digests % ES_TILE_SIZE)) &&
			!es_tile_any_beyond(level, number + 1, snapshot, &ignored))
			continue;
		es_findings_take(v->inspector.to, ES_FLAW_TILE_LOST, level, &v->findings);
	}
}

/* Says from where on digests are kept that no seal is for. */
static void
audit_end(Verification *v, int64 sealed, Snapshot snapshot)
{
	int64		number = sealed / ES_TILE_SIZE;
	int			within = sealed % ES_TILE_SIZE;
	EsTile	   *tile = &v->inspector.tile;
	int64		after;

	if (es_tile_read_positions(number, snapshot, tile) == ES_TILE_GOOD && tile->count > within)
		es_findings_take(tile->positions[within], ES_FLAW_UNSEALED, 0, &v->findings);
	else if (es_tile_any_beyond(0, number + 1, snapshot, &after))
		es_findings_take(after + 1, ES_FLAW_UNSEALED, 0, &v->findings);
	else
		audit_end_above(v, sealed, snapshot);
}

/* Tells whether the positions that two neighbouring tiles say they have fit each other. */
static bool
do_tiles_meet(Verification *v, int64 number, Snapshot snapshot)
{
	EsTile	   *tile = &v->inspector.tile;
	int64		after;

	return es_tile_read_positions(number - 1, snapshot, tile) == ES_TILE_GOOD &&
		es_tile_read_after(number, snapshot, &after) && after == es_tile_last_position(tile);
}

/*
 * Finds the tiles that have the positions, of so many.  What says after which position a tile
 * comes may be forged, to keep others from being looked at; so if it does not fit the tile
 * before, all are.
 */
static void
find_tiles(Verification *v, int64 tiles, Snapshot snapshot)
{
	const EsInspector *inspector = &v->inspector;

	if (tiles <= 0 || inspector->from > inspector->to)
		return;
	v->first_tile = es_tile_find(inspector->from, tiles, snapshot);
	v->end_tile = es_tile_find(inspector->to, tiles, snapshot) + 1;
	if (v->first_tile < v->end_tile &&
		(v->first_tile == 0 || do_tiles_meet(v, v->first_tile, snapshot)) &&
		(v->end_tile == tiles || do_tiles_meet(v, v->end_tile, snapshot)))
		return;
	v->first_tile = 0;
	v->end_tile = tiles;
}

/* Takes a last seal that cannot be read for one of all digests that are kept. */
static void
guess_last_seal(Verification *v, EsSeal *last, int64 tiles, Snapshot snapshot)
{
	EsTile	   *tile = &v->inspector.tile;

	last->size = 0;
	if (tiles <= 0 || es_tile_read_positions(tiles - 1, snapshot, tile) != ES_TILE_GOOD)
		return;
	last->size = (tiles - 1) * ES_TILE_SIZE + tile->count;
	if (last->position < es_tile_last_position(tile))
		last->position = es_tile_last_position(tile);
}

/*
 * Finds out what there is to verify: what the last seal says, as far as digests are kept.
 * False if nothing is sealed.
 */
static bool
begin_verification(Verification *v, Snapshot snapshot)
{
	EsInspector *inspector = &v->inspector;
	EsSeal		last = {0};
	int64		tiles = es_tile_count(snapshot);
	bool		sealed = es_seal_find_last(PG_INT64_MAX, snapshot, &last);

	if (last.damaged)
		guess_last_seal(v, &last, tiles, snapshot);
	inspector->to = Min(inspector->to, last.position);
	inspector->last_size = last.damaged ? -1 : last.size;
	inspector->last_root = last.root;
	tiles = Min(tiles, last.size / ES_TILE_SIZE + (last.size % ES_TILE_SIZE > 0));
	inspector->size = Min(last.size, tiles * ES_TILE_SIZE);
	inspector->take = es_findings_take;
	inspector->arg = &v->findings;
	find_tiles(v, tiles, snapshot);
	return sealed;
}

/* Verifies, and returns what is found. */
static void
verify_sealed(Verification *v, int64 upto, ReturnSetInfo *result)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	bool		sealed = begin_verification(v, snapshot);
	EsInspector *inspector = &v->inspector;
	Attempt		attempt = {.v = v};

	es_findings_begin(&v->findings);
	pg_atomic_init_u64(&v->alone.next_tile, 0);
	v->alone.begin_tile = v->first_tile;
	v->alone.from = inspector->from;
	v->alone.to = inspector->to;
	v->alone.size = inspector->size;
	v->alone.last_size = inspector->last_size;
	v->alone.last_root = inspector->last_root;
	es_headway_enter(ES_PHASE_AUDITING, -1);
	if (inspector->from <= inspector->to && !es_inspect_try(audit_all, &attempt))
		es_findings_take(inspector->from, ES_FLAW_TILE_LOST, 1, &v->findings);
	if (upto > inspector->to && inspector->last_size >= 0)
		audit_end(v, inspector->last_size, snapshot);
	UnregisterSnapshot(snapshot);
	es_headway_enter(ES_PHASE_VERIFYING, v->end_tile - v->first_tile);
	inspect_all_slices(v);
	if (!sealed)
		ereport(NOTICE,
				errmsg("nothing is verified because nothing is sealed"),
				errhint("Call es_seal()."));
	es_findings_return(&v->findings, inspector, result);
}

/*
 * es_verify(from_position, to_position): what of the sealed log, and of its seals, is not as
 * it was sealed; each with its position and what is wrong, in order.
 *
 * NULL to_position: up to the last seal.  NULL from_position is 22004, a negative one 22023.
 * What is not sealed is not looked at.  Reads all of it, with parallel workers; waits for
 * nobody who writes.  For 'read' or 'admin' on all categories (42501); 55000 where a segment
 * is away, which it names.  Also on a standby and on a logical subscriber.
 */
Datum
es_verify(PG_FUNCTION_ARGS)
{
	Verification *v = palloc0(sizeof(Verification));
	int64		upto;

	v->pub.receiveSlot = receive_finding;
	v->inspector.from = es_call_position_arg(fcinfo, 0, "from_position");
	v->inspector.from = Max(v->inspector.from, 1);
	v->inspector.to = upto = es_call_limit_arg(fcinfo, 1, "to_position");
	es_call_refuse_parallel();
	es_right_require(ES_RIGHT_READ | ES_RIGHT_ADMIN, NULL);
	es_subscriber_refuse_part();
	es_headway_begin(ES_COMMAND_VERIFY);
	verify_sealed(v, upto, es_call_begin_rows(fcinfo));
	es_headway_end();
	return (Datum) 0;
}
