# compat/from_kurrentdb.sql and export_kurrentdb.mjs: KurrentDB's events from a file of JSON lines, in several calls; links, streams of
# the system, deleted and truncated ones, binary data; where consumers go on; and what is refused before anything is stored.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "timezone = 'Asia/Tokyo'\n");
my $folder = $node->config_data('--sharedir') . '/eventstore';
my $json = JSON::PP->new->canonical->allow_nonref;
my $tempdir = PostgreSQL::Test::Utils::tempdir();
my $files = 0;

# event(commit, stream, revision, members): as the client gives it, positions and revisions as text
sub event
{
	my ($commit, $stream, $revision, %members) = @_;

	return { streamId => $stream, id => sprintf('00000000-0000-0000-%04x-%012x', $revision & 0xffff, $commit), revision => "$revision", type => 'opened', isJson => JSON::PP::true,
		created => sprintf('2020-01-01T00:%02d:%02d.250Z', $revision / 60 % 60, $revision % 60), data => { commit => $commit }, metadata => { '$correlationId' => "c$commit" },
		position => { commit => "$commit", prepare => "$commit" }, %members };
}

# file(lines): a file of them
sub file
{
	my $file = "$tempdir/" . ++$files . '.jsonl';

	append_to_file($file, join '', map { (ref $_ ? $json->encode($_) : $_) . "\n" } @_);
	return $file;
}

# run_import(database, file, arguments, after): what psql prints after the import, what the call says, and what of it is an error
sub run_import
{
	my ($database, $file, $arguments, $after) = @_;
	my ($ret, $out, $err) = $node->psql($database, "\\i $folder/from_kurrentdb.sql\n"
		  . "\\copy kurrentdb_lines (line) FROM '$file' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')\n"
		  . 'CALL pg_temp.import_kurrentdb(' . ($arguments // '') . ");\n" . ($after // ''));

	return ($out, join "\n", map { s/^psql:.*?: //r } grep { /NOTICE|ERROR|DETAIL|HINT|COPY/ } split /\n/, $err);
}

# ---- all of it, in two files that overlap ----

$node->safe_psql('postgres', 'CREATE DATABASE whole');
$node->safe_psql('whole', "CREATE EXTENSION eventstore; SELECT es_append('mine-1', 'T')");
my @events = map { event(1000 + $_ * 137, 'account-' . $_ % 10, int($_ / 10), data => $_ == 7 ? { text => "a\\b\"c\n\t" } : $_ == 8 ? undef : { commit => $_ }) } 0 .. 99;
my $first = file(@events[0 .. 69]);
my ($out, $said) = run_import('whole', $first, 'batch_size => 30', 'SELECT pg_temp.imported_position(999), pg_temp.imported_position(1000 + 5 * 137), pg_temp.imported_position(1001 + 5 * 137)');
is($said, 'NOTICE:  70 events imported, up to global position 10453; 0 of them have a later time than there', 'a file of JSON lines');
is($out, '0|7|7', 'and commit positions that consumers have noted are translated');
($out, $said) = run_import('whole', file(@events[65 .. 99]), 'from_position => 10453');
is($said, 'NOTICE:  30 events imported, up to global position 14563; 0 of them have a later time than there', 'a later file, which begins with some of the same events');
my @stored = split /\n/, $node->safe_psql('whole', q{SELECT jsonb_build_object('s', stream, 'v', version, 't', type, 'd', data, 'm', metadata, 'i', event_id, 'r', recorded_at = created) FROM es_events,
	LATERAL (SELECT '2020-01-01 00:00:00.25+00'::timestamptz + (version - 1) * interval '1 s' AS created) c WHERE stream <> 'mine-1' ORDER BY position});
is_deeply([ map { $json->decode($_) } @stored ],
	[ map { { s => $_->{streamId}, v => $_->{revision} + 1, t => 'opened', d => $json->decode($json->encode($_->{data})), m => $_->{metadata}, i => $_->{id}, r => JSON::PP::true } } @events ],
	'all are as they were, in the order of the log');
is(gaps($node, 'whole'), '', 'versions have no gaps');

# ---- what else is in the log ----

$node->safe_psql('postgres', 'CREATE DATABASE kinds');
$node->safe_psql('kinds', 'CREATE EXTENSION eventstore');
my $tombstone = '9223372036854775807';
($out, $said) = run_import('kinds', file(
		event(1, '$settings', 0), event(2, 'order-1', 0), event(3, '$ce-order', 0, type => '$>', data => '0@order-1'), event(4, 'order-2', 0), event(5, 'order-3', 0),
		event(6, '$$order-2', 0, type => '$metadata', data => { '$tb' => 9223372036854775807 }),
		event(7, '$$order-3', 0, type => '$metadata', data => { '$tb' => 9223372036854775807 }), event(8, '$$order-3', 1, type => '$metadata', data => { '$tb' => 1 }),
		event(9, 'order-3', 1), event(10, 'order-1', 1, data => 'AQI=', isJson => JSON::PP::false, metadata => undef),
		{ event => event(11, 'order-4', 0), commitPosition => '11' }, { link => event(12, 'links-1', 0, type => '$>') }, event(13, 'order-4', 1, position => { commit => '11', prepare => '13' }),
		event(14, 'order-1', 0, type => '$streamDeleted', revision => $tombstone), ''),
	undef, 'SELECT string_agg(stream, \' \' ORDER BY stream) FROM pg_temp.kurrentdb_deleted');
is($said, 'NOTICE:  7 events imported, up to global position 11; 0 of them have a later time than there', 'links, streams of the system and metadata of streams stay away');
is($node->safe_psql('kinds', 'SELECT stream, version, data, metadata FROM es_events ORDER BY position'), <<'EOT' =~ s/\n\z//r, 'and the others are there');
order-1|1|{"commit": 2}|{"$correlationId": "c2"}
order-2|1|{"commit": 4}|{"$correlationId": "c4"}
order-3|1|{"commit": 5}|{"$correlationId": "c5"}
order-3|2|{"commit": 9}|{"$correlationId": "c9"}
order-1|2|"AQI="|{"content_type": "application/octet-stream"}
order-4|1|{"commit": 11}|{"$correlationId": "c11"}
order-4|2|{"commit": 13}|{"$correlationId": "c13"}
EOT
is($out, 'order-1 order-2', 'streams that were deleted, and not written to again, are known');

# ---- what is refused ----

$node->safe_psql('postgres', 'CREATE DATABASE refused');
$node->safe_psql('refused', 'CREATE EXTENSION eventstore');
my $seed = 1;
my $noise = join '', map { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; chr(37 + ($seed >> 16) % 90) } 1 .. 4000;
foreach my $case (
	[ '{"streamId": "a-1"}', qr/ERROR:  cannot import the file: lines must be events\nDETAIL:  lines must be events: 1 lines, the first is line 2\./, 'a line without what an event has' ],
	[ event(2, undef, 0), qr/ERROR:  cannot import the file: lines must be events\nDETAIL:  lines must be events: 1 lines, the first is line 2\./, 'a line whose stream is null' ],
	[ '[1]', qr/ERROR:  cannot import the file: lines must be events\n/, 'a line that is no object' ],
	[ event(2, 'order-1', 1, id => 'order 7'), qr/ERROR:  cannot import the file: ids must be UUIDs\nDETAIL:  ids must be UUIDs: 1 lines, the first is line 2\.\nHINT:  .*Mend the file/, 'an id that is no UUID' ],
	[ event(2, 'order-1', 1, revision => '1.5'), qr/ERROR:  cannot import the file: revisions and commit positions must be whole numbers\n/, 'a revision that is no number' ],
	[ event(2, 'order-1', 1, position => { commit => '99999999999999999999' }), qr/ERROR:  cannot import the file: revisions and commit positions must be whole numbers\n/, 'a commit position that is too large' ],
	[ event(2, 'order-1', 1, created => 'yesterday'), qr/ERROR:  cannot import the file: times must be as ISO 8601 has them, with their zone\n/, 'a time that is none' ],
	[ event(2, 'order-1', 1, created => '2026-02-30T00:00:00Z'), qr/ERROR:  cannot import the file: times must be as ISO 8601 has them, with their zone\nDETAIL:  .*: 1 lines, the first is line 2\./, 'a day that no month has' ],
	[ event(2, 'order-1', 1, created => '2026-02-03T24:30:00+09:00'), qr/ERROR:  cannot import the file: times must be as ISO 8601 has them, with their zone\n/, 'an hour that no day has' ],
	[ event(2, 'order-1', 1, created => '2026-02-03T00:00:00+99:00'), qr/ERROR:  cannot import the file: times must be as ISO 8601 has them, with their zone\n/, 'a zone that is none' ],
	[ event(2, 'order-' . $noise, 0),
		qr/ERROR:  cannot import the file: names of streams must be 1 to 512 bytes long, without control characters\nDETAIL:  .*: 1 lines, the first is line 2\./, 'a name that is too long for an index' ],
	[ event(2, 'order-1', 1, created => '10000-01-01T00:00:00Z'), qr/ERROR:  cannot import the file: times must be in the years 1 to 9999 in UTC\n/, 'a time beyond all' ],
	[ event(2, 'order-1', 1, data => { x => "\0" }), qr/ERROR:  unsupported Unicode escape sequence\n.*COPY kurrentdb_lines, line 2/s, 'a character that jsonb cannot have' ],
	[ event(2, "order\x{7f}1", 0), qr/ERROR:  cannot import the file: names of streams must be 1 to 512 bytes long, without control characters\n/, 'a name with a control character' ],
	[ event(2, 'order-1', 1, id => '00000000-0000-0000-0000-000000000001'), qr/ERROR:  cannot import the file: ids must come once in a stream\n/, 'an id that comes again with another revision' ],
	[ '{"streamId": "a-1"', qr/ERROR:  invalid input syntax for type json\n.*COPY kurrentdb_lines, line 2/s, 'a line that is no JSON' ],
	[ event(2, 'order-1', 3), qr/ERROR:  cannot import the file: streams must have all of their events\nDETAIL:  .*: 1 events, the first at global position 2, version 4 of stream order-1\./, 'a stream that lacks events' ],
	[ event(2, 'order-1', 1, metadata => [1]), qr/ERROR:  cannot import the file: metadata must be objects\nDETAIL:  metadata must be objects: 1 events, the first at global position 2, version 2 of stream order-1\./, 'metadata that are no object' ])
{
	my ($line, $says, $name) = @$case;

	like((run_import('refused', file(event(1, 'order-1', 0), $line)))[1], $says, "$name is refused");
	is($node->safe_psql('refused', 'SELECT count(*) FROM es_events'), '0', 'and nothing is stored');
}
like((run_import('refused', file(event(1, 'order-1', 5), event(2, 'order-1', 6)), 'renumber => true'))[1], qr/^NOTICE:  2 events imported/, 'a truncated stream may close up');
is($node->safe_psql('refused', 'SELECT stream, version FROM es_events ORDER BY position'), "order-1|1\norder-1|2", 'and begins at 1');
my $part = file(event(3, 'order-1', 7));
like((run_import('refused', $part, 'renumber => true'))[1], qr/^ERROR:  cannot import the file: streams in the store must have what they have there\nDETAIL:  .*\nHINT:  .* give from_position, the position that the last notice has named\.$/,
	'a part that has none of the events before it does not tell where it goes on, which is said');
is($node->safe_psql('refused', 'SELECT count(*) FROM es_events'), '2', 'and nothing is stored');
like((run_import('refused', $part, 'from_position => 2, renumber => true, only_check => true'))[1], qr/^NOTICE:  1 events can be imported, up to global position 3;/, 'told that, it does');
like((run_import('refused', file(event(2, 'order-1', 6), event(3, 'order-1', 7)), 'from_position => 2, renumber => true'))[1], qr/^NOTICE:  1 events imported, up to global position 3;/, 'it goes on with a second file');
is($node->safe_psql('refused', 'SELECT version, data FROM es_events ORDER BY position'), qq{1|{"commit": 1}\n2|{"commit": 2}\n3|{"commit": 3}}, 'and closes up there, too');
$node->safe_psql('refused', q{SELECT es_append('mine-1', 'T'), es_append('mine-1', 'T'), es_append('mine-1', 'T')});
like((run_import('refused', file(event(3, 'order-1', 7), event(4, 'mine-1', 2)), 'from_position => 3, renumber => true'))[1],
	qr/^ERROR:  cannot import the file: versions must come once in a stream, in their order\nDETAIL:  .*: 1 events, the first at global position 4, version 3 of stream mine-1\./, 'a stream that the store has from elsewhere is not gone on with');
like((run_import('refused', file(event(3, 'order-1', 7), event(5, 'leap-1', 0, created => '2024-02-29T08:30:00+09:00')), 'from_position => 3'))[1], qr/^NOTICE:  1 events imported/, 'the 29th of February is a day');
is($node->safe_psql('refused', q{SELECT recorded_at = '2024-02-28T23:30:00Z' FROM es_events WHERE stream = 'leap-1'}), 't', 'with its zone');

# ---- the program that writes the file, with a client that gives what KurrentDB's does ----

SKIP:
{
	skip 'there is no Node.js', 2 if system('node --version >/dev/null 2>&1') != 0;
	my $package = "$tempdir/node_modules/\@kurrent/kurrentdb-client";

	system('mkdir', '-p', $package) == 0 && system('cp', "$folder/export_kurrentdb.mjs", $tempdir) == 0 or die 'cannot make the package';
	append_to_file("$package/package.json", '{"name": "@kurrent/kurrentdb-client", "type": "module", "main": "index.js"}');
	append_to_file("$package/index.js", <<'EOT');
export const FORWARDS = 'forwards', START = 'start';
const event = (n, more) => ({ streamId: 'order-1', id: `00000000-0000-0000-0000-00000000000${n}`, isJson: true, revision: BigInt(n), type: 'opened', created: new Date(1577836800250),
	data: { n }, metadata: undefined, position: { commit: 9007199254740993n + BigInt(n), prepare: 9007199254740993n + BigInt(n) }, ...more });
const all = [{ event: event(0, { metadata: { m: 1 } }) }, { link: {} }, { event: event(1, { isJson: false, data: new Uint8Array([1, 2]) }) }];
export const KurrentDBClient = { connectionString: () => ({
	async *readAll({ fromPosition }) { yield* fromPosition === START ? all : all.filter(({ event }) => event?.position.commit >= fromPosition.commit); },
	async dispose() {} }) };
EOT
	append_to_file("$tempdir/export.sh", "set -e\ncd $tempdir\nnode export_kurrentdb.mjs kurrentdb://here >all.jsonl\nnode export_kurrentdb.mjs kurrentdb://here 9007199254740994 >later.jsonl\n");
	is(system('bash', "$tempdir/export.sh"), 0, 'the program writes files');
	$node->safe_psql('postgres', 'CREATE DATABASE exported');
	$node->safe_psql('exported', 'CREATE EXTENSION eventstore');
	my $one = (run_import('exported', "$tempdir/all.jsonl"))[1];
	is($one . "\n" . (run_import('exported', "$tempdir/later.jsonl", 'from_position => 9007199254740994'))[1] . "\n"
		  . $node->safe_psql('exported', "SELECT version, data, metadata, recorded_at = '2020-01-01 00:00:00.25Z' FROM es_events ORDER BY 1"), <<'EOT' =~ s/\n\z//r, 'that are read, no position rounded');
NOTICE:  2 events imported, up to global position 9007199254740994; 0 of them have a later time than there
NOTICE:  0 events imported, up to global position 9007199254740994; 0 of them have a later time than there
1|{"n": 0}|{"m": 1}|t
2|"AQI="|{"content_type": "application/octet-stream"}|t
EOT
}

done_testing();
