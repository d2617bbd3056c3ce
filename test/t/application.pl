# The application in demo/app, by its own tests and from the command line, with a worker
# and without; and what doc/applications.md says of testing: databases that are copied from
# a template, and transactions that are rolled back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use List::Util qw(first);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 'logical', conf => "max_worker_processes = 30\n");
my $python = first { -x && IPC::Run::run([ $_, '-c', 'import psycopg; psycopg.types.composite' ], '2>', '/dev/null') }
	'/usr/bin/python3', (map { "$_/python3" } split /:/, $ENV{PATH});

my $tempdir = PostgreSQL::Test::Utils::tempdir();

$ENV{PGUSER} = getpwuid($>);
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;

# run_python(program, arguments): whether it ended well, what it printed, and its errors.
sub run_python
{
	my ($program, @arguments) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ $python, "demo/app/$program", @arguments ], '<', \undef, '>', \$out, '2>', \$err);

	return ($ok, $out, $err);
}

# sql(database, sql): the result.
sub sql { return $node->safe_psql(@_) }

# worker_in(database): waits until the store there has its worker.
sub worker_in
{
	my ($database) = @_;
	return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'eventstore worker'");
}

foreach my $preload (0, 1)
{
	my $how = preload($node, $preload);

	$node->restart;

	# ---- the application ----
	SKIP:
	{
		skip 'psycopg 3 for Python is not installed (tools/setup)', 1 unless $python;
		my ($ok, $out, $err) = run_python('test_orders.py');
		ok($ok, "$how: the application's tests pass") or diag $err;
		like($err, qr/^Ran 8 tests/m, "$how: all of them");

		sql('postgres', "CREATE DATABASE app$preload");
		sql("app$preload", slurp_file('demo/app/schema.sql'));
		local $ENV{PGDATABASE} = "app$preload";
		my $says = sub {
			my ($command, $expected) = @_;
			my ($ok, $out, $err) = run_python('orders.py', split / /, $command);
			is($out . $err, "$expected\n", "$how: $command");
		};
		foreach my $wrong ('', 'pay', 'pay 7', 'pay 7 120 EUR', 'refund 7 120', 'list')
		{
			($ok, $out, $err) = run_python('orders.py', split / /, $wrong);
			ok(!$ok && $err =~ /^orders\.py COMMAND ORDER/, "$how: orders.py $wrong: how it is used");
		}
		$says->('place 7 ann ann@example.com 120', '1');
		$says->('ship 7 parcel-1', 'the order is placed');
		$says->('pay 7 119', 'the order costs 120');
		$says->('pay 7 120', '2');
		$says->('cancel 7 late', '3');
		$says->('pay 8 120', 'the order is unknown');
		sql("app$preload", $preload ? "SELECT es_wait_projection('orders', 'order-7', 3, '10s')" : "SELECT es_run_projection('orders')");
		$says->('list ann', 'order-7 cancelled 120');

		# orders that are deleted, or truncated, before their events were handled
		$says->('place 9 eve eve@example.com 90', '1');
		$says->('place 10 eve eve@example.com 100', '1');
		sql("app$preload", q{SELECT es_delete_stream('order-9'), es_truncate_stream('order-10', 2)});
		$says->('place 9 eve eve@example.com 90', 'the order is deleted');
		my $mailer = start_process([ $python, 'demo/app/mailer.py' ], "$tempdir/mailer$preload.out", "$tempdir/mailer$preload.err");
		ok($node->poll_query_until("app$preload", 'SELECT count(lag_time) = 0 FROM es_subscriptions'), "$how: the worker comes to the end");
		$mailer->signal('TERM');
		ok($mailer->finish, "$how: and ends") or diag slurp_file("$tempdir/mailer$preload.err");
		is(sql("app$preload", q{SELECT (SELECT count(*) FROM es_parked('mailer')), string_agg(subject, ', ' ORDER BY subject) FROM mail}),
			'0|order-7: OrderCancelled, order-7: OrderPaid, order-7: OrderPlaced', "$how: what is hidden by now it passes, and parks nothing");
	}

	# ---- a database for each test, copied from a template ----
	my ($template, $copy) = map { "$_$preload" } qw(model copy);
	sql('postgres', "CREATE DATABASE $template");
	sql($template, q{CREATE EXTENSION eventstore;
		SELECT es_create_projection('sums', 'merge', category => 'order');
		SELECT es_create_projection('sums_now', 'merge', mode => 'inline', category => 'order');
		SELECT es_subscribe('mailer');
		SELECT es_append('order-0', 'OrderPlaced', '{"total": 1}', event_id => '6ba7b810-9dad-51d1-80b4-00c04fd430c8');
		BEGIN; SELECT es_append('order-0', 'Undone'); ROLLBACK});
	sql($template, "SELECT es_create_feed('search$preload')");
	sql($template, "SELECT es_run_projection('sums')");

	# Somebody is connected: it cannot be copied; the store's worker is nobody.
	my $session = $node->background_psql($template);
	$session->query_safe('SELECT 1');
	like(($node->psql('postgres', "CREATE DATABASE $copy TEMPLATE $template"))[2], qr/source database "$template" is being accessed by other users/, "$how: a template that somebody uses cannot be copied");
	worker_in($template) if $preload;
	$session->quit;
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$template' AND backend_type = 'client backend'");
	is(($node->psql('postgres', "CREATE DATABASE $copy TEMPLATE $template"))[2], '', "$how: one that nobody uses can be, though the store has its worker") if $preload;
	sql('postgres', "DROP DATABASE IF EXISTS $copy");

	# The recipe: nobody can connect any more.
	sql('postgres', "ALTER DATABASE $template ALLOW_CONNECTIONS false");
	foreach my $n (1 .. 3)
	{
		is(($node->psql('postgres', "CREATE DATABASE $copy TEMPLATE $template"))[2], '', "$how: copy $n is made");
		is(sql($copy, q{SELECT es_settled_position(), es_last_position(), es_stream_version('order-0'), (SELECT string_agg(position::text, ' ') FROM es_read_all())}),
			'2||1|1', "$how: it has what the template has, and its session has appended nothing");
		is(sql($copy, q{SELECT es_append('order-0', 'OrderPaid'); SELECT es_last_position(), es_settled_position()}), "2\n3|3", "$how: positions go on");
		is(sql($copy, q{SELECT es_append('order-0', 'OrderPlaced', '{"total": 1}', event_id => '6ba7b810-9dad-51d1-80b4-00c04fd430c8')}), '1', "$how: ids are known");
		is(sql($copy, q{SELECT string_agg(position || type, ' ') FROM es_poll('mailer')}), '1OrderPlaced 3OrderPaid', "$how: subscriptions are where they were");
		is(sql($copy, q{SELECT feed, slot_name IS NULL OR NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.slot_name = f.slot_name AND s.database = current_database()) FROM es_feeds f}),
			"search$preload|t", "$how: a feed is defined, and has no slot there");
		is(sqlstates($node, $copy, "SELECT es_create_feed('search$preload')"), '42710', "$how: nor can it, since the template's has the name");
		if ($preload)
		{
			is(sql($copy, q{SELECT es_wait_projection('sums', 'order-0', 2, '10s')}), 't', "$how: a worker comes, and runs the projection");
			worker_in($copy);
		}
		else
		{
			is(sql($copy, q{SELECT es_run_projection('sums')}), '1', "$how: es_run_projection runs the projection");
		}
		is(sql($copy, q{SELECT version FROM es_projection('sums', 'order-0')}), '2', "$how: which has both");
		is(($node->psql('postgres', "DROP DATABASE $copy"))[2], '', "$how: it is dropped, though it has a worker");
	}
	sql('postgres', "CREATE DATABASE $copy TEMPLATE $template");
	my $idle = $node->background_psql($copy);
	is(($node->psql('postgres', "DROP DATABASE $copy WITH (FORCE)"))[2], '', "$how: WITH (FORCE) also while somebody is connected");
	eval { $idle->quit };

	# ---- a transaction that is rolled back ----
	my $rolled = "rolled$preload";
	sql('postgres', "CREATE DATABASE $rolled");
	sql($rolled, q{CREATE EXTENSION eventstore;
		SELECT es_create_projection('now', 'merge', mode => 'inline');
		SELECT es_create_projection('soon', 'merge');
		SELECT es_subscribe('mailer');
		CREATE TABLE checked (order_id text);
		CREATE FUNCTION check_late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''too late''; END';
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON checked DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_late();
		SELECT es_append('order-0', 'OrderPlaced', '{"total": 1}')});
	sql($rolled, "SELECT es_create_feed('rolled$preload')");
	my $test = $node->background_psql($rolled, on_error_stop => 0);
	my $q = sub { return $test->query_safe($_[0]) };
	$q->('SET eventstore.max_wait = 1');
	$q->('BEGIN');
	$q->(q{SELECT es_append('order-1', 'OrderPlaced', '{"total": 2}', '{"tags": ["ann"]}', 0, '6ba7b810-9dad-51d1-80b4-00c04fd430c8')});
	my %sees = (
		es_read => [ q{SELECT count(*) FROM es_read('order-1')}, 1 ],
		es_stream_version => [ q{SELECT es_stream_version('order-1')}, 1 ],
		es_position => [ q{SELECT es_position('order-1', 1)}, 2 ],
		es_find_event => [ q{SELECT count(*) FROM es_find_event('order-1', '6ba7b810-9dad-51d1-80b4-00c04fd430c8')}, 1 ],
		es_last_position => [ q{SELECT es_last_position()}, 2 ],
		es_replay => [ q{SELECT state FROM es_replay('order-1', 'merge')}, '{"total": 2}' ],
		es_replay_category => [ q{SELECT count(*) FROM es_replay_category('order', 'merge')}, 2 ],
		es_events => [ q{SELECT count(*) FROM es_events}, 2 ],
		es_streams => [ q{SELECT count(*) FROM es_streams}, 2 ],
		'an inline projection' => [ q{SELECT count(*) FROM es_projection('now')}, 2 ],
		es_read_all => [ q{SELECT count(*) FROM es_read_all()}, 1 ],
		es_read_category => [ q{SELECT count(*) FROM es_read_category('order')}, 1 ],
		es_read_tagged => [ q{SELECT count(*) FROM es_read_tagged('{ann}')}, 0 ],
		es_settled_position => [ q{SELECT es_settled_position()}, 1 ],
		es_poll => [ q{SELECT count(*) FROM es_poll('mailer')}, 1 ],
		es_run_projection => [ q{SELECT es_run_projection('soon') <= 1, count(*) FROM es_projection('soon', 'order-1')}, 't|0' ],
		es_wait_projection => [ q{SELECT es_wait_projection('soon', 'order-1', 1, '10s')}, 'f' ],
		es_wait => [ q{SELECT es_wait(1, '10s')}, 1 ],
		es_wait_for => [ q{CALL es_wait_for(1, '1h')}, 1 ],
		es_in_flight => [ q{SELECT count(*) FROM es_in_flight WHERE pid = pg_backend_pid()}, 1 ],
	);
	is($q->($sees{$_}[0]), $sees{$_}[1], "$how: within the transaction $_ gives $sees{$_}[1]") foreach sort keys %sees;
	is($q->(q{SELECT now() < recorded_at, clock_timestamp() >= recorded_at, now() = transaction_timestamp() FROM es_read('order-1')}), 't|t|t', "$how: now() stands still, recorded_at does not");

	# what another session sees, and whom the test holds up
	is(sql($rolled, q{SELECT es_append('order-2', 'OrderPlaced'); SELECT count(*), max(position), es_settled_position() FROM es_read_all()}),
		"1\n1|1|1", "$how: what others commit meanwhile their followers do not see before the end");

	# an error ends all but what follows a savepoint
	$q->('SAVEPOINT refused');
	$test->query(q{SELECT es_append('order-1', 'OrderPaid', expected_version => 7)});
	like($test->{stderr}, qr/wrong expected version/, "$how: an append is refused");
	$test->{stderr} = '';
	$q->('ROLLBACK TO refused');
	is($q->(q{SELECT es_append('order-1', 'OrderPaid', expected_version => 1)}), '2', "$how: a savepoint before it keeps the rest");
	$q->('SAVEPOINT refused');
	$test->query(q{SELECT es_append_if('[{"stream": "order-3", "type": "OrderPlaced"}]', 1, tags => '{ann}')});
	like($test->{stderr}, qr/matches the condition/, "$how: a condition counts what the transaction has appended");
	$test->{stderr} = '';
	$q->('ROLLBACK TO refused');
	is($q->(q{INSERT INTO checked VALUES ('order-1') RETURNING order_id}), 'order-1', "$how: a deferred trigger says nothing");
	$q->('ROLLBACK');
	is(sql($rolled, q{SELECT es_stream_version('order-1'), (SELECT count(*) FROM es_projection('now', 'order-1')), (SELECT count(*) FROM es_find_event('order-1', '6ba7b810-9dad-51d1-80b4-00c04fd430c8'))}),
		'0|0|0', "$how: rolled back, nothing is left");
	is(sql($rolled, "SELECT string_agg(data::jsonb ->> 'stream', ' ') FROM pg_logical_slot_peek_changes('es_rolled$preload', NULL, NULL)"), 'order-2', "$how: a feed knows nothing of it");
	is($q->(q{SELECT es_last_position() > 2, count(*) FROM es_read_all() WHERE position = es_last_position()}), 't|0', "$how: but es_last_position(), of no event");
	is($q->(q{SELECT es_append('order-1', 'OrderPlaced', expected_version => 0)}), '1', "$how: versions begin anew");
	my ($first, $second, $third) = split /\|/, sql($rolled, q{SELECT string_agg(position::text, '|' ORDER BY position) FROM es_read_all()});
	cmp_ok($third - $second, '>', 1, "$how: positions have a hole");

	# what does not work in a transaction block
	is(sqlstates($node, $rolled, q{BEGIN; SELECT es_create_feed('x')}), '25001', "$how: no feed is made in a transaction block");
	$test->quit;
}

$node->stop;
done_testing();
