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

# set_time(time): has segment 0 say that its last event was recorded then; undef: that it is not known
sub set_time
{
	my ($time) = @_;

	$time = defined $time ? "'$time'" : 'NULL';
	return query("ALTER TABLE eventstore.segments DISABLE TRIGGER guard_rows; UPDATE eventstore.segments SET latest_at = $time WHERE segment = 0; ALTER TABLE eventstore.segments ENABLE ALWAYS TRIGGER guard_rows");
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
is(query('SELECT sealed, latest_at IS NULL FROM eventstore.segments WHERE segment = 0'), 'f|t', 'of which no time is known');
cmp_ok(rows_read(q{SELECT es_append('s-3', 'T')}), '>', 0, 'the row is read');

query(q{COMMIT PREPARED 'open'});
query(q{SELECT es_set_retention('nothing', max_count => 1)});
ok($node->poll_query_until('postgres', q{SELECT sealed AND events = 999 FROM eventstore.segments WHERE segment = 0}), 'the segment is sealed');
is(query('SELECT latest_at = (SELECT max(recorded_at) FROM eventstore.events_0) FROM eventstore.segments WHERE segment = 0'), 't', 'it says when its last event was recorded');

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
set_time(undef);
cmp_ok(rows_read(q{SELECT es_append('s-14', 'T')}), '>', 0, 'a segment whose time is not known: the row is read');
query(q{SELECT es_set_retention('nothing', max_count => 2)});
ok($node->poll_query_until('postgres', q{SELECT latest_at = (SELECT max(recorded_at) FROM eventstore.events_0) FROM eventstore.segments WHERE segment = 0}), 'the worker finds it out');
is(rows_read(q{SELECT es_append('s-15', 'T')}), 0, 'then it is not');

# Removing events
query(q{SELECT count(*) FROM es_scavenge()});
is(query(q{SELECT count(*) FROM eventstore.events_0 WHERE stream = 'cut-1'}), 0, 'a stream has lost its last event');
is(query(q{SELECT es_append('cut-1', 'T') > 0, es_stream_version('cut-1')}), 't|3', '... and goes on');
is(query(q{SELECT es_append('s-16', 'T') > 0, es_stream_version('s-16')}), 't|10', '... as does one beside it');

# Away and back
query(q{SELECT es_detach_segments('infinity')});
fails('55000', q{SELECT es_append('s-17', 'T')}, 'a segment that is detached');
query(q{SELECT es_attach_segment('eventstore.events_0')});
is(query(q{SELECT es_append('s-17', 'T') > 0, es_stream_version('s-17')}), 't|10', 'and is attached again');
is(query(q{SELECT count(*) FROM es_read_all() a JOIN es_read_all() b ON a.stream = b.stream AND a.version + 1 = b.version WHERE a.recorded_at > b.recorded_at}), 0, 'no event is older than the one before');
$warm->quit;
$node->stop;
done_testing();
