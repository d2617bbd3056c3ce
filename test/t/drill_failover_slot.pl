# A feed's slot goes along to the standby that is promoted, from PostgreSQL 17 on: its consumer streams on, has lost
# nothing, and was sent nothing that the standby had not got.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\n");
if ($primary->safe_psql('postgres', 'SHOW server_version_num') < 170000)
{
	is($primary->safe_psql('postgres', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'pg_replication_slots'::regclass AND attname = 'failover'}), '0',
		'before PostgreSQL 17 slots stay where they are');
	done_testing();
	exit;
}

seed();
my $user = getpwuid($>);
$primary->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('standby')});
my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', <<"END");
primary_slot_name = 'standby'
primary_conninfo = 'host=@{[ $primary->host ]} port=@{[ $primary->port ]} user=$user dbname=postgres application_name=standby'
hot_standby_feedback = on
sync_replication_slots = on
END
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'\nsynchronized_standby_slots = 'standby'\n");
$primary->reload;

my $dsn = 'host=' . join(',', map { $_->host } $primary, $standby) . ' port=' . join(',', map { $_->port } $primary, $standby)
  . " dbname=postgres target_session_attrs=read-write user=$user";
my $scene = EventstoreScene->start($primary, dsn => $dsn, feed => 0);
$primary->safe_psql('postgres', q{SELECT es_create_feed('scene')});
command_ok([ $primary->installed_command('psql'), '-XAtq', '-d', $primary->connstr('postgres') . ' replication=database', '-c', 'ALTER_REPLICATION_SLOT es_scene (FAILOVER true)' ],
	'a feed that goes along');
$scene->start_feed;
$scene->wait_for_appends(80, 'there is load');
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'es_scene' AND synced AND NOT temporary}), 'the standby has it');
$scene->wait_for_appends(80, 'which goes on');
$primary->stop('immediate');
$standby->promote;
$standby->append_conf('postgresql.conf', "synchronized_standby_slots = ''\n");
$standby->reload;
$scene->wait_for_appends(80, 'writers go on at the new primary');
is($scene->check('failover'), 0, 'nothing that was acknowledged is lost');
unlike(slurp_file("$scene->{dir}/feed.error"), qr/is lost/, 'the feed has gone on from its slot');
$standby->stop;
done_testing();
