# A projection that is dropped on the publisher while its table of states is still to be copied by
# a logical subscriber: at whatever moment that is, the store is complete afterwards, without
# ALTER SUBSCRIPTION ... REFRESH PUBLICATION, and nothing of the copy stays behind on either side.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "wal_retrieve_retry_interval = 200ms\nautovacuum = off\nmax_replication_slots = 30\n";
my $publisher = new_node('publisher', streaming => 'logical', conf => $conf);
my $subscriber = new_node('subscriber', streaming => 'logical', conf => $conf);
my $connection = $publisher->connstr . ' dbname=postgres';
my $all_ready = q{SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel};

# There is a projection that stays beside each one that is dropped.
$_->safe_psql('postgres', 'CREATE EXTENSION eventstore; CREATE TABLE other (i int PRIMARY KEY)') foreach $publisher, $subscriber;
$publisher->safe_psql('postgres', $_) foreach (
	q{SELECT es_append('cat-' || i % 7, 'T') FROM generate_series(1, 50) i},
	q{SELECT es_create_projection('kept', 'count'), es_run_projection('kept')},
	'SELECT es_settle()', 'CREATE PUBLICATION p FOR TABLES IN SCHEMA eventstore, TABLE other');

# create(name): makes a projection with states on the publisher; its table is returned
sub create
{
	my ($name) = @_;

	$publisher->safe_psql('postgres', "SELECT es_create_projection('$name', 'count'), es_run_projection('$name')");
	return 'projection_states_' . $publisher->safe_psql('postgres', "SELECT projection_id FROM eventstore.projections WHERE name = '$name'");
}

# subscribe(options)
sub subscribe
{
	my ($options) = @_;

	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p WITH ($options)");
}

# state_of(table): in the subscription, '' if it is not in it
sub state_of
{
	my ($table) = @_;

	return $subscriber->safe_psql('postgres', "SELECT srsubstate FROM pg_subscription_rel WHERE srrelid = to_regclass('eventstore.$table')");
}

# holds(what, table): all is copied, what was dropped left nothing, and the store follows
sub holds
{
	my ($what, $table) = @_;

	ok($subscriber->poll_query_until('postgres', $all_ready), "$what: the store is complete");
	$publisher->safe_psql('postgres', q{SELECT es_append('cat-1', 'T'), es_run_projection('kept')});
	$publisher->safe_psql('postgres', 'SELECT es_settle()');
	$publisher->wait_for_catchup('s');
	foreach my $query ('SELECT count(*), max(position), es_settled_position() FROM es_read_all(0, NULL)', q{SELECT key, state FROM es_projection('kept') ORDER BY key}, 'SELECT projection FROM es_projections ORDER BY 1')
	{
		is($subscriber->safe_psql('postgres', $query), $publisher->safe_psql('postgres', $query), "$what: it follows: $query");
	}
	is($subscriber->safe_psql('postgres', "SELECT to_regclass('eventstore.$table')"), '', "$what: the table is gone") if $table;
	is($publisher->safe_psql('postgres', q{SELECT string_agg(slot_name, ' ') FROM pg_replication_slots}), 's', "$what: no slot stays behind on the publisher");
	is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM pg_replication_origin}), '1', "$what: nor an origin on the subscriber");
	is($subscriber->safe_psql('postgres', q{SELECT string_agg(finding || ': ' || detail, E'\n') FROM es_doctor() WHERE finding ~ '^the (subscription|store is still)'}), '', "$what: es_doctor finds no fault in the subscription");
}

# begin_anew(): the subscriber has an empty store again
sub begin_anew
{
	$subscriber->safe_psql('postgres', $_) foreach ('DROP SUBSCRIPTION s', 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore', 'CREATE EXTENSION eventstore');
}

# Dropped before anything has been copied: nobody ever hears of it.
my $table = create('before');
subscribe('enabled = false, disable_on_error = true');
$publisher->safe_psql('postgres', q{SELECT es_drop_projection('before')});
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s ENABLE');
holds('dropped after CREATE SUBSCRIPTION');
begin_anew();

# The same where REFRESH has found the table.
$table = create('refreshed');
$publisher->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('s', 'pgoutput')});
subscribe('connect = false');
my $holder = $subscriber->background_psql('postgres');
$holder->query_safe("BEGIN; LOCK TABLE eventstore.projections IN SHARE MODE");
$subscriber->safe_psql('postgres', $_) foreach ('ALTER SUBSCRIPTION s ENABLE', 'ALTER SUBSCRIPTION s REFRESH PUBLICATION');
ok($subscriber->poll_query_until('postgres', q{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel WHERE srrelid <> 'eventstore.projections'::regclass}), 'all but projections are copied');
$publisher->safe_psql('postgres', q{SELECT es_drop_projection('refreshed')});
$holder->query_safe('COMMIT');
holds('dropped after REFRESH');
begin_anew();

# Dropped while it is copied, by a worker that waits; the apply worker brings the deletion.
my $except = sub { qq{SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel WHERE srrelid <> to_regclass('eventstore.$_[0]')} };

$table = create('waiting');
subscribe('enabled = false, disable_on_error = true');
$holder->query_safe("BEGIN; LOCK TABLE eventstore.$table IN SHARE MODE");
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s ENABLE');
ok($subscriber->poll_query_until('postgres', "SELECT srsubstate = 'd' FROM pg_subscription_rel WHERE srrelid = 'eventstore.$table'::regclass"), 'its copy begins');
ok($subscriber->poll_query_until('postgres', $except->($table)), 'all others are copied');
is($subscriber->safe_psql('postgres', 'SELECT es_settled_position()'), '0', 'the store is not complete');
$publisher->safe_psql('postgres', q{SELECT es_drop_projection('waiting')});
holds('dropped while its copy waits');
is($subscriber->safe_psql('postgres', "SELECT count(*) FROM eventstore.$table"), '0', 'its table is in use, and stays');
$holder->query_safe('COMMIT');
begin_anew();

# Dropped while it is copied, by a worker that fails, and has left a slot. What brings the deletion is rolled back at first.
$table = create('failing');
subscribe('enabled = false');
$holder->query_safe("BEGIN; LOCK TABLE eventstore.$table IN SHARE MODE");
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s ENABLE');
ok($subscriber->poll_query_until('postgres', $except->($table)), 'all others are copied');
my $other = $subscriber->background_psql('postgres');
$other->query_safe('BEGIN; LOCK TABLE eventstore.projections IN SHARE MODE; INSERT INTO other VALUES (1)');
$publisher->safe_psql('postgres', q{BEGIN; SELECT es_drop_projection('failing'); INSERT INTO other VALUES (1); COMMIT});
my $offset = -s $subscriber->logfile;
$holder->query_safe('COMMIT');
$subscriber->wait_for_log(qr/table "eventstore.$table" not found on publisher/, $offset);
is($publisher->safe_psql('postgres', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name ~ '_sync_'}), '1', 'its worker fails, and has left a slot');
$other->query_safe('COMMIT');
$subscriber->wait_for_log(qr/the copy of "eventstore.$table" is given up.*(duplicate key value violates unique constraint|conflict detected on relation)/s, $offset);
like(state_of($table), qr/^[id]$/, 'a rollback brings it back');
$subscriber->safe_psql('postgres', 'DELETE FROM other');
holds('dropped while its copy fails', $table);
begin_anew();

# Dropped while the row of the projection is copied: who does that brings the deletion.
$table = create('caught');
$subscriber->safe_psql('postgres', 'DELETE FROM other');
subscribe('enabled = false');
$holder->query_safe('BEGIN; LOCK TABLE eventstore.projections IN SHARE MODE');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION s ENABLE');
ok($subscriber->poll_query_until('postgres', $except->('projections')), 'all but projections are copied');
ok($subscriber->poll_query_until('postgres', q{SELECT srsubstate = 'd' FROM pg_subscription_rel WHERE srrelid = 'eventstore.projections'::regclass}), 'and they begin to be');
$other->query_safe('BEGIN; LOCK TABLE pg_catalog.pg_subscription_rel IN SHARE MODE');
$holder->query_safe('COMMIT');
ok($subscriber->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'pg_catalog.pg_subscription_rel'::regclass AND NOT granted}), 'its rows are being copied');
$publisher->safe_psql('postgres', q{SELECT es_drop_projection('caught')});
$publisher->wait_for_catchup('s');
is(state_of($table), '', 'the apply worker is past the deletion');
$offset = -s $subscriber->logfile;
$other->query_safe('COMMIT');
holds('dropped while its row is copied', $table);
ok($subscriber->log_contains(qr/the copy of "eventstore.$table" is given up/, $offset), 'its table was to be copied');

# One that is ready goes with its row, as ever.
$table = create('ready');
$publisher->wait_for_catchup('s');
is(state_of($table), 'r', 'a projection made later is ready from the first moment');
$publisher->safe_psql('postgres', q{SELECT es_drop_projection('ready')});
holds('dropped when it is ready', $table);
$_->quit foreach $holder, $other;

done_testing();
