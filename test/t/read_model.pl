# Read models for SQL: a session that appends lives through whatever an administrator does to
# the table of states and its indexes; a view shows all of one generation while rebuilds
# end; a dump brings tables, views, indexes and rights back; a standby reads the view.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => "autovacuum = off\n");

sub run { return $node->safe_psql('postgres', join(' ', @_)); }

run(q{
	CREATE EXTENSION eventstore;
	CREATE EXTENSION amcheck;
	CREATE ROLE app;
	CREATE SCHEMA app AUTHORIZATION app;
	SELECT es_grant('app', 'admin'), es_grant('app', 'read');
	SELECT es_create_projection('other', 'count', 'inline', 'order');
	SELECT es_create_projection('orders', 'merge', 'inline', 'order', '{"Placed": "$.data.id", "Paid": "$.data.id", "*": null}');
	SELECT es_create_projection('later', 'merge', 'async', 'order', '$.data.id');
	SELECT count(es_append('order-' || n % 50, 'Placed', jsonb_build_object('id', n % 100, 'status', 'open', 'n', n))) FROM generate_series(1, 200) n;
	SELECT es_run_projection('later');
	SET search_path = app, public;
	SET SESSION AUTHORIZATION app;
	SELECT es_projection_view('orders', 'orders'), es_projection_view('later', 'later');
	SELECT es_index_projection('orders', $$((state ->> 'status'))$$)});
my $id = run(q{SELECT projection_id FROM eventstore.projections WHERE name = 'orders'});
my $states = "eventstore.projection_states_$id";

# ---- what an administrator does, beside a session that appends ----

my $warm = $node->background_psql('postgres', on_error_stop => 0);
my $round = 0;

# agrees(what): the warm session appends; view, function, indexes and a fold of the log say the same
sub agrees
{
	my ($what) = @_;

	$round++;
	$warm->query("SELECT es_append('order-7', 'Paid', '{\"id\": \"$_\", \"status\": \"paid\", \"round\": $round}') FROM generate_series(1, 2)") foreach (7, "new-$round");
	is($warm->{stderr}, '', "$what: a session that was there before appends");
	$warm->{stderr} = '';
	is(run("SELECT count(*), min((state ->> 'round')::int) FROM app.orders WHERE state ->> 'round' = '$round'"), "2|$round", '... the view has it');
	is(run(q{SELECT count(*) FROM (SELECT key, version, position, state FROM app.orders EXCEPT SELECT * FROM es_projection('orders')) d}), '0', '... and what the function has');
	is(run(q{SET enable_seqscan = off; SELECT count(*) FROM app.orders WHERE state ->> 'status' = 'paid'}),
		run(q{SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM app.orders WHERE state ->> 'status' = 'paid'}), '... by an index as without');
	is(run("SELECT count(bt_index_check(indexrelid, true)) >= 2 FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_am a ON a.oid = relam
		WHERE indrelid = '$states'::regclass AND indisvalid AND amname = 'btree'"), 't', '... no index misses a row');
	return;
}

agrees('as it is');
foreach my $ddl ("CREATE INDEX CONCURRENTLY by_n ON $states (((state ->> 'n')::int))", "CREATE INDEX CONCURRENTLY by_doc ON $states USING gin (state)",
	"CREATE UNIQUE INDEX CONCURRENTLY once ON $states (generation, key) WHERE state IS NOT NULL", "REINDEX TABLE CONCURRENTLY $states", "REINDEX INDEX CONCURRENTLY $states\_pkey",
	"VACUUM FULL $states", "CLUSTER $states USING projection_states_$id\_pkey", "DROP INDEX CONCURRENTLY eventstore.by_doc", "ALTER TABLE eventstore.projection_states ADD COLUMN note text DEFAULT 'x'",
	"CREATE INDEX ON eventstore.projection_states (note)", "ALTER TABLE eventstore.projection_states DROP COLUMN note", "VACUUM ANALYZE $states", "ALTER TABLE $states SET (fillfactor = 50)")
{
	run($ddl);
	agrees($ddl);
}

# each step of a build in which the index has come, and is fed or not yet
foreach my $sql ("CREATE INDEX CONCURRENTLY by_round ON $states ((state ->> 'round'))", "REINDEX INDEX CONCURRENTLY eventstore.by_round")
{
	my $writer = $node->background_psql('postgres');
	my $reader = $node->background_psql('postgres');
	my $phase = q{SELECT count(*) > 0 FROM pg_stat_progress_create_index WHERE phase = };

	$writer->query_safe("BEGIN; LOCK TABLE $states IN ROW EXCLUSIVE MODE");
	my $build = start_script($node, 'postgres', "$sql;\n");
	ok($node->poll_query_until('postgres', "$phase 'waiting for writers before build'"), "$sql: waits before it begins");
	agrees('... meanwhile');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()');
	$writer->query_safe('COMMIT');
	ok($node->poll_query_until('postgres', "$phase 'waiting for old snapshots'"), '... and before it ends');
	agrees('... meanwhile');
	$reader->query_safe('COMMIT');
	is((finish_script($build))[1], '', '... it ends well');
	agrees('... and after that');
	$_->quit foreach $writer, $reader;
}

# ---- rebuilds ----

# plan(): what finds states by an expression
sub plan
{
	return run(q{SET enable_seqscan = off; SET enable_bitmapscan = off; EXPLAIN (COSTS OFF) SELECT * FROM app.orders WHERE state ->> 'status' = 'paid'});
}

run("ANALYZE $states");
like(plan(), qr/Index Scan using projection_states_$id\_idx/, 'an index on an expression finds states');
my $before = run(q{SELECT md5(string_agg(o::text, ',' ORDER BY key)) FROM app.orders o});
my $snapshot = $node->background_psql('postgres');
my $watcher = start_script($node, 'postgres', "SELECT CASE WHEN count(*) = 0 THEN 'nothing' WHEN count(DISTINCT key) <> count(*) THEN 'two' END FROM app.orders;\n" x 300);

$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM app.orders');
foreach my $nth (1 .. 3)
{
	run(q{SELECT es_rebuild_projection(p) FROM unnest(ARRAY['orders', 'later']) p});
	run("SELECT es_run_projection('$_')") foreach ('orders', 'orders', 'later');
	agrees("after rebuild $nth");
	like(plan(), qr/Index Scan using projection_states_$id\_idx/, '... the index still serves');
}
is($snapshot->query_safe(q{SELECT md5(string_agg(o::text, ',' ORDER BY key)) FROM app.orders o}), $before, 'an old snapshot sees what it saw');
$snapshot->query_safe('COMMIT');
my ($seen, $errors) = finish_script($watcher);
is($errors . ($seen =~ s/\n//gr), '', 'a reader beside them sees all of one generation each time');
is(run("SELECT count(DISTINCT generation) FROM $states"), '1', 'old generations are gone');
$_->quit foreach $warm, $snapshot;

# ---- a table that cannot be dropped just now is not kept locked to the end of the transaction ----

run(q{SELECT es_create_projection('used', 'count', 'async', 'order'); SELECT es_run_projection('used') > 0});
my $used = 'eventstore.projection_states_' . run(q{SELECT projection_id FROM eventstore.projections WHERE name = 'used'});

# locked_after(before, statement): does both in a transaction; which of the table and its parent are locked there against everybody
sub locked_after
{
	my ($before, $statement) = @_;

	return (split /\n/, run("BEGIN; $before; $statement;", qq{SELECT 'locked: ' || coalesce(string_agg(relation::regclass::text, ' '), 'none') FROM pg_locks
		WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock' AND relation IN ('$used'::regclass, 'eventstore.projection_states'::regclass); COMMIT}))[-1];
}
is(locked_after("DECLARE c CURSOR FOR SELECT key FROM $used; FETCH 1 FROM c", q{SELECT es_drop_projection('used')}), 'locked: none', 'a cursor in the same transaction is on it');
is(run("SELECT count(*) FROM $used"), '0', '... so its rows go');
run("CREATE VIEW app.left_over AS SELECT * FROM $used");
is(locked_after('SELECT 1', q{SELECT es_create_projection('next', 'count', 'async', 'order')}), 'locked: none', 'a view goes by it');
run(q{DROP VIEW app.left_over; SELECT es_drop_projection('next'); SELECT es_create_projection('next', 'count', 'async', 'order'); SELECT es_drop_projection('next')});
is(run("SELECT to_regclass('$used') IS NULL"), 't', '... and without it the table goes, too');

# ---- copies ----

my $definitions = q{SELECT string_agg(pg_get_indexdef(indexrelid), E'\n' ORDER BY indexrelid::regclass::text) FROM pg_index JOIN pg_inherits ON inhrelid = indrelid WHERE inhparent = 'eventstore.projection_states'::regclass};
my $content = q{SET SESSION AUTHORIZATION app; SELECT count(*), md5(string_agg(o::text, ',' ORDER BY key)), (SELECT md5(string_agg(l::text, ',' ORDER BY key)) FROM app.later l) FROM app.orders o};
my ($dir, $connect) = (PostgreSQL::Test::Utils::tempdir(), $node->connstr);
my %restore = (plain => "pg_dump -d '$connect dbname=postgres' | psql -Xq -v ON_ERROR_STOP=1 -d '$connect dbname=plain'",
	jobs => "pg_dump -Fd -j2 -f $dir/dump -d '$connect dbname=postgres' && pg_restore -j2 --exit-on-error -d '$connect dbname=jobs' $dir/dump",
	inserts => "pg_dump --inserts -d '$connect dbname=postgres' | psql -Xq -1 -v ON_ERROR_STOP=1 -d '$connect dbname=inserts'");

run('CREATE PUBLICATION everything FOR ALL TABLES');	# gives the parent a key, which must not be in the dump's way
foreach my $how (sort keys %restore)
{
	run("CREATE DATABASE $how");
	$node->command_ok([ 'bash', '-c', "set -o pipefail; PATH=" . $node->config_data('--bindir') . ":\$PATH; $restore{$how}" ], "$how: a dump is restored without an error");
	is($node->safe_psql($how, $definitions), run($definitions), '... the indexes are those');
	is($node->safe_psql($how, $content), run($content), '... the views show what they did, to whom they were granted');
	is($node->safe_psql($how, q{SELECT es_append('order-1', 'Placed', '{"id": "restored", "status": "new"}'); SELECT key FROM app.orders WHERE state ->> 'status' = 'new'}) =~ s/^\d+\n//r, 'restored', '... projections go on');
	is($node->safe_psql($how, q{SELECT es_create_projection('fresh', 'count', 'inline', 'order'); SELECT es_rebuild_projection('orders'); SELECT es_run_projection('orders') > 0; SELECT count(*) > 50 FROM app.orders; SELECT es_drop_projection('fresh')}) =~ s/\n//gr, 'tt', '... and new ones are made, and others rebuilt');
	is(sqlstates($node, $how, q{SELECT es_drop_projection('orders')}), '2BP01', '... one with a view is not dropped');
}

my $standby = start_standby($node);
run(q{SELECT es_append('order-1', 'Placed', '{"id": "replicated", "status": "far"}')});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', $content), run($content), 'a standby reads the views');
is($standby->safe_psql('postgres', q{SELECT key FROM app.orders WHERE state ->> 'status' = 'far'}), 'replicated', '... by the index, too');
is(sqlstates($standby, 'postgres', $_), '25006', "... and refuses $_") foreach (q{SELECT es_projection_view('orders', 'more')}, q{SELECT es_index_projection('orders', '(version)')},
	q{SELECT es_drop_projection_index('orders', 'projection_states_1_idx')});

done_testing();
