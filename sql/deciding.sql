-- The example of the manual's chapter "Deciding", and what it promises.
\set VERBOSITY terse
CREATE SCHEMA deciding;
SET search_path = deciding, public;

CREATE FUNCTION define_course(course text, seats int) RETURNS bigint LANGUAGE sql AS $$
    SELECT es_append_if(
        jsonb_build_array(jsonb_build_object('stream', 'course-' || course, 'type', 'CourseDefined',
            'data', jsonb_build_object('seats', seats), 'tags', jsonb_build_array('course:' || course))),
        after_position => 0, types => '{CourseDefined}', tags => ARRAY['course:' || course]);
$$;

CREATE FUNCTION enrol(student text, course text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    question jsonb := jsonb_build_array(
        jsonb_build_object('types', '["CourseDefined", "Enrolled", "Left"]'::jsonb, 'tags', jsonb_build_array('course:' || course)),
        jsonb_build_object('types', '["Enrolled", "Left"]'::jsonb, 'tags', jsonb_build_array('student:' || student)));
    here text := 'course:' || course;
    me text := 'student:' || student;
    seats int;
    taken int;
    courses int;
    twice boolean;
    decided_on bigint;
BEGIN
    SELECT max((data->>'seats')::int) FILTER (WHERE type = 'CourseDefined'),
        sum(CASE type WHEN 'Enrolled' THEN 1 WHEN 'Left' THEN -1 ELSE 0 END) FILTER (WHERE metadata->'tags' ? here),
        coalesce(sum(CASE type WHEN 'Enrolled' THEN 1 WHEN 'Left' THEN -1 ELSE 0 END) FILTER (WHERE metadata->'tags' ? me), 0),
        coalesce(sum(CASE type WHEN 'Enrolled' THEN 1 WHEN 'Left' THEN -1 ELSE 0 END) FILTER (WHERE metadata->'tags' ?& ARRAY[here, me]), 0) > 0,
        coalesce(max(position), 0)
    INTO seats, taken, courses, twice, decided_on
    FROM es_read_query(question, max_count => NULL);
    IF seats IS NULL THEN
        RAISE EXCEPTION 'there is no course "%"', course;
    ELSIF taken >= seats THEN
        RAISE EXCEPTION 'course "%" is full', course;
    ELSIF courses >= 3 THEN
        RAISE EXCEPTION 'student "%" has three courses', student;
    ELSIF twice THEN
        RAISE EXCEPTION 'student "%" has course "%" already', student, course;
    END IF;
    RETURN es_append_if(
        jsonb_build_array(jsonb_build_object('stream', 'course-' || course, 'type', 'Enrolled', 'tags', jsonb_build_array(here, me))),
        decided_on, query => question);
END $$;

SELECT define_course('db', 2) > 0 AS defined, define_course('os', 3) > 0 AS defined, define_course('ai', 9) > 0 AS defined, define_course('se', 9) > 0 AS defined;
\set VERBOSITY sqlstate
SELECT define_course('db', 5);
\set VERBOSITY terse
SELECT enrol('ann', 'db') > 0 AS enrolled;
SELECT enrol('ann', 'db');
SELECT enrol('bob', 'db') > 0 AS enrolled;
SELECT enrol('eve', 'db');
SELECT enrol('ann', 'ui');
-- a transaction decides once about a boundary
\set VERBOSITY sqlstate
SELECT enrol('ann', 'os') > 0 AS enrolled, enrol('ann', 'ai') > 0 AS enrolled;
\set VERBOSITY terse
SELECT enrol('ann', 'os') > 0 AS enrolled;
SELECT enrol('ann', 'ai') > 0 AS enrolled;
SELECT enrol('ann', 'se');
-- who leaves makes room, in the course and for the student
SELECT es_append('course-db', 'Left', '{}', '{"tags": ["course:db", "student:ann"]}') > 0 AS left;
SELECT enrol('eve', 'db') > 0 AS enrolled;
SELECT enrol('ann', 'se') > 0 AS enrolled;
SELECT enrol('ann', 'db');

-- a decision that something has come after: by the course's item, by the student's, by none
SELECT es_settled_position() AS here \gset
SELECT es_append('course-os', 'Enrolled', '{}', '{"tags": ["course:os", "student:joe"]}') > 0 AS appended;
\set condition '[{"types": ["CourseDefined", "Enrolled", "Left"], "tags": ["course:os"]}, {"types": ["Enrolled", "Left"], "tags": ["student:max"]}]'
\set other '[{"types": ["CourseDefined", "Enrolled", "Left"], "tags": ["course:ai"]}, {"types": ["Enrolled", "Left"], "tags": ["student:joe"]}]'
\set none '[{"types": ["CourseDefined", "Enrolled", "Left"], "tags": ["course:ai"]}, {"types": ["Enrolled", "Left"], "tags": ["student:max"]}]'
\set event '[{"stream": "course-os", "type": "Enrolled", "tags": ["course:os", "student:max"]}]'
\set VERBOSITY sqlstate
SELECT es_append_if(:'event', :here, query => :'condition');
SELECT es_append_if(:'event', :here, query => :'other');
SELECT es_append_if(:'event', :here, query => :'none') > 0 AS appended;

-- one effect, by a tag of the command
SELECT es_append_if('[{"stream": "order-8", "type": "OrderPlaced", "tags": ["command:6ba7b810"]}]', 0, tags => '{command:6ba7b810}') > 0 AS placed;
SELECT es_append_if('[{"stream": "order-9", "type": "OrderPlaced", "tags": ["command:6ba7b810"]}]', 0, tags => '{command:6ba7b810}');

DROP SCHEMA deciding CASCADE;
