/*
 * scavenge.c
 *		Removing what is hidden, and giving back its room.
 *
 * What is removed is removed in batches, and so by a background worker, while es_scavenge()
 * waits (base/errand.c).  It hides what is due by retention, removes what is hidden
 * (remove.c), and seals segments, which gives the room back (segment/sealer.c).  Only one
 * process is at it at a time.
 *
 * Where the library is preloaded the worker of the store starts one after each round of
 * retention (server/upkeep.c), which nobody waits for, and which keeps to
 * eventstore.scavenge_rate.
 *
 * A segment whose room could not be given back, as old snapshots may still see what was
 * removed, would be vacuumed in vain by each of these.  So the worker remembers what the
 * oldest of the snapshots was, as it started the last one, and as long as that one is there
 * the next ones leave such segments alone, unless some were left for another reason.
 */
#include "lifecycle/scavenge.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "rights/right.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/errand.h"
#include "base/objects.h"
#include "lifecycle/policy.h"
#include "lifecycle/remove.h"
#include "lifecycle/retention.h"
#include "log/subscriber.h"
#include "segment/horizon.h"
#include "segment/sealer.h"
#include "segment/timing.h"
#include "shared/headway.h"
#include "shared/roster.h"
#include "shared/trouble.h"

#define LOCK_TRIES		100
#define LOCK_PAUSE_MS	20

/*
 * How long the worker waits for a lock once it is at work: it may be one that the transaction
 * has that waits for the worker.
 */
#define LOCK_TIMEOUT	"5s"

/* What a worker is told. */
typedef struct ScavengeOrder
{
	int64		most;			/* events to remove */
	bool		looks_on;		/* who waits goes on to look at the log by a
								 * snapshot of before */
	bool		again;			/* room that could not be given back before
								 * may be by now */
} ScavengeOrder;

static int	scavenge_rate = 10000;	/* GUC eventstore.scavenge_rate, events a
									 * second */

/* Of the worker: who was in the way as it last started one; see find_old_sight. */
static TransactionId last_old_sight = InvalidTransactionId;

PG_FUNCTION_INFO_V1(es_scavenge);

/* Defines the GUC; called once, from _PG_init. */
void
es_scavenge_init(void)
{
	DefineCustomIntVariable("eventstore.scavenge_rate",
							"How many hidden events a second the worker removes, at most.",
							"0 turns that off: then only es_scavenge() removes them, as fast as it can.",
							&scavenge_rate, 10000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* ---- the worker ---- */

/* Says what holds events back. */
static void
notice_what_is_held_back(const EsRemoval *removal)
{
	HASH_SEQ_STATUS all;
	EsHeldBack *held;

	hash_seq_init(&all, removal->held_back);
	while ((held = hash_seq_search(&all)) != NULL)
		ereport(NOTICE,
				errmsg("%lld hidden events are left because they are needed by %s", (long long) held->events,
					   text_to_cstring(held->by)));
	if (removal->streams_busy > 0)
		ereport(NOTICE,
				errmsg("%lld streams are looked at again by the next call because others were about to change them",
					   (long long) removal->streams_busy));
}

/* Sends what was removed, a row for each category. */
static void
send_what_was_removed(const EsRemoval *removal)
{
	HASH_SEQ_STATUS all;
	EsRemoved  *removed;
	StringInfoData row;

	hash_seq_init(&all, removal->removed);
	while ((removed = hash_seq_search(&all)) != NULL)
	{
		es_errand_begin_row(&row);
		pq_sendint64(&row, removed->events);
		pq_sendint64(&row, removed->bytes);
		pq_sendbytes(&row, VARDATA_ANY(removed->category), VARSIZE_ANY_EXHDR(removed->category));
		es_errand_end_row(&row);
	}
}

/* Tells whether there is a store whose events may be removed here. */
static bool
is_store_to_scavenge(void)
{
	bool		is;

	StartTransactionCommand();
	is = es_base_is_installed() && !es_subscriber_is();
	CommitTransactionCommand();
	return is;
}

/*
 * Locks the rules of retention; false if another transaction does not let go of them, as it
 * may be that of who waits for us.
 */
static bool
lock_rules(void)
{
	static uint32 wait_event = 0;

	for (int i = 0; !es_base_try_lock(&es_policy_table, ES_POLICY_LOCK); i++)
	{
		if (i == LOCK_TRIES)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_PAUSE_MS,
						 es_base_wait_event(&wait_event, "EventstoreRetention"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Hides what is due by retention, in transactions of its own; a rule that fails is told of. */
static void
carry_out_retention(void)
{
	EsRetentionRound round = {.by_hand = true,.began = GetCurrentTimestamp()};
	bool		done = false;

	es_headway_enter(ES_PHASE_RETENTION, -1);
	while (!done)
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (lock_rules())
			done = es_retention_apply(&round);
		else
		{
			ereport(NOTICE,
					errmsg("what ages out is not hidden now because another transaction has locked the rules"));
			done = true;
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	es_retention_report(&round, WARNING);
}

/* What a worker is at. */
typedef struct ScavengeWork
{
	ScavengeOrder order;
	int			caller;			/* its pid; 0: nobody waits */
	EsRemoval	removal;
} ScavengeWork;

/* Seals what is complete, removes what is hidden, and gives back the room. */
static void
scavenge_store(void *arg)
{
	ScavengeWork *work = arg;
	const ScavengeOrder *order = &work->order;
	EsSealing	sealing = {.caller = order->looks_on ? 0 : work->caller,.again = order->again};

	es_headway_begin(ES_COMMAND_SCAVENGE);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
	es_sealer_run(&sealing);
	if (is_store_to_scavenge())
	{
		if (work->caller != 0)
			carry_out_retention();
		pgstat_report_activity(STATE_RUNNING, "removing hidden events of eventstore.events");
		es_headway_enter(ES_PHASE_REMOVING, order->most == PG_INT64_MAX ? -1 : order->most);
		es_remove_hidden(&work->removal);
		sealing.removed = work->removal.losses;
		if (order->again && hash_get_num_entries(sealing.removed) > 0)
			es_sealer_run(&sealing);
	}
	es_headway_end();
	if (work->caller != 0)
		return;
	es_sealer_resign();
	es_timing_run();
}

/*
 * es_scavenge_main is the background worker.  What fails while nobody waits is said in the
 * server's log, once; else the caller is told.
 */
void
es_scavenge_main(Datum main_arg)
{
	ScavengeWork work;
	bool		awaited;

	work.caller = es_errand_begin(&work.order, sizeof(work.order));
	awaited = work.caller != 0;
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
	es_remove_begin(&work.removal, work.order.most, awaited ? 0 : scavenge_rate);
	if (es_sealer_become(awaited))
	{
		if (awaited)
			scavenge_store(&work);
		else
			es_trouble_run(ES_TASK_SCAVENGING, scavenge_store, &work);
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	if (!awaited)
		return;
	notice_what_is_held_back(&work.removal);
	send_what_was_removed(&work.removal);
	es_errand_end();
}

/* ---- asking ---- */

/* The errand of a worker that is to remove so many events at most. */
static EsErrand
make_scavenge_errand(const ScavengeOrder *order)
{
	EsErrand	errand = {.function = "es_scavenge_main",.type = "eventstore scavenger",.purpose = "scavenge",
	.order = order,.size = sizeof(*order)};

	return errand;
}

/*
 * Tells the oldest transaction whose end anybody but this process may not see, if there is
 * one that has not ended; else InvalidTransactionId.  All segments have the same one.
 */
static TransactionId
find_old_sight(void)
{
	TransactionId next = ReadNextTransactionId();
	Relation	rel = es_base_open(&es_base_streams, AccessShareLock);
	TransactionId oldest = es_horizon_find(rel, MyProcPid);

	table_close(rel, AccessShareLock);
	return TransactionIdPrecedes(oldest, next) ? oldest : InvalidTransactionId;
}

/*
 * Tells whether room that could not be given back may be by now: others have gone than those
 * who saw what was removed when the last worker was started, or that was not it, but locks,
 * an error, or the end of who was at it.
 */
static bool
may_give_back_more(TransactionId old_sight)
{
	return !TransactionIdIsValid(old_sight) || old_sight != last_old_sight || es_roster_has_room_left();
}

/*
 * es_scavenge_start starts a worker that keeps to eventstore.scavenge_rate, and that nobody
 * waits for, if that is wanted and there is something to remove or to give back.  False if it
 * cannot now: another process is at it, or no worker is free.  In a transaction, after that
 * which has hidden what is to be removed.
 */
bool
es_scavenge_start(void)
{
	ScavengeOrder order = {.most = PG_INT64_MAX};
	EsErrand	errand = make_scavenge_errand(&order);
	TransactionId old_sight;

	if (scavenge_rate == 0 || es_subscriber_is())
		return true;
	old_sight = find_old_sight();
	order.again = may_give_back_more(old_sight);
	if (!es_remove_any_hidden() && !es_sealer_has_work(order.again))
		return true;
	if (es_sealer_is_at_work())
		return false;
	if (order.again)
		es_roster_set_room_left(true);	/* it may end before it is at it */
	if (!es_errand_start(&errand))
		return false;
	last_old_sight = old_sight;
	return true;
}

/* Puts a row that the worker has sent into the result. */
static void
return_removed_row(StringInfo row, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[3];
	bool		isnull[3] = {false};

	values[1] = Int64GetDatum(pq_getmsgint64(row));
	values[2] = Int64GetDatum(pq_getmsgint64(row));
	values[0] = PointerGetDatum(cstring_to_text_with_len(row->data + row->cursor, row->len - row->cursor));
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * Tells whether this process has other snapshots than that of the statement, a cursor's or
 * the transaction's: then they count for what is given back (segment/compact.c).
 */
static bool
has_snapshots_of_before(void)
{
	InvalidateCatalogSnapshot();
	return IsolationUsesXactSnapshot() || !ThereAreNoPriorRegisteredSnapshots();
}

/*
 * es_scavenge(max_events): removes hidden events for good, and gives the disk their room
 * back; returns what was removed, by category: events, and the bytes of their rows.
 *
 * For who has 'admin' on '*', else 42501.  max_events NULL is unlimited, a negative one
 * 22023.  Leaves what is still needed, and says in a NOTICE by whom.  A background
 * worker does it in transactions of its own, so what the calling transaction has hidden
 * is not removed, and a rollback or a cancel undoes nothing.  Waits for another one that
 * scavenges; 53400 if no worker is free, 55000 if it is ended, 40P01 if it waits for the
 * calling transaction, 55P03 if somebody else keeps what it needs locked for more than 5
 * seconds.  On a logical subscriber, which loses events as its publisher does, it only
 * gives room back.
 */
Datum
es_scavenge(PG_FUNCTION_ARGS)
{
	ScavengeOrder order = {.most = es_call_limit_arg(fcinfo, 0, "max_events"),.looks_on = has_snapshots_of_before(),.again = true};
	EsErrand	errand = make_scavenge_errand(&order);

	es_right_require(ES_RIGHT_ADMIN, NULL);
	PreventCommandDuringRecovery("es_scavenge()");
	PreventCommandIfReadOnly("es_scavenge()");
	PreventCommandIfParallelMode("es_scavenge()");
	es_errand_run(&errand, return_removed_row, es_call_begin_rows(fcinfo));
	return (Datum) 0;
}
