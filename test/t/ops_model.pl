# Declarative reducers and built-in ones against a second evaluator that was
# written from the contract alone (test/lib/ops_model.py): random ops on random
# events give the states that it says, and fail with VE009 where it says so.
# ES_SEED repeats a run, ES_OPS_CASES (random reducers) makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $cases = $ENV{ES_OPS_CASES} // 200;
my $paths = 2 * $cases;
my $lib = "$FindBin::RealBin/../lib";
my $folder = PostgreSQL::Test::Utils::tempdir();
# One JSON text a line, and no byte of it means anything else to COPY.
my $lines = q{(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02', ENCODING 'UTF8')};

my $node = new_node('main');
# Strings are compared by their bytes, whatever the database's collation.
my $collated = $node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_collation WHERE collname = 'en-x-icu'}) eq 't';
$node->safe_psql('postgres', q{CREATE DATABASE ops TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'}
	  . ($collated ? q{ LOCALE_PROVIDER icu ICU_LOCALE 'en'} : ''));
$node->safe_psql('ops', q{
	CREATE EXTENSION eventstore;
	ALTER DATABASE ops SET timezone = 'Asia/Kolkata';

	-- what a replay up to a version gives
	CREATE FUNCTION observe(stream text, reducer text, version bigint) RETURNS TABLE (state jsonb, code text) LANGUAGE plpgsql AS $$
	BEGIN
		RETURN QUERY SELECT r.state, '00000' FROM es_replay(observe.stream, observe.reducer, observe.version) r;
	EXCEPTION WHEN OTHERS THEN
		RETURN QUERY SELECT NULL::jsonb, SQLSTATE;
	END $$;

	-- what a query for es_state gives: nothing if it fails
	CREATE FUNCTION observe_all(query text) RETURNS SETOF es_state LANGUAGE plpgsql AS $$
	BEGIN
		RETURN QUERY EXECUTE query;
	EXCEPTION WHEN SQLSTATE 'VE009' THEN
	END $$;

	-- what a query for one value gives: NULL if it fails
	CREATE FUNCTION observe_value(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		value jsonb;
	BEGIN
		EXECUTE query INTO value;
		RETURN value;
	EXCEPTION WHEN SQLSTATE 'VE009' THEN
		RETURN NULL;
	END $$;

	-- how a statement ends
	CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE statement;
		RETURN '00000';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;

	-- whether it is the expected state, and as the server itself would have made it, byte for byte
	CREATE FUNCTION is_state(state jsonb, expected jsonb) RETURNS boolean LANGUAGE sql AS $$
		SELECT state IS NOT DISTINCT FROM expected AND state::text::jsonb IS NOT DISTINCT FROM state
			AND jsonb_hash(state) IS NOT DISTINCT FROM jsonb_hash(state::text::jsonb)
			AND record_image_eq(ROW(state), ROW(state::text::jsonb));
	$$;
});

# python(arguments, input file, output file)
sub python
{
	my ($arguments, $in, $out) = @_;
	my $err = '';

	local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
	IPC::Run::run([ 'python3', @$arguments ], '<', $in, '>', $out, '2>', \$err)
	  or die "python3 @$arguments: $err";
}

# none(title, query): that the query has no rows; the first of them are shown
sub none
{
	my ($title, $query) = @_;
	my @found = split /\x1e/, $node->safe_psql('ops', $query, extra_params => [ '-R', "\x1e" ]);

	ok(@found == 0, $title);
	diag("for example\n" . join("\n", grep { defined } @found[ 0 .. 4 ])) if @found;
}

# Examples with the states they must lead to, written by hand: server and model.
my $examples = "$lib/ops_examples.jsonl";
python([ "$lib/ops_model.py", 'examples' ], $examples, "$folder/answers");
$node->safe_psql('ops', qq{
	CREATE TABLE example (nth serial, doc jsonb);
	CREATE TABLE answer (nth serial, doc jsonb);
	COPY example (doc) FROM '$examples' $lines;
	COPY answer (doc) FROM '$folder/answers' $lines;
	SELECT es_create_reducer('example' || nth, doc->'initial'), es_register_reducer_ops('example' || nth, 'e', doc->'ops'),
		es_append('example-' || nth, 'e', doc->'data')
	FROM example ORDER BY nth;
});
none('the model gives the states of the examples', q{
	SELECT e.doc, a.doc FROM example e FULL JOIN answer a USING (nth)
	WHERE (e.doc->'state', e.doc->'sqlstate') IS DISTINCT FROM (a.doc->'state', a.doc->'sqlstate')});
none('replays give the states of the examples', q{
	SELECT e.doc, o.* FROM example e LEFT JOIN LATERAL observe('example-' || nth, 'example' || nth, NULL) o ON true
	WHERE o.code IS DISTINCT FROM coalesce(e.doc->>'sqlstate', '00000') OR NOT is_state(o.state, e.doc->'state')});

# Random reducers and streams.
python([ "$lib/ops_cases.py", $seed, $cases ], '/dev/null', "$folder/cases");
$node->safe_psql('ops', qq{
	CREATE TABLE cases (doc jsonb);
	COPY cases FROM '$folder/cases' $lines;
	SELECT es_create_reducer(doc->>'reducer', doc->'initial') FROM cases;
	SELECT es_register_reducer_ops(doc->>'reducer', type, ops) FROM cases, jsonb_each(doc->'handlers') AS handler (type, ops);
	CREATE VIEW case_streams AS
		SELECT doc->>'reducer' AS reducer, s->>'stream' AS stream, s->'events' AS events, doc - 'streams' AS doc
		FROM cases, jsonb_array_elements(doc->'streams') s;
	SELECT es_append_batch(stream, events) FROM case_streams WHERE NOT events->0 ? 'recorded_at';
	INSERT INTO es_events (stream, type, data, metadata, recorded_at)
		SELECT stream, e->>'type', e->'data', e->'metadata', (e->>'recorded_at')::timestamptz
		FROM case_streams, jsonb_array_elements(events) WITH ORDINALITY AS event (e, nth) WHERE e ? 'recorded_at' ORDER BY stream, nth;
	SET timezone = 'UTC';
	COPY (
		SELECT jsonb_build_object('stream', stream) || doc
			|| jsonb_build_object('events', (SELECT jsonb_agg(to_jsonb(e) ORDER BY version) FROM es_read(stream) e)) FROM case_streams
		UNION ALL
		SELECT jsonb_build_object('stream', stream, 'reducer', reducer,
			'events', (SELECT jsonb_agg(to_jsonb(e) ORDER BY version) FROM es_read(stream) e))
		FROM (SELECT stream FROM case_streams) s, unnest('{merge,merge_patch,count,last}'::text[]) reducer
	) TO '$folder/stored' $lines;
});
python([ "$lib/ops_model.py" ], "$folder/stored", "$folder/expected");
$node->safe_psql('ops', qq{
	CREATE TABLE answers (doc jsonb);
	COPY answers FROM '$folder/expected' $lines;
	CREATE TABLE expected AS
		SELECT doc->>'stream' AS stream, doc->>'reducer' AS reducer, (doc->>'version')::bigint AS version,
			doc->'state' AS state, coalesce(doc->>'sqlstate', '00000') AS code FROM answers;
	CREATE UNIQUE INDEX ON expected (stream, reducer, version);
	-- es_replay need not end at each event of a long stream
	CREATE VIEW chosen AS SELECT * FROM expected WHERE code <> '00000' OR version % 8 = 1 OR (reducer LIKE 'ops%' AND version < 30);
	CREATE TABLE observed AS
		SELECT e.stream, e.reducer, e.version, o.state, o.code
		FROM chosen e, LATERAL observe(e.stream, e.reducer, e.version) o;
	ANALYZE;

	-- an SQL script that shows the one step in which a replay differs
	CREATE FUNCTION step_script(stream text, reducer text, version bigint) RETURNS text LANGUAGE sql AS \$\$
		SELECT concat_ws(E'\\n', '',
			CASE WHEN c.doc ? 'handlers' THEN format('SELECT es_create_reducer(%L, %L);', 'step',
				(SELECT CASE WHEN version = 1 THEN c.doc->'initial' ELSE
					(SELECT p.state FROM expected p WHERE (p.stream, p.reducer, p.version) = (\$1, \$2, \$3 - 1)) END)) END,
			CASE WHEN c.doc ? 'handlers' THEN format('SELECT es_register_reducer_ops(%L, %L, %L);', 'step', e.type,
				coalesce(c.doc->'handlers'->e.type, c.doc->'handlers'->'*', '"ignore"')) END,
			format('SELECT es_append(%L, %L, %L, %L);', 'step-1', e.type, e.data, e.metadata),
			format('SELECT state FROM es_replay(%L);', 'step-1'))
		FROM case_streams c, es_read(c.stream, step_script.version, 1) e WHERE c.stream = step_script.stream;
	\$\$;
});
my ($states, $failures) = split /\|/, $node->safe_psql('ops', q{SELECT count(*) FILTER (WHERE code = '00000'), count(*) FILTER (WHERE code <> '00000') FROM expected});
note "$cases reducers, $states states, $failures failures";

none('es_replay gives the states of the model, and VE009 where it fails', q{
	SELECT stream, reducer, version, 'expected', code, state, 'got', got_code, got_state, step_script(stream, reducer, version)
	FROM (
		SELECT DISTINCT ON (stream, reducer) e.*, o.code AS got_code, o.state AS got_state
		FROM chosen e LEFT JOIN observed o USING (stream, reducer, version)
		WHERE o.code IS DISTINCT FROM e.code OR NOT is_state(o.state, e.state)
		ORDER BY stream, reducer, version LIMIT 5) differences});
none('es_replay_steps gives them too', q{
	WITH streams AS (SELECT stream, reducer, max(version) AS upto FROM expected WHERE code = '00000' GROUP BY stream, reducer),
		steps AS (SELECT s.stream, s.reducer, r.version, r.state FROM streams s, observe_all(format('SELECT * FROM es_replay_steps(%L, %L, 1, %L)', s.stream, s.reducer, s.upto)) r)
	SELECT stream, reducer, version, 'expected', e.state, 'got', s.state
	FROM (SELECT * FROM expected WHERE code = '00000') e FULL JOIN steps s USING (stream, reducer, version)
	WHERE e.stream IS NULL OR s.stream IS NULL OR NOT is_state(s.state, e.state)});
none('es_replay_steps and es_replay fail as a whole if one event fails', q{
	SELECT stream, reducer, outcome(format('SELECT FROM es_replay_steps(%L, %L)', stream, reducer)), outcome(format('SELECT FROM es_replay(%L, %L)', stream, reducer))
	FROM expected e WHERE code <> '00000' AND (outcome(format('SELECT FROM es_replay_steps(%L, %L)', stream, reducer)) <> code
		OR outcome(format('SELECT FROM es_replay(%L, %L)', stream, reducer)) <> code)});
none('es_replay_category gives the last of them', q{
	SELECT c.doc->>'reducer', e.state, r.state
	FROM cases c LEFT JOIN LATERAL observe_all(format('SELECT * FROM es_replay_category(%L)', c.doc->>'reducer')) r ON true
		LEFT JOIN expected e ON e.stream = c.doc->>'reducer' || '-1' AND e.reducer = c.doc->>'reducer' AND e.version = r.version
	WHERE c.doc->'streams' @> jsonb_build_array(jsonb_build_object('stream', c.doc->>'reducer' || '-1'))
		AND (e.stream IS NULL OR NOT is_state(r.state, e.state))});

none('es_fold and es_replay_as give the last of them', q{
	SELECT stream, reducer, e.state, fold, replay
	FROM (SELECT DISTINCT ON (stream, reducer) * FROM expected ORDER BY stream, reducer, version DESC) e,
		observe_value(format('SELECT es_fold(%L, v ORDER BY version) FROM es_events v WHERE stream = %L', reducer, stream)) fold,
		observe_value(format('SELECT es_replay_as(%L, NULL::jsonb, %L)', stream, reducer)) replay
	WHERE NOT (is_state(fold, e.state) AND is_state(replay, e.state))});

# Once more, with replays that leave snapshots and start from those of others.
$node->safe_psql('ops', q{
	SELECT es_snapshot_every(doc->>'reducer', 2) FROM cases;
	CREATE TABLE resumed AS
		SELECT e.stream, e.reducer, e.version, o.state, o.code
		FROM (SELECT * FROM chosen WHERE reducer LIKE 'ops%' ORDER BY md5(stream || version)) e, LATERAL observe(e.stream, e.reducer, e.version) o;
});
cmp_ok($node->safe_psql('ops', 'SELECT count(*) FROM eventstore.snapshots'), '>', $cases / 4, 'replays leave snapshots');
none('replays from snapshots give the same', q{
	SELECT stream, reducer, version, e.code, e.state, r.code, r.state
	FROM (SELECT * FROM chosen WHERE reducer LIKE 'ops%') e LEFT JOIN resumed r USING (stream, reducer, version)
	WHERE r.code IS DISTINCT FROM e.code OR NOT is_state(r.state, e.state) ORDER BY stream, version});

# Paths, and ops that are none.
{
	my @parts = ('a', 'é', '.', '.', '\\\\', '\\\\', '\\\\\\\\', '0', ' ');
	my %seen;
	$seen{ '"' . join('', map { $parts[ rand @parts ] } (1 .. 1 + rand(6))) . '"' } = 1 for 1 .. $paths;
	append_to_file("$folder/paths", join('', map { "$_\n" } '""', sort keys %seen));
}
python([ "$lib/ops_model.py", 'paths' ], "$folder/paths", "$folder/verdicts");
$node->safe_psql('ops', qq{
	CREATE TABLE path (nth serial, doc jsonb);
	CREATE TABLE verdict (nth serial, doc jsonb);
	COPY path (doc) FROM '$folder/paths' $lines;
	COPY verdict (doc) FROM '$folder/verdicts' $lines;
});
none('paths are refused exactly if the model refuses them', q{
	SELECT path.doc, verdict.doc, ops, outcome(format('SELECT es_register_reducer_ops(%L, %L, %L)', 'paths', 'e', ops))
	FROM path JOIN verdict USING (nth),
		unnest(ARRAY[jsonb_build_object('unset', jsonb_build_array(path.doc)), jsonb_build_object('set', jsonb_build_object(path.doc #>> '{}', 1))]) ops
	WHERE outcome(format('SELECT es_register_reducer_ops(%L, %L, %L)', 'paths', 'e', ops)) <> CASE WHEN verdict.doc = 'true' THEN '00000' ELSE '22023' END});
none('malformed ops are refused', q{
	SELECT ops, outcome(format('SELECT es_register_reducer_ops(%L, %L, %L)', 'refused', 'e', ops)) FROM unnest(ARRAY[
		'null', '1', 'true', '{}', '"nothing"', '"set"', '[["merge"]]', '["merge", 1]', '["merge", "nothing"]',
		'{"nothing": {"a": 1}}', '{"replace": {"a": 1}}', '{"set": {"a": 1}, "inc": {"b": 1}}', '{"set": "a"}', '{"set": ["a"]}',
		'{"unset": "a"}', '{"unset": {"a": 1}}', '{"unset": [1]}', '{"unset": ["a", null]}', '{"inc": {"a": true}}', '{"merge": "a"}',
		'{"remove": {"a": 1}}', '{"remove": {"a": "$.data"}}', '{"remove": ["a"]}', '{"set": {"a": "$."}}', '{"set": {"a": "$.data["}}', '{"set": {"a": "$variable"}}',
		'{"set": {"a": [{"b": "$.data +"}]}}', '{"remove": {"a": {"b": "$.data..x"}}}']) ops
	WHERE outcome(format('SELECT es_register_reducer_ops(%L, %L, %L)', 'refused', 'e', ops)) <> '22023'});

# Sums of numbers short and long, as numeric makes them.
$node->safe_psql('ops', qq{
	SELECT setseed($seed % 1000 / 1000.0);
	CREATE TABLE number AS
		SELECT n::numeric FROM unnest('{0,0.00,1,-1,9999,10000,-9999,-10000,9999.9999,-9999.9999,0.0001,-0.0001,0.9999,0.00001,0.10,1.50,
			1000000,-1000000.5,5000.00,-5000,99999999,999999999999,-999999999999.9999,9999999999999999,99999999999999999999,
			123456789012.3456,12345678.12345678,1e16,1e20,1e63,-1e63,1e-10,1e-63,1e-70,0e-64}'::text[]) n
		UNION ALL SELECT round(((random() - 0.5) * 10 ^ (random() * 20))::numeric, (random() * 9)::int) FROM generate_series(1, 10);
	CREATE TABLE pair AS SELECT row_number() OVER () AS nth, a.n AS a, b.n AS b FROM number a, number b;
	SELECT es_register_reducer_ops('sum', 'e', '{"inc": {"n": "\$.data.n"}}');
	SELECT es_append_batch('sum-' || nth, jsonb_build_array(jsonb_build_object('type', 'e', 'data', jsonb_build_object('n', a)),
		jsonb_build_object('type', 'e', 'data', jsonb_build_object('n', b)))) FROM pair;
});
none('sums are those of numeric, byte for byte', q{
	SELECT a, b, s.state FROM pair LEFT JOIN es_replay_category('sum') s ON s.stream = 'sum-' || nth
	WHERE s.state IS NULL OR NOT record_image_eq(ROW(s.state), ROW(jsonb_build_object('n', a + b)))});

# States that become wide and narrow again, by a member or some at a time.
$node->safe_psql('ops', q{
	CREATE FUNCTION patch_flat(state jsonb, data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_strip_nulls(state || data) $$;
	CREATE AGGREGATE patch(jsonb) (SFUNC = patch_flat, STYPE = jsonb, INITCOND = '{}');
	CREATE AGGREGATE lay_over(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}');
	SELECT es_append_batch('width-' || s, jsonb_agg(jsonb_build_object('type', 'e', 'data', data)))
	FROM generate_series(1, 10) s, LATERAL (
		SELECT coalesce(jsonb_object_agg(left('key' || md5(k::text), 1 + k % 7) || k,
			CASE WHEN random() < 0.55 - 0.1 * sin(i / 20.0) THEN to_jsonb(repeat('x', (random() * 70)::int)) END), '{}') AS data
		FROM generate_series(1, 200) i, LATERAL (SELECT DISTINCT (random() * 24)::int AS k FROM generate_series(1, 1 + (random() * 3)::int + i * 0)) keys
		GROUP BY i ORDER BY i) events
	GROUP BY s;
});
for my $way ([ 'merge_patch', 'patch' ], [ 'merge', 'lay_over' ])
{
	my ($reducer, $aggregate) = @$way;

	cmp_ok($node->safe_psql('ops', "SELECT count(DISTINCT jsonb_object_keys) FROM es_replay('width-1', '$reducer') r, jsonb_object_keys(state)"),
		'>', 0, "$reducer has made a state");
	none("states of $reducer that change their width are as SQL makes them, byte for byte", qq{
		SELECT s, version, expected, r.state
		FROM generate_series(1, 10) s, LATERAL (SELECT version, $aggregate(data) OVER (ORDER BY version) AS expected FROM es_read('width-' || s)) e
			LEFT JOIN LATERAL es_replay_steps('width-' || s, '$reducer') r USING (version)
		WHERE r.state IS NULL OR NOT record_image_eq(ROW(r.state), ROW(expected))});
}

# Strings have one order in databases of all encodings, also where their letters lie otherwise.
$node->safe_psql('postgres', q{CREATE DATABASE koi8 TEMPLATE template0 ENCODING 'KOI8R' LOCALE 'C'});
is($node->safe_psql('koi8', q{
		SET client_encoding = 'UTF8';
		CREATE EXTENSION eventstore;
		SELECT FROM es_register_reducer_ops('reach', 'e', '[{"max": {"most": "$.data.s"}}, {"min": {"least": "$.data.s"}}]');
		SELECT FROM es_append_batch('reach-1', (SELECT jsonb_agg(jsonb_build_object('type', 'e', 'data', jsonb_build_object('s', s))) FROM unnest('{юг,юга,Я,а,z}'::text[]) s));
		SELECT FROM es_append_batch('reach-2', (SELECT jsonb_agg(jsonb_build_object('type', 'e', 'data', jsonb_build_object('s', s))) FROM unnest('{а,Я,ю}'::text[]) s));
		SELECT FROM es_append_batch('reach-3', (SELECT jsonb_agg(jsonb_build_object('type', 'e', 'data', jsonb_build_object('s', s))) FROM unnest('{а,"",а}'::text[]) s));
		SELECT 'юг' COLLATE "C" < 'а', string_agg(concat_ws(' ', stream, state->>'least', state->>'most'), ', ' ORDER BY stream) FROM es_replay_category('reach', 'reach')}) =~ s/\A\s+//r,
	't|reach-1 z юга, reach-2 Я ю, reach-3  а', 'in KOI8R, too, strings are ordered by their UTF-8 form');

# ... and so they have where characters have no counterpart in Unicode: they are behind all others, and an event that has them is sealed.
foreach my $case ([ 'WIN1252', [qw(81 ff 8d 6181 8d61 6182 61)], 'ff' ], [ 'EUC_JP', [qw(a9a1 a1a1 fcfe 61a9a1 fcfe61 61a1a1 61)], 'a1a1' ])
{
	my ($encoding, $strings, $known) = @$case;
	my $database = lc $encoding;
	my @s = @$strings;
	my $hex = sub { return "encode(convert_to($_[0], '$encoding'), 'hex')" };

	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($database, $_) foreach (
		'CREATE EXTENSION eventstore',
		q{SELECT FROM es_register_reducer_ops('reach', 'e', '[{"max": {"most": "$.data.s"}}, {"min": {"least": "$.data.s"}}]')},
		qq{SELECT FROM es_append_batch('reach-1', (SELECT jsonb_agg(jsonb_build_object('type', 'e', 'data', jsonb_build_object('s', convert_from(decode(s, 'hex'), '$encoding'),
			'known', convert_from('\\x$known', '$encoding'))) ORDER BY n) FROM unnest('{@{[ join ',', @s ]}}'::text[]) WITH ORDINALITY u(s, n)))});
	is($node->safe_psql($database, "SELECT string_agg(concat_ws(' ', @{[ $hex->(q{state->>'least'}) ]}, @{[ $hex->(q{state->>'most'}) ]}), ', ' ORDER BY version) FROM es_replay_steps('reach-1', 'reach')"),
		"$s[0] $s[0], $s[1] $s[0], $s[1] $s[2], $s[3] $s[2], $s[3] $s[4], $s[5] $s[4], $s[6] $s[4]", "$encoding: characters that Unicode does not have are behind all others");
	is($node->safe_psql($database, 'SELECT es_seal(); SELECT count(*) FROM es_verify()'), @s . "\n0", '... and sealed');
	is($node->safe_psql($database, qq{
		SET TimeZone = 'UTC';
		SELECT position, es_proof(position)->>'leaf' = encode(sha256('\\x00' || (SELECT string_agg(convert_to(part, 'UTF8'), '\\xff$s[0]' ORDER BY n)
			FROM string_to_table(jsonb_build_array(position, stream, version, type, type_version, data, metadata, event_id, recorded_at)::text, convert_from('\\x$s[0]', '$encoding')) WITH ORDINALITY t(part, n))), 'hex')
		FROM es_events WHERE version IN (1, 2) ORDER BY 1}), "1|t\n2|t", '... as 0xFF and their bytes; what has none of them as its UTF-8 text');
}

$node->safe_psql('postgres', q{CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
is($node->safe_psql('bytes', q{CREATE EXTENSION eventstore; SELECT FROM es_append('a-1', 'e', jsonb_build_object('s', E'\\xe9')); SELECT es_seal(); SELECT count(*) FROM es_verify()}), "1\n0",
	'... and so are bytes that are no UTF-8, where a database may have them');

$node->stop;
done_testing();
