# Who waits for what: es_wait and es_wait_for for the log, an append for the
# transaction that was at the stream before it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
new_store($node, 'here');
$node->safe_psql('here', q{SELECT es_append('a-1', 'A')});

# A prepared append: the next one to its stream waits for the outcome.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my $version = $node->safe_psql('here', q{SELECT es_stream_version('prepared-1')});
	$node->safe_psql('here', q{BEGIN; SELECT es_append('prepared-1', 'Prepared'); PREPARE TRANSACTION 'prepared';});
	my $next = start_script($node, 'here', q{SET application_name = 'next'; SELECT es_append('prepared-1', 'Next');});
	ok($node->poll_query_until('here', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'next' AND wait_event_type = 'Lock'}),
		'an append waits for a prepared one to its stream');
	$node->safe_psql('here', q{SELECT es_append('a-1', 'Other')});
	$node->safe_psql('here', "$end PREPARED 'prepared'");
	my ($out) = finish_script($next);
	is($out, $version + ($end eq 'COMMIT' ? 2 : 1) . "\n", "and goes on after $end PREPARED");
}

# An append that gives up its wait leaves nothing behind, in the transaction neither; the queue behind it moves on.
{
	my $holder = $node->background_psql('here');
	$holder->query_safe(q{BEGIN; SELECT es_append('held-1', 'H')});
	my ($ret, $out, $err) = $node->psql('here', q{
		\set VERBOSITY sqlstate
		BEGIN;
		SELECT es_append('free-1', 'A');
		SAVEPOINT s;
		SET LOCAL statement_timeout = '100ms';
		SELECT es_append('held-1', 'never');
		ROLLBACK TO s;
		SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND (locktype = 'object' OR NOT granted);
		SELECT es_append('free-1', 'B', expected_version => 1);
		COMMIT;
		SET lock_timeout = '100ms';
		SELECT es_append('held-1', 'never');
		RESET lock_timeout;
		SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND (locktype = 'object' OR NOT granted);
		SELECT es_append('free-1', 'C', expected_version => 2);}, on_error_stop => 0);
	is($out, "1\n0\n2\n0\n3", 'an append that gives up its wait leaves nothing behind');
	is(join(' ', $err =~ /ERROR:  (\w+)/g), '57014 55P03', 'by statement_timeout, and by lock_timeout');

	my $first = start_script($node, 'here', q{SET application_name = 'first'; SELECT es_append('held-1', 'first');});
	$node->poll_query_until('here', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'first' AND wait_event_type = 'Lock'});
	my $second = start_script($node, 'here', q{SET application_name = 'second'; SELECT es_append('held-1', 'second');});
	$node->poll_query_until('here', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'});
	$node->safe_psql('here', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'first'});
	$holder->query_safe('COMMIT');
	$holder->quit;
	finish_script($first);
	is((finish_script($second))[0], "2\n", 'the queue moves on behind one that was terminated');
	is($node->safe_psql('here', q{SELECT string_agg(type, ' ' ORDER BY version) FROM es_read('held-1')}), 'H second', 'which appended nothing');
}

# Waiting holds neither snapshot nor xid (the procedure), so vacuum is not held back.
foreach my $preload (0, 1)
{
	my $how = preload($node, $preload);
	$node->restart;
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
		is($node->safe_psql('here', "SELECT es_settled_position() <= $last, es_wait($last, '0') <= $last"), 't|t', "$how: nothing is settled past an append in flight");
		$low->query_safe('COMMIT');
		$low->quit;
		($out) = finish_script($waiter);
		is($out, ($last + 2) . "\n", "$how: " . sprintf($wait, 'n', 't') . ' returns when it commits');
	}
	# A new session, which meets an append in flight at its first look, is not behind an old hole: preloaded it knows
	# where that append begins, else it begins at the settled mark.
	{
		$node->safe_psql('here', q{BEGIN; SELECT es_append('low-1', 'Undone'); ROLLBACK; SELECT es_append('low-1', 'A')});
		$last = $node->safe_psql('here', 'SELECT ' . ($preload ? 'es_settled_position()' : 'es_settle()'));
		my $low = $node->background_psql('here');
		$low->query_safe(q{BEGIN; SELECT es_append('low-1', 'Low');});
		$node->safe_psql('here', q{SELECT es_append('high-1', 'High')});
		is($node->safe_psql('here', 'SELECT es_settled_position()'), $last, "$how: the settled position of a new session is not behind that of an old one");
		$low->query_safe('ROLLBACK');
		$low->quit;
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
