--
-- Segments: the log in pieces of a fixed number of positions.
-- In a database of its own, since their size is chosen before the first append.
--
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_segment;
\c regress_es_segment
CREATE EXTENSION eventstore;
-- a new store has no segment, and nothing to settle
SELECT * FROM es_segments;
SELECT es_settled_position();
SELECT * FROM es_read_all();
SELECT es_settle();

-- the size
SELECT es_set_segment_size(99);
\echo :SQLSTATE
SELECT es_set_segment_size(0);
\echo :SQLSTATE
SELECT es_set_segment_size(NULL);
\echo :SQLSTATE
SELECT es_set_segment_size(1000);
SELECT es_set_segment_size(100);
SELECT es_append('order-1', 'A');
SELECT es_set_segment_size(200);
\echo :SQLSTATE
SELECT segment, first_position, last_position, events, bytes > 0 AS bytes,
	from_time = (SELECT recorded_at FROM es_read('order-1', 1, 1)) AS from_time, to_time = from_time AS to_time
FROM es_segments WHERE events > 0;

-- one batch over several segments: contiguous, and each row where it belongs
SELECT es_append_batch('order-1', (SELECT jsonb_agg(jsonb_build_object('type', 'B', 'data', n)) FROM generate_series(2, 550) n), 1);
SELECT count(*), max(version), max(position), bool_and(version = position) AS contiguous FROM es_read('order-1');
SELECT tableoid::regclass AS segment, min(position), max(position), count(*) FROM eventstore.events GROUP BY 1 ORDER BY 2;
SELECT segment, first_position, last_position, events FROM es_segments WHERE events > 0 ORDER BY segment;
SELECT array_agg(version) FROM es_read('order-1', 99, 4);
SELECT array_agg(version) FROM es_read('order-1', 502, 4, true);
SELECT count(*) FROM es_read('order-1', 101, 400);
SELECT array_agg(position) FROM es_read_all(198, 4);
SELECT array_agg(position) FROM es_read_category('order', 298, 4);

-- a stream that is born in a batch of more than one block, over many segments
SELECT es_append_batch('newborn-1', (SELECT jsonb_agg(jsonb_build_object('type', 'N', 'data', n)) FROM generate_series(1, 2500) n), 0);
SELECT count(*), bool_and(data = to_jsonb(version)) AS in_order, max(position) - min(position) AS span FROM es_read('newborn-1');
SELECT es_append('newborn-1', 'N', expected_version => 2500);

-- ids, retries and expectations across a border
SELECT es_append_batch('order-2', (SELECT jsonb_agg(jsonb_build_object('type', 'C', 'event_id', '0189eeee-0000-7000-8000-' || lpad(n::text, 12, '0'))) FROM generate_series(1, 120) n), 0);
SELECT es_append_batch('order-2', (SELECT jsonb_agg(jsonb_build_object('type', 'C', 'event_id', '0189eeee-0000-7000-8000-' || lpad(n::text, 12, '0'))) FROM generate_series(1, 120) n), 0);
SELECT es_append_batch('order-2', (SELECT jsonb_agg(jsonb_build_object('type', 'C', 'event_id', '0189eeee-0000-7000-8000-' || lpad(n::text, 12, '0'))) FROM generate_series(40, 60) n), 39);
\set VERBOSITY terse
SELECT es_append_batch('order-2', (SELECT jsonb_agg(jsonb_build_object('type', 'C', 'event_id', '0189eeee-0000-7000-8000-' || lpad(n::text, 12, '0'))) FROM generate_series(110, 121) n));
\echo :SQLSTATE
SELECT es_append('order-2', 'D', event_id => '0189eeee-0000-7000-8000-000000000003');
\echo :SQLSTATE
\set VERBOSITY default
SELECT es_stream_version('order-2'), (SELECT count(*) FROM es_read('order-2'));

-- a stream that sleeps for some segments goes on where it was
SELECT es_append('sleeper-1', 'A'), es_append('sleeper-1', 'B');
SELECT count(es_append('filler-' || n % 10, 'F')) FROM generate_series(1, 450) n;
SELECT es_append('sleeper-1', 'C', expected_version => 1);
\echo :SQLSTATE
SELECT es_append('sleeper-1', 'C', expected_version => 2);
SELECT es_append('sleeper-1', 'D', expected_version => 3);
SELECT array_agg(version), array_agg(type) FROM es_read('sleeper-1');
SELECT array_agg(version), array_agg(type) FROM es_read('sleeper-1', backwards => true);
SELECT version, first_version FROM es_streams WHERE stream = 'sleeper-1';

-- moved to a new segment and rolled back: the stream is where it was
SELECT count(es_append('filler-' || n % 10, 'F')) FROM generate_series(1, 250) n;
BEGIN;
SELECT es_append('sleeper-1', 'undone', expected_version => 4);
SAVEPOINT s;
SELECT count(es_append('filler-' || n % 10, 'undone')) FROM generate_series(1, 150) n;
SELECT es_append('sleeper-1', 'undone', expected_version => 5);
ROLLBACK TO s;
SELECT es_append('sleeper-1', 'undone', expected_version => 5);
ROLLBACK;
SELECT es_append('sleeper-1', 'E', expected_version => 4);
SELECT array_agg(version), array_agg(type) FROM es_read('sleeper-1');

-- over INSERT, COPY and many streams too
INSERT INTO es_events (stream, type, data) SELECT 'copied-' || n % 30, 'G', to_jsonb(n) FROM generate_series(0, 599) n;
SELECT count(*), bool_and(version = 1 + data::int / 30) AS in_order FROM es_read_category('copied', 0, NULL);

-- one transaction larger than many segments
BEGIN;
SELECT count(es_append('large-' || n % 3, 'L', expected_version => n / 3)) FROM generate_series(0, 2999) n;
COMMIT;
SELECT stream, count(*), max(version) FROM es_read_category('large', 0, NULL) GROUP BY stream ORDER BY stream;

-- the log is whole
SELECT count(*) = (SELECT sum(events) FROM es_segments) AS counted,
	count(*) = (SELECT count(*) FROM es_events) AS seen,
	count(*) = (SELECT sum(version) FROM es_streams) AS versions FROM es_read_all(0, NULL);
SELECT stream FROM es_events GROUP BY stream HAVING count(*) <> max(version) OR min(version) <> 1;
SELECT count(*) AS misplaced FROM eventstore.events
WHERE tableoid::regclass::text <> 'eventstore.events_' || (position - 1) / 100;
SELECT bool_and(last_position - first_position = 99) AS size, bool_and(first_position = segment * 100 + 1) AS place FROM es_segments;
SELECT bool_and(to_time >= from_time) AS times FROM es_segments WHERE events > 0;

-- es_segments says of each what the log has, looking at no other segment
SELECT count(*) AS wrong FROM es_segments s LEFT JOIN
	(SELECT (position - 1) / 100 AS segment, count(*) AS events, min(position) AS first, max(position) AS last FROM eventstore.events GROUP BY 1) e USING (segment)
WHERE s.events <> coalesce(e.events, 0)
	OR s.from_time IS DISTINCT FROM (SELECT recorded_at FROM eventstore.events WHERE position = e.first)
	OR s.to_time IS DISTINCT FROM (SELECT recorded_at FROM eventstore.events WHERE position = e.last);
BEGIN;
SELECT events > 0 AS events, from_time <= to_time AS times, bytes > 0 AS bytes FROM es_segments WHERE segment = 3;
SELECT count(*) AS other_segments FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = pg_backend_pid() AND c.relname ~ '^events_\d' AND c.relname !~ '^events_3(_|$)';
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_3;
SELECT events, from_time, to_time, bytes > 0 AS bytes, state FROM es_segments WHERE segment = 3;
ROLLBACK;
CREATE ROLE regress_es_monitor;
SET ROLE regress_es_monitor;
SELECT count(state) > 0 AS states FROM es_segments;
RESET ROLE;
SELECT es_grant('regress_es_monitor', 'read');
SET ROLE regress_es_monitor;
SELECT count(events) > 0 AS events, count(bytes) > 0 AS bytes, count(from_time) = count(to_time) AS times FROM es_segments;
RESET ROLE;
DROP ROLE regress_es_monitor;
SELECT eventstore.segment_events(-1), eventstore.segment_time(9223372036854775807, true), eventstore.segment_version(0, 0, 0), eventstore.segment_events(NULL);

-- indexes that a user adds to a segment, or makes anew, get every row
SELECT 'eventstore.events_' || max(segment) AS newest FROM es_segments WHERE events > 0 \gset
CREATE INDEX user_plain ON :newest (type);
CREATE INDEX user_expression ON :newest ((data ->> 'n'));
CREATE INDEX user_partial ON :newest (position) WHERE type = 'X';
CREATE INDEX user_stream ON eventstore.streams (created_at);
SELECT count(es_append('indexed-' || n % 2, CASE n % 2 WHEN 0 THEN 'X' ELSE 'Y' END, jsonb_build_object('n', n))) FROM generate_series(1, 9) n;
REINDEX TABLE :newest;
SELECT es_append('indexed-0', 'X', '{"n": 10}', expected_version => 4);
VACUUM FULL :newest;
SELECT es_append('indexed-0', 'X', '{"n": 11}', expected_version => 5);
DROP INDEX eventstore.user_plain;
SELECT es_append('indexed-0', 'X', '{"n": 12}', expected_version => 6);
SET enable_seqscan = off;
SELECT count(*) FROM :newest WHERE data ->> 'n' IN ('1', '9', '10', '11', '12');
SELECT count(*) FROM :newest WHERE type = 'X' AND position > 0;
SELECT count(*) FROM eventstore.streams WHERE created_at > '-infinity' AND name LIKE 'indexed-%';
RESET enable_seqscan;
DROP INDEX eventstore.user_expression, eventstore.user_partial, eventstore.user_stream;
SELECT es_append('indexed-0', 'X', '{"n": 13}', expected_version => 7);

-- each segment is guarded like the first
DO $$
DECLARE
	segment regclass;
	attempt text;
	refused int := 0;
	changed int := 0;
BEGIN
	FOR segment IN SELECT 'eventstore.events_' || s.segment FROM es_segments s LOOP
		FOREACH attempt IN ARRAY ARRAY['UPDATE %s SET version = 0', 'DELETE FROM %s', 'TRUNCATE %s'] LOOP
			IF attempt = 'TRUNCATE %s' OR EXISTS (SELECT FROM eventstore.events WHERE tableoid = segment) THEN
				BEGIN
					EXECUTE format(attempt, segment);
					changed := changed + 1;
				EXCEPTION WHEN SQLSTATE 'VE002' THEN
					refused := refused + 1;
				END;
			END IF;
		END LOOP;
	END LOOP;
	RAISE NOTICE 'refused: %, changed: %', refused > 100, changed;
END
$$;

-- the maker needs nothing of the caller: a hostile search_path, a role with no other right, a lone transaction
CREATE ROLE regress_es_segment;
SELECT es_grant('regress_es_segment', 'append', 'role');
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format_nv';
CREATE FUNCTION hostile.hijack(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'hijacked'; END$$;
CREATE OPERATOR hostile.+ (leftarg = bigint, rightarg = bigint, function = hostile.hijack);
CREATE TABLE hostile.events (position int);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
SET ROLE regress_es_segment;
SET search_path = hostile, pg_catalog, public;
BEGIN;
SELECT count(public.es_append('role-1', 'R')) FROM generate_series(1, 350);
COMMIT;
RESET search_path;
RESET ROLE;
SELECT es_stream_version('role-1');
SELECT count(*) > 50 AS many, bool_and(pg_get_userbyid(relowner) = current_user) AS owned
FROM pg_class WHERE relname ~ '^events_\d+$' AND relnamespace = 'eventstore'::regnamespace;
SELECT count(*) AS members FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_class'::regclass AND objid::regclass::text ~ '^eventstore\.events_\d+$';

-- nothing of it stays behind
SET client_min_messages = warning;
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore;
SELECT count(*) AS left_behind FROM pg_class WHERE relname LIKE 'events%' AND relname NOT LIKE 'events';
DROP OWNED BY regress_es_segment;
DROP ROLE regress_es_segment;
\c :regression_database
DROP DATABASE regress_es_segment WITH (FORCE);
