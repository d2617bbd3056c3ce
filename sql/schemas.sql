-- Schemas: what the data of events of a version of a type must look like.

-- failure(statement): state, message, detail and hint of a statement that must fail
CREATE FUNCTION pg_temp.failure(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	detail := regexp_replace(detail, 'position \d+', 'position <n>');
END
$$;

-- the first schema describes the version that there is, stored events are left alone
SELECT es_append('schemas_a-1', 'SchemasA', '{"quantity": "many"}');
SELECT es_register_schema('SchemasA', '{"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}}}');
SELECT es_append('schemas_a-1', 'SchemasA', '{"sku": "x", "quantity": 2}'), es_append('schemas_a-1', 'SchemasOther', '7');
SELECT type, version, schema, compatibility, registered_at <= now() AS at FROM es_schemas WHERE type = 'SchemasA';
SELECT data, f.state, f.message, f.detail FROM unnest(ARRAY['{"quantity": 2}', '{"sku": "x", "quantity": 0}', '{"sku": "x", "quantity": 1.5}', '7', 'null']) data,
	pg_temp.failure(format($$SELECT es_append('schemas_a-1', 'SchemasA', %L)$$, data)) f;

-- in every way in, and nothing of the call is stored
SELECT statement, f.state, f.message, f.detail FROM unnest(ARRAY[
	$$SELECT es_append_batch('schemas_a-1', '[{"type": "SchemasA", "data": {"sku": "x"}}, {"type": "SchemasA"}]')$$,
	$$SELECT es_append_events('schemas_a-1', ARRAY[('SchemasA', '{}', NULL, NULL)]::es_new_event[])$$,
	$$SELECT es_append_many('[{"stream": "schemas_a-2", "type": "SchemasA", "data": {"sku": "x"}}, {"stream": "schemas_a-3", "type": "SchemasA"}]')$$,
	$$SELECT es_append_if('[{"stream": "schemas_a-1", "type": "SchemasA"}]', 0)$$,
	$$INSERT INTO es_events (stream, type) VALUES ('schemas_a-1', 'SchemasA')$$,
	$$INSERT INTO es_events (stream, type) VALUES ('schemas_a-1', 'SchemasA') RETURNING version$$,
	$$INSERT INTO es_events (stream, type, data) SELECT 'schemas_a-1', 'SchemasA', '{"sku": 1}'$$
	]) statement, pg_temp.failure(statement) f;
SELECT es_append_batch('schemas_a-1', '[{"type": "SchemasA", "data": {"sku": "x"}}, {"type": "SchemasA"}]');
COPY es_events (stream, type, data) FROM stdin;
schemas_a-1	SchemasA	{"sku": "x"}
schemas_a-1	SchemasA	{}
schemas_a-1	SchemasA	{"sku": "x"}
\.
SELECT es_stream_version('schemas_a-1'), es_stream_version('schemas_a-2');
-- before anything that a look at the store would tell
SELECT f.state FROM pg_temp.failure($$SELECT es_append('schemas_a-1', 'SchemasA', expected_version => 7)$$) f;
SELECT f.state FROM pg_temp.failure($$SELECT es_append('schemas_a-1', 'SchemasA', expected_version => 7, event_id => '0189aaaa-0000-7000-8000-000000000001')$$) f;

-- the next schema begins the next version; writers may go on with the one before
SELECT es_register_schema('SchemasA', '{"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer"}, "note": {"type": "string"}}}', 'none');
SELECT es_append('schemas_a-1', 'SchemasA', '{"sku": "x", "note": "y"}'), es_append('schemas_a-1', 'SchemasA', '{"sku": "x", "note": 7}', type_version => 1);
SELECT f.detail FROM pg_temp.failure($$SELECT es_append('schemas_a-1', 'SchemasA', '{"sku": "x", "note": 7}')$$) f;
SELECT version, type_version FROM es_read('schemas_a-1');
-- registered again it is the same version, whatever the order of its keys
SELECT es_register_schema('SchemasA', '{"required": ["sku"], "type": "object", "properties": {"quantity": {"minimum": 1, "type": "integer"}, "sku": {"type": "string"}}}', 'none');
SELECT count(*) FROM es_schemas WHERE type = 'SchemasA';

-- a retry of what is stored is one, though what is wanted now is more
SELECT es_append('schemas_b-1', 'SchemasB', '{"n": 1}', event_id => '0189bbbb-0000-7000-8000-000000000001');
SELECT es_append_batch('schemas_b-1', '[{"type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000002"}, {"type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000003"}]');
SELECT es_register_schema('SchemasB', '{"required": ["m"]}');
SELECT es_append('schemas_b-1', 'SchemasB', '{"n": 1}', event_id => '0189bbbb-0000-7000-8000-000000000001'),
	es_append('schemas_b-1', 'SchemasB', '{"n": 1}', expected_version => 0, event_id => '0189bbbb-0000-7000-8000-000000000001');
SELECT es_append_batch('schemas_b-1', '[{"type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000002"}, {"type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000003"}]');
SELECT version FROM es_append_many('[{"stream": "schemas_b-1", "type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000002"}, {"stream": "schemas_b-1", "type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000003"}]');
SELECT es_append_if('[{"stream": "schemas_b-1", "type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000002"}]', 0, '{SchemasB}') IS NOT NULL AS stored;
COPY es_events (stream, type, data, event_id) FROM stdin;
schemas_b-1	SchemasB	{"n": 1}	0189bbbb-0000-7000-8000-000000000001
schemas_b-1	SchemasB	{"m": 1}	0189bbbb-0000-7000-8000-000000000004
\.
SELECT statement, f.state, f.message, f.detail FROM unnest(ARRAY[
	-- not stored
	$$SELECT es_append('schemas_b-1', 'SchemasB', '{"n": 1}', event_id => '0189bbbb-0000-7000-8000-000000000009')$$,
	$$SELECT es_append('schemas_b-9', 'SchemasB', '{"n": 1}', event_id => '0189bbbb-0000-7000-8000-000000000001')$$,
	$$INSERT INTO es_events (stream, type, event_id) VALUES ('schemas_b-1', 'SchemasB', '0189bbbb-0000-7000-8000-000000000009')$$,
	$$SELECT es_append_if('[{"stream": "schemas_b-1", "type": "SchemasB", "event_id": "0189bbbb-0000-7000-8000-000000000009"}]', 0, '{SchemasB}')$$,
	-- stored, but otherwise
	$$SELECT es_append('schemas_b-1', 'SchemasB', '{"n": 2}', event_id => '0189bbbb-0000-7000-8000-000000000001')$$
	]) statement, pg_temp.failure(statement) f;
SELECT es_stream_version('schemas_b-1');

-- with upcasters: a schema is of the newest version, if that has none yet
SELECT es_register_upcaster_ops('SchemasC', 1, '"ignore"'), es_register_upcaster_ops('SchemasC', 2, '"ignore"');
SELECT es_register_schema('SchemasC', '{"required": ["c"]}');
SELECT es_append('schemas_c-1', 'SchemasC', '{}', type_version => 1), es_append('schemas_c-1', 'SchemasC', '{}', type_version => 2), es_append('schemas_c-1', 'SchemasC', '{"c": 1}');
SELECT f.state, f.message FROM pg_temp.failure($$SELECT es_append('schemas_c-1', 'SchemasC')$$) f;
-- the next version's upcaster and schema, in either order
SELECT es_register_upcaster_ops('SchemasC', 3, '"ignore"'), es_register_schema('SchemasC', '{"required": ["c", "d"]}', 'none');
SELECT es_register_schema('SchemasC', '{"required": ["c", "d", "e"]}', 'none'), es_register_upcaster_ops('SchemasC', 4, '"ignore"');
SELECT version, schema FROM es_schemas WHERE type = 'SchemasC' ORDER BY 1;
SELECT es_append('schemas_c-1', 'SchemasC', '{"c": 1, "d": 1, "e": 1}');
SELECT version, type_version FROM es_read('schemas_c-1');

-- compatibility with the type's last schema
SELECT es_register_schema('SchemasD', '{"type": "object", "properties": {"a": {"type": "integer"}}}');
SELECT f.* FROM pg_temp.failure($$SELECT es_register_schema('SchemasD', '{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}')$$) f;
SELECT f.* FROM pg_temp.failure($$SELECT es_register_schema('SchemasD', '{"type": "object", "properties": {"a": {"type": "number"}}}', 'forward')$$) f;
SELECT f.state FROM pg_temp.failure($$SELECT es_register_schema('SchemasD', '{"type": "object", "required": ["a"]}', 'full')$$) f;
SELECT es_register_schema('SchemasD', '{"type": "object", "properties": {"a": {"type": "number"}}}');
SELECT es_register_schema('SchemasD', '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}', 'forward');
SELECT es_register_schema('SchemasD', '{"type": "array"}', 'none');
SELECT version, compatibility FROM es_schemas WHERE type = 'SchemasD' ORDER BY 1;

-- what is no schema, no type, no word
SELECT statement, f.state, f.message FROM unnest(ARRAY[
	$$SELECT es_register_schema('SchemasE', '{"type": "text"}')$$,
	$$SELECT es_register_schema('SchemasE', '[]')$$,
	$$SELECT es_register_schema('SchemasE', '{"$ref": "https://example.com/schema"}')$$,
	$$SELECT es_register_schema('SchemasE', '{}', 'backwards')$$,
	$$SELECT es_register_schema('$SchemasE', '{}')$$,
	$$SELECT es_register_schema('', '{}')$$,
	$$SELECT es_register_schema(NULL, '{}')$$,
	$$SELECT es_register_schema('SchemasE', NULL)$$,
	$$SELECT es_register_schema('SchemasE', '{}', NULL)$$,
	$$SELECT es_drop_schema('SchemasE', 1)$$,
	$$SELECT es_drop_schema('SchemasA', 3)$$,
	$$SELECT es_drop_schema(NULL, 1)$$,
	$$SELECT es_drop_schema('SchemasA', NULL)$$
	]) statement, pg_temp.failure(statement) f;
BEGIN READ ONLY;
SELECT f.state FROM pg_temp.failure($$SELECT es_register_schema('SchemasE', '{}')$$) f;
SELECT f.state FROM pg_temp.failure($$SELECT es_drop_schema('SchemasA', 2)$$) f;
ROLLBACK;

-- dropping: the last, while no event is of its version
SELECT f.* FROM pg_temp.failure($$SELECT es_drop_schema('SchemasA', 1)$$) f;
SELECT f.* FROM pg_temp.failure($$SELECT es_drop_schema('SchemasA', 2)$$) f;
SELECT es_register_schema('SchemasA', 'false', 'none');
SELECT f.message FROM pg_temp.failure($$SELECT es_append('schemas_a-1', 'SchemasA', '{"sku": "x"}')$$) f;
SELECT es_drop_schema('SchemasA', 3);
SELECT es_append('schemas_a-1', 'SchemasA', '{"sku": "x"}');
SELECT max(type_version) FROM es_read('schemas_a-1');
-- one of a version that an upcaster leads to, too
SELECT es_register_upcaster_ops('SchemasF', 1, '"ignore"'), es_register_schema('SchemasF', '{"required": ["f"]}');
SELECT es_append('schemas_f-1', 'SchemasF', type_version => 1), es_drop_schema('SchemasF', 2), es_append('schemas_f-1', 'SchemasF');
SELECT version, type_version FROM es_read('schemas_f-1');

-- a name is none of another one's, where what came of values is kept, nor where both begin at one place, as the empty one does
SELECT es_register_schema('SchemasN', jsonb_build_object('$defs', '{"none": {"not": {"minLength": 1}}, "all": {"required": ["long"]}}'::jsonb,
	'allOf', (SELECT jsonb_agg('{"$ref": "#/$defs/all"}'::jsonb) FROM generate_series(1, 30)) ||
		'[{"properties": {"empty": {"propertyNames": {"$ref": "#/$defs/none"}}, "other": {"$ref": "#/$defs/none"}}}]'));
SELECT n, f.message FROM unnest('{"{\"\": 1}","{\"a\": 2}","{\"\": 1, \"a\": 2}","{\"\": {\"a\": 1}}","{\"\": {\"a\": 1}, \"a\": 1}"}'::text[]) n,
	pg_temp.failure(format('SELECT es_append(%L, %L, %L)', 'schemas_n-1', 'SchemasN', jsonb_build_object('long', repeat('x', 3000), 'empty', n::jsonb))) f;
SELECT data ->> 'empty' AS taken FROM es_read('schemas_n-1');

-- the tables cannot be changed by hand
SELECT f.state FROM unnest(ARRAY['UPDATE eventstore.schemas SET version = 7', 'DELETE FROM eventstore.schemas', 'TRUNCATE eventstore.schemas']) s, pg_temp.failure(s) f;

-- snapshots stay usable: schemas say nothing about states
SELECT es_register_reducer_ops('schemas_g', 'SchemasG', '{"inc": {"n": 1}}');
SELECT es_append('schemas_g-1', 'SchemasG'), es_snapshot('schemas_g-1', 'schemas_g'), es_register_schema('SchemasG', '{"type": "object"}'), es_register_schema('SchemasG', 'true');
SELECT usable FROM es_snapshots WHERE reducer = 'schemas_g';
SELECT es_drop_reducer('schemas_g');
