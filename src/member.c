/*
 * member.c
 *		Who consumes a subscription, and how many partitions are whose.
 *
 * There is no list of members to maintain: who polls is a member, until its
 * lease has passed without another poll.  With n members each may have a
 * fair share of the partitions, the number divided by n, rounded down; what is
 * left over goes to whoever comes first, one more each.  A member that has more
 * than its share gives up some, once it is done with what it was delivered of
 * them, as long as others have less than theirs.
 *
 * A subscription with one partition needs none of this: the partition's lease
 * says it all.
 *
 * Rows of eventstore.subscription_members are written by the member's own polls,
 * when half of the time is over, under a lock of their own that nobody waits
 * for: if another session does the same for the same member, that will do.
 * Dead members' rows are deleted by whoever joins.
 */
#include "member.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define Anum_members_id				1
#define Anum_members_alive_until	2
#define Anum_members_member			3
#define Natts_members				3

#define DEAD_FOR_LONG	(INT64CONST(3600) * USECS_PER_SEC)

/* Begins to read the members of a subscription. */
static SysScanDesc
scan_members(Relation rel, int64 id, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_members_id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return systable_beginscan(rel, es_base_store()->members_by_key, true, snapshot, 1, &key);
}

/* The columns of a member's row; the name points into it. */
static const text *
take_member(HeapTuple tuple, TupleDesc desc, TimestampTz *alive_until)
{
	Datum		values[Natts_members];
	bool		isnull[Natts_members];

	heap_deform_tuple(tuple, desc, values, isnull);
	*alive_until = DatumGetTimestampTz(values[Anum_members_alive_until - 1]);
	return DatumGetTextPP(values[Anum_members_member - 1]);
}

/* How many partitions a member has. */
static int
count_held(const EsSubscription *subscription, const EsPartition *rows, const text *member, TimestampTz now)
{
	int			held = 0;

	for (int i = 0; i < subscription->partitions; i++)
		if (es_subscription_is_leased(&rows[i], now) && es_base_same_text(rows[i].member, member))
			held++;
	return held;
}

/* The other live members' partitions; the names of those that are alive, and ours if it is known. */
static List *
read_others(const EsSubscription *subscription, const text *member, TimestampTz now, EsShare *share)
{
	Relation	rel = table_open(es_base_store()->members, AccessShareLock);
	Snapshot	snapshot = es_segment_fresh_snapshot();
	SysScanDesc scan = scan_members(rel, subscription->id, snapshot);
	List	   *others = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TimestampTz alive_until;
		const text *name = take_member(tuple, RelationGetDescr(rel), &alive_until);

		if (es_base_same_text(name, member))
		{
			share->known = true;
			share->alive_until = alive_until;
		}
		else if (alive_until > now)
			others = lappend(others, memcpy(palloc(VARSIZE_ANY(name)), name, VARSIZE_ANY(name)));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return others;
}

/* es_member_share works out what a member may do now, given the rows of the partitions. */
void
es_member_share(const EsSubscription *subscription, const EsPartition *rows,
				const text *member, TimestampTz now, EsShare *share)
{
	List	   *others;
	ListCell   *cell;
	int			members;
	int			fair;
	int			most;
	int			held = count_held(subscription, rows, member, now);
	int			free = 0;
	int			wanted = 0;		/* by others, for their fair shares */
	int			owed;			/* to this member, for its own */

	memset(share, 0, sizeof(*share));
	if (subscription->partitions == 1)
	{
		share->known = true;
		share->alive_until = DT_NOEND;
		share->may_take = 1;
		return;
	}
	others = read_others(subscription, member, now, share);
	members = list_length(others) + 1;
	fair = subscription->partitions / members;
	most = fair + (subscription->partitions % members != 0);
	for (int i = 0; i < subscription->partitions; i++)
		free += !es_subscription_is_leased(&rows[i], now);
	foreach(cell, others)
		wanted += Max(fair - count_held(subscription, rows, lfirst(cell), now), 0);
	owed = Max(fair - held, 0);
	share->may_take = owed + Max(Min(most - Max(held, fair), free - owed - wanted), 0);
	share->must_release = Max(Min(held - fair, wanted - free), Max(held - most, 0));
	share->must_release = Max(share->must_release, 0);
}

/* Takes the lock on a member's row, to the end of the transaction; false if it is not free. */
static bool
lock_member(const EsSubscription *subscription, const text *member)
{
	LOCKTAG		tag;
	uint32		hash = hash_bytes((const unsigned char *) VARDATA_ANY(member), VARSIZE_ANY_EXHDR(member));

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, es_base_store()->members, (uint32) subscription->id ^ hash, 0);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Finds a member's row, which is locked; false if there is none. */
static bool
find_member(Relation rel, const EsSubscription *subscription, const text *member,
			TimestampTz *alive_until, ItemPointer tid)
{
	Snapshot	snapshot = es_segment_fresh_snapshot();
	SysScanDesc scan = scan_members(rel, subscription->id, snapshot);
	HeapTuple	tuple;
	bool		found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		found = es_base_same_text(take_member(tuple, RelationGetDescr(rel), alive_until), member);
		*tid = tuple->t_self;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/* The names of members that were last alive before a time. */
static List *
read_dead(Relation rel, const EsSubscription *subscription, TimestampTz before)
{
	Snapshot	snapshot = es_segment_fresh_snapshot();
	SysScanDesc scan = scan_members(rel, subscription->id, snapshot);
	List	   *dead = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TimestampTz alive_until;
		const text *name = take_member(tuple, RelationGetDescr(rel), &alive_until);

		if (alive_until < before)
			dead = lappend(dead, memcpy(palloc(VARSIZE_ANY(name)), name, VARSIZE_ANY(name)));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return dead;
}

/* Deletes the rows of members that have been dead for long. */
static void
delete_dead(Relation rel, const EsSubscription *subscription)
{
	TimestampTz before = GetCurrentTimestamp() - DEAD_FOR_LONG;
	ListCell   *cell;

	foreach(cell, read_dead(rel, subscription, before))
	{
		TimestampTz alive_until;
		ItemPointerData tid;

		if (lock_member(subscription, lfirst(cell)) &&
			find_member(rel, subscription, lfirst(cell), &alive_until, &tid) && alive_until < before)
			CatalogTupleDelete(rel, &tid);
	}
}

/* es_member_beat lets others know that a member is there, and until when. */
void
es_member_beat(const EsSubscription *subscription, const text *member, TimestampTz alive_until)
{
	Relation	rel;
	HeapTuple	tuple;
	Datum		values[Natts_members];
	bool		isnull[Natts_members] = {false};
	TimestampTz before;
	ItemPointerData tid;

	/* who drops a subscription locks the table; then nobody needs to know */
	if (!lock_member(subscription, member) ||
		!ConditionalLockRelationOid(es_base_store()->members, RowExclusiveLock))
		return;
	CommandCounterIncrement();
	rel = table_open(es_base_store()->members, NoLock);
	values[Anum_members_id - 1] = Int64GetDatum(subscription->id);
	values[Anum_members_alive_until - 1] = TimestampTzGetDatum(alive_until);
	values[Anum_members_member - 1] = PointerGetDatum(member);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, isnull);
	if (find_member(rel, subscription, member, &before, &tid))
		CatalogTupleUpdate(rel, &tid, tuple);
	else
	{
		CatalogTupleInsert(rel, tuple);
		delete_dead(rel, subscription);
	}
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
