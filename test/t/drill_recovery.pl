# A base backup is taken from a store in use, and is recovered to a point in time: a name, a place in the WAL, a time.
# What was committed by then is there, whole; what came later is gone, and its positions do not come back, however far
# behind that was; consumers that had seen it go on.
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
my $old = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\narchive_mode = on\n");
mkdir $old->archive_dir;
$old->append_conf('postgresql.conf', "archive_command = 'cp \"%p\" \"" . $old->archive_dir . "/%f\"'\n");
$old->reload;

# recover(name, target): a server of its own that ends its recovery there and goes on.
sub recover
{
	my ($name, $target) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($old, 'base', has_restoring => 1, standby => 0);
	$node->append_conf('postgresql.conf', "$target\nrecovery_target_action = promote\narchive_mode = off\n");
	$node->start;
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	return $node;
}

# mark(stream): an event that is or is not there afterwards
sub mark { return $old->safe_psql('postgres', "SELECT es_append('$_[0]', 'Mark', jsonb_build_object('w', 'mark', 'n', $_[1], 'i', 0, 'k', 's', 'v', 0))") }

my $scene = EventstoreScene->start($old, batch => 40, pace => 25, segment_size => 1000);
$scene->wait_for_appends(60, 'there is load');
$old->backup('base');
$scene->wait_for_appends(60, 'and goes on after the backup');
mark('mark-before', 1);
my $lsn = $old->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$old->safe_psql('postgres', q{SELECT pg_create_restore_point('before')});
my $time = $old->safe_psql('postgres', 'SELECT clock_timestamp()');
mark('mark-after', 2);
my $known = $old->safe_psql('postgres', q{SELECT max(last_position) FROM es_segments});
$scene->wait_for_appends(60);
wait_until('positions beyond the segments of then', sub { $old->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq') > $known });
$old->safe_psql('postgres', 'SELECT pg_switch_wal()');
$old->poll_query_until('postgres', q{SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_insert_lsn() - 16777216) FROM pg_stat_archiver});
# what monitoring has seen last, and room for what was given out since
my $given = 5000 + $old->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq');
$old->stop('immediate');

foreach my $case ([ 'by_lsn', "recovery_target_lsn = '$lsn'" ], [ 'by_time', "recovery_target_time = '$time'" ])
{
	my $node = recover(@$case);

	is($node->safe_psql('postgres', q{SELECT es_stream_version('mark-before'), es_stream_version('mark-after')}), '1|0', "$case->[0]: what was committed by then is there, what came later is not");
	is(gaps($node, 'postgres'), '', "$case->[0]: streams are whole");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM es_verify()'), '0', "$case->[0]: it is what was sealed");
	$node->stop('immediate');
}

# By name, and the store goes on there.  Positions beyond the segments that the recovered server knows have been given
# out, so it is told up to where: no writer can connect before.
my $new = recover('by_name', "recovery_target_name = 'before'");
cmp_ok($new->safe_psql('postgres', 'SELECT max(last_position) FROM es_segments'), '<', $given, 'by_name: the recovered server does not know how far positions got');
my $cut = $new->safe_psql('postgres', 'SELECT max(position) FROM es_events');
$new->safe_psql('postgres', "SELECT setval('eventstore.position_seq', $given)");
$scene->move_to($new->connstr('postgres') . ' user=' . getpwuid($>));
$scene->restart_feed;
$scene->wait_for_appends(60, 'by_name: writers go on');
$scene->stop_programs('^writer');
# what was prepared by then, and ended later, nobody ends any more
$new->safe_psql('postgres', "ROLLBACK PREPARED '$_'") foreach rows($new, 'postgres', 'SELECT gid FROM pg_prepared_xacts');
cmp_ok($scene->check('by_name', lossy => 1), '>', 0, 'by_name: what came after that is gone');
is($new->safe_psql('postgres', "SELECT count(*) FROM es_events WHERE position > $cut AND position <= $given"), '0', 'by_name: no position comes back');
is(gaps($new, 'postgres'), '', 'by_name: streams go on from where they were');
is($new->safe_psql('postgres', 'SELECT count(*) FROM es_verify()'), '0', 'by_name: what was sealed is intact');
$new->stop;

done_testing();
