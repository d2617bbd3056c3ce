/*
 * beside.c
 *		Runs a statement beside writers and followers, and tells how long these waited.
 *
 * usage: beside CONNINFO WRITERS RATE FOLLOWERS RATE STREAMS WHOLE HALF STATEMENT
 *
 * Each writer appends RATE events a second, one a transaction, to streams account-WHOLE+1 to
 * account-STREAMS but those whose number ends in 00, which are deleted.  Each follower
 * reads RATE pages a second of 1,000 events, every other one by es_read_category, from a place
 * of its own on, and again from there once it is at the end.  All of them keep how long each
 * call took, until the statement has ended.  Then each follower reads without pauses to
 * where the log was settled by then.
 *
 * Prints the seconds that the statement took, and its first row; then of appends, and of
 * pages: how many, and in ms the median, the 99.9th percentile, the longest, and how many
 * took more than 50; then a line for each follower: the position that it began after, the one it
 * came to, and of the events in between that it saw and are not hidden, their number and the sum of
 * their positions.  Hidden are those up to account-WHOLE, of deleted streams, and in others the
 * versions up to HALF.  An event that comes twice, or out of order, ends the program.
 *
 * Calls of more than 20 ms go to standard error, with the time of day at their end.
 */
#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS		64
#define MAX_CALLS		500000	/* of a client */
#define PAGE			1000
#define LONG_MS			20.0
#define LIMIT_MS		50.0

static const char *const append_event = "SELECT es_append('account-' || $1::bigint, 'Deposited', $2::jsonb, $3::jsonb)";
static const char *const read_all = "SELECT * FROM es_read_all($1::bigint, 1000)";
static const char *const read_category = "SELECT * FROM es_read_category('account', $1::bigint, 1000)";
static const char *const settled_position = "SELECT es_settled_position()";

/* What a client did. */
typedef struct Client
{
	int			calls;
	int64_t		from;			/* of a follower */
	int64_t		last;
	int64_t		events;
	int64_t		sum;
	float		ms[MAX_CALLS];
} Client;

/* What all processes share. */
typedef struct Shared
{
	atomic_int	ready;			/* clients are */
	atomic_int	begun;
	atomic_int	ended;			/* the statement has */
	int64_t		settled;		/* then */
	Client		clients[];
} Shared;

static Shared *shared;
static const char *conninfo;
static int64_t streams;
static int64_t whole;
static int64_t half;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Sleeps until a time, or to the statement's end. */
static void
sleep_until(double until)
{
	double		left;

	while (!atomic_load(&shared->ended) && (left = until - now()) > 0)
		usleep((left < 0.1 ? left : 0.1) * 1e6);
}

static void
fail_with(PGconn *conn)
{
	fprintf(stderr, "%s", PQerrorMessage(conn));
	exit(1);
}

static PGconn *
connect_to(void)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		fail_with(conn);
	return conn;
}

/* Runs a statement, a prepared one if it has values. */
static PGresult *
run(PGconn *conn, const char *statement, int nvalues, const char *const *values)
{
	PGresult   *result = nvalues > 0 ? PQexecPrepared(conn, statement, nvalues, values, NULL, NULL, 0) : PQexec(conn, statement);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail_with(conn);
	return result;
}

/* Keeps how long a call took. */
static void
keep_call(Client *client, const char *what, double begun)
{
	struct timespec t;
	double		ms = (now() - begun) * 1000;

	if (client->calls < MAX_CALLS)
		client->ms[client->calls++] = ms;
	if (ms < LONG_MS)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	fprintf(stderr, "%02d:%02d:%02d.%03d %s %.1f ms\n", (int) (t.tv_sec / 3600 % 24), (int) (t.tv_sec / 60 % 60), (int) (t.tv_sec % 60),
			(int) (t.tv_nsec / 1000000), what, ms);
}

/* Waits until all are ready. */
static void
await_begin(void)
{
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->begun))
		usleep(1000);
}

/* ---- writers ---- */

static int64_t
choose_stream(void)
{
	for (;;)
	{
		int64_t		stream = whole + 1 + random() % (streams - whole);

		if (stream % 100 != 0)
			return stream;
	}
}

static void
write_events(Client *client, int number, double rate)
{
	PGconn	   *conn = connect_to();
	char		stream[24];
	const char *values[] = {stream, getenv("BENCH_DATA"), getenv("BENCH_METADATA")};

	PQclear(PQprepare(conn, "append", append_event, 0, NULL));
	srandom(number + 1);
	await_begin();
	for (double due = now() + number / rate / 8; !atomic_load(&shared->ended); due += 1 / rate)
	{
		double		begun;

		sleep_until(due);
		snprintf(stream, sizeof(stream), "%lld", (long long) choose_stream());
		begun = now();
		PQclear(run(conn, "append", 3, values));
		keep_call(client, "append", begun);
		if (due < now() - 1)
			due = now();
	}
	PQfinish(conn);
}

/* ---- followers ---- */

/* Tells whether an event is hidden. */
static int
is_hidden(const char *stream, int64_t version)
{
	int64_t		number;

	if (strncmp(stream, "account-", 8) != 0)
		return 1;
	number = atoll(stream + 8);
	return number <= whole || number % 100 == 0 || version <= half;
}

/* Takes a page; gives how many events it has. */
static int
take_page(Client *client, const PGresult *page)
{
	int			n = PQntuples(page);
	int			position = PQfnumber(page, "position");
	int			stream = PQfnumber(page, "stream");
	int			version = PQfnumber(page, "version");

	for (int i = 0; i < n; i++)
	{
		int64_t		at = atoll(PQgetvalue(page, i, position));

		if (at <= client->last)
		{
			fprintf(stderr, "position %lld came after %lld\n", (long long) at, (long long) client->last);
			exit(1);
		}
		client->last = at;
		if (is_hidden(PQgetvalue(page, i, stream), atoll(PQgetvalue(page, i, version))))
			continue;
		client->events++;
		client->sum += at;
	}
	return n;
}

/* Reads what follows. */
static int
read_page(PGconn *conn, Client *client)
{
	char		last[24];
	const char *values[] = {last};
	PGresult   *page;
	double		begun = now();
	int			n;

	snprintf(last, sizeof(last), "%lld", (long long) client->last);
	page = run(conn, "page", 1, values);
	if (!atomic_load(&shared->ended))
		keep_call(client, "page", begun);
	n = take_page(client, page);
	PQclear(page);
	return n;
}

static void
begin_again(Client *client)
{
	client->last = client->from;
	client->events = client->sum = 0;
}

static void
follow_log(Client *client, int number, double rate)
{
	PGconn	   *conn = connect_to();

	PQclear(PQprepare(conn, "page", number % 2 ? read_category : read_all, 0, NULL));
	await_begin();
	begin_again(client);
	for (double due = now() + number / rate / 4; !atomic_load(&shared->ended); due += 1 / rate)
	{
		sleep_until(due);
		if (read_page(conn, client) < PAGE)
			begin_again(client);
		if (due < now() - 1)
			due = now();
	}
	while (client->last < shared->settled && read_page(conn, client) > 0)
		;
	PQfinish(conn);
}

/* ---- figures ---- */

static int
compare(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return x < y ? -1 : x > y;
}

/* Prints the figures of some clients. */
static void
report_calls(const Client *clients, int count)
{
	float	   *ms = malloc(sizeof(float) * MAX_CALLS * count);
	int			n = 0;
	int			slow = 0;

	for (int i = 0; i < count; i++)
	{
		memcpy(ms + n, clients[i].ms, sizeof(float) * clients[i].calls);
		n += clients[i].calls;
	}
	if (n == 0)
	{
		fprintf(stderr, "nobody has called\n");
		exit(1);
	}
	qsort(ms, n, sizeof(float), compare);
	for (int i = n; i > 0 && ms[i - 1] > LIMIT_MS; i--)
		slow++;
	printf("%d %.3f %.3f %.3f %d\n", n, ms[n / 2], ms[(int) (n * 0.999)], ms[n - 1], slow);
	free(ms);
}

/* Runs the statement while the clients work; prints how long it took, and its first row. */
static void
run_statement(const char *statement)
{
	PGconn	   *conn = connect_to();
	PGresult   *result;
	double		begun;

	atomic_store(&shared->begun, 1);
	begun = now();
	result = run(conn, statement, 0, NULL);
	printf("%.2f", now() - begun);
	for (int i = 0; i < PQnfields(result); i++)
		printf(" %s", PQgetvalue(result, 0, i));
	printf("\n");
	PQclear(result);
	result = run(conn, settled_position, 0, NULL);
	shared->settled = atoll(PQgetvalue(result, 0, 0));
	atomic_store(&shared->ended, 1);
	PQfinish(conn);
}

int
main(int argc, char **argv)
{
	int			writers = argc == 10 ? atoi(argv[2]) : 0;
	int			followers = argc == 10 ? atoi(argv[4]) : 0;
	int			count = writers + followers;
	int			status;

	if (writers <= 0 || followers <= 0 || count > MAX_CLIENTS)
	{
		fprintf(stderr, "usage: beside CONNINFO WRITERS RATE FOLLOWERS RATE STREAMS WHOLE HALF STATEMENT\n");
		return 2;
	}
	conninfo = argv[1];
	streams = atoll(argv[6]);
	whole = atoll(argv[7]);
	half = atoll(argv[8]);
	shared = mmap(NULL, sizeof(Shared) + sizeof(Client) * count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
	{
		perror("mmap");
		return 1;
	}
	for (int i = 0; i < count; i++)
	{
		Client	   *client = &shared->clients[i];
		pid_t		pid = fork();

		if (pid == -1)
		{
			perror("fork");
			return 1;
		}
		if (pid > 0)
			continue;
		client->from = i < writers ? 0 : streams * half * 2 * (i - writers) / followers;
		if (i < writers)
			write_events(client, i, atof(argv[3]));
		else
			follow_log(client, i - writers, atof(argv[5]));
		_exit(0);
	}
	while (atomic_load(&shared->ready) < count)
	{
		if (waitpid(-1, &status, WNOHANG) > 0)
			return 1;
		usleep(1000);
	}
	run_statement(argv[9]);
	for (int i = 0; i < count; i++)
		if (wait(&status) == -1 || status != 0)
			return 1;
	report_calls(shared->clients, writers);
	report_calls(shared->clients + writers, followers);
	for (int i = writers; i < count; i++)
		printf("%lld %lld %lld %lld\n", (long long) shared->clients[i].from, (long long) shared->clients[i].last,
			   (long long) shared->clients[i].events, (long long) shared->clients[i].sum);
	return 0;
}
