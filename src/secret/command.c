/*
 * command.c
 *		A command of the server's administrator, and what it prints.
 *
 * The shell runs it as the server's operating system user, in a process group of its own,
 * with nothing to read.  It has none of the server's files and sockets with glibc 2.34 or
 * later, or a server from PostgreSQL 16 on; else what COPY ... TO PROGRAM has, too.  What it
 * prints is read as it comes, with an eye on the time and on cancellation; its errors go where
 * the server's own do.  When it is done, takes too long, prints too much, or is not wanted any
 * more, its whole group is killed: nothing of it stays, unless it has left the group.
 *
 * It is spawned, not forked, so the pages of this process are not copied.
 */
#include "secret/command.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"

#define SHELL		"/bin/sh"
#define LONGEST_NAP	20			/* ms, between looks whether it has ended */

extern char **environ;

/* A command on its way. */
typedef struct Child
{
	EsCommand  *command;
	pid_t		pid;			/* 0: there is none, or it is reaped */
	int			status;			/* when it is reaped */
	int			pipe;			/* its output; -1: closed */
	instr_time	started;
} Child;

/* What pg_stat_activity shows meanwhile. */
static uint32
command_wait_event(void)
{
	static uint32 known = 0;

	return es_base_wait_event(&known, "EventstoreKeyCommand");
}

/* How many ms a command still has. */
static long
command_time_left(const Child *child)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, child->started);
	return child->command->timeout - (long) INSTR_TIME_GET_MILLISEC(now);
}

/* Says how the shell is to be started; what it writes is to go to a pipe. */
static int
describe_child(posix_spawn_file_actions_t *files, posix_spawnattr_t *attributes, int output)
{
	sigset_t	none;
	sigset_t	ignored;

	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	(void) posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	(void) posix_spawnattr_setpgroup(attributes, 0);
	(void) posix_spawnattr_setsigmask(attributes, &none);
	(void) posix_spawnattr_setsigdefault(attributes, &ignored);
	if (posix_spawn_file_actions_addopen(files, STDIN_FILENO, DEVNULL, O_RDONLY, 0) != 0 ||
		posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO) != 0)
		return ENOMEM;
#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 34)
	if (posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1) != 0)
		return ENOMEM;
#endif
#endif
	return 0;
}

/* Starts the shell; gives an errno, 0 if it runs. */
static int
spawn_shell(Child *child, int output)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	char	   *arguments[] = {"sh", "-c", unconstify(char *, child->command->line), NULL};
	int			error = posix_spawn_file_actions_init(&files);

	if (error != 0)
		return error;
	error = posix_spawnattr_init(&attributes);
	if (error == 0)
	{
		error = describe_child(&files, &attributes, output);
		if (error == 0)
			error = posix_spawn(&child->pid, SHELL, &files, &attributes, arguments, environ);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&files);
	if (error != 0)
		child->pid = 0;
	return error;
}

/* Starts a command. */
static void
start_child(Child *child)
{
	int			ends[2];
	int			error;

	INSTR_TIME_SET_CURRENT(child->started);
	if (!AcquireExternalFD())
	{
		child->command->fault = psprintf("No file can be opened: %m.");
		return;
	}
	if (pipe2(ends, O_CLOEXEC) != 0)
	{
		child->command->fault = psprintf("No pipe can be opened: %m.");
		ReleaseExternalFD();
		return;
	}
	child->pipe = ends[0];
	(void) fcntl(child->pipe, F_SETFL, O_NONBLOCK);
	error = spawn_shell(child, ends[1]);
	close(ends[1]);
	if (error != 0)
	{
		errno = error;
		child->command->fault = psprintf("The shell cannot be run: %m.");
	}
}

/*
 * Kills what is left of a command, and sees to it that nothing of it stays.  Not inline: the
 * compiler would warn of what a jump could change.
 */
static pg_noinline void
end_child(Child *child)
{
	if (child->pid > 0)
	{
		(void) kill(-child->pid, SIGKILL);
		while (waitpid(child->pid, &child->status, 0) < 0 && errno == EINTR)
			;
		child->pid = 0;
	}
	if (child->pipe >= 0)
	{
		close(child->pipe);
		child->pipe = -1;
		ReleaseExternalFD();
	}
}

/* Waits for news of a command, for some time at most; notes it if there is no time left. */
static void
await_child(Child *child, long nap)
{
	long		left = command_time_left(child);
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (left <= 0)
	{
		child->command->fault = psprintf("The command took longer than %d ms.", child->command->timeout);
		return;
	}
	if (nap > 0)
		(void) WaitLatch(MyLatch, events, Min(nap, left), command_wait_event());
	else
		(void) WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE, child->pipe, left, command_wait_event());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Reads all that a command prints. */
static void
read_child(Child *child)
{
	EsCommand  *command = child->command;
	bool		ended = false;

	while (!ended && command->fault == NULL)
	{
		ssize_t		n = read(child->pipe, command->output + command->len, command->room - command->len);

		if (n > 0)
			command->len += n;
		if (command->len == command->room)
			command->fault = "The command printed too much.";
		else if (n == 0)
			ended = true;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			await_child(child, 0);
		else if (n < 0 && errno != EINTR)
			command->fault = psprintf("What the command prints cannot be read: %m.");
	}
}

/* Waits until a command has ended, which has closed its output. */
static void
reap_child(Child *child)
{
	EsCommand  *command = child->command;
	long		nap = 1;

	while (command->fault == NULL)
	{
		pid_t		pid = waitpid(child->pid, &child->status, WNOHANG);

		if (pid == child->pid)
		{
			/* what it has left behind has no one to wait for */
			(void) kill(-child->pid, SIGKILL);
			child->pid = 0;
			if (child->status != 0)
				command->fault = psprintf("The command failed: %s.", wait_result_to_str(child->status));
			return;
		}
		if (pid < 0 && errno != EINTR)
			command->fault = psprintf("The command cannot be waited for: %m.");
		else
			await_child(child, nap);
		nap = Min(2 * nap, LONGEST_NAP);
	}
}

/* Runs a command up to its end; not inline, as well. */
static pg_noinline void
run_child(Child *child)
{
	start_child(child);
	if (child->command->fault == NULL)
		read_child(child);
	if (child->command->fault == NULL)
		reap_child(child);
}

/*
 * es_command_run runs a command and takes what it prints.  Whatever becomes of it,
 * nothing of it runs any more afterwards.
 */
void
es_command_run(EsCommand *command)
{
	Child		child = {.command = command,.pipe = -1};

	command->len = 0;
	command->fault = NULL;
	PG_TRY();
	{
		run_child(&child);
	}
	PG_CATCH();
	{
		end_child(&child);
		PG_RE_THROW();
	}
	PG_END_TRY();
	end_child(&child);
}
