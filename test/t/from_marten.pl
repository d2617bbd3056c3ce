# compat/from_marten.sql: Marten's events as they were, streams by GUID and by string, beside writers whose numbers are
# still to come, over tombstones, tenants, archived and compacted streams, and rich appends whose numbers do not follow versions.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

my $node = new_node('main', conf => "timezone = 'Asia/Tokyo'\n");
my $folder = $node->config_data('--sharedir') . '/eventstore';

# store(database, type, columns): a store in small segments beside tables that are Marten's in what is read of them
sub store
{
	my ($database, $type, $columns) = @_;

	$columns //= '';
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{CREATE EXTENSION eventstore; SELECT es_set_segment_size(1000);
		CREATE SCHEMA marten;
		SET search_path = marten;
		CREATE TABLE mt_streams (id $type NOT NULL, tenant_id varchar NOT NULL DEFAULT '*DEFAULT*', type varchar, is_archived boolean DEFAULT false, PRIMARY KEY (id, tenant_id));
		CREATE TABLE mt_events (seq_id bigint PRIMARY KEY, id uuid NOT NULL DEFAULT gen_random_uuid(), stream_id $type, version bigint NOT NULL, data jsonb NOT NULL DEFAULT '{}',
			type varchar(500) NOT NULL, timestamp timestamptz NOT NULL DEFAULT now(), tenant_id varchar DEFAULT '*DEFAULT*', mt_dotnet_type varchar$columns,
			is_archived boolean DEFAULT false);
		CREATE UNIQUE INDEX ON mt_events (stream_id, tenant_id, version);
		CREATE SEQUENCE mt_events_sequence OWNED BY mt_events.seq_id;
		CREATE TABLE mt_event_progression (name varchar PRIMARY KEY, last_seq_id bigint)});
}

# import_events(database, arguments): what the call says, and what of it is an error
sub import_events
{
	my ($database, $arguments) = @_;
	my ($ret, $out, $err) = $node->psql($database, "\\i $folder/from_marten.sql\nCALL pg_temp.import_marten('marten'" . ($arguments ? ", $arguments" : '') . ')');

	return join "\n", map { s/^psql:.*?: //r } grep { /NOTICE|ERROR|DETAIL|HINT/ } split /\n/, $err;
}

# add(database, from, to, hole): events of ten streams, and holes in their numbers
sub add
{
	my ($database, $from, $to, $hole) = @_;

	$node->safe_psql($database, qq{INSERT INTO marten.mt_events (seq_id, version, timestamp, stream_id, type, data, mt_dotnet_type)
		SELECT n + $hole, (n - 1) / 10 + 1, '2020-01-01'::timestamptz + n * interval '1 s', 'account-' || n % 10, 'opened' || n % 3, jsonb_build_object('n', n), 'Bank.Opened, Bank'
		FROM generate_series($from, $to) n});
}

# differences(database): events that are not in the store as they were
sub differences
{
	my ($database) = @_;
	my ($theirs, $ours) = (
		q{SELECT seq_id, stream_id::text, version, type::text, data, jsonb_build_object('dotnet_type', mt_dotnet_type), id, timestamp FROM marten.mt_events},
		'SELECT position, stream, version, type, data, metadata, event_id, recorded_at FROM es_events');

	return $node->safe_psql($database, "($theirs EXCEPT $ours) UNION ALL ($ours EXCEPT $theirs) ORDER BY 1, 2");
}

# ---- while writers go on, and after them ----

store('whole', 'varchar');
add('whole', 1, 900, 0);
add('whole', 901, 950, 5);
add('whole', 951, 1000, 6);
like(import_events('whole', 'batch_size => 300'), qr/^NOTICE:  900 events imported, up to global position 900;/, 'a call ends before the first number that is missing');
$node->safe_psql('whole', "INSERT INTO marten.mt_event_progression VALUES ('HighWaterMark', 910), ('Trip:All', 700)");
like(import_events('whole'), qr/^NOTICE:  50 events imported, up to global position 955;/, 'but for what Marten has decided itself will not come');
like(import_events('whole'), qr/^NOTICE:  0 events imported/, 'and waits for the next one');
$node->safe_psql('whole', q{INSERT INTO marten.mt_events (seq_id, version, stream_id, type, mt_dotnet_type) VALUES (956, 1, 'late-1', 'opened', 'Bank.Opened, Bank')});
like(import_events('whole'), qr/^NOTICE:  51 events imported, up to global position 1006;/, 'until it has come');
add('whole', 1001, 1500, 12_345);
like(import_events('whole', 'until_position => 13350'), qr/^NOTICE:  5 events imported, up to global position 13350;/, 'who knows that no number is still to come says so');
like(import_events('whole', 'writers_stopped => true'), qr/^NOTICE:  495 events imported, up to global position 13845; 0 of them/, 'and with writers stopped all is brought');
is(differences('whole'), '', 'all as it was');
is(gaps($node, 'whole'), '', 'versions have no gaps');
is($node->safe_psql('whole', 'SELECT es_settled_position(), count(*) FROM es_read_all(max_count => NULL)'), '13845|1501', 'a follower reads them all');
$node->safe_psql('whole', q{SELECT es_subscribe('trips', last_seq_id) FROM marten.mt_event_progression WHERE name = 'Trip:All'});
is($node->safe_psql('whole', "SELECT position FROM es_poll('trips', 1)"), '701', 'a subscription goes on where the progress of a projection was');
$node->safe_psql('whole', q{INSERT INTO marten.mt_events (seq_id, version, stream_id, type) VALUES (903, 1, 'later-1', 'opened')});
like(import_events('whole', 'writers_stopped => true'), qr/ERROR:  marten\.mt_events has events up to global position 13845 that are not in the store\nDETAIL:  1 events, the first at global position 903\./,
	'a number that comes after all is not passed over in silence');

# ---- rich appends: numbers that do not follow versions ----

store('rich', 'varchar');
add('rich', 1, 100, 0);
$node->safe_psql('rich', q{BEGIN;
	UPDATE marten.mt_events SET seq_id = -seq_id WHERE seq_id IN (31, 41, 51, 72, 82);
	UPDATE marten.mt_events SET seq_id = CASE seq_id WHEN -31 THEN 51 WHEN -41 THEN 31 WHEN -51 THEN 41 WHEN -72 THEN 82 ELSE 72 END WHERE seq_id < 0;
	COMMIT});
is(import_events('rich', 'until_position => 45'), "NOTICE:  45 events imported, up to global position 45; 0 of them have a later time than there\n"
	. 'NOTICE:  2 events have the number of another one of their stream, so that positions follow versions', 'of streams whose numbers go back');
is(import_events('rich', 'batch_size => 7'), "NOTICE:  55 events imported, up to global position 100; 0 of them have a later time than there\n"
	. 'NOTICE:  5 events have the number of another one of their stream, so that positions follow versions', 'call by call');
is($node->safe_psql('rich', q{SELECT string_agg(e.position::text, ' ' ORDER BY e.position) FROM es_events e JOIN marten.mt_events m ON m.id = e.event_id WHERE m.seq_id <> e.position}),
	'31 41 51 72 82', 'these events have other positions');
is($node->safe_psql('rich', q{SELECT count(*) FROM es_events e JOIN marten.mt_events m ON m.id = e.event_id AND m.version = e.version AND m.timestamp = e.recorded_at}), '100', 'and all else as it was');
is($node->safe_psql('rich', q{SELECT string_agg(version::text, ' ' ORDER BY position) FROM es_events WHERE stream = 'account-1'}), '1 2 3 4 5 6 7 8 9 10', 'in the order of versions');

# ---- streams by GUID, tombstones, headers ----

store('guid', 'uuid', ', correlation_id varchar, causation_id varchar, headers jsonb, user_name varchar');
my ($order, $plain, $tomb) = map { sprintf '00000000-0000-0000-0000-%012d', $_ } 1 .. 3;
$node->safe_psql('guid', qq{INSERT INTO marten.mt_streams (id, type) VALUES ('$order', 'big-order'), ('$plain', NULL), ('$tomb', NULL);
	INSERT INTO marten.mt_events (seq_id, stream_id, version, type, mt_dotnet_type, correlation_id, headers) VALUES
		(1, '$order', 1, 'opened', 'Shop.Opened, Shop', 'c', '{"a": null}'), (2, '$tomb', 1, 'tombstone', 'JasperFx.Events.Tombstone, JasperFx.Events', NULL, NULL),
		(3, '$tomb', 7, 'tombstone', 'Marten.Events.Operations.Tombstone, Marten', NULL, NULL), (4, '$plain', 1, 'tombstone', 'Graves.Tombstone, Graves', NULL, 'null')});
like(import_events('guid'), qr/^NOTICE:  2 events imported, up to global position 4;/, 'what marks failed transactions stays away');
is($node->safe_psql('guid', 'SELECT position, stream, type, metadata FROM es_events ORDER BY 1'), qq{1|big_order-$order|opened|{"a": null, "dotnet_type": "Shop.Opened, Shop", "correlation_id": "c"}
4|stream-$plain|tombstone|{"dotnet_type": "Graves.Tombstone, Graves"}}, 'streams are named by type and id, and metadata are all that Marten knows besides');

# ---- tenants ----

store('tenants', 'varchar');
$node->safe_psql('tenants', q{INSERT INTO marten.mt_events (seq_id, stream_id, version, type, tenant_id) VALUES (1, 'order-1', 1, 'T', 'a%b'), (2, 'order-1', 1, 'T', 'b'), (3, 'order-1', 2, 'T', 'b'),
	(4, 'order-1', 1, 'T', DEFAULT)});
like(import_events('tenants', "tenant => 'a%b'"), qr/^NOTICE:  1 events imported/, 'one tenant can be brought');
is($node->safe_psql('tenants', 'SELECT position, stream, version, metadata FROM es_events'), '1|order-1@a%b|1|{"tenant_id": "a%b"}', 'whose name is in its streams\' names');
like(import_events('tenants', "tenant => 'b', keep_positions => false"), qr/^NOTICE:  2 events imported/, 'and others after it');
$node->safe_psql('tenants', 'CREATE SEQUENCE marten.mt_events_sequence_b');
like(import_events('tenants'), qr/ERROR:  tenants in marten have sequences of their own\nHINT:  Import each tenant by itself/, 'tenants with numbers of their own must be');

# ---- archived, compacted, binary ----

store('kinds', 'varchar', ', bdata bytea');
$node->safe_psql('kinds', q{INSERT INTO marten.mt_events (seq_id, stream_id, version, type, is_archived) VALUES (1, 'order-1', 1, 'T', true), (2, 'order-2', 5, 'compacted', NULL), (3, 'order-2', 6, 'T', false)});
like(import_events('kinds'), qr/ERROR:  cannot import marten\.mt_events: streams must have all of their events\nDETAIL:  .*: 1 events, the first at global position 2, version 5 of stream order-2\.\nHINT:  .*renumber => true/,
	'a stream that was compacted is refused');
like(import_events('kinds', 'renumber => true, archived => false'), qr/^NOTICE:  2 events imported/, 'unless it may close up; archived events can stay away');
is($node->safe_psql('kinds', 'SELECT position, stream, version FROM es_events ORDER BY 1'), "2|order-2|1\n3|order-2|2", 'then its versions begin at 1');
$node->safe_psql('kinds', q{INSERT INTO marten.mt_events (seq_id, stream_id, version, type, bdata) VALUES (4, 'order-3', 1, 'T', '\x01')});
like(import_events('kinds', 'renumber => true, archived => false'), qr/ERROR:  cannot import marten\.mt_events: data must be JSON\nDETAIL:  data must be JSON: 1 events, the first at global position 4, version 1 of stream order-3\./, 'binary data are refused');

done_testing();
