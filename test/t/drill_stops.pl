# Drill: the server is stopped at once, and goes on, under a store in use.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use Test::More;

seed();
my $rounds = $ENV{DRILL_ROUNDS} // 1;
my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\n");
my $scene = EventstoreScene->start($node);

for (1 .. $rounds)
{
	$scene->wait_for_appends(100);
	$node->stop('immediate');
	$node->start;
	$scene->wait_for_appends(100, 'appends go on after an immediate stop');
}
$scene->check('immediate stop');
done_testing();
