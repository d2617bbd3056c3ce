/*
 * tipcache.h
 *		Tips of streams that this transaction has written itself.
 */
#ifndef ES_STREAM_TIPCACHE_H
#define ES_STREAM_TIPCACHE_H

#include "base/base.h"

#include "stream/stream.h"

/* What is known of one stream. */
typedef struct EsKnownTip
{
	const text *name;			/* hash key */
	EsStream	stream;
	EsTip		tip;
} EsKnownTip;

extern void es_tipcache_init(void);
extern uint64 es_tipcache_begin_call(void);
extern uint64 es_tipcache_generation(void);
extern EsKnownTip *es_tipcache_find(const text *name);
extern void es_tipcache_keep(EsKnownTip *known, const EsStream *stream, const EsTip *tip);

#endif							/* ES_STREAM_TIPCACHE_H */
