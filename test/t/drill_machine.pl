# Drill: the disk is full and is freed, memory runs out, the clock is set back and forward, under a store in use.
# DRILL_ROUNDS (1) repeats it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFaults;
use EventstoreScene;
use EventstoreTest;
use Test::More;

seed();
my $rounds = $ENV{DRILL_ROUNDS} // 1;
my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 32MB\nrestart_after_crash = on\nmin_wal_size = 32MB\nmax_wal_size = 64MB\n");
my $faults = EventstoreFaults->prepare($node);
my $scene = EventstoreScene->start($node, batch => 40);

# is_up(): whether the server takes connections.
sub is_up { return eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 } }     # a psql may be gone before it has its query

# come_back(): a server that could not even recover has ended, and is started again, as who freed the disk does.
sub come_back
{
	return wait_until('the server', sub {
		return 1 if is_up();
		if (!-e $node->data_dir . '/postmaster.pid')
		{
			note 'the server has ended';
			$node->{_pid} = undef;
			$faults->start(fail_ok => 1);
		}
		return 0;
	});
}

# errors(sqlstate): how many of these programs have met.
sub errors
{
	my ($state) = @_;
	my $count = 0;

	foreach my $file (glob "$scene->{dir}/log/*.err")
	{
		open my $in, '<', $file or next;
		$count += grep { /^$state/ } <$in>;
	}
	return $count;
}

for (1 .. $rounds)
{
	# ---- the disk is full: what needs room fails, or WAL does, and then the server recovers once there is room ----
	$scene->wait_for_appends(30);
	$faults->set(full => 1);
	my $position = $node->safe_psql('postgres', 'SELECT es_settled_position()');
	ok(wait_until('a full disk', sub { errors('53100') > 0 || !is_up() }), 'the disk is full: appends are refused with 53100, or the server stops');
	$faults->set;
	ok(come_back(), 'the disk is freed: the server is there');
	$scene->wait_for_appends(60, 'and appends go on');
	cmp_ok($node->safe_psql('postgres', 'SELECT es_settled_position()'), '>', $position, 'after what there was');

	# ---- memory ----
	my $before = errors('53200');
	$faults->set(memory => 3);
	ok(wait_until('no memory', sub { errors('53200') > $before + 20 }), 'memory runs out: statements are refused with 53200');
	$faults->set;
	ok(come_back(), 'there is memory again');
	$scene->wait_for_appends(60, 'and appends go on');
	is($node->safe_psql('postgres', q{SELECT status, error FROM es_projections WHERE status = 'failed' AND NOT error ~ 'memory|No space left'}), '', 'no projection has failed for another reason');

	# ---- the clock ----
	foreach my $seconds (86400, -86400)
	{
		my $at = $node->safe_psql('postgres', 'SELECT es_settled_position()');
		$faults->set(clock => $seconds);
		$scene->wait_for_appends(60, "the clock is $seconds s off: appends go on");
		is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT recorded_at < lag(recorded_at) OVER (PARTITION BY stream ORDER BY version) AS back FROM es_events) e WHERE back"),
			'0', 'within a stream recorded_at never decreases');
		ok($node->poll_query_until('postgres', "SELECT every(position > $at) FROM es_projections"), 'read models follow');
		ok($node->poll_query_until('postgres', "SELECT every(position > $at) FROM es_subscriptions WHERE subscription = 'orders'"), 'so do consumers');
		$faults->set;
		$scene->wait_for_appends(30, 'the clock is right again: appends go on');
	}
}
$scene->check('after all of that', allow => '53100,53200,58030');
done_testing();
