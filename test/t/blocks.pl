# What is written a block at a time: index entries, positions, pages.  Indexes
# stay whole under concurrent writers, vacuum, a crash and on a standby, whose
# replay is compared page by page (wal_consistency_checking).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $writers = 4;
my $calls = $ENV{ES_BLOCK_CALLS} // 60;
my $primary = new_node('primary', streaming => 1, conf => "wal_consistency_checking = 'all'\nmax_wal_size = 4GB\nshared_buffers = 128MB\nwal_keep_size = 4GB\n");
my $indexes = "SELECT indexrelid FROM pg_index JOIN pg_class c ON c.oid = indrelid JOIN pg_class i ON i.oid = indexrelid JOIN pg_am a ON a.oid = i.relam AND a.amname = 'btree'
	WHERE c.relnamespace = 'eventstore'::regnamespace AND c.relname ~ '^(events_|streams)'";

$primary->safe_psql('postgres', $_) foreach (
	'CREATE EXTENSION eventstore', 'CREATE EXTENSION amcheck', 'SELECT es_set_segment_size(50000)',
	"SELECT es_append('first-1', 'First')");
my $standby = start_standby($primary);

# A writer's script: batches of all sizes to streams of its own and to shared
# ones, some with ids, single events, rows of a statement, rollbacks.
sub writer_script
{
	my ($writer) = @_;
	my $sql = "CREATE FUNCTION pg_temp.batch(n int, ids bool) RETURNS jsonb LANGUAGE sql AS \$\$
		SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', repeat('x', (i * 37) % 600)) ||
			CASE WHEN ids THEN jsonb_build_object('event_id', gen_random_uuid()) ELSE '{}' END)
		FROM generate_series(1, n) i \$\$;\n";

	for my $n (1 .. $calls)
	{
		my $stream = rand() < 0.3 ? 'shared-' . int(rand(5)) : "own-$writer-" . int(rand(40));
		my $size = rand() < 0.5 ? 1 + int(rand(12)) : 1 + int(rand(600));
		my $ids = rand() < 0.2 ? 'true' : 'false';
		my $kind = rand();

		if ($kind < 0.2)
		{
			$sql .= "BEGIN; SELECT es_append_batch('$stream', pg_temp.batch($size, $ids)); ROLLBACK;\n";
		}
		elsif ($kind < 0.4)
		{
			$sql .= "INSERT INTO es_events (stream, type, data) SELECT 'many-' || (i * 7919) % 300, 'T', to_jsonb(i) FROM generate_series(1, $size) i;\n";
		}
		elsif ($kind < 0.6)
		{
			$sql .= "DO \$\$ BEGIN FOR i IN 1 .. $size LOOP PERFORM es_append(CASE WHEN i % 3 = 0 THEN '$stream' ELSE 'many-' || (i * 7919) % 300 END, 'T', to_jsonb(i)); "
			  . "IF i % 50 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END \$\$;\n";
		}
		elsif ($kind < 0.7)
		{
			$sql .= "BEGIN; SAVEPOINT s; SELECT es_append_batch('$stream', pg_temp.batch($size, $ids)); ROLLBACK TO s;"
			  . " SELECT es_append_batch('$stream', pg_temp.batch($size, $ids)); COMMIT;\n";
		}
		else
		{
			$sql .= "SELECT es_append_batch('$stream', pg_temp.batch($size, $ids));\n";
		}
	}
	return $sql;
}

# Runs all writers beside vacuum and checks of the indexes.
sub run_writers
{
	my ($crash) = @_;
	my $before = $primary->safe_psql('postgres', 'SELECT count(*) FROM es_events');
	my @scripts = map { start_script($primary, 'postgres', writer_script($_)) } (1 .. $writers);
	my $checker = start_script($primary, 'postgres',
		"SELECT bt_index_check(indexrelid, true) FROM ($indexes) i;\nVACUUM;\n" x ($crash ? 1000 : 5));

	if ($crash)
	{
		$primary->poll_query_until('postgres', "SELECT count(*) > $before + 3000 FROM es_events");
		$primary->stop('immediate');
	}
	my @outcomes = map { [ finish_script($_) ] } (@scripts, $checker);
	$primary->start if $crash;
	return join('', map { $_->[1] } @outcomes);
}

# Checks indexes and versions on a server.
sub check
{
	my ($node, $what, $function) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SELECT count($function) FROM ($indexes) i");

	is($err, '', "$what: indexes agree with their tables");
	is(gaps($node, 'postgres'), '', "$what: versions have no gap");
}

is(run_writers(0), '', 'writers, vacuum and checks run side by side');
check($primary, 'after writing', 'bt_index_parent_check(indexrelid, true, true)');
isnt(run_writers(1), '', 'the server stops in the middle');
check($primary, 'after a crash', 'bt_index_parent_check(indexrelid, true, true)');
is(run_writers(0), '', 'writers go on');
check($primary, 'after going on', 'bt_index_parent_check(indexrelid, true, true)');

$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
check($standby, 'on a standby', 'bt_index_check(indexrelid, true)');
my $events = "SELECT count(*), md5(string_agg(e::text, E'\\n' ORDER BY position)) FROM eventstore.events e";
is($standby->safe_psql('postgres', $events), $primary->safe_psql('postgres', $events), 'the standby has the same events');
unlike(slurp_file($standby->logfile), qr/PANIC|FATAL: +inconsistent/, 'replay left every page as it was on the primary');

# A key that is there already; a session that has appended does not look at the sequence again
$primary->safe_psql('postgres', 'CREATE DATABASE twice');
$primary->safe_psql('twice', $_) foreach (
	'CREATE EXTENSION eventstore', 'CREATE EXTENSION amcheck',
	"SELECT es_append_batch('a-1', (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, 1999)))");
my ($status, $out, $err) = $primary->psql('twice',
	"SELECT es_append('a-1', 'T'); SELECT setval('eventstore.position_seq', 990);
	SELECT es_append_batch('a-1', (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, 100)))");
like($err, qr/duplicate key value violates unique constraint "events_0_position"/, 'a position that is taken is refused');
is($primary->safe_psql('twice', "SELECT es_stream_version('a-1'), count(*) FROM es_events"), '2000|2000', '... and nothing is stored');
($status, $out, $err) = $primary->psql('twice', "SELECT bt_index_parent_check(indexrelid, true, true) FROM ($indexes) i");
is($err, '', '... and the indexes are whole');

# ... and so is one by itself, by the session that has put the last entries there
($status, $out, $err) = $primary->psql('twice', join(' ',
	"SELECT setval('eventstore.position_seq', 5000);", "SELECT es_append('b-1', 'T');" x 3,
	"SELECT setval('eventstore.position_seq', 5001);", "SELECT es_append('b-1', 'T');" x 2, "SELECT es_append('c-1', 'T');"), on_error_stop => 0);
is(() = $err =~ /duplicate key value violates unique constraint "events_0_position"/g, 2, 'a single event at a position that is taken is refused');
is($primary->safe_psql('twice', "SELECT es_stream_version('b-1'), es_stream_version('c-1'), count(*) FROM es_events WHERE position > 5000"),
	'3|1|4', '... and after that they go on');
($status, $out, $err) = $primary->psql('twice', "SELECT bt_index_parent_check(indexrelid, true, true) FROM ($indexes) i");
is($err, '', '... with the indexes whole');

# A session remembers leaves, or has them from others where the library is preloaded, that others have split, or a new file has in
# other places, or no more: an index that is made anew has fewer.
sub check_known_leaves
{
	my ($node, $how) = @_;

	$node->safe_psql('postgres', 'CREATE DATABASE leaves');
	$node->safe_psql('leaves', $_) foreach ('CREATE EXTENSION eventstore', 'CREATE EXTENSION amcheck',
		"SELECT count(es_append('s-' || i, 'T')) FROM generate_series(1, 600) i");
	my $warm = $node->background_psql('leaves', on_error_stop => 1);
	my $all = "SELECT count(es_append('s-' || i, 'T')) FROM generate_series(1, 600, 7) i";
	my $more = "SELECT count(es_append_batch('s-' || i, (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, 40)))) FROM generate_series(1, 600) i";
	my $count = 600;

	for my $change ('CHECKPOINT', 'REINDEX TABLE eventstore.events_0', 'REINDEX TABLE CONCURRENTLY eventstore.events_0', 'VACUUM FULL eventstore.events_0', 'VACUUM')
	{
		$warm->query_safe("$all;");
		$node->safe_psql('leaves', $_) foreach ($more, $change, $all);
		$warm->query_safe("$all;");
		$count += 3 * 86 + 600 * 40;
		my ($ret, $out, $err) = $node->psql('leaves', "SELECT bt_index_parent_check(indexrelid, true, true) FROM ($indexes) i");
		is($err, '', "$how: a session that has appended before goes on, and so does a new one, after others and $change");
	}
	$warm->quit;
	is($node->safe_psql('leaves', 'SELECT count(*) FROM es_events'), $count, '... and all events are there');
	is(gaps($node, 'leaves'), '', '... in their order');
	return;
}
check_known_leaves($primary, 'not preloaded');
my $preloaded = new_node('preloaded', conf => "shared_preload_libraries = 'eventstore'\n");
check_known_leaves($preloaded, 'preloaded');

# Many sessions at the same leaves, which each splits under the others.
my $script = PostgreSQL::Test::Utils::tempdir() . '/leaves.sql';
append_to_file($script, "\\set s random(1, 900)\nSELECT es_append('s-' || :s, 'T');\n");
is(system_log($preloaded->installed_command('pgbench'), '-n', '-c', 12, '-t', 2000, '-f', $script, $preloaded->connstr('leaves')), 0, 'many sessions');
($status, $out, $err) = $preloaded->psql('leaves', "SELECT bt_index_parent_check(indexrelid, true, true) FROM ($indexes) i");
is($err, '', '... leave the indexes whole');
is(gaps($preloaded, 'leaves'), '', '... and streams without gaps');
$preloaded->stop;

# Pages ahead of need
SKIP:
{
	skip 'pages are reserved on Linux only', 6 unless $^O eq 'linux';
	new_store($primary, 'pages');
	$primary->safe_psql('pages', "SELECT count(es_append_batch('a-' || s,
		(SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', repeat(md5(i::text), 10))) FROM generate_series(1, 100) i)))
		FROM generate_series(1, 300) s");
	$primary->safe_psql('pages', "CREATE TABLE sizes AS SELECT 0::bigint AS pages WHERE false");
	$primary->safe_psql('pages', "DO \$\$ BEGIN
		FOR i IN 1 .. 3000 LOOP
			PERFORM es_append('b-1', 'T', to_jsonb(repeat('x', 300)));
			INSERT INTO sizes SELECT pg_relation_size('eventstore.events_0') / 8192;
		END LOOP; END \$\$");
	my ($first, $last, $most, $times) = split /\|/, $primary->safe_psql('pages',
		"SELECT min(pages), max(pages), max(step), count(*) FROM
		 (SELECT pages, pages - lag(pages) OVER (ORDER BY pages) AS step FROM (SELECT DISTINCT pages FROM sizes) s) t");
	cmp_ok($last - $first, '>=', 50, 'single appends extend the segment');
	cmp_ok($times, '<=', ($last - $first) / 4, '... by several pages at a time');
	cmp_ok($most, '<=', $last / 32, '... few against what it has');
	my $count = $primary->safe_psql('pages', 'SELECT count(*) FROM es_events');
	$primary->stop('immediate');
	$primary->start;
	is($primary->safe_psql('pages', 'SELECT count(*) FROM es_events'), $count, 'a crash takes nothing from a table with pages to spare');
	$primary->safe_psql('pages', "SELECT count(es_append('b-1', 'T', to_jsonb(repeat('x', 300)))) FROM generate_series(1, 3000)");
	is($primary->safe_psql('pages', 'SELECT count(*) FROM es_events'), $count + 3000, '... and it goes on growing');
	$primary->safe_psql('pages', 'VACUUM');
	cmp_ok($primary->safe_psql('pages', "SELECT pg_relation_size('eventstore.events_0') / 8192"), '>=', $last, 'vacuum does not cut them off');
}

$standby->stop;
$primary->stop;
done_testing();
