/*
 * bundle.h
 *		Values made of protected fields, encrypted under the keys of all these fields.
 */
#ifndef ES_SECRET_BUNDLE_H
#define ES_SECRET_BUNDLE_H

#include "base/base.h"

#include "utils/uuid.h"

#include "json/node.h"

/* More than that should not go into a value. */
#define ES_BUNDLE_MOST_KEYS	1000

/* Keys of subjects, in order. */
typedef struct EsKeyring
{
	int			count;
	int			room;
	pg_uuid_t  *ids;
} EsKeyring;

/* es_bundle_add_key adds a key, in the current memory context. */
extern void es_bundle_add_key(EsKeyring *ring, const pg_uuid_t *id);

/*
 * es_bundle_seal encrypts a value under keys.  If one of them is shredded what it gives
 * cannot be opened.  Only who knows its scope can open it.  In the current memory context.
 */
extern text *es_bundle_seal(const EsKeyring *ring, const char *scope, EsNode *value);

/*
 * es_bundle_open gives the value, and its keys; false if one of these is shredded.  55000
 * without the master key; VE008 for what es_bundle_seal has not given in this scope.
 */
extern bool es_bundle_open(const text *sealed, const char *scope, EsKeyring *ring, EsNode *value);

/* es_bundle_can_open tells whether none of a value's keys is shredded; it needs no master key. */
extern bool es_bundle_can_open(const text *sealed);

/* es_bundle_is_under tells whether a value is under one of some keys. */
extern bool es_bundle_is_under(const text *sealed, const EsKeyring *ring);

#endif							/* ES_SECRET_BUNDLE_H */
