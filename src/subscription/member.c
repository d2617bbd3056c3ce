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
#include "subscription/member.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "base/names.h"
#include "base/objects.h"
#include "table/rows.h"

#define Anum_members_id				1
#define Anum_members_alive_until	2
#define Anum_members_member			3
#define Natts_members				3

static EsRelation members_table = {"subscription_members"};
static EsRelation members_by_key = {"subscription_members_by_key",
.index = {.keys = {Anum_members_id, Anum_members_member},.columns = "subscription_id, member",.unique = true}};

static const EsColumn member_columns[] = {
	{"subscription_id", INT8OID}, {"alive_until", TIMESTAMPTZOID}, {"member", TEXTOID}
};
const EsShape es_member_shape = ES_SHAPE(&members_table, &members_by_key, member_columns);

#define DEAD_FOR_LONG	(INT64CONST(3600) * USECS_PER_SEC)

/* A row of eventstore.subscription_members. */
typedef struct Member
{
	const text *name;
	TimestampTz alive_until;
} Member;

/* Reads the members of a subscription, dead ones too. */
static List *
read_members(const EsSubscription *subscription)
{
	EsRows		rows = {.shape = &es_member_shape,.mode = AccessShareLock};
	List	   *members = NIL;

	rows.fresh = true;
	es_rows_equal(&rows, Int64GetDatum(subscription->id));
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		Member	   *member = palloc(sizeof(Member));

		member->name = DatumGetTextPCopy(rows.values[Anum_members_member - 1]);
		member->alive_until = DatumGetTimestampTz(rows.values[Anum_members_alive_until - 1]);
		members = lappend(members, member);
	}
	es_rows_end(&rows);
	return members;
}

/* Finds a member among others; NULL if it is not there. */
static Member *
find_subscription_member(List *members, const text *name)
{
	ListCell   *cell;

	foreach(cell, members)
	{
		Member	   *member = lfirst(cell);

		if (es_names_same(member->name, name))
			return member;
	}
	return NULL;
}

/* How many partitions a member has. */
static int
count_held_partitions(const EsSubscription *subscription, const EsPartition *rows, const text *member, TimestampTz now)
{
	int			held = 0;

	for (int i = 0; i < subscription->partitions; i++)
		if (es_partition_is_leased(&rows[i], now) && es_names_same(rows[i].member, member))
			held++;
	return held;
}

/* Tells whether a member is alive, and another one than this. */
static bool
is_member_alive_beside(const Member *member, const Member *self, TimestampTz now)
{
	return member != self && member->alive_until > now;
}

/* es_member_share works out what a member may do now, given the rows of the partitions. */
void
es_member_share(const EsSubscription *subscription, const EsPartition *rows,
				const text *member, TimestampTz now, EsShare *share)
{
	List	   *members;
	Member	   *self;
	ListCell   *cell;
	int			alive = 1;		/* this one is */
	int			fair;
	int			most;
	int			held = count_held_partitions(subscription, rows, member, now);
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
	members = read_members(subscription);
	self = find_subscription_member(members, member);
	share->known = self != NULL;
	share->alive_until = self ? self->alive_until : DT_NOBEGIN;
	foreach(cell, members)
		alive += is_member_alive_beside(lfirst(cell), self, now);
	fair = subscription->partitions / alive;
	most = fair + (subscription->partitions % alive != 0);
	for (int i = 0; i < subscription->partitions; i++)
		free += !es_partition_is_leased(&rows[i], now);
	foreach(cell, members)
	{
		const Member *other = lfirst(cell);
		int			lacks;

		if (!is_member_alive_beside(other, self, now))
			continue;
		lacks = fair - count_held_partitions(subscription, rows, other->name, now);
		wanted += Max(lacks, 0);
	}
	owed = Max(fair - held, 0);
	share->may_take = owed + Max(Min(most - Max(held, fair), free - owed - wanted), 0);
	share->must_release = Max(Min(held - fair, wanted - free), Max(held - most, 0));
}

/* Takes the lock on a member's row, to the end of the transaction; false if it is not free. */
static bool
lock_member(const EsSubscription *subscription, const text *member)
{
	return es_base_lock_row(&members_table, (uint32) subscription->id ^ es_names_hash(member), 0, false);
}

/*
 * Deletes the rows of members that have been dead for long; each is looked at again
 * under its lock.
 */
static void
delete_dead_members(const EsSubscription *subscription)
{
	TimestampTz before = GetCurrentTimestamp() - DEAD_FOR_LONG;
	ListCell   *cell;

	foreach(cell, read_members(subscription))
	{
		Member	   *member = lfirst(cell);
		Datum		key[] = {Int64GetDatum(subscription->id), PointerGetDatum(member->name)};

		if (member->alive_until >= before || !lock_member(subscription, member->name))
			continue;
		member = find_subscription_member(read_members(subscription), member->name);
		if (member && member->alive_until < before)
			(void) es_rows_take_away(&es_member_shape, key, 2);
	}
}

/* es_member_beat lets others know that a member is there, and until when. */
void
es_member_beat(const EsSubscription *subscription, const text *member, TimestampTz alive_until)
{
	Datum		values[Natts_members];
	bool		isnull[Natts_members] = {false};
	bool		joins;

	/* who drops a subscription locks the table; then nobody needs to know */
	if (!lock_member(subscription, member) ||
		!es_base_try_lock(&members_table, RowExclusiveLock))
		return;
	CommandCounterIncrement();
	values[Anum_members_id - 1] = Int64GetDatum(subscription->id);
	values[Anum_members_alive_until - 1] = TimestampTzGetDatum(alive_until);
	values[Anum_members_member - 1] = PointerGetDatum(member);
	joins = find_subscription_member(read_members(subscription), member) == NULL;
	es_rows_put(&es_member_shape, values, isnull);
	if (joins)
		delete_dead_members(subscription);
}

/*
 * es_member_delete_all takes away the rows of all members of a subscription, and
 * keeps others from coming.
 */
void
es_member_delete_all(const EsSubscription *subscription)
{
	Datum		id = Int64GetDatum(subscription->id);

	es_base_lock(&members_table, ShareRowExclusiveLock);
	(void) es_rows_take_away(&es_member_shape, &id, 1);
}
