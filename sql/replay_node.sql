-- es_replay_category in FROM: a plan node that folds streams as their states are asked for.
SET client_min_messages = warning;
SELECT count(es_append('replay_node-' || n % 500, 'T' || n % 2, jsonb_build_object('n', n))) FROM generate_series(1, 2500) n;
SELECT es_register_reducer_ops('replay_node', 'T0', '{"inc": {"n": 1}}'), es_register_reducer_ops('replay_node', 'T1', '{"max": {"last": "$.data.n"}}');

-- What is planned as what, and what it tells.
CREATE FUNCTION pg_temp.told(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, ' \(actual.*\)', '');
	END LOOP;
END $$;
SELECT pg_temp.told('SELECT stream FROM es_replay_category(''replay_node'') WHERE version > 2 LIMIT 3');
SELECT pg_temp.told('SELECT * FROM es_replay_category(''replay_node'', ''merge'')');
SELECT pg_temp.told('SELECT count(*) FROM es_replay_category(''replay_node_none'', ''merge'')');
CREATE TEMP VIEW sums AS SELECT stream, (state ->> 'n')::int AS n FROM es_replay_category('replay_node');
EXPLAIN (VERBOSE, COSTS OFF) SELECT sum(n) FROM sums WHERE stream <> 'replay_node-1';
SELECT sum(n) FROM sums;
-- left to the server
EXPLAIN (COSTS OFF) SELECT * FROM es_replay_category('replay_node') WITH ORDINALITY;
EXPLAIN (COSTS OFF) SELECT es_replay_category('replay_node');
-- a type and a function of others that are called like ours
CREATE SCHEMA replay_node_other;
CREATE TYPE replay_node_other.es_state AS (stream text);
CREATE FUNCTION replay_node_other.es_replay_category(text) RETURNS SETOF replay_node_other.es_state LANGUAGE sql ROWS 5 STRICT VOLATILE AS $$ SELECT ROW($1)::replay_node_other.es_state $$;
SELECT * FROM replay_node_other.es_replay_category('other');
DROP SCHEMA replay_node_other CASCADE;

-- The same rows as those of the function in a list, whatever fits into memory, with workers or without.
CREATE FUNCTION pg_temp.compare(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE rows bigint; one text; other text;
BEGIN
	EXECUTE format('SELECT count(*), md5(coalesce(string_agg(e::text, '' '' ORDER BY stream), '''')) FROM %s e', call) INTO rows, one;
	EXECUTE format('SELECT md5(coalesce(string_agg(e::text, '' '' ORDER BY (e).stream), '''')) FROM (SELECT %s e) q', call) INTO other;
	RETURN rows || CASE WHEN one = other THEN ' the same' ELSE ' different' END;
END $$;
SET work_mem = '64kB';
SELECT call, pg_temp.compare(call) FROM unnest(ARRAY['es_replay_category(''replay_node'')', 'es_replay_category(''replay_node'', ''last'')',
	'es_replay_category(''replay_node'', ''count'', now())', 'es_replay_category(''replay_node'', ''merge'', ''2000-01-01'')']) call;
SELECT count(es_append_batch('replay_node_large-' || s, (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', jsonb_build_object(s || '.' || n, repeat('x', 20)))) FROM generate_series(1, 50) n)))
FROM generate_series(1, 1000) s;
SELECT pg_temp.compare('es_replay_category(''replay_node_large'', ''merge'')');
SET max_parallel_workers_per_gather = 0;
SELECT pg_temp.compare('es_replay_category(''replay_node_large'', ''merge'')');
RESET max_parallel_workers_per_gather;

-- No temporary file: it has all the states, a portion of them is in memory.
CREATE FUNCTION pg_temp.written(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
	RETURN plan -> 0 -> 'Plan' ->> 'Temp Written Blocks';
END $$;
SET work_mem = '256kB';
SET max_parallel_workers_per_gather = 0;
SELECT pg_temp.written('SELECT state FROM es_replay_category(''replay_node_large'', ''merge'')'),
	pg_temp.written('SELECT state FROM es_replay_category(''replay_node_large'', ''merge'') WITH ORDINALITY') > 100 AS by_function;
RESET max_parallel_workers_per_gather;
-- If workers help, who begin after 20,000 events, a portion has 24 MB and what they have in hand, a stream each: there is a file a portion.
SELECT count(es_append('replay_node_wide-' || n, 'T', jsonb_build_object('n', n, 'text', repeat(md5(n::text), 12000)))) FROM generate_series(1, 250) n;
SELECT sum(es_append_batch('replay_node_wide-' || n, (SELECT jsonb_agg('{"type": "T", "data": {"n": 1}}'::jsonb) FROM generate_series(1, 250)))) FROM generate_series(1, 250) n;
SET work_mem = '2MB';
SET hash_mem_multiplier = 4;
SET max_parallel_workers_per_gather = 2;
SELECT pg_stat_force_next_flush();
SELECT temp_files AS files, temp_bytes AS bytes FROM pg_stat_database WHERE datname = current_database() \gset
SELECT pg_temp.written('SELECT state FROM es_replay_category(''replay_node_wide'', ''merge'')') AS in_parallel_mode;
SELECT pg_temp.written('SELECT state FROM es_replay_category(''replay_node_wide'', ''merge'') WHERE random() >= 0') > 0 AS to_files;
SELECT pg_stat_force_next_flush();
SELECT temp_files - :files > 1 AS files, (temp_bytes - :bytes) / (temp_files - :files) < 28 * 1024 * 1024 AS small
FROM pg_stat_database WHERE datname = current_database();
-- More memory, larger portions, none in a file.
SET hash_mem_multiplier = 80;
SELECT pg_temp.written('SELECT state FROM es_replay_category(''replay_node_wide'', ''merge'')');
RESET work_mem;
RESET hash_mem_multiplier;
RESET max_parallel_workers_per_gather;

-- A handler may have commands of its own there, though the statement has written between two portions: large values, rows by a trigger, events.
CREATE FUNCTION replay_node_asks(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
BEGIN
	PERFORM FROM pg_class WHERE oid = 0;
	RETURN state || data;
END $$;
SELECT es_register_reducer('replay_node_asks', '*', 'replay_node_asks(jsonb, jsonb)');
CREATE TEMP TABLE replay_node_states (stream text, state jsonb);
ALTER TABLE replay_node_states ALTER state SET STORAGE EXTERNAL;
INSERT INTO replay_node_states SELECT stream, state FROM es_replay_category('replay_node_wide', 'replay_node_asks');
INSERT INTO es_events (stream, type, data) SELECT 'replay_node_copy-' || version, 'T', state - 'text' FROM es_replay_category('replay_node_wide', 'replay_node_asks');
SELECT count(*) FROM replay_node_states JOIN es_replay_category('replay_node_wide', 'merge') USING (stream, state);
SELECT es_drop_reducer('replay_node_asks');
DROP FUNCTION replay_node_asks;

-- Where few are asked for few are folded, also after 20,000 events, when workers help: here they would, but none is to be had.
SELECT sum(es_append_batch('replay_node_long-' || n, (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 5000)))) FROM generate_series(1, 26) n;
SET max_parallel_workers = 0;
SET max_parallel_workers_per_gather = 2;
SELECT pg_temp.told('SELECT stream FROM es_replay_category(''replay_node_long'', ''count'') LIMIT 5');
SELECT pg_temp.told('SELECT stream FROM es_replay_category(''replay_node_long'', ''count'')');
RESET max_parallel_workers;
RESET max_parallel_workers_per_gather;

-- What the statement itself appends is not in it, nor what it appends while a cursor waits.
SELECT count(es_append(stream, 'T0', '{}')), sum(version) FROM es_replay_category('replay_node');
SELECT count(*), sum(version) FROM es_replay_category('replay_node');
BEGIN;
SELECT count(es_append('replay_node-' || n, 'T0', '{}')) FROM generate_series(0, 9) n;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT version FROM es_replay_category('replay_node', 'count');
FETCH 1 FROM c;
SELECT count(es_append('replay_node-' || n % 500, 'T0', '{}')) FROM generate_series(1, 500) n;
SELECT es_delete_stream('replay_node-499');
FETCH 1 FROM c;
FETCH PRIOR FROM c;
COMMIT;
FETCH LAST FROM c;
MOVE BACKWARD ALL FROM c;
MOVE ALL FROM c;
CLOSE c;
DO $$
DECLARE s es_state; n int := 0; total bigint := 0;
BEGIN
	FOR s IN SELECT * FROM es_replay_category('replay_node', 'count') LOOP
		n := n + 1;
		total := total + s.version;
		BEGIN
			PERFORM es_append('replay_node-' || n % 400, 'T0', '{}');
			PERFORM 1 / (n % 2);
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
	RAISE WARNING '% streams, % events', n, total;
END $$;
SELECT count(*), sum(version) FROM es_replay_category('replay_node', 'count');

-- Scanned again, and with other arguments.
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT g, count(*), count(es_append('replay_node-1', 'T0', '{}')) FROM generate_series(1, 3) g, es_replay_category('replay_node', 'count') e WHERE e.version % 3 < g GROUP BY g ORDER BY g;
SELECT r, (SELECT count(*) FROM es_replay_category('replay_node', r) WHERE state <> '{}'), (SELECT version FROM es_replay_category('replay_node', r) LIMIT 1)
FROM unnest('{count,last}'::text[]) r;
-- an argument that depends on the outer row through a subquery of its own
SELECT g, (SELECT count(*) FROM es_replay_category('replay_node', CASE WHEN 1 IN (SELECT g FROM generate_series(1, 1)) THEN 'count' ELSE 'last' END) WHERE state ? 'count')
FROM generate_series(1, 2) g;
RESET enable_material;
RESET enable_hashjoin;
RESET enable_mergejoin;

-- Handlers that raise errors are called if nobody asks for their states, snapshots are left.
CREATE FUNCTION replay_node_refuse(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT es_register_reducer('replay_node_refuses', '*', 'replay_node_refuse(jsonb, jsonb)');
SELECT count(*) FROM es_replay_category('replay_node', 'replay_node_refuses');
SELECT es_snapshot_every('replay_node', 5);
SELECT count(*) FROM (SELECT FROM es_replay_category('replay_node') LIMIT 10) q;
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'replay_node';
SELECT count(*) FROM es_replay_category('replay_node');
SELECT count(*) > 400 AS left_by_all FROM eventstore.snapshots WHERE reducer = 'replay_node';

SELECT es_snapshot_every('replay_node', NULL);

-- Errors are those of the function.
SELECT * FROM es_replay_category(NULL);
SELECT * FROM es_replay_category('a-1');
SELECT * FROM es_replay_category('replay_node', 'replay_node_unknown');
CREATE ROLE regress_replay_node;
SET ROLE regress_replay_node;
SELECT count(*) FROM es_replay_category('replay_node');
RESET ROLE;
SELECT es_grant('regress_replay_node', 'read', 'replay_node');
BEGIN;
REVOKE EXECUTE ON FUNCTION es_replay_category FROM PUBLIC;
SET LOCAL ROLE regress_replay_node;
SELECT count(*) FROM es_replay_category('replay_node');
ROLLBACK;
SET ROLE regress_replay_node;
SELECT count(*) FROM es_replay_category('replay_node');
RESET ROLE;
SELECT es_revoke('regress_replay_node', 'read', 'replay_node');
DROP ROLE regress_replay_node;
DROP VIEW sums;
SELECT es_drop_reducer('replay_node_refuses');
DROP FUNCTION replay_node_refuse;

-- A cursor may go on in a transaction that is READ ONLY by now: then it leaves no snapshots.
SELECT es_snapshot_every('count', 1);
BEGIN;
DECLARE c CURSOR FOR SELECT version FROM es_replay_category('replay_node', 'count');
FETCH 1 FROM c;
SET TRANSACTION READ ONLY;
MOVE ALL FROM c;
SELECT count(*) FROM eventstore.snapshots JOIN eventstore.streams USING (stream_id) WHERE reducer = 'count' AND name LIKE 'replay\_node-%';
COMMIT;
SELECT es_snapshot_every('count', NULL), es_drop_snapshots('count');
-- or for another role: then none of a state that tells who has folded it
CREATE ROLE regress_replay_node;
CREATE FUNCTION replay_node_who(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN state || jsonb_build_object('folded_by', current_user = 'regress_replay_node'); END $$;
SELECT es_register_reducer('replay_node_who', '*', 'replay_node_who(jsonb, jsonb)'), es_snapshot_every('replay_node_who', 1);
BEGIN;
DECLARE c CURSOR FOR SELECT version FROM es_replay_category('replay_node', 'replay_node_who');
FETCH 1 FROM c;
SET LOCAL ROLE regress_replay_node;
MOVE ALL FROM c;
COMMIT;
SELECT count(*) FROM eventstore.snapshots WHERE reducer = 'replay_node_who';
SELECT DISTINCT state FROM es_replay_category('replay_node', 'replay_node_who');
SELECT es_drop_reducer('replay_node_who');
DROP FUNCTION replay_node_who;
DROP ROLE regress_replay_node;
