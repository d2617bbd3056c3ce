# es_scavenge() is ended, blocked, and called where it cannot be: what was removed stays
# removed, the rest is removed by the next call, and nobody waits for ever.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => "max_worker_processes = 4\nautovacuum = off\n");
my $worker = q{backend_type = 'eventstore scavenger'};
my ($said, $failed);

# fresh(streams, events): a store in place of the one before; each stream has so many events, all but the last hidden
sub fresh
{
	my ($streams, $events) = @_;

	$node->safe_psql('postgres', qq{
		SET client_min_messages = error; SET eventstore.allow_drop = on;
		DROP EXTENSION IF EXISTS eventstore CASCADE; CREATE EXTENSION eventstore;
		SELECT es_set_segment_size(1000);
		SELECT es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 's-' || s, 'type', 'T', 'data', jsonb_build_object('pad', repeat('x', 200)), 'event_id', md5(s || ' ' || v)::uuid) ORDER BY v, s) FROM generate_series(1, $events) v, generate_series(1, $streams) s));
		SELECT es_truncate_stream('s-' || s, $events) FROM generate_series(1, $streams) s});
}

sub query { return $node->safe_psql('postgres', $_[0]); }
sub hidden_left { return query('SELECT count(*) FROM eventstore.events e JOIN eventstore.streams s USING (stream_id) WHERE e.version < s.truncated_before'); }
sub worker_pid { return query("SELECT pid FROM pg_stat_activity WHERE $worker"); }
sub wait_for_worker { return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE $worker AND wait_event_type = 'Lock'"); }
sub wait_no_worker { return $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE $worker"); }

# hold(sql): a session that has done something, in a transaction that is open
sub hold
{
	my $session = $node->background_psql('postgres');

	$session->query_safe("BEGIN; $_[0]");
	return $session;
}

# let_go(session)
sub let_go { $_[0]->query_safe('COMMIT'); $_[0]->quit; return; }

# blocked(): a call that has removed something and then is stopped, and who stops it, by a row of the second segment
sub blocked
{
	my $holder = hold('SELECT FROM eventstore.events_1 WHERE position = 1500 FOR UPDATE');
	my $call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');

	wait_for_worker();
	return ($holder, $call);
}

# ---- ended ----

fresh(10, 300);
my ($holder, $call) = blocked();
query(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller'});
like((finish_script($call))[1], qr/57014/, 'a call that is canceled says so');
ok(wait_no_worker(), 'and its worker ends');
is(hidden_left(), 1990, 'what was removed stays removed');
let_go($holder);

($holder, $call) = blocked();
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'caller'});
like((finish_script($call))[1], qr/57P01/, 'a session can be ended');
ok(wait_no_worker(), 'and its worker ends, too');
let_go($holder);

($holder, $call) = blocked();
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $worker");
like((finish_script($call))[1], qr/55000/, 'a worker that is ended is 55000');
let_go($holder);

($holder, $call) = blocked();
is(sqlstates($node, 'postgres', "SET statement_timeout = '300ms'; SELECT * FROM es_scavenge();"), '57014', 'a second one waits for the first');
my $second = start_named($node, 'postgres', 'second', 'SELECT * FROM es_scavenge()');
$node->poll_query_until('postgres', "SELECT count(*) = 2 FROM pg_stat_activity WHERE $worker AND wait_event_type = 'Lock'");
let_go($holder);
is((finish_script($call))[0] =~ s/\|\d+$//mr, "s|1990\n", 'the first goes on where it was');
is((finish_script($second))[0], '', 'and the second finds nothing left');
is(hidden_left(), 0, 'nothing hidden is left');

# settings that end what lasts too long are not the worker's
SKIP:
{
	skip 'transaction_timeout is there from PostgreSQL 17 on', 3 unless $node->pg_version >= 17;
	fresh(10, 300);
	$holder = hold('SELECT FROM eventstore.events_1 WHERE position = 1500 FOR UPDATE');
	query(q{ALTER DATABASE postgres SET transaction_timeout = '1s'});
	$call = start_named($node, 'postgres', 'caller', 'SET transaction_timeout = 0; SELECT events FROM es_scavenge()');
	ok(wait_for_worker(), 'a worker waits in a transaction, in a database that bounds transactions');
	# or it has ended
	$node->poll_query_until('postgres', "SELECT coalesce(bool_and(clock_timestamp() - xact_start > interval '2s'), true) FROM pg_stat_activity WHERE $worker");
	let_go($holder);
	is(join('', finish_script($call)), "2990\n", '... which goes on when it has waited for longer than that');
	query('ALTER DATABASE postgres RESET transaction_timeout');
	is(hidden_left(), 0, '... and nothing hidden is left');
}

# ---- small steps ----

fresh(10, 300);
is(query('SELECT events FROM es_scavenge(7)'), 7, 'no more than was asked for');
is(query('SELECT count(*) FROM es_scavenge(0)'), 0, 'nothing');
is(hidden_left(), 2983, 'the rest is there');
is(query("SELECT string_agg(events::text, ' ') FROM generate_series(1, 3) n, LATERAL (SELECT sum(events) AS events FROM es_scavenge(1000 + 0 * n)) s"), '1000 1000 983', 'step by step');
is(hidden_left(), 0, 'nothing is left');
is(query('SELECT count(*) FROM es_scavenge()'), 0, 'and so nothing is removed');

# ---- where it is called ----

fresh(10, 30);
is(sqlstates($node, 'postgres', "BEGIN; LOCK TABLE eventstore.events_0 IN SHARE MODE; SELECT * FROM es_scavenge();"), '40P01',
	'a call that would wait for itself is a deadlock');
ok(wait_no_worker(), 'and its worker ends');
fresh(10, 30);
is(sqlstates($node, 'postgres', "BEGIN; SELECT FROM eventstore.events_0 WHERE position = 5 FOR UPDATE; SELECT * FROM es_scavenge();"), '40P01', 'by a row, too');
ok(wait_no_worker(), 'and its worker ends');
fresh(10, 30);
is(query('DO $$ BEGIN PERFORM es_scavenge(5); END $$; SELECT count(*) FROM eventstore.events'), 295, 'a DO block can call it');
is(query('BEGIN; DECLARE c CURSOR FOR SELECT events FROM es_scavenge(5); FETCH ALL c; ROLLBACK; SELECT count(*) FROM eventstore.events'), "5\n290", 'a cursor, and a rollback brings nothing back');
is(query(q{BEGIN; SELECT es_append('other-1', 'T'); SELECT es_truncate_stream('other-1', 2); SELECT sum(events) FROM es_scavenge(5); COMMIT; SELECT count(*) FROM eventstore.events}), "1\n\n5\n286",
	'a transaction that has appended and hidden something, which is not removed yet');
is(query('PREPARE p AS SELECT sum(events) FROM es_scavenge($1); EXECUTE p(1); PREPARE q AS SELECT sum(events) FROM es_scavenge($1); EXECUTE q(1); DEALLOCATE ALL'), "1\n1", 'a prepared statement');
is(sqlstates($node, 'postgres', 'BEGIN READ ONLY; SELECT * FROM es_scavenge();'), '25006', 'not a transaction that is read-only');
is(query('SET debug_parallel_query = on; SELECT sum(events) FROM es_scavenge(1)'), 1, 'a query that would be parallel') if $node->pg_version >= 16;
{
	my $state = sqlstates($node, 'postgres', q{CREATE ROLE nobody_much LOGIN; SET ROLE nobody_much; SELECT * FROM es_scavenge(1);});

	ok($state eq '' || $state eq '42501', 'a role without rights does what it may');
}

# The caller's own snapshots count if it will look by them again.
fresh(10, 300);
is(sqlstates($node, 'postgres', q{BEGIN; DECLARE c CURSOR FOR SELECT * FROM eventstore.events_0; FETCH 1 FROM c; SELECT count(*) FROM es_scavenge();}), '40P01',
	'a cursor on what is to be vacuumed is a deadlock, too');
ok(wait_no_worker(), 'and its worker ends');
fresh(10, 300);
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM es_events");
is($session->query_safe(q{SELECT sum(events) FROM es_scavenge(); SELECT count(*) FROM eventstore.events}), "2990\n3000", 'a repeatable read transaction, too');
let_go($session);
query('SELECT * FROM es_scavenge()');
is(query(q{SELECT string_agg(state, ' ' ORDER BY segment) FROM es_segments WHERE last_position <= 3000}), 'removed removed sealed', 'the room is given back by the next call');

# ---- no worker ----

fresh(10, 30);
$node->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_logical_replication_workers = 0\n");
$node->restart;
is(sqlstates($node, 'postgres', 'SELECT * FROM es_scavenge();'), '53400', 'no worker is free');
$node->append_conf('postgresql.conf', "max_worker_processes = 4\n");
$node->restart;

# ---- beside those who drop what may need events ----

# who follows others' events, from the first one on
my $followers = q{
	SELECT count(es_subscribe(s, categories => '{other}', after_position => 0)) FROM unnest('{first,second,third}'::text[]) s;
	SELECT es_register_reducer_ops('sums', 'T', '{"inc": {"n": 1}}');
	SELECT es_create_projection('sums', 'sums', category => 'other')};

fresh(10, 300);
query($followers);
($holder, $call) = blocked();
query(q{SELECT count(es_unsubscribe(s)) FROM unnest('{first,second}'::text[]) s; SELECT es_subscribe('first', categories => '{other}');
	SELECT es_drop_projection('sums'); SELECT es_drop_reducer('sums')});
let_go($holder);
($said, $failed) = finish_script($call);
is($failed, '', 'who is at work does not fail as subscriptions are dropped, and one made anew, and projections and reducers');
is($said =~ s/\|\d+$//mr, "s|2990\n", 'and removes what nobody needs who was there before');
query(q{SELECT count(es_unsubscribe(s)) FROM unnest('{first,third}'::text[]) s});

fresh(10, 300);
query($followers);
$holder = hold('LOCK TABLE eventstore.subscription_partitions IN ACCESS EXCLUSIVE MODE');
$call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');
wait_for_worker();
$holder->query_safe(q{SELECT count(es_unsubscribe(s)) FROM unnest('{first,second,third}'::text[]) s});
let_go($holder);
($said, $failed) = finish_script($call);
is($failed, '', 'nor as it finds out how far they are');
is($said =~ s/\|\d+$//mr, "s|2990\n", 'and removes what nobody needs');

# ---- who comes upon what is just being removed ----

fresh(2, 10);
$holder = hold('SELECT FROM eventstore.events_0 WHERE position = 5 FOR UPDATE');
$call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');
wait_for_worker();
is(query(q{SELECT count(*), min(version) FROM es_read('s-1')}), '1|10', 'a reader of the stream does not wait');
is(query(q{SELECT es_append('s-1', 'T')}), '11', 'nor who appends to it');
my $retry = start_named($node, 'postgres', 'retry', q{SELECT es_append('s-1', 'T', event_id => md5('1 1')::uuid)});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'retry' AND wait_event_type = 'Lock'});
let_go($holder);
is((finish_script($retry))[0], "12\n", 'a retry waits for the batch, and is a new event then');
finish_script($call);

# a segment is rewritten after the places of its events were noted
fresh(10, 300);
query(q{SELECT count(*) FROM es_scavenge(100)});
$holder = hold('SELECT FROM eventstore.events_0 WHERE position = 500 FOR UPDATE');
$call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');
wait_for_worker();
query('CLUSTER eventstore.events_1 USING events_1_stream');
let_go($holder);
finish_script($call);
query('SELECT * FROM es_scavenge()');
is(hidden_left(), 0, 'what has moved meanwhile is removed by the next call');

# ---- what is in the way ----

# a segment that is no longer in the log does not stop the others
fresh(10, 300);
query('ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_2');
is(query('SELECT sum(events) FROM es_scavenge()'), 2000, 'the rest of a log with a segment detached is scavenged');
query('ALTER TABLE eventstore.events ATTACH PARTITION eventstore.events_2 FOR VALUES FROM (2001) TO (3001)');
is(query('SELECT sum(events) FROM es_scavenge()'), 990, 'and that segment once it is back');

# a view of a segment, which so cannot be dropped
fresh(10, 300);
query('CREATE VIEW of_segment AS SELECT * FROM eventstore.events_0');
is(query('SELECT sum(events) FROM es_scavenge()'), 2990, 'a view of a segment stops nothing');
is(query(q{SELECT string_agg(state || ' ' || events, ', ' ORDER BY segment) FROM es_segments WHERE last_position <= 3000}), 'sealed 0, removed 0, sealed 10', 'but the segment stays');
query('DROP VIEW of_segment');

# someone who has an index of a segment, and someone who has a segment that is empty, for long
fresh(10, 300);
$holder = hold(q{COMMENT ON INDEX eventstore.events_2_stream IS 'in use'});
$call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE $worker AND query LIKE 'sealing%'");
is(query(q{SET statement_timeout = '5s'; SELECT count(*) FROM generate_series(1, 50) n, LATERAL (SELECT pg_sleep(0.01 + n * 0)) s, LATERAL (SELECT count(*) FROM es_read_all(2000 + 0 * n, NULL)) e}), 50,
	'readers go on while an index cannot be had');
let_go($holder);
finish_script($call);
fresh(10, 300);
$holder = hold('LOCK TABLE eventstore.events_0 IN ACCESS SHARE MODE');
$call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE $worker AND query LIKE 'sealing%'");
is(query(q{SET statement_timeout = '5s'; SELECT count(*) FROM generate_series(1, 50) n, LATERAL (SELECT pg_sleep(0.01 + n * 0)) s, LATERAL (SELECT count(*) FROM es_events WHERE position > 2000 + 0 * n) e}), 50,
	'and readers of the log while a segment cannot');
let_go($holder);
finish_script($call);
ok($node->poll_query_until('postgres', q{WITH s AS (SELECT count(*) FROM es_scavenge()) SELECT state = 'removed' FROM es_segments, s WHERE segment = 0}), 'which is dropped later');

# who writes to a segment that is complete, as a restore does
fresh(10, 300);
query('CREATE TABLE IF NOT EXISTS kept (LIKE eventstore.events); TRUNCATE kept; INSERT INTO kept SELECT * FROM eventstore.events_0 WHERE position = 10; SELECT * FROM es_scavenge(100)');
$holder = hold('INSERT INTO eventstore.events SELECT * FROM kept WHERE position = 10');
query('SELECT * FROM es_scavenge()');
let_go($holder);
query('SELECT * FROM es_scavenge()');
is(query('SELECT count(*) FROM eventstore.events WHERE position = 10'), 1, 'a row that is written meanwhile is kept');

# ---- a retry that waits ----

# what it had found stored is gone when it comes back, and is appended anew
fresh(1, 3);
$holder = hold(q{SELECT es_append('other', 'T')});
$retry = start_named($node, 'postgres', 'retry', q{SELECT stream, version FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', stream, 'type', 'T', 'data', data, 'event_id', id))
	FROM (VALUES ('s-1', jsonb_build_object('pad', repeat('x', 200)), md5('1 2')::uuid), ('other', '{}', md5('other')::uuid)) e (stream, data, id)))});
ok($node->poll_query_until('postgres', q{SELECT cardinality(pg_blocking_pids(pid)) > 0 FROM pg_stat_activity WHERE application_name = 'retry'}), 'a retry waits for another stream');
query('SELECT * FROM es_scavenge()');
is(hidden_left(), 0, 'what it has found is removed');
let_go($holder);
is(join('', finish_script($retry)), "s-1|4\nother|2\n", '... and is appended when it goes on');

# ---- a retry beside a removal ----

# The first id is found in the second segment; the other one, which is new, is looked for in the first one, too, whose
# index of ids is locked. When the retry can go on, what it has found has been removed.
fresh(1, 1);
query(q{SELECT es_append_batch('s-2', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', to_jsonb(v), 'event_id', md5('2 ' || v)::uuid) ORDER BY v) FROM generate_series(1, 1500) v)), es_truncate_stream('s-2', 1500)});
query('SELECT * FROM es_scavenge((SELECT count(*) - 1 FROM eventstore.events_0))');
is(query(q{SELECT string_agg(version::text, ' ') FROM eventstore.events_0}), '1', 'what is hidden in the first segment is removed');
my $ids = query(q{SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'eventstore.events_0'::regclass AND attname = 'event_id'});
my $left = hidden_left();
$holder = hold("REINDEX INDEX $ids");
$retry = start_named($node, 'postgres', 'retry', q{SELECT es_append_batch('s-2', jsonb_build_array(jsonb_build_object('type', 'T', 'data', 1200, 'event_id', md5('2 1200')::uuid),
	jsonb_build_object('type', 'T', 'event_id', md5('new')::uuid)))});
ok($node->poll_query_until('postgres', q{SELECT cardinality(pg_blocking_pids(pid)) > 0 FROM pg_stat_activity WHERE application_name = 'retry'}), 'a retry looks for its second id');
$call = start_named($node, 'postgres', 'caller', 'SELECT events FROM es_scavenge()');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM eventstore.events_1 WHERE version = 1200}), 'its first one is removed');
let_go($holder);
is(join('', finish_script($retry)), "1502\n", 'what was removed after it was found is appended');
like(join('', finish_script($call)), qr/^$left$/m, 'the rest is removed, too');
is(query(q{SELECT version FROM es_read('s-2', 1501) WHERE event_id = md5('2 1200')::uuid}), 1501, 'the event has its id');

# ---- a standby ----

my $standby = start_standby($node);
is(sqlstates($standby, 'postgres', 'SELECT * FROM es_scavenge();'), '25006', 'not on a standby');
$standby->stop;

$node->stop;
done_testing();
