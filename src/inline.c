/*
 * inline.c
 *		Projections that run in the append's own transaction.
 *
 * Each call that appends ends here, after its events are written and its short
 * locks are given back, with the events that it has newly stored.  Projections are
 * gone through in order of id, and the keys of one in order of their bytes, so that
 * transactions of one call each never wait for each other in a circle.
 *
 * Which projections there are does not change while this transaction is under way:
 * who makes or drops an inline one excludes appends (streamlock.c).
 *
 * What fails here fails the append.
 */
#include "inline.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "append.h"
#include "project.h"

/* Makes stored events of the new ones that a projection wants; returns how many. */
static int
take_events(const EsProjection *projection, const EsAppend *append, EsEvent *events)
{
	int			n = 0;

	for (int i = 0; i < append->count; i++)
	{
		const EsNewEvent *source = &append->events[i];
		EsEvent    *event = &events[n];

		CHECK_FOR_INTERRUPTS();
		if (source->stored)
			continue;
		memset(event, 0, sizeof(*event));
		event->position = source->position;
		event->version = source->version;
		event->recorded_at = source->recorded_at;
		event->event_id = source->id;
		event->type_version = 1;
		event->id_given = source->id_given;
		event->stream = PointerGetDatum(source->target->stream);
		event->type = PointerGetDatum(source->type);
		event->data = source->data;
		event->metadata = source->metadata;
		if (es_projection_wants(projection, event))
			n++;
	}
	return n;
}

/* Folds events of one key into its newest state. */
static void
fold_key(EsFold *fold, EsReadModel *model, const EsKeyed *keyed, int count)
{
	int64		current;
	int64		before;
	EsKeyState	state;

	do
	{
		state.key = keyed[0].key;
		es_readmodel_find_newest(model, &state);
		before = state.version;
		es_project_fold(fold, &state, keyed, count, &current);
	} while (!es_readmodel_replace(model, &state, before));
}

/* Finds out the generation that appends go into: it does not change while they are not excluded. */
static void
find_live_generation(const EsProjection *projection)
{
	MemoryContext old;
	EsProgress	row;

	if (*projection->generation != 0)
		return;
	old = MemoryContextSwitchTo(GetMemoryChunkContext(projection->generation));
	if (!es_progress_read(projection->id, true, &row))
		elog(ERROR, "projection \"%s\" has no live generation", text_to_cstring(projection->name));
	MemoryContextSwitchTo(old);
	*projection->generation = row.generation;
	*projection->layout = row.layout;
}

/* Folds events by key. */
static void
fold_events(const EsProjection *projection, const EsEvent *events, int count)
{
	EsKeyed    *keyed = palloc(sizeof(EsKeyed) * count);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore inline state",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	EsReadModel model;
	EsFold	   *fold;
	int64		current;
	int			n;

	count = es_project_sort(projection, events, count, keyed, &current);
	if (count == 0)
		return;
	find_live_generation(projection);
	fold = es_project_begin_fold(projection, *projection->layout);
	es_readmodel_open(&model, projection->id, *projection->generation, false);
	for (int i = 0; i < count; i += n)
	{
		n = es_project_same_key(&keyed[i], count - i);
		MemoryContextSwitchTo(context);
		fold_key(fold, &model, &keyed[i], n);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	es_readmodel_close(&model);
	es_fold_end(fold);
}

/* Calls a handler for all events. */
static void
call_handler(const EsProjection *projection, const EsEvent *events, int count)
{
	int64		current;
	int			n;

	for (int i = 0; i < count; i += n)
		n = es_project_call(projection, events + i, count - i, &current);
}

/* Takes what was appended into one projection. */
static void
project(const EsProjection *projection, const EsAppend *append, EsEvent *events)
{
	int			count = take_events(projection, append, events);
	EsOwnerContext caller;
	int64		current;

	if (count == 0)
		return;
	es_projection_become_creator(projection, &caller);
	es_project_upcast(projection, events, count, &current);
	if (projection->reducer)
		fold_events(projection, events, count);
	else
		call_handler(projection, events, count);
	es_projection_become_caller(&caller);
}

/* Takes what was appended into all inline projections. */
static void
project_append(const EsAppend *append)
{
	MemoryContext context;
	MemoryContext old;
	const EsProjectionSet *set;
	EsEvent    *events;

	if (likely(!es_projection_any_inline()) || append->count == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore inline", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	set = es_projection_pin(context);
	events = MemoryContextAllocHuge(context, sizeof(EsEvent) * append->count);
	for (int i = 0; i < set->count; i++)
		if (set->projections[i].is_inline)
			project(&set->projections[i], append, events);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Makes appends call us; called once, from _PG_init. */
void
es_inline_init(void)
{
	es_append_hook = project_append;
}
