/*
 * run.c
 *		Giving messages to the sink, and what follows from what it has.
 *
 * A mark is a place in the stream of messages before which all commits up to an
 * LSN have come.  A commit may be halfway through there: the server goes on to
 * the next LSN when all of a commit is sent.  When the sink has for good what it
 * was given before a mark the state moves on to it.
 *
 * What may come again if the stream begins at a mark's LSN?  Commits at or
 * after it.  None of them had begun to come when the mark before, whose LSN is
 * lower, came.  So it is at most what came since the mark before.
 */
#include "run.h"

#include <string.h>

#include "memory.h"
#include "message.h"
#include "metrics.h"
#include "positions.h"
#include "report.h"
#include "sink.h"
#include "wait.h"

/* run_wanted gives what was asked for of the feed, as parameters of statements. */
void
run_wanted(const Run *run, const char **wanted)
{
	wanted[0] = run->categories;
	wanted[1] = run->types;
	wanted[2] = *run->options->format != '\0' ? run->options->format : NULL;
	wanted[WANTED_QUERY] = *run->options->query != '\0' ? run->options->query : NULL;
}

/* run_show tells how far things are, where somebody wants to know, if it is time to. */
void
run_show(Run *run)
{
	metrics_settle(run->sink->durable, run->state.low);
	metrics_show();
	progress_show();
}

/* Waits until the sink can take more; false if asked to end. */
static bool
wait_for_room(Run *run)
{
	while (sink_is_full(run->sink))
	{
		if (wait_stopped())
			return false;
		sink_wait(run->sink, CHECKPOINT_MS);
		sink_work(run->sink);
		if (run->tick != NULL)
			run->tick(run);
		run_show(run);
	}
	return true;
}

/*
 * run_take takes a message: gives it to the sink unless that has it already.
 * False, and the message is not taken, if the end was asked for.
 */
bool
run_take(Run *run, const char *text, size_t length, int64_t *position)
{
	Message		message;

	if (!message_scan(&message, text, length))
		report_failure(EXIT_SERVER, "the server sent something that is not a message of an event: %.*s",
					   (int) (length > 200 ? 200 : length), text);
	*position = message.position;
	if (positions_remove(&run->seen, message.position))
		return true;
	if (!wait_for_room(run))
		return false;
	sink_write(run->sink, &message);
	progress_count(message.position);
	metrics_count(message.position);
	return true;
}

/* Keeps a position. */
static void
remember_position(Given *given, int64_t position)
{
	given->positions = make_room(given->positions, given->count, &given->size, sizeof(int64_t));
	given->positions[given->count++] = position;
}

/* run_take_streamed takes a message of the stream, as run_take does. */
bool
run_take_streamed(Run *run, const char *text, size_t length)
{
	int64_t		position;

	if (!run_take(run, text, length, &position))
		return false;
	remember_position(&run->since, position);
	return true;
}

/* run_reset_stream has the stream begin at an LSN, with nothing given yet of what comes. */
void
run_reset_stream(Run *run, uint64_t lsn)
{
	run->boundary = lsn;
	run->before.count = run->since.count = 0;
	run->mark_count = 0;
}

/*
 * run_begin_stream prepares for a stream that begins at the boundary: what was
 * given of it comes again.
 */
void
run_begin_stream(Run *run)
{
	for (size_t i = 0; i < run->before.count; i++)
		positions_add(&run->seen, run->before.positions[i]);
	for (size_t i = 0; i < run->since.count; i++)
		positions_add(&run->seen, run->since.positions[i]);
	run->before.count = run->since.count = 0;
	run->seen_until = run->server.lsn;
	run->boundary_length = run->seen.count == 0 ? sink_length(run->sink) : -1;
}

/* Gives the place for a mark after what the sink was given until now. */
static Mark *
next_mark(Run *run)
{
	if (run->mark_count > 0 && run->marks[run->mark_count - 1].accepted == run->sink->accepted)
		return &run->marks[run->mark_count - 1];
	run->marks = make_room(run->marks, run->mark_count, &run->mark_size, sizeof(Mark));
	return &run->marks[run->mark_count++];
}

/* run_mark notes that all commits before an LSN have come. */
void
run_mark(Run *run, uint64_t lsn)
{
	Given		given = run->before;
	Mark	   *mark;

	if (lsn <= run->boundary)
		return;
	mark = next_mark(run);
	mark->accepted = run->sink->accepted;
	mark->lsn = lsn;
	mark->offset = run->boundary_length;

	if (lsn >= run->seen_until)
		positions_clear(&run->seen);
	run->boundary = lsn;
	run->boundary_length = run->seen.count == 0 ? sink_length(run->sink) : -1;
	run->before = run->since;
	run->since = given;
	run->since.count = 0;
}

/* run_settle_marks moves the state to the last mark that is durable; false if it stays. */
bool
run_settle_marks(Run *run)
{
	size_t		n = 0;

	while (n < run->mark_count && run->marks[n].accepted <= run->sink->durable)
		n++;
	if (n == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (run->marks[i].offset >= 0)
			run->state.offset = run->marks[i].offset;
	run->state.lsn = run->marks[n - 1].lsn;
	run->mark_count -= n;
	memmove(run->marks, run->marks + n, run->mark_count * sizeof(Mark));
	return true;
}

/* run_drain waits until the sink has all for good; false if asked to end. */
bool
run_drain(Run *run)
{
	Sink	   *sink = run->sink;

	for (;;)
	{
		sink->awaited = true;
		sink_work(sink);
		sink_sync(sink);
		sink->awaited = false;
		if (sink->durable == sink->accepted)
			return true;
		if (wait_stopped())
			return false;
		sink_wait(sink, CHECKPOINT_MS);
		if (run->tick != NULL)
			run->tick(run);
	}
}
