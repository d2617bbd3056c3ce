--
-- Reading: streams, categories, the whole log.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN format('%s rows', n);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
-- where this script begins in the log
SELECT es_settled_position() AS start \gset

SELECT es_append_batch('read_a-1', '[{"type": "A", "data": 1}, {"type": "B", "data": 2}, {"type": "A", "data": 3}, {"type": "C", "data": 4}, {"type": "A", "data": 5}]');
SELECT es_append_batch('read_b-1', '[{"type": "A", "data": 1}, {"type": "D", "data": 2}]');
SELECT es_append('read_a-2', 'B', '1'), es_append('read_a', 'E', '1'), es_append('read_ab-1', 'A', '1');
SELECT es_append('read_a-1', 'A', '6');

--
-- es_read
--
SELECT stream, version, type, type_version, data, metadata FROM es_read('read_a-1');
SELECT array_agg(version) AS from_4 FROM es_read('read_a-1', 4);
SELECT array_agg(version) AS from_2_two FROM es_read('read_a-1', 2, 2);
SELECT array_agg(version) AS from_0 FROM es_read('read_a-1', 0);
SELECT array_agg(version) AS beyond FROM es_read('read_a-1', 7);
SELECT array_agg(version) AS backwards FROM es_read('read_a-1', backwards => true);
SELECT array_agg(version) AS last_two FROM es_read('read_a-1', NULL, 2, true);
SELECT array_agg(version) AS back_from_3 FROM es_read('read_a-1', 3, backwards => true);
SELECT array_agg(version) AS back_from_3_one FROM es_read('read_a-1', 3, 1, true);
SELECT array_agg(version) AS back_from_beyond FROM es_read('read_a-1', 99, 2, true);
SELECT count(*) AS none FROM es_read('read_a-1', 1, 0);
SELECT count(*) AS none FROM es_read('read_none', 5, 10);
SELECT count(*) AS none FROM es_read('read_none', NULL, NULL, true);
SELECT count(*) AS huge FROM es_read('read_a-1', 1, 9223372036854775807);
SELECT pg_temp.outcome(statement), statement FROM unnest(ARRAY[
	$$SELECT es_read(NULL)$$,
	$$SELECT es_read('')$$,
	$$SELECT es_read(E'read\t')$$,
	$$SELECT es_read(repeat('r', 513))$$,
	$$SELECT es_read('read_a-1', NULL, NULL, NULL)$$,
	$$SELECT es_read('read_a-1', 1, -1)$$,
	$$SELECT es_read('read_none', 1, -1)$$,
	$$SELECT es_read_all(0, -1)$$,
	$$SELECT es_read_all(NULL)$$,
	$$SELECT es_read_category(NULL)$$,
	$$SELECT es_read_category('read_a', 0, -1)$$,
	$$SELECT es_read_category('read_a', NULL)$$
	]) statement;

-- a cursor over a stream, read in steps
BEGIN;
DECLARE c CURSOR FOR SELECT version FROM es_read('read_a-1');
FETCH 2 FROM c;
SELECT es_append('read_a-1', 'Later', '7');
FETCH 2 FROM c;
CLOSE c;
ROLLBACK;
-- limits above the executor
SELECT version FROM es_read('read_a-1') LIMIT 2;
SELECT es_read('read_a-1') IS NOT NULL AS e LIMIT 1;

--
-- es_read_all and es_read_category
--
SELECT stream, version, type FROM es_read_all(:start);
SELECT stream, version, type FROM es_read_all(:start, 3);
SELECT stream, version, type FROM es_read_all(:start, categories => '{read_a}');
SELECT stream, version, type FROM es_read_all(:start, categories => '{read_b,read_ab,read_none}');
SELECT stream, version, type FROM es_read_all(:start, types => '{B,E}');
SELECT stream, version, type FROM es_read_all(:start, stream_prefix => 'read_a-');
SELECT stream, version, type FROM es_read_all(:start, 2, '{read_a,read_b}', '{A}', 'read_');
SELECT stream, version, type FROM es_read_all(:start, NULL, '{read_a}', '{A}', 'read_a-1', :start + 3);
SELECT count(*) AS nothing FROM es_read_all(:start, NULL, '{}');
SELECT count(*) AS nothing FROM es_read_all(:start, NULL, types => '{}');
SELECT count(*) AS everything FROM es_read_all(:start, NULL, stream_prefix => '');
SELECT count(*) AS nothing FROM es_read_all(:start, 0);
SELECT count(*) AS nothing FROM es_read_all(:start, to_position => :start);
SELECT count(*) AS nothing FROM es_read_all(es_settled_position());
SELECT count(*) AS nothing FROM es_read_all(9223372036854775807);
SELECT count(*) > 0 AS from_the_start, min(position) = (SELECT min(e.position) FROM es_events e) AS first FROM es_read_all(0, 10);
SELECT count(*) <= 1000 AS default_limit FROM es_read_all(0);
SELECT count(*) = (SELECT count(*) FROM eventstore.events) AS all_of_it FROM es_read_all(0, NULL);
SELECT stream, version, type FROM es_read_category('read_a');
SELECT stream, version, type FROM es_read_category('read_a', :start + 4, 2);
SELECT stream, version, type FROM es_read_category('read_a', types => '{B}');
SELECT stream, version, type FROM es_read_category('read_a', types => '{A}', to_position => :start + 5);
SELECT count(*) AS nothing FROM es_read_category('read_none');
SELECT count(*) AS nothing FROM es_read_category('read_a-1');
SELECT pg_temp.outcome(statement), statement FROM unnest(ARRAY[
	$$SELECT count(*) FROM es_read_category('')$$,
	$$SELECT es_read_all(0, 1, ARRAY[NULL]::text[])$$
	]) statement;
-- in order of position, and equal to the view and to es_read
SELECT bool_and(position > lag) AS ascending FROM (SELECT position, lag(position, 1, 0::bigint) OVER () FROM es_read_all(0, NULL)) a;
SELECT count(*) AS differences FROM (
	(SELECT r FROM es_read_all(:start, NULL) r EXCEPT SELECT e::es_event FROM es_events e)
	UNION ALL (SELECT e::es_event FROM es_events e WHERE position > :start EXCEPT SELECT r FROM es_read_all(:start, NULL) r)
	UNION ALL (SELECT r FROM es_read_category('read_a') r EXCEPT SELECT r FROM es_streams s, es_read(s.stream) r WHERE s.category = 'read_a')
	UNION ALL (SELECT r FROM es_streams s, es_read(s.stream) r WHERE s.category = 'read_a' EXCEPT SELECT r FROM es_read_category('read_a') r)) d;

-- categories whose names have the same CRC-32C are not mixed up
SELECT es_append('read_xmlhing-1', 'A'), es_append('read_vnei-1', 'B'), es_append('read_xmljing-1', 'C'), es_append('read_tnei-1', 'D');
SELECT stream FROM es_read_category('read_xmlhing');
SELECT stream FROM es_read_category('read_tnei');
SELECT stream FROM es_read_all(:start, categories => '{read_xmljing,read_vnei}');
SELECT stream FROM es_read_all(:start, NULL, '{read_xmlhing,read_vnei}', backwards => true);
SELECT stream FROM es_read_all(:start, NULL, '{read_tnei,read_xmlhing,read_vnei,read_xmljing}', backwards => true);
SELECT stream FROM es_read_all(:start, NULL, '{read_xmlhing,read_vnei}');

--
-- Holes: what was rolled back has a position for good, and no reader stops at it
--
SELECT es_settled_position() AS hole \gset
SELECT es_append('read_hole-1', 'A');
BEGIN;
SELECT es_append('read_hole-1', 'undone'), es_append('read_hole-2', 'undone');
ROLLBACK;
SELECT es_append('read_hole-1', 'B');
BEGIN;
SAVEPOINT s;
SELECT es_append_batch('read_hole-1', '[{"type": "undone"}, {"type": "undone"}]');
ROLLBACK TO s;
SELECT es_append('read_hole-1', 'C');
COMMIT;
SELECT position - :hole AS position, version, type FROM es_read_all(:hole);
SELECT es_settled_position() - :hole AS settled;
BEGIN;
SELECT es_append('read_hole-1', 'undone');
ROLLBACK;
SELECT es_settled_position() - :hole AS settled;
SELECT position - :hole AS position, version, type FROM es_read_category('read_hole');

--
-- Own uncommitted events: es_read and es_events see them, the log's readers do not
--
BEGIN;
SELECT es_append('read_own-1', 'A'), es_append('read_own-1', 'B');
SELECT version, type FROM es_read('read_own-1');
SELECT version, type FROM es_events WHERE stream = 'read_own-1' ORDER BY version;
SELECT es_stream_version('read_own-1');
SELECT count(*) FROM es_read_category('read_own');
SELECT count(*) FROM es_read_all(:hole, NULL, stream_prefix => 'read_own');
SELECT es_settled_position() < es_last_position() AS bounded;
SAVEPOINT s;
ROLLBACK TO s;
SELECT es_settled_position() < es_last_position() AS bounded;
COMMIT;
SELECT version, type FROM es_read_category('read_own');
SELECT es_settled_position() = es_last_position() AS settled;
-- ROLLBACK TO gives back the event, not the position
BEGIN;
SAVEPOINT s;
SELECT es_append('read_own-2', 'A');
ROLLBACK TO s;
SELECT count(*) FROM es_read('read_own-2');
SELECT es_settled_position() < es_last_position() AS bounded;
COMMIT;
SELECT es_settled_position() = es_last_position() AS settled;

--
-- recorded_at and event_id
--
SELECT count(es_append('read_time-' || n % 7, 'T')) FROM generate_series(1, 1000) n;
SELECT count(*) FILTER (WHERE recorded_at < before) AS decreases, count(*) FILTER (WHERE recorded_at > clock_timestamp()) AS in_the_future
FROM (SELECT recorded_at, lag(recorded_at) OVER (PARTITION BY stream ORDER BY version) AS before FROM es_read_category('read_time', 0, NULL)) r;
-- event ids are UUIDs of version 7: RFC 9562 variant, milliseconds of the clock first, all different
SELECT count(*), count(DISTINCT event_id) AS different,
	count(*) FILTER (WHERE event_id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS version_7,
	count(*) FILTER (WHERE abs(('x' || translate(left(event_id::text, 13), '-', ''))::bit(48)::bigint - extract(epoch FROM recorded_at) * 1000) < 5000) AS of_its_time
FROM es_read_category('read_time', 0, NULL);
-- recorded_at is the clock, not the transaction's start
BEGIN;
SELECT now() AS transaction_start \gset
SELECT pg_sleep(0.01);
SELECT es_append('read_time-clock', 'T');
SELECT recorded_at > :'transaction_start'::timestamptz AS after_start FROM es_read('read_time-clock');
COMMIT;

-- whatever the isolation level, the log is read as it stands
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT count(*) FROM es_read_category('read_b');
SELECT count(*) FROM es_read('read_b-1');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT count(*) FROM es_read_category('read_b');
COMMIT;

-- TOASTed data comes back whole through every reader
SELECT es_append('read_big-1', 'Big', (SELECT jsonb_object_agg(n, md5(n::text)) FROM generate_series(1, 20000) n));
SELECT count(*), count(DISTINCT md5(data::text)) FROM (
	SELECT data FROM es_read('read_big-1') UNION ALL SELECT data FROM es_read_category('read_big')
	UNION ALL SELECT data FROM es_read_all(:hole, stream_prefix => 'read_big') UNION ALL SELECT data FROM es_events WHERE stream = 'read_big-1') d;
SELECT md5(data::text) = md5((SELECT jsonb_object_agg(n, md5(n::text)) FROM generate_series(1, 20000) n)::text) AS equal FROM es_read('read_big-1');
