/*
 * router.sql
 *		A router of stores: run it in a database that has PL/Proxy, and not the extension.
 *
 *		psql -d ROUTER -f scaleout/router.sql
 *
 * router_refused.sql is to lie beside it.
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
CREATE TYPE scaleout.found AS (slot int, shard int);
CREATE TYPE scaleout.taking AS (move bigint, checkpoint bigint);
CREATE TYPE scaleout.parcel AS (events jsonb, reached bigint, settled bigint);
CREATE TYPE scaleout.answer AS (shard int, result text);

CREATE FUNCTION scaleout.slot(stream text) RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT (pg_catalog.hashtextextended(COALESCE(pg_catalog.substring(stream, '[{]([^}]+)[}]'), stream) COLLATE "C", 0) & 16383)::int
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
	SELECT pg_catalog.count(*)::int FROM pg_catalog.pg_foreign_server f, pg_catalog.unnest(f.srvoptions) o WHERE f.srvname = 'eventstore' AND o ~ '^p[0-9]+='
$$;
COMMENT ON FUNCTION scaleout.shards() IS 'how many shards this router can reach';

CREATE FUNCTION scaleout.homes(slots int[]) RETURNS SETOF scaleout.found LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON ALL;';

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
	message := pg_catalog.regexp_replace(message, '^[^ ]+[(][0-9]+[)]: [[][^]]*[]] REMOTE [A-Z]+: ', '');
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

CREATE FUNCTION scaleout.be_patient(slot int, since timestamptz) RETURNS interval
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_patience interval := COALESCE(NULLIF(pg_catalog.current_setting('scaleout.patience', true), ''), '10s')::interval;
	_waited interval := pg_catalog.clock_timestamp() - $2;
BEGIN
	IF _waited > _patience THEN
		RAISE EXCEPTION USING ERRCODE = 'SC001', MESSAGE = pg_catalog.format('slot %s has been on its way between shards for %s', $1, _patience),
			HINT = 'Its move may have been left: call es_move_slots again, or es_cancel_move. The setting scaleout.patience says how long to wait.';
	END IF;
	RETURN _waited;
END
$$;
COMMENT ON FUNCTION scaleout.be_patient(int, timestamptz) IS 'for how long a slot has been looked for; SC001 if that is too long';

CREATE FUNCTION scaleout.pause(waited interval) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT pg_catalog.pg_sleep(LEAST(0.002 + EXTRACT(epoch FROM $1) / 4, 0.1))
$$;
COMMENT ON FUNCTION scaleout.pause(interval) IS 'waits before a slot is looked for again';

CREATE FUNCTION scaleout.follow(slot int, shard int, since timestamptz, code text, message text, detail text, hint text) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_waited interval;
	_next int;
BEGIN
	IF $4 <> 'SC001' THEN
		PERFORM scaleout.fail($2, $4, $5, $6, $7);
	END IF;
	_next := NULLIF(pg_catalog.regexp_replace(detail, '^Remote detail: ', ''), '')::int;
	_waited := scaleout.be_patient($1, $3);
	/* a shard that does not have it yet, or never will: its move was cancelled, or this router's map is wrong */
	IF _next IS NULL AND _waited > '50ms' THEN
		BEGIN
			_next := (SELECT h.shard FROM scaleout.homes(ARRAY[$1]) h LIMIT 1);
		EXCEPTION WHEN OTHERS THEN
			_next := NULL;	-- some shard is away: it stays as it is
		END;
	END IF;
	_next := COALESCE(_next, $2);
	IF _next = $2 OR _waited > '20ms' THEN
		PERFORM scaleout.pause(_waited);
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

CREATE FUNCTION scaleout.require_writable(name text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE AS $$
BEGIN
	/* at a standby of a router all transactions are READ ONLY, and what is written is at the shards */
	IF pg_catalog.current_setting('transaction_read_only')::boolean AND NOT pg_catalog.pg_is_in_recovery() THEN
		RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction', MESSAGE = pg_catalog.format('cannot execute %s() in a read-only transaction', $1);
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require_writable(text) IS '25006 in a transaction that is READ ONLY, which no shard would know';

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
	%s
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
			CASE WHEN _function.name ~ '^es_(append|try_append|delete|truncate|snapshot)' THEN pg_catalog.format('PERFORM scaleout.require_writable(%L);', _function.name) ELSE '' END,
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

CREATE FUNCTION scaleout.find(slots int[], since timestamptz) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_found jsonb;
	_missing int;
	_message text;
	_detail text;
	_hint text;
BEGIN
	LOOP
		BEGIN
			_found := (SELECT pg_catalog.jsonb_object_agg(h.slot, h.shard) FROM scaleout.homes($1) h);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS _message = MESSAGE_TEXT, _detail = PG_EXCEPTION_DETAIL, _hint = PG_EXCEPTION_HINT;
			PERFORM scaleout.fail(NULL, SQLSTATE, _message, _detail, _hint);
		END;
		_missing := (SELECT pg_catalog.min(s) FROM pg_catalog.unnest($1) s WHERE NOT COALESCE(_found, '{}') ? s::text);
		IF _missing IS NULL THEN
			RETURN _found;
		END IF;
		PERFORM scaleout.pause(scaleout.be_patient(_missing, $2));
	END LOOP;
END
$$;
COMMENT ON FUNCTION scaleout.find(int[], timestamptz) IS 'the shards that slots are at, as these say; waits for those that are on their way';

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
	PERFORM scaleout.require_writable('es_append_many');
	_slots := ARRAY(SELECT DISTINCT scaleout.slot(e ->> 'stream') FROM pg_catalog.jsonb_array_elements($1) e WHERE e ->> 'stream' IS NOT NULL ORDER BY 1);
	LOOP
		IF (SELECT pg_catalog.count(*) FROM scaleout.slots s WHERE s.slot = ANY (_slots)) < pg_catalog.cardinality(_slots) THEN
			PERFORM scaleout.refuse_without_map();
		END IF;
		_shards := ARRAY(SELECT DISTINCT COALESCE((_found ->> s.slot::text)::int, s.shard) FROM scaleout.slots s WHERE s.slot = ANY (_slots) ORDER BY 1);
		/* this router may not have heard of a move */
		IF pg_catalog.cardinality(_shards) > 1 THEN
			_found := scaleout.find(_slots, _since);
			_shards := ARRAY(SELECT DISTINCT f.value::int FROM pg_catalog.jsonb_each_text(_found) f ORDER BY 1);
		END IF;
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
		_slot := COALESCE(pg_catalog.substring(_message, 'slot ([0-9]+) is not at shard')::int, _slots[1]);
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
	_ended int[] := '{}';
	_message text;
	_detail text;
	_hint text;
BEGIN
	FOR _row IN SELECT * FROM scaleout.es_read_portion($1, $2, $3, $4, $5) LOOP
		_vector[_row.shard + 1] := COALESCE(_row.reached, _row."position");
		IF _row.reached IS NULL THEN
			RETURN NEXT ROW(_row.shard, _row."position", _row.stream, _row.version, _row.type, _row.type_version, _row.data, _row.metadata,
				_row.event_id, _row.recorded_at, _vector)::public.es_shard_event;
		ELSE
			_ended := _ended || _row.shard;
		END IF;
	END LOOP;
	IF (SELECT pg_catalog.count(DISTINCT s) FROM pg_catalog.unnest(_ended) s) <> scaleout.shards() OR pg_catalog.cardinality(_ended) <> scaleout.shards() THEN
		RAISE EXCEPTION USING ERRCODE = 'SC003', MESSAGE = pg_catalog.format('this router reads %s shards, but what answered is shard %s', scaleout.shards(), pg_catalog.array_to_string(_ended, ', ')),
			HINT = 'Correct the options of the router''s server "eventstore".';
	END IF;
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
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS 'SELECT scaleout.require_writable(''es_on_shards''); SELECT * FROM scaleout.run($1) ORDER BY 1';
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
CREATE FUNCTION scaleout.hidden(shard int, slots int[], deleted boolean) RETURNS jsonb LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.require_taken(shard int, streams jsonb) RETURNS text LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.require_deleted(shard int, streams jsonb) RETURNS text LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
CREATE FUNCTION scaleout.open_takings(shard int, slots int[]) RETURNS jsonb LANGUAGE plproxy VOLATILE PARALLEL UNSAFE AS 'CLUSTER ''eventstore''; RUN ON shard;';
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

CREATE FUNCTION scaleout.ask() RETURNS TABLE (slot int, shard int)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
#variable_conflict use_column
DECLARE
	_here jsonb := (SELECT pg_catalog.jsonb_object_agg(s.slot, a.shard)
		FROM public.es_on_shards('SELECT pg_catalog.jsonb_agg(s.slot) FROM scaleout.slots s WHERE s.shard = scaleout.shard()') a, pg_catalog.jsonb_array_elements_text(a.result::jsonb) s (slot));
	_nowhere int[] := ARRAY(SELECT s FROM pg_catalog.generate_series(0, 16383) s WHERE NOT _here ? s::text);
BEGIN
	RETURN QUERY SELECT h.key::int, h.value::int FROM pg_catalog.jsonb_each_text(_here) h;
	IF pg_catalog.cardinality(_nowhere) = 0 THEN
		RETURN;
	END IF;
	/* a slot that is nowhere has left its shard by a fence that has brought it to no other: a move that goes on, or one that was not cancelled to its end */
	RETURN QUERY WITH asked AS MATERIALIZED (
		SELECT a.shard, a.result::jsonb AS map FROM public.es_on_shards(pg_catalog.format($_$SELECT pg_catalog.jsonb_build_object(
			'gone', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(s.slot, s.shard, s."position")) FROM scaleout.slots s WHERE s.slot = ANY (%1$L::int[]) AND s.shard <> scaleout.shard()),
			'came', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(s, t.source, t.source_position)) FROM scaleout.takings t, pg_catalog.unnest(t.slots) s
				WHERE t.cut IS NOT NULL AND t.refused IS NULL AND s = ANY (%1$L::int[])))$_$, _nowhere)) a
	), gone AS MATERIALIZED (
		SELECT (g ->> 0)::int AS slot, a.shard, (g ->> 1)::int AS target, (g ->> 2)::bigint AS fence FROM asked a, pg_catalog.jsonb_array_elements(NULLIF(a.map -> 'gone', 'null')) g
	), came AS MATERIALIZED (
		SELECT (c ->> 0)::int AS slot, a.shard, (c ->> 1)::int AS source, (c ->> 2)::bigint AS fence FROM asked a, pg_catalog.jsonb_array_elements(NULLIF(a.map -> 'came', 'null')) c
	)
	SELECT g.slot, g.shard FROM gone g WHERE NOT EXISTS (SELECT FROM came c WHERE c.slot = g.slot AND c.source = g.shard AND c.shard = g.target AND c.fence = g.fence);
END
$$;
COMMENT ON FUNCTION scaleout.ask() IS 'where the shards say that slots are, and of those that are nowhere where they were last';

CREATE FUNCTION public.es_learn_slots() RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_count bigint;
BEGIN
	/* ON CONFLICT DO UPDATE would lock, and wait for, rows that stay as they are */
	WITH told AS MATERIALIZED (
		SELECT a.slot, a.shard FROM scaleout.ask() a
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

CREATE FUNCTION scaleout.require_movable(source int, slots int[], target int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_bad text := scaleout.truncated($1, $2);
BEGIN
	IF _bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = pg_catalog.format('stream "%s" has been truncated, or deleted and removed, at shard %s, and cannot move', _bad, $1),
			DETAIL = pg_catalog.format('It is in slot %s.', scaleout.slot(_bad)), HINT = 'Leave its slot out; es_cancel_move ends a move that has begun.';
	END IF;
	/* what the target has from before may have been deleted there since */
	PERFORM scaleout.require_deleted($1, scaleout.hidden($3, $2, true));
END
$$;
COMMENT ON FUNCTION scaleout.require_movable(int, int[], int) IS '0A000 if a stream of the slots lacks its first events, or is deleted at the target only';

CREATE PROCEDURE public.es_move_slots(slots int[], target int)
	LANGUAGE plpgsql AS $$
DECLARE
	_source int;
	_slots int[];
	_taking scaleout.taking;
	_parcel scaleout.parcel;
	_fence bigint;
	_pause float;
	_moves record;
BEGIN
	/* in a transaction block it fails here, and not with slots on their way */
	COMMIT;
	PERFORM scaleout.check_move($1, $2);
	_slots := ARRAY(SELECT m.slot FROM scaleout.slots m WHERE m.slot = ANY ($1) AND m.shard = $2 EXCEPT SELECT h.slot FROM scaleout.homes($1) h WHERE h.shard = $2);
	IF pg_catalog.cardinality(_slots) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('slots are on their way from shard %s to others', $2), DETAIL = pg_catalog.format('One is slot %s.', _slots[1]),
			HINT = 'es_cancel_move, called for the shard that they are on their way to, leaves them where they were.';
	END IF;
	FOR _moves IN SELECT m.shard, pg_catalog.array_agg(m.slot ORDER BY m.slot) AS slots FROM scaleout.slots m WHERE m.slot = ANY ($1) AND m.shard <> $2 GROUP BY 1 ORDER BY 1 LOOP
		_source := _moves.shard;
		_slots := _moves.slots;
		_pause := 0.1;
		PERFORM scaleout.require_movable(_source, _slots, $2);
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
				PERFORM scaleout.require_movable(_source, _slots, $2);
				BEGIN
					_fence := scaleout.fence(_source, _slots, $2);
				EXCEPTION WHEN lock_not_available THEN
					/* appends have waited behind it */
					PERFORM pg_catalog.pg_sleep(_pause);
					_pause := LEAST(2 * _pause, 3);
				END;
			END IF;
			EXIT WHEN _taking.checkpoint >= _fence;
			COMMIT;
		END LOOP;
		PERFORM scaleout.require_taken($2, scaleout.hidden(_source, _slots, false));
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
	_open jsonb;
	_fence bigint;
	_pause float;
	_moves record;
BEGIN
	COMMIT;
	PERFORM scaleout.check_move($1, $2);
	/* where a slot is now need not be where the move that was left was to take it from */
	_open := scaleout.open_takings($2, $1);
	FOR _moves IN SELECT o.source AS shard, o.slots FROM pg_catalog.jsonb_to_recordset(_open) o (source int, slots int[])
		UNION ALL (SELECT m.shard, pg_catalog.array_agg(m.slot ORDER BY m.slot) FROM scaleout.slots m
			WHERE m.slot = ANY ($1) AND NOT EXISTS (SELECT FROM pg_catalog.jsonb_to_recordset(_open) o (slots int[]) WHERE m.slot = ANY (o.slots)) GROUP BY 1 ORDER BY 1)
	LOOP
		IF _moves.shard = $2 THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots have come to shard %s', $2), HINT = 'Move them back by es_move_slots.';
		END IF;
		_fence := NULL;
		_pause := 0.1;
		LOOP
			PERFORM scaleout.cancel_taking($2, _moves.shard, _moves.slots, _fence);
			BEGIN
				/* waits for a fence that is under way, and tells of it */
				_fence := scaleout.take_fence_down(_moves.shard, _moves.slots, $2, _fence);
				EXIT WHEN _fence IS NULL;
			EXCEPTION WHEN lock_not_available THEN
				PERFORM pg_catalog.pg_sleep(_pause);
				_pause := LEAST(2 * _pause, 3);
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
	scaleout.take_fence_down(int, int[], int, bigint), scaleout.check_move(int[], int), scaleout.require_movable(int, int[], int),
	scaleout.hidden(int, int[], boolean), scaleout.require_taken(int, jsonb), scaleout.require_deleted(int, jsonb), scaleout.open_takings(int, int[]), scaleout.ask() FROM PUBLIC;

\ir router_refused.sql
COMMIT;
