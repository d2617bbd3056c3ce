# Random statements about a store: every function with arguments good, extreme and random, what views take, and the
# places where SQL can be.  What perl's generator gives for a seed is always the same.
package EventstoreFuzz;

use strict;
use warnings;

use Exporter 'import';
use EventstoreSamples;

our @EXPORT = qw(pick chance fuzz_settings fuzz_item);

# pick(list): one of it
sub pick { return $_[ rand @_ ]; }

# chance(p): true with that probability
sub chance { return rand() < $_[0]; }

# quoted(text): as a literal
sub quoted { return q{'} . ($_[0] =~ s/'/''/gr) . q{'}; }

# ---- values ----

my @streams = qw(a-1 a-2 b-1 secret-1 gone-1 fixed-1 a b none-1 s);
my @names = (@streams, qw(T U V Dropped p s r count merge last parked failed f * $ $$ $x $.x $stream-deleted), 'é', 'a b', q{a'b}, q{a"b}, q{"; DROP TABLE x; --}, 'a%s%n', 'a\\', '{a,b}', "\t", 'x' x 255, 'x' x 256, 'x' x 513, 'ü' x 256, 'NULL', 'a-' . 'b' x 509);

# What can be deep, long, or hard to read; each is made by the server from few bytes.
my @jsons = (
	q{'"\ud83d\ude00"'}, q{'"\ud800"'}, q{'"\u0000"'}, q{'"\u0001\u001f\u007f"'}, q{'1e-16000'}, q{'-0.0'}, q{'1e131071'}, q{'123456789012345678901234567890.000'}, q{'[[[[[[[[]]]]]]]]'},
	q{(repeat('{"a":', 3000) || '1' || repeat('}', 3000))::jsonb}, q{(repeat('[', 3000) || repeat(']', 3000))::jsonb},
	q{(SELECT jsonb_object_agg('k' || n, n) FROM generate_series(1, 5000) n)}, q{(SELECT jsonb_agg('{"type": "T", "stream": "a-1"}'::jsonb) FROM generate_series(1, 300))},
	q{(SELECT jsonb_agg(jsonb_build_object('type', 'T', 'stream', 'a-' || n, 'tags', ARRAY['t' || n])) FROM generate_series(1, 100) n)},
	q{(SELECT jsonb_agg(jsonb_build_object('types', ARRAY['T' || n])) FROM generate_series(1, 500) n)}, q{jsonb_build_object('x', repeat('y', 300000))});
my %wild = (
	'bigint' => [ 2 .. 12, 1000, '2147483648', '(SELECT es_last_position())', '(SELECT max(position) FROM es_events)', 'es_settled_position()' ],
	'integer' => [ 2 .. 12, 1000, 32767, 32768 ],
	'double precision' => [ q{'NaN'}, q{'-Infinity'}, '1e308' ],
	'text[]' => [ 'NULL', q{(SELECT array_agg('t' || n) FROM generate_series(1, 100000) n)}, q{'{a,b,c}'}, q{'{T,U}'}, q{'{t1}'}, q{'{*}'}, q{'{$.data.x,$.data[*].y}'}, q{'{T,NULL}'}, q{'[-2147483648:-2147483647]={a,b}'} ],
	'interval' => [ q{'1ms'}, q{'50ms'}, q{'1 month -30 days'}, q{'00:00:00.000001'} ],
	'timestamp with time zone' => [ 'now()', q{now() - interval '1 ms'}, q{'0001-01-01'}, q{'9999-12-31 23:59:59.999999+00'}, q{'10000-01-01'}, q{'0001-12-31 BC'} ],
	'uuid' => [ 'gen_random_uuid()', q{'ffffffff-ffff-ffff-ffff-ffffffffffff'}, q{(SELECT event_id FROM es_events ORDER BY random() LIMIT 1)} ],
	'regclass' => [ map { "'$_'" } qw(eventstore.streams eventstore.config es_streams eventstore.position_seq pg_catalog.pg_locks) ],
	'regprocedure' => [ map { "'$_'" } 'public.on_event(es_event)', 'public.on_state(jsonb,es_event)', 'public.on_data(jsonb)', 'public.fail(es_event)', 'pg_sleep(double precision)', 'jsonb_strip_nulls(jsonb)' ],
	'regrole' => [ map { "'$_'" } qw(fuzz_reader fuzz_writer fuzz_nobody pg_monitor postgres) ],
	'regtype' => [ map { "'$_'" } qw(jsonb es_event es_state public.es_events int record void trigger cstring) ],
	'name' => [ q{'states'}, q{'projection_states_1_idx'}, q{'x'}, q{repeat('x', 63)} ],
	'bytea' => [ q{'\x00'}, q{decode(repeat('ff', 1000), 'hex')}, q{'\x30818f'} ],
	'es_event' => [ q{(SELECT e FROM es_read_all(0, 1000) e ORDER BY random() LIMIT 1)}, q{(SELECT e::es_event FROM es_events e ORDER BY position DESC LIMIT 1)}, q{ROW(1, 'a-1', 1, 'T', 1, '{"x": 1}', '{}', NULL, now())::es_event}, q{ROW(1, 'a-1', 1, 'T', 1000000, '{}', '[]', NULL, '-infinity')::es_event} ],
	'es_new_event[]' => [ q{(SELECT array_agg(ROW('T', '{"x": 1}', '{"tags": ["t1"]}', NULL)::es_new_event) FROM generate_series(1, 200))}, q{'[0:0]={"(T,{},{},)"}'}, q{'{{"(T,,,)"},{"(T,,,)"}}'}, q{ARRAY[ROW('T','{}','{}','0189ffff-0000-7000-8000-000000000001')]::es_new_event[]} ],
	'pg_lsn' => [ 'pg_current_wal_lsn()', q{'0/1'} ],
	'oid' => [ q{'es_append'::regproc::oid}, q{'eventstore.events'::regclass::oid} ],
	'anyelement' => [ q{NULL::es_state}, q{ROW(1, 2)}, q{'{}'::jsonb}, q{NULL::es_events}, q{'{}'::text[]} ]);

# random_json(depth): small, but of any form, of words that mean something somewhere
sub random_json
{
	my ($depth) = @_;
	my @words = qw(type stream data metadata tags types items last event_id expected_version type_version set inc remove append merge $ref properties required enum maxLength pattern minimum x y * T);
	my $r = rand();

	return pick(qw(null true false 0 -1 1.5 1e400 "" "T" "a-1" "x" "$.data.x" "$.stream" [] {}), '"\u00e9\ud83d\ude00"') if $depth == 0 || $r < 0.2;
	return '[' . join(',', map { random_json($depth - 1) } 1 .. 1 + rand 3) . ']' if $r < 0.5;
	return '{' . join(',', map { '"' . pick(@words) . '":' . random_json($depth - 1) } 1 .. 1 + rand 4) . '}';
}

# wild_value(type): as random as may be
sub wild_value
{
	my ($type) = @_;

	return 'NULL' if chance(0.05);
	return "repeat('x', 268435000)" if $type eq 'text' && chance(0.003);
	return quoted(pick(@names)) if $type eq 'text';
	return chance(0.5) ? quoted(random_json(4)) : pick(@jsons) if $type eq 'jsonb';
	return pick(@{ $wild{$type} }) if $wild{$type};
	return 'NULL';
}

# must_not_touch(routine): whether it hides or removes what it is given the name of; those streams that are as they were
# in the end it is not told of
sub must_not_touch { return $_[0]{name} =~ /^es_(?:delete_stream|truncate_stream|set_retention|protect|shred)$/; }

# argument(routine, argument): mostly what is right, so that not each call ends at the first check
sub argument
{
	my ($routine, $arg) = @_;
	my $r = rand();
	my @extremes = extremes($arg->{type});
	my $value = $r < 0.6 ? usual($routine, $arg) : $r < 0.8 && @extremes ? pick(@extremes) : wild_value($arg->{type});

	return $value =~ /fixed/ && must_not_touch($routine) ? 'NULL' : $value;
}

# ---- statements ----

# random_call(routines): a function or procedure called, in one of the forms that there are
sub random_call
{
	my ($routines) = @_;
	my $routine = pick(@$routines);
	my @args = @{ $routine->{args} };

	pop @args while @args && chance(0.05);
	my $call = statement($routine, map { argument($routine, $_) } @args);

	return $call if $routine->{kind} eq 'p' || chance(0.5);
	my ($inner) = $call =~ /^SELECT (?:\* FROM )?(.*)/s;
	return pick("SELECT $inner", "SELECT count(*), md5(string_agg(x::text, '')) FROM $inner x", "SELECT * FROM $inner LIMIT 1", "SELECT x FROM generate_series(1, 3) g, LATERAL $inner x",
		"SELECT (SELECT count(*) FROM $inner), g FROM generate_series(1, 2) g", "SELECT * FROM $inner x FULL JOIN $inner y ON x::text = y::text LIMIT 5") if $routine->{kind} ne 'a';
	return pick("$call FROM es_events", "SELECT $inner OVER (ORDER BY position ROWS 3 PRECEDING) FROM es_events LIMIT 50", "$call FROM es_read_all(0, 100) e GROUP BY stream");
}

my %column_type = (position => 'bigint', stream => 'text', version => 'bigint', type => 'text', type_version => 'integer', data => 'jsonb', metadata => 'jsonb', event_id => 'uuid', recorded_at => 'timestamp with time zone');

# column_value(column): for a row that is inserted
sub column_value
{
	my ($column) = @_;
	my %good = (stream => q{'a-3'}, type => q{'T'}, data => q{'{"x": 1}'}, metadata => q{'{"tags": ["t1"]}'});

	return $good{$column} if $good{$column} && chance(0.7);
	my @extremes = extremes($column_type{$column});
	return @extremes && chance(0.4) ? pick(@extremes) : wild_value($column_type{$column});
}

# random_insert(): into the view, one row or many
sub random_insert
{
	my @columns = grep { chance(/^(?:stream|type)$/ ? 0.97 : 0.3) } sort keys %column_type;

	@columns = 'stream' unless @columns;
	my $row = sub { join(', ', map { column_value($_) } @columns) };
	my $into = 'INSERT INTO es_events (' . join(', ', @columns) . ') ';
	my $returning = pick('', '', ' RETURNING position, version', ' RETURNING *', ' ON CONFLICT DO NOTHING');

	return $into . pick('VALUES (' . $row->() . '), (' . $row->() . ')', 'SELECT ' . $row->() . ' FROM generate_series(1, 50)', 'VALUES (' . $row->() . ')') . $returning;
}

# random_copy(): rows for the view, as text; with what is not right between
sub random_copy
{
	my @rows = map { my $s = pick(qw(a-4 a-5 b-2)); pick("$s\tT\t{\"n\": $_}", "$s\tT\t{\"n\": $_}", "$s\tT\t{\"n\": $_}", "$s\tT\t\\N", "$s\tT", "\tT\t{}", "$s\tT\t{", "$s\t\$x\t{}", "$s\tT\t\"\\\\ud800\"") } 1 .. 1 + rand 20;

	return "COPY es_events (stream, type, data) FROM stdin;\n" . join("\n", @rows) . "\n\\.\n";
}

my @views = qw(es_events es_streams es_reducers es_upcasters es_projections es_subscriptions es_snapshots es_feeds es_grants es_in_flight es_schemas es_segments es_retention es_protections es_subjects es_seals);
my @tables = qw(events streams config subscriptions subscription_partitions snapshots projection_states projections grants seals subjects reducers);

# random_query(): views as queries use them, and what must be refused
sub random_query
{
	my $view = pick(@views);
	my $where = pick(q{stream = 'a-1'}, q{stream LIKE 'fixed-%'}, 'position > 1000', 'position BETWEEN 5 AND 10', q{data @> '{"n": 3}'}, q{event_id = gen_random_uuid()}, q{type = 'T' AND version < 3}, 'recorded_at < now()', q{position = ANY ('{1,2,9223372036854775807}')});

	return pick(
		"SELECT * FROM $view", "SELECT count(*) FROM $view v WHERE v IS NOT NULL", "SELECT v::text FROM $view v ORDER BY random() LIMIT 3",
		"SELECT * FROM es_events WHERE $where", "SELECT * FROM es_events WHERE $where ORDER BY position DESC LIMIT 2", "SELECT e::es_event FROM es_events e WHERE $where LIMIT 5",
		"SELECT (e::es_event).data FROM es_events e ORDER BY stream, version OFFSET 5 LIMIT 5", q{SELECT e.stream, s.version FROM es_events e JOIN es_streams s USING (stream) WHERE s.deleted},
		"SELECT * FROM es_events WHERE $where FOR UPDATE", "UPDATE es_events SET data = '{}' WHERE $where", "DELETE FROM es_events WHERE $where", "TRUNCATE es_events",
		q{MERGE INTO es_events e USING (VALUES ('a-1')) v(s) ON e.stream = v.s WHEN NOT MATCHED THEN INSERT (stream, type) VALUES (v.s, 'T')},
		map { ("SELECT count(*) FROM eventstore.$_", "SELECT * FROM eventstore.$_ LIMIT 3", "UPDATE eventstore.$_ SET tableoid = 0", "DELETE FROM eventstore.$_", "TRUNCATE eventstore.$_ CASCADE", "COPY eventstore.$_ TO stdout") } pick(@tables));
}

# random_feed(): what the output plugin gives of the log by options good and bad; the slot is that of a feed
sub random_feed
{
	my %good = (format => [qw(json cloudevents)], categories => [ qw(a fixed), '["a","b"]', 'a,b' ], types => [ 'T', 'T0,T1' ], stream_prefix => [ 'a-', 'fixed-1' ], after_position => [ 0, 10, '9223372036854775807' ],
		include_transaction => [qw(on off)], origin => [qw(any none)], query => [ '[{"types":["T"]}]', '[{"tags":["t1"]}]' ], skip_positions => ['1,2'], streaming => [qw(on off)], two_phase => ['off']);
	my @options = map { my $o = chance(0.95) ? pick(sort keys %good) : pick(@names); ($o, chance(0.75) && $good{$o} ? pick(@{ $good{$o} }) : chance(0.5) ? random_json(3) : pick(@names)) } 1 .. 1 + rand 3;

	return q{SELECT count(*), md5(string_agg(x.data, '')) FROM es_feeds f, pg_logical_slot_peek_changes(f.slot_name, NULL, 500, } . join(', ', map { quoted($_) } @options) . q{) x WHERE f.feed = 'f'};
}

# random_ddl(): what somebody might do to it; only where it is rolled back
sub random_ddl
{
	my $table = 'eventstore.' . pick(@tables);
	my $segment = pick(qw(eventstore.events_0 eventstore.events_1));

	return pick('DROP EXTENSION eventstore CASCADE', 'DROP SCHEMA eventstore CASCADE', 'DROP FUNCTION es_append', 'DROP OWNED BY fuzz_owner', "DROP TABLE $table", "ALTER TABLE $table ADD COLUMN fuzz int DEFAULT 1",
		"ALTER TABLE $table RENAME TO fuzz", "ALTER TABLE $table DISABLE TRIGGER ALL", "CREATE INDEX ON $table ((1))", "ALTER TABLE eventstore.events DETACH PARTITION $segment", "DROP TABLE $segment", "REINDEX TABLE $table",
		"CLUSTER $table", 'ALTER EXTENSION eventstore DROP FUNCTION es_seal()', 'CREATE MATERIALIZED VIEW fuzz_matview AS SELECT * FROM es_events', 'CREATE TEMP TABLE es_events (stream text)', "CREATE TRIGGER fuzz BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		'CREATE RULE fuzz AS ON INSERT TO es_events DO ALSO SELECT 1', "LOCK TABLE $table IN SHARE MODE", 'ALTER VIEW es_events RENAME COLUMN data TO datum', 'CREATE PUBLICATION fuzz FOR ALL TABLES', 'CREATE OR REPLACE FUNCTION public.on_data(d jsonb) RETURNS jsonb LANGUAGE sql AS $x$SELECT d$x$', "ALTER TABLE $table ENABLE ROW LEVEL SECURITY",
		'DROP TYPE es_event CASCADE', 'REASSIGN OWNED BY fuzz_owner TO postgres', q{ALTER FUNCTION public.on_event(es_event) SET work_mem = '1MB'}, "COMMENT ON TABLE $table IS 'fuzz'", "ALTER SEQUENCE eventstore.position_seq RESTART");
}

# ---- places ----

# Where a statement can be: each makes, of the statement and of a name, what psql runs.  A statement that is no query
# has some of them only.
my @places = (
	[ 'plain', sub { $_[0] } ], [ 'plain', sub { $_[0] } ], [ 'plain', sub { $_[0] } ],
	[ 'transaction', sub { "BEGIN;\n$_[0];\nCOMMIT" } ],
	[ 'rolled back', sub { "BEGIN;\n$_[0];\nROLLBACK" } ],
	[ 'savepoint', sub { "BEGIN;\nSAVEPOINT a;\n$_[0];\nROLLBACK TO a;\n$_[0];\nRELEASE a;\nCOMMIT" } ],
	[ 'after a failure', sub { "BEGIN;\nSAVEPOINT a;\nSELECT 1 / 0;\nROLLBACK TO a;\n$_[0];\nCOMMIT" } ],
	[ 'before a failure', sub { "BEGIN;\nSAVEPOINT a;\n$_[0];\nSELECT 1 / 0;\nROLLBACK TO a;\nSELECT es_append('a-6', 'T');\nCOMMIT" } ],
	[ 'read only', sub { "BEGIN READ ONLY;\n$_[0];\nCOMMIT" } ],
	[ 'repeatable read', sub { "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM es_streams;\n$_[0];\nCOMMIT" } ],
	[ 'serializable', sub { "BEGIN ISOLATION LEVEL SERIALIZABLE;\nSELECT es_stream_version('a-1');\n$_[0];\nCOMMIT" } ],
	[ 'prepared transaction', sub { "BEGIN;\nSELECT es_append('a-7', 'T');\n$_[0];\nPREPARE TRANSACTION '$_[1]';\n" . pick('COMMIT', 'ROLLBACK') . " PREPARED '$_[1]'" } ],
	[ 'cancelled', sub { sprintf "SET statement_timeout = %d;\n%s;\nSET statement_timeout = '3s'", 1 + rand 30, $_[0] } ],
	[ 'after DISCARD ALL', sub { "DISCARD ALL;\nSET statement_timeout = '3s';\n$_[0]" } ],
	[ 'handler', sub { 'SELECT fuzz.caught(' . dollar($_[0]) . ')' } ],
	[ 'handlers, nested', sub { 'SELECT fuzz.caught(' . dollar('SELECT fuzz.caught(' . quoted($_[0]) . ') FROM generate_series(1, 3)') . ')' } ],
	[ 'DO', sub { 'DO $do$BEGIN EXECUTE ' . dollar($_[0]) . '; COMMIT; EXECUTE ' . dollar($_[0]) . '; END$do$' } ],
	[ 'trigger', sub { 'INSERT INTO fuzz.fired VALUES (' . dollar($_[0]) . ')' } ],
	[ 'deferred trigger', sub { 'INSERT INTO fuzz.fired_late VALUES (' . dollar($_[0]) . ')' } ]);
my @query_places = (
	[ 'cursor', sub { "BEGIN;\nDECLARE c CURSOR WITH HOLD FOR $_[0];\nFETCH 1 FROM c;\nMOVE 1 FROM c;\nCOMMIT;\nFETCH ALL FROM c;\nCLOSE c" } ],
	[ 'cursor, left', sub { "BEGIN;\nDECLARE c SCROLL CURSOR FOR $_[0];\nFETCH 2 FROM c;\nFETCH BACKWARD 1 FROM c;\nSAVEPOINT a;\nFETCH 1 FROM c;\nROLLBACK TO a;\nFETCH ALL FROM c;\nCOMMIT" } ],
	[ 'prepared statement', sub { "PREPARE p AS $_[0];\n" . "EXECUTE p;\n" x 7 . 'DEALLOCATE p' } ],
	[ 'EXPLAIN', sub { "EXPLAIN (ANALYZE, VERBOSE, BUFFERS) $_[0]" } ],
	[ 'COPY', sub { "COPY ($_[0]) TO stdout" } ],
	[ 'parallel', sub { my $s = $_[2]; "SET $s = regress;\n$_[0];\nSELECT count(*) FROM fuzz.big b LEFT JOIN LATERAL ($_[0]) q ON b.n < 3;\nRESET $s" } ],
	[ 'loop', sub { 'DO $do$DECLARE r record; BEGIN FOR r IN EXECUTE ' . dollar($_[0]) . ' LOOP COMMIT; END LOOP; END$do$' } ],
	[ 'materialized view', sub { "BEGIN;\nCREATE MATERIALIZED VIEW fuzz.made AS $_[0];\nREFRESH MATERIALIZED VIEW fuzz.made;\nROLLBACK" } ],
	[ 'walked over', sub { "\\set FETCH_COUNT 2\n$_[0];\n\\unset FETCH_COUNT\n" } ]);

# dollar(text): as a literal that may have quotes in it
sub dollar { return '$call$' . $_[0] . '$call$'; }

# fuzz_settings(): what a session may be set to
sub fuzz_settings
{
	my @ours = map { 'eventstore.' . $_ } qw(retry_delay max_event_size early_release read_durable max_wait projection_batch projection_timeout master_key_command master_key_timeout allow_drop upcast);
	my @set = map { 'SET ' . pick(@ours) . ' = ' . pick(qw(0 1 -1 2147483647 on off 1ms), q{''}, q{'x'}) . ";\n" } grep { chance(0.2) } 1 .. 2;
	my @all = ('eventstore.upcast = on', q{work_mem = '64kB'}, 'plan_cache_mode = force_generic_plan', q{TimeZone = 'Asia/Kathmandu'}, q{DateStyle = 'SQL, DMY'}, q{search_path = 'pg_temp', 'public'}, 'enable_indexscan = off', 'enable_hashjoin = off',
		'synchronous_commit = off', q{default_transaction_isolation = 'serializable'}, 'standard_conforming_strings = on', 'extra_float_digits = 0', q{temp_buffers = '800kB'}, 'jit_above_cost = 0', 'default_transaction_deferrable = on', 'array_nulls = off', q{IntervalStyle = 'sql_standard'},
		'track_functions = all', 'row_security = off', q{bytea_output = 'escape'}, q{client_encoding = 'LATIN1'}, 'lc_messages = C');

	return @set, map { "SET $_;\n" } grep { chance(0.1) } @all;
}

# random_statement(routines): any that may stay
sub random_statement
{
	my ($routines) = @_;
	my $r = rand();

	return $r < 0.07 ? random_insert() : $r < 0.15 ? random_query() : random_call($routines);
}

# random_transaction(routines): some statements, of which savepoints take some back; what they keep for the transaction's
# end, or its subtransaction's, meets
sub random_transaction
{
	my ($routines) = @_;
	my @open;
	my $sql = pick('BEGIN', 'BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ') . ";\n";

	foreach my $n (1 .. 3 + rand 6)
	{
		my $r = rand();

		if ($r < 0.25) { push @open, "s$n"; $sql .= "SAVEPOINT s$n;\n"; }
		elsif ($r < 0.4 && @open) { my $to = pick(@open); pop @open while $open[-1] ne $to; $sql .= "ROLLBACK TO $to;\n"; }
		elsif ($r < 0.5 && @open) { $sql .= 'RELEASE ' . pop(@open) . ";\n"; }
		elsif ($r < 0.7) { $sql .= sprintf "SELECT es_append('%s', 'T', '{\"n\": %d}');\n", pick(qw(a-8 a-9 b-3)), $n; }
		elsif ($r < 0.75) { $sql .= pick(q{SELECT fuzz.caught('SELECT 1 / 0')}, 'SET CONSTRAINTS ALL IMMEDIATE', 'SELECT count(*) FROM es_events', 'DECLARE c CURSOR FOR SELECT * FROM es_events') . ";\n"; }
		else { my $s = random_statement($routines); $sql .= $s =~ /^CALL/ ? "$s;\n" : 'SELECT fuzz.caught(' . dollar($s) . ");\n"; }
	}
	return $sql . pick('COMMIT', 'COMMIT', 'ROLLBACK') . ";\n";
}

# fuzz_item(routines, name, parallel): a statement at a place; the name is for what needs one that is nobody else's
sub fuzz_item
{
	my ($routines, $name, $parallel) = @_;
	my $r = rand();

	return random_copy() if $r < 0.02;
	return "BEGIN;\n" . random_ddl() . ";\nSELECT count(*) FROM es_events;\nROLLBACK;\n" if $r < 0.06;
	# a slot stays acquired if a handler catches an error of its reader; that is the server's
	return "-- feed\n" . pick('', "BEGIN;\n") . random_feed() . ";\n" if $r < 0.08;
	return "-- statements\n" . random_transaction($routines) if $r < 0.18;
	my $statement = random_statement($routines);
	my ($place, $make) = @{ pick(@places, $statement =~ /^SELECT/ ? @query_places : ()) };

	return "-- $place\n" . $make->($statement, $name, $parallel) . ";\n";
}

1;
