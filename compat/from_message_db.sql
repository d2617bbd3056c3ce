/*
 * from_message_db.sql
 *		Brings the messages of message-db into an eventstore: ids, types, data, metadata,
 *		versions, times, and the global positions, which consumers have noted.
 *
 * Run it as a superuser in a database that has the extension; it makes a procedure that lasts as
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
 *						false: the store's next positions; then calls begin after global position
 *						from_position, which the last one has told
 *		renumber		streams from which message-db has lost messages (DELETE) close up; else they are refused
 */
DO $install$
BEGIN
	EXECUTE pg_catalog.replace($script$
CREATE OR REPLACE PROCEDURE pg_temp.import_message_db(source regnamespace, keep_positions boolean DEFAULT true,
		renumber boolean DEFAULT false, batch_size int DEFAULT 10000, from_position bigint DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	_path text := pg_catalog.current_setting('search_path');
	_messages text := pg_catalog.format('%s.messages', source);
	_after bigint := COALESCE(from_position, 0);
	_until bigint;
	_given bigint;
	_fault text;
	_detail text;
	_count bigint;
	_total bigint := 0;
	_late bigint;
	_batch_end bigint;
	_run record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	IF keep_positions THEN
		SELECT e.position, pg_catalog.format('Event %s of stream %s at position %s is not a message there.', e.event_id, e.stream, e.position)
			INTO _after, _detail FROM @extschema@.es_read_all(0, 1, backwards => true) e;
		_after := COALESCE(_after, 0);
		EXECUTE pg_catalog.format('SELECT $1 = 0 OR EXISTS (SELECT FROM %s m JOIN @extschema@.es_read_all($1 - 1, 1, to_position => $1) e
			ON e.event_id = m.id AND e.stream = m.stream_name WHERE m.global_position = $1)', _messages) INTO STRICT _fault USING _after;
		IF NOT _fault::boolean THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('the store has events that are not of %s', _messages), DETAIL = _detail,
				HINT = 'Import into a store of its own, or with keep_positions => false.';
		END IF;
	END IF;

	/* with nobody writing, no message can come before the last one any more */
	IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = _messages::regclass AND c.relkind IN ('r', 'p')) THEN
		EXECUTE pg_catalog.format('LOCK TABLE %s IN SHARE MODE', _messages);
	END IF;
	EXECUTE pg_catalog.format('SELECT pg_catalog.max(m.global_position) FROM %s m', _messages) INTO _until;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	IF _after > 0 THEN
		EXECUTE pg_catalog.format($q$
			SELECT pg_catalog.format('%%s messages, the first at global position %%s.', pg_catalog.count(*), pg_catalog.min(m.global_position)), pg_catalog.count(*)
			FROM %s m WHERE m.global_position <= $1
				AND NOT EXISTS (SELECT FROM @extschema@.es_events e WHERE e.event_id = m.id AND e.stream = m.stream_name) $q$,
			_messages) INTO _detail, _count USING _after;
		IF _count > 0 THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('%s has messages up to global position %s that are not in the store', _messages, _after), DETAIL = _detail,
				HINT = 'They were committed after the last call: begin again in an empty store, and do not show what is so new.';
		END IF;
	END IF;

	/* what cannot be stored is refused before anything is */
	EXECUTE pg_catalog.format($q$
		SELECT m.fault, pg_catalog.format('%%s messages, the first at global position %%s.', pg_catalog.count(*), pg_catalog.min(m.global_position))
		FROM (SELECT m.global_position, CASE
				WHEN pg_catalog.octet_length(m.stream_name) NOT BETWEEN 1 AND 512 OR m.stream_name ~ '[\x01-\x1f\x7f]'
					THEN 'names of streams must be 1 to 512 bytes long, without control characters'
				WHEN pg_catalog.octet_length(m.type) NOT BETWEEN 1 AND 255 OR m.type ~ '[\x01-\x1f\x7f]' OR m.type LIKE '$%%'
					THEN 'types must be 1 to 255 bytes long, without control characters and without "$" in front'
				WHEN pg_catalog.jsonb_typeof(m.metadata) NOT IN ('object', 'null') THEN 'metadata must be objects'
			END AS fault
			FROM %s m WHERE m.global_position > $1 AND m.global_position <= $2) m
		WHERE m.fault IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT 1 $q$, _messages) INTO _fault, _detail USING _after, _until;
	IF _fault IS NULL AND NOT renumber THEN
		EXECUTE pg_catalog.format($q$
			SELECT 'streams must have all of their messages',
				pg_catalog.format('Stream %%s has %%s, of positions %%s to %%s, and %%s are stored.', s.stream_name, s.n, s.first, s.last, s.stored)
			FROM (SELECT m.stream_name, pg_catalog.count(*) AS n, pg_catalog.min(m.position) AS first, pg_catalog.max(m.position) AS last,
					@extschema@.es_stream_version(m.stream_name) AS stored
				FROM %s m WHERE m.global_position > $1 AND m.global_position <= $2 GROUP BY 1) s
			WHERE s.first <> s.stored OR s.last - s.first + 1 <> s.n LIMIT 1 $q$, _messages) INTO _fault, _detail USING _after, _until;
	END IF;
	IF _fault IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format('cannot import %s: %s', _messages, _fault), DETAIL = _detail,
			HINT = 'Mend the messages in message-db'
				|| CASE WHEN _fault LIKE 'streams%' THEN ', or have streams closed up with renumber => true.' ELSE '.' END;
	END IF;

	/* message-db notes when a transaction began, so a stream's times may go back; the store's do not */
	IF to_regclass('pg_temp.import_message_db_times') IS NOT NULL THEN
		DROP TABLE pg_temp.import_message_db_times;
	END IF;
	EXECUTE pg_catalog.format($q$
		CREATE TEMP TABLE import_message_db_times AS
		SELECT m.global_position, m.latest FROM (
			SELECT m.global_position, m."time", pg_catalog.max(m."time") OVER (PARTITION BY m.stream_name ORDER BY m.global_position) AS latest
			FROM %s m) m
		WHERE m.latest > m."time" AND m.global_position > %s AND m.global_position <= %s $q$, _messages, _after, COALESCE(_until, 0));
	GET DIAGNOSTICS _late = ROW_COUNT;
	ALTER TABLE pg_temp.import_message_db_times ADD PRIMARY KEY (global_position);
	ANALYZE pg_temp.import_message_db_times;

	LOOP
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXECUTE pg_catalog.format('SELECT pg_catalog.max(b.global_position) FROM (SELECT m.global_position FROM %s m
			WHERE m.global_position > $1 AND m.global_position <= $3 ORDER BY 1 LIMIT $2) b', _messages) INTO _batch_end USING _after, batch_size, _until;
		EXIT WHEN _batch_end IS NULL;

		/* runs of positions without a hole; all of it is one if the store numbers anew */
		FOR _run IN EXECUTE pg_catalog.format('SELECT pg_catalog.min(b.global_position) AS first, pg_catalog.max(b.global_position) AS last,
				pg_catalog.count(*) AS n
			FROM (SELECT m.global_position, m.global_position - pg_catalog.row_number() OVER (ORDER BY m.global_position) AS run
				FROM %s m WHERE m.global_position > $1 AND m.global_position <= $2) b
			GROUP BY CASE WHEN $3 THEN b.run END ORDER BY 1', _messages) USING _after, _batch_end, keep_positions
		LOOP
			IF keep_positions THEN
				SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END INTO _given FROM eventstore.position_seq s;
				IF _given >= _run.first THEN
					RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
						MESSAGE = pg_catalog.format('position %s has been given out already', _run.first),
						DETAIL = 'Somebody appends, or a run was cut off in the middle of a batch, or the server has crashed.',
						HINT = 'Begin again in an empty store to which nobody appends, or go on with keep_positions => false.';
				END IF;
				IF _given < _run.first - 1 THEN
					CALL pg_temp.import_message_db_skip(_given, _run.first);
				END IF;
			END IF;
			EXECUTE pg_catalog.format($q$
				INSERT INTO @extschema@.es_events (stream, type, data, metadata, event_id, version, recorded_at)
				SELECT m.stream_name, m.type, COALESCE(m.data, 'null'), CASE WHEN m.metadata <> 'null' THEN m.metadata ELSE '{}' END, m.id,
					CASE WHEN NOT $3 THEN m.position + 1 END, COALESCE(t.latest, m."time") AT TIME ZONE 'UTC'
				FROM %s m LEFT JOIN pg_temp.import_message_db_times t USING (global_position)
				WHERE m.global_position BETWEEN $1 AND $2 ORDER BY m.global_position $q$, _messages) USING _run.first, _run.last, renumber;
			GET DIAGNOSTICS _count = ROW_COUNT;
			_total := _total + _count;
			IF _count <> _run.n OR (keep_positions AND @extschema@.es_last_position() <> _run.last) THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = pg_catalog.format('messages %s to %s did not get their positions', _run.first, _run.last),
					DETAIL = 'Somebody else appends, or message-db''s table has changed.',
					HINT = 'Begin again in an empty store to which nobody appends, or go on with keep_positions => false.';
			END IF;
		END LOOP;
		_after := _batch_end;
		COMMIT;
	END LOOP;
	DROP TABLE pg_temp.import_message_db_times;
	RAISE NOTICE '% messages imported, up to global position %; % of them have a later time than there', _total, _after, _late;
	PERFORM pg_catalog.set_config('search_path', _path, true);
END
$$;

/* Has positions up to the one before "first" given out, to nobody, and the segment of that made. */
CREATE OR REPLACE PROCEDURE pg_temp.import_message_db_skip(given bigint, first bigint) LANGUAGE plpgsql AS $$
BEGIN
	IF first OPERATOR(pg_catalog.-) given OPERATOR(pg_catalog.>) 4 THEN
		PERFORM pg_catalog.setval('eventstore.position_seq', first OPERATOR(pg_catalog.-) 4);
		BEGIN
			PERFORM @extschema@.es_append('import', 'Skipped');
			RAISE EXCEPTION USING ERRCODE = 'P0003';
		EXCEPTION WHEN SQLSTATE 'P0003' THEN
			NULL;
		END;
	END IF;
	PERFORM pg_catalog.setval('eventstore.position_seq', first OPERATOR(pg_catalog.-) 1);
END
$$;
$script$, '@extschema@', (SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace WHERE e.extname OPERATOR(pg_catalog.=) 'eventstore'));
END
$install$;
