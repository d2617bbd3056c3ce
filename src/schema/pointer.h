/*
 * pointer.h
 *		Places in a JSON document, and JSON pointers (RFC 6901), their text.
 */
#ifndef ES_SCHEMA_POINTER_H
#define ES_SCHEMA_POINTER_H

#include "base/base.h"

/*
 * A place: a step down from the place above it, by an object's key or by an element's
 * number.  NULL is the whole document.  Borrows the key.
 */
typedef struct EsPointer EsPointer;
struct EsPointer
{
	const EsPointer *above;
	const char *key;			/* NULL: by "number" */
	uint32		len;			/* of the key */
	uint32		number;
};

/* es_pointer_text gives a place as a JSON pointer, in the current memory context. */
extern char *es_pointer_text(const EsPointer *place);

/*
 * es_pointer_next takes the next token off a JSON pointer, which begins with '/' or is
 * empty, and moves *text past it.  The token is unescaped, in the current memory
 * context; NULL if there is none.
 */
extern char *es_pointer_next(const char **text, uint32 *len);

#endif							/* ES_SCHEMA_POINTER_H */
