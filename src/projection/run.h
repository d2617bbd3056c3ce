/*
 * run.h
 *		Running projections, by hand and one batch at a time, and waiting for them.
 */
#ifndef ES_PROJECTION_RUN_H
#define ES_PROJECTION_RUN_H

#include "base/base.h"

#include "projection/batch.h"

extern bool es_run_begin(EsRun *run, bool live);
extern ErrorData *es_run_batch(EsRun *run, bool *more);

#endif							/* ES_PROJECTION_RUN_H */
