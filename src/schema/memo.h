/*
 * memo.h
 *		What came of holding a value against a node, kept for the next time.
 */
#ifndef ES_SCHEMA_MEMO_H
#define ES_SCHEMA_MEMO_H

#include "base/base.h"

#include "schema/evaluated.h"

typedef struct EsMemo EsMemo;

/* Which value, by where it is, which node, and how it is asked. */
typedef struct EsMemoKey
{
	const char *container;		/* the value that it is a child of */
	uint32		number;			/* of the child */
	uint32		node;
	bool		listing;		/* violations are listed, not just a verdict */
	bool		tracking;		/* what is evaluated is asked for, too */
} EsMemoKey;

typedef struct EsMemoEntry
{
	bool		accepts;
	EsEvaluated evaluated;
} EsMemoEntry;

extern EsMemo *es_memo_make(void);
extern void es_memo_end(EsMemo *memo);
extern const EsMemoEntry *es_memo_find(EsMemo *memo, const EsMemoKey *key);

/* es_memo_put keeps an entry; that which the set needs is copied. */
extern void es_memo_put(EsMemo *memo, const EsMemoKey *key, const EsMemoEntry *entry);

#endif							/* ES_SCHEMA_MEMO_H */
