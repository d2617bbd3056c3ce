--
-- es_try_append: what has become of an append, in place of VE001 and VE010
--
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE query INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || sqlerrm;
END
$$;
SELECT * FROM es_try_append('try_a-1', 'A', '{"n": 1}', '{"m": 1}', 0, '0189cccc-0000-7000-8000-000000000001');
SELECT * FROM es_try_append('try_a-1', 'B');
SELECT version, type, data, metadata FROM es_read('try_a-1');

-- each expectation, of a stream that is missing and of one with two events
SELECT count(es_append('try_existing-' || nth, 'Before')) FROM generate_series(1, 8) nth, generate_series(1, 2);
SELECT state, expected, pg_temp.outcome(format('SELECT es_try_append(%L, %L, expected_version => %L)', 'try_' || state || '-' || nth, 'T', expected))
FROM unnest('{missing,existing}'::text[]) state, unnest('{null,-1,0,1,2,3,-2,9223372036854775807}'::bigint[]) WITH ORDINALITY e(expected, nth);

-- an id that is there goes first, whatever the expectation and the contents; nothing is stored and no position taken
SELECT es_append('try_a-2', 'Other') IS NOT NULL AS appended, es_last_position() AS position \gset
SELECT es_try_append('try_a-1', type, data, metadata, expected, '0189cccc-0000-7000-8000-000000000001')
FROM (VALUES ('A', '{"n": 1}'::jsonb, '{"m": 1}'::jsonb, 0::bigint), ('A', '{"n": 1}', '{"m": 1}', 1), ('A', '{"n": 2}', '{}', NULL), ('Z', '{}', '{}', 9)) v(type, data, metadata, expected);
SELECT es_last_position() = es_position('try_a-1', 1) AS of_the_stored_one;
SELECT es_try_append('try_a-1', 'C', expected_version => 7), es_try_append('try_a-1', 'C', expected_version => 0);
SELECT es_append('try_a-2', 'Other') IS NOT NULL AS appended, es_last_position() - :position AS next_to;
SELECT es_stream_version('try_a-1');

-- other streams may have the id; without one none is looked for
SELECT es_try_append('try_a-3', 'A', event_id => '0189cccc-0000-7000-8000-000000000001'), es_try_append('try_a-3', 'A'), es_try_append('try_a-3', 'A');

-- its own transaction's appends count, what is rolled back does not, and no subtransaction is needed to go on
BEGIN;
SELECT es_try_append('try_b-1', 'A', expected_version => 0), es_try_append('try_b-1', 'A', expected_version => 0),
	es_try_append('try_b-1', 'B', expected_version => 1, event_id => '0189cccc-0000-7000-8000-000000000002');
SAVEPOINT s;
SELECT es_try_append('try_b-1', 'C', event_id => '0189cccc-0000-7000-8000-000000000003');
ROLLBACK TO s;
SELECT es_try_append('try_b-1', 'C', event_id => '0189cccc-0000-7000-8000-000000000003'), es_try_append('try_b-1', 'D', event_id => '0189cccc-0000-7000-8000-000000000003');
COMMIT;
DO $$
DECLARE
	tried record;
BEGIN
	FOR i IN 1 .. 3 LOOP
		tried := es_try_append('try_b-1', 'Counted', expected_version => 2 + i);
		RAISE NOTICE '% %', tried.outcome, tried.version;
		tried := es_try_append('try_b-1', 'Counted', expected_version => 2 + i);
		RAISE NOTICE '% %', tried.outcome, tried.version;
	END LOOP;
END
$$;

-- an inline projection takes in what is appended, and nothing else
SELECT es_create_projection('try_count', 'count', mode => 'inline', category => 'try_c');
SELECT es_try_append('try_c-1', 'A', expected_version => 0, event_id => '0189cccc-0000-7000-8000-000000000001'), es_try_append('try_c-1', 'A', expected_version => 0),
	es_try_append('try_c-1', 'A', event_id => '0189cccc-0000-7000-8000-000000000001'), es_try_append('try_c-1', 'A', expected_version => 1);
SELECT key, version, state FROM es_projection('try_count');
SELECT es_drop_projection('try_count');

-- all else is an error
SELECT query, pg_temp.outcome('SELECT ' || query) FROM unnest(ARRAY[
	$$es_try_append(NULL, 'A')$$, $$es_try_append('try_a-1', NULL)$$, $$es_try_append('try_a-1', 'A', NULL)$$, $$es_try_append('', 'A')$$,
	$$es_try_append('try_a-1', '$A')$$, $$es_try_append('try_a-1', 'A', '{}', '[]')$$, $$es_try_append('try_a-1', 'A', type_version => 2)$$]) query;
SELECT es_delete_stream('try_a-3');
SELECT es_try_append('try_a-3', 'A', event_id => '0189cccc-0000-7000-8000-000000000001');
SELECT es_register_schema('TryKnown', '{"required": ["n"]}');
SELECT es_try_append('try_d-1', 'TryKnown', '{"n": 1}', event_id => '0189cccc-0000-7000-8000-000000000001');
SELECT es_try_append('try_d-1', 'TryKnown', '{}', event_id => '0189cccc-0000-7000-8000-000000000001');
SELECT es_try_append('try_d-1', 'TryKnown', '{}', expected_version => 7);
