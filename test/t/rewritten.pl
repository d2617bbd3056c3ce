# ALTER TABLE that rewrites a table of the store makes it look empty to snapshots
# from before: whoever waits for it meanwhile finds all the same what is there, or
# is told to try again, and nothing is taken for a hole, or for not being there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use EventstoreProjection;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "autovacuum = off\n");

use_store($node);
$node->safe_psql('postgres', 'CREATE DATABASE store');
$node->safe_psql('store', $_) foreach (
	'CREATE EXTENSION eventstore', 'SELECT es_set_segment_size(100)',
	q{CREATE TABLE seen (n bigint);
	  CREATE FUNCTION note(event es_event) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO seen VALUES ((event).position); END;},
	q{SELECT es_create_reducer('sum')}, q{SELECT es_register_reducer_ops('sum', '*', '{"inc": {"n": 1}}')},
	q{SELECT es_create_projection('inside', 'sum', 'inline'), es_create_projection('beside', 'sum'), es_create_handler_projection('notes', 'note(es_event)')},
	q{SELECT es_subscribe('sub', partitions => 2)});

my $round = 0;
my %expected;

# Who waits: what it runs, the result that it must have, and whether it may be told to try again instead.
sub waiters
{
	my ($all, $own) = @_;

	return (
		["SELECT count(*) FROM es_read_all(0, NULL)" => $all],
		["SELECT count(*) FROM es_read_all(0, NULL, types => '{T}')" => $all],
		["SELECT count(*) FROM es_read_all(0, NULL, '{a,b,c}')" => $all],
		["SELECT count(*) FROM es_read_category('a', 0, NULL)" => $own],
		["SELECT count(*) FROM es_read_tagged('{t}', NULL, 0, NULL)" => $own],
		["SELECT count(*), max(version) FROM es_read('a-1')" => "$own|$own"],
		["SELECT es_stream_version('a-1')" => $own],
		["SELECT state FROM es_replay('a-1', 'sum')" => qq[{"n": $own}], 1],
		["SELECT state FROM es_replay_category('a', 'sum')" => qq[{"n": $own}], 1],
		["SELECT state FROM es_projection('inside', 'a-1')" => qq[{"n": $own}], 1],
		["SELECT es_run_projection('notes') >= 0" => 't'],
		["SELECT es_run_projection('beside') >= 0" => 't'],
		["SELECT count(*) > 0 FROM es_poll('sub', member => 'm')" => 't'],
		["SELECT es_append('a-1', 'T', expected_version => 1)" => 'VE001'],
		["SELECT es_append('b-1', 'T', event_id => '00000000-0000-0000-0000-000000000001')" => 1]);
}

# rewrite(table): with all that wait for it
sub rewrite
{
	my ($table) = @_;
	my ($all, $own) = split /\|/, run(q{SELECT count(*), count(*) FILTER (WHERE stream = 'a-1') FROM es_events});
	my $admin = $node->background_psql('store');
	my @waiters = waiters($all, $own);
	my @scripts;

	$round++;
	$admin->query_safe("BEGIN; ALTER TABLE eventstore.$table ADD COLUMN u$round uuid DEFAULT gen_random_uuid()");
	foreach my $i (0 .. $#waiters)
	{
		push @scripts, start_script($node, 'store', "\\set VERBOSITY sqlstate\nSET application_name = waiter_$i; $waiters[$i][0];\n\\echo done\n", '-v', 'ON_ERROR_STOP=0');
	}
	# each is done, or waits for the table, or for one that does
	foreach my $i (0 .. $#waiters)
	{
		my $waits = 0;
		$waits = run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter_$i' AND wait_event_type = 'Lock'")
			until $waits || slurp_file($scripts[$i]{out}) =~ /^done$/m;
	}
	$admin->query_safe('COMMIT');
	$admin->quit;
	foreach my $i (0 .. $#waiters)
	{
		my ($sql, $expected, $may_fail) = @{ $waiters[$i] };
		my ($out, $err) = finish_script($scripts[$i]);
		my $got = join("\n", grep { $_ ne '' } split(/\n/, $out =~ s/^done$//mr), $err =~ /ERROR:\s+(\w+)/);

		ok($got eq $expected || ($may_fail && $got eq '40001'), "... $sql") or diag "$got, not $expected";
	}
	run("ALTER TABLE eventstore.$table DROP COLUMN u$round");
	return;
}

$node->safe_psql('store', q{SELECT es_append('b-1', 'T', event_id => '00000000-0000-0000-0000-000000000001')});
$node->safe_psql('store', q{SELECT es_run_projection('notes'), es_run_projection('beside')});
# Those that decoding reads the server itself does not let anybody rewrite.
foreach my $table (rows($node, 'store', q{SELECT relname FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
	AND 'user_catalog_table=true' <> ALL (coalesce(reloptions, '{}')) ORDER BY 1}))
{
	run(q{SELECT count(es_append('a-1', 'T', '{}', '{"tags": ["t"]}')), count(es_append('c-' || i, 'T')) FROM generate_series(1, 15) i});
	rewrite($table);
	run(q{SELECT es_run_projection('notes'), es_run_projection('beside')});
	is(run(q{SELECT count(*), count(DISTINCT n) FROM seen}), run(q{SELECT count(*), count(*) FROM es_events}), "$table: a handler has had each event once");
	is(run(q{SELECT string_agg(state ->> 'n', ' ') FROM unnest('{inside,beside}'::text[]) p, es_projection(p, 'a-1')}),
		run(q{SELECT concat_ws(' ', es_stream_version('a-1'), es_stream_version('a-1'))}), '... and states have them');
}
is(run(q{SELECT count(*) FROM es_segments s WHERE state = 'sealed' AND events <> (SELECT count(*) FROM eventstore.events WHERE position BETWEEN first_position AND last_position)}),
	0, 'segments that were sealed have the right counts');
is(gaps($node, 'store'), '', 'no version is missing');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|XX000/, 'nothing broke');
$node->stop;
done_testing();
