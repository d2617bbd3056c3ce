/*
 * ops.h
 *		Declarative operations on a state.
 */
#ifndef ES_JSON_OPS_H
#define ES_JSON_OPS_H

#include "base/base.h"

#include "base/event.h"
#include "json/node.h"
#include "json/opcompile.h"

/*
 * Applies operations to a state.  What the state gains is allocated in a
 * context that lives as long as it, all else in the current one.
 */
extern void es_ops_apply(const EsOps *ops, EsNode *state, const EsEvent *event, MemoryContext keep);

#endif							/* ES_JSON_OPS_H */
