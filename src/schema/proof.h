/*
 * proof.h
 *		Proofs that whatever has some properties is accepted by a schema.
 */
#ifndef ES_SCHEMA_PROOF_H
#define ES_SCHEMA_PROOF_H

#include "base/base.h"

#include "json/node.h"
#include "schema/model.h"
#include "schema/effort.h"
#include "schema/fact.h"
#include "schema/goal.h"
#include "schema/premise.h"

/* Why something is not proved. */
typedef struct EsProblem
{
	const char *place;			/* pointer to the schema that may refuse
								 * values */
	const char *rule;			/* its keyword */
	const char *message;
	bool		decided;		/* it does refuse some */
} EsProblem;

typedef struct EsProof EsProof;

/* Proves that what the premise is about keeps some rules of a schema; see compat.c. */
typedef struct EsRule
{
	const char *name;			/* its keyword, or the first of them */
	EsAnswer	(*prove) (EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
	bool		by_type;		/* each type of values may need a proof of its
								 * own */
} EsRule;

struct EsProof
{
	const EsRule *rules;
	int			rule_count;
	const char *accepted;		/* what messages call the schema that accepts
								 * the values */
	const char *by;				/* and the one that should */
	EsEffort	effort;
	MemoryContext context;		/* what lives as long as the proof */
	List	   *problems;		/* of EsProblem */
	int			quiet;			/* more than 0: look for no problems */
	int			denying;		/* the level + 1 at which contradictions are
								 * looked for; 0: at none */
	EsGoals		goals;			/* what is proved or was tried */
};

extern void es_proof_begin(EsProof *proof);
extern EsPremise *es_proof_make_premise(EsProof *proof, const EsFacts *facts);
extern EsAnswer es_proof_prove(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_proof_prove_facts(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal);
extern EsAnswer es_proof_prove_with(EsProof *proof, const EsPremise *premise, EsFact fact, const EsSchemaNode *goal);
extern EsAnswer es_proof_prove_part(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal);
extern EsAnswer es_proof_try(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal);
extern EsAnswer es_proof_try_part(EsProof *proof, const EsFacts *facts, const EsSchemaNode *goal);
extern bool es_proof_is_empty_with(EsProof *proof, const EsPremise *premise, const EsSchemaNode *node);
extern const char *es_proof_show_value(const Jsonb *value);
extern const char *es_proof_show_key(const EsKey *key);

/* Both give the answer that belongs to it. */
extern EsAnswer es_proof_refute(EsProof *proof, const EsSchemaNode *goal, const char *rule,
								const char *format,...) pg_attribute_printf(4, 5);
extern EsAnswer es_proof_doubt(EsProof *proof, const EsSchemaNode *goal, const char *rule,
							   const char *format,...) pg_attribute_printf(4, 5);

#endif							/* ES_SCHEMA_PROOF_H */
