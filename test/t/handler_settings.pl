# Handlers run with the server's own settings: a state is the same whatever the
# session, the role, the database or the client have set, in an append, in the worker,
# by hand, in a rebuild, in each kind of replay, with snapshots and in parallel workers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreProjection;
use EventstoreTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$PostgreSQL::Test::Utils::timeout_default = 60 unless $ENV{PG_TEST_TIMEOUT_DEFAULT};
delete @ENV{qw(PGTZ PGOPTIONS PGDATESTYLE)};

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\neventstore.retry_delay = '50ms'\nautovacuum = off\nmax_worker_processes = 30\n");

$node->append_conf('postgresql.conf', q{
timezone = 'Asia/Tokyo'
datestyle = 'sql, dmy'
intervalstyle = 'iso_8601'
bytea_output = 'escape'
extra_float_digits = -3
default_text_search_config = 'pg_catalog.simple'
});
$node->restart;
use_store($node);
$node->safe_psql('postgres', q{CREATE DATABASE store; CREATE DATABASE plain; CREATE ROLE alice SUPERUSER LOGIN});

# what a handler sees of an event, in words
my $see = q{jsonb_build_object(
	'text', (data ->> 'at')::timestamptz::text, 'day', (data ->> 'at')::timestamptz::date::text, 'read', '03/02/2024'::date - '2024-01-01'::date,
	'instant', extract(epoch FROM '2024-01-01 00:00'::timestamptz), 'span', '1 day 2 hours'::interval::text, 'bytes', '\x01ff'::bytea::text,
	'float', (1::float8 / 3)::text, 'words', to_tsvector('the cats')::text, 'array', '{NULL}'::text[] IS NOT DISTINCT FROM ARRAY[NULL]::text[],
	'name', quote_ident('simple'), 'literal', length('a\b'), 'path', current_setting('search_path'), 'helper', helper(),
	'zone', current_setting('TimeZone'))};
my $expected = $node->safe_psql('plain', "CREATE FUNCTION helper() RETURNS text LANGUAGE sql AS \$\$SELECT 'public'\$\$;
	SELECT $see FROM (VALUES ('{\"at\": \"2024-01-01T20:00:00Z\"}'::jsonb)) v(data)");
like($expected, qr{"text": "02/01/2024 05:00:00 JST"}, 'the server has settings of its own');

run(qq{
	CREATE EXTENSION eventstore;
	CREATE SCHEMA evil;
	CREATE FUNCTION helper() RETURNS text LANGUAGE sql AS \$\$SELECT 'public'\$\$;
	CREATE FUNCTION evil.helper() RETURNS text LANGUAGE sql AS \$\$SELECT 'evil'\$\$;
	CREATE FUNCTION see(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE AS \$\$BEGIN RETURN $see; END\$\$;
	SELECT es_register_reducer('see', '*', 'see(jsonb, jsonb)');
	CREATE TABLE written (mode text, seen jsonb);
	CREATE FUNCTION write(mode text, data jsonb) RETURNS void LANGUAGE plpgsql AS \$\$BEGIN INSERT INTO written VALUES (mode, see(NULL, data)); END\$\$;
	CREATE FUNCTION write_inline(e es_event) RETURNS void LANGUAGE sql AS \$\$SELECT write('inline', e.data)\$\$;
	CREATE FUNCTION write_async(e es_event) RETURNS void LANGUAGE sql AS \$\$SELECT write('async', e.data)\$\$;
	CREATE FUNCTION empty_inline() RETURNS void LANGUAGE sql AS \$\$DELETE FROM written WHERE mode = 'inline'\$\$;
	CREATE FUNCTION empty_async() RETURNS void LANGUAGE sql AS \$\$DELETE FROM written WHERE mode = 'async'\$\$;
	SELECT es_create_projection('inline', 'see', 'inline'), es_create_projection('async', 'see');
	SELECT es_create_handler_projection('write_inline', 'write_inline(es_event)', 'inline', reset => 'empty_inline()'),
		es_create_handler_projection('write_async', 'write_async(es_event)', reset => 'empty_async()')});
foreach my $set ("timezone = 'America/New_York'", 'search_path = evil, public', "datestyle = 'german'", 'extra_float_digits = 2')
{
	$node->safe_psql('postgres', "ALTER DATABASE store SET $set");
	$node->safe_psql('postgres', "ALTER ROLE alice SET $set" =~ s/New_York/Denver/r =~ s/german/postgres, mdy/r);
}
# the worker is to have the database's
run(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore worker' AND datname = 'store'});

my $session = q{SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'iso, ymd'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'hex'; SET extra_float_digits = 1;
	SET default_text_search_config = 'pg_catalog.english'; SET search_path = evil, public; SET array_nulls = off; SET quote_all_identifiers = on; SET backslash_quote = on;
	SET standard_conforming_strings = off; SET escape_string_warning = off; SET client_min_messages = error;};
my $at = q{'{"at": "2024-01-01T20:00:00Z"}'};

# ---- from whatever session ----

# as_client(sql): with the settings that a client's library sends
sub as_client
{
	local $ENV{PGTZ} = 'Australia/Perth';
	local $ENV{PGOPTIONS} = '-c datestyle=postgres,ymd -c search_path=evil,public -c intervalstyle=postgres_verbose';
	local $ENV{PGUSER} = 'alice';

	return run($_[0]);
}

my %from = ('a session' => sub { run($session . $_[0]) }, 'a role' => \&as_client, 'a database' => sub { run($_[0]) });
foreach my $from (sort keys %from)
{
	my $stream = $from =~ s/ /_/r . '-1';
	my $act = $from{$from};

	$act->("SELECT es_append('$stream', 'T', $at)");
	is($act->("SELECT state FROM es_projection('inline', '$stream')"), $expected, "$from: an inline projection");
	is($act->("SELECT state FROM es_replay('$stream', 'see')"), $expected, "$from: es_replay");
	is($act->("SELECT state FROM es_replay_steps('$stream', 'see')"), $expected, "$from: es_replay_steps");
	is($act->("SELECT es_replay_as('$stream', NULL::jsonb, 'see')"), $expected, "$from: es_replay_as");
	is($act->("SELECT state FROM es_replay_category('" . ($stream =~ s/-1//r) . "', 'see')"), $expected, "$from: es_replay_category");
	is($act->("SELECT es_fold('see', e) FROM es_events e WHERE stream = '$stream'"), $expected, "$from: es_fold");
}
catches_up('async', 'the worker');
catches_up('write_async', 'the worker');
is(run(q{SELECT DISTINCT state FROM es_projection('async')}), $expected, 'an asynchronous projection');
is(run(q{SELECT DISTINCT state FROM es_projection('inline')}), $expected, 'inline ones by whoever has appended');
is(run('SELECT mode, count(*), min(seen::text), max(seen::text) FROM written GROUP BY mode ORDER BY mode'), "async|3|$expected|$expected\ninline|3|$expected|$expected", 'handlers that write tables');

run('SELECT es_rebuild_projection(p) FROM unnest(ARRAY[\'inline\', \'async\', \'write_inline\', \'write_async\']) p');
becomes(qq{SELECT count(*) = 4 FROM es_projections WHERE status = 'running' AND rebuild_position IS NULL}, 'all are rebuilt');
is(run(q{SELECT DISTINCT state FROM es_projection('async') UNION SELECT state FROM es_projection('inline') UNION SELECT seen FROM written}), $expected, 'a rebuild makes what was there');
run(q{SELECT es_create_projection('by_hand', 'see')});
run($session . q{SELECT es_run_projection('by_hand')});
is(run(q{SELECT DISTINCT state FROM es_projection('by_hand')}), $expected, 'one that is run by hand');

# ---- what it leaves, and what it does not touch ----

my $shown = join('; ', map { "SHOW $_" } qw(TimeZone DateStyle IntervalStyle bytea_output extra_float_digits search_path array_nulls));
my $before = run("$session $shown");
is(run("$session DO \$\$BEGIN PERFORM es_append('s-1', 'T', $at), es_replay('s-1', 'see'); PERFORM es_fold('see', e) FROM es_read('s-1') e; END\$\$; $shown"), $before, 'a session has its settings back');
run(q{CREATE FUNCTION fails(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('TimeZone', 'UTC', false); RAISE 'no'; END$$; SELECT es_register_reducer('fails', '*', 'fails(jsonb, jsonb)')});
is(run("$session DO \$\$BEGIN PERFORM es_replay('s-1', 'fails'); EXCEPTION WHEN OTHERS THEN NULL; END\$\$; $shown"), $before, 'also after an error');
run(q{CREATE FUNCTION sets(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('TimeZone', 'UTC', false); RETURN '{}'; END$$; SELECT es_register_reducer('sets', '*', 'sets(jsonb, jsonb)')});
is(run("$session DO \$\$BEGIN PERFORM es_replay('s-1', 'sets'); END\$\$; $shown"), $before, 'and what a handler sets ends with the call');
run(q{CREATE FUNCTION turns(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN SET LOCAL TimeZone = 'UTC'; RETURN state || '["turned"]'; END$$;
	CREATE FUNCTION tells(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RETURN state || jsonb_build_array(current_setting('TimeZone')); END$$;
	SELECT es_create_reducer('turns', '[]'), es_register_reducer('turns', 'Turn', 'turns(jsonb, jsonb)'), es_register_reducer('turns', 'Tell', 'tells(jsonb, jsonb)');
	CREATE TABLE public.told (number int GENERATED ALWAYS AS IDENTITY, zone text);
	CREATE FUNCTION public.turn_or_tell(e es_event) RETURNS void LANGUAGE plpgsql AS $$BEGIN
		IF e.type = 'Turn' THEN PERFORM set_config('TimeZone', 'UTC', false); ELSE INSERT INTO told (zone) VALUES (current_setting('TimeZone')); END IF; END$$;
	SELECT es_create_projection('turns_inline', 'turns', 'inline', category => 'turn'), es_create_projection('turns_async', 'turns', category => 'turn'),
		es_create_handler_projection('turns_told', 'turn_or_tell(es_event)', categories => '{turn}')});
run(q{SELECT es_append('turn-1', type) FROM unnest(ARRAY['Turn', 'Tell']) type});
is(run(q{SELECT es_snapshot('turn-1', 'turns')}), 2, 'a snapshot behind a handler that sets');
run(q{SELECT es_append_batch('turn-1', '[{"type": "Turn"}, {"type": "Tell"}]')});
catches_up($_, "one whose handler sets: $_") foreach qw(turns_async turns_told);
is(run(q{SELECT DISTINCT state FROM es_projection('turns_inline') UNION SELECT state FROM es_projection('turns_async') UNION SELECT state FROM es_replay('turn-1', 'turns')
	UNION SELECT state FROM es_replay('turn-1', 'turns', 4) UNION SELECT es_fold('turns', e) FROM es_read('turn-1') e UNION SELECT state FROM es_replay_category('turn', 'turns')}),
	'["turned", "Asia/Tokyo", "turned", "Asia/Tokyo"]', 'what a handler sets is not seen at the next event: live, in a replay, behind a snapshot');
run(q{SELECT es_drop_snapshots('turns')});
is(run(q{SELECT state FROM es_replay('turn-1', 'turns')}), '["turned", "Asia/Tokyo", "turned", "Asia/Tokyo"]', 'or without one');
is(run(q{SELECT DISTINCT zone FROM public.told}), 'Asia/Tokyo', 'nor by a handler that writes tables');
is(run($session . q{SELECT es_fold('see', e) ->> 'zone', current_setting('TimeZone') FROM es_read('s-1') e GROUP BY 2}), 'Asia/Tokyo|Asia/Kathmandu', 'beside es_fold the query has its own');
run(q{CREATE FUNCTION own(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql SET TimeZone = 'Pacific/Auckland' AS $$SELECT to_jsonb(current_setting('TimeZone'))$$; SELECT es_register_reducer('own', '*', 'own(jsonb, jsonb)')});
is(run($session . q{SELECT state FROM es_replay('s-1', 'own')}), '"Pacific/Auckland"', 'a function has the settings that it says itself');

# objects of a session's own
run(q{CREATE TABLE public.rate (n int); INSERT INTO public.rate VALUES (1); CREATE FUNCTION rated(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT to_jsonb(n) FROM rate); END$$;
	SELECT es_register_reducer('rated', '*', 'rated(jsonb, jsonb)'), es_create_projection('rated', 'rated', 'inline', category => 'rated')});
is(run($session . q{CREATE TEMP TABLE rate (n int); INSERT INTO rate VALUES (2); SELECT es_append('rated-1', 'T'); SELECT state FROM es_replay('rated-1', 'rated') UNION ALL SELECT state FROM es_projection('rated')}), "1\n1\n1", 'temporary tables come last');

# ---- states of other types ----

run(q{CREATE TYPE seen AS (at timestamptz, day date); CREATE FUNCTION typed(state seen, data jsonb) RETURNS seen LANGUAGE sql AS $$SELECT state$$;
	SELECT es_create_reducer('typed', '{"at": "2024-01-01 00:00", "day": "03/02/2024"}', 'seen'), es_register_reducer('typed', '*', 'typed(seen, jsonb)')});
is(run($session . q{SELECT state FROM es_replay('s-1', 'typed')}), run(q{SELECT state FROM es_replay('s-1', 'typed')}), 'the initial state of another type');
is(run(q{SELECT state FROM es_replay('s-1', 'typed')}), '{"at": "2023-12-31T15:00:00+00:00", "day": "2024-02-03"}', q{is read with the server's settings});
run(q{SELECT es_append('m-1', 'T', '{"at": "2024-01-01 00:00"}')});
is(run($session . q{SELECT (es_replay_as('m-1', NULL::seen, 'merge')).at = '2024-01-01 00:00 Asia/Tokyo'}), 't', 'a state given as a row, too');

# ---- upcasters ----

run(qq{CREATE FUNCTION up(data jsonb) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE AS \$\$BEGIN RETURN $see; END\$\$; SELECT es_register_upcaster('Old', 1, 'up(jsonb)'); SELECT es_append('old-1', 'Old', $at, type_version => 1)});
is(run($session . q{SELECT (es_upcast(e)).data FROM es_read('old-1') e}), $expected, 'es_upcast');
is(run($session . q{SELECT state FROM es_replay('old-1', 'merge')}), $expected, 'an upcaster in a replay by operations');

# ---- parallel workers ----

run(qq{SELECT count(es_append_batch('many-' || s, (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', $at\::jsonb)) FROM generate_series(1, 20)))) FROM generate_series(1, 2000) s;
	CREATE FUNCTION see_pid(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql PARALLEL SAFE AS \$\$BEGIN RETURN jsonb_build_array(see(state, data), pg_backend_pid()); END\$\$;
	SELECT es_register_reducer('see_pid', '*', 'see_pid(jsonb, jsonb)')});
is(run($session . q{SET max_parallel_workers_per_gather = 2; SELECT count(*), count(DISTINCT state -> 1) > 1, min((state -> 0)::text), max((state -> 0)::text) FROM es_replay_category('many', 'see_pid')}),
	"2000|t|$expected|$expected", 'es_replay_category in parallel workers');

# ---- snapshots, and another configuration ----

run(q{SELECT es_append('s-2', 'T', '{"n": 1}'), es_append('s-2', 'T', '{"n": 2}');
	CREATE FUNCTION gather(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT state || jsonb_build_array(current_setting('TimeZone'))$$;
	SELECT es_create_reducer('gather', '[]'), es_register_reducer('gather', '*', 'gather(jsonb, jsonb)')});
is(run($session . q{SELECT es_snapshot('s-2', 'gather')}), 2, 'a snapshot in a session with settings of its own');
run(q{SELECT es_append('s-2', 'T', '{"n": 3}')});
is(as_client(q{SELECT state FROM es_replay('s-2', 'gather')}), '["Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo"]', 'fits a replay in another one');
my $changed = $node->background_psql('store');
$changed->query_safe($session);
is($changed->query_safe(q{SELECT state FROM es_replay('s-2', 'gather')}), '["Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo"]', 'also in one that has begun before');
$node->safe_psql('postgres', q{ALTER SYSTEM SET timezone = 'Europe/Oslo'});
$node->reload;
foreach my $new ([ 'a database', \&run ], [ 'a role', \&as_client ])
{
	ok($node->poll_query_until('plain', q{SELECT current_setting('TimeZone') = 'Europe/Oslo'}), 'the server is given another time zone');
	is($new->[1]->(q{SELECT state FROM es_replay('s-2', 'gather')}), '["Europe/Oslo", "Europe/Oslo", "Europe/Oslo"]', "$new->[0]: handlers have it, and no snapshot from before is used");
}
is($changed->query_safe(q{SELECT pg_sleep(0); SELECT state FROM es_replay('s-2', 'gather')}) =~ s/^\n//r, '["Europe/Oslo", "Europe/Oslo", "Europe/Oslo"]', 'a session that was there has it, too');
$changed->quit;
$node->safe_psql('postgres', q{ALTER SYSTEM RESET timezone});
$node->reload;
ok($node->poll_query_until('plain', q{SELECT current_setting('TimeZone') = 'Asia/Tokyo'}), 'the server has its first time zone again');
is(run(q{SELECT state FROM es_replay('s-2', 'gather')}), '["Asia/Tokyo", "Asia/Tokyo", "Asia/Tokyo"]', 'and so have handlers');

done_testing();
