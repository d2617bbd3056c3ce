# What the TAP tests of feeds share.
package EventstoreFeed;

use strict;
use warnings;

use Exporter 'import';
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(feed final_events start_consumer stop messages);

my $json = JSON::PP->new->allow_nonref;

# feed(node, database, slot, options): the messages since the last time.
sub feed
{
	my ($node, $database, $slot, @options) = @_;
	my $options = join(', ', map { "'$_'" } @options);

	return map { $json->decode($_) } split /\n/,
	  $node->safe_psql($database, "SELECT data FROM pg_logical_slot_get_changes('$slot', NULL, NULL, VARIADIC ARRAY[$options]::text[])");
}

# start_consumer(node, slot, file, options): pg_recvlogical, which writes what it gets into a file; with "loop" it
# comes back when the connection ends.
sub start_consumer
{
	my ($node, $slot, $file, %options) = @_;
	my @loop = delete $options{loop} ? () : ('--no-loop');

	return start_process(
		[ $node->installed_command('pg_recvlogical'), '-d', $node->connstr('postgres'), '-S', $slot, '--start',
			'-f', $file, '-F', '1', '-s', '1', @loop, map { ('-o', "$_=$options{$_}") } sort keys %options ],
		"$file.out", "$file.err");
}

# stop(handle, signal): ends it.
sub stop
{
	my ($handle, $signal) = @_;

	$handle->signal($signal // 'INT');
	eval { $handle->finish };
	return;
}

# messages(file): what a consumer has written; an unfinished last line is not a message yet.
sub messages
{
	my ($file) = @_;

	return () unless -e $file;
	return map { $json->decode($_) } grep { /\n$/ } split /^/, slurp_file($file);
}

# final_events(messages): what a consumer of frames ends up with; events become
# final with their transaction, and what is taken back is dropped.
sub final_events
{
	my (%open, %prepared, @final, $top);

	foreach my $message (@_)
	{
		if (exists $message->{position})
		{
			push @{ $open{$top} }, $message;
			next;
		}
		my ($frame, $about) = %$message;
		my $xid = $about->{xid};

		$top = $xid if $frame =~ /^(begin|begin_prepare|stream_start)$/;
		push @final, @{ delete $open{$xid} } if $frame =~ /^(commit|stream_commit)$/;
		$prepared{ $about->{gid} } = delete $open{$xid} if $frame =~ /^(prepare|stream_prepare)$/;
		push @final, @{ delete $prepared{ $about->{gid} } // [] } if $frame eq 'commit_prepared';
		delete $prepared{ $about->{gid} } if $frame eq 'rollback_prepared';
		if ($frame eq 'stream_abort' && $about->{subxid})
		{
			$open{$xid} = [ grep { $_->{xid} != $about->{subxid} } @{ $open{$xid} } ];
		}
		elsif ($frame eq 'stream_abort')
		{
			delete $open{$xid};
		}
	}
	is_deeply([ keys %open, keys %prepared ], [], 'no transaction is left open');
	return @final;
}

1;
