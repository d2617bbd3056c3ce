/*
 * prefetch.c
 *		Rows that an index scan is about to read, on their way into the
 *		processor's cache.
 *
 * A replay is a walk through rows that lie in shared buffers and not in the
 * cache; folding an event takes less time than to wait for its row.  A btree scan
 * knows what comes next: it keeps the matching entries of a leaf.  So when it
 * comes to another heap page, all rows there that it will want are asked for at
 * once.
 *
 * The page is looked at without a lock, under the pin that the scan's slot has:
 * a row that is being added meanwhile may be missed or half seen, and that costs
 * nothing, since a prefetch is a hint and no more.
 */
#include "table/prefetch.h"

#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "storage/bufmgr.h"

/* es_prefetch_row asks for so many bytes of a row. */
void
es_prefetch_row(Page page, OffsetNumber number, Size bytes)
{
	ItemId		item;

	if (number > PageGetMaxOffsetNumber(page))
		return;
	item = PageGetItemId(page, number);
	es_prefetch_bytes((char *) page + ItemIdGetOffset(item), Min(ItemIdGetLength(item), bytes));
}

/*
 * es_prefetch_block asks for the rows that a forward scan will read on the page of
 * the row it stands on.  *block is the page that was asked for last;
 * InvalidBlockNumber: none.
 */
void
es_prefetch_block(IndexScanDesc scan, TupleTableSlot *slot, BlockNumber *block)
{
	BTScanOpaque so = (BTScanOpaque) scan->opaque;
	BlockNumber here = ItemPointerGetBlockNumber(&slot->tts_tid);
	Page		page;

	if (here == *block)
		return;
	*block = here;
	if (!TTS_IS_BUFFERTUPLE(slot) || scan->indexRelation->rd_rel->relam != BTREE_AM_OID ||
		!BufferIsValid(((BufferHeapTupleTableSlot *) slot)->buffer))
		return;
	page = BufferGetPage(((BufferHeapTupleTableSlot *) slot)->buffer);
	for (int i = so->currPos.itemIndex + 1; i <= so->currPos.lastItem; i++)
	{
		ItemPointer tid = &so->currPos.items[i].heapTid;

		if (ItemPointerGetBlockNumber(tid) != here)
			break;
		es_prefetch_row(page, ItemPointerGetOffsetNumber(tid), ES_PREFETCH_ALL);
	}
}
