# Bulk loads of any size: memory stays flat however many events a statement or
# transaction appends, and the lock table has room however many streams.
# ES_BULK_EVENTS (say, 10000000) and ES_BULK_STREAMS (1000000) are the sizes.
#
# Memory is what the backend has of its own, without shared buffers: the kernel's
# limit on a process's data (prlimit) makes a load fail that needs more even for a
# moment, and RssAnon, looked at all the time, tells how much was in use.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $events = $ENV{ES_BULK_EVENTS} // 300_000;
my $streams = $ENV{ES_BULK_STREAMS} // 50_000;
my $in_one_call = 20_000;
my $allowance = 200 * 1024;    # kB that a load may need
my $flatness = 8 * 1024;       # kB that ten times as many events may need more

# A compiler that is loaded for a large query would count too.
my $node = new_node('main', conf => "max_wal_size = 4GB\njit = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');

my $measurable = defined status_of($$, 'RssAnon') && system('prlimit >/dev/null 2>&1') == 0;

# Runs a statement in a session of its own, which has appended before, with no
# more data than the allowance; by how much its RssAnon grew at most, and errors.
sub grow
{
	my ($statement) = @_;
	my $holder = $node->background_psql('postgres');

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $script = start_script($node, 'postgres', qq{
		SELECT es_append('warm-1', 'T');
		INSERT INTO es_events (stream, type, data) VALUES ('warm-1', 'T', '{}');
		SELECT pg_advisory_lock_shared(1);
		$statement;\n});
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted})
	  or die 'the load does not begin';
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	my $before = status_of($pid, 'RssAnon');
	my $peak = $before;
	my $limit = (status_of($pid, 'VmData') + $allowance) * 1024;

	system('prlimit', '--pid', $pid, "--data=$limit:$limit") == 0 or die 'prlimit';
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$holder->quit;
	while (defined(my $now = status_of($pid, 'RssAnon')))
	{
		$peak = $now if $now > $peak;
		usleep(2000);
	}
	return ($peak - $before, (finish_script($script))[1]);
}

# The loads: a thousand streams, some hundred events of each in a row.
my $data = q{'{"customer": 4711, "lines": [{"sku": "A-1", "quantity": 2}, {"sku": "B-2", "quantity": 1}], "note": "as usual"}'::jsonb};
my %loads = (
	'COPY' => sub {
		my ($category, $n) = @_;
		my $perl = q~$d = join(q(,), 1 .. 30); for ($n = 0; $n < COUNT; $n++) { print qq(CATEGORY-), int($n / 100) % 1000, qq(\tT\t{\"n\": $n, \"d\": [$d]}\n) }~;
		$perl =~ s/COUNT/$n/;
		$perl =~ s/CATEGORY/$category/;
		return "COPY es_events (stream, type, data) FROM PROGRAM 'perl -e ''$perl'''";
	},
	'INSERT ... SELECT' => sub {
		my ($category, $n) = @_;
		return "INSERT INTO es_events (stream, type, data) SELECT '$category-' || n / 100 % 1000, 'T', $data
			FROM (SELECT generate_series(0, $n - 1) AS n OFFSET 0) g";	# in FROM it would keep its rows
	},
	'es_append_batch in a loop' => sub {
		my ($category, $n) = @_;
		return "DO \$\$ DECLARE events jsonb := (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', $data)) FROM generate_series(1, 500));
			BEGIN FOR i IN 1 .. $n / 500 LOOP PERFORM es_append_batch('$category-' || i % 1000, events); END LOOP; END \$\$";
	});

SKIP:
{
	skip 'memory cannot be measured here', 16 unless $measurable;

	like((grow("SELECT length(repeat('x', 300000000))"))[1], qr/out of memory/, 'a statement that needs more than 200 MB fails here');

	my $nth = 0;
	foreach my $load (sort keys %loads)
	{
		my %peak;

		$nth++;
		foreach my $n ($events / 10, $events)
		{
			my $category = "size$nth" . ($n == $events ? 'large' : 'small');
			my ($peak, $errors) = grow($loads{$load}->($category, $n));

			is($errors, '', "$load of $n events needs less than 200 MB");
			is( $node->safe_psql('postgres', "SELECT sum(version) FROM es_streams WHERE category = '$category'"),
				$n, "$load: $n events are there");
			diag "$load of $n events: $peak kB more at the peak";
			$peak{$n} = $peak;
		}
		cmp_ok($peak{$events}, '<', $peak{ $events / 10 } + $flatness, "$load: ten times as many events need no more memory");
	}
}

# Many streams in one transaction, by each way in; the lock table is as it comes.
is($node->safe_psql('postgres', 'SHOW max_locks_per_transaction'), '64', 'max_locks_per_transaction is as it comes');
my %many = (
	'COPY' => sub { "COPY es_events (stream, type, data) FROM PROGRAM 'seq -f \"$_[0]-%.0f,T,1\" 1 $_[1]' (FORMAT csv);\n" },
	'INSERT ... SELECT' => sub { "INSERT INTO es_events (stream, type, data) SELECT '$_[0]-' || n, 'T', '1' FROM generate_series(1, $_[1]) n;\n" },
	'es_append' => sub { "DO \$\$ BEGIN FOR n IN 1 .. $_[1] LOOP PERFORM es_append('$_[0]-' || n, 'T', '1', expected_version => 0); END LOOP; END \$\$;\n" },
	'es_append_many' => sub {
		"SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', '$_[0]-' || n, 'type', 'T', 'expected_version', 0))"
		  . " FROM generate_series(1, $_[1]) n)) \\g /dev/null\n";
	});
my $nth = 0;
foreach my $way (sort keys %many)
{
	my $n = $way eq 'es_append_many' ? $in_one_call : $streams;
	my $category = 'many' . ++$nth;
	my $statement = $many{$way}->($category, $n);

	is( $node->safe_psql('postgres', "BEGIN;\n$statement
			SELECT count(*) < 100 FROM pg_locks WHERE pid = pg_backend_pid();
			ROLLBACK;\n"),
		't', "$way: $n streams in a transaction take few locks");
	is( $node->safe_psql('postgres', "SELECT count(*) FROM es_streams WHERE category = '$category'"),
		'0', "$way: and no stream is left of it");
	$node->safe_psql('postgres', $statement);
	is( $node->safe_psql('postgres', "SELECT count(*), min(version), max(version) FROM es_streams WHERE category = '$category'"),
		"$n|1|1", "$way: $n streams came into being in one transaction");
	$node->safe_psql('postgres', "BEGIN;\n" . ($statement =~ s/('expected_version', )0/${1}1/r =~ s/(expected_version => )0/${1}1/r) . "COMMIT;\n");
	is( $node->safe_psql('postgres', "SELECT count(*), min(version), max(version) FROM es_streams WHERE category = '$category'"),
		"$n|2|2", "$way: $n streams went on in one transaction");
}
is( $node->safe_psql('postgres', 'SELECT es_settled_position() = last_value FROM eventstore.position_seq'),
	't', 'all is settled');
is(gaps($node, 'postgres'), '', 'versions have no gap');

$node->stop;
done_testing();
