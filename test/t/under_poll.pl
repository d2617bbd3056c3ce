# What happens to a subscription while somebody polls it: rewinds under those who wait, changes of definitions by an upcaster
# that the poll runs itself, and calls about very many parked events that are cancelled.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "eventstore.max_wait = '90s'\nautovacuum = off\n");
new_store($node, 'here');

sub run { return $node->safe_psql('here', $_[0]) }
sub start { return start_named($node, 'here', $_[0], "$_[1];") }
sub ends { my ($out, $err) = finish_script($_[0]); is($out . $err, "$_[1]\n", $_[2]) }

# Waits until the session of that name has looked and sleeps.
sub sleeps
{
	return $node->poll_query_until('here', qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$_[0]' AND state = 'active'
		AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')});
}

# ---- rewound under those who wait ----

foreach my $preload (0, 1)
{
	my $how = preload($node, $preload);
	$node->restart;

	# an event was let go, the member looks past it, and the rewind brings it back
	foreach my $what ('let go', 'parked')
	{
		my $s = "back$preload$what" =~ tr/ /_/r;
		run("SELECT es_subscribe('$s', NULL, '{$s}', max_attempts => 1), es_append('$s-1', 'T')");
		my $position = run("SELECT es_nack('$s', 0, position, 'no'), position FROM es_poll('$s')") =~ s/^\|//r;
		run("SELECT es_discard_parked('$s', $position)") if $what eq 'let go';
		my $checkpoint = run("SELECT position FROM es_subscriptions WHERE subscription = '$s'");
		my $poll = start("poll $s", "SELECT type, attempt FROM es_poll('$s', wait => '90s')");
		ok(sleeps("poll $s"), "$how: a poll that has passed an event that was $what waits");
		my $ready = start("ready $s", "CALL es_poll_wait('$s', '90s')");
		ok(sleeps("ready $s"), "$how: and es_poll_wait");
		run("SELECT es_rewind('$s', $checkpoint)");
		ends($ready, 't', "$how: a rewind makes es_poll_wait ready for an event that was $what");
		ends($poll, 'T|1', "$how: and the poll has it");
		is(run("SELECT position = $checkpoint FROM es_subscriptions WHERE subscription = '$s'"), 't', "$how: nothing has passed it");
	}

	# what is delivered again, or let go, under who waits
	my $s = "again$preload";
	run("SELECT es_subscribe('$s', NULL, '{$s}', max_attempts => 1), es_append('$s-1', 'A'), es_append('$s-1', 'B')");
	run("SELECT es_nack('$s', 0, position, 'no') FROM es_poll('$s')");
	my ($a, $b) = split /,/, run("SELECT string_agg(position::text, ',' ORDER BY position) FROM es_parked('$s')");
	my $poll = start("poll $s", "SELECT string_agg(type || attempt, ' ') FROM es_poll('$s', wait => '90s')");
	ok(sleeps("poll $s"), "$how: a poll that has passed two parked events waits");
	run("SELECT es_discard_parked('$s', $a)");
	ok(sleeps("poll $s"), "$how: on, as one is let go");
	run("SELECT es_replay_parked('$s', $b)");
	ends($poll, 'B1', "$how: the other is delivered again");
	is(run("SELECT es_ack('$s', 0, $b); SELECT count(*) FROM es_poll('$s'); SELECT lag_time, parked FROM es_subscriptions WHERE subscription = '$s'"), "\n0\n|0", "$how: and that is all");
}

# ---- an upcaster that changes definitions under the poll that runs it ----
{
	run(q{SELECT es_subscribe('meddled', 0, '{meddled}'), es_append('meddled-1', 'Old', '{"n": 1}', type_version => 1), es_append('meddled-1', 'Old', '{"n": 2}', type_version => 1),
		es_append('meddled-2', 'Old', '{"n": 3}', type_version => 1)});
	run(q{CREATE FUNCTION meddle(d jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE other text := 'x' || gen_random_uuid();
		BEGIN
			PERFORM es_subscribe(other, 0, array_agg('c' || n), array_agg('T' || n), partitions => 40) FROM generate_series(1, 40) n;
			PERFORM count(*) FROM es_parked(other);
			RETURN d || '{"new": true}';
		END$$;
		SELECT es_register_upcaster('Old', 1, 'meddle(jsonb)')});
	foreach my $round (1 .. 3)
	{
		is(run(q{SET eventstore.upcast = on; SELECT string_agg(stream || ' ' || partition || ' ' || data::text, ', ' ORDER BY position) FROM es_poll('meddled', member => 'm')}),
			join(', ', map { "meddled-" . ($_ == 3 ? 2 : 1) . qq( 0 {"n": $_, "new": true}) } 1 .. 3), 'a poll goes on by its definition while its upcaster makes others');
	}
	is(run(q{SELECT count(*), count(member) FROM es_subscriptions WHERE subscription ~ '^x'}), '360|0', 'which have been made');
	is(run(q{SELECT member, position FROM es_subscriptions WHERE subscription = 'meddled'}), 'm|0', 'and the lease is in its row');
	run(q{SELECT es_drop_upcaster('Old', 1)});
}

# ---- many parked events, and a call about them that is cancelled ----
{
	my $many = 20000;
	run(qq{SELECT es_subscribe('many', NULL, '{many}', max_attempts => 1), es_append_batch('many-1', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, $many)))});
	run(q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP PERFORM es_nack('many', 0, position, NULL) FROM es_poll('many'); COMMIT; END LOOP; END $$});
	is(run(q{SELECT parked FROM es_subscriptions WHERE subscription = 'many'}), $many, 'very many events are parked');
	# What a transaction that is rolled back has written counts, too.
	my $counts = q{SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE schemaname = 'eventstore' AND relname = 'subscription_failures'};
	# a time after which the rows have been read, and most of them have not been written yet
	foreach my $case ([ q{es_replay_parked('many')}, '15ms' ], [ q{es_rewind('many', 0)}, '15ms' ], [ q{es_unsubscribe('many')}, '1ms' ])
	{
		my ($call, $timeout) = @$case;
		my $before = run($counts);
		is(sqlstates($node, 'here', "SET statement_timeout = '$timeout'; SELECT $call"), '57014', "$call is cancelled");
		my $written = run($counts) - $before;
		cmp_ok($written, '<', $many, "... and does not go on to the end ($written)");
	}
	is(run(q{SELECT parked FROM es_subscriptions WHERE subscription = 'many'}), $many, 'nothing has changed');
	is(run(q{SELECT es_replay_parked('many')}), $many, 'one that is not cancelled does it all');
}

$node->stop;
done_testing();
