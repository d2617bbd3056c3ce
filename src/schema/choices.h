/*
 * choices.h
 *		Rules made of other schemas about the same value, proved.
 */
#ifndef ES_SCHEMA_CHOICES_H
#define ES_SCHEMA_CHOICES_H

#include "base/base.h"

#include "schema/model.h"
#include "schema/premise.h"
#include "schema/goal.h"
#include "schema/proof.h"

extern EsAnswer es_choices_prove_all(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_choices_prove_any(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_choices_prove_one(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_choices_prove_not(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_choices_prove_condition(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);

#endif							/* ES_SCHEMA_CHOICES_H */
