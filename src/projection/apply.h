/*
 * apply.h
 *		Running projections: events at hand taken in.
 */
#ifndef ES_PROJECTION_APPLY_H
#define ES_PROJECTION_APPLY_H

#include "base/base.h"

#include "base/event.h"
#include "fold/fold.h"
#include "fold/reducer.h"
#include "projection/projection.h"
#include "projection/readmodel.h"

/*
 * What a batch may use, besides the number of events that
 * eventstore.projection_batch and the projection's pace allow: what is used up
 * first ends it.
 */
#define ES_BATCH_BYTES	(16 * 1024 * 1024)	/* of events, not compressed */
#define ES_BATCH_US		INT64CONST(1000000) /* had better not take longer */

/* An event, and the key that it is folded into. */
typedef struct EsKeyed
{
	const text *key;
	const EsEvent *event;
} EsKeyed;

/* What errors are about. */
typedef struct EsAbout
{
	const EsProjection *projection;
	const EsEvent *event;		/* NULL: a reducer says so itself */
	ErrorContextCallback callback;
} EsAbout;

extern void es_apply_begin_about(EsAbout *about);
extern void es_apply_end_about(const EsAbout *about);

/* *current becomes the position of the event that is being taken in, 0 for none in particular. */
extern const EsReducer *es_apply_reducer(const EsProjection *projection);
extern bool es_apply_is_protected(const EsProjection *projection);
extern void es_apply_upcast(const EsProjection *projection, EsEvent *events, int count, int64 *current);
extern int	es_apply_sort(const EsProjection *projection, const EsEvent *events, int count,
						  EsKeyed *keyed, int64 *current);
extern int	es_apply_same_key(const EsKeyed *keyed, int count);
extern const text *es_apply_layout(const EsProjection *projection);
extern EsFold *es_apply_begin_fold(const EsProjection *projection, const text *layout);
extern void es_apply_fold(EsFold *fold, EsKeyState *state, const EsKeyed *keyed, int count, int64 *current);
extern int	es_apply_call(const EsProjection *projection, const EsEvent *events, int count, int64 *current);
extern void es_apply_call_reset(const EsProjection *projection);

#endif							/* ES_PROJECTION_APPLY_H */
