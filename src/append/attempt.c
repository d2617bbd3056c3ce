/*
 * attempt.c
 *		Appending events to one stream, or to many.
 *
 * One attempt, under the short locks of all streams concerned: find each
 * stream's newest row and tip; check the expectation, and whether this is a
 * retry of what is stored; take positions; write rows and index entries in the
 * given order; note the segment if it is another one.  Positions are taken
 * only after all checks have passed, so a refused append leaves no hole.
 *
 * An attempt that meets another transaction's uncommitted work, or a segment
 * that is not made yet, gives the locks back, waits, and starts again: nothing
 * that can take long happens under a short lock.  What the checks refuse is
 * raised after the locks are given back, too.  What else is wrong is raised
 * under them, where it is met, and the abort gives them back: a stream without
 * the event that its row tells of, a time before that of the last event, a row
 * of a statement that does not get the version it was given, a lost segment.
 *
 * Short locks are taken in ascending order of their tags, each once, so calls
 * never deadlock over them.  A call over many streams waits for transactions
 * before it has written anything, and then holds nothing that appends wait for.
 *
 * Events are written in blocks.  Between the blocks of a single stream the
 * lock is free for others; the uncommitted tip of the block before keeps them
 * off this stream.  A call over many streams keeps its locks to the end, since
 * streams that it has not written to yet have no such tip.
 *
 * After an error everything is undone by the (sub)transaction; positions taken
 * stay holes, which readers may pass once the transaction has ended.
 */
#include "append/attempt.h"

#include "access/transam.h"
#include "access/xact.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "append/eventrow.h"
#include "append/expect.h"
#include "append/refusal.h"
#include "log/segment.h"
#include "log/settle.h"
#include "secret/subject.h"
#include "segment/maker.h"
#include "shared/counter.h"
#include "shared/wake.h"
#include "shared/flight.h"
#include "stream/lock.h"
#include "stream/stream.h"
#include "stream/tipcache.h"
#include "table/table.h"

#define BLOCK_ROWS		ES_TABLE_MOST_ROWS
#define SEGMENT_MARGIN	65536

/* How an attempt ended. */
typedef enum Outcome
{
	GO_ON,						/* checks have passed; or a block is written
								 * and more are to come */
	FINISHED,
	WAIT_FOR_TRANSACTION,		/* found.wait_for, in the way on
								 * found.wait_stream */
	WAIT_FOR_KEY,				/* the master key, to compare with what is
								 * stored */
	WAIT_FOR_SEGMENT,			/* that of attempt.next_position is not made
								 * yet */
	REFUSED						/* found.refusals tell why */
} Outcome;

/* A call on its way. */
typedef struct Attempt
{
	EsAppend   *append;
	EsExpect	found;			/* its streams */
	bool		checked;
	bool		written;		/* some event is */
	int			next;			/* first event that is not yet written, in
								 * append->events */
	int64		next_position;
	TimestampTz now;			/* of the block */
	bool		again;			/* the transaction had appended before */
	uint64		tips;			/* generation of the tips that targets know */
	int64		open_segment;	/* which segment is open; -1: none */
	EsTable		segment;
	int64		first_position; /* of those taken */
	int			npositions;		/* taken, next to each other */
	int			used;			/* of them */
} Attempt;

int64		es_attempt_last_position = 0;

/* ---- the segment that is written to ---- */

/* Closes the segment that is open. */
static void
close_attempt_segment(Attempt *attempt)
{
	if (attempt->open_segment >= 0)
		es_table_close(&attempt->segment);
	attempt->open_segment = -1;
}

/* Opens a segment in place of the one that is open; false if the log has none of that number. */
static bool
open_attempt_segment(Attempt *attempt, int64 segment)
{
	Relation	rel;
	bool		lost;

	if (attempt->open_segment == segment)
		return true;
	close_attempt_segment(attempt);
	rel = es_segment_open(segment, RowExclusiveLock, &lost);
	if (rel == NULL)
		return false;
	es_table_begin(&attempt->segment, rel, &es_segment_event_shape);
	attempt->open_segment = segment;
	return true;
}

/*
 * Opens the segment that is most likely the one: that of the session's last
 * append, unless the log has gone on from there.
 */
static void
open_likely_segment(Attempt *attempt)
{
	int64		newest = es_segment_newest();
	int64		segment = es_attempt_last_position > 0 ? es_segment_of(es_attempt_last_position) : newest;

	if (segment >= newest - 1)
		(void) open_attempt_segment(attempt, segment);
}

/* All that is checked before the first position is taken. */
static Outcome
check_streams(Attempt *attempt)
{
	EsExpect   *found = &attempt->found;

	found->open = attempt->open_segment >= 0 ? &attempt->segment : NULL;
	if (!es_expect_check(found))
		return found->needs_key ? WAIT_FOR_KEY : WAIT_FOR_TRANSACTION;
	return found->refusals == NIL ? GO_ON : REFUSED;
}

/* ---- writing ---- */

/*
 * Sees to it that a stream's row is there, names the segment of its next event, and
 * says so if that one deletes the stream: then all before it is hidden.
 */
static void
prepare_stream(const Attempt *attempt, EsFoundStream *target, const EsNewEvent *event, int64 segment)
{
	EsStream   *stream = &target->stream;

	stream->name = target->asked->stream;
	if (stream->last_segment != segment)
		target->tip.leaf = 0;
	stream->last_segment = segment;
	stream->deleted = attempt->append->deletes;
	if (stream->deleted)
	{
		stream->truncated_before = target->tip.version + 1;
		stream->truncated_at = target->tip.recorded_at;
		stream->has_hidden = target->exists;
	}
	if (!target->exists)
	{
		stream->first_segment = segment;
		stream->created_at = es_eventrow_recorded_at(event, &target->tip, attempt->now);
		es_stream_create(stream);
		target->exists = true;
	}
	else
		es_stream_update(stream);
}

/* Makes an event its stream's tip. */
static void
become_stream_tip(const Attempt *attempt, EsFoundStream *target, EsNewEvent *event, int64 position)
{
	if (event->expected != 0 && event->expected != target->tip.version + 1)
	{
		EsTarget	wanted = {.stream = target->asked->stream,.expectation = ES_EXPECT_VERSION,
		.expected_version = event->expected - 1};
		EsRefusal	refusal = {.target = &wanted,.actual_version = target->tip.version,.reason = ES_REFUSED_VERSION};

		es_refusal_raise(list_make1(&refusal), false);
	}
	event->recorded_at = es_eventrow_recorded_at(event, &target->tip, attempt->now);
	event->version = target->tip.version + 1;
	event->position = position;
	target->tip.version = event->version;
	target->tip.recorded_at = event->recorded_at;
	target->written = true;
	target->asked->version = event->version;
}

/* The next event that is to be written; NULL after the last. */
static EsNewEvent *
next_event_to_write(Attempt *attempt)
{
	EsAppend   *append = attempt->append;

	while (attempt->next < append->count && append->events[attempt->next].stored)
		attempt->next++;
	return attempt->next < append->count ? &append->events[attempt->next] : NULL;
}

/* Writes the next n events, at positions from position on that lie in one segment. */
static void
write_event_run(Attempt *attempt, int64 position, int n)
{
	int64		segment = es_segment_of(position);
	EsTable    *table = &attempt->segment;

	if (!open_attempt_segment(attempt, segment))
		es_segment_refuse_lost(segment);
	for (int i = 0; i < n; i++)
	{
		EsNewEvent *event = next_event_to_write(attempt);
		EsFoundStream *target = &attempt->found.streams[event->target - attempt->append->targets];

		if (!target->exists || target->stream.last_segment != segment || attempt->append->deletes)
			prepare_stream(attempt, target, event, segment);
		become_stream_tip(attempt, target, event, position + i);
		es_eventrow_fill(es_table_slot(table, i), &target->stream, event);
		es_wake_note(es_wake_category(target->stream.category_key));
		attempt->next++;
	}
	es_eventrow_join_runs(table, n);
	es_table_insert(table, n);
	if (attempt->append->ntargets == 1)
		es_stream_note_tip(&attempt->found.streams[0].stream, &attempt->found.streams[0].tip, table);
	es_counter_add(ES_COUNT_EVENTS_APPENDED, n);
}

/* Tells whether a call keeps its locks from the checks to the last event. */
static bool
keeps_locks_to_end(const EsAppend *append)
{
	return append->ntargets > 1 || append->in_one_block;
}

/* How many events are still to be written, most of them if there are more. */
static int
count_pending_events(const Attempt *attempt, int most)
{
	const EsAppend *append = attempt->append;
	int			n = 0;

	for (int i = attempt->next; i < append->count && n < most; i++)
		if (!append->events[i].stored)
			n++;
	return n;
}

/*
 * Tells whether positions past the newest segment might be handed out.  Far from its end, as of the
 * last append here, the sequence is not asked: others may come that far once, in vain.
 */
static bool
segment_may_end(Attempt *attempt, int n)
{
	int64		newest = es_segment_newest();

	if (newest >= 0 && es_attempt_last_position > 0 &&
		es_attempt_last_position + n + SEGMENT_MARGIN < es_segment_last_position(newest))
		return false;
	attempt->next_position = es_settle_last_given() + n;
	return es_segment_of(attempt->next_position) > newest;
}

/*
 * Takes positions: for the next block, or, in a call over many streams, for
 * all that is to be written, so that nothing can come between its blocks.
 */
static Outcome
take_positions(Attempt *attempt)
{
	int			n = count_pending_events(attempt, keeps_locks_to_end(attempt->append) ? INT_MAX : BLOCK_ROWS);

	attempt->npositions = attempt->used = 0;
	attempt->append->held_back = n > 0 && attempt->append->hold_back;
	if (n == 0 || attempt->append->held_back)
		return FINISHED;
	if (segment_may_end(attempt, n))
		return WAIT_FOR_SEGMENT;
	attempt->first_position = es_settle_take(n);
	es_flight_say_first(attempt->first_position);
	attempt->next_position = attempt->first_position + n - 1;
	if (es_segment_of(attempt->next_position) > es_segment_newest())
	{
		es_settle_note_hole(attempt->next_position);	/* others were faster */
		return WAIT_FOR_SEGMENT;
	}
	attempt->npositions = n;
	attempt->now = GetCurrentTimestamp();
	return GO_ON;
}

/* Writes the next block. */
static Outcome
write_event_block(Attempt *attempt)
{
	int64		position;
	int64		end;

	if (attempt->used == attempt->npositions)
	{
		Outcome		outcome = take_positions(attempt);

		if (outcome != GO_ON)
			return outcome;
	}
	position = attempt->first_position + attempt->used;
	end = position + Min(attempt->npositions - attempt->used, BLOCK_ROWS);
	while (position < end)
	{
		int64		segment_end = es_segment_last_position(es_segment_of(position)) + 1;
		int			n = Min(end, segment_end) - position;

		write_event_run(attempt, position, n);
		attempt->used += n;
		position += n;
	}
	attempt->written = true;
	return next_event_to_write(attempt) ? GO_ON : FINISHED;
}

/* ---- the call ---- */

/* One attempt, under the short locks: checks, if that is still to be done, and writes. */
static Outcome
attempt_under_locks(Attempt *attempt, MemoryContext block_context)
{
	EsAppend   *append = attempt->append;
	Outcome		outcome = GO_ON;

	if (!attempt->checked)
		outcome = check_streams(attempt);
	attempt->checked = outcome == GO_ON;
	while (outcome == GO_ON)
	{
		outcome = write_event_block(attempt);
		if (!keeps_locks_to_end(append))
			break;
		if (outcome == GO_ON)
			MemoryContextReset(block_context);
	}

	/* the locks will be free: streams without events of ours may change */
	if (outcome == WAIT_FOR_SEGMENT && !attempt->written)
		attempt->checked = false;
	return outcome;
}

/* One attempt: takes the short locks of all streams that the call is about, and gives them back. */
static Outcome
attempt_append(Attempt *attempt, MemoryContext block_context)
{
	EsAppend   *append = attempt->append;
	EsStreamLocks locks = {0};
	Outcome		outcome;

	for (int i = 0; i < append->ntargets; i++)
		es_streamlock_add(&locks, append->targets[i].stream, append->targets[i].tag_bits);
	es_streamlock_acquire(&locks);
	outcome = attempt_under_locks(attempt, block_context);
	es_streamlock_release(&locks);
	return outcome;
}

/*
 * Waits for the transaction in the way.  A call on one stream waits the first time only for the
 * place at the head of the stream's queue: by then the way may be free.  One on many streams
 * must not hold one queue while it waits in another, and takes none.
 */
static void
wait_for_transaction(const Attempt *attempt, EsStreamQueue *queue, bool *queued)
{
	if (*queued || attempt->append->ntargets > 1)
		es_streamlock_await(attempt->found.wait_for);
	else
	{
		es_streamlock_queue(queue, attempt->found.wait_stream);
		*queued = true;
	}
}

/* Sets out on a call: what lives as long as it does. */
static void
begin_attempt(Attempt *attempt, EsAppend *append)
{
	memset(attempt, 0, sizeof(*attempt));
	attempt->append = attempt->found.append = append;
	attempt->open_segment = -1;
	attempt->tips = es_tipcache_begin_call();
	attempt->again = es_settle_own_first() != PG_INT64_MAX;
	attempt->found.streams = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsFoundStream) * Max(append->ntargets, 1));
	for (int i = 0; i < append->ntargets; i++)
	{
		attempt->found.streams[i].asked = &append->targets[i];
		attempt->found.streams[i].written = false;
	}
}

/* Waits for what an attempt was in vain for; what is to be checked again is found anew. */
static void
wait_for_obstacle(Attempt *attempt, Outcome outcome, EsStreamQueue *queue, bool *queued)
{
	if (outcome == WAIT_FOR_TRANSACTION)
		wait_for_transaction(attempt, queue, queued);
	else if (outcome == WAIT_FOR_KEY)
	{
		es_subject_require_master();
		attempt->found.has_key = true;
	}
	else
	{
		close_attempt_segment(attempt);
		es_maker_ensure(attempt->next_position);
	}
	attempt->found.refusals = NIL;
	attempt->found.needs_key = false;
	if (attempt->checked)
		return;
	for (int i = 0; i < attempt->append->count; i++)
		attempt->append->events[i].stored = false;
}

/* Attempts until the call is done.  Who is next in the queue does not wait for a refusal's disk. */
static void
run_attempts(Attempt *attempt, MemoryContext block_context)
{
	EsStreamQueue queue;
	bool		queued = false;
	Outcome		outcome;

	do
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(block_context);
		open_likely_segment(attempt);	/* now, since DDL may make it wait */
		outcome = attempt_append(attempt, block_context);
		if (outcome == WAIT_FOR_TRANSACTION || outcome == WAIT_FOR_KEY || outcome == WAIT_FOR_SEGMENT)
			wait_for_obstacle(attempt, outcome, &queue, &queued);
		else if (attempt->npositions > 0)
			es_maker_ask_ahead(attempt->first_position, attempt->next_position);
	} while (outcome != FINISHED && outcome != REFUSED);
	if (queued)
		es_streamlock_leave_queue(&queue);
	if (outcome == REFUSED)
		es_refusal_raise(attempt->found.refusals, attempt->append->many);
	MemoryContextReset(block_context);
	if (attempt->append->check)
		attempt->append->check(attempt->append, attempt->open_segment < 0 ? NULL : &attempt->segment);
	close_attempt_segment(attempt);
}

/* Remembers the tips that a call has written, from the second call of a transaction on. */
static void
remember_tips(const Attempt *attempt)
{
	bool		good = es_tipcache_generation() == attempt->tips;

	if (!attempt->again)
		return;
	for (int i = 0; i < attempt->append->ntargets; i++)
	{
		const EsFoundStream *target = &attempt->found.streams[i];

		if (target->written)
			es_tipcache_keep(good ? target->known : NULL, &target->stream, &target->tip);
	}
}

/*
 * es_attempt_run appends events, or raises.  The caller has entered, and checked names
 * and values.  Memory for a block is freed before the next.
 */
void
es_attempt_run(EsAppend *append)
{
	Attempt		attempt;
	MemoryContext block_context;
	MemoryContext old;

	begin_attempt(&attempt, append);
	block_context = AllocSetContextCreate(CurrentMemoryContext, "eventstore append",
										  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(block_context);
	run_attempts(&attempt, block_context);
	remember_tips(&attempt);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(block_context);
	pfree(attempt.found.streams);
	if (append->count > 0 && !append->held_back)
		es_attempt_last_position = append->position = append->events[append->count - 1].position;
}
