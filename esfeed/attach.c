/*
 * attach.c
 *		Finding the feed, or making it, and seeing that it is the known one.
 *
 * What there is under the feed's name is compared with the state, which a file
 * sink keeps and which every sink has in memory from the first connection on:
 *
 *	no state, no slot	created (--create), with a seam: head and the slot's start
 *	no state, a slot	a sink that keeps state begins at --from all the same:
 *						a new seam is taken for the slot, which is good for any
 *						slot that exists by then.  For other sinks the slot is the
 *						state: history was delivered, go on from there
 *	state, the slot		go on
 *	state, no slot, a lost one, or one that has confirmed more than we did
 *						some commits may never come: with --create a new seam is
 *						taken, with a new slot unless the slot is good, and history
 *						is read again from state.low
 *	the store has moved	(--moved: pg_upgrade, a dump, a subscriber that took over.)  The same,
 *						whatever the slot: places in the WAL of before mean nothing here,
 *						positions do
 *
 * So that a slot can be the state of sinks that keep none it must not exist
 * before history was delivered: until then it is named es_<feed>_unfinished.
 * One that an esfeed before us has left is of no use, as nobody knows how far
 * history was delivered.  An advisory lock tells it from one in use.
 */
#include "attach.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lsn.h"
#include "memory.h"
#include "positions.h"
#include "report.h"
#include "run.h"
#include "server.h"
#include "sink.h"
#include "slot.h"
#include "wait.h"

/* Of State's low: what the sink has is not known. */
#define UNKNOWN (-1)

/* The name that the feed has now; the caller's to free. */
static char *
feed_name(const Run *run)
{
	return run->building ? slot_unfinished_name(run->options->feed) : copy_text(run->options->feed);
}

/* Where a new feed's history begins: after this position. */
static int64_t
start_position(const Options *options, int64_t head)
{
	return options->start == START_NOW ? head : options->position;
}

/* Takes a seam for a slot that exists. */
static Outcome
adopt_slot(Run *run, const Slot *slot, Seam *seam)
{
	Outcome		outcome = slot_head(&run->server, seam);

	seam->lsn = slot->confirmed;
	return outcome;
}

/* Keeps others from making the same feed at the same time. */
static Outcome
lock_feed(Run *run)
{
	int64_t		until = clock_now() + IN_USE_MS;

	for (;;)
	{
		PGresult   *result;
		bool		locked = false;
		Outcome		outcome;

		outcome = server_ask(run->server.sql, &result,
							 "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended("
							 "('esfeed ' OPERATOR(pg_catalog.||) $1), 0))",
							 1, &run->options->feed, "could not lock the feed");
		if (outcome == OUTCOME_DONE)
			locked = PQgetvalue(result, 0, 0)[0] == 't';
		PQclear(result);
		if (outcome != OUTCOME_DONE || locked)
			return outcome;
		if (clock_now() > until)
			report_failure(EXIT_IN_USE, "the feed \"%s\" is in use: another esfeed is delivering its history", run->options->feed);
		wait_pause(200);
		if (wait_stopped())
			return OUTCOME_STOP;
	}
}

/* attach_drop_leftover drops a feed of the other name that nobody needs, or can go on with. */
Outcome
attach_drop_leftover(Run *run)
{
	bool		dropped;
	Outcome		outcome = slot_drop_unfinished(&run->server, run->options->feed, &dropped);

	if (outcome == OUTCOME_DONE)
		run->leftover = false;
	return outcome;
}

/* Makes a slot; building: of the other name, until history is complete. */
static Outcome
create_feed(Run *run, bool building, Seam *seam)
{
	char	   *name;
	const char *wanted[WANTED];
	Slot		slot;
	Outcome		outcome = OUTCOME_DONE;

	run->building = building;
	if (run->building && strlen(run->options->feed) + strlen(UNFINISHED) > MAX_FEED_NAME)
		report_failure(EXIT_USAGE, "the name of a feed that is created for this sink can have at most %zu bytes",
					   MAX_FEED_NAME - strlen(UNFINISHED));
	if (run->building)
		outcome = lock_feed(run);
	if (outcome == OUTCOME_DONE && run->building)
		outcome = slot_find(&run->server, run->options->feed, &slot);
	if (outcome == OUTCOME_DONE && run->building && slot.exists)
	{
		/* who had the lock has made it */
		run->building = false;
		return OUTCOME_RETRY;
	}
	if (outcome == OUTCOME_DONE && run->building)
		outcome = attach_drop_leftover(run);
	name = feed_name(run);
	if (outcome == OUTCOME_DONE)
	{
		run_wanted(run, wanted);
		outcome = slot_create(&run->server, name, run->options->feed, wanted, seam);
	}
	free(name);
	return outcome;
}

/* Begins with history after a position, up to a seam; nothing up to --from is wanted. */
static void
begin_history(Run *run, const Seam *seam, int64_t after)
{
	State	   *state = &run->state;
	int64_t		from = run->options->position;

	state->phase = PHASE_HISTORY;
	state->head = from > seam->head ? from : seam->head;
	state->low = after < state->head ? after : state->head;
	state->lsn = seam->lsn;
	state->timeline = run->server.timeline;
}

/* The first time: makes the feed, or takes the one there is. */
static Outcome
begin_feed(Run *run, const Slot *slot)
{
	Seam		seam = {0, 0};
	Outcome		outcome;

	if (!slot->exists && !run->options->create)
	{
		report_hint("Use --create, or es_create_feed('%s').", run->options->feed);
		report_failure(EXIT_NO_FEED, "feed \"%s\" does not exist", run->options->feed);
	}
	if (slot->exists && !run->building && !run->sink->type->keeps_state)
	{
		run->state.phase = PHASE_STREAM;
		run->state.lsn = slot->confirmed;
		run->state.low = UNKNOWN;
		run->state.timeline = run->server.timeline;
		run_reset_stream(run, run->state.lsn);
		report_note("the feed \"%s\" exists, so its history counts as delivered", run->options->feed);
		return run->options->create ? attach_drop_leftover(run) : OUTCOME_DONE;
	}

	/*
	 * one of the other name is there if the answer to its creation was lost
	 * with a connection
	 */
	if (slot->exists && !run->building)
		outcome = adopt_slot(run, slot, &seam);
	else
		outcome = create_feed(run, !run->sink->type->keeps_state && run->options->start != START_NOW, &seam);
	if (outcome != OUTCOME_DONE)
		return outcome;
	begin_history(run, &seam, start_position(run->options, seam.head));
	sink_save(run->sink, &run->state);
	return OUTCOME_DONE;
}

/* Tells what is wrong with the slot; NULL: nothing. */
static const char *
what_is_wrong(const Run *run, const Slot *slot)
{
	if (!slot->exists)
		return "its slot was dropped";
	if (slot->lost)
		return "the server has removed WAL that it needs (parameter \"max_slot_wal_keep_size\")";
	if (run->state.phase != PHASE_NONE && slot->confirmed > run->state.lsn)
		return "somebody else has read it, or made it anew under the same name";
	return NULL;
}

/* Takes over who the store is. */
static void
learn_store(Run *run)
{
	run->state.system = copy_text(run->server.system);
	run->state.database = run->server.database;
	run->state.store = run->server.store;
}

/* Takes a new seam, and goes back to where the sink surely has everything. */
static Outcome
heal_feed(Run *run, const Slot *slot)
{
	Seam		seam = {0, 0};
	char	   *name = feed_name(run);
	int64_t		low = run->state.phase == PHASE_NONE ? UNKNOWN : run->state.low;
	Outcome		outcome = OUTCOME_DONE;

	if (slot->exists && !slot->lost)
		outcome = adopt_slot(run, slot, &seam);
	else
	{
		if (slot->exists)
			outcome = slot_drop_lost(&run->server, name);
		if (outcome == OUTCOME_DONE)
			outcome = create_feed(run, !run->sink->type->keeps_state, &seam);
	}
	free(name);
	if (outcome != OUTCOME_DONE)
		return outcome;
	if (low == UNKNOWN && run->options->start == START_NOW)
		report_warning("what was committed since the feed was lost is not delivered (--from=now)");
	if (low == UNKNOWN)
		low = start_position(run->options, seam.head);
	learn_store(run);
	begin_history(run, &seam, low);
	report_note("history after position %" PRId64 " is read again", run->state.low);
	run->state.offset = 0;
	positions_clear(&run->seen);
	sink_recover(run->sink, &run->state, &run->seen);
	sink_save(run->sink, &run->state);
	return OUTCOME_DONE;
}

/* Whether the state is about the store that we are connected to. */
static bool
is_same_store(const State *state, const Server *server)
{
	return strcmp(state->system, server->system) == 0 && state->database == server->database && state->store == server->store;
}

/* Refuses a state that is about another store. */
static void
refuse_store(const State *state, const Server *server)
{
	report_hint("Check the connection; for a new store deliver to another file; if the store has moved here, say so with --moved.");
	if (strcmp(state->system, server->system) != 0)
		report_failure(EXIT_LOST, "what was delivered until now came from the event store of another cluster");
	if (state->database != server->database)
		report_failure(EXIT_LOST, "what was delivered until now came from the event store of another database");
	report_failure(EXIT_LOST, "what was delivered until now came from an event store that was dropped and created anew");
}

/*
 * Sees that the server has what was delivered from its timeline.  One that was put back, from a
 * copy of its disk, gives the same places in the WAL and the same positions to other events: it
 * would send nothing of what it commits before the place that was delivered, and take our word
 * that nobody needs it.
 */
static void
check_server_place(const Run *run)
{
	const State *state = &run->state;
	uint64_t	delivered = state->lsn > run->boundary ? state->lsn : run->boundary;

	if (state->timeline != run->server.timeline || delivered <= run->server.lsn)
		return;
	report_hint("Events that are there now may have positions of others that were delivered: begin anew, with another feed, and another file.");
	report_failure(EXIT_LOST, "the server has been put back: it is at " LSN_FORMAT ", and all before " LSN_FORMAT " was delivered",
				   LSN_PARTS(run->server.lsn), LSN_PARTS(delivered));
}

/*
 * After a promotion: commits between the end of the old timeline and what was
 * delivered are not on this server; the stream goes on where the new one began.
 */
static Outcome
follow_timeline(Run *run)
{
	State	   *state = &run->state;
	char	   *sql;
	PGresult   *result;
	Outcome		outcome;
	uint64_t	end = 0;

	if (state->timeline == run->server.timeline)
		return OUTCOME_DONE;
	sql = make_text("TIMELINE_HISTORY %u", run->server.timeline);
	result = PQexec(run->server.replication, sql);
	free(sql);
	outcome = server_judge(run->server.replication, result, "could not read the server's history");
	if (outcome == OUTCOME_DONE && PQntuples(result) == 1)
	{
		char	   *content = copy_text(PQgetvalue(result, 0, 1));
		char	   *rest = NULL;

		for (char *line = strtok_r(content, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
			if (strtoul(line, NULL, 10) == state->timeline && strchr(line, '\t') != NULL)
				(void) lsn_parse(strchr(line, '\t') + 1, &end);
		free(content);
	}
	PQclear(result);
	if (outcome != OUTCOME_DONE)
		return outcome;
	if (end == 0)
		report_failure(EXIT_LOST, "timeline %u, which was delivered until now, is not in the history of the server, which is on timeline %u",
					   state->timeline, run->server.timeline);
	if (run->boundary > end)
	{
		report_warning("the server was promoted without the last commits that were delivered: it is at " LSN_FORMAT " and not at " LSN_FORMAT,
					   LSN_PARTS(end), LSN_PARTS(run->boundary));
		run_reset_stream(run, end);
		if (state->lsn > end)
			state->lsn = end;
	}
	state->timeline = run->server.timeline;
	return OUTCOME_DONE;
}

/* attach_to_feed finds or makes the feed; afterwards the state says how to go on. */
Outcome
attach_to_feed(Run *run)
{
	char	   *name = feed_name(run);
	const char *wrong;
	Slot		slot;
	bool		moved;
	Outcome		outcome = OUTCOME_DONE;

	if (run->state.system == NULL)
		learn_store(run);
	moved = !is_same_store(&run->state, &run->server);
	if (moved && !run->options->moved)
		refuse_store(&run->state, &run->server);
	if (!moved)
		check_server_place(run);
	if (run->building)
		outcome = lock_feed(run);
	else if (run->leftover)
		outcome = attach_drop_leftover(run);
	if (outcome == OUTCOME_DONE)
		outcome = slot_find(&run->server, name, &slot);
	free(name);
	if (outcome != OUTCOME_DONE)
		return outcome;
	if (slot.active)
	{
		/* of an esfeed that was killed the server may not know yet */
		report_note("the feed \"%s\" is in use, waiting", run->options->feed);
		run->in_use = true;
		return OUTCOME_RETRY;
	}
	run->in_use = false;

	wrong = moved ? "the store has moved" : what_is_wrong(run, &slot);
	if (run->state.phase == PHASE_NONE && (!slot.exists || wrong == NULL))
		return begin_feed(run, &slot);
	if (wrong != NULL)
	{
		if (!run->options->create)
		{
			report_hint("With --create the feed is made anew, and history is read again from where the sink surely has everything.");
			report_failure(EXIT_LOST, "the feed \"%s\" is lost: %s", run->options->feed, wrong);
		}
		report_warning("the feed \"%s\" is lost: %s", run->options->feed, wrong);
		return heal_feed(run, &slot);
	}
	return follow_timeline(run);
}
