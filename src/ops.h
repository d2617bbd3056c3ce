/*
 * ops.h
 *		Declarative operations on a state.
 */
#ifndef ES_OPS_H
#define ES_OPS_H

#include "value.h"

typedef struct EsOps EsOps;

/* The compiled form borrows from the document, and is in the current memory context. */
extern EsOps *es_ops_compile(const Jsonb *document);
extern bool es_ops_mention(const EsOps *ops, EsRoot root);

/*
 * Applies operations to a state.  What the state gains is allocated in a
 * context that lives as long as it, all else in the current one.
 */
extern void es_ops_apply(const EsOps *ops, EsNode *state, const EsEvent *event, MemoryContext keep);

#endif							/* ES_OPS_H */
