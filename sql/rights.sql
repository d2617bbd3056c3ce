--
-- Rights: who may do what
--
CREATE ROLE regress_rights_ann;
CREATE ROLE regress_rights_bob;
CREATE ROLE regress_rights_team;
CREATE ROLE regress_rights_all;
CREATE SCHEMA rights_own;
GRANT ALL ON SCHEMA rights_own TO PUBLIC;
-- tells what a statement gives or fails with, in one line
CREATE FUNCTION rights_own.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN format('done (%s)', n);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
-- what a role gets, statement by statement
CREATE FUNCTION rights_own.outcomes(VARIADIC statements text[]) RETURNS SETOF text LANGUAGE sql AS
	'SELECT rights_own.outcome(s) FROM unnest(statements) s';
SELECT count(es_append('rightsa-' || n, 'Made', jsonb_build_object('n', n), jsonb_build_object('tags', jsonb_build_array('rights:' || n % 5)))) FROM generate_series(1, 20) n;
SELECT count(es_append('rightsb-' || n, 'Secret', jsonb_build_object('n', n), jsonb_build_object('tags', jsonb_build_array('rights:' || n % 5)))) FROM generate_series(1, 20) n;
SELECT min(position) - 1 AS start FROM es_read_category('rightsa') \gset

-- nobody has anything but by a grant
SELECT count(*) FROM es_grants WHERE role ~ 'regress_rights';
SET ROLE regress_rights_ann;
SELECT es_append('rightsa-1', 'X');
SELECT es_read_category('rightsa');
SELECT es_read_all();
SELECT es_settle();
SELECT * FROM rights_own.outcomes(
	$$SELECT es_append('rightsa-1', 'X')$$, $$SELECT es_append_batch('rightsa-1', '[]')$$, $$SELECT es_read('rightsa-1')$$,
	$$SELECT es_read_all()$$, $$SELECT es_stream_version('rightsa-1')$$, $$SELECT es_settled_position()$$, $$SELECT 1 FROM es_events$$,
	$$SELECT es_grant('regress_rights_ann', 'read')$$, $$SELECT es_revoke('regress_rights_ann', 'read')$$);
RESET ROLE;

-- ---- what can be granted ----
SELECT * FROM rights_own.outcomes(
	$$SELECT es_grant('regress_rights_ann', 'write')$$, $$SELECT es_grant('regress_rights_ann', 'read', 'a-b')$$,
	$$SELECT es_grant('regress_rights_ann', 'read', '')$$, $$SELECT es_grant('regress_rights_ann', 'READ')$$,
	$$SELECT es_grant(NULL, 'read')$$, $$SELECT es_grant('regress_rights_ann', NULL)$$, $$SELECT es_grant('regress_rights_ann', 'read', NULL)$$,
	$$SELECT es_grant('regress_rights_nobody', 'read')$$, $$SELECT es_grant(0, 'read')$$, $$SELECT es_grant('-', 'read')$$,
	$$SELECT es_grant(4294967295::oid::regrole, 'read')$$, $$SELECT es_revoke('regress_rights_ann', 'write')$$);
SELECT es_grant('regress_rights_ann', 'read', 'rightsa'), es_grant('regress_rights_ann', 'append', 'rightsa');
-- once is enough
SELECT es_grant('regress_rights_ann', 'read', 'rightsa');
SELECT es_grant('regress_rights_team', 'admin', 'rightsb'), es_grant('regress_rights_all', 'read');
SELECT * FROM es_grants WHERE role ~ 'regress_rights' ORDER BY role, privilege, category;
-- one sees what is one's own, by membership too
GRANT regress_rights_team TO regress_rights_ann;
SET ROLE regress_rights_ann;
SELECT * FROM es_grants ORDER BY role, privilege, category;
SET ROLE regress_rights_bob;
SELECT * FROM es_grants;
RESET ROLE;
REVOKE regress_rights_team FROM regress_rights_ann;

-- ---- appends ----
SET ROLE regress_rights_ann;
SELECT * FROM rights_own.outcomes(
	$$SELECT es_append('rightsa-21', 'Made')$$, $$SELECT es_append('rightsa', 'Made')$$, $$SELECT es_append('rightsab-1', 'Made')$$,
	$$SELECT es_append('rightsb-1', 'X')$$, $$SELECT es_append_batch('rightsb-1', '[]')$$, $$SELECT es_append_events('rightsb-1', '{}')$$,
	$$SELECT * FROM es_append_many('[{"stream": "rightsa-22", "type": "Made"}, {"stream": "rightsb-22", "type": "Made"}]')$$,
	$$SELECT * FROM es_append_many('[{"stream": "rightsa-22", "type": "Made"}, {"stream": "rightsb-1", "expected_version": 9}]')$$,
	$$SELECT * FROM es_append_many('[{"stream": "rightsa-22", "type": "Made"}, {"stream": "rightsa-23", "type": "Made"}]')$$,
	$$INSERT INTO es_events (stream, type) VALUES ('rightsa-24', 'Made')$$, $$INSERT INTO es_events (stream, type) VALUES ('rightsb-24', 'Made')$$,
	$$INSERT INTO es_events (stream, type) SELECT 'rights' || c || '-25', 'Made' FROM unnest('{a,a,b}'::text[]) c$$,
	$$INSERT INTO es_events (stream, type, recorded_at) VALUES ('rightsa-24', 'Made', now() + interval '1 day')$$,
	$$UPDATE es_events SET type = 'x' WHERE stream = 'rightsa-1'$$, $$DELETE FROM es_events WHERE stream = 'rightsb-1'$$,
	$$SELECT es_delete_stream('rightsa-1')$$);
COPY es_events (stream, type) FROM stdin;
rightsa-26	Made
rightsb-26	Made
\.
SELECT es_last_position() IS NOT NULL AS known;
RESET ROLE;
SELECT stream FROM es_events WHERE stream ~ '^rights[ab]-2[1-9]' ORDER BY 1;
-- one who may insert is asked, and not the one whose function has the rows written
CREATE FUNCTION rights_own.look() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN es_stream_version(''rightsa-1''); END';
SET ROLE regress_rights_ann;
INSERT INTO es_events (stream, type, data) SELECT 'rightsa-27', 'Made', to_jsonb(rights_own.look()) FROM generate_series(1, 3);
SELECT count(*) FROM es_read('rightsa-27');
RESET ROLE;

-- a condition is about what the caller may read or append to
SET ROLE regress_rights_ann;
SELECT rights_own.outcome(format($$SELECT es_append_if('[{"stream": "rightsa-28", "type": "Made"}]', %s, '{Secret}')$$, :start));
SELECT left(rights_own.outcome(format($$SELECT es_append_if('[{"stream": "rightsa-29", "type": "Made"}]', %s, tags => '{rights:4}')$$, :start)), 5) AS outcome;
RESET ROLE;
SELECT es_grant('regress_rights_bob', 'append', 'rightsa');
SET ROLE regress_rights_bob;
SELECT rights_own.outcome(format($$SELECT es_append_if('[{"stream": "rightsa-30", "type": "Made"}]', %s, '{Secret}')$$, :start));
SELECT left(rights_own.outcome(format($$SELECT es_append_if('[{"stream": "rightsa-30", "type": "Made"}]', %s, tags => '{rights:4}')$$, :start)), 5) AS outcome;
RESET ROLE;

-- ---- reads ----
CREATE FUNCTION rights_own.streams(events es_event[]) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(DISTINCT split_part(stream, '-', 1), ' ') FROM unnest(events)$$;
SET ROLE regress_rights_ann;
SELECT * FROM rights_own.outcomes(
	$$SELECT es_read('rightsa-1')$$, $$SELECT es_read('rightsb-1')$$, $$SELECT es_read('rightsb-none')$$, $$SELECT es_read('rightsb-1', 0, 0)$$,
	$$SELECT es_position('rightsb-1', 1)$$, $$SELECT es_find_event('rightsb-1', '0189ffff-0000-7000-8000-000000000001')$$, $$SELECT es_stream_version('rightsb-1')$$,
	$$SELECT es_read_category('rightsb')$$, $$SELECT es_read_category('rightsnone')$$, $$SELECT es_read_all(categories => '{rightsa,rightsb}')$$,
	$$SELECT es_read_all(stream_prefix => 'rightsb-')$$, $$SELECT es_read_all(categories => '{}')$$,
	$$SELECT es_replay('rightsb-1', 'count')$$, $$SELECT es_replay_steps('rightsb-1', 'count')$$, $$SELECT es_replay_category('rightsb', 'count')$$,
	$$SELECT es_replay_as('rightsb-1', NULL::jsonb, 'count')$$, $$SELECT es_replay('rightsa-1', 'count')$$, $$SELECT es_snapshot('rightsa-1', 'count')$$,
	$$SELECT es_settle()$$);
SELECT rights_own.streams(ARRAY(SELECT es_read_all(:start, NULL))) AS "all", rights_own.streams(ARRAY(SELECT es_read_all(:start, NULL, backwards => true))) AS backwards,
	rights_own.streams(ARRAY(SELECT es_read_all(:start, NULL, stream_prefix => 'rights'))) AS prefix,
	rights_own.streams(ARRAY(SELECT es_read_all(:start, NULL, to_position => :start + 30))) AS upto,
	rights_own.streams(ARRAY(SELECT es_read_all(:start, NULL, types => '{Made,Secret}'))) AS typed,
	rights_own.streams(ARRAY(SELECT es_read_tagged('{rights:1}', NULL, :start, NULL))) AS tagged,
	rights_own.streams(ARRAY(SELECT es_read_query('[{"types": ["Secret"]}, {"tags": ["rights:2"]}]', :start, NULL))) AS query,
	rights_own.streams(ARRAY(SELECT es_read_query(NULL, :start, NULL, true))) AS everything;
-- a limit counts what is given, and the last event is the last that may be read
SELECT stream FROM es_read_all(:start + 10, 15) OFFSET 9;
SELECT stream, position - :start AS position FROM es_read_query('[{"tags": ["rights:4"], "last": true}]');
RESET ROLE;
SELECT stream FROM es_read_query('[{"tags": ["rights:4"], "last": true}]');
SET ROLE regress_rights_bob;
-- 'append' reads nothing
SELECT * FROM rights_own.outcomes($$SELECT es_read('rightsa-1')$$, $$SELECT es_read_all()$$, $$SELECT es_read_all(categories => '{}')$$, $$SELECT es_read_tagged('{a}')$$,
	$$SELECT es_read_query()$$, $$SELECT es_settled_position()$$, $$SELECT es_wait(0, '0')$$, $$CALL es_wait_for(0, '0')$$);
RESET ROLE;

-- ---- views ----
SET ROLE regress_rights_ann;
SELECT category, count(*), max(version) FROM es_streams WHERE stream LIKE 'rights%' GROUP BY 1;
SELECT split_part(stream, '-', 1) AS category, count(*) FROM es_events WHERE stream LIKE 'rights%' GROUP BY 1;
SELECT count(*) FROM es_events WHERE stream = 'rightsb-1';
SELECT count(*) FROM es_segments;
BEGIN;
SELECT es_append('rightsa-31', 'Made');
SELECT state FROM es_in_flight WHERE pid = pg_backend_pid();
ROLLBACK;
SELECT count(*) FROM es_snapshots WHERE stream LIKE 'rightsb%';
-- no function, cast or operator of anybody's sees more
CREATE FUNCTION rights_own.spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN IF $1 ~ ''rightsb'' OR $1 = ''Secret'' THEN RAISE ''seen %'', $1; END IF; RETURN true; END';
CREATE FUNCTION rights_own.spy_event(es_event) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RETURN rights_own.spy($1.stream); END';
CREATE FUNCTION rights_own.spy_eq(text, text) RETURNS boolean LANGUAGE sql COST 0.0001 AS 'SELECT rights_own.spy($1)';
CREATE OPERATOR rights_own.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = rights_own.spy_eq);
SELECT count(*) > 0 AS found FROM es_events WHERE rights_own.spy(stream) AND stream LIKE 'rights%';
SELECT count(*) > 0 AS found FROM es_events e WHERE rights_own.spy_event(e) AND stream LIKE 'rights%';
SELECT count(*) > 0 AS found FROM es_events WHERE type OPERATOR(rights_own.===) 'x' AND stream LIKE 'rights%';
SELECT count(*) > 0 AS found FROM es_streams WHERE rights_own.spy(stream) AND stream LIKE 'rights%';
SELECT count(*) AS found FROM es_events WHERE data::text::int > 0 AND type = 'Secret';
SELECT count(*) AS found FROM es_events WHERE 1 / ((data ->> 'n')::int - 7) > 5 AND type = 'Secret';
SELECT count(*) > 0 AS found FROM es_events e LEFT JOIN (VALUES ('rightsb-1')) v (stream) ON rights_own.spy(e.stream) WHERE e.stream LIKE 'rights%';
SELECT count(*) AS found FROM (SELECT e::es_event AS event FROM es_events e) s WHERE (s.event).type = 'Secret';
-- nor does a plan tell of them, or a lock reach them
SELECT * FROM rights_own.outcomes($$EXPLAIN SELECT * FROM es_events WHERE type = 'Secret'$$, $$EXPLAIN ANALYZE SELECT * FROM es_events WHERE type = 'Secret'$$,
	$$EXPLAIN (ANALYZE, TIMING off, SUMMARY off) SELECT * FROM es_streams$$, $$EXPLAIN SELECT 1$$, $$SELECT * FROM es_events WHERE stream = 'rightsa-1' FOR SHARE$$);
SET debug_print_plan = on;
SELECT * FROM rights_own.outcomes($$SELECT count(*) FROM es_events WHERE type = 'Secret'$$, $$SELECT count(*) FROM es_streams$$);
RESET debug_print_plan;
RESET ROLE;
-- LOCK TABLE would lock as the view's owner what is under it, so nobody may but read; UPDATE and DELETE are VE002 without a privilege
SET ROLE regress_rights_bob;
SELECT * FROM rights_own.outcomes($$LOCK TABLE es_events IN ROW EXCLUSIVE MODE$$, $$LOCK TABLE es_events IN ACCESS EXCLUSIVE MODE$$,
	$$LOCK TABLE es_streams IN ACCESS EXCLUSIVE MODE$$, $$CREATE VIEW rights_own.all_events AS SELECT * FROM es_events$$,
	$$LOCK TABLE rights_own.all_events IN ACCESS EXCLUSIVE MODE$$, $$DELETE FROM rights_own.all_events$$,
	$$DROP VIEW rights_own.all_events$$, $$UPDATE es_events SET type = 'x'$$,
	$$WITH gone AS (DELETE FROM es_events WHERE stream = 'rightsb-1' RETURNING 1) SELECT * FROM gone$$, $$TRUNCATE es_events$$);
RESET ROLE;
-- what views call of themselves
SELECT * FROM rights_own.outcomes($$SELECT eventstore.require_read(NULL, NULL)$$, $$SELECT eventstore.require_read('regress_rights_no', NULL)$$,
	$$SELECT eventstore.require_read('regress_rights_bob', NULL)$$);
-- a view and a function of a user's show what their user may see, and one that is SECURITY DEFINER what its owner may
CREATE VIEW rights_own.events AS SELECT stream, type FROM es_events WHERE stream LIKE 'rights%';
CREATE FUNCTION rights_own.counted() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM rights_own.events';
CREATE FUNCTION rights_own.counted_by_owner() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT count(*) FROM rights_own.events';
GRANT SELECT ON rights_own.events TO PUBLIC;
SELECT rights_own.counted() > 30 AS all;
SET ROLE regress_rights_ann;
SELECT count(*) FILTER (WHERE type = 'Secret') AS secret, count(*) > 0 AS own FROM rights_own.events;
SELECT rights_own.counted() BETWEEN 20 AND 30 AS own, rights_own.counted_by_owner() > 40 AS by_owner;
-- RETURNING shows one's own row
INSERT INTO es_events (stream, type) VALUES ('rightsa-40', 'Made') RETURNING stream, version, (SELECT count(*) FROM es_events WHERE type = 'Secret') AS secret;
RESET ROLE;
SET ROLE regress_rights_bob;
SELECT count(*) FROM es_events;
INSERT INTO es_events (stream, type) VALUES ('rightsa-41', 'Made') RETURNING stream, version;
RESET ROLE;

-- who may read everything has the plans of a plain view
SET ROLE regress_rights_all;
SET enable_bitmapscan = off;
CREATE FUNCTION rights_own.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		IF line !~ 'events_[1-9]|Append' THEN
			RETURN NEXT regexp_replace(line, '_\d+$', '_n');
		END IF;
	END LOOP;
END $$;
SELECT line ~ 'may_read|Subquery Scan' AS asks, count(*) FROM rights_own.plan($$SELECT * FROM (VALUES ('rightsa-1'), ('rightsb-2')) v (s) JOIN es_events e ON e.stream = v.s$$) line GROUP BY 1;
RESET enable_bitmapscan;
SELECT count(DISTINCT split_part(stream, '-', 1)) FROM es_events WHERE stream LIKE 'rights_-%';
-- a plan that is kept is its role's only
PREPARE secret AS SELECT count(*) FROM es_events WHERE type = 'Secret';
SET plan_cache_mode = force_generic_plan;
EXECUTE secret;
SET ROLE regress_rights_ann;
EXECUTE secret;
SET ROLE regress_rights_all;
EXECUTE secret;
RESET ROLE;
EXECUTE secret;
-- and goes with the right
SET ROLE regress_rights_all;
EXECUTE secret;
RESET ROLE;
SELECT es_revoke('regress_rights_all', 'read'), es_grant('regress_rights_all', 'read', 'rightsa');
SET ROLE regress_rights_all;
EXECUTE secret;
RESET ROLE;
SELECT es_grant('regress_rights_team', 'read');
GRANT regress_rights_team TO regress_rights_all;
SET ROLE regress_rights_all;
EXECUTE secret;
RESET ROLE;
REVOKE regress_rights_team FROM regress_rights_all;
SET ROLE regress_rights_all;
EXECUTE secret;
RESET ROLE;
DEALLOCATE secret;
RESET plan_cache_mode;
-- parallel workers ask, too
SET ROLE regress_rights_ann;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
SELECT count(*) FILTER (WHERE type = 'Secret') AS secret, count(*) > 0 AS own FROM es_events WHERE stream LIKE 'rights%';
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET parallel_leader_participation;
RESET ROLE;

-- what counts for roles counts within a transaction, and is undone with it
BEGIN;
SELECT es_grant('regress_rights_bob', 'read', 'rightsb');
SET LOCAL ROLE regress_rights_bob;
SELECT count(*) FROM es_read('rightsb-1');
RESET ROLE;
SAVEPOINT s;
SELECT es_revoke('regress_rights_bob', 'read', 'rightsb');
SET LOCAL ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_read('rightsb-1')$$);
ROLLBACK TO s;
SELECT rights_own.outcome($$SELECT es_read('rightsb-1')$$);
SET LOCAL ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_read('rightsb-1')$$);
ROLLBACK;
SET ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_read('rightsb-1')$$);
RESET ROLE;

-- ---- roles ----
-- a right is the role's, whatever it is called
ALTER ROLE regress_rights_ann RENAME TO regress_rights_anna;
CREATE ROLE regress_rights_ann;
SET ROLE regress_rights_anna;
SELECT rights_own.outcome($$SELECT es_read('rightsa-1')$$);
SELECT * FROM es_grants ORDER BY 1, 2;
SET ROLE regress_rights_ann;
SELECT rights_own.outcome($$SELECT es_read('rightsa-1')$$);
RESET ROLE;
-- and the table has its name as soon as something is granted
SELECT DISTINCT role FROM eventstore.grants WHERE role ~ '_ann';
SELECT es_grant('regress_rights_bob', 'append', 'rightsa');
SELECT DISTINCT role FROM eventstore.grants WHERE role ~ '_ann';
-- one that was dropped had it; one that is made anew has not
DROP OWNED BY regress_rights_bob;
DROP ROLE regress_rights_bob;
CREATE ROLE regress_rights_bob;
SET ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_append('rightsa-1', 'X')$$);
RESET ROLE;
SELECT * FROM es_grants WHERE role ~ 'bob';
-- a row of another cluster is the role's of that name
INSERT INTO eventstore.grants VALUES (gen_random_uuid(), 0, 10, 'regress_rights_bob', 'read', 'rightsb');
SET ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_read('rightsb-1')$$), rights_own.outcome($$SELECT es_read('rightsa-1')$$);
RESET ROLE;
SELECT es_revoke('regress_rights_bob', 'read', 'rightsb'), es_revoke('regress_rights_bob', 'read', 'rightsb');
SET ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_read('rightsb-1')$$);
RESET ROLE;
-- '*' is a grant by itself
SELECT es_grant('regress_rights_bob', 'read'), es_grant('regress_rights_bob', 'read', 'rightsb'), es_revoke('regress_rights_bob', 'read');
SELECT privilege, category FROM es_grants WHERE role = 'regress_rights_bob';
-- an admin of all may give rights; of one category may not
SELECT es_grant('regress_rights_bob', 'admin', 'rightsb');
SET ROLE regress_rights_bob;
SELECT rights_own.outcome($$SELECT es_grant('regress_rights_bob', 'read', 'rightsb')$$);
RESET ROLE;
SELECT es_grant('regress_rights_bob', 'admin');
SET ROLE regress_rights_bob;
SELECT es_grant('regress_rights_ann', 'read', 'rightsb');
SELECT count(*) > 1 AS all FROM es_grants WHERE role ~ 'regress_rights';
SELECT rights_own.outcome($$SELECT es_read('rightsa-1')$$);
SELECT rights_own.outcome($$INSERT INTO eventstore.grants VALUES (gen_random_uuid(), 0, 0, 'x', 'read', '*')$$);
RESET ROLE;
-- the table is guarded as the others are
SELECT * FROM rights_own.outcomes($$DELETE FROM eventstore.grants$$, $$UPDATE eventstore.grants SET category = '*'$$, $$TRUNCATE eventstore.grants$$);

DROP SCHEMA rights_own CASCADE;
DROP OWNED BY regress_rights_anna, regress_rights_ann, regress_rights_bob, regress_rights_team, regress_rights_all;
DROP ROLE regress_rights_anna, regress_rights_ann, regress_rights_bob, regress_rights_team, regress_rights_all;
-- their grants go with the next
SELECT es_grant('pg_monitor', 'read'), es_revoke('pg_monitor', 'read');
SELECT count(*) FROM eventstore.grants WHERE role ~ 'regress_rights';
