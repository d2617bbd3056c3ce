--
-- Projections: read models kept up to date.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
-- positions are shown as seen from here
SELECT es_settled_position() AS start \gset

-- a state for each stream, in the append's own transaction
SELECT es_create_projection('carts', 'merge', 'inline', 'projection_cart');
BEGIN;
SELECT es_append('projection_cart-1', 'Opened', '{"customer": "ann"}'), es_append('projection_cart-2', 'Opened', '{"customer": "bob"}');
SELECT es_append('projection_other-1', 'Noise');
SELECT key, version, position - :start AS position, state FROM es_projection('carts');
ROLLBACK;
SELECT count(*) FROM es_projection('carts');
SELECT es_settled_position() AS start \gset
SELECT es_append('projection_cart-1', 'Opened', '{"customer": "ann"}'), es_append('projection_cart-2', 'Opened', '{"customer": "bob"}');
SELECT es_append_batch('projection_cart-1', '[{"type": "Filled", "data": {"items": 2}}, {"type": "Paid", "data": {"paid": true}}]');
SELECT key, version, position - :start AS position, state FROM es_projection('carts');
SELECT state ->> 'customer' AS customer FROM es_projection('carts', 'projection_cart-2');
SELECT count(*) FROM es_projection('carts', 'projection_cart-9');
SELECT projection, mode, status, position - :start AS position, lag, error, rebuild_position FROM es_projections WHERE projection = 'carts';

-- whichever way events come; a retry is not taken in twice
SELECT es_append('projection_cart-3', 'Opened', '{"customer": "cyd"}', event_id => '00000000-0000-4000-8000-000000000001');
SELECT es_append('projection_cart-3', 'Opened', '{"customer": "cyd"}', event_id => '00000000-0000-4000-8000-000000000001');
SELECT count(*) FROM es_append_many('[{"stream": "projection_cart-4", "type": "Opened"}, {"stream": "projection_cart-1", "type": "Sent", "data": {"sent": 1}}]');
SELECT es_append_if('[{"stream": "projection_cart-5", "type": "Opened"}]', es_settled_position()) IS NOT NULL AS appended;
SELECT es_append_events('projection_cart-5', ARRAY[ROW('Filled', '{"items": 1}', NULL, NULL)::es_new_event]);
INSERT INTO es_events (stream, type, data) SELECT 'projection_cart-' || n, 'Opened', '{}' FROM generate_series(5, 7) n;
COPY es_events (stream, type, data) FROM stdin;
projection_cart-7	Filled	{"items": 3}
projection_cart-8	Opened	{"customer": "dan"}
\.
SELECT key, version, state FROM es_projection('carts');

-- what was there before is taken in when a projection is created; a key may span streams
SELECT es_create_reducer('projection_spent', '{"spent": 0}');
CREATE FUNCTION projection_spend(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
	RETURN jsonb_set(state, '{spent}', to_jsonb((state ->> 'spent')::numeric + (data ->> 'total')::numeric));
SELECT es_register_reducer('projection_spent', 'Bought', 'projection_spend(jsonb, jsonb)');
SELECT es_append('projection_order-1', 'Bought', '{"who": "ann", "total": 5}'), es_append('projection_order-2', 'Bought', '{"who": "bob", "total": 7}');
SELECT es_create_projection('spent', 'projection_spent', 'inline', 'projection_order', '$.data.who');
SELECT es_append('projection_order-3', 'Bought', '{"who": "ann", "total": 2.5}'), es_append('projection_order-4', 'Looked', '{"who": "ann"}');
-- keys are text; no item, or null, is no key
SELECT es_append('projection_order-5', 'Bought', '{"who": 42, "total": 1}'), es_append('projection_order-5', 'Bought', '{"who": true, "total": 1}'),
	es_append('projection_order-6', 'Bought', '{"who": null, "total": 1}'), es_append('projection_order-6', 'Bought', '{"total": 1}');
SELECT key, version, state FROM es_projection('spent');

-- what fails inline fails the append
SELECT es_append('projection_order-7', 'Bought', '{"who": "ann", "total": "much"}');
SELECT es_append('projection_order-7', 'Bought', '{"who": ["ann"], "total": 1}');
SELECT es_stream_version('projection_order-7');
SELECT version, state FROM es_projection('spent', 'ann');

-- states of another type
CREATE TYPE projection_tally AS (n int, weight float8, last date);
CREATE FUNCTION projection_count(state projection_tally, event es_event) RETURNS projection_tally LANGUAGE sql
	RETURN ROW(coalesce(state.n, 0) + 1, coalesce(state.weight, 0) + (event.data ->> 'weight')::float8, (event.data ->> 'day')::date)::projection_tally;
SELECT es_create_reducer('projection_tally', state_type => 'projection_tally');
SELECT es_register_reducer('projection_tally', '*', 'projection_count(projection_tally, es_event)');
SELECT es_create_projection('tallies', 'projection_tally', 'inline', 'projection_parcel');
SET DateStyle = 'SQL, DMY';
SELECT es_append('projection_parcel-1', 'Weighed', '{"weight": 0.1, "day": "2024-03-01"}');
SET DateStyle = 'SQL, MDY';
SET extra_float_digits = 0;
SELECT es_append('projection_parcel-1', 'Weighed', '{"weight": 0.2, "day": "2024-03-02"}');
RESET extra_float_digits;
RESET DateStyle;
SELECT key, version, state FROM es_projection('tallies');
-- whose type changes: what is stored would be read as something else
CREATE OR REPLACE FUNCTION projection_count(state projection_tally, event es_event) RETURNS projection_tally LANGUAGE plpgsql
	AS $$BEGIN RETURN ROW(coalesce(state.n, 0) + 1, (event.data ->> 'day')::date, (event.data ->> 'height')::float8)::projection_tally; END$$;
ALTER TYPE projection_tally DROP ATTRIBUTE weight, ADD ATTRIBUTE height float8;
SELECT es_append('projection_parcel-1', 'Weighed', '{"height": 1, "day": "2024-03-03"}');
SELECT es_rebuild_projection('tallies');
SELECT es_run_projection('tallies') >= 0 AS ran;
SELECT es_wait_projection('tallies', es_last_position(), '10s');
SELECT es_append('projection_parcel-1', 'Measured', '{"height": 1, "day": "2024-03-03"}');
SELECT key, version, state FROM es_projection('tallies');
-- its jsonb does not depend on the session, either
CREATE FUNCTION projection_when(state timestamptz, event es_event) RETURNS timestamptz LANGUAGE sql RETURN (event.data ->> 'at')::timestamptz;
SELECT es_create_reducer('projection_when', state_type => 'timestamptz');
SELECT es_register_reducer('projection_when', '*', 'projection_when(timestamptz, es_event)');
SELECT es_create_projection('whens', 'projection_when', 'inline', 'projection_visit');
SET TimeZone = 'Asia/Tokyo';
SELECT es_append('projection_visit-1', 'Came', '{"at": "2024-03-01T00:00:00Z"}');
RESET TimeZone;
SELECT state FROM es_projection('whens');
-- numbers that are equal are one key
SELECT es_create_projection('numbers', 'count', 'inline', 'projection_visit', '$.data.k');
SELECT es_append('projection_visit-1', 'Saw', '{"at": "now", "k": 1}'), es_append('projection_visit-1', 'Saw', '{"at": "now", "k": 1.0}'), es_append('projection_visit-1', 'Saw', '{"at": "now", "k": 1e2}');
SELECT key, version FROM es_projection('numbers');

-- keys, reducers and handlers see the newest form of events
SELECT es_register_upcaster_ops('ProjectionMoved', 1, '[{"set": {"to": "$.data.dest"}}, {"unset": ["dest"]}]');
SELECT es_create_projection('moves', 'merge', 'inline', 'projection_move', '$.data.to');
SELECT es_append('projection_move-1', 'ProjectionMoved', '{"dest": "x"}', type_version => 1);
SELECT key, version, state FROM es_projection('moves');
CREATE FUNCTION projection_tell(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'version % of %: %', event.type_version, event.type, event.data;
END
$$;
SELECT es_create_handler_projection('told', 'projection_tell(es_event)', 'inline', '{projection_move}');

-- asynchronously: by the worker, or by hand
SELECT es_create_projection('late_carts', 'count', category => 'projection_cart');
SELECT es_run_projection('late_carts') >= 0 AS ran;
SELECT es_wait_projection('late_carts', es_last_position(), '10s');
SELECT count(*), sum(version), bool_and(version = (state ->> 'count')::bigint) FROM es_projection('late_carts');
SELECT es_append('projection_cart-1', 'Closed');
BEGIN;
SELECT es_append('projection_cart-1', 'Open again');
SELECT es_run_projection('late_carts') >= 0 AS ran;	-- not what this transaction has appended
SELECT version, state FROM es_projection('late_carts', 'projection_cart-1');
COMMIT;
SELECT es_run_projection('late_carts') >= 0 AS ran;
SELECT version, state FROM es_projection('late_carts', 'projection_cart-1');
SELECT es_run_projection('late_carts'), es_run_projection('late_carts', 0);
SELECT status, lag FROM es_projections WHERE projection = 'late_carts';

-- a handler writes tables of its own, as the one who created the projection
CREATE TABLE projection_log (position bigint PRIMARY KEY, stream text, by_whom text);
CREATE FUNCTION projection_note(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF event.data ? 'bad' THEN
		RAISE EXCEPTION 'cannot note this' USING DETAIL = 'It is bad.', ERRCODE = '22012';
	END IF;
	INSERT INTO projection_log VALUES (event.position, event.stream, current_user);
END
$$;
CREATE FUNCTION projection_forget() RETURNS void LANGUAGE sql AS 'DELETE FROM projection_log';
SELECT es_create_handler_projection('log', 'projection_note(es_event)', categories => '{projection_cart,projection_order}',
	types => '{Opened,Bad}', reset => 'projection_forget()');
SELECT es_run_projection('log') >= 0 AS ran;
SELECT count(*), count(DISTINCT by_whom) FROM projection_log;
SELECT * FROM es_projection('log');

-- one that fails stops there, and goes on when told to leave the event out
SELECT es_append('projection_cart-9', 'Opened'), es_append('projection_cart-9', 'Bad', '{"bad": true}'), es_append('projection_cart-10', 'Opened');
SET client_min_messages = error;	-- there is a WARNING, which names the position
SELECT es_run_projection('log') >= 0 AS ran;
RESET client_min_messages;
SELECT status, es_last_position() - error_position AS behind, split_part(error, E'\nCONTEXT', 1) AS error,
	error LIKE '%CONTEXT:  PL/pgSQL function%projection "log", stream "projection_cart-9", version 2, type "Bad"' AS context
	FROM es_projections WHERE projection = 'log';
SELECT stream FROM projection_log ORDER BY position DESC LIMIT 1;
SELECT es_skip_event('log', 1);
SELECT es_skip_event('log', error_position) FROM es_projections WHERE projection = 'log';
SELECT es_run_projection('log') >= 0 AS ran;
SELECT es_wait_projection('log', es_last_position(), '10s');
SELECT status, lag, error, error_position FROM es_projections WHERE projection = 'log';
SELECT stream FROM projection_log ORDER BY position DESC LIMIT 1;
SELECT es_last_position() - s.position AS behind, skipped_by = current_user AS by_me, split_part(error, E'\n', 1) AS error
	FROM eventstore.projection_skips s;

-- in parts; folding by key meets a later failure first, and still stops at the first
CREATE FUNCTION projection_fussy(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF data ? 'bad' THEN
		RAISE EXCEPTION 'bad: %', data ->> 'n';
	END IF;
	RETURN state || data;
END
$$;
SELECT es_register_reducer('projection_fussy', '*', 'projection_fussy(jsonb, jsonb)');
SELECT es_append('projection_fuss-' || stream, 'T', data::jsonb) FROM (VALUES ('a', '{"n": 1}'), ('b', '{"n": 2}'), ('b', '{"n": 3, "bad": 1}'),
	('a', '{"n": 4}'), ('a', '{"n": 5, "bad": 1}'), ('c', '{"n": 6}')) v (stream, data);
SELECT es_last_position() - 6 AS start \gset
SELECT es_create_projection('fussy', 'projection_fussy', 'inline', 'projection_fuss');
BEGIN;
SELECT es_create_projection('fussy', 'projection_fussy', category => 'projection_fuss');
SELECT es_run_projection('fussy', 1);
SELECT key, version, state FROM es_projection('fussy');
SET LOCAL client_min_messages = error;
SELECT es_run_projection('fussy');
SELECT error_position - :start AS failed_at, split_part(error, E'\n', 1) AS error FROM es_projections WHERE projection = 'fussy';
SELECT key, version, position - :start AS position, state FROM es_projection('fussy');
SELECT es_run_projection('fussy');
SELECT attempts FROM eventstore.projection_progress WHERE error IS NOT NULL;
SELECT es_skip_event('fussy', :start + 3);
SET LOCAL eventstore.projection_batch = 1;
SELECT es_run_projection('fussy');
SELECT error_position - :start AS failed_at, split_part(error, E'\n', 1) AS error FROM es_projections WHERE projection = 'fussy';
SELECT es_skip_event('fussy', :start + 5);
SELECT es_run_projection('fussy');
SELECT key, version, position - :start AS position, state FROM es_projection('fussy');
-- what is left out stays out; a rebuild does not stop there
SELECT es_rebuild_projection('fussy');
SELECT es_run_projection('fussy', 2);
SELECT status, rebuild_position - :start AS rebuild_position FROM es_projections WHERE projection = 'fussy';
SELECT es_run_projection('fussy');
SELECT status, rebuild_position FROM es_projections WHERE projection = 'fussy';
SELECT key, version, position - :start AS position, state FROM es_projection('fussy');
ROLLBACK;

-- rebuilt beside the live one
CREATE OR REPLACE FUNCTION projection_spend(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
	RETURN state || jsonb_build_object('spent', (state ->> 'spent')::numeric + (data ->> 'total')::numeric, 'buys', coalesce((state ->> 'buys')::int, 0) + 1);
SELECT es_rebuild_projection('spent'), es_rebuild_projection('log'), es_rebuild_projection('late_carts');
SELECT es_run_projection('spent') >= 0 AS ran, es_run_projection('log') >= 0 AS ran, es_run_projection('late_carts') >= 0 AS ran;
SELECT key, version, state FROM es_projection('spent');
SELECT es_append('projection_order-3', 'Bought', '{"who": "ann", "total": 2}');
SELECT version, state FROM es_projection('spent', 'ann');
SELECT projection, status, rebuild_position FROM es_projections WHERE projection IN ('spent', 'log', 'late_carts') ORDER BY 1;
SELECT count(*) FROM projection_log;
SELECT count(*), sum(version) FROM es_projection('late_carts');
-- what an inline one has left behind is deleted later, while appends go on
BEGIN;
SELECT es_rebuild_projection('tallies');
SELECT es_run_projection('tallies') >= 0 AS ran;
SELECT count(DISTINCT generation) FROM eventstore.projection_states JOIN eventstore.projections USING (projection_id) WHERE name = 'tallies';
SELECT es_run_projection('tallies') >= 0 AS ran;
SELECT count(DISTINCT generation) FROM eventstore.projection_states JOIN eventstore.projections USING (projection_id) WHERE name = 'tallies';
ROLLBACK;
SELECT es_run_projection('spent') >= 0 AS ran, es_run_projection('tallies') >= 0 AS ran;
SELECT count(DISTINCT generation) FROM eventstore.projection_states GROUP BY projection_id;

-- the end of a rebuild that needs all to be settled does not come in a transaction that has appended
BEGIN;
SELECT es_rebuild_projection('log'), es_rebuild_projection('spent');
SELECT es_append('projection_cart-11', 'Opened');
SET LOCAL client_min_messages = notice;
SELECT es_run_projection('log') >= 0 AS ran;
SELECT es_run_projection('spent') >= 0 AS ran;
ROLLBACK;

-- what fails at no event in particular; long errors are cut
BEGIN;
CREATE FUNCTION projection_long(event es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE '%', repeat('x', 1000000); END$$;
SELECT es_create_handler_projection('long', 'projection_long(es_event)', types => '{Opened}');
SET LOCAL client_min_messages = error;
SELECT es_run_projection('long');
SELECT length(error) FROM es_projections WHERE projection = 'long';
DROP FUNCTION projection_long(es_event);
SET LOCAL client_min_messages = warning;
SELECT es_run_projection('long');
ROLLBACK;

-- refused
SELECT pg_temp.outcome($$SELECT es_create_projection('carts', 'merge')$$) AS exists_already,
	pg_temp.outcome($$SELECT es_create_projection('new', 'nonsense')$$) AS unknown_reducer,
	pg_temp.outcome($$SELECT es_create_projection('new', 'merge', 'sometimes')$$) AS mode,
	pg_temp.outcome($$SELECT es_create_projection('new', 'merge', key => '$.')$$) AS key,
	pg_temp.outcome($$SELECT es_create_projection('new', 'merge', NULL)$$) AS null_mode,
	pg_temp.outcome($$SELECT es_create_projection('new', NULL)$$) AS null_reducer,
	pg_temp.outcome($$SELECT es_create_projection(NULL, 'merge')$$) AS null_name,
	pg_temp.outcome($$SELECT es_create_projection('', 'merge')$$) AS empty_name,
	pg_temp.outcome($$SELECT es_create_projection('new', 'merge', category => '')$$) AS empty_category,
	pg_temp.outcome($$SELECT es_create_projection('new', 'merge', category => 'a-b')$$) AS no_category,
	pg_temp.outcome($$SELECT es_create_handler_projection('new', 'projection_note(es_event)', categories => '{a,a-b}')$$) AS nor_this;
SELECT pg_temp.outcome($$SELECT es_create_handler_projection('new', 'projection_forget()')$$) AS no_event,
	pg_temp.outcome($$SELECT es_create_handler_projection('new', 'projection_spend(jsonb, jsonb)')$$) AS two_arguments,
	pg_temp.outcome($$SELECT es_create_handler_projection('new', 'projection_note(es_event)', reset => 'projection_note(es_event)')$$) AS reset,
	pg_temp.outcome($$SELECT es_create_handler_projection('new', NULL)$$) AS null_handler,
	pg_temp.outcome($$SELECT es_create_handler_projection('new', 'projection_note(es_event)', categories => '{NULL}')$$) AS null_category;
SELECT pg_temp.outcome(format($$SELECT %s$$, call)) AS unknown FROM unnest(ARRAY['es_projection(''new'')', 'es_run_projection(''new'')',
	'es_wait_projection(''new'', 1, ''0'')', 'es_skip_event(''new'', 1)', 'es_rebuild_projection(''new'')', 'es_drop_projection(''new'')']) call;
SELECT pg_temp.outcome($$SELECT es_run_projection('log', -1)$$) AS negative, pg_temp.outcome($$SELECT es_wait_projection('log', 1, '-1s')$$) AS timeout,
	pg_temp.outcome($$SELECT es_skip_event('log', NULL)$$) AS null_position;
SELECT es_wait_projection('log', es_last_position() + 1000, '10ms');
BEGIN READ ONLY;
SELECT es_run_projection('log');
ROLLBACK;
BEGIN;
SELECT es_append('projection_cart-1', 'Opened');
SELECT es_create_projection('new', 'merge', 'inline');
ROLLBACK;
SELECT es_create_handler_projection('plain', 'projection_note(es_event)', categories => '{}');
SELECT es_rebuild_projection('plain');
SELECT es_drop_reducer('projection_spent');

-- a role that may make projections, but not call the handler
CREATE ROLE regress_projection;
SELECT es_grant('regress_projection', 'admin'), es_grant('regress_projection', 'read');
REVOKE EXECUTE ON FUNCTION projection_note(es_event) FROM PUBLIC;
SET ROLE regress_projection;
SELECT pg_temp.outcome($$SELECT es_create_handler_projection('theirs', 'projection_note(es_event)')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION projection_note(es_event) TO regress_projection;
-- it runs with its own rights, whoever runs it
SET ROLE regress_projection;
SELECT es_create_handler_projection('theirs', 'projection_note(es_event)', types => '{Opened}');
RESET ROLE;
SET client_min_messages = error;
SELECT es_run_projection('theirs');
RESET client_min_messages;
SELECT error LIKE 'permission denied for table projection_log%42501%' AS refused FROM es_projections WHERE projection = 'theirs';

SELECT count(es_drop_projection(projection)) FROM es_projections;
SELECT count(*) FROM eventstore.projection_states;
SELECT count(*) FROM eventstore.projection_progress;
SELECT count(*) FROM eventstore.projection_skips;
SELECT es_drop_reducer('projection_spent'), es_drop_reducer('projection_tally'), es_drop_reducer('projection_fussy'), es_drop_reducer('projection_when');
REVOKE ALL ON FUNCTION projection_note(es_event) FROM regress_projection;
DROP ROLE regress_projection;
DROP TABLE projection_log;
DROP FUNCTION projection_note(es_event), projection_forget(), projection_tell(es_event), projection_spend(jsonb, jsonb), projection_count(projection_tally, es_event), projection_fussy(jsonb, jsonb), projection_when(timestamptz, es_event);
DROP TYPE projection_tally;
