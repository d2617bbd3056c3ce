# Rows of the store's tables under what happens beside: places that change between
# reading and writing, errors in the middle of a look, users' functions that append
# while a row is written, and memory after large batches.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use EventstoreProjection;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "autovacuum = off\nlog_line_prefix = '%m [%p] %e %q%a '\n");

use_store($node);
new_store($node, 'store');

# ask(session, sql): the result and the error of a session that stays
sub ask
{
	my ($session, $sql) = @_;
	my $out = $session->query("\\set VERBOSITY sqlstate\n$sql");
	my ($err) = $session->{stderr} =~ /ERROR:\s+(\w+)/;

	$session->{stderr} = '';
	return ($out, $err // '');
}

# ---- VACUUM FULL between reading a row and writing it ----

# Handlers wait for whoever holds the advisory lock of their projection's name.
$node->safe_psql('store', q{
	CREATE TABLE seen (projection text, n bigint);
	CREATE FUNCTION waits(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7); $$;
	SELECT es_create_reducer('sum');
	SELECT es_register_reducer_ops('sum', '*', '{"inc": {"n": 1}}');});
$node->safe_psql('store', $_) foreach (
	(map { "SELECT es_create_projection('p$_', 'sum', 'inline')" } (0 .. 3)),
	"SELECT es_create_handler_projection('slow', 'waits(es_event)')",
	(map { "SELECT es_create_projection('q$_', 'sum')" } (0 .. 3)),
	"SELECT es_append_batch('a-1', '[{\"type\": \"T\"}, {\"type\": \"T\"}]')",
	# rows that are written often have moved, so that they have another place afterwards
	(map { ("SELECT es_run_projection('q$_')", "SELECT es_rebuild_projection('q$_')", "SELECT es_run_projection('q$_')") } (0 .. 3)));
my $holder = $node->background_psql('store');

# progress(): of all projections but the slow one
sub progress
{
	return $node->safe_psql('store', "SELECT string_agg(concat_ws(' ', name, generation, position, live, error), ', ' ORDER BY name, generation)
		FROM eventstore.projection_progress JOIN eventstore.projections USING (projection_id) WHERE name <> 'slow'");
}

for my $n (1 .. 3)
{
	my $before = progress();

	$holder->query_safe('SELECT pg_advisory_lock(7)');
	my $run = start_script($node, 'store', "SELECT es_run_projection('slow');\n");
	ok($node->poll_query_until('store', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), "a projection is at work, $n");
	my $rewrite = start_script($node, 'store', "VACUUM FULL eventstore.projection_progress;\n");
	# it is done, or waits for the other, which then has kept its lock
	ok($node->poll_query_until('store', "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'VACUUM FULL%' AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'"), '... its row gets another place');
	$holder->query_safe('SELECT pg_advisory_unlock(7)');
	my ($out, $err) = finish_script($run);
	is($err, '', '... and it writes that row');
	finish_script($rewrite);
	is(progress(), $before, '... and no other one');
	is($node->safe_psql('store', "SELECT position = (SELECT max(position) FROM es_events) FROM es_projections WHERE projection = 'slow'"), 't', '... where it is');
	$node->safe_psql('store', "SELECT es_append('a-1', 'T')");
	$node->safe_psql('store', "SELECT es_run_projection('q$_')") foreach (0 .. 3);
}
$holder->quit;
is($node->safe_psql('store', "SELECT string_agg(state->>'n', ' ') FROM generate_series(0, 3) i, es_projection('p' || i)"), '5 5 5 5', 'inline states are right');

# All of it at once, for a while.
$node->safe_psql('store', "SELECT es_subscribe('s', 0, partitions => 4)");
my @scripts = (
	join('', map { "VACUUM FULL eventstore.$_;\n" } (qw(projection_progress subscription_partitions subscription_members projection_progress streams snapshots subscription_failures)) x 12),
	join('', map { "SELECT es_rebuild_projection('q" . $_ % 4 . "'); SELECT es_run_projection('q" . $_ % 4 . "');\n" } (1 .. 60)),
	join('', map { "SELECT es_rebuild_projection('p" . $_ % 4 . "'); SELECT es_run_projection('p" . $_ % 4 . "');\n" } (1 .. 60)),
	join('', map { "SELECT es_append('r-' || $_ % 7, 'T');\n" } (1 .. 300)),
	join('', map { "BEGIN; SELECT es_ack('s', partition, max(position), 'm') FROM es_poll('s', 5, member => 'm') GROUP BY partition; COMMIT;\n" } (1 .. 120)));
my @running = map { start_script($node, 'store', "\\set VERBOSITY sqlstate\n$_", '-v', 'ON_ERROR_STOP=0') } @scripts;
my %errors = map { $_ => 1 } map { my ($out, $err) = finish_script($_); $err =~ /ERROR:\s+(\w+)/g } @running;
# a statement that needs a table for itself may be the one that a deadlock ends
is(join(' ', grep { $_ ne '40P01' } sort keys %errors), '', 'everything at once: no error');
$node->safe_psql('store', "SELECT es_rebuild_projection('$_'); SELECT es_run_projection('$_')") foreach map { ("p$_", "q$_") } (0 .. 3);
is($node->safe_psql('store', "SELECT string_agg(DISTINCT live || ' ' || status, ', ') FROM (SELECT projection_id, count(*) FILTER (WHERE live) AS live FROM eventstore.projection_progress GROUP BY 1) g
	JOIN eventstore.projections USING (projection_id) JOIN es_projections ON projection = name"), '1 running', '... each projection has one live generation');
is($node->safe_psql('store', "SELECT count(*) FROM generate_series(0, 3) i, LATERAL (SELECT sum((state->>'n')::bigint) AS n FROM es_projection('p' || i)) p,
	LATERAL (SELECT sum((state->>'n')::bigint) AS n FROM es_projection('q' || i)) q WHERE p.n = q.n AND p.n = (SELECT count(*) FROM es_events)"), 4, '... and all events in its states');

# ---- an error in the middle of a look ----

$node->safe_psql('store', "SELECT es_drop_projection(projection) FROM es_projections");
$node->safe_psql('store', q{
	SELECT es_create_reducer('keep');
	SELECT es_register_reducer_ops('keep', '*', '{"set": {"text": "$.data.text"}}');
	SELECT es_create_projection('big', 'keep', 'inline', key => '$.stream');
	SELECT es_append('big-1', 'T', jsonb_build_object('text', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i)))});
my $toast = $node->safe_psql('store', "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = (SELECT reltoastrelid FROM pg_class WHERE oid = (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'eventstore.projection_states'::regclass))");
my $locker = $node->background_psql('store');
my $session = $node->background_psql('store', on_error_stop => 0);

is((ask($session, "SELECT es_append('big-1', 'T', '{\"text\": 1}'); SELECT es_append('big-1', 'T', jsonb_build_object('text', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i)))"))[1], '', 'a session that knows the tables');
foreach my $how ('lock_timeout', 'cancel', 'in a subtransaction')
{
	my $append = "SELECT es_append('big-1', 'T', jsonb_build_object('text', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i)));";

	$locker->query_safe("BEGIN; REINDEX INDEX $toast");
	if ($how eq 'cancel')
	{
		my $pid = $session->query_safe('SELECT pg_backend_pid()');
		my $cancel = start_script($node, 'postgres', "DO \$\$ BEGIN LOOP
			PERFORM pg_stat_clear_snapshot();
			EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock');
			END LOOP; PERFORM pg_cancel_backend($pid); END \$\$;\n");
		is((ask($session, "SET lock_timeout = 0; $append"))[1], '57014', 'an append is cancelled in a look at a state');
		finish_script($cancel);
	}
	elsif ($how eq 'lock_timeout')
	{
		is((ask($session, "SET lock_timeout = '50ms'; $append"))[1], '55P03', 'an append gives up in a look at a state');
	}
	else
	{
		is((ask($session, "SET lock_timeout = '50ms'; BEGIN; SELECT es_append('other-1', 'T'); SAVEPOINT s; $append ROLLBACK TO s; SELECT es_append('other-1', 'T')"))[1], '55P03', 'the same in a subtransaction');
	}
	$locker->query_safe('ROLLBACK');
	is((ask($session, "$append COMMIT"))[1], '', '... after which the session appends');
	is((ask($session, $append))[1], '', '... and again');
	is((ask($session, "SELECT count(*) FROM es_projection('big', 'big-1')"))[0], 1, '... and reads');
}
$_->quit foreach ($locker, $session);
is(gaps($node, 'store'), '', 'no version is missing');
is($node->safe_psql('store', "SELECT version = (SELECT max(version) FROM es_events WHERE stream = 'big-1') FROM es_projection('big', 'big-1')"), 't', 'the state has all events');
$node->safe_psql('store', "SELECT es_drop_projection('big')");

# ---- users' functions that append while a row is written ----

$node->safe_psql('store', q{
	SELECT es_append('log-1', 'Logged');
	CREATE FUNCTION logs() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM es_append('log-1', 'Logged'); RETURN 4; END $$;
	ALTER TABLE eventstore.streams ADD COLUMN logged int;
	ALTER TABLE eventstore.streams ALTER logged SET DEFAULT logs();
	ALTER TABLE eventstore.events ADD COLUMN also text;
	ALTER TABLE eventstore.events ALTER also SET DEFAULT 'x';
	SELECT es_append('new-1', 'T');
	SELECT es_append_batch('new-2', '[{"type": "T"}, {"type": "T"}]');
	SELECT count(*) FROM es_append_many('[{"stream": "new-3", "type": "T"}, {"stream": "new-4", "type": "T"}]')});
is($node->safe_psql('store', "SELECT count(*) FROM es_read('log-1', max_count => NULL)"), 5, 'a default that appends');
is($node->safe_psql('store', "SELECT string_agg(name || ' ' || logged, ', ' ORDER BY name) FROM eventstore.streams WHERE name LIKE 'new-%'"), 'new-1 4, new-2 4, new-3 4, new-4 4', '... has its value in the row');
is($node->safe_psql('store', "SELECT count(*) FROM es_events WHERE stream LIKE 'new-%'"), 5, '... and all events are there');
is(gaps($node, 'store'), '', '... in order');
$node->safe_psql('store', 'ALTER TABLE eventstore.streams DROP COLUMN logged; ALTER TABLE eventstore.events DROP COLUMN also');

# ---- memory after large batches ----

$session = $node->background_psql('store');
my $ours = "SELECT coalesce(sum(total_bytes), 0) FROM pg_backend_memory_contexts WHERE name LIKE 'eventstore%'";
my $all = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';
my $event = "'type', 'T', 'data', jsonb_build_object('x', repeat('x', 96000))";

$session->query_safe($_) foreach ("SELECT es_append_batch('m-1', '[{\"type\": \"T\"}]')", 'CREATE TEMP TABLE taken (n bigint)', "SELECT es_subscribe('mem', 0)");
my $before = $session->query_safe($all);
foreach my $case (['batch', "SELECT es_append_batch('m-1', (SELECT jsonb_agg(jsonb_build_object($event)) FROM generate_series(1, 1000)))"], ['call over many streams', "SELECT count(*) FROM es_append_many((SELECT jsonb_agg(jsonb_build_object('stream', 'm-' || i % 3, $event)) FROM generate_series(1, 1000) i))"],
	['insert', "INSERT INTO es_events (stream, type, data) SELECT 'm-' || i % 3, 'T', jsonb_build_object('x', repeat('x', 96000)) FROM generate_series(1, 1000) i"],
	['batch with tags', "SELECT es_append_if(jsonb_build_array(jsonb_build_object('stream', 'm-9', 'type', 'T', 'tags', (SELECT jsonb_agg('tag' || i || repeat('x', 200)) FROM generate_series(1, 3000) i))), 0, tags => '{nobody}')"],
	['small rows', "SELECT es_append_batch('m-2', (SELECT jsonb_agg(jsonb_build_object('type', 'T', 'data', jsonb_build_object('x', repeat('x', 7000)))) FROM generate_series(1, 1000)))"],
	['poll', "INSERT INTO taken SELECT count(*) FROM es_poll('mem', 1000)"], ['read', "INSERT INTO taken SELECT count(*) FROM es_read('m-1', max_count => 1000)"])
{
	my ($what, $sql) = @$case;

	$session->query_safe($sql);
	cmp_ok($session->query_safe($ours), '<', 2_000_000, "little of ours is kept after a large $what");
	cmp_ok($session->query_safe($all) - $before, '<', 4_000_000, '... and little altogether');
}
$session->quit;

# ---- memory of a session that lives through many segments ----

new_store($node, 'small_segments', 100);
$session = $node->background_psql('small_segments');
$session->query_safe("SELECT es_append_batch('s-' || i, (SELECT jsonb_agg('{\"type\": \"T\"}'::jsonb) FROM generate_series(1, 1000))) FROM generate_series(1, 30) i");
$session->query_safe("SELECT es_append('s-' || i, 'T') FROM generate_series(1, 30) i");
is($session->query_safe('SELECT count(*) FROM es_read_all(0, NULL)'), 30030, 'a session has filled 300 segments');
cmp_ok($session->query_safe($ours), '<', 10_000_000, '... of which it does not keep all that it knew');
is($session->query_safe(q{SELECT count(es_append('s-' || i, 'T', expected_version => 1001)) FROM generate_series(1, 30) i}), 30, '... and appends to streams in all of them');
$session->quit;
is(gaps($node, 'small_segments'), '', '... with no version missing');

my $log = slurp_file($node->logfile);
unlike($log, qr/was terminated by signal/, 'nothing crashed');
is(join("\n", $log =~ /^.* XX\w\w\w .*ERROR.*$/mg), '', 'no internal error');
$node->stop;
done_testing();
