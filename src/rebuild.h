/*
 * rebuild.h
 *		Projections made anew beside the live ones.
 */
#ifndef ES_REBUILD_H
#define ES_REBUILD_H

#include "project.h"

extern ErrorData *es_rebuild_step(EsRun *run, bool *more);
extern void es_rebuild_catch_up(EsRun *run);

#endif							/* ES_REBUILD_H */
