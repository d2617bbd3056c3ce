# What the ways from message-db, emmett, Marten and KurrentDB have in common: a run that is killed half way and called again, calls
# beside writers that commit and roll back in any order, events that a store cannot have, and the way back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $folder = $node->config_data('--sharedir') . '/eventstore';
my $tempdir = PostgreSQL::Test::Utils::tempdir();

# Each store that events come from: its tables, as its own DDL makes them; one event of ten streams for each n; what an import
# reads, as it is to be here; how a writer adds an event to a stream, which may be rolled back; and how all is called.
my %sources = (
	message_db => {
		ddl => q{CREATE SCHEMA message_db;
			CREATE TABLE message_db.messages (global_position bigserial NOT NULL, position bigint NOT NULL,
				time timestamp DEFAULT (now() AT TIME ZONE 'utc') NOT NULL, stream_name text NOT NULL, type text NOT NULL, data jsonb, metadata jsonb,
				id uuid NOT NULL DEFAULT gen_random_uuid());
			ALTER TABLE message_db.messages ADD PRIMARY KEY (global_position);
			CREATE UNIQUE INDEX messages_id ON message_db.messages (id);
			CREATE UNIQUE INDEX messages_stream ON message_db.messages (stream_name, position)},
		add => q{INSERT INTO message_db.messages (position, time, stream_name, type, data, metadata)
			SELECT (n - 1) / 10, '2020-01-01'::timestamp + n * interval '1 s', 'account-' || n % 10, 'Type' || n % 3, jsonb_build_object('n', n), jsonb_build_object('m', n)
			FROM generate_series(%d, %d) n ORDER BY n},
		write => q{INSERT INTO message_db.messages (position, stream_name, type, data)
			SELECT COALESCE(max(position), -1) + 1, %s, 'Type', '{"n": 0}' FROM message_db.messages WHERE stream_name = %1$s},
		theirs => q{SELECT global_position, stream_name, position + 1, type, COALESCE(data, 'null'), COALESCE(metadata, '{}'), id, time AT TIME ZONE 'UTC' FROM message_db.messages},
		table => 'message_db.messages', key => 'global_position', columns => { stream => 'stream_name', time => 'time', id => 'id', data => 'data', metadata => 'metadata', type => 'type', version => 'position' },
		call => q{pg_temp.import_message_db('message_db', %s)}, last => '' },
	emmett => {
		ddl => q{CREATE SCHEMA emmett;
			SET search_path = emmett;
			CREATE TABLE emt_streams (stream_id text NOT NULL, stream_position bigint NOT NULL, partition text NOT NULL DEFAULT 'emt:default', stream_type text NOT NULL,
				stream_metadata jsonb NOT NULL, is_archived boolean NOT NULL DEFAULT false, PRIMARY KEY (stream_id, partition, is_archived)) PARTITION BY LIST (partition);
			CREATE SEQUENCE emt_global_message_position;
			CREATE TABLE emt_messages (stream_position bigint NOT NULL, global_position bigint DEFAULT nextval('emt_global_message_position'), transaction_id xid8 NOT NULL,
				created timestamptz NOT NULL DEFAULT now(), is_archived boolean NOT NULL DEFAULT false, message_kind varchar(1) NOT NULL DEFAULT 'E', stream_id text NOT NULL,
				partition text NOT NULL DEFAULT 'emt:default', message_schema_version text NOT NULL, message_id text NOT NULL, message_type text NOT NULL,
				message_data jsonb NOT NULL, message_metadata jsonb NOT NULL, PRIMARY KEY (stream_id, stream_position, partition, is_archived)) PARTITION BY LIST (partition);
			CREATE TABLE streams_usual PARTITION OF emt_streams FOR VALUES IN ('emt:default');
			CREATE TABLE messages_usual PARTITION OF emt_messages FOR VALUES IN ('emt:default') PARTITION BY LIST (is_archived);
			CREATE TABLE messages_active PARTITION OF messages_usual FOR VALUES IN (false);
			CREATE TABLE messages_archived PARTITION OF messages_usual FOR VALUES IN (true)},
		add => q{INSERT INTO emmett.emt_messages (stream_position, transaction_id, created, stream_id, message_type, message_data, message_metadata, message_id, message_schema_version)
			SELECT (n - 1) / 10 + 1, pg_current_xact_id(), '2020-01-01'::timestamptz + n * interval '1 s', 'account-' || n % 10, 'Type' || n % 3, jsonb_build_object('n', n),
				jsonb_build_object('m', n), gen_random_uuid(), '1'
			FROM generate_series(%d, %d) n ORDER BY n},
		write => q{INSERT INTO emmett.emt_messages (stream_position, transaction_id, stream_id, message_type, message_data, message_metadata, message_id, message_schema_version)
			SELECT COALESCE(max(stream_position), 0) + 1, pg_current_xact_id(), %s, 'Type', '{"n": 0}', '{}', gen_random_uuid(), '1' FROM emmett.emt_messages WHERE stream_id = %1$s},
		theirs => q{SELECT global_position, stream_id, stream_position, message_type, message_data, message_metadata, message_id::uuid, created FROM emmett.emt_messages},
		table => 'emmett.emt_messages', key => 'global_position', columns => { stream => 'stream_id', time => 'created', id => 'message_id', data => 'message_data', metadata => 'message_metadata', type => 'message_type', version => 'stream_position' },
		call => q{pg_temp.import_emmett('emmett', %s)}, last => '' },
	marten => {
		ddl => q{CREATE SCHEMA marten;
			SET search_path = marten;
			CREATE TABLE mt_streams (id varchar NOT NULL PRIMARY KEY, type varchar, version bigint, timestamp timestamptz DEFAULT now() NOT NULL, snapshot jsonb,
				snapshot_version integer, created timestamptz DEFAULT now() NOT NULL, tenant_id varchar DEFAULT '*DEFAULT*', is_archived boolean DEFAULT false);
			CREATE TABLE mt_events (seq_id bigint NOT NULL PRIMARY KEY, id uuid NOT NULL, stream_id varchar REFERENCES mt_streams, version bigint NOT NULL, data jsonb NOT NULL,
				type varchar(500) NOT NULL, timestamp timestamptz DEFAULT now() NOT NULL, tenant_id varchar DEFAULT '*DEFAULT*', mt_dotnet_type varchar, headers jsonb,
				is_archived boolean DEFAULT false);
			CREATE UNIQUE INDEX pk_mt_events_stream_and_version ON mt_events (stream_id, version);
			CREATE SEQUENCE mt_events_sequence OWNED BY mt_events.seq_id;
			CREATE TABLE mt_event_progression (name varchar PRIMARY KEY, last_seq_id bigint, last_updated timestamptz DEFAULT transaction_timestamp());
			INSERT INTO mt_streams (id) SELECT 'account-' || n FROM generate_series(0, 9) n UNION ALL SELECT 'writer-' || n FROM generate_series(0, 9) n
				UNION ALL SELECT unnest('{open-1,other-1}'::text[])},
		add => q{INSERT INTO marten.mt_events (seq_id, version, timestamp, stream_id, type, data, headers, id)
			SELECT nextval('marten.mt_events_sequence'), v, t, s, y, d, m, gen_random_uuid() FROM (SELECT (n - 1) / 10 + 1 AS v, '2020-01-01'::timestamptz + n * interval '1 s' AS t,
				'account-' || n % 10 AS s, 'type' || n % 3 AS y, jsonb_build_object('n', n) AS d, jsonb_build_object('m', n) AS m FROM generate_series(%d, %d) n ORDER BY n OFFSET 0) x},
		write => q{INSERT INTO marten.mt_events (seq_id, version, stream_id, type, data, id)
			SELECT nextval('marten.mt_events_sequence'), v, %s, 'type', '{"n": 0}', gen_random_uuid()
				FROM (SELECT COALESCE(max(version), 0) + 1 AS v FROM marten.mt_events WHERE stream_id = %1$s) x},
		theirs => q{SELECT seq_id, stream_id::text, version, type::text, data, COALESCE(headers, '{}'), id, timestamp FROM marten.mt_events},
		table => 'marten.mt_events', key => 'seq_id', columns => { stream => 'stream_id', time => 'timestamp', id => 'id', data => 'data', metadata => 'headers', type => 'type', version => 'version' },
		call => q{pg_temp.import_marten('marten', %s)}, last => 'writers_stopped => true' });

# said(error output): what a call says, and what of it is an error
sub said
{
	return join "\n", map { s/^psql:.*?: //r } grep { /NOTICE|ERROR|DETAIL|HINT|^[a-z]+ .*: \d+ events/ } split /\n/, $_[0];
}

# call(source, arguments): the script and the call
sub call
{
	my ($name, @arguments) = @_;
	my $arguments = join ', ', grep { $_ ne '' } @arguments;

	return "\\i $folder/from_$name.sql\nCALL " . (sprintf($sources{$name}{call}, $arguments) =~ s/, \)$/)/r) . ";\n";
}

# run_import(database, source, arguments): what it says
sub run_import
{
	my ($database, $name, @arguments) = @_;

	return said(($node->psql($database, call($name, @arguments)))[2]);
}

# store(database, source): an empty store in small segments beside empty tables of a source
sub store
{
	my ($database, $name) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION eventstore; SELECT es_set_segment_size(1000); $sources{$name}{ddl}");
}

# differences(database, source, without positions): events that are there and not here as they were, or the other way round
sub differences
{
	my ($database, $name, $anywhere) = @_;
	my ($theirs, $ours) = ($sources{$name}{theirs}, 'SELECT position, stream, version, type, data, metadata, event_id, recorded_at FROM es_events');

	($theirs, $ours) = map { s/^SELECT \S+ /SELECT /r } ($theirs, $ours) if $anywhere;
	return $node->safe_psql($database, "($theirs EXCEPT ALL $ours) UNION ALL ($ours EXCEPT ALL $theirs) ORDER BY 1, 2 LIMIT 5");
}

# kill_half_way(database, script): runs it until it has stored event 1700 in a batch that is not committed, and ends its session there
sub kill_half_way
{
	my ($database, $script) = @_;
	my $holder = $node->background_psql($database);

	$node->safe_psql($database, q{CREATE FUNCTION hold(event es_event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			IF event.data ->> 'n' = '1700' THEN PERFORM pg_advisory_xact_lock(1); END IF;
		END $$;
		SELECT es_create_handler_projection('hold', 'hold(es_event)', 'inline')});
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $import = start_script($node, $database, "SET application_name = 'import';\n$script");
	ok($node->poll_query_until($database, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'import' AND wait_event = 'advisory'}), "$database: a run is half way");
	$node->safe_psql($database, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'import'});
	like((finish_script($import))[1], qr/terminating connection/, 'and its session is ended');
	$holder->quit;
	$node->safe_psql($database, q{SELECT es_drop_projection('hold')});
}

# ---- killed half way, and called again ----

foreach my $name (sort keys %sources)
{
	my $killed = "killed_$name";

	store($killed, $name);
	$node->safe_psql($killed, sprintf $sources{$name}{add}, 1, 3000);
	kill_half_way($killed, call($name, 'batch_size => 500'));
	is($node->safe_psql($killed, qq{SELECT count(*), count(*) FILTER (WHERE (data ->> 'n')::int = position), max(position) FROM es_events}), '1500|1500|1500', 'what is stored are the batches before, as they were');
	like(run_import($killed, $name), qr/^ERROR:  position 1501 has been given out already\nDETAIL:  .*cut off.*\nHINT:  Begin again in an empty store .*keep_positions => false/, 'positions that were spent are not given again, which is said');
	like(run_import($killed, $name, 'keep_positions => false'), qr/^NOTICE:  1500 events imported, up to global position 3000;/, 'with others it goes on where it was, which it finds by itself');
	is(differences($killed, $name, 1), '', 'and all events are there once, as they were but for positions');
	is(gaps($node, $killed), '', 'without gaps in versions');
	is($node->safe_psql($killed, q{SELECT string_agg(data ->> 'n', ' ' ORDER BY position) = (SELECT string_agg(n::text, ' ') FROM generate_series(1, 3000) n) FROM es_events}), 't', 'in their order');
	like(run_import($killed, $name, 'keep_positions => false'), qr/^NOTICE:  0 events imported/, 'and none comes twice');
	$node->safe_psql($killed, 'SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE; CREATE EXTENSION eventstore');
	like(run_import($killed, $name), qr/^NOTICE:  3000 events imported, up to global position 3000;/, 'in an empty store all comes at its positions');
	is(differences($killed, $name), '', 'as it was');
	$node->safe_psql($killed, sprintf $sources{$name}{add}, 3001, 3010);
	like(run_import($killed, $name, 'compare_earlier => false'), qr/^NOTICE:  10 events imported, up to global position 3010;/, 'a last call need not look at what was brought');
	is(differences($killed, $name), '', 'and all is there');
	like(run_import($killed, $name, 'keep_positions => false, compare_earlier => false'), qr/^ERROR:  argument "from_position" must be given/, 'unless nothing tells where it goes on');
	like(run_import($killed, $name, 'from_position => 10'), qr/^ERROR:  argument "from_position" must not be given where positions are kept\n/, 'which nobody need say where positions are kept');
}

# KurrentDB's file again: from the beginning, without telling where the call was ended.
my $json = JSON::PP->new->canonical;
my $lines = "$tempdir/events.jsonl";
append_to_file($lines, join '', map { $json->encode({ streamId => 'account-' . $_ % 10, id => sprintf('00000000-0000-0000-0000-%012d', $_), revision => int(($_ - 1) / 10),
	type => 'opened', isJson => JSON::PP::true, created => '2020-01-01T00:00:00Z', data => { n => $_ }, metadata => undef, position => { commit => "${_}000" } }) . "\n" } 1 .. 3000);
my $read = "\\i $folder/from_kurrentdb.sql\n\\copy kurrentdb_lines (line) FROM '$lines' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')\n";
new_store($node, 'killed_kurrentdb', 1000);
kill_half_way('killed_kurrentdb', "${read}CALL pg_temp.import_kurrentdb(batch_size => 500);\n");
is($node->safe_psql('killed_kurrentdb', 'SELECT count(*) FROM es_events'), '1500', 'what is stored are the batches before');
like(said(($node->psql('killed_kurrentdb', "${read}CALL pg_temp.import_kurrentdb()"))[2]), qr/^NOTICE:  1500 events imported, up to global position 3000000;/, 'and another call goes on from there');
is($node->safe_psql('killed_kurrentdb', q{SELECT string_agg(data ->> 'n', ' ' ORDER BY position) = (SELECT string_agg(n::text, ' ') FROM generate_series(1, 3000) n) FROM es_events}), 't', 'so that all are there once, in their order');

# ---- calls beside writers ----

foreach my $name (sort keys %sources)
{
	my $beside = "beside_$name";
	my $write = $sources{$name}{write};
	my $stop = "$tempdir/stop_$name";

	store($beside, $name);
	$node->safe_psql($beside, sprintf $sources{$name}{add}, 1, 200);

	# each writer has a stream of its own; every third transaction leaves a hole, every second is open for a while
	my @writers = map {
		my $stream = "'writer-$_'";
		my $one = sprintf $write, $stream;
		start_script($node, $beside, qq{CREATE PROCEDURE write$_() LANGUAGE plpgsql AS \$\$
			DECLARE n int := 0;
			BEGIN
				WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND granted) LOOP
					n := n + 1;
					$one;
					IF n % 2 = 0 THEN PERFORM pg_sleep(0.002); END IF;
					IF n % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
				END LOOP;
			END \$\$;
			CALL write$_();\n}) } 1 .. 3;
	foreach my $round (1 .. 4)
	{
		my $seen = $node->safe_psql($beside, "SELECT count(*) FROM $sources{$name}{table}");

		ok($node->poll_query_until($beside, "SELECT count(*) > $seen + 30 FROM $sources{$name}{table}"), "$beside: writers go on");
		like(run_import($beside, $name, 'batch_size => 50'), qr/^NOTICE:  \d+ events imported/, 'and what they have committed is brought');
	}
	my $end = $node->background_psql($beside);
	$end->query_safe('SELECT pg_advisory_lock(7)');
	finish_script($_) foreach @writers;
	$end->quit;

	# numbers of those who rolled back are holes for ever: Marten's writers are stopped, so its call is told so
	like(run_import($beside, $name, $sources{$name}{last}), qr/^NOTICE:  \d+ events imported/, 'with writers stopped the rest');
	is(differences($beside, $name), '', 'and nothing was passed over, at its position, as it was');
	is(gaps($node, $beside), '', 'versions have no gaps');
	cmp_ok($node->safe_psql($beside, 'SELECT max(position) - count(*) FROM es_events'), '>', 0, 'over holes');
}

# A transaction that has its number and is still open, and one that comes after it and has committed.
foreach my $name (sort keys %sources)
{
	my $open = "open_$name";
	my $writer;

	store($open, $name);
	$node->safe_psql($open, sprintf $sources{$name}{add}, 1, 20);
	$writer = $node->background_psql($open);
	$writer->query_safe('BEGIN; ' . sprintf $sources{$name}{write}, "'open-1'");
	$node->safe_psql($open, sprintf $sources{$name}{write}, "'other-1'");
	if ($name eq 'marten')
	{
		like(run_import($open, $name), qr/^NOTICE:  20 events imported, up to global position 20;/, "$open: a call ends before a number that may still come");
		is($node->safe_psql($open, q{SELECT count(*) FROM es_events WHERE stream = 'other-1'}), '0', 'and leaves out what is after it');
		$writer->query_safe('COMMIT');
		$writer->quit;
		like(run_import($open, $name), qr/^NOTICE:  2 events imported, up to global position 22;/, 'the next one has both');
	}
	else
	{
		like(said(($node->psql($open, "SET lock_timeout = '10ms';\n" . call($name)))[2]), qr/ERROR:  canceling statement due to lock timeout/, "$open: a call waits for an open transaction, as long as lock_timeout lets it");
		is($node->safe_psql($open, 'SELECT count(*) FROM es_events'), '0', 'and nothing is stored');
		$writer->query_safe('COMMIT');
		$writer->quit;
		like(run_import($open, $name), qr/^NOTICE:  22 events imported, up to global position 22;/, 'then it has both');
	}
	is(differences($open, $name), '', 'in their order');
}

# ---- what a store cannot have, listed before anything is stored ----

my %refused = (
	stream => [ [ 1, '""', "''", 'names of streams must be 1 to 512 bytes long, without control characters' ], [ 2, 'long', "'a-' || repeat('x', 511)" ], [ 3, 'control', "E'a-\\x01'" ] ],
	type => [ [ 4, 'long', "repeat('x', 256)", 'types must be 1 to 255 bytes long, without control characters and without "$" in front' ], [ 5, 'dollar', "'\$x'" ], [ 6, 'control', "E'a\\tb'" ] ],
	metadata => [ [ 7, 'array', "'[1]'", 'metadata must be objects' ], [ 8, 'scalar', "'\"x\"'" ], [ 9, 'tag', "'{\"tags\": [\"\"]}'", 'tags in metadata must be 1 to 255 bytes long, without control characters' ] ],
	time => [ [ 10, 'infinite', "'infinity'", 'times must be in the years 1 to 9999 in UTC' ], [ 11, 'before', "'0044-03-15 BC'" ], [ 12, 'beyond', "'10000-01-01 12:00'" ] ],
	data => [ [ 13, 'large', q{jsonb_build_object('x', repeat('x', 20000000))}, 'data and metadata must not be longer than eventstore.max_event_size' ],
		[ 15, '2 kB for 17 MB of text', q{(SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 130))} ], [ 16, 'more text than a value can have', q{(SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 9000))} ],
		[ 17, 'deep', q{(repeat('[', 7000) || repeat(']', 7000))::jsonb}, 'data and metadata must not have more than 6400 levels of arrays and objects' ] ],
	version => [ [ 14, 'gap', '70', 'streams must have all of their events' ] ]);

foreach my $name (sort keys %sources)
{
	my $hostile = "hostile_$name";
	my ($table, $key, $columns) = @{ $sources{$name} }{qw(table key columns)};
	my %faults;

	store($hostile, $name);
	$node->safe_psql($hostile, $sources{$name}{ddl} =~ /REFERENCES/ ? 'ALTER TABLE marten.mt_events DROP CONSTRAINT mt_events_stream_id_fkey' : '');
	$node->safe_psql($hostile, sprintf $sources{$name}{add}, 1, 60);
	foreach my $column (sort keys %refused)
	{
		my $fault;

		foreach my $case (@{ $refused{$column} })
		{
			my ($n, $what, $value) = @$case;

			$fault = $case->[3] // $fault;
			$value = '69' if $value eq '70' && $name eq 'message_db';
			$node->safe_psql($hostile, "UPDATE $table SET $columns->{$column} = $value WHERE $key = $n + 40");
			push @{ $faults{$fault} }, $n + 40;
		}
	}
	# what goes to another stream is missing in its own
	my $said = run_import($hostile, $name, 'batch_size => 10');
	like($said, qr/^ERROR:  cannot import \S+: names of streams must be 1 to 512 bytes long, without control characters\n/, "$hostile: what a store cannot have is refused");
	foreach my $fault (sort keys %faults)
	{
		next if $fault =~ /^streams must have all/;
		my $count = @{ $faults{$fault} };
		like($said, qr/\Q$fault\E: $count events, the first at global position $faults{$fault}[0], version \d+ of stream /, $fault);
	}
	like($said, qr/streams must have all of their events: \d+ events, the first at global position \d+/, 'streams must have all of their events');
	like($said, qr/HINT:  This call has stored nothing\. In this session pg_temp\.import_faults lists these events\. Mend them there, or import a view that does, or have streams closed up with renumber => true\./, 'and what to do is said');
	is($node->safe_psql($hostile, 'SELECT count(*) FROM es_events'), '0', 'nothing is stored');
	is(run_import($hostile, $name, 'only_check => true'), $said, 'a mere look says the same');
	my $listed = ($node->psql($hostile, call($name) . "SELECT string_agg(DISTINCT global_position::text, ' ' ORDER BY global_position::text) FROM pg_temp.import_faults WHERE fault NOT LIKE 'streams %'", on_error_stop => 0))[1];
	is($listed, join(' ', sort map { @$_ } @faults{ grep { !/^streams/ } keys %faults }), 'all of them are listed');

	# mended there, all comes; a mere look before stores nothing
	$node->safe_psql($hostile, "DELETE FROM $table");
	$node->safe_psql($hostile, sprintf $sources{$name}{add}, 1, 60);
	like(run_import($hostile, $name, $sources{$name}{last}, 'only_check => true'), qr/^NOTICE:  60 events can be imported, up to global position 120;/, 'mended there, they can be imported');
	is($node->safe_psql($hostile, 'SELECT count(*) FROM es_events'), '0', 'which a mere look does not');
	like(run_import($hostile, $name, $sources{$name}{last}, 'batch_size => 7'), qr/^NOTICE:  60 events imported, up to global position 120;/, 'and are');
	is(differences($hostile, $name), '', 'as they are');
}

# What is defined of types and categories before events come, and a type of which events stand in for holes.
store('defined', 'message_db');
$node->safe_psql('defined', sprintf($sources{message_db}{add}, 1, 60) . q{;
	SELECT es_register_schema('Type1', '{"type": "object", "required": ["n"]}'), es_protect('account', '{$.data.secret}', '$.data.who');
	UPDATE message_db.messages SET data = '{"m": 1}' WHERE global_position = 43;
	UPDATE message_db.messages SET data = '{"n": 45, "secret": "s"}' WHERE global_position = 45});
like(run_import('defined', 'message_db', 'batch_size => 20'), qr/^ERROR:  cannot import message_db\.messages: data must satisfy the schema of the newest version of their type\nDETAIL:  data .*: 1 events, the first at global position 43, version 5 of stream account-3\.\nevents with protected fields must have a subject: 1 events, the first at global position 45, version 5 of stream account-5\./,
	'data that a schema does not allow, and protected fields of nobody, are refused');
is(($node->psql('defined', call('message_db', 'batch_size => 20') . q{SELECT string_agg(global_position::text, ' ' ORDER BY global_position) FROM pg_temp.import_faults}, on_error_stop => 0))[1], '43 45', 'and listed');
is($node->safe_psql('defined', 'SELECT (SELECT count(*) FROM es_events), is_called FROM eventstore.position_seq'), '0|f', 'nothing is stored, and no position is spent');
$node->safe_psql('defined', q{UPDATE message_db.messages SET data = '{"n": 43}' WHERE global_position = 43; UPDATE message_db.messages SET data = '{"n": 45, "secret": "s", "who": "bob"}' WHERE global_position = 45});
like(run_import('defined', 'message_db', 'batch_size => 20'), qr/^NOTICE:  60 events imported, up to global position 60;/, 'mended there, all come');
is(differences('defined', 'message_db'), '', 'as they are');
$node->safe_psql('defined', sprintf($sources{message_db}{add}, 61, 62) . q{; UPDATE message_db.messages SET data = '{"n": 62, "secret": "s", "who": "bob"}' WHERE global_position = 62; SELECT es_shred('bob')});
like(run_import('defined', 'message_db', 'batch_size => 1'), qr/^ERROR:  cannot import message_db\.messages: events with protected fields must not be about a subject that is shredded\nDETAIL:  .*: 1 events, the first at global position 62, version 7 of stream account-2\./,
	'what is about a shredded subject is refused');
is($node->safe_psql('defined', 'SELECT last_value FROM eventstore.position_seq'), '60', 'and no position is spent');
$node->safe_psql('defined', q{DELETE FROM message_db.messages WHERE global_position = 62; SELECT setval('message_db.messages_global_position_seq', 5000);
	SELECT es_register_schema('Skipped', '{"required": ["x"]}')});
$node->safe_psql('defined', sprintf $sources{message_db}{add}, 62, 70);
like(run_import('defined', 'message_db'), qr/^NOTICE:  10 events imported, up to global position 5009;/, 'whatever is defined, a hole is passed over');
is($node->safe_psql('defined', "SELECT string_agg(position::text, ' ' ORDER BY position) FROM es_events WHERE position > 60"), '61 5001 5002 5003 5004 5005 5006 5007 5008 5009', 'at the positions behind it');

# master_key(command): has new sessions ask it for the master key.
sub master_key
{
	my ($command) = @_;

	$node->safe_psql('postgres', "LOAD 'eventstore'; ALTER SYSTEM SET eventstore.master_key_command = '$command'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('eventstore.master_key_command') = '$command'") or die 'the command is not known';
}

# A subject that has no key yet, and no master key that its would be made with.
store('keyless', 'message_db');
$node->safe_psql('keyless', sprintf($sources{message_db}{add}, 1, 60) . q{;
	SELECT es_protect('account', '{$.data.secret}', '$.data.who');
	UPDATE message_db.messages SET data = '{"n": 45, "secret": "s", "who": "ann"}' WHERE global_position = 45});
master_key('false');
foreach my $arguments ('batch_size => 1', 'only_check => true')
{
	like(run_import('keyless', 'message_db', $arguments), qr/^ERROR:  master key of protected fields is not available\n/, "without the master key what is about a new subject is refused, $arguments");
	is($node->safe_psql('keyless', 'SELECT (SELECT count(*) FROM es_events), (SELECT count(*) FROM eventstore.subjects WHERE kind <> 2), is_called FROM eventstore.position_seq'), '0|0|f',
		'nothing is stored, and no position is spent');
}
master_key('printf %064d 1');
like(run_import('keyless', 'message_db', 'only_check => true'), qr/^NOTICE:  60 events can be imported/, 'with the master key it can be imported');
is($node->safe_psql('keyless', 'SELECT count(*) FROM eventstore.subjects WHERE subject = $$ann$$'), '0', 'a mere look makes no key');
like(run_import('keyless', 'message_db', 'batch_size => 1'), qr/^NOTICE:  60 events imported, up to global position 60;/, 'and is');
is(differences('keyless', 'message_db'), '', 'as it was there');

# Streams that have one name here, and ids of a stream that are one.
store('folded', 'emmett');
$node->safe_psql('folded', q{CREATE TABLE emmett.acme PARTITION OF emmett.emt_messages FOR VALUES IN ('acme');} . sprintf($sources{emmett}{add}, 1, 20)
	  . q{; UPDATE emmett.emt_messages SET partition = 'acme' WHERE stream_id = 'account-1'; UPDATE emmett.emt_messages SET stream_id = 'account-1@acme' WHERE stream_id = 'account-2'});
foreach my $renumber (qw(false true))
{
	like(run_import('folded', 'emmett', "renumber => $renumber"), qr/^ERROR:  cannot import emmett\.emt_messages: versions must come once in a stream, in their order\nDETAIL:  .*: 2 events, the first at global position 2, version 1 of stream account-1\@acme\./,
		"two streams that have one name here are refused, renumber => $renumber");
}
store('ids', 'emmett');
$node->safe_psql('ids', sprintf($sources{emmett}{add}, 1, 20) . q{; UPDATE emmett.emt_messages SET message_id = 'ABCDEF00-0000-0000-0000-000000000000' WHERE global_position = 1;
	UPDATE emmett.emt_messages SET message_id = 'abcdef00-0000-0000-0000-000000000000' WHERE global_position IN (2, 11)});
like(run_import('ids', 'emmett'), qr/^ERROR:  cannot import emmett\.emt_messages: ids must come once in a stream\nDETAIL:  .*: 1 events, the first at global position 11, version 2 of stream account-1\./,
	'ids of a stream that are the same UUID are refused, of several streams they are not');
is($node->safe_psql('ids', 'SELECT count(*) FROM es_events'), '0', 'and nothing is stored');

$node->safe_psql('ids', 'UPDATE emmett.emt_messages SET global_position = NULL WHERE global_position = 11');
like(run_import('ids', 'emmett'), qr/^ERROR:  null value in column "global_position" .*\nDETAIL:  Failing row contains \(null, 2, account-1, /, 'a message without a global position is not passed over');

# A stream of that name that the store has from elsewhere.
foreach my $case ([ 'false', 'versions must come once in a stream, in their order' ], [ 'true', 'streams in the store must have what they have there' ])
{
	my ($renumber, $fault) = @$case;
	my $taken = "taken_$renumber";

	store($taken, 'message_db');
	$node->safe_psql($taken, sprintf($sources{message_db}{add}, 1, 20) . q{; SELECT es_append('account-3', 'Mine'), es_append('account-3', 'Mine')});
	like(run_import($taken, 'message_db', "keep_positions => false, renumber => $renumber"), qr/^ERROR:  cannot import message_db\.messages: \Q$fault\E\n/, "a stream that the store has from elsewhere is not gone on with, renumber => $renumber");
	is($node->safe_psql($taken, 'SELECT count(*) FROM es_events'), '2', 'and nothing is stored');
}

# ---- the page's queries: what compares, and the way back ----

# sql_of(chapter): the page's blocks of SQL in a chapter, in order
sub sql_of
{
	my ($chapter) = @_;
	my ($text) = slurp_file('doc/migrating.md') =~ /^## \Q$chapter\E\n(.*?)(?=^## |\z)/ms;

	return $text =~ /^```sql\n(.*?)^```$/msg;
}

my (%compare, %back);
@compare{qw(message_db emmett marten)} = sql_of('Comparing');
@back{qw(message_db emmett marten)} = sql_of('Going back');
foreach my $name (sort keys %sources)
{
	my $back = "back_$name";
	my ($table, $key, $columns) = @{ $sources{$name} }{qw(table key columns)};

	store($back, $name);
	$node->safe_psql($back, sprintf $sources{$name}{add}, 1, 60);
	like(run_import($back, $name), qr/^NOTICE:  60 events imported/, "$back: all is brought");
	is($node->safe_psql($back, $compare{$name}), '', 'and the query that compares finds nothing');
	$node->safe_psql($back, q{BEGIN; SELECT es_append('lost-1', 'T'); ROLLBACK; SELECT es_append('account-3', 'T', '{"here": 1}', '{"m": 1}'), es_append('new-1', 'T'), es_append('new-1', 'T')});
	$node->safe_psql($back, "BEGIN; $back{$name} COMMIT");
	is(differences($back, $name), '', 'what was appended here goes back, at its positions');
	is($node->safe_psql($back, $compare{$name}), '', 'and nothing differs');
	$node->safe_psql($back, sprintf $sources{$name}{write}, "'new-1'");
	is($node->safe_psql($back, "SELECT $key, $columns->{version} FROM $table ORDER BY 1 DESC LIMIT 1"), '65|' . ($name eq 'message_db' ? 2 : 3), 'the old store goes on from there');
	$node->safe_psql($back, "DELETE FROM $table WHERE $key = 65");
	foreach my $change ([ 'data', "'{}'" ], [ 'type', "'Other'" ], [ 'time', "$columns->{time} + interval '1 s'" ], [ 'version', '99' ], [ 'id', 'gen_random_uuid()' ], [ 'metadata', q('{"other": 1}') ])
	{
		my ($column, $value) = @$change;

		is($node->safe_psql($back, "BEGIN; UPDATE $table SET $columns->{$column} = $value WHERE $key = 30; $compare{$name} ROLLBACK") =~ /^30\|account-0\|/ ? 1 : 0, 1, "a difference in $column is found");
	}
}

done_testing();
