# A pool between clients and a node: PgBouncer.
package EventstorePool;

use strict;
use warnings;

use Exporter 'import';
use EventstoreTest;
use List::Util qw(first);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(pool_missing start_pool);

my $bouncer = first { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';

# pool_missing(): why there can be no pool here, or nothing.
sub pool_missing
{
	return 'pgbouncer is not installed (tools/setup installs it)' unless $bouncer;
	return 'pgbouncer does not run as root' if $> == 0;
	return;
}

# start_pool(node, store, databases): a pool that looks like a node to what starts psql. Its
# databases, each with its settings, are all the one store.
sub start_pool
{
	my ($node, $store, %databases) = @_;
	my ($said) = run_command([ $bouncer, '--version' ]);
	my ($major, $minor) = $said =~ /(\d+)\.(\d+)/;
	my $pool = bless {
		node => $node,
		folder => PostgreSQL::Test::Utils::tempdir_short(),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		user => scalar getpwuid($>),
		keeps_statements => $major > 1 || $minor >= 21,
		takes_over => $major == 1 && $minor < 26,
		last => 1
	};
	my $server = 'host=' . $node->host . ' port=' . $node->port . " dbname=$store";

	append_to_file("$pool->{folder}/users", qq{"$pool->{user}" ""\n});
	append_to_file("$pool->{folder}/ini", join("\n", '[databases]', (map { "$_ = $server $databases{$_}" } sort keys %databases), <<"END"));

[pgbouncer]
unix_socket_dir = $pool->{folder}/1
listen_addr = 127.0.0.1
listen_port = $pool->{port}
auth_type = trust
auth_file = $pool->{folder}/users
logfile = $pool->{folder}/log
server_reset_query = DISCARD ALL
server_round_robin = 1
max_client_conn = 100
ignore_startup_parameters = extra_float_digits, options
admin_users = $pool->{user}
END
	append_to_file("$pool->{folder}/ini", "max_prepared_statements = 100\n") if $pool->{keeps_statements};
	append_to_file("$pool->{folder}/ini", "so_reuseport = 1\n") unless $pool->{takes_over};
	note $said;
	$pool->run;
	return $pool;
}

# run(options): starts one, in the place that clients know.
sub run
{
	my ($pool, @options) = @_;

	mkdir "$pool->{folder}/1";
	$pool->begin("$pool->{folder}/ini", "$pool->{folder}/1", @options);
	return;
}

# begin(ini, sockets, options): starts one with these settings, and shows clients to its sockets.
sub begin
{
	my ($pool, $ini, $sockets, @options) = @_;

	$pool->{process} = start_process([ $bouncer, @options, $ini ], "$pool->{folder}/out", "$pool->{folder}/err");
	wait_until('the pool', sub { -S "$sockets/.s.PGSQL.$pool->{port}" }) or BAIL_OUT(slurp_file("$pool->{folder}/err"));
	symlink $sockets, "$pool->{folder}/new" or die $!;
	rename "$pool->{folder}/new", $pool->host or die $!;
	return;
}

# start_again(): kill -9, and another one.
sub start_again
{
	my ($pool) = @_;

	foreach my $process ($pool->{process}, $pool->{leaving} // ())
	{
		$process->signal('KILL');
		$process->finish;
	}
	delete $pool->{leaving};
	unlink glob "$pool->{folder}/*/.s.PGSQL.$pool->{port}";
	return $pool->run;
}

# hand_over(): another one takes the place of this one: with its connections, or, since PgBouncer
# 1.26 cannot do that, for those who connect from now on, and this one leaves with its last client.
sub hand_over
{
	my ($pool) = @_;
	my $before = $pool->{process};

	if ($pool->{takes_over})
	{
		$pool->run('-R');
		return wait_until('the pool before is gone', sub { !$before->pumpable });
	}
	my $next = "$pool->{folder}/" . ++$pool->{last};
	my $leaving = sub { return scalar(() = slurp_file("$pool->{folder}/log") =~ /waiting for all clients/g) };
	my $left = $leaving->();

	mkdir $next;
	append_to_file("$next/ini", slurp_file("$pool->{folder}/ini") =~ s/^(unix_socket_dir = ).*/$1$next/mr);
	$pool->begin("$next/ini", $next);
	$pool->{leaving} = $before;
	$before->signal('TERM');
	return wait_until('the pool before to take nobody any more', sub { $leaving->() > $left });
}

sub stop { $_->kill_kill foreach grep { defined } @{ $_[0] }{ 'process', 'leaving' }; return }
sub host { return "$_[0]{folder}/sockets" }
sub port { return $_[0]{port} }
sub installed_command { return $_[0]{node}->installed_command($_[1]) }
sub connstr { return "host=" . $_[0]->host . " port=$_[0]{port} user=$_[0]{user} dbname=$_[1]" }

1;
