/*
 * memory.h
 *		The library's shared memory.
 */
#ifndef ES_SHARED_MEMORY_H
#define ES_SHARED_MEMORY_H

#include "base/base.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#define ES_TENURE_STRIPES	16

/* The locks that pieces of the memory are under. */
typedef enum EsSharedLock
{
	ES_LOCK_MARKS,
	ES_LOCK_PREPARED,
	ES_LOCK_ROSTER,
	ES_LOCK_COUNTERS,
	ES_LOCK_TROUBLES,
	ES_LOCK_TENURES,			/* the first of so many */
	ES_LOCK_COUNT = ES_LOCK_TENURES + ES_TENURE_STRIPES
} EsSharedLock;

/* A piece of the memory, of one part. */
typedef struct EsSharedPiece
{
	const char *name;
	Size		(*size) (void);
	void		(*start) (void *memory);	/* called once, on zeroed memory */
	void	  **memory;			/* set to where it is; stays NULL where the
								 * library is not preloaded */
} EsSharedPiece;

/* es_shared_raise raises a number to another one if that is higher, and gives what it was. */
static inline uint64
es_shared_raise(pg_atomic_uint64 *number, uint64 to)
{
	uint64		known = pg_atomic_read_u64(number);

	while (known < to && !pg_atomic_compare_exchange_u64(number, &known, to))
		 /* known is what another session raised it to */ ;
	return known;
}

extern void es_shared_init(void);
extern void es_shared_add(const EsSharedPiece *piece);
extern LWLock *es_shared_lock(EsSharedLock which);

#endif							/* ES_SHARED_MEMORY_H */
