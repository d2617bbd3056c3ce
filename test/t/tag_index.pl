# Indexes by tag under administration: whatever is done to a segment, a session that
# is warm and a new one find by each tag what SQL finds in the events.  amcheck knows
# nothing of this access method, so the comparison is the check.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => "allow_in_place_tablespaces = on\nautovacuum = off\n");
new_store($node, 'store', 100);
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION ''");

# Tags that are not found as SQL finds them, in either direction, and how many there are.
my $differences = q{
	SELECT count(*) FILTER (WHERE f.a IS DISTINCT FROM s.a OR b.a IS DISTINCT FROM s.a) || ' of ' || (count(*) > 20)
	FROM (SELECT DISTINCT t FROM es_events e, jsonb_array_elements_text(e.metadata -> 'tags') t) tags,
		LATERAL (SELECT jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(t))) AS query) q,
		LATERAL (SELECT array_agg(position) AS a FROM es_read_query(query, 0, NULL)) f,
		LATERAL (SELECT array_agg(position ORDER BY position) AS a FROM es_read_query(query, 0, NULL, true)) b,
		LATERAL (SELECT array_agg(position ORDER BY position) AS a FROM es_events WHERE metadata -> 'tags' ? t) s};
my $round = 0;

# append(n): events with tags of this round and of all rounds; as many are rolled back
sub append_sql
{
	$round++;
	return join ';', map { "BEGIN;
		SELECT count(es_append('e-' || n % 7, 'T', '{}', jsonb_build_object('tags', jsonb_build_array('r$round', 't' || n % 20, 'all')))) FROM generate_series(1, 20) n;
		SELECT es_append_batch('e-batch', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'metadata', jsonb_build_object('tags', jsonb_build_array('b$round', 't' || n % 5, n)))) FROM generate_series(1, 15) n)); $_;" } ('COMMIT', 'ROLLBACK', 'COMMIT');
}

# decide(after): appends in a boundary, if nothing has come to it after a position.  holds(after, tag) only asks.
$node->safe_psql('store', q{
	CREATE FUNCTION decide(after bigint) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM es_append_if('[{"stream": "own-1", "type": "D", "tags": ["own"]}]', after, tags => '{own}');
		RETURN 'appended';
	EXCEPTION WHEN SQLSTATE 'VE011' THEN
		RETURN 'VE011';
	END $$;
	CREATE FUNCTION holds(after bigint, tag text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM es_append_if('[]', after, tags => ARRAY[tag]);
		RETURN true;
	EXCEPTION WHEN SQLSTATE 'VE011' THEN
		RETURN false;
	END $$;
	SELECT es_append('own-1', 'D', '{}', '{"tags": ["own"]}')});
my $newest = q{(SELECT position FROM es_read_query('[{"tags": ["own"]}]', 0, 1, true))};
# Conditions on the last events of tags that are not decided as SQL would, and how many there are.
my $misjudged = q{
	SELECT count(*) FILTER (WHERE holds(after, t) IS DISTINCT FROM after >= last) || ' of ' || (count(*) > 20)
	FROM (SELECT t, max(position) AS last FROM es_events e, jsonb_array_elements_text(e.metadata -> 'tags') t WHERE e.metadata -> 'tags' ? t GROUP BY t) tags,
		LATERAL (VALUES (last - 1), (last), (last + 1)) v(after)};

$node->safe_psql('store', append_sql()) for 1 .. 3;
my $warm = $node->background_psql('store');
is($warm->query_safe($differences), '0 of true', 'by each tag what SQL finds');

# is_found(what): by both sessions, before and after more events have come, by the warm one too
sub is_found
{
	my ($what) = @_;

	is($warm->query_safe($differences), '0 of true', "$what: a warm session");
	$warm->query_safe(append_sql());
	$node->safe_psql('store', append_sql());
	is($warm->query_safe($differences), '0 of true', "$what: a warm session, of what comes then");
	is($node->safe_psql('store', $differences), '0 of true', "$what: a new session");
	is($warm->query_safe($misjudged), '0 of true', "$what: conditions of a warm session");
	is($warm->query_safe("SELECT decide($newest)"), 'appended', "$what: a warm session decides in its boundary");
	is($warm->query_safe("SELECT decide($newest)"), 'appended', "$what: and again");
	my $own = $warm->query_safe("SELECT $newest");
	$node->safe_psql('store', q{SELECT es_append('other-1', 'D', '{}', '{"tags": ["own"]}')});
	is($warm->query_safe("SELECT decide($own)"), 'VE011', "$what: it meets what another session has appended");
	is($warm->query_safe("SELECT decide($newest)"), 'appended', "$what: and decides anew");
}

# Of each segment the same is done: %s is its name.
foreach (
	[ 'REINDEX INDEX' => 'REINDEX INDEX eventstore.%s_tag' ],
	[ 'REINDEX INDEX CONCURRENTLY' => 'REINDEX INDEX CONCURRENTLY eventstore.%s_tag' ],
	[ 'REINDEX TABLE' => 'REINDEX TABLE eventstore.%s' ],
	[ 'REINDEX TABLE CONCURRENTLY' => 'REINDEX TABLE CONCURRENTLY eventstore.%s' ],
	[ 'a little memory' => 'SET maintenance_work_mem = 1024; REINDEX INDEX eventstore.%s_tag' ],
	[ 'VACUUM' => 'VACUUM eventstore.%s' ],
	[ 'VACUUM, all of it' => 'VACUUM (FREEZE, DISABLE_PAGE_SKIPPING, INDEX_CLEANUP on) eventstore.%s' ],
	[ 'VACUUM FULL' => 'VACUUM FULL eventstore.%s' ],
	[ 'CLUSTER' => 'CLUSTER eventstore.%1$s USING %1$s_position' ],
	[ 'ANALYZE' => 'ANALYZE eventstore.%s' ],
	[ 'another tablespace' => 'ALTER TABLE eventstore.%s SET TABLESPACE elsewhere' ],
	[ 'another tablespace for the index' => 'ALTER INDEX eventstore.%s_tag SET TABLESPACE elsewhere' ],
	[ 'a fill factor' => 'ALTER INDEX eventstore.%1$s_tag SET (fillfactor = 50); REINDEX INDEX eventstore.%1$s_tag' ],
	[ 'an index of the user\'s' => 'CREATE INDEX ON eventstore.%s (type, metadata)' ])
{
	my ($what, $statement) = @$_;

	foreach my $segment (rows($node, 'store', q{SELECT 'events_' || segment FROM es_segments ORDER BY segment}))
	{
		$node->safe_psql('store', sprintf($statement, $segment));
	}
	is_found($what);
}
$node->safe_psql('store', 'ALTER TABLE eventstore.events ADD COLUMN more int DEFAULT 7');
is_found('a column of the user\'s');
$node->safe_psql('store', 'ALTER TABLE eventstore.events DROP COLUMN more');
is_found('without it');

# An index of its own kind that the user makes says the same.
is($node->safe_psql('store', q{CREATE INDEX made ON eventstore.events_0 USING eventstore_tags (metadata, position);
		SELECT pg_relation_size('eventstore.made') > 8192, pg_relation_size('eventstore.events_0_tag') > 8192, amname, pg_index_column_has_property('eventstore.made'::regclass, 1, 'orderable') FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relname = 'made'}),
	't|t|eventstore_tags|f', 'an index of this kind can be made by hand');
is_found('with another index by tag');
is(sqlstates($node, 'store', q{CREATE UNIQUE INDEX ON eventstore.events_0 USING eventstore_tags (metadata, position)}), '0A000', 'it cannot be unique');

# A call's own entry may be the first on its leaf, with what the condition asks for on the leaf
# before: the last one is empty after a vacuum, and the session knows it.
new_store($node, 'edge');
my $edge = $node->background_psql('edge');
my $many = q{SELECT es_append_batch('edge-1', (SELECT jsonb_agg('{"type": "T", "metadata": {"tags": ["edge"]}}'::jsonb) FROM generate_series(1, 1000)))};
$edge->query_safe($many);
$edge->query_safe("BEGIN; $many; ROLLBACK");
$node->safe_psql('edge', 'VACUUM (INDEX_CLEANUP on) eventstore.events_0');
$edge->query_safe(q{CREATE FUNCTION decide(after bigint) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN es_append_if('[{"stream": "edge-1", "type": "T", "tags": ["edge"]}]', after, tags => '{edge}');
	EXCEPTION WHEN SQLSTATE 'VE011' THEN
		RETURN 'VE011';
	END $$});
is($edge->query_safe('SELECT decide(999)'), 'VE011', 'what the leaf before has is met');
is($edge->query_safe('SELECT decide(1000)'), '2002', 'nothing is after it');
is($edge->query_safe('SELECT decide(1000)'), 'VE011', 'but that');
$edge->quit;

# A transaction that is prepared is waited for by a condition on its tags.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my $tag = lc $end;

	$node->safe_psql('store', qq{BEGIN; SELECT es_append('p-1', 'P', '{}', '{"tags": ["$tag"]}'); PREPARE TRANSACTION 'p'});
	my $decision = start_script($node, 'store', qq{\\set VERBOSITY sqlstate\nSET application_name = 'decision'; SELECT es_append_if('[]', 0, query => '[{"tags": ["$tag"]}]') IS NULL});
	wait_until('the decision to wait', sub { $node->safe_psql('store', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'decision' AND cardinality(pg_blocking_pids(pid)) > 0}) eq '1' });
	$node->safe_psql('store', "$end PREPARED 'p'");
	my ($out, $err) = finish_script($decision);
	is("$out$err" =~ /(VE011|^t$)/m ? $1 : "$out$err", $end eq 'COMMIT' ? 'VE011' : 't', "a condition waits for what is prepared: $end");
}

# Copies, and a crash.
$warm->quit;
my $standby = start_standby($node);
$node->safe_psql('store', append_sql());
$node->wait_for_catchup($standby);
$node->safe_psql('store', 'SELECT es_settle()');
$node->wait_for_catchup($standby);
is($standby->safe_psql('store', $differences), '0 of true', 'on a standby');
$node->safe_psql('store', append_sql());
my $dump = $node->backup_dir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('store'), '-f', $dump ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restored');
is($node->safe_psql('restored', $differences), '0 of true', 'in a restored store');
my $writer = start_script($node, 'store', join("\n", map { append_sql() } 1 .. 200));
my $before = $node->safe_psql('store', 'SELECT es_last_position(), count(*) FROM es_events') =~ s/.*\|//r;
wait_until('some events', sub { $node->safe_psql('store', 'SELECT count(*) FROM es_events') > $before + 300 });
$node->stop('immediate');
finish_script($writer);
$node->start;
is($node->safe_psql('store', $differences), '0 of true', 'after a crash');
$standby->promote;
is($standby->safe_psql('store', $differences), '0 of true', 'on a standby that was promoted');
$standby->stop;

# Where the log of the server leaves out what can be made durable otherwise.
$node->append_conf('postgresql.conf', "wal_level = minimal\nmax_wal_senders = 0\nwal_skip_threshold = 0\n");
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE minimal');
$node->safe_psql('minimal', 'BEGIN; CREATE EXTENSION eventstore; SELECT es_set_segment_size(100); ' . join(' ', append_sql() =~ s/BEGIN;|COMMIT;|ROLLBACK;//gr) . ' COMMIT');
$node->safe_psql('minimal', 'BEGIN; REINDEX INDEX eventstore.events_0_tag; REINDEX TABLE eventstore.events_1; COMMIT');
$node->stop('immediate');
$node->start;
is($node->safe_psql('minimal', $differences), '0 of true', 'after a crash, with wal_level = minimal');
$node->safe_psql('minimal', append_sql());
$node->safe_psql('minimal', 'VACUUM FULL eventstore.events_0');
$node->stop('immediate');
$node->start;
is($node->safe_psql('minimal', $differences), '0 of true', 'and after a rewrite');

$node->stop;
done_testing();
