-- Replay: folding streams into states.

-- An order, folded by functions. The reducer has the name of the streams'
-- category, the part before the first dash.
CREATE TYPE replay_order AS (status text, items int, total numeric);

CREATE FUNCTION replay_opened(state replay_order, data jsonb) RETURNS replay_order
	LANGUAGE sql IMMUTABLE AS
$$ SELECT ROW('open', 0, 0)::public.replay_order $$;

CREATE FUNCTION replay_added(state replay_order, event es_event) RETURNS replay_order
	LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	state.items := state.items + 1;
	state.total := state.total + (event.data->>'price')::numeric;
	RETURN state;
END $$;

CREATE FUNCTION replay_closed(state replay_order, data jsonb) RETURNS replay_order
	LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF state.items = 0 THEN
		RAISE EXCEPTION 'an empty order cannot be closed'
			USING ERRCODE = 'P0004', DETAIL = 'It has no items.', HINT = 'Cancel it.';
	END IF;
	state.status := 'closed';
	RETURN state;
END $$;

SELECT es_create_reducer('replay_order', state_type => 'replay_order');
SELECT es_register_reducer('replay_order', 'opened', 'replay_opened(replay_order, jsonb)');
SELECT es_register_reducer('replay_order', 'added', 'replay_added(replay_order, es_event)');
SELECT es_register_reducer('replay_order', 'closed', 'replay_closed(replay_order, jsonb)');

SELECT es_append_batch('replay_order-1', '[
	{"type": "opened"},
	{"type": "added", "data": {"price": 7.50}},
	{"type": "viewed"},
	{"type": "added", "data": {"price": 12}},
	{"type": "closed"}]') AS version;
SELECT es_append_batch('replay_order-2', '[{"type": "opened"}, {"type": "closed"}]') AS version;
SELECT es_append('replay_order-3', 'opened') AS version;

SELECT stream, version, state FROM es_replay('replay_order-1');
SELECT * FROM es_replay_as('replay_order-1', NULL::replay_order);
SELECT (es_replay_as('replay_order-1', NULL::replay_order)).total;

-- position and recorded_at are those of the last event read
SELECT r.position = e.position AND r.recorded_at = e.recorded_at AS of_last_event
FROM es_replay('replay_order-1') r, es_read('replay_order-1', NULL, 1, true) e;

-- up to a version, inclusive; "viewed" has no handler, is ignored, and counts as read
SELECT version, state FROM es_replay('replay_order-1', until_version => 2);
SELECT version, state FROM es_replay('replay_order-1', until_version => 3);
SELECT version, state FROM es_replay('replay_order-1', until_version => 99);
SELECT version, state FROM es_replay_steps('replay_order-1');
SELECT version, state FROM es_replay_steps('replay_order-1', from_version => 4);
SELECT version, state FROM es_replay_steps('replay_order-1', from_version => 2, until_version => 3);

-- nothing to fold: no row, or NULL
SELECT * FROM es_replay('replay_order-none');
SELECT * FROM es_replay('replay_order-1', until_version => 0);
SELECT * FROM es_replay_steps('replay_order-1', until_version => 0);
SELECT * FROM es_replay_steps('replay_order-1', from_version => 6);
SELECT es_replay_as('replay_order-none', NULL::replay_order) IS NULL AS nothing;

-- a handler that raises: VE009 with the original error and the event
SELECT * FROM es_replay('replay_order-2');
DO $$
DECLARE
	state text; message text; detail text; hint text; context text;
BEGIN
	PERFORM es_replay('replay_order-2');
EXCEPTION WHEN SQLSTATE 'VE009' THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
	RAISE NOTICE E'% | % | % | %\n%', state, message, detail, hint, context;
END $$;

-- a cancelled query stays a cancelled query, a serialization failure one to retry
CREATE FUNCTION replay_raise(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE plpgsql AS $$ BEGIN RAISE 'raised' USING ERRCODE = data->>'code'; END $$;
SELECT es_register_reducer('replay_raise', '*', 'replay_raise(jsonb, jsonb)');
SELECT es_append('replay_raise-' || code, 'e', jsonb_build_object('code', code))
	FROM unnest('{57014,57P01,40001,22012,XX000}'::text[]) code;
\set VERBOSITY sqlstate
SELECT * FROM es_replay('replay_raise-57014');
SELECT * FROM es_replay('replay_raise-57P01');
SELECT * FROM es_replay('replay_raise-40001');
SELECT * FROM es_replay('replay_raise-22012');
SELECT * FROM es_replay('replay_raise-XX000');
\set VERBOSITY default

-- reducers that refuse unknown types
SELECT es_create_reducer('replay_strict', on_unknown => 'error');
SELECT * FROM es_replay('replay_order-1', 'replay_strict');

-- no such reducer
SELECT * FROM es_replay('replay_other-1');
SELECT * FROM es_replay('replay_order-1', 'replay_nobody');
SELECT * FROM es_replay_category('replay_other');
\set VERBOSITY sqlstate
SELECT * FROM es_replay_steps('replay_other-1');
SELECT es_replay_as('replay_other-1', NULL::jsonb);

-- arguments
SELECT * FROM es_replay(NULL);
SELECT * FROM es_replay('');
SELECT * FROM es_replay('replay_order-1', until_version => -1);
SELECT * FROM es_replay_steps('replay_order-1', from_version => -1);
SELECT * FROM es_replay_category(NULL);
\set VERBOSITY default
SELECT es_replay_as('replay_order-1', NULL::jsonb);
SELECT es_replay_as('replay_order-1', 0, 'merge');

-- as of a time, inclusive; recorded_at is given here as an import gives it
INSERT INTO es_events (stream, type, data, recorded_at) VALUES
	('replay_past-1', 'set', '{"v": 1}', '2020-01-01 00:00Z'),
	('replay_past-1', 'set', '{"v": 2}', '2020-01-02 00:00Z'),
	('replay_past-2', 'set', '{"v": 3}', '2020-01-02 00:00Z'),
	('replay_past-1', 'set', '{"v": 4}', '2020-01-03 00:00Z');
SELECT version, state FROM es_replay('replay_past-1', 'merge', as_of => '2019-12-31 23:59:59.999999Z');
SELECT version, state FROM es_replay('replay_past-1', 'merge', as_of => '2020-01-01 00:00Z');
SELECT version, state FROM es_replay('replay_past-1', 'merge', as_of => '2020-01-02 23:59Z');
SELECT version, state FROM es_replay('replay_past-1', 'merge', as_of => '2020-01-03 00:00Z');
SELECT version, state FROM es_replay('replay_past-1', 'merge', as_of => 'infinity');
SELECT version, state FROM es_replay('replay_past-1', 'merge', until_version => 1, as_of => '2020-01-03 00:00Z');
SELECT es_replay_as('replay_past-1', NULL::jsonb, 'merge', as_of => '2020-01-02 00:00Z');

-- a category: one row a stream
SELECT stream, version, state FROM es_replay_category('replay_past', 'merge') ORDER BY stream;
SELECT stream, version, state FROM es_replay_category('replay_past', 'merge', '2020-01-01 00:00Z') ORDER BY stream;
SELECT stream, version, state FROM es_replay_category('replay_past', 'count', '2020-01-02 00:00Z') ORDER BY stream;
SELECT * FROM es_replay_category('replay_nothing', 'merge');
SELECT stream, version, state FROM es_replay_category('replay_order') ORDER BY stream;

-- built-in reducers
SELECT es_append_batch('replay_doc-1', '[
	{"type": "a", "data": {"name": "x", "address": {"city": "Bern", "zip": 3000}, "tags": [1, 2]}},
	{"type": "b", "data": {"address": {"city": null, "street": "Hauptgasse"}, "tags": [3]}, "metadata": {"by": "me"}}]') AS version;
SELECT state FROM es_replay('replay_doc-1', 'merge');
SELECT state FROM es_replay('replay_doc-1', 'merge_patch');
SELECT state FROM es_replay('replay_doc-1', 'count');
SELECT state - 'event_id' - 'recorded_at' - 'position' AS state FROM es_replay('replay_doc-1', 'last');
SELECT (state->>'recorded_at')::timestamptz = recorded_at AND state->>'recorded_at' LIKE '%+00:00' AS in_utc,
	(state->>'position')::bigint = position AS position
FROM es_replay('replay_doc-1', 'last');
SELECT version, state FROM es_replay_steps('replay_doc-1', 'merge');
SELECT type, data, metadata FROM es_replay_as('replay_doc-1', NULL::es_new_event, 'last');

-- merge is shallow and lays data over state; what is no object takes the state's place
SELECT es_append_batch('replay_doc-2', '[
	{"type": "e", "data": {"a": 1}}, {"type": "e", "data": [1, 2]}, {"type": "e", "data": {"b": 2}},
	{"type": "e", "data": "text"}, {"type": "e", "data": null}, {"type": "e", "data": {"c": 3, "d": null}}]') AS version;
SELECT version, state FROM es_replay_steps('replay_doc-2', 'merge');
SELECT version, state FROM es_replay_steps('replay_doc-2', 'merge_patch');

-- RFC 7396, appendix A: the original as first event, the patch as second.
-- Number 13 is missing: its original {"e": null} is no state that patches can make.
CREATE TEMP TABLE replay_rfc (n int, original jsonb, patch jsonb, result jsonb);
INSERT INTO replay_rfc VALUES
	(1, '{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
	(2, '{"a":"b"}', '{"b":"c"}', '{"a":"b", "b":"c"}'),
	(3, '{"a":"b"}', '{"a":null}', '{}'),
	(4, '{"a":"b", "b":"c"}', '{"a":null}', '{"b":"c"}'),
	(5, '{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
	(6, '{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
	(7, '{"a":{"b":"c"}}', '{"a":{"b":"d", "c":null}}', '{"a":{"b":"d"}}'),
	(8, '{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
	(9, '["a","b"]', '["c","d"]', '["c","d"]'),
	(10, '{"a":"b"}', '["c"]', '["c"]'),
	(11, '{"a":"foo"}', 'null', 'null'),
	(12, '{"a":"foo"}', '"bar"', '"bar"'),
	(14, '[1,2]', '{"a":"b", "c":null}', '{"a":"b"}'),
	(15, '{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}');
SELECT count(es_append('replay_rfc-' || n, 'original', original)) AS appended FROM replay_rfc;
SELECT count(es_append('replay_rfc-' || n, 'patch', patch)) AS appended FROM replay_rfc;
SELECT n, original, patch, state, state = result AS ok
FROM replay_rfc, es_replay('replay_rfc-' || n, 'merge_patch') ORDER BY n;

-- a state that a merge leaves is what the server itself would write
SELECT count(es_append('replay_wide-1', 'e', jsonb_build_object(
	'k' || i * 7919 % 400, repeat(chr(97 + i % 26), 60), 'n' || i % 13, i, 'o', jsonb_build_object('i', i), 'b', i % 2 = 0)))
	FROM generate_series(1, 1000) i;
SELECT pg_column_size(state) > 20000 AS wide, state = state::text::jsonb AS equal,
	jsonb_hash(state) = jsonb_hash(state::text::jsonb) AS same_hash,
	pg_column_size(state) = pg_column_size(state::text::jsonb) AS same_size,
	(SELECT count(*) FROM jsonb_object_keys(state)) AS keys
FROM es_replay('replay_wide-1', 'merge');
CREATE FUNCTION replay_concat(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'jsonb_concat';
SELECT es_register_reducer('replay_concat', '*', 'replay_concat(jsonb, jsonb)');
SELECT bool_and(a.state = b.state AND a.version = b.version) AS equal, count(*)
FROM es_replay_steps('replay_wide-1', 'merge') a JOIN es_replay_steps('replay_wide-1', 'replay_concat') b USING (version);

-- states start as initial says
CREATE FUNCTION replay_show_text(state text, data jsonb) RETURNS text
	LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce(state, 'NULL') || '+' $$;
CREATE FUNCTION replay_show_jsonb(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_build_array(coalesce(state::text, 'NULL')) $$;
CREATE FUNCTION replay_add(state int, data jsonb) RETURNS int
	LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce(state, 0) + 1 $$;
CREATE FUNCTION replay_push(state int[], event es_event) RETURNS int[]
	LANGUAGE sql IMMUTABLE AS $$ SELECT state || event.version::int $$;
SELECT es_create_reducer('replay_text', state_type => 'text');
SELECT es_create_reducer('replay_text2', '"start"', 'text');
SELECT es_create_reducer('replay_jsonb', NULL);
SELECT es_create_reducer('replay_jsonb2', 'null');
SELECT es_create_reducer('replay_int', '41', 'int');
SELECT es_create_reducer('replay_array', '[7, 8]', 'int[]');
SELECT es_register_reducer('replay_text', '*', 'replay_show_text(text, jsonb)');
SELECT es_register_reducer('replay_text2', '*', 'replay_show_text(text, jsonb)');
SELECT es_register_reducer('replay_jsonb', '*', 'replay_show_jsonb(jsonb, jsonb)');
SELECT es_register_reducer('replay_jsonb2', '*', 'replay_show_jsonb(jsonb, jsonb)');
SELECT es_register_reducer('replay_int', '*', 'replay_add(int, jsonb)');
SELECT es_register_reducer('replay_array', '*', 'replay_push(int[], es_event)');
SELECT reducer, state FROM unnest('{replay_text,replay_text2,replay_jsonb,replay_jsonb2,replay_int,replay_array}'::text[]) reducer,
	es_replay('replay_order-3', reducer);
SELECT es_replay_as('replay_order-1', NULL::int, 'replay_int') AS int,
	es_replay_as('replay_order-1', NULL::int[], 'replay_array') AS array;

-- NULL states: a STRICT handler is not called with one and leaves it as it is
CREATE FUNCTION replay_null(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION replay_if_any(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT state || '{"strict": true}' $$;
CREATE FUNCTION replay_anew(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce(state, '{"anew": true}') $$;
SELECT es_register_reducer('replay_nulls', 'null', 'replay_null(jsonb, jsonb)');
SELECT es_register_reducer('replay_nulls', 'strict', 'replay_if_any(jsonb, jsonb)');
SELECT es_register_reducer('replay_nulls', 'anew', 'replay_anew(jsonb, jsonb)');
SELECT es_append_batch('replay_nulls-1', '[{"type": "strict"}, {"type": "null"}, {"type": "strict"}, {"type": "anew"}, {"type": "strict"}]') AS version;
SELECT version, state FROM es_replay_steps('replay_nulls-1');

-- jsonb states as rows: members over the row given
SELECT es_replay_as('replay_doc-1', NULL::replay_order, 'merge') IS NULL AS all_null;
SELECT * FROM es_replay_as('replay_past-1', ROW('kept', 1, 2)::replay_order, 'merge');

-- an uncommitted event of one's own is folded
BEGIN;
SELECT es_append('replay_past-1', 'set', '{"v": 5}') AS version;
SELECT version, state FROM es_replay('replay_past-1', 'merge');
ROLLBACK;
SELECT version, state FROM es_replay('replay_past-1', 'merge');

-- CREATE OR REPLACE of a handler takes effect at once, also within a transaction
CREATE FUNCTION replay_changing(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql AS $$ SELECT '"old"'::jsonb $$;
SELECT es_register_reducer('replay_changing', '*', 'replay_changing(jsonb, jsonb)');
BEGIN;
SELECT state FROM es_replay('replay_doc-1', 'replay_changing');
CREATE OR REPLACE FUNCTION replay_changing(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE plpgsql AS $$ BEGIN RETURN '"new"'::jsonb; END $$;
SELECT state FROM es_replay('replay_doc-1', 'replay_changing');
ROLLBACK;
SELECT state FROM es_replay('replay_doc-1', 'replay_changing');

-- a handler that was dropped, and one made again
DROP FUNCTION replay_changing;
SELECT state FROM es_replay('replay_doc-1', 'replay_changing');
CREATE FUNCTION replay_changing(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql AS $$ SELECT '"again"'::jsonb $$;
SELECT state FROM es_replay('replay_doc-1', 'replay_changing');
DROP FUNCTION replay_changing;
CREATE FUNCTION replay_changing(state jsonb, data jsonb) RETURNS text
	LANGUAGE sql AS $$ SELECT 'text' $$;
SELECT state FROM es_replay('replay_doc-1', 'replay_changing');

-- one that drops itself, and one that changes its reducer while it runs
CREATE FUNCTION replay_suicide(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE plpgsql AS $$ BEGIN DROP FUNCTION replay_suicide; RETURN '1'; END $$;
SELECT es_register_reducer('replay_suicide', '*', 'replay_suicide(jsonb, jsonb)');
BEGIN;
SELECT version, state FROM es_replay('replay_doc-1', 'replay_suicide', until_version => 1);
ROLLBACK;
SELECT version, state FROM es_replay('replay_doc-1', 'replay_suicide');
CREATE FUNCTION replay_drop(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE plpgsql AS $$ BEGIN
	IF event.version = 1 THEN PERFORM es_drop_reducer('replay_drop'); END IF;
	RETURN state || jsonb_build_object('at', event.version);
END $$;
SELECT es_register_reducer('replay_drop', '*', 'replay_drop(jsonb, es_event)');
SELECT version, state FROM es_replay('replay_doc-1', 'replay_drop');
\set VERBOSITY sqlstate
SELECT version, state FROM es_replay('replay_doc-1', 'replay_drop');
\set VERBOSITY default

-- handlers that replay themselves; the error of an inner one comes out once
CREATE FUNCTION replay_inner(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE plpgsql AS $$
DECLARE
	other jsonb;
BEGIN
	SELECT r.state FROM public.es_replay(event.data->>'stream', event.data->>'reducer') r INTO other;
	RETURN state || jsonb_build_object(event.version::text, other);
END $$;
SELECT es_register_reducer('replay_inner', '*', 'replay_inner(jsonb, es_event)');
SELECT es_append_batch('replay_inner-1', '[
	{"type": "e", "data": {"stream": "replay_past-1", "reducer": "merge"}},
	{"type": "e", "data": {"stream": "replay_order-1"}},
	{"type": "e", "data": {"stream": "replay_order-2"}}]') AS version;
SELECT version, state FROM es_replay('replay_inner-1', until_version => 2);
SELECT version, state FROM es_replay('replay_inner-1');

-- handlers that append, to the very stream too: what is folded is the stream as it was at the call
CREATE FUNCTION replay_append(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE plpgsql AS $$
BEGIN
	RETURN state || jsonb_build_object(event.version::text, public.es_append(event.stream, 'echo'));
END $$;
SELECT es_register_reducer('replay_append', '*', 'replay_append(jsonb, es_event)');
SELECT es_append_batch('replay_append-1', '[{"type": "e"}, {"type": "e"}]') AS version;
SELECT version, state FROM es_replay('replay_append-1');
SELECT stream, version, state FROM es_replay_category('replay_append');
SELECT es_stream_version('replay_append-1');

-- states larger than a jsonb can be
SELECT es_create_reducer('replay_huge', jsonb_build_object('a', repeat('x', 50000000)));
SELECT es_register_reducer_ops('replay_huge', 'set', '{"set": {"a": ["$.state.a", "$.state.a"]}}');
SELECT version, length(state->>'a') FROM es_replay('replay_past-1', 'replay_huge', until_version => 1);
SELECT version FROM es_replay('replay_past-1', 'replay_huge');

-- handlers run as the caller, who needs EXECUTE on them, and 'read'
CREATE FUNCTION replay_who(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql AS $$ SELECT to_jsonb(current_user::text) $$;
CREATE SCHEMA replay_hidden;
ALTER FUNCTION replay_who SET SCHEMA replay_hidden;
SELECT es_register_reducer('replay_who', '*', 'replay_hidden.replay_who(jsonb, jsonb)');
CREATE ROLE regress_replay_user;
SELECT es_grant('regress_replay_user', 'read', 'replay_doc');
SET ROLE regress_replay_user;
SELECT state FROM es_replay('replay_doc-1', 'replay_who');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION replay_hidden.replay_who FROM PUBLIC;
SET ROLE regress_replay_user;
SELECT state FROM es_replay('replay_doc-1', 'replay_who');
RESET ROLE;
DROP ROLE regress_replay_user;

-- a hostile search_path changes nothing
CREATE SCHEMA replay_hostile;
CREATE TYPE replay_hostile.replay_order AS (wrong int);
CREATE DOMAIN replay_hostile.jsonb AS text;
CREATE TYPE replay_hostile.es_event AS (wrong int);
CREATE FUNCTION replay_hostile.replay_opened(state public.replay_order, data pg_catalog.jsonb) RETURNS public.replay_order
	LANGUAGE sql AS $$ SELECT 'hostile', 0, 0.0 $$;
CREATE FUNCTION replay_hostile.jsonb_concat(pg_catalog.jsonb, pg_catalog.jsonb) RETURNS pg_catalog.jsonb
	LANGUAGE sql AS $$ SELECT '0'::pg_catalog.jsonb $$;
CREATE FUNCTION replay_hostile.eq(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR replay_hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = replay_hostile.eq);
SET search_path = replay_hostile, pg_temp, pg_catalog, public;
SELECT public.es_create_reducer('replay_hostile', state_type => 'public.replay_order');
SELECT public.es_register_reducer('replay_hostile', 'opened', 'public.replay_opened(public.replay_order, pg_catalog.jsonb)');
SELECT version, state FROM public.es_replay('replay_order-1');
SELECT version, state FROM public.es_replay('replay_order-3', 'replay_hostile');
SELECT event_type, handler, state_type FROM public.es_reducers
	WHERE reducer OPERATOR(pg_catalog.=) 'replay_hostile';
SELECT * FROM public.es_replay_as('replay_order-1', NULL::public.replay_order);
RESET search_path;
DROP SCHEMA replay_hostile CASCADE;

-- event types of any kind find their handler
CREATE FUNCTION replay_specific(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT state || jsonb_build_object(event.type, 'specific') $$;
CREATE FUNCTION replay_fallback(state jsonb, event es_event) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT state || jsonb_build_object(event.type, 'fallback') $$;
SELECT es_register_reducer('replay_types', '*', 'replay_fallback(jsonb, es_event)');
SELECT es_register_reducer('replay_types', t, 'replay_specific(jsonb, es_event)') FROM unnest('{a,b,aa,bb,ccc,"with space",*x}'::text[]) t;
SELECT count(es_append('replay_types-1', t)) FROM unnest('{a,b,c,aa,ab,bb,ccc,"with space",*x,*}'::text[]) t;
SELECT jsonb_pretty(state) FROM es_replay('replay_types-1');

-- clean up
SELECT count(es_drop_reducer(reducer)) AS dropped
FROM (SELECT DISTINCT reducer FROM es_reducers WHERE reducer LIKE 'replay%') r;
SET client_min_messages = warning;
DROP SCHEMA replay_hidden CASCADE;
DROP TYPE replay_order CASCADE;
DROP FUNCTION replay_raise, replay_concat, replay_show_text, replay_show_jsonb, replay_add, replay_push,
	replay_null, replay_if_any, replay_anew, replay_changing, replay_suicide, replay_drop, replay_inner,
	replay_specific, replay_fallback, replay_append;
