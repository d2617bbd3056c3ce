--
-- Appending: expected versions, batches, names, idempotent retries, transactions.
--

-- outcome(statement): what the statement returns, or its SQLSTATE
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
-- failure(statement): state, message, detail and hint of a statement that must fail
CREATE FUNCTION pg_temp.failure(statement text,
	OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END
$$;

-- es_last_position() is NULL before the session's first append
SELECT es_last_position();

-- a worked example: versions count from 1
SELECT es_append('append_order-1', 'OrderPlaced', '{"total": 10}', '{"by": "ann"}');
SELECT es_append('append_order-1', 'OrderShipped', '{"carrier": "dhl"}', expected_version => 1);
SELECT es_append('append_order-1', 'OrderDelivered');
SELECT es_stream_version('append_order-1'), es_stream_version('append_order-none');
SELECT version, type, type_version, data, metadata FROM es_read('append_order-1');
SELECT es_last_position() = (SELECT position FROM es_read('append_order-1', 3)) AS last_is_mine;

-- someone else was faster: what the caller is told
\set VERBOSITY default
SELECT es_append('append_order-1', 'OrderCancelled', expected_version => 2);
\echo :SQLSTATE
SELECT es_append('append_order-1', 'OrderPlaced', expected_version => 0);
\echo :SQLSTATE
SELECT es_append('append_order-none', 'OrderShipped', expected_version => -1);
\echo :SQLSTATE
SELECT es_append('append_order-none', 'OrderShipped', expected_version => 7);
\echo :SQLSTATE
SELECT es_append('append_order-1', 'OrderPlaced', expected_version => -2);
\echo :SQLSTATE
SELECT es_stream_version('append_order-1'), es_stream_version('append_order-none');

--
-- The expected-version matrix: each cell on a stream of its own, which is
-- missing or has 3 events; the version after a refused append is unchanged.
--
CREATE TEMP TABLE cell AS
SELECT way, state, expected,
	format('append_matrix-%s-%s-%s', way, state, coalesce(expected::text, 'null')) AS stream
FROM unnest('{append,batch,json,events,empty batch,empty events}'::text[]) way,
	unnest('{missing,existing}'::text[]) state,
	unnest('{null,-1,0,1,2,3,4,-2,-9223372036854775808,9223372036854775807}'::bigint[]) expected;
SELECT count(es_append(stream, 'Before')) FROM cell, generate_series(1, 3) WHERE state = 'existing';
CREATE TEMP TABLE result AS
SELECT way, state, expected, pg_temp.outcome(format(
	CASE way
		WHEN 'append' THEN $$SELECT es_append(%L, 'T', expected_version => %L)$$
		WHEN 'batch' THEN $$SELECT es_append_batch(%L, '[{"type": "T"}, {"type": "U"}]', %L)$$
		WHEN 'json' THEN $$SELECT es_append_json(%L, '[{"type": "T"}, {"type": "U"}]', %L)$$
		WHEN 'events' THEN $$SELECT es_append_events(%L, ARRAY[('T', '{}', NULL, NULL), ('U', '{}', '{}', NULL)]::es_new_event[], %L)$$
		WHEN 'empty batch' THEN $$SELECT es_append_batch(%L, '[]', %L)$$
		ELSE $$SELECT es_append_events(%L, '{}', %L)$$
	END, stream, expected)) || ' -> v' || es_stream_version(stream) AS outcome
FROM cell;
SELECT state, coalesce(expected::text, 'null') AS expected,
	max(outcome) FILTER (WHERE way = 'append') AS es_append,
	max(outcome) FILTER (WHERE way = 'batch') AS es_append_batch,
	max(outcome) FILTER (WHERE way = 'json') AS es_append_json,
	max(outcome) FILTER (WHERE way = 'events') AS es_append_events,
	max(outcome) FILTER (WHERE way = 'empty batch') AS empty_batch,
	max(outcome) FILTER (WHERE way = 'empty events') AS empty_events
FROM result GROUP BY result.state, result.expected ORDER BY state DESC, result.expected NULLS FIRST;

--
-- Batches
--
SELECT es_append_batch('append_batch-1', '[
	{"type": "A"},
	{"type": "B", "data": {"n": 1}},
	{"type": "C", "data": null, "metadata": {"m": [1]}},
	{"type": "D", "data": [1, 2], "event_id": "0189aaaa-0000-7000-8000-000000000001"}]');
SELECT version, type, data, metadata,
	CASE WHEN type = 'D' THEN event_id END AS event_id,
	position - first_value(position) OVER (ORDER BY version) AS nth
FROM es_read('append_batch-1');
SELECT es_append_events('append_batch-1', ARRAY[
	ROW('E', '"x"', NULL, NULL),
	ROW('F', 'null', '{"m": 2}', '0189aaaa-0000-7000-8000-000000000002')]::es_new_event[], 4);
SELECT version, type, data, metadata FROM es_read('append_batch-1', 5);
SELECT count(DISTINCT recorded_at) AS times FROM es_read('append_batch-1') WHERE version <= 4;

-- all or nothing: a bad element in the middle stores nothing
SELECT pg_temp.outcome($$SELECT es_append_batch('append_batch-2', '[{"type": "A"}, {"type": ""}, {"type": "C"}]')$$);
SELECT pg_temp.outcome($$SELECT es_append_events('append_batch-2',
	ARRAY[('A', '{}', NULL, NULL), ('B', NULL, NULL, NULL), ('C', '{}', NULL, NULL)]::es_new_event[])$$);
SELECT es_append_batch('append_batch-2', '[{"type": "A"}, {"type": "$B"}, {"type": "C"}]');
\echo :SQLSTATE
SELECT es_stream_version('append_batch-2'), (SELECT count(*) FROM es_read('append_batch-2')),
	(SELECT count(*) FROM es_streams WHERE stream = 'append_batch-2') AS streams;

-- a large batch is contiguous
SELECT es_append_batch('append_batch-3', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', n)) FROM generate_series(1, 5000) n));
SELECT count(*), count(*) FILTER (WHERE data = to_jsonb(version)) AS in_order,
	max(version), max(position) - min(position) AS span FROM es_read('append_batch-3');

-- malformed batches: always 22023, nothing stored
SELECT batch, f.state, f.message, f.detail, f.hint FROM unnest(ARRAY[
	'{}', '{"type": "A"}', '"A"', '1', 'null', 'true',
	'[1]', '["A"]', '[null]', '[[]]', '[[{"type": "A"}]]',
	'[{}]', '[{"data": {}}]', '[{"type": null}]', '[{"type": 1}]', '[{"type": ["A"]}]', '[{"type": {"A": 1}}]',
	'[{"type": ""}]', '[{"type": "$A"}]', '[{"type": "a\u0001b"}]', '[{"type": "a\u007fb"}]',
	'[{"type": "A", "Data": {}}]', '[{"type": "A", "stream": "x"}]', '[{"type": "A", "version": 1}]', '[{"type": "A", "": 1}]',
	'[{"type": "A", "metadata": []}]', '[{"type": "A", "metadata": "x"}]', '[{"type": "A", "metadata": 1}]',
	'[{"type": "A", "event_id": "x"}]', '[{"type": "A", "event_id": 1}]', '[{"type": "A", "event_id": {}}]', '[{"type": "A", "event_id": ""}]'
	]) batch,
	pg_temp.failure(format('SELECT es_append_batch(%L, %L)', 'append_batch-4', batch)) f;
SELECT es_stream_version('append_batch-4');

-- from text the same, and with jsonb's own errors what is no JSON at all, wherever that is
SELECT es_append_json('append_text-1', '[
	{"type": "A"},
	{"type": "B", "data": {"n": 1.50, "name": "\u00e9\ud83d\ude00", "n": 2.50, "": [true, false, null]}},
	{"type": "C", "data": null, "metadata": {"m": [1]}},
	{"type": "D", "data": [1, 2], "event_id": "0189aaaa-0000-7000-8000-000000000001", "type_version": 1}]', 0);
SELECT version, type, data, metadata, CASE WHEN type = 'D' THEN event_id END AS event_id FROM es_read('append_text-1');
SELECT es_append_json('append_text-1', '[
	{"type": "D", "data": [1, 2], "event_id": "0189aaaa-0000-7000-8000-000000000001"}]', 3) AS retry;
SELECT es_append_json('append_text-1', '[{"type": "E"}]', 3);
\echo :SQLSTATE
SELECT es_append_json('append_text-2', '[{"type": 5}, {"type": "A"');
SELECT pg_temp.outcome(format('SELECT es_append_json(%L, %L)', 'append_text-2', '[{"type": "A"}, ' || rest)), rest FROM unnest(ARRAY[
	'', '5', '{"type": "B"}', '{"type": "B"}]]', '{"type": "B", "data": 01}]', '{"type": "B", "data": "\u0000"}]', '{"type": "B", "data": "\ud83d"}]', '{"type": "B", "data": 1e200000}]']) rest;
SELECT es_append_json('append_text-2', '[{"type": "A"}, {"type": "$B"}]');
SELECT count(*), bool_and(f.state = '22023') AS all_22023, bool_and(f = pg_temp.failure(format('SELECT es_append_batch(%L, %L)', 'append_text-2', batch))) AS same
FROM unnest(ARRAY['{}', '5', 'null', '[1]', '[null]', '[[]]', '[{}]', '[{"type": null}]', '[{"type": 1}]', '[{"type": ""}]', '[{"type": "$A"}]', '[{"type": "A", "version": 1}]',
	'[{"type": "A", "metadata": []}]', '[{"type": "A", "event_id": "x"}]', '[{"type": "A", "type_version": 1.5}]', '[{"type": "A", "type_version": 2}]']) batch,
	pg_temp.failure(format('SELECT es_append_json(%L, %L)', 'append_text-2', batch)) f;
SELECT es_stream_version('append_text-2');
-- parameters of no type are text, those of type text and varchar, too
PREPARE append_text AS SELECT es_append_json($1, $2);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'append_text';
EXECUTE append_text('append_text-3', '[{"type": "A"}]');
DEALLOCATE append_text;
DO $$
DECLARE
	t text := '[{"type": "B"}]';
	v varchar := t;
BEGIN
	PERFORM es_append_json('append_text-3', t), es_append_json(events => v, stream => 'append_text-3');
END $$;
SELECT es_append_json('append_text-3', '[' || string_agg('{"type": "T", "data": ' || n || '}', ',' ORDER BY n) || ']') FROM generate_series(4, 5003) n;
SELECT count(*) FILTER (WHERE data = to_jsonb(version)) AS in_order, max(position) - min(position) AS span FROM es_read('append_text-3', 4);
SELECT es_append_json('append_text-3', '[]', 5003), es_append_json('append_text-3', ' [ ] ');
SELECT pg_temp.outcome($$SELECT es_append_json('append_text-3', '[]'::jsonb)$$);

-- SQL NULLs are 22004
SELECT pg_temp.outcome(statement), statement FROM unnest(ARRAY[
	$$SELECT es_append(NULL, 'T')$$,
	$$SELECT es_append('append_null-1', NULL)$$,
	$$SELECT es_append('append_null-1', 'T', NULL)$$,
	$$SELECT es_append_batch(NULL, '[]')$$,
	$$SELECT es_append_batch('append_null-1', NULL)$$,
	$$SELECT es_append_json(NULL, '[]')$$,
	$$SELECT es_append_json('append_null-1', NULL)$$,
	$$SELECT es_append_events(NULL, '{}')$$,
	$$SELECT es_append_events('append_null-1', NULL)$$,
	$$SELECT es_append_events('append_null-1', ARRAY[(NULL, '{}', NULL, NULL)]::es_new_event[])$$,
	$$SELECT es_append_events('append_null-1', ARRAY[('T', NULL, NULL, NULL)]::es_new_event[])$$,
	$$SELECT es_append_events('append_null-1', ARRAY[NULL]::es_new_event[])$$,
	$$SELECT es_stream_version(NULL)$$
	]) statement;
-- JSON null data is fine, NULL metadata means {}
SELECT es_append('append_null-2', 'T', 'null', NULL);
SELECT data, metadata FROM es_read('append_null-2');
-- metadata is an object
SELECT metadata, pg_temp.outcome(format($$SELECT es_append('append_null-3', 'T', '{}', %L)$$, metadata))
FROM unnest('{"[]","\"x\"",1,"null",true}'::jsonb[]) metadata;
SELECT pg_temp.outcome($$SELECT es_append_events('append_null-3', ARRAY[('T', '{}', '[]', NULL)]::es_new_event[])$$);
SELECT es_stream_version('append_null-1'), es_stream_version('append_null-3');

--
-- Names
--
SELECT es_append('', 'T');
\echo :SQLSTATE
SELECT es_append('append_name' || chr(10) || '1', 'T');
\echo :SQLSTATE
SELECT es_append(repeat('s', 513), 'T');
\echo :SQLSTATE
SELECT es_append('append_name', '');
\echo :SQLSTATE
SELECT es_append('append_name', repeat('t', 256));
\echo :SQLSTATE
SELECT es_append('append_name', '$deleted');
\echo :SQLSTATE
-- the limits themselves are allowed, and count bytes
SELECT es_append(rpad('append_name-', 512, 's'), repeat('t', 255));
SELECT octet_length(stream), octet_length(type) FROM es_read(rpad('append_name-', 512, 's'));
SELECT pg_temp.outcome($$SELECT es_append(repeat(E'\u00e9', 256), 'T', event_id => NULL)$$) AS e512,
	pg_temp.outcome($$SELECT es_append(repeat(E'\u00e9', 256) || 's', 'T')$$) AS e513;
-- no C0 control character nor DEL, in no place and by no way
SELECT count(*) AS tried, count(*) FILTER (WHERE
	pg_temp.outcome(format('SELECT es_append(%L, %L)', 'append_name-' || chr(c), 'T')) = '22023'
	AND pg_temp.outcome(format('SELECT es_append(%L, %L)', chr(c) || 'append_name-', 'T')) = '22023'
	AND pg_temp.outcome(format('SELECT es_append(%L, %L)', 'append_name-c', 'T' || chr(c))) = '22023'
	AND pg_temp.outcome(format('SELECT es_append_batch(%L, %L)', 'append_name-c', jsonb_build_array(jsonb_build_object('type', chr(c))))) = '22023'
	AND pg_temp.outcome(format('SELECT es_append_batch(%L, %L)', chr(c), '[]')) = '22023'
	AND pg_temp.outcome(format('SELECT es_stream_version(%L)', chr(c))) = '22023'
	) AS refused
FROM (SELECT generate_series(1, 31) UNION ALL SELECT 127) controls(c);
-- what only looks special is a name like any other
SELECT name, es_append(name, rpad('T$', length(name))) FROM unnest('{append_%_,"append ''\"\\",append--,-append,$append," append "}'::text[]) name;
SELECT stream, category FROM es_streams WHERE stream IN ('append_%_', 'append ''"\', 'append--', '-append', '$append', ' append ') ORDER BY stream COLLATE "C";
-- names differ by any byte
SELECT es_append('append_name-a', 'T'), es_append('append_name-A', 'T'), es_append('append_name-a ', 'T');

--
-- Idempotent retry.  Stream append_retry-1 has the ids 1..5 at versions 1..5.
--
CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql AS
	$$SELECT ('0189bbbb-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid$$;
-- batch of events with the given ids; the id decides type and data; NULL: no id
CREATE FUNCTION pg_temp.batch(VARIADIC ids int[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('type', 'T' || coalesce(n, 0), 'data', jsonb_build_object('n', n, 'x', 1),
		'event_id', pg_temp.id(n))) ORDER BY o)
	FROM unnest(ids) WITH ORDINALITY u(n, o)
$$;
SELECT es_append_batch('append_retry-1', pg_temp.batch(1, 2, 3, 4, 5));
SELECT position AS position_of_3 FROM es_read('append_retry-1', 3, 1) \gset
SELECT position AS position_of_5 FROM es_read('append_retry-1', 5, 1) \gset

CREATE TEMP TABLE attempt (ids int[], expected bigint, why text);
INSERT INTO attempt VALUES
	('{1,2,3,4,5}', NULL, 'any: all of it'),
	('{2,3}', NULL, 'any: a run in the middle'),
	('{5}', NULL, 'any: the last'),
	('{2,3}', -1, 'exists: a run in the middle'),
	('{1,2}', 0, 'new: from version 1'),
	('{2,3}', 0, 'new: stored, but not from version 1'),
	('{2,3}', 1, 'exact: right after'),
	('{1}', 0, 'exact 0: right after'),
	('{4,5}', 3, 'exact: right after, at the end'),
	('{2,3}', 2, 'exact: stored elsewhere'),
	('{2,3}', 5, 'exact: version is right, but ids are stored elsewhere'),
	('{2,3}', 9, 'exact: version was never reached'),
	('{1,2}', 9223372036854775807, 'exact: version is never reached'),
	('{5,6}', NULL, 'partly there'),
	('{5,6}', 4, 'partly there, right after'),
	('{6,5}', NULL, 'partly there'),
	('{3,2}', NULL, 'other order'),
	('{1,3}', NULL, 'not one run'),
	('{1,3}', 0, 'not one run'),
	('{3,NULL}', NULL, 'mixed, given one is stored'),
	('{NULL,3}', 5, 'mixed, given one is stored'),
	('{1,1}', NULL, 'one id twice'),
	('{9,8,9}', NULL, 'one id twice, not stored'),
	('{9,8,9}', 77, 'one id twice, wrong version too');
SELECT ids, coalesce(expected::text, 'null') AS expected, why,
	pg_temp.outcome(format('SELECT es_append_batch(%L, %L, %L)', 'append_retry-1', pg_temp.batch(VARIADIC ids), expected)) AS outcome,
	es_stream_version('append_retry-1') AS version
FROM attempt;

-- the other functions retry alike
SELECT es_append('append_retry-1', 'T3', '{"n": 3, "x": 1}', '{}', NULL, pg_temp.id(3)) AS any,
	es_append('append_retry-1', 'T3', '{"x": 1, "n": 3}', NULL, 2, pg_temp.id(3)) AS exact,
	es_append('append_retry-1', 'T1', '{"n": 1, "x": 1}', event_id => pg_temp.id(1), expected_version => 0) AS new,
	es_append_events('append_retry-1', ARRAY[('T4', '{"n": 4, "x": 1}', NULL, pg_temp.id(4)), ('T5', '{"n": 5, "x": 1}', '{}', pg_temp.id(5))]::es_new_event[], -1) AS exists;
SELECT es_stream_version('append_retry-1');

-- after a retry es_last_position() is the stored event's
SELECT es_append_batch('append_retry-1', pg_temp.batch(2, 3), 1);
SELECT es_last_position() = :position_of_3 AS is_the_stored_one;
SELECT es_append_batch('append_retry-1', pg_temp.batch(4, 5));
SELECT es_last_position() = :position_of_5 AS is_the_stored_one;

-- what the caller is told in each case; the position is that of the stored event
SELECT what, state, message, hint, regexp_replace(detail, 'position \d+', 'position <n>') AS detail,
	substring(detail, 'position (\d+)')::bigint = es_position('append_retry-1', substring(detail, 'version (\d+)')::bigint) AS is_its_position
FROM (VALUES
	('other type', $$SELECT es_append('append_retry-1', 'other', '{"n": 3, "x": 1}', event_id => pg_temp.id(3))$$),
	('other data', $$SELECT es_append('append_retry-1', 'T3', '{"n": 4, "x": 1}', event_id => pg_temp.id(3))$$),
	('other metadata', $$SELECT es_append('append_retry-1', 'T3', '{"n": 3, "x": 1}', '{"m": 1}', event_id => pg_temp.id(3), expected_version => 2)$$),
	('partly', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(5, 6))$$),
	('partly, in another place', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(7, 5, 6, 1))$$),
	('other order', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(3, 2))$$),
	('not one run', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(1, 2, 4))$$),
	('other place', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(2, 3), 5)$$),
	('other place, other content', $$SELECT es_append('append_retry-1', 'other', event_id => pg_temp.id(2), expected_version => 3)$$),
	('not at the beginning', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(2, 3), 0)$$),
	('one without id', $$SELECT es_append_batch('append_retry-1', pg_temp.batch(3, NULL))$$)) t(what, statement),
	pg_temp.failure(statement);
SELECT es_append_batch('append_retry-1', pg_temp.batch(9, 9));
\echo :SQLSTATE
-- new ids at the wrong version are an ordinary VE001
SELECT es_append('append_retry-1', 'T9', event_id => pg_temp.id(9), expected_version => 4);

-- ids are not compared across streams, and a run may come from several calls
SELECT es_append_batch('append_retry-2', pg_temp.batch(3, 1)), es_append_batch('append_retry-2', pg_temp.batch(2));
SELECT es_append_batch('append_retry-2', pg_temp.batch(3, 1, 2), 0), es_append_batch('append_retry-2', pg_temp.batch(1, 2), 1);
-- mixed given and not given, none stored: an ordinary append; the second time one is stored
SELECT es_append_batch('append_retry-2', pg_temp.batch(7, NULL)), pg_temp.outcome($$SELECT es_append_batch('append_retry-2', pg_temp.batch(7, NULL))$$);
-- without ids there is no retry
SELECT es_append_batch('append_retry-3', pg_temp.batch(NULL, NULL)), es_append_batch('append_retry-3', pg_temp.batch(NULL, NULL));
-- in the transaction of the first attempt, and after its rollback
BEGIN;
SELECT es_append('append_retry-4', 'T', event_id => pg_temp.id(1), expected_version => 0);
SELECT es_append('append_retry-4', 'T', event_id => pg_temp.id(1), expected_version => 0);
SAVEPOINT s;
SELECT es_append('append_retry-4', 'T', event_id => pg_temp.id(2), expected_version => 1);
ROLLBACK TO s;
SELECT es_append('append_retry-4', 'U', event_id => pg_temp.id(2), expected_version => 1);
ROLLBACK;
SELECT es_append('append_retry-4', 'V', event_id => pg_temp.id(1), expected_version => 0);
SELECT version, type FROM es_read('append_retry-4');

--
-- Transactions and statements
--
-- several appends in one statement see each other
SELECT es_append('append_multi-1', 'T', to_jsonb(n), expected_version => n - 1) FROM generate_series(1, 5) n;
SELECT es_append('append_multi-1', 'U'), es_stream_version('append_multi-1'), es_append('append_multi-1', 'V', expected_version => 6);
WITH a AS MATERIALIZED (SELECT es_append('append_multi-1', 'A' || n) AS v FROM generate_series(1, 3) n),
	b AS MATERIALIZED (SELECT es_append('append_multi-1', 'B' || n) AS v FROM generate_series(1, 3) n)
SELECT array_agg(v ORDER BY v) FROM (SELECT v FROM a UNION ALL SELECT v FROM b) u;
SELECT count(*), count(DISTINCT version), max(version) FROM es_read('append_multi-1');

-- savepoints: versions come back, positions do not
BEGIN;
SELECT es_append('append_tx-1', 'A', expected_version => 0);
SAVEPOINT s;
SELECT es_append('append_tx-1', 'B', expected_version => 1), es_append('append_tx-2', 'X');
SELECT es_last_position() AS undone \gset
ROLLBACK TO s;
SELECT es_last_position() = :undone AS like_lastval;
SELECT es_stream_version('append_tx-1'), es_stream_version('append_tx-2');
SELECT es_append('append_tx-1', 'C', expected_version => 1), es_append('append_tx-2', 'Y', expected_version => 0);
SELECT es_last_position() > :undone AS never_again;
SAVEPOINT t;
SELECT es_append('append_tx-1', 'D');
SAVEPOINT u;
SELECT es_append('append_tx-1', 'E'), es_append('append_tx-3', 'Z');
RELEASE u;
ROLLBACK TO t;
SELECT es_append('append_tx-1', 'F'), es_append('append_tx-3', 'Z', expected_version => 0);
COMMIT;
SELECT stream, version, type FROM unnest('{append_tx-1,append_tx-2,append_tx-3}'::text[]) s, es_read(s) ORDER BY stream, version;

-- rollback
BEGIN;
SELECT es_append('append_tx-1', 'G', expected_version => 3), es_append('append_tx-4', 'G');
SELECT es_last_position() AS undone \gset
ROLLBACK;
SELECT es_last_position() = :undone AS like_lastval, es_stream_version('append_tx-1'), es_stream_version('append_tx-4');
SELECT es_append('append_tx-1', 'H', expected_version => 3), es_append('append_tx-4', 'H', expected_version => 0);

-- subtransactions of plpgsql: some fail after their append, some before
DO $$
DECLARE
	failures int := 0;
BEGIN
	FOR n IN 1..30 LOOP
		BEGIN
			IF n % 3 = 0 THEN
				PERFORM es_append('append_tx-5', 'T', to_jsonb(n), expected_version => 1000);
			END IF;
			PERFORM es_append('append_tx-5', 'T', to_jsonb(n));
			IF n % 3 = 1 THEN
				PERFORM es_append('append_tx-5-' || n, 'T');
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero OR SQLSTATE 'VE001' THEN
			failures := failures + 1;
		END;
	END LOOP;
	RAISE NOTICE '% failures', failures;
END
$$;
SELECT array_agg(version ORDER BY version), array_agg(data ORDER BY version) FROM es_read('append_tx-5');
SELECT count(*) FROM es_streams WHERE stream LIKE 'append\_tx-5-%';
SELECT es_append('append_tx-5-1', 'T', expected_version => 0);

-- a procedure that commits and rolls back between its appends
DO $$
BEGIN
	FOR n IN 1..6 LOOP
		PERFORM es_append('append_tx-8', 'T', to_jsonb(n)), es_append('append_tx-8-' || n, 'T');
		IF n % 2 = 0 THEN
			COMMIT;
		ELSE
			ROLLBACK;
		END IF;
		ASSERT es_settled_position() = es_last_position();
	END LOOP;
END
$$;
SELECT version, data FROM es_read('append_tx-8');
SELECT stream FROM es_streams WHERE stream LIKE 'append\_tx-8-%' ORDER BY stream;

-- a cursor that appends as it is fetched from, others in between
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT es_append('append_tx-9', 'C', to_jsonb(n)) FROM generate_series(1, 10) n;
FETCH 2 FROM c;
SELECT es_append('append_tx-9', 'between', expected_version => 2);
FETCH 1 FROM c;
SAVEPOINT s;
SELECT es_append('append_tx-9', 'undone', expected_version => 4);
ROLLBACK TO s;
FETCH 1 FROM c;
COMMIT;
SELECT version, type, data FROM es_read('append_tx-9');

-- triggers: at once, and deferred to the commit
CREATE TEMP TABLE orders (id int PRIMARY KEY, status text);
CREATE FUNCTION pg_temp.record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM es_append('append_trigger-' || new.id, TG_NAME, to_jsonb(new));
	RETURN new;
END
$$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.record();
CREATE CONSTRAINT TRIGGER committed AFTER INSERT OR UPDATE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.record();
BEGIN;
INSERT INTO orders VALUES (1, 'new'), (2, 'new');
UPDATE orders SET status = 'paid' WHERE id = 1;
SELECT es_append('append_trigger-1', 'direct', expected_version => 2);
COMMIT;
SELECT stream, version, type, data FROM es_read_category('append_trigger') ORDER BY stream, version;
SELECT es_settled_position() = es_last_position() AS settled;

-- many subtransactions, some kept
DO $$
BEGIN
	FOR n IN 1..300 LOOP
		BEGIN
			PERFORM es_append('append_tx-10', 'T', to_jsonb(n), expected_version => (n - 1) / 3);
			IF n % 3 <> 0 THEN
				RAISE EXCEPTION 'undo';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT count(*), bool_and(data::int = version * 3) AS kept FROM es_read('append_tx-10');

-- isolation levels and access modes
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_append('append_tx-6', 'A'), es_append('append_tx-6', 'B', expected_version => 1);
SELECT version, type FROM es_read('append_tx-6');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT es_append('append_tx-6', 'C', expected_version => 2), es_append('append_tx-6', 'D', expected_version => 3);
SELECT version, type FROM es_read('append_tx-6');
COMMIT;
BEGIN READ ONLY;
SELECT count(*) FROM es_read('append_tx-6');
SELECT es_append('append_tx-6', 'E');
\echo :SQLSTATE
ROLLBACK;

-- the session is usable after each kind of failure inside a transaction
BEGIN;
SELECT es_append('append_tx-7', 'A');
SAVEPOINT s;
SELECT es_append('append_tx-7', 'B', expected_version => 0);
ROLLBACK TO s;
SELECT es_append('append_tx-7', 'B', '{}', '[]');
ROLLBACK TO s;
SELECT es_append_batch('append_tx-7', '[{"type": "B"}, {"type": 1}]');
ROLLBACK TO s;
SELECT es_append('append_tx-7', 'B', expected_version => 1);
COMMIT;
SELECT version, type FROM es_read('append_tx-7');

-- a transaction remembers the tips that it has written; rolled back ones are forgotten
BEGIN;
SELECT es_append('append_own-1', 'A');
SELECT es_append('append_own-1', 'B');
SELECT es_append('append_own-1', 'C', expected_version => 2);
SAVEPOINT s;
SELECT es_append_batch('append_own-1', '[{"type": "D"}, {"type": "E"}]');
SELECT es_append('append_own-1', 'F', expected_version => 5);
ROLLBACK TO s;
SELECT es_append('append_own-1', 'G', expected_version => 5);
ROLLBACK TO s;
SELECT es_append('append_own-1', 'H', expected_version => 3);
SAVEPOINT t;
SELECT es_append('append_own-1', 'I');
RELEASE t;
SELECT es_append('append_own-1', 'J', expected_version => 5);
-- a stream of which only the version was checked is not one that was written
SELECT * FROM es_append_many('[{"stream": "append_own-1", "expected_version": 6}, {"stream": "append_own-2", "type": "A"}]');
SELECT * FROM es_append_many('[{"stream": "append_own-3", "expected_version": 0}, {"stream": "append_own-2", "type": "B"}]');
SELECT es_append('append_own-3', 'A', expected_version => 0);
COMMIT;
SELECT stream, version, type FROM es_events WHERE stream ~ '^append_own' ORDER BY stream, version;

-- positions are taken without lastval() noticing
CREATE TEMP SEQUENCE append_seq;
SELECT nextval('append_seq');
SELECT es_append('append_own-1', 'K');
SELECT lastval();

--
-- Size
--
-- 10 MB in one event, compressible or not, and as one element of a batch
SELECT es_append('append_big-1', 'Repeated', jsonb_build_object('s', repeat('x', 10 * 1024 * 1024)));
SELECT jsonb_build_object('s', string_agg(md5(n::text), '')) AS random FROM generate_series(1, 10 * 1024 * 1024 / 32) n \gset
SELECT es_append('append_big-1', 'Random', :'random', event_id => pg_temp.id(1));
SELECT es_append_batch('append_big-1', jsonb_build_array(jsonb_build_object('type', 'Small'),
	jsonb_build_object('type', 'Random', 'data', :'random'::jsonb)));
SELECT version, type, length(data ->> 's'), CASE type WHEN 'Random' THEN data = :'random'::jsonb END AS equal FROM es_read('append_big-1');
-- its retry compares all of it
SELECT es_append('append_big-1', 'Random', :'random', event_id => pg_temp.id(1));
\unset random

-- 100,000 streams in one transaction, with the lock table of default settings
BEGIN;
SELECT count(es_append('append_many-' || n, 'T', to_jsonb(n))) FROM generate_series(1, 100000) n;
SELECT count(*) < 100 AS few_locks FROM pg_locks WHERE pid = pg_backend_pid();
-- each knows its own uncommitted event
SELECT count(es_append('append_many-' || n, 'U', expected_version => 1)) FROM generate_series(1, 100000, 1000) n;
COMMIT;
SELECT count(*), sum(version) FROM es_streams WHERE category = 'append_many';
SELECT version, type, data FROM es_read('append_many-99001');
