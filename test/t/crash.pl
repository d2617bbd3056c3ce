# Crash in the middle of concurrent appends: nothing acknowledged is lost,
# versions have no gap.  With synchronous_commit off: what a reader saw stays,
# and no position comes back with other content.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $writers = 4;
my $rounds = $ENV{ES_CRASH_ROUNDS} // 2;
my $node = new_node('main', conf => "max_prepared_transactions = 20\n");
my $stamp = 0;

foreach my $database ('sync', 'async')
{
	new_store($node, $database, 1000);
}
# Whatever is not flushed on purpose stays in memory as long as it can.
$node->safe_psql('postgres', "ALTER DATABASE async SET synchronous_commit = off");
$node->append_conf('postgresql.conf', "wal_writer_delay = 10s\nwal_writer_flush_after = 1GB\nwal_buffers = 16MB\n");
$node->restart;

# A writer's script: one line of output for each acknowledged append.
sub writer_script
{
	my ($writer) = @_;
	my $sql = '';

	for my $n (1 .. 20000)
	{
		my $stream = rand() < 0.5 ? "crash-shared" : "crash-$writer-" . int(rand(20));
		my $data = sprintf('{"stamp": %d}', ++$stamp);
		my $kind = rand();

		if ($kind < 0.1)
		{
			$sql .= "BEGIN; SELECT es_append('$stream', 'Undone') \\gset x\nROLLBACK;\n";
		}
		elsif ($kind < 0.3)
		{
			$sql .= "BEGIN; SELECT es_append('$stream', 'T', '$data') AS v, es_last_position() AS p \\gset\nCOMMIT;\n"
			  . "\\echo $stream :v :p $stamp\n";
		}
		else
		{
			$sql .= "SELECT es_append('$stream', 'T', '$data') AS v, es_last_position() AS p \\gset\n"
			  . "\\echo $stream :v :p $stamp\n";
		}
	}
	return $sql;
}

# A reader's script: one line for each event that it saw.
sub reader_script
{
	return "\\set last 0\n" . (
		"SELECT coalesce(max(position), :last) AS last, coalesce(string_agg(stream || ' ' || version || ' ' || position || ' ' || coalesce(data ->> 'stamp', '-'), E'\\n' ORDER BY position), '') AS got FROM es_read_all(:last, 200) \\gset\n"
		. "\\echo :got\n") x 20000;
}

# What is stored, as a hash of the same lines.
sub stored_lines
{
	my ($database) = @_;

	return map { $_ => 1 } rows($node, $database,
		"SELECT stream || ' ' || version || ' ' || position || ' ' || coalesce(data ->> 'stamp', '-') FROM es_read_all(0, NULL)");
}

my %seen = (sync => {}, async => {});
for my $round (1 .. $rounds)
{
	my %before = map { $_ => $node->safe_psql($_, 'SELECT count(*) FROM es_events') } ('sync', 'async');
	my (%write, %read);

	foreach my $database ('sync', 'async')
	{
		$write{$database} = [ map { start_script($node, $database, writer_script($_), '-v', 'ON_ERROR_STOP=1') } (1 .. $writers) ];
		$read{$database} = start_script($node, $database, reader_script(), '-v', 'ON_ERROR_STOP=1');
	}
	foreach my $database ('sync', 'async')
	{
		$node->poll_query_until($database, "SELECT count(*) > $before{$database} + 1500 FROM es_events");
	}
	$node->stop('immediate');

	my (%acknowledged, %read_lines);
	foreach my $database ('sync', 'async')
	{
		$acknowledged{$database} = [ map { split /\n/, (finish_script($_))[0] } @{ $write{$database} } ];
		$read_lines{$database} = [ grep { /\S/ } split /\n/, (finish_script($read{$database}))[0] ];
	}
	$node->start;

	foreach my $database ('sync', 'async')
	{
		my %stored = stored_lines($database);

		is(gaps($node, $database), '', "round $round, $database: versions have no gap");
		if ($database eq 'sync')
		{
			cmp_ok(scalar @{ $acknowledged{$database} }, '>', 100, "round $round, $database: appends were acknowledged");
			is(scalar(grep { !$stored{$_} } @{ $acknowledged{$database} }), 0, "round $round, $database: nothing acknowledged is lost");
		}
		cmp_ok(scalar @{ $read_lines{$database} }, '>', 100, "round $round, $database: a reader saw events");
		is(scalar(grep { !$stored{$_} } @{ $read_lines{$database} }), 0, "round $round, $database: nothing that a reader saw is lost");
		$seen{$database}{$_} = 1 foreach @{ $read_lines{$database} };
		note sprintf('%s: %d acknowledged, %d of them lost, %d seen', $database, scalar @{ $acknowledged{$database} },
			scalar(grep { !$stored{$_} } @{ $acknowledged{$database} }), scalar @{ $read_lines{$database} });

		# Appends go on, on new positions, and everything settles.
		my $highest = 0;
		foreach (@{ $read_lines{$database} })
		{
			my $position = (split / /)[2];
			$highest = $position if $position > $highest;
		}
		cmp_ok($node->safe_psql($database, q{SELECT es_append('crash-shared', 'After') \gset
				SELECT es_last_position()}), '>', $highest, "round $round, $database: a new append gets a new position");
		is($node->safe_psql($database, q{SELECT es_append('crash-shared', 'After') \gset
				SELECT es_settled_position() = es_last_position()}), 't', "round $round, $database: all is settled");
	}
}

# After all crashes each line that was ever seen is still what its position holds.
foreach my $database ('sync', 'async')
{
	my %stored = stored_lines($database);
	my %by_position = map { (split / /)[2] => $_ } keys %stored;
	is(scalar(grep { ($by_position{ (split / /)[2] } // '') ne $_ } keys %{ $seen{$database} }), 0,
		"$database: no position came back with other content");
	is($node->safe_psql($database, 'SELECT count(*) - count(DISTINCT position) FROM es_events'), '0', "$database: no position twice");
}

# A prepared transaction survives the crash, and so does its hole.
my $before = $node->safe_psql('sync', 'SELECT es_settled_position()');
$node->safe_psql('sync', q{BEGIN; SELECT es_append('crash-prepared', 'A'); PREPARE TRANSACTION 'crash'});
$node->safe_psql('sync', q{SELECT es_append('crash-later', 'B')});
$node->stop('immediate');
$node->start;
is($node->safe_psql('sync', "SELECT es_settled_position() <= $before"), 't', 'a prepared append bounds the settled position after a crash too');
is($node->safe_psql('sync', "SELECT count(*) FROM es_read_all($before)"), '0', 'and holds back what follows');
$node->safe_psql('sync', "COMMIT PREPARED 'crash'");
is($node->safe_psql('sync', "SELECT string_agg(stream, ' ') FROM es_read_all($before)"), 'crash-prepared crash-later', 'until it commits');

$node->stop;
done_testing();
