/*
 * replay.c
 *		Folds streams into states, for SQL.
 *
 * Every function reads the streams as they are when it is called, whatever the
 * isolation level, with this transaction's own events.  One state at a time is
 * in memory, besides what the result's tuplestore keeps there (work_mem).  No
 * locks are taken but those of reading.
 */
#include "fold.h"
#include "read.h"
#include "state.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(es_replay);
PG_FUNCTION_INFO_V1(es_replay_steps);
PG_FUNCTION_INFO_V1(es_replay_category);
PG_FUNCTION_INFO_V1(es_replay_as);

#define Anum_es_state_stream		1
#define Anum_es_state_version		2
#define Anum_es_state_position		3
#define Anum_es_state_state			4
#define Anum_es_state_recorded_at	5
#define Natts_es_state				5

/* How far to read; both inclusive. */
typedef struct Bounds
{
	int64		until_version;
	TimestampTz as_of;
} Bounds;

/* The last event read; version 0: none yet. */
typedef struct Progress
{
	int64		version;
	int64		position;
	TimestampTz recorded_at;
} Progress;

/* What es_replay_category hands from stream to stream. */
typedef struct CategoryReplay
{
	FunctionCallInfo fcinfo;
	EsFold	   *fold;
	Bounds		bounds;
} CategoryReplay;

/* Fetches a version that may be given as a bound; a negative one is 22023. */
static int64
version_arg(FunctionCallInfo fcinfo, int argno, const char *name, int64 if_null)
{
	int64		version = PG_ARGISNULL(argno) ? if_null : PG_GETARG_INT64(argno);

	if (version < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must not be negative", name));
	return version;
}

/* Fetches a time that may be given as a bound. */
static TimestampTz
as_of_arg(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(argno);
}

/*
 * Begins the fold with the reducer that an argument names or, if that is NULL,
 * with the one named like the category.  VE004 if there is none.
 */
static EsFold *
begin_fold(FunctionCallInfo fcinfo, int argno, const text *category)
{
	bool		by_category = PG_ARGISNULL(argno);
	const text *reducer = by_category ? category : PG_GETARG_TEXT_PP(argno);
	EsFold	   *fold = es_fold_begin(reducer);

	if (fold == NULL)
		ereport(ERROR,
				errcode(ES_ERRCODE_UNDEFINED_OBJECT),
				errmsg("reducer \"%s\" does not exist", text_to_cstring(reducer)),
				by_category ?
				errhint("Without a reducer argument, the one named like the stream's category is used: create it with es_create_reducer or es_register_reducer, or name another one, such as the built-in \"merge\".") :
				errhint("Create it with es_create_reducer or es_register_reducer."));
	return fold;
}

/* Gives the category of a stream's name. */
static text *
category_of(const text *stream)
{
	const char *name = VARDATA_ANY(stream);

	return cstring_to_text_with_len(name, es_base_category_length(name, VARSIZE_ANY_EXHDR(stream)));
}

/*
 * Folds the next event of a stream, if it is within the bounds.  Times never
 * decrease within a stream, so the first event past a bound ends the reading.
 */
static bool
fold_next(EsFold *fold, EsStreamScan *scan, const Bounds *bounds, Progress *progress)
{
	EsEvent		event;

	CHECK_FOR_INTERRUPTS();
	if (!es_read_stream_next(scan, &event) ||
		event.version > bounds->until_version || event.recorded_at > bounds->as_of)
		return false;
	es_fold_apply(fold, &event);
	progress->version = event.version;
	progress->position = event.position;
	progress->recorded_at = event.recorded_at;
	return true;
}

/* Folds a stream up to the bounds; false if that was nothing. */
static bool
fold_stream(EsFold *fold, const EsStreamScanOptions *source, const Bounds *bounds, Progress *progress)
{
	EsStreamScan *scan;

	progress->version = 0;
	if (bounds->until_version == 0)
		return false;
	scan = es_read_stream_begin(source);
	while (fold_next(fold, scan, bounds, progress))
		;
	es_read_stream_end(scan);
	return progress->version > 0;
}

/* Adds a row with the present state to the function's result. */
static void
emit_state(FunctionCallInfo fcinfo, const text *stream, EsFold *fold, const Progress *progress)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[Natts_es_state];
	bool		isnull[Natts_es_state] = {false};

	values[Anum_es_state_stream - 1] = PointerGetDatum(stream);
	values[Anum_es_state_version - 1] = Int64GetDatum(progress->version);
	values[Anum_es_state_position - 1] = Int64GetDatum(progress->position);
	values[Anum_es_state_state - 1] = es_fold_state_jsonb(fold, &isnull[Anum_es_state_state - 1]);
	values[Anum_es_state_recorded_at - 1] = TimestampTzGetDatum(progress->recorded_at);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
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
	EsStreamScanOptions source = {.stream = es_base_stream_arg(fcinfo, 0)};
	Bounds		bounds = {.until_version = version_arg(fcinfo, 2, "until_version", PG_INT64_MAX),
		.as_of = as_of_arg(fcinfo, 3)
	};
	Progress	progress;
	EsFold	   *fold = begin_fold(fcinfo, 1, category_of(source.stream));

	InitMaterializedSRF(fcinfo, 0);
	if (fold_stream(fold, &source, &bounds, &progress))
		emit_state(fcinfo, source.stream, fold, &progress);
	es_fold_end(fold);
	return (Datum) 0;
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
	EsStreamScanOptions source = {.stream = es_base_stream_arg(fcinfo, 0)};
	int64		from_version = version_arg(fcinfo, 2, "from_version", 1);
	Bounds		bounds = {.until_version = version_arg(fcinfo, 3, "until_version", PG_INT64_MAX),
		.as_of = DT_NOEND
	};
	Progress	progress;
	EsFold	   *fold = begin_fold(fcinfo, 1, category_of(source.stream));
	MemoryContext step = AllocSetContextCreate(CurrentMemoryContext, "eventstore step",
											   ALLOCSET_DEFAULT_SIZES);
	EsStreamScan *scan;

	InitMaterializedSRF(fcinfo, 0);
	scan = es_read_stream_begin(&source);
	while (fold_next(fold, scan, &bounds, &progress))
	{
		MemoryContext old = MemoryContextSwitchTo(step);

		if (progress.version >= from_version)
			emit_state(fcinfo, source.stream, fold, &progress);
		MemoryContextSwitchTo(old);
		MemoryContextReset(step);
	}
	es_read_stream_end(scan);
	es_fold_end(fold);
	return (Datum) 0;
}

/* Folds one stream of a category, in a memory context of its own. */
static void
replay_member(const text *stream, int64 stream_id, void *arg)
{
	CategoryReplay *replay = arg;
	EsStreamScanOptions source = {.stream = stream,.stream_id = stream_id};
	Progress	progress;
	MemoryContext member = AllocSetContextCreate(CurrentMemoryContext, "eventstore category member",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(member);

	es_fold_reset(replay->fold);
	if (fold_stream(replay->fold, &source, &replay->bounds, &progress))
		emit_state(replay->fcinfo, stream, replay->fold, &progress);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(member);
}

/*
 * es_replay_category(category text, reducer text, as_of timestamptz) gives a row
 * like es_replay's for each stream of the category that has an event by then, in
 * order of creation.  NULL category: 22004; NULL reducer: the one named like the
 * category.  Otherwise like es_replay.
 */
Datum
es_replay_category(PG_FUNCTION_ARGS)
{
	CategoryReplay replay = {.fcinfo = fcinfo};
	const text *category;

	es_base_require(fcinfo, 0, "category");
	category = PG_GETARG_TEXT_PP(0);
	replay.bounds.until_version = PG_INT64_MAX;
	replay.bounds.as_of = as_of_arg(fcinfo, 2);
	replay.fold = begin_fold(fcinfo, 1, category);
	InitMaterializedSRF(fcinfo, 0);
	es_read_category_streams(category, replay_member, &replay);
	es_fold_end(replay.fold);
	return (Datum) 0;
}

/*
 * Raises 42804 unless es_replay_as can give a fold's state as a type: its own,
 * or any row type if it is a jsonb.
 */
static void
require_type(const EsFold *fold, Oid wanted)
{
	Oid			type = es_fold_state_type(fold);

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
 * Gives a fold's state as a type that require_type has let pass, in the current
 * memory context.  The members of a jsonb are laid over the row in the second
 * argument, if there is one.
 */
static Datum
state_as(FunctionCallInfo fcinfo, EsFold *fold, Oid wanted, bool *isnull)
{
	Datum		state = es_fold_state(fold, isnull);
	int16		len;
	bool		byval;

	if (*isnull)
		return (Datum) 0;
	if (wanted == es_fold_state_type(fold))
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
	EsStreamScanOptions source = {.stream = es_base_stream_arg(fcinfo, 0)};
	Bounds		bounds = {.until_version = version_arg(fcinfo, 3, "until_version", PG_INT64_MAX),
		.as_of = as_of_arg(fcinfo, 4)
	};
	Progress	progress;
	EsFold	   *fold = begin_fold(fcinfo, 2, category_of(source.stream));
	Oid			wanted = get_fn_expr_argtype(fcinfo->flinfo, 1);
	Datum		result = (Datum) 0;
	bool		isnull = true;

	require_type(fold, wanted);
	if (fold_stream(fold, &source, &bounds, &progress))
		result = state_as(fcinfo, fold, wanted, &isnull);
	es_fold_end(fold);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
