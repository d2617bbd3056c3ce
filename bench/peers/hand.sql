-- hand.sql: the append that people write by hand in plpgsql: a row a stream
-- with its version, a row an event, two unique indexes

CREATE SCHEMA hand;

CREATE TABLE hand.streams (
	stream text PRIMARY KEY,
	version bigint NOT NULL
);

CREATE TABLE hand.events (
	position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream text NOT NULL,
	version bigint NOT NULL,
	type text NOT NULL,
	data jsonb NOT NULL,
	metadata jsonb NOT NULL,
	event_id uuid NOT NULL DEFAULT gen_random_uuid(),
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	UNIQUE (stream, version)
);

CREATE FUNCTION hand.append_batch(stream text, events jsonb, expected_version bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	n bigint := jsonb_array_length(events);
	last bigint;
BEGIN
	INSERT INTO hand.streams AS s VALUES (stream, n)
		ON CONFLICT ON CONSTRAINT streams_pkey DO UPDATE SET version = s.version + n
		RETURNING s.version INTO last;
	IF last - n <> expected_version THEN
		RAISE EXCEPTION 'stream % is at version %, not %', stream, last - n, expected_version;
	END IF;
	INSERT INTO hand.events (stream, version, type, data, metadata)
		SELECT stream, last - n + i, e ->> 'type', e -> 'data', e -> 'metadata'
		FROM jsonb_array_elements(events) WITH ORDINALITY AS x(e, i);
	RETURN last;
END $$;

CREATE FUNCTION hand.append(stream text, type text, data jsonb, metadata jsonb, expected_version bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	last bigint;
BEGIN
	INSERT INTO hand.streams AS s VALUES (stream, 1)
		ON CONFLICT ON CONSTRAINT streams_pkey DO UPDATE SET version = s.version + 1
		RETURNING s.version INTO last;
	IF last - 1 <> expected_version THEN
		RAISE EXCEPTION 'stream % is at version %, not %', stream, last - 1, expected_version;
	END IF;
	INSERT INTO hand.events (stream, version, type, data, metadata) VALUES (stream, last, type, data, metadata);
	RETURN last;
END $$;
