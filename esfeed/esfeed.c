/*
 * esfeed.c
 *		Delivers the events of an event store: first the history, then what
 *		comes, to a file, a command, Kafka or standard output.
 *
 * A run is a sequence of connections.  Each finds the feed (attach.c), delivers
 * the rest of history (history.c) and then what the slot gives (stream.c).  How
 * far it is, is in the run's state; a connection that is lost changes nothing
 * of it.  The guarantees are those of the sinks, see filesink.c above all.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "clock.h"
#include "history.h"
#include "memory.h"
#include "metrics.h"
#include "options.h"
#include "report.h"
#include "run.h"
#include "server.h"
#include "sink.h"
#include "slot.h"
#include "stream.h"
#include "wait.h"

/* Pauses between connections, in milliseconds. */
#define FIRST_PAUSE 200
#define LONGEST_PAUSE 30000

/* Refuses to go on with a file that was begun with other options. */
static void
check_state(const Run *run)
{
	const Options *options = run->options;
	const State *state = &run->state;
	const struct
	{
		const char *name;
		const char *then;
		const char *now;
	}			same[] = {
		{"--feed", state->feed, options->feed},
		{"--format", state->format, options->format},
		{"--categories", state->categories, options->categories},
		{"--types", state->types, options->types},
		{"--query", state->query, options->query},
	};

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		if (strcmp(same[i].then, same[i].now) != 0)
			report_failure(EXIT_USAGE, "\"%s\" was begun with %s=%s, not \"%s\"; deliver to another file", options->target,
						   same[i].name, same[i].then, same[i].now);
}

/* Opens the sink, and finds out how far it is. */
static void
begin_run(Run *run, const Options *options)
{
	memset(run, 0, sizeof(*run));
	run->options = options;
	run->first = true;
	run->sink = sink_open(options);
	if (sink_restore(run->sink, &run->state))
	{
		check_state(run);
		sink_recover(run->sink, &run->state, &run->seen);
		run_reset_stream(run, run->state.lsn);
		return;
	}
	run->state.feed = copy_text(options->feed);
	run->state.format = copy_text(options->format);
	run->state.categories = copy_text(options->categories);
	run->state.types = copy_text(options->types);
	run->state.query = copy_text(options->query);
}

/* Makes an array of a list as the output plugin takes it: with commas, or JSON. */
static Outcome
parse_names(Run *run, const char *option, const char *list, char **names)
{
	PGresult   *result;
	Outcome		outcome;

	if (*list == '\0' || *names != NULL)
		return OUTCOME_DONE;
	outcome = server_query(run->server.sql, &result,
						   "SELECT a, pg_catalog.array_position(a, NULL) IS NOT NULL FROM (SELECT CASE "
						   "WHEN pg_catalog.starts_with(pg_catalog.ltrim($1, E' \\t\\r\\n'), '[') THEN ARRAY("
						   "SELECT CASE pg_catalog.jsonb_typeof(e) WHEN 'string' THEN e OPERATOR(pg_catalog.#>>) '{}' END "
						   "FROM pg_catalog.jsonb_array_elements($1::pg_catalog.jsonb) e) "
						   "ELSE ARRAY(SELECT NULLIF(pg_catalog.btrim(e, ' '), '') "
						   "FROM pg_catalog.string_to_table($1, ',') e) END OFFSET 0) x(a)", 1, &list);
	if (outcome == OUTCOME_DONE && server_has_state(result, "22"))
		report_failure(EXIT_USAGE, "%s is neither a list of names with commas between nor a JSON array of strings: %s",
					   option, list);
	if (outcome == OUTCOME_DONE)
		outcome = server_judge(run->server.sql, result, option);
	if (outcome == OUTCOME_DONE && PQgetvalue(result, 0, 1)[0] == 't')
		report_failure(EXIT_USAGE, "%s has a name that is empty or not a string: %s", option, list);
	if (outcome == OUTCOME_DONE)
		*names = copy_text(PQgetvalue(result, 0, 0));
	PQclear(result);
	return outcome;
}

/* Sees that a query is one, before anything is made for it. */
static Outcome
check_query(Run *run)
{
	const char *query = run->options->query;
	char	   *sql;
	PGresult   *result;
	Outcome		outcome;

	if (*query == '\0')
		return OUTCOME_DONE;
	sql = make_text("SELECT pg_catalog.count(*) FROM %s.es_feed_history(0, 0, '{}', query => $1::pg_catalog.jsonb)", run->server.schema);
	outcome = server_query(run->server.sql, &result, sql, 1, &query);
	free(sql);
	if (outcome == OUTCOME_DONE && server_has_state(result, "22"))
		report_failure(EXIT_USAGE, "--query is not a query that a feed can have: %s",
					   PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
	if (outcome == OUTCOME_DONE)
		outcome = server_judge(run->server.sql, result, "--query");
	PQclear(result);
	return outcome;
}

/* Drops the feed. */
static Outcome
drop_feed(Run *run)
{
	Slot		slot;
	bool		unfinished;
	Outcome		outcome = slot_drop_unfinished(&run->server, run->options->feed, &unfinished);

	if (outcome == OUTCOME_DONE)
		outcome = slot_find(&run->server, run->options->feed, &slot);
	if (outcome == OUTCOME_DONE && (slot.exists || !unfinished))
		outcome = slot_drop(&run->server, run->options->feed);
	if (outcome == OUTCOME_DONE)
		report_note("dropped the feed \"%s\"", run->options->feed);
	return outcome == OUTCOME_DONE ? OUTCOME_STOP : outcome;
}

/* One connection, as long as it lasts. */
static Outcome
connect_and_deliver(Run *run)
{
	const Options *options = run->options;
	Outcome		outcome;

	outcome = server_connect(&run->server, options, run->first);
	if (outcome == OUTCOME_DONE && options->drop)
		return drop_feed(run);
	if (outcome == OUTCOME_DONE)
		outcome = parse_names(run, "--categories", options->categories, &run->categories);
	if (outcome == OUTCOME_DONE)
		outcome = parse_names(run, "--types", options->types, &run->types);
	if (outcome == OUTCOME_DONE && run->first)
		outcome = check_query(run);
	if (outcome == OUTCOME_DONE)
		outcome = attach_to_feed(run);
	if (outcome == OUTCOME_DONE)
	{
		run->first = false;
		metrics_connected(true);
	}
	if (outcome == OUTCOME_DONE && run->state.phase == PHASE_HISTORY)
		outcome = history_deliver(run);
	if (outcome == OUTCOME_DONE)
		outcome = stream_deliver(run);
	return outcome;
}

/* Waits before the next connection, while the sink goes on. */
static void
pause_run(Run *run, int pause)
{
	int64_t		until = clock_now() + pause;

	for (int64_t left = pause; left > 0 && !wait_stopped(); left = until - clock_now())
	{
		if (run->sink == NULL)
			wait_pause((int) left);
		else
		{
			sink_wait(run->sink, (int) left > CHECKPOINT_MS ? CHECKPOINT_MS : (int) left);
			sink_work(run->sink);
			run_show(run);
		}
	}
}

/* Connects again and again until the end is asked for or reached. */
static void
deliver_until_end(Run *run)
{
	int			pause = FIRST_PAUSE;
	int64_t		begun = clock_now();

	for (;;)
	{
		int64_t		connected = clock_now();
		Outcome		outcome = connect_and_deliver(run);

		if (outcome == OUTCOME_STOP || wait_stopped())
			break;
		if (run->first && run->in_use && clock_now() - begun > IN_USE_MS)
			report_failure(EXIT_IN_USE, "the feed \"%s\" is in use: another consumer is connected", run->options->feed);
		server_disconnect(&run->server);
		metrics_connected(false);
		/* one that has lasted is no reason to wait long */
		if (clock_now() - connected > LONGEST_PAUSE)
			pause = FIRST_PAUSE;
		pause_run(run, pause);
		pause = pause * 2 > LONGEST_PAUSE ? LONGEST_PAUSE : pause * 2;
	}
	server_disconnect(&run->server);
}

/*
 * Puts something in place of standard files that are closed, or the next file
 * opened would be taken for one: what is printed there would be in the sink.
 * They can be used for the wrong direction only, so that they still fail.
 */
static void
open_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int
main(int argc, char **argv)
{
	static Run	run;
	Options		options;

	open_standard_files();
	options_read(&options, argc, argv);
	wait_init();
	if (options.drop)
	{
		run.options = &options;
		run.first = true;
	}
	else
		begin_run(&run, &options);
	if (options.metrics != NULL)
		metrics_begin(options.metrics, options.feed);
	deliver_until_end(&run);
	if (run.sink != NULL)
	{
		sink_finish(run.sink);
		metrics_settle(run.sink->durable, run.state.low);
		sink_close(run.sink);
	}
	return EXIT_DONE;
}
