/*
 * flight.h
 *		Where the positions of each transaction in flight begin, and who is writing.
 */
#ifndef ES_SHARED_FLIGHT_H
#define ES_SHARED_FLIGHT_H

#include "base/base.h"

#include "storage/lock.h"

#define ES_FLIGHT_MOST_SETS	8

/*
 * Events that somebody asks for by tags: those that have all tags of one of some sets, each as bits
 * (json/tags.h).
 */
typedef struct EsFlightTags
{
	int			count;
	uint64		sets[ES_FLIGHT_MOST_SETS];
} EsFlightTags;

extern void es_flight_init(void);
extern bool es_flight_is_shared(void);
extern void es_flight_begin(int64 below);
extern void es_flight_take(int64 first);
extern void es_flight_prepare(void);
extern void es_flight_learn(TransactionId xid, VirtualTransactionId id, int64 below);
extern int	es_flight_begin_writing(uint64 tag_bits);
extern void es_flight_end_writing(int depth);
extern void es_flight_say_first(int64 position);
extern bool es_flight_await_writers(int64 position, const EsFlightTags *tags);
extern bool es_flight_find(VirtualTransactionId id, int64 *below);

#endif							/* ES_SHARED_FLIGHT_H */
