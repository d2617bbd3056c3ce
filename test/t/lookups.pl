# Sessions that have used everything go on, with the right values, while an
# administrator rebuilds, moves, rewrites, renames and drops each table, index and
# sequence of the store: what stands for a name is looked up anew, and what is
# missing fails alone, with a hint that mends it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 'logical', conf => "shared_preload_libraries = 'eventstore'\nallow_in_place_tablespaces = on\n"
	. "autovacuum = off\neventstore.retry_delay = '10ms'\neventstore.allow_drop = on\nlog_error_verbosity = verbose\n");

my $n = 0;
my $log_at = 0;

sub run { return $node->safe_psql('postgres', $_[0]); }

# A number that each use gets for itself, and what it does with it: statements, each
# a transaction of its own, and the lines they give.
my @uses = (
	[ q{SELECT es_append('w-:n', 'Added', '{"n": 1}', '{"tags": ["t:n"]}', type_version => 1)} => '1' ],
	[ q{SELECT es_append_batch('w-:n', (SELECT jsonb_agg('{"type": "Added", "data": {"n": 1}}'::jsonb) FROM generate_series(1, 5)))} => '6' ],
	[ q{SELECT es_append_if('[{"stream": "w-:n", "type": "Added", "data": {"n": 1}, "tags": ["t:n", "u:n"], "type_version": 1}]', 0, tags => '{u:n}') > 0} => 't' ],
	[ q{SELECT outcome($$SELECT es_append_if('[{"stream": "w-:n", "type": "Lost"}]', 0, tags => '{t:n}')$$)} => 'VE011' ],
	[ q{SELECT outcome($$SELECT es_append('w-:n', 'Lost', expected_version => 6)$$)} => 'VE001' ],
	[ q{SELECT outcome($$SELECT es_append('w-:n', 'Added', '{}')$$)} => 'VE005' ],
	[ q{SELECT version FROM es_append_many('[{"stream": "v-:n", "type": "Other"}]')} => '1' ],
	[ q{INSERT INTO es_events (stream, type, event_id) VALUES ('v-:n', 'Other', md5(':n')::uuid) RETURNING version} => '2' ],
	[ q{SELECT es_append('v-:n', 'Other', event_id => md5(':n')::uuid)} => '2' ],
	[ q{SELECT count(*), max(version) FROM es_read('w-:n')} => '7|7' ],
	[ q{SELECT count(*) FROM es_read_all((SELECT coalesce(min(position) - 1, 0) FROM es_read('w-:n')), NULL, '{w}')} => '7' ],
	[ q{SELECT count(*) FROM es_read_all((SELECT coalesce(min(position) - 1, 0) FROM es_read('w-:n')), NULL) WHERE stream IN ('w-:n', 'v-:n')} => '9' ],
	[ q{SELECT count(*) FROM es_read_category('w', (SELECT coalesce(min(position) - 1, 0) FROM es_read('w-:n')), NULL)} => '7' ],
	[ q{SELECT count(*) FROM es_read_tagged('{t:n}')} => '2' ],
	[ q{SELECT es_stream_version('w-:n')} => '7' ],
	[ q{SELECT version FROM es_streams WHERE stream = 'w-:n'} => '7' ],
	[ q{SELECT count(*) > 0 FROM es_segments} => 't' ],
	[ q{SELECT outcome($$SELECT es_attach_segment('events_0')$$)} => '55000' ],
	[ q{SELECT version, state FROM es_replay('w-:n', 'tally')} => '7|{"n": 27}' ],
	[ q{SELECT es_snapshot('w-:n', 'tally')} => '7' ],
	[ q{SELECT version, state FROM es_replay('w-:n', 'tally')} => '7|{"n": 27}' ],
	[ q{SELECT state FROM es_replay_category('w', 'count') WHERE stream = 'w-:n'} => '{"count": 7}' ],
	[ q{SELECT data FROM es_upcast((SELECT e FROM es_read('w-:n', 7, 1) e))} => '{"n": 11}' ],
	[ q{SELECT version, state FROM es_projection('inside', 'w-:n')} => '7|{"count": 7}' ],
	[ q{SELECT es_append('p-:n', 'Kept', '{"id": ":n", "x": "f:n"}')} => '1' ],
	[ q{SELECT data ->> 'x' FROM es_read('p-:n')} => 'f:n' ],
	[ q{SELECT data ->> 'x' FROM es_events WHERE stream = 'p-:n'} => 'f:n' ],
	[ q{SELECT es_settle() > 0} => 't' ],
	[ q{SELECT es_seal() >= es_last_position()} => 't' ],
	[ q{SELECT count(*) FROM es_verify()} => '0' ],
	[ q{SELECT (es_proof(1)->>'size')::int > 0, es_prove_consistency(min(position)) IS NOT NULL FROM es_seals} => 't|t' ],
	[ q{SELECT es_grant('pg_monitor', 'read')} => '' ],
	[ q{SELECT as_app('SELECT count(*) FROM es_read(''w-:n'')')} => '7' ],
	# one that has failed is not waited for, so it is tried again first
	[ q{SELECT es_run_projection('beside') >= 0} => 't' ],
	[ q{SELECT es_wait_projection('beside', es_last_position(), ':wait')} => 't' ],
	[ q{SELECT version, state FROM es_projection('beside', 'w-:n')} => '7|{"count": 7}' ],
	[ q{SELECT es_run_projection('by_hand') >= 0} => 't' ],
	[ q{SELECT es_wait_projection('by_hand', es_last_position(), ':wait')} => 't' ],
	[ q{SELECT count(*) FROM noted WHERE stream = 'w-:n'} => '7' ],
	[ q{SELECT status FROM es_projections GROUP BY status} => 'running' ],
	[ q{SELECT count(*), count(DISTINCT partition) FROM es_poll('sub', 1000, member => 'm') WHERE stream = 'w-:n'} => '7|1' ],
	[ q{SELECT es_nack('sub', partition, min(position), 'no', 'm') FROM es_poll('sub', 1000, member => 'm') GROUP BY partition} => '' ],
	[ q{SELECT attempt FROM es_poll('sub', 1, ':wait', member => 'm') WHERE stream = 'w-:n'} => '2' ],
	[ q{SELECT count(es_ack('sub', partition, last, 'm')) FROM (SELECT partition, max(position) AS last FROM es_poll('sub', 1000, member => 'm') GROUP BY partition) p} => '1' ],
	[ q{SELECT count(*) FROM es_poll('sub', member => 'm')} => '0' ],
	[ q{SELECT es_alter_feed('feed', CASE WHEN :n % 2 = 0 THEN '{w,v}' ELSE '{w}' END::text[], NULL, NULL)} => '' ],
	[ q{SELECT count(*) FROM pg_logical_slot_get_changes('es_feed', NULL, NULL) WHERE data LIKE '%"w-:n"%'} => '7' ]);

sub filled
{
	my ($text, $wait) = @_;

	$text =~ s/:wait/$wait/;
	$text =~ s/:n\b/$n/g;
	return $text;
}


# use_all(session, wait): what a warm session gives, what it must, and its errors.
sub use_all
{
	my ($session, $wait) = @_;

	$n++;
	my $expected = join("\n", grep { $_ ne '' } map { filled($_->[1], $wait) } @uses);
	my $out = $session->query(join("\n", map { filled($_->[0], $wait) . ';' } @uses));
	my $err = $session->{stderr};
	$session->{stderr} = '';
	$out =~ s/^\n+|\n+(?=\n)|\n+$//g;
	return ($out, $expected, $err);
}

# What the log says, since the last time, that it must not.
sub bad_log
{
	my $log = slurp_file($node->logfile, $log_at);

	$log_at += length($log);
	return join("\n", grep { /XX\d\d\d:|PANIC|TRAP|terminated by (signal|exception)/ } split /\n/, $log);
}

# goes_on(session, label): it does, with the right values.
sub goes_on
{
	my ($session, $label) = @_;
	my ($out, $expected, $err) = use_all($session, '60s');

	return is(join("\n", grep { $_ ne '' } $out, $err, bad_log()), $expected, $label);
}

# fails_well(session, label, codes): what fails does so with one of these SQLSTATEs and a hint.
sub fails_well
{
	my ($session, $label, $codes) = @_;
	my (undef, undef, $err) = use_all($session, '10ms');
	my @errors = $err =~ /ERROR:  (.*)/g;
	my @hints = $err =~ /HINT:  (.*)/g;

	is(join("\n", (grep { !/^($codes): / } @errors), bad_log()), '', $label);
	cmp_ok(scalar(@hints), '>=', scalar(grep { /^55000/ && !/detached/ } @errors), "... with a hint for each of @{[scalar @errors]}");
	return $err;
}

sub set_up
{
	run($_) foreach (
		'CREATE EXTENSION eventstore',
		q{CREATE OR REPLACE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			EXECUTE statement;
			RETURN 'done';
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE;
		END $$},
		q{SELECT es_grant('app', 'read', 'w')},
		q{CREATE OR REPLACE FUNCTION as_app(statement text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			found text;
		BEGIN
			SET LOCAL ROLE app;
			EXECUTE statement INTO found;
			RESET ROLE;
			RETURN found;
		END $$},
		q{CREATE FUNCTION tally(state jsonb, e es_event) RETURNS jsonb LANGUAGE sql
		AS $$SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + (e.data ->> 'n')::int)$$},
		q{SELECT es_register_reducer('tally', 'Added', 'tally(jsonb, es_event)')},
		q{SELECT es_register_upcaster_ops('Added', 1, '{"inc": {"n": 10}}')},
		q{SELECT es_register_schema('Added', '{"type": "object", "required": ["n"]}')},
		q{SELECT es_protect('p', '{$.data.x}', '$.data.id')},
		q{CREATE TABLE IF NOT EXISTS noted (stream text)},
		q{CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO noted VALUES (e.stream)'},
		q{SELECT es_create_projection('inside', 'count', 'inline'), es_create_projection('beside', 'count'), es_create_handler_projection('by_hand', 'note(es_event)')},
		q{SELECT es_subscribe('sub', categories => '{w}', partitions => 2)});
	return;
}
run('CREATE ROLE app');
set_up();
run($_) foreach ('CREATE EXTENSION amcheck', q{CREATE TABLESPACE elsewhere LOCATION ''},
	q{SELECT es_create_feed('feed', '{w}')});

my $warm = $node->background_psql('postgres', on_error_stop => 0);
$warm->set_query_timer_restart();
$warm->query("\\set VERBOSITY verbose\nSET client_min_messages = warning");
goes_on($warm, "a session that uses everything, $_") foreach (1, 2);

# The store's relations, and how each is made again.
my $ours = q{relnamespace = 'eventstore'::regnamespace};
my @tables = rows($node, 'postgres', "SELECT relname FROM pg_class WHERE $ours AND relkind IN ('r', 'p') ORDER BY 1");
my @plain = rows($node, 'postgres', "SELECT relname FROM pg_class WHERE $ours AND relkind = 'r' ORDER BY 1");
my @indexes = rows($node, 'postgres', "SELECT relname FROM pg_class WHERE $ours AND relkind = 'i' ORDER BY 1");
my @sequences = rows($node, 'postgres', "SELECT relname FROM pg_class WHERE $ours AND relkind = 'S' ORDER BY 1");
cmp_ok(scalar(@$_), '>', 2, 'there are some') foreach (\@tables, \@plain, \@indexes, \@sequences);

# ---- what leaves the names as they are ----

foreach my $index (@indexes)
{
	foreach my $ddl ("REINDEX INDEX CONCURRENTLY eventstore.$index", "REINDEX INDEX eventstore.$index",
		"ALTER INDEX eventstore.$index SET TABLESPACE elsewhere")
	{
		run($ddl);
		goes_on($warm, $ddl);
	}
}
foreach my $table (@plain)
{
	my $index = run("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'eventstore.$table'::regclass AND indpred IS NULL LIMIT 1");

	foreach my $ddl ("VACUUM FULL eventstore.$table", ($index ? "CLUSTER eventstore.$table USING " . ($index =~ s/.*\.//r) : ()),
		"ALTER TABLE eventstore.$table SET TABLESPACE elsewhere", "REINDEX TABLE CONCURRENTLY eventstore.$table",
		"REINDEX TABLE eventstore.$table")
	{
		run($ddl);
		goes_on($warm, $ddl);
	}
}
foreach my $ddl ('REINDEX TABLE CONCURRENTLY eventstore.events', 'REINDEX SCHEMA eventstore', 'VACUUM (FULL, FREEZE)', 'VACUUM ANALYZE')
{
	run($ddl);
	goes_on($warm, $ddl);
}

# ---- what takes names away ----

# gone_and_back(label, away, back, codes): while something is away what needs it says so, and all is well after.
sub gone_and_back
{
	my ($label, $away, $back, $codes) = @_;

	run($away);
	my $err = fails_well($warm, "$label is away", $codes // '55000');
	run(ref $back ? $back->($err) : $back);
	run(q{SELECT es_rewind('sub', NULL)});
	goes_on($warm, "$label is back");
	return $err;
}
foreach my $table (@tables)
{
	my $err = gone_and_back("table $table", "ALTER TABLE eventstore.$table RENAME TO hidden", "ALTER TABLE eventstore.hidden RENAME TO $table");

	# the log's parent and the makers' failures are for who makes segments only, that of the states for who makes projections,
	# and those of retention for who makes rules and carries them out
	like($err, qr/"eventstore\.$table" is missing/, '... and was named') unless $table =~ /^events|^maker_failure|^indexed_types$|^detached_segments$|^segment_times$|^retention|^projection_states$/;
}
gone_and_back("sequence $_", "ALTER SEQUENCE eventstore.$_ RENAME TO hidden", "ALTER SEQUENCE eventstore.hidden RENAME TO $_") foreach (@sequences);
gone_and_back('the gate', 'ALTER VIEW eventstore.append_gate RENAME TO hidden', 'ALTER VIEW eventstore.hidden RENAME TO append_gate');
gone_and_back('the schema', 'ALTER SCHEMA eventstore RENAME TO hidden', 'ALTER SCHEMA hidden RENAME TO eventstore');
# functions are known by their signatures, which name the type
gone_and_back('type es_event', 'ALTER TYPE es_event RENAME TO hidden', 'ALTER TYPE hidden RENAME TO es_event', '55000|VE004|42704|42883');

foreach my $index (@indexes)
{
	gone_and_back("index $index", "ALTER INDEX eventstore.$index RENAME TO hidden", "ALTER INDEX eventstore.hidden RENAME TO $index");

	my ($table, $definition, $constraint) = split /\|/, run(qq{SELECT indrelid::regclass, pg_get_indexdef(indexrelid), (SELECT contype FROM pg_constraint WHERE conindid = indexrelid)
		FROM pg_index WHERE indexrelid = 'eventstore.$index'::regclass});
	my $hinted = 0;
	gone_and_back("index $index, dropped", $constraint ? "ALTER TABLE $table DROP CONSTRAINT $index" : "DROP INDEX eventstore.$index",
		sub {
			my ($hint) = $_[0] =~ /otherwise run (CREATE .*INDEX \Q$index\E ON .*)\.$/m;

			$hinted = defined $hint;
			return $hint // $definition;
		});
	is(run("SELECT pg_get_indexdef('eventstore.$index'::regclass)"), $definition, $hinted ? '... made as the hint said' : '... nobody missed it');
	next unless $constraint;
	run("ALTER TABLE $table ADD CONSTRAINT $index " . ($constraint eq 'p' ? 'PRIMARY KEY' : 'UNIQUE') . " USING INDEX $index");
	goes_on($warm, "index $index is a constraint's again");
}

# others go on without it
run('ALTER INDEX eventstore.events_0_tag RENAME TO hidden');
is($warm->query_safe("SELECT es_append('x-1', 'T')"), '1', 'an append without tags needs no index of tags');
is($warm->query_safe(q{SELECT outcome('SELECT es_read_tagged(''{t}'')')}), '55000', '... a read by tags does');
run('ALTER INDEX eventstore.hidden RENAME TO events_0_tag');

# one that could not be built, or was left half dropped, is not read
run(q{UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'eventstore.events_0_tag'::regclass});
my $invalid = fails_well($warm, 'an invalid index', '55000');
like($invalid, qr/index "eventstore.events_0_tag" is invalid.*REINDEX INDEX eventstore.events_0_tag/s, '... is named, with what helps');
run('REINDEX INDEX eventstore.events_0_tag');
run(q{SELECT es_rewind('sub', NULL)});
goes_on($warm, '... and mended by that');

# ---- one that is being built is fed ----

# as_built(table): each step of a rebuild waits for somebody, and meanwhile the session writes.
sub as_built
{
	my ($table) = @_;
	my $writer = $node->background_psql('postgres');
	my $reader = $node->background_psql('postgres');
	my $phase = q{SELECT count(*) > 0 FROM pg_stat_progress_create_index WHERE phase = };

	$writer->query_safe("BEGIN; LOCK TABLE eventstore.$table IN ROW EXCLUSIVE MODE");
	my $rebuild = start_script($node, 'postgres', "REINDEX TABLE CONCURRENTLY eventstore.$table;\n");
	ok($node->poll_query_until('postgres', "$phase 'waiting for writers before build'"), "$table: a rebuild waits before it begins");
	goes_on($warm, '... others go on');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()');
	$writer->query_safe('COMMIT');
	ok($node->poll_query_until('postgres', "$phase 'waiting for old snapshots'"), '... and before it ends');
	goes_on($warm, '... others go on');
	$reader->query_safe('COMMIT');
	is((finish_script($rebuild))[1], '', '... it ends well');
	goes_on($warm, '... others go on');
	$_->quit foreach ($writer, $reader);
	return;
}
# who grants waits for whoever has grants locked
as_built($_) foreach (grep { !/^(config|settled_mark|wal_mark|grants)$/ } @plain);
is(run(qq{SELECT count(bt_index_check(indexrelid, true)) > 20 FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_am a ON a.oid = i.relam AND amname = 'btree' WHERE i.$ours}), 't', 'no index misses a row');


# ---- while it waits for the lock ----

# waits_while(label, during, call, expected): a session that has made the call before
# makes it again and waits for a lock; during(go, waits) does things meanwhile: go
# lets it begin, waits returns when it waits, or, if it may know the answer, has ended.
sub waits_while
{
	my ($label, $during, $call, $expected, $may_know) = @_;
	my $gate = $node->background_psql('postgres');

	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $script = start_script($node, 'postgres', "SET application_name = 'waiting';\n$call;\nSELECT 'warm', pg_advisory_lock(1);\n$call;\n");
	my $waiting = q{SELECT count(*) > 0 FROM pg_stat_activity JOIN pg_locks l USING (pid) WHERE application_name = 'waiting' AND NOT granted AND locktype = };
	$node->poll_query_until('postgres', "$waiting 'advisory'") or die 'the session does not get warm';
	$during->(sub { $gate->query_safe('SELECT pg_advisory_unlock(1)') },
		sub { $node->poll_query_until('postgres', "$waiting 'relation'" . ($may_know ? q{ OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'waiting')} : '')) or die 'the session does not wait' });
	my ($out, $err) = finish_script($script);
	$out =~ s/.*warm\|\n//s;
	$gate->quit;
	return is(join("\n", grep { $_ ne '' } $out =~ s/\n$//r, $err, bad_log()), $expected, $label);
}

# ddl_during(statements): what during does: they are run in one transaction, for whose end the session waits.
sub ddl_during
{
	my @ddl = @_;

	return sub {
		my ($go, $waits) = @_;
		my $admin = $node->background_psql('postgres');

		$admin->query_safe(join('; ', 'SET client_min_messages = warning', 'BEGIN', @ddl));
		$go->();
		$waits->();
		$admin->query_safe('COMMIT');
		$admin->quit;
	};
}

# rebuild_during(table, index): the session waits behind somebody who waits for a rebuild
# of the index. The rebuild waits for older snapshots than the session's.
sub rebuild_during
{
	my ($table, $index) = @_;

	return sub {
		my ($go, $waits) = @_;
		my $reader = $node->background_psql('postgres');

		$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
		run('SELECT txid_current()');
		my $rebuild = start_script($node, 'postgres', "REINDEX INDEX CONCURRENTLY eventstore.$index;\n");
		$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'}) or die 'no rebuild';
		run('SELECT txid_current()');
		my $queue = start_script($node, 'postgres', "BEGIN; LOCK TABLE eventstore.$table IN ACCESS EXCLUSIVE MODE; COMMIT;\n");
		$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted}) or die 'no queue';
		$go->();
		$waits->();
		$reader->query_safe('COMMIT');
		$reader->quit;
		is((finish_script($_))[1], '', "$index: those it waits for end well") foreach ($rebuild, $queue);
	};
}

run(q{SELECT es_append('y-1', 'Taken', '{}', '{"tags": ["taken"]}')});
# a session keeps the keys that it has opened until there is news of their table: on 18 it has had none by then
my @calls = (
	[ events_0 => events_0_tag => q{SELECT outcome($$SELECT es_append_if('[{"stream": "y-1", "type": "Lost"}]', 0, tags => '{taken}')$$)} => 'VE011' ],
	[ streams => streams_by_name => q{SELECT es_stream_version('y-1'), (SELECT count(*) FROM es_read('y-1'))} => '1|1' ],
	[ streams => streams_by_category => q{SELECT state FROM es_replay_category('y', 'count')} => '{"count": 1}' ],
	[ events_0 => events_0_stream => q{SELECT es_stream_version('y-1')} => '1' ],
	[ events_0 => events_0_position => q{SELECT stream FROM es_read_tagged('{taken}')} => 'y-1' ],
	[ events_0 => events_0_category => q{SELECT stream FROM es_read_category('y', 0, NULL)} => 'y-1' ],
	[ projection_states_1 => projection_states_1_pkey => q{SELECT state FROM es_projection('inside', 'y-1')} => '{"count": 1}' ],
	[ projection_progress => projection_progress_by_key => q{SELECT state FROM es_projection('inside', 'y-1')} => '{"count": 1}' ],
	[ subscriptions => subscriptions_by_name => q{SELECT count(es_unsubscribe('late')), count(es_subscribe('late', 0, '{y}', partitions => 2))} => '1|1' ],
	[ subscription_partitions => subscription_partitions_by_key => q{SELECT count(*) FROM es_poll('late', member => 'm')} => '1' ],
	[ subscription_members => subscription_members_by_key => q{SELECT count(*) FROM es_poll('late', member => 'm')} => '1' ],
	[ detached_segments => detached_segments_pkey => q{SELECT outcome($$SELECT es_attach_segment('events_0')$$)} => '55000' ],
	[ segments => segments_pkey => q{SELECT outcome('SELECT es_set_segment_size(200)')} => '55000' ],
	[ snapshots => snapshots_by_reducer => q{SELECT es_snapshot('y-1', 'tally')} => '1' ],
	[ snapshots => snapshots_by_stream => q{WITH a AS (SELECT es_append('y-1', 'More') v) SELECT count(es_truncate_stream('y-1', v)) FROM a} => '1' ],
	[ protections => protections_by_category => q{SELECT count(es_protect('kept', '{$.data.x}', '$.stream')), count(es_protect('kept', '{}', NULL))} => '1|1' ],
	[ subjects => subjects_by_key => q{SELECT data ->> 'x' FROM es_read('p-looked')} => 'kept', 'may know' ],
	[ subjects => subjects_by_subject => q{WITH a AS (SELECT es_append('p-' || md5(random()::text), 'Kept', '{"id": "looked", "x": 1}') AS v) SELECT v, (SELECT count(*) FROM eventstore.subjects WHERE subject = 'looked') FROM a} => '1|1' ],
	[ retention => retention_by_category => q{SELECT count(es_set_retention('kept', '1 year'))} => '1' ],
	[ retention_skips => retention_skips_by_stream => q{SELECT eventstore.apply_retention() >= 0} => 't' ]);
run(q{SELECT es_append('p-looked', 'Kept', '{"id": "looked", "x": "kept"}')});
run(q{SELECT es_subscribe('late', 0, '{y}', partitions => 2)});
foreach my $call (@calls)
{
	my ($table, $index, $sql, $expected, $may_know) = @$call;
	my @again = split /\|/, run(qq{SELECT CASE WHEN c.oid IS NULL THEN 'DROP INDEX eventstore.$index' ELSE 'ALTER TABLE eventstore.$table DROP CONSTRAINT $index' END,
		CASE WHEN c.oid IS NULL THEN pg_get_indexdef(indexrelid) ELSE 'ALTER TABLE eventstore.$table ADD CONSTRAINT $index ' || pg_get_constraintdef(c.oid) END
		FROM pg_index LEFT JOIN pg_constraint c ON conindid = indexrelid WHERE indexrelid = 'eventstore.$index'::regclass});

	waits_while("$index: dropped and made again", ddl_during(@again), $sql, $expected, $may_know);
	waits_while("$index: rebuilt concurrently", rebuild_during($table, $index), $sql, $expected, $may_know);
}

# ---- another store ----

my $append = q{BEGIN; SELECT es_append('z-1', 'T');
	SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND database > 0 AND relation NOT IN (SELECT oid FROM pg_class); COMMIT};
my @anew = ('DROP EXTENSION eventstore CASCADE', 'CREATE EXTENSION eventstore');
waits_while('the store is made anew while an append waits: it goes to the new one, with no lock on the old', ddl_during(@anew), $append, "1\n0");
run($_) foreach ('DROP FUNCTION IF EXISTS tally, note', $anew[0]);
like(fails_well($warm, 'without a store', '42883|42704|42P01|55000|VE004'), qr/does not exist/, '... there is nothing to call');
set_up();
# what it was to let through went with its store
is(run(q{SELECT outcome($$SELECT count(*) FROM pg_logical_slot_get_changes('es_feed', NULL, NULL)$$)}), '55000', 'the feed of the store that is gone');
run($_) foreach (q{SELECT es_drop_feed('feed')}, q{SELECT es_create_feed('feed', '{w}')});
goes_on($warm, "another store, $_") foreach (1, 2);

$warm->quit;
$node->stop;
done_testing();
