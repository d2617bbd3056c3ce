/*
 * commandsink.c
 *		The sink exec:COMMAND: lines on the standard input of a command.
 *
 * The command is started once, through sh.  It acknowledges what it has taken
 * for good by lines on its standard output: a line that is a number n
 * acknowledges the next n lines, any other line, an empty one say, one.  Lines
 * are acknowledged in their order.  Its standard error is ours.
 *
 * A command need not do that.  Its input is closed when it has acknowledged
 * nothing for a while of all that it was given, soon if we wait for it.  One that
 * ends with status 0 then, and has written nothing, has taken all; one that
 * collects lines acknowledges the rest.  For the next line it is started again.
 *
 * Lines are kept until they are acknowledged.  When the command ends otherwise
 * it is started again, after a pause that grows while nothing is acknowledged,
 * and gets from the first line on that is not.  So it sees every line at least
 * once, and each stream in its order; what it took without saying so comes
 * again.  One that sh cannot run (status 126 or 127) ends the program.
 *
 * At the end its standard input is closed, and it has some seconds to
 * acknowledge the rest; then it gets SIGTERM.  It is in a process group of its
 * own, so that Ctrl-C on a terminal leaves it to us.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "message.h"
#include "report.h"
#include "wait.h"

/* No more than that is kept unacknowledged; one line always is. */
#define MAX_LINES 10000
#define MAX_BYTES (16 * 1024 * 1024)

#define WRITE_AT_ONCE 64		/* lines */
#define FIRST_PAUSE 100			/* ms */
#define LONGEST_PAUSE 30000
#define FINISH_MS 10000

/* How long nothing may be acknowledged until the input is closed, in milliseconds. */
#define SILENT_MS 10000			/* by one that never has */
#define AWAITED_SILENT_MS 1000	/* so, and we wait for it */
#define AWAITED_MS 5000

typedef struct Line
{
	char	   *text;
	size_t		length;
} Line;

typedef struct CommandSink
{
	Sink		sink;
	const char *command;
	pid_t		pid;			/* 0: it does not run */
	int			input;			/* its standard input, -1: closed */
	int			output;
	int64_t		start_at;		/* when to start it next */
	int			pause;
	Line		lines[MAX_LINES];	/* a ring of what is not acknowledged */
	size_t		first;
	size_t		count;
	size_t		sent;			/* of count, handed over as a whole */
	size_t		sent_bytes;		/* of the line after these */
	size_t		bytes;			/* of all lines */
	char		answer[32];		/* a line of the command, not yet whole */
	size_t		answer_length;
	bool		silent;			/* it has written nothing since it was started */
	bool		closed;			/* we have closed its input: it has got all */
	int64_t		moved_at;		/* when it last was given or acknowledged
								 * something */
	bool		finishing;
} CommandSink;

/* Gives the nth line from the first that is not acknowledged. */
static Line *
line_at(CommandSink *command, size_t n)
{
	return &command->lines[(command->first + n) % MAX_LINES];
}

/* Runs in the new process: becomes the command. */
static void
become_command(const CommandSink *command, const int *input, const int *output)
{
	(void) setpgid(0, 0);
	(void) dup2(input[0], STDIN_FILENO);
	(void) dup2(output[1], STDOUT_FILENO);
	(void) signal(SIGPIPE, SIG_DFL);
	(void) signal(SIGXFSZ, SIG_DFL);
	(void) execl("/bin/sh", "sh", "-c", command->command, (char *) NULL);
	_exit(127);
}

/* Starts the command; all that is not acknowledged is to be sent. */
static void
start_command(CommandSink *command)
{
	int			input[2];
	int			output[2];

	if (pipe(input) != 0 || pipe(output) != 0)
		report_failure(EXIT_SINK, "could not make a pipe: %s", strerror(errno));
	(void) fcntl(input[1], F_SETFD, FD_CLOEXEC);
	(void) fcntl(output[0], F_SETFD, FD_CLOEXEC);
	(void) fcntl(input[1], F_SETFL, O_NONBLOCK);
	(void) fcntl(output[0], F_SETFL, O_NONBLOCK);
	command->pid = fork();
	if (command->pid < 0)
		report_failure(EXIT_SINK, "could not start a process: %s", strerror(errno));
	if (command->pid == 0)
	{
		close(input[1]);
		close(output[0]);
		become_command(command, input, output);
	}
	close(input[0]);
	close(output[1]);
	command->input = input[1];
	command->output = output[0];
	command->sent = command->sent_bytes = 0;
	command->answer_length = 0;
	command->silent = true;
	command->closed = false;
	command->moved_at = clock_now();
}

/* Prepares the command. */
static Sink *
command_open(const Options *options)
{
	CommandSink *command = get_zeroed(sizeof(CommandSink));

	command->command = options->target;
	command->input = command->output = -1;
	command->pause = FIRST_PAUSE;
	start_command(command);
	return &command->sink;
}

/* Keeps a line. */
static void
command_write(Sink *sink, const Message *message)
{
	CommandSink *command = (CommandSink *) sink;
	Line	   *line = line_at(command, command->count++);

	line->text = get_memory(message->length + 1);
	line->length = message_line(message, line->text);
	command->bytes += line->length;
}

/* Full when much is unacknowledged. */
static bool
command_is_full(const Sink *sink)
{
	const CommandSink *command = (const CommandSink *) sink;

	return command->count == MAX_LINES || command->bytes >= MAX_BYTES;
}

/* Closes an end of a pipe that may be closed already. */
static void
close_end(int *end)
{
	if (*end >= 0)
		close(*end);
	*end = -1;
}

/* Takes note of lines sent. */
static void
count_sent(CommandSink *command, size_t bytes)
{
	command->moved_at = clock_now();
	bytes += command->sent_bytes;
	while (command->sent < command->count && bytes >= line_at(command, command->sent)->length)
		bytes -= line_at(command, command->sent++)->length;
	command->sent_bytes = bytes;
}

/* Sends lines as far as the command takes them. */
static void
send_lines(CommandSink *command)
{
	while (command->input >= 0 && command->sent < command->count)
	{
		struct iovec pieces[WRITE_AT_ONCE];
		int			n = 0;
		ssize_t		wrote;

		for (size_t i = command->sent; i < command->count && n < WRITE_AT_ONCE; i++)
		{
			size_t		skip = n == 0 ? command->sent_bytes : 0;

			pieces[n].iov_base = &line_at(command, i)->text[skip];
			pieces[n++].iov_len = line_at(command, i)->length - skip;
		}
		wrote = writev(command->input, pieces, n);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0 && errno != EAGAIN)
			close_end(&command->input);
		if (wrote < 0)
			return;
		count_sent(command, (size_t) wrote);
	}
}

/* Drops lines that are acknowledged; more than were sent is a mistake of the command. */
static void
drop_lines(CommandSink *command, unsigned long n)
{
	if (n > command->sent)
		report_failure(EXIT_SINK, "the command acknowledged %lu lines, but only %zu were outstanding", n, command->sent);
	for (unsigned long i = 0; i < n; i++)
	{
		Line	   *line = line_at(command, 0);

		command->bytes -= line->length;
		free(line->text);
		command->first = (command->first + 1) % MAX_LINES;
		command->count--;
		command->sent--;
	}
	command->sink.durable += n;
	if (n == 0)
		return;
	command->pause = FIRST_PAUSE;
	command->moved_at = clock_now();
}

/* Takes one byte of what the command writes. */
static void
take_answer(CommandSink *command, char byte)
{
	char	   *answer = command->answer;
	char	   *end;
	unsigned long n;

	if (byte != '\n')
	{
		if (command->answer_length < sizeof(command->answer) - 1)
			answer[command->answer_length++] = byte;
		return;
	}
	answer[command->answer_length] = '\0';
	command->answer_length = 0;
	errno = 0;
	n = strtoul(answer, &end, 10);
	if (errno != 0 || answer[0] < '0' || answer[0] > '9' || *end != '\0')
		n = 1;
	drop_lines(command, n);
}

/* Reads acknowledgements as far as there are some. */
static void
read_answers(CommandSink *command)
{
	char		bytes[4096];
	ssize_t		got;

	while (command->output >= 0)
	{
		got = read(command->output, bytes, sizeof(bytes));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0)
		{
			close_end(&command->output);
			return;
		}
		command->silent = false;
		for (ssize_t i = 0; i < got; i++)
			take_answer(command, bytes[i]);
	}
}

/* Tells how the command ended; one that cannot be run at all ends the program. */
static void
report_end(const CommandSink *command, int status)
{
	if (WIFSIGNALED(status))
		report_warning("the command was ended by signal %d, %zu lines are unacknowledged", WTERMSIG(status), command->count);
	else if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
		report_failure(EXIT_SINK, "the command cannot be run (exit status %d)", WEXITSTATUS(status));
	else
		report_warning("the command ended with exit status %d, %zu lines are unacknowledged",
					   WEXITSTATUS(status), command->count);
}

/* Tells the command that it has got all. */
static void
end_input(CommandSink *command)
{
	command->closed = command->closed || command->input >= 0;
	close_end(&command->input);
}

/* Tells how long nothing may be acknowledged now; < 0: as long as it takes. */
static int
silence_allowed(const CommandSink *command)
{
	if (command->sink.awaited || command_is_full(&command->sink))
		return command->silent ? AWAITED_SILENT_MS : AWAITED_MS;
	return command->silent ? SILENT_MS : -1;
}

/* Closes the input of a command that has got all and acknowledges nothing. */
static void
close_if_silent(CommandSink *command)
{
	int			limit = silence_allowed(command);

	if (command->pid != 0 && command->count > 0 && command->sent == command->count &&
		limit >= 0 && clock_now() - command->moved_at >= limit)
		end_input(command);
}

/* Tells whether a command that has ended has done what it was to do. */
static bool
has_done_all(CommandSink *command, pid_t ended, int status)
{
	if (ended <= 0 || !command->closed || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return false;
	if (command->silent)
		drop_lines(command, command->sent);
	return command->sent == 0;
}

/* Looks whether the command has ended; waits for it once it has closed its output. */
static void
reap_command(CommandSink *command)
{
	int			status;
	pid_t		ended;

	if (command->pid == 0)
		return;
	ended = waitpid(command->pid, &status, WNOHANG);
	if (ended == 0)
		return;
	read_answers(command);
	close_end(&command->input);
	close_end(&command->output);
	command->pid = 0;
	command->start_at = clock_now();
	if (has_done_all(command, ended, status))
		return;
	if (ended > 0)
		report_end(command, status);
	command->start_at += command->pause;
	command->pause = command->pause * 2 > LONGEST_PAUSE ? LONGEST_PAUSE : command->pause * 2;
}

/* Sends, reads acknowledgements, and starts the command again where it has ended. */
static void
command_work(Sink *sink)
{
	CommandSink *command = (CommandSink *) sink;

	read_answers(command);
	reap_command(command);
	if (command->pid == 0 && !command->finishing && command->count > 0 && clock_now() >= command->start_at)
		start_command(command);
	send_lines(command);
	read_answers(command);
	close_if_silent(command);
}

/* Waits for acknowledgements, for room, and for the time to start again. */
static void
command_add_waits(Sink *sink, WaitSet *set)
{
	CommandSink *command = (CommandSink *) sink;

	if (command->pid == 0)
	{
		if (command->count == 0)
			return;
		wait_at_most(set, command->start_at - clock_now());
		return;
	}
	wait_add(set, command->output, POLLIN);
	if (command->sent < command->count)
		wait_add(set, command->input, POLLOUT);
	/* ended without closing both, or the reverse: look again soon */
	if (command->output < 0 || command->input < 0)
		wait_at_most(set, 50);
	else
		wait_at_most(set, 500);
}

/*
 * Hands over what was accepted, closes the input and waits for the rest of the
 * acknowledgements.
 */
static void
command_finish(Sink *sink)
{
	CommandSink *command = (CommandSink *) sink;
	int64_t		until = clock_now() + FINISH_MS;

	command->finishing = true;
	while (command->pid != 0 && clock_now() < until)
	{
		WaitSet		set;

		if (command->sent == command->count)
			end_input(command);
		wait_begin(&set, 100);
		command_add_waits(sink, &set);
		wait_now(&set);
		command_work(sink);
	}
	if (command->pid != 0)
	{
		report_warning("the command does not end, %zu lines are unacknowledged", command->count);
		(void) kill(-command->pid, SIGTERM);
	}
}

const SinkType sink_command = {
	.name = "exec",
	.open = command_open,
	.write = command_write,
	.is_full = command_is_full,
	.add_waits = command_add_waits,
	.work = command_work,
	.finish = command_finish,
};
