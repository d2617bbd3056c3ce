# The store's tables as an administrator may leave them: columns with and without
# defaults, dropped ones, constraints, and indexes of all kinds.  Whatever writes the
# tables goes on, in sessions that were there before, too; users' columns get their
# defaults and keep what they have, and every index says the same as its table.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use EventstoreProjection;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 'logical',
	conf => "shared_preload_libraries = 'eventstore'\neventstore.settle_interval = '100ms'\nautovacuum = off\neventstore.allow_drop = on\nmax_worker_processes = 20\nlog_line_prefix = '%m [%p] %e %q%a '\n");

use_store($node);
$node->safe_psql('postgres', 'CREATE DATABASE store');
$node->safe_psql('store', $_) foreach ('CREATE EXTENSION eventstore', 'CREATE EXTENSION amcheck',
	'SELECT es_set_segment_size(200)',
	q{CREATE TABLE seen (projection text, n bigint);
	  CREATE FUNCTION note_async(event es_event) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO seen VALUES ('async', (event).position); END;
	  CREATE FUNCTION note_inline(event es_event) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO seen VALUES ('inline', (event).position); END;
	  CREATE FUNCTION fails(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		  IF (event).type = 'Bad' THEN RAISE 'bad'; END IF; INSERT INTO seen VALUES ('failing', (event).position); END $$;
	  CREATE FUNCTION forget_async() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM seen WHERE projection = 'async'; END;
	  CREATE FUNCTION newer(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT data OPERATOR(pg_catalog.||) '{"up": 1}'; END;});

# ---- all that writes the tables ----

my $jsonb_30 = q{(SELECT jsonb_agg(jsonb_build_object('type', 'Good', 'data', jsonb_build_object('x', i % 7))) FROM generate_series(1, 30) i)};

# step(session, name, sql): in a session that stays
sub step
{
	my ($session, $name, $sql) = @_;
	my $out = $session->query($sql);
	my $err = $session->{stderr};

	$session->{stderr} = '';
	ok($err eq '', $name) or diag "$sql: $err";
	return $out;
}

# work(round, session): everything once, with names of the round's own and on what is there already
sub work
{
	my ($r, $session) = @_;

	step($session, "round $r: $_->[0]", $_->[1]) foreach (
		['append', "SELECT es_append('a-$r', 'Good', '{\"x\": 1}')"],
		['append with an id', "SELECT es_append('a-1', 'Good', '{\"x\": 2}', event_id => gen_random_uuid())"],
		['batch', "SELECT es_append_batch('b-1', $jsonb_30)"],
		['many', "SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'c-' || i % 5, 'type', 'Tagged', 'tags', '[\"blue\", \"green\"]'::jsonb)) FROM generate_series(1, 20) i))"],
		['condition', "SELECT es_append_if('[{\"stream\": \"d-$r\", \"type\": \"Tagged\", \"tags\": [\"r$r\", \"blue\"]}]', 0, tags => '{r$r}')"],
		['insert', "INSERT INTO es_events (stream, type, data) SELECT 'e-' || i % 3, 'Good', '{}' FROM generate_series(1, 20) i"],
		['reducer', "SELECT es_create_reducer('sum-$r')"],
		['its operations', "SELECT es_register_reducer_ops('sum-$r', 'Good', '{\"inc\": {\"n\": 1}}')"],
		['other ones', "SELECT es_register_reducer_ops('sum-$r', 'Tagged', '{\"inc\": {\"t\": 1}}')"],
		['in their place', "SELECT es_register_reducer_ops('sum-$r', 'Tagged', '{\"inc\": {\"t\": 2}}')"],
		['snapshots', "SELECT es_snapshot_every('sum-$r', 5)"],
		['other snapshots', "SELECT es_snapshot_every('sum-$r', 6)"],
		['upcaster', "SELECT es_register_upcaster('Good', $r, 'newer(jsonb)')"],
		['in its place', "SELECT es_register_upcaster('Good', $r, 'newer(jsonb)')"],
		['schema', "SELECT es_register_schema('Good', '{\"\$comment\": \"$r\"}', 'none')"],
		['what is dropped again', "SELECT es_register_upcaster('Gone', 1, 'newer(jsonb)'), es_register_schema('Gone', '{}'), es_drop_schema('Gone', 2), es_drop_upcaster('Gone', 1)"],
		['replay', "SELECT count(*) FROM es_replay('b-1', 'sum-$r')"],
		['further', "SELECT es_append_batch('b-1', $jsonb_30)"],
		['replay further', "SELECT count(*) FROM es_replay('b-1', 'sum-$r')"],
		['snapshot', "SELECT es_snapshot('a-1', 'sum-$r')"],
		['inline projection', "SELECT es_create_projection('states-$r', 'sum-$r', 'inline', key => '\$.data.x')"],
		['async projection', "SELECT es_create_projection('later-$r', 'sum-$r')"],
		['async handler', "SELECT es_create_handler_projection('async-$r', 'note_async(es_event)', reset => 'forget_async()')"],
		['inline handler', "SELECT es_create_handler_projection('inline-$r', 'note_inline(es_event)', 'inline')"],
		['one that fails', "SELECT es_create_handler_projection('failing-$r', 'fails(es_event)')"],
		['an event it fails of', "SELECT es_append('a-1', 'Bad', '{\"x\": 2}')"],
		['and others', "SELECT es_append_batch('b-1', $jsonb_30)"]);
	consume($r, $session);
	my ($status, $out, $err) = $node->psql('store', "COPY es_events (stream, type, data) FROM STDIN;\nf-1\tGood\t{}\nf-$r\tGood\t{\"x\": 5}\n\\.\n");
	is($err, '', "round $r: COPY");
	catches_up("$_-$r", "round $r: $_ catches up") foreach ('later', 'async');
	becomes("SELECT status = 'failed' FROM es_projections WHERE projection = 'failing-$r'", '... one stands failed');
	$session->query_safe("SELECT es_skip_event('failing-$r', error_position) FROM es_projections WHERE projection = 'failing-$r' AND error_position IS NOT NULL")
		while $node->safe_psql('store', "SELECT count(*) FROM es_projections WHERE projection = 'failing-$r' AND lag > 0") > 0;
	step($session, "round $r: $_ is rebuilt", "SELECT es_rebuild_projection('$_-$r')") foreach ('states', 'later', 'async');
	catches_up("$_-$r", '... to its end') foreach ('states', 'later', 'async');
	step($session, "round $r: $_->[0]", $_->[1]) foreach (
		['inline one dropped', "SELECT es_drop_projection('inline-$r')"],
		['failing one dropped', "SELECT es_drop_projection('failing-$r')"],
		['reducer for a while', "SELECT es_register_reducer_ops('gone-$r', 'Good', '{\"inc\": {\"n\": 1}}')"],
		['reducer dropped', "SELECT es_drop_reducer('gone-$r')"],
		['snapshots dropped', "SELECT es_drop_snapshots('sum-$r')"],
		['replay', "SELECT count(*) FROM es_replay('b-1', 'sum-$r')"],
		['mark', 'SELECT es_settle()'],
		['feed', "SELECT es_create_feed('feed_$r')"],
		['for it', "SELECT es_append('a-1', 'Fed')"]);
	my $slot = $node->safe_psql('store', "SELECT slot_name FROM es_feeds WHERE feed = 'feed_$r'");
	is($node->safe_psql('store', "SELECT count(*) FROM pg_logical_slot_get_changes('$slot', NULL, NULL) WHERE data LIKE '%\"Fed\"%'"),
		1, "round $r: the feed has it");
	$node->safe_psql('store', "SELECT es_drop_feed('feed_$r')");
	return;
}

# Takes from a subscription: acknowledged, parked, put back, rewound, dropped.
sub consume
{
	my ($r, $session) = @_;
	my $ack = "SELECT es_ack('s-$r', partition, max(position), 'm-$r') FROM es_poll('s-$r', 5, member => 'm-$r') GROUP BY partition";
	my $nack = "SELECT es_nack('s-$r', partition, min(position), 'no', 'm-$r') FROM es_poll('s-$r', 5, member => 'm-$r') GROUP BY partition";

	step($session, "round $r: $_->[0]", $_->[1]) foreach (
		['subscribe', "SELECT es_subscribe('s-$r', 0, partitions => 2, max_attempts => 1)"],
		['a second one', "SELECT es_subscribe('t-$r', 0)"],
		['ack', $ack], ['nack', $nack], ['parked', "SELECT count(*) FROM es_parked('s-$r')"],
		['put back', "SELECT es_replay_parked('s-$r', (SELECT min(position) FROM es_parked('s-$r')))"],
		['ack again', $ack], ['nack again', $nack],
		['another member', "SELECT count(*) FROM es_poll('s-$r', 5, member => 'n-$r')"],
		['rewind', "SELECT es_rewind('s-$r', 2)"], ['ack after it', $ack],
		['poll of the second', "SELECT count(*) FROM es_poll('t-$r', 5)"],
		['unsubscribe', "SELECT es_unsubscribe('t-$r')"]);
	return;
}

# ---- what is altered ----

my @tables = rows($node, 'store', "SELECT relname FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace
	AND relkind IN ('r', 'p') AND NOT relispartition
	AND relname NOT IN ('feeds', 'feed_definitions') -- decoding reads these, so the server rewrites them for nobody
	ORDER BY 1");
my %partitioned = map { $_ => 1 } rows($node, 'store', "SELECT relname FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace AND relkind = 'p'");

cmp_ok(scalar(@tables), '>=', 20, 'all tables');

# of the tables of states, indexes are looked at on that of the first projection
my %indexed = (projection_states => 'projection_states_1');

my @columns = ('note text', "u_const int NOT NULL DEFAULT 7 CHECK (u_const > 0)", 'u_uuid uuid DEFAULT gen_random_uuid()',
	'u_gone text DEFAULT repeat(\'gone\', 3)', 'u_twice int GENERATED ALWAYS AS (u_const * 2) STORED',
	"u_doc jsonb DEFAULT '{\"tag\": [1, 2]}'", 'u_brin int DEFAULT 5', 'u_hash uuid DEFAULT gen_random_uuid()',
	'u_one uuid DEFAULT gen_random_uuid()', 'u_two uuid DEFAULT gen_random_uuid()',
	"u_wide text DEFAULT repeat(md5('x'), 100)");

# Indexes by name, with a condition that finds all rows through it, and how many of them there are.
my %indexes = (
	note => ['USING btree (note)', 'note IS NULL', 'count(*)'],
	partial => ['USING btree (u_const) WHERE u_uuid IS NOT NULL', 'u_const = 7 AND u_uuid IS NOT NULL', 'count(u_uuid)'],
	nobody => ['USING btree (u_const) WHERE u_const > 100', 'u_const > 100', '0'],
	expression => ['USING btree ((u_const + u_brin))', 'u_const + u_brin = 12', 'count(u_brin)'],
	gin => ['USING gin (u_doc)', q{u_doc @> '{"tag": [2]}'}, 'count(u_doc)'],
	brin => ['USING brin (u_brin) WITH (autosummarize = off)', 'u_brin = 5', 'count(u_brin)'],
	hash => ['USING hash (u_hash)', 'u_hash = ANY (ARRAY(SELECT u_hash FROM TABLE_OF_IT))', 'count(u_hash)'],
	include => ['USING btree (u_twice) INCLUDE (u_uuid)', 'u_twice = 14', 'count(*)']);

# alter(): every table gets everything, beside a session that has used the tables
sub alter
{
	foreach my $table (@tables)
	{
		my $t = "eventstore.$table";
		my $on = $indexed{$table} // $table;
		my $unique = !$partitioned{$table} ? 'u_one' : $table eq 'events' ? 'position, u_one' : 'projection_id, u_one';

		$node->safe_psql('store', $_) foreach (
			"ALTER TABLE $t " . join(', ', map { "ADD COLUMN $_" } @columns),
			"ALTER TABLE $t DROP COLUMN u_gone",
			"ALTER TABLE $t ADD CONSTRAINT u_${table}_one UNIQUE ($unique) DEFERRABLE INITIALLY DEFERRED",
			($partitioned{$table} ? () : "ALTER TABLE $t ADD CONSTRAINT u_${table}_two EXCLUDE USING hash (u_two WITH =)"),
			"ALTER TABLE $t ADD CONSTRAINT u_${table}_check CHECK (u_twice = 14 AND u_brin IS DISTINCT FROM 0)",
			(map { "CREATE INDEX u_${on}_$_ ON eventstore.$on $indexes{$_}[0]" } sort keys %indexes));
	}
	$node->safe_psql('store', $_) foreach (
		"CREATE INDEX u_snapshots_state ON eventstore.snapshots ((state->>'n'))",
		"CREATE INDEX u_states_state ON eventstore.projection_states ((state->>'n'))",
		"CREATE INDEX u_events_data ON eventstore.events ((data->>'x'), type)",
		"CREATE INDEX u_streams_category ON eventstore.streams ((split_part(name, '-', 1)))");
	return;
}

# key_of(table): what tells its rows apart, as SQL text
sub key_of
{
	my ($table) = @_;
	my $key = $node->safe_psql('store', "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
		WHERE indrelid = 'eventstore.$table'::regclass AND indisprimary");
	$key = 'position' if $table eq 'events';
	$key = 'reducer, stream_id, fingerprint' if $table eq 'snapshots';
	return $key eq '' ? q{'the one'} : "($key)::text";
}

# kept(): what users' columns have, by row
sub kept
{
	my %kept;

	foreach my $table (@tables)
	{
		my $key = key_of($table);
		$key = "concat_ws(' ', reducer, stream_id, fingerprint)" if $table eq 'snapshots';
		# the key is that of each table of states
		$key = "concat_ws(' ', projection_id, generation, key)" if $table eq 'projection_states';
		$kept{$table} = { map { split /\t/, $_, 2 } rows($node, 'store', "SELECT $key || E'\\t' || concat_ws(' ', u_uuid, u_hash, u_one, u_two, md5(u_wide)) FROM eventstore.$table") };
	}
	return \%kept;
}

# check_indexes(round): every index of ours and of the user's against its table
sub check_indexes
{
	my ($r) = @_;

	foreach my $table (map { $indexed{$_} // $_ } @tables)
	{
		my $t = "eventstore.$table";
		my @bad;

		foreach my $name (sort keys %indexes)
		{
			my ($how, $condition, $count) = @{ $indexes{$name} };
			$condition =~ s/TABLE_OF_IT/$t/;
			my $expected = $node->safe_psql('store', "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; SELECT $count FROM $t");
			$expected = '0' if $count eq '0';
			my ($others) = join('', map { "DROP INDEX eventstore.u_${table}_$_;" } grep { $_ ne $name && !/^(one|two)$/ } sort keys %indexes);
			my $got = $node->safe_psql('store', "BEGIN; $others SET LOCAL enable_seqscan = off; SELECT count(*) FROM $t WHERE $condition; EXPLAIN (COSTS off) SELECT count(*) FROM $t WHERE $condition; ROLLBACK");
			my ($counted, $plan) = split /\n/, $got, 2;
			push @bad, "$name: $counted, not $expected" if $counted ne $expected;
			push @bad, "$name is not used: $plan" if $plan !~ /Index|Bitmap/;
		}
		is(join("\n", @bad), '', "round $r: indexes of $table find all rows, and no others");
	}
	my ($status, $out, $err) = $node->psql('store', "SELECT count(bt_index_check(indexrelid, true)) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
		WHERE relnamespace = 'eventstore'::regnamespace AND relkind = 'i' AND relam = (SELECT oid FROM pg_am WHERE amname = 'btree')");
	is($err, '', "round $r: every btree has every row");
	return;
}

# ---- a session that was there before ----

my $session = $node->background_psql('store', on_error_stop => 0);

work(1, $session);
alter();
my $before = kept();
work(2, $session);
$node->safe_psql('store', join(';', ("SELECT es_append('z-1', 'Good')") x 400));
becomes("SELECT count(*) > 0 FROM es_segments WHERE state = 'sealed'", 'segments are sealed');
is($node->safe_psql('store', "SELECT count(*) FROM es_segments s WHERE state = 'sealed' AND events <> (SELECT count(*) FROM eventstore.events WHERE position BETWEEN first_position AND last_position)"),
	0, '... with the right counts');
cmp_ok($node->safe_psql('store', "SELECT count(*) FROM pg_attribute a JOIN pg_inherits i ON i.inhrelid = a.attrelid JOIN pg_class c ON c.oid = i.inhrelid
	WHERE c.relnamespace = 'eventstore'::regnamespace AND relkind = 'r' AND attname = 'u_uuid' AND atthasdef"),
	'>=', 3, 'segments made since have the columns with their defaults');

my $after = kept();

foreach my $table (@tables)
{
	my @lost = grep { defined $after->{$table}{$_} && $after->{$table}{$_} ne $before->{$table}{$_} } sort keys %{ $before->{$table} };

	is(join(', ', @lost), '', "rows of $table keep what users have put there");
	is($node->safe_psql('store', "SELECT count(*) FROM eventstore.$table WHERE note IS NOT NULL OR u_const <> 7 OR u_twice <> 14 OR u_brin IS DISTINCT FROM 5
		OR u_doc IS DISTINCT FROM '{\"tag\": [1, 2]}' OR u_uuid IS NULL OR u_hash IS NULL OR u_one IS NULL OR u_two IS NULL OR u_wide IS DISTINCT FROM repeat(md5('x'), 100)"),
		0, '... and new ones have the defaults');
	is($node->safe_psql('store', "SELECT count(*) - count(DISTINCT u_uuid) FROM eventstore.$table"), 0, '... each its own');
}
check_indexes(2);
is(gaps($node, 'store'), '', 'versions have no gap');
is($node->safe_psql('store', 'SELECT count(*) - count(DISTINCT position) FROM es_events'), 0, 'positions come once');

# ---- constraints are enforced ----

# raises(sql, state, name)
sub raises
{
	my ($sql, $state, $name) = @_;

	return is(error_of($sql), $state, $name);
}

$node->safe_psql('store', $_) foreach (
	'ALTER TABLE eventstore.streams ALTER u_one SET DEFAULT \'00000000-0000-0000-0000-000000000001\'',
	'ALTER TABLE eventstore.reducers ALTER u_two SET DEFAULT \'00000000-0000-0000-0000-000000000002\'',
	"ALTER TABLE eventstore.subscriptions ADD CONSTRAINT short CHECK (length(name) < 10)",
	"ALTER TABLE eventstore.streams ADD CONSTRAINT not_secret CHECK (name NOT LIKE 'secret%')",
	"ALTER TABLE eventstore.projections ADD COLUMN u_must text NOT NULL DEFAULT 'x'",
	"ALTER TABLE eventstore.projections ALTER u_must DROP DEFAULT",
	"CREATE DOMAIN filled AS text CHECK (VALUE IS NOT NULL)",
	"ALTER TABLE eventstore.snapshot_policies ADD COLUMN u_filled filled DEFAULT 'x'",
	"ALTER TABLE eventstore.snapshot_policies ALTER u_filled DROP DEFAULT");
step($session, 'one row that a deferred constraint lets pass', q{SELECT es_append('d-x', 'T')});
raises(q{SELECT es_append('d-y', 'T')}, '23505', 'a deferrable unique constraint is enforced');
$node->safe_psql('store', 'ALTER TABLE eventstore.streams ALTER u_one SET DEFAULT gen_random_uuid()');
$node->safe_psql('store', "SELECT es_create_reducer('first')");
raises("SELECT es_create_reducer('second')", '23P01', 'so is one that excludes');
raises("SELECT es_subscribe('much-too-long')", '23514', 'so is CHECK of a table');
raises("SELECT es_append('secret-1', 'T')", '23514', '... and of the streams');
raises("SELECT es_create_projection('p', 'first')", '23502', 'so is NOT NULL');
raises("SELECT es_snapshot_every('first', 3)", '23514', 'so are domains');
step($session, 'others append meanwhile', "SELECT es_append('a-1', 'T')");
$session->quit;

# ---- columns of ours ----

my @ours = (
	['config', 'RENAME segment_size TO size', 'RENAME size TO segment_size', "SELECT es_append('a-1', 'T')"],
	['streams', 'RENAME name TO stream', 'RENAME stream TO name', "SELECT es_append('a-1', 'T')"],
	['events', 'ALTER metadata DROP NOT NULL', 'ALTER metadata SET NOT NULL', "SELECT es_append('a-1', 'T')"],
	['events', 'ALTER metadata DROP NOT NULL', 'ALTER metadata SET NOT NULL', "SELECT count(*) FROM es_read('a-1')"],
	['segments', 'ALTER sealed DROP NOT NULL', 'ALTER sealed SET NOT NULL', "SELECT es_set_segment_size(300)"],
	['subscription_partitions', 'RENAME parked TO given_up', 'RENAME given_up TO parked', "SELECT count(*) FROM es_poll('s-1', 5)"],
	['subscription_members', 'RENAME member TO who', 'RENAME who TO member', "SELECT count(*) FROM es_poll('s-1', 5, member => 'm')"],
	['reducers', 'RENAME initial TO start', 'RENAME start TO initial', "SELECT es_create_reducer('third')"],
	['snapshots', 'ALTER kept DROP NOT NULL', 'ALTER kept SET NOT NULL', "SELECT es_snapshot('a-1', 'sum-1')"],
	['upcasters', 'RENAME ops TO how', 'RENAME how TO ops', "SELECT es_register_upcaster('X', 1, 'newer(jsonb)')"],
	['grants', 'RENAME privilege TO what', 'RENAME what TO privilege', "SELECT es_grant('pg_monitor', 'read')"],
	['schemas', 'RENAME schema TO shape', 'RENAME shape TO schema', "SELECT es_register_schema('X', '{}')"],
	['projections', 'RENAME creator TO maker', 'RENAME maker TO creator', "SELECT es_drop_projection('later-1')"]);

foreach my $case (@ours)
{
	my ($table, $do, $undo, $sql) = @$case;

	# views of ours may hold on to a column; then it cannot be changed at all
	my ($status, $out, $err) = $node->psql('store', "ALTER TABLE eventstore.$table $do");
	is($err, '', "$table: $do");
	raises($sql, '55000', '... is met by an error that says so');
	$node->safe_psql('store', "ALTER TABLE eventstore.$table $undo");
}
is(error_of("SELECT es_append('a-1', 'T')"), '', 'undone, all is well');
foreach my $type ('es_event', 'es_delivery', 'es_state', 'es_new_event')
{
	$node->safe_psql('store', "ALTER TYPE $type ADD ATTRIBUTE note text");
	raises({ es_event => "SELECT * FROM es_read('a-1')", es_delivery => "SELECT * FROM es_poll('s-1', 5)",
			es_state => "SELECT * FROM es_replay('a-1', 'count')",
			es_new_event => "SELECT es_append_events('a-1', ARRAY[ROW('T', '{}', NULL, NULL, NULL)::es_new_event])" }->{$type},
		'55000', "type $type with another attribute");
	$node->safe_psql('store', "ALTER TYPE $type DROP ATTRIBUTE note");
}
$node->safe_psql('store', "DROP EXTENSION IF EXISTS pageinspect; ALTER TABLE eventstore.wal_mark DROP COLUMN positions");
is(error_of('SELECT es_append(\'wal-1\', \'T\'); SELECT es_settle()'), '55000', 'a column of ours that is gone');

my $log = slurp_file($node->logfile);
unlike($log, qr/was terminated by signal|server process .* exited with exit code/, 'nothing crashed');
is(join("\n", $log =~ /^.* XX\w\w\w .*ERROR.*$/mg), '', 'no internal error');
$node->stop;

# ---- constraints that catch errors ----

# An error that is caught makes the session forget what it knows of the streams that its transaction
# has appended to, in the midst of a change of one. Memory that is given back is away at once here, and as there
# were many streams what is got next does not come to lie in the same place.
$ENV{MALLOC_MMAP_THRESHOLD_} = 8192;
my $catching = new_node('catching', conf => "shared_preload_libraries = 'eventstore'\n");
delete $ENV{MALLOC_MMAP_THRESHOLD_};
my $others = "SELECT count(es_append('long-' || i || repeat('-name', 40), 'T')) FROM generate_series(1, 2800) i";

$catching->safe_psql('postgres', $_) foreach (
	'CREATE EXTENSION eventstore', $others, "SELECT es_append('a-1', 'T')",
	q{CREATE FUNCTION catches(value text) RETURNS boolean LANGUAGE plpgsql AS $$
	  BEGIN
		  IF value IN ('a-1', 'Caught') THEN PERFORM 1 / 0; END IF;
		  RETURN true;
	  EXCEPTION WHEN division_by_zero THEN RETURN true;
	  END $$},
	'ALTER TABLE eventstore.streams ADD CHECK (catches(name))', 'ALTER TABLE eventstore.events ADD CHECK (catches(type))');
is($catching->safe_psql('postgres', "BEGIN; $others; SELECT es_append('a-1', 'T'); SELECT es_append('a-1', 'T'); SELECT es_truncate_stream('a-1', 2); SELECT es_append('a-1', 'T'); SELECT es_truncate_stream('a-1', 3); COMMIT"),
	"2800\n2\n3\n\n4\n", 'a stream is truncated where a constraint catches an error');
is($catching->safe_psql('postgres', "BEGIN; $others; SELECT es_append('a-1', 'T'); SELECT es_append('a-1', 'Caught'); SELECT es_append('a-1', 'T'); COMMIT"),
	"2800\n5\n6\n7", 'an event is appended where one does');
is($catching->safe_psql('postgres', "SELECT string_agg(version || type, ' ' ORDER BY version) FROM es_read('a-1')"), '3T 4T 5T 6Caught 7T', 'all of it is stored');
unlike(slurp_file($catching->logfile), qr/was terminated by signal|server process .* exited with exit code/, 'nothing crashed there');
$catching->stop;
done_testing();
