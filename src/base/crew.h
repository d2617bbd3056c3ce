/*
 * crew.h
 *		Parallel workers that help a function, and send it rows.
 */
#ifndef ES_BASE_CREW_H
#define ES_BASE_CREW_H

#include "base/base.h"

#include "access/parallel.h"
#include "access/tupdesc.h"
#include "executor/tqueue.h"
#include "executor/tuptable.h"
#include "storage/dsm.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "tcop/dest.h"

/* The leader's workers.  Zeroed at first, and when they have gone. */
typedef struct EsCrew
{
	ParallelContext *context;
	DestReceiver *dest;			/* takes their rows */
	TupleTableSlot *incoming;
	TupleQueueReader **readers; /* of those that have more to say, */
	shm_mq_handle **queues;		/* and their queues */
	int			nreaders;
	int			next;			/* reader to ask next */
} EsCrew;

extern void es_crew_begin(EsCrew *crew, const char *function, int nworkers);
extern void es_crew_reserve(EsCrew *crew, Size size);
extern void es_crew_set_up(EsCrew *crew);
extern void *es_crew_share(EsCrew *crew, uint64 key, Size size);
extern void es_crew_launch(EsCrew *crew, TupleDesc desc, DestReceiver *dest);
extern bool es_crew_take_row(EsCrew *crew);
extern bool es_crew_await_row(EsCrew *crew);
extern void es_crew_finish(EsCrew *crew);
extern void es_crew_dismiss(EsCrew *crew);

/* In a worker. */
extern DestReceiver *es_crew_join(dsm_segment *segment, shm_toc *toc);
extern void es_crew_leave(DestReceiver *dest);

#endif							/* ES_BASE_CREW_H */
