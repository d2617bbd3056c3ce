# What the TAP tests of esfeed share.
package EsfeedTest;

use strict;
use warnings;

use Exporter 'import';
use EventstoreTest;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(feed_node esfeed start_esfeed stop_esfeed kill_esfeed lines append append_many wait_for_line
	stored_messages is_complete is_in_order state_of);

my $json = JSON::PP->new;

# feed_node(name, conf): a running cluster with a store, ready for feeds.
sub feed_node
{
	my ($name, $conf) = @_;
	my $node = new_node($name, streaming => 'logical', conf => "logical_decoding_work_mem = 64kB\n" . ($conf // ''));

	$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
	return $node;
}

# The command line; what looks like a connection string may be given in place of a node.
sub command
{
	my ($node, @args) = @_;
	my @to = ref $node ? ('-d', $node->connstr('postgres')) : defined $node ? ('-d', $node) : ();

	return ('esfeed', @to, @args);
}

# esfeed(node, args...): runs it to its end; exit status, standard output, standard error.
sub esfeed
{
	my ($node, @args) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ command($node, @args) ], '<', '/dev/null', '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $status = $?;
	note "esfeed @args: $status\n$err";
	return ($status & 127 ? -($status & 127) : $status >> 8, $out, $err);
}

# start_esfeed(node, args...): runs it in the background; {out} and {err} are files.
sub start_esfeed
{
	my ($node, @args) = @_;
	my $base = PostgreSQL::Test::Utils::tempdir();
	my $run = { out => "$base/out", err => "$base/err" };

	$run->{handle} = start_process([ command($node, @args) ], $run->{out}, $run->{err});
	return $run;
}

# stop_esfeed(run): asks it to end; its exit status.
sub stop_esfeed
{
	my ($run) = @_;

	$run->{handle}->signal('TERM');
	$run->{handle}->finish;
	note slurp_file($run->{err});
	my $status = $run->{handle}->full_result(0);
	return $status & 127 ? -($status & 127) : $status >> 8;
}

# kill_esfeed(run): kill -9.
sub kill_esfeed
{
	my ($run) = @_;

	$run->{handle}->signal('KILL');
	$run->{handle}->finish;
}

# lines(file): the whole lines, without their ends.
sub lines
{
	my ($file) = @_;

	return () unless -e $file;
	return map { chomp; $_ } grep { /\n$/ } split /^/, slurp_file($file);
}

# append(node, stream, types...): one event each.
sub append
{
	my ($node, $stream, @types) = @_;

	my $data = q({"a": "\u00fc \" \\\\ \n"});

	$node->safe_psql('postgres', join('', map { "SELECT es_append('$stream', '$_', '$data');" } @types));
}

# append_many(node, count, name): so many events, of all sizes up to 300 bytes, to ten streams.
sub append_many
{
	my ($node, $count, $name) = @_;

	$node->safe_psql('postgres', "SELECT count(es_append('$name-' || n % 10, 'N', to_jsonb(repeat('x', n % 300)))) FROM generate_series(1, $count) n");
}

# wait_for_line(file, pattern): waits until a line of the file matches.
sub wait_for_line
{
	my ($file, $pattern) = @_;

	return wait_until("$pattern in $file", sub { -e $file && grep { /$pattern/ } split /\n/, slurp_file($file) });
}

# stored_messages(node, condition, format): what a feed has of the events in the store.
sub stored_messages
{
	my ($node, $condition, $format) = @_;

	$condition //= 'true';
	$format //= 'json';
	return split /\n/, $node->safe_psql('postgres',
		"SELECT es_feed_message(e, '$format') FROM es_read_all(max_count => NULL) e WHERE $condition");
}

# Shows how two lists of messages differ.
sub difference
{
	my ($got, $expected) = @_;
	my %count;

	$count{$_}++ foreach @$got;
	$count{$_}-- foreach @$expected;
	my @wrong = grep { $count{$_} != 0 } sort keys %count;
	return map { "$count{$_}: " . substr($_, 0, 150) } @wrong[ 0 .. ($#wrong > 9 ? 9 : $#wrong) ];
}

# is_complete(lines, expected, name): the same messages, byte by byte, each once, in any order.
sub is_complete
{
	my ($got, $expected, $name) = @_;
	my $same = join("\n", sort @$got) eq join("\n", sort @$expected);

	ok($same, $name);
	diag scalar(@$got) . ' lines, ' . scalar(@$expected) . ' expected', map { "\n$_" } difference($got, $expected) unless $same;
}

# is_in_order(lines, name): each stream comes in the order of its versions, without gaps; again is allowed.
sub is_in_order
{
	my ($lines, $name) = @_;
	my (%last, @bad);

	foreach my $line (@$lines)
	{
		my $event = $json->decode($line);
		my $stream = $event->{stream} // $event->{subject};
		my $version = $event->{version} // $event->{sequence};

		push @bad, "$stream $version after " . ($last{$stream} // 0) if $version > ($last{$stream} // $version - 1) + 1;
		$last{$stream} = $version if $version > ($last{$stream} // 0);
	}
	is(join("\n", @bad), '', $name);
}

# state_of(file): the state of a file sink, as a hash.
sub state_of
{
	my ($file) = @_;

	return map { /^(\w+) (.*)/ ? ($1 => $2) : () } lines("$file.esfeed");
}

1;
