/*
 * batch.c
 *		Running projections: what the log has, a batch at a time.
 *
 * A batch reads some thousand events from the checkpoint on, folds them by key, or
 * calls the handler for each, and moves the checkpoint, all in one transaction: so
 * each event is taken in exactly once, and after a crash the next batch begins
 * where the last one that committed ended.  Folding by key, each state is read and
 * written once a batch, however many events it has there.
 *
 * An attempt is a subtransaction: the batch, the checkpoint, and, in the worker,
 * what users' code has deferred to the end of the transaction.  So the worker's
 * commit has nothing left to do that could fail for what a projection did.
 *
 * When one fails, what comes before the event that failed is attempted.  An
 * earlier one may then fail, since folding by key is not in the log's order; from
 * then on half of what is left is attempted, and so where nobody knows which event
 * it was that left behind what failed at the end.  So a failure costs a few times
 * what the batch costs, wherever it is.  What goes well is kept; in the end the
 * projection stands at the event, and the error is noted there, and logged.
 *
 * A batch ends early when it takes long, so that other projections get their turn,
 * and the next one is made smaller.  In the worker, one that takes longer than
 * eventstore.projection_timeout is cancelled, and that is a failure; if it does not
 * end of that, the worker is ended, and the next one notes the failure.
 */
#include "projection/batch.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "rights/right.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/names.h"
#include "base/owner.h"
#include "base/positions.h"
#include "fold/fold.h"
#include "log/segment.h"
#include "projection/apply.h"
#include "projection/readmodel.h"
#include "read/log.h"
#include "shared/counter.h"

#define CHUNK_EVENTS	256		/* read at once */
#define CHUNK_SPAN		100000	/* positions looked through at once */

/*
 * Code that goes on although it was cancelled, by catching that, is cancelled
 * again; then the worker is ended.
 */
#define CANCEL_AGAIN_MS	1000
#define MOST_CANCELS	3

static volatile sig_atomic_t cancels;
static int	batch_events = 5000;	/* GUC eventstore.projection_batch */
static int	timeout = 60000;	/* GUC eventstore.projection_timeout, ms */

/* A batch on its way. */
typedef struct Batch
{
	EsAttempt  *attempt;
	EsRun	   *run;
	EsLogFilter filter;
	EsEvent    *events;
	int			count;
	int			room;
	Size		bytes;
	int64		passed;			/* all up to here is in events, or does not
								 * pass */
	EsPositions skips;
	TimestampTz started;
} Batch;

/* Defines the GUCs; called once, from _PG_init. */
void
es_batch_init(void)
{
	DefineCustomIntVariable("eventstore.projection_batch",
							"How many events a projection takes in in one transaction, at most.",
							NULL,
							&batch_events, 5000, 1, 1000000,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eventstore.projection_timeout",
							"How long a projection may take for a batch in the worker before that is a failure.",
							"0 is without limit.",
							&timeout, 60000, 0, 24 * 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* ---- reading ---- */

/* Copies a stored value, which afterwards needs nothing from its table. */
static Datum
copy_batch_value(Batch *batch, Datum value)
{
	struct varlena *stored = (struct varlena *) DatumGetPointer(value);

	batch->bytes += toast_raw_datum_size(value);
	if (VARATT_IS_EXTERNAL(stored))
		return PointerGetDatum(detoast_external_attr(stored));
	return datumCopy(value, false, -1);
}

/* Puts an event into the batch; the read ends with the one that fills it. */
static void
add_batch_event(const EsEvent *event, void *arg)
{
	Batch	   *batch = arg;
	EsEvent    *copy;

	if (batch->count == batch->room)
	{
		batch->room = Max(2 * batch->room, CHUNK_EVENTS);
		batch->events = batch->events == NULL ? palloc(sizeof(EsEvent) * batch->room) :
			repalloc_huge(batch->events, sizeof(EsEvent) * batch->room);
	}
	copy = &batch->events[batch->count++];
	*copy = *event;
	copy->stream = copy_batch_value(batch, event->stream);
	copy->type = copy_batch_value(batch, event->type);
	copy->data = copy_batch_value(batch, event->data);
	copy->metadata = copy_batch_value(batch, event->metadata);
	batch->filter.enough = batch->bytes >= ES_BATCH_BYTES;
}

/* Tells whether an event is not one of those that are skipped. */
static bool
event_is_not_skipped(const EsEvent *event, void *arg)
{
	return !es_positions_have(&((const Batch *) arg)->skips, event->position);
}

/* How many events the batch may have. */
static int64
get_batch_limit(const Batch *batch)
{
	int			pace = es_projection_memo(batch->run->projection)->pace;

	return Min(Min(batch->attempt->most, batch->run->most), pace > 0 ? Min(pace, batch_events) : batch_events);
}

/*
 * Tells up to where to look for events next: no further than a chunk, unless there
 * is no segment any more.
 */
static int64
next_chunk_end(const Batch *batch)
{
	int64		upto = batch->attempt->upto;

	if (upto - batch->passed <= CHUNK_SPAN ||
		batch->passed >= es_segment_last_position(es_segment_newest_reaching(upto)))
		return upto;
	return batch->passed + CHUNK_SPAN;
}

/* Reads the events of a batch. */
static void
read_batch(Batch *batch)
{
	EsLogFilter *filter = &batch->filter;
	int64		upto = batch->attempt->upto;
	int64		limit = get_batch_limit(batch);

	filter->settled = batch->attempt->upto;
	filter->categories = batch->run->projection->categories;
	filter->types = batch->run->projection->types;
	batch->passed = batch->run->progress.position;
	batch->skips = es_progress_read_skips(batch->run->projection->id, batch->passed, upto);
	if (batch->skips.count > 0)
		filter->wants = event_is_not_skipped;
	while (batch->count < limit && !filter->enough && batch->passed < upto &&
		   GetCurrentTimestamp() - batch->started < ES_BATCH_US)
	{
		int64		before = batch->passed;

		CHECK_FOR_INTERRUPTS();
		filter->after = batch->passed;
		filter->upto = next_chunk_end(batch);
		filter->max_count = Min(CHUNK_EVENTS, limit - batch->count);
		batch->passed = es_log_read(filter, add_batch_event, batch);
		if (batch->passed == before)
			break;				/* what follows is this transaction's */
	}
}

/* ---- taking it in ---- */

/* Folds a batch by key. */
static void
fold_batch(Batch *batch)
{
	EsRun	   *run = batch->run;
	int64	   *current = &batch->attempt->current;
	EsKeyed    *keyed = palloc(sizeof(EsKeyed) * batch->count);
	int			count = es_apply_sort(run->projection, batch->events, batch->count, keyed, current);
	MemoryContext batch_context = CurrentMemoryContext;
	MemoryContext old_states = AllocSetContextCreate(batch_context, "eventstore projection state",
													 ALLOCSET_DEFAULT_SIZES);
	MemoryContext new_states = AllocSetContextCreate(batch_context, "eventstore projection states",
													 ALLOCSET_DEFAULT_SIZES);
	EsFold	   *fold = es_apply_begin_fold(run->projection, run->progress.layout);
	EsReadModel model;
	int			n;

	es_readmodel_open(&model, run->projection->id, run->progress.generation, true);
	for (int i = 0; i < count; i += n)
	{
		EsKeyState	state = {.key = keyed[i].key};

		n = es_apply_same_key(&keyed[i], count - i);
		MemoryContextSwitchTo(old_states);
		if (!es_readmodel_find(&model, &state))
			MemoryContextSwitchTo(new_states);
		es_apply_fold(fold, &state, &keyed[i], n, current);
		MemoryContextSwitchTo(batch_context);
		es_readmodel_put(&model, &state);
		MemoryContextReset(old_states);
		if (model.nadded == 0)
			MemoryContextReset(new_states);
	}
	es_readmodel_close(&model);
	es_fold_end(fold);
}

/* Calls the handler for a batch, or for as much of it as does not take long. */
static void
call_batch(Batch *batch)
{
	int			n = es_apply_call(batch->run->projection, batch->events, batch->count, &batch->attempt->current);

	if (n < batch->count)
		batch->passed = batch->events[n - 1].position;
	batch->count = n;
}

/* Takes the events of a batch in, as the projection's creator. */
static void
take_batch_in(Batch *batch)
{
	const EsProjection *projection = batch->run->projection;
	EsAbout		about = {.projection = projection};
	EsOwnerContext caller;

	batch->attempt->called = batch->attempt->calling = true;
	es_projection_become_creator(projection, &caller);
	PushActiveSnapshot(GetTransactionSnapshot());
	es_apply_upcast(projection, batch->events, batch->count, &batch->attempt->current);
	if (projection->reducer)
	{
		es_apply_begin_about(&about);
		fold_batch(batch);
		es_apply_end_about(&about);
	}
	else
		call_batch(batch);
	PopActiveSnapshot();
	es_projection_become_caller(&caller);
	CommandCounterIncrement();
	batch->attempt->calling = false;
}

/* Notes how many events the next batch had better have, by how long this one took. */
static void
adjust_pace(const Batch *batch)
{
	EsProjectionMemo *memo = es_projection_memo(batch->run->projection);
	int64		took = GetCurrentTimestamp() - batch->started;

	if (took > ES_BATCH_US / 2)
		memo->pace = (int) Max(batch->count * (ES_BATCH_US / 2) / took, 1);
	else if (memo->pace > 0 && took < ES_BATCH_US / 4)
		memo->pace = memo->pace < batch_events ? memo->pace * 2 : 0;
}

/*
 * es_batch_take takes in what follows the checkpoint, as much as makes a batch,
 * and moves run->progress on, which the caller writes.  A run that only passes
 * moves where there is nothing to take in, else it is put off.  The events stay in
 * memory until the next batch of the attempt: what is deferred may fail of them.
 */
void
es_batch_take(EsAttempt *attempt)
{
	MemoryContext old;
	EsRun	   *run = attempt->run;
	Batch		batch = {.attempt = attempt,.run = run,.started = GetCurrentTimestamp()};

	if (attempt->batch)
		MemoryContextDelete(attempt->batch);
	attempt->batch = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection batch",
										   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(attempt->batch);
	attempt->current = 0;
	attempt->count = 0;
	read_batch(&batch);
	attempt->events = batch.events;
	attempt->count = batch.count;
	run->put_off = run->only_passes && batch.count > 0;
	if (!run->put_off)
	{
		if (batch.count > 0)
		{
			take_batch_in(&batch);
			adjust_pace(&batch);
		}
		es_progress_move(&run->progress, batch.passed);
		run->events += batch.count;
		run->most -= batch.count;
	}
	MemoryContextSwitchTo(old);
}

/* ---- attempts ---- */

/* es_batch_begin gives an attempt at moving a run on, as far as it may go. */
EsAttempt
es_batch_begin(EsRun *run)
{
	EsAttempt	attempt = {.run = run,.upto = run->upto,.most = run->only_passes ? 1 : PG_INT64_MAX};

	return attempt;
}

/* Cancels the worker again, whose code did not end when it was cancelled; in the end, ends it. */
static void
cancel_worker_again(void)
{
	if (++cancels > MOST_CANCELS)
		ProcDiePending = true;
	else
		QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/*
 * es_batch_watch has the worker cancelled when what it does takes too long from now
 * on, or no more.
 */
void
es_batch_watch(const EsRun *run, bool on)
{
	static TimeoutId again = MAX_TIMEOUTS;

	if (!run->by_worker || timeout == 0)
		return;
	if (again == MAX_TIMEOUTS)
		again = RegisterTimeout(USER_TIMEOUT, cancel_worker_again);
	if (on)
	{
		cancels = 0;
		enable_timeout_after(STATEMENT_TIMEOUT, timeout);
		enable_timeout_every(again, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout + CANCEL_AGAIN_MS),
							 CANCEL_AGAIN_MS);
	}
	else
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		disable_timeout(again, false);
		QueryCancelPending = false; /* it may have come just now */
	}
}

/*
 * Runs what users' code has deferred to the end of the transaction, which is near:
 * nothing else runs in it.
 */
static void
run_deferred_triggers(EsAttempt *attempt)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);
	EsAbout		about = {.projection = attempt->run->projection};
	EsOwnerContext caller;

	attempt->ending = true;
	attempt->current = 0;
	es_apply_begin_about(&about);
	es_projection_become_creator(attempt->run->projection, &caller);
	AfterTriggerSetState(statement);	/* all are immediate */
	es_projection_become_caller(&caller);
	es_apply_end_about(&about);
}

/*
 * es_batch_attempt does something in a subtransaction; returns the error that it
 * ended with, NULL if it went well.  Somebody who runs a projection by hand gets
 * what is none of its doing as the error that it is.
 *
 * What it allocates is in attempt->memory, under the current memory context; after a
 * failure attempt->events are there to look at.
 */
ErrorData *
es_batch_attempt(EsAttempt *attempt, EsAttemptWork work)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	EsRun		begun = *attempt->run;
	ErrorData  *volatile error = NULL;

	attempt->called = attempt->calling = attempt->ending = false;
	attempt->count = 0;
	attempt->batch = NULL;
	if (attempt->memory)
		MemoryContextReset(attempt->memory);
	else
		attempt->memory = AllocSetContextCreate(context, "eventstore projection attempt", ALLOCSET_SMALL_SIZES);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(attempt->memory);
	PG_TRY();
	{
		es_batch_watch(&begun, true);
		work(attempt);
		if (begun.by_worker && attempt->called)
			run_deferred_triggers(attempt);
		es_batch_watch(&begun, false);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		es_batch_watch(&begun, false);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		es_error_cut(error);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*attempt->run = begun;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	/*
	 * what triggers say at the end, whatever its SQLSTATE, may quote what the
	 * handler has written
	 */
	if (error && ((attempt->calling && error->sqlerrcode != ES_ERRCODE_HANDLER_FAILED) || attempt->ending) &&
		begun.projection->handler && es_apply_is_protected(begun.projection))
		es_error_withhold(error);
	if (error && !begun.by_worker && es_error_passes_through(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/* ---- failures ---- */

/* es_batch_stream_at names the stream of an event of an attempt that failed; NULL for none. */
const char *
es_batch_stream_at(const EsAttempt *attempt, int64 position)
{
	for (int i = 0; position != 0 && i < attempt->count; i++)
		if (attempt->events[i].position == position)
			return TextDatumGetCString(attempt->events[i].stream);
	return NULL;
}

/* The message on the failure of a run; to be called within ereport. */
static int
failure_message(const EsRun *run, const char *stream, const char *problem)
{
	const char *name = text_to_cstring(run->projection->name);
	long long	position = run->progress.error_position;

	if (stream == NULL)
		return run->progress.live ? errmsg("projection \"%s\" failed: %s", name, problem) :
			errmsg("rebuild of projection \"%s\" failed: %s", name, problem);
	return run->progress.live ?
		errmsg("projection \"%s\" failed at position %lld, stream \"%s\": %s", name, position, stream, problem) :
		errmsg("rebuild of projection \"%s\" failed at position %lld, stream \"%s\": %s", name, position, stream, problem);
}

/*
 * Says that a run has failed, as is noted: in the server's log, and to who runs it by hand.  An
 * error may tell of events, so who may not read them hears of none.
 */
static void
report_run_failure(const EsRun *run, const char *stream, const ErrorData *error)
{
	const EsProgress *row = &run->progress;
	bool		may_read = run->by_worker || es_right_has_all(ES_RIGHT_READ, &run->projection->categories);
	int64		left = row->retry_at - GetCurrentTimestamp();
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoString(&detail, error->detail ? error->detail : "");
	if (run->by_worker)
		appendStringInfo(&detail, "%sThis was attempt %d; the next one is in %lld ms.", error->detail ? "\n" : "",
						 row->attempts, (long long) Max(left, 0) / 1000);
	if (!may_read)
		ereport(WARNING,
				errcode(error->sqlerrcode),
				failure_message(run, NULL, "the error is shown to those who may read its events"));
	ereport(may_read ? WARNING : LOG_SERVER_ONLY,
			errcode(error->sqlerrcode),
			failure_message(run, stream, error->message ? error->message : "unknown error"),
			detail.len > 0 ? errdetail_internal("%s", detail.data) : 0,
			error->hint ? errhint("%s", error->hint) :
			errhint("Mend what fails, or leave the event out with es_skip_event.  It is tried again, and not said again while it fails in the same way."),
			error->context ? errcontext("%s", error->context) : 0);
}

/*
 * es_batch_note_failure notes that a run failed at a position, 0 for none in
 * particular, and says so; the worker not again while it fails in the same way.
 */
void
es_batch_note_failure(EsRun *run, int64 position, const char *stream, const ErrorData *error)
{
	const text *before = run->progress.error;
	int64		before_position = run->progress.error_position;

	es_counter_add(ES_COUNT_PROJECTION_FAILURES, 1);
	es_progress_fail(&run->progress, position, error);
	es_progress_write(&run->progress);
	if (!run->by_worker || before == NULL || before_position != position || !es_names_same(before, run->progress.error))
		report_run_failure(run, stream, error);
}

/* Takes a batch in and writes the checkpoint. */
static void
take_batch_and_write(EsAttempt *attempt)
{
	es_batch_take(attempt);
	if (!attempt->run->put_off)
		es_progress_write(&attempt->run->progress);
}

/* What is known of the event that the next batch fails at. */
typedef struct Failure
{
	ErrorData  *error;			/* NULL: there is none yet */
	int64		position;		/* 0: not known, or none in particular */
	const char *stream;			/* of that event, if there is one */
	int			left;			/* events before it that may go well; where it
								 * is not known: one less than there are */
	bool		halves;			/* it was not the first that was found */
} Failure;

/* Notes what an attempt failed of. */
static void
note_attempt_failure(Failure *failure, const EsAttempt *attempt, ErrorData *error)
{
	int			n = 0;

	failure->halves = failure->error != NULL || attempt->ending;
	failure->error = error;
	failure->position = attempt->current;
	if (attempt->ending && attempt->count == 1)
		failure->position = attempt->events[0].position;
	else if (attempt->ending)
		n = Max(attempt->count - 1, 0);
	while (failure->position != 0 && n < attempt->count && attempt->events[n].position < failure->position)
		n++;
	failure->left = n;
	failure->stream = es_batch_stream_at(attempt, failure->position);
}

/* How many events to attempt next. */
static int
next_attempt_count(const Failure *failure)
{
	return failure->halves ? Max(failure->left / 2, 1) : failure->left;
}

/*
 * es_batch_try takes in a batch, or some of what comes before the first event that
 * fails, and writes the checkpoint.  Returns the error, which is noted, once the
 * projection stands at that event; till then the projection's pace keeps the next
 * batch small.
 */
ErrorData *
es_batch_try(EsRun *run)
{
	EsAttempt	attempt = es_batch_begin(run);
	Failure		failure = {0};
	int64		events = run->events;
	bool		well;

	do
	{
		ErrorData  *error = es_batch_attempt(&attempt, take_batch_and_write);

		well = error == NULL;
		if (!well)
		{
			note_attempt_failure(&failure, &attempt, error);
			attempt.most = next_attempt_count(&failure);
			attempt.upto = failure.position > 0 ? failure.position - 1 : run->upto;
		}
	} while (!well && failure.left > 0);
	if (attempt.memory)
		MemoryContextDelete(attempt.memory);
	if (failure.error == NULL)
		return NULL;
	failure.left -= run->events - events;
	if (failure.left > 0 || (well && failure.position == 0))
	{
		es_projection_memo(run->projection)->pace = next_attempt_count(&failure);
		return NULL;
	}
	es_batch_note_failure(run, failure.position, failure.stream, failure.error);
	return failure.error;
}
