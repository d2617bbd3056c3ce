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

#define ES_PREFETCH_ALL		512 /* bytes of a row, at most */
#define ES_PREFETCH_AHEAD	6	/* rows */

extern void es_prefetch_row(Page page, OffsetNumber number, Size bytes);
extern void es_prefetch_block(IndexScanDesc scan, TupleTableSlot *slot, BlockNumber *block);
extern ItemPointer es_prefetch_ahead(IndexScanDesc scan);

#endif							/* ES_TABLE_PREFETCH_H */
