/*
 * durable.h
 *		Durable before visible: what readers return is on disk.
 */
#ifndef ES_LOG_DURABLE_H
#define ES_LOG_DURABLE_H

#include "base/base.h"

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
extern void es_durable_note_writer(TransactionId xmin);
extern void es_durable_flush_noted(void);

/* es_durable_note_row notes that a visible row of a segment will be returned. */
static inline void
es_durable_note_row(TupleTableSlot *slot)
{
	TransactionId xmin = es_rows_slot_xmin(slot);

	if (TransactionIdIsNormal(xmin))
		es_durable_note_writer(xmin);
}

#endif							/* ES_LOG_DURABLE_H */
