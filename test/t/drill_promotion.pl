# A standby is promoted while a store is in use.  Of a synchronous one: nothing that was acknowledged is lost.  Of an
# asynchronous one: what is lost is told, no position comes back with other content, and all go on.
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
my $conf = "shared_preload_libraries = 'eventstore'\nwal_retrieve_retry_interval = 200ms\nmax_wal_senders = 10\n";

# pair(name): a primary and a standby, and how programs find whichever takes writes.
sub pair
{
	my ($name) = @_;
	my $primary = new_node("$name", streaming => 'logical', conf => $conf);
	my $standby = start_standby($primary, undef, "${name}_standby");
	my $dsn = 'host=' . join(',', map { $_->host } $primary, $standby) . ' port=' . join(',', map { $_->port } $primary, $standby)
	  . ' dbname=postgres target_session_attrs=read-write user=' . getpwuid($>);

	return ($primary, $standby, $dsn);
}

# promote(primary, standby): the primary is gone from one moment to the next.
sub promote
{
	my ($primary, $standby) = @_;

	$primary->stop('immediate');
	$standby->promote;
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
}

# ---- synchronous ----
my ($primary, $standby, $dsn) = pair('sync');
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'sync_standby'\n");
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'});
my $scene = EventstoreScene->start($standby, dsn => $dsn);
$scene->wait_for_appends(150, 'synchronous: there is load');
promote($primary, $standby);
$scene->wait_for_appends(150, 'synchronous: writers go on at the new primary');
is($scene->check('synchronous', promoted => 1), 0, 'synchronous: nothing that was acknowledged is lost');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM es_verify()'), '0', 'synchronous: what was sealed is there');
$standby->stop;

# ---- asynchronous, and behind ----
($primary, $standby, $dsn) = pair('async');
$scene = EventstoreScene->start($standby, dsn => $dsn);
$scene->wait_for_appends(150, 'asynchronous: there is load');
$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$standby->reload;
$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver');
$scene->wait_for_appends(50, 'asynchronous: the primary does not wait for the standby');
my $given = $primary->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq');
promote($primary, $standby);
$scene->wait_for_appends(150, 'asynchronous: writers go on at the new primary');
my $cut = $standby->safe_psql('postgres', "SELECT max(position) FROM es_events WHERE position <= $given");
cmp_ok($scene->check('asynchronous', lossy => 1), '>', 0, 'asynchronous: what was acknowledged after the last that arrived is lost');
is($standby->safe_psql('postgres', "SELECT count(*) FROM es_events WHERE position > $cut AND position <= $given"), '0', 'asynchronous: none of their positions comes back');
is(gaps($standby, 'postgres'), '', 'asynchronous: streams go on from what arrived');
$standby->stop;

done_testing();
