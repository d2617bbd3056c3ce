# A pool is restarted under a store in use, with transaction and with session pooling: handed over while its clients go
# on, and by kill -9.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstorePool;
use EventstoreScene;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

is(pool_missing(), undef, 'there is a pool') or BAIL_OUT('no pool');
seed();
# a pool passes no options on
my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\ntimezone = 'UTC'\n");

# those that wait have a connection each, and others take turns
my $pool = start_pool($node, 'postgres', transaction => 'pool_mode=transaction pool_size=8', session => 'pool_mode=session pool_size=20');
my $scene = EventstoreScene->start($node, dsn => $pool->connstr('transaction'), feed_dsn => $node->connstr('postgres'));

sub unknown { return scalar grep { /^U/ } map { split /\n/, slurp_file($_) } glob "$scene->{dir}/log/w-*.log" }

foreach my $mode ('transaction', 'session')
{
	if ($mode eq 'session')
	{
		$scene->move_to($pool->connstr($mode));
		$pool->start_again;
	}
	$scene->wait_for_appends(80, "$mode pooling: there is load");
	my $before = unknown();
	ok($pool->hand_over, "$mode pooling: another pool takes over");
	$scene->wait_for_appends(80, "$mode pooling: which goes on");
	is(unknown(), $before, "$mode pooling: no writer has noticed");
	$pool->start_again;
	$scene->wait_for_appends(80, "$mode pooling: writers connect again after kill -9");
}
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'scene%' AND application_name <> 'scene check'}), '>', 0, 'they are sessions of the pool');
# the server may end what was prepared while its writer connects again, and asks for the same
$scene->check('pool', allow => '42704');
$pool->stop;
$node->stop;
done_testing();
