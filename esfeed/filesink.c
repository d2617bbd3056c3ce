/*
 * filesink.c
 *		The sink file:PATH: each event exactly once, a line each.
 *
 * PATH holds the messages and nothing else.  PATH.esfeed holds the state
 * (state.h), replaced as a whole.  What is written where, and when:
 *
 *	1. lines are added to PATH, never changed;
 *	2. a checkpoint brings PATH to disk, then replaces PATH.esfeed;
 *	3. only then the server is told that the commits before state.lsn are not
 *	   needed any more.
 *
 * Events come from a source: in the phase HISTORY es_read_all from the position
 * low on, in order of position up to head; in STREAM the slot from the commit at
 * lsn on, whole transactions in order of commits, without those up to head.  The
 * state on disk always keeps two promises:
 *
 *	(complete)	every event that this source, begun at low or lsn, does not
 *				send is in PATH, within its first `length` bytes, on disk;
 *	(once)		every line of an event that it does send begins at or after
 *				`offset`.
 *
 * So after a crash at any instant: cut off an unfinished last line; read the
 * lines from `offset` on and keep their positions; begin the source at low or
 * lsn; drop what is among these positions, write the rest.  By (complete)
 * nothing is missing, by (once) nothing comes twice, and whole lines stay
 * where a reader of PATH has seen them.  After a crash of the machine there may
 * be holes behind `length`: the first line that is no message, and all after
 * it, is cut off as unfinished.
 *
 * Why the checkpoints keep the promises:
 *
 *	HISTORY		low is the last position written, dropped or looked at; the order
 *				of positions gives (complete).  offset is where the file ended then.
 *	STREAM		lsn is that of a mark (run.c): what the commits before it had was
 *				written.  offset is where the file ended at the mark before it: no
 *				line of a commit at or after lsn had come by then.
 *	both		that is, if no position that was kept at the start was still to come
 *				where offset is taken, else it stays: a smaller one costs time, no
 *				more.  Once a stream is past where the server was when we
 *				connected, what was kept and did not come never will (a promoted
 *				standby may have lost it), and is forgotten.
 *	to STREAM	when es_read_all has reached head: low = head, lsn is where the
 *				slot begins, offset is the end of the file.  Nothing in it has a
 *				position after head, since head was read after it was written.
 *
 * The slot: we alone confirm, and never beyond the lsn on disk.  A slot that has
 * confirmed more was read by somebody else, or dropped and made anew (a new one
 * begins after all that has been).  That is how it is told apart.  It may have
 * confirmed less, as a crashed server does; it starts where we ask it to.
 *
 * A feed that is lost is healed by a new slot with a new head, then HISTORY from
 * low with offset 0, as the file may have any events after low: all that was
 * committed meanwhile is at most at head, or in the new slot.
 * In STREAM low is a settled position S that was asked for before an lsn that
 * has been passed since: whatever is at most at S had committed by then.
 *
 * Locks: flock on PATH, so two esfeeds exclude each other by whatever name they
 * call the file.  It ends with the process.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "message.h"
#include "positions.h"
#include "report.h"
#include "state.h"

#define BUFFER_SIZE (256 * 1024)
#define SCAN_SIZE (1024 * 1024)

typedef struct FileSink
{
	Sink		sink;
	const char *path;
	char	   *state_path;
	int			fd;
	int64_t		length;			/* of the file, without the buffer */
	int64_t		durable_length; /* how much of it is on disk for sure */
	char	   *buffer;			/* whole lines */
	size_t		used;
} FileSink;

/* Opens the file for us alone. */
static Sink *
file_open(const Options *options)
{
	FileSink   *file = get_zeroed(sizeof(FileSink));
	struct stat about;

	file->path = options->target;
	file->state_path = make_text("%s.esfeed", file->path);
	file->buffer = get_memory(BUFFER_SIZE);
	file->fd = open(file->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (file->fd < 0)
		report_failure(EXIT_SINK, "could not open \"%s\": %s", file->path, strerror(errno));
	if (fstat(file->fd, &about) != 0 || !S_ISREG(about.st_mode))
		report_failure(EXIT_USAGE, "\"%s\" is not a regular file", file->path);
	if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
		report_failure(EXIT_IN_USE, "another esfeed writes to \"%s\"", file->path);
	file->length = (int64_t) about.st_size;
	return &file->sink;
}

/* Reads the state, and sees that the file is the one that it is about. */
static bool
file_restore(Sink *sink, State *state)
{
	FileSink   *file = (FileSink *) sink;

	if (!state_read(state, file->state_path))
	{
		if (file->length == 0)
			return false;
		report_hint("Deliver to a file that does not exist, or bring \"%s\" back.", file->state_path);
		report_failure(EXIT_LOST, "\"%s\" is not empty, and there is no \"%s\" that tells what it has",
					   file->path, file->state_path);
	}
	if (file->length < state->length)
	{
		report_hint("To deliver everything anew, remove \"%s\" and \"%s\".", file->path, file->state_path);
		report_failure(EXIT_LOST, "\"%s\" has %" PRId64 " bytes, but had %" PRId64 " when it was last written",
					   file->path, file->length, state->length);
	}
	file->durable_length = state->length;
	return true;
}

/* ---- after a crash ---- */

/* Lines that are read back, in pieces. */
typedef struct Scan
{
	char	   *data;
	size_t		size;
	size_t		used;
	int64_t		start;			/* offset of data in the file */
} Scan;

/* Reads more of the file behind what there is; false at its end. */
static bool
extend_scan(const FileSink *file, Scan *scan)
{
	ssize_t		got;

	if (scan->used == scan->size)
	{
		scan->size = scan->size ? scan->size * 2 : SCAN_SIZE;
		scan->data = more_memory(scan->data, scan->size);
	}
	do
		got = pread(file->fd, scan->data + scan->used, scan->size - scan->used,
					(off_t) (scan->start + (int64_t) scan->used));
	while (got < 0 && errno == EINTR);
	if (got < 0)
		report_failure(EXIT_SINK, "could not read \"%s\": %s", file->path, strerror(errno));
	scan->used += (size_t) got;
	return got > 0;
}

/*
 * Keeps the positions of whole lines, those after low; returns how many bytes
 * are good.  Behind the first bad line nothing is.
 */
static size_t
keep_lines(const Scan *scan, int64_t low, Positions *seen, bool *bad)
{
	size_t		good = 0;

	while (good < scan->used)
	{
		const char *line = scan->data + good;
		const char *end = memchr(line, '\n', scan->used - good);
		Message		message;

		if (end == NULL)
			break;
		if (memchr(line, '\0', (size_t) (end - line)) != NULL ||
			!message_scan(&message, line, (size_t) (end - line)))
		{
			*bad = true;
			break;
		}
		if (message.position > low)
			positions_add(seen, message.position);
		good += (size_t) (end - line) + 1;
	}
	return good;
}

/* Reads the lines from an offset on; returns where the last good one ends. */
static int64_t
scan_lines(const FileSink *file, int64_t offset, int64_t low, Positions *seen)
{
	Scan		scan = {.start = offset};
	bool		bad = false;

	while (!bad && extend_scan(file, &scan))
	{
		size_t		good = keep_lines(&scan, low, seen, &bad);

		memmove(scan.data, scan.data + good, scan.used - good);
		scan.used -= good;
		scan.start += (int64_t) good;
	}
	free(scan.data);
	return scan.start;
}

/* Hands the buffer to the system, and cuts off what does not fit on the disk. */
static void
file_work(Sink *sink)
{
	FileSink   *file = (FileSink *) sink;
	size_t		done = 0;

	while (done < file->used)
	{
		ssize_t		wrote = write(file->fd, file->buffer + done, file->used - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
		{
			int			error = errno;

			while (done > 0 && file->buffer[done - 1] != '\n')
				done--;
			if (ftruncate(file->fd, (off_t) (file->length + (int64_t) done)) != 0)
				report_warning("could not cut off the last line of \"%s\": %s", file->path, strerror(errno));
			report_failure(EXIT_SINK, "could not write to \"%s\": %s", file->path, strerror(error));
		}
		done += (size_t) wrote;
	}
	file->length += (int64_t) done;
	file->used = 0;
}

/*
 * Cuts off what is unfinished and collects the events that may come again.
 * What was on disk for sure must be whole.
 */
static void
file_recover(Sink *sink, const State *state, Positions *seen)
{
	FileSink   *file = (FileSink *) sink;
	int64_t		low = state->phase == PHASE_STREAM ? 0 : state->low;
	int64_t		end;

	file_work(sink);
	end = scan_lines(file, state->offset, low, seen);
	if (end < state->length)
	{
		report_hint("Somebody has changed the file.  To deliver everything anew, remove \"%s\" and \"%s\".",
					file->path, file->state_path);
		report_failure(EXIT_LOST, "there is no message at byte %" PRId64 " of \"%s\"", end, file->path);
	}
	if (end < file->length)
	{
		report_note("cutting off %" PRId64 " bytes of an unfinished line of \"%s\"", file->length - end, file->path);
		if (ftruncate(file->fd, (off_t) end) != 0)
			report_failure(EXIT_SINK, "could not cut off the last line of \"%s\": %s", file->path, strerror(errno));
		file->length = end;
	}
}

/* ---- delivery ---- */

/* Writes a line that is larger than the buffer. */
static void
write_long_line(FileSink *file, const Message *message)
{
	char	   *buffer = file->buffer;

	file->buffer = get_memory(message->length + 1);
	file->used = message_line(message, file->buffer);
	file_work(&file->sink);
	free(file->buffer);
	file->buffer = buffer;
}

/* Adds a line. */
static void
file_write(Sink *sink, const Message *message)
{
	FileSink   *file = (FileSink *) sink;

	if (file->used + message->length + 1 > BUFFER_SIZE)
		file_work(sink);
	if (message->length + 1 > BUFFER_SIZE)
	{
		write_long_line(file, message);
		return;
	}
	file->used += message_line(message, file->buffer + file->used);
}

/*
 * Sees that the file is where it was, and as long as we have made it.  What is
 * written to one that was moved, removed or cut must not be confirmed.
 */
static void
check_file(const FileSink *file)
{
	struct stat ours;
	struct stat named;

	if (fstat(file->fd, &ours) != 0)
		report_failure(EXIT_SINK, "could not look at \"%s\": %s", file->path, strerror(errno));
	if (stat(file->path, &named) != 0 || named.st_dev != ours.st_dev || named.st_ino != ours.st_ino)
	{
		report_hint("Bring it back and start again: nothing is lost then.");
		report_failure(EXIT_LOST, "somebody has moved or removed \"%s\"", file->path);
	}
	if ((int64_t) ours.st_size != file->length)
		report_failure(EXIT_LOST, "somebody has changed \"%s\": it has %" PRId64 " bytes, not %" PRId64, file->path,
					   (int64_t) ours.st_size, file->length);
}

/*
 * Brings the file to disk.  If that fails the system may have forgotten what it
 * could not write while it still shows it, so all of that is cut off.
 */
static void
file_sync(Sink *sink)
{
	FileSink   *file = (FileSink *) sink;

	file_work(sink);
	check_file(file);
	if (file->length > file->durable_length)
	{
		if (fdatasync(file->fd) != 0)
		{
			int			error = errno;

			if (ftruncate(file->fd, (off_t) file->durable_length) != 0)
				report_warning("could not cut off what is not on disk: %s", strerror(errno));
			report_failure(EXIT_SINK, "could not bring \"%s\" to disk: %s", file->path, strerror(error));
		}
		file->durable_length = file->length;
	}
	sink->durable = sink->accepted;
}

/* Replaces the state; what it says of the file is on disk. */
static void
file_save(Sink *sink, State *state)
{
	FileSink   *file = (FileSink *) sink;

	file_sync(sink);
	state->length = file->durable_length;
	state_write(state, file->state_path);
}

/* Tells where the next line goes. */
static int64_t
file_length(const Sink *sink)
{
	const FileSink *file = (const FileSink *) sink;

	return file->length + (int64_t) file->used;
}

/* The lock goes with the descriptor. */
static void
file_close(Sink *sink)
{
	close(((FileSink *) sink)->fd);
}

const SinkType sink_file = {
	.name = "file",
	.keeps_state = true,
	.open = file_open,
	.restore = file_restore,
	.recover = file_recover,
	.write = file_write,
	.work = file_work,
	.sync = file_sync,
	.save = file_save,
	.length = file_length,
	.finish = file_sync,
	.close = file_close,
};
