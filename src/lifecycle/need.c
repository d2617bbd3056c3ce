/*
 * need.c
 *		Who still needs events that are hidden.
 *
 * What is hidden is removed once nobody is on the way to it: projections that follow the
 * log and have not come so far, be it that they are rebuilt, slow, or failed;
 * subscriptions that have it not acknowledged, or parked; and sessions that have said so
 * with es_hold_events(), as esfeed does while it delivers the history.  Each needs what it
 * asks for only: events of its categories and types, that match its query.
 *
 * Who begins later finds what is left.  So nobody has to be kept from beginning: what is
 * read here counts for one batch, and then is read again.
 *
 * A session says that it holds events by a lock of its own: it has the position as its
 * tag, of the kind of advisory locks, though no function of the server takes this one.  So it
 * ends with the session, however that ends, and with DISCARD ALL, which a pool sends before
 * another client gets the connection.
 */
#include "lifecycle/need.h"

#include "miscadmin.h"
#include "rights/right.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "base/call.h"
#include "base/names.h"
#include "base/positions.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "subscription/failure.h"
#include "subscription/partition.h"
#include "subscription/subscription.h"

#define HOLD_TAG	0xE5		/* where advisory locks have 1 or 2 */

/* A projection on its way. */
typedef struct ProjectionNeed
{
	const EsProjection *projection;
	int64		after;			/* it needs events after this */
	bool		rebuild;
} ProjectionNeed;

/* A subscription: its partitions, and what is parked. */
typedef struct SubscriptionNeed
{
	const text *name;
	int64		id;
	EsPartition *partitions;
	EsPositions parked;
} SubscriptionNeed;

struct EsNeeds
{
	int64		lowest;			/* nobody needs events up to this */
	ProjectionNeed *projections;
	int			nprojections;
	SubscriptionNeed *subscriptions;
	int			nsubscriptions;
	int64		held_after;		/* by a session; PG_INT64_MAX: by none */
	int			holder;			/* its process id */
	MemoryContext scratch;		/* for looks at one event */
};

PG_FUNCTION_INFO_V1(es_hold_events);

/* ---- sessions that hold events ---- */

static int64 held_after = -1;	/* by this session, if it has that lock; -1:
								 * none */

/* The tag of the lock that says from where on events are held. */
static LOCKTAG
hold_tag(int64 after)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (after >> 32), (uint32) after, HOLD_TAG);
	return tag;
}

/* Gives back what this session has, unless somebody has given it back already. */
static void
let_go_of_events(void)
{
	LOCKTAG		tag = hold_tag(held_after);

	if (held_after >= 0 && es_holds_lock(&tag, ShareLock))
		(void) LockRelease(&tag, ShareLock, true);
	held_after = -1;
}

/*
 * es_hold_events(after_position): has scavenging leave the events after a position, until
 * this session ends, or calls it again; NULL lets go of them.
 *
 * For who reads the history and must not miss in the middle what it would have had at
 * the end, with 'read' on something, else 42501.  A negative position is 22023.  Does
 * not wait; a rollback does not undo it, and DISCARD ALL and pg_advisory_unlock_all()
 * do.
 */
Datum
es_hold_events(PG_FUNCTION_ARGS)
{
	int64		after;
	LOCKTAG		tag;

	if (PG_ARGISNULL(0))
	{
		let_go_of_events();
		PG_RETURN_VOID();
	}
	es_right_require_any(ES_RIGHT_READ);
	after = es_call_position_arg(fcinfo, 0, "after_position");
	tag = hold_tag(after);
	if (after == held_after && es_holds_lock(&tag, ShareLock))
		PG_RETURN_VOID();
	(void) LockAcquire(&tag, ShareLock, true, false);
	let_go_of_events();
	held_after = after;
	PG_RETURN_VOID();
}

/* Finds out what sessions hold. */
static void
read_holds(EsNeeds *needs)
{
	LockData   *locks = GetLockStatusData();

	needs->held_after = PG_INT64_MAX;
	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		const LOCKTAG *tag = &lock->locktag;
		int64		after = (int64) (((uint64) tag->locktag_field2 << 32) | tag->locktag_field3);

		if (tag->locktag_type != LOCKTAG_ADVISORY || tag->locktag_field1 != MyDatabaseId ||
			tag->locktag_field4 != HOLD_TAG || lock->holdMask == 0 || after >= needs->held_after)
			continue;
		needs->held_after = after;
		needs->holder = lock->pid;
	}
	needs->lowest = Min(needs->lowest, needs->held_after);
}

/* ---- reading ---- */

/* Finds out how far the projections are that follow the log, and those that are built. */
static void
read_projections(EsNeeds *needs)
{
	const EsProjectionSet *set = es_projection_pin(CurrentMemoryContext);
	EsProgress *rows;
	int			count = es_progress_read_all(&rows);

	needs->projections = palloc(sizeof(ProjectionNeed) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		const EsProjection *projection = es_projection_find_by_id(set, rows[i].projection_id);
		ProjectionNeed *need = &needs->projections[needs->nprojections];

		/* what is inline and live has taken each event as it was appended */
		if (projection == NULL || (projection->is_inline && rows[i].live))
			continue;
		need->projection = projection;
		need->after = rows[i].position;
		need->rebuild = !rows[i].live;
		needs->lowest = Min(needs->lowest, need->after);
		needs->nprojections++;
	}
}

/* Finds out which events of a subscription's partition are parked, or to be delivered again. */
static void
read_failures(EsNeeds *needs, SubscriptionNeed *need, const EsPartition *partition)
{
	EsFailure  *failures;
	int			count = es_partition_has_failures(partition) ? es_failure_read(partition, 0, &failures) : 0;

	if (count == 0)
		return;
	need->parked.positions = need->parked.positions == NULL ? palloc(sizeof(int64) * count) :
		repalloc(need->parked.positions, sizeof(int64) * (need->parked.count + count));
	for (int i = 0; i < count; i++)
	{
		if (failures[i].parked_at == DT_NOEND)
			continue;
		need->parked.positions[need->parked.count++] = failures[i].position;
		needs->lowest = Min(needs->lowest, failures[i].position - 1);
	}
}

/* Finds out how far a subscription is; false if it is gone. */
static bool
read_subscription(EsNeeds *needs, SubscriptionNeed *need, const text *name)
{
	const EsSubscription *subscription = es_subscription_look_up(name);
	EsPartition *partitions = subscription ? es_partition_find_all(subscription) : NULL;

	if (partitions == NULL)
		return false;
	need->name = name;
	need->id = subscription->id;
	need->partitions = partitions;
	for (int p = 0; p < subscription->partitions; p++)
	{
		needs->lowest = Min(needs->lowest, partitions[p].position);
		read_failures(needs, need, &partitions[p]);
	}
	es_positions_sort(&need->parked);
	return true;
}

/* Finds out how far subscriptions are; those that are dropped meanwhile need nothing. */
static void
read_subscriptions(EsNeeds *needs)
{
	int			count;
	text	  **names = es_subscription_names(&count);

	needs->subscriptions = palloc0(sizeof(SubscriptionNeed) * Max(count, 1));
	for (int i = 0; i < count; i++)
		needs->nsubscriptions += read_subscription(needs, &needs->subscriptions[needs->nsubscriptions], names[i]);
}

/* es_need_read finds out who needs what, in the current memory context. */
EsNeeds *
es_need_read(void)
{
	EsNeeds    *needs = palloc0(sizeof(EsNeeds));

	needs->lowest = PG_INT64_MAX;
	needs->scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore needs", ALLOCSET_SMALL_SIZES);
	read_holds(needs);
	read_projections(needs);
	read_subscriptions(needs);
	return needs;
}

/* ---- asking ---- */

/*
 * Tells whether a subscription needs an event.  One that was dropped meanwhile does not, nor what
 * was made anew under its name: who begins later finds what is left.
 */
static bool
subscription_needs(const EsNeeds *needs, const SubscriptionNeed *need, const EsEvent *event)
{
	MemoryContext old = MemoryContextSwitchTo(needs->scratch);
	const EsSubscription *subscription = es_subscription_look_up_again(need->name, need->id);
	int			partition = subscription ? es_subscription_partition_of(subscription, DatumGetTextPP(event->stream)) : 0;
	bool		passes = subscription != NULL &&
	(es_positions_have(&need->parked, event->position) ||
	 (event->position > need->partitions[partition].position && es_subscription_passes(subscription, event)));

	MemoryContextSwitchTo(old);
	MemoryContextReset(needs->scratch);
	return passes;
}

/* es_need_of tells who needs an event, in words; NULL for nobody. */
const char *
es_need_of(const EsNeeds *needs, const EsEvent *event)
{
	if (likely(event->position <= needs->lowest))
		return NULL;
	for (int i = 0; i < needs->nprojections; i++)
	{
		const ProjectionNeed *need = &needs->projections[i];

		if (event->position > need->after && es_projection_wants(need->projection, event))
			return psprintf(need->rebuild ? "the rebuild of projection \"%s\"" : "projection \"%s\"",
							es_names_show_text(need->projection->name));
	}
	for (int i = 0; i < needs->nsubscriptions; i++)
	{
		if (subscription_needs(needs, &needs->subscriptions[i], event))
			return psprintf("subscription \"%s\"", es_names_show_text(needs->subscriptions[i].name));
	}
	if (event->position > needs->held_after)
		return psprintf("the session of process %d, by es_hold_events()", needs->holder);
	return NULL;
}
