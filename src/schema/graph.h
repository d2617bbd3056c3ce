/*
 * graph.h
 *		The graph of a compiled schema: walked through, checked, marked.
 */
#ifndef ES_SCHEMA_GRAPH_H
#define ES_SCHEMA_GRAPH_H

#include "base/base.h"

#include "schema/model.h"

/* Takes a node that another leads to; "applied" if it is about the same value. */
typedef void (*EsGraphVisitor) (EsSchemaNode *node, bool applied, void *arg);

/* es_graph_visit visits each node that a node leads to directly. */
extern void es_graph_visit(const EsSchemaNode *node, EsGraphVisitor visitor, void *arg);

/*
 * es_graph_finish marks nodes that are "shared" or "evaluate" something, and raises 22023
 * if a value might be held against the same node for ever.
 */
extern void es_graph_finish(EsSchemaNode **nodes, uint32 count);

#endif							/* ES_SCHEMA_GRAPH_H */
