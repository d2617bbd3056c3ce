/*
 * prefetch.h
 *		Rows that an index scan is about to read, on their way into the
 *		processor's cache.
 */
#ifndef ES_TABLE_PREFETCH_H
#define ES_TABLE_PREFETCH_H

#include "base/base.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "executor/tuptable.h"
#include "storage/bufpage.h"

#define ES_PREFETCH_ALL	512		/* bytes of a row, at most */
#define ES_PREFETCH_LINE	64	/* bytes of the cache; if it is more, some are
								 * asked for twice */

extern void es_prefetch_row(Page page, OffsetNumber number, Size bytes);
extern void es_prefetch_block(IndexScanDesc scan, TupleTableSlot *slot, BlockNumber *block);

/* es_prefetch_bytes asks for bytes at an address, which need not be there. */
static inline void
es_prefetch_bytes(const void *start, Size bytes)
{
	for (Size at = 0; at < bytes; at += ES_PREFETCH_LINE)
		__builtin_prefetch((const char *) start + at);
}

#endif							/* ES_TABLE_PREFETCH_H */
