# More waiters than an append wakes itself. It leaves the rest to the worker if that rests; if that is in users' code, for
# however long, it wakes all of them. No wait here ends by its own timeout (faults.c), so who comes back was woken.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use EventstoreFaults;
use EventstoreTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_preload_libraries = 'eventstore'\nautovacuum = off\nmax_connections = 60\neventstore.max_wait = '1h'\n");
my $faults = EventstoreFaults->prepare($node);
my $crowd = 24;

sub run { return $node->safe_psql('here', $_[0]) }

# woken(what): as many waiters, and an append, after which there are none.
sub woken
{
	my ($what) = @_;
	my $last = run('SELECT es_settled_position()');
	my @waiters = map { start_named($node, 'here', 'waiter', "SELECT es_wait($last, '1h');") } 1 .. $crowd;
	ok($node->poll_query_until('here', qq{SELECT count(*) = $crowd FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'
		AND wait_event_type IS NOT NULL AND wait_event_type NOT IN ('Client', 'Lock', 'LWLock', 'IO')}), "$what: a crowd waits");
	my $position = run(q{SELECT es_append('a-1', 'T'); SELECT es_position('a-1', es_stream_version('a-1'))}) =~ s/^.*\n//r;
	ok($node->poll_query_until('here', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'waiter'}), "$what: an append wakes all of it");
	run(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'});
	is(join('', map { (finish_script($_))[0] } @waiters), "$position\n" x $crowd, "$what: and they find it");
}

new_store($node, 'here');
# a handler that is at work until it can have a lock, and shows that it is by another one
run(q{CREATE FUNCTION hold(e es_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(2);
		WHILE NOT pg_try_advisory_xact_lock(1) LOOP
			PERFORM count(*) FROM generate_series(1, 1000);
		END LOOP;
	END$$;
	SELECT es_create_handler_projection('holds', 'hold(es_event)', categories => '{held}')});
my $is_at_work = q{SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND objid = 2 AND granted AND backend_type = 'eventstore worker'};
my $holder = $node->background_psql('here');
$holder->query_safe('SELECT pg_advisory_lock(1)');
run(q{SELECT es_append('held-1', 'Hold')});
ok($node->poll_query_until('here', $is_at_work), 'the worker is in a handler');
$faults->set(endless => 1);
woken('the worker is at work');
is(run($is_at_work), 't', 'it still is, so nobody had to wait for it');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
is(run(q{SELECT es_wait_projection('holds', 'held-1', 1, '1h')}), 't', 'it has done its work');
$holder->quit;
woken("the worker has rested, round $_") foreach 1 .. 3;

$faults->set;
$node->stop;
done_testing();
