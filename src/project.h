/*
 * project.h
 *		Running projections: events taken in.
 */
#ifndef ES_PROJECT_H
#define ES_PROJECT_H

#include "fold.h"
#include "progress.h"
#include "readmodel.h"

/* An event, and the key that it is folded into. */
typedef struct EsKeyed
{
	const text *key;
	const EsEvent *event;
} EsKeyed;

/* One generation of a projection that is run. */
typedef struct EsRun
{
	const EsProjection *projection;
	EsProgress	progress;		/* read under the projection's lock; moved on,
								 * to be written by the caller */
	int64		upto;			/* the log is settled up to here, and is read
								 * no further */
	int64		most;			/* events that may still be taken in */
	int64		events;			/* that were taken in */
	int64		current;		/* position of the event that is being taken
								 * in; 0: none in particular */
	bool		by_worker;
} EsRun;

/* Something to do for a run, in a subtransaction. */
typedef void (*EsRunWork) (EsRun *run);

extern void es_project_init(void);

/* Taking in events that are at hand; *current is as in a run. */
extern void es_project_upcast(const EsProjection *projection, EsEvent *events, int count, int64 *current);
extern int	es_project_sort(const EsProjection *projection, const EsEvent *events, int count,
							EsKeyed *keyed, int64 *current);
extern int	es_project_same_key(const EsKeyed *keyed, int count);
extern EsFold *es_project_begin_fold(const EsProjection *projection);
extern void es_project_fold(EsFold *fold, EsKeyState *state, const EsKeyed *keyed, int count, int64 *current);
extern int	es_project_call(const EsProjection *projection, const EsEvent *events, int count, int64 *current);
extern void es_project_call_reset(const EsProjection *projection);

/* Taking in what the log has. */
extern void es_project_watch(const EsRun *run, bool on);
extern void es_project_batch(EsRun *run);
extern ErrorData *es_project_attempt(EsRun *run, EsRunWork work);
extern ErrorData *es_project_try_batch(EsRun *run);

#endif							/* ES_PROJECT_H */
