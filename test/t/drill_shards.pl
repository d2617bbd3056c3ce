# Drill: slots move from two shards to a third while writers append through the router and all shards are followed, by
# one follower of all, and by members, followers and projections at each.  Meanwhile source, target or router is killed
# by kill -9, before the fence and after it, and the move is called again, or cancelled first.  Nothing acknowledged is
# lost, nothing skipped, nothing doubled.  TEST_LONG has each of them in each place, and not one of them; ES_SEED has the
# same again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreShards;
use EventstoreTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = router_missing();
plan skip_all => $missing if $missing;
seed();

my ($router, @shards) = start_shards(3, 2, "shared_buffers = 16MB\nrestart_after_crash = on\n");
my %nodes = (router => $router, target => $shards[2]);

sub ask { return $router->safe_psql('router', $_[0]) }

# who is told that a slot has been on its way for too long does not try again
$router->safe_psql('postgres', q{ALTER DATABASE router SET scaleout.patience = '100s'});
my $user = getpwuid($>);
my @at = map { EventstoreScene->start($_, dsn => $_->connstr('store') . " user=$user", writers => 0, members => 1, feed => 0) } @shards;
my $scene = EventstoreScene->start($router, dsn => $router->connstr('router') . " user=$user", shards => \@at, writers => 4, pace => 30);
$scene->wait_for_appends(100, 'there is load');

# move(slots, cancel first): called until it comes to its end; the call that was broken may have done so, too.
sub move
{
	my ($slots, $cancel) = @_;

	foreach my $call (($cancel ? "CALL es_cancel_move($slots, 2)" : ()), "CALL es_move_slots($slots, 2)")
	{
		my $last;

		wait_until($call, sub { (my $ret, undef, $last) = $router->psql('router', $call); $ret == 0 || $last =~ /slots have come to shard 2/ }) or return fail("$call: $last");
	}
	return 1;
}

# break_move(slots, source, victim, stage, cancel): a move, and a kill in the middle.
sub break_move
{
	my ($slots, $source, $victim, $stage, $cancel) = @_;
	my $name = "$victim is killed " . ($stage eq 'fence' ? 'after the fence' : 'before it') . ($cancel ? ', then cancelled' : '');
	my $node = $nodes{$victim} // $shards[$source];
	my $holder = $shards[$source]->background_psql('store');

	# before the fence it waits for an append to the slots, and after it for any that has begun before
	$holder->query_safe('BEGIN; ' . ($stage eq 'fence' ? q{SELECT es_append('held-1', 'H')} : "SELECT scaleout.enter($source, ($slots)[1:1])"));
	my $mover = start_named($router, 'router', 'mover', "CALL es_move_slots($slots, 2);");
	ok($shards[$source]->poll_query_until('store', $stage eq 'fence' ? "SELECT count(*) > 0 FROM scaleout.slots WHERE shard = 2 AND slot = ANY ($slots)"
		: q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND mode = 'ExclusiveLock'}), "$name: the move is there");
	ok(crash_server($node), "$name: the server recovers");
	$holder->{run}->kill_kill;
	finish_script($mover);
	ok(move($slots, $cancel), "$name: called again it comes to its end");
	is($shards[2]->safe_psql('store', "SELECT count(*) FROM scaleout.slots WHERE shard = 2 AND slot = ANY ($slots)"), ask("SELECT cardinality($slots)"), "$name: the slots are there");
	$scene->wait_for_appends(30, "$name: appends go on");
}

my @cases = map { my $victim = $_; map { my $stage = $_; map { [ $victim, $stage, $_ ] } 0, 1 } qw(begin fence) } qw(router source target);
my $calls = $ENV{TEST_LONG} ? scalar(@cases) : 2;
my @broken = (shuffle @cases)[ 0 .. $calls - 1 ];
# a third of each shard's slots, in as many calls as there are kills, and one that nothing breaks
my $portion = int(2730 / ($calls / 2 + 1));
foreach my $source (0, 1)
{
	ok(move(slots_of($router, $source, $portion)), "shard $source gives slots");
	$scene->kill_program($_) foreach 'all', 'writer 1';
	$at[2]->kill_program('member 1');
	break_move(slots_of($router, $source, $portion), $source, @{ shift @broken }) for 1 .. $calls / 2;
}
is(ask('SELECT string_agg(n::text, $$ $$ ORDER BY shard) FROM (SELECT shard, count(*) AS n FROM scaleout.slots GROUP BY 1) s'),
	join(' ', (8192 - $portion * ($calls / 2 + 1)) x 2, 2 * $portion * ($calls / 2 + 1)), 'three shards have slots');
$scene->wait_for_appends(50, 'appends go on');
# who begins now finds what has moved at its new shard long before he has come to the fence at the old one
$scene->add_shards_follower('late', 5);
ok(wait_until('a late follower', sub { -s "$scene->{dir}/log/s-late.bin" }), 'somebody begins late');
$scene->check('two shards have become three');

# ---- the checker sees what it is for: notes, and what a shard says of copies, are changed ----
my @notes = unpack '(a24)*', slurp_file("$scene->{dir}/log/s-all.bin");
my ($some) = grep { $_ > 50 && (unpack 'q>3', $notes[$_])[2] } 0 .. $#notes;
# the last event of the third shard that is not the first of its stream
my $late = $shards[2]->safe_psql('store', q{SELECT max(position) FROM es_events WHERE version > 1 AND stream <> 'scaleout-moves' AND NOT scaleout.is_copy(stream, position)});
my ($moved) = grep { my ($shard, $position, $digest) = unpack 'q>3', $notes[$_]; $digest && $shard == 2 && $position == $late } 0 .. $#notes;
foreach my $case ([ 'an event that the follower of all shards skipped' => [ grep { $_ != $some } 0 .. $#notes ], 'follower all of shard \d: \d+ events up to' ],
	[ 'one that it had twice' => [ 0 .. $some, $some .. $#notes ], 'follower all of shard \d: position \d+ comes after' ],
	[ 'one that it had before its stream\'s former ones' => [ $moved, grep { $_ != $moved } 0 .. $#notes ], 'follower all: \S+ version \d+ comes after 0' ],
	[ 'a follower that stays away' => [ 0 .. $some ], 'follower all of shard \d stays at' ])
{
	my ($what, $order, $finding) = @$case;

	EventstoreScene::finds($what, $scene->changed('log/s-all.bin', sub { $_ = join('', @notes[@$order]) }), $finding);
}
EventstoreScene::finds('a version that was not told', $scene->changed('log/w-*', sub { s/^(A\t\d+\torder-\d+\t)(\d+)/$1 . ($2 + 1)/me }), 'was told version');
$shards[2]->safe_psql('store', 'UPDATE scaleout.takings SET cut = begun');
EventstoreScene::finds('a copy that passes for another event', $scene->{dir}, 'stream \S+: version \d+ at position \d+ follows');
done_testing();
