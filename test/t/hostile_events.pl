# Events, and operations, that are made to cost: what is folded of them, the paths that look at them, and the errors that
# they come to need memory for what there is, not for the product of two sizes; keys cannot be made to collide.  And what
# a lack of memory or disk stops is not the fault of the event that was at hand.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "jit = off\nshared_buffers = 16MB\n");
$node->safe_psql('postgres', q{
	CREATE EXTENSION eventstore;

	-- how a statement ends, and its detail
	CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		detail text;
	BEGIN
		EXECUTE statement;
		RETURN '00000';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN SQLSTATE || ' ' || detail;
	END $$});

sub q_ { return $node->safe_psql('postgres', $_[0]); }

# grows(what, most, statement, result): a session of its own has this result, and has needed no more kB for it.
sub grows
{
	my ($what, $most, $statement, $result) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query(q{SET statement_timeout = '300s'; SELECT pg_backend_pid()});
	my $before;

	$session->query(q{SELECT state FROM es_replay('nothing-1', 'merge')});    # loads the library
	$before = status_of($pid, 'VmHWM');
	is($session->query($statement), $result, $what);
  SKIP:
	{
		skip 'no /proc', 1 unless defined $before;
		my $grown = status_of($pid, 'VmHWM') - $before;

		note "$what: $grown kB";
		cmp_ok($grown, '<', $most, "... in little memory");
	}
	$session->quit;
	return;
}

# ---- elements times what is looked for: 1 GB, if it were written out for each of them
q_(q{
	SELECT es_register_reducer_ops('list', 'Listed', '{"set": {"items": "$.data.items"}}');
	SELECT es_register_reducer_ops('list', 'Removed', '{"remove": {"items": {"sku": "$.data.sku"}}}');
	SELECT es_append('list-1', 'Listed', jsonb_build_object('items', (SELECT jsonb_agg(jsonb_build_object('sku', jsonb_build_array(i))) FROM generate_series(1, 1000) i)));
	SELECT es_append('list-1', 'Removed', jsonb_build_object('sku', jsonb_build_array(repeat('x', 1000000))));
	SELECT es_append('list-1', 'Removed', '{"sku": [7.0]}')});
grows('a long array is searched for something large', 100 * 1024, q{SELECT jsonb_array_length(state -> 'items') FROM es_replay('list-1', 'list')}, '999');

# ---- paths times the event: 600 MB, if each kept what it was evaluated over
q_(q{
	CREATE FUNCTION wide(items int) RETURNS jsonb LANGUAGE sql AS
		$$SELECT jsonb_build_object('l', jsonb_agg(jsonb_build_object('x', i, 'text', repeat('y', 1000)))) FROM generate_series(1, items) i$$;
	CREATE FUNCTION looks(count int) RETURNS jsonb LANGUAGE sql AS
		$$SELECT jsonb_build_object('set', jsonb_object_agg('t' || i, '$.data.l[*].x')) FROM generate_series(1, count) i$$;
	SELECT es_register_reducer_ops('looks', 'Wide', looks(50));
	SELECT es_append('wide-1', 'Wide', wide(5000))});
grows('many paths over a large event', 150 * 1024,
	q{SELECT count(*), min(jsonb_array_length(value)) FROM es_replay('wide-1', 'looks') r, jsonb_each(state)}, '50|5000');

# the same over a large state
q_(q{
	SELECT es_register_reducer_ops('remembers', 'Wide', '"replace"');
	SELECT es_register_reducer_ops('remembers', 'Looked', jsonb_build_object('set', (SELECT jsonb_object_agg('t' || i, '$.state.l[*].x') FROM generate_series(1, 50) i)));
	SELECT es_append('state-1', 'Wide', wide(5000)), es_append('state-1', 'Looked')});
grows('many paths over a large state', 150 * 1024,
	q{SELECT count(*), min(jsonb_array_length(value)) FROM es_replay('state-1', 'remembers') r, jsonb_each(state)}, '51|5000');

# in upcasters that follow one another, of all events of a projection's batch: 1.4 GB
q_(q{
	SELECT es_append('renewed-' || i, 'Renewed', wide(500)) FROM generate_series(1, 30) i;
	SELECT es_register_upcaster_ops('Renewed', v, looks(5)) FROM generate_series(1, 8) v;
	SELECT es_register_reducer_ops('renewed', 'Renewed', '{"set": {"n": "$.data.t5"}}');
	SELECT es_create_projection('renewed', 'renewed', category => 'renewed')});
grows('upcasters of many large events', 100 * 1024,
	q{SELECT es_run_projection('renewed') IN (0, 30); SELECT count(*), min(jsonb_array_length(state -> 'n')) FROM es_projection('renewed')}, "t\n30|500");

# ---- the place of an error, deep down: 2 GB, if each level made it anew
q_(q{
	SELECT es_create_reducer('deep');
	CREATE TABLE deep AS SELECT ('{"set": {"a": ' || repeat('{"' || repeat('k', 1000) || '": ', 2000) || '"$.nope"' || repeat('}', 2000) || '}}')::jsonb AS ops});
grows('an error deep down in operations', 100 * 1024, q{SELECT outcome($$SELECT es_register_reducer_ops('deep', 'D', ops) FROM deep$$)},
	'22023 The error is at "/set/a/' . ('k' x 249) . '..." in the document.');

# ---- keys that have one hash
# Who knows the server's hash of bytes (lookup3) can go back from it, step by step, to keys of twelve bytes; whatever
# these are, LATIN1 has them.
my $most = 0xffffffff;
sub turned { my ($word, $bits) = @_; return (($word << $bits) | ($word >> (32 - $bits))) & $most; }

# key_of(a, b, hash): the key that leaves the hash's three words so
sub key_of
{
	my ($x, $y, $z) = @_;
	my $begin = (0x9e3779b9 + 12 + 3923095) & $most;

	foreach ([ 24, 14, 4 ], [ 16, 25, 11 ])
	{
		$z = (($z + turned($y, $_->[0])) & $most) ^ $y;
		$y = (($y + turned($x, $_->[1])) & $most) ^ $x;
		$x = (($x + turned($z, $_->[2])) & $most) ^ $z;
	}
	$z = (($z + turned($y, 14)) & $most) ^ $y;
	foreach ([ 4, 19, 16 ], [ 8, 6, 4 ])
	{
		$y = ($y - $x) & $most;
		$z = (($z ^ turned($y, $_->[0])) + $y) & $most;
		$x = ($x - $z) & $most;
		$y = (($y ^ turned($x, $_->[1])) + $x) & $most;
		$z = ($z - $y) & $most;
		$x = (($x ^ turned($z, $_->[2])) + $z) & $most;
	}
	return pack 'V3', map { ($_ - $begin) & $most } $x, $y, $z;
}
SKIP:
{
	skip 'bytes are in another order here', 2 unless pack('L', 1) eq pack('V', 1);
	my $file = PostgreSQL::Test::Utils::tempdir() . '/flood';
	my $keys = 300_000;
	my @members;

	for (my $i = 0; @members < $keys; $i++)
	{
		my $key = key_of($i, 4711, 1);

		next if $key =~ /\0/;
		$key =~ s/([\x01-\x1f"\\])/sprintf '\\u%04x', ord $1/ge;
		push @members, qq{"$key": true};
	}
	open my $out, '>:raw', $file or die "$file: $!";
	print $out '{' . join(', ', @members) . '}';
	close $out;
	$node->safe_psql('postgres', q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
	$node->safe_psql('latin', qq{
		CREATE EXTENSION eventstore;
		CREATE TABLE flood (data jsonb);
		COPY flood FROM '$file' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'LATIN1');
		SELECT es_append('flood-1', 'Begun', '{"first": true}');
		SELECT es_append('flood-1', 'Flooded', data) FROM flood});
	is($node->safe_psql('latin', 'SELECT count(*), count(DISTINCT hashtext(key)) FROM flood, jsonb_object_keys(data) key'), "$keys|1", "$keys keys have one hash, as the server has it");
	# the timeout is there to end it, were it not for the seed
	is(($node->psql('latin', q{SET statement_timeout = '30s'; SELECT count(*) FROM es_replay('flood-1', 'merge') r, jsonb_object_keys(state)}))[1], $keys + 1, 'and do not collide in a state');
}

# ---- what is not the event's fault: it is neither refused for good nor parked
q_(q{
	CREATE TABLE spell (code text);
	INSERT INTO spell VALUES (NULL);
	CREATE FUNCTION renew(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		met text := (SELECT code FROM spell);
	BEGIN
		IF met IS NOT NULL THEN
			RAISE 'so it is' USING ERRCODE = met;
		END IF;
		RETURN data || '{"new": true}';
	END $$;
	SELECT es_append('spell-' || i, 'Spelled', '{}') FROM generate_series(1, 2) i;
	SELECT es_register_upcaster('Spelled', 1, 'renew(jsonb)');
	SELECT es_subscribe('spell', categories => '{spell}', max_attempts => 2)});
my $poll = q{SET eventstore.upcast = on; SELECT string_agg(data::text, ' ') FROM es_poll('spell')};
foreach my $code (qw(53000 53100 53200 53300 58000 58030))
{
	q_("UPDATE spell SET code = '$code'");
	is(join(' ', map { sqlstates($node, 'postgres', $poll) } 1 .. 4), "$code $code $code $code", "$code fails a poll, each time");
	is(sqlstates($node, 'postgres', q{SELECT * FROM es_replay('spell-1', 'merge')}), $code, '... and a replay, as what it is');
}
is(q_(q{SELECT count(*) FROM es_parked('spell')}), '0', 'no event is parked for it');
q_('UPDATE spell SET code = NULL');
is(q_($poll), '{"new": true} {"new": true}', 'once it is over events are delivered');
# a limit that is set, and more memory than there can be, are passed by the event itself, however often it is tried
q_(q{SELECT es_rewind('spell', 0)});
foreach my $code (qw(53400 54000 XX000))
{
	q_("UPDATE spell SET code = '$code'");
	is(sqlstates($node, 'postgres', q{SELECT * FROM es_replay('spell-1', 'merge')}), 'VE009', "$code is the event's");
	is(sqlstates($node, 'postgres', $poll), '', '... and a poll passes over it');
}
is(q_(q{SELECT count(*), min(attempts), min(reason) FROM es_parked('spell')}), '2|2|it cannot be given its newest form: so it is', 'it is parked in the end');

$node->stop;
done_testing();
