/*
 * keycache.h
 *		Keys that the session knows: wrapped between transactions, unwrapped in one.
 */
#ifndef ES_SECRET_KEYCACHE_H
#define ES_SECRET_KEYCACHE_H

#include "base/base.h"

#include "lib/ilist.h"
#include "utils/uuid.h"

#include "base/objects.h"
#include "secret/wrap.h"

/* A key; it is there until the next call of es_keycache_find, _find_of or _keep. */
typedef struct EsCachedKey
{
	EsWrappedKey stored;		/* wrapped is NULL: it is shredded */
	int64		fingerprint;	/* of the master key that it is wrapped by */
	uint64		transaction;	/* in which it was kept */
	dlist_node	node;			/* of those kept in this transaction */
	int			number;			/* its place among all */
	bool		is_ahead;		/* kept before anybody asked for it */
	uint64		round;			/* in which it was looked at last */
	const uint8 *plain;			/* unwrapped, in the arena, in that round; or
								 * NULL */
} EsCachedKey;

extern EsRelation es_keycache_table;	/* eventstore.subjects */

extern void es_keycache_init(void);
extern void es_keycache_forget(void);
extern EsCachedKey *es_keycache_find(const pg_uuid_t *id);
extern EsCachedKey *es_keycache_find_of(EsSubjectKind kind, const text *subject);
extern EsCachedKey *es_keycache_keep(const EsWrappedKey *stored, int64 fingerprint, uint64 changes);
extern int	es_keycache_count_ahead(void);
extern void es_keycache_keep_ahead(const EsWrappedKey *stored, int64 fingerprint, uint64 changes);
extern void es_keycache_keep_subject(EsCachedKey *key);
extern bool es_keycache_unwrap(EsCachedKey *key, const uint8 *wrapping);

#endif							/* ES_SECRET_KEYCACHE_H */
