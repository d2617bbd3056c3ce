# Drill: processes of a server in use are killed with kill -9, stopped for a while, and cut off; the server is stopped at
# once.  Nothing acknowledged is lost, nothing skipped, nothing doubled, and all go on.  DRILL_ROUNDS (1) repeats it,
# ES_SEED has it in the same order.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use List::Util qw(shuffle);
use Test::More;

seed();
my $rounds = $ENV{DRILL_ROUNDS} // 1;
my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 32MB\nrestart_after_crash = on\ncheckpoint_timeout = 30s\n");
my $scene = EventstoreScene->start($node);

# pids(condition): of sessions and processes of the server.
sub pids { return rows($node, 'postgres', "SELECT pid FROM pg_stat_activity WHERE $_[0] ORDER BY random()") }

# kill_server_process(name, condition): kill -9, upon which the server ends all sessions and recovers.
sub kill_server_process
{
	my ($name, $condition) = @_;
	my $pid;

	wait_until($name, sub { ($pid) = pids($condition); $pid }) or return fail("there is a $name");
	# the others are replaced, too, once it has recovered
	ok(crash_server($node, $pid), "$name is killed: the server recovers");
}

my %drills = (
	'a writer\'s session' => sub { kill_server_process('a session that appends', "application_name LIKE 'scene writer%'") },
	'the worker' => sub { kill_server_process('the worker', "backend_type = 'eventstore worker' AND datname = 'postgres'") },
	'a walsender' => sub { kill_server_process('the walsender of a feed', "backend_type = 'walsender'") },
	'the checkpointer' => sub { kill_server_process('the checkpointer', "backend_type = 'checkpointer'") },
	'immediate stop' => sub { $node->stop('immediate'); $node->start; },
	'clients' => sub { $scene->kill_program($_) foreach 'member 1', 'member of orders', 'follower', 'writer 1', 'feed' },
	'connections' => sub {
		# all of them at once: whoever is hit in the middle of a commit does not know of it
		my $cut = $node->safe_psql('postgres', "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'scene%' OR backend_type = 'walsender'");
		cmp_ok($cut, '>=', 8, 'all connections are cut');
	},
	'the worker stands' => sub {
		my ($pid) = pids("backend_type = 'eventstore worker' AND datname = 'postgres'");
		return unless $pid;
		kill 'STOP', $pid;
		$scene->wait_for_appends(100, 'the worker stands still: appends go on');
		kill 'CONT', $pid;
	},
	'a member stands' => sub {
		# longer than its lease: another one takes over, and fences it off
		$scene->signal_program('member 1', 'STOP');
		ok(wait_until('the other member', sub { $node->safe_psql('postgres',
			"SELECT count(*) = 0 FROM es_subscriptions WHERE subscription = 'everything' AND member = 'm1' AND lease_until > clock_timestamp()") eq 't' }),
			'a member stands still: its leases end');
		$scene->signal_program('member 1', 'CONT');
	});

for (1 .. $rounds)
{
	foreach my $name (shuffle sort keys %drills)
	{
		note $name;
		$scene->wait_for_appends(30);
		$drills{$name}->();
		$scene->wait_for_appends(30, "$name: appends go on");
	}
}
$scene->check('after all of that');
done_testing();
