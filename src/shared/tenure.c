/*
 * tenure.c
 *		Leases on partitions of subscriptions, and how far these are delivered, between
 *		two writes of their rows.
 *
 * With the library preloaded a delivery need not write the partition's row, as long as
 * the row says who has the partition, and covers the lease: it is renewed here, and up to
 * where was delivered is noted here.  A row that may have such a note says so by a time,
 * kept_until, which no lease in a note goes past.  The note is about the row with
 * exactly that time.  So whatever ends or changes a lease only has to write the row with
 * another time, or none, and whatever undoes a write of the row undoes that: a rollback
 * finds the note of before still there.
 *
 * Notes are made at the commit of the transaction that delivered, and are its own until
 * then.  It has the partition's lock by then, still, so nobody who has that lock sees a row
 * without its note, and nobody else writes the note meanwhile.
 *
 * Places are found by hash, in buckets.  If a bucket is full of leases that matter,
 * there is no place, and the row is written by each delivery, as it is without preload.
 * A lease that has ended matters for another hour, since it tells how much was delivered
 * as it ended.  Each stripe of buckets has a lock, held for a few loads and stores.
 *
 * A crash empties the memory.  A row without its note is one of which less is known than
 * was (subscription/partition.c); nothing that is acknowledged depends on it.
 */
#include "shared/tenure.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared/memory.h"

#define BUCKETS			512
#define PLACES			8		/* a bucket */
#define MATTERS_US		(INT64CONST(3600) * USECS_PER_SEC)

/* A place for a note; under its bucket's lock. */
typedef struct EsTenurePlace
{
	EsTenure	tenure;			/* of no database: free */
	TimestampTz free_after;
} EsTenurePlace;

/* A note that this transaction has to make. */
typedef struct PendingTenure
{
	EsTenure	tenure;
	int			level;			/* of the transaction that it goes with */
} PendingTenure;

static EsTenurePlace (*shared)[PLACES] = NULL;

/* In the top transaction's memory, older ones first. */
static PendingTenure *pending = NULL;
static int	npending = 0;
static int	pending_size = 0;

/* How much memory it takes. */
static Size
tenures_size(void)
{
	return sizeof(EsTenurePlace) * BUCKETS * PLACES;
}

/* Makes the memory: zeros are free places. */
static void
start_tenures(void *memory)
{
}

/* ---- places ---- */

/* Tells whether two notes are of one partition. */
static bool
is_same_tenure(const EsTenure *a, const EsTenure *b)
{
	return a->subscription == b->subscription && a->partition == b->partition &&
		a->table == b->table && a->database == b->database;
}

/* The bucket of a partition. */
static uint32
find_bucket(const EsTenure *tenure)
{
	uint32		hash = murmurhash32((uint32) tenure->subscription ^ (uint32) (tenure->subscription >> 32));

	hash = murmurhash32(hash ^ (uint32) tenure->partition);
	return murmurhash32(hash ^ tenure->table ^ tenure->database) % BUCKETS;
}

/* The lock of a bucket. */
static LWLock *
bucket_lock(uint32 bucket)
{
	return es_shared_lock(ES_LOCK_TENURES + bucket % ES_TENURE_STRIPES);
}

/* Finds the place of a partition; NULL if it has none.  The caller holds the lock. */
static EsTenurePlace *
find_tenure_place(uint32 bucket, const EsTenure *tenure)
{
	for (int i = 0; i < PLACES; i++)
		if (is_same_tenure(&shared[bucket][i].tenure, tenure))
			return &shared[bucket][i];
	return NULL;
}

/*
 * Finds the place of a partition, or gives it one; NULL if there is none.  The caller holds
 * the lock, exclusive.
 */
static EsTenurePlace *
take_tenure_place(uint32 bucket, const EsTenure *tenure)
{
	EsTenurePlace *place = find_tenure_place(bucket, tenure);
	TimestampTz now;

	if (place)
		return place;
	now = GetCurrentTimestamp();
	for (int i = 0; i < PLACES; i++)
	{
		place = &shared[bucket][i];
		if (OidIsValid(place->tenure.database) && place->free_after >= now)
			continue;
		place->tenure = *tenure;
		place->tenure.kept_until = DT_NOBEGIN;	/* of no row yet */
		place->free_after = now + MATTERS_US;
		return place;
	}
	return NULL;
}

/* Makes a note, or takes away what there is of a partition that is no more. */
static void
publish_tenure(const EsTenure *tenure)
{
	uint32		bucket = find_bucket(tenure);
	EsTenurePlace *place;

	LWLockAcquire(bucket_lock(bucket), LW_EXCLUSIVE);
	place = tenure->kept_until == DT_NOBEGIN ? find_tenure_place(bucket, tenure) : take_tenure_place(bucket, tenure);
	if (place && tenure->kept_until == DT_NOBEGIN)
		place->tenure.database = InvalidOid;
	else if (place)
	{
		place->tenure = *tenure;
		place->free_after = tenure->lease_until + MATTERS_US;
	}
	LWLockRelease(bucket_lock(bucket));
}

/* ---- what this transaction has delivered ---- */

/* Forgets the notes that go with transactions at a nest level or deeper. */
static void
drop_tenures_from(int level)
{
	while (npending > 0 && pending[npending - 1].level >= level)
		npending--;
}

/* Follows the end of transactions. */
static void
publish_tenures_at_xact_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT)
		for (int i = 0; i < npending; i++)
			publish_tenure(&pending[i].tenure);
	pending = NULL;				/* goes with the transaction */
	npending = pending_size = 0;
}

/* Follows the end of subtransactions. */
static void
follow_tenures_at_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level;

	if (npending == 0)
		return;
	level = GetCurrentTransactionNestLevel();
	if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_tenures_from(level);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (int i = npending - 1; i >= 0 && pending[i].level >= level; i--)
			pending[i].level = level - 1;
}

/* Follows transactions, once a session delivers: appends need not pay for it. */
static void
begin_to_follow_transactions(void)
{
	static bool begun = false;

	if (begun)
		return;
	RegisterXactCallback(publish_tenures_at_xact_end, NULL);
	RegisterSubXactCallback(follow_tenures_at_subxact_end, NULL);
	begun = true;
}

/* Adds the memory, if the library is preloaded; called once, from _PG_init. */
void
es_tenure_init(void)
{
	EsSharedPiece piece = {"eventstore leases", tenures_size, start_tenures, (void **) &shared};

	es_shared_add(&piece);
}

/* Finds the newest note of this transaction about a partition. */
static PendingTenure *
find_pending_tenure(const EsTenure *tenure)
{
	for (int i = npending - 1; i >= 0; i--)
		if (is_same_tenure(&pending[i].tenure, tenure))
			return &pending[i];
	return NULL;
}

/*
 * es_tenure_reserve sees to it that there is a place for a partition; false if there is
 * none, and its row has to do.  What is known of it by others stays.
 */
bool
es_tenure_reserve(const EsTenure *tenure)
{
	EsTenure	own = *tenure;
	uint32		bucket;
	bool		found;

	if (shared == NULL)
		return false;
	own.database = MyDatabaseId;
	bucket = find_bucket(&own);
	LWLockAcquire(bucket_lock(bucket), LW_EXCLUSIVE);
	found = take_tenure_place(bucket, &own) != NULL;
	LWLockRelease(bucket_lock(bucket));
	return found;
}

/*
 * es_tenure_keep notes a lease, for this transaction now, and for all if it commits.  The
 * caller has the partition's lock, and has reserved a place.
 */
void
es_tenure_keep(const EsTenure *tenure)
{
	EsTenure	own = *tenure;
	PendingTenure *known;
	int			level = GetCurrentTransactionNestLevel();

	begin_to_follow_transactions();
	own.database = MyDatabaseId;
	known = find_pending_tenure(&own);
	if (known && known->level == level)
	{
		known->tenure = own;
		return;
	}
	if (npending == pending_size)
	{
		int			size = Max(16, pending_size * 2);

		pending = pending == NULL ? MemoryContextAlloc(TopTransactionContext, sizeof(PendingTenure) * size) :
			repalloc(pending, sizeof(PendingTenure) * size);
		pending_size = size;
	}
	pending[npending].tenure = own;
	pending[npending++].level = level;
}

/* es_tenure_forget has the place of a partition that is no more given up at the commit. */
void
es_tenure_forget(const EsTenure *tenure)
{
	EsTenure	gone = *tenure;

	if (shared == NULL)
		return;
	gone.kept_until = DT_NOBEGIN;
	es_tenure_keep(&gone);
}

/*
 * es_tenure_find fills in what is noted of the row that a partition, a table and kept_until
 * tell; false if there is nothing.
 */
bool
es_tenure_find(EsTenure *tenure)
{
	PendingTenure *own;
	EsTenurePlace *place;
	uint32		bucket;
	bool		found;

	if (shared == NULL)
		return false;
	tenure->database = MyDatabaseId;
	own = find_pending_tenure(tenure);
	if (own && own->tenure.kept_until == tenure->kept_until)
	{
		*tenure = own->tenure;
		return true;
	}
	bucket = find_bucket(tenure);
	LWLockAcquire(bucket_lock(bucket), LW_SHARED);
	place = find_tenure_place(bucket, tenure);
	found = place && place->tenure.kept_until == tenure->kept_until;
	if (found)
		*tenure = place->tenure;
	LWLockRelease(bucket_lock(bucket));
	return found;
}

/*
 * es_tenure_take_pending gives the next of the notes that this transaction would make at its
 * commit, the newest one of each partition, and takes it from them, for who writes the row
 * instead; false if there are no more.
 */
bool
es_tenure_take_pending(EsTenure *tenure)
{
	int			left = 0;

	if (npending == 0)
		return false;
	*tenure = pending[npending - 1].tenure;
	for (int i = 0; i < npending; i++)
		if (!is_same_tenure(&pending[i].tenure, tenure))
			pending[left++] = pending[i];
	npending = left;
	return true;
}

/* es_tenure_forget_all forgets all that is noted of a database that is gone. */
void
es_tenure_forget_all(Oid database)
{
	for (uint32 bucket = 0; shared && bucket < BUCKETS; bucket++)
	{
		LWLockAcquire(bucket_lock(bucket), LW_EXCLUSIVE);
		for (int i = 0; i < PLACES; i++)
			if (shared[bucket][i].tenure.database == database)
				shared[bucket][i].tenure.database = InvalidOid;
		LWLockRelease(bucket_lock(bucket));
	}
}
