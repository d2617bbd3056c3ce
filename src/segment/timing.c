/*
 * timing.c
 *		Finding out when the last event of each sealed segment was recorded.
 *
 * A worker that nobody waits for does so, after all that is to be sealed is: it reads each
 * segment once, as a whole.  It holds up neither sealing nor scavenging, so those have locks
 * of their own.  What an update finds sealed is found out in the same way.
 *
 * A segment that cannot be read is noted with a time after all others, so that its events are
 * looked at one by one, as they are needed, and it is not tried again for ever.
 */
#include "segment/timing.h"

#include "access/xact.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/objects.h"
#include "log/latest.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/subscriber.h"
#include "table/rows.h"

/* Finds the oldest sealed segment after one whose time is not known; -1 if there is none. */
static int64
find_untimed_segment(int64 after)
{
	EsRows		rows = {.shape = &es_segment_shape,.mode = AccessShareLock,.fresh = true};
	int64		found = -1;

	es_rows_between(&rows, after, PG_INT64_MAX);
	es_rows_begin(&rows);
	while (found < 0 && es_rows_next(&rows))
	{
		int64		segment = DatumGetInt64(rows.values[Anum_es_segments_segment - 1]);

		CHECK_FOR_INTERRUPTS();
		if (DatumGetBool(rows.values[Anum_es_segments_sealed - 1]) && OidIsValid(es_segment_relid(segment)) &&
			!es_latest_is_known(segment))
			found = segment;
	}
	es_rows_end(&rows);
	return found;
}

/* Finds out the time of a segment, unless it has left the log. */
static void
time_segment(int64 segment)
{
	TimestampTz latest_at;

	if (es_scan_latest_at(segment, &latest_at))
		es_latest_note(segment, latest_at);
}

/* Tells whether an error is of what is stored: that will not be better the next time. */
static bool
is_of_storage(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_DATA_CORRUPTED) ||
		sqlerrcode == ERRCODE_IO_ERROR || sqlerrcode == ERRCODE_UNDEFINED_FILE;
}

/*
 * Does so in a transaction; notes of one that cannot be read that it is not known, and leaves one
 * that is locked, where there is a lock_timeout, for the next time.
 */
static void
time_segment_alone(int64 segment)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int failed = 0;

	StartTransactionCommand();
	PG_TRY();
	{
		time_segment(segment);
	}
	PG_CATCH();
	{
		failed = geterrcode();
		if (failed != ERRCODE_LOCK_NOT_AVAILABLE && !is_of_storage(failed))
			PG_RE_THROW();
		if (failed != ERRCODE_LOCK_NOT_AVAILABLE)
			EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		StartTransactionCommand();
	}
	PG_END_TRY();
	if (is_of_storage(failed))
		es_latest_note(segment, DT_NOEND);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/*
 * es_timing_run finds out the times that are missing, unless another process is at it; in a
 * worker, outside of transactions.
 */
void
es_timing_run(void)
{
	int64		segment = -1;
	bool		mine = false;

	StartTransactionCommand();
	if (es_base_is_installed() && es_latest_is_kept() && !es_subscriber_is())
	{
		LOCKTAG		tag = es_base_tag(&es_segment_table, 0, ES_SEGMENT_TAG_TIMING);

		mine = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
	}
	CommitTransactionCommand();
	if (!mine)
		return;
	pgstat_report_activity(STATE_RUNNING, "reading the times of segments of eventstore.events");
	do
	{
		StartTransactionCommand();
		segment = es_base_is_installed() && es_latest_is_kept() ? find_untimed_segment(segment) : -1;
		CommitTransactionCommand();
		if (segment >= 0)
			time_segment_alone(segment);
	} while (segment >= 0);
}
