/*
 * holders.c
 *		Who may still fill holes, and where their positions begin.
 *
 * The lock manager tells who holds the sequence (settle.c), but not since which
 * position.  That is known in one of three ways:
 *
 *	1. With the library preloaded each says so itself (shared/flight.c).
 *	2. What this backend has seen: who was no holder at the look before, when the last
 *	   value was H', has all its positions above H'.  So the look before is kept.
 *	   Until there has been one, nothing is known.
 *	3. A prepared transaction takes no more positions, and all that it has written is
 *	   in the tables.  So its positions begin where the first row of it is, and if
 *	   there is none above a settled position, it bounds nothing.  That is looked for
 *	   in the log, where 1 tells nothing: after a crash, a restart or a promotion, and
 *	   without preload.
 *
 * For 3:
 *
 *	- The transaction must be prepared before the sequence is read for how far to
 *	  search, so that all its positions are below that.  TwoPhaseGetXidByVirtualXID
 *	  tells only of those whose PREPARE is written; nothing runs in them any more.
 *	- Its rows are those that a dirty snapshot says are being inserted by it or by a
 *	  subtransaction of it.  The server knows the parents of these after a restart, too:
 *	  it notes them as it reads what was prepared.  A subtransaction that was rolled
 *	  back is not in progress, and its positions are holes for good.
 *	- Pages that the visibility map says all see have none.
 *	- No row of it escapes.  It keeps its lock on each segment that it has written to,
 *	  through PREPARE and restarts, so none of these can be detached, dropped,
 *	  reindexed or rewritten before it ends.  A segment that was not committed yet may be
 *	  of its own making: there the search ends, and so does what it proves.
 *	- Should it end meanwhile, a snapshot that is taken afterwards sees what it has
 *	  committed.
 *
 * The search begins at the settled position and ends at the first row of any of them,
 * or where another holder begins, since no more can be settled than that.  So in the
 * long run each position is searched once.  What is found is a fact that does not
 * change: it is kept with the look, and told to all where the library is preloaded.
 *
 * All that is kept here is of one log and of this backend; a crash leaves nothing.
 */
#include "log/holders.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/subtrans.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/lockdefs.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "base/objects.h"
#include "log/scan.h"
#include "log/segment.h"
#include "shared/flight.h"
#include "table/sequence.h"

/*
 * The look before this one: who held the sequence, in order of id, and a
 * position that those who came later are above.  In TopMemoryContext.
 */
static struct
{
	int64		upto;
	int			count;
	EsHolder   *holders;
}			last_look;

/* Compares two holders by their ids, for sorting and searching. */
static int
compare_holders(const void *a, const void *b)
{
	VirtualTransactionId x = ((const EsHolder *) a)->id;
	VirtualTransactionId y = ((const EsHolder *) b)->id;

	if (es_vxid_proc(x) != es_vxid_proc(y))
		return es_vxid_proc(x) < es_vxid_proc(y) ? -1 : 1;
	if (x.localTransactionId != y.localTransactionId)
		return x.localTransactionId < y.localTransactionId ? -1 : 1;
	return 0;
}

/*
 * es_holders_look looks who may still fill holes, in order of id; *count becomes how
 * many.  The result is in the current memory context.  The caller has read the sequence.
 */
EsHolder *
es_holders_look(Oid sequence, int *count)
{
	LOCKTAG		tag;
	VirtualTransactionId *ids;
	EsHolder   *holders;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, sequence);
	ids = GetLockConflicts(&tag, ShareLock, count);
	holders = palloc0(sizeof(EsHolder) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		holders[i].id = ids[i];
	pfree(ids);
	qsort(holders, *count, sizeof(EsHolder), compare_holders);
	return holders;
}

/* ---- prepared transactions ---- */

/* A search for the first row of prepared transactions. */
typedef struct PreparedSearch
{
	EsHolder   *holders;		/* those with prepared set are looked for */
	int			count;
	int64		after;			/* nothing of theirs is up to there */
	int64		end;			/* where to end */
	EsHolder   *found;			/* whose row is at after + 1; or NULL */
} PreparedSearch;

/* Finds the holder that a row in progress is of, if it is one of those. */
static EsHolder *
find_preparer(const PreparedSearch *search, TransactionId writer)
{
	TransactionId top;

	if (!TransactionIdIsValid(writer))
		return NULL;
	top = SubTransGetTopmostTransaction(writer);
	for (int i = 0; i < search->count; i++)
		if (TransactionIdIsValid(search->holders[i].prepared) && search->holders[i].prepared == top)
			return &search->holders[i];
	return NULL;
}

/* Searches one segment; false if that is as far as a search can go. */
static bool
search_segment_for_prepared(PreparedSearch *search, int64 segment)
{
	SnapshotData dirty;
	EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = &dirty,.own_slot = true,.index_only = true,.nkeys = 2};
	int64		last = es_segment_last_position(segment);
	int64		end = Min(search->end, last);

	InitDirtySnapshot(dirty);
	ScanKeyInit(&scan.keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(search->after));
	ScanKeyInit(&scan.keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(end));
	if (es_scan_begin(&scan, segment))
	{
		while (search->found == NULL && es_scan_next_doubtful(&scan))
		{
			bool		isnull;

			search->found = find_preparer(search, dirty.xmin);
			if (search->found)
				end = DatumGetInt64(slot_getattr(scan.slot, Anum_es_events_position, &isnull)) - 1;
		}
		es_scan_end(&scan);
	}
	else if (!scan.lost)
		return false;
	search->after = end;
	return search->found == NULL;
}

/*
 * Searches the log for where the positions of prepared transactions begin, up to
 * where another holder does.  Returns a position that all of theirs are above.
 */
static int64
search_for_prepared(EsHolder *holders, int count, int64 after, int64 others)
{
	XLogRecPtr	lsn;
	int64		given = es_sequence_read(&es_base_position_seq, &lsn);
	PreparedSearch search = {.holders = holders,.count = count,.after = after,.end = Min(others, given)};
	bool		all;

	/* keeps what is in progress among what pg_subtrans tells of */
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	for (int64 n = es_segment_of(after + 1); search.after < search.end; n++)
		if (!search_segment_for_prepared(&search, n))
			break;
	UnregisterSnapshot(snapshot);
	all = search.found == NULL && search.after >= given;
	for (int i = 0; i < count; i++)
	{
		EsHolder   *holder = &holders[i];

		if (!TransactionIdIsValid(holder->prepared))
			continue;
		holder->exact = all || holder == search.found;
		holder->below = all ? PG_INT64_MAX : Max(holder->below, search.after);
		if (holder->exact)
			es_flight_learn(holder->prepared, holder->id, holder->below);
	}
	return all ? PG_INT64_MAX : search.after;
}

/* ---- all of them ---- */

/* Finds out where a holder's positions begin, but for a search. */
static void
find_first_position(EsHolder *holder)
{
	const EsHolder *before;
	bool		more;

	holder->exact = es_flight_find(holder->id, &holder->below);
	if (holder->exact)
		return;
	before = last_look.count == 0 ? NULL :
		bsearch(holder, last_look.holders, last_look.count, sizeof(EsHolder), compare_holders);
	holder->below = before ? before->below : last_look.upto;
	holder->exact = before && before->exact;
	if (!holder->exact)
		holder->prepared = TwoPhaseGetXidByVirtualXID(holder->id, &more);
}

/*
 * es_holders_find_lowest finds out where the positions of each holder begin; *known
 * becomes false if that of one in progress is not known.  Returns a position that they are
 * all above.  Everything up to settled is.
 */
int64
es_holders_find_lowest(EsHolder *holders, int count, int64 settled, bool *known)
{
	int64		lowest = PG_INT64_MAX;	/* of those not to be searched for */
	int64		prepared = PG_INT64_MAX;	/* of the others */

	*known = true;
	for (int i = 0; i < count; i++)
	{
		EsHolder   *holder = &holders[i];

		find_first_position(holder);
		if (TransactionIdIsValid(holder->prepared))
			prepared = Min(prepared, holder->below);
		else
		{
			lowest = Min(lowest, holder->below);
			*known = *known && holder->exact;
		}
	}
	if (prepared < lowest && settled < lowest)
		prepared = search_for_prepared(holders, count, Max(settled, prepared), lowest);
	return Min(lowest, prepared);
}

/*
 * es_holders_note notes a look for the next one; upto was given out before it, and is
 * below this transaction's own positions.
 */
void
es_holders_note(int64 upto, const EsHolder *holders, int count)
{
	/* a transaction that is being prepared may be there twice */
	if (last_look.holders == NULL)
		last_look.holders = MemoryContextAlloc(TopMemoryContext,
											   sizeof(EsHolder) * (MaxBackends + 2 * max_prepared_xacts + 1));
	memcpy(last_look.holders, holders, sizeof(EsHolder) * count);
	last_look.count = count;
	last_look.upto = upto;
}

/* es_holders_noted_upto tells the last position given out by the look before. */
int64
es_holders_noted_upto(void)
{
	return last_look.upto;
}

/*
 * es_holders_prepared_first tells whether, of those that the look before has found, a prepared
 * transaction is the first in the way.
 */
bool
es_holders_prepared_first(void)
{
	const EsHolder *first = NULL;
	bool		more;

	for (int i = 0; i < last_look.count; i++)
		if (first == NULL || last_look.holders[i].below < first->below)
			first = &last_look.holders[i];
	return first != NULL && (TransactionIdIsValid(first->prepared) || es_vxid_proc(first->id) == ES_INVALID_PROC ||
							 TransactionIdIsValid(TwoPhaseGetXidByVirtualXID(first->id, &more)));
}

/* es_holders_forget forgets the look before: the log is another one. */
void
es_holders_forget(void)
{
	last_look.upto = last_look.count = 0;
}
