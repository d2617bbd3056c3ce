# Transactions that only append give back their locks before their commit is on disk (eventstore.early_release). The disk
# does not answer while a session commits: then the next append to the stream goes on, and whoever reads the log waits, as
# the client of the commit does. Where the transaction has written anything else, its locks are kept as ever.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFaults;
use EventstoreTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

# no other process is to wait for the disk in a session's place
my $node = new_node('main', streaming => 1, conf => "shared_preload_libraries = 'eventstore'\nfsync = on\nwal_sync_method = fdatasync\nautovacuum = off\n"
	  . "shared_buffers = 64MB\nwal_writer_delay = '10s'\nbgwriter_lru_maxpages = 0\ncheckpoint_timeout = '1d'\n");
my $faults = EventstoreFaults->prepare($node);

sub q_ { return $node->safe_psql('postgres', $_[0]) }

q_($_) foreach 'CREATE EXTENSION eventstore', 'CREATE TABLE other (n int)', 'CREATE UNLOGGED TABLE loose (n int)', 'CREATE TABLE cause (n int)', q{
	CREATE FUNCTION note_other(type text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF type = 'Noted' THEN INSERT INTO other VALUES (2); END IF; RETURN true; END $$;
	CREATE FUNCTION write_other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO other VALUES (1); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON loose DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.n = 2) EXECUTE FUNCTION write_other()};

# PostgreSQL 17 writes WalSync what those before write WALSync.

# A session, which is told what to run and says what comes of it.
my ($in, $out, $err) = ('', '', '');
my $session = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres') ],
	'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
my $stream = 0;

# ask(statements), heard(): what the session is to run; its output once it has.
sub ask { $in .= "$_[0];\n\\echo done\n"; $out = ''; $session->pump_nb; }

sub heard
{
	$session->pump until $out =~ /^done$/m;
	return $out =~ s/^done\n//mr;
}

ask(q{SET application_name = 'committer'; SELECT es_append('warm-1', 'T'), es_append_batch('warm-2', '[{"type": "T"}]')});
heard();

# meet(): the session waits for another's append, once, and expects others from then on.
sub meet
{
	q_(q{BEGIN; SELECT es_append('warm-3', 'T'); PREPARE TRANSACTION 'other'});
	ask(q{SELECT es_append('warm-3', 'T')});
	wait_until('the session to wait', sub { $session->pump_nb; is_blocked('committer') }) or BAIL_OUT('the session does not wait');
	q_(q{COMMIT PREPARED 'other'});
	return heard();
}

# blocked(name): whether a session waits for the lock of another.
sub is_blocked { return q_("SELECT count(*) FROM pg_stat_activity WHERE application_name = '$_[0]' AND cardinality(pg_blocking_pids(pid)) > 0") eq '1' }

# during(statements, sub): the session runs statements on a stream of its own, {S}, and hangs at the disk in its commit;
# then the sub is called with the stream. Gives what the session says in the end.
sub during
{
	my ($sql, $sub) = @_;
	my $name = 'a-' . ++$stream;

	q_("SELECT es_append('$name', 'T')");
	$faults->set(slow => 1);
	ask($sql =~ s/\{S\}/$name/gr);
	wait_until('a commit at the disk', sub { $session->pump_nb; q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'committer' AND lower(wait_event) = 'walsync'}) eq '1' })
	  or BAIL_OUT("the commit does not wait for the disk: $out $err");
	$sub->($name);
	unlike($out, qr/^done$/m, '... and the client of the commit still waits');
	$faults->set;
	return heard();
}

# next_append(stream): appends without waiting for the disk; the version.
sub next_append { return "SET synchronous_commit = off; SET lock_timeout = '120s'; SELECT es_append('$_[0]', 'T')" }

sub goes_on
{
	my ($what, $sql) = @_;

	# what a session does for the first time may clean pages of the catalog, which is something else in the WAL
	ask($sql =~ s/\{S\}/warm-4/gr);
	heard();
	during($sql, sub { is(q_(next_append($_[0])), '3', "$what: the next append goes on") });
	is(q_("SELECT string_agg(version::text, ' ' ORDER BY position) FROM es_events WHERE stream = 'a-$stream'"), '1 2 3', '... after it');
}

sub keeps_locks
{
	my ($what, $sql) = @_;
	my $next;

	during($sql, sub { $next = start_named($node, 'postgres', 'next', next_append($_[0])); ok(wait_until('the next append to wait', sub { -s $next->{out} || is_blocked('next') }) && !-s $next->{out}, "$what: the next append waits") });
	is(join('', finish_script($next)), "3\n", '... until it is on disk');
}

# Where nobody gains it is not done.
keeps_locks('a session that has met nobody', q{SELECT es_append('{S}', 'T')});
my $waiter = start_named($node, 'postgres', 'waiter', q{SET eventstore.max_wait = '1h'; SELECT es_wait(1000000, '1h')});
ok(wait_until('a waiter', sub { q_(q{SELECT wait_event FROM pg_stat_activity WHERE application_name = 'waiter'}) =~ /Extension|Eventstore/ }), 'somebody waits for events');
goes_on('with somebody who waits for events', q{SELECT es_append('{S}', 'T')});
q_(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'});
finish_script($waiter);
is(meet(), "2\n", 'the session waits for the append of another');

goes_on('an append', q{SELECT es_append('{S}', 'T')});
goes_on('a batch', q{SELECT * FROM es_append_batch('{S}', '[{"type": "T"}]')});
goes_on('rows of the view', q{INSERT INTO es_events (stream, type) VALUES ('{S}', 'T')});
goes_on('two appends', q{BEGIN; SELECT es_append('warm-1', 'T'); SELECT es_append('{S}', 'T'); COMMIT});
goes_on('one in a savepoint', q{BEGIN; SAVEPOINT a; SELECT es_append('{S}', 'T'); RELEASE a; COMMIT});
goes_on('synchronous_commit = local', q{BEGIN; SET LOCAL synchronous_commit = local; SELECT es_append('{S}', 'T'); COMMIT});
goes_on('one beside what no crash keeps', q{BEGIN; SELECT es_append('{S}', 'T'); INSERT INTO loose VALUES (1); COMMIT});
goes_on('a commit in a DO block', q{DO $$ BEGIN PERFORM es_append('{S}', 'T'); COMMIT; END $$});

goes_on('a NOTIFY undone', q{BEGIN; SAVEPOINT a; NOTIFY news; ROLLBACK TO a; SELECT es_append('{S}', 'T'); COMMIT});

keeps_locks('a NOTIFY, which is heard with the commit', q{BEGIN; SELECT es_append('{S}', 'T'); NOTIFY news; COMMIT});
keeps_locks('a NOTIFY in a savepoint', q{BEGIN; SAVEPOINT a; SELECT pg_notify('news', '1'); RELEASE a; SELECT es_append('{S}', 'T'); COMMIT});
keeps_locks('a row before', q{BEGIN; INSERT INTO other VALUES (1); SELECT es_append('{S}', 'T'); COMMIT});
keeps_locks('a row after', q{BEGIN; SELECT es_append('{S}', 'T'); INSERT INTO other VALUES (1); COMMIT});
keeps_locks('a row between', q{BEGIN; SELECT es_append('warm-1', 'T'); INSERT INTO other VALUES (1); SELECT es_append('{S}', 'T'); COMMIT});
keeps_locks('a row of a trigger at the commit', q{BEGIN; SELECT es_append('{S}', 'T'); INSERT INTO loose VALUES (2); COMMIT});
keeps_locks('an append undone, which writes that it is', q{BEGIN; SELECT es_append('{S}', 'T'); SAVEPOINT b; SELECT es_append('warm-1', 'T'); ROLLBACK TO b; COMMIT});
keeps_locks('early_release off', q{BEGIN; SET LOCAL eventstore.early_release = off; SELECT es_append('{S}', 'T'); COMMIT});
q_("SELECT es_register_reducer_ops('kept', '*', '{\"inc\": {\"n\": 1}}')");
q_("SELECT es_create_projection('inline', reducer => 'kept', key => '\$.stream', mode => 'inline')");
keeps_locks('an inline projection', q{SELECT es_append('{S}', 'T')});
q_("SELECT es_drop_projection('inline')");
q_(q{ALTER TABLE eventstore.events ADD CONSTRAINT noted CHECK (note_other(type))});
keeps_locks('a row that a CHECK of the log writes', q{SELECT es_append('{S}', 'Noted')});
q_(q{ALTER TABLE eventstore.events DROP CONSTRAINT noted});

# Functions that tell what is in the log, be it by refusing an append, are as ever: what they tell is on disk.
my $id = '01990000-0000-7000-8000-000000000001';

sub waits_for_disk
{
	my ($what, $sql, $answer) = @_;
	my $reader;

	during(qq{SELECT es_append('{S}', 'T', metadata => '{"tags": ["{S}"]}', event_id => '$id')}, sub {
		my ($name) = @_;
		$reader = start_named($node, 'postgres', 'reader', $sql =~ s/\{S\}/$name/gr);
		ok(wait_until('a reader', sub { -s $reader->{out} || -s $reader->{err} || q_(q{SELECT lower(wait_event) IN ('walwrite', 'walsync') FROM pg_stat_activity WHERE application_name = 'reader'}) eq 't' })
			  && !-s $reader->{out} && !-s $reader->{err}, "$what waits for the disk") });
	is(join('', finish_script($reader)) =~ s/.*ERROR: *//r, "$answer\n", "... and tells of both events");
}

q_(q{SELECT es_subscribe('reader', NULL)});
waits_for_disk(@$_) foreach (
	[ 'es_read', "SELECT version FROM es_read('{S}')", "1\n2" ],
	[ 'es_read_query', q{SELECT version FROM es_read_query('[{"tags": ["{S}"]}]')}, '2' ],
	[ 'es_poll', q{SELECT max(version) FROM es_poll('reader')}, '2' ],
	[ 'es_stream_version', "SELECT es_stream_version('{S}')", '2' ],
	[ 'es_position', "SELECT es_position('{S}', 2) - es_position('{S}', 1)", '1' ],
	[ 'es_find_event', "SELECT version FROM es_find_event('{S}', '$id')", '2' ],
	[ 'es_replay', "SELECT version FROM es_replay('{S}', 'kept')", '2' ],
	[ 'a wrong version', "SELECT es_append('{S}', 'T', expected_version => 1)", 'VE001' ],
	[ 'a wrong version of a row', "INSERT INTO es_events (stream, version, type) VALUES ('{S}', 2, 'T')", 'VE001' ],
	[ 'a wrong version of a stream of many', q{SELECT * FROM es_append_many('[{"stream": "b-1", "type": "T"}, {"stream": "{S}", "type": "T", "expected_version": 1}]')}, 'VE001' ],
	[ 'an id that is there', "SELECT es_append('{S}', 'U', event_id => '$id')", 'VE010' ],
	[ 'what es_try_append tells', "SELECT es_try_append('{S}', 'T', expected_version => 1)", '(conflict,2)' ],
	[ 'what it tells of the stored, without waiting for itself', "SET synchronous_commit = off; SELECT es_try_append('{S}', 'U', event_id => '$id')", '(stored,2)' ],
	[ 'an empty batch', "SELECT es_append_batch('{S}', '[]')", '2' ],
	[ 'an empty batch as text, of a version that is expected', "SELECT es_append_json('{S}', '[]', 2)", '2' ],
	[ 'an empty array of events', "SELECT es_append_events('{S}', '{}', -1)", '2' ],
	[ 'es_append_many that only checks', q{SELECT count(*) FROM es_append_many('[{"stream": "{S}", "expected_version": 2}]')}, '0' ],
	[ 'es_append_if that only checks a version', q{SELECT es_append_if('[{"stream": "{S}", "expected_version": 2}]', 1000000)}, '' ],
	[ 'es_truncate_stream beyond the last event', "SELECT es_truncate_stream('{S}', 100)", '22023' ],
	[ 'a condition that does not hold', q{SELECT es_append_if('[{"stream": "b-1", "type": "T"}]', 0, NULL, ARRAY['{S}'])}, 'VE011' ],
	[ 'one that is only checked', q{SELECT es_append_if('[]', 0, NULL, ARRAY['{S}'])}, 'VE011' ]);
during(q{SELECT es_delete_stream('{S}')}, sub {
	my ($name) = @_;
	my $refused = start_named($node, 'postgres', 'refused', "SELECT es_append('$name', 'T')");
	ok(wait_until('the append', sub { -s $refused->{err} || q_(q{SELECT lower(wait_event) IN ('walwrite', 'walsync', 'transactionid') FROM pg_stat_activity WHERE application_name = 'refused'}) eq 't' }) && !-s $refused->{err},
		'who appends to a deleted stream waits') });

# So it is where the last record ends with its page of WAL, and the next one would begin past another page's header.
is(q_(q{CREATE FUNCTION page_ends() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		start pg_lsn;
		around int;
		room int;
		ends int := 0;
		said text := '';
	BEGIN
		FOR i IN 1 .. 20 LOOP
			PERFORM pg_logical_emit_message(false, '', repeat('x', 3000)); -- away from a page's end
			start := pg_current_wal_insert_lsn();
			PERFORM pg_logical_emit_message(false, '', repeat('x', 1000));
			around := pg_current_wal_insert_lsn() - start - 1000;
			room := 8192 - mod(pg_current_wal_insert_lsn() - '0/0', 8192);
			CONTINUE WHEN room < 1000;
			PERFORM pg_logical_emit_message(false, '', repeat('x', room - around));
			CONTINUE WHEN mod(pg_current_wal_insert_lsn() - '0/0', 8192) <> 24;
			ends := ends + 1;
			BEGIN
				PERFORM es_append('warm-1', 'T', expected_version => 0);
			EXCEPTION WHEN OTHERS THEN
				said := said || sqlstate || ' ';
			END;
		END LOOP;
		RETURN CASE WHEN ends > 0 AND said = repeat('VE001 ', ends) THEN 'refused' ELSE ends || ': ' || said END;
	END $$; SELECT page_ends()}), 'refused', 'at the end of a page, too');

# Who acknowledges what another session has stored, and has nothing to write, waits for the disk, too.
my $retry;
during("SELECT es_append('{S}', 'T', event_id => '$id')", sub {
	my ($name) = @_;
	$retry = start_named($node, 'postgres', 'retry', "SELECT es_append('$name', 'T', event_id => '$id')");
	ok(wait_until('the retry', sub { q_(q{SELECT lower(wait_event) IN ('walwrite', 'walsync') FROM pg_stat_activity WHERE application_name = 'retry'}) eq 't' }), 'the retry of an append waits for the disk') });
is(join('', finish_script($retry)), "2\n", '... and is acknowledged');
during(q{SELECT es_delete_stream('{S}')}, sub {
	my ($name) = @_;
	$retry = start_named($node, 'postgres', 'retry', "SELECT es_delete_stream('$name')");
	ok(wait_until('the retry', sub { q_(q{SELECT lower(wait_event) IN ('walwrite', 'walsync', 'transactionid') FROM pg_stat_activity WHERE application_name = 'retry'}) eq 't' }), 'who deletes a deleted stream waits, too') });
is(join('', finish_script($retry)), "\n", '... and is acknowledged');

# With a synchronous standby the commit is as ever, too.
$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('synchronous_standby_names') = 'nobody'") or die;
q_("SET synchronous_commit = local; SELECT es_append('a-" . ($stream + 1) . "', 'T')");
{
	my $name = 'a-' . ++$stream;

	$faults->set(slow => 1);
	ask("SELECT es_append('$name', 'T')");
	wait_until('a commit at the disk', sub { $session->pump_nb; q_(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'committer' AND lower(wait_event) = 'walsync'}) eq '1' });
	my $next = start_named($node, 'postgres', 'next', next_append($name));
	ok(wait_until('the next append to wait', sub { is_blocked('next') }), 'a synchronous standby: the next append waits');
	$faults->set;
	ok(wait_until('the standby to be waited for', sub { q_(q{SELECT wait_event FROM pg_stat_activity WHERE application_name = 'committer'}) eq 'SyncRep' }), 'the commit waits for the standby');
	ok(is_blocked('next'), 'and the next append still');
	q_("SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names");
	$node->reload;
	heard();
	is(join('', finish_script($next)), "3\n", 'until nobody waits for one');
}

# One that is configured while a statement runs is one for its commit, as the server has it.
{
	my $holder = $node->background_psql('postgres');
	my $next;

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	q_("SET synchronous_commit = local; SELECT es_append('a-" . ($stream + 1) . "', 'T')");
	my $name = 'a-' . ++$stream;
	ask("SET application_name = 'committer'; DO \$\$ BEGIN PERFORM es_append('$name', 'T'); PERFORM pg_advisory_xact_lock(1); END \$\$");
	wait_until('the statement to wait', sub { $session->pump_nb; is_blocked('committer') });
	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('synchronous_standby_names') = 'nobody'") or die;
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	ok(wait_until('the commit', sub { $session->pump_nb; $out =~ /done/ || q_(q{SELECT wait_event FROM pg_stat_activity WHERE application_name = 'committer'}) eq 'SyncRep' }) && $out !~ /done/,
		'a synchronous standby configured in the meantime is waited for');
	q_("SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names");
	$node->reload;
	heard();
	$holder->quit;
}

# The setting is as it was; what comes after waits for its own commit.
ask('SHOW synchronous_commit');
is(heard(), "on\n", 'synchronous_commit is as it was');
keeps_locks('a transaction of something else, after appends', q{BEGIN; INSERT INTO other VALUES (1); SELECT es_append('{S}', 'T'); COMMIT});
is($err, '', 'no error');
$in .= "\\q\n";
$session->finish;
$node->stop;
done_testing();
