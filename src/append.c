/*
 * append.c
 *		Appending events to one stream.
 *
 * One attempt, under the stream's short lock: find the stream's newest row and
 * tip; check the expectation, and whether this is a retry of what is stored;
 * take positions; write rows and index entries; note the segment if it is
 * another one.  Positions are taken only after all checks have passed, so a
 * refused append leaves no hole.
 *
 * An attempt that meets another transaction's uncommitted work, or a segment
 * that is not made yet, gives the lock back, waits, and starts again: nothing
 * that can take long happens under the short lock.  Failures are raised after
 * the lock is released, too.
 *
 * Batches are written in blocks.  Between blocks the lock is free for others;
 * the uncommitted tip of the block before keeps them off this stream.
 *
 * After an error everything is undone by the (sub)transaction; positions taken
 * stay holes, which readers may pass once the transaction has ended.
 */
#include "append.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "maker.h"
#include "retry.h"
#include "uuid7.h"

#define BLOCK_ROWS		1000

/* How an attempt ended. */
typedef enum Outcome
{
	STORED,						/* a block is written; maybe not the last */
	NOTHING_TO_STORE,			/* an empty batch, or a retry of what is stored */
	WAIT_FOR_TRANSACTION,		/* attempt.wait_for is in the way */
	WAIT_FOR_SEGMENT,			/* that of attempt.next_position is not made yet */
	WRONG_VERSION,
	WRONG_RETRY,				/* ids are stored, but not as this call would */
	DELETED
} Outcome;

/* An append on its way. */
typedef struct Attempt
{
	EsAppend   *append;
	EsStream	stream;
	bool		stream_exists;
	EsTip		tip;			/* of the stream, blocks that are written included */
	int			done;			/* events written so far */
	TransactionId wait_for;
	int64		next_position;
	TimestampTz now;			/* of the block */
	EsRetry		retry;
	int64	   *positions;		/* of the block */
} Attempt;

static int64 last_position = 0; /* of this session; 0: none yet */

PG_FUNCTION_INFO_V1(es_append);
PG_FUNCTION_INFO_V1(es_append_batch);
PG_FUNCTION_INFO_V1(es_append_events);
PG_FUNCTION_INFO_V1(es_last_position);

/* Raises unless this session may write now. */
static void
check_may_write(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot append events during recovery"),
				errhint("Append on the primary server."));
	PreventCommandIfReadOnly("append of events");
	PreventCommandIfParallelMode("append of events");
}

/* ---- checks ---- */

/* Finds the stream and its tip; false if a transaction is in the way. */
static bool
find_stream(Attempt *attempt)
{
	attempt->tip.version = 0;
	attempt->tip.recorded_at = DT_NOBEGIN;
	attempt->stream_exists = es_stream_find_newest(attempt->append->stream, &attempt->stream,
												   &attempt->wait_for);
	if (TransactionIdIsValid(attempt->wait_for))
		return false;
	if (!attempt->stream_exists)
		return true;
	if (!es_stream_find_tip(&attempt->stream, &attempt->tip, &attempt->wait_for))
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("stream \"%s\" has no event in its last segment",
					   text_to_cstring(attempt->append->stream)));
	return !TransactionIdIsValid(attempt->wait_for);
}

/* Tells whether the stream is at the version that the caller expects. */
static bool
version_is_expected(const Attempt *attempt)
{
	const EsAppend *append = attempt->append;

	switch (append->expectation)
	{
		case ES_EXPECT_ANY:
			return true;
		case ES_EXPECT_EXISTS:
			return attempt->tip.version > 0;
		case ES_EXPECT_VERSION:
			return attempt->tip.version == append->expected_version;
	}
	return false;
}

/* All that is checked before the first position is taken; STORED means go on. */
static Outcome
check(Attempt *attempt)
{
	EsAppend   *append = attempt->append;

	if (!find_stream(attempt))
		return WAIT_FOR_TRANSACTION;
	if (attempt->stream_exists && attempt->stream.deleted)
		return DELETED;
	if (attempt->stream_exists)
	{
		es_retry_check(&attempt->retry, append, &attempt->stream);
		if (attempt->retry.result == ES_RETRY_WAIT)
		{
			attempt->wait_for = attempt->retry.wait_for;
			return WAIT_FOR_TRANSACTION;
		}
		if (attempt->retry.result == ES_RETRY_CONFLICT)
			return WRONG_RETRY;
		if (attempt->retry.result == ES_RETRY_STORED)
		{
			append->version = attempt->retry.last.version;
			append->recorded_at = attempt->retry.last.recorded_at;
			append->position = attempt->retry.position;
			return NOTHING_TO_STORE;
		}
	}
	if (!version_is_expected(attempt))
		return WRONG_VERSION;
	if (append->count == 0)
	{
		append->version = attempt->tip.version;
		return NOTHING_TO_STORE;
	}
	return STORED;
}

/* ---- writing ---- */

/* The time that an event is recorded at: never before the one before it. */
static TimestampTz
time_of(const Attempt *attempt, const EsNewEvent *event)
{
	if (!event->time_given)
		return Max(attempt->now, attempt->tip.recorded_at);
	if (event->recorded_at < attempt->tip.recorded_at)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("recorded_at must not be earlier than that of the stream's last event"),
				errdetail("Stream \"%s\" has an event of %s; %s was given.",
						  text_to_cstring(attempt->append->stream),
						  timestamptz_to_str(attempt->tip.recorded_at),
						  pstrdup(timestamptz_to_str(event->recorded_at))));
	return event->recorded_at;
}

/* Fills a slot with the next event of the stream and makes it the tip. */
static void
fill_slot(Attempt *attempt, TupleTableSlot *slot, int64 position)
{
	const EsNewEvent *event = &attempt->append->events[attempt->done];
	Datum	   *v = slot->tts_values;

	attempt->tip.recorded_at = time_of(attempt, event);
	attempt->tip.version++;
	attempt->done++;
	v[Anum_es_events_position - 1] = Int64GetDatum(position);
	v[Anum_es_events_stream_id - 1] = Int64GetDatum(attempt->stream.id);
	v[Anum_es_events_version - 1] = Int64GetDatum(attempt->tip.version);
	v[Anum_es_events_recorded_at - 1] = TimestampTzGetDatum(attempt->tip.recorded_at);
	v[Anum_es_events_event_id - 1] = UUIDPGetDatum(&event->id);
	v[Anum_es_events_category_key - 1] = Int32GetDatum(attempt->stream.category_key);
	v[Anum_es_events_type_version - 1] = Int32GetDatum(1);
	v[Anum_es_events_id_given - 1] = BoolGetDatum(event->id_given);
	v[Anum_es_events_stream - 1] = PointerGetDatum(attempt->append->stream);
	v[Anum_es_events_type - 1] = PointerGetDatum(event->type);
	v[Anum_es_events_data - 1] = event->data;
	v[Anum_es_events_metadata - 1] = event->metadata;
	memset(slot->tts_isnull, false, Natts_es_events * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

/* Writes the next events, at positions that lie in one segment. */
static void
write_run(Attempt *attempt, const int64 *positions, int n)
{
	int64		segment = es_segment_of(positions[0]);
	Oid			relid = es_segment_relid(segment);
	EsTable		table;

	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("segment " INT64_FORMAT " of the log is detached", segment));
	es_store_open(&table, relid);
	for (int i = 0; i < n; i++)
		fill_slot(attempt, es_store_slot(&table, i), positions[i]);
	es_store_insert(&table, n, NULL);
	es_store_close(&table);
}

/* Sees to it that the stream's row is there and names the segment of the block's end. */
static void
prepare_stream(Attempt *attempt, int64 first_segment, int64 last_segment)
{
	EsStream   *stream = &attempt->stream;
	const EsNewEvent *event = &attempt->append->events[attempt->done];

	if (!attempt->stream_exists)
	{
		stream->first_segment = first_segment;
		stream->last_segment = last_segment;
		stream->truncated_before = 1;
		stream->created_at = time_of(attempt, event);
		stream->deleted = false;
		stream->name = attempt->append->stream;
		es_stream_create(stream);
		attempt->stream_exists = true;
	}
	else if (stream->last_segment != last_segment)
		es_stream_move_to_segment(stream, last_segment);
}

/* Takes positions for the next block and writes it. */
static Outcome
write_block(Attempt *attempt)
{
	int			n = Min(attempt->append->count - attempt->done, BLOCK_ROWS);
	int64	   *positions = attempt->positions;

	attempt->next_position = es_settle_last_given() + n;
	if (es_segment_of(attempt->next_position) > es_segment_newest())
		return WAIT_FOR_SEGMENT;
	attempt->next_position = es_settle_take(positions, n);
	if (es_segment_of(attempt->next_position) > es_segment_newest())
		return WAIT_FOR_SEGMENT;	/* others were faster; ours stay holes */

	attempt->now = GetCurrentTimestamp();
	prepare_stream(attempt, es_segment_of(positions[0]), es_segment_of(positions[n - 1]));
	for (int i = 0, run; i < n; i += run)
	{
		int64		segment = es_segment_of(positions[i]);

		for (run = 1; i + run < n && es_segment_of(positions[i + run]) == segment; run++)
			 /* count */ ;
		write_run(attempt, positions + i, run);
	}
	attempt->append->version = attempt->tip.version;
	attempt->append->recorded_at = attempt->tip.recorded_at;
	attempt->append->position = positions[n - 1];
	return STORED;
}

/* One attempt, under the stream's short lock. */
static Outcome
try_block(Attempt *attempt)
{
	if (attempt->done == 0)
	{
		Outcome		outcome = check(attempt);

		if (outcome != STORED)
			return outcome;
	}
	return write_block(attempt);
}

/* ---- the call ---- */

/* What a refusal's DETAIL says of the versions. */
static char *
describe_versions(const Attempt *attempt)
{
	const EsAppend *append = attempt->append;

	if (append->expectation == ES_EXPECT_ANY)
		return psprintf("Expected any version, actual version is " INT64_FORMAT ".",
						attempt->tip.version);
	return psprintf("Expected version is " INT64_FORMAT ", actual version is " INT64_FORMAT ".",
					append->expectation == ES_EXPECT_EXISTS ? (int64) -1 : append->expected_version,
					attempt->tip.version);
}

/* Raises what an attempt that was refused deserves. */
static void
refuse(const Attempt *attempt, Outcome outcome)
{
	const char *stream = text_to_cstring(attempt->append->stream);

	if (outcome == DELETED)
		ereport(ERROR,
				errcode(ES_ERRCODE_STREAM_DELETED),
				errmsg("stream \"%s\" is deleted", stream));
	if (outcome == WRONG_RETRY)
		ereport(ERROR,
				errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
				errmsg("wrong expected version of stream \"%s\": event ids are stored already, but not as given", stream),
				errdetail("%s %s", describe_versions(attempt), attempt->retry.detail),
				errhint("Reload the stream and retry with new event ids."));
	ereport(ERROR,
			errcode(ES_ERRCODE_WRONG_EXPECTED_VERSION),
			errmsg("wrong expected version of stream \"%s\"", stream),
			errdetail("%s", describe_versions(attempt)),
			errhint("Reload the stream and retry."));
}

/*
 * Waits for the transaction in the way.  The first time only for the place at
 * the head of the stream's queue: by then the way may be free.
 */
static void
wait_for_transaction(const Attempt *attempt, EsStreamLock *queue, bool *queued)
{
	if (*queued)
		XactLockTableWait(attempt->wait_for, NULL, NULL, XLTW_None);
	else
		es_stream_queue(queue, attempt->append->stream);
	*queued = true;
}

/* Does what an attempt's outcome asks for; true when the call is done. */
static bool
go_on(Attempt *attempt, Outcome outcome, EsStreamLock *queue, bool *queued)
{
	switch (outcome)
	{
		case STORED:
			{
				int			n = (attempt->done - 1) % BLOCK_ROWS + 1;

				es_maker_ask_ahead(attempt->positions[0], attempt->positions[n - 1]);
				return attempt->done == attempt->append->count;
			}
		case NOTHING_TO_STORE:
			return true;
		case WAIT_FOR_TRANSACTION:
			wait_for_transaction(attempt, queue, queued);
			return false;
		case WAIT_FOR_SEGMENT:
			es_maker_ensure(attempt->next_position);
			return false;
		default:
			refuse(attempt, outcome);
			return false;
	}
}

/* Gives ids to events that have none; raises 22023 if an id comes twice. */
static void
complete_ids(EsAppend *append)
{
	for (int i = 0; i < append->count; i++)
		if (!append->events[i].id_given)
			es_uuid7_make(&append->events[i].id);
	es_retry_check_distinct(append);
}

/*
 * es_append_run appends events to a stream, or raises.  The caller has checked
 * names and values.  Memory for a block is freed before the next.
 */
void
es_append_run(EsAppend *append)
{
	Attempt		attempt = {.append = append};
	MemoryContext old;
	MemoryContext block_context;
	EsStreamLock queue;
	bool		queued = false;
	bool		finished = false;

	check_may_write();
	complete_ids(append);
	attempt.positions = palloc(sizeof(int64) * Max(1, Min(append->count, BLOCK_ROWS)));
	block_context = AllocSetContextCreate(CurrentMemoryContext, "eventstore append",
										  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(block_context);
	while (!finished)
	{
		EsStreamLock lock;
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		es_stream_lock(&lock, append->stream);
		outcome = try_block(&attempt);
		es_stream_unlock(&lock);
		finished = go_on(&attempt, outcome, &queue, &queued);
		MemoryContextReset(block_context);
	}
	if (queued)
		es_stream_unlock(&queue);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(block_context);
	pfree(attempt.positions);
	if (append->count > 0)
		last_position = append->position;
}

/* ---- SQL ---- */

/*
 * es_append(stream, type, data, metadata, expected_version, event_id): appends
 * one event and returns its version.
 *
 * NULL stream, type or data is 22004, NULL metadata {}, NULL event_id a new
 * UUIDv7, NULL expected_version any.  Bad names, metadata that is no object:
 * 22023.  VE001 if the stream is not as expected, VE003 if it is deleted.
 * Waits for a transaction that has appended to the stream and not ended.
 * A rollback takes the event back; its position stays empty.
 */
Datum
es_append(PG_FUNCTION_ARGS)
{
	EsNewEvent	event = {0};
	EsAppend	append = {.events = &event,.count = 1};

	append.stream = es_base_stream_arg(fcinfo, 0);
	es_base_require(fcinfo, 1, "type");
	es_base_require(fcinfo, 2, "data");
	event.type = PG_GETARG_TEXT_PP(1);
	event.data = PG_GETARG_DATUM(2);
	event.metadata = PG_ARGISNULL(3) ? es_request_empty_object() : PG_GETARG_DATUM(3);
	es_request_expectation(&append, fcinfo, 4);
	event.id_given = !PG_ARGISNULL(5);
	if (event.id_given)
		event.id = *PG_GETARG_UUID_P(5);
	es_request_check_event(&event);
	es_append_run(&append);
	PG_RETURN_INT64(append.version);
}

/*
 * es_append_batch(stream, events, expected_version): appends a JSON array of
 * {"type", "data"?, "metadata"?, "event_id"?}, all or nothing, contiguous in
 * version, and returns the last version.
 *
 * An empty array checks the expectation and returns the stream's version.
 * Anything but such an array is 22023; the rest is as for es_append.
 */
Datum
es_append_batch(PG_FUNCTION_ARGS)
{
	EsAppend	append = {0};

	append.stream = es_base_stream_arg(fcinfo, 0);
	es_base_require(fcinfo, 1, "events");
	es_request_expectation(&append, fcinfo, 2);
	es_request_from_json(&append, PG_GETARG_JSONB_P(1));
	es_append_run(&append);
	PG_RETURN_INT64(append.version);
}

/*
 * es_append_events(stream, events, expected_version): es_append_batch for an
 * es_new_event[].  NULL elements, and elements without type or data, are 22004.
 */
Datum
es_append_events(PG_FUNCTION_ARGS)
{
	EsAppend	append = {0};

	append.stream = es_base_stream_arg(fcinfo, 0);
	es_base_require(fcinfo, 1, "events");
	es_request_expectation(&append, fcinfo, 2);
	es_request_from_array(&append, PG_GETARG_ARRAYTYPE_P(1));
	es_append_run(&append);
	PG_RETURN_INT64(append.version);
}

/*
 * es_last_position(): the position of the last event that this session
 * appended, or of the stored one after an idempotent retry.
 *
 * NULL before the first.  Like lastval(), a rollback does not undo it.
 */
Datum
es_last_position(PG_FUNCTION_ARGS)
{
	if (last_position == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(last_position);
}
