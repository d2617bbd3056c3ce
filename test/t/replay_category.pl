# es_replay_category against SQL over es_events: streams of several categories
# written between each other, in one segment and in many, with rollbacks,
# transactions in flight and VACUUM on the way. ES_SEED repeats a run.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $node = new_node('main');
my $database;

# Runs statements where the streams are.
sub run { return $node->safe_psql($database, join ' ', @_); }

# make_store(segment size): what writes streams, and tells how they are to be.
sub make_store
{
	my ($segment_size) = @_;

	$database = "segments_of_$segment_size";
	new_store($node, $database, $segment_size);
	run(q{
		-- each event's data say which it is; a few streams are written at the same time
		CREATE PROCEDURE write(first int, rounds int, seed float8) LANGUAGE plpgsql AS $$
		DECLARE
			n int;
		BEGIN
			PERFORM setseed(seed);
			FOR round IN 1..rounds LOOP
				PERFORM count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', stream, 'type', 'T', 'data', jsonb_build_object(gen_random_uuid(), 1)) ORDER BY o)
					FROM (SELECT (ARRAY['a', 'b', 'rare'])[1 + trunc(random() * 2.02)::int] || '-' || first + trunc(random() * 40)::int AS stream, random() AS o
						FROM generate_series(1, 1 + trunc(random() * 200)::int)) s));
				n := trunc(random() * 10);
				IF n = 0 THEN
					ROLLBACK;
				ELSIF n = 1 THEN
					BEGIN
						PERFORM es_append('a-' || i, 'Undone', '{"undone": 1}') FROM generate_series(first, first + 39) i;
						RAISE EXCEPTION 'undo';
					EXCEPTION WHEN raise_exception THEN
					END;
				END IF;
				COMMIT;
			END LOOP;
			-- the last ones are never written over
			PERFORM es_append('b-' || i, 'Undone', '{"undone": 1}') FROM generate_series(first, first + 39) i;
			ROLLBACK;
		END $$;
		CREATE VIEW wanted AS SELECT split_part(stream, '-', 1) AS category, stream, max(version) AS version, max(position) AS position,
			max(recorded_at) AS recorded_at, jsonb_object_agg(key, value) AS state
			FROM es_events, jsonb_each(data) GROUP BY stream;
		SELECT es_register_reducer_ops('fold', 'T', '["merge", {"inc": {"n": 1}}]'), es_register_reducer_ops('fold', 'Undone', '"merge"');
		CREATE FUNCTION differences(category text) RETURNS bigint LANGUAGE sql AS $$
			SELECT count(*) FROM (SELECT stream, version, position, state - 'n' AS state, (state->>'n')::bigint AS n, recorded_at FROM es_replay_category($1, 'fold')) g
			FULL JOIN (SELECT * FROM wanted WHERE category = $1) w USING (stream)
			WHERE (g.version, g.n, g.position, g.recorded_at, g.state) IS DISTINCT FROM (w.version, w.version, w.position, w.recorded_at, w.state) $$;});
	return;
}

# write_streams(rounds): in five groups of streams, one after the other.
sub write_streams
{
	my ($rounds) = @_;

	run("CALL write($_, $rounds, " . rand() . ')') foreach map { 40 * $_ } 1 .. 5;
	return;
}

# All categories as they are, read in several ways.
sub is_right
{
	my ($name, $before) = @_;

	foreach my $how ('max_parallel_workers_per_gather = 0', 'max_parallel_workers_per_gather = 2',
		"default_transaction_isolation = 'repeatable read'", "default_transaction_isolation = 'serializable'")
	{
		is(run("SET $how; BEGIN; ", $before // '', q{SELECT sum(differences(c)) FROM unnest('{a,b,rare,none}'::text[]) c}),
			'0', "$database: $name: $how");
	}
	return;
}

# At a time between two events, where reading ends in the middle of streams.
sub is_right_as_of
{
	my ($name) = @_;

	is(run(q{WITH t AS MATERIALIZED (SELECT recorded_at AS at FROM es_events OFFSET (SELECT trunc(count(*) * random()) FROM es_events) LIMIT 1)
		SELECT count(*) FROM t, LATERAL (
			SELECT FROM es_replay_category('a', 'merge', t.at) g FULL JOIN (
				SELECT stream, max(version) AS version, jsonb_object_agg(key, value) AS state FROM es_events, jsonb_each(data)
				WHERE split_part(stream, '-', 1) = 'a' AND recorded_at <= t.at GROUP BY stream) w USING (stream)
			WHERE (g.version, g.state) IS DISTINCT FROM (w.version, w.state)) d}), '0', "$database: $name: as of a time in the middle");
	return;
}

foreach my $segment_size (2000, 1000000)
{
	my $round = 0;

	make_store($segment_size);
	foreach my $vacuum ('', 'VACUUM eventstore.events', 'VACUUM FREEZE eventstore.events')
	{
		$round++;
		write_streams(20);
		run($vacuum) if $vacuum;
		write_streams(2);
		is_right("round $round");
		is_right_as_of("round $round");
	}
	cmp_ok(run('SELECT count(*) FROM es_events'), '>', 22000, 'enough for parallel workers');

	# what others have in flight is not seen, what is one's own is
	run(q{BEGIN; SELECT es_append('a-' || i, 'T', '{"prepared": 1}') FROM generate_series(40, 200) i; PREPARE TRANSACTION 'in flight'});
	is_right('beside a prepared transaction');
	run(q{COMMIT PREPARED 'in flight'});
	is_right('after its commit');
	is_right('with appends of its own', q{DO $$ BEGIN PERFORM es_append('b-' || i, 'T', jsonb_build_object('own', i)) FROM generate_series(40, 500) i; END $$;});

	# from snapshots, which begin in the middle of streams
	run(q{SELECT es_snapshot('a-' || i, 'fold') FROM generate_series(40, 239, 3) i WHERE es_stream_version('a-' || i) > 0});
	write_streams(1);
	is_right('from snapshots');
}

# an event that is gone, behind the store's back, is told as it is, whoever comes to it
$database = 'damaged';
new_store($node, $database, 1000000);
run(q{SELECT count(*) FROM generate_series(0, 29) g, es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'p-' || 100 * g + n / 10, 'type', 'T') ORDER BY n) FROM generate_series(0, 999) n));
	ALTER TABLE eventstore.events_0 DISABLE TRIGGER ALL; DELETE FROM eventstore.events_0 WHERE stream = 'p-2900' AND version = 5; ALTER TABLE eventstore.events_0 ENABLE TRIGGER ALL;});
is(sqlstates($node, $database, "SET max_parallel_workers_per_gather = $_; SELECT count(*) FROM es_replay_category('p', 'count')"), 'VE008', "a missing event, with $_ workers") foreach 0, 2;

# pages are read before their rows are wanted, but not those of another category, whose streams lie between
$database = 'between';
$node->append_conf('postgresql.conf', 'shared_buffers = 64MB');
$node->restart;
new_store($node, $database, 1000000);
foreach my $categories ('{own,other}', ('{own}', '{other}') x 19)
{
	run(qq{SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', category || '-' || s, 'type', 'T', 'data', jsonb_build_object('text', repeat(md5(category || s), 45))) ORDER BY s)
		FROM generate_series(1, 100) s, unnest('$categories'::text[]) category))});
}
run('VACUUM FREEZE eventstore.events');
{
	my $fold = q{SET max_parallel_workers_per_gather = 0; EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off) SELECT count(state) FROM es_replay_category('own', 'count');};
	my ($buffers) = run("$fold $fold") =~ /.*^Aggregate[^\n]*\n\s*Buffers: shared ([^\n]*)/ms;
	my $read = 0;
	my $pages = run(q{SELECT count(DISTINCT (ctid::text::point)[0]) FROM eventstore.events WHERE stream LIKE 'own-%'});

	$read += $1 while $buffers =~ /=(\d+)/g;
	cmp_ok($pages, '>', 350, 'own events are on many pages');
	cmp_ok($read, '<', 1.6 * $pages, 'few others are read');
}

done_testing();
