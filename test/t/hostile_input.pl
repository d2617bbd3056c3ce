
# Whatever a caller hands in, the answer is a result or an error of his own: no
# internal error (XX000), no crash, no call that does not end, no message as long as
# what was handed in.  The calls are made of what the catalog says that the functions
# take: each argument at its extremes, the others as they should be.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "statement_timeout = '60s'\neventstore.max_wait = '50ms'\nmax_prepared_transactions = 0\n");
my $newer = $node->pg_version >= 17;

# What an argument is when it is another's turn; what is not here has the type's.
my %usual = (
	'before' => q{'2001-01-01'},
	'events es_append_many' => q{'[{"stream":"a-1","type":"T"}]'},
	'events es_append_if' => q{'[{"stream":"a-1","type":"T"}]'},
	'events es_append_batch' => q{'[{"type":"T"}]'},
	'ops' => q{'{"set": {"x": "$.data.x"}}'},
	'stream' => q{'a-1'}, 'stream es_delete_stream' => q{'gone-1'}, 'category' => q{'a'}, 'category es_set_retention' => q{'kept'}, 'category es_protect' => q{'kept'}, 'paths' => q{'{$.data.x}'}, 'subject' => q{'$.stream'}, 'subject es_shred' => q{'secret-1'}, 'old_key_command' => q{'printf %064d 1'}, 'max_age' => q{'1 year'}, 'type' => q{'T'}, 'format' => q{'json'},
	'reducer' => q{'count'}, 'reducer es_create_reducer' => q{'r2'}, 'reducer es_register_reducer' => q{'r'},
	'reducer es_register_reducer_ops' => q{'r'}, 'reducer es_snapshot_every' => q{'r'}, 'reducer es_drop_snapshots' => q{'r'}, 'reducer es_adopt_snapshots' => q{'r'},
	'reducer es_drop_reducer' => q{'r'}, 'event_type' => q{'T'}, 'on_unknown' => q{'ignore'},
	'projection' => q{'p'}, 'projection es_skip_event' => q{'failed'}, 'projection es_create_projection' => q{'p2'}, 'projection es_create_handler_projection' => q{'p2'},
	'mode' => q{'async'}, 'key' => q{'$.stream'}, 'subscription' => q{'s'}, 'subscription es_subscribe' => q{'s2'},
	'query' => q{'[{"types":["T"]}]'}, 'feed_query' => q{'[{"tags":["x"]}]'}, 'query es_append_if' => 'NULL',
	'member' => 'NULL', 'reason' => q{'why'}, 'privilege' => q{'read'}, 'role require_read' => 'current_user', 'category es_revoke' => q{'none'}, 'feed' => q{'f'}, 'handler' => q{'public.on_event(es_event)'},
	'handler es_register_reducer' => q{'public.on_state(jsonb,es_event)'},
	'handler es_register_upcaster' => q{'public.on_data(jsonb)'}, 'stream_prefix' => 'NULL',
	'expected_version' => 'NULL', 'position es_ack' => '1', 'partition' => '0', 'event_id' => 'NULL',
	'event_id es_find_event' => q{'0189ffff-0000-7000-8000-000000000001'},
	'subscription es_discard_parked' => q{'parked'}, 'max_attempts' => '1',
	'first_seal' => '3', 'second_seal' => 'NULL', 'seal' => 'NULL', 'sealed' => 'NULL', 'view' => q{'states'}, 'definition' => q{'((state ->> ''n''))'}, 'index' => q{'projection_states_1_idx'},
	'state' => q{NULL::jsonb}, 'lease' => q{'30s'}, 'tags es_read_tagged' => q{'{x}'}, 'after_position es_append_if' => '9', 'reset' => 'NULL', 'from_version es_register_upcaster' => '1', 'from_version es_register_upcaster_ops' => '1',
	'type es_drop_upcaster' => q{'Dropped'}, 'type es_drop_schema' => q{'Dropped'}, 'version es_drop_schema' => '2', 'compatibility' => q{'none'}, 'compatibility es_compare_schemas' => q{'full'}, 'type_version' => '1');
my %usual_of_type = (
	'bigint' => '1', 'integer' => '1', 'text' => q{'x'}, 'text[]' => 'NULL', 'jsonb' => q{'{}'}, 'interval' => q{'0'},
	'boolean' => 'false', 'uuid' => 'NULL', 'regtype' => q{'jsonb'}, 'regrole' => q{'pg_monitor'}, 'oid' => '10', 'regclass' => q{'eventstore.events'},
	'timestamp with time zone' => 'NULL', 'pg_lsn' => q{'0/0'}, 'es_event' => q{(SELECT e FROM es_read('a-1') e LIMIT 1)},
	'es_new_event[]' => q{ARRAY[ROW('T','{}',NULL,NULL)]::es_new_event[]}, 'anyelement' => 'NULL::jsonb',
	'es_events' => q{(SELECT e FROM es_events e LIMIT 1)}, 'bytea' => q{'x'}, 'eventstore.visit' => q{ROW(10, true, '1 min', true, false, false, false, 'public')::eventstore.visit});

my @bad_oids = qw(0 1 4294967295);
my $long = q{repeat('long name ', 100000)};
my %extremes = (
	'bigint' => [ '(-9223372036854775808)', '-1', '0', '9223372036854775806', '9223372036854775807', '4611686018427387904', 'NULL' ],
	'integer' => [ '(-2147483648)', '-1', '0', '2147483646', '2147483647', 'NULL' ],
	'boolean' => [ 'true', 'NULL' ],
	'text' => [ q{''}, q{'-'}, q{E'\x01'}, q{'a-b-c'}, q{repeat('ö', 200)}, $long, q[repeat('{', 100000)], q{repeat('$.', 100000)}, q{'$'}, 'NULL' ],
	'name' => [ q{''}, q{'"'}, q{repeat('ö', 200)}, q{'pg_temp.x'}, 'NULL' ],
	'text[]' => [ q{'{}'}, q{'{NULL}'}, q{'{""}'}, q{'{{a,b},{c,d}}'}, q{'{a-b}'}, q{'[7:8]={a,b}'}, "ARRAY[$long]", q{array_fill('x'::text, ARRAY[2000000])} ],
	'jsonb' => [ 'NULL', q{'null'}, q{'[]'}, q{'[{}]'}, q{'1e100000'}, "to_jsonb($long)", "jsonb_build_object($long, 1)", "jsonb_build_array(jsonb_build_object($long, 1))",
		"jsonb_build_array(jsonb_build_object('type', $long))", "jsonb_build_object($long, '{}')", "jsonb_build_object('set', $long)", "jsonb_build_object('set', jsonb_build_object($long, 1))",
		"jsonb_build_object('set', jsonb_build_object('x', '\$.' || $long))", "jsonb_build_object('set', jsonb_build_object('x..' || repeat('y', 60000), 1))",
		"jsonb_build_object('remove', jsonb_build_object('x', jsonb_build_object($long, '\$.' || $long)))",
		"jsonb_build_array(jsonb_build_object('stream', $long, 'type', 'T'))", q{'[{"stream":"a-1","type":"T","expected_version":1e30}]'},
		"jsonb_build_array(jsonb_build_object('stream', 'a-1', 'type', 'T', 'event_id', $long))", q{'[{"stream":"a-1","type":"T","tags":[1]}]'},
		q{(repeat('[', 5000) || repeat(']', 5000))::jsonb} ],
	'interval' => [ 'NULL', q{'-1s'}, q{'178000000 years'}, q{'-178000000 years'}, q{make_interval(0, 0, 0, 2147483647)}, ($newer ? (q{'infinity'}, q{'-infinity'}) : ()) ],
	'uuid' => [ q{'00000000-0000-0000-0000-000000000000'} ],
	'regtype' => [ (map { "$_\::regtype" } @bad_oids), q{'anyelement'}, q{'internal'}, q{'pg_class'}, q{'text[]'}, 'NULL' ],
	'regrole' => [ (map { "$_\::regrole" } @bad_oids), 'NULL' ],
	'oid' => [ @bad_oids, 'NULL' ],
	'regclass' => [ (map { "$_\::regclass" } @bad_oids), q{'pg_class'}, q{'es_events'}, 'NULL' ],
	'regprocedure' => [ (map { "$_\::regprocedure" } @bad_oids), q{'now()'}, q{'count(*)'}, q{'es_settle()'}, 'NULL' ],
	'timestamp with time zone' => [ q{'-infinity'}, q{'infinity'}, q{'4714-11-24 00:00:00+00 BC'}, q{'294276-12-31'} ],
	'pg_lsn' => [ q{'FFFFFFFF/FFFFFFFF'}, 'NULL' ],
	'es_event' => [ 'NULL', q{ROW(NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)::es_event}, "ROW(-1,$long,-1,$long,-1,'{}','[]',NULL,'infinity')::es_event" ],
	'es_new_event[]' => [ 'NULL', q{'{}'}, q{'{NULL}'}, q{ARRAY[ROW(NULL,NULL,NULL,NULL)]::es_new_event[]}, "ARRAY[ROW($long,'{}','[]',NULL)]::es_new_event[]" ],
	'eventstore.visit' => [ 'NULL', q{ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::eventstore.visit}, "ROW(1, true, '-1 day', true, true, true, true, $long)::eventstore.visit" ],
	'es_events' => [ 'NULL' ],
	'bytea' => [ q{''}, "$long\::bytea", 'NULL' ],
	'anyelement' => [ 'NULL::int', 'NULL::es_event', '1', q{NULL::pg_class} ]);

$node->safe_psql('postgres', q{
	CREATE EXTENSION eventstore;
	CREATE FUNCTION on_event(es_event) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION on_state(s jsonb, e es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT s';
	CREATE FUNCTION on_data(d jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT d';
	SELECT es_append('a-1', 'T') FROM generate_series(1, 3);
	SELECT es_seal();
	SELECT es_protect('secret', '{$.data.x}', '$.stream'), es_append('secret-1', 'T', '{"x": 1}');
	SELECT es_index_type('T');
	SELECT es_register_upcaster('Dropped', 1, 'on_data(jsonb)'), es_register_schema('Dropped', '{}');
	SELECT es_create_reducer('r');
	SELECT es_create_projection('p', 'count'), es_index_projection('p', '(version)');
	SELECT es_subscribe('s');
	SELECT count(*) FROM es_poll('s', lease => '1 hour');
	SELECT es_subscribe('parked', max_attempts => 1);
	SELECT count(*) FROM es_poll('parked');
	SELECT es_nack('parked', 0, 1, 'no');
	CREATE FUNCTION fail(es_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
	SELECT es_create_handler_projection('failed', 'fail(es_event)');
	SELECT es_run_projection('failed');
	-- calls, and tells what came of it
	CREATE FUNCTION outcome(call text) RETURNS TABLE(code text, shown int, message text) LANGUAGE plpgsql AS $$
	DECLARE
		said text; detail text; hint text;
	BEGIN
		EXECUTE call;
		RAISE 'undo it' USING ERRCODE = 'DONE0';
	EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
		GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RETURN QUERY SELECT SQLSTATE, greatest(octet_length(said), octet_length(detail), octet_length(hint)), left(said, 100);
	END $$;
});

# The functions there are: name, kind, and the names and types of what they take.
my @functions = rows($node, 'postgres', q{
	SELECT concat_ws('|', p.oid::regproc, p.prokind,
		(SELECT string_agg(coalesce(p.proargnames[i], '') || ':' || format_type(p.proargtypes[i - 1], NULL), '|' ORDER BY i)
		 FROM generate_series(1, p.pronargs) i))
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'eventstore' AND p.prorettype <> ALL ('{trigger,event_trigger,fdw_handler}'::regtype[])
		AND NOT 'internal'::regtype = ANY (p.proargtypes) ORDER BY p.oid});
my @calls;

foreach (@functions)
{
	my ($name, $kind, @args) = split /\|/;
	my @usual;
	my $plain = $name =~ s/.*\.//r;

	foreach (@args)
	{
		my ($arg, $type) = split /:/, $_, 2;

		push @usual, $usual{"$arg $plain"} // $usual{$arg} // $usual_of_type{$type} // 'NULL';
		ok($extremes{$type}, "a value of $type is known") unless $extremes{$type};
	}
	my $call = sub { ($kind eq 'p' ? 'CALL' : $kind eq 'a' ? 'SELECT' : 'SELECT * FROM') . " $name(" . join(', ', @_) . ')' };
	push @calls, [ $name, $call->(@usual), 'as it should be' ];
	foreach my $i (0 .. $#args)
	{
		my ($arg, $type) = split /:/, $args[$i], 2;

		push @calls, [ $name, $call->(@usual[ 0 .. $i - 1 ], $_, @usual[ $i + 1 .. $#usual ]), "$arg := $_" ] foreach @{ $extremes{$type} };
	}
}

my $script = "SET client_min_messages = error;\n";
$script .= sprintf "SELECT %d, * FROM outcome(\$call\$%s\$call\$);\n", $_, $calls[$_][1] foreach 0 .. $#calls;
my ($out, $err) = finish_script(start_script($node, 'postgres', $script));
my %outcome = map { my ($i, $code, $shown, $message) = split /\|/, $_, 4; ($i => [ $code, $shown, $message ]) } split /\n/, $out;

sub faults
{
	my ($is_fault) = @_;

	return join "\n", map { my $o = $outcome{$_}; $is_fault->(@$o) ? "$calls[$_][0], $calls[$_][2]: @$o" : () } sort { $a <=> $b } keys %outcome;
}

is($err, '', 'the server stays up');
cmp_ok(scalar @calls, '>', 500, 'there are many calls');
is(scalar keys %outcome, scalar @calls, 'each call has an outcome');
is(faults(sub { $_[0] =~ /^XX/ }), '', 'no internal error');
is(faults(sub { $_[0] eq '57014' }), '', 'each call ends');
is(faults(sub { $_[1] > 1500 }), '', 'no message is as long as what was handed in');

# What no event can have is refused where it is given, whatever the function.
my @never = (
	[ qr/^(?:category|categories) := (?:''|'-'|E'|'a-b-c'|repeat\('long|'\{""\}'|'\{a-b\}'|ARRAY\[repeat)/ => '22023' ],
	[ qr/^(?:types|tags) := (?:'\{""\}'|ARRAY\[repeat)/ => '22023' ],
	[ qr/^(?:categories|types|tags) := '\{NULL\}'/ => '22004' ],
	[ qr/^stream_prefix := (?:E'|repeat\('long)/ => '22023' ],
	[ qr/^(?:\w+_)?position := \(?-/ => '22023' ]);
my $watched = 0;
my @accepted;

foreach my $i (sort { $a <=> $b } keys %outcome)
{
	my ($name, undef, $what) = @{ $calls[$i] };

	# these tell at once that the log is there already; views ask functions in schema eventstore
	next if $name =~ /^es_wait(?:_for)?$|^eventstore\./;
	foreach (grep { $what =~ $_->[0] } @never)
	{
		$watched++;
		push @accepted, "$name, $what: @{ $outcome{$i} }" if $outcome{$i}[0] ne $_->[1];
	}
}
cmp_ok($watched, '>', 60, 'there are many calls with what no event can have');
is(join("\n", @accepted), '', 'what no event can have is refused');

# Else the extremes would not be reached.  These need a transaction of their own, or an empty store.
my %fails = map { $_ => 1 } qw(es_set_segment_size es_attach_segment es_create_feed es_alter_feed es_drop_feed);
my @failures = grep { $calls[$_][2] eq 'as it should be' && !$fails{ $calls[$_][0] } && $outcome{$_}[0] ne 'DONE0' } sort { $a <=> $b } keys %outcome;
is(join("\n", map { "$calls[$_][0]: @{ $outcome{$_} }" } @failures), '', 'calls as they should be succeed');
is($node->safe_psql('postgres', q{SELECT es_append('a-1', 'T') > 3}), 't', 'the store is as good as before');

done_testing();
