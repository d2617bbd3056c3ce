# What people look at when consumers stand still: who holds the settled position back, and
# how far everybody is behind, on the primary, after crashes and restarts, on a hot
# standby and on a logical subscriber; and a change of a subscription's filter reaches
# who waits.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main', streaming => 'logical', conf => "autovacuum = off\n");

sub q_ { return $node->safe_psql('postgres', $_[0]); }

sub in_flight { return join("\n", rows($node, 'postgres', q{SELECT concat_ws(' ', coalesce(gid, application_name), state, first_position) FROM es_in_flight})); }

# session(name, sql): one that has run this
sub session
{
	my ($name, $sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("SET application_name = '$name'; $sql");
	return $session;
}

q_('CREATE EXTENSION eventstore; CREATE ROLE looker LOGIN; CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats;
	SELECT es_grant(r, \'append\', \'a\') FROM unnest(ARRAY[\'looker\', \'reader\']::regrole[]) r');

foreach my $preloaded (0, 1)
{
	my $mode = preload($node, $preloaded);
	my $known = $preloaded ? sub { " $_[0]" } : sub { '' };

	$node->restart;
	q_(q{SELECT es_append('a-1', 'T')});
	my $last = q_('SELECT es_settled_position()');
	is(in_flight(), '', "$mode: nobody is in flight");

	# ---- sessions, savepoints, prepared transactions ----

	my $first = session('first', q{BEGIN; SAVEPOINT s; SELECT es_append('a-1', 'undone'); ROLLBACK TO s});
	my $second = session('second', q{BEGIN; SAVEPOINT s; SELECT es_append('a-2', 'T'); RELEASE s});
	my $other = session('other', 'BEGIN; CREATE TABLE others (n int)');
	q_(qq{BEGIN; SELECT es_append('a-3', 'T'); PREPARE TRANSACTION 'third'});
	q_(q{SELECT es_append('a-4', 'T')});
	is(in_flight(), join("\n", "first idle in transaction" . $known->($last + 1), "second idle in transaction" . $known->($last + 2), "third prepared" . $known->($last + 3)),
		"$mode: who has taken positions, the longest first");
	is(q_('SELECT es_settled_position()'), $last, '... and nothing else tells why consumers stand still');
	$first->query_safe(q{SELECT es_append('a-9', 'T')});
	like(in_flight(), $preloaded ? qr/^first idle in transaction @{[$last + 1]}$/m : qr/^first idle in transaction$/m, '... the first one counts');

	# ---- what others may see ----

	my $shown = q{SELECT string_agg(concat_ws(' ', pid IS NOT NULL, application_name, state, since IS NOT NULL, query), E'\n') FROM es_in_flight WHERE gid IS NULL};
	is($node->safe_psql('postgres', $shown, extra_params => [ '-U', 'looker' ]), "t first t <insufficient privilege>\nt second t <insufficient privilege>",
		"$mode: a role like any other sees who it is, and since when");
	like($node->safe_psql('postgres', $shown, extra_params => [ '-U', 'reader' ]), qr/^t first idle in transaction t SELECT es_append\('a-9', 'T'\)/, '... with pg_read_all_stats what he did, too');

	$first->query_safe('COMMIT');
	$second->query_safe('ROLLBACK');
	$_->quit foreach $first, $second, $other;
	is(in_flight(), 'third prepared' . $known->($last + 3), "$mode: the prepared one is left");

	# ---- a crash ----

	$node->stop('immediate');
	$node->start;
	like(in_flight(), qr/^third prepared( \d+)?$/, "$mode: a prepared transaction is there after a crash");
	is(q_('SELECT pid IS NULL AND since < now() FROM es_in_flight'), 't', '... since it was prepared');
	q_(q{COMMIT PREPARED 'third'});
	is(in_flight(), '', '... until it ends');
	q_(qq{SELECT es_subscribe('crash $mode'), es_append('a-5', 'T')});
	q_(qq{SELECT count(es_ack('crash $mode', partition, position)) FROM es_poll('crash $mode', NULL)});
	q_(qq{SELECT count(*) FROM es_poll('crash $mode', NULL)});
	is(q_(qq{SELECT lag, lag_time FROM es_subscriptions WHERE subscription = 'crash $mode'}), '0|', "$mode: numbers that a crash has skipped are no lag for good");
}

# ---- the copies ----

preload($node, 0);
$node->restart;
q_(q{SELECT es_subscribe('copied', NULL, categories => '{c}'), es_create_projection('copied', 'count')});
my $standby = start_standby($node);
q_($_) foreach q{SELECT es_append('a-1', 'T')}, q{SELECT es_run_projection('copied')}, q{SELECT count(*) FROM es_poll('copied')}, 'SELECT es_settle()';
my $there = q{SELECT string_agg(concat_ws(' ', kind, lag, lag_time > '0'), ', ' ORDER BY kind) FROM
	(SELECT 'p' AS kind, lag, lag_time FROM es_projections WHERE projection = 'copied' UNION ALL SELECT 's', lag, lag_time FROM es_subscriptions WHERE subscription = 'copied') l};

$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $there), 'p 0, s 0', 'on a standby nothing is behind where nothing is, though the sequence is ahead there');
is($standby->safe_psql('postgres', 'SELECT (SELECT last_value FROM eventstore.position_seq) > es_settled_position()'), 't', '... which it is');
my $open = session('open', q{BEGIN; SELECT es_append('c-1', 'T')});
q_(q{SELECT es_append('c-2', 'T')});
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $there), 'p 2 t, s 2 t', '... and what is visible behind an open transaction counts');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM es_in_flight'), '0', 'es_in_flight has no rows there');
is(q_($there), 'p 2 t, s 2 t', 'as it does on the primary');
$open->query_safe('ROLLBACK');
$open->quit;

q_('CREATE PUBLICATION store FOR TABLES IN SCHEMA eventstore');
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->append_conf('postgresql.conf', "wal_level = logical\n");
$subscriber->start;
$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION store CONNECTION '@{[$node->connstr]} dbname=postgres' PUBLICATION store");
$subscriber->wait_for_subscription_sync($node, 'store');
$subscriber->poll_query_until('postgres', q{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel});
is($subscriber->safe_psql('postgres', $there), 'p 2 t, s 2 t', 'on a logical subscriber, whose sequence stands still, too');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM es_in_flight'), '0', '... where nobody holds anything back');

# a session there that knows a subscription hears that it was changed
my $knows = $subscriber->background_psql('postgres');
$knows->query_safe(q{SELECT es_parked('copied')});
q_(q{SELECT es_alter_subscription('copied', '{d}', NULL, NULL)});
$node->wait_for_catchup('store');
is($knows->query_safe(q{CALL es_poll_wait('copied', '0')}), 'f', '... a session there knows of a changed filter');
$knows->quit;

q_(q{SELECT es_run_projection('copied')});
q_('SELECT es_settle()');
$node->wait_for_catchup('store');
like($subscriber->safe_psql('postgres', $there), qr/^p 0, /, '... and is up to date when the publisher is');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION store');
$_->stop foreach $standby, $subscriber;

# ---- many subscriptions, far behind ----

q_(q{SELECT count(es_append_batch('far-' || n, (SELECT jsonb_agg('{"type": "Many"}'::jsonb) FROM generate_series(1, 10000)))) FROM generate_series(1, 30) n});
q_(q{SELECT count(es_subscribe('far ' || n, 0, types => ARRAY['Rare ' || n])), count(es_subscribe('near ' || n, 0, categories => ARRAY['none ' || n]))
	FROM generate_series(1, 300) n});
my $from = time;
is(q_(q{SELECT count(*), count(lag_time) FROM es_subscriptions WHERE subscription LIKE 'near %'}), '300|0', 'subscriptions to categories that have no events wait for none');
is(q_(q{SELECT count(*), count(lag_time) FROM es_subscriptions WHERE subscription LIKE 'far %'}), '300|297', 'each event is looked at for three of them; for the others, an earlier one counts');
is(q_(q{SELECT count(*) FROM es_subscriptions WHERE subscription = 'far 1' AND lag_time IS NULL}), '1', '... but not where one is asked for alone');
note sprintf 'it takes %.1f s', time - $from;
unlike(q_(q{EXPLAIN (VERBOSE, COSTS OFF) SELECT max(lag) FROM es_subscriptions}), qr/partition_lag_time/, 'who does not ask for lag_time does not have it looked for');
unlike(q_(q{EXPLAIN (VERBOSE, COSTS OFF) SELECT max(lag) FROM es_projections}), qr/lag_time\(/, '... of projections, too');
is(() = q_(q{EXPLAIN (VERBOSE, COSTS OFF) SELECT lag, lag_time FROM es_subscriptions}) =~ /Function Call: eventstore\.log_ends/g, 1, 'the settled position is asked for once');
is(sqlstates($node, 'postgres', q{SET statement_timeout = '1ms'; SELECT count(lag_time) FROM es_subscriptions WHERE subscription LIKE 'far %'}), '57014', 'and it can be cancelled');
q_(q{SELECT count(es_unsubscribe(subscription)) FROM (SELECT DISTINCT subscription FROM es_subscriptions WHERE subscription ~ '^(far|near) ') s});

# ---- who waits hears of another filter ----

foreach my $preloaded (0, 1)
{
	my $mode = preload($node, $preloaded);

	$node->append_conf('postgresql.conf', "eventstore.max_wait = '600s'\n");
	$node->restart;
	q_(q{SELECT es_subscribe(name, NULL, categories => '{w}', types => '{A}') FROM unnest('{waits,polls}'::text[]) name});
	q_(q{SELECT es_append('w-1', 'B')});
	my $poll = start_named($node, 'postgres', 'polls', q{SELECT type FROM es_poll('polls', wait => '600s')});
	my $wait = start_named($node, 'postgres', 'waits', q{CALL es_poll_wait('waits', '600s')});

	wait_until('both to wait', sub { q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('polls', 'waits') AND wait_event_type = 'Extension'}) == 2 });
	q_(q{SELECT es_alter_subscription('waits', NULL, '{B}', NULL), es_alter_subscription('polls', NULL, '{B}', NULL)});
	is((finish_script($wait))[0], "t\n", "$mode: a waiting es_poll_wait ends once the filter lets something through");
	is((finish_script($poll))[0], "B\n", '... a waiting es_poll delivers it');
	q_(q{SELECT es_rewind('waits', NULL)});
	$poll = start_named($node, 'postgres', 'polls', q{SELECT stream, type FROM es_poll('waits', wait => '600s')});
	wait_until('it to wait', sub { q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'polls' AND wait_event_type = 'Extension'}) == 1 });
	q_(q{SELECT es_alter_subscription('waits', '{x}', '{C}', NULL)});
	q_(q{SELECT es_append('w-1', 'B'), es_append('w-1', 'C'), es_append('x-1', 'C')});
	is((finish_script($poll))[0], "x-1|C\n", "$mode: what comes is told from the rest by the new filter, in another category");
	q_(q{SELECT es_unsubscribe('waits'), es_unsubscribe('polls')});
}
done_testing();
