/*
 * from_message_db.sql
 *		Brings the messages of message-db into an eventstore: ids, types, data, metadata,
 *		versions, times, and the global positions, which consumers have noted.
 *
 * Run it by psql as a superuser in a database that has the extension; it makes a procedure that lasts as
 * long as the session.  Then, with the schema that has message-db's table (or a foreign table of that
 * name, or a view):
 *
 *		CALL pg_temp.import_message_db('message_db');
 *
 * Messages come in order of their global positions, batch by batch, each in a transaction
 * of its own.  Writers may go on meanwhile: a global position is given out before the commit, so the call
 * first waits for those that are writing, and ends where they were.  It may be called again, and brings what
 * has come since; the last call, with writers stopped, then takes a moment.  A view or a foreign
 * table cannot be waited for: it must not show what may still have others before it.
 *
 *		source			schema of the table "messages"
 *		keep_positions	each event gets the message's global position.  So nobody else may append
 *						meanwhile, and the store has nothing else.  A run that is cut off in the middle of
 *						a batch has spent positions, and must begin again in an empty store.
 *						false: the store's next positions; calls begin after from_position, or, if that is NULL, after
 *						the last message that the store has
 *		renumber		streams from which message-db has lost messages (DELETE) close up; else they are refused
 *		compare_earlier	false: a call does not look whether the store has all from before where it goes on, so that the
 *						last one, with writers stopped, need not read it all
 *		only_check		stores nothing, and tells what would be refused
 */
\ir import_events.sql

CREATE OR REPLACE PROCEDURE pg_temp.import_message_db(source regnamespace, keep_positions boolean DEFAULT true,
		renumber boolean DEFAULT false, batch_size int DEFAULT 10000, from_position bigint DEFAULT NULL,
		compare_earlier boolean DEFAULT true, only_check boolean DEFAULT false)
	LANGUAGE plpgsql AS $$
DECLARE
	_path text := pg_catalog.current_setting('search_path');
	_messages text := pg_catalog.format('%s.messages', source);
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM pg_temp.import_events_require(keep_positions, batch_size, from_position, compare_earlier);
	EXECUTE pg_catalog.format($q$
		CREATE OR REPLACE TEMP VIEW import_source AS
		SELECT m.global_position, m.stream_name::text AS stream, m.position + 1 AS version, m.type::text AS type, COALESCE(m.data, 'null') AS data,
			CASE WHEN m.metadata <> 'null' THEN m.metadata ELSE '{}' END AS metadata, m.id AS event_id,
			m."time" AT TIME ZONE 'UTC' AS recorded_at, NULL::text AS fault
		FROM %s m $q$, _messages);

	/* with nobody writing, no message can come before the last one any more */
	IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = _messages::regclass AND c.relkind IN ('r', 'p')) THEN
		EXECUTE pg_catalog.format('LOCK TABLE %s IN SHARE MODE', _messages);
	END IF;
	CALL pg_temp.import_events(_messages, keep_positions, renumber, batch_size, from_position, NULL, compare_earlier, only_check);
	PERFORM pg_catalog.set_config('search_path', _path, true);
END
$$;
