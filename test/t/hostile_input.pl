
# Whatever a caller hands in, the answer is a result or an error of his own: no
# internal error (XX000), no crash, no call that does not end, no message as long as
# what was handed in.  The calls are made of what the catalog says that the functions
# take: each argument at its extremes, the others as they should be.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreSamples;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "statement_timeout = '60s'\neventstore.max_wait = '50ms'\nmax_prepared_transactions = 0\n");

$node->safe_psql('postgres', $_) foreach sample_store();
$node->safe_psql('postgres', q{
	-- calls, and tells what came of it
	CREATE FUNCTION outcome(call text) RETURNS TABLE(code text, shown int, message text) LANGUAGE plpgsql AS $$
	DECLARE
		said text; detail text; hint text;
	BEGIN
		EXECUTE call;
		RAISE 'undo it' USING ERRCODE = 'DONE0';
	EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
		GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RETURN QUERY SELECT SQLSTATE, greatest(octet_length(said), octet_length(detail), octet_length(hint)), left(said, 100);
	END $$;
});

my @calls;

foreach my $routine (routines($node, 'postgres'))
{
	my @args = @{ $routine->{args} };
	my @usual = map { usual($routine, $_) } @args;

	push @calls, [ $routine->{full}, statement($routine, @usual), 'as it should be' ];
	foreach my $i (0 .. $#args)
	{
		my @extremes = extremes($args[$i]{type}) or fail("a value of $args[$i]{type} is known");

		push @calls, [ $routine->{full}, statement($routine, @usual[ 0 .. $i - 1 ], $_, @usual[ $i + 1 .. $#usual ]), "$args[$i]{name} := $_" ] foreach @extremes;
	}
}

my $script = "SET client_min_messages = error;\n";
$script .= sprintf "SELECT %d, * FROM outcome(\$call\$%s\$call\$);\n", $_, $calls[$_][1] foreach 0 .. $#calls;
my ($out, $err) = finish_script(start_script($node, 'postgres', $script));
my %outcome = map { my ($i, $code, $shown, $message) = split /\|/, $_, 4; ($i => [ $code, $shown, $message ]) } split /\n/, $out;

sub faults
{
	my ($is_fault) = @_;

	return join "\n", map { my $o = $outcome{$_}; $is_fault->(@$o) ? "$calls[$_][0], $calls[$_][2]: @$o" : () } sort { $a <=> $b } keys %outcome;
}

is($err, '', 'the server stays up');
cmp_ok(scalar @calls, '>', 500, 'there are many calls');
is(scalar keys %outcome, scalar @calls, 'each call has an outcome');
is(faults(sub { $_[0] =~ /^XX/ }), '', 'no internal error');
is(faults(sub { $_[0] eq '57014' }), '', 'each call ends');
is(faults(sub { $_[1] > 1500 }), '', 'no message is as long as what was handed in');

# What no event can have is refused where it is given, whatever the function.
my @never = (
	[ qr/^(?:category|categories) := (?:''|'-'|E'|'a-b-c'|repeat\('long|'\{""\}'|'\{a-b\}'|ARRAY\[repeat)/ => '22023' ],
	[ qr/^(?:types|tags) := (?:'\{""\}'|ARRAY\[repeat)/ => '22023' ],
	[ qr/^(?:categories|types|tags) := '\{NULL\}'/ => '22004' ],
	[ qr/^stream_prefix := (?:E'|repeat\('long)/ => '22023' ],
	[ qr/^(?:\w+_)?position := \(?-/ => '22023' ]);
my $watched = 0;
my @accepted;

foreach my $i (sort { $a <=> $b } keys %outcome)
{
	my ($name, undef, $what) = @{ $calls[$i] };

	# these tell at once that the log is there already; views ask functions in schema eventstore
	next if $name =~ /^es_wait(?:_for)?$|^eventstore\./;
	foreach (grep { $what =~ $_->[0] } @never)
	{
		$watched++;
		push @accepted, "$name, $what: @{ $outcome{$i} }" if $outcome{$i}[0] ne $_->[1];
	}
}
cmp_ok($watched, '>', 60, 'there are many calls with what no event can have');
is(join("\n", @accepted), '', 'what no event can have is refused');

# Else the extremes would not be reached.  These need a transaction of their own, or an empty store.
my %fails = map { $_ => 1 } qw(es_set_segment_size es_attach_segment es_create_feed es_alter_feed es_drop_feed);
my @failures = grep { $calls[$_][2] eq 'as it should be' && !$fails{ $calls[$_][0] } && $outcome{$_}[0] ne 'DONE0' } sort { $a <=> $b } keys %outcome;
is(join("\n", map { "$calls[$_][0]: @{ $outcome{$_} }" } @failures), '', 'calls as they should be succeed');
is($node->safe_psql('postgres', q{SELECT es_append('a-1', 'T') > 3}), 't', 'the store is as good as before');

# A session that is cancelled while it loads the library, which warns of settings then, can load it afterwards.
my @cancelled = map { sqlstates($node, 'postgres', qq{SET eventstore.retry_delay = -1; SET eventstore.no_setting = 1; SET statement_timeout = $_; SELECT es_stream_version('a-1'); SET statement_timeout = 0; SELECT es_stream_version('a-1')}, on_error_stop => 0) } (1 .. 8) x 3;
is(join(' ', grep { !/^(57014)?$/ } @cancelled), '', 'a cancel during the first call harms no later one');

done_testing();
