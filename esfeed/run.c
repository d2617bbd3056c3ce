/*
 * run.c
 *		Giving messages to the sink, and what follows from what it has.
 *
 * A mark stands for a place in the stream of messages: the end of a commit, or
 * a moment between two.  When the sink has for good what it was given before
 * a mark, all commits before the mark's LSN are delivered, and the state moves
 * on to it.
 */
#include "run.h"

#include <string.h>

#include "report.h"

/* Waits until the sink can take more; false if asked to end. */
static bool
wait_for_room(Run *run)
{
	while (sink_is_full(run->sink))
	{
		WaitSet		set;

		if (wait_stopped())
			return false;
		wait_begin(&set, CHECKPOINT_MS);
		sink_add_waits(run->sink, &set);
		wait_now(&set);
		sink_work(run->sink);
		if (run->tick != NULL)
			run->tick(run);
		progress_show();
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
		report_failure(EXIT_SERVER, "the server sent what is no message of an event: %.*s",
					   (int) (length > 200 ? 200 : length), text);
	*position = message.position;
	if (positions_remove(&run->seen, message.position))
		return true;
	if (sink_is_full(run->sink) && !wait_for_room(run))
		return false;
	sink_write(run->sink, &message);
	progress_count(message.position);
	return true;
}

/* run_reset_stream has the stream begin at an LSN. */
void
run_reset_stream(Run *run, uint64_t lsn)
{
	run->boundary = lsn;
	run->open_count = 0;
	run->mark_count = 0;
}

/* run_mark notes that all commits before an LSN were given to the sink. */
void
run_mark(Run *run, uint64_t lsn)
{
	Mark	   *mark;

	if (lsn < run->boundary)
		return;
	run->boundary = lsn;
	run->open_count = 0;
	if (lsn >= run->seen_until)
		positions_clear(&run->seen);

	if (run->mark_count > 0 && run->marks[run->mark_count - 1].accepted == run->sink->accepted)
		run->mark_count--;
	if (run->mark_count == run->mark_size)
	{
		run->mark_size = run->mark_size ? run->mark_size * 2 : 1024;
		run->marks = more_memory(run->marks, run->mark_size * sizeof(Mark));
	}
	mark = &run->marks[run->mark_count++];
	mark->accepted = run->sink->accepted;
	mark->lsn = lsn;
	mark->offset = run->seen.count == 0 ? sink_length(run->sink) : -1;
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
	for (;;)
	{
		WaitSet		set;

		sink_work(run->sink);
		sink_sync(run->sink);
		if (run->sink->durable == run->sink->accepted)
			return true;
		if (wait_stopped())
			return false;
		wait_begin(&set, CHECKPOINT_MS);
		sink_add_waits(run->sink, &set);
		wait_now(&set);
		if (run->tick != NULL)
			run->tick(run);
	}
}
