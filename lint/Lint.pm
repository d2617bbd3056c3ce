# What the lints that are written in Perl share; it runs them in the project's folder.
# A module, not executable, so that test/run does not take it for a lint.
package Lint;

use strict;
use warnings;

use Exporter 'import';
use File::Find;
use FindBin;

our @EXPORT = qw(complain verdict slurp line_of code sources);

chdir "$FindBin::Bin/.." or die;

my $bad = 0;

# complain(place, sentence)
sub complain { print "$_[0]: $_[1]\n"; $bad++; return; }

# verdict(): the exit status, once all is looked at
sub verdict { return $bad ? 1 : 0; }

sub slurp
{
	open my $in, '<', $_[0] or die "$_[0]: $!";
	local $/;
	return scalar <$in>;
}

# code(text): without comments, and with nothing in strings; lines stay where they are
sub code
{
	my ($text) = @_;
	$text =~ s{("(?:\\.|[^"\\\n])*")|('(?:\\.|[^'\\\n])+')|/\*.*?\*/}
		{ defined $1 ? '""' : defined $2 ? "' '" : $& =~ s/[^\n]//gr }gse;
	return $text;
}

# line_of(text, offset)
sub line_of { return 1 + (substr($_[0], 0, $_[1]) =~ tr/\n//); }

# sources(): the files of the folders that hold sources
sub sources
{
	my @found;
	find({ no_chdir => 1, wanted => sub { push @found, $File::Find::name if -f && !m{/node_modules/} } },
		grep { -e } qw(src esfeed sql test bench demo tools lint doc Makefile README.md));
	return sort grep { !m{\.(o|d|out|list|json)$|^esfeed/(esfeed|\.settings)$} } @found;
}

1;
