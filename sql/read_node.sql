-- Reads in FROM: a plan node that gives out events as they are asked for.
SET client_min_messages = warning;
SELECT es_settled_position() AS start \gset
SELECT count(es_append('read_node-' || n % 3, 'T' || n % 2, jsonb_build_object('n', n), '{"tags": ["x"]}'))
FROM generate_series(1, 3000) n;

-- What is planned as what.  Only the columns that are used are in the plan.
EXPLAIN (VERBOSE, COSTS OFF) SELECT version FROM es_read('read_node-1') e WHERE type = 'T1';
EXPLAIN (COSTS OFF) SELECT g, version FROM generate_series(1, 3) g, es_read('read_node-1', g * 10, 5);
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read_all(0, 10);
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read_category('read_node', 0, 10);
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read_query('[{"tags": ["x"]}]', 0, 10);
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read_tagged('{x}', NULL, 0, 10);
CREATE TEMP VIEW few AS SELECT version, data FROM es_read('read_node-1');
EXPLAIN (VERBOSE, COSTS OFF) SELECT version FROM few WHERE version > 3;
-- left to the server: what counts rows itself, several functions, what a row lock would have evaluated again, the list
EXPLAIN (COSTS OFF) SELECT * FROM es_read('read_node-1') WITH ORDINALITY;
EXPLAIN (COSTS OFF) SELECT * FROM ROWS FROM (es_read('read_node-1'), generate_series(1, 2));
CREATE TEMP TABLE wanted (version bigint, n int);
INSERT INTO wanted VALUES (1, 0), (5, 0), (700, 0), (5000, 0);
EXPLAIN (COSTS OFF) SELECT 1 FROM wanted, es_read('read_node-1') e WHERE e.version = wanted.version FOR UPDATE OF wanted;
EXPLAIN (COSTS OFF) UPDATE wanted SET n = (e.data ->> 'n')::int FROM es_read('read_node-1') e WHERE e.version = wanted.version;
UPDATE wanted SET n = (e.data ->> 'n')::int FROM es_read('read_node-1') e WHERE e.version = wanted.version;
SELECT * FROM wanted ORDER BY version;
EXPLAIN (COSTS OFF) SELECT (es_read('read_node-1')).version;

-- The planner knows the order, as far as the direction is a constant: no sort, and a LIMIT reads few.
EXPLAIN (COSTS OFF) SELECT version FROM es_read('read_node-1') ORDER BY version LIMIT 3;
EXPLAIN (COSTS OFF) SELECT type FROM es_read('read_node-1') ORDER BY position;
EXPLAIN (COSTS OFF) SELECT version FROM es_read('read_node-1') ORDER BY version DESC;
EXPLAIN (COSTS OFF) SELECT version FROM es_read('read_node-1', backwards => true) ORDER BY version DESC;
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read_all(0, 10) GROUP BY position;
EXPLAIN (COSTS OFF) SELECT DISTINCT position FROM es_read_tagged('{x}');
EXPLAIN (COSTS OFF) SELECT position FROM es_read_category('read_node', 0, 10) ORDER BY version;
SET enable_hashjoin = off;
SET enable_nestloop = off;
EXPLAIN (COSTS OFF) SELECT 1 FROM es_read('read_node-1') e JOIN es_read_query('[{"tags": ["x"]}]') f USING (position) ORDER BY position;
SELECT count(*), min(position) = min(e.position) AS same FROM es_read('read_node-1') e LEFT JOIN es_read_all(:start, NULL) f USING (position);
SELECT count(*) FROM es_read('read_node-1') e FULL JOIN es_read('read_node-2', 900) f USING (version);
RESET enable_hashjoin;
RESET enable_nestloop;
PREPARE either_way (boolean) AS SELECT version FROM es_read('read_node-1', backwards => $1) ORDER BY version LIMIT 2;
EXPLAIN (COSTS OFF) EXECUTE either_way(false);
EXPLAIN (COSTS OFF) EXECUTE either_way(true);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE either_way(false);
EXECUTE either_way(true);
RESET plan_cache_mode;
-- of the whole lateral join nothing is known, of each call in it that it is in order
SELECT string_agg(version::text, ',' ORDER BY g, n) FROM generate_series(1, 3) g, LATERAL (SELECT version, row_number() OVER (ORDER BY version) AS n
	FROM es_read('read_node-1', g * 10, 2)) e;

-- What EXPLAIN tells of what was done, and tells programs.
CREATE FUNCTION pg_temp.told(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, ' \(actual.*\)', '');
	END LOOP;
END $$;
SELECT pg_temp.told('SELECT version FROM es_read(''read_node-1'') WHERE type = ''T1'' AND version < 900');
SELECT pg_temp.told('SELECT data FROM es_read_all(0, 20, ''{read_node}'', ''{T1}'')');
SELECT pg_temp.told('SELECT position FROM es_read_all(0, NULL) LIMIT 5');
SELECT pg_temp.told('SELECT e FROM es_read_category(''read_node'', max_count => 20, backwards => true) e');
SELECT pg_temp.told('SELECT 1 FROM es_read_query(''[{"tags": ["x"]}]'', 0, 5)');
SELECT pg_temp.told('SELECT g, version FROM generate_series(1, 3) g, es_read(''read_node-1'', g * 10, 5)');
CREATE FUNCTION pg_temp.told_programs(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
	RETURN (SELECT jsonb_object_agg(key, value) FROM jsonb_each(plan::jsonb -> 0 -> 'Plan')
		WHERE key ~ '^(Function Call|Columns|Scan Direction|Indexes Scanned|Segments Scanned|Portions|Events Read|Rows Removed.*|Filter)$');
END $$;
SELECT jsonb_pretty(pg_temp.told_programs('SELECT version FROM es_read(''read_node-1'', 3, 2, true) WHERE type = ''T1'''));

-- The planner knows a limit that is a constant.
CREATE FUNCTION pg_temp.planned_rows(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
		RETURN substring(line FROM 'rows=\d+');
	END LOOP;
END $$;
SELECT call, pg_temp.planned_rows('SELECT * FROM ' || call) FROM unnest(ARRAY['es_read(''a-1'')', 'es_read(''a-1'', 1, 7)',
	'es_read(''a-1'', 1, 0)', 'es_read_all(0, 50)', 'es_read_all(0, 1000000)', 'es_read_all(0, NULL)',
	'es_read_all(0, (SELECT 5))', 'es_read_query(NULL, 0, 3)', 'es_read_tagged(''{x}'', NULL, 0, 4)']) call;

-- Few are read for who wants few, and all of them once for all.
CREATE FUNCTION pg_temp.portions(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF) ' || query LOOP
		IF line ~ 'Portions' THEN RETURN trim(line); END IF;
	END LOOP;
END $$;
SELECT pg_temp.portions('SELECT version FROM es_read(''read_node-1'') LIMIT 5'),
	pg_temp.portions('SELECT version FROM es_read(''read_node-1'')'),
	pg_temp.portions('SELECT position FROM es_read_all(0, NULL) LIMIT 100'),
	pg_temp.portions('SELECT position FROM es_read_all(0, 20)');

-- The same rows as those of the function in a list, in the same order, whatever is asked for.
CREATE FUNCTION pg_temp.compare(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE rows bigint; one text; other text;
BEGIN
	EXECUTE format('SELECT count(*), md5(coalesce(string_agg(e::text, '' ''), '''')) FROM %s e', call) INTO rows, one;
	EXECUTE format('SELECT md5(coalesce(string_agg(e::text, '' ''), '''')) FROM (SELECT %s e) q', call) INTO other;
	RETURN rows || CASE WHEN one = other THEN ' the same' ELSE ' different' END;
END $$;
SELECT call, pg_temp.compare(format(call, :start, :start + 2500)) FROM unnest(ARRAY[
	'es_read(''read_node-1'')', 'es_read(''read_node-1'', 31)', 'es_read(''read_node-1'', 2, 33)', 'es_read(''read_node-1'', 0, 32)',
	'es_read(''read_node-1'', NULL, NULL, true)', 'es_read(''read_node-1'', 33, NULL, true)', 'es_read(''read_node-1'', NULL, 64, true)',
	'es_read(''read_node-1'', 0, NULL, true)', 'es_read(''read_node-1'', 1001)', 'es_read(''read_node-none'')',
	'es_read_all(%1$s, NULL)', 'es_read_all(%1$s, 500)', 'es_read_all(%1$s, NULL, NULL, ''{T1}'')', 'es_read_all(%1$s, NULL, ''{read_node}'')',
	'es_read_all(%1$s, NULL, stream_prefix => ''read_node-2'')', 'es_read_all(%1$s, NULL, NULL, NULL, NULL, %2$s)',
	'es_read_all(%1$s, NULL, NULL, NULL, NULL, NULL, true)', 'es_read_all(%1$s, 700, NULL, ''{T0}'', NULL, %2$s, true)',
	'es_read_all(%1$s, NULL, (SELECT array_agg(''c'' || n) || ''{read_node}'' FROM generate_series(1, 100) n))',
	'es_read_category(''read_node'', %1$s, NULL)', 'es_read_category(''read_node'', %1$s, 50, NULL, %2$s, true)',
	'es_read_query(''[{"types": ["T1"], "tags": ["x"]}]'', %1$s, NULL)', 'es_read_query(''[{"types": ["T1"]}, {"tags": ["x"]}]'', %1$s, 600, true)',
	'es_read_query(''[{"types": ["T1"], "last": true}, {"types": ["T0"], "last": true}]'', %1$s)',
	'es_read_tagged(''{x}'', ''{T0}'', %1$s, NULL)']) call;

-- Scanned again the rows are those of the first time, though the scan itself appends.
CREATE FUNCTION pg_temp.append_one(stream text) RETURNS bigint LANGUAGE sql AS 'SELECT es_append(stream, ''Added'', ''{}'')';
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT g, count(*) FROM generate_series(1, 3) g, es_read('read_node-1') e WHERE e.version % 10 > g GROUP BY g;
SELECT g, count(*), count(pg_temp.append_one('read_node-1')) FROM generate_series(1, 3) g, es_read('read_node-1') e WHERE e.version % 100 > g + 90 GROUP BY g ORDER BY g;
SELECT g, count(*), count(pg_temp.append_one('read_node-1')) FROM generate_series(1, 3) g, es_read_all(:start, NULL) e WHERE (e.data ->> 'n')::int % 100 > g + 90 GROUP BY g ORDER BY g;
SELECT g, count(*) FROM generate_series(1, 3) g, es_read('read_node-1', NULL, 40, true) e WHERE pg_temp.append_one('read_node-1') > 0 GROUP BY g ORDER BY g;
SELECT g, (SELECT count(*) FROM es_read('read_node-2', g, g)) FROM generate_series(1, 3) g;
-- an argument that depends on the outer row through a subquery of its own
SELECT g, (SELECT string_agg(version::text, ',') FROM es_read('read_node-2', NULL, 3, 1 IN (SELECT g FROM generate_series(1, 1)))) FROM generate_series(1, 2) g;
RESET enable_material;
RESET enable_hashjoin;
RESET enable_mergejoin;

-- What the statement itself appends is not read, and reads do not disturb it.
SELECT count(pg_temp.append_one('read_node-2')) FROM es_read('read_node-2');
SELECT count(*), max(version) FROM es_read('read_node-2');
INSERT INTO es_events (stream, type, data) SELECT 'read_node-copy', type, data FROM es_read('read_node-2');
INSERT INTO es_events (stream, type, data) SELECT 'read_node-copy', type, data FROM es_read('read_node-copy');
SELECT count(*), max(version) FROM es_read('read_node-copy');
DO $$
DECLARE e es_event; n int := 0;
BEGIN
	FOR e IN SELECT * FROM es_read('read_node-copy') LOOP
		n := n + 1;
		IF n % 100 = 0 THEN
			PERFORM es_append('read_node-copy', 'Seen', jsonb_build_object('version', e.version));
			BEGIN
				PERFORM 1 / (n % 200);
			EXCEPTION WHEN division_by_zero THEN NULL;
			END;
		END IF;
	END LOOP;
	RAISE WARNING '% events', n;
END $$;
SELECT count(*), max(version) FROM es_read('read_node-copy');

-- Cursors: forwards, back and forth, and held.
BEGIN;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT version FROM es_read('read_node-0');
FETCH 2 FROM c;
FETCH PRIOR FROM c;
SELECT es_append('read_node-0', 'Added', '{}');
FETCH LAST FROM c;
FETCH ABSOLUTE 500 FROM c;
COMMIT;
FETCH NEXT FROM c;
CLOSE c;

-- What the transaction itself hides, while it reads, it gets all the same, as far as it began to read it.
SELECT count(es_append('read_node_own-' || n % 6, 'T', '{}')) FROM generate_series(1, 1200) n;
CREATE FUNCTION pg_temp.read_and_hide(stream text, backwards boolean, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE e record; n int := 0; first bigint; last bigint;
BEGIN
	FOR e IN SELECT version FROM es_read(stream, NULL, NULL, backwards) LOOP
		IF n = 0 THEN
			EXECUTE statement USING stream;
		END IF;
		n := n + 1;
		first := coalesce(first, e.version);
		last := e.version;
	END LOOP;
	RETURN format('%s events, %s to %s; then %s', n, first, last, (SELECT count(*) FROM es_read(stream)));
END $$;
SELECT pg_temp.read_and_hide('read_node_own-0', false, 'SELECT es_truncate_stream($1, 150)'),
	pg_temp.read_and_hide('read_node_own-0', false, 'SELECT es_truncate_stream($1, 160), es_append($1, ''T'', ''{}'')');
SELECT pg_temp.read_and_hide('read_node_own-1', true, 'SELECT es_truncate_stream($1, 150)'),
	pg_temp.read_and_hide('read_node_own-1', true, 'SELECT es_truncate_stream($1, 201)');
SELECT pg_temp.read_and_hide('read_node_own-2', false, 'SELECT es_delete_stream($1)'),
	pg_temp.read_and_hide('read_node_own-3', true, 'SELECT es_delete_stream($1)');
SELECT pg_temp.read_and_hide('read_node_own-4', false,
	'DO $do$ BEGIN PERFORM es_delete_stream(''read_node_own-4''); RAISE ''undone''; EXCEPTION WHEN raise_exception THEN END $do$');
BEGIN;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT version FROM es_read('read_node_own-4');
FETCH 1 FROM c;
SAVEPOINT s;
SELECT es_truncate_stream('read_node_own-4', 180);
RELEASE s;
COMMIT;
FETCH LAST FROM c;
FETCH ABSOLUTE 100 FROM c;
CLOSE c;

-- Rows, and expressions of rows.
SELECT (e).version, (e).type, (e).data, (e).recorded_at IS NULL FROM (SELECT r AS e FROM es_read('read_node-1', 3, 1) r) q;
SELECT to_jsonb(e) - 'event_id' - 'recorded_at' - 'position' FROM es_read('read_node-1', 3, 1) e;
SELECT es_create_reducer('read_node_reducer', '{}'), es_register_reducer_ops('read_node_reducer', 'T0', '{"inc": {"n": 1}}'), es_register_reducer_ops('read_node_reducer', 'T1', '{"inc": {"n": 1}}');
SELECT state FROM (SELECT es_fold('read_node_reducer', e) AS state FROM es_read('read_node-1', 1, 3) e) q;
SELECT count(*) FROM es_read('read_node-1', 1, 2) WHERE false;
SELECT e.version, f.version FROM es_read('read_node-1', 1, 2) e LEFT JOIN es_read('read_node-1', 2, 2) f USING (version);

-- Kept plans, with whatever arguments.
PREPARE page (text, bigint) AS SELECT count(*), min(version) FROM es_read($1, $2, 50);
SET plan_cache_mode = force_generic_plan;
EXECUTE page('read_node-1', 10);
EXECUTE page('read_node-2', 990);
EXECUTE page(NULL, 1);
EXECUTE page('read_node-2', NULL);
RESET plan_cache_mode;

-- Errors are those of the function.
SELECT * FROM es_read('');
SELECT * FROM es_read('a-1', 1, -1);
SELECT * FROM es_read_all(-1);
SELECT * FROM es_read_all(0, 1, '{a-1}');
SELECT * FROM es_read_category(NULL);
SELECT * FROM es_read_query('{"items": 1}');
SELECT * FROM es_read_tagged(NULL);
CREATE ROLE regress_read_node;
GRANT USAGE ON SCHEMA public TO regress_read_node;
SET ROLE regress_read_node;
SELECT count(*) FROM es_read('read_node-1');
SELECT count(*) FROM es_read_all();
RESET ROLE;
SELECT es_grant('regress_read_node', 'read', 'read_node');
BEGIN;
REVOKE EXECUTE ON FUNCTION es_read FROM PUBLIC;
SET LOCAL ROLE regress_read_node;
SELECT count(*) FROM es_read('read_node-1');
ROLLBACK;
SET ROLE regress_read_node;
SELECT count(*) FROM es_read('read_node-0');
RESET ROLE;
-- of others' categories it is not told either how many events there are
SELECT es_grant('regress_read_node', 'read', 'read_node_none');
SELECT count(es_append('read_node_other-1', 'T1', '{}')) FROM generate_series(1, 5);
SET ROLE regress_read_node;
SELECT told -> 'Events Read' AS read, told -> 'Rows Removed by Filter' AS by_filter, told -> 'Rows Removed by Arguments' AS by_arguments
FROM pg_temp.told_programs('SELECT FROM es_read_all(0, NULL, types => ''{T1}'') WHERE stream ~ ''other''') told;
RESET ROLE;
SELECT es_revoke('regress_read_node', 'read', 'read_node_none');
SELECT es_revoke('regress_read_node', 'read', 'read_node');
REVOKE USAGE ON SCHEMA public FROM regress_read_node;
DROP ROLE regress_read_node;

-- A function with settings of its own is the server's.
BEGIN;
ALTER FUNCTION es_read SET work_mem = '1MB';
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read('read_node-1');
ROLLBACK;
EXPLAIN (COSTS OFF) SELECT count(*) FROM es_read('read_node-1');

-- The newest form of events, where only their version is asked for.
SELECT es_register_upcaster_ops('T1', 1, '{"set": {"upcast": true}}');
SET eventstore.upcast = on;
SELECT type_version, count(*) FROM es_read('read_node-1') WHERE version <= 40 GROUP BY 1 ORDER BY 1;
SELECT version, data ->> 'upcast' FROM es_read('read_node-1', 1, 3);
RESET eventstore.upcast;
DROP VIEW few;
SELECT es_drop_upcaster('T1', 1);
