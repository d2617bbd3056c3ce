/*
 * replay.c
 *		Folds streams into states, for SQL.
 *
 * Every function reads the streams as they are when it is called, whatever the
 * isolation level, with this transaction's own events.  One state at a time is
 * in memory, besides what the result's tuplestore keeps there.  No locks are
 * taken but those of reading and, where a snapshot is left, one on
 * eventstore.snapshots, that writers share, to the end of the transaction.
 *
 * A replay begins at the newest snapshot that is within its bounds, if there is
 * one (snapshot.c), and leaves one if it has folded more events than the
 * reducer's policy says, where it may write.  On a truncated stream it must
 * begin at a snapshot: what is hidden cannot be folded.
 */
#include "fold/replay.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/event.h"
#include "base/names.h"
#include "base/settings.h"
#include "fold/reducer.h"
#include "fold/resolve.h"
#include "fold/state.h"
#include "log/subscriber.h"
#include "rights/right.h"
#include "shared/counter.h"
#include "stream/stream.h"

PG_FUNCTION_INFO_V1(es_replay);
PG_FUNCTION_INFO_V1(es_replay_steps);
PG_FUNCTION_INFO_V1(es_replay_as);
PG_FUNCTION_INFO_V1(es_snapshot);

const Oid	es_replay_state_types[Natts_es_state] = {TEXTOID, INT8OID, INT8OID, JSONBOID, TIMESTAMPTZOID};

/* Fetches a version that may be given as a bound; a negative one is 22023. */
static int64
version_arg(FunctionCallInfo fcinfo, int argno, const char *name, int64 if_null)
{
	return PG_ARGISNULL(argno) ? if_null : es_call_not_negative(PG_GETARG_INT64(argno), name);
}

/* es_replay_as_of_arg fetches a time that may be given as a bound. */
TimestampTz
es_replay_as_of_arg(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(argno);
}

/*
 * es_replay_by makes the replay of a fold, and enters the settings for its functions;
 * who may not call all of them gets no state by a snapshot.
 */
EsReplay
es_replay_by(EsFold *fold)
{
	EsReplay	replay = {.fold = fold,.without_snapshots = !es_resolve_may_execute(es_fold_reducer(fold))};

	replay.settings = es_fold_enter_settings(fold);
	return replay;
}

/* es_replay_end ends a replay and its fold. */
void
es_replay_end(EsReplay *replay)
{
	es_settings_leave(replay->settings);
	es_fold_end(replay->fold);
}

/*
 * es_replay_begin begins to replay by the reducer that is named or, if that is
 * NULL, by the one named like the category.  VE004 if there is none.
 */
EsReplay
es_replay_begin(const text *named, const text *category)
{
	bool		by_category = named == NULL;
	const text *reducer = by_category ? category : named;
	EsFold	   *fold = es_fold_begin(reducer);
	EsNames		names;

	if (fold == NULL)
		es_reducer_report_unknown(reducer, by_category ?
								  "Without a reducer argument, the one named like the stream's category is used: create it with es_create_reducer or es_register_reducer, or name another one, such as the built-in \"merge\"." :
								  ES_REDUCER_HOW_TO_CREATE);
	names = es_names_of_one(unconstify(text *, category));
	es_fold_take_stored(fold, &names);
	return es_replay_by(fold);
}

/* Gives the category of a stream's name. */
static text *
category_of_stream(const text *stream)
{
	const char *name = VARDATA_ANY(stream);

	return cstring_to_text_with_len(name, es_names_category_length(name, VARSIZE_ANY_EXHDR(stream)));
}

/*
 * Begins the replay that an SQL function is asked for, by the reducer that an argument names;
 * 42501 without a right in the stream's category.
 */
static EsReplay
begin_replay_by_arg(FunctionCallInfo fcinfo, int argno, const text *stream, EsRight right)
{
	es_right_require_stream(right, stream);
	return es_replay_begin(PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno), category_of_stream(stream));
}

/*
 * Raises 55000 for a truncated stream without a snapshot to begin at; lost: there is one,
 * under a key that is shredded.
 */
ES_NORETURN static void
report_truncated(const EsReducer *reducer, const EsStream *stream, bool lost)
{
	if (lost)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot replay stream \"%s\" by reducer \"%s\"", text_to_cstring(stream->name), reducer->name),
				errdetail("Its events before version %lld are truncated, and the state that was kept of them was made of protected data of a subject that has been shredded.",
						  (long long) stream->truncated_before),
				errhint("Read the events that are left with es_read."));
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot replay stream \"%s\" by reducer \"%s\"", text_to_cstring(stream->name), reducer->name),
			errdetail("Its events before version %lld are truncated, and there is no snapshot within the bounds that the reducer, as it is now, can go on from.",
					  (long long) stream->truncated_before),
			errhint("Replay by a reducer that has snapshots of the stream; or, if this one has been changed and its states of before are good for what it is now, let it go on from them with es_adopt_snapshots."));
}

/*
 * Finds the snapshot at which a replay of the stream that a scan is at the start of begins,
 * and puts it in *at; false, with at->version 0, if there is none.
 */
static bool
find_replay_start(const EsReplay *replay, EsStreamScan *scan, const EsSnapshotBounds *bounds, EsSnapshot *at)
{
	const EsStream *stream = es_read_stream_of(scan);
	bool		found = !replay->without_snapshots &&
	es_snapshot_find(es_fold_reducer(replay->fold), stream->id, bounds, es_read_stream_snapshot(scan), at) &&
	at->version + 1 >= stream->truncated_before;

	if (!found)
		at->version = 0;
	return found;
}

/*
 * es_replay_can_begin tells whether a stream that a scan is at the start of can be folded:
 * from its first event, or from a snapshot within the bounds.
 */
bool
es_replay_can_begin(const EsReplay *replay, EsStreamScan *scan, const EsSnapshotBounds *bounds)
{
	EsSnapshot	at;

	return es_read_stream_of(scan)->truncated_before <= 1 || find_replay_start(replay, scan, bounds, &at);
}

/*
 * Begins a replay of the stream that a scan is at the start of:
 * at the newest snapshot within the bounds, or at the first event.
 */
static void
start_replay(EsReplay *replay, EsStreamScan *scan, const EsSnapshotBounds *bounds)
{
	const EsStream *stream = es_read_stream_of(scan);

	replay->scan = scan;
	replay->folded = 0;
	replay->at.version = 0;
	if (stream == NULL)
		return;
	replay->at.stream_id = stream->id;
	es_read_stream_limit(scan, bounds->version);
	if (find_replay_start(replay, scan, bounds, &replay->at))
	{
		es_fold_load(replay->fold, &replay->at.state);
		es_read_stream_seek(scan, replay->at.version + 1);
	}
	else if (stream->truncated_before > 1)
		report_truncated(es_fold_reducer(replay->fold), stream,
						 es_snapshot_is_lost(es_fold_reducer(replay->fold), stream->id, es_read_stream_snapshot(scan)));
}

/*
 * Folds the next event, if it is within the bounds.  Times never
 * decrease within a stream, so the first event past a bound ends the reading.
 */
static bool
replay_event(EsReplay *replay, const EsSnapshotBounds *bounds)
{
	EsEvent		event;

	CHECK_FOR_INTERRUPTS();
	if (!es_read_stream_next(replay->scan, &event) ||
		event.version > bounds->version || event.recorded_at > bounds->as_of)
		return false;
	es_fold_apply(replay->fold, &event);
	replay->at.version = event.version;
	replay->at.position = event.position;
	replay->at.recorded_at = event.recorded_at;
	replay->folded++;
	return true;
}

/* Counts what a replay has folded. */
static void
count_fold(const EsReplay *replay)
{
	es_counter_add(ES_COUNT_FOLDS, 1);
	es_counter_add(ES_COUNT_FOLDED_EVENTS, replay->folded);
}

/*
 * es_replay_stream folds the stream that a scan is at the start of; false if there
 * is nothing to fold.
 */
bool
es_replay_stream(EsReplay *replay, EsStreamScan *scan, const EsSnapshotBounds *bounds)
{
	if (bounds->version == 0)
		return false;
	start_replay(replay, scan, bounds);
	while (replay_event(replay, bounds))
		;
	count_fold(replay);
	return replay->at.version > 0;
}

/*
 * es_replay_unchanged tells whether the reducer still is what it was when the
 * replay began: its states may have been made in two ways otherwise.
 */
bool
es_replay_unchanged(const EsFold *fold)
{
	const EsReducer *began = es_fold_reducer(fold);
	MemoryContext holder = AllocSetContextCreate(CurrentMemoryContext, "eventstore reducer look-up",
												 ALLOCSET_SMALL_SIZES);
	const EsReducer *now = es_resolve_pin(cstring_to_text(began->name), holder);
	bool		same = now != NULL && memcmp(now->fingerprint, began->fingerprint, ES_FINGERPRINT_LENGTH) == 0;

	MemoryContextDelete(holder);
	return same;
}

/* es_replay_require_unchanged raises 40001 if the reducer is not what it was any more. */
void
es_replay_require_unchanged(const EsFold *fold)
{
	if (!es_replay_unchanged(fold))
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("reducer \"%s\" was changed during the replay", es_fold_reducer(fold)->name),
				errhint("Retry the transaction."));
}

/* es_replay_require_leave raises 42501 if the current user may not leave snapshots by a reducer. */
void
es_replay_require_leave(const EsFold *fold)
{
	if (!es_snapshot_may_leave(es_fold_reducer(fold)))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to leave snapshots by reducer \"%s\"", es_fold_reducer(fold)->name),
				errdetail("A snapshot is for all roles, and the reducer has functions for which the search_path's \"$user\" is whoever calls them."),
				errhint("Give its functions a search_path of their own (ALTER FUNCTION ... SET search_path)."));
}

/*
 * es_replay_leaves_snapshot tells whether a replay has folded so much that the next
 * one should begin where it ended.
 */
bool
es_replay_leaves_snapshot(const EsReplay *replay)
{
	int			every = es_fold_reducer(replay->fold)->snapshot_every;

	return every > 0 && replay->folded > every;
}

/* Leaves a snapshot where a replay has ended. */
static void
leave_replay_snapshot(EsReplay *replay, bool wait)
{
	es_fold_store(replay->fold, &replay->at.state);
	es_snapshot_write(es_fold_reducer(replay->fold), &replay->at, wait);
}

/*
 * Replays a stream by name, and leaves a snapshot if that is due; false if there is
 * nothing to fold.
 */
static bool
replay_named_stream(EsReplay *replay, const text *stream, const EsSnapshotBounds *bounds)
{
	EsStreamScanOptions options = {.stream = stream,
		.without_metadata = !es_fold_reducer(replay->fold)->wants_metadata
	};
	EsStreamScan *scan;
	bool		found;
	instr_time	start;

	es_counter_start(&start);
	scan = es_read_stream_begin(&options);
	found = es_replay_stream(replay, scan, bounds);
	es_read_stream_end(scan);
	es_counter_note_time(ES_TIME_REPLAY, &start);
	if (found && es_replay_leaves_snapshot(replay) && es_snapshot_may_write() &&
		es_snapshot_may_leave(es_fold_reducer(replay->fold)) && es_replay_unchanged(replay->fold))
		leave_replay_snapshot(replay, false);
	return found;
}

/*
 * es_replay_begin_rows begins the result of a function that returns rows of es_state;
 * 55000 unless that has the attributes that it was made with.
 */
ReturnSetInfo *
es_replay_begin_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);

	es_event_check_type(result->setDesc, es_replay_state_types, Natts_es_state);
	return result;
}

/*
 * es_replay_columns fills the columns of es_state with the present state of a replay, which is
 * NULL if it is not wanted.
 */
void
es_replay_columns(EsReplay *replay, const text *stream, Datum *values, bool *isnull, bool with_state)
{
	memset(isnull, false, Natts_es_state * sizeof(bool));
	values[Anum_es_state_stream - 1] = PointerGetDatum(stream);
	values[Anum_es_state_version - 1] = Int64GetDatum(replay->at.version);
	values[Anum_es_state_position - 1] = Int64GetDatum(replay->at.position);
	isnull[Anum_es_state_state - 1] = true;
	if (with_state)
		values[Anum_es_state_state - 1] = es_fold_read_jsonb(replay->fold, &isnull[Anum_es_state_state - 1]);
	values[Anum_es_state_recorded_at - 1] = TimestampTzGetDatum(replay->at.recorded_at);
}

/* Adds a row with the present state to a result. */
static void
emit_state_row(ReturnSetInfo *result, const text *stream, EsReplay *replay)
{
	Datum		values[Natts_es_state];
	bool		isnull[Natts_es_state];

	es_replay_columns(replay, stream, values, isnull, true);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * es_replay(stream text, reducer text, until_version bigint, as_of timestamptz)
 * folds a stream into one row; no row if there is no event within the bounds,
 * as for until_version 0.  NULL reducer: the one named like the stream's
 * category; NULL bounds: none.  Unknown reducer: VE004; what a handler raises,
 * or an event type that the reducer refuses: VE009; negative until_version:
 * 22023.  Handlers run as the caller, who needs EXECUTE on them.
 */
Datum
es_replay(PG_FUNCTION_ARGS)
{
	text	   *stream = es_call_stream_arg(fcinfo, 0);
	EsSnapshotBounds bounds = {.version = version_arg(fcinfo, 2, "until_version", PG_INT64_MAX),
		.as_of = es_replay_as_of_arg(fcinfo, 3)
	};
	EsReplay	replay = begin_replay_by_arg(fcinfo, 1, stream, ES_RIGHT_READ);
	ReturnSetInfo *result = es_replay_begin_rows(fcinfo);

	if (replay_named_stream(&replay, stream, &bounds))
		emit_state_row(result, stream, &replay);
	es_replay_end(&replay);
	return (Datum) 0;
}

/* Goes to where the steps begin. */
static void
skip_replay_steps(EsReplay *replay, EsStreamScan *scan, int64 from_version)
{
	const EsStream *stream = es_read_stream_of(scan);
	int64		first = stream ? Max(from_version, stream->truncated_before) : from_version;
	EsSnapshotBounds before = {.version = first - 1,.as_of = DT_NOEND};

	start_replay(replay, scan, &before);
	while (replay->at.version < before.version && replay_event(replay, &before))
		;
}

/*
 * es_replay_steps(stream text, reducer text, from_version bigint,
 * until_version bigint) gives the state after each event from from_version (NULL
 * or 0: the first) to until_version (NULL: the last; 0: no row).  Otherwise like
 * es_replay.
 */
Datum
es_replay_steps(PG_FUNCTION_ARGS)
{
	EsStreamScanOptions options = {.stream = es_call_stream_arg(fcinfo, 0)};
	int64		from_version = version_arg(fcinfo, 2, "from_version", 1);
	EsSnapshotBounds bounds = {.version = version_arg(fcinfo, 3, "until_version", PG_INT64_MAX),
		.as_of = DT_NOEND
	};
	EsReplay	replay = begin_replay_by_arg(fcinfo, 1, options.stream, ES_RIGHT_READ);
	MemoryContext step = AllocSetContextCreate(CurrentMemoryContext, "eventstore step",
											   ALLOCSET_DEFAULT_SIZES);
	ReturnSetInfo *result = es_replay_begin_rows(fcinfo);
	EsStreamScan *scan = es_read_stream_begin(&options);

	skip_replay_steps(&replay, scan, Max(from_version, 1));
	es_read_stream_limit(scan, bounds.version);
	while (replay_event(&replay, &bounds))
	{
		MemoryContext old = MemoryContextSwitchTo(step);

		emit_state_row(result, options.stream, &replay);
		MemoryContextSwitchTo(old);
		MemoryContextReset(step);
	}
	count_fold(&replay);
	es_read_stream_end(scan);
	es_replay_end(&replay);
	return (Datum) 0;
}

/*
 * Raises 42804 unless es_replay_as can give a fold's state as a type: its own,
 * or any row type if it is a jsonb.
 */
static void
require_state_type(const EsFold *fold, Oid wanted)
{
	Oid			type = es_fold_reducer(fold)->state_type;

	if (!OidIsValid(wanted))	/* called without an expression */
		ereport(ERROR,
				errcode(ERRCODE_INDETERMINATE_DATATYPE),
				errmsg("could not determine the data type of argument \"state\""));
	if (wanted == type ||
		(type == JSONBOID && get_typtype(getBaseType(wanted)) == TYPTYPE_COMPOSITE))
		return;
	ereport(ERROR,
			errcode(ERRCODE_DATATYPE_MISMATCH),
			errmsg("the reducer's state is of type %s, not %s",
				   format_type_be(type), format_type_be(wanted)),
			errhint("Give NULL::%s as the second argument.", format_type_be(type)));
}

/*
 * Gives a fold's state as a type that require_state_type has let pass, in the current
 * memory context.  The members of a jsonb are laid over the row in the second
 * argument, if there is one.
 */
static Datum
give_state_as(FunctionCallInfo fcinfo, EsFold *fold, Oid wanted, bool *isnull)
{
	Datum		state = es_fold_read(fold, isnull);
	int16		len;
	bool		byval;

	if (*isnull)
		return (Datum) 0;
	if (wanted == es_fold_reducer(fold)->state_type)
	{
		get_typlenbyval(wanted, &len, &byval);
		return datumCopy(state, byval, len);
	}
	*isnull = PG_ARGISNULL(1);
	return es_state_populate(*isnull ? (Datum) 0 : PG_GETARG_DATUM(1), isnull, wanted,
							 DatumGetJsonbP(state));
}

/*
 * es_replay_as(stream text, state anyelement, reducer text, until_version bigint,
 * as_of timestamptz) gives the state that es_replay does as a value of its own
 * type, which is that of the second argument; a jsonb state may also be asked for
 * as a row, as jsonb_populate_record makes it.  NULL if there is nothing to fold.
 * Another type: 42804.
 */
Datum
es_replay_as(PG_FUNCTION_ARGS)
{
	text	   *stream = es_call_stream_arg(fcinfo, 0);
	EsSnapshotBounds bounds = {.version = version_arg(fcinfo, 3, "until_version", PG_INT64_MAX),
		.as_of = es_replay_as_of_arg(fcinfo, 4)
	};
	EsReplay	replay = begin_replay_by_arg(fcinfo, 2, stream, ES_RIGHT_READ);
	Oid			wanted = get_fn_expr_argtype(fcinfo->flinfo, 1);
	Datum		result = (Datum) 0;
	bool		isnull = true;

	require_state_type(replay.fold, wanted);
	if (replay_named_stream(&replay, stream, &bounds))
		result = give_state_as(fcinfo, replay.fold, wanted, &isnull);
	es_replay_end(&replay);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/*
 * es_replay_require_sight raises 42501 if a fold would show events of a stream to functions, which
 * run as the current user and could tell it all, and that may not read them.
 */
void
es_replay_require_sight(const EsFold *fold, const text *stream)
{
	if (es_fold_reducer(fold)->calls_functions)
		es_right_require_stream(ES_RIGHT_READ, stream);
}

/*
 * es_snapshot(stream text, reducer text) leaves a snapshot of a stream as it is
 * and gives its version; 0 if there is nothing to fold.  NULL reducer: the one
 * named like the stream's category.  One with functions that may depend on who
 * calls them, by the search_path's "$user", is for the store's owner (42501); a
 * reducer that changes meanwhile is 40001.  Waits for those who leave or drop
 * snapshots; a rollback undoes it.  Otherwise like es_replay.
 */
Datum
es_snapshot(PG_FUNCTION_ARGS)
{
	EsStreamScanOptions options = {.stream = es_call_stream_arg(fcinfo, 0)};
	EsSnapshotBounds bounds = {.version = PG_INT64_MAX,.as_of = DT_NOEND};
	EsReplay	replay = begin_replay_by_arg(fcinfo, 1, options.stream, ES_RIGHT_ADMIN);
	EsStreamScan *scan;
	bool		found;

	es_replay_require_sight(replay.fold, options.stream);
	es_subscriber_prevent_write("es_snapshot()");
	PreventCommandIfParallelMode("es_snapshot()");
	es_replay_require_leave(replay.fold);
	scan = es_read_stream_begin(&options);
	found = es_replay_stream(&replay, scan, &bounds);
	es_read_stream_end(scan);
	if (found && replay.folded > 0)
	{
		es_replay_require_unchanged(replay.fold);
		leave_replay_snapshot(&replay, true);
	}
	es_replay_end(&replay);
	PG_RETURN_INT64(found ? replay.at.version : 0);
}
