/*
 * tips.c
 *		Where the newest events of streams are, for all sessions.
 *
 * An append goes on from its stream's newest event, and has to know whether that
 * is committed, and when it was recorded.  Its row tells, but lies anywhere in the
 * segment: a page that the append needs for nothing else, to be read, where the log is
 * larger than the memory for it, and even written, for what the look leaves on it.  So
 * where the library is preloaded, who appends says so here, and where the stream's
 * row is as well, which spares the next session a search by name.
 *
 * A place a stream, by a hash of its name; streams with one hash take it from each
 * other.  Nothing here is needed: what is not found is looked for in the tables.
 *
 * What is found here is as good as the row.  The index of the segment says which
 * event is the stream's last, by version, and where its row is; only if a place says the
 * same of the same file does it speak of this event.  It counts only once its
 * transaction is known to have committed, which that marks itself, after its commit can be
 * seen by all: an event of one in progress, or of one that was rolled back with a
 * subtransaction, is never marked.  A committed newest event stays what it is, as versions are
 * given once; that it is hidden, or removed, the stream's row tells.  Of that only
 * the place is kept here, a hint: the row is read and its name compared.  Another hint is
 * the leaf on which the index has the event, which spares a descent to it (table/leaf.c).
 *
 * The stamp of a place says whether it is being written, or its event is committed, and
 * else counts the writes.  It is written by who holds the short lock of a stream of this hash; two
 * streams have two locks, and who comes second leaves it.  Who reads looks at the stamp
 * before and after.  A place fills a cache line, and appends share one only
 * where they meet on a stream.
 *
 * A crash empties all of it, and so takes back what it takes of commits that were not yet on
 * disk.
 */
#include "shared/tips.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "shared/memory.h"

/* The lowest bits of a stamp. */
#define BEING_WRITTEN	UINT64CONST(1)
#define COMMITTED		UINT64CONST(2)
#define ONE_WRITE		UINT64CONST(4)

/* A place; under its stamp. */
typedef union EsTipShared
{
	struct
	{
		pg_atomic_uint64 stamp;
		Oid			database;
		uint32		hash;
		EsTipPlace	place;
		TimestampTz recorded_at;
		ItemPointerData row;	/* in eventstore.streams */
	}			tip;
	char		pad[64];
} EsTipShared;

/* One that this transaction has written. */
typedef struct WrittenTip
{
	EsTipShared *shared;
	uint64		stamp;
} WrittenTip;

/* Places for a thirty-second of the shared buffers, within bounds. */
#define FEWEST_PLACES	16384
#define MOST_PLACES		(1024 * 1024)

/* How many a transaction marks without memory of its own; at most it marks as many as there are. */
#define FEW_WRITTEN	64

static EsTipShared *shared = NULL;
static uint32 mask;				/* number of places - 1 */
static WrittenTip few_written[FEW_WRITTEN];
static WrittenTip *written = few_written;	/* else of the top transaction */
static uint32 nwritten = 0;
static uint32 written_room = FEW_WRITTEN;

/* How many places there are, a power of two. */
static uint32
count_tip_places(void)
{
	uint64		places = (uint64) NBuffers * BLCKSZ / 32 / sizeof(EsTipShared);

	places = Min(places, MOST_PLACES);
	return pg_prevpower2_32((uint32) Max(places, FEWEST_PLACES));
}

/* How much memory it takes. */
static Size
tips_size(void)
{
	return mul_size(count_tip_places(), sizeof(EsTipShared));
}

/* Makes the memory. */
static void
start_tips(void *memory)
{
	EsTipShared *places = memory;
	uint32		n = count_tip_places();

	for (uint32 i = 0; i < n; i++)
		pg_atomic_init_u64(&places[i].tip.stamp, 0);
}

/* Marks, at a commit, what this transaction has written; in any case it writes no more. */
static void
mark_tips_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		for (uint32 i = 0; i < nwritten; i++)
		{
			uint64		stamp = written[i].stamp;

			(void) pg_atomic_compare_exchange_u64(&written[i].shared->tip.stamp, &stamp, stamp | COMMITTED);
		}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		written = few_written;
		written_room = FEW_WRITTEN;
		nwritten = 0;
	}
}

/* Marks nothing of what was written so far: it may be what is rolled back. */
static void
drop_tips_at_subxact_abort(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		nwritten = 0;
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_tips_init(void)
{
	EsSharedPiece piece = {"eventstore tips", tips_size, start_tips, (void **) &shared};

	es_shared_add(&piece);
	RegisterXactCallback(mark_tips_at_xact_end, NULL);
	RegisterSubXactCallback(drop_tips_at_subxact_abort, NULL);
}

/* The place for a hash. */
static EsTipShared *
place_of_tip(uint32 hash)
{
	if (unlikely(mask == 0))
		mask = count_tip_places() - 1;
	return &shared[hash & mask];
}

/* Makes room for more to be marked; where there is none they are not. */
static bool
make_room_for_written(void)
{
	uint32		room = 2 * written_room;
	WrittenTip *more;

	if (written_room > mask)
		return false;
	more = MemoryContextAllocExtended(TopTransactionContext, sizeof(WrittenTip) * room, MCXT_ALLOC_NO_OOM);
	if (more == NULL)
		return false;
	memcpy(more, written, sizeof(WrittenTip) * nwritten);
	if (written != few_written)
		pfree(written);
	written = more;
	written_room = room;
	return true;
}

/*
 * es_tips_note says that an event of this transaction is the newest of a stream, by the
 * hash of the stream's name, and where the stream's row is.  The caller holds the stream's
 * short lock.
 */
void
es_tips_note(uint32 hash, const EsTipPlace *tip, TimestampTz recorded_at, ItemPointer row)
{
	EsTipShared *place;
	uint64		stamp;

	if (shared == NULL)
		return;
	place = place_of_tip(hash);
	stamp = pg_atomic_read_u64(&place->tip.stamp);
	if ((stamp & BEING_WRITTEN) != 0 ||
		!pg_atomic_compare_exchange_u64(&place->tip.stamp, &stamp, stamp | BEING_WRITTEN))
		return;
	place->tip.database = MyDatabaseId;
	place->tip.hash = hash;
	place->tip.place = *tip;
	place->tip.recorded_at = recorded_at;
	place->tip.row = *row;
	pg_write_barrier();
	stamp = (stamp & ~(BEING_WRITTEN | COMMITTED)) + ONE_WRITE;
	pg_atomic_write_u64(&place->tip.stamp, stamp);
	if (likely(nwritten < written_room) || make_room_for_written())
		written[nwritten++] = (WrittenTip)
	{
		place, stamp
	};
}

/* Reads a place of this database and of a hash as it was written once; *stamp becomes its stamp. */
static bool
read_tip_place(uint32 hash, EsTipShared *copy, uint64 *stamp)
{
	EsTipShared *place;

	if (shared == NULL)
		return false;
	place = place_of_tip(hash);
	*stamp = pg_atomic_read_u64(&place->tip.stamp);
	pg_read_barrier();
	memcpy(copy, place, sizeof(EsTipShared));
	pg_read_barrier();
	return *stamp != 0 && (*stamp & BEING_WRITTEN) == 0 && pg_atomic_read_u64(&place->tip.stamp) == *stamp &&
		copy->tip.database == MyDatabaseId && copy->tip.hash == hash;
}

/*
 * es_tips_find tells when an event was recorded that is a stream's newest, by the hash of the
 * stream's name; false if it is not known that it is committed.
 */
bool
es_tips_find(uint32 hash, const EsTipPlace *tip, TimestampTz *recorded_at)
{
	EsTipShared copy;
	uint64		stamp;

	if (!read_tip_place(hash, &copy, &stamp) || (stamp & COMMITTED) == 0 ||
		copy.tip.place.stream_id != tip->stream_id || copy.tip.place.version != tip->version ||
		copy.tip.place.file != tip->file || !ItemPointerEquals(&copy.tip.place.tid, (ItemPointer) &tip->tid))
		return false;
	*recorded_at = copy.tip.recorded_at;
	return true;
}

/*
 * es_tips_find_leaf tells on which leaf of its segment's index the entry of a stream's newest
 * event was, by the hash of the stream's name; 0 if nothing is known.
 */
BlockNumber
es_tips_find_leaf(uint32 hash, int64 stream_id, Oid file)
{
	EsTipShared copy;
	uint64		stamp;

	if (!read_tip_place(hash, &copy, &stamp) || copy.tip.place.stream_id != stream_id || copy.tip.place.file != file)
		return 0;
	return copy.tip.place.leaf;
}

/*
 * es_tips_find_row tells where the row of a stream may be, by the hash of its name; false if
 * nothing is known.
 */
bool
es_tips_find_row(uint32 hash, ItemPointer row)
{
	EsTipShared copy;
	uint64		stamp;

	if (!read_tip_place(hash, &copy, &stamp))
		return false;
	*row = copy.tip.row;
	return true;
}

/* es_tips_forget forgets the streams of a database that is gone, of whose sessions none is left. */
void
es_tips_forget(Oid database)
{
	uint32		n = shared ? count_tip_places() : 0;

	for (uint32 i = 0; i < n; i++)
	{
		EsTipShared *place = &shared[i];
		uint64		stamp = pg_atomic_read_u64(&place->tip.stamp);

		pg_read_barrier();
		/* who writes here meanwhile is of another database */
		if (place->tip.database != database || (stamp & BEING_WRITTEN) != 0 ||
			!pg_atomic_compare_exchange_u64(&place->tip.stamp, &stamp, stamp | BEING_WRITTEN))
			continue;
		place->tip.database = InvalidOid;
		pg_write_barrier();
		pg_atomic_write_u64(&place->tip.stamp, (stamp & ~COMMITTED) + ONE_WRITE);
	}
}
