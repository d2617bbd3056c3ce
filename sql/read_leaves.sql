-- Reads in order go through the leaves of an index and the pages of rows, whatever these have been through.
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_leaves;
\c regress_es_leaves
SET client_min_messages = warning;
CREATE EXTENSION eventstore;

-- What es_read and es_read_all give is what is stored, as a scan of the table finds it.
SET enable_indexscan = off;
SET enable_bitmapscan = off;
CREATE FUNCTION pg_temp.stream_is_whole(stream text, "from" bigint, most bigint) RETURNS boolean LANGUAGE sql AS $$
	SELECT (SELECT jsonb_agg(jsonb_build_array(version, type)) FROM es_read($1, $2, $3)) IS NOT DISTINCT FROM
		(SELECT jsonb_agg(jsonb_build_array(version, type) ORDER BY version) FROM (SELECT * FROM eventstore.events e
			WHERE e.stream = $1 AND version >= greatest($2, 1) ORDER BY version LIMIT $3) e)
$$;
CREATE FUNCTION pg_temp.log_is_whole("after" bigint, most bigint) RETURNS boolean LANGUAGE sql AS $$
	SELECT (SELECT jsonb_agg(jsonb_build_array(position, type)) FROM es_read_all($1, $2)) IS NOT DISTINCT FROM
		(SELECT jsonb_agg(jsonb_build_array(position, type) ORDER BY position) FROM (SELECT * FROM eventstore.events
			WHERE position > $1 ORDER BY position LIMIT $2) e)
$$;
CREATE FUNCTION pg_temp.category_is_whole("after" bigint, most bigint) RETURNS boolean LANGUAGE sql AS $$
	SELECT (SELECT jsonb_agg(jsonb_build_array(position, version, data)) FROM es_read_category('leaves_b', $1, $2)) IS NOT DISTINCT FROM
		(SELECT jsonb_agg(jsonb_build_array(position, version, data) ORDER BY position) FROM (SELECT * FROM eventstore.events
			WHERE stream LIKE 'leaves\_b-%' AND position > $1 ORDER BY position LIMIT $2) e)
$$;
CREATE VIEW pg_temp.faults AS
	SELECT what, at, most FROM (VALUES (1), (2), (33), (290), (1000), (1500), (2600), (9999)) a (at),
		(VALUES (0), (1), (32), (33), (1000), (5000), (NULL)) m (most),
		LATERAL (VALUES ('stream', pg_temp.stream_is_whole('leaves_a-1', at, most)),
			('other stream', pg_temp.stream_is_whole('leaves_b-1', at, most)),
			('log', pg_temp.log_is_whole(at * 2, most)),
			('category', pg_temp.category_is_whole(at * 2, most))) w (what, whole)
	WHERE NOT whole;

-- Two streams, mixed, with events between them that were rolled back; pages are not all-visible, entries lead nowhere.
DO $$
BEGIN
	FOR i IN 1 .. 500 LOOP
		PERFORM es_append_batch('leaves_a-1', (SELECT jsonb_agg(jsonb_build_object('type', 'A' || n, 'data', '{}'::jsonb))
			FROM generate_series(1, 1 + i % 9) n));
		PERFORM es_append('leaves_b-' || 1 + i % 2, 'B', jsonb_build_object('i', i));
		BEGIN
			PERFORM es_append('leaves_b-1', 'Rolled back'), es_append('leaves_a-1', 'Rolled back');
			RAISE EXCEPTION 'no';
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
END $$;
SELECT * FROM pg_temp.faults;
SELECT count(*), count(*) FILTER (WHERE type = 'Rolled back') AS rolled_back FROM es_read('leaves_a-1');
SELECT count(*) FROM es_read('leaves_none-1');

-- Every row of the last page is there, and a read from the end on has none.
SELECT min(version), max(version), count(*) FROM es_read('leaves_a-1', 2450);
SELECT count(*) FROM es_read('leaves_a-1', 2496);
SELECT count(*) FROM es_read('leaves_a-1', 9223372036854775807);
SELECT count(*) FROM es_read_all(9223372036854775806, NULL);

-- What the transaction itself has appended is in the stream; a serializable one reads as any.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT es_append('leaves_a-1', 'Own') > 0 AS appended;
SELECT type, count(*) FROM es_read('leaves_a-1') WHERE type = 'Own' GROUP BY 1;
SELECT * FROM pg_temp.faults WHERE what LIKE '%stream';
ROLLBACK;
BEGIN;
SELECT es_append('leaves_a-1', 'Own') > 0 AS appended;
SELECT type, count(*) FROM es_read('leaves_a-1') WHERE type = 'Own' GROUP BY 1;
SELECT * FROM pg_temp.faults WHERE what LIKE '%stream';
ROLLBACK;

-- Rows are given out as they are, whoever keeps them.
SELECT count(*), sum(a.version - b.version) AS apart FROM es_read('leaves_a-1') a JOIN es_read('leaves_a-1') b USING (version, type);
SELECT version, before FROM (SELECT version, lag(version, 1) OVER () AS before FROM es_read('leaves_a-1')) w
	WHERE before IS DISTINCT FROM version - 1;
CREATE TEMP TABLE kept AS SELECT version, type FROM es_read('leaves_a-1');
INSERT INTO kept SELECT version, type FROM es_read('leaves_a-1');
SELECT count(*), count(DISTINCT (version, type)) FROM kept;
SELECT n, count(*), min(version), max(version) FROM generate_series(1, 3) n, LATERAL (SELECT version FROM es_read('leaves_a-1', n * 800, 700) OFFSET 0) e GROUP BY n ORDER BY n;

-- All pages all-visible, the entries that led nowhere gone; the same in indexes that are new.
VACUUM eventstore.events;
SELECT * FROM pg_temp.faults;
REINDEX TABLE eventstore.events;
SELECT * FROM pg_temp.faults;

-- Leaves that have been emptied, and deleted, have none; what is after them is read on.
SELECT es_truncate_stream('leaves_a-1', 2000);
SELECT count(*) > 0 AS scavenged FROM es_scavenge();
VACUUM eventstore.events;
VACUUM eventstore.events;
SELECT count(*), min(version) FROM eventstore.events WHERE stream = 'leaves_a-1';
SELECT * FROM pg_temp.faults;
SELECT count(es_append('leaves_a-1', 'After', '{}')) FROM generate_series(1, 400);
SELECT * FROM pg_temp.faults;

-- Where rows were rewritten, entries have lists of the places of all their versions.
BEGIN;
ALTER TABLE eventstore.events_0 DISABLE TRIGGER ALL;
UPDATE eventstore.events SET type_version = type_version WHERE stream = 'leaves_a-1';
UPDATE eventstore.events SET type_version = type_version WHERE stream = 'leaves_a-1';
SELECT * FROM pg_temp.faults;
ROLLBACK;
SELECT * FROM pg_temp.faults;

-- A row may have a column more, which is NULL.
BEGIN;
ALTER TABLE eventstore.events ADD COLUMN note text;
SELECT count(es_append('leaves_a-1', 'With a note', '{}')) FROM generate_series(1, 3);
SELECT version, type, data, metadata FROM es_read('leaves_a-1', 2895);
SELECT * FROM pg_temp.faults WHERE what LIKE '%stream';
ROLLBACK;

\c :regression_database
SET client_min_messages = warning;
DROP DATABASE regress_es_leaves;
