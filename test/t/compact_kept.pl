# A segment that is compacted stays what it was, but for its size: its indexes and those of
# users, its tablespaces, publications and comments, and the values in it; for feeds that lag
# behind, a standby that reads all the time, a dump, and whatever is killed meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 'logical', conf => "autovacuum = off\nallow_in_place_tablespaces = on\nrestart_after_crash = on\n");

sub query { return $node->safe_psql('postgres', $_[0]); }

# Data of events by their number n: some is out of line, compressed or not.
my $content = q{jsonb_build_object('n', n, 'pad', CASE n % 49 WHEN 0 THEN (SELECT string_agg(md5(n || ' ' || i), '') FROM generate_series(1, 3200) i) WHEN 1 THEN repeat('x', 100000) ELSE md5(n::text) END)};

# fill(first): a thousand events
sub fill
{
	return query("INSERT INTO written SELECT n, $content FROM generate_series($_[0], $_[0] + 999) n;
		SELECT count(es_append('s-' || n % 10, 'T', data, '{\"tags\": [\"t\"]}')) FROM (SELECT * FROM written WHERE n >= $_[0] ORDER BY n) w");
}

# hide_odd(): all of the streams with odd numbers
sub hide_odd { return query(q{SELECT count(es_truncate_stream(stream, version + 1)) FROM es_streams WHERE stream ~ '[13579]$'}); }

# changed(server): how many events are not what they were
sub changed { return $_[0]->safe_psql('postgres', q{SELECT count(*) FROM es_events e LEFT JOIN written w ON w.n = (e.data ->> 'n')::int WHERE w.data IS DISTINCT FROM e.data}); }

# damage(): what is wrong with tables and indexes
sub damage
{
	return query(q{
		SELECT c.relname, v.* FROM pg_class c, verify_heapam(c.oid, check_toast => true) v WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relkind = 'r'
			AND 0 <= (SELECT count(bt_index_check(i.indexrelid, true)) FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am a ON a.oid = x.relam
				WHERE t.relnamespace = 'eventstore'::regnamespace AND t.relkind = 'r' AND a.amname = 'btree')});
}

query('CREATE TABLE written (n int PRIMARY KEY, data jsonb); CREATE EXTENSION eventstore; CREATE EXTENSION amcheck; SELECT es_set_segment_size(1000)');
query(q{SELECT pg_create_logical_replication_slot('feed', 'eventstore'), pg_create_logical_replication_slot('raw', 'test_decoding')});
my $standby = start_standby($node, "hot_standby_feedback = on\nmax_standby_streaming_delay = -1\n");
fill($_ * 1000) foreach 0 .. 1;
query('SELECT * FROM es_scavenge()');
query(q{
	CREATE TABLESPACE elsewhere LOCATION '';
	CREATE INDEX users_expression ON eventstore.events_0 ((data ->> 'n'), lower(stream)) WHERE version % 2 = 0;
	CREATE INDEX users_brin ON eventstore.events_0 USING brin (recorded_at);
	CREATE INDEX users_hash ON eventstore.events_0 USING hash (stream) TABLESPACE elsewhere;
	CREATE UNIQUE INDEX users_included ON eventstore.events_0 (event_id) INCLUDE (stream) WITH (fillfactor = 70);
	ALTER TABLE eventstore.events_0 ADD CONSTRAINT users_late UNIQUE (position, event_id) DEFERRABLE INITIALLY DEFERRED, ADD CONSTRAINT users_exclusion EXCLUDE (event_id WITH =);
	ALTER TABLE eventstore.events_1 SET TABLESPACE elsewhere;
	ALTER TABLE eventstore.events_0 SET (fillfactor = 90);
	CREATE STATISTICS eventstore.users_statistics ON stream, type FROM eventstore.events_0;
	COMMENT ON TABLE eventstore.events_0 IS 'first';
	COMMENT ON INDEX eventstore.users_hash IS 'by stream';
	CREATE PUBLICATION users_publication FOR TABLE eventstore.events_0;
	CREATE ROLE users_reader;
	GRANT SELECT ON eventstore.events_0 TO users_reader;
	ALTER INDEX eventstore.users_expression ALTER COLUMN 1 SET STATISTICS 77;
	ALTER DATABASE postgres SET default_tablespace = elsewhere});

# What is to stay: all but files, and what is counted in them.
my $catalog = q{SELECT to_jsonb(c) - '{relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid}'::text[], CASE WHEN relkind = 'i' THEN pg_get_indexdef(c.oid) END, obj_description(c.oid),
		(SELECT to_jsonb(i) FROM pg_index i WHERE indexrelid = c.oid)
	FROM pg_class c WHERE relnamespace = 'eventstore'::regnamespace AND relname ~ '^(events_[01]|users_)' OR relname IN (SELECT 'pg_toast_' || 'eventstore.events_0'::regclass::oid)
	UNION ALL SELECT to_jsonb(p), NULL, NULL, NULL FROM pg_publication_rel p UNION ALL SELECT to_jsonb(s), NULL, NULL, NULL FROM pg_statistic_ext s
	UNION ALL SELECT to_jsonb(o), NULL, NULL, NULL FROM pg_constraint o WHERE conname LIKE 'users%' ORDER BY 1};
my $files = q{SELECT relfilenode FROM pg_class WHERE oid = 'eventstore.events_0'::regclass OR relname = 'pg_toast_' || 'eventstore.events_0'::regclass::oid OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'eventstore.events_0'::regclass)};
my $was = query($catalog);
my %were = map { $_ => 1 } rows($node, 'postgres', $files);
my $size = query('SELECT sum(bytes) FROM es_segments');

# ---- killed in the middle ----

hide_odd();
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE eventstore.events_1 IN SHARE MODE');
my $call = start_named($node, 'postgres', 'caller', 'SELECT * FROM es_scavenge()');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger' AND wait_event_type = 'Lock'");
my $pid = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'eventstore scavenger'");
kill 'KILL', $pid;
finish_script($call);
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
$holder->{run}->kill_kill if $holder->can('quit') && !eval { $holder->quit; 1 };
is(changed($node), 0, 'a crash changes nothing that is left');
is(query($catalog), $was, 'nor what segments are');

# ---- while the standby reads ----

my $reader = start_script($standby, 'postgres', join("\n", ("SELECT count(*) FROM es_read_all(0, NULL) WHERE stream !~ '[13579]\$';") x 300));
is(query('SELECT sum(events) > 0 FROM es_scavenge()'), 't', 'hidden events go');
$node->wait_for_catchup($standby, 'replay');
my ($out, $err) = finish_script($reader);
is($err, '', 'a standby that reads all the time has no error');
is(join(' ', grep { $_ != 1000 } split /\n/, $out), '', 'and misses no event');
# new files may still have what the standby looks at, which is given back when it does no more
ok(wait_until('new files', sub { query('SELECT * FROM es_scavenge()'); !grep { $were{$_} } rows($node, 'postgres', $files) }), 'all files of a segment are new, sooner or later');
$node->wait_for_catchup($standby, 'replay');
is(query('SELECT count(*) FROM eventstore.events'), 1000, 'half of the events are left');
ok(wait_until('small segments', sub { query('SELECT * FROM es_scavenge()'); query('SELECT sum(bytes) FROM es_segments') < 0.8 * $size }), 'and small');
is(query($catalog), $was, 'but they are what they were, with all that users have added');
is(changed($node) . ' ' . changed($standby), '0 0', 'and so are values');
is(damage(), '', 'tables and indexes are whole');
is(query(q{SET enable_seqscan = off; SELECT count(*) FROM eventstore.events_0 WHERE data ->> 'n' = '11' AND lower(stream) = 's-1' AND version % 2 = 0}) . query(q{SET enable_seqscan = off; SELECT count(*) FROM eventstore.events_0 WHERE stream = 's-2'}),
	'0100', 'users find by their indexes what is left');

# ---- feeds ----

fill(2000);
my $slot = sub { return "pg_logical_slot_peek_changes('$_[0]', NULL, NULL)" };
is(query('WITH fed AS MATERIALIZED (SELECT data::jsonb AS e FROM ' . $slot->('feed') . q{) SELECT count(*), count(DISTINCT e ->> 'position'), count(*) FILTER (WHERE w.data = e -> 'data') FROM fed LEFT JOIN written w ON w.n = (e -> 'data' ->> 'n')::int}),
	'3000|3000|3000', 'a feed that lags behind gives every event, once, and as it was written, and no removal');
is(query(q{SELECT count(*) FROM } . $slot->('raw') . q{ WHERE data LIKE 'table eventstore.events_%: INSERT%'}), 3000, 'and other plugins every row, with none of a copy');

# ---- later ----

query('VACUUM FULL eventstore.events_0; VACUUM (FREEZE) eventstore.events_1');
is(changed($node) . damage(), '0', 'all is right after VACUUM FULL');
is(query(q{SELECT count(*) FROM pg_class c WHERE (relnamespace = 'eventstore'::regnamespace AND relkind = 'r' OR relname ~ '^pg_toast_\d+$') AND relfrozenxid <> '0' AND age(relfrozenxid) NOT BETWEEN 0 AND 1000000}), 0, 'ages are sane');
is(query(q{SELECT count(*) FROM pg_class WHERE relname LIKE 'pg_temp%'}), 0, 'no copy is left');
query('ALTER DATABASE postgres RESET default_tablespace; DROP ROLE IF EXISTS nobody; REVOKE ALL ON eventstore.events_0 FROM users_reader');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'the store can be dumped');
$node->safe_psql('template1', 'CREATE DATABASE copied');
$node->command_ok([ 'psql', '-Xqf', $dump, $node->connstr('copied') ], 'and restored');
is($node->safe_psql('copied', 'SELECT count(*), sum(position) FROM es_events'), query('SELECT count(*), sum(position) FROM es_events'), 'with all events');
$standby->promote;
is($standby->safe_psql('postgres', q{SELECT es_truncate_stream('s-0', 50); SELECT events FROM es_scavenge(); SELECT count(*) FROM es_read('s-0')}) =~ s/\n/ /gr, ' 49 251', 'a standby that was promoted goes on');

$standby->stop;
$node->stop;
done_testing();
