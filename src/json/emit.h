/*
 * emit.h
 *		Values that were read from JSON text, written in jsonb's own form.
 */
#ifndef ES_JSON_EMIT_H
#define ES_JSON_EMIT_H

#include "base/base.h"

#include "json/parse.h"

/* What is used for one value after the other; zeroed at first. */
typedef struct EsEmit
{
	char	   *bytes;
	Size		size;
	struct EsEmitMember *members;
	uint32		space;			/* of members */
	uint32		used;
} EsEmit;

/* The result is in the current memory context, and owes nothing to the text. */
extern Datum es_emit_jsonb(EsEmit *emit, const EsParse *parse, uint32 number);
extern void es_emit_end(EsEmit *emit);

#endif							/* ES_JSON_EMIT_H */
