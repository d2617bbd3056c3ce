--
-- Queries: es_read_query, reads backwards, and conditions stated as queries.
--
-- In a store of its own, of small segments; what is read is compared with what SQL says of es_events.
SELECT current_database() AS regression_database \gset
CREATE DATABASE regress_es_query;
\c regress_es_query
SET client_min_messages = warning;
CREATE EXTENSION eventstore;
SELECT es_set_segment_size(100);
-- failure(statement): state, message and detail of a statement that must fail
CREATE FUNCTION pg_temp.failure(statement text, OUT state text, OUT message text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
END
$$;
-- fits(item, event): whether an event is one that an item is about
CREATE FUNCTION pg_temp.fits(item jsonb, type text, metadata jsonb) RETURNS boolean LANGUAGE sql AS $$
	SELECT (item -> 'types' IS NULL OR item -> 'types' ? type)
		AND (item -> 'tags' IS NULL OR jsonb_typeof(metadata -> 'tags') = 'array'
			AND metadata -> 'tags' ?& ARRAY(SELECT jsonb_array_elements_text(item -> 'tags')))
$$;
-- should(query, after, upto, backwards): positions of what es_read_query should give
CREATE FUNCTION pg_temp.should(query jsonb, after bigint, upto bigint, backwards boolean) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT coalesce(CASE WHEN backwards THEN array_agg(position ORDER BY position DESC) ELSE array_agg(position ORDER BY position) END, '{}')
	FROM (SELECT DISTINCT e.position
		FROM jsonb_array_elements(CASE jsonb_typeof(query) WHEN 'object' THEN query -> 'items' ELSE query END) item,
			LATERAL (SELECT position FROM es_events WHERE pg_temp.fits(item, type, metadata) ORDER BY position DESC
				LIMIT CASE WHEN (item ->> 'last')::boolean THEN 1 END) e
		WHERE e.position > after AND e.position <= coalesce(upto, e.position)) p
$$;
CREATE FUNCTION pg_temp.does(query jsonb, after bigint, upto bigint, backwards boolean, most bigint DEFAULT NULL) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(position ORDER BY nth), '{}')
	FROM es_read_query(query, after, most, backwards, upto) WITH ORDINALITY e(position, stream, version, type, type_version, data, metadata, event_id, recorded_at, nth)
$$;

-- seven segments: runs, single events, views, holes, in 20 categories; of tags and types some are rare
SELECT setseed(0.42);
CREATE FUNCTION pg_temp.some_tags(most int) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT coalesce(jsonb_agg('t' || floor(power(random(), 2) * 12)), '[]') FROM generate_series(1, floor(random() * (most + 1))::int)
$$;
DO $$
DECLARE
	stream text;
BEGIN
	WHILE coalesce(es_last_position(), 0) < 650 LOOP
		stream := 'q' || floor(random() * 20) || '-' || floor(random() * 3);
		CASE floor(random() * 7)::int
		WHEN 0, 1 THEN
			PERFORM es_append(stream, 'T' || floor(random() * 5), to_jsonb(random()), jsonb_build_object('tags', pg_temp.some_tags(4)));
		WHEN 2 THEN
			PERFORM es_append_batch(stream, (SELECT jsonb_agg(jsonb_build_object('type', 'T' || floor(random() * 5), 'metadata', jsonb_build_object('tags', pg_temp.some_tags(3))))
				FROM generate_series(1, 1 + floor(random() * 40)::int)));
		WHEN 3 THEN
			PERFORM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'q' || n % 20 || '-m', 'type', 'T' || n % 6, 'tags', pg_temp.some_tags(3))) FROM generate_series(1, 8) n));
		WHEN 4 THEN
			INSERT INTO es_events (stream, type, metadata) SELECT 'q3-view', 'T' || n % 7, jsonb_build_object('tags', pg_temp.some_tags(2)) FROM generate_series(1, 10) n;
		WHEN 5 THEN
			PERFORM es_append(stream, 'T1', '{}', '{"tags": ["t1"], "by": "nobody"}');
		ELSE
			BEGIN
				PERFORM es_append_batch(stream, (SELECT jsonb_agg('{"type": "T0", "metadata": {"tags": ["t0", "t1"]}}'::jsonb) FROM generate_series(1, 7)));
				RAISE 'undone';
			EXCEPTION WHEN raise_exception THEN
			END;
		END CASE;
	END LOOP;
END
$$;
SELECT es_append('q1-rare', 'Rare', '{}', '{"tags": ["rare", "t0"]}') IS NOT NULL AS appended;
SELECT count(*) > 5 AS segments, (SELECT count(*) > 300 FROM es_events) AS events, (SELECT max(position) > count(*) FROM es_events) AS holes FROM es_segments;

--
-- Generated queries
--
CREATE TEMP TABLE question (query jsonb, after bigint, upto bigint);
CREATE FUNCTION pg_temp.some_item() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object(
		'tags', CASE WHEN dice > 0.25 THEN (SELECT jsonb_agg('t' || floor(power(random(), 2) * 13)) FROM generate_series(1, 1 + floor(random() * 3)::int)) END,
		'types', CASE WHEN dice < 0.6 THEN (SELECT jsonb_agg('T' || floor(random() * 9)) FROM generate_series(1, 1 + floor(random() * 3)::int)) END,
		'last', CASE WHEN random() < 0.3 THEN random() < 0.7 END))
	FROM (SELECT random() AS dice) d
$$;
INSERT INTO question SELECT query, 0, NULL
FROM generate_series(1, 70) n, LATERAL (SELECT jsonb_agg(pg_temp.some_item()) AS query FROM generate_series(n - n, floor(random() * 4)::int)) q;
INSERT INTO question SELECT jsonb_build_object('items', query), a, a + floor(random() * 400) FROM (SELECT query, floor(random() * 600) AS a FROM question) q;
SELECT count(*) FROM question q, (VALUES (false), (true)) d(backwards)
WHERE pg_temp.does(query, after, upto, backwards) IS DISTINCT FROM pg_temp.should(query, after, upto, backwards);
SELECT count(*) FROM question q, (VALUES (false), (true)) d(backwards), (VALUES (1), (2), (17)) m(most)
WHERE pg_temp.does(query, after, upto, backwards, most) IS DISTINCT FROM (pg_temp.should(query, after, upto, backwards))[:most];
-- the same rows as es_events has
SELECT count(*) FROM question q, LATERAL (
	SELECT FROM es_read_query(query, 0, NULL) r LEFT JOIN es_events e ON e::es_event = r WHERE e.position IS NULL) wrong;
-- conditions meet what reads find: the first of them, whatever is the last
SELECT count(*) FROM (SELECT *, (SELECT jsonb_agg(item - 'last') FROM jsonb_array_elements(query -> 'items') item) AS whole FROM question WHERE query ? 'items') q,
	LATERAL (SELECT (pg_temp.should(whole, after, NULL, false))[1] AS first) s,
	pg_temp.failure(format('SELECT es_append_if(%L, %s, query => %L)', '[]', after, query)) f
WHERE (f.state IS NOT DISTINCT FROM 'VE011') <> (first IS NOT NULL) OR f.detail NOT LIKE format('It is at position %s, in stream "%%".', first);
-- es_read_tagged is short for a query of one item
SELECT count(*) FROM question q, jsonb_array_elements(CASE jsonb_typeof(query) WHEN 'object' THEN query -> 'items' ELSE query END) item
WHERE NOT item ? 'last' AND ARRAY(SELECT e FROM es_read_tagged(coalesce(ARRAY(SELECT jsonb_array_elements_text(item -> 'tags')), '{}'),
		CASE WHEN item ? 'types' THEN ARRAY(SELECT jsonb_array_elements_text(item -> 'types')) END, after, NULL) e)
	IS DISTINCT FROM ARRAY(SELECT e FROM es_read_query(jsonb_build_array(item), after, NULL) e);

--
-- es_read_all, es_read_category backwards: from both bounds, wherever they cut a run
--
CREATE FUNCTION pg_temp.all_does(after bigint, most bigint, categories text[], types text[], prefix text, upto bigint, backwards boolean) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(position ORDER BY nth), '{}')
	FROM es_read_all(after, most, categories, types, prefix, upto, backwards) WITH ORDINALITY e(position, stream, version, type, type_version, data, metadata, event_id, recorded_at, nth)
$$;
CREATE FUNCTION pg_temp.all_should(after bigint, most bigint, categories text[], types text[], prefix text, upto bigint, backwards boolean) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT coalesce((CASE WHEN backwards THEN array_agg(position ORDER BY position DESC) ELSE array_agg(position ORDER BY position) END)[:coalesce(most, 100000)], '{}')
	FROM es_events WHERE position > after AND position <= coalesce(upto, position) AND (categories IS NULL OR split_part(stream, '-', 1) = ANY (categories))
		AND (types IS NULL OR type = ANY (types)) AND (prefix IS NULL OR starts_with(stream, prefix))
$$;
CREATE TEMP TABLE filter AS SELECT categories, types, prefix FROM
	(VALUES (NULL::text[]), ('{}'), ('{q1}'), ('{q3,q1,q3}'), ('{q1,nobody}'), (ARRAY(SELECT 'q' || n FROM generate_series(0, 15) n)),
		(ARRAY(SELECT 'q' || n FROM generate_series(2, 18) n)), (ARRAY(SELECT 'none' || n FROM generate_series(2, 18) n))) c(categories),
	(VALUES (NULL::text[]), ('{}'), ('{T1}'), ('{T5,T2,Rare}')) t(types),
	(VALUES (NULL), ('q1'), ('q3-'), ('q3-v'), ('none-')) p(prefix);
SELECT count(*), count(*) FILTER (WHERE cardinality(pg_temp.all_should(0, NULL, categories, types, prefix, NULL, true)) > 0) AS not_empty FROM filter;
SELECT count(*) FROM filter f, (VALUES (0, NULL), (0, 650), (130, 131), (99, 100), (100, 101), (255, 444), (333, 334), (640, 9223372036854775807), (700, 600)) b(after, upto),
	(VALUES (NULL), (1), (50)) m(most), (VALUES (false), (true)) d(backwards)
WHERE pg_temp.all_does(after, most, categories, types, prefix, upto, backwards) IS DISTINCT FROM pg_temp.all_should(after, most, categories, types, prefix, upto, backwards);
-- each pair of bounds over what has runs of each length, and holes
SELECT count(*) FROM generate_series(60, 140, 3) after, generate_series(60, 140, 3) upto, (VALUES (false), (true)) d(backwards)
WHERE pg_temp.all_does(after, NULL, NULL, NULL, NULL, upto, backwards) IS DISTINCT FROM pg_temp.all_should(after, NULL, NULL, NULL, NULL, upto, backwards)
	OR pg_temp.all_does(after, NULL, '{q3,q7}', NULL, NULL, upto, backwards) IS DISTINCT FROM pg_temp.all_should(after, NULL, '{q3,q7}', NULL, NULL, upto, backwards);
SELECT count(*) FROM generate_series(0, 19) n, (VALUES (0, NULL), (130, 471), (0, 99)) b(after, upto), (VALUES (NULL), (3)) m(most), (VALUES (NULL::text[]), ('{T1,T2}')) t(types), (VALUES (false), (true)) d(backwards)
WHERE ARRAY(SELECT position FROM es_read_category('q' || n, after, most, types, upto, backwards))
	IS DISTINCT FROM pg_temp.all_should(after, most, ARRAY['q' || n], types, NULL, upto, backwards);
SELECT es_read_all(0, backwards => NULL);
SELECT es_read_category('q1', 0, backwards => NULL);
SELECT es_read_category('q1', 0, to_position => -1, backwards => true);

--
-- What a query is
--
SELECT es_settled_position() AS here \gset
SELECT stream, version FROM es_append_many('[
	{"stream": "w-1", "type": "A", "tags": ["x"]},
	{"stream": "w-1", "type": "B", "tags": ["x", "y"]},
	{"stream": "w-2", "type": "C"},
	{"stream": "w-2", "type": "A", "tags": ["y", "x", "y"]}]');
CREATE TEMP TABLE worked (query jsonb);
INSERT INTO worked VALUES (NULL), ('[{"tags": ["x"]}]'), ('{"items": [{"tags": ["x"]}]}'), ('[{"tags": ["x", "y"]}]'), ('[{"tags": ["y", "x", "y"]}]'), ('[{"tags": ["y"]}, {"tags": ["x"]}]'),
	('[{"types": ["A"]}]'), ('[{"types": ["A", "C", "A"]}]'), ('[{"types": ["A"], "tags": ["y"]}]'), ('[{"types": ["B"]}, {"types": ["A"], "tags": ["y"]}]'), ('[{"types": ["C"], "tags": ["x"]}]'),
	('[{"tags": ["x"], "last": true}]'), ('[{"types": ["A", "B"], "last": true}]'), ('[{"types": ["C"], "last": true}, {"tags": ["x"], "last": true}]'), ('[{"types": ["B"], "last": true}, {"types": ["A"], "last": false}]'),
	('[{"tags": ["z"], "last": true}]'), ('[{"types": ["C"]}, {"types": ["C"], "last": true}, {"types": ["C"]}]');
SELECT query, ARRAY(SELECT position - :here FROM es_read_query(query, :here)) AS forwards, ARRAY(SELECT position - :here FROM es_read_query(query, :here, backwards => true)) AS backwards,
	ARRAY(SELECT position - :here FROM es_read_query(query, :here + 1, to_position => :here + 3)) AS "2 to 3"
FROM worked;
-- the last one is that of the log: none, where the bounds leave it out
SELECT ARRAY(SELECT position FROM es_read_query('[{"types": ["A"], "last": true}]', 0, to_position => :here + 3)) AS "before it",
	ARRAY(SELECT position - :here FROM es_read_query('[{"types": ["A"], "last": true}]', :here + 3)) AS "from it",
	ARRAY(SELECT position FROM es_read_query('[{"types": ["A"], "last": true}]', :here + 4)) AS "after it";
-- limits and bounds
SELECT ARRAY(SELECT position FROM es_read_query(NULL, 0, 0)) AS none, ARRAY(SELECT position - :here FROM es_read_query(max_count => 2, backwards => true)) AS last,
	(SELECT count(*) FROM es_read_query(max_count => NULL)) = (SELECT count(*) FROM es_events) AS everything,
	ARRAY(SELECT position FROM es_read_query(NULL, 9223372036854775807)) AS after, ARRAY(SELECT position FROM es_read_query(NULL, :here, to_position => :here)) AS empty,
	ARRAY(SELECT position FROM es_read_query(NULL, :here + 2, to_position => :here)) AS reversed, ARRAY(SELECT position FROM es_read_query(to_position => 0)) AS before;

-- what is no query
SELECT f.state, f.message, f.detail, query FROM (VALUES ('[]'), ('{"items": []}'), ('{}'), ('{"items": [{"tags": ["x"]}], "more": 1}'), ('{"items": {"tags": ["x"]}}'), ('{"item": []}'), ('{"tags": ["x"]}'),
		('1'), ('"x"'), ('null'), ('true'), ('[1]'), ('[null]'), ('[[]]'), ('["x"]'), ('[{}]'), ('[{"last": true}]'), ('[{"tags": ["x"]}, {}]'), ('[{"tags": []}]'), ('[{"types": []}]'), ('[{"types": ["A"], "tags": []}]'),
		('[{"tags": "x"}]'), ('[{"tags": null}]'), ('[{"tags": {}}]'), ('[{"tags": [1]}]'), ('[{"tags": [null]}]'), ('[{"tags": [["x"]]}]'), ('[{"tags": ["x", {}]}]'), ('[{"types": ["A", true]}]'), ('[{"types": [""]}]'), ('[{"tags": [""]}]'),
		('[{"types": ["a\tb"]}]'), ('[{"tags": ["x"], "last": null}]'), ('[{"tags": ["x"], "last": "true"}]'), ('[{"tags": ["x"], "last": 1}]'), ('[{"tags": ["x"], "Types": ["A"]}]'), ('[{"tags": ["x"], "type": "A"}]'),
		('[{"tags": ["x"]}, {"tags": ["y"], "": 1}]')) q(query),
	pg_temp.failure(format('SELECT es_read_query(%L)', query)) f;
SELECT f.state, f.message FROM unnest(ARRAY[jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(repeat('x', 256)))), jsonb_build_array(jsonb_build_object('types', jsonb_build_array(repeat('x', 256)))),
		jsonb_build_array(jsonb_build_object(repeat('x', 100000), 1))]) query, pg_temp.failure(format('SELECT es_read_query(%L)', query)) f;
SELECT f.state, f.message, arguments FROM unnest('{"NULL, NULL","NULL, 0, 1, NULL","NULL, -1","NULL, 0, -1","NULL, 0, 1, false, -1"}'::text[]) arguments, pg_temp.failure(format('SELECT es_read_query(%s)', arguments)) f;

--
-- Tags of every kind
--
SELECT es_settled_position() AS here \gset
CREATE TEMP TABLE odd (n int GENERATED ALWAYS AS IDENTITY, tag text);
INSERT INTO odd (tag) VALUES ('a,b'), ('"'), (''''), ('{}'), ('\'), ('\\'), (' x '), ('X'), (E'\u00e9'), (E'e\u0301'), (E'\U0001F600'), (E'a\tb'), ('null'), ('1'), ('%'), (repeat('t', 255)), (repeat(E'\u00e9', 127));
SELECT count(es_append('odd-' || n, 'Odd', '{}', jsonb_build_object('tags', jsonb_build_array('odd', tag)))) FROM odd;
SELECT count(*) FROM odd o WHERE ARRAY(SELECT stream FROM es_read_query(jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(tag, 'odd'))))) <> ARRAY['odd-' || n];
SELECT count(*) FROM es_read_query((SELECT jsonb_agg(jsonb_build_object('tags', jsonb_build_array(tag))) FROM odd), :here);
-- of what is among an event's tags strings count, each once; what is no array has none
SELECT es_append('odd-0', 'Odd', '{}', '{"tags": ["deep", 7, null, "deep", ["deeper"], {"deepest": "deepest"}, true]}'), es_append('odd-0', 'Odd', '{}', '{"tags": "deep"}'), es_append('odd-0', 'Odd', '{}', '{"tags": {"deep": "deep"}}'), es_append('odd-0', 'Odd', '{}', '{"tags": null}'), es_append('odd-0', 'Odd', '{}', '{"Tags": ["deep"]}');
SELECT query, ARRAY(SELECT version FROM es_read_query(query)) AS versions FROM (VALUES ('[{"tags": ["deep"]}]'::jsonb), ('[{"tags": ["deeper"]}]'), ('[{"tags": ["deepest"]}]'), ('[{"tags": ["7"]}]'), ('[{"tags": ["true"]}]'), ('[{"tags": ["deep"]}, {"tags": ["deep", "7"]}]')) q(query);
-- 2,000 tags in an event, and in a query
SELECT es_append('many-1', 'Many', '{}', jsonb_build_object('tags', (SELECT jsonb_agg('many' || n) FROM generate_series(1, 2000) n))), es_append('many-1', 'Many', '{}', jsonb_build_object('tags', (SELECT jsonb_agg('many' || n) FROM generate_series(2, 2000) n)));
SELECT ARRAY(SELECT version FROM es_read_query(jsonb_build_array(jsonb_build_object('tags', tags)))) AS all_of_them, ARRAY(SELECT version FROM es_read_query(jsonb_build_array(jsonb_build_object('tags', tags - 0)))) AS but_the_first,
	ARRAY(SELECT version FROM es_read_query(jsonb_build_array(jsonb_build_object('tags', tags || '["more"]')))) AS more
FROM (SELECT jsonb_agg('many' || n ORDER BY n) AS tags FROM generate_series(1, 2000) n) t;
SELECT count(*), count(DISTINCT n) FROM generate_series(1, 2000, 97) n, es_read_query(jsonb_build_array(jsonb_build_object('tags', jsonb_build_array('many' || n))));
-- 20,000 items
SELECT count(*) FROM es_read_query((SELECT jsonb_agg(jsonb_build_object('tags', jsonb_build_array('many' || n % 3000))) FROM generate_series(1, 20000) n));
SELECT count(*) = (SELECT count(*) FROM es_events WHERE type IN ('T1', 'Many')) AS all_of_them FROM es_read_query((SELECT jsonb_agg(jsonb_build_object('types', jsonb_build_array(CASE n % 2 WHEN 0 THEN 'T1' ELSE 'Many' END))) FROM generate_series(1, 20000) n), max_count => NULL);
SELECT count(*) FROM es_read_query((SELECT jsonb_agg(jsonb_build_object('tags', jsonb_build_array('many' || n % 3000), 'last', true)) FROM generate_series(1, 20000) n), backwards => true);

-- what is not final is not read, the transaction's own included; "last" is not of it either
BEGIN;
SELECT es_append('w-1', 'A', '{}', '{"tags": ["x"]}');
SELECT ARRAY(SELECT version FROM es_read_query('[{"tags": ["x"]}]')) AS tagged, ARRAY(SELECT version FROM es_read_query('[{"tags": ["x"], "last": true}]')) AS last, ARRAY(SELECT version FROM es_read_query('[{"types": ["A"]}]', backwards => true)) AS typed,
	ARRAY(SELECT version FROM es_read_all(0, 1, '{w}', backwards => true)) AS backwards, ARRAY(SELECT version FROM es_read_category('w', 0, 1, backwards => true)) AS of_category;
ROLLBACK;

--
-- es_append_if with a query
--
SELECT es_settled_position() AS here \gset
SELECT state, detail = format('It is at position %s, in stream "w-1".', p) AS names_the_event FROM pg_temp.failure($$SELECT es_append_if('[{"stream": "c-1", "type": "A"}]', 0, query => '[{"types": ["Nobody"]}, {"tags": ["y", "x"], "types": ["B"]}]')$$), es_position('w-1', 2) p;
SELECT state, replace(message, :'here', '<here>') AS message FROM pg_temp.failure(format($$SELECT es_append_if('[{"stream": "c-1", "type": "A"}]', %s, query => '[{"tags": ["x", "y"]}]')$$, 0));
SELECT es_stream_version('c-1');
SELECT es_append_if('[{"stream": "c-1", "type": "A", "tags": ["x", "y"]}]', :here, query => '[{"tags": ["x", "y"]}]') = es_last_position() AS appended;
-- an event of the call itself does not count; the transaction's other ones do
SELECT es_append_if('[{"stream": "c-1", "type": "A", "tags": ["own"]}, {"stream": "c-2", "type": "A", "tags": ["own"]}]', 0, query => '{"items": [{"tags": ["own"], "last": true}]}') = es_last_position() AS appended;
BEGIN;
SELECT es_append('c-1', 'A', '{}', '{"tags": ["tx"]}');
SELECT state FROM pg_temp.failure($$SELECT es_append_if('[{"stream": "c-1", "type": "A"}]', 0, query => '[{"tags": ["tx"]}]')$$);
ROLLBACK;
-- "last" makes no difference: that an event is not the last of its kind is no reason to overlook it
SELECT state FROM pg_temp.failure(format($$SELECT es_append_if('[]', %s, query => '[{"tags": ["own"], "last": true}]')$$, :here));
-- an empty array checks only; NULL is no query: then types and tags count
SELECT es_append_if('[]', 0, query => '[{"tags": ["nobody"]}, {"types": ["Nobody"]}]') IS NULL AS holds;
SELECT es_append_if('[]', es_settled_position(), query => NULL) IS NULL AS holds;
SELECT state FROM pg_temp.failure($$SELECT es_append_if('[]', 0, query => NULL)$$);
-- one or the other, and what is no query
SELECT f.state, f.message, arguments FROM unnest(ARRAY[$$types => '{A}', query => '[{"tags": ["x"]}]'$$, $$tags => '{x}', query => '[{"tags": ["x"]}]'$$, $$types => '{}', query => '[{"tags": ["x"]}]'$$,
	$$query => '[]'$$, $$query => '[{}]'$$, $$query => 'null'$$, $$query => '{"items": [{"tags": ["x"], "no": 1}]}'$$]) arguments,
	pg_temp.failure(format($$SELECT es_append_if('[{"stream": "c-3", "type": "A"}]', %s, %s)$$, :here, arguments)) f;
SELECT es_stream_version('c-3');
-- a retry says what the first attempt said
SELECT es_append_if('[{"stream": "c-4", "type": "A", "tags": ["retry"], "event_id": "0189cccc-0000-7000-8000-000000000009"}]', 0, query => '[{"tags": ["retry"]}]') AS first \gset
SELECT es_append_if('[{"stream": "c-4", "type": "A", "tags": ["retry"], "event_id": "0189cccc-0000-7000-8000-000000000009"}]', 0, query => '[{"tags": ["retry"]}]') = :first AS same;
SELECT state FROM pg_temp.failure($$SELECT es_append_if('[{"stream": "c-4", "type": "A", "tags": ["retry"], "event_id": "0189cccc-0000-7000-8000-00000000000a"}]', 0, query => '[{"tags": ["retry"]}]')$$);

--
-- No plan ever reads an index by tag
--
SET enable_seqscan = off;
CREATE FUNCTION pg_temp.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS off) ' || query; END $$;
SELECT count(*) FILTER (WHERE line ~ '_tag\M') AS by_tag, count(*) > 0 AS planned FROM unnest(ARRAY[
	$$SELECT * FROM eventstore.events WHERE metadata = '{"tags": ["x"]}'$$, $$SELECT * FROM eventstore.events WHERE metadata @> '{"tags": ["x"]}'$$, $$SELECT * FROM eventstore.events WHERE metadata > '{}' ORDER BY metadata, position$$,
	$$SELECT metadata, position FROM eventstore.events$$, $$SELECT count(*) FROM eventstore.events WHERE position > 5$$, $$SELECT * FROM eventstore.events WHERE metadata IS NULL$$, $$SELECT max(position) FROM eventstore.events_1$$,
	$$SELECT * FROM eventstore.events a JOIN eventstore.events b USING (metadata, position)$$, $$SELECT DISTINCT metadata FROM eventstore.events_0 ORDER BY 1$$]) query, pg_temp.plan(query) line;
RESET enable_seqscan;

\c :regression_database
SET client_min_messages = warning;
DROP DATABASE regress_es_query;
