# esfeed under fire: writers append, esfeed is killed with kill -9 and the server
# is stopped at once, in random order.  The file has every committed event
# exactly once.  ES_FEED_KILLS (10) says how often, ES_SEED repeats a run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $kills = $ENV{ES_FEED_KILLS} // 10;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main', "autovacuum = off\nmax_connections = 60\nwal_sender_timeout = '20s'\n");
my @writers;

# small segments: new ones come all the time
$node->safe_psql('postgres', 'SELECT es_set_segment_size(5000)');
$node->safe_psql('postgres', "SELECT count(es_append('old-' || n % 100, 'Old', to_jsonb(repeat('x', n % 500)))) FROM generate_series(1, 60000) n");

# Appends of all kinds; a client goes on until the server is stopped.
sub start_writers
{
	my $script = "$dir/write";

	append_to_file($script, q{
\set kind random(1, 20)
\set gid random(1, 1000000000)
BEGIN;
SELECT es_append('load-' || :client_id, 'A', jsonb_build_object('pad', repeat('x', 30 * :kind)));
SAVEPOINT s;
SELECT es_append('load-' || :client_id, 'Undone');
\if :kind <= 10
ROLLBACK TO s;
\endif
\if :kind <= 6
SELECT es_append_batch('shared-' || :kind, '[{"type": "B"}, {"type": "C"}]');
\endif
\if :kind = 7
SELECT count(es_append('large-' || n % 7, 'L', to_jsonb(n))) FROM generate_series(1, 1500) n;
\endif
\if :kind = 20
ROLLBACK;
\elif :kind >= 18
PREPARE TRANSACTION 'p:gid';
\if :kind = 19
ROLLBACK PREPARED 'p:gid';
\else
COMMIT PREPARED 'p:gid';
\endif
\else
COMMIT;
\endif
}) unless -e $script;
	push @writers, start_pgbench($node, $script, '-c', 4, '-T', 10000, '-R', 300);
}

sub stop_writers
{
	foreach my $writer (splice @writers)
	{
		$writer->signal('INT');
		$writer->finish;
	}
}

# A crash leaves transactions that were prepared: some end this way, some that.
sub finish_prepared
{
	foreach my $gid (split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'))
	{
		$node->safe_psql('postgres', (rand() < 0.5 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	}
}

my @run = ($node, '--feed', 'fire', '--create', '--to', "file:$dir/file");
my $run = start_esfeed(@run);
start_writers();

# at first while the feed is made, and while history is read
usleep(int(rand(100_000)));
kill_esfeed($run);
$run = start_esfeed(@run);
ok(wait_until('the feed', sub { -e "$dir/file.esfeed" }), 'it begins');
for (1 .. $kills)
{
	my %state = state_of("$dir/file");

	note "phase $state{phase}, low $state{low}, length $state{length} of " . -s "$dir/file";
	kill_esfeed($run);
	$run = start_esfeed(@run);
	usleep(int(rand(300_000)));
}

for my $n (1 .. $kills)
{
	usleep(int(rand(1_200_000)));
	my $dice = rand();
	if ($dice < 0.6)
	{
		note "$n: kill -9";
		kill_esfeed($run);
		usleep(int(rand(300_000))) if rand() < 0.5;
		$run = start_esfeed(@run);
	}
	elsif ($dice < 0.75)
	{
		note "$n: the connection is cut";
		$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'esfeed'");
	}
	else
	{
		my $both = rand() < 0.5;

		note "$n: the server stops" . ($both ? ', kill -9' : '');
		$node->stop('immediate');
		kill_esfeed($run) if $both;
		stop_writers();
		$node->start;
		finish_prepared();
		$run = start_esfeed(@run) if $both;
		start_writers();
	}
}
usleep(500_000);
stop_writers();
finish_prepared();
append($node, 'end-1', 'TheEnd');
ok(wait_for_line("$dir/file", 'TheEnd'), 'it arrives');
is(stop_esfeed($run), 0, 'SIGTERM is a clean end');
is((esfeed(@run, '--until-caught-up'))[0], 0, 'nothing is left to come');

my @lines = lines("$dir/file");
my @stored = stored_messages($node);
note scalar(@lines) . ' lines';
cmp_ok(scalar(@lines), '>', 60000, 'there was more than history');
is_complete(\@lines, \@stored, 'every committed event exactly once');
is_in_order(\@lines, 'each stream in the order of its versions');
my ($previous, $back) = (0, 0);
foreach my $line (@lines)
{
	my ($position) = $line =~ /^\{"position":(\d+)/;

	$back++ if $position < $previous;
	$previous = $position;
}
note "positions stepped back $back times";
done_testing();
