# Bulk loads that end in the middle - cancelled, terminated, killed, or by a bad
# row far in - leave nothing behind, and the same load works afterwards.
#
# A load stops at one of its rows, the gate, where it waits for an advisory lock
# that the test holds: in an index expression, so in the midst of writing and
# under short locks; or in the query that gives the rows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use File::Spec;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 30_000;
my $at = 22_500;
my $streams = 5_000;
my $node = new_node('main', conf => "restart_after_crash = on\n");

$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$node->safe_psql('postgres', q{
	SELECT es_append('first-1', 'First');
	CREATE FUNCTION gate(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
		'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN $1; END';
	CREATE INDEX ON eventstore.events_0 (gate(position)) WHERE type = 'Gate';
});
# Here a load goes through many segments.
new_store($node, 'segments', 7000);
$node->safe_psql('segments', q{SELECT es_append('first-1', 'First')});

# Rows for COPY, one file for all: % stands for the category.
sub write_rows
{
	my ($name, $upto, $bad) = @_;
	my $file = File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir() . "/$name");

	open my $out, '>', $file or die "$file: $!";
	foreach my $n (1 .. $upto)
	{
		my $metadata = $n % 100 ? '{}' : '{"tags": ["%"]}';
		my $type = $n == $at ? 'Gate' : 'T';
		my $data = $n == ($bad // 0) ? "{$n" : $n;
		print $out '%-', $n % $streams, "\t$type\t$data\t$metadata\n";
	}
	close $out;
	return $file;
}

my $file = write_rows('rows', $rows);
my $values = qq{
	'\@-' || n % $streams AS stream, CASE n WHEN $at THEN 'Gate' ELSE 'T' END AS type, to_jsonb(n) AS data,
	CASE n % 100 WHEN 0 THEN '{"tags": ["\@"]}' ELSE '{}' END::jsonb AS metadata};

# The ways to load: database, streams, statement; @ stands for the category.
my %loads = (
	copy => [ 'postgres', $streams, "COPY es_events (stream, type, data, metadata) FROM PROGRAM 'sed s/%/\@/g $file'" ],
	insert => [ 'postgres', $streams,
		"INSERT INTO es_events (stream, type, data, metadata) SELECT $values FROM generate_series(1, $rows) n" ],
	batch => [ 'postgres', 1,
		"SELECT es_append_batch('\@-0', (SELECT jsonb_agg(to_jsonb(e) - 'stream') FROM (SELECT $values FROM generate_series(1, $rows) n) e))" ],
	many => [ 'postgres', $streams,
		"SELECT count(*) FROM es_append_many((SELECT jsonb_agg(e) FROM (SELECT $values FROM generate_series(1, $rows) n) e))" ],
	segments => [ 'segments', $streams,
		"INSERT INTO es_events (stream, data, metadata, type) SELECT e.stream, e.data, e.metadata,
			e.type || coalesce(CASE e.type WHEN 'Gate' THEN pg_advisory_xact_lock_shared(1)::text END, '')
		 FROM (SELECT $values FROM generate_series(1, $rows) n) e" ]);

sub load_statement
{
	my ($load, $category) = @_;

	return $loads{$load}[2] =~ s/\@/$category/gr;
}

# Nothing of a load is there, nothing is held, and readers get past its positions.
sub nothing_left
{
	my ($database, $category, $before, $name) = @_;

	is( $node->safe_psql($database, qq{
			SELECT (SELECT count(*) FROM es_read_all($before, NULL)),
				(SELECT count(*) FROM es_read_category('$category')),
				(SELECT count(*) FROM es_read_tagged('{$category}')),
				(SELECT count(*) FROM es_events WHERE position > $before),
				(SELECT count(*) FROM es_streams WHERE category = '$category'),
				es_stream_version('$category-0'), es_stream_version('$category-1')}),
		'0|0|0|0|0|0|0', "$name: nothing of it is visible");
	is( $node->safe_psql($database, q{SELECT es_settled_position() = last_value FROM eventstore.position_seq}),
		't', "$name: its positions are settled");
	is( $node->safe_psql($database, q{
			SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'eventstore.streams'::regclass}),
		'0', "$name: no lock on a stream is left");
	# segments may be in the making
	ok( $node->poll_query_until($database, q{
			SELECT count(*) = 0 FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype NOT IN ('virtualxid', 'advisory')
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())}),
		"$name: no lock is left");
}

# All of a load is there, as it was given.
sub all_there
{
	my ($database, $category, $before, $in_streams, $count, $name) = @_;

	is( $node->safe_psql($database, qq{
			SELECT count(*), count(DISTINCT stream), bool_and(data::int = nth), bool_and(version = (nth + $in_streams - 1) / $in_streams),
				bool_and(stream = '$category-' || nth % $in_streams)
			FROM (SELECT *, row_number() OVER (ORDER BY position) AS nth FROM es_read_category('$category', $before, NULL)) e}),
		"$count|$in_streams|t|t|t", "$name: all events are there, in order, versions without gap");
	is( $node->safe_psql($database, qq{
			SELECT (SELECT count(*) FROM es_read_all($before, NULL)), (SELECT count(*) FROM es_read_tagged('{$category}', NULL, $before, NULL)),
				(SELECT count(*) FROM es_streams WHERE category = '$category'),
				es_stream_version('$category-0')}),
		join('|', $count, $count / 100, $in_streams, $count / $in_streams), "$name: every way of reading finds them");
	is( $node->safe_psql($database, qq{
			SELECT es_append('$category-0', 'After', expected_version => $count / $in_streams) - $count / $in_streams}),
		'1', "$name: its streams go on");
	is( $node->safe_psql($database, q{SELECT es_settled_position() = last_value FROM eventstore.position_seq}),
		't', "$name: all is settled");
}

# The position that a reader has come to.
sub settled
{
	return $node->safe_psql($_[0], 'SELECT es_settled_position()');
}

# Starts a load and waits until it stands at its gate; the script, its backend.
sub start_load
{
	my ($database, $sql) = @_;
	my $script = start_script($node, $database, $sql);

	$node->poll_query_until($database, q{
		SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted})
	  or die 'the load does not come to its gate';
	return ($script, $node->safe_psql($database, q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted}));
}

sub wait_gone
{
	my ($pid) = @_;

	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
}

# Ends a load in the middle; its script's output on errors, if it has ended.
my %ends = (
	cancelled => sub {
		my ($script, $pid) = @_;
		$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
		# it goes on to wait for the second lock
		$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE pid = $pid AND locktype = 'advisory' AND objid = 2 AND NOT granted")
		  or die 'the load was not cancelled';
	},
	terminated => sub {
		my ($script, $pid) = @_;
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		wait_gone($pid);
		like((finish_script($script))[1], qr/terminating connection due to administrator command/, 'the load was terminated');
	},
	killed => sub {
		my ($script, $pid) = @_;
		my $log = -s $node->logfile;
		kill 'KILL', $pid;
		like((finish_script($script))[1], qr/server closed the connection unexpectedly/, 'the load was killed');
		$node->wait_for_log(qr/database system is ready to accept connections/, $log);
		$node->poll_query_until('postgres', 'SELECT true');
	});

foreach my $load (sort keys %loads)
{
	foreach my $end (sort keys %ends)
	{
		my ($database, $in_streams) = @{ $loads{$load} };
		my $category = "${load}_$end";
		my $statement = load_statement($load, $category);
		my $before = settled($database);
		my $holder = $node->background_psql($database);

		$holder->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
		# who is cancelled loads again, in the same session
		my ($script, $pid) = start_load($database,
			"$statement;\n" . ($end eq 'cancelled' ? "SELECT pg_advisory_lock_shared(2);\n$statement;\n" : ''));
		is( $node->safe_psql($database, qq{
				SELECT last_value > $before + 20000 AND es_settled_position() <= $before
					AND NOT EXISTS (SELECT FROM es_read_all($before)) AND es_stream_version('$category-1') = 0
				FROM eventstore.position_seq}),
			't', "$load: in the middle, nobody else sees anything of it");
		$ends{$end}->($script, $pid);
		nothing_left($database, $category, $before, "$load, $end");

		$before = settled($database);
		$holder->query_safe('SELECT pg_advisory_unlock_all()') if $end eq 'cancelled';
		$holder->quit;
		if ($end eq 'cancelled')
		{
			is_deeply([ (finish_script($script))[1] =~ /(?:ERROR|FATAL): .*/g ], ['ERROR:  canceling statement due to user request'],
				"$load: the load was cancelled, and again it is not");
		}
		else
		{
			$node->safe_psql($database, $statement);
		}
		all_there($database, $category, $before, $in_streams, $rows, "$load, $end, and again");
	}
}

# Without any lock in the way: a COPY without end.
my $before = settled('postgres');
my $script = start_script($node, 'postgres', q{
	COPY es_events (stream, type, data) FROM PROGRAM
		'perl -e "for (\$n = 0;; \$n++) { print qq(endless-), \$n % 5000, qq(,T,\$n\n) }"' (FORMAT csv);
});
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_progress_copy WHERE tuples_processed > $at")
  or die 'the COPY does not come on';
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM pg_stat_progress_copy');
like((finish_script($script))[1], qr/canceling statement due to user request/, 'a COPY without end is cancelled');
nothing_left('postgres', 'endless', $before, 'endless');

# A bad line far in, from the client.
my $late = 150_000;
my $many = 160_000;
my $bad = write_rows('bad', $many, $late);
my $good = write_rows('good', $many);
my $stdin = 'COPY es_events (stream, type, data, metadata) FROM STDIN';

# copy_in(file): the file through psql, with its category put in
sub copy_in
{
	my ($rows_file) = @_;
	my ($out, $err);

	run_log([ 'sh', '-c', 'sed s/%/late/g "$0" | "$@"', $rows_file,
			$node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-c', $stdin ],
		'>', \$out, '2>', \$err);
	return $err;
}

$before = settled('postgres');
my $error = copy_in($bad);
like($error, qr/invalid input syntax for type json/, "line $late is bad");
like($error, qr/COPY es_events, line $late, column data/, 'and the client is told which one it is');
nothing_left('postgres', 'late', $before, 'a bad line');
$before = settled('postgres');
is(copy_in($good), '', 'the good file is taken');
all_there('postgres', 'late', $before, $streams, $many, 'a good file after a bad one');

foreach my $database ('postgres', 'segments')
{
	is(gaps($node, $database), '', "$database: versions have no gap");
	SKIP:
	{
		skip 'amcheck is not there', 1
		  if $node->safe_psql($database, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) eq '0';
		$node->safe_psql($database, 'CREATE EXTENSION amcheck');
		my (undef, undef, $err) = $node->psql($database, q{
			SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
			WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r'
				AND (SELECT amname FROM pg_class x JOIN pg_am a ON a.oid = x.relam WHERE x.oid = i.indexrelid) = 'btree'});
		is($err, '', "$database: indexes and tables agree");
	}
}

$node->stop;
done_testing();
