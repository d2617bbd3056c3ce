/*
 * fold.h
 *		Folding events into a state.
 */
#ifndef ES_FOLD_FOLD_H
#define ES_FOLD_FOLD_H

#include "base/base.h"

#include "base/event.h"
#include "base/names.h"
#include "fold/reducer.h"
#include "fold/state.h"

typedef struct EsFold EsFold;

/*
 * A fold lives in a memory context under the one that is current at its
 * begin, and goes with it after an error.  It serves one stream after the
 * other, with a reset between them.
 */
extern EsFold *es_fold_begin(const text *reducer);
extern void es_fold_reset(EsFold *fold);
extern void es_fold_apply(EsFold *fold, const EsEvent *event);
extern bool es_fold_is_end(const EsFold *fold, const EsEvent *event);
extern void es_fold_end(EsFold *fold);

/*
 * The events that a fold gets are as readers see them, unless it is told that they are as
 * they are stored, all of some categories.
 */
extern void es_fold_take_stored(EsFold *fold, const EsNames *categories);

/*
 * Functions of users run with settings of their own (base/settings.h), which whoever uses
 * a fold enters as long as it does so, and leaves: es_settings_leave.
 */
extern int	es_fold_enter_settings(const EsFold *fold);

/* The state so far; it may belong to the fold, and is then good until the fold goes on. */
extern Datum es_fold_state(EsFold *fold, bool *isnull);
extern Datum es_fold_state_jsonb(EsFold *fold, bool *isnull);

/* The same, as readers may see it. */
extern Datum es_fold_read(EsFold *fold, bool *isnull);
extern Datum es_fold_read_jsonb(EsFold *fold, bool *isnull);

/* States as they are stored, see state.h. */
extern void es_fold_store(EsFold *fold, EsStoredState *stored);
extern void es_fold_load(EsFold *fold, const EsStoredState *stored);
extern const EsReducer *es_fold_reducer(const EsFold *fold);

#endif							/* ES_FOLD_FOLD_H */
