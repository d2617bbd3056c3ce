-- The contract: what sections 0 to 3 promise by name, type, default and SQLSTATE.
-- Run by pg_prove on a database with the extensions eventstore and pgtap.
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
\set ON_ERROR_ROLLBACK 1
\set ON_ERROR_STOP true

BEGIN;
SELECT * FROM no_plan();

SELECT is((SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'eventstore'), 'public', 'the functions are in public by default');
SELECT has_schema('eventstore');

--
-- Functions: name, arguments with names, types and defaults, result, volatility, parallel safety
--
CREATE TEMP TABLE promised (name text, arguments text, result text, kind "char", reads boolean);
INSERT INTO promised VALUES
	('es_append', 'stream text, type text, data jsonb DEFAULT ''{}''::jsonb, metadata jsonb DEFAULT ''{}''::jsonb, expected_version bigint DEFAULT NULL::bigint, event_id uuid DEFAULT NULL::uuid, type_version integer DEFAULT NULL::integer', 'bigint', 'f'),
	('es_append_batch', 'stream text, events jsonb, expected_version bigint DEFAULT NULL::bigint', 'bigint', 'f'),
	('es_append_json', 'stream text, events text, expected_version bigint DEFAULT NULL::bigint', 'bigint', 'f'),
	('es_append_events', 'stream text, events es_new_event[], expected_version bigint DEFAULT NULL::bigint', 'bigint', 'f'),
	('es_last_position', '', 'bigint', 'f'),
	('es_stream_version', 'stream text', 'bigint', 'f'),
	('es_position', 'stream text, version bigint', 'bigint', 'f'),
	('es_find_event', 'stream text, event_id uuid', 'SETOF es_event', 'f'),
	('es_read', 'stream text, from_version bigint DEFAULT NULL::bigint, max_count bigint DEFAULT NULL::bigint, backwards boolean DEFAULT false', 'SETOF es_event', 'f'),
	('es_read_all', 'after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, categories text[] DEFAULT NULL::text[], types text[] DEFAULT NULL::text[], stream_prefix text DEFAULT NULL::text, to_position bigint DEFAULT NULL::bigint, backwards boolean DEFAULT false', 'SETOF es_event', 'f'),
	('es_read_category', 'category text, after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, types text[] DEFAULT NULL::text[], to_position bigint DEFAULT NULL::bigint, backwards boolean DEFAULT false', 'SETOF es_event', 'f'),
	('es_settled_position', '', 'bigint', 'f'),
	('es_settle', '', 'bigint', 'f'),
	('es_wait', 'after_position bigint, timeout interval', 'bigint', 'f'),
	('es_wait_for', 'after_position bigint, timeout interval, INOUT settled bigint DEFAULT NULL::bigint', NULL, 'p'),
	('es_set_segment_size', 'positions bigint', 'void', 'f');
SELECT is((SELECT count(*) FROM pg_proc p WHERE p.proname = name AND p.pronamespace = 'public'::regnamespace), 1::bigint, name || ' is there once')
FROM promised;
-- pg_get_function_arguments writes IN before the arguments of a procedure and quotes what it must
SELECT is(regexp_replace(replace(pg_get_function_arguments(p.oid), 'IN after_position bigint, IN ', 'after_position bigint, '), '"', '', 'g'), r.arguments, r.name || ': arguments')
FROM promised r JOIN pg_proc p ON p.proname = r.name AND p.pronamespace = 'public'::regnamespace;
SELECT is(concat_ws(' ', pg_get_function_result(p.oid), p.prokind), concat_ws(' ', r.result, r.kind), r.name || ': result and kind')
FROM promised r JOIN pg_proc p ON p.proname = r.name AND p.pronamespace = 'public'::regnamespace;
SELECT is(p.provolatile::text || p.proparallel::text, 'vu', r.name || ' is VOLATILE PARALLEL UNSAFE')
FROM promised r JOIN pg_proc p ON p.proname = r.name AND p.pronamespace = 'public'::regnamespace WHERE r.kind = 'f' AND r.name <> 'es_last_position';
-- no user-facing name but es_*, and no overloads of what is promised
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
	WHERE p.pronamespace <> 'eventstore'::regnamespace AND p.proname NOT LIKE 'es\_%'$$, 'functions of the extension outside its schema are named es_*');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore')
	WHERE c.relnamespace <> 'eventstore'::regnamespace AND (c.relname NOT LIKE 'es\_%' OR c.relkind NOT IN ('v', 'c'))$$, 'outside its schema it has views and types named es_* only');

--
-- Types and views
--
CREATE FUNCTION pg_temp.columns(relation regclass) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$$;
SELECT is(pg_temp.columns('es_event'), 'position bigint, stream text, version bigint, type text, type_version integer, data jsonb, metadata jsonb, event_id uuid, recorded_at timestamp with time zone', 'type es_event');
SELECT is(pg_temp.columns('es_new_event'), 'type text, data jsonb, metadata jsonb, event_id uuid', 'type es_new_event');
SELECT is(pg_temp.columns('es_state'), 'stream text, version bigint, position bigint, state jsonb, recorded_at timestamp with time zone', 'type es_state');
SELECT is(pg_temp.columns('es_events'), pg_temp.columns('es_event'), 'view es_events has the columns of es_event');
SELECT is(pg_temp.columns('es_streams'), 'stream text, category text, version bigint, first_version bigint, created_at timestamp with time zone, deleted boolean', 'view es_streams');
SELECT is(pg_temp.columns('es_segments'), 'segment bigint, first_position bigint, last_position bigint, events bigint, bytes bigint, from_time timestamp with time zone, to_time timestamp with time zone, state text', 'view es_segments');
SELECT has_view('public', v, 'view ' || v) FROM unnest('{es_events,es_streams,es_segments}'::name[]) v;
SELECT is((SELECT castcontext FROM pg_cast WHERE castsource = 'es_events'::regtype AND casttarget = 'es_event'::regtype), 'i', 'a row of es_events casts implicitly to es_event');
SELECT has_table('eventstore', t, 'table ' || t) FROM unnest('{streams,segments,config}'::name[]) t;
SELECT is((SELECT relkind FROM pg_class WHERE oid = 'eventstore.events'::regclass), 'p', 'eventstore.events is partitioned');
SELECT is((SELECT format('%s %s %s %s', seqincrement, seqcache, seqmin, seqcycle) FROM pg_sequence WHERE seqrelid = 'eventstore.position_seq'::regclass), '1 1 1 f', 'positions are 1-based, one at a time, and never again');

--
-- Ownership, rights, dumps
--
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace AND relkind IN ('r', 'p', 'S')
	AND relowner <> (SELECT extowner FROM pg_extension WHERE extname = 'eventstore')$$, 'tables belong to the owner of the extension');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.proname LIKE 'es\_%' AND p.pronamespace = 'public'::regnamespace
		AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)$$, 'PUBLIC has EXECUTE on all functions');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore'), aclexplode(c.relacl) a WHERE a.grantee = 0 AND c.relkind <> 'v'$$, 'PUBLIC has no right on tables and sequences');
SELECT ok(NOT EXISTS (SELECT FROM aclexplode((SELECT nspacl FROM pg_namespace WHERE nspname = 'eventstore')) a WHERE a.grantee = 0), 'PUBLIC has no right on the schema');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'S') AND c.relname NOT SIMILAR TO '(events\_[0-9]+|settled\_mark|wal\_mark|timeline\_seq)'
		AND NOT c.oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'eventstore')::oid[])$$, 'tables and sequences go into dumps');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'p')
		AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgfoid = 'eventstore.guard_rows'::regproc)$$, 'each table has the row guard, enabled always');
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind IN ('r', 'p')
		AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgfoid = 'eventstore.guard_statement'::regproc)$$, 'each table has the statement guard, enabled always');

--
-- SQLSTATEs
--
SELECT es_append('contract-1', 'A'), es_append('contract-1', 'B', event_id => '0189ffff-0000-7000-8000-000000000001');
SELECT throws_ok(statement, state, NULL, state || ': ' || statement) FROM (VALUES
	('VE001', $$SELECT es_append('contract-1', 'C', expected_version => 1)$$),
	('VE001', $$SELECT es_append('contract-1', 'C', expected_version => 3)$$),
	('VE001', $$SELECT es_append('contract-1', 'C', expected_version => 0)$$),
	('VE001', $$SELECT es_append('contract-none', 'C', expected_version => -1)$$),
	('VE001', $$SELECT es_append('contract-none', 'C', expected_version => 1)$$),
	('VE001', $$SELECT es_append_batch('contract-1', '[]', 1)$$),
	('VE001', $$SELECT es_append_json('contract-1', '[]', 1)$$),
	('VE001', $$SELECT es_append_events('contract-1', '{}', 1)$$),
	('VE001', $$INSERT INTO es_events (stream, type, data, version) VALUES ('contract-1', 'C', '{}', 2)$$),
	('VE010', $$SELECT es_append('contract-1', 'other', event_id => '0189ffff-0000-7000-8000-000000000001')$$),
	('VE010', $$SELECT es_append('contract-1', 'B', event_id => '0189ffff-0000-7000-8000-000000000001', expected_version => 2)$$),
	('VE010', $$SELECT es_append_batch('contract-1', '[{"type": "B", "event_id": "0189ffff-0000-7000-8000-000000000001"}, {"type": "C"}]')$$),
	('VE010', $$SELECT es_append_json('contract-1', '[{"type": "B", "event_id": "0189ffff-0000-7000-8000-000000000001"}, {"type": "C"}]')$$),
	('VE010', $$SELECT es_append_events('contract-1', ARRAY[('C', '{}', NULL, NULL), ('B', '{}', NULL, '0189ffff-0000-7000-8000-000000000001')]::es_new_event[], 9)$$),
	('VE010', $$SELECT es_append_many('[{"stream": "contract-none", "type": "C", "expected_version": 9}, {"stream": "contract-1", "type": "C", "event_id": "0189ffff-0000-7000-8000-000000000001"}]')$$),
	('VE010', $$SELECT es_append_if('[{"stream": "contract-1", "type": "C", "event_id": "0189ffff-0000-7000-8000-000000000001"}]', 0)$$),
	('VE010', $$INSERT INTO es_events (stream, type, data, event_id) VALUES ('contract-1', 'C', '{}', '0189ffff-0000-7000-8000-000000000001')$$),
	('VE010', $$INSERT INTO es_events (stream, type, data, version, event_id) VALUES ('contract-1', 'B', '{}', 3, '0189ffff-0000-7000-8000-000000000001')$$),
	('VE011', $$SELECT es_append_if('[]', 0)$$),
	('VE011', $$SELECT es_append_if('[{"stream": "contract-2", "type": "C"}]', 0, types => '{B}')$$),
	('VE011', $$SELECT es_append_if('[{"stream": "contract-2", "type": "C"}]', 0, query => '[{"tags": ["none"]}, {"types": ["B"], "last": true}]')$$),
	('VE004', $$SELECT es_drop_type_index('ContractUnheard')$$),
	('VE004', $$SELECT es_attach_segment('events_1000000')$$),
	('22023', $$SELECT es_attach_segment('streams')$$),
	('22004', $$SELECT es_attach_segment(NULL)$$),
	('22004', $$SELECT es_detach_segments(NULL)$$),
	('22023', $$SELECT es_append_if('[]', 0, types => '{B}', query => '[{"types": ["B"]}]')$$),
	('22023', $$SELECT es_append_if('[]', 0, query => '[]')$$),
	('22023', $$SELECT es_read_query('[]')$$),
	('22023', $$SELECT es_read_query('[{}]')$$),
	('22023', $$SELECT es_read_query('[{"types": ["A"], "tags": []}]')$$),
	('22023', $$SELECT es_read_query('[{"types": ["A"], "last": 1}]')$$),
	('22023', $$SELECT es_read_query('[{"types": ["A"], "other": ["A"]}]')$$),
	('22023', $$SELECT es_read_query('{"items": [{"types": ["A"]}], "other": 1}')$$),
	('22023', $$SELECT es_read_query('null')$$),
	('22023', $$SELECT es_read_query(max_count => -1)$$),
	('22023', $$SELECT es_read_query(to_position => -1)$$),
	('22004', $$SELECT es_read_query(after_position => NULL)$$),
	('22004', $$SELECT es_read_query(backwards => NULL)$$),
	('22004', $$SELECT es_read_all(backwards => NULL)$$),
	('22023', $$SELECT es_index_type('')$$),
	('22004', $$SELECT es_index_type(NULL)$$),
	('VE001', $$SELECT es_append_if('[{"stream": "contract-2", "type": "C", "expected_version": 1}]', 0, types => '{B}')$$),
	('22023', $$SELECT es_append('contract-1', 'C', expected_version => -2)$$),
	('22023', $$SELECT es_append('', 'C')$$),
	('22023', $$SELECT es_append(repeat('s', 513), 'C')$$),
	('22023', $$SELECT es_append('contract-1', '')$$),
	('22023', $$SELECT es_append('contract-1', repeat('t', 256))$$),
	('22023', $$SELECT es_append('contract-1', '$C')$$),
	('22023', $$SELECT es_append(E'contract\x01', 'C')$$),
	('22023', $$SELECT es_append('contract-1', E'C\x7f')$$),
	('22023', $$SELECT es_append('contract-1', 'C', '{}', '[]')$$),
	('22004', $$SELECT es_append(NULL, 'C')$$),
	('22004', $$SELECT es_append('contract-1', NULL)$$),
	('22004', $$SELECT es_append('contract-1', 'C', NULL)$$),
	('22004', $$SELECT es_append_batch('contract-1', NULL)$$),
	('22004', $$SELECT es_append_json('contract-1', NULL)$$),
	('22004', $$SELECT es_append_events('contract-1', NULL)$$),
	('22023', $$SELECT es_append_batch('contract-1', '{}')$$),
	('22023', $$SELECT es_append_batch('contract-1', '[1]')$$),
	('22023', $$SELECT es_append_batch('contract-1', '[{"data": {}}]')$$),
	('22023', $$SELECT es_append_batch('contract-1', '[{"type": "C", "x": 1}]')$$),
	('22023', $$SELECT es_append_batch('contract-1', '[{"type": "C", "event_id": "x"}]')$$),
	('22023', $$SELECT es_append_batch('contract-1', '[{"type": "C", "event_id": "0189ffff-0000-7000-8000-000000000009"}, {"type": "C", "event_id": "0189ffff-0000-7000-8000-000000000009"}]')$$),
	('22023', $$SELECT es_append_json('contract-1', '{}')$$),
	('22023', $$SELECT es_append_json('contract-1', '[1]')$$),
	('22023', $$SELECT es_append_json('contract-1', '[{"data": {}}]')$$),
	('22023', $$SELECT es_append_json('contract-1', '[{"type": "C", "x": 1}]')$$),
	('22023', $$SELECT es_append_json('contract-1', '[{"type": "C", "event_id": "x"}]')$$),
	('22023', $$SELECT es_append_json('contract-1', '[{"type": "C", "event_id": "0189ffff-0000-7000-8000-000000000009"}, {"type": "C", "event_id": "0189ffff-0000-7000-8000-000000000009"}]')$$),
	('22P02', $$SELECT es_append_json('contract-1', '[{"type": "C"}, {"type": "C"')$$),
	('22P05', $$SELECT es_append_json('contract-1', '[{"type": "C"}, {"type": "C", "data": "\u0000"}]')$$),
	('42883', $$SELECT es_append_json('contract-1', '[]'::jsonb)$$),
	('42883', $$SELECT es_append_batch('contract-1', '[]'::text)$$),
	('22023', $$INSERT INTO es_events (stream, type, data, position) VALUES ('contract-1', 'C', '{}', 3)$$),
	('22023', $$INSERT INTO es_events (stream, type, data, type_version) VALUES ('contract-1', 'C', '{}', 2)$$),
	('22023', $$INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('contract-1', 'C', '{}', '1999-01-01')$$),
	('22004', $$INSERT INTO es_events (stream, data) VALUES ('contract-1', '{}')$$),
	('22004', $$SELECT es_stream_version(NULL)$$),
	('22004', $$SELECT es_position('contract-1', NULL)$$),
	('22004', $$SELECT es_find_event('contract-1', NULL)$$),
	('22004', $$SELECT es_check_schema(NULL, '1')$$),
	('22004', $$SELECT es_check_schema('{}', NULL)$$),
	('22023', $$SELECT es_check_schema('{"minLength": -1}', '1')$$),
	('22004', $$SELECT es_compare_schemas('{}', NULL)$$),
	('22023', $$SELECT es_compare_schemas('{}', '{}', 'sideways')$$),
	('22023', $$SELECT es_compare_schemas('{}', '{"minLength": -1}', 'none')$$),
	('22004', $$SELECT es_read(NULL)$$),
	('22023', $$SELECT es_read('contract-1', 1, -1)$$),
	('22023', $$SELECT es_read_all(0, -1)$$),
	('22004', $$SELECT es_read_category(NULL)$$),
	('22023', $$SELECT es_read_category('contract', 0, -1)$$),
	('22023', $$SELECT es_wait(0, '-1s')$$),
	('22004', $$SELECT es_wait(NULL, '1s')$$),
	('22004', $$SELECT es_wait(0, NULL)$$),
	('55000', $$SELECT es_set_segment_size(1000)$$),
	('VE002', $$UPDATE es_events SET type = 'x' WHERE stream = 'contract-1'$$),
	('VE002', $$DELETE FROM es_events WHERE stream = 'contract-1'$$),
	('VE002', $$UPDATE eventstore.events SET type = 'x' WHERE stream = 'contract-1'$$),
	('VE002', $$DELETE FROM eventstore.events WHERE stream = 'contract-1'$$),
	('VE002', $$TRUNCATE eventstore.events$$),
	('VE002', $$UPDATE eventstore.streams SET name = 'x'$$),
	('VE002', $$TRUNCATE eventstore.segments$$)
	) AS bad(state, statement);
SELECT is(es_stream_version('contract-1'), 2::bigint, 'nothing of it was stored');

--
-- Calls by name, with the defaults
--
SELECT is(es_append(stream => 'contract-2', type => 'A'), 1::bigint, 'es_append with defaults');
SELECT is(es_append(stream => 'contract-2', type => 'B', data => '1', metadata => '{}', expected_version => 1, event_id => gen_random_uuid()), 2::bigint, 'es_append by name');
SELECT is(es_append_batch(stream => 'contract-2', events => '[{"type": "C"}]', expected_version => 2), 3::bigint, 'es_append_batch by name');
SELECT is(es_append_events(stream => 'contract-2', events => ARRAY[ROW('D', '{}', '{}', NULL)::es_new_event], expected_version => 3), 4::bigint, 'es_append_events by name');
SELECT is(es_append_json(stream => 'contract-3', events => '[{"type": "C"}, {"type": "D"}]', expected_version => 0), 2::bigint, 'es_append_json by name');
SELECT is((SELECT count(*) FROM es_read(stream => 'contract-2', from_version => 2, max_count => 2, backwards => true)), 2::bigint, 'es_read by name');
SELECT is((SELECT count(*) FROM es_read_all(after_position => 0, max_count => 0, categories => '{a}', types => '{A}', stream_prefix => 'a', to_position => 1)), 0::bigint, 'es_read_all by name');
SELECT is((SELECT count(*) FROM es_read_category(category => 'contract', after_position => 0, max_count => 0, types => '{A}', to_position => 1)), 0::bigint, 'es_read_category by name');
SELECT ok(es_wait(after_position => -1, timeout => '0') >= 0, 'es_wait by name');
SELECT lives_ok($$CALL es_wait_for(after_position => -1, timeout => '0', settled => NULL)$$, 'es_wait_for by name');
SELECT is((SELECT (data, metadata, type_version)::text FROM es_read('contract-2', 1, 1)), '({},{},1)', 'data and metadata default to {}, type_version to 1');
SELECT matches((SELECT event_id::text FROM es_read('contract-2', 1, 1)), '^.{14}7.{4}[89ab]', 'event_id defaults to a UUIDv7');

-- documented in place
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eventstore') WHERE obj_description(p.oid, 'pg_proc') IS NULL$$, 'each function has a comment');

SELECT * FROM finish();
ROLLBACK;
