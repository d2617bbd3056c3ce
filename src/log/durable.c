/*
 * durable.c
 *		Durable before visible: what readers return is on disk.
 *
 * An asynchronous commit is visible before it is on disk, and a crash would take
 * back what a reader saw and hand its position out again.  So readers note the
 * commit LSN of the rows that they return and flush before they return.  Rows of
 * transactions below es_durable_xmin need no look.
 *
 * A row that is frozen may be young: VACUUM freezes what has committed, be it on disk or not, and
 * what it writes itself may not be either.  Who wrote the row can still be seen, but the server
 * need not know any more when that one committed.  The page's LSN is that of the freezing, or
 * a later one, and the commit came before.
 */
#include "log/durable.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"

#include "shared/counter.h"

static bool read_durable = true;	/* GUC eventstore.read_durable */

/* What is known to be on disk, and what the current read needs. */
TransactionId es_durable_xmin = InvalidTransactionId;
static TransactionId pending_xmin = InvalidTransactionId;
static XLogRecPtr pending_lsn = InvalidXLogRecPtr;
static XLogRecPtr noted_lsn = InvalidXLogRecPtr;
static TransactionId noted_xmin = InvalidTransactionId; /* the last one that is */

/* Defines the GUC; called once, from _PG_init. */
void
es_durable_init(void)
{
	DefineCustomBoolVariable("eventstore.read_durable",
							 "Readers return an event only when its commit is on disk.",
							 "Off, a reader may see events of asynchronous commits that a crash takes back.",
							 &read_durable, true, PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * es_durable_awaits_standby tells whether this commit is to wait for a synchronous standby.
 * The server decides that at the commit, by what holds for all; this session reads a
 * configuration that has changed only before its next statement.
 */
bool
es_durable_awaits_standby(void)
{
	return SyncRepRequested() &&
		(ConfigReloadPending || (SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0'));
}

/* es_durable_all tells whether all WAL that was written is on disk. */
bool
es_durable_all(void)
{
	return GetFlushRecPtr(NULL) >= GetXLogInsertRecPtr();
}

/* Makes the WAL durable, which somebody waits for who reads. */
static void
flush_and_count(XLogRecPtr lsn)
{
	instr_time	start;

	es_counter_add(ES_COUNT_WAITS_FOR_FLUSH, 1);
	es_counter_start(&start);
	XLogFlush(lsn);
	es_counter_add(ES_COUNT_WAIT_TIME_FLUSH, es_counter_elapsed(&start));
}

/* es_durable_flush makes the WAL durable up to a place that what is returned depends on. */
void
es_durable_flush(XLogRecPtr lsn)
{
	if (read_durable && XLogNeedsFlush(lsn))
		flush_and_count(lsn);
}

/* The end of the last record; past a page's header, where the next one begins, no record ends. */
static XLogRecPtr
end_of_wal(void)
{
	XLogRecPtr	next = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(next, wal_segment_size) == SizeOfXLogLongPHD)
		return next - SizeOfXLogLongPHD;
	return next % XLOG_BLCKSZ == SizeOfXLogShortPHD ? next - SizeOfXLogShortPHD : next;
}

/*
 * es_durable_flush_seen makes durable whatever this session may have seen; called before it
 * says that something is there in the log without having noted the writers.
 */
void
es_durable_flush_seen(void)
{
	if (!RecoveryInProgress())	/* what is replayed is on disk */
		es_durable_flush(end_of_wal());
}

/*
 * es_durable_note_snapshot begins a read: what was pending from the read before
 * may be on disk by now, and this snapshot's horizon is noted for the next.
 */
void
es_durable_note_snapshot(Snapshot snapshot)
{
	if (RecoveryInProgress())
		return;
	if (TransactionIdIsValid(es_durable_xmin) && TransactionIdPrecedes(snapshot->xmin, es_durable_xmin))
		es_durable_xmin = InvalidTransactionId; /* xids wrapped since */
	if (!XLogRecPtrIsInvalid(pending_lsn) && GetFlushRecPtr(NULL) >= pending_lsn)
	{
		es_durable_xmin = pending_xmin;
		pending_lsn = InvalidXLogRecPtr;
	}
	if (XLogRecPtrIsInvalid(pending_lsn))
	{
		pending_xmin = snapshot->xmin;
		pending_lsn = GetXLogInsertRecPtr();
	}
}

/*
 * The LSN of the page that a row is on, which is pinned; the end of the WAL for a row that is none
 * of the shared buffers'.  What was replayed is on disk.
 */
static XLogRecPtr
get_page_lsn(HeapTupleHeader row)
{
	char	   *place = (char *) row;

	if (RecoveryInProgress())
		return InvalidXLogRecPtr;
	if (place < BufferBlocks || place >= BufferBlocks + (Size) NBuffers * BLCKSZ)
		return end_of_wal();
	return BufferGetLSNAtomic((place - BufferBlocks) / BLCKSZ + 1);
}

/* es_durable_note_header does what es_durable_note_row does of a row that may not be on disk. */
void
es_durable_note_header(HeapTupleHeader row)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(row);
	XLogRecPtr	lsn;

	if (xmin == noted_xmin || TransactionIdIsCurrentTransactionId(xmin))
		return;
	if (TransactionIdIsNormal(xmin))
	{
		lsn = TransactionIdGetCommitLSN(xmin);
		noted_xmin = xmin;
	}
	else
		lsn = get_page_lsn(row);
	if (lsn > noted_lsn)
		noted_lsn = lsn;
}

/*
 * es_durable_flush_noted makes the commits of the noted rows durable; called before
 * rows leave the server.
 */
void
es_durable_flush_noted(void)
{
	if (read_durable && !XLogRecPtrIsInvalid(noted_lsn) && !RecoveryInProgress() && XLogNeedsFlush(noted_lsn))
		flush_and_count(noted_lsn);
	noted_lsn = InvalidXLogRecPtr;
	noted_xmin = InvalidTransactionId;
}
