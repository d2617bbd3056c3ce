--
-- The store: append-only for everyone, private, and blind to the caller's search_path.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN format('done (%s)', n);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;

SELECT es_append('store_a-1', 'A', '{"n": 1}'), es_append('store_a-1', 'B', '{"n": 2}');
SELECT 'eventstore.events_' || segment AS segment FROM es_segments WHERE events > 0 ORDER BY segment LIMIT 1 \gset

--
-- Nobody changes what is stored, not even a superuser
--
UPDATE eventstore.events SET data = '{}' WHERE stream = 'store_a-1';
\echo :SQLSTATE
DELETE FROM eventstore.events WHERE stream = 'store_a-1';
\echo :SQLSTATE
TRUNCATE eventstore.events;
\echo :SQLSTATE
UPDATE es_events SET data = '{}' WHERE stream = 'store_a-1';
\echo :SQLSTATE
DELETE FROM es_events WHERE stream = 'store_a-1';
\echo :SQLSTATE

CREATE TEMP TABLE attempt AS SELECT * FROM unnest(ARRAY[
	'UPDATE eventstore.events SET position = position',
	'UPDATE ONLY eventstore.events SET data = NULL',
	'DELETE FROM eventstore.events',
	'TRUNCATE eventstore.events',
	'TRUNCATE ONLY eventstore.events',
	'TRUNCATE eventstore.events CASCADE',
	'TRUNCATE eventstore.events RESTART IDENTITY',
	format('UPDATE %s SET version = version + 1', :'segment'),
	format('DELETE FROM %s', :'segment'),
	format('DELETE FROM ONLY %s WHERE ctid = ''(0,1)''', :'segment'),
	format('TRUNCATE %s', :'segment'),
	format('TRUNCATE %s, eventstore.streams', :'segment'),
	format('WITH d AS (DELETE FROM %s RETURNING *) SELECT count(*) FROM d', :'segment'),
	format('MERGE INTO %s e USING (SELECT 1) u(x) ON e.version = u.x WHEN MATCHED THEN UPDATE SET data = ''{}''', :'segment'),
	format('MERGE INTO %s e USING (SELECT 1) u(x) ON e.version = u.x WHEN MATCHED THEN DELETE', :'segment'),
	'MERGE INTO eventstore.events e USING (SELECT 1) u(x) ON e.version = u.x WHEN MATCHED THEN DELETE',
	format('INSERT INTO %1$s SELECT * FROM %1$s ON CONFLICT (stream_id, version) DO UPDATE SET data = ''{}''', :'segment'),
	'UPDATE eventstore.streams SET name = ''x''',
	'UPDATE eventstore.streams SET deleted = true',
	'DELETE FROM eventstore.streams',
	'TRUNCATE eventstore.streams',
	'UPDATE eventstore.segments SET segment = segment',
	'DELETE FROM eventstore.segments',
	'TRUNCATE eventstore.segments',
	'TRUNCATE eventstore.config',
	'UPDATE es_events SET version = version',
	'UPDATE es_events SET data = ''{}'' WHERE stream = ''store_a-1''',
	'DELETE FROM es_events',
	'TRUNCATE es_events'
	]) statement;
SELECT pg_temp.outcome(statement) AS superuser, statement FROM attempt;
SET session_replication_role = replica;
SELECT pg_temp.outcome(statement) AS replica, statement FROM attempt;
RESET session_replication_role;
SELECT version, type, data FROM es_read('store_a-1');
-- what touches no event is no violation
UPDATE eventstore.events SET data = '{}' WHERE stream = 'store_none';
DELETE FROM es_events WHERE stream = 'store_none';

-- the guards are not for one row only, and not for one session only
DO $$
BEGIN
	DELETE FROM eventstore.events WHERE stream = 'store_a-1' AND version = 2;
EXCEPTION WHEN SQLSTATE 'VE002' THEN
	RAISE NOTICE '%', SQLERRM;
END
$$;
\c -
DELETE FROM eventstore.events WHERE stream = 'store_a-1' AND version = 2;
SELECT es_append('store_a-1', 'C', expected_version => 2);

--
-- PUBLIC may call everything, and has nothing; grants are enough
--
CREATE ROLE regress_es_nobody;
CREATE ROLE regress_es_app;
CREATE ROLE regress_es_table;
-- what is open to PUBLIC: all functions es_*, which ask, and of others those that views and casts call
SELECT p.oid::regprocedure AS closed FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
	AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'eventstore'
WHERE NOT has_function_privilege('regress_es_nobody', p.oid, 'EXECUTE') AND p.pronamespace <> 'eventstore'::regnamespace;
SELECT p.oid::regprocedure AS open FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
	AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'eventstore'
WHERE has_function_privilege('regress_es_nobody', p.oid, 'EXECUTE') AND p.pronamespace = 'eventstore'::regnamespace ORDER BY 1;
SELECT c.relname AS closed FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
WHERE c.relname LIKE 'es\_%' AND c.relkind = 'v' AND NOT has_table_privilege('regress_es_nobody', c.oid, 'SELECT');
SELECT c.relname AS open_to_change, has_table_privilege('regress_es_nobody', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS as_a_whole
FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
WHERE c.relkind = 'v' AND (has_any_column_privilege('regress_es_nobody', c.oid, 'INSERT, UPDATE, REFERENCES')
	OR has_table_privilege('regress_es_nobody', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'));
SELECT c.oid::regclass AS open FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'eventstore' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
	AND (has_table_privilege('regress_es_nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_any_column_privilege('regress_es_nobody', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')) ORDER BY 1;
SELECT c.oid::regclass AS open FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'eventstore' AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('regress_es_nobody', c.oid, 'USAGE, SELECT, UPDATE') END ORDER BY 1;
SELECT has_schema_privilege('regress_es_nobody', 'eventstore', 'USAGE') AS usage, has_schema_privilege('regress_es_nobody', 'eventstore', 'CREATE') AS create;

SELECT es_grant('regress_es_app', 'append', 'store_b'), es_grant('regress_es_app', 'read', 'store_b');
CREATE TEMP TABLE usage AS SELECT * FROM unnest(ARRAY[
	$$SELECT es_append('store_b-1', 'A')$$,
	$$SELECT es_append_batch('store_b-1', '[{"type": "B"}]', 1)$$,
	$$SELECT es_append_events('store_b-1', ARRAY[('C', '{}', NULL, NULL)]::es_new_event[], 2)$$,
	$$SELECT es_last_position()$$,
	$$SELECT es_stream_version('store_b-1')$$,
	$$SELECT es_read('store_b-1')$$,
	$$SELECT es_read_category('store_b')$$,
	$$SELECT es_read_all(es_settled_position() - 1)$$,
	$$SELECT es_settled_position()$$,
	$$SELECT es_wait(0, '0')$$,
	$$SELECT es_settle()$$,
	$$SELECT 1 FROM es_events$$,
	$$SELECT 1 FROM es_streams$$,
	$$SELECT 1 FROM es_segments$$,
	$$INSERT INTO es_events (stream, type, data) VALUES ('store_b-1', 'D', '{}')$$,
	$$UPDATE es_events SET type = 'x'$$,
	$$DELETE FROM es_events$$,
	$$SELECT 1 FROM eventstore.events$$,
	$$SELECT 1 FROM eventstore.streams$$,
	$$INSERT INTO eventstore.config VALUES (100)$$,
	$$SELECT nextval('eventstore.position_seq')$$
	]) WITH ORDINALITY u(statement, nth);
GRANT SELECT ON usage TO PUBLIC;
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN format('done (%s)', n);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
CREATE TEMP TABLE seen (role text, nth bigint, outcome text);
GRANT INSERT ON seen TO PUBLIC;
SET ROLE regress_es_nobody;
INSERT INTO seen SELECT 'nobody', nth, pg_temp.outcome(statement) FROM usage ORDER BY nth;
SET ROLE regress_es_app;
INSERT INTO seen SELECT 'app', nth, pg_temp.outcome(statement) FROM usage ORDER BY nth;
RESET ROLE;
SELECT max(outcome) FILTER (WHERE role = 'nobody') AS nobody, max(outcome) FILTER (WHERE role = 'app') AS app, statement
FROM usage LEFT JOIN seen USING (nth) GROUP BY nth, statement ORDER BY nth;
SELECT version, type FROM es_read('store_b-1');

-- a role with rights on the tables still neither inserts around the functions nor changes anything
GRANT USAGE ON SCHEMA eventstore TO regress_es_table;
GRANT ALL ON ALL TABLES IN SCHEMA eventstore TO regress_es_table;
SET ROLE regress_es_table;
SELECT count(*) FROM eventstore.events WHERE stream = 'store_b-1';
INSERT INTO eventstore.events SELECT * FROM eventstore.events WHERE stream = 'store_b-1';
\echo :SQLSTATE
COPY eventstore.events FROM stdin;
\.
\echo :SQLSTATE
INSERT INTO eventstore.streams SELECT * FROM eventstore.streams WHERE name = 'store_b-1';
\echo :SQLSTATE
SELECT pg_temp.outcome(format('INSERT INTO %1$s SELECT * FROM %1$s', 'eventstore.events_' || segment)) AS segment
FROM (SELECT tableoid::regclass::text, substring(tableoid::regclass::text from '\d+$') AS segment FROM eventstore.events LIMIT 1) s;
UPDATE eventstore.events SET data = '{}';
\echo :SQLSTATE
DELETE FROM eventstore.streams;
\echo :SQLSTATE
TRUNCATE eventstore.events;
\echo :SQLSTATE
RESET ROLE;
REVOKE ALL ON ALL TABLES IN SCHEMA eventstore FROM regress_es_table;
REVOKE ALL ON SCHEMA eventstore FROM regress_es_table;
-- setting the segment size is for the owner
SET ROLE regress_es_app;
SELECT es_set_segment_size(1000);
\echo :SQLSTATE
RESET ROLE;

--
-- A hostile search_path, hostile temporary objects
--
CREATE SCHEMA store_hostile;
CREATE FUNCTION store_hostile.hijack(text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'hijacked by %', $1; END$$;
CREATE FUNCTION store_hostile.eq(anyelement, anyelement) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.eq(text, text) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.eq(bigint, int) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.eq(int, int) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.eq(oid, oid) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.eq(name, name) RETURNS boolean LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')$$;
CREATE FUNCTION store_hostile.add(bigint, bigint) RETURNS bigint LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')::int::bigint$$;
CREATE FUNCTION store_hostile.add(bigint, int) RETURNS bigint LANGUAGE sql AS $$SELECT store_hostile.hijack('operator')::int::bigint$$;
DO $$
DECLARE
	operator text;
	type text;
BEGIN
	FOREACH operator IN ARRAY '{=,<,>,<=,>=,<>}'::text[] LOOP
		FOREACH type IN ARRAY '{anyelement,text,bigint,int,oid,name}'::text[] LOOP
			EXECUTE format('CREATE OPERATOR store_hostile.%s (leftarg = %s, rightarg = %2$s, function = store_hostile.eq)', operator, type);
		END LOOP;
		EXECUTE format('CREATE OPERATOR store_hostile.%s (leftarg = bigint, rightarg = int, function = store_hostile.eq)', operator);
	END LOOP;
	FOREACH operator IN ARRAY '{+,-,*,/,%}'::text[] LOOP
		EXECUTE format('CREATE OPERATOR store_hostile.%s (leftarg = bigint, rightarg = bigint, function = store_hostile.add)', operator);
		EXECUTE format('CREATE OPERATOR store_hostile.%s (leftarg = bigint, rightarg = int, function = store_hostile.add)', operator);
	END LOOP;
END
$$;
CREATE FUNCTION store_hostile.nextval(regclass) RETURNS bigint LANGUAGE sql AS $$SELECT store_hostile.hijack('nextval')::int::bigint$$;
CREATE FUNCTION store_hostile.count(bigint) RETURNS bigint LANGUAGE sql AS $$SELECT store_hostile.hijack('count')::int::bigint$$;
CREATE FUNCTION store_hostile.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT store_hostile.hijack('now')::text::timestamptz$$;
CREATE FUNCTION store_hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT store_hostile.hijack('clock')::text::timestamptz$$;
CREATE FUNCTION store_hostile.format(text, text) RETURNS text LANGUAGE sql AS $$SELECT store_hostile.hijack('format')::text$$;
CREATE FUNCTION store_hostile.split_part(text, text, int) RETURNS text LANGUAGE sql AS $$SELECT store_hostile.hijack('split_part')::text$$;
CREATE FUNCTION store_hostile.coalesce_(text) RETURNS text LANGUAGE sql AS $$SELECT store_hostile.hijack('coalesce')::text$$;
CREATE FUNCTION store_hostile.es_read(text) RETURNS SETOF int LANGUAGE sql AS $$SELECT store_hostile.hijack('es_read')::int$$;
CREATE FUNCTION store_hostile.es_settled_position() RETURNS bigint LANGUAGE sql AS $$SELECT store_hostile.hijack('settled')::int::bigint$$;
CREATE TABLE store_hostile.events (position int, stream text);
CREATE TABLE store_hostile.streams (name int);
CREATE TABLE store_hostile.segments (x int);
CREATE TABLE store_hostile.config (segment_size text);
CREATE TABLE store_hostile.es_events (x int);
CREATE SEQUENCE store_hostile.position_seq START 1000000;
CREATE TYPE store_hostile.es_event AS (position text);
CREATE TYPE store_hostile.es_new_event AS (type int);
CREATE TEMP TABLE events (position int, stream text);
CREATE TEMP TABLE streams (stream_id int);
CREATE TEMP TABLE segments (x int);
CREATE TEMP TABLE config (segment_size text);
CREATE TEMP TABLE pg_class (relname name, oid oid);
CREATE TEMP TABLE pg_extension (extname name);
CREATE TEMP TABLE eventstore (events text);
CREATE TEMP TABLE es_event (position text);
CREATE TEMP SEQUENCE position_seq;
CREATE TEMP VIEW es_streams AS SELECT 1 AS x;
SET search_path = pg_temp, store_hostile, pg_catalog, public;
SELECT public.es_append('store_hostile-1', 'A', '{"n": 1}', '{}', 0, '0189cccc-0000-7000-8000-000000000001');
SELECT public.es_append('store_hostile-1', 'A', '{"n": 1}', '{}', 0, '0189cccc-0000-7000-8000-000000000001');
SELECT public.es_append_batch('store_hostile-1', '[{"type": "B"}, {"type": "C"}]', 1);
SELECT public.es_append_events('store_hostile-1', ARRAY[('D', '{}', NULL, NULL)]::public.es_new_event[], 3);
INSERT INTO public.es_events (stream, type, data, version) VALUES ('store_hostile-1', 'E', '{}', 5) RETURNING stream, version, type;
COPY public.es_events (stream, type, data) FROM stdin;
store_hostile-1	F	{}
store_hostile-2	F	{}
\.
UPDATE public.es_events SET type = 'x' WHERE stream LIKE 'store_hostile-1';
SELECT public.es_stream_version('store_hostile-1');
SELECT version, type FROM public.es_read('store_hostile-1', 2, 3);
SELECT version, type FROM public.es_read('store_hostile-1', NULL, 1, true);
SELECT stream, version, type FROM public.es_read_category('store_hostile');
SELECT stream, version, type FROM public.es_read_all(0, NULL, '{store_hostile}', '{F}', 'store_hostile-');
SELECT stream, version, type FROM public.es_events WHERE stream LIKE 'store_hostile-%' ORDER BY stream, version;
SELECT stream, category, version, first_version, deleted FROM public.es_streams WHERE stream LIKE 'store_hostile-%' ORDER BY stream;
SELECT public.es_settled_position() IS NOT NULL AS settled, public.es_settle() IS NOT NULL AS marked, public.es_wait(0, '1s') IS NOT NULL AS waited;
CALL public.es_wait_for(9223372036854775806, '10ms') \gset
SELECT :settled IS NOT NULL AS settled;
SELECT bool_or(events IS NOT NULL) AS segments FROM public.es_segments;
UPDATE eventstore.events SET type = 'x' WHERE stream LIKE 'store_hostile-1';
RESET search_path;
DISCARD TEMP;
SET client_min_messages = warning;
DROP SCHEMA store_hostile CASCADE;
RESET client_min_messages;

--
-- The extension comes and goes, into any schema, with what it stored, in one transaction or many.
-- Its first session is no special one.
--
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_store;
\c regress_es_store
CREATE SCHEMA "Event Store";
CREATE EXTENSION eventstore SCHEMA "Event Store";
SET session_replication_role = replica;
INSERT INTO "Event Store".es_events (stream, type, data) VALUES ('store_c-1', 'A', '{"n": 1}') RETURNING version, type;
UPDATE "Event Store".es_events SET data = '{}';
\echo :SQLSTATE
DELETE FROM "Event Store".es_events;
\echo :SQLSTATE
UPDATE eventstore.events SET data = '{}';
\echo :SQLSTATE
RESET session_replication_role;
SELECT position, version, type, data FROM "Event Store".es_read('store_c-1');
SELECT "Event Store".es_append('store_c-1', 'B');
SELECT "Event Store".es_append_events('store_c-1', ARRAY[('C', '{}', NULL, NULL)]::"Event Store".es_new_event[], 2);
SELECT position, stream, version, type FROM "Event Store".es_read_all();
SET client_min_messages = warning;
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore;
SELECT count(*) AS left_behind FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^(pg_|information_schema)');
SELECT count(*) AS left_behind FROM pg_namespace WHERE nspname = 'eventstore';
-- again, in the same session: a new, empty store
CREATE EXTENSION eventstore;
SELECT * FROM es_read_all();
SELECT es_stream_version('store_c-1'), es_append('store_c-1', 'A', expected_version => 0);
SELECT position, stream, version, type FROM es_read_all();
DROP EXTENSION eventstore;
-- created, used and dropped in one transaction; a rollback leaves nothing
BEGIN;
CREATE EXTENSION eventstore;
SELECT es_append('store_c-2', 'A'), es_append('store_c-2', 'B');
SELECT version, type FROM es_read('store_c-2');
ROLLBACK;
SELECT es_append('store_c-2', 'A');
BEGIN;
CREATE EXTENSION eventstore;
SELECT es_append('store_c-2', 'A'), es_append('store_c-2', 'B');
COMMIT;
SELECT position, stream, version, type FROM es_read_all();
DROP EXTENSION eventstore;
RESET client_min_messages;
\c :regression_database
DROP DATABASE regress_es_store WITH (FORCE);
DROP OWNED BY regress_es_app;
DROP ROLE regress_es_nobody, regress_es_app, regress_es_table;
