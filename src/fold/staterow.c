/*
 * staterow.c
 *		Rows of folded streams, on their way to a result and to snapshots.
 *
 * Each process that folds a category makes rows, and those of workers come to the leader
 * through a queue.  A row has the columns of es_state, and what a snapshot of the state needs if
 * one is due.  The leader puts the row, without the latter, into the result, and what is due,
 * without what readers see of the state, into a tuplestore of the portion: snapshots are written
 * at its end, when no workers run any more.
 *
 * The result has rows of es_state, or whole ones: then what a worker has sent is copied as it is.
 */
#include "fold/staterow.h"

#include "access/htup.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "fold/fold.h"
#include "fold/snapshot.h"
#include "fold/state.h"
#include "shared/headway.h"
#include "table/columns.h"

#define ROW_BYTES		80		/* of a row in memory, besides its varlenas */

/* The columns after those of es_state. */
#define Anum_row_stream_id		6
#define Anum_row_leaves			7	/* a snapshot is due */
#define Anum_row_stored			8	/* jsonb, text, sealed: see EsStoredState */
#define Natts_row				10

/* ---- a row ---- */

/* es_staterow_desc makes the descriptor of rows, whose first columns are those of es_state. */
TupleDesc
es_staterow_desc(void)
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

/*
 * es_staterow_fill makes a virtual slot the row of the stream that was folded last, with or
 * without its state; what a snapshot needs is in it if one is due and may be left.
 */
void
es_staterow_fill(TupleTableSlot *row, EsReplay *replay, const EsStream *stream, bool with_state,
				 bool leaves_snapshots)
{
	bool		leaves = leaves_snapshots && es_replay_leaves_snapshot(replay);
	EsStoredState nothing = {0};
	EsStoredState state = {0};
	Datum	   *v = row->tts_values;
	bool	   *n = row->tts_isnull;

	ExecClearTuple(row);
	es_replay_columns(replay, stream->name, v, n, with_state);
	v[Anum_row_stream_id - 1] = Int64GetDatum(stream->id);
	n[Anum_row_stream_id - 1] = false;
	if (leaves)
		es_fold_store(replay->fold, &state);
	leaves = leaves && es_state_can_keep(&state);
	v[Anum_row_leaves - 1] = BoolGetDatum(leaves);
	n[Anum_row_leaves - 1] = false;
	put_stored_state(v, n, leaves ? &state : &nothing);
	ExecStoreVirtualTuple(row);
}

/* ---- where rows go ---- */

/* Keeps a row for its snapshot, without what readers see of the state. */
static void
keep_due_row(EsStateRows *rows, TupleTableSlot *row)
{
	Datum		values[Natts_row];
	bool		isnull[Natts_row];

	memcpy(values, row->tts_values, sizeof(values));
	memcpy(isnull, row->tts_isnull, sizeof(isnull));
	isnull[Anum_es_state_state - 1] = true;
	tuplestore_putvalues(rows->due, row->tts_tupleDescriptor, values, isnull);
}

/* How many bytes a value of a row takes, about. */
static inline Size
size_of_value(const TupleTableSlot *row, AttrNumber column)
{
	return row->tts_isnull[column - 1] ? 0 : VARSIZE_ANY(DatumGetPointer(row->tts_values[column - 1]));
}

/*
 * Puts a row into the result.  One of a worker is only copied, if whole rows will do and there is
 * nothing in it that is for a snapshot.
 */
static void
put_result_row(const EsStateRows *rows, TupleTableSlot *row, bool leaves)
{
	bool		isnull[Natts_row];

	if (rows->desc == NULL && !leaves)
	{
		tuplestore_puttupleslot(rows->result, row);
		return;
	}
	slot_getallattrs(row);
	memcpy(isnull, row->tts_isnull, sizeof(isnull));
	for (int i = Anum_row_stored; i <= Natts_row; i++)
		isnull[i - 1] = true;
	tuplestore_putvalues(rows->result, rows->desc ? rows->desc : row->tts_tupleDescriptor, row->tts_values, isnull);
}

/* Takes a row that the leader, or a worker, has made. */
static bool
receive_state_row(TupleTableSlot *row, DestReceiver *dest)
{
	EsStateRows *rows = (EsStateRows *) dest;
	bool		leaves;

	slot_getsomeattrs(row, Anum_row_leaves);
	leaves = DatumGetBool(row->tts_values[Anum_row_leaves - 1]);
	put_result_row(rows, row, leaves);
	rows->count++;
	rows->bytes += size_of_value(row, Anum_es_state_stream) + size_of_value(row, Anum_es_state_state) + ROW_BYTES;
	if (leaves)
	{
		if (rows->due == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(rows->portion);

			rows->due = tuplestore_begin_heap(false, false, work_mem);
			MemoryContextSwitchTo(old);
		}
		keep_due_row(rows, row);
	}
	return true;
}

/*
 * es_staterow_begin begins to take rows into a tuplestore, of es_state or, desc being NULL, of
 * whole rows.
 */
void
es_staterow_begin(EsStateRows *rows, Tuplestorestate *result, TupleDesc desc)
{
	rows->pub.receiveSlot = receive_state_row;
	rows->result = result;
	rows->desc = desc;
}

/* es_staterow_begin_portion begins a portion, in a memory context that is there until it ends. */
void
es_staterow_begin_portion(EsStateRows *rows)
{
	rows->portion = CurrentMemoryContext;
	rows->count = 0;
	rows->bytes = 0;
}

/* Leaves the snapshots that are due. */
static void
leave_due_snapshots(Tuplestorestate *due, const EsReducer *reducer)
{
	TupleTableSlot *row = MakeSingleTupleTableSlot(es_staterow_desc(), &TTSOpsMinimalTuple);
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
	MemoryContextDelete(one);
}

/*
 * es_staterow_end_portion ends a portion: the snapshots that are due are left, if the reducer is
 * given.
 */
void
es_staterow_end_portion(EsStateRows *rows, const EsReducer *reducer)
{
	if (rows->due && reducer)
		leave_due_snapshots(rows->due, reducer);
	if (rows->due)
		tuplestore_end(rows->due);
	rows->due = NULL;
}
