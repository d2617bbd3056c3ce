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
 * else has created it meanwhile, there is something to look at again.  The feed
 * gets the categories, types, format and query that are wanted; where these are NULL, those
 * that the feed named lost has, if only its slot is gone.
 */
Outcome
slot_create(Server *server, const char *feed, const char *lost, const char *const *wanted, Seam *seam)
{
	PGresult   *result;
	Outcome		outcome;
	const char *values[] = {feed, lost, wanted[0], wanted[1], wanted[2], wanted[3]};
	char	   *sql = make_text("SELECT c.head_position, c.lsn FROM (VALUES (1)) v "
								"LEFT JOIN %s.es_feeds f ON f.feed OPERATOR(pg_catalog.=) $2 "
								"CROSS JOIN LATERAL %s.es_create_feed($1, coalesce($3::pg_catalog.text[], f.categories), "
								"coalesce($4::pg_catalog.text[], f.types), coalesce($5, f.format, 'json'), coalesce($6::pg_catalog.jsonb, f.query)) c",
								server->schema, server->schema);

	outcome = server_query(server->sql, &result, sql, 6, values);
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

/* Copies a column; NULL for NULL. */
static char *
copy_column(const PGresult *result, int column)
{
	return PQgetisnull(result, 0, column) ? NULL : copy_text(PQgetvalue(result, 0, column));
}

/*
 * slot_definition tells what is to be delivered of a feed as it is now: what it has, and of
 * that what is wanted.  The format is CloudEvents as soon as either of them says so; one
 * that the feed does not allow ends the program, as the stream would.
 */
Outcome
slot_definition(Server *server, const char *feed, const char *const *wanted, Definition *definition)
{
	PGresult   *result;
	Outcome		outcome;
	const char *values[] = {feed, wanted[0], wanted[1], wanted[3]};
	const char *format = wanted[2];
	char	   *sql = make_text("SELECT CASE WHEN f.categories IS NULL THEN $2::pg_catalog.text[] WHEN $2 IS NULL THEN f.categories "
								"ELSE ARRAY(SELECT c FROM pg_catalog.unnest(f.categories) c WHERE c OPERATOR(pg_catalog.=) ANY ($2)) END, "
								"CASE WHEN f.types IS NULL THEN $3::pg_catalog.text[] WHEN $3 IS NULL THEN f.types "
								"ELSE ARRAY(SELECT t FROM pg_catalog.unnest(f.types) t WHERE t OPERATOR(pg_catalog.=) ANY ($3)) END, "
								"f.format, NULLIF(f.query, $4::pg_catalog.jsonb) FROM %s.es_feeds f WHERE f.feed OPERATOR(pg_catalog.=) $1", server->schema);

	memset(definition, 0, sizeof(*definition));
	outcome = server_ask(server->sql, &result, sql, 4, values, "could not look for what the feed has");
	if (outcome == OUTCOME_DONE && PQntuples(result) != 1)
		outcome = OUTCOME_RETRY;
	if (outcome == OUTCOME_DONE)
	{
		definition->categories = copy_column(result, 0);
		definition->types = copy_column(result, 1);
		definition->format = copy_column(result, 2);
		definition->query = copy_column(result, 3);
		if (definition->format == NULL || (format != NULL && strcmp(definition->format, "json") == 0))
		{
			free(definition->format);
			definition->format = copy_text(format != NULL ? format : "json");
		}
		else if (format != NULL && strcmp(definition->format, format) != 0)
		{
			report_hint("Leave --format out, or change the feed with es_alter_feed.");
			report_failure(EXIT_SERVER, "the feed's format is \"%s\", not \"%s\"", definition->format, format);
		}
	}
	PQclear(result);
	free(sql);
	return outcome;
}

/* slot_free_definition frees its texts. */
void
slot_free_definition(Definition *definition)
{
	free(definition->categories);
	free(definition->types);
	free(definition->format);
	free(definition->query);
}

/* slot_drop_lost drops the slot of a feed that is lost; what the feed has stays on record. */
Outcome
slot_drop_lost(Server *server, const char *feed)
{
	PGresult   *result;
	Outcome		outcome = server_ask(server->sql, &result,
									 "SELECT pg_catalog.pg_drop_replication_slot(('es_' OPERATOR(pg_catalog.||) $1)::pg_catalog.name)",
									 1, &feed, "could not drop the lost feed");

	PQclear(result);
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

/*
 * slot_copy makes another feed that is, and is as far as, one that nobody reads.  What it
 * has comes before its slot, which otherwise would let everything through meanwhile.
 */
Outcome
slot_copy(Server *server, const char *from, const char *to)
{
	PGresult   *result;
	Outcome		outcome;
	const char *names[] = {from, to};
	char	   *sql = make_text("SELECT %s.es_share_feed($1, $2)", server->schema);

	outcome = server_ask(server->sql, &result, sql, 2, names, "could not make the feed ready");
	free(sql);
	PQclear(result);
	if (outcome != OUTCOME_DONE)
		return outcome;
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
