/*
 * compile.c
 *		JSON Schemas, checked and compiled.
 *
 * A survey says what is where (survey.c), references are resolved (reference.c), then
 * nodes are made of what the root reaches (variant.c) and filled with rules (rules.c), and
 * the graph of them is checked (graph.c).
 */
#include "schema/compile.h"

#include "utils/memutils.h"

#include "schema/graph.h"
#include "schema/reference.h"
#include "schema/rules.h"
#include "schema/survey.h"
#include "schema/variant.h"

/* Makes the nodes of a schema, whose references are resolved. */
static EsSchema *
make_schema_nodes(EsSurvey *survey)
{
	EsSchema   *schema = MemoryContextAlloc(survey->keep, sizeof(EsSchema));
	EsCompilation c;
	EsSchemaNode **nodes;

	es_variant_begin(&c, survey);
	while (es_variant_next(&c))
		es_rules_fill(&c);
	nodes = palloc_extended(sizeof(EsSchemaNode *) * c.task_count, MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < c.task_count; i++)
		nodes[i] = c.tasks[i].node;
	es_graph_finish(nodes, c.task_count);
	schema->root = nodes[0];
	return schema;
}

EsSchema *
es_schema_compile(const Jsonb *json, bool stored)
{
	MemoryContext keep = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(keep, "eventstore schema compilation", ALLOCSET_DEFAULT_SIZES);
	Jsonb	   *copy = palloc_extended(VARSIZE(json), MCXT_ALLOC_HUGE);
	EsSurvey   *survey;
	EsSchema   *schema;

	memcpy(copy, json, VARSIZE(json));
	MemoryContextSwitchTo(work);
	survey = es_survey_make(copy, stored, keep);
	es_reference_resolve_all(survey);
	schema = make_schema_nodes(survey);
	MemoryContextSwitchTo(keep);
	MemoryContextDelete(work);
	return schema;
}
