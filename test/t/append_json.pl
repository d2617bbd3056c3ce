# es_append_json against es_append_batch: JSON texts, well-formed and damaged, and all
# edges that a JSON text has, give the same events, byte for byte, or the same error; in
# a database of UTF-8 and in one of another encoding.  Usual ones are read without the
# server's parser.  ES_SEED repeats a run, ES_JSON_TEXTS makes it longer.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Encode qw(encode);
use EventstoreTest;
use List::Util qw(shuffle);
use Test::More;

seed();
my $texts = $ENV{ES_JSON_TEXTS} // 1500;
my $node = new_node('main');

# ---- random JSON ----

my $latin;					# characters of LATIN1 only, and none of them as \u

sub pick { return $_[ int(rand(@_)) ] }
sub space { return pick('', '', '', '', '', ' ', ' ', "\n", "\t ", "\r\n  ") }
sub digits { return join '', map { int(rand(10)) } 1 .. $_[0] }
sub escape { return sprintf pick('\\u%04x', '\\u%04X'), $_[0] }

my @characters = (
	(sub { join '', map { pick('a' .. 'z', '0' .. '9', ' ') } 1 .. pick(1, 2, 3, 7, 8, 9, 15, 16, 40) }) x 8,
	(sub { '\\' . pick('"', '\\', '/', 'b', 'f', 'n', 'r', 't') }) x 2,
	sub { escape(pick(1, 0x1f, 0x22, 0x41, 0x5c, 0x7f)) },
	sub { pick('{', ']', ':', ',', q{'}) },
	sub { chr pick(0x7f, 0xe9, 0xff) },
	sub { $latin ? 'x' : chr pick(0x20ac, 0x1f600, 0xfffd) },
	sub { $latin ? 'y' : escape(pick(0x80, 0xe9, 0x7ff, 0x800, 0x20ac, 0xffff)) },
	sub { $latin ? 'z' : '\\ud83d\\uDE00' });

sub string { return '"' . join('', map { pick(@characters)->() } 1 .. pick(0, 1, 1, 1, 2, 3)) . '"' }

sub number
{
	my $whole = pick('0', '0', pick(1 .. 9) . digits(pick(0, 0, 1, 2, 3, 4, 5, 8, 13, 14, 15, 16, 17, 18, 20, 40)), '1' . '0' x int(rand(20)));
	my $behind = pick('', '', '', '.0', '.00000', '.50', '.' . digits(pick(1, 2, 3, 4, 5, 9, 13, 14, 15, 16, 30)), '.' . '0' x pick(1, 3, 8, 12, 13, 14) . pick(1 .. 9));
	my $exponent = pick(('') x 9, pick('e', 'E') . pick('', '+', '-') . pick(0, 1, 4, 5, 12, '007', 80, 500));

	return pick('', '', '-') . "$whole$behind$exponent";
}

# Some keys come again in an object, some differ at their end only.
sub key { return pick((sub { '"' . pick('a', 'b', 'aa', 'ab', 'ba', 'key', 'kez', 'name', '', 'a longer key') . pick('', '', digits(1)) . '"' }) x 4, \&string)->() }

sub count { return pick((0 .. 5) x 10, 15, 16, 17, 31, 32, 33, 70) }
sub array { my $depth = $_[0] - 1; return '[' . (join(',', map { value($depth) } 1 .. count()) || space()) . ']' }
sub object { my $depth = $_[0] - 1; return '{' . (join(',', map { space() . key() . space() . ':' . value($depth) } 1 .. count()) || space()) . '}' }

# value(depth): any JSON value, so many levels deep at most, with blanks around it
sub value
{
	my ($depth) = @_;
	my @kinds = (\&string, \&string, \&string, \&number, \&number, sub { pick('true', 'false', 'null') });

	push @kinds, \&array, \&object, \&object if $depth > 0;
	return space() . pick(@kinds)->($depth) . space();
}

# event(): an element of a batch that is well-formed
sub event
{
	my @members = '"type":"' . pick('T', 'Deposited', 'Typ\\u0065', 'a type of more than sixteen bytes') . '"';

	push @members, '"data":' . value(4) if rand() < 0.9;
	push @members, '"metadata":' . pick(object(3), 'null', '{"tags": ["x", "y"]}') if rand() < 0.6;
	push @members, '"event_id":' . pick('null', sprintf('"0189ffff-0000-7000-8000-%s"', digits(12)), sprintf('"{0189FFFF00007000%s}"', digits(16))) if rand() < 0.3;
	push @members, '"type_version":' . pick('null', '1') if rand() < 0.2;
	push @members, pick('"data": "again"', '"type": "U"', '"metadata": {}') if rand() < 0.1;
	return '{' . join(',', map { space() . $_ . space() } shuffle(@members)) . '}';
}

sub batch { return space() . '[' . join(',', map { space() . event() . space() } 1 .. pick(1, 1, 2, 3)) . ']' . space() }

# damaged(text): the same with a character or two changed, added or missing
sub damaged
{
	my ($text) = @_;

	foreach (1 .. pick(1, 1, 2))
	{
		my $at = int(rand(length($text)));

		substr($text, $at, pick(0, 1, 1, 2)) = pick('', '', '"', '\\', '{', '}', '[', ']', ',', ':', '-', '.', 'e', 'u', 't', '0', '7', ' ', "\n", "\x01", chr 0xe9, '\\ud800', '\\udc00', '\\u0000');
		$text = substr $text, 0, $at if rand() < 0.1;
	}
	return $text;
}

# ---- texts at the edges ----

my @bad_scalars = ('', '01', '00', '-', '-a', '+1', '1.', '1.e5', '.5', '1e', '1e+', '0x1', '1_000', '1a', 'NaN', 'Infinity', '-Infinity', '--1', '1 2', '1.2.3',
	'tru', 'True', 'truee', 'nul', 'nullx', 'n', q{'x'}, '"', '"x', '"\\', '"\\"', '"\\x"', '"\\u"', '"\\u12"', '"\\u12g4"', '"\\u12', '"\\ud800"', '"\\ud800x"', '"\\ud800\\n"', '"\\ud800\\u0041"',
	'"\\ud800\\ud800"', '"\\udc00"', '"\\u0000"', "\"a\nb\"", "\"\t\"", "\"\x01\"", "\"a long one up to here\x1f\"");
my @good_scalars = ('0', '-0', '-0.0', '0.000', '-0e5', '1e999', '1e-999', '1e1000', '1e-1000', '1e0999', '1e131071', '1e131072', '1e-16383', '1e-16384', '1e200000', '1' x 999, '1' x 1001, '0.' . '1' x 999,
	'9' x 16, '9' x 17, '-' . '9' x 15, '-' . '9' x 16, '9' x 14 . '.9', '9' x 15 . '.9', '0.00000000000001', '10000', '100000000', '0.0001', '0.00010', '12345.678', '9999.9999',
	'""', '"\\u00e9"', '"\\u0080"', '"\\u20ac"', '"\\ud83d\\ude00"', '"' . 'x' x 100000 . '"', '[]', '{}', '[[]]', '[{}]', '{"": {}}', '{"a": 1, "a": 2}', '{"b": 1, "a": 2, "b": {"b": 3, "b": 4}}',
	(map { my $n = $_; '{' . join(',', map { '"k' . $_ % ($n / 2 + 3) . "\":$_" } 1 .. $n) . '}' } 15, 16, 17, 40, 400),
	(map { '[' x $_ . ']' x $_ } 63, 64, 65, 1000, 6400, 6401), (map { '{"a":' x $_ . '1' . '}' x $_ } 63, 64, 65), '[' x 100000);
my @elements = ('', '1', 'null', '[]', '"x"', '{}', '{"data": 1}', '{"type": null}', '{"type": 5}', '{"type": ""}', '{"type": "T", "x": 1}', '{"type": "T", "types": 1}', '{"typ\\u0065": "T"}', '{"type": "U", "type": "T"}',
	'{"type": "T", "type": null}', '{"x": 1, "x": 2, "type": "T"}', '{"type": "T",}', '{"type"}', '{"type":}', '{type: "T"}', '{"type": "T" "data": 1}', '{"type": "T"]', '{"type": "T"', '{,"type": "T"}', '{"type": "T", "tags": ["x"]}',
	(map { "{\"type\": \"T\", \"data\": $_}" } 'null', 'true', '5', '"x"', '[]', '[1, 2]'),
	(map { "{\"type\": \"T\", \"metadata\": $_}" } 'null', '5', '"x"', '[]', '{"tags": [""]}', '{"tags": 5}', '{"tags": ["x"]}', '[{}]', '5, "metadata": {}', '{}, "metadata": null'),
	(map { "{\"type\": \"T\", \"event_id\": $_}" } 'null', '5', '{}', '"x"', '""', '"{}"', '"0189ffff-0000-7000-8000-000000000001"', '"0189ffff0000-7000-8000000000000001"', '"0189-ffff-0000-7000-8000-0000-0000-0001"',
		'"{0189FFFF-0000-7000-8000-000000000001}"', '"{0189ffff-0000-7000-8000-000000000001"', '"0189ffff-0000-7000-8000-000000000001}"', '"0189ffff-0000-7000-8000-0000000000012"', '"0189ffff--0000-7000-8000-000000000001"',
		'"0189ffff-0000-7000-8000-00000000000g"', '"0189ffff-0000-7000-8000-000000000001-"', '"-0189ffff-0000-7000-8000-000000000001"', '"0189fff-f0000-7000-8000-000000000001"', '"\\u0030189ffff-0000-7000-8000-000000000001"'),
	(map { "{\"type\": \"T\", \"type_version\": $_}" } 'null', '1', '1.0', '1e0', '10e-1', '-0', '0', '-1', '2', '1.5', '"1"', '999999999', '1000000000', '2147483647', '2147483648', '1e30', '{}', '-', '-x'));

sub edges
{
	return ('', ' ', '[', ']', '[]', " [\t] ", '[] x', '[]]', '[][]', '{}', '5', 'null', '"x"', '[,]', '[{"type": "T"},]', '[,{"type": "T"}]', '[{"type": "T"} {"type": "T"}]', '[{"type": "T"}, 5, ]', '[5, {"type": "T"}', '[{"x": 1}, {"type": \\u0000}]',
		(map { "[$_]" } @elements), (map { "[{\"type\": \"T\"}, $_, {\"type\": \"U\"}]" } @elements),
		(map { ("[{\"type\": \"T\", \"data\": $_}]", "[{\"type\": \"T\", \"data\": {\"a\": [1, $_, 2], \"b\": $_}, \"metadata\": {\"m\": $_}}]") } @good_scalars, @bad_scalars));
}

# ---- both ways ----

sub make_store
{
	my ($database, $encoding) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($database, q{
		CREATE EXTENSION eventstore;
		CREATE TABLE texts (n int PRIMARY KEY, events text, by_text text, by_jsonb text);

		-- what comes of a batch, in one way or the other
		CREATE FUNCTION outcome(by_text bool, stream text, events text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			said text; detail text; hint text; context text;
		BEGIN
			IF by_text THEN
				RETURN es_append_json(stream, events);
			END IF;
			RETURN es_append_batch(stream, events::jsonb);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
			RETURN concat_ws(' | ', SQLSTATE, said, replace(detail, stream, 'it'), hint, substring(context FROM '^JSON data[^\n]*'));
		END $$;

		-- what is stored of one, if both ways are the same
		CREATE FUNCTION same_events(a text, b text) RETURNS bool LANGUAGE sql AS $$
			SELECT COALESCE(bool_and((SELECT r FROM (SELECT x.type, x.data, x.metadata, x.type_version) r) *= (SELECT r FROM (SELECT y.type, y.data, y.metadata, y.type_version) r)
				AND (x.event_id = y.event_id OR left(x.event_id::text, 8) <> '0189ffff' AND left(y.event_id::text, 8) <> '0189ffff')), true)
			FROM es_read(a) x FULL JOIN es_read(b) y USING (version)
		$$;
	});
}

# compare_texts(database, what, usual, texts): each in both ways; usual: none is left to the server's parser
sub compare_texts
{
	my ($database, $what, $usual, @texts) = @_;
	my $rows = join ",\n", map { sprintf q{(%d, convert_from('\\x%s', 'UTF8'))}, $_, unpack 'H*', encode('UTF-8', $texts[$_]) } 0 .. $#texts;
	my ($ret, undef, $err) = $node->psql($database, qq{
		TRUNCATE texts;
		INSERT INTO texts (n, events) VALUES $rows;
		UPDATE texts SET by_jsonb = outcome(false, '$what' || n || '-b', events);
		SET client_min_messages = debug1;
		UPDATE texts SET by_text = outcome(true, '$what' || n || '-t', events);
	});
	my $left = () = $err =~ /are read by jsonb's input function/g;

	is($ret, 0, "$database: $what texts are appended") or diag $err;
	is($node->safe_psql($database, q{SELECT n || ': ' || left(events, 500) || E'\n' || by_text || E'\n' || by_jsonb FROM texts WHERE by_text IS DISTINCT FROM by_jsonb}), '',
		"$database: $what texts have the same outcome");
	is($node->safe_psql($database, qq{SELECT n || ': ' || left(events, 500) FROM texts WHERE by_text ~ '^\\d+\$' AND NOT same_events('$what' || n || '-b', '$what' || n || '-t')}), '',
		"$database: $what texts become the same events, byte for byte");
	is($left, 0, "$database: $what texts are not left to the server's parser") if $usual;
	return $node->safe_psql($database, q{SELECT count(*) FILTER (WHERE by_text ~ '^\d+$') || ' ' || count(*) FILTER (WHERE by_text LIKE '22P0%') FROM texts});
}

foreach ([ 'utf8', 'UTF8' ], [ 'latin', 'LATIN1' ])
{
	my ($database, $encoding) = @$_;

	$latin = $encoding eq 'LATIN1';
	make_store($database, $encoding);
	is(compare_texts($database, 'usual', 1, map { batch() } 1 .. $texts), "$texts 0", "$database: all usual texts are accepted");
	my ($accepted, $refused) = split / /, compare_texts($database, 'damaged', 0, map { damaged(batch()) } 1 .. $texts);
	cmp_ok($accepted, '>', $texts / 50, "$database: some damaged texts are accepted");
	cmp_ok($refused, '>', $texts / 4, "$database: many damaged texts are no JSON");
	($accepted, $refused) = split / /, compare_texts($database, 'edge', 0, edges());
	cmp_ok($accepted, '>', 100, "$database: texts at the edge are accepted");
	cmp_ok($refused, '>', 100, "$database: texts beyond it are no JSON");
}

# ---- all or nothing ----

my $good = '{"type": "T", "data": {"n": 1}}';
foreach my $last ('{"type": "T", "data": }', '5', '{"type": "T", "metadata": 5}', '{"type": "T", "data": "\\u0000"}')
{
	my $batch = '[' . "$good, " x 2000 . "$last]";

	isnt($node->psql('utf8', "SELECT es_append_json('whole-1', '$batch')"), 0, "a batch that ends with $last is refused");
}
is($node->safe_psql('utf8', q{SELECT es_stream_version('whole-1')}), '0', 'and nothing of it is stored');
is($node->safe_psql('utf8', "SELECT es_append_json('whole-1', '[" . "$good, " x 2000 . "$good]')"), '2001', 'without its end it is appended');

done_testing();
