# Programs as applications are: what demo/drivers says of the drivers for Node.js, Python
# and Java is so, directly and behind a pool; and the workers in Node.js and Python handle
# each event once, park what is poisoned, and live through lost connections, until they
# are told to stop.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstorePool;
use EventstoreTest;
use List::Util qw(first);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Java's driver knows TCP only. A wait within a transaction block would end at once.
my $node = new_node('main', conf => "listen_addresses = '127.0.0.1'\neventstore.retry_delay = '20ms'\neventstore.max_wait = '1ms'\n");
my $tempdir = PostgreSQL::Test::Utils::tempdir();
my $drivers = 'demo/drivers';
my $jar = first { -e } map { "$_/postgresql.jar" } split(/:/, $ENV{CLASSPATH} // ''), '/usr/share/java';

$ENV{PGUSER} = getpwuid($>);
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

sub program { my ($name) = @_; return first { -x } map { "$_/$name" } split /:/, $ENV{PATH}; }

# works(command): whether it ends well.
sub works { my @command = @_; return $command[0] && IPC::Run::run(\@command, '<', \undef, '>', '/dev/null', '2>', '/dev/null'); }

# without_node(), without_python(), without_java(): why programs in it cannot run here, or nothing.
my $node_js = program('node');
my $python = first { works($_, '-c', 'import psycopg; psycopg.types.composite') } '/usr/bin/python3', program('python3');
my $java = program('java');

sub without_node
{
	return 'Node.js is not installed (tools/setup)' unless $node_js;
	return if -d "$drivers/node_modules/pg";
	my ($stdout, $stderr) = run_command([ qw(timeout 120 npm install --silent --no-package-lock --no-audit --no-fund --prefix), $drivers ]);
	return if -d "$drivers/node_modules/pg";
	return "npm install --prefix $drivers failed, without a network perhaps: " . substr($stderr, 0, 200);
}

sub without_python { return $python ? () : 'psycopg 3 for Python is not installed (tools/setup)'; }

sub without_java
{
	return 'a JDK is not installed (tools/setup)' unless $java && works($java, '--list-modules') && program('javac');
	return $jar ? () : 'pgjdbc is not installed (tools/setup)';
}

my @languages = (
	[ 'Node.js', \&without_node, sub { ($node_js, "$drivers/tour.mjs") } ],
	[ 'Python', \&without_python, sub { ($python, "$drivers/tour.py") } ],
	[ 'Java', \&without_java, sub { ($java, '-cp', $jar, "$drivers/Tour.java") } ]);

# run_program(command): what it prints, its errors behind it.
sub run_program
{
	my @command = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err) or $err .= "ended with status $?\n";
	return $out . $err;
}

# ---- tours ----

new_store($node, 'tour');
my $missing = pool_missing();
my $pool = $missing ? undef : start_pool($node, 'tour', tour => 'pool_mode=transaction pool_size=2');

foreach my $way ([ 'directly', $node, '127.0.0.1' ], [ 'behind a pool', $pool, '127.0.0.1' ])
{
	my ($how, $server, $address) = @$way;

	foreach my $language (@languages)
	{
		my ($name, $without, $command) = @$language;
	  SKIP:
		{
			my $why = $server ? $without->() : $missing;
			skip $why, 2 if $why;
			my $stream = "$name-" . ($server == $node ? 1 : 2);
			local $ENV{PGHOST} = $name eq 'Java' ? $address : $server->host;
			local $ENV{PGPORT} = $server->port;
			local $ENV{PGDATABASE} = 'tour';
			local $ENV{PREPARE} = $pool && $server == $pool && !$pool->{keeps_statements} ? 'no' : 'yes';
			my $said = run_program($command->(), $stream);
			my $position = $node->safe_psql('tour', "SELECT es_position('$stream', 1)");
			is($said, <<"END", "$name, $how");
version 1
data owner, 3 elements, it's "text"
position $position, and so would be 9007199254740993
several 5
batch 7
conflict VE001, expected 1, actual 7
retry 8 8, VE010, stored at 8
condition VE011, true
time 1
waited true
prepared 19
END
			is($node->safe_psql('tour', "SELECT string_agg(concat_ws(' ', type, jsonb_typeof(data), data #>> '{}'), ', ' ORDER BY version) FROM es_read('$stream', 2, 6)"),
				q{Listed array [1, "two", null], Noted string it's "text", Added object {"sku": "A1"}, Added object {"sku": "B2"}, Added object {"sku": "C3"}, Removed array ["A1"]},
				"$name, $how: what it appended");
		}
	}
}
$pool->stop if $pool;

# ---- workers ----

# works_through(name, command): a worker, in a database of its own.
sub works_through
{
	my ($name, @command) = @_;
	my $database = "worker_$name";
	my $sql = sub { $node->safe_psql($database, $_[0]) };
	my $until = sub { $node->poll_query_until($database, $_[0]) };
	my @workers;
	my $start = sub {
		my $file = "$tempdir/$name" . @workers;
		push @workers, { file => $file, process => start_process(\@command, "$file.out", "$file.err") };
		return $workers[-1];
	};
	my $errors = sub { return slurp_file("$_[0]{file}.err") };
	# each order is placed, paid, shipped; n says which
	my $append = sub {
		my ($from, $to, $email) = @_;
		$sql->("SELECT count(es_append('order-' || n, 'OrderPlaced', jsonb_build_object('email', '$email'))), count(es_append('order-' || n, 'OrderPaid')) FROM generate_series($from, $to) n;
			SELECT count(es_append('order-' || n, 'OrderShipped')) FROM generate_series($from, $to) n");
	};
	# all that can be is handled, each event once, those of a stream in order
	my $mails = q{SELECT count(*) FROM mail};
	my $handled = sub {
		my ($count, $what) = @_;
		ok($until->("SELECT count(*) = $count FROM mail"), "$name: $what") or diag join('', map { $errors->($_) } @workers);
		is($sql->(q{SELECT count(*) FILTER (WHERE n <> 1) FROM (SELECT count(*) AS n FROM tried GROUP BY event_id) t}), '0', "$name: each once");
		is($sql->(q{SELECT count(*) FROM (SELECT e.version, rank() OVER (PARTITION BY e.stream ORDER BY nth) AS rank FROM mail JOIN es_events e USING (event_id)) r WHERE version <> rank}),
			'0', "$name: in order");
	};
	# workers that sleep in a wait which holds no snapshot
	my $idle = q{FROM pg_stat_activity WHERE application_name = 'worker' AND datname = current_database() AND state = 'active'
		AND query LIKE 'CALL es_poll_wait%' AND backend_xmin IS NULL AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'LWLock', 'IO')};
	my $blocked = q{FROM pg_stat_activity WHERE application_name = 'worker' AND datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0};

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, slurp_file('demo/app/schema.sql'));
	$sql->(q{ALTER TABLE mail ADD nth bigserial; CREATE TABLE tried (event_id uuid);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO tried VALUES (new.event_id); RETURN new; END';
		CREATE TRIGGER note BEFORE INSERT ON mail FOR EACH ROW EXECUTE FUNCTION note()});
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = $database;

	# poison
	$append->(1, 40, 'ann@example.com');
	$append->(41, 41, 'nobody');
	$append->(42, 80, 'bob@example.com');
	$start->() for 1 .. 2;
	$handled->(3 * 79, 'all but a poisoned order is handled');
	ok($until->(q{SELECT count(*) = 3 FROM es_parked('mailer')}), "$name: that is parked");
	is($sql->(q{SELECT string_agg(stream || ' ' || version || ' ' || attempts, ', ' ORDER BY version), bool_and(reason LIKE '%mail_recipient_check%') FROM es_parked('mailer')}),
		'order-41 1 3, order-41 2 3, order-41 3 3|t', "$name: after three attempts, for its reason");

	# connections that break: while idle, and in the middle of a batch
	ok($until->("SELECT count(*) = 2 $idle"), "$name: with nothing to do they wait, without a snapshot");
	my $kill = q{SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'worker' AND datname = current_database()};
	is($sql->($kill), '2', "$name: their connections are ended");
	$append->(101, 140, 'ann@example.com');
	$handled->(3 * 119, 'they connect again and go on');
	ok($until->("SELECT count(*) = 2 $idle"), "$name: and wait again");
	my $lock = $node->background_psql($database);
	$lock->query_safe('BEGIN; LOCK TABLE mail IN SHARE MODE');
	$append->(201, 240, 'ann@example.com');
	ok($until->("SELECT count(*) >= 1 $blocked"), "$name: in the middle of a batch");
	$sql->($kill);
	$lock->query_safe('COMMIT');
	$handled->(3 * 159, 'what was cut off is done again');

	# the server goes
	ok($until->("SELECT count(*) = 2 $idle"), "$name: they wait");
	$lock->quit;
	$node->restart;
	$append->(301, 310, 'ann@example.com');
	$handled->(3 * 169, 'they live through a restart of the server');
	like($errors->($workers[0]), qr/trying again/, "$name: and say so");

	# the end: idle, and in the middle of a batch, which is finished before
	ok($until->("SELECT count(*) = 2 $idle"), "$name: both wait");
	$workers[0]{process}->signal('TERM');
	ok($workers[0]{process}->finish, "$name: SIGTERM ends one that waits, with status 0") or diag $errors->($workers[0]);
	ok($until->("SELECT count(*) = 1 $idle"), "$name: the server does not wait on for it");
	$lock = $node->background_psql($database);
	$lock->query_safe('BEGIN; LOCK TABLE mail IN SHARE MODE');
	$append->(401, 401, 'ann@example.com');
	ok($until->("SELECT count(*) = 1 $blocked"), "$name: the other one has a batch in hand");
	$workers[1]{process}->signal('TERM');
	$lock->query_safe('COMMIT');
	$lock->quit;
	ok($workers[1]{process}->finish, "$name: SIGTERM ends it, with status 0") or diag $errors->($workers[1]);
	cmp_ok($sql->($mails), '>', 3 * 169, "$name: after that batch");
	# order 501 is deleted and 502 truncated while no worker is there
	$append->(501, 502, 'ann@example.com');
	$sql->(q{SELECT es_delete_stream('order-501'), es_truncate_stream('order-502', 4)});
	my $last = $start->();
	$handled->(3 * 170, 'the next one does the rest');
	ok($until->('SELECT count(lag_time) = 0 FROM es_subscriptions'), "$name: and comes to the end");
	is($sql->(q{SELECT count(*) FROM es_parked('mailer')}) . $sql->($mails), 3 . 3 * 170, "$name: past what is hidden by now, of which it parks nothing");

	# what it cannot mend
	$sql->(q{SELECT es_unsubscribe('mailer')});
	$sql->($kill);
	ok(!$last->{process}->finish, "$name: without its subscription it ends, with another status");
	like($errors->($last), qr/subscription "mailer" does not exist/, "$name: and says why");
}

SKIP:
{
	my $why = without_node();
	skip $why, 1 if $why;
	works_through('node', $node_js, "$drivers/worker.mjs", 'mailer');
}
SKIP:
{
	my $why = without_python();
	skip $why, 1 if $why;
	works_through('python', $python, 'demo/app/mailer.py');
}

$node->stop;
done_testing();
