/*
 * scalars.c
 *		Rules about types, listed values, numbers and strings, proved.
 *
 * Whether one pattern matches all that another one does is not looked into.  Where a
 * pattern is new, some strings are tried: one that is accepted and does not match
 * settles the matter.
 */
#include "schema/scalars.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "json/node.h"
#include "json/pack.h"
#include "schema/model.h"
#include "schema/bounds.h"
#include "schema/premise.h"
#include "schema/inside.h"
#include "schema/goal.h"

#define MAX_TRIED_LENGTH	1000
#define MAX_SHOWN_NUMBER	60

/* ---- types and listed values ---- */

/* Gives the name of the first of some types. */
static const char *
name_type(uint32 types)
{
	if ((types & ES_TYPE_NULL) != 0)
		return "null";
	if ((types & ES_TYPE_BOOLEAN) != 0)
		return "boolean";
	if ((types & ES_TYPE_STRING) != 0)
		return "string";
	if ((types & ES_TYPE_OBJECT) != 0)
		return "object";
	if ((types & ES_TYPE_ARRAY) != 0)
		return "array";
	return (types & ES_TYPE_INTEGER) != 0 ? "number" : "number that is no integer";
}

/* es_scalars_prove_types proves "type". */
EsAnswer
es_scalars_prove_types(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	uint32		others = premise->types & ~goal->types;

	if (others == 0)
		return ES_ANSWER_YES;
	if (premise->types == ES_TYPE_ANY)
		return es_proof_refute(proof, goal, "type", "values of any type");
	return es_proof_refute(proof, goal, "type", "values of type %s", name_type(others));
}

/* Tells whether there are so many values that no list has them all. */
static bool
has_many_values(const EsPremise *premise)
{
	if ((premise->types & ES_TYPE_STRING) != 0)
	{
		for (int i = 0; i < premise->is.count; i++)
		{
			if (premise->is.nodes[i]->strings != NULL && premise->is.nodes[i]->strings->pattern != NULL)
				return false;
		}
		return premise->length.max > 0;
	}
	if ((premise->types & ES_TYPE_OBJECT) != 0)
		return premise->members.max == ES_NO_LIMIT;
	if ((premise->types & ES_TYPE_ARRAY) != 0)
		return premise->items.max == ES_NO_LIMIT;
	return (premise->types & ES_TYPE_NUMBER) != 0 &&
		(premise->lower.value == NULL || premise->upper.value == NULL);
}

/*
 * es_scalars_prove_listed proves "enum" and "const" of values that have no list
 * themselves, see prove_values for those that have.
 */
EsAnswer
es_scalars_prove_listed(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const char *rule = goal->enumeration != NULL ? "enum" : "const";

	if (goal->enumeration == NULL && goal->constant == NULL)
		return ES_ANSWER_YES;
	if (has_many_values(premise))
		return es_proof_refute(proof, goal, rule, "other values of type %s", name_type(premise->types));
	return es_proof_doubt(proof, goal, rule, "the values of type %s that there are were not listed",
						  name_type(premise->types));
}

/* ---- numbers ---- */

/* Gives a number as messages show it. */
static const char *
show_number(Numeric number)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	int			length = strlen(text);

	if (length > MAX_SHOWN_NUMBER)
		strcpy(text +MAX_SHOWN_NUMBER, "...");
	return text;
}

/* Tells whether a schema has limits of numbers, and there may be numbers. */
static bool
is_about_numbers(const EsPremise *premise, const EsSchemaNode *goal)
{
	return goal->numbers != NULL && (premise->types & ES_TYPE_NUMBER) != 0;
}

/* es_scalars_prove_lower proves "minimum" and "exclusiveMinimum". */
EsAnswer
es_scalars_prove_lower(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsBound *lower = &premise->lower;
	EsAnswer	answer = ES_ANSWER_YES;
	Numeric		least;

	if (!is_about_numbers(premise, goal))
		return ES_ANSWER_YES;
	least = goal->numbers->minimum;
	if (least != NULL && (lower->value == NULL || es_bounds_compare(lower->value, least) < 0))
		answer = es_proof_refute(proof, goal, "minimum", "numbers below %s", show_number(least));
	least = goal->numbers->exclusive_minimum;
	if (least != NULL && (lower->value == NULL || es_bounds_compare(lower->value, least) < (lower->open ? 0 : 1)))
		answer = es_proof_refute(proof, goal, "exclusiveMinimum", "numbers that are not above %s", show_number(least));
	return answer;
}

/* es_scalars_prove_upper proves "maximum" and "exclusiveMaximum". */
EsAnswer
es_scalars_prove_upper(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsBound *upper = &premise->upper;
	EsAnswer	answer = ES_ANSWER_YES;
	Numeric		most;

	if (!is_about_numbers(premise, goal))
		return ES_ANSWER_YES;
	most = goal->numbers->maximum;
	if (most != NULL && (upper->value == NULL || es_bounds_compare(upper->value, most) > 0))
		answer = es_proof_refute(proof, goal, "maximum", "numbers above %s", show_number(most));
	most = goal->numbers->exclusive_maximum;
	if (most != NULL && (upper->value == NULL || es_bounds_compare(upper->value, most) > (upper->open ? 0 : -1)))
		answer = es_proof_refute(proof, goal, "exclusiveMaximum", "numbers that are not below %s", show_number(most));
	return answer;
}

/* es_scalars_prove_multiple proves "multipleOf". */
EsAnswer
es_scalars_prove_multiple(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	Numeric		wanted;
	bool		sure = true;
	int			steps = 0;

	if (!is_about_numbers(premise, goal) || goal->numbers->multiple_of == NULL)
		return ES_ANSWER_YES;
	wanted = goal->numbers->multiple_of;
	if ((premise->types & ES_TYPE_FRACTION) == 0 && es_bounds_divides(wanted, es_bounds_one(), &sure))
		return ES_ANSWER_YES;
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsNumberRules *numbers = premise->is.nodes[i]->numbers;

		if (numbers == NULL || numbers->multiple_of == NULL)
			continue;
		if (es_bounds_divides(wanted, numbers->multiple_of, &sure))
			return ES_ANSWER_YES;
		steps++;
	}
	if (!sure)
		return es_proof_doubt(proof, goal, "multipleOf", "numbers of that many digits are not divided");
	if (steps > 1)
		return es_proof_doubt(proof, goal, "multipleOf", "multiples of several numbers are not looked into");
	return es_proof_refute(proof, goal, "multipleOf", "numbers that are no multiples of %s", show_number(wanted));
}

/* ---- strings ---- */

/* es_scalars_prove_length proves "minLength" and "maxLength". */
EsAnswer
es_scalars_prove_length(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	const EsStringRules *strings = goal->strings;
	EsAnswer	answer = ES_ANSWER_YES;

	if (strings == NULL || (premise->types & ES_TYPE_STRING) == 0)
		return ES_ANSWER_YES;
	if (premise->length.min < strings->min_length)
		answer = es_proof_refute(proof, goal, "minLength", "strings of fewer than %u characters", strings->min_length);
	if (premise->length.max > strings->max_length)
		answer = es_proof_refute(proof, goal, "maxLength", "strings of more than %u characters", strings->max_length);
	return answer;
}

/* Tells whether a pattern matches every string. */
static bool
is_trivial_pattern(const EsNode *text)
{
	static const char *const trivial[] = {"", "^", "$", ".*", "^.*", ".*$"};

	for (int i = 0; i < lengthof(trivial); i++)
	{
		if (text->len == strlen(trivial[i]) && memcmp(text->value.bytes, trivial[i], text->len) == 0)
			return true;
	}
	return false;
}

/* Tells whether a pattern is known to match all strings that there are. */
static bool
is_pattern_kept(const EsPremise *premise, const EsStringRules *strings)
{
	for (int i = 0; i < premise->is.count; i++)
	{
		const EsStringRules *known = premise->is.nodes[i]->strings;

		if (known != NULL && known->pattern != NULL &&
			es_inside_same_pattern(&known->pattern_text, &strings->pattern_text))
			return true;
	}
	return is_trivial_pattern(&strings->pattern_text);
}

/* Gives a string in jsonb's form if there is one such, and a schema refuses it; or NULL. */
static const Jsonb *
check_refused(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const char *bytes, uint32 len)
{
	EsNode		node = es_node_view_string(bytes, len);
	Jsonb	   *value = es_pack_jsonb(&node);

	if (!es_premise_allows(premise, value) || es_premise_accepts(goal, value))
		return NULL;
	return value;
}

/* Finds a string of one unit, repeated as often as the least length asks for. */
static const Jsonb *
find_refused_repeated(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal, const char *unit)
{
	uint32		length = strlen(unit);
	StringInfoData text;

	initStringInfo(&text);
	do
	{
		appendStringInfoString(&text, unit);
	} while (text.len < premise->length.min);
	length = Max(premise->length.min, Min(length, premise->length.max));
	return check_refused(proof, premise, goal, text.data, length);
}

/* Finds a string that there is, and that a schema refuses; or NULL. */
static const Jsonb *
find_refused_string(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	static const char *const units[] = {"a", "Z", "0", " ", "-", "_", "\n", "ab1", "A-0 "};
	const Jsonb *found = NULL;

	for (int i = 0; i < lengthof(units) && found == NULL && premise->length.min <= MAX_TRIED_LENGTH; i++)
		found = find_refused_repeated(proof, premise, goal, units[i]);
	for (int i = 0; i < premise->is.count && found == NULL; i++)
	{
		const EsStringRules *strings = premise->is.nodes[i]->strings;
		const char *text;
		uint32		len;

		if (strings == NULL || strings->pattern == NULL)
			continue;
		/* Many patterns match their own text, but for the anchors. */
		text = strings->pattern_text.value.bytes;

		len = strings->pattern_text.len;
		if (len > 0 && text[0] == '^')
			text	  ++,
						len--;

		if (len > 0 && text[len - 1] == '$')
			len--;
		found = check_refused(proof, premise, goal, text, len);
	}
	return found;
}

/* es_scalars_prove_pattern proves "pattern". */
EsAnswer
es_scalars_prove_pattern(EsProof *proof, const EsPremise *premise, const EsSchemaNode *goal)
{
	EsStringRules alone = {.max_length = ES_NO_LIMIT};
	EsSchemaNode only_pattern = {.types = ES_TYPE_ANY,.strings = &alone};
	const Jsonb *refused;

	if (goal->strings == NULL || goal->strings->pattern == NULL || (premise->types & ES_TYPE_STRING) == 0 ||
		is_pattern_kept(premise, goal->strings))
		return ES_ANSWER_YES;
	alone.pattern = goal->strings->pattern;
	alone.pattern_text = goal->strings->pattern_text;
	refused = find_refused_string(proof, premise, &only_pattern);
	if (refused != NULL)
		return es_proof_refute(proof, goal, "pattern", "strings as %s", es_proof_show_value(refused));
	return es_proof_doubt(proof, goal, "pattern", "what patterns match is not compared");
}
