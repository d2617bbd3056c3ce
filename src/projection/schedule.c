/*
 * schedule.c
 *		Projections in the worker: which have something to do, and whose turn it is.
 *
 * Each batch that takes something in ends a transaction, and each projection has one
 * batch before the next has its turn.
 *
 * The worker first looks which projections have something to do: those behind the
 * settled position, and rebuilds, unless they wait after a failure.  What it
 * remembers between transactions are ids only.
 *
 * A transaction runs users' code of one projection at most, so what ends it is that
 * projection's failure, and is noted in another one.  The roster keeps on record
 * whose code runs, so that also what ended a worker is noted, by the next one; and
 * each begins at another place, should a crash have taken the roster with it.
 */
#include "projection/schedule.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/objects.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "projection/batch.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "projection/run.h"
#include "shared/mark.h"
#include "shared/roster.h"

#define LOCKED_AGAIN_US	INT64CONST(100000)
#define LOADING_AGAIN_US	INT64CONST(1000000)
#define MOST_TOGETHER	32

/* A generation that the worker has something to do for. */
typedef struct Task
{
	int64		projection_id;
	bool		live;
} Task;

static Task *tasks = NULL;		/* in TopMemoryContext */
static int	ntasks = 0;
static int	task_room = 0;

/* Whose code this transaction runs; id 0: nobody's. */
static Task at_work = {0};

/*
 * What ended the transaction, or the process, in which a task was at work: it is to
 * be noted there.
 */
static Task culprit = {0};		/* id 0: none */
static ErrorData *culprit_error = NULL;
static MemoryContext culprit_context = NULL;

/* ---- looking ---- */

/*
 * Begins a transaction of the worker's; false, with none begun, if there is nothing
 * to look after.
 */
static bool
begin_worker_transaction(const char *what)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, what);
	if (!es_base_is_installed() ||
		es_sharedmark_is_loading(es_base_oid(&es_base_position_seq)) || es_subscriber_is())
	{
		CommitTransactionCommand();
		pgstat_report_activity(STATE_IDLE, NULL);
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

/* Ends it. */
static void
end_worker_transaction(void)
{
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Keeps the store from being dropped while this transaction runs; false if it just
 * is being dropped, or made anew: a worker that waited for that would find nothing.
 */
static bool
keep_store(void)
{
	return es_projection_try_keep();
}

/* Notes a generation as one that there is something to do for. */
static void
add_projection_task(const EsProgress *row)
{
	if (ntasks == task_room)
	{
		task_room = Max(2 * task_room, 16);
		tasks = tasks == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(Task) * task_room) :
			repalloc(tasks, sizeof(Task) * task_room);
	}
	tasks[ntasks].projection_id = row->projection_id;
	tasks[ntasks].live = row->live;
	ntasks++;
}

/* Looks at one generation. */
static void
look_at_progress_row(const EsProgress *row, int64 settled, EsScheduleLook *look)
{
	TimestampTz now = GetCurrentTimestamp();

	if (row->live && row->position >= settled && !row->litter)
		return;
	if (es_backoff_is_pending(row->retry_at, now))
		look->again_at = Min(look->again_at, row->retry_at);
	else if (es_projection_is_locked(row->projection_id))
		look->again_at = Min(look->again_at, now + LOCKED_AGAIN_US);
	else
		add_projection_task(row);
}

/* Puts tasks in an order that begins at another place in each worker. */
static void
rotate_tasks(void)
{
	static uint64 start = 0;
	Task		first;

	if (start == 0)
		start = pg_prng_uint64(&pg_global_prng_state);
	for (int i = ntasks > 1 ? start % ntasks : 0; i > 0; i--)
	{
		first = tasks[0];
		memmove(tasks, tasks + 1, sizeof(Task) * (ntasks - 1));
		tasks[ntasks - 1] = first;
	}
}

/*
 * es_schedule_look looks which projections have something to do, in a transaction
 * of its own.
 */
void
es_schedule_look(EsScheduleLook *look)
{
	const EsProjectionSet *set;
	EsProgress *rows;
	int64		settled;
	int			count;

	look->follows = look->busy = false;
	look->again_at = DT_NOEND;
	ntasks = 0;
	if (!begin_worker_transaction("looking after the projections of eventstore"))
	{
		look->again_at = GetCurrentTimestamp() + LOADING_AGAIN_US;
		return;
	}
	if (!keep_store())
	{
		look->again_at = GetCurrentTimestamp() + LOCKED_AGAIN_US;
		end_worker_transaction();
		return;
	}
	set = es_projection_pin(CurrentMemoryContext);
	if (set->count > 0)
	{
		settled = es_settle_compute();
		count = es_progress_read_all(&rows);
		for (int i = 0; i < count; i++)
		{
			const EsProjection *projection = es_projection_find_by_id(set, rows[i].projection_id);

			if (projection == NULL || (projection->is_inline && rows[i].live && !rows[i].litter))
				continue;
			look->follows = true;
			look_at_progress_row(&rows[i], settled, look);
		}
	}
	rotate_tasks();
	look->busy = ntasks > 0;
	end_worker_transaction();
}

/* ---- failures that end more than an attempt ---- */

/* Makes a task one whose failure is to be noted. */
static void
accuse_task(const Task *task, const ErrorData *error)
{
	culprit = *task;
	culprit_error = palloc(sizeof(ErrorData));
	*culprit_error = *error;
}

/* Gives the context for what is to be noted, empty. */
static MemoryContext
empty_culprit_context(void)
{
	if (culprit_context == NULL)
		culprit_context = AllocSetContextCreate(TopMemoryContext, "eventstore projector", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(culprit_context);
	return culprit_context;
}

/*
 * es_schedule_accuse, in a PG_CATCH block, has an error that ended the transaction
 * of es_schedule_work noted by its next call; false if no projection was at work.
 */
bool
es_schedule_accuse(void)
{
	MemoryContext old;

	if (at_work.projection_id == 0)
		return false;
	old = MemoryContextSwitchTo(empty_culprit_context());
	accuse_task(&at_work, CopyErrorData());
	MemoryContextSwitchTo(old);
	return true;
}

/* es_schedule_begin has it noted if the last worker was ended while a projection was at work. */
void
es_schedule_begin(void)
{
	bool		rebuild;
	Task		task = {.projection_id = es_roster_take_at_work(&rebuild)};
	ErrorData	error = {.elevel = ERROR,.sqlerrcode = ERRCODE_ADMIN_SHUTDOWN,
		.message = "the worker was ended while it ran the projection"
	};
	MemoryContext old;

	if (task.projection_id == 0)
		return;
	task.live = !rebuild;
	old = MemoryContextSwitchTo(empty_culprit_context());
	accuse_task(&task, &error);
	MemoryContextSwitchTo(old);
}

/* Says that nobody's code runs. */
static void
leave_task(void)
{
	at_work.projection_id = 0;
	es_roster_set_at_work(0, false);
}

/* Ends what the code of the task at work has left to the session. */
static void
clean_task_session(void)
{
	leave_task();
	LockReleaseAll(USER_LOCKMETHOD, true);
}

/* Notes what is to be noted, in a transaction of its own. */
static void
note_culprit(void)
{
	EsRun		run = {.by_worker = true};
	int64		id = culprit.projection_id;

	culprit.projection_id = 0;
	clean_task_session();
	if (!begin_worker_transaction("noting that a projection of eventstore failed"))
		return;
	run.projection = es_projection_find_by_id(es_projection_pin(CurrentMemoryContext), id);
	if (run.projection && es_projection_lock(id, false) && es_progress_read(id, culprit.live, &run.progress))
		es_batch_note_failure(&run, 0, NULL, culprit_error);
	else
		ereport(WARNING,
				errcode(culprit_error->sqlerrcode),
				errmsg("could not note the failure of a projection: %s",
					   culprit_error->message ? culprit_error->message : "unknown error"),
				run.projection ? errdetail("Somebody else runs projection \"%s\".", text_to_cstring(run.projection->name)) :
				errdetail("The projection was dropped meanwhile."));
	end_worker_transaction();
}

/* ---- working ---- */

/* What came of a task. */
typedef enum Outcome
{
	PASSED,						/* the transaction may go on with another one */
	WORKED,						/* it is to end */
	PUT_OFF						/* it is to end, and the task comes again */
} Outcome;

/*
 * Does one batch for a generation, unless somebody else runs the projection by now.
 * What would run users' code, or take long, is put off where the transaction has
 * others to commit: they keep their locks no longer than need be.
 */
static Outcome
do_projection_task(const Task *task, bool has_others)
{
	EsRun		run = {.most = PG_INT64_MAX,.by_worker = true,.only_passes = has_others};
	bool		more;
	bool		sweeps;
	bool		worked;

	if (!es_projection_lock(task->projection_id, false))
		return PASSED;
	run.projection = es_projection_find_by_id(es_projection_pin(CurrentMemoryContext), task->projection_id);
	run.upto = es_settle_compute();
	if (run.projection == NULL || !es_run_begin(&run, task->live) ||
		es_backoff_is_pending(run.progress.retry_at, GetCurrentTimestamp()))
		return PASSED;
	sweeps = run.progress.litter;
	if (has_others && (sweeps || !task->live))
		return PUT_OFF;
	at_work = *task;
	es_roster_set_at_work(task->projection_id, !task->live);
	worked = es_run_batch(&run, &more) != NULL || run.events > 0 || sweeps || !task->live;
	if (!worked)
		leave_task();			/* what the next one raises is not its doing */
	return run.put_off ? PUT_OFF : worked ? WORKED : PASSED;
}

/*
 * es_schedule_work does one batch of what the last look has found for the next
 * projection in turn, in a transaction of its own; false if all have had theirs.
 * Projections that none of the new events is for only have their checkpoint moved;
 * some of those share a transaction, with no other.
 */
bool
es_schedule_work(void)
{
	int			done = 0;
	Outcome		outcome = PASSED;

	if (culprit.projection_id != 0)
	{
		note_culprit();
		return true;
	}
	if (ntasks == 0)
		return false;
	if (!begin_worker_transaction("running a projection of eventstore"))
	{
		ntasks = 0;
		return true;
	}
	while (outcome == PASSED && done < Min(MOST_TOGETHER, ntasks))
	{
		outcome = do_projection_task(&tasks[done], done > 0);
		if (outcome != PUT_OFF)
			done++;
		CHECK_FOR_INTERRUPTS();
	}
	ntasks -= done;
	memmove(tasks, tasks + done, sizeof(Task) * ntasks);
	end_worker_transaction();
	clean_task_session();
	return true;
}
