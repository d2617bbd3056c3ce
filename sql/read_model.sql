--
-- Read models for SQL: keys by event type, views, indexes.
--
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	context text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT;
	RETURN SQLSTATE || ' ' || SQLERRM || COALESCE(' (' || NULLIF(detail, '') || ')', '') || COALESCE(' ' || substring(context FROM '^key of event[^\n]*'), '');
END
$$;
-- how a query finds rows, without the numbers that are other ones each time
CREATE FUNCTION pg_temp.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'projection_states' OR line ~ 'Sort' THEN
			RETURN NEXT regexp_replace(trim(line, ' ->'), 'projection_states_\d+', 'projection_states_N', 'g');
		END IF;
	END LOOP;
END
$$;

-- a key for each type of event: paths, null for those that do not count, '*' for the others
SELECT es_create_projection('rm_customers', 'merge', 'inline', 'rm',
	'{"Ordered": "$.data.customer", "Moved": "$.stream", "Looked": null, "*": "$.data.other"}');
SELECT es_create_projection('rm_orders', 'count', 'async', 'rm', ' {"Ordered": "$.data.customer", "Moved": "$.data.customer"}');
SELECT es_append('rm-1', 'Ordered', '{"customer": "ann", "total": 5}'), es_append('rm-1', 'Looked', '{"customer": "ann"}'),
	es_append('rm-1', 'Moved', '{"customer": "ann", "to": "Ulm"}'), es_append('rm-2', 'Else', '{"other": "bob"}'), es_append('rm-2', 'Else', '{"customer": "ann"}');
SELECT es_run_projection('rm_orders') IS NOT NULL AS run;
SELECT key, version, state FROM es_projection('rm_customers');
SELECT key, version, state FROM es_projection('rm_orders');
SELECT key FROM eventstore.projections WHERE name = 'rm_orders';
-- a rebuild goes by it, too
SELECT es_rebuild_projection('rm_orders'), es_rebuild_projection('rm_customers');
SELECT es_run_projection('rm_orders') IS NOT NULL, es_run_projection('rm_customers') IS NOT NULL;
SELECT key, version, state FROM es_projection('rm_customers');
SELECT key, version, state FROM es_projection('rm_orders');
-- what is none
SELECT key, pg_temp.outcome(format('SELECT es_create_projection(%L, %L, key => %L)', 'rm_bad', 'merge', key)) FROM unnest(ARRAY['{', '{}', '[]', '{"A": 1}', '{"A": true}',
	'{"A": ["$.stream"]}', '{"A": {"b": "$.stream"}}', '{"A": "stream"}', '{"A": "$.data["}', '{"A": "$.state.x"}', '{"A": "$.stream", "B": null, "A": "$.type"}',
	'{"*": "$.stream", "*": null}', '{"": "$.stream"}', E'{"a\\tb": "$.stream"}', '{"A": null, "*": null}', '{"A": "$.stream"}, {}']) key;
-- many types
SELECT es_create_projection('rm_many', 'count', 'inline', 'rmmany', (SELECT jsonb_object_agg('T' || n, CASE WHEN n % 2 = 0 THEN '$.data.k' END) FROM generate_series(1, 5000) n)::text);
SELECT count(es_append('rmmany-1', 'T' || n, jsonb_build_object('k', n % 3))) FROM generate_series(1, 12) n;
SELECT key, version FROM es_projection('rm_many');
SELECT es_drop_projection('rm_many');

-- a view, the caller's, in the caller's schema
CREATE SCHEMA rm;
SET search_path = rm, public;
SELECT es_projection_view('rm_customers', 'customers');
SELECT * FROM (SELECT key, version, state FROM rm.customers) c ORDER BY key;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'rm.customers'::regclass AND attnum > 0 ORDER BY attnum;
SELECT pg_temp.outcome(format('SELECT es_projection_view(%s)', args)) FROM unnest(ARRAY[$$'rm_customers', 'customers'$$, $$'unknown', 'x'$$, $$'rm_customers', ''$$,
	$$'rm_customers', NULL$$, $$NULL, 'x'$$]) args;
CREATE FUNCTION rm.ignore(event es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_create_handler_projection('rm_handler', 'rm.ignore(es_event)');
SELECT pg_temp.outcome(format('SELECT %s', call)) FROM unnest(ARRAY[$$es_projection_view('rm_handler', 'x')$$, $$es_index_projection('rm_handler', '(key)')$$]) call;
SELECT es_drop_projection('rm_handler');
-- what is appended is in it, and what is rolled back is not
BEGIN;
SELECT es_append('rm-3', 'Ordered', '{"customer": "cyd", "total": 1}');
SELECT key, version FROM customers WHERE key = 'cyd';
ROLLBACK;
SELECT count(*) FROM customers WHERE key = 'cyd';

-- queries go by the key, and by indexes on states
SELECT count(es_append('rm-' || n, 'Ordered', jsonb_build_object('customer', 'c' || n, 'status', 's' || n % 500, 'n', n))) FROM generate_series(1, 3000) n;
SELECT es_index_projection('rm_customers', $$((state ->> 'status'))$$) ~ '^projection_states_\d+_idx$' AS named;
DO $$ BEGIN EXECUTE format('ANALYZE eventstore.projection_states_%s', (SELECT projection_id FROM eventstore.projections WHERE name = 'rm_customers')); END $$;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT pg_temp.plan($$SELECT * FROM customers WHERE key = 'c7'$$);
SELECT pg_temp.plan($$SELECT * FROM customers WHERE state ->> 'status' = 's7'$$);
SELECT pg_temp.plan($$SELECT * FROM customers c JOIN (VALUES ('s7'), ('s8')) v(s) ON c.state ->> 'status' = v.s$$);
SELECT count(*), sum((state ->> 'n')::int) FROM customers WHERE state ->> 'status' = 's7';
-- they go on with the states of a rebuild
SELECT es_rebuild_projection('rm_customers');
SELECT es_run_projection('rm_customers') IS NOT NULL;
SELECT pg_temp.plan($$SELECT * FROM customers WHERE state ->> 'status' = 's7'$$);
SELECT count(*), sum((state ->> 'n')::int) FROM customers WHERE state ->> 'status' = 's7';
SELECT es_append('rm-7', 'Ordered', '{"customer": "c7", "status": "s8"}');
SELECT count(*) FROM customers WHERE state ->> 'status' = 's7';
SELECT count(*) FROM customers WHERE state ->> 'status' = 's8';
RESET enable_seqscan;
RESET enable_bitmapscan;
-- an index on the parent is one of each table there is
CREATE INDEX rm_everywhere ON eventstore.projection_states ((state ->> 'n'));
SELECT count(*) FILTER (WHERE pg_get_indexdef(indexrelid) ~ '''n''') = (SELECT count(*) FROM pg_inherits WHERE inhparent = 'eventstore.projection_states'::regclass) AS each
	FROM pg_index WHERE indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'eventstore.projection_states'::regclass);
SELECT to_regclass('eventstore.rm_everywhere');

-- an index for somebody else uses only what the server brings
CREATE FUNCTION rm.mine(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 ->> ''x''';
CREATE DOMAIN rm.short AS text CHECK (rm.mine(to_jsonb(VALUE)) IS NULL);
CREATE TYPE rm.pair AS (one rm.short, other rm.short);
SELECT definition, pg_temp.outcome(format('SELECT es_index_projection(%L, %L)', 'rm_customers', definition)) FROM unnest(ARRAY['(rm.mine(state))', '(mine(state))',
	'(key) WHERE rm.mine(state) IS NULL', $$(((state ->> 'x')::rm.short))$$, $$(key) WHERE '{a}'::rm.short[] IS NOT NULL$$, $$(((state ->> 'x')::rm.pair))$$,
	$$((NULL::rm.pair IS NULL))$$, '((CASE version WHEN 1 THEN key END))', '(key) TABLESPACE pg_default', '(key); SELECT 1', '', '(nothing)', '(key']) definition;
SELECT es_index_projection('rm_customers', 'USING gin (state jsonb_path_ops) WHERE version > 1') AS index \gset
SELECT es_drop_projection_index('rm_customers', :'index');
SELECT pg_temp.outcome(format('SELECT es_drop_projection_index(%L, %L)', 'rm_customers', name)) ~ '^VE004' FROM unnest(ARRAY[:'index', 'streams_by_name', 'pg_class']) name;

-- one who has no right on the store's tables
CREATE ROLE rm_reader;
CREATE ROLE rm_other;
GRANT USAGE, CREATE ON SCHEMA rm TO rm_reader;
GRANT USAGE ON SCHEMA rm TO rm_other;
SELECT es_grant('rm_reader', 'admin', 'rmone'), es_grant('rm_reader', 'read', 'rmone');
SELECT es_create_projection('rm_one', 'count', 'inline', 'rmone');
SELECT es_append('rmone-1', 'Ordered'), es_append('rmone-1', 'Ordered');
SET ROLE rm_reader;
SELECT es_projection_view('rm_one', 'orders');
SELECT key, state FROM orders;
SELECT es_index_projection('rm_one', $$((state ->> 'count'))$$) IS NOT NULL AS made;
SELECT pg_temp.outcome('SELECT * FROM rm.customers');
-- whose definition calls something: he himself, as it is read, and nobody else
CREATE FUNCTION rm.tells(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'called as %', current_user; END $$;
CREATE DOMAIN rm.telling AS text CHECK (rm.tells(VALUE));
SELECT pg_temp.outcome(format('SELECT es_index_projection(%L, %L)', 'rm_one', definition))
	FROM unnest(ARRAY[$$(key) WHERE '{a}'::rm.telling[] IS NOT NULL$$, $$(key) WHERE key = ANY ('{a}'::rm.telling[])$$]) definition;
GRANT SELECT ON orders TO rm_other;
SET ROLE rm_other;
SELECT key, state FROM rm.orders;
RESET ROLE;
-- no function in a query sees what the view does not show, whatever the planner does
CREATE FUNCTION rm.spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'sees %', $1; RETURN true; END $$;
SET ROLE rm_other;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM rm.orders WHERE rm.spy(key);
RESET enable_indexscan;
RESET enable_bitmapscan;
RESET ROLE;

-- a projection with a view is not dropped; what names a table of states by hand is refused
SELECT pg_temp.outcome($$SELECT es_drop_projection('rm_customers')$$);
SELECT format('%s', inhrelid::regclass) AS states FROM pg_inherits WHERE inhparent = 'eventstore.projection_states'::regclass ORDER BY inhrelid LIMIT 1 \gset
SELECT substr(pg_temp.outcome(format(statement, :'states')), 1, 5) AS outcome FROM unnest(ARRAY['DROP TABLE %s', 'DROP INDEX %s_pkey', 'TRUNCATE %s', 'UPDATE %s SET version = 0', 'DELETE FROM %s', 'ALTER TABLE %s DROP COLUMN state']) statement;
DROP VIEW customers, orders;
SELECT es_drop_projection('rm_customers'), es_drop_projection('rm_one');
-- one that is being read is emptied, and its table goes later
SELECT projection_id FROM eventstore.projections WHERE name = 'rm_orders' \gset
BEGIN;
DECLARE reads CURSOR FOR SELECT * FROM eventstore.projection_states;
FETCH reads \g /dev/null
SELECT es_drop_projection('rm_orders');
COMMIT;
SELECT to_regclass(format('eventstore.projection_states_%s', :projection_id)) IS NOT NULL AS stays, count(*) FROM eventstore.projection_states WHERE projection_id = :projection_id;
SELECT es_create_projection('rm_orders', 'count');
SELECT to_regclass(format('eventstore.projection_states_%s', :projection_id)) IS NULL AS gone;
SELECT es_drop_projection('rm_orders');
-- a rollback takes a table back
BEGIN;
SELECT es_create_projection('rm_undone', 'count');
ROLLBACK;
BEGIN;
SELECT es_create_projection('rm_undone', 'count');
SAVEPOINT s;
SELECT es_drop_projection('rm_undone');
ROLLBACK TO s;
SELECT count(*) FROM es_projection('rm_undone');
COMMIT;
SELECT es_drop_projection('rm_undone');
SET client_min_messages = warning;
DROP SCHEMA rm CASCADE;
DROP OWNED BY rm_reader, rm_other;
DROP ROLE rm_reader, rm_other;
RESET client_min_messages;
RESET search_path;
