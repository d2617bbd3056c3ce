# A store moves to another server while it is in use: a logical subscriber takes over.  Writers stop where they are, the
# subscriber catches up, its subscription is dropped, and all go on there: nothing is lost, followers go on from the
# positions they have.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $conf = "shared_preload_libraries = 'eventstore'\nwal_retrieve_retry_interval = 200ms\nmax_worker_processes = 20\n";
my $old = new_node('old', streaming => 'logical', conf => $conf);
my $new = new_node('new', streaming => 'logical', conf => $conf);
my $user = getpwuid($>);
my $scene = EventstoreScene->start($old, feed => ['--moved']);

# What handlers write is not the store's: it is published besides, with the definitions of its tables.
my ($definitions) = run_command([ $old->installed_command('pg_dump'), '-s', '-n', 'drill', $old->connstr('postgres') ]);
$new->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$new->safe_psql('postgres', $definitions);
$old->safe_psql('postgres', 'CREATE PUBLICATION events FOR TABLES IN SCHEMA eventstore, drill');
$scene->wait_for_appends(60, 'there is load');
wait_until('a subscription', sub { !sqlstates($new, 'postgres', "CREATE SUBSCRIPTION events CONNECTION \$\$" . $old->connstr('postgres') . " user=$user\$\$ PUBLICATION events") });
ok($new->poll_query_until('postgres', q{SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel}), 'all is copied under load');
$scene->wait_for_appends(60, 'which goes on');

# Nobody writes to the old one any more.
$old->safe_psql('postgres', q{ALTER SYSTEM SET default_transaction_read_only = on});
$old->reload;
$old->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
$old->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_prepared_xacts}) or diag 'something is prepared';
my $end = $old->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
my $last = $old->safe_psql('postgres', 'SELECT es_settled_position()');
ok($old->poll_query_until('postgres', qq{SELECT confirmed_flush_lsn >= '$end' FROM pg_replication_slots WHERE slot_name = 'events'}), 'the subscriber catches up');
is($new->safe_psql('postgres', 'SELECT es_settled_position()'), $last, 'as far as the publisher was');
$new->safe_psql('postgres', 'DROP SUBSCRIPTION events');
# the store sees to its own sequences, and to no others
$new->safe_psql('postgres', q{SELECT setval(pg_get_serial_sequence('drill.deliveries', 'id'), max(id)) FROM drill.deliveries});
$scene->move_to($new->connstr('postgres') . " user=$user");
$scene->restart_feed;
$old->stop;

$scene->wait_for_appends(60, 'writers go on there');
is($scene->check('switch-over', allow => '42704'), 0, 'nothing is lost');
cmp_ok($new->safe_psql('postgres', "SELECT min(position) FROM es_events WHERE position > $last"), '>', $last, 'positions go on');
is(gaps($new, 'postgres'), '', 'streams, too');
is($new->safe_psql('postgres', 'SELECT count(*) FROM es_verify()'), '0', 'it is what was sealed');
$new->stop;
done_testing();
