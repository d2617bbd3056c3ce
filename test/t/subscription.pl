# Shares of members, leases, poison events, consumers under one name; what waits,
# what is woken, and what waiting holds; a crash.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION eventstore;
	CREATE TABLE done (nth bigserial, member text, partition int, position bigint, stream text, version bigint);
});

# ---- fair shares ----
$node->safe_psql('postgres', q{SELECT es_subscribe('fair', (SELECT es_settled_position()), partitions => 6)});
my $append = q{SELECT count(es_append('fair-' || n, 'F')) FROM generate_series(1, 60) n};
sub take
{
	my ($subscription, $member, $lease) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT count(*) FROM (SELECT es_ack('$subscription', partition, max(position), '$member')
			FROM es_poll('$subscription', NULL, member => '$member', lease => '$lease') GROUP BY partition) a});
}
sub shares
{
	return $node->safe_psql('postgres', q{SELECT string_agg(member || count, ' ' ORDER BY member) FROM
		(SELECT member, count(*) FROM es_subscriptions WHERE subscription = 'fair' AND lease_until > clock_timestamp() GROUP BY member) s});
}
$node->safe_psql('postgres', $append);
take('fair', 'a', '1h');
is(shares(), 'a6', 'one member has all partitions');
take('fair', 'b', '1h');
foreach (1 .. 2) { $node->safe_psql('postgres', $append); take('fair', $_, '1h') foreach ('a', 'b'); }
is(shares(), 'a3 b3', 'two have half of them each');
take('fair', 'c', '2s');
foreach (1 .. 3) { $node->safe_psql('postgres', $append); take('fair', $_, $_ eq 'c' ? '2s' : '1h') foreach ('a', 'b', 'c'); }
is(shares(), 'a2 b2 c2', 'three a third');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM eventstore.subscription_members m JOIN eventstore.subscriptions s USING (subscription_id)
	LEFT JOIN es_subscriptions p ON p.subscription = s.name AND p.member = m.member
	WHERE s.name = 'fair' AND m.member = 'c' AND greatest(m.alive_until, p.lease_until) > clock_timestamp()}), 'one stays away');
foreach (1 .. 2) { $node->safe_psql('postgres', $append); take('fair', $_, '1h') foreach ('a', 'b'); }
is(shares(), 'a3 b3', 'the others have its partitions');

# ---- a member that dies, and comes back late ----
$node->safe_psql('postgres', q{SELECT es_subscribe('late', (SELECT es_settled_position())); SELECT es_append('late-1', 'A'), es_append('late-1', 'B')});
is($node->safe_psql('postgres', q{SELECT string_agg(type || attempt, ' ' ORDER BY position) FROM es_poll('late', member => 'm1', lease => '2s')}), 'A1 B1', 'a member is delivered');
is($node->safe_psql('postgres', q{SELECT count(*) FROM es_poll('late', member => 'm2')}), '0', 'and no other');
is($node->safe_psql('postgres', q{SELECT string_agg(type || attempt, ' ' ORDER BY position) FROM es_poll('late', member => 'm2', wait => '10s', lease => '1h')}),
	'A2 B2', 'until its lease ends: somebody who waits gets it then');
my ($ret, $out, $err) = $node->psql('postgres', q{
	\set VERBOSITY sqlstate
	BEGIN;
	INSERT INTO done (member) VALUES ('late');
	SELECT es_ack('late', 0, max(position), 'm1') FROM es_events WHERE stream = 'late-1';
	COMMIT;});
like($err, qr/ERROR:  VE007/, 'the late acknowledgement is VE007');
is($node->safe_psql('postgres', q{SELECT count(*) FROM done WHERE member = 'late'}), '0', 'and its work is undone');
$node->safe_psql('postgres', q{SELECT es_ack('late', 0, max(position), 'm2') FROM es_events WHERE stream = 'late-1'});

# A lease that ended counts as long as nobody else has the partition.
$node->safe_psql('postgres', q{SELECT es_append('late-1', 'C'); SELECT count(*) FROM es_poll('late', member => 'm2', lease => '1ms')});
is($node->psql('postgres', q{SELECT es_ack('late', 0, max(position), 'm2') FROM es_events WHERE stream = 'late-1'}), 0, 'a slow consumer that nobody has replaced may acknowledge');

# ---- poison: a consumer dies of an event, each time ----
$node->safe_psql('postgres', q{SELECT es_subscribe('poison', (SELECT es_settled_position()), max_attempts => 2);
	SELECT es_append('poison-1', 'Bad'), es_append('poison-1', 'Good'), es_append('poison-2', 'Good')});
my @deliveries;
for (1 .. 20)
{
	my $types = $node->safe_psql('postgres', q{SELECT string_agg(type || attempt, ' ' ORDER BY position) FROM es_poll('poison', wait => '5s', lease => '1us')});
	push @deliveries, $types;
	last if $types !~ /Bad/;
}
is($deliveries[0], 'Bad1 Good1 Good1', 'at first all are delivered');
is($deliveries[-2], 'Bad3', 'then the next one alone');
is($deliveries[-1] =~ s/\d//gr, 'Good Good', 'then the others without it');
is($node->safe_psql('postgres', q{SELECT attempts, reason FROM es_parked('poison')}), '3|the lease ended without an acknowledgement', 'it is parked');
is($node->safe_psql('postgres', q{SELECT parked FROM es_subscriptions WHERE subscription = 'poison'}), '1', 'and counted');

# ---- two sessions under one name ----
$node->safe_psql('postgres', q{SELECT es_subscribe('twins', (SELECT es_settled_position())); SELECT es_append('twins-1', 'A'), es_append('twins-1', 'B')});
my $twin = $node->background_psql('postgres');
$twin->query_safe('BEGIN');
is($twin->query_safe(q{SELECT string_agg(type, ' ') FROM es_poll('twins', 1)}), 'A', 'one twin is delivered');
is($node->safe_psql('postgres', q{SELECT count(*) FROM es_poll('twins', 1)}), '0', 'the other one is not, while its transaction is open');
$twin->query_safe(q{SELECT es_ack('twins', 0, max(position)) FROM es_poll('twins', 1)});
$twin->query_safe('COMMIT');
is($node->safe_psql('postgres', q{SELECT string_agg(type, ' ') FROM es_poll('twins', 1)}), 'B', 'and then gets what follows');
$twin->quit;

# ---- a subscription is dropped while a member that found nothing is in a transaction ----
$node->safe_psql('postgres', q{SELECT es_subscribe('dropped', NULL, partitions => 2)});
$twin = $node->background_psql('postgres');
$twin->query_safe(q{BEGIN; SELECT count(*) FROM es_poll('dropped', member => 'm')});
my $dropper = start_script($node, 'postgres', q{SET application_name = 'dropper'; SELECT es_unsubscribe('dropped')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'dropper' AND wait_event_type = 'Lock'}), 'es_unsubscribe waits for a member');
$twin->query_safe('COMMIT');
$twin->quit;
is((finish_script($dropper))[1], '', 'and then succeeds');
is($node->safe_psql('postgres', q{SELECT count(*) FROM eventstore.subscription_members m WHERE NOT EXISTS (SELECT FROM eventstore.subscriptions s WHERE s.subscription_id = m.subscription_id)}),
	'0', 'and leaves no member behind');

# ---- waiting ----
foreach my $preload (1, 0)
{
	my $how = preload($node, $preload);

	$node->restart;
	$node->safe_psql('postgres', "SELECT es_subscribe('wait$preload', NULL, '{wait}'), es_subscribe('shared$preload', NULL, '{wait}', partitions => 2)");
	foreach my $sql ("SELECT count(*) FROM es_poll('wait$preload', wait => '60s')", "CALL es_poll_wait('wait$preload', '60s')")
	{
		my $waiter = start_script($node, 'postgres', "SET application_name = 'waiter'; SET eventstore.max_wait = '60s';\n$sql;\n");
		ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event_type = 'Extension'}), "$how: waits: $sql");
		is($node->safe_psql('postgres', q{SELECT count(backend_xid), count(backend_xmin) FROM pg_stat_activity WHERE application_name = 'waiter'}), $sql =~ /CALL/ ? '0|0' : '0|1', "$how: what it holds");
		$node->safe_psql('postgres', q{SELECT es_append('other-1', 'Other')});
		$node->safe_psql('postgres', q{BEGIN; SELECT es_append('wait-1', 'W'); PREPARE TRANSACTION 'w'});
		is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'}), '1', "$how: neither other events nor a prepared one end the wait");
		my $start = time();
		$node->safe_psql('postgres', q{COMMIT PREPARED 'w'});
		my ($out, $err) = finish_script($waiter);
		is($out . $err, $sql =~ /CALL/ ? "t\n" : "1\n", "$how: a commit does");
		$node->safe_psql('postgres', "SELECT es_ack('wait$preload', partition, max(position)) FROM es_poll('wait$preload') GROUP BY partition");
	}
	my $serial = start_script($node, 'postgres', "SET application_name = 'waiter'; SET default_transaction_isolation = 'repeatable read';\nCALL es_poll_wait('wait$preload', '60s');\n");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event_type = 'Extension'});
	is($node->safe_psql('postgres', q{SELECT count(backend_xid), count(backend_xmin) FROM pg_stat_activity WHERE application_name = 'waiter'}), '0|0', "$how: under REPEATABLE READ es_poll_wait holds nothing either");
	$node->safe_psql('postgres', q{SELECT es_append('wait-1', 'W')});
	is((finish_script($serial))[0], "t\n", "$how: and is woken");
	$node->safe_psql('postgres', "SELECT es_ack('wait$preload', partition, max(position)) FROM es_poll('wait$preload') GROUP BY partition");
	foreach my $end ('cancel', 'statement_timeout', 'terminate')
	{
		foreach my $sql ("SELECT count(*) FROM es_poll('wait$preload', wait => '60s')", "CALL es_poll_wait('wait$preload', '60s')")
		{
			my $waiter = start_script($node, 'postgres', "\\set VERBOSITY sqlstate\nSET application_name = 'waiter'; SET eventstore.max_wait = '60s';"
				. ($end eq 'statement_timeout' ? "SET statement_timeout = '300ms';" : '') . "\n$sql;\n");
			if ($end ne 'statement_timeout')
			{
				$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event_type = 'Extension'});
				$node->safe_psql('postgres', "SELECT pg_${end}_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
			}
			like((finish_script($waiter))[1], $end eq 'terminate' ? qr/57P01|terminating/ : qr/57014/, "$how: $end ends $sql");
		}
	}
	is($node->safe_psql('postgres', "SELECT count(*) FROM es_poll('wait$preload'); BEGIN; SELECT count(*), pg_current_xact_id_if_assigned() IS NULL FROM es_poll('wait$preload', wait => '10ms')"),
		"0\n0|t", "$how: a poll that finds nothing writes nothing");

	# A member that waits gets what another one gives up.
	$node->safe_psql('postgres', q{SELECT count(es_append('wait-' || n, 'W')) FROM generate_series(1, 20) n});
	take("shared$preload", 'a', '1h');
	take("shared$preload", 'b', '1h');
	$node->safe_psql('postgres', q{SELECT count(es_append('wait-' || n, 'W')) FROM generate_series(1, 20) n});
	my $waiter = start_script($node, 'postgres', "SET application_name = 'waiter'; SET eventstore.max_wait = '60s';\nSELECT count(*) > 0 FROM es_poll('shared$preload', wait => '60s', member => 'b');\n");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event_type = 'Extension'});
	take("shared$preload", 'a', '1h');
	is((finish_script($waiter))[0], "t\n", "$how: a member that waits gets what another one gives up");
}

# ---- a crash, and a standby ----
preload($node, 1);
$node->restart;
$node->safe_psql('postgres', q{SELECT es_subscribe('crash', (SELECT es_settled_position())); SELECT es_append('crash-1', 'A'), es_append('crash-1', 'B'), es_append('crash-1', 'C')});
$node->safe_psql('postgres', q{SELECT es_ack('crash', 0, min(position)) FROM es_poll('crash')});
$twin = $node->background_psql('postgres', on_error_stop => 0);
$twin->query_safe(q{BEGIN; INSERT INTO done (member) SELECT 'crash' FROM es_poll('crash')});
$twin->query_safe(q{SELECT es_ack('crash', 0, max(position)) FROM es_poll('crash')});
$node->stop('immediate');
eval { $twin->quit };
$node->start;
is($node->safe_psql('postgres', q{SELECT string_agg(type, '' ORDER BY position), (SELECT count(*) FROM done WHERE member = 'crash') FROM es_poll('crash')}), 'BC|0',
	'after a crash: what was committed is acknowledged, nothing else, and work goes with it');

$node->safe_psql('postgres', q{SELECT count(es_subscribe('idle ' || n)) FROM generate_series(1, 1000) n});
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT lag) FROM es_subscriptions WHERE subscription LIKE 'idle %'}), '1000|1', 'a thousand subscriptions');
$node->stop;
done_testing();
