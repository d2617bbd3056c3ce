/*
 * digest.h
 *		Digests: SHA-256 of leaves and nodes.
 */
#ifndef ES_EVIDENCE_DIGEST_H
#define ES_EVIDENCE_DIGEST_H

#include "base/base.h"

#include "common/cryptohash.h"
#include "lib/stringinfo.h"

#include "base/event.h"

#define ES_DIGEST_LENGTH	32

typedef struct EsDigest
{
	uint8		bytes[ES_DIGEST_LENGTH];
} EsDigest;

/* What digests are made with; of the resource owner that was current at the begin. */
typedef struct EsDigester
{
	pg_cryptohash_ctx *hash;
	MemoryContext scratch;		/* for one event */
	StringInfoData text;
} EsDigester;

extern void es_digest_begin(EsDigester *digester);
extern void es_digest_end(EsDigester *digester);
extern void es_digest_bytes(EsDigester *digester, const void *bytes, Size size, EsDigest *digest);
extern void es_digest_event(EsDigester *digester, const EsEvent *event, EsDigest *leaf);
extern void es_digest_pair(EsDigester *digester, const EsDigest *left, const EsDigest *right, EsDigest *node);
extern char *es_digest_hex(const EsDigest *digest);
extern bytea *es_digest_bytea(const EsDigest *digests, int count);

/* es_digest_same tells whether two digests are the same. */
static inline bool
es_digest_same(const EsDigest *a, const EsDigest *b)
{
	return memcmp(a, b, sizeof(EsDigest)) == 0;
}

#endif							/* ES_EVIDENCE_DIGEST_H */
