-- What can never match, or have an effect, is refused where it is given, and so is what is
-- named wrongly: the answer of a filter that was misspelled looks like that of a store
-- without such events.

CREATE FUNCTION pg_temp.failure(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE 'taken' USING ERRCODE = 'DONE0';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	IF state = 'DONE0' THEN
		state := 'taken';
	END IF;
	message := left(message, 200);
END
$$;
CREATE FUNCTION refused_handler(es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_append('refused-1', 'T', '{"qty": 2}'), es_create_reducer('refused'), es_subscribe('refused'), es_create_projection('refused_p', 'refused', category => 'refused');

--
-- Names in filters: each list of names, each function that has one
--
CREATE TEMP TABLE filter (of text, call text);
INSERT INTO filter VALUES
	('category', $$SELECT count(*) FROM es_read_all(0, 1, categories => ARRAY[%s])$$),
	('category', $$SELECT count(*) FROM es_read_category(%s)$$),
	('category', $$SELECT es_subscribe('refused_2', categories => ARRAY[%s])$$),
	('category', $$SELECT es_create_projection('refused_2', 'refused', category => %s)$$),
	('category', $$SELECT es_create_handler_projection('refused_2', 'refused_handler(es_event)', categories => ARRAY[%s])$$),
	('category', $$SELECT count(*) FROM es_replay_category(%s, 'refused')$$),
	('type', $$SELECT count(*) FROM es_read_all(0, 1, types => ARRAY[%s])$$),
	('type', $$SELECT count(*) FROM es_read_category('refused', types => ARRAY[%s])$$),
	('type', $$SELECT count(*) FROM es_read_tagged('{refused}', types => ARRAY[%s])$$),
	('type', $$SELECT es_append_if('[]', 0, types => ARRAY[%s])$$),
	('type', $$SELECT es_subscribe('refused_2', types => ARRAY[%s])$$),
	('type', $$SELECT es_create_handler_projection('refused_2', 'refused_handler(es_event)', types => ARRAY[%s])$$),
	('tag', $$SELECT count(*) FROM es_read_tagged(ARRAY[%s])$$),
	('tag', $$SELECT es_append_if('[]', 9223372036854775807, tags => ARRAY[%s])$$),
	('prefix', $$SELECT count(*) FROM es_read_all(0, 1, stream_prefix => %s)$$);
CREATE TEMP TABLE name (nth int, what text, name text);
INSERT INTO name VALUES
	(1, 'empty', $$''$$), (2, 'good', $$'refused'$$), (3, 'with -', $$'refused-1'$$), (4, 'with $', $$'$stream-deleted'$$), (5, 'control', $$E'refused\x1f'$$),
	(6, '255 bytes', $$repeat('x', 255)$$), (7, '256 bytes', $$repeat('x', 256)$$), (8, '512 bytes', $$repeat('x', 512)$$), (9, '513 bytes', $$repeat('x', 513)$$),
	(10, 'NULL', 'NULL::text');
-- types that begin with $ are reserved, and may be there; a category can be as long as a name, a prefix as well
SELECT what, (SELECT string_agg(DISTINCT replace(f.state, 'VE011', 'taken'), ' or ') FROM filter, pg_temp.failure(format(call, name)) f WHERE of = 'category') AS category,
	(SELECT string_agg(DISTINCT replace(f.state, 'VE011', 'taken'), ' or ') FROM filter, pg_temp.failure(format(call, name)) f WHERE of = 'type') AS type,
	(SELECT string_agg(DISTINCT f.state, ' or ') FROM filter, pg_temp.failure(format(call, name)) f WHERE of = 'tag') AS tag,
	(SELECT string_agg(DISTINCT f.state, ' or ') FROM filter, pg_temp.failure(format(call, name)) f WHERE of = 'prefix') AS prefix
FROM name ORDER BY nth;
-- NULL is no filter where one name is asked for, and an argument that is missing where it is needed
SELECT call, f.state FROM filter, pg_temp.failure(format(call, 'NULL::text')) f WHERE call !~ 'ARRAY' ORDER BY call COLLATE "C";
SELECT of, what, message, detail FROM (SELECT of, min(call) AS call FROM filter GROUP BY of) c, name, pg_temp.failure(format(call, name))
WHERE state = '22023' AND (of, nth) IN (('category', 1), ('category', 3), ('type', 5), ('tag', 7), ('prefix', 5), ('prefix', 9)) ORDER BY of, nth;

--
-- Positions: there is none below 0
--
SELECT call, string_agg(CASE f.state WHEN 'VE011' THEN 'taken' ELSE f.state END, ' ' ORDER BY n) AS "-1, 0", max(f.message) FILTER (WHERE n = -1) AS message
FROM (VALUES ($$SELECT count(*) FROM es_read_all(%s, 1)$$), ($$SELECT count(*) FROM es_read_all(to_position => %s)$$),
	($$SELECT count(*) FROM es_read_category('refused', %s)$$), ($$SELECT count(*) FROM es_read_category('refused', to_position => %s)$$),
	($$SELECT count(*) FROM es_read_tagged('{refused}', after_position => %s)$$), ($$SELECT es_append_if('[]', %s)$$),
	($$SELECT es_subscribe('refused_2', %s)$$), ($$SELECT es_rewind('refused', %s)$$), ($$SELECT es_replay_parked('refused', %s)$$),
	($$SELECT es_wait_projection('refused_p', %s, '0')$$), ($$SELECT es_skip_event('refused_p', %s)$$),
	($$SELECT es_ack('refused', 0, %s)$$), ($$SELECT es_nack('refused', 0, %s, 'why')$$),
	-- what waits has waited already
	($$SELECT es_wait(%s, '0')$$), ($$CALL es_wait_for(%s, '0')$$)) t(call), generate_series(-1, 0) n, pg_temp.failure(format(call, n)) f
GROUP BY call ORDER BY call COLLATE "C";

--
-- Paths begin with a key that is there
--
CREATE TEMP TABLE path (nth serial, path text, why text);
INSERT INTO path (path, why) VALUES
	('$.data.qty', 'an event has data'), ('$."data".qty', 'the same'), ('$.state.n', 'a state, but not for the key of a projection'), ('$.metadata', 'as a whole'),
	('$.recorded_at', ''), ('$.event_id', ''), ('$.data.dta', 'what data has, nobody knows'),
	('$.dta.qty', 'misspelled'), ('$.Data.qty', 'in another case'), ('$."data.qty".x', 'one key'), ('$.""', ''), ('$.payload', ''),
	('$', 'all of it'), ('$.*', 'any'), ('$.**.qty', 'any'), ('$.* ? (@.dta == 1)', 'of any'), ('$.keyvalue().key', 'of what comes out'), ('$.type()', 'of the whole'),
	('$.data.type()', ''), ('$[*].data', 'an object is an array of one'), ('$[*].dta', 'the same'), ('$[0 to last].dta', 'the same'),
	('$.data.qty * $.data.price', ''), ('$.data.qty * $.dta.price', 'in arithmetic'), ('-$.dta.qty', 'no path'), ('$.data ? (@.qty > $.dta.min)', 'in a filter'),
	('$.data.items[*] ? (exists(@.dta))', 'of another object'), ('$ ? (@.dta.qty > 1).data', '@ is all of it'), ('$ ? (@.data.qty > 1).data.qty', ''), ('$ ? (@.data.qty > 1).dta', ''),
	('$.data.items[*] ? (@.x ? (@.dta == 1) == 2)', 'of another object'), ('$ ? (exists(@.data ? (@.dta == 1))).data', 'of another object'), ('$ ? (exists(@ ? (@.dta == 1))).data', '@ is all of it'),
	('$.data.items[$.dta.n]', 'in a subscript'), ('$.data.items[0 to $.dta.n]', 'in a subscript'),
	('$.data.sku like_regex "^a" || $.dta == 1', 'behind or'), ('!($.dta == 1)', 'no path'), ('$.data.s starts with "x" && !($.dta == 1)', 'behind not'), ('($.data.n + $.dta.n).abs()', 'no path'),
	('$.data.n + ($.data.m - $.dta.m).abs()', 'in brackets');
CREATE FUNCTION pg_temp.said(statement text) RETURNS text LANGUAGE sql AS $$ SELECT CASE state WHEN 'taken' THEN 'taken' ELSE state || ': ' || message END FROM pg_temp.failure(statement) $$;
SELECT path, why, o.ops, u.upcast = o.ops AS upcaster_alike, CASE WHEN k.key = o.ops THEN 'alike' ELSE k.key END AS key
FROM path, pg_temp.said(format($$SELECT es_register_reducer_ops('refused', 'T', jsonb_build_object('set', jsonb_build_object('x', %L::text)))$$, path)) o(ops),
	pg_temp.said(format($$SELECT es_register_upcaster_ops('T', 1, jsonb_build_object('set', jsonb_build_object('x', %L::text)))$$, path)) u(upcast),
	pg_temp.said(format($$SELECT es_create_projection('refused_2', 'refused', key => %L)$$, path)) k(key)
ORDER BY nth;
-- wherever there is a path; where it is, and which keys there are
SELECT ops, state, message, detail FROM (VALUES
	('{"inc": {"n": "$.dta.n"}}'), ('{"set": {"a": {"b": [1, {"c": "$.dta.n"}]}}}'), ('{"append": {"l": ["$.dta.n"]}}'), ('{"remove": {"l": {"id": "$.dta.id"}}}'),
	('{"remove": {"l": {"id": {"a": "$.dta.id"}}}}'), ('{"merge": {"m": {"a": "$.dta.id"}}}'), ('{"max": {"m": "$.dta.id"}}'), ('{"min": {"m": "$.dta.id"}}'), ('["ignore", {"set": {"x": "$.dta"}}]'),
	-- none of these is a path over an event
	('{"unset": ["dta"]}'), ('{"set": {"dta.x": 1}}'), ('{"set": {"x": "$$.dta.x"}}'), ('{"set": {"$.dta": 1}}'), ('{"remove": {"l": {"$.dta": 1}}}')) t(ops),
	pg_temp.failure(format($$SELECT es_register_reducer_ops('refused', 'T', %L)$$, ops));
\set VERBOSITY default
SELECT es_register_reducer_ops('refused', 'T', '[{"set": {"x": 1}}, {"inc": {"n": "$.data.qty * $.dta.price"}}]');
SELECT es_create_projection('refused_2', 'refused', key => '$.dta.customerId');
-- operations that there are not
SELECT es_register_reducer_ops('refused', 'T', '{"add": {"n": 1}}');
SELECT es_register_reducer_ops('refused', 'T', '"set"');
SELECT es_register_upcaster_ops('T', 1, '[{"replace": {}}]');
-- words that there are not
SELECT es_create_reducer('refused_2', on_unknown => 'warn');
SELECT es_create_projection('refused_2', 'refused', mode => 'Async');
SELECT es_create_handler_projection('refused_2', 'refused_handler(es_event)', mode => '');
SELECT es_create_feed('refused', format => 'xml');

--
-- Numbers without an effect
--
SELECT call, state, message FROM (VALUES ($$SELECT es_subscribe('refused_2', partitions => 0)$$), ($$SELECT es_subscribe('refused_2', max_attempts => 0)$$),
	($$SELECT es_poll('refused', -1)$$), ($$SELECT es_poll('refused', 0)$$), ($$SELECT es_poll('refused', lease => '0')$$), ($$SELECT es_poll('refused', lease => '-1s')$$),
	($$SELECT es_poll('refused', wait => '-1s')$$), ($$SELECT es_snapshot_every('refused', 0)$$), ($$SELECT es_run_projection('refused_p', -1)$$),
	($$SELECT es_register_upcaster_ops('T', 0, '"ignore"')$$), ($$SELECT es_replay('refused-1', 'refused', -1)$$), ($$SELECT es_replay_steps('refused-1', 'refused', -1)$$)) t(call),
	pg_temp.failure(call);

SELECT es_drop_projection('refused_p'), es_unsubscribe('refused'), es_drop_reducer('refused');
DROP FUNCTION refused_handler;
