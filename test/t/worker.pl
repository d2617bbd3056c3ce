# The workers that look after stores: which databases have one, what it writes
# and when, and that it is in nobody's way: not of statements that need a
# database for themselves, nor of DROP EXTENSION, shutdown, restore or standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# Nothing here takes that long, unless it never comes.
$PostgreSQL::Test::Utils::timeout_default = 30 unless $ENV{PG_TEST_TIMEOUT_DEFAULT};

my $preload = "shared_preload_libraries = 'eventstore'\n";
my $fast = "eventstore.settle_interval = '100ms'\n";
my $node = new_node('main', conf => "$preload${fast}restart_after_crash = on\nallow_in_place_tablespaces = on\nmax_worker_processes = 40\nautovacuum = off\n");

# ---- what the assertions share ----

my $workers = q{FROM pg_stat_activity WHERE backend_type = 'eventstore worker'};
my $launchers = q{FROM pg_stat_activity WHERE backend_type = 'eventstore launcher'};
my $append = q{SELECT es_append('a-1', 'A');};
my $mark = 'SELECT coalesce(max(position), 0) FROM eventstore.settled_mark';
my $at_end = 'SELECT coalesce(max(position), 0) = (SELECT last_value FROM eventstore.position_seq) FROM eventstore.settled_mark';

# comes(database, name, node): a worker looks after the database.
sub comes
{
	my ($database, $name, $where) = @_;

	return ok(($where // $node)->poll_query_until('postgres', "SELECT count(*) = 1 $workers AND datname = '$database'"), $name);
}

# goes(database, name): none does.
sub goes
{
	my ($database, $name) = @_;

	return ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers AND datname = '$database'"), $name);
}

# pid_of(database): of its worker.
sub pid_of { return $node->safe_psql('postgres', "SELECT pid $workers AND datname = '$_[0]'"); }

# reaches_end(database, name): the mark gets there, though nobody calls es_settle.
sub reaches_end
{
	my ($database, $name) = @_;

	return ok($node->poll_query_until($database, $at_end), $name);
}

# looked(database): waits until the worker has done a whole piece of work from now on.
sub looked
{
	my ($database) = @_;
	my $now = $node->safe_psql('postgres', 'SELECT clock_timestamp()');

	return $node->poll_query_until('postgres', "SELECT count(*) = 1 $workers AND datname = '$database' AND query_start > '$now' AND state = 'idle'");
}

# stays(database, sql, value, name): the result is that one, all through ten intervals.
sub stays
{
	my ($database, $sql, $value, $name) = @_;
	my $end = time() + 1;
	my $found = $value;

	while ($found eq $value && time() < $end)
	{
		$found = $node->safe_psql($database, $sql);
		usleep(50_000);
	}
	return is($found, $value, $name);
}

# idle_store(database, owner): one with an event, and a worker that has nothing to do.
sub idle_store
{
	my ($database, $owner) = @_;

	new_store($node, $database);
	$node->safe_psql('postgres', "ALTER DATABASE $database OWNER TO $owner") if $owner;
	$node->safe_psql($database, $append);
	$node->poll_query_until('postgres', "SELECT count(*) = 1 $workers AND datname = '$database'");
	$node->poll_query_until($database, $at_end);
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker' AND datname = '$database'");
}

# set_interval(value): for all workers.
sub set_interval
{
	my ($value) = @_;

	$node->append_conf('postgresql.conf', "eventstore.settle_interval = '$value'\n");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('eventstore.settle_interval') = '$value'");
}

# succeeds(database, sql, name): within a time that leaves no room for a wait that runs out.
sub succeeds
{
	my ($database, $sql, $name) = @_;
	my $start = time();
	my ($ret, $out, $err) = $node->psql($database, $sql);

	is("$ret $err", '0 ', $name);
	cmp_ok(time() - $start, '<', 5, "$name: at once");
}

# transactions(database): that ended there so far.
sub transactions { return $node->safe_psql('postgres', "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '$_[0]'"); }

# said(offset): what processes other than sessions said of errors since then.
# Whom a statement has ended that needed the database for itself says so as any session that is ended.
sub said { return join("\n", grep { /\] (WARNING|ERROR|FATAL|PANIC):/ && !/terminating background worker "eventstore scavenger"|FATAL:  database \d+ does not exist$/ } split /\n/, slurp_file($node->logfile, $_[0])); }

# ---- who has a worker ----

is($node->safe_psql('postgres', "SELECT count(*) $launchers"), '1', 'preloaded: there is a launcher');
is($node->safe_psql('postgres', q{SELECT boot_val, unit, context FROM pg_settings WHERE name = 'eventstore.settle_interval'}),
	'1000|ms|sighup', 'the interval is 1 s unless set otherwise');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
new_store($node, 'here');
$node->safe_psql('here', $append);
comes('here', 'a worker comes with the first append');
is($node->safe_psql('postgres', "SELECT string_agg(datname, ' ') $workers"), 'here', 'to no database without a store');

my $log_start = -s $node->logfile;
$node->restart;
comes('here', 'a worker comes after a restart, though nobody calls anything');
is($node->safe_psql('postgres', "SELECT string_agg(datname, ' ') $workers"), 'here', 'to no other database');

# ---- the mark ----

reaches_end('here', 'the mark gets to the end of the log by itself');
is($node->safe_psql('here', "SELECT es_settled_position() = ($mark)"), 't', 'which is the settled position');
$node->safe_psql('here', "BEGIN; $append ROLLBACK; $append");
reaches_end('here', 'it passes a rolled-back hole');
$node->safe_psql('here', "BEGIN; $append ROLLBACK;");
reaches_end('here', 'also one at the end of the log');
is($node->safe_psql('here', 'SELECT es_settled_position()'), $node->safe_psql('here', $mark), 'which is settled');

my $before = $node->safe_psql('here', $mark);
my $low = $node->background_psql('here');
$low->query_safe(q{BEGIN; SELECT es_append('low-1', 'Low')});
$node->safe_psql('here', $append);
looked('here') for 1 .. 2;
is($node->safe_psql('here', $mark), $before, 'the mark stops below an append in flight');
is($node->safe_psql('here', "SELECT count(backend_xmin) + count(backend_xid) $workers"), '0', 'between two looks the worker holds no snapshot');
$low->query_safe('COMMIT');
reaches_end('here', 'and goes on when that commits');
$node->safe_psql('here', q{BEGIN; SELECT es_append('low-1', 'Low'); PREPARE TRANSACTION 'low';});
$before = $node->safe_psql('here', $mark);
$node->safe_psql('here', $append);
looked('here') for 1 .. 2;
is($node->safe_psql('here', $mark), $before, 'it stops below a prepared append');
$node->safe_psql('here', q{ROLLBACK PREPARED 'low'});
reaches_end('here', 'and goes on after ROLLBACK PREPARED');
$low->query_safe('BEGIN');
my $low_pid = $low->query_safe('SELECT pg_backend_pid()');
$low->query_safe(q{SELECT es_append('low-1', 'Low')});
$node->safe_psql('here', "SELECT pg_terminate_backend($low_pid)");
$node->poll_query_until('here', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $low_pid");
eval { $low->quit };
reaches_end('here', 'and after the session that was in flight is terminated');

# An idle log costs nothing: while another one moves on, and this one is read.
my $row = 'SELECT ctid, xmin, position FROM eventstore.settled_mark';
my $state = "SELECT state_change $workers AND datname = 'here'";
idle_store('busy');
# after it has written the mark it looks once more, an interval later
ok($node->poll_query_until('here', "SELECT clock_timestamp() - state_change > '1 s' $workers AND datname = 'here'"), 'the worker comes to rest');
my ($row_before, $state_before) = ($node->safe_psql('here', $row), $node->safe_psql('here', $state));
foreach (1 .. 3)
{
	$node->safe_psql('busy', $append);
	reaches_end('busy', "another store's mark moves on, $_");
	$node->safe_psql('here', 'SELECT count(*), es_settled_position() FROM es_read_all()');
}
stays('here', $row, $row_before, 'nothing is written while nothing is appended');
is($node->safe_psql('here', $state), $state_before, 'nor looked at');

# At most one write in an interval.
set_interval('500ms');
my $written = q{SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relid = 'eventstore.settled_mark'::regclass};
my ($written_before, $start) = ($node->safe_psql('busy', $written), time());
$node->safe_psql('busy', q{DO $$ DECLARE ended timestamptz := clock_timestamp() + '1200ms';
	BEGIN WHILE clock_timestamp() < ended LOOP PERFORM es_append('busy-1', 'B'); COMMIT; END LOOP; END $$});
reaches_end('busy', 'the mark follows a busy log');
my $writes = $node->safe_psql('busy', $written) - $written_before;
cmp_ok($writes, '<=', 2 + (time() - $start) / 0.5, 'with one write in an interval at most');

# Off, and on again.
set_interval('0');
$before = $node->safe_psql('here', $mark);
$node->safe_psql('here', $append);
stays('here', $mark, $before, 'with settle_interval = 0 the mark stays');
my $transactions = transactions('busy');
$node->safe_psql('busy', q{DO $$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM es_append('busy-1', 'B'), pg_sleep(0.001); COMMIT; END LOOP; END $$});
cmp_ok(transactions('busy') - $transactions, '<', 300 + 100, 'and appends do not keep the worker busy with nothing');
set_interval('100ms');
reaches_end('here', 'on again the mark follows, though nothing else is appended');
reaches_end('busy', 'in every store');
idle_store('slow');
set_interval('1h');
foreach (1 .. 5)
{
	# a look that was due before the reload may still come
	$node->safe_psql('slow', $append);
	usleep(300_000);
	last if $node->safe_psql('slow', $at_end) eq 'f';
}
stays('slow', $at_end, 'f', 'a long interval is long');
set_interval('100ms');
reaches_end('slow', 'a shorter interval holds from the reload on, not only after the longer one');

# More waiters than the appender wakes itself: the worker wakes the others.
my $last = $node->safe_psql('here', 'SELECT es_settled_position()');
my @waiters = map { start_script($node, 'here', "SET application_name = 'waiter'; CALL es_wait_for($last, '60s');\n") } 1 .. 24;
my $waiting = q{SELECT count(*) = 24 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'
	AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')};
$node->poll_query_until('here', $waiting);
$start = time();
$node->safe_psql('here', $append);
is(join('', map { (finish_script($_))[0] } @waiters), (($last + 1) . "\n") x 24, 'an append wakes all of many waiters');
cmp_ok(time() - $start, '<', 4, 'at once');

# ---- statements that need a database for themselves ----

# One that is terminated, and one that fails after five seconds: it waits while the others are tested.
idle_store('occupied');
my $occupant = $node->background_psql('occupied', timeout => 180);
my $given_up = start_script($node, 'postgres', q{SET application_name = 'given up'; DROP DATABASE occupied});
goes('occupied', 'the worker goes when DROP DATABASE waits for another session');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'given up'});
like((finish_script($given_up))[1], qr/terminating connection/, 'DROP DATABASE is terminated while it waits');
comes('occupied', 'and the worker comes back');
my $failing = start_script($node, 'postgres', 'DROP DATABASE occupied');

idle_store('gone');
succeeds('postgres', 'DROP DATABASE gone', 'DROP DATABASE with a live worker');
is($node->safe_psql('postgres', "SELECT count(*) $workers AND datid NOT IN (SELECT oid FROM pg_database)"), '0', 'its worker is gone too');
idle_store('scavenged');
$node->safe_psql('postgres', 'ALTER SYSTEM SET eventstore.scavenge_rate = 1');
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('eventstore.scavenge_rate') = '1'}), 'a new process will be slow');
# Somebody else is at it as the rule is carried out: the worker has its turn as soon as he has ended.
$node->safe_psql('scavenged', $_) foreach (q{SELECT count(es_append('a-1', 'T')) FROM generate_series(1, 3000)}, q{SELECT es_truncate_stream('a-1', 10)});
my $holder = $node->background_psql('scavenged');
$holder->query_safe('BEGIN; LOCK TABLE eventstore.events_0 IN SHARE MODE');
my $by_hand = start_script($node, 'scavenged', 'SELECT count(*) FROM es_scavenge()');
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger' AND wait_event_type = 'Lock'}), 'es_scavenge() is held up');
$node->safe_psql('scavenged', q{SELECT es_set_retention('a', max_count => 1)});
ok($node->poll_query_until('scavenged', q{SELECT count(*) = 1 FROM es_read('a-1', max_count => NULL)}), 'a rule is carried out meanwhile');
$holder->query_safe('COMMIT');
$holder->quit;
finish_script($by_hand);
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger' AND datname = 'scavenged'}), 'a scavenger is at work, slowly');
succeeds('postgres', 'DROP DATABASE scavenged', 'DROP DATABASE with a scavenger at work');

# Who makes a rule may be told of before he has let go of the rules: the worker comes again soon, not after a whole round.
idle_store('barred');
$node->safe_psql('barred', $_) foreach ($append, q{SELECT es_set_retention('a', max_count => 1)});
ok($node->poll_query_until('barred', 'SELECT first_version = 2 FROM es_streams'), 'a rule is carried out');
my $holder = $node->background_psql('barred', timeout => 180);
$holder->query_safe('BEGIN; LOCK TABLE eventstore.retention IN SHARE UPDATE EXCLUSIVE MODE');
$node->safe_psql('barred', $append);
my $round = $node->safe_psql('barred', 'SELECT clock_timestamp()');
$node->safe_psql('barred', q{SELECT es_create_projection('counts', 'count')});
ok($node->poll_query_until('barred', "SELECT count(*) > 0 $workers AND datname = 'barred' AND query_start > '$round'"), 'the worker comes by and finds the rules locked');
$holder->query_safe('COMMIT');
ok($node->poll_query_until('barred', 'SELECT first_version = 3 FROM es_streams'), 'it comes again once they are free');
$holder->quit;
$node->safe_psql('postgres', 'ALTER SYSTEM RESET eventstore.scavenge_rate');
$node->reload;
$node->safe_psql('postgres', 'CREATE ROLE owner CREATEDB; CREATE ROLE stranger CREATEDB');
idle_store('owned', 'owner');
my $pid = pid_of('owned');
foreach my $sql ('DROP DATABASE owned', 'ALTER DATABASE owned RENAME TO stolen', 'CREATE DATABASE stolen TEMPLATE owned')
{
	is(sqlstates($node, 'postgres', "SET SESSION AUTHORIZATION stranger; $sql;"), '42501', "not for everybody: $sql");
}
is(pid_of('owned'), $pid, 'who may not do it does not send the worker away');
comes('owned', 'a worker is there after it all');
succeeds('postgres', "SET SESSION AUTHORIZATION owner;\nDROP DATABASE owned WITH (FORCE)", 'DROP DATABASE WITH (FORCE) by an owner who is no superuser');
foreach (1 .. 4)
{
	# the worker may just be starting
	$node->safe_psql('postgres', "CREATE DATABASE fresh_$_ OWNER owner");
	$node->safe_psql("fresh_$_", 'CREATE EXTENSION eventstore');
	$node->safe_psql("fresh_$_", 'SELECT es_settled_position()');
	# a superuser's session that is just ending would be in the way, too
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = 'fresh_$_'");
	succeeds('postgres', "SET SESSION AUTHORIZATION owner;\nDROP DATABASE fresh_$_ WITH (FORCE)", "also right after the store was used first, $_");
}

idle_store($_) foreach ('named', 'moved', 'template');
succeeds('postgres', 'ALTER DATABASE named RENAME TO renamed', 'ALTER DATABASE RENAME');
$node->safe_psql('postgres', q{CREATE TABLESPACE elsewhere LOCATION ''});
succeeds('postgres', 'ALTER DATABASE moved SET TABLESPACE elsewhere', 'ALTER DATABASE SET TABLESPACE');
succeeds('postgres', 'CREATE DATABASE copy_1 TEMPLATE template', 'CREATE DATABASE TEMPLATE');
comes('renamed', 'the worker comes back under the new name');
succeeds('postgres', "BEGIN;\nALTER DATABASE renamed RENAME TO aside;\nSELECT pg_sleep(1);\nALTER DATABASE aside RENAME TO aside_2;\nALTER DATABASE aside_2 RENAME TO renamed;\nCOMMIT",
	'ALTER DATABASE RENAME several times in a transaction');
comes('renamed', 'the worker comes back after that');
comes('moved', 'the worker comes back to the new place');
comes('template', 'the worker comes back to the template');
succeeds('template', 'CREATE DATABASE copy_2 TEMPLATE template', 'CREATE DATABASE TEMPLATE from a session in the template');
comes('template', 'the worker comes back to the template again');
foreach my $copy ('copy_1', 'copy_2')
{
	is($node->safe_psql($copy, "$append SELECT count(*) FROM es_read_all()"), "2\n2", "$copy goes on from the template's store");
	comes($copy, "$copy has a worker of its own");
}
my @copies = map { start_script($node, 'postgres', "CREATE DATABASE many_$_ TEMPLATE template") } 1 .. 4;
is(join('', map { (finish_script($_))[1] } @copies), '', 'several copies of one template at once');

$node->safe_psql('template1', 'CREATE EXTENSION eventstore');
$node->safe_psql('template1', $append);
comes('template1', 'a store in template1 has a worker');
succeeds('postgres', 'CREATE DATABASE by_default', 'CREATE DATABASE from template1 without naming it');
$node->safe_psql('template1', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore');

like((finish_script($failing))[1], qr/is being accessed by other users/, 'DROP DATABASE fails with another session there');
comes('occupied', 'the worker comes back after a DROP DATABASE that failed');
$occupant->quit;

# ---- the extension ----

idle_store('ext');
$node->safe_psql('ext', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore');
goes('ext', 'the worker leaves after DROP EXTENSION');
$node->safe_psql('ext', 'CREATE EXTENSION eventstore');
$node->safe_psql('ext', $append);
comes('ext', 'it comes back after CREATE EXTENSION');
reaches_end('ext', 'and does its work');
foreach (1 .. 5)
{
	$node->safe_psql('ext', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore; CREATE EXTENSION eventstore;');
	$node->safe_psql('ext', $append x $_);
	reaches_end('ext', "a store in place of another one is looked after, $_");
}
$node->safe_psql('ext', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore; CREATE SCHEMA owned AUTHORIZATION owner; CREATE EXTENSION eventstore SCHEMA owned;');
$node->safe_psql('ext', q{SELECT owned.es_append('a-1', 'A')});
comes('ext', 'a store in a schema of its own is looked after');
reaches_end('ext', 'like others');
$node->safe_psql('ext', q{BEGIN; SELECT owned.es_append('a-1', 'A'); COMMIT; SET client_min_messages = error; SET eventstore.allow_drop = on; DROP OWNED BY owner CASCADE});
is($node->safe_psql('ext', q{SELECT count(*) FROM pg_extension WHERE extname = 'eventstore'}), '0', 'the extension goes with its schema');
goes('ext', 'the worker leaves when the extension goes with its schema');
$node->safe_psql('ext', 'CREATE EXTENSION eventstore');
$node->safe_psql('ext', $append);
comes('ext', 'it comes back after that too');
reaches_end('ext', 'with its work done');
$node->safe_psql('ext', q{SET eventstore.allow_drop = on; BEGIN; DROP EXTENSION eventstore; PREPARE TRANSACTION 'drop'});
$node->safe_psql('ext', q{COMMIT PREPARED 'drop'});
goes('ext', 'it leaves after a prepared DROP EXTENSION');
is(said($log_start), '', 'none of that made a worker log an error');

# DROP EXTENSION in a transaction that idles, while the worker has something to do.
idle_store('half');
$log_start = -s $node->logfile;
$before = $node->safe_psql('half', $mark);
my $dropper = $node->background_psql('half');
$dropper->query_safe("BEGIN; $append");
$node->safe_psql('half', q{SELECT es_append('b-1', 'A')});	# wakes the worker, whose mark cannot get there
$dropper->query_safe('SET eventstore.allow_drop = on; DROP EXTENSION eventstore;');
$transactions = transactions('half');
$start = time();
looked('half') for 1 .. 5;
is(said($log_start), '', 'DROP EXTENSION in a transaction that idles makes the worker log nothing');
cmp_ok(transactions('half') - $transactions, '<=', 5 + 2 * (time() - $start) / 0.1, 'nor spin');
$dropper->query_safe('ROLLBACK');
$dropper->quit;
$node->safe_psql('half', $append);
reaches_end('half', 'after ROLLBACK the worker goes on');
cmp_ok($node->safe_psql('half', $mark), '>', $before, 'with the mark');

# ---- the end of workers ----

$pid = pid_of('here');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $workers AND datname = 'here' AND pid <> $pid"), 'a terminated worker is replaced');
$pid = $node->safe_psql('postgres', "SELECT pid $launchers");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $launchers AND pid <> $pid"), 'a terminated launcher is replaced');
idle_store('late');
comes('late', 'and starts workers');
is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT datname $workers GROUP BY 1 HAVING count(*) > 1) d"), '0', 'no database has two');

# What an interrupted DROP DATABASE leaves.
$node->safe_psql('postgres', 'CREATE DATABASE broken');
$node->safe_psql('postgres', q{UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'});
$log_start = -s $node->logfile;

$node->safe_psql('here', q{SELECT es_append('kept-1', 'K') FROM generate_series(1, 100)});
my $kept = $node->safe_psql('here', 'SELECT count(*) FROM es_read_all(0, NULL)');
$pid = pid_of('here');
kill 'KILL', $pid;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $workers AND datname = 'here' AND pid <> $pid"), 'SIGKILL: the worker is back after the restart');
is($node->safe_psql('here', 'SELECT count(*) FROM es_read_all(0, NULL)'), $kept, 'SIGKILL: nothing acknowledged is lost');
$node->safe_psql('here', $append);
reaches_end('here', 'SIGKILL: the mark moves on');
$start = time();
comes($_, "SIGKILL: the worker of $_ is back too") foreach ('busy', 'slow', 'renamed', 'copy_1', 'copy_2', 'late');
cmp_ok(time() - $start, '<', 4, 'SIGKILL: all of them soon');
is(said($log_start) =~ s/^(?!.*"broken").*\n?//mgr, '', 'nobody tries to connect to a database that is invalid');
$node->safe_psql('postgres', 'DROP DATABASE broken');

# ---- a restore ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->safe_psql('here', "BEGIN; $append ROLLBACK;");
reaches_end('here', 'a store to be dumped');
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', 'here' ], 'pg_dump');
my ($rows, $rest) = slurp_file($dump) =~ s/^\\(un)?restrict .*$//mgr =~ /\A(.*?)(^SELECT pg_catalog\.setval.*)\z/ms;
like($rows, qr/^COPY eventstore\.streams /m, 'a dump has rows first, then sequences');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->safe_psql('restored', $rows);
# a launcher that starts looks at all databases
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) $launchers");
comes('restored', 'a worker comes in the middle of a restore');
looked('restored') for 1 .. 2;
is($node->safe_psql('restored', $mark), '0', 'and writes no mark');
$node->safe_psql('restored', $rest);
looked('restored') for 1 .. 2;
is($node->safe_psql('restored', $mark), '0', 'nor at the end, before the store is used');
is(store_digest($node, 'restored'), store_digest($node, 'here'), 'everything is restored');
reaches_end('restored', 'once it is used the mark gets to the end');
$node->safe_psql('restored', $append);
reaches_end('restored', 'and on from there');

# ---- shutdown ----

# shuts_down(name): fast, and clean.
sub shuts_down
{
	my ($name) = @_;
	my $offset = -s $node->logfile;
	my $begin = time();

	$node->stop('fast');
	cmp_ok(time() - $begin, '<', 5, "$name: quick");
	# a client of ours that is just ending may be told
	unlike(slurp_file($node->logfile, $offset), qr/^(?!.* worker\.pl FATAL: ).*(ERROR|FATAL|PANIC): .*/m, "$name: clean");
}

shuts_down('a fast shutdown with idle workers');
$node->append_conf('postgresql.conf', "eventstore.settle_interval = '1ms'\n");
$node->start;
comes('here', 'a worker for another shutdown');
$node->safe_psql('here', "BEGIN; $append PREPARE TRANSACTION 'keeps the worker busy'; SELECT es_append('b-1', 'B');");
looked('here');
shuts_down('a fast shutdown with a busy worker');

# ---- without workers ----

# The launcher has the only slot.
$node->append_conf('postgresql.conf', "${fast}max_worker_processes = 1\nmax_logical_replication_workers = 0\nmax_parallel_workers = 0\n");
$log_start = -s $node->logfile;
$node->start;
$node->safe_psql('here', q{ROLLBACK PREPARED 'keeps the worker busy'});
$last = $node->safe_psql('here', "$append SELECT es_settled_position()") =~ s/.*\n//r;
is($node->safe_psql('here', "SELECT es_settled_position(), ($mark) < es_settled_position()"), "$last|t", 'no worker slot free: appends work');
@waiters = map { start_script($node, 'here', "SET application_name = 'waiter'; CALL es_wait_for($last, '60s');\n") } 1 .. 24;
$node->poll_query_until('here', $waiting);
$start = time();
$node->safe_psql('here', $append);
is(join('', map { (finish_script($_))[0] } @waiters), (($last + 1) . "\n") x 24, 'no worker slot free: an append wakes all of many waiters');
cmp_ok(time() - $start, '<', 4, 'no worker slot free: at once');
is($node->safe_psql('here', 'SELECT es_settle()'), $last + 1, 'no worker slot free: es_settle works');
ok($node->wait_for_log(qr/no background worker is free.*\n.*DETAIL: .*\n.*HINT: .*max_worker_processes/, $log_start), 'no worker slot free: the log has a hint');
is($node->safe_psql('postgres', "SELECT count(*) $workers"), '0', 'no worker slot free: there is no worker');
succeeds('postgres', 'DROP DATABASE late', 'no worker slot free: DROP DATABASE');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
$node->safe_psql('here', $append);
is($node->safe_psql('postgres', "SELECT count(*) $launchers"), '0', 'not preloaded: there is no launcher');
is($node->safe_psql('postgres', "SELECT count(*) $workers"), '0', 'nor a worker');
succeeds('postgres', 'DROP DATABASE half', 'not preloaded: DROP DATABASE');
$node->stop;

# ---- segments, made where nobody else looks ----

# One session appends and asks nothing, so nothing but the worker finds out that the
# log has a segment more, and that no restore has put it there.
my $loner = new_node('loner', conf => $preload);
my $alone = $loner->background_psql('postgres');
$alone->query_safe(q{CREATE EXTENSION eventstore; SELECT es_set_segment_size(100);
	SELECT es_create_projection('now', 'merge', mode => 'inline'); SELECT es_create_projection('soon', 'merge')});
foreach my $upto (1, 150, 420)
{
	$alone->query_safe("SELECT count(es_append('order-0', 'A')) FROM generate_series(es_stream_version('order-0') + 1, $upto)");
	is($alone->query_safe("SELECT es_wait_projection('soon', 'order-0', $upto, '25s')"), 't', "an appender alone: its projection takes in $upto events");
}
$alone->quit;
$loner->stop;

# ---- a standby ----

my $primary = new_node('primary', streaming => 1, conf => "$preload$fast");
$primary->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$primary->safe_psql('postgres', $append);
my $standby = start_standby($primary);
$primary->safe_psql('postgres', q{BEGIN; SELECT es_append('low-1', 'undone'); ROLLBACK;});
$primary->safe_psql('postgres', q{SELECT es_append('a-1', 'B')});
ok($standby->poll_query_until('postgres', q{SELECT string_agg(type, '' ORDER BY position) FROM es_read_all()}, 'AB'),
	"a standby's reader passes a rolled-back hole by the worker of the primary alone");
$low = $primary->background_psql('postgres');
$low->query_safe(q{BEGIN; SELECT es_append('low-1', 'C')});
$primary->safe_psql('postgres', q{SELECT es_append('a-1', 'D')});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', q{SELECT string_agg(type, '' ORDER BY position) FROM es_read_all()}), 'AB', 'but not an append in flight');
$low->query_safe('COMMIT');
$low->quit;
ok($standby->poll_query_until('postgres', q{SELECT string_agg(type, '' ORDER BY position) FROM es_read_all()}, 'ABCD'), 'until it commits');
is($standby->safe_psql('postgres', "SELECT (SELECT count(*) $workers), (SELECT count(*) $launchers)"), '0|0', 'a hot standby has no worker, and no launcher');
$primary->stop('fast');
$standby->promote;
comes('postgres', 'after promotion a worker appears, though nobody calls anything', $standby);
$standby->safe_psql('postgres', q{BEGIN; SELECT es_append('low-1', 'undone'); ROLLBACK;});
$standby->safe_psql('postgres', q{SELECT es_append('a-1', 'E')});
ok($standby->poll_query_until('postgres', $at_end), 'and writes the mark');
$standby->stop;

done_testing();
