# A cluster with failover, as people run it: patroni and etcd, three nodes, commits that wait for one standby, by the
# recipe of doc/operations.md.  Under a store in use the leader's machine is gone, and the leader sleeps until another
# one leads: nothing that was acknowledged is lost, nobody writes beside the leader, and readers go on, on standbys,
# too.  PATRONI_ROUNDS has so many faults at random follow, with switch-overs, patroni or the server alone gone, and
# members of etcd; PATRONI_ASYNC=1 has commits wait for no standby: then what was acknowledged may be lost, and is told.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstorePatroni;
use EventstoreScene;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

is(EventstorePatroni::missing(), '', 'patroni and etcd are installed') or BAIL_OUT('tools/setup installs them');
seed();
my $rounds = $ENV{PATRONI_ROUNDS} // 0;
my $async = $ENV{PATRONI_ASYNC} // 0;
my $cluster = EventstorePatroni->start(members => $rounds ? 3 : 1, dynamic => $async ? { synchronous_mode => 'false' } : {});
my $scene = EventstoreScene->start($cluster->{installed}, dsn => $cluster->connstr('postgres'), writers => 2, pace => 25);
my ($at, @seen) = (0);

# What a reader on a standby gets, if there is one that answers.
sub read_on_standby
{
	my $got = $cluster->sql($cluster->connstr('postgres', 'prefer-standby'), "SELECT position FROM es_read_all($at, NULL)") // return;

	push @seen, split /\n/, $got;
	$at = $seen[-1] if @seen;
}

# primaries(): the nodes whose server is no standby
sub primaries { return grep { ($cluster->sql($cluster->connstr_of($_, 'postgres'), 'SELECT pg_is_in_recovery()') // '') eq 'f' } @{ $cluster->{nodes} } }

# settle(name): there is one leader, two standbys follow it, and commits wait for one of them again.
sub settle
{
	my ($name) = @_;

	ok(wait_until('three members', sub { $cluster->leader && $cluster->running == 3 && primaries() == 1 && ($async || $cluster->synchronous == 1) }), "$name: all are back") or diag $cluster->logs;
	read_on_standby();
}

# another_leads(before): waits until it does.
sub another_leads
{
	my ($before, $name) = @_;

	ok(wait_until('another leader', sub { my $now = $cluster->leader; $now && $now != $before }), "$name: another node leads") or diag $cluster->logs;
	$scene->wait_for_appends(20, "$name: writers go on there");
	read_on_standby();
}

sub lose_leader
{
	my $leader = $cluster->leader // return;

	$cluster->fail_node($leader);
	another_leads($leader, 'the machine of the leader is gone');
	$cluster->start_node($leader);
	settle('the machine of the leader is gone');
}

sub switch_leader
{
	my $leader = $cluster->leader // return;

	# it is refused while no standby is there for it
	wait_until('a switch-over', sub { $cluster->control('switchover', '--force') =~ /Successfully switched/ });
	another_leads($leader, 'switch-over');
	settle('switch-over');
}

# Who is connected to it sleeps as well.
sub sleep_leader
{
	my $leader = $cluster->leader // return;
	my $append = sub { $cluster->sql($cluster->connstr_of($_[0], 'postgres'), q{SELECT es_append('beside-1', 'B', '{"w": "test", "n": 1, "i": 0, "k": "s", "v": 0}')}) };
	my $now;

	$cluster->pause_node($leader);
	ok(wait_until('another leader', sub { $now = $cluster->leader; $now && $now != $leader }), 'the leader sleeps: another node leads') or diag $cluster->logs;
	ok(wait_until('an append', sub { defined $append->($now) }), 'the leader sleeps: which takes appends');
	$cluster->continue_node($leader);
	ok($async || !defined $append->($leader), 'the leader wakes up: and takes no appends beside the new one');
	$scene->wait_for_appends(20, 'the leader wakes up: writers go on');
	settle('the leader wakes up');
}

# Who is connected to its server waits for a standby that follows another one, until patroni is back there.
sub lose_patroni
{
	my $leader = $cluster->leader // return;

	kill 'KILL', $leader->{pid};
	ok(wait_until('another leader', sub { my $now = $cluster->leader; $now && $now != $leader }), 'patroni of the leader is gone, its server is not: another node leads') or diag $cluster->logs;
	$cluster->start_node($leader);
	$scene->wait_for_appends(20, 'patroni is back: writers go on');
	settle('patroni is back');
}

sub lose_server
{
	my $leader = $cluster->leader // return;

	kill 'KILL', $cluster->postmaster($leader);
	$scene->wait_for_appends(20, 'the server of the leader is gone, its patroni is not: writers go on');
	settle('the server of the leader is gone, its patroni is not');
}

sub lose_member
{
	my $member = $cluster->{dcs}[ int rand @{ $cluster->{dcs} } ];

	kill 'KILL', $member->{pid};
	$scene->wait_for_appends(40, 'a member of etcd is gone: writers go on');
	$cluster->start_member($member);
	settle('a member of etcd is gone');
}

settle('in the beginning');
$scene->wait_for_appends(50, 'there is load');
lose_leader();
sleep_leader();
for (1 .. $rounds)
{
	my @faults = (\&switch_leader, \&lose_patroni, \&lose_server, \&lose_member, \&lose_leader, \&sleep_leader);

	# each once, then as it comes
	$faults[ $_ <= @faults ? $_ - 1 : int rand @faults ]->();
}
my $lost = $scene->check('failover', ($async ? 'lossy' : 'promoted') => 1, early => $rounds, allow => '42704');
is($async ? 0 : $lost, 0, 'nothing that was acknowledged is lost');

read_on_standby();
# a standby that was not promoted may have been ahead of the one that was
my %there = map { $_ => 1 } split /\n/, $cluster->sql($cluster->connstr('postgres'), "SELECT position FROM es_read_all(0, NULL, to_position => $at)");
delete @there{@seen};
is(join(' ', sort keys %there), '', 'a reader on standbys has skipped nothing');
is(join(' ', @seen), join(' ', sort { $a <=> $b } keys %{ { map { $_ => 1 } @seen } }), 'and got each event once, in order');
$cluster->stop;
done_testing();
