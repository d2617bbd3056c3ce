# A cluster as people run it: patroni on three nodes, with etcd as its store, all on the
# loopback interface.  The nodes' configuration is the recipe of doc/operations.md, with
# addresses, folders and times of its own.
package EventstorePatroni;

use strict;
use warnings;

use EventstoreTest;
use HTTP::Tiny;
use JSON::PP;
use List::Util qw(first);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @programs = qw(patroni patronictl etcd etcdctl);
my @clusters;

# missing(): which of the programs are not installed.
sub missing
{
	return join(', ', grep { my $name = $_; !first { -x "$_/$name" } split /:/, $ENV{PATH} } @programs);
}

# start(options): a running cluster with a leader and two standbys.  A node stands for the installation and for
# nothing else.  Options: members (of etcd, 1), and what the recipe's dynamic configuration is to have otherwise.
sub start
{
	my ($class, %options) = @_;
	my $self = bless {
		installed => PostgreSQL::Test::Cluster->new('installed'),
		folder => PostgreSQL::Test::Utils::tempdir_short(),
		http => HTTP::Tiny->new(timeout => 1),
		options => \%options
	}, $class;

	push @clusters, $self;
	$self->start_dcs($options{members} // 1);
	$self->{nodes} = [ map { $self->describe_node($_) } 1 .. 3 ];
	$self->start_node($_) foreach @{ $self->{nodes} };
	wait_until('a leader', sub { $self->leader }) or BAIL_OUT($self->logs);
	wait_until('three members', sub { $self->running == 3 }) or BAIL_OUT($self->logs);
	return $self;
}

sub logs
{
	my ($self) = @_;

	return join("\n", map { my $file = $_; "== $file", grep { defined } (split /\n/, slurp_file($file))[ -30 .. -1 ] } glob "$self->{folder}/*/log");
}

# launch(folder, command): a program in a folder of its own, which has its pid as test/run asks of what it is to end.
sub launch
{
	my ($folder, @command) = @_;

	mkdir $folder;
	start_process([ 'bash', '-c', 'cd "$0" && echo $$ >daemon.pid && exec "$@" >>log 2>&1', $folder, @command ], "$folder/out", "$folder/err");
	wait_until("a pid in $folder", sub { -s "$folder/daemon.pid" });
	chomp(my $pid = slurp_file("$folder/daemon.pid"));
	return $pid;
}

# ---- etcd ----

# api(): by which patroni talks to etcd.  Before 3.0.3 a leader whose lock had run out took it back from the next one
# by the newer of the two.
sub api
{
	my ($said) = run_command([ 'patroni', '--version' ]);
	my ($major, $minor, $patch) = $said =~ /(\d+)\.(\d+)\.(\d+)/ or die $said;

	return $major * 10000 + $minor * 100 + $patch < 30003 ? 'etcd' : 'etcd3';
}

sub start_dcs
{
	my ($self, $members) = @_;

	foreach my $n (1 .. $members)
	{
		my ($client, $peer) = map { 'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
		push @{ $self->{dcs} }, { name => "etcd$n", client => $client, peer => $peer };
	}
	$self->start_member($_) foreach @{ $self->{dcs} };
	wait_until('etcd', sub { $self->{http}->get("$self->{dcs}[0]{client}/health")->{content} =~ /"true"/ }) or BAIL_OUT($self->logs);
}

# start_member(member): starts it, or starts it again.
sub start_member
{
	my ($self, $member) = @_;
	my @all = @{ $self->{dcs} };

	unlink "$self->{folder}/$member->{name}/daemon.pid";
	$member->{pid} = launch("$self->{folder}/$member->{name}", 'etcd', '--name', $member->{name}, '--data-dir', "$self->{folder}/$member->{name}/data",
		'--listen-client-urls', $member->{client}, '--advertise-client-urls', $member->{client},
		'--listen-peer-urls', $member->{peer}, '--initial-advertise-peer-urls', $member->{peer},
		'--initial-cluster', join(',', map { "$_->{name}=$_->{peer}" } @all), '--heartbeat-interval', 50, '--election-timeout', 500,
		'--unsafe-no-fsync', api() eq 'etcd' ? '--enable-v2' : ());
}

# ---- nodes ----

# recipe(): the configuration that doc/operations.md has.
sub recipe
{
	my $page = slurp_file('doc/operations.md');

	$page =~ /^```yaml\n(scope: .*?)^```$/ms or die 'no recipe';
	return $1;
}

sub describe_node
{
	my ($self, $n) = @_;
	my $folder = "$self->{folder}/node$n";
	my %node = (name => "node$n", folder => $folder, data => "$folder/data", port => PostgreSQL::Test::Cluster::get_free_port(), rest => PostgreSQL::Test::Cluster::get_free_port());
	my $installed = $self->{installed};
	my $bin = $installed->config_data('--bindir');
	my %dynamic = (ttl => 5, loop_wait => 1, retry_timeout => 2, %{ $self->{options}{dynamic} // {} });
	my $conf = recipe();

	mkdir $folder;
	$conf =~ s/^etcd:/api() . ':'/me;
	$conf =~ s/^name: \K.*$/$node{name}/m;
	$conf =~ s/^  hosts: \K.*$/join(',', map { $_->{client} =~ s!http:\/\/!!r } @{ $self->{dcs} })/me;
	$conf =~ s/10\.0\.0\.1:8008/127.0.0.1:$node{rest}/g;
	$conf =~ s/10\.0\.0\.1:5432/127.0.0.1:$node{port}/g;
	$conf =~ s!10\.0\.0\.0/24!127.0.0.1/32!g;
	$conf =~ s!^  data_dir: \K.*$!$node{data}!m;
	$conf =~ s!^  bin_dir: \K.*$!$bin!m;
	$conf =~ s!^  pgpass: \K.*$!$folder/pgpass!m;
	$conf =~ s!^(\s+)$_: \K.*$!$dynamic{$_}!m foreach keys %dynamic;
	$conf =~ s!^  custom_conf: \K.*$!$folder/custom.conf!m;
	$conf =~ s!^(        )wal_level: !$1$_\n${1}wal_level: !m foreach @{ $self->{options}{parameters} // [] }, "fsync: 'off'", 'shared_buffers: 32MB';
	$conf =~ s!^  pg_hba:!  parameters:\n    unix_socket_directories: $folder\n  pg_hba:!m;
	$conf =~ s!local all all peer!local all all trust!;
	append_to_file("$folder/patroni.yml", $conf);
	append_to_file("$folder/custom.conf", has_allow_list($installed) ? "output_plugin_libraries = 'pgoutput, eventstore'\n" : '');
	return \%node;
}

# start_node(node): starts patroni there, or starts it again.
sub start_node
{
	my ($self, $node) = @_;

	unlink "$node->{folder}/daemon.pid";
	$node->{pid} = launch($node->{folder}, 'patroni', "$node->{folder}/patroni.yml");
}

sub ask
{
	my ($self, $node, $what) = @_;

	return $self->{http}->get("http://127.0.0.1:$node->{rest}/$what");
}

# leader(): the node that has the lock and takes writes, or nothing.
sub leader
{
	my ($self) = @_;

	return first { $self->ask($_, 'leader')->{success} } @{ $self->{nodes} };
}

# running(): the nodes that are up, as leader or as standbys that follow.
sub running
{
	my ($self) = @_;

	return grep { $self->ask($_, 'health')->{success} } @{ $self->{nodes} };
}

# synchronous(): the standbys that commits wait for.
sub synchronous
{
	my ($self) = @_;

	return grep { $self->ask($_, 'synchronous')->{success} } @{ $self->{nodes} };
}

sub postmaster
{
	my ($node) = @_;

	return unless -s "$node->{data}/postmaster.pid";
	my ($pid) = split /\n/, slurp_file("$node->{data}/postmaster.pid");
	return $pid;
}

# processes(node): patroni and all of the server there.
sub processes
{
	my ($self, $node) = @_;
	my $postmaster = postmaster($node);
	my @pids = ($node->{pid}, $postmaster // ());

	foreach my $status (glob '/proc/[0-9]*/stat')
	{
		open my $in, '<', $status or next;
		my $line = <$in> // next;
		push @pids, $1 if $postmaster && $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $postmaster;
	}
	return @pids;
}

# fail_node(node): the machine is gone, from one moment to the next.
sub fail_node
{
	my ($self, $node) = @_;

	kill 'KILL', $self->processes($node);
	wait_until("$node->{name} is gone", sub { !kill 0, postmaster($node) // return 1 });
}

sub pause_node { my ($self, $node) = @_; kill 'STOP', $self->processes($node) }
sub continue_node { my ($self, $node) = @_; kill 'CONT', $self->processes($node) }

# control(arguments): patronictl.
sub control
{
	my ($self, @arguments) = @_;
	my ($out, $err) = run_command([ 'patronictl', '-c', "$self->{nodes}[0]{folder}/patroni.yml", @arguments ]);

	note "patronictl @arguments\n$out\n$err";
	return $out;
}

# connstr(database): how clients find the leader, whoever it is.
sub connstr
{
	my ($self, $database, $attrs) = @_;
	my @nodes = @{ $self->{nodes} };

	return 'host=' . join(',', map { $_->{folder} } @nodes) . ' port=' . join(',', map { $_->{port} } @nodes)
	  . " user=postgres dbname=$database target_session_attrs=" . ($attrs // 'read-write');
}

# connstr_of(node, database)
sub connstr_of
{
	my ($self, $node, $database) = @_;

	return "host=$node->{folder} port=$node->{port} user=postgres dbname=$database";
}

# sql(connstr, sql): the answer; undef if there is none.
sub sql
{
	my ($self, $connstr, $sql) = @_;
	my ($out, $err);

	IPC::Run::run([ $self->{installed}->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $connstr ], '<', \$sql, '>', \$out, '2>', \$err) or do { note $err; return };
	chomp $out;
	return $out;
}

# stop(): ends all of it, by kill -9.
sub stop
{
	my ($self) = @_;

	foreach my $node (@{ $self->{nodes} // [] })
	{
		kill 'KILL', $self->processes($node) if $node->{pid};
	}
	kill 'KILL', map { $_->{pid} // () } @{ $self->{dcs} // [] };
	$self->{nodes} = $self->{dcs} = [];
}

END
{
	my $status = $?;

	$_->stop foreach @clusters;
	$? = $status;
}

1;
