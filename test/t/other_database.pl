# Writers in another database, with a store of their own or without, hold back
# no reader here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
foreach my $database ('here', 'there', 'plain')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION eventstore') if $database ne 'plain';
}
$node->safe_psql('plain', 'CREATE TABLE t (x int)');
$node->safe_psql('here', q{SELECT es_append('a-1', 'A')});
$node->safe_psql('there', q{SELECT es_append('a-1', 'A')});

my $plain = $node->background_psql('plain');
my $there = $node->background_psql('there');
my $old = $node->background_psql('here');
$plain->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO t VALUES (1);');
$there->query_safe(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT es_append('a-1', 'B'), es_append('b-1', 'B');});
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM es_events; CREATE TEMP TABLE t (x int);');
$node->safe_psql('there', q{BEGIN; SELECT es_append('c-1', 'C'); PREPARE TRANSACTION 'there';});

is($node->safe_psql('here', q{
		SELECT es_append('a-1', 'B', expected_version => 1);
		SELECT es_settled_position() = es_last_position();
		SELECT count(*) FROM es_read_all();
		SELECT count(*) FROM es_read_category('a');
		SELECT es_wait(es_last_position() - 1, '1h') = es_last_position()}),
	"2\nt\n2\n2\nt", 'an open writer, an open append and a prepared append in other databases hold back no reader');
is($node->safe_psql('there', q{SELECT es_settled_position(), count(*) FROM es_read_all()}), '1|1', 'the append there is in flight there');
is($old->query_safe(q{SELECT count(*) FROM es_read_all()}), '2', 'the log is read as it stands, not by an old snapshot');

$there->query_safe('COMMIT');
$node->safe_psql('there', q{COMMIT PREPARED 'there'});
is($node->safe_psql('there', 'SELECT es_settled_position(), count(*) FROM es_read_all()'), '4|4', 'and ends there');
$_->quit foreach ($plain, $there, $old);

# One session that goes from store to store would be two sessions: caches are per database.
is($node->safe_psql('here', q{
		SELECT es_stream_version('b-1');
		SELECT es_append('b-1', 'A', expected_version => 0);
		\c there
		SELECT es_stream_version('b-1');
		SELECT es_append('b-1', 'C', expected_version => 1);}),
	"0\n1\n1\n2", 'streams of the same name in two databases are two streams');

# Waiting holds neither snapshot nor xid (the procedure), so vacuum is not held back.
foreach my $preload (0, 1)
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . ($preload ? 'eventstore' : '') . "'\n");
	$node->restart;
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $last = $node->safe_psql('here', 'SELECT es_settled_position()');
	my $waiter = start_script($node, 'here', "SET application_name = 'waiter';\nCALL es_wait_for($last, '60s');\n");
	ok($node->poll_query_until('here', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'
			AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')}), "$how: es_wait_for waits");
	is($node->safe_psql('here', q{SELECT count(*), count(backend_xmin), count(backend_xid) FROM pg_stat_activity WHERE application_name = 'waiter'}),
		'1|0|0', "$how: es_wait_for holds neither snapshot nor xid");
	$node->safe_psql('here', q{SELECT es_append('a-1', 'Woken')});
	my ($out) = finish_script($waiter);
	is($out, ($last + 1) . "\n", "$how: es_wait_for returns the settled position once an append commits");

	# es_wait and es_wait_for are not woken by an append that is still in flight.
	foreach my $wait ('SELECT es_wait(%s, %s)', 'CALL es_wait_for(%s, %s)', 'BEGIN; CALL es_wait_for(%s, %s); COMMIT')
	{
		$last = $node->safe_psql('here', 'SELECT es_settled_position()');
		my $low = $node->background_psql('here');
		$low->query_safe(q{BEGIN; SELECT es_append('low-1', 'Low');});
		$node->safe_psql('here', q{SELECT es_append('high-1', 'High')});
		$waiter = start_script($node, 'here', "SET application_name = 'waiter'; SET eventstore.max_wait = '60s';\n" . sprintf($wait, $last, "'60s'") . ";\n");
		$node->poll_query_until('here', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'
			AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')});
		is($node->safe_psql('here', 'SELECT es_settled_position()'), $last, "$how: nothing is settled past an append in flight");
		$low->query_safe('COMMIT');
		$low->quit;
		($out) = finish_script($waiter);
		is($out, ($last + 2) . "\n", "$how: " . sprintf($wait, 'n', 't') . ' returns when it commits');
	}
	# COMMIT PREPARED by another session wakes too.
	$last = $node->safe_psql('here', 'SELECT es_settled_position()');
	$node->safe_psql('here', q{BEGIN; SELECT es_append('low-1', 'Low'); PREPARE TRANSACTION 'low';});
	$waiter = start_script($node, 'here', "CALL es_wait_for($last, '60s');\n");
	$node->safe_psql('here', q{COMMIT PREPARED 'low'});
	($out) = finish_script($waiter);
	is($out, ($last + 1) . "\n", "$how: COMMIT PREPARED ends the wait");
}

$node->stop;
done_testing();
