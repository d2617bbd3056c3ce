/*
 * wait.c
 *		The signals that end the program, and waiting for them, for descriptors
 *		and for the time.
 *
 * SIGTERM, SIGINT and SIGHUP ask for a clean end: they set a flag and write
 * into a pipe that every wait looks at, so none is missed between looking at
 * the flag and going to sleep.  One that was ignored when the program was
 * started, as nohup has it with SIGHUP, stays so.
 */
#include "wait.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

static volatile sig_atomic_t stopped = 0;
static int	stop_pipe[2] = {-1, -1};

/* Asks for a clean end. */
static void
handle_stop(int signo)
{
	int			saved = errno;

	(void) signo;
	stopped = 1;
	if (write(stop_pipe[1], "", 1) < 0)
	{
		/* full: then it wakes, too */
	}
	errno = saved;
}

/* Tells whether a signal is ignored. */
static bool
is_ignored(int signo)
{
	struct sigaction action;

	return sigaction(signo, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* wait_init prepares the signals. */
void
wait_init(void)
{
	struct sigaction action;
	const int	asking[] = {SIGTERM, SIGINT, SIGHUP};

	if (pipe(stop_pipe) != 0)
		report_failure(EXIT_SINK, "could not make a pipe: %s", strerror(errno));
	for (int i = 0; i < 2; i++)
	{
		(void) fcntl(stop_pipe[i], F_SETFL, O_NONBLOCK);
		(void) fcntl(stop_pipe[i], F_SETFD, FD_CLOEXEC);
	}
	memset(&action, 0, sizeof(action));
	sigemptyset(&action.sa_mask);
	action.sa_handler = handle_stop;
	for (size_t i = 0; i < sizeof(asking) / sizeof(asking[0]); i++)
		if (asking[i] == SIGTERM || !is_ignored(asking[i]))
			(void) sigaction(asking[i], &action, NULL);

	/* errors of write() tell it better, and do not end the program */
	action.sa_handler = SIG_IGN;
	(void) sigaction(SIGPIPE, &action, NULL);
	(void) sigaction(SIGXFSZ, &action, NULL);

	/* ignored, it would keep from us how a command ends */
	action.sa_handler = SIG_DFL;
	(void) sigaction(SIGCHLD, &action, NULL);
}

/* wait_stopped tells whether a clean end was asked for. */
bool
wait_stopped(void)
{
	return stopped != 0;
}

/* wait_begin makes an empty set. */
void
wait_begin(WaitSet *set, int timeout)
{
	set->count = 0;
	set->timeout = timeout;
}

/* wait_add adds a descriptor. */
void
wait_add(WaitSet *set, int fd, short events)
{
	if (fd < 0 || events == 0 || set->count >= WAIT_MAX)
		return;
	set->fds[set->count].fd = fd;
	set->fds[set->count].events = events;
	set->fds[set->count].revents = 0;
	set->count++;
}

/* wait_at_most shortens the time to wait. */
void
wait_at_most(WaitSet *set, int64_t timeout)
{
	if (timeout < 0)
		timeout = 0;
	if (set->timeout < 0 || timeout < set->timeout)
		set->timeout = (int) timeout;
}

/*
 * wait_now waits for one of the descriptors, the time, or a signal.  Once a
 * clean end was asked for signals are not waited for any more: what waits
 * then is what has to be finished.
 */
void
wait_now(WaitSet *set)
{
	int			count = set->count;

	if (!wait_stopped())
	{
		set->fds[count].fd = stop_pipe[0];
		set->fds[count].events = POLLIN;
		set->fds[count].revents = 0;
		count++;
	}
	(void) poll(set->fds, (nfds_t) count, set->timeout);
}

/* wait_pause waits some milliseconds, or for a signal. */
void
wait_pause(int timeout)
{
	WaitSet		set;

	wait_begin(&set, timeout);
	wait_now(&set);
}
