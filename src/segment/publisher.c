/*
 * publisher.c
 *		What the publisher of a subscription has of an event store.
 *
 * It is asked as the server's own commands ask it, through libpqwalreceiver, on a
 * connection that is closed before the answer is given.  Errors leave none open.  A
 * connection counts among the publisher's max_wal_senders.
 */
#include "segment/publisher.h"

#include "catalog/pg_subscription.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/value.h"
#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "replication/worker_internal.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define SEGMENT_COLUMNS	8

/* Whether publications have the segments of a store. */
static const char whether_published[] =
"SELECT pg_catalog.count(*) FROM pg_catalog.pg_publication_tables t"
" WHERE t.schemaname = 'eventstore' AND t.tablename = 'segments' AND t.pubname IN (%s)";

/* Which segments there have been, and whether publications have them. */
static const char which_segments[] =
"SELECT s.segment, s.first_position, s.last_position,"
" CASE WHEN c.relispartition OR c.relname IN"
" (SELECT t.tablename FROM pg_catalog.pg_publication_tables t"
" WHERE t.schemaname = 'eventstore' AND t.pubname IN (%s)) THEN 1 ELSE 0 END::pg_catalog.int8,"
" s.sealed::pg_catalog.int4::pg_catalog.int8, s.emptied::pg_catalog.int4::pg_catalog.int8, COALESCE(s.events, -1),"
" CASE WHEN 'events_' || s.segment || '_detached' IN"
" (SELECT t.tablename FROM pg_catalog.pg_publication_tables t"
" WHERE t.schemaname = 'eventstore' AND t.pubname IN (%s)) THEN 1 ELSE 0 END::pg_catalog.int8"
" FROM eventstore.segments s LEFT JOIN pg_catalog.pg_class c"
" ON c.relname = 'events_' || s.segment AND c.relnamespace = 'eventstore'::pg_catalog.regnamespace"
" ORDER BY 1";

/* Which projections have a table of states, of those that publications have. */
static const char which_states[] =
"SELECT pg_catalog.substr(c.relname, 19)::pg_catalog.int8 FROM pg_catalog.pg_class c"
" WHERE c.relnamespace = 'eventstore'::pg_catalog.regnamespace AND c.relkind = 'r'"
" AND c.relname ~ '^projection_states_[0-9]+$' AND (c.relispartition OR c.relname IN"
" (SELECT t.tablename FROM pg_catalog.pg_publication_tables t"
" WHERE t.schemaname = 'eventstore' AND t.pubname IN (%s)))";

/* Writes the names of publications as a list of literals. */
static char *
list_publications(const List *publications)
{
	StringInfoData list;
	ListCell   *cell;

	initStringInfo(&list);
	foreach(cell, publications)
	{
		if (list.len > 0)
			appendStringInfoString(&list, ", ");
		appendStringInfoString(&list, quote_literal_cstr(strVal(lfirst(cell))));
	}
	return list.data;
}

/* Runs a query at the publisher; its rows are of that many bigints. */
static WalRcvExecResult *
query_publisher(WalReceiverConn *connection, const char *sql, int columns)
{
	const Oid	types[SEGMENT_COLUMNS] = {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID};
	WalRcvExecResult *result = walrcv_exec(connection, sql, columns, types);

	if (result->status != WALRCV_OK_TUPLES)
		ereport(ERROR,
				errcode(ERRCODE_CONNECTION_FAILURE),
				errmsg("could not ask the publisher for the tables of its event store: %s",
					   result->err ? result->err : "no rows"),
				errhint("The role that the subscription connects as needs SELECT on the tables of schema \"eventstore\" there."));
	return result;
}

/* Tells whether the publications have the segments of a store. */
static bool
ask_whether_published(WalReceiverConn *connection, const char *publications)
{
	WalRcvExecResult *result = query_publisher(connection, psprintf(whether_published, publications), 1);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->tupledesc, &TTSOpsMinimalTuple);
	bool		isnull;
	bool		published = tuplestore_gettupleslot(result->tuplestore, true, false, slot) &&
	DatumGetInt64(slot_getattr(slot, 1, &isnull)) > 0;

	ExecDropSingleTupleTableSlot(slot);
	walrcv_clear_result(result);
	return published;
}

/* Asks which segments there have been. */
static List *
ask_for_segments(WalReceiverConn *connection, const char *publications)
{
	WalRcvExecResult *result = query_publisher(connection, psprintf(which_segments, publications, publications),
											   SEGMENT_COLUMNS);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->tupledesc, &TTSOpsMinimalTuple);
	List	   *segments = NIL;

	while (tuplestore_gettupleslot(result->tuplestore, true, false, slot))
	{
		EsPublishedSegment *segment = palloc(sizeof(EsPublishedSegment));

		slot_getallattrs(slot);
		segment->number = DatumGetInt64(slot->tts_values[0]);
		segment->first_position = DatumGetInt64(slot->tts_values[1]);
		segment->last_position = DatumGetInt64(slot->tts_values[2]);
		segment->has_table = DatumGetInt64(slot->tts_values[3]) != 0;
		segment->sealed = DatumGetInt64(slot->tts_values[4]) != 0;
		segment->emptied = DatumGetInt64(slot->tts_values[5]) != 0;
		segment->events = DatumGetInt64(slot->tts_values[6]);
		segment->has_placeholder = DatumGetInt64(slot->tts_values[7]) != 0;
		segments = lappend(segments, segment);
	}
	ExecDropSingleTupleTableSlot(slot);
	walrcv_clear_result(result);
	return segments;
}

/* Asks which projections have a table of states. */
static List *
ask_for_states(WalReceiverConn *connection, const char *publications)
{
	WalRcvExecResult *result = query_publisher(connection, psprintf(which_states, publications), 1);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->tupledesc, &TTSOpsMinimalTuple);
	List	   *states = NIL;
	bool		isnull;

	while (tuplestore_gettupleslot(result->tuplestore, true, false, slot))
	{
		int64	   *id = palloc(sizeof(int64));

		*id = DatumGetInt64(slot_getattr(slot, 1, &isnull));
		states = lappend(states, id);
	}
	ExecDropSingleTupleTableSlot(slot);
	walrcv_clear_result(result);
	return states;
}

/* Connects to a publisher; NULL, and why, if it cannot be reached. */
static WalReceiverConn *
connect_to(const EsPublisher *publisher, char **error)
{
	load_file("libpqwalreceiver", false);
	return es_publisher_connect(publisher->conninfo, publisher->needs_password, publisher->subscription, error);
}

/* es_publisher_own gives the publisher of the subscription that this worker works for. */
EsPublisher
es_publisher_own(void)
{
	EsPublisher publisher = {.conninfo = MySubscription->conninfo,
		.needs_password = es_subscription_needs_password(MySubscription),
	.subscription = MySubscription->name,.publications = MySubscription->publications};

	return publisher;
}

/*
 * es_publisher_ask asks the publisher what there is; false if it cannot be
 * reached.  The answer is in the current memory context.
 */
bool
es_publisher_ask(const EsPublisher *publisher, EsPublished *answer)
{
	WalReceiverConn *connection;
	char	   *error;

	memset(answer, 0, sizeof(*answer));
	connection = connect_to(publisher, &error);
	if (connection == NULL)
		return false;
	PG_TRY();
	{
		char	   *publications = list_publications(publisher->publications);

		answer->publishes = ask_whether_published(connection, publications);
		if (answer->publishes)
		{
			answer->segments = ask_for_segments(connection, publications);
			answer->states = ask_for_states(connection, publications);
		}
	}
	PG_FINALLY();
	{
		walrcv_disconnect(connection);
	}
	PG_END_TRY();
	return true;
}

/*
 * es_publisher_drop_slot drops a slot at the publisher if it is there, which no rollback
 * undoes; waits for who streams from it.  08006 if the publisher cannot be reached.
 */
void
es_publisher_drop_slot(const EsPublisher *publisher, char *slot)
{
	WalReceiverConn *connection;
	char	   *error;

	connection = connect_to(publisher, &error);
	if (connection == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONNECTION_FAILURE),
				errmsg("could not connect to the publisher: %s", error));
	PG_TRY();
	{
		ReplicationSlotDropAtPubNode(connection, slot, true);
	}
	PG_FINALLY();
	{
		walrcv_disconnect(connection);
	}
	PG_END_TRY();
}
