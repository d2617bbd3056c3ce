# es_progress tells of each long command what it is at, to whom it is to tell that, and no longer than it runs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreTest;
use Test::More;

my $node = new_node('main', conf => "max_worker_processes = 20\neventstore.scavenge_rate = 0\nshared_preload_libraries = 'eventstore'\n");

new_store($node, 'store', 100);

sub run { return $node->safe_psql('store', $_[0]) }

run(<<'END');
CREATE TABLE gate ();
CREATE FUNCTION pass(state jsonb, data jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN PERFORM FROM gate; RETURN state; END';
CREATE FUNCTION note(e es_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM FROM gate; END';
CREATE FUNCTION forget() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM FROM gate; END';
SELECT es_register_reducer('passing', '*', 'pass(jsonb, jsonb)'), es_protect('secret', '{$.data.name}', '$.stream');
SELECT count(es_append('a-' || n % 7, 'T')) FROM generate_series(1, 250) n;
SELECT es_append('secret-1', 'T', '{"name": "x"}'), es_append('z-1', 'T');
SELECT es_create_projection('states', 'passing', category => 'a'), es_create_projection('inlined', 'passing', 'inline', category => 'b');
CREATE ROLE nobody; CREATE ROLE watcher IN ROLE pg_monitor; CREATE ROLE runner; SELECT es_grant('runner', 'read');
END
run(q{SELECT es_wait_projection('states', es_settled_position(), '10s'), es_seal()});

# A gate is what a prepared transaction holds; it opens as that is rolled back.
sub shut_gate { run("BEGIN; $_[0]; PREPARE TRANSACTION 'gate'") }
sub open_gate { run(q{ROLLBACK PREPARED 'gate'}) }

# What each command is at as it stands before its gate: the command, the gate, command and phase as they are shown, and
# the total, as a condition.
my $all = 'LOCK TABLE eventstore.events';
my @commands = (
	[ q{SELECT es_append('a-1', 'T'); SELECT es_run_projection('states')}, 'LOCK TABLE gate', 'es_run_projection', 'taking in events', '> 250' ],
	[ q{SELECT es_rebuild_projection('states')}, 'LOCK TABLE gate', 'es_rebuild_projection', 'taking in events', '> 200' ],
	[ q{SELECT es_replay_category('a', 'passing')}, 'LOCK TABLE gate', 'es_replay_category', 'folding streams', '>= 7' ],
	[ q{SELECT es_seal()}, 'LOCK TABLE eventstore.events_2', 'es_seal', 'digesting events', '> 0', q{SELECT es_append('a-1', 'T')} ],
	[ q{SELECT es_verify()}, 'LOCK TABLE eventstore.events_0', 'es_verify', 'verifying events', '> 0' ],
	[ q{SELECT es_verify()}, 'LOCK TABLE eventstore.seals', 'es_verify', 'starting', 'IS NULL' ],
	[ q{SELECT es_protect('c', '{$.data.x}', '$.stream')}, q{SELECT es_append('c-1', 'T')}, 'es_protect', 'waiting for transactions', 'IS NULL' ],
	[ q{SELECT es_rotate_master_key('printf %064d 1')}, q{SELECT es_append('secret-2', 'T', '{"name": "y"}')}, 'es_rotate_master_key', 'waiting for transactions', 'IS NULL' ],
	[ q{SELECT es_shred('secret-1')}, q{SELECT es_append('secret-2', 'T', '{"name": "y"}')}, 'es_shred', 'waiting for transactions', 'IS NULL' ],
	[ q{SELECT es_index_type('T')}, q{SELECT es_append('a-1', 'T')}, 'es_index_type', 'building indexes', 'IS NULL' ],
	[ q{SELECT es_scavenge()}, 'LOCK TABLE eventstore.events_0 IN SHARE MODE', 'es_scavenge', 'removing hidden events', 'IS NULL', q{SELECT es_truncate_stream('a-1', 5)} ],
	[ q{SELECT es_scavenge()}, 'LOCK TABLE eventstore.retention IN SHARE UPDATE EXCLUSIVE MODE', 'es_scavenge', 'hiding what ages out', 'IS NULL' ],
	[ q{SELECT es_detach_segments(now())}, 'LOCK TABLE eventstore.events_0 IN ACCESS SHARE MODE', 'es_detach_segments', 'waiting for transactions', 'IS NULL' ],
	[ q{SELECT es_attach_segment('eventstore.events_0')}, 'LOCK TABLE eventstore.events IN ACCESS SHARE MODE', 'es_attach_segment', 'waiting for transactions', 'IS NULL' ],
);

foreach my $case (@commands)
{
	my ($command, $gate, $name, $phase, $total, $before) = @$case;

	run($before) if $before;
	shut_gate($gate);
	my $script = start_script($node, 'store', $command);
	ok($node->poll_query_until('store', "SELECT count(*) = 1 FROM es_progress WHERE command = '$name' AND phase = '$phase' AND total $total"), "$name: $phase")
	  or diag run('SELECT * FROM es_progress');
	is(run(qq{SET ROLE watcher; SELECT count(*) FROM es_progress p JOIN pg_stat_activity a USING (pid) WHERE command = '$name'}), 1, 'who monitors sees it, with its pid');
	is(run(q{SET ROLE nobody; SELECT count(*) FROM es_progress}), 0, 'others do not');
	open_gate();
	my (undef, $errors) = finish_script($script);

	is($errors =~ s/^.*(?:NOTICE:|skipping vacuum).*\n//mgr, '', 'it goes on');
	ok($node->poll_query_until('store', q{SELECT count(*) = 0 FROM es_progress}), 'and is not shown any more');
}

# one's own is for everybody
shut_gate('LOCK TABLE gate');
my $script = start_script($node, 'store', q{SET ROLE runner; SELECT es_replay_category('z', 'passing')});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM es_progress}), 'a role without any right runs one');
is(run(q{SET ROLE runner; SELECT command FROM es_progress}), 'es_replay_category', 'and sees it');

# what is cancelled is not under way
run(q{SELECT pg_cancel_backend(pid) FROM es_progress});
finish_script($script);
ok($node->poll_query_until('store', q{SELECT count(*) = 0 FROM es_progress}), 'cancelled, it is not under way');
$script = start_script($node, 'store', q{SELECT es_replay_category('z', 'passing')});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM es_progress}), 'another one');
run(q{SELECT pg_terminate_backend(pid) FROM es_progress});
finish_script($script);
ok($node->poll_query_until('store', q{SELECT count(*) = 0 FROM es_progress}), 'nor is what was terminated');
$script = start_script($node, 'store',
	q{DO $$BEGIN PERFORM es_replay_category('z', 'passing'); EXCEPTION WHEN query_canceled THEN PERFORM pg_advisory_xact_lock(1); PERFORM FROM gate; END$$});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM es_progress}), 'one whose error is caught');
run(q{SELECT pg_cancel_backend(pid) FROM es_progress});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory'}), 'is cancelled');
is(run(q{SELECT count(*) FROM es_progress}), 0, 'and is not under way while its transaction is');
open_gate();
finish_script($script);

# other databases have their own
$node->safe_psql('postgres', 'CREATE EXTENSION eventstore');
shut_gate('LOCK TABLE gate');
$script = start_script($node, 'store', q{SELECT es_replay_category('z', 'passing')});
ok($node->poll_query_until('store', q{SELECT count(*) = 1 FROM es_progress}), 'one in this database');
is($node->safe_psql('postgres', 'SELECT count(*) FROM es_progress'), 0, 'is not in another one');
open_gate();
finish_script($script);

$node->stop;
done_testing;
