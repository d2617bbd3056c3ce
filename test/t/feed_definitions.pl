# A feed keeps its categories, types and format, whoever reads it, and es_alter_feed counts
# from its commit on in the WAL, however far behind the consumer is.
use strict;
use warnings;
use lib 'test/lib';
use EsfeedTest qw(esfeed);
use EventstoreFeed;
use EventstoreTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('definitions', streaming => 'logical', conf => "logical_decoding_work_mem = 64kB\nautovacuum = off\n");
new_store($node, 'here', 300);

sub run { return $node->safe_psql('here', $_[0]) }
sub append { my ($stream, $type) = @_; return run("SELECT es_append('$stream', '$type')") }
# The events since the last time, as stream/type.
sub names { return join ' ', map { exists $_->{specversion} ? "$_->{subject}:$_->{type}" : "$_->{stream}/$_->{type}" } @_ }
sub read_feed { my ($feed, @options) = @_; return names(feed($node, 'here', "es_$feed", @options)) }
sub peek
{
	my ($feed) = @_;
	return names(map { JSON::PP->new->decode($_) } split /\n/, run("SELECT data FROM pg_logical_slot_peek_changes('es_$feed', NULL, NULL)"));
}
sub state_of { return (sqlstates($node, 'here', $_[0]))[0] }
sub shown { return run("SELECT concat_ws('|', categories, types, format) FROM es_feeds WHERE feed = '$_[0]'") }

# ---- what a feed has, and what a consumer asks for ----

run(q{SELECT es_create_feed('orders', '{order,invoice}', '{Placed,Paid}')});
is(shown('orders'), '{order,invoice}|{Placed,Paid}|json', 'es_feeds shows what a feed lets through');
append(@$_) foreach [ 'order-1', 'Placed' ], [ 'order-1', 'Seen' ], [ 'user-1', 'Placed' ], [ 'invoice-1', 'Paid' ];
is(peek('orders'), 'order-1/Placed invoice-1/Paid', 'who asks for nothing gets what the feed lets through');
is(read_feed('orders', categories => 'invoice,user'), 'invoice-1/Paid', 'who asks for something gets what is in both');
append('order-2', 'Placed');
append('order-2', 'Paid');
is(read_feed('orders', types => 'Paid,Seen', stream_prefix => 'order-'), 'order-2/Paid', 'by types as well');

# ---- changes count from their commit on ----

run(q{SELECT es_create_feed('late', '{a}')});
append('a-1', 'One');
append('b-1', 'One');
run(q{SELECT es_alter_feed('late', '{b}', NULL, NULL)});
append('a-1', 'Two');
append('b-1', 'Two');
run(q{SELECT es_alter_feed('late', '{}', '{Three}', 'cloudevents')});
append('a-1', 'Three');
append('b-1', 'Four');
append('c-1', 'Three');
my $all = 'a-1/One b-1/Two a-1:Three c-1:Three';
is(shown('late'), '{Three}|cloudevents', 'an empty list lets everything through');
is(peek('late'), $all, 'a consumer that lags behind gets each event by what held at its commit');
run('VACUUM (FULL) eventstore.feeds; VACUUM (FULL) eventstore.feed_definitions; REINDEX TABLE eventstore.feeds; REINDEX TABLE eventstore.feed_definitions');
run('ALTER TABLE eventstore.feeds ADD COLUMN note text DEFAULT \'x\'');
is(peek('late'), $all, '... whatever an administrator does to the tables');
$node->stop('immediate');
$node->start;
is(peek('late'), $all, '... after a crash');
# pieces: the slot is decoded anew for each
my @pieces = map { names(map { JSON::PP->new->decode($_) } split /\n/, run("SELECT data FROM pg_logical_slot_get_changes('es_late', NULL, 1)")) } 1 .. 4;
is(join(' ', @pieces), $all, '... and by pieces, each of which begins where the one before it ended');
run('ALTER TABLE eventstore.feeds DROP COLUMN note');

# ---- a transaction and changes of the feed ----

run(q{SELECT es_create_feed('mixed', '{a}')});
run(q{BEGIN; SELECT es_append('a-1', 'Before'), es_append('b-1', 'Before'); SELECT es_alter_feed('mixed', '{b}', NULL, NULL);
	SELECT es_append('a-1', 'After'), es_append('b-1', 'After'); COMMIT});
is(read_feed('mixed'), 'b-1/Before b-1/After', 'a transaction that changes the feed goes by its own change as a whole');
run(q{BEGIN; SELECT es_append('b-1', 'Kept'); SAVEPOINT s; SELECT es_alter_feed('mixed', '{c}', NULL, NULL); ROLLBACK TO s; COMMIT});
is(read_feed('mixed'), 'b-1/Kept', 'a change that is rolled back is none');
my $open = $node->background_psql('here');
$open->query_safe(q{BEGIN; SELECT es_append('b-1', 'Open'), es_append('d-1', 'Open')});
run(q{SELECT es_alter_feed('mixed', '{d}', NULL, NULL)});
append('d-2', 'Meanwhile');
$open->query_safe('COMMIT');
is(read_feed('mixed'), 'd-2/Meanwhile d-1/Open', 'what counts is when the events were committed, not when they were appended');
$open->quit;

# a transaction that is streamed while in progress: each block by what holds there
my $large = q{SELECT count(es_append(s || '-1', 'Large', jsonb_build_object('pad', repeat(md5(n::text), 30)))) FROM generate_series(1, 200) n, unnest('{a,d}'::text[]) s};
run("BEGIN; $large; COMMIT");
my %streamed;
$streamed{ $_->{stream} }++ foreach final_events(feed($node, 'here', 'es_mixed', include_transaction => 'on', streaming => 'on'));
is(join(' ', %streamed), 'd-1 200', 'a transaction that is streamed while in progress');

# ---- prepared transactions go by what holds where they are sent ----

SKIP:
{
	run(q{SELECT es_create_feed('prepared', '{a}')});
	run(q{BEGIN; SELECT es_append('a-1', 'Prepared'), es_append('b-1', 'Prepared'); PREPARE TRANSACTION 'definitions'});
	is(join(' ', map { $_->{stream} } grep { exists $_->{position} } feed($node, 'here', 'es_prepared', include_transaction => 'on', two_phase => 'on')),
		'a-1', 'sent at PREPARE: by what holds then');
	run(q{SELECT es_alter_feed('prepared', '{b}', NULL, NULL)});
	run(q{COMMIT PREPARED 'definitions'});
	is(join(' ', map { $_->{stream} } grep { exists $_->{position} } feed($node, 'here', 'es_prepared', include_transaction => 'on', two_phase => 'on')),
		'', '... and not sent again');
}

# ---- long lists ----

my $many = q{(SELECT array_agg('Type number ' || n) FROM generate_series(1, 20000) n)};
run("SELECT es_create_feed('many', '{a}', $many)");
append('a-1', $_) foreach 'Type number 1', 'Type number 20000', 'Type number 20001';
is(peek('many'), 'a-1/Type number 1 a-1/Type number 20000', 'a list of 20,000 names');
is(run("SELECT types = $many FROM es_feeds WHERE feed = 'many'"), 't', '... is shown as it was given');

# ---- formats ----

run(q{SELECT es_create_feed('cloud', '{a}', NULL, 'cloudevents')});
append('a-1', 'Cloud');
is(peek('cloud'), 'a-1:Cloud', 'the format is the feed\'s');
is(state_of(q{SELECT count(*) FROM pg_logical_slot_peek_changes('es_cloud', NULL, NULL, 'format', 'json')}), '22023', 'who insists on another one is refused');
is(read_feed('cloud', format => 'cloudevents'), 'a-1:Cloud', 'the same one may be asked for');

# ---- slots and definitions that are without each other ----

run(q{SELECT pg_drop_replication_slot('es_cloud')});
is(run(q{SELECT slot_name IS NULL, categories, format FROM es_feeds WHERE feed = 'cloud'}), 't|{a}|cloudevents', 'a feed whose slot is gone');
run(q{SELECT es_create_feed('cloud', '{b}')});
append('a-1', 'New');
append('b-1', 'New');
is(read_feed('cloud') . ' ' . shown('cloud'), 'b-1/New {b}|json', '... can be made again, with what it is given then');
run(q{SELECT es_drop_feed('cloud')});
is(run(q{SELECT count(*) FROM es_feeds WHERE feed = 'cloud'}), '0', 'es_drop_feed takes both');
run(q{SELECT pg_create_logical_replication_slot('es_hand', 'eventstore')});
append('a-1', 'Hand');
is(peek('hand'), 'a-1/Hand', 'a slot that was made by hand lets everything through');
run(q{SELECT es_alter_feed('hand', '{b}', NULL, NULL)});
append('a-1', 'Hand2');
append('b-1', 'Hand2');
is(read_feed('hand'), 'a-1/Hand b-1/Hand2', '... until es_alter_feed says what');

# ---- refused ----

is(state_of($_->[1]), $_->[0], "$_->[0] for $_->[1]")
  foreach [ '22004', q{SELECT es_share_feed('hand', NULL)} ],
  [ '22023', q{SELECT es_share_feed('hand', 'No Name!')} ], [ '22023', q{SELECT es_share_feed('hand', '')} ], [ '22023', q{SELECT es_share_feed('hand', repeat('x', 2500))} ],
  [ 'VE004', q{SELECT es_alter_feed('none', '{a}', NULL, NULL)} ], [ '22004', q{SELECT es_alter_feed(NULL, '{a}', NULL, NULL)} ],
  [ '22023', q{SELECT es_alter_feed('hand', '{a-b}', NULL, NULL)} ], [ '22023', q{SELECT es_alter_feed('hand', NULL, '{""}', NULL)} ],
  [ '22004', q{SELECT es_alter_feed('hand', '{NULL}', NULL, NULL)} ], [ '22023', q{SELECT es_alter_feed('hand', NULL, NULL, 'xml')} ],
  [ '25006', q{BEGIN READ ONLY; SELECT es_alter_feed('hand', NULL, NULL, NULL)} ],
  [ '42501', q{CREATE ROLE other; SET ROLE other; SELECT es_alter_feed('hand', NULL, NULL, NULL)} ],
  [ 'VE002', q{UPDATE eventstore.feed_definitions SET format = 'json'} ];

# ---- many changes: those that nobody can come before any more are given up ----

run(q{SELECT es_alter_feed('hand', ARRAY['n' || n], NULL, NULL) FROM generate_series(1, 3) n}) foreach 1 .. 20;
read_feed('hand');
run('CHECKPOINT');
run(q{SELECT es_append('n3-1', 'Last')});
is(read_feed('hand'), 'n3-1/Last', 'many changes');
run(q{SELECT es_alter_feed('hand', '{n4}', NULL, NULL)});
cmp_ok(run(q{SELECT count(*) FROM eventstore.feed_definitions d JOIN eventstore.feeds f USING (definition) WHERE f.name = 'hand'}), '<=', 62, 'no more revisions than changes');

# ---- a dump has neither slots nor feeds ----

my $dump = "$PostgreSQL::Test::Utils::tmp_check/dump.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('here') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('copy') ], 'is restored');
is($node->safe_psql('copy', 'SELECT count(*) FROM es_feeds'), '0', 'feeds are the server\'s own, as their slots are');

# ---- esfeed: history by what the feed has now, the stream as the plugin has it ----

run(q{SELECT es_create_feed('shipped', '{ship}', '{Sent}', 'cloudevents')});
append(@$_) foreach [ 'ship-1', 'Sent' ], [ 'ship-1', 'Lost' ], [ 'other-1', 'Sent' ];
my $sink = "$PostgreSQL::Test::Utils::tmp_check/shipped";
is((esfeed($node->connstr('here'), '--feed', 'shipped', '--from', 'beginning', '--to', "file:$sink", '--until-caught-up'))[0], 0, 'esfeed reads the feed');
is(names(messages($sink)), 'ship-1:Sent', '... by its categories, types and format');
append('ship-2', 'Sent');
append('other-2', 'Sent');
is((esfeed($node->connstr('here'), '--feed', 'shipped', '--to', "file:$sink", '--until-caught-up'))[0], 0, '... and goes on');
is(names(messages($sink)), 'ship-1:Sent ship-2:Sent', '... in the same way');

$node->stop;
done_testing();
