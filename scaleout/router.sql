/*
 * router.sql
 *		A router of stores: run it in a database that has PL/Proxy, and not the extension.
 *
 *		psql -d ROUTER -f scaleout/router.sql
 *
 * It has the store's functions for one stream, which go to the shard that the stream is at, and functions for all shards.
 * Before it, tell where the shards are, with the numbers that they were given (shard.sql):
 *
 *		CREATE EXTENSION plproxy;
 *		CREATE SERVER eventstore FOREIGN DATA WRAPPER plproxy
 *			OPTIONS (modular_mapping '1', p0 'host=... dbname=...', p1 'host=... dbname=...');
 *		CREATE USER MAPPING FOR PUBLIC SERVER eventstore OPTIONS (user '...', password '...');
 *
 * and after it, once: SELECT es_start_shards(2).  A further router is filled by SELECT es_learn_slots().
 *
 * A call is a transaction of its own at the shard: it is done when it returns, whatever becomes of the transaction that
 * called.  The map of slots is a guess that shards correct: a call that finds its slot gone follows it,
 * and while the slot is on its way, which is a moment, waits for it.
 */
\set ON_ERROR_STOP on

BEGIN;
DO $check$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'eventstore') THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'this database has the extension "eventstore"',
			DETAIL = 'A call would go to the store that is here, and not to the shards.', HINT = 'Make a database of its own for the router.';
	ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'plproxy') THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'extension "plproxy" is not installed in this database', HINT = 'CREATE EXTENSION plproxy;';
	END IF;
END
$check$;
CREATE SCHEMA scaleout;
GRANT USAGE ON SCHEMA scaleout TO PUBLIC;

CREATE TABLE scaleout.slots (
	slot int PRIMARY KEY CHECK (slot BETWEEN 0 AND 16383),
	shard int NOT NULL
);
COMMENT ON TABLE scaleout.slots IS 'the shard that each slot was at when this router last heard of it';
GRANT SELECT ON scaleout.slots TO PUBLIC;

CREATE TYPE public.es_event AS ("position" bigint, stream text, version bigint, type text, type_version int,
	data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz);
CREATE TYPE public.es_state AS (stream text, version bigint, "position" bigint, state jsonb, recorded_at timestamptz);
CREATE TYPE public.es_new_event AS (type text, data jsonb, metadata jsonb, event_id uuid);
CREATE TYPE public.es_delivery AS ("position" bigint, stream text, version bigint, type text, type_version int,
	data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz, partition int, attempt int);
CREATE TYPE public.es_appended AS (stream text, version bigint, "position" bigint);
CREATE TYPE public.es_shard_event AS (shard int, "position" bigint, stream text, version bigint, type text, type_version int,
	data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz, vector bigint[]);
CREATE TYPE public.es_shard_state AS (key text, version bigint, "position" bigint, state jsonb, shard int);
CREATE TYPE scaleout.outcome AS (result bigint, told text, elsewhere int);
CREATE TYPE scaleout.portion AS (shard int, reached bigint, "position" bigint, stream text, version bigint, type text, type_version int,
	data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz);
CREATE TYPE scaleout.taking AS (move bigint, checkpoint bigint);
CREATE TYPE scaleout.parcel AS (events jsonb, reached bigint, settled bigint);
CREATE TYPE scaleout.answer AS (shard int, result text);

CREATE FUNCTION scaleout.slot(stream text) RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT (pg_catalog.hashtextextended(COALESCE(pg_catalog.substring(stream, '\{([^}]+)\}'), stream) COLLATE "C", 0) & 16383)::int
$$;
COMMENT ON FUNCTION scaleout.slot(text) IS 'the slot of a stream: by its name, or by what stands in it in braces';

CREATE FUNCTION public.es_shard(stream text) RETURNS int
	LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT s.shard FROM scaleout.slots s WHERE s.slot = scaleout.slot($1)
$$;
COMMENT ON FUNCTION public.es_shard(text) IS 'the shard that a stream is at, as far as this router knows';

/* ---- errors, and slots that moved ---- */

CREATE FUNCTION scaleout.shards() RETURNS int
	LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT pg_catalog.count(*)::int FROM pg_catalog.pg_foreign_server f, pg_catalog.unnest(f.srvoptions) o WHERE f.srvname = 'eventstore' AND o ~ '^p\d+='
$$;
COMMENT ON FUNCTION scaleout.shards() IS 'how many shards this router can reach';

CREATE FUNCTION scaleout.home(slot int) RETURNS SETOF int LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON ALL;';

CREATE FUNCTION scaleout.fail(shard int, code text, message text, detail text, hint text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF $2 = 'XX000' AND message ~ '^PL/Proxy function .*: part number out of range' THEN
		RAISE EXCEPTION USING ERRCODE = 'SC003', MESSAGE = pg_catalog.format('this router does not know shard %s', $1),
			HINT = pg_catalog.format('Tell it where that is: ALTER SERVER eventstore OPTIONS (ADD p%s ''...'').', $1);
	ELSIF $2 ~ '^(08|57P)' OR $2 = 'XX000' AND message ~ '^PL/Proxy function ' THEN
		RAISE EXCEPTION USING ERRCODE = 'SC002', MESSAGE = COALESCE('shard ' || $1, 'a shard') || ' cannot be reached, or went away during the call', DETAIL = message,
			HINT = 'Whether the call was done is not known. Call it again: what has event ids is not stored twice.';
	END IF;
	/* as the store words them: programs read its DETAIL */
	message := pg_catalog.regexp_replace(message, '^\S+\(\d+\): \[[^]]*\] REMOTE [A-Z]+: ', '');
	detail := pg_catalog.regexp_replace(detail, '^Remote detail: ', '');
	hint := pg_catalog.regexp_replace(hint, '^Remote hint: ', '');
	/* an empty DETAIL or HINT would be shown */
	IF detail = '' AND hint = '' THEN
		RAISE EXCEPTION USING ERRCODE = $2, MESSAGE = message;
	ELSIF hint = '' THEN
		RAISE EXCEPTION USING ERRCODE = $2, MESSAGE = message, DETAIL = detail;
	ELSIF detail = '' THEN
		RAISE EXCEPTION USING ERRCODE = $2, MESSAGE = message, HINT = hint;
	ELSE
		RAISE EXCEPTION USING ERRCODE = $2, MESSAGE = message, DETAIL = detail, HINT = hint;
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.fail(int, text, text, text, text) IS 'raises an error of a shard as the shard did, and SC002 or SC003 for one of the way to it';

CREATE FUNCTION scaleout.follow(slot int, shard int, since timestamptz, code text, message text, detail text, hint text) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_patience interval := COALESCE(NULLIF(pg_catalog.current_setting('scaleout.patience', true), ''), '10s')::interval;
	_waited interval := pg_catalog.clock_timestamp() - $3;
	_next int;
BEGIN
	IF $4 <> 'SC001' THEN
		PERFORM scaleout.fail($2, $4, $5, $6, $7);
	END IF;
	_next := NULLIF(pg_catalog.regexp_replace(detail, '^Remote detail: ', ''), '')::int;
	IF _waited > _patience THEN
		RAISE EXCEPTION USING ERRCODE = 'SC001', MESSAGE = pg_catalog.format('slot %s has been on its way between shards for %s', $1, _patience),
			HINT = 'Its move may have been left: call es_move_slots again, or es_cancel_move. The setting scaleout.patience says how long to wait.';
	END IF;
	/* a shard that does not have it yet, or never will: its move was cancelled, or this router's map is wrong */
	IF _next IS NULL AND _waited > '50ms' THEN
		BEGIN
			_next := (SELECT h FROM scaleout.home($1) h LIMIT 1);
		EXCEPTION WHEN OTHERS THEN
			_next := NULL;	-- some shard is away: it stays as it is
		END;
	END IF;
	_next := COALESCE(_next, $2);
	IF _next = $2 OR _waited > '20ms' THEN
		PERFORM pg_catalog.pg_sleep(LEAST(0.002 + EXTRACT(epoch FROM _waited) / 4, 0.1));
	END IF;
	RETURN _next;
END
$$;
COMMENT ON FUNCTION scaleout.follow(int, int, timestamptz, text, text, text, text) IS
	'what to do about an error of a shard: raises it, or returns the shard to ask next, for a slot that has moved';

CREATE FUNCTION scaleout.learn(slot int, shard int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	/* whoever cannot note it now goes on without; nobody waits for somebody who notes the same */
	IF current_setting('transaction_read_only')::boolean OR current_setting('transaction_isolation') <> 'read committed' OR
		$2 NOT BETWEEN 0 AND scaleout.shards() - 1 THEN
		RETURN;
	END IF;
	UPDATE scaleout.slots s SET shard = $2 WHERE s.slot = (SELECT m.slot FROM scaleout.slots m WHERE m.slot = $1 AND m.shard <> $2 FOR UPDATE SKIP LOCKED);
END
$$;
COMMENT ON FUNCTION scaleout.learn(int, int) IS 'notes where a slot was found; a wrong note costs the next call a way more, since shards know better';

/* ---- calls for one stream ---- */

CREATE FUNCTION scaleout.refuse_without_map() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'this router does not know what its shards have', HINT = 'Call es_start_shards or es_learn_slots.';
END
$$;
COMMENT ON FUNCTION scaleout.refuse_without_map() IS 'says that the map of slots is empty';

DO $install$
DECLARE
	_function record;
	_sent text;
	_given text;
	_stream int;
	_sets boolean;
BEGIN
	FOR _function IN
		SELECT f.* FROM (VALUES
			('es_append', 'stream text, type text, data jsonb DEFAULT ''{}'', metadata jsonb DEFAULT ''{}'', expected_version bigint DEFAULT NULL, event_id uuid DEFAULT NULL, type_version int DEFAULT NULL', 'bigint'),
			('es_try_append', 'stream text, type text, data jsonb DEFAULT ''{}'', metadata jsonb DEFAULT ''{}'', expected_version bigint DEFAULT NULL, event_id uuid DEFAULT NULL, type_version int DEFAULT NULL, OUT outcome text, OUT version bigint', 'record'),
			('es_append_batch', 'stream text, events jsonb, expected_version bigint DEFAULT NULL', 'bigint'),
			('es_append_json', 'stream text, events text, expected_version bigint DEFAULT NULL', 'bigint'),
			('es_append_events', 'stream text, events public.es_new_event[], expected_version bigint DEFAULT NULL', 'bigint'),
			('es_delete_stream', 'stream text, expected_version bigint DEFAULT NULL', 'void'),
			('es_truncate_stream', 'stream text, before_version bigint', 'void'),
			('es_snapshot', 'stream text, reducer text DEFAULT NULL', 'bigint'),
			('es_stream_version', 'stream text', 'bigint'),
			('es_position', 'stream text, version bigint', 'bigint'),
			('es_read', 'stream text, from_version bigint DEFAULT NULL, max_count bigint DEFAULT NULL, backwards boolean DEFAULT false', 'SETOF public.es_event'),
			('es_find_event', 'stream text, event_id uuid', 'SETOF public.es_event'),
			('es_replay', 'stream text, reducer text DEFAULT NULL, until_version bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL', 'SETOF public.es_state'),
			('es_replay_steps', 'stream text, reducer text DEFAULT NULL, from_version bigint DEFAULT 1, until_version bigint DEFAULT NULL', 'SETOF public.es_state'),
			('es_wait_projection', 'projection text, stream text, version bigint, timeout interval', 'boolean'),
			('es_reveal', 'stream text, type text, data jsonb', 'jsonb')
		) f (name, arguments, result)
	LOOP
		_sets := _function.result LIKE 'SETOF %';
		_sent := pg_catalog.regexp_replace(pg_catalog.regexp_replace(_function.arguments, ' DEFAULT [^,]+', '', 'g'), ', OUT .*', '');
		_stream := CASE _function.name WHEN 'es_wait_projection' THEN 2 ELSE 1 END;
		/* PL/Proxy knows how to send types of the server's own only: the others go as their text */
		_given := (SELECT pg_catalog.string_agg('$' || i || CASE WHEN a LIKE '% public.%' THEN '::text' ELSE '' END, ', ' ORDER BY i)
			FROM pg_catalog.unnest(pg_catalog.string_to_array(_sent, ',')) WITH ORDINALITY u (a, i));
		_sent := pg_catalog.regexp_replace(_sent, 'public\.\w+\[\]', 'text');
		EXECUTE pg_catalog.format('CREATE FUNCTION scaleout.%I(shard int, slot int, %s) RETURNS %s LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS %L',
			_function.name, _sent, CASE WHEN _sets THEN _function.result ELSE 'scaleout.outcome' END, E'CLUSTER \'eventstore\';\nRUN ON shard;');
		EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS %L',
			_function.name, _function.arguments, _function.result, pg_catalog.format($body$
DECLARE
	_slot int := scaleout.slot($%s);
	_known int := (SELECT s.shard FROM scaleout.slots s WHERE s.slot = _slot);
	_shard int := _known;
	_since timestamptz := pg_catalog.clock_timestamp();
	_message text;
	_detail text;
	_hint text;
	%s
BEGIN
	IF $%s IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "stream" must not be null';
	END IF;
	IF _shard IS NULL THEN
		PERFORM scaleout.refuse_without_map();
	END IF;
	LOOP
		BEGIN
			%s
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS _message = MESSAGE_TEXT, _detail = PG_EXCEPTION_DETAIL, _hint = PG_EXCEPTION_HINT;
			_shard := scaleout.follow(_slot, _shard, _since, SQLSTATE, _message, _detail, _hint);
		END;
	END LOOP;
	IF _shard <> _known THEN
		PERFORM scaleout.learn(_slot, _shard);
	END IF;
	%s
END$body$,
			_stream, CASE WHEN _sets THEN '' ELSE '_outcome scaleout.outcome;' END, _stream,
			pg_catalog.format(CASE WHEN _sets THEN E'RETURN QUERY SELECT * FROM scaleout.%I(_shard, _slot, %s);\n\t\t\tEXIT;'
				ELSE E'_outcome := scaleout.%I(_shard, _slot, %s);\n\t\t\tEXIT WHEN _outcome.elsewhere IS NULL;\n\t\t\t'
					'_shard := scaleout.follow(_slot, _shard, _since, ''SC001'', '''', COALESCE(NULLIF(_outcome.elsewhere, -1)::text, ''''), '''');' END,
				_function.name, _given),
			CASE _function.result WHEN 'bigint' THEN 'RETURN _outcome.result;' WHEN 'boolean' THEN 'RETURN _outcome.result::int::boolean;' WHEN 'jsonb' THEN 'RETURN _outcome.told::jsonb;'
				WHEN 'record' THEN E'outcome := _outcome.told;\n\tversion := _outcome.result;' ELSE 'RETURN;' END));
		EXECUTE pg_catalog.format('COMMENT ON FUNCTION public.%I IS %L', _function.name, _function.name || ' at the shard that the stream is at');
	END LOOP;
END
$install$;

/* ---- many streams ---- */

CREATE FUNCTION scaleout.es_append_many(shard int, slots int[], events jsonb) RETURNS SETOF public.es_appended
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS $$
CLUSTER 'eventstore';
RUN ON shard;
$$;

CREATE FUNCTION public.es_append_many(events jsonb) RETURNS SETOF public.es_appended
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_slots int[];
	_shards int[];
	_shard int;
	_slot int;
	_found jsonb := '{}';
	_since timestamptz := pg_catalog.clock_timestamp();
	_code text;
	_message text;
	_detail text;
	_hint text;
BEGIN
	IF pg_catalog.jsonb_typeof($1) IS DISTINCT FROM 'array' THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN $1 IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END,
			MESSAGE = CASE WHEN $1 IS NULL THEN 'argument "events" must not be null' ELSE 'argument "events" must be a JSON array' END;
	END IF;
	_slots := ARRAY(SELECT DISTINCT scaleout.slot(e ->> 'stream') FROM pg_catalog.jsonb_array_elements($1) e WHERE e ->> 'stream' IS NOT NULL ORDER BY 1);
	LOOP
		IF (SELECT pg_catalog.count(*) FROM scaleout.slots s WHERE s.slot = ANY (_slots)) < pg_catalog.cardinality(_slots) THEN
			PERFORM scaleout.refuse_without_map();
		END IF;
		_shards := ARRAY(SELECT DISTINCT COALESCE((_found ->> s.slot::text)::int, s.shard) FROM scaleout.slots s WHERE s.slot = ANY (_slots) ORDER BY 1);
		IF pg_catalog.cardinality(_shards) > 1 THEN
			RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'streams of one call of es_append_many must be at one shard',
				DETAIL = pg_catalog.format('They are at shards %s.', pg_catalog.array_to_string(_shards, ', ')),
				HINT = 'Streams whose names have the same text in braces, such as "order-{7}" and "payment-{7}", are always at one.';
		END IF;
		_shard := COALESCE(_shards[1], 0);
		BEGIN
			RETURN QUERY SELECT * FROM scaleout.es_append_many(_shard, _slots, $1);
			EXIT;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS _message = MESSAGE_TEXT, _detail = PG_EXCEPTION_DETAIL, _hint = PG_EXCEPTION_HINT;
			_code := SQLSTATE;
		END;
		_slot := COALESCE(pg_catalog.substring(_message, 'slot (\d+) is not at shard')::int, _slots[1]);
		_found := _found || pg_catalog.jsonb_build_object(_slot, scaleout.follow(_slot, _shard, _since, _code, _message, _detail, _hint));
	END LOOP;
	PERFORM scaleout.learn(f.key::int, f.value::int) FROM pg_catalog.jsonb_each_text(_found) f;
END
$$;
COMMENT ON FUNCTION public.es_append_many(jsonb) IS 'es_append_many for streams that are all at one shard, else 0A000';

/* ---- all shards ---- */

CREATE FUNCTION scaleout.es_read_portion(vector bigint[], max_count bigint, categories text[], types text[], stream_prefix text) RETURNS SETOF scaleout.portion
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS $$
CLUSTER 'eventstore';
RUN ON ALL;
$$;

CREATE FUNCTION public.es_read_shards(vector bigint[] DEFAULT '{}', max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL,
		types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL) RETURNS SETOF public.es_shard_event
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_vector bigint[] := COALESCE($1, '{}');
	_row scaleout.portion;
	_message text;
	_detail text;
	_hint text;
BEGIN
	FOR _row IN SELECT * FROM scaleout.es_read_portion($1, $2, $3, $4, $5) LOOP
		_vector[_row.shard + 1] := COALESCE(_row.reached, _row."position");
		IF _row.reached IS NULL THEN
			RETURN NEXT ROW(_row.shard, _row."position", _row.stream, _row.version, _row.type, _row.type_version, _row.data, _row.metadata,
				_row.event_id, _row.recorded_at, _vector)::public.es_shard_event;
		END IF;
	END LOOP;
	RETURN NEXT ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, _vector)::public.es_shard_event;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS _message = MESSAGE_TEXT, _detail = PG_EXCEPTION_DETAIL, _hint = PG_EXCEPTION_HINT;
	PERFORM scaleout.fail(NULL, SQLSTATE, _message, _detail, _hint);
END
$$;
COMMENT ON FUNCTION public.es_read_shards(bigint[], bigint, text[], text[], text) IS
	'the next events of all shards, up to max_count of each, with the vector of positions to go on from; the last row has only that';

CREATE FUNCTION public.es_projection(projection text, key text DEFAULT NULL) RETURNS SETOF public.es_shard_state
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS $$
CLUSTER 'eventstore';
RUN ON ALL;
TARGET scaleout.es_projection;
$$;
COMMENT ON FUNCTION public.es_projection(text, text) IS 'states of the projection of this name of each shard';

CREATE FUNCTION scaleout.run(statement text) RETURNS SETOF scaleout.answer
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS $$
CLUSTER 'eventstore';
RUN ON ALL;
$$;
REVOKE EXECUTE ON FUNCTION scaleout.run(text) FROM PUBLIC;

CREATE FUNCTION public.es_on_shards(statement text) RETURNS SETOF scaleout.answer
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS 'SELECT * FROM scaleout.run($1) ORDER BY 1';
COMMENT ON FUNCTION public.es_on_shards(text) IS 'a statement at each shard, such as the declaration of a reducer or a projection, and the first value it returns';
REVOKE EXECUTE ON FUNCTION public.es_on_shards(text) FROM PUBLIC;

/* ---- the map, and moving slots ---- */

CREATE FUNCTION scaleout.own(shard int, slots int[]) RETURNS int LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.begin_taking(shard int, source int, slots int[]) RETURNS scaleout.taking LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.give(shard int, slots int[], after_position bigint) RETURNS scaleout.parcel LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.take(shard int, move bigint, events jsonb, checkpoint bigint, reached bigint) RETURNS bigint LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.fence(shard int, slots int[], target int) RETURNS bigint LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.finish_taking(shard int, move bigint, source_position bigint) RETURNS bigint LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.truncated(shard int, slots int[]) RETURNS text LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.hidden(shard int, slots int[]) RETURNS jsonb LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.require_taken(shard int, streams jsonb) RETURNS text LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.cancel_taking(shard int, source int, slots int[], fence bigint) RETURNS boolean LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.take_fence_down(shard int, slots int[], target int, refused bigint) RETURNS bigint LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';

CREATE FUNCTION public.es_start_shards(shards int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_shard int;
	_slots int[];
	_missing int := 0;
BEGIN
	IF $1 IS NULL OR $1 < 1 OR $1 > LEAST(scaleout.shards(), 16384) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format('argument "shards" must be between 1 and %s, the shards that this router knows', LEAST(scaleout.shards(), 16384));
	END IF;
	PERFORM public.es_learn_slots();
	/* a call that was cut off has given some shards theirs */
	IF EXISTS (SELECT FROM scaleout.slots s WHERE s.shard <> s.slot::bigint * $1 / 16384) OR (SELECT pg_catalog.count(*) FROM scaleout.slots) = 16384 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'these shards have slots already', HINT = 'es_learn_slots() fills the map of a router.';
	END IF;
	FOR _shard IN 0 .. $1 - 1 LOOP
		_slots := ARRAY(SELECT s FROM pg_catalog.generate_series(0, 16383) s WHERE s::bigint * $1 / 16384 = _shard AND NOT EXISTS (SELECT FROM scaleout.slots m WHERE m.slot = s) ORDER BY 1);
		IF pg_catalog.cardinality(_slots) > 0 THEN
			PERFORM scaleout.own(_shard, _slots);
			INSERT INTO scaleout.slots (slot, shard) SELECT s, _shard FROM pg_catalog.unnest(_slots) s;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION public.es_start_shards(int) IS 'distributes the slots over that many shards, which have none yet; called again it goes on where it was left';
REVOKE EXECUTE ON FUNCTION public.es_start_shards(int) FROM PUBLIC;

CREATE FUNCTION public.es_learn_slots() RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_count bigint;
BEGIN
	/* a slot that is nowhere is known by the move that it is in: its source may have given it away already */
	/* ON CONFLICT DO UPDATE would lock, and wait for, rows that stay as they are */
	WITH asked AS MATERIALIZED (
		SELECT a.shard, a.result::jsonb AS map FROM public.es_on_shards($_$SELECT pg_catalog.jsonb_build_object(
			'here', (SELECT pg_catalog.jsonb_agg(s.slot) FROM scaleout.slots s WHERE s.shard = scaleout.shard()),
			'coming', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(t.source, t.slots)) FROM scaleout.takings t WHERE t.cut IS NULL))$_$) a
	), here AS MATERIALIZED (
		SELECT s.slot::int, a.shard FROM asked a, pg_catalog.jsonb_array_elements_text(NULLIF(a.map -> 'here', 'null')) s (slot)
	), told AS MATERIALIZED (
		SELECT h.slot, h.shard FROM here h
		UNION ALL
		SELECT s.slot::int, (t.taking ->> 0)::int FROM asked a, pg_catalog.jsonb_array_elements(NULLIF(a.map -> 'coming', 'null')) t (taking), pg_catalog.jsonb_array_elements_text(t.taking -> 1) s (slot)
		WHERE NOT EXISTS (SELECT FROM here h WHERE h.slot = s.slot::int)
	), changed AS (
		UPDATE scaleout.slots m SET shard = t.shard FROM told t WHERE m.slot = t.slot AND m.shard <> t.shard RETURNING m.slot
	), added AS (
		INSERT INTO scaleout.slots (slot, shard) SELECT t.slot, t.shard FROM told t WHERE NOT EXISTS (SELECT FROM scaleout.slots m WHERE m.slot = t.slot)
			ON CONFLICT DO NOTHING RETURNING slots.slot
	)
	SELECT (SELECT pg_catalog.count(*) FROM changed) + (SELECT pg_catalog.count(*) FROM added) INTO _count;
	RETURN _count;
END
$$;
COMMENT ON FUNCTION public.es_learn_slots() IS 'asks all shards which slots they have; how many this router did not know';
REVOKE EXECUTE ON FUNCTION public.es_learn_slots() FROM PUBLIC;

CREATE FUNCTION scaleout.check_move(slots int[], target int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF $1 IS NULL OR EXISTS (SELECT FROM pg_catalog.unnest($1) s WHERE s IS NULL OR s NOT BETWEEN 0 AND 16383) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "slots" must be an array of slots from 0 to 16383';
	ELSIF $2 IS NULL OR $2 NOT BETWEEN 0 AND scaleout.shards() - 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format('argument "target" must be a shard from 0 to %s', scaleout.shards() - 1);
	END IF;
	/* what another router moved, or a call that did not come to its end */
	PERFORM public.es_learn_slots();
	IF EXISTS (SELECT FROM pg_catalog.unnest($1) s LEFT JOIN scaleout.slots m ON m.slot = s WHERE m.slot IS NULL) THEN
		PERFORM scaleout.refuse_without_map();
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.check_move(int[], int) IS 'refuses arguments of a move that are none, and has the map learned';

CREATE FUNCTION scaleout.require_whole(shard int, slots int[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_bad text := scaleout.truncated($1, $2);
BEGIN
	IF _bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = pg_catalog.format('stream "%s" has been truncated, or deleted and removed, and cannot move to another shard', _bad),
			DETAIL = pg_catalog.format('It is in slot %s.', scaleout.slot(_bad)), HINT = 'Leave its slot out; es_cancel_move ends a move that has begun.';
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require_whole(int, int[]) IS '0A000 if a stream of the slots lacks its first events';

CREATE PROCEDURE public.es_move_slots(slots int[], target int)
	LANGUAGE plpgsql AS $$
DECLARE
	_source int;
	_slots int[];
	_taking scaleout.taking;
	_parcel scaleout.parcel;
	_fence bigint;
	_moves record;
BEGIN
	PERFORM scaleout.check_move($1, $2);
	FOR _moves IN SELECT m.shard, pg_catalog.array_agg(m.slot ORDER BY m.slot) AS slots FROM scaleout.slots m WHERE m.slot = ANY ($1) AND m.shard <> $2 GROUP BY 1 ORDER BY 1 LOOP
		_source := _moves.shard;
		_slots := _moves.slots;
		PERFORM scaleout.require_whole(_source, _slots);
		_taking := scaleout.begin_taking($2, _source, _slots);
		_fence := NULL;
		LOOP
			_parcel := scaleout.give(_source, _slots, _taking.checkpoint);
			IF _parcel.reached > _taking.checkpoint THEN
				PERFORM scaleout.take($2, _taking.move, _parcel.events, _taking.checkpoint, _parcel.reached);
				_taking.checkpoint := _parcel.reached;
			ELSIF _fence IS NOT NULL THEN
				/* somebody's append to another slot is under way before the fence */
				PERFORM pg_catalog.pg_sleep(0.001);
			END IF;
			IF _fence IS NULL AND pg_catalog.jsonb_array_length(_parcel.events) < 100 AND _parcel.reached >= _parcel.settled THEN
				/* what became so meanwhile would be whole again at the target */
				PERFORM scaleout.require_whole(_source, _slots);
				BEGIN
					_fence := scaleout.fence(_source, _slots, $2);
				EXCEPTION WHEN lock_not_available THEN
					PERFORM pg_catalog.pg_sleep(0.1);
				END;
			END IF;
			EXIT WHEN _taking.checkpoint >= _fence;
			COMMIT;
		END LOOP;
		PERFORM scaleout.require_taken($2, scaleout.hidden(_source, _slots));
		PERFORM scaleout.finish_taking($2, _taking.move, _fence);
		UPDATE scaleout.slots s SET shard = $2 WHERE s.slot = ANY (_slots);
		COMMIT;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE public.es_move_slots(int[], int) IS
	'moves slots, and the streams in them, to another shard, while they are in use; called again it goes on where it was left';
REVOKE EXECUTE ON PROCEDURE public.es_move_slots(int[], int) FROM PUBLIC;

CREATE PROCEDURE public.es_cancel_move(slots int[], target int)
	LANGUAGE plpgsql AS $$
DECLARE
	_fence bigint;
	_moves record;
BEGIN
	PERFORM scaleout.check_move($1, $2);
	FOR _moves IN SELECT m.shard, pg_catalog.array_agg(m.slot ORDER BY m.slot) AS slots FROM scaleout.slots m WHERE m.slot = ANY ($1) GROUP BY 1 ORDER BY 1 LOOP
		IF _moves.shard = $2 THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots have come to shard %s', $2), HINT = 'Move them back by es_move_slots.';
		END IF;
		_fence := NULL;
		LOOP
			PERFORM scaleout.cancel_taking($2, _moves.shard, _moves.slots, _fence);
			BEGIN
				/* waits for a fence that is under way, and tells of it */
				_fence := scaleout.take_fence_down(_moves.shard, _moves.slots, $2, _fence);
				EXIT WHEN _fence IS NULL;
			EXCEPTION WHEN lock_not_available THEN
				PERFORM pg_catalog.pg_sleep(0.1);
			END;
		END LOOP;
		COMMIT;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE public.es_cancel_move(int[], int) IS
	'gives up a move that has not come to its end: the slots stay where they were; called again it goes on where it was left';
REVOKE EXECUTE ON PROCEDURE public.es_cancel_move(int[], int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION scaleout.own(int, int[]), scaleout.begin_taking(int, int, int[]), scaleout.give(int, int[], bigint), scaleout.take(int, bigint, jsonb, bigint, bigint),
	scaleout.fence(int, int[], int), scaleout.finish_taking(int, bigint, bigint), scaleout.truncated(int, int[]), scaleout.cancel_taking(int, int, int[], bigint),
	scaleout.take_fence_down(int, int[], int, bigint), scaleout.check_move(int[], int), scaleout.require_whole(int, int[]),
	scaleout.hidden(int, int[]), scaleout.require_taken(int, jsonb) FROM PUBLIC;

/* ---- what a store has and a router has not ---- */

CREATE FUNCTION scaleout.refuse(name text, reason text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = pg_catalog.format('"%s" is not possible through a router', $1),
		DETAIL = CASE $2 WHEN 'declare' THEN 'What it does is done at each shard alike.'
			WHEN 'condition' THEN 'Its condition is about a whole log, and each shard has its own.'
			WHEN 'position' THEN 'The sessions that append are those of the router at the shards.'
			WHEN 'type' THEN 'Types of states are those of a shard.'
			ELSE 'It is about one log, and each shard has its own.' END,
		HINT = CASE $2 WHEN 'declare' THEN pg_catalog.format('SELECT * FROM es_on_shards($_$SELECT %s(...)$_$) calls it at all shards.', $1)
			WHEN 'condition' THEN 'At a shard it is possible, in a transaction that begins with SELECT scaleout.enter(shard, ARRAY[slot]), for events and conditions that concern only this shard.'
			WHEN 'read' THEN 'es_read_shards reads all shards, and goes on by a vector of their positions.'
			WHEN 'position' THEN 'es_position(stream, version) tells where an event is in its shard''s log.'
			WHEN 'type' THEN 'es_replay returns states as jsonb.'
			ELSE 'Call it at each shard, as for a partition.' END;
END
$$;
COMMENT ON FUNCTION scaleout.refuse(text, text) IS 'says why a store''s function or view is not at a router, and what is';

DO $install$
DECLARE
	_name text;
	_arguments text;
	_result text;
	_reason text;
BEGIN
	FOR _name, _arguments, _result, _reason IN VALUES
		('es_adopt_snapshots', 'reducer text', 'bigint', 'declare'),
		('es_alter_subscription', 'subscription text, categories text[], types text[], max_attempts int, query jsonb DEFAULT NULL', 'void', 'declare'),
		('es_check_schema', 'schema jsonb, data jsonb', 'TABLE(pointer text, rule text, message text)', 'declare'),
		('es_compare_schemas', 'old_schema jsonb, new_schema jsonb, compatibility text DEFAULT ''backward''', 'TABLE(pointer text, rule text, message text, direction text, decided boolean)', 'declare'),
		('es_create_handler_projection', 'projection text, handler text, mode text DEFAULT ''async'', categories text[] DEFAULT NULL, types text[] DEFAULT NULL, reset text DEFAULT NULL', 'void', 'declare'),
		('es_create_projection', 'projection text, reducer text, mode text DEFAULT ''async'', category text DEFAULT NULL, key text DEFAULT ''$.stream''', 'void', 'declare'),
		('es_create_reducer', 'reducer text, initial jsonb DEFAULT ''{}'', state_type text DEFAULT ''jsonb'', on_unknown text DEFAULT ''ignore''', 'void', 'declare'),
		('es_drop_projection', 'projection text', 'void', 'declare'),
		('es_drop_projection_index', 'projection text, index name', 'void', 'declare'),
		('es_drop_reducer', 'reducer text', 'void', 'declare'),
		('es_drop_schema', 'type text, version int', 'void', 'declare'),
		('es_drop_snapshots', 'reducer text', 'void', 'declare'),
		('es_drop_type_index', 'type text', 'void', 'declare'),
		('es_drop_upcaster', 'type text, from_version int', 'void', 'declare'),
		('es_grant', 'role text, privilege text, category text DEFAULT ''*''', 'void', 'declare'),
		('es_index_projection', 'projection text, definition text', 'name', 'declare'),
		('es_index_type', 'type text', 'void', 'declare'),
		('es_projection_view', 'projection text, view name', 'void', 'declare'),
		('es_protect', 'category text, paths text[], subject text', 'void', 'declare'),
		('es_rebuild_projection', 'projection text', 'void', 'declare'),
		('es_register_reducer', 'reducer text, event_type text, handler text', 'void', 'declare'),
		('es_register_reducer_ops', 'reducer text, event_type text, ops jsonb', 'void', 'declare'),
		('es_register_schema', 'type text, schema jsonb, compatibility text DEFAULT ''backward''', 'int', 'declare'),
		('es_register_upcaster', 'type text, from_version int, handler text', 'void', 'declare'),
		('es_register_upcaster_ops', 'type text, from_version int, ops jsonb', 'void', 'declare'),
		('es_revoke', 'role text, privilege text, category text DEFAULT ''*''', 'void', 'declare'),
		('es_rotate_master_key', 'old_key_command text', 'void', 'declare'),
		('es_scavenge', 'max_events bigint DEFAULT NULL', 'TABLE(category text, events bigint, bytes bigint)', 'declare'),
		('es_seal', '', 'bigint', 'declare'),
		('es_set_retention', 'category text, max_age interval DEFAULT NULL, max_count bigint DEFAULT NULL', 'void', 'declare'),
		('es_set_segment_size', 'positions bigint', 'void', 'declare'),
		('es_settle', '', 'bigint', 'declare'),
		('es_shred', 'subject text', 'void', 'declare'),
		('es_snapshot_every', 'reducer text, events int', 'void', 'declare'),
		('es_subscribe', 'subscription text, after_position bigint DEFAULT 0, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, partitions int DEFAULT 1, max_attempts int DEFAULT 5, query jsonb DEFAULT NULL', 'void', 'declare'),
		('es_unsubscribe', 'subscription text', 'void', 'declare'),
		('es_ack', 'subscription text, partition int, "position" bigint, member text DEFAULT NULL', 'void', 'shard'),
		('es_alter_feed', 'feed text, categories text[], types text[], format text, query jsonb DEFAULT NULL', 'void', 'shard'),
		('es_attach_segment', 'name text', 'void', 'shard'),
		('es_create_feed', 'feed text, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, format text DEFAULT ''json'', query jsonb DEFAULT NULL, OUT slot_name text, OUT lsn pg_lsn, OUT head_position bigint', 'record', 'shard'),
		('es_detach_segments', 'before timestamptz', 'SETOF text', 'shard'),
		('es_discard_parked', 'subscription text, "position" bigint', 'void', 'shard'),
		('es_doctor', '', 'TABLE(severity text, finding text, detail text, remedy text)', 'shard'),
		('es_drop_feed', 'feed text', 'void', 'shard'),
		('es_feed_head', 'OUT head_position bigint, OUT lsn pg_lsn', 'record', 'shard'),
		('es_feed_history', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, query jsonb DEFAULT NULL, feed_query jsonb DEFAULT NULL, to_position bigint DEFAULT NULL', 'SETOF public.es_event', 'shard'),
		('es_feed_message', 'event public.es_event, format text DEFAULT ''json''', 'text', 'shard'),
		('es_hold_events', 'after_position bigint', 'void', 'shard'),
		('es_metrics', '', 'TABLE(name text, labels jsonb, value double precision, kind text, help text)', 'shard'),
		('es_nack', 'subscription text, partition int, "position" bigint, reason text, member text DEFAULT NULL', 'void', 'shard'),
		('es_parked', 'subscription text', 'TABLE("position" bigint, partition int, attempts int, reason text, parked_at timestamptz, stream text, version bigint, type text)', 'shard'),
		('es_poll', 'subscription text, max_count int DEFAULT 100, wait interval DEFAULT ''00:00:00'', member text DEFAULT NULL, lease interval DEFAULT ''00:00:30''', 'SETOF public.es_delivery', 'shard'),
		('es_poll_wait', 'subscription text, timeout interval, INOUT ready boolean DEFAULT NULL, member text DEFAULT NULL', '', 'shard'),
		('es_proof', '"position" bigint, seal bigint DEFAULT NULL', 'jsonb', 'shard'),
		('es_prove_consistency', 'first_seal bigint, second_seal bigint DEFAULT NULL', 'jsonb', 'shard'),
		('es_replay_category', 'category text, reducer text DEFAULT NULL, as_of timestamptz DEFAULT NULL', 'SETOF public.es_state', 'shard'),
		('es_replay_parked', 'subscription text, "position" bigint DEFAULT NULL', 'bigint', 'shard'),
		('es_rewind', 'subscription text, after_position bigint', 'void', 'shard'),
		('es_run_projection', 'projection text, max_events bigint DEFAULT NULL', 'bigint', 'shard'),
		('es_share_feed', 'feed text, other text', 'void', 'shard'),
		('es_skip_event', 'projection text, "position" bigint', 'void', 'shard'),
		('es_upcast', 'event public.es_event', 'public.es_event', 'shard'),
		('es_verify', 'from_position bigint DEFAULT 1, to_position bigint DEFAULT NULL', 'TABLE("position" bigint, problem text)', 'shard'),
		('es_wait_projection', 'projection text, "position" bigint, timeout interval', 'boolean', 'shard'),
		('es_read_all', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, stream_prefix text DEFAULT NULL, to_position bigint DEFAULT NULL, backwards boolean DEFAULT false', 'SETOF public.es_event', 'read'),
		('es_read_category', 'category text, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, types text[] DEFAULT NULL, to_position bigint DEFAULT NULL, backwards boolean DEFAULT false', 'SETOF public.es_event', 'read'),
		('es_read_query', 'query jsonb DEFAULT NULL, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, backwards boolean DEFAULT false, to_position bigint DEFAULT NULL', 'SETOF public.es_event', 'read'),
		('es_read_tagged', 'tags text[], types text[] DEFAULT NULL, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000', 'SETOF public.es_event', 'read'),
		('es_settled_position', '', 'bigint', 'read'),
		('es_wait', 'after_position bigint, timeout interval', 'bigint', 'read'),
		('es_wait_for', 'after_position bigint, timeout interval, INOUT settled bigint DEFAULT NULL', '', 'read'),
		('es_append_if', 'events jsonb, after_position bigint, types text[] DEFAULT NULL, tags text[] DEFAULT NULL, query jsonb DEFAULT NULL', 'bigint', 'condition'),
		('es_last_position', '', 'bigint', 'position'),
		('es_replay_as', 'stream text, state anyelement, reducer text DEFAULT NULL, until_version bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL', 'anyelement', 'type')
	LOOP
		EXECUTE pg_catalog.format('CREATE %s public.%I(%s)%s LANGUAGE plpgsql %s AS %L', CASE _result WHEN '' THEN 'PROCEDURE' ELSE 'FUNCTION' END, _name, _arguments,
			CASE _result WHEN '' THEN '' ELSE ' RETURNS ' || _result END, CASE _result WHEN '' THEN '' ELSE 'VOLATILE PARALLEL UNSAFE' END,
			pg_catalog.format(E'BEGIN\n\tPERFORM scaleout.refuse(%L, %L);\nEND', _name, _reason));
	END LOOP;
	FOR _name IN SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::pg_catalog.regnamespace AND p.prosrc LIKE E'BEGIN\n\tPERFORM scaleout.refuse(%' LOOP
		EXECUTE pg_catalog.format('COMMENT ON ROUTINE %s IS %L', _name, 'refused: a router does not have it');
	END LOOP;
	FOR _name, _arguments IN VALUES
		('es_events', '"position" bigint, stream text, version bigint, type text, type_version int, data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz'),
		('es_feeds', 'feed text, slot_name text, active boolean, confirmed_lsn pg_lsn, lag_bytes bigint, retained_bytes bigint, wal_status text, safe_wal_size bigint, lag_events bigint, categories text[], types text[], format text, query jsonb'),
		('es_grants', 'role name, privilege text, category text'),
		('es_in_flight', 'pid int, gid text, application_name text, state text, since timestamptz, first_position bigint, query text'),
		('es_indexed_types', 'type text, segments bigint, indexed bigint'),
		('es_progress', 'pid int, command text, phase text, done bigint, total bigint'),
		('es_projections', 'projection text, mode text, status text, "position" bigint, lag bigint, error text, error_position bigint, rebuild_position bigint, reducer text, handler text, category text, key text, creator text, attempts int, failed_since timestamptz, next_retry timestamptz, lag_time interval, categories text[], types text[], reset text'),
		('es_protections', 'category text, paths text[], subject text, after_position bigint, created_at timestamptz, hashed boolean'),
		('es_reducers', 'reducer text, event_type text, handler text, initial jsonb, state_type regtype, on_unknown text, snapshot_every int, ops jsonb'),
		('es_retention', 'category text, max_age interval, max_count bigint, "position" bigint, skipped bigint, skipped_since timestamptz, skipped_stream text, error text'),
		('es_schemas', 'type text, version int, schema jsonb, compatibility text, registered_at timestamptz'),
		('es_seals', '"position" bigint, size bigint, root text, sealed_at timestamptz, chain text'),
		('es_segments', 'segment bigint, first_position bigint, last_position bigint, events bigint, bytes bigint, from_time timestamptz, to_time timestamptz, state text'),
		('es_snapshots', 'stream text, reducer text, version bigint, bytes bigint, usable boolean'),
		('es_streams', 'stream text, category text, version bigint, first_version bigint, created_at timestamptz, deleted boolean'),
		('es_subjects', 'subject text, created_at timestamptz, shredded_at timestamptz, hashed boolean'),
		('es_subscriptions', 'subscription text, partition int, "position" bigint, member text, lease_until timestamptz, lag bigint, parked bigint, categories text[], types text[], max_attempts int, lag_time interval, query jsonb, creator name, created_at timestamptz, application text'),
		('es_upcasters', 'type text, from_version int, handler text, ops jsonb')
	LOOP
		EXECUTE pg_catalog.format('CREATE VIEW public.%I AS SELECT %s FROM scaleout.refuse(%L, %L) r', _name,
			/* no constants: a condition on one would be false before anything is run */
			(SELECT pg_catalog.string_agg(pg_catalog.regexp_replace(c, '^(\S+) (.*)$', 'CASE WHEN r THEN NULL::\2 END AS \1'), ', ' ORDER BY i) FROM pg_catalog.unnest(pg_catalog.string_to_array(_arguments, ', ')) WITH ORDINALITY u (c, i)),
			_name, CASE _name WHEN 'es_events' THEN 'read' ELSE 'shard' END);
		EXECUTE pg_catalog.format('COMMENT ON VIEW public.%I IS %L', _name, 'refused: a router does not have it');
		EXECUTE pg_catalog.format('GRANT SELECT ON public.%I TO PUBLIC', _name);
	END LOOP;
END
$install$;

CREATE FUNCTION scaleout.refuse_step(state jsonb, reducer text, event public.es_event) RETURNS jsonb
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT pg_catalog.to_jsonb(scaleout.refuse('es_fold', 'shard'))
$$;
COMMENT ON FUNCTION scaleout.refuse_step(jsonb, text, public.es_event) IS 'the step of the aggregate es_fold, which a router does not have';
CREATE AGGREGATE public.es_fold(reducer text, event public.es_event) (SFUNC = scaleout.refuse_step, STYPE = jsonb);
COMMENT ON AGGREGATE public.es_fold(text, public.es_event) IS 'refused: a router does not have it';

CREATE FUNCTION scaleout.refuse_row() RETURNS trigger
	LANGUAGE plpgsql AS $$
BEGIN
	PERFORM scaleout.refuse('INSERT INTO es_events', 'shard');
END
$$;
COMMENT ON FUNCTION scaleout.refuse_row() IS 'says so to who appends by the view';
CREATE TRIGGER refuse INSTEAD OF INSERT ON public.es_events FOR EACH ROW EXECUTE FUNCTION scaleout.refuse_row();
GRANT INSERT ON public.es_events TO PUBLIC;
COMMIT;
