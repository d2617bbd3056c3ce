# Many writers that commit, roll back, use savepoints and prepare at random, and
# readers of each kind that follow: every reader sees every committed event
# exactly once, in order.  ES_SEED repeats a run, ES_TORTURE_TXNS (transactions a
# writer), ES_TORTURE_WRITERS and ES_TORTURE_READERS make it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $writers = $ENV{ES_TORTURE_WRITERS} // 6;
my $readers = $ENV{ES_TORTURE_READERS} // 6;
my $txns = $ENV{ES_TORTURE_TXNS} // 250;
my $segment_size = $ENV{ES_TORTURE_SEGMENT} // 700;
my $categories = 3;

my $node = new_node('main');
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$node->safe_psql('postgres', "SELECT es_set_segment_size($segment_size)");
$node->safe_psql('postgres', q{
	CREATE TABLE seen (reader int, nth bigserial, position bigint, stream text, version bigint, event_id uuid);
	CREATE TABLE torture (ended boolean, upto bigint);
	INSERT INTO torture VALUES (false, NULL);

	-- follow(reader, kind, ...) is a consumer as the manual has it: a page, its
	-- checkpoint, commit, next page.
	CREATE PROCEDURE follow(reader int, kind text, category text, page bigint) LANGUAGE plpgsql AS $$
	DECLARE
		at bigint := 0;
		next bigint;
		settled bigint;
		got bigint;
		rows bigint;
		ended boolean;
		goal bigint;
	BEGIN
		LOOP
			SELECT t.ended, t.upto INTO ended, goal FROM torture t;
			IF kind = 'all' THEN
				INSERT INTO seen SELECT follow.reader, nextval('seen_nth_seq'), e.position, e.stream, e.version, e.event_id FROM es_read_all(at, page) e;
			ELSIF kind = 'category' THEN
				settled := es_settled_position();
				INSERT INTO seen SELECT follow.reader, nextval('seen_nth_seq'), e.position, e.stream, e.version, e.event_id
				FROM es_read_category(category, at, page, to_position => settled) e;
			ELSE
				settled := es_settled_position();
				INSERT INTO seen SELECT follow.reader, nextval('seen_nth_seq'), e.position, e.stream, e.version, e.event_id
				FROM es_read_all(at, page, stream_prefix => category, to_position => settled) e;
			END IF;
			GET DIAGNOSTICS rows = ROW_COUNT;
			SELECT max(s.position) INTO next FROM seen s WHERE s.reader = follow.reader;
			IF kind = 'all' THEN
				at := coalesce(next, at);
				settled := es_settled_position();
			ELSIF rows < page THEN
				at := settled;
			ELSE
				at := next;
			END IF;
			COMMIT;
			EXIT WHEN ended AND rows = 0 AND (at >= goal OR kind = 'all');
			IF rows = 0 AND NOT ended THEN
				PERFORM es_wait(greatest(at, settled), '50ms');
				COMMIT;
			END IF;
		END LOOP;
	END
	$$;
	CREATE INDEX ON seen (reader, position);
});

# One writer's script.
sub writer_script
{
	my ($writer) = @_;
	my $sql = "SET statement_timeout = '120s';\n";
	my $gid = 0;

	for my $txn (1 .. $txns)
	{
		my $kind = rand();
		# What is prepared stays on streams of this transaction's own: whoever waits for it must not be this session.
		my $prepare = $kind > 0.85;
		my $name = sub { 'torture_' . int(rand($categories)) . '-' . ($prepare ? "p-$writer-$txn" : rand() < 0.3 ? 'shared' : "$writer-" . int(rand(5))) };
		my $append = sub {
			my $how = rand();
			my $n = 1 + int(rand(5));
			my $stream = $name->();
			return "SELECT es_append('$stream', 'T');\n" if $how < 0.5;
			return "SELECT es_append_batch('$stream', (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, $n)));\n" if $how < 0.7;
			return "INSERT INTO es_events (stream, type, data) SELECT '$stream', 'T', '{}' FROM generate_series(1, $n);\n" if $how < 0.85;
			return "SELECT es_append('$stream', 'T', event_id => gen_random_uuid()), es_append('$stream', 'T');\n" if $how < 0.95;
			return "DO \$\$ BEGIN PERFORM es_append('$stream', 'T'); RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END \$\$;\n";
		};
		my $nap = sub { rand() < 0.4 ? sprintf("SELECT pg_sleep(%.4f);\n", rand(0.008)) : '' };

		if ($kind < 0.3)
		{
			$sql .= $append->();
			next;
		}
		$sql .= rand() < 0.2 ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\n" : "BEGIN;\n";
		for (0 .. int(rand(3)))
		{
			my $sub = rand();
			if ($sub < 0.3)
			{
				$sql .= "SAVEPOINT s;\n" . $append->() . $nap->() . ($sub < 0.2 ? "ROLLBACK TO s;\n" : "RELEASE s;\n");
			}
			else
			{
				$sql .= $append->() . $nap->();
			}
		}
		if ($prepare)
		{
			my $id = "torture $writer " . ++$gid;
			$sql .= "PREPARE TRANSACTION '$id';\n" . $nap->() . (rand() < 0.5 ? "SELECT es_append('torture_0-$writer-0', 'T');\n" . $nap->() : '')
			  . (rand() < 0.6 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$id';\n";
		}
		else
		{
			$sql .= rand() < 0.7 ? "COMMIT;\n" : "ROLLBACK;\n";
		}
	}
	return $sql;
}

my @write = map { start_script($node, 'postgres', writer_script($_)) } (1 .. $writers);
my @read;
for my $reader (1 .. $readers)
{
	my $page = (7, 100, 1000)[ int(rand(3)) ];
	my ($kind, $category) = $reader % 3 == 1 ? ('all', '') : $reader % 3 == 2 ? ('category', 'torture_' . int(rand($categories))) : ('prefix', 'torture_' . int(rand($categories)) . '-s');
	my $isolation = rand() < 0.4 ? "SET default_transaction_isolation = 'repeatable read';\n" : '';
	push @read, { reader => $reader, kind => $kind, category => $category,
		script => start_script($node, 'postgres', "${isolation}CALL follow($reader, '$kind', '$category', $page);\n", '-v', 'ON_ERROR_STOP=1') };
}

my %errors;
foreach (@write)
{
	my ($out, $err) = finish_script($_);
	$errors{$_}++ foreach $err =~ /ERROR:  (.*)/g;
}
# Deadlocks between streams are the writers' own doing, and what follows from them in their transactions.
foreach (sort keys %errors)
{
	note "$errors{$_} × $_";
	next if /^deadlock detected|^current transaction is aborted|^prepared transaction with identifier .* does not exist|^savepoint "s" does not exist/;
	fail("a writer failed: $_");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left prepared');
is($node->safe_psql('postgres', 'SELECT es_settled_position() = (SELECT last_value FROM eventstore.position_seq)'), 't', 'with no append in flight all is settled');
$node->safe_psql('postgres', 'UPDATE torture SET ended = true, upto = es_settled_position()');

foreach (@read)
{
	my ($out, $err) = finish_script($_->{script});
	is($err, '', "reader $_->{reader} had no error");

	my $filter = $_->{kind} eq 'all' ? 'true' : $_->{kind} eq 'category' ? "stream LIKE '$_->{category}-%'" : "stream LIKE '$_->{category}%'";
	is($node->safe_psql('postgres', qq{
			SELECT count(*) FROM (SELECT position, lag(position) OVER (ORDER BY nth) AS before FROM seen WHERE reader = $_->{reader}) s WHERE before >= position}),
		'0', "reader $_->{reader} ($_->{kind} $_->{category}) saw events in order, none twice");
	is($node->safe_psql('postgres', qq{
			SELECT count(*) FROM es_events e FULL JOIN (SELECT * FROM seen WHERE reader = $_->{reader}) s
				USING (position, stream, version, event_id)
			WHERE (e.type IS NULL OR s.reader IS NULL) AND $filter}),
		'0', "reader $_->{reader} ($_->{kind} $_->{category}) saw every committed event, and no other");
	note "reader $_->{reader} saw " . $node->safe_psql('postgres', "SELECT count(*) FROM seen WHERE reader = $_->{reader}");
}
is(gaps($node, 'postgres'), '', 'versions have no gap');
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT position) FROM es_events}), '0', 'no position twice');
is($node->safe_psql('postgres', q{
		SELECT count(*) FROM (SELECT position, recorded_at, lag(position) OVER w AS p, lag(recorded_at) OVER w AS t FROM es_events WINDOW w AS (PARTITION BY stream ORDER BY version)) e
		WHERE position <= p OR recorded_at < t}), '0', 'positions and times follow the versions of each stream');
SKIP:
{
	skip 'amcheck is not there', 1
	  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) eq '0';
	$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
	my ($ret, $out, $err) = $node->psql('postgres', q{
		SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r'
			AND (SELECT amname FROM pg_class x JOIN pg_am a ON a.oid = x.relam WHERE x.oid = i.indexrelid) = 'btree'});
	is($err, '', 'indexes and tables agree');
}
note $node->safe_psql('postgres', q{SELECT count(*) || ' events, ' || max(position) - count(*) || ' holes, ' || (SELECT count(*) FROM es_segments) || ' segments' FROM es_events});

$node->stop;
done_testing();
