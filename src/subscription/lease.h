/*
 * lease.h
 *		Which partitions are a member's, and what a poll knows of them.
 */
#ifndef ES_SUBSCRIPTION_LEASE_H
#define ES_SUBSCRIPTION_LEASE_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "subscription/failure.h"
#include "subscription/member.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"
#include "type/renew.h"

/* A partition, as a poll sees it. */
typedef struct EsSlice
{
	EsPartition row;
	bool		available;		/* to this member, for all that is known */
	bool		ours;			/* locked, and row is the newest */
	bool		taken;			/* the lease is a new one */
	bool		lapsed;			/* it was taken from one that has lost it */
	bool		released;		/* is to be given up */
	int64		after;			/* what is after this matters */
	int64		last;			/* delivered now */
	int			count;
	bool		failed;			/* at an event that cannot be sent */
	EsFailure  *failures;
	int			nfailures;
} EsSlice;

/* What earlier looks of a poll know of a partition. */
typedef struct EsPassed
{
	int64		from;			/* there is nothing after this; -1: not known */
	int64		upto;			/* up to this */
	int			parked;			/* with so many parked or let go; fewer after
								 * a rewind, also where it is replicated */
} EsPassed;

/* A poll on its way. */
typedef struct EsPoll
{
	const text *name;			/* of the subscription */
	int64		id;
	const EsSubscription *subscription; /* as the look found it, with whose
										 * memory it goes */
	uint64		changes;		/* of definitions, that it knew of */
	const text *member;
	int64		max_count;
	int64		lease;			/* microseconds */
	ReturnSetInfo *result;		/* NULL: only to find out whether there is
								 * something to poll */
	MemoryContext context;		/* of one look */
	EsPassed   *passed;			/* by partition */

	/* of one look */
	EsRenewer	renewer;
	TimestampTz now;
	TimestampTz again_at;
	int64		settled;
	int64		scanned;		/* all up to here is delivered, or nobody's */
	EsSlice    *slices;
	EsShare		share;
	int			may_take;
	int64		delivered;
	bool		outdated;		/* the definition may have changed meanwhile */
	bool		locked;			/* some partition is ours: not to be kept
								 * while waiting */
} EsPoll;

extern bool es_lease_has(const EsPoll *poll, const EsPartition *row);
extern bool es_lease_is_available(EsPoll *poll, const EsPartition *row);
extern bool es_lease_may_have(const EsPoll *poll, const EsSlice *slice);
extern bool es_lease_could_take(EsPoll *poll, EsSlice *slice);
extern void es_lease_choose_released(EsPoll *poll);
extern bool es_lease_lock(EsPoll *poll, EsSlice *slice);
extern void es_lease_read_failures(EsSlice *slice);
extern bool es_lease_take(EsPoll *poll, EsSlice *slice);
extern bool es_lease_is_on_probation(const EsPoll *poll, const EsSlice *slice);
extern void es_lease_write_all(EsPoll *poll);
extern void es_lease_release_all(EsPoll *poll);

#endif							/* ES_SUBSCRIPTION_LEASE_H */
