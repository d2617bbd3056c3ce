/*
 * report.h
 *		What esfeed tells its user, and the statuses it exits with.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Exit statuses; the manual lists them. */
typedef enum ExitStatus
{
	EXIT_DONE = 0,				/* stopped as asked, or caught up */
	EXIT_USAGE = 1,				/* an option or its value */
	EXIT_CONNECT = 2,			/* no connection to the server */
	EXIT_SERVER = 3,			/* the server refuses: rights, settings,
								 * standby */
	EXIT_NO_FEED = 4,			/* there is no such feed */
	EXIT_IN_USE = 5,			/* the feed or the file is another esfeed's */
	EXIT_LOST = 6,				/* the feed is not the one that was read */
	EXIT_SINK = 7				/* the sink takes no more */
} ExitStatus;

#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

extern void report_quiet(bool quiet);
extern void report_note(const char *format,...) PRINTF_LIKE(1, 2);
extern void report_warning(const char *format,...) PRINTF_LIKE(1, 2);
extern void report_hint(const char *format,...) PRINTF_LIKE(1, 2);
extern void report_failure(ExitStatus status, const char *format,...)
			PRINTF_LIKE(2, 3) __attribute__((noreturn));

/* The line on a terminal that tells how far things are. */
extern void progress_begin(const char *what, int64_t from, int64_t goal);
extern void progress_count(int64_t position);
extern void progress_show(void);
extern void progress_end(void);

#endif							/* REPORT_H */
