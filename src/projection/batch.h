/*
 * batch.h
 *		Running projections: what the log has, a batch at a time.
 */
#ifndef ES_PROJECTION_BATCH_H
#define ES_PROJECTION_BATCH_H

#include "base/base.h"

#include "base/event.h"
#include "projection/progress.h"
#include "projection/projection.h"

/* One generation of a projection that is run, under the projection's lock. */
typedef struct EsRun
{
	const EsProjection *projection;
	bool		by_worker;
	int64		upto;			/* the log is settled up to here */
	int64		most;			/* events that may still be taken in */
	int64		events;			/* that were taken in */
	bool		only_passes;	/* is put off where it would take something in */
	bool		put_off;		/* and was */
	EsProgress	progress;		/* where it stands */
} EsRun;

/* One attempt at moving it on.  If it fails, the run is as it was before. */
typedef struct EsAttempt
{
	EsRun	   *run;
	int64		upto;			/* the log is read no further */
	int64		most;			/* events that a batch may have */
	/* how far it got; of the batch that was begun last */
	int64		current;		/* position of the event that is being taken
								 * in; 0: none in particular */
	bool		called;			/* users' code has run */
	bool		calling;		/* it runs, or has failed */
	bool		ending;			/* all is taken in, and what was deferred runs */
	MemoryContext memory;
	MemoryContext batch;		/* of the batch that was begun last; NULL:
								 * none */
	const EsEvent *events;		/* as read, in it */
	int			count;
} EsAttempt;

/* What is attempted. */
typedef void (*EsAttemptWork) (EsAttempt *attempt);

extern void es_batch_init(void);

extern EsAttempt es_batch_begin(EsRun *run);
extern void es_batch_take(EsAttempt *attempt);
extern void es_batch_watch(const EsRun *run, bool on);
extern ErrorData *es_batch_attempt(EsAttempt *attempt, EsAttemptWork work);
extern ErrorData *es_batch_try(EsRun *run);

/* What failed: noted, and said. */
extern const char *es_batch_stream_at(const EsAttempt *attempt, int64 position);
extern void es_batch_note_failure(EsRun *run, int64 position, const char *stream, const ErrorData *error);

#endif							/* ES_PROJECTION_BATCH_H */
