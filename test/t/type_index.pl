# Indexes of types on request: every segment gets them beside running appends, none of
# which waits; what queries find is right before, during and after, with whatever index
# is there by that name.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => "autovacuum = off\n");
new_store($node, 'store', 100);

# append(n): n events of each of three types
sub append_some
{
	my ($n) = @_;

	$node->safe_psql('store', qq{SELECT count(es_append('e-' || n % 7, chr(65 + n % 3), '{}', jsonb_build_object('tags', jsonb_build_array('t' || n % 5)))) FROM generate_series(1, 3 * $n) n});
}

# Queries by type that do not find what SQL finds, in either direction.
my $differences = q{
	WITH log AS MATERIALIZED (SELECT e.* FROM es_events e, (SELECT es_settled_position() AS settled OFFSET 0) s WHERE position <= settled)
	SELECT count(*) FROM (VALUES ('[{"types": ["A"]}]'::jsonb), ('[{"types": ["A", "B"]}]'), ('[{"types": ["A"]}, {"types": ["A"]}]'), ('[{"types": ["C"]}, {"types": ["A"], "tags": ["t1"]}]'), ('[{"types": ["None", "A"]}]'), ('[{"types": ["A"], "last": true}, {"types": ["B"]}]')) q(query),
		LATERAL (SELECT array_agg(position ORDER BY position) AS a FROM log e WHERE EXISTS (SELECT FROM jsonb_array_elements(query) i
			WHERE i -> 'types' ? e.type AND (i -> 'tags' IS NULL OR e.metadata -> 'tags' @> (i -> 'tags'))
				AND (i -> 'last' IS NULL OR position = (SELECT max(position) FROM log WHERE i -> 'types' ? type)))) s
	WHERE (SELECT array_agg(position) FROM es_read_query(query, 0, NULL)) IS DISTINCT FROM s.a
		OR (SELECT array_agg(position ORDER BY position) FROM es_read_query(query, 0, NULL, true)) IS DISTINCT FROM s.a};
# name(type, segment): what its index is called
sub name
{
	my ($type, $segment) = @_;

	return $node->safe_psql('store', "SELECT format('events_%s_type_%s', $segment, to_hex(hashtextextended('$type', 0)))");
}

# is_indexed(type): waits until all segments have its index
sub is_indexed
{
	my ($type, $what) = @_;

	ok($node->poll_query_until('store', "SELECT segments = indexed AND segments > 3 FROM es_indexed_types WHERE type = '$type'"), $what);
	is($node->safe_psql('store', $differences), '0', 'queries find what SQL finds');
}

# scans(type): how often indexes of it have been used
sub scans
{
	my ($type, $server) = @_;
	my $name = name($type, 0) =~ s/0/%/r;

	return ($server // $node)->safe_psql('store', "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_all_indexes WHERE indexrelname LIKE '$name'");
}

# workers(): how many are at it
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eventstore type indexer'};

append_some(120);
is($node->safe_psql('store', $differences), '0', 'without any index');

# ---- beside a running log ----

# An old transaction holds the worker up for as long as it likes; appends do not wait for it.
my $old = $node->background_psql('store');
$old->query_safe(q{BEGIN; SELECT es_append('old-1', 'A', '{}', '{"tags": ["t1"]}')});
my $writer = start_script($node, 'store', "SET lock_timeout = '100ms';\n" . "SELECT es_append('w-1', 'A', '{}', '{\"tags\": [\"t1\"]}');\n" x 300);
$node->safe_psql('store', q{SELECT es_index_type('A')});
ok($node->poll_query_until('store', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore type indexer' AND cardinality(pg_blocking_pids(pid)) > 0}), 'the worker waits for a transaction that was there before');
my ($out, $err) = finish_script($writer);
is($err, '', 'appends go on: none waits for a lock');
is($node->safe_psql('store', q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE NOT granted AND relnamespace = 'eventstore'::regnamespace}), '0', 'nobody waits for a table');
is($node->safe_psql('store', $differences), '0', 'meanwhile queries find what SQL finds');
is($node->safe_psql('store', q{SELECT es_append_if('[]', es_settled_position(), query => '[{"types": ["C"]}]') IS NULL}), 't', 'conditions hold meanwhile');
$old->query_safe('COMMIT');
is_indexed('A', 'then all segments get the index');
my $before = scans('A');
$node->safe_psql('store', q{SELECT count(*) FROM es_read_query('[{"types": ["A"]}]', 0, NULL)});
ok(wait_until('statistics', sub { scans('A') > $before }), 'a query by the type uses it');
append_some(60);
is($node->safe_psql('store', q{SELECT segments = indexed FROM es_indexed_types}), 't', 'new segments have it');
is($node->safe_psql('store', $differences), '0', 'and queries find what SQL finds');

# Many items of a type have one way to its events.
my $session = $node->background_psql('store');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe(q{SELECT count(*) FROM es_read_query((SELECT jsonb_agg('{"types": ["B"]}'::jsonb) FROM generate_series(1, 20000)), 0, 1)});
my $peak = status_of($pid, 'VmHWM');
is($session->query_safe(q{SELECT count(*) = (SELECT count(*) FROM es_events WHERE type = 'A') FROM es_read_query((SELECT jsonb_agg('{"types": ["A"]}'::jsonb) FROM generate_series(1, 20000)), 0, NULL)}), 't', '20,000 items of an indexed type');
cmp_ok(status_of($pid, 'VmHWM') - $peak, '<', 100_000, 'take no scan of the index each');
$session->quit;

# ---- what goes wrong ----

$node->safe_psql('store', q{BEGIN; SELECT es_index_type('R'); ROLLBACK});
$node->safe_psql('store', q{SELECT es_index_type('B')});
is_indexed('B', 'a second type');
is($node->safe_psql('store', q{SELECT string_agg(type, ' ' ORDER BY type) FROM es_indexed_types}), 'A B', 'what was rolled back is not asked for');
is($node->safe_psql('store', sprintf(q{SELECT count(*) FROM pg_class WHERE relname = '%s'}, name('R', 0))), '0', 'nor made');
is(sqlstates($node, 'store', q{SELECT es_drop_type_index('R')}), 'VE004', 'nor can it be dropped');

# The worker fails in the middle: it ends, and gives back what it has.
$old->query_safe(q{BEGIN; SELECT es_append('old-1', 'C')});
$node->safe_psql('store', q{SELECT es_index_type('F')});
ok($node->poll_query_until('store', q{SELECT count(*) > 0 FROM pg_index WHERE NOT indisvalid}), 'half an index of type F');
my $log_end = -s $node->logfile;
$node->safe_psql('store', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore type indexer'});
ok($node->poll_query_until('store', $workers, '0'), 'its worker is canceled');
$old->query_safe('COMMIT');
unlike(slurp_file($node->logfile, $log_end), qr/WARNING/, 'no lock was lost track of');
$node->safe_psql('store', q{SELECT es_index_type('F')});
is_indexed('F', 'asked again, it is made');
$node->safe_psql('store', q{SELECT es_drop_type_index('F')});
ok($node->poll_query_until('store', q{SELECT count(*) = 0 FROM pg_indexes WHERE indexdef LIKE '%''F''::text)'}), 'and dropped');

# What is asked for while the worker is at a later segment.
$old->query_safe('BEGIN; LOCK TABLE eventstore.events_2 IN ROW EXCLUSIVE MODE');
$node->safe_psql('store', q{SELECT es_index_type('D')});
ok($node->poll_query_until('store', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'eventstore type indexer' AND cardinality(pg_blocking_pids(pid)) > 0}), 'the worker waits for a later segment');
$node->safe_psql('store', q{SELECT es_index_type('E')});
ok($node->poll_query_until('store', $workers, '1'), 'another one leaves it to that one');
$old->query_safe('COMMIT');
is_indexed($_, "type $_: segments before that one have it, too, and those after it") foreach ('D', 'E');
$node->safe_psql('store', q{SELECT es_drop_type_index('D'), es_drop_type_index('E')});
ok($node->poll_query_until('store', q{SELECT count(*) = 0 FROM pg_indexes WHERE indexdef ~ $$'[DE]'::text$$}), 'both are dropped');

# The worker is ended in the middle: what it was at is left, invalid.
$old->query_safe(q{BEGIN; SELECT es_append('old-1', 'C')});
$node->safe_psql('store', q{SELECT es_index_type('C')});
ok($node->poll_query_until('store', q{SELECT count(*) > 0 FROM pg_index WHERE NOT indisvalid}), 'half an index');
$node->safe_psql('store', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eventstore type indexer'});
ok($node->poll_query_until('store', $workers, '0'), 'the worker is gone');
$old->query_safe('COMMIT');
is($node->safe_psql('store', 'SELECT count(*) FROM pg_index WHERE NOT indisvalid'), '1', 'the half is left');
is($node->safe_psql('store', $differences), '0', 'and not used');
is($node->safe_psql('store', q{SELECT indexed < segments FROM es_indexed_types WHERE type = 'C'}), 't', 'es_indexed_types tells');
$node->safe_psql('store', q{SELECT es_index_type('C')});
is_indexed('C', 'asked again, it is mended');
is($node->safe_psql('store', 'SELECT count(*) FROM pg_index WHERE NOT indisvalid'), '0', 'nothing is left half built');

# Indexes by hand: one that is gone, one of another type by the right name, one of other columns.
my @names = map { name('A', $_) } 0 .. 2;
$node->safe_psql('store', qq{
	DROP INDEX eventstore.$names[0], eventstore.$names[1], eventstore.$names[2];
	CREATE INDEX $names[1] ON eventstore.events_1 (position) WHERE type = 'B';
	CREATE INDEX $names[2] ON eventstore.events_2 (version) WHERE type = 'A'});
is($node->safe_psql('store', $differences), '0', 'an index that says something else is not used');
$node->safe_psql('store', q{SELECT es_index_type('A')});
ok($node->poll_query_until('store', $workers, '0'), 'asked again');
is($node->safe_psql('store', qq{SELECT count(*) FROM pg_indexes WHERE schemaname = 'eventstore' AND indexname IN ('$names[0]', '$names[1]', '$names[2]') AND indexdef LIKE '%btree ("position") WHERE (type = ''A''::text)'}), '3', 'they are made anew');
is($node->safe_psql('store', $differences), '0', 'queries find what SQL finds');

# A transaction that is prepared would start nothing when it commits.
my (undef, undef, $refused) = $node->psql('store', q{\\set VERBOSITY sqlstate
BEGIN; SELECT es_index_type('P'); PREPARE TRANSACTION 'p'});
like($refused, qr/0A000/, 'one that asks cannot be prepared');

# Administration of one.
foreach my $statement ("REINDEX INDEX eventstore.$names[0]", "REINDEX INDEX CONCURRENTLY eventstore.$names[0]", 'VACUUM FULL eventstore.events_0', 'VACUUM eventstore.events_2')
{
	$node->safe_psql('store', $statement);
	is($node->safe_psql('store', $differences), '0', $statement);
}

# ---- copies ----

my $standby = start_standby($node);
$node->safe_psql('store', 'SELECT es_settle()');
$node->wait_for_catchup($standby);
is($standby->safe_psql('store', $differences), '0', 'on a standby');
$before = scans('A', $standby);
$standby->safe_psql('store', q{SELECT count(*) FROM es_read_query('[{"types": ["A"]}]', 0, NULL)});
ok(wait_until('statistics', sub { scans('A', $standby) > $before }), '... by the index');
is(sqlstates($standby, 'store', q{SELECT es_index_type('D')}), '25006', '... which cannot be asked for there');
$standby->stop;
my $dump = $node->backup_dir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('store'), '-f', $dump ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restored');
is($node->safe_psql('restored', $differences), '0', 'in a restored store');
is($node->safe_psql('restored', 'SELECT string_agg(type, \' \' ORDER BY type), bool_and(segments = indexed) FROM es_indexed_types'), 'A B C|t', 'with its indexes');

# ---- no more of it ----

$node->safe_psql('store', q{SELECT es_drop_type_index('B')});
ok($node->poll_query_until('store', sprintf(q{SELECT count(*) = 0 FROM pg_class WHERE relname LIKE '%s'}, name('B', 0) =~ s/0/%/r)), 'indexes of a type are dropped');
is($node->safe_psql('store', $differences), '0', 'queries find what SQL finds');
append_some(60);
is($node->safe_psql('store', sprintf(q{SELECT count(*) FROM pg_class WHERE relname LIKE '%s'}, name('B', 0) =~ s/0/%/r)), '0', 'new segments have none');
$old->quit;

# No worker is free.
$node->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_logical_replication_workers = 0\n");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
(undef, $out, $err) = $node->psql('store', q{SELECT es_index_type('B')});
like($err, qr/WARNING:  no background worker is free/, 'a warning, if there is no worker');
is($node->safe_psql('store', $differences), '0', 'queries find what SQL finds');
$node->append_conf('postgresql.conf', "max_worker_processes = 8\n");
$node->restart;
$node->safe_psql('store', q{SELECT es_index_type('B')});
is_indexed('B', 'asked again when there is one, all is made');

$node->stop;
done_testing();
