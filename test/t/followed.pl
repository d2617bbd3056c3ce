# Who follows by a query gets the same events by each way there is: es_read_query, es_poll, the output plugin, and
# esfeed, from history as from the stream. A feed keeps its query, and es_alter_feed's counts from its commit on.
use strict;
use warnings;
use lib 'test/lib';
use EsfeedTest;
use EventstoreFeed;
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = feed_node('followed', "autovacuum = off\nmax_replication_slots = 20\n");
my $json = JSON::PP->new;

sub run { return $node->safe_psql('postgres', $_[0]) }
sub literal { my ($text) = @_; return q{'} . $text =~ s/'/''/gr . q{'} }
sub put { my ($stream, $type, $metadata) = @_; return run("SELECT es_append('$stream', '$type', metadata => " . literal($metadata) . '::jsonb)') }
sub state_now { return (sqlstates($node, 'postgres', $_[0]))[0] }
# What a slot has for some options, and is left there.
sub peek
{
	my ($feed, @options) = @_;
	my $options = join(', ', map { literal($_) } @options);
	return join ' ', map { "$_->{stream}/$_->{version}" } map { $json->decode($_) }
	  split /\n/, run("SELECT data FROM pg_logical_slot_peek_changes('es_$feed', NULL, NULL, VARIADIC ARRAY[$options]::text[])");
}
# What es_read_query has of events after a position, and of these what a condition holds for.
sub asked
{
	my ($query, $after, $condition) = @_;
	$condition //= 'true';
	return run(q{SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_read_query(} . literal($query) . "::jsonb, $after, NULL) WHERE $condition");
}
# What a file of esfeed's has.
sub filed { return join ' ', map { "$_->{stream}/$_->{version}" } messages($_[0]) }

# ---- one query, four ways

my @metadata = (
	'{"tags": ["course:1"]}', '{"tags": ["course:1", "student:2"]}', '{"tags": ["a,b", "say \"x\"", "it\'s"]}', '{"tags": ["a", "b", "a", "b"]}',
	'{"tags": ["größe:日本", "a,b"]}', '{"tags": ["course:1", 1, null, ["student:2"], {"x": 1}]}', '{"tags": "course:1"}', '{"tags": {"course:1": 1}}',
	'{"tags": []}', '{}', '{"Tags": ["course:1"], "by": "ann"}', '{"tags": ["course:1", "\u0041", "back\\\\slash", "%C3"], "z": "' . ('abcdefghij' x 100) . '"}',
	'{"tags": [' . join(', ', map { qq{"many:$_"} } 1 .. 1500) . ', "course:1"]}');
sub put_all
{
	foreach my $stream (qw(f-1 g-1))
	{
		put($stream, $_ % 2 ? 'Odd' : 'Even', $metadata[$_]) foreach 0 .. $#metadata;
	}
}
my @queries = (
	'[{"tags": ["course:1"]}]', '[{"tags": ["student:2", "course:1"], "types": ["Odd"]}]', '[{"tags": ["a,b"]}, {"tags": ["a", "b"]}]',
	'{"items": [{"tags": ["say \"x\"", "it\'s"]}, {"tags": ["größe:日本"]}, {"types": ["Even"], "tags": ["course:1"]}]}',
	'[{"types": ["Even"]}]', '[{"types": ["Even"]}, {"tags": ["course:1", "many:1500"]}]', '[{"tags": ["back\\\\slash", "A", "%C3"]}]',
	'[{"tags": ["nobody has this"]}]', '[{"tags": ["1"]}, {"types": ["Never", "Odd"], "tags": ["many:7"]}]',
	'[' . join(', ', map { qq({"tags": ["many:$_", "many:1"]}) } 1 .. 500) . ']',
	'[' . join(', ', '{"types": ["Even"], "tags": ["course:1"]}', '{"types": ["Other"]}', map { qq({"types": ["Odd", "Type $_"], "tags": ["a,b", "it's", "course:$_"]}) } 2 .. 30) . ', {"types": ["Even"], "tags": ["a,b"]}]',
	'[' . join(', ', (map { qq({"tags": ["many:$_", "nobody"]}) } 1 .. 30), '{"types": ["Never", "Odd"]}') . ']');

put_all();
my $middle = run('SELECT es_settled_position()');
run(q{SELECT es_create_feed('all')});
put_all();
foreach my $n (0 .. $#queries)
{
	my $query = $queries[$n];
	my ($whole, $later) = (asked($query, 0), asked($query, $middle));

	run("SELECT es_subscribe('s$n', query => " . literal($query) . ')');
	is(run("SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_poll('s$n', NULL)"), $whole, "query $n: es_poll has what es_read_query has");
	is(peek('all', query => $query), $later, "... the output plugin too");
	is(peek('all', query => $query, categories => 'g', types => '["Odd"]'), asked($query, $middle, q{stream = 'g-1' AND type = 'Odd'}), '... of what else is asked for');
	is((esfeed($node, '--feed', "q$n", '--create', '--query', $query, '--to', "file:$dir/q$n", '--until-caught-up'))[0], 0, '... and esfeed, from history');
	is(filed("$dir/q$n"), $whole, '... the same');
}
ok(length(asked($queries[0], 0)) > 0 && length(asked($queries[9], 0)) > 0, 'queries have events');
put_all();
foreach my $n (0, 3, 5, 9, 10)
{
	is((esfeed($node, '--feed', "q$n", '--query', $queries[$n], '--to', "file:$dir/q$n", '--until-caught-up'))[0], 0, "query $n: what came since");
	is(filed("$dir/q$n"), asked($queries[$n], 0), '... comes from the slot, by the same query');
}
like((esfeed($node, '--feed', 'q0', '--query', $queries[1], '--to', "file:$dir/q0", '--until-caught-up'))[2], qr/was begun with --query=/, 'a file goes on with the query that it was begun with');
run("SELECT es_drop_feed('$_'), es_unsubscribe('s' || substr('$_', 2))") foreach map { "q$_" } 0 .. $#queries;

# ---- what a feed has, and what is asked for besides

is(run(q{SELECT query FROM es_feeds WHERE feed = 'all'}), '', 'a feed without a query');
run(q{SELECT es_create_feed('kept', '{f}', NULL, 'json', '[{"tags": ["course:1"]}]')});
is(run(q{SELECT query FROM es_feeds WHERE feed = 'kept'}), '[{"tags": ["course:1"]}]', 'es_feeds shows the query of one that has it');
my $before = run('SELECT es_settled_position()');
put_all();
my $kept = asked('[{"tags": ["course:1"]}]', $before, q{stream = 'f-1'});
is(peek('kept'), $kept, 'whoever reads it gets what matches');
my $narrowed = asked('[{"tags": ["course:1", "student:2"]}, {"types": ["Odd"], "tags": ["course:1"]}]', $before, q{stream = 'f-1'});
is(peek('kept', query => '[{"tags": ["student:2"]}, {"types": ["Odd"]}]'), $narrowed, 'what is asked for narrows that');
is((esfeed($node, '--feed', 'kept', '--from', $before, '--query', '[{"tags": ["student:2"]}, {"types": ["Odd"]}]', '--to', "file:$dir/kept", '--until-caught-up'))[0], 0, 'esfeed too');
is(filed("$dir/kept"), $narrowed, '... in history');
put('f-9', 'Odd', '{"tags": ["course:1"]}');
put('f-9', 'Even', '{"tags": ["course:1"]}');
put('f-9', 'Odd', '{"tags": ["course:2"]}');
is((esfeed($node, '--feed', 'kept', '--from', $before, '--query', '[{"tags": ["student:2"]}, {"types": ["Odd"]}]', '--to', "file:$dir/kept", '--until-caught-up'))[0], 0, '... and later');
is(filed("$dir/kept"), "$narrowed f-9/1", '... from the slot');

# ---- changes count from their commit on

run(q{SELECT es_create_feed('late', query => '[{"tags": ["one"]}]')});
my ($one, $two) = map { qq({"tags": ["$_"]}) } qw(one two);
put("l-$_->[0]", 'T', $_->[1]) foreach [ 1, $one ], [ 2, $two ], [ 3, '{}' ];
run(q{SELECT es_alter_feed('late', NULL, NULL, NULL, '[{"tags": ["two"]}]')});
put("l-$_->[0]", 'T', $_->[1]) foreach [ 1, $one ], [ 2, $two ], [ 3, '{}' ];
run(q{SELECT es_alter_feed('late', '{l,m}', NULL, NULL)});
put("l-$_->[0]", 'T', $_->[1]) foreach [ 1, $one ], [ 2, $two ];
run(q{BEGIN; SELECT es_append('l-4', 'T'); SELECT es_alter_feed('late', NULL, NULL, NULL, 'null'); SELECT es_append('l-4', 'T'); COMMIT});
put("l-$_->[0]", 'T', $_->[1]) foreach [ 1, $one ], [ 3, '{}' ];
my $long = '[' . join(', ', '{"tags": ["größe:日本", "one"]}', map { qq({"tags": ["日本 $_"], "types": ["T $_", "Größe $_"]}) } 1 .. 3000) . ']';
run("SELECT es_alter_feed('late', NULL, NULL, NULL, " . literal($long) . ')');
put("l-5", $_->[0], $_->[1]) foreach [ 'Größe 3000', '{"tags": ["日本 3000"]}' ], [ 'T 2999', '{"tags": ["日本 2999", "x"]}' ], [ 'T 2999', '{"tags": ["日本 2998"]}' ], [ 'T', '{"tags": ["one", "größe:日本"]}' ];
my $late = 'l-1/1 l-2/2 l-2/3 l-4/1 l-4/2 l-1/4 l-3/3 l-5/1 l-5/2 l-5/4';
is(peek('late'), $late, 'a consumer that lags behind gets each event by the query that held at its commit');
is(run("SELECT query = " . literal($long) . q{::jsonb FROM es_feeds WHERE feed = 'late'}), 't', 'a query of 3,000 items is kept as it was given');
cmp_ok(run(q{SELECT count(*) FROM eventstore.feed_definitions d JOIN eventstore.feeds f USING (definition) WHERE f.name = 'late' AND d.query IS NOT NULL}), '>', 100, '... in parts');
run('VACUUM (FULL) eventstore.feed_definitions; REINDEX TABLE eventstore.feed_definitions');
is(peek('late'), $late, '... whatever an administrator does to the table');
run(q{SELECT pg_drop_replication_slot('es_late')});
is((esfeed($node, '--feed', 'late', '--create', '--to', "file:$dir/late", '--until-caught-up'))[0], 0, 'a feed whose slot is gone is made again');
is(run("SELECT query = " . literal($long) . q{::jsonb FROM es_feeds WHERE feed = 'late'}), 't', '... with its query');
is(filed("$dir/late"), 'l-5/1 l-5/2 l-5/4', '... by which history goes');

# ---- parts that lie in the table in another order than they were written in

put('l-6', 'T 17', '{"tags": ["日本 17"]}');
put('l-6', 'T 17', '{"tags": ["日本 18"]}');
is(peek('late'), 'l-6/1', 'what the feed made anew has');
run('CREATE INDEX reversed ON eventstore.feed_definitions (part DESC); CLUSTER eventstore.feed_definitions USING reversed; DROP INDEX eventstore.reversed');
is(run('SELECT bool_and(turned) FROM (SELECT part > lead(part) OVER (ORDER BY d.ctid) AS turned FROM eventstore.feed_definitions d JOIN eventstore.feeds f USING (definition) WHERE f.name = \'late\') x'), 't', 'its parts in reverse');
is(peek('late'), 'l-6/1', '... are put together by their numbers');

# ---- refused

is(state_now($_->[1]), $_->[0], "$_->[0] for $_->[1]")
  foreach [ '22023', q{SELECT es_alter_feed('late', NULL, NULL, NULL, '[{"tags": ["a"], "last": true}]')} ], [ '22023', q{SELECT es_alter_feed('late', NULL, NULL, NULL, '[]')} ],
  [ '22023', q{SELECT es_create_feed('bad', query => '[{"types": ["A"], "last": true}]')} ], [ '22023', q{SELECT es_create_feed('bad', query => 'null')} ],
  map { [ '22023', "SELECT count(*) FROM pg_logical_slot_peek_changes('es_all', NULL, NULL, 'query', " . literal($_) . ')' ] }
  '[{"tags": ["a"], "last": true}]', '[{"tags": ["a"]', '', 'course:1', '[]', 'null', '[{"tags": ["a"], "x": 1}]', '[1]';
is(run(q{SELECT count(*) FROM es_feeds WHERE feed = 'bad'}), '0', 'what is refused leaves no slot');
foreach my $case ([ '[{"tags": ["a"], "last": true}]', qr/cannot have "last"/ ], [ '[{"tags": ["a"]', qr/--query is not a query/ ], [ '[]', qr/query has no items/ ], [ ' ', qr/--query takes JSON/ ])
{
	my ($status, $out, $err) = esfeed($node, '--feed', 'bad', '--create', '--query', $case->[0], '--to', "file:$dir/bad", '--until-caught-up');
	is($status, 1, "esfeed --query '$case->[0]' is wrong usage");
	like($err, $case->[1], '... and says why');
}
is(run(q{SELECT count(*) FROM es_feeds WHERE feed LIKE 'bad%'}), '0', '... before anything is made');

# ---- transactions that are streamed while they are in progress, and a sink that keeps no state

run(q{SELECT es_drop_feed('late')});
run(q{SELECT es_create_feed('streamed', query => '[{"tags": ["wanted"]}]')});
run(q{BEGIN; SELECT count(es_append('stream-' || n % 7, 'T', metadata => CASE WHEN n % 100 = 0 THEN jsonb_build_object('filler', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i), 'tags', '["wanted"]'::jsonb)
	WHEN n % 2 = 0 THEN '{"tags": ["other"]}' ELSE '{}' END)) FROM generate_series(1, 3000) n; SAVEPOINT s; SELECT es_append('stream-1', 'Undone', metadata => '{"tags": ["wanted"]}'); ROLLBACK TO s; COMMIT});
my @frames = map { $json->decode($_) } split /\n/, run(q{SELECT data FROM pg_logical_slot_peek_changes('es_streamed', NULL, NULL, 'include_transaction', 'on', 'streaming', 'on')});
ok((grep { exists $_->{stream_start} } @frames), 'a large transaction is streamed');
is(scalar(final_events(@frames)), 30, '... of which what matches comes');
is(scalar(split / /, peek('streamed')), 30, '... as at its commit');
my ($status, $out, $err) = esfeed($node, '--feed', 'stdout', '--create', '--query', '[{"tags": ["wanted"]}]', '--to', '-', '--until-caught-up');
is($status, 0, 'esfeed to standard output, whose feed has another name until history is delivered');
is(scalar(split /\n/, $out), 30, '... has what matches');
put('stream-1', 'T', $_) foreach '{"tags": ["wanted"]}', '{"tags": ["other"]}';
($status, $out, $err) = esfeed($node, '--feed', 'stdout', '--to', '-', '--until-caught-up');
is(scalar(split /\n/, $out), 1, '... and goes on by the query that the feed was created with, without being told');

# ---- a consumer's rights

run(q{CREATE ROLE consumer LOGIN REPLICATION; SELECT es_grant('consumer', 'read')});
is((esfeed($node->connstr('postgres') . ' user=consumer', '--feed', 'kept', '--from', $before, '--to', "file:$dir/granted", '--until-caught-up'))[0], 0, 'a consumer of a feed with a query needs no more than one of all');
is(filed("$dir/granted"), "$kept f-9/1 f-9/2", '... and gets what the feed has');

# ---- rare tags are found by index, from whichever position on

run(q{SELECT count(es_append('bulk-' || n % 100, 'T', metadata => '{"tags": ["bulk"]}')) FROM generate_series(1, 20000) n});
run(q{SELECT es_subscribe('rare', query => '[{"tags": ["rare", "bulk"]}, {"tags": ["rarer"]}]')});
put('bulk-1', 'T', '{"tags": ["bulk", "rare"]}');
sub buffers
{
	my ($plan) = @{ $json->decode(run("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) $_[0]")) };
	return $plan->{Plan}{'Shared Hit Blocks'} + $plan->{Plan}{'Shared Read Blocks'};
}
run(q{SELECT count(*) FROM es_poll('rare')});
cmp_ok(buffers(q{SELECT count(*) FROM es_poll('rare')}), '<', 2000, 'a poll from the beginning does not walk over 20,000 events');
is(run(q{SELECT string_agg(stream, ' ') FROM es_poll('rare')}), 'bulk-1', '... and finds the one');
cmp_ok(buffers(q{SELECT lag_time FROM es_subscriptions WHERE subscription = 'rare'}), '<', 2000, 'nor does the time that it is behind');
is(run(q{SELECT es_ack('rare', 0, (SELECT max(position) FROM es_poll('rare'))); SELECT lag, lag_time IS NULL FROM es_subscriptions WHERE subscription = 'rare'}), "\n0|t", 'once it is acknowledged there is nothing left');

# ---- sessions that are warm, and waiting

my $warm = $node->background_psql('postgres', on_error_stop => 1);
run(q{SELECT es_subscribe('warm', NULL, query => '[{"tags": ["warm"]}]')});
is($warm->query_safe(q{SELECT count(*) FROM es_poll('warm')}), '0', 'a session that knows a query');
$warm->query_until(qr/polling/, "\\echo polling\nSELECT stream FROM es_poll('warm', wait => '100s');\n");
put('w-1', 'T', '{"tags": ["cold"]}');
run(q{SELECT es_alter_subscription('warm', NULL, NULL, NULL, '[{"tags": ["cold"]}]')});
like($warm->query_safe(''), qr/w-1/, '... hears of another one while it waits');
$warm->quit;

# ---- dumps

my $dump = "$dir/dump.sql";
run(q{SELECT es_subscribe('dumped', 0, '{f}', query => '{"items": [{"tags": ["größe:日本"]}]}')});
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
run('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('copy') ], 'is restored');
my $polled = q{SELECT string_agg(stream || '/' || version, ' ' ORDER BY position) FROM es_poll('dumped', NULL)};
is($node->safe_psql('copy', "SELECT query FROM es_subscriptions WHERE subscription = 'dumped'; $polled"), run("SELECT query FROM es_subscriptions WHERE subscription = 'dumped'; $polled"), '... with subscriptions\' queries');

done_testing();
