# A chore of the worker that fails (retention here) ends its transaction, and what it has registered
# with it. The worker hears of what is appended afterwards all the same. What has failed is tried again
# soon, however seldom it is to be done.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\n");
my $failures = q{SELECT value FROM es_metrics() WHERE name = 'eventstore_worker_failures_total' AND labels->>'task' = 'retention'};
my $taken_in = q{SELECT position >= (SELECT max(position) FROM es_events) AND error IS NULL FROM es_projections WHERE projection = 'counts'};

$node->safe_psql('postgres', $_) foreach ('CREATE EXTENSION eventstore', q{SELECT es_append('a-1', 'A')}, q{SELECT es_create_projection('counts', 'count', 'async')});
ok($node->poll_query_until('postgres', $taken_in), 'a projection follows');

my $offset = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER TABLE eventstore.retention RENAME TO hidden');
$node->safe_psql('postgres', q{SELECT es_create_projection('nudge', 'last', 'async')});
ok($node->poll_query_until('postgres', "SELECT ($failures) >= 3"), 'a chore fails, and fails again');
$node->safe_psql('postgres', 'ALTER TABLE eventstore.hidden RENAME TO retention');
$node->wait_for_log(qr/background work of the event store goes well again: retention/, $offset);

# The worker would come by by itself in a minute.
{
	local $PostgreSQL::Test::Utils::timeout_default = 30;

	$node->safe_psql('postgres', q{SELECT es_append('a-1', 'A')});
	ok($node->poll_query_until('postgres', $taken_in), 'the worker is told of an append');
}

# Seals and marks that are to be made once in an hour.
foreach ([ 'sealing', 'seals', 'seal_interval', q{SELECT count(*) > 0 FROM es_seals} ],
	[ 'settling', 'settled_mark', 'settle_interval', q{SELECT position >= (SELECT max(position) FROM es_events) FROM eventstore.settled_mark} ])
{
	my ($task, $table, $setting, $done) = @$_;
	my $count = "SELECT COALESCE(max(value), 0) FROM es_metrics() WHERE name = 'eventstore_worker_failures_total' AND labels->>'task' = '$task'";

	$node->safe_psql('postgres', "ALTER TABLE eventstore.$table RENAME TO hidden");
	foreach my $interval ('1s', '1h')
	{
		$node->safe_psql('postgres', "ALTER SYSTEM SET eventstore.$setting = '$interval'");
		$node->reload;
		my $before = $node->safe_psql('postgres', $count);
		$node->safe_psql('postgres', q{SELECT es_append('a-1', 'A')});
		ok($node->poll_query_until('postgres', "SELECT ($count) > $before"), "$task fails, which is to be done every $interval");
	}
	$node->safe_psql('postgres', "ALTER TABLE eventstore.hidden RENAME TO $table");
	ok($node->poll_query_until('postgres', $done), '... and is tried again soon');
}

done_testing();
