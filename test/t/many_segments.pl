# A log of hundreds of segments, on a server whose lock table is small: what
# reads it does not collect locks, what looks at one place does not touch the
# others, and sealed segments know how many events they have.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $segments = 400;
my $node = new_node('main', conf => "max_connections = 10\nmax_prepared_transactions = 2\nmax_locks_per_transaction = 16\nautovacuum = off\n");

new_store($node, 'many', 100);

# wide-1 has an event in each segment, large-1 in the first 40 a value that is stored out of line, early-1 all its own at the beginning
my @fill = map { my $from = $_ * 1000; qq{INSERT INTO es_events (stream, type, data)
	SELECT CASE n % 100 WHEN 50 THEN 'wide-1' WHEN 51 THEN CASE WHEN n < 4000 THEN 'large-1' ELSE 's-x' END ELSE CASE WHEN n <= 100 THEN 'early-1' ELSE 's-' || n / 100 END END, 'T',
		CASE WHEN n % 100 = 51 AND n < 4000 THEN (SELECT to_jsonb(string_agg(md5(n || '/' || i), '')) FROM generate_series(1, 400) i) ELSE to_jsonb(n) END
	FROM generate_series($from + 1, $from + 1000) n;} } 0 .. $segments / 10 - 1;
$node->safe_psql('many', join("\n", @fill));
is($node->safe_psql('many', 'SELECT count(*) FROM es_segments WHERE state = \'full\''), $segments, 'there are many segments');

# locks_after(sql): the result, and how many locks on segments and their indexes the transaction holds then
sub locks_after
{
	my ($sql, $end) = @_;

	my $locks = q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = pg_backend_pid() AND c.relname ~ '^events_\d'};
	return $node->safe_psql('many', "BEGIN; $sql; $locks; " . ($end // 'COMMIT'));
}

my $events = $segments * 100;
my $other = $events - 40;
is(locks_after(q{SELECT count(*) FROM es_read('wide-1')}), "$segments\n0", 'es_read over all segments holds no lock on them');
is(locks_after(q{SELECT count(*) FROM es_read('wide-1', backwards => true)}), "$segments\n0", 'nor backwards');
is(locks_after(q{SELECT count(*) FROM es_read_all(0, NULL, '{wide,s,early}')}), "$other\n0", 'nor es_read_all');
is(locks_after(q{SELECT count(*) FROM es_read_category('wide', 0, NULL)}), "$segments\n0", 'nor es_read_category');
is(locks_after(q{SELECT count(*) FROM es_replay_category('s', 'merge')}), $segments + 1 . "\n0", 'nor es_replay_category');
is(locks_after(q{SELECT state FROM es_replay('wide-1', 'count')}), qq({"count": $segments}\n0), 'nor es_replay');
is(locks_after(q{SELECT es_stream_version('wide-1'), es_settled_position()}), "$segments|$events\n0", 'nor looks at the tip');
is(locks_after(q{SELECT sum(events), count(from_time), count(to_time) FROM es_segments}), "$events|$segments|$segments\n0", 'nor es_segments');
is(locks_after(q{SELECT sum(version) FROM es_streams}), "$events\n0", 'nor es_streams');

# What is out of line is read by whoever looks at the values, and its table must stay until then.
is(locks_after(q{SELECT count(*) FROM es_read('large-1')}), "40\n0", 'values that nobody asks for lock nothing');
is(locks_after(q{SELECT count(data) FROM es_read('large-1')}), "40\n40", 'a segment that gave out values from its TOAST table stays locked, its indexes do not');
is(locks_after(q{SELECT count(data) FROM es_read('large-1', 11, 5)}), "5\n5", '... those that were read');
is(locks_after(q{SELECT length(state ->> 'data') FROM es_replay('large-1', 'last')}), "12800\n0", 'a fold is done with them when it leaves the segment');
my $reader = $node->background_psql('many', on_error_stop => 0);
$reader->query_safe(q{BEGIN; DECLARE c CURSOR FOR SELECT length(data #>> '{}') FROM es_read('large-1', 3, 2); FETCH 1 FROM c});
my $ddl = start_script($node, 'many', q{SET application_name = 'ddl'; VACUUM FULL eventstore.events_3;});
ok($node->poll_query_until('many', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'ddl' AND wait_event_type = 'Lock'}), 'a rewrite of the segment waits');
is($reader->query_safe('FETCH 1 FROM c'), '12800', 'for who still reads the values');
$reader->query_safe('COMMIT');
$reader->quit;
is((finish_script($ddl))[1], '', 'and then goes on');

# Appends to streams whose ends are in as many segments.
is(locks_after(qq{SELECT count(es_append('s-' || n, 'T')) FROM generate_series(10, $segments - 10) n}, 'ROLLBACK') =~ s/.*\n//r < 40 ? 'few' : 'many',
	'few', 'appends to streams that slept in as many segments hold locks on those that they write to only');

is($node->safe_psql('many', q{BEGIN; SELECT es_append_batch('filling-1', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 450)));
	SELECT count(*) > 3, count(*) FILTER (WHERE c.relkind = 'i' AND mode = 'RowExclusiveLock') FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
	WHERE l.pid = pg_backend_pid() AND c.relname ~ '^events_\d'; ROLLBACK}), "450\nt|0", 'a batch over some segments holds a lock on each, and none on their indexes');

# What is asked of one place is read there.  blocks(sql): how many blocks of segments and their indexes are read.
sub blocks
{
	my ($sql) = @_;
	my $count = q{SELECT sum(pg_stat_get_xact_blocks_fetched(c.oid)) FROM pg_class c WHERE c.relname ~ '^events_\d' AND relkind IN ('r', 'i')};

	return $node->safe_psql('many', "BEGIN; SELECT count(*) FROM ($sql) q; $count; COMMIT") =~ s/.*\n//r;
}

cmp_ok(blocks("SELECT * FROM es_read('wide-1', $segments / 2, 1)"), '<', 60, 'es_read finds a version in the middle by halves');
cmp_ok(blocks("SELECT * FROM es_read('wide-1', $segments - 1)"), '<', 60, '... or near the end');
cmp_ok(blocks("SELECT * FROM es_read('wide-1', $segments / 2, 1, true)"), '<', 60, '... or backwards from there');
cmp_ok(blocks("SELECT * FROM es_read('early-1')"), '<', 20 + 100, 'es_read of a stream within one segment reads that');
cmp_ok(blocks("SELECT es_append('wide-1', 'T')"), '<', 60, 'es_append looks at the last segment');
cmp_ok(blocks("SELECT es_append('fresh-1', 'T')"), '<', 60, '... and at no other for a new stream');
cmp_ok(blocks('SELECT from_time, to_time FROM es_segments WHERE segment = 7'), '<', 20, 'es_segments of one segment reads that');
cmp_ok(blocks('SELECT segment, first_position, last_position, bytes, state FROM es_segments'), '<', 20, '... and no event where no column needs one');
cmp_ok(blocks("SELECT version FROM es_streams WHERE stream = 'early-1'"), '<', 20, 'es_streams of one stream reads its last segment');

# By halves, and one after the other: the same.
is($node->safe_psql('many', q{SELECT string_agg(v || ':' || e.version || ':' || b.version, ' ') FROM (SELECT * FROM es_streams WHERE stream IN ('wide-1', 'early-1', 's-7', 's-200')) s,
		generate_series(1, s.version, 3) v, es_read(s.stream, v, 1) e, es_read(s.stream, v, 1, true) b WHERE e.version <> v OR b.version <> v}), '', 'every version is found');
# sparse-1 has events far apart; its versions are gapless all the same
$node->safe_psql('many', q{SELECT es_append('sparse-1', 'A'); SELECT es_append('sparse-1', 'A')});
$node->safe_psql('many', q{INSERT INTO es_events (stream, type) SELECT 'fill-1', 'F' FROM generate_series(1, 900)}) for 1 .. 2;
$node->safe_psql('many', q{SELECT es_append('sparse-1', 'B'); INSERT INTO es_events (stream, type) SELECT 'fill-1', 'F' FROM generate_series(1, 900); SELECT es_append('sparse-1', 'C')});
is($node->safe_psql('many', q{SELECT string_agg((SELECT string_agg(version::text, ',') FROM es_read('sparse-1', v)) || ' ' || (SELECT string_agg(version::text, ',') FROM es_read('sparse-1', v, NULL, true)), '|') FROM generate_series(1, 4) v}),
	'1,2,3,4 1|2,3,4 2,1|3,4 3,2,1|4 4,3,2,1', 'also where whole segments have none of the stream');
is($node->safe_psql('many', q{SELECT count(*), (SELECT count(*) FROM es_read('sparse-1', 5, NULL, true)) FROM es_read('sparse-1', 5)}), '0|4', 'and past the end');

# seal(upto): appends until the segments up to there are sealed; a worker seals when the newest one is half full
sub seal
{
	my ($upto) = @_;

	foreach (1 .. 100)
	{
		$node->safe_psql('many', "SELECT es_append('seal-1', 'S');\n" x 100);
		return 1 if $node->safe_psql('many', "SELECT bool_and(state = 'sealed') FROM es_segments WHERE segment <= $upto") eq 't';
	}
	return 0;
}
my $old = $node->background_psql('many');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $before = $old->query_safe('SELECT sum(events), count(to_time) FROM es_segments');
ok(seal($segments - 1), 'complete segments are sealed');
is($old->query_safe('SELECT sum(events), count(to_time) FROM es_segments'), $before, 'an older snapshot sees what it saw');
$old->query_safe('COMMIT');
$old->quit;

# A prepared transaction has an event in a segment that is full: it is not sealed before that ends.
$node->safe_psql('many', q{BEGIN; SELECT es_append('late-1', 'L'); PREPARE TRANSACTION 'late'});
my $late = $node->safe_psql('many', q{SELECT max(segment) FROM es_segments, eventstore.position_seq WHERE first_position <= last_value});
$node->safe_psql('many', "SELECT es_append('seal-1', 'S');\n" x 350);
$node->poll_query_until('many', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'eventstore segment maker'});
is($node->safe_psql('many', "SELECT count(*) FROM eventstore.segments WHERE segment >= $late AND (sealed OR events IS NOT NULL)"), '0', 'none is sealed that a prepared transaction has an event in');
$node->safe_psql('many', q{COMMIT PREPARED 'late'});
ok(seal($late), 'after its end it is');

my $counted = q{SELECT count(*), count(*) FILTER (WHERE s.sealed), count(*) FILTER (WHERE s.sealed AND s.events IS NULL), count(*) FILTER (WHERE s.events <> e.events OR v.events <> coalesce(e.events, 0) OR v.from_time <> e.from_time OR v.to_time <> e.to_time)
	FROM eventstore.segments s JOIN es_segments v USING (segment)
	LEFT JOIN (SELECT (position - 1) / 100 AS segment, count(*) AS events, min(recorded_at) AS from_time, max(recorded_at) AS to_time FROM es_read_all(0, NULL) GROUP BY 1) e USING (segment)};
like($node->safe_psql('many', $counted), qr/^(\d+)\|(\d+)\|0\|0$/, 'sealed segments know how many events they have, and all are right');
cmp_ok(blocks("SELECT events FROM es_segments WHERE state = 'sealed'"), '<', 20, 'so they need not be counted again');

# Counts travel with a dump.
$node->append_conf('postgresql.conf', "max_locks_per_transaction = 256\n");
$node->restart;
my $digest = $node->safe_psql('many', 'SELECT md5(string_agg(s::text, E\'\n\' ORDER BY segment)), count(events) FROM eventstore.segments s');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'sh', '-ec', $node->installed_command('pg_dump') . ' -d "' . $node->connstr('many') . '" | ' . $node->installed_command('psql') . ' -Xq -v ON_ERROR_STOP=1 -d "' . $node->connstr('copy') . '"' ], 'dumped and restored');
is($node->safe_psql('copy', 'SELECT md5(string_agg(s::text, E\'\n\' ORDER BY segment)), count(events) FROM eventstore.segments s'), $digest, 'the counts are in the dump');
is($node->safe_psql('copy', $counted), $node->safe_psql('many', $counted), 'and right in the copy');

$node->stop;
done_testing();
