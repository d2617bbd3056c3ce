# pg_dump of a store with several segments, restored into a new database, gives
# an equal store, on which appends continue: plain, custom, parallel, in one
# transaction, in inserts, and from an extension in a schema of its own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $psql = $node->installed_command('psql');
my $pg_dump = $node->installed_command('pg_dump');
my $pg_restore = $node->installed_command('pg_restore');

# A store with everything that a row can hold.
$node->safe_psql('postgres', q{
	CREATE DATABASE source;
});
$node->safe_psql('source', q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(200);
});
$node->safe_psql('source', q{
	SELECT count(es_append('order-' || n % 37, 'OrderPlaced', jsonb_build_object('n', n), jsonb_build_object('by', n % 5))) FROM generate_series(1, 700) n;
	BEGIN;
	SELECT es_append('undone-1', 'Undone');
	ROLLBACK;
	SELECT es_append_batch('batch-1', (SELECT jsonb_agg(jsonb_build_object('type', 'B', 'event_id', gen_random_uuid())) FROM generate_series(1, 250)));
	SELECT es_append(E'quote\\'\\\\ "x"-1', 'a\\b', '"\\\\t\\u00e9"', event_id => '0189ffff-0000-7000-8000-000000000001');
	SELECT es_append('big-1', 'Big', jsonb_build_object('s', string_agg(md5(n::text), ''))) FROM generate_series(1, 20000) n;
	INSERT INTO es_events (stream, type, data, recorded_at) VALUES ('old-1', 'Imported', 'null', '2001-02-03 04:05:06.789012+00');
	SELECT es_append('sleeper-1', 'A');
	BEGIN;
	SELECT es_append('undone-2', 'Undone');
	ROLLBACK;
	CREATE FUNCTION by_body(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql RETURN state || jsonb_build_object('n', (event).version);
	CREATE FUNCTION by_source(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = public AS 'BEGIN RETURN state || data; END';
	CREATE TYPE mood AS ENUM ('good', 'bad');
	CREATE TYPE totals AS (n numeric, mood mood, at timestamptz);
	CREATE FUNCTION by_type(state totals, event es_event) RETURNS totals LANGUAGE plpgsql AS
		$$BEGIN state.n := coalesce(state.n, 0) + 1; state.mood := 'bad'; state.at := event.recorded_at; RETURN state; END$$;
	SELECT es_create_reducer('totals', state_type => 'totals'), es_register_reducer('totals', '*', 'by_type(totals, es_event)');
	SELECT es_register_reducer('order', 'OrderPlaced', 'by_body(jsonb, es_event)'), es_register_reducer('order', 'x', 'by_source(jsonb, jsonb)'),
		es_register_reducer_ops('order', 'OrderGone', '[{"set": {"gone": "$.data"}}]');
	SELECT es_register_upcaster_ops('OrderPlaced', 1, '{"inc": {"n": 1}}');
	SELECT es_register_schema('OrderPlaced', '{"type": "object", "required": ["n"]}'), es_register_schema('OrderGone', 'true');
	SELECT es_snapshot_every('order', 10), es_snapshot_every('merge', 7);
	SELECT es_snapshot('order-1'), es_snapshot('order-1', 'totals'), es_snapshot('order-1', 'merge'), es_snapshot('order-1', 'count'), es_snapshot('order-1', 'last');
	SELECT es_subscribe('plain'), es_subscribe('shared', 10, '{order,batch}', '{OrderPlaced}', 4, 1);
	SELECT es_ack('plain', 0, max(position)) FROM es_poll('plain', 50);
	SELECT count(es_nack('shared', partition, min, 'no', 'm')) FROM (SELECT partition, min(position) FROM es_poll('shared', member => 'm', lease => '1 hour') GROUP BY partition) p;
	CREATE TABLE noted (position bigint PRIMARY KEY, stream text);
	CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO noted VALUES (e.position, e.stream)';
	SELECT es_create_projection('orders', 'merge', 'inline', 'order'), es_create_projection('by', 'count', key => '$.metadata.by'),
		es_create_handler_projection('noted', 'note(es_event)', categories => '{order}');
	SELECT es_run_projection('by'), es_run_projection('noted');
	SELECT es_append('left-' || i, 'L') FROM generate_series(1, 2) i, generate_series(1, 5);
	SELECT es_snapshot('left-1', 'count'), es_truncate_stream('left-1', 4), es_delete_stream('left-2');
	SELECT es_set_retention('aged', '30 days', 100);
});
$node->safe_psql('source', 'SELECT es_seal()');
my $digest = store_digest($node, 'source');
my $last = $node->safe_psql('source', 'SELECT es_settled_position()');
cmp_ok(scalar rows($node, 'source', 'SELECT segment FROM es_segments WHERE events > 0'), '>', 4, 'the store has several segments');

# An equal store, on which everything goes on.
sub check_copy
{
	my ($database, $how) = @_;

	is(store_digest($node, $database), $digest, "$how: equal store");
	is($node->safe_psql($database, 'SELECT count(*), (SELECT count(*) FROM es_seals) FROM es_verify()'), '0|1', "$how: it is what was sealed");
	is($node->safe_psql($database, q{SELECT es_append('order-1', 'After', expected_version => es_stream_version('order-1')) = 20}), 't',
		"$how: a stream continues with its next version");
	is($node->safe_psql($database, 'SELECT es_settled_position()'), $last + 1, "$how: with the next position");
	# were one of no use, its successor would be a second row
	is($node->safe_psql($database, q{
			SELECT es_snapshot('order-1'), es_snapshot('order-1', 'totals'), es_snapshot('order-1', 'merge'), es_snapshot('order-1', 'count'), es_snapshot('order-1', 'last');
			SELECT string_agg(concat_ws(' ', reducer, version, count), ', ' ORDER BY reducer) FROM
				(SELECT reducer, version, count(*) FROM es_snapshots WHERE stream = 'order-1' GROUP BY 1, 2) s}),
		"20|20|20|20|20\ncount 20 1, last 20 1, merge 20 1, order 20 1, totals 20 1", "$how: snapshots are of use");
	is($node->safe_psql($database, q{SELECT state->>'n', (es_replay_as('order-1', NULL::totals, 'totals')).n FROM es_replay('order-1')}),
		'19|20', "$how: reducers work");
	is($node->safe_psql($database, q{SELECT min(position), (SELECT count(*) FROM es_parked('shared')), (SELECT count(*) FROM es_poll('shared', NULL, member => 'm')) > 100 FROM es_poll('plain', 10)}),
		'51|4|t', "$how: subscriptions go on where they were");
	is($node->safe_psql($database, q{SELECT version, state FROM es_projection('orders', 'order-1')}), '20|{"n": 668}', "$how: inline projections go on");
	is($node->safe_psql($database, q{
			SELECT es_run_projection('by') * 0, es_run_projection('noted') * 0;
			SELECT count(*), sum(version) FROM es_projection('by');
			SELECT count(*), count(*) FILTER (WHERE stream = 'order-1') FROM noted}), "0|0\n5|700\n701|20", "$how: so do others, from where they were");
	is($node->safe_psql($database, q{
			SELECT es_append('sleeper-1', 'B', expected_version => 1), es_append('fresh-1', 'A', expected_version => 0),
				es_append(E'quote\\'\\\\ "x"-1', 'a\\b', '"\\\\t\\u00e9"', event_id => '0189ffff-0000-7000-8000-000000000001', expected_version => 0),
				es_stream_version('batch-1'), es_stream_version('undone-1')}),
		'2|1|1|250|0', "$how: known streams, new streams, retries");
	is($node->safe_psql($database, q{SELECT count(es_append('roll-' || n % 3, 'R')) FROM generate_series(1, 500) n}), 500,
		"$how: over to new segments");
	is($node->safe_psql($database, q{SELECT (SELECT array_agg(version) FROM es_read('left-1')), state, (SELECT count(*) FROM es_read('left-2')) FROM es_replay('left-1', 'count')}),
		'{4,5}|{"count": 5}|0', "$how: what was hidden stays so, with the state that it had");
	is(sqlstates($node, $database, q{SELECT es_append('left-2', 'L')}), 'VE003', "$how: what was deleted, too");
	is($node->safe_psql($database, 'SELECT category, max_age, max_count FROM es_retention'), 'aged|30 days|100', "$how: what ages out");
	is(gaps($node, $database), '', "$how: versions without gaps");
	is($node->safe_psql($database, q{
			SELECT count(*) = count(DISTINCT position), count(*) = (SELECT count(*) FROM es_events),
				(SELECT count(*) FROM (SELECT stream_id FROM eventstore.streams GROUP BY 1 HAVING count(*) > 1) d) FROM es_read_all(0, NULL)}),
		't|t|0', "$how: the log is whole");
	is(sqlstates($node, $database, q{UPDATE eventstore.events SET type = 'x'; TRUNCATE eventstore.events; DELETE FROM eventstore.streams;}, on_error_stop => 0),
		'VE002 VE002 VE002', "$how: guarded");
	is($node->safe_psql($database, q{
			SELECT count(*) FROM pg_inherits i, pg_trigger t
			WHERE i.inhparent = 'eventstore.events'::regclass AND t.tgrelid = i.inhrelid AND t.tgenabled <> 'A' AND NOT t.tgisinternal}),
		'0', "$how: each segment's guards are on always");
	is($node->safe_psql($database, q{
			SELECT count(*) FILTER (WHERE n <> 5) FROM (SELECT inhrelid, count(indexrelid) AS n FROM pg_inherits
			LEFT JOIN pg_index ON indrelid = inhrelid WHERE inhparent = 'eventstore.events'::regclass GROUP BY 1) i}),
		$node->safe_psql('source', q{
			SELECT count(*) FILTER (WHERE n <> 5) FROM (SELECT inhrelid, count(indexrelid) AS n FROM pg_inherits
			LEFT JOIN pg_index ON indrelid = inhrelid WHERE inhparent = 'eventstore.events'::regclass GROUP BY 1) i}),
		"$how: each segment has its indexes");
}

sub copy_by
{
	my ($how, $database, @commands) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	foreach my $command (@commands)
	{
		command_ok([ 'sh', '-ec', $command ], "$how: $command");
	}
	check_copy($database, $how);
}

my ($source, $host) = ($node->connstr('source'), $node->connstr('postgres'));
sub target { my $c = $node->connstr($_[0]); return $c; }

copy_by('plain', 'plain',
	"$pg_dump -d \"$source\" -f $dir/plain.sql",
	"$psql -Xq -v ON_ERROR_STOP=1 -d \"" . target('plain') . "\" -f $dir/plain.sql");
copy_by('plain in one transaction', 'single',
	"$psql -Xq1 -v ON_ERROR_STOP=1 -d \"" . target('single') . "\" -f $dir/plain.sql");
copy_by('inserts', 'inserts',
	"$pg_dump --inserts -d \"$source\" -f $dir/inserts.sql",
	"$psql -Xq -v ON_ERROR_STOP=1 -d \"" . target('inserts') . "\" -f $dir/inserts.sql > /dev/null");
copy_by('custom', 'custom',
	"$pg_dump -Fc -d \"$source\" -f $dir/custom.dump",
	"$pg_restore --exit-on-error -d \"" . target('custom') . "\" $dir/custom.dump");
copy_by('custom, parallel', 'parallel',
	"$pg_restore --exit-on-error -j 4 -d \"" . target('parallel') . "\" $dir/custom.dump");
copy_by('directory, parallel', 'directory',
	"$pg_dump -Fd -j 4 -d \"$source\" -f $dir/directory",
	"$pg_restore --exit-on-error -j 4 -d \"" . target('directory') . "\" $dir/directory");

# A dump of the restored store is the same again.
$node->safe_psql('postgres', 'CREATE DATABASE third');
command_ok([ 'sh', '-ec', "$pg_dump -d \"" . target('plain') . "\" | $psql -Xq -v ON_ERROR_STOP=1 -d \"" . target('third') . "\"" ], 'a copy of the copy');
is(store_digest($node, 'third'), store_digest($node, 'plain'), 'a copy of the copy is equal');

# A store that much has left.
my $thinned = new_thinned_store($node, 'thinned');
command_ok([ 'sh', '-ec', "$pg_dump -d \"" . target('thinned') . "\" -f $dir/thinned.sql; $pg_dump -Fc -d \"" . target('thinned') . "\" -f $dir/thinned.dump" ], 'a store that much has left is dumped');
foreach my $case ([ 'thinned out, plain', 'thinned_plain', "$psql -Xq1 -v ON_ERROR_STOP=1 -d \"%s\" -f $dir/thinned.sql" ],
	[ 'thinned out, parallel', 'thinned_parallel', "$pg_restore --exit-on-error -j 4 -d \"%s\" $dir/thinned.dump" ])
{
	my ($how, $database, $command) = @$case;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ 'sh', '-ec', sprintf($command, target($database)) ], "$how: restored");
	check_thinned_store($node, $database, $thinned, $how);
}

# An empty store, and one in a schema of its own.
$node->safe_psql('postgres', 'CREATE DATABASE empty_source');
$node->safe_psql('postgres', 'CREATE DATABASE empty_copy');
$node->safe_psql('empty_source', 'CREATE SCHEMA "My Events"; CREATE EXTENSION eventstore SCHEMA "My Events"; SELECT "My Events".es_set_segment_size(150);');
command_ok([ 'sh', '-ec', "$pg_dump -d \"" . target('empty_source') . "\" | $psql -Xq -v ON_ERROR_STOP=1 -d \"" . target('empty_copy') . "\"" ], 'an empty store is copied');
is($node->safe_psql('empty_copy', q{
		SELECT "My Events".es_append_batch('a-1', (SELECT jsonb_agg('{"type": "A"}'::jsonb) FROM generate_series(1, 400)));
		SELECT count(*), max(position) FROM "My Events".es_read_all(0, NULL);
		SELECT last_position FROM "My Events".es_segments WHERE segment = 0;}),
	"400\n400|400\n150", 'and begins at position 1, with the segment size that was chosen');
$node->safe_psql('postgres', 'CREATE DATABASE filled_copy');
command_ok([ 'sh', '-ec', "$pg_dump -d \"" . target('empty_copy') . "\" | $psql -Xq -v ON_ERROR_STOP=1 -d \"" . target('filled_copy') . "\"" ], 'a store in a schema of its own is copied');
is($node->safe_psql('filled_copy', q{SELECT "My Events".es_append('a-1', 'B', expected_version => 400); SELECT "My Events".es_settled_position()}), "401\n401", 'and goes on');

$node->stop;
done_testing();
