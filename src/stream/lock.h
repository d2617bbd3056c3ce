/*
 * lock.h
 *		The locks that appends of one stream exclude each other by.
 */
#ifndef ES_STREAM_LOCK_H
#define ES_STREAM_LOCK_H

#include "base/base.h"

#include "storage/lock.h"

#include "shared/flight.h"

/* Calls over more streams than this exclude all others. */
#define ES_STREAM_FEW	32

/* The short locks of a call. */
typedef struct EsStreamLocks
{
	bool		all;			/* of all streams */
	int			count;
	int			depth;			/* see es_flight_begin_writing */
	uint64		tag_bits;		/* of events that are to be written, see
								 * es_tags_bits */
	uint32		hashes[ES_STREAM_FEW];	/* of names; sorted once acquired */
} EsStreamLocks;

/* A place in a stream's queue. */
typedef struct EsStreamQueue
{
	LOCKTAG		tag;
} EsStreamQueue;

extern void es_streamlock_lock_table(void);
extern int64 es_streamlock_freeze(void);
extern void es_streamlock_add(EsStreamLocks *locks, const text *name, uint64 tag_bits);
extern void es_streamlock_acquire(EsStreamLocks *locks);
extern void es_streamlock_release(const EsStreamLocks *locks);
extern void es_streamlock_await_writers(int64 position, const EsFlightTags *tags);
extern void es_streamlock_await(TransactionId transaction);
extern void es_streamlock_queue(EsStreamQueue *queue, const text *name);
extern void es_streamlock_leave_queue(EsStreamQueue *queue);

#endif							/* ES_STREAM_LOCK_H */
