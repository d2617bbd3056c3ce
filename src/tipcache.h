/*
 * tipcache.h
 *		Tips of streams that this transaction has written itself.
 */
#ifndef ES_TIPCACHE_H
#define ES_TIPCACHE_H

#include "stream.h"

extern void es_tipcache_init(void);
extern bool es_tipcache_find(const text *name, EsStream *stream, EsTip *tip);
extern void es_tipcache_keep(const EsStream *stream, const EsTip *tip);

#endif							/* ES_TIPCACHE_H */
