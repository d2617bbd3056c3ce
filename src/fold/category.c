/*
 * category.c
 *		All streams of a category folded, by several processes.
 *
 * The streams are those that one database snapshot sees, and so are their
 * events: the result is the category at one moment.  One process, the leader,
 * begins.  If after FIRST_EVENTS events it is not done, and handlers and
 * upcasters are all PARALLEL SAFE, it starts parallel workers, as many as
 * max_parallel_workers_per_gather says (base/crew.c).  From there on everybody, the
 * leader too, takes chunks of stream ids from a shared counter; the leader takes the
 * rows of workers between two streams of its own.
 *
 * Memory: a fold needs two states, and the result goes to a tuplestore, to disk beyond
 * work_mem.  So the number of streams does not matter.
 *
 * Nothing can be written while workers run.  States that are due for a snapshot
 * go to a second tuplestore, and the snapshots are written at the end.
 */
#include "fold/category.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "optimizer/cost.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

#include "base/call.h"
#include "base/crew.h"
#include "base/names.h"
#include "fold/fold.h"
#include "fold/reducer.h"
#include "fold/replay.h"
#include "fold/snapshot.h"
#include "fold/state.h"
#include "read/read.h"
#include "read/streams.h"
#include "rights/right.h"
#include "shared/headway.h"
#include "stream/stream.h"
#include "table/columns.h"
#include "table/rows.h"

#define FIRST_EVENTS	20000	/* folded before workers are worth it */
#define CHUNKS			64		/* per process, about */
#define LEAST_IDS		16		/* in a chunk */
#define MOST_IDS		65536

PG_FUNCTION_INFO_V1(es_replay_category);

/* Keys of what is in shared memory. */
#define KEY_SHARED		UINT64CONST(0xE5CA700000000001)
#define KEY_CATEGORY	UINT64CONST(0xE5CA700000000002)
#define KEY_REDUCER		UINT64CONST(0xE5CA700000000003)

/* What all processes share.  Set up by the leader; next_id is anybody's. */
typedef struct Shared
{
	pg_atomic_uint64 next_id;	/* ids below are done, or somebody does them */
	int64		last_id;
	int64		ids_a_chunk;
	TimestampTz as_of;
	bool		leaves_snapshots;
	uint8		fingerprint[ES_FINGERPRINT_LENGTH]; /* of the leader's reducer */
} Shared;

/* Columns of a row on its way to the leader: those of es_state, and what a snapshot needs. */
#define Anum_row_stream_id		6
#define Anum_row_leaves			7	/* a snapshot is due */
#define Anum_row_stored			8	/* jsonb, text, sealed: see EsStoredState */
#define Natts_row				10

/* A process at work. */
typedef struct Work
{
	Shared	   *shared;
	EsReplay	replay;
	EsCategoryScan *streams;
	EsStreamScan *events;
	MemoryContext member;		/* what one stream needs */
	DestReceiver *dest;			/* takes rows */
	TupleTableSlot *row;
	int64		folded;			/* events, in all */
} Work;

/* A DestReceiver of the leader, for its own rows and those of workers. */
typedef struct Rows
{
	DestReceiver pub;
	ReturnSetInfo *rsinfo;
	Tuplestorestate *due;		/* whole rows, of states that are due for a
								 * snapshot; NULL: none yet */
} Rows;

/* ---- rows ---- */

/* Makes the descriptor of rows. */
static TupleDesc
make_state_row_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(Natts_row);

	for (int i = 0; i < Natts_es_state; i++)
		TupleDescInitEntry(desc, i + 1, NULL, es_replay_state_types[i], -1, 0);
	TupleDescInitEntry(desc, Anum_row_stream_id, NULL, INT8OID, -1, 0);
	TupleDescInitEntry(desc, Anum_row_leaves, NULL, BOOLOID, -1, 0);
	TupleDescInitEntry(desc, Anum_row_stored, NULL, JSONBOID, -1, 0);
	TupleDescInitEntry(desc, Anum_row_stored + 1, NULL, TEXTOID, -1, 0);
	TupleDescInitEntry(desc, Anum_row_stored + 2, NULL, TEXTOID, -1, 0);
	return desc;
}

/* Fills the columns of a row that a snapshot's state is in. */
static void
put_stored_state(Datum *values, bool *isnull, const EsStoredState *state)
{
	es_columns_put(values, isnull, Anum_row_stored, state->json);
	es_columns_put(values, isnull, Anum_row_stored + 1, state->text);
	es_columns_put(values, isnull, Anum_row_stored + 2, state->sealed);
}

/* Takes a snapshot's state out of a row, whose it stays. */
static void
take_stored_state(const Datum *values, const bool *isnull, EsStoredState *state)
{
	state->json = isnull[Anum_row_stored - 1] ? NULL : DatumGetJsonbP(values[Anum_row_stored - 1]);
	state->text = isnull[Anum_row_stored] ? NULL : DatumGetTextPP(values[Anum_row_stored]);
	state->sealed = isnull[Anum_row_stored + 1] ? NULL : DatumGetTextPP(values[Anum_row_stored + 1]);
	state->isnull = state->json == NULL && state->text == NULL && state->sealed == NULL;
}

/* Sends the row of a stream that was folded. */
static void
send_state_row(Work *work, const EsStream *stream)
{
	EsReplay   *replay = &work->replay;
	bool		leaves = work->shared->leaves_snapshots && es_replay_leaves_snapshot(replay);
	EsStoredState nothing = {0};
	EsStoredState state = {0};
	Datum	   *v = work->row->tts_values;
	bool	   *n = work->row->tts_isnull;

	ExecClearTuple(work->row);
	es_replay_columns(replay, stream->name, v, n);
	v[Anum_row_stream_id - 1] = Int64GetDatum(stream->id);
	n[Anum_row_stream_id - 1] = false;
	if (leaves)
		es_fold_store(replay->fold, &state);
	leaves = leaves && es_state_can_keep(&state);
	v[Anum_row_leaves - 1] = BoolGetDatum(leaves);
	n[Anum_row_leaves - 1] = false;
	put_stored_state(v, n, leaves ? &state : &nothing);
	ExecStoreVirtualTuple(work->row);
	(void) work->dest->receiveSlot(work->row, work->dest);
}

/* Keeps a row for its snapshot, without what readers see of the state. */
static void
keep_due_row(Rows *result, TupleTableSlot *row)
{
	Datum		values[Natts_row];
	bool		isnull[Natts_row];

	memcpy(values, row->tts_values, sizeof(values));
	memcpy(isnull, row->tts_isnull, sizeof(isnull));
	isnull[Anum_es_state_state - 1] = true;
	tuplestore_putvalues(result->due, row->tts_tupleDescriptor, values, isnull);
}

/* Puts a row into the leader's result. */
static bool
receive_state_row(TupleTableSlot *row, DestReceiver *dest)
{
	Rows	   *result = (Rows *) dest;
	ReturnSetInfo *rsinfo = result->rsinfo;

	slot_getallattrs(row);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row->tts_values, row->tts_isnull);
	if (DatumGetBool(row->tts_values[Anum_row_leaves - 1]))
	{
		if (result->due == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);

			result->due = tuplestore_begin_heap(false, false, work_mem);
			MemoryContextSwitchTo(old);
		}
		keep_due_row(result, row);
	}
	return true;
}

/* ---- work ---- */

/* Sets a process up for work. */
static void
begin_category_work(Work *work, Shared *shared, const EsReplay *replay, const text *category)
{
	const EsReducer *reducer = es_fold_reducer(replay->fold);
	EsStreamScanOptions options = {.without_metadata = !reducer->wants_metadata,
		.snapshot = GetActiveSnapshot()
	};

	work->shared = shared;
	work->replay = *replay;
	if (!es_snapshot_exists(reducer, GetActiveSnapshot()))
		work->replay.without_snapshots = true;
	work->streams = es_streams_begin(category, GetActiveSnapshot());
	work->events = es_read_stream_begin(&options);
	work->member = AllocSetContextCreate(CurrentMemoryContext, "eventstore category member",
										 ALLOCSET_DEFAULT_SIZES);
	work->row = MakeSingleTupleTableSlot(make_state_row_desc(), &TTSOpsVirtual);
}

/* Ends a process's work. */
static void
end_category_work(Work *work)
{
	es_read_stream_end(work->events);
	es_streams_end(work->streams);
	ExecDropSingleTupleTableSlot(work->row);
	MemoryContextDelete(work->member);
}

/* Folds one stream and sends its row. */
static void
fold_category_stream(Work *work, const EsStream *stream)
{
	EsSnapshotBounds bounds = {.version = PG_INT64_MAX,.as_of = work->shared->as_of};
	MemoryContext old = MemoryContextSwitchTo(work->member);

	es_fold_reset(work->replay.fold);
	es_read_stream_take(work->events, stream);
	es_headway_reach(stream->id);
	if (es_replay_stream(&work->replay, work->events, &bounds))
		send_state_row(work, stream);
	work->folded += work->replay.folded;
	MemoryContextSwitchTo(old);
	MemoryContextReset(work->member);
}

/* Goes to the next chunk of ids that nobody has taken; false if there is none. */
static bool
take_id_chunk(Work *work)
{
	Shared	   *shared = work->shared;
	int64		first = pg_atomic_fetch_add_u64(&shared->next_id, shared->ids_a_chunk);

	if (first > shared->last_id)
		return false;
	es_streams_range(work->streams, first, Min(first + shared->ids_a_chunk - 1, shared->last_id));
	return true;
}

/* Folds what a worker gets. */
static void
fold_chunks(Work *work)
{
	const EsStream *stream;

	while (take_id_chunk(work))
		while ((stream = es_streams_next(work->streams)) != NULL)
			fold_category_stream(work, stream);
}

/* es_category_worker_main is a parallel worker of es_replay_category(). */
void
es_category_worker_main(dsm_segment *segment, shm_toc *toc)
{
	text	   *category = shm_toc_lookup(toc, KEY_CATEGORY, false);
	text	   *reducer = shm_toc_lookup(toc, KEY_REDUCER, false);
	Shared	   *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	EsFold	   *fold = es_fold_begin(reducer);
	EsNames		categories = es_names_of_one(category);
	Work		work = {0};

	work.dest = es_crew_join(segment, toc);
	/* one who finds the reducer changed meanwhile leaves the work to others */
	if (fold != NULL && memcmp(es_fold_reducer(fold)->fingerprint, shared->fingerprint, ES_FINGERPRINT_LENGTH) == 0)
	{
		EsReplay	replay;

		es_fold_take_stored(fold, &categories);
		replay = es_replay_by(fold);
		begin_category_work(&work, shared, &replay, category);
		work.dest->rStartup(work.dest, CMD_SELECT, work.row->tts_tupleDescriptor);
		fold_chunks(&work);
		end_category_work(&work);
		es_replay_end(&replay);
	}
	es_crew_leave(work.dest);
}

/* ---- the leader ---- */

/* Puts a copy of a text into shared memory. */
static void
share_text(EsCrew *crew, uint64 key, const text *value)
{
	memcpy(es_crew_share(crew, key, VARSIZE_ANY(value)), value, VARSIZE_ANY(value));
}

/* Starts workers; what they share is from then on in shared memory. */
static void
start_category_crew(EsCrew *crew, Work *work, const text *category, int nworkers)
{
	text	   *reducer = cstring_to_text(es_fold_reducer(work->replay.fold)->name);
	Shared	   *shared;

	es_crew_begin(crew, "es_category_worker_main", nworkers);
	es_crew_reserve(crew, sizeof(Shared));
	es_crew_reserve(crew, VARSIZE_ANY(category));
	es_crew_reserve(crew, VARSIZE_ANY(reducer));
	es_crew_set_up(crew);

	shared = es_crew_share(crew, KEY_SHARED, sizeof(Shared));
	*shared = *work->shared;
	memcpy(shared->fingerprint, es_fold_reducer(work->replay.fold)->fingerprint, ES_FINGERPRINT_LENGTH);
	pg_atomic_init_u64(&shared->next_id, pg_atomic_read_u64(&work->shared->next_id));
	work->shared = shared;
	share_text(crew, KEY_CATEGORY, category);
	share_text(crew, KEY_REDUCER, reducer);
	es_crew_launch(crew, work->row->tts_tupleDescriptor, work->dest);
}

/* How many workers are to help. */
static int
count_wanted_workers(const Work *work)
{
	return es_fold_reducer(work->replay.fold)->parallel_safe ? max_parallel_workers_per_gather : 0;
}

/* Folds all streams, with the help of workers if there is enough to do. */
static void
lead_crew(Work *work, const text *category)
{
	const EsStream *stream = NULL;
	EsCrew		crew = {0};
	int			nworkers = count_wanted_workers(work);

	/* ids in the order of the index, until it is worth to start workers */
	es_streams_range(work->streams, 1, work->shared->last_id);
	while ((nworkers == 0 || work->folded < FIRST_EVENTS) &&
		   (stream = es_streams_next(work->streams)) != NULL)
	{
		pg_atomic_write_u64(&work->shared->next_id, stream->id + 1);
		fold_category_stream(work, stream);
	}
	if (stream == NULL)
		return;
	work->shared->ids_a_chunk = (work->shared->last_id - stream->id) / (CHUNKS * (nworkers + 1));
	work->shared->ids_a_chunk = Min(Max(work->shared->ids_a_chunk, LEAST_IDS), MOST_IDS);
	start_category_crew(&crew, work, category, nworkers);
	while (take_id_chunk(work))
		while ((stream = es_streams_next(work->streams)) != NULL)
		{
			fold_category_stream(work, stream);
			while (es_crew_take_row(&crew))
				;
		}
	es_crew_finish(&crew);
}

/* Leaves the snapshots that are due. */
static void
leave_due_snapshots(Tuplestorestate *due, const EsReducer *reducer, TupleDesc desc)
{
	TupleTableSlot *row = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "eventstore snapshot", ALLOCSET_DEFAULT_SIZES);

	es_headway_enter(ES_PHASE_SNAPSHOTS, tuplestore_tuple_count(due));
	while (tuplestore_gettupleslot(due, true, false, row))
	{
		MemoryContext old = MemoryContextSwitchTo(one);
		EsSnapshot	snapshot = {0};
		Datum	   *v = row->tts_values;
		bool	   *n = row->tts_isnull;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		snapshot.stream_id = DatumGetInt64(v[Anum_row_stream_id - 1]);
		snapshot.version = DatumGetInt64(v[Anum_es_state_version - 1]);
		snapshot.position = DatumGetInt64(v[Anum_es_state_position - 1]);
		snapshot.recorded_at = DatumGetTimestampTz(v[Anum_es_state_recorded_at - 1]);
		take_stored_state(v, n, &snapshot.state);
		es_snapshot_write(reducer, &snapshot, false);
		es_headway_add(1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(one);
	}
	ExecDropSingleTupleTableSlot(row);
	tuplestore_end(due);
	MemoryContextDelete(one);
}

/*
 * es_replay_category(category text, reducer text, as_of timestamptz) gives a row
 * like es_replay's for each stream of the category that has an event by then, in
 * no particular order.  NULL category: 22004; NULL reducer: the one named like the
 * category.  Parallel workers help if all that the reducer calls is PARALLEL SAFE.
 * Otherwise like es_replay.
 */
Datum
es_replay_category(PG_FUNCTION_ARGS)
{
	Rows		result = {.pub = {.receiveSlot = receive_state_row}};
	Shared		alone = {.as_of = es_replay_as_of_arg(fcinfo, 2)};
	Work		work = {.dest = &result.pub};
	EsReplay	replay;
	const EsReducer *reducer;
	text	   *category;
	Snapshot	snapshot;

	es_call_require(fcinfo, 0, "category");
	category = PG_GETARG_TEXT_PP(0);
	es_names_check(category, ES_NAME_CATEGORY);
	es_right_require(ES_RIGHT_READ, category);
	replay = es_replay_begin(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1), category);
	reducer = es_fold_reducer(replay.fold);
	result.rsinfo = es_replay_begin_rows(fcinfo);
	alone.leaves_snapshots = reducer->snapshot_every > 0 && es_snapshot_may_write() &&
		es_snapshot_may_leave(reducer);
	pg_atomic_init_u64(&alone.next_id, 1);

	snapshot = es_rows_fresh_snapshot();
	PushActiveSnapshot(snapshot);
	begin_category_work(&work, &alone, &replay, category);
	alone.last_id = es_streams_last(work.streams);
	es_headway_begin(ES_COMMAND_REPLAY_CATEGORY);
	es_headway_enter(ES_PHASE_FOLDING, alone.last_id);
	if (alone.last_id > 0)
		lead_crew(&work, category);
	end_category_work(&work);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	if (result.due != NULL && es_replay_unchanged(replay.fold))
		leave_due_snapshots(result.due, reducer, make_state_row_desc());
	es_headway_end();
	es_replay_end(&replay);
	return (Datum) 0;
}
