# Drill: a server on a small file system of its own, under a store in use.  Somebody fills the disk; what needs room is
# refused, and WAL without room stops the server, which recovers once the disk is freed.  Nothing acknowledged is lost.
# The file system is a tmpfs in a mount namespace of an unprivileged user (unshare); where the kernel does not allow that,
# drill_machine.pl, which has the same by a library, is all there is, and this says so.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreScene;
use EventstoreTest;
use IO::Handle;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $allowed = IPC::Run::run([ 'unshare', '-rm', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt && exec unshare -U --map-user=1000 --map-group=1000 true' ], '>', \my $out, '2>', \my $err);
plan skip_all => "no namespaces for users here: $err" unless $allowed;

seed();
my $rounds = $ENV{DRILL_ROUNDS} // 1;
my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\nmax_worker_processes = 20\nshared_buffers = 32MB\nrestart_after_crash = on\nmin_wal_size = 32MB\nmax_wal_size = 64MB\nfsync = off\n");
my $data = $node->data_dir;
my $log = $node->logfile;
my $connection = $node->connstr('postgres') . ' user=' . getpwuid($>);

# The shell in the namespace, which outlives the server.
$node->stop;
$node->{_pid} = undef;
open my $shell, '|-', 'unshare', '-rm', 'sh' or die $!;
$shell->autoflush(1);
local $SIG{PIPE} = 'IGNORE';
sub inside { print $shell map { "$_\n" } @_ }
# postgres refuses to be root, even of a namespace
sub start_inside { inside("pg_ctl -D '$data' status >/dev/null 2>&1 || unshare -U --map-user=1000 --map-group=1000 pg_ctl -D '$data' -l '$log' -W start >/dev/null 2>&1 </dev/null") }
inside("cp -a '$data' '$data.copy' && mount -t tmpfs -o size=230m tmpfs '$data' && chmod 700 '$data' && cp -a '$data.copy/.' '$data' && rm -rf '$data.copy'");
start_inside();

# Nobody outside sees its postmaster.pid, so the test ends the server, whatever ends the test.
END
{
	my $status = $?;

	if ($shell)
	{
		inside("unshare -U --map-user=1000 --map-group=1000 pg_ctl -D '$data' -m immediate stop >/dev/null 2>&1");
		close $shell;
	}
	$? = $status;
}

# ask(sql): an answer, undef if there is none.
sub ask
{
	my ($sql) = @_;
	my ($ret, $got) = eval { $node->psql('postgres', $sql, connstr => $connection) };   # a psql may be gone before it has its query

	return defined $ret && $ret == 0 ? $got : undef;
}
ok(wait_until('the server', sub { defined ask('SELECT 1') }), 'it starts on the small disk');

# errors(sqlstate): how many of these programs have met.
sub errors
{
	my ($scene, $state) = @_;
	my $count = 0;

	foreach my $file (glob "$scene->{dir}/log/*.err")
	{
		open my $in, '<', $file or next;
		$count += grep { /^$state/ } <$in>;
	}
	return $count;
}

my $scene = EventstoreScene->start($node, batch => 60);
for my $round (1 .. $rounds)
{
	foreach my $what ('data', 'WAL')
	{
		$scene->wait_for_appends(40);
		my $before = errors($scene, '53100');
		my $ends = grep { /PANIC|terminated by signal|database system is shut down/ } split /\n/, slurp_file($log);
		inside("dd if=/dev/zero of='$data/ballast' bs=64k 2>/dev/null");
		if ($what eq 'data')
		{
			ok(wait_until('a full disk', sub { errors($scene, '53100') > $before || !defined ask('SELECT 1') }), 'the disk is full: appends are refused with 53100');
		}
		else
		{
			# more WAL than there are files for
			ok(wait_until('the end of WAL', sub {
				ask("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 16000000))");
				grep({ /PANIC|terminated by signal|database system is shut down/ } split /\n/, slurp_file($log)) > $ends || errors($scene, '53100') > $before + 50;
			}), 'the disk is full: there is no room for WAL');
		}
		inside("rm -f '$data/ballast'");
		my $asked = 0;
		ok(wait_until('the server', sub {
			return 1 if defined ask('SELECT 1');
			# one that could not even recover has ended: whoever freed the disk starts it
			start_inside() if ++$asked % 10 == 0;
			return 0;
		}), 'the disk is freed: the server is there');
		$scene->wait_for_appends(60, 'and appends go on');
	}
}
$scene->check('after all of that', allow => '53100,58030');
done_testing();
