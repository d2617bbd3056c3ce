-- decide.sql: a log with tags and conditional appends as one would write it by hand,
-- in two forms. Conditions are about one tag. The caller's isolation level is what makes
-- append_if right: SERIALIZABLE, and again after 40001. append_if_locked is for READ
-- COMMITTED: it takes a lock for each tag first.

-- tags in rows of their own, by a btree
CREATE SCHEMA tagged;

CREATE TABLE tagged.events (
	position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	type text NOT NULL,
	data jsonb NOT NULL,
	metadata jsonb NOT NULL,
	event_id uuid NOT NULL DEFAULT gen_random_uuid(),
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE tagged.tags (
	tag text,
	position bigint,
	PRIMARY KEY (tag, position)
);

CREATE FUNCTION tagged.append_if(type text, data jsonb, metadata jsonb, tags text[], after bigint, condition text) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	last bigint;
BEGIN
	IF EXISTS (SELECT FROM tagged.tags t WHERE t.tag = condition AND t.position > after) THEN
		RAISE EXCEPTION 'an event with tag % is later than %', condition, after USING ERRCODE = 'VE011';
	END IF;
	INSERT INTO tagged.events AS e (type, data, metadata) VALUES (type, data, metadata) RETURNING e.position INTO last;
	INSERT INTO tagged.tags SELECT unnest(tags), last;
	RETURN last;
END $$;

CREATE FUNCTION tagged.append_if_locked(type text, data jsonb, metadata jsonb, tags text[], after bigint, condition text) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(tag, 0) AS key
		FROM unnest(tags || condition) tag ORDER BY key OFFSET 0) k;
	RETURN tagged.append_if(type, data, metadata, tags, after, condition);
END $$;

-- tags as an array, by GIN. With fastupdate, a serializable look would lock the whole index.
CREATE SCHEMA gin;

CREATE TABLE gin.events (
	position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	type text NOT NULL,
	data jsonb NOT NULL,
	metadata jsonb NOT NULL,
	tags text[] NOT NULL,
	event_id uuid NOT NULL DEFAULT gen_random_uuid(),
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX ON gin.events USING gin (tags) WITH (fastupdate = off);

CREATE FUNCTION gin.append_if(type text, data jsonb, metadata jsonb, tags text[], after bigint, condition text) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	last bigint;
BEGIN
	IF EXISTS (SELECT FROM gin.events e WHERE e.tags @> ARRAY[condition] AND e.position > after) THEN
		RAISE EXCEPTION 'an event with tag % is later than %', condition, after USING ERRCODE = 'VE011';
	END IF;
	INSERT INTO gin.events AS e (type, data, metadata, tags) VALUES (type, data, metadata, tags) RETURNING e.position INTO last;
	RETURN last;
END $$;

-- one event each with n tags, so that no table is empty
CREATE PROCEDURE tagged.prime(n int) LANGUAGE plpgsql AS $$
BEGIN
	WITH e AS (INSERT INTO tagged.events (type, data, metadata)
		SELECT 'Opened', bench.data(i), bench.metadata(i) FROM generate_series(1, n) i RETURNING position)
	INSERT INTO tagged.tags SELECT 'account-' || position, position FROM e;
	INSERT INTO gin.events (type, data, metadata, tags)
		SELECT 'Opened', bench.data(i), bench.metadata(i), ARRAY['account-' || i] FROM generate_series(1, n) i;
	ANALYZE tagged.events, tagged.tags, gin.events;
END $$;
