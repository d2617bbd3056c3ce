/*
 * ops.h
 *		Declarative operations on a state.
 */
#ifndef ES_OPS_H
#define ES_OPS_H

#include "opcompile.h"

/*
 * Applies operations to a state.  What the state gains is allocated in a
 * context that lives as long as it, all else in the current one.
 */
extern void es_ops_apply(const EsOps *ops, EsNode *state, const EsEvent *event, MemoryContext keep);

#endif							/* ES_OPS_H */
