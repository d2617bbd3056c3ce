/*
 * tags.h
 *		Tags: strings in an event's metadata that queries are stated over.
 */
#ifndef ES_JSON_TAGS_H
#define ES_JSON_TAGS_H

#include "base/base.h"

#include "utils/jsonb.h"

#include "base/names.h"

#define ES_TAGS_FEW		16

/* The keys of an event's tags, sorted, each once; see es_tags_key. */
typedef struct EsTagKeys
{
	int			count;
	int64	   *keys;			/* few, if there is room */
	int64		few[ES_TAGS_FEW];
} EsTagKeys;

/* Tags as a set of bits: two for each, those of its key. */
#define ES_TAGS_ALL_BITS	(~UINT64CONST(0))

static inline uint64
es_tags_bits(int64 key)
{
	return UINT64CONST(1) << (key & 63) | UINT64CONST(1) << ((key >> 6) & 63);
}

extern int64 es_tags_key(const char *tag, int len);
extern void es_tags_keys(Datum metadata, EsTagKeys *keys);
extern bool es_tags_any(Datum metadata);
extern uint64 es_tags_check(Datum metadata);
extern Datum es_tags_add(Datum metadata, const JsonbValue *tags);
extern bool es_tags_have_all(Datum metadata, const EsNames *wanted);

#endif							/* ES_JSON_TAGS_H */
