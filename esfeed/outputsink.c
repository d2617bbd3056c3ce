/*
 * outputsink.c
 *		The sink "-": standard output.
 *
 * What was written is durable: what reads a pipe has to take care of it from
 * there.  If standard output is a regular file it is brought to disk first.
 *
 * A pipe whose reader is slow is written to in small pieces, each only when
 * there is room for it, so that a request to end finds us.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "message.h"
#include "report.h"
#include "wait.h"

#define BUFFER_SIZE (256 * 1024)

/* How long a line may take to be finished once the end was asked for. */
#define FINISH_MS 5000

typedef struct OutputSink
{
	Sink		sink;
	bool		is_file;
	char	   *buffer;
	size_t		size;
	size_t		used;
	size_t		done;			/* of used, what was written */
} OutputSink;

/* Takes standard output. */
static Sink *
output_open(const Options *options)
{
	OutputSink *output = get_zeroed(sizeof(OutputSink));
	struct stat about;

	(void) options;
	if (fstat(STDOUT_FILENO, &about) != 0 || (fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY)
		report_failure(EXIT_SINK, "standard output is closed");
	output->is_file = S_ISREG(about.st_mode);
	output->size = BUFFER_SIZE;
	output->buffer = get_memory(output->size);
	return &output->sink;
}

/* Adds a line to the buffer. */
static void
output_write(Sink *sink, const Message *message)
{
	OutputSink *output = (OutputSink *) sink;

	if (output->used + message->length + 1 > output->size)
	{
		output->size = output->used + message->length + 1;
		output->buffer = more_memory(output->buffer, output->size);
	}
	output->used += message_line(message, output->buffer + output->used);
}

/* Full when there is enough for a write. */
static bool
output_is_full(const Sink *sink)
{
	return ((const OutputSink *) sink)->used >= BUFFER_SIZE - 4096;
}

/* Waits for room. */
static void
output_add_waits(Sink *sink, WaitSet *set)
{
	if (((OutputSink *) sink)->used > 0)
		wait_add(set, STDOUT_FILENO, POLLOUT);
}

/* Tells whether a write would not have to wait. */
static bool
has_room(void)
{
	struct pollfd fd = {.fd = STDOUT_FILENO,.events = POLLOUT};

	return poll(&fd, 1, 0) > 0;
}

/* Writes as far as it goes without waiting. */
static void
output_work(Sink *sink)
{
	OutputSink *output = (OutputSink *) sink;

	while (output->done < output->used && (output->is_file || has_room()))
	{
		size_t		rest = output->used - output->done;
		ssize_t		wrote;

		if (!output->is_file && rest > PIPE_BUF)
			rest = PIPE_BUF;
		wrote = write(STDOUT_FILENO, output->buffer + output->done, rest);
		if (wrote < 0 && errno != EINTR && errno != EAGAIN)
			report_failure(EXIT_SINK, "could not write to standard output: %s", strerror(errno));
		if (wrote < 0)
			break;
		output->done += (size_t) wrote;
	}
	if (output->done < output->used)
		return;
	output->used = output->done = 0;
	if (!output->is_file)
		sink->durable = sink->accepted;
}

/* Brings a regular file to disk. */
static void
output_sync(Sink *sink)
{
	OutputSink *output = (OutputSink *) sink;

	output_work(sink);
	if (!output->is_file || sink->durable == sink->accepted)
		return;
	if (fdatasync(STDOUT_FILENO) != 0)
		report_failure(EXIT_SINK, "could not bring standard output to disk: %s", strerror(errno));
	sink->durable = sink->accepted;
}

/* Finishes what was begun. */
static void
output_finish(Sink *sink)
{
	OutputSink *output = (OutputSink *) sink;
	int64_t		until = clock_now() + FINISH_MS;

	output_sync(sink);
	while (output->used > 0 && clock_now() < until)
	{
		WaitSet		set;

		wait_begin(&set, 100);
		output_add_waits(sink, &set);
		wait_now(&set);
		output_sync(sink);
	}
}

const SinkType sink_output = {
	.name = "-",
	.open = output_open,
	.write = output_write,
	.is_full = output_is_full,
	.add_waits = output_add_waits,
	.work = output_work,
	.sync = output_sync,
	.finish = output_finish,
};
