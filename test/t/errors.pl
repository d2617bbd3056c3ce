# What programs may parse: the DETAIL of errors is worded as the manual says, and a
# command that comes twice has no effect twice, done as the manual does it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $manual = slurp_file("$FindBin::RealBin/../../doc/eventstore.md");
my %wording = $manual =~ /^\| (VE\d{3}) \| `(\^.*\$)` \|$/mg;
s/\\\|/|/g foreach values %wording;
is(join(' ', sort keys %wording), 'VE001 VE005 VE010 VE011', 'the manual has the wording of four errors');

my $node = new_node('main');
new_store($node, 'here');
sub run { return $node->safe_psql('here', $_[0]) }

run(q{CREATE FUNCTION raised(statement text, OUT state text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE statement;
		RAISE 'nothing was raised';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	END $$});
run(q{SELECT es_append_batch('a-1', '[{"type": "A", "event_id": "0189ffff-0000-7000-8000-000000000001"},
	{"type": "B", "event_id": "0189ffff-0000-7000-8000-000000000002", "metadata": {"tags": ["t"]}}]')});

sub raised
{
	my ($statement) = @_;
	my ($state, $detail, $hint) = split /\x1f/, run("SELECT concat_ws(E'\\x1f', state, detail, hint) FROM raised(\$query\$$statement\$query\$)");

	return ($state, $detail, $hint);
}

# is_worded(statement, SQLSTATE, parts): DETAIL is as the manual says, and has these parts.
sub is_worded
{
	my ($statement, $expected, @parts) = @_;
	my ($state, $detail, $hint) = raised($statement);
	my @found = $detail =~ /$wording{$expected}/;

	is(join('|', $state, @found), join('|', $expected, @parts), "$expected of $statement");
	unlike($hint, qr/new (event )?ids/, 'and its hint has nobody append twice');
}

run(q{SELECT es_register_schema('Ordered', '{"properties": {"lines": {"items": {"required": ["sku"]}}}}')});
is_worded(q{SELECT es_append('a-1', 'Ordered', '{"lines": [{"sku": 1}, {}]}')}, 'VE005', '/lines/1', 'required', 'must have "sku"');

my ($one, $two, $new) = map { "0189ffff-0000-7000-8000-00000000000$_" } 1, 2, 3;
is_worded(q{SELECT es_append('a-1', 'C', expected_version => 1)}, 'VE001', 1, 2);
is_worded(q{SELECT es_append('a-1', 'C', expected_version => 0)}, 'VE001', 0, 2);
is_worded(q{SELECT es_append('a-2', 'C', expected_version => -1)}, 'VE001', -1, 0);
is_worded(q{SELECT es_append_batch('a-1', '[]', 7)}, 'VE001', 7, 2);
is_worded(qq{SELECT es_append('a-1', 'C', event_id => '$one')}, 'VE010', $one, 1, 1, 'with other type, data or metadata');
is_worded(qq{SELECT es_append('a-1', 'A', '{"n": 1}', event_id => '$one', expected_version => 9)}, 'VE010', $one, 1, 1, 'in another place');
is_worded(qq{SELECT es_append('a-1', 'A', event_id => '$one', expected_version => 1)}, 'VE010', $one, 1, 1, 'in another place');
is_worded(qq{SELECT es_append_batch('a-1', '[{"type": "A", "event_id": "$one"}, {"type": "C", "event_id": "$new"}]')},
	'VE010', $one, 1, 1, 'event 2 of the call is not');
is_worded(qq{SELECT es_append_batch('a-1', '[{"type": "C", "event_id": "$new"}, {"type": "B", "metadata": {"tags": ["t"]}, "event_id": "$two"}]')},
	'VE010', $two, 2, 2, 'event 1 of the call is not');
is_worded(qq{INSERT INTO es_events (stream, type, event_id) VALUES ('a-1', 'C', '$one')}, 'VE010', $one, 1, 1, 'with other type, data or metadata');
is_worded(q{SELECT es_append_if('[{"stream": "a-9", "type": "C"}]', 1, tags => '{t}')}, 'VE011', 2, 'a-1');

# several streams: an array of JSON, which names each that is in the way
my ($state, $detail) = raised(qq{SELECT es_append_many('[{"stream": "a-1", "type": "C", "event_id": "$one"}, {"stream": "a-2", "type": "C", "expected_version": 4}]')});
is($state, 'VE010', 'ids go before versions, in whatever stream');
is(run("SELECT '$detail'::jsonb"), qq{[{"stream": "a-1", "version": 1, "conflict": "content", "event_id": "$one", "position": 1}]}, 'VE010 of many streams');
($state, $detail) = raised(q{SELECT es_append_many('[{"stream": "a-1", "type": "C", "expected_version": 1}, {"stream": "a-2", "type": "C", "expected_version": 4}]')});
is($state . run("SELECT '$detail'::jsonb"), 'VE001[{"actual": 2, "stream": "a-1", "expected": 1}, {"actual": 0, "stream": "a-2", "expected": 4}]',
	'VE001 of many streams');

# ---- commands that come twice, with the manual's function ----

my ($function) = $manual =~ /(CREATE FUNCTION handle_once.*?\$\$;)/s;
run($function);
my $first = qq{[{"type": "A", "data": 1, "event_id": "0189ffff-0000-7000-8000-00000000000a"}, {"type": "B", "event_id": "0189ffff-0000-7000-8000-00000000000b"}]};
my $otherwise = qq{[{"type": "Z", "event_id": "0189ffff-0000-7000-8000-00000000000a"}]};
is(run("SELECT handle_once('b-1', 0, '$first')"), '1', 'a command');
is(run("SELECT handle_once('b-1', 0, '$first')"), '1', 'delivered again');
is(run("SELECT handle_once('b-1', 2, '$otherwise')"), '1', 'decided again, otherwise: what was stored first holds');
is(run("SELECT string_agg(type, ' ' ORDER BY version) FROM es_read('b-1')"), 'A B', 'there are the events of the first time');
is((raised(q{SELECT handle_once('b-1', 1, '[{"type": "C", "event_id": "0189ffff-0000-7000-8000-00000000000c"}]')}))[0], 'VE001', 'a stale decision');
is((raised(q{SELECT handle_once('b-1', 2, '[{"type": "C", "event_id": "0189ffff-0000-7000-8000-00000000000c"}, {"type": "B", "event_id": "0189ffff-0000-7000-8000-00000000000b"}]')}))[0],
	'VE010', 'ids that are not of one command');

# two deliveries at once: the second waits for the first, and then knows
my $holder = $node->background_psql('here');
$holder->query_safe(q{BEGIN; SELECT handle_once('b-2', 0, '[{"type": "A", "event_id": "0189ffff-0000-7000-8000-00000000000d"}]')});
my $second = start_named($node, 'here', 'second', q{SELECT handle_once('b-2', 0, '[{"type": "Z", "event_id": "0189ffff-0000-7000-8000-00000000000d"}]');});
ok($node->poll_query_until('here', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'second' AND cardinality(pg_blocking_pids(pid)) > 0}),
	'a second delivery waits for the first');
$holder->query_safe('COMMIT');
my ($out, $err) = finish_script($second);
is($out . $err, "1\n", 'and has its answer');
is(run("SELECT string_agg(type, ' ') FROM es_read('b-2')"), 'A', 'there is one event');
$holder->quit;

$node->stop;
done_testing();
