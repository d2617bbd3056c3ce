/*
 * worker.c
 *		The background workers that look after stores.
 *
 * Where the library is preloaded there is a launcher (launcher.c), which the server
 * starts and, after a crash, starts again, and one worker for each database that has a
 * store.  The launcher cannot see which databases those are: at its start it has
 * each looked at, one after the other, and later sessions announce their store
 * (shared/roster.c).  A worker whose database has none leaves at once.  There are
 * never more workers than eventstore.max_workers, by default half of the server's
 * worker processes: segments are made by such, too, and without them in the middle
 * of appends.
 *
 * A worker writes the settled mark that hot standbys read by, at most once in
 * eventstore.settle_interval, and not at all while nothing is appended: then it
 * sleeps until an append wakes it.  Where somebody reads elsewhere a hole would hold
 * him up as long as that.  So whoever leaves one tells (shared/roster.c), and the mark is
 * written at once.  If transactions in flight are below the hole, the worker waits for
 * news until the mark has passed it, as any waiter does.  Between two such looks is
 * HOLE_PAUSE_MS, however many holes there are, and a piece of all other work.
 *
 * It runs the projections that follow the log (projection/schedule.c), and does what is to
 * be done now and then (upkeep.c); a hole waits for the end of a batch.  And while it
 * sleeps it wakes waiters where there are too many for the appender.
 *
 * A worker is in nobody's way.  It locks only what it needs for a moment, waits
 * for a lock no longer than lock_timeout, which is below the default
 * deadlock_timeout, and leaves its database when a statement needs that for
 * itself (statements.c), when the extension is dropped, and at shutdown, between
 * two pieces of work; only what users' code does ends in the middle.  While a store
 * is being loaded (shared/mark.c) it does nothing.
 *
 * A failed piece of work is logged and tried again later, each time a little
 * later.  A killed worker takes the server through a restart, as any backend
 * does; nothing is left of it.
 */
#include "server/worker.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "base/owner.h"
#include "base/process.h"
#include "base/release.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "projection/schedule.h"
#include "server/upkeep.h"
#include "shared/mark.h"
#include "shared/roster.h"
#include "shared/trouble.h"
#include "shared/wake.h"
#include "type/handler.h"

#define MOST_DELAY_MS		60000	/* after failures */
#define IDLE_MS				60000	/* between looks without news */
#define HOLE_PAUSE_MS		10	/* between looks for the sake of holes */

static volatile sig_atomic_t told_to_go = false;
static volatile sig_atomic_t in_users_code = false;

static int	settle_interval = 1000; /* GUC eventstore.settle_interval, ms */

/* ---- what it has in common with the launcher ---- */

/* Defines the GUC; called once, from _PG_init. */
void
es_worker_init(void)
{
	DefineCustomIntVariable("eventstore.settle_interval",
							"How often the worker writes the mark that hot standbys read by, at most.",
							"0 turns that off.",
							&settle_interval, 1000, 0, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/*
 * SIGTERM: the process ends between two pieces of work; users' code may take long,
 * and ends at once.
 */
static void
be_told_to_go(SIGNAL_ARGS)
{
	int			saved = errno;

	told_to_go = true;
	SetLatch(MyLatch);
	if (in_users_code || es_handler_on_behalf)
		die(postgres_signal_arg);
	errno = saved;
}

/* es_worker_told_to_go tells whether the process has been told to end. */
bool
es_worker_told_to_go(void)
{
	return told_to_go;
}

/* es_worker_set_up sets a process up that ends when it is told to. */
void
es_worker_set_up(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, be_told_to_go);
	/* a SIGHUP that came before there was a handler was ignored */
	ConfigReloadPending = true;
	BackgroundWorkerUnblockSignals();
}

/*
 * es_worker_sleep_until sleeps until woken, or until a time; reads the configuration again if it
 * has changed.
 */
void
es_worker_sleep_until(TimestampTz then)
{
	static uint32 wait_event = 0;
	long		timeout = -1;
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

	if (then != DT_NOEND)
	{
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), then);
		events |= WL_TIMEOUT;
	}
	(void) WaitLatch(MyLatch, events, timeout, es_base_wait_event(&wait_event, "EventstoreWorkerMain"));
	ResetLatch(MyLatch);
	if (!ProcDiePending)
		CHECK_FOR_INTERRUPTS(); /* whoever drops a database waits for that */
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* ---- the worker ---- */

/* What is to be done now and then. */
typedef struct Chore
{
	TimestampTz at;				/* a time that the work itself gives;
								 * DT_NOBEGIN: there is more at once */
	TimestampTz again_at;		/* not before, after a failure */
	int			delay_ms;		/* of that */
} Chore;

/* What a worker found at its last piece of work. */
typedef struct Work
{
	bool		has_store;
	bool		idle;			/* the mark is at the end of the log */
	int64		hole;			/* the mark has not passed it; 0: there is
								 * none for all we know */
	bool		hindered;		/* nor could it, for what was in flight then */
	TimestampTz worked_at;
	int			delay_ms;		/* after a failure */
	EsScheduleLook projections; /* what was found last */
	bool		must_look;		/* told to look after them */
	TimestampTz looked_at;
	int			projector_delay_ms; /* after a failure there */
	TimestampTz put_off_until;
	TimestampTz seen_at;		/* the clock, when it was looked at last */
	Chore		upkeep;			/* when it is due */
	Chore		sealing;		/* when the log was sealed last */
} Work;

static bool leaves_store = true;	/* what the roster is told as the worker
									 * ends */

/* Ends the wait that the worker may be in, as it ends itself, and does what was left to it. */
static void
end_worker_wait(int code, Datum arg)
{
	es_wake_end();
	es_wake_delegated();
}

/* Takes the worker off the roster as it ends; by then it is no session of the database any more. */
static void
leave_roster(int code, Datum arg)
{
	es_roster_leave(leaves_store);
}

/*
 * Writes the settled mark; true if it is at the end of the log.  If another
 * session is about to write it, that one's will do.  *hole, if any, becomes 0 once the
 * mark has passed it; then it is on disk, and thus sent, as the transaction commits.
 */
static bool
write_settled_mark(int64 *hole)
{
	int64		last;
	EsOwnerContext saved;
	int64		marked;

	if (settle_interval == 0)
		return false;
	if (es_subscriber_is())
	{
		*hole = 0;
		return true;			/* the publisher's arrives */
	}
	if (es_sharedmark_is_loading(es_base_oid(&es_base_position_seq)) ||
		!es_base_try_lock(&es_settle_mark, ShareRowExclusiveLock))
		return false;
	last = es_settle_last_given();
	*hole = Min(*hole, last);
	if (*hole != 0)
		ForceSyncCommit();
	es_owner_enter(&saved);
	marked = es_settle_write_mark();
	es_owner_leave(&saved);
	if (marked >= *hole)
		*hole = 0;
	return marked >= last;
}

/* Does what there is to do, in a transaction of its own. */
static void
write_mark_in_transaction(Work *work)
{
	int64		hole = work->hole;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, "writing the settled mark of eventstore");
	work->has_store = es_base_is_installed();
	work->idle = work->has_store && write_settled_mark(&hole);
	CommitTransactionCommand();
	work->hole = hole;
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Ends a piece of work that failed, and makes the time longer for which it is put off. */
static void
put_off_failed_work(int *delay_ms, EsTask task)
{
	es_trouble_take_error(task);
	*delay_ms = Min(Max(2 * *delay_ms, 1000), MOST_DELAY_MS);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Registers for news, before a look that tells that there are none yet. */
static void
start_listening_for_news(void)
{
	if (!es_wake_is_registered())
		es_wake_begin(ES_WAKE_ALL);
}

/* Is not told of news any more. */
static void
stop_listening_for_news(Work *work)
{
	es_wake_end();
	work->idle = work->hindered = false;
}

/*
 * Writes the mark.  The worker registers for news before it looks, and stays
 * registered only if it then sleeps until there are some: appends pay for waking it
 * once in an interval at most, where no projections follow them.
 */
static void
write_mark_once(Work *work)
{
	MemoryContext context = CurrentMemoryContext;
	int64		hole = es_roster_take_hole();

	work->worked_at = GetCurrentTimestamp();
	work->hole = Max(work->hole, hole);
	start_listening_for_news();
	PG_TRY();
	{
		write_mark_in_transaction(work);
		work->delay_ms = 0;
		work->hindered = work->hole != 0;
		es_trouble_end(ES_TASK_SETTLING);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		put_off_failed_work(&work->delay_ms, ES_TASK_SETTLING);
		stop_listening_for_news(work);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (!work->idle && !work->hindered && !work->projections.follows)
		stop_listening_for_news(work);
}

/* Has a batch of a projection run; false if there is none to run. */
static bool
run_projection_batch(void)
{
	bool		ran;

	in_users_code = true;
	ran = told_to_go || es_schedule_work();
	in_users_code = false;
	return ran;
}

/*
 * Notes that a batch failed in a way that ended its transaction.  Where that was
 * not the doing of one projection, all of them are put off.
 */
static void
put_off_projections(Work *work)
{
	bool		one = es_schedule_accuse();

	in_users_code = false;
	/* a projection's failure is logged as it is noted */
	put_off_failed_work(&work->projector_delay_ms, one ? ES_NTASKS : ES_TASK_PROJECTIONS);
	stop_listening_for_news(work);
	work->must_look = true;
	if (one)
		work->projector_delay_ms = 0;
	work->projections.again_at = work->put_off_until =
		GetCurrentTimestamp() + work->projector_delay_ms * INT64CONST(1000);
}

/*
 * Has a batch of a projection run, or looks which have something to do; true if
 * there may be more at once.  While it is at work the worker is not registered for
 * news: then appends pay nothing for it.
 */
static bool
run_projections(Work *work)
{
	EsScheduleLook *look = &work->projections;
	MemoryContext context = CurrentMemoryContext;
	volatile bool again = true;

	if (GetCurrentTimestamp() < work->put_off_until)
	{
		look->again_at = work->put_off_until;
		return false;
	}
	PG_TRY();
	{
		if (!run_projection_batch())
		{
			start_listening_for_news();
			work->looked_at = GetCurrentTimestamp();
			work->must_look = false;
			es_schedule_look(look);
			again = look->busy;
			if (again || !(look->follows || work->idle || work->hindered))
				stop_listening_for_news(work);
		}
		work->projector_delay_ms = 0;
		es_trouble_end(ES_TASK_PROJECTIONS);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		put_off_projections(work);
		again = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return again;
}

/* Tells whether there is a hole that the mark may be able to pass now. */
static bool
is_hole_to_pass(const Work *work)
{
	return !work->hindered && (work->hole != 0 || es_roster_has_hole());
}

/* Does a piece of a chore, in a transaction of its own; true if there is more at once. */
static bool
run_chore(Chore *chore, EsTask task, TimestampTz (*work) (void))
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool more = false;

	PG_TRY();
	{
		chore->at = told_to_go ? DT_NOEND : work();
		chore->again_at = DT_NOBEGIN;
		more = chore->at == DT_NOBEGIN;
		if (!more)				/* what is left may still fail */
		{
			chore->delay_ms = 0;
			es_trouble_end(task);
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		put_off_failed_work(&chore->delay_ms, task);
		chore->again_at = GetCurrentTimestamp() + chore->delay_ms * INT64CONST(1000);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return more;
}

/* When there is upkeep to do. */
static TimestampTz
find_upkeep_due(const Work *work)
{
	return Max(work->upkeep.at, work->upkeep.again_at);
}

/* When the log is to be sealed. */
static TimestampTz
find_sealing_due(const Work *work)
{
	TimestampTz due = es_upkeep_seal_due(work->sealing.at);

	return Max(due, work->sealing.again_at);
}

/* When the mark is to be written, if nothing happens before. */
static TimestampTz
find_due_time(const Work *work)
{
	int64		pause_ms = settle_interval;

	if (settle_interval == 0 && work->delay_ms == 0)
		return DT_NOEND;
	if (is_hole_to_pass(work))
		pause_ms = HOLE_PAUSE_MS;
	else if (work->idle)
		pause_ms = IDLE_MS;		/* should a wake-up have been missed */
	if (work->delay_ms != 0)
		pause_ms = work->delay_ms;	/* nothing was written */
	return work->worked_at + pause_ms * INT64CONST(1000);
}

/*
 * Tells whether to look after projections: where some follow what is appended; when
 * told that there is something new to do; and now and then.
 */
static bool
is_projection_look_due(const Work *work)
{
	TimestampTz now = GetCurrentTimestamp();

	return work->projections.follows || work->must_look || work->projections.again_at <= now ||
		work->looked_at + IDLE_MS * INT64CONST(1000) <= now;
}

/* Sleeps until woken, or there is something to do. */
static void
rest_until_news(Work *work)
{
	TimestampTz due = find_due_time(work);
	TimestampTz sealing = find_sealing_due(work);
	TimestampTz upkeep = find_upkeep_due(work);

	due = Min(Min(due, sealing), Min(work->projections.again_at, upkeep));
	/* what came meanwhile may have set the latch in vain */
	if (es_roster_rest() || es_wake_told() || told_to_go)
		due = GetCurrentTimestamp();
	es_worker_sleep_until(due);
	es_wake_delegated();
	(void) es_wake_told();
	work->idle = work->hindered = false;	/* woken, so there is news */
	if (!work->projections.follows)
		stop_listening_for_news(work);
}

/*
 * Forgets when something is due if the clock has been set back since that was said: it
 * would wait for as long as the clock has gone back.  What is due now and then is due now.
 */
static void
forget_future_times(Work *work)
{
	TimestampTz now = GetCurrentTimestamp();

	if (work->worked_at <= now && work->looked_at <= now && work->seen_at <= now)
	{
		work->seen_at = now;
		return;
	}
	work->seen_at = work->worked_at = work->looked_at = now;
	work->put_off_until = work->projections.again_at = now;
	work->must_look = true;
	work->upkeep.at = work->sealing.at = work->upkeep.again_at = work->sealing.again_at = DT_NOBEGIN;
	es_upkeep_begin_round();
}

/* Looks after the store until told to go, or there is none. */
static void
look_after_store(void)
{
	/* whoever has left holes before this may not have been heard */
	Work		work = {.has_store = true,.must_look = true,.hole = PG_INT64_MAX,
		.upkeep = {DT_NOBEGIN, DT_NOBEGIN},.sealing = {DT_NOBEGIN, DT_NOBEGIN}
	};
	bool		mark_turn = false;	/* the mark's turn, then that of all else */

	write_mark_once(&work);
	while (work.has_store && !told_to_go && es_roster_may_stay())
	{
		bool		nudged = es_roster_take_nudge();

		forget_future_times(&work);
		work.must_look = work.must_look || nudged;
		if (nudged)
		{
			work.upkeep.at = work.upkeep.again_at = DT_NOBEGIN;
			es_upkeep_begin_round();
		}
		mark_turn = nudged || (!mark_turn && find_due_time(&work) <= GetCurrentTimestamp());
		if (mark_turn)
			write_mark_once(&work);
		else
		{
			TimestampTz now = GetCurrentTimestamp();
			bool		more = find_upkeep_due(&work) <= now && run_chore(&work.upkeep, ES_TASK_RETENTION, es_upkeep_work);

			if (find_sealing_due(&work) <= now)
				more = run_chore(&work.sealing, ES_TASK_SEALING, es_upkeep_seal) || more;
			if (!es_wake_is_registered())	/* a chore's failure ended it */
				stop_listening_for_news(&work);
			if ((!is_projection_look_due(&work) || !run_projections(&work)) && !more)
				rest_until_news(&work);
		}
	}
	leaves_store = work.has_store;
}

/* Tells whether this database has a store. */
static bool
database_has_store(void)
{
	bool		found;

	StartTransactionCommand();
	found = es_base_is_installed();
	es_release_report();
	CommitTransactionCommand();
	return found;
}

/* es_worker_main is the worker of one database. */
void
es_worker_main(Datum main_arg)
{
	Oid			database = DatumGetObjectId(main_arg);

	es_worker_set_up();
	if (!es_roster_enter(database))
		proc_exit(0);
	on_shmem_exit(leave_roster, (Datum) 0);

	/*
	 * To connect takes a lock on the database, too.  Up to then this process
	 * is nobody, and a source that counts as interactive would ask who it is.
	 */
	SetConfigOption("lock_timeout", ES_PROCESS_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	before_shmem_exit(end_worker_wait, (Datum) 0);
	es_process_set_transactions(ES_PROCESS_LOCK_TIMEOUT);
	/* marks need not be on disk, nor on a standby, before the worker goes on */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
	es_settle_for_worker = true;
	if (database_has_store())
	{
		es_roster_confirm();
		es_schedule_begin();
		look_after_store();
	}
	else
		leaves_store = false;
	proc_exit(0);
}
