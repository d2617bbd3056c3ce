/*
 * retry.c
 *		Idempotent retry: recognising a call whose events are stored already.
 *
 * Ids that callers give are unique within their stream, and found through a
 * partial index that appends without ids never touch.  A call is a retry of
 * what is stored when all its ids are, as one run, in its order, with its
 * contents, at the place that its expectation names.  Ids that are stored in
 * any other way are a conflict.
 *
 * Called under the stream's short lock, with the stream's tip known to be
 * committed or this transaction's; so nothing comes to what is found.  Hidden
 * events may go, since they are removed without the lock: where one that was
 * found is away as it is looked at again, all is checked anew, and who is
 * removing some is waited for.
 */
#include "append/retry.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "base/event.h"
#include "base/names.h"
#include "base/uuid7.h"
#include "log/scan.h"
#include "log/segment.h"
#include "secret/field.h"
#include "secret/protection.h"
#include "table/rows.h"

/* Compares two ids for qsort and hash. */
static int
compare_event_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t));
}

/* es_retry_check_distinct raises 22023 if a call gives one id twice for a stream. */
void
es_retry_check_distinct(const EsTarget *target)
{
	pg_uuid_t  *ids;
	int			n = 0;

	if (target->count < 2)
		return;
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * target->count);
	for (EsNewEvent *event = target->first; event; event = event->next)
	{
		CHECK_FOR_INTERRUPTS();
		if (event->id_given)
			ids[n++] = event->id;
	}
	qsort(ids, n, sizeof(pg_uuid_t), compare_event_ids);
	for (int i = 1; i < n; i++)
		if (compare_event_ids(&ids[i - 1], &ids[i]) == 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("event id %s is specified more than once", es_uuid7_show(&ids[i])));
	pfree(ids);
}

/*
 * Tells whether a stored event has the contents of a given one.  The version of its type
 * is no part of them: another one may have become the newest since.  Protected fields are
 * compared plain.  Those of a shredded subject are the same as whatever is given: the
 * event is that which was stored under its id, and whoever retries wants to know no more.
 */
static bool
has_same_contents(EsRetry *retry, const EsNewEvent *given, EsEvent *stored)
{
	text	   *type = DatumGetTextPP(stored->type);
	Datum		data = given->data;

	if (unlikely(es_protection_any()) &&
		es_field_reveal_stored(stored, &data, retry->may_ask) == ES_FIELD_AWAY)
	{
		retry->result = ES_RETRY_NO_KEY;
		return false;
	}
	return es_names_same(type, given->type) &&
		compareJsonbContainers(&DatumGetJsonbP(stored->data)->root,
							   &DatumGetJsonbP(data)->root) == 0 &&
		compareJsonbContainers(&DatumGetJsonbP(stored->metadata)->root,
							   &DatumGetJsonbP(given->metadata)->root) == 0;
}

/* Marks an event as the one that is stored, if that has its version and contents. */
static bool
take_stored_event(EsRetry *retry, EsNewEvent *event, EsEvent *stored, int64 version)
{
	if (stored->version != version || !has_same_contents(retry, event, stored))
		return false;
	event->stored = true;
	event->version = version;
	event->position = stored->position;
	event->recorded_at = stored->recorded_at;
	return true;
}

/*
 * Compares events, count of them from one on, with those stored from a version
 * on.  Marks as stored what is the same; returns the first that differs, or
 * NULL.  Memory for one is freed before the next.
 */
static EsNewEvent *
compare_stored_run(EsRetry *retry, EsNewEvent *event, int count, const EsStream *stream, int64 version)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eventstore retry", ALLOCSET_DEFAULT_SIZES);

	for (int64 n = stream->first_segment; count > 0 && n <= stream->last_segment; n++)
	{
		EsSegmentScan scan = {.which = ES_INDEX_STREAM,.fresh = &snapshot,.own_slot = true,.nkeys = 2};
		bool		same = true;

		ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
		ScanKeyInit(&scan.keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(version));
		if (!es_scan_begin(&scan, n))
			continue;
		while (same && count > 0 && index_getnext_slot(scan.scan, ForwardScanDirection, scan.slot))
		{
			EsEvent		stored;
			MemoryContext old = MemoryContextSwitchTo(scratch);

			CHECK_FOR_INTERRUPTS();
			es_event_deform(scan.slot, &stored, true);
			same = take_stored_event(retry, event, &stored, version);
			MemoryContextSwitchTo(old);
			MemoryContextReset(scratch);
			if (!same)
				break;
			version++;
			count--;
			event = event->next;
		}
		es_scan_end(&scan);
		if (!same)
			break;
	}
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(scratch);
	return count > 0 ? event : NULL;
}

/*
 * Finds again where an event is stored that was found before, for a result; that is
 * another one if the event is gone, or is being removed.
 */
static int64
find_stored_again(EsRetry *retry, EsRetryResult result, const EsNewEvent *event, const EsStream *stream, int64 *position)
{
	int64		version = es_stream_find_event_id(stream, &event->id, position, &retry->wait_for);

	if (TransactionIdIsValid(retry->wait_for))
		retry->result = ES_RETRY_WAIT;
	else
		retry->result = version == 0 ? ES_RETRY_GONE : result;
	return version;
}

/* Notes that an event's id is stored, but not as given, and where. */
static void
note_conflict(EsRetry *retry, EsConflictKind kind, const EsNewEvent *event, const EsStream *stream)
{
	EsConflict *conflict = &retry->conflict;

	conflict->kind = kind;
	conflict->id = event->id;
	conflict->version = find_stored_again(retry, ES_RETRY_CONFLICT, event, stream, &conflict->position);
}

/* Notes that of a target's events some are stored and some are not. */
static void
note_partly_stored(EsRetry *retry, const EsTarget *target, const EsStream *stream, const int64 *versions)
{
	const EsNewEvent *stored = target->first;
	int			missing = 0;

	for (int i = 0; versions[i] == 0; i++)
		stored = stored->next;
	while (versions[missing] != 0)
		missing++;
	note_conflict(retry, ES_CONFLICT_PARTLY, stored, stream);
	retry->conflict.missing = missing + 1;
}

/* Takes an event for the one that is stored under its id, at a version, whatever that contains. */
static void
take_stored_id(EsRetry *retry, EsNewEvent *event, const EsStream *stream, int64 version)
{
	(void) find_stored_again(retry, ES_RETRY_STORED, event, stream, &event->position);
	event->stored = retry->result == ES_RETRY_STORED;
	event->version = version;
}

/*
 * Judges a target of which nstored ids are stored; versions[i] is that of the i-th,
 * 0 if it is not.
 */
static void
judge_stored_ids(EsRetry *retry, EsTarget *target, const EsStream *stream, const int64 *versions, int nstored)
{
	EsNewEvent *event = target->first;

	if (target->tries)
	{
		take_stored_id(retry, event, stream, versions[0]);
		return;
	}
	if (nstored < target->count)
	{
		note_partly_stored(retry, target, stream, versions);
		return;
	}
	if (target->expectation == ES_EXPECT_VERSION && versions[0] != target->expected_version + 1)
	{
		note_conflict(retry, ES_CONFLICT_PLACE, event, stream);
		return;
	}
	for (int i = 0; i < target->count; i++, event = event->next)
	{
		if (versions[i] == versions[0] + i)
			continue;
		note_conflict(retry, ES_CONFLICT_PLACE, event, stream);
		return;
	}
	event = compare_stored_run(retry, target->first, target->count, stream, versions[0]);
	if (retry->result == ES_RETRY_NO_KEY)
		return;
	if (event)
		note_conflict(retry, ES_CONFLICT_CONTENT, event, stream);
	else
		retry->result = ES_RETRY_STORED;
}

/* Finds the ids of the events for an existing stream, and judges what is found. */
static void
check_stored_ids(EsRetry *retry, EsTarget *target, const EsStream *stream)
{
	int64	   *versions = NULL;
	int			nstored = 0;
	int			i = 0;

	retry->result = ES_RETRY_NEW;
	for (EsNewEvent *event = target->first; event; event = event->next, i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!event->id_given)
			continue;
		if (versions == NULL)
		{
			Size		size = sizeof(int64) * target->count;

			versions = MemoryContextAllocHuge(CurrentMemoryContext, size);
			memset(versions, 0, size);
		}
		versions[i] = es_stream_find_event_id(stream, &event->id, NULL, &retry->wait_for);
		if (TransactionIdIsValid(retry->wait_for))
		{
			retry->result = ES_RETRY_WAIT;
			return;
		}
		if (versions[i] != 0)
			nstored++;
	}
	if (nstored > 0)
		judge_stored_ids(retry, target, stream, versions, nstored);
	if (versions)
		pfree(versions);
}

/* es_retry_check tells whether the events for an existing stream are stored in it. */
void
es_retry_check(EsRetry *retry, EsTarget *target, const EsStream *stream)
{
	check_stored_ids(retry, target, stream);
	while (retry->result == ES_RETRY_GONE)
	{
		for (EsNewEvent *event = target->first; event; event = event->next)
			event->stored = false;
		check_stored_ids(retry, target, stream);
	}
}

/* Finds the id of one event, whose version is expected unless that is 0, and judges it. */
static void
check_stored_id(EsRetry *retry, EsNewEvent *event, const EsStream *stream)
{
	int64		version = es_stream_find_event_id(stream, &event->id, NULL, &retry->wait_for);
	int64		expected = event->expected;

	CHECK_FOR_INTERRUPTS();
	if (TransactionIdIsValid(retry->wait_for))
		retry->result = ES_RETRY_WAIT;
	else if (version == 0)
		retry->result = ES_RETRY_NEW;
	else if (expected != 0 && expected != version)
		note_conflict(retry, ES_CONFLICT_PLACE, event, stream);
	else if (compare_stored_run(retry, event, 1, stream, version) == NULL)
		retry->result = ES_RETRY_STORED;
	else if (retry->result != ES_RETRY_NO_KEY)
		note_conflict(retry, ES_CONFLICT_CONTENT, event, stream);
}

/*
 * es_retry_check_alone tells the same for one event by itself; a version that
 * is expected of it must be the one it is stored as.
 */
void
es_retry_check_alone(EsRetry *retry, EsNewEvent *event, const EsStream *stream)
{
	retry->result = ES_RETRY_NEW;
	if (!event->id_given)
		return;
	do
		check_stored_id(retry, event, stream);
	while (retry->result == ES_RETRY_GONE);
}

/*
 * es_retry_take_deletion takes the event that has deleted a stream for the one that
 * is to delete it.
 */
void
es_retry_take_deletion(EsTarget *target, const EsStream *stream)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsSegmentScan scan = {.which = ES_INDEX_STREAM,.fresh = &snapshot,.own_slot = true,.needed = true,.nkeys = 1};
	EsNewEvent *event = target->last;
	bool		isnull;

	ScanKeyInit(&scan.keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->id));
	event->position = DatumGetInt64(es_scan_edge(&scan, stream->last_segment, BackwardScanDirection,
												 Anum_es_events_position, &isnull));
	event->version = target->version = stream->truncated_before;
	event->stored = true;
	UnregisterSnapshot(snapshot);
}
