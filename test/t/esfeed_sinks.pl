# esfeed's other sinks: a command that dies at random, standard output, Kafka,
# and what becomes of sinks that take no more.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EsfeedTest;
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('main');
my ($status, $out, $err, $run);

# What a consumer has after redelivery: the first of each.
sub once
{
	my %seen;

	return grep { !$seen{$_}++ } @_;
}

# ---- a command
{
	# takes some lines, acknowledges most of them in one way or another, and dies
	append_to_file("$dir/command", <<'END');
use strict;
use warnings;
my ($file, $seed) = @ARGV;
$| = 1;
srand($seed + $$);
open my $log, '>>', $file or die;
$log->autoflush(1);
my $held = 0;
# none follows the last line of history before all are acknowledged
$SIG{ALRM} = sub { print "\n" x $held; $held = 0; };
while (my $line = <STDIN>)
{
	alarm 0;
	print $log $line;
	$held++;
	my $dice = rand();
	if ($dice < 0.9) { print "\n" x $held; $held = 0; }
	elsif ($dice < 0.95) { print "$held\n"; $held = 0; }
	elsif ($dice < 0.953) { kill 9, $$ if rand() < 0.5; exit int(rand(3)); }
	alarm 1 if $held;
}
alarm 0;
print "\n" x $held;
END
	my $command = "exec perl $dir/command $dir/taken $$";

	append_many($node, 1000, 'old');
	$run = start_esfeed($node->connstr('postgres') . ' application_name=esfeed', '--feed', 'command', '--create', '--to', "exec:$command");
	append_many($node, 1000, 'new');
	isnt($node->safe_psql('postgres', "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'esfeed'"), '0', 'connections are lost');
	append_many($node, 500, 'newer');
	append($node, 'end-1', 'Ended');
	ok(wait_for_line("$dir/taken", 'Ended'), 'a command gets everything, however often it dies');
	ok(wait_for_line($run->{err}, 'streaming'), 'history is complete');
	is(stop_esfeed($run), 0, 'SIGTERM is a clean end');
	my @taken = lines("$dir/taken");
	note scalar(@taken) . ' lines, ' . (() = slurp_file($run->{err}) =~ /the command/g) . ' deaths';
	like(slurp_file($run->{err}), qr/the command (ended with exit status|was ended by signal).*unacknowledged/, 'it is told how it died');
	is_complete([ once(@taken) ], [ stored_messages($node) ], 'every event at least once');
	is_in_order(\@taken, 'in order in each stream');
	is((esfeed($node, '--feed', 'command', '--until-caught-up', '--to', "exec:$command"))[0], 0, 'all was acknowledged in the end');
	is(scalar(grep { !/Ended/ } lines("$dir/taken")) - scalar(grep { !/Ended/ } @taken), 0, 'the feed goes on where it was');
}

# ---- commands that acknowledge by their end, or late
{
	my @run = ($node, '--feed', 'cat', '--create', '--to', "exec:cat >>$dir/cat");

	append_many($node, 12000, 'cat');
	is((esfeed(@run, '--until-caught-up'))[0], 0, 'a command that says nothing');
	is_deeply([ lines("$dir/cat") ], [ stored_messages($node) ], 'gets everything, once if all goes well');
	$run = start_esfeed(@run);
	append($node, 'cat-end', 'Cat');
	my $lsn = $node->lsn('insert');
	ok($node->poll_query_until('postgres', "SELECT confirmed_lsn >= '$lsn' FROM es_feeds WHERE feed = 'cat'"), 'what it has taken is confirmed after a while');
	append($node, 'cat-end', 'Mouse');
	ok(wait_for_line("$dir/cat", 'Mouse'), 'and it is started again');
	is(stop_esfeed($run), 0, 'SIGTERM is a clean end');
	is((esfeed(@run, '--until-caught-up'))[0], 0, 'which acknowledges');
	is_complete([ lines("$dir/cat") ], [ stored_messages($node) ], 'every event once');

	@run = ($node, '--feed', 'fails', '--create', '--to', "exec:cat >>$dir/fails; exit 3");
	$run = start_esfeed(@run);
	ok(wait_for_line($run->{err}, 'exit status 3, \\d+ lines'), 'one that says nothing and fails');
	is(stop_esfeed($run), 0, 'SIGTERM is a clean end');
	is($node->safe_psql('postgres', "SELECT string_agg(feed, ' ') FROM es_feeds WHERE feed LIKE 'fails%'"), 'fails_unfinished', 'has taken nothing');
	is((esfeed($node, '--feed', 'fails', '--drop'))[0], 0, 'dropped');

	my $collects = 'n=0; while IFS= read -r l; do printf "%s\\n" "$l" >>' . "$dir/collects" . '; n=$((n+1)); if [ $n = 1000 ]; then echo $n; n=0; fi; done; echo $n';
	is((esfeed($node, '--feed', 'collects', '--create', '--until-caught-up', '--from', '10000', '--to', "exec:$collects"))[0], 0, 'one that collects lines');
	is_complete([ once(lines("$dir/collects")) ], [ stored_messages($node, 'position > 10000') ], 'gets everything');
}

# ---- esfeed is killed in the middle of history, and after it
{
	my $slow = "while read -r line; do printf '%s\\n' \"\$line\" >>$dir/slow; echo; done";

	append_many($node, 3000, 'slow');
	my @run = ($node, '--feed', 'slow', '--create', '--to', "exec:$slow");
	$run = start_esfeed(@run);
	ok(wait_for_line("$dir/slow", '"position":'), 'history is being delivered');
	kill_esfeed($run);
	is($node->safe_psql('postgres', "SELECT string_agg(feed, ' ') FROM es_feeds WHERE feed LIKE 'slow%'"), 'slow_unfinished',
		'the feed has another name as long as history is not complete');
	wait_until('the command to end', sub { my $size = -s "$dir/slow"; usleep(300_000); $size == -s "$dir/slow" });
	unlink "$dir/slow";
	is((esfeed(@run, '--until-caught-up'))[0], 0, 'the next one delivers it again');
	is_complete([ lines("$dir/slow") ], [ stored_messages($node) ], 'all of it');
	is($node->safe_psql('postgres', "SELECT string_agg(feed, ' ') FROM es_feeds WHERE feed LIKE 'slow%'"), 'slow', 'then it has its name');

	$run = start_esfeed(@run);
	append_many($node, 500, 'later');
	ok(wait_for_line("$dir/slow", 'later-'), 'it goes on');
	kill_esfeed($run);
	append($node, 'later-end', 'Done');
	is((esfeed(@run, '--until-caught-up'))[0], 0, 'killed, the next one goes on');
	is_complete([ once(lines("$dir/slow")) ], [ stored_messages($node) ], 'nothing is lost');
}

# ---- commands that are not to be had
($status, $out, $err) = esfeed($node, '--feed', 'slow', '--to', "exec:$dir/nosuch");
is($status, 7, 'a command that does not exist');
like($err, qr/cannot be run/, 'it says so');
append($node, 'odd-1', 'Odd');
($status, $out, $err) = esfeed($node, '--feed', 'slow', '--to', 'exec:read line; echo 5; cat');
is($status, 7, 'a command that acknowledges what it has not got');
like($err, qr/acknowledged 5 lines/, 'it says so');

# ---- standard output
{
	my @run = ($node, '--feed', 'out', '--create', '--until-caught-up');

	($status, $out) = esfeed(@run);
	is($status, 0, 'standard output');
	is_deeply([ split /\n/, $out ], [ stored_messages($node) ], 'gets history');
	append($node, 'out-1', 'More');
	($status, $out) = esfeed(@run);
	is_deeply([ split /\n/, $out ], [ stored_messages($node, "stream = 'out-1'") ], 'then what comes');
	append_many($node, 5000, 'out');
	IPC::Run::run([ 'sh', '-c', 'esfeed "$@" | head -n 1', 'sh', '-q', '-d', $node->connstr('postgres'), '--feed', 'out', '--until-caught-up' ],
		'>', \$out, '2>', \$err);
	like($err, qr/could not write to standard output/, 'a reader that leaves is noticed');
	($status, $out) = esfeed(@run);
	is(scalar(grep { /"out-/ } split /\n/, $out), 5000, 'what it may not have read comes again');
	IPC::Run::run([ 'sh', '-c', 'exec esfeed "$@" >>' . "$dir/regular", 'sh', '-d', $node->connstr('postgres'), '--feed', 'regular', '--create', '--until-caught-up' ]) or die;
	is_deeply([ lines("$dir/regular") ], [ stored_messages($node) ], 'a regular file as standard output');
}

# ---- a full disk
{
	my $limited = sub {
		my ($blocks) = @_;
		IPC::Run::run([ 'sh', '-c', 'ulimit -f ' . $blocks . '; exec esfeed "$@"', 'sh', '-d', $node->connstr('postgres'),
			'--feed', 'full', '--create', '--until-caught-up', '--to', "file:$dir/full" ], '>', \$out, '2>', \$err);
		return $? >> 8;
	};
	is($limited->(200), 7, 'a sink that takes no more, during history');
	like($err, qr/could not write to .*full": File too large/, 'it says so');
	like(slurp_file("$dir/full"), qr/\}\n\z/, 'the file ends with a whole line');
	is($limited->('unlimited'), 0, 'with room it goes on');
	is_complete([ lines("$dir/full") ], [ stored_messages($node) ], 'with every event once');
	append_many($node, 3000, 'full');
	is($limited->(int((-s "$dir/full") / 512) + 100), 7, 'while streaming');
	is($limited->('unlimited'), 0, 'with room it goes on');
	is_complete([ lines("$dir/full") ], [ stored_messages($node) ], 'with every event once');
	is((esfeed($node, '--feed', 'full', '--to', "file:$dir/no/such"))[0], 7, 'a file that cannot be opened');
}

# ---- Kafka, against librdkafka's own cluster
SKIP:
{
	skip 'this esfeed was built without librdkafka', 1 if (esfeed($node, '--help'))[1] =~ /not in this build/;
	skip 'kcat is not installed', 1 unless grep { -x "$_/kcat" } split /:/, $ENV{PATH};

	# a consumer that brings the brokers with it, inside, and tells their address in its log
	my $cluster = start_process(
		[ qw(kcat -C -u -b inside:1 -t events -o beginning -X test.mock.num.brokers=1
			-X allow.auto.create.topics=true -d mock -f), '%p %k %s\n' ], "$dir/kafka", "$dir/kafka.err");
	wait_for_line("$dir/kafka.err", 'bootstrap.servers=\S+:\d+');
	my ($brokers) = slurp_file("$dir/kafka.err") =~ /bootstrap\.servers=(\S+:\d+)/;
	note "brokers: $brokers";
	my @run = ($node, '--feed', 'kafka', '--create', '--to', "kafka:$brokers/events", '--kafka-option', 'linger.ms=1',
		'--kafka-option', 'queue.buffering.max.messages=500');

	append($node, 'a "quoted" \\ name-1', 'Odd');
	is((esfeed(@run, '--until-caught-up'))[0], 0, 'history to Kafka');
	$run = start_esfeed(@run);
	append_many($node, 1000, 'kafka');
	append($node, 'kafka-end', 'KafkaEnd');
	my $lsn = $node->lsn('insert');
	ok($node->poll_query_until('postgres', "SELECT confirmed_lsn >= '$lsn' FROM es_feeds WHERE feed = 'kafka'"), 'what the brokers have is confirmed');
	is(stop_esfeed($run), 0, 'SIGTERM is a clean end');

	wait_for_line("$dir/kafka", 'KafkaEnd');
	wait_until('the consumer', sub { lines("$dir/kafka") >= stored_messages($node) });
	my @messages = lines("$dir/kafka");
	my (%partitions, @wrong, @lines);
	foreach my $message (@messages)
	{
		my ($partition, $key, $line) = $message =~ /^(\d+) (.*?) (\{.*)$/;
		my ($stream) = $line =~ /"stream":"((?:[^"\\]|\\.)*)"/;

		$stream =~ s/\\(.)/$1/g;
		push @wrong, $message if $stream ne $key;
		$partitions{$key}{$partition} = 1;
		push @lines, $line;
	}
	is(join("\n", @wrong), '', 'the key is the stream');
	is(scalar(grep { keys %$_ > 1 } values %partitions), 0, 'a stream is in one partition');
	is_complete(\@lines, [ stored_messages($node) ], 'Kafka has every event');
	is_in_order(\@lines, 'in order in each stream');

	# a broker that is away for a while
	$cluster->kill_kill;
	append($node, 'kafka-end', 'Away');
	$run = start_esfeed(@run);
	ok(wait_for_line($run->{err}, 'Kafka:'), 'it says that no broker answers');
	isnt($node->safe_psql('postgres', "SELECT confirmed_lsn >= '" . $node->lsn('insert') . "' FROM es_feeds WHERE feed = 'kafka'"), 't', 'and confirms nothing');
	kill_esfeed($run);

	# and for good, with no room for what is to be delivered
	$run = start_esfeed($node, '--feed', 'away', '--create', '--to', "kafka:$brokers/events", '--kafka-option', 'queue.buffering.max.messages=10');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'es_away_unfinished'"), 'history begins');
	ok(wait_for_line($run->{err}, 'Kafka:'), 'no broker answers');
	$run->{handle}->signal('TERM');
	ok(wait_for_line($run->{err}, 'Kafka has not acknowledged'), 'the end that is asked for comes') or kill_esfeed($run);
	is(stop_esfeed($run), 0, 'and is a clean one');
	is((esfeed($node, '--feed', 'kafka', '--to', "kafka:$brokers/events", '--kafka-option', 'no.such=1'))[0], 1, 'an unknown setting');
	is((esfeed($node, '--feed', 'kafka', '--to', "kafka:$brokers"))[0], 1, 'no topic');
}

done_testing();
