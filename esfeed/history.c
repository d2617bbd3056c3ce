/*
 * history.c
 *		Delivering history: events up to the head, by es_feed_history.
 *
 * Pages are read by position, and within one statement it is found out how far
 * the log is settled and read up to there: the page's end is then known to be
 * complete even if a filter leaves little or nothing of it.  Rows are taken one
 * by one as they arrive, so a page costs the server its size and us one row.
 *
 * Whatever was appended before the head was read settles: transactions in
 * flight then are waited for.
 *
 * Hidden events that are still to come are held, by es_hold_events: the session that
 * reads keeps es_scavenge from removing what is after the last checkpoint, until all is
 * delivered.  A hold ends with its session, so the next connection takes one before it
 * reads; what was removed in between is a hole, as it is for who begins later.
 */
#include "history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "clock.h"
#include "memory.h"
#include "positions.h"
#include "report.h"
#include "run.h"
#include "server.h"
#include "sink.h"
#include "slot.h"
#include "wait.h"

#define PAGE "10000"

/* When nothing settles, after how long is it told who is waited for, in milliseconds. */
#define PATIENCE_MS 5000

typedef struct History
{
	Run		   *run;
	char	   *read;			/* the statement for a page */
	const char *wanted[WANTED];
	char	   *wait;
	char	   *hold;
	bool		hold_due;		/* there is a checkpoint to hold events from */
	bool		holds;			/* this connection does */
	Definition	definition;		/* what the feed has, as of this connection */
	int64_t		cursor;			/* all up to it was given to the sink */
	int64_t		settled;
	int64_t		rows;			/* of this page */
	int64_t		last;			/* position of the last */
	int64_t		next_checkpoint;
	int64_t		waiting_since;
} History;

/* Keeps how far it is. */
static void
checkpoint_history(History *history)
{
	Run		   *run = history->run;

	sink_sync(run->sink);
	run->state.low = history->last > history->cursor ? history->last : history->cursor;
	if (run->seen.count == 0)
		run->state.offset = sink_length(run->sink);
	sink_save(run->sink, &run->state);
	history->hold_due = history->holds;
	history->next_checkpoint = clock_now() + CHECKPOINT_MS;
}

/* Sends the statement that holds the events after a position, or with NULL lets go of them. */
static Outcome
send_hold(History *history, const char *position)
{
	Run		   *run = history->run;
	PGresult   *result;
	Outcome		outcome = server_query(run->server.sql, &result, history->hold, 1, &position);

	history->hold_due = false;
	history->holds = position != NULL;
	/* no such function in this release, or no right to call it */
	if (outcome == OUTCOME_DONE && (server_has_state(result, "42883") || server_has_state(result, "42501")))
	{
		if (!run->told_of_hold)
			report_warning("going on without holding hidden events, which es_scavenge may remove before they are delivered: %s",
						   PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
		run->told_of_hold = true;
		history->holds = false;
	}
	else if (outcome == OUTCOME_DONE)
		outcome = server_judge(run->server.sql, result, "could not hold hidden events");
	PQclear(result);
	return outcome;
}

/* Holds the events that come after what is kept for good. */
static Outcome
hold_events(History *history)
{
	char	   *low = make_text("%" PRId64, history->run->state.low);
	Outcome		outcome = send_hold(history, low);

	free(low);
	return outcome;
}

/* Takes a row; false if asked to end. */
static bool
take_row(History *history, const PGresult *row)
{
	if (PQntuples(row) == 0)
		return true;
	history->settled = strtoll(PQgetvalue(row, 0, 0), NULL, 10);
	if (PQgetisnull(row, 0, 2))
		return true;
	if (PQgetisnull(row, 0, 1))
	{
		history->last = strtoll(PQgetvalue(row, 0, 2), NULL, 10);
		report_warning("going on without the event at position %" PRId64, history->last);
	}
	else if (!run_take(history->run, PQgetvalue(row, 0, 1), (size_t) PQgetlength(row, 0, 1), &history->last))
		return false;
	history->rows++;
	/* a page of large events takes its time */
	if ((history->rows & 63) == 0 && clock_now() >= history->next_checkpoint)
		checkpoint_history(history);
	return true;
}

/* Takes the rows of a page as they arrive. */
static Outcome
take_rows(History *history)
{
	PGconn	   *conn = history->run->server.sql;
	PGresult   *result;
	Outcome		outcome = OUTCOME_DONE;

	for (;;)
	{
		if (PQisBusy(conn))
		{
			sink_work(history->run->sink);
			run_show(history->run);
		}
		if (server_wait(conn) == OUTCOME_STOP)
			return OUTCOME_STOP;
		result = PQgetResult(conn);
		if (result == NULL)
			return outcome;
		if (outcome == OUTCOME_DONE)
			outcome = server_judge(conn, result, "could not read history");
		if (outcome == OUTCOME_DONE && !take_row(history, result))
			outcome = OUTCOME_STOP;
		PQclear(result);
		if (outcome == OUTCOME_STOP)
			return outcome;
	}
}

/* Reads a page, and moves the cursor. */
static Outcome
read_page(History *history)
{
	Run		   *run = history->run;
	char	   *cursor = make_text("%" PRId64, history->cursor);
	char	   *head = make_text("%" PRId64, run->state.head);
	char	   *skips = make_text("{%s}", run->options->skip_positions);
	const char *values[] = {cursor, PAGE, history->definition.categories, history->definition.types, head,
	history->definition.format, skips, history->wanted[WANTED_QUERY], history->definition.query};
	Outcome		outcome = OUTCOME_RETRY;

	history->rows = 0;
	if (server_send(run->server.sql, history->read, 9, values) && PQsetSingleRowMode(run->server.sql) == 1)
		outcome = take_rows(history);
	free(cursor);
	free(head);
	free(skips);
	if (outcome != OUTCOME_DONE)
		return outcome;
	if (history->rows >= atoll(PAGE))
		history->cursor = history->last;
	else if (history->settled > history->cursor)
		history->cursor = history->settled < run->state.head ? history->settled : run->state.head;
	return OUTCOME_DONE;
}

/* Waits until more is settled. */
static Outcome
wait_for_more(History *history)
{
	Run		   *run = history->run;
	char	   *cursor = make_text("%" PRId64, history->cursor);
	const char *values[] = {cursor};
	PGresult   *result;
	Outcome		outcome;

	if (history->waiting_since == 0)
		history->waiting_since = clock_now();
	else if (history->waiting_since > 0 && clock_now() - history->waiting_since > PATIENCE_MS)
	{
		report_note("waiting for transactions that have appended and are still open, after position %" PRId64,
					history->cursor);
		history->waiting_since = -1;
	}
	outcome = server_ask(run->server.sql, &result, history->wait, 1, values, "could not wait for the log to settle");
	PQclear(result);
	free(cursor);
	return outcome;
}

/* Learns what is to be delivered: history goes by what the feed is now, its slot by what it was. */
static Outcome
learn_definition(History *history)
{
	Run		   *run = history->run;
	char	   *unfinished = slot_unfinished_name(run->options->feed);
	Outcome		outcome;

	run_wanted(run, history->wanted);
	outcome = slot_definition(&run->server, run->building ? unfinished : run->options->feed, history->wanted,
							  &history->definition);
	free(unfinished);
	return outcome;
}

/*
 * Makes the statement that reads a page, which is refused to who may not read all
 * that is asked for.
 */
static char *
make_read(const History *history)
{
	const char *schema = history->run->server.schema;
	char	   *events =
	make_text("%s.es_feed_history($1::pg_catalog.int8, $2::pg_catalog.int8, $3::pg_catalog.text[], "
			  "$4::pg_catalog.text[], $8::pg_catalog.jsonb, $9::pg_catalog.jsonb, least(s, $5::pg_catalog.int8))", schema);
	char	   *read = make_text("SELECT s, CASE WHEN e.position OPERATOR(pg_catalog.=) ANY ($7::pg_catalog.int8[]) THEN NULL "
								 "ELSE %s.es_feed_message(e, $6) END, e.position "
								 "FROM greatest($1::pg_catalog.int8, %s.es_settled_position()) s "
								 "LEFT JOIN %s e ON true", schema, schema, events);

	free(events);
	return read;
}

/* Reads until the head. */
static Outcome
read_to_head(History *history)
{
	Run		   *run = history->run;
	Outcome		outcome = OUTCOME_DONE;

	while (outcome == OUTCOME_DONE && history->cursor < run->state.head)
	{
		int64_t		before = history->cursor;

		if (wait_stopped())
			return OUTCOME_STOP;
		if (history->hold_due)
			outcome = hold_events(history);
		if (outcome == OUTCOME_DONE)
			outcome = read_page(history);
		if (outcome == OUTCOME_DONE && history->cursor == before)
			outcome = wait_for_more(history);
		if (clock_now() >= history->next_checkpoint)
			checkpoint_history(history);
		sink_work(run->sink);
		run_show(run);
	}
	return outcome;
}

/*
 * A feed that was made under another name while its history was delivered gets
 * its own name: that says, to the next esfeed, that history is complete.  The other name is
 * to be dropped then.  A connection that was lost may have taken the answer with it: then
 * the feed is there already, as far as the one that it is a copy of.
 */
static Outcome
finish_building(Run *run)
{
	char	   *name = slot_unfinished_name(run->options->feed);
	Slot		slot;
	Outcome		outcome = slot_find(&run->server, run->options->feed, &slot);

	if (outcome == OUTCOME_DONE && !(slot.exists && slot.confirmed == run->state.lsn))
		outcome = slot_copy(&run->server, name, run->options->feed);
	if (outcome == OUTCOME_DONE)
	{
		run->building = false;
		run->leftover = true;
	}
	free(name);
	return outcome;
}

/* Ends the phase: what comes now, comes from the slot. */
static Outcome
end_history(Run *run)
{
	if (!run_drain(run))
		return OUTCOME_STOP;
	run->state.low = run->state.head;
	if (run->building)
	{
		Outcome		outcome = finish_building(run);

		if (outcome != OUTCOME_DONE)
			return outcome;
	}
	run->state.phase = PHASE_STREAM;
	run->state.offset = sink_length(run->sink);
	positions_clear(&run->seen);
	run_reset_stream(run, run->state.lsn);
	sink_save(run->sink, &run->state);
	return run->leftover ? attach_drop_leftover(run) : OUTCOME_DONE;
}

/* history_deliver delivers what comes before the head. */
Outcome
history_deliver(Run *run)
{
	const char *schema = run->server.schema;
	History		history = {.run = run,.cursor = run->state.low,.last = run->state.low,.hold_due = true};
	Outcome		outcome;

	history.wait = make_text("SELECT %s.es_wait($1::pg_catalog.int8, '1 s')", schema);
	history.hold = make_text("SELECT %s.es_hold_events($1::pg_catalog.int8)", schema);
	run->tick = NULL;
	history.next_checkpoint = clock_now() + CHECKPOINT_MS;
	if (history.cursor < run->state.head)
	{
		report_note("reading history from position %" PRId64 " to %" PRId64, history.cursor, run->state.head);
		progress_begin("history", history.cursor, run->state.head);
	}
	outcome = learn_definition(&history);
	if (outcome == OUTCOME_DONE)
	{
		history.read = make_read(&history);
		outcome = read_to_head(&history);
	}
	slot_free_definition(&history.definition);
	if (outcome != OUTCOME_DONE)
		checkpoint_history(&history);
	progress_end();
	if (outcome == OUTCOME_DONE)
		outcome = end_history(run);
	if (outcome == OUTCOME_DONE && history.holds)
		outcome = send_hold(&history, NULL);
	free(history.read);
	free(history.wait);
	free(history.hold);
	return outcome;
}
