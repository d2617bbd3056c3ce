# Appends to streams whose last event is in a sealed segment: they read no row there, but for
# the few that must, and decide as if they had.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nmax_worker_processes = 20\n");

sub query { return $node->safe_psql('postgres', $_[0]); }

# fails(sqlstate, sql, what): in a session of its own
sub fails
{
	my ($sqlstate, $sql, $what) = @_;
	return is(sqlstates($node, 'postgres', $sql), $sqlstate, $what);
}

# rows_read(sql): rows of segment 0 that a statement reads, led there by the index of streams, in a new session
sub rows_read
{
	my ($sql) = @_;
	my $rows = q{SELECT pg_stat_get_tuples_fetched('eventstore.events_0_stream'::regclass)};
	my $before = query($rows);

	query("$sql; SELECT pg_stat_force_next_flush()");
	return query($rows) - $before;
}

my $time = 'SELECT latest_at FROM eventstore.segment_times WHERE segment = 0';
my $newest = 'SELECT max(recorded_at) FROM eventstore.events_0';

# set_time(time): has segment 0 say that its last event was recorded then; undef: that it is not known
sub set_time
{
	my ($at) = @_;
	my $table = 'ALTER TABLE eventstore.segment_times';

	return query("$table DISABLE TRIGGER guard_rows; $table DISABLE TRIGGER guard_own; "
		. (defined $at ? "UPDATE eventstore.segment_times SET latest_at = '$at'" : 'DELETE FROM eventstore.segment_times')
		. " WHERE segment = 0; $table ENABLE ALWAYS TRIGGER guard_rows; $table ENABLE ALWAYS TRIGGER guard_own");
}

my $rounds = 0;

# come_by(): has a worker come by now, as a rule is made; it removes an event, and then looks for times
sub come_by
{
	$rounds++;
	query("SELECT es_append('short-$rounds', 'T'), es_append('short-$rounds', 'T'); SELECT es_truncate_stream('short-$rounds', 2)");
	return query("SELECT es_set_retention('nothing', max_count => $rounds)");
}

query('CREATE EXTENSION eventstore');
query('SELECT es_set_segment_size(1000)');
query(q{SELECT count(es_append('s-' || n % 100, 'T', jsonb_build_object('n', n))) FROM generate_series(1, 899) n});
query(q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('past-1', 'T', '2001-01-01 00:00:00Z'), ('past-1', 'T', '2002-01-01 00:00:00Z')});
query(q{SELECT es_append_batch('cut-1', '[{"type": "T"}, {"type": "T"}]')});
query(q{SELECT es_append('back-' || n, 'T') FROM generate_series(1, 95) n});
query(q{BEGIN; SELECT es_append('s-1', 'T'); ROLLBACK});

# A session from before: its first append is to a segment that is not sealed, as a prepared transaction has an event in it.
query(q{BEGIN; SELECT es_append('open-1', 'T'); PREPARE TRANSACTION 'open'});
query(q{SELECT es_append('other-1', 'T')});
my $warm = $node->background_psql('postgres', on_error_stop => 1);
is($warm->query_safe(q{SELECT es_append('s-2', 'T') > 0, es_stream_version('s-2'), pg_stat_force_next_flush()}), 't|10|', 'an append while the segment is not sealed');
is(query("SELECT sealed, ($time) IS NULL FROM eventstore.segments WHERE segment = 0"), 'f|t', 'of which no time is known');
cmp_ok(rows_read(q{SELECT es_append('s-3', 'T')}), '>', 0, 'the row is read');

query(q{COMMIT PREPARED 'open'});
come_by();
ok($node->poll_query_until('postgres', q{SELECT sealed AND events = 999 FROM eventstore.segments WHERE segment = 0}), 'the segment is sealed');
ok($node->poll_query_until('postgres', "SELECT ($time) = ($newest)"), 'and when its last event was recorded is found out');

is(rows_read(q{SELECT es_append('s-4', 'T')}), 0, 'an append reads no row of it');
is(rows_read(q{SELECT es_append('s-5', 'T', expected_version => 9)}), 0, 'nor does one with an expected version');
is(rows_read(q{SELECT es_append_many('[{"stream": "s-6", "type": "T"}, {"stream": "s-7", "type": "T"}]')}), 0, '... one to many streams');
is(rows_read(q{SELECT es_append_if('[{"stream": "s-8", "type": "T"}]', 0, tags => '{x}')}), 0, '... a conditional one');
is(rows_read(q{INSERT INTO es_events (stream, type) VALUES ('s-9', 'T')}), 0, '... an INSERT');
my $fetched = query(q{SELECT pg_stat_get_tuples_fetched('eventstore.events_0_stream'::regclass)});
is($warm->query_safe(q{SELECT es_append('s-10', 'T') > 0; SELECT pg_stat_force_next_flush()}), "t\n", 'an append of a session from before');
is(query(q{SELECT pg_stat_get_tuples_fetched('eventstore.events_0_stream'::regclass)}), $fetched, 'has heard of it');

is(query(q{SELECT string_agg(stream || ' ' || version, ', ' ORDER BY position) FROM eventstore.events_1 WHERE stream LIKE 's-%'}),
	's-2 10, s-3 10, s-4 10, s-5 10, s-6 10, s-7 10, s-8 10, s-9 10, s-10 10', 'versions go on');
fails('VE001', q{SELECT es_append('s-11', 'T', expected_version => 8)}, 'a wrong version is refused');
is(query(q{SELECT es_append('s-1', 'T') > 0, es_stream_version('s-1')}), 't|10', 'what was rolled back in there does not count');

# Times
is(query(q{SELECT count(*) FROM es_read_all() a JOIN es_read_all() b ON a.stream = b.stream AND a.version + 1 = b.version WHERE a.recorded_at > b.recorded_at}), 0, 'no event is older than the one before');
fails('22023', q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('past-1', 'T', '2001-06-01 00:00:00Z')}, 'a time before that of the last event, which is in there');
like(($node->psql('postgres', q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('past-1', 'T', '2001-06-01 00:00:00Z')}))[2], qr/has an event of 2002-01-01/, '... and the error has that event\'s time');
cmp_ok(rows_read(q{INSERT INTO es_events (stream, type, recorded_at) VALUES ('past-1', 'T', '2003-01-01 00:00:00Z')}), '>', 0, 'a time after it, but before that of others: the row is read');
is(query(q{SELECT recorded_at = '2003-01-01T00:00:00Z' FROM es_read('past-1', 3)}), 't', '... and the time is kept');
my $last = query(q{SELECT recorded_at FROM es_read('s-12', 9)});
query(q{SELECT es_delete_stream('s-12')});
is(query(q{SELECT truncated_at = '} . $last . q{', truncated_before, deleted FROM eventstore.streams WHERE name = 's-12'}), 't|10|t', 'who deletes a stream keeps its last event\'s time');
query(q{SELECT es_truncate_stream('cut-1', 3)});
is(query(q{SELECT truncated_at = (SELECT max(recorded_at) FROM eventstore.events_0 WHERE stream = 'cut-1') FROM eventstore.streams WHERE name = 'cut-1'}), 't', '... who truncates it, too');

# A clock that was ahead: the time of the segment is later than now, so rows tell.
set_time('infinity');
cmp_ok(rows_read(q{SELECT es_append('s-13', 'T')}), '>', 0, 'a segment with an event of the future: the row is read');
is(query(q{SELECT recorded_at <= clock_timestamp() FROM es_read('s-13', 10)}), 't', '... and the time is now');

# A store from before has no times: they are found out.
come_by();
ok($node->poll_query_until('postgres', q{SELECT events = 988 AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger') FROM eventstore.segments WHERE segment = 0}), 'what was hidden is removed');
set_time(undef);
cmp_ok(rows_read(q{SELECT es_append('s-14', 'T')}), '>', 0, 'a segment whose time is not known: the row is read');
my $vacuumed = query(q{SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'eventstore.events_0'::regclass});
come_by();
ok($node->poll_query_until('postgres', "SELECT ($time) = ($newest)"), 'a worker finds it out');
is(query(q{SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'eventstore.events_0'::regclass}), $vacuumed, '... and does no more than read it');
is(rows_read(q{SELECT es_append('s-15', 'T')}), 0, 'then it is not');

# Removing events
is(query(q{SELECT count(*) FROM eventstore.events_0 WHERE stream = 'cut-1'}), 0, 'a stream has lost its last event');
is(query(q{SELECT es_append('cut-1', 'T') > 0, es_stream_version('cut-1')}), 't|3', '... and goes on');
is(query(q{SELECT es_append('s-16', 'T') > 0, es_stream_version('s-16')}), 't|10', '... as does one beside it');

$warm->quit;

# A page that cannot be read
my $file = $node->data_dir . '/' . query(q{SELECT pg_relation_filepath('eventstore.events_0')});
set_time(undef);
$node->stop;
open(my $pages, '+<:raw', $file) or die "$file: $!";
sysseek($pages, 0, 0);
sysread($pages, my $page, 8192) == 8192 or die 'no page';
sysseek($pages, 0, 0);
syswrite($pages, "\xff" x 8192);
close $pages;
$node->start;
come_by();
ok($node->poll_query_until('postgres', "SELECT ($time) = 'infinity'"), 'a segment that cannot be read: its time is left open');
like(slurp_file($node->logfile), qr/ERROR:  invalid page in block 0/, '... with the reason in the log');
query(q{SELECT count(es_append('full-1', 'T')) FROM generate_series(1, 1000)});
come_by();
ok($node->poll_query_until('postgres', 'SELECT latest_at < now() FROM eventstore.segment_times WHERE segment = 1'), '... and the next one is sealed and read');
$node->stop;
open($pages, '+<:raw', $file) or die "$file: $!";
syswrite($pages, $page);
close $pages;
$node->start;
cmp_ok(rows_read(q{SELECT es_append('s-20', 'T')}), '>', 0, 'once it can be read events there are looked at');
is(query(q{SELECT es_stream_version('s-20')}), 10, '... and the stream goes on');
set_time(undef);

# Away and back
my $last_of_it = query($newest);
query("SELECT es_detach_segments('$last_of_it'::timestamptz + interval '1 us')");
is(query($time), '', 'a segment that is detached has no time');
fails('55000', q{SELECT es_append('s-17', 'T')}, '... and its streams cannot go on');
query(q{SELECT es_attach_segment('eventstore.events_0')});
is(query(q{SELECT es_append('s-17', 'T') > 0, es_stream_version('s-17')}), 't|10', '... but once it is attached again');
come_by();
ok($node->poll_query_until('postgres', "SELECT ($time) = ($newest)"), '... and its time is found out again');
is(rows_read(q{SELECT es_append('s-18', 'T')}), 0, '... so that no row is read');
query(q{ALTER TABLE eventstore.events DETACH PARTITION eventstore.events_0; ALTER TABLE eventstore.events_0 DISABLE TRIGGER ALL});
query(q{UPDATE eventstore.events_0 SET recorded_at = recorded_at + interval '1 hour' WHERE stream = 's-19' AND version = 9});
query(q{SELECT es_attach_segment('eventstore.events_0')});
query(q{SELECT es_append('s-19', 'T')});
is(query(q{SELECT a.recorded_at >= b.recorded_at FROM es_read('s-19', 10, 1) a, es_read('s-19', 9, 1) b}), 't', 'what was changed while it was away by hand counts');
is(query(q{SELECT count(*) FROM es_read_all() a JOIN es_read_all() b ON a.stream = b.stream AND a.version + 1 = b.version WHERE a.recorded_at > b.recorded_at}), 0, 'no event is older than the one before');
$node->stop;
done_testing();
