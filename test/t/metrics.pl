# es_metrics counts what happens, exactly: over sessions' ends, by database, in parallel and background workers, from 0 after a
# crash; and tells what it can on a standby, beside a table that is locked, while a store is loaded, and without preloading.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "max_worker_processes = 20\nautovacuum = off\neventstore.settle_interval = 50\nshared_preload_libraries = 'eventstore'\n";
my $node = new_node('main', streaming => 1, conf => $conf);

new_store($node, 'store', 1000);
new_store($node, 'other');

sub run { return $node->safe_psql('store', $_[0]) }

# metrics(node, names with labels): the numbers; '' where there is none
sub metrics
{
	my ($where, @names) = @_;
	my $n = 0;
	my $list = join(', ', map { my ($name, $labels) = @$_; '(' . $n++ . ", 'eventstore_$name', '" . ($labels // '{}') . "'::jsonb)" } @names);

	return map { $_ eq '-' ? '' : $_ } split /\n/, $where->safe_psql('store',
		"WITH m AS MATERIALIZED (SELECT * FROM es_metrics()) SELECT coalesce((SELECT value::text FROM m WHERE m.name = w.name AND m.labels @> w.labels), '-') FROM (VALUES $list) w(n, name, labels) ORDER BY n");
}

sub metric { my ($name, $labels, $where) = @_; return (metrics($where // $node, [ $name, $labels ]))[0]; }

# counted(what is done, names with labels): by how much each has grown
sub counted
{
	my ($do, @names) = @_;
	my @before = metrics($node, @names);

	$do->();
	my @after = metrics($node, @names);
	return join(' ', map { $after[$_] - $before[$_] } 0 .. $#names);
}

sub refused { return [ 'append_refusals_total', qq({"reason": "$_[0]"}) ] }

# ---- appends ----

my @appends = ([ 'appends_total' ], [ 'events_appended_total' ], [ 'append_retries_total' ], [ 'append_duration_seconds_count' ], [ 'append_batch_events_sum' ]);
my $id = '00000000-0000-7000-8000-000000000001';

is(counted(sub { run(q{SELECT count(es_append('a-' || n % 3, 'T')) FROM generate_series(1, 30) n}) }, @appends), '30 30 0 30 30', 'appends');
is(counted(sub { run(q{SELECT es_append_batch('a-1', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 500)))}) }, @appends), '1 500 0 1 500', 'a batch');
is(counted(sub { run("SELECT es_append('a-1', 'T', event_id => '$id'), es_append('a-1', 'T', event_id => '$id')") }, @appends), '2 1 1 2 2', 'a retry');
is(counted(sub { run(q{SELECT * FROM es_append_many('[{"stream": "a-1", "type": "T"}, {"stream": "a-2", "type": "T"}]')}) }, @appends), '1 2 0 1 2', 'many streams');
is(counted(sub { run(q{INSERT INTO es_events(stream, type) SELECT 'v-' || n, 'T' FROM generate_series(1, 50) n}) }, @appends), '1 50 0 1 50', 'a statement on es_events');
is(counted(sub { run(q{SELECT es_append_batch('a-1', '[]')}) }, @appends), '0 0 0 0 0', 'a check of an expectation is no append');
is(counted(sub { run(q{BEGIN; SELECT es_append('a-1', 'T'); ROLLBACK}) }, @appends), '1 1 0 1 1', 'what is rolled back counts, as the help says');
is(counted(sub { run(q{SELECT es_append_if('[{"stream": "a-1", "type": "T"}]', 100000)}) }, [ 'conditional_appends_total' ], @appends), '1 1 1 0 1 1', 'one with a condition');

# ---- refusals ----

run(q{SELECT es_register_schema('S', '{"required": ["x"]}'), es_append('gone-1', 'T'); SELECT es_delete_stream('gone-1')});
is(counted(sub { $node->psql('store', q{SELECT es_append('a-1', 'T', expected_version => 1)}) }, refused('wrong_expected_version'), [ 'appends_total' ]), '1 0', 'a wrong expected version');
is(counted(sub { $node->psql('store', q{SELECT es_append_if('[{"stream": "a-1", "type": "T"}]', 0)}) }, refused('condition_failed'), [ 'conditional_appends_total' ]), '1 0', 'a condition that fails');
is(counted(sub { $node->psql('store', q{SELECT es_append('a-1', 'S')}) }, refused('schema_violation')), '1', 'a schema violation');
is(counted(sub { $node->psql('store', "SELECT es_append('a-1', 'U', event_id => '$id')") }, refused('event_id_conflict')), '1', 'an event id conflict');
is(counted(sub { $node->psql('store', q{SELECT es_append('gone-1', 'T')}) }, refused('stream_deleted')), '1', 'a deleted stream');

# ---- waits ----

my @waits = ([ 'append_lock_waits_total' ], [ 'append_lock_wait_seconds_total' ]);

run(q{BEGIN; SELECT es_append('w-1', 'T'); PREPARE TRANSACTION 'ahead'});
my @before = metrics($node, @waits);
my $waiter = start_script($node, 'store', q{SELECT es_append('w-1', 'T')});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}), 'an append waits');
run(q{COMMIT PREPARED 'ahead'});
finish_script($waiter);
is(metric('append_lock_waits_total') - $before[0], 1, 'that is counted, once');
cmp_ok(metric('append_lock_wait_seconds_total'), '>', $before[1], 'and for how long');

sub waited { return ([ 'settle_waits_total', qq({"waited_for": "$_[0]"}) ], [ 'settle_wait_seconds_total', qq({"waited_for": "$_[0]"}) ]) }

like(counted(sub { run(q{SELECT es_wait(100000, '100ms')}) }, waited('events')), qr/^1 0\.[1-9]/, 'a reader waits for events');
run(q{BEGIN; SELECT es_append('w-1', 'T'); PREPARE TRANSACTION 'ahead'});
like(counted(sub { run(q{SELECT es_wait(100000, '100ms')}) }, waited('prepared')), qr/^1 0\.[1-9]/, 'for a prepared transaction');
is(metric('in_flight_transactions') . metric('in_flight_prepared'), '11', 'which is in flight');
cmp_ok(metric('in_flight_oldest_seconds'), '>', 0.1, 'for some time');
cmp_ok(metric('last_position'), '>', metric('settled_position'), 'and holds the settled position back');
run(q{ROLLBACK PREPARED 'ahead'});
run(q{CREATE TABLE gate (); BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate'});
my $ahead = start_script($node, 'store', q{BEGIN; SELECT es_append('w-1', 'T'); SELECT FROM gate; ROLLBACK});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM es_in_flight}), 'a transaction in flight');
like(counted(sub { run(q{SELECT es_wait(100000, '100ms')}) }, waited('transaction')), qr/^1 0\.[1-9]/, 'is waited for');
run(q{ROLLBACK PREPARED 'gate'});
finish_script($ahead);
cmp_ok(counted(sub { run(q{SET synchronous_commit = off; DO $$BEGIN FOR i IN 1 .. 50 LOOP PERFORM es_append('f-1', 'T'); COMMIT; PERFORM count(*) FROM es_read('f-1'); END LOOP; END$$}) }, (waited('flush'))[0]),
	'>', 0, 'readers wait for the disk, unless somebody was faster');

# ---- reads, polls, folds ----

is(counted(sub { run(q{SELECT count(*) FROM es_read('a-1', 1, 100); SELECT count(*) FROM es_read_all(0, 50); SELECT count(*) FROM es_read_category('a', max_count => 7)}) },
	[ 'events_read_total' ], [ 'read_duration_seconds_count' ]), '157 3', 'reads');
run(q{SELECT es_subscribe('s', 0, '{a}')});
is(counted(sub { run(q{SELECT count(*) FROM es_poll('s', 10); SELECT es_ack('s', 0, (SELECT max(position) FROM es_poll('s', 5))); SELECT es_nack('s', 0, (SELECT min(position) FROM es_poll('s', 1)), 'no')}) },
	[ 'polls_total' ], [ 'events_delivered_total' ], [ 'acks_total' ], [ 'nacks_total' ], [ 'poll_duration_seconds_count' ]), '3 16 1 1 3', 'polls');
my $length = run(q{SELECT es_stream_version('a-1')});
run(q{SELECT es_create_reducer('r', '{}')});
is(counted(sub { run(q{SELECT es_replay('a-1', 'r')}) }, [ 'folds_total' ], [ 'folded_events_total' ], [ 'replay_duration_seconds_count' ], [ 'snapshot_hits_total' ]),
	"1 $length 1 0", 'a replay');
run(q{SELECT es_snapshot('a-1', 'r')});
is(counted(sub { run(q{SELECT es_replay('a-1', 'r'), es_replay('a-2', 'r')}) }, [ 'snapshot_hits_total' ], [ 'snapshot_misses_total' ]), '1 1', 'a replay finds a snapshot, another one none');

# in parallel workers
run(q{SELECT es_append_batch('p-' || n, (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 100))) FROM generate_series(1, 600) n});
is(counted(sub { run(q{SET max_parallel_workers_per_gather = 2; SET max_parallel_workers = 4; SELECT count(*) FROM es_replay_category('p', 'r')}) },
	[ 'folds_total' ], [ 'folded_events_total' ]), '600 60000', 'a category, folded by parallel workers');

# in the worker, and by hand
is(counted(sub { run(q{SELECT es_create_projection('p', 'r', category => 'p')}); $node->poll_query_until('store', q{SELECT lag = 0 FROM es_projections WHERE projection = 'p'}) }, [ 'projection_events_total' ]),
	'60000', 'a projection in the worker');
cmp_ok(metric('projection_batches_total'), '>', 10, 'in batches');
is(counted(sub { run(q{SELECT es_seal()}) }, [ 'sealed_events_total' ]), run('SELECT count(*) FROM es_events'), 'a seal');
run(q{SELECT * FROM es_scavenge()});	# the event of the stream that was deleted, unless the worker has come by
is(counted(sub { run(q{SELECT es_truncate_stream('p-1', 50), es_truncate_stream('p-2', 11)}); run(q{SELECT * FROM es_scavenge()}) }, [ 'scavenged_events_total' ]), '59', 'a scavenger');
is(counted(sub { run(q{SELECT es_protect('k', '{$.data.x}', '$.stream')}) }, [ 'key_command_runs_total' ], [ 'key_command_failures_total' ]), '1 0', 'the command of the master key');
$node->append_conf('postgresql.conf', "eventstore.master_key_command = 'false'\n");
$node->reload;
is(counted(sub { $node->psql('store', q{SELECT es_protect('l', '{$.data.x}', '$.stream')}) }, [ 'key_command_runs_total' ], [ 'key_command_failures_total' ]), '1 1', 'which fails');

# ---- what holds of all ----

is(run(q{SELECT count(*) FROM (
		SELECT name, value < lag(value) OVER (PARTITION BY name ORDER BY CASE labels ->> 'le' WHEN '+Inf' THEN 'Infinity' ELSE (labels ->> 'le') END::float8) AS falls
		FROM es_metrics() WHERE name LIKE '%\_bucket') b WHERE falls}), 0, 'histograms are cumulative');
is(run(q{WITH m AS MATERIALIZED (SELECT * FROM es_metrics())
	SELECT count(*), count(*) FILTER (WHERE b.value = c.value) FROM m b JOIN m c ON c.name = replace(b.name, '_bucket', '_count') WHERE b.labels = '{"le": "+Inf"}'}), '5|5', 'their last bucket has all');
is(run(q{SELECT count(*) FROM es_metrics() WHERE num_nulls(name, labels, value, kind, help) > 0 OR name !~ '^eventstore_[a-z_]+$' OR help !~ '^[A-Z01][^ ]* .*\.$' OR kind NOT IN ('counter', 'gauge', 'histogram')
	OR (kind = 'counter') <> (name ~ '_total$') OR jsonb_typeof(labels) <> 'object'}), 0, 'all rows are well formed');
is(run(q{SELECT count(*) FROM (SELECT name, labels FROM es_metrics() GROUP BY 1, 2 HAVING count(*) > 1) d}), 0, 'none comes twice');
is(run(q{SELECT count(*) FROM es_metrics() m, jsonb_each(m.labels) l WHERE jsonb_typeof(l.value) <> 'string'}), 0, 'labels are texts');

# ---- sessions, databases ----

is(counted(sub { run(q{SELECT es_append('x-1', 'T')}) for 1 .. 20 }, @appends[0, 1]), '20 20', 'what ended sessions have counted stays');
@before = metrics($node, @appends[0, 1]);
run(q{BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate'});
my $script = start_script($node, 'store', q{SELECT count(es_append('x-2', 'T')) FROM generate_series(1, 10); SELECT FROM gate});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}), 'a session is at it');
is(metric('appends_total') - $before[0], 10, 'what it has counted is there');
run(q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted});
finish_script($script);
run(q{ROLLBACK PREPARED 'gate'});
is(metric('appends_total') - $before[0], 10, 'and once, when it has been terminated');
$node->safe_psql('other', q{SELECT count(es_append('o-1', 'T')) FROM generate_series(1, 5)});
is(metric('appends_total') - $before[0], 10, 'another database counts for itself');
is($node->safe_psql('other', q{SELECT value FROM es_metrics() WHERE name = 'eventstore_appends_total'}), 5, 'what is done there');
$node->safe_psql('postgres', $_) foreach 'DROP DATABASE other', 'CREATE DATABASE other';
$node->safe_psql('other', 'CREATE EXTENSION eventstore');
is($node->safe_psql('other', q{SELECT value FROM es_metrics() WHERE name = 'eventstore_appends_total'}), 0, 'a new database of that name begins at 0');

# ---- while a store is being loaded ----

my $loading = q{SELECT string_agg(name || ' ' || value, ', ' ORDER BY name) FROM es_metrics() WHERE name IN ('eventstore_loading', 'eventstore_last_position')};

$node->safe_psql('postgres', 'CREATE DATABASE loading');
$node->safe_psql('loading', $_) foreach 'CREATE EXTENSION eventstore', q{INSERT INTO eventstore.indexed_types VALUES ('T')};
is($node->safe_psql('loading', $loading), 'eventstore_loading 1', 'nothing is concluded from a store that is being loaded') for 1 .. 2;
is($node->safe_psql('loading', "SELECT es_settled_position(); $loading"), "0\neventstore_last_position 0, eventstore_loading 0", 'until somebody uses it');

# ---- what processes fail of that come and go ----

sub failed { return "SELECT value >= $_[1] FROM es_metrics() WHERE name = 'eventstore_worker_failures_total' AND labels ->> 'task' = '$_[0]'" }

$node->safe_psql('other', $_) foreach q{SELECT es_set_segment_size(100)}, q{SELECT es_append('m-1', 'T')}, q{CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no tables'; END$$};
ok($node->poll_query_until('other', q{SELECT count(*) = 2 FROM es_segments}), 'a store has a segment ahead');
$node->safe_psql('other', q{CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()});
my $begun = -s $node->logfile;
$node->psql('other', q{SELECT count(es_append('m-1', 'T')) FROM generate_series(1, 250)});
ok($node->poll_query_until('other', failed('segments', 2)), 'the next one is not made, nor again');
my @words = slurp_file($node->logfile, $begun) =~ /(could not make segment 2 of the event store: no tables)/g;
is(scalar(@words), 1, 'the log says it once');
$node->safe_psql('other', $_) foreach 'DROP EVENT TRIGGER refuse', q{SELECT count(es_append('m-1', 'T')) FROM generate_series(1, 250)};
ok($node->poll_query_until('other', q{SELECT value = 0 FROM es_metrics() WHERE name = 'eventstore_worker_task_failing' AND labels = '{"task": "segments"}'}), 'it is made');
like(slurp_file($node->logfile, $begun), qr/LOG:  background work of the event store goes well again: segments\n.*DETAIL:  It had failed \d+ times in a row\./, 'the log says that');

# ---- who, when, where ----

run(q{CREATE ROLE watcher IN ROLE pg_monitor; CREATE ROLE keeper; CREATE ROLE nobody; CREATE ROLE half; SELECT es_grant('keeper', 'admin'), es_grant('half', 'read'), es_grant('half', 'admin', 'a')});
my $rows = run('SELECT count(DISTINCT name) FROM es_metrics()');
is(run("SET ROLE $_; SELECT count(DISTINCT name) FROM es_metrics()"), $rows, "$_ sees all of it") foreach qw(watcher keeper);
is(sqlstates($node, 'store', "SET ROLE $_; SELECT count(*) FROM es_metrics()"), '42501', "$_ nothing") foreach qw(nobody half);
is(run("BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE DEFERRABLE; SELECT count(DISTINCT name) FROM es_metrics(); COMMIT"), $rows, 'in a read-only transaction');
is(run(q{CREATE SCHEMA evil; CREATE FUNCTION evil.max(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0'; CREATE TABLE evil.pg_extension (extname name);
	SET search_path = evil, pg_catalog, public; SET TimeZone = 'Asia/Tokyo'; SET lc_numeric = 'C'; SELECT count(DISTINCT name) FROM es_metrics()}), $rows, 'with a hostile search_path');

run(q{BEGIN; LOCK TABLE eventstore.subscriptions; PREPARE TRANSACTION 'gate'});
is(run(q{SELECT string_agg(labels ->> 'part', ',') FROM es_metrics() WHERE name = 'eventstore_scrape_failed' AND value = 1}), 'subscriptions', 'where a table is locked its gauges are left out, and that is said');
is(run(q{SELECT count(*) FROM es_metrics() WHERE name ~ '^eventstore_subscription'}), 0, 'they are');
is(metric('projection_running', '{"projection": "p"}'), 1, 'the others come');
is(run(q{SET lock_timeout = '1ms'; SELECT count(*) FROM es_metrics() WHERE name = 'eventstore_scrape_failed' AND value = 1; SHOW lock_timeout}), "1\n1ms", 'settings are as they were');
run(q{ROLLBACK PREPARED 'gate'});
is(metric('scrape_failed', '{"part": "subscriptions"}'), 0, 'then all are there again');

# a projection that fails, and goes on
run(q{CREATE TABLE mended (); CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN IF to_regclass('public.unmended') IS NOT NULL THEN RAISE 'not mended'; END IF; END$$;
	CREATE TABLE unmended (); SELECT es_create_handler_projection('noted', 'note(es_event)', categories => '{n}'), es_append('n-1', 'T')});
ok($node->poll_query_until('store', q{SELECT attempts > 2 FROM es_projections WHERE projection = 'noted'}), 'a projection fails');
is(metric('projection_running', '{"projection": "noted"}'), 0, 'which is seen');
cmp_ok(metric('projection_failures_total'), '>', 2, 'and counted');
my @said = slurp_file($node->logfile) =~ /(projection "noted" failed at position.*)/g;
is(scalar(@said), 1, 'the log says it once') or diag join("\n", @said);
like(slurp_file($node->logfile), qr/projection "noted" failed.*?HINT:  Mend what fails, or leave the event out with es_skip_event\./s, 'with what to do');
run('DROP TABLE unmended');
ok($node->poll_query_until('store', q{SELECT status = 'running' AND lag = 0 FROM es_projections WHERE projection = 'noted'}), 'mended, it goes on');
like(slurp_file($node->logfile), qr/LOG:  projection "noted" goes on\n.*DETAIL:  It had failed \d+ times in a row\./, 'the log says that, too');

# work in the background that fails, and goes well again
my $start = -s $node->logfile;
run(q{BEGIN; LOCK TABLE eventstore.seal_tiles; PREPARE TRANSACTION 'gate'});
is(metric('worker_up'), 1, 'the worker is up');
is(metric('worker_task_failing', '{"task": "sealing"}'), 0, 'and nothing fails');
is(metric('worker_last_failure_timestamp_seconds', '{"task": "sealing"}'), 0, 'nor ever has');
$node->append_conf('postgresql.conf', "eventstore.seal_interval = 100ms\n");
$node->reload;
run(q{SELECT es_append('a-1', 'T')});
ok($node->poll_query_until('store', q{SELECT value > 2 FROM es_metrics() WHERE name = 'eventstore_worker_failures_total' AND labels = '{"task": "sealing"}'}), 'a task fails again and again');
is(metric('worker_task_failing', '{"task": "sealing"}'), 1, 'that is seen');
cmp_ok(abs(metric('worker_last_failure_timestamp_seconds', '{"task": "sealing"}') - time), '<', 60, 'and when it was');
@said = slurp_file($node->logfile, $start) =~ /(background work of the event store failed: sealing)/g;
is(scalar(@said), 1, 'the log says it once');
run(q{ROLLBACK PREPARED 'gate'});
ok($node->poll_query_until('store', q{SELECT value = 0 FROM es_metrics() WHERE name = 'eventstore_worker_task_failing' AND labels = '{"task": "sealing"}'}), 'then it goes well');
like(slurp_file($node->logfile, $start), qr/LOG:  background work of the event store goes well again: sealing\n.*DETAIL:  It had failed \d+ times in a row\./, 'the log says that, too');

# ---- a standby, a crash, no preloading ----

my $standby = start_standby($node);
$node->wait_for_catchup($standby);
is(metric('standby', undef, $standby), 1, 'a standby tells that it is one');
is($standby->safe_psql('store', q{SELECT count(*) FROM es_metrics() WHERE name = 'eventstore_scrape_failed' AND value = 1}), 0, 'and all that it can');
is(metric('projection_running', '{"projection": "p"}', $standby), 1, q{gauges are the primary's});
$standby->safe_psql('store', q{SELECT count(*) FROM es_read('a-1')});
is(metric('read_duration_seconds_count', undef, $standby), 1, 'counters its own');
cmp_ok(metric('replication_lag_bytes', '{"application_name": "standby"}'), '>=', 0, 'the primary tells how far it is behind');
$standby->stop;

run(q{SELECT es_append('a-1', 'T')});
cmp_ok(metric('appends_total'), '>', 0, 'something is counted');
$node->stop('immediate');
$node->start;
is(metric('appends_total'), 0, 'after a crash counters begin at 0');
is(metric('last_position') > 60000, 1, 'gauges do not');
preload($node, 0);
$node->restart;
is(run(q{SELECT string_agg(DISTINCT kind, ',') FROM es_metrics()}), 'gauge', 'without preloading there are gauges only');
is(run(q{SELECT string_agg(DISTINCT labels ->> 'part', ',') FROM es_metrics() WHERE name = 'eventstore_scrape_failed' AND value = 1}), '', 'all of them');
is(metric('preloaded'), 0, 'one of which says so');
$node->stop;
done_testing;
