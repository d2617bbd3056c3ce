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
#include "rights/right.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/names.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "log/wait.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "projection/rebuild.h"
#include "read/find.h"
#include "shared/counter.h"
#include "shared/headway.h"
#include "shared/wake.h"

PG_FUNCTION_INFO_V1(es_run_projection);
PG_FUNCTION_INFO_V1(es_wait_projection);
PG_FUNCTION_INFO_V1(es_wait_projection_version);
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

/* Does one batch of the live generation, or a step of the rebuild. */
static ErrorData *
run_one_batch(EsRun *run, bool *more)
{
	int64		before = run->progress.position;
	ErrorData  *error;

	if (!run->progress.live)
	{
		es_headway_begin(ES_COMMAND_REBUILD);
		error = es_rebuild_step(run, more);
		es_headway_end();
		return error;
	}
	if (run->progress.litter)
		es_rebuild_sweep(run);
	*more = run->progress.litter;
	if (before >= run->upto || run->projection->is_inline)
		return NULL;
	error = es_batch_try(run);
	*more = error == NULL && run->progress.position > before && run->progress.position < run->upto && run->most > 0;
	return error;
}

/* Says in the server's log that a projection which had failed goes on. */
static void
report_recovery(const EsRun *run, int attempts)
{
	ereport(LOG,
			errmsg("projection \"%s\" goes on", text_to_cstring(run->projection->name)),
			errdetail("It had failed %d times in a row.", attempts));
}

/*
 * es_run_batch does one batch; *more tells whether there is something left to do at
 * once.  Returns the error that is noted, or NULL.
 */
ErrorData *
es_run_batch(EsRun *run, bool *more)
{
	int64		events = run->events;
	int			attempts = run->progress.attempts;
	ErrorData  *error = run_one_batch(run, more);

	if (run->by_worker && attempts > 0 && run->progress.attempts == 0)
		report_recovery(run, attempts);
	if (run->events > events)
	{
		es_counter_add(ES_COUNT_PROJECTION_BATCHES, 1);
		es_counter_add(ES_COUNT_PROJECTION_EVENTS, run->events - events);
	}
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

	es_headway_enter(ES_PHASE_TAKING_IN, run->upto);
	while (more)
	{
		es_headway_reach(run->progress.position);
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
 * NULL max_events: no limit; negative: 22023.  Unknown: VE004; without 'admin' on its
 * categories: 42501.  Does not mind that
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
	es_headway_begin(ES_COMMAND_RUN_PROJECTION);
	if (run.most > 0)
		run_generation(&run, true);
	if (run.most > 0)
		run_generation(&run, false);
	es_headway_end();
	PG_RETURN_INT64(run.events);
}

/*
 * es_skip_event(projection, position): has a projection leave out the event at
 * which it, or its rebuild, stands failed.
 *
 * It is tried again at once.  A negative position: 22023; unknown: VE004; without
 * 'admin' on its categories: 42501; a projection that has not failed at this position:
 * 55000.  Waits for who runs it; a rollback undoes it.
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
	const text *stream;			/* of the event; NULL: its position is known */
	int64		version;
	uint64		news;			/* that it is among, see shared/wake.h */
	int64		position;
	bool		reached;		/* the projection has it */
} ProjectionWait;

/* Looks where the event is, or was, unless that is known; false if it is not there yet. */
static bool
find_waited_event(ProjectionWait *what)
{
	if (what->stream == NULL)
		return true;
	if (!es_find_place(what->stream, what->version, &what->position))
		return false;

	/* it has been removed, so who wanted it has it, and nobody else gets it */
	if (what->position == 0)
		what->position = es_settle_compute();
	what->stream = NULL;
	return true;
}

/*
 * Tells whether an inline projection has the event at a position: once it is settled,
 * or, also while others are in flight below it, committed or this transaction's own.
 * A settled one is looked for, too: if there is any, it is on disk then.
 */
static bool
has_inline_position(int64 position)
{
	bool		is_settled = es_settle_compute() >= position;

	return (position <= es_settle_last_given() && es_find_is_there(position)) || is_settled;
}

/*
 * Looks whether a projection has come as far, or stands failed before.  Whatever
 * comes before the event that it stands at it has taken in; an event that is not
 * there yet comes after it.
 */
static bool
look_at_projection(EsWait *wait)
{
	ProjectionWait *what = wait->arg;
	const EsProjection *projection = es_projection_get(what->name);
	bool		found = find_waited_event(what);
	EsProgress	row;

	if (projection->is_inline)
		return what->reached = what->version > 0 ? found : has_inline_position(what->position);
	wait->interest = es_wake_object(ES_WAKE_PROJECTION, projection->id) | (found ? 0 : what->news);
	if (!es_progress_read(projection->id, true, &row))
		return false;
	what->reached = found && (row.position >= what->position || (row.error && row.error_position > what->position));
	return what->reached || row.error;
}

/*
 * es_wait_projection(projection, position, timeout): waits until a projection has
 * taken in everything up to a position, an inline one the event there; tells whether
 * it has.
 *
 * Ends at once if the projection stands failed before.  eventstore.max_wait caps the
 * timeout.  NULLs are 22004, a negative position or timeout 22023, an unknown
 * projection, or one that is dropped meanwhile, VE004; without 'read' on its categories
 * 42501.  Holds its statement's snapshot.
 */
Datum
es_wait_projection(PG_FUNCTION_ARGS)
{
	ProjectionWait what = {.name = es_projection_name_arg(fcinfo, 0)};
	EsWait		wait = {.look = look_at_projection,.arg = &what,.interest = ES_WAKE_ALL};

	es_projection_require(es_projection_get(what.name), ES_RIGHT_READ);
	what.position = es_call_position_arg(fcinfo, 1, "position");
	wait.timeout = es_wait_cap(es_call_interval_arg(fcinfo, 2, "timeout"));
	(void) es_wait_until(&wait);
	PG_RETURN_BOOL(what.reached);
}

/*
 * es_wait_projection(projection, stream, version, timeout): the same for an event of a
 * stream, by the version that its append returned, in whatever session.
 *
 * An event that is not there is waited for, too; of one that is hidden it is told whether the
 * projection has come past it.  A version below 1 is 22023; 42501 also without 'read' on the
 * stream's category.  55000 if a segment that may have the event, or what comes after it in
 * the stream, is not part of the log.
 */
Datum
es_wait_projection_version(PG_FUNCTION_ARGS)
{
	ProjectionWait what = {.name = es_projection_name_arg(fcinfo, 0)};
	EsWait		wait = {.look = look_at_projection,.arg = &what};

	es_projection_require(es_projection_get(what.name), ES_RIGHT_READ);
	what.stream = es_call_stream_arg(fcinfo, 1);
	es_right_require_stream(ES_RIGHT_READ, what.stream);
	es_call_require(fcinfo, 2, "version");
	what.version = PG_GETARG_INT64(2);
	if (what.version < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"version\" must be greater than zero"));
	wait.timeout = es_wait_cap(es_call_interval_arg(fcinfo, 3, "timeout"));
	what.news = es_wake_category(es_names_category_key(VARDATA_ANY(what.stream), VARSIZE_ANY_EXHDR(what.stream)));
	wait.interest = what.news;
	(void) es_wait_until(&wait);
	PG_RETURN_BOOL(what.reached);
}
