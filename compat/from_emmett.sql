/*
 * from_emmett.sql
 *		Brings the messages that emmett (@event-driven-io/emmett-postgresql) keeps in emt_messages into an
 *		eventstore: ids, types, data, metadata, versions, times, and the global positions.
 *
 * Run it by psql as a superuser in a database that has the extension; it makes a procedure that lasts as
 * long as the session.  Then, with the schema that has emmett's tables:
 *
 *		CALL pg_temp.import_emmett('public');
 *
 * It may be called again while writers go on, and brings what has come since.  A message's global position is
 * given out by an INSERT, whose lock on the table a call first waits for.  A view or a foreign table cannot be waited
 * for: it must not show what may still have others before it.
 *
 *		keep_positions	each event gets its global position; false: the store's next positions; calls begin after
 *						from_position, or, if that is NULL, after the last message that the store has
 *		archived		false: messages that are archived stay away
 *		renumber		streams that lack messages close up; else they are refused
 *		compare_earlier	false: a call does not look whether the store has all from before where it goes on, so that the
 *						last one, with writers stopped, need not read it all
 *		only_check		stores nothing, and tells what would be refused
 */
\ir import_events.sql

/* A stream's name here; make another function of this name before the call to have others. */
CREATE OR REPLACE FUNCTION pg_temp.emmett_stream_name(stream_id text, part text, is_archived boolean) RETURNS text
	LANGUAGE sql IMMUTABLE AS $$
	SELECT stream_id OPERATOR(pg_catalog.||) CASE WHEN part OPERATOR(pg_catalog.=) 'emt:default' THEN '' ELSE '@' OPERATOR(pg_catalog.||) part END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.import_emmett(source regnamespace, keep_positions boolean DEFAULT true, archived boolean DEFAULT true,
		renumber boolean DEFAULT false, batch_size int DEFAULT 10000, from_position bigint DEFAULT NULL,
		compare_earlier boolean DEFAULT true, only_check boolean DEFAULT false)
	LANGUAGE plpgsql AS $$
DECLARE
	_path text := pg_catalog.current_setting('search_path');
	_messages text := pg_catalog.format('%s.emt_messages', source);
	_sequence text := pg_catalog.format('%s.emt_global_message_position', source);
	_until bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM pg_temp.import_events_require(keep_positions, batch_size, from_position, compare_earlier);

	/* with nobody writing, no message can come any more at the positions that were given out; without the sequence, before the last one */
	IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = _messages::regclass AND c.relkind IN ('r', 'p')) THEN
		EXECUTE pg_catalog.format('LOCK TABLE %s IN SHARE MODE', _messages);
		EXECUTE CASE WHEN to_regclass(_sequence) IS NOT NULL THEN pg_catalog.format('SELECT s.last_value FROM %s s', _sequence)
			ELSE pg_catalog.format('SELECT COALESCE(pg_catalog.max(m.global_position), 0) FROM %s m', _messages) END INTO _until;
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END IF;

	/* emmett has no index by position; a message without one is an error here */
	IF to_regclass('pg_temp.import_keys') IS NULL THEN
		CREATE TEMP TABLE import_keys (global_position bigint PRIMARY KEY, stream_position bigint NOT NULL, stream_id text NOT NULL, partition text NOT NULL);
	ELSE
		TRUNCATE pg_temp.import_keys;
	END IF;
	EXECUTE pg_catalog.format('INSERT INTO pg_temp.import_keys SELECT m.global_position, m.stream_position, m.stream_id, m.partition FROM %s m
		WHERE COALESCE(m.global_position <= $1, true) AND ($2 OR NOT m.is_archived) ORDER BY 1', _messages) USING _until, archived;
	ANALYZE pg_temp.import_keys;
	EXECUTE pg_catalog.format($q$
		CREATE OR REPLACE TEMP VIEW import_source AS
		SELECT k.global_position, pg_temp.emmett_stream_name(m.stream_id, m.partition, m.is_archived) AS stream, m.stream_position AS version,
			m.message_type AS type, m.message_data AS data,
			CASE WHEN m.message_metadata <> 'null' THEN m.message_metadata ELSE '{}' END || pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
				'message_id', CASE WHEN u.id IS NULL THEN m.message_id END,
				'message_kind', NULLIF(m.message_kind::text, 'E'),
				'schema_version', NULLIF(m.message_schema_version, '1'),
				'partition', NULLIF(m.partition, 'emt:default'))) AS metadata,
			COALESCE(u.id, pg_catalog.md5(m.message_id)::uuid) AS event_id, m.created AS recorded_at, NULL::text AS fault
		FROM pg_temp.import_keys k
		JOIN %s m ON m.stream_id = k.stream_id AND m.stream_position = k.stream_position AND m.partition = k.partition
			AND CASE WHEN m.global_position = k.global_position THEN true ELSE false END
		CROSS JOIN LATERAL (SELECT CASE
			WHEN m.message_id ~ '^[[:xdigit:]]{8}(-[[:xdigit:]]{4}){3}-[[:xdigit:]]{12}$' THEN m.message_id::uuid END AS id) u $q$, _messages);
	CALL pg_temp.import_events(_messages, keep_positions, renumber, batch_size, from_position, NULL, compare_earlier, only_check, 'pg_temp.import_keys');
	PERFORM pg_catalog.set_config('search_path', _path, true);
END
$$;
