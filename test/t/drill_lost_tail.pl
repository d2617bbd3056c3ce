# Drill: the server goes while commits are in its memory only, not even written to the file.  Locks are given back by then
# (eventstore.early_release), so others have appended after such events, and a reader of the table has seen them: a crash
# takes all of that back.  Nothing that was acknowledged is lost, nothing that a reader of the log, a consumer or a feed
# was given is another one afterwards.  DRILL_ROUNDS (1) repeats it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFaults;
use EventstoreScene;
use EventstoreTest;
use Test::More;

seed();
my $rounds = 4 * ($ENV{DRILL_ROUNDS} // 1);
my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 128MB\nwal_buffers = 16MB\nwal_writer_delay = '10s'\n");
my $faults = EventstoreFaults->prepare($node);
my $scene = EventstoreScene->start($node, pace => 100);
my $lost = 0;

sub q_ { return $node->safe_psql('postgres', $_[0]) }

# in_memory(): sessions that wait for the WAL to be written, or write it.
sub in_memory { return q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'scene%' AND wait_event ~* '^wal'}) }

for my $round (1 .. $rounds)
{
	$scene->wait_for_appends(100, "round $round: appends go on");
	$faults->set(held => 1);
	ok(wait_until('commits in memory', sub { in_memory() >= 3 && q_('SELECT pg_current_wal_insert_lsn() > pg_current_wal_lsn()') eq 't' }),
		'commits wait, the server cannot write its WAL');
	my $newest = q_('SELECT array_agg(event_id) FROM (SELECT event_id FROM eventstore.events ORDER BY position DESC LIMIT 100) e');
	$node->stop('immediate');
	$faults->set;
	$faults->start;
	$lost += q_("SELECT count(*) FROM unnest('$newest'::uuid[]) id WHERE NOT EXISTS (SELECT 1 FROM eventstore.events WHERE event_id = id)");
}
cmp_ok($lost, '>', 0, 'a crash took events back that were in the table');
$scene->wait_for_appends(100, 'and appends go on');
$scene->check('after all of that');
done_testing();
