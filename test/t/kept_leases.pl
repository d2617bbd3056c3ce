# Leases that are renewed in shared memory: what a delivery writes; what sees them, and until
# when; what is left of them after a crash, a restart, with and without preload, a promotion, in a copy,
# in a prepared transaction, and where there is no room.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1,
	conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nrestart_after_crash = on\neventstore.retry_delay = '20ms'\neventstore.max_wait = '60s'\n");
my $on = $node;
my $in = 'postgres';

sub q_ { return $on->safe_psql($in, $_[0]); }
sub code { return sqlstates($on, $in, $_[0], on_error_stop => 0); }
sub subscribe { my ($name, $more) = @_; q_("SELECT es_subscribe('$name', NULL, '{$name}'" . ($more ? ", $more" : '') . ')'); }
sub add { my ($name, @types) = @_; q_("SELECT " . join(', ', map { "es_append('$name-1', '$_')" } @types)); }
sub at { my ($name, $type) = @_; return q_("SELECT max(position) FROM es_events WHERE stream LIKE '$name-%' AND type = '$type'"); }
sub ack { my ($name, $type, $member) = @_; return code("SELECT es_ack('$name', 0, " . at($name, $type) . ", '$member')"); }

# delivered(name, member, more arguments): types with attempts, in the order of delivery.
sub delivered
{
	my ($name, $member, $more) = @_;
	return q_("SELECT string_agg(type || attempt, ' ' ORDER BY position) FROM es_poll('$name', member => '$member', " . ($more // q{lease => '1h'}) . ')');
}

# beyond(name, member): acknowledges what has just been appended elsewhere, so that it was delivered to nobody.
sub beyond { my ($name, $member) = @_; my $position = q_(q{SELECT es_append('elsewhere-1', 'T'); SELECT es_settled_position()}) =~ s/.*\n//sr; return code("SELECT es_ack('$name', 0, $position, '$member')"); }

# row(name): which version of the partition's row there is
sub row { return q_("SELECT string_agg(p.ctid::text || p.xmin, ' ' ORDER BY partition) FROM eventstore.subscription_partitions p JOIN eventstore.subscriptions s USING (subscription_id) WHERE s.name = '$_[0]'"); }
sub open_upto { return q_("SELECT max(delivered_upto - p.position) FROM eventstore.subscription_partitions p JOIN eventstore.subscriptions s USING (subscription_id) WHERE s.name = '$_[0]'"); }

# A member that has a partition whose row says nothing of its last delivery.
sub begin_kept
{
	my ($name, $more) = @_;
	subscribe($name, $more);
	add($name, 'A');
	delivered($name, 'm1');
	ack($name, 'A', 'm1');
	add($name, 'B', 'C');
	my $before = row($name);
	is(delivered($name, 'm1'), 'B1 C1', "$name: delivered");
	is(row($name) . open_upto($name), "${before}0", "$name: which its row does not say");
}

# The server ends as if it had been struck, and comes back.
sub crash
{
	my $pid = q_('SELECT pg_backend_pid()');
	my $started = q_('SELECT pg_postmaster_start_time()');
	my $session = $on->background_psql($in, on_error_die => 0, on_error_stop => 0);
	$pid = $session->query('SELECT pg_backend_pid()');
	kill 'KILL', $pid;
	$session->quit;
	$on->poll_query_until($in, 'SELECT NOT pg_is_in_recovery()');
	return $pid;
}

q_('CREATE EXTENSION eventstore');

# ---- what a delivery writes ----
{
	begin_kept('writes');
	my $before = row('writes');
	is(q_(q{BEGIN; SELECT count(*) FROM es_poll('writes', member => 'm1', lease => '1h'); SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT}), "2\nt", 'a delivery takes no transaction id');
	is(row('writes'), $before, 'and writes no row');
	is(q_(q{SELECT lease_until > now() + interval '59 min' FROM es_subscriptions WHERE subscription = 'writes'}), 't', 'the lease is seen');
	is(q_(q{SELECT s.lease_until > p.lease_until AND s.lease_until <= p.kept_until FROM es_subscriptions s JOIN eventstore.subscriptions d ON d.name = s.subscription JOIN eventstore.subscription_partitions p USING (subscription_id) WHERE d.name = 'writes'}),
		't', 'as it was renewed, which the row covers');
	is(q_(q{SET eventstore.doctor_patience = 0; SELECT finding FROM es_doctor() WHERE detail ~ 'subscription .?writes'}), 'a member acknowledges nothing', 'also by es_doctor');
	is(delivered('writes', 'm2'), '', 'nobody else is delivered the same');
	is(ack('writes', 'B', 'm2'), 'VE007', 'or acknowledges it');
	is(beyond('writes', 'm1'), '22023', 'what was not delivered is not acknowledged');
	is(code(q{SELECT es_nack('writes', 0, } . at('writes', 'C') . q{, 'r', 'm1')}), '', 'what was is refused');
	is(delivered('writes', 'm1', q{wait => '60s', lease => '1h'}), 'B1 C2', 'and delivered again');
	is(ack('writes', 'C', 'm1'), '', 'and acknowledged, by another session');
	is(q_(q{SELECT position FROM es_subscriptions WHERE subscription = 'writes'}), at('writes', 'C'), 'up to its end');
}

# ---- the row is written once a third of the lease is over, and where the lease is another ----
{
	begin_kept('third');
	my $before = row('third');
	delivered('third', 'm1', q{lease => '2h'});
	isnt(row('third'), $before, 'a longer lease is written');
	$before = row('third');
	delivered('third', 'm1', q{lease => '3s'});
	isnt(row('third'), $before, 'and a shorter one, which a crash may not make longer');
	is(q_(q{SELECT lease_until < now() + interval '1 min' FROM es_subscriptions WHERE subscription = 'third'}), 't', 'and which holds');
	$before = row('third');
	ok(wait_until('the row to be written', sub { delivered('third', 'm1', q{lease => '3s'}); return row('third') ne $before }), 'a lease that is renewed is written in time');
	is(q_(q{SELECT count(*) FROM generate_series(1, 50), es_poll('third', member => 'm1', lease => '3s')}) > 0, 1, 'and goes on');
	ok(wait_until('the lease to end', sub { return delivered('third', 'm2') eq 'B2 C2' }), 'it ends without an acknowledgement, which counts');
	is(ack('third', 'C', 'm1'), 'VE007', 'and fences the member');
}

# ---- transactions ----
{
	begin_kept('undone');
	my $until = sub { return q_(q{SELECT lease_until FROM es_subscriptions WHERE subscription = 'undone'}) };
	my $before = $until->();
	q_(q{BEGIN; SELECT count(*) FROM es_poll('undone', member => 'm1', lease => '1h'); ROLLBACK});
	is($until->(), $before, 'a rollback takes back what was renewed');
	q_(q{BEGIN; SAVEPOINT s; SELECT count(*) FROM es_poll('undone', member => 'm1', lease => '1h'); ROLLBACK TO s; COMMIT});
	is($until->(), $before, 'and so does one to a savepoint');
	add('undone', 'D');
	is(code(q{BEGIN; SELECT count(*) FROM es_poll('undone', 2, member => 'm1', lease => '1h');
		SAVEPOINT s; SELECT count(*) FROM es_poll('undone', member => 'm1', lease => '1h'); ROLLBACK TO s;
		SELECT es_ack('undone', 0, } . at('undone', 'D') . q{, 'm1'); COMMIT}), '22023', 'what a savepoint was delivered is not acknowledged after its rollback');
	q_(q{BEGIN; SAVEPOINT s; SELECT count(*) FROM es_poll('undone', member => 'm1', lease => '1h'); RELEASE s; COMMIT});
	isnt($until->(), $before, 'one that is released keeps it');
	is(ack('undone', 'D', 'm1'), '', 'and what was delivered in it');
	add('undone', 'E');
	q_(q{BEGIN; SELECT count(*) FROM es_poll('undone', member => 'm1', lease => '1h'); SELECT es_rewind('undone', 0); COMMIT});
	is(ack('undone', 'E', 'm1'), 'VE007', 'a rewind in the same transaction counts');
	is(q_(q{SELECT lease_until FROM es_subscriptions WHERE subscription = 'undone'}), '', 'and ends the lease');
}

# ---- a filter that changes ----
{
	subscribe('filter', q{types => '{A,C}'});
	add('filter', 'A');
	delivered('filter', 'm1') eq 'A1' && ack('filter', 'A', 'm1') eq '' or die;
	add('filter', 'B', 'C');
	is(delivered('filter', 'm1'), 'C1', 'by a filter');
	q_(q{SELECT es_alter_subscription('filter', NULL, '{A,B,C}', NULL)});
	is(ack('filter', 'C', 'm1'), 'VE007', 'an event among what was delivered fences, though no row says that it was');
	is(delivered('filter', 'm1'), 'B1 C1', 'and is delivered');
	add('filter', 'D');
	q_(q{SELECT es_alter_subscription('filter', NULL, '{A,B,C,E}', NULL)});
	is(code(q{SELECT es_ack('filter', 0, } . at('filter', 'D') . q{, 'm1')}), '22023', 'what only the filter of before was read up to is not acknowledged');
	is(ack('filter', 'C', 'm1'), '', 'what was delivered is');
}

# ---- a crash ----
{
	begin_kept($_) foreach qw(crash_ack crash_nack crash_open crash_again crash_rewind);
	subscribe('crash_filter', q{types => '{A,C}'});
	add('crash_filter', 'A');
	delivered('crash_filter', 'm1');
	ack('crash_filter', 'A', 'm1');
	add('crash_filter', 'B', 'C');
	delivered('crash_filter', 'm1');
	subscribe('short', 'max_attempts => 2');
	add('short', 'A');
	delivered('short', 'm1', q{lease => '2s'});
	ack('short', 'A', 'm1');
	add('short', 'P', 'Q');
	delivered('short', 'm1', q{lease => '2s'});
	crash();
	is(delivered($_, 'm2'), '', "$_: after a crash nobody else has what was delivered") foreach qw(crash_ack crash_nack crash_open crash_again crash_rewind);
	is(ack('crash_ack', 'C', 'm2'), 'VE007', 'or acknowledges it');
	is(code(q{SELECT es_ack('crash_ack', 0, es_settled_position() + 1, 'm1')}), '22023', 'what cannot have been delivered is not acknowledged');
	is(ack('crash_ack', 'C', 'm1') . q_(q{SELECT lag > 0 FROM es_subscriptions WHERE subscription = 'crash_ack'}), 't', 'the member acknowledges what it was delivered before');
	is(delivered('crash_ack', 'm1'), '', 'which is not delivered again');
	is(code(q{SELECT es_nack('crash_nack', 0, } . at('crash_nack', 'C') . q{, 'r', 'm1')}), '', 'or refuses it');
	is(code(q{SELECT es_nack('crash_nack', 0, } . at('crash_open', 'C') . q{, 'r', 'm1')}), '22023', 'but not what is of another subscription');
	is(delivered('crash_nack', 'm1', q{wait => '60s'}), 'B1 C2', 'and is delivered it again');
	is(delivered('crash_again', 'm1'), 'B1 C1', 'one that polls again is delivered the same');
	is(open_upto('crash_again') > 0, 1, 'of which a row says so now');
	is(beyond('crash_again', 'm1'), '22023', 'so that it is known again what was not delivered');
	q_(q{SELECT es_rewind('crash_rewind', 0)});
	is(ack('crash_rewind', 'C', 'm1'), 'VE007', 'a rewind fences as ever');
	q_(q{SELECT es_alter_subscription('crash_filter', NULL, '{A,B,C}', NULL)});
	is(ack('crash_filter', 'C', 'm1'), 'VE007', 'and so does a filter, by what may have been delivered');
	is(delivered('crash_filter', 'm1'), 'B1 C1', 'and nothing is left out');

	# A consumer that dies of an event takes the server with it each time.
	is(delivered('short', 'm2', q{wait => '60s', lease => '2s'}), 'P1 Q1', 'the lease ends; that something was open is not known');
	crash();
	is(delivered('short', 'm1', q{wait => '60s', lease => '2s'}), 'P2 Q2', 'the next time it is: an attempt has failed');
	crash();
	is(delivered('short', 'm2', q{wait => '60s', lease => '2s'}), 'P3', 'and then, with the next event, alone');
	crash();
	is(delivered('short', 'm1', q{wait => '60s', lease => '1h'}), 'Q1', 'it is parked');
	is(q_(q{SELECT string_agg(type, ' ') FROM es_parked('short')}), 'P', 'and no other');
}

# ---- a restart without the library preloaded, and with it again ----
{
	begin_kept($_) foreach qw(off_ack off_poll);
	preload($node, 0);
	$node->restart;
	is(delivered('off_ack', 'm2'), '', 'without preload the row covers the lease');
	is(ack('off_ack', 'C', 'm1'), '', 'and the member acknowledges');
	is(delivered('off_poll', 'm1'), 'B1 C1', 'and polls');
	my $before = row('off_poll');
	is(delivered('off_poll', 'm1'), 'B1 C1', 'again');
	isnt(row('off_poll'), $before, 'of which it writes the row');
	preload($node, 1);
	$node->restart;
	is(delivered('off_poll', 'm2'), '', 'with preload the lease of before holds');
	is(beyond('off_poll', 'm1'), '22023', 'and what was delivered is known');
	is(ack('off_poll', 'C', 'm1'), '', 'and acknowledged');
}

# ---- prepared transactions ----
{
	begin_kept('prepared');
	begin_kept('taken_back');
	add($_, 'D') foreach qw(prepared taken_back);
	is(code(qq{BEGIN; SELECT count(*) FROM es_poll('$_', member => 'm1', lease => '1h'); PREPARE TRANSACTION '$_'}), '', 'a delivery is prepared') foreach qw(prepared taken_back);
	$node->restart;
	is(delivered('prepared', 'm2') . delivered('prepared', 'm1'), '', 'and is in the way of others, also after a restart');
	q_(q{COMMIT PREPARED 'prepared'});
	q_(q{ROLLBACK PREPARED 'taken_back'});
	is(delivered('prepared', 'm2'), '', 'committed, its lease holds');
	is(open_upto('prepared'), at('prepared', 'D') - at('prepared', 'A'), 'it was written');
	is(beyond('prepared', 'm1') . ack('prepared', 'D', 'm1'), '22023', 'and what was delivered is known');
	is(ack('taken_back', 'B', 'm1'), '', 'rolled back, what was delivered before it is acknowledged');
	is(delivered('taken_back', 'm1'), 'C1 D1', 'and the rest delivered');
	is(code(q{BEGIN; SELECT count(*) FROM es_poll('taken_back', member => 'm1', lease => '1h'); SELECT es_rewind('taken_back', 0); PREPARE TRANSACTION 'rewound'}), '', 'a rewind of what was delivered is prepared');
	q_(q{COMMIT PREPARED 'rewound'});
	is(ack('taken_back', 'D', 'm1'), 'VE007', 'and counts');
}

# ---- a copy of the database, and one that takes its place ----
{
	begin_kept('copied');
	q_(q{CREATE DATABASE other});
	$node->safe_psql('other', 'SELECT 1');
	$in = 'template1';
	q_(q{CREATE DATABASE copy TEMPLATE postgres});
	$in = 'copy';
	is(delivered('copied', 'm2'), '', 'in a copy of the database the lease holds');
	add('copied', 'D');
	is(delivered('copied', 'm1'), 'B1 C1 D1', 'and its member goes on');
	is(ack('copied', 'D', 'm1'), '', 'there');
	$in = 'postgres';
	is(beyond('copied', 'm1'), '22023', 'and here what is delivered there is not');
	is(ack('copied', 'C', 'm1'), '', 'but what is here');
	q_(q{DROP DATABASE copy});
	q_(q{CREATE DATABASE copy});
	$in = 'copy';
	q_('CREATE EXTENSION eventstore');
	begin_kept('copied');
	is(delivered('copied', 'm2'), '', 'a database of the same name begins anew');
	$in = 'postgres';
}

# ---- more leases than there is room for ----
{
	q_(qq{SELECT es_subscribe('many $_', NULL, '{many}', partitions => 1000)}) foreach 1 .. 6;
	q_(q{SELECT count(es_append('many-' || n, 'M')) FROM generate_series(1, 4000) n});
	q_(qq{SELECT count(*) FROM es_poll('many $_', NULL, member => 'm1', lease => '1h')}) foreach 1 .. 6;
	my $kept = q_(q{SELECT count(*) FILTER (WHERE kept_until IS NULL) > 0, count(*) FILTER (WHERE kept_until IS NOT NULL) > 3000 FROM eventstore.subscription_partitions p JOIN eventstore.subscriptions s USING (subscription_id) WHERE name LIKE 'many%' AND member = 'm1'});
	is($kept, 't|t', 'some have a place, and some do not');
	is(q_(q{SELECT count(*), bool_and(p.kept_until IS NOT NULL OR s.lease_until = p.lease_until) FROM es_subscriptions s JOIN eventstore.subscriptions d ON d.name = s.subscription JOIN eventstore.subscription_partitions p USING (subscription_id, partition)
		WHERE d.name LIKE 'many%' AND s.lease_until > now() + interval '50 min'}), q_(q{SELECT count(*) || '|t' FROM eventstore.subscription_partitions p JOIN eventstore.subscriptions s USING (subscription_id) WHERE name LIKE 'many%' AND p.member = 'm1'}), 'all leases are seen');
	is(q_(qq{SELECT count(*) FROM es_poll('many $_', NULL, member => 'm2')}), '0', "nobody else is delivered anything ($_)") foreach 1, 6;
	is(q_(q{SELECT count(es_ack('many 6', partition, max, 'm1')) = count(*) FROM (SELECT partition, max(position) FROM es_poll('many 6', NULL, member => 'm1', lease => '1h') GROUP BY 1) p}), 't', 'and the member acknowledges all');
	is(q_(q{SELECT count(*) FROM es_poll('many 6', NULL, member => 'm1', lease => '1h')}), '0', 'which is then done');
	q_(qq{SELECT es_unsubscribe('many $_')}) foreach 1 .. 6;
}

# ---- a standby that is promoted ----
{
	my $standby = start_standby($node);
	begin_kept('promoted');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is($standby->safe_psql('postgres', q{SELECT member, lease_until > now() + interval '50 min' FROM es_subscriptions WHERE subscription = 'promoted'}), 'm1|t', 'a standby shows the lease as its row has it');
	$node->stop('immediate');
	$standby->promote;
	$on = $standby;
	is(delivered('promoted', 'm2'), '', 'once it is promoted the lease holds there');
	is(ack('promoted', 'C', 'm1'), '', 'and the member acknowledges what the old primary has delivered');
	$standby->stop;
}

done_testing();
