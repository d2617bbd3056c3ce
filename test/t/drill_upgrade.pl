# A store in use moves to a new cluster by pg_upgrade, and then to another one by pg_dump: nothing is lost, versions and
# positions go on, and so do followers, subscriptions, projections and a feed's file.  Where ES_NEW_BINDIR names the
# programs of a newer server, which has the extension, it is that one; else the same version.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Cwd qw(getcwd);
use EventstoreScene;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $conf = "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\n";
my $old = new_node('old', streaming => 'logical', conf => $conf);
my $bin = $ENV{ES_NEW_BINDIR} // $old->config_data('--bindir');
my $user = getpwuid($>);
my $checksums = $old->safe_psql('postgres', 'SHOW data_checksums') eq 'on';
my $scene = EventstoreScene->start($old, feed => ['--moved']);

# new_cluster(name): an empty one of the new version, not running.
sub new_cluster
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $ENV{ES_NEW_BINDIR} ? (install_path => $bin =~ s!/bin$!!r) : ());

	# as the old one is; from 18 on clusters have checksums unless told otherwise
	my ($help) = run_command([ "$bin/initdb", '--help' ]);
	$node->init(allows_streaming => 'logical', extra => [ $checksums ? '--data-checksums' : $help =~ /--no-data-checksums/ ? '--no-data-checksums' : () ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nmax_connections = 60\n$conf");
	$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, eventstore'\n") if has_allow_list($node);
	return $node;
}

# rest(node): nobody writes any more, and the feed has everything.
sub rest
{
	my ($node) = @_;

	$scene->stop_programs('^writer');
	my $end = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	$node->poll_query_until('postgres', qq{SELECT bool_and(confirmed_flush_lsn >= '$end') FROM pg_replication_slots});
	return $node->safe_psql('postgres', 'SELECT es_settled_position()');
}

# go_on(node, after, how): writers, and all others, there.
sub go_on
{
	my ($node, $after, $how) = @_;

	# writers roll back, too, so the first event may be behind a hole
	is($node->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq WHERE is_called'), $after, "$how: the next position is next");
	$scene->move_to($node->connstr('postgres') . " user=$user");
	$scene->restart_feed;
	$scene->run_program("writer $_") foreach 1 .. 3;
	$scene->wait_for_appends(80, "$how: appends go on");
	is($node->safe_psql('postgres', "SELECT count(*) > 0 FROM es_events WHERE position > $after"), 't', "$how: behind all there were");
}

# All but writers and the feed.
sub start_readers { $scene->run_program($_) foreach grep { !/^(writer|feed)/ } keys %{ $scene->{commands} } }

# carry(from, to): a dump of the one into the other, which then is equal.
sub carry
{
	my ($from, $to, $how) = @_;
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';

	$to->start;
	command_ok([ "$bin/pg_dump", '-Fd', '-j', 2, '-f', $dump, $from->connstr('postgres') ], "$how: pg_dump");
	command_ok([ "$bin/pg_restore", '-j', 2, '-e', '-d', $to->connstr('postgres'), $dump ], "$how: pg_restore");
	is(store_digest($to, 'postgres'), store_digest($from, 'postgres'), "$how: an equal store");
}

# ---- pg_upgrade ----  (where no client comes in between: in a socket folder of its own)
$scene->wait_for_appends(80, 'there is load');
my $last = rest($old);
if ($ENV{ES_NEW_BINDIR})
{
	my $dumped = new_cluster('dumped');
	$scene->stop_programs;
	carry($old, $dumped, 'into the newer version');
	$dumped->stop;
	start_readers();
}
my $new = new_cluster('new');
$old->stop;
my $back = getcwd;
chdir PostgreSQL::Test::Utils::tempdir() or die;
command_ok([ "$bin/pg_upgrade", '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old->config_data('--bindir'), '-B', $bin,
		'-s', PostgreSQL::Test::Utils::tempdir_short(), '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
chdir $back or die;
$new->start;
note $new->safe_psql('postgres', 'SELECT version()');
note $new->safe_psql('postgres', 'SELECT slot_name FROM pg_replication_slots');
go_on($new, $last, 'pg_upgrade');

# ---- pg_dump ----
$last = rest($new);
$scene->stop_programs;
my $copy = new_cluster('copy');
carry($new, $copy, 'pg_dump');
$new->stop;
start_readers();
go_on($copy, $last, 'pg_dump');

$scene->check('moved twice', allow => '42704');
is(gaps($copy, 'postgres'), '', 'streams are whole');
is($copy->safe_psql('postgres', 'SELECT count(*) FROM es_verify()'), '0', 'it is what was sealed');
$copy->stop;
done_testing();
