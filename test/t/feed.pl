# Feeds as consumers see them: the seam between history and slot under load,
# transactions that are streamed, prepared or rolled back, a crash in the
# middle, and what es_create_feed says when the server lacks something.
use strict;
use warnings;
use lib 'test/lib';
use EventstoreFeed;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $tempdir = PostgreSQL::Test::Utils::tempdir();

my $node = new_node('main', streaming => 'logical', conf => "logical_decoding_work_mem = 64kB\n");
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
# small segments: new ones come while a consumer is connected
$node->safe_psql('postgres', 'SELECT es_set_segment_size(1000)');

# The SQLSTATE and all of the message of a statement that must fail.
sub failure
{
	my ($node, $sql) = @_;
	my ($result, $stdout, $stderr) =
	  $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose', '-v', 'SHOW_CONTEXT=never' ]);

	return $stderr;
}

# Appends in the background: batches, savepoints, rollbacks, from some clients.
sub start_appenders
{
	my ($node, $seconds) = @_;
	my $script = "$tempdir/append" . int(rand(1e9));

	append_to_file($script, q{
\set kind random(1, 10)
BEGIN;
SELECT es_append('load-' || :client_id, 'A', jsonb_build_object('pad', repeat('x', 30 * :kind)));
SAVEPOINT s;
SELECT es_append('load-' || :client_id, 'Undone');
ROLLBACK TO s;
\if :kind <= 3
SELECT es_append_batch('shared-' || :kind, '[{"type": "B"}, {"type": "C"}]');
\endif
\if :kind = 10
ROLLBACK;
\else
COMMIT;
\endif
});
	return start_pgbench($node, $script, '-c', 4, '-T', $seconds);
}

# Waits until a consumer's file has the event.
sub wait_for_event
{
	my ($file, $type) = @_;

	return wait_until("an event of type $type in $file", sub { -e $file && slurp_file($file) =~ /"type":"\Q$type\E".*\n/ });
}

sub positions
{
	my ($node, $sql) = @_;

	return split /\n/, $node->safe_psql('postgres', "SELECT position FROM $sql ORDER BY position");
}

# ---- the seam, while others append
{
	my $appenders = start_appenders($node, 8);
	$node->poll_query_until('postgres', 'SELECT count(*) > 200 FROM es_events') or die;

	my ($slot, $head) = split /\|/, $node->safe_psql('postgres', "SELECT slot_name, head_position FROM es_create_feed('seam')");
	is($slot, 'es_seam', 'the slot is named after the feed');
	my $file = "$tempdir/seam";
	my $consumer = start_consumer($node, $slot, $file, after_position => $head);
	# in one session: what it knows to be settled is its own, unless the library is preloaded
	my ($settled, @history) = split /\n/,
	  $node->safe_psql('postgres', "SELECT es_wait($head - 1, '10 s'); SELECT position FROM es_read_all(max_count => NULL, to_position => $head)");
	cmp_ok($settled, '>=', $head, 'the history is settled soon, under load');

	ok($node->poll_query_until('postgres', "SELECT active FROM es_feeds WHERE feed = 'seam'"), 'the view shows that it is read');
	like(failure($node, "SELECT es_drop_feed('seam')"), qr/55006/, 'a feed that is read cannot be dropped');
	$appenders->finish;
	$node->safe_psql('postgres', "SELECT es_append('end-1', 'SeamEnd')");
	wait_for_event($file, 'SeamEnd');

	my @feed = map { $_->{position} } messages($file);
	my @all = positions($node, 'es_read_all(max_count => NULL)');
	note scalar(@history) . ' events of history, ' . scalar(@feed) . ' of the feed';
	ok(@history > 0 && @feed > 100, 'there was something on both sides of the seam');
	is_deeply([ sort { $a <=> $b } @history, @feed ], \@all, 'history and feed have every event once');
	my %last;
	my @back = grep { my $back = $_->{version} <= ($last{ $_->{stream} } // 0); $last{ $_->{stream} } = $_->{version}; $back } messages($file);
	is_deeply(\@back, [], 'each stream comes in its order');

	# an idle feed moves on
	$node->safe_psql('postgres', 'CREATE TABLE other AS SELECT generate_series(1, 1000)');
	my $lsn = $node->lsn('insert');
	ok($node->poll_query_until('postgres', "SELECT confirmed_lsn >= '$lsn' FROM es_feeds WHERE feed = 'seam'"),
		'the slot of a feed without events moves on');
	stop($consumer);
	$node->poll_query_until('postgres', "SELECT NOT active FROM es_feeds WHERE feed = 'seam'");
	$node->safe_psql('postgres', "SELECT es_drop_feed('seam')");
}

# ---- es_create_feed waits for a transaction in progress, and can be interrupted
{
	my $writer = $node->background_psql('postgres');
	$writer->query_safe('BEGIN');
	$writer->query_safe("SELECT es_append('straddle-1', 'Straddles')");
	like(failure($node, "SELECT * FROM es_create_feed('straddle') \\; SELECT 1"), qr/25001/, 'not in an implicit transaction block');
	my ($result, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '500ms';\nSELECT * FROM es_create_feed('straddle');");
	like($stderr, qr/statement timeout/, 'es_create_feed waits for a writer');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'es_straddle'"), '0',
		'interrupted, it leaves no slot');

	my $creator = $node->background_psql('postgres');
	$creator->query_until(qr/started/, "\\echo started\nSELECT head_position FROM es_create_feed('straddle');\n");
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%es_create_feed%' AND wait_event = 'transactionid'") or die;
	$node->safe_psql('postgres', "SELECT es_append('straddle-2', 'Meanwhile')");
	$writer->query_safe('COMMIT');
	$creator->quit;
	$writer->quit;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM es_feeds WHERE feed = 'straddle' AND NOT active") or die;
	$node->safe_psql('postgres', "SELECT es_append('straddle-3', 'After')");
	my %types = map { $_->{type} => 1 } feed($node, 'postgres', 'es_straddle');
	ok($types{After}, 'what comes later is in the slot');
	$node->safe_psql('postgres', "SELECT es_drop_feed('straddle')");
}

# ---- prepared and large transactions
{
	$node->safe_psql('postgres', "SELECT es_create_feed('$_')") foreach qw(whole frames);
	$node->safe_psql('postgres', "BEGIN; SELECT es_append('two-1', 'Prepared'); PREPARE TRANSACTION 'es_one'");
	is_deeply([ feed($node, 'postgres', 'es_whole') ], [], 'nothing of a prepared transaction appears');
	$node->restart;
	is_deeply([ feed($node, 'postgres', 'es_whole') ], [], 'nor after a restart');
	$node->safe_psql('postgres', "SELECT es_append('two-2', 'Plain')");
	is_deeply([ map { $_->{type} } feed($node, 'postgres', 'es_whole') ], ['Plain'], 'it holds back nothing');
	$node->safe_psql('postgres', "COMMIT PREPARED 'es_one'");
	is_deeply([ map { $_->{type} } feed($node, 'postgres', 'es_whole') ], ['Prepared'], 'it appears at its COMMIT PREPARED');
	$node->safe_psql('postgres', "BEGIN; SELECT es_append('two-1', 'Undone'); PREPARE TRANSACTION 'es_two'");
	$node->safe_psql('postgres', "ROLLBACK PREPARED 'es_two'");
	is_deeply([ feed($node, 'postgres', 'es_whole') ], [], 'never, if it is rolled back');
	feed($node, 'postgres', 'es_frames', 'include_transaction', 'on', 'streaming', 'on', 'two_phase', 'on');

	# all kinds at once, large and small
	my $after = $node->safe_psql('postgres', 'SELECT es_settled_position()');
	my $big = "SELECT count(es_append('big-' || n % 7, 'Big', to_jsonb(n))) FROM generate_series(1, 1500) n;";
	$node->safe_psql('postgres', "BEGIN; $big SAVEPOINT a; $big ROLLBACK TO a; $big COMMIT;");
	$node->safe_psql('postgres', "BEGIN; $big ROLLBACK;");
	$node->safe_psql('postgres', "BEGIN; $big SAVEPOINT a; $big RELEASE a; PREPARE TRANSACTION 'es_big';");
	$node->safe_psql('postgres', "BEGIN; SELECT es_append('small-1', 'Small'); PREPARE TRANSACTION 'es_small';");
	$node->safe_psql('postgres', "BEGIN; SELECT es_append('small-2', 'Undone'); PREPARE TRANSACTION 'es_gone';");
	$node->safe_psql('postgres', "BEGIN; CREATE TABLE unrelated (a int); PREPARE TRANSACTION 'es_unrelated';");
	my @first = feed($node, 'postgres', 'es_frames', 'include_transaction', 'on', 'streaming', 'on', 'two_phase', 'on');
	$node->safe_psql('postgres', "COMMIT PREPARED 'es_big'");
	$node->safe_psql('postgres', "ROLLBACK PREPARED 'es_gone'");
	$node->safe_psql('postgres', "COMMIT PREPARED 'es_small'");
	$node->safe_psql('postgres', "ROLLBACK PREPARED 'es_unrelated'");
	$node->safe_psql('postgres', "BEGIN; SELECT es_append('small-3', 'Last'); COMMIT;");
	my @second = feed($node, 'postgres', 'es_frames', 'include_transaction', 'on', 'streaming', 'on', 'two_phase', 'on');

	my %frames;
	$frames{$_}++ foreach map { exists $_->{position} ? 'event' : keys %$_ } @first, @second;
	note join(', ', map { "$_: $frames{$_}" } sort keys %frames);
	ok($frames{$_}, "there was a frame \"$_\"")
	  foreach qw(begin commit begin_prepare prepare commit_prepared rollback_prepared stream_start stream_stop stream_abort stream_commit stream_prepare);
	is($frames{stream_start}, $frames{stream_stop}, 'every block ends');

	my @expected = positions($node, "es_read_all(after_position => $after, max_count => NULL)");
	is_deeply([ sort { $a <=> $b } map { $_->{position} } final_events(@first, @second) ], \@expected,
		'a consumer of frames ends up with every committed event once');
	my @whole = feed($node, 'postgres', 'es_whole', 'include_transaction', 'on');
	is(scalar(grep { !exists $_->{position} && !exists $_->{begin} && !exists $_->{commit} } @whole), 0,
		'who does not ask for it gets no frame of an unfinished transaction');
	is_deeply([ sort { $a <=> $b } map { $_->{position} } final_events(@whole) ], \@expected, 'and every committed event once');
	$node->safe_psql('postgres', "SELECT es_drop_feed('$_')") foreach qw(whole frames);
}

# ---- a crash in the middle
{
	my $head = $node->safe_psql('postgres', "SELECT head_position FROM es_create_feed('crash')");
	my $file = "$tempdir/crash";
	my $consumer = start_consumer($node, 'es_crash', $file, after_position => $head, loop => 1);
	my $appenders = start_appenders($node, 60);

	wait_until("300 messages in $file", sub { messages($file) > 300 });
	$node->stop('immediate');
	$appenders->finish;
	my %seen = map { $_->{position} => 1 } messages($file);
	$node->start;
	my $lost = grep { !$seen{$_} } positions($node, "es_read_all(after_position => $head, max_count => NULL)");
	my %stored = map { $_ => 1 } positions($node, "es_read_all(after_position => $head, max_count => NULL)");
	is(scalar(grep { !$stored{$_} } keys %seen), 0, 'the crash takes back nothing that the consumer has');
	note "$lost events to come after the crash";
	start_appenders($node, 2)->finish;
	$node->safe_psql('postgres', "SELECT es_append('end-1', 'CrashEnd')");
	wait_for_event($file, 'CrashEnd');
	stop($consumer);
	%seen = map { $_->{position} => 1 } messages($file);
	is_deeply([ sort { $a <=> $b } keys %seen ], [ positions($node, "es_read_all(after_position => $head, max_count => NULL)") ],
		'after a crash the consumer has every event');
	$node->poll_query_until('postgres', "SELECT NOT active FROM es_feeds WHERE feed = 'crash'");
	$node->safe_psql('postgres', "SELECT es_drop_feed('crash')");
}

# ---- names that a URI cannot have
{
	new_store($node, 'a b/c%');
	$node->safe_psql('a b/c%', "SELECT es_create_feed('uri')");
	$node->safe_psql('a b/c%', "SELECT es_append('uri-1', 'A')");
	is($node->safe_psql('a b/c%', "SELECT data::json->>'source' FROM pg_logical_slot_get_changes('es_uri', NULL, NULL, 'format', 'cloudevents')"),
		'/eventstore/a%20b%2Fc%25', 'the source of CloudEvents is a URI');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM es_feeds'), '0', 'feeds of another database are not shown');
	like(failure($node, "SELECT es_drop_feed('uri')"), qr/VE004/, 'nor dropped');
	$node->safe_psql('a b/c%', "SELECT es_drop_feed('uri')");
}

# ---- a segment that is made in the transaction of its first event
{
	$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
	$node->restart;
	$node->safe_psql('postgres', 'CREATE DATABASE inline');
	$node->safe_psql('inline', $_) foreach ('CREATE EXTENSION eventstore', "SELECT es_create_feed('inline')",
		"BEGIN; SELECT es_append('inline-1', 'A'); SELECT es_append('inline-1', 'B'); COMMIT");
	is($node->safe_psql('inline', "SELECT string_agg(data::json->>'type', ' ') FROM pg_logical_slot_get_changes('es_inline', NULL, NULL)"),
		'A B', 'its events are in the feed');
	$node->safe_psql('inline', "SELECT es_drop_feed('inline')");
	$node->append_conf('postgresql.conf', "max_worker_processes = 8\n");
	$node->restart;
}

# ---- a standby
{
	my $standby = start_standby($node);
	my $stderr = failure($standby, "SELECT * FROM es_create_feed('standby')");
	like($stderr, qr/55000.*HINT:  Call es_create_feed on the primary/s, 'a standby makes no feeds');
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM es_feeds'), '0', 'but shows them');
	$standby->stop;
}

# ---- what the server lacks
{
	my $create = "SELECT * FROM es_create_feed('lacking')";

	$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('s' || n, 'eventstore') FROM generate_series(1, current_setting('max_replication_slots')::int) n");
	like(failure($node, $create), qr/55000.*HINT:.*max_replication_slots/s, 'no slot is free');
	$node->safe_psql('postgres', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
	SKIP:
	{
		skip 'the server has no output_plugin_libraries', 2 unless has_allow_list($node);
		$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, \"strange, name\"'\n");
		$node->reload;
		$node->poll_query_until('postgres', "SELECT current_setting('output_plugin_libraries') LIKE '%strange%'");
		my $stderr = failure($node, $create);
		like($stderr, qr/55000.*HINT:.*output_plugin_libraries = 'pgoutput', 'strange, name', 'eventstore'/s, 'the library is not allowed');
		my ($remedy) = $stderr =~ /Run (ALTER SYSTEM.*?;)/;
		$node->safe_psql('postgres', $remedy);
		$node->reload;
		$node->poll_query_until('postgres', "SELECT current_setting('output_plugin_libraries') LIKE '%eventstore%'");
		is($node->safe_psql('postgres', "SELECT slot_name FROM es_create_feed('lacking')"), 'es_lacking', 'the hint helps');
		$node->safe_psql('postgres', "SELECT es_drop_feed('lacking')");
	}
	$node->append_conf('postgresql.conf', "max_replication_slots = 0\nmax_wal_senders = 0\n");
	$node->restart;
	like(failure($node, $create), qr/55000.*HINT:.*max_replication_slots/s, 'there are no slots');
	$node->append_conf('postgresql.conf', "max_replication_slots = 10\nwal_level = replica\n");
	$node->restart;
	like(failure($node, $create), qr/55000.*HINT:  Set "wal_level" to "logical"/s, 'wal_level is too low');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'failures leave no slot');
}

done_testing();
