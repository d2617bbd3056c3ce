/*
 * timeline.c
 *		Positions after a promotion, and after a switch-over.
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
 * A logical subscriber that goes on as a store of its own has the same to fear from
 * the publisher, and its sequences have not moved: replication does not carry them.
 * So when the subscription is dropped, positions are made to go on past the newest
 * segment known here, and ids past the highest.  Should nobody have seen that, the
 * first append of a backend does: timeline_seq says then that the store has followed
 * another, or was about to.  So they go on past the segments even if nothing has
 * arrived since: what was given out over there may have been read.  Sequences are
 * only ever raised, so doing it again, while others append even, does no harm.
 *
 * In any other store such events say that somebody has set the sequence back, or that
 * a restore is not done yet.  A position that counts as a hole for readers must not be
 * filled, and the restore will set the sequence itself: 55000.
 */
#include "log/timeline.h"

#include "access/sdir.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"

#include "base/event.h"
#include "base/objects.h"
#include "base/owner.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "table/rows.h"
#include "table/sequence.h"

/* What timeline_seq says in a store that follows another. */
#define FOLLOWS	PG_INT64_MAX

static Oid	checked = InvalidOid;	/* the timeline_seq that was looked at */
static uint64 checked_changes;	/* of subscriptions, by then */

/* Sets a sequence, as its owner, to the last number that is to count as given out. */
static void
set_sequence(EsRelation *sequence, int64 last)
{
	EsOwnerContext saved;

	es_owner_enter(&saved);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(es_base_oid(sequence)), Int64GetDatum(last));
	es_owner_leave(&saved);
}

/* Has positions go on past one; what is left out is a hole. */
static void
skip_positions(int64 upto)
{
	es_sequence_raise(&es_base_position_seq, upto);
	es_settle_note_hole(upto);
}

/* Gives up what is left of the segments that there are. */
static void
skip_segments(void)
{
	int64		last = es_settle_last_given();
	int64		end = es_segment_last_position(es_segment_newest_reaching(PG_INT64_MAX));

	if (last > 0)
		skip_positions(end);
}

/*
 * es_timeline_event_beyond finds the last event of the log if it is beyond a
 * position, and tells where; 0 if it is not.  Own events count.
 */
int64
es_timeline_event_beyond(int64 position)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	int64		found = 0;

	for (int64 n = es_segment_newest_reaching(PG_INT64_MAX);
		 n >= 0 && found == 0 && es_segment_last_position(n) > position; n--)
	{
		EsSegmentScan scan = {.which = ES_INDEX_POSITION,.fresh = &snapshot,.own_slot = true};
		bool		isnull;

		found = DatumGetInt64(es_scan_edge(&scan, n, BackwardScanDirection, Anum_es_events_position, &isnull));
	}
	UnregisterSnapshot(snapshot);
	return found > position ? found : 0;
}

/*
 * Refuses to give positions out again: somebody has set the sequence back, or not
 * yet restored it.
 */
static void
refuse_sequence_behind_log(void)
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

/* The highest of the ids that a table has, 0 for none, as its owner; SPI is connected. */
static int64
read_last_id(const char *table, const char *column)
{
	char	   *sql = psprintf("SELECT COALESCE(pg_catalog.max(t.%s), 0) FROM eventstore.%s t", column, table);
	bool		isnull;

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run \"%s\"", sql);
	pfree(sql);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* Has the sequences of ids go on past what the tables have. */
static void
raise_id_sequences(void)
{
	EsOwnerContext saved;

	es_owner_enter(&saved);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	es_sequence_raise(&es_base_stream_id_seq, read_last_id("streams", "stream_id"));
	es_sequence_raise(&es_base_subscription_id_seq, read_last_id("subscriptions", "subscription_id"));
	es_sequence_raise(&es_base_projection_id_seq, read_last_id("projections", "projection_id"));
	PopActiveSnapshot();
	SPI_finish();
	es_owner_leave(&saved);
}

/*
 * Tells whether the store follows another one, or did when it was last written to,
 * for all that is known.
 */
static bool
follows_another(void)
{
	XLogRecPtr	lsn;

	return es_sequence_read(&es_base_timeline_seq, &lsn) == FOLLOWS;
}

/*
 * es_timeline_follow notes that the store follows another one, whose positions its
 * own sequences know nothing of.
 */
void
es_timeline_follow(void)
{
	if (!follows_another())
		set_sequence(&es_base_timeline_seq, FOLLOWS);
}

/*
 * es_timeline_take_over lets the store go on by itself where it has followed
 * another, or events came from elsewhere, past the sequences; does nothing in any other.
 */
void
es_timeline_take_over(void)
{
	/* a sequence that is read after an event was seen has given it out */
	int64		last = es_timeline_event_beyond(es_settle_last_given());
	LOCKTAG		tag;

	if (last <= es_settle_last_given() && !follows_another())
		return;
	tag = es_base_tag(&es_base_timeline_seq, 0, 0);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (last > es_settle_last_given() || follows_another())
	{
		int64		end = es_segment_last_position(es_segment_newest_reaching(PG_INT64_MAX));

		skip_positions(Max(end, last));
		raise_id_sequences();
	}
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/*
 * es_timeline_is_in_use tells whether positions have been given out here, or taken
 * over from a store that this one has followed.
 */
bool
es_timeline_is_in_use(void)
{
	XLogRecPtr	lsn;

	return es_sequence_read(&es_base_timeline_seq, &lsn) != 0;
}

/* Sees to it that positions go on at another segment if the timeline is a new one. */
static void
check_timeline(void)
{
	int64		now = (int64) GetWALInsertionTimeLine();
	int64		known;
	XLogRecPtr	lsn;
	LOCKTAG		tag;

	known = es_sequence_read(&es_base_timeline_seq, &lsn);
	if (known == FOLLOWS)
		es_timeline_take_over();
	else
		refuse_sequence_behind_log();
	if (known == 0)
		raise_id_sequences();	/* a subscriber's dump does not say it */
	if (known == now)
		return;
	tag = es_base_tag(&es_base_timeline_seq, 0, 0);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	known = es_sequence_read(&es_base_timeline_seq, &lsn);
	if (known != now && known != 0 && known != FOLLOWS)
		skip_segments();
	if (known != now)
		set_sequence(&es_base_timeline_seq, now);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/*
 * es_timeline_check sees to it that no position is given out that is another
 * event's, here or on a server before this one.
 */
void
es_timeline_check(void)
{
	Oid			sequence = es_base_oid(&es_base_timeline_seq);

	if (likely(sequence == checked && es_subscriber_state.changes == checked_changes))
		return;
	check_timeline();
	checked = sequence;
	checked_changes = es_subscriber_state.changes;
}
