/*
 * durable.h
 *		Durable before visible: what readers return is on disk.
 */
#ifndef ES_LOG_DURABLE_H
#define ES_LOG_DURABLE_H

#include "base/base.h"

#include "access/htup.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xlogdefs.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "table/rows.h"

extern void es_durable_init(void);
extern bool es_durable_awaits_standby(void);
extern bool es_durable_all(void);
extern void es_durable_flush(XLogRecPtr lsn);
extern void es_durable_flush_seen(void);
extern void es_durable_note_snapshot(Snapshot snapshot);
extern void es_durable_note_header(HeapTupleHeader row);
extern void es_durable_flush_noted(void);

/* Transactions before this one are known to be on disk; 0: nothing is known. */
extern TransactionId es_durable_xmin;

/*
 * es_durable_note_row notes that a visible row will be returned, whose page is pinned.  A frozen
 * row, too, has who wrote it; if that is so long ago that xids have come round, it is on disk,
 * whatever the comparison says.
 */
static inline void
es_durable_note_row(TupleTableSlot *slot)
{
	HeapTupleHeader row = es_rows_slot_header(slot);

	if (row != NULL &&
		!(TransactionIdIsValid(es_durable_xmin) &&
		  (int32) (HeapTupleHeaderGetRawXmin(row) - es_durable_xmin) < 0))
		es_durable_note_header(row);
}

#endif							/* ES_LOG_DURABLE_H */
