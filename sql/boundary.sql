--
-- Dynamic consistency boundaries: es_append_if, es_read_tagged, tags.
--
-- failure(statement): state, message, detail and hint of a statement that must fail
CREATE FUNCTION pg_temp.failure(statement text,
	OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'did not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END
$$;

-- a worked example: a course has two seats, and no student is in it twice; no stream is about both
SELECT es_settled_position() AS start \gset
SELECT es_append('boundary_course-db', 'CourseCreated', '{"seats": 2}', '{"tags": ["boundary:course:db"]}', event_id => '0189cccc-0000-7000-8000-000000000001');
-- Ann reads what decides: one event, no enrolment
SELECT coalesce(max(position), :start) AS seen_by_ann, count(*) FILTER (WHERE type = 'Enrolled') AS taken
FROM es_read_tagged('{boundary:course:db}', after_position => :start) \gset
\echo :taken
-- Bob reads the same, and is faster
SELECT es_append_if('[{"stream": "boundary_student-bob", "type": "Enrolled", "tags": ["boundary:course:db", "boundary:student:bob"]}]',
	after_position => :seen_by_ann, types => '{Enrolled}', tags => '{boundary:course:db}') - :seen_by_ann AS position;
SELECT state FROM pg_temp.failure(format('SELECT es_append_if(%L, %s, %L, %L)',
	'[{"stream": "boundary_student-ann", "type": "Enrolled", "tags": ["boundary:course:db", "boundary:student:ann"]}]', :seen_by_ann, '{Enrolled}', '{boundary:course:db}'));
SELECT es_stream_version('boundary_student-ann');
-- she reads again, and decides again
SELECT max(position) AS seen_by_ann, count(*) FILTER (WHERE type = 'Enrolled') AS taken
FROM es_read_tagged('{boundary:course:db}', after_position => :start) \gset
\echo :taken
SELECT es_append_if('[{"stream": "boundary_student-ann", "type": "Enrolled", "tags": ["boundary:course:db", "boundary:student:ann"]}]',
	after_position => :seen_by_ann, types => '{Enrolled}', tags => '{boundary:course:db}') = es_last_position() AS last_position;
SELECT stream, version, type, metadata FROM es_read_tagged('{boundary:course:db}', after_position => :start);
-- who is refused is told where the event is; what else is wrong with the call goes first
SELECT f.state, f.message, regexp_replace(f.detail, '"position": \d+', '"position": <n>') AS detail FROM (VALUES
	('[{"stream": "boundary_course-db", "type": "Other", "event_id": "0189cccc-0000-7000-8000-000000000001", "expected_version": 9}]'),
	('[{"stream": "boundary_student-bob", "type": "Enrolled", "expected_version": 9}]')) t(events),
	pg_temp.failure(format('SELECT es_append_if(%L, %s, %L, %L)', events, :start, '{Enrolled}', '{boundary:course:db}')) f;
SELECT state, replace(message, :'start', '<start>') AS message,
	detail = format('It is at position %s, in stream "boundary_student-bob".', position) AS names_the_event, hint
FROM pg_temp.failure(format('SELECT es_append_if(%L, %s, %L, %L)', '[]', :start, '{Enrolled}', '{boundary:course:db}')),
	LATERAL (SELECT position FROM es_read('boundary_student-bob', 1, 1)) e;

--
-- What a condition matches: one of the types, and all of the tags
--
SELECT es_settled_position() AS here \gset
SELECT stream, version FROM es_append_many('[
	{"stream": "boundary_m-1", "type": "A", "tags": ["boundary:x"]},
	{"stream": "boundary_m-1", "type": "B", "tags": ["boundary:x", "boundary:y"]},
	{"stream": "boundary_m-2", "type": "C"}]');
CREATE TEMP TABLE condition (types text[], tags text[]);
INSERT INTO condition VALUES
	(NULL, NULL), ('{A}', NULL), ('{C}', NULL), ('{D}', NULL), ('{D,C}', NULL), ('{}', NULL),
	(NULL, '{boundary:x}'), (NULL, '{boundary:y}'), (NULL, '{boundary:x,boundary:y}'), (NULL, '{boundary:y,boundary:x,boundary:y}'), (NULL, '{boundary:x,boundary:z}'), (NULL, '{boundary:z}'), (NULL, '{}'), (NULL, '{BOUNDARY:X}'),
	('{A}', '{boundary:x}'), ('{A}', '{boundary:y}'), ('{A,B}', '{boundary:y}'), ('{C}', '{boundary:x}'), ('{}', '{boundary:x}'), ('{C}', '{}');
-- after each of these positions; what es_read_tagged finds is what a condition meets
SELECT types, tags, string_agg(coalesce(f.state, 'holds'), ' ' ORDER BY after) AS "after 0, 1, 2, 3",
	bool_and((f.state IS NULL) = NOT EXISTS (SELECT FROM es_read_tagged(coalesce(tags, '{}'), types, :here + after))) AS as_read
FROM condition, generate_series(0, 3) after,
	pg_temp.failure(format('SELECT es_append_if(%L, %s, %L, %L)', '[]', :here + after, types, tags)) f
GROUP BY types, tags ORDER BY types NULLS FIRST, tags NULLS FIRST;
-- what is refused stores nothing; what is not, all of it
SELECT state FROM pg_temp.failure(format('SELECT es_append_if(%L, %s, NULL, %L)',
	'[{"stream": "boundary_m-3", "type": "A"}, {"stream": "boundary_m-4", "type": "A"}]', :here, '{boundary:y}'));
SELECT es_stream_version('boundary_m-3'), es_stream_version('boundary_m-4');
SELECT es_append_if('[{"stream": "boundary_m-3", "type": "A"}, {"stream": "boundary_m-4", "type": "A"}]', :here, NULL, '{boundary:z}') = es_last_position() AS last_position;
SELECT es_stream_version('boundary_m-3'), es_stream_version('boundary_m-4');
-- a call's own events do not count, whatever they carry
SELECT es_append_if('[{"stream": "boundary_m-5", "type": "A", "tags": ["boundary:own"]}, {"stream": "boundary_m-5", "type": "B", "tags": ["boundary:own"]}]',
	0, '{A,B}', '{boundary:own}') = es_last_position() AS last_position;
-- those of the transaction do
BEGIN;
SELECT es_append('boundary_m-6', 'A', '{}', '{"tags": ["boundary:tx"]}');
SELECT state, message LIKE '%after position 0 %' AS message FROM pg_temp.failure($$SELECT es_append_if('[{"stream": "boundary_m-6", "type": "B"}]', 0, NULL, '{boundary:tx}')$$);
SAVEPOINT s;
SELECT es_append('boundary_m-6', 'A', '{}', '{"tags": ["boundary:undone"]}');
ROLLBACK TO s;
SELECT es_append_if('[{"stream": "boundary_m-6", "type": "C"}]', 0, NULL, '{boundary:undone}') = es_last_position() AS last_position;
COMMIT;
SELECT version, type FROM es_read('boundary_m-6');
-- positions after the last one, and before the first
SELECT es_append_if('[{"stream": "boundary_m-6", "type": "D"}]', 9223372036854775807) = es_last_position() AS last_position;
SELECT state FROM pg_temp.failure($$SELECT es_append_if('[]', 0)$$);

-- an empty array only checks, and returns NULL
SELECT es_append_if('[]', :here, NULL, '{boundary:z}') IS NULL AS holds;
-- expectations and checks of streams are as in es_append_many, and are looked at first
SELECT state, message, detail FROM pg_temp.failure(format('SELECT es_append_if(%L, %s, NULL, %L)',
	'[{"stream": "boundary_m-1", "type": "X", "expected_version": 7}, {"stream": "boundary_m-2", "expected_version": 0}]', :here, '{boundary:y}'));
SELECT state, message FROM pg_temp.failure(format('SELECT es_append_if(%L, %s, NULL, %L)',
	'[{"stream": "boundary_m-1", "type": "X", "expected_version": 2}]', :here, '{boundary:z}'));
SELECT es_stream_version('boundary_m-1');

-- a retry of what is stored gives its position, though its own events stand against it now
SELECT es_append_if('[
	{"stream": "boundary_retry-1", "type": "A", "tags": ["boundary:retry"], "event_id": "0189cccc-0000-7000-8000-000000000001"},
	{"stream": "boundary_retry-2", "type": "A", "tags": ["boundary:retry"], "event_id": "0189cccc-0000-7000-8000-000000000002"}]', 0, NULL, '{boundary:retry}') AS first \gset
SELECT es_append('boundary_retry-2', 'Later');
SELECT es_append_if('[
	{"stream": "boundary_retry-1", "type": "A", "tags": ["boundary:retry"], "event_id": "0189cccc-0000-7000-8000-000000000001"},
	{"stream": "boundary_retry-2", "type": "A", "tags": ["boundary:retry"], "event_id": "0189cccc-0000-7000-8000-000000000002"}]', 0, NULL, '{boundary:retry}') = :first AS same;
SELECT es_stream_version('boundary_retry-1'), es_stream_version('boundary_retry-2');
-- with another id it is another decision
SELECT state FROM pg_temp.failure($$SELECT es_append_if('[{"stream": "boundary_retry-1", "type": "A", "event_id": "0189cccc-0000-7000-8000-000000000003"}]', 0, NULL, '{boundary:retry}')$$);

-- bad arguments
SELECT f.state, f.message, statement FROM unnest(ARRAY[
	$$SELECT es_append_if(NULL, 0)$$,
	$$SELECT es_append_if('[]', NULL)$$,
	$$SELECT es_append_if('[]', 0, ARRAY['A', NULL])$$,
	$$SELECT es_append_if('[]', 0, NULL, ARRAY['a', NULL])$$,
	$$SELECT es_append_if('{}', 0)$$,
	$$SELECT es_append_if('[{"type": "A"}]', 0)$$,
	$$SELECT es_append_if('[{"stream": "boundary_bad-1", "type": "A", "tags": "a"}]', 9)$$,
	$$SELECT es_append_if('[{"stream": "boundary_bad-1", "type": "A", "tags": ["a", 1]}]', 9)$$,
	$$SELECT es_append_if('[{"stream": "boundary_bad-1", "type": "A", "tags": [""]}]', 9)$$,
	$$SELECT es_read_tagged(NULL)$$,
	$$SELECT es_read_tagged(ARRAY['a', NULL])$$,
	$$SELECT es_read_tagged('{a}', ARRAY[NULL])$$,
	$$SELECT es_read_tagged('{a}', NULL, NULL)$$,
	$$SELECT es_read_tagged('{a}', max_count => -1)$$
	]) statement, pg_temp.failure(statement) f;
SELECT es_stream_version('boundary_bad-1');

--
-- Tags: 1 to 255 bytes, by whatever way they come
--
CREATE FUNCTION pg_temp.tag(tag text) RETURNS TABLE(way text, state text) LANGUAGE sql AS $$
	SELECT way, f.state FROM (VALUES
		('es_append', format('SELECT es_append(%L, %L, %L, %L)', 'boundary_tag-1', 'T', '{}', jsonb_build_object('tags', jsonb_build_array(tag)))),
		('es_append_batch', format('SELECT es_append_batch(%L, %L)', 'boundary_tag-2', jsonb_build_array(jsonb_build_object('type', 'T', 'metadata', jsonb_build_object('tags', jsonb_build_array(tag)))))),
		('es_append_many', format('SELECT es_append_many(%L)', jsonb_build_array(jsonb_build_object('stream', 'boundary_tag-3', 'type', 'T', 'tags', jsonb_build_array(tag))))),
		('INSERT', format('INSERT INTO es_events (stream, type, data, metadata) VALUES (%L, %L, %L, %L)', 'boundary_tag-4', 'T', '{}', jsonb_build_object('tags', jsonb_build_array(tag))))
		) t(way, statement), pg_temp.failure(statement) f
$$;
SELECT way, max(state) FILTER (WHERE what = 'empty') AS empty, coalesce(max(state) FILTER (WHERE what = '255 bytes'), 'done') AS "255 bytes",
	max(state) FILTER (WHERE what = '256 bytes') AS "256 bytes", coalesce(max(state) FILTER (WHERE what = '127 of two bytes'), 'done') AS "127 of two bytes",
	max(state) FILTER (WHERE what = '128 of two bytes') AS "128 of two bytes"
FROM (VALUES ('empty', ''), ('255 bytes', repeat('t', 255)), ('256 bytes', repeat('t', 256)), ('127 of two bytes', repeat(E'\u00e9', 127)), ('128 of two bytes', repeat(E'\u00e9', 128))) v(what, tag),
	pg_temp.tag(tag) GROUP BY way ORDER BY way;
SELECT stream, es_stream_version(stream) FROM unnest('{boundary_tag-1,boundary_tag-2,boundary_tag-3,boundary_tag-4}'::text[]) stream;
SELECT stream FROM es_read_tagged(ARRAY[repeat('t', 255)]) WHERE position > :here;
-- of metadata only the strings in an array count, each once; the metadata stays as it was given
SELECT es_append('boundary_tag-5', 'T', '{}', '{"tags": ["boundary:once", 1, null, "boundary:once", ["boundary:deep"], {"a": "boundary:deep"}], "n": 1}');
SELECT es_append('boundary_tag-6', 'T', '{}', '{"tags": "boundary:scalar"}'), es_append('boundary_tag-6', 'T', '{}', '{"tags": {"boundary:key": "boundary:value"}}'), es_append('boundary_tag-6', 'T', '{}', '{"tags": []}');
SELECT tag, count(*) FROM unnest('{once,deep,scalar,key,value}'::text[]) tag, es_read_tagged(ARRAY['boundary:' || tag]) GROUP BY tag;
SELECT stream, metadata FROM es_read_tagged('{boundary:once}');

--
-- es_read_tagged: in order of position, as a page, over appends of every kind
--
SELECT es_settled_position() AS here \gset
SELECT count(es_append('boundary_r-' || n % 3, CASE n % 2 WHEN 0 THEN 'Even' ELSE 'Odd' END, to_jsonb(n), jsonb_build_object('tags', jsonb_build_array('boundary:r', 'boundary:r' || n % 5))))
FROM generate_series(1, 10) n;
COPY es_events (stream, type, data, metadata) FROM stdin;
boundary_r-0	Odd	11	{"tags": ["boundary:r", "boundary:r1"]}
boundary_r-1	Even	12	{"tags": ["boundary:r"]}
\.
INSERT INTO es_events (stream, type, data, metadata) SELECT 'boundary_r-2', 'Odd', '13', '{"tags": ["boundary:r1", "boundary:r"]}';
SELECT array_agg(data::int) FROM es_read_tagged('{boundary:r}');
SELECT array_agg(data::int) FROM es_read_tagged('{boundary:r,boundary:r1}');
SELECT array_agg(data::int) FROM es_read_tagged('{boundary:r}', '{Odd}', max_count => 3);
SELECT array_agg(data::int) FROM es_read_tagged('{boundary:r}', '{Even,Odd}', after_position => :here + 4, max_count => 2);
SELECT count(*) FROM es_read_tagged('{boundary:r}', max_count => 0);
SELECT count(*) FROM es_read_tagged('{boundary:r}', max_count => NULL);
SELECT count(*) FROM es_read_tagged('{boundary:r}', after_position => es_settled_position());
SELECT array_agg(data::int) FROM es_read_tagged('{}', '{Odd}', after_position => :here + 8);
-- it is the event as it is stored
SELECT count(*) FROM es_read_tagged('{boundary:r}') t JOIN es_read_all(:here, NULL) a ON t = a;
-- what is not final is not read, the transaction's own included
BEGIN;
SELECT es_append('boundary_r-3', 'Own', '{}', '{"tags": ["boundary:r"]}');
SELECT count(*) FROM es_read_tagged('{boundary:r}', '{Own}');
ROLLBACK;
SELECT count(*) FROM es_read_tagged('{boundary:r}', '{Own}');

--
-- Conditions that a look at a leaf of the index decides, and those that it does not: events of many tags, some
-- rolled back, before and after each tag's last one
--
CREATE FUNCTION pg_temp.holds(after bigint, tag text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM es_append_if('[]', after, tags => ARRAY[tag]);
	RETURN true;
EXCEPTION WHEN SQLSTATE 'VE011' THEN
	RETURN false;
END $$;
CREATE FUNCTION pg_temp.decide(after bigint, tag text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM es_append_if(format('[{"stream": "boundary_leaf-0", "type": "L", "tags": [%s, "boundary:leaf"]}]', to_jsonb(tag))::jsonb, after, tags => ARRAY[tag]);
	RETURN true;
EXCEPTION WHEN SQLSTATE 'VE011' THEN
	RETURN false;
END $$;
DO $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		BEGIN
			PERFORM es_append('boundary_leaf-' || i % 7, 'L', '{}', jsonb_build_object('tags', jsonb_build_array('boundary:leaf:' || i * i % 401, 'boundary:leaf')));
			IF i % 11 = 0 THEN
				RAISE SQLSTATE 'P0001';
			END IF;
		EXCEPTION WHEN SQLSTATE 'P0001' THEN
		END;
	END LOOP;
END $$;
CREATE TEMP TABLE leaf AS SELECT tag, max(position) AS last FROM es_events, jsonb_array_elements_text(metadata->'tags') tag
	WHERE stream LIKE 'boundary_leaf-%' GROUP BY tag;
SELECT count(*), count(*) FILTER (WHERE pg_temp.holds(after, tag) IS DISTINCT FROM after >= last) AS misjudged
FROM leaf, LATERAL (VALUES (0), (last - 1), (last), (last + 1)) v(after);
SELECT count(*), count(*) FILTER (WHERE pg_temp.holds(0, 'boundary:leaf:none:' || n)) AS held FROM generate_series(1, 300) n;
-- decided in turn, an append each: what is stale fails, what is not goes through
SELECT count(*), count(*) FILTER (WHERE pg_temp.decide(last - 1, tag)) AS stale FROM leaf WHERE tag <> 'boundary:leaf';
SELECT count(*), count(*) FILTER (WHERE pg_temp.decide(last, tag)) AS decided FROM leaf WHERE tag <> 'boundary:leaf';
SELECT count(*), count(*) FILTER (WHERE pg_temp.decide(last, tag)) AS stale FROM leaf WHERE tag <> 'boundary:leaf';
SELECT count(*), count(*) FILTER (WHERE pg_temp.decide(0, 'boundary:leaf:new:' || n)) AS decided FROM generate_series(1, 300) n;

--
-- Events without tags pay nothing
--
CREATE VIEW pg_temp.tag_indexes AS SELECT sum(pg_relation_size(i.indexrelid)) AS bytes FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
	JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'eventstore_tags';
SELECT bytes FROM pg_temp.tag_indexes \gset
SELECT es_append('boundary_plain-1', 'T', '{}', '{"by": "ann"}');
SELECT es_append_batch('boundary_plain-1', (SELECT jsonb_agg('{"type": "T", "metadata": {"tag": "a"}}'::jsonb) FROM generate_series(1, 2000)));
SELECT count(*) FROM es_append_many('[{"stream": "boundary_plain-1", "type": "T"}, {"stream": "boundary_plain-2", "type": "T", "tags": []}]');
SELECT es_append_if('[{"stream": "boundary_plain-1", "type": "T"}]', 0, '{Unheard}') = es_last_position() AS last_position;
INSERT INTO es_events (stream, type, data) SELECT 'boundary_plain-' || n % 10, 'T', '{}' FROM generate_series(1, 2000) n;
SELECT bytes - :bytes AS bytes FROM pg_temp.tag_indexes;

-- a role needs 'append', and 'read' for what it decides by, and no right on the tables
CREATE ROLE regress_es_boundary;
SET ROLE regress_es_boundary;
SELECT es_append_if('[]', 0);
\echo :SQLSTATE
SELECT es_read_tagged('{a}');
\echo :SQLSTATE
RESET ROLE;
SELECT es_grant('regress_es_boundary', 'append', 'boundary_role'), es_grant('regress_es_boundary', 'read', 'boundary_role');
SET ROLE regress_es_boundary;
SELECT es_append_if('[{"stream": "boundary_role-1", "type": "A", "tags": ["boundary:role"]}]', 0, NULL, '{boundary:role}') > 0 AS appended;
SELECT stream FROM es_read_tagged('{boundary:role}');
RESET ROLE;
DROP OWNED BY regress_es_boundary;
DROP ROLE regress_es_boundary;
