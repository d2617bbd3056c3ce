--
-- The view es_events: INSERT and COPY append, its rows are events.
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

INSERT INTO es_events (stream, type, data) VALUES ('ingest_a-1', 'A', '{"n": 1}');
INSERT INTO es_events (stream, type, data, metadata, event_id)
VALUES ('ingest_a-1', 'B', '{"n": 2}', '{"m": 2}', '0189dddd-0000-7000-8000-000000000001')
RETURNING stream, version, type, type_version, data, metadata, event_id,
	position = es_last_position() AS position, recorded_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS recorded_at;
INSERT INTO es_events (stream, type) VALUES ('ingest_a-1', 'C') RETURNING version, data, metadata, event_id IS NOT NULL AS event_id;
SELECT stream, version, type, data, metadata FROM es_events WHERE stream = 'ingest_a-1' ORDER BY version;
SELECT version, type, data, metadata FROM es_read('ingest_a-1');
-- what RETURNING said is what is stored
WITH i AS (INSERT INTO es_events (stream, type, data) SELECT 'ingest_a-2', 'T', to_jsonb(n) FROM generate_series(1, 3) n RETURNING *)
SELECT * INTO TEMP returned FROM i;
SELECT count(*), count(*) FILTER (WHERE r IS NOT DISTINCT FROM e) AS equal
FROM returned r JOIN es_events e USING (stream, version);

-- a given version is an expectation: it must be the next one
CREATE TEMP TABLE cell AS
SELECT state, version, format('ingest_matrix-%s-%s', state, version) AS stream
FROM unnest('{missing,existing}'::text[]) state, unnest('{1,2,3,4,5,0,-1,-2}'::bigint[]) version;
SELECT count(es_append(stream, 'Before')) FROM cell, generate_series(1, 3) WHERE state = 'existing';
CREATE TEMP TABLE result AS
SELECT cell.state, version, coalesce(f.state, 'done') || ' -> v' || es_stream_version(stream) AS outcome
FROM cell, pg_temp.failure(format('INSERT INTO es_events (stream, type, data, version) VALUES (%L, ''T'', ''{}'', %s)', stream, version)) f;
SELECT version, max(outcome) FILTER (WHERE state = 'missing') AS missing, max(outcome) FILTER (WHERE state = 'existing') AS existing
FROM result GROUP BY version ORDER BY version;
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_a-1', 'D', '{}', 3);
\echo :SQLSTATE
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_a-1', 'D', '{}', NULL) RETURNING version;
-- all or nothing, over streams too
INSERT INTO es_events (stream, type, data, version) VALUES
	('ingest_a-3', 'A', '{}', 1), ('ingest_a-4', 'A', '{}', 1), ('ingest_a-3', 'B', '{}', 3);
\echo :SQLSTATE
SELECT es_stream_version('ingest_a-3'), es_stream_version('ingest_a-4');
INSERT INTO es_events (stream, type, data, version) VALUES
	('ingest_a-3', 'A', '{}', 1), ('ingest_a-4', 'A', '{}', 1), ('ingest_a-3', 'B', '{}', 2), ('ingest_a-4', 'B', '{}', 2)
RETURNING stream, version, type;
SELECT stream, version, type, position - first_value(position) OVER (ORDER BY position) AS nth FROM es_events WHERE stream IN ('ingest_a-3', 'ingest_a-4') ORDER BY position;

-- a given id is unique in its stream; the same event again is a retry here too
INSERT INTO es_events (stream, type, data, event_id) VALUES ('ingest_id-1', 'A', '{"n": 1}', '0189dddd-0000-7000-8000-000000000001') RETURNING version;
INSERT INTO es_events (stream, type, data, event_id) VALUES ('ingest_id-1', 'A', '{"n": 1}', '0189dddd-0000-7000-8000-000000000001');
SELECT es_stream_version('ingest_id-1');
\set VERBOSITY terse
INSERT INTO es_events (stream, type, data, event_id) VALUES ('ingest_id-1', 'A', '{"n": 2}', '0189dddd-0000-7000-8000-000000000001');
\echo :SQLSTATE
\set VERBOSITY default

-- what a caller must not or cannot give
SELECT f.state, f.message, f.detail, statement FROM unnest(ARRAY[
	$$INSERT INTO es_events (stream, type, data, position) VALUES ('ingest_b-1', 'A', '{}', 1)$$,
	$$INSERT INTO es_events (stream, type, data, type_version) VALUES ('ingest_b-1', 'A', '{}', 2)$$,
	$$INSERT INTO es_events (stream, type, data, type_version) VALUES ('ingest_b-1', 'A', '{}', 0)$$,
	$$INSERT INTO es_events SELECT * FROM es_events WHERE stream = 'ingest_a-1'$$,
	$$INSERT INTO es_events (stream, type, data) VALUES (NULL, 'A', '{}')$$,
	$$INSERT INTO es_events (type, data) VALUES ('A', '{}')$$,
	$$INSERT INTO es_events (stream, type, data) VALUES ('ingest_b-1', NULL, '{}')$$,
	$$INSERT INTO es_events (stream, data) VALUES ('ingest_b-1', '{}')$$,
	$$INSERT INTO es_events (stream, type, data) VALUES ('ingest_b-1', 'A', NULL)$$,
	$$INSERT INTO es_events (stream, type, data) VALUES ('', 'A', '{}')$$,
	$$INSERT INTO es_events (stream, type, data) VALUES (E'ingest\n', 'A', '{}')$$,
	$$INSERT INTO es_events (stream, type, data) VALUES ('ingest_b-1', '$a', '{}')$$,
	$$INSERT INTO es_events (stream, type, data, metadata) VALUES ('ingest_b-1', 'A', '{}', '[]')$$
	]) statement, pg_temp.failure(statement) f;
SELECT es_stream_version('ingest_b-1');

-- imports: recorded_at, never earlier than the stream's last
INSERT INTO es_events (stream, type, data, recorded_at) VALUES
	('ingest_import-1', 'A', '{}', '2001-01-01 00:00 UTC'),
	('ingest_import-1', 'B', '{}', '2001-01-01 00:00 UTC'),
	('ingest_import-1', 'C', '{}', '2002-02-02 00:00 UTC'),
	('ingest_import-2', 'A', '{}', '1999-01-01 00:00 UTC');
SELECT stream, version, type, recorded_at AT TIME ZONE 'UTC' AS recorded_at FROM es_read_category('ingest_import');
INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('ingest_import-1', 'D', '{}', '2002-02-01 00:00 UTC');
\echo :SQLSTATE
INSERT INTO es_events (stream, type, data, recorded_at) VALUES
	('ingest_import-3', 'A', '{}', '2001-01-02 00:00 UTC'), ('ingest_import-3', 'B', '{}', '2001-01-01 00:00 UTC');
\echo :SQLSTATE
SELECT es_stream_version('ingest_import-1'), es_stream_version('ingest_import-3');
-- the clock takes over, and never goes back behind an import
SELECT es_append('ingest_import-1', 'D');
SELECT recorded_at > now() - interval '1 day' AS by_clock FROM es_read('ingest_import-1', 4);
INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('ingest_import-4', 'A', '{}', now() + interval '1 day');
SELECT es_append('ingest_import-4', 'B');
SELECT count(DISTINCT recorded_at) AS times FROM es_read('ingest_import-4');

-- rights: those of es_append
CREATE ROLE regress_es_ingest;
SELECT es_grant('regress_es_ingest', 'append', 'ingest_c'), es_grant('regress_es_ingest', 'read', 'ingest_c');
SET ROLE regress_es_ingest;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_c-1', 'A', '{}') RETURNING version;
COPY es_events (stream, type, data) FROM stdin;
ingest_c-1	B	{}
\.
SELECT version, type FROM es_events WHERE stream = 'ingest_c-1' ORDER BY 1;
INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('ingest_c-1', 'C', '{}', now() + interval '1 hour');
\echo :SQLSTATE
INSERT INTO es_events (stream, type) VALUES ('ingest_d-1', 'C');
\echo :SQLSTATE
UPDATE es_events SET type = 'x' WHERE stream = 'ingest_c-1';
\echo :SQLSTATE
DELETE FROM es_events WHERE stream = 'ingest_c-1';
\echo :SQLSTATE
RESET ROLE;
-- an 'admin' of the category may import
SELECT es_grant('regress_es_ingest', 'admin', 'ingest_c');
SET ROLE regress_es_ingest;
INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('ingest_c-2', 'C', '{}', '2020-01-01 00:00:00+00') RETURNING recorded_at = '2020-01-01 00:00:00+00' AS as_given;
RESET ROLE;
DROP ROLE regress_es_ingest;

-- COPY
COPY es_events (stream, type, data, metadata, event_id) FROM stdin;
ingest_copy-1	A	{"n": 1}	{"m": 1}	0189dddd-0000-7000-8000-000000000001
ingest_copy-2	A	{"n": 2}	{}	0189dddd-0000-7000-8000-000000000001
ingest_copy-1	B	null	\N	0189dddd-0000-7000-8000-000000000002
\.
SELECT stream, version, type, data, metadata, event_id, position - first_value(position) OVER (ORDER BY position) AS nth
FROM es_read_category('ingest_copy');
COPY es_events (stream, version, type, recorded_at) FROM stdin (FORMAT csv);
ingest_copy-3,1,A,2001-01-01 00:00Z
ingest_copy-3,2,B,2001-01-01 00:00Z
ingest_copy-4,1,A,2001-01-01 00:00Z
\.
SELECT stream, version, type, data, recorded_at AT TIME ZONE 'UTC' FROM es_read_category('ingest_copy', types => '{A,B}') WHERE stream > 'ingest_copy-2';
-- a bad line stores nothing of the whole
\set VERBOSITY sqlstate
COPY es_events (stream, type, data, version) FROM stdin;
ingest_copy-5	A	{}	1
ingest_copy-5	B	{}	2
ingest_copy-5	C	{}	4
\.
COPY es_events (stream, type, data) FROM stdin;
ingest_copy-5	A	{}
ingest_copy-5	$B	{}
\.
COPY es_events (stream, type, data, position) FROM stdin;
ingest_copy-5	A	{}	1
\.
\set VERBOSITY default
\set SHOW_CONTEXT never
COPY es_events (stream, type, data, version) FROM stdin;
ingest_copy-5	A	{}	1
ingest_copy-5	B	{}	3
\.
SELECT es_stream_version('ingest_copy-5');
-- many lines: to one stream, to streams in turn, and a bad one far in
\copy es_events (stream, type, data) FROM PROGRAM 'seq -f "ingest_program-1,A,%.0f" 1 2500; seq -f "ingest_program-%.0f,B,1" 1 1500; seq -f "ingest_program-1,C,%.0f" 2502 2600' (FORMAT csv)
SELECT count(*), count(DISTINCT stream) AS streams FROM es_read_category('ingest_program', 0, NULL);
SELECT count(*), bool_and(version = data::int OR type = 'B') AS in_order FROM es_read('ingest_program-1');
\copy es_events (stream, type, data, version) FROM PROGRAM 'seq -f "ingest_program-2,D,1,%.0f" 2 3000; echo "ingest_program-2,D,1,7"; seq -f "ingest_program-2,D,1,%.0f" 3001 4000' (FORMAT csv)
SELECT es_stream_version('ingest_program-1'), es_stream_version('ingest_program-2');
\copy es_events (stream, type, data, version) FROM PROGRAM 'seq -f "ingest_program-2,D,1,%.0f" 2 3000' (FORMAT csv)
SELECT es_stream_version('ingest_program-2');
COPY (SELECT stream, version, type FROM es_events WHERE stream = 'ingest_copy-1' ORDER BY version) TO stdout;

-- INSERT ... SELECT of many, over more streams than there are lock buckets
INSERT INTO es_events (stream, type, data) SELECT 'ingest_many-' || n % 500, 'T', to_jsonb(n) FROM generate_series(0, 9999) n;
SELECT count(*), count(DISTINCT stream) AS streams, count(*) FILTER (WHERE (data::int / 500) + 1 = version) AS in_order,
	bool_and(data::int = nth) AS as_given
FROM (SELECT *, position - first_value(position) OVER (ORDER BY position) AS nth FROM es_read_category('ingest_many', 0, NULL)) e;
-- mixed with appends to the same streams in one transaction
BEGIN;
SELECT es_append('ingest_many-1', 'U', expected_version => 20);
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_many-1', 'U', '{}', 22), ('ingest_many-new', 'U', '{}', 1);
SAVEPOINT s;
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_many-1', 'V', '{}', 23), ('ingest_many-new', 'V', '{}', 2);
ROLLBACK TO s;
SELECT es_append('ingest_many-1', 'W', expected_version => 22), es_append('ingest_many-new', 'W', expected_version => 1);
COMMIT;
SELECT stream, version, type FROM es_events WHERE stream IN ('ingest_many-1', 'ingest_many-new') AND type <> 'T' ORDER BY stream, version;
-- a command whose rows append by themselves: each append sees those before it
INSERT INTO es_events (stream, type, data)
SELECT 'ingest_mixed-1', 'T', to_jsonb(es_append('ingest_mixed-1', 'U')) FROM generate_series(1, 5);
SELECT count(*), min(version), max(version), count(*) FILTER (WHERE type = 'U') AS u,
	bool_and(position > before) AS in_order FROM (SELECT *, lag(position, 1, 0::bigint) OVER (ORDER BY version) AS before FROM es_read('ingest_mixed-1')) e;
CREATE FUNCTION pg_temp.nested(n int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO es_events (stream, type, data) VALUES ('ingest_mixed-2', 'Inner', to_jsonb(n)), ('ingest_mixed-3', 'Inner', to_jsonb(n));
	RETURN to_jsonb(es_stream_version('ingest_mixed-2'));
END
$$;
INSERT INTO es_events (stream, type, data) SELECT 'ingest_mixed-2', 'Outer', pg_temp.nested(n) FROM generate_series(1, 3) n;
SELECT count(*), min(version), max(version), count(*) FILTER (WHERE type = 'Inner') AS inner FROM es_read('ingest_mixed-2');
SELECT version, type, data FROM es_read('ingest_mixed-3');
-- what a row calls looks at the stream, or appends, in a subtransaction that rolls back
CREATE FUNCTION pg_temp.look(stream text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	version bigint;
BEGIN
	BEGIN
		version := es_stream_version(stream);
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
		RETURN to_jsonb(version);
	END;
END
$$;
CREATE FUNCTION pg_temp.undo(stream text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	version bigint;
BEGIN
	BEGIN
		version := es_append(stream, 'undone');
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
		RETURN to_jsonb(version);
	END;
END
$$;
INSERT INTO es_events (stream, type, data) SELECT 'ingest_mixed-4', 'T', pg_temp.look('ingest_mixed-4') FROM generate_series(1, 4);
INSERT INTO es_events (stream, type, data) SELECT 'ingest_mixed-4', 'U', pg_temp.undo('ingest_mixed-4') FROM generate_series(1, 4);
SELECT version, type, data FROM es_read('ingest_mixed-4');
-- triggers that insert while others insert
CREATE TEMP TABLE item (id int);
CREATE FUNCTION pg_temp.inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO es_events (stream, type, data) VALUES ('ingest_item-' || new.id, 'A', '{}'), ('ingest_item-' || new.id, 'B', '{}');
	RETURN new;
END
$$;
CREATE TRIGGER inserted AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION pg_temp.inserted();
INSERT INTO item SELECT generate_series(1, 3);
WITH i AS (INSERT INTO item VALUES (4), (5) RETURNING id) INSERT INTO es_events (stream, type, data) SELECT 'ingest_item-' || id % 2, 'C', to_jsonb(id) FROM i;
SELECT stream, count(*), max(version) FROM es_read_category('ingest_item') GROUP BY stream ORDER BY stream;
-- one id twice in a statement is a retry, or a conflict, of the row before
INSERT INTO es_events (stream, type, data, event_id) SELECT 'ingest_id-2', 'A', '1', '0189dddd-0000-7000-8000-000000000001' FROM generate_series(1, 3);
\set VERBOSITY terse
INSERT INTO es_events (stream, type, data, event_id) SELECT 'ingest_id-2', 'A', to_jsonb(n), '0189dddd-0000-7000-8000-000000000002' FROM generate_series(1, 2) n;
\echo :SQLSTATE
\set VERBOSITY default
SELECT version, data FROM es_read('ingest_id-2');
-- a failure in the middle leaves nothing behind, for the session neither
DO $$
BEGIN
	FOR n IN 1..3 LOOP
		BEGIN
			INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_failed-1', 'F', '{}', NULL), ('ingest_failed-1', 'F', '{}', 7 * n);
		EXCEPTION WHEN SQLSTATE 'VE001' THEN
			INSERT INTO es_events (stream, type, data) VALUES ('ingest_failed-2', 'G', to_jsonb(n));
		END;
	END LOOP;
END
$$;
INSERT INTO es_events (stream, type, data) SELECT 'ingest_failed-1', 'F', to_jsonb(1 / (n - 3)) FROM generate_series(1, 5) n;
INSERT INTO es_events (stream, type, data) SELECT 'ingest_failed-2', 'H', to_jsonb(n) FROM generate_series(1, 2) n;
SELECT es_stream_version('ingest_failed-1'), (SELECT array_agg(type || data ORDER BY version) FROM es_read('ingest_failed-2')) AS others;
-- prepared statements, cursors of functions, and WITH
PREPARE ingest AS INSERT INTO es_events (stream, type, data) VALUES ($1, $2, $3);
EXECUTE ingest('ingest_prepared-1', 'A', '1');
EXECUTE ingest('ingest_prepared-1', 'B', '2');
WITH i AS (INSERT INTO es_events (stream, type, data) VALUES ('ingest_prepared-1', 'C', '3'), ('ingest_prepared-1', 'D', '4'))
SELECT es_append('ingest_prepared-2', 'A');
DO $$BEGIN EXECUTE $i$EXPLAIN ANALYZE INSERT INTO es_events (stream, type, data) VALUES ('ingest_prepared-1', 'E', '5')$i$; END$$;
SELECT version, type, data FROM es_read('ingest_prepared-1');
-- what an INSERT does not insert
INSERT INTO es_events (stream, type, data) SELECT 'ingest_none-1', 'A', '{}' WHERE false;
SELECT es_stream_version('ingest_none-1');
-- the first failing row of a large COPY is named, and nothing of it stays
CREATE TEMP TABLE lines (stream text, type text, data jsonb, version bigint);
INSERT INTO lines SELECT 'ingest_large-' || n % 700, 'L', to_jsonb(n), n / 700 + 1 FROM generate_series(0, 20999) n;
INSERT INTO es_events (stream, type, data, version) SELECT * FROM lines UNION ALL VALUES ('ingest_large-5', 'L', '{}'::jsonb, 30::bigint);
SELECT count(*) FROM es_read_category('ingest_large');
INSERT INTO es_events (stream, type, data, version) SELECT * FROM lines;
SELECT count(*), count(DISTINCT stream) AS streams, bool_and(version = data::int / 700 + 1) AS in_order, bool_and(data::int = nth) AS as_given
FROM (SELECT *, row_number() OVER (ORDER BY position) - 1 AS nth FROM es_read_category('ingest_large', 0, NULL)) e;
-- a command that reads what it writes ends
INSERT INTO es_events (stream, type, data) SELECT stream, type, data FROM es_events WHERE stream = 'ingest_a-2';
SELECT es_stream_version('ingest_a-2');

--
-- A row of es_events is an es_event
--
CREATE FUNCTION pg_temp.label(event es_event) RETURNS text LANGUAGE sql AS
	$$SELECT event.stream || '@' || event.version || ' ' || event.type$$;
SELECT pg_temp.label(e) FROM es_events e WHERE stream = 'ingest_a-1' ORDER BY version;
SELECT pg_temp.label(e) FROM es_read('ingest_a-1') e;
SELECT count(*) FROM es_events e JOIN LATERAL es_read(e.stream, e.version, 1) r ON r = e::es_event WHERE e.stream = 'ingest_a-1';

--
-- es_streams
--
SELECT es_append('ingest_s', 'A'), es_append('ingest_s-x-y', 'A'), es_append('ingest_s-x-y', 'B');
SELECT stream, category, version, first_version, deleted, created_at BETWEEN now() - interval '1 hour' AND clock_timestamp() AS created_at
FROM es_streams WHERE stream LIKE 'ingest\_s%' ORDER BY stream;
SELECT created_at <= (SELECT recorded_at FROM es_read('ingest_s', 1, 1)) AS before_first_event FROM es_streams WHERE stream = 'ingest_s';
--
-- indexes of users on a segment, of any access method, altered while in use
--
CREATE INDEX ingest_gin ON eventstore.events_0 USING gin (data);
CREATE INDEX ingest_brin ON eventstore.events_0 USING brin (recorded_at);
CREATE INDEX ingest_hash ON eventstore.events_0 USING hash (type);
INSERT INTO es_events (stream, type, data) SELECT 'ingest_am-1', 'A', jsonb_build_object('k', n) FROM generate_series(1, 50) n;
ALTER INDEX eventstore.ingest_gin SET (fastupdate = off);
ALTER INDEX eventstore.ingest_brin SET (pages_per_range = 16);
SELECT count(es_append('ingest_am-1', 'B', '{"k": [1, 2, 3]}')) FROM generate_series(1, 50);
SET enable_seqscan = off;
SELECT count(*) FROM eventstore.events_0 WHERE data @> '{"k": [2]}' AND stream = 'ingest_am-1';
RESET enable_seqscan;
DROP INDEX eventstore.ingest_gin, eventstore.ingest_brin, eventstore.ingest_hash;
SELECT es_append('ingest_am-1', 'C');
--
-- a function that looks at the view sees the rows before, with and without RETURNING
--
CREATE FUNCTION ingest_count(name text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN (SELECT count(*) FROM es_events WHERE stream = name); END$$;
INSERT INTO es_events (stream, type, data) SELECT 'ingest_sees-1', 'A', to_jsonb(ingest_count('ingest_sees-1')) FROM generate_series(1, 3);
SELECT data FROM es_read('ingest_sees-1');
DROP FUNCTION ingest_count(text);
-- versions that no event has, times that are none
\set VERBOSITY terse
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_none-1', 'A', '{}', 0);
\set VERBOSITY default
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_none-1', 'A', '{}', -9223372036854775808);
INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('ingest_none-1', 'A', '{}', 'infinity');
--
-- with RETURNING each row is written at once: it says where it is, and what a later row asks sees it
--
SELECT es_append('ingest_returning-0', 'Start') AS start, es_last_position() AS base \gset
INSERT INTO es_events (stream, type, data) SELECT 'ingest_returning-' || n % 2, 'A', to_jsonb(es_stream_version('ingest_returning-' || n % 2))
FROM generate_series(1, 6) n
RETURNING stream, version, data, position - :base AS nth, es_stream_version(stream) AS so_far, position = es_last_position() AS last;
INSERT INTO es_events (stream, type, data, version) VALUES ('ingest_returning-0', 'B', '{}', 5), ('ingest_returning-2', 'B', '{}', 1), ('ingest_returning-0', 'C', '{}', 6)
RETURNING stream, version, type, position - :base AS nth;
-- a CTE hands on the rows as they are stored
WITH i AS (INSERT INTO es_events (stream, type, data) SELECT 'ingest_returning-3', 'A', to_jsonb(n) FROM generate_series(1, 2500) n RETURNING *)
SELECT count(*), min(version), max(version), max(position) - min(position) AS span, bool_and(version = data::int) AS in_order, max(position) = es_last_position() AS last FROM i;
--
-- without RETURNING rows are written before anything of ours looks, and at the end, in order of arrival
--
CREATE FUNCTION pg_temp.order_of(stream text) RETURNS TABLE(nth bigint, stream text, version bigint, type text, data jsonb) LANGUAGE sql AS $$
	SELECT rank() OVER (ORDER BY e.position), e.stream, e.version, e.type, e.data FROM es_streams s, es_read(s.stream) e WHERE s.stream LIKE $1 ORDER BY e.position
$$;
-- a default that COPY takes for each row
SELECT es_last_position() AS base \gset
BEGIN;
ALTER VIEW es_events ALTER COLUMN data SET DEFAULT to_jsonb(ARRAY[es_stream_version('ingest_flush-1'), es_stream_version('ingest_flush-2'), es_last_position() - :base]);
COPY es_events (stream, type) FROM stdin;
ingest_flush-1	A
ingest_flush-2	A
ingest_flush-1	B
ingest_flush-2	B
\.
SELECT * FROM pg_temp.order_of('ingest\_flush-%');
-- one that appends: the rows before it come first
ALTER VIEW es_events ALTER COLUMN data SET DEFAULT to_jsonb(es_append('ingest_flush-2', 'Between'));
COPY es_events (stream, type) FROM stdin;
ingest_flush-1	C
ingest_flush-2	C
ingest_flush-3	C
\.
SELECT nth, stream, version, type FROM pg_temp.order_of('ingest\_flush-%') WHERE nth > 4;
ROLLBACK;
SELECT es_stream_version('ingest_flush-1'), es_stream_version('ingest_flush-2');
-- statements of one transaction, and what comes between them
BEGIN;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_flush-5', 'A', '1'), ('ingest_flush-4', 'A', '2'), ('ingest_flush-5', 'A', '3');
SELECT es_stream_version('ingest_flush-5'), es_stream_version('ingest_flush-4'), (SELECT count(*) FROM es_events WHERE stream LIKE 'ingest\_flush-%');
INSERT INTO es_events (stream, type, data) VALUES ('ingest_flush-4', 'A', '4');
SELECT version, data FROM es_read('ingest_flush-4');
SELECT es_append('ingest_flush-5', 'B', '5', expected_version => 2);
COPY es_events (stream, type, data) FROM stdin;
ingest_flush-6	A	6
ingest_flush-5	A	7
ingest_flush-4	A	8
\.
SELECT stream, version FROM es_append_many('[{"stream": "ingest_flush-4", "type": "C", "data": 9, "expected_version": 3}, {"stream": "ingest_flush-6", "type": "C", "data": 10, "expected_version": 1}]');
SAVEPOINT s;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_flush-6', 'undone', '0'), ('ingest_flush-7', 'undone', '0');
ROLLBACK TO s;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_flush-7', 'D', '11'), ('ingest_flush-4', 'D', '12');
COMMIT;
SELECT * FROM pg_temp.order_of('ingest\_flush-%');
SELECT es_settled_position() = es_last_position() AS settled;
--
-- an inline handler that puts rows into the view itself: they are events also where a statement's last rows are written
--
CREATE TABLE ingest_noted (n int GENERATED ALWAYS AS IDENTITY, data jsonb);
CREATE FUNCTION ingest_follow(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ingest_noted (data) VALUES (event.data);
	INSERT INTO es_events (stream, type, data) VALUES ('ingest_followed-1', 'Follow', event.data);
	IF event.data ? 'undo' THEN
		BEGIN
			INSERT INTO es_events (stream, type, data) VALUES ('ingest_followed-1', 'Undone', event.data), ('ingest_followed-1', 'Undone', event.data);
			RAISE EXCEPTION 'undo';
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	ELSIF event.data ? 'fail' THEN
		RAISE EXCEPTION 'the handler fails';
	END IF;
END
$$;
SELECT es_create_handler_projection('ingest_follow', 'ingest_follow(es_event)', 'inline', types => '{IngestFollowed}');
-- how many events there are, what the handler has noted, what follows; and whether all is as it was given, in order
CREATE FUNCTION pg_temp.followed(OUT given bigint, OUT noted bigint, OUT follows bigint, OUT same boolean) LANGUAGE sql AS $$
	SELECT count(g.nth), count(n.nth), count(f.nth), bool_and(COALESCE(g.data = n.data AND g.data = f.data AND f.type = 'Follow', false))
	FROM (SELECT data, row_number() OVER (ORDER BY position) AS nth FROM es_events WHERE type = 'IngestFollowed') g
	FULL JOIN (SELECT data, row_number() OVER (ORDER BY n) AS nth FROM ingest_noted) n ON n.nth = g.nth
	FULL JOIN (SELECT data, type, version AS nth FROM es_events WHERE stream = 'ingest_followed-1') f ON f.nth = g.nth
$$;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-1', 'IngestFollowed', '"one"');
SELECT * FROM pg_temp.followed();
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-1', 'IngestFollowed', '"first"'), ('ingest_following-2', 'IngestFollowed', '"second"');
SELECT * FROM pg_temp.followed();
INSERT INTO es_events (stream, type, data) SELECT 'ingest_following-' || n % 7, 'IngestFollowed', to_jsonb(n) FROM generate_series(1, 1000) n;
SELECT * FROM pg_temp.followed();
INSERT INTO es_events (stream, type, data) SELECT 'ingest_following-' || n % 7, 'IngestFollowed', to_jsonb(n) FROM generate_series(1, 1001) n;
SELECT * FROM pg_temp.followed();
COPY es_events (stream, type, data) FROM stdin;
ingest_following-1	IngestFollowed	{"copied": 1}
ingest_following-2	IngestFollowed	{"copied": 2}
ingest_following-1	IngestFollowed	{"copied": 3}
\.
SELECT * FROM pg_temp.followed();
-- a subtransaction of the handler that rolls back; a handler that fails, with and without a savepoint
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-1', 'IngestFollowed', '{"undo": 1}'), ('ingest_following-1', 'IngestFollowed', '{"undo": 2}');
SELECT * FROM pg_temp.followed();
\set VERBOSITY terse
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-1', 'IngestFollowed', '1'), ('ingest_following-1', 'IngestFollowed', '{"fail": 1}');
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-1', 'IngestFollowed', '"after"');
SELECT * FROM pg_temp.followed();
BEGIN;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-1', 'IngestFollowed', '"before"');
SAVEPOINT s;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-3', 'IngestFollowed', '1'), ('ingest_following-3', 'IngestFollowed', '{"fail": 1}');
ROLLBACK TO s;
INSERT INTO es_events (stream, type, data) VALUES ('ingest_following-3', 'IngestFollowed', '"again"'), ('ingest_following-3', 'IngestFollowed', '"and again"');
COMMIT;
\set VERBOSITY default
SELECT * FROM pg_temp.followed();
SELECT es_drop_projection('ingest_follow');
DROP FUNCTION ingest_follow(es_event);
DROP TABLE ingest_noted;
--
-- triggers of users on the view see the rows before, and what they put into it is stored as they are told
--
CREATE FUNCTION ingest_put() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	put bigint;
BEGIN
	INSERT INTO es_events (stream, type, data) SELECT 'ingest_put-1', tg_when, to_jsonb(count(*)) FROM es_events WHERE stream = 'ingest_put-2' RETURNING version INTO put;
	RAISE NOTICE '% %', tg_when, put;
	RETURN NULL;
END
$$;
CREATE FUNCTION ingest_look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.data := to_jsonb((SELECT count(*) FROM es_events WHERE stream = NEW.stream));
	RETURN NEW;
END
$$;
CREATE TRIGGER "000_put" BEFORE INSERT ON es_events FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION ingest_put();
CREATE TRIGGER put AFTER INSERT ON es_events FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION ingest_put();
INSERT INTO es_events (stream, type, data) SELECT 'ingest_put-2', 'T', to_jsonb(n) FROM generate_series(1, 3) n;
COPY es_events (stream, type, data) FROM stdin;
ingest_put-2	T	4
ingest_put-2	T	5
\.
SELECT version, type, data FROM es_read('ingest_put-1');
DROP TRIGGER "000_put" ON es_events;
DROP TRIGGER put ON es_events;
CREATE TRIGGER a_look INSTEAD OF INSERT ON es_events FOR EACH ROW EXECUTE FUNCTION ingest_look();
INSERT INTO es_events (stream, type, data) SELECT 'ingest_look-1', 'T', to_jsonb(n * 10) FROM generate_series(1, 3) n;
SELECT version, data FROM es_read('ingest_look-1');
DROP TRIGGER a_look ON es_events;
DROP FUNCTION ingest_put(), ingest_look();
-- a view over it that checks what is put in, by what it is stored as
CREATE VIEW ingest_checked AS SELECT * FROM es_events WHERE version <= 2 WITH LOCAL CHECK OPTION;
INSERT INTO ingest_checked (stream, type, data) VALUES ('ingest_checked-1', 'T', '1'), ('ingest_checked-1', 'T', '2');
\set VERBOSITY terse
INSERT INTO ingest_checked (stream, type, data) VALUES ('ingest_checked-2', 'T', '1'), ('ingest_checked-1', 'T', '3');
\echo :SQLSTATE
\set VERBOSITY default
SELECT stream, version, data FROM es_read_category('ingest_checked');
DROP VIEW ingest_checked;
-- a default that looks at the view sees the rows that COPY has brought
CREATE FUNCTION ingest_seen() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS
	$$BEGIN RETURN to_jsonb((SELECT count(*) FROM es_events WHERE stream = 'ingest_seen-1')); END$$;
BEGIN;
ALTER VIEW es_events ALTER COLUMN data SET DEFAULT ingest_seen();
COPY es_events (stream, type) FROM stdin;
ingest_seen-1	A
ingest_seen-1	B
ingest_seen-1	C
\.
SELECT version, type, data FROM es_read('ingest_seen-1');
ROLLBACK;
DROP FUNCTION ingest_seen();
