/*
 * decide.c
 *		Decides by tags over one connection a client, as an application does.
 *
 * usage: decide CONNINFO MODE CLIENTS SECONDS SESSION
 *
 *	courses		course subscriptions: reads by a query, decides, appends with the
 *				same query as condition.  SESSION distinguishes courses and
 *				students from those of other runs.
 *	hot			all clients append to one boundary, the tag SESSION: each reads
 *				its last position and appends on condition that there is no later
 *				one, and does so again when there is (VE011).  BENCH_DATA and
 *				BENCH_METADATA are those of the event.
 *	hand		the same in the tables of decide.sql, with a lock a tag
 *
 * Prints successful appends a second and their number; then how many attempts met
 * another's append, the fewest successes of a client, and the most attempts that
 * one success took.
 */
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS		64
#define PARTICIPANTS	10		/* courses, and students, of a round */
#define CAPACITY		10		/* places of a course, courses of a student */
#define TEXT_BYTES		4096

/* What a client did. */
typedef struct Client
{
	int64_t		appended;
	int64_t		conflicts;
	int64_t		most_attempts;
	double		elapsed;
} Client;

static const char *const read_events = "SELECT position, type, data ->> 'course', data ->> 'student', data ->> 'capacity'"
	" FROM es_read_query($1::jsonb, 0, NULL)";
static const char *const read_last = "SELECT position FROM es_read_query($1::jsonb, 0, 1, true)";
static const char *const append_events = "SELECT es_append_if($1::jsonb, $2::bigint, query => $3::jsonb)";
static const char *const hand_last = "SELECT position FROM tagged.tags WHERE tag = $1::text ORDER BY position DESC LIMIT 1";
static const char *const hand_append = "SELECT tagged.append_if_locked(e ->> 'type', e -> 'data', e -> 'metadata', ARRAY[$3::text], $2::bigint, $3::text)"
	" FROM jsonb_array_elements($1::jsonb) e";

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

/* Prepares a statement. */
static void
prepare(PGconn *conn, const char *name, const char *statement)
{
	PGresult   *result = PQprepare(conn, name, statement, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail(PQerrorMessage(conn));
	PQclear(result);
}

static PGconn *
connect_to(const char *conninfo, int by_hand)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		fail(PQerrorMessage(conn));
	prepare(conn, "events", read_events);
	prepare(conn, "last", by_hand ? hand_last : read_last);
	prepare(conn, "append", by_hand ? hand_append : append_events);
	return conn;
}

/* Runs a prepared read of a query. */
static PGresult *
read_query(PGconn *conn, const char *statement, const char *query)
{
	PGresult   *result = PQexecPrepared(conn, statement, 1, &query, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail(PQerrorMessage(conn));
	return result;
}

/* Position of a result's last row, "0" if it has none. */
static void
take_last(PGresult *result, char *after)
{
	int			rows = PQntuples(result);

	snprintf(after, 24, "%s", rows ? PQgetvalue(result, rows - 1, 0) : "0");
}

/* Appends if nothing after a position matches the query; says whether it did. */
static int
append_if(PGconn *conn, const char *events, const char *after, const char *query)
{
	const char *values[3] = {events, after, query};
	PGresult   *result = PQexecPrepared(conn, "append", 3, values, NULL, NULL, 0);
	int			appended = PQresultStatus(result) == PGRES_TUPLES_OK;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (!appended && (state == NULL || strcmp(state, "VE011") != 0))
		fail(PQerrorMessage(conn));
	PQclear(result);
	return appended;
}

/* ---- courses ---- */

/* Makes a course or a student known, once. */
static void
introduce(PGconn *conn, const char *tag, const char *type, const char *data)
{
	char		query[TEXT_BYTES],
				events[TEXT_BYTES];
	PGresult   *result;

	snprintf(query, sizeof(query), "[{\"tags\": [\"%s\"]}]", tag);
	result = read_query(conn, "events", query);
	if (PQntuples(result) > 0)
		fail("known already");
	PQclear(result);
	snprintf(events, sizeof(events), "[{\"stream\": \"%s\", \"type\": \"%s\", \"data\": {%s}, \"tags\": [\"%s\"]}]",
			 tag, type, data, tag);
	if (!append_if(conn, events, "0", query))
		fail("somebody else decided on the same");
}

/* Whether the events read let the student into the course. */
static int
may_enrol(PGresult *result, const char *course, const char *student)
{
	int			capacity = 0,
				registered = 0,
				taken = 0,
				courses = 0;

	for (int i = 0; i < PQntuples(result); i++)
	{
		const char *type = PQgetvalue(result, i, 1);

		if (strcmp(type, "CourseDefined") == 0)
			capacity = atoi(PQgetvalue(result, i, 4));
		else if (strcmp(type, "StudentRegistered") == 0)
			registered = 1;
		else
		{
			int			same_course = strcmp(PQgetvalue(result, i, 2), course) == 0;
			int			same_student = strcmp(PQgetvalue(result, i, 3), student) == 0;

			if (same_course && same_student)
				return 0;
			taken += same_course;
			courses += same_student;
		}
	}
	return registered && taken < capacity && courses < CAPACITY;
}

static void
enrol(PGconn *conn, const char *course, const char *student)
{
	char		query[TEXT_BYTES],
				events[TEXT_BYTES],
				after[24];
	PGresult   *result;

	snprintf(query, sizeof(query), "[{\"tags\": [\"%s\"]}, {\"tags\": [\"%s\"]}]", course, student);
	result = read_query(conn, "events", query);
	if (!may_enrol(result, course, student))
		fail("the student cannot be in the course");
	take_last(result, after);
	PQclear(result);
	snprintf(events, sizeof(events), "[{\"stream\": \"%s\", \"type\": \"Enrolled\","
			 " \"data\": {\"course\": \"%s\", \"student\": \"%s\"}, \"tags\": [\"%s\", \"%s\"]}]",
			 course, course, student, course, student);
	if (!append_if(conn, events, after, query))
		fail("somebody else decided on the same");
}

/* Decision i of a round. */
static void
decide(PGconn *conn, const char *session, int64_t round, int i)
{
	char		course[128],
				student[128],
				data[TEXT_BYTES];
	int			enrolment = i - 2 * PARTICIPANTS;

	snprintf(course, sizeof(course), "course-%s-%lld-%d", session, (long long) round,
			 enrolment < 0 ? i : enrolment / PARTICIPANTS);
	snprintf(student, sizeof(student), "student-%s-%lld-%d", session, (long long) round,
			 enrolment < 0 ? i - PARTICIPANTS : enrolment % PARTICIPANTS);
	if (i < PARTICIPANTS)
	{
		snprintf(data, sizeof(data), "\"course\": \"%s\", \"capacity\": %d", course, CAPACITY);
		introduce(conn, course, "CourseDefined", data);
	}
	else if (enrolment < 0)
	{
		snprintf(data, sizeof(data), "\"student\": \"%s\"", student);
		introduce(conn, student, "StudentRegistered", data);
	}
	else
		enrol(conn, course, student);
}

static void
run_courses(PGconn *conn, const char *session, int seconds, Client *me)
{
	const int	decisions = 2 * PARTICIPANTS + PARTICIPANTS * PARTICIPANTS;
	double		start = now();

	while ((me->elapsed = now() - start) < seconds)
	{
		decide(conn, session, me->appended / decisions, me->appended % decisions);
		me->appended++;
	}
	me->most_attempts = 1;
}

/* ---- a hot boundary ---- */

static void
run_hot(PGconn *conn, const char *tag, int by_hand, int number, int seconds, Client *me)
{
	char		query[TEXT_BYTES],
				events[TEXT_BYTES],
				after[24];
	int64_t		attempts = 0;
	double		start = now();

	snprintf(query, sizeof(query), by_hand ? "%s" : "[{\"tags\": [\"%s\"]}]", tag);
	snprintf(events, sizeof(events), "[{\"stream\": \"%s-%d\", \"type\": \"Deposited\", \"data\": %s, \"metadata\": %s, \"tags\": [\"%s\"]}]",
			 tag, number, getenv("BENCH_DATA"), getenv("BENCH_METADATA"), tag);
	while ((me->elapsed = now() - start) < seconds)
	{
		PGresult   *result = read_query(conn, "last", query);

		take_last(result, after);
		PQclear(result);
		attempts++;
		if (append_if(conn, events, after, query))
		{
			me->appended++;
			if (attempts > me->most_attempts)
				me->most_attempts = attempts;
			attempts = 0;
		}
		else
			me->conflicts++;
	}
}

/* ---- the clients ---- */

static void
run_client(const char *const *args, int number, Client *me)
{
	int			by_hand = strcmp(args[2], "hand") == 0;
	PGconn	   *conn = connect_to(args[1], by_hand);

	if (strcmp(args[2], "courses") == 0)
		run_courses(conn, args[5], atoi(args[4]), me);
	else
		run_hot(conn, args[5], by_hand, number, atoi(args[4]), me);
	PQfinish(conn);
}

/* Waits for all clients; says whether each came to its end. */
static int
wait_for_clients(int count)
{
	int			failures = 0,
				status;

	for (int i = 0; i < count; i++)
		if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
			failures++;
	return failures == 0;
}

static void
print_results(const Client *clients, int count)
{
	Client		sum = {0};
	double		rate = 0;
	int64_t		fewest = clients[0].appended;

	for (int i = 0; i < count; i++)
	{
		const Client *one = &clients[i];

		rate += one->appended / one->elapsed;
		sum.appended += one->appended;
		sum.conflicts += one->conflicts;
		if (one->most_attempts > sum.most_attempts)
			sum.most_attempts = one->most_attempts;
		if (one->appended < fewest)
			fewest = one->appended;
	}
	printf("%.1f %lld %lld %lld %lld\n", rate, (long long) sum.appended, (long long) sum.conflicts,
		   (long long) fewest, (long long) sum.most_attempts);
}

int
main(int argc, char **argv)
{
	int			count;
	Client	   *clients;

	if (argc != 6 || (strcmp(argv[2], "courses") != 0 && strcmp(argv[2], "hot") != 0 && strcmp(argv[2], "hand") != 0))
		fail("usage: decide CONNINFO courses|hot|hand CLIENTS SECONDS SESSION");
	count = atoi(argv[3]);
	if (count < 1 || count > MAX_CLIENTS)
		fail("1 to 64 clients");
	clients = mmap(NULL, sizeof(Client) * count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (clients == MAP_FAILED)
		fail("no memory");
	memset(clients, 0, sizeof(Client) * count);
	for (int i = 0; i < count; i++)
	{
		pid_t		pid = fork();

		if (pid < 0)
			fail("fork failed");
		if (pid == 0)
		{
			run_client((const char *const *) argv, i, &clients[i]);
			_exit(0);
		}
	}
	if (!wait_for_clients(count))
		exit(1);
	print_results(clients, count);
	return 0;
}
