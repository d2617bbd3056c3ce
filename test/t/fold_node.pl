# es_replay_category in FROM, at random: categories of many kinds, reducers of many kinds, by plain queries, LIMIT, LATERAL,
# joins, cursors, loops and prepared statements, under settings at random, with the transaction's own appends or without.
# Each result is held against es_replay of each stream, and that against SQL.  On a standby, too.  And while others move
# what streams have between them, a fold is of one moment.  ES_SEED repeats a run, ES_FOLD_CASES makes it longer.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $cases = $ENV{ES_FOLD_CASES} // ($ENV{TEST_LONG} ? 800 : 40);
my $node = new_node('main', streaming => 1, conf => "max_worker_processes = 16\nhot_standby_feedback = on\n");

new_store($node, 'store', 700);

sub pick { return $_[ rand @_ ]; }
sub quote { my ($text) = @_; return defined $text ? "'$text'" : 'NULL'; }

# What of the store all cases use.
$node->safe_psql('store', q{
	CREATE TYPE total AS (n numeric, at timestamptz, seen text[]);
	CREATE FUNCTION by_event(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE AS
		$$ BEGIN RETURN jsonb_build_object('hash', md5(coalesce(state->>'hash', '') || event::text), 'version', event.type_version); END $$;
	CREATE FUNCTION by_total(state total, data jsonb) RETURNS total LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
		$$ BEGIN state.n := coalesce(state.n, 0) + (data->>'n')::numeric; state.seen := (state.seen || (data->>'k'))[1:4]; RETURN state; END $$;
	CREATE FUNCTION by_block(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS
		$$ BEGIN BEGIN PERFORM 1 / ((data->>'n')::int % 2); EXCEPTION WHEN division_by_zero THEN state := state || '{"even": 1}'; END; RETURN state || jsonb_build_object('k', data->'k'); END $$;
	CREATE FUNCTION by_null(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
		$$ SELECT CASE WHEN (data->>'n')::int % 3 > 0 THEN coalesce(state, '{}') || jsonb_build_object('n', data->'n') END $$;
	CREATE FUNCTION by_number(state bigint, data jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN state * 31 % 1000003 + length(data::text);
	CREATE FUNCTION renew(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN data || '{"renewed": 1}';
	SELECT es_create_reducer('totals', '{"n": 5}', 'total'), es_create_reducer('nulls', NULL), es_create_reducer('numbers', '1', 'bigint');
	SELECT es_register_reducer('events', '*', 'by_event(jsonb, es_event)'), es_register_reducer('totals', '*', 'by_total(total, jsonb)'),
		es_register_reducer('blocks', 'B', 'by_block(jsonb, jsonb)'), es_register_reducer('nulls', '*', 'by_null(jsonb, jsonb)'),
		es_register_reducer('numbers', '*', 'by_number(bigint, jsonb)'),
		es_register_reducer_ops('ops', 'A', '[{"inc": {"n": "$.data.n", "deep.er": 1}}, {"set": {"last": "$.data", "at": "$.version"}}]'),
		es_register_reducer_ops('ops', 'B', '{"append": {"list": {"k": "$.data.k", "s": "$.stream"}}}'),
		es_register_reducer_ops('ops', 'C', '[{"remove": {"list": {"k": "$.data.k"}}}, {"max": {"most": "$.data.n"}}, {"min": {"least": "$.data.k"}}]'), es_register_reducer_ops('ops', 'D', '"merge_patch"'),
		es_register_reducer_ops('every', '*', '[{"inc": {"n": 1}}, {"set": {"data": "$.data"}}]'), es_snapshot_every('every', 7),
		es_register_reducer_ops('cut', '*', '[{"inc": {"n": "$.data.n"}}, {"set": {"data": "$.data"}}]'),
		es_register_reducer_ops('secret', '*', '[{"set": {"of": "$.data.secret"}}, {"append": {"all": "$.data.secret"}}]');
	SELECT es_register_upcaster_ops('C', 1, '{"set": {"up": "$.data.n"}}'), es_register_upcaster('D', 1, 'renew(jsonb)');
	SELECT es_protect('secret', '{$.data.secret}', '$.data.k');

	-- what a query gives, in any order, or what it fails with; again, if a segment was just then compacted
	CREATE FUNCTION digest(query text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		result text;
	BEGIN
		FOR attempt IN 1..10 LOOP
			BEGIN
				EXECUTE format('SELECT count(*) || '' '' || md5(coalesce(string_agg(r, E''\n'' ORDER BY r COLLATE "C"), '''')) FROM (%s) q (r)', query) INTO result;
				RETURN result;
			EXCEPTION WHEN serialization_failure THEN
				result := SQLSTATE;
			WHEN OTHERS THEN
				RETURN SQLSTATE;
			END;
		END LOOP;
		RETURN result;
	END $$;
	CREATE FUNCTION same(what text, one text, other text) RETURNS SETOF text LANGUAGE plpgsql AS $$
	BEGIN
		IF one IS DISTINCT FROM other THEN
			RETURN NEXT format('%s: %s and %s', what, one, other);
		END IF;
	END $$;
	CREATE FUNCTION names(category text) RETURNS SETOF text LANGUAGE sql AS
		$$ SELECT name FROM eventstore.streams WHERE split_part(name, '-', 1) = $1 AND NOT deleted $$;

	-- the rows of a query by a cursor, in steps at random, between which much happens that they must not show
	CREATE FUNCTION try_cursor(query text, category text, appends bool) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		c refcursor;
		r text;
		before text;
		rows text[] := '{}';
	BEGIN
		OPEN c SCROLL FOR EXECUTE query;
		LOOP
			FETCH c INTO r;
			EXIT WHEN NOT FOUND;
			rows := rows || r;
			IF appends AND random() < 0.1 THEN
				BEGIN
					PERFORM es_append(category || '-1', 'A', '{"n": 1, "k": "x"}');
					FETCH c INTO r;
					EXIT WHEN NOT FOUND;
					rows := rows || r;
					PERFORM 1 / (random() * 2)::int;
				EXCEPTION WHEN division_by_zero THEN
				END;
			END IF;
			IF cardinality(rows) > 1 AND random() < 0.1 THEN
				FETCH PRIOR FROM c INTO before;
				IF before IS DISTINCT FROM rows[cardinality(rows) - 1] THEN
					RETURN 'another row before';
				END IF;
				MOVE c;
			END IF;
		END LOOP;
		CLOSE c;
		RETURN (SELECT count(*) || ' ' || md5(coalesce(string_agg(u, E'\n' ORDER BY u COLLATE "C"), '')) FROM unnest(rows) u);
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
	CREATE FUNCTION by_cursor(query text, category text, appends bool) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		result text;
	BEGIN
		FOR attempt IN 1..10 LOOP
			result := try_cursor(query, category, appends);
			EXIT WHEN result <> '40001';
		END LOOP;
		RETURN result;
	END $$;

	-- fetches so many rows of a cursor, all for NULL, into a table
	CREATE FUNCTION take(c refcursor, count int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		r text;
	BEGIN
		FOR i IN 1..coalesce(count, 1000000) LOOP
			FETCH c INTO r;
			EXIT WHEN NOT FOUND;
			INSERT INTO pg_temp.taken VALUES (r);
		END LOOP;
	END $$;
});

# Events of streams of a category, in transactions some of which are undone; by SQL, with a seed.
sub write_events
{
	my ($category, $streams, $events, $data) = @_;


	$node->safe_psql('store', 'SELECT setseed(' . rand() . qq{);
		DO \$\$ BEGIN
			FOR i IN 1..ceil($events / 500.0) LOOP
				BEGIN
					PERFORM count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', '$category-' || trunc(random() * $streams), 'type', substr('ABCD', 1 + trunc(random() * 4)::int, 1),
						'data', jsonb_build_object('n', trunc(random() * 1000), 'k', 'k' || trunc(random() * 5)) || $data) ORDER BY random()) FROM generate_series(1, least($events, 500))));
					PERFORM 1 / (random() * 10)::int;
				EXCEPTION WHEN division_by_zero THEN
				END;
			END LOOP; END \$\$});
	return;
}

write_events('many', 250, 24000, "'{}'");
write_events('secret', 40, 1500, "jsonb_build_object('secret', 's' || random())");
write_events('cut', 30, 1500, "'{}'");
write_events('wide', 10, 300, "jsonb_build_object('w' || trunc(random() * 30), repeat(md5(random()::text), (random() * 300)::int))");
write_events('deep', 10, 200, "('{\"d\": ' || repeat('{\"d\": [', 100) || '1' || repeat(']}', 100) || '}')::jsonb");
$node->safe_psql('store', $_) foreach (
	q{SELECT es_truncate_stream('cut-' || n, 1 + (es_stream_version('cut-' || n) * n / 30)) FROM generate_series(0, 29) n WHERE n % 3 > 0},
	q{SELECT es_delete_stream(c || '-' || n) FROM unnest('{many,secret,cut}'::text[]) c, generate_series(3, 20, 8) n},
	q{SELECT count(*) FROM es_scavenge()},
	q{SELECT es_shred('k1')},
	q{SELECT count(es_snapshot('many-' || n, r)) FROM generate_series(30, 60) n, unnest('{ops,totals,events}'::text[]) r},
	(rand() < 0.5 ? 'VACUUM ANALYZE' : 'SELECT 1'));
my @times = rows($node, 'store', q{SELECT recorded_at FROM es_events WHERE stream NOT LIKE 'cut%' ORDER BY random() LIMIT 5});
my @reducers = qw(count last merge merge_patch ops events totals blocks nulls numbers every secret);

# A call, and what it is by es_replay of each stream.
sub make_call
{
	my ($category) = @_;
	my $reducer;

	$category //= pick('many', 'many', 'secret', 'cut', 'wide', 'deep', 'none');
	$reducer = $category eq 'cut' && rand() < 0.8 ? pick('cut', undef) : pick(@reducers);
	my ($named, $time) = (quote($reducer), quote(pick(undef, undef, @times)));

	return (category => $category, reducer => $reducer, time => $time, sql => "es_replay_category('$category', $named, $time)",
		apart => "SELECT es_replay(name, $named, NULL, $time)::text FROM names('$category') name OFFSET 0");
}

# The ways of a query, each with a query or two that give a text to be compared.
sub digest { my ($query) = @_; return "digest(\$q\$$query\$q\$)"; }

my %ways = (
	whole => sub { my (%c) = @_; return (digest("SELECT e::text FROM $c{sql} e"), digest($c{apart})); },
	columns => sub {
		my (%c) = @_;
		my $row = 'ROW(' . join(', ', grep { rand() < 0.5 } ('version', 'position', 'state', 'recorded_at', "state->>'n'")) . ')';
		return map { digest("SELECT concat_ws(' ', stream, $row) FROM $_") } ("$c{sql} e WHERE version % 3 < 2", "(SELECT (e::es_state).* FROM ($c{apart}) q (e)) q WHERE version % 3 < 2");
	},
	none => sub { my (%c) = @_; return map { digest("SELECT count(*)::text FROM $_") } ($c{sql}, "($c{apart}) q"); },
	limit => sub {
		my (%c) = @_;
		# of a category where some streams cannot be folded there may be enough others
		%c = make_call(pick('many', 'wide', 'none')) if $c{category} eq 'cut';
		my $limit = pick('LIMIT 0', 'LIMIT 1', 'LIMIT 3 OFFSET 2', 'LIMIT 40', 'LIMIT 500', 'OFFSET 7');
		return map { digest($_) } ("SELECT count(DISTINCT e)::text FROM (SELECT e::text FROM $c{sql} e $limit) q WHERE e IN ($c{apart})", "SELECT count(*)::text FROM ($c{apart} $limit) q" =~ s/OFFSET 0 (?=LIMIT|OFFSET)//r);
	},
	lateral => sub {
		my (%c) = @_;
		my %other = make_call();
		return (digest("SELECT g || e::text FROM (VALUES (1, '$c{category}', " . quote($c{reducer}) . "), (2, '$other{category}', " . quote($other{reducer}) . "), (3, '$c{category}', " . quote($c{reducer}) . ")) v (g, c, r), es_replay_category(c, r, $c{time}) e"),
			digest("SELECT g || e FROM generate_series(1, 3, 2) g, ($c{apart}) q (e) UNION ALL SELECT 2 || e FROM (" . $other{apart} =~ s/NULL, \K('[^']*'|NULL)(?=\))/$c{time}/r . ") q (e)"));
	},
	correlated => sub {
		my (%c) = @_;
		my %other = make_call();
		my $category = "CASE WHEN g IN (SELECT h FROM generate_series(2, 3) h WHERE h <> length(g::text)) THEN '$other{category}' ELSE '$c{category}' END";
		return map { digest($_) } ("SELECT g || ' ' || (SELECT sum(version) FROM es_replay_category($category, 'count', $c{time})) FROM generate_series(1, 4) g",
			"SELECT g || ' ' || (SELECT sum(r.version) FROM names($category) name, es_replay(name, 'count', NULL, $c{time}) r) FROM generate_series(1, 4) g");
	},
	again => sub {
		my (%c) = @_;
		return (digest("SELECT concat_ws(' ', g, e.version, d.state, e.stream) FROM generate_series(1, 2) g, $c{sql} e, $c{sql} d WHERE e.stream = d.stream"),
			digest("SELECT concat_ws(' ', g, (e::es_state).version, (e::es_state).state, (e::es_state).stream) FROM generate_series(1, 2) g, ($c{apart}) q (e)"));
	},
	cursor => sub { my (%c) = @_; return ("by_cursor(\$q\$SELECT e::text FROM $c{sql} e\$q\$, '$c{category}', $c{appends})", digest($c{apart})); },
	union => sub { my (%c) = @_; return (digest("SELECT e::text FROM $c{sql} e UNION ALL SELECT e::text FROM $c{sql} e WHERE version > 1"), digest("$c{apart}" =~ s/ OFFSET 0//r . " UNION ALL SELECT e::text FROM ($c{apart}) q (e) WHERE (e::es_state).version > 1")); },
	with => sub { my (%c) = @_; return (digest('WITH m AS ' . pick('MATERIALIZED', 'NOT MATERIALIZED') . " (SELECT e::text AS e FROM $c{sql} e) SELECT e FROM m WHERE e IN (SELECT e FROM m)"), digest($c{apart})); },
);
my @settings = ("work_mem = '64kB'", "work_mem = '1MB'", 'max_parallel_workers_per_gather = 0', 'max_parallel_workers_per_gather = 3', 'max_parallel_workers = 0',
	'jit_above_cost = 0', 'enable_hashjoin = off', 'enable_mergejoin = off', 'enable_nestloop = off', 'enable_material = off', 'enable_memoize = off',
	'hash_mem_multiplier = 1', 'eventstore.upcast = on', "TimeZone = 'Asia/Tokyo'", "transaction_isolation = 'repeatable read'", "transaction_isolation = 'serializable'");

# One case, as SQL that gives a row if something is different; without ways and settings that must not be.
sub make_case
{
	my ($number, $appends, $without) = @_;
	my $way = pick(grep { !/$without/ } sort keys %ways);
	my %call = (make_call(), appends => $appends ? 'true' : 'false');
	my ($one, $other) = $ways{$way}->(%call);
	# an isolation level comes first
	my $settings = join('', map { "SET LOCAL $_; " } sort { ($b =~ /isolation/) <=> ($a =~ /isolation/) || $a cmp $b } map { pick(grep { !/$without/ } @settings) } 1 .. 3);
	my $own = $appends && $call{category} ne 'none' && rand() < 0.4 ? qq{
		SELECT count(es_append('$call{category}-' || 21 + n % 9, 'A', '{"n": 3, "k": "own"}')) > 0 FROM generate_series(1, 40) n;
		SAVEPOINT undone; SELECT count(es_append('$call{category}-' || 22 + n, 'B', '{"n": 3, "k": "undone"}')) > 0 FROM generate_series(1, 5) n; ROLLBACK TO undone;
		INSERT INTO es_events (stream, type, data) VALUES ('$call{category}-23', 'A', '{"n": 4, "k": "view"}');} : '';

	# what a cursor appends is undone, for what is compared with it
	return "BEGIN; $settings SELECT setseed(" . rand() . ") IS NULL; \\o /dev/null\n$own\n\\o\n SAVEPOINT begun; SELECT $one AS one \\gset\n ROLLBACK TO begun;
		SELECT same(\$w\$$number $way: $settings $call{sql} own: @{[ $own ne '' ? 'yes' : 'no' ]}\$w\$, :'one', $other); " . pick('COMMIT', 'ROLLBACK') . ";\n";
}

# run_cases(node, how many, appends, without): what was different, in one session.
sub run_cases
{
	my ($where, $count, $appends, $without) = @_;
	my $sql = join('', map { make_case($_, $appends, $without // '^$') } 1 .. $count);

	return $where->safe_psql('store', $sql) =~ s/^[ft]\n?//mgr;
}

# The reference against SQL, where that is simple.
sub is_by_sql
{
	my ($name) = @_;

	is($node->safe_psql('store', q{
		SELECT c, same('count', digest(format('SELECT concat_ws('' '', stream, version, position, recorded_at, state) FROM es_replay_category(%L, ''count'')', c)),
				digest(format('SELECT concat_ws('' '', stream, max(version), max(position), max(recorded_at), jsonb_build_object(''count'', count(*))) FROM es_events WHERE split_part(stream, ''-'', 1) = %L AND stream IN (SELECT names(%L)) GROUP BY stream', c, c))),
			same('merge', digest(format('SELECT concat_ws('' '', stream, state) FROM es_replay_category(%L, ''merge'')', c)),
				digest(format('SELECT concat_ws('' '', stream, jsonb_object_agg(key, value ORDER BY position)) FROM (SELECT (es_upcast(e)).* FROM es_events e WHERE split_part(stream, ''-'', 1) = %L AND stream IN (SELECT names(%L))) e, jsonb_each(data) GROUP BY stream', c, c)))
		FROM unnest('{many,wide,deep}'::text[]) c}), '', "$name: as SQL has it");
	return;
}

is_by_sql('at first');
is(run_cases($node, $cases, 1), '', "$cases cases, with appends between");

# held(database, sql): what it prints; again, if a segment was just then compacted.
sub held
{
	my ($database, $sql) = @_;
	my ($ret, $out, $err);

	for (1 .. 10)
	{
		($ret, $out, $err) = $node->psql($database, "\\set VERBOSITY sqlstate\n$sql", on_error_stop => 1);
		last if $err !~ /ERROR:  40001/;
	}
	return $ret == 0 ? $out : $err;
}

# Cursors that are held over a commit, with what they fetch before it and after.
foreach my $n (1 .. 1 + $cases / 20)
{
	my %call = make_call(pick('many', 'secret', 'wide'));
	my $scroll = pick('', 'SCROLL', 'NO SCROLL');
	my $few = pick(1, 5, 90);

	is(held('store', qq{\\o /dev/null
		CREATE TEMP TABLE taken (r text);
		SELECT digest(\$q\$$call{apart}\$q\$) AS wanted \\gset
		BEGIN; SET LOCAL work_mem = '64kB';
		DECLARE c $scroll CURSOR WITH HOLD FOR SELECT e::text FROM $call{sql} e;
		SELECT take('c', $few);
		SELECT es_append('$call{category}-25', 'A', '{"n": 1, "k": "later"}');
		SAVEPOINT undone; SELECT take('c', 3);
		\\set ON_ERROR_STOP 0
		SELECT 1/0;
		\\set ON_ERROR_STOP 1
		ROLLBACK TO undone; TRUNCATE taken; } . ($scroll eq 'SCROLL' ? 'MOVE ABSOLUTE 0 FROM c;' : "CLOSE c; SELECT digest(\$q\$$call{apart}\$q\$) AS wanted \\gset\nDECLARE c $scroll CURSOR WITH HOLD FOR SELECT e::text FROM $call{sql} e;") . qq{
		SELECT take('c', $few);
		COMMIT;
		SELECT es_append('$call{category}-25', 'A', '{"n": 1, "k": "latest"}');
		SELECT take('c', NULL);
		\\o
		SELECT same('held', digest('SELECT r FROM pg_temp.taken'), :'wanted')}), '', "held over a commit: $scroll $call{sql}");
}

# Prepared with parameters, over changes of reducers and of what a plan depends on.
{
	my $sql = 'PREPARE fold (text, text) AS SELECT digest(format($q$SELECT e::text FROM es_replay_category(%L, %L) e$q$, $1, $2)), count(*), sum(version) FROM es_replay_category($1, $2);' . "\n";

	foreach my $n (1 .. 12)
	{
		my %call = make_call('wide');

		$sql .= "EXECUTE fold ('wide', '$call{reducer}');\n" . "SELECT " . digest($call{apart} =~ s/'[^']*'\)::text/NULL)::text/r) . ", count(*), sum(version) FROM es_replay_category('wide', '$call{reducer}') WITH ORDINALITY;\n";
		$sql .= pick(q{SELECT es_register_reducer_ops('ops', 'E', '{"inc": {"e": 1}}') IS NULL;}, q{ALTER FUNCTION es_replay_category ROWS 50; ALTER FUNCTION es_replay_category ROWS 1000;}, q{SET plan_cache_mode = force_generic_plan;},
			q{REINDEX INDEX eventstore.streams_by_category;}, q{VACUUM FULL eventstore.streams;}) . "\n";
	}
	my @lines = grep { /\|/ } split /\n/, $node->safe_psql('store', $sql);

	is_deeply([ @lines[ map { 2 * $_ } 0 .. 11 ] ], [ @lines[ map { 2 * $_ + 1 } 0 .. 11 ] ], 'prepared');
}

cmp_ok($node->safe_psql('store', q{SET max_parallel_workers_per_gather = 2; EXPLAIN (ANALYZE) SELECT * FROM es_replay_category('many', 'count')}) =~ /Workers Launched: (\d+)/ ? $1 : 0, '>', 0, 'workers have helped');

# A standby, with the same store.
my $standby = start_standby($node);
$node->wait_for_catchup($standby);
is(run_cases($standby, 1 + $cases / 4, 0, 'serializable'), '', 'on a standby');
$standby->stop;

# Others move amounts from stream to stream; at any moment the sum is what it was.  The store has one segment: small ones, that
# many write to at a time, are compacted.
new_store($node, 'moves');
$node->safe_psql('moves', q{SELECT es_register_reducer_ops('account', '*', '{"inc": {"sum": "$.data.amount"}}');
	SELECT count(*) FROM generate_series(1, 42) g, es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'account-' || n % 200, 'type', 'A', 'data', '{"amount": 0}'::jsonb)) FROM generate_series(1, 500 + g * 0) n))});
my $script = PostgreSQL::Test::Utils::tempdir() . '/move';
append_to_file($script, q{\set a random(0, 199)
\set b random(200, 399)
\set n random(1, 100)
BEGIN;
SELECT es_append('account-' || :a, 'A', jsonb_build_object('amount', :n));
SELECT es_append('account-' || :b, 'A', jsonb_build_object('amount', -:n));
COMMIT;
});
my ($writers, $rounds) = $ENV{TEST_LONG} ? (32, 300) : (8, 8);
my $bench = start_process([ $node->installed_command('pgbench'), '-n', '-c', $writers, '-T', 3600, '-f', $script, $node->connstr('moves') ], "$script.out", "$script.err");
my @sums;

wait_until('what is moved', sub { $node->safe_psql('moves', q{SELECT count(*) FROM es_streams WHERE stream LIKE 'account-3__'}) > 20 });
for (1 .. $rounds)
{
	my $settings = join('', map { "SET $_; " } grep { !/isolation/ } map { pick(@settings) } 1 .. 2);

	push @sums, split /\n/, held('moves', "$settings SELECT sum((state->>'sum')::numeric) FROM es_replay_category('account');
		DO \$\$ DECLARE s es_state; total numeric := 0; BEGIN
			FOR s IN SELECT * FROM es_replay_category('account') LOOP total := total + (s.state->>'sum')::numeric; PERFORM es_stream_version(s.stream); END LOOP;
			PERFORM set_config('test.total', total::text, false); END \$\$;
		SELECT current_setting('test.total')");
}
ok($bench->pumpable, "beside $writers writers");
$bench->signal('TERM');
$bench->finish;
is(join(' ', @sums), join(' ', ('0') x (2 * $rounds)), 'each fold is of one moment');
is_by_sql('in the end');

# What an archive has is told to be away, by whatever way.
my ($upto) = rows($node, 'store', q{SELECT to_time + interval '1 microsecond' FROM es_segments ORDER BY segment OFFSET 1 LIMIT 1});
$node->safe_psql('store', "SELECT es_seal(); SELECT es_detach_segments('$upto')");
is(run_cases($node, 1 + $cases / 4, 1, 'limit'), '', 'with segments detached');

done_testing();
