/*
 * import_events.sql
 *		What the ways from other stores share: brings the events that a view shows, in the order of
 *		their positions there, batch by batch, each in a transaction of its own.
 *
 * from_message_db.sql, from_emmett.sql, from_marten.sql and from_kurrentdb.sql read it in.  They make
 * the view pg_temp.import_source and call
 *
 *		pg_temp.import_events(name, keep_positions, renumber, batch_size, from_position, until_position, ...)
 *
 * The view has global_position bigint, stream text, version bigint (from 1), type text, data jsonb,
 * metadata jsonb, event_id uuid, recorded_at timestamptz, and fault text: why an event cannot be brought, else NULL.
 * It must not show what may still have others before it.  The caller can see to that by a lock on its
 * table, which is given back as soon as is known how far this call goes.
 *
 *		compare_earlier	whether all up to where this call begins is in the store, and where that is if nobody says;
 *						looks at everything there
 *		only_check		stores nothing, and tells what would be refused
 *		positions		what has the column global_position alone, where the view would be slow in it
 *		whole			whether the view has all that was brought before, and not only what comes after it
 *
 * What cannot be stored is refused before anything is: pg_temp.import_faults lists these events.  Who calls asks
 * pg_temp.import_events_require before all else, whether the arguments are such as can be.
 * Positions are set forward over holes, never back: readers may have passed.
 */
DO $install$
BEGIN
	EXECUTE pg_catalog.replace($script$
CREATE OR REPLACE PROCEDURE pg_temp.import_events(source text, keep_positions boolean, renumber boolean, batch_size int, from_position bigint,
		until_position bigint DEFAULT NULL, compare_earlier boolean DEFAULT true, only_check boolean DEFAULT false,
		positions text DEFAULT 'pg_temp.import_source', whole boolean DEFAULT true)
	LANGUAGE plpgsql AS $$
DECLARE
	_after bigint;
	_until bigint;
	_given bigint;
	_count bigint;
	_total bigint := 0;
	_late bigint;
	_batch_end bigint;
	_run record;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM pg_temp.import_events_require(keep_positions, batch_size, from_position, compare_earlier);
	EXECUTE pg_catalog.format('SELECT pg_catalog.max(m.global_position) FROM %s m WHERE m.global_position <= $1 OR $1 IS NULL', positions)
		INTO _until USING until_position;
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

	_after := CASE WHEN keep_positions THEN pg_temp.import_events_last(source) ELSE from_position END;
	_after := pg_temp.import_events_start(source, _after, compare_earlier);
	CALL pg_temp.import_events_check(_after, _until, renumber, compare_earlier, whole);
	IF EXISTS (SELECT FROM pg_temp.import_faults) THEN
		COMMIT;
		PERFORM pg_temp.import_events_refuse(source, whole);
	END IF;
	SELECT pg_catalog.count(*) INTO _late FROM pg_temp.import_times;
	IF only_check THEN
		EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM %s m WHERE m.global_position > $1 AND m.global_position <= $2', positions)
			INTO _total USING _after, _until;
		RAISE NOTICE '% events can be imported, up to global position %; % of them get a later time than there', _total, COALESCE(_until, _after), _late;
		RETURN;
	END IF;

	LOOP
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		EXECUTE pg_catalog.format('SELECT pg_catalog.max(b.global_position) FROM (SELECT m.global_position FROM %s m
			WHERE m.global_position > $1 AND m.global_position <= $3 ORDER BY 1 LIMIT $2) b', positions) INTO _batch_end USING _after, batch_size, _until;
		EXIT WHEN _batch_end IS NULL;

		/* runs of positions without a hole; all of it is one if the store numbers anew */
		FOR _run IN EXECUTE pg_catalog.format('SELECT pg_catalog.min(b.global_position) AS first, pg_catalog.max(b.global_position) AS last, pg_catalog.count(*) AS n
			FROM (SELECT m.global_position, m.global_position - pg_catalog.row_number() OVER (ORDER BY m.global_position) AS run
				FROM %s m WHERE m.global_position > $1 AND m.global_position <= $2) b
			GROUP BY CASE WHEN $3 THEN b.run END ORDER BY 1', positions) USING _after, _batch_end, keep_positions
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
	RAISE NOTICE '% events imported, up to global position %; % of them have a later time than there', _total, _after, _late;
END
$$;

/* Raises 22023 for arguments that do not go together. */
CREATE OR REPLACE FUNCTION pg_temp.import_events_require(keep_positions boolean, batch_size int, from_position bigint, compare_earlier boolean)
	RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF batch_size IS NULL OR batch_size < 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "batch_size" must be at least 1';
	END IF;
	IF keep_positions AND from_position IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "from_position" must not be given where positions are kept',
			DETAIL = 'Such a call begins after the last event that the store has.', HINT = 'Leave it out, or have keep_positions => false.';
	END IF;
	IF NOT keep_positions AND NOT compare_earlier AND from_position IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "from_position" must be given',
			DETAIL = 'Where positions are not kept, only a comparison with the store tells where to go on.';
	END IF;
END
$$;

/* The position of the store's last event, which must be an event there; 0 if there is none. */
CREATE OR REPLACE FUNCTION pg_temp.import_events_last(source text) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	_last record;
BEGIN
	SELECT e.position, e.stream, e.event_id INTO _last FROM @extschema@.es_read_all(0, 1, backwards => true) e;
	IF FOUND AND NOT EXISTS (SELECT FROM pg_temp.import_source m
			WHERE m.global_position = _last.position AND m.stream = _last.stream AND m.event_id = _last.event_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = pg_catalog.format('the store has events that are not of %s', source),
			DETAIL = pg_catalog.format('Event %s of stream %s at position %s is not an event there.', _last.event_id, _last.stream, _last.position),
			HINT = 'Import into a store of its own, or with keep_positions => false.';
	END IF;
	RETURN COALESCE(_last.position, 0);
END
$$;

/*
 * The position there after which a call begins.  What looks at everything must not do it event by event, however
 * few a view's joins are thought to leave, nor in the order of an index: so only hashed joins are on.
 */
CREATE OR REPLACE FUNCTION pg_temp.import_events_start(source text, from_position bigint, compare_earlier boolean) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off AS $$
DECLARE
	_after bigint := from_position;
	_detail text;
	_count bigint;
BEGIN
	PERFORM @extschema@.es_last_position();		/* settings are known from here on */
	IF _after IS NULL AND EXISTS (SELECT FROM @extschema@.es_read_all(0, 1, backwards => true)) THEN
		SELECT pg_catalog.max(m.global_position) INTO _after FROM pg_temp.import_source m
			WHERE EXISTS (SELECT FROM @extschema@.es_events e WHERE e.event_id = m.event_id AND e.stream = m.stream);
	END IF;
	_after := COALESCE(_after, 0);
	IF compare_earlier AND _after > 0 THEN
		SELECT pg_catalog.format('%s events, the first at global position %s.', pg_catalog.count(*), pg_catalog.min(m.global_position)), pg_catalog.count(*)
			INTO _detail, _count FROM pg_temp.import_source m WHERE m.global_position <= _after
				AND NOT EXISTS (SELECT FROM @extschema@.es_events e WHERE e.event_id = m.event_id AND e.stream = m.stream);
		IF _count > 0 THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('%s has events up to global position %s that are not in the store', source, _after), DETAIL = _detail,
				HINT = 'They were committed after the last call, or removed here: begin again in an empty store, and do not show what is so new.';
		END IF;
	END IF;
	RETURN _after;
END
$$;

/* Finds what cannot be stored, and the times that must be later ones, of what is to come. */
CREATE OR REPLACE PROCEDURE pg_temp.import_events_check(after_position bigint, until_position bigint, renumber boolean, compare_earlier boolean, whole boolean)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET enable_mergejoin = off AS $$
DECLARE
	_name text;
BEGIN
	FOREACH _name IN ARRAY '{import_faults, import_streams, import_times}'::text[] LOOP
		IF to_regclass('pg_temp.' || _name) IS NOT NULL THEN
			EXECUTE 'DROP TABLE pg_temp.' || _name;
		END IF;
	END LOOP;

	/* OFFSET: what a view makes is made once, of what comes out of its joins */
	CREATE TEMP TABLE import_faults AS
		SELECT m.global_position, m.stream, m.version, m.type, m.event_id, m.fault FROM (
			SELECT m.global_position, m.stream, m.version, m.type, m.event_id, CASE
				WHEN m.fault IS NOT NULL THEN m.fault
				WHEN m.stream IS NULL OR pg_catalog.octet_length(m.stream) NOT BETWEEN 1 AND 512 OR m.stream ~ '[\x01-\x1f\x7f]'
					THEN 'names of streams must be 1 to 512 bytes long, without control characters'
				WHEN m.type IS NULL OR pg_catalog.octet_length(m.type) NOT BETWEEN 1 AND 255 OR m.type ~ '[\x01-\x1f\x7f]' OR m.type LIKE '$%'
					THEN 'types must be 1 to 255 bytes long, without control characters and without "$" in front'
				WHEN m.event_id IS NULL OR m.version IS NULL THEN 'events must have an id and a version'
				WHEN m.recorded_at IS NULL OR m.recorded_at < '0001-01-01 00:00:00+00' OR m.recorded_at >= '10000-01-01 00:00:00+00'
					THEN 'times must be in the years 1 to 9999 in UTC'
				WHEN m.data IS NULL THEN 'events must have data'
				WHEN pg_catalog.jsonb_typeof(m.metadata) <> 'object' THEN 'metadata must be objects'
				WHEN pg_catalog.jsonb_typeof(m.metadata -> 'tags') = 'array' AND EXISTS (SELECT FROM pg_catalog.jsonb_array_elements(m.metadata -> 'tags') t
						WHERE pg_catalog.jsonb_typeof(t) = 'string' AND (pg_catalog.octet_length(t #>> '{}') NOT BETWEEN 1 AND 255 OR t #>> '{}' ~ '[\x01-\x1f\x7f]'))
					THEN 'tags in metadata must be 1 to 255 bytes long, without control characters'
				/* how large they are, and what is defined of their type and category */
				ELSE eventstore.append_fault(m.stream, m.type, m.data, COALESCE(m.metadata, '{}'))
			END AS fault
			FROM (SELECT m.* FROM pg_temp.import_source m WHERE m.global_position > after_position AND m.global_position <= until_position OFFSET 0) m) m
		WHERE m.fault IS NOT NULL;

	INSERT INTO pg_temp.import_faults
		SELECT pg_catalog.max(m.global_position), m.stream, pg_catalog.max(m.version), pg_catalog.max(m.type), m.event_id, 'ids must come once in a stream'
		FROM pg_temp.import_source m WHERE m.global_position <= until_position AND (compare_earlier OR m.global_position > after_position)
		GROUP BY m.stream, m.event_id HAVING pg_catalog.count(*) > 1 AND pg_catalog.max(m.global_position) > after_position;

	/* streams that the store has already, and where they are */
	CREATE TEMP TABLE import_streams AS
		SELECT s.stream, s.stored, (SELECT e.recorded_at FROM @extschema@.es_read(s.stream, NULL, 1, backwards => true) e) AS latest
		FROM (SELECT s.stream, @extschema@.es_stream_version(s.stream) AS stored
			FROM (SELECT DISTINCT m.stream FROM pg_temp.import_source m
				WHERE m.global_position > after_position AND m.global_position <= until_position
					AND pg_catalog.octet_length(m.stream) BETWEEN 1 AND 512 AND m.stream !~ '[\x01-\x1f\x7f]') s OFFSET 0) s
		WHERE s.stored > 0;
	ANALYZE pg_temp.import_streams;
	/* what is brought in parts can only be held against what the stream has by its versions, which closing up makes no larger */
	IF renumber AND compare_earlier AND (whole OR after_position = 0) THEN
		INSERT INTO pg_temp.import_faults
			SELECT after_position + 1, s.stream, s.stored, NULL, NULL, 'streams in the store must have what they have there'
			FROM pg_temp.import_streams s LEFT JOIN (SELECT m.stream, pg_catalog.count(*) AS n FROM pg_temp.import_source m
				WHERE m.global_position <= after_position GROUP BY 1) m ON m.stream = s.stream
			WHERE s.stored <> COALESCE(m.n, 0);
	END IF;

	/* a stream's times may go back there, when they are those of transactions' beginnings; the store's do not */
	CREATE TEMP TABLE import_times AS
		SELECT m.* FROM (
			SELECT m.global_position, m.stream, m.version, m.type, m.event_id, m.recorded_at,
				GREATEST(s.latest, pg_catalog.max(m.recorded_at) OVER w) AS latest, COALESCE(pg_catalog.lag(m.version) OVER w, CASE WHEN renumber AND whole THEN 0 ELSE COALESCE(s.stored, 0) END) AS before
			FROM pg_temp.import_source m LEFT JOIN pg_temp.import_streams s ON s.stream = m.stream
			WHERE m.global_position > after_position AND m.global_position <= until_position
			WINDOW w AS (PARTITION BY m.stream ORDER BY m.global_position, m.version)) m
		WHERE m.latest > m.recorded_at OR m.version <= m.before OR (m.version > m.before + 1 AND NOT renumber);
	INSERT INTO pg_temp.import_faults
		SELECT t.global_position, t.stream, t.version, t.type, t.event_id,
			CASE WHEN t.version <= t.before THEN 'versions must come once in a stream, in their order' ELSE 'streams must have all of their events' END
		FROM pg_temp.import_times t WHERE t.version <= t.before OR (t.version > t.before + 1 AND NOT renumber);
	DELETE FROM pg_temp.import_times t WHERE t.latest <= t.recorded_at;
	CREATE INDEX ON pg_temp.import_times (event_id);
	ANALYZE pg_temp.import_times;
END
$$;

/* Raises what import_faults has, each kind with how many and the first. */
CREATE OR REPLACE FUNCTION pg_temp.import_events_refuse(source text, whole boolean) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	_first text;
	_detail text;
	_gaps boolean;
	_others boolean;
BEGIN
	SELECT (pg_catalog.array_agg(f.fault ORDER BY f.first, f.fault))[1], pg_catalog.bool_or(f.fault = 'streams must have all of their events'),
			pg_catalog.bool_or(f.fault = 'streams in the store must have what they have there'),
			pg_catalog.string_agg(pg_catalog.format('%s: %s events, the first at global position %s, version %s of stream %s.', f.fault, f.n, f.first, f.version, f.stream),
				E'\n' ORDER BY f.first, f.fault)
		INTO _first, _gaps, _others, _detail
		FROM (SELECT f.fault, pg_catalog.count(*) AS n, pg_catalog.min(f.global_position) AS first,
				(pg_catalog.array_agg(pg_catalog.left(f.stream, 100) ORDER BY f.global_position, f.version))[1] AS stream,
				(pg_catalog.array_agg(f.version ORDER BY f.global_position, f.version))[1] AS version
			FROM pg_temp.import_faults f GROUP BY 1) f;
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format('cannot import %s: %s', source, _first), DETAIL = _detail,
		HINT = 'This call has stored nothing. In this session pg_temp.import_faults lists these events. Mend them there, or import a view that does'
			|| CASE WHEN _gaps THEN ', or have streams closed up with renumber => true.' ELSE '.' END
			|| CASE WHEN _others AND NOT whole THEN ' If the store has these streams from an earlier part of it, give from_position, the position that the last notice has named.' ELSE '' END;
END
$$;

/*
 * Has positions up to the one before "first" given out, to nobody, and the segment of that made: by an append that is
 * taken back, of a type and a category of which nothing is defined.
 */
CREATE OR REPLACE PROCEDURE pg_temp.import_events_skip(given bigint, first bigint) LANGUAGE plpgsql AS $$
DECLARE
	_name text := 'skipped' OPERATOR(pg_catalog.||) pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '');
BEGIN
	IF first OPERATOR(pg_catalog.-) given OPERATOR(pg_catalog.>) 4 THEN
		PERFORM pg_catalog.setval('eventstore.position_seq', first OPERATOR(pg_catalog.-) 4);
		BEGIN
			PERFORM @extschema@.es_append(_name, _name);
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
