/*
 * run.h
 *		What runs projections, and waits for them.
 */
#ifndef ES_PROJECTION_RUN_H
#define ES_PROJECTION_RUN_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* What a worker found that looked after projections. */
typedef struct EsProjectorLook
{
	bool		follows;		/* there are projections that news may matter
								 * to */
	bool		busy;			/* there is more to do at once */
	TimestampTz again_at;		/* something is to be tried again by then;
								 * DT_NOEND: nothing is */
} EsProjectorLook;

extern void es_projector_look(EsProjectorLook *look);
extern bool es_projector_work(void);
extern void es_projector_begin(void);
extern bool es_projector_accuse(void);

#endif							/* ES_PROJECTION_RUN_H */
