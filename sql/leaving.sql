-- What leaves: streams deleted and truncated, and what ages out. Nothing is removed here,

-- nor by the worker, as long as this session is there
SELECT es_hold_events(0);

-- ---- deletion ----

SELECT es_append_batch('leaving_a-1', '[{"type": "A", "event_id": "00000000-0000-0000-0000-000000000001"}, {"type": "B"}]') AS version;
SELECT es_delete_stream('leaving_a-1', 1);
SELECT es_delete_stream('leaving_a-1', 2);
SELECT es_stream_version('leaving_a-1') AS version, es_last_position() = (SELECT max(position) FROM es_events) AS is_last;
SELECT version, first_version, deleted FROM es_streams WHERE stream = 'leaving_a-1';
SELECT version, type, data, metadata FROM es_read_category('leaving_a', 0, NULL);

-- again: nothing, whatever version is expected; the position is that of the event that did it
SELECT es_append('leaving_a-2', 'A') AS version;
SELECT es_delete_stream('leaving_a-1'), es_delete_stream('leaving_a-1', 1), es_delete_stream('leaving_a-1', -1), es_delete_stream('leaving_a-1', 0);
SELECT es_last_position() = (SELECT position FROM es_events WHERE stream = 'leaving_a-1' AND type = '$stream-deleted') AS is_that;
SELECT es_stream_version('leaving_a-1') AS version;

-- every append is refused: a retry, an empty batch, a check, rows
SELECT es_append('leaving_a-1', 'A');
SELECT es_append('leaving_a-1', 'A', event_id => '00000000-0000-0000-0000-000000000001');
SELECT es_append('leaving_a-1', 'A', expected_version => 7);
SELECT es_append_batch('leaving_a-1', '[]');
SELECT es_append_events('leaving_a-1', ARRAY[ROW('A', '{}', NULL, NULL)::es_new_event]);
SELECT * FROM es_append_many('[{"stream": "leaving_a-2", "type": "A"}, {"stream": "leaving_a-1", "expected_version": 3}]');
SELECT es_append_if('[{"stream": "leaving_a-1", "type": "A"}]', 0, types => '{Never}');
INSERT INTO es_events (stream, type) VALUES ('leaving_a-1', 'A');
COPY es_events (stream, type, data) FROM STDIN;
leaving_a-2	A	{}
leaving_a-1	A	{}
\.
SELECT es_stream_version('leaving_a-2') AS version;

-- a stream that never had an event never will; -1 and other versions expect one
SELECT es_delete_stream('leaving_a-none', -1);
SELECT es_delete_stream('leaving_a-none', 3);
SELECT es_delete_stream('leaving_a-none', 0);
SELECT es_append('leaving_a-none', 'A', expected_version => 0);
SELECT es_delete_stream('leaving_a-never');
SELECT stream, version, first_version, deleted FROM es_streams WHERE stream LIKE 'leaving\_a-n%' ORDER BY stream;

-- in one transaction: what comes after it is refused, and a rollback takes it back
BEGIN;
SELECT es_append('leaving_a-3', 'A') AS version;
SELECT es_append('leaving_a-3', 'A') AS version;
SAVEPOINT s;
SELECT es_delete_stream('leaving_a-3');
SELECT es_delete_stream('leaving_a-3');
SELECT es_append('leaving_a-3', 'A');
ROLLBACK TO s;
SELECT es_append('leaving_a-3', 'A') AS version;
SELECT es_delete_stream('leaving_a-3', 3);
ROLLBACK;
SELECT es_stream_version('leaving_a-3') AS version;

-- arguments
SELECT es_delete_stream(NULL);
SELECT es_delete_stream('');
SELECT es_delete_stream('leaving_a-4', -2);
SELECT es_append('leaving_a-4', '$stream-deleted');

-- ---- truncation ----

SELECT es_register_reducer_ops('leaving_b', 'Added', '{"inc": {"sum": "$.data.n"}}');
SELECT es_append_batch('leaving_b-1', (SELECT jsonb_agg(jsonb_build_object('type', 'Added', 'data', jsonb_build_object('n', n), 'event_id', md5('leaving' || n)::uuid)) FROM generate_series(1, 10) n)) AS version;
SELECT es_snapshot('leaving_b-1', 'count');
CREATE TABLE leaving_before AS
	SELECT u AS upto, (SELECT s FROM es_replay('leaving_b-1', until_version => u) s) AS sum, (SELECT s FROM es_replay('leaving_b-1', 'count', u) s) AS count FROM generate_series(1, 10) u;
SELECT es_truncate_stream('leaving_b-1', 6);
SELECT version, first_version, deleted FROM es_streams WHERE stream = 'leaving_b-1';

-- it goes on from snapshots at version 5: of the category's reducer, and of each that has some
SELECT reducer, version, usable FROM es_snapshots WHERE stream = 'leaving_b-1' ORDER BY 1, 2;
SELECT bool_and(s = sum) AND bool_and(c = count) AS same
FROM leaving_before, es_replay('leaving_b-1', until_version => upto) s, es_replay('leaving_b-1', 'count', upto) c WHERE upto >= 5;
SELECT version, state FROM es_replay_steps('leaving_b-1', until_version => 7);
SELECT version, state FROM es_replay_category('leaving_b');
SELECT es_replay_as('leaving_b-1', NULL::jsonb);
SELECT version, state FROM es_replay('leaving_b-1', until_version => 4);
SELECT version, state FROM es_replay('leaving_b-1', 'merge');

-- reads begin at version 6
SELECT array_agg(version) FROM es_read('leaving_b-1');
SELECT array_agg(version) FROM es_read('leaving_b-1', 3, 2);
SELECT array_agg(version) FROM es_read('leaving_b-1', backwards => true);
SELECT array_agg(version) FROM es_read('leaving_b-1', 7, backwards => true);
SELECT array_agg(version) FROM es_read('leaving_b-1', 5, backwards => true);

-- what is hidden stays so; nothing is past the stream's version
SELECT es_truncate_stream('leaving_b-1', 3), es_truncate_stream('leaving_b-1', 6), es_truncate_stream('leaving_b-1', 0);
SELECT es_truncate_stream('leaving_b-1', 12);
SELECT es_truncate_stream('leaving_b-1', 11);
SELECT version, first_version FROM es_streams WHERE stream = 'leaving_b-1';
SELECT count(*) FROM es_read('leaving_b-1');
SELECT version, state FROM es_replay('leaving_b-1');
SELECT reducer, version FROM es_snapshots WHERE stream = 'leaving_b-1' ORDER BY 1, 2;

-- numbering goes on; ids are known as long as the events are there, expectations for ever
\set VERBOSITY terse
SELECT es_append('leaving_b-1', 'Added', '{"n": 2}', expected_version => 10, event_id => md5('leaving2')::uuid);
\set VERBOSITY default
SELECT es_append('leaving_b-1', 'Added', '{"n": 2}', event_id => md5('leaving2')::uuid) AS version;
SELECT es_append('leaving_b-1', 'Added', '{"n": 1}', expected_version => 0);
SELECT es_append('leaving_b-1', 'Added', '{"n": 100}', expected_version => 10) AS version;
SELECT version, state FROM es_replay('leaving_b-1');
SELECT array_agg(version) FROM es_read('leaving_b-1');
-- a newer snapshot does not take the place of what the truncation keeps
SELECT es_snapshot('leaving_b-1');
SELECT reducer, version FROM es_snapshots WHERE stream = 'leaving_b-1' ORDER BY 1, 2;
SELECT version, state FROM es_replay('leaving_b-1', until_version => 10);

-- arguments, streams that are not there or are deleted
SELECT es_truncate_stream(NULL, 1);
SELECT es_truncate_stream('leaving_b-1', NULL);
SELECT es_truncate_stream('leaving_b-1', -1);
SELECT es_truncate_stream('leaving_b-none', 1);
SELECT es_truncate_stream('leaving_b-none', 2);
SELECT es_truncate_stream('leaving_a-1', 2);
SELECT first_version FROM es_streams WHERE stream = 'leaving_a-1';

-- with own events, and undone
BEGIN;
SELECT es_append('leaving_b-2', 'Added', '{"n": 1}') AS version FROM generate_series(1, 3);
SELECT es_truncate_stream('leaving_b-2', 3);
SELECT es_append('leaving_b-2', 'Added', '{"n": 1}') AS version;
SELECT array_agg(version) FROM es_read('leaving_b-2');
SAVEPOINT s;
SELECT es_truncate_stream('leaving_b-2', 5);
SELECT count(*) FROM es_read('leaving_b-2');
ROLLBACK TO s;
SELECT array_agg(version) FROM es_read('leaving_b-2');
SELECT version, state FROM es_replay('leaving_b-2');
COMMIT;
SELECT version, state FROM es_replay('leaving_b-2');

-- ---- a reducer that changes ----

-- its states of before are no use to it, and are not lost by another truncation
SELECT es_register_reducer_ops('leaving_b', 'Taken', '{"inc": {"taken": "$.data.n"}}');
SELECT es_append('leaving_b-2', 'Taken', '{"n": 1}') AS version;
SELECT version, state FROM es_replay('leaving_b-2');
SELECT es_truncate_stream('leaving_b-2', 5);
-- until somebody says that they are good
SELECT es_adopt_snapshots('leaving_b');
SELECT version, state FROM es_replay('leaving_b-2');
SELECT version, state FROM es_replay('leaving_b-1');
SELECT es_truncate_stream('leaving_b-2', 6);
SELECT version, state FROM es_replay('leaving_b-2');
SELECT es_adopt_snapshots('leaving_b');
-- dropped snapshots: those that truncations depend on stay, to be adopted
SELECT es_drop_snapshots('leaving_b');
SELECT reducer, version, usable FROM es_snapshots WHERE stream LIKE 'leaving\_b%' AND reducer = 'leaving_b' ORDER BY 1, 2;
SELECT version, state FROM es_replay('leaving_b-2');
SELECT es_adopt_snapshots('leaving_b');
SELECT version, state FROM es_replay('leaving_b-2');
-- with the reducer they all go
SELECT es_drop_reducer('leaving_b');
SELECT count(*) FROM es_snapshots WHERE reducer = 'leaving_b';
SELECT es_register_reducer_ops('leaving_b', 'Added', '"ignore"');
SELECT version, state FROM es_replay('leaving_b-2');
SELECT es_append('leaving_b-2', 'Added', '{"n": 1}') AS version;
-- it has lost its states, and can lose no more
SELECT es_truncate_stream('leaving_b-2', 7);
SELECT es_adopt_snapshots('leaving_none');
SELECT es_adopt_snapshots(NULL);
SELECT es_create_reducer('leaving_n', '0', 'int');
CREATE FUNCTION leaving_add(state int, data jsonb) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT state + (data->>''n'')::int';
SELECT es_register_reducer('leaving_n', 'Added', 'leaving_add(int, jsonb)');
SELECT es_append('leaving_n-1', 'Added', '{"n": 3}') AS version FROM generate_series(1, 3);
SELECT es_truncate_stream('leaving_n-1', 3);
SELECT version, state FROM es_replay('leaving_n-1');
-- a handler that fails hides nothing
SELECT es_append('leaving_n-1', 'Added', '{"n": "x"}') AS version;
SELECT es_truncate_stream('leaving_n-1', 5);
SELECT first_version FROM es_streams WHERE stream = 'leaving_n-1';

-- ---- what the log keeps ----

SELECT version, type FROM es_read_category('leaving_n', 0, NULL);
SELECT count(*) FROM es_read_all(0, NULL, stream_prefix => 'leaving_b-1');
SELECT count(*) FROM es_read_query('[{"types": ["$stream-deleted"]}]', 0, NULL) q WHERE q.stream LIKE 'leaving%';
SELECT count(*), es_fold('count', e ORDER BY e.position) FROM es_events e WHERE stream = 'leaving_b-1';
SELECT es_fold('count', e ORDER BY e.position) FROM es_events e WHERE stream = 'leaving_a-1';
SELECT count(*) FROM es_feed_history(0, NULL, '{leaving_n}');
SELECT es_append_if('[{"stream": "leaving_b-9", "type": "A"}]', 0, query => '[{"types": ["Added"], "tags": ["none"]}]') > 0 AS appended;
SELECT es_append('leaving_b-9', 'Tagged', metadata => '{"tags": ["leaving"]}') AS version;
SELECT es_truncate_stream('leaving_b-9', 3);
\set VERBOSITY terse
SELECT es_append_if('[{"stream": "leaving_b-10", "type": "A"}]', 0, tags => '{leaving}');
\set VERBOSITY default
SELECT version, stream FROM es_read_tagged('{leaving}');
-- by name they are hidden
SELECT es_position('leaving_b-1', 3), es_position('leaving_b-1', 11) > 0 AS there, es_position('leaving_a-1', 1);
SELECT * FROM es_find_event('leaving_b-1', md5('leaving2')::uuid);
SELECT * FROM es_find_event('leaving_a-1', '00000000-0000-0000-0000-000000000001');
SELECT es_snapshot('leaving_a-1', 'count');
SELECT * FROM es_replay('leaving_a-1', 'count');
SELECT * FROM es_replay_steps('leaving_a-1', 'count');
SELECT stream, state FROM es_replay_category('leaving_a', 'count');
SELECT count(*) FROM (SELECT * FROM es_read('leaving_a-1', 1) UNION ALL SELECT * FROM es_read('leaving_a-1', 3, backwards => true)) r;

-- consumers get them, and the deletion
SELECT es_subscribe('leaving_s', 0, '{leaving_a}');
SELECT stream, version, type FROM es_poll('leaving_s');
SELECT es_subscribe('leaving_t', 0, types => '{$stream-deleted}');
SELECT stream FROM es_poll('leaving_t') WHERE stream LIKE 'leaving%';
SELECT es_unsubscribe('leaving_s'), es_unsubscribe('leaving_t');

-- ---- projections and reducers ----

-- reserved types are for handlers that name them: '*' does not get them, on_unknown does not mind them
SELECT es_create_reducer('leaving_c', on_unknown => 'error');
SELECT es_register_reducer_ops('leaving_c', 'A', '{"inc": {"n": 1}}');
SELECT es_register_reducer_ops('leaving_d', '*', '{"inc": {"n": 1}}');
SELECT es_register_reducer_ops('leaving_d', '$stream-deleted', '{"set": {"closed": true}}');
SELECT es_register_reducer_ops('leaving_d', '$other', '"ignore"');
SELECT es_create_projection('leaving_c', 'leaving_c', 'inline', 'leaving_c');
SELECT es_create_projection('leaving_d', 'leaving_d', 'inline', 'leaving_c');
SELECT es_create_projection('leaving_l', 'last', 'inline', 'leaving_c', '{"A": "$.stream"}');
SELECT es_create_projection('leaving_e', 'leaving_c', 'async', 'leaving_c');
CREATE TABLE leaving_seen (stream text, type text);
CREATE FUNCTION leaving_note(e es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO public.leaving_seen VALUES (e.stream, e.type)';
SELECT es_create_handler_projection('leaving_h', 'leaving_note(es_event)', 'inline', '{leaving_c}');
SELECT es_append('leaving_c-' || i % 2, 'A') AS version FROM generate_series(1, 4) i;
SELECT es_run_projection('leaving_e') IS NOT NULL AS ran;
SELECT es_wait_projection('leaving_e', es_last_position(), '30 s');
SELECT es_delete_stream('leaving_c-1');
-- the state of a stream goes with it, unless the reducer says something of it
SELECT key, version, state FROM es_projection('leaving_c');
SELECT key, version, state FROM es_projection('leaving_d') ORDER BY 1;
-- it does not where such events do not count
SELECT key, version, state->'type' AS type FROM es_projection('leaving_l') ORDER BY 1;
SELECT es_run_projection('leaving_e') IS NOT NULL AS ran;
SELECT es_wait_projection('leaving_e', es_last_position(), '30 s');
SELECT key, version, state FROM es_projection('leaving_e');
SELECT * FROM leaving_seen;
-- a rebuild sees the same
SELECT es_rebuild_projection('leaving_c'), es_rebuild_projection('leaving_d');
SELECT count(es_run_projection(p)) FROM unnest('{leaving_c,leaving_d,leaving_c,leaving_d}'::text[]) p;
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM es_projections WHERE rebuild_position IS NOT NULL) LOOP
		PERFORM es_run_projection('leaving_c'), es_run_projection('leaving_d');
	END LOOP;
END $$;
SELECT key, version, state FROM es_projection('leaving_c');
SELECT key, version, state FROM es_projection('leaving_d') ORDER BY 1;
SELECT count(es_drop_projection(p)) FROM unnest('{leaving_c,leaving_d,leaving_e,leaving_h,leaving_l}'::text[]) p;

-- ---- what ages out ----

SELECT es_set_retention('leaving_r', '30 days');
SELECT es_set_retention('leaving_k', max_count => 2);
SELECT es_register_reducer_ops('leaving_r', 'Added', '{"inc": {"sum": "$.data.n"}}');
INSERT INTO es_events (stream, type, data, recorded_at)
	SELECT 'leaving_r-' || n % 2, 'Added', jsonb_build_object('n', n), now() - interval '40 days' + n * interval '1 day' FROM generate_series(1, 20) n;
INSERT INTO es_events (stream, type, data, recorded_at) SELECT 'leaving_r-old', 'Added', '{"n": 1}', now() - interval '1 year' FROM generate_series(1, 3);
SELECT es_append('leaving_k-1', 'A') AS version FROM generate_series(1, 5);
SELECT es_append('leaving_k-2', 'A') AS version FROM generate_series(1, 2);
-- by the worker, if there is one, or es_scavenge
SELECT eventstore.apply_retention() >= 0 AS done;
SELECT stream, version, first_version FROM es_streams WHERE category IN ('leaving_r', 'leaving_k') ORDER BY 1;
SELECT stream, version, state FROM es_replay_category('leaving_r') ORDER BY 1;
SELECT es_append('leaving_k-1', 'A') AS version;
SELECT es_append('leaving_r-old', 'Added', '{"n": 1}') AS version;
SELECT eventstore.apply_retention() >= 0 AS done, eventstore.apply_retention();
SELECT stream, version, first_version FROM es_streams WHERE category IN ('leaving_r', 'leaving_k') ORDER BY 1;
SELECT category, max_age, max_count, skipped FROM es_retention ORDER BY 1;

-- a stream that cannot be truncated is passed over, and come back to
SET client_min_messages = error;
SELECT es_create_reducer('leaving_f', '0', 'int');
SELECT es_register_reducer('leaving_f', 'Added', 'leaving_add(int, jsonb)');
SELECT es_append('leaving_f-1', 'Added', '{"n": 1}') AS version FROM generate_series(1, 3);
SELECT es_append('leaving_f-2', 'Added', '{"n": "x"}') AS version FROM generate_series(1, 3);
SELECT es_append('leaving_f-3', 'Added', '{"n": 1}') AS version FROM generate_series(1, 3);
SELECT es_set_retention('leaving_f', max_count => 1);
SELECT eventstore.apply_retention() >= 0 AS done;
SELECT stream, first_version FROM es_streams WHERE category = 'leaving_f' ORDER BY 1;
SELECT category, skipped, skipped_since <= now() AS since, skipped_stream, error FROM es_retention WHERE skipped > 0;
CREATE OR REPLACE FUNCTION leaving_add(state int, data jsonb) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT state + 1';
SELECT es_adopt_snapshots('leaving_f'), eventstore.apply_retention() >= 0 AS done;
SELECT stream, first_version FROM es_streams WHERE category = 'leaving_f' ORDER BY 1;
SELECT count(*) FROM es_retention WHERE skipped > 0;
RESET client_min_messages;

-- the others; a category of which something was said is none of them
INSERT INTO es_events (stream, type, recorded_at) SELECT 'leaving_' || c || '-1', 'A', '0100-01-01 00:00:00+00' FROM unnest('{x,y}'::text[]) c, generate_series(1, 3);
SELECT es_set_retention('leaving_y');
SELECT es_set_retention('*', '1000 years');
SELECT eventstore.apply_retention() >= 0 AS done;
SELECT stream, first_version FROM es_streams WHERE category IN ('leaving_x', 'leaving_y', 'leaving_k') ORDER BY 1;
SELECT category, max_age, max_count FROM es_retention WHERE category IN ('*', 'leaving_y') ORDER BY 1;
SELECT es_set_retention('*');
SELECT category FROM es_retention WHERE category IN ('*', 'leaving_y');

-- arguments
SELECT es_set_retention(NULL, '1 day');
SELECT es_set_retention('leaving-x', '1 day');
SELECT es_set_retention('', '1 day');
SELECT es_set_retention('leaving_x', '0');
SELECT es_set_retention('leaving_x', '-1 day');
SELECT es_set_retention('leaving_x', '1 day -25 hours');
SELECT es_set_retention('leaving_x', '1 mon -29 days');
SELECT es_set_retention('leaving_x', '100000 years');
SELECT es_set_retention('leaving_x', max_count => 0);
SELECT es_set_retention('leaving_x', max_count => -1);
SELECT count(es_set_retention(c)) FROM unnest('{leaving_r,leaving_k,leaving_f}'::text[]) c;
DROP TABLE leaving_before, leaving_seen;
