/*
 * members.h
 *		Rules about objects, proved.
 */
#ifndef ES_SCHEMA_MEMBERS_H
#define ES_SCHEMA_MEMBERS_H

#include "base/base.h"

#include "schema/model.h"
#include "schema/premise.h"
#include "schema/goal.h"
#include "schema/proof.h"

extern EsAnswer es_members_prove_count(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_required(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_dependencies(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_named(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_matching(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_additional(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_names(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_members_prove_unevaluated(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);

#endif							/* ES_SCHEMA_MEMBERS_H */
