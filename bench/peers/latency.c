/*
 * latency.c
 *		Measures from the sending of an append to its delivery, at a steady rate.
 *
 * usage: latency CONNINFO MODE RATE SECONDS
 *
 * One process appends at the rate, each event with the time at which it was
 * sent; the other one receives, and takes the time of each as its result
 * arrives.  Both read CLOCK_MONOTONIC of one machine.
 * Prints the median and the 99th percentile in ms, and how many were received.
 *
 *	poll	es_poll with wait, then es_ack, in one transaction
 *	notify	a table and NOTIFY by the writer; LISTEN, then SELECT
 *	every50	the same table, SELECT each 50 ms
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const append_event = "SELECT es_append('latency-' || $1::bigint % 100, 'Sent', jsonb_build_object('sent', $1::bigint))";
static const char *const insert_row = "INSERT INTO bench.latency (sent) VALUES ($1::bigint)";
static const char *const insert_notify = "WITH i AS (INSERT INTO bench.latency (sent) VALUES ($1::bigint)) SELECT pg_notify('latency', '')";
static const char *const poll_events = "SELECT position, data ->> 'sent' FROM es_poll('latency', 1000, '1s')";
static const char *const ack_events = "SELECT es_ack('latency', 0, $1::bigint)";
static const char *const select_rows = "SELECT id, sent FROM bench.latency WHERE id > $1::bigint ORDER BY id";

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static PGconn *
connect_to(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

/* Runs a prepared statement with one number. */
static PGresult *
run(PGconn *conn, const char *statement, int nparams, int64_t number)
{
	char		text[24];
	const char *values[1] = {text};
	PGresult   *result;

	snprintf(text, sizeof(text), "%lld", (long long) number);
	result = PQexecPrepared(conn, statement, nparams, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	return result;
}

static void
write_events(const char *conninfo, const char *statement, int rate, int count)
{
	PGconn	   *conn = connect_to(conninfo);
	int64_t		start;

	PQclear(PQprepare(conn, "s", statement, 0, NULL));
	usleep(300000);				/* the reader waits by then */
	start = now();
	for (int i = 0; i < count; i++)
	{
		int64_t		due = start + i * INT64_C(1000000000) / rate;

		while (now() < due)
			usleep((useconds_t) ((due - now()) / 1000 > 0 ? (due - now()) / 1000 : 0));
		PQclear(run(conn, "s", 1, now()));
	}
	PQfinish(conn);
}

static int
compare(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

/* Waits for a notification. */
static void
await_notification(PGconn *conn)
{
	PGnotify   *notify;
	int			got = 0;

	while (!got)
	{
		struct pollfd fd = {.fd = PQsocket(conn),.events = POLLIN};

		if (poll(&fd, 1, 1000) == 0)
			return;
		PQconsumeInput(conn);
		while ((notify = PQnotifies(conn)) != NULL)
		{
			PQfreemem(notify);
			got = 1;
		}
	}
}

static void
read_events(const char *conninfo, const char *mode, int count)
{
	PGconn	   *conn = connect_to(conninfo);
	int64_t    *times = malloc(sizeof(int64_t) * count);
	int64_t		last = 0;
	int64_t		end = now() + INT64_C(120) * 1000000000;
	int			polls = strcmp(mode, "poll") == 0;
	int			n = 0;

	PQclear(PQprepare(conn, "s", polls ? poll_events : select_rows, 0, NULL));
	if (polls)
		PQclear(PQprepare(conn, "ack", ack_events, 0, NULL));
	if (strcmp(mode, "notify") == 0)
		PQclear(PQexec(conn, "LISTEN latency"));
	while (n < count && now() < end)
	{
		PGresult   *result;
		int64_t		received;

		if (strcmp(mode, "notify") == 0)
			await_notification(conn);
		else if (!polls)
			usleep(50000);
		if (polls)
			PQclear(PQexec(conn, "BEGIN"));
		result = run(conn, "s", polls ? 0 : 1, last);
		received = now();
		for (int i = 0; i < PQntuples(result) && n < count; i++)
		{
			last = atoll(PQgetvalue(result, i, 0));
			times[n++] = received - atoll(PQgetvalue(result, i, 1));
		}
		if (polls && PQntuples(result) > 0)
			PQclear(run(conn, "ack", 1, last));
		if (polls)
			PQclear(PQexec(conn, "COMMIT"));
		PQclear(result);
	}
	PQfinish(conn);
	if (n == 0)
		exit(1);
	qsort(times, n, sizeof(int64_t), compare);
	printf("%.3f %.3f %d\n", times[n / 2] / 1e6, times[(int) (n * 0.99)] / 1e6, n);
	free(times);
}

int
main(int argc, char **argv)
{
	int			rate = argc == 5 ? atoi(argv[3]) : 0;
	int			count = argc == 5 ? rate * atoi(argv[4]) : 0;
	const char *statement;
	pid_t		writer;
	int			status;

	if (count <= 0)
	{
		fprintf(stderr, "usage: latency CONNINFO poll|notify|every50 RATE SECONDS\n");
		return 2;
	}
	statement = strcmp(argv[2], "poll") == 0 ? append_event : strcmp(argv[2], "notify") == 0 ? insert_notify : insert_row;
	writer = fork();
	if (writer == 0)
	{
		write_events(argv[1], statement, rate, count);
		return 0;
	}
	read_events(argv[1], argv[2], count);
	waitpid(writer, &status, 0);
	return status != 0;
}
