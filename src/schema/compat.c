/*
 * compat.c
 *		Whether one version of a schema accepts what another one does.
 *
 * A version is compatible if that can be proved: for each rule of the schema that is to
 * accept, that all keep it which the other one accepts.  proof.c says how.  Annotations
 * make no rules, so they do not count; a "default" fills nothing in.
 *
 * The work is bounded.  Schemas that need more are not called compatible, and the
 * message says so.
 */
#include "schema/compat.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/names.h"
#include "schema/model.h"
#include "schema/compile.h"
#include "schema/fact.h"
#include "schema/proof.h"
#include "schema/scalars.h"
#include "schema/elements.h"
#include "schema/members.h"
#include "schema/choices.h"

#define MAX_EFFORT	2000000		/* schemas and keys looked at */

/* All rules that a schema may have. */
static const EsRule all_rules[] = {
	{es_scalars_prove_types, false},
	{es_scalars_prove_listed, true},
	{es_scalars_prove_lower, false},
	{es_scalars_prove_upper, false},
	{es_scalars_prove_multiple, false},
	{es_scalars_prove_length, false},
	{es_scalars_prove_pattern, false},
	{es_elements_prove_count, false},
	{es_elements_prove_unique, false},
	{es_elements_prove_prefix, false},
	{es_elements_prove_rest, false},
	{es_elements_prove_contains, false},
	{es_elements_prove_unevaluated, false},
	{es_members_prove_count, false},
	{es_members_prove_required, false},
	{es_members_prove_dependencies, false},
	{es_members_prove_named, false},
	{es_members_prove_matching, false},
	{es_members_prove_additional, false},
	{es_members_prove_names, false},
	{es_members_prove_unevaluated, false},
	{es_choices_prove_all, false},
	{es_choices_prove_any, true},
	{es_choices_prove_one, true},
	{es_choices_prove_not, true},
	{es_choices_prove_condition, true},
};

/* es_compat_from_name gives the compatibility that a name stands for.  Raises 22023. */
EsCompatibility
es_compat_from_name(const text *name)
{
	static const char *const names[] = {"none", "backward", "forward", "full"};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (VARSIZE_ANY_EXHDR(name) == strlen(names[i]) &&
			memcmp(VARDATA_ANY(name), names[i], strlen(names[i])) == 0)
			return (EsCompatibility) i;
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unknown compatibility \"%s\"", es_names_show_text(name)),
			errhint("It is 'none', 'backward', 'forward' or 'full'."));
}

/* Gives the problems of a proof in a form that outlives it. */
static List *
copy_problems(List *result, const EsProof *proof, bool forward, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	ListCell   *cell;

	foreach(cell, proof->problems)
	{
		const EsProblem *problem = lfirst(cell);
		EsIncompatibility *copy = palloc(sizeof(EsIncompatibility));

		copy->pointer = pstrdup(problem->place);
		copy->rule = pstrdup(problem->rule);
		copy->message = pstrdup(problem->message);
		copy->forward = forward;
		copy->decided = problem->decided;
		result = lappend(result, copy);
	}
	MemoryContextSwitchTo(old);
	return result;
}

/* Proves that a schema accepts all that another one does; the list grows by what is wrong. */
static List *
compare_one_way(List *result, const EsSchema *accepted, const EsSchema *by, bool forward, MemoryContext context)
{
	EsProof		proof = {.rules = all_rules,.rule_count = lengthof(all_rules)};
	EsFacts		facts = es_fact_of(es_fact_is(accepted->root));
	EsAnswer	answer;

	proof.accepted = forward ? "the new version" : "the old version";
	proof.by = forward ? "the old version" : "the new version";
	proof.effort.left = MAX_EFFORT;
	proof.effort.node_count = Max(accepted->count, by->count);
	es_proof_begin(&proof);
	answer = es_proof_prove(&proof, es_proof_make_premise(&proof, &facts), by->root);
	if (proof.effort.left <= 0)
	{
		proof.problems = NIL;
		(void) es_proof_doubt(&proof, by->root, "", "the schemas are too large or too deep to be compared");
	}
	else if (answer != ES_ANSWER_YES && proof.problems == NIL)
		(void) es_proof_doubt(&proof, by->root, "", "no proof was found");
	return copy_problems(result, &proof, forward, context);
}

/*
 * es_compat_compare gives what is against the compatibility of a new version with an
 * old one, as a list of EsIncompatibility in the current memory context: those that are
 * certain, and those that are not known.  NIL: it is compatible.  Raises 22023 for what
 * is no schema.
 */
List *
es_compat_compare(const Jsonb *old, const Jsonb *new, EsCompatibility compatibility)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work;
	EsSchema   *old_schema;
	EsSchema   *new_schema;
	List	   *result = NIL;

	work = AllocSetContextCreate(caller, "eventstore schemas compared", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);
	old_schema = es_schema_compile(old);
	new_schema = es_schema_compile(new);
	if (compareJsonbContainers((JsonbContainer *) &old->root, (JsonbContainer *) &new->root) == 0)
		compatibility = ES_COMPATIBILITY_NONE;
	if (compatibility == ES_COMPATIBILITY_BACKWARD || compatibility == ES_COMPATIBILITY_FULL)
		result = compare_one_way(result, old_schema, new_schema, false, caller);
	if (compatibility == ES_COMPATIBILITY_FORWARD || compatibility == ES_COMPATIBILITY_FULL)
		result = compare_one_way(result, new_schema, old_schema, true, caller);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	return result;
}
