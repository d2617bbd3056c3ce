-- decide.sql: decisions by tags, and what they are made on

-- events with tags, as es_append_batch takes them: each has the tag "common" and
-- that of one of total / 10 items, ten of total have "rare" too
CREATE FUNCTION bench.tagged_batch(first bigint, n bigint, total bigint, data jsonb, metadata jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT jsonb_agg(jsonb_build_object('type', 'Deposited', 'data', data, 'metadata', metadata || jsonb_build_object('tags',
			CASE WHEN i % (total / 10) = 0 THEN ARRAY['rare'] ELSE '{}' END || ARRAY['common',
			'item-' || abs(hashint8extended(i, 1) % (total / 10))])))
	   FROM generate_series(first, first + n - 1) i $$;

-- one of several that fill a log together, a stream of 1,000 events at a time
CREATE PROCEDURE bench.fill_tagged(total bigint, part int, parts int) LANGUAGE plpgsql AS $$
DECLARE
	data jsonb := bench.data(1);
	metadata jsonb := bench.metadata(1);
BEGIN
	FOR s IN part .. total / 1000 - 1 BY parts LOOP
		PERFORM es_append_batch('filled-' || s, bench.tagged_batch(s * 1000::bigint, 1000, total, data, metadata));
		COMMIT;
	END LOOP;
END $$;

-- what a client appends in its boundary, as es_append_many and es_append_if take it
CREATE FUNCTION bench.decided(stream text, tag text) RETURNS text
	LANGUAGE sql STABLE AS
	$$ SELECT jsonb_build_array(jsonb_build_object('stream', stream, 'type', 'Deposited', 'data', bench.data(1),
		'metadata', bench.metadata(1), 'tags', ARRAY[tag]))::text $$;

-- the same event's metadata as es_append takes it
CREATE FUNCTION bench.decided_metadata(tag text) RETURNS text
	LANGUAGE sql STABLE AS
	$$ SELECT (bench.metadata(1) || jsonb_build_object('tags', ARRAY[tag]))::text $$;

-- The course subscriptions. A round has 120 decisions: 10 courses of 10 places, 10 students
-- that may be in 10 courses, all of them in all. bench/peers/decide.c and decide.mjs do the same.

CREATE FUNCTION bench.define_course(round text, course int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	tag text := 'course-' || round || '-' || course;
	query jsonb := jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(tag)));
BEGIN
	IF EXISTS (SELECT FROM es_read_query(query, max_count => 1)) THEN
		RAISE EXCEPTION '% is defined already', tag;
	END IF;
	RETURN es_append_if(jsonb_build_array(jsonb_build_object('stream', tag, 'type', 'CourseDefined',
		'data', jsonb_build_object('course', tag, 'capacity', 10), 'tags', jsonb_build_array(tag))), 0, query => query);
END $$;

CREATE FUNCTION bench.register_student(round text, student int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	tag text := 'student-' || round || '-' || student;
	query jsonb := jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(tag)));
BEGIN
	IF EXISTS (SELECT FROM es_read_query(query, max_count => 1)) THEN
		RAISE EXCEPTION '% is registered already', tag;
	END IF;
	RETURN es_append_if(jsonb_build_array(jsonb_build_object('stream', tag, 'type', 'StudentRegistered',
		'data', jsonb_build_object('student', tag), 'tags', jsonb_build_array(tag))), 0, query => query);
END $$;

CREATE FUNCTION bench.enrol(round text, c int, s int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	course text := 'course-' || round || '-' || c;
	student text := 'student-' || round || '-' || s;
	query jsonb := jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(course)),
		jsonb_build_object('tags', jsonb_build_array(student)));
	capacity int;
	registered boolean := false;
	taken int := 0;
	courses int := 0;
	last bigint := 0;
	e record;
BEGIN
	FOR e IN SELECT position, type, data FROM es_read_query(query, max_count => NULL) LOOP
		last := e.position;
		IF e.type = 'CourseDefined' THEN
			capacity := e.data -> 'capacity';
		ELSIF e.type = 'StudentRegistered' THEN
			registered := true;
		ELSE
			IF e.data ->> 'course' = course THEN
				taken := taken + 1;
			END IF;
			IF e.data ->> 'student' = student THEN
				courses := courses + 1;
			END IF;
			IF e.data ->> 'course' = course AND e.data ->> 'student' = student THEN
				RAISE EXCEPTION '% is in % already', student, course;
			END IF;
		END IF;
	END LOOP;
	IF capacity IS NULL OR NOT registered OR taken >= capacity OR courses >= 10 THEN
		RAISE EXCEPTION '% cannot be in %', student, course
			USING DETAIL = format('capacity %s, taken %s, courses %s, registered %s', capacity, taken, courses, registered);
	END IF;
	RETURN es_append_if(jsonb_build_array(jsonb_build_object('stream', course, 'type', 'Enrolled',
		'data', jsonb_build_object('course', course, 'student', student), 'tags', jsonb_build_array(course, student))), last, query => query);
END $$;

-- decision n of a session: 120 a round
CREATE FUNCTION bench.decision(session text, n int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	round text := session || '-' || n / 120;
	i int := n % 120;
BEGIN
	RETURN CASE
		WHEN i < 10 THEN bench.define_course(round, i)
		WHEN i < 20 THEN bench.register_student(round, i - 10)
		ELSE bench.enrol(round, (i - 20) / 10, (i - 20) % 10) END;
END $$;

-- decisions, each a transaction, for so long; how many, and how many a second
CREATE PROCEDURE bench.decisions(session text, seconds float8, INOUT n int DEFAULT 0, INOUT rate float8 DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
	elapsed float8 := 0;
BEGIN
	WHILE elapsed < seconds LOOP
		PERFORM bench.decision(session, n);
		COMMIT;
		n := n + 1;
		elapsed := extract(epoch FROM clock_timestamp() - start);
	END LOOP;
	rate := n / elapsed;
END $$;
