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
 * Snapshots are left by replays, so nobody waits for anybody: rows are not
 * unique, and a row that somebody else is changing is left to that one.  Two
 * first snapshots at once make two rows; the next one takes the place of both.
 * Dropping them takes a lock on the table that excludes writers, and waits for
 * those there are; it also changes the fingerprint, so what a replay leaves that
 * was under way is never used.  A replay during which the reducer has changed
 * leaves none.
 *
 * A snapshot is for all roles, and a function may mean something else for another
 * one: the server's search_path may have "$user".  So whoever is not the store's owner
 * leaves snapshots only by reducers whose functions do not depend on that.
 */
#include "snapshot.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "segment.h"
#include "settle.h"

#define Anum_snapshots_stream_id	1
#define Anum_snapshots_version		2
#define Anum_snapshots_position		3
#define Anum_snapshots_recorded_at	4
#define Anum_snapshots_kept			5
#define Anum_snapshots_reducer		6
#define Anum_snapshots_fingerprint	7
#define Anum_snapshots_state		8
#define Anum_snapshots_state_text	9
#define Natts_snapshots				9

/* Begins a scan of the snapshots of a reducer, or of a stream's by it. */
static SysScanDesc
begin_scan(Relation table, const char *reducer, const int64 *stream_id, Snapshot visible)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_snapshots_reducer, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(reducer));
	if (stream_id != NULL)
		ScanKeyInit(&keys[1], Anum_snapshots_stream_id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(*stream_id));
	return systable_beginscan(table, es_base_relation("snapshots_by_reducer"), true, visible,
							  stream_id != NULL ? 2 : 1, keys);
}

/* Gives a column that is never NULL. */
static Datum
column(HeapTuple row, int number, TupleDesc desc)
{
	bool		isnull;

	return heap_getattr(row, number, desc, &isnull);
}

/* Tells whether a snapshot was made by a reducer as it is now. */
static bool
is_usable(const EsReducer *reducer, HeapTuple row, TupleDesc desc)
{
	bytea	   *fingerprint = DatumGetByteaPP(column(row, Anum_snapshots_fingerprint, desc));

	return VARSIZE_ANY_EXHDR(fingerprint) == ES_FINGERPRINT_LENGTH &&
		memcmp(VARDATA_ANY(fingerprint), reducer->fingerprint, ES_FINGERPRINT_LENGTH) == 0;
}

/* Takes a row apart; the state is copied. */
static void
take_row(EsSnapshot *snapshot, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

	snapshot->stream_id = DatumGetInt64(column(row, Anum_snapshots_stream_id, desc));
	snapshot->version = DatumGetInt64(column(row, Anum_snapshots_version, desc));
	snapshot->position = DatumGetInt64(column(row, Anum_snapshots_position, desc));
	snapshot->recorded_at = DatumGetTimestampTz(column(row, Anum_snapshots_recorded_at, desc));
	memset(&snapshot->state, 0, sizeof(EsStoredState));
	value = heap_getattr(row, Anum_snapshots_state, desc, &isnull);
	if (!isnull)
		snapshot->state.json = DatumGetJsonbPCopy(value);
	value = heap_getattr(row, Anum_snapshots_state_text, desc, &isnull);
	if (!isnull)
		snapshot->state.text = DatumGetTextPCopy(value);
	snapshot->state.isnull = snapshot->state.json == NULL && snapshot->state.text == NULL;
}

/* es_snapshot_find finds the newest usable snapshot of a stream; see snapshot.h. */
bool
es_snapshot_find(const EsReducer *reducer, int64 stream_id, const EsSnapshotBounds *bounds,
				 Snapshot visible, EsSnapshot *snapshot)
{
	Relation	table = table_open(es_base_relation("snapshots"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(table);
	HeapTuple	newest = NULL;
	HeapTuple	row;
	SysScanDesc scan;

	if (RelationGetNumberOfBlocks(table) == 0)
	{
		table_close(table, AccessShareLock);
		return false;
	}
	scan = begin_scan(table, reducer->name, &stream_id, visible);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		int64		version = DatumGetInt64(column(row, Anum_snapshots_version, desc));

		if (version <= bounds->version && is_usable(reducer, row, desc) &&
			DatumGetTimestampTz(column(row, Anum_snapshots_recorded_at, desc)) <= bounds->as_of &&
			(newest == NULL || version > DatumGetInt64(column(newest, Anum_snapshots_version, desc))))
			newest = heap_copytuple(row);
	}
	if (newest != NULL)
	{
		es_settle_note_writer(HeapTupleHeaderGetXmin(newest->t_data));
		take_row(snapshot, newest, desc);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return newest != NULL;
}

/* es_snapshot_exists tells whether there are snapshots of any stream by a reducer, usable or not. */
bool
es_snapshot_exists(const EsReducer *reducer, Snapshot visible)
{
	Relation	table = table_open(es_base_relation("snapshots"), AccessShareLock);
	SysScanDesc scan = begin_scan(table, reducer->name, NULL, visible);
	bool		found = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return found;
}

/* es_snapshot_may_write tells whether this transaction may leave snapshots. */
bool
es_snapshot_may_write(void)
{
	return !RecoveryInProgress() && !XactReadOnly && !IsInParallelMode();
}

/* Makes a snapshot's row. */
static HeapTuple
form_row(Relation table, const EsReducer *reducer, const EsSnapshot *snapshot)
{
	Datum		values[Natts_snapshots];
	bool		isnull[Natts_snapshots] = {false};
	bytea	   *fingerprint = palloc(VARHDRSZ + ES_FINGERPRINT_LENGTH);

	SET_VARSIZE(fingerprint, VARHDRSZ + ES_FINGERPRINT_LENGTH);
	memcpy(VARDATA(fingerprint), reducer->fingerprint, ES_FINGERPRINT_LENGTH);
	values[Anum_snapshots_stream_id - 1] = Int64GetDatum(snapshot->stream_id);
	values[Anum_snapshots_version - 1] = Int64GetDatum(snapshot->version);
	values[Anum_snapshots_position - 1] = Int64GetDatum(snapshot->position);
	values[Anum_snapshots_recorded_at - 1] = TimestampTzGetDatum(snapshot->recorded_at);
	values[Anum_snapshots_kept - 1] = BoolGetDatum(false);
	values[Anum_snapshots_reducer - 1] = CStringGetTextDatum(reducer->name);
	values[Anum_snapshots_fingerprint - 1] = PointerGetDatum(fingerprint);
	values[Anum_snapshots_state - 1] = JsonbPGetDatum(snapshot->state.json);
	isnull[Anum_snapshots_state - 1] = snapshot->state.json == NULL;
	values[Anum_snapshots_state_text - 1] = PointerGetDatum(snapshot->state.text);
	isnull[Anum_snapshots_state_text - 1] = snapshot->state.text == NULL;
	return heap_form_tuple(RelationGetDescr(table), values, isnull);
}

/* Locks a row that is to be changed; false if somebody else has changed it, or, without waiting, is about to. */
static bool
lock_row(Relation table, ItemPointer tid, Snapshot visible, bool wait)
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
 * Puts a snapshot in the place of those that it makes useless.  Of two such rows
 * one is changed and the other goes.  False if it has waited for somebody who has
 * changed a row: then all may look different.
 */
static bool
put_row(Relation table, const EsReducer *reducer, const EsSnapshot *snapshot, Snapshot visible, bool wait)
{
	TupleDesc	desc = RelationGetDescr(table);
	SysScanDesc scan = begin_scan(table, reducer->name, &snapshot->stream_id, visible);
	List	   *older = NIL;
	bool		newer = false;
	bool		written = false;
	HeapTuple	row;
	ListCell   *cell;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		if (!is_usable(reducer, row, desc))
			continue;
		if (DatumGetInt64(column(row, Anum_snapshots_version, desc)) >= snapshot->version)
			newer = true;
		else if (!DatumGetBool(column(row, Anum_snapshots_kept, desc)))
			older = lappend(older, heap_copytuple(row));
	}
	systable_endscan(scan);
	if (newer)
		return true;
	foreach(cell, older)
	{
		ItemPointer tid = &((HeapTuple) lfirst(cell))->t_self;

		if (!lock_row(table, tid, visible, wait))
		{
			if (wait)
				return false;
			written = true;		/* by who is changing that row */
		}
		else if (written)
			CatalogTupleDelete(table, tid);
		else
		{
			CatalogTupleUpdate(table, tid, form_row(table, reducer, snapshot));
			written = true;
		}
	}
	if (!written)
		CatalogTupleInsert(table, form_row(table, reducer, snapshot));
	return true;
}

/* es_snapshot_may_leave tells whether the current user may leave snapshots for others, by a reducer. */
bool
es_snapshot_may_leave(const EsReducer *reducer)
{
	return reducer->self_contained || es_base_owns_store(GetUserId());
}

/*
 * es_snapshot_write leaves a snapshot.  If the table is locked, to drop some, or
 * somebody else is leaving one, it leaves none, or waits if told to.
 */
void
es_snapshot_write(const EsReducer *reducer, const EsSnapshot *snapshot, bool wait)
{
	Oid			relid = es_base_relation("snapshots");
	Snapshot	visible;
	Relation	table;
	bool		written;

	if (wait)
		LockRelationOid(relid, RowExclusiveLock);
	else if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
		return;
	table = table_open(relid, NoLock);
	do
	{
		CHECK_FOR_INTERRUPTS();
		visible = es_segment_fresh_snapshot();
		written = put_row(table, reducer, snapshot, visible, wait);
		UnregisterSnapshot(visible);
		CommandCounterIncrement();
	} while (!written);
	table_close(table, NoLock);
}

/* es_snapshot_drop drops all snapshots of a reducer; waits for those who have written some. */
void
es_snapshot_drop(const text *reducer)
{
	Relation	table = table_open(es_base_relation("snapshots"), ShareRowExclusiveLock);
	Snapshot	visible = es_segment_fresh_snapshot();
	SysScanDesc scan = begin_scan(table, text_to_cstring(reducer), NULL, visible);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
		CatalogTupleDelete(table, &row->t_self);
	systable_endscan(scan);
	UnregisterSnapshot(visible);
	table_close(table, NoLock);
	CommandCounterIncrement();
}
