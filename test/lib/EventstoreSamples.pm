# Arguments for every function there is: what each is as a rule, and its type's extremes; and a store with some of
# everything, in which these name something.
package EventstoreSamples;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Cluster;

our @EXPORT = qw(routines usual extremes statement sample_store);

# What an argument is when it is another's turn; what is not here has the type's.
my %usual = (
	'before' => q{'2001-01-01'},
	'events es_append_many' => q{'[{"stream":"a-1","type":"T"}]'},
	'events es_append_if' => q{'[{"stream":"a-1","type":"T"}]'},
	'events es_append_batch' => q{'[{"type":"T"}]'},
	'events es_append_json' => q{'[{"type":"T"}]'},
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
	'text' => [ q{''}, q{'-'}, q{'[{"type":"T","data":[1e99999,{"a":1,"a":"\\ud83d\\ude00"}]}]'}, q[repeat('[', 70) || repeat(']', 70)], q{E'\x01'}, q{'a-b-c'}, q{repeat('ö', 200)}, $long, q[repeat('{', 100000)], q{repeat('$.', 100000)}, q{'$'}, 'NULL' ],
	'name' => [ q{''}, q{'"'}, q{repeat('ö', 200)}, q{'pg_temp.x'}, 'NULL' ],
	'text[]' => [ q{'{}'}, q{'{NULL}'}, q{'{""}'}, q{'{{a,b},{c,d}}'}, q{'{a-b}'}, q{'[7:8]={a,b}'}, "ARRAY[$long]", q{array_fill('x'::text, ARRAY[2000000])} ],
	'jsonb' => [ 'NULL', q{'null'}, q{'[]'}, q{'[{}]'}, q{'1e100000'}, "to_jsonb($long)", "jsonb_build_object($long, 1)", "jsonb_build_array(jsonb_build_object($long, 1))",
		"jsonb_build_array(jsonb_build_object('type', $long))", "jsonb_build_object($long, '{}')", "jsonb_build_object('set', $long)", "jsonb_build_object('set', jsonb_build_object($long, 1))",
		"jsonb_build_object('set', jsonb_build_object('x', '\$.' || $long))", "jsonb_build_object('set', jsonb_build_object('x..' || repeat('y', 60000), 1))",
		"jsonb_build_object('remove', jsonb_build_object('x', jsonb_build_object($long, '\$.' || $long)))",
		"jsonb_build_array(jsonb_build_object('stream', $long, 'type', 'T'))", q{'[{"stream":"a-1","type":"T","expected_version":1e30}]'},
		"jsonb_build_array(jsonb_build_object('stream', 'a-1', 'type', 'T', 'event_id', $long))", q{'[{"stream":"a-1","type":"T","tags":[1]}]'},
		q{(repeat('[', 5000) || repeat(']', 5000))::jsonb} ],
	'interval' => [ 'NULL', q{'-1s'}, q{'178000000 years'}, q{'-178000000 years'}, q{make_interval(0, 0, 0, 2147483647)}, q{'infinity'}, q{'-infinity'} ],
	'eventstore.visit' => [ 'NULL', q{ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::eventstore.visit}, "ROW(1, true, '-1 day', true, true, true, true, $long)::eventstore.visit" ],
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
	'es_events' => [ 'NULL' ],
	'bytea' => [ q{''}, "$long\::bytea", 'NULL' ],
	'anyelement' => [ 'NULL::int', 'NULL::es_event', '1', q{NULL::pg_class} ]);

# sample_store(): what makes it, statement by statement; each of them can be run again when something has gone
sub sample_store
{
	return split /;\n\t/, q{
	CREATE EXTENSION eventstore;
	CREATE FUNCTION public.on_event(es_event) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION public.on_state(s jsonb, e es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT s';
	CREATE FUNCTION public.on_data(d jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT d';
	CREATE FUNCTION public.fail(es_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
	SELECT es_append('a-1', 'T') FROM generate_series(1, 3);
	SELECT es_seal();
	SELECT es_protect('secret', '{$.data.x}', '$.stream'), es_append('secret-1', 'T', '{"x": 1}');
	SELECT es_index_type('T');
	SELECT es_register_upcaster('Dropped', 1, 'public.on_data(jsonb)'), es_register_schema('Dropped', '{}');
	SELECT es_create_reducer('r');
	SELECT es_create_projection('p', 'count'), es_index_projection('p', '(version)');
	SELECT es_subscribe('s');
	SELECT count(*) FROM es_poll('s', lease => '1 hour');
	SELECT es_subscribe('parked', max_attempts => 1);
	SELECT count(*) FROM es_poll('parked');
	SELECT es_nack('parked', 0, 1, 'no');
	SELECT es_create_handler_projection('failed', 'public.fail(es_event)');
	SELECT es_run_projection('failed')};
}

# routines(node, database): the functions and procedures of the extension that SQL can call: name with schema and
# without, kind, whether it returns a set, and the names and types of what it takes
sub routines
{
	my ($node, $database) = @_;

	return @{ decode_json($node->safe_psql($database, q{
		SELECT json_agg(json_build_object('full', p.oid::regproc::text, 'name', p.proname, 'kind', p.prokind, 'set', p.proretset,
			'args', (SELECT coalesce(json_agg(json_build_object('name', coalesce(p.proargnames[i], ''), 'type', format_type(t, NULL)) ORDER BY i), '[]')
				FROM unnest(p.proargtypes) WITH ORDINALITY u(t, i))) ORDER BY p.oid)
		FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
		WHERE e.extname = 'eventstore' AND p.prorettype <> ALL ('{trigger,event_trigger,fdw_handler}'::regtype[])
			AND NOT 'internal'::regtype = ANY (p.proargtypes)})) };
}

# usual(routine, argument): what it is when nothing is to be wrong with it
sub usual
{
	my ($routine, $arg) = @_;

	return $usual{"$arg->{name} $routine->{name}"} // $usual{ $arg->{name} } // $usual_of_type{ $arg->{type} } // 'NULL';
}

# extremes(type): its values at the edges; none if the type is not known
sub extremes
{
	my ($type) = @_;

	return @{ $extremes{$type} // [] };
}

# statement(routine, arguments): calls it
sub statement
{
	my ($routine, @args) = @_;
	my $call = "$routine->{full}(" . join(', ', @args) . ')';

	return $routine->{kind} eq 'p' ? "CALL $call" : $routine->{kind} eq 'a' ? "SELECT $call" : "SELECT * FROM $call";
}

1;
