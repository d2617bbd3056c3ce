-- A segment that somebody detaches by hand: whoever needs one of its events is told so, and nobody is
-- given less in silence.  What needs none of them goes on.
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_detached;
\c regress_es_detached
CREATE EXTENSION eventstore;
SET client_min_messages = warning;
\pset format unaligned
\set VERBOSITY terse
SELECT es_set_segment_size(100);
SELECT es_register_upcaster_ops('L', 1, '"ignore"');
-- a-1 is in every segment; early-1 in the first, split-1 in the first and the third, late-1 in the fourth
SELECT es_append('early-1', 'E', '{"n": 1}');
SELECT es_append('split-1', 'S', '{"n": 1}', event_id => '0189ffff-0000-7000-8000-000000000001');
SELECT es_append_batch('a-1', (SELECT jsonb_agg('{"type": "A", "metadata": {"tags": ["red"]}}'::jsonb) FROM generate_series(1, 250)));
SELECT es_append('split-1', 'S', '{"n": 2}');
SELECT es_append_batch('a-1', (SELECT jsonb_agg('{"type": "A"}'::jsonb) FROM generate_series(1, 100)));
SELECT es_append('late-1', 'L', metadata => '{"tags": ["blue"]}');
SELECT es_subscribe('all', partitions => 2), es_subscribe('red', query => '[{"tags": ["red"]}]');
SELECT es_create_projection('counts', 'count');
SELECT es_settled_position();

-- the answer to everything, or the SQLSTATE
CREATE FUNCTION pg_temp.answer(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE 'SELECT string_agg(r::text, '';'') FROM (' || query || ') r' INTO answer;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE TEMP TABLE questions (id serial, query text);
INSERT INTO questions (query) VALUES
	('SELECT es_stream_version(s) FROM unnest(array[''a-1'', ''early-1'', ''split-1'', ''late-1'']) s'),
	('SELECT es_stream_version(''early-1'')'),
	('SELECT es_stream_version(''late-1'')'),
	('SELECT count(*), max(version) FROM es_read(''a-1'')'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 99)'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 1, 98)'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 1, 99)'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 198)'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 199)'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 350)'),
	('SELECT count(*), max(version) FROM es_read(''a-1'', 351)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', NULL, NULL, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', NULL, 152, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', NULL, 153, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', 98, NULL, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', 99, NULL, true)'),
	('SELECT version, data FROM es_read(''split-1'')'),
	('SELECT version, data FROM es_read(''split-1'', NULL, NULL, true)'),
	('SELECT version, data FROM es_read(''split-1'', 2)'),
	('SELECT version, data FROM es_read(''early-1'')'),
	('SELECT version, type FROM es_read(''late-1'')'),
	('SELECT version, state FROM es_replay(''a-1'', ''count'')'),
	('SELECT version, state FROM es_replay(''a-1'', ''count'', until_version => 98)'),
	('SELECT version, state FROM es_replay(''a-1'', ''count'', until_version => 99)'),
	('SELECT version, state FROM es_replay(''a-1'', ''count'', as_of => ''infinity'')'),
	('SELECT count(*) FROM es_replay_steps(''a-1'', ''count'')'),
	('SELECT count(*) FROM es_replay_steps(''a-1'', ''count'', until_version => 98)'),
	('SELECT version, state FROM es_replay(''split-1'', ''count'')'),
	('SELECT es_replay_as(''a-1'', NULL::jsonb, ''count'')'),
	('SELECT stream, version, state FROM es_replay_category(''a'', ''count'')'),
	('SELECT stream, version, state FROM es_replay_category(''split'', ''count'')'),
	('SELECT count(*) FROM es_read_all(0, NULL)'),
	('SELECT count(*) FROM es_read_all(0, 100)'),
	('SELECT count(*) FROM es_read_all(0, 101)'),
	('SELECT count(*) FROM es_read_all(0, NULL, to_position => 100)'),
	('SELECT count(*) FROM es_read_all(150, 1)'),
	('SELECT count(*) FROM es_read_all(200, NULL)'),
	('SELECT count(*) FROM es_read_all(0, NULL, types => ''{L}'')'),
	('SELECT count(*) FROM es_read_all(200, NULL, types => ''{L}'')'),
	('SELECT count(*) FROM es_read_category(''late'', 0, NULL)'),
	('SELECT count(*) FROM es_read_category(''late'', 200, NULL)'),
	('SELECT count(*) FROM es_read_tagged(''{red}'', NULL, 0, NULL)'),
	('SELECT count(*) FROM es_read_tagged(''{red}'', NULL, 200, NULL)'),
	('SELECT count(*) FROM es_read_tagged(''{blue}'', NULL, 0, NULL)'),
	('SELECT es_append_if(''[]'', 0, tags => ''{blue,red}'')'),
	('SELECT es_append_if(''[]'', 0, types => ''{X}'')'),
	('SELECT es_append_if(''[]'', 200, types => ''{X}'')'),
	('SELECT count(*) FROM es_poll(''all'', 1000)'),
	('SELECT es_run_projection(''counts'') >= 0'),
	('SELECT es_position(''early-1'', 1)'),
	('SELECT es_position(''a-1'', 150)'),
	('SELECT es_position(''a-1'', 98), es_position(''a-1'', 300)'),
	('SELECT version FROM es_find_event(''split-1'', ''0189ffff-0000-7000-8000-000000000001'')'),
	('SELECT version FROM es_find_event(''late-1'', ''0189ffff-0000-7000-8000-000000000001'')'),
	('SELECT version FROM es_find_event(''a-1'', ''0189ffff-0000-7000-8000-000000000001'')'),
	('SELECT count(lag), count(lag_time) FROM es_subscriptions'),
	('SELECT count(lag), count(lag_time) FROM es_projections'),
	('SELECT es_wait_projection(''counts'', ''early-1'', 1, ''0'')'),
	('SELECT es_wait_projection(''counts'', ''a-1'', 150, ''0'')'),
	('SELECT count(*) FROM es_feed_history(0, NULL, query => ''[{"tags": ["red"]}]'')'),
	('SELECT count(*) FROM es_feed_history(200, NULL, query => ''[{"tags": ["red"]}]'')'),
	('SELECT count(*) FROM es_poll(''red'', 1000)'),
	('SELECT count(*) FROM es_read_query(''[{"tags": ["red"]}]'', 0, NULL)'),
	('SELECT count(*) FROM es_read_query(''[{"tags": ["red"]}]'', 200, NULL)'),
	('SELECT count(*) FROM es_read_query(''[{"types": ["L"]}]'', 0, 1)'),
	('SELECT count(*) FROM es_read_query(''[{"types": ["L"]}]'', 0, 1, true)'),
	('SELECT count(*) FROM es_read_query(''[{"types": ["L"], "last": true}]'', 200, NULL)'),
	('SELECT count(*) FROM es_read_query(''[{"types": ["X"], "last": true}]'', 200, NULL)'),
	('SELECT count(*), min(position) FROM es_read_all(0, 150, backwards => true)'),
	('SELECT count(*), min(position) FROM es_read_all(0, 200, backwards => true)'),
	('SELECT count(*) FROM es_read_all(0, NULL, backwards => true, to_position => 100)'),
	('SELECT count(*) FROM es_read_all(0, 1, ''{late,early}'', backwards => true)'),
	('SELECT count(*) FROM es_read_all(0, 2, ''{late,early}'', backwards => true)'),
	('SELECT count(*) FROM es_read_category(''a'', 200, NULL, backwards => true)'),
	('SELECT count(*) FROM es_read_category(''early'', 0, NULL, backwards => true)'),
	('SELECT es_append_if(''[]'', 200, query => ''[{"types": ["X"]}, {"tags": ["none"]}]'')'),
	('SELECT es_append_if(''[]'', 0, query => ''[{"types": ["X"]}, {"tags": ["none"]}]'')'),
	('SELECT es_drop_upcaster(''L'', 1)'),
	-- backwards from within what is lost, and by portions that end at its border
	('SELECT count(*), min(version) FROM es_read(''a-1'', 198, 1, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', 199, 1, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', 230, 32, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', 230, 33, true)'),
	('SELECT count(*), min(version) FROM es_read(''a-1'', 230, NULL, true)'),
	('SELECT count(*) FROM (SELECT es_read(''a-1'', 230, NULL, true)) e'),
	('SELECT count(*), min(version) FROM es_read(''split-1'', 1, NULL, true)'),
	('SELECT count(*), min(version) FROM es_read(''split-1'', 2, NULL, true)'),
	('SELECT count(*), min(version) FROM es_read(''split-1'', 1000, NULL, true)'),
	('SELECT count(*) FROM es_read_all(0, 32, backwards => true, to_position => 232)'),
	('SELECT count(*) FROM es_read_all(0, NULL, backwards => true, to_position => 232)'),
	('SELECT count(*) FROM es_read_all(0, NULL, backwards => true, to_position => 150)'),
	('SELECT count(*) FROM es_read_category(''a'', 0, NULL, backwards => true, to_position => 232)'),
	('SELECT count(*) FROM es_read_query(''[{"tags": ["red"]}]'', 0, NULL, true)');
SELECT id, query, pg_temp.answer(query) FROM questions ORDER BY id;

-- the second segment goes: what the readers above say to that
BEGIN;
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_1;
SELECT id, query, pg_temp.answer(query) FROM questions ORDER BY id;
-- what is hidden is not needed
SELECT es_truncate_stream('split-1', 3), es_truncate_stream('a-1', 199);
SELECT call, pg_temp.answer('SELECT count(*), min(version) FROM ' || call) FROM unnest(array[
	'es_read(''split-1'')', 'es_read(''split-1'', NULL, NULL, true)', 'es_read(''split-1'', 1, NULL, true)', 'es_read(''split-1'', 2, NULL, true)',
	'es_read(''a-1'')', 'es_read(''a-1'', NULL, NULL, true)', 'es_read(''a-1'', 230, NULL, true)', 'es_read(''a-1'', 198, NULL, true)',
	'es_read(''a-1'', 150, NULL, true)', 'es_read(''a-1'', 1, NULL, true)']) call;
ROLLBACK;
BEGIN;
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_1;
-- appends need what they check: the tip, and the place where ids could be
SELECT pg_temp.answer($$SELECT es_append('a-1', 'A')$$) ;
SELECT pg_temp.answer($$SELECT es_append('a-1', 'A', event_id => gen_random_uuid())$$);
SELECT pg_temp.answer($$SELECT es_append('split-1', 'S', '{"n": 1}', event_id => '0189ffff-0000-7000-8000-000000000001')$$);
SELECT pg_temp.answer($$SELECT es_append('split-1', 'S', '{"n": 3}', event_id => '0189ffff-0000-7000-8000-000000000003')$$);
SELECT segment, events, CASE WHEN state IN ('full', 'sealed') THEN 'complete' ELSE state END FROM es_segments ORDER BY segment;
ROLLBACK;

-- the last one goes: tips are gone, and new streams find no place
BEGIN;
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_3;
SELECT pg_temp.answer($$SELECT es_stream_version('a-1')$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read('a-1')$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read('a-1', NULL, 1, true)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read('a-1', 1, 298)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read('late-1')$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read('late-1', NULL, 1, true)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read('late-1', 1, 1, true)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read_all(0, 300)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read_all(0, NULL)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM (SELECT es_read_all(0, NULL)) e$$);
SELECT pg_temp.answer($$SELECT version FROM es_replay('a-1', 'count')$$);
SELECT pg_temp.answer($$SELECT es_append('a-1', 'A')$$);
SELECT pg_temp.answer($$SELECT es_append('a-1', 'A', expected_version => 300)$$);
SELECT pg_temp.answer($$SELECT es_append('new-1', 'N')$$);
SELECT pg_temp.answer($$SELECT es_read_all(298, NULL)$$) LIKE '55000%' AS refused;
ROLLBACK;

-- one that is dropped says the same
BEGIN;
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_0;
DROP TABLE eventstore.events_0;
SELECT pg_temp.answer($$SELECT version FROM es_replay('a-1', 'count')$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read_all(0)$$);
SELECT pg_temp.answer($$SELECT count(*) FROM es_read_all(100, NULL)$$);
\set VERBOSITY default
SELECT count(*) FROM es_read('a-1');
ROLLBACK;
\set VERBOSITY terse

-- a snapshot is read on from, whatever has been before
SELECT es_snapshot('a-1', 'count');
BEGIN;
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_0;
SELECT version, state FROM es_replay('a-1', 'count');
SELECT pg_temp.answer($$SELECT version FROM es_replay('a-1', 'merge')$$);
-- it comes back
ALTER TABLE eventstore.events ATTACH PARTITION eventstore.events_0 FOR VALUES FROM (1) TO (101);
SELECT version, state FROM es_replay('a-1', 'merge');
SELECT count(*) FROM es_read_all(0, NULL);
ROLLBACK;
\c :regression_database
DROP DATABASE regress_es_detached;
