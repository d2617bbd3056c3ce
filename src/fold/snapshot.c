/*
 * snapshot.c
 *		States that replays can go on from.
 *
 * A snapshot is the state of a stream after an event, by a reducer.  It has the
 * reducer's fingerprint, and is used only while that is the same: a change of
 * the reducer, its handlers or the upcasters leaves the old ones lying, and
 * changing back makes them usable again.  Of one stream, reducer and fingerprint
 * the newest is kept, and those that a truncation depends on.
 *
 * A replay finds snapshots with the same database snapshot as the events, so
 * both fit: who wrote a row had seen the events that it stands for, or had
 * written them itself, in the same transaction.
 *
 * Snapshots are left by replays, which wait for nobody: rows are not unique, and a
 * row that somebody else is changing is left to that one.  Only es_snapshot(),
 * which is called for the snapshot, waits.  Two first snapshots at once make two
 * rows; the next one takes the place of both.
 * Dropping them takes a lock on the table that excludes writers, and waits for
 * those there are; it also changes the fingerprint, so what a replay leaves that
 * was under way is never used.  A replay during which the reducer has changed
 * leaves none.
 *
 * A state that was made of protected data is encrypted under the keys of these
 * (fold/secrecy.c).  Once one of them is shredded it is lost, and the snapshot as good as
 * not there.
 *
 * A snapshot is for all roles, and a function may mean something else for another
 * one: the server's search_path may have "$user".  So whoever is not the store's owner
 * leaves snapshots only by reducers whose functions do not depend on that.
 */
#include "fold/snapshot.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/names.h"
#include "base/objects.h"
#include "fold/secrecy.h"
#include "json/size.h"
#include "log/durable.h"
#include "log/subscriber.h"
#include "secret/bundle.h"
#include "shared/counter.h"
#include "table/rows.h"
#include "table/table.h"

#define Anum_snapshots_stream_id	1
#define Anum_snapshots_version		2
#define Anum_snapshots_position		3
#define Anum_snapshots_recorded_at	4
#define Anum_snapshots_kept			5
#define Anum_snapshots_reducer		6
#define Anum_snapshots_fingerprint	7
#define Anum_snapshots_state		8
#define Anum_snapshots_state_text	9
#define Anum_snapshots_sealed		10
#define Natts_snapshots				10

static EsRelation snapshots_table = {"snapshots"};
static EsRelation snapshots_by_reducer = {"snapshots_by_reducer",
.index = {.keys = {Anum_snapshots_reducer, Anum_snapshots_stream_id},.columns = "reducer, stream_id"}};

static EsRelation snapshots_by_stream = {"snapshots_by_stream",
.index = {.keys = {Anum_snapshots_stream_id},.columns = "stream_id"}};

static const EsColumn columns[Natts_snapshots] = {
	{"stream_id", INT8OID}, {"version", INT8OID}, {"position", INT8OID}, {"recorded_at", TIMESTAMPTZOID},
	{"kept", BOOLOID}, {"reducer", TEXTOID}, {"fingerprint", BYTEAOID}, {"state", JSONBOID, true},
	{"state_text", TEXTOID, true}, {"sealed", TEXTOID, true}
};
const EsShape es_snapshot_shape = ES_SHAPE(&snapshots_table, &snapshots_by_reducer, columns);
const EsShape es_snapshot_stream_shape = ES_SHAPE(&snapshots_table, &snapshots_by_stream, columns);

/* Gives a look at the snapshots of a reducer, or of a stream's by it. */
static EsRows
look_at_snapshots(const char *reducer, const int64 *stream_id, LOCKMODE mode, Snapshot visible)
{
	EsRows		rows = {.shape = &es_snapshot_shape,.mode = mode,.snapshot = visible};

	es_rows_equal(&rows, CStringGetTextDatum(reducer));
	if (stream_id != NULL)
		es_rows_equal(&rows, Int64GetDatum(*stream_id));
	return rows;
}

/* The version that a snapshot is of. */
static int64
snapshot_version_of(const EsRows *row)
{
	return DatumGetInt64(row->values[Anum_snapshots_version - 1]);
}

/* Tells whether a snapshot was made by a reducer as it is now. */
static bool
is_usable_snapshot(const EsReducer *reducer, const EsRows *row)
{
	bytea	   *fingerprint = DatumGetByteaPP(row->values[Anum_snapshots_fingerprint - 1]);

	return VARSIZE_ANY_EXHDR(fingerprint) == ES_FINGERPRINT_LENGTH &&
		memcmp(VARDATA_ANY(fingerprint), reducer->fingerprint, ES_FINGERPRINT_LENGTH) == 0;
}

/* Tells whether a snapshot's state is lost: it is under a key that is shredded. */
static bool
is_lost_snapshot(const EsRows *row)
{
	return !row->isnull[Anum_snapshots_sealed - 1] &&
		!es_bundle_can_open(DatumGetTextPP(row->values[Anum_snapshots_sealed - 1]));
}

/* Takes a row apart; the state is copied. */
static void
take_snapshot_row(EsSnapshot *snapshot, const EsRows *row)
{
	snapshot->stream_id = DatumGetInt64(row->values[Anum_snapshots_stream_id - 1]);
	snapshot->version = snapshot_version_of(row);
	snapshot->position = DatumGetInt64(row->values[Anum_snapshots_position - 1]);
	snapshot->recorded_at = DatumGetTimestampTz(row->values[Anum_snapshots_recorded_at - 1]);
	memset(&snapshot->state, 0, sizeof(snapshot->state));
	snapshot->state.json = es_columns_jsonb(row->values, row->isnull, Anum_snapshots_state);
	snapshot->state.text = es_columns_text(row->values, row->isnull, Anum_snapshots_state_text);
	snapshot->state.sealed = es_columns_text(row->values, row->isnull, Anum_snapshots_sealed);
	snapshot->state.isnull = snapshot->state.json == NULL && snapshot->state.text == NULL &&
		snapshot->state.sealed == NULL;
}

/* Frees the state that take_snapshot_row has copied. */
static void
free_snapshot_state(EsSnapshot *snapshot)
{
	if (snapshot->state.json)
		pfree(snapshot->state.json);
	if (snapshot->state.text)
		pfree(snapshot->state.text);
	if (snapshot->state.sealed)
		pfree(snapshot->state.sealed);
}

/* Tells whether there is no snapshot at all. */
static bool
has_no_snapshots(void)
{
	Relation	table = es_base_open(&snapshots_table, AccessShareLock);
	bool		empty = RelationGetNumberOfBlocks(table) == 0;

	table_close(table, AccessShareLock);
	return empty;
}

/* es_snapshot_find finds the newest usable snapshot of a stream; see snapshot.h. */
bool
es_snapshot_find(const EsReducer *reducer, int64 stream_id, const EsSnapshotBounds *bounds,
				 Snapshot visible, EsSnapshot *snapshot)
{
	EsRows		rows;
	bool		found = false;

	if (has_no_snapshots())
		return false;
	rows = look_at_snapshots(reducer->name, &stream_id, AccessShareLock, visible);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		if (snapshot_version_of(&rows) > bounds->version || !is_usable_snapshot(reducer, &rows) ||
			DatumGetTimestampTz(rows.values[Anum_snapshots_recorded_at - 1]) > bounds->as_of ||
			(found && snapshot_version_of(&rows) <= snapshot->version) || is_lost_snapshot(&rows))
			continue;
		if (found)
			free_snapshot_state(snapshot);
		take_snapshot_row(snapshot, &rows);
		es_durable_note_row(rows.slot);
		found = true;
	}
	es_rows_end(&rows);
	es_counter_add(found ? ES_COUNT_SNAPSHOT_HITS : ES_COUNT_SNAPSHOT_MISSES, 1);
	return found;
}

/*
 * es_snapshot_is_lost tells whether a stream has a snapshot, by a reducer as it is now, that
 * cannot be used because a key that it is under is shredded.
 */
bool
es_snapshot_is_lost(const EsReducer *reducer, int64 stream_id, Snapshot visible)
{
	EsRows		rows = look_at_snapshots(reducer->name, &stream_id, AccessShareLock, visible);
	bool		lost = false;

	es_rows_begin(&rows);
	while (!lost && es_rows_next(&rows))
		lost = is_usable_snapshot(reducer, &rows) && is_lost_snapshot(&rows);
	es_rows_end(&rows);
	return lost;
}

/*
 * es_snapshot_exists tells whether there are snapshots of any stream by a reducer,
 * usable or not.
 */
bool
es_snapshot_exists(const EsReducer *reducer, Snapshot visible)
{
	EsRows		rows = look_at_snapshots(reducer->name, NULL, AccessShareLock, visible);
	bool		found;

	es_rows_begin(&rows);
	found = es_rows_next(&rows);
	es_rows_end(&rows);
	return found;
}

/* es_snapshot_may_write tells whether this transaction may leave snapshots. */
bool
es_snapshot_may_write(void)
{
	return !RecoveryInProgress() && !XactReadOnly && !IsInParallelMode() && !es_subscriber_is();
}

/* Makes a snapshot's row the first one for writing. */
static void
fill_snapshot_slot(EsTable *table, const EsReducer *reducer, const EsSnapshot *snapshot, bool kept)
{
	TupleTableSlot *slot = es_table_slot(table, 0);
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;
	bytea	   *fingerprint = palloc(VARHDRSZ + ES_FINGERPRINT_LENGTH);

	memset(isnull, false, sizeof(bool) * Natts_snapshots);
	SET_VARSIZE(fingerprint, VARHDRSZ + ES_FINGERPRINT_LENGTH);
	memcpy(VARDATA(fingerprint), reducer->fingerprint, ES_FINGERPRINT_LENGTH);
	values[Anum_snapshots_stream_id - 1] = Int64GetDatum(snapshot->stream_id);
	values[Anum_snapshots_version - 1] = Int64GetDatum(snapshot->version);
	values[Anum_snapshots_position - 1] = Int64GetDatum(snapshot->position);
	values[Anum_snapshots_recorded_at - 1] = TimestampTzGetDatum(snapshot->recorded_at);
	values[Anum_snapshots_kept - 1] = BoolGetDatum(kept);
	values[Anum_snapshots_reducer - 1] = CStringGetTextDatum(reducer->name);
	values[Anum_snapshots_fingerprint - 1] = PointerGetDatum(fingerprint);
	es_columns_put(values, isnull, Anum_snapshots_state, snapshot->state.json);
	es_columns_put(values, isnull, Anum_snapshots_state_text, snapshot->state.text);
	es_columns_put(values, isnull, Anum_snapshots_sealed, snapshot->state.sealed);
	ExecStoreVirtualTuple(slot);
}

/*
 * Locks a row that is to be changed; false if somebody else has changed it, or,
 * without waiting, is about to.
 */
static bool
lock_snapshot_row(Relation table, ItemPointer tid, Snapshot visible, bool wait)
{
	TupleTableSlot *slot = table_slot_create(table, NULL);
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(table, tid, visible, slot, GetCurrentCommandId(true),
										  LockTupleExclusive, wait ? LockWaitBlock : LockWaitSkip,
										  0, &failure);

	ExecDropSingleTupleTableSlot(slot);
	return result == TM_Ok;
}

/*
 * Finds the snapshots of a stream that a new one makes useless, in a list of places,
 * which are good as long as the table stays locked; false if there is a newer one.
 */
static bool
find_older_snapshots(const EsReducer *reducer, const EsSnapshot *snapshot, Snapshot visible, List **older)
{
	EsRows		rows = look_at_snapshots(reducer->name, &snapshot->stream_id, RowExclusiveLock, visible);
	bool		newest = true;

	*older = NIL;
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		ItemPointer tid;

		if (!is_usable_snapshot(reducer, &rows))
			continue;
		newest = newest && (snapshot_version_of(&rows) < snapshot->version || is_lost_snapshot(&rows));
		if (DatumGetBool(rows.values[Anum_snapshots_kept - 1]))
			continue;
		tid = palloc(sizeof(ItemPointerData));
		*tid = rows.slot->tts_tid;
		*older = lappend(*older, tid);
	}
	es_rows_end(&rows);
	return newest;
}

/*
 * Puts a snapshot in the place of those that it makes useless.  Of two such rows
 * one is changed and the other goes.  False if it has waited for somebody who has
 * changed a row: then all may look different.
 */
static bool
put_snapshot_row(EsTable *table, const EsReducer *reducer, const EsSnapshot *snapshot, Snapshot visible, bool wait)
{
	List	   *older;
	bool		written = false;
	ListCell   *cell;

	if (!find_older_snapshots(reducer, snapshot, visible, &older))
		return true;
	foreach(cell, older)
	{
		ItemPointer tid = lfirst(cell);

		if (!lock_snapshot_row(table->rel, tid, visible, wait))
		{
			if (wait)
				return false;
			written = true;		/* by who is changing that row */
		}
		else if (written)
			es_table_delete(table->rel, tid);
		else
		{
			fill_snapshot_slot(table, reducer, snapshot, false);
			es_table_update(table, tid);
			written = true;
		}
	}
	if (!written)
	{
		fill_snapshot_slot(table, reducer, snapshot, false);
		es_table_insert(table, 1);
	}
	return true;
}

/*
 * es_snapshot_may_leave tells whether the current user may leave snapshots for
 * others, by a reducer.
 */
bool
es_snapshot_may_leave(const EsReducer *reducer)
{
	return reducer->self_contained || es_base_owns_store(GetUserId());
}

/* Raises 54000 for a state that cannot be kept. */
ES_NORETURN static void
report_state_size(const EsReducer *reducer, const EsStoredState *state)
{
	if (state->too_many)
		es_secrecy_report_subjects(reducer->name);
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("the state is too large or nested too deeply for a snapshot"),
			es_jsonsize_errdetail());
}

/*
 * es_snapshot_write leaves a snapshot.  If the table is locked, to drop some, or
 * somebody else is leaving one, it leaves none, or waits if told to.  Of a state
 * that is too large it leaves none, or raises 54000 if told to wait.
 */
void
es_snapshot_write(const EsReducer *reducer, const EsSnapshot *snapshot, bool wait)
{
	EsTable		table;
	bool		written;

	if (!es_state_can_keep(&snapshot->state))
	{
		if (!wait)
			return;
		report_state_size(reducer, &snapshot->state);
	}
	if (wait)
		es_base_lock(&snapshots_table, RowExclusiveLock);
	else if (!es_base_try_lock(&snapshots_table, RowExclusiveLock))
		return;
	es_table_open(&table, &es_snapshot_shape);
	do
	{
		Snapshot	visible;

		CHECK_FOR_INTERRUPTS();
		visible = es_rows_fresh_snapshot();
		written = put_snapshot_row(&table, reducer, snapshot, visible, wait);
		UnregisterSnapshot(visible);
		CommandCounterIncrement();
	} while (!written);
	es_table_close(&table);
}

/* ---- what truncations depend on ---- */

/* Gives a look at the snapshots of a stream by all reducers. */
static EsRows
look_at_stream_snapshots(int64 stream_id, LOCKMODE mode, Snapshot visible)
{
	EsRows		rows = {.shape = &es_snapshot_stream_shape,.mode = mode,.snapshot = visible};

	es_rows_equal(&rows, Int64GetDatum(stream_id));
	return rows;
}

/* Tells whether a list has a name. */
static bool
list_has_name(const List *names, const text *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (es_names_same(lfirst(cell), name))
		return true;
	return false;
}

/*
 * es_snapshot_reducers adds the reducers by which a stream has snapshots, usable or not,
 * to a list of names, as text, each of them once.
 */
List *
es_snapshot_reducers(int64 stream_id, List *names)
{
	Snapshot	visible;
	EsRows		rows;

	if (has_no_snapshots())
		return names;
	visible = es_rows_fresh_snapshot();
	rows = look_at_stream_snapshots(stream_id, AccessShareLock, visible);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		text	   *name = DatumGetTextPP(rows.values[Anum_snapshots_reducer - 1]);

		if (!list_has_name(names, name))
			names = lappend(names, es_columns_text(rows.values, rows.isnull, Anum_snapshots_reducer));
	}
	es_rows_end(&rows);
	UnregisterSnapshot(visible);
	return names;
}

/*
 * Finds the row of a snapshot that is usable: *kept tells whether it is one that stays,
 * else its place is good as long as the table stays locked; an invalid one if there is none.
 */
static ItemPointerData
find_same_snapshot(const EsReducer *reducer, const EsSnapshot *snapshot, Snapshot visible, bool *kept)
{
	EsRows		rows = look_at_snapshots(reducer->name, &snapshot->stream_id, RowExclusiveLock, visible);
	ItemPointerData tid;

	*kept = false;
	ItemPointerSetInvalid(&tid);
	es_rows_begin(&rows);
	while (!*kept && es_rows_next(&rows))
	{
		if (snapshot_version_of(&rows) != snapshot->version || !is_usable_snapshot(reducer, &rows))
			continue;
		*kept = DatumGetBool(rows.values[Anum_snapshots_kept - 1]);
		tid = rows.slot->tts_tid;
	}
	es_rows_end(&rows);
	return tid;
}

/*
 * es_snapshot_begin_keep has those wait who would drop snapshots by reducer, or make them those
 * of a reducer that was changed, until the transaction ends.  For one that does so already it
 * waits if told to; else false tells so.  Who is to keep snapshots, or to drop a stream's,
 * calls it before changing a stream's row: it is appended to by those who are waited for.
 */
bool
es_snapshot_begin_keep(bool wait)
{
	if (!wait)
		return es_base_try_lock(&snapshots_table, RowExclusiveLock);
	es_base_lock(&snapshots_table, RowExclusiveLock);
	return true;
}

/*
 * es_snapshot_keep leaves a snapshot that stays when a newer one is made, whoever is about
 * to leave others, after es_snapshot_begin_keep.  A state that is too large is 54000.
 */
void
es_snapshot_keep(const EsReducer *reducer, const EsSnapshot *snapshot)
{
	EsTable		table;
	Snapshot	visible;
	ItemPointerData tid;
	bool		kept;

	if (!es_state_can_keep(&snapshot->state))
		report_state_size(reducer, &snapshot->state);
	CommandCounterIncrement();	/* this command may have left one */
	visible = es_rows_fresh_snapshot();
	tid = find_same_snapshot(reducer, snapshot, visible, &kept);
	if (!kept)
	{
		es_table_open(&table, &es_snapshot_shape);
		fill_snapshot_slot(&table, reducer, snapshot, true);
		if (ItemPointerIsValid(&tid) && lock_snapshot_row(table.rel, &tid, visible, false))
			es_table_update(&table, &tid);
		else
			es_table_insert(&table, 1);
		es_table_close(&table);
	}
	UnregisterSnapshot(visible);
	CommandCounterIncrement();
}

/*
 * es_snapshot_drop_older drops the snapshots of a stream, by all reducers, of versions
 * below one, after es_snapshot_begin_keep; what somebody else is changing stays.
 */
void
es_snapshot_drop_older(int64 stream_id, int64 version)
{
	Snapshot	visible;
	EsRows		rows;

	if (has_no_snapshots())
		return;
	CommandCounterIncrement();
	visible = es_rows_fresh_snapshot();
	rows = look_at_stream_snapshots(stream_id, RowExclusiveLock, visible);
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		ItemPointerData tid = rows.slot->tts_tid;

		if (snapshot_version_of(&rows) < version && lock_snapshot_row(rows.rel, &tid, visible, false))
			es_table_delete(rows.rel, &tid);
	}
	es_rows_end(&rows);
	UnregisterSnapshot(visible);
	CommandCounterIncrement();
}

/*
 * es_snapshot_adopt makes the snapshots that truncations depend on, of a reducer as it was,
 * those of the reducer as it is now, unless the caller's check raises; returns how many.
 * Waits for who is changing one.
 */
int64
es_snapshot_adopt(const EsReducer *reducer, void (*check) (const EsStoredState *state, void *arg), void *arg)
{
	EsRows		rows = look_at_snapshots(reducer->name, NULL, ShareRowExclusiveLock, NULL);
	MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "eventstore snapshot", ALLOCSET_DEFAULT_SIZES);
	int64		count = 0;

	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		MemoryContext old = MemoryContextSwitchTo(one);
		EsSnapshot	snapshot;
		EsTable		table;

		CHECK_FOR_INTERRUPTS();
		if (DatumGetBool(rows.values[Anum_snapshots_kept - 1]) && !is_usable_snapshot(reducer, &rows))
		{
			take_snapshot_row(&snapshot, &rows);
			check(&snapshot.state, arg);
			es_table_begin(&table, rows.rel, &es_snapshot_shape);
			fill_snapshot_slot(&table, reducer, &snapshot, true);
			es_table_update(&table, &rows.slot->tts_tid);
			es_table_end(&table);
			count++;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(one);
	}
	es_rows_end(&rows);
	MemoryContextDelete(one);
	CommandCounterIncrement();
	return count;
}

/*
 * es_snapshot_drop drops the snapshots of a reducer, or those that no truncation depends
 * on; waits for those who have written some.
 */
void
es_snapshot_drop(const text *reducer, bool also_kept)
{
	EsRows		rows = {.shape = &es_snapshot_shape,.mode = ShareRowExclusiveLock,.fresh = true};

	CommandCounterIncrement();
	es_rows_equal(&rows, PointerGetDatum(reducer));
	es_rows_begin(&rows);
	while (es_rows_next(&rows))
	{
		CHECK_FOR_INTERRUPTS();
		if (also_kept || !DatumGetBool(rows.values[Anum_snapshots_kept - 1]))
			es_rows_delete(&rows);
	}
	es_rows_end(&rows);
	CommandCounterIncrement();
}
