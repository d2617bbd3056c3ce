/*
 * pointer.c
 *		Places in a JSON document, and JSON pointers (RFC 6901), their text.
 */
#include "schema/pointer.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

/* Appends a key, in which '~' and '/' are escaped. */
static void
append_pointer_key(StringInfo out, const char *key, uint32 len)
{
	for (uint32 i = 0; i < len; i++)
	{
		if (key[i] == '~')
			appendStringInfoString(out, "~0");
		else if (key[i] == '/')
			appendStringInfoString(out, "~1");
		else
			appendStringInfoChar(out, key[i]);
	}
}

char *
es_pointer_text(const EsPointer *place)
{
	uint32		count = 0;
	uint32		left;
	const EsPointer **steps;
	StringInfoData out;

	for (const EsPointer *step = place; step; step = step->above)
		count++;
	steps = palloc(sizeof(*steps) * Max(count, 1));
	left = count;
	for (const EsPointer *step = place; step; step = step->above)
		steps[--left] = step;
	initStringInfo(&out);
	for (uint32 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		appendStringInfoChar(&out, '/');
		if (steps[i]->key)
			append_pointer_key(&out, steps[i]->key, steps[i]->len);
		else
			appendStringInfo(&out, "%u", steps[i]->number);
	}
	pfree(steps);
	return out.data;
}

char *
es_pointer_next(const char **text, uint32 *len)
{
	const char *at = *text;
	char	   *token;

	if (*at != '/')
		return NULL;
	token = palloc(strlen(at));
	*len = 0;
	for (at++; *at != '\0' && *at != '/'; at++)
	{
		if (at[0] == '~' && (at[1] == '0' || at[1] == '1'))
			token[(*len)++] = *++at == '0' ? '~' : '/';
		else
			token[(*len)++] = *at;
	}
	*text = at;
	return token;
}
