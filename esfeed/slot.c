/*
 * slot.c
 *		A feed's slot on the server.
 */
#include "slot.h"

#include <stdlib.h>
#include <string.h>

#include "lsn.h"
#include "memory.h"
#include "options.h"
#include "report.h"
#include "server.h"

/* slot_find looks for a feed's slot. */
Outcome
slot_find(Server *server, const char *feed, Slot *slot)
{
	PGresult   *result;
	Outcome		outcome;

	memset(slot, 0, sizeof(*slot));
	/* servers differ in how they say that a slot is of no use any more */
	outcome = server_ask(server->sql, &result,
						 "SELECT s.database OPERATOR(pg_catalog.=) pg_catalog.current_database() "
						 "AND s.plugin OPERATOR(pg_catalog.=) 'eventstore', "
						 "s.wal_status OPERATOR(pg_catalog.=) 'lost' "
						 "OR (pg_catalog.to_jsonb(s) OPERATOR(pg_catalog.->>) 'conflicting')::pg_catalog.bool IS TRUE "
						 "OR (pg_catalog.to_jsonb(s) OPERATOR(pg_catalog.->>) 'invalidation_reason') IS NOT NULL, "
						 "s.active, s.confirmed_flush_lsn "
						 "FROM pg_catalog.pg_replication_slots s "
						 "WHERE s.slot_name OPERATOR(pg_catalog.=) ('es_' OPERATOR(pg_catalog.||) $1)::pg_catalog.name",
						 1, &feed, "could not look for the feed");
	if (outcome == OUTCOME_DONE && PQntuples(result) > 0)
	{
		slot->exists = true;
		slot->is_feed = PQgetvalue(result, 0, 0)[0] == 't';
		slot->lost = PQgetvalue(result, 0, 1)[0] == 't';
		slot->active = PQgetvalue(result, 0, 2)[0] == 't';
		(void) lsn_parse(PQgetvalue(result, 0, 3), &slot->confirmed);
	}
	PQclear(result);
	if (outcome == OUTCOME_DONE && slot->exists && !slot->is_feed)
		report_failure(EXIT_NO_FEED, "slot \"es_%s\" is not a feed of this database", feed);
	return outcome;
}

/* Reads a seam, the columns head_position and lsn. */
static void
read_seam(const PGresult *result, Seam *seam)
{
	seam->head = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	(void) lsn_parse(PQgetvalue(result, 0, 1), &seam->lsn);
}

/*
 * slot_create creates a feed; it waits for all who are writing.  If somebody
 * else has created it meanwhile, there is something to look at again.
 */
Outcome
slot_create(Server *server, const char *feed, Seam *seam)
{
	PGresult   *result;
	Outcome		outcome;
	char	   *sql = make_text("SELECT head_position, lsn FROM %s.es_create_feed($1)", server->schema);

	outcome = server_query(server->sql, &result, sql, 1, &feed);
	if (outcome == OUTCOME_DONE && server_has_state(result, "42710"))
		outcome = OUTCOME_RETRY;
	else if (outcome == OUTCOME_DONE)
		outcome = server_judge(server->sql, result, "could not create the feed");
	if (outcome == OUTCOME_DONE)
	{
		read_seam(result, seam);
		report_note("created the feed \"%s\"", feed);
	}
	PQclear(result);
	free(sql);
	return outcome;
}

/* slot_drop drops a feed; one that is in use ends the program. */
Outcome
slot_drop(Server *server, const char *feed)
{
	PGresult   *result;
	Outcome		outcome;
	char	   *sql = make_text("SELECT %s.es_drop_feed($1)", server->schema);

	outcome = server_query(server->sql, &result, sql, 1, &feed);
	if (outcome == OUTCOME_DONE && server_has_state(result, "VE004"))
		report_failure(EXIT_NO_FEED, "feed \"%s\" does not exist", feed);
	if (outcome == OUTCOME_DONE && server_has_state(result, "55006"))
		report_failure(EXIT_IN_USE, "the feed \"%s\" is in use: another consumer is connected", feed);
	if (outcome == OUTCOME_DONE)
		outcome = server_judge(server->sql, result, "could not drop the feed");
	PQclear(result);
	free(sql);
	return outcome;
}

/*
 * slot_unfinished_name gives the name that a feed has while its history is not
 * delivered; the caller's to free.
 */
char *
slot_unfinished_name(const char *feed)
{
	return make_text("%s" UNFINISHED, feed);
}

/* slot_drop_unfinished drops the feed of that name, and tells whether there was one. */
Outcome
slot_drop_unfinished(Server *server, const char *feed, bool *dropped)
{
	char	   *name = slot_unfinished_name(feed);
	Slot		slot;
	Outcome		outcome = slot_find(server, name, &slot);

	*dropped = outcome == OUTCOME_DONE && slot.exists;
	if (*dropped)
		outcome = slot_drop(server, name);
	free(name);
	return outcome;
}

/* slot_copy makes another feed that is as far as one that nobody reads. */
Outcome
slot_copy(Server *server, const char *from, const char *to)
{
	PGresult   *result;
	Outcome		outcome;
	const char *names[] = {from, to};

	outcome = server_ask(server->sql, &result,
						 "SELECT pg_catalog.pg_copy_logical_replication_slot("
						 "('es_' OPERATOR(pg_catalog.||) $1)::pg_catalog.name, "
						 "('es_' OPERATOR(pg_catalog.||) $2)::pg_catalog.name, false)",
						 2, names, "could not make the feed ready");
	PQclear(result);
	return outcome;
}

/* slot_head gives a seam for a slot that exists. */
Outcome
slot_head(Server *server, Seam *seam)
{
	PGresult   *result;
	Outcome		outcome;
	char	   *sql = make_text("SELECT head_position, lsn FROM %s.es_feed_head()", server->schema);

	outcome = server_ask(server->sql, &result, sql, 0, NULL, "could not ask for the head of the log");
	if (outcome == OUTCOME_DONE)
		read_seam(result, seam);
	PQclear(result);
	free(sql);
	return outcome;
}
