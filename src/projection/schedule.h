/*
 * schedule.h
 *		Projections in the worker: which have something to do, and whose turn it is.
 */
#ifndef ES_PROJECTION_SCHEDULE_H
#define ES_PROJECTION_SCHEDULE_H

#include "base/base.h"

#include "datatype/timestamp.h"

/* What a worker found that looked after projections. */
typedef struct EsScheduleLook
{
	bool		follows;		/* there are projections that news may matter
								 * to */
	bool		busy;			/* there is more to do at once */
	TimestampTz again_at;		/* something is to be tried again by then;
								 * DT_NOEND: nothing is */
} EsScheduleLook;

extern void es_schedule_look(EsScheduleLook *look);
extern bool es_schedule_work(void);
extern void es_schedule_begin(void);
extern bool es_schedule_accuse(void);

#endif							/* ES_PROJECTION_SCHEDULE_H */
