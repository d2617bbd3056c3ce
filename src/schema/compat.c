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
#include "schema/goal.h"
#include "schema/proof.h"
#include "schema/scalars.h"
#include "schema/elements.h"
#include "schema/members.h"
#include "schema/choices.h"

#define MAX_EFFORT	20000000	/* schemas and keys looked at */

/* All rules that a schema may have. */
static const EsRule all_rules[] = {
	{"type", es_scalars_prove_types, false},
	{"enum", es_scalars_prove_listed, true},
	{"minimum", es_scalars_prove_lower, false},
	{"maximum", es_scalars_prove_upper, false},
	{"multipleOf", es_scalars_prove_multiple, false},
	{"maxLength", es_scalars_prove_length, false},
	{"pattern", es_scalars_prove_pattern, false},
	{"maxItems", es_elements_prove_count, false},
	{"uniqueItems", es_elements_prove_unique, false},
	{"prefixItems", es_elements_prove_prefix, false},
	{"items", es_elements_prove_rest, false},
	{"contains", es_elements_prove_contains, false},
	{"unevaluatedItems", es_elements_prove_unevaluated, false},
	{"maxProperties", es_members_prove_count, false},
	{"required", es_members_prove_required, false},
	{"dependentRequired", es_members_prove_dependencies, false},
	{"properties", es_members_prove_named, false},
	{"patternProperties", es_members_prove_matching, false},
	{"additionalProperties", es_members_prove_additional, false},
	{"propertyNames", es_members_prove_names, false},
	{"unevaluatedProperties", es_members_prove_unevaluated, false},
	{"allOf", es_choices_prove_all, false},
	{"anyOf", es_choices_prove_any, true},
	{"oneOf", es_choices_prove_one, true},
	{"not", es_choices_prove_not, true},
	{"if", es_choices_prove_condition, true},
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

/* Adds the problems of a proof that are certain, or the others, in a form that outlives it. */
static List *
copy_problems(List *result, const EsProof *proof, bool forward, bool decided)
{
	ListCell   *cell;

	foreach(cell, proof->problems)
	{
		const EsProblem *problem = lfirst(cell);
		EsIncompatibility *copy;

		if (problem->decided != decided)
			continue;
		copy = palloc(sizeof(EsIncompatibility));
		copy->pointer = pstrdup(problem->place);
		copy->rule = pstrdup(problem->rule);
		copy->message = pstrdup(problem->message);
		copy->forward = forward;
		copy->decided = problem->decided;
		result = lappend(result, copy);
	}
	return result;
}

/* Proves that a schema accepts all that another one does; the list grows by what is wrong. */
static List *
compare_one_way(List *result, const EsSchema *accepted, const EsSchema *by, bool forward, MemoryContext context)
{
	EsProof		proof = {.rules = all_rules,.rule_count = lengthof(all_rules)};
	EsFacts		facts = es_fact_of(es_fact_is(accepted->root));
	EsAnswer	answer;
	MemoryContext old;

	proof.accepted = forward ? "the new version" : "the old version";
	proof.by = forward ? "the old version" : "the new version";
	proof.effort.left = MAX_EFFORT;
	es_proof_begin(&proof);
	answer = es_proof_prove_facts(&proof, &facts, by->root);
	if (proof.effort.left <= 0)
	{
		proof.problems = NIL;
		(void) es_proof_doubt(&proof, by->root, "", "the schemas are too large or too deep to be compared");
	}
	else if (answer != ES_ANSWER_YES && proof.problems == NIL)
		(void) es_proof_doubt(&proof, by->root, "", "no proof was found");
	old = MemoryContextSwitchTo(context);
	result = copy_problems(result, &proof, forward, true);
	result = copy_problems(result, &proof, forward, false);
	MemoryContextSwitchTo(old);
	return result;
}

/*
 * es_compat_compare gives what is against the compatibility of a new version with an
 * old one, as a list of EsIncompatibility in the current memory context: for each
 * direction those that are certain, and then those that are not known.  NIL: it is
 * compatible.  Raises 22023 for what is no schema; the old one may be stored already.
 */
List *
es_compat_compare(const Jsonb *old, bool stored, const Jsonb *new, EsCompatibility compatibility)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work;
	EsSchema   *old_schema;
	EsSchema   *new_schema;
	List	   *result = NIL;

	work = AllocSetContextCreate(caller, "eventstore schemas compared", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);
	old_schema = es_schema_compile(old, stored);
	new_schema = es_schema_compile(new, false);
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
