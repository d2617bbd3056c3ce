# A logical subscriber while it is being copied: nothing is final there before all of the
# store has come, whatever the settled mark, sealed segments and sequences say; and
# the publisher may have gone past many segments by the time that the copy begins.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "wal_retrieve_retry_interval = 200ms\nautovacuum = off\nmax_replication_slots = 50\n";
my $publisher = new_node('publisher', streaming => 'logical', conf => $conf);
my $subscriber = new_node('subscriber', streaming => 'logical', conf => $conf);
my $all_ready = q{SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel};
my $connection = $publisher->connstr . ' dbname=postgres';

$_->safe_psql('postgres', 'CREATE EXTENSION eventstore') foreach $publisher, $subscriber;
$publisher->safe_psql('postgres', $_) foreach (
	'SELECT es_set_segment_size(100)',
	q{SELECT es_create_projection('later', 'count')},
	q{SELECT es_append('cat-1', 'T', '{}', '{"tags": ["tag"]}') FROM generate_series(1, 130)},
	q{BEGIN; SELECT es_append('cat-1', 'T'); ROLLBACK},
	q{SELECT es_append('cat-1', 'T', '{}', '{"tags": ["tag"]}') FROM generate_series(1, 150)});
$publisher->poll_query_until('postgres', 'SELECT sealed FROM eventstore.segments WHERE segment = 0');
$publisher->safe_psql('postgres', $_) foreach ('SELECT es_settle()', 'CREATE PUBLICATION p FOR TABLES IN SCHEMA eventstore',
	'CREATE PUBLICATION by_root FOR ALL TABLES WITH (publish_via_partition_root = true)');

# All but one table are copied; held holds that one.
foreach my $held ('events_0', 'events_1', 'indexed_types', 'config')
{
	my $session = $subscriber->background_psql('postgres');
	my $holder = $subscriber->background_psql('postgres');
	my $published = $publisher->safe_psql('postgres', q{SELECT count(*) FROM es_events});
	my $nothing = $held eq 'events_1' ? 100 : $held eq 'events_0' ? 0 : 130;

	$session->query_safe('SELECT es_settled_position()');
	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p WITH (enabled = false)");
	$holder->query_safe("BEGIN; LOCK TABLE eventstore.$held IN SHARE MODE");
	$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s ENABLE');
	ok($subscriber->poll_query_until('postgres', qq{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel WHERE srrelid <> 'eventstore.$held'::regclass}), "$held: all others are copied");
	is($subscriber->safe_psql('postgres', q{SELECT position FROM eventstore.settled_mark}), $publisher->safe_psql('postgres', 'SELECT es_settled_position()'), "$held: the mark is there");
	$subscriber->safe_psql('postgres', q{SELECT setval('eventstore.position_seq', 200)});
	foreach my $look ([ sub { $subscriber->safe_psql('postgres', $_[0]) }, 'a new session' ], [ sub { $session->query_safe($_[0]) }, 'an old session' ])
	{
		my ($ask, $who) = @$look;
		is($ask->('SELECT es_settled_position()'), '0', "$held: nothing is settled for $who");
		is($ask->('SELECT count(*) FROM es_read_all(0)'), $nothing, "$held: $who reads what follows from the first event without a hole");
		is($ask->('SELECT count(*) FROM es_read_all(130)'), '0', "$held: and does not pass what is missing");
		is($ask->(q{SELECT count(*) FROM es_read_category('cat')}), '0', "$held: nor in a category");
		is($ask->(q{SELECT count(*) FROM es_read_tagged('{tag}')}), '0', "$held: nor by tags");
		is($ask->('SELECT es_settled_position()'), '0', "$held: nothing is settled by having read");
	}
	foreach my $read (q{es_read('cat-1')}, q{es_replay('cat-1', 'count')}, q{es_replay_category('cat', 'count')}, q{es_stream_version('cat-1')}, q{es_projection('later')})
	{
		my ($ret, $out, $err) = $subscriber->psql('postgres', "\\set VERBOSITY verbose\nSELECT count(*) FROM $read");
		like($err, qr/55000: the event store of this database is still being copied/, "$held: no part of the store by $read");
	}
	$holder->query_safe('COMMIT');
	ok($subscriber->poll_query_until('postgres', $all_ready), "$held: all is copied then");
	is($session->query_safe('SELECT es_settled_position() = (SELECT position FROM eventstore.settled_mark)'), 't', "$held: the mark counts now");
	is($session->query_safe($_), $published, "$held: $_") foreach ('SELECT count(*) FROM es_read_all(0)', q{SELECT count(*) FROM es_read_category('cat')}, q{SELECT count(*) FROM es_read_tagged('{tag}')});
	$_->quit foreach $session, $holder;
	$subscriber->safe_psql('postgres', $_) foreach ('DROP SUBSCRIPTION s', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore', 'CREATE EXTENSION eventstore');
}

# The copy begins when the publisher is far past what was made ahead; no error of a worker may disable the subscription.
foreach my $publication ('p', 'by_root')
{
	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION $publication WITH (enabled = false, disable_on_error = true)");
	$publisher->safe_psql('postgres', q{SELECT es_append_batch('far-1', (SELECT jsonb_agg(jsonb_build_object('type', 'F')) FROM generate_series(1, 1000))) FROM generate_series(1, 5)});
	$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s ENABLE');
	ok($subscriber->poll_query_until('postgres', $all_ready), "$publication: all is copied");
	$publisher->safe_psql('postgres', q{SELECT es_append_batch('far-2', (SELECT jsonb_agg(jsonb_build_object('type', 'F')) FROM generate_series(1, 1000))) FROM generate_series(1, 5)});
	$publisher->safe_psql('postgres', 'SELECT es_settle()');
	$publisher->wait_for_catchup('s');
	is($subscriber->safe_psql('postgres', 'SELECT count(*), max(position) FROM es_read_all(0, NULL)'),
		$publisher->safe_psql('postgres', 'SELECT count(*), max(position) FROM es_read_all(0, NULL)'), "$publication: and goes on");
	is($subscriber->safe_psql('postgres', 'SELECT subenabled FROM pg_subscription'), 't', "$publication: without an error");
	$subscriber->safe_psql('postgres', $_) foreach ('DROP SUBSCRIPTION s', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore', 'CREATE EXTENSION eventstore');
}
like(slurp_file($subscriber->logfile), qr/the copy of "eventstore\.\w+" begins again/, 'what was to be copied has waited for its segments');

# A store with events of its own is not copied into.
$subscriber->safe_psql('postgres', q{SELECT es_append('own-1', 'T')});
my ($ret, $out, $err) = $subscriber->psql('postgres', "\\set VERBOSITY verbose\nCREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p");
like($err, qr/55000: cannot copy a publication into the event store of this database because it is not empty/, 'a store that has events of its own is refused');
is($publisher->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'and no slot stays behind');

# Publications of something else are nobody's business.
$publisher->safe_psql('postgres', 'CREATE TABLE other (i int PRIMARY KEY); INSERT INTO other VALUES (1); CREATE PUBLICATION other FOR TABLE other');
$subscriber->safe_psql('postgres', 'CREATE TABLE other (i int PRIMARY KEY)');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION other");
ok($subscriber->poll_query_until('postgres', $all_ready), 'another table is subscribed to');
is($subscriber->safe_psql('postgres', q{SELECT es_append('own-1', 'T')}), '2', 'and the store is written to as before');
my $timeline = $subscriber->safe_psql('postgres', 'SELECT last_value FROM eventstore.timeline_seq');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s REFRESH PUBLICATION');
is($subscriber->safe_psql('postgres', 'SELECT last_value FROM eventstore.timeline_seq'), $timeline, 'and follows nobody');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');
is($subscriber->safe_psql('postgres', q{SELECT es_append('own-1', 'T'); SELECT es_settled_position()}), "3\n3", 'positions go on where they were');

# A look for subscriptions that fails half-way has found out nothing.
my $warm = $subscriber->background_psql('postgres', on_error_stop => 0);
my $locker = $subscriber->background_psql('postgres');
is($warm->query_safe(q{SET lock_timeout = '10ms'; SELECT es_append('own-1', 'T')}), '4', 'a session that knows of no subscription');
$subscriber->safe_psql('postgres', $_) foreach ('CREATE TABLE unknown (i int)', q{SET allow_system_table_mods = on;
	INSERT INTO pg_subscription_rel VALUES (1, 'eventstore.events_0'::regclass, 'r', '0/1'), (1, 'unknown'::regclass, 'r', '0/1')});
$locker->query_safe('BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE');
$warm->query(q{SELECT es_append('own-1', 'T')});
like($warm->{stderr}, qr/lock timeout/, 'its look fails');
$warm->{stderr} = '';
$locker->query_safe('ROLLBACK');
$warm->query(q{SELECT es_append('own-1', 'T')});
like($warm->{stderr}, qr/is a logical subscriber/, 'and it looks again');
$warm->{stderr} = '';
$subscriber->safe_psql('postgres', 'SET allow_system_table_mods = on; DELETE FROM pg_subscription_rel WHERE srsubid = 1');
is($warm->query_safe(q{SELECT es_append('own-1', 'T')}), '5', 'and again');
$_->quit foreach $warm, $locker;

# A copy by dump that nothing has come to since goes on past what the publisher may have given out.
$subscriber->safe_psql('postgres', 'CREATE DATABASE copied');
$subscriber->command_ok([ 'bash', '-c', "pg_dump -d '" . $publisher->connstr('postgres') . "' | psql -X -q -v ON_ERROR_STOP=1 -d '" . $subscriber->connstr('copied') . "'" ], 'a dump of the publisher');
$subscriber->safe_psql('copied', $_) foreach ("CREATE SUBSCRIPTION copied CONNECTION '$connection' PUBLICATION p WITH (copy_data = false)", 'DROP SUBSCRIPTION copied');
is($subscriber->safe_psql('copied', q{SELECT es_append('copied-1', 'T'); SELECT es_last_position() > (SELECT last_position FROM eventstore.segments WHERE } . $publisher->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq') . ' BETWEEN first_position AND last_position)'), "1\nt",
	'a store that was a subscriber for a moment goes on at another segment');

# A dump of a subscriber has sequences that have given out nothing.
my $of_subscriber = $subscriber->safe_psql('copied', q{SELECT max(position) FROM es_events});
$subscriber->safe_psql('copied', q{SELECT setval('eventstore.stream_id_seq', 1, false)});
$subscriber->safe_psql('postgres', 'CREATE DATABASE restored');
$subscriber->command_ok([ 'bash', '-c', "pg_dump -d '" . $subscriber->connstr('copied') . "' | psql -X -q -v ON_ERROR_STOP=1 -d '" . $subscriber->connstr('restored') . "'" ], 'a dump whose sequences are behind');
is($subscriber->safe_psql('restored', q{SELECT es_append('restored-1', 'T')}), '1', 'new streams get ids past those that are there');

# Without a connection at CREATE SUBSCRIPTION, REFRESH does it.
$subscriber->safe_psql('postgres', $_) foreach ('SET eventstore.allow_drop = on; DROP EXTENSION eventstore', 'CREATE EXTENSION eventstore');
$publisher->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('s', 'pgoutput')});
$subscriber->safe_psql('postgres', $_) foreach ("CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p WITH (connect = false)", 'ALTER SUBSCRIPTION s ENABLE', 'ALTER SUBSCRIPTION s REFRESH PUBLICATION');
$publisher->safe_psql('postgres', q{SELECT es_append_batch('far-3', (SELECT jsonb_agg(jsonb_build_object('type', 'F')) FROM generate_series(1, 1000)))});
ok($subscriber->poll_query_until('postgres', $all_ready), 'a subscription made without a connection: all is copied');
$publisher->safe_psql('postgres', 'SELECT es_settle()');
$publisher->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT count(*), max(position) FROM es_read_all(0, NULL)'),
	$publisher->safe_psql('postgres', 'SELECT count(*), max(position) FROM es_read_all(0, NULL)'), 'and goes on');


# The switch-over, where nobody tells the store of it.
my $stored = $subscriber->safe_psql('postgres', 'SELECT max(position) FROM es_events');
$subscriber->safe_psql('postgres', $_) foreach ('ALTER EVENT TRIGGER eventstore_after_subscription DISABLE', 'DROP SUBSCRIPTION s');
is($subscriber->safe_psql('postgres', q{SELECT es_append('far-3', 'X'), es_last_position() > } . $stored), '1001|t', 'the first append goes on past what was replicated');
is($subscriber->safe_psql('postgres', "SELECT type FROM es_read_all($stored)"), 'X', 'a follower goes on');

# A standby that is made a subscriber: its sequences are where they were.
$publisher->safe_psql('postgres', $_) foreach ('DROP PUBLICATION p', 'CREATE PUBLICATION p FOR ALL TABLES');
my $standby = start_standby($publisher);
$publisher->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('standby', 'pgoutput')});
my $late = $publisher->background_psql('postgres');
$late->query_safe(q{BEGIN; SELECT es_append('late-1', 'Late')});
$publisher->safe_psql('postgres', q{SELECT es_append('early-1', 'T') FROM generate_series(1, 10)});
$publisher->safe_psql('postgres', q{SELECT pg_replication_slot_advance('standby', pg_current_wal_lsn())});
$publisher->wait_for_catchup($standby, 'replay', $publisher->lsn('insert'));
$standby->promote;
# for a moment it is a store of its own, where nobody can come any more who was in flight over there
is($standby->safe_psql('postgres', q{SELECT es_settle() > max(position) FROM es_events WHERE stream <> 'early-1'}), 't', 'what was a standby settles by itself');
my $own = $standby->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq');
cmp_ok($own, '>', 0, 'what was a standby has a sequence of its own');
$publisher->safe_psql('postgres', q{SELECT es_append_batch('far-4', (SELECT jsonb_agg(jsonb_build_object('type', 'F')) FROM generate_series(1, 300)))});
$standby->safe_psql('postgres', "CREATE SUBSCRIPTION standby CONNECTION '$connection' PUBLICATION p WITH (create_slot = false, copy_data = false)");
is($standby->safe_psql('postgres', q{SELECT count(*) FROM es_read_all(0, NULL) WHERE stream = 'early-1'}), '0', 'it does not pass what is in flight on the publisher');
$late->query_safe('COMMIT');
$late->quit;
$publisher->safe_psql('postgres', q{BEGIN; SELECT es_append('undone-1', 'T'); ROLLBACK});
$publisher->safe_psql('postgres', q{SELECT es_append_batch('far-4', (SELECT jsonb_agg(jsonb_build_object('type', 'F')) FROM generate_series(1, 300)))});
$publisher->safe_psql('postgres', 'SELECT es_settle()');
$publisher->wait_for_catchup('standby');
ok($standby->poll_query_until('postgres', $all_ready), 'the mark is copied');
foreach my $sql ('SELECT count(*), max(position), es_settled_position() FROM es_read_all(0, NULL)', 'SELECT array_agg(s ORDER BY segment) FROM eventstore.segments s')
{
	is($standby->safe_psql('postgres', $sql), $publisher->safe_psql('postgres', $sql), "it follows: $sql");
}
($ret, $out, $err) = $standby->psql('postgres', q{SELECT es_append('own-1', 'T')});
like($err, qr/is a logical subscriber/, 'and is written to by nobody else');
$stored = $standby->safe_psql('postgres', 'SELECT max(position) FROM es_events');
$standby->safe_psql('postgres', 'DROP SUBSCRIPTION standby');
is($standby->safe_psql('postgres', q{SELECT es_append('far-4', 'X'), es_last_position() > } . $stored), '601|t', 'and goes on when it is told to');

done_testing();
