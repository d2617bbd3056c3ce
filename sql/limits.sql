--
-- What is taken in can be given out again: the text of an event, its depth, its time.
--
CREATE FUNCTION pg_temp.failure(statement text,
	OUT state text, OUT message text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
END
$$;

-- the setting: bytes of text, up to 255 MB, an administrator's
SELECT es_stream_version('limits_a-1') AS none;
SELECT setting, unit, context, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name = 'eventstore.max_event_size';
SHOW eventstore.max_event_size;
\set VERBOSITY sqlstate
SET eventstore.max_event_size = '256MB';
\set VERBOSITY default
SET eventstore.max_event_size = '255MB';
SHOW eventstore.max_event_size;
RESET eventstore.max_event_size;
CREATE ROLE regress_limits;
SET ROLE regress_limits;
SET eventstore.max_event_size = '255MB';
\echo :SQLSTATE
RESET ROLE;
DROP ROLE regress_limits;

-- 2 kB stored, 1 GB of text
CREATE TEMP TABLE bomb AS SELECT ('[' || repeat('1e131071,', 8192) || '1]')::jsonb AS data;
SELECT pg_column_size(data) < 200000 AS small FROM bomb;
SELECT f.* FROM pg_temp.failure($$SELECT es_append('limits_a-1', 'Sum', data) FROM bomb$$) f;

-- every way in, with a limit of 1,000 bytes: what has 1,000 passes, what has 1,001 does not
SET eventstore.max_event_size = 1000;
CREATE FUNCTION pg_temp.of_size(size int) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(repeat('x', size - 2)) $$;
SELECT octet_length(pg_temp.of_size(998)::text) + octet_length('{}') AS bytes;
CREATE TEMP TABLE way (n int, name text, template text);
INSERT INTO way VALUES
	(1, 'es_append', $$SELECT es_append('limits_w-1', 'T', pg_temp.of_size(%s))$$),
	(2, 'metadata', $$SELECT es_append('limits_w-1', 'T', '{}', jsonb_build_object('m', pg_temp.of_size(%s - 7)))$$),
	(3, 'expected_version', $$SELECT es_append('limits_w-2', 'T', pg_temp.of_size(%s), '{}', 0)$$),
	(4, 'es_append_batch', $$SELECT es_append_batch('limits_w-1', jsonb_build_array('{"type": "A"}'::jsonb, jsonb_build_object('type', 'T', 'data', pg_temp.of_size(%s))))$$),
	(5, 'batch, metadata', $$SELECT es_append_batch('limits_w-1', jsonb_build_array('{"type": "A"}'::jsonb, '{"type": "A"}'::jsonb, jsonb_build_object('type', 'T', 'metadata', jsonb_build_object('m', pg_temp.of_size(%s - 7)))))$$),
	(6, 'es_append_events', $$SELECT es_append_events('limits_w-1', ARRAY[('A', '{}', NULL, NULL), ('T', pg_temp.of_size(%s), NULL, NULL)]::es_new_event[])$$),
	(7, 'es_append_many', $$SELECT es_append_many(jsonb_build_array('{"stream": "limits_w-3"}'::jsonb, '{"stream": "limits_w-1", "type": "A"}'::jsonb, jsonb_build_object('stream', 'limits_w-1', 'type', 'T', 'data', pg_temp.of_size(%s))))$$),
	(8, 'es_append_if', $$SELECT es_append_if(jsonb_build_array(jsonb_build_object('stream', 'limits_w-1', 'type', 'T', 'data', pg_temp.of_size(%s))), 0, '{Nothing}')$$),
	(9, 'tags', $$SELECT es_append_if(jsonb_build_array(jsonb_build_object('stream', 'limits_w-1', 'type', 'T', 'data', pg_temp.of_size(%s - 13), 'tags', '["a"]'::jsonb)), 0, '{Nothing}')$$),
	(10, 'INSERT', $$INSERT INTO es_events (stream, type, data) VALUES ('limits_w-1', 'T', pg_temp.of_size(%s))$$),
	(11, 'INSERT, many', $$INSERT INTO es_events (stream, type, data) SELECT 'limits_w-' || n, 'T', CASE n WHEN 5 THEN pg_temp.of_size(%s) ELSE '{}' END FROM generate_series(1, 9) n$$),
	(12, 'INSERT, metadata', $$INSERT INTO es_events (stream, type, data, metadata) VALUES ('limits_w-1', 'T', '{}', jsonb_build_object('m', pg_temp.of_size(%s - 7)))$$);
SELECT n, name, f.state, f.message, f.detail FROM way, pg_temp.failure(format(template, 999)) f ORDER BY n;
SELECT count(*) AS stored FROM es_events WHERE stream LIKE 'limits\_w-%';
SELECT n, name, f.state, f.message FROM way, pg_temp.failure(format(template, 998)) f ORDER BY n;
SELECT stream, count(*), max(octet_length(data::text) + octet_length(metadata::text)) AS longest
FROM es_events WHERE stream LIKE 'limits\_w-%' GROUP BY stream ORDER BY stream;
-- a statement of the client's own, in which rows are kept and written together
INSERT INTO es_events (stream, type, data) SELECT 'limits_bulk-' || n, 'T', CASE n WHEN 1500 THEN to_jsonb(repeat('x', 997)) ELSE '{}' END FROM generate_series(1, 2000) n;
\echo :SQLSTATE
\set VERBOSITY sqlstate
COPY es_events (stream, type, data) FROM stdin;
limits_bulk-1	T	{}
limits_bulk-1	T	[1e131071]
limits_bulk-1	T	{}
\.
\set VERBOSITY default
SELECT count(*) AS stored FROM es_events WHERE stream LIKE 'limits\_bulk-%';
-- null data and an array's null are what they were
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_append_events('limits_w-1', ARRAY[NULL]::es_new_event[])$$) f;

-- text, not what is stored: digits, decimals, control characters, quotes, other letters
CREATE TEMP TABLE sample (n serial, data jsonb);
INSERT INTO sample (data) VALUES
	('0'), ('-0'), ('0.000'), ('7'), ('-7'), ('9999'), ('10000'), ('-12345678.00'), ('0.00001'), ('-0.000012300'),
	('1e63'), ('1e255'), ('1e256'), ('1e-63'), ('1e-64'), ('-1e300'), ('1e131071'), ('9e131071'), ('-123e131069'), ('1e-16383'), ('-1e-16383'),
	('1e131071'::jsonb || '1e-16383'::jsonb), (to_jsonb(1e131071 + 1e-16383)), (to_jsonb(-(1e131071 + 1e-16383))),
	('""'), ('"a"'), (to_jsonb(repeat(chr(1), 3000))), (to_jsonb(repeat(E'\n', 3000))), (to_jsonb(repeat('"', 70000))), (to_jsonb(repeat('\', 3000))),
	(to_jsonb(chr(8) || chr(12) || chr(13) || chr(9) || chr(31) || chr(127))), (to_jsonb(repeat('ü€', 3000))), (to_jsonb(repeat('x', 65535) || chr(2) || chr(3))),
	('null'), ('true'), ('false'), ('[]'), ('{}'), ('[[]]'), ('[{}]'), ('{"a": []}'), ('[null, true, false, 1, "", [], {}]'),
	('{"": {"": {"": ""}}}'), ('{"a": 1, "bb": [1, 2], "\n": "\u0001"}'), ((repeat('[', 2000) || '1' || repeat(']', 2000))::jsonb);
CREATE FUNCTION pg_temp.accepted(d jsonb, m jsonb, max int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('eventstore.max_event_size', max::text, true);
	PERFORM es_append('limits_size-1', 'T', d, m);
	RETURN 'accepted';
EXCEPTION WHEN program_limit_exceeded THEN
	RETURN 'refused';
END
$$;
-- to the byte
SELECT n, octet_length(data::text) AS bytes, left(data::text, 20) AS begins,
	pg_temp.accepted(data, '{}', octet_length(data::text) + 2) AS fits, pg_temp.accepted(data, '{}', octet_length(data::text) + 1) AS does_not,
	pg_temp.accepted('[]', jsonb_build_object('m', data), octet_length(data::text) + 9) AS as_metadata, pg_temp.accepted('[]', jsonb_build_object('m', data), octet_length(data::text) + 8) AS does_not
FROM sample WHERE octet_length(data::text) > 2 ORDER BY n;
SELECT pg_temp.accepted('1', '{}', 4), pg_temp.accepted('[]', '{}', 4), pg_temp.accepted('[1]', '{}', 4);

-- and so for whatever comes: its length as the server tells it is accepted, one byte less is not
CREATE FUNCTION pg_temp.some_number() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT CASE (random() * 8)::int
		WHEN 0 THEN '0' WHEN 1 THEN '-0.' || repeat('0', (random() * 20)::int) || '1' WHEN 2 THEN (random() * 1e10)::numeric::text
		WHEN 3 THEN '1e' || (random() * 3000)::int WHEN 4 THEN '-7e-' || (random() * 3000)::int
		WHEN 5 THEN (random() * 9999)::int || '.0' || repeat('0', (random() * 70)::int) WHEN 6 THEN '-' || (random() * 9)::int || 'e' || (random() * 300)::int
		WHEN 7 THEN 1 + (random() * 8)::int || repeat('9', (random() * 300)::int) || '.5' ELSE '12345678901234567890.000' END
$$;
CREATE FUNCTION pg_temp.some_string() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT coalesce(string_agg(CASE (random() * 4)::int WHEN 0 THEN chr(1 + (random() * 31)::int) WHEN 1 THEN '"' WHEN 2 THEN '\'
		WHEN 3 THEN chr(200 + (random() * 50000)::int) ELSE 'abcdefgh' || chr(127) END, ''), '') FROM generate_series(1, (random() * 20)::int)
$$;
CREATE FUNCTION pg_temp.some_json(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	kind int := (random() * 7)::int % CASE depth WHEN 0 THEN 5 ELSE 8 END;
BEGIN
	RETURN CASE kind WHEN 0 THEN pg_temp.some_number()::jsonb WHEN 1 THEN to_jsonb(pg_temp.some_string()) WHEN 2 THEN 'null' WHEN 3 THEN to_jsonb(random() < 0.5)
		WHEN 4 THEN pg_temp.some_number()::jsonb
		WHEN 7 THEN (SELECT coalesce(jsonb_object_agg(pg_temp.some_string(), pg_temp.some_json(depth - 1)), '{}') FROM generate_series(1, (random() * 12)::int))
		ELSE (SELECT coalesce(jsonb_agg(pg_temp.some_json(depth - 1)), '[]') FROM generate_series(1, (random() * 12)::int)) END;
END
$$;
SELECT setseed(0.13);
CREATE TEMP TABLE random_event AS
SELECT n, pg_temp.some_json(3) AS data, jsonb_build_object('m', pg_temp.some_json(2)) AS metadata FROM generate_series(1, 1500) n;
SELECT pg_temp.accepted(data, metadata, size) AS fits, pg_temp.accepted(data, metadata, size - 1) AS one_less, count(*)
FROM (SELECT data, metadata, octet_length(data::text) + octet_length(metadata::text) AS size FROM random_event) e GROUP BY 1, 2;
-- wherever in it the long numbers are
CREATE FUNCTION pg_temp.strew(n int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	doc jsonb := '1e131071';
	long jsonb;
BEGIN
	FOR i IN 2..n LOOP
		long := CASE (random() * 2)::int WHEN 0 THEN '1e131071' WHEN 1 THEN '-1e131071' ELSE '1.5e131071' END;
		doc := CASE (random() * 5)::int
			WHEN 0 THEN jsonb_build_array(pg_temp.some_json(1), doc, long) WHEN 1 THEN jsonb_build_array(long, doc)
			WHEN 2 THEN jsonb_build_object(pg_temp.some_string(), long, 'doc', doc, 'z', pg_temp.some_json(1))
			WHEN 3 THEN (SELECT jsonb_agg(CASE k WHEN 1 THEN doc WHEN 70 THEN long ELSE 'true' END ORDER BY random()) FROM generate_series(1, 70) k)
			WHEN 4 THEN (SELECT jsonb_object_agg(k, CASE k WHEN 1 THEN doc WHEN 33 THEN long ELSE '"s"' END) FROM generate_series(1, 33) k)
			ELSE jsonb_build_object('a', '[]'::jsonb, 'b', jsonb_build_array(doc), 'c', jsonb_build_object('d', long)) END;
	END LOOP;
	RETURN doc;
END
$$;
CREATE TEMP TABLE strewn AS SELECT pg_temp.strew(4 + n % 7) AS data FROM generate_series(1, 200) n;
SELECT accepted = fits AS right, count(*) FILTER (WHERE fits) > 50 AS some_fit, count(*) FILTER (WHERE NOT fits) > 50 AS some_do_not
FROM (SELECT octet_length(data::text) + 2 <= 1048576 AS fits, pg_temp.accepted(data, '{}', 1048576) = 'accepted' AS accepted FROM strewn) s GROUP BY 1;
SELECT accepted = fits AS right, count(*) FILTER (WHERE fits) > 50 AS some_fit, count(*) FILTER (WHERE NOT fits) > 50 AS some_do_not
FROM (SELECT octet_length(data::text) + 7 <= 1048576 AS fits, pg_temp.accepted('1', jsonb_build_object('', data), 1048576) = 'accepted' AS accepted FROM strewn) s GROUP BY 1;
RESET eventstore.max_event_size;

-- stored compressed and out of line elsewhere
CREATE TEMP TABLE elsewhere AS SELECT to_jsonb(repeat('x', 16 * 1024 * 1024 - 4)) AS data;
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_append('limits_far-1', 'T', data) FROM elsewhere$$) f;
UPDATE elsewhere SET data = to_jsonb(repeat('x', 16 * 1024 * 1024 - 3));
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_append('limits_far-1', 'T', data) FROM elsewhere$$) f;
SELECT version, octet_length(data::text) + octet_length(metadata::text) AS bytes FROM es_events WHERE stream = 'limits_far-1';

-- as deep as a server with its default settings reads from text with ease
SELECT f.* FROM pg_temp.failure($$SELECT es_append('limits_deep-1', 'T', (repeat('[', 6400) || '1' || repeat(']', 6400))::jsonb)$$) f;
SELECT f.* FROM pg_temp.failure($$SELECT es_append('limits_deep-1', 'T', (repeat('[', 6401) || '1' || repeat(']', 6401))::jsonb)$$) f;
SELECT f.* FROM pg_temp.failure($$SELECT es_append_batch('limits_deep-1', ('[{"type": "T", "metadata": {"m":' || repeat('[', 6400) || '1' || repeat(']', 6400) || '}}]')::jsonb)$$) f;
SELECT version, data::text::jsonb = data AS same FROM es_events WHERE stream = 'limits_deep-1';

-- times: RFC 3339 has four digits for a year
SET TimeZone = 'UTC';
SET DateStyle = ISO;
CREATE TEMP TABLE moment (n serial, at timestamptz);
INSERT INTO moment (at) VALUES
	('4713-01-01 BC'), ('0001-12-31 23:59:59.999999+00 BC'), ('0001-01-01 00:00:00+00'), ('0001-01-01 12:00:00+14'), ('0001-01-02 00:00:00+14'),
	('9999-12-31 23:59:59.999999+00'), ('9999-12-31 23:00:00-12'), ('10000-01-01 00:00:00+00'), ('10000-01-01 05:00:00+14'), ('12026-01-01'), ('infinity'), ('-infinity');
SELECT n, at AT TIME ZONE 'UTC' AS utc, f.state, f.message
FROM moment, pg_temp.failure(format($$INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('limits_time-%s', 'T', '{}', %L)$$, n, at)) f ORDER BY n;
\set VERBOSITY sqlstate
COPY es_events (stream, type, data, recorded_at) FROM stdin;
limits_time-copy	T	{}	2026-01-01 00:00:00+00
limits_time-copy	T	{}	12026-01-01 00:00:00+00
\.
\set VERBOSITY default
SELECT stream, es_feed_message(e)::jsonb ->> 'recorded_at' AS recorded_at FROM es_read_all(0, NULL, '{limits_time}') e ORDER BY position;
-- what follows in a stream is not recorded earlier
SELECT es_append('limits_time-6', 'Next');
SELECT version, recorded_at = '9999-12-31 23:59:59.999999+00' AS inherited FROM es_read('limits_time-6');

-- what a dump has besides events
SELECT f.state, f.message, f.detail FROM pg_temp.failure($$SELECT es_create_reducer('limits', data) FROM bomb$$) f;
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_register_upcaster_ops('LimitsT', 1, jsonb_build_object('set', jsonb_build_object('$.a', data))) FROM bomb$$) f;
SELECT es_create_reducer('limits', '{"all": []}');
SELECT es_register_reducer_ops('limits', '*', '{"append": {"all": "$.data"}}');
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_register_reducer_ops('limits', 'Huge', jsonb_build_object('set', jsonb_build_object('$.a', data))) FROM bomb$$) f;
SELECT count(es_append('limits_state-1', 'Some', ('[' || repeat('1e131071,', 100) || '1]')::jsonb)) FROM generate_series(1, 25);
SELECT f.* FROM pg_temp.failure($$SELECT es_snapshot('limits_state-1', 'limits')$$) f;
SELECT es_snapshot_every('limits', 10);
SELECT version, jsonb_array_length(state -> 'all') FROM es_replay('limits_state-1', 'limits');
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'limits';
SELECT version, jsonb_array_length(state -> 'all') FROM es_replay('limits_state-1', 'limits', 20);
SELECT version FROM eventstore.snapshots WHERE reducer = 'limits';
SELECT es_create_projection('limits', 'limits', 'async', 'limits_state');
SET client_min_messages = error;
SELECT es_run_projection('limits') >= 0 AS ran;
RESET client_min_messages;
SELECT status, split_part(error, E'\n', 1) AS error, error_position = (SELECT position FROM es_events WHERE stream = 'limits_state-1' AND version = 21) AS at_the_one_too_many FROM es_projections WHERE projection = 'limits';
SELECT version, jsonb_array_length(state -> 'all') FROM es_projection('limits');
SELECT es_drop_projection('limits'), es_drop_reducer('limits');
-- of a reason some is kept
SELECT es_subscribe('limits', NULL, '{limits_reason}', max_attempts => 1);
SELECT es_append('limits_reason-1', 'T');
SELECT es_nack('limits', partition, position, repeat('ü', 1000000)) FROM es_poll('limits');
SELECT octet_length(reason), reason = repeat('ü', 5000) AS whole FROM es_parked('limits');
SELECT es_unsubscribe('limits');
