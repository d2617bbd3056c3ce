# Data of a dump without its definitions, into a store that CREATE EXTENSION made,
# and into one in use: nothing of it stays that tells of events which are not there,
# and what was there is as before.  After the definitions it goes through.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($psql, $pg_dump, $pg_restore) = map { $node->installed_command($_) } qw(psql pg_dump pg_restore);

sub target { return '-d "' . $node->connstr($_[0]) . '"'; }

$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(200);
	SELECT es_create_projection('sums', 'count', 'inline'), es_subscribe('reader');
	SELECT count(es_append('order-' || n % 37, 'OrderPlaced', jsonb_build_object('n', n), '{"tags": ["t"]}')) FROM generate_series(1, 700) n;
	SELECT es_snapshot('order-1', 'count'), es_ack('reader', 0, max(position)) FROM es_poll('reader', 500);
});
my $digest = store_digest($node, 'source');
command_ok([ 'sh', '-ec', "$pg_dump -Fc " . target('source') . " -f $dir/dump && $pg_dump -a " . target('source') . " -f $dir/data.sql" ], 'dumped');

my %ways = (
	serial => "$pg_restore -a TARGET $dir/dump",
	parallel => "$pg_restore -a -j 2 TARGET $dir/dump",
	single => "$pg_restore -a --single-transaction TARGET $dir/dump",
	script => "$psql -Xq TARGET -f $dir/data.sql",
	strict => "$psql -Xq -v ON_ERROR_STOP=1 TARGET -f $dir/data.sql");

sub data_only
{
	my ($database, $way) = @_;

	(my $command = $ways{$way}) =~ s/TARGET/target($database)/e;
	my ($out, $err);
	my $ok = IPC::Run::run([ 'sh', '-ec', $command ], '>', \$out, '2>', \$err);
	return "$out$err";
}

foreach my $way (sort keys %ways)
{
	# a store as CREATE EXTENSION makes it
	my $fresh = "fresh_$way";
	new_store($node, $fresh);
	like(data_only($fresh, $way), qr/the event store has no segment|relation "eventstore.events_\d" does not exist/, "$way: data without segments is refused");
	is($node->safe_psql($fresh, join(' UNION ALL ', map { "SELECT count(*) FROM eventstore.$_" }
				qw(events streams segments snapshots projection_states))), join("\n", (0) x 5), "$way: nothing tells of events that are not there");
	is($node->safe_psql($fresh, q{SELECT es_append('order-1', 'Anew', expected_version => 0); SELECT stream, version, type FROM es_read_all()}), "1\norder-1|1|Anew",
		"$way: and the store is of use");

	# one in use, whose streams have ids that others have in the dump
	my $used = "used_$way";
	$node->safe_psql('postgres', "CREATE DATABASE $used");
	$node->safe_psql($used, q{
		CREATE EXTENSION eventstore;
		SELECT es_set_segment_size(200);
		SELECT es_create_projection('sums', 'count', 'inline');
		SELECT es_append('mine-' || n, 'Mine', jsonb_build_object('n', n)) FROM generate_series(1, 5) n;
	});
	my $events = q{SELECT position, stream, version, type FROM es_read_all() UNION ALL SELECT position, stream, version, type FROM es_events ORDER BY 1};
	my $facts = q{SELECT count(*) FROM eventstore.streams; SELECT count(*) FROM eventstore.segments; SELECT count(*) FROM es_read_tagged('{t}'); SELECT count(*) FROM eventstore.snapshots;
		SELECT key, state FROM es_projection('sums') ORDER BY key};
	my ($before, $counts) = ($node->safe_psql($used, $events), $node->safe_psql($used, $facts));
	like(data_only($used, $way), qr/because the event store has events of its own|duplicate key/, "$way: data is refused by a store in use");
	is($node->safe_psql($used, $events), $before, "$way: whose events are what they were");
	is($node->safe_psql($used, $facts), $counts, "$way: and all that tells of them");
	is($node->safe_psql($used, q{SELECT es_append('mine-3', 'Mine', '{"m": 1}', expected_version => 1); SELECT state FROM es_replay('mine-3', 'merge'); SELECT state FROM es_replay('mine-3', 'count')}),
		qq{2\n{"m": 1, "n": 3}\n{"count": 2}}, "$way: appends and replays go on") or diag slurp_file($node->logfile);

	# after the definitions
	my $whole = "whole_$way";
	$node->safe_psql('postgres', "CREATE DATABASE $whole");
	command_ok([ 'sh', '-ec', "$pg_restore -s --exit-on-error " . target($whole) . " $dir/dump" ], "$way: definitions alone");
	unlike(data_only($whole, $way), qr/ERROR/, "$way: and then the data");
	is(store_digest($node, $whole), $digest, "$way: are an equal store");
}

# ---- the sequence behind the log ----

$node->safe_psql('postgres', 'CREATE DATABASE behind');
$node->safe_psql('behind', q{CREATE EXTENSION eventstore; SELECT count(es_append('a-1', 'A')) FROM generate_series(1, 50);});
my $last = $node->safe_psql('behind', 'SELECT max(position) FROM es_events');
$node->safe_psql('behind', "SELECT setval('eventstore.position_seq', 10)");
is(sqlstates($node, 'behind', q{SELECT es_append('a-1', 'B')}), '55000', 'positions are not given out again');
is(sqlstates($node, 'behind', q{SELECT es_append('b-1', 'B')}), '55000', 'to no stream');
my ($status, $out, $err) = $node->psql('behind', q{SELECT es_append('b-1', 'B')});
like($err, qr/HINT:.*setval\('eventstore.position_seq', $last\)/, 'and it says what to do');
$node->safe_psql('behind', "SELECT setval('eventstore.position_seq', $last)");
is($node->safe_psql('behind', q{SELECT es_append('a-1', 'B'), es_last_position() > } . $last), '51|t', 'which helps');

# what superusers do with single events goes on
is(sqlstates($node, 'behind', q{INSERT INTO eventstore.events_0 SELECT nextval('eventstore.position_seq'), stream_id, 52, recorded_at, gen_random_uuid(), category_key, type_version, 1, false, stream, 'Planted', data, metadata FROM eventstore.events_0 WHERE version = 51}),
	'', 'an event may be put in at a position that was given out');
is(sqlstates($node, 'behind', q{INSERT INTO eventstore.events_0 SELECT 1000, stream_id, 53, recorded_at, gen_random_uuid(), category_key, type_version, 1, false, stream, 'Planted', data, metadata FROM eventstore.events_0 WHERE version = 52}),
	'55000', 'but not at one that is still to come');
is(sqlstates($node, 'behind', q{INSERT INTO eventstore.events SELECT 1000, stream_id, 53, recorded_at, gen_random_uuid(), category_key, type_version, 1, false, stream, 'Planted', data, metadata FROM eventstore.events_0 WHERE version = 52}),
	'55000', 'nor through the log');
is($node->safe_psql('behind', q{SELECT es_append('a-1', 'C'), type FROM es_read('a-1', 52, 1)}), '53|Planted', 'the stream goes on after it');
is(sqlstates($node, 'behind', q{INSERT INTO eventstore.events_0 SELECT nextval('eventstore.position_seq'), stream_id, 99, recorded_at, gen_random_uuid(), category_key, type_version, 1, false, stream, 'Planted', data, metadata FROM eventstore.events_0 WHERE version = 52}),
	'55000', 'nor one that leaves out versions of its stream');
is(sqlstates($node, 'behind', q{INSERT INTO eventstore.events SELECT nextval('eventstore.position_seq'), stream_id, 54, recorded_at, gen_random_uuid(), category_key, type_version, 1, false, 'another-1', 'Planted', data, metadata FROM eventstore.events_0 WHERE version = 52}),
	'55000', 'nor one whose stream has another id');

# states tell of events, too, and those of each projection have a table
$node->safe_psql('behind', q{SELECT es_create_projection('sums', 'count', 'inline')});
my $states = q{SELECT key, version, state FROM es_projection('sums')};
my $sums = $node->safe_psql('behind', $states);
is($sums, 'a-1|53|{"count": 53}', 'a projection has states');
foreach my $table ('projection_states_1', 'projection_states')
{
	is(sqlstates($node, 'behind', qq{INSERT INTO eventstore.$table (projection_id, generation, version, position, key, state)
		SELECT projection_id, generation, 1, 1, 'other-1', '{"count": 9}' FROM eventstore.projection_progress}), '55000', "rows of $table are refused by a store in use");
}
is($node->safe_psql('behind', $states), $sums, '... whose states are what they were');

# sequences that are set before the events come: what jobs of pg_restore do in which order is theirs
$node->safe_psql('postgres', 'CREATE DATABASE jobs');
$node->safe_psql('jobs', q{
	CREATE EXTENSION eventstore;
	SELECT es_set_segment_size(200);
	SELECT count(es_append('mine-' || n % 37, 'Mine', jsonb_build_object('n', n))) FROM generate_series(1, 150) n;
});
$node->poll_query_until('jobs', q{SELECT count(*) > 1 FROM eventstore.segments}) or die 'no segment was made ahead';
my $whole_log = q{SELECT count(*), max(position) FROM eventstore.events; SELECT stream, version FROM es_read('mine-3')};
my $own = $node->safe_psql('jobs', $whole_log);
$node->safe_psql('jobs', q{SELECT setval('eventstore.position_seq', 700)});
command_checks_all([ 'sh', '-ec', "$pg_dump -a -t eventstore.events_1 " . target('source') . " | $psql -Xq -v ON_ERROR_STOP=1 " . target('jobs') ],
	3, [qr/^/], [qr/the event store has events of its own/], 'events of another store\'s streams are refused also where the sequence has been set');
is($node->safe_psql('jobs', $whole_log), $own, 'and nothing of them stays');
$node->stop;
done_testing();
