/*
 * import_events.sql
 *		What the ways from other stores share: brings the events that a view shows, in the order of
 *		their positions there, batch by batch, each in a transaction of its own.
 *
 * from_message_db.sql, from_emmett.sql, from_marten.sql and from_kurrentdb.sql read it in.  They make
 * the view pg_temp.import_source and call
 *
 *		pg_temp.import_events(name, keep_positions, renumber, batch_size, from_position, until_position)
 *
 * The view has global_position bigint, stream text, version bigint (from 1), type text, data jsonb,
 * metadata jsonb, event_id uuid, recorded_at timestamptz, and fault text: why an event cannot be brought, else NULL.
 * It must not show what may still have others before it.  The caller can see to that by a lock on its
 * table, which is given back as soon as is known how far this call goes.
 *
 * Positions are set forward over holes, never back: readers may have passed.
 */
DO $install$
BEGIN
	EXECUTE pg_catalog.replace($script$
CREATE OR REPLACE PROCEDURE pg_temp.import_events(source text, keep_positions boolean, renumber boolean, batch_size int,
		from_position bigint, until_position bigint DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	_after bigint := COALESCE(from_position, 0);
	_until bigint;
	_given bigint;
	_known boolean;
	_fault text;
	_detail text;
	_count bigint;
	_total bigint := 0;
	_late bigint;
	_batch_end bigint;
	_run record;
	_nestloop text := pg_catalog.current_setting('enable_nestloop');
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	IF batch_size IS NULL OR batch_size < 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "batch_size" must be at least 1';
	END IF;
	IF keep_positions THEN
		SELECT e.position, pg_catalog.format('Event %s of stream %s at position %s is not an event there.', e.event_id, e.stream, e.position)
			INTO _after, _detail FROM @extschema@.es_read_all(0, 1, backwards => true) e;
		_after := COALESCE(_after, 0);
		SELECT _after = 0 OR EXISTS (SELECT FROM pg_temp.import_source m JOIN @extschema@.es_read_all(_after - 1, 1, to_position => _after) e
			ON e.event_id = m.event_id AND e.stream = m.stream WHERE m.global_position = _after) INTO STRICT _known;
		IF NOT _known THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('the store has events that are not of %s', source), DETAIL = _detail,
				HINT = 'Import into a store of its own, or with keep_positions => false.';
		END IF;
	END IF;
	SELECT pg_catalog.max(m.global_position) INTO _until FROM pg_temp.import_source m WHERE m.global_position <= until_position OR until_position IS NULL;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

	/* what looks at everything must not do it event by event, however few a view's joins are thought to leave */
	PERFORM pg_catalog.set_config('enable_nestloop', 'off', true);
	IF _after > 0 THEN
		SELECT pg_catalog.format('%s events, the first at global position %s.', pg_catalog.count(*), pg_catalog.min(m.global_position)), pg_catalog.count(*)
			INTO _detail, _count FROM pg_temp.import_source m WHERE m.global_position <= _after
				AND NOT EXISTS (SELECT FROM @extschema@.es_events e WHERE e.event_id = m.event_id AND e.stream = m.stream);
		IF _count > 0 THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('%s has events up to global position %s that are not in the store', source, _after), DETAIL = _detail,
				HINT = 'They were committed after the last call: begin again in an empty store, and do not show what is so new.';
		END IF;
	END IF;

	/* what cannot be stored is refused before anything is */
	SELECT m.fault, pg_catalog.format('%s events, the first at global position %s.', pg_catalog.count(*), pg_catalog.min(m.global_position))
		INTO _fault, _detail
		FROM (SELECT m.global_position, CASE
				WHEN m.fault IS NOT NULL THEN m.fault
				WHEN m.stream IS NULL OR pg_catalog.octet_length(m.stream) NOT BETWEEN 1 AND 512 OR m.stream ~ '[\x01-\x1f\x7f]'
					THEN 'names of streams must be 1 to 512 bytes long, without control characters'
				WHEN m.type IS NULL OR pg_catalog.octet_length(m.type) NOT BETWEEN 1 AND 255 OR m.type ~ '[\x01-\x1f\x7f]' OR m.type LIKE '$%'
					THEN 'types must be 1 to 255 bytes long, without control characters and without "$" in front'
				WHEN pg_catalog.jsonb_typeof(m.metadata) <> 'object' THEN 'metadata must be objects'
			END AS fault
			FROM pg_temp.import_source m WHERE m.global_position > _after AND m.global_position <= _until) m
		WHERE m.fault IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT 1;
	IF _fault IS NULL AND NOT renumber THEN
		SELECT 'streams must have all of their events',
			pg_catalog.format('Stream %s has %s, of versions %s to %s, and %s are stored.', s.stream, s.n, s.first, s.last, s.stored)
			INTO _fault, _detail
			FROM (SELECT m.stream, pg_catalog.count(*) AS n, pg_catalog.min(m.version) AS first, pg_catalog.max(m.version) AS last,
					@extschema@.es_stream_version(m.stream) AS stored
				FROM pg_temp.import_source m WHERE m.global_position > _after AND m.global_position <= _until GROUP BY 1) s
			WHERE s.first <> s.stored + 1 OR s.last - s.first + 1 <> s.n LIMIT 1;
	END IF;
	IF _fault IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format('cannot import %s: %s', source, _fault), DETAIL = _detail,
			HINT = 'Mend the events there' || CASE WHEN _fault LIKE 'streams%' THEN ', or have streams closed up with renumber => true.' ELSE '.' END;
	END IF;

	/* a stream's times may go back there, when they are those of transactions' beginnings; the store's do not */
	IF to_regclass('pg_temp.import_times') IS NOT NULL THEN
		DROP TABLE pg_temp.import_times;
	END IF;
	CREATE TEMP TABLE import_times AS
		SELECT m.event_id, m.stream, m.latest FROM (
			SELECT m.global_position, m.event_id, m.stream, m.recorded_at,
				pg_catalog.max(m.recorded_at) OVER (PARTITION BY m.stream ORDER BY m.global_position, m.version) AS latest
			FROM pg_temp.import_source m) m
		WHERE m.latest > m.recorded_at AND m.global_position > _after AND m.global_position <= _until;
	GET DIAGNOSTICS _late = ROW_COUNT;
	CREATE INDEX ON pg_temp.import_times (event_id);
	ANALYZE pg_temp.import_times;
	PERFORM pg_catalog.set_config('enable_nestloop', _nestloop, true);

	LOOP
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXECUTE 'SELECT pg_catalog.max(b.global_position) FROM (SELECT m.global_position FROM pg_temp.import_source m
			WHERE m.global_position > $1 AND m.global_position <= $3 ORDER BY 1 LIMIT $2) b' INTO _batch_end USING _after, batch_size, _until;
		EXIT WHEN _batch_end IS NULL;

		/* runs of positions without a hole; all of it is one if the store numbers anew */
		FOR _run IN EXECUTE 'SELECT pg_catalog.min(b.global_position) AS first, pg_catalog.max(b.global_position) AS last, pg_catalog.count(*) AS n
			FROM (SELECT m.global_position, m.global_position - pg_catalog.row_number() OVER (ORDER BY m.global_position) AS run
				FROM pg_temp.import_source m WHERE m.global_position > $1 AND m.global_position <= $2) b
			GROUP BY CASE WHEN $3 THEN b.run END ORDER BY 1' USING _after, _batch_end, keep_positions
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
					CALL pg_temp.import_events_skip(_given, _run.first);
				END IF;
			END IF;
			EXECUTE $q$
				INSERT INTO @extschema@.es_events (stream, type, data, metadata, event_id, version, recorded_at)
				SELECT m.stream, m.type, m.data, m.metadata, m.event_id, CASE WHEN NOT $3 THEN m.version END, COALESCE(t.latest, m.recorded_at)
				FROM pg_temp.import_source m LEFT JOIN pg_temp.import_times t ON t.event_id = m.event_id AND t.stream = m.stream
				WHERE m.global_position BETWEEN $1 AND $2 ORDER BY m.global_position, m.version $q$ USING _run.first, _run.last, renumber;
			GET DIAGNOSTICS _count = ROW_COUNT;
			_total := _total + _count;
			IF _count <> _run.n OR (keep_positions AND @extschema@.es_last_position() <> _run.last) THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
					MESSAGE = pg_catalog.format('events %s to %s did not get their positions', _run.first, _run.last),
					DETAIL = 'Somebody else appends, or what is imported has changed.',
					HINT = 'Begin again in an empty store to which nobody appends, or go on with keep_positions => false.';
			END IF;
		END LOOP;
		_after := _batch_end;
		COMMIT;
	END LOOP;
	DROP TABLE pg_temp.import_times;
	RAISE NOTICE '% events imported, up to global position %; % of them have a later time than there', _total, _after, _late;
END
$$;

/* Has positions up to the one before "first" given out, to nobody, and the segment of that made. */
CREATE OR REPLACE PROCEDURE pg_temp.import_events_skip(given bigint, first bigint) LANGUAGE plpgsql AS $$
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

/*
 * Where a consumer goes on here that has got as far as "checkpoint" there: the position of the last
 * event up to it, 0 if there is none, NULL if that event has not been brought yet.
 */
CREATE OR REPLACE FUNCTION pg_temp.imported_position(checkpoint bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
	_stream text;
	_id uuid;
BEGIN
	SELECT m.stream, m.event_id INTO _stream, _id FROM pg_temp.import_source m
		WHERE m.global_position OPERATOR(pg_catalog.<=) checkpoint ORDER BY m.global_position DESC, m.version DESC LIMIT 1;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	RETURN (SELECT e.position FROM @extschema@.es_find_event(_stream, _id) e);
END
$$;
$script$, '@extschema@', (SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace WHERE e.extname OPERATOR(pg_catalog.=) 'eventstore'));
END
$install$;
