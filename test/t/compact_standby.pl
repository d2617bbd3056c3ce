# A compaction and who reads on a hot standby: nobody is kept off while a segment is copied
# and its indexes are built, however long that takes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The worker that comes by by itself would be held up in the place of the call's.
my $node = new_node('main', streaming => 1, conf => "autovacuum = off\neventstore.scavenge_rate = 0\n");
my $standby;
my $held_up = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger' AND wait_event_type = 'Lock' AND wait_event = 'advisory'};

new_store($node, 'store', 1000);
sub query { return $node->safe_psql('store', $_[0]); }
sub size { return query(q{SELECT pg_table_size('eventstore.events_0')}); }

# replayed(): the standby knows of all that was written here, what is not committed included
sub replayed
{
	query(q{SELECT pg_logical_emit_message(true, '', '')});	# a commit that waits for the disk
	return $node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
}

query(q{SELECT es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', CASE n % 2 WHEN 0 THEN 'kept-1' ELSE 'gone-1' END, 'type', 'T',
	'data', jsonb_build_object('pad', repeat('x', 400))) ORDER BY n) FROM generate_series(1, 1000) n))});
# an index whose making waits for whoever has the lock
query(q{CREATE FUNCTION waits(stream text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET lock_timeout = 0 AS $$
		BEGIN
			PERFORM pg_advisory_lock_shared(1);
			PERFORM pg_advisory_unlock_shared(1);
			RETURN stream;
		END
	$$;
	CREATE INDEX users_waits ON eventstore.events_0 (public.waits(stream))});
$standby = start_standby($node, "hot_standby_feedback = off\n");
my $size = size();

query(q{SELECT es_truncate_stream('gone-1', 501)});
my $holder = $node->background_psql('store');
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $call = start_named($node, 'store', 'caller', 'SELECT sum(events) FROM es_scavenge()');
ok($node->poll_query_until('store', $held_up), 'the indexes of a copy are being built');
replayed();
is($standby->safe_psql('store', q{SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IN (SELECT oid FROM pg_class
	WHERE oid = 'eventstore.events_0'::regclass OR relname IN (SELECT 'pg_toast_' || 'eventstore.events_0'::regclass::oid)
		OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'eventstore.events_0'::regclass))}), 0, 'meanwhile the standby has nothing of the segment locked');
my ($ret, $out, $err) = $standby->psql('store', q{SET lock_timeout = '30s'; SELECT count(*) FROM eventstore.events_0});
is("$out$err", 500, 'and who reads there is not kept off');
is(sqlstates($standby, 'store', q{SET lock_timeout = '30s'; SELECT * FROM es_read('kept-1');}), '', 'nor who reads a stream');

$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
($out, $err) = finish_script($call);
is("$out$err", "500\n", 'the call goes on');
cmp_ok(size(), '<', 0.7 * $size, 'and gives room back');
replayed();
is($standby->safe_psql('store', q{SELECT count(*) FROM eventstore.events_0}) . ' ' . ($standby->safe_psql('store', q{SELECT pg_table_size('eventstore.events_0')}) == size()), '500 1', 'there, too');

# ---- where the segment cannot be had no copy is made: its indexes would wait ----

query(q{SELECT es_truncate_stream('kept-1', 401)});
my $reader = $node->background_psql('store');
$reader->query_safe('BEGIN; LOCK TABLE eventstore.events_0 IN ACCESS SHARE MODE; SELECT pg_advisory_lock(1)');
my $file = query(q{SELECT pg_relation_filenode('eventstore.events_0')});
is(query('SELECT sum(events) FROM es_scavenge()'), 400, 'events go from a segment that somebody has open');
is(query(q{SELECT pg_relation_filenode('eventstore.events_0')}), $file, 'which is left where it is');
$reader->query_safe('COMMIT');
$reader->quit;

$standby->stop;
$node->stop;
done_testing();
