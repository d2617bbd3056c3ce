/*
 * server.c
 *		Connections to the server, and statements on them.
 *
 * Two connections: one for statements (reading history, looking after the
 * slot), one for the replication protocol.  Both take whatever libpq takes.
 * Their client encoding is the database's, which is what the output plugin
 * writes in; so history comes in it, too, and filters mean the same to both.
 *
 * An error of the server is either something that passes, such as a restart
 * or a lost connection: then we connect again; or the program ends with what
 * the server says.
 *
 * While a statement runs a request to end is heard.  It is not while libpq
 * connects, which connect_timeout bounds, nor while the server answers one of
 * the few commands of the replication protocol.
 */
#include "server.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lsn.h"
#include "memory.h"
#include "report.h"
#include "wait.h"

/* For how long the first connection is tried while nobody answers, in milliseconds. */
#define FIRST_CONNECT_MS 15000

/*
 * What libpq is told if nobody says otherwise: not to wait for ever for a host,
 * and to notice that one is gone.
 */
static const char *const defaults[][2] = {
	{"connect_timeout", "10"},
	{"keepalives_idle", "60"},
	{"keepalives_interval", "10"},
	{"keepalives_count", "6"},
	{"tcp_user_timeout", "120000"},
};

/* ---- results ---- */

/* server_has_state tells whether a result is an error with that SQLSTATE, or of that class. */
bool
server_has_state(const PGresult *result, const char *sqlstate)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return state != NULL && strncmp(state, sqlstate, strlen(sqlstate)) == 0;
}

/* Tells whether an error passes by itself: connection, resources, shutdown. */
static bool
is_passing_error(PGconn *conn, const PGresult *result)
{
	static const char *const states[] = {"08", "53", "57P", "40"};

	if (PQstatus(conn) != CONNECTION_OK || PQresultErrorField(result, PG_DIAG_SQLSTATE) == NULL)
		return true;
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (server_has_state(result, states[i]))
			return true;
	return false;
}

/* Copies a message without the line break that it ends in. */
static char *
one_line(const char *message)
{
	char	   *result = copy_text(message ? message : "");
	size_t		length = strlen(result);

	while (length > 0 && result[length - 1] == '\n')
		result[--length] = '\0';
	return result;
}

/*
 * server_judge looks at a result: done, or an error that passes, which is
 * reported, or one that ends the program.
 */
Outcome
server_judge(PGconn *conn, const PGresult *result, const char *what)
{
	ExecStatusType status = PQresultStatus(result);
	const char *detail;
	const char *hint;
	char	   *reason;

	if (status != PGRES_FATAL_ERROR && status != PGRES_BAD_RESPONSE && result != NULL)
		return OUTCOME_DONE;
	if (is_passing_error(conn, result))
	{
		reason = one_line(result != NULL && *PQresultErrorMessage(result) ? PQresultErrorMessage(result) : PQerrorMessage(conn));
		report_warning("%s: %s", what, reason);
		free(reason);
		return OUTCOME_RETRY;
	}
	detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	if (hint != NULL)
		report_hint("%s", hint);
	report_failure(EXIT_SERVER, "%s: %s%s%s (SQLSTATE %s)", what, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
				   detail ? "; " : "", detail ? detail : "", PQresultErrorField(result, PG_DIAG_SQLSTATE));
}

/* ---- statements ---- */

/* server_send sends a statement; its results are the caller's to fetch. */
bool
server_send(PGconn *conn, const char *sql, int n, const char *const *values)
{
	return PQsendQueryParams(conn, sql, n, NULL, values, NULL, NULL, 0) == 1;
}

/* server_wait waits until a result is there, or the connection is lost. */
Outcome
server_wait(PGconn *conn)
{
	while (PQisBusy(conn))
	{
		WaitSet		set;

		if (wait_stopped())
			return OUTCOME_STOP;
		wait_begin(&set, -1);
		wait_add(&set, PQsocket(conn), POLLIN);
		wait_now(&set);
		if (PQconsumeInput(conn) == 0)
			break;
	}
	return OUTCOME_DONE;
}

/* Gives up on a statement that runs. */
static void
cancel_statement(PGconn *conn)
{
	PGcancel   *handle = PQgetCancel(conn);
	char		error[256];

	if (handle != NULL)
		(void) PQcancel(handle, error, sizeof(error));
	PQfreeCancel(handle);
}

/*
 * server_query runs a statement; *result is the caller's, also if it is an
 * error.  Asked to end it cancels, and gives no result.
 */
Outcome
server_query(PGconn *conn, PGresult **result, const char *sql, int n, const char *const *values)
{
	PGresult   *next;

	*result = NULL;
	if (!server_send(conn, sql, n, values))
		return OUTCOME_RETRY;
	for (;;)
	{
		if (server_wait(conn) == OUTCOME_STOP)
		{
			cancel_statement(conn);
			PQclear(*result);
			*result = NULL;
			return OUTCOME_STOP;
		}
		next = PQgetResult(conn);
		if (next == NULL)
			return *result != NULL ? OUTCOME_DONE : OUTCOME_RETRY;
		PQclear(*result);
		*result = next;
		if (PQresultStatus(next) == PGRES_COPY_BOTH)
			return OUTCOME_DONE;
	}
}

/*
 * server_ask runs a statement, as server_query does, and looks at the result, as
 * server_judge does.
 */
Outcome
server_ask(PGconn *conn, PGresult **result, const char *sql, int n, const char *const *values, const char *what)
{
	Outcome		outcome = server_query(conn, result, sql, n, values);

	return outcome == OUTCOME_DONE ? server_judge(conn, *result, what) : outcome;
}

/* ---- connecting ---- */

/* Connects once; NULL and the reason if it does not work. */
static PGconn *
connect_once(const Options *options, bool replication, char **reason, PGPing *ping)
{
	const char *names[10];
	const char *values[10];
	int			n = 0;
	PGconn	   *conn;

	/* what comes before the connection string is overridden by it */
	for (size_t i = getenv("PGCONNECT_TIMEOUT") ? 1 : 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
	{
		names[n] = defaults[i][0];
		values[n++] = defaults[i][1];
	}
	names[n] = "dbname";
	values[n++] = options->conninfo;
	names[n] = "fallback_application_name";
	values[n++] = "esfeed";
	/* said in both cases: the connection string may say something else */
	names[n] = "replication";
	values[n++] = replication ? "database" : "false";
	names[n] = NULL;
	values[n] = NULL;
	conn = PQconnectdbParams(names, values, 1);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	*reason = one_line(PQerrorMessage(conn));
	PQfinish(conn);
	if (!wait_stopped())
		*ping = PQpingParams(names, values, 1);
	return NULL;
}

/*
 * Connects.  The first time, what does not pass ends the program: at once if
 * the server answers and refuses, after a while if nobody answers.
 */
static Outcome
connect_to(PGconn **conn, const Options *options, bool replication, bool first)
{
	int64_t		until = clock_now() + FIRST_CONNECT_MS;
	bool		told = false;

	for (;;)
	{
		char	   *reason = NULL;
		PGPing		ping = PQPING_OK;

		*conn = connect_once(options, replication, &reason, &ping);
		if (*conn != NULL)
			return OUTCOME_DONE;
		if (wait_stopped())
			return OUTCOME_STOP;
		if (first && (ping == PQPING_OK || ping == PQPING_NO_ATTEMPT || (ping == PQPING_NO_RESPONSE && clock_now() > until)))
			report_failure(EXIT_CONNECT, "could not connect: %s", reason);
		if (!told)
			report_warning("could not connect: %s", reason);
		free(reason);
		told = true;
		if (!first)
			return OUTCOME_RETRY;
		wait_pause(500);
	}
}

/*
 * Takes limits of time from a session, those that the server knows: on either connection what is
 * to be waited for, or sent, takes as long as it takes.
 */
#define WITHOUT_TIMEOUTS \
	"(SELECT pg_catalog.count(pg_catalog.set_config(s.name, '0', false)) FROM pg_catalog.pg_settings s " \
	"WHERE s.name OPERATOR(pg_catalog.=) ANY ('{statement_timeout,lock_timeout,transaction_timeout,idle_session_timeout}'::pg_catalog.text[]))"

/* Makes a session safe from settings of the role and the database. */
static Outcome
prepare_session(PGconn *conn)
{
	PGresult   *result;
	Outcome		outcome;

	outcome = server_ask(conn, &result,
						 "SELECT pg_catalog.set_config('search_path', '', false), "
						 "pg_catalog.set_config('default_transaction_read_only', 'off', false), "
						 "pg_catalog.set_config('eventstore.read_durable', 'on', false), "
						 "pg_catalog.getdatabaseencoding(), " WITHOUT_TIMEOUTS,
						 0, NULL, "could not prepare the session");
	if (outcome == OUTCOME_DONE && PQsetClientEncoding(conn, PQgetvalue(result, 0, 3)) != 0)
		outcome = OUTCOME_RETRY;
	PQclear(result);
	return outcome;
}

/* Learns which store this is; a database without one ends the program. */
static Outcome
identify_store(Server *server, bool first)
{
	PGresult   *result;
	Outcome		outcome;

	outcome = server_ask(server->sql, &result,
						 "SELECT d.oid, x.oid, pg_catalog.quote_ident(n.nspname), pg_catalog.pg_is_in_recovery(), "
						 "pg_catalog.current_setting('wal_level'), d.datname "
						 "FROM pg_catalog.pg_database d "
						 "LEFT JOIN pg_catalog.pg_extension x ON x.extname OPERATOR(pg_catalog.=) 'eventstore' "
						 "LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) x.extnamespace "
						 "WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
						 0, NULL, "could not look for the event store");
	if (outcome == OUTCOME_DONE && PQgetvalue(result, 0, 3)[0] == 't')
	{
		/* once connected, the other server may be about to be promoted */
		report_hint("With several hosts in the connection string, target_session_attrs=read-write finds the primary.");
		if (first)
			report_failure(EXIT_SERVER, "the server is a standby, and feeds come from the primary");
		report_warning("the server is a standby, and feeds come from the primary");
		outcome = OUTCOME_RETRY;
	}
	if (outcome == OUTCOME_DONE && PQgetisnull(result, 0, 1))
		report_failure(EXIT_SERVER, "database \"%s\" has no event store (CREATE EXTENSION eventstore)", PQgetvalue(result, 0, 5));
	if (outcome == OUTCOME_DONE && strcmp(PQgetvalue(result, 0, 4), "logical") != 0)
	{
		report_hint("Set \"wal_level\" to \"logical\" and restart the server.");
		report_failure(EXIT_SERVER, "feeds require parameter \"wal_level\" to be \"logical\", not \"%s\"", PQgetvalue(result, 0, 4));
	}
	if (outcome == OUTCOME_DONE)
	{
		server->database = (uint32_t) strtoul(PQgetvalue(result, 0, 0), NULL, 10);
		server->store = (uint32_t) strtoul(PQgetvalue(result, 0, 1), NULL, 10);
		server->schema = copy_text(PQgetvalue(result, 0, 2));
	}
	PQclear(result);
	return outcome;
}

/* Learns which cluster this is, and where it is. */
static Outcome
identify_system(Server *server)
{
	PGresult   *result;
	Outcome		outcome;

	if (PQsetClientEncoding(server->replication, pg_encoding_to_char(PQclientEncoding(server->sql))) != 0)
		return OUTCOME_RETRY;
	/* the replication protocol knows simple statements only */
	result = PQexec(server->replication, "SELECT " WITHOUT_TIMEOUTS);
	outcome = server_judge(server->replication, result, "could not prepare the session");
	PQclear(result);
	if (outcome != OUTCOME_DONE)
		return outcome;
	result = PQexec(server->replication, "IDENTIFY_SYSTEM");
	outcome = server_judge(server->replication, result, "could not identify the server");
	if (outcome == OUTCOME_DONE &&
		(PQntuples(result) != 1 || !lsn_parse(PQgetvalue(result, 0, 2), &server->lsn)))
		report_failure(EXIT_SERVER, "could not identify the server");
	if (outcome == OUTCOME_DONE)
	{
		server->system = copy_text(PQgetvalue(result, 0, 0));
		server->timeline = (uint32_t) strtoul(PQgetvalue(result, 0, 1), NULL, 10);
	}
	PQclear(result);
	return outcome;
}

/* server_connect makes both connections and learns where they lead. */
Outcome
server_connect(Server *server, const Options *options, bool first)
{
	Outcome		outcome;

	memset(server, 0, sizeof(*server));
	outcome = connect_to(&server->sql, options, false, first);
	if (outcome == OUTCOME_DONE)
		outcome = prepare_session(server->sql);
	if (outcome == OUTCOME_DONE)
		outcome = identify_store(server, first);
	if (outcome == OUTCOME_DONE)
		outcome = connect_to(&server->replication, options, true, first);
	if (outcome == OUTCOME_DONE)
		outcome = identify_system(server);
	return outcome;
}

/* server_disconnect ends both connections. */
void
server_disconnect(Server *server)
{
	PQfinish(server->sql);
	PQfinish(server->replication);
	free(server->schema);
	free(server->system);
	memset(server, 0, sizeof(*server));
}
