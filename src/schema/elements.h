/*
 * elements.h
 *		Rules about arrays, proved.
 */
#ifndef ES_SCHEMA_ELEMENTS_H
#define ES_SCHEMA_ELEMENTS_H

#include "base/base.h"

#include "schema/model.h"
#include "schema/premise.h"
#include "schema/goal.h"
#include "schema/proof.h"

extern EsAnswer es_elements_prove_count(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_elements_prove_unique(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_elements_prove_prefix(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_elements_prove_rest(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_elements_prove_contains(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_elements_prove_unevaluated(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);

#endif							/* ES_SCHEMA_ELEMENTS_H */
