# compat/from_emmett.sql: emmett's messages as they were, over partitions, archived ones, holes, in several calls beside
# writers; and where its consumers go on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

my $node = new_node('main', conf => "timezone = 'Asia/Tokyo'\n");
my $folder = $node->config_data('--sharedir') . '/eventstore';

# store(database): a store in small segments beside tables that are emmett's in what is read of them
sub store
{
	my ($database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, q{CREATE EXTENSION eventstore; SELECT es_set_segment_size(1000);
		CREATE SCHEMA emmett;
		SET search_path = emmett;
		CREATE SEQUENCE emt_global_message_position;
		CREATE TABLE emt_messages (stream_id text NOT NULL, stream_position bigint NOT NULL, partition text NOT NULL DEFAULT 'emt:default',
			is_archived boolean NOT NULL DEFAULT false, global_position bigint DEFAULT nextval('emt_global_message_position'),
			transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(), created timestamptz NOT NULL DEFAULT now(), message_kind varchar(1) NOT NULL DEFAULT 'E',
			message_schema_version text NOT NULL DEFAULT '1', message_id text NOT NULL DEFAULT gen_random_uuid(), message_type text NOT NULL,
			message_data jsonb NOT NULL DEFAULT '{}', message_metadata jsonb NOT NULL DEFAULT '{}',
			PRIMARY KEY (stream_id, stream_position, partition, is_archived)) PARTITION BY LIST (partition);
		CREATE TABLE usual PARTITION OF emt_messages FOR VALUES IN ('emt:default') PARTITION BY LIST (is_archived);
		CREATE TABLE usual_active PARTITION OF usual FOR VALUES IN (false);
		CREATE TABLE usual_archived PARTITION OF usual FOR VALUES IN (true);
		CREATE TABLE acme PARTITION OF emt_messages FOR VALUES IN ('acme')});
}

# import_messages(database, arguments, before): what the call says, and what of it is an error
sub import_messages
{
	my ($database, $arguments, $before) = @_;
	my ($ret, $out, $err) = $node->psql($database, "\\i $folder/from_emmett.sql\n" . ($before // '')
		  . "CALL pg_temp.import_emmett('emmett'" . ($arguments ? ", $arguments" : '') . ')');

	return join "\n", map { s/^psql:.*?: //r } grep { /NOTICE|ERROR|DETAIL|HINT/ } split /\n/, $err;
}

# add(database, from, to): messages of ten streams, which take the next global positions
sub add
{
	my ($database, $from, $to) = @_;

	$node->safe_psql($database, qq{INSERT INTO emmett.emt_messages (stream_position, created, stream_id, message_type, message_data, message_metadata)
		SELECT (n - 1) / 10 + 1, '2020-01-01'::timestamptz + n * interval '1 s', 'account-' || n % 10, 'Type' || n % 3, jsonb_build_object('n', n),
			CASE n % 3 WHEN 0 THEN 'null' ELSE jsonb_build_object('m', n) END
		FROM generate_series($from, $to) n ORDER BY n});
}

# differences(database): messages that are not in the store as they were
sub differences
{
	my ($database) = @_;
	my ($theirs, $ours) = (
		q{SELECT global_position, stream_id, stream_position, message_type, message_data, COALESCE(NULLIF(message_metadata, 'null'), '{}'), message_id::uuid, created
			FROM emmett.emt_messages},
		'SELECT position, stream, version, type, data, metadata, event_id, recorded_at FROM es_events');

	return $node->safe_psql($database, "($theirs EXCEPT $ours) UNION ALL ($ours EXCEPT $theirs) ORDER BY 1, 2");
}

my $last = 'SELECT max(global_position) FROM emmett.emt_messages';
my $hole = q{SELECT setval('emmett.emt_global_message_position', nextval('emmett.emt_global_message_position') + %d)};

# ---- all of it as it was ----

store('whole');
add('whole', 1, 700);
$node->safe_psql('whole', sprintf $hole, 7);
add('whole', 701, 900);
$node->safe_psql('whole', sprintf $hole, 12_336);
add('whole', 901, 1500);
is(import_messages('whole', 'batch_size => 300'), 'NOTICE:  1500 events imported, up to global position 13845; 0 of them have a later time than there',
	'messages with holes between, one over many segments');
is(differences('whole'), '', 'are in the store as they were');
is(gaps($node, 'whole'), '', 'versions have no gaps');
is($node->safe_psql('whole', 'SELECT es_settled_position(), count(*) FROM es_read_all(max_count => NULL)'), '13845|1500', 'a follower reads them all');
add('whole', 1501, 1600);
like(import_messages('whole'), qr/^NOTICE:  100 events imported/, 'what has come since is brought by another call');
like(import_messages('whole'), qr/^NOTICE:  0 events imported/, 'once');
is(differences('whole'), '', 'as it was');

my $checkpoint = lpad($node->safe_psql('whole', 'SELECT global_position FROM emmett.emt_messages ORDER BY 1 OFFSET 1000 LIMIT 1'));
$node->safe_psql('whole', "SELECT es_subscribe('orders', '$checkpoint'::bigint)");
is($node->safe_psql('whole', "SELECT position FROM es_poll('orders', 1)"),
	$node->safe_psql('whole', "SELECT min(global_position) FROM emmett.emt_messages WHERE global_position > '$checkpoint'::bigint"),
	'a subscription goes on after a checkpoint of emmett, which is text');

# lpad(number): as emmett notes a checkpoint
sub lpad
{
	return sprintf '%019d', $_[0];
}

# ---- beside writers ----

store('beside');
add('beside', 1, 50);
my $writer = $node->background_psql('beside');
$writer->query_safe(q{BEGIN; INSERT INTO emmett.emt_messages (stream_id, stream_position, message_type) VALUES ('slow-1', 1, 'T')});
add('beside', 51, 60);
my $import = start_script($node, 'beside', "\\i $folder/from_emmett.sql\nCALL pg_temp.import_emmett('emmett')");
ok($node->poll_query_until('beside', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CALL%'}), 'an import waits for who writes');
$writer->query_safe('COMMIT');
$writer->quit;
like((finish_script($import))[1], qr/61 events imported/, 'and takes their messages in');
is(differences('beside'), '', 'at their global positions');

# the sequence is not beside the table: what is in flight is waited for all the same
store('unnumbered');
$node->safe_psql('unnumbered', 'ALTER SEQUENCE emmett.emt_global_message_position RENAME TO elsewhere');
is(import_messages('unnumbered'), 'NOTICE:  0 events imported, up to global position 0; 0 of them have a later time than there', 'without the sequence: no messages');
add('unnumbered', 1, 50);
$writer = $node->background_psql('unnumbered');
$writer->query_safe(q{BEGIN; INSERT INTO emmett.emt_messages (stream_id, stream_position, message_type) VALUES ('slow-1', 1, 'T')});
add('unnumbered', 51, 60);
$import = start_script($node, 'unnumbered', "\\i $folder/from_emmett.sql\nCALL pg_temp.import_emmett('emmett')");
ok($node->poll_query_until('unnumbered', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CALL%'}), 'an import waits for who writes');
$writer->query_safe('COMMIT');
$writer->quit;
like((finish_script($import))[1], qr/61 events imported/, 'and passes over nothing');
is(differences('unnumbered'), '', 'at their global positions');

# ---- partitions, archived messages, ids that are none, and the rest that emmett knows of a message ----

store('kinds');
add('kinds', 1, 20);
$node->safe_psql('kinds', q{INSERT INTO emmett.emt_messages (stream_id, stream_position, partition, message_type) VALUES ('account-1', 1, 'acme', 'T');
	INSERT INTO emmett.emt_messages (stream_id, stream_position, message_type, message_id, message_kind, message_schema_version, message_metadata)
		VALUES ('odd-1', 1, 'T', 'my id', 'C', '2', '{"a": 1}');
	INSERT INTO emmett.emt_messages (stream_id, stream_position, is_archived, message_type) VALUES ('old-1', 1, true, 'T'), ('account-2', 1, true, 'T')});
like(import_messages('kinds'), qr/ERROR:  cannot import emmett\.emt_messages: versions must come once in a stream, in their order\nDETAIL:  .*: 1 events, the first at global position 24, version 1 of stream account-2\./,
	'a stream that is both archived and in use is refused');
is($node->safe_psql('kinds', 'SELECT count(*) FROM es_events'), '0', 'and nothing is stored');
like(import_messages('kinds', undef, q{CREATE OR REPLACE FUNCTION pg_temp.emmett_stream_name(stream_id text, part text, is_archived boolean) RETURNS text LANGUAGE sql IMMUTABLE
	AS $$ SELECT stream_id || CASE WHEN part <> 'emt:default' THEN '@' || part ELSE '' END || CASE WHEN is_archived THEN '/archived' ELSE '' END $$;}),
	qr/^NOTICE:  24 events imported/, 'unless the two have names of their own');
is($node->safe_psql('kinds', q{SELECT string_agg(stream || ' ' || version, ', ' ORDER BY position) FROM es_events WHERE position > 20}),
	'account-1@acme 1, odd-1 1, old-1/archived 1, account-2/archived 1', 'streams of another partition have its name');
is($node->safe_psql('kinds', q{SELECT metadata FROM es_events WHERE stream = 'account-1@acme'}), '{"partition": "acme"}', 'in metadata, too');
is($node->safe_psql('kinds', q{SELECT metadata, event_id = md5('my id')::uuid FROM es_events WHERE stream = 'odd-1'}),
	'{"a": 1, "message_id": "my id", "message_kind": "C", "schema_version": "2"}|t', 'ids that are no UUIDs, kinds and versions of schemas are in metadata');
store('active');
add('active', 1, 20);
$node->safe_psql('active', q{INSERT INTO emmett.emt_messages (stream_id, stream_position, is_archived, message_type) VALUES ('account-2', 1, true, 'T')});
like(import_messages('active', 'archived => false'), qr/^NOTICE:  20 events imported/, 'archived messages can stay away');

# ---- a store that is in use ----

store('used');
add('used', 1, 100);
$node->safe_psql('used', "SELECT es_append('mine-1', 'T'), es_append('mine-1', 'T')");
like(import_messages('used'), qr/ERROR:  the store has events that are not of emmett\.emt_messages/, 'a store with other events is refused');
like(import_messages('used', 'keep_positions => false'), qr/^NOTICE:  100 events imported, up to global position 100/, 'unless positions may be others');
add('used', 101, 120);
my ($ret, $out) = $node->psql('used', "\\i $folder/from_emmett.sql\nCALL pg_temp.import_emmett('emmett', keep_positions => false, from_position => 100);
	SELECT pg_temp.imported_position(0), pg_temp.imported_position(110), pg_temp.imported_position(9999), (SELECT position FROM es_events WHERE data = '{\"n\": 110}')");
is($out, '0|112|122|112', 'what consumers have noted is translated');
is($node->safe_psql('used', 'SELECT count(*) FROM emmett.emt_messages m JOIN es_events e ON e.event_id = m.message_id::uuid AND e.version = m.stream_position AND e.recorded_at = m.created'),
	'120', 'all else is as it was');

done_testing();
