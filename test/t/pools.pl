# Clients behind a pool, PgBouncer, whose statements come over whatever connection is
# free: they read what they wrote, their consumers get everything once and in order,
# and wait for it, and a connection that has another client knows nothing of the one before.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstorePool;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = pool_missing();
plan skip_all => $missing if $missing;

# No wait may end by its time.
my $node = new_node('main', conf => "eventstore.max_wait = '1h'\n");

new_store($node, 'store');

# "transaction" and "session" have two connections to the server, which take turns, and
# "workers" one more than there are consumers: each that waits has one to itself.
my $pool = start_pool($node, 'store', transaction => 'pool_mode=transaction pool_size=2',
	workers => 'pool_mode=transaction pool_size=4', session => 'pool_mode=session pool_size=2');

sub run { return $node->safe_psql('store', $_[0]) }
sub start { return start_script($pool, @_) }
sub answer { my ($out, $err) = finish_script($_[0]); return $out . $err }
sub ask { return answer(start(@_)) }

# start_all(database, n, sub): so many clients at once, each with a script of its own.
sub start_all
{
	my ($database, $n, $script) = @_;
	return map { start($database, $script->($_)) } 1 .. $n;
}

# Waits until the session of an application sleeps in one of our waits.
sub sleeps
{
	return $node->poll_query_until('store', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$_[0]' AND state = 'active'
		AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')");
}

foreach my $preload (0, 1)
{
	my $how = preload($node, $preload);
	my ($states, $inline, $work) = map { "$_$preload" } qw(states inline work);

	$node->restart;
	run("SELECT es_create_projection('$states', 'count', category => '$states'), es_create_projection('$inline', 'count', 'inline', '$inline')");

	# ---- what one wrote, over whatever connection it is asked for ----
	# Where no worker does it somebody beside the pool runs the projection: a client's own run ends before an append that
	# is still in flight, and then both connections may be taken by who waits for what came after that one.
	run('CREATE TABLE under_way AS SELECT true') unless $preload;
	my $runner = $preload || start_script($node, 'store', <<"END");
DO \$\$ BEGIN
	WHILE EXISTS (SELECT FROM under_way) LOOP
		PERFORM es_run_projection('$states');
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END \$\$;
END
	my ($clients, $rounds) = (6, 60);
	my @clients = start_all('transaction', $clients, sub {
		my ($n) = @_;
		my $run = $preload ? '' : "SELECT es_run_projection('$states') \\gset\n";
		return join('', map { my $p = $_ % 2 ? $states : $inline; <<"END" } 1 .. $rounds);
SELECT es_append('$p-$n', 'T') AS version, pg_backend_pid() AS pid \\gset
$run SELECT es_position('$p-$n', :version) AS position \\gset
SELECT es_wait_projection('$p', '$p-$n', :version, '1h') AS there \\gset
SELECT :'there', version = :version, es_wait_projection('$p', :position, '1h'), pg_backend_pid() <> :pid FROM es_projection('$p', '$p-$n');
END
	});
	my %outcomes;
	$outcomes{$_}++ foreach map { split /\n/, answer($_) } @clients;
	unless ($preload)
	{
		run('DELETE FROM under_way');
		is(answer($runner), '', "$how: who runs the projection beside them");
	}
	is(join(' ', sort keys %outcomes), 't|t|t|f t|t|t|t', "$how: each client reads what it wrote, over the connection that it wrote on and over others");
	is(($outcomes{'t|t|t|f'} // 0) + ($outcomes{'t|t|t|t'} // 0), $clients * $rounds, "$how: in each round");

	# ---- expected versions ----
	@clients = start_all('transaction', 4, sub { return "\\set VERBOSITY sqlstate\n" . "SELECT es_stream_version('exact-$preload') AS so_far \\gset\nSELECT es_append('exact-$preload', 'T', expected_version => :so_far);\n" x 50 });
	%outcomes = ();
	$outcomes{$_ =~ /ERROR:\s+(\w+)/ ? $1 : $_}++ foreach map { split /\n/, answer($_) } @clients;
	my $conflicts = delete $outcomes{VE001} // 0;
	my $appended = run("SELECT es_stream_version('exact-$preload')");
	is(join(' ', sort { $a <=> $b } keys %outcomes), join(' ', 1 .. $appended), "$how: appends with an expected version: each version once, and nothing but VE001");
	is($appended + $conflicts, 200, "$how: who is not first is told");

	# ---- consumers ----
	my ($members, $events) = (3, 300);
	run("CREATE TABLE got$preload (nth serial, member text, stream text, version bigint, pid int);
		SELECT es_subscribe('$work', NULL, '{$work}', partitions => 4)");
	my @consumers = start_all('workers', $members, sub {
		my ($member) = @_;
		# by turns all in one transaction, and each step over a connection of its own
		my $poll = "es_poll('$work', 7, member => 'm$member', lease => '1h')";
		my $take = "INSERT INTO got$preload (member, stream, version, pid) SELECT 'm$member', stream, version, pg_backend_pid() FROM d ORDER BY position";
		my $ack = "SELECT count(es_ack('$work', partition, last, 'm$member')) AS acked FROM (SELECT partition, max(position) AS last FROM d GROUP BY 1) l \\gset";
		my $wait = "SELECT count(*) >= $events AS done FROM got$preload \\gset\n\\if :done\n\\q\n\\endif\nCALL es_poll_wait('$work', '1h', member => 'm$member');\n";
		return "\\set VERBOSITY sqlstate\n" . <<"END" x $events;
${wait}BEGIN;
WITH d AS MATERIALIZED (SELECT * FROM $poll), g AS ($take) $ack
COMMIT;
${wait}SELECT coalesce(jsonb_agg(d), '[]') AS delivered FROM $poll d \\gset
WITH d AS MATERIALIZED (SELECT * FROM jsonb_populate_recordset(NULL::es_delivery, :'delivered')), g AS ($take) $ack
END
	});
	my @producers = start_all('transaction', 3, sub { return join('', map { "SELECT es_append('$work-' || $_ % 10 || '-$_[0]', 'T') \\gset\n" } 1 .. $events / 3) });
	is(join('', map { answer($_) } @producers), '', "$how: events come");
	ok($node->poll_query_until('store', "SELECT count(*) >= $events FROM got$preload"), "$how: consumers get them all");
	# that ends who waits for more
	run("SELECT es_unsubscribe('$work')");
	%outcomes = ();
	$outcomes{$_ =~ /ERROR:\s+(\w+)/ ? $1 : $_}++ foreach map { split /\n/, answer($_) } @consumers;
	delete $outcomes{VE004};
	is(join(' ', keys %outcomes), 't', "$how: no wait ends by its time, and nothing fails");
	is(run("SELECT count(*), count(DISTINCT (stream, version)) FROM got$preload"), "$events|$events", "$how: each event once");
	is(run("SELECT count(*) FROM (SELECT version, row_number() OVER (PARTITION BY stream ORDER BY nth) AS n FROM got$preload) g WHERE version <> n"), '0', "$how: in its stream's order");
	cmp_ok(run("SELECT max(n) FROM (SELECT count(DISTINCT pid) AS n FROM got$preload GROUP BY member) g"), '>', 1, "$how: over connections that change");

	# ---- waiting ----
	foreach my $database ('transaction', 'session')
	{
		my $last = run('SELECT es_settled_position()');
		my $waiter = start($database, "SET application_name = 'waiter$preload$database';\nCALL es_wait_for($last, '1h');\nRESET application_name;\n");
		ok(sleeps("waiter$preload$database"), "$how, $database: es_wait_for waits");
		is(run("SELECT count(backend_xid), count(backend_xmin) FROM pg_stat_activity WHERE application_name = 'waiter$preload$database'"), '0|0', "$how, $database: with neither snapshot nor transaction id");
		is(ask($database, "SELECT es_append('other-1', 'T') > 0;\n"), "t\n", "$how, $database: beside it the pool has another connection");
		is(answer($waiter), $last + 1 . "\n", "$how, $database: which ends the wait");
	}

	# ---- what a connection knows of the client before ----
	is(ask('transaction', "BEGIN;\nSELECT es_append('mine-$preload', 'T');\nSELECT es_last_position() = es_position('mine-$preload', 1);\nCOMMIT;\n"), "1\nt\n", "$how: es_last_position() is good for the transaction that appended");
	my @pids = map { split /\n/, ask('session', "SELECT es_append('mine-$preload', 'T') \\gset\nSELECT es_last_position() = es_settled_position();\nSELECT pg_backend_pid();\n") } 1 .. 2;
	is("$pids[0] $pids[2]", 't t', "$how: and in session mode for the client");
	my %before = map { $_ => 1 } @pids[1, 3];
	my ($known, $pid) = split /\n/, ask('session', "SELECT es_last_position() IS NULL;\nSELECT pg_backend_pid();\n");
	is($known, 't', "$how: the next client over a connection knows nothing of the one before");
	ok($before{$pid}, "$how: which had the same one");

	# ---- prepared statements ----
	my $script = "$pool->{folder}/bench$preload.sql";
	append_to_file($script, "SELECT es_append('bench-$preload', 'T', jsonb_build_object('client', :client_id::int));\nSELECT count(*) FROM es_read('bench-$preload', 1, :client_id + 1);\n");
	my $appends = 0;
	foreach my $case ([ 'transaction', 'extended' ], [ 'session', 'prepared' ], [ 'transaction', 'prepared' ])
	{
		my ($database, $protocol) = @$case;
		# pgbench begins when all its clients have a connection
		my $clients = $database eq 'session' ? 2 : 4;
		SKIP:
		{
			skip("this PgBouncer keeps no prepared statements in transaction mode", 2) if $database eq 'transaction' && $protocol eq 'prepared' && !$pool->{keeps_statements};
			command_ok([ $node->installed_command('pgbench'), '-n', '-c', $clients, '-t', 100 / $clients, '-M', $protocol, '-f', $script, $pool->connstr($database) ],
				"$how: protocol \"$protocol\" in $database mode");
			is(run("SELECT es_stream_version('bench-$preload')"), $appends += 100, "$how: appended");
		}
	}
}

$pool->stop;
$node->stop;
done_testing();
