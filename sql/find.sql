--
-- One event of a stream: its position by its version, and the event by the id that its writer gave.
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
SELECT es_append('find-1', 'A', '{"n": 1}', event_id => '0189ffff-0000-7000-8000-00000000f001');
SELECT es_append_batch('find-2', '[{"type": "B"}, {"type": "B", "event_id": "0189ffff-0000-7000-8000-00000000f002"}, {"type": "B"}]');
SELECT es_append('find-1', 'A', '{"n": 2}');

-- what es_append returned, said as a position
SELECT es_position('find-1', 2) = es_last_position() AS last;
SELECT bool_and(es_position(stream, version) = position) AS each, count(*) FROM es_events WHERE stream LIKE 'find-%';
SELECT es_position('find-1', v) IS NULL AS none FROM unnest('{3,0,-1,9223372036854775807,-9223372036854775808}'::bigint[]) v;
SELECT es_position('find-none', 1) IS NULL AS none;

-- the event of an id, whatever place it has in its batch
SELECT stream, version, type, data, event_id, position = es_position('find-1', 1) AS position
FROM es_find_event('find-1', '0189ffff-0000-7000-8000-00000000f001');
SELECT stream, version, type FROM es_find_event('find-2', '0189ffff-0000-7000-8000-00000000f002');
-- ids are the stream's own
SELECT count(*) FROM es_find_event('find-2', '0189ffff-0000-7000-8000-00000000f001');
SELECT count(*) FROM es_find_event('find-none', '0189ffff-0000-7000-8000-00000000f001');
-- one that the store has made is not looked for
SELECT count(f.*) FROM es_read('find-1', 2) e, es_find_event('find-1', e.event_id) f;
-- a batch of them
SELECT array_agg(f.version) FROM unnest('{0189ffff-0000-7000-8000-00000000f002,0189ffff-0000-7000-8000-00000000f003}'::uuid[]) id, es_find_event('find-2', id) f;

SELECT pg_temp.outcome(statement), statement FROM unnest(ARRAY[
	$$SELECT es_position(NULL, 1)$$,
	$$SELECT es_position('find-1', NULL)$$,
	$$SELECT es_position('', 1)$$,
	$$SELECT es_find_event(NULL, '0189ffff-0000-7000-8000-00000000f001')$$,
	$$SELECT es_find_event('find-1', NULL)$$,
	$$SELECT es_find_event(E'find\n1', '0189ffff-0000-7000-8000-00000000f001')$$]) statement;

-- of this transaction's own, and what a rollback undoes
BEGIN;
SELECT es_append('find-3', 'C', event_id => '0189ffff-0000-7000-8000-00000000f003');
SELECT es_position('find-3', 1) = es_last_position() AS own, (SELECT count(*) FROM es_find_event('find-3', '0189ffff-0000-7000-8000-00000000f003')) AS found;
SAVEPOINT s;
SELECT es_append('find-3', 'C', event_id => '0189ffff-0000-7000-8000-00000000f004');
ROLLBACK TO s;
SELECT es_position('find-3', 2) IS NULL AS undone, (SELECT count(*) FROM es_find_event('find-3', '0189ffff-0000-7000-8000-00000000f004')) AS found;
ROLLBACK;
SELECT es_position('find-3', 1) IS NULL AS undone, (SELECT count(*) FROM es_find_event('find-3', '0189ffff-0000-7000-8000-00000000f003')) AS found;

-- in every isolation level
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 AS snapshot FROM pg_class;
SELECT es_position('find-1', 1) IS NOT NULL AS found;
COMMIT;
DISCARD ALL;
SELECT es_position('find-1', 2) = max(position) AS after_discard FROM es_read('find-1');
