/*
 * latency.c
 *		Measures how long an event takes to its delivery, at a steady rate.
 *
 * usage: latency CONNINFO MODE RATE SECONDS [COMMAND]
 *
 * One process appends at the rate, each event with its number, and keeps for each
 * when its commit was acknowledged; the other one receives, and keeps when each
 * arrived.  Both read CLOCK_MONOTONIC of one machine, into memory that they share.
 *
 * Prints in ms the median, the 95th, 99th and 99.9th percentile and the longest from
 * the acknowledged commit (below 0: the event arrived before that), and the same from
 * when the event was due to be sent; then how many were delivered, how many different
 * ones, how many out of order, and how many a second were sent.
 *
 *	poll	es_poll with wait, then es_ack, in one transaction
 *	apart	es_poll with wait, then es_ack, in a transaction each
 *	async	as poll, but only the writer's commits are flushed, not those of es_ack
 *	piped	as poll, but es_ack, COMMIT, BEGIN and the next es_poll are one message
 *	notify	a table and NOTIFY by the writer; LISTEN, then SELECT
 *	every50	the same table, SELECT each 50 ms
 *	slot	a replication slot: COMMAND is START_REPLICATION with the plugin's
 *			options; any plugin that writes the event's data as text
 */
#define _GNU_SOURCE
#include <libpq-fe.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const append_event = "SELECT es_append('latency-' || $1::bigint % 100, 'Sent', jsonb_build_object('n', $1::bigint))";
static const char *const append_marked = "SELECT es_append('latency-' || $1::bigint % 100, 'Sent', jsonb_build_object('sent_number', $1::bigint))";
static const char *const insert_row = "INSERT INTO bench.latency (n) VALUES ($1::bigint)";
static const char *const insert_notify = "WITH i AS (INSERT INTO bench.latency (n) VALUES ($1::bigint)) SELECT pg_notify('latency', '')";
static const char *const poll_events = "SELECT position, data ->> 'n' FROM es_poll('latency', 1000, $1::bigint * interval '1 second')";
static const char *const ack_events = "SELECT es_ack('latency', 0, $1::bigint)";
static const char *const select_rows = "SELECT id, n FROM bench.latency WHERE id > $1::bigint ORDER BY id";

/* What is known of an event; times are in ns. */
typedef struct Event
{
	int64_t		due;
	int64_t		committed;
	int64_t		received;
	int			deliveries;
} Event;

/* What the two processes share. */
typedef struct Shared
{
	atomic_int	ready;			/* the reader is */
	double		rate;			/* as the writer managed it */
	int			disorder;
	Event		events[];
} Shared;

static Shared *shared;

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void
fail_with(PGconn *conn)
{
	fprintf(stderr, "%s", PQerrorMessage(conn));
	exit(1);
}

static PGconn *
connect_to(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		fail_with(conn);
	return conn;
}

/* Runs a prepared statement with one number. */
static PGresult *
run(PGconn *conn, const char *statement, int64_t number)
{
	char		text[24];
	const char *values[1] = {text};
	PGresult   *result;

	snprintf(text, sizeof(text), "%lld", (long long) number);
	result = PQexecPrepared(conn, statement, 1, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		fail_with(conn);
	return result;
}

/* Runs a command; what fails ends the program. */
static void
command(PGconn *conn, const char *text)
{
	PGresult   *result = PQexec(conn, text);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail_with(conn);
	PQclear(result);
}

/* The writer. */
static void
write_events(const char *conninfo, const char *statement, int rate, int count)
{
	PGconn	   *conn = connect_to(conninfo);
	int64_t		start;

	PQclear(PQprepare(conn, "s", statement, 0, NULL));
	while (!atomic_load(&shared->ready))
		usleep(1000);
	usleep(300000);				/* the reader waits by then */
	start = now();
	for (int i = 0; i < count; i++)
	{
		int64_t		due = start + i * INT64_C(1000000000) / rate;

		for (int64_t left; (left = due - now()) > 0;)
			usleep(left / 1000);
		shared->events[i].due = due;
		PQclear(run(conn, "s", i));
		shared->events[i].committed = now();
	}
	shared->rate = count * 1e9 / (now() - start);
	PQfinish(conn);
}

/* Waits for a notification, also one that came along with the last result. */
static void
await_notification(PGconn *conn)
{
	struct pollfd fd = {.fd = PQsocket(conn),.events = POLLIN};
	PGnotify   *notify;

	while ((notify = PQnotifies(conn)) == NULL)
	{
		if (poll(&fd, 1, 1000) == 0)
			return;
		if (!PQconsumeInput(conn))
			fail_with(conn);
	}
	do
		PQfreemem(notify);
	while ((notify = PQnotifies(conn)) != NULL);
}

/* Takes the events of a result; gives the last one's position. */
static int64_t
take_events(const PGresult *result, int64_t received, int count, int64_t last)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		int64_t		position = atoll(PQgetvalue(result, i, 0));
		int64_t		n = atoll(PQgetvalue(result, i, 1));

		if (n < 0 || n >= count)
		{
			fprintf(stderr, "event %lld was never sent\n", (long long) n);
			exit(1);
		}
		shared->disorder += position <= last;
		last = position;
		if (shared->events[n].deliveries++ == 0)
			shared->events[n].received = received;
	}
	return last;
}

/* Tells whether a mode is one of es_poll. */
static int
polls_events(const char *mode)
{
	return strcmp(mode, "poll") == 0 || strcmp(mode, "apart") == 0 || strcmp(mode, "async") == 0 ||
		strcmp(mode, "piped") == 0;
}

/* The reader: all events, and then one look more for what should not be there. */
static void
read_events(const char *conninfo, const char *mode, int rate, int count)
{
	PGconn	   *conn = connect_to(conninfo);
	int			async = strcmp(mode, "async") == 0;
	int			together = async || strcmp(mode, "poll") == 0;
	int			polls = polls_events(mode);
	int			notifies = strcmp(mode, "notify") == 0;
	int64_t		end = now() + (count / rate + 30) * INT64_C(1000000000);
	int64_t		last = 0;
	int			got = 0;

	PQclear(PQprepare(conn, "s", polls ? poll_events : select_rows, 0, NULL));
	PQclear(PQprepare(conn, "ack", ack_events, 0, NULL));
	if (notifies)
		command(conn, "LISTEN latency");
	if (async)
		command(conn, "SET synchronous_commit = off");
	atomic_store(&shared->ready, 1);
	for (int more = 1; more;)
	{
		PGresult   *result;

		more = got < count && now() < end;
		if (notifies && more)
			await_notification(conn);
		else if (!polls && more)
			usleep(50000);
		if (together)
			command(conn, "BEGIN");
		result = run(conn, "s", polls ? more : last);
		got += PQntuples(result);
		last = take_events(result, now(), count, last);
		if (polls && PQntuples(result) > 0)
			PQclear(run(conn, "ack", last));
		if (together)
			command(conn, "COMMIT");
		PQclear(result);
	}
	PQfinish(conn);
}

/* ---- es_poll, one message a delivery ---- */

static int	ends_due = 0;		/* messages that were sent, less those answered */

/* Adds a prepared statement with one number to the message. */
static void
send_number(PGconn *conn, const char *statement, int64_t number)
{
	char		text[24];
	const char *values[1] = {text};

	snprintf(text, sizeof(text), "%lld", (long long) number);
	if (!PQsendQueryPrepared(conn, statement, 1, values, NULL, NULL, 0))
		fail_with(conn);
}

/* Adds a command to the message. */
static void
send_command(PGconn *conn, const char *text)
{
	if (!PQsendQueryParams(conn, text, 0, NULL, NULL, NULL, NULL, 0))
		fail_with(conn);
}

/* Sends the message. */
static void
send_message(PGconn *conn)
{
	if (!PQpipelineSync(conn))
		fail_with(conn);
	ends_due++;
}

/*
 * Receives what comes, up to what a poll gives, which has two columns; NULL: up to the last
 * message's end.
 */
static PGresult *
receive_events(PGconn *conn)
{
	while (ends_due > 0)
	{
		PGresult   *result = PQgetResult(conn);
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL)
			continue;
		if (status == PGRES_TUPLES_OK && PQnfields(result) == 2)
			return result;
		if (status == PGRES_PIPELINE_SYNC)
			ends_due--;
		else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			fail_with(conn);
		PQclear(result);
	}
	return NULL;
}

/* The reader that ends a delivery and asks for the next one in one message. */
static void
read_piped(const char *conninfo, int rate, int count)
{
	PGconn	   *conn = connect_to(conninfo);
	int64_t		end = now() + (count / rate + 30) * INT64_C(1000000000);
	int64_t		last = 0;
	int			got = 0;
	int			more = 1;
	PGresult   *result;

	PQclear(PQprepare(conn, "s", poll_events, 0, NULL));
	PQclear(PQprepare(conn, "ack", ack_events, 0, NULL));
	if (!PQenterPipelineMode(conn))
		fail_with(conn);
	send_command(conn, "BEGIN");
	send_number(conn, "s", 1);
	send_message(conn);
	atomic_store(&shared->ready, 1);
	while ((result = receive_events(conn)) != NULL)
	{
		got += PQntuples(result);
		last = take_events(result, now(), count, last);
		if (PQntuples(result) > 0)
			send_number(conn, "ack", last);
		send_command(conn, "COMMIT");
		if (more)
		{
			more = got < count && now() < end;
			send_command(conn, "BEGIN");
			send_number(conn, "s", more);
		}
		send_message(conn);
		PQclear(result);
	}
	PQfinish(conn);
}

/* ---- a replication slot ---- */

static int64_t
read_int64(const char *bytes)
{
	int64_t		value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | (unsigned char) bytes[i];
	return value;
}

/* Confirms what has come up to here. */
static void
confirm(PGconn *conn, int64_t lsn)
{
	char		message[34] = "r";

	for (int i = 0; i < 24; i++)
		message[1 + i] = lsn >> (56 - i % 8 * 8);
	if (PQputCopyData(conn, message, sizeof(message)) != 1 || PQflush(conn) == -1)
		fail_with(conn);
}

/* Gives the event's number from a plugin's message; -1: it is of something else. */
static int64_t
find_number(const char *message, int len)
{
	static const char mark[] = "sent_number";
	const char *found = memmem(message, len, mark, strlen(mark));

	if (found == NULL)
		return -1;
	/* a quotation mark, perhaps escaped, a colon and a blank */
	return atoll(found + strlen(mark) + strspn(found + strlen(mark), "\\\": "));
}

/* Takes one message of the stream; gives how far the server is. */
static int64_t
take_message(PGconn *conn, const char *message, int len, int64_t *last, int *got)
{
	if (message[0] == 'k')
	{
		int64_t		lsn = read_int64(message + 1);

		if (message[17])
			confirm(conn, lsn);
		return lsn;
	}
	if (message[0] == 'w')
	{
		int64_t		received = now();
		int64_t		n = find_number(message + 25, len - 25);

		if (n >= 0 && shared->events[n].deliveries++ == 0)
			shared->events[n].received = received;
		if (n >= 0)
		{
			shared->disorder += n <= *last;
			*last = n;
			(*got)++;
		}
	}
	return read_int64(message + 1);
}

/* The reader of a slot. */
static void
read_slot(const char *conninfo, const char *start, int rate, int count)
{
	char		replication[1000];
	int64_t		end = now() + (count / rate + 30) * INT64_C(1000000000);
	int64_t		lsn = 0;
	int64_t		last = -1;
	int64_t		confirmed = now();
	int			got = 0;
	int			len = 0;
	PGconn	   *conn;
	char	   *message;

	snprintf(replication, sizeof(replication), "%s replication=database", conninfo);
	conn = connect_to(replication);
	if (PQresultStatus(PQexec(conn, start)) != PGRES_COPY_BOTH)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	atomic_store(&shared->ready, 1);
	while (got < count && now() < end && len >= 0)
	{
		struct pollfd fd = {.fd = PQsocket(conn),.events = POLLIN};

		while ((len = PQgetCopyData(conn, &message, 1)) > 0)
		{
			lsn = take_message(conn, message, len, &last, &got);
			PQfreemem(message);
		}
		if (got < count && len == 0 && poll(&fd, 1, 1000) > 0 && !PQconsumeInput(conn))
			len = -1;
		if (now() - confirmed > INT64_C(1000000000))
		{
			confirm(conn, lsn);
			confirmed = now();
		}
	}
	if (len < 0)
		fprintf(stderr, "%s", PQerrorMessage(conn));
	PQfinish(conn);
}

static int
compare(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

/* Sorts n times and prints their figures. */
static void
print_percentiles(int64_t *times, int n)
{
	static const double shares[] = {0.5, 0.95, 0.99, 0.999};

	qsort(times, n, sizeof(int64_t), compare);
	for (int i = 0; i < 4; i++)
		printf("%.3f ", times[(int) (n * shares[i])] / 1e6);
	printf("%.3f ", times[n - 1] / 1e6);
}

/* Prints all figures. */
static void
report(int count)
{
	int64_t    *from_due = malloc(sizeof(int64_t) * count);
	int64_t    *from_commit = malloc(sizeof(int64_t) * count);
	int			n = 0;
	int			deliveries = 0;

	for (int i = 0; i < count; i++)
	{
		const Event *event = &shared->events[i];

		deliveries += event->deliveries;
		if (event->deliveries == 0)
			continue;
		from_due[n] = event->received - event->due;
		from_commit[n++] = event->received - event->committed;
	}
	if (n == 0)
	{
		fprintf(stderr, "nothing was delivered\n");
		exit(1);
	}
	print_percentiles(from_commit, n);
	print_percentiles(from_due, n);
	printf("%d %d %d %.0f\n", deliveries, n, shared->disorder, shared->rate);
	free(from_due);
	free(from_commit);
}

int
main(int argc, char **argv)
{
	int			slot = argc == 6 && strcmp(argv[2], "slot") == 0;
	int			rate = argc == 5 || slot ? atoi(argv[3]) : 0;
	int			count = argc == 5 || slot ? rate * atoi(argv[4]) : 0;
	const char *statement;
	pid_t		writer;
	int			status;

	if (count <= 0)
	{
		fprintf(stderr, "usage: latency CONNINFO poll|apart|async|piped|notify|every50|slot RATE SECONDS [COMMAND]\n");
		return 2;
	}
	statement = slot ? append_marked : polls_events(argv[2]) ? append_event :
		strcmp(argv[2], "notify") == 0 ? insert_notify : insert_row;
	shared = mmap(NULL, sizeof(Shared) + sizeof(Event) * count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
	{
		perror("mmap");
		return 1;
	}
	writer = fork();
	if (writer == -1)
	{
		perror("fork");
		return 1;
	}
	if (writer == 0)
	{
		write_events(argv[1], statement, rate, count);
		return 0;
	}
	if (slot)
		read_slot(argv[1], argv[5], rate, count);
	else if (strcmp(argv[2], "piped") == 0)
		read_piped(argv[1], rate, count);
	else
		read_events(argv[1], argv[2], rate, count);
	waitpid(writer, &status, 0);
	if (status != 0)
		return 1;
	report(count);
	return 0;
}
