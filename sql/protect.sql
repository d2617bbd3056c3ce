--
-- What would take the store or a part of it away is refused while it has events.
--
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_protect;
\c regress_es_protect
CREATE EXTENSION eventstore;
CREATE SCHEMA helper;
-- runs a statement and undoes it; 'done', or the SQLSTATE
CREATE FUNCTION helper.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
	RETURN replace(SQLSTATE, 'ZZ000', 'done');
END
$$;
CREATE FUNCTION helper.outcomes(VARIADIC statements text[]) RETURNS TABLE(statement text, outcome text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH statement IN ARRAY statements LOOP
		outcome := helper.outcome(statement);
		RETURN NEXT;
	END LOOP;
END
$$;
-- one statement for each part of the store that can be dropped by itself
CREATE FUNCTION helper.parts() RETURNS TABLE (statement text) LANGUAGE sql AS $$
	WITH own AS (
		SELECT objid AS relid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
			AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
		UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass)
	SELECT format('DROP %s %s CASCADE', CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass) AS statement
	FROM pg_class JOIN own ON relid = oid
	UNION ALL SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
	FROM pg_constraint JOIN own ON relid = conrelid WHERE conindid <> 0 AND contype IN ('p', 'u')
	UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass)
	FROM pg_index JOIN own ON relid = indrelid WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
	UNION ALL SELECT format('ALTER TABLE %s DROP COLUMN %I', attrelid::regclass, attname)
	FROM pg_attribute JOIN own ON relid = attrelid JOIN pg_class c ON c.oid = relid
	WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p') AND NOT relispartition
	UNION ALL SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass)
	FROM pg_trigger JOIN own ON relid = tgrelid WHERE NOT tgisinternal AND tgparentid = 0
	UNION ALL SELECT format('ALTER TYPE %s DROP ATTRIBUTE %I CASCADE', attrelid::regclass, attname)
	FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
	WHERE relkind = 'c' AND relname ~ '^es_' AND attnum > 0 AND NOT attisdropped
$$;

-- an empty store may go, also in the transaction that made it, and with what it holds but events
SELECT es_subscribe('s'), es_create_projection('p', 'count');
SELECT * FROM helper.outcomes('DROP EXTENSION eventstore', 'DROP SCHEMA public CASCADE',
	'DROP EXTENSION eventstore; CREATE EXTENSION eventstore; SELECT es_append(''a-1'', ''A''); DROP EXTENSION eventstore');

-- with an event it stays, whichever way, in a session that has not used it
SELECT es_append('a-1', 'A'), es_append('b-1', 'B', '{}', '{"tags": ["t"]}');
\c
DROP EXTENSION eventstore;
\c
\set VERBOSITY sqlstate
DROP SCHEMA public CASCADE;
\set VERBOSITY default
\c
DROP SCHEMA eventstore CASCADE;
\c
DROP TABLE eventstore.events_0;
\set VERBOSITY sqlstate
DROP INDEX CONCURRENTLY eventstore.events_0_category;
\set VERBOSITY default
SELECT * FROM helper.outcomes(
	'DROP EXTENSION eventstore CASCADE', 'DROP SCHEMA eventstore', 'DROP TABLE eventstore.events', 'DROP TABLE eventstore.events_1, helper.nothing',
	'DROP TABLE eventstore.streams, eventstore.segments CASCADE', 'DROP VIEW es_events', 'DROP SEQUENCE eventstore.position_seq',
	'DROP LANGUAGE plpgsql CASCADE', 'DROP FUNCTION es_append CASCADE', 'DROP EVENT TRIGGER eventstore_guard_ddl',
	'DROP FUNCTION eventstore.guard_ddl() CASCADE', 'ALTER EXTENSION eventstore DROP TABLE eventstore.upcasters',
	'ALTER EXTENSION eventstore DROP EVENT TRIGGER eventstore_guard_ddl');
SELECT kind, count(*) > 0 AS some, string_agg(DISTINCT outcome, ', ') AS outcomes
FROM (SELECT substring(statement from '^DROP [A-Z]+|^ALTER [A-Z]+|$') || coalesce(substring(statement from ' (DROP [A-Z]+)'), '') AS kind,
	helper.outcome(statement) FROM helper.parts()) p GROUP BY 1 ORDER BY 1;

-- an owner of the schema that it lives in, or of the database, no less
CREATE ROLE regress_es_protect;
ALTER SCHEMA public OWNER TO regress_es_protect;
ALTER DATABASE regress_es_protect OWNER TO regress_es_protect;
GRANT USAGE ON SCHEMA helper TO regress_es_protect;
SET client_min_messages = error;
SET ROLE regress_es_protect;
SELECT * FROM helper.outcomes('DROP SCHEMA public CASCADE', 'DROP EXTENSION eventstore', 'DROP TABLE eventstore.streams',
	'ALTER TABLE eventstore.streams SET UNLOGGED', 'DROP OWNED BY regress_es_protect CASCADE');
RESET ROLE;
RESET client_min_messages;

-- what damages without dropping
SELECT * FROM helper.outcomes(
	'ALTER SEQUENCE eventstore.position_seq RESTART', 'ALTER SEQUENCE eventstore.position_seq RESTART 2',
	'ALTER SEQUENCE eventstore.position_seq RESTART 1000', 'ALTER SEQUENCE eventstore.stream_id_seq RESTART WITH 1',
	'ALTER SEQUENCE eventstore.position_seq CACHE 20',
	'ALTER TABLE eventstore.events_0 SET UNLOGGED', 'ALTER TABLE eventstore.streams SET UNLOGGED', 'ALTER SEQUENCE eventstore.position_seq SET UNLOGGED',
	'ALTER TABLE eventstore.events ALTER data TYPE jsonb USING ''{}''', 'ALTER TABLE eventstore.streams ALTER name TYPE varchar',
	'ALTER TYPE es_state ALTER ATTRIBUTE state TYPE text',
	'ALTER TYPE es_event ADD ATTRIBUTE note text',
	'ALTER TYPE es_new_event ADD ATTRIBUTE note text', 'ALTER TYPE es_state ADD ATTRIBUTE note text', 'ALTER TYPE es_delivery ADD ATTRIBUTE note text');

-- what users added is theirs, and what the server drops by itself is not meant
CREATE INDEX mine ON eventstore.events_0 (type);
CREATE INDEX mine_too ON eventstore.streams (created_at);
ALTER TABLE eventstore.upcasters ADD COLUMN note text DEFAULT 'x';
ALTER TABLE eventstore.streams ADD CONSTRAINT filled CHECK (name <> ''), ADD CONSTRAINT mine_unique UNIQUE (name, stream_id);
CREATE FUNCTION helper.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER mine AFTER INSERT ON eventstore.events FOR EACH ROW EXECUTE FUNCTION helper.nothing();
SELECT * FROM helper.outcomes('DROP INDEX eventstore.mine, eventstore.mine_too', 'ALTER TABLE eventstore.upcasters ALTER note TYPE varchar', 'ALTER TABLE eventstore.upcasters DROP note',
	'ALTER TABLE eventstore.streams DROP CONSTRAINT filled, DROP CONSTRAINT mine_unique', 'DROP TRIGGER mine ON eventstore.events',
	'DROP FUNCTION helper.nothing() CASCADE', 'REASSIGN OWNED BY regress_es_protect TO CURRENT_USER',
	'ALTER TABLE eventstore.events DISABLE TRIGGER guard_rows',
	'ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_1; DROP TABLE eventstore.events_1');
DROP INDEX CONCURRENTLY eventstore.mine;
REINDEX TABLE CONCURRENTLY eventstore.streams;
REINDEX TABLE CONCURRENTLY eventstore.events_0;
VACUUM (FULL) eventstore.events_0;
CLUSTER eventstore.events_0 USING events_0_position;
ALTER TABLE eventstore.streams ALTER created_at SET STATISTICS 10, SET (fillfactor = 80);
CREATE TEMP TABLE others (i int PRIMARY KEY);
DROP TABLE others;
SELECT es_append('a-1', 'C'), es_append('c-1', 'A');

-- events that are only in a segment that was detached count
BEGIN;
ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_0;
SELECT * FROM helper.outcomes('DROP EXTENSION eventstore');
ROLLBACK;

-- whoever means it says so; also of a store that is broken
SET eventstore.allow_drop = on;
SELECT helper.outcome(statement), count(*) > 0 AS some FROM helper.parts() WHERE statement ~ 'TRIGGER|^DROP INDEX|ATTRIBUTE' GROUP BY 1;
SELECT * FROM helper.outcomes('DROP EXTENSION eventstore', 'DROP SCHEMA public CASCADE', 'ALTER EXTENSION eventstore DROP TABLE eventstore.upcasters',
	'ALTER SEQUENCE eventstore.position_seq RESTART', 'ALTER TABLE eventstore.events_0 SET UNLOGGED', 'DROP TABLE eventstore.events_0');
RESET eventstore.allow_drop;
SELECT * FROM helper.outcomes('DROP EXTENSION eventstore');
\c
SET eventstore.allow_drop = on;
ALTER TABLE eventstore.streams RENAME TO was_streams;
ALTER TABLE eventstore.events RENAME TO was_events;
SET client_min_messages = warning;
DROP EXTENSION eventstore CASCADE;
SELECT count(*) FROM pg_event_trigger;
\c :regression_database
DROP DATABASE regress_es_protect WITH (FORCE);
DROP ROLE regress_es_protect;
