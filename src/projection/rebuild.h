/*
 * rebuild.h
 *		Projections made anew beside the live ones.
 */
#ifndef ES_PROJECTION_REBUILD_H
#define ES_PROJECTION_REBUILD_H

#include "base/base.h"

#include "projection/batch.h"
#include "projection/projection.h"

extern void es_rebuild_begin(const EsProjection *projection);
extern ErrorData *es_rebuild_step(EsRun *run, bool *more);
extern void es_rebuild_sweep(EsRun *run);
extern void es_rebuild_catch_up(EsAttempt *attempt);

#endif							/* ES_PROJECTION_REBUILD_H */
