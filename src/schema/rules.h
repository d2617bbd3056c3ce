/*
 * rules.h
 *		A subschema's keywords, made into the rules of a node.
 */
#ifndef ES_SCHEMA_RULES_H
#define ES_SCHEMA_RULES_H

#include "base/base.h"

#include "schema/variant.h"

/* es_rules_fill gives the node that is next in a compilation the rules of its subschema. */
extern void es_rules_fill(EsCompilation *c);

#endif							/* ES_SCHEMA_RULES_H */
