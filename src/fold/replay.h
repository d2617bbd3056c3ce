/*
 * replay.h
 *		Replays: streams folded into states.
 */
#ifndef ES_FOLD_REPLAY_H
#define ES_FOLD_REPLAY_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "fold/fold.h"
#include "fold/snapshot.h"
#include "read/read.h"

/* Attributes of the SQL type es_state. */
#define Anum_es_state_stream		1
#define Anum_es_state_version		2
#define Anum_es_state_position		3
#define Anum_es_state_state			4
#define Anum_es_state_recorded_at	5
#define Natts_es_state				5

/* A replay on its way. */
typedef struct EsReplay
{
	EsFold	   *fold;
	int			settings;		/* of its functions: to be left */
	EsStreamScan *scan;
	EsSnapshot	at;				/* the last event folded, without its state;
								 * version 0: none yet */
	int64		folded;			/* events, since the snapshot it began at */
	bool		without_snapshots;	/* there are known to be none, or none
									 * that the caller may use */
} EsReplay;

extern const Oid es_replay_state_types[Natts_es_state];

extern ReturnSetInfo *es_replay_begin_rows(FunctionCallInfo fcinfo);
extern void es_replay_columns(EsReplay *replay, const text *stream, Datum *values, bool *isnull, bool with_state);
extern TimestampTz es_replay_as_of_arg(FunctionCallInfo fcinfo, int argno);
extern EsReplay es_replay_by(EsFold *fold);
extern EsReplay es_replay_begin(const text *named, const text *category);
extern void es_replay_require_sight(const EsFold *fold, const text *stream);
extern void es_replay_end(EsReplay *replay);
extern bool es_replay_can_begin(const EsReplay *replay, EsStreamScan *scan, const EsSnapshotBounds *bounds);
extern bool es_replay_stream(EsReplay *replay, EsStreamScan *scan, const EsSnapshotBounds *bounds);
extern bool es_replay_unchanged(const EsFold *fold);
extern void es_replay_require_unchanged(const EsFold *fold);
extern void es_replay_require_leave(const EsFold *fold);
extern bool es_replay_leaves_snapshot(const EsReplay *replay);

#endif							/* ES_FOLD_REPLAY_H */
