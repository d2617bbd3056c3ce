# Whose sight keeps room from being given back: es_scavenge() leaves out whoever has called it, and for the rest
# counts who counts for VACUUM.  What has ended does not, nor what is open in another database; and
# who may still look, here or on a standby, sees what he saw.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => "autovacuum = off\nhot_standby_feedback = on\nwal_receiver_status_interval = 1\n");
my $segment = -1;

new_store($node, 'store', 1000);
sub query { return $node->safe_psql('store', $_[0]); }
sub size { return query("SELECT pg_table_size('eventstore.events_$segment')"); }

# fill(): a segment more, half of whose events are of a stream of its own; how large it is
sub fill
{
	$segment++;
	query("SELECT es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', CASE n % 2 WHEN 0 THEN 'kept-' ELSE 'gone-' END || $segment, 'type', 'T',
		'data', jsonb_build_object('pad', repeat('x', 200))) ORDER BY n) FROM generate_series(1, 1000) n))");
	return size();
}

# scavenge(): hides half of the last segment, and has it removed by one call; which part of its size is left
sub scavenge
{
	my $before = size();

	query("SELECT es_truncate_stream('gone-$segment', 501)");
	is(query('SELECT sum(events) FROM es_scavenge()'), 500, "half of segment $segment is removed");
	return size() / $before;
}

# ---- who does not count ----

fill();
cmp_ok(scavenge(), '<', 0.7, 'room is given back at once, though the caller has a snapshot of before');

query(q{CREATE TABLE prepared (); BEGIN; INSERT INTO prepared DEFAULT VALUES; PREPARE TRANSACTION 'ended'; COMMIT PREPARED 'ended';
	BEGIN; INSERT INTO prepared DEFAULT VALUES; PREPARE TRANSACTION 'undone'; ROLLBACK PREPARED 'undone'});
fill();
cmp_ok(scavenge(), '<', 0.7, 'prepared transactions that have ended are nobody');

my $elsewhere = $node->background_psql('postgres');
$elsewhere->query_safe('BEGIN; SELECT pg_current_xact_id()');
$node->safe_psql('postgres', q{CREATE TABLE prepared (); BEGIN; INSERT INTO prepared DEFAULT VALUES; PREPARE TRANSACTION 'elsewhere'});
fill();
cmp_ok(scavenge(), '<', 0.7, 'nor do transactions of another database count, open or prepared');
$elsewhere->query_safe('COMMIT');
$elsewhere->quit;
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'elsewhere'});

# ---- who does ----

# by another session, as one that prepares a transaction has none
query(q{BEGIN; INSERT INTO prepared DEFAULT VALUES; PREPARE TRANSACTION 'open'});
fill();
cmp_ok(scavenge(), '>', 0.9, 'a transaction that is prepared here counts');
query(q{COMMIT PREPARED 'open'});
query('SELECT * FROM es_scavenge()');

my $reader = $node->background_psql('store');
fill();
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
cmp_ok(scavenge(), '>', 0.9, 'a snapshot counts');
is($reader->query_safe("SELECT count(*) FROM eventstore.events WHERE stream = 'gone-$segment'"), 500, 'which sees what it saw');
$reader->query_safe('COMMIT');
$reader->quit;
query('SELECT * FROM es_scavenge()');
cmp_ok(size(), '<', 300_000, 'once it is gone, room is given back');

# ---- standbys ----

# feedback(slot): that of the standby has arrived
sub feedback
{
	my ($slot) = @_;

	return $node->poll_query_until('postgres', $slot ? q{SELECT xmin IS NOT NULL FROM pg_replication_slots} : q{SELECT backend_xmin IS NOT NULL FROM pg_stat_replication});
}

# check_standby(standby, how): a snapshot there counts, which has not locked anything
sub check_standby
{
	my ($standby, $how) = @_;

	fill();
	$node->wait_for_catchup($standby, 'replay');
	my $session = $standby->background_psql('store');
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	my $oldest = $standby->safe_psql('store', 'SELECT txid_snapshot_xmin(txid_current_snapshot())');
	my $said = $how eq 'slot' ? 'SELECT xmin FROM pg_replication_slots' : 'SELECT backend_xmin FROM pg_stat_replication';
	$node->poll_query_until('postgres', "SELECT (($said)::text::bigint) <= $oldest");
	cmp_ok(scavenge(), '>', 0.9, "a snapshot of a standby counts, by its $how");
	$node->wait_for_catchup($standby, 'replay');
	is($session->query_safe("SELECT count(*) FROM eventstore.events WHERE stream = 'gone-$segment'"), 500, 'which sees what it saw');
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

my $standby = start_standby($node);
feedback(0);
check_standby($standby, 'walsender');
feedback(0);
$standby->stop;
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication');
query('SELECT * FROM es_scavenge()');
cmp_ok(size(), '<', 300_000, 'once it is gone, room is given back');
fill();
cmp_ok(scavenge(), '<', 0.7, 'a walsender that has ended is nobody');

query(q{SELECT pg_create_physical_replication_slot('slot')});
$standby->append_conf('postgresql.conf', "primary_slot_name = 'slot'\n");
$standby->start;
feedback(1);
check_standby($standby, 'slot');
$standby->stop;
fill();
cmp_ok(scavenge(), '>', 0.9, 'a slot counts without its standby');
query(q{SELECT pg_drop_replication_slot('slot')});
query('SELECT * FROM es_scavenge()');
cmp_ok(size(), '<', 300_000, 'and no more once it is dropped');

# ---- what is left ----

query('CREATE EXTENSION amcheck');
is(query(q{SELECT string_agg(inhrelid::regclass || ' ' || v.msg, ', ') FROM pg_inherits, verify_heapam(inhrelid::regclass, check_toast => true) v
	WHERE inhparent = 'eventstore.events'::regclass}), '', 'tables are sound');
is(query('SELECT count(*) FROM eventstore.events'), ($segment + 1) * 500, 'with the events that were not hidden');

done_testing();
