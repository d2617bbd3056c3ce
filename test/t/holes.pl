# A hole holds up readers on a hot standby and on a logical subscriber only until it is
# settled: the primary's worker writes the mark then, not at its next time, which never
# comes here.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

note 'the worker writes marks for the sake of holes only';
my $conf = "shared_preload_libraries = 'eventstore'\neventstore.settle_interval = '1h'\nautovacuum = off\nwal_retrieve_retry_interval = 200ms\n";
my $primary = new_node('primary', streaming => 'logical', conf => "${conf}restart_after_crash = on\n");
$primary->safe_psql('postgres', $_) foreach ('CREATE EXTENSION eventstore', 'SELECT es_set_segment_size(1000)');
sub sql { return $primary->safe_psql('postgres', $_[0]); }
my $append = q{SELECT es_append('a-1', 'A')};
my $mark = 'SELECT coalesce(max(position), 0) FROM eventstore.settled_mark';
my $marks = q{SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'settled_mark'};
sql($append);

my $standby = start_standby($primary);
my $subscriber = new_node('subscriber', streaming => 'logical', conf => $conf);
$subscriber->safe_psql('postgres', 'CREATE EXTENSION eventstore');
sql('CREATE PUBLICATION events FOR ALL TABLES');
$subscriber->safe_psql('postgres', sprintf(q{CREATE SUBSCRIPTION events CONNECTION '%s' PUBLICATION events}, $primary->connstr . ' dbname=postgres'));
$subscriber->poll_query_until('postgres', q{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel});

# The worker is there, and what it does at its start is done.
sub started
{
	$primary->poll_query_until('postgres', "SELECT ($mark) = (SELECT last_value FROM eventstore.position_seq)");
	$primary->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_replication WHERE state = 'streaming'});
}
started();

# reach(name): readers elsewhere get to the end of the log, and waiters are told.
sub reach
{
	my ($name) = @_;
	my $last = sql('SELECT last_value FROM eventstore.position_seq');
	my $events = sql('SELECT count(*) FROM es_events');

	foreach my $reader ($standby, $subscriber)
	{
		my $title = "$name, on the " . $reader->name;
		my ($settled) = $reader->safe_psql('postgres', sprintf(q{SET eventstore.max_wait = '120s'; SELECT es_wait(%d, '120s')}, $last - 1));
		is($settled, $last, "$title: es_wait ends");
		is($reader->safe_psql('postgres', 'SELECT count(*) FROM es_read_all(0, NULL)'), $events, "$title: all events are read");
	}
	is(sql("SELECT count(*) = 1 FROM eventstore.settled_mark WHERE position >= $last - 1"), 't', "$name: by the mark");
}

# in_flight(sql): a session with an open transaction that has appended.
sub in_flight
{
	my $session = $primary->background_psql('postgres');
	$session->query_safe("BEGIN; $_[0]");
	return $session;
}

# ---- no hole, no mark ----

my $before = sql($mark);
sql($append) for 1 .. 5;
sql("BEGIN; SAVEPOINT s; $append; RELEASE s; COMMIT");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', 'SELECT count(*) FROM es_read_all()'), sql('SELECT count(*) FROM es_events'), 'without holes readers elsewhere need no mark');
is(sql($mark), $before, 'and none is written');

# ---- whatever leaves a hole ----

sql("BEGIN; $append; ROLLBACK; $append");
reach('a rollback');

sql("BEGIN; SAVEPOINT s; $append; SAVEPOINT t; $append; RELEASE t; ROLLBACK TO s; SELECT es_append('b-1', 'B'); COMMIT; $append");
reach('a rollback to a savepoint');

sql("BEGIN; SAVEPOINT s; $append; ROLLBACK TO s; COMMIT; $append");
reach('nothing but a rollback to a savepoint');

sql(q{DO $$ BEGIN PERFORM es_append('a-1', 'A'); RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$; SELECT es_append('a-1', 'A')});
reach('an exception that is caught');

my $session = in_flight($append);
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE state = 'idle in transaction'});
sql($append);
reach('a session that is terminated');
$session->{run}->kill_kill;

sql("BEGIN; $append; PREPARE TRANSACTION 'p'");
sql(q{SELECT es_append('b-1', 'B')});
sql("ROLLBACK PREPARED 'p'");
reach('ROLLBACK PREPARED');

sql("BEGIN; $append; SAVEPOINT s; $append; ROLLBACK TO s; PREPARE TRANSACTION 'p'");
sql(q{SELECT es_append('b-1', 'B')});
sql("COMMIT PREPARED 'p'");
reach('COMMIT PREPARED of what has rolled back to a savepoint');

# ---- who was in flight ----

$session = in_flight(q{SELECT es_append('low-1', 'L')});
sql("BEGIN; $append; ROLLBACK; $append");
$session->query_safe('COMMIT');
reach('a hole above an append that commits later');

$session->query_safe(q{BEGIN; SELECT es_append('low-1', 'L')});
sql("BEGIN; $append; ROLLBACK; $append");
$session->query_safe('ROLLBACK');
reach('a hole above an append that rolls back later');

$session->query_safe(q{BEGIN; SELECT es_append('low-1', 'L')});
sql($append);
$session->query_safe('ROLLBACK');
reach('an append in flight that becomes a hole');

sql("BEGIN; $append; ROLLBACK");
$session->query_safe(q{BEGIN; SELECT es_append('high-1', 'L')});
sql("BEGIN; $append; ROLLBACK; $append");
my $first = $session->query_safe('SELECT es_last_position()');
ok($standby->poll_query_until('postgres', "SELECT es_settled_position() = $first - 1"), 'a hole below an append in flight is passed, one above is not');
$session->query_safe('COMMIT');
reach('and that one later');
$session->quit;

# ---- many ----

my $script = PostgreSQL::Test::Utils::tempdir() . '/holes.sql';
append_to_file($script, "BEGIN;\nSELECT es_append('a-' || :client_id, 'A');\nROLLBACK;\n");
my ($written, $wal, $began) = (sql($marks), $primary->lsn('insert'), time);
start_pgbench($primary, $script, '-c', 4, '-j', 2, '-t', 1000)->finish;
sql($append);
reach('four thousand rollbacks');
my $took = time - $began;
$primary->poll_query_until('postgres', "SELECT ($marks) > $written");
$written = sql($marks) - $written;
note sprintf('%d marks in %.1f s, %d bytes of WAL', $written, $took, sql("SELECT pg_current_wal_insert_lsn() - '$wal'"));
cmp_ok($written, '<=', $took * 100 + 2, 'the worker writes a mark at most each 10 ms');

# ---- after a crash ----

$session = in_flight(q{SELECT es_append('low-1', 'L')});
sql($append) for 1 .. 3;
sql('CHECKPOINT');
$primary->stop('immediate');
$session->{run}->kill_kill;
$primary->start;
started();
sql($append);
reach('what a crash has left');
sql("BEGIN; $append; ROLLBACK; $append");
reach('and a rollback after it');

$_->stop foreach ($subscriber, $standby, $primary);
done_testing();
