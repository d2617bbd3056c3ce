--
-- es_append_many: one call over many streams, all or nothing.
--
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
-- stored(category): what is there, positions counted from the first
CREATE FUNCTION pg_temp.stored(category text,
	OUT nth bigint, OUT stream text, OUT version bigint, OUT type text, OUT data jsonb) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT position - first_value(position) OVER (ORDER BY position), stream, version, type, data FROM es_read_category(category) ORDER BY position
$$;

-- a worked example: money moves from one account to another, or nothing happens
SELECT stream, version FROM es_append_many('[
	{"stream": "many_account-ann", "type": "Opened", "expected_version": 0},
	{"stream": "many_account-bob", "type": "Opened", "expected_version": 0},
	{"stream": "many_account-ann", "type": "Deposited", "data": {"amount": 10}}]');
SELECT stream, version FROM es_append_many('[
	{"stream": "many_account-ann", "type": "Withdrawn", "data": {"amount": 5}, "expected_version": 2},
	{"stream": "many_account-bob", "type": "Deposited", "data": {"amount": 5}}]');
-- events are in the log in the given order, A, B, A, and not by stream
SELECT * FROM pg_temp.stored('many_account');
-- someone else was faster on one of the streams: neither gets anything
\set VERBOSITY default
SELECT * FROM es_append_many('[
	{"stream": "many_account-bob", "type": "Deposited", "data": {"amount": 1}},
	{"stream": "many_account-ann", "type": "Withdrawn", "data": {"amount": 1}, "expected_version": 2}]');
\echo :SQLSTATE
SELECT es_stream_version('many_account-ann'), es_stream_version('many_account-bob');

-- the rows that come back are what is stored, in the given order
CREATE TEMP TABLE given AS
SELECT jsonb_agg(jsonb_build_object('stream', 'many_rows-' || n * 7 % 5, 'type', 'T' || n, 'data', n) ORDER BY n) AS events
FROM generate_series(1, 12) n;
CREATE TEMP TABLE returned AS SELECT m.*, row_number() OVER () AS nth FROM given, es_append_many(events) m;
SELECT count(*), count(e.position) AS stored, bool_and(e.data::int = nth) AS in_order,
	max(position) - min(position) AS span, max(position) = es_last_position() AS last_is_mine
FROM returned LEFT JOIN es_events e USING (stream, version, position);

-- data, metadata, event_id, tags
SELECT stream, version FROM es_append_many('[
	{"stream": "many_members-1", "type": "A"},
	{"stream": "many_members-2", "type": "B", "data": null, "metadata": null, "event_id": null, "expected_version": null},
	{"stream": "many_members-1", "type": "C", "data": [1], "metadata": {"by": "ann"}, "event_id": "0189eeee-0000-7000-8000-000000000001"},
	{"stream": "many_members-2", "type": "D", "metadata": {"tags": ["old"], "by": "bob"}, "tags": ["new", "newer"]}]');
SELECT stream, version, type, data, metadata, CASE type WHEN 'C' THEN event_id END AS event_id FROM es_read_category('many_members');
SELECT stream, type FROM es_read_tagged('{new,newer}', after_position => (SELECT min(position) - 1 FROM es_read_category('many_members')));

--
-- Expectations
--
SELECT count(*) FROM es_append_many('[
	{"stream": "many_at-1", "type": "A"},
	{"stream": "many_at-2", "type": "A"}, {"stream": "many_at-2", "type": "B"},
	{"stream": "many_at-3", "type": "A"}, {"stream": "many_at-3", "type": "B"}, {"stream": "many_at-3", "type": "C"}]');
-- they hold for the stream as it was before the call, and are stated with its first element
SELECT stream, version FROM es_append_many('[
	{"stream": "many_at-1", "type": "U", "expected_version": 1}, {"stream": "many_at-1", "type": "V"},
	{"stream": "many_at-2", "type": "U", "expected_version": -1},
	{"stream": "many_at-4", "type": "U", "expected_version": 0}, {"stream": "many_at-4", "type": "V"},
	{"stream": "many_at-5", "type": "U", "expected_version": null}]');
SELECT state, message FROM pg_temp.failure($$SELECT es_append_many('[{"stream": "many_at-6", "type": "U"}, {"stream": "many_at-6", "type": "V", "expected_version": 1}]')$$);
SELECT state, message FROM pg_temp.failure($$SELECT es_append_many('[{"stream": "many_at-6", "expected_version": 0}, {"stream": "many_at-6", "type": "V", "expected_version": 0}]')$$);
SELECT state, message FROM pg_temp.failure($$SELECT es_append_many('[{"stream": "many_at-6", "type": "U"}, {"stream": "many_at-7", "type": "U"}, {"stream": "many_at-8", "type": "U"}, {"stream": "many_at-9", "type": "U"}, {"stream": "many_at-6", "type": "V", "expected_version": 1}]')$$);
SELECT es_stream_version('many_at-6');

-- an element without type only checks: it appends nothing and gives no row
SELECT stream, version FROM es_append_many('[
	{"stream": "many_at-3", "expected_version": 3},
	{"stream": "many_at-none", "expected_version": 0},
	{"stream": "many_at-6", "type": "A"},
	{"stream": "many_at-2", "expected_version": -1}]');
SELECT es_stream_version('many_at-3'), es_stream_version('many_at-none'), es_stream_version('many_at-2');
SELECT count(*) AS streams FROM es_streams WHERE stream = 'many_at-none';
-- a check can come before the events of its stream
SELECT stream, version FROM es_append_many('[{"stream": "many_at-6", "expected_version": 1}, {"stream": "many_at-6", "type": "B"}]');
-- nothing but checks
SELECT * FROM es_append_many('[{"stream": "many_at-6", "expected_version": 2}, {"stream": "many_at-none", "expected_version": 0}]');
SELECT * FROM es_append_many('[{"stream": "many_at-6", "expected_version": 1}]');
\echo :SQLSTATE
-- nothing at all
SELECT * FROM es_append_many('[]');

-- every stream that is not as expected is listed, once, in the order of the call
SELECT f.state, f.message, f.hint, e.* FROM pg_temp.failure($$SELECT es_append_many('[
		{"stream": "many_at-1", "type": "X", "expected_version": 3},
		{"stream": "many_at-2", "type": "X", "expected_version": 0}, {"stream": "many_at-2", "type": "Y"},
		{"stream": "many_at-3", "expected_version": 2},
		{"stream": "many_at-4", "type": "X"},
		{"stream": "many_at-none", "type": "X", "expected_version": -1},
		{"stream": "many_at-\"quoted\"", "type": "X", "expected_version": 9223372036854775807},
		{"stream": "many_at-5", "type": "X", "expected_version": 1},
		{"stream": "many_at-nothing", "expected_version": 1}]')$$) f,
	jsonb_to_recordset(f.detail::jsonb) AS e(stream text, expected bigint, actual bigint);
-- as it is
SELECT detail FROM pg_temp.failure($$SELECT es_append_many('[
	{"stream": "many_at-none", "type": "X", "expected_version": -1}, {"stream": "many_at-1", "type": "X", "expected_version": 0}]')$$);
-- PL/pgSQL finds it there
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM es_append_many('[{"stream": "many_at-1", "type": "X", "expected_version": 0}]');
EXCEPTION WHEN SQLSTATE 'VE001' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE 'reload %', detail::jsonb #>> '{0,stream}';
END
$$;
-- nothing of it was stored, and no position was taken for it
SELECT es_stream_version('many_at-1'), es_stream_version('many_at-2'), es_stream_version('many_at-4'), es_stream_version('many_at-5');
SELECT count(*) FROM es_streams WHERE stream IN ('many_at-none', 'many_at-"quoted"', 'many_at-nothing');
SELECT es_last_position() = last_value AS no_position_taken FROM eventstore.position_seq;

--
-- The matrix of es_append, for each place that a stream can have in a call
--
CREATE TEMP TABLE cell AS
SELECT way, state, expected, format('many_matrix-%s-%s-%s', way, state, expected) AS stream
FROM unnest('{alone,first,last,check}'::text[]) way, unnest('{missing,existing}'::text[]) state, unnest('{-1,0,1,2,3,9223372036854775807}'::bigint[]) expected;
SELECT count(es_append(stream, 'Before')) FROM cell, generate_series(1, 2) WHERE state = 'existing';
CREATE TEMP TABLE result AS
SELECT way, cell.state, expected, coalesce(f.state, 'done') || ' -> v' || es_stream_version(stream) || ', ' || es_stream_version(stream || '-other') AS outcome
FROM cell, pg_temp.failure(format('SELECT es_append_many(%L)', CASE way
	WHEN 'alone' THEN jsonb_build_array(jsonb_build_object('stream', stream, 'type', 'T', 'expected_version', expected))
	WHEN 'first' THEN jsonb_build_array(jsonb_build_object('stream', stream, 'type', 'T', 'expected_version', expected),
		jsonb_build_object('stream', stream || '-other', 'type', 'T'), jsonb_build_object('stream', stream, 'type', 'U'))
	WHEN 'last' THEN jsonb_build_array(jsonb_build_object('stream', stream || '-other', 'type', 'T', 'expected_version', 0),
		jsonb_build_object('stream', stream, 'type', 'T', 'expected_version', expected))
	ELSE jsonb_build_array(jsonb_build_object('stream', stream, 'expected_version', expected),
		jsonb_build_object('stream', stream || '-other', 'type', 'T')) END)) f;
SELECT state, expected, max(outcome) FILTER (WHERE way = 'alone') AS alone, max(outcome) FILTER (WHERE way = 'first') AS first,
	max(outcome) FILTER (WHERE way = 'last') AS last, max(outcome) FILTER (WHERE way = 'check') AS "check"
FROM result GROUP BY state, expected ORDER BY state DESC, expected;

--
-- What is no such array is 22023, SQL NULL is 22004; nothing is stored
--
SELECT es_append_many(NULL);
\echo :SQLSTATE
SELECT batch, f.state, f.message FROM unnest(ARRAY[
	'{}', '{"stream": "many_bad-1", "type": "A"}', '"A"', 'null', '[1]', '[null]', '[[]]', '[{}]',
	'[{"type": "A"}]', '[{"stream": null, "type": "A"}]', '[{"stream": 1, "type": "A"}]', '[{"stream": "", "type": "A"}]', '[{"stream": "many_bad\u0001", "type": "A"}]',
	'[{"stream": "many_bad-1", "type": ""}]', '[{"stream": "many_bad-1", "type": "$A"}]', '[{"stream": "many_bad-1", "type": null}]', '[{"stream": "many_bad-1", "type": 1}]',
	'[{"stream": "many_bad-1", "type": "A", "metadata": []}]', '[{"stream": "many_bad-1", "type": "A", "event_id": "x"}]',
	'[{"stream": "many_bad-1", "type": "A", "version": 1}]', '[{"stream": "many_bad-1", "type": "A", "position": 1}]',
	'[{"stream": "many_bad-1", "type": "A", "expected_version": -2}]', '[{"stream": "many_bad-1", "type": "A", "expected_version": 0.5}]',
	'[{"stream": "many_bad-1", "type": "A", "expected_version": "0"}]', '[{"stream": "many_bad-1", "type": "A", "expected_version": 9223372036854775808}]',
	'[{"stream": "many_bad-1", "type": "A", "tags": "a"}]', '[{"stream": "many_bad-1", "type": "A", "tags": [1]}]', '[{"stream": "many_bad-1", "type": "A", "tags": {}}]',
	'[{"stream": "many_bad-1", "data": {}}]', '[{"stream": "many_bad-1", "expected_version": 0, "metadata": {}}]', '[{"stream": "many_bad-1", "tags": []}]',
	'[{"stream": "many_bad-1", "type": "A"}, {"stream": "many_bad-2", "type": "B"}, {"stream": "many_bad-3", "type": "$C"}]',
	'[{"stream": "many_bad-1", "type": "A", "event_id": "0189eeee-0000-7000-8000-000000000001"}, {"stream": "many_bad-1", "type": "B", "event_id": "0189eeee-0000-7000-8000-000000000001"}]'
	]) batch, pg_temp.failure(format('SELECT es_append_many(%L)', batch)) f;
SELECT count(*) FROM es_streams WHERE category LIKE 'many\_bad%';

--
-- Idempotent retry: of the call as a whole
--
CREATE FUNCTION pg_temp.transfer(first int, amount int, VARIADIC streams text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('stream', 'many_retry-' || s, 'type', 'Moved', 'data', amount,
		'event_id', '0189eeee-0000-7000-8000-' || lpad((first + n)::text, 12, '0')) ORDER BY n)
	FROM unnest(streams) WITH ORDINALITY u(s, n)
$$;
SELECT * INTO TEMP attempt FROM es_append_many(pg_temp.transfer(10, 5, 'a', 'b', 'a'));
SELECT stream, version FROM attempt;
SELECT count(es_append('many_retry-' || s, 'Later')) FROM unnest('{a,b}'::text[]) s;
-- the same rows come back, and nothing is stored twice
SELECT stream, version, r.position = attempt.position AS same FROM es_append_many(pg_temp.transfer(10, 5, 'a', 'b', 'a')) r JOIN attempt USING (stream, version) ORDER BY r.position;
SELECT es_last_position() = (SELECT max(position) FROM attempt) AS last_is_the_stored_one;
SELECT es_stream_version('many_retry-a'), es_stream_version('many_retry-b');
-- with the expectations of the first attempt, which do not hold any more, and its checks
SELECT jsonb_agg(e || CASE n WHEN 1 THEN '{"expected_version": 0}' WHEN 2 THEN '{"expected_version": 0}' ELSE '{}' END::jsonb ORDER BY n)
	|| '{"stream": "many_retry-c", "expected_version": 0}' AS events
FROM jsonb_array_elements(pg_temp.transfer(10, 5, 'a', 'b', 'a')) WITH ORDINALITY u(e, n) \gset
SELECT stream, version FROM es_append_many(:'events');
-- other contents, more than it, in other streams: VE010, and nothing is stored; also where
-- versions are not as expected, which then is not what DETAIL is about
SELECT what, f.state, f.message, f.hint, e.stream, e.event_id, e.version, e.position = es_position(e.stream, e.version) AS is_its_position, e.conflict
FROM (VALUES
	('other data', pg_temp.transfer(10, 6, 'a', 'b', 'a')),
	('other streams', pg_temp.transfer(10, 5, 'b', 'a', 'a')),
	('one more stream', pg_temp.transfer(10, 5, 'a', 'b', 'a') || pg_temp.transfer(20, 5, 'c')),
	('one more event', pg_temp.transfer(10, 5, 'a', 'b', 'a', 'a')),
	('other place', jsonb_path_query_array(pg_temp.transfer(10, 5, 'a', 'b', 'a'), '$[2, 1, 0]')),
	('wrong version of a stream of it', jsonb_set(pg_temp.transfer(10, 6, 'a', 'b'), '{1,expected_version}', '7')),
	('wrong version of a new stream', pg_temp.transfer(10, 5, 'a', 'b', 'a') || '{"stream": "many_retry-c", "type": "A", "expected_version": 7}'),
	('wrong version of a checked stream', pg_temp.transfer(10, 6, 'a', 'b', 'a') || '{"stream": "many_retry-c", "expected_version": 7}')) t(what, events),
	pg_temp.failure(format('SELECT es_append_many(%L)', events)) f,
	jsonb_to_recordset(f.detail::jsonb) AS e(stream text, event_id uuid, version bigint, position bigint, conflict text);
SELECT es_stream_version('many_retry-a'), es_stream_version('many_retry-b'), es_stream_version('many_retry-c');
-- a part that was one run in each of its streams is stored, too
SELECT stream, version FROM es_append_many(pg_temp.transfer(10, 5, 'a', 'b'));
-- one id in two streams is two events
SELECT stream, version FROM es_append_many('[
	{"stream": "many_retry-d", "type": "A", "event_id": "0189eeee-0000-7000-8000-000000000099"},
	{"stream": "many_retry-e", "type": "A", "event_id": "0189eeee-0000-7000-8000-000000000099"}]');

--
-- Transactions
--
BEGIN;
SELECT es_append('many_tx-1', 'A');
SELECT stream, version FROM es_append_many('[{"stream": "many_tx-2", "type": "B", "expected_version": 0}, {"stream": "many_tx-1", "type": "B", "expected_version": 1}]');
SAVEPOINT s;
SELECT count(*) FROM es_append_many('[{"stream": "many_tx-1", "type": "undone"}, {"stream": "many_tx-3", "type": "undone"}]');
ROLLBACK TO s;
SELECT count(*) FROM es_append_many('[{"stream": "many_tx-1", "type": "X", "expected_version": 1}, {"stream": "many_tx-3", "type": "X"}]');
ROLLBACK TO s;
SELECT stream, version FROM es_append_many('[{"stream": "many_tx-3", "type": "C", "expected_version": 0}, {"stream": "many_tx-1", "type": "C", "expected_version": 2}]');
COMMIT;
SELECT stream, version, type FROM es_read_category('many_tx');
-- more events than are written in a block, over more streams than there are locks: one run of positions
SELECT count(*), count(DISTINCT stream) AS streams, max(position) - min(position) AS span, bool_and(nth % 700 = split_part(stream, '-', 2)::int) AS in_order
FROM (SELECT *, row_number() OVER (ORDER BY position) - 1 AS nth FROM
	es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'many_large-' || n % 700, 'type', 'T') ORDER BY n) FROM generate_series(0, 4999) n))) r;
SELECT count(*) AS streams, min(version), max(version), sum(version) FROM es_streams WHERE category = 'many_large';
-- one stream in the last place that is not as expected takes all of it back
SELECT state, message, detail FROM pg_temp.failure(format('SELECT es_append_many(%L)',
	(SELECT jsonb_agg(jsonb_build_object('stream', 'many_large-' || n % 700, 'type', 'T') ORDER BY n) FROM generate_series(0, 4998) n)
	|| '{"stream": "many_large-x", "type": "T", "expected_version": 1}'));
SELECT count(*) AS streams, sum(version) FROM es_streams WHERE category = 'many_large';
