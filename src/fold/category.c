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
 * All is folded in portions, each of which begins where the one before has ended, by the
 * snapshot of the first, by which it is one moment all the same.  Between two portions no
 * table, page or lock is held that a fold needs, and no worker runs: workers that are started
 * end with their portion.  The function has portions of any size, and puts all into its
 * result.  The plan node (foldnode.c) asks for portions that fit into work_mem, as its rows are
 * taken.  If it knows that nothing is written until it ends, workers go on between its portions,
 * which are small then.
 *
 * Memory: a fold needs two states, and rows go to a tuplestore.  So the number of streams
 * does not matter.
 *
 * Nothing can be written while workers run.  States that are due for a snapshot
 * go to a second tuplestore, and the snapshots are written at the end of the portion.
 */
#include "fold/category.h"

#include "access/tupdesc.h"
#include "access/xact.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "optimizer/cost.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/call.h"
#include "base/crew.h"
#include "base/names.h"
#include "base/pending.h"
#include "base/settings.h"
#include "fold/fold.h"
#include "fold/reducer.h"
#include "fold/replay.h"
#include "fold/snapshot.h"
#include "fold/staterow.h"
#include "read/read.h"
#include "read/streams.h"
#include "rights/right.h"
#include "shared/headway.h"
#include "stream/stream.h"
#include "table/rows.h"
#include "type/handler.h"

#define FIRST_EVENTS	20000	/* folded before workers are worth it */
#define SHARES			16		/* per process, of what is left: a chunk is
								 * one */
#define END_SHARES		8		/* of what a worker does, its end takes one */
#define LEAST_IDS		16		/* in a chunk, unless their rows are large */
#define MOST_IDS		65536
#define MOST_END_IDS	8192	/* that are the leader's alone, */
#define MOST_END_EVENTS	100000	/* with so many events, about */
#define CHUNKS_A_PORTION	8	/* per process, about, if its size is bounded */

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
	int			shares;			/* of what is left, a chunk is one */
	int64		most_ids;		/* in a chunk */
	int64		leader_ids;		/* the last ones, which workers leave to it */
	TimestampTz as_of;
	bool		leaves_snapshots;
	bool		without_states; /* in rows: nobody asks for them */
	bool		on_behalf;		/* the leader runs for somebody else */
	uint8		fingerprint[ES_FINGERPRINT_LENGTH]; /* of the leader's reducer */
} Shared;

/* A process at work. */
typedef struct Work
{
	Shared	   *shared;
	bool		is_worker;		/* and not the leader */
	EsReplay	replay;
	EsCategoryScan *streams;
	EsStreamScan *events;
	MemoryContext member;		/* what one stream needs */
	DestReceiver *dest;			/* takes rows */
	TupleTableSlot *row;
	int64		folded;			/* events, in all */
	int64		sent;			/* rows, in all */
} Work;

struct EsCategoryFold
{
	MemoryContext context;
	text	   *category;
	EsReplay	replay;
	Shared		start;			/* next_id: of the next portion */
	EsCategoryMoment moment;
	EsStateRows rows;
	int64		folded;			/* events, but for those of workers */
	int64		first_id;		/* of the category's streams; 0: none yet */
	double		ids;			/* gone through from there on, also again */
	double		bytes;			/* of rows, in all */
	EsCategoryCounts counts;

	/*
	 * of the portion that is under way, or of those between which workers
	 * stay
	 */
	MemoryContext portion;		/* NULL: there is none */
	Work		work;			/* the leader's */
	bool		in_chunk;		/* of ids, which it has taken beside workers */
	EsCrew		crew;			/* context: NULL if there is none */
};

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
	work->row = MakeSingleTupleTableSlot(es_staterow_desc(), &TTSOpsVirtual);
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

/* Folds one stream and sends its row; false if nobody takes rows any more. */
static bool
fold_category_stream(Work *work, const EsStream *stream)
{
	EsSnapshotBounds bounds = {.version = PG_INT64_MAX,.as_of = work->shared->as_of};
	MemoryContext old = MemoryContextSwitchTo(work->member);
	bool		goes_on = true;

	es_fold_reset(work->replay.fold);
	es_read_stream_take(work->events, stream);
	es_headway_reach(stream->id);
	if (es_replay_stream(&work->replay, work->events, &bounds))
	{
		es_staterow_fill(work->row, &work->replay, stream, !work->shared->without_states, work->shared->leaves_snapshots);
		goes_on = work->dest->receiveSlot(work->row, work->dest);
		work->sent++;
	}
	work->folded += work->replay.folded;
	MemoryContextSwitchTo(old);
	MemoryContextReset(work->member);
	return goes_on;
}

/*
 * Goes to the next chunk of ids that nobody has taken; false if there is none.  Streams that were
 * made at one time have their events on the same pages, so chunks are large, that few pages
 * are read by two processes, and get smaller, that all end at one time.
 */
static bool
take_id_chunk(Work *work)
{
	Shared	   *shared = work->shared;
	uint64		first = pg_atomic_read_u64(&shared->next_id);
	int64		last = shared->last_id - (work->is_worker ? shared->leader_ids : 0);
	int64		left;
	int64		count;

	do
	{
		left = last - (int64) first + 1;
		if (left <= 0)
			return false;
		count = Min(Max(left / shared->shares, LEAST_IDS), shared->most_ids);
		count = Min(count, left);
	} while (!pg_atomic_compare_exchange_u64(&shared->next_id, &first, first + count));
	es_streams_range(work->streams, first, first + count - 1);
	return true;
}

/* Folds what a worker gets, as long as its rows are taken. */
static void
fold_chunks(Work *work)
{
	const EsStream *stream;

	while (take_id_chunk(work))
		while ((stream = es_streams_next(work->streams)) != NULL)
			if (!fold_category_stream(work, stream))
				return;
}

/* es_category_worker_main is a parallel worker of es_replay_category(). */
void
es_category_worker_main(dsm_segment *segment, shm_toc *toc)
{
	text	   *category = shm_toc_lookup(toc, KEY_CATEGORY, false);
	text	   *reducer = shm_toc_lookup(toc, KEY_REDUCER, false);
	Shared	   *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	EsNames		categories = es_names_of_one(category);
	Work		work = {.is_worker = true};
	EsFold	   *fold;

	if (shared->on_behalf)
		es_handler_enter_behalf(0);
	fold = es_fold_begin(reducer);
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
start_category_crew(EsCategoryFold *fold, int nworkers)
{
	EsCrew	   *crew = &fold->crew;
	Work	   *work = &fold->work;
	const text *category = fold->category;
	text	   *reducer = cstring_to_text(es_fold_reducer(work->replay.fold)->name);
	Shared	   *shared;

	es_crew_begin(crew, "es_category_worker_main", nworkers);
	es_crew_reserve(crew, sizeof(Shared));
	es_crew_reserve(crew, VARSIZE_ANY(category));
	es_crew_reserve(crew, VARSIZE_ANY(reducer));
	es_crew_set_up(crew);

	shared = es_crew_share(crew, KEY_SHARED, sizeof(Shared));
	*shared = *work->shared;
	shared->on_behalf = es_handler_on_behalf;
	memcpy(shared->fingerprint, es_fold_reducer(work->replay.fold)->fingerprint, ES_FINGERPRINT_LENGTH);
	pg_atomic_init_u64(&shared->next_id, pg_atomic_read_u64(&work->shared->next_id));
	work->shared = shared;
	share_text(crew, KEY_CATEGORY, category);
	share_text(crew, KEY_REDUCER, reducer);
	es_crew_launch(crew, work->row->tts_tupleDescriptor, work->dest);
	fold->counts.workers += crew->context->nworkers_launched;
}

/* How many workers are to help. */
static int
count_wanted_workers(const EsCategoryFold *fold)
{
	return es_fold_reducer(fold->replay.fold)->parallel_safe ? max_parallel_workers_per_gather : 0;
}

/*
 * Folds streams, in the order of the index, until the portion is full, or workers are worth it, if
 * any are to help; true if there may be more.
 */
static bool
fold_alone(EsCategoryFold *fold, const EsCategoryPortion *portion, int nworkers)
{
	Work	   *work = &fold->work;
	int64		next = pg_atomic_read_u64(&work->shared->next_id);
	const EsStream *stream;

	es_streams_range(work->streams, next, work->shared->last_id);
	while ((stream = es_streams_next(work->streams)) != NULL)
	{
		if (fold->first_id == 0)
			fold->first_id = stream->id;
		pg_atomic_write_u64(&work->shared->next_id, stream->id + 1);
		(void) fold_category_stream(work, stream);
		if (fold->rows.count >= portion->rows || fold->rows.bytes >= portion->bytes ||
			(nworkers > 0 && fold->folded + work->folded >= FIRST_EVENTS))
			return true;
	}
	return false;
}

/* How many ids each of some processes had better take at a time, at most. */
static int64
limit_chunks(const EsCategoryFold *fold, const EsCategoryPortion *portion, int nprocesses)
{
	double		ids = MOST_IDS;
	double		ids_a_share = fold->ids / (CHUNKS_A_PORTION * nprocesses);

	/* what is begun is finished, so it must be little where rows have to fit */
	if (portion->bytes_with_crew != SIZE_MAX && fold->bytes > 0)
		ids = Min(ids, portion->bytes_with_crew / fold->bytes * ids_a_share);
	/* or few are asked for */
	if (portion->rows != PG_INT64_MAX && fold->counts.rows > 0)
		ids = Min(ids, (double) portion->rows / fold->counts.rows * ids_a_share);
	return (int64) Max(ids, 1);
}

/*
 * Says how ids are to be shared out.  A worker's end, which gives back the page tables of all
 * shared memory that it has read, takes its time, and the leader has to wait for it: so the last
 * ids are folded meanwhile, by the leader.  They are few, as their streams may be the longest,
 * or all that the category has.
 */
static void
set_shares(EsCategoryFold *fold, const EsCategoryPortion *portion, int nprocesses)
{
	int64		left = fold->start.last_id - (int64) pg_atomic_read_u64(&fold->start.next_id) + 1;
	double		end_ids = Min(MOST_END_IDS, MOST_END_EVENTS * fold->ids / Max(fold->folded, 1));

	fold->start.shares = SHARES * nprocesses;
	fold->start.most_ids = portion->keeps_crew ? MOST_IDS : limit_chunks(fold, portion, nprocesses);
	end_ids = Min(end_ids, fold->start.most_ids);
	fold->start.leader_ids = (int64) Min(end_ids, left / (END_SHARES * nprocesses));
}

/* Tells whether a portion has what was asked for, where workers help. */
static bool
is_portion_full(const EsCategoryFold *fold, const EsCategoryPortion *portion)
{
	return fold->rows.count >= portion->rows || fold->rows.bytes >= portion->bytes_with_crew;
}

/* The leader's next stream beside workers; NULL: there is none, in a chunk that it may begin. */
static const EsStream *
next_beside_crew(EsCategoryFold *fold, bool may_begin)
{
	const EsStream *stream;

	for (;;)
	{
		if (fold->in_chunk && (stream = es_streams_next(fold->work.streams)) != NULL)
			return stream;
		fold->in_chunk = may_begin && take_id_chunk(&fold->work);
		if (!fold->in_chunk)
			return NULL;
	}
}

/* Folds streams beside workers; false if they are to go on with the next portion. */
static bool
fold_beside_crew(EsCategoryFold *fold, const EsCategoryPortion *portion)
{
	for (;;)
	{
		const EsStream *stream;

		/* workers may send as fast as rows are taken: it must have an end */
		while (!is_portion_full(fold, portion) && es_crew_take_row(&fold->crew))
			;
		if (portion->keeps_crew && is_portion_full(fold, portion))
			return false;
		stream = next_beside_crew(fold, !is_portion_full(fold, portion));
		if (stream)
			(void) fold_category_stream(&fold->work, stream);
		/* the last rows of workers are as many as fit into a portion, too */
		else if (!portion->keeps_crew || !es_crew_await_row(&fold->crew))
			return true;
	}
}

/*
 * Ends the work of workers, with their rows or without; true if there is more to fold.  Which
 * ids nobody has taken is found out and, in one step, made to be none.
 */
static bool
end_category_crew(EsCategoryFold *fold, bool with_rows)
{
	int64		last = fold->start.last_id;
	int64		next = pg_atomic_exchange_u64(&fold->work.shared->next_id, last + 1);

	if (with_rows)
		es_crew_finish(&fold->crew);
	else
		es_crew_dismiss(&fold->crew);
	fold->work.shared = &fold->start;
	pg_atomic_write_u64(&fold->start.next_id, next);
	return next <= last;
}

/* Folds streams with the help of workers, until the portion is full; true if there are more. */
static bool
fold_with_crew(EsCategoryFold *fold, const EsCategoryPortion *portion, int nworkers)
{
	if (fold->crew.context == NULL)
	{
		set_shares(fold, portion, nworkers + 1);
		start_category_crew(fold, nworkers);
	}
	return !fold_beside_crew(fold, portion) || end_category_crew(fold, true);
}

/* ---- a category's fold ---- */

/*
 * es_category_take_moment gives this moment.  What the statement that a fold is part of appends
 * from now on has another command id, so that no later portion sees it.
 */
EsCategoryMoment
es_category_take_moment(void)
{
	EsCategoryMoment moment;

	es_pending_flush();
	CommandCounterIncrement();
	moment.snapshot = es_rows_fresh_snapshot();
	moment.snapshot->curcid = GetCurrentCommandId(false);
	moment.owner = CurrentResourceOwner;
	return moment;
}

/* es_category_drop_moment gives a moment back, if there is one. */
void
es_category_drop_moment(EsCategoryMoment *moment)
{
	if (moment->snapshot)
		UnregisterSnapshotFromOwner(moment->snapshot, moment->owner);
	moment->snapshot = NULL;
}

/*
 * es_category_begin takes the arguments of es_replay_category and begins a fold in the
 * current memory context, whose rows are to be put into a tuplestore, of es_state or, desc being
 * NULL, of whole rows, which is emptied before each portion by whoever wants that; with states
 * or without.  A moment that was taken becomes the fold's, else it is of now.
 */
EsCategoryFold *
es_category_begin(FunctionCallInfo fcinfo, Tuplestorestate *result, TupleDesc desc, bool with_states,
				  EsCategoryMoment *moment)
{
	EsCategoryFold *fold = palloc0(sizeof(EsCategoryFold));

	es_call_require(fcinfo, 0, "category");
	fold->context = CurrentMemoryContext;
	fold->category = PG_GETARG_TEXT_PP(0);
	es_names_check(fold->category, ES_NAME_CATEGORY);
	es_right_require(ES_RIGHT_READ, fold->category);
	fold->start.as_of = es_replay_as_of_arg(fcinfo, 2);
	fold->start.without_states = !with_states;
	fold->replay = es_replay_begin(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1), fold->category);
	es_settings_leave(fold->replay.settings);
	pg_atomic_init_u64(&fold->start.next_id, 1);
	es_staterow_begin(&fold->rows, result, desc);
	fold->moment = moment->snapshot ? *moment : es_category_take_moment();
	moment->snapshot = NULL;
	return fold;
}

/*
 * Tells whether a portion leaves snapshots.  A cursor may go on in a transaction that is READ ONLY
 * by now, or for another role.
 */
static bool
leaves_snapshots(const EsReducer *reducer)
{
	return reducer->snapshot_every > 0 && es_snapshot_may_write() && es_snapshot_may_leave(reducer);
}

/* Sets up the leader's work, in a memory context of its own. */
static void
begin_portion(EsCategoryFold *fold)
{
	MemoryContext old;

	fold->portion = AllocSetContextCreate(fold->context, "eventstore category portion", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(fold->portion);
	fold->work = (Work)
	{
		.dest = &fold->rows.pub
	};
	fold->in_chunk = false;
	begin_category_work(&fold->work, &fold->start, &fold->replay, fold->category);
	if (fold->start.last_id == 0)
		fold->start.last_id = es_streams_last(fold->work.streams);
	MemoryContextSwitchTo(old);
}

/* Ends the leader's work. */
static void
end_portion_work(EsCategoryFold *fold)
{
	fold->folded += fold->work.folded;
	fold->counts.own_rows += fold->work.sent;
	end_category_work(&fold->work);
}

/* Ends a portion. */
static void
end_portion(EsCategoryFold *fold)
{
	MemoryContextDelete(fold->portion);
	fold->portion = NULL;
	fold->counts.portions++;
}

/* Folds a portion: alone at first, then with workers; true if there may be more. */
static bool
fold_portion(EsCategoryFold *fold, const EsCategoryPortion *portion)
{
	int			nworkers = count_wanted_workers(fold);

	es_headway_enter(ES_PHASE_FOLDING, fold->start.last_id);
	if (fold->start.last_id == 0)
		return false;
	return fold->crew.context != NULL || (nworkers > 0 && fold->folded >= FIRST_EVENTS) ?
		fold_with_crew(fold, portion, nworkers) : fold_alone(fold, portion, nworkers);
}

/* How many ids a portion that began at some id has gone through. */
static int64
count_ids_since(EsCategoryFold *fold, int64 first)
{
	int64		next = pg_atomic_read_u64(&fold->start.next_id);

	next = Min(next, fold->start.last_id + 1);
	return fold->first_id == 0 ? 0 : Max(next - Max(first, fold->first_id), 0);
}

/*
 * es_category_next folds a portion and puts its rows into the result; false if it was the last.
 * There may be more of them than it should have had, where workers have helped.  Who calls it
 * says when the command begins and ends whose progress es_progress shows.
 */
bool
es_category_next(EsCategoryFold *fold, const EsCategoryPortion *portion)
{
	int64		first = pg_atomic_read_u64(&fold->start.next_id);
	MemoryContext old;
	bool		more;
	bool		ended;			/* no worker is there */

	fold->start.leaves_snapshots = leaves_snapshots(es_fold_reducer(fold->replay.fold));
	fold->replay.settings = es_fold_enter_settings(fold->replay.fold);
	PushActiveSnapshot(fold->moment.snapshot);
	if (fold->portion == NULL)
		begin_portion(fold);
	old = MemoryContextSwitchTo(fold->portion);
	es_staterow_begin_portion(&fold->rows);
	more = fold_portion(fold, portion);
	ended = fold->crew.context == NULL;
	if (ended)
		end_portion_work(fold);
	PopActiveSnapshot();
	if (fold->rows.due)
		es_staterow_end_portion(&fold->rows, es_replay_unchanged(fold->replay.fold) ? es_fold_reducer(fold->replay.fold) : NULL);
	es_settings_leave(fold->replay.settings);
	MemoryContextSwitchTo(old);
	fold->counts.rows += fold->rows.count;
	fold->bytes += fold->rows.bytes;
	fold->ids += count_ids_since(fold, first);
	if (ended)
		end_portion(fold);
	return more;
}

/*
 * es_category_pause lets workers go that are there between two portions, and gives up what is left
 * to fold, until a rewind; false if there are none.
 */
bool
es_category_pause(EsCategoryFold *fold)
{
	if (fold->portion == NULL)
		return false;
	(void) end_category_crew(fold, false);
	end_portion_work(fold);
	end_portion(fold);
	return true;
}

/*
 * es_category_rewind has a fold begin again, with the same streams and events; with workers at
 * once, if they have been worth it.
 */
void
es_category_rewind(EsCategoryFold *fold)
{
	(void) es_category_pause(fold);
	pg_atomic_write_u64(&fold->start.next_id, 1);
}

/* es_category_reducer gives the reducer that a fold is by. */
const EsReducer *
es_category_reducer(const EsCategoryFold *fold)
{
	return es_fold_reducer(fold->replay.fold);
}

/* es_category_counts tells what a fold has done. */
const EsCategoryCounts *
es_category_counts(const EsCategoryFold *fold)
{
	return &fold->counts;
}

/* es_category_end ends a fold. */
void
es_category_end(EsCategoryFold *fold)
{
	(void) es_category_pause(fold);
	es_category_drop_moment(&fold->moment);
	es_fold_end(fold->replay.fold);
	pfree(fold);
}

/* es_category_is_replay tells whether a function is es_replay_category. */
bool
es_category_is_replay(Oid function)
{
	FmgrInfo	info;

	fmgr_info(function, &info);
	return info.fn_addr == es_replay_category;
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
	const EsCategoryPortion all = {.rows = PG_INT64_MAX,.bytes = SIZE_MAX,.bytes_with_crew = SIZE_MAX};
	ReturnSetInfo *result = es_replay_begin_rows(fcinfo);
	EsCategoryMoment now = {0};
	EsCategoryFold *fold = es_category_begin(fcinfo, result->setResult, result->setDesc, true, &now);

	es_headway_begin(ES_COMMAND_REPLAY_CATEGORY);
	while (es_category_next(fold, &all))
		;
	es_headway_end();
	es_category_end(fold);
	return (Datum) 0;
}
