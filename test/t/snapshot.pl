# Replays with snapshots equal replays without: random streams, reducers,
# upcasters, bounds and snapshot intervals.  Each reducer exists twice, once with
# snapshots and once without, and after each step both must give the same, by
# every function that folds.  ES_SEED repeats a run, ES_SNAPSHOT_ROUNDS makes it
# longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

seed();
my $rounds = $ENV{ES_SNAPSHOT_ROUNDS} // 12;
my $steps = 30;

my $node = new_node('main', conf => "max_parallel_workers_per_gather = 2\nmin_parallel_table_scan_size = 0\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$node->safe_psql('postgres', 'SELECT es_set_segment_size(200)');
$node->safe_psql('postgres', q{
	CREATE TYPE total AS (n numeric, at timestamptz, seen text[]);

	-- The two must give the same; differing errors are none of the same.
	CREATE FUNCTION must_be_same(one text, other text, what text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		a text;
		b text;
	BEGIN
		BEGIN EXECUTE one INTO a; EXCEPTION WHEN SQLSTATE 'VE009' THEN a := SQLERRM; END;
		BEGIN EXECUTE other INTO b; EXCEPTION WHEN SQLSTATE 'VE009' THEN b := SQLERRM; END;
		IF a IS DISTINCT FROM b THEN
			RAISE EXCEPTION '% differs: % and %', what, a, b;
		END IF;
	END $$;

	CREATE FUNCTION try_snapshot(stream text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM es_snapshot(stream, 'with');
	EXCEPTION WHEN SQLSTATE 'VE009' THEN NULL;
	END $$;

	-- stands for either reducer in the call of a function that folds
	CREATE FUNCTION check_both(call text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM must_be_same(format('SELECT string_agg(r::text, E''\n'' ORDER BY r::text) FROM %s r', replace(call, '@', 'with')),
			format('SELECT string_agg(r::text, E''\n'' ORDER BY r::text) FROM %s r', replace(call, '@', 'without')), call);
	END $$;
});

sub pick { return $_[ rand @_ ]; }

# An operation at random, of those that never fail on what the others leave.
sub random_op
{
	my $n = int(rand(3));

	return pick(
		qq({"inc": {"n$n": "\$.data.n"}}),
		qq({"inc": {"n$n": 1}}),
		qq({"set": {"last": "\$.data", "v": "\$.version"}}),
		qq({"append": {"log": {"v": "\$.version", "n": "\$.data.n"}}}),
		qq({"remove": {"log": {"n": "\$.data.n"}}}),
		qq({"max": {"m$n": "\$.data.n"}}),
		qq({"set": {"deep.k$n": "\$.state.n$n * 2"}}),
		qq({"unset": ["deep"]}),
		'"merge_patch"');
}

# A handler's function, made anew: its source says what it does.
sub random_function
{
	my ($type) = @_;
	my $factor = int(rand(5)) + 1;

	return $type eq 'jsonb'
	  ? "CREATE OR REPLACE FUNCTION handler(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
		 \$\$ SELECT state || jsonb_build_object('n0', coalesce((state->>'n0')::numeric, 0) + $factor * (event.data->>'n')::numeric) \$\$"
	  : "CREATE OR REPLACE FUNCTION handler(state total, event es_event) RETURNS total LANGUAGE plpgsql IMMUTABLE AS
		 \$\$ BEGIN state.n := coalesce(state.n, 0) + $factor * (event.data->>'n')::numeric; state.at := event.recorded_at;
			state.seen := (state.seen || event.type)[greatest(cardinality(state.seen) - 3, 1):]; RETURN state; END \$\$";
}

sub register
{
	my ($type, $event) = @_;

	return join ";\n", map {
		$type eq 'jsonb' && $main::op
		  ? "SELECT es_register_reducer_ops('$_', '$event', '[$main::op]')"
		  : "SELECT es_register_reducer('$_', '$event', 'handler($type, es_event)')"
	} qw(with without);
}

our $op;

# One change or use of the round's reducers.
sub random_step
{
	my ($round, $type, $within) = @_;
	my $stream = "r$round-" . int(rand(3));
	my $what = rand($within ? 8 : 10);

	if ($what < 4)
	{
		my $events = join ', ', map {
			sprintf '{"type": "%s", "data": {"n": %s}%s}', pick('a', 'b', 'c'), pick(int(rand(100)), '0.10', '-3.5', '12345678901234567890'),
			  pick('', ', "type_version": 1')
		} 0 .. int(rand(12));
		return "SELECT es_append_batch('$stream', '[$events]')";
	}
	return "SELECT try_snapshot('$stream')" if $what < 5;
	return "SELECT es_snapshot_every('with', " . pick('NULL', 1, 3, 10) . ")" if $what < 5.5;
	return random_function($type) if $what < 6.5;
	if ($what < 7.5)
	{
		$op = join ', ', map { random_op() } 0 .. int(rand(3));
		$op = undef if rand() < 0.3;
		return register($type, pick('a', 'b', '*'));
	}
	return "SELECT es_register_upcaster_ops('" . pick('a', 'b') . "', " . pick(1, 2) . ", '"
	  . pick('"ignore"', '{"inc": {"n": 1}}', '{"set": {"n": "$.data.n * 2"}}') . "')"
	  if $what < 8;
	# what is rolled back leaves nothing
	return "BEGIN;\n" . random_step($round, $type, 1) . ";\n" . checks($round) . ";\nROLLBACK" if $what < 9;
	return "BEGIN;\n" . random_step($round, $type, 1) . ";\nSAVEPOINT s;\n" . random_step($round, $type, 1)
	  . ";\n" . checks($round) . ";\nROLLBACK TO s;\n" . checks($round) . ";\nCOMMIT";
}

# The same by both, within random bounds.
sub checks
{
	my ($round) = @_;
	my $stream = "r$round-" . int(rand(3));
	my $until = pick('NULL', int(rand(40)));
	my $as_of = pick('NULL', 'NULL',
		"(SELECT recorded_at FROM es_events WHERE stream = ''$stream'' ORDER BY version OFFSET " . int(rand(20)) . " LIMIT 1)");
	my $from = int(rand(30));

	return join ";\n", map { "SELECT check_both('$_')" } (
		"es_replay(''$stream'', ''\@'', $until, $as_of)",
		"es_replay(''$stream'', ''\@'')",
		"es_replay_steps(''$stream'', ''\@'', $from, $until)",
		"es_replay_category(''r$round'', ''\@'', $as_of)");
}

my $compared = 0;
for my $round (1 .. $rounds)
{
	my $type = pick('jsonb', 'jsonb', 'total');
	my @script = (
		"DROP FUNCTION IF EXISTS handler(jsonb, es_event); DROP FUNCTION IF EXISTS handler(total, es_event)",
		random_function($type),
		(map { "SELECT es_create_reducer('$_', '{}', '$type')" } qw(with without)));
	$op = random_op();
	push @script, register($type, '*');
	push @script, "SELECT es_snapshot_every('with', " . pick(1, 3, 10) . ")";
	for (1 .. $steps)
	{
		push @script, random_step($round, $type), checks($round);
		$compared += 4;
	}
	push @script, "SELECT must_be_same('SELECT es_fold(''with'', e ORDER BY e.version) FROM es_events e WHERE e.stream = ''r$round-1''',"
	  . " 'SELECT state FROM es_replay(''r$round-1'', ''with'')', 'es_fold')";
	push @script, map { "SELECT es_drop_reducer('$_')" } qw(with without);
	my ($rc, $out, $err) = $node->psql('postgres', join(";\n", @script) . ';', on_error_stop => 1);
	is($rc, 0, "round $round: $type states, with snapshots as without") or diag $err;
	last if $rc != 0;
}
note "$compared comparisons";
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM eventstore.snapshots'), '==', 0, 'snapshots go with their reducers');

# Many streams, so that parallel workers take part and leave snapshots
$node->safe_psql('postgres', q{
	SELECT es_register_reducer_ops('many', '*', '{"inc": {"n": 1}}');
	SELECT es_snapshot_every('many', 2);
	SELECT count(*) FROM generate_series(1, 12) s, LATERAL es_append_many((
		SELECT jsonb_agg(jsonb_build_object('stream', 'many-' || (s * 1000 + i), 'type', 't'))
		FROM generate_series(1, 1000) i, generate_series(1, 3)));
});
my $parallel = $node->safe_psql('postgres', q{
	SELECT count(*), count(DISTINCT stream), sum(version), sum((state->>'n')::int) FROM es_replay_category('many')});
is($parallel, '12000|12000|36000|36000', 'every stream of a large category once');
is($node->safe_psql('postgres', q{SELECT count(*), min(version), max(version) FROM eventstore.snapshots WHERE reducer = 'many'}),
	'12000|3|3', 'each left a snapshot');
$node->safe_psql('postgres', q{SELECT es_append('many-1500', 't'), es_append('many-13000', 't')});
is($node->safe_psql('postgres', q{SELECT count(*), sum(version), sum((state->>'n')::int) FROM es_replay_category('many')}),
	'12000|36002|36002', 'and goes on from it');

# Workers do take part: the last thousand streams take a while
$node->safe_psql('postgres', q{
	CREATE FUNCTION pid(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE AS $$
	BEGIN
		IF event.version = 1 AND event.stream > 'many-12' AND event.stream < 'many-13' THEN
			PERFORM pg_sleep(0.002);
		END IF;
		RETURN to_jsonb(pg_backend_pid());
	END $$;
	SELECT es_register_reducer('pid', '*', 'pid(jsonb, es_event)');
});
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT state) > 1 FROM es_replay_category('many', 'pid')}),
	'12000|t', 'several processes fold a large category');
is($node->safe_psql('postgres', q{SET max_parallel_workers_per_gather = 0;
	SELECT count(*), count(DISTINCT state) FROM es_replay_category('many', 'pid')}),
	'12000|1', 'as many as the session may use');

# A handler that fails in whichever process
$node->safe_psql('postgres', q{
	CREATE FUNCTION fails(state jsonb, event es_event) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
		$$ BEGIN IF event.stream = 'many-12500' THEN RAISE 'no' USING DETAIL = 'Really not.'; END IF; RETURN state; END $$;
	SELECT es_register_reducer('fails', '*', 'fails(jsonb, es_event)');
});
my ($rc, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
	SELECT count(*) FROM es_replay_category('many', 'fails')});
like($err, qr/ERROR:  VE009: no\n.*DETAIL:  SQLSTATE P0001: Really not\..*stream "many-12500", version 1/s,
	'a failure is reported as by one process');
is($node->safe_psql('postgres', q{SET statement_timeout = '10s'; SELECT count(*) FROM es_replay_category('many', 'count')}),
	12000, 'and leaves nothing behind');

# one that is not PARALLEL SAFE keeps to one process
$node->safe_psql('postgres', q{
	CREATE TABLE who (pid int);
	CREATE FUNCTION who(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS
		$$ INSERT INTO who SELECT pg_backend_pid() WHERE event.version = 1; SELECT state $$;
	SELECT es_register_reducer('who', '*', 'who(jsonb, es_event)');
	SELECT count(*) FROM es_replay_category('many', 'who');
});
is($node->safe_psql('postgres', q{SELECT count(DISTINCT pid), count(*) FROM who}), '1|12000', 'unsafe handlers run in the session itself');

done_testing();
