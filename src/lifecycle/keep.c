/*
 * keep.c
 *		What a truncation keeps: the states that hidden events have led to.
 *
 * Before events are hidden, a snapshot is left at the last of them, for the reducer that
 * is named like the stream's category and for each that has snapshots of the stream.
 * Replays go on from it, and it stays when newer ones are made (fold/snapshot.c).
 *
 * A reducer that was changed has no use for the snapshots of before.  Where these stand
 * for events that are hidden already it has no state either, and if more were hidden
 * it would never have one again, even if it were made what it was.  So nothing more is
 * hidden until somebody says that the states of before are good for it,
 * es_adopt_snapshots(), or drops it.
 *
 * Handlers run before any lock is taken that appends would wait for.
 */
#include "lifecycle/keep.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "fold/define.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/names.h"
#include "fold/fold.h"
#include "fold/reducer.h"
#include "fold/replay.h"
#include "fold/snapshot.h"
#include "fold/state.h"
#include "log/subscriber.h"
#include "read/read.h"

PG_FUNCTION_INFO_V1(es_adopt_snapshots);

/* Raises 55000 for a reducer that would lose what it had of a stream. */
ES_NORETURN static void
report_unusable_snapshots(const EsReducer *reducer, const EsStream *stream)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot truncate stream \"%s\" further", text_to_cstring(stream->name)),
			errdetail("Reducer \"%s\" was changed since the stream was truncated, and cannot go on from the snapshots of before.",
					  reducer->name),
			errhint("If they are good for what it is now, let it go on from them with es_adopt_snapshots; if not, make the reducer what it was, or drop it."));
}

/* Folds a stream up to a version and leaves the state; false if the table of them is locked. */
static bool
keep_folded_state(EsReplay *replay, const EsStream *stream, int64 version, bool has_snapshots, bool wait)
{
	const EsReducer *reducer = es_fold_reducer(replay->fold);
	EsSnapshotBounds bounds = {.version = version,.as_of = DT_NOEND};
	EsStreamScanOptions options = {.stream = stream->name,.without_metadata = !reducer->wants_metadata};
	EsStreamScan *scan = es_read_stream_begin(&options);
	bool		begins = es_read_stream_of(scan) != NULL && es_replay_can_begin(replay, scan, &bounds);

	es_replay_require_sight(replay->fold, stream->name);
	if (!begins && has_snapshots && es_read_stream_of(scan) != NULL &&
		!es_snapshot_is_lost(reducer, stream->id, es_read_stream_snapshot(scan)))
		report_unusable_snapshots(reducer, stream);
	begins = begins && es_replay_stream(replay, scan, &bounds) && replay->at.version == version;
	es_read_stream_end(scan);
	if (!begins)
		return true;
	es_replay_require_leave(replay->fold);
	if (!es_snapshot_begin_keep(wait))
		return false;

	/*
	 * From here on es_adopt_snapshots() waits, and will find what is kept. If
	 * it was first, the reducer that it was for would never get what is kept
	 * for the one of before.
	 */
	es_replay_require_unchanged(replay->fold);
	es_fold_store(replay->fold, &replay->at.state);
	es_snapshot_keep(reducer, &replay->at);
	return true;
}

/* Keeps the state by one reducer, if there is one of that name. */
static bool
keep_state_by(const text *name, const EsStream *stream, const EsNames *category, int64 version,
			  bool has_snapshots, bool wait)
{
	EsFold	   *fold = es_fold_begin(name);
	EsReplay	replay;
	bool		kept;

	if (fold == NULL)
		return true;
	es_fold_take_stored(fold, category);
	replay = es_replay_by(fold);
	kept = keep_folded_state(&replay, stream, version, has_snapshots, wait);
	es_replay_end(&replay);
	return kept;
}

/*
 * es_keep_states leaves snapshots of a stream after a version, as the current user; false
 * if it would have to wait and is not told to.  What handlers raise is VE009; 55000 where
 * a reducer that was changed would lose the states of before.
 */
bool
es_keep_states(const EsStream *stream, int64 version, bool wait)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eventstore truncation", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *names = es_snapshot_reducers(stream->id, NIL);
	const char *name = VARDATA_ANY(stream->name);
	text	   *category = cstring_to_text_with_len(name, es_names_category_length(name, VARSIZE_ANY_EXHDR(stream->name)));
	EsNames		categories = es_names_of_one(category);
	bool		has_category = false;
	bool		kept = true;
	ListCell   *cell;

	foreach(cell, names)
	{
		CHECK_FOR_INTERRUPTS();
		has_category = has_category || es_names_same(lfirst(cell), category);
		kept = kept && keep_state_by(lfirst(cell), stream, &categories, version, true, wait);
	}
	if (!has_category)
		kept = kept && keep_state_by(category, stream, &categories, version, false, wait);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return kept;
}

/* Raises unless a state is one of the reducer's type. */
static void
check_adopted_state(const EsStoredState *state, void *arg)
{
	EsFold	   *fold = arg;
	const EsReducer *reducer = es_fold_reducer(fold);

	if (state->sealed)
		return;					/* whose category's it is is not known here */
	if (!state->isnull && (state->json != NULL) != (reducer->state_type == JSONBOID))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("reducer \"%s\" cannot go on from states of another type", reducer->name),
				errdetail("Its state is of type %s now, and was of another one as the snapshots were left.",
						  format_type_be(reducer->state_type)));
	es_fold_load(fold, state);
}

/*
 * es_adopt_snapshots(reducer): lets a reducer that was changed go on from the states that
 * truncations have kept of it, as if it had made them; returns how many there were.
 *
 * Right as for es_register_reducer.  Unknown reducer: VE004.  A state that is none of
 * the reducer's type is an error.  Waits for other changes of reducers, and transactions
 * that have left snapshots; a rollback undoes it.
 */
Datum
es_adopt_snapshots(PG_FUNCTION_ARGS)
{
	text	   *name;
	EsFold	   *fold;
	int64		count;

	es_call_require(fcinfo, 0, "reducer");
	name = PG_GETARG_TEXT_PP(0);
	es_define_require_right(name);
	es_subscriber_begin_change(&es_reducer_table, "es_adopt_snapshots()");
	fold = es_fold_begin(name);
	if (fold == NULL)
		es_reducer_report_unknown(name, ES_REDUCER_HOW_TO_CREATE);
	es_replay_require_sight(fold, name);
	count = es_snapshot_adopt(es_fold_reducer(fold), check_adopted_state, fold);
	es_fold_end(fold);
	PG_RETURN_INT64(count);
}
