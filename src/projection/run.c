/*
 * run.c
 *		Running projections, by hand and one batch at a time, and waiting for them.
 *
 * By hand, es_run_projection takes in one batch after the other in the caller's
 * transaction; the worker has a transaction for each (schedule.c).  Either way
 * the projection's lock is held to the end of the transaction: the worker passes
 * over a projection that somebody else runs, who runs one by hand waits.
 */
#include "projection/run.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "log/wait.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "projection/rebuild.h"
#include "shared/wake.h"

PG_FUNCTION_INFO_V1(es_run_projection);
PG_FUNCTION_INFO_V1(es_wait_projection);
PG_FUNCTION_INFO_V1(es_skip_event);

/* ---- running ---- */

/*
 * Raises 40001 if a handler would see the tables as they were before somebody else
 * took events in: in a transaction with one snapshot that is older.
 */
static void
require_fresh_snapshot(EsRun *run)
{
	EsProgress	seen;

	if (run->projection->handler == NULL || !IsolationUsesXactSnapshot())
		return;
	if (!es_progress_read_as_of(run->progress.projection_id, run->progress.live, GetTransactionSnapshot(), &seen) ||
		seen.generation != run->progress.generation || seen.position != run->progress.position)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not serialize access due to concurrent run of projection \"%s\"",
					   text_to_cstring(run->projection->name)),
				errhint("The transaction might succeed if retried."));
}

/*
 * es_run_begin gets a run ready, under the projection's lock; false if there is no
 * such generation, or nothing to run in it.
 */
bool
es_run_begin(EsRun *run, bool live)
{
	if (!es_progress_read(run->projection->id, live, &run->progress) ||
		(live && run->projection->is_inline && !run->progress.litter))
		return false;
	require_fresh_snapshot(run);
	return true;
}

/*
 * es_run_batch does one batch; *more tells whether there is something left to do at
 * once.  Returns the error that is noted, or NULL.
 */
ErrorData *
es_run_batch(EsRun *run, bool *more)
{
	int64		before = run->progress.position;
	ErrorData  *error;

	if (!run->progress.live)
		return es_rebuild_step(run, more);
	if (run->progress.litter)
		es_rebuild_sweep(run);
	*more = run->progress.litter;
	if (before >= run->upto || run->projection->is_inline)
		return NULL;
	error = es_batch_try(run);
	*more = error == NULL && run->progress.position > before && run->progress.position < run->upto && run->most > 0;
	return error;
}

/* Runs one generation until there is nothing left, or it fails. */
static void
run_generation(EsRun *run, bool live)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection run",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		more = es_run_begin(run, live);

	while (more)
	{
		(void) es_run_batch(run, &more);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * es_run_projection(projection, max_events): takes in what a projection has not yet,
 * and goes on with its rebuild, up to where the log is settled now; returns how many
 * events it took in.
 *
 * NULL max_events: no limit; negative: 22023.  Unknown: VE004.  Does not mind that
 * a failed one is to wait.  A failure keeps what went well before it, is noted, and
 * raises a WARNING.  Waits for others that run it; a rollback takes all back.
 */
Datum
es_run_projection(PG_FUNCTION_ARGS)
{
	text	   *name = es_projection_name_arg(fcinfo, 0);
	EsRun		run = {.most = es_call_limit_arg(fcinfo, 1, "max_events")};

	es_subscriber_prevent_write("es_run_projection()");
	run.projection = es_projection_get_locked(name);
	run.upto = es_settle_compute();
	if (run.most > 0)
		run_generation(&run, true);
	if (run.most > 0)
		run_generation(&run, false);
	PG_RETURN_INT64(run.events);
}

/*
 * es_skip_event(projection, position): has a projection leave out the event at
 * which it, or its rebuild, stands failed.
 *
 * It is tried again at once.  A negative position: 22023; unknown: VE004; a projection that has not failed at
 * this position: 55000.  Waits for who runs it; a rollback undoes it.
 */
Datum
es_skip_event(PG_FUNCTION_ARGS)
{
	text	   *name = es_projection_name_arg(fcinfo, 0);
	const EsProjection *projection;
	int64		position;
	bool		skipped = false;

	position = es_call_position_arg(fcinfo, 1, "position");
	es_subscriber_prevent_write("es_skip_event()");
	projection = es_projection_get_locked(name);
	for (int live = 1; live >= 0; live--)
	{
		EsProgress	row;

		if (!es_progress_read(projection->id, live, &row) || row.error == NULL ||
			row.error_position == 0 || row.error_position != position)
			continue;
		if (!skipped)
			es_progress_add_skip(&row);
		skipped = true;
		es_progress_forgive(&row);
		es_progress_write(&row);
	}
	if (!skipped)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("projection \"%s\" has not failed at position " INT64_FORMAT,
					   text_to_cstring(name), position),
				errhint("The view es_projections has the position at which a projection has failed."));
	es_projection_announce(true);
	PG_RETURN_VOID();
}

/* ---- waiting ---- */

/* What is waited for. */
typedef struct ProjectionWait
{
	const text *name;
	int64		position;
} ProjectionWait;

/* Looks whether a projection has come as far. */
static bool
look_at_projection(EsWait *wait)
{
	const ProjectionWait *what = wait->arg;
	const EsProjection *projection = es_projection_get(what->name);
	EsProgress	row;

	if (projection->is_inline)
		return es_settle_compute() >= what->position;
	return es_progress_read(projection->id, true, &row) && row.position >= what->position;
}

/*
 * es_wait_projection(projection, position, timeout): waits until a projection has
 * taken in everything up to a position; tells whether it has.
 *
 * eventstore.max_wait caps the timeout.  NULLs are 22004, a negative position or timeout 22023,
 * an unknown projection, or one that is dropped meanwhile, VE004.  Holds its
 * statement's snapshot.
 */
Datum
es_wait_projection(PG_FUNCTION_ARGS)
{
	ProjectionWait what = {.name = es_projection_name_arg(fcinfo, 0)};
	EsWait		wait = {.look = look_at_projection,.arg = &what};
	const EsProjection *projection = es_projection_get(what.name);

	what.position = es_call_position_arg(fcinfo, 1, "position");
	wait.timeout = es_wait_cap(es_call_interval_arg(fcinfo, 2, "timeout"));
	wait.interest = projection->is_inline ? ES_WAKE_ALL : es_wake_object(ES_WAKE_PROJECTION, projection->id);
	PG_RETURN_BOOL(es_wait_until(&wait));
}
