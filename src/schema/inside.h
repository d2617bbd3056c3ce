/*
 * inside.h
 *		What is known of the members of an object, and of the elements of an array.
 */
#ifndef ES_SCHEMA_INSIDE_H
#define ES_SCHEMA_INSIDE_H

#include "base/base.h"

#include "json/node.h"
#include "schema/model.h"
#include "schema/effort.h"
#include "schema/fact.h"
#include "schema/premise.h"

extern bool es_inside_matches(const EsPatternProperty *pattern, const EsKey *key);
extern bool es_inside_same_pattern(const EsNode *a, const EsNode *b);
extern EsFacts es_inside_member(const EsPremise *premise, const EsMemberClass *members);
extern EsFacts es_inside_item(const EsPremise *premise, uint32 index);
extern EsFacts es_inside_names(const EsPremise *premise);
extern uint32 es_inside_prefix(const EsPremise *premise);
extern List *es_inside_keys(const EsPremise *premise, const EsSchemaNode *goal);
extern List *es_inside_patterns(const EsPremise *premise);
extern bool es_inside_is_named(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort);
extern bool es_inside_may_evaluate(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort);
extern bool es_inside_must_evaluate(const EsSchemaNode *node, const EsMemberClass *members, EsEffort *effort);
extern bool es_inside_has_alternatives(const EsSchemaNode *node, EsEffort *effort);
extern uint32 es_inside_may_evaluate_items(const EsSchemaNode *node, EsEffort *effort);
extern uint32 es_inside_must_evaluate_items(const EsSchemaNode *node, EsEffort *effort);
extern void es_inside_limit(EsPremise *premise);

#endif							/* ES_SCHEMA_INSIDE_H */
