/*
 * lease.c
 *		Which partitions are a member's: taking, keeping and giving up leases.
 *
 * A partition is taken under its lock, which lasts until the transaction ends, and
 * from its newest row: what was known of it without the lock only tells whether to
 * try.  What another transaction has locked is passed over, and looked at again
 * soon.  A partition that is taken from a member whose lease ended with deliveries
 * open counts that as a failed attempt of all of them.
 *
 * A lease that is taken is written to the partition's row.  Where the library is preloaded,
 * deliveries that follow renew it in shared memory, and the row once a third of its
 * time (partition.c).  What needs the row, after a failure or a lease that has ended, is
 * written each time, so that a crash of the server hides no further attempt.
 */
#include "subscription/lease.h"

#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/names.h"
#include "shared/wake.h"

#define LOOK_AGAIN_US			20000	/* where a lock was in the way */

/* es_lease_has tells whether the member has a partition. */
bool
es_lease_has(const EsPoll *poll, const EsPartition *row)
{
	return es_partition_is_leased(row, poll->now) && es_names_same(row->member, poll->member);
}

/*
 * Tells whether others take a member for dead, or do not know it yet.  They keep its
 * share until it polls, so for one that only looks what they have is not out of reach.
 */
static bool
has_member_lapsed(const EsPoll *poll)
{
	return poll->result == NULL && poll->share.alive_until <= poll->now;
}

/*
 * es_lease_is_available tells whether a member, with a lease on a partition or
 * without, may be delivered from it now.
 */
bool
es_lease_is_available(EsPoll *poll, const EsPartition *row)
{
	if (es_backoff_is_pending(row->retry_at, poll->now))
	{
		poll->again_at = Min(poll->again_at, row->retry_at);
		return false;
	}
	if (es_partition_is_leased(row, poll->now) && !es_lease_has(poll, row) && !has_member_lapsed(poll))
	{
		if (row->position < poll->settled || row->pending > 0)
			poll->again_at = Min(poll->again_at, row->lease_until);
		return false;
	}
	return true;
}

/*
 * es_lease_may_have tells whether the member has a partition that is available to
 * it, or may take it.
 */
bool
es_lease_may_have(const EsPoll *poll, const EsSlice *slice)
{
	return slice->ours || es_lease_has(poll, &slice->row) || poll->may_take > 0;
}

/* Tells whether something may be delivered and not acknowledged. */
static bool
has_open_deliveries(const EsPartition *row)
{
	return row->position < row->delivered_upto || row->unsure;
}

/*
 * es_lease_choose_released chooses the partitions that the member gives up.  Who only
 * looks cannot; what comes up in them is a reason to poll.
 */
void
es_lease_choose_released(EsPoll *poll)
{
	int			left = poll->result ? poll->share.must_release : 0;

	for (int i = poll->subscription->partitions - 1; i >= 0 && left > 0; i--)
	{
		EsSlice    *slice = &poll->slices[i];

		if (!es_lease_has(poll, &slice->row) || has_open_deliveries(&slice->row))
			continue;
		slice->released = true;
		slice->available = false;
		left--;
	}
}

/* ---- taking ---- */

/* Gives up on a partition for this look; somebody is busy with it. */
static bool
pass_over_slice(EsPoll *poll, EsSlice *slice)
{
	slice->available = false;
	poll->again_at = Min(poll->again_at, poll->now + LOOK_AGAIN_US);
	return false;
}

/*
 * es_lease_lock locks a partition and reads its newest row; false if that cannot be
 * had, or is somebody else's.
 */
bool
es_lease_lock(EsPoll *poll, EsSlice *slice)
{
	if (!es_partition_lock(poll->subscription->id, slice->row.partition, false))
		return pass_over_slice(poll, slice);
	if (es_subscription_has_changed(poll->changes))
	{
		poll->outdated = true;	/* or rewound: the look may have passed what
								 * is to be delivered */
		return pass_over_slice(poll, slice);
	}
	es_partition_read(poll->subscription, slice->row.partition, &slice->row);
	if (!es_lease_is_available(poll, &slice->row))
		slice->available = false;
	return slice->available;
}

/*
 * es_lease_could_take tells whether es_lease_take would make a partition this member's,
 * and changes nothing.
 */
bool
es_lease_could_take(EsPoll *poll, EsSlice *slice)
{
	if (!es_lease_may_have(poll, slice))
		return slice->available = false;
	if (es_partition_is_locked(&slice->row))
		return pass_over_slice(poll, slice);
	return true;
}

/*
 * es_lease_read_failures reads a partition's failures that matter: those due again,
 * and those after the position.
 */
void
es_lease_read_failures(EsSlice *slice)
{
	const EsPartition *row = &slice->row;

	slice->nfailures = !es_partition_has_failures(row) ? 0 :
		es_failure_read(row, row->pending > 0 ? 0 : row->position, &slice->failures);
}

/*
 * Counts, in a partition that is being taken, the lease that has ended: a failed attempt of
 * all that was delivered by it.  What is after the position is counted in the row, which
 * then has to say whose the partition is now, so that nobody counts the same lease again.
 */
static void
count_ended_lease(EsPoll *poll, EsSlice *slice)
{
	EsPartition *row = &slice->row;

	if (row->member == NULL || row->retry_at != DT_NOBEGIN)
		return;
	if (row->position < row->delivered_upto)
	{
		row->lapses++;
		row->lapsed_upto = row->delivered_upto;
		slice->lapsed = true;
	}
	if (es_failure_count_lapse(row, poll->subscription->max_attempts, poll->now))
		slice->lapsed = true;
}

/* es_lease_take makes a partition this member's, if it may be; its memory is the look's. */
bool
es_lease_take(EsPoll *poll, EsSlice *slice)
{
	if (slice->ours)
		return true;
	if (!es_lease_may_have(poll, slice))
		return slice->available = false;
	if (!es_lease_lock(poll, slice))
		return false;
	if (!es_lease_may_have(poll, slice))
		return slice->available = false;
	if (!es_lease_has(poll, &slice->row))
	{
		poll->may_take--;
		slice->taken = true;
		count_ended_lease(poll, slice);
	}
	slice->ours = poll->locked = true;
	es_lease_read_failures(slice);
	return true;
}

/* es_lease_is_on_probation tells whether a partition's events are delivered one by one. */
bool
es_lease_is_on_probation(const EsPoll *poll, const EsSlice *slice)
{
	return poll->subscription->max_attempts != 0 && slice->row.lapses >= poll->subscription->max_attempts;
}

/* ---- writing and giving up ---- */

/*
 * Tells whether a delivery is like those before it, so that the row need not say anything
 * of it: the partition was this member's, and nothing has failed in it.
 */
static bool
is_delivery_plain(const EsSlice *slice)
{
	return !slice->taken && !slice->failed && slice->nfailures == 0 && slice->row.lapses == 0 &&
		slice->row.retry_at == DT_NOBEGIN;
}

/* Writes, or notes, what has been delivered of a partition, and whose it is. */
static void
write_lease(EsPoll *poll, EsSlice *slice, TimestampTz until)
{
	EsPartition *row = &slice->row;
	bool		plain = is_delivery_plain(slice);

	if (slice->last > 0)
	{
		int64		scanned = es_lease_is_on_probation(poll, slice) ? slice->last : poll->scanned;

		row->delivered_upto = slice->taken ? slice->last : Max(row->delivered_upto, slice->last);
		row->scanned_upto = slice->taken ? scanned : Max(row->scanned_upto, scanned);
		row->delivered = slice->count;
	}
	else if (slice->taken)
		row->delivered_upto = row->scanned_upto = row->position;
	row->member = poll->member;
	row->lease_until = until;
	row->retry_at = DT_NOBEGIN;
	if (!plain || !es_partition_keep(row, poll->lease))
		es_partition_write_lease(row, poll->lease);
	if (slice->taken)
		es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, poll->subscription->id));
}

/*
 * es_lease_write_all writes the leases of all partitions that something was, or
 * could not be, delivered of, or that were taken from a member that has lost them.
 */
void
es_lease_write_all(EsPoll *poll)
{
	TimestampTz until = GetCurrentTimestamp() + poll->lease;

	for (int i = 0; i < poll->subscription->partitions; i++)
		if (poll->slices[i].count > 0 || poll->slices[i].failed || poll->slices[i].lapsed)
			write_lease(poll, &poll->slices[i], until);
}

/* es_lease_release_all gives up the partitions that others are owed. */
void
es_lease_release_all(EsPoll *poll)
{
	for (int i = 0; i < poll->subscription->partitions; i++)
	{
		EsSlice    *slice = &poll->slices[i];

		if (!slice->released)
			continue;
		slice->available = true;
		if (!es_lease_lock(poll, slice) || !es_lease_has(poll, &slice->row) || has_open_deliveries(&slice->row))
			continue;
		es_partition_give_up(&slice->row);
		es_partition_write(&slice->row);
		es_wake_note(es_wake_object(ES_WAKE_SUBSCRIPTION, poll->subscription->id));
	}
}
