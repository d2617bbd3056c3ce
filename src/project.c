/*
 * project.c
 *		Running projections: events taken in.
 *
 * A batch reads some thousand events from the checkpoint on, folds them by key, or
 * calls the handler for each, and moves the checkpoint, all in one transaction: so
 * each event is taken in exactly once, and after a crash the next batch begins
 * where the last one that committed ended.  Folding by key, each state is read and
 * written once a batch, however many events it has there.
 *
 * Users' code runs as the projection's creator.  When it fails, the batch is
 * undone, a subtransaction, and run once more up to the event before the one that
 * failed; an earlier one may then fail, since folding by key is not in the log's
 * order, and it is run once more.  What is left goes well, and the error is noted
 * at the event at which the projection stands.
 *
 * A batch ends early when it takes long, so that other projections get their turn,
 * and the next one is made smaller.  In the worker, one that takes longer than
 * eventstore.projection_timeout is cancelled, and that is a failure.
 */
#include "project.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"


#define CHUNK_EVENTS	256		/* read at once */
#define CHUNK_SPAN		100000	/* positions looked through at once */
#define BATCH_BYTES		(16 * 1024 * 1024)
#define LONG_US			INT64CONST(1000000) /* a batch had better not take
											 * longer */

static int	batch_events = 5000;	/* GUC eventstore.projection_batch */
static int	timeout = 60000;	/* GUC eventstore.projection_timeout, ms */

/* A batch on its way. */
typedef struct Batch
{
	EsRun	   *run;
	EsEvent    *events;
	int			count;
	int			room;
	Size		bytes;
	int64		passed;			/* all up to here is in events, or does not
								 * pass */
	int64	   *skips;
	int			nskips;
	TimestampTz started;
} Batch;

/* What errors are about. */
typedef struct About
{
	const EsProjection *projection;
	const EsEvent *event;		/* NULL: a reducer says so itself */
} About;

/* Defines the GUCs; called once, from _PG_init. */
void
es_project_init(void)
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

/* ---- events at hand ---- */

/* Says in the context of errors what they are about. */
static void
describe(void *arg)
{
	const About *about = arg;
	const EsEvent *event = about->event;
	text	   *stream;
	text	   *type;

	if (event == NULL)
	{
		errcontext("projection \"%s\"", text_to_cstring(about->projection->name));
		return;
	}
	stream = DatumGetTextPP(event->stream);
	type = DatumGetTextPP(event->type);
	errcontext("projection \"%s\", stream \"%.*s\", version %lld, type \"%.*s\"",
			   text_to_cstring(about->projection->name),
			   (int) VARSIZE_ANY_EXHDR(stream), VARDATA_ANY(stream), (long long) event->version,
			   (int) VARSIZE_ANY_EXHDR(type), VARDATA_ANY(type));
}

/* Begins to say so; end_about ends it. */
static void
begin_about(About *about, ErrorContextCallback *callback)
{
	callback->callback = describe;
	callback->arg = about;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static void
end_about(const ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}

/* Gives the key of an event; VE009 if it is none. */
static const text *
key_of(const EsProjection *projection, const EsEvent *event)
{
	const text *key = es_value_key(projection->value, event);

	if (key && VARSIZE_ANY_EXHDR(key) > ES_MAX_KEY)
		ereport(ERROR,
				errcode(ES_ERRCODE_HANDLER_FAILED),
				errmsg("the key of an event must have at most %d bytes, not %d",
					   ES_MAX_KEY, (int) VARSIZE_ANY_EXHDR(key)));
	return key;
}

/* Orders events by key, then by position. */
static int
compare_keyed(const void *a, const void *b)
{
	const EsKeyed *x = a;
	const EsKeyed *y = b;
	int			xlen = VARSIZE_ANY_EXHDR(x->key);
	int			ylen = VARSIZE_ANY_EXHDR(y->key);
	int			order = memcmp(VARDATA_ANY(x->key), VARDATA_ANY(y->key), Min(xlen, ylen));

	if (order == 0)
		order = xlen - ylen;
	if (order != 0)
		return order;
	return x->event->position < y->event->position ? -1 : x->event->position > y->event->position;
}

/*
 * es_project_upcast gives events their newest form, in which keys are found and
 * handlers see them; what is new of them is in the current memory context.
 */
void
es_project_upcast(const EsProjection *projection, EsEvent *events, int count, int64 *current)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection upcasters",
												  ALLOCSET_SMALL_SIZES);

	/* all reducers have all upcasters */
	const EsReducer *reducer = es_reduce_pin(cstring_to_text("last"), scratch);
	About		about = {.projection = projection};
	ErrorContextCallback callback;
	EsCalls    *calls;

	if (reducer->upcasters->count > 0)
	{
		calls = es_handler_begin_calls(reducer->upcasters->count);
		begin_about(&about, &callback);
		for (int i = 0; i < count; i++)
		{
			about.event = &events[i];
			*current = events[i].position;
			es_upcast_event(reducer->upcasters, calls, &events[i]);
		}
		end_about(&callback);
		*current = 0;
	}
	MemoryContextDelete(scratch);
}

/*
 * es_project_sort finds the keys of events and sorts the events by them; returns
 * how many have one.  There is room for all.
 */
int
es_project_sort(const EsProjection *projection, const EsEvent *events, int count,
				EsKeyed *keyed, int64 *current)
{
	About		about = {.projection = projection};
	ErrorContextCallback callback;
	int			n = 0;

	begin_about(&about, &callback);
	for (int i = 0; i < count; i++)
	{
		about.event = keyed[n].event = &events[i];
		*current = events[i].position;
		keyed[n].key = key_of(projection, &events[i]);
		if (keyed[n].key)
			n++;
	}
	end_about(&callback);
	*current = 0;
	if (n > 1)
		qsort(keyed, n, sizeof(EsKeyed), compare_keyed);
	return n;
}

/* es_project_same_key tells how many of sorted events have the key of the first. */
int
es_project_same_key(const EsKeyed *keyed, int count)
{
	int			n = 1;

	while (n < count && es_base_same_text(keyed[n].key, keyed[0].key))
		n++;
	return n;
}

/* es_project_begin_fold begins to fold by a projection's reducer. */
EsFold *
es_project_begin_fold(const EsProjection *projection)
{
	EsFold	   *fold = es_fold_begin(projection->reducer);

	if (fold == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("reducer \"%s\" of projection \"%s\" does not exist",
					   text_to_cstring(projection->reducer), text_to_cstring(projection->name)));
	return fold;
}

/* Takes the state of a fold, in the current memory context. */
static void
take_state(EsFold *fold, EsKeyState *state)
{
	EsStoredState stored;
	bool		isnull;

	es_fold_store(fold, &stored);
	state->state_text = stored.text;
	state->state = NULL;
	if (stored.json)
		state->state = DatumGetJsonbPCopy(JsonbPGetDatum(stored.json)); /* it may be the fold's */
	else if (stored.text)
		state->state = DatumGetJsonbP(es_fold_state_jsonb(fold, &isnull));
}

/* es_project_fold folds events of one key into its state; what becomes of it is in the current memory context. */
void
es_project_fold(EsFold *fold, EsKeyState *state, const EsKeyed *keyed, int count, int64 *current)
{
	EsStoredState stored = {.json = state->state_text ? NULL : state->state,.text = state->state_text};

	stored.isnull = stored.json == NULL && stored.text == NULL;
	*current = keyed[0].event->position;
	if (state->version > 0)
		es_fold_load(fold, &stored);
	else
		es_fold_reset(fold);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		*current = keyed[i].event->position;
		es_fold_apply(fold, keyed[i].event);
	}
	state->version += count;
	state->position = Max(state->position, *current);
	take_state(fold, state);
	*current = 0;
}

/* Gets a function of a projection ready to be called by the current user. */
static void
look_up_function(Oid function, FmgrInfo *flinfo)
{
	es_handler_require_execute(function);
	fmgr_info(function, flinfo);
}

/*
 * es_project_call calls the handler for events, in order, and returns for how
 * many: it stops when that has taken long.
 */
int
es_project_call(const EsProjection *projection, const EsEvent *events, int count, int64 *current)
{
	LOCAL_FCINFO(fcinfo, 1);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection event",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	TimestampTz started = GetCurrentTimestamp();
	About		about = {.projection = projection};
	ErrorContextCallback callback;
	FmgrInfo	flinfo;
	int			n = 0;

	look_up_function(es_projection_handler(projection), &flinfo);
	begin_about(&about, &callback);
	while (n < count && (n == 0 || GetCurrentTimestamp() - started < LONG_US))
	{
		CHECK_FOR_INTERRUPTS();
		about.event = &events[n++];
		*current = about.event->position;
		MemoryContextSwitchTo(scratch);
		InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, NULL);
		fcinfo->args[0].value = es_base_event_datum(about.event);
		fcinfo->args[0].isnull = false;
		(void) es_handler_invoke(fcinfo);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	end_about(&callback);
	*current = 0;
	MemoryContextDelete(scratch);
	return n;
}

/* es_project_call_reset has what the handler writes emptied, as the creator. */
void
es_project_call_reset(const EsProjection *projection)
{
	LOCAL_FCINFO(fcinfo, 0);
	EsOwnerContext caller;
	About		about = {.projection = projection};
	ErrorContextCallback callback;
	FmgrInfo	flinfo;

	begin_about(&about, &callback);
	es_projection_become_creator(projection, &caller);
	look_up_function(es_projection_reset(projection), &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 0, InvalidOid, NULL, NULL);
	(void) es_handler_invoke(fcinfo);
	es_base_become_caller(&caller);
	end_about(&callback);
	CommandCounterIncrement();
}

/* ---- reading a batch ---- */

/* Copies a stored value, which afterwards needs nothing from its table. */
static Datum
copy_stored(Batch *batch, Datum value)
{
	struct varlena *stored = (struct varlena *) DatumGetPointer(value);

	batch->bytes += VARSIZE_ANY(stored);
	if (VARATT_IS_EXTERNAL(stored))
	{
		stored = detoast_external_attr(stored);
		batch->bytes += VARSIZE_ANY(stored);
		return PointerGetDatum(stored);
	}
	return datumCopy(value, false, -1);
}

/* Puts an event into the batch. */
static void
add_event(const EsEvent *event, void *arg)
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
	copy->stream = copy_stored(batch, event->stream);
	copy->type = copy_stored(batch, event->type);
	copy->data = copy_stored(batch, event->data);
	copy->metadata = copy_stored(batch, event->metadata);
}

/* Compares two positions, for searching. */
static int
compare_positions(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* Tells whether an event is not one of those that are skipped. */
static bool
is_not_skipped(const EsEvent *event, void *arg)
{
	const Batch *batch = arg;

	return bsearch(&event->position, batch->skips, batch->nskips, sizeof(int64), compare_positions) == NULL;
}

/* How many events the batch should have, at most. */
static int64
batch_limit(const EsRun *run)
{
	int			pace = *run->projection->pace;

	return Min(run->most, pace > 0 ? Min(pace, batch_events) : batch_events);
}

/* Reads the events of a batch. */
static void
read_batch(Batch *batch)
{
	EsRun	   *run = batch->run;
	int64		limit = batch_limit(run);
	EsLogFilter filter = {.settled = run->upto,.categories = run->projection->categories,
		.types = run->projection->types
	};

	batch->passed = run->progress.position;
	batch->nskips = es_progress_read_skips(run->projection->id, batch->passed, run->upto, &batch->skips);
	if (batch->nskips > 0)
		filter.wants = is_not_skipped;
	while (batch->count < limit && batch->bytes < BATCH_BYTES && batch->passed < run->upto &&
		   GetCurrentTimestamp() - batch->started < LONG_US)
	{
		int64		before = batch->passed;

		filter.after = batch->passed;
		filter.upto = Min(run->upto, batch->passed + CHUNK_SPAN);
		filter.max_count = Min(CHUNK_EVENTS, limit - batch->count);
		batch->passed = es_log_read(&filter, add_event, batch);
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
	EsKeyed    *keyed = palloc(sizeof(EsKeyed) * batch->count);
	int			count = es_project_sort(run->projection, batch->events, batch->count, keyed, &run->current);
	MemoryContext batch_context = CurrentMemoryContext;
	MemoryContext old_states = AllocSetContextCreate(batch_context, "eventstore projection state",
													 ALLOCSET_DEFAULT_SIZES);
	MemoryContext new_states = AllocSetContextCreate(batch_context, "eventstore projection states",
													 ALLOCSET_DEFAULT_SIZES);
	EsFold	   *fold = es_project_begin_fold(run->projection);
	EsReadModel model;
	int			n;

	es_readmodel_open(&model, run->projection->id, run->progress.generation, true);
	for (int i = 0; i < count; i += n)
	{
		EsKeyState	state = {.key = keyed[i].key};

		n = es_project_same_key(&keyed[i], count - i);
		MemoryContextSwitchTo(old_states);
		if (!es_readmodel_find(&model, &state))
			MemoryContextSwitchTo(new_states);
		es_project_fold(fold, &state, &keyed[i], n, &run->current);
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
	int			n = es_project_call(batch->run->projection, batch->events, batch->count, &batch->run->current);

	if (n < batch->count)
		batch->passed = batch->events[n - 1].position;
	batch->count = n;
}

/* Takes the events of a batch in, as the projection's creator. */
static void
take_in(Batch *batch)
{
	const EsProjection *projection = batch->run->projection;
	About		about = {.projection = projection};
	ErrorContextCallback callback;
	EsOwnerContext caller;

	es_projection_become_creator(projection, &caller);
	PushActiveSnapshot(GetTransactionSnapshot());
	es_project_upcast(projection, batch->events, batch->count, &batch->run->current);
	if (projection->reducer)
	{
		begin_about(&about, &callback);
		fold_batch(batch);
		end_about(&callback);
	}
	else
		call_batch(batch);
	PopActiveSnapshot();
	es_base_become_caller(&caller);
	CommandCounterIncrement();
}

/* Notes how many events the next batch had better have, by how long this one took. */
static void
adjust_pace(const Batch *batch)
{
	int		   *pace = batch->run->projection->pace;
	int64		took = GetCurrentTimestamp() - batch->started;

	if (took > LONG_US / 2)
		*pace = (int) Max(batch->count * (LONG_US / 2) / took, 1);
	else if (*pace > 0 && took < LONG_US / 4)
		*pace = *pace < batch_events ? *pace * 2 : 0;
}

/*
 * es_project_batch takes in what follows the checkpoint, as much as makes a batch,
 * and moves run->progress on, which the caller writes.
 */
void
es_project_batch(EsRun *run)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Batch		batch = {.run = run,.started = GetCurrentTimestamp()};

	run->current = 0;
	read_batch(&batch);
	if (batch.count > 0)
	{
		take_in(&batch);
		adjust_pace(&batch);
	}
	es_progress_move(&run->progress, batch.passed);
	run->events += batch.count;
	run->most -= batch.count;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ---- failures ---- */

/* es_project_watch has the worker cancelled when what it does takes too long from now on, or no more. */
void
es_project_watch(const EsRun *run, bool on)
{
	if (!run->by_worker || timeout == 0)
		return;
	if (on)
		enable_timeout_after(STATEMENT_TIMEOUT, timeout);
	else
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false; /* it may have come just now */
	}
}

/*
 * es_project_attempt does something in a subtransaction; returns the error that it
 * ended with, NULL if it went well.  Somebody who runs a projection by hand gets
 * what is none of its doing as the error that it is.
 */
ErrorData *
es_project_attempt(EsRun *run, EsRunWork work)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		es_project_watch(run, true);
		work(run);
		es_project_watch(run, false);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		es_project_watch(run, false);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error && !run->by_worker && es_handler_passes_through(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/*
 * es_project_try_batch takes in a batch, or what comes before the first event that
 * fails, and writes the checkpoint.  Returns the error, which is then noted with
 * it, or NULL.
 */
ErrorData *
es_project_try_batch(EsRun *run)
{
	EsRun		begun = *run;
	ErrorData  *error = NULL;
	ErrorData  *next;
	int64		failed_at = 0;

	while ((next = es_project_attempt(run, es_project_batch)) != NULL)
	{
		error = next;
		failed_at = run->current;
		*run = begun;
		if (failed_at <= begun.progress.position + 1)
			break;
		run->upto = failed_at - 1;
	}
	run->upto = begun.upto;
	if (error)
		es_progress_fail(&run->progress, failed_at, error);
	es_progress_write(&run->progress);
	return error;
}
