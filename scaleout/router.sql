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
CREATE TYPE public.es_appended AS (stream text, version bigint, "position" bigint);
CREATE TYPE public.es_shard_event AS (shard int, "position" bigint, stream text, version bigint, type text, type_version int,
	data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz, vector bigint[]);
CREATE TYPE public.es_shard_state AS (shard int, key text, version bigint, "position" bigint, state jsonb);
CREATE TYPE scaleout.outcome AS (result bigint, elsewhere int);
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

CREATE FUNCTION scaleout.follow(slot int, shard int, since timestamptz, code text, message text, detail text, hint text) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_patience interval := COALESCE(NULLIF(pg_catalog.current_setting('scaleout.patience', true), ''), '10s')::interval;
	_next int;
BEGIN
	/* as the store words them: programs read its DETAIL */
	message := pg_catalog.regexp_replace(message, '^\S+\(\d+\): \[[^]]*\] REMOTE [A-Z]+: ', '');
	detail := pg_catalog.regexp_replace(detail, '^Remote detail: ', '');
	hint := pg_catalog.regexp_replace(hint, '^Remote hint: ', '');
	IF $4 <> 'SC001' THEN
		/* an empty DETAIL or HINT would be shown */
		IF detail = '' AND hint = '' THEN
			RAISE EXCEPTION USING ERRCODE = $4, MESSAGE = message;
		ELSIF hint = '' THEN
			RAISE EXCEPTION USING ERRCODE = $4, MESSAGE = message, DETAIL = detail;
		ELSIF detail = '' THEN
			RAISE EXCEPTION USING ERRCODE = $4, MESSAGE = message, HINT = hint;
		ELSE
			RAISE EXCEPTION USING ERRCODE = $4, MESSAGE = message, DETAIL = detail, HINT = hint;
		END IF;
	END IF;
	IF pg_catalog.clock_timestamp() - $3 > _patience THEN
		RAISE EXCEPTION USING ERRCODE = 'SC001', MESSAGE = pg_catalog.format('slot %s has been on its way between shards for %s', $1, _patience),
			HINT = 'Its move may have been left: call es_move_slots again. The setting scaleout.patience says how long to wait.';
	END IF;
	/* the shard that it went to says nothing of it until it is there */
	_next := COALESCE(NULLIF(detail, '')::int, $2);
	IF _next = $2 OR pg_catalog.clock_timestamp() - $3 > '20ms' THEN
		PERFORM pg_catalog.pg_sleep(LEAST(0.002 + EXTRACT(epoch FROM pg_catalog.clock_timestamp() - $3) / 4, 0.1));
	END IF;
	RETURN _next;
END
$$;
COMMENT ON FUNCTION scaleout.follow(int, int, timestamptz, text, text, text, text) IS
	'what to do about an error of a shard: raises it as the shard did, or returns the shard to ask next, for a slot that has moved';

CREATE FUNCTION scaleout.learn(slot int, shard int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	/* whoever cannot note it now goes on without; nobody waits for somebody who notes the same */
	IF current_setting('transaction_read_only')::boolean OR current_setting('transaction_isolation') <> 'read committed' OR
		$2 NOT BETWEEN 0 AND (SELECT count(*) - 1 FROM pg_foreign_server f, unnest(f.srvoptions) o WHERE f.srvname = 'eventstore' AND o ~ '^p\d+=') THEN
		RETURN;
	END IF;
	UPDATE scaleout.slots s SET shard = $2 WHERE s.slot = (SELECT m.slot FROM scaleout.slots m WHERE m.slot = $1 AND m.shard <> $2 FOR UPDATE SKIP LOCKED);
END
$$;
COMMENT ON FUNCTION scaleout.learn(int, int) IS 'notes where a slot was found; a wrong note costs the next call a way more, since shards know better';

/* ---- calls for one stream ---- */

DO $install$
DECLARE
	_function record;
	_names text;
	_given text;
BEGIN
	FOR _function IN
		SELECT f.* FROM (VALUES
			('es_append', 'stream text, type text, data jsonb DEFAULT ''{}'', metadata jsonb DEFAULT ''{}'', expected_version bigint DEFAULT NULL, event_id uuid DEFAULT NULL, type_version int DEFAULT NULL', 'bigint'),
			('es_append_batch', 'stream text, events jsonb, expected_version bigint DEFAULT NULL', 'bigint'),
			('es_append_json', 'stream text, events text, expected_version bigint DEFAULT NULL', 'bigint'),
			('es_delete_stream', 'stream text, expected_version bigint DEFAULT NULL', 'boolean'),
			('es_truncate_stream', 'stream text, before_version bigint', 'boolean'),
			('es_snapshot', 'stream text, reducer text DEFAULT NULL', 'bigint'),
			('es_stream_version', 'stream text', 'bigint'),
			('es_position', 'stream text, version bigint', 'bigint'),
			('es_read', 'stream text, from_version bigint DEFAULT NULL, max_count bigint DEFAULT NULL, backwards boolean DEFAULT false', 'SETOF public.es_event'),
			('es_find_event', 'stream text, event_id uuid', 'SETOF public.es_event'),
			('es_replay', 'stream text, reducer text DEFAULT NULL, until_version bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL', 'SETOF public.es_state'),
			('es_replay_steps', 'stream text, reducer text DEFAULT NULL, from_version bigint DEFAULT 1, until_version bigint DEFAULT NULL', 'SETOF public.es_state')
		) f (name, arguments, result)
	LOOP
		_names := pg_catalog.regexp_replace(_function.arguments, ' DEFAULT [^,]+', '', 'g');
		_given := (SELECT pg_catalog.string_agg('$' || i, ', ' ORDER BY i)
			FROM pg_catalog.generate_series(1, pg_catalog.cardinality(pg_catalog.string_to_array(_names, ','))) i);
		EXECUTE pg_catalog.format('CREATE FUNCTION scaleout.%I(shard int, slot int, %s) RETURNS %s LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS %L',
			_function.name, _names, CASE WHEN _function.result LIKE 'SETOF %' THEN _function.result ELSE 'scaleout.outcome' END, E'CLUSTER \'eventstore\';\nRUN ON shard;');
		EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS %L',
			_function.name, _function.arguments, _function.result, pg_catalog.format($body$
DECLARE
	_slot int := scaleout.slot($1);
	_known int := (SELECT s.shard FROM scaleout.slots s WHERE s.slot = _slot);
	_shard int := _known;
	_since timestamptz := pg_catalog.clock_timestamp();
	_message text;
	_detail text;
	_hint text;
	%s
BEGIN
	IF $1 IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "stream" must not be null';
	END IF;
	IF _shard IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'this router has no shards', HINT = 'Call es_start_shards or es_learn_slots.';
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
			CASE WHEN _function.result LIKE 'SETOF %' THEN '' ELSE '_outcome scaleout.outcome;' END,
			pg_catalog.format(CASE WHEN _function.result LIKE 'SETOF %' THEN E'RETURN QUERY SELECT * FROM scaleout.%I(_shard, _slot, %s);\n\t\t\tEXIT;'
				ELSE E'_outcome := scaleout.%I(_shard, _slot, %s);\n\t\t\tEXIT WHEN _outcome.elsewhere IS NULL;\n\t\t\t'
					'_shard := scaleout.follow(_slot, _shard, _since, ''SC001'', '''', COALESCE(NULLIF(_outcome.elsewhere, -1)::text, ''''), '''');' END,
				_function.name, _given),
			CASE _function.result WHEN 'bigint' THEN 'RETURN _outcome.result;' WHEN 'boolean' THEN 'RETURN true;' ELSE 'RETURN;' END));
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
		RAISE EXCEPTION USING ERRCODE = CASE WHEN $1 IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END, MESSAGE = 'argument "events" must be a JSON array';
	END IF;
	_slots := ARRAY(SELECT DISTINCT scaleout.slot(e ->> 'stream') FROM pg_catalog.jsonb_array_elements($1) e WHERE e ->> 'stream' IS NOT NULL ORDER BY 1);
	LOOP
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
BEGIN
	FOR _row IN SELECT * FROM scaleout.es_read_portion($1, $2, $3, $4, $5) LOOP
		_vector[_row.shard + 1] := COALESCE(_row.reached, _row."position");
		IF _row.reached IS NULL THEN
			RETURN NEXT ROW(_row.shard, _row."position", _row.stream, _row.version, _row.type, _row.type_version, _row.data, _row.metadata,
				_row.event_id, _row.recorded_at, _vector)::public.es_shard_event;
		END IF;
	END LOOP;
	RETURN NEXT ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, _vector)::public.es_shard_event;
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

CREATE FUNCTION public.es_start_shards(shards int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_shard int;
BEGIN
	IF $1 IS NULL OR $1 < 1 OR $1 > 16384 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "shards" must be between 1 and 16384';
	END IF;
	IF EXISTS (SELECT FROM public.es_on_shards('SELECT 1 FROM scaleout.slots LIMIT 1') a WHERE a.result IS NOT NULL) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'these shards have slots already', HINT = 'es_learn_slots() fills the map of a router.';
	END IF;
	INSERT INTO scaleout.slots SELECT s, s::bigint * $1 / 16384 FROM pg_catalog.generate_series(0, 16383) s;
	FOR _shard IN 0 .. $1 - 1 LOOP
		PERFORM scaleout.own(_shard, ARRAY(SELECT s.slot FROM scaleout.slots s WHERE s.shard = _shard ORDER BY 1));
	END LOOP;
END
$$;
COMMENT ON FUNCTION public.es_start_shards(int) IS 'distributes the slots over that many shards, which have none yet';
REVOKE EXECUTE ON FUNCTION public.es_start_shards(int) FROM PUBLIC;

CREATE FUNCTION public.es_learn_slots() RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_count bigint;
BEGIN
	/* ON CONFLICT DO UPDATE would lock, and wait for, rows that stay as they are */
	WITH told AS MATERIALIZED (
		SELECT s.slot::int, a.shard FROM public.es_on_shards('SELECT pg_catalog.string_agg(slot::text, '','') FROM scaleout.slots WHERE shard = scaleout.shard()') a,
			pg_catalog.unnest(pg_catalog.string_to_array(a.result, ',')) s (slot)
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

CREATE PROCEDURE public.es_move_slots(slots int[], target int)
	LANGUAGE plpgsql AS $$
DECLARE
	_source int;
	_slots int[];
	_taking scaleout.taking;
	_parcel scaleout.parcel;
	_fence bigint;
	_bad text;
	_moves record;
BEGIN
	IF $1 IS NULL OR $2 IS NULL OR EXISTS (SELECT FROM pg_catalog.unnest($1) s LEFT JOIN scaleout.slots m ON m.slot = s WHERE m.slot IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'arguments "slots" and "target" must be slots from 0 to 16383 and a shard';
	END IF;
	/* what another router moved, or a call that did not come to its end */
	PERFORM public.es_learn_slots();
	FOR _moves IN SELECT m.shard, pg_catalog.array_agg(m.slot ORDER BY m.slot) AS slots FROM scaleout.slots m WHERE m.slot = ANY ($1) AND m.shard <> $2 GROUP BY 1 ORDER BY 1 LOOP
		_source := _moves.shard;
		_slots := _moves.slots;
		_bad := scaleout.truncated(_source, _slots);
		IF _bad IS NOT NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = pg_catalog.format('stream "%s" has been truncated, and cannot move to another shard', _bad),
				DETAIL = pg_catalog.format('It is in slot %s.', scaleout.slot(_bad)), HINT = 'Leave its slot out.';
		END IF;
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
				_fence := scaleout.fence(_source, _slots, $2);
			END IF;
			EXIT WHEN _taking.checkpoint >= _fence;
			COMMIT;
		END LOOP;
		PERFORM scaleout.finish_taking($2, _taking.move, _fence);
		UPDATE scaleout.slots s SET shard = $2 WHERE s.slot = ANY (_slots);
		COMMIT;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE public.es_move_slots(int[], int) IS
	'moves slots, and the streams in them, to another shard, while they are in use; called again it goes on where it was left';
REVOKE EXECUTE ON PROCEDURE public.es_move_slots(int[], int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION scaleout.own(int, int[]), scaleout.begin_taking(int, int, int[]), scaleout.give(int, int[], bigint), scaleout.take(int, bigint, jsonb, bigint, bigint),
	scaleout.fence(int, int[], int), scaleout.finish_taking(int, bigint, bigint), scaleout.truncated(int, int[]) FROM PUBLIC;
COMMIT;
