/*
 * resolve.h
 *		Reducers as folds use them: resolved, kept, and pinned.
 */
#ifndef ES_FOLD_RESOLVE_H
#define ES_FOLD_RESOLVE_H

#include "base/base.h"

#include "fold/reducer.h"

extern const EsReducer *es_resolve_pin(const text *name, MemoryContext holder);
extern bool es_resolve_may_execute(const EsReducer *reducer);
extern bool es_resolve_is_builtin(const char *name);

#endif							/* ES_FOLD_RESOLVE_H */
