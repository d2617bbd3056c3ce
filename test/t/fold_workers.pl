# es_replay_category in FROM with workers that go on while its rows are used, in parallel mode: which statements are executed
# so and which not, that both give the same, and what becomes of workers when no more rows are wanted, when they end, are
# cancelled, or fail.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 16\nmax_parallel_workers_per_gather = 2\nautovacuum = off\n");

new_store($node, 'store');
sub sql { return $node->safe_psql('store', join('', @_)); }

# 30,000 streams of two events, and of another category between them; then a few whose events fail in operations
sql(q{
	SELECT count(*) FROM generate_series(0, 59) g, es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', c || '-' || n, 'type', 'A', 'data', jsonb_build_object('n', n, 'text', md5(n::text))))
		FROM generate_series(1 + g % 30 * 1000, (g % 30 + 1) * 1000) n, unnest(CASE WHEN g % 3 = 0 THEN '{many,other}'::text[] ELSE '{many}' END) c));
	SELECT es_register_reducer_ops('plain', '*', '[{"inc": {"n": 1}}, {"set": {"text": "$.data.text"}}]'),
		es_register_reducer_ops('kept', '*', '[{"inc": {"n": 1}}, {"set": {"text": "$.data.text"}}]'), es_snapshot_every('kept', 1);
	SELECT es_append('plain-1', 'A', '{}');
	CREATE FUNCTION by_function(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS
		$$ BEGIN RETURN jsonb_build_object('n', coalesce((state->>'n')::int, 0) + 1, 'text', data->'text'); END $$;
	SELECT es_register_reducer('called', '*', 'by_function(jsonb, jsonb)');
	-- needs a transaction id, which cannot be had in parallel mode
	CREATE FUNCTION write() RETURNS text LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$ BEGIN PERFORM pg_current_xact_id(); RETURN 'written'; END $$;
	CREATE FUNCTION unsafe(t text) RETURNS text LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$ SELECT t $$;
	CREATE FUNCTION looks(t text) RETURNS text LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$ BEGIN PERFORM 1 FROM pg_class LIMIT 1; RETURN t; END $$;
	CREATE FUNCTION nap(seconds float8) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN PERFORM pg_sleep(seconds) WHERE seconds > 0; RETURN 1; END $$;
	CREATE TABLE other (name text PRIMARY KEY, n int);
	INSERT INTO other SELECT 'many-' || n, n FROM generate_series(1, 30000, 3) n;
	ANALYZE other});
my $all = sql(q{SET max_parallel_workers_per_gather = 0; SELECT count(*), md5(string_agg(r::text, '' ORDER BY stream)) FROM es_replay_category('many', 'plain') r});

like($all, qr/^30000\|/, 'all streams');

# try_sql(sql): its result, or the first error.
sub try_sql
{
	my ($ret, $out, $err) = $node->psql('store', join('', @_));

	return $err =~ /ERROR:  (.*)/ ? ($1 =~ /during a parallel operation/ ? 'parallel' : $1) : $out;
}

# Which statements: write() tells.
my $from = "FROM es_replay_category('many', 'plain') r";
my $digest = "count(*), md5(string_agg(r::text, '' ORDER BY stream))";

is(try_sql("SELECT DISTINCT write() $from"), 'parallel', 'a query');
is(try_sql("SELECT DISTINCT write() $from JOIN other ON name = stream WHERE version > 0"), 'parallel', 'a join');
is(try_sql("WITH w AS MATERIALIZED (SELECT write() $from) SELECT * FROM w UNION SELECT write()"), 'parallel', 'in WITH, under UNION');
is(try_sql("SELECT DISTINCT w FROM (SELECT write() AS w $from OFFSET 0) s"), 'parallel', 'in a subquery');
is(try_sql("SELECT DISTINCT write() FROM es_replay_category('many', 'plain', now())"), 'parallel', 'as of a time');
is(try_sql("SELECT DISTINCT write() FROM es_replay_category('plain')"), 'parallel', 'by the reducer named like the category');
is(try_sql("PREPARE p (text) AS SELECT DISTINCT write() FROM es_replay_category('many', \$1); SET plan_cache_mode = force_custom_plan; EXECUTE p ('plain')"), 'parallel', 'a parameter whose value the plan is for');
is(try_sql("PREPARE p (text) AS SELECT DISTINCT write() FROM es_replay_category('many', \$1); SET plan_cache_mode = force_generic_plan; EXECUTE p ('plain')"), 'written', 'not one whose value it is not for');
is(try_sql("SELECT DISTINCT write() || (SELECT count(*) $from)"), 'written30000', 'nor in a subquery among expressions');
is(try_sql("SELECT DISTINCT write() FROM generate_series(1, 2) g, es_replay_category('many', 'plain', now() - g * interval '1 year')"), '', 'nor with arguments of another row');
is(try_sql("SELECT DISTINCT write() FROM generate_series(1, 2) g, es_replay_category('many', 'plain', now() + g * interval '1 year')"), 'written', 'which are used');
is(try_sql("SELECT DISTINCT write(), unsafe('x') $from"), 'written|x', 'nor beside a function that is PARALLEL UNSAFE');
is(try_sql("SELECT DISTINCT write(), looks('x') $from"), 'written|x', 'nor beside one that is VOLATILE');
is(try_sql("SET max_parallel_workers_per_gather = 0; SELECT DISTINCT write() $from"), 'written', 'nor where no workers are to be');
is(try_sql("SELECT DISTINCT write() FROM es_replay_category('many', 'called')"), 'written', 'nor where functions are called');
is(try_sql("SELECT DISTINCT write() FROM es_replay_category('many', 'kept')"), 'written', 'nor where snapshots are left');
is(sql("SELECT count(*) FROM es_replay_category('many', 'kept'); SELECT count(*) FROM eventstore.snapshots"), "30000\n30000", 'which are');
is(try_sql("SELECT DISTINCT write() FROM es_replay_category('many', 'nobody')"), 'reducer "nobody" does not exist', 'nor by a reducer that is not there');
is(try_sql("EXPLAIN SELECT * FROM es_replay_category('many', 'nobody')") =~ /EventstoreFold/ ? 1 : 0, 1, 'which EXPLAIN does not mind');
is(try_sql("BEGIN; DECLARE c CURSOR FOR SELECT write() $from; MOVE 20000 FROM c; FETCH 1 FROM c; CREATE TABLE between (); FETCH 1 FROM c; ROLLBACK"), "written\nwritten", 'nor by a cursor, between whose rows others write');
is(try_sql(qq{DO \$\$ DECLARE r record; n int := 0; t text; BEGIN
	FOR r IN SELECT stream $from LOOP n := n + 1; IF n % 10000 = 0 THEN PERFORM es_append('log-1', 'L', '{}'); END IF; END LOOP;
	END \$\$; SELECT es_stream_version('log-1')}), '3', 'nor in a loop, between whose rows others are appended');
is(try_sql("INSERT INTO other SELECT write() || stream, 1 $from; SELECT count(*) FROM other WHERE name LIKE 'writtenm%'"), '30000', 'nor in an INSERT');

# Two calls, of which one must not be in parallel mode, in either order.
foreach my $other ("es_replay_category('many', 'kept')", "es_replay_category('many', 'called')", "generate_series(1, 2) g, LATERAL es_replay_category('plain', 'plain', now() + g * interval '1 day')")
{
	is(try_sql("SELECT count(*) FROM (SELECT 1 $from OFFSET 29999) a, (SELECT 1 FROM $other LIMIT 2) b"), '2', "beside $other");
	is(try_sql("SELECT count(*) FROM (SELECT 1 FROM $other LIMIT 2) b, (SELECT 1 $from OFFSET 29999) a"), '2', 'and the other way round');
}

like(sql("EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT count(*) $from"), qr/Portions: \d\n\s*Streams Folded: 30000\n\s*Workers Launched: 2\n/, 'workers are there, and are started once');

# by_workers(sql): how many streams workers have folded.
sub by_workers { return sql('EXPLAIN (ANALYZE, COSTS off, TIMING off) ', @_) =~ /Streams Folded by Workers: (\d+)/ ? $1 : 0; }
cmp_ok(by_workers("SELECT count(nap(CASE WHEN split_part(stream, '-', 2)::int % 100 = 0 THEN 0.001 ELSE 0 END)) $from"), '>', 5000, 'they fold their share');

# States that are larger than what a queue holds: workers do not wait until the leader has folded all others, and nothing goes to a file.
sql(q{SELECT count(*) FROM generate_series(0, 1) g, es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'large-' || n, 'type', 'A', 'data', jsonb_build_object('text', CASE WHEN n > 15 THEN repeat(md5(n::text), 2500) END)) ORDER BY n)
		FROM generate_series(1, 900) n, generate_series(1, CASE WHEN n <= 15 THEN 1500 ELSE 1 END) m));});
cmp_ok(by_workers("SELECT count(nap(0.001)), count(state) FROM es_replay_category('large', 'plain')"), '>', 200, 'large states, too');
is(sql("SET log_temp_files = 0; SET client_min_messages = log; SELECT count(state) FROM es_replay_category('large', 'plain')"), '900', 'and all of them');

# A category whose streams are at both ends of many others': few of the last ones are the leader's alone.
sql(q{SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'ends-' || n, 'type', 'A', 'data', '{}'::jsonb)) FROM generate_series(1, 200) n, generate_series(1, 101) m));
	SELECT count(*) FROM generate_series(0, 19) g, es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'between-' || n, 'type', 'A', 'data', '{}'::jsonb)) FROM generate_series(g * 5000 + 1, (g + 1) * 5000) n));
	SELECT count(*) FROM generate_series(0, 9) g, es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'ends-' || n, 'type', 'A', 'data', '{}'::jsonb)) FROM generate_series(201 + g * 400, 600 + g * 400) n, generate_series(1, 20) m))});
cmp_ok(by_workers("SELECT count(nap(0.0001)), count(state) FROM es_replay_category('ends', 'plain')"), '>', 1000, 'the streams of an end');

# What such a plan gives, with which of its rows.
is(sql("SELECT $digest $from"), $all, 'all of it');
is(sql("SET max_parallel_workers = 0; SELECT $digest $from"), $all, 'without a worker to be had');
is(sql("SET default_transaction_isolation = '$_'; SELECT $digest $from"), $all, $_) foreach 'repeatable read', 'serializable';
is(sql("SELECT count(*), count(DISTINCT a.stream) FROM es_replay_category('many', 'plain') a JOIN es_replay_category('many', 'merge') b USING (stream)"), '30000|30000', 'two nodes, each with workers');
is(sql("SELECT count(*), count(DISTINCT stream) FROM generate_series(1, 2), LATERAL (SELECT stream $from OFFSET 0) s"), '60000|30000', 'scanned again');
is(sql("SELECT g, (SELECT count(*) FROM (SELECT 1 $from WHERE version >= 0 LIMIT 25000 + g) s) FROM generate_series(1, 2) g"), "1|25001\n2|25002", 'scanned again, in part');
is(sql("SET enable_material = off; SELECT count(*) FROM (VALUES (25000), (26000)) v (n) CROSS JOIN LATERAL (SELECT stream $from LIMIT n) s"), '51000', 'the same, by a nested loop');
is(sql("SELECT count(*) FROM (SELECT 1 $from LIMIT 15000) s; SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'"), "15000\n0", 'no more rows wanted: workers have gone');
is(sql("CREATE TABLE made AS SELECT r.* $from; SELECT $digest FROM made r"), $all, 'CREATE TABLE AS');
is(sql("CREATE MATERIALIZED VIEW seen AS SELECT r.* $from; SELECT $digest FROM seen r"), $all, 'a materialized view');
is(sql("SELECT max_parallel FROM (SELECT count(write()) AS max_parallel FROM es_replay_category('none', 'plain')) s"), '0', 'a category without streams');

# What the transaction itself has written is seen, and what a function appends between two rows of another statement is not.
is(sql(qq{BEGIN; SELECT es_append('many-7', 'A', '{"text": "own"}') > 0; SELECT count(*) FILTER (WHERE state->>'text' = 'own'), count(*) $from; ROLLBACK}), "t\n1|30000", 'own events');
is(sql(qq{BEGIN; CREATE FUNCTION look() RETURNS text LANGUAGE plpgsql AS \$f\$ BEGIN RETURN (SELECT concat(count(*) FILTER (WHERE state->>'text' = 'own'), '|', count(*)) $from); END \$f\$;
	CREATE FUNCTION look_now() RETURNS text LANGUAGE plpgsql AS \$f\$ DECLARE t text; BEGIN
		INSERT INTO es_events (stream, type, data) SELECT 'many-7', 'A', '{"text": "own"}' UNION ALL SELECT 'many-8', 'A', jsonb_build_object('text', look());
		EXECUTE \$q\$SELECT concat(count(*) FILTER (WHERE state->>'text' = 'own'), '|', count(*)) $from\$q\$ INTO t; RETURN t; END \$f\$;
	SELECT look_now(); SELECT data->>'text' FROM es_read('many-8', 3); ROLLBACK}), "1|30000\n1|30000", 'beside events that an INSERT has not written yet');

# A node that is not executed asks for no right and takes no argument.
sql(q{CREATE ROLE reader; GRANT USAGE ON SCHEMA eventstore TO reader; SELECT es_grant('reader', 'read', 'plain');
	CREATE VIEW both_of AS SELECT 'plain' AS c, r.* FROM es_replay_category('plain', 'plain') r UNION ALL SELECT 'many', r.* FROM es_replay_category('many', 'plain') r; GRANT SELECT ON both_of TO PUBLIC;
	ALTER VIEW both_of OWNER TO reader});
is(try_sql(q{SET ROLE reader; SET plan_cache_mode = force_generic_plan; PREPARE p (text) AS SELECT stream FROM both_of WHERE c = $1; EXECUTE p ('plain')}), 'plain-1', 'a part that is not executed asks for no right');
is(try_sql(q{SET ROLE reader; SET plan_cache_mode = force_generic_plan; PREPARE p (text) AS SELECT stream FROM both_of WHERE c = $1; EXECUTE p ('many')}) =~ /permission denied|may not|no right/ ? 1 : 0, 1, 'one that is does');

# With functions that are VOLATILE, PARALLEL SAFE and run SQL, rows may go to a table, also again.
is(try_sql("CREATE TABLE looked AS SELECT looks(stream) AS s $from; SELECT count(*) FROM looked; CREATE MATERIALIZED VIEW looked_at AS SELECT looks(stream) AS s $from; REFRESH MATERIALIZED VIEW looked_at; SELECT count(*) FROM looked_at"), "30000\n30000", 'CREATE TABLE AS, REFRESH MATERIALIZED VIEW');
# Nor with what the planner does not look into: constraints of domains, defaults of arguments, functions of aggregates.
sql(q{CREATE FUNCTION in_other(t text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN NOT EXISTS (SELECT FROM other WHERE name = t); END $$; CREATE DOMAIN code AS text CHECK (in_other(value));
	CREATE SEQUENCE numbers; CREATE FUNCTION numbered(t text, n bigint DEFAULT nextval('numbers')) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT t $$;
	CREATE FUNCTION adds_up(n bigint, t text) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN PERFORM 1 FROM pg_class LIMIT 1; RETURN n + 1; END $$;
	CREATE AGGREGATE adds_up(text) (SFUNC = adds_up, STYPE = bigint, INITCOND = 0, PARALLEL = SAFE)});
is(try_sql("CREATE TABLE codes AS SELECT (state->>'text')::code FROM es_replay_category('many', 'plain'); SELECT count(*) FROM codes"), '30000', 'a domain');
is(try_sql("SELECT count(numbered(stream)) $from"), '30000', 'a default');
is(try_sql("CREATE TABLE added AS SELECT adds_up(stream) $from; SELECT * FROM added"), '30000', 'an aggregate');

# A reducer that is changed between the beginning of the execution and the first row.
foreach my $change (q{SELECT es_register_reducer_ops('swift', 'B', '{"inc": {"n": 5}}')}, q{SELECT es_register_reducer('swift', 'C', 'by_function(jsonb, jsonb)')})
{
	sql(q{SELECT es_register_reducer_ops('swift', 'A', '{"inc": {"n": 1}}')});
	my $session = start_named($node, 'store', 'waiting', "SELECT nap(3) UNION ALL SELECT max(1) FROM es_replay_category('many', 'swift');");
	wait_until('its nap', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiting' AND wait_event = 'PgSleep'") });
	sql($change);
	my ($out, $err) = finish_script($session);
	like($err, qr/40001/, "changed meanwhile: $change");
	sql(q{SELECT es_drop_reducer('swift')});
}

is(try_sql("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) CREATE TABLE empty AS SELECT r.* $from WITH NO DATA") =~ /never executed/ ? 1 : 0, 1, 'WITH NO DATA');

# A plan that is kept, over changes of what it went by.
sql('CREATE FUNCTION upcast(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN data');
{
	my $define = q{SELECT es_register_reducer_ops('changing', '*', '{"inc": {"n": 1}}')};
	my ($ret, $out) = $node->psql('store', join(";\n", $define, 'SET plan_cache_mode = force_generic_plan',
			"PREPARE p AS SELECT DISTINCT write() FROM es_replay_category('many', 'changing')",
			map { ('\o /dev/null' . "\n$_", "EXECUTE p;\n\\o\n\\echo :SQLSTATE\nSELECT '" . s/'/''/gr . "' WHERE false") } 'SELECT 1',
			"SELECT es_register_reducer('changing', 'B', 'by_function(jsonb, jsonb)')", "SELECT es_drop_reducer('changing'); $define",
			"SELECT es_snapshot_every('changing', 1000)", "SELECT es_snapshot_every('changing', NULL)",
			"SELECT es_register_upcaster('A', 1, 'upcast(jsonb)')", "SELECT es_drop_upcaster('A', 1)") . ';', on_error_stop => 0);

	# it is 25000 from PostgreSQL 18 on
	is(join(' ', map { $_ eq '00000' ? 'written' : 'refused' } $out =~ /^(00000|25000|XX000)$/mg), 'refused written refused written refused written refused', 'a prepared statement: functions, snapshots, an upcaster come and go');
}

# Errors, in whoever meets them; the session goes on, and can write.
sql(q{SELECT es_append('bad-' || n, 'A', CASE WHEN n < 30000 THEN '{"n": 1}' ELSE '{"n": "x"}' END::jsonb) IS NULL FROM generate_series(1, 30000) n;
	SELECT es_register_reducer_ops('adds', '*', '{"inc": {"n": "$.data.n"}}')});
is(sqlstates($node, 'store', "SELECT count(*) FROM es_replay_category('bad', 'adds')"), 'VE009', 'an error far behind');
is(sql(q{DO $$ DECLARE n bigint; BEGIN
	FOR i IN 1..5 LOOP
		BEGIN EXECUTE 'SELECT count(*) FROM es_replay_category(''bad'', ''adds'')' INTO n; EXCEPTION WHEN SQLSTATE 'VE009' THEN PERFORM es_append('log-2', 'L', '{}'); END;
		EXECUTE 'SELECT count(*) FROM es_replay_category(''many'', ''plain'')' INTO n;
		IF n <> 30000 THEN RAISE '%', n; END IF;
	END LOOP; END $$; SELECT es_stream_version('log-2')}), '5', 'in a block that catches it');
is(sqlstates($node, 'store', "SELECT 1 / (30000 - count(*)) $from"), '22012', 'an error above the node, at the end');
is(sqlstates($node, 'store', "SELECT 1 / (split_part(stream, '-', 2)::int - 12000) $from"), '22012', 'and in the middle');
is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'"), '0', 'no worker is left');

# A worker that is ended, and a query that is cancelled, while workers wait for who takes their rows.
foreach my $how ([ 'pg_terminate_backend', "backend_type = 'parallel worker'", '57P01' ], [ 'pg_cancel_backend', "application_name = 'folding'", '57014' ])
{
	my ($function, $who, $sqlstate) = @$how;
	my $session = start_named($node, 'store', 'folding', "SELECT count(nap(CASE WHEN split_part(stream, '-', 2)::int > 12000 THEN 0.01 ELSE 0 END)) $from;");

	wait_until('workers', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'MessageQueueSend'") == 2 });
	sql("SELECT $function(pid) FROM pg_stat_activity WHERE $who LIMIT 1");
	my ($out, $err) = finish_script($session);
	like($err, qr/$sqlstate/, "$function, $who");
	wait_until('their end', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'") == 0 });
}
is(sql("SELECT $digest $from"), $all, 'all is as it was');

done_testing();
