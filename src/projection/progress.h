/*
 * progress.h
 *		How far projections are.
 */
#ifndef ES_PROJECTION_PROGRESS_H
#define ES_PROJECTION_PROGRESS_H

#include "base/base.h"

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "base/positions.h"
#include "projection/projection.h"
#include "table/columns.h"

/* A row of eventstore.projection_progress. */
typedef struct EsProgress
{
	int64		projection_id;
	int64		generation;
	int64		position;
	int64		error_position; /* 0: no event in particular */
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
	TimestampTz failed_since;	/* DT_NOBEGIN: it has not */
	int			attempts;		/* that have failed in a row */
	bool		live;			/* else a rebuild's */
	bool		litter;			/* states of earlier generations are to be
								 * deleted */
	const text *error;			/* NULL: none */
	const text *layout;			/* of the states' text; NULL: has none */
} EsProgress;

extern const EsShape es_progress_shape;
extern const EsShape es_progress_skips_shape;

extern int	es_progress_read_all(EsProgress **rows);
extern bool es_progress_read(int64 id, bool live, EsProgress *row);
extern void es_progress_read_live(const EsProjection *projection, EsProgress *row);
extern bool es_progress_read_as_of(int64 id, bool live, Snapshot snapshot, EsProgress *row);
extern int64 es_progress_live_generation(int64 id, Snapshot snapshot);
extern void es_progress_insert(const EsProgress *row);
extern void es_progress_write(const EsProgress *row);
extern void es_progress_delete(const EsProgress *row);
extern void es_progress_fail(EsProgress *row, int64 position, const ErrorData *error);
extern void es_progress_move(EsProgress *row, int64 position);
extern void es_progress_forgive(EsProgress *row);

extern EsPositions es_progress_read_skips(int64 id, int64 after, int64 upto);
extern void es_progress_add_skip(const EsProgress *row);
extern void es_progress_forget(int64 id);

#endif							/* ES_PROJECTION_PROGRESS_H */
