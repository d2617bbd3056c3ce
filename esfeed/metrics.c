/*
 * metrics.c
 *		Numbers for Prometheus, in a file.
 *
 * The file is for the textfile collector of node_exporter: a port of our own would
 * have to be chosen, guarded and answered at any moment, also while the sink takes
 * nothing.  It is written every few seconds, beside its place, and put there as a
 * whole, so that nobody reads half of it.  A program that was killed leaves the file
 * as it was; when it was written is one of the numbers.
 */
#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "memory.h"
#include "report.h"

/* How often it is written, in milliseconds. */
#define WRITE_EVERY 5000

static struct
{
	const char *path;			/* NULL: nobody wants any */
	char	   *beside;			/* where it is written */
	const char *feed;
	bool		connected;
	bool		told;			/* that it cannot be written */
	int64_t		next_write;
	uint64_t	connections;
	uint64_t	events;
	uint64_t	durable;
	int64_t		position;
	int64_t		low;			/* below 0: not known */
	time_t		last_event;
}			metrics;

/* Writes one number. */
static void
print_metric(FILE *file, const char *name, const char *kind, const char *help, int64_t value)
{
	fprintf(file, "# HELP esfeed_%s %s\n# TYPE esfeed_%s %s\nesfeed_%s{feed=\"%s\"} %" PRId64 "\n", name, help, name, kind,
			name, metrics.feed, value);
}

/* Writes all of them; false, and errno says why, if that does not work. */
static bool
print_metrics(FILE *file, bool running)
{
	print_metric(file, "up", "gauge", "Whether esfeed is running.", running);
	print_metric(file, "connected", "gauge", "Whether it is connected to the server.", running && metrics.connected);
	print_metric(file, "connections_total", "counter", "Connections that it has made.", (int64_t) metrics.connections);
	print_metric(file, "events_total", "counter", "Events that the sink was given.", (int64_t) metrics.events);
	print_metric(file, "durable_events_total", "counter", "Events of these that the sink has for good.", (int64_t) metrics.durable);
	if (metrics.events > 0)
	{
		print_metric(file, "position", "gauge", "The position of the event that the sink was given last.", metrics.position);
		print_metric(file, "last_event_timestamp_seconds", "gauge", "When that was.", (int64_t) metrics.last_event);
	}
	if (metrics.low >= 0)
		print_metric(file, "complete_position", "gauge", "The sink has every event up to this position.", metrics.low);
	print_metric(file, "written_timestamp_seconds", "gauge", "When this file was written.", (int64_t) time(NULL));
	return fflush(file) == 0 && !ferror(file);
}

/* Writes the file.  That it cannot be written is told once, and hinders nothing. */
static void
write_metrics(bool running)
{
	FILE	   *file = fopen(metrics.beside, "we");
	bool		done = file != NULL && print_metrics(file, running);
	int			reason = errno;

	if (file != NULL && fclose(file) != 0 && done)
	{
		done = false;
		reason = errno;
	}
	if (done && rename(metrics.beside, metrics.path) != 0)
	{
		done = false;
		reason = errno;
	}
	if (!done && !metrics.told)
		report_warning("could not write the metrics to \"%s\": %s", metrics.path, strerror(reason));
	metrics.told = !done;
	metrics.next_write = clock_now() + WRITE_EVERY;
}

/* Tells, as the program ends, that it does not run any more. */
static void
write_last_metrics(void)
{
	write_metrics(false);
}

/* metrics_begin has metrics of a feed written to a file from now on, to the program's end. */
void
metrics_begin(const char *path, const char *feed)
{
	metrics.path = path;
	metrics.beside = make_text("%s.new", path);
	metrics.feed = feed;
	metrics.low = -1;
	write_metrics(true);
	atexit(write_last_metrics);
}

/* metrics_connected notes a connection that is made, or lost, and writes that at once. */
void
metrics_connected(bool connected)
{
	if (connected == metrics.connected)
		return;
	metrics.connected = connected;
	metrics.connections += connected;
	metrics.next_write = 0;
	metrics_show();
}

/* metrics_count counts an event that the sink was given. */
void
metrics_count(int64_t position)
{
	metrics.events++;
	metrics.position = position;
	if (metrics.path != NULL)
		metrics.last_event = time(NULL);
}

/* metrics_settle notes how many events the sink has for good, and up to where all of them. */
void
metrics_settle(uint64_t durable, int64_t low)
{
	metrics.durable = durable;
	metrics.low = low;
}

/* metrics_show writes the file if it is time to. */
void
metrics_show(void)
{
	if (metrics.path != NULL && clock_now() >= metrics.next_write)
		write_metrics(true);
}
