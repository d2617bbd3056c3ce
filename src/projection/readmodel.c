/*
 * readmodel.c
 *		The states that projections with a reducer keep, by key.
 *
 * Rows are written past the executor (table/table.c).
 *
 * Who has a generation to himself, being the only one to move its checkpoint,
 * reads with a fresh snapshot; new rows are kept until there are many, and written
 * at once.
 *
 * Transactions that share a generation are those that append, for an inline
 * projection.  They go on from the newest row, committed or their own, whatever
 * the isolation level, and wait for the transaction of a newer one, as an append
 * does for the tip of a stream.  Rows are changed and made under a short lock on a
 * hash of the key, an object lock of class eventstore.projection_states that is
 * given back at once: what guards the row after that is its being uncommitted.  So
 * nobody meets a unique violation, and a transaction may change any number of
 * keys.  Between looking at a row and changing it nothing is locked; if somebody
 * was faster, the caller begins anew.
 */
#include "projection/readmodel.h"

#include "access/relscan.h"
#include "access/sdir.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "rights/right.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "base/call.h"
#include "base/names.h"
#include "base/objects.h"
#include "fold/secrecy.h"
#include "log/subscriber.h"
#include "projection/progress.h"
#include "projection/projection.h"
#include "secret/protection.h"
#include "segment/statetable.h"
#include "table/columns.h"
#include "table/rows.h"

/* New rows that are kept, at most. */
#define MOST_ADDED				500
#define MOST_ADDED_BYTES		(4 * 1024 * 1024)

PG_FUNCTION_INFO_V1(es_projection);

/*
 * es_readmodel_open opens the states of a generation.  What it allocates is in the
 * current memory context.
 */
void
es_readmodel_open(EsReadModel *model, int64 id, int64 generation, bool exclusive)
{
	const EsShape *shape = es_statetable_of(id);

	memset(model, 0, sizeof(*model));
	model->projection_id = id;
	model->generation = generation;
	model->context = CurrentMemoryContext;
	es_table_open(&model->table, shape);
	InitDirtySnapshot(model->dirty);
	if (exclusive)
		model->snapshot = es_rows_fresh_snapshot();
	model->scan = es_index_beginscan(model->table.rel,
									 es_table_known_index(&model->table, shape->key),
									 exclusive ? model->snapshot : &model->dirty, 3);
	ScanKeyInit(&model->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	ScanKeyInit(&model->keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(generation));
}

/* es_readmodel_close writes what is not yet written, and closes. */
void
es_readmodel_close(EsReadModel *model)
{
	es_readmodel_flush(model);
	index_endscan(model->scan);
	if (model->snapshot)
		UnregisterSnapshot(model->snapshot);
	es_table_close(&model->table);
}

/* ---- reading ---- */

/* Takes the columns of a row, in the current memory context. */
static void
take_key_state_row(TupleTableSlot *slot, EsKeyState *state)
{
	Datum	   *v = slot->tts_values;

	slot_getsomeattrs(slot, Natts_es_states);
	state->version = DatumGetInt64(v[Anum_es_states_version - 1]);
	state->position = DatumGetInt64(v[Anum_es_states_position - 1]);
	state->state = es_columns_jsonb(v, slot->tts_isnull, Anum_es_states_state);
	state->state_text = es_columns_text(v, slot->tts_isnull, Anum_es_states_state_text);
	state->sealed = es_columns_text(v, slot->tts_isnull, Anum_es_states_sealed);
	state->tid = slot->tts_tid;
}

/*
 * es_readmodel_find reads the row of state->key, in the current memory context;
 * tells whether there is one.
 */
bool
es_readmodel_find(EsReadModel *model, EsKeyState *state)
{
	TupleTableSlot *slot = model->table.info->scan_slot;
	MemoryContext old;

	/* a scan keeps what it allocates */
	old = MemoryContextSwitchTo(model->context);
	ScanKeyInit(&model->keys[2], 3, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(state->key));
	index_rescan(model->scan, model->keys, 3, NULL, 0);
	state->exists = index_getnext_slot(model->scan, ForwardScanDirection, slot);
	MemoryContextSwitchTo(old);
	if (state->exists)
		take_key_state_row(slot, state);
	else
	{
		state->version = state->position = 0;
		state->state = NULL;
		state->state_text = NULL;
		state->sealed = NULL;
	}
	ExecClearTuple(slot);
	return state->exists;
}

/*
 * es_readmodel_find_newest reads the newest row of state->key, after waiting for
 * the transaction that is about to make or change it.
 */
void
es_readmodel_find_newest(EsReadModel *model, EsKeyState *state)
{
	for (;;)
	{
		TransactionId in_progress;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(model->dirty);
		in_progress = es_readmodel_find(model, state) ? es_rows_met_in_progress(&model->dirty) :
			InvalidTransactionId;
		if (!TransactionIdIsValid(in_progress))
			return;
		XactLockTableWait(in_progress, NULL, NULL, XLTW_None);
	}
}

/* ---- writing ---- */

/* Fills the n-th slot for writing with a row. */
static void
fill_key_state_slot(EsReadModel *model, int n, const EsKeyState *state)
{
	TupleTableSlot *slot = es_table_slot(&model->table, n);
	Datum	   *v = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	memset(isnull, false, sizeof(bool) * Natts_es_states);
	v[Anum_es_states_id - 1] = Int64GetDatum(model->projection_id);
	v[Anum_es_states_generation - 1] = Int64GetDatum(model->generation);
	v[Anum_es_states_version - 1] = Int64GetDatum(state->version);
	v[Anum_es_states_position - 1] = Int64GetDatum(state->position);
	v[Anum_es_states_key - 1] = PointerGetDatum(state->key);
	es_columns_put(v, isnull, Anum_es_states_state, state->state);
	es_columns_put(v, isnull, Anum_es_states_state_text, state->state_text);
	es_columns_put(v, isnull, Anum_es_states_sealed, state->sealed);
	ExecStoreVirtualTuple(slot);
}

/* es_readmodel_flush writes the rows that were added. */
void
es_readmodel_flush(EsReadModel *model)
{
	for (int i = 0; i < model->nadded; i++)
		fill_key_state_slot(model, i, &model->added[i]);
	if (model->nadded > 0)
		es_table_insert(&model->table, model->nadded);
	model->nadded = 0;
	model->added_bytes = 0;
}

/* Writes the row of a key that has one, or takes it away. */
static void
change_key_state(EsReadModel *model, EsKeyState *state)
{
	if (state->gone)
	{
		es_table_delete(model->table.rel, &state->tid);
		return;
	}
	fill_key_state_slot(model, 0, state);
	es_table_update(&model->table, &state->tid);
}

/*
 * es_readmodel_put writes the row of a key, once in the life of an open model.  A
 * row that does not exist yet has to stay where it is in memory until the model is
 * flushed or closed.
 */
void
es_readmodel_put(EsReadModel *model, EsKeyState *state)
{
	if (state->exists)
		change_key_state(model, state);
	if (state->exists || state->gone)
		return;
	if (model->added == NULL)
		model->added = palloc(sizeof(EsKeyState) * MOST_ADDED);
	model->added[model->nadded++] = *state;
	model->added_bytes += state->state ? VARSIZE(state->state) : 0;
	model->added_bytes += state->state_text ? VARSIZE(state->state_text) : 0;
	model->added_bytes += state->sealed ? VARSIZE(state->sealed) : 0;
	if (model->nadded == MOST_ADDED || model->added_bytes >= MOST_ADDED_BYTES)
		es_readmodel_flush(model);
}

/* The short lock on a key. */
static LOCKTAG
make_key_tag(const EsReadModel *model, const text *key)
{
	return es_base_tag(model->table.info->shape->table, es_names_hash(key), 1);
}

/* Tells whether a slot has the row of a key in one version. */
static bool
is_row_of_version(const EsReadModel *model, TupleTableSlot *slot, const text *key, int64 version)
{
	slot_getsomeattrs(slot, Natts_es_states);
	return DatumGetInt64(slot->tts_values[Anum_es_states_version - 1]) == version &&
		DatumGetInt64(slot->tts_values[Anum_es_states_id - 1]) == model->projection_id &&
		DatumGetInt64(slot->tts_values[Anum_es_states_generation - 1]) == model->generation &&
		es_names_same(DatumGetTextPP(slot->tts_values[Anum_es_states_key - 1]), key);
}

/*
 * Tells, under the short lock, whether the row of a key is still the one that was
 * read, in version before; 0: whether there still is none.  Another row may have
 * taken its place in the page.
 */
static bool
is_key_state_newest(EsReadModel *model, const EsKeyState *state, int64 before)
{
	TupleTableSlot *slot = model->table.info->scan_slot;
	EsKeyState	now = {.key = state->key};
	ItemPointerData tid = state->tid;
	bool		same;

	if (before == 0)
		return !es_readmodel_find(model, &now);
	same = table_tuple_fetch_row_version(model->table.rel, &tid, &model->dirty, slot) &&
		is_row_of_version(model, slot, state->key, before);
	ExecClearTuple(slot);
	return same && !TransactionIdIsValid(es_rows_met_in_progress(&model->dirty));
}

/*
 * es_readmodel_replace writes the row of a key that es_readmodel_find_newest has
 * read in version before, 0 if there was none; false, with nothing written, if it is
 * not the newest any more.
 */
bool
es_readmodel_replace(EsReadModel *model, EsKeyState *state, int64 before)
{
	LOCKTAG		tag = make_key_tag(model, state->key);
	bool		good;

	CommandCounterIncrement();	/* this command may have written it before */
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	good = is_key_state_newest(model, state, before);
	if (good && before > 0)
		change_key_state(model, state);
	else if (good && !state->gone)
	{
		fill_key_state_slot(model, 0, state);
		es_table_insert(&model->table, 1);
	}
	(void) LockRelease(&tag, ExclusiveLock, false);
	return good;
}

/* Deletes states that a look finds, at most so many; tells whether there are no more. */
static bool
delete_key_states(EsRows *rows, int64 most)
{
	bool		more = true;

	CommandCounterIncrement();	/* this command may have written some */
	rows->fresh = true;
	es_rows_begin(rows);
	while (most-- > 0 && (more = es_rows_next(rows)))
	{
		CHECK_FOR_INTERRUPTS();
		es_rows_delete(rows);
	}
	es_rows_end(rows);
	CommandCounterIncrement();
	return !more;
}

/* es_readmodel_drop deletes the states of a generation, or of all (0). */
void
es_readmodel_drop(int64 id, int64 generation)
{
	EsRows		rows = {.shape = es_statetable_of(id),.mode = RowExclusiveLock};

	es_rows_equal(&rows, Int64GetDatum(id));
	if (generation != 0)
		es_rows_equal(&rows, Int64GetDatum(generation));
	(void) delete_key_states(&rows, PG_INT64_MAX);
}

/*
 * es_readmodel_sweep deletes states of the generations before one, at most so many;
 * tells whether there are no more.
 */
bool
es_readmodel_sweep(int64 id, int64 before, int most)
{
	EsRows		rows = {.shape = es_statetable_of(id),.mode = RowExclusiveLock};

	es_rows_equal(&rows, Int64GetDatum(id));
	es_rows_between(&rows, 0, before - 1);
	return delete_key_states(&rows, most);
}

/* ---- SQL ---- */

/*
 * es_readmodel_get_locked gives a projection that keeps states, whose table is then
 * locked for reading; VE004 if there is none of that name, 42501 if the current user has
 * none of some rights on what it is made of, 55000 if it has a handler.
 */
const EsProjection *
es_readmodel_get_locked(const text *name, int rights)
{
	const EsProjection *projection;

	do
	{
		projection = es_projection_get(name);
		es_projection_require(projection, rights);
		if (projection->reducer == NULL)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("projection \"%s\" keeps no states", text_to_cstring(name)),
					errdetail("Its handler writes tables of its own."));
	} while (!es_statetable_lock(projection->id, AccessShareLock) && es_projection_get(name)->id != projection->id);
	return projection;
}

/* Returns the rows that a look gives. */
static void
return_key_states(ReturnSetInfo *result, EsRows *rows, const EsProjection *projection)
{
	MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "eventstore projection state",
											  ALLOCSET_DEFAULT_SIZES);

	while (es_rows_next(rows))
	{
		Datum		out[4];
		bool		isnull[4] = {false};
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		out[0] = rows->values[Anum_es_states_key - 1];
		out[1] = rows->values[Anum_es_states_version - 1];
		out[2] = rows->values[Anum_es_states_position - 1];
		old = MemoryContextSwitchTo(one);
		out[3] = rows->values[Anum_es_states_state - 1];
		isnull[3] = rows->isnull[Anum_es_states_state - 1];
		if (es_protection_any())
			out[3] = es_secrecy_read(es_columns_jsonb(rows->values, rows->isnull, Anum_es_states_state),
									 es_columns_text(rows->values, rows->isnull, Anum_es_states_sealed),
									 &projection->categories, &isnull[3]);
		tuplestore_putvalues(result->setResult, result->setDesc, out, isnull);
		MemoryContextSwitchTo(old);
		MemoryContextReset(one);
	}
	MemoryContextDelete(one);
}

/*
 * es_projection(projection, key): the states that a projection keeps, in order of
 * key; NULL key: all.
 *
 * As the statement's snapshot sees them, all of one generation.  Unknown
 * projection: VE004; without 'read' on its categories: 42501; one with a handler: 55000.
 */
Datum
es_projection(PG_FUNCTION_ARGS)
{
	const EsProjection *projection;
	Snapshot	snapshot = GetActiveSnapshot();
	ReturnSetInfo *result = es_call_begin_rows(fcinfo);
	EsRows		rows = {.mode = AccessShareLock,.snapshot = snapshot};

	es_subscriber_refuse_part();
	projection = es_readmodel_get_locked(es_projection_name_arg(fcinfo, 0), ES_RIGHT_READ);
	rows.shape = es_statetable_of(projection->id);
	es_rows_equal(&rows, Int64GetDatum(projection->id));
	es_rows_equal(&rows, Int64GetDatum(es_progress_live_generation(projection->id, snapshot)));
	if (!PG_ARGISNULL(1))
		es_rows_equal(&rows, PG_GETARG_DATUM(1));
	es_rows_begin(&rows);
	return_key_states(result, &rows, projection);
	es_rows_end(&rows);
	return (Datum) 0;
}
