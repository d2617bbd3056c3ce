/*
 * server.h
 *		Connections to the server, and statements on them.
 */
#ifndef SERVER_H
#define SERVER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/* What became of something that needs the server. */
typedef enum Outcome
{
	OUTCOME_DONE,				/* it is done */
	OUTCOME_RETRY,				/* connect again, and go on from there */
	OUTCOME_STOP				/* a clean end was asked for */
} Outcome;

/* A database that has an event store. */
typedef struct Server
{
	PGconn	   *sql;			/* for statements */
	PGconn	   *replication;	/* for the stream */
	char	   *schema;			/* of the es_* functions, quoted */
	char	   *system;			/* the cluster's identifier */
	uint32_t	database;
	uint32_t	store;
	uint32_t	timeline;
	uint64_t	lsn;			/* where the server was when we connected */
} Server;

extern Outcome server_connect(Server *server, const Options *options, bool first);
extern void server_disconnect(Server *server);

extern bool server_send(PGconn *conn, const char *sql, int n, const char *const *values);
extern Outcome server_wait(PGconn *conn);
extern Outcome server_query(PGconn *conn, PGresult **result, const char *sql, int n, const char *const *values);
extern Outcome server_ask(PGconn *conn, PGresult **result, const char *sql, int n, const char *const *values,
						  const char *what);
extern Outcome server_judge(PGconn *conn, const PGresult *result, const char *what);
extern bool server_has_state(const PGresult *result, const char *sqlstate);

#endif							/* SERVER_H */
