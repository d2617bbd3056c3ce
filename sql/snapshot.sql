-- Snapshots: replays go on from the newest usable one.

-- A handler that writes down which versions it is called for shows what a replay folds.
CREATE FUNCTION snapshot_seen(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'folds version %', event.version;
	RETURN state || jsonb_build_object('n', coalesce((state->>'n')::int, 0) + (event.data->>'n')::int);
END $$;
SELECT es_register_reducer('snapshot_a', '*', 'snapshot_seen(jsonb, es_event)');
SELECT es_append_batch('snapshot_a-1', (SELECT jsonb_agg(jsonb_build_object('type', 't', 'data', jsonb_build_object('n', i))) FROM generate_series(1, 3) i)) AS version;
SELECT es_snapshot('snapshot_a-1');
SELECT version, state FROM es_replay('snapshot_a-1');
SELECT es_append('snapshot_a-1', 't', '{"n": 4}') AS version;
SELECT version, state FROM es_replay('snapshot_a-1');

-- position and recorded_at are the last event's, whether it was folded or not
SELECT r.position = e.position AND r.recorded_at = e.recorded_at AS of_last_event
FROM es_replay('snapshot_a-1', until_version => 3) r, es_read('snapshot_a-1', 3, 1) e;

-- every kind of replay goes on from it, within its bounds
SELECT version, state FROM es_replay('snapshot_a-1', until_version => 2);
SELECT version, state FROM es_replay_steps('snapshot_a-1', from_version => 4);
SELECT version, state FROM es_replay_steps('snapshot_a-1', from_version => 3);
SELECT es_replay_as('snapshot_a-1', NULL::jsonb);
SELECT version, state FROM es_replay_category('snapshot_a');
SELECT version, state FROM es_replay('snapshot_a-1', as_of => '-infinity');
SELECT version, state FROM es_replay('snapshot_a-1', as_of => 'infinity');

-- again: nothing to do; nothing to fold: no snapshot
SELECT es_snapshot('snapshot_a-1');
SELECT es_snapshot('snapshot_a-1');
SELECT es_snapshot('snapshot_a-none');
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'snapshot_a';

-- a changed handler makes them unusable, changing back usable again
SET client_min_messages = warning;
CREATE FUNCTION snapshot_usable(reducer text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE folded int; context text;
BEGIN
	-- what is folded again from the first event on would fail
	PERFORM es_replay('snapshot_a-1', reducer);
	RETURN true;
EXCEPTION WHEN SQLSTATE 'VE009' THEN RETURN false;
END $$;
CREATE FUNCTION snapshot_strict(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('snapshot.fail', true) = 'on' THEN RAISE 'folded'; END IF;
	RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1);
END $$;
RESET client_min_messages;
SELECT es_register_reducer('snapshot_b', 't', 'snapshot_strict(jsonb, jsonb)');
SELECT es_snapshot('snapshot_a-1', 'snapshot_b');
SET snapshot.fail = on;
SELECT snapshot_usable('snapshot_b');
-- a handler for another type
SELECT es_register_reducer_ops('snapshot_b', 'u', '"ignore"');
SELECT snapshot_usable('snapshot_b');
SET snapshot.fail = off;
SELECT es_snapshot('snapshot_a-1', 'snapshot_b');
SET snapshot.fail = on;
SELECT snapshot_usable('snapshot_b');
-- other operations, and the same again
SELECT es_register_reducer_ops('snapshot_b', 'u', '"merge"');
SELECT snapshot_usable('snapshot_b');
SELECT es_register_reducer_ops('snapshot_b', 'u', '"ignore"');
SELECT snapshot_usable('snapshot_b');
-- the function's source, and the same again
CREATE FUNCTION snapshot_source(source text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE OR REPLACE FUNCTION snapshot_strict(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS %L', source);
END $$;
SELECT prosrc AS source FROM pg_proc WHERE oid = 'snapshot_strict(jsonb, jsonb)'::regprocedure \gset
SELECT snapshot_source(:'source' || ' -- changed');
SELECT snapshot_usable('snapshot_b');
SELECT snapshot_source(:'source');
SELECT snapshot_usable('snapshot_b');
-- its settings and strictness
ALTER FUNCTION snapshot_strict SET extra_float_digits = 0;
SELECT snapshot_usable('snapshot_b');
ALTER FUNCTION snapshot_strict RESET ALL;
SELECT snapshot_usable('snapshot_b');
ALTER FUNCTION snapshot_strict STRICT;
SELECT snapshot_usable('snapshot_b');
ALTER FUNCTION snapshot_strict CALLED ON NULL INPUT;
SELECT snapshot_usable('snapshot_b');
-- what does not matter: owner, cost, a function of the same name in front
ALTER FUNCTION snapshot_strict COST 7;
SELECT snapshot_usable('snapshot_b');
-- an upcaster of a type that it handles, and one that it does not
SELECT es_register_upcaster_ops('snapshot_other', 1, '"ignore"');
SELECT snapshot_usable('snapshot_b');
SELECT es_register_upcaster_ops('u', 1, '"ignore"');
SELECT snapshot_usable('snapshot_b');
SET snapshot.fail = off;
SELECT es_snapshot('snapshot_a-1', 'snapshot_b');
SET snapshot.fail = on;
SELECT es_register_upcaster_ops('u', 1, '{"set": {"a": 1}}');
SELECT snapshot_usable('snapshot_b');
SELECT es_register_upcaster_ops('u', 1, '"ignore"');
SELECT snapshot_usable('snapshot_b');
-- a rollback leaves it usable
BEGIN;
SELECT es_register_reducer_ops('snapshot_b', 'u', '"merge"');
SELECT snapshot_usable('snapshot_b');
ROLLBACK;
SELECT snapshot_usable('snapshot_b');
-- what cannot be seen
SELECT es_drop_snapshots('snapshot_b');
SELECT snapshot_usable('snapshot_b');
RESET snapshot.fail;
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'snapshot_b';

-- replays leave snapshots when told to: after more than so many events
SELECT es_register_reducer_ops('snapshot_c', '*', '{"inc": {"n": "$.data.n"}}');
SELECT es_snapshot_every('snapshot_c', 2);
SELECT DISTINCT snapshot_every FROM es_reducers WHERE reducer = 'snapshot_c';
CREATE FUNCTION snapshot_versions(name text) RETURNS bigint[] LANGUAGE sql STABLE AS
	$$ SELECT array_agg(version ORDER BY version) FROM eventstore.snapshots s JOIN eventstore.streams USING (stream_id) WHERE reducer = $1 AND streams.name LIKE 'snapshot%' $$;
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c', until_version => 2);
SELECT snapshot_versions('snapshot_c');
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c', until_version => 3);
SELECT snapshot_versions('snapshot_c');
SELECT es_append_batch('snapshot_a-1', '[{"type": "t", "data": {"n": 5}}, {"type": "t", "data": {"n": 6}}, {"type": "t", "data": {"n": 7}}]') AS version;
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c');
SELECT snapshot_versions('snapshot_c');
-- an older one is of no more use; a replay of the past leaves none behind the newest
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c', until_version => 4);
SELECT snapshot_versions('snapshot_c');
SELECT es_snapshot_every('snapshot_c', NULL);
SELECT es_append_batch('snapshot_a-1', '[{"type": "t", "data": {"n": 8}}, {"type": "t", "data": {"n": 9}}, {"type": "t", "data": {"n": 10}}]') AS version;
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c');
SELECT snapshot_versions('snapshot_c');
-- by es_replay_as and es_replay_category, too; built-in reducers
SELECT es_snapshot_every('count', 1);
SELECT es_snapshot_every('merge', 1);
SELECT es_replay_as('snapshot_a-1', NULL::jsonb, 'count');
SELECT snapshot_versions('count');
SELECT es_append_batch('snapshot_a-2', '[{"type": "t", "data": {"a": 1}}, {"type": "t", "data": {"b": 2}}]') AS version;
SELECT es_append_batch('snapshot_a-3', '[{"type": "t", "data": {"a": 1}}]') AS version;
SELECT stream, version, state FROM es_replay_category('snapshot_a', 'merge') ORDER BY stream;
SELECT snapshot_versions('merge');
SELECT es_append('snapshot_a-2', 't', '{"c": 3}') AS version;
SELECT es_append('snapshot_a-1', 't') AS version;
SELECT state FROM es_replay('snapshot_a-2', 'merge');
SELECT state FROM es_replay('snapshot_a-1', 'count');
SELECT es_snapshot_every('count', NULL), es_snapshot_every('merge', NULL), es_drop_snapshots('count'), es_drop_snapshots('merge');

-- not where nothing can be written
SELECT es_snapshot_every('snapshot_c', 1);
BEGIN READ ONLY;
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c');
SELECT es_snapshot('snapshot_a-1', 'snapshot_c');
ROLLBACK;
SELECT snapshot_versions('snapshot_c');
-- and a rollback takes it back
BEGIN;
SELECT es_append('snapshot_a-1', 't', '{"n": 100}') AS version;
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c');
SELECT snapshot_versions('snapshot_c');
ROLLBACK;
SELECT snapshot_versions('snapshot_c');
SELECT state FROM es_replay('snapshot_a-1', 'snapshot_c');

-- states of other types, and NULL
CREATE TYPE snapshot_color AS ENUM ('red', 'green');
CREATE TYPE snapshot_state AS (n numeric, at timestamptz, f float8, color snapshot_color, note text, raw bytea, span interval);
CREATE FUNCTION snapshot_row(state snapshot_state, event es_event) RETURNS snapshot_state
	LANGUAGE sql AS $$ SELECT ROW(coalesce(state.n, 0) + 1.50, '2020-02-03 04:05:06.789+00', 1.0::float8 / 3, 'green', E'a,"b\\\n', '\xdead', '1 mon -2 days')::snapshot_state $$;
SELECT es_create_reducer('snapshot_row', state_type => 'snapshot_state');
SELECT es_register_reducer('snapshot_row', '*', 'snapshot_row(snapshot_state, es_event)');
SELECT es_replay_as('snapshot_a-2', NULL::snapshot_state, 'snapshot_row') AS before \gset
SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kolkata'; SET extra_float_digits = -10; SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape';
SELECT es_snapshot('snapshot_a-2', 'snapshot_row');
RESET datestyle; RESET timezone; RESET extra_float_digits; RESET intervalstyle; RESET bytea_output;
SELECT state_text FROM eventstore.snapshots WHERE reducer = 'snapshot_row';
SELECT es_replay_as('snapshot_a-2', NULL::snapshot_state, 'snapshot_row')::text = :'before' AS same;
CREATE FUNCTION snapshot_null(state numeric, event es_event) RETURNS numeric LANGUAGE sql AS $$ SELECT NULL::numeric $$;
SELECT es_create_reducer('snapshot_null', '7', 'numeric');
SELECT es_register_reducer('snapshot_null', '*', 'snapshot_null(numeric, es_event)');
SELECT es_snapshot('snapshot_a-2', 'snapshot_null');
SELECT version, state FROM es_replay('snapshot_a-2', 'snapshot_null');
-- a type that is made anew with other columns is another one
SELECT snapshot_versions('snapshot_row') IS NOT NULL AS there;
ALTER TYPE snapshot_state DROP ATTRIBUTE note;
ALTER TYPE snapshot_state ADD ATTRIBUTE note int;
CREATE OR REPLACE FUNCTION snapshot_row(state snapshot_state, event es_event) RETURNS snapshot_state
	LANGUAGE plpgsql AS $$ BEGIN RETURN ROW(coalesce(state.n, 0) + 1, NULL::timestamptz, NULL::float8, NULL::snapshot_color, NULL::bytea, NULL::interval, 7); END $$;
SELECT state->'n' AS n, state->'note' AS note FROM es_replay('snapshot_a-2', 'snapshot_row');

SELECT es_snapshot('snapshot_a-2', 'snapshot_row');
ALTER TYPE snapshot_state ADD ATTRIBUTE more int;
ALTER TYPE snapshot_color ADD VALUE 'blue';
SELECT es_snapshot('snapshot_a-2', 'snapshot_row');
SELECT count(DISTINCT fingerprint) FROM eventstore.snapshots WHERE reducer = 'snapshot_row';

-- what a stored state is must not depend on the session
CREATE FUNCTION snapshot_texts(state text[], data jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT state || (data->>'v') $$;
SELECT es_create_reducer('snapshot_texts', '[]', 'text[]');
SELECT es_register_reducer('snapshot_texts', '*', 'snapshot_texts(text[], jsonb)');
SELECT es_append_batch('snapshot_texts-1', '[{"type": "t", "data": {"v": "a"}}, {"type": "t"}]') AS version;
SELECT es_snapshot('snapshot_texts-1');
SET array_nulls = off;
SELECT state FROM es_replay('snapshot_texts-1');
RESET array_nulls;

-- what else makes a type, or a function, another one
CREATE TYPE snapshot_level AS ENUM ('low', 'high');
CREATE DOMAIN snapshot_sum AS numeric(10,2);
CREATE FUNCTION snapshot_greatest(state snapshot_level, data jsonb) RETURNS snapshot_level LANGUAGE sql AS $$ SELECT greatest(state, (data->>'v')::snapshot_level) $$;
CREATE FUNCTION snapshot_add(state snapshot_sum, data jsonb) RETURNS snapshot_sum LANGUAGE sql AS $$ SELECT 1.2345::snapshot_sum $$;
CREATE FUNCTION snapshot_first(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT a $$;
SELECT es_create_reducer('snapshot_level', 'null', 'snapshot_level'), es_create_reducer('snapshot_sum', 'null', 'snapshot_sum');
SELECT es_register_reducer('snapshot_level', '*', 'snapshot_greatest(snapshot_level, jsonb)'), es_register_reducer('snapshot_sum', '*', 'snapshot_add(snapshot_sum, jsonb)'),
	es_register_reducer('snapshot_first', '*', 'snapshot_first(jsonb, jsonb)');
SELECT es_append_batch('snapshot_level-1', '[{"type": "t", "data": {"v": "low"}}, {"type": "t", "data": {"v": "high"}}]') AS version;
SELECT es_snapshot('snapshot_level-1'), es_snapshot('snapshot_level-1', 'snapshot_sum'), es_snapshot('snapshot_level-1', 'snapshot_first');
SELECT l.state, s.state, f.state FROM es_replay('snapshot_level-1') l, es_replay('snapshot_level-1', 'snapshot_sum') s, es_replay('snapshot_level-1', 'snapshot_first') f;
SET client_min_messages = warning;
DROP TYPE snapshot_level CASCADE;
DROP DOMAIN snapshot_sum CASCADE;
DROP FUNCTION snapshot_first;
RESET client_min_messages;
CREATE TYPE snapshot_level AS ENUM ('high', 'low');
CREATE DOMAIN snapshot_sum AS numeric(10,4);
CREATE FUNCTION snapshot_greatest(state snapshot_level, data jsonb) RETURNS snapshot_level LANGUAGE sql AS $$ SELECT greatest(state, (data->>'v')::snapshot_level) $$;
CREATE FUNCTION snapshot_add(state snapshot_sum, data jsonb) RETURNS snapshot_sum LANGUAGE sql AS $$ SELECT 1.2345::snapshot_sum $$;
CREATE FUNCTION snapshot_first(b jsonb, a jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT a $$;
SELECT l.state, s.state, f.state FROM es_replay('snapshot_level-1') l, es_replay('snapshot_level-1', 'snapshot_sum') s, es_replay('snapshot_level-1', 'snapshot_first') f;

-- the same in a session with other settings
CREATE FUNCTION snapshot_body(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql
	RETURN state || jsonb_build_object('since', timestamp '2020-01-02 03:04:05', 'n', coalesce((state->>'n')::int, 0) + 1);
SELECT es_register_reducer('snapshot_body', '*', 'snapshot_body(jsonb, jsonb)');
SELECT es_snapshot('snapshot_level-1', 'snapshot_body');
SET datestyle = 'German'; SET quote_all_identifiers = on; SET timezone = 'Asia/Kolkata'; SET search_path = pg_catalog;
\c -
SET datestyle = 'German'; SET quote_all_identifiers = on;
SELECT es_append('snapshot_level-1', 't', '{"v": "low"}') AS version;
SELECT es_snapshot('snapshot_level-1', 'snapshot_body');
RESET datestyle; RESET quote_all_identifiers;
SELECT count(*), max(version) FROM eventstore.snapshots WHERE reducer = 'snapshot_body';

-- who may call no handler gets no state by a snapshot; and whoever is not the owner
-- leaves none that depends on a search_path
CREATE ROLE regress_snapshot_user;
CREATE SCHEMA snapshot_own AUTHORIZATION regress_snapshot_user;
SELECT es_grant('regress_snapshot_user', 'read', 'snapshot_level'), es_grant('regress_snapshot_user', 'admin', 'snapshot_level');
CREATE FUNCTION snapshot_total(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1) $$;
SELECT es_register_reducer('snapshot_total', '*', 'snapshot_total(jsonb, jsonb)'), es_snapshot_every('snapshot_total', 1);
SET ROLE regress_snapshot_user;
CREATE FUNCTION snapshot_own.plus(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1000000';
CREATE OPERATOR snapshot_own.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = snapshot_own.plus);
SET search_path = snapshot_own, pg_catalog, public;
SELECT state FROM es_replay('snapshot_level-1', 'snapshot_total');
SELECT state FROM es_replay_category('snapshot_level', 'snapshot_total');
SELECT es_snapshot('snapshot_level-1', 'snapshot_total');
RESET search_path;
RESET ROLE;
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'snapshot_total';
SELECT state FROM es_replay('snapshot_level-1', 'snapshot_total');
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'snapshot_total';
ALTER FUNCTION snapshot_total SET search_path = pg_catalog, pg_temp;
SET ROLE regress_snapshot_user;
SET search_path = snapshot_own, pg_catalog, public;
SELECT state FROM es_replay('snapshot_level-1', 'snapshot_total');
RESET search_path;
RESET ROLE;
SELECT count(DISTINCT fingerprint) FROM eventstore.snapshots WHERE reducer = 'snapshot_total';
REVOKE EXECUTE ON FUNCTION snapshot_total FROM PUBLIC;
SET ROLE regress_snapshot_user;
SELECT state FROM es_replay('snapshot_level-1', 'snapshot_total');
SELECT state FROM es_replay_category('snapshot_level', 'snapshot_total');
RESET ROLE;
DROP SCHEMA snapshot_own CASCADE;
DROP ROLE regress_snapshot_user;

-- as_of: a snapshot that is newer is not used
INSERT INTO es_events (stream, type, data, recorded_at) VALUES
	('snapshot_past-1', 't', '{"n": 1}', '2020-01-01 00:00Z'),
	('snapshot_past-1', 't', '{"n": 2}', '2020-01-02 00:00Z'),
	('snapshot_past-1', 't', '{"n": 3}', '2020-01-03 00:00Z');
SELECT state FROM es_replay('snapshot_past-1', 'snapshot_c', as_of => '2020-01-02 00:00Z');
SELECT state FROM es_replay('snapshot_past-1', 'snapshot_c');
SELECT version, state FROM es_replay('snapshot_past-1', 'snapshot_c', as_of => '2020-01-02 12:00Z');
SELECT version, state FROM es_replay('snapshot_past-1', 'snapshot_c', as_of => '2020-01-03 00:00Z');

-- errors
SELECT es_snapshot('snapshot_unknown-1');
SELECT es_snapshot_every('snapshot_unknown', 1);
SELECT es_drop_snapshots('snapshot_unknown');
SELECT es_snapshot_every('snapshot_c', 0);
\set VERBOSITY sqlstate
SELECT es_snapshot(NULL);
SELECT es_snapshot_every(NULL, 1);
SELECT es_drop_snapshots(NULL);
DELETE FROM eventstore.snapshots;
UPDATE eventstore.snapshot_policies SET every = 1;
\set VERBOSITY default

-- dropping a reducer drops its snapshots and its policy
SELECT count(es_drop_reducer(reducer)) FROM (SELECT DISTINCT reducer FROM es_reducers WHERE reducer LIKE 'snapshot%') r;
SELECT count(*) FROM eventstore.snapshots WHERE reducer LIKE 'snapshot%';
SELECT count(*) FROM eventstore.snapshot_policies WHERE every IS NOT NULL;
DROP FUNCTION snapshot_seen, snapshot_strict, snapshot_usable, snapshot_source, snapshot_versions, snapshot_row, snapshot_null,
	snapshot_texts, snapshot_greatest, snapshot_add, snapshot_first, snapshot_body, snapshot_total;
DROP TYPE snapshot_state, snapshot_color, snapshot_level;
DROP DOMAIN snapshot_sum;
