/*
 * rebuild.c
 *		Projections made anew beside the live ones.
 *
 * A rebuild is another generation, which begins before the first event.  With a
 * reducer, its states are rows of their own; the live generation goes on meanwhile.
 * Once the new one has come as far as the live one, it becomes live and the old
 * states are deleted, in one transaction: a snapshot sees all of one or all of the
 * other.
 *
 * A handler has one set of tables, the user's.  So its rebuild is one transaction
 * from reset() to the end of the log: others see the tables as they were until it
 * commits.
 *
 * An inline projection's last step excludes appends (stream/lock.c): what they have
 * added by then is taken in, and the next append goes into the new generation.  The
 * old states are deleted later, so that appends do not wait for that.  With a handler
 * they are kept off all the time, since both would write the same rows.
 *
 * After a crash a rebuild goes on from its checkpoint; with a handler, which has none
 * on the way, it begins again.
 */
#include "projection/rebuild.h"

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "projection/apply.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "projection/readmodel.h"
#include "shared/headway.h"
#include "stream/lock.h"

#define SWEEP_ROWS	10000		/* in a transaction of the worker */

PG_FUNCTION_INFO_V1(es_rebuild_projection);

/* es_rebuild_begin starts to make a projection anew, under its lock. */
void
es_rebuild_begin(const EsProjection *projection)
{
	EsProgress	live;
	EsProgress	old;
	EsProgress	row = {.retry_at = DT_NOBEGIN,.failed_since = DT_NOBEGIN};

	es_progress_read_live(projection, &live);
	row.projection_id = projection->id;
	row.generation = live.generation + 1;
	if (es_progress_read(projection->id, false, &old))
	{
		row.generation = old.generation + 1;
		es_progress_delete(&old);
		es_readmodel_drop(projection->id, old.generation);
	}
	row.layout = es_apply_layout(projection);
	es_progress_insert(&row);
	es_projection_announce(true);
}

/*
 * es_rebuild_projection(projection): starts to make a projection anew.
 *
 * One that is on its way begins anew itself.  Unknown: VE004; without 'admin' on its
 * categories: 42501; a handler without reset(): 55000.  Waits for who runs the
 * projection; a rollback undoes it.
 */
Datum
es_rebuild_projection(PG_FUNCTION_ARGS)
{
	text	   *name = es_projection_name_arg(fcinfo, 0);
	const EsProjection *projection;

	es_subscriber_prevent_write("es_rebuild_projection()");
	projection = es_projection_get_locked(name);
	if (projection->handler && projection->reset == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot rebuild projection \"%s\" because it has no reset function", text_to_cstring(name)),
				errhint("Drop it, and create it again with es_create_handler_projection(..., reset => ...)."));
	es_rebuild_begin(projection);
	PG_RETURN_VOID();
}

/*
 * es_rebuild_catch_up takes in all batches up to where an attempt may go, in a
 * transaction that fails if one does.
 */
void
es_rebuild_catch_up(EsAttempt *attempt)
{
	EsRun	   *run = attempt->run;

	run->most = PG_INT64_MAX;
	while (run->progress.position < attempt->upto)
	{
		int64		before = run->progress.position;

		CHECK_FOR_INTERRUPTS();
		es_batch_watch(run, true);
		es_headway_reach(run->progress.position);
		es_batch_take(attempt);
		if (run->progress.position == before)
			break;
	}
}

/* Makes the generation of a run the live one. */
static void
go_over_to_generation(EsRun *run)
{
	EsProgress	live;

	es_progress_read_live(run->projection, &live);
	es_progress_delete(&live);
	if (run->projection->is_inline)
		run->progress.litter = run->projection->reducer != NULL;
	else if (run->projection->reducer)
		es_readmodel_drop(run->projection->id, live.generation);
	run->progress.live = true;
	es_progress_forgive(&run->progress);
	es_progress_write(&run->progress);
	es_projection_announce(false);
}

/* es_rebuild_sweep deletes some of the states that an inline projection has left behind. */
void
es_rebuild_sweep(EsRun *run)
{
	run->progress.litter = !es_readmodel_sweep(run->projection->id, run->progress.generation, SWEEP_ROWS);
	es_progress_write(&run->progress);
}

/* Takes in what is left of an inline projection's events while nobody appends, and goes over. */
static void
finish_inline_rebuild(EsAttempt *attempt)
{
	es_headway_enter(ES_PHASE_GOING_OVER, -1);
	attempt->upto = es_streamlock_freeze();
	es_rebuild_catch_up(attempt);
	go_over_to_generation(attempt->run);
}

/* Calls reset() and all events' handler, and goes over. */
static void
rebuild_by_handler(EsAttempt *attempt)
{
	EsRun	   *run = attempt->run;

	if (run->projection->is_inline)
		attempt->upto = es_streamlock_freeze();
	attempt->called = attempt->calling = true;
	es_apply_call_reset(run->projection);
	attempt->calling = false;
	run->progress.position = 0;
	es_rebuild_catch_up(attempt);
	go_over_to_generation(run);
}

/* Says in the server's log, once, that the last step of a rebuild has not got what it waits for. */
static void
report_rebuild_wait(const EsRun *run, const ErrorData *error)
{
	int64		left = run->progress.retry_at - GetCurrentTimestamp();

	ereport(LOG,
			errcode(error->sqlerrcode),
			errmsg("could not end the rebuild of projection \"%s\" yet: %s",
				   text_to_cstring(run->projection->name), error->message),
			errdetail("Transactions that have appended, or others that hold locks, were in the way.  The next attempt is in %lld ms.",
					  (long long) Max(left, 0) / 1000),
			errhint("See es_in_flight for who has appended and not ended.  This is not said again while it goes on."));
}

/*
 * Does the last step of a rebuild.  Should a worker not get what it has to wait for,
 * that is not the projection's failure, and it tries again later.
 */
static ErrorData *
finish_rebuild(EsRun *run, EsAttemptWork work)
{
	EsAttempt	attempt = es_batch_begin(run);
	ErrorData  *error = es_batch_attempt(&attempt, work);

	if (error == NULL)
		return NULL;
	if (run->by_worker && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && attempt.current == 0)
	{
		run->progress.attempts++;
		run->progress.retry_at = GetCurrentTimestamp() + es_backoff_delay(run->progress.attempts);
		es_progress_write(&run->progress);
		if (run->progress.attempts == 1)
			report_rebuild_wait(run, error);
		return NULL;
	}
	es_batch_note_failure(run, attempt.current, es_batch_stream_at(&attempt, attempt.current), error);
	return error;
}

/*
 * Tells whether a rebuild whose last step excludes appends can end in this
 * transaction; says so if not.
 */
static bool
may_rebuild_end(const EsRun *run)
{
	if (es_settle_own_first() == PG_INT64_MAX)
		return true;
	ereport(NOTICE,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot end the rebuild of projection \"%s\" in a transaction that has appended events",
				   text_to_cstring(run->projection->name)),
			errhint("Call es_run_projection in a transaction of its own."));
	return false;
}

/* Tells whether a rebuild has come as far as it can without the last step. */
static bool
is_rebuild_near_end(const EsRun *run, const EsProgress *live)
{
	if (run->projection->is_inline)
		return run->progress.position >= run->upto;
	return run->progress.position >= live->position;
}

/*
 * es_rebuild_step does one batch of a rebuild, or its last step; *more tells whether
 * there is something left to do at once.  Returns the error that is noted, or NULL.
 */
ErrorData *
es_rebuild_step(EsRun *run, bool *more)
{
	ErrorData  *error;
	int64		before = run->progress.position;
	EsProgress	live;

	*more = false;
	es_progress_read_live(run->projection, &live);
	run->upto = Max(run->upto, live.position);	/* others may have proved more */
	es_headway_enter(ES_PHASE_TAKING_IN, run->upto);
	es_headway_reach(before);
	if (run->projection->handler)
		return may_rebuild_end(run) ? finish_rebuild(run, rebuild_by_handler) : NULL;
	if (run->progress.position < run->upto)
	{
		error = es_batch_try(run);
		if (error)
			return error;
	}
	if (!is_rebuild_near_end(run, &live))
	{
		*more = run->progress.position > before && run->most > 0;
		return NULL;
	}
	if (run->projection->is_inline)
		return may_rebuild_end(run) ? finish_rebuild(run, finish_inline_rebuild) : NULL;
	go_over_to_generation(run);
	return NULL;
}
