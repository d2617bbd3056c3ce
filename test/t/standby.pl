# A hot standby: its readers never skip, stop before what they cannot prove, and
# pass holes by the settled mark; it refuses to append; after an asynchronous
# promotion no position comes back with other content.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $primary = new_node('primary', streaming => 1, conf => "autovacuum = off\n");
$primary->safe_psql('postgres', 'CREATE EXTENSION eventstore');
$primary->safe_psql('postgres', 'SELECT es_set_segment_size(500)');
$primary->safe_psql('postgres', q{SELECT es_append('a-1', 'A'), es_append('a-1', 'B')});
$primary->safe_psql('postgres', q{SELECT es_create_projection('states', 'count', 'inline')});
my $standby = start_standby($primary, $ENV{ES_PRELOAD} ? "eventstore.max_wait = '60s'\n" : undef);
$standby->poll_query_until('postgres', 'SELECT pg_is_in_recovery()');

sub replayed { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert')); }
sub standby_is
{
	my ($sql, $expected, $name) = @_;
	replayed();
	is($standby->safe_psql('postgres', $sql), $expected, $name);
}
my $all = q{SELECT string_agg(type, '' ORDER BY position) FROM es_read_all()};

standby_is($all, 'AB', 'what is contiguous needs no mark');
standby_is('SELECT es_settled_position()', '2', 'and is settled');
standby_is(q{SELECT count(*), max(version) FROM es_read('a-1')}, '2|2', 'es_read reads');
standby_is(q{SELECT es_stream_version('a-1'), es_stream_version('none')}, '2|0', 'es_stream_version reads');
standby_is(q{SELECT count(*) FROM es_events}, '2', 'es_events reads');
standby_is(q{SELECT key, version, state FROM es_projection('states')}, 'a-1|2|{"count": 2}', 'es_projection reads');
standby_is(q{SELECT position, lag FROM es_projections}, '2|0', 'es_projections reads');
standby_is(q{SELECT es_wait_projection('states', 2, '1s')}, 't', 'es_wait_projection waits');

# A subscription is polled on the primary; who waits for something to poll may do so here.
$primary->safe_psql('postgres', q{SELECT es_subscribe('polled')});
standby_is(q{CALL es_poll_wait('polled', '60s')}, 't', 'es_poll_wait tells that there is something to poll');
is(sqlstates($standby, 'postgres', q{SELECT es_poll('polled')}), '25006', 'which es_poll does not give');
$primary->safe_psql('postgres', q{SELECT count(es_ack('polled', partition, position)) FROM es_poll('polled')});
standby_is(q{CALL es_poll_wait('polled', '10ms')}, 'f', 'nothing, once it is acknowledged there');

# Whatever writes is refused.
foreach my $sql (q{SELECT es_append('a-1', 'X')}, q{SELECT es_append_batch('a-1', '[{"type": "X"}]')}, q{INSERT INTO es_events (stream, type, data) VALUES ('a-1', 'X', '{}')},
	'SELECT es_settle()', 'SELECT es_set_segment_size(100)', q{SELECT es_run_projection('states')}, q{SELECT es_rebuild_projection('states')},
	q{SELECT es_delete_stream('a-1')}, q{SELECT es_truncate_stream('a-1', 1)}, q{SELECT es_set_retention('a', '1 day')}, q{SELECT es_adopt_snapshots('count')},
	q{SELECT es_skip_event('states', 1)}, q{SELECT es_drop_projection('states')}, q{SELECT es_create_projection('new', 'count')})
{
	like(sqlstates($standby, 'postgres', $sql), qr/^(25006|55000)$/, "refused: $sql");
}

# A lower position commits after a higher one.
my $low = $primary->background_psql('postgres');
$low->query_safe(q{BEGIN; SELECT es_append('low-1', 'C');});
$primary->safe_psql('postgres', q{SELECT es_append('high-1', 'D')});
standby_is($all, 'AB', 'nothing past an append in flight');
standby_is(q{SELECT count(*) FROM es_read_category('high')}, '0', 'nor in another category');
standby_is('SELECT es_settled_position()', '2', 'nor settled');
is($primary->safe_psql('postgres', 'SELECT es_settle()'), '2', 'the mark stops there too');
standby_is($all, 'AB', 'also after a mark');
$low->query_safe('COMMIT');
standby_is($all, 'ABCD', 'both in order once it commits');

# A rolled-back hole.
$primary->safe_psql('postgres', q{BEGIN; SELECT es_append('low-1', 'undone'); ROLLBACK;});
$primary->safe_psql('postgres', q{SELECT es_append('high-1', 'E')});
replayed();
like($standby->safe_psql('postgres', $all), qr/^ABCDE?$/, 'a hole without a mark: stopped before it, or proven otherwise');
is($primary->safe_psql('postgres', 'SELECT es_settle()'), '6', 'the mark passes the hole');
standby_is($all, 'ABCDE', 'and lets the standby pass');
standby_is(q{SELECT count(*) FROM es_read_category('high')}, '2', 'in a category too');
standby_is('SELECT es_settled_position()', '6', 'the settled position is the mark');
$primary->safe_psql('postgres', q{SELECT es_append('high-1', 'F')});
standby_is($all, 'ABCDEF', 'contiguous past the mark needs no new mark');

# A prepared hole.
$primary->safe_psql('postgres', q{BEGIN; SELECT es_append('low-1', 'G'); PREPARE TRANSACTION 'low';});
$primary->safe_psql('postgres', q{SELECT es_append('high-1', 'H'), es_settle()});
standby_is($all, 'ABCDEF', 'nothing past a prepared append');
$primary->safe_psql('postgres', q{COMMIT PREPARED 'low'});
standby_is($all, 'ABCDEFGH', 'until it commits');

# Waiting on the standby.
my $last = $standby->safe_psql('postgres', 'SELECT es_settled_position()');
foreach my $wait ('SELECT es_wait(%s, %s)', 'CALL es_wait_for(%s, %s)')
{
	my $waiter = start_script($standby, 'postgres', "SET application_name = 'waiter'; SET eventstore.max_wait = '60s';\n" . sprintf($wait, $last, "'60s'") . ";\n");
	$standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'
		AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')});
	$primary->safe_psql('postgres', q{SELECT es_append('a-1', 'W')});
	my ($out, $err) = finish_script($waiter);
	is($out, ++$last . "\n", "a wait on the standby ends with the append: $wait") or diag $err;
}

# Under load: a reader on the standby that follows with the last position it got
# sees every committed event exactly once.
my $seconds = $ENV{ES_STANDBY_SECONDS} // 4;
my @writers;
for my $writer (1 .. 4)
{
	my $sql = '';
	for my $n (1 .. 60 * $seconds)
	{
		my $k = rand();
		my $sleep = sprintf('%.4f', rand(0.01));
		my $events = 1 + int(rand(4));
		$sql .= "BEGIN;\n";
		$sql .= "SELECT es_append('load_" . int(rand(3)) . "-$writer', 'L') FROM generate_series(1, $events);\n";
		$sql .= "SELECT pg_sleep($sleep);\n";
		$sql .= "SAVEPOINT s; SELECT es_append('load_0-$writer', 'undone'); ROLLBACK TO s;\n" if rand() < 0.2;
		$sql .= $k < 0.6 ? "COMMIT;\n" : $k < 0.85 ? "ROLLBACK;\n" : "PREPARE TRANSACTION 'load $writer'; SELECT pg_sleep($sleep);\n" . ($k < 0.93 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'load $writer';\n";
		$sql .= "SELECT es_settle();\n" if rand() < 0.2;
	}
	push @writers, start_script($primary, 'postgres', $sql, '-v', 'ON_ERROR_STOP=1');
}
my $start = $last;
my (@seen, @category, $finished);
my ($cursor, $filtered) = ($last, $last);
my $reader = $standby->background_psql('postgres');
for (;;)
{
	if (!$finished && !grep { $_->{handle}->pumpable } @writers)
	{
		foreach (@writers)
		{
			my ($out, $err) = finish_script($_);
			is($err, '', 'a writer had no error');
		}
		$primary->safe_psql('postgres', 'SELECT es_settle()');
		replayed();
		$finished = 1;
		next;
	}
	my @got = split /\n/, $reader->query_safe("SELECT position FROM es_read_all($cursor, 50)");
	push @seen, @got;
	$cursor = $got[-1] if @got;

	my $s = $reader->query_safe('SELECT es_settled_position()');
	my @filtered = split /\n/, $reader->query_safe("SELECT position FROM es_read_category('load_1', $filtered, 20, to_position => $s)");
	push @category, @filtered;
	$filtered = @filtered < 20 ? $s : $filtered[-1];
	last if $finished && !@got && !@filtered;
}
$reader->quit;
is(join(' ', @seen), join(' ', rows($primary, 'postgres', "SELECT position FROM es_events WHERE position > $start ORDER BY position")),
	'a follower on the standby saw every committed event exactly once, in order');
is(join(' ', @category), join(' ', rows($primary, 'postgres', "SELECT position FROM es_events WHERE position > $start AND stream LIKE 'load\\_1-%' ORDER BY position")),
	'a filtered follower on the standby too');
cmp_ok(scalar @seen, '>', 100, 'there was load');

# Folding on the standby: snapshots of the primary are used, none is left
$primary->safe_psql('postgres', q{
	SELECT es_register_reducer_ops('fold', '*', '{"inc": {"n": 1}}');
	SELECT count(*) FROM generate_series(1, 9) s, LATERAL es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'fold-' || (s * 1000 + i), 'type', 't'))
		FROM generate_series(1, 1000) i, generate_series(1, 3)));
	SELECT es_snapshot('fold-1001');
	SELECT es_append('fold-1001', 't');
	SELECT es_snapshot_every('fold', 1);
});
replayed();
is($standby->safe_psql('postgres', q{SELECT version, state FROM es_replay('fold-1001')}), '4|{"n": 4}', 'a standby replays');
is($standby->safe_psql('postgres', q{SET max_parallel_workers_per_gather = 2; SELECT count(*), sum((state->>'n')::int) FROM es_replay_category('fold')}),
	'9000|27001', 'a category, too, by several processes');
is($standby->safe_psql('postgres', q{SELECT string_agg(version::text, ',') FROM eventstore.snapshots}), '3', 'and leaves no snapshots');
is(sqlstates($standby, 'postgres', q{SELECT es_snapshot('fold-1001')}), '25006', 'nor when asked for one');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM (SELECT FROM es_replay_category('fold') LIMIT 3) few}), '3', 'and gives some states before it has folded the rest');
is($standby->safe_psql('postgres', q{SELECT string_agg(version::text, ',') FROM (SELECT version FROM es_read('fold-1001', backwards => true) ORDER BY version DESC LIMIT 2) last}), '4,3',
	'and reads the last events in their order');

# What leaves is hidden here, too, from sessions that know the streams
my $warm = $standby->background_psql('postgres');
my $left = q{SELECT (SELECT array_agg(version) FROM es_read('fold-1001')), (SELECT array_agg(version) FROM es_read('fold-1002')), state FROM es_replay('fold-1001')};
is($warm->query_safe($left), '{1,2,3,4}|{1,2,3}|{"n": 4}', 'streams are read');
$primary->safe_psql('postgres', q{SELECT es_truncate_stream('fold-1001', 4), es_delete_stream('fold-1002')});
replayed();
is($warm->query_safe($left), '{4}||{"n": 4}', 'what is hidden there is hidden here');
$warm->quit;

# A store that much has left, and of which a segment is away
my $thinned = new_thinned_store($primary, 'thinned');
my @content = (q{SELECT md5(string_agg(e::text, '' ORDER BY position)) FROM es_read_all(100, NULL) e}, q{SELECT md5(string_agg(s::text, '' ORDER BY stream)) FROM es_streams s},
	q{SELECT string_agg(concat_ws(' ', segment, first_position, last_position, events, state), ', ' ORDER BY segment) FROM es_segments}, q{SELECT r FROM es_replay('cut-1') r});
replayed();
is($standby->safe_psql('thinned', $_), $primary->safe_psql('thinned', $_), "what has left there has left here: $_") foreach @content;
is(sqlstates($standby, 'thinned', 'SELECT count(*) FROM es_read_all(0, NULL)'), '55000', 'what is away there is away here');

# Asynchronous promotion: the primary goes on after the standby was cut off.  A prepared append goes with the standby.
$primary->safe_psql('postgres', q{BEGIN; SELECT es_append('prepared-1', 'P'); PREPARE TRANSACTION 'promoted';});
$primary->safe_psql('postgres', q{SELECT es_append('cut-1', 'behind')});
replayed();
$primary->safe_psql('postgres', q{SELECT es_append('cut-1', 'seen')});
replayed();
my $head = $standby->safe_psql('postgres', 'SELECT es_settled_position()');
$standby->safe_psql('postgres', q{ALTER SYSTEM SET primary_conninfo = ''});
$standby->reload;
$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver');
$primary->safe_psql('postgres', q{SELECT es_append('cut-1', 'lost') FROM generate_series(1, 300)});
my $lost_head = $primary->safe_psql('postgres', 'SELECT last_value FROM eventstore.position_seq');
$primary->stop('immediate');
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
my $new = $standby->safe_psql('postgres', q{SELECT es_append('after-1', 'A') \gset
	SELECT es_last_position()});
is($standby->safe_psql('postgres', q{SELECT count(*) FROM es_events WHERE type = 'lost'}), '0', 'an asynchronous promotion loses events');
cmp_ok($new, '>', $lost_head, 'after a promotion the first append gets a position that no lost event had');
is($standby->safe_psql('postgres', q{SELECT es_append('after-1', 'B', expected_version => 1)}), '2', 'and appends go on');
is($standby->safe_psql('postgres', "SELECT count(*) FROM es_read_all($head)"), '0', 'a prepared append holds back readers after a promotion too');
$standby->safe_psql('postgres', q{COMMIT PREPARED 'promoted'});
is($standby->safe_psql('postgres', "SELECT string_agg(stream || ' ' || type, ', ' ORDER BY position) FROM es_read_all($head)"),
	'prepared-1 P, cut-1 behind, cut-1 seen, after-1 A, after-1 B', 'readers pass the gap');
is($standby->safe_psql('postgres', "SELECT es_settled_position() = es_last_position() FROM es_append('after-1', 'C')"), 'f', 'its own append is in flight as ever');
is(gaps($standby, 'postgres'), '', 'versions have no gap');

# the store that much has left: its sequences have gone on, as each does over a promotion
$standby->safe_psql('thinned', q{SELECT es_attach_segment('eventstore.events_0')});
is($standby->safe_psql('thinned', q{SELECT count(*), min(position) FROM es_read_all(0, NULL)}), '247|1', 'what is away comes back after a promotion');
is($standby->safe_psql('thinned', q{SELECT es_append('cut-1', 'C', expected_version => 71), es_last_position() > 411, es_stream_version('gone-1')}), '72|t|101', 'versions and positions go on');
is(sqlstates($standby, 'thinned', q{SELECT es_append('gone-1', 'G')}), 'VE003', 'what was deleted stays so');
is($standby->safe_psql('thinned', q{SELECT sum(events) FROM es_scavenge()}), '9', 'what is hidden can be removed');
is(gaps($standby, 'thinned'), '', 'streams are whole from their first version on');

$standby->stop;
done_testing();
