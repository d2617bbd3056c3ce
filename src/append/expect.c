/*
 * expect.c
 *		The streams of an append as they are found, held against what it expects.
 *
 * Looked at under their short locks, before the first position is taken: each stream's newest
 * row and tip, whether its events are stored already, and then whether it is at the version
 * that the caller expects.  All streams are looked at before a refusal is raised.
 */
#include "append/expect.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "append/refusal.h"
#include "append/retry.h"
#include "base/error.h"
#include "log/segment.h"

/*
 * Tells up to when it does not matter when a stream's tip was recorded, as the events are
 * recorded later anyway.  Who deletes a stream keeps it.
 */
static TimestampTz
earliest_time(EsExpect *found)
{
	const EsAppend *append = found->append;

	if (!TIMESTAMP_IS_NOEND(found->earliest))
		return found->earliest;
	found->earliest = append->deletes ? DT_NOBEGIN : GetCurrentTimestamp();
	for (int i = 0; i < append->count; i++)
		if (append->events[i].time_given)
			found->earliest = Min(found->earliest, append->events[i].given_at);
	return found->earliest;
}

/* Finds a stream and its tip; false if a transaction is in the way. */
static bool
find_target(EsExpect *found, EsFoundStream *target)
{
	TimestampTz by = DT_NOBEGIN;

	found->wait_stream = target->asked->stream;
	target->tip.version = 0;
	target->tip.recorded_at = DT_NOBEGIN;
	target->tip.leaf = 0;
	target->known = es_tipcache_find(target->asked->stream);
	if (target->known)
	{
		target->stream = target->known->stream;
		target->stream.name = target->asked->stream;	/* known may go */
		target->tip = target->known->tip;
		return target->exists = true;
	}
	target->exists = es_stream_find_newest(target->asked->stream, &target->stream, &found->wait_for);
	if (TransactionIdIsValid(found->wait_for))
		return false;
	if (!target->exists)
		return true;
	if (!es_segment_is(target->stream.last_segment, found->open))
		by = earliest_time(found);
	if (!es_stream_find_tip(&target->stream, found->open, by, &target->tip, &found->wait_for))
		ereport(ERROR,
				errcode(ES_ERRCODE_STORE_CORRUPT),
				errmsg("stream \"%s\" has no event in its last segment",
					   text_to_cstring(target->asked->stream)));
	return !TransactionIdIsValid(found->wait_for);
}

/* Notes a refusal. */
static void
note_refusal(EsExpect *found, const EsFoundStream *target, EsRefusalReason reason, const EsConflict *conflict)
{
	EsRefusal  *refusal = palloc0(sizeof(EsRefusal));

	refusal->target = target->asked;
	refusal->actual_version = target->tip.version;
	refusal->reason = reason;
	if (conflict)
		refusal->conflict = *conflict;
	found->refusals = lappend(found->refusals, refusal);
}

/*
 * Notes an event that its schema does not allow, or whose subject is shredded, unless it is
 * stored already.
 */
static void
note_unfit_event(EsExpect *found, const EsFoundStream *target)
{
	const EsAppend *append = found->append;
	EsRefusal  *refusal;

	if (likely(!append->any_unfit))
		return;
	for (const EsNewEvent *event = target->asked->first; event; event = event->next)
	{
		if ((event->unfit == NULL && !event->shredded) || event->stored)
			continue;
		note_refusal(found, target, event->unfit ? ES_REFUSED_DATA : ES_REFUSED_SUBJECT, NULL);
		refusal = llast(found->refusals);
		refusal->event = event;
		refusal->number = append->count > 1 && !append->each_alone ? event - append->events + 1 : 0;
		return;
	}
}

/* Tells whether the stream is at the version that the caller expects. */
static bool
version_is_expected(const EsFoundStream *target)
{
	switch (target->asked->expectation)
	{
		case ES_EXPECT_ANY:
			return true;
		case ES_EXPECT_EXISTS:
			return target->tip.version > 0;
		case ES_EXPECT_VERSION:
			return target->tip.version == target->asked->expected_version;
	}
	return false;
}

/* Tells whether what has become of a retry cannot be told yet, and notes what that waits for. */
static bool
must_retry_wait(EsExpect *found, const EsRetry *retry)
{
	found->wait_for = retry->wait_for;
	found->needs_key = retry->result == ES_RETRY_NO_KEY;
	return found->needs_key || retry->result == ES_RETRY_WAIT;
}

/*
 * Checks the events of a stream one by one for being stored; false if there is
 * something to wait for.
 */
static bool
check_each_alone(EsExpect *found, EsFoundStream *target)
{
	for (EsNewEvent *event = target->asked->first; event; event = event->next)
	{
		EsRetry		retry = {.may_ask = found->has_key};

		es_retry_check_alone(&retry, event, &target->stream);
		if (must_retry_wait(found, &retry))
			return false;
		if (retry.result == ES_RETRY_CONFLICT)
			note_refusal(found, target, ES_REFUSED_IDS, &retry.conflict);
	}
	note_unfit_event(found, target);
	return true;
}

/* Checks one stream; false if there is something to wait for. */
static bool
check_target(EsExpect *found, EsFoundStream *target)
{
	EsRetry		retry = {.result = ES_RETRY_NEW,.may_ask = found->has_key};

	CHECK_FOR_INTERRUPTS();
	if (!find_target(found, target))
		return false;
	if (target->exists && target->stream.deleted)
	{
		if (found->append->deletes)
			es_retry_take_deletion(target->asked, &target->stream);
		else
			note_refusal(found, target, ES_REFUSED_DELETED, NULL);
		note_unfit_event(found, target);
		return true;
	}
	if (target->exists && found->append->each_alone)
		return check_each_alone(found, target);
	if (target->exists)
		es_retry_check(&retry, target->asked, &target->stream);
	if (must_retry_wait(found, &retry))
		return false;
	if (retry.result == ES_RETRY_CONFLICT)
		note_refusal(found, target, ES_REFUSED_IDS, &retry.conflict);
	else if (retry.result == ES_RETRY_NEW && !version_is_expected(target) && target->asked->tries)
		found->append->hold_back = true;
	else if (retry.result == ES_RETRY_NEW && !version_is_expected(target))
		note_refusal(found, target, ES_REFUSED_VERSION, NULL);
	note_unfit_event(found, target);
	target->asked->version = retry.result == ES_RETRY_STORED ? target->asked->last->version : target->tip.version;
	return true;
}

/*
 * A call over many streams was stored as a whole or not at all; so if some of
 * its streams have their events already, all must.
 */
static void
check_retries_agree(EsExpect *found)
{
	for (int i = 0; i < found->append->ntargets; i++)
	{
		const EsFoundStream *target = &found->streams[i];
		const EsNewEvent *last = target->asked->last;
		EsConflict	conflict = {.kind = ES_CONFLICT_PARTLY};

		if (last == NULL || !last->stored)
			continue;			/* it has none, or not all of them */
		conflict.id = last->id;
		conflict.version = last->version;
		conflict.position = last->position;
		note_refusal(found, target, ES_REFUSED_IDS, &conflict);
	}
}

/*
 * es_expect_check looks at all streams of a call, and notes why it is refused, if it is; false if
 * that cannot be told before another transaction has ended, or without the master key.
 */
bool
es_expect_check(EsExpect *found)
{
	const EsAppend *append = found->append;

	found->earliest = DT_NOEND;
	for (int i = 0; i < append->ntargets; i++)
		if (!check_target(found, &found->streams[i]))
			return false;
	if (append->ntargets > 1 && !append->each_alone)
	{
		if (es_request_was_stored(append))
			found->refusals = NIL;
		else
			check_retries_agree(found);
	}
	return true;
}
