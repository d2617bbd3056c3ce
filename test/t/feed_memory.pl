# A large transaction is decoded in little memory, whatever its size.
# ES_FEED_EVENTS: events of the large one (default 200000; try 5000000).
use strict;
use warnings;
use lib 'test/lib';
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'no /proc/PID/status to read' unless -r '/proc/self/status';

my $events = $ENV{ES_FEED_EVENTS} // 200000;
my $tempdir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('memory', streaming => 'logical', conf => "logical_decoding_work_mem = 4MB\nfsync = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');

# peak(events, options): the walsender's most memory while it sends one
# transaction of so many events, and how many messages it sent
sub peak
{
	my ($events, @options) = @_;
	my $feed = "memory$events";

	$node->safe_psql('postgres', "SELECT es_create_feed('$feed')");
	$node->safe_psql('postgres', "SELECT count(es_append_batch('m-' || b % 1000,
		(SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', jsonb_build_object('n', i, 'pad', repeat('x', 200)))) FROM generate_series(1, 1000) i)))
		FROM generate_series(1, $events / 1000) b");
	my $end = $node->lsn('insert');
	$node->safe_psql('postgres', "SELECT es_append('end-1', 'End')");
	my $messages = '';
	my $consumer = IPC::Run::start([ $node->installed_command('pg_recvlogical'), '-d', $node->connstr('postgres'), '-S', "es_$feed", '--start', '--no-loop',
			'-f', '-', '-F', '0', "--endpos=$end", @options ], '<', '/dev/null', '|', [ 'wc', '-l' ], '>', \$messages);
	$node->poll_query_until('postgres', "SELECT active FROM es_feeds WHERE feed = '$feed'") or die;
	my $pid = $node->safe_psql('postgres', "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'es_$feed'");
	my $peak = 0;

	while (my $memory = status_of($pid, 'RssAnon'))
	{
		$peak = $memory if $memory > $peak;
		usleep(20_000);
	}
	$consumer->finish;
	$node->safe_psql('postgres', "SELECT es_drop_feed('$feed')");
	$messages =~ s/\s//g;
	note "$events events: $messages messages, $peak kB";
	return ($peak, $messages);
}

my ($small) = peak(20000);
my ($large, $messages) = peak($events);
is($messages, $events, 'every event is sent');
cmp_ok($large, '<', 4096 + 16384, 'in logical_decoding_work_mem and a little more');
cmp_ok($large, '<', $small + 4096, 'not more than a small transaction needs');
my ($frames, $framed) = peak($events, '-o', 'include_transaction=on', '-o', 'streaming=on');
cmp_ok($framed, '>', $events, 'streamed, with frames');
cmp_ok($frames, '<', $small + 4096, 'not more either');

done_testing();
