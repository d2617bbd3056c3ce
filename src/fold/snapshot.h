/*
 * snapshot.h
 *		States that replays can go on from.
 */
#ifndef ES_FOLD_SNAPSHOT_H
#define ES_FOLD_SNAPSHOT_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

#include "fold/reducer.h"
#include "fold/state.h"
#include "table/columns.h"

/* The state of a stream after an event. */
typedef struct EsSnapshot
{
	int64		stream_id;
	int64		version;
	int64		position;
	TimestampTz recorded_at;
	EsStoredState state;
} EsSnapshot;

/* What a snapshot must not be past. */
typedef struct EsSnapshotBounds
{
	int64		version;
	TimestampTz as_of;
} EsSnapshotBounds;

extern const EsShape es_snapshot_shape;
extern const EsShape es_snapshot_stream_shape;	/* the same, found by stream */

/* Finds the newest usable one; what it gives is in the current memory context. */
extern bool es_snapshot_find(const EsReducer *reducer, int64 stream_id, const EsSnapshotBounds *bounds,
							 Snapshot visible, EsSnapshot *snapshot);

extern bool es_snapshot_is_lost(const EsReducer *reducer, int64 stream_id, Snapshot visible);
extern bool es_snapshot_exists(const EsReducer *reducer, Snapshot visible);

/* Leaves one, unless there is a newer one already, or somebody else is about to. */
extern bool es_snapshot_may_write(void);
extern bool es_snapshot_may_leave(const EsReducer *reducer);
extern void es_snapshot_write(const EsReducer *reducer, const EsSnapshot *snapshot, bool wait);

/* What truncations depend on. */
extern List *es_snapshot_reducers(int64 stream_id, List *names);
extern bool es_snapshot_begin_keep(bool wait);
extern void es_snapshot_keep(const EsReducer *reducer, const EsSnapshot *snapshot);
extern void es_snapshot_drop_older(int64 stream_id, int64 version);
extern int64 es_snapshot_adopt(const EsReducer *reducer, void (*check) (const EsStoredState *state, void *arg), void *arg);

extern void es_snapshot_drop(const text *reducer, bool also_kept);

#endif							/* ES_FOLD_SNAPSHOT_H */
