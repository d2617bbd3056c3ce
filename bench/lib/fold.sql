-- fold.sql: accounts to fold, and the same fold in several ways. Each event
-- carries the balance that it leads to, so that merging data gives the same
-- state as setting fields and adding amounts.

-- how many accounts of how many events to make, with how many keys in a state
CREATE TABLE bench.kinds (
	category text PRIMARY KEY,
	streams bigint NOT NULL,
	length bigint NOT NULL,
	keys int NOT NULL
);

-- Opened sets all keys; then come by turns Deposited, which sets four fields and
-- adds to the balance, and Changed, which sets one key. Both have 300 bytes of
-- data and 100 of metadata. "alive" streams of a category get their events
-- between each other's, each "together" events at a time.
CREATE PROCEDURE bench.make_accounts(alive bigint, together int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count(es_append(category || '-' || s, type,
		CASE type
			WHEN 'Opened' THEN (SELECT jsonb_object_agg(to_char(k, 'FMk0000'), md5(n || '.' || k)) || '{"balance": 0}'
				FROM generate_series(0, keys - 1) k)
			WHEN 'Deposited' THEN jsonb_build_object('amount', amount, 'balance', balance, 'currency', 'EUR',
				'reference', md5(n::text), 'text', left(repeat(md5(n || 'a') || md5(n || 'b'), 3), 186))
			ELSE jsonb_build_object(to_char(version * 7919 % keys, 'FMk0000'), md5(n || 'k'),
				'reference', md5(n::text), 'text', left(repeat(md5(n || 'a') || md5(n || 'b'), 3), 190))
		END,
		jsonb_build_object('user', 10000 + n * 104729 % 90000, 'correlationId', md5(n || 'c'), 'tag', left(md5(n || 't'), 19))))
	FROM (
		SELECT *, sum(amount) OVER (PARTITION BY category, s ORDER BY version)::bigint AS balance
		FROM (SELECT *, current_setting('bench.seed')::bigint * 1000000000000 + s * 1000000 + version AS n,
				CASE WHEN version % 2 = 0 THEN 100 + (s + version) * 7919 % 900 ELSE 0 END AS amount,
				CASE WHEN version = 1 THEN 'Opened' WHEN version % 2 = 0 THEN 'Deposited' ELSE 'Changed' END AS type
			FROM bench.kinds, generate_series(1, streams) s, generate_series(1, length) version) e
		ORDER BY s / alive, (version - 1) / together * together::float8 / length, category, s, version
		OFFSET 0) e;
END $$;

-- by functions
CREATE FUNCTION bench.merge_sql(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT state || data $$;
CREATE FUNCTION bench.deposit_sql(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT state || jsonb_build_object('amount', data -> 'amount', 'currency', data -> 'currency',
		'reference', data -> 'reference', 'text', data -> 'text',
		'balance', (state -> 'balance')::numeric + (data -> 'amount')::numeric) $$;
CREATE FUNCTION bench.merge_plpgsql(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
	$$ BEGIN RETURN state || data; END $$;
CREATE FUNCTION bench.deposit_plpgsql(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
	$$ BEGIN RETURN state || jsonb_build_object('amount', data -> 'amount', 'currency', data -> 'currency',
		'reference', data -> 'reference', 'text', data -> 'text',
		'balance', (state -> 'balance')::numeric + (data -> 'amount')::numeric); END $$;
SELECT es_register_reducer('bench_' || language, type, ('bench.' || function || '_' || language || '(jsonb, jsonb)')::regprocedure)
FROM unnest(ARRAY['sql', 'plpgsql']) language,
	(VALUES ('Opened', 'merge'), ('Changed', 'merge'), ('Deposited', 'deposit')) h(type, function);

-- by ops
CREATE PROCEDURE bench.make_ops_reducer(reducer text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM es_register_reducer_ops(reducer, type, '"merge"') FROM unnest(ARRAY['Opened', 'Changed']) type;
	PERFORM es_register_reducer_ops(reducer, 'Deposited', '[
		{"set": {"amount": "$.data.amount", "currency": "$.data.currency", "reference": "$.data.reference", "text": "$.data.text"}},
		{"inc": {"balance": "$.data.amount"}}]');
END $$;
CALL bench.make_ops_reducer('bench_ops');

-- by SQL alone: the table bench.accounts is like the log
CREATE AGGREGATE bench.concat(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}');
CREATE FUNCTION bench.fold_loop(id bigint) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
	state jsonb := '{}';
	event record;
BEGIN
	FOR event IN SELECT a.data FROM bench.accounts a WHERE a.stream_id = id ORDER BY a.version LOOP
		state := state || event.data;
	END LOOP;
	RETURN state;
END $$;
