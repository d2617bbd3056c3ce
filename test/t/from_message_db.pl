# compat/from_message_db.sql: messages as they were, ids, versions, times and global positions, over holes and segments,
# in several calls beside writers; and what is refused before anything is stored.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

my $node = new_node('main', conf => "timezone = 'Asia/Tokyo'\n");
my $folder = $node->config_data('--sharedir') . '/eventstore';

# store(database): a store in small segments, with message-db's table, and with message-db's interface over the store
sub store
{
	my ($database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{CREATE EXTENSION eventstore; SELECT es_set_segment_size(1000);
		CREATE SCHEMA message_db;
		CREATE TABLE message_db.messages (global_position bigserial PRIMARY KEY, position bigint NOT NULL, time timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
			stream_name text NOT NULL, type text NOT NULL, data jsonb, metadata jsonb, id uuid NOT NULL DEFAULT gen_random_uuid());
		\\i $folder/message_store.sql});
}

# import(database, arguments): what the call says, and what of it is an error
sub import_messages
{
	my ($database, $arguments) = @_;
	my ($ret, $out, $err) = $node->psql($database, "\\i $folder/from_message_db.sql\nCALL pg_temp.import_message_db('message_db'" . ($arguments ? ", $arguments" : '') . ')');

	return join "\n", map { s/^psql:.*?: //r } grep { /NOTICE|ERROR|DETAIL|HINT/ } split /\n/, $err;
}

# add(database, from, to, hole, what): messages of ten streams, and holes in their global positions
sub add
{
	my ($database, $from, $to, $hole) = @_;

	$node->safe_psql($database, qq{INSERT INTO message_db.messages (global_position, position, time, stream_name, type, data, metadata)
		SELECT n + $hole, (n - 1) / 10, '2020-01-01'::timestamp + n * interval '1 s', 'account-' || n % 10, 'Type' || n % 3,
			CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN 'null' WHEN 2 THEN to_jsonb(n) ELSE jsonb_build_object('n', n) END,
			CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN 'null' ELSE jsonb_build_object('m', n) END
		FROM generate_series($from, $to) n});
}

# differences(database): messages that are not in the store as they were, but for what NULLs become
sub differences
{
	my ($database) = @_;
	my $columns = 'global_position, position, time, stream_name COLLATE "C", type COLLATE "C"';
	my ($theirs, $ours) = ("SELECT $columns, NULLIF(data, 'null') AS data, COALESCE(NULLIF(metadata, 'null'), '{}') AS metadata, id FROM message_db.messages",
		"SELECT $columns, data, metadata, id FROM message_store.messages");

	return $node->safe_psql($database, "($theirs EXCEPT $ours) UNION ALL ($ours EXCEPT $theirs) ORDER BY 1, 2");
}

# ---- all of it as it was ----

store('whole');
add('whole', 1, 700, 0);
add('whole', 701, 900, 8);
add('whole', 901, 1500, 12_345);
is(import_messages('whole', 'batch_size => 300'), 'NOTICE:  1500 events imported, up to global position 13845; 0 of them have a later time than there',
	'messages with holes between, one over many segments');
is(differences('whole'), '', 'are in the store as they were');
is($node->safe_psql('whole', "SELECT sum(events), max(last_position) >= 13845 FROM es_segments WHERE events > 0"), '1500|t', 'in their segments');
is($node->safe_psql('whole', 'SELECT es_settled_position(), count(*) FROM es_read_all(max_count => NULL)'), '13845|1500', 'a follower reads them all');
is($node->safe_psql('whole', "SELECT severity, finding FROM es_doctor() WHERE severity <> 'ok' AND finding NOT IN ('fsync is off', 'the library is not preloaded')"), '', 'and es_doctor finds nothing');
is(gaps($node, 'whole'), '', 'versions have no gaps');
is(import_messages('whole'), 'NOTICE:  0 events imported, up to global position 13845; 0 of them have a later time than there', 'once more there is nothing to do');
add('whole', 1501, 1600, 12_345);
add('whole', 1601, 1700, 12_350);
is(import_messages('whole'), 'NOTICE:  200 events imported, up to global position 14050; 0 of them have a later time than there', 'what has come since is brought by another call');
is(differences('whole'), '', 'as it was');
is($node->safe_psql('whole', "SELECT message_store.write_message(gen_random_uuid()::text, 'account-1', 'T', '{}', NULL, 169), es_last_position()"), '170|14051', 'and the store goes on from there');
like(import_messages('whole'), qr/ERROR:  the store has events that are not of message_db\.messages\nDETAIL:  Event \S+ of stream account-1 at position 14051 is not an event there/,
	'after which nothing is imported at its own position');

# ---- beside writers ----

store('beside');
add('beside', 1, 50, 0);
my $writer = $node->background_psql('beside');
$writer->query_safe(q{BEGIN; INSERT INTO message_db.messages (global_position, position, stream_name, type) VALUES (51, 0, 'slow-1', 'T')});
add('beside', 51, 60, 1);
my $import = start_script($node, 'beside', "\\i $folder/from_message_db.sql\nCALL pg_temp.import_message_db('message_db')");
ok($node->poll_query_until('beside', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CALL%'}), 'an import waits for who writes');
$writer->query_safe('COMMIT');
$writer->quit;
like((finish_script($import))[1], qr/61 events imported/, 'and takes their messages in');
is($node->safe_psql('beside', q{SELECT count(*) FROM message_db.messages m JOIN message_store.messages s USING (id, global_position)}), '61', 'at their global positions');
store('viewed');
add('viewed', 1, 50, 0);
$node->safe_psql('viewed', 'CREATE SCHEMA elsewhere; CREATE VIEW elsewhere.messages AS SELECT * FROM message_db.messages WHERE global_position NOT IN (7, 17)');
my @view = ('viewed', "\\i $folder/from_message_db.sql\nCALL pg_temp.import_message_db('elsewhere', renumber => true)");
like(($node->psql(@view))[2], qr/48 events imported/, 'a view or a foreign table does as well');
is($node->safe_psql('viewed', q{SELECT count(*) FROM elsewhere.messages m JOIN message_store.messages s USING (id, global_position)}), '48', 'with global positions as there');
$node->safe_psql('viewed', 'CREATE OR REPLACE VIEW elsewhere.messages AS SELECT * FROM message_db.messages');
like(($node->psql(@view))[2], qr/ERROR:  elsewhere\.messages has events up to global position 50 that are not in the store\nDETAIL:  2 events, the first at global position 7\./,
	'messages that have come in before those of the last call are not passed over in silence');

# ---- times ----

store('times');
add('times', 1, 300, 0);
$node->safe_psql('times', "UPDATE message_db.messages SET time = time - interval '1 min' WHERE global_position IN (150, 160, 170)");
is(import_messages('times', 'batch_size => 155'), 'NOTICE:  300 events imported, up to global position 300; 3 of them have a later time than there', 'times that go back');
is($node->safe_psql('times', q{SELECT string_agg(m.global_position::text, ' ' ORDER BY 1) FROM message_db.messages m JOIN message_store.messages s USING (id) WHERE m.time <> s.time}),
	'150 160 170', 'are the only ones that differ');
is($node->safe_psql('times', q{SELECT string_agg((extract(epoch FROM time) - extract(epoch FROM timestamp '2020-01-01'))::int::text, ' ' ORDER BY global_position)
	FROM message_store.messages WHERE stream_name = 'account-0' AND global_position BETWEEN 140 AND 180}), '140 140 140 140 180', 'and are that of the message before');

# ---- what is refused, before anything is stored ----

store('refused');
add('refused', 1, 100, 0);
my @faults = (
	[ "stream_name = ''", 'names of streams must be 1 to 512 bytes long, without control characters' ],
	[ "stream_name = 'a-' || repeat('x', 511)", 'names of streams must be 1 to 512 bytes long, without control characters' ],
	[ "stream_name = E'a-\\x01'", 'names of streams must be 1 to 512 bytes long, without control characters' ],
	[ "type = ''", 'types must be 1 to 255 bytes long, without control characters and without "$" in front' ],
	[ "type = '\$x'", 'types must be 1 to 255 bytes long, without control characters and without "$" in front' ],
	[ "metadata = '[]'", 'metadata must be objects' ],
	[ "position = 70", 'streams must have all of their events' ]);
foreach my $fault (@faults)
{
	my ($change, $message) = @$fault;

	$node->safe_psql('refused', "CREATE TABLE kept AS SELECT * FROM message_db.messages; UPDATE message_db.messages SET $change WHERE global_position = 55");
	like(import_messages('refused', 'batch_size => 20'), qr/^ERROR:  cannot import message_db\.messages: \Q$message\E\nDETAIL:  \Q$message\E: 1 events, the first at global position 55, /, $change);
	is($node->safe_psql('refused', 'SELECT count(*) FROM es_events'), '0', 'and nothing is stored');
	$node->safe_psql('refused', 'DELETE FROM message_db.messages; INSERT INTO message_db.messages SELECT * FROM kept; DROP TABLE kept');
}
$node->safe_psql('refused', 'DELETE FROM message_db.messages WHERE global_position IN (3, 13, 55)');
like(import_messages('refused'), qr/streams must have all of their events\nDETAIL:  .*: 2 events, the first at global position 23, version 3 of stream account-3\./, 'streams that have lost messages');
is(import_messages('refused', 'renumber => true'), 'NOTICE:  97 events imported, up to global position 100; 0 of them have a later time than there', 'unless they may close up');
is(gaps($node, 'refused'), '', 'then their versions have no gaps');
is($node->safe_psql('refused', q{SELECT count(*) FROM message_db.messages m JOIN message_store.messages s USING (id, global_position)}), '97', 'and they have their global positions');

# ---- a store that is in use ----

store('used');
add('used', 1, 100, 0);
$node->safe_psql('used', "SELECT es_append('mine-1', 'T')");
like(import_messages('used'), qr/ERROR:  the store has events that are not of message_db\.messages/, 'a store with other events is refused');
is(import_messages('used', 'keep_positions => false, batch_size => 30'), 'NOTICE:  100 events imported, up to global position 100; 0 of them have a later time than there', 'unless positions may be others');
add('used', 101, 120, 0);
is(import_messages('used', 'keep_positions => false, from_position => 100'), 'NOTICE:  20 events imported, up to global position 120; 0 of them have a later time than there', 'which goes on from where one says');
is($node->safe_psql('used', q{SELECT count(*), min(s.global_position - m.global_position), max(s.global_position - m.global_position) FROM message_db.messages m JOIN message_store.messages s USING (id, position, stream_name, time, type)}),
	'120|1|1', 'all else is as it was');
is($node->safe_psql('used', "SELECT count(*) FROM (SELECT * FROM es_read_all(1, NULL)) e"), '120', 'and nothing is stored twice');

store('spent');
add('spent', 1, 100, 0);
$node->safe_psql('spent', "BEGIN; SELECT es_append('mine-1', 'T'); ROLLBACK");
like(import_messages('spent'), qr/ERROR:  position 1 has been given out already\nDETAIL:  .*\nHINT:  .*keep_positions => false/, 'where positions are spent they are not given again');
is($node->safe_psql('spent', 'SELECT count(*) FROM es_events'), '0', 'and nothing is stored');

done_testing();
