-- Declarative reducers: operations instead of functions.
-- An operation has one key. Paths are keys with dots between them; a string
-- that begins with $ is an SQL/JSON path over the event and the state before it.

SELECT es_register_reducer_ops('ops_cart', 'opened', '{"set": {"customer": "$.data.customer", "opened_at": "$.version"}}');
SELECT es_register_reducer_ops('ops_cart', 'added', '[
	{"append": {"items": {"sku": "$.data.sku", "qty": "$.data.qty"}}},
	{"inc": {"total": "$.data.qty * $.data.price", "count": 1}},
	{"max": {"dearest": "$.data.price"}},
	{"min": {"cheapest": "$.data.price"}}]');
SELECT es_register_reducer_ops('ops_cart', 'dropped', '[
	{"remove": {"items": {"sku": "$.data.sku"}}},
	{"unset": ["dearest", "no.such.thing"]}]');
SELECT es_register_reducer_ops('ops_cart', 'moved', '{"merge": {"address": "$.data"}}');
SELECT es_register_reducer_ops('ops_cart', 'viewed', '"ignore"');
SELECT event_type, handler, state_type FROM es_reducers WHERE reducer = 'ops_cart' ORDER BY event_type COLLATE "C";

SELECT es_append_batch('ops_cart-1', '[
	{"type": "opened", "data": {"customer": "ann"}},
	{"type": "added", "data": {"sku": "a", "qty": 2, "price": 1.10}},
	{"type": "added", "data": {"sku": "b", "qty": 1, "price": 90071992547409930.25}},
	{"type": "moved", "data": {"city": "Bern", "zip": 3000}},
	{"type": "viewed"},
	{"type": "moved", "data": {"zip": 3001}},
	{"type": "dropped", "data": {"sku": "a"}}]') AS version;
SELECT version, state FROM es_replay_steps('ops_cart-1');
SELECT state FROM es_replay('ops_cart-1');

-- Each case: a reducer of one operation, a state to begin with, an event's data
CREATE FUNCTION ops_try(ops jsonb, state jsonb, data jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}') RETURNS text
	LANGUAGE plpgsql AS $$
DECLARE
	n bigint := (SELECT count(*) FROM es_streams WHERE category = 'ops_try');
	result jsonb;
BEGIN
	PERFORM es_create_reducer('ops_try', state);
	PERFORM es_register_reducer_ops('ops_try', 'e', ops);
	PERFORM es_append('ops_try-' || n, 'e', data, metadata);
	SELECT r.state INTO result FROM es_replay('ops_try-' || n, 'ops_try') r;
	PERFORM es_drop_reducer('ops_try');
	RETURN coalesce(result::text, 'NULL');
EXCEPTION WHEN SQLSTATE 'VE009' THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- paths: objects are made on the way, digits index an array that is there
SELECT ops_try('{"set": {"a.b.c": 1}}', '{}');
SELECT ops_try('{"set": {"a\\.b.c\\\\d": 1}}', '{}');
SELECT ops_try('{"set": {"a.1": "x"}}', '{"a": [1, 2, 3]}');
SELECT ops_try('{"set": {"a.1": "x"}}', '{}');
SELECT ops_try('{"set": {"a.3": "x"}}', '{"a": [1, 2, 3]}');
SELECT ops_try('{"set": {"a.01": "x"}}', '{"a": [1, 2, 3]}');
SELECT ops_try('{"set": {"a.x": "x"}}', '{"a": [1, 2, 3]}');
SELECT ops_try('{"set": {"0.k": 1}}', '[{"k": 0}, 2]');
SELECT ops_try('{"set": {"a.b": 1}}', '{"a": 5}');
SELECT ops_try('{"set": {"a.b": 1}}', '{"a": null}');
SELECT ops_try('{"set": {"a": 1}}', '"text"');
SELECT ops_try('{"unset": ["a.b"]}', '{"a": 5}');
SELECT ops_try('{"set": {"a.b": 1}}', NULL);
SELECT ops_try('{"unset": ["a.b"]}', NULL);
SELECT ops_try('"ignore"', NULL);

-- values: members of the data, more than are looked up together, of data with few members and with many, in any order
CREATE FUNCTION ops_members(paths int, members int, step int) RETURNS boolean LANGUAGE sql AS $$
	SELECT ops_try((SELECT jsonb_agg(jsonb_build_object('set', jsonb_build_object('t' || i, '$.data.k' || i))) FROM generate_series(paths, 1, -1) i), '{}', data)
		= (SELECT coalesce(jsonb_object_agg('t' || i, data->('k' || i)), '{}')::text FROM generate_series(1, paths) i WHERE data ? ('k' || i))
	FROM (SELECT coalesce(jsonb_object_agg('k' || i * step, i), '{}') AS data FROM generate_series(1, members) i) d $$;
SELECT paths, bool_and(ops_members(paths, members, step)) FROM unnest(ARRAY[1, 2, 15, 16, 17, 30]) paths, unnest(ARRAY[0, 1, 2, 5, 15, 16, 17, 40]) members, unnest(ARRAY[1, 2, 3]) step GROUP BY paths ORDER BY paths;
SELECT data, ops_try('{"set": {"a": "$.data.x", "b": "$.data.y.z", "c": "$.data.none"}}', '{}', data)
FROM (VALUES ('7'::jsonb), ('[]'), ('[{"x": 1, "y": {"z": 2}}]'), ('[{"x": 1}, {"x": 2}]'), ('{"x": null, "y": [{"z": 3}]}'), ('{"y": 1}')) d (data);
-- all of an operation are taken from the state before it
SELECT ops_try('{"set": {"a": "$.state.b", "b": "$.state.a"}}', '{"a": 1, "b": {"c": [2]}}');
SELECT ops_try('[{"set": {"a": 2}}, {"set": {"b": "$.state.a"}}]', '{"a": 1}');
SELECT ops_try('{"set": {"a": "$.data.none", "b": {"x": "$.data.none", "y": 1}, "c": ["$.data.none", 2]}}', '{"a": 1}');
SELECT ops_try('{"set": {"a": "$.data.items[*].n", "b": "$.data.items.n", "c": "$.data.items[0].n"}}', '{}', '{"items": [{"n": 1}, {"n": 2}]}');
SELECT ops_try('{"set": {"a": "$$.data.x", "b": "$$", "c": "", "d": {"$.data.x": "$.data.x"}}}', '{}', '{"x": 1}');
SELECT ops_try('{"set": {"a": ["$.type", "$.version", "$.metadata.by", "$.stream starts with \"ops_try\""]}}', '{}', '{}', '{"by": "me"}');
SELECT ops_try('{"set": {"a": "$.recorded_at.type()", "b": "$.event_id.type()", "c": "$.position.type()"}}', '{}');
SELECT ops_try('{"set": {"a": "$.state.items[*] ? (@.sku == $.data.sku).qty"}}', '{"items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 2}]}', '{"sku": "b"}');
SELECT ops_try('{"set": {"a": "$.state.n.m"}}', '{"n": [{"m": 1}, {"m": 2}]}');
SELECT ops_try('[{"append": {"n": {"m": 3}}}, {"set": {"a": "$.state.n.m", "b": "$.state"}}]', '{"n": [{"m": 1}]}');
SELECT ops_try('{"set": {"a": "$.data.\"b c\".d"}}', '{}', '{"b c": {"d": 1}}');
SELECT ops_try('{"set": {"a": "$.state.x"}}', NULL);
-- what is evaluated does not depend on how the state is kept
SELECT ops_try('{"set": {"a": "$.state.b.keyvalue().id"}}', '{"b": {"z": 1}, "c": 2}') =
	ops_try('[{"inc": {"c": 0}}, {"set": {"a": "$.state.b.keyvalue().id"}}]', '{"b": {"z": 1}, "c": 2}') AS same;

-- each operation, and what it cannot be done on
SELECT ops_try('{"inc": {"a": 1, "b.c": -0.5}}', '{"a": 9007199254740993}');
SELECT ops_try('{"inc": {"a": "$.data.x"}}', '{"a": 1}', '{"x": "1"}');
SELECT ops_try('{"inc": {"a": 1}}', '{"a": "1"}');
SELECT ops_try('{"inc": {"a": 1}}', '{"a": null}');
SELECT ops_try('{"append": {"a": [1], "b": "$.data"}}', '{"a": [0]}', '{"x": 1}');
SELECT ops_try('{"append": {"a": 1}}', '{"a": {}}');
SELECT ops_try('{"remove": {"a": {"k": 1, "l": "$.data.l"}}}', '{"a": [{"k": 1, "l": "x"}, {"k": 1.0, "l": "x", "m": 0}, {"k": 1}, 5, {"k": 2, "l": "x"}]}', '{"l": "x"}');
SELECT ops_try('{"remove": {"a": {"k": "$.data.none"}, "b": {"k": {"x": [1]}}}}', '{"a": [{"k": 1}], "b": [{"k": {"x": [1]}}, {"k": {"x": [2]}}]}');
SELECT ops_try('{"remove": {"a": {"k": 1}, "b": {}}}', '{"b": [{}, 1, {"x": 1}]}');
SELECT ops_try('{"remove": {"a": {"k": 1}}}', '{"a": {"k": 1}}');
SELECT ops_try('{"unset": ["a.0", "a.7", "b.x"]}', '{"a": [1, 2, 3], "b": {"x": 1, "y": 2}}');
SELECT ops_try('{"unset": ["a.x"]}', '{"a": [1]}');
SELECT ops_try('{"merge": {"a": {"x": 1}, "b": {"y": 2}, "c": {"z": 3}}}', '{"a": {"x": 0, "w": 0}, "b": 5}');
SELECT ops_try('{"merge": {"a": 7}}', '{"a": {"x": 0}}');
SELECT ops_try('{"max": {"a": 3, "b": 3, "c": "b", "d": 1.5}}', '{"a": 2, "b": 4, "c": "a"}');
SELECT ops_try('{"min": {"a": 3, "b": 3, "c": "b", "d": "x"}}', '{"a": 2, "b": 4, "c": "a"}');
SELECT ops_try('{"max": {"a": 3}}', '{"a": "x"}');
SELECT ops_try('{"max": {"a": "$.data"}}', '{}');
SELECT ops_try('"merge"', '{"a": 1, "b": 1}', '{"b": 2}');
SELECT ops_try('"merge_patch"', '{"a": {"x": 1, "y": 1}}', '{"a": {"x": null}}');
SELECT ops_try('"replace"', '{"a": 1}', '[1, 2]');
SELECT ops_try('["replace", {"set": {"0": "x"}}]', '{"a": 1}', '[1, 2]');
SELECT ops_try('[]', '{"a": 1}');

-- errors of a path
SELECT ops_try('{"set": {"a": "$.data.x / $.data.y"}}', '{}', '{"x": 1, "y": 0}');
SELECT ops_try('{"set": {"a": "$.data.x + 1"}}', '{}', '{"x": "one"}');
SELECT es_register_reducer_ops('ops_error', 'e', '{"set": {"a": "$.data.x / 0"}}');
SELECT es_append('ops_error-1', 'e', '{"x": 1}') AS version;
SELECT * FROM es_replay('ops_error-1');

-- nesting without end: the stack is watched, also where the state is written
SELECT es_register_reducer_ops('ops_deep', 'e', jsonb_build_object('set', jsonb_build_object(repeat('a.', 100000) || 'a', 1)));
SELECT es_register_reducer_ops('ops_deep', 'e', jsonb_build_array(jsonb_build_object('set', jsonb_build_object(repeat('a.', 30000) || 'a', 1)),
	jsonb_build_object('set', jsonb_build_object('b', '$.state')), jsonb_build_object('set', jsonb_build_object(repeat('b.', 30000) || 'a', '$.state'))));
SELECT es_append('ops_deep-1', 'e') AS version;
\set VERBOSITY sqlstate
SELECT * FROM es_replay('ops_deep-1');
\set VERBOSITY default

-- what is malformed is refused, with its place
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a..b": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a.": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a\\x": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '[{"set": {"a": 1}}, {"inc": {"a/b~": "many"}}]');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"max": {"a": true}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a": {"b": [1, "$.data["]}}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a": "$x"}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a": "$.data ? (@.x == $y)"}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a": "$data"}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": 1}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"unset": {"a": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"unset": ["a", 1]}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"remove": {"a": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"set": {"a": 1}, "inc": {"b": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{}');
SELECT es_register_reducer_ops('ops_bad', 'e', '{"push": {"a": 1}}');
SELECT es_register_reducer_ops('ops_bad', 'e', '"set"');
SELECT es_register_reducer_ops('ops_bad', 'e', '1');
SELECT es_register_reducer_ops('ops_bad', 'e', 'null');
SELECT es_register_reducer_ops('ops_bad', 'e', '[["merge"]]');
\set VERBOSITY sqlstate
SELECT es_register_reducer_ops('ops_bad', 'e', NULL);
SELECT es_register_reducer_ops('ops_bad', NULL, '"merge"');
SELECT es_register_reducer_ops(NULL, 'e', '"merge"');
SELECT es_register_reducer_ops('merge', 'e', '"merge"');
SELECT es_register_reducer_ops('ops_bad', '$e', '"merge"');
\set VERBOSITY default
SELECT count(*) AS made_by_failures FROM es_reducers WHERE reducer = 'ops_bad';

-- only for states that are jsonb
SELECT es_create_reducer('ops_number', 'null', 'numeric');
SELECT es_register_reducer_ops('ops_number', 'e', '{"set": {"a": 1}}');

-- operations and functions in one reducer, one taking the place of the other
CREATE FUNCTION ops_double(state jsonb, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_set(state, '{n}', to_jsonb((state->>'n')::numeric * 2)) $$;
SELECT es_register_reducer_ops('ops_mixed', 'inc', '{"inc": {"n": 1}}');
SELECT es_register_reducer('ops_mixed', 'double', 'ops_double(jsonb, jsonb)');
SELECT es_append_batch('ops_mixed-1', '[{"type": "inc"}, {"type": "double"}, {"type": "inc"}, {"type": "inc"}, {"type": "double"}]') AS version;
SELECT version, state FROM es_replay_steps('ops_mixed-1');
SELECT es_register_reducer_ops('ops_mixed', 'double', '{"inc": {"n": "$.state.n"}}');
SELECT version, state FROM es_replay_steps('ops_mixed-1');
SELECT es_register_reducer('ops_mixed', 'inc', 'ops_double(jsonb, jsonb)');
SELECT event_type, handler FROM es_reducers WHERE reducer = 'ops_mixed' ORDER BY event_type COLLATE "C";

-- es_fold: the same as an aggregate, over any query
SELECT es_fold('ops_cart', e ORDER BY e.version) FROM es_events e WHERE e.stream = 'ops_cart-1';
SELECT es_fold('ops_cart', e ORDER BY e.version) = (SELECT state FROM es_replay('ops_cart-1')) AS same
	FROM es_read('ops_cart-1') e;
SELECT stream, es_fold('count', e) FROM es_events e WHERE stream ~ '^ops_(cart|mixed)-' GROUP BY stream ORDER BY stream;
SELECT version, es_fold('count', e) OVER (ORDER BY version) FROM es_events e WHERE stream = 'ops_mixed-1';
-- groups whose events come in turn take no more memory than their states
SET enable_sort = off;
SELECT s % 2 AS half, length(es_fold('merge', e) ->> 'a'),
	(SELECT sum(used_bytes) < 50000000 FROM pg_backend_memory_contexts) AS little
	FROM (SELECT s, ROW(s, 's-1', s, 't', 1, jsonb_build_object('a', repeat('x', 100000)), '{}', NULL, NULL)::es_event AS e FROM generate_series(1, 2000) s) v
	GROUP BY half ORDER BY half;
RESET enable_sort;
SELECT es_fold('count', NULL::es_event), (SELECT es_fold('count', e) FROM es_events e WHERE false);
SELECT es_fold('count', e) FROM (VALUES (NULL::es_event), (ROW(1, 's', 1, 't', 1, '{}', '{}', NULL, NULL)::es_event)) v(e);
SELECT es_fold('ops_nobody', e) FROM es_events e;
\set VERBOSITY sqlstate
SELECT es_fold(NULL, e) FROM es_events e;
SELECT es_fold('merge', ROW(1, 's', 1, NULL, 1, '{}', '{}', NULL, NULL)::es_event);
SELECT es_fold('merge', ROW(1, 's', 1, 't', 1, NULL, '{}', NULL, NULL)::es_event);
SELECT es_fold(CASE version WHEN 1 THEN 'merge' ELSE 'count' END, e) FROM es_events e WHERE stream = 'ops_cart-1';
\set VERBOSITY default

SELECT count(es_drop_reducer(reducer)) FROM (SELECT DISTINCT reducer FROM es_reducers WHERE reducer LIKE 'ops%') r;
DROP FUNCTION ops_try, ops_double;
