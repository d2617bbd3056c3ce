/*
 * retention.c
 *		Carrying out the rules on which events age out.
 *
 * A rule must cost what is new, not what is there.  So the log is walked, over the events of
 * the rule's category, in two ways, each from where it was left (policy.h).  One looks at
 * events as they arrive: those that make a stream longer than it may be, and those that are
 * too old already, by an import.  The other one comes behind by the age: events are in the
 * log nearly in the order of their times, so it stops at the first that is not too old yet,
 * and once more when that one is.  An event says no more than that something may be due in
 * its stream; how much is found out from the stream.
 *
 * A call does one batch, in the caller's transaction, which had better end soon.  First the
 * states of all streams of the batch are kept (keep.c), which may take long, each in a
 * subtransaction: what fails there passes that stream over.  Then their rows are changed, for
 * which nobody is waited for: appends to these streams wait from then to the transaction's
 * end.  Where one of them cannot be changed, each is by itself, in a subtransaction, and that one
 * is passed over.  Streams that are passed over are come back to (skipped.c).
 *
 * Segments that are away are passed over: what they have is neither counted nor hidden, but
 * for what is older than something that is hidden.  When one is back the walks go back to it,
 * and to what is here before it (attach.c).  A rule that fails is as if it had not been tried,
 * and the others go on; the caller tells of it (es_retention_report).
 *
 * States are made as the store's owner, by functions and types that he trusts.  One process
 * carries out rules at a time, by a lock on their table.  After a crash a batch is done or not.
 */
#include "lifecycle/retention.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/event.h"
#include "base/names.h"
#include "base/objects.h"
#include "base/owner.h"
#include "base/quiet.h"
#include "fold/snapshot.h"
#include "lifecycle/due.h"
#include "lifecycle/keep.h"
#include "lifecycle/policy.h"
#include "lifecycle/skipped.h"
#include "lifecycle/truncate.h"
#include "log/segment.h"
#include "log/settle.h"
#include "log/subscriber.h"
#include "read/log.h"
#include "stream/change.h"
#include "stream/stream.h"
#include "table/rows.h"
#include "type/handler.h"

PG_FUNCTION_INFO_V1(es_retention_run);

#define MOST_EVENTS		1000	/* that a batch takes from the log */
#define MOST_STREAMS	64		/* that it truncates */
#define MOST_US			(USECS_PER_SEC / 2) /* after which it ends */
#define CHUNK			20000	/* positions walked over between looks at the
								 * clock */

/* A stream in which something may be due. */
typedef struct Candidate
{
	const text *stream;			/* hash key */
	int64		position;		/* of the first event that says so */
	int64		least;			/* due only while this version is not hidden */
	int64		before;			/* hide versions before this one; 0: none */
} Candidate;

/* A batch on its way, in a memory context of its own. */
typedef struct Batch
{
	EsRetentionRound *round;
	TimestampTz began;
	EsPolicy   *policies;
	int			npolicies;
	const EsPolicy *policy;		/* the one that is being carried out */
	TimestampTz cutoff;			/* by it: events before this are too old */
	int64		settled;
	bool		arriving;		/* which walk this is */
	bool		stopped;		/* at an event that is not too old */
	EsLogFilter filter;
	int64		at;				/* where the walk is */
	HTAB	   *known;			/* candidates by stream */
	List	   *candidates;		/* in order of position */
	List	   *due;			/* those whose states are kept */
} Batch;

/*
 * Categories whose rules have failed in the round that this process is at; of no meaning before
 * one has.  In a context of their own, which the next round's first failure resets.
 */
static MemoryContext failed_context = NULL;
static List *failed_rules = NIL;

/* Tells whether a batch has had its time. */
static bool
has_batch_expired(const Batch *batch)
{
	return GetCurrentTimestamp() - batch->began > MOST_US;
}

/*
 * Tells whether what made a stream a candidate is not hidden yet.  Where its last event is away
 * nobody knows how much is due: the walks go back to the stream as that is attached.
 */
static bool
is_still_due(const Candidate *candidate)
{
	Snapshot	snapshot = es_rows_fresh_snapshot();
	EsStream	stream;
	bool		due = es_stream_find(candidate->stream, &snapshot, true, &stream) && !stream.deleted &&
	stream.truncated_before <= candidate->least && !es_segment_is_lost(stream.last_segment);

	UnregisterSnapshot(snapshot);
	return due;
}

/* ---- keeping ---- */

/* A stream whose states are being kept. */
typedef struct Keeping
{
	const Batch *batch;
	Candidate  *candidate;
} Keeping;

/*
 * Finds out what is due in a stream, and keeps its states, as the store's owner: with his
 * rights, and as one who calls functions for somebody else.
 */
static void
keep_due_states(void *arg)
{
	Keeping    *keeping = arg;
	Candidate  *candidate = keeping->candidate;
	const Batch *batch = keeping->batch;
	const EsPolicy *policy = es_policy_of(batch->policies, batch->npolicies, candidate->stream);
	EsOwnerContext caller;
	EsStream	stream;

	candidate->before = policy == NULL ? 0 :
		es_due_version(policy, batch->round->began, candidate->stream, &stream);
	if (candidate->before == 0)
		return;
	es_owner_restrict(&caller);
	es_handler_enter_behalf(0);
	if (!es_keep_states(&stream, candidate->before - 1, batch->round->by_hand))
		candidate->before = -1;
	es_handler_leave_behalf();
	es_owner_leave(&caller);
}

/* Tells whether a rule is the one for a stream. */
static bool
is_stream_of_policy(const text *stream, void *arg)
{
	const Batch *batch = arg;

	return es_policy_of(batch->policies, batch->npolicies, stream) == batch->policy;
}

/* Raises an error again that is nobody's failure: who runs this is told to stop. */
static void
rethrow_interruption(ErrorData *error)
{
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
}

/* What an error says. */
static const char *
message_of_error(const ErrorData *error)
{
	return error->message ? error->message : "unknown error";
}

/* Notes that a stream was passed over for a reason; says so if it is the only one of its rule. */
static void
note_failed_stream(Batch *batch, const Candidate *candidate, ErrorData *error)
{
	const EsPolicy *policy = es_policy_of(batch->policies, batch->npolicies, candidate->stream);
	bool		told;

	rethrow_interruption(error);
	if (policy == NULL)
		ReThrowError(error);
	es_error_cut(error);
	batch->policy = policy;
	told = es_skipped_any(is_stream_of_policy, batch);
	es_skipped_note(candidate->stream, message_of_error(error));
	if (told)
		return;
	ereport(WARNING,
			errcode(error->sqlerrcode),
			errmsg("retention of category \"%s\" passes over streams that cannot be truncated",
				   es_names_show_text(policy->category)),
			errdetail("Stream \"%s\": %s.", es_names_show_text(candidate->stream), message_of_error(error)),
			errhint("View es_retention tells how many there are.  They are tried again; no other stream waits for them."));
}

/* Does for a stream what comes before its row is changed. */
static void
take_candidate_in(Batch *batch, Candidate *candidate)
{
	Keeping		keeping = {.batch = batch,.candidate = candidate};
	ErrorData  *error;

	candidate->before = 0;
	if (!is_still_due(candidate))
		return;
	error = es_quiet_try(keep_due_states, &keeping);
	if (error)
	{
		candidate->before = -1;
		note_failed_stream(batch, candidate, error);
	}
	else if (candidate->before < 0)
		es_skipped_note(candidate->stream, NULL);
	else if (candidate->before > 0)
		batch->due = lappend(batch->due, candidate);
}

/* ---- the walk ---- */

/* Tells whether a walk is to look at an event. */
static bool
concerns_walk(const EsEvent *event, void *arg)
{
	const Batch *batch = arg;
	const EsPolicy *policy = batch->policy;

	if (policy->is_for_others &&
		es_policy_of(batch->policies, batch->npolicies, DatumGetTextPP(event->stream)) != policy)
		return false;
	return !batch->arriving || event->recorded_at < batch->cutoff ||
		(policy->max_count > 0 && event->version > policy->max_count);
}

/* Makes the stream of an event a candidate. */
static void
add_candidate(Batch *batch, const EsEvent *event)
{
	const text *stream = DatumGetTextPP(event->stream);
	Candidate  *candidate;

	candidate = hash_search(batch->known, &stream, HASH_FIND, NULL);
	if (candidate == NULL)
	{
		stream = DatumGetTextPCopy(event->stream);
		candidate = hash_search(batch->known, &stream, HASH_ENTER, NULL);
		candidate->position = event->position;
		candidate->least = candidate->before = 0;
		batch->candidates = lappend(batch->candidates, candidate);
	}
	candidate->least = Max(candidate->least, event->recorded_at < batch->cutoff ? event->version :
						   event->version - batch->policy->max_count);
}

/*
 * Looks at an event that concerns the walk.  One behind by the age ends at what is not too
 * old yet; but not at a time to come, which an import may have given: it would stop there
 * for long.
 */
static void
look_at_walked_event(const EsEvent *event, void *arg)
{
	Batch	   *batch = arg;

	if (batch->arriving || event->recorded_at < batch->cutoff)
		add_candidate(batch, event);
	else if (event->recorded_at < batch->round->began + USECS_PER_DAY)
	{
		batch->stopped = batch->filter.enough = true;
		batch->at = event->position - 1;
		return;
	}
	batch->at = event->position;
}

/* Walks the log until there is enough for a batch; true if the walk is at its end for now. */
static bool
walk_for_retention(Batch *batch)
{
	EsLogFilter *filter = &batch->filter;

	memset(filter, 0, sizeof(*filter));
	filter->wants = concerns_walk;
	filter->settled = batch->settled;
	filter->passes_lost = true;
	filter->max_count = MOST_EVENTS;
	if (!batch->policy->is_for_others)
		filter->categories = es_names_of_one(unconstify(text *, batch->policy->category));
	while (batch->at < batch->settled && batch->candidates == NIL && !batch->stopped && !has_batch_expired(batch))
	{
		int64		passed;

		CHECK_FOR_INTERRUPTS();
		filter->after = batch->at;
		filter->upto = Min(batch->at + CHUNK, batch->settled);
		passed = es_log_read(filter, look_at_walked_event, batch);
		if (!batch->stopped && passed <= batch->at && passed < filter->upto)
			break;				/* what follows is this transaction's */
		if (!batch->stopped)
			batch->at = passed;
	}
	return batch->stopped || batch->at >= batch->settled;
}

/*
 * Does for the streams that the walk has found what comes before their rows are changed; true
 * if it did for all.
 */
static bool
take_candidates_in(Batch *batch)
{
	ListCell   *cell;

	foreach(cell, batch->candidates)
	{
		Candidate  *candidate = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (list_length(batch->due) >= MOST_STREAMS || (cell != list_head(batch->candidates) && has_batch_expired(batch)))
		{
			batch->at = candidate->position - 1;
			return false;
		}
		take_candidate_in(batch, candidate);
	}
	return true;
}

/* Goes on with one walk of a rule; true if it is at its end for now, *at is where. */
static bool
advance_walk(Batch *batch, bool arriving, int64 *at)
{
	bool		ended;
	bool		all;

	batch->arriving = arriving;
	batch->stopped = false;
	batch->at = Min(*at, batch->settled);
	do
	{
		batch->candidates = NIL;
		batch->known = es_names_map("eventstore retention", 256, sizeof(Candidate), CurrentMemoryContext);
		ended = walk_for_retention(batch);
		all = take_candidates_in(batch);
	} while (all && !ended && list_length(batch->due) < MOST_STREAMS && !has_batch_expired(batch));
	*at = batch->at;
	return all && ended;
}

/* ---- rules ---- */

/* Carries out a rule for as much as makes a batch; true if there is nothing more for now. */
static bool
carry_out_policy(Batch *batch, EsPolicy *policy)
{
	int64		arrived = policy->arrived;
	int64		aged = policy->aged;
	bool		ended;

	batch->policy = policy;
	batch->cutoff = es_policy_cutoff(policy, batch->round->began);
	ended = advance_walk(batch, true, &policy->arrived);
	batch->policy = policy;
	if (ended && batch->cutoff != DT_NOBEGIN)
		ended = advance_walk(batch, false, &policy->aged);
	if (policy->arrived != arrived || policy->aged != aged)
		es_policy_write_progress(policy);
	return ended;
}

/* A rule that is being tried. */
typedef struct RuleAttempt
{
	Batch	   *batch;
	EsPolicy   *policy;
	bool		ended;
} RuleAttempt;

/* Carries out a rule, in a subtransaction. */
static void
attempt_policy(void *arg)
{
	RuleAttempt *attempt = arg;

	attempt->ended = carry_out_policy(attempt->batch, attempt->policy);
}

/* Notes that a rule has failed in the round, so that it is not tried in each batch. */
static void
remember_failed_rule(EsRetentionRound *round, const EsPolicy *policy)
{
	MemoryContext old;

	if (failed_context == NULL)
		failed_context = AllocSetContextCreate(TopMemoryContext, "eventstore failed rules", ALLOCSET_SMALL_SIZES);
	if (round->nfailed++ == 0)
	{
		MemoryContextReset(failed_context);
		failed_rules = NIL;
	}
	old = MemoryContextSwitchTo(failed_context);
	failed_rules = lappend(failed_rules, DatumGetTextPCopy(PointerGetDatum(policy->category)));
	MemoryContextSwitchTo(old);
}

/*
 * Notes that a rule has failed, and what with if its category is the first by name: then what is
 * told of two rounds is the same, with whichever rule each began.
 */
static void
note_failed_rule(EsRetentionRound *round, const EsPolicy *policy, ErrorData *error)
{
	char	   *failure;

	rethrow_interruption(error);
	remember_failed_rule(round, policy);
	if (round->sqlerrcode != 0 && strcmp(text_to_cstring(policy->category), round->category) > 0)
		return;
	es_error_cut(error);
	failure = psprintf("%s%s%s", message_of_error(error), error->detail ? ": " : "", error->detail ? error->detail : "");
	round->sqlerrcode = error->sqlerrcode;
	text_to_cstring_buffer(policy->category, round->category, sizeof(round->category));
	strlcpy(round->failure, es_names_cut(failure, strlen(failure), sizeof(round->failure) - sizeof("...")),
			sizeof(round->failure));
}

/* Tells whether a rule is known to have failed in the round. */
static bool
has_rule_failed(const EsRetentionRound *round, const EsPolicy *policy)
{
	ListCell   *cell;

	if (round->nfailed == 0)
		return false;
	foreach(cell, failed_rules)
	{
		if (es_names_same(policy->category, lfirst(cell)))
			return true;
	}
	return false;
}

/*
 * Carries out a rule, so that nothing is left of it if it fails; true if there is nothing
 * more for now.  One that fails may have waited for a lock for all of the batch's time, so that
 * the others have had none of it: they have theirs in the next batch.
 */
static bool
try_policy(Batch *batch, EsPolicy *policy)
{
	RuleAttempt attempt = {.batch = batch,.policy = policy};
	int			ndue = list_length(batch->due);
	ErrorData  *error = es_quiet_try(attempt_policy, &attempt);

	if (error == NULL)
		return attempt.ended;
	batch->due = list_truncate(batch->due, ndue);
	note_failed_rule(batch->round, policy, error);
	return !has_batch_expired(batch);
}

/*
 * es_retention_report tells of rules that have failed in a round that has ended, if some have,
 * and forgets them.
 */
void
es_retention_report(EsRetentionRound *round, int elevel)
{
	int			sqlerrcode = round->sqlerrcode;
	int			nfailed = round->nfailed;

	round->sqlerrcode = round->nfailed = 0;
	if (sqlerrcode != 0)
		ereport(elevel,
				errcode(sqlerrcode),
				errmsg("retention of category \"%s\" could not be carried out", es_names_show(round->category)),
				nfailed == 1 ? errdetail_internal("%s", round->failure) :
				errdetail("It is the first of %d categories of which none could: %s.", nfailed, round->failure),
				errhint("It is tried again.  No other rule waits for it."));
}

/* Tries streams again that were passed over; true if there is none left that is due. */
static bool
retry_skipped_streams(Batch *batch)
{
	List	   *skipped = es_skipped_due(batch->round->began, MOST_STREAMS, batch->round->by_hand);
	ListCell   *cell;

	foreach(cell, skipped)
	{
		Candidate  *candidate = palloc0(sizeof(Candidate));

		candidate->stream = lfirst(cell);
		candidate->least = PG_INT64_MAX;
		if (has_batch_expired(batch) && cell != list_head(skipped))
			break;
		take_candidate_in(batch, candidate);
		if (candidate->before == 0)
			es_skipped_forget(candidate->stream);
	}
	return skipped == NIL;
}

/* ---- hiding ---- */

/* Hides what is due in a stream, unless somebody writes to it. */
static void
hide_due_events(Batch *batch, const Candidate *candidate)
{
	EsChange	change;
	EsChangeState state = es_change_begin(&change, candidate->stream, false);
	bool		hidden = state == ES_CHANGE_OPEN && es_truncate_wanted(&change, candidate->before);

	if (hidden)
		es_truncate_hide(&change, candidate->before);
	if (state == ES_CHANGE_OPEN)
		es_change_end(&change);
	if (state == ES_CHANGE_BUSY)
		es_skipped_note(candidate->stream, NULL);
	else
		es_skipped_forget(candidate->stream);
	if (hidden)
		es_snapshot_drop_older(change.stream.id, candidate->before - 1);
	batch->round->streams += hidden;
}

/* Streams of a batch, to be changed together or not at all. */
typedef struct Hiding
{
	Batch	   *batch;
	List	   *due;
} Hiding;

/* Hides what is due in them. */
static void
hide_together(void *arg)
{
	const Hiding *hiding = arg;
	ListCell   *cell;

	foreach(cell, hiding->due)
	{
		CHECK_FOR_INTERRUPTS();
		hide_due_events(hiding->batch, lfirst(cell));
	}
}

/* Hides what is due in a batch stream by stream; those that cannot be changed are passed over. */
static void
hide_one_by_one(Batch *batch)
{
	ListCell   *cell;

	foreach(cell, batch->due)
	{
		Hiding		hiding = {.batch = batch,.due = list_make1(lfirst(cell))};
		ErrorData  *error = es_quiet_try(hide_together, &hiding);

		if (error)
			note_failed_stream(batch, lfirst(cell), error);
	}
}

/*
 * Hides what is due in the streams of a batch.  Nobody is waited for once one of their rows
 * is changed, so who drops snapshots is waited for before, or all are left for later.  Most
 * batches have no need of a subtransaction for each stream.
 */
static void
hide_what_is_due(Batch *batch)
{
	Hiding		hiding = {.batch = batch,.due = batch->due};
	ErrorData  *error;
	ListCell   *cell;

	if (batch->due == NIL)
		return;
	if (!es_snapshot_begin_keep(batch->round->by_hand))
	{
		foreach(cell, batch->due)
		{
			const Candidate *candidate = lfirst(cell);

			es_skipped_note(candidate->stream, NULL);
		}
		return;
	}
	error = es_quiet_try(hide_together, &hiding);
	if (error == NULL)
		return;
	rethrow_interruption(error);
	batch->round->streams = 0;
	hide_one_by_one(batch);
}

/* Does a batch; true if nothing is left to do for now. */
static bool
carry_out_batch(Batch *batch)
{
	static uint32 turn = 0;		/* so that each rule has its */
	bool		ended = retry_skipped_streams(batch);

	batch->settled = es_settle_compute();
	for (int i = 0; i < batch->npolicies && ended; i++)
	{
		EsPolicy   *policy = &batch->policies[turn++ % batch->npolicies];

		if (es_policy_is_rule(policy) && !has_rule_failed(batch->round, policy))
			ended = try_policy(batch, policy);
	}
	hide_what_is_due(batch);
	return ended;
}

/*
 * es_retention_apply hides a batch of what rules say, in the caller's transaction, which
 * had better do nothing else and end soon; true if nothing is left to do for now, false
 * if it is to be called again, in another transaction.  Streams that cannot be truncated
 * are passed over, and rules that fail.  Where somebody else carries rules out, or the
 * store cannot be written, nothing is left to do; by hand the first is waited for.
 */
bool
es_retention_apply(EsRetentionRound *round)
{
	Batch		batch = {.round = round,.began = GetCurrentTimestamp()};
	MemoryContext context;
	MemoryContext old;
	bool		ended = true;

	round->streams = 0;
	round->barred = false;
	if (RecoveryInProgress() || XactReadOnly || es_subscriber_is())
		return true;
	if (round->by_hand)
		es_base_lock(&es_policy_table, ES_POLICY_LOCK);
	else if (!es_base_try_lock(&es_policy_table, ES_POLICY_LOCK))
	{
		round->barred = true;
		return true;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "eventstore retention", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	batch.npolicies = es_policy_read_all(&batch.policies);
	if (batch.npolicies > 0)
		ended = carry_out_batch(&batch);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return ended;
}

/*
 * apply_retention(): carries out a round by hand, in one transaction; returns how many
 * streams were truncated.  Waits for others who carry rules out.  What a rule has failed with
 * is a warning, as in es_scavenge: an error would take back what the others have done.
 */
Datum
es_retention_run(PG_FUNCTION_ARGS)
{
	EsRetentionRound round = {.by_hand = true,.began = GetCurrentTimestamp()};
	int64		streams = 0;
	bool		ended;

	es_subscriber_prevent_write("apply_retention()");
	PreventCommandIfParallelMode("apply_retention()");
	do
	{
		ended = es_retention_apply(&round);
		streams += round.streams;
	} while (!ended);
	es_retention_report(&round, WARNING);
	PG_RETURN_INT64(streams);
}
