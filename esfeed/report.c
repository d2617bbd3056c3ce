/*
 * report.c
 *		Messages, and the progress line.
 *
 * All of it goes to stderr; stdout may be the sink.  The progress line is for
 * terminals only and is wiped before anything else is printed.
 */
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define HINT_SIZE 1000

/* How often the progress line is drawn, in milliseconds. */
#define DRAW_EVERY 500

/* The word before a note. */
#define NOTE ""

static bool be_quiet = false;

/* What can be done about what is reported next; empty: nothing. */
static char next_hint[HINT_SIZE] = "";

/* What the progress line tells of. */
static struct
{
	const char *what;			/* NULL: nothing */
	bool		drawn;			/* the cursor is at the end of a line */
	int64_t		from;			/* the position it began at */
	int64_t		goal;			/* the position it ends at, 0: never */
	int64_t		at;				/* the position it is at */
	int64_t		events;
	int64_t		begun;			/* when, in milliseconds */
	int64_t		last_draw;
	int64_t		last_events;
}			progress;

/* Wipes the progress line. */
static void
wipe_progress(void)
{
	if (progress.drawn)
		fputs("\r\033[K", stderr);
	progress.drawn = false;
}

/* Prints a line to stderr after a word that tells what it is. */
static void
print_line(const char *word, const char *format, va_list args)
{
	wipe_progress();
	fprintf(stderr, "esfeed: %s", word);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	if (next_hint[0] != '\0' && strcmp(word, NOTE) != 0)
	{
		fprintf(stderr, "esfeed: hint: %s\n", next_hint);
		next_hint[0] = '\0';
	}
}

/* report_quiet turns notes and the progress line off. */
void
report_quiet(bool quiet)
{
	be_quiet = quiet;
}

/* report_note tells what is going on. */
void
report_note(const char *format,...)
{
	va_list		args;

	if (be_quiet)
		return;
	va_start(args, format);
	print_line(NOTE, format, args);
	va_end(args);
}

/* report_warning tells what is not as it should be, but goes on. */
void
report_warning(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	print_line("warning: ", format, args);
	va_end(args);
}

/* report_hint tells what can be done about the warning or failure that is reported next. */
void
report_hint(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(next_hint, sizeof(next_hint), format, args);
	va_end(args);
}

/*
 * report_failure tells why the program ends, and ends it.  That is safe at any
 * moment: it leaves no more behind than kill -9 does.
 */
void
report_failure(ExitStatus status, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	print_line("error: ", format, args);
	va_end(args);
	exit(status);
}

/* progress_begin starts telling of something that goes from one position to another. */
void
progress_begin(const char *what, int64_t from, int64_t goal)
{
	memset(&progress, 0, sizeof(progress));
	progress.what = what;
	progress.from = progress.at = from;
	progress.goal = goal;
	progress.begun = progress.last_draw = clock_now();
}

/* progress_count counts an event. */
void
progress_count(int64_t position)
{
	progress.events++;
	if (progress.goal > 0 && position > progress.at)
		progress.at = position;
}

/* Draws how far it is to the goal. */
static void
draw_goal(double seconds)
{
	int64_t		all = progress.goal - progress.from;
	int64_t		done = progress.at - progress.from;

	fprintf(stderr, ", position %" PRId64 " of %" PRId64 " (%d %%)", progress.at, progress.goal,
			all > 0 ? (int) (100 * done / all) : 100);
	if (done > 0 && done < all)
	{
		int64_t		left = (int64_t) (seconds * (double) (all - done) / (double) done);

		fprintf(stderr, ", ready in %" PRId64 ":%02d:%02d", left / 3600, (int) (left / 60 % 60), (int) (left % 60));
	}
}

/* progress_show draws the progress line if it is time to. */
void
progress_show(void)
{
	int64_t		now;
	double		seconds;

	if (be_quiet || progress.what == NULL || !isatty(STDERR_FILENO))
		return;
	now = clock_now();
	if (now - progress.last_draw < DRAW_EVERY)
		return;
	wipe_progress();
	seconds = (double) (now - progress.last_draw) / 1000;
	fprintf(stderr, "%s: %" PRId64 " events, %.0f events/s", progress.what, progress.events,
			(double) (progress.events - progress.last_events) / seconds);
	if (progress.goal > 0)
		draw_goal((double) (now - progress.begun) / 1000);
	fflush(stderr);
	progress.drawn = true;
	progress.last_draw = now;
	progress.last_events = progress.events;
}

/* progress_end tells what was done altogether, and no more. */
void
progress_end(void)
{
	double		seconds;

	if (progress.what == NULL)
		return;
	seconds = (double) (clock_now() - progress.begun) / 1000;
	report_note("%s: %" PRId64 " events in %.1f s (%.0f events/s)", progress.what, progress.events, seconds,
				seconds > 0 ? (double) progress.events / seconds : 0);
	progress.what = NULL;
}
