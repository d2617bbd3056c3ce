# What the TAP tests of feeds share.
package EventstoreFeed;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use Test::More;

our @EXPORT = qw(feed final_events @started);

my $json = JSON::PP->new;

# Consumers that a test has started; none outlives it.
our @started;

END
{
	my $status = $?;

	$_->kill_kill foreach grep { $_->pumpable } @started;
	$? = $status;
}

# feed(node, database, slot, options): the messages since the last time.
sub feed
{
	my ($node, $database, $slot, @options) = @_;
	my $options = join(', ', map { "'$_'" } @options);

	return map { $json->decode($_) } split /\n/,
	  $node->safe_psql($database, "SELECT data FROM pg_logical_slot_get_changes('$slot', NULL, NULL, VARIADIC ARRAY[$options]::text[])");
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
