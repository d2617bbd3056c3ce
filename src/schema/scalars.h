/*
 * scalars.h
 *		Rules about types, listed values, numbers and strings, proved.
 */
#ifndef ES_SCHEMA_SCALARS_H
#define ES_SCHEMA_SCALARS_H

#include "base/base.h"

#include "schema/model.h"
#include "schema/premise.h"
#include "schema/goal.h"
#include "schema/proof.h"

extern EsAnswer es_scalars_prove_types(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_scalars_prove_listed(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_scalars_prove_lower(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_scalars_prove_upper(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_scalars_prove_multiple(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_scalars_prove_length(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_scalars_prove_pattern(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);

#endif							/* ES_SCHEMA_SCALARS_H */
