/*
 * pattern.c
 *		Regular expressions of JSON Schema, compiled.
 *
 * By the server's engine, in collation "C", so that what matches does not depend on the
 * database's.  The server's own cache of expressions is not used: it keeps 32, and looks
 * them up by their text.
 *
 * The engine keeps its part in the memory context or, in PostgreSQL 15, in memory got by
 * malloc().  Either way it is given back when the context is reset or deleted.  The
 * engine lets itself be interrupted.
 */
#include "schema/pattern.h"

#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "regex/regex.h"
#include "utils/memutils.h"

#include "schema/ecma.h"

#define SHORT_STRING	256		/* no memory is got for one of so many bytes */

struct EsRegex
{
	pg_regex_t	regex;
	bool		compiled;
	MemoryContextCallback callback;
};

/* Gives back what the engine keeps, when the memory context goes. */
static void
free_pattern_regex(void *arg)
{
	EsRegex    *pattern = arg;

	if (pattern->compiled)
		pg_regfree(&pattern->regex);
}

/* Gives the engine's words for its error, as a sentence. */
static const char *
describe_regex_error(int error, pg_regex_t *regex)
{
	char		words[200];

	pg_regerror(error, regex, words, sizeof(words));
	return psprintf("The server's engine says: %s.", words);
}

/* Compiles a translated expression; NULL, with a fault, if the engine does not want it. */
static EsRegex *
compile_regex(const EsEcmaResult *result, const char **fault)
{
	EsRegex    *pattern = palloc0(sizeof(EsRegex));
	int			error;

	pattern->callback.func = free_pattern_regex;
	pattern->callback.arg = pattern;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &pattern->callback);
	error = pg_regcomp(&pattern->regex, result->chars, result->len, REG_ADVANCED | REG_NOSUB, C_COLLATION_OID);
	if (error == REG_OKAY)
	{
		pattern->compiled = true;
		return pattern;
	}
	CHECK_FOR_INTERRUPTS();
	*fault = describe_regex_error(error, &pattern->regex);
	return NULL;
}

const EsRegex *
es_pattern_compile(const char *text, uint32 len, bool stored, uint64 *weight, const char **fault)
{
	MemoryContext keep = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(keep, "eventstore pattern", ALLOCSET_DEFAULT_SIZES);
	EsRegex    *pattern = NULL;
	EsEcmaResult result;
	bool		translated;

	MemoryContextSwitchTo(work);
	translated = es_ecma_translate(text, len, stored, &result);
	MemoryContextSwitchTo(keep);
	*fault = result.fault;
	*weight = result.weight;
	if (translated)
		pattern = compile_regex(&result, fault);
	MemoryContextDelete(work);
	return pattern;
}

bool
es_pattern_matches(const EsRegex *pattern, const char *bytes, uint32 len)
{
	pg_wchar	few[SHORT_STRING + 1];
	pg_wchar   *chars = few;
	int			count;
	int			error;

	if (len > SHORT_STRING)
		chars = palloc_extended(((Size) len + 1) * sizeof(pg_wchar), MCXT_ALLOC_HUGE);
	count = pg_mb2wchar_with_len(bytes, chars, len);
	error = pg_regexec(unconstify(pg_regex_t *, &pattern->regex), chars, count, 0, NULL, 0, NULL, 0);
	if (chars != few)
		pfree(chars);
	if (error == REG_OKAY || error == REG_NOMATCH)
		return error == REG_OKAY;
	CHECK_FOR_INTERRUPTS();
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("regular expression of a schema could not be evaluated"),
			errdetail_internal("%s", describe_regex_error(error, unconstify(pg_regex_t *, &pattern->regex))));
}
