/*
 * shard.sql
 *		What a store has to have to be a shard: run it there, as the owner of the extension.
 *
 *		psql -d DATABASE -v shard=0 -f scaleout/shard.sql
 *
 * Run again, with the same number, it renews functions and types; what the shard knows of slots stays.
 *
 * The extension knows nothing of shards.  A stream hashes to one of 16,384 slots, and a slot is at one shard.  Routers
 * (router.sql) call the functions here, named like those of the store, which first look whether the slot is here:
 * a router may have an old map.  What is not here is answered by the number of the shard that it went to, and
 * in functions that return rows by SC001 with that number as DETAIL.  PL/Proxy drops a connection after an error,
 * which is too dear for calls that wait for a slot.
 *
 * An append holds a shared advisory lock of its slot's group up to its end; who gives slots away takes
 * these locks exclusively.  So after that no append to the slot is under way and none comes any more, and
 * all that there were have positions below that of the event that notes it.
 */
\set ON_ERROR_STOP on
SELECT set_config('scaleout.shard', :'shard', false) \g /dev/null

BEGIN;
DO $install$
DECLARE
	_store text := (SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'eventstore');
	_shard int := pg_catalog.current_setting('scaleout.shard');
	_function record;
	_call text;
BEGIN
	IF _store IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'extension "eventstore" is not installed in this database';
	END IF;
	/* types below are called as they are in the store */
	PERFORM pg_catalog.set_config('search_path', pg_catalog.quote_ident(_store) || ', pg_temp', true);
	IF pg_catalog.to_regprocedure('scaleout.shard()') IS NULL THEN
		CREATE SCHEMA scaleout;
		GRANT USAGE ON SCHEMA scaleout TO PUBLIC;

		CREATE TABLE scaleout.slots (
			slot int PRIMARY KEY,
			shard int NOT NULL,
			"position" bigint
		);
		COMMENT ON TABLE scaleout.slots IS 'the slots that are or were here: where each is now, and the position that has all of its events here before it, once it went';
		GRANT SELECT ON scaleout.slots TO PUBLIC;

		CREATE TABLE scaleout.takings (
			move bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			source int NOT NULL,
			slots int[] NOT NULL,
			begun bigint NOT NULL,
			checkpoint bigint NOT NULL DEFAULT 0,
			source_position bigint,
			cut bigint,
			refused bigint
		);
		COMMENT ON TABLE scaleout.takings IS
			'slots that came here: what is of them in positions after begun and up to cut (none: it goes on) is a copy of what the source has up to source_position; one that was cancelled has source_position 0, and refused, the fence that must not be taken any more (0: there was none)';
		GRANT SELECT ON scaleout.takings TO PUBLIC;
	ELSIF scaleout.shard() <> _shard THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('this is shard %s, and cannot become shard %s', scaleout.shard(), _shard);
	ELSE
		FOR _call IN SELECT p.oid::pg_catalog.regprocedure FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'scaleout'::pg_catalog.regnamespace LOOP
			EXECUTE 'DROP FUNCTION ' || _call;
		END LOOP;
		FOR _call IN SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relnamespace = 'scaleout'::pg_catalog.regnamespace AND c.relkind = 'c' LOOP
			EXECUTE 'DROP TYPE ' || _call;
		END LOOP;
	END IF;
	EXECUTE pg_catalog.replace(pg_catalog.replace($script$

CREATE FUNCTION scaleout.shard() RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT @shard@';
COMMENT ON FUNCTION scaleout.shard() IS 'the number of this shard';

CREATE FUNCTION scaleout.slot(stream text) RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT (pg_catalog.hashtextextended(COALESCE(pg_catalog.substring(stream, '[{]([^}]+)[}]'), stream) COLLATE "C", 0) & 16383)::int
$$;
COMMENT ON FUNCTION scaleout.slot(text) IS 'the slot of a stream: by its name, or by what stands in it in braces';

CREATE FUNCTION scaleout.require_shard(shard int) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	IF $1 <> scaleout.shard() THEN
		RAISE EXCEPTION USING ERRCODE = 'SC003', MESSAGE = pg_catalog.format('shard %s was asked for, but this is shard %s', $1, scaleout.shard()),
			HINT = 'Correct the options of the router''s server "eventstore".';
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require_shard(int) IS 'SC003 if this is another shard';

CREATE FUNCTION scaleout.enter(shard int, slots int[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
#variable_conflict use_variable
DECLARE
	_group int;
	_slot int;
BEGIN
	PERFORM scaleout.require_shard(shard);
	IF pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state', MESSAGE = 'a shard must be written to in isolation level READ COMMITTED';
	END IF;
	/* in one order, so that calls with several do not deadlock */
	FOR _group IN SELECT DISTINCT s & 63 FROM pg_catalog.unnest(slots) s ORDER BY 1 LOOP
		PERFORM pg_catalog.pg_advisory_xact_lock_shared(1397900097, _group);
	END LOOP;
	/* a statement of its own: its snapshot is taken under the locks */
	FOREACH _slot IN ARRAY slots LOOP
		PERFORM scaleout.require(_slot);
	END LOOP;
END
$$;
COMMENT ON FUNCTION scaleout.enter(int, int[]) IS 'keeps the slots here up to the end of the transaction; SC001 if one is not';

CREATE TYPE scaleout.outcome AS (result bigint, told text, elsewhere int);
COMMENT ON TYPE scaleout.outcome IS 'what a call returned, as a number or a text, or that the slot is not here, and where it went, -1 if that is not known';

CREATE FUNCTION scaleout.elsewhere(slot int) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_at int;
BEGIN
	SELECT s.shard INTO _at FROM scaleout.slots s WHERE s.slot = $1;
	RETURN CASE WHEN _at IS NULL THEN -1 ELSE NULLIF(_at, scaleout.shard()) END;
END
$$;
COMMENT ON FUNCTION scaleout.elsewhere(int) IS 'where a slot went, -1 if that is not known, NULL if it is here';

CREATE FUNCTION scaleout.enter(shard int, slot int) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF $1 <> scaleout.shard() OR pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
		PERFORM scaleout.enter($1, ARRAY[$2]);
	END IF;
	PERFORM pg_catalog.pg_advisory_xact_lock_shared(1397900097, $2 & 63);
	/* a statement of its own, as above */
	RETURN scaleout.elsewhere($2);
END
$$;
COMMENT ON FUNCTION scaleout.enter(int, int) IS 'the same for one slot; returns where it went, NULL if it is here and kept';

CREATE FUNCTION scaleout.require(slot int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_at int;
BEGIN
	SELECT s.shard INTO _at FROM scaleout.slots s WHERE s.slot = $1;
	IF _at IS DISTINCT FROM scaleout.shard() THEN
		RAISE EXCEPTION USING ERRCODE = 'SC001', MESSAGE = pg_catalog.format('slot %s is not at shard %s', $1, scaleout.shard()),
			DETAIL = COALESCE(_at::text, ''), HINT = 'Call it through a router.';
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require(int) IS 'SC001 if the slot is not here';

CREATE FUNCTION scaleout.homes(slots int[]) RETURNS TABLE (slot int, shard int)
	LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT s.slot, s.shard FROM scaleout.slots s WHERE s.slot = ANY ($1) AND s.shard = scaleout.shard()
$$;
COMMENT ON FUNCTION scaleout.homes(int[]) IS 'those of the slots that are here, with this shard''s number';

CREATE FUNCTION scaleout.refuse_stream(stream text, slots int[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF $1 = 'scaleout-moves' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'stream "scaleout-moves" is for what a shard itself notes';
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'SC003', MESSAGE = pg_catalog.format('stream "%s" is in slot %s, and not in slot %s', $1, scaleout.slot($1), pg_catalog.array_to_string($2, ', ')),
		HINT = 'The encoding of the router''s database must be that of its shards.';
END
$$;
COMMENT ON FUNCTION scaleout.refuse_stream(text, int[]) IS 'says that a stream is not in the slots that a call gives for it, or is the shards'' own';

CREATE FUNCTION scaleout.es_append_many(shard int, slots int[], events jsonb)
	RETURNS TABLE (stream text, version bigint, "position" bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	PERFORM scaleout.enter($1, $2);
	PERFORM scaleout.refuse_stream(e ->> 'stream', $2) FROM pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof($3) WHEN 'array' THEN $3 END) e
		WHERE e ->> 'stream' IS NOT NULL AND (NOT scaleout.slot(e ->> 'stream') = ANY ($2) OR e ->> 'stream' = 'scaleout-moves');
	RETURN QUERY SELECT * FROM @store@.es_append_many($3);
END
$$;
COMMENT ON FUNCTION scaleout.es_append_many(int, int[], jsonb) IS 'es_append_many for streams that are all here';

/* ---- reading the whole shard ---- */

CREATE TYPE scaleout.portion AS (shard int, reached bigint, "position" bigint, stream text, version bigint, type text, type_version int,
	data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz);
COMMENT ON TYPE scaleout.portion IS 'an event of a shard, and at the end of a portion a row without one that says how far it reaches';

CREATE FUNCTION scaleout.is_copy(stream text, "position" bigint) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT EXISTS (SELECT FROM scaleout.takings t WHERE $2 > t.begun AND (t.cut IS NULL OR $2 <= t.cut) AND scaleout.slot($1) = ANY (t.slots))
$$;
COMMENT ON FUNCTION scaleout.is_copy(text, bigint) IS 'whether an event came here from another shard, which has it, too: consumers of this shard alone have their use for it, those of all shards pass it by';

/*
 * The order of the three looks matters: the bound, then what was taken, then the events.  A slot's own events
 * come after its cut, and a cut is committed before the first of them, so a bound
 * that has one of them sees the cut, too.
 */
CREATE FUNCTION scaleout.es_read_portion(vector bigint[], max_count bigint, categories text[], types text[], stream_prefix text)
	RETURNS SETOF scaleout.portion
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_shard int := scaleout.shard();
	_after bigint := COALESCE($1[_shard + 1], 0);
	_to bigint := @store@.es_settled_position();
	_last bigint := 0;
	_count bigint := 0;
	_cap bigint;
	_any boolean;
	_event record;
BEGIN
	IF pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state', MESSAGE = 'all shards must be read in isolation level READ COMMITTED';
	END IF;
	/* what came after a cut waits until the reader has what the source had before */
	SELECT pg_catalog.min(t.cut) FILTER (WHERE t.cut >= _after AND COALESCE($1[t.source + 1], 0) < t.source_position), pg_catalog.count(*) > 0
		INTO _cap, _any FROM scaleout.takings t;
	_to := LEAST(_to, _cap);
	IF _to > _after AND $2 IS DISTINCT FROM 0 THEN
		FOR _event IN SELECT * FROM @store@.es_read_all(_after, $2, $3, $4, $5, _to) LOOP
			_last := _event."position";
			_count := _count + 1;
			CONTINUE WHEN _event.stream = 'scaleout-moves' OR (_any AND scaleout.is_copy(_event.stream, _event."position"));
			RETURN NEXT ROW(_shard, NULL::bigint, _event."position", _event.stream, _event.version, _event.type, _event.type_version,
				_event.data, _event.metadata, _event.event_id, _event.recorded_at)::scaleout.portion;
		END LOOP;
		_after := CASE WHEN _count < $2 OR $2 IS NULL THEN _to ELSE _last END;
	ELSE
		/* what is refused is so with nothing new, too */
		PERFORM pg_catalog.count(*) FROM @store@.es_read_all(_after, LEAST($2, 0), $3, $4, $5);
	END IF;
	RETURN NEXT ROW(_shard, _after, NULL::bigint, NULL::text, NULL::bigint, NULL::text, NULL::int,
		NULL::jsonb, NULL::jsonb, NULL::uuid, NULL::timestamptz)::scaleout.portion;
END
$$;
COMMENT ON FUNCTION scaleout.es_read_portion(bigint[], bigint, text[], text[], text) IS
	'events after this shard''s position in the vector, without copies, and a last row that says how far that reaches';

CREATE TYPE scaleout.keyed_state AS (key text, version bigint, "position" bigint, state jsonb, shard int);
COMMENT ON TYPE scaleout.keyed_state IS 'a state of a projection of a shard';

CREATE FUNCTION scaleout.es_projection(projection text, key text) RETURNS SETOF scaleout.keyed_state
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT p.key, p.version, p."position", p.state, scaleout.shard() FROM @store@.es_projection($1, $2) p
	WHERE (SELECT e.key IS DISTINCT FROM '$.stream' FROM @store@.es_projections e WHERE e.projection = $1)
		OR EXISTS (SELECT FROM scaleout.slots s WHERE s.slot = scaleout.slot(p.key) AND s.shard = scaleout.shard())
$$;
COMMENT ON FUNCTION scaleout.es_projection(text, text) IS 'states of this shard''s projection; of one by streams, those of streams that are here';

CREATE FUNCTION scaleout.run(statement text) RETURNS TABLE (shard int, result text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	/* INTO complains of what gives no rows when it has been done, and nothing may be done twice; SET may come before either */
	IF $1 ~* ('^[[:space:]]*((re)?set[[:>:]]([^;''"]|''[^'']*''|"[^"]*")*(;[[:space:]]*|$))*' || '((alter|comment|create|do|drop|grant|revoke)[[:>:]]|$)') THEN
		EXECUTE $1;
	ELSE
		EXECUTE $1 INTO result;
	END IF;
	shard := scaleout.shard();
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION scaleout.run(text) IS 'a statement, and the first column of its first row; with the caller''s rights';

/* ---- moving slots: the steps that a router's es_move_slots takes, each of which may be taken again ---- */

CREATE FUNCTION scaleout.commit_durably() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
		PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.commit_durably() IS 'for a step that others go by, here or at another shard: no crash takes back what this transaction writes, nor does a synchronous standby that takes over';

CREATE FUNCTION scaleout.own(shard int, slots int[]) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	PERFORM scaleout.require_shard($1);
	PERFORM scaleout.commit_durably();
	IF EXISTS (SELECT FROM scaleout.slots s WHERE s.slot = ANY ($2)) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots are or were at shard %s', $1);
	END IF;
	INSERT INTO scaleout.slots (slot, shard) SELECT s, $1 FROM pg_catalog.unnest($2) s;
	RETURN pg_catalog.cardinality($2);
END
$$;
COMMENT ON FUNCTION scaleout.own(int, int[]) IS 'slots that are nowhere yet are here from now on';

CREATE FUNCTION scaleout.note(type text, data jsonb) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	PERFORM @store@.es_append('scaleout-moves', $1, $2);
	RETURN @store@.es_last_position();
END
$$;
COMMENT ON FUNCTION scaleout.note(text, jsonb) IS 'appends an event about slots that move, and returns its position';

CREATE FUNCTION scaleout.require_read() RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'eventstore' AND pg_catalog.pg_has_role(e.extowner, 'USAGE'))
		AND NOT EXISTS (SELECT FROM @store@.es_grants g JOIN pg_catalog.pg_roles r ON r.rolname = g.role
			WHERE g.privilege = 'read' AND g.category = '*' AND pg_catalog.pg_has_role(r.oid, 'USAGE')) THEN
		RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = pg_catalog.format('permission denied to move slots from or to shard %s', scaleout.shard()),
			DETAIL = pg_catalog.format('Role "%s" does not have the privilege "read" on "*", and what it may not read would be lost.', current_user);
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require_read() IS '42501 for who may not read all events: reads leave out what one may not, and so would a move';

CREATE TYPE scaleout.taking AS (move bigint, checkpoint bigint);

CREATE FUNCTION scaleout.begin_taking(shard int, source int, slots int[]) RETURNS scaleout.taking
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_taking scaleout.taking;
	_sorted int[] := ARRAY(SELECT s FROM pg_catalog.unnest($3) s ORDER BY 1);
BEGIN
	IF $1 <> scaleout.shard() OR $2 = $1 THEN
		RAISE EXCEPTION USING ERRCODE = 'SC003', MESSAGE = pg_catalog.format('shard %s cannot take slots of shard %s as shard %s', scaleout.shard(), $2, $1);
	END IF;
	PERFORM scaleout.require_read();
	/* a crash that took it back would have its number come again, for another move */
	PERFORM scaleout.commit_durably();
	LOCK TABLE scaleout.takings IN SHARE ROW EXCLUSIVE MODE;
	/* else their own events would pass for copies */
	IF EXISTS (SELECT FROM scaleout.slots s WHERE s.slot = ANY (_sorted) AND s.shard = $1) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots are at shard %s already', $1);
	END IF;
	SELECT t.move, t.checkpoint INTO _taking FROM scaleout.takings t WHERE t.cut IS NULL AND t.source = $2 AND t.slots = _sorted;
	IF NOT FOUND THEN
		IF EXISTS (SELECT FROM scaleout.takings t WHERE t.cut IS NULL AND t.slots && _sorted) THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'some of the slots are being moved already',
				HINT = 'Let that move come to its end first: call es_move_slots with its slots, which scaleout.takings has, or es_cancel_move.';
		END IF;
		/* what is here from before would pass for the beginning of what comes */
		PERFORM scaleout.require_whole($1, _sorted);
		INSERT INTO scaleout.takings (source, slots, begun)
			VALUES ($2, _sorted, scaleout.note('SlotsTaking', pg_catalog.jsonb_build_object('from', $2, 'to', $1)))
			RETURNING takings.move, takings.checkpoint INTO _taking;
	END IF;
	RETURN _taking;
END
$$;
COMMENT ON FUNCTION scaleout.begin_taking(int, int, int[]) IS 'begins to take slots from another shard, or goes on where that was left';

CREATE TYPE scaleout.parcel AS (events jsonb, reached bigint, settled bigint);

CREATE FUNCTION scaleout.give(shard int, slots int[], after_position bigint) RETURNS scaleout.parcel
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_parcel scaleout.parcel;
	_events jsonb[] := '{}';
	_json jsonb;
	_event record;
	_size bigint := 0;
	_cut_short boolean := false;
BEGIN
	PERFORM scaleout.require_shard($1);
	PERFORM scaleout.require_read();
	/* a target must not have what a crash can take back here, and has events as they are stored */
	PERFORM pg_catalog.set_config('eventstore.read_durable', 'on', true);
	PERFORM pg_catalog.set_config('eventstore.upcast', 'off', true);
	_parcel.settled := @store@.es_settled_position();
	_parcel.reached := $3;
	FOR _event IN SELECT e, e."position", e.stream FROM @store@.es_read_all($3, 20000, to_position => _parcel.settled) e LOOP
		_cut_short := pg_catalog.cardinality(_events) >= 1000 OR _size > 8000000;
		EXIT WHEN _cut_short;
		_parcel.reached := _event."position";
		CONTINUE WHEN _event.stream = 'scaleout-moves' OR NOT scaleout.slot(_event.stream) = ANY ($2);
		_json := pg_catalog.to_jsonb(_event.e);
		_events := pg_catalog.array_append(_events, _json);
		/* it goes as text, in which a number may have thousands of times its bytes */
		_size := _size + GREATEST(pg_catalog.pg_column_size(_json), pg_catalog.octet_length(_json::text));
	END LOOP;
	/* an empty stretch at the end has no event to stop at */
	IF NOT _cut_short AND NOT EXISTS (SELECT FROM @store@.es_read_all(_parcel.reached, 1, to_position => _parcel.settled)) THEN
		_parcel.reached := GREATEST(_parcel.settled, $3);
	END IF;
	_parcel.events := pg_catalog.to_jsonb(_events);
	RETURN _parcel;
END
$$;
COMMENT ON FUNCTION scaleout.give(int, int[], bigint) IS 'the next events of the slots, how far that reaches, and the settled position';

CREATE FUNCTION scaleout.require_going_on(taking scaleout.takings) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	IF taking.refused IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'SC004', MESSAGE = pg_catalog.format('move %s has been cancelled', taking.move),
			HINT = 'If slots were fenced after that they are nowhere: es_cancel_move, called again, takes the fence down.';
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require_going_on(scaleout.takings) IS 'SC004 if the move was cancelled';

CREATE FUNCTION scaleout.refuse_move(stream text, why text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = pg_catalog.format('stream "%s" %s', $1, $2),
		DETAIL = pg_catalog.format('It is in slot %s.', scaleout.slot($1)), HINT = 'Leave its slot out; es_cancel_move ends a move that has begun.';
END
$$;
COMMENT ON FUNCTION scaleout.refuse_move(text, text) IS 'says that a stream cannot move, and why';

CREATE FUNCTION scaleout.require_same(stream text, version bigint, type text, event_id uuid) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	/* a deletion has got an id of its own */
	IF NOT EXISTS (SELECT FROM @store@.es_events e WHERE e.stream = $1 AND e.version = $2 AND (e.event_id = $4 OR e.type = '$stream-deleted' AND $3 = '$stream-deleted')) THEN
		PERFORM scaleout.refuse_move($1, pg_catalog.format('has another event as version %s at shard %s, or none any more, and cannot move there', $2, scaleout.shard()));
	END IF;
END
$$;
COMMENT ON FUNCTION scaleout.require_same(text, bigint, text, uuid) IS '0A000 if what is here of a stream from before is not what the source has';

CREATE FUNCTION scaleout.take(shard int, move bigint, events jsonb, checkpoint bigint, reached bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_event record;
	_version bigint;
	_count bigint := 0;
BEGIN
	PERFORM scaleout.require_shard($1);
	UPDATE scaleout.takings t SET checkpoint = $5 WHERE t.move = $2 AND t.checkpoint = $4 AND t.cut IS NULL;
	IF NOT FOUND THEN
		PERFORM scaleout.require_going_on(t) FROM scaleout.takings t WHERE t.move = $2;
		RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = pg_catalog.format('somebody else goes on with move %s', $2);
	END IF;
	FOR _event IN SELECT e.* FROM pg_catalog.jsonb_to_recordset($3) AS e ("position" bigint, stream text, version bigint, type text, type_version int,
			data jsonb, metadata jsonb, event_id uuid, recorded_at timestamptz) ORDER BY e."position" LOOP
		/* slots that were here before have left their older events */
		_version := @store@.es_stream_version(_event.stream);
		IF _event.version <= _version THEN
			PERFORM scaleout.require_same(_event.stream, _event.version, _event.type, _event.event_id);
			CONTINUE;
		ELSIF _event.version > _version + 1 THEN
			PERFORM scaleout.refuse_move(_event.stream, 'has lost events that were not taken yet, and cannot move to another shard');
		END IF;
		IF _event.type = '$stream-deleted' THEN
			PERFORM @store@.es_delete_stream(_event.stream, _event.version - 1);
		ELSE
			INSERT INTO @store@.es_events (stream, version, type, type_version, data, metadata, event_id, recorded_at)
				VALUES (_event.stream, _event.version, _event.type, _event.type_version, COALESCE(_event.data, 'null'), _event.metadata, _event.event_id, _event.recorded_at);
		END IF;
		_count := _count + 1;
	END LOOP;
	RETURN _count;
END
$$;
COMMENT ON FUNCTION scaleout.take(int, bigint, jsonb, bigint, bigint) IS 'stores events of another shard with their versions, and how far that one''s log was taken';

CREATE FUNCTION scaleout.lock_slots(shard int, slots int[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_group int;
	_timeout text := pg_catalog.current_setting('lock_timeout');
	_until timestamptz := pg_catalog.clock_timestamp() + interval '1 second';
BEGIN
	IF $1 <> scaleout.shard() OR pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
		PERFORM scaleout.enter($1, '{}'::int[]);
	END IF;
	PERFORM scaleout.commit_durably();
	/* appends queue up behind this, so it does not wait long for transactions that somebody has left open */
	FOR _group IN SELECT DISTINCT s & 63 FROM pg_catalog.unnest($2) s ORDER BY 1 LOOP
		PERFORM pg_catalog.set_config('lock_timeout', GREATEST(1, EXTRACT(epoch FROM _until - pg_catalog.clock_timestamp()) * 1000)::int::text, true);
		PERFORM pg_catalog.pg_advisory_xact_lock(1397900097, _group);
	END LOOP;
	PERFORM pg_catalog.set_config('lock_timeout', _timeout, true);
END
$$;
COMMENT ON FUNCTION scaleout.lock_slots(int, int[]) IS 'keeps appends away from the slots up to the end of the transaction; 55P03 if those that are under way take longer than a second';

CREATE FUNCTION scaleout.truncated(shard int, slots int[]) RETURNS text
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT pg_catalog.min(s.stream) FROM @store@.es_streams s
	WHERE (s.first_version > 1 OR s.deleted) AND scaleout.slot(s.stream) = ANY ($2) AND s.stream <> 'scaleout-moves'
		/* OFFSET: by index for each, and not by a look at the whole log */
		AND (NOT s.deleted OR NOT EXISTS (SELECT FROM @store@.es_events e WHERE e.stream = s.stream AND e.version = 1 OFFSET 0))
$$;
COMMENT ON FUNCTION scaleout.truncated(int, int[]) IS 'a stream of the slots whose first events are hidden, or of a deleted one removed, if there is one';

CREATE FUNCTION scaleout.require_whole(shard int, slots int[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	PERFORM scaleout.refuse_move(s, pg_catalog.format('has been truncated, or deleted and removed, at shard %s, and cannot move', $1)) FROM scaleout.truncated($1, $2) s WHERE s IS NOT NULL;
END
$$;
COMMENT ON FUNCTION scaleout.require_whole(int, int[]) IS '0A000 if a stream of the slots lacks its first events here';

CREATE FUNCTION scaleout.hidden(shard int, slots int[], deleted boolean) RETURNS jsonb
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT pg_catalog.jsonb_object_agg(s.stream, s.version) FROM @store@.es_streams s
	WHERE (s.first_version > 1 AND NOT $3 OR s.deleted) AND scaleout.slot(s.stream) = ANY ($2) AND s.stream <> 'scaleout-moves'
$$;
COMMENT ON FUNCTION scaleout.hidden(int, int[], boolean) IS 'versions of the streams of the slots of which something may have been removed, or of deleted ones only';

CREATE FUNCTION scaleout.require_deleted(shard int, streams jsonb) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	PERFORM scaleout.require_shard($1);
	PERFORM scaleout.refuse_move(d, pg_catalog.format('has been deleted where it is to move to, and not at shard %s', $1)) FROM pg_catalog.jsonb_object_keys($2) d
		WHERE NOT EXISTS (SELECT FROM @store@.es_streams s WHERE s.stream = d AND s.deleted);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION scaleout.require_deleted(int, jsonb) IS '0A000 if one of the streams, which are deleted at the target of a move, is not deleted here';

CREATE FUNCTION scaleout.require_taken(shard int, streams jsonb) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
	PERFORM scaleout.require_shard($1);
	PERFORM scaleout.refuse_move(s.key, 'has lost events that were not taken yet, and cannot move to another shard') FROM pg_catalog.jsonb_each_text($2) s WHERE @store@.es_stream_version(s.key) < s.value::bigint;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION scaleout.require_taken(int, jsonb) IS '0A000 if one of the streams is shorter here: es_scavenge has removed its last events at the source before they were given, and its versions would come again';

CREATE FUNCTION scaleout.fence(shard int, slots int[], target int) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_position bigint;
BEGIN
	PERFORM scaleout.lock_slots($1, $2);
	PERFORM scaleout.require_read();
	IF NOT EXISTS (SELECT FROM pg_catalog.unnest($2) a LEFT JOIN scaleout.slots s ON s.slot = a WHERE s.shard IS DISTINCT FROM $3) THEN
		SELECT pg_catalog.max(s."position") INTO _position FROM scaleout.slots s WHERE s.slot = ANY ($2);
		RETURN _position;
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.unnest($2) a LEFT JOIN scaleout.slots s ON s.slot = a WHERE s.shard IS DISTINCT FROM $1) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots are not at shard %s', $1);
	END IF;
	/* nobody truncates through a router now, and who has done so before must find it done */
	PERFORM scaleout.require_whole($1, $2);
	_position := scaleout.note('SlotsGone', pg_catalog.jsonb_build_object('from', $1, 'to', $3));
	UPDATE scaleout.slots s SET shard = $3, "position" = _position WHERE s.slot = ANY ($2);
	RETURN _position;
END
$$;
COMMENT ON FUNCTION scaleout.fence(int, int[], int) IS 'gives slots away: from its return on nothing is appended to them here; returns the position that all of their events are before';

CREATE FUNCTION scaleout.finish_taking(shard int, move bigint, source_position bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_taking scaleout.takings;
	_cut bigint;
BEGIN
	PERFORM scaleout.require_shard($1);
	LOCK TABLE scaleout.takings IN SHARE ROW EXCLUSIVE MODE;
	SELECT t.* INTO STRICT _taking FROM scaleout.takings t WHERE t.move = $2;
	PERFORM scaleout.require_going_on(_taking);
	IF _taking.cut IS NOT NULL THEN
		RETURN _taking.cut;
	END IF;
	/* the source may have taken that fence down */
	IF EXISTS (SELECT FROM scaleout.takings t WHERE t.source = _taking.source AND t.slots && _taking.slots AND t.refused >= $3) THEN
		RAISE EXCEPTION USING ERRCODE = 'SC004', MESSAGE = pg_catalog.format('the fence at position %s of shard %s has been cancelled', $3, _taking.source),
			HINT = 'Call es_cancel_move again, which takes it down.';
	END IF;
	IF _taking.checkpoint < $3 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('move %s has come to position %s of shard %s, not to %s', $2, _taking.checkpoint, _taking.source, $3);
	END IF;
	PERFORM scaleout.commit_durably();
	_cut := scaleout.note('SlotsTaken', pg_catalog.jsonb_build_object('from', _taking.source, 'to', $1));
	UPDATE scaleout.takings t SET cut = _cut, source_position = $3 WHERE t.move = $2;
	INSERT INTO scaleout.slots (slot, shard) SELECT s, $1 FROM pg_catalog.unnest(_taking.slots) s
		ON CONFLICT (slot) DO UPDATE SET shard = EXCLUDED.shard, "position" = NULL;
	RETURN _cut;
END
$$;
COMMENT ON FUNCTION scaleout.finish_taking(int, bigint, bigint) IS 'the slots are here from now on';

/* ---- moves that are cancelled: first the target says that it will not take the slots, then the source takes its fence down ---- */

CREATE FUNCTION scaleout.open_takings(shard int, slots int[]) RETURNS jsonb
	LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
	SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('source', t.source, 'slots', t.slots) ORDER BY t.move), '[]') FROM scaleout.takings t WHERE t.cut IS NULL AND t.slots <@ $2
$$;
COMMENT ON FUNCTION scaleout.open_takings(int, int[]) IS 'from where, and with which others, some of the slots are to come here';

CREATE FUNCTION scaleout.cancel_taking(shard int, source int, slots int[], fence bigint) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_sorted int[] := ARRAY(SELECT s FROM pg_catalog.unnest($3) s ORDER BY 1);
	_note bigint;
BEGIN
	PERFORM scaleout.lock_slots($1, '{}');
	LOCK TABLE scaleout.takings IN SHARE ROW EXCLUSIVE MODE;
	IF EXISTS (SELECT FROM scaleout.slots s WHERE s.slot = ANY (_sorted) AND s.shard = $1) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots have come to shard %s', $1),
			HINT = 'Move them back by es_move_slots.';
	END IF;
	/* they may have gone on since, and the source does not know */
	IF EXISTS (SELECT FROM scaleout.takings t WHERE t.source = $2 AND t.slots && _sorted AND t.refused IS NULL AND t.source_position = $4) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('some of the slots came to shard %s by the fence at position %s of shard %s, and have left it', $1, $4, $2),
			HINT = 'Call es_cancel_move again.';
	END IF;
	IF EXISTS (SELECT FROM scaleout.takings t WHERE t.cut IS NULL AND t.slots && _sorted AND (t.source <> $2 OR t.slots <> _sorted)) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'some of the slots are being moved together with others',
			HINT = 'Cancel it with the same slots that es_move_slots was called with, which scaleout.takings has.';
	END IF;
	IF EXISTS (SELECT FROM scaleout.takings t WHERE t.cut IS NULL AND t.slots = _sorted) THEN
		_note := scaleout.note('SlotsNotTaken', pg_catalog.jsonb_build_object('from', $2, 'to', $1));
		UPDATE scaleout.takings t SET cut = _note, source_position = 0, refused = COALESCE($4, 0) WHERE t.cut IS NULL AND t.slots = _sorted;
		RETURN true;
	END IF;
	IF $4 IS NULL OR EXISTS (SELECT FROM scaleout.takings t WHERE t.source = $2 AND t.slots = _sorted AND t.refused >= $4) THEN
		RETURN false;
	END IF;
	_note := scaleout.note('SlotsNotTaken', pg_catalog.jsonb_build_object('from', $2, 'to', $1));
	INSERT INTO scaleout.takings (source, slots, begun, source_position, cut, refused) VALUES ($2, _sorted, _note, 0, _note, $4);
	RETURN true;
END
$$;
COMMENT ON FUNCTION scaleout.cancel_taking(int, int, int[], bigint) IS
	'gives up taking slots, for ever if they come by this fence of the source; what is here of them stays, as copies';

CREATE FUNCTION scaleout.take_fence_down(shard int, slots int[], target int, refused bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
	_fence bigint;
	_fences bigint;
BEGIN
	PERFORM scaleout.lock_slots($1, $2);
	/* others of them may be here, or have gone elsewhere */
	SELECT pg_catalog.max(s."position"), pg_catalog.count(DISTINCT s."position") INTO _fence, _fences FROM scaleout.slots s WHERE s.slot = ANY ($2) AND s.shard = $3;
	IF _fences > 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = pg_catalog.format('the slots have not left shard %s for shard %s together', $1, $3),
			HINT = 'Cancel it with the same slots that es_move_slots was called with.';
	END IF;
	IF _fence = $4 THEN
		PERFORM scaleout.note('SlotsKept', pg_catalog.jsonb_build_object('from', $1, 'to', $3));
		UPDATE scaleout.slots s SET shard = $1, "position" = NULL WHERE s.slot = ANY ($2) AND s.shard = $3;
		RETURN NULL;
	END IF;
	RETURN _fence;
END
$$;
COMMENT ON FUNCTION scaleout.take_fence_down(int, int[], int, bigint) IS
	'the slots are here again, which is right only once the target has refused this fence for ever; returns the fence that there is, if it is another one';

REVOKE EXECUTE ON FUNCTION scaleout.run(text), scaleout.own(int, int[]), scaleout.note(text, jsonb), scaleout.begin_taking(int, int, int[]),
	scaleout.give(int, int[], bigint), scaleout.take(int, bigint, jsonb, bigint, bigint), scaleout.fence(int, int[], int),
	scaleout.finish_taking(int, bigint, bigint), scaleout.truncated(int, int[]), scaleout.lock_slots(int, int[]),
	scaleout.cancel_taking(int, int, int[], bigint), scaleout.take_fence_down(int, int[], int, bigint),
	scaleout.commit_durably(), scaleout.hidden(int, int[], boolean), scaleout.require_taken(int, jsonb),
	scaleout.require_whole(int, int[]), scaleout.require_same(text, bigint, text, uuid), scaleout.require_deleted(int, jsonb), scaleout.open_takings(int, int[]) FROM PUBLIC;
	$script$, '@store@', pg_catalog.quote_ident(_store)), '@shard@', _shard::text);

	/* what is asked of one stream: the same with shard and slot before it */
	FOR _function IN
		SELECT p.proname, p.proretset, pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.replace(pg_catalog.pg_get_function_arguments(p.oid), 'es_new_event[]', 'text'),
				' DEFAULT [^,]+', '', 'g'), ', OUT .*', '') AS arguments,
			/* an array of a type that routers have, too, comes as its text */
			(SELECT pg_catalog.string_agg('$' || 2 + i || CASE WHEN p.proargtypes[i - 1] = pg_catalog.to_regtype(pg_catalog.format('%I.es_new_event[]', _store)) THEN pg_catalog.format('::%I.es_new_event[]', _store) ELSE '' END, ', ' ORDER BY i)
				FROM pg_catalog.generate_series(1, p.pronargs) i) AS given,
			pg_catalog.pg_get_function_result(p.oid) AS result,
			CASE p.proname WHEN 'es_wait_projection' THEN '$4' ELSE '$3' END AS stream,
			p.proname = ANY ('{es_append,es_append_batch,es_append_json,es_append_events,es_try_append,es_delete_stream,es_truncate_stream}') AS writes
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = _store AND (p.proname = ANY ('{es_append,es_append_batch,es_append_json,es_append_events,es_try_append,es_delete_stream,es_truncate_stream,
			es_read,es_replay,es_replay_steps,es_snapshot,es_stream_version,es_position,es_find_event,es_reveal}')
			OR p.proname = 'es_wait_projection' AND p.proargnames[2] = 'stream')
	LOOP
		_call := pg_catalog.format('%I.%I(%s)', _store, _function.proname, _function.given);
		EXECUTE pg_catalog.format('CREATE FUNCTION scaleout.%I(shard int, slot int, %s) RETURNS %s LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS %L',
			_function.proname, _function.arguments, CASE WHEN _function.proretset THEN _function.result ELSE 'scaleout.outcome' END,
			/* a router that hashes otherwise, or who calls this by himself, would have the stream at two shards */
			pg_catalog.format(CASE WHEN _function.proretset THEN '' ELSE E'DECLARE\n\t_outcome scaleout.outcome;\n' END
				|| E'BEGIN\n\tIF scaleout.slot(%1$s) <> $2 OR %1$s = ''scaleout-moves'' THEN\n\t\tPERFORM scaleout.refuse_stream(%1$s, ARRAY[$2]);\n\tEND IF;\n', _function.stream)
			|| CASE WHEN _function.proretset THEN pg_catalog.format(E'\tPERFORM scaleout.require($2);\n\tRETURN QUERY SELECT * FROM %s;\nEND', _call)
				ELSE pg_catalog.format(E'\t_outcome.elsewhere := scaleout.%s;\n\t'
					'IF _outcome.elsewhere IS NULL THEN\n\t\t%s\n\tEND IF;\n\tRETURN _outcome;\nEND',
					CASE WHEN _function.writes THEN 'enter($1, $2)' ELSE 'elsewhere($2)' END,
					pg_catalog.format(CASE _function.result WHEN 'void' THEN 'PERFORM %s;' WHEN 'boolean' THEN '_outcome.result := %s::int;' WHEN 'jsonb' THEN '_outcome.told := %s::text;'
						WHEN 'record' THEN 'SELECT t.outcome, t.version INTO _outcome.told, _outcome.result FROM %s t;' ELSE '_outcome.result := %s;' END, _call)) END);
		EXECUTE pg_catalog.format('COMMENT ON FUNCTION scaleout.%I IS %L', _function.proname, _function.proname || ' for a stream that is here');
	END LOOP;
END
$install$;
COMMIT;
