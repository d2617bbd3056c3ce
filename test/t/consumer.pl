# What consumers of a subscription meet: members that die and are fenced, refusals,
# parking and poison; rewinds, drops, dumps, standbys and isolation levels; what
# ends a wait and what a wait holds.  ES_SEED repeats a run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = seed();
my $rounds = $ENV{ES_SUBSCRIPTION_ROUNDS} // 1;
my $node = new_node('main', streaming => 1,
	conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nrestart_after_crash = on\neventstore.retry_delay = '20ms'\neventstore.max_wait = '60s'\n");
my $waits = q{state = 'active' AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')};

# q(sql): the result; code(sql): the SQLSTATEs of what fails.
sub q_ { return $node->safe_psql('postgres', $_[0]); }
sub code
{
	my ($sql, $on) = @_;
	return sqlstates($on // $node, 'postgres', $sql, on_error_stop => 0);
}

# subscribe(name, arguments): to what its own category is appended from now on.
sub subscribe { my ($name, $more) = @_; q_("SELECT es_subscribe('$name', NULL, '{$name}'" . ($more ? ", $more" : '') . ')'); }
sub add { my ($name, @types) = @_; q_("SELECT " . join(', ', map { "es_append('$name-1', '$_')" } @types)); }

# delivered(name, arguments): types with attempts, in the order of delivery.
sub delivered
{
	my ($name, $more) = @_;
	return q_("SELECT string_agg(type || attempt, ' ') FROM es_poll('$name'" . ($more ? ", $more" : '') . ')');
}
sub at { my ($name, $type) = @_; return q_("SELECT max(position) FROM es_events WHERE stream LIKE '$name-%' AND type = '$type'"); }
sub ack { my ($name, $type, $member) = @_; return code("SELECT es_ack('$name', 0, " . at($name, $type) . ($member ? ", '$member'" : '') . ')'); }
sub nack { my ($name, $type, $reason) = @_; return code("SELECT es_nack('$name', 0, " . at($name, $type) . ", " . (defined $reason ? "'$reason'" : 'NULL') . ')'); }
sub parked { return q_("SELECT string_agg(e.type || p.attempts || coalesce(p.reason, '-'), ' ' ORDER BY position) FROM es_parked('$_[0]') p JOIN es_events e USING (position)"); }
sub left { return q_("SELECT max(lag) FROM es_subscriptions WHERE subscription = '$_[0]'"); }
sub wait_for { my ($name) = @_; return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND $waits"); }
sub lease_over { return $node->poll_query_until('postgres', "SELECT every(coalesce(lease_until < clock_timestamp(), true)) FROM es_subscriptions WHERE subscription = '$_[0]'"); }


q_(q{
	CREATE EXTENSION eventstore;
	CREATE TABLE done (nth bigserial, subscription text, member text, partition int, position bigint, stream text, version bigint);
});

# ---- a member dies: within its transaction, and with a lease ----
{
	subscribe('dies');
	add('dies', 'A', 'B');
	my $work = q{INSERT INTO done (subscription) VALUES ('dies'); SELECT es_ack('dies', 0, max(position), 'm1') FROM es_events WHERE stream = 'dies-1'};
	my $dying = start_named($node, 'postgres', 'dying', qq{BEGIN; SELECT count(*) FROM es_poll('dies', member => 'm1'); $work; SELECT pg_sleep(60);});
	wait_for('dying');
	is(delivered('dies', q{member => 'm2'}), '', 'what a member is delivered in a transaction nobody else is');
	q_(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dying'});
	finish_script($dying);
	is(q_(q{SELECT count(*) FROM done WHERE subscription = 'dies'}), '0', 'killed in its transaction, it has done nothing');
	is(delivered('dies', q{member => 'm1', lease => '300ms'}), 'A1 B1', 'and had no lease');
	$dying = start_named($node, 'postgres', 'dying', qq{BEGIN; $work; SELECT pg_sleep(60);});
	wait_for('dying');
	q_(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dying'});
	finish_script($dying);
	is(delivered('dies', q{member => 'm2', wait => '30s', lease => '1h'}), 'A2 B2', 'killed with a lease, another member gets it once that has ended');
	cmp_ok(q_(q{SELECT count(*) FROM es_subscriptions WHERE subscription = 'dies' AND member = 'm2' AND lease_until > now()}), '==', 1, 'and has it');
	is(code("BEGIN; $work; COMMIT;"), 'VE007', 'the late acknowledgement is VE007');
	is(code(q{SELECT es_nack('dies', 0, } . at('dies', 'A') . q{, 'r', 'm1')}), 'VE007', 'and so is a late refusal');
	is(q_(q{SELECT count(*) FROM done WHERE subscription = 'dies'}), '0', 'whose work is undone');
	is(ack('dies', 'B', 'm2'), '', 'the other one acknowledges');
	is(delivered('dies', q{member => 'm1'}), '', 'and nothing is left');

	# polling again within a lease does not count, for events either that came after the lease that ended
	add('dies', 'C');
	delivered('dies', q{member => 'm2', lease => '10ms'});
	is(delivered('dies', q{member => 'm1', wait => '30s', lease => '1h'}), 'C2', 'an attempt that lapsed counts');
	add('dies', 'D');
	is(delivered('dies', q{member => 'm1'}), 'C2 D1', 'of what was delivered in it');
	is(delivered('dies', q{member => 'm1'}), 'C2 D1', 'polling again within the lease does not count');

	# A prepared consumer.
	is(code(q{BEGIN; INSERT INTO done (subscription) SELECT 'prepared' FROM es_poll('dies', member => 'm1');
		SELECT es_ack('dies', 0, max(position), 'm1') FROM es_events WHERE stream = 'dies-1'; PREPARE TRANSACTION 'consumer'}), '', 'a consumer may prepare its transaction');
	$node->restart;
	is(delivered('dies', q{member => 'm1'}), '', 'which has its partition until its outcome is known');
	q_(q{COMMIT PREPARED 'consumer'});
	is(q_(q{SELECT count(*) FROM done WHERE subscription = 'prepared'}) . left('dies'), '20', 'and then work and acknowledgement are there');
}

# ---- fair shares ----
{
	q_(q{SELECT es_subscribe('fair', NULL, '{fair}', partitions => 6)});
	my $turn = sub {
		q_(q{SELECT count(es_append('fair-' || n, 'F')) FROM generate_series(1, 60) n});
		q_("SELECT count(es_ack('fair', partition, max, '$_')) FROM (SELECT partition, max(position) FROM es_poll('fair', NULL, member => '$_', lease => '" . ($_ eq 'c' ? '1s' : '1h') . "') GROUP BY 1) p") foreach @_;
	};
	my $shares = sub { return q_(q{SELECT string_agg(member || n, ' ' ORDER BY member) FROM (SELECT member, count(*) AS n FROM es_subscriptions WHERE subscription = 'fair' AND lease_until > clock_timestamp() GROUP BY member) s}) };
	$turn->('a');
	is($shares->(), 'a6', 'one member has all');
	my $began = time();
	is(delivered('fair', q{member => 'b', wait => '30s'}), '', 'who joins has nothing at first');
	cmp_ok(time() - $began, '<', 15, 'and does not wait for it');
	$turn->('a', 'b') foreach 1 .. 2;
	is($shares->(), 'a3 b3', 'two have half each');
	$turn->('c', 'a', 'b', 'c');
	$turn->('a', 'b', 'c');
	is($shares->(), 'a2 b2 c2', 'three have a third each');
	$node->poll_query_until('postgres', q{SELECT max(alive_until) FILTER (WHERE member = 'c') < clock_timestamp() AND NOT EXISTS (SELECT FROM es_subscriptions WHERE member = 'c' AND lease_until > clock_timestamp())
		FROM eventstore.subscription_members});
	$turn->('a', 'b') foreach 1 .. 2;
	is($shares->(), 'a3 b3', 'who stays away has none any more');
}

# ---- refusals and parking ----
{
	subscribe('nack', 'max_attempts => 3');
	add('nack', 'A', 'B', 'C');
	is(delivered('nack'), 'A1 B1 C1', 'delivered');
	is(nack('nack', 'B', 'first') . ack('nack', 'C'), '', 'one is refused, a later one acknowledged');
	is(left('nack'), '0', 'the checkpoint is past both');
	is(delivered('nack', q{wait => '30s'}), 'B2', 'the refused one is delivered again all the same');
	is(delivered('nack'), 'B2', 'until acknowledged');
	is(nack('nack', 'B', 'second') . delivered('nack', q{wait => '30s'}), 'B3', 'again');
	is(nack('nack', 'B', 'third') . delivered('nack'), '', 'max_attempts times');
	is(parked('nack'), 'B3third', 'then it is parked');
	is(nack('nack', 'B', 'fourth') . parked('nack'), 'B3third', 'refusing it once more changes nothing');
	add('nack', 'D');
	is(delivered('nack') . nack('nack', 'D') . delivered('nack', q{wait => '30s'}) . nack('nack', 'D') . delivered('nack', q{wait => '30s'}) . nack('nack', 'D'), 'D1D2D3', 'the partition goes on');
	is(parked('nack'), 'B3third D3-', 'two are parked');
	is(left('nack') . delivered('nack') . left('nack'), '10', 'the checkpoint moves past a parked event');
	is(q_(q{SELECT es_replay_parked('nack', 1), es_replay_parked('nack', 0), es_replay_parked('nack', } . at('nack', 'B') . ')'), '0|0|1', 'one is replayed');
	is(parked('nack'), 'D3-', 'and not parked any more');
	is(delivered('nack'), 'B1', 'but delivered, as if for the first time');
	is(ack('nack', 'B') . delivered('nack'), '', 'and gone once acknowledged');
	add('nack', 'E');
	is(q_(q{SELECT es_replay_parked('nack')}) . ' ' . delivered('nack') . ack('nack', 'E'), '1 D1 E1', 'all are replayed; they come first');
	is(q_(q{SELECT es_replay_parked('nack'), count(*) FROM es_parked('nack')}) . delivered('nack'), '0|0', 'and are gone');

	# an acknowledgement that comes before the replayed event does does not lose it
	add('nack', 'F', 'G');
	q_(q{SET eventstore.retry_delay = 1; } . join('', map { q{SELECT count(*) FROM es_poll('nack', wait => '30s'); SELECT es_nack('nack', 0, } . at('nack', 'F') . ', NULL);' } 1 .. 3));
	is(parked('nack'), 'F3-', 'one is parked before the checkpoint is there');
	is(delivered('nack'), 'G1', 'what follows is delivered');
	is(q_(q{SELECT es_replay_parked('nack')}) . ack('nack', 'G') . delivered('nack'), '1F1', 'replayed before that is acknowledged, it comes');
	is(ack('nack', 'F') . delivered('nack'), '', 'once');

	# Each further refusal of an event waits longer, whatever else is refused.
	add('nack', 'H', 'I');
	delivered('nack');
	my $waits_for = sub { return q_(q{SELECT extract(epoch FROM retry_at - clock_timestamp()) FROM eventstore.subscription_partitions JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'nack'}) };
	nack('nack', 'H');
	delivered('nack', q{wait => '30s'});
	q_(q{SET eventstore.retry_delay = '100s'; SELECT es_nack('nack', 0, } . at('nack', 'H') . ', NULL)');
	cmp_ok($waits_for->(), '>', 150, 'the second time twice as long');
	q_(q{SET eventstore.retry_delay = '100s'; SELECT es_nack('nack', 0, } . at('nack', 'I') . ', NULL)');
	cmp_ok($waits_for->(), '>', 150, 'not shortened by another event that is refused for the first time');
	is(delivered('nack'), '', 'nothing is delivered meanwhile');
	q_(q{SELECT es_rewind('nack', NULL)});

	subscribe('ever', 'max_attempts => NULL');
	add('ever', 'A');
	is(join(' ', map { my $d = delivered('ever', q{wait => '30s'}); q_(q{SET eventstore.retry_delay = 1; SELECT es_nack('ever', 0, } . at('ever', 'A') . ', NULL)'); $d } 1 .. 8), 'A1 A2 A3 A4 A5 A6 A7 A8', 'without max_attempts for ever');

	is(code(q{SELECT es_nack('nack', 0, 9223372036854775807, 'r'); SELECT es_ack('nack', 0, 9223372036854775807); SELECT es_ack('none', 0, 1); SELECT es_nack('none', 0, 1, 'r');
		SELECT es_ack('nack', 1, 1); SELECT es_ack('nack', -1, 1); SELECT es_nack('nack', 1, 1, 'r'); SELECT es_ack('nack', NULL, 1); SELECT es_ack('nack', 0, NULL); SELECT es_ack(NULL, 0, 1);
		SELECT es_nack('nack', 0, NULL, 'r'); SELECT es_parked('none'); SELECT es_replay_parked('none'); SELECT es_replay_parked(NULL); SELECT es_ack('nack', 0, 1, 'stranger'); SELECT es_ack('nack', 0, 1);}),
		'VE007 VE007 VE004 VE004 22023 22023 22023 22004 22004 22004 22004 VE004 VE004 22004 VE007 VE007', 'errors');
	add('nack', 'J', 'K');
	is(delivered('nack', 'max_count => 1'), 'J1', 'one is delivered');
	is(ack('nack', 'K') . ' ' . nack('nack', 'K'), '22023 22023', 'what was not delivered can be neither acknowledged nor refused');
	is(ack('nack', 'J') . ack('nack', 'J') . nack('nack', 'J'), '22023', 'what was acknowledged is fine to acknowledge, but cannot be refused');
	is(delivered('nack'), 'K1', 'the other one comes');

	# several partitions, one delivery a poll: what is refused in all of them comes
	q_(q{SELECT es_subscribe('spread', NULL, '{spread}', partitions => 4)});
	q_(q{SELECT count(es_append('spread-' || n, 'S')) FROM generate_series(1, 40) n});
	q_(q{SELECT count(es_nack('spread', partition, min, 'r')), count(es_ack('spread', partition, max)) FROM (SELECT partition, min(position), max(position) FROM es_poll('spread') GROUP BY 1) p});
	my @again;
	for (1 .. 4)
	{
		push @again, q_(q{SELECT partition || ':' || attempt FROM (SELECT *, es_ack('spread', partition, position) FROM es_poll('spread', 1, '30s')) d});
	}
	is(join(' ', sort @again), '0:2 1:2 2:2 3:2', 'one by one, from all partitions');
	is(delivered('spread'), '', 'and no more');
}

# ---- acknowledgements and refusals of ten events in any order ----
{
	subscribe('combo', 'max_attempts => 100');
	q_(q{
		CREATE TABLE mismatch (round int, wanted text, got text);
		CREATE PROCEDURE combos(rounds int) LANGUAGE plpgsql AS $$
		DECLARE
			at bigint[];
			k int[];
			i int;
			acked int;
			refused int[];
			outcome text;
			wanted text;
			got text;
		BEGIN
			FOR r IN 1 .. rounds LOOP
				PERFORM es_append('combo-1', 'C') FROM generate_series(1, 10);
				COMMIT;
				SELECT array_agg(position ORDER BY position) INTO at FROM es_poll('combo', 10);
				acked := 0;
				refused := '{}';
				k := ARRAY(SELECT n FROM generate_series(1, 10) n WHERE random() < 0.9 ORDER BY random());
				FOREACH i IN ARRAY k LOOP
					IF random() < 0.5 THEN
						PERFORM es_ack('combo', 0, at[i]);
						acked := greatest(acked, i);
					ELSE
						outcome := 'fine';
						BEGIN
							PERFORM es_nack('combo', 0, at[i], 'r');
						EXCEPTION WHEN OTHERS THEN
							outcome := SQLSTATE;
						END;
						wanted := CASE WHEN i <= acked THEN '22023' ELSE 'fine' END;
						IF outcome <> wanted THEN
							INSERT INTO mismatch VALUES (r, wanted, outcome);
						END IF;
						IF outcome = 'fine' THEN
							refused := refused || i;
						END IF;
					END IF;
					IF random() < 0.5 THEN COMMIT; END IF;
				END LOOP;
				COMMIT;
				SELECT coalesce(string_agg(n || ':' || CASE WHEN n = ANY (refused) THEN 2 ELSE 1 END, ' ' ORDER BY n), '') INTO wanted
				FROM generate_series(1, 10) n WHERE n = ANY (refused) OR n > acked;
				SELECT coalesce(string_agg(array_position(at, position) || ':' || attempt, ' '), '') INTO got
				FROM es_poll('combo', NULL, CASE WHEN wanted = '' THEN '0' ELSE '30s' END::interval);
				COMMIT;
				IF got <> wanted THEN
					INSERT INTO mismatch VALUES (r, wanted, got);
				END IF;
				PERFORM es_ack('combo', 0, at[10]);
				COMMIT;
				SELECT coalesce(string_agg(array_position(at, position)::text, ' '), 'none') INTO got FROM es_poll('combo');
				IF got <> 'none' THEN
					INSERT INTO mismatch VALUES (r, 'none', got);
				END IF;
				COMMIT;
			END LOOP;
		END
		$$});
	q_("SET eventstore.retry_delay = 1; SELECT setseed(0.$seed); CALL combos(" . 200 * $rounds . ')');
	is(q_('SELECT * FROM mismatch LIMIT 10'), '', 'in any order, exactly what was refused or not acknowledged comes again');
	is(q_(q{SELECT sum(pending + parked), (SELECT count(*) FROM eventstore.subscription_failures f WHERE f.subscription_id = p.subscription_id)
		FROM eventstore.subscription_partitions p JOIN eventstore.subscriptions USING (subscription_id) WHERE name = 'combo' GROUP BY subscription_id}), '0|0', 'and nothing is kept of it');
}

# ---- poison: leases that always lapse ----
{
	# consumes until nothing comes; dies of Bad, acknowledges the rest
	my $drain = sub {
		my ($name) = @_;
		my @seen;
		for (1 .. 30)
		{
			my $got = delivered($name, q{wait => '200ms', lease => '30ms'}) or last;
			push @seen, $got;
			if ($got !~ /Bad/) { q_("SELECT es_ack('$name', 0, max(position)) FROM es_events WHERE stream = '$name-1' AND type = '" . ($got =~ /(\w+)\d$/)[0] . "'"); }
			else { lease_over($name); }
		}
		return join(', ', @seen);
	};
	subscribe('poison', 'max_attempts => 2');
	add('poison', 'Bad', 'Good', 'Fine');
	is($drain->('poison'), 'Bad1 Good1 Fine1, Bad2 Good2 Fine2, Bad3, Good1 Fine1', 'a consumer dies of an event: it is delivered alone in the end, then parked; the rest goes on')
		or diag q_(q{SELECT * FROM es_subscriptions WHERE subscription = 'poison'});
	is(q_(q{SELECT count(*), min(attempts), min(reason) FROM es_parked('poison')}), '1|3|the lease ended without an acknowledgement', 'with a reason');

	# the last event
	add('poison', 'Bad');
	is($drain->('poison'), 'Bad1, Bad2, Bad3', 'also when nothing follows');
	is(q_(q{SELECT count(*) FROM es_parked('poison')}), '2', 'parked');
	delivered('poison') foreach 1 .. 3;
	is(left('poison'), '0', 'the checkpoint moves past it');

	# replayed, and still poison
	q_(q{SELECT es_replay_parked('poison')});
	add('poison', 'Good');
	my $seen = $drain->('poison');
	like($seen, qr/Bad2/, 'a replayed event whose lease lapsed counts its attempts');
	like($seen, qr/(^|, )Good\d$/, 'poison that is replayed holds up nothing for ever') or diag $seen;
	is(q_(q{SELECT count(*) FROM es_parked('poison')}), '2', 'and is parked again');
}

# ---- events parked, or delivered again, under waiters ----
{
	subscribe('quiet', 'max_attempts => 1');
	add('quiet', 'A');
	delivered('quiet', q{lease => '1h'});
	nack('quiet', 'A');
	my $waiter = start_named($node, 'postgres', 'quiet', q{SELECT string_agg(type || attempt, ' ') FROM es_poll('quiet', wait => '20s');});
	wait_for('quiet');
	is(code(q{SET lock_timeout = '5s'; SELECT es_replay_parked('quiet')}), '', 'a member that waits does not lock what others need');
	is((finish_script($waiter))[0], "A1\n", 'and gets what is replayed');
	ack('quiet', 'A');

	# with the lease ended
	subscribe('lapsed', 'max_attempts => 1');
	add('lapsed', 'B');
	is(delivered('lapsed', q{member => 'm', lease => '10ms'}), 'B1', 'delivered');
	lease_over('lapsed');
	is(code(q{SELECT es_nack('lapsed', 0, } . at('lapsed', 'B') . q{, NULL, 'm')}), '', 'a lease that ended counts until somebody else has the partition');
	delivered('lapsed', q{member => 'n'}) foreach 1 .. 2;
	is(left('lapsed'), '0', 'the checkpoint moves past a parked event whose lease has ended');

	# es_poll_wait sees what a dead member leaves of the past
	subscribe('past', 'max_attempts => 5');
	add('past', 'C', 'D');
	is(delivered('past', q{member => 'm', lease => '10ms'}), 'C1 D1', 'delivered');
	is(code(q{SELECT es_nack('past', 0, } . at('past', 'C') . q{, NULL, 'm')}) . ack('past', 'D', 'm') . left('past'), '0', 'one is refused and passed');
	is(delivered('past', q{member => 'm', lease => '200ms', wait => '30s'}), 'C2', 'it is delivered again');
	is(q_(q{CALL es_poll_wait('past', '3s')}), 't', 'its lease ends: es_poll_wait tells another member');
	is(delivered('past', q{wait => '30s', member => 'n'}), 'C3', 'who gets it, as a further attempt');
}

# ---- filters, from now on ----
foreach my $partitions (1, 4)
{
	my $name = "filter$partitions";
	q_("SELECT es_subscribe('$name', 0, '{$name}', '{Yes}', $partitions)");
	q_("SELECT count(es_append('noise-' || n, 'Yes')), count(es_append('$name-' || n, 'No')) FROM generate_series(1, 200) n; SELECT es_append('$name-1', 'Yes');");
	is(q_("BEGIN; SELECT es_append('noise-1', 'undone'); ROLLBACK; SELECT es_append('noise-1', 'No'); SELECT count(*) FROM es_poll('$name')") =~ s/^\d+\n\d+\n//r, '1', "$partitions partitions: the filter");
	q_("SELECT es_ack('$name', partition, position) FROM es_poll('$name')");
	delivered($name);
	is(left($name), '0', "$partitions partitions: the checkpoint moves past what is filtered out");
	q_("SELECT es_append('noise-1', 'No'), es_append('$name-1', 'No')");
	is(q_("SELECT min(lag) FROM es_subscriptions WHERE subscription = '$name'") . delivered($name) . left($name), '20', "$partitions partitions: again");
	q_("SELECT es_subscribe('now$partitions', NULL, partitions => $partitions)");
	is(left("now$partitions") . delivered("now$partitions"), '0', "$partitions partitions: from now on nothing of the past");
	add('noise', 'New');
	is(delivered("now$partitions"), 'New1', 'but what follows');
	q_("SELECT es_unsubscribe('now$partitions')");

	# A poll that finds nothing writes nothing.
	my $written;
	for (1 .. 10)
	{
		$written = q_("SELECT count(*) FROM es_poll('$name')");
		$written = q_(qq{DO \$\$ DECLARE l pg_lsn; m text := 'x'; BEGIN
			l := pg_current_wal_insert_lsn();
			PERFORM es_poll('$name'); PERFORM es_poll('$name', wait => '1ms');
			m := (pg_current_wal_insert_lsn() - l) || ' ' || (pg_current_xact_id_if_assigned() IS NULL) || ' ' ||
				(SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables WHERE schemaname = 'eventstore');
			PERFORM set_config('my.written', m, false); END \$\$; SELECT current_setting('my.written')});
		last if $written eq '0 true 0';
	}
	is($written, '0 true 0', "$partitions partitions: a poll that finds nothing writes nothing");
}

# ---- rewind ----
{
	subscribe('rewind');
	my $origin = q_('SELECT es_settled_position()');
	add('rewind', 'A', 'B', 'C');
	is(delivered('rewind', q{member => 'm', lease => '1h'}) . q_(q{SELECT es_nack('rewind', 0, } . at('rewind', 'C') . q{, NULL, 'm')}) . ack('rewind', 'A', 'm'), 'A1 B1 C1', 'a member holds a lease');
	q_("SELECT es_rewind('rewind', $origin)");
	is(ack('rewind', 'B', 'm'), 'VE007', 'rewound back: the member is fenced');
	is(delivered('rewind', q{member => 'n'}), 'A1 B1 C1', 'and another one gets it all, at once and anew');
	q_("SELECT es_rewind('rewind', " . at('rewind', 'B') . ')');
	is(ack('rewind', 'A', 'n') . delivered('rewind', q{member => 'm'}), 'VE007C1', 'forward');
	q_(q{SELECT es_rewind('rewind', NULL)});
	is(ack('rewind', 'C', 'm') . delivered('rewind') . left('rewind'), 'VE0070', 'to now');
	is(code(q{SELECT es_rewind('none', 0); SELECT es_rewind('rewind', -1); SELECT es_rewind(NULL, 0)}), 'VE004 22023 22004', 'errors');

	# while a consumer is in its transaction
	q_("SELECT es_rewind('rewind', $origin)");
	my $consumer = $node->background_psql('postgres', on_error_stop => 0);
	$consumer->query_safe(q{BEGIN; SELECT count(*) FROM es_poll('rewind', 2)});
	my $rewinding = start_named($node, 'postgres', 'rewinding', "SELECT es_rewind('rewind', $origin);");
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'rewinding' AND wait_event_type = 'Lock'}), 'a rewind waits for a consumer in its transaction');
	$consumer->query_safe("SELECT es_ack('rewind', 0, " . at('rewind', 'B') . '); COMMIT;');
	finish_script($rewinding);
	is(delivered('rewind'), 'A1 B1 C1', 'and then rewinds');
	$consumer->quit;

	# A rewind between a poll's look at its partitions and what it takes of them: nothing is skipped.
	q_(q{SELECT es_ack('rewind', 0, max(position)) FROM es_poll('rewind')});
	add('rewind', 'D');
	my $segment = q_(q{SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'eventstore.events'::regclass ORDER BY inhrelid LIMIT 1});
	my $locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; LOCK TABLE $segment IN ACCESS EXCLUSIVE MODE");
	my $poller = start_named($node, 'postgres', 'poller', q{SELECT string_agg(type || attempt, ' ') FROM es_poll('rewind');});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'poller' AND wait_event_type = 'Lock'}), 'a poll is on its way');
	q_("SELECT es_rewind('rewind', $origin)");
	$locker->query_safe('COMMIT');
	$locker->quit;
	my $got = (finish_script($poller))[0] =~ s/\n//r;
	is($got eq '' ? delivered('rewind') : $got, 'A1 B1 C1 D1', 'a rewind in the middle of a poll: nothing is skipped');
}

# ---- unsubscribe ----
{
	subscribe('gone');
	add('gone', 'A');
	my $consumer = $node->background_psql('postgres', on_error_stop => 0);
	$consumer->query_safe(q{BEGIN; SELECT count(*) FROM es_poll('gone')});
	my $dropper = start_named($node, 'postgres', 'dropper', q{SELECT es_unsubscribe('gone');});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'dropper' AND wait_event_type = 'Lock'}), 'es_unsubscribe waits for a consumer in its transaction');
	$consumer->query_safe("SELECT es_ack('gone', 0, " . at('gone', 'A') . '); COMMIT;');
	is(join('', finish_script($dropper)), "\n", 'and then drops');
	$consumer->quit;
	is(code(q{SELECT es_poll('gone'); SELECT es_ack('gone', 0, 1); SELECT es_nack('gone', 0, 1, 'r'); SELECT es_rewind('gone', 0); SELECT es_parked('gone'); SELECT es_unsubscribe('gone'); CALL es_poll_wait('gone', '0')}),
		join(' ', ('VE004') x 7), 'after it all is VE004');

	# members that have nothing but are in a transaction
	foreach my $known (0, 1)
	{
		q_(q{SELECT es_subscribe('idle', NULL, '{idle}', partitions => 2)});
		q_(q{SELECT count(*) FROM es_poll('idle', member => 'm', lease => '10ms')}) if $known;
		$consumer = $node->background_psql('postgres', on_error_stop => 0);
		$consumer->query_safe(q{BEGIN; SELECT count(*) FROM es_poll('idle', member => 'm', lease => '1h')});
		$dropper = start_named($node, 'postgres', 'dropper', q{SELECT es_unsubscribe('idle');});
		$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'dropper' AND wait_event_type IS DISTINCT FROM 'Lock'}) if $known;
		finish_script($dropper) if !$known && $node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'dropper' AND wait_event_type IS DISTINCT FROM 'Lock')}) && !$dropper->{handle}->pumpable;
		$consumer->query_safe('COMMIT');
		$consumer->quit;
		is((finish_script($dropper))[1], '', 'es_unsubscribe copes with a member ' . ($known ? 'known' : 'new') . ' that is in a transaction with nothing');
		is(q_(q{SELECT count(*) FROM eventstore.subscription_members WHERE subscription_id NOT IN (SELECT subscription_id FROM eventstore.subscriptions)}), '0', 'and leaves nothing behind');
		q_(q{SELECT es_unsubscribe('idle') WHERE EXISTS (SELECT FROM es_subscriptions WHERE subscription = 'idle')});
	}

	# who waits
	foreach my $sql (q{SELECT count(*) FROM es_poll('gone', wait => '60s')}, q{CALL es_poll_wait('gone', '60s')})
	{
		subscribe('gone');
		my $waiter = start_named($node, 'postgres', 'waiter', "$sql;");
		wait_for('waiter');
		q_(q{SELECT es_unsubscribe('gone')});
		like((finish_script($waiter))[1], qr/VE004/, "VE004 for who waits: $sql");
	}

	# sessions that know it
	my $other = $node->background_psql('postgres', on_error_stop => 0);
	$other->query_safe(q{BEGIN; SELECT es_subscribe('back', NULL, '{back}'); SELECT count(*) FROM es_poll('back'); ROLLBACK;});
	like(scalar $other->query(q{SELECT count(*) FROM es_poll('back')}) . ($other->{stderr} // ''), qr/does not exist/, 'a subscription rolled back is not known');
	$other->quit;
	$other = $node->background_psql('postgres', on_error_stop => 0);
	subscribe('back');
	$other->query_safe(q{SELECT count(*) FROM es_poll('back')});
	q_(q{SELECT es_unsubscribe('back'); SELECT es_subscribe('back', 0, '{back}', partitions => 50); SELECT count(es_append('back-' || n, 'A')) FROM generate_series(1, 100) n});
	is($other->query_safe(q{SELECT count(*), count(DISTINCT partition) > 20 FROM es_poll('back', NULL)}), '100|t', 'one made anew is what it is now, also for who knew the old one');
	$other->quit;
}

# ---- isolation levels, subtransactions, sessions under one name ----
{
	subscribe('iso');
	foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		my $name = lc(substr($level, 0, 1));
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		$session->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM es_events;");
		add('iso', "${name}A", "${name}B");
		is($session->query_safe(q{SELECT string_agg(type || attempt, ' ') FROM es_poll('iso')}), "${name}A1 ${name}B1", "$level: a poll gets what is newest");
		$session->query_safe(q{SELECT es_ack('iso', 0, } . at('iso', "${name}A") . '); COMMIT;');
		is(delivered('iso'), "${name}B1", "$level: the acknowledgement is there");
		$session->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM es_events;");
		is(ack('iso', "${name}B") . nack('iso', "${name}B"), '22023', "$level: another session acknowledges");
		is($session->query_safe(q{SELECT count(*) FROM es_poll('iso')}), '0', "$level: what its snapshot does not see");
		$session->query_safe('COMMIT');
		$session->quit;
	}
	subscribe('sub');
	add('sub', 'A', 'B');
	is(q_(q{BEGIN; SAVEPOINT s; SELECT string_agg(type || attempt, ' ') FROM es_poll('sub', member => 'm'); SELECT es_ack('sub', 0, } . at('sub', 'A') . q{, 'm');
		ROLLBACK TO s; SELECT member IS NULL FROM es_subscriptions WHERE subscription = 'sub'; SELECT string_agg(type || attempt, ' ') FROM es_poll('sub', member => 'm'); SAVEPOINT t; SELECT es_ack('sub', 0, } . at('sub', 'B') . q{, 'm'); ROLLBACK TO t; COMMIT;}),
		"A1 B1\n\nt\nA1 B1\n", 'a subtransaction that rolls back undoes poll and acknowledgement');
	is(delivered('sub', q{member => 'm'}), 'A1 B1', 'which counts for nothing');
	is(code(q{BEGIN READ ONLY; SELECT es_poll('sub'); ROLLBACK; BEGIN READ ONLY; SELECT es_ack('sub', 0, 1, 'm')}), '25006 25006', 'read-only transactions');
	is(ack('sub', 'B', 'm'), '', 'acknowledged');

	add('sub', map { "T$_" } 1 .. 3);
	my ($one, $two) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
	$_->query_safe('BEGIN') foreach $one, $two;
	is($one->query_safe(q{SELECT string_agg(type, ' ') FROM es_poll('sub', 2, member => 'm')}) . '-' . $two->query_safe(q{SELECT string_agg(type, ' ') FROM es_poll('sub', 2, member => 'm')}), 'T1 T2-', 'two sessions of one member do not get the same');
	$one->query_safe(q{SELECT es_ack('sub', 0, } . at('sub', 'T2') . q{, 'm'); COMMIT;});
	is($two->query_safe(q{SELECT string_agg(type, ' ') FROM es_poll('sub', 2, member => 'm')}), 'T3', 'the other one gets what follows');
	$_->quit foreach $one, $two;
}

# ---- waiting ----
foreach my $preload (1, 0)
{
	my $how = preload($node, $preload);

	$node->restart;
	my ($w, $s, $p) = ("wait$preload", "share$preload", "ping$preload");
	subscribe($w);
	foreach my $sql ("SELECT string_agg(type || attempt, ' ') FROM es_poll('$w', wait => '60s')", "CALL es_poll_wait('$w', '60s')", "BEGIN; CALL es_poll_wait('$w', '60s'); COMMIT")
	{
		my $call = $sql =~ /es_poll_wait/;
		my $waiter = start_named($node, 'postgres', 'waiter', "$sql;");
		ok(wait_for('waiter'), "$how: waits: $sql");
		is(q_(q{SELECT count(backend_xid), count(backend_xmin) FROM pg_stat_activity WHERE application_name = 'waiter'}), '0|0', "$how: and holds neither snapshot nor xid") if $sql =~ /^CALL/;
		is(q_(q{SELECT count(backend_xid) FROM pg_stat_activity WHERE application_name = 'waiter'}), '0', "$how: and holds no xid");
		add('noise', 'N');
		q_("BEGIN; SELECT es_append('$w-1', 'X'); ROLLBACK");
		is(q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'}), '1', "$how: neither noise nor a rollback end it");
		add($w, 'A');
		is((finish_script($waiter))[0], $call ? "t\n" : "A1\n", "$how: a commit does");
		q_("SELECT es_ack('$w', 0, max(position)) FROM es_poll('$w')");

		q_("BEGIN; SELECT es_append('$w-1', 'P'); PREPARE TRANSACTION 'p'");
		$waiter = start_named($node, 'postgres', 'waiter', "$sql;");
		wait_for('waiter');
		q_(q{COMMIT PREPARED 'p'});
		is((finish_script($waiter))[0], $call ? "t\n" : "P1\n", "$how: and so does COMMIT PREPARED");
		q_("SELECT es_ack('$w', 0, max(position)) FROM es_poll('$w')");

		foreach my $end ('cancel', 'terminate', 'statement_timeout')
		{
			my $began = time();
			$waiter = start_named($node, 'postgres', 'waiter', ($end eq 'statement_timeout' ? "SET statement_timeout = '200ms';\n" : '') . "$sql;");
			if ($end ne 'statement_timeout')
			{
				wait_for('waiter');
				$began = time();
				q_("SELECT pg_${end}_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
			}
			like((finish_script($waiter))[1], $end eq 'terminate' ? qr/57P01/ : qr/57014/, "$how: $end ends it");
			cmp_ok(time() - $began, '<', 8, "$how: at once");
		}
	}
	is(q_("CALL es_poll_wait('$w', '10ms')"), 'f', "$how: no news");

	# what else there may be
	$w = "lease$preload";
	subscribe($w);
	add($w, 'B');
	is(delivered($w, q{member => 'm', lease => '300ms'}), 'B1', "$how: somebody else has it");
	is(q_("CALL es_poll_wait('$w', '30s'); SELECT string_agg(type || attempt, ' ') FROM es_poll('$w', wait => '30s', lease => '1h')"), "t\nB2", "$how: a lease that ends ends a wait");
	is(q_("SELECT count(*) FROM es_poll('$w'); CALL es_poll_wait('$w', '10ms')"), "1\nt", "$how: what was delivered and not acknowledged can be polled again");
	nack($w, 'B');
	is(q_("CALL es_poll_wait('$w', '30s')") . delivered($w), 'tB3', "$how: a delay that ends, too");
	ack($w, 'B');
	q_("SELECT es_subscribe('$s', NULL, '{$s}', partitions => 2)");
	my $take = sub { q_("SELECT count(es_ack('$s', partition, max, '$_[0]')) FROM (SELECT partition, max(position) FROM es_poll('$s', member => '$_[0]', lease => '1h') GROUP BY 1) p") };
	my $more = "SELECT count(es_append('$s-' || n, 'A')) FROM generate_series(1, 20) n";
	q_($more);
	is($take->('a') . $take->('b'), '20', "$how: a member joins");
	q_($more);
	my $waiter = start_named($node, 'postgres', 'waiter', "SELECT count(DISTINCT partition) FROM es_poll('$s', wait => '60s', member => 'b');");
	wait_for('waiter');
	is($take->('a'), '1', "$how: another one gives up a partition");
	is((finish_script($waiter))[0], "1\n", "$how: which ends a wait");

	# two that wait for each other, again and again: a wake-up that is missed costs up to a second
	my $turns = 20;
	q_("SELECT es_subscribe('${p}_a', NULL, '{${p}_a}'), es_subscribe('${p}_b', NULL, '{${p}_b}')");
	my $player = sub {
		my ($me, $other, $first) = @_;
		my $turn = "SELECT count(*) AS n, max(position) AS last FROM es_poll('$me', wait => '60s') \\gset\nSELECT es_ack('$me', 0, :last) \\gset\n\\echo :n\n";
		my $sleep = "CALL es_poll_wait('$me', '60s') \\gset\n";
		my $append = "SELECT es_append('$other-1', 'Ping') \\gset x\n";
		return join('', map { $first ? $append . ($_ % 2 ? $sleep : '') . $turn : ($_ % 2 ? $sleep : '') . $turn . $append } 1 .. $turns);
	};
	my $began = time();
	my @players = (start_named($node, 'postgres', 'b', $player->("${p}_b", "${p}_a", 0)), start_named($node, 'postgres', 'a', $player->("${p}_a", "${p}_b", 1)));
	is(join('', map { join('', finish_script($_)) } @players), "1\n" x (2 * $turns), "$how: two that wait for each other");
	cmp_ok(time() - $began, '<', $turns * 0.7, "$how: wake each other");
}

# ---- many ----
{
	my $before = q_('SELECT count(*) FROM es_subscriptions');
	q_(q{SELECT count(es_subscribe('many ' || n, n)) FROM generate_series(1, 1000) n});
	is(q_('SELECT count(*) FROM es_subscriptions') - $before, '1000', 'a thousand subscriptions are listed');
	is(q_(q{SELECT count(DISTINCT position), min(partition), count(member) FROM es_subscriptions WHERE subscription LIKE 'many %'}), '1000|0|0', 'each with its position');
	is(q_(q{SELECT min(position) FROM es_poll('many 500', 1)}), '501', 'and delivers');
	q_(q{SELECT count(es_unsubscribe('many ' || n)) FROM generate_series(1, 1000) n});
	is(q_('SELECT count(*) FROM es_subscriptions'), $before, 'and are dropped');
}

# ---- dump and restore; a hot standby ----
{
	$node->backup('backup');
	subscribe('kept', 'partitions => 3, max_attempts => 1');
	q_(q{SELECT count(es_append('kept-' || n, 'K')) FROM generate_series(1, 90) n});
	q_(q{SELECT count(es_nack('kept', partition, min, 'bad', 'm')), count(es_ack('kept', partition, mid, 'm')) FROM
		(SELECT partition, min(position), percentile_disc(0.5) WITHIN GROUP (ORDER BY position) AS mid FROM es_poll('kept', 60, member => 'm', lease => '1h') GROUP BY 1) p});
	my ($dump, $psql) = ($node->installed_command('pg_dump'), $node->installed_command('psql'));
	q_('CREATE DATABASE copy');
	command_ok([ 'sh', '-ec', "$dump -d \"" . $node->connstr('postgres') . "\" | $psql -Xq -v ON_ERROR_STOP=1 -d \"" . $node->connstr('copy') . '" >/dev/null' ], 'a store with consumers is copied');
	my $both = sub {
		my ($sql, $name) = @_;
		my ($here, $there) = map { $node->safe_psql($_, $sql) } 'postgres', 'copy';
		is($there, $here, $name);
		return $here;
	};
	$both->(q{SELECT subscription, partition, position, member, lease_until, parked, lag FROM es_subscriptions ORDER BY 1, 2}, 'positions, members and leases are the same');
	is(scalar split(/\n/, $both->(q{SELECT * FROM es_parked('kept') ORDER BY position}, 'and what is parked')), 3, 'which is something');
	is($both->(q{SELECT count(*) FROM es_poll('kept', member => 'n')}, 'the lease holds'), '0', 'in both');
	cmp_ok(scalar split(/\n/, $both->(q{SELECT position, stream, version, partition, attempt FROM es_poll('kept', NULL, member => 'm')}, 'consumption goes on alike')), '>', 30, 'with what is left');
	$both->(q{SELECT es_replay_parked('kept'); SELECT count(es_ack('kept', partition, max, 'm')) FROM (SELECT partition, max(position) FROM es_poll('kept', NULL, member => 'm') GROUP BY 1) p;
		SELECT sum(lag) FROM es_subscriptions WHERE subscription = 'kept'; SELECT count(*) FROM es_poll('kept', member => 'm')}, 'to its end');
	$both->(q{SELECT es_subscribe('after'); SELECT subscription_id FROM eventstore.subscriptions WHERE name = 'after'}, 'and new ones are made');

	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is(code(q{SELECT es_poll('kept'); SELECT es_ack('kept', 0, 1); SELECT es_nack('kept', 0, 1, 'r'); SELECT es_subscribe('s'); SELECT es_unsubscribe('kept'); SELECT es_rewind('kept', 0); SELECT es_replay_parked('kept')}, $standby),
		join(' ', ('25006') x 7), 'a standby has no consumers');
	my $list = q{SELECT subscription, partition, position, member, lease_until, parked FROM es_subscriptions ORDER BY 1, 2};
	is($standby->safe_psql('postgres', $list), q_($list), 'but lists them');
	is($standby->safe_psql('postgres', q{SELECT count(*) FROM es_parked('quiet')}), q_(q{SELECT count(*) FROM es_parked('quiet')}), 'and what is parked');
	$standby->stop;
}

is(q_(q{SELECT (SELECT count(*) FROM eventstore.subscription_partitions p WHERE pending <> (SELECT count(*) FROM eventstore.subscription_failures f WHERE f.subscription_id = p.subscription_id AND f.partition = p.partition AND parked_at IS NULL)
		OR parked <> (SELECT count(*) FROM eventstore.subscription_failures f WHERE f.subscription_id = p.subscription_id AND f.partition = p.partition AND parked_at IS NOT NULL))}),
	'0', 'counts of failures are right');
$node->stop;
done_testing();
