-- data.sql: deterministic events, and bare tables that are like the log

CREATE SCHEMA bench;

-- some hex digits that depend on the seed and n only
CREATE FUNCTION bench.noise(n bigint, digits int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT left(string_agg(md5(current_setting('bench.seed') || '.' || n || '.' || i), ''), digits)
	   FROM generate_series(1, (digits + 31) / 32) i $$;

SELECT format('ALTER DATABASE %I SET bench.seed = %L', current_database(), :'seed') \gexec
SET bench.seed = :'seed';

-- 300 bytes of text
CREATE FUNCTION bench.data(n bigint) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT jsonb_build_object('amount', 100000 + n * 7919 % 900000, 'currency', 'EUR',
		'reference', bench.noise(n, 32), 'text', bench.noise(-n, 198)) $$;

-- 100 bytes of text
CREATE FUNCTION bench.metadata(n bigint) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT jsonb_build_object('user', 10000 + n * 104729 % 90000, 'correlationId', bench.noise(n, 32),
		'tag', bench.noise(n + 1, 19)) $$;

-- n events as es_append_batch takes them
CREATE FUNCTION bench.batch(first bigint, n bigint) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT jsonb_agg(jsonb_build_object('type', 'Deposited', 'data', bench.data(i), 'metadata', bench.metadata(i)) ORDER BY i)
	   FROM generate_series(first, first + n - 1) i $$;

CREATE PROCEDURE bench.make_bare(name text, like_segment boolean) LANGUAGE plpgsql AS $$
DECLARE
	segment regclass := (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass
		ORDER BY inhrelid LIMIT 1);
BEGIN
	EXECUTE format('DROP TABLE IF EXISTS bench.%I', name);
	EXECUTE format('CREATE TABLE bench.%I (LIKE %s INCLUDING STORAGE INCLUDING COMPRESSION%s)', name,
		segment, CASE WHEN like_segment THEN ' INCLUDING INDEXES' ELSE '' END);
	IF NOT like_segment THEN
		EXECUTE format('CREATE UNIQUE INDEX ON bench.%I (position)', name);
		EXECUTE format('CREATE UNIQUE INDEX ON bench.%I (stream_id, version)', name);
	END IF;
	EXECUTE format('CREATE SEQUENCE bench.%I OWNED BY bench.%I.position', name || '_position', name);
	EXECUTE format('ALTER TABLE bench.%I
		ALTER position SET DEFAULT nextval(%L), ALTER recorded_at SET DEFAULT clock_timestamp(),
		ALTER event_id SET DEFAULT gen_random_uuid(), ALTER category_key SET DEFAULT 1,
		ALTER type_version SET DEFAULT 1, ALTER run_length SET DEFAULT 1, ALTER id_given SET DEFAULT false', name, 'bench.' || name || '_position');
END $$;
