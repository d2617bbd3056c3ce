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
 * who makes or drops an inline one excludes appends (stream/lock.c).
 *
 * What fails here fails the append.
 */
#include "projection/inline.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/owner.h"
#include "fold/fold.h"
#include "projection/apply.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "projection/readmodel.h"

/*
 * Picks the events that a projection wants, copies that share what they point to;
 * returns how many.
 */
static int
pick_wanted_events(const EsProjection *projection, const EsEvent *events, int count, EsEvent *wanted)
{
	int			n = 0;

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (es_projection_wants(projection, &events[i]))
			wanted[n++] = events[i];
	}
	return n;
}

/* Folds events of one key into its newest state. */
static void
fold_inline_key(EsFold *fold, EsReadModel *model, const EsKeyed *keyed, int count)
{
	int64		current;
	int64		before;
	EsKeyState	state;

	do
	{
		state.key = keyed[0].key;
		es_readmodel_find_newest(model, &state);
		before = state.version;
		es_apply_fold(fold, &state, keyed, count, &current);
	} while (!es_readmodel_replace(model, &state, before));
}

/*
 * Gives what is known of the generation that appends go into: it does not change
 * while they are not excluded.
 */
static const EsProjectionMemo *
find_live_generation(const EsProjection *projection)
{
	EsProjectionMemo *memo = es_projection_memo(projection);
	MemoryContext old;
	EsProgress	row;

	if (memo->generation != 0)
		return memo;
	old = MemoryContextSwitchTo(memo->context);
	es_progress_read_live(projection, &row);
	MemoryContextSwitchTo(old);
	memo->layout = row.layout;
	memo->generation = row.generation;
	return memo;
}

/* Folds events by key. */
static void
fold_inline_events(const EsProjection *projection, const EsEvent *events, int count)
{
	EsKeyed    *keyed = palloc(sizeof(EsKeyed) * count);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore inline state",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	const EsProjectionMemo *live;
	EsReadModel model;
	EsFold	   *fold;
	int64		current;
	int			n;

	count = es_apply_sort(projection, events, count, keyed, &current);
	if (count == 0)
		return;
	live = find_live_generation(projection);
	fold = es_apply_begin_fold(projection, live->layout);
	es_readmodel_open(&model, projection->id, live->generation, false);
	for (int i = 0; i < count; i += n)
	{
		n = es_apply_same_key(&keyed[i], count - i);
		MemoryContextSwitchTo(context);
		fold_inline_key(fold, &model, &keyed[i], n);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	es_readmodel_close(&model);
	es_fold_end(fold);
}

/* Calls a handler for all events. */
static void
call_inline_handler(const EsProjection *projection, const EsEvent *events, int count)
{
	int64		current;
	int			n;

	for (int i = 0; i < count; i += n)
		n = es_apply_call(projection, events + i, count - i, &current);
}

/* Takes events that a projection wants into it; upcasts them in place. */
static void
project_inline_events(const EsProjection *projection, EsEvent *events, int count)
{
	EsOwnerContext caller;
	int64		current;

	es_projection_become_creator(projection, &caller);
	es_apply_upcast(projection, events, count, &current);
	if (projection->reducer)
		fold_inline_events(projection, events, count);
	else
		call_inline_handler(projection, events, count);
	es_projection_become_caller(&caller);
}

/*
 * es_inline_take takes events that this transaction has stored, in the order of the
 * log, into all inline projections.  The caller holds no short lock.
 */
void
es_inline_take(const EsEvent *events, int count)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore inline", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	const EsProjectionSet *set = es_projection_pin(context);
	EsEvent    *wanted = MemoryContextAllocHuge(context, sizeof(EsEvent) * count);

	for (int i = 0; i < set->count; i++)
	{
		const EsProjection *projection = &set->projections[i];
		int			n = projection->is_inline ? pick_wanted_events(projection, events, count, wanted) : 0;

		if (n > 0)
			project_inline_events(projection, wanted, n);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
