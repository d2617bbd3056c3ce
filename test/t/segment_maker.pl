# Segments get made: by the worker, without preload and with; when the worker is
# terminated or killed; when no worker slot is free; in the transaction of
# CREATE EXTENSION.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "restart_after_crash = on\nmax_worker_processes = 16\n");

sub whole
{
	my ($database, $events, $name) = @_;

	is($node->safe_psql($database, 'SELECT count(*), count(DISTINCT position) FROM es_read_all(0, NULL)'), "$events|$events", $name);
	is(gaps($node, $database), '', "$name: versions without gaps");
}

my $append_90 = q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 90)};
my $no_maker = q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker' AND datname = current_database()};
my $maker_waits = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker' AND wait_event_type = 'Lock' AND datname = current_database()};

foreach my $preload ('', 'eventstore')
{
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $suffix = $preload ? 'p' : 'n';

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\n");
	$node->restart;

	# Ahead of need.
	new_store($node, "ahead_$suffix", 100);
	$node->safe_psql("ahead_$suffix", $append_90);
	ok($node->poll_query_until("ahead_$suffix", 'SELECT max(segment) >= 1 FROM es_segments'), "$how: the next segment is made ahead of need");
	$node->safe_psql("ahead_$suffix", $append_90) for 1 .. 5;
	whole("ahead_$suffix", 540, "$how: the log rolls over");
	is($node->safe_psql("ahead_$suffix", q{SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
			WHERE inhparent = 'eventstore.events'::regclass AND relowner <> (SELECT extowner FROM pg_extension WHERE extname = 'eventstore')}),
		'0', "$how: segments belong to the extension's owner");

	# Workers end for good: no lock outlives its process, and none goes to the next one in its place.
	my $left = '';
	foreach (1 .. 8)
	{
		$node->safe_psql("ahead_$suffix", $append_90);
		$node->poll_query_until("ahead_$suffix", q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker'});
		$left .= $node->safe_psql("ahead_$suffix", q{SELECT locktype, classid, objid, objsubid, mode FROM pg_locks
			WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = pg_locks.pid)
				OR locktype = 'object' AND classid = 'eventstore.segments'::regclass});
	}
	is($left, '', "$how: makers leave no lock behind");
	whole("ahead_$suffix", 540 + 8 * 90, "$how: and the log is whole");

	# The worker is ended while it waits for a lock, and the append that needs it goes on.
	foreach my $end ('pg_terminate_backend', 'SIGTERM', 'pg_cancel_backend')
	{
		my $database = lc("end_${suffix}_$end");
		new_store($node, $database, 100);
		$node->safe_psql($database, q{SELECT es_append('first-1', 'A')});
		$node->poll_query_until($database, $no_maker);

		my $locker = $node->background_psql($database);
		my $writer = $node->background_psql($database);
		$locker->query_safe('BEGIN; LOCK TABLE eventstore.events IN SHARE UPDATE EXCLUSIVE MODE;');
		my $writer_pid = $writer->query_safe('SELECT pg_backend_pid()');
		$writer->query_until(qr/started/, qq{\\echo started\nSELECT 'appended ' || count(es_append('fill-1', 'F')) FROM generate_series(1, 450);\n\\echo finished\n});
		ok($node->poll_query_until($database, $maker_waits), "$how, $end: the maker works");
		my $maker = $node->safe_psql($database, q{SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker' AND datname = current_database()});
		if ($end eq 'SIGTERM')
		{
			kill 'TERM', $maker;
		}
		else
		{
			$node->safe_psql('postgres', "SELECT $end($maker)");
		}
		$node->poll_query_until($database, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $maker") if $end ne 'pg_cancel_backend';
		# Other streams whose positions are there are not held up by any of this.
		$locker->query_safe('COMMIT');
		like($writer->query_until(qr/finished/, ''), qr/appended 450/, "$how, $end: the append went on");
		$locker->quit;
		$writer->quit;
		whole($database, 451, "$how, $end");
	}

	# While an append waits for a segment, others append to its stream: it must look again.
	new_store($node, "look_again_$suffix", 100);
	$node->safe_psql("look_again_$suffix", q{SELECT es_append('tip-1', 'A')});
	foreach my $expected ('NULL', 'NULL, tip near', 'exact', 'exact, tip near', 'new')
	{
		my $database = "look_again_$suffix";
		my $stream = $expected eq 'new' ? 'tip-2' : 'tip-1';
		my $any = $expected =~ /NULL/;
		my $locker = $node->background_psql($database);

		# The newest segment is full but for three positions, and the next one cannot be made.
		$node->poll_query_until($database, $no_maker);
		$locker->query_safe('BEGIN; LOCK TABLE eventstore.events IN SHARE UPDATE EXCLUSIVE MODE;');
		$node->safe_psql($database, q{SELECT es_append('fill-1', 'F') FROM generate_series((SELECT last_value FROM eventstore.position_seq) + 1, (SELECT max(last_position) - 4 FROM es_segments))});
		$node->safe_psql($database, 'SELECT es_append(' . ($expected =~ /near/ ? "'$stream'" : "'fill-1'") . ", 'A')");
		my $version = $node->safe_psql($database, "SELECT es_stream_version('$stream')");
		my $waiter = start_script($node, $database, sprintf(q{\set VERBOSITY sqlstate
				SET application_name = 'waiter';
				SELECT es_append_batch('%s', (SELECT jsonb_agg('{"type": "W"}'::jsonb) FROM generate_series(1, 5)), %s);},
				$stream, $any ? 'NULL' : $version));
		ok($node->poll_query_until($database, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event IS NOT NULL}),
			"$how, $expected: an append waits for a segment");
		$node->poll_query_until($database, $maker_waits);
		is($node->safe_psql($database, "SELECT es_append('$stream', 'B') FROM generate_series(1, 3)"), join("\n", map { $version + $_ } 1 .. 3),
			"$how, $expected: smaller ones go on meanwhile");
		$locker->query_safe('COMMIT');
		$locker->quit;
		my ($out, $err) = finish_script($waiter);
		is($out, $any ? $version + 8 . "\n" : '', "$how, $expected: the one that waited looks again at the stream");
		like($err, $any ? qr/^$/ : qr/ERROR:  VE001$/, "$how, $expected: and decides by what it finds then");
		is(gaps($node, $database), '', "$how, $expected: no version twice");
	}

	# An idle transaction that made the store wait for a new segment holds up nobody.
	new_store($node, "idle_$suffix", 100);
	my $idle = $node->background_psql("idle_$suffix");
	$idle->query_safe('BEGIN');
	$idle->query_safe(q{SELECT es_append_batch('idle-1', (SELECT jsonb_agg('{"type": "I"}'::jsonb) FROM generate_series(1, 250)))});
	is($node->safe_psql("idle_$suffix", q{SET lock_timeout = '30s'; SELECT count(es_append('busy-1', 'B')) FROM generate_series(1, 450)}), '450',
		"$how: others roll over while it idles");
	is($node->safe_psql("idle_$suffix", 'SELECT count(*) FROM es_read_all(0, NULL)'), '0', "$how: readers wait for it");
	$idle->query_safe('COMMIT');
	$idle->quit;
	whole("idle_$suffix", 700, "$how: all of it in the end");

	# Who waits for the maker waits, in the end, for whoever keeps the maker waiting: a circle is found like any other.
	new_store($node, "circle_$suffix", 100);
	$node->safe_psql("circle_$suffix", q{SELECT es_append('first-1', 'A')});
	$node->poll_query_until("circle_$suffix", $no_maker);
	my $keeper = $node->background_psql("circle_$suffix", on_error_stop => 0);
	my $waiter = $node->background_psql("circle_$suffix", on_error_stop => 0);
	$_->query_safe(q{\set VERBOSITY sqlstate
		SET statement_timeout = '30s'; SET client_min_messages = error; BEGIN}) foreach ($keeper, $waiter);
	$keeper->query_safe('ANALYZE eventstore.events');
	$waiter->query_safe(q{SELECT es_append('circle-1', 'W')});
	my $waiter_pid = $waiter->query_safe('SELECT pg_backend_pid()');
	$waiter->query_until(qr/started/, qq{\\echo started\nSELECT 'waiter ' || count(es_append('fill-1', 'F')) FROM generate_series(1, 450);\n\\echo waiter :SQLSTATE ended\n});
	$node->poll_query_until("circle_$suffix", $maker_waits);
	$keeper->query_until(qr/started/, qq{\\echo started\nSELECT 'keeper ' || es_append('circle-1', 'K');\n\\echo keeper :SQLSTATE ended\nROLLBACK;\n});
	my $ended = $keeper->query_until(qr/ended/, '') . $waiter->query_until(qr/ended/, '');
	unlike($ended, qr/57014/, "$how: a circle through the maker is found") or diag $ended;
	$waiter->query('ROLLBACK');
	$_->quit foreach ($keeper, $waiter);

	# Many that come to the border at once need one maker, not one each.
	new_store($node, "rush_$suffix", 100);
	my @rush = map { start_script($node, "rush_$suffix", "SELECT es_append('rush-$_', 'R') \\gset\n" x 300) } (1 .. 12);
	my $errors = join('', map { (finish_script($_))[1] } @rush);
	is(() = $errors =~ /no background worker/g, 0, "$how: a rush to the next segment does not use up the workers");
	unlike($errors, qr/ERROR/, "$how: nor does anything fail");
	whole("rush_$suffix", 3600, "$how: a rush to the next segment");

	# One transaction with everything in it.
	$node->safe_psql('postgres', "CREATE DATABASE one_$suffix");
	my ($ret, $out, $err) = $node->psql("one_$suffix", q{
		BEGIN;
		CREATE EXTENSION eventstore;
		SELECT es_set_segment_size(100);
		SELECT count(es_append('one-' || n % 4, 'A')) FROM generate_series(1, 350) n;
		SELECT count(*) FROM es_read('one-1');
		COMMIT;
		SELECT count(*) FROM es_read_all(0, NULL);
		SELECT count(es_append('one-' || n % 4, 'A')) FROM generate_series(1, 350) n;
	});
	is($out, "\n350\n88\n350\n350", "$how: append in the transaction of CREATE EXTENSION");
	is($ret, 0, "$how: without an error");
	whole("one_$suffix", 700, "$how: and after it");
}

# A maker that dies takes the server through crash recovery, and nothing else.
new_store($node, 'killed', 100);
$node->safe_psql('killed', q{SELECT es_append('first-1', 'A')});
$node->poll_query_until('killed', $no_maker);
my $locker = $node->background_psql('killed', on_error_stop => 0);
$locker->query_safe('BEGIN; LOCK TABLE eventstore.events IN SHARE UPDATE EXCLUSIVE MODE;');
my $script = start_script($node, 'killed', q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 450);});
ok($node->poll_query_until('killed', $maker_waits), 'SIGKILL: the maker works');
kill 'KILL', $node->safe_psql('killed', q{SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker' AND datname = current_database()});
finish_script($script);
$node->poll_query_until('postgres', 'SELECT true');
eval { $locker->quit; };
is($node->safe_psql('killed', 'SELECT count(*) FROM es_read_all(0, NULL)'), '1', 'SIGKILL: the append that waited is gone, others stay');
$node->safe_psql('killed', $append_90) for 1 .. 5;
whole('killed', 451, 'SIGKILL: appends go on');

# No worker slot at all: made inline, and the user is told.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nmax_worker_processes = 0\nmax_logical_replication_workers = 0\nmax_parallel_workers = 0\n");
$node->restart;
new_store($node, 'no_slot', 100);
my ($ret, $out, $err) = $node->psql('no_slot', q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 450)});
is($out, '450', 'no worker slot free: appends go on');
like($err, qr/HINT: .*max_worker_processes/, 'no worker slot free: with a hint');
whole('no_slot', 450, 'no worker slot free');
# ... and undone
$node->safe_psql('no_slot', q{BEGIN; SELECT count(es_append('fill-2', 'F')) FROM generate_series(1, 450); ROLLBACK;});
is($node->safe_psql('no_slot', q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 450)}), '450', 'no worker slot free: after a rollback');
whole('no_slot', 900, 'no worker slot free, after a rollback');
$node->safe_psql('no_slot', q{BEGIN; SAVEPOINT s; SELECT count(es_append('fill-2', 'F')) FROM generate_series(1, 450); ROLLBACK TO s;
	SELECT count(es_append('fill-3', 'F')) FROM generate_series(1, 450); COMMIT;});
whole('no_slot', 1350, 'no worker slot free, after ROLLBACK TO');
# two sessions: the second waits for the first's segment, and gets it or makes it
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my $first = $node->background_psql('no_slot');
	my $before = $node->safe_psql('no_slot', 'SELECT count(*) FROM es_events');
	$first->query_safe('SET client_min_messages = error; BEGIN');
	$first->query_safe(q{SELECT count(es_append('first-1', 'F')) FROM generate_series(1, 250)});
	my $second = start_script($node, 'no_slot', q{SET application_name = 'second'; SELECT count(es_append('second-1', 'F')) FROM generate_series(1, 250);});
	$node->poll_query_until('no_slot', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'});
	$first->query_safe($end);
	$first->quit;
	my ($output) = finish_script($second);
	is($output, "250\n", "no worker slot free: a second session goes on after the first one's $end");
	whole('no_slot', $before + ($end eq 'COMMIT' ? 500 : 250), "no worker slot free, two sessions, $end");
}

# whatever the database says of how long to wait for a lock
$node->append_conf('postgresql.conf', "max_worker_processes = 16\n");
$node->restart;
new_store($node, 'impatient', 100);
$node->safe_psql('impatient', q{ALTER DATABASE impatient SET lock_timeout = '1ms'});
$node->safe_psql('impatient', $append_90);
$node->poll_query_until('impatient', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker'});
my $holder = $node->background_psql('impatient');
$holder->query_safe('BEGIN; LOCK TABLE eventstore.events IN SHARE UPDATE EXCLUSIVE MODE');
$node->safe_psql('impatient', q{SELECT count(es_append('fill-1', 'F')) FROM generate_series(1, 75)});
ok($node->poll_query_until('impatient', "SELECT count(*) > 0 OR ($maker_waits) FROM eventstore.maker_failure"), 'a maker waits for its lock, or has failed');
$holder->query_safe('COMMIT');
$holder->quit;
ok($node->poll_query_until('impatient', 'SELECT max(segment) >= 2 FROM es_segments'), '... and makes the segment when it has it');
is($node->safe_psql('impatient', 'SELECT count(*) FROM eventstore.maker_failure'), '0', '... having failed at nothing');

$node->stop;
done_testing();
