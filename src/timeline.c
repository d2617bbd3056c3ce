/*
 * timeline.c
 *		Positions after a promotion.
 *
 * An asynchronous standby that is promoted may have lost the newest events,
 * which somebody may have read on the old primary.  Their positions must not
 * come back with other content.  So the first append on a new timeline of the
 * WAL goes on past the newest segment that this server knows: a segment is made
 * ahead of need, so the old primary's positions ended there, unless the standby
 * was more than half a segment behind.
 *
 * The timeline is noted in a sequence of its own: setval is logged and no
 * rollback undoes it.  Each backend looks once, at its first append; a backend
 * that was there before the promotion had none.  Two backends that find a new
 * timeline are kept apart by a lock that is held for the jump only.  A crash in
 * the middle lets the next one jump again, which does nothing at the end of a
 * segment.
 *
 * At that look a backend also compares the sequence with the log, whose last event
 * is beyond it if somebody has set it back or a restore is not done yet.
 */
#include "timeline.h"

#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "sequence.h"

static Oid	checked = InvalidOid;	/* the timeline_seq that was looked at */

/* Sets a sequence, as its owner, to the last number that is to count as given out. */
static void
set_sequence(Oid sequence, int64 last)
{
	EsOwnerContext saved;

	es_base_become_owner(&saved);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence), Int64GetDatum(last));
	es_base_become_caller(&saved);
}

/* Gives up what is left of the segments that there are. */
static void
skip_segments(void)
{
	int64		last = es_settle_last_given();
	int64		end = es_segment_last_position(es_segment_newest_reaching(PG_INT64_MAX));

	if (last > 0 && last < end)
		set_sequence(es_base_store()->position_seq, end);
}

/*
 * es_timeline_event_beyond finds the last event of the log if it is beyond a
 * position, and tells where; 0 if it is not.  Own events count.
 */
int64
es_timeline_event_beyond(int64 position)
{
	Snapshot	snapshot = es_segment_fresh_snapshot();
	int64		found = 0;

	for (int64 n = es_segment_newest(); n >= es_segment_of(Max(position, 1)) && found == 0; n--)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.snapshot = snapshot,.own_slot = true};
		bool		isnull;

		found = DatumGetInt64(es_segment_scan_edge(&scan, n, BackwardScanDirection, Anum_es_events_position, &isnull));
	}
	UnregisterSnapshot(snapshot);
	return found > position ? found : 0;
}

/* Refuses to give positions out again: somebody has set the sequence back, or not yet restored it. */
static void
check_sequence(void)
{
	int64		beyond = es_timeline_event_beyond(es_settle_last_given());

	/* a look at the sequence that is later than that at the log */
	if (beyond > es_settle_last_given())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("sequence \"eventstore.position_seq\" is behind the log"),
				errdetail("The last position given out is " INT64_FORMAT ", and an event has position " INT64_FORMAT ".",
						  es_settle_last_given(), beyond),
				errhint("Set it to the last position that was given out: SELECT setval('eventstore.position_seq', " INT64_FORMAT ").", beyond));
}

/* es_timeline_check sees to it that positions go on at another segment if the timeline is a new one. */
void
es_timeline_check(void)
{
	Oid			sequence = es_base_store()->timeline_seq;
	int64		now;
	int64		known;
	XLogRecPtr	lsn;
	LOCKTAG		tag;

	if (likely(sequence == checked))
		return;
	now = (int64) GetWALInsertionTimeLine();
	if (es_sequence_read(sequence, &lsn) != now)
	{
		SET_LOCKTAG_OBJECT(tag, MyDatabaseId, sequence, 0, 0);
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
		known = es_sequence_read(sequence, &lsn);
		if (known != now && known != 0)
			skip_segments();
		if (known != now)
			set_sequence(sequence, now);
		(void) LockRelease(&tag, ExclusiveLock, false);
	}
	check_sequence();
	checked = sequence;
}
